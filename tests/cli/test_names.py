"""A market by its id or its slug, and a payout by either, wherever one is named; answers have the id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from kasoko_cli.cli.app import app
from kasoko_cli.operations.records import users
from tests.cli.conftest import Desk
from tests.operations.payout_harness import ANN

#: A command that takes a market or a payout, and what it exits with where it has found it.
COMMANDS = {
    "approve {market} --plan": 5,
    "bet list {market}": 0,
    "bet place {market} ann Yes 5 --funding collected": 5,
    "events {market}": 0,
    "events {payout}": 0,
    "explain {payout}": 0,
    "export bets --market {market}": 0,
    "export entries --market {market}": 0,
    "export markets --market {market}": 0,
    "export payouts --market {market}": 0,
    "incident close --payout {payout} --reason seen --yes": 0,
    "market close {market}": 0,
    "market show {market}": 0,
    "market void {market} --yes": 5,
    "payout again {payout} --reason asked --yes": 5,
    "payout decide {payout} --not-paid --evidence seen --reason asked --yes": 5,
    "payout hold {market} --reason asked": 0,
    "payout hold {payout} --reason asked": 0,
    "payout list {market}": 0,
    "payout list --after {payout}": 0,
    "payout release {market} --reason asked --yes": 0,
    "payout release {payout} --reason asked --yes": 5,
    "payout retry {payout} --yes": 5,
    "payout returned {payout} --receipt UKN7A1B2C3 --reason asked --yes": 5,
    "payout send {market} --plan": 0,
    "payout send --only {payout} --yes": 0,
    "payout show {payout}": 0,
    "payout to-wallet {payout} --reason asked --yes": 0,
    "report proof {market}": 0,
    "report settlement {market}": 0,
    "resolve {market} Yes --yes": 0,
    "resolve {market} No --override --plan": 0,
    "retry-failed --market {market} --yes": 0,
    "settle {market}": 0,
    "status {market}": 0,
    "status {payout}": 0,
}
#: What takes one too, and why it has no line: it waits for M-Pesa.
NOT_HERE = {"reconcile", "listen"}


@pytest.fixture
def rain(desk: Desk) -> Desk:
    """A settled market whose id is not its slug, with one payout that is due."""
    harness = desk.harness
    for user, phone in (("ann", ANN), ("loser", "254712999000")):
        users.add_user(harness.context, user_id=user, name=user, phone=phone)
    closes = "2026-11-23T10:00:00Z"
    desk.run("market", "add", "rain", "--id", "mkt-204", "--question", "Rain?", *YES_NO, "--closes-at", closes)
    harness.clock.forward(-1)
    harness.bet("rain", "ann", "Yes", 5_000)
    harness.bet("rain", "loser", "No", 5_000)
    harness.clock.forward(1)
    harness.settle("rain")
    desk.toml = f'[proof]\nkey_file = "{desk.folder / "proof.key"}"\n'
    return desk


YES_NO = ["--outcome", "Yes", "--outcome", "No"]


@pytest.mark.parametrize("words", COMMANDS)
def test_each_command_takes_the_slug_for_the_id(rain: Desk, words: str) -> None:
    found = rain.run(*words.format(market="rain", payout="rain.1.1").split(), code=COMMANDS[words])
    assert "rain.1.1" not in found.output


@pytest.mark.parametrize(
    "words", ["payout show {payout}", "payout to-wallet {payout} --yes --reason asked", "status {market}"]
)
def test_the_id_itself_is_taken_too(rain: Desk, words: str) -> None:
    rain.run(*words.format(market="mkt-204", payout="mkt-204.1.1").split())


def test_no_command_that_takes_one_is_left_out() -> None:
    def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, one in command.commands.items():
                yield from commands(one, (*path, name))
        else:
            yield " ".join(path), command

    takes = {
        name
        for name, command in commands(typer.main.get_command(app))
        for parameter in command.params
        if {"MARKET", "PAYOUT"} & set((parameter.metavar or "").replace("...", "").split("|"))
    }
    assert takes - NOT_HERE == {name for name in takes if any(line.startswith(f"{name} ") for line in COMMANDS)}
    assert len(takes) > 20


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["payout", "show", "rain.1.1"], None),
        (["explain", "rain.1.1"], "explained"),
        (["settle", "rain"], None),
        (["market", "close", "rain"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_programs_get_the_id_with_the_slug_beside_it(rain: Desk, words: list[str], key: str | None) -> None:
    answer = json.loads(rain.run(*words, "--json").stdout)
    told = answer if key is None else answer[key]
    assert (told["market"], told["slug"]) == ("mkt-204", "rain")


def test_an_act_has_the_id_of_what_it_was_about_however_that_was_named(rain: Desk) -> None:
    rain.run("payout", "rain", "--yes")
    rain.run("export", "payouts", "--market", "rain", "--show-phone")
    acts = json.loads(rain.run("events", "rain", "--json").stdout)["events"]
    assert {one["subject"] for one in acts} == {"mkt-204"}
    assert {"payout.send", "phones.shown"} <= {one["action"] for one in acts}


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            ["payout", "show", "rain"],
            "There is no payout 'rain'.",
            "'rain' is a market. List a market's payouts: kasoko payout list rain",
        ),
        (
            ["payout", "show", "rain.1.9"],
            "There is no payout 'rain.1.9'.",
            "List a market's payouts: kasoko payout list rain",
        ),
        (
            ["payout", "show", "rian.1.1"],
            "There is no payout 'rian.1.1'.",
            "List a market's payouts: kasoko payout list MARKET",
        ),
        (
            ["market", "show", "rain.1.1"],
            "There is no market 'rain.1.1'.",
            "That is how a payout is named; its market would be rain. List them: kasoko market list",
        ),
        (["market", "show", "rian"], "There is no market 'rian'.", "Did you mean rain? List them: kasoko market list"),
        (
            ["market", "show", "mkt-205"],
            "There is no market 'mkt-205'.",
            "Did you mean mkt-204? List them: kasoko market list",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_never_offered_again(rain: Desk, words: list[str], message: str, hint: str) -> None:
    assert rain.run(*words, code=4).stderr == f"Error: {message}\nHint: {hint}\n"


def test_the_shell_offers_payouts_by_the_slug_too(rain: Desk, tmp_path: Path) -> None:
    from kasoko_cli.cli.help import completion

    class Asked:
        params = {"database_url": f"sqlite:///{tmp_path / 'kasoko.db'}"}  # noqa: RUF012

    assert completion.payouts(Asked(), "rain.") == [("rain.1.1", "PENDING")]  # type: ignore[arg-type]
    assert completion.payouts(Asked(), "mkt") == [("mkt-204.1.1", "PENDING")]  # type: ignore[arg-type]
