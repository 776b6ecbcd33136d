"""The figures as Prometheus reads them: for a textfile collector, and for the listener's own address.

Everything is counted from the database when it is asked for, so that no process has to keep a count, and what
every host exposes is the same. What was never read, such as a float that nobody asked for, is left out: zero
would be a lie.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from kasoko_cli import __version__
from kasoko_cli.clock import Clock
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.operations.monitoring.health import HealthLimits, State, check_health, float_known, float_wanted
from kasoko_cli.operations.monitoring.metrics_snapshot import Figures, calls_ever
from kasoko_cli.operations.shared.overview import Amount
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.monitoring.metrics import BUCKETS_MS, CallsRow

if TYPE_CHECKING:
    from kasoko_cli.daraja.connection_limits import Doors
    from kasoko_cli.daraja.listener import Counts
    from kasoko_cli.operations.callbacks.inbox import Inbox

#: The name of the file that `metrics write` makes in the collector's folder.
FILE_NAME = "kasoko.prom"

_STATES = {State.OK: 0, State.WARNING: 1, State.CRITICAL: 2}


@dataclass(frozen=True, slots=True)
class Written:
    """Where the metrics were written, and how many bytes they are."""

    file: Path
    bytes: int


def exposition(db: Database, clock: Clock, limits: HealthLimits) -> bytes:
    """Every metric as it stands now, in Prometheus' text format."""
    return _exposed(_collected(db, clock, limits))


def listener_exposition(counts: Counts, inbox: Inbox, doors: Doors) -> bytes:
    """The metrics of one running listener: what came, what was refused and why, and what waits."""
    return _exposed(_listener_metrics(counts, inbox, doors))


def write_metrics(db: Database, clock: Clock, limits: HealthLimits, folder: Path) -> Written:
    """Write them to `kasoko.prom` in the folder; a collector sees the old file or the new one, never a part.

    Raises:
        ConfigurationError: there is no such folder, or nothing may be written in it.
    """
    text = exposition(db, clock, limits)
    file = folder / FILE_NAME
    try:
        number, name = tempfile.mkstemp(prefix=".kasoko-", suffix=".tmp", dir=folder)
        try:
            with os.fdopen(number, "wb") as opened:
                opened.write(text)
            Path(name).chmod(0o644)  # no phone and no secret is in it, and the collector is another user
            Path(name).replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be written: {error.strerror}. The metrics of before stand, if there were any.",
            hint="Make the folder, and let this user write in it; node_exporter names it with"
            " --collector.textfile.directory",
        ) from error
    return Written(file, len(text))


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """The metrics, which were collected already."""
        return self._metrics


def _exposed(metrics: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(metrics))
    return generate_latest(registry)


def _by(label: str, name: str, says: str, values: Mapping[str, float]) -> Metric:
    """A gauge with a value for each word of a label."""
    gauge = GaugeMetricFamily(name, says, labels=[label])
    for word, value in values.items():
        gauge.add_metric([word], value)
    return gauge


def _listener_metrics(counts: Counts, inbox: Inbox, doors: Doors) -> Iterator[Metric]:
    came = CounterMetricFamily("kasoko_listener_requests", "Requests by how they ended.", labels=["ended"])
    for ended, count in (
        ("stored", counts.stored),
        ("hint", counts.hints),
        ("missed", counts.missed - counts.not_allowed),
        ("not_allowed", counts.not_allowed),
        ("refused", counts.refused),
        ("overflowed", counts.overflowed),
        ("not_stored", counts.failed),
    ):
        came.add_metric([ended], count)
    yield came
    says = "Misses answered with 429, among those missed."
    yield CounterMetricFamily("kasoko_listener_limited", says, counts.limited)
    yield CounterMetricFamily("kasoko_listener_cut_off", "Connections cut off, late or to make room.", doors.cut_off)
    yield CounterMetricFamily("kasoko_listener_applied", "Callbacks applied here.", inbox.applied)
    yield GaugeMetricFamily("kasoko_listener_connections", "Connections now.", len(doors.open))
    yield GaugeMetricFamily("kasoko_listener_queued", "Callbacks that wait to be stored.", inbox.queued)


def _collected(db: Database, clock: Clock, limits: HealthLimits) -> Iterator[Metric]:
    health = check_health(db, clock, limits)
    now = health.figures
    yield _by("version", "kasoko_build_info", "Which kasoko this is.", {__version__: 1})
    yield GaugeMetricFamily("kasoko_collected_timestamp_seconds", "When these figures were read.", now.at.timestamp())
    yield GaugeMetricFamily(
        "kasoko_health_state",
        "0 all is well, 1 a warning, 2 critical, by the rules of status --check.",
        _STATES[health.state],
    )
    yield from _payout_metrics(now)
    yield from _time_metrics(now)
    yield from _call_metrics(calls_ever(db), now)
    yield from _trouble_metrics(now)
    if now.float_cents is not None and now.float_as_of is not None:
        says = "The utility account when M-Pesa last told it, in cents."
        yield GaugeMetricFamily("kasoko_float_cents", says, now.float_cents)
        yield GaugeMetricFamily("kasoko_float_timestamp_seconds", "When that was.", now.float_as_of.timestamp())
    if limits.float_watch is not None:
        wanted = float_wanted(now, limits.float_watch)
        says = "What is owed to phones with charges, or health.float_floor_kes if that is more, in cents."
        yield GaugeMetricFamily("kasoko_float_wanted_cents", says, wanted)
        known = float_known(now, limits.float_watch)
        if known is not None:
            says = "What of the utility account can be counted on, in cents; left out where it is not known."
            yield GaugeMetricFamily("kasoko_float_available_cents", says, known)
    ended = {command: at.timestamp() for command, at in now.succeeded.items()}
    yield _by("command", "kasoko_last_success_timestamp_seconds", "When a command last ended well.", ended)


def _payout_metrics(now: Figures) -> Iterator[Metric]:
    states = {str(status): now.by_status.get(str(status), Amount(0, 0)) for status in PayoutStatus}
    counts = {state: one.count for state, one in states.items()}
    cents = {state: one.amount_cents for state, one in states.items()}
    yield _by("state", "kasoko_payouts", "Payouts by state.", counts)
    yield _by("state", "kasoko_payouts_cents", "Their amounts in cents, by state.", cents)
    ended = {"completed": now.completed, "failed": now.failed}
    yield _by("how", "kasoko_payouts_ended_lately", "Payouts that ended within health.window_hours.", ended)
    if now.success_bps is not None:
        yield GaugeMetricFamily(
            "kasoko_payout_success_ratio", "Completed of those that ended within the window.", now.success_bps / 10_000
        )
    yield GaugeMetricFamily(
        "kasoko_payouts_failed_lately", "Payouts that failed within health.failed_minutes.", now.failed_lately
    )
    yield GaugeMetricFamily("kasoko_in_flight_cents", "Instructed, fate open, in cents.", now.in_flight_cents)
    yield GaugeMetricFamily("kasoko_in_flight_attempts", "Instructions whose fate is open.", now.in_flight)


def _time_metrics(now: Figures) -> Iterator[Metric]:
    yield GaugeMetricFamily("kasoko_unknown_payouts", "Payouts whose end nobody here knows.", now.unknown)
    yield _age("kasoko_unknown_age_seconds", "Age of the oldest unknown payout; 0 without one.", now, now.unknown_since)
    yield _age("kasoko_due_age_seconds", "How long the first due payout has been due; 0 without.", now, now.due_since)
    yield _age(
        "kasoko_result_awaited_seconds",
        "How long the oldest request that M-Pesa took waits for its result; 0 without one.",
        now,
        now.awaited_since,
    )
    if now.settled:
        last = now.settled[-1]
        yield GaugeMetricFamily(
            "kasoko_settlement_seconds", "Resolution to last payout final, of the latest market.", last.seconds
        )
        longest = max(one.seconds for one in now.settled)
        yield GaugeMetricFamily("kasoko_settlement_seconds_max", "The longest of the window.", longest)
    yield GaugeMetricFamily("kasoko_unsettled_markets", "Resolved, payouts not final.", len(now.unsettled))
    yield _age(
        "kasoko_unsettled_age_seconds",
        "How long ago the oldest of them was resolved; 0 without one.",
        now,
        min((one.resolved_at for one in now.unsettled), default=None),
    )
    for is_resolved, name, what in (
        (False, "unresolved", "Past their close with bets, and without an outcome"),
        (True, "never_settled", "Ended with bets, and without a settlement"),
    ):
        waiting = [one.since for one in now.waiting_markets if one.is_resolved is is_resolved]
        yield GaugeMetricFamily(f"kasoko_{name}_markets", f"{what}.", len(waiting))
        yield _age(
            f"kasoko_{name}_age_seconds",
            f"{what}: since when, the oldest; 0 without one.",
            now,
            min(waiting, default=None),
        )
    if now.heard_at is not None:
        yield GaugeMetricFamily(
            "kasoko_listener_heard_timestamp_seconds", "When a result last arrived.", now.heard_at.timestamp()
        )


def _age(name: str, says: str, now: Figures, since: datetime | None) -> Metric:
    return GaugeMetricFamily(name, says, 0 if since is None else max(0.0, (now.at - since).total_seconds()))


def _call_metrics(calls: list[CallsRow], now: Figures) -> Iterator[Metric]:
    made = CounterMetricFamily(
        "kasoko_daraja_requests", "Requests to M-Pesa, by kind and how they were answered.", labels=["kind", "answered"]
    )
    took = HistogramMetricFamily(
        "kasoko_daraja_request_seconds", "How long M-Pesa took to answer, by kind.", labels=["kind"]
    )
    for kind in sorted({row.kind for row in calls}):
        rows = [row for row in calls if row.kind == kind]
        for row in rows:
            made.add_metric([kind, row.answered], row.count)
        within = [sum(row.within[place] for row in rows) for place in range(len(BUCKETS_MS))]
        total = sum(row.count for row in rows)
        buckets = [(str(bound / 1_000), float(count)) for bound, count in zip(BUCKETS_MS, within, strict=True)]
        took.add_metric([kind], [*buckets, ("+Inf", float(total))], sum(row.sum_ms for row in rows) / 1_000)
    yield made
    yield took
    if now.daraja_p95_ms is not None:
        yield GaugeMetricFamily(
            "kasoko_daraja_p95_seconds",
            "Within how long 95 of 100 requests were answered, of late.",
            now.daraja_p95_ms / 1_000,
        )


def _trouble_metrics(now: Figures) -> Iterator[Metric]:
    yield _by("kind", "kasoko_incidents_open", "Incidents nobody has closed, by kind.", now.incidents)
    total = sum(now.incidents.values())
    yield GaugeMetricFamily("kasoko_incidents", "Incidents that nobody has closed, of all kinds.", total)
    on = {one.name for one in now.switches}
    switches = {name: int(name in on) for name in ("pause", "breaker")}
    yield _by("switch", "kasoko_sending_stopped", "1 while this switch stops all sending.", switches)
    yield GaugeMetricFamily("kasoko_callbacks_waiting", "Results stored and not applied.", now.callbacks_waiting)
