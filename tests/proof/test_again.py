"""Where M-Pesa is not there, or does not know the app, each command says itself how to go on: type it again."""

from __future__ import annotations

import re
import shlex

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from kasoko_cli.cli.app import app
from kasoko_cli.store.statements import RESTORED
from tests.proof.bench import Bench, Call, with_listener
from tests.proof.conftest import MakeBench
from tests.proof.processes import Forker

ANN, BEN = "254712000001", "254712000002"
#: Taken, then the connection breaks; taken, and then not known as a receiver.
NO_ANSWER, UNREGISTERED = "254799200005", "254799002040"
#: Each command that asks M-Pesa for something; after `worker` and `listen` nothing is to be typed again.
ASKS = (
    "payout --yes",
    "payout derby --yes",
    "payout retry derby.1.2 --yes",
    "retry-failed --yes --hours 9999",
    "reconcile --now --no-listen",
    "float",
    "doctor --after-restore",
    "settle derby --pay --yes",
)


@pytest.fixture
def deployment(make_bench: MakeBench, forker: Forker) -> Bench:
    """One payout is unknown, one failed and can be tried again, one may have been paid since a copy, one is due."""
    bench = make_bench("sqlite")
    bench.owe(
        {"u1": (NO_ANSWER, 10_000), "u2": (UNREGISTERED, 10_000), "u3": (UNREGISTERED, 10_000), "u4": (BEN, 10_000)}
    )
    named = [word for number in (1, 2, 3) for word in ("--only", f"derby.1.{number}")]
    bench.run_one(forker, *with_listener(("payout", "--yes", *named)))
    bench.set_phone("u2", ANN)
    with bench.opened() as db, db.transaction() as session:
        mark = f"UPDATE attempts SET status = 'REJECTED', lease_token = '{RESTORED}x' WHERE payout_id = 'derby.1.3'"
        session.execute(text(mark))
        session.execute(text("UPDATE payouts SET status = 'HELD', note = 'a copy' WHERE id = 'derby.1.3'"))
    bench.forward(4_000)  # past the life of the token
    return bench


def codes_of(command: str) -> set[int]:
    """The exit codes in the help of a command."""
    words = [word for word in command.split() if not word.startswith("-") and "derby" not in word and word != "9999"]
    words = ["payout", "send"] if words == ["payout"] else words
    shown = CliRunner().invoke(app, [*words, "--help"]).output
    return {int(code) for code in re.findall(r"^  (\d+) ", shown.partition("Exit codes")[2], re.MULTILINE)}


@pytest.mark.parametrize("trouble", ["unreachable", "wrong key"])
def test_the_hint_names_the_command_that_was_typed_and_its_help_the_exit_code(
    deployment: Bench, forker: Forker, trouble: str
) -> None:
    environ, code = dict[str, str](), 6
    if trouble == "wrong key":
        environ, code = {"MPESA_CONSUMER_KEY": "another"}, 3
    else:
        deployment.nobody_answers()
    where = ["--database", deployment.kept.url]
    for command in ASKS:
        call = Call((*shlex.split(command), *where), environ=environ)
        [ended] = deployment.run(forker, call)
        assert ended.code == code, (command, ended.said)
        [hint] = [line for line in ended.said.splitlines() if line.startswith("Hint: ")]
        assert hint.lower().endswith(f"then run it again: kasoko {command}"), command
        assert code in codes_of(command), command
