"""Whatever goes wrong ends as a sentence, a hint and a number."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner, Result

from kasoko_cli.cli import command
from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.container import Container
from kasoko_cli.cli.options import MarketId, MaybeMarketId, WrongUsage
from kasoko_cli.cli.output import render
from kasoko_cli.config import load_config
from kasoko_cli.errors import Busy, KasokoError, NotFound, OutcomeUnknown, Refused
from tests.cli.conftest import Kasoko, environment

SECRET = "consumer-secret-5926"
PHONE = "254712345678"


verbs = Commands()
payout = Commands("payout", "Payouts.", default="send")


@verbs.reads()
def first(call: CommandContext, market: MarketId, count: Annotated[int, typer.Option("--count")] = 1) -> None:
    """Say what this command was given."""
    render.line(f"{market} {count} {call.json} {call.quiet} {call.verbose} {call.config_file} {call.database_url}")


@verbs.writes()
def second(call: CommandContext, what: str) -> None:
    """Fail as it is told."""
    if what == "bug":
        secret = call.container.config.daraja.consumer_secret
        assert secret is not None
        raise RuntimeError(f"Bearer {secret.get_secret_value()} for {PHONE}")
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "usage":
        raise WrongUsage("These two exclude each other.")
    if what == "who":
        render.line(f"{call.actor} because {call.reason}, {'asked' if not call.yes else 'not asked'}")
        return
    if what == "confirm":
        render.line(str(render.confirm(call, "Send KES 142.00?")))
        return
    errors: dict[str, KasokoError] = {
        "not_found": NotFound("There is no market 'rain'."),
        "refused": Refused("Market [bold]rain[/] \x1b[31mis open\u202e.", hint="Close it [first]: kasoko market close"),
        "unknown": OutcomeUnknown("Attempt ks-1: no answer."),
        "busy": Busy("Another run pays market rain."),
    }
    raise errors[what]


@payout.writes()
def send(call: CommandContext, market: MaybeMarketId = None) -> None:
    """Send what is due."""
    render.line(f"send {market}")


@payout.reads("list")
def list_payouts(call: CommandContext) -> None:
    """List payouts."""
    render.line("list")


app = typer.Typer(
    name="kasoko",
    cls=command.Root,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(verbs)
app.add_typer(payout)


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, list(words), prog_name="kasoko")


# --- Options before their command ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("--json first rain", "first rain --json"),
        ("--yes payout", "payout --yes"),
        ("--yes payout rain", "payout rain --yes"),
        ("--quiet payout --json list", "payout list --quiet --json"),
        ("--count 5 first rain", "first rain --count 5"),
        ("--count=5 first rain", "first rain --count=5"),
        ("--actor 'Ann A' payout -- rain", "payout --actor 'Ann A' -- rain"),
        ("--database postgresql://u:pw@host/db first rain", "first rain --database URL"),
        ("--json first 0712345678", "first ... --json"),
        ("--other first rain", ""),
        ("--count first", ""),
        ("--json=yes first rain", ""),
        ("--json", ""),
        ("--count 5 nothing", ""),
    ],
)
def test_an_option_before_its_command_is_told_where_it_goes(words: str, right: str) -> None:
    result = invoke(*shlex.split(words))
    assert result.exit_code == 2
    told = json.loads(result.stderr)["error"]["hint"] if "--json" in words.split() else result.stderr.strip()
    if right:
        assert told.endswith(f"Options stand behind their command: kasoko {right}")
        assert invoke(*shlex.split(right)).exit_code == 0
    else:
        assert told.endswith(" --help")


# --- The shared options --------------------------------------------------------------------------


def test_a_body_gets_its_own_parameters_and_one_call_with_the_shared_ones() -> None:
    result = invoke("first", "rain", "--count", "3", "--json", "--quiet", "--verbose", "--config", "a.toml")
    assert result.stdout == "rain 3 True True True a.toml None\n"
    assert invoke("first", "rain", "--database", "sqlite:///a.db").stdout == (
        "rain 1 False False False None sqlite:///a.db\n"
    )


def test_what_writes_knows_who_acts_and_why() -> None:
    assert invoke("second", "who").stdout == f"{command.os_user()} because None, asked\n"
    assert invoke("second", "who", "--actor", "ann", "--reason", "a goal was missed", "-y").stdout == (
        "ann because a goal was missed, not asked\n"
    )
    assert invoke("first", "rain", "--yes").exit_code == 2


def test_a_house_that_is_handed_in_is_the_house(tmp_path: Path) -> None:
    seen: list[Container] = []
    look = Commands("look")

    @look.reads()
    def around(call: CommandContext) -> None:
        """Look around."""
        seen.append(call.container)

    one = typer.Typer()
    one.add_typer(look)
    container = Container(load_config(environ={}, folder=tmp_path))
    assert CliRunner().invoke(one, ["look", "around"], obj=container).exit_code == 0
    assert seen == [container]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["payout", "rain"], "send rain\n"),
        (["payout"], "send None\n"),
        (["payout", "--yes"], "send None\n"),
        (["payout", "send", "rain"], "send rain\n"),
        (["payout", "list"], "list\n"),
    ],
)
def test_a_first_word_that_is_no_verb_means_the_default_verb(words: list[str], said: str) -> None:
    assert invoke(*words).stdout == said


def test_help_of_a_group_with_a_default_is_the_groups_own() -> None:
    assert "List payouts." in invoke("payout", "--help").stdout
    assert "List payouts." in invoke("payout", "-h").stdout


# --- Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "exit_code", "told"),
    [
        ("not_found", 4, "Error: There is no market 'rain'.\nHint: List what there is: kasoko market list\n"),
        (
            "refused",
            5,
            "Error: Market [bold]rain[/] \\x1b[31mis open\\u202e.\nHint: Close it [first]: kasoko market close\n",
        ),
        (
            "unknown",
            7,
            (
                "Error: Attempt ks-1: no answer.\n"
                "Hint: Do not send it again by hand. First ask how it ended: kasoko reconcile\n"
            ),
        ),
        (
            "busy",
            9,
            (
                "Error: Another run pays market rain.\n"
                "Hint: Nothing was changed. Wait for the other run, or look at it: kasoko status\n"
            ),
        ),
        ("interrupt", 130, "Error: Interrupted; everything is recorded.\nHint: Look how things stand: kasoko status\n"),
        ("usage", 2, "Error: These two exclude each other.\nHint: Read how it is used: kasoko second --help\n"),
        (
            "confirm",
            2,
            (
                "Error: Nobody is here to answer: Send KES 142.00? Nothing was done. Add --yes to do it.\n"
                "Hint: Read how it is used: kasoko second --help\n"
            ),
        ),
    ],
)
def test_an_error_is_a_sentence_a_hint_and_a_number(what: str, exit_code: int, told: str) -> None:
    result = invoke("second", what)
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", told)


def test_with_json_an_error_is_one_document_on_stderr() -> None:
    result = invoke("second", "not_found", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stderr) == {
        "error": {
            "kind": "not_found",
            "message": "There is no market 'rain'.",
            "hint": "List what there is: kasoko market list",
            "exit_code": 4,
        }
    }


def test_with_json_wrong_usage_is_a_document_too() -> None:
    result = invoke("first", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stderr) == {
        "error": {
            "kind": "usage",
            "message": "Missing argument 'MARKET'.",
            "hint": "Read how it is used: kasoko first --help",
            "exit_code": 2,
        }
    }


def test_a_command_that_does_not_exist_is_answered_with_the_nearest() -> None:
    result = invoke("frist", "rain")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "Error: No such command 'frist'. Did you mean 'first'?\nHint: Read how it is used: kasoko --help\n"
    )


# --- Bugs ----------------------------------------------------------------------------------------


def test_a_bug_is_told_in_short_and_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPESA_CONSUMER_SECRET", SECRET)
    result = invoke("second", "bug")
    assert result.exit_code == 1
    first_line, hint = result.stderr.splitlines()
    assert first_line.startswith("Error: Something happened that was not foreseen: RuntimeError at test_command.py:")
    assert hint == (
        "Hint: What was committed stays; look how things stand: kasoko status. Run it again with --verbose to see more."
    )


def test_the_traceback_of_a_bug_has_no_secret_and_no_whole_phone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPESA_CONSUMER_SECRET", SECRET)
    result = invoke("second", "bug", "--verbose")
    assert result.exit_code == 1
    assert "RuntimeError: Bearer (hidden) for 2547****5678" in result.stderr
    assert SECRET not in result.stderr
    assert PHONE not in result.stderr


# --- Signals and pipes, with the real program ----------------------------------------------------


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "kasoko_cli", "config", "show"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait(timeout=60) == 0
    running.stderr.close()


def test_ctrl_c_while_a_command_waits_ends_with_130(tmp_path: Path) -> None:
    read, write = os.pipe()
    running = subprocess.Popen(
        [sys.executable, "-m", "kasoko_cli", "credential", "encrypt", "--certificate", "/dev/stdin"],
        cwd=tmp_path,
        env=environment(),
        stdin=read,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that started these tests in the background has them ignore SIGINT, and so would this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - nothing but that
    )
    os.close(read)
    # A pipe holds 64 KiB: the last of more than that is only taken once the command is in its body.
    os.write(write, b"x" * 65_536)
    os.write(write, b"x" * 4_096)
    # CPython misses a signal in the moment before a read begins to wait: a person would press it again.
    for _ in range(60):
        time.sleep(1)
        running.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(timeout=1)
            break
    stdout, stderr = running.communicate(timeout=60)
    os.close(write)
    assert running.returncode == 130
    assert stdout == ""
    assert stderr == "Error: Interrupted; everything is recorded.\nHint: Look how things stand: kasoko status\n"


def test_the_shell_can_complete_commands(kasoko: Kasoko) -> None:
    result = kasoko(_KASOKO_COMPLETE="complete_bash", COMP_WORDS="kasoko conf", COMP_CWORD="1")
    assert result.stdout == "config\n"
