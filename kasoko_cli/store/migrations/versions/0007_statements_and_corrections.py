"""Statements of M-Pesa, their lines, and settlements that correct another one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import UtcTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

IN_SUSPENSE = "suspense_cents <> 0 AND resolved_at IS NULL"


def upgrade() -> None:
    op.create_table(
        "statements",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("covers_from", UtcTime(), nullable=False),
        sa.Column("covers_to", UtcTime(), nullable=False),
        sa.Column("is_whole", sa.Boolean(), nullable=False),
        sa.Column("opening_cents", sa.BigInteger(), nullable=True),
        sa.Column("closing_cents", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("taken_at", UtcTime(), nullable=False),
        sa.Column("done_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statements")),
        sa.UniqueConstraint("digest", name="statement_is_taken_once"),
    )
    op.create_table(
        "statement_lines",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("statement_id", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("completed_at", UtcTime(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("party", sa.Text(), nullable=False),
        sa.Column("paid_in_cents", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn_cents", sa.BigInteger(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("suspense_cents", sa.BigInteger(), nullable=False),
        sa.Column("resolved_at", UtcTime(), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "paid_in_cents >= 0 AND withdrawn_cents >= 0", name=op.f("ck_statement_lines_no_amount_is_negative")
        ),
        sa.CheckConstraint(
            "(resolved_at IS NULL) = (resolution IS NULL)", name=op.f("ck_statement_lines_resolved_says_as_what")
        ),
        sa.CheckConstraint(
            "resolved_at IS NULL OR suspense_cents <> 0", name=op.f("ck_statement_lines_only_suspense_is_resolved")
        ),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_statement_lines_attempt_id")),
        sa.ForeignKeyConstraint(["statement_id"], ["statements.id"], name=op.f("fk_statement_lines_statement_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_statement_lines")),
    )
    op.create_index("ix_statement_lines_receipt", "statement_lines", ["receipt"], unique=False)
    op.create_index(
        "ix_statement_lines_in_suspense",
        "statement_lines",
        ["completed_at"],
        unique=False,
        sqlite_where=sa.text(IN_SUSPENSE),
        postgresql_where=sa.text(IN_SUSPENSE),
    )
    op.add_column("settlements", sa.Column("corrects", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("settlements", "corrects")
    op.drop_index(
        "ix_statement_lines_in_suspense",
        table_name="statement_lines",
        sqlite_where=sa.text(IN_SUSPENSE),
        postgresql_where=sa.text(IN_SUSPENSE),
    )
    op.drop_index("ix_statement_lines_receipt", table_name="statement_lines")
    op.drop_table("statement_lines")
    op.drop_table("statements")
