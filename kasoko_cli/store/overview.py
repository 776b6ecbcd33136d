"""The queries of the overview, as text: both SQLAlchemy and a bare driver can put them, and get the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.store.engine.driver_reads import Rows, utc


def markets(rows: Rows) -> Sequence[Any]:
    """Id, slug, status and closing time of every market, the latest to close first."""
    return rows("SELECT id, slug, status, closes_at FROM markets ORDER BY closes_at DESC, id")


def settled_markets(rows: Rows) -> set[str]:
    """The ids of markets with a settlement that stands."""
    return {market_id for (market_id,) in rows("SELECT market_id FROM settlements WHERE reversed_at IS NULL")}


def totals_by_market(rows: Rows) -> dict[str, dict[PayoutStatus, tuple[int, int]]]:
    """For each market and state: how many payouts, and their amounts in cents; one pass over an index."""
    found: dict[str, dict[PayoutStatus, tuple[int, int]]] = {}
    for market_id, status, count, cents in rows(
        "SELECT market_id, status, count(*), CAST(sum(amount_cents) AS BIGINT) FROM payouts GROUP BY market_id, status"
    ):
        found.setdefault(market_id, {})[PayoutStatus(status)] = (count, int(cents))
    return found


def open_incidents(rows: Rows) -> Sequence[Any]:
    """Every incident that nobody has closed, oldest first.

    Id, kind, what, payout, time; how often, when last, what the last said; the question that answered it.
    """
    return rows(
        "SELECT id, kind, what, payout_id, opened_at, count, last_at, latest, answered_by FROM incidents"
        " WHERE closed_at IS NULL ORDER BY id"
    )


def switches_on(rows: Rows) -> Sequence[Any]:
    """Name, reason, actor and time of every switch that forbids sending: the pause before the breaker."""
    return rows("SELECT name, reason, actor, at FROM switches WHERE is_on ORDER BY name DESC")


def callbacks_waiting(rows: Rows) -> int:
    """How many results are stored and not judged."""
    return int(rows("SELECT count(*) FROM callbacks WHERE applied_at IS NULL")[0][0])


def last_heard(rows: Rows) -> datetime | None:
    """When the last callback arrived, from anybody."""
    found = rows("SELECT received_at FROM callbacks ORDER BY id DESC LIMIT 1")
    return utc(found[0][0]) if found else None


def open_runs(rows: Rows) -> Sequence[Any]:
    """Every run that has not ended, longest first: id, command, market, host, pid, actor, times, doing, counts."""
    return rows(
        "SELECT id, command, market, host, pid, actor, started_at, heartbeat_at, doing, counts FROM runs"
        " WHERE ended_at IS NULL ORDER BY started_at, id"
    )
