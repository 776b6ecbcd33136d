"""Claims about what opens a second payment: a negative is asked twice, and above the limit held against another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kasoko_cli.clock import eat
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.payouts.manual_decision import Decision
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from tests.operations.payout_harness import ANN, PayoutHarness
from tests.operations.reconciliation.test_status_queries import answering, lost, status

PAYOUT = "derby.1.1"
#: The limit is KES 10,000: a payout below it, and one above.
SMALL, LARGE = 100_000, 2_000_000
#: How far apart two answers lie.
APART = 300


def sent(harness: PayoutHarness, cents: int) -> PayoutHarness:
    """Ann's payout was taken, and its result is left to the test."""
    harness.owe({"ann": ANN}, cents=cents)
    harness.send()
    harness.posts.clear()
    return harness


def asked_now(harness: PayoutHarness) -> int:
    """How many questions a round asks that asks everything it may."""
    answering(harness)
    return len(harness.reconcile(at_once=True).asked)


def says(harness: PayoutHarness, word: str | None = "Declined", **changes: Any) -> str:
    """M-Pesa answers the latest question."""
    return harness.post(
        CallbackKind.STATUS, harness.queries()[-1].id, status(harness.attempt("ann"), TransactionStatus=word, **changes)
    )


def why_not(harness: PayoutHarness) -> tuple[str, str]:
    """Why the payout is left alone, and what to type."""
    report = harness.retry()
    assert report.retried == []
    [left] = report.left
    return left.why, left.hint


@pytest.mark.parametrize("cents", [SMALL, LARGE])
def test_one_declined_opens_no_second_payment_and_the_same_again_after_a_while_does(
    harness: PayoutHarness, cents: int
) -> None:
    sent(harness, cents)
    assert asked_now(harness) == 1
    first = harness.clock()
    assert says(harness) == "failed"
    from_at = first + timedelta(seconds=APART)
    assert why_not(harness) == (
        "M-Pesa has answered once that it was not paid, and has to say so again",
        f"Ask M-Pesa, from {eat(from_at)} on: kasoko reconcile --now",
    )
    harness.clock.forward(1)
    assert asked_now(harness) == 1
    assert says(harness) == "failed"
    assert harness.retry().retried == [], "an answer that comes at once confirms nothing"
    report = harness.reconcile(at_once=False)
    assert (report.not_yet, report.next_at) == (1, from_at)
    harness.clock.forward(APART - 1)
    assert len(harness.reconcile(at_once=False).asked) == 1, "its turn has come by itself"
    assert harness.retry().retried == [], "asked is not answered"
    assert says(harness) == "failed"
    assert harness.retry().retried == [PAYOUT]
    harness.assert_books()


def test_a_completed_after_a_declined_wins_before_anything_is_sent_again(harness: PayoutHarness) -> None:
    sent(harness, LARGE)
    asked_now(harness)
    assert says(harness) == "failed"
    harness.clock.forward(APART)
    assert asked_now(harness) == 1
    assert says(harness, "Completed") == "paid"
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert harness.incidents() == ["late_success"]


def test_a_declined_that_is_followed_by_another_word_confirms_nothing(harness: PayoutHarness) -> None:
    sent(harness, SMALL)
    asked_now(harness)
    says(harness)
    for changes in ({"TransactionStatus": "Initiated"}, {"code": 2033}, {"conversation": None}):
        harness.clock.forward(100_000)
        assert asked_now(harness) == 1
        harness.post(CallbackKind.STATUS, harness.queries()[-1].id, status(harness.attempt("ann"), **changes))
        assert harness.retry().retried == [], changes


def test_a_declined_and_a_failed_result_are_two_kinds(harness: PayoutHarness) -> None:
    sent(harness, LARGE)
    asked_now(harness)
    says(harness)
    attempt = harness.attempt("ann")
    assert harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=26, receipt=None)) == "failed"
    assert harness.retry().retried == [PAYOUT]
    harness.assert_books()


@pytest.mark.parametrize(("cents", "left"), [(SMALL, []), (LARGE, [PAYOUT])])
def test_a_failed_result_above_the_limit_needs_an_answer_some_time_after(
    harness: PayoutHarness, cents: int, left: list[str]
) -> None:
    sent(harness, cents)
    attempt = harness.attempt("ann")
    harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=26, receipt=None))
    report = harness.retry()
    assert [one.payout_id for one in report.left] == left
    if not left:
        return
    assert asked_now(harness) == 1
    assert says(harness) == "failed"
    assert harness.retry().retried == [], "it was asked in the same breath"
    harness.clock.forward(APART)
    assert asked_now(harness) == 1
    assert says(harness) == "failed"
    assert harness.retry().retried == [PAYOUT]
    harness.assert_books()


def test_a_persons_word_above_the_limit_is_held_against_m_pesas(harness: PayoutHarness) -> None:
    sent(harness, LARGE)
    attempt = harness.attempt("ann")
    harness.post(CallbackKind.TIMEOUT, attempt.id, b"{}")
    manual_decision.decide(
        OperationContext(harness.db, harness.clock, Actor("boss", "the portal")),
        payout_id=PAYOUT,
        decision=Decision(None, "the portal"),
    )
    assert "a person's word is held against M-Pesa's" in why_not(harness)[0]
    assert asked_now(harness) == 1
    assert says(harness) == "failed"
    assert harness.retry().retried == [PAYOUT]
    harness.assert_books()


def test_a_persons_word_stands_alone_where_m_pesa_does_not_answer(harness: PayoutHarness) -> None:
    sent(harness, LARGE)
    attempt = harness.attempt("ann")
    harness.post(CallbackKind.TIMEOUT, attempt.id, b"{}")
    manual_decision.decide(
        OperationContext(harness.db, harness.clock, Actor("boss", "the portal")),
        payout_id=PAYOUT,
        decision=Decision(None, "the portal"),
    )
    for _ in range(3):
        assert harness.retry().retried == []
        assert asked_now(harness) == 1
        harness.clock.forward(100_000)
    assert harness.retry().retried == [PAYOUT]


def test_what_goes_again_under_its_own_id_needs_no_confirmation(harness: PayoutHarness) -> None:
    """M-Pesa refuses the id if it had taken it: that opens no second payment."""
    lost(harness)
    manual_decision.decide(
        OperationContext(harness.db, harness.clock, Actor("boss", "x")), payout_id=PAYOUT, decision=Decision(None, "x")
    )
    assert harness.states("ann") == ("FAILED", ["REJECTED"])
    assert harness.retry(confirm_above_cents=0).retried == [PAYOUT]


def test_where_the_setting_is_nought_one_declined_is_enough_below_the_limit_and_two_above(
    harness: PayoutHarness,
) -> None:
    sent(harness, SMALL)
    asked_now(harness)
    says(harness)
    assert harness.retry(confirm_apart_seconds=0, confirm_above_cents=SMALL - 1).retried == []
    assert harness.retry(confirm_apart_seconds=0).retried == [PAYOUT]
