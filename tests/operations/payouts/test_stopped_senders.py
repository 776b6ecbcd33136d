"""A sender that was stopped past its lease, and a person who decided meanwhile: nothing leaves, or M-Pesa is asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from kasoko_cli.daraja.client import DarajaClient, RequestLimits
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.ledger import book
from kasoko_cli.operations.payouts.manual_decision import Decision, decide
from kasoko_cli.operations.payouts.run import Run, SendPolicy
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from tests.daraja.memory_shelf import MemoryShelf
from tests.operations.payout_harness import ANN, PayoutHarness
from tests.operations.payouts.test_sending import PAYS, ids_sent

pytestmark = pytest.mark.on_both

#: With a pace of its own a run looks at the row of each payout before it is written to M-Pesa.
PACED = SendPolicy(rate_per_second=50, concurrency=1)
SPIKE = {"requestId": "1", "errorCode": "500.003.02", "errorMessage": "Spike Arrest Violation"}


def not_paid(harness: PayoutHarness) -> None:
    """A person has looked at M-Pesa's portal, where nothing is."""
    said = Decision(None, "the portal")
    decide(
        OperationContext(harness.db, harness.clock, Actor("amina", "it is not there")),
        payout_id="derby.1.1",
        decision=said,
    )


def end_by_a_host_whose_clock_is_ahead(harness: PayoutHarness) -> None:
    """Its clock says that the lease is over; ours does not."""
    with harness.db.transaction() as session:
        assert transitions.reap(session, now=harness.clock() + timedelta(hours=1)) == 1
    not_paid(harness)


def end_after_a_suspend(harness: PayoutHarness) -> None:
    """Our own clock sees how long it was."""
    harness.clock.forward(400)
    with harness.db.transaction() as session:
        assert transitions.reap(session, now=harness.clock()) == 1
    not_paid(harness)


def send_through_spikes(harness: PayoutHarness, meanwhile: Callable[[], None]) -> Run:
    """The first try is refused since M-Pesa is asked too often; the wait before the second is when it happens."""
    tries: list[httpx.Request] = []

    def carry(request: httpx.Request) -> httpx.Response:
        if request.url.path in PAYS:
            tries.append(request)
            if len(tries) == 1:
                return httpx.Response(500, json=SPIKE)
        return harness._carry(request)

    client = DarajaClient(
        harness.account("https://daraja.example.org"),
        MemoryShelf(),
        harness.clock,
        limits=RequestLimits(total_seconds=10),
        transport=httpx.MockTransport(carry),
        sleep=lambda _: meanwhile(),
    )
    run = harness.send(PACED, daraja=client)
    assert len(tries) == 1 + len(ids_sent(harness))
    return run


@pytest.mark.parametrize("ended", [end_after_a_suspend, end_by_a_host_whose_clock_is_ahead])
def test_a_request_that_waits_past_its_lease_does_not_leave_once_somebody_decided(
    harness: PayoutHarness, ended: Callable[[PayoutHarness], None]
) -> None:
    harness.owe({"ann": ANN})
    run = send_through_spikes(harness, lambda: ended(harness))
    assert ids_sent(harness) == []
    assert harness.ledger() == []
    assert [str(sent.became) for sent in run.sent] == ["FAILED"], "as the person said"
    assert harness.states("ann") == ("FAILED", ["REJECTED"])
    assert harness.incidents() == []
    harness.assert_agreed()


def test_a_request_that_was_held_back_uses_up_none_of_its_tries(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    run = send_through_spikes(harness, lambda: harness.clock.forward(hours=1))
    assert [(str(sent.became), sent.why) for sent in run.sent] == [
        ("PENDING", "it was held back: too little time was left to send it safely")
    ]
    assert (harness.payout("ann").tries, ids_sent(harness)) == (0, [])
    harness.clock.forward(121)
    assert [str(sent.became) for sent in harness.send().sent] == ["SENT"]
    harness.deliver()
    harness.assert_agreed()


@pytest.mark.parametrize("answer", ["taken", "nothing"])
def test_a_request_that_left_although_its_attempt_was_ended_is_in_doubt_and_asked_about(
    harness: PayoutHarness, answer: str
) -> None:
    """The process stood still between the last look and the bytes, for minutes: no look can exclude that."""
    harness.owe({"ann": ANN})

    def stand_still(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAYS:
            return None
        end_after_a_suspend(harness)
        reply = harness.ask_simulator(request)
        if answer == "nothing":
            raise httpx.ReadTimeout("no answer")
        return reply

    harness.interpose = stand_still
    harness.send(PACED)
    assert harness.states("ann") == ("FAILED", ["REJECTED"])
    assert harness.incidents() == ["late_acknowledgement"]
    [incident] = harness.all_incidents()
    assert incident.what.startswith(
        f"The attempt {harness.attempt('ann').id} was ended as REJECTED while its sender was"
    )
    assert incident.what.endswith(
        "The payout derby.1.1, KES 100.00, may reach the phone. M-Pesa is asked: kasoko reconcile"
    )
    # While it is in doubt nobody sends it again, and M-Pesa is asked how it ended.
    assert [one.why for one in harness.retry(only=["derby.1.1"]).left] == [
        "what is known of it contradicts itself, and a person decides"
    ]
    harness.posts.clear()
    harness.interpose = lambda request: None
    asked = harness.reconcile()
    assert [one.payout_id for one in asked.asked] == ["derby.1.1"]
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert (harness.paid_to(ANN), harness.wallet("ann")) == (10_000, (10_000, 0))
    harness.assert_agreed()


def test_an_acknowledgement_after_the_result_that_it_announced_is_no_incident(harness: PayoutHarness) -> None:
    """A lease that ran out, a status answer that said declined, and only then the acknowledgement: they agree."""
    harness.owe({"ann": ANN})

    def decline(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAYS:
            return None
        reply = harness.ask_simulator(request)
        harness.clock.forward(hours=1)
        with harness.db.transaction() as session:
            transitions.reap(session, now=harness.clock())
            attempt, _ = transitions.lock(session, harness.attempt("ann").id)
            attempt.conversation_id = reply.json()["ConversationID"]
            session.flush()
            outcome = transitions.not_paid(
                session, attempt, transitions.Failure("17", "x", "callback:1"), at=harness.clock()
            )
            book.post(session, *outcome.entries, at=harness.clock())
        return reply

    harness.interpose = decline
    harness.send(PACED)
    assert harness.attempt("ann").status is AttemptStatus.FAILED
    assert harness.incidents() == []
