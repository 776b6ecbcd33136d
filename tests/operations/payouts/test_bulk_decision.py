"""One word on all that an outage left unknown: exactly the list that was shown, each past the guard of a single one."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import pytest
from sqlmodel import col, select

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import Refused
from kasoko_cli.operations.approvals.second_person import ApprovalTerms
from kasoko_cli.operations.payouts import bulk_decision
from kasoko_cli.operations.payouts.bulk_decision import BulkDecision, DecidedAll, SentSpan, UnknownList
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.log import raise_incident
from kasoko_cli.store.schema.tables import Event
from tests.operations.payout_harness import ANN, BEN, PayoutHarness

CYN, DAN = "254712000003", "254712000004"
BOSS, OTHER = Actor("boss", "the network was down"), Actor("other", "I saw it too")


@pytest.fixture
def outage(harness: PayoutHarness) -> PayoutHarness:
    """M-Pesa took ann's and never answers for her; ben's and cyn's were swallowed; dan's was an hour later."""
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN, "dan": DAN}, cents=14_250)
    harness.send(limit=1)
    harness.posts.clear()
    harness.post(CallbackKind.TIMEOUT, harness.attempt("ann").id, b"{}")

    def lost(request: httpx.Request) -> None:
        if "paymentrequest" in request.url.path:
            raise httpx.ReadTimeout("no answer, and it was never taken")

    harness.interpose = lost
    harness.send(limit=2)
    harness.clock.forward(3_600)
    harness.send()
    harness.interpose = lambda _request: None
    assert set(harness.statuses().values()) == {"UNKNOWN"}
    return harness


def span(harness: PayoutHarness) -> SentSpan:
    """Everything but dan's."""
    now = harness.clock()
    return SentSpan(now - timedelta(hours=2), now - timedelta(minutes=30))


def look(harness: PayoutHarness) -> UnknownList:
    return bulk_decision.look(harness.db, harness.clock, span(harness))


def say(harness: PayoutHarness, actor: Actor = BOSS, *, two_people: bool = False, shown: str = "") -> DecidedAll:
    return bulk_decision.decide_all(
        OperationContext(harness.db, harness.clock, actor),
        BulkDecision(span(harness), shown or look(harness).list_hash, "statement of 23 November"),
        two_people=two_people,
    )


def test_all_of_the_span_end_as_a_single_one_does(outage: PayoutHarness) -> None:
    shown = look(outage)
    assert [(one.payout_id, one.is_acknowledged) for one in shown.items] == [
        ("derby.1.1", True),
        ("derby.1.2", False),
        ("derby.1.3", False),
    ]
    assert (shown.wire_cents, shown.left) == (3 * 14_200, [])

    done = say(outage)

    assert [(one.payout_id, one.status) for one in done.decided] == [(f"derby.1.{n}", "FAILED") for n in (1, 2, 3)]
    assert {name: outage.states(name) for name in ("ann", "ben", "cyn", "dan")} == {
        "ann": ("FAILED", ["FAILED"]),
        "ben": ("FAILED", ["REJECTED"]),
        "cyn": ("FAILED", ["REJECTED"]),
        "dan": ("UNKNOWN", ["UNKNOWN"]),
    }
    first = outage.attempt("ben").id
    outage.retry()
    outage.send()
    outage.deliver()
    assert [(one.id, one.sends) for one in outage.attempts("ben")] == [(first, 2)], "under the same id"
    assert len(outage.attempts("ann")) == 2, "M-Pesa had taken that id"
    with outage.db.reading() as session:
        acts = [
            (event.subject, json.loads(event.detail)["list"])
            for event in session.exec(select(Event).where(col(Event.action) == "payout.decide"))
        ]
    assert acts == [(f"derby.1.{n}", shown.list_hash) for n in (1, 2, 3)]


def test_what_the_guard_objects_to_is_named_and_left(outage: PayoutHarness) -> None:
    with outage.db.transaction() as session:
        raise_incident(session, key="x", kind="test", what="Odd.", at=outage.clock(), payout_id="derby.1.2")
    done = say(outage)
    assert [one.payout_id for one in done.decided] == ["derby.1.1", "derby.1.3"]
    assert [(one.payout_id, one.why) for one in done.left] == [
        ("derby.1.2", "what is known of it contradicts itself, and a person decides")
    ]
    assert outage.payout("ben").status is PayoutStatus.UNKNOWN


def test_two_people_say_it_of_the_same_list(outage: PayoutHarness) -> None:
    first = say(outage, two_people=True)
    assert (first.waits_for_second, first.decided) == (True, [])
    assert say(outage, Actor("BOSS ", "me again"), two_people=True).waits_for_second
    done = say(outage, OTHER, two_people=True)
    assert (done.waits_for_second, len(done.decided)) == (False, 3)


def test_a_list_that_has_changed_since_the_first_word_is_another(outage: PayoutHarness) -> None:
    say(outage, two_people=True)
    attempt = outage.attempt("ann")
    outage.post(CallbackKind.RESULT, attempt.id, outage.result(attempt))
    told = say(outage, OTHER, two_people=True)
    assert (told.waits_for_second, set(outage.statuses().values())) == (True, {"UNKNOWN", "COMPLETED"})
    assert "is about how it stood then" in told.note


def test_what_was_shown_is_what_is_decided(outage: PayoutHarness) -> None:
    shown = look(outage)
    attempt = outage.attempt("ann")
    outage.post(CallbackKind.RESULT, attempt.id, outage.result(attempt))
    with pytest.raises(Refused, match=rf"The list is [0-9a-f]{{16}} now, and not {shown.list_hash}\. Nothing was"):
        say(outage, shown=shown.list_hash)
    assert outage.states("ben") == ("UNKNOWN", ["UNKNOWN"])


def test_nothing_on_the_list_is_said_so(harness: PayoutHarness) -> None:
    with pytest.raises(Refused, match="No payout that was sent then is unknown"):
        say(harness)


def test_a_word_on_many_is_signed_too(outage: PayoutHarness) -> None:
    with pytest.raises(Refused, match="A decision has to be signed"):
        bulk_decision.decide_all(
            OperationContext(outage.db, outage.clock, BOSS),
            BulkDecision(span(outage), look(outage).list_hash, "statement"),
            terms=ApprovalTerms(signed=True),
        )
