"""A sender that was stopped past its lease, and a person who decided meanwhile: nothing leaves, or M-Pesa is asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from kasoko_cli.daraja.client import DarajaClient, RequestLimits
from kasoko_cli.daraja.credentials import MemoryShelf
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.ledger import book
from kasoko_cli.operations.payouts.manual_decision import Decision, decide
from kasoko_cli.operations.payouts.run import Run, SendPolicy
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import Act
from kasoko_cli.operations.shared.context import OperationContext
from tests.operations.payouts.test_sending import PAYS, ids_sent
from tests.operations.road import ANN, Road

#: With a pace of its own a run looks at the row of each payout before it is written to M-Pesa.
PACED = SendPolicy(rate_per_second=50, concurrency=1)
SPIKE = {"requestId": "1", "errorCode": "500.003.02", "errorMessage": "Spike Arrest Violation"}


def not_paid(road: Road) -> None:
    """A person has looked at M-Pesa's portal, where nothing is."""
    said = Decision(None, "the portal")
    decide(OperationContext(road.db, road.clock, Act("amina", "it is not there")), payout_id="derby.1.1", decision=said)


def end_by_a_host_whose_clock_is_ahead(road: Road) -> None:
    """Its clock says that the lease is over; ours does not."""
    with road.db.transaction() as session:
        assert transitions.reap(session, now=road.clock() + timedelta(hours=1)) == 1
    not_paid(road)


def end_after_a_suspend(road: Road) -> None:
    """Our own clock sees how long it was."""
    road.clock.forward(400)
    with road.db.transaction() as session:
        assert transitions.reap(session, now=road.clock()) == 1
    not_paid(road)


def send_through_spikes(road: Road, meanwhile: Callable[[], None]) -> Run:
    """The first try is refused since M-Pesa is asked too often; the wait before the second is when it happens."""
    tries: list[httpx.Request] = []

    def carry(request: httpx.Request) -> httpx.Response:
        if request.url.path in PAYS:
            tries.append(request)
            if len(tries) == 1:
                return httpx.Response(500, json=SPIKE)
        return road._carry(request)

    client = DarajaClient(
        road.account("https://daraja.example.org"),
        MemoryShelf(),
        road.clock,
        limits=RequestLimits(total_seconds=10),
        transport=httpx.MockTransport(carry),
        sleep=lambda _: meanwhile(),
    )
    run = road.send(PACED, daraja=client)
    assert len(tries) == 1 + len(ids_sent(road))
    return run


@pytest.mark.parametrize("ended", [end_after_a_suspend, end_by_a_host_whose_clock_is_ahead])
def test_a_request_that_waits_past_its_lease_does_not_leave_once_somebody_decided(
    road: Road, ended: Callable[[Road], None]
) -> None:
    road.owe({"ann": ANN})
    run = send_through_spikes(road, lambda: ended(road))
    assert ids_sent(road) == []
    assert road.ledger() == []
    assert [str(sent.became) for sent in run.sent] == ["FAILED"], "as the person said"
    assert road.states("ann") == ("FAILED", ["REJECTED"])
    assert road.incidents() == []
    road.assert_agreed()


def test_a_request_that_was_held_back_uses_up_none_of_its_tries(road: Road) -> None:
    road.owe({"ann": ANN})
    run = send_through_spikes(road, lambda: road.clock.forward(hours=1))
    assert [(str(sent.became), sent.why) for sent in run.sent] == [
        ("PENDING", "it was held back: too little time was left to send it safely")
    ]
    assert (road.payout("ann").tries, ids_sent(road)) == (0, [])
    road.clock.forward(121)
    assert [str(sent.became) for sent in road.send().sent] == ["SENT"]
    road.deliver()
    road.assert_agreed()


@pytest.mark.parametrize("answer", ["taken", "nothing"])
def test_a_request_that_left_although_its_attempt_was_ended_is_in_doubt_and_asked_about(
    road: Road, answer: str
) -> None:
    """The process stood still between the last look and the bytes, for minutes: no look can exclude that."""
    road.owe({"ann": ANN})

    def stand_still(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAYS:
            return None
        end_after_a_suspend(road)
        reply = road.ask_simulator(request)
        if answer == "nothing":
            raise httpx.ReadTimeout("no answer")
        return reply

    road.interpose = stand_still
    road.send(PACED)
    assert road.states("ann") == ("FAILED", ["REJECTED"])
    assert road.incidents() == ["late_acknowledgement"]
    [incident] = road.all_incidents()
    assert incident.what.startswith(f"The attempt {road.attempt('ann').id} was ended as REJECTED while its sender was")
    assert incident.what.endswith(
        "The payout derby.1.1, KES 100.00, may reach the phone. M-Pesa is asked: kasoko reconcile"
    )
    # While it is in doubt nobody sends it again, and M-Pesa is asked how it ended.
    assert [one.why for one in road.retry(only=["derby.1.1"]).left] == [
        "what is known of it contradicts itself, and a person decides"
    ]
    road.posts.clear()
    road.interpose = lambda request: None
    asked = road.reconcile()
    assert [one.payout_id for one in asked.asked] == ["derby.1.1"]
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert (road.paid_to(ANN), road.wallet("ann")) == (10_000, (10_000, 0))
    road.assert_agreed()


def test_an_acknowledgement_after_the_result_that_it_announced_is_no_incident(road: Road) -> None:
    """A lease that ran out, a status answer that said declined, and only then the acknowledgement: they agree."""
    road.owe({"ann": ANN})

    def decline(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAYS:
            return None
        reply = road.ask_simulator(request)
        road.clock.forward(hours=1)
        with road.db.transaction() as session:
            transitions.reap(session, now=road.clock())
            attempt, _ = transitions.lock(session, road.attempt("ann").id)
            attempt.conversation_id = reply.json()["ConversationID"]
            session.flush()
            outcome = transitions.not_paid(
                session, attempt, transitions.Failure("17", "x", "callback:1"), at=road.clock()
            )
            book.post(session, *outcome.entries, at=road.clock())
        return reply

    road.interpose = decline
    road.send(PACED)
    assert road.attempt("ann").status is AttemptStatus.FAILED
    assert road.incidents() == []
