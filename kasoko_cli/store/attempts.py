"""Queries on attempts, and on what was wired to a phone in a day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, bindparam, cast, func, or_, update
from sqlmodel import Session, col, select

from kasoko_cli.domain.payout import LIVE, AttemptStatus, attempt_sources_of
from kasoko_cli.errors import NotFound
from kasoko_cli.store.locking import CHUNK, for_update
from kasoko_cli.store.tables import Attempt, Payout, Query


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
    wanted, found = list(payout_ids), list[Attempt]()
    for start in range(0, len(wanted), CHUNK):
        query = select(Attempt).where(col(Attempt.payout_id).in_(wanted[start : start + CHUNK]))
        found += session.exec(query.order_by(col(Attempt.payout_id), col(Attempt.number)))
    return found


def last_attempts(session: Session, payout_ids: Iterable[str]) -> dict[str, Attempt]:
    """The latest attempt of each payout that has one, by payout."""
    wanted, latest = list(payout_ids), dict[str, Attempt]()
    for start in range(0, len(wanted), CHUNK):
        query = (
            select(Attempt)
            .where(col(Attempt.payout_id).in_(wanted[start : start + CHUNK]))
            .order_by(col(Attempt.number))
        )
        latest |= {attempt.payout_id: attempt for attempt in session.exec(query)}
    return latest


def list_stale(session: Session, *, now: datetime) -> Sequence[str]:
    """The ids of attempts still INTENT whose lease has run out: their sender is gone or far too late."""
    query = (
        select(col(Attempt.id))
        .where(col(Attempt.status) == AttemptStatus.INTENT, col(Attempt.lease_until) < now)
        .order_by(col(Attempt.payout_id))
    )
    return session.exec(query).all()


def list_live(session: Session, *, market_id: str | None = None) -> Sequence[Attempt]:
    """Attempts whose fate is not known, longest sent first."""
    query = select(Attempt).where(col(Attempt.status).in_(LIVE)).order_by(col(Attempt.sent_at), col(Attempt.id))
    if market_id is not None:
        query = query.join(Payout, col(Payout.id) == col(Attempt.payout_id)).where(col(Payout.market_id) == market_id)
    return session.exec(query).all()


def wired_since(session: Session, phone: str, since: datetime) -> int:
    """Cents that went to this phone, or may have, in attempts sent at or after `since`."""
    query = select(cast(func.coalesce(func.sum(col(Attempt.wire_cents)), 0), BigInteger)).where(
        col(Attempt.phone) == phone,
        col(Attempt.sent_at) >= since,
        col(Attempt.status).in_([*LIVE, AttemptStatus.SUCCEEDED]),
    )
    return int(session.exec(query).one())


def wired_by_phone(session: Session, since: datetime) -> dict[str, int]:
    """`wired_since` of every phone that anything went to, in one pass."""
    query = (
        select(col(Attempt.phone), cast(func.sum(col(Attempt.wire_cents)), BigInteger))
        .where(col(Attempt.sent_at) >= since, col(Attempt.status).in_([*LIVE, AttemptStatus.SUCCEEDED]))
        .group_by(col(Attempt.phone))
    )
    return {phone: int(cents) for phone, cents in session.exec(query)}


def receipt_owner(session: Session, receipt: str) -> str | None:
    """The attempt that this receipt already proves, if any."""
    return session.exec(select(col(Attempt.id)).where(col(Attempt.receipt) == receipt)).one_or_none()


def receipts_owned(session: Session, receipts: Collection[str]) -> set[str]:
    """Those of the receipts that prove an attempt already."""
    query = select(col(Attempt.receipt)).where(col(Attempt.receipt).in_(receipts))
    return {receipt for receipt in session.exec(query) if receipt is not None} if receipts else set()


def payouts_of(session: Session, subjects: Collection[str]) -> set[str]:
    """The payouts of attempts, each named by its id or by that of a question about it."""
    asked = select(col(Query.attempt_id)).where(col(Query.id).in_(subjects))
    query = select(col(Attempt.payout_id)).where(or_(col(Attempt.id).in_(subjects), col(Attempt.id).in_(asked)))
    return set(session.exec(query)) if subjects else set()


def lock_attempts(session: Session, attempt_ids: Collection[str]) -> Sequence[Attempt]:
    """Those of the attempts that exist, kept from other writers; their payouts are locked before."""
    query = select(Attempt).where(col(Attempt.id).in_(attempt_ids)).order_by(col(Attempt.id))
    return session.exec(for_update(query)).all() if attempt_ids else []


def succeed(session: Session, proofs: Sequence[tuple[str, str, str]], *, at: datetime) -> None:
    """Move attempts, which are locked, to SUCCEEDED: the id, the receipt and the evidence of each."""
    if not proofs:
        return
    table = Attempt.__table__  # type: ignore[attr-defined]
    moved = session.connection().execute(
        update(table)
        .where(
            table.c.id == bindparam("attempt"),
            # Not `IN`: that cannot be carried by a statement for many rows.
            or_(*(table.c.status == source for source in sorted(attempt_sources_of(AttemptStatus.SUCCEEDED)))),
        )
        .values(
            status=AttemptStatus.SUCCEEDED,
            status_at=at,
            receipt=bindparam("proof"),
            result_code="0",
            result_text="paid",
            evidence=bindparam("where"),
        ),
        [{"attempt": attempt, "proof": receipt, "where": evidence} for attempt, receipt, evidence in proofs],
    )
    assert moved.rowcount == len(proofs), "an attempt that is locked and live may succeed"


def move(session: Session, attempt_id: str, to: AttemptStatus, *, at: datetime, **values: Any) -> bool:
    """Move an attempt to `to` if it may go there, and say whether this call did it."""
    moved = session.exec(
        update(Attempt)
        .where(col(Attempt.id) == attempt_id, col(Attempt.status).in_(attempt_sources_of(to)))
        .values(status=to, status_at=at, **values)
        .execution_options(synchronize_session=False)
    )
    return moved.rowcount == 1


def keep_conversation(session: Session, attempt_id: str, *, conversation_id: str, gateway_id: str | None) -> bool:
    """Keep what a late acknowledgement named, unless something is kept already; says whether it was."""
    kept = session.exec(
        update(Attempt)
        .where(col(Attempt.id) == attempt_id, col(Attempt.conversation_id).is_(None))
        .values(conversation_id=conversation_id, gateway_id=gateway_id)
        .execution_options(synchronize_session=False)
    )
    return kept.rowcount == 1


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
