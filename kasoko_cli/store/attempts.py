"""Queries on attempts, and on what was wired to a phone in a day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, bindparam, cast, func, or_, text, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from kasoko_cli.clock import farthest, is_over
from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus, attempt_sources_of
from kasoko_cli.errors import NotFound
from kasoko_cli.store.engine.bulk_rows import execute_many
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.engine.locking import MANY, for_update, rows_in
from kasoko_cli.store.schema.tables import Attempt, Payout, Query
from kasoko_cli.store.schema.types import over
from kasoko_cli.store.statements import RESTORED, SPENT_SINCE

#: No lease is longer. Source: the bound of payout.lease_seconds.
LONGEST_LEASE = timedelta(days=1)


def find_attempt(session: Session, attempt_id: str, *, lock: bool = False) -> Attempt:
    """The attempt with this id.

    Raises:
        NotFound: there is none.
    """
    query = select(Attempt).where(col(Attempt.id) == attempt_id)
    attempt = session.exec(for_update(query) if lock else query).one_or_none()
    if attempt is None:
        raise NotFound(f"There is no attempt {attempt_id!r}.", hint="Look at its payout: kasoko payout show PAYOUT")
    return attempt


def named_as(session: Session, originator_id: str | None) -> Attempt | None:
    """The attempt that M-Pesa calls by this id: ours, or on v1 the one that it made."""
    if not originator_id:
        return None
    called = or_(col(Attempt.id) == originator_id, col(Attempt.gateway_id) == originator_id)
    return session.exec(select(Attempt).where(called).order_by(col(Attempt.created_at)).limit(1)).first()


def list_attempts(session: Session, payout_id: str) -> Sequence[Attempt]:
    """The payout's attempts, first to last."""
    query = select(Attempt).where(col(Attempt.payout_id) == payout_id).order_by(col(Attempt.number))
    return session.exec(query).all()


def of_payouts(session: Session, payout_ids: Iterable[str]) -> list[Attempt]:
    """Every attempt of these payouts, first to last."""
    query = select(Attempt).order_by(col(Attempt.payout_id), col(Attempt.number))
    return list(rows_in(session, query, col(Attempt.payout_id), payout_ids))


def names_of(session: Session, payout_ids: Iterable[str]) -> list[str]:
    """The ids of these payouts' attempts, and of the questions about them: what a callback with our mark may name."""
    found = list(rows_in(session, select(col(Attempt.id)), col(Attempt.payout_id), payout_ids))
    return found + list(rows_in(session, select(col(Query.id)), col(Query.attempt_id), found))


def last_attempts(session: Session, payout_ids: Iterable[str]) -> dict[str, Attempt]:
    """The latest attempt of each payout that has one, by payout."""
    found = rows_in(session, select(Attempt).order_by(col(Attempt.number)), col(Attempt.payout_id), payout_ids)
    return {attempt.payout_id: attempt for attempt in found}


def list_stale(session: Session, *, now: datetime) -> Sequence[str]:
    """The ids of attempts still INTENT whose lease has run out: their sender is gone or far too late."""
    stale = over(col(Attempt.lease_until), now, LONGEST_LEASE)
    query = (
        select(col(Attempt.id))
        .where(col(Attempt.status) == AttemptStatus.INTENT, stale)
        .order_by(col(Attempt.payout_id))
    )
    return session.exec(query).all()


def is_being_sent(attempt: Attempt, now: datetime) -> bool:
    """Whether its sender may still be about to send it, or to write down how that went."""
    return attempt.status is AttemptStatus.INTENT and not is_over(attempt.lease_until, now, LONGEST_LEASE)


def list_live(session: Session, *, market_id: str | None = None) -> Sequence[Attempt]:
    """Attempts whose fate is not known, longest sent first."""
    query = select(Attempt).where(col(Attempt.status).in_(LIVE)).order_by(col(Attempt.sent_at), col(Attempt.id))
    if market_id is not None:
        query = query.join(Payout, col(Payout.id) == col(Attempt.payout_id)).where(col(Payout.market_id) == market_id)
    return session.exec(query).all()


def oldest_unknown(session: Session) -> tuple[str, datetime] | None:
    """The payout of which nobody has known for longest whether it was paid, and when it was sent."""
    query = select(col(Attempt.payout_id), col(Attempt.sent_at)).join(Payout, col(Payout.id) == col(Attempt.payout_id))
    return session.exec(
        query.where(col(Payout.status) == PayoutStatus.UNKNOWN).order_by(col(Attempt.sent_at)).limit(1)
    ).first()


def list_unknown(session: Session, first: datetime, last: datetime) -> list[tuple[Attempt, Payout]]:
    """Attempts that are unknown and were sent from `first` to `last`, with their payouts, by payout; read afresh."""
    query = (
        select(Attempt, Payout)
        .join(Payout, col(Payout.id) == col(Attempt.payout_id))
        .where(col(Attempt.status) == AttemptStatus.UNKNOWN, col(Attempt.sent_at).between(first, last))
        .order_by(col(Payout.id))
        .execution_options(populate_existing=True)
    )
    return [(attempt, payout) for attempt, payout in session.exec(query)]


def wired_on(session: Session, phones: Sequence[str], day: tuple[datetime, datetime]) -> dict[str, int]:
    """Cents that went to each of these phones, or may have, in attempts sent on this day.

    Nobody else counts for these phones until the transaction ends, so that two senders cannot both find room
    for the last payment of a day. The caller has at most `CHUNK` of them.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_LOCK_PHONES, {"phones": sorted(set(phones))})
    query = (
        columns(col(Attempt.phone), cast(func.sum(col(Attempt.wire_cents)), BigInteger))
        .where(col(Attempt.phone).in_(phones), *_wired_on(day))
        .group_by(col(Attempt.phone))
    )
    return dict.fromkeys(phones, 0) | {phone: int(cents) for phone, cents in session.execute(query)}


#: One after the other in the order of their numbers, so that two claimers never wait for each other.
_LOCK_PHONES = text(
    "SELECT pg_advisory_xact_lock(number) FROM (SELECT DISTINCT hashtextextended(phone, 7215190335) AS number"
    " FROM unnest(CAST(:phones AS text[])) AS phone ORDER BY number) AS numbers"
)


# --- Many at once, for runs of sending: columns in and out, one statement for a group --------------------------------


#: The table itself: by its class, each row of a group would pass through bookkeeping that nobody needs here.
_TABLE = Attempt.__table__  # type: ignore[attr-defined]


class LastTry(NamedTuple):
    """The latest attempt of a payout, as far as the next one needs it."""

    payout_id: str
    id: str
    number: int
    status: AttemptStatus
    sends: int
    account_id: int | None


def last_tries(session: Session, payout_ids: Sequence[str]) -> dict[str, LastTry]:
    """The latest attempt of each payout that has one, by payout. The caller has at most `CHUNK` of them."""
    query = (
        columns(*(getattr(Attempt, name) for name in LastTry._fields))
        .where(col(Attempt.payout_id).in_(payout_ids))
        .order_by(col(Attempt.number))
    )
    return {row[0]: LastTry(*row) for row in session.execute(query)}


class HeldAttempt(NamedTuple):
    """An attempt of a group whose answers are recorded, with the state of its payout."""

    id: str
    payout_id: str
    status: AttemptStatus
    lease_token: str
    sends: int
    api: str


def lock_group(session: Session, attempt_ids: Sequence[str]) -> dict[str, HeldAttempt]:
    """These attempts and their payouts, kept from other writers until the transaction ends, by id.

    In the order of their payouts, and each payout before its attempt: as everybody locks them.
    """
    query = (
        columns(*(col(getattr(Attempt, name)) for name in HeldAttempt._fields))
        .select_from(Payout)
        .join(Attempt, col(Attempt.payout_id) == col(Payout.id))
        .where(col(Attempt.id).in_(attempt_ids))
        .order_by(col(Payout.id))
        .with_for_update()
    )
    return {row[0]: HeldAttempt(*row) for row in session.execute(query)}


#: What a rejected attempt becomes when the same instruction goes again.
_AGAIN = ("status_at", "phone", "api", "sends", "lease_token", "lease_until", "sent_at")
_BEGIN_AGAIN = (
    update(_TABLE)
    .where(_TABLE.c.id == bindparam("the_id"), _TABLE.c.status == AttemptStatus.REJECTED)
    .values(status=AttemptStatus.INTENT, evidence=None, result_code=None, result_text=None)
    .values({name: bindparam(name) for name in _AGAIN})
)
_ACKNOWLEDGE = (
    update(_TABLE)
    .where(
        _TABLE.c.id == bindparam("the_id"),
        _TABLE.c.sends == bindparam("the_send"),
        _TABLE.c.lease_token == bindparam("the_lease"),
        _TABLE.c.status == AttemptStatus.INTENT,
    )
    .values(
        status=AttemptStatus.ACCEPTED,
        status_at=bindparam("status_at"),
        conversation_id=bindparam("conversation_id"),
        gateway_id=bindparam("gateway_id"),
    )
)
_SUCCEED = (
    update(_TABLE)
    # Not `IN`: that cannot be carried by a statement for many rows.
    .where(
        _TABLE.c.id == bindparam("the_id"),
        or_(*(_TABLE.c.status == source for source in sorted(attempt_sources_of(AttemptStatus.SUCCEEDED)))),
    )
    .values(
        status=AttemptStatus.SUCCEEDED,
        status_at=bindparam("status_at"),
        receipt=bindparam("receipt"),
        result_code="0",
        result_text="paid",
        evidence=bindparam("evidence"),
    )
)


def begin_again(session: Session, rows: Sequence[Mapping[str, Any]]) -> int:
    """REJECTED -> INTENT, each under its id; returns how many. A row has `the_id` and what `_AGAIN` names."""
    return execute_many(session, _BEGIN_AGAIN, rows)


def acknowledge(session: Session, rows: Sequence[Mapping[str, Any]]) -> int:
    """INTENT -> ACCEPTED for attempts that their sender still holds; returns how many.

    A row has `the_id`, `the_send`, `the_lease`, `status_at`, `conversation_id` and `gateway_id`.
    """
    return execute_many(session, _ACKNOWLEDGE, rows)


def stands(session: Session, attempt_id: str, *, lease_token: str, send: int) -> bool:
    """Whether this sender's intent for this send was committed."""
    query = columns(col(Attempt.id)).where(
        col(Attempt.id) == attempt_id, col(Attempt.lease_token) == lease_token, col(Attempt.sends) == send
    )
    return session.execute(query).first() is not None


def latest_open(session: Session, count: int) -> list[tuple[AttemptStatus, datetime]]:
    """The latest attempts that were sent and have not ended: taken or unknown, and when each was sent."""
    query = (
        columns(col(Attempt.status), col(Attempt.sent_at))
        .where(col(Attempt.status).in_((AttemptStatus.ACCEPTED, AttemptStatus.UNKNOWN)))
        .order_by(col(Attempt.sent_at).desc())
        .limit(count)
    )
    return [(status, sent_at) for status, sent_at in session.execute(query)]


def is_held(session: Session, attempt_id: str, *, lease_token: str, send: int) -> bool:
    """Whether this sender still holds an attempt for this send of it, which nobody has ruled on."""
    query = columns(col(Attempt.id)).where(
        col(Attempt.id) == attempt_id,
        col(Attempt.lease_token) == lease_token,
        col(Attempt.sends) == send,
        col(Attempt.status) == AttemptStatus.INTENT,
    )
    return session.execute(query).first() is not None


def _wired_on(day: tuple[datetime, datetime]) -> tuple[ColumnElement[bool], ...]:
    """What was or may have been sent on a day; its last minutes by a clock that is a little ahead as well."""
    sent_at, counted = col(Attempt.sent_at), [*LIVE, AttemptStatus.SUCCEEDED]
    return sent_at >= day[0], sent_at < farthest(day[1]), col(Attempt.status).in_(counted)


def wired_by_phone(session: Session, day: tuple[datetime, datetime]) -> dict[str, int]:
    """`wired_on` of every phone that anything went to, in one pass."""
    query = (
        select(col(Attempt.phone), cast(func.sum(col(Attempt.wire_cents)), BigInteger))
        .where(*_wired_on(day))
        .group_by(col(Attempt.phone))
    )
    return {phone: int(cents) for phone, cents in session.exec(query)}


def receipt_owner(session: Session, receipt: str) -> str | None:
    """The attempt that this receipt already proves, if any."""
    return session.exec(select(col(Attempt.id)).where(col(Attempt.receipt) == receipt)).one_or_none()


def receipts_owned(session: Session, receipts: Collection[str]) -> set[str]:
    """Those of the receipts that prove an attempt already."""
    found = session.connection().execute(_OWNED, {"many": list(receipts)}).scalars() if receipts else ()
    return {receipt for receipt in found if receipt is not None}


def owners_of(session: Session, receipts: Sequence[str]) -> dict[str, str]:
    """The attempt that each of these receipts proves; only those that prove one."""
    return dict(rows_in(session, columns(col(Attempt.receipt), col(Attempt.id)), col(Attempt.receipt), receipts))


def paid_of(session: Session, attempt_ids: Iterable[str]) -> set[str]:
    """Those of the attempts that were paid, also where the money came back."""
    query = select(col(Attempt.id)).where(col(Attempt.receipt).is_not(None))
    return set(rows_in(session, query, col(Attempt.id), attempt_ids))


def receipts_of(session: Session, payout_ids: Sequence[str]) -> dict[str, str]:
    """The receipt of each payout that was paid, by its latest attempt that was."""
    query = columns(col(Attempt.payout_id), col(Attempt.receipt)).where(col(Attempt.receipt).is_not(None))
    return dict(rows_in(session, query.order_by(col(Attempt.number)), col(Attempt.payout_id), payout_ids))


def payouts_of(session: Session, subjects: Collection[str]) -> set[str]:
    """The payouts of attempts, each named by its id or by that of a question about it."""
    return set(session.connection().execute(_PAYOUTS_OF, {"many": list(subjects)}).scalars()) if subjects else set()


def lock_attempts(session: Session, attempt_ids: Collection[str]) -> Sequence[Attempt]:
    """Those of the attempts that exist, kept from other writers; their payouts are locked before."""
    return session.exec(_LOCK, params={"many": list(attempt_ids)}).all() if attempt_ids else []


_OWNED = columns(col(Attempt.receipt)).where(col(Attempt.receipt).in_(MANY))
_ASKED_ABOUT = columns(col(Query.attempt_id)).where(col(Query.id).in_(MANY))
_PAYOUTS_OF = columns(col(Attempt.payout_id)).where(or_(col(Attempt.id).in_(MANY), col(Attempt.id).in_(_ASKED_ABOUT)))
_LOCK = for_update(select(Attempt).where(col(Attempt.id).in_(MANY)).order_by(col(Attempt.id)))


def succeed(session: Session, proofs: Sequence[tuple[str, str, str]], *, at: datetime) -> None:
    """Move attempts, which are locked, to SUCCEEDED: the id, the receipt and the evidence of each."""
    rows = [{"the_id": one, "status_at": at, "receipt": receipt, "evidence": why} for one, receipt, why in proofs]
    moved = execute_many(session, _SUCCEED, rows)
    assert moved == len(proofs), "an attempt that is locked and live may succeed"


def move(
    session: Session,
    attempt_id: str,
    to: AttemptStatus,
    *,
    at: datetime,
    only_from: Collection[AttemptStatus] | None = None,
    **values: Any,
) -> bool:
    """Move an attempt to `to` if it may go there; returns whether this call did it.

    `only_from` narrows it to the states that the caller's reason speaks of.
    """
    sources = attempt_sources_of(to)
    if only_from is not None:
        assert sources.issuperset(only_from), f"{to} cannot follow all of {only_from}"
        sources = frozenset(only_from)
    which = update(Attempt).where(col(Attempt.id) == attempt_id, col(Attempt.status).in_(sources))
    return change(session, which.values(status=to, status_at=at, **values)) == 1


def keep_conversation(session: Session, attempt_id: str, *, conversation_id: str, gateway_id: str | None) -> bool:
    """Keep what a late acknowledgement named, unless something is kept already; returns whether it was."""
    which = update(Attempt).where(col(Attempt.id) == attempt_id, col(Attempt.conversation_id).is_(None))
    return change(session, which.values(conversation_id=conversation_id, gateway_id=gateway_id)) == 1


def note_met_before(session: Session, attempt_id: str) -> None:
    """Keep that M-Pesa, by its own word, met this id a second time: no acknowledgement is a measure since."""
    which = update(Attempt).where(col(Attempt.id) == attempt_id)
    change(session, which.values(met_before=True))


def end_doubt(session: Session, paid: Attempt) -> None:
    """An id was found paid, so those before it are known to have paid nobody: their marks of a restored copy go."""
    which = update(Attempt).where(
        col(Attempt.payout_id) == paid.payout_id,
        col(Attempt.number) < paid.number,
        col(Attempt.lease_token).like(f"{RESTORED}%"),
    )
    change(session, which.values(lease_token=SPENT_SINCE))


def was_paid_before(session: Session, payout_id: str, *, besides: str) -> bool:
    """Whether another attempt of this payout reached the phone, even if the money came back."""
    query = select(col(Attempt.id)).where(
        col(Attempt.payout_id) == payout_id,
        col(Attempt.id) != besides,
        col(Attempt.status).in_([AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED]),
    )
    return session.exec(query).first() is not None


def count_returned(session: Session, payout_id: str) -> int:
    """How often the money of this payout came back."""
    query = (
        select(func.count())
        .select_from(Attempt)
        .where(col(Attempt.payout_id) == payout_id, col(Attempt.status) == AttemptStatus.RETURNED)
    )
    return session.exec(query).one()
