"""What M-Pesa said is in its accounts, and which settlements a second person has to release."""

from __future__ import annotations

from alembic import op

from kasoko_cli.store.migrations.ddl import create_index, create_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    create_table(
        "float_readings",
        "id counted, as_of time, noted_at time, query_id text?, attempt_id text?, utility_cents whole, "
        "working_cents whole?, charges_cents whole?",
        checks={
            "reading_has_one_source": "(query_id IS NULL) <> (attempt_id IS NULL)",
            "nothing_is_read_before_it_is_so": "as_of <= noted_at",
        },
        refers={"query_id": "queries.id", "attempt_id": "attempts.id"},
        unique={"query_is_read_once": "query_id", "result_is_read_once": "attempt_id"},
    )
    create_index("ix_float_readings_latest", "float_readings", "as_of, utility_cents")
    create_table(
        "approvals",
        "market_id text, settlement_no int, plan_hash text, settled_by text, approved_by text?, approved_at time?",
        key="market_id, settlement_no",
        checks={
            "approved_says_when": "(approved_by IS NULL) = (approved_at IS NULL)",
            "nobody_approves_their_own": "lower(trim(approved_by)) <> lower(trim(settled_by))",
        },
        refers={"approval_is_of_a_settlement: market_id, settlement_no": "settlements.market_id, settlements.number"},
    )


def downgrade() -> None:
    op.drop_table("approvals")
    op.drop_table("float_readings")
