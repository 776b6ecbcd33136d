"""Queries on the shared access token."""

from __future__ import annotations

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

from kasoko_cli.store.schema.tables import AccessToken


def ensure_row(session: Session, account: str) -> None:
    """See that the account has a row, whoever makes it first."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.exec(insert(AccessToken).values(account=account).on_conflict_do_nothing(index_elements=["account"]))
