"""The health of the database itself."""

from __future__ import annotations

from sqlalchemy import text

from kasoko_cli.store.engine.database import Database, head_version, schema_version


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
