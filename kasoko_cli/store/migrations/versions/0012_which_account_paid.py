"""Which account with M-Pesa paid or was asked: of each attempt, question and statement, and of the deployment now.

What is older has none; it is found out where that can be told (`operations/account/payer.py`).
"""

from __future__ import annotations

from alembic import op

from kasoko_cli.store.migrations.ddl import create_table

revision = "0012"
down_revision = "0011"

#: The tables that name an account.
OF_ACCOUNTS = ("deployment", "attempts", "queries", "statements")


def upgrade() -> None:
    create_table(
        "daraja_accounts",
        "id counted, shortcode text, environment text, api_base text, first_seen_at time",
        checks={"environment_is_known": "environment IN ('sandbox', 'production')"},
        unique={"account_is_known_once": "shortcode, environment, api_base"},
    )
    for table in OF_ACCOUNTS:
        # By hand, since a reference that comes with its column needs no new table on SQLite.
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN account_id BIGINT"
            f" CONSTRAINT fk_{table}_account_id REFERENCES daraja_accounts (id)"
        )


def downgrade() -> None:
    for table in OF_ACCOUNTS:
        op.drop_column(table, "account_id")
    op.drop_table("daraja_accounts")
