"""During and after a run: what programs are told as it happens, and what people read when it is over."""

from __future__ import annotations

import json
from typing import Any

from tests.journeys.deployment_harness import DeploymentHarness, Done

#: Phones of the simulator's table: two to whom nothing happens, one not registered, one whose result is lost.
ANN, BEN, NOT_REGISTERED, RESULT_LOST = "0712000001", "0712000002", "0799002040", "0799300001"


def events(done: Done) -> list[dict[str, Any]]:
    """What was told, line by line."""
    return [json.loads(line) for line in done.out.splitlines()]


def test_programs_are_told_of_each_payout_question_and_callback_as_it_happens(bare: DeploymentHarness) -> None:
    deployed = bare
    deployed.furnish()
    deployed.start_simulator()
    stakes = [("ann", ANN, "Yes", "100"), ("cyn", NOT_REGISTERED, "Yes", "100"), ("dan", RESULT_LOST, "Yes", "100")]
    deployed.open_market("rain", "Yes", "No", stakes=[*stakes, ("ben", BEN, "No", "150")])
    deployed.settle("rain", "Yes")

    run = events(deployed.run("payout", "rain", "--yes", "--listen", "--listen-seconds", "5", "--events", code=6))
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

    asked = events(deployed.run("reconcile", "--now", "--events"))
    assert [one["payout_id"] for one in asked if one["event"] == "question"] == ["rain.1.3"]
    assert [one["verdict"] for one in asked if one["event"] == "callback"] == ["paid"]
    assert asked[-1]["event"] == "summary"
    assert asked[-1]["open"] == []

    again = events(deployed.run("retry-failed", "--yes", "--events"))
    assert [(one["event"], one.get("payout_id")) for one in again] == [("left_alone", "rain.1.2"), ("summary", None)]


def test_what_is_read_afterwards_is_masked_whole_and_in_every_form(bare: DeploymentHarness) -> None:
    deployed = bare
    deployed.furnish()
    stakes = [("ann", ANN, "Yes", "100"), ("cyn", NOT_REGISTERED, "Yes", "0.5"), ("ben", BEN, "No", "150")]
    deployed.open_market("rain", "Yes", "No", stakes=stakes)
    refused = deployed.run("report", "settlement", "rain", "--json", code=5)
    assert refused.error["hint"] == "Settle it first: kasoko settle rain --plan"
    deployed.settle("rain", "Yes")

    assert [item["id"] for item in deployed.ask("payout", "list", "rain", "--user", "ann")["items"]] == ["rain.1.1"]
    assert deployed.run("payout", "list", "--status", "nope", code=2).err.startswith("Error: There is no state 'NOPE'.")
    assert "Fungu lako ni 100.00 × 237.98 ÷ 100.50" in deployed.run("explain", "rain.1.1", "--lang", "sw").out
    assert deployed.ask("explain", "rain.1.1")["explained"]["owed_cents"] == 23_679
    assert deployed.ask("explain", "2001")["codes"][0]["money_moved"] == "no"
    assert "kasoko explain" in deployed.run("explain", "2002", "--json", code=4).error["hint"]

    for name in ("rain.csv", "rain.json", "rain.xlsx", "rain.html"):
        deployed.run("report", "settlement", "rain", "--output", name)
        assert (deployed.folder / name).stat().st_size > 200
    assert "2547****0001" in (deployed.folder / "rain.csv").read_text()
    assert deployed.ask("report", "daily")["is_balanced"]
    assert deployed.run("report", "incidents", "--format", "csv").out.startswith("number,kind,what,")
    assert deployed.run("report", "daily", "--format", "xlsx", code=2).err.startswith("Error: A workbook needs a file")
    assert deployed.run("report", "daily", "--date", "2026-02-30", code=2).err.startswith("Error: '2026-02-30' is not")

    # Whole phones go into a file of its owner's, and who asked for them is on record.
    deployed.run("report", "settlement", "rain", "--show-phone", "--output", "whole.csv")
    deployed.run("export", "payouts", "--show-phone", "--output", "payouts.csv")
    whole = deployed.folder / "whole.csv"
    assert "254712000001" in whole.read_text()
    assert whole.stat().st_mode & 0o077 == 0
    shown = deployed.rows("SELECT subject, detail FROM events WHERE action = 'phones.shown' ORDER BY id")
    assert shown == [("rain", '{"what": "report settlement"}'), ("all", '{"what": "export payouts"}')]


def test_a_stranger_who_reads_the_folder_learns_no_secret_and_no_phone(bare: DeploymentHarness) -> None:
    """Another account of the host, or whoever copies what the group may read, has the settings and masked files."""
    deployed = bare
    deployed.furnish()
    deployed.start_simulator()
    deployed.open_market("rain", "Yes", "No", stakes=[("ann", ANN, "Yes", "100"), ("ben", BEN, "No", "150")])
    for theirs in ("users.csv", "markets.csv", "bets.csv"):
        (deployed.folder / theirs).unlink()
    deployed.settle("rain", "Yes")
    deployed.run("payout", "rain", "--yes", "--listen")
    deployed.run("db", "backup", "copy.db")
    deployed.run("export", "users", "--output", "masked.csv")
    deployed.run("export", "users", "--show-phone", "--output", "whole.csv")
    deployed.run("report", "settlement", "rain", "--format", "html", "--output", "rain.html")
    deployed.run("report", "settlement", "rain", "--show-phone", "--format", "csv", "--output", "rain.csv")

    by_the_harness = {"stdout", "stderr", "stdin"}
    files = [file for file in deployed.folder.rglob("*") if file.is_file() and file.name not in by_the_harness]
    readable = {file.name: file.read_text() for file in files if file.stat().st_mode & 0o077}
    assert {"kasoko.toml", "masked.csv", "rain.html"} == set(readable)
    hidden = {*deployed.secrets().values(), ANN, BEN, f"254{ANN[1:]}", f"254{BEN[1:]}"}
    assert [(name, one) for name, text in readable.items() for one in hidden if one in text] == []
