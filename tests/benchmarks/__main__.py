"""Every measurement of docs/performance.md, and its tables written anew.

    python -m tests.benchmarks                     all of it: more than an hour on two cores
    python -m tests.benchmarks --only settling     one part
    python -m tests.benchmarks --quick             small sizes, to see that all of it runs
    python -m tests.benchmarks --write             into docs/performance.md, too

Where there is a raw limit, a table has that of the same run beside ours, and the ratio; the listener and
starting have goals. Nothing is asserted but that the work was done right. A part is a module of this folder
with a `--markdown FILE` of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.page import put

#: The parts: their place on the page, the module, what it is called with, and with what to be quick.
PARTS = {
    "sending": ("dispatch", (), ("quick", "--rounds", "1", "--payouts", "500")),
    "settling": (
        "settle",
        ("--bets", "1000", "10000", "100000", "1000000", "--database", "sqlite", "postgres"),
        ("--bets", "1000", "10000", "--database", "sqlite", "postgres"),
    ),
    "auditing": ("auditing", ("--payouts", "10000", "100000", "1000000"), ("--payouts", "1000")),
    "importing": ("importing", ("100000", "1000000"), ("10000",)),
    "listener": ("listener", ("--results", "15000", "--rounds", "3"), ("--results", "1000")),
    "startup": ("startup", (), ("--runs", "2", "--payouts", "1000")),
}


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    for name, (module, full, quick) in PARTS.items():
        if asked.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "table.md"
                words = quick if asked.quick else full
                command = [sys.executable, "-m", f"tests.benchmarks.{module}", *words, "--markdown", str(file)]
                print(f"## {name}: python -m tests.benchmarks.{' '.join([module, *words])}", flush=True)
                subprocess.run(command, check=True)
                if asked.write:
                    put(name, file.read_text())


if __name__ == "__main__":
    main()
