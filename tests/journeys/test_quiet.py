"""With --quiet, and where nobody looks on, what went as it should says nothing: on neither stream, by any command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from kasoko_cli.cli.app import app
from tests.journeys.pages import Reader

#: A day's acts in an order in which each goes well; `rain` is settled, and nobody is paid yet.
ACTS = """
db upgrade
init
db check
db backup copy.db
user add gus 'Gus Oduor' 0712000150
user set-phone gus 0712000151
wallet deposit gus 500 --reference D1
market add sun --question 'Will it shine?' --outcome Yes --outcome No --closes-at 2027-03-05T15:00:00+03:00
bet place sun gus Yes 100 --id sun-gus --funding wallet
bet place sun ann No 50 --id sun-ann --funding collected
bet place sun gus Yes 50 --id sun-too --funding wallet
bet cancel sun-too
market close sun
market add fog --question 'Will it clear?' --outcome Yes --outcome No --closes-at 2027-03-05T15:00:00+03:00
market void fog --reason 'asked twice'
import users users.csv
import markets markets.csv
import bets bets.csv
export bets --output out.csv
export markets --output markets-out.csv
export users --output users-out.csv
export payouts --output payouts-out.csv
export entries --output entries-out.csv
resolve sun Yes
settle sun
payout hold rain.1.1 --reason 'disputed'
payout release rain.1.1 --reason 'the result stands'
payout to-wallet rain.1.2 --reason 'asked for it'
pause --reason 'a drill'
resume
float --listen
reconcile
payout send rain --limit 1
payout decide rain.1.1 --not-paid --evidence portal --reason 'not in it'
payout retry rain.1.1
payout send rain --listen
resolve sun No --override --reason 'the gauge'
payout returned rain.1.3 --receipt UKP0A1B2C3 --reason 'the number was given up'
payout again rain.1.3 --reason 'another number'
retry-failed
callback replay 1
metrics write .
status --check
audit
report settlement rain --output rain.csv
report proof rain --output rain.proof.json
user export zoe --output zoe.json --reason 'asked'
user erase zoe --reason 'asked by letter'
db expire --days 400
"""


#: Commands that act and are not among them.
OTHERWISE = {
    "listen": "goes on until it is stopped",
    "worker": "goes on until it is stopped",
    "credential encrypt": "its answer is the credential",
    "db restore": "leaves what a person has to find out",
    "approve": "needs a settlement that waits; it tells as market close does",
    "approver add": "needs a key; it tells as market close does",
    "approver remove": "needs an approver; it tells as market close does",
    "statement undo": "needs a statement that was taken in; it tells as market close does",
    "incident close": "needs an incident; it tells as market close does",
    "suspense resolve": "needs money that nobody knows; it tells as wallet deposit does",
    "wallet recover": "needs a debt; it tells as wallet deposit does",
    "wallet write-off": "needs a debt; it tells as wallet deposit does",
    "notify": "needs an address; without one it is told (exit 3)",
    "db copy": "ends this database: test_database_copy.py",
    "sync": "needs a platform: test_platform.py",
    "mirror": "needs a platform: test_platform.py",
    "tax remit": "needs tax that was kept back; it tells as wallet deposit does",
}


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that may be asked to go ahead: those that change something."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, (*before, name))
        elif any("--yes" in parameter.opts for parameter in one.params):
            yield (*before, name)


@pytest.mark.exhaustive
def test_every_command_that_acts_is_silent_when_it_went_well(reader: Reader) -> None:
    said = {}
    reader.more = {"kasoko ": ("--quiet",)}
    reader.codes = {"kasoko payout send rain --limit": 10}
    for line in ACTS.strip().splitlines():
        reader.last = ""
        reader.types(f"kasoko {line}")
        said[line] = reader.last
    assert {line: text for line, text in said.items() if text} == {}
    noted = reader.deployed.rows("SELECT command FROM runs WHERE ended_at IS NOT NULL AND doing = 'done'")
    assert {command for (command,) in noted} == {
        *("payout", "payout retry", "retry-failed", "reconcile"),
        *("settle", "import", "float", "audit", "metrics write", "db backup"),
    }


def test_no_command_that_acts_was_left_out() -> None:
    acts = {" ".join(words) for words in commands(typer.main.get_command(app))}
    left = {name for name in acts if not any(f"{line} ".startswith(f"{name} ") for line in ACTS.splitlines())}
    assert left == set(OTHERWISE)
