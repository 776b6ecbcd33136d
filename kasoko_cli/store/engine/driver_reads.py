"""Reading by the driver alone, for answers that are asked for so often that loading SQLAlchemy is most of the wait.

Only reading, and only what `Rows` can say: a query without values and its rows. Whatever is unusual (no
database, other tables, an address with options) is left to `store.engine.database`, which says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kasoko_cli.store.engine import server
from kasoko_cli.store.migrations.version import head_version

#: Answers a query with its rows.
Rows = Callable[[str], Sequence[Any]]


class NotPlain(Exception):
    """This database cannot be read in this way; `store.engine.database` opens it, or says why not."""


@contextmanager
def reading(url: str) -> Iterator[Rows]:
    """One unchanging picture of the database.

    Raises:
        NotPlain: it cannot be read in this way.
    """
    connection = _connected(url)
    try:

        def rows(query: str) -> Sequence[Any]:
            return connection.execute(query).fetchall()  # type: ignore[no-any-return]

        try:
            versions = [str(row[0]) for row in rows("SELECT version_num FROM alembic_version")]
        except Exception as error:
            raise NotPlain from error
        if versions != [head_version()] or rows("SELECT 1 FROM deployment WHERE closed IS NOT NULL"):
            raise NotPlain
        yield rows
    finally:
        with suppress(Exception):
            connection.rollback()  # a pooler keeps no connection that was left in a transaction
        connection.close()


def _connected(url: str) -> Any:
    if found := re.fullmatch(r"sqlite:///([^?:#%]+)", url):
        import sqlite3

        file = Path(found[1]).absolute()
        if not file.is_file():
            raise NotPlain
        # As every other reader: it waits for a writer, and its WAL files are made if they are not there.
        try:
            connection = sqlite3.connect(file, timeout=30, isolation_level=None)
        except sqlite3.Error as error:
            raise NotPlain from error
        try:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("BEGIN DEFERRED")
        except sqlite3.Error as error:
            connection.close()
            raise NotPlain from error
        return connection
    if url.startswith("postgresql://"):
        try:
            import psycopg

            session = psycopg.connect(url, **server.connect_args())
            if server.cannot_be_used(session):
                session.close()
            session.execute(server.beginning("read").encode())
        except Exception as error:
            raise NotPlain from error
        return session
    raise NotPlain


def utc(value: object) -> datetime:
    """A time as the driver gives it, in UTC: SQLite keeps the text of a naive one."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    assert isinstance(moment, datetime)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
