"""The switches that all hosts heed."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from kasoko_cli.errors import Refused
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.reporting import status_views
from kasoko_cli.operations.shared.actor import Act
from kasoko_cli.operations.shared.context import OperationContext
from tests.operations.road import ANN, Road


def events(road: Road) -> list[tuple[str, str, str, object]]:
    """Who did what, why."""
    with road.db.reading() as session:
        rows = session.execute(text("SELECT actor, action, reason, detail FROM events WHERE subject = 'sending'"))
        return [(actor, action, reason, json.loads(detail)) for actor, action, reason, detail in rows]


def test_a_pause_stands_for_everybody_with_who_and_why(road: Road) -> None:
    switches.pause(OperationContext(road.db, road.clock, Act("amina", "the float is being moved")))
    [switch] = status_views.overview(road.db).switches
    assert (switch.name, switch.actor, switch.reason, switch.at) == (
        "pause",
        "amina",
        "the float is being moved",
        road.clock(),
    )
    assert events(road) == [("amina", "pause", "the float is being moved", {})]


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_pause_without_a_reason_is_refused(road: Road, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        switches.pause(OperationContext(road.db, road.clock, Act("amina", reason)))
    assert str(refused.value) == ("A pause needs a reason: whoever meets it will want to know. Nothing was changed.")
    assert refused.value.hint == "Say why: kasoko pause --reason 'float is being moved'"
    assert status_views.overview(road.db).switches == []


def test_the_last_pause_stands_and_one_resume_ends_it(road: Road) -> None:
    switches.pause(OperationContext(road.db, road.clock, Act("amina", "first")))
    switches.pause(OperationContext(road.db, road.clock, Act("brian", "second")))
    assert [switch.reason for switch in status_views.overview(road.db).switches] == ["second"]
    assert switches.resume(OperationContext(road.db, road.clock, Act("amina"))) == ["pause"]
    assert status_views.overview(road.db).switches == []
    assert switches.resume(OperationContext(road.db, road.clock, Act("amina"))) == []
    assert [event[1] for event in events(road)] == ["pause", "pause", "resume"]


def test_one_resume_ends_a_pause_and_the_breaker_and_says_so(road: Road) -> None:
    road.owe({"ann": "254799000001"})
    road.send()
    road.deliver()
    switches.pause(OperationContext(road.db, road.clock, Act("amina", "and lunch")))
    assert [switch.name for switch in status_views.overview(road.db).switches] == ["pause", "breaker"]
    with pytest.raises(Refused, match="paused by amina"):
        road.send()
    assert switches.resume(road.context) == ["pause", "breaker"]
    assert road.send().sent == []


def test_a_pause_does_not_stop_results_and_questions(road: Road) -> None:
    """It stops what moves money. What was sent goes on to its end."""
    road.owe({"ann": ANN})
    road.send()
    switches.pause(OperationContext(road.db, road.clock, Act("amina", "a look at the books")))
    assert len(road.reconcile(deliver=False).asked) == 1
    road.deliver()
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    road.assert_agreed()
