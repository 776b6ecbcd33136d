"""Queries on settlements that a second person has to release."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.domain.same_person import person_of
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.schema.tables import Approval, Payout


def ask_for(session: Session, market_id: str, number: int, *, plan_hash: str, settled_by: str) -> None:
    """Write down that this settlement waits for a second person."""
    session.add(
        Approval(
            market_id=market_id,
            settlement_no=number,
            plan_hash=plan_hash,
            settled_by=settled_by,
            settled_person=person_of(settled_by),
        )
    )
    session.flush()


def find_approval(session: Session, market_id: str, number: int) -> Approval | None:
    """What is known of the release of a settlement; None where it needs none."""
    query = select(Approval).where(col(Approval.market_id) == market_id, col(Approval.settlement_no) == number)
    return session.exec(query).one_or_none()


def list_approved(session: Session) -> Sequence[Approval]:
    """Every settlement that a second person has released, by market."""
    query = select(Approval).where(col(Approval.approved_by).is_not(None))
    return session.exec(query.order_by(col(Approval.market_id))).all()


def is_outstanding(session: Session, market_id: str, number: int) -> bool:
    """Whether the settlement still waits for a second person."""
    found = find_approval(session, market_id, number)
    return found is not None and found.approved_by is None


def approve(session: Session, market_id: str, number: int, *, plan_hash: str, by: str, at: datetime) -> bool:
    """Write the second person's name down, once, for exactly this plan; returns whether this call did it."""
    which = update(Approval).where(
        col(Approval.market_id) == market_id,
        col(Approval.settlement_no) == number,
        col(Approval.plan_hash) == plan_hash,
        col(Approval.approved_by).is_(None),
        col(Approval.settled_person) != person_of(by),
    )
    return change(session, which.values(approved_by=by, approved_at=at, approved_person=person_of(by))) == 1


def release_all(session: Session, market_id: str, number: int, *, at: datetime) -> int:
    """Make due every payout of the settlement that waits and that M-Pesa can carry; returns how many."""
    which = update(Payout).where(
        col(Payout.market_id) == market_id,
        col(Payout.settlement_no) == number,
        col(Payout.status) == PayoutStatus.AWAITING_APPROVAL,
        col(Payout.wire_cents) > 0,
    )
    return change(session, which.values(status=PayoutStatus.PENDING, updated_at=at))
