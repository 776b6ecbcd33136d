"""Queries on stored callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, bindparam, cast, func, or_, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from kasoko_cli.clock import farthest
from kasoko_cli.store.engine import hash_chain
from kasoko_cli.store.engine.bulk_rows import execute_many, insert_directly
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.engine.driver import Direct
from kasoko_cli.store.engine.locking import MANY, chunks, for_update, rows_in, where_given
from kasoko_cli.store.schema.tables import Callback, new_salts

#: What is known of a callback when it arrives.
_ARRIVED = ("received_at", "route", "subject", "signed", "source", "body")
_arrived = itemgetter(*_ARRIVED)
#: Never so many wait about a few payouts: callbacks with our mark are bounded for each, the others by the hour.
MOST_WAITING = 1_000_000
_STORED = ("id", *_ARRIVED, "salt", "digest")


def store(direct: Direct, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write down and chain callbacks (one or more) in the order given, each a column's name to its value.

    Returns the number of the first. It is the last thing that a transaction does. On PostgreSQL this waits for other
    listeners that store at this moment, and for nobody else.
    """
    hash_chain.lock(direct, hash_chain.INBOX)
    first = hash_chain.next_number(direct, col(Callback.id))
    numbers = range(first, first + len(rows))
    written, leaves = [], []
    for number, salt, row in zip(numbers, new_salts(len(rows)), rows, strict=True):
        at, route, subject, signed, source, body = _arrived(row)
        digest = hash_chain.body_digest(salt, body)
        leaves.append(hash_chain.callback_leaf(number, at, route, subject if signed else None, source, digest))
        written.append((number, at, route, subject, signed, source, body, salt, digest))
    insert_directly(direct, Callback, _STORED, written)
    hash_chain.append(direct, hash_chain.CALLBACKS, numbers, at, leaves)
    return first


def any_waiting(session: Session) -> bool:
    """Whether any callback was stored and not judged yet. Plain SQL: senders ask after each group, and nearly always
    there is none that they have to wait for."""
    found = session.connection().exec_driver_sql("SELECT 1 FROM callbacks WHERE applied_at IS NULL LIMIT 1")
    return found.first() is not None


class WaitingCallback(NamedTuple):
    """What judging a callback needs of it: no object of the session, of which there would be thousands."""

    id: int
    route: str
    subject: str
    signed: bool
    body: bytes


_WAITING = (
    columns(*(col(getattr(Callback, name)) for name in WaitingCallback._fields))
    .where(col(Callback.applied_at).is_(None), col(Callback.id) > bindparam("after"))
    .order_by(col(Callback.id))
    .limit(bindparam("most"))
)
_WAITING_ABOUT = _WAITING.where(col(Callback.subject).in_(MANY))
_WAITING_OR_HINT = _WAITING.where(or_(col(Callback.subject).in_(MANY), col(Callback.signed).is_(False)))


def list_waiting(
    session: Session, *, subjects: Sequence[str] | None = None, hints: bool = False, after: int = 0, limit: int = 500
) -> list[WaitingCallback]:
    """Callbacks that were stored but not judged yet, earliest first, from the number `after` on.

    Of these subjects; with `hints` those without our mark too, whose subject is known once they are read.
    """
    values: dict[str, Any] = {"after": after, "most": limit}
    if subjects is None:
        found = session.connection().execute(_WAITING, values)
    else:
        wanted = _WAITING_OR_HINT if hints else _WAITING_ABOUT
        found = session.connection().execute(wanted, values | {"many": list(subjects)})
    return [WaitingCallback(*row) for row in found]


def waiting_about(session: Session, subjects: Sequence[str]) -> list[WaitingCallback]:
    """Whatever waits to be judged about these subjects, and all without our mark: its body names what it is about."""
    found: dict[int, WaitingCallback] = {}
    for chunk in chunks(subjects):
        part = list_waiting(session, subjects=chunk, hints=True, limit=MOST_WAITING)
        found |= {one.id: one for one in part}
    return list(found.values())


def list_latest(
    session: Session, *, subject: str | None, verdict: str | None, waiting: bool, hints: bool, limit: int | None
) -> Sequence[Callback]:
    """The latest callbacks, newest first; each condition that is given narrows them."""
    narrowed = where_given((col(Callback.subject), subject), (col(Callback.verdict), verdict))
    query = select(Callback).where(*narrowed).order_by(col(Callback.id).desc()).limit(limit)
    if waiting:
        query = query.where(col(Callback.applied_at).is_(None))
    if hints:
        query = query.where(col(Callback.signed).is_(False))
    return session.exec(query).all()


def by_numbers(session: Session, numbers: Sequence[int], *, lock: bool = False) -> Sequence[Callback]:
    """Those of these callbacks that exist, earliest first; with `lock` kept from other writers."""
    query = select(Callback).where(col(Callback.id).in_(numbers)).order_by(col(Callback.id))
    return session.exec(for_update(query) if lock else query).all()


def make_waiting(session: Session, numbers: Sequence[int]) -> None:
    """Let callbacks be judged again, as if they had just been stored."""
    which = update(Callback).where(col(Callback.id).in_(numbers))
    change(session, which.values(applied_at=None, verdict=None, detail=None))


def list_of(session: Session, subject: str) -> Sequence[Callback]:
    """What arrived for one attempt or query, earliest first."""
    query = select(Callback).where(col(Callback.subject) == subject).order_by(col(Callback.id))
    return session.exec(query).all()


def lock_waiting(session: Session, numbers: Sequence[int]) -> set[int]:
    """Those of these callbacks that nobody has judged, kept from other judges until the transaction ends."""
    found = session.connection().execute(_LOCK, {"many": list(numbers)})
    return {number for number in found.scalars() if number is not None}


_LOCK = for_update(
    select(col(Callback.id))
    .where(col(Callback.id).in_(MANY), col(Callback.applied_at).is_(None))
    .order_by(col(Callback.id))
)


def take(session: Session, verdicts: Mapping[int, tuple[str, str, str | None]], *, at: datetime) -> None:
    """Mark callbacks, which are locked, as judged: by number, the verdict on each, its detail, and what it is about.

    The last is the attempt that a body names, where its address named none; else None.
    """
    rows = [
        {"number": number, "applied_at": at, "verdict": word, "detail": said, "about": about}
        for number, (word, said, about) in verdicts.items()
    ]
    moved = execute_many(session, _TAKE, rows)
    assert moved == len(verdicts), "a callback that is locked and not judged can be judged"


_TABLE = Callback.__table__  # type: ignore[attr-defined]
_TAKE = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("number"), _TABLE.c.applied_at.is_(None))
    .values(
        applied_at=bindparam("applied_at"),
        verdict=bindparam("verdict"),
        detail=bindparam("detail"),
        subject=func.coalesce(bindparam("about", type_=_TABLE.c.subject.type), _TABLE.c.subject),
    )
)


def last_hints(session: Session, attempt_ids: Sequence[str]) -> dict[str, datetime]:
    """When somebody last posted, without our mark, how each of these attempts ended."""
    judged = (col(Callback.signed).is_(False), col(Callback.applied_at).is_not(None))
    query = columns(col(Callback.subject), col(Callback.received_at)).where(*judged).order_by(col(Callback.id))
    return dict(rows_in(session, query, col(Callback.subject), attempt_ids))


def was_judged(session: Session, subject: str, verdict: str, now: datetime) -> bool:
    """Whether a body with our mark about this subject came by now and was judged so."""
    query = select(col(Callback.id)).where(
        col(Callback.subject) == subject,
        col(Callback.signed).is_(True),
        col(Callback.verdict) == verdict,
        col(Callback.received_at) <= now,
    )
    return session.exec(query.limit(1)).first() is not None


def last_about(session: Session, subject: str) -> int | None:
    """The number of the last body with our mark about this subject, whenever it came."""
    query = select(func.max(col(Callback.id))).where(col(Callback.subject) == subject, col(Callback.signed).is_(True))
    return session.exec(query).one()


def next_after(session: Session, number: int, now: datetime) -> datetime | None:
    """When the next callback came after the one with this number, by a clock that was not ahead of now.

    Their numbers say what came after what where their times do not.
    """
    query = select(col(Callback.received_at)).where(col(Callback.id) > number, col(Callback.received_at) <= now)
    return session.exec(query.order_by(col(Callback.id)).limit(1)).first()


def count_waiting(session: Session) -> int:
    """How many callbacks were stored and not judged yet."""
    return session.exec(select(func.count()).select_from(Callback).where(col(Callback.applied_at).is_(None))).one()


def hint_bytes(session: Session) -> int:
    """How many bytes of posts without our mark are kept."""
    size = cast(func.coalesce(func.sum(func.length(col(Callback.body))), 0), BigInteger)
    return int(session.exec(select(size).where(col(Callback.signed).is_(False))).one())


def last_heard(session: Session, now: datetime) -> datetime | None:
    """When the last callback arrived, from anybody."""
    query = select(col(Callback.received_at)).where(col(Callback.received_at) <= farthest(now))
    return session.exec(query.order_by(col(Callback.id).desc()).limit(1)).first()


def list_all(session: Session) -> Sequence[Callback]:
    """Every callback that ever arrived, earliest first."""
    return session.exec(select(Callback).order_by(col(Callback.id))).all()
