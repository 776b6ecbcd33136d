"""How long `kasoko db copy` takes, from SQLite to PostgreSQL and back, and how much memory it needs.

```text
python -m tests.benchmarks.moving [--payouts 10000 100000] [--markdown FILE]
```

The database is that of `auditing`: every payout paid. A move has two audits and a comparison of every row. Not a
test: it prints figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from kasoko_cli.clock import random_id, system_clock
from kasoko_cli.operations.admin.database_copy import copy
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine.database import open_database
from tests.benchmarks.auditing import build
from tests.benchmarks.memory import peak_mib
from tests.benchmarks.page import measured_apart, show, table, takes_markdown
from tests.benchmarks.settle import ACT, database_named, timed

HEAD = ("to", "payouts", "rows", "by the clock, s", "processor, s", "peak MiB")


def one(source: str, target: str) -> None:
    """Move one database, and say what that took, as JSON."""
    db = open_database(source)
    try:
        with timed() as timing:
            done = copy(OperationContext(db, system_clock, ACT), target, random_id)
    finally:
        db.close()
    took = timing()
    print(json.dumps({"rows": done.rows, "seconds": took.seconds, "worked": took.worked, "peak": peak_mib()}))


def row(to: str, count: int, found: Mapping[str, Any]) -> tuple[str, ...]:
    """A measurement as a line of the table."""
    figures = (f"{found[name]:,.0f}" for name in ("rows", "seconds", "worked", "peak"))
    return to, f"{count:,}", *figures


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="How long moving into another database takes.")
    parser.add_argument("--payouts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--measure", nargs=2, help="one move, from one address to another")
    takes_markdown(parser)
    options = parser.parse_args()
    if options.measure:
        one(*options.measure)
        return
    rows = []
    for count in options.payouts:
        with database_named("sqlite") as file, database_named("sqlite") as back, database_named("postgres") as server:
            build(file, count)
            for to, source, target in (("PostgreSQL", file, server), ("SQLite", server, back)):
                rows.append(row(to, count, measured_apart("moving", "--measure", source, target)))
                print(" ".join(rows[-1]), flush=True)
    show(table(HEAD, rows), options.markdown)


if __name__ == "__main__":
    main()
