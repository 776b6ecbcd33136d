"""A database can move elsewhere: it says whether it has, and until it is whole at the new place that one says so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import UtcTime

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("deployment", sa.Column("copy_id", sa.Text(), nullable=True))
    op.add_column("deployment", sa.Column("elsewhere", sa.Text(), nullable=True))
    op.add_column("deployment", sa.Column("closed_at", UtcTime(), nullable=True))
    op.execute(
        "ALTER TABLE deployment ADD COLUMN closed TEXT CONSTRAINT ck_deployment_closed_says_when_and_why"
        " CHECK ((closed IS NULL AND closed_at IS NULL) OR (closed IN ('COPYING', 'MOVED') AND closed_at IS NOT NULL"
        " AND copy_id IS NOT NULL AND elsewhere IS NOT NULL))"
    )


def downgrade() -> None:
    for column in ("closed", "closed_at", "elsewhere", "copy_id"):
        op.drop_column("deployment", column)
