"""Which commands are at work, and the one pace of the Daraja account."""

from __future__ import annotations

from alembic import op

from kasoko_cli.store.migrations.ddl import create_index, create_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    create_table(
        "runs",
        "id text, command text, market text, is_alone bool, host text, pid whole, actor text, started_at time, "
        "heartbeat_at time, ended_at time?, doing text, counts text",
    )
    create_index("ix_runs_open", "runs", "started_at", where="ended_at IS NULL")
    create_table(
        "paces",
        "account text, next_at time?, per_1000_seconds whole?, changed_at time?",
        key="account",
        checks={"pace_is_positive": "per_1000_seconds > 0"},
    )
    create_index(
        "ix_payouts_due_small", "payouts", "wire_cents, created_at, market_id, number", where="status = 'PENDING'"
    )


def downgrade() -> None:
    op.drop_index("ix_payouts_due_small", table_name="payouts")
    op.drop_table("paces")
    op.drop_table("runs")
