"""How long the program takes to start, whole processes, beside what it cannot do without.

```text
python -m tests.benchmarks.startup [--runs 10] [--payouts 100000] [--database URL]
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
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.operations import settle
from kasoko_cli.store.database import open_database, upgrade
from tests.benchmarks.settle import ACT, OPENED, prepare

PROGRAM = str(Path(sys.executable).with_name("kasoko"))
PYTHON = sys.executable


def fill(url: str, payouts: int) -> None:
    """A database with so many payouts; nine of ten are completed, as in an operator's."""
    upgrade(url)
    db = open_database(url)
    try:
        prepare(db, payouts)
        settle.settle_market(db, lambda: OPENED + timedelta(days=2), ACT, WireLimits(), market="derby")
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


def compare(name: str, words: Sequence[str], yardstick: Sequence[str], runs: int, folder: str) -> None:
    """Print both medians and how they relate."""
    seconds(words, folder)  # the first one fills the caches of the machine
    pairs = [(seconds(words, folder), seconds(yardstick, folder)) for _ in range(runs)]
    ours, theirs = (statistics.median(one) for one in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(
        f"{name:<28} {ours * 1000:7.0f} ms   {' '.join(yardstick[1:]):<22} {theirs * 1000:7.0f} ms"
        f"   {ratio:5.2f} times   {(ours - theirs) * 1000:+7.0f} ms"
    )


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=10)
    asked.add_argument("--payouts", type=int, default=100_000)
    asked.add_argument("--database", help="one that has the payouts already")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="kasoko-startup-") as folder:
        url = given.database or f"sqlite:///{folder}/kasoko.db"
        if given.database is None:
            fill(url, given.payouts)
        bare = [PYTHON, "-c", "pass"]
        typer, sqlmodel = [PYTHON, "-c", "import typer"], [PYTHON, "-c", "import sqlmodel"]
        with_url = ("--database", url)
        print(f"{given.runs} runs each, medians; {given.payouts:,} payouts; Python {sys.version.split()[0]}")
        compare("--version", [PROGRAM, "--version"], bare, given.runs, folder)
        compare("--help", [PROGRAM, "--help"], typer, given.runs, folder)
        compare("payout send --help", [PROGRAM, "payout", "send", "--help"], typer, given.runs, folder)
        compare("status", [PROGRAM, "status", *with_url], sqlmodel, given.runs, folder)
        compare("status --check", [PROGRAM, "status", "--check", *with_url], sqlmodel, given.runs, folder)
        compare("metrics write .", [PROGRAM, "metrics", "write", ".", *with_url], sqlmodel, given.runs, folder)


if __name__ == "__main__":
    main()
