"""The operator's schedule in an outage of M-Pesa: 120, 240, 480, 960, 1920 seconds, then FAILED, then by hand."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import httpx
import pytest

from kasoko_cli.errors import NotSent
from kasoko_cli.operations.payouts.run import Run
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.database import Database
from tests.conftest import CountedIds, FixedClock
from tests.operations.payout_harness import ANN, PayoutHarness

SCHEDULE_SECONDS = (120, 240, 480, 960, 1920)


def unreachable(request: httpx.Request) -> httpx.Response | None:
    """Nobody takes the connection, as when M-Pesa is down."""
    raise httpx.ConnectError("connection refused", request=request)


def unreachable_for_payments(request: httpx.Request) -> httpx.Response | None:
    """Only access tokens are still to be had."""
    return None if request.url.path.startswith("/oauth/") else unreachable(request)


@pytest.fixture
def cut_off(db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor) -> PayoutHarness:
    """Ann is owed KES 100, and M-Pesa cannot be reached to pay her."""
    harness = PayoutHarness(db, clock, new_id, actor)
    harness.owe({"ann": ANN})
    harness.interpose = unreachable_for_payments
    return harness


def tried(run: Run) -> list[tuple[str, str]]:
    return [(sent.payout_id, str(sent.became)) for sent in run.sent]


def test_an_outage_is_tried_again_after_120_240_480_960_and_1920_seconds_and_then_fails(cut_off: PayoutHarness) -> None:
    """Each run is a process of its own, as from cron: the schedule lives in the database."""
    harness, clock = cut_off, cut_off.clock
    payout_id = harness.payout("ann").id

    for wait_seconds in SCHEDULE_SECONDS:
        assert tried(harness.send()) == [(payout_id, "PENDING")]
        not_before = harness.payout("ann").not_before
        assert not_before is not None
        waits = not_before - clock()
        # Up to a tenth more, so that what failed together does not come back together; never less.
        assert timedelta(seconds=wait_seconds) <= waits <= timedelta(seconds=wait_seconds * 1.1)

        clock.now = not_before - timedelta(seconds=1)
        asked = len(harness.requests)
        early = harness.send()
        assert (tried(early), early.left, early.next_at) == ([], 1, not_before)
        assert len(harness.requests) == asked, "nothing leaves a second too early"
        clock.now = not_before

    assert tried(harness.send()) == [(payout_id, "FAILED")]
    failed = harness.payout("ann")
    assert (failed.tries, failed.failure_code, failed.not_before) == (6, "NOT_SENT", None)
    assert failed.failure_reason
    clock.forward(days=2)
    assert tried(harness.send()) == [], "a failure is tried again by a person only"
    harness.assert_agreed()


def test_after_the_schedule_a_retry_by_hand_pays_once_under_the_same_id(cut_off: PayoutHarness) -> None:
    harness = cut_off
    while harness.payout("ann").status == "PENDING":
        harness.send()
        harness.clock.now = harness.payout("ann").not_before or harness.clock.now
    assert harness.states("ann") == ("FAILED", ["REJECTED"])
    [attempt] = harness.attempts("ann")
    assert attempt.sends == 6

    harness.interpose = lambda request: None  # M-Pesa is back
    retried = harness.retry(only=[harness.payout("ann").id])
    assert (retried.retried, retried.left) == ([harness.payout("ann").id], [])
    assert tried(harness.send()) == [(harness.payout("ann").id, "SENT")]
    harness.deliver()

    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert harness.attempt("ann").id == attempt.id, "an id that M-Pesa never took is not spent"
    assert [(one["phone"], one["amount_cents"]) for one in harness.ledger()] == [(ANN, 10_000)]
    assert harness.wallet("ann") == (10_000, 0)
    harness.assert_agreed()


def test_a_new_schedule_begins_after_a_retry_by_hand(cut_off: PayoutHarness) -> None:
    harness = cut_off
    while harness.payout("ann").status == "PENDING":
        harness.send()
        harness.clock.now = harness.payout("ann").not_before or harness.clock.now
    harness.retry(only=[harness.payout("ann").id])

    harness.send()
    again = harness.payout("ann")
    assert (again.status, again.tries) == ("PENDING", 1)
    assert again.not_before is not None
    assert 120 <= (again.not_before - harness.clock()).total_seconds() <= 132


def test_a_run_that_stays_keeps_the_schedule_by_itself_though_its_token_dies_meanwhile(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    """The schedule is longer than the hour that a token lives, and the last try cannot even have a new one."""
    harness = PayoutHarness(db, clock, new_id, actor)
    harness.owe({"ann": ANN})
    harness.daraja.check_account()
    harness.interpose = unreachable
    moments: list[datetime] = []

    def time_passes() -> bool:
        """The run asks whether to stop each time it looks around; meanwhile its clock moves to the next due time."""
        not_before = harness.payout("ann").not_before
        if not_before is not None and clock() < not_before:
            early = not_before - timedelta(seconds=1)
            clock.now = early if clock() < early else not_before
        return False

    run = harness.send(stay=True, should_stop=time_passes, on_progress=lambda sent: moments.append(clock()))

    assert [str(sent.became) for sent in run.sent] == ["PENDING"] * 5 + ["FAILED"]
    waits = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(moments)]
    assert len(waits) == len(SCHEDULE_SECONDS)
    for waited, wanted in zip(waits, SCHEDULE_SECONDS, strict=True):
        assert wanted <= waited <= wanted * 1.1
    assert harness.payout("ann").failure_code == "NOT_SENT"
    assert harness.ledger() == []
    harness.assert_agreed()


def test_while_not_even_a_token_is_to_be_had_a_run_says_so_and_counts_no_try(cut_off: PayoutHarness) -> None:
    """Nothing could be tried, so nothing is used up: it is sent when M-Pesa is back."""
    harness = cut_off
    harness.interpose = unreachable
    before = harness.money()

    for _ in range(8):
        with pytest.raises(NotSent, match="cannot connect") as refused:
            harness.send()
        assert refused.value.exit_code == 6
        harness.clock.forward(hours=1)

    assert harness.money() == before
    assert harness.payout("ann").status == "PENDING"
    harness.interpose = lambda request: None
    assert tried(harness.send()) == [(harness.payout("ann").id, "SENT")]
    harness.deliver()
    harness.assert_agreed()
