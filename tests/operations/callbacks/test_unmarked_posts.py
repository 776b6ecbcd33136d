"""Claims about posts without our mark: never believed, and answered by a question to M-Pesa."""

from __future__ import annotations

import httpx
import pytest

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.domain.payout import PayoutStatus
from tests.operations.payout_harness import ANN, PayoutHarness
from tests.operations.reconciliation.test_status_queries import answering, status


@pytest.fixture
def sent(harness: PayoutHarness) -> PayoutHarness:
    """Ann is owed and M-Pesa has taken it; its own result is lost."""
    harness.owe({"ann": ANN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    return harness


def test_a_hint_moves_nothing_and_is_asked_about_at_once_and_once(sent: PayoutHarness) -> None:
    """As M-Pesa posts to the operator's old address: there is no mark in it, and none of ours in the path."""
    attempt, before = sent.attempt("ann"), sent.money()
    assert sent.reconcile(at_once=False).asked == [], "its turn is in five minutes"
    sent.clock.forward(1)
    assert sent.post(CallbackKind.RESULT, "", sent.result(attempt), signed=False) == "hint"
    assert sent.money() == before
    assert sent.states("ann") == ("SENT", ["ACCEPTED"])

    sent.clock.forward(1)
    assert [one.attempt_id for one in sent.reconcile(at_once=False, deliver=False).asked] == [attempt.id]
    sent.clock.forward(1)
    assert sent.reconcile(at_once=False, deliver=False).asked == [], "one hint, one question"
    sent.deliver()
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    sent.assert_agreed()


@pytest.mark.parametrize("kind", [CallbackKind.RESULT, CallbackKind.TIMEOUT])
def test_a_hint_of_failure_or_of_a_full_queue_is_asked_about_and_fails_nothing(
    sent: PayoutHarness, kind: CallbackKind
) -> None:
    attempt = sent.attempt("ann")
    assert sent.post(kind, "", sent.result(attempt, code=2040), signed=False) == "hint"
    assert sent.states("ann") == ("SENT", ["ACCEPTED"])
    assert len(sent.reconcile(at_once=False).asked) == 1
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    sent.assert_agreed()


@pytest.mark.parametrize("originator", ["ks-0000000000000000", None, "' OR 1=1 --"])
def test_a_hint_that_names_nothing_of_ours_asks_nothing(sent: PayoutHarness, originator: str | None) -> None:
    attempt = sent.attempt("ann")
    assert sent.post(CallbackKind.RESULT, "", sent.result(attempt, originator=originator), signed=False) == "hint"
    assert sent.reconcile(at_once=False).asked == []


def test_a_hint_is_asked_about_again_where_m_pesa_did_not_take_the_question(sent: PayoutHarness) -> None:
    sent.post(CallbackKind.RESULT, "", sent.result(sent.attempt("ann")), signed=False)
    sent.interpose = _question_refused
    assert [one.taken for one in sent.reconcile(at_once=False).asked] == [False]
    sent.interpose = lambda request: None
    sent.clock.forward(1)
    assert [one.taken for one in sent.reconcile(at_once=False).asked] == [True]


def _question_refused(request: httpx.Request) -> httpx.Response | None:
    if "transactionstatus" not in request.url.path:
        return None
    return httpx.Response(400, json={"errorCode": "400.003.02", "errorMessage": "Bad Request"})


def test_a_hint_that_what_failed_was_paid_puts_another_payment_off_until_m_pesa_has_answered(
    sent: PayoutHarness,
) -> None:
    """M-Pesa had said that it failed, by every factor; the truth comes without a mark, when it is due again."""
    attempt = sent.attempt("ann")
    sent.post(CallbackKind.RESULT, attempt.id, sent.result(attempt, code=26, receipt=None))
    assert sent.retry().retried == ["derby.1.1"]
    sent.clock.forward(1)
    sent.post(CallbackKind.RESULT, "", sent.result(attempt), signed=False)
    assert sent.incidents() == ["contradiction"]

    run = sent.send()
    assert (run.sent, run.held) == ([], 1)
    assert sent.payout("ann").status is PayoutStatus.PENDING
    assert "M-Pesa has not answered since" in (sent.payout("ann").note or "")
    sent.clock.forward(1)
    assert len(sent.reconcile(at_once=False).asked) == 1
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"]), "M-Pesa, asked, says that it had paid"
    assert sent.incidents() == ["contradiction", "late_success"]
    assert len(sent.ledger()) == 1
    sent.assert_agreed()


def test_a_hint_that_m_pesa_denies_holds_the_payout_back_no_longer(sent: PayoutHarness) -> None:
    """A stranger who knows an id of ours posts that it was paid: a question answers it, and the payout goes on."""
    attempt = sent.attempt("ann")
    sent.post(CallbackKind.RESULT, attempt.id, sent.result(attempt, code=26, receipt=None))
    assert sent.retry().retried == ["derby.1.1"]
    sent.clock.forward(1)
    sent.post(CallbackKind.RESULT, "", sent.result(attempt), signed=False)
    assert sent.send().held == 1
    sent.clock.forward(1)
    answering(sent)
    [asked] = sent.reconcile(at_once=False).asked
    said = status(attempt, TransactionStatus="Declined")
    assert sent.post(CallbackKind.STATUS, asked.query_id, said) == "failed"
    sent.interpose = lambda request: None
    assert sent.send().sent == [], "it was put off for some minutes"
    sent.clock.forward(300)
    assert [one.payout_id for one in sent.send().sent] == ["derby.1.1"]
    assert sent.incidents() == ["contradiction"], "a person may still read it"
    sent.assert_books()
