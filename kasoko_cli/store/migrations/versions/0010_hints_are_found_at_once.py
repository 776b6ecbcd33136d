"""Posts without our mark are found by an index: a listener that starts does not read every callback for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

ON_SQLITE, ON_POSTGRES = sa.text("signed IS 0"), sa.text("signed IS false")


def upgrade() -> None:
    op.create_index("ix_callbacks_hints", "callbacks", ["id"], sqlite_where=ON_SQLITE, postgresql_where=ON_POSTGRES)


def downgrade() -> None:
    op.drop_index("ix_callbacks_hints", table_name="callbacks", sqlite_where=ON_SQLITE, postgresql_where=ON_POSTGRES)
