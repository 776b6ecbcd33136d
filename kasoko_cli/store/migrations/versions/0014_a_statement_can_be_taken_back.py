"""A statement that was taken in can be taken back, and taken in again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import UtcTime

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("ALTER TABLE statements ADD COLUMN takes BIGINT DEFAULT '1' NOT NULL")
    op.add_column("statements", sa.Column("undone_at", UtcTime(), nullable=True))


def downgrade() -> None:
    op.drop_column("statements", "undone_at")
    op.drop_column("statements", "takes")
