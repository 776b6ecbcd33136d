"""Statements of M-Pesa, their lines, and settlements that correct another one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.migrations.ddl import create_index, create_table

revision = "0007"
down_revision = "0006"

IN_SUSPENSE = "suspense_cents <> 0 AND resolved_at IS NULL"


def upgrade() -> None:
    create_table(
        "statements",
        "id counted, digest text, name text, lines int, covers_from time, covers_to time, is_whole bool, "
        "opening_cents whole?, closing_cents whole?, actor text, taken_at time, done_at time?",
        unique={"statement_is_taken_once": "digest"},
    )
    create_table(
        "statement_lines",
        "key text, statement_id whole, line int, receipt text, completed_at time, status text, kind text, reason text, "
        "party text, paid_in_cents whole, withdrawn_cents whole, attempt_id text?, verdict text, why text, "
        "suspense_cents whole, resolved_at time?, resolved_by text?, resolution text?",
        key="key",
        checks={
            "no_amount_is_negative": "paid_in_cents >= 0 AND withdrawn_cents >= 0",
            "resolved_says_as_what": "(resolved_at IS NULL) = (resolution IS NULL)",
            "only_suspense_is_resolved": "resolved_at IS NULL OR suspense_cents <> 0",
        },
        refers={"attempt_id": "attempts.id", "statement_id": "statements.id"},
    )
    create_index("ix_statement_lines_receipt", "statement_lines", "receipt")
    create_index("ix_statement_lines_in_suspense", "statement_lines", "completed_at", where=IN_SUSPENSE)
    op.add_column("settlements", sa.Column("corrects", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("settlements", "corrects")
    op.drop_table("statement_lines")
    op.drop_table("statements")
