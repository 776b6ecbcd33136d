"""What only a person can do, each with a reason: hold, release, to-wallet, decide, close an incident."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from sqlmodel import col, select

from kasoko_cli.clock import iso
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.approvals import second_person
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.payouts.manual_decision import Decision
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.log import note_event
from kasoko_cli.store.schema.tables import Event
from tests.operations.data_builder import refusal
from tests.operations.payout_harness import ANN, BEN, RECEIPT, PayoutHarness

BOSS, OTHER = Actor("boss", "the portal says so"), Actor("other", "I saw it too")
PAID, NOT_PAID = Decision(RECEIPT, "statement of 23 November"), Decision(None, "statement of 23 November")
PAYOUT = "derby.1.1"


def lost_before(_request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("no answer, and it was never taken")


@pytest.fixture
def unknown(harness: PayoutHarness) -> PayoutHarness:
    """Ann's payout was sent; no answer came, and the simulator never took it."""
    harness.owe({"ann": ANN}, cents=14_250)
    harness.interpose = lambda request: lost_before(request) if "paymentrequest" in request.url.path else None
    harness.send()
    harness.interpose = lambda _request: None
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    return harness


@pytest.fixture
def acknowledged(harness: PayoutHarness) -> PayoutHarness:
    """Ann's payout was taken, and a queue timeout made it unknown."""
    harness.owe({"ann": ANN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    harness.post(CallbackKind.TIMEOUT, harness.attempt("ann").id, b"{}")
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    return harness


def say(
    harness: PayoutHarness, decision: Decision, actor: Actor = BOSS, *, two_people: bool = False
) -> manual_decision.Decided:
    return manual_decision.decide(
        OperationContext(harness.db, harness.clock, actor), payout_id=PAYOUT, decision=decision, two_people=two_people
    )


def test_a_person_who_holds_the_receipt_completes_an_unknown_payout(acknowledged: PayoutHarness) -> None:
    done = say(acknowledged, PAID)

    assert (done.status, done.waits_for_second) == ("COMPLETED", False)
    attempt = acknowledged.attempt("ann")
    assert (attempt.status, attempt.receipt) == (AttemptStatus.SUCCEEDED, RECEIPT)
    assert attempt.evidence == "decided by boss: statement of 23 November"
    assert acknowledged.wallet("ann") == (14_250, 50)
    acknowledged.assert_books()


@pytest.mark.parametrize("typed", [RECEIPT.lower(), f" {RECEIPT.title()} "])
def test_the_case_of_a_receipt_that_somebody_types_is_folded(acknowledged: PayoutHarness, typed: str) -> None:
    assert say(acknowledged, Decision(typed, PAID.evidence)).status == "COMPLETED"
    assert acknowledged.attempt("ann").receipt == RECEIPT


@pytest.mark.parametrize("typed", ["", " ", "UKN7 A1B2C3"])
def test_what_is_no_receipt_proves_nothing(acknowledged: PayoutHarness, typed: str) -> None:
    message, _ = refusal(lambda: say(acknowledged, Decision(typed, PAID.evidence)), Refused)
    assert "cannot be the receipt" in message
    assert acknowledged.attempt("ann").status is not AttemptStatus.SUCCEEDED


def test_not_paid_after_an_acknowledgement_fails_it_and_a_retry_goes_under_a_new_id(
    acknowledged: PayoutHarness,
) -> None:
    first = acknowledged.attempt("ann").id

    assert say(acknowledged, NOT_PAID).status == "FAILED"
    assert acknowledged.states("ann") == ("FAILED", ["FAILED"])
    assert acknowledged.retry().retried == [PAYOUT]
    acknowledged.send()

    assert [attempt.id == first for attempt in acknowledged.attempts("ann")] == [True, False]
    acknowledged.assert_books()


def test_not_paid_without_an_acknowledgement_goes_again_under_the_same_id(unknown: PayoutHarness) -> None:
    first = unknown.attempt("ann").id

    assert say(unknown, NOT_PAID).status == "FAILED"
    assert unknown.states("ann") == ("FAILED", ["REJECTED"])
    assert unknown.retry().retried == [PAYOUT]
    unknown.send()
    unknown.deliver()

    assert [(attempt.id, attempt.sends) for attempt in unknown.attempts("ann")] == [(first, 2)]
    assert unknown.paid_to(ANN) == 14_200
    unknown.assert_agreed()


def test_a_person_who_errs_about_an_unacknowledged_payout_does_not_make_it_pay_twice(harness: PayoutHarness) -> None:
    """M-Pesa took it and paid, the answer was lost, and a person says that it was not paid."""
    harness.owe({"ann": ANN}, cents=14_250)

    def taken_and_lost(request: httpx.Request) -> httpx.Response | None:
        if "paymentrequest" not in request.url.path:
            return None
        harness.ask_simulator(request)
        raise httpx.ReadTimeout("no answer")

    harness.interpose = taken_and_lost
    harness.send()
    harness.interpose = lambda _request: None
    harness.posts.clear()
    assert harness.paid_to(ANN) == 14_200

    say(harness, NOT_PAID)
    harness.retry()
    harness.send()
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"]), "M-Pesa refused the id that it knew"
    harness.reconcile(at_once=True)
    harness.deliver()

    assert harness.states("ann")[0] == "COMPLETED"
    assert harness.paid_to(ANN) == 14_200
    harness.assert_agreed()


def test_where_two_people_are_needed_one_changes_nothing_however_often(acknowledged: PayoutHarness) -> None:
    before = acknowledged.money()
    for _ in range(2):
        done = say(acknowledged, PAID, two_people=True)
        assert (done.status, done.note) == ("UNKNOWN", "a second person has to say the same")
        assert done.waits_for_second

    assert acknowledged.money() == before
    assert acknowledged.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_the_second_person_has_to_say_the_same_thing(acknowledged: PayoutHarness) -> None:
    say(acknowledged, PAID, two_people=True)

    assert say(acknowledged, NOT_PAID, OTHER, two_people=True).waits_for_second
    assert say(acknowledged, Decision("UKN0000001", "x"), OTHER, two_people=True).waits_for_second
    assert say(acknowledged, Decision(RECEIPT, "the customer's message"), OTHER, two_people=True).status == "COMPLETED"
    acknowledged.assert_books()


@pytest.mark.parametrize("name", ["boss", "Boss ", " BOSS", "\uff42oss", "bo\u200bss"])
def test_one_person_is_not_two_under_another_spelling(acknowledged: PayoutHarness, name: str) -> None:
    say(acknowledged, PAID, two_people=True)
    assert say(acknowledged, PAID, Actor(name, "me again"), two_people=True).waits_for_second
    assert acknowledged.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_two_people_are_not_asked_of_nobody(acknowledged: PayoutHarness) -> None:
    say(acknowledged, PAID, two_people=True)
    with pytest.raises(Refused, match="this word names nobody"):
        say(acknowledged, PAID, Actor(" ", "why not"), two_people=True)


def test_a_word_about_an_earlier_send_of_the_same_id_is_no_first_word(unknown: PayoutHarness) -> None:
    """Boss said that it was not paid, and so did others; it went again under the same id and is unknown again."""
    say(unknown, NOT_PAID, two_people=True)
    say(unknown, NOT_PAID, OTHER, two_people=True)
    unknown.retry()
    unknown.interpose = lambda request: lost_before(request) if "paymentrequest" in request.url.path else None
    unknown.send()
    assert [(one.sends, one.status) for one in unknown.attempts("ann")] == [(2, AttemptStatus.UNKNOWN)]

    done = say(unknown, NOT_PAID, OTHER, two_people=True)

    assert (done.status, done.waits_for_second) == ("UNKNOWN", True)
    assert done.note.startswith("what boss said at 2026-11-")
    assert "is about how it stood then" in done.note
    assert say(unknown, NOT_PAID, two_people=True).status == "FAILED", "of this send both have said it now"


def test_a_word_about_another_state_is_no_first_word(harness: PayoutHarness) -> None:
    """M-Pesa had taken it when boss said so; now it says that it waited too long."""
    harness.owe({"ann": ANN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    say(harness, NOT_PAID, two_people=True)
    harness.post(CallbackKind.TIMEOUT, harness.attempt("ann").id, b"{}")
    assert say(harness, NOT_PAID, OTHER, two_people=True).waits_for_second


def test_a_first_word_that_has_expired_is_told_as_such_and_the_second_is_a_first(acknowledged: PayoutHarness) -> None:
    say(acknowledged, PAID, two_people=True)
    said_at = acknowledged.clock()
    acknowledged.clock.forward(24 * 3_600)

    done = say(acknowledged, PAID, OTHER, two_people=True)

    until = iso(said_at + timedelta(hours=24))
    assert (done.waits_for_second, done.note) == (
        True,
        f"what boss said expired at {until}, and this is the first word now: a second person has to say the same",
    )
    assert acknowledged.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    acknowledged.clock.forward(24 * 3_600 - 1)
    assert say(acknowledged, PAID, two_people=True).status == "COMPLETED"


def test_an_audit_finds_a_second_person_who_is_the_first_or_who_said_nothing(acknowledged: PayoutHarness) -> None:
    say(acknowledged, PAID, two_people=True)
    say(acknowledged, PAID, OTHER, two_people=True)
    assert two_people_are_two(acknowledged) == []
    acknowledged.books_hold_at_the_end = False
    with acknowledged.db.transaction() as session:
        told = session.exec(select(Event).where(col(Event.action) == "payout.decide")).one()
        for actor, detail in (
            ("BOSS", told.detail),
            ("mary", told.detail.replace('"sends": 1', '"sends": 2')),
        ):
            note_event(
                session, at=told.at, actor=actor, action=told.action, subject=told.subject, detail=json.loads(detail)
            )
    assert two_people_are_two(acknowledged) == [
        "payout.decide of derby.1.1 is by BOSS and boss, who is the same",
        "payout.decide of derby.1.1 is by mary, and boss had not said the same",
    ]


def two_people_are_two(harness: PayoutHarness) -> list[str]:
    with harness.db.reading() as session:
        return [one.what for one in second_person.agreements_of_one(session)]


@pytest.mark.parametrize(
    ("actor", "decision", "message", "hint"),
    [
        pytest.param(
            Actor("boss"),
            PAID,
            "A decision needs a reason, for whoever reads the record. Nothing was changed.",
            "Add --reason 'why'",
            id="no reason",
        ),
        pytest.param(
            BOSS,
            Decision(RECEIPT, " "),
            "A decision needs its evidence: where can the next person see it? Nothing was changed.",
            "Say it: --evidence 'M-Pesa portal, organisation statement of 23 November'",
            id="no evidence",
        ),
    ],
)
def test_a_decision_without_reason_or_evidence_is_refused(
    acknowledged: PayoutHarness, actor: Actor, decision: Decision, message: str, hint: str
) -> None:
    with pytest.raises(Refused) as refused:
        say(acknowledged, decision, actor)

    assert (refused.value.message, refused.value.hint) == (message, hint)
    assert acknowledged.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_nobody_decides_what_is_known(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.send()
    harness.deliver()

    with pytest.raises(Refused, match=r"derby\.1\.1 is COMPLETED: how it ended is known, and nothing was changed\."):
        say(harness, NOT_PAID)
    harness.assert_agreed()


def test_a_receipt_that_proves_another_attempt_proves_nothing_here(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send()
    first = harness.attempt("ben")
    assert harness.post(CallbackKind.RESULT, first.id, harness.result(first, receipt=RECEIPT)) == "paid"
    harness.posts.clear()
    harness.post(CallbackKind.TIMEOUT, harness.attempt("ann").id, b"{}")

    with pytest.raises(Refused, match=f"The receipt {RECEIPT} already proves the attempt {first.id}"):
        say(harness, PAID)
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_what_is_held_is_not_sent_until_it_is_released(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    assert manual_decision.hold(OperationContext(harness.db, harness.clock, BOSS), payout_id=PAYOUT) == "HELD"
    harness.send()
    assert harness.paid_to(ANN) == 0
    assert harness.payout("ann").note == "the portal says so"

    assert manual_decision.release(OperationContext(harness.db, harness.clock, BOSS), payout_id=PAYOUT) == "PENDING"
    harness.send()
    harness.deliver()
    harness.assert_agreed()
    assert harness.paid_to(ANN) == 10_000


def test_a_release_goes_by_the_rules_of_a_retry(harness: PayoutHarness) -> None:
    """Holding a failure and letting it go is no way around its being permanent."""
    harness.owe({"ann": "254799002040"})
    harness.send()
    harness.deliver()
    assert harness.payout("ann").status is PayoutStatus.FAILED
    manual_decision.hold(OperationContext(harness.db, harness.clock, BOSS), payout_id=PAYOUT)

    with pytest.raises(Refused, match=r"derby\.1\.1 was not released: it cannot succeed to the same number"):
        manual_decision.release(OperationContext(harness.db, harness.clock, BOSS), payout_id=PAYOUT)
    harness.set_phone("ann", ANN)
    assert manual_decision.release(OperationContext(harness.db, harness.clock, BOSS), payout_id=PAYOUT) == "PENDING"


def test_the_wallet_instead_of_the_phone_is_credited_once(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, cents=14_250)

    assert manual_decision.to_wallet(OperationContext(harness.db, harness.clock, BOSS), payout_id=PAYOUT) == "WALLET"
    with pytest.raises(Refused, match=r"derby\.1\.1 is WALLET, and this is for what is FAILED, HELD, PENDING"):
        manual_decision.to_wallet(OperationContext(harness.db, harness.clock, BOSS), payout_id=PAYOUT)
    harness.send()

    assert harness.wallet("ann") == (14_250, 14_250)
    assert harness.paid_to(ANN) == 0
    harness.assert_books()


@pytest.mark.parametrize("verb", [manual_decision.hold, manual_decision.to_wallet])
def test_what_is_on_its_way_can_be_neither_held_nor_put_into_the_wallet(
    acknowledged: PayoutHarness, verb: Callable[..., str]
) -> None:
    before = acknowledged.money()
    with pytest.raises(Refused, match=r"derby\.1\.1 is UNKNOWN"):
        verb(OperationContext(acknowledged.db, acknowledged.clock, BOSS), payout_id=PAYOUT)
    assert acknowledged.money() == before


def test_an_incident_stands_until_a_person_closes_it_with_a_reason(acknowledged: PayoutHarness) -> None:
    attempt = acknowledged.attempt("ann")
    other_amount = acknowledged.result(attempt) | {}
    other_amount["Result"]["ResultParameters"]["ResultParameter"][0]["Value"] = 1
    assert acknowledged.post(CallbackKind.RESULT, attempt.id, other_amount) == "mismatch"
    [incident] = acknowledged.all_incidents()
    assert incident.id is not None

    with pytest.raises(Refused, match="Closing an incident needs a reason"):
        manual_decision.close_incidents(
            OperationContext(acknowledged.db, acknowledged.clock, Actor("boss")), numbers=[incident.id]
        )
    assert manual_decision.close_incidents(
        OperationContext(acknowledged.db, acknowledged.clock, BOSS), numbers=[incident.id]
    )
    assert not manual_decision.close_incidents(
        OperationContext(acknowledged.db, acknowledged.clock, OTHER), numbers=[incident.id]
    )
    with pytest.raises(NotFound, match=r"There is no incident 999\."):
        manual_decision.close_incidents(OperationContext(acknowledged.db, acknowledged.clock, BOSS), numbers=[999])

    [closed] = acknowledged.all_incidents()
    assert (closed.closed_by, closed.close_reason) == ("boss", "the portal says so")
    assert acknowledged.incidents() == []
