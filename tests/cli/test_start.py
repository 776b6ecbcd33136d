"""The program starts fast: what a command does not need is not loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kasoko_cli
from tests.cli.conftest import Kasoko, environment

#: What takes long to import, and is wanted by no help text.
HEAVY = {"sqlmodel", "sqlalchemy", "httpx", "pydantic", "cryptography", "alembic", "uvicorn", "phonenumbers"}


def loaded_by(program: str, folder: Path) -> set[str]:
    """The modules that a fresh process has loaded when the program has run."""
    asked = f"import sys\ntry:\n    {program}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "program",
    [
        "import kasoko_cli.cli.app",
        "from kasoko_cli.__main__ import main; sys.argv = ['kasoko', '--help']; main()",
    ],
)
def test_help_loads_none_of_the_heavy_packages(program: str, tmp_path: Path) -> None:
    loaded = loaded_by(program, tmp_path)
    assert "kasoko_cli.cli.help.command_index" in loaded
    assert loaded & HEAVY == set()


def test_the_front_page_loads_no_command_and_not_even_typer(tmp_path: Path) -> None:
    loaded = loaded_by("from kasoko_cli.__main__ import main; sys.argv = ['kasoko', '-h']; main()", tmp_path)
    assert loaded & (HEAVY | {"typer", "rich", "kasoko_cli.cli.commands.payout.send", "kasoko_cli.cli.app"}) == set()


def test_a_command_loads_its_own_module_and_neither_another_nor_rich(tmp_path: Path) -> None:
    program = "from kasoko_cli.__main__ import main; sys.argv = ['kasoko', 'payout', 'send', '--help']; main()"
    loaded = loaded_by(program, tmp_path)
    assert "kasoko_cli.cli.commands.payout.send" in loaded
    assert (
        loaded
        & {
            "rich",
            "kasoko_cli.cli.commands.records.bet",
            "kasoko_cli.cli.commands.records.import_export",
            "kasoko_cli.cli.commands.admin.simulate",
        }
        == set()
    )


def test_help_of_a_command_loads_nothing_heavy_but_what_typer_itself_wants(tmp_path: Path) -> None:
    program = "from kasoko_cli.__main__ import main; sys.argv = ['kasoko', 'init', '--help']; main()"
    assert loaded_by(program, tmp_path) & HEAVY <= {"pydantic"}


def test_the_version_loads_not_even_the_command_line(tmp_path: Path) -> None:
    loaded = loaded_by("from kasoko_cli.__main__ import main; sys.argv = ['kasoko', '--version']; main()", tmp_path)
    assert "kasoko_cli.__main__" in loaded
    assert loaded & (HEAVY | {"typer", "rich", "kasoko_cli.cli"}) == set()


def test_the_version_is_told(kasoko: Kasoko) -> None:
    assert kasoko("--version").stdout == f"kasoko {kasoko_cli.__version__}\n"


def test_without_a_word_the_help_is_shown(kasoko: Kasoko) -> None:
    result = kasoko()
    assert (result.returncode, result.stderr) == (0, "")
    assert "Usage: kasoko [OPTIONS] COMMAND [ARGS]..." in result.stdout
    assert result.stdout == kasoko("-h").stdout == kasoko("--help").stdout


def test_status_reads_without_sqlalchemy(kasoko: Kasoko, tmp_path: Path) -> None:
    assert kasoko("init").returncode == 0
    loaded = loaded_by("from kasoko_cli.__main__ import main; sys.argv = ['kasoko', 'status']; main()", tmp_path)
    assert "kasoko_cli.operations.shared.overview" in loaded
    assert loaded & {"sqlalchemy", "sqlmodel", "rich", "httpx", "phonenumbers", "alembic"} == set()


def test_a_reader_that_goes_away_after_a_line_of_help_is_no_error(tmp_path: Path) -> None:
    for words in (["--help"], ["payout", "send", "--help"], ["help", "recovery"]):
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m kasoko_cli {' '.join(words)} | head -1"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == 1
