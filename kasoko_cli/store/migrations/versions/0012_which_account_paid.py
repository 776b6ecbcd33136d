"""Which account with M-Pesa paid or was asked: of each attempt, question and statement, and of the deployment now.

What is older has none; it is found out where that can be told (`operations/account/payer.py`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import UtcTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

#: The tables that name an account.
OF_ACCOUNTS = ("deployment", "attempts", "queries", "statements")


def upgrade() -> None:
    op.create_table(
        "daraja_accounts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("shortcode", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("api_base", sa.Text(), nullable=False),
        sa.Column("first_seen_at", UtcTime(), nullable=False),
        sa.CheckConstraint("environment IN ('sandbox', 'production')", name=op.f("ck_daraja_accounts_environment_is_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_daraja_accounts")),
        sa.UniqueConstraint("shortcode", "environment", "api_base", name="account_is_known_once"),
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
