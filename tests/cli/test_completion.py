"""Tab offers what there is, quickly, and says nothing when it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kasoko_cli.cli.app import app
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine.database import Database, open_database
from tests.cli.conftest import environment
from tests.cli.test_start import HEAVY, loaded_by
from tests.conftest import FixedClock
from tests.operations.data_builder import DataBuilder


@pytest.fixture
def settled(database_url: str, clock: FixedClock, actor: Actor) -> str:
    """Three markets, one of them settled with two payouts and one that failed; says where."""
    db = open_database(database_url)
    try:
        builder = DataBuilder(db, clock, actor)
        for user in ("ann", "ben", "cyn"):
            builder.user(user)
        builder.market("rain", ("Yes", "No"))
        builder.market("rail", ("Yes", "No"))
        builder.market("cup", ("Home", "Draw", "Away"))
        for user in ("ann", "ben"):
            builder.bet("rain", user, "Yes", kes=100, collected=True)
        _settle(db, clock, actor)
    finally:
        db.close()
    return database_url


def _settle(db: Database, clock: FixedClock, actor: Actor) -> None:
    from kasoko_cli.domain.payout import WireLimits
    from kasoko_cli.operations.records import markets
    from kasoko_cli.operations.settlement import settle

    markets.close_market(OperationContext(db, clock, actor), market="rain")
    markets.resolve_market(OperationContext(db, clock, actor), market="rain", winners=["Yes"])
    settle.settle_market(OperationContext(db, clock, actor), WireLimits(), market="rain")


def tab(line: str) -> list[str]:
    """What bash is offered for the last word of the line; nothing else may be said."""
    asks = {"_KASOKO_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = CliRunner().invoke(app, [], env=asks, prog_name="kasoko")
    assert done.stderr == ""
    return done.stdout.split()


OFFERED = {
    "kasoko market show ra": ["rail", "rain"],
    "kasoko settle c": ["cup"],
    "kasoko status ": ["cup", "rail", "rain"],
    "kasoko status rain.": ["rain.1.1", "rain.1.2"],
    "kasoko payout show ": ["rain.1.1", "rain.1.2"],
    "kasoko payout ra": ["rail", "rain"],
    "kasoko payout re": ["retry", "release", "returned"],
    "kasoko resolve cup ": ["Home", "Draw", "Away"],
    "kasoko resolve cup D": ["Draw"],
    "kasoko user show ": ["ann", "ben", "cyn"],
    "kasoko payout retry ": [],
    "kasoko payout list --status F": ["FAILED"],
    "kasoko help re": ["recovery"],
    "kasoko res": ["resolve", "resume"],
    # A wildcard is a letter like any other.
    "kasoko settle %": [],
    "kasoko settle _": [],
}


def test_tab_offers_what_there_is(settled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASOKO_DATABASE_URL", settled)
    assert {line: tab(line) for line in OFFERED} == OFFERED


def test_the_database_is_found_where_the_settings_say(
    tmp_path: Path, settled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if settled.startswith("sqlite"):
        (tmp_path / "kasoko.toml").write_text('[database]\nurl = "sqlite:///kasoko.db"\n')
    else:
        (tmp_path / ".env").write_text(f"KASOKO_DATABASE_URL={settled}\n")
    assert tab("kasoko settle c") == ["cup"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert tab("kasoko settle c") == []
    assert tab(f"kasoko settle --database {settled} c") == ["cup"]


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/kasoko.db", "postgresql://kasoko@127.0.0.1:1/kasoko", "mysql://x", "nonsense"]
)
def test_a_database_that_cannot_be_read_offers_nothing_and_says_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KASOKO_DATABASE_URL", url)
    assert tab("kasoko settle ") == []


def test_tab_makes_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tab("kasoko settle ") == []
    assert list(tmp_path.iterdir()) == []


def test_tab_loads_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import os; os.environ.update(_KASOKO_COMPLETE='complete_bash', COMP_WORDS='kasoko settle r', COMP_CWORD='2');"
        " from kasoko_cli.__main__ import main; sys.argv = ['kasoko']; main()"
    )
    assert loaded_by(program, tmp_path) & (HEAVY | {"rich"}) <= {"pydantic"}, "Typer itself wants pydantic"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("words", [["--show-completion"], ["--install-completion"]])
def test_what_is_piped_about_completion_is_plain(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m kasoko_cli {words[0]} | cat; exit ${{PIPESTATUS[0]}}"],
        env=environment(HOME=str(tmp_path), TERM="xterm-256color"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert "\x1b" not in done.stdout
    if words == ["--show-completion"]:
        assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0


def test_bash_itself_completes_after_install_completion(tmp_path: Path, sqlite_template: Path) -> None:
    """The script that --install-completion writes is sourced by a real bash, which is asked as readline asks it."""
    program = tmp_path / "bin" / "kasoko"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kasoko_cli "$@"\n')
    program.chmod(0o755)
    env = environment(HOME=str(tmp_path), PATH=f"{program.parent}:{os.environ['PATH']}", SHELL="/bin/bash")
    for shell, place in (
        ("bash", ".bash_completions/kasoko.sh"),
        ("zsh", ".zfunc/_kasoko"),
        ("fish", ".config/fish/completions/kasoko.fish"),
    ):
        # Typer asks which shell is its parent; a shell of that name is.
        done = subprocess.run(
            [sys.executable, "-c", INSTALL, shell], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / place).read_text().strip()
    asked = subprocess.run(
        ["bash", "--norc", "-c", f"source {tmp_path}/.bash_completions/kasoko.sh; {ASK}"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (asked.stdout.split(), asked.stderr) == (["resolve", "resume"], "")


INSTALL = """
import sys
from unittest import mock
from kasoko_cli.__main__ import main
with mock.patch("shellingham.detect_shell", return_value=(sys.argv[1], "/bin/" + sys.argv[1])):
    sys.argv = ["kasoko", "--install-completion"]
    main()
"""
ASK = 'COMP_WORDS=(kasoko res); COMP_CWORD=1; _kasoko_completion kasoko; echo "${COMPREPLY[@]}"'
