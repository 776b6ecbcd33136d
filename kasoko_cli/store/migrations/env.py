"""What Alembic runs, inside the one transaction that `database.upgrade` has begun on the connection it hands over."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from sqlalchemy import Text, text
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from kasoko_cli.store.schema import tables  # noqa: F401  (fills the metadata)
from kasoko_cli.store.schema.types import StoredWord, UtcTime

#: Any number; every kasoko that upgrades this database asks for the same one.
UPGRADE_LOCK = 7_215_190_331


def render_item(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Write plain SQLAlchemy types into new migrations instead of SQLModel's and ours."""
    if kind == "type" and isinstance(item, AutoString | StoredWord):
        return "sa.Text()"
    if kind == "type" and isinstance(item, UtcTime):
        return "UtcTime()"
    return False


def compare_type(
    _context: MigrationContext, _column: Any, _wanted: Any, found: TypeEngine[Any], wanted: TypeEngine[Any]
) -> bool | None:
    """Whether a column has another type than its table says; what is written as text is text to both."""
    if isinstance(wanted, AutoString | StoredWord) and isinstance(found, Text):
        return False
    return None


def run() -> None:
    """Run the migrations, one process at a time."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_item=render_item,
        compare_type=compare_type,
        render_as_batch=False,
    )
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
    context.run_migrations()


run()
