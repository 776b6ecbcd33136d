"""Queries behind the figures that monitoring reads: each is one pass over an index, quick on 100,000 payouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, case, cast, func, text
from sqlmodel import Session, col, select

from kasoko_cli.clock import farthest
from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus
from kasoko_cli.store.payouts import is_due_at
from kasoko_cli.store.schema.tables import (
    ENDED_PAYOUT,
    Attempt,
    Bet,
    Exchange,
    Incident,
    Market,
    Payout,
    RunRow,
    Settlement,
)


@dataclass(frozen=True, slots=True)
class EndedRow:
    """How many payouts of a market ended so, and when the last of them did."""

    market_id: str
    status: PayoutStatus
    count: int
    last_at: datetime


def ended_since(session: Session, since: datetime, now: datetime) -> list[EndedRow]:
    """What ended from `since` to now, by market and state."""
    # Grouped by what is no column, or SQLite would read every payout in the order of another index.
    market = func.coalesce(col(Payout.market_id), "")
    columns: list[Any] = [market, col(Payout.status), func.count(), func.max(col(Payout.updated_at))]
    within = col(Payout.updated_at).between(since, farthest(now))
    query = select(*columns).where(text(ENDED_PAYOUT), within).group_by(market, col(Payout.status))
    return [
        EndedRow(name, PayoutStatus(status), count, last_at) for name, status, count, last_at in session.exec(query)
    ]


@dataclass(frozen=True, slots=True)
class LiveRow:
    """The attempts whose fate is open, in one state: how many, their wire cents, and since when the oldest is."""

    status: AttemptStatus
    count: int
    wire_cents: int
    since: datetime
    sent_at: datetime


def live_by_status(session: Session) -> list[LiveRow]:
    """What is in flight."""
    columns: list[Any] = [
        col(Attempt.status),
        func.count(),
        cast(func.sum(col(Attempt.wire_cents)), BigInteger),
        func.min(col(Attempt.status_at)),
        func.min(col(Attempt.sent_at)),
    ]
    query = select(*columns).where(col(Attempt.status).in_(sorted(LIVE))).group_by(col(Attempt.status))
    return [
        LiveRow(AttemptStatus(status), count, int(cents), since, sent_at)
        for status, count, cents, since, sent_at in session.exec(query)
    ]


@dataclass(frozen=True, slots=True)
class WaitingMarket:
    """A market with bets that waits for a person: its outcome is not named, or it is not settled; since when."""

    slug: str
    is_resolved: bool
    since: datetime
    stake_cents: int


def waiting_markets(session: Session, now: datetime) -> list[WaitingMarket]:
    """Markets past their close that nobody resolved, and those that ended and were never settled, longest first."""
    settled = select(col(Settlement.market_id)).where(col(Settlement.reversed_at).is_(None))
    since = func.coalesce(col(Market.resolved_at), col(Market.closed_at), col(Market.closes_at))
    columns: list[Any] = [
        col(Market.slug),
        col(Market.resolved_at).is_not(None),
        since,
        cast(func.sum(col(Bet.stake_cents)), BigInteger),
    ]
    query = (
        select(*columns)
        .join(Bet, col(Bet.market_id) == col(Market.id))
        .where(col(Bet.cancelled_at).is_(None), col(Market.id).not_in(settled), since <= now)
        .group_by(col(Market.id))
        .order_by(since, col(Market.slug))
    )
    return [WaitingMarket(slug, bool(named), at, int(cents)) for slug, named, at, cents in session.exec(query)]


def first_due(session: Session, now: datetime) -> datetime | None:
    """Since when the payout that was owed first, of those that may be sent now, has been due."""
    query = (
        select(col(Payout.created_at), col(Payout.not_before))
        .where(col(Payout.status) == PayoutStatus.PENDING, is_due_at(now))
        .order_by(col(Payout.created_at), col(Payout.market_id), col(Payout.number))
        .limit(1)
    )
    row = session.exec(query).first()
    if row is None:
        return None
    created_at, not_before = row
    return created_at if not_before is None or not_before > now else not_before


#: The upper bounds of the histogram of M-Pesa's answers, in milliseconds.
BUCKETS_MS = (100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000)


@dataclass(frozen=True, slots=True)
class CallsRow:
    """Requests of one kind to M-Pesa: how many, how long they took together, and how many within each bound."""

    kind: str
    answered: str
    count: int
    sum_ms: int
    within: tuple[int, ...]


def calls_ever(session: Session) -> list[CallsRow]:
    """Every request that was ever made, by kind and by how it was answered: 2xx, 4xx, 5xx, or not at all."""
    status, latency = col(Exchange.http_status), col(Exchange.latency_ms)
    answered = case((status.is_(None), "none"), (status < 300, "2xx"), (status < 500, "4xx"), else_="5xx")
    bucket = case(*((latency <= bound, place) for place, bound in enumerate(BUCKETS_MS)), else_=len(BUCKETS_MS))
    columns: list[Any] = [col(Exchange.kind), answered, bucket, func.count(), cast(func.sum(latency), BigInteger)]
    query = select(*columns).group_by(columns[0], text("2"), text("3"))
    found: dict[tuple[str, str], dict[int, tuple[int, int]]] = {}
    for kind, how, place, count, sum_ms in session.exec(query):
        found.setdefault((kind, how), {})[place] = (count, int(sum_ms))
    return [
        CallsRow(
            kind,
            how,
            count=sum(count for count, _ in places.values()),
            sum_ms=sum(sum_ms for _, sum_ms in places.values()),
            within=tuple(
                sum(count for place, (count, _) in places.items() if place <= bound) for bound in range(len(BUCKETS_MS))
            ),
        )
        for (kind, how), places in sorted(found.items())
    ]


def latency_since(session: Session, since: datetime, *, percent: int) -> tuple[int, int | None]:
    """How many requests were made since, and within how many milliseconds so many percent of them were answered."""
    recent = [col(Exchange.at) >= since]
    count = session.exec(select(func.count()).select_from(Exchange).where(*recent)).one()
    if not count:
        return 0, None
    query = select(col(Exchange.latency_ms)).where(*recent).order_by(col(Exchange.latency_ms))
    return count, session.exec(query.offset((count * percent - 1) // 100).limit(1)).one()


def open_incidents_by_kind(session: Session) -> Sequence[tuple[str, int, int]]:
    """Incidents that nobody has closed: kind, how many, and the latest one's number."""
    query = (
        select(col(Incident.kind), func.count(), func.max(col(Incident.id)))
        .where(col(Incident.closed_at).is_(None))
        .group_by(col(Incident.kind))
        .order_by(col(Incident.kind))
    )
    return [(kind, count, latest or 0) for kind, count, latest in session.exec(query)]


def last_successes(session: Session, now: datetime) -> dict[str, datetime]:
    """For each command that a run was made of: when one last ended well."""
    query = (
        select(col(RunRow.command), func.max(col(RunRow.ended_at)))
        .where(col(RunRow.doing) == "done", col(RunRow.ended_at) <= farthest(now))
        .group_by(col(RunRow.command))
        .order_by(col(RunRow.command))
    )
    return {command: at for command, at in session.exec(query) if at is not None}
