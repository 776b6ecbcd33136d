"""The figures of one running listener, as Prometheus reads them. What the database knows is in `metrics.py`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kasoko_cli.daraja.connection_limits import Doors
from kasoko_cli.daraja.listener import Counts
from kasoko_cli.operations.callbacks.inbox import Inbox


def exposition(counts: Counts, inbox: Inbox, doors: Doors) -> bytes:
    """Every figure as it stands now, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Listener(counts, inbox, doors))
    return generate_latest(registry)


class _Listener(Collector):
    def __init__(self, counts: Counts, inbox: Inbox, doors: Doors) -> None:
        self._counts, self._inbox, self._doors = counts, inbox, doors

    def collect(self) -> Iterator[Metric]:
        """What came, what was refused and why, and what waits."""
        came = CounterMetricFamily("kasoko_listener_requests", "Requests by how they ended.", labels=["ended"])
        counts = self._counts
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
        yield CounterMetricFamily(
            "kasoko_listener_limited", "Misses answered with 429, among those missed.", value=counts.limited
        )
        yield CounterMetricFamily(
            "kasoko_listener_cut_off", "Connections cut off, late or to make room.", value=self._doors.cut_off
        )
        yield CounterMetricFamily("kasoko_listener_applied", "Callbacks applied here.", value=self._inbox.applied)
        yield GaugeMetricFamily("kasoko_listener_connections", "Connections now.", value=len(self._doors.open))
        yield GaugeMetricFamily("kasoko_listener_queued", "Callbacks that wait to be stored.", value=self._inbox.queued)
