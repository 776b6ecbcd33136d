"""Queries on users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import func
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from kasoko_cli.errors import NotFound
from kasoko_cli.store.locking import CHUNK, for_update
from kasoko_cli.store.tables import User


def find_user(session: Session, user_id: str, *, lock: bool = False) -> User:
    """The user with this id.

    `lock` keeps other writers of this user waiting until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    query = select(User).where(col(User.id) == user_id)
    user = session.exec(for_update(query) if lock else query).one_or_none()
    if user is None:
        raise NotFound(f"There is no user {user_id!r}.", hint="List them: kasoko user list")
    return user


def list_users(session: Session, *, limit: int | None = None) -> Sequence[User]:
    """Users by id."""
    return session.exec(select(User).order_by(col(User.id)).limit(limit)).all()


def count_users(session: Session) -> int:
    """How many users there are."""
    return int(session.exec(select(func.count()).select_from(User)).one())


def known_users(session: Session, user_ids: Iterable[str]) -> dict[str, User]:
    """Those of the users that exist, by id."""
    wanted, known = list(user_ids), dict[str, User]()
    for start in range(0, len(wanted), CHUNK):
        query = select(User).where(col(User.id).in_(wanted[start : start + CHUNK]))
        known |= {user.id: user for user in session.exec(query)}
    return known


def phones_of(session: Session, user_ids: Iterable[str]) -> dict[str, str]:
    """The phone of each user, by id. The caller has at most `CHUNK` of them."""
    query = columns(col(User.id), col(User.phone)).where(col(User.id).in_(set(user_ids)))
    return {row[0]: row[1] for row in session.execute(query)}
