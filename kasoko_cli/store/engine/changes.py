"""One statement that changes rows, by whichever database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Delete, Update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session


def change(session: Session, statement: Update | Delete) -> int:
    """Run a statement; returns how many rows it changed. What the session has read before stays as it was read."""
    return session.exec(statement.execution_options(synchronize_session=False)).rowcount


def insert_into(session: Session, table: Any) -> sqlite.Insert:
    """An INSERT that knows ON CONFLICT. PostgreSQL's own, where that is the database, is called alike."""
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    found: sqlite.Insert = insert(table)
    return found
