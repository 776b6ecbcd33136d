"""Claims about what opens a second payment: a negative is asked twice, and above the limit held against another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kasoko_cli.clock import iso
from kasoko_cli.daraja.callback_urls import Kind
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.payouts.manual_decision import Decision
from kasoko_cli.operations.shared.actor import Act
from kasoko_cli.operations.shared.context import OperationContext
from tests.operations.reconciliation.test_status_queries import answering, lost, status
from tests.operations.road import ANN, Road

PAYOUT = "derby.1.1"
#: The limit is KES 10,000: a payout below it, and one above.
SMALL, LARGE = 100_000, 2_000_000
#: How far apart two answers lie.
APART = 300


def sent(road: Road, cents: int) -> Road:
    """Ann's payout was taken, and its result is left to the test."""
    road.owe({"ann": ANN}, cents=cents)
    road.send()
    road.posts.clear()
    return road


def asked_now(road: Road) -> int:
    """How many questions a round asks that asks everything it may."""
    answering(road)
    return len(road.reconcile(at_once=True).asked)


def says(road: Road, word: str | None = "Declined", **changes: Any) -> str:
    """M-Pesa answers the latest question."""
    return road.post(Kind.STATUS, road.queries()[-1].id, status(road.attempt("ann"), TransactionStatus=word, **changes))


def why_not(road: Road) -> tuple[str, str]:
    """Why the payout is left alone, and what to type."""
    report = road.retry()
    assert report.retried == []
    [left] = report.left
    return left.why, left.hint


@pytest.mark.parametrize("cents", [SMALL, LARGE])
def test_one_declined_opens_no_second_payment_and_the_same_again_after_a_while_does(road: Road, cents: int) -> None:
    sent(road, cents)
    assert asked_now(road) == 1
    first = road.clock()
    assert says(road) == "failed"
    from_at = first + timedelta(seconds=APART)
    assert why_not(road) == (
        "M-Pesa has answered once that it was not paid, and has to say so again",
        f"Ask M-Pesa, from {iso(from_at)} on: kasoko reconcile --now",
    )
    road.clock.forward(1)
    assert asked_now(road) == 1
    assert says(road) == "failed"
    assert road.retry().retried == [], "an answer that comes at once confirms nothing"
    report = road.reconcile(at_once=False)
    assert (report.not_yet, report.next_at) == (1, from_at)
    road.clock.forward(APART - 1)
    assert len(road.reconcile(at_once=False).asked) == 1, "its turn has come by itself"
    assert road.retry().retried == [], "asked is not answered"
    assert says(road) == "failed"
    assert road.retry().retried == [PAYOUT]
    road.assert_books()


def test_a_completed_after_a_declined_wins_before_anything_is_sent_again(road: Road) -> None:
    sent(road, LARGE)
    asked_now(road)
    assert says(road) == "failed"
    road.clock.forward(APART)
    assert asked_now(road) == 1
    assert says(road, "Completed") == "paid"
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert road.incidents() == ["late_success"]


def test_a_declined_that_is_followed_by_another_word_confirms_nothing(road: Road) -> None:
    sent(road, SMALL)
    asked_now(road)
    says(road)
    for changes in ({"TransactionStatus": "Initiated"}, {"code": 2033}, {"conversation": None}):
        road.clock.forward(100_000)
        assert asked_now(road) == 1
        road.post(Kind.STATUS, road.queries()[-1].id, status(road.attempt("ann"), **changes))
        assert road.retry().retried == [], changes


def test_a_declined_and_a_failed_result_are_two_kinds(road: Road) -> None:
    sent(road, LARGE)
    asked_now(road)
    says(road)
    attempt = road.attempt("ann")
    assert road.post(Kind.RESULT, attempt.id, road.result(attempt, code=26, receipt=None)) == "failed"
    assert road.retry().retried == [PAYOUT]
    road.assert_books()


@pytest.mark.parametrize(("cents", "left"), [(SMALL, []), (LARGE, [PAYOUT])])
def test_a_failed_result_above_the_limit_needs_an_answer_some_time_after(
    road: Road, cents: int, left: list[str]
) -> None:
    sent(road, cents)
    attempt = road.attempt("ann")
    road.post(Kind.RESULT, attempt.id, road.result(attempt, code=26, receipt=None))
    report = road.retry()
    assert [one.payout_id for one in report.left] == left
    if not left:
        return
    assert asked_now(road) == 1
    assert says(road) == "failed"
    assert road.retry().retried == [], "it was asked in the same breath"
    road.clock.forward(APART)
    assert asked_now(road) == 1
    assert says(road) == "failed"
    assert road.retry().retried == [PAYOUT]
    road.assert_books()


def test_a_persons_word_above_the_limit_is_held_against_m_pesas(road: Road) -> None:
    sent(road, LARGE)
    attempt = road.attempt("ann")
    road.post(Kind.TIMEOUT, attempt.id, b"{}")
    manual_decision.decide(
        OperationContext(road.db, road.clock, Act("boss", "the portal")),
        payout_id=PAYOUT,
        decision=Decision(None, "the portal"),
    )
    assert "a person's word is held against M-Pesa's" in why_not(road)[0]
    assert asked_now(road) == 1
    assert says(road) == "failed"
    assert road.retry().retried == [PAYOUT]
    road.assert_books()


def test_a_persons_word_stands_alone_where_m_pesa_does_not_answer(road: Road) -> None:
    sent(road, LARGE)
    attempt = road.attempt("ann")
    road.post(Kind.TIMEOUT, attempt.id, b"{}")
    manual_decision.decide(
        OperationContext(road.db, road.clock, Act("boss", "the portal")),
        payout_id=PAYOUT,
        decision=Decision(None, "the portal"),
    )
    for _ in range(3):
        assert road.retry().retried == []
        assert asked_now(road) == 1
        road.clock.forward(100_000)
    assert road.retry().retried == [PAYOUT]


def test_what_goes_again_under_its_own_id_needs_no_confirmation(road: Road) -> None:
    """M-Pesa refuses the id if it had taken it: that opens no second payment."""
    lost(road)
    manual_decision.decide(
        OperationContext(road.db, road.clock, Act("boss", "x")), payout_id=PAYOUT, decision=Decision(None, "x")
    )
    assert road.states("ann") == ("FAILED", ["REJECTED"])
    assert road.retry(confirm_above_cents=0).retried == [PAYOUT]


def test_where_the_setting_is_nought_one_declined_is_enough_below_the_limit_and_two_above(road: Road) -> None:
    sent(road, SMALL)
    asked_now(road)
    says(road)
    assert road.retry(confirm_apart_seconds=0, confirm_above_cents=SMALL - 1).retried == []
    assert road.retry(confirm_apart_seconds=0).retried == [PAYOUT]
