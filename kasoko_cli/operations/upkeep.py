"""A copy of the database, and its health."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from kasoko_cli.errors import ConfigurationError, Refused
from kasoko_cli.store.database import Database, head_version, schema_version


def backup(db: Database, file: Path) -> int:
    """Copy a SQLite database by its own online backup, while others work on it; says how many bytes.

    The copy is readable by its owner only: it holds phone numbers.

    Raises:
        Refused: the file is there already, or the database is PostgreSQL.
        ConfigurationError: the file cannot be written.
    """
    if not db.is_sqlite:
        raise Refused(
            "This database is PostgreSQL, which has its own tool for a copy. Nothing was written.",
            hint=f"pg_dump --format=custom --file={file} with the connection of your settings.",
        )
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise Refused(f"{file} is there already, and was not touched.", hint="Choose another name.") from None
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be written: {error.strerror}. Nothing was changed.", hint="Choose a folder that can be."
        ) from error
    with closing(sqlite3.connect(str(db.url.database))) as source, closing(sqlite3.connect(file)) as copy:
        source.backup(copy)
    return file.stat().st_size


def check(db: Database) -> list[str]:
    """What is wrong with the database itself, in words; an empty list where nothing is."""
    found: list[str] = []
    if schema_version(db) != head_version():
        found.append(f"The tables are of version {schema_version(db)}, and this program needs {head_version()}.")
    with db.reading() as session:
        connection = session.connection()
        if db.is_sqlite:
            pages = connection.execute(text("PRAGMA integrity_check(20)")).scalars().all()
            found += [f"SQLite says: {line}" for line in pages if line != "ok"]
            broken = connection.execute(text("PRAGMA foreign_key_check")).all()
            found += [f"A row of {row[0]} points to a row of {row[2]} that is not there." for row in broken[:20]]
        else:
            invalid = connection.execute(
                text("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
            ).scalars()
            found += [f"The index {name} is not valid; rebuild it: REINDEX INDEX {name}" for name in invalid]
    return found
