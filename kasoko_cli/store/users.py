"""Queries on users."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import select as columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from kasoko_cli.domain.phone import ERASED
from kasoko_cli.errors import NotFound
from kasoko_cli.store.engine.bulk_rows import bytewise
from kasoko_cli.store.engine.locking import Turn, for_update, rows_in, take_turn
from kasoko_cli.store.engine.row_digests import person_seal
from kasoko_cli.store.schema.tables import Event, User


def find_user(session: Session, user_id: str, *, lock: bool = False) -> User:
    """The user with this id.

    `lock` keeps other writers of this user, and all who decide by their money, waiting until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    query = select(User).where(col(User.id) == user_id)
    user = session.exec(for_update(query) if lock else query).one_or_none()
    if user is None:
        raise NotFound(f"There is no user {user_id!r}.", hint="List them: kasoko user list")
    return user


def lock_wallets(session: Session, user_ids: Collection[str]) -> set[str]:
    """Keep others from deciding by the money of these users until the transaction ends; returns which of them exist.

    Rows that only name these users may be written meanwhile. Who holds several does so alone, so that one who comes
    upon more users as it goes on waits for nobody who waits for it; after that no other row is locked.
    """
    if not user_ids:
        return set()
    take_turn(session, Turn.WALLETS)
    query = select(col(User.id)).order_by(col(User.id)).with_for_update(key_share=True)
    return set(rows_in(session, query, col(User.id), sorted(user_ids)))


def list_users(session: Session, *, limit: int | None = None) -> Sequence[User]:
    """Users by id."""
    return session.exec(select(User).order_by(col(User.id)).limit(limit)).all()


def known_users(session: Session, user_ids: Iterable[str]) -> dict[str, User]:
    """Those of the users that exist, by id."""
    return {user.id: user for user in rows_in(session, select(User), col(User.id), user_ids)}


def not_to_be_paid(session: Session, user_ids: Iterable[str]) -> dict[str, str]:
    """Those of the users at whose number nobody may be paid, by id, with the reason: who was erased, and whose name
    or phone is another than an act gave them. The caller has at most `CHUNK` of them.
    """
    found, unlike = dict[str, str](), dict[str, str]()
    who = columns(col(User.id), col(User.name), col(User.phone), col(User.salt), col(User.seal), col(User.erased_at))
    for user_id, name, phone, salt, seal, erased_at in session.execute(who.where(col(User.id).in_(set(user_ids)))):
        if erased_at is not None or phone == ERASED:
            found[user_id] = "was erased, and has no number"
        elif (stands := person_seal(salt, user_id, name, phone)) != seal:
            unlike[user_id] = stands
    if unlike:
        given = columns(col(Event.subject), col(Event.detail)).where(
            col(Event.subject).in_(unlike), col(Event.action) == "user.set-phone"
        )
        rows = session.execute(given.order_by(col(Event.id)))
        last = {subject: json.loads(detail).get("seal") for subject, detail in rows}
        unedited = {user_id for user_id, stands in unlike.items() if last.get(user_id) == stands}
        found |= dict.fromkeys(unlike.keys() - unedited, "has a name or a phone that no act gave: kasoko audit --deep")
    return found


def phones_of(session: Session, user_ids: Iterable[str]) -> dict[str, str]:
    """The phone of each user, by id. The caller has at most `CHUNK` of them."""
    query = columns(col(User.id), col(User.phone)).where(col(User.id).in_(set(user_ids)))
    return {row[0]: row[1] for row in session.execute(query)}


def shared_phones(session: Session, batch: str) -> dict[str, list[str]]:
    """The phones of users who came in this batch that somebody else has too, each with all who have it."""
    other, owner = aliased(User), aliased(User)
    query = (
        columns(col(owner.phone), col(owner.id))
        .where(col(owner.phone) != ERASED)
        .where(
            col(owner.phone).in_(
                columns(col(User.phone))
                .join(other, (col(other.phone) == col(User.phone)) & (col(other.id) != col(User.id)))
                .where(col(User.batch) == batch)
            )
        )
        .order_by(bytewise(session, col(owner.phone)), bytewise(session, col(owner.id)))
    )
    found: dict[str, list[str]] = {}
    for phone, user_id in session.execute(query):
        found.setdefault(phone, []).append(user_id)
    return found
