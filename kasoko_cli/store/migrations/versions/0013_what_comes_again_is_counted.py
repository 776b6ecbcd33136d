"""An incident counts what comes again, and what is new after it was closed raises another; a repeated id is known."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.migrations.ddl import create_index, create_table
from kasoko_cli.store.schema.types import UtcTime, Whole

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("met_before", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute("UPDATE attempts SET met_before = true WHERE result_code = '15'")
    with op.batch_alter_table("incidents") as batch:
        batch.drop_constraint("incident_is_raised_once", type_="unique")
        batch.add_column(sa.Column("count", Whole, server_default="1", nullable=False))
        batch.add_column(sa.Column("last_at", UtcTime(), nullable=True))
        batch.add_column(sa.Column("latest", sa.Text(), nullable=True))
        batch.add_column(sa.Column("latest_callback_id", Whole, nullable=True))
        batch.add_column(sa.Column("answered_by", sa.Text(), nullable=True))
        batch.create_check_constraint("incident_was_raised", "count > 0")
        batch.create_foreign_key("fk_incidents_latest_callback_id", "callbacks", ["latest_callback_id"], ["id"])
        batch.create_foreign_key("fk_incidents_answered_by", "queries", ["answered_by"], ["id"])
    op.execute("UPDATE incidents SET last_at = opened_at, latest = what, latest_callback_id = callback_id")
    with op.batch_alter_table("incidents") as batch:
        batch.alter_column("last_at", existing_type=UtcTime(), nullable=False)
        batch.alter_column("latest", existing_type=sa.Text(), nullable=False)
    create_index("incident_stands_once", "incidents", "key", unique=True, where="closed_at IS NULL")
    create_table("incident_evidence", "key text, evidence text, seen_at time", key="key, evidence")
    _keep_what_was_seen()


def _keep_what_was_seen() -> None:
    """What a person has dealt with raises nothing new: keys named a body, or were themselves what had happened."""
    bind = op.get_bind()
    seen = sa.table("incident_evidence", *(sa.column(name) for name in ("key", "evidence", "seen_at")))
    rows = []
    for key, at in bind.execute(sa.text("SELECT key, opened_at FROM incidents")).all():
        kind, thing, *digest = key.split(":")
        of_a_body = kind in ("mismatch", "unreadable") and len(digest) == 1
        rows.append((f"{kind}:{thing}", digest[0], at) if of_a_body else (key, key, at))
    if rows:
        bind.execute(seen.insert(), [dict(zip(("key", "evidence", "seen_at"), row, strict=True)) for row in set(rows)])


def downgrade() -> None:
    op.drop_table("incident_evidence")
    op.drop_index("incident_stands_once", table_name="incidents")
    # Of what was raised again only the first can stand under one key.
    op.execute("DELETE FROM incidents WHERE id NOT IN (SELECT min(id) FROM incidents GROUP BY key)")
    with op.batch_alter_table("incidents") as batch:
        batch.drop_constraint("fk_incidents_answered_by", type_="foreignkey")
        batch.drop_constraint("fk_incidents_latest_callback_id", type_="foreignkey")
        batch.drop_constraint("incident_was_raised", type_="check")
        for name in ("answered_by", "latest_callback_id", "latest", "last_at", "count"):
            batch.drop_column(name)
        batch.create_unique_constraint("incident_is_raised_once", ["key"])
    op.drop_column("attempts", "met_before")
