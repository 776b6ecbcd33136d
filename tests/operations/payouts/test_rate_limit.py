"""Claims about the one pace of a Daraja account."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from kasoko_cli.operations.account.access_tokens import account_key
from kasoko_cli.operations.payouts import rate_limit
from kasoko_cli.operations.payouts.run import SendPolicy
from kasoko_cli.store.engine.database import Database
from tests.conftest import FixedClock
from tests.operations.payout_harness import PayoutHarness

pytestmark = pytest.mark.on_both


def take(db: Database, clock: FixedClock, count: int, per_second: int = 10) -> list[float]:
    with db.transaction() as session:
        return [round(seconds, 3) for seconds in rate_limit.take(session, "app", count, per_second, now=clock())]


def slow_down(db: Database, clock: FixedClock, per_second: int = 10) -> bool:
    with db.transaction() as session:
        return rate_limit.slow_down(session, "app", per_second, now=clock())


def test_turns_of_all_senders_follow_each_other(db: Database, clock: FixedClock) -> None:
    assert take(db, clock, 3) == [0, 0.1, 0.2]
    assert take(db, clock, 2) == [0.3, 0.4], "another host takes the next ones"
    clock.forward(0.25)
    assert take(db, clock, 1) == [0.25]
    clock.forward(60)
    assert take(db, clock, 2) == [0, 0.1], "turns that nobody took are gone"


def test_a_turn_made_by_a_clock_that_was_wrong_keeps_nobody_waiting(db: Database, clock: FixedClock) -> None:
    clock.forward(hours=5)
    take(db, clock, 1)
    clock.forward(hours=-5)
    assert take(db, clock, 1) == [0]


def test_a_spike_arrest_halves_the_pace_once_for_a_burst_and_it_comes_back_by_tenths(
    db: Database, clock: FixedClock
) -> None:
    take(db, clock, 1)
    assert slow_down(db, clock)
    assert not slow_down(db, clock), "the same burst"
    clock.forward(rate_limit.BURST_SECONDS)
    assert take(db, clock, 2) == [0, 0.2]
    assert slow_down(db, clock)
    clock.forward(5)
    assert take(db, clock, 2) == [0, 0.4]
    clock.forward(5)
    assert take(db, clock, 2) == [0, round(1 / 3.5, 3)], "ten seconds without another: one more a second"
    clock.forward(30)
    assert take(db, clock, 2) == [0, round(1 / 6.5, 3)]
    clock.forward(40)
    assert take(db, clock, 2) == [0, 0.1], "never faster than the full pace"


def test_it_never_gets_slower_than_one_in_ten_seconds(db: Database, clock: FixedClock) -> None:
    for _ in range(12):
        slow_down(db, clock)
        clock.forward(rate_limit.BURST_SECONDS)
    assert take(db, clock, 2) == [0, 10]


@pytest.mark.parametrize(
    ("code", "text"), [("500.003.02", "Spike Arrest Violation"), ("500.003.03", "Quota Violation")]
)
def test_a_run_that_is_told_to_slow_down_slows_everybody(harness: PayoutHarness, code: str, text: str) -> None:
    harness.owe({"ann": "254712000111", "ben": "254712000222"})
    refused = iter([True])

    def spike(request: httpx.Request) -> httpx.Response | None:
        if "/b2c/" in request.url.path and next(refused, False):
            return httpx.Response(500, json={"requestId": "1", "errorCode": code, "errorMessage": text})
        return None

    harness.interpose = spike
    run = harness.send(SendPolicy(rate_per_second=100, concurrency=1))
    assert [str(sent.became) for sent in run.sent] == ["SENT", "SENT"], "the same id went again"
    harness.clock.forward(1)
    with harness.db.transaction() as session:
        turns = rate_limit.take(
            session, account_key(harness.daraja.account), 2, 100, now=harness.clock() + timedelta(seconds=1)
        )
    assert turns == [0, 0.02]


def test_the_smallest_go_first_where_that_is_wanted(harness: PayoutHarness) -> None:
    harness.owe({"ann": "254712000111"}, cents=30_000)
    harness.owe({"ben": "254712000222"}, cents=10_000, market="replay")
    harness.owe({"cyn": "254712000333"}, cents=20_000, market="third")
    run = harness.send(SendPolicy(rate_per_second=0, concurrency=1, smallest_first=True))
    assert [sent.user_id for sent in run.sent] == ["ben", "cyn", "ann"]
