"""What the program tells people to type can be typed; and who follows a hint is better off than before.

The source is read for every sentence that names a command: each is parsed by the real commands with their options.
Then scenes bring about errors by hand, type the command that the hint names, and do the first thing again.
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


# --- Scenes: the hint is typed ---------------------------------------------------------------------------------------

OPEN = (
    "init --yes",
    "market add rain --question Rain? --outcome Yes --outcome No --closes-at 2099-01-01T00:00:00Z",
    "user add ann Ann 0712345678",
    "user add ben Ben 0722345678",
)
BETS = (*OPEN, "bet place rain ann Yes 100 --funding collected", "bet place rain ben No 100 --funding collected")


@dataclass(frozen=True)
class Scene:
    """What was done, what then goes wrong with which exit code, and what a person puts for the words of the hint."""

    before: tuple[str, ...]
    wrong: str
    code: int
    puts: tuple[tuple[str, str], ...] = ()
    #: The exit code of the same command once the hint was followed: 0, or that of what is missing next.
    then: int = 0


SCENES = {
    "there is no database": Scene((), "status", 3),
    "a market that is open is not resolved": Scene(BETS, "resolve rain Yes", 5),
    "a market without an outcome is not divided": Scene(
        (*BETS, "market close rain"), "settle rain", 5, (("OUTCOME", "Yes"),)
    ),
    "a wallet without money places no bet": Scene(
        OPEN, "bet place rain ann Yes 50 --funding wallet", 5, (("AMOUNT", "50"), ("RECEIPT", "R1"))
    ),
    "a user with another number": Scene(OPEN, "user add ann Ann 0733345678", 5, (("PHONE", "0733345678"),)),
    "a market that is not there": Scene(OPEN, "market show nosuch", 4, then=4),
}


@pytest.mark.parametrize("name", SCENES)
def test_who_follows_the_hint_is_better_off(name: str, kasoko: Kasoko) -> None:
    scene = SCENES[name]
    for words in scene.before:
        assert _typed(kasoko, words) == (0, ""), words
    code, told = _typed(kasoko, scene.wrong)
    assert code == scene.code, told
    [hint] = re.findall(r"^Hint: (.*)$", told, re.MULTILINE)
    [command, *_] = [one for one in Said("", hint).commands() if "restore" not in one]
    for word, value in scene.puts:
        command = command.replace(word, value)
    assert _typed(kasoko, command.removeprefix("kasoko ")) == (0, ""), hint
    again, told_again = _typed(kasoko, scene.wrong)
    assert again == scene.then, told_again
    # A name that was wrong stays wrong: the hint showed those that there are.
    assert scene.code == 4 or told_again != told


def _typed(kasoko: Kasoko, words: str) -> tuple[int, str]:
    """The exit code of what is typed by somebody who says yes and why, and what went wrong in words."""
    found, _ = find_command(shlex.split(words))
    writes = "--yes" in {name for parameter in found.params for name in parameter.opts}
    done = kasoko(*shlex.split(words), *(["--yes", "--reason", "as the hint says"] if writes else []))
    return done.returncode, done.stderr if done.returncode else ""
