"""Queries on what a copy of the database that was put back has forgotten: attempts with its mark, payouts held since.

The mark stands in place of the sender's in `lease_token`: a sender puts its own there. What an attempt's entries were
booked with, its evidence among it, stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.schema.tables import Attempt, Callback, EntryRow, Event, Exchange, Payout, Query, User
from kasoko_cli.store.statements import FORGOTTEN, RESTORED

#: Attempts after which the next id may have been used, as far as a copy knows.
SPENT = frozenset({AttemptStatus.FAILED, AttemptStatus.RETURNED})

_HAS_MARK = col(Attempt.lease_token).like(f"{RESTORED}%")
_HAS_ENDED_UNPAID = col(Attempt.status).in_([AttemptStatus.REJECTED, *SPENT])
_WRITTEN_AT = (
    col(EntryRow.at),
    col(Event.at),
    col(Exchange.at),
    col(Callback.received_at),
    col(Attempt.status_at),
    col(Payout.updated_at),
    col(Query.asked_at),
)


def last_written(session: Session) -> datetime | None:
    """When this database was last written to, by its youngest row; None where it has none."""
    times = [session.execute(columns(func.max(column))).scalar() for column in _WRITTEN_AT]
    return max((at for at in times if at is not None), default=None)


def mark(session: Session, attempt_id: str, mark: str, *, at: datetime | None = None) -> None:
    """Note that an attempt that ended unpaid may have been sent since the copy was taken, or that this is known now."""
    which = update(Attempt).where(col(Attempt.id) == attempt_id, _HAS_ENDED_UNPAID)
    change(session, which.values(lease_token=mark, **({} if at is None else {"status_at": at})))


def mark_live(session: Session, mark: str) -> None:
    """Do the same for every attempt under way."""
    which = update(Attempt).where(col(Attempt.status).in_(LIVE))
    change(session, which.values(lease_token=mark))


def hold_pending(session: Session, *, note: str, at: datetime) -> int:
    """Stop every payout that was due: PENDING -> HELD; returns how many."""
    which = update(Payout).where(col(Payout.status) == PayoutStatus.PENDING)
    return change(session, which.values(status=PayoutStatus.HELD, note=note, updated_at=at, not_before=None))


def hold_settlement(session: Session, market_id: str, settlement_no: int, *, note: str) -> None:
    """Stop the payouts of a settlement that was just written: PENDING -> HELD."""
    which = update(Payout).where(
        col(Payout.market_id) == market_id,
        col(Payout.settlement_no) == settlement_no,
        col(Payout.status) == PayoutStatus.PENDING,
    )
    change(session, which.values(status=PayoutStatus.HELD, note=note))


def take_numbers(session: Session) -> None:
    """Point attempts that stand for forgotten requests at the number that the user has now."""
    theirs = (
        columns(col(User.phone))
        .join(Payout, col(Payout.user_id) == col(User.id))
        .where(col(Payout.id) == col(Attempt.payout_id))
        .scalar_subquery()
    )
    which = update(Attempt).where(
        col(Attempt.status) == AttemptStatus.REJECTED, _HAS_MARK, col(Attempt.evidence) == FORGOTTEN
    )
    change(session, which.values(phone=theirs))


def list_doubted(session: Session) -> Sequence[Attempt]:
    """Every attempt in doubt, by payout, first to last."""
    query = select(Attempt).where(_HAS_ENDED_UNPAID, _HAS_MARK).order_by(col(Attempt.payout_id), col(Attempt.number))
    return session.exec(query).all()


def list_tries(session: Session, payout_id: str) -> Sequence[Attempt]:
    """The payout's attempts as they stand now, first to last: marks are written past what the session has read."""
    query = select(Attempt).where(col(Attempt.payout_id) == payout_id).order_by(col(Attempt.number))
    return session.exec(query.execution_options(populate_existing=True)).all()


def count_paid(session: Session) -> int:
    """How many attempts with the mark were found paid."""
    paid = col(Attempt.status).in_([AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED])
    return session.exec(select(func.count()).select_from(Attempt).where(_HAS_MARK, paid)).one()
