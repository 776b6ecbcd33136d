"""The house is as it says: its layers, its errors, its help texts."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from kasoko_cli import errors
from kasoko_cli.cli.app import app
from kasoko_cli.cli.command import Commands
from kasoko_cli.cli.help.command_index import WORDS, front_page
from kasoko_cli.cli.help.layout import examples_in, exit_codes_in

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
        assert place == "cli/output/render.py" or not re.search(r"(?<![\w.])print\(", text), place
        assert place.startswith(("cli/", "__main__")) or not re.search(shell, text, re.MULTILINE), place


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Each module of the package, parsed once and only by a worker that runs such a test."""
    files = (file for file in sorted((ROOT / "kasoko_cli").rglob("*.py")) if "versions" not in file.parts)
    return {module_name(file): ast.parse(file.read_text()) for file in files}


def imported_by(module: str, *, also_inside_functions: bool) -> set[str]:
    """The modules of the package that a module imports, where it does more than name a type."""
    found: set[str] = set()
    waiting: list[ast.AST] = [*modules()[module].body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by place, not by name"
            base = node.module or ""
            found |= {f"{base}.{name.name}" if f"{base}.{name.name}" in modules() else base for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif also_inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return (found & modules().keys()) - {module}


@pytest.mark.parametrize("also_inside_functions", [False, True], ids=["at module level", "inside functions too"])
def test_no_modules_import_each_other_in_a_circle(also_inside_functions: bool) -> None:
    imports = {one: imported_by(one, also_inside_functions=also_inside_functions) for one in modules()}
    assert sum(map(len, imports.values())) > 500, "the walk sees imports"
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_folder_has_more_than_20_modules() -> None:
    folders = Counter(file.parent for file in (ROOT / "kasoko_cli").rglob("*.py") if file.name != "__init__.py")
    del folders[ROOT / "kasoko_cli/store/migrations/versions"]
    assert len(folders) > 20
    assert {str(folder): count for folder, count in folders.items() if count > 20} == {}


def statements_in(tree: ast.Module) -> int:
    """How many SQL statements a module makes: select, insert, update, delete, text."""
    calls = [ast.unparse(node.func).removeprefix("sa.") for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sum(call in {"select", "insert", "update", "delete", "text"} for call in calls)


def test_sql_stands_in_the_store_and_what_is_left_of_it_in_the_operations_does_not_grow() -> None:
    """The audit's invariants stand with their queries. Whoever moves a statement into the store lowers the number."""
    found = {name: statements_in(tree) for name, tree in modules().items() if name.startswith("kasoko_cli.operations.")}
    audited = sum(count for name, count in found.items() if name.startswith("kasoko_cli.operations.audit."))
    assert (sum(found.values()) - audited, audited) == (18, 80)


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
    if path == ("events",):
        writing = {"--actor"}  # there it asks who did it
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


@pytest.mark.parametrize(("path", "command"), ALL_COMMANDS)
def test_every_help_text_shows_two_examples_that_can_be_called(path: tuple[str, ...], command: Any) -> None:
    shown = examples_in(inspect.cleandoc(command.help or ""))
    assert len(shown) >= 2, "write two paragraphs: Example: kasoko ..."
    for line in shown:
        called, words = find_command(shlex.split(line)[1:])
        # A pipe into it, a redirection or another variable is the shell's.
        words = words[: next((place for place, word in enumerate(words) if word in {"<", ">", "|"}), len(words))]
        called.make_context("kasoko", words)
    first, _ = find_command(shlex.split(shown[0])[1:])
    assert first.help == command.help, f"{shown[0]} calls another command"


@pytest.mark.parametrize(("path", "command"), ALL_COMMANDS)
def test_every_help_text_tells_its_exit_codes(path: tuple[str, ...], command: Any) -> None:
    told = [int(code) for code, _ in exit_codes_in(inspect.cleandoc(command.help or ""))]
    assert told[:1] == [0], "write a paragraph: Exit status: 0 done, 4 no such market."
    assert told == sorted(set(told))
    assert set(told) <= {one.exit_code for one in error_classes()} | {0, 2, 10, 130}


#: What names a record that may not be there.
NAMES_A_RECORD = {"MARKET", "PAYOUT", "USER", "BET", "INCIDENT"}

#: Commands of which another run may have the work, or which a lock of the database keeps from moving money.
BUSY = {"resolve", "settle", "approve", "payout send", "payout retry", "retry-failed", "reconcile", "sync"}
BUSY |= {"import users", "import markets", "import bets", "db restore"}


@pytest.mark.parametrize(("path", "command"), ALL_COMMANDS)
def test_help_texts_tell_4_where_a_record_is_named_and_9_where_another_run_may_have_it(
    path: tuple[str, ...], command: Any
) -> None:
    told = {int(code) for code, _ in exit_codes_in(inspect.cleandoc(command.help or ""))}
    if path != ("user", "add") and any(one.metavar in NAMES_A_RECORD for one in command.params):
        assert 4 in told
    if " ".join(path) in BUSY:
        assert 9 in told


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words call, and the words that are its own."""
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands"):
        if words and words[0] in found.commands:
            found, words = found.commands[words[0]], words[1:]
        else:
            assert getattr(found, "default", ""), f"there is no command {words}"
            found = found.commands[found.default]
    return found, words


def test_the_front_page_says_of_every_word_what_the_command_itself_says() -> None:
    root = typer.main.get_command(app)
    for word in WORDS:
        command = root.commands[word.name]  # type: ignore[attr-defined]
        assert inspect.cleandoc(command.help).split("\n")[0] == word.says, word.name


COMMANDS_HOME = ROOT / "kasoko_cli" / "cli" / "commands"


def command_modules() -> dict[str, Path]:
    """The modules of `cli/commands`, by the name that a word on the front page has for them."""
    found = COMMANDS_HOME.rglob("*.py")
    return {".".join(file.relative_to(COMMANDS_HOME).with_suffix("").parts): file for file in sorted(found)}


def test_every_command_that_is_written_can_be_called() -> None:
    """One of which no word and no noun leads to its module could not be."""
    called = {(command.callback.__module__, command.callback.__qualname__) for _, command in commands()}
    written = {
        (one.callback.__module__, one.callback.__qualname__)
        for place in command_modules()
        for verbs in vars(importlib.import_module(f"kasoko_cli.cli.commands.{place}")).values()
        if isinstance(verbs, Commands)
        for one in verbs.registered_commands
        if one.callback is not None
    }
    assert len(written) > 60
    assert written == called


def test_no_command_imports_another() -> None:
    """What two of them need stands above them all; a noun gathers its verbs, and a part belongs to one command."""
    importers: dict[str, set[str]] = {}
    for place, file in command_modules().items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kasoko_cli.cli.commands"):
                module = (node.module or "").removeprefix("kasoko_cli.cli.commands").lstrip(".")
                for name in node.names:
                    inner = f"{module}.{name.name}"
                    importers.setdefault(inner if inner in command_modules() else module, set()).add(place)
    assert "market.override" in importers
    assert importers.keys() & {word.place.partition(":")[0] for word in WORDS} == set()
    assert {name: by for name, by in importers.items() if len(by) > 1} == {}


def test_the_front_page_shows_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = front_page()
    assert [word.name for word in WORDS if word.says not in shown] == []
    assert CliRunner().invoke(app, ["--help"]).stdout == shown


def test_the_readmes_exit_codes_are_those_of_the_errors() -> None:
    section = re.search(r"^#+ Exit codes\n(.*?)(?=^#|\Z)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None, "README.md has a table under the heading Exit codes"
    told = {int(code) for code in re.findall(r"^\| *`?(\d+)`? *\|", section[1], re.MULTILINE)}
    # Codes that no error of ours has: done, Typer's usage, work left over, interrupted.
    assert told == {one.exit_code for one in error_classes()} | {0, 2, 10, 130}
