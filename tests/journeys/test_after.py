"""During and after a run: what programs are told as it happens, and what people read when it is over."""

from __future__ import annotations

import json
from typing import Any

from tests.journeys.street import Done, Street

#: Phones of the simulator's table: two to whom nothing happens, one not registered, one whose result is lost.
ANN, BEN, NOT_REGISTERED, RESULT_LOST = "0712000001", "0712000002", "0799002040", "0799300001"


def events(done: Done) -> list[dict[str, Any]]:
    """What was told, line by line."""
    return [json.loads(line) for line in done.out.splitlines()]


def test_programs_are_told_of_each_payout_question_and_callback_as_it_happens(bare: Street) -> None:
    street = bare
    street.furnish()
    street.start_simulator()
    stakes = [("ann", ANN, "Yes", "100"), ("cyn", NOT_REGISTERED, "Yes", "100"), ("dan", RESULT_LOST, "Yes", "100")]
    street.open_market("rain", "Yes", "No", stakes=[*stakes, ("ben", BEN, "No", "150")])
    street.settle("rain", "Yes")

    run = events(street.run("payout", "rain", "--yes", "--listen", "--listen-seconds", "5", "--events", code=6))
    assert {(one["payout_id"], one["became"]) for one in run if one["event"] == "payout"} == {
        ("rain.1.1", "SENT"),
        ("rain.1.2", "SENT"),
        ("rain.1.3", "SENT"),
    }
    assert {(one["payout_id"], one["status"]) for one in run if one["event"] == "result"} == {
        ("rain.1.1", "COMPLETED"),
        ("rain.1.2", "FAILED"),
    }
    assert run[-1]["event"] == "summary"
    assert {"run", "payouts", "retried", "exit_code"} <= set(run[-1])

    asked = events(street.run("reconcile", "--now", "--events"))
    assert [one["payout_id"] for one in asked if one["event"] == "question"] == ["rain.1.3"]
    assert [one["verdict"] for one in asked if one["event"] == "callback"] == ["paid"]
    assert asked[-1]["event"] == "summary"
    assert asked[-1]["open"] == []

    again = events(street.run("retry-failed", "--yes", "--events"))
    assert [(one["event"], one.get("payout_id")) for one in again] == [("left_alone", "rain.1.2"), ("summary", None)]
