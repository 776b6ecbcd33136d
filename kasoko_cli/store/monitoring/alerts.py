"""What people were told of, so that nobody is told twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from kasoko_cli.store.schema.tables import Alert
from kasoko_cli.store.schema.types import over

#: How long whoever tells may take before another one does it.
LONGEST_CLAIM = timedelta(minutes=2)


def claim(session: Session, key: str, *, mark: str, what: str, now: datetime, until: datetime) -> bool:
    """Take it on to tell people of this, unless they know it or somebody else is telling them; says whether."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.exec(insert(Alert).values(key=key, what=what, since=now).on_conflict_do_nothing(index_elements=["key"]))
    claimed = session.exec(
        update(Alert)
        .where(
            col(Alert.key) == key,
            _is_free(now),
            or_(col(Alert.told_mark).is_(None), col(Alert.told_mark) < mark),
        )
        .values(claimed_until=until, what=what)
        .execution_options(synchronize_session=False)
    )
    return claimed.rowcount == 1


def claim_over(session: Session, key: str, *, now: datetime, until: datetime) -> bool:
    """Take it on to say that this is over; says whether nobody else has."""
    claimed = session.exec(
        update(Alert)
        .where(col(Alert.key) == key, _is_free(now), col(Alert.told_mark).is_not(None))
        .values(claimed_until=until)
        .execution_options(synchronize_session=False)
    )
    return claimed.rowcount == 1


def _is_free(now: datetime) -> ColumnElement[bool]:
    return over(col(Alert.claimed_until), now, LONGEST_CLAIM)


def told(session: Session, key: str, *, mark: str, at: datetime) -> None:
    """Write down that people know it now."""
    session.exec(
        update(Alert)
        .where(col(Alert.key) == key)
        .values(told_mark=mark, told_at=at, claimed_until=None)
        .execution_options(synchronize_session=False)
    )


def give_back(session: Session, keys: Collection[str]) -> None:
    """Nobody could be told: the next run tries again."""
    session.exec(
        update(Alert)
        .where(col(Alert.key).in_(keys))
        .values(claimed_until=None)
        .execution_options(synchronize_session=False)
    )


def forget(session: Session, keys: Collection[str]) -> None:
    """It is over: the next time it is new."""
    session.exec(delete(Alert).where(col(Alert.key).in_(keys)).execution_options(synchronize_session=False))


def list_alerts(session: Session) -> Sequence[Alert]:
    """Everything that stands, told or not."""
    return session.exec(select(Alert).order_by(col(Alert.key))).all()
