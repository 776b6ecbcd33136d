"""Claims about incidents: one for each thing and kind; what is new after closing raises anew; an answer settles."""

from __future__ import annotations

import pytest

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.payouts.manual_decision import Which
from kasoko_cli.store.log import incidents_of, open_incidents, raise_incident
from kasoko_cli.store.schema.tables import Attempt
from tests.operations.payout_harness import ANN, BEN, PayoutHarness
from tests.operations.reconciliation.test_status_queries import answering, status

PAYOUT = "derby.1.1"


@pytest.fixture
def failed(harness: PayoutHarness) -> PayoutHarness:
    """Ann's payout was taken by M-Pesa, and failed by a result whose every factor holds."""
    harness.owe({"ann": ANN})
    harness.send()
    harness.posts.clear()
    attempt = harness.attempt("ann")
    assert harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=26, receipt=None)) == "failed"
    harness.clock.forward(1)
    return harness


def forge(harness: PayoutHarness, *, amount: int = 1, conversation: str = "acknowledged") -> str:
    """A stranger who knows the address posts a success of another amount; a second later it is the next moment."""
    attempt = harness.attempt("ann")
    verdict = harness.post(
        CallbackKind.RESULT, attempt.id, harness.result(attempt, amount=amount, conversation=conversation)
    )
    harness.clock.forward(1)
    return verdict


def answered(harness: PayoutHarness, attempt: Attempt, **changes: object) -> str:
    """M-Pesa is asked about it in the next round, whatever its turn, and says this; the verdict on that."""
    answering(harness)
    assert [one.attempt_id for one in harness.reconcile(at_once=False).asked] == [attempt.id]
    harness.clock.forward(1)
    verdict = harness.post(CallbackKind.STATUS, harness.queries()[-1].id, status(attempt, **changes))
    harness.clock.forward(1)
    return verdict


def close(harness: PayoutHarness) -> None:
    """A person has dealt with the one that stands."""
    numbers = manual_decision.list_incidents(harness.db, Which())
    assert manual_decision.close_incidents(harness.context, numbers=numbers) == numbers != []
    harness.clock.forward(1)


# --- One for each thing and kind ----------------------------------------------------------------------------------


def test_a_flood_of_forged_bodies_is_one_incident_that_counts_them(failed: PayoutHarness) -> None:
    begun = failed.clock()
    for n in range(20):
        assert forge(failed, amount=n + 1) == "mismatch"
    assert failed.post(CallbackKind.RESULT, failed.attempt("ann").id, b"no json") == "unreadable"
    assert failed.post(CallbackKind.RESULT, failed.attempt("ann").id, b"nor this") == "unreadable"
    flood, unreadable = failed.all_incidents()
    assert (flood.kind, flood.count, unreadable.kind, unreadable.count) == ("mismatch", 20, "unreadable", 2)
    assert flood.opened_at == begun
    assert (flood.last_at - begun).total_seconds() == 19
    assert "KES 1.00" in flood.what
    assert "KES 20.00" in flood.latest
    assert (flood.callback_id, flood.latest_callback_id) == (2, 21)
    failed.assert_books()


def test_a_callback_that_is_judged_anew_is_not_counted_anew(failed: PayoutHarness) -> None:
    forge(failed)
    [one] = failed.all_incidents()
    with failed.db.transaction() as session:
        raised = raise_incident(
            session, key=one.key, kind=one.kind, what=one.what, at=failed.clock(), callback_id=one.callback_id
        )
    assert not raised
    assert [incident.count for incident in failed.all_incidents()] == [1]


# --- What is new after closing ------------------------------------------------------------------------------------


def test_what_is_new_after_closing_raises_anew_and_what_was_dealt_with_does_not(failed: PayoutHarness) -> None:
    forge(failed, amount=1)
    forge(failed, amount=2)
    close(failed)
    assert forge(failed, amount=2) == "mismatch"
    assert failed.incidents() == [], "the same body, delivered again: a person has dealt with it"
    assert forge(failed, amount=3) == "mismatch"
    assert failed.incidents() == ["mismatch"]
    assert [(one.count, one.closed_at is None) for one in failed.all_incidents()] == [(2, False), (1, True)]
    failed.assert_books()


def test_a_second_contradiction_after_the_first_was_closed_is_not_swallowed(harness: PayoutHarness) -> None:
    """What M-Pesa paid, it says failed; a person closes that; then it says so again in other words."""
    harness.owe({"ann": ANN})
    harness.send()
    harness.deliver()
    attempt = harness.attempt("ann")
    for code in (26, 2040):
        body = harness.result(attempt, code=code, receipt=None)
        assert harness.post(CallbackKind.RESULT, attempt.id, body) == "failed"
        assert harness.incidents() == ["contradiction"], code
        harness.clock.forward(1)
        close(harness)
        assert harness.post(CallbackKind.RESULT, attempt.id, body) == "failed"
        assert harness.incidents() == [], "this very body is known"
    for n, receipt in enumerate(("UKN0000AAA", "UKN0000BBB")):
        assert harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, receipt=receipt)) == "paid"
        assert harness.incidents() == ["contradiction"], n
        close(harness)
    harness.assert_books()


def test_a_fact_that_is_its_own_evidence_is_raised_once_for_all(failed: PayoutHarness) -> None:
    """A line of a statement is the same line in every file that has it."""

    def take_in() -> bool:
        with failed.db.transaction() as session:
            return raise_incident(
                session, key="statement:foreign:UKN1/1", kind="statement", what="A line.", at=failed.clock()
            )

    assert take_in()
    assert not take_in()
    assert [one.count for one in failed.all_incidents()] == [1]
    close(failed)
    assert not take_in()
    assert failed.incidents() == []


# --- What a stranger can write ------------------------------------------------------------------------------------


def test_a_strangers_word_holds_a_failed_payout_back_until_m_pesa_has_answered_and_no_longer(
    failed: PayoutHarness,
) -> None:
    attempt = failed.attempt("ann")
    forge(failed)
    assert failed.retry().retried == []
    assert answered(failed, attempt, TransactionStatus="Declined") == "failed"
    [incident] = failed.all_incidents()
    assert (incident.closed_at, incident.answered_by) == (None, failed.queries()[-1].id)
    assert failed.reconcile(at_once=False).asked == [], "one piece of evidence, one question"

    assert forge(failed, amount=2) == "mismatch"
    assert failed.retry().retried == [], "the answer is older than this"
    assert answered(failed, attempt, TransactionStatus="Declined") == "failed"
    assert forge(failed, amount=2) == "mismatch"
    assert failed.retry().retried == [PAYOUT], "the very same body again is no news"
    failed.assert_books()


def test_an_answer_that_says_something_else_settles_nothing(failed: PayoutHarness) -> None:
    attempt = failed.attempt("ann")
    forge(failed)
    assert answered(failed, attempt, code=2033) == "not_found"
    assert failed.retry().retried == []
    failed.clock.forward(100_000)
    query = failed.reconcile(at_once=True).asked[-1].query_id
    assert (
        failed.post(CallbackKind.STATUS, query, status(attempt, TransactionStatus="Declined", conversation=None))
        == "hint"
    )
    assert failed.retry().retried == [], "it is tied to no question of ours"
    assert failed.post(CallbackKind.STATUS, query, status(attempt, TransactionStatus="Completed")) == "paid"
    assert failed.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    failed.assert_books()


def test_a_question_that_is_older_than_the_evidence_settles_nothing(failed: PayoutHarness) -> None:
    attempt = failed.attempt("ann")
    forge(failed)
    answering(failed)
    [asked] = failed.reconcile(at_once=False).asked
    failed.clock.forward(1)
    forge(failed, amount=2)
    said = status(attempt, TransactionStatus="Declined")
    assert failed.post(CallbackKind.STATUS, asked.query_id, said) == "failed"
    assert failed.retry().retried == []
    failed.assert_books()


def test_what_no_stranger_can_write_holds_a_payout_back_until_a_person_closes_it(failed: PayoutHarness) -> None:
    attempt = failed.attempt("ann")
    with failed.db.transaction() as session:
        raise_incident(
            session,
            key="statement:foreign:UKN1/1",
            kind="statement",
            what="A line.",
            at=failed.clock(),
            payout_id=PAYOUT,
            attempt_id=attempt.id,
        )
    assert failed.reconcile(at_once=False).asked == []
    forge(failed)
    assert answered(failed, attempt, TransactionStatus="Declined") == "failed"
    assert failed.retry().retried == []
    with failed.db.reading() as session:
        assert [one.is_asked for one in incidents_of(session, [PAYOUT])[PAYOUT]] == [False]


def test_an_answer_that_nobody_gave_is_told_by_the_audit(failed: PayoutHarness) -> None:
    forge(failed)
    failed.books_hold_at_the_end = False
    attempt = failed.attempt("ann")
    answering(failed)
    [asked] = failed.reconcile(at_once=False).asked
    with failed.db.transaction() as session:
        [incident] = open_incidents(session)
        incident.answered_by = asked.query_id
        session.add(incident)
    with pytest.raises(AssertionError, match="holds nothing back, and no answer"):
        failed.assert_books()
    failed.post(CallbackKind.STATUS, asked.query_id, status(attempt, TransactionStatus="Declined"))
    failed.assert_books()


def test_m_pesas_own_answer_that_says_otherwise_is_asked_again_in_its_turn_and_not_at_once(
    failed: PayoutHarness,
) -> None:
    attempt = failed.attempt("ann")
    forge(failed)
    assert answered(failed, attempt, Amount="1.00", TransactionStatus="Declined") == "mismatch"
    assert [one.count for one in failed.all_incidents()] == [2]
    assert failed.reconcile(at_once=False).asked == []
    failed.clock.forward(100_000)
    assert answered(failed, attempt, TransactionStatus="Declined") == "failed"
    assert failed.retry().retried == [PAYOUT]


# --- Closing by what they are -------------------------------------------------------------------------------------


def test_incidents_are_closed_by_kind_payout_and_time(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send()
    harness.posts.clear()
    came_at = {}
    for user in ("ann", "ben"):
        attempt, came_at[user] = harness.attempt(user), harness.clock()
        harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, amount=1))
        harness.post(CallbackKind.RESULT, attempt.id, b"no json")
        harness.clock.forward(60)

    def standing() -> list[tuple[str, str | None]]:
        with harness.db.reading() as session:
            return [(one.kind, one.payout_id) for one in open_incidents(session)]

    def shut(which: Which) -> None:
        manual_decision.close_incidents(harness.context, numbers=manual_decision.list_incidents(harness.db, which))

    shut(Which(kind="mismatch", payout_id="derby.1.2"))
    assert standing() == [("mismatch", "derby.1.1"), ("unreadable", "derby.1.1"), ("unreadable", "derby.1.2")]
    shut(Which(kind="unreadable", before=came_at["ben"]))
    assert standing() == [("mismatch", "derby.1.1"), ("unreadable", "derby.1.2")]
    shut(Which(before=harness.clock()))
    assert standing() == []
    harness.assert_books()
