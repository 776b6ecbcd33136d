"""What people were told of, and the indexes that keep monitoring quick on a large database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import UtcTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ENDED = sa.text("status IN ('COMPLETED', 'FAILED', 'RETURNED', 'WALLET')")


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("since", UtcTime(), nullable=False),
        sa.Column("told_mark", sa.Text(), nullable=True),
        sa.Column("told_at", UtcTime(), nullable=True),
        sa.Column("claimed_until", UtcTime(), nullable=True),
        sa.CheckConstraint("(told_mark IS NULL) = (told_at IS NULL)", name=op.f("ck_alerts_told_says_when")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_alerts")),
    )
    op.create_index(
        "ix_payouts_ended",
        "payouts",
        ["updated_at", "status", "market_id"],
        sqlite_where=ENDED,
        postgresql_where=ENDED,
    )
    op.drop_index("ix_exchanges_at", table_name="exchanges")
    op.create_index("ix_exchanges_at", "exchanges", ["at", "latency_ms"])
    op.create_index("ix_exchanges_latency", "exchanges", ["kind", "http_status", "latency_ms"])


def downgrade() -> None:
    op.drop_index("ix_exchanges_latency", table_name="exchanges")
    op.drop_index("ix_exchanges_at", table_name="exchanges")
    op.create_index("ix_exchanges_at", "exchanges", ["at"])
    op.drop_index("ix_payouts_ended", table_name="payouts", sqlite_where=ENDED, postgresql_where=ENDED)
    op.drop_table("alerts")
