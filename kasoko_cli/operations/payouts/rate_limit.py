"""The one pace of a Daraja account, for all senders on all hosts: a row says when the next request may begin.

Who claims a group of payouts takes as many turns with one update, in the same transaction. Where M-Pesa says that it
is asked too often (a spike arrest), the pace is halved, and comes back by a tenth every ten seconds without another.
Turns are moments of the hosts' clocks: one that is off takes its turns too early or late, and no more of them.

Source: Daraja portal, error codes 500.003.02 and 500.003.03.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlmodel import Session

from kasoko_cli.store import rate_limits

#: A whole number of requests in so many seconds, so that no fraction of a request is lost in rounding.
UNIT_SECONDS = 1_000
#: Refusals of one burst slow it once: those that come within so many seconds are the same burst.
BURST_SECONDS = 2
#: How long nothing may have been refused before the pace rises again, and by which part of the full one.
RISE_AFTER_SECONDS, RISE_PARTS = 10, 10
#: It never gets slower than one request in ten seconds: else nobody would find out that it may be faster.
SLOWEST = UNIT_SECONDS // 10
#: No turn is ever further away: a later one was made by a clock that was wrong.
FARTHEST_SECONDS = 60


def take(session: Session, account: str, count: int, per_second: int, *, now: datetime) -> list[float]:
    """Take the next `count` turns of an account; returns how many seconds from now each one is.

    `per_second` is the full pace.
    """
    kept = rate_limits.lock(session, account)
    full = per_second * UNIT_SECONDS
    pace, changed_at = kept.per_1000_seconds, kept.changed_at and min(kept.changed_at, now)
    if pace is not None and changed_at is not None:
        risen = (now - changed_at) // timedelta(seconds=RISE_AFTER_SECONDS)
        if risen > 0:
            pace, changed_at = pace + risen * max(1, full // RISE_PARTS), now
    if pace is not None and pace >= full:
        pace = changed_at = None
    apart = UNIT_SECONDS / (pace or full)
    first = now
    if kept.next_at is not None and now < kept.next_at <= now + timedelta(seconds=FARTHEST_SECONDS):
        first = kept.next_at
    rate_limits.keep(
        session, account, next_at=first + timedelta(seconds=count * apart), per_1000_seconds=pace, changed_at=changed_at
    )
    wait_seconds = (first - now).total_seconds()
    return [wait_seconds + number * apart for number in range(count)]


def slow_down(session: Session, account: str, per_second: int, *, now: datetime) -> bool:
    """Halve the pace of an account, once for a burst; returns whether this call did it."""
    kept = rate_limits.lock(session, account)
    pace = kept.per_1000_seconds or per_second * UNIT_SECONDS
    if kept.changed_at is not None and abs(now - kept.changed_at) < timedelta(seconds=BURST_SECONDS):
        return False
    rate_limits.keep(session, account, next_at=kept.next_at, per_1000_seconds=max(SLOWEST, pace // 2), changed_at=now)
    return True
