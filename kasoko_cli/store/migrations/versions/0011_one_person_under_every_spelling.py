"""The names of a settlement and its release as they are compared: one person does not do both under two spellings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.domain.same_person import person_of

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("approvals", sa.Column("settled_person", sa.Text(), server_default="", nullable=False))
    op.execute(
        "ALTER TABLE approvals ADD COLUMN approved_person TEXT"
        " CONSTRAINT ck_approvals_one_person_does_not_do_both CHECK (approved_person <> settled_person)"
    )
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT market_id, settlement_no, settled_by, approved_by FROM approvals")).all()
    for market_id, number, settled_by, approved_by in rows:
        settled, approved = person_of(settled_by), None if approved_by is None else person_of(approved_by)
        connection.execute(
            sa.text(
                "UPDATE approvals SET settled_person = :settled, approved_person = :approved"
                " WHERE market_id = :market_id AND settlement_no = :number"
            ),
            # Who did both before stays on record by name alone; an audit tells of it.
            {"settled": settled, "approved": None if approved == settled else approved}
            | {"market_id": market_id, "number": number},
        )


def downgrade() -> None:
    op.drop_column("approvals", "approved_person")
    op.drop_column("approvals", "settled_person")
