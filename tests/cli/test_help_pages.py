"""Topics say what the code says, and manual pages are ones that man can show."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kasoko_cli import __version__
from kasoko_cli.cli.help.command_index import WORDS
from kasoko_cli.cli.help.topics import CRON, EXIT_CODES, FORMATS, STATES, TOPICS
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.operations.exchange import import_bets, import_records
from kasoko_cli.settings import SETTINGS
from tests.cli.conftest import Kasoko
from tests.test_docs import CALLED, ROOT
from tests.test_house import error_classes, find_command


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_fits_80_columns_and_names_only_commands_that_there_are(topic: str) -> None:
    text = TOPICS[topic][1]()
    crontab = re.compile(r"  (?:[\d*/]+ +){5}")  # a line of a crontab cannot be broken
    if topic not in {"settings", "taxes"}:  # files, printed as they are
        assert [line for line in text.splitlines() if len(line) > 78 and not crontab.match(line)] == []
    named = re.findall(r"kasoko ([a-z][a-z-]+)", text)
    assert set(named) <= {word.name for word in WORDS}


def test_the_exit_codes_of_the_topic_are_all_there_are() -> None:
    told = {int(code) for code in re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)}
    assert told == {one.exit_code for one in error_classes()} | {0, 1, 2, 10, 130}


def test_the_states_of_the_topic_are_all_there_are() -> None:
    told = re.findall(r"^  ([A-Z_]+) ", STATES, re.MULTILINE)
    assert told == [*PayoutStatus, *sorted(AttemptStatus, key=lambda one: told.index(one, len(PayoutStatus)))]


def test_the_environment_of_the_topic_is_all_that_is_read() -> None:
    text = TOPICS["environment"][1]()
    assert [one.variable for one in SETTINGS.values() if one.variable and one.variable not in text] == []
    sources = [file.read_text() for file in (ROOT / "kasoko_cli").rglob("*.py")]
    read = {name for source in sources for name in re.findall(r'os\.environ(?:\.get\(|\[)"(\w+)"', source)}
    assert {"NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "KASOKO_HOST"} <= read
    assert [name for name in read if name not in text and not name.startswith("KASOKO_TEST_")] == []


def test_the_columns_of_the_topic_are_those_that_are_read() -> None:
    for columns in (import_records.USER_COLUMNS, import_records.MARKET_COLUMNS):
        assert ",".join(columns.header) in FORMATS
    assert ",".join(import_bets.BET_COLUMNS.header) in FORMATS


def test_the_lines_for_cron_can_be_called() -> None:
    lines = [CALLED.findall(line) for line in CRON.splitlines() if line.startswith("  ") and "* * *" in line]
    assert len(lines) == 6
    for [line] in lines:
        command, words = find_command(line.split())
        command.make_context("kasoko", words)


def test_help_lists_topics_and_shows_one(kasoko: Kasoko) -> None:
    assert kasoko("help").stdout.startswith("Topics\n  exit-codes")
    assert kasoko("help", "recovery").stdout == TOPICS["recovery"][1]()


def test_help_of_a_command_is_its_own_help(kasoko: Kasoko) -> None:
    assert kasoko("help", "payout", "send").stdout == kasoko("payout", "send", "--help").stdout
    assert kasoko("help", "audit").stdout == kasoko("audit", "--help").stdout


def test_help_of_payout_shows_the_options_of_sending(kasoko: Kasoko) -> None:
    page, sending = kasoko("payout", "--help").stdout, kasoko("payout", "send", "--help").stdout
    assert page.startswith("Usage: kasoko payout [OPTIONS] [MARKET]\n       kasoko payout COMMAND [ARGS]...\n")
    for heading in ("Arguments", "Options", "Options of every command", "Exit codes"):
        [part] = [one for one in sending.split("\n\n") if one.startswith(f"{heading}\n")]
        assert part in page, heading
    assert "  to-wallet " in page


def test_which_kasoko_it_is_is_told_in_both_ways(kasoko: Kasoko) -> None:
    told = kasoko("version").stdout
    assert told == kasoko("--version").stdout == f"kasoko {__version__}\n"
    assert json.loads(kasoko("version", "--json").stdout)["version"] == __version__


def test_a_topic_that_is_not_there_is_answered_with_the_nearest(kasoko: Kasoko) -> None:
    done = kasoko("help", "recovry")
    assert done.returncode == 2
    assert "There is no topic and no command 'recovry'. Did you mean 'recovery'?" in done.stderr


def test_manual_pages_are_made_of_every_command(kasoko: Kasoko, tmp_path: Path) -> None:
    assert kasoko("help", "--man", "man").returncode == 0
    pages = {page.name for page in (tmp_path / "man").iterdir()}
    assert {"kasoko.1", "kasoko-payout.1", "kasoko-payout-send.1", "kasoko-retry-failed.1"} <= pages
    text = (tmp_path / "man" / "kasoko-payout-send.1").read_text()
    for part in (".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH EXAMPLES", ".SH EXIT STATUS"):
        assert part in text


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man")
def test_man_itself_has_nothing_to_say_about_them(kasoko: Kasoko, tmp_path: Path) -> None:
    kasoko("help", "--man", "man")
    for page in sorted((tmp_path / "man").iterdir()):
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", page],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "PAGER": "cat"},
        )
        assert (done.returncode, done.stderr) == (0, ""), page.name
