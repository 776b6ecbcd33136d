"""How everything stands, from queries alone: nothing is loaded that one look does not need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from kasoko_cli.clock import eat, farthest
from kasoko_cli.domain.payout import GROUPS, PayoutStatus
from kasoko_cli.store import overview as store
from kasoko_cli.store.engine.driver_reads import Rows, utc

#: A run that was not heard of for so long counts as dead.
DEAD_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Amount:
    """How many payouts, and their amounts in cents."""

    count: int
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Groups:
    """The three groups that every report shows; they add up to all that is owed or was."""

    pending: Amount
    completed: Amount
    failed: Amount


@dataclass(frozen=True, slots=True)
class Concern:
    """An incident that nobody has closed: how often it happened, when last, and what the last time said.

    `holds` is False once M-Pesa, asked, has said what the books have: then it holds nothing back any more.
    """

    id: int
    kind: str
    what: str
    payout_id: str | None
    opened_at: datetime
    count: int
    last_at: datetime
    latest: str
    holds: bool

    @property
    def story(self) -> str:
        """All of it in words: what raised it, how often that came again, and what M-Pesa has answered."""
        again = f" It came {self.count} times, the last at {eat(self.last_at)}" if self.count > 1 else ""
        latest = f": {self.latest}" if again and self.latest != self.what else "." if again else ""
        answered = "" if self.holds else " M-Pesa was asked since, and says what the books have: it holds nothing back."
        return f"{self.what}{again}{latest}{answered}"


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """A switch that stops all sending."""

    name: str
    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MarketRow:
    """One market in the overview."""

    id: str
    slug: str
    status: str
    closes_at: datetime
    settled: bool
    payouts: Groups


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A command at work, for `status`. `market` is null where it works on all of them."""

    id: str
    command: str
    market: str | None
    host: str
    pid: int
    actor: str
    started_at: datetime
    heartbeat_at: datetime
    doing: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands."""

    markets: list[MarketRow]
    payouts: Groups
    by_status: Mapping[str, Amount]
    incidents: list[Concern]
    switches: list[SwitchFacts]
    callbacks_waiting: int
    callback_heard_at: datetime | None
    runs: list[RunFacts]


def read_overview(rows: Rows) -> Overview:
    """How everything stands: the markets, the money by state, what a person should look at."""
    by_market = store.totals_by_market(rows)
    totals = totals_of(by_market)
    settled = store.settled_markets(rows)
    return Overview(
        markets=[
            MarketRow(
                market_id, slug, status, utc(closes_at), market_id in settled, groups_of(by_market.get(market_id, {}))
            )
            for market_id, slug, status, closes_at in store.markets(rows)
        ],
        payouts=groups_of(totals),
        by_status=by_status_of(totals),
        incidents=[
            Concern(one, kind, what, payout, utc(at), count, utc(last_at), latest, answered_by is None)
            for one, kind, what, payout, at, count, last_at, latest, answered_by in store.open_incidents(rows)
        ],
        switches=[SwitchFacts(name, reason, actor, utc(at)) for name, reason, actor, at in store.switches_on(rows)],
        callbacks_waiting=store.callbacks_waiting(rows),
        callback_heard_at=store.last_heard(rows),
        runs=[
            RunFacts(run, command, market or None, host, pid, actor, utc(started), utc(beat), doing, json.loads(counts))
            for run, command, market, host, pid, actor, started, beat, doing, counts in store.open_runs(rows)
        ],
    )


def totals_of(by_market: Mapping[str, Mapping[PayoutStatus, tuple[int, int]]]) -> dict[PayoutStatus, tuple[int, int]]:
    """The totals of each market (how many, and cents, by state) added up."""
    totals: dict[PayoutStatus, tuple[int, int]] = {}
    for states in by_market.values():
        for status, (count, cents) in states.items():
            before = totals.get(status, (0, 0))
            totals[status] = (before[0] + count, before[1] + cents)
    return totals


def groups_of(totals: Mapping[PayoutStatus, tuple[int, int]]) -> Groups:
    """The same totals (how many, and cents) in the groups that people are shown."""

    def add_up(name: str) -> Amount:
        found = [totals.get(status, (0, 0)) for status in GROUPS[name]]
        return Amount(sum(count for count, _ in found), sum(cents for _, cents in found))

    return Groups(add_up("pending"), add_up("completed"), add_up("failed"))


def by_status_of(totals: Mapping[PayoutStatus, tuple[int, int]]) -> dict[str, Amount]:
    """The same totals by the name of the state, in the order of the states."""
    return {str(status): Amount(*totals[status]) for status in PayoutStatus if status in totals}


def is_dead(run: RunFacts, now: datetime) -> bool:
    """Whether a run was not heard of for so long that it counts as dead; by a clock that ran ahead it was not."""
    return not now - timedelta(seconds=DEAD_SECONDS) <= run.heartbeat_at <= farthest(now)
