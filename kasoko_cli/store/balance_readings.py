"""Queries on what the M-Pesa accounts held, and on what has moved since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, and_, bindparam, case, cast, func, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from kasoko_cli.clock import farthest
from kasoko_cli.domain.payer import Payer
from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.store import accounts, payouts
from kasoko_cli.store.engine.bulk_rows import execute_many
from kasoko_cli.store.schema.tables import Attempt, FloatReading, Payout, Query


class Sum(NamedTuple):
    """How many payments, what they carry, and what M-Pesa charges for them; both in cents."""

    payments: int
    wire_cents: int
    charges_cents: int


def add_readings(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Take readings down, unless their query or attempt has one."""
    execute_many(session, _ADD[session.get_bind().dialect.name], rows)


_NOTED = ("as_of", "noted_at", "query_id", "attempt_id", "utility_cents", "working_cents", "charges_cents")
_ADD = {
    name: dialect.insert(FloatReading.__table__)  # type: ignore[attr-defined]
    .inline()
    .values({column: bindparam(column) for column in _NOTED})
    .on_conflict_do_nothing()
    for name, dialect in (("postgresql", postgresql), ("sqlite", sqlite))
}


def latest_reading(session: Session, now: datetime, payer: Payer | None = None) -> FloatReading | None:
    """What M-Pesa said last; of two from the same second the lower one, for M-Pesa counts in seconds.

    Only of the account of `payer`, or else of the one that pays now: what another one holds pays nobody. And none of
    a clock that ran ahead: nothing would overtake it for long, and nothing would count as paid since.
    """
    query = select(FloatReading).where(col(FloatReading.as_of) <= farthest(now))
    query = query.order_by(col(FloatReading.as_of).desc(), col(FloatReading.utility_cents))
    if payer is None and (current := accounts.in_force(session)) is not None:
        payer = current.payer
    if payer is not None:
        if (account_id := accounts.find(session, payer)) is None:
            return None
        query = (
            query.outerjoin(Query, col(Query.id) == col(FloatReading.query_id))
            .outerjoin(Attempt, col(Attempt.id) == col(FloatReading.attempt_id))
            .where(func.coalesce(col(Query.account_id), col(Attempt.account_id)) == account_id)
        )
    return session.exec(query.limit(1)).first()


def reading_of_query(session: Session, query_id: str) -> FloatReading | None:
    """The reading that the answer to this question gave."""
    return session.exec(select(FloatReading).where(col(FloatReading.query_id) == query_id)).one_or_none()


def not_in(session: Session, reading: FloatReading | None, tariff: Tariff) -> Sum:
    """The payments that a reading may not hold yet: those under way, and those that were paid after it.

    A payment whose own result brought a reading was done by then. One that ended by other evidence counts as
    later than the reading where we learned of it later: rather too little float than too much.
    """
    under_way = col(Attempt.status).in_(LIVE)
    later: ColumnElement[bool] = under_way
    query = select(*_sums(col(Attempt.wire_cents), tariff)).select_from(Attempt)
    if reading is not None:
        query = query.outerjoin(FloatReading, col(FloatReading.attempt_id) == col(Attempt.id))
        paid_after = and_(
            col(Attempt.status) == AttemptStatus.SUCCEEDED,
            func.coalesce(col(FloatReading.as_of), col(Attempt.status_at)) > reading.as_of,
        )
        later = or_(under_way, paid_after)
    return Sum(*(int(value) for value in session.exec(query.where(later)).one()))


def under_way(session: Session, tariff: Tariff) -> Sum:
    """The payments whose end is not known."""
    return not_in(session, None, tariff)


def sum_of_run(
    session: Session,
    tariff: Tariff,
    *,
    now: datetime,
    market_id: str | None,
    only: tuple[str, ...] = (),
    limit: int | None = None,
) -> Sum:
    """What a run would send now, and what M-Pesa would charge for it."""
    query = payouts.due(now, limit, market_id, only)
    chosen = query.subquery()
    found = session.exec(select(*_sums(chosen.c.wire_cents, tariff)).select_from(chosen)).one()
    return Sum(*(int(value) for value in found))


def sum_owed(session: Session, tariff: Tariff) -> Sum:
    """What is owed to phones and has not left yet, now or later, and what M-Pesa would charge for it."""
    to_leave = (PayoutStatus.PENDING, PayoutStatus.AWAITING_APPROVAL)
    query = select(*_sums(col(Payout.wire_cents), tariff)).where(
        col(Payout.status).in_(to_leave), col(Payout.wire_cents) > 0
    )
    return Sum(*(int(value) for value in session.exec(query).one()))


def charges_paid(session: Session, tariff: Tariff) -> Sum:
    """All payments that were made, and what the tariff says M-Pesa charged for them."""
    paid = (AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED)
    query = select(*_sums(col(Attempt.wire_cents), tariff)).where(col(Attempt.status).in_(paid))
    return Sum(*(int(value) for value in session.exec(query).one()))


def _sums(wire_cents: Any, tariff: Tariff) -> tuple[ColumnElement[Any], ...]:
    charge = case(
        *((wire_cents <= up_to_kes * 100, charge_kes * 100) for up_to_kes, charge_kes in tariff.bands),
        else_=tariff.bands[-1][1] * 100,
    )
    return (
        func.count(),
        cast(func.coalesce(func.sum(wire_cents), 0), BigInteger),
        cast(func.coalesce(func.sum(charge), 0), BigInteger),
    )
