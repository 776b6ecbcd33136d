"""The figures by which an operator knows whether all is well, read once on one snapshot.

`status --check`, the metrics and the alerts are made of the same figures, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kasoko_cli.clock import Clock
from kasoko_cli.domain.payout import GROUPS, AttemptStatus
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.operations.account import balances
from kasoko_cli.operations.shared.overview import Amount, by_status_of, groups_of, totals_of
from kasoko_cli.store import balance_readings, callbacks, markets, overview
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import switches_on
from kasoko_cli.store.monitoring import metrics as store
from kasoko_cli.store.monitoring.metrics import CallsRow, WaitingMarket


@dataclass(frozen=True, slots=True)
class Spans:
    """How far back to look, in seconds."""

    #: For the success rate and the settlement times.
    window_seconds: int = 86_400
    #: For failures and for M-Pesa's answers.
    lately_seconds: int = 3_600


@dataclass(frozen=True, slots=True)
class SettlementTime:
    """How long a market took from its resolution until its last payout was final."""

    market: str
    seconds: int
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A market that is resolved and whose payouts are not final yet."""

    market: str
    resolved_at: datetime
    payouts: int
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Switched:
    """A switch that stops all sending."""

    name: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Figures:
    """How everything stands, in numbers. A time is null where the thing never happened."""

    at: datetime
    by_status: Mapping[str, Amount]
    #: Payouts that ended within the window.
    completed: int
    failed: int
    #: Completed of those, in basis points; null where none ended.
    success_bps: int | None
    #: Failures of late, and the latest of them.
    failed_lately: int
    last_failed_at: datetime | None
    unknown: int
    unknown_cents: int
    unknown_since: datetime | None
    #: Instructed, fate open.
    in_flight: int
    in_flight_cents: int
    #: Since when the oldest request that was taken waits for its result.
    awaited_since: datetime | None
    due_since: datetime | None
    #: Markets whose last payout ended within the window, and those that are not through.
    settled: list[SettlementTime]
    unsettled: list[Unsettled]
    #: Requests to M-Pesa of late, and within how long 95 of 100 were answered.
    calls_lately: int
    daraja_p95_ms: int | None
    heard_at: datetime | None
    callbacks_waiting: int
    incidents: Mapping[str, int]
    latest_incident: int
    switches: list[Switched]
    #: The utility account when M-Pesa last told it; null where it never did.
    float_cents: int | None
    float_as_of: datetime | None
    #: When each command last ended well.
    succeeded: Mapping[str, datetime]
    #: What of the float can be counted on, however old it is; null where it was never told, or by no tariff.
    float_available_cents: int | None = None
    #: What is owed to phones and has not left yet, with M-Pesa's charges.
    float_needed_cents: int = 0
    #: Markets that wait for a person to name their outcome, or to settle them, longest first.
    waiting_markets: Sequence[WaitingMarket] = ()


def read_figures(db: Database, clock: Clock, spans: Spans, tariff: Tariff | None = None) -> Figures:
    """All figures as they stand now; what the float has to hold, where a tariff says what M-Pesa charges."""
    now = clock()
    lately = now - timedelta(seconds=spans.lately_seconds)
    window = now - timedelta(seconds=spans.window_seconds)
    with db.reading() as session:
        by_market = overview.totals_by_market(lambda query: session.connection().exec_driver_sql(query).all())
        ended = store.ended_since(session, min(window, lately), now)
        failed_lately = [one for one in store.ended_since(session, lately, now) if one.status in GROUPS["failed"]]
        live = {row.status: row for row in store.live_by_status(session)}
        resolved = {market.id: market for market in markets.list_markets(session) if market.resolved_at is not None}
        incidents = store.open_incidents_by_kind(session)
        calls_lately, p95_ms = store.latency_since(session, lately, percent=95)
        switches = [Switched(one.name, one.reason, one.at) for one in switches_on(session)]
        heard_at, waiting = callbacks.last_heard(session, now), callbacks.count_waiting(session)
        due_since = store.first_due(session, now)
        reading = balance_readings.latest_reading(session, now)
        waiting_for = store.waiting_markets(session, now)
        succeeded = store.last_successes(session, now)
        available = None if tariff is None else balances.available_by(session, now, tariff)
        owed = None if tariff is None else balance_readings.sum_owed(session, tariff)

    pending = {market_id: groups_of(states).pending for market_id, states in by_market.items()}
    last_ended: dict[str, datetime] = {}
    for row in ended:
        last_ended[row.market_id] = max(row.last_at, last_ended.get(row.market_id, row.last_at))
    completed = sum(row.count for row in ended if row.status in GROUPS["completed"])
    failed = sum(row.count for row in ended if row.status in GROUPS["failed"])
    unknown, accepted = live.get(AttemptStatus.UNKNOWN), live.get(AttemptStatus.ACCEPTED)
    return Figures(
        at=now,
        by_status=by_status_of(totals_of(by_market)),
        completed=completed,
        failed=failed,
        success_bps=completed * 10_000 // (completed + failed) if completed + failed else None,
        failed_lately=sum(row.count for row in failed_lately),
        last_failed_at=max((row.last_at for row in failed_lately), default=None),
        unknown=unknown.count if unknown else 0,
        unknown_cents=unknown.wire_cents if unknown else 0,
        unknown_since=unknown.since if unknown else None,
        in_flight=sum(row.count for row in live.values()),
        in_flight_cents=sum(row.wire_cents for row in live.values()),
        awaited_since=accepted.sent_at if accepted else None,
        due_since=due_since,
        settled=[
            SettlementTime(resolved[market_id].slug, _seconds(resolved[market_id].resolved_at, at), at)
            for market_id, at in sorted(last_ended.items(), key=lambda one: one[1])
            if market_id in resolved and not pending[market_id].count
        ],
        unsettled=[
            Unsettled(resolved[market_id].slug, resolved[market_id].resolved_at or now, left.count, left.amount_cents)
            for market_id, left in sorted(pending.items())
            if left.count and market_id in resolved
        ],
        calls_lately=calls_lately,
        daraja_p95_ms=p95_ms,
        heard_at=heard_at,
        callbacks_waiting=waiting,
        incidents={kind: count for kind, count, _ in incidents},
        latest_incident=max((latest for _, _, latest in incidents), default=0),
        switches=switches,
        float_cents=None if reading is None else reading.utility_cents,
        float_as_of=None if reading is None else reading.as_of,
        succeeded=succeeded,
        float_available_cents=available,
        float_needed_cents=0 if owed is None else owed.wire_cents + owed.charges_cents,
        waiting_markets=waiting_for,
    )


def calls_ever(db: Database) -> list[CallsRow]:
    """Every request that was ever made to M-Pesa, counted by kind and by how long it took."""
    with db.reading() as session:
        return store.calls_ever(session)


def _seconds(since: datetime | None, until: datetime) -> int:
    return max(0, round((until - (since or until)).total_seconds()))
