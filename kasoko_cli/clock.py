"""Time and chance are handed in, so that a run can be told again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

#: Returns the time: always aware, always UTC.
Clock = Callable[[], datetime]

#: Makes a new identifier that nobody else has: lower-case hex.
NewId = Callable[[], str]

#: Kenya keeps UTC+3 all year and has done so since 1960; no time zone database is needed.
NAIROBI = timezone(timedelta(hours=3), "EAT")


#: How far apart the clocks of two hosts, or M-Pesa's and ours, may be before one of them is wrong.
CLOCKS_APART = timedelta(minutes=5)


def farthest(now: datetime, ahead: timedelta = timedelta(0)) -> datetime:
    """The latest time that can be stored by now, where what is stored was at most so far ahead of its writer's clock.

    A later one was written by a clock that was wrong. Nobody waits for it, and it is evidence of nothing.
    """
    return now + ahead + CLOCKS_APART


def is_over(until: datetime | None, now: datetime, longest: timedelta) -> bool:
    """Whether what was to last until then, and never lasts for longer than `longest`, is over."""
    return until is None or until < now or until > farthest(now, longest)


def system_clock() -> datetime:
    """The machine's time in UTC."""
    return datetime.now(UTC)


def random_id() -> str:
    """Sixteen hex digits from the operating system's source of chance."""
    return secrets.token_hex(8)


def iso(moment: datetime) -> str:
    """An ISO 8601 time in UTC with a Z, to the second: `2026-11-23T05:12:44Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def eat(moment: datetime) -> str:
    """A time as people read it, by a clock in Nairobi: `2026-12-01 15:00 EAT`."""
    return moment.astimezone(NAIROBI).strftime("%Y-%m-%d %H:%M EAT")


def nairobi_day(moment: datetime) -> tuple[datetime, datetime]:
    """The Nairobi calendar day that holds `moment`: its first instant and the next day's, in UTC."""
    local = moment.astimezone(NAIROBI)
    start = local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    return start, start + timedelta(days=1)


def boot_seconds() -> float | None:
    """Seconds since this machine started, those in which it was suspended included; None where no clock says so."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else None


class Lease:
    """A stretch of time that begins now, and is over as soon as any clock says so.

    The machine's time can be set back, and the clock since its start is not everywhere; a monotonic clock stands
    still while a laptop is suspended. So the more pessimistic one counts. Where there is only the machine's time,
    a step back ends it too: nobody knows how long it was then.
    """

    def __init__(self, clock: Clock, seconds: float, *, boot: Callable[[], float | None] = boot_seconds) -> None:
        self._clock, self._boot, self._seconds = clock, boot, seconds
        self._booted_at = boot()
        self.begun_at = clock()

    @property
    def ends_at(self) -> datetime:
        """When it is over by the machine's time."""
        return self.begun_at + timedelta(seconds=self._seconds)

    def passed(self) -> float:
        """Seconds since it began, by the clock that says most."""
        passed = (self._clock() - self.begun_at).total_seconds()
        now = self._boot()
        if now is not None and self._booted_at is not None:
            return max(passed, now - self._booted_at)
        return passed if passed >= 0 else float("inf")

    def remaining(self) -> float:
        """Seconds that are left; never below zero."""
        return max(0.0, self._seconds - self.passed())
