"""The switches that all hosts heed."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from kasoko_cli.errors import Refused
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.reporting import status_views
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from tests.operations.payout_harness import ANN, PayoutHarness


def events(harness: PayoutHarness) -> list[tuple[str, str, str, object]]:
    """Who did what, why."""
    with harness.db.reading() as session:
        rows = session.execute(text("SELECT actor, action, reason, detail FROM events WHERE subject = 'sending'"))
        return [(actor, action, reason, json.loads(detail)) for actor, action, reason, detail in rows]


def test_a_pause_stands_for_everybody_with_who_and_why(harness: PayoutHarness) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, Actor("amina", "the float is being moved")))
    [switch] = status_views.overview(harness.db).switches
    assert (switch.name, switch.actor, switch.reason, switch.at) == (
        "pause",
        "amina",
        "the float is being moved",
        harness.clock(),
    )
    assert events(harness) == [("amina", "pause", "the float is being moved", {})]


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_pause_without_a_reason_is_refused(harness: PayoutHarness, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        switches.pause(OperationContext(harness.db, harness.clock, Actor("amina", reason)))
    assert str(refused.value) == ("A pause needs a reason: whoever meets it will want to know. Nothing was changed.")
    assert refused.value.hint == "Say why: kasoko pause --reason 'float is being moved'"
    assert status_views.overview(harness.db).switches == []


def test_the_last_pause_stands_and_one_resume_ends_it(harness: PayoutHarness) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, Actor("amina", "first")))
    switches.pause(OperationContext(harness.db, harness.clock, Actor("brian", "second")))
    assert [switch.reason for switch in status_views.overview(harness.db).switches] == ["second"]
    assert switches.resume(OperationContext(harness.db, harness.clock, Actor("amina"))) == ["pause"]
    assert status_views.overview(harness.db).switches == []
    assert switches.resume(OperationContext(harness.db, harness.clock, Actor("amina"))) == []
    assert [event[1] for event in events(harness)] == ["pause", "pause", "resume"]


def test_one_resume_ends_a_pause_and_the_breaker_and_says_so(harness: PayoutHarness) -> None:
    harness.owe({"ann": "254799000001"})
    harness.send()
    harness.deliver()
    switches.pause(OperationContext(harness.db, harness.clock, Actor("amina", "and lunch")))
    assert [switch.name for switch in status_views.overview(harness.db).switches] == ["pause", "breaker"]
    with pytest.raises(Refused, match="paused by amina"):
        harness.send()
    assert switches.resume(harness.context) == ["pause", "breaker"]
    assert harness.send().sent == []


def test_a_pause_does_not_stop_results_and_questions(harness: PayoutHarness) -> None:
    """It stops what moves money. What was sent goes on to its end."""
    harness.owe({"ann": ANN})
    harness.send()
    switches.pause(OperationContext(harness.db, harness.clock, Actor("amina", "a look at the books")))
    assert len(harness.reconcile(deliver=False).asked) == 1
    harness.deliver()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_agreed()
