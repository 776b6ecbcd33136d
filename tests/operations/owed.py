"""What one test has had built, the next one finds built: pictures of a database that owes, laid into an empty one.

More than a thousand tests begin with one of a few settled markets. The first of a process to want one builds it by
the program's own operations; a picture of that database is kept, and laid into the empty databases of those that
want the same at the same moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import SQLModel

from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema import tables as _tables  # noqa: F401  # it fills the metadata

#: The tables in which an empty database has a row.
SEEDED = {"alembic_version": 1, "deployment": 1}
#: How many pictures a process keeps; one is less than half a megabyte.
_MOST = 60
#: How many rows each table has, by its name.
Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """All rows of a database: a database in memory, or on PostgreSQL the copied rows of each table."""

    memory: sqlite3.Connection | None = None
    rows: dict[str, bytes] = field(default_factory=dict)
    #: How far each of PostgreSQL's sequences has counted.
    sequences: list[tuple[str, int]] = field(default_factory=list)


_kept: OrderedDict[Hashable, Picture] = OrderedDict()


def counted(db: Database) -> Counts:
    """How many rows each table has."""
    names = sorted({*SQLModel.metadata.tables, *SEEDED})
    with _connected(db) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT " + ", ".join(f"(SELECT count(*) FROM {name})" for name in names))
        found = dict(zip(names, cursor.fetchone(), strict=True))
        connection.rollback()
    return found


def digest(db: Database) -> bytes:
    """The digest of all rows of a database, and of which kind it is."""
    filled = [name for name, count in counted(db).items() if count]
    found = hashlib.sha256(str(db.is_sqlite).encode())
    with _connected(db) as connection:
        cursor = connection.cursor()
        for name in filled:
            cursor.execute(f"SELECT * FROM {name}")
            found.update(f"{name}{cursor.fetchall()}".encode())
        connection.rollback()
    return found.digest()


def is_empty(counts: Counts) -> bool:
    """Whether nobody has written into a database since it was made."""
    return {name: count for name, count in counts.items() if count} == SEEDED


def keep(db: Database, wanted: Hashable) -> None:
    """Take a picture of a database that was empty before."""
    counts = counted(db)
    memory, rows, sequences = None, dict[str, bytes](), list[tuple[str, int]]()
    with _connected(db) as connection:
        if db.is_sqlite:
            memory = sqlite3.connect(":memory:", check_same_thread=False)
            connection.driver_connection.backup(memory)
        else:
            for name in counts.keys() - SEEDED.keys():
                if counts[name]:
                    with connection.cursor().copy(f"COPY {name} TO STDOUT") as copied:
                        rows[name] = b"".join(bytes(part) for part in copied)
            cursor = connection.cursor()
            cursor.execute("SELECT sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL")
            sequences = cursor.fetchall()
            connection.rollback()
    _kept[db.is_sqlite, wanted] = Picture(memory, rows, sequences)
    if len(_kept) > _MOST:
        _, oldest = _kept.popitem(last=False)
        if oldest.memory is not None:
            oldest.memory.close()


def lay(db: Database, wanted: Hashable) -> bool:
    """Lay such a picture into an empty database; returns whether there is one, or nobody has wanted it yet."""
    picture = _kept.get((db.is_sqlite, wanted))
    if picture is None:
        return False
    _kept.move_to_end((db.is_sqlite, wanted))
    with _connected(db) as connection:
        if picture.memory is not None:
            picture.memory.backup(connection.driver_connection)
            return True
        cursor = connection.cursor()
        cursor.execute("SET session_replication_role = replica")  # rows that have passed every check already
        for name, rows in picture.rows.items():
            with cursor.copy(f"COPY {name} FROM STDIN") as copied:
                copied.write(rows)
        cursor.executemany("SELECT setval(%s::regclass, %s)", picture.sequences)
        cursor.execute("SET session_replication_role = DEFAULT")
        connection.commit()
    return True


@contextlib.contextmanager
def _connected(db: Database) -> Iterator[Any]:
    """A connection of the database's own, in the driver's words."""
    connection = db.engine.raw_connection()
    try:
        yield connection
    finally:
        connection.close()
