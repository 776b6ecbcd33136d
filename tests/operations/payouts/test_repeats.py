"""Claims about an id that M-Pesa met twice: its repeat's acknowledgement is no measure for the first payment."""

from __future__ import annotations

from typing import Any

import pytest

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.simulator.app import SimulatorSettings
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.payouts.manual_decision import Decision
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt
from tests.conftest import CountedIds, FixedClock
from tests.operations.payout_harness import ANN, PayoutHarness
from tests.operations.reconciliation.test_status_queries import answering, asked, lost, status

#: The conversation of the payment that was made, as M-Pesa names it in a status answer.
FIRST = "AG_20261123_first000000000000000"


@pytest.fixture
def repeated(db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor) -> PayoutHarness:
    """M-Pesa paid, its answer was lost; a person erred, and the same id went again: taken, to be answered by a 15.

    The acknowledgement that stands is that of the repeat; what it owes waits in `posts`.
    """
    harness = lost(PayoutHarness(db, clock, new_id, actor, SimulatorSettings(duplicates="result")))
    person = Actor("boss", "the portal does not show it")
    manual_decision.decide(
        OperationContext(harness.db, harness.clock, person),
        payout_id="derby.1.1",
        decision=Decision(None, "the portal"),
    )
    assert harness.retry().retried == ["derby.1.1"]
    harness.send()
    attempt = harness.attempt("ann")
    assert (attempt.sends, str(attempt.status), harness.paid_to(ANN)) == (2, "ACCEPTED", 10_000)
    return harness


def answer(harness: PayoutHarness, **changes: Any) -> str:
    """M-Pesa is asked, and answers about the first payment."""
    answering(harness)
    query = asked(harness)
    return harness.post(
        CallbackKind.STATUS, query.id, status(harness.attempt("ann"), **{"ConversationID": FIRST, **changes})
    )


def once(harness: PayoutHarness) -> Attempt:
    """As a copy that was put back has it: this program knows of one send only."""
    with harness.db.transaction() as session:
        attempt = session.get(Attempt, harness.attempt("ann").id)
        assert attempt is not None
        attempt.sends = 1
        session.add(attempt)
    harness.books_hold_at_the_end = False
    return harness.attempt("ann")


def test_after_a_15_the_answer_that_names_the_first_payment_is_believed(repeated: PayoutHarness) -> None:
    assert [judged.verdict for judged in repeated.deliver()] == ["unclear"]
    assert repeated.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    repeated.reconcile()
    assert repeated.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert repeated.incidents() == []
    repeated.assert_agreed()


@pytest.mark.parametrize(("word", "became"), [("Completed", "COMPLETED"), ("Declined", "FAILED")])
def test_after_a_15_the_first_payments_end_is_known_whichever_it_was(
    repeated: PayoutHarness, word: str, became: str
) -> None:
    repeated.deliver()
    answer(repeated, TransactionStatus=word)
    assert repeated.payout("ann").status == became
    assert repeated.incidents() == []


def test_a_15_that_comes_when_the_end_is_unknown_already_counts_too(repeated: PayoutHarness) -> None:
    attempt = once(repeated)
    assert repeated.post(CallbackKind.TIMEOUT, attempt.id, {"Result": {}}) == "timeout"
    assert repeated.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    assert [judged.verdict for judged in repeated.deliver()] == ["unclear"]
    assert repeated.attempt("ann").met_before
    assert answer(repeated) == "paid"


def test_before_any_15_another_conversation_contradicts_what_was_sent_once(repeated: PayoutHarness) -> None:
    once(repeated)
    repeated.posts.clear()
    assert answer(repeated) == "mismatch"


def test_where_the_15_was_lost_a_paid_first_send_is_believed_and_an_unpaid_one_is_not(repeated: PayoutHarness) -> None:
    """That the first send did not pay leaves open what the last one did: no payout fails by that."""
    repeated.posts.clear()
    assert answer(repeated, TransactionStatus="Declined") == "hint"
    assert repeated.states("ann")[0] == "SENT"
    repeated.clock.forward(1)
    assert answer(repeated) == "paid"
    assert repeated.incidents() == []
    repeated.assert_books()


@pytest.mark.parametrize("code", [0, 26])
@pytest.mark.parametrize("is_told", [False, True])
def test_a_result_under_the_first_conversation_is_a_reason_to_ask_and_no_more(
    repeated: PayoutHarness, code: int, is_told: bool
) -> None:
    """A forged failure would open a second payment: only M-Pesa, asked, ends what was sent twice."""
    if is_told:
        repeated.deliver()
    attempt, before = repeated.attempt("ann"), repeated.money()
    for conversation in (FIRST, "AG_20261123_nobodys0000000000000"):
        body = repeated.result(
            attempt, code=code, conversation=conversation, receipt="UKN7A1B2C3" if not code else None
        )
        assert repeated.post(CallbackKind.RESULT, attempt.id, body) == "hint"
    assert repeated.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    assert repeated.money() == before
    assert repeated.incidents() == []
    repeated.posts.clear()
    repeated.reconcile()
    assert repeated.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    repeated.assert_agreed()


def test_after_a_refused_repeat_no_earlier_acknowledgement_is_a_measure(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    harness = lost(PayoutHarness(db, clock, new_id, actor))
    manual_decision.decide(
        OperationContext(harness.db, harness.clock, Actor("boss", "not there")),
        payout_id="derby.1.1",
        decision=Decision(None, "x"),
    )
    harness.retry()
    harness.send()
    attempt = harness.attempt("ann")
    assert (str(attempt.status), attempt.met_before) == ("UNKNOWN", True)
    assert answer(harness, TransactionStatus="Declined") == "failed"
    assert harness.incidents() == []
    harness.assert_books()


def test_without_a_measure_an_answer_that_does_not_name_our_id_says_nothing(repeated: PayoutHarness) -> None:
    repeated.deliver()
    for word in ("Completed", "Declined"):
        assert answer(repeated, TransactionStatus=word, OriginatorConversationID=None) == "hint"
        repeated.clock.forward(1)
    assert repeated.states("ann") == ("UNKNOWN", ["UNKNOWN"])
