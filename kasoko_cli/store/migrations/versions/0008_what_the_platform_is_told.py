"""What the operator's platform is told of, and whether it is.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import UtcTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WAITING = sa.text("told_version < version")


def upgrade() -> None:
    op.add_column("deployment", sa.Column("mirror_since", UtcTime(), nullable=True))
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("told_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("told_version <= version", name=op.f("ck_outbox_nobody_is_told_what_is_not_so_yet")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_waiting", "outbox", ["version", "id"], sqlite_where=WAITING, postgresql_where=WAITING
    )


def downgrade() -> None:
    op.drop_index("ix_outbox_waiting", table_name="outbox", sqlite_where=WAITING, postgresql_where=WAITING)
    op.drop_table("outbox")
    op.drop_column("deployment", "mirror_since")
