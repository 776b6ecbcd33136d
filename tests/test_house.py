"""The house is as it says: its layers, its errors, its help texts."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from kasoko_cli import errors
from kasoko_cli.cli import panels
from kasoko_cli.cli.app import SHOWN, app

ROOT = Path(__file__).parents[1]


def error_classes() -> list[type[errors.KasokoError]]:
    return [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.KasokoError)]


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the program that does something, with the words that call it."""
    group = typer.main.get_command(app) if group is None else group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL_COMMANDS = [pytest.param(path, command, id=" ".join(path)) for path, command in commands()]


# --- Layers --------------------------------------------------------------------------------------


def test_imports_run_down_the_house() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_the_renderer_prints_and_nothing_below_the_shell_knows_the_shell() -> None:
    shell = r"^\s*(?:import|from) (?:typer|rich)\b|\bsys\.exit\(|\bSystemExit\b"
    for file in (ROOT / "kasoko_cli").rglob("*.py"):
        place = file.relative_to(ROOT / "kasoko_cli").as_posix()
        text = file.read_text()
        assert place == "cli/render.py" or not re.search(r"(?<![\w.])print\(", text), place
        assert place.startswith(("cli/", "__main__")) or not re.search(shell, text, re.MULTILINE), place


# --- Errors --------------------------------------------------------------------------------------


def test_the_tree_in_the_docstring_is_the_tree_of_errors() -> None:
    drawn = re.findall(r"^( *)([A-Z]\w+) +(\d+)(?: |$)", (errors.__doc__ or "").split("```")[1], re.MULTILINE)
    parents: dict[int, str] = {}
    tree = {}
    for indent, name, code in drawn:
        depth = len(indent) // 2
        parents[depth] = name
        tree[name] = (parents.get(depth - 1, "Exception"), int(code))
    assert tree == {one.__name__: (one.__bases__[0].__name__, one.exit_code) for one in error_classes()}


def test_every_error_has_a_docstring_and_a_hint_that_is_a_sentence() -> None:
    for one in error_classes():
        assert (one.__doc__ or "").split("\n")[0].endswith("."), one
        assert re.match(r"[A-Z].{10,}", one.hint), one


# --- Commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "command"), ALL_COMMANDS)
def test_every_command_takes_the_shared_options(path: tuple[str, ...], command: Any) -> None:
    taken = {word for parameter in command.params for word in parameter.opts}
    assert {"--config", "--database", "--json", "--quiet", "--verbose"} <= taken
    writing = {"--yes", "--actor", "--reason"}
    assert taken & writing in (set(), writing)


@pytest.mark.parametrize(("path", "command"), ALL_COMMANDS)
def test_every_command_and_option_has_a_help_text_that_fits_80_columns(path: tuple[str, ...], command: Any) -> None:
    text = inspect.cleandoc(command.help or "")
    first, *rest = text.splitlines()
    assert first.endswith((".", ":")), f"the first line is a sentence: {first}"
    assert len(first) <= 78, f"the first line of the help fits a line: {first}"
    assert not rest or rest[0] == "", "the first line stands alone"
    assert all(len(line) <= 78 for line in rest), [line for line in rest if len(line) > 78]
    for parameter in command.params:
        assert parameter.help, f"{parameter.name} has no help text"
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert shown.exit_code == 0
    assert max(len(line.rstrip()) for line in shown.stdout.splitlines()) <= 80


def test_every_word_of_the_root_stands_in_its_panel() -> None:
    known = {value for name, value in vars(panels).items() if name.isupper()}
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        assert name in SHOWN, f"{name} has no place in the order of the help text"
        assert command.rich_help_panel in known, f"{name} has no panel"


def test_the_help_of_the_root_shows_whole_lines() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).stdout
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        first = inspect.cleandoc(command.help).split("\n")[0]
        assert first in shown, f"the help of {name} is broken over two lines: {first}"


def test_the_readmes_exit_codes_are_those_of_the_errors() -> None:
    section = re.search(r"^#+ Exit codes\n(.*?)(?=^#|\Z)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None, "README.md has a table under the heading Exit codes"
    told = {int(code) for code in re.findall(r"^\| *`?(\d+)`? *\|", section[1], re.MULTILINE)}
    # Codes that no error of ours has: done, Typer's usage, work left over, interrupted.
    assert told == {one.exit_code for one in error_classes()} | {0, 2, 10, 130}
