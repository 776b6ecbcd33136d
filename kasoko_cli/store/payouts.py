"""Queries on payouts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, literal, or_, text, tuple_, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from kasoko_cli.domain.payout import (
    PayoutKind,
    PayoutStatus,
    is_told,
    looks_like_payout_id,
    market_in,
    payout_sources_of,
)
from kasoko_cli.errors import NotFound
from kasoko_cli.store import markets
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.engine.locking import CHUNK, MANY, for_update, rows_in, where_given
from kasoko_cli.store.platform import outbox
from kasoko_cli.store.schema.tables import Attempt, Payout, User
from kasoko_cli.store.schema.types import UtcTime, over

#: No payout is put off for longer. Source: the bound of payout.retry_schedule_seconds; the next day in Nairobi.
LONGEST_WAIT = timedelta(days=1)

_Asked = TypeVar("_Asked", bound=Select[*tuple[Any, ...]])


def find_payout(session: Session, payout_id: str, *, lock: bool = False) -> Payout:
    """The payout with this id.

    Raises:
        NotFound: there is none.
    """
    query = select(Payout).where(col(Payout.id) == payout_id)
    payout = session.exec(for_update(query) if lock else query).one_or_none()
    if payout is None:
        raise _no_payout(session, payout_id)
    return payout


def status_of(session: Session, payout_id: str) -> str:
    """The state of a payout as it stands now, whatever was read of it before."""
    return str(session.exec(select(col(Payout.status)).where(col(Payout.id) == payout_id)).one())


def id_of(session: Session, payout: str) -> str:
    """The id of the payout that is named by its id, or with its market's slug: `rain.1.7` for `mkt-204.1.7`.

    Raises:
        NotFound: there is none.
    """
    if session.get(Payout, payout) is not None:
        return payout
    market, rest = market_in(payout) if looks_like_payout_id(payout) else (payout, "")
    known = markets.named(session, market)
    if known is not None and session.get(Payout, known.id + rest) is not None:
        return known.id + rest
    raise _no_payout(session, payout)


def _no_payout(session: Session, payout: str) -> NotFound:
    """What is said where no payout is named so; where it names a market, that market's payouts are to be listed."""
    market, rest = market_in(payout) if looks_like_payout_id(payout) else (payout, "")
    known = markets.named(session, market)
    about = "" if known is None or rest else f"{market!r} is a market. "
    of = "MARKET" if known is None else known.slug
    return NotFound(f"There is no payout {payout!r}.", hint=f"{about}List a market's payouts: kasoko payout list {of}")


def list_payouts(
    session: Session,
    *,
    market_id: str | None = None,
    statuses: frozenset[PayoutStatus] | None = None,
    user_id: str | None = None,
) -> Sequence[Payout]:
    """Payouts in the order they were owed."""
    return select_payouts(session, Wanted(market_id, statuses, user_id))


#: The word itself, as in the index of what is due: SQLite does not use it for a value that is bound later.
_PENDING = text("payouts.status = 'PENDING'")


class DuePayout(NamedTuple):
    """A payout that may be sent now, as far as sending needs it."""

    id: str
    market_id: str
    settlement_no: int
    user_id: str
    kind: PayoutKind
    leg: int
    wire_cents: int


class ShownPayout(NamedTuple):
    """A payout as somebody is shown it before it is sent."""

    id: str
    wire_cents: int
    phone: str = ""


def shown(
    session: Session,
    *,
    due_at: datetime | None,
    market_id: str | None,
    only: Sequence[str] = (),
    limit: int | None = None,
    smallest_first: bool = False,
) -> Iterable[ShownPayout]:
    """The payouts that a run would send at a time, in its order, with their phones; without a time, at any time."""
    found = columns(col(Payout.id), col(Payout.wire_cents), col(User.phone), *_PLACE).join(
        User, col(User.id) == col(Payout.user_id)
    )
    order = (col(Payout.wire_cents), *_PLACE) if smallest_first else _PLACE
    found = found.where(_PENDING, *where_given((col(Payout.market_id), market_id))).order_by(*order)
    if due_at is not None:
        found = found.where(is_due_at(due_at))
    if not only:
        rows: Iterable[Any] = session.execute(found.limit(limit).execution_options(yield_per=CHUNK))
    else:
        several = rows_in(session, found, col(Payout.id), only)
        # Each part came in order; together they have to be put in it.
        rows = sorted(several, key=lambda row: (row[1], *row[3:]) if smallest_first else tuple(row[3:]))[:limit]
    return (ShownPayout(*row[:3]) for row in rows)


def missing_among(session: Session, payout_ids: Sequence[str]) -> list[str]:
    """Those of the ids under which there is no payout."""
    known = set(rows_in(session, select(col(Payout.id)), col(Payout.id), payout_ids))
    return [payout_id for payout_id in payout_ids if payout_id not in known]


def pending_among(session: Session, payout_ids: Sequence[str]) -> dict[str, tuple[int, datetime | None]]:
    """Those of the payouts that are to be sent, now or later: their cents, and from when. At most `CHUNK` of them."""
    found = columns(col(Payout.id), col(Payout.wire_cents), col(Payout.not_before)).where(
        _PENDING, col(Payout.id).in_(payout_ids)
    )
    return {payout_id: (wire_cents, not_before) for payout_id, wire_cents, not_before in session.execute(found)}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which payouts to list: what is None does not matter."""

    market_id: str | None = None
    statuses: frozenset[PayoutStatus] | None = None
    user_id: str | None = None
    failure_code: str | None = None
    receipt: str | None = None
    after: Payout | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same as SQL."""
        found = where_given(
            (col(Payout.market_id), self.market_id),
            (col(Payout.user_id), self.user_id),
            (col(Payout.failure_code), self.failure_code),
        )
        if self.statuses is not None:
            found.append(col(Payout.status).in_(self.statuses))
        if self.receipt is not None:
            paid = select(col(Attempt.payout_id)).where(col(Attempt.receipt) == self.receipt)
            found.append(col(Payout.id).in_(paid))
        if self.after is not None:
            last = literal(self.after.created_at, UtcTime), literal(self.after.market_id), literal(self.after.number)
            found.append(tuple_(*_PLACE) > tuple_(*last))
        return found


#: Where a payout stands in the order in which they were owed.
_PLACE = (col(Payout.created_at), col(Payout.market_id), col(Payout.number))


def select_payouts(session: Session, wanted: Wanted, *, limit: int | None = None) -> Sequence[Payout]:
    """The payouts that are wanted, in the order they were owed."""
    return session.exec(select(Payout).where(*wanted.conditions()).order_by(*_PLACE).limit(limit)).all()


def count_payouts(session: Session, wanted: Wanted) -> int:
    """How many payouts are wanted."""
    return session.exec(select(func.count()).select_from(Payout).where(*wanted.conditions())).one()


def list_due(
    session: Session,
    *,
    now: datetime,
    limit: int,
    market_id: str | None,
    only: Sequence[str] = (),
    smallest_first: bool = False,
) -> list[DuePayout]:
    """Payouts that may be sent now, kept from other claimers until the transaction ends.

    The one owed longest comes first, or the smallest; with `only`, at most `CHUNK` ids, they come in that order.
    """
    found = columns(*(col(getattr(Payout, name)) for name in DuePayout._fields))
    if smallest_first and not only:
        found = found.order_by(col(Payout.wire_cents))
    query = _due(found, now, market_id, only).limit(limit)
    if only:
        query = query.order_by(None)  # the order is the caller's, and each is found by its id
    rows = [DuePayout(*row) for row in session.execute(query.with_for_update(skip_locked=True))]
    place = {payout_id: number for number, payout_id in enumerate(only)}
    return sorted(rows, key=lambda row: place[row.id]) if only else rows


def is_due_at(now: datetime) -> ColumnElement[bool]:
    """Whether the time has come until which a payout was put off."""
    not_before = col(Payout.not_before)
    return or_(not_before <= now, over(not_before, now, LONGEST_WAIT))


def _due(query: _Asked, now: datetime, market_id: str | None, only: Sequence[str]) -> _Asked:
    """Narrow a query to what may be sent now, longest owed first."""
    query = query.where(_PENDING, is_due_at(now), *where_given((col(Payout.market_id), market_id))).order_by(*_PLACE)
    return query.where(col(Payout.id).in_(only)) if only else query


def due(now: datetime, limit: int | None, market_id: str | None, only: Sequence[str]) -> SelectOfScalar[Payout]:
    """The query of what may be sent now, longest owed first."""
    return _due(select(Payout), now, market_id, only).limit(limit)


def list_due_now(
    session: Session,
    *,
    now: datetime,
    limit: int | None,
    market_id: str | None,
    only: Sequence[str] = (),
    smallest_first: bool = False,
) -> Sequence[Payout]:
    """The same to look at: nothing is kept from others."""
    query = select(Payout).order_by(col(Payout.wire_cents)) if smallest_first else select(Payout)
    return session.exec(_due(query, now, market_id, only).limit(limit)).all()


def totals_due(
    session: Session, *, now: datetime, market_id: str | None, only: Sequence[str] = ()
) -> tuple[int, int, int, datetime | None]:
    """What a run would find: due now (count, wire cents), waiting for later (count), and the next time one is due."""
    is_due = is_due_at(now)
    query = select(
        func.count().filter(is_due),
        cast(func.coalesce(func.sum(col(Payout.wire_cents)).filter(is_due), 0), BigInteger),
        func.count().filter(~is_due),
        func.min(col(Payout.not_before)).filter(~is_due),
    ).where(_PENDING, *where_given((col(Payout.market_id), market_id)))
    if only:
        query = query.where(col(Payout.id).in_(only))
    count, cents, later, next_at = session.exec(query).one()
    return int(count), int(cents), int(later), next_at


class SettlementTotals(NamedTuple):
    """How many payouts a settlement has, how many go to phones, and the sums in cents."""

    payouts: int
    to_phones: int
    amount_cents: int
    wire_cents: int
    withheld_cents: int


def settlement_totals(session: Session, market_id: str, number: int) -> SettlementTotals:
    """What one settlement owes altogether."""
    query = sa.select(
        func.count(),
        func.count().filter(col(Payout.wire_cents) > 0),
        cast(func.coalesce(func.sum(col(Payout.amount_cents)), 0), BigInteger),
        cast(func.coalesce(func.sum(col(Payout.wire_cents)), 0), BigInteger),
        cast(func.coalesce(func.sum(col(Payout.withheld_cents)), 0), BigInteger),
    ).where(col(Payout.market_id) == market_id, col(Payout.settlement_no) == number)
    return SettlementTotals(*(int(value) for value in session.execute(query).one()))


def totals_by_status(session: Session, market_id: str | None = None) -> dict[PayoutStatus, tuple[int, int]]:
    """For each state with payouts: how many, and their amounts in cents."""
    return _by_status(session, col(Payout.amount_cents), *where_given((col(Payout.market_id), market_id)))


def parked_by_status(session: Session, market_id: str | None) -> dict[PayoutStatus, tuple[int, int]]:
    """Those that wait for a person, by state: how many, and their wires in cents."""
    parked = col(Payout.status).in_((PayoutStatus.HELD, PayoutStatus.AWAITING_APPROVAL))
    return _by_status(session, col(Payout.wire_cents), parked, *where_given((col(Payout.market_id), market_id)))


def _by_status(session: Session, cents: Any, *which: ColumnElement[bool]) -> dict[PayoutStatus, tuple[int, int]]:
    query = sa.select(col(Payout.status), func.count(), cast(func.sum(cents), BigInteger)).where(*which)
    found = session.execute(query.group_by(col(Payout.status)))
    return {PayoutStatus(status): (count, int(total)) for status, count, total in found}


def move(
    session: Session,
    payout_id: str,
    to: PayoutStatus,
    *,
    at: datetime,
    only_from: Collection[PayoutStatus] | None = None,
    **values: Any,
) -> bool:
    """`move_all` of one payout: whether this call moved it."""
    return move_all(session, [payout_id], to, at=at, only_from=only_from, **values) == 1


def move_all(
    session: Session,
    payout_ids: Sequence[str],
    to: PayoutStatus,
    *,
    at: datetime,
    only_from: Collection[PayoutStatus] | None = None,
    **values: Any,
) -> int:
    """Move those of the payouts to `to` that may go there, by one statement; returns how many this call moved.

    `only_from` narrows it to the states that the caller's reason speaks of. What a platform is told is noted. The
    caller has at most `CHUNK` of them.
    """
    sources = payout_sources_of(to)
    if only_from is not None:
        assert sources.issuperset(only_from), f"{to} cannot follow all of {only_from}"
        sources = frozenset(only_from)
    which = update(Payout).where(col(Payout.id).in_(payout_ids), col(Payout.status).in_(sources))
    moved = change(session, which.values(status=to, updated_at=at, **values))
    if moved and is_told(to, sources):
        outbox.note_payouts(session, payout_ids, at=at)
    return moved


def of_settlement(session: Session, market_id: str, number: int) -> Sequence[Payout]:
    """Every payout of a settlement, in the order of its plan."""
    query = select(Payout).where(col(Payout.market_id) == market_id, col(Payout.settlement_no) == number)
    return session.exec(query.order_by(col(Payout.number))).all()


def lock_payouts(session: Session, payout_ids: Collection[str]) -> dict[str, Payout]:
    """Those of the payouts that exist, by id, kept from other writers until the transaction ends."""
    found = session.exec(_LOCK, params={"many": list(payout_ids)}) if payout_ids else ()
    return {payout.id: payout for payout in found}


def lock_market(session: Session, market_id: str) -> Sequence[Payout]:
    """Every payout of a market, by id, kept from other writers until the transaction ends.

    The market is held before, so that none is added.
    """
    query = select(Payout).where(col(Payout.market_id) == market_id).order_by(col(Payout.id))
    return session.exec(for_update(query)).all()


_LOCK = for_update(select(Payout).where(col(Payout.id).in_(MANY)).order_by(col(Payout.id)))


def postpone(session: Session, payout_ids: Sequence[str], *, until: datetime, note: str, at: datetime) -> int:
    """Put pending payouts off until a time, with the reason; returns how many. The caller has at most `CHUNK`."""
    which = update(Payout).where(col(Payout.id).in_(payout_ids), col(Payout.status) == PayoutStatus.PENDING)
    return change(session, which.values(not_before=until, note=note, updated_at=at))


def count_try(session: Session, payout_id: str) -> int:
    """Count one more try that M-Pesa did not take; returns how many there were, this one included."""
    which = update(Payout).where(col(Payout.id) == payout_id)
    change(session, which.values(tries=col(Payout.tries) + 1))
    return session.exec(select(col(Payout.tries)).where(col(Payout.id) == payout_id)).one()


def by_ids(session: Session, payout_ids: Sequence[str]) -> list[Payout]:
    """Those of the payouts that exist."""
    return list(rows_in(session, select(Payout), col(Payout.id), payout_ids))
