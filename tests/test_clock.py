"""Claims about time: a lease is over as soon as any clock says so."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kasoko_cli.clock import Lease, boot_seconds
from tests.conftest import FixedClock


class Boot:
    """The clock since the machine started, where there is one."""

    def __init__(self, *, there: bool = True) -> None:
        self.now: float | None = 1_000.0 if there else None

    def __call__(self) -> float | None:
        return self.now

    def forward(self, seconds: float) -> None:
        if self.now is not None:
            self.now += seconds


@pytest.mark.parametrize(
    ("wall", "boot", "left"),
    [
        pytest.param(60, 60, 240, id="both run"),
        pytest.param(60, 400, 0, id="the time was set back while the machine slept"),
        pytest.param(400, 60, 0, id="a virtual machine was paused, and the time set right"),
        pytest.param(-3_600, 60, 240, id="the time was set back"),
    ],
)
def test_the_clock_that_leaves_fewest_seconds_counts(wall: float, boot: float, left: float) -> None:
    clock, since = FixedClock(), Boot()
    lease = Lease(clock, 300, boot=since)
    clock.forward(wall)
    since.forward(boot)
    assert lease.remaining() == left
    assert lease.ends_at == FixedClock()() + timedelta(seconds=300)


@pytest.mark.parametrize(("wall", "left"), [(60, 240), (400, 0), (-1, 0)])
def test_where_there_is_only_the_machines_time_a_step_back_ends_a_lease_too(wall: float, left: float) -> None:
    clock = FixedClock()
    lease = Lease(clock, 300, boot=Boot(there=False))
    clock.forward(wall)
    assert lease.remaining() == left


def test_on_linux_there_is_a_clock_that_counts_a_suspend() -> None:
    found = boot_seconds()
    assert found is None or found > 0
