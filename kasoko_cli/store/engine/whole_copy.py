"""Every row of every table: counted, digested, and written into another database, some thousands in memory at a time.

Rows go in the order of their keys, byte by byte, so that both databases are digested alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, delete, func, inspect, select, text, update
from sqlmodel import Session, SQLModel

from kasoko_cli.store.engine.bulk_rows import bytewise, insert_tuples, streamed
from kasoko_cli.store.engine.closing import Mark, close_writes
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.hash_chain import canonical, stamp
from kasoko_cli.store.engine.locking import Turn, take_turn
from kasoko_cli.store.schema.tables import Deployment

#: What is said of a place and not of the deployment: it is not copied.
_OF_THE_PLACE = frozenset({"copy_id", "elsewhere", "closed_at", "closed"})
#: Who else has this database open, as the server lists them; who may not see a name sees an empty one.
_OTHERS = """
SELECT application_name FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'kasoko%' ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class TableRows:
    """A table: how many rows it has, and their SHA-256; empty where they were only counted."""

    table: str
    rows: int
    sha256: str = ""


def begin(connection: Connection, *, deployment: str, mark: Mark) -> None:
    """Have new tables be of a deployment, and take no writes: they are for a copy of it."""
    connection.execute(update(Deployment).values(deployment_id=deployment))
    close_writes(connection, mark)


def count_rows(session: Session) -> list[TableRows]:
    """Every table with its rows, in the order in which they are copied."""
    return [
        TableRows(table.name, session.execute(select(func.count()).select_from(table)).scalar_one())
        for table in SQLModel.metadata.sorted_tables
    ]


def digest_rows(session: Session) -> Iterator[TableRows]:
    """Every table with its rows and their digest, in the same order."""
    for table in SQLModel.metadata.sorted_tables:
        passing = _Passing(_stream(session, table))
        for _ in passing:
            pass
        yield passing.seen(table)


def copy_rows(source: Session, target: Session) -> Iterator[TableRows]:
    """Write every table into the other database, whose tables are empty; yields each once it is written.

    Raises:
        sqlalchemy.exc.DBAPIError: the other database does not take a row; its transaction is lost.
    """
    target.execute(delete(Deployment))
    models = {mapper.local_table: mapper.class_ for mapper in SQLModel._sa_registry.mappers}
    for table in SQLModel.metadata.sorted_tables:
        passing = _Passing(_stream(source, table))
        insert_tuples(target, models[table], [column.name for column in _columns(table)], passing)
        yield passing.seen(table)
    _count_on(target)


def hold(session: Session) -> None:
    """Be the only writer of every table until the transaction ends, however long it takes; who reads goes on."""
    if session.get_bind().dialect.name == "postgresql":
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            session.execute(text(f"SET LOCAL {limit} = 0"))
        listed = ", ".join(sorted(table.name for table in SQLModel.metadata.sorted_tables))
        session.execute(text(f"LOCK TABLE {listed} IN SHARE ROW EXCLUSIVE MODE"))
        take_turn(session, Turn.MOVE)
    else:
        session.execute(text("SELECT 1"))  # SQLite's one writer is whoever has begun


def is_held(db: Database) -> bool:
    """Whether somebody holds this database of a server: by whatever address it is the one that is held."""
    with db.transaction() as session:
        return not session.execute(text(f"SELECT pg_try_advisory_xact_lock({Turn.MOVE.value})")).scalar_one()


def others(db: Database) -> list[str]:
    """The other processes of kasoko that a server's database is open in: `kasoko listen on alpha 4711`."""
    with db.reading() as session:
        return list(session.execute(text(_OTHERS)).scalars())


def stranger(session: Session) -> str:
    """The name of a table that is not ours, of a database that has some; empty where all are."""
    there = set(inspect(session.connection()).get_table_names())
    return min(there - SQLModel.metadata.tables.keys() - {"alembic_version"}, default="")


def first_with_rows(session: Session) -> str:
    """The name of a table that has a row, besides that of the deployment itself; empty where none has."""
    for table in SQLModel.metadata.sorted_tables:
        if table.name != Deployment.__tablename__ and session.execute(select(table).limit(1)).first() is not None:
            return table.name
    return ""


def drop_everything(session: Session) -> None:
    """Drop every table of ours, with what belongs to it: what is there is a copy that is not finished."""
    connection = session.connection()
    SQLModel.metadata.drop_all(connection)
    connection.exec_driver_sql("DROP TABLE alembic_version")
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP FUNCTION IF EXISTS kasoko_append_only(), kasoko_closed()")


def _columns(table: Table) -> list[Any]:
    is_ours = table.name == Deployment.__tablename__
    return [column for column in table.columns if not (is_ours and column.name in _OF_THE_PLACE)]


def _stream(session: Session, table: Table) -> Iterator[Sequence[Any]]:
    key = [bytewise(session, one) if one.type.python_type is str else one for one in _key(table)]
    yield from streamed(session, select(*_columns(table)).order_by(*key))


def _key(table: Table) -> list[Any]:
    return list(table.primary_key.columns)


class _Passing:
    """Rows on their way, digested and counted as they pass."""

    def __init__(self, rows: Iterator[Sequence[Any]]) -> None:
        self._rows, self._digest, self._count = rows, hashlib.sha256(), 0

    def __iter__(self) -> Iterator[Sequence[Any]]:
        for row in self._rows:
            self._digest.update(canonical(*map(_plain, row)))
            self._count += 1
            yield tuple(row)

    def seen(self, table: Table) -> TableRows:
        """What has passed."""
        return TableRows(table.name, self._count, self._digest.hexdigest())


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return stamp(value)
    return value.hex() if isinstance(value, bytes) else value


def _count_on(session: Session) -> None:
    """Let a server's counters go on behind the highest number that was written, and its planner know the tables.

    SQLite looks at the rows by itself.
    """
    if session.get_bind().dialect.name != "postgresql":
        return
    for table in SQLModel.metadata.sorted_tables:
        (first, *_) = _key(table)
        counter = text("SELECT pg_get_serial_sequence(:table, :column)")
        if session.execute(counter, {"table": table.name, "column": first.name}).scalar() is not None:
            session.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', '{first.name}'), max({first.name}))"  # noqa: S608 - our names
                    f" FROM {table.name} HAVING max({first.name}) IS NOT NULL"
                )
            )
    session.execute(text("ANALYZE"))
