"""An outage in the middle of a run: a few become questions, and the rest never leaves."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import httpx
import pytest
from sqlalchemy import text

from kasoko_cli.operations.payouts import sending
from kasoko_cli.operations.payouts.outage import UNKNOWN_STOPS_AFTER
from kasoko_cli.operations.payouts.run import Run, SendPolicy, Stop
from kasoko_cli.operations.payouts.run_report import ends_of, exit_code_of
from tests.operations.payout_harness import PayoutHarness
from tests.operations.payouts.test_sending import PAYS, ids_sent, people, refused

GATEWAY_DOWN = httpx.Response(504, text="<html>Gateway Timeout</html>")


class Outage:
    """M-Pesa answers the first requests, then nothing it says is clear, for so many requests."""

    def __init__(self, after: int, lasts: int = 10**6, *, how: Callable[[], httpx.Response] | None = None) -> None:
        self.after, self.lasts, self.how = after, lasts, how
        self.asked = 0
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAYS:
            return None
        with self._lock:
            self.asked += 1
            is_on = self.after < self.asked <= self.after + self.lasts
        if not is_on:
            return None
        if self.how is not None:
            return self.how()
        return httpx.Response(GATEWAY_DOWN.status_code, text=GATEWAY_DOWN.text)


def counted(run: Run) -> Counter[str]:
    return Counter(str(sent.became) for sent in run.sent)


def test_an_outage_stops_a_run_after_three_unknown_in_a_row(harness: PayoutHarness) -> None:
    harness.owe(people(24))
    harness.interpose = Outage(after=2)
    run = harness.send()
    assert counted(run) == {"SENT": 2, "UNKNOWN": UNKNOWN_STOPS_AFTER}
    assert (run.stopped, run.left) == (Stop.UNKNOWN, 24 - 2 - UNKNOWN_STOPS_AFTER)
    assert exit_code_of(run, ends_of(harness.db, run)) == 7
    assert Counter(harness.statuses().values()) == {"SENT": 2, "UNKNOWN": 3, "PENDING": 19}
    harness.assert_books()


def test_of_many_senders_each_has_at_most_one_under_way_when_the_run_stops(harness: PayoutHarness) -> None:
    """What was claimed ahead of the senders is given back unsent."""
    harness.owe(people(60))
    harness.interpose = Outage(after=20)
    run = harness.send(SendPolicy(rate_per_second=0, concurrency=4))
    unknown = counted(run)["UNKNOWN"]
    assert UNKNOWN_STOPS_AFTER <= unknown <= UNKNOWN_STOPS_AFTER + 3
    assert run.stopped is Stop.UNKNOWN
    assert len(ids_sent(harness)) == 20 + unknown
    assert Counter(harness.statuses().values()) == {"SENT": 20, "UNKNOWN": unknown, "PENDING": 40 - unknown}
    with harness.db.reading() as session:
        assert session.execute(text("SELECT sum(tries) FROM payouts")).scalar() == 0
    harness.assert_books()


def test_a_clear_answer_in_between_begins_the_count_anew(harness: PayoutHarness) -> None:
    harness.owe(people(9))
    turns = iter([False, False, True] * 3)

    def two_of_three(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAYS or next(turns):
            return None
        return httpx.Response(504, text="x")

    harness.interpose = two_of_three
    run = harness.send()
    assert (counted(run), run.stopped) == ({"UNKNOWN": 6, "SENT": 3}, Stop.DONE)


def test_a_network_that_breaks_now_before_and_now_after_the_request_is_an_outage_too(harness: PayoutHarness) -> None:
    harness.owe(people(9))
    turns = iter([True, False, False] + [True] * 99)

    def flaps(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAYS:
            return None
        if next(turns):
            raise httpx.ReadTimeout("no answer")
        return refused(request)

    harness.interpose = flaps
    run = harness.send(daraja=harness.client(sends=1))
    assert (counted(run), run.stopped) == ({"UNKNOWN": 1, "PENDING": 2}, Stop.UNKNOWN)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_run_that_stays_holds_and_sends_single_ones_until_m_pesa_answers_again(
    harness: PayoutHarness, concurrency: int
) -> None:
    harness.owe(people(24))
    outage = Outage(after=4, lasts=8)
    harness.interpose = outage
    policy = SendPolicy(rate_per_second=0, concurrency=concurrency, probe_after_seconds=(0.01, 0.02))
    run = harness.send(policy, stay=True)
    assert (counted(run), run.stopped, run.left) == ({"SENT": 16, "UNKNOWN": 8}, Stop.DONE, 0)
    harness.interpose = lambda request: None
    harness.posts.clear()


def test_a_run_that_holds_can_be_stopped(harness: PayoutHarness) -> None:
    harness.owe(people(9))
    harness.interpose = Outage(after=0)
    policy = SendPolicy(rate_per_second=0, concurrency=1, probe_after_seconds=(600,))
    sent: list[object] = []
    run = harness.send(policy, stay=True, on_progress=sent.append, should_stop=lambda: len(sent) >= UNKNOWN_STOPS_AFTER)
    assert (counted(run), run.stopped, run.left) == ({"UNKNOWN": 3}, Stop.INTERRUPTED, 6)
    run = harness.send(policy, stay=True, max_seconds=1)
    assert (counted(run), run.stopped, run.left) == ({"UNKNOWN": 1}, Stop.TIME, 5)


def test_the_next_run_sends_a_single_one_first_and_goes_on_when_that_is_answered(harness: PayoutHarness) -> None:
    """A cron job in an hour's outage asks one payout a run, and not three."""
    harness.owe(people(12))
    harness.interpose = Outage(after=0, lasts=UNKNOWN_STOPS_AFTER + 2)
    fast = SendPolicy(rate_per_second=0, concurrency=1)
    assert counted(harness.send(fast)) == {"UNKNOWN": 3}
    assert sending.is_outage(harness.db, harness.clock, fast), "a task of Celery sends nothing now"
    for _ in range(2):
        run = harness.send(SendPolicy(rate_per_second=0, concurrency=4))
        assert (counted(run), run.stopped) == ({"UNKNOWN": 1}, Stop.UNKNOWN)
    harness.clock.forward(61)
    assert not sending.is_outage(harness.db, harness.clock, fast), "one may see whether M-Pesa answers again"
    run = harness.send(SendPolicy(rate_per_second=0, concurrency=4))
    assert (counted(run), run.stopped, run.left) == ({"SENT": 7}, Stop.DONE, 0)
    assert not sending.is_outage(harness.db, harness.clock, fast)
