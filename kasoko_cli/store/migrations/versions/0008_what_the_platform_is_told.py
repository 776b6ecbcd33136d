"""What the operator's platform is told of, and whether it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.migrations.ddl import create_index, create_table
from kasoko_cli.store.schema.types import UtcTime

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("deployment", sa.Column("mirror_since", UtcTime(), nullable=True))
    create_table(
        "outbox",
        "id text, version whole, told_version whole",
        checks={"nobody_is_told_what_is_not_so_yet": "told_version <= version"},
    )
    create_index("ix_outbox_waiting", "outbox", "version, id", where="told_version < version")


def downgrade() -> None:
    op.drop_table("outbox")
    op.drop_column("deployment", "mirror_since")
