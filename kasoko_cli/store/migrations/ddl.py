"""What migrations say often, in few words. Databases in the field were made by these: what they make never changes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import Counted, UtcTime

_TYPES: Mapping[str, Any] = {
    "bool": sa.Boolean(),
    "bytes": sa.LargeBinary(),
    "counted": Counted,
    "int": sa.Integer(),
    "text": sa.Text(),
    "time": UtcTime(),
    "whole": sa.BigInteger(),
}
_NONE: Mapping[str, str] = MappingProxyType({})


def create_table(
    table: str,
    columns: str,
    *,
    key: str = "id",
    checks: Mapping[str, str] = _NONE,
    refers: Mapping[str, str] = _NONE,
    unique: Mapping[str, str] = _NONE,
) -> None:
    """Create a table of `columns`: `id text, note text?`, each a name and a type, with `?` where it may be null.

    `key` and the values of `unique` list columns. `checks` and `unique` are by name, `refers` by column, or by
    `name: column, column` where several refer together.
    """
    op.create_table(
        table,
        *(_column(*words.split()) for words in columns.split(",")),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_{table}_{name}")) for name, rule in checks.items()),
        *(_reference(table, *words.rpartition(": ")[::2], to) for words, to in refers.items()),
        sa.PrimaryKeyConstraint(*key.split(", "), name=op.f(f"pk_{table}")),
        *(sa.UniqueConstraint(*listed.split(", "), name=name) for name, listed in unique.items()),
    )


def _column(name: str, kind: str) -> sa.Column[Any]:
    counts: Any = "auto" if kind == "counted" else False
    return sa.Column(name, _TYPES[kind.rstrip("?")], nullable=kind.endswith("?"), autoincrement=counts)


def _reference(table: str, name: str, columns: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(columns.split(", "), to.split(", "), name=name or op.f(f"fk_{table}_{columns}"))


def create_index(name: str, table: str, columns: str, *, where: str | None = None, unique: bool = False) -> None:
    """Create an index on the listed columns, of the rows for which `where` holds."""
    only: dict[str, Any] = {} if where is None else dict.fromkeys(("sqlite_where", "postgresql_where"), sa.text(where))
    op.create_index(name, table, columns.split(", "), unique=unique, **only)


def refuse_changes(*tables: str) -> None:
    """Make tables append-only: nobody edits or removes their rows."""
    for table in tables:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION kasoko_append_only()"
            )
            continue
        for act in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_append_only_{act} BEFORE {act.upper()} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only: post a new row instead'); END"
            )


def allow_changes(*tables: str) -> None:
    """Take that back."""
    for table in tables:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
            continue
        for act in ("update", "delete"):
            op.execute(f"DROP TRIGGER {table}_append_only_{act}")
