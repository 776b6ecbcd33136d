"""What M-Pesa said is in its accounts, and which settlements a second person has to release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import UtcTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "float_readings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("as_of", UtcTime(), nullable=False),
        sa.Column("noted_at", UtcTime(), nullable=False),
        sa.Column("query_id", sa.Text(), nullable=True),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("utility_cents", sa.BigInteger(), nullable=False),
        sa.Column("working_cents", sa.BigInteger(), nullable=True),
        sa.Column("charges_cents", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(query_id IS NULL) <> (attempt_id IS NULL)", name=op.f("ck_float_readings_reading_has_one_source")
        ),
        sa.CheckConstraint("as_of <= noted_at", name=op.f("ck_float_readings_nothing_is_read_before_it_is_so")),
        sa.ForeignKeyConstraint(["query_id"], ["queries.id"], name=op.f("fk_float_readings_query_id")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_float_readings_attempt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_float_readings")),
        sa.UniqueConstraint("query_id", name="query_is_read_once"),
        sa.UniqueConstraint("attempt_id", name="result_is_read_once"),
    )
    op.create_index("ix_float_readings_latest", "float_readings", ["as_of", "utility_cents"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("market_id", sa.Text(), nullable=False),
        sa.Column("settlement_no", sa.Integer(), nullable=False),
        sa.Column("plan_hash", sa.Text(), nullable=False),
        sa.Column("settled_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_at", UtcTime(), nullable=True),
        sa.CheckConstraint("(approved_by IS NULL) = (approved_at IS NULL)", name=op.f("ck_approvals_approved_says_when")),
        sa.CheckConstraint(
            "lower(trim(approved_by)) <> lower(trim(settled_by))", name=op.f("ck_approvals_nobody_approves_their_own")
        ),
        sa.ForeignKeyConstraint(
            ["market_id", "settlement_no"],
            ["settlements.market_id", "settlements.number"],
            name="approval_is_of_a_settlement",
        ),
        sa.PrimaryKeyConstraint("market_id", "settlement_no", name=op.f("pk_approvals")),
    )


def downgrade() -> None:
    op.drop_table("approvals")
    op.drop_index("ix_float_readings_latest", table_name="float_readings")
    op.drop_table("float_readings")
