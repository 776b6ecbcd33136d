"""Queries on the pace of a Daraja account."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from kasoko_cli.store.engine.changes import change, insert_into
from kasoko_cli.store.engine.locking import for_update
from kasoko_cli.store.schema.tables import PaceRow


def lock(session: Session, account: str) -> PaceRow:
    """The account's pace, kept from everybody else until the transaction ends."""
    query = for_update(select(PaceRow).where(col(PaceRow.account) == account))
    found = session.exec(query).one_or_none()
    if found is None:
        session.exec(
            insert_into(session, PaceRow).values(account=account).on_conflict_do_nothing(index_elements=["account"])
        )
        found = session.exec(query).one()
    return found


def keep(
    session: Session,
    account: str,
    *,
    next_at: datetime | None,
    per_1000_seconds: int | None,
    changed_at: datetime | None,
) -> None:
    """Write down when the next request may begin, and how fast they may follow."""
    which = update(PaceRow).where(col(PaceRow.account) == account)
    change(session, which.values(next_at=next_at, per_1000_seconds=per_1000_seconds, changed_at=changed_at))
