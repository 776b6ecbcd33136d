"""What people were told of, and the indexes that keep monitoring quick on a large database."""

from __future__ import annotations

from alembic import op

from kasoko_cli.store.migrations.ddl import create_index, create_table

revision = "0006"
down_revision = "0005"

ENDED = "status IN ('COMPLETED', 'FAILED', 'RETURNED', 'WALLET')"


def upgrade() -> None:
    create_table(
        "alerts",
        "key text, what text, since time, told_mark text?, told_at time?, claimed_until time?",
        key="key",
        checks={"told_says_when": "(told_mark IS NULL) = (told_at IS NULL)"},
    )
    create_index("ix_payouts_ended", "payouts", "updated_at, status, market_id", where=ENDED)
    op.drop_index("ix_exchanges_at", table_name="exchanges")
    create_index("ix_exchanges_at", "exchanges", "at, latency_ms")
    create_index("ix_exchanges_latency", "exchanges", "kind, http_status, latency_ms")


def downgrade() -> None:
    op.drop_index("ix_exchanges_latency", table_name="exchanges")
    op.drop_index("ix_exchanges_at", table_name="exchanges")
    op.create_index("ix_exchanges_at", "exchanges", ["at"])
    op.drop_index("ix_payouts_ended", table_name="payouts")
    op.drop_table("alerts")
