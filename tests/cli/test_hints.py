"""What the program tells people to type can be typed; and who follows a hint is better off than before.

The source is read for every sentence that names a command: each is parsed by the real commands with their options.
Each such command, whatever its values, stands in one of three tables: scenes bring about errors by hand, type the
command that the hint names, and do the first thing again; what only shows something is typed; the rest says why not.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kasoko_cli.cli.help.command_index import WORDS
from kasoko_cli.cli.output.render import _COMMAND
from tests.cli.conftest import Kasoko
from tests.test_house import find_command

PACKAGE = Path(__file__).parents[2] / "kasoko_cli"
NAMES = {word.name for word in WORDS}
#: What stands for a value in a sentence, as a value that a command takes.
STANDS_FOR = {
    "N": "1",
    "...": "Yes",
    "KES": "10",
    "AMOUNT": "10",
    "{number}": "1",
    "{verb}": "hold",
    "{numbers[0]}": "1",
    "ID": "1",
}


@dataclass(frozen=True)
class Said:
    """A sentence of the source, its values in braces."""

    place: str
    text: str

    def commands(self) -> Iterator[str]:
        """The commands that it tells somebody to type."""
        for found in _COMMAND.finditer(self.text):
            words = found[0].rstrip(".:)?").split()
            if len(words) > 1 and words[1] in NAMES:
                yield " ".join(words)


def _sentences() -> Iterator[Said]:
    for file in sorted(PACKAGE.rglob("*.py")):
        if "simulator" in file.parts or "migrations" in file.parts or "help" in file.parts:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for kept in ast.walk(tree):  # docstrings are for whoever reads the source; help texts have a test of their own
            if isinstance(kept, ast.Expr) and isinstance(kept.value, ast.Constant):
                kept.value = ast.Constant(None)
        inside = {id(one) for text in ast.walk(tree) if isinstance(text, ast.JoinedStr) for one in ast.walk(text)}
        for text in ast.walk(tree):
            words = ""
            if isinstance(text, ast.JoinedStr):
                words = "".join(
                    str(one.value) if isinstance(one, ast.Constant) else f"{{{_spelt(one)}}}" for one in text.values
                )
            elif isinstance(text, ast.Constant) and isinstance(text.value, str) and id(text) not in inside:
                words = text.value
            if "kasoko " in words:
                yield Said(f"{file.relative_to(PACKAGE)}:{getattr(text, 'lineno', 0)}", words)


def _spelt(value: ast.expr) -> str:
    inner = value.value if isinstance(value, ast.FormattedValue) else value
    return re.sub(r"\s", "", ast.unparse(inner)).replace("'", "").replace('"', "").replace(",", "")


#: Groups that a sentence names as a whole: alone they show their help.
GROUPS = {"kasoko approver"}
#: What is no command: the first line of what a callback address is signed over.
NO_COMMAND = {"kasoko callback 1"}

SAID = [(one, command) for one in _sentences() for command in one.commands() if command not in NO_COMMAND]


def test_the_source_is_full_of_commands_to_type() -> None:
    assert len(SAID) > 150
    assert len({command.split()[1] for _, command in SAID}) > 20


@pytest.mark.parametrize(("said", "command"), SAID, ids=[f"{one.place} {command}" for one, command in SAID])
def test_a_command_that_a_sentence_names_can_be_typed(said: Said, command: str) -> None:
    words = [STANDS_FOR.get(word, word) for word in shlex.split(command)[1:] if word != "--help"]
    if command in GROUPS:
        return
    found, own = find_command(words)
    takes = {name for parameter in found.params for name in parameter.opts}
    assert [word for word in own if word.startswith("--") and word.partition("=")[0] not in takes] == [], said
    arguments = [parameter for parameter in found.params if parameter.param_type_name == "argument"]
    if not own or "--help" in command:  # it is named, and what it is about follows in the sentence
        return
    found.make_context("kasoko", [re.sub(r"\{[^}]*\}", "1", word) for word in own])
    assert arguments or all(word.startswith("--") or own[n - 1].startswith("--") for n, word in enumerate(own)), said


# --- Every command of a hint is typed --------------------------------------------------------------------------------


def _shape(command: str) -> str:
    """The command without `kasoko`, and without its values: what two hints with other names have in common."""
    words = re.sub(r"\{[^}]*\}(?:\[[^\]]*\])?", "_", command.replace("`", "")).partition(" >")[0].removesuffix(" wrote")
    shape = ["_" if "_" in word or word.isupper() or " " in word else word for word in shlex.split(words)[1:]]
    return " ".join("_" if n and shape[n - 1] == "--reason" else word for n, word in enumerate(shape))


OPEN = (
    "init --yes",
    "market add rain --question Rain? --outcome Yes --outcome No --closes-at 2099-01-01T00:00:00Z",
)
ANN = "user add ann Ann 0712345678"
SETTLED = (
    *OPEN,
    ANN,
    "user add ben Ben 0722345678",
    "bet place rain ann Yes 100 --funding collected",
    "bet place rain ben No 100 --funding collected",
    "market close rain",
    "resolve rain Yes",
    "settle rain",
)
KEY = ("init --yes", "approver key --output ann.key", "approver add ann --key ann.key.pub")


@dataclass(frozen=True)
class Scene:
    """What was done, what then goes wrong with which exit code, and what a person puts for the words of the hint."""

    before: tuple[str, ...]
    wrong: str
    code: int
    #: The shape of the command that it says to type.
    follows: str
    puts: tuple[tuple[str, str], ...] = ()
    #: The exit code of the same command once the hint was followed: 0, or that of what is missing next.
    then: int = 0


SCENES = {
    "there is no database": Scene((), "status", 3, "init"),
    "a market that is open is not resolved": Scene(OPEN, "resolve rain Yes", 5, "market close _"),
    "a market without an outcome is not divided": Scene(
        (*OPEN, "market close rain"), "settle rain", 5, "resolve _ _", (("OUTCOME", "Yes"),)
    ),
    "a market with another outcome is divided anew": Scene(
        (*OPEN, "market close rain", "resolve rain Yes"), "resolve rain No --override", 0, "settle _", then=5
    ),
    "a wallet without money places no bet": Scene(
        (*OPEN, ANN),
        "bet place rain ann Yes 50 --funding wallet",
        5,
        "wallet deposit _ _ --reference _",
        (("AMOUNT", "50"), ("RECEIPT", "R1")),
    ),
    "a user with another number": Scene(
        ("init --yes", ANN), "user add ann Ann 0733345678", 5, "user set-phone _ _", (("PHONE", "0733345678"),)
    ),
    "a market that is not there": Scene(("init --yes",), "market show nosuch", 4, "market list", then=4),
    "sending is paused": Scene(("init --yes", "pause"), "status", 0, "resume"),
    "a payout that was held by itself": Scene(
        (*SETTLED, "payout hold rain.1.1"), "payout release rain", 0, "payout release _"
    ),
    "a key that was made is added": Scene(
        ("init --yes",), "approver key --output ann.key", 0, "approver add _ --key _", (("NAME", "ann"),), then=5
    ),
    "an approver who has a key gets another": Scene(
        (*KEY, "approver key --output new.key"), "approver add ann --key new.key.pub", 5, "approver remove _"
    ),
}

#: What only shows something, or is itself the whole of what is to be done: typed one after another, on one deployment
#: whose market rain is settled and whose market sun is open.
TYPED = {
    "approver list": "approver list",
    "approver key --output _": "approver key --output ann.key",
    "audit": "audit",
    "audit --chain --export": "audit --chain --export chain.jsonl",
    "audit --deep": "audit --deep",
    "audit --deep --chain": "audit --deep --chain",
    "bet list _": "bet list rain",
    "bet cancel _": "bet cancel b1",
    "callback list": "callback list",
    "config show --origin": "config show --origin",
    "connect django --help": "connect django --help",
    "connect django --print-sql": "connect django --print-sql",
    "connect django --print-sql --column market.slug=-": "connect django --print-sql --column market.slug=-",
    "db backup _": "db backup copy.db",
    "db check": "db check",
    "db expire": "db expire --days 30",
    "db upgrade": "db upgrade",
    "doctor": "doctor",
    "doctor --offline": "doctor --offline",
    "doctor --verbose": "doctor --verbose",
    "events _": "events rain",
    "explain": "explain",
    "explain _": "explain rain.1.1",
    "float --tariff": "float --tariff",
    "help _": "help people",
    "help environment": "help environment",
    "help people": "help people",
    "help recovery": "help recovery",
    "help settings": "help settings",
    "help taxes": "help taxes",
    "incident list": "incident list",
    "market void": "market void sun",
    "metrics write": "metrics write .",
    "pause --reason _": "pause --reason audit",
    "payout --plan": "payout --plan",
    "payout --plan --json": "payout --plan --json",
    "payout _ --plan": "payout rain --plan",
    "payout _ _ --plan --json": "payout hold rain --plan --json",
    "payout decide _ --help": "payout decide rain.1.1 --help",
    "payout list --status _": "payout list --status FAILED",
    "payout list _": "payout list rain",
    "payout show _": "payout show rain.1.1",
    "report proof _": "report proof rain --output proof.txt",
    "report taxes": "report taxes",
    "resolve _ _ --override --plan": "resolve rain No --override --plan",
    "settle _ --plan": "settle sun --plan",
    "settle _ --plan --json": "settle sun --plan --json",
    "statement list": "statement list",
    "status": "status",
    "status _": "status rain",
    "suspense list": "suspense list",
    "tax show": "tax show",
    "user erase _": "user erase ben",
    "user list": "user list",
    "user show _": "user show ann",
    "verify _": "verify proof.txt",
    "wallet show _": "wallet show ann",
    "db restore _": "db restore copy.db --replace",
    "db restore _ --replace": "db restore copy.db --replace",
}
#: What they need that is not here, and the test that has it.
MPESA = "M-Pesa that answers: journeys/test_failures.py"
ELSEWHERE = {
    "approve _": "a second person: cli/test_approver.py",
    "approve _ --plan --json": "a second person: cli/test_plans.py",
    "approve _ --plan-hash _": "a second person: cli/test_approver.py",
    "callback show _": "a callback: cli/test_callback.py",
    "credential encrypt": "the initiator's password: journeys/story.py",
    "credential encrypt --environment _": "the initiator's password: journeys/story.py",
    "db copy": "PostgreSQL: operations/admin/test_database_copy.py",
    "demo": "half a minute: journeys/test_demo.py",
    "doctor --after-restore": "M-Pesa that answers: journeys/test_platform.py",
    "doctor --listen": "M-Pesa that answers: proof/acts.py",
    "float --listen": MPESA,
    "incident close _ --reason _": "an incident: proof/acts.py",
    "init --new-deployment": "a deployment that is given up: cli/test_init.py",
    "listen": "a server that stays: cli/test_listen.py",
    "mirror": "a platform's database: journeys/test_platform.py",
    "notify": "somebody who is told: journeys/test_quiet.py",
    "notify --test": "somebody who is told: journeys/test_quiet.py",
    "payout --engine celery": "a broker: journeys/test_celery.py",
    "payout --limit _": "M-Pesa that answers: journeys/story.py",
    "payout --listen": MPESA,
    "payout --only _": MPESA,
    "payout _": MPESA,
    "payout decide --all-unknown-between _ _ --not-paid": "an outage: cli/test_confirmation.py",
    "payout decide _ --evidence _ --reason _": "M-Pesa's portal: journeys/test_processes.py",
    "payout decide _ --paid --receipt _ --evidence _ --reason _": "M-Pesa's portal: journeys/test_processes.py",
    "payout release _ --reason _": "a contradicted result: cli/test_confirmation.py",
    "payout retry _": "M-Pesa that answers: journeys/test_scenarios.py",
    "payout send _": "M-Pesa that answers: journeys/test_quiet.py",
    "reconcile": MPESA,
    "reconcile --now": MPESA,
    "reconcile --statement _": "M-Pesa's statement: cli/test_books.py",
    "reconcile --statement _ --account _": "M-Pesa's statement: cli/test_books.py",
    "retry-failed": MPESA,
    "suspense resolve _ --as _ --reason _": "M-Pesa's statement: cli/test_books.py",
    "sync": "a platform's database: journeys/test_platform.py",
    "wallet recover _ _ --reference _ --from wallet": "a payment too many: cli/test_plans.py",
    "wallet write-off": "a payment too many: operations/reconciliation/test_statement_import.py",
    "worker": "a broker: journeys/test_celery.py",
}


def _has_shape(command: str, shape: str) -> bool:
    said, wanted = shlex.split(command)[1:], shape.split()
    return len(said) == len(wanted) and all(one in (word, "_") for word, one in zip(said, wanted, strict=True))


def _is_covered(shape: str) -> bool:
    """Whether it is in a table; a command that is only named is, if it is typed with what belongs to it."""
    tables = {scene.follows for scene in SCENES.values()} | TYPED.keys() | ELSEWHERE.keys()
    _, own = find_command(shape.split())
    return shape in tables or (not own and any(one.startswith(f"{shape} ") for one in tables))


HINTED = sorted({_shape(command) for _, command in SAID if command not in GROUPS})


def test_every_command_of_a_hint_is_typed_or_says_why_not() -> None:
    assert [shape for shape in HINTED if not _is_covered(shape)] == []
    tables = [*(scene.follows for scene in SCENES.values()), *TYPED, *ELSEWHERE]
    assert [shape for shape in tables if shape not in HINTED] == [], "no hint says this any more"
    assert sorted(set(tables)) == sorted(tables), "one table is enough"


@pytest.mark.parametrize("shape", ELSEWHERE)
def test_what_is_typed_elsewhere_is_typed_there(shape: str) -> None:
    file = PACKAGE.parent / "tests" / ELSEWHERE[shape].rpartition(": ")[2]
    words = [word for word in shape.split() if word != "_" and not word.startswith("--")][:2]
    assert [word for word in words if word not in file.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("name", SCENES)
def test_who_follows_the_hint_is_better_off(name: str, kasoko: Kasoko) -> None:
    scene = SCENES[name]
    for words in scene.before:
        assert _typed(kasoko, words)[0] == 0, words
    code, told = _typed(kasoko, scene.wrong)
    assert code == scene.code, told
    [command, *_] = [one for one in Said("", told).commands() if _has_shape(one, scene.follows)]
    for word, value in scene.puts:
        command = command.replace(word, value)
    code, said = _typed(kasoko, command.removeprefix("kasoko "))
    assert code == 0, said
    again, told_again = _typed(kasoko, scene.wrong)
    assert again == scene.then, told_again
    # A name that was wrong stays wrong: the hint showed those that there are.
    assert scene.code == 4 or told_again != told


def test_what_a_hint_says_to_look_at_can_be_looked_at(kasoko: Kasoko) -> None:
    sun = "market add sun --question Sun? --outcome Yes --outcome No --closes-at 2099-01-01T00:00:00Z"
    for words in (*SETTLED, sun, "bet place sun ann Yes 100 --funding collected --id b1"):
        assert _typed(kasoko, words)[0] == 0, words
    for words in TYPED.values():
        code, told = _typed(kasoko, words)
        assert code in (0, 8), f"{words}: {told}"


def _typed(kasoko: Kasoko, words: str) -> tuple[int, str]:
    """The exit code of what is typed by somebody who says yes and why, and what was said besides the answer."""
    found, _ = find_command(shlex.split(words))
    takes = {name for parameter in found.params for name in parameter.opts}
    says = [("--yes",), ("--reason", "as the hint says")] if "--yes" in takes else []
    done = kasoko(*shlex.split(words), *(word for one in says if one[0] not in words for word in one))
    return done.returncode, done.stderr
