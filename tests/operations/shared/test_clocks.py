"""A clock that ran a year ahead for a while: nothing that it wrote keeps anybody waiting, and nothing is paid twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from kasoko_cli.clock import CLOCKS_APART
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.operations.account import balances
from kasoko_cli.operations.account.access_tokens import DatabaseShelf
from kasoko_cli.operations.admin import preflight
from kasoko_cli.operations.approvals.second_person import USUAL, Declaration, hear
from kasoko_cli.operations.monitoring.metrics_snapshot import Spans, read_figures
from kasoko_cli.operations.payouts import rate_limit
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.run_registry import at_work
from kasoko_cli.store.attempts import LONGEST_LEASE
from kasoko_cli.store.monitoring import alerts
from kasoko_cli.store.schema.tables import Attempt, Payout, Query, RunRow
from tests.conftest import FixedClock
from tests.operations.payout_harness import ANN, AT_ONCE, BEN, PayoutHarness
from tests.operations.reconciliation.test_status_queries import status
from tests.operations.safeguards.test_failure_confirmation import APART, LARGE, PAYOUT, SMALL, asked_now, says, sent

pytestmark = pytest.mark.on_both

AHEAD = timedelta(days=365)


@contextmanager
def off(clock: FixedClock, by: timedelta = AHEAD) -> Iterator[None]:
    """The machine's clock is wrong, and somebody sets it right afterwards."""
    clock.now += by
    try:
        yield
    finally:
        clock.now -= by


def dies(_: httpx.Request) -> httpx.Response:
    """The process ends in the middle of a request."""
    raise KeyboardInterrupt


def refuses(request: httpx.Request) -> httpx.Response | None:
    """M-Pesa cannot be reached for a payment."""
    if "b2c" in request.url.path:
        raise httpx.ConnectError("no route", request=request)
    return None


def half_sent(harness: PayoutHarness, by: timedelta) -> None:
    """Ann's payout is being sent by a host whose clock is off, which dies meanwhile."""
    harness.owe({"ann": ANN})
    with off(harness.clock, by):
        harness.daraja.check_account()  # its token is another matter
        harness.interpose = dies
        with pytest.raises(KeyboardInterrupt):
            harness.send()
    assert harness.states("ann") == ("SENDING", ["INTENT"])
    harness.interpose = lambda _: None


def lease_ends(harness: PayoutHarness, after: timedelta) -> None:
    """Somebody holds the attempt for so long."""
    with harness.db.transaction() as session:
        session.execute(update(Attempt).values(lease_until=harness.clock() + after))


# --- Payments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [AHEAD, -AHEAD], ids=["ahead", "behind"])
def test_the_lease_of_a_wrong_clock_is_over_and_makes_unknown_which_is_asked_about_and_not_sent(
    harness: PayoutHarness, by: timedelta
) -> None:
    half_sent(harness, by)
    assert harness.send().reaped == 1
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"]), "never PENDING: the request may have left"
    assert harness.send().sent == []
    assert len(harness.reconcile().asked) == 1
    assert harness.ledger() == []


def test_a_host_whose_clock_is_behind_takes_a_living_senders_lease_and_sends_nothing(harness: PayoutHarness) -> None:
    half_sent(harness, timedelta(0))
    with off(harness.clock, -AHEAD):
        assert harness.send().reaped == 1
        assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    harness.clock.forward(86_400)
    assert harness.send().sent == []
    assert harness.ledger() == []


def test_the_lease_of_a_host_that_is_a_little_ahead_holds_and_so_does_the_longest(harness: PayoutHarness) -> None:
    half_sent(harness, CLOCKS_APART)
    assert harness.send().reaped == 0
    lease_ends(harness, LONGEST_LEASE + CLOCKS_APART)
    assert harness.send().reaped == 0
    assert harness.states("ann") == ("SENDING", ["INTENT"])
    lease_ends(harness, LONGEST_LEASE + CLOCKS_APART + timedelta(seconds=1))
    assert harness.send().reaped == 1
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_what_was_put_off_by_a_clock_that_ran_ahead_is_due(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    with off(harness.clock):
        harness.interpose = refuses
        harness.send()
    harness.interpose = lambda _: None
    assert set(harness.statuses().values()) == {"PENDING"}
    assert len(harness.send().sent) == 2
    harness.deliver()
    assert harness.paid_to(ANN) == harness.paid_to(BEN) == 10_000


def test_what_is_put_off_until_tomorrow_is_not_due_today(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    with harness.db.transaction() as session:
        session.execute(update(Payout).values(not_before=harness.clock() + timedelta(days=1)))
    assert harness.send().left == 1
    assert harness.ledger() == []


def test_what_a_clock_that_ran_ahead_sent_is_not_of_every_day_until_then(harness: PayoutHarness) -> None:
    policy = replace(AT_ONCE, daily_cents=10_000)
    harness.owe({"ann": ANN})
    with off(harness.clock):
        harness.send(policy)
        harness.deliver()
    harness.clock.forward(86_400)
    harness.owe({"ann": ANN}, market="second")
    assert len(harness.send(policy).sent) == 1
    harness.deliver()
    assert harness.paid_to(ANN) == 20_000


def test_what_a_clock_that_ran_ahead_sent_is_asked_about_now_and_then_on_the_ladder(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    with off(harness.clock):
        harness.send()
    harness.posts.clear()
    assert len(harness.reconcile(at_once=False, deliver=False).asked) == 1
    assert harness.reconcile(at_once=False, deliver=False).asked == []
    harness.clock.forward(3_600)
    assert len(harness.reconcile(at_once=False).asked) == 1


# --- Evidence -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cents", [SMALL, LARGE])
def test_a_question_that_a_clock_ahead_asked_confirms_nothing(harness: PayoutHarness, cents: int) -> None:
    sent(harness, cents)
    asked_now(harness)
    assert says(harness) == "failed"
    harness.clock.forward(1)
    with off(harness.clock):
        asked_now(harness)
        assert says(harness) == "failed"
    assert harness.retry().retried == [], "asked a second later, by a clock that says a year"
    harness.clock.forward(APART)
    assert len(harness.reconcile(at_once=False).asked) == 1, "its turn comes all the same"
    assert harness.retry().retried == []
    answer(harness, asked_last(harness))
    assert harness.retry().retried == [PAYOUT]


@pytest.mark.parametrize("cents", [SMALL, LARGE])
def test_a_no_of_a_clock_that_ran_ahead_is_confirmed_by_two_answers_after_it(
    harness: PayoutHarness, cents: int
) -> None:
    sent(harness, cents)
    with off(harness.clock):
        asked_now(harness)
        assert says(harness) == "failed"
    confirmed_by_two(harness)


def test_a_failure_posted_to_a_clock_that_ran_ahead_is_confirmed_by_two_answers_after_it(
    harness: PayoutHarness,
) -> None:
    sent(harness, LARGE)
    for _ in range(2):  # before it: they confirm nothing of what came later
        asked_now(harness)
        answer(harness, harness.queries()[-1], "Not found")
        harness.clock.forward(APART)
    attempt = harness.attempt("ann")
    with off(harness.clock):
        assert harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=26, receipt=None)) == "failed"
    confirmed_by_two(harness)


def confirmed_by_two(harness: PayoutHarness) -> None:
    """A failure that is dated a year ahead opens another payment once M-Pesa has said so twice, and not before."""
    assert harness.retry().retried == []
    for seconds in (0, 1, APART - 2):
        harness.clock.forward(seconds)
        asked_now(harness)
        answer(harness, asked_last(harness))
        assert harness.retry().retried == [], seconds
    harness.clock.forward(1)
    assert len(harness.reconcile(at_once=False).asked) == 1, "its turn has come by itself"
    answer(harness, asked_last(harness))
    assert harness.retry().retried == [PAYOUT]


def asked_last(harness: PayoutHarness) -> Query:
    """The latest question that is not dated later than now."""
    return max((one for one in harness.queries() if one.asked_at <= harness.clock()), key=lambda one: one.asked_at)


def answer(harness: PayoutHarness, question: Query, word: str = "Declined") -> None:
    """M-Pesa answers a question."""
    body = status(harness.attempt("ann"), TransactionStatus=word)
    harness.post(CallbackKind.STATUS, question.id, body)


def test_an_answer_to_a_question_of_a_clock_that_ran_ahead_waits_no_longer(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.send()
    attempt = harness.attempt("ann")
    with harness.db.transaction() as session:
        asked_at = harness.clock() + AHEAD
        session.add(Query(id="kq-1", kind="STATUS", attempt_id=attempt.id, asked_at=asked_at))
        session.add(Query(id="kq-2", kind="BALANCE", asked_at=asked_at))
    assert harness.post(CallbackKind.STATUS, "kq-1", b"{}") != "waits"
    assert harness.post(CallbackKind.BALANCE, "kq-2", b"{}") != "waits"


# --- Claims -------------------------------------------------------------------------------------------------------


def test_a_claim_on_the_token_of_a_clock_that_ran_ahead_is_over(harness: PayoutHarness) -> None:
    shelves = [DatabaseShelf(harness.db, harness.clock, harness.daraja.account, name) for name in ("alpha", "beta")]
    with off(harness.clock):
        assert shelves[0].claim_refresh(None)
    assert shelves[1].claim_refresh(None)
    assert not shelves[0].claim_refresh(None), "it is beta's now"


def test_a_pace_that_a_clock_that_ran_ahead_has_slowed_rises_and_can_be_slowed_again(harness: PayoutHarness) -> None:
    with off(harness.clock), harness.db.transaction() as session:
        assert rate_limit.slow_down(session, "app", 10, now=harness.clock())
    with harness.db.transaction() as session:
        assert rate_limit.slow_down(session, "app", 10, now=harness.clock())
    harness.clock.forward(3_600)
    with harness.db.transaction() as session:
        rate_limit.take(session, "app", 1, 10, now=harness.clock())
        assert rate_limit.take(session, "app", 2, 10, now=harness.clock()) == pytest.approx([0.1, 0.2])
    with off(harness.clock), harness.db.transaction() as session:
        rate_limit.slow_down(session, "app", 10, now=harness.clock())
    with harness.db.transaction() as session:
        rate_limit.take(session, "app", 1, 10, now=harness.clock())
    harness.clock.forward(3_600)
    with harness.db.transaction() as session:
        assert rate_limit.take(session, "app", 2, 10, now=harness.clock()) == pytest.approx([0, 0.1])


def test_a_run_that_was_heard_of_by_a_clock_that_ran_ahead_is_dead(harness: PayoutHarness) -> None:
    then = harness.clock() + AHEAD
    row = RunRow(
        id="old",
        command="payout",
        is_alone=True,
        host="alpha",
        pid=os.getpid(),
        actor="ann",
        started_at=then,
        heartbeat_at=then,
        doing="sending",
    )
    with harness.db.transaction() as session:
        session.add(row)
    with at_work(harness.context, harness.new_id, command="payout", host="alpha"):
        pass
    with harness.db.reading() as session:
        assert session.exec(select(RunRow.doing).where(col(RunRow.id) == "old")).one() == "died"


def test_a_claim_to_tell_people_of_a_clock_that_ran_ahead_is_over(harness: PayoutHarness) -> None:
    def claim() -> bool:
        now = harness.clock()
        with harness.db.transaction() as session:
            return alerts.claim(session, "k", mark="1", what="it", now=now, until=now + alerts.LONGEST_CLAIM)

    with off(harness.clock):
        assert claim()
    assert claim()
    assert not claim()


def test_a_first_word_of_a_clock_that_ran_ahead_counts_for_nothing(harness: PayoutHarness) -> None:
    def say(actor: str) -> str | None:
        now = harness.clock()
        with harness.db.transaction() as session:
            return hear(session, Actor(actor, "so"), USUAL, Declaration("a", "s", {}), at=now).first

    with off(harness.clock):
        assert say("ann") is None
    assert say("ben") is None
    assert say("cyn") == "ben"


# --- What people are shown ----------------------------------------------------------------------------------------


def test_a_balance_of_a_clock_that_ran_ahead_is_not_the_last_one(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    with off(harness.clock):
        harness.send()
        harness.deliver()
        with harness.db.reading() as session:
            assert balances.last_known(session, harness.clock()) is not None
    with harness.db.reading() as session:
        assert balances.last_known(session, harness.clock()) is None
    harness.owe({"ben": BEN}, market="second")
    harness.send()
    harness.deliver()
    with harness.db.reading() as session:
        known = balances.last_known(session, harness.clock())
    assert known is not None
    assert known.as_of <= harness.clock()


def test_a_failure_of_a_clock_that_ran_ahead_did_not_happen_lately(harness: PayoutHarness) -> None:
    sent(harness, SMALL)
    attempt = harness.attempt("ann")
    with off(harness.clock):
        harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=26, receipt=None))
        assert read_figures(harness.db, harness.clock, Spans()).failed_lately == 1
    found = read_figures(harness.db, harness.clock, Spans())
    assert (found.failed_lately, found.heard_at) == (0, None)


def test_doctor_names_what_is_dated_later_than_now(harness: PayoutHarness) -> None:
    def look() -> list[tuple[str, str]]:
        with harness.db.reading() as session:
            return [(one.says, one.remedy) for one in preflight.stored_times(session, harness.clock())]

    sent(harness, SMALL)
    assert look() == [("Nothing is dated later than now.", "")]
    with off(harness.clock):
        asked_now(harness)
    [(says_it, remedy)] = look()
    assert says_it.startswith("A clock ran ahead, or this one is behind: 1 questions")
    assert "kasoko reconcile --now" in remedy
