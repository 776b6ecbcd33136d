"""A database that takes no writes: it has moved elsewhere, or it is a copy that is not finished.

Two databases of one deployment that both send would pay twice. So a closed one refuses by itself: a trigger on every
table, made in the transaction that writes down why. A process that has had it open since before meets them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, inspect, select, update
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col

from kasoko_cli.store.schema.tables import Deployment

#: The first version of the tables that knows of this.
SINCE = "0015"
#: What the triggers say, by which their refusal is known, and how their names begin.
_WORDS, _NAME = "kasoko: this database is closed", "kasoko_closed"
_ACTS = ("INSERT", "UPDATE", "DELETE")


class Why(StrEnum):
    """Why a database takes no writes."""

    COPYING = "COPYING"  #: it is a copy that is not finished
    MOVED = "MOVED"  #: it was copied, and the copy is the database now


@dataclass(frozen=True, slots=True)
class Mark:
    """What a database knows of the last copy that it was part of: its id, and the address of the other one.

    `why` is None where it takes writes.
    """

    why: Why | None
    copy_id: str
    elsewhere: str
    at: datetime | None


def find_mark(where: Session | Connection) -> Mark | None:
    """What a database knows of its last copy; None where it had none. Its tables are of `SINCE` or newer."""
    asked = select(
        col(Deployment.closed), col(Deployment.copy_id), col(Deployment.elsewhere), col(Deployment.closed_at)
    )
    why, copy_id, elsewhere, at = _connection(where).execute(asked).one()
    return None if copy_id is None else Mark(None if why is None else Why(why), copy_id, elsewhere or "", at)


def close_writes(where: Session | Connection, mark: Mark) -> None:
    """Write down why this database takes no writes from the end of this transaction on, and have it refuse them."""
    connection = _connection(where)
    said = {"closed": mark.why, "copy_id": mark.copy_id, "elsewhere": mark.elsewhere, "closed_at": mark.at}
    connection.execute(update(Deployment).values(said))
    is_server = connection.dialect.name == "postgresql"
    if is_server:
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {_NAME}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION '{_WORDS}' USING ERRCODE = 'read_only_sql_transaction'; END $$"
        )
    for table in inspect(connection).get_table_names():
        if is_server:
            connection.exec_driver_sql(
                f"CREATE TRIGGER {_NAME} BEFORE {' OR '.join(_ACTS)} OR TRUNCATE ON {table}"
                f" FOR EACH STATEMENT EXECUTE FUNCTION {_NAME}()"
            )
            continue
        for act in _ACTS:
            connection.exec_driver_sql(
                f"CREATE TRIGGER {_NAME}_{table}_{act.lower()} BEFORE {act} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{_WORDS}'); END"
            )


def open_writes(where: Session | Connection) -> None:
    """Let it be written to again."""
    connection = _connection(where)
    if connection.dialect.name == "postgresql":
        found = f"SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = '{_NAME}'"  # noqa: S608 - our name
        for table in connection.exec_driver_sql(found).scalars().all():
            connection.exec_driver_sql(f"DROP TRIGGER {_NAME} ON {table}")
        connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_NAME}()")
    else:
        found = f"SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB '{_NAME}_*'"  # noqa: S608 - ours
        for name in connection.exec_driver_sql(found).scalars().all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
    connection.execute(update(Deployment).values(closed=None, closed_at=None))


def is_refusal(error: DBAPIError) -> bool:
    """Whether a closed database refused a write."""
    return _WORDS in str(error.orig)


def _connection(where: Session | Connection) -> Connection:
    return where if isinstance(where, Connection) else where.connection()
