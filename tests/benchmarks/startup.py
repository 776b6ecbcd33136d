"""How long the program takes to start, whole processes, beside what it cannot do without.

```text
python -m tests.benchmarks.startup [--runs 10] [--payouts 100000] [--database URL] [--markdown FILE]
```

Each command and its yardstick run in turn, so that a machine that gets slower slows both; figures are medians of
the wall clock, from start to exit. `--database` names one that has the payouts already; without it a new SQLite
file gets them, one market's, most of them completed. Not a test: it prints figures and judges nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine.database import open_database, upgrade
from tests.benchmarks.page import show, table, takes_markdown
from tests.benchmarks.settle import ACT, OPENED, prepare

PROGRAM = str(Path(sys.executable).with_name("kasoko"))
PYTHON = sys.executable


def fill(url: str, payouts: int) -> None:
    """A database with so many payouts; nine of ten are completed, as in an operator's."""
    upgrade(url)
    db = open_database(url)
    try:
        prepare(db, payouts)
        settle.settle_market(
            OperationContext(db, lambda: OPENED + timedelta(days=2), ACT), WireLimits(), market="derby"
        )
        with db.engine.begin() as connection:
            connection.execute(
                text("UPDATE payouts SET status = 'COMPLETED', updated_at = :now WHERE number % 10 <> 0"),
                {"now": datetime.now(UTC).replace(tzinfo=None) if db.is_sqlite else datetime.now(UTC)},
            )
    finally:
        db.close()


def seconds(words: Sequence[str], folder: str) -> float:
    """One process from its start to its end; what it says is thrown away."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    started = time.perf_counter()
    done = subprocess.run(
        words, cwd=folder, env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    took = time.perf_counter() - started
    assert done.returncode in (0, 8), f"{words} exited with {done.returncode}"
    return took


@dataclass(frozen=True, slots=True)
class Case:
    """A command and its yardstick, a line of Python.

    The goal is to take so many times as long at most, or so many milliseconds more; some have none.
    """

    command: str
    yardstick: str
    goal_times: float | None = None
    goal_more_ms: int | None = None
    needs_database: bool = False


CASES = (
    Case("--version", "pass", goal_more_ms=15),
    Case("--help", "import typer", goal_times=1.3),
    Case("payout send --help", "import typer"),
    Case("status", "import sqlmodel", goal_times=1.5, needs_database=True),
    Case("status --check", "import sqlmodel", needs_database=True),
    Case("metrics write .", "import sqlmodel", needs_database=True),
)

HEAD = ("command", "beside `python -c`", "ms", "beside, ms", "apart", "goal")


def compare(case: Case, url: str, runs: int, folder: str) -> tuple[str, ...]:
    """Print both medians and how they relate; the line of the table."""
    words = [PROGRAM, *case.command.split(), *(["--database", url] if case.needs_database else [])]
    yardstick = [PYTHON, "-c", case.yardstick]
    seconds(words, folder)  # the first one fills the caches of the machine
    pairs = [(seconds(words, folder), seconds(yardstick, folder)) for _ in range(runs)]
    ours, theirs = (statistics.median(one) * 1000 for one in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(
        f"{case.command:<28} {ours:7.0f} ms   {'-c ' + case.yardstick:<22} {theirs:7.0f} ms"
        f"   {ratio:5.2f} times   {ours - theirs:+7.0f} ms",
        flush=True,
    )
    apart, goal = f"{ratio:.2f} times", "-"
    if case.goal_times is not None:
        goal = f"{case.goal_times} times"
    elif case.goal_more_ms is not None:
        apart, goal = f"{ours - theirs:+.0f} ms", f"{case.goal_more_ms:+} ms"
    return f"`{case.command}`", f"`{case.yardstick}`", f"{ours:.0f}", f"{theirs:.0f}", apart, goal


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=10)
    asked.add_argument("--payouts", type=int, default=100_000)
    asked.add_argument("--database", help="one that has the payouts already")
    takes_markdown(asked)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="kasoko-startup-") as folder:
        url = given.database or f"sqlite:///{folder}/kasoko.db"
        if given.database is None:
            fill(url, given.payouts)
        print(
            f"{given.runs} runs each, medians; {given.payouts:,} payouts; Python {sys.version.split()[0]}", flush=True
        )
        rows = [compare(case, url, given.runs, folder) for case in CASES]
    show(table(HEAD, rows, words=2), given.markdown)


if __name__ == "__main__":
    main()
