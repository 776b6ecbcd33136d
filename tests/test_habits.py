"""One command checks everything: format, lint and strict types are tests like any other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "habit",
    [
        pytest.param(["ruff", "format", "--check", "--quiet", "."], id="format"),
        pytest.param(["ruff", "check", "--quiet", "."], id="lint"),
        pytest.param(["mypy"], id="types"),
    ],
)
def test_the_code_keeps_its_habits(habit: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *habit], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_is_what_the_readme_says_and_its_exhaustive_part_is_what_the_first_leaves_out() -> None:
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if "-m pytest" in line]
    check = (ROOT / ".ci" / "run").read_text().splitlines()[-2:]
    left_out = re.findall("-m '(.+?)'", (ROOT / "pyproject.toml").read_text())

    assert commands == check
    assert "-c .ci/constraints.txt" in check[0]
    assert left_out == [f"not {check[1].rpartition('-m ')[2]}"]


def test_constraints_name_versions_and_no_addresses() -> None:
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]

    assert pinned
    assert all(len(line.split("==")) == 2 for line in pinned)
    assert not any("/" in line or "@" in line for line in pinned)


#: Where a text still has a time in UTC: it is stored and compared, typed back, or its seconds say what came first.
UTC_IN_TEXT = {
    "operations/audit/chain_check.py",
    "operations/approvals/second_person.py",
    "operations/exchange/import_bets.py",
    "operations/payouts/send_and_wait.py",
    "operations/reconciliation/statement_matching.py",
    "operations/records/bets.py",
    "operations/safeguards/restore_doubt.py",
    "operations/shared/transitions.py",
}


def test_a_message_has_its_time_in_eat() -> None:
    package = ROOT / "kasoko_cli"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for value in ast.walk(ast.parse(path.read_text()))
        if isinstance(value, ast.FormattedValue)
        for call in ast.walk(value)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in {"iso", "format_time"}
    }

    assert found == UTC_IN_TEXT
