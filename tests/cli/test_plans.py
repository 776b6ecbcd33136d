"""Before something is done to money it is shown: the same by --plan, which writes nothing, and with the question."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from kasoko_cli.cli.output import render
from kasoko_cli.operations.payouts import manual_decision, market_hold
from kasoko_cli.operations.reconciliation import statement_import
from tests.cli.conftest import Desk
from tests.cli.test_every_command import COMMANDS
from tests.operations.paper import Paper
from tests.operations.payout_harness import ANN, BEN

#: A command of a market that owes ann and ben, what is shown of it, and the question where there is one.
PLANS = {
    "payout hold derby.1.1": ("derby.1.1 (KES 100.00, ann, 2547****0111, PENDING) would be HELD.", ""),
    "payout to-wallet derby.1.1": (
        "derby.1.1 (KES 100.00, ann, 2547****0111, PENDING) would be WALLET.",
        "Credit derby.1.1 (KES 100.00, ann, 2547****0111, PENDING) to the wallet, and never send it to the phone?",
    ),
    "payout release derby.1.2": (
        "derby.1.2 (KES 100.00, ben, 2547****0222, HELD) would be PENDING.",
        "Release derby.1.2 (KES 100.00, ben, 2547****0222, HELD)?",
    ),
    "payout hold derby": ("derby.1.1\tann\t2547****0111\tPAYOUT\t100.00\t100.00\theld", ""),
    "market void open": (
        "open would be void, and its stakes given back: 1 bet, KES 50.00.",
        "Call open off? Its stakes are given back (1 bet, KES 50.00), and this cannot be undone.",
    ),
    "resolve closed Yes": (
        "closed: 1 bet, KES 50.00 in the pool. With Yes 1 winner would share KES 50.00 on KES 50.00 staked",
        "Resolve closed as Yes? It cannot be taken back easily.",
    ),
    "suspense resolve UKX0000001 --as bank": (
        "UKX0000001, KES -7.00, would be resolved as bank.",
        "Write down that UKX0000001, KES -7.00, was bank?",
    ),
    "statement undo 1": (
        "Statement 1 (statement.csv) would be taken back: 1 line forgotten, 1 entry reversed, 0 incidents closed.",
        "Take statement 1 back: statement.csv, 1 line, KES -7.00 in suspense?",
    ),
}


@pytest.fixture
def busy(desk: Desk) -> Desk:
    """A market that owes two people, one of them held by itself; an open one, one past its close; money in suspense."""
    harness = desk.harness
    harness.owe({"ann": ANN, "ben": BEN})
    manual_decision.hold(harness.context, payout_id="derby.1.2")
    for market in ("open", "closed"):
        harness.open_market(market)
        harness.bet(market, "ann", "Yes", 5_000)
    harness.clock.forward(1)
    desk.run("market", "close", "closed")
    paper = Paper().covering([harness.clock()])
    paper.line("UKX0000001", harness.clock(), withdrawn=7_00, phone="254722000999")
    statement_import.take_statement(
        harness.context, paper.read(), statement_import.StatementRules("600000", customers_are_counted=False)
    )
    return desk


def content(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "kasoko.db") as plain:
        return list(plain.iterdump())


@pytest.mark.parametrize("words", PLANS)
def test_a_plan_shows_what_would_come_and_writes_nothing(busy: Desk, words: str) -> None:
    before = content(busy.folder)
    found = busy.run(*words.split(), "--plan")
    assert PLANS[words][0] in found.output
    assert "Nothing was written.\n" in found.stderr
    assert set(json.loads(busy.run(*words.split(), "--plan", "--json").stdout)) == {"plan"}
    assert content(busy.folder) == before


@pytest.mark.parametrize("words", [words for words, (_, question) in PLANS.items() if question])
def test_the_question_shows_whom_and_how_much_and_no_changes_nothing(
    busy: Desk, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, asked = content(busy.folder), [*words.split(), "--reason", "it was asked for"]
    nobody = busy.run(*asked, code=2)
    assert f"Nobody is here to answer: {PLANS[words][1]}" in nobody.stderr
    monkeypatch.setattr(render, "is_somebody_here", lambda: True)
    found = busy.run(*asked, typed="n\n", code=1)
    assert f"{PLANS[words][1]} [y/N] " in found.stderr
    assert content(busy.folder) == before
    busy.run(*asked, typed="y\n")
    assert content(busy.folder) != before


@pytest.mark.usefixtures("somebody")
def test_of_a_market_nothing_is_released_that_was_not_shown(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})
    context = desk.harness.context
    manual_decision.hold(context, payout_id="derby.1.2")
    market_hold.hold_market(context, market="derby")

    def another_is_held_with_it(question: str) -> str:
        assert question == "Release 1 payout of derby, KES 100.00 to phones? [y/N]"
        manual_decision.release(context, payout_id="derby.1.2")
        market_hold.hold_market(context, market="derby")
        return "y"

    monkeypatch.setattr(render, "ask", another_is_held_with_it)
    found = desk.run("payout", "release", "derby", "--reason", "it stands")
    assert "derby.1.1\tann\t2547****0111\tPAYOUT\t100.00\t100.00\tdue" in found.stdout
    assert "derby.1.2 stays held: it was not among those that were shown; do the same again.\n" in found.stderr
    assert desk.harness.statuses() == {"ann": "PENDING", "ben": "HELD"}


@pytest.mark.usefixtures("somebody")
def test_what_would_be_refused_is_refused_before_anything_is_asked(busy: Desk) -> None:
    found = busy.run("payout", "again", "derby.1.1", "--reason", "asked", code=5)
    assert found.stderr.startswith("Error: derby.1.1 is PENDING: its money did not come back.")
    assert "[y/N]" not in busy.run("wallet", "recover", "ann", "5", "--reference", "R", "--reason", "x", code=5).stderr


def test_what_acts_on_money_that_is_there_has_a_plan() -> None:
    acts = {
        *("payout send", "payout retry", "retry-failed", "payout hold", "payout release", "payout to-wallet"),
        *("payout decide", "payout returned", "payout again", "wallet recover", "wallet write-off"),
        *("suspense resolve", "statement undo", "market void", "resolve", "settle", "approve", "reconcile", "sync"),
    }
    assert {name for name in acts if not any("--plan" in one.opts for one in COMMANDS[name].params)} == set()
