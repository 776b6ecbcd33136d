"""What people were told of, so that nobody is told twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, or_, update
from sqlmodel import Session, col, select

from kasoko_cli.store.engine.changes import change, insert_into
from kasoko_cli.store.schema.tables import Alert
from kasoko_cli.store.schema.types import over

#: How long a claim to tell people holds before another process takes over.
LONGEST_CLAIM = timedelta(minutes=2)


def claim(session: Session, key: str, *, mark: str, what: str, now: datetime, until: datetime) -> bool:
    """Claim the telling of this, unless people know it or another process is telling them; returns whether."""
    session.exec(
        insert_into(session, Alert).values(key=key, what=what, since=now).on_conflict_do_nothing(index_elements=["key"])
    )
    which = update(Alert).where(
        col(Alert.key) == key, _is_free(now), or_(col(Alert.told_mark).is_(None), col(Alert.told_mark) < mark)
    )
    return change(session, which.values(claimed_until=until, what=what)) == 1


def claim_over(session: Session, key: str, *, now: datetime, until: datetime) -> bool:
    """Claim the telling that this is over; returns whether nobody else has."""
    which = update(Alert).where(col(Alert.key) == key, _is_free(now), col(Alert.told_mark).is_not(None))
    return change(session, which.values(claimed_until=until)) == 1


def _is_free(now: datetime) -> ColumnElement[bool]:
    return over(col(Alert.claimed_until), now, LONGEST_CLAIM)


def told(session: Session, key: str, *, mark: str, at: datetime) -> None:
    """Write down that people know it now."""
    which = update(Alert).where(col(Alert.key) == key)
    change(session, which.values(told_mark=mark, told_at=at, claimed_until=None))


def give_back(session: Session, keys: Collection[str]) -> None:
    """Nobody could be told: the next run tries again."""
    which = update(Alert).where(col(Alert.key).in_(keys))
    change(session, which.values(claimed_until=None))


def forget(session: Session, keys: Collection[str]) -> None:
    """It is over: the next time it is new."""
    change(session, delete(Alert).where(col(Alert.key).in_(keys)))


def list_alerts(session: Session) -> Sequence[Alert]:
    """Everything that stands, told or not."""
    return session.exec(select(Alert).order_by(col(Alert.key))).all()
