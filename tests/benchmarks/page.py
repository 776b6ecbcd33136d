"""Tables of figures, and their places in docs/performance.md: between `<!-- measured: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A Markdown table; after the first `words` columns everything is a number, and stands to the right."""
    rule = ["---" if place < words else "---:" for place in range(len(head))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rows))


def takes_markdown(parser: argparse.ArgumentParser) -> None:
    """The option that each part has: a file for its table."""
    parser.add_argument("--markdown", type=Path, help="write the table here, too")


def show(made: str, file: Path | None) -> None:
    """Print a table, and write it where it was asked for."""
    print(made, flush=True)
    if file is not None:
        file.write_text(made)


def measured_apart(module: str, *words: object) -> dict[str, Any]:
    """What a measurement says in a process of its own, so that its memory is its own: the JSON of its last line.

    The lines before it are for people, and are passed on.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    *told, last = done.stdout.splitlines()
    for line in told:
        print(line, flush=True)
    found: dict[str, Any] = json.loads(last)
    return found


def put(name: str, made: str) -> None:
    """Write a table into its place."""
    place = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    text, count = place.subn(lambda found: f"{found[1]}\n{made}\n{found[2]}", PAGE.read_text())
    assert count == 1, f"docs/performance.md has one place for {name}"
    PAGE.write_text(text)
