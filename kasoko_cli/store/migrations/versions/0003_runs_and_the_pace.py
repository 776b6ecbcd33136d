"""Which commands are at work, and the one pace of the Daraja account.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import UtcTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("market", sa.Text(), nullable=False),
        sa.Column("is_alone", sa.Boolean(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("heartbeat_at", UtcTime(), nullable=False),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.Column("doing", sa.Text(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(
        "ix_runs_open",
        "runs",
        ["started_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "paces",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("next_at", UtcTime(), nullable=True),
        sa.Column("per_1000_seconds", sa.BigInteger(), nullable=True),
        sa.Column("changed_at", UtcTime(), nullable=True),
        sa.CheckConstraint("per_1000_seconds > 0", name=op.f("ck_paces_pace_is_positive")),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_paces")),
    )
    op.create_index(
        "ix_payouts_due_small",
        "payouts",
        ["wire_cents", "created_at", "market_id", "number"],
        unique=False,
        sqlite_where=sa.text("status = 'PENDING'"),
        postgresql_where=sa.text("status = 'PENDING'"),
    )


def downgrade() -> None:
    op.drop_index("ix_payouts_due_small", table_name="payouts")
    op.drop_table("paces")
    op.drop_index("ix_runs_open", table_name="runs")
    op.drop_table("runs")
