"""As many schedules as are wanted, and what came of them.

    python -m tests.proof --schedules 1000 --seed 1 --jobs 2 --database both

Exit status: 0 nothing is wrong, 8 something is.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from tests.proof import jobs
from tests.proof.acts import ACTS, OTHERS
from tests.proof.databases import Kind, postgres_running
from tests.proof.schedule import Told

#: One schedule in so many starts the true program by exec, one in so many runs on PostgreSQL (of both).
BY_EXEC_EVERY = 40
POSTGRES_EVERY = 4


def main() -> int:
    """Run them, say how they went, and tell the first that went wrong step by step."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--schedules", type=int, default=20, metavar="N", help="How many.")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="Of the first; the others count on.")
    parser.add_argument("--jobs", type=int, default=2, metavar="J", help="How many at once.")
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--exec", action="store_true", help="Start every process by exec; slow.")
    parser.add_argument("--tell", action="store_true", help="Tell every schedule step by step.")
    parser.add_argument(
        "--act", action="append", choices=[*ACTS, *OTHERS], help="Play only this act, and often; may be repeated."
    )
    asked = parser.parse_args()
    started = time.monotonic()
    told: list[Told] = []
    with _server(asked.database) as server, tempfile.TemporaryDirectory(prefix="kasoko-proof-") as folder:
        pool = ProcessPoolExecutor(
            asked.jobs, multiprocessing.get_context("spawn"), initializer=jobs.prepare, initargs=(server, folder)
        )
        waiting: set[Future[Told]] = set()
        with pool:
            for seed in range(asked.seed, asked.seed + asked.schedules):
                database: Kind = "sqlite"
                if asked.database == "postgres" or (asked.database == "both" and seed % POSTGRES_EVERY == 0):
                    database = "postgres"
                by_exec = asked.exec or seed % BY_EXEC_EVERY == 0
                waiting.add(pool.submit(jobs.run, seed, database, by_exec, asked.act))
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    told.append(future.result())
                    _tell(told[-1], whole=asked.tell or sum(bool(one.wrong) for one in told) == 1, always=asked.tell)
                if sys.stderr.isatty():
                    print(f"\r{len(told)} of {asked.schedules}", end="", file=sys.stderr)
    return _sum_up(told, time.monotonic() - started)


@contextlib.contextmanager
def _server(database: str) -> Iterator[str | None]:
    if database == "sqlite":
        yield None
    else:
        with postgres_running() as server:
            yield server


def _tell(told: Told, *, whole: bool, always: bool) -> None:
    """The first that went wrong is told whole, the others by their seed."""
    if told.wrong or always:
        print(str(told) if whole else f"seed {told.seed} on {told.database}: {told.wrong[0]}", flush=True)


def _sum_up(told: list[Told], seconds: float) -> int:
    by_person: Counter[str] = sum((one.by_person for one in told), Counter())
    rows = {
        "schedules": len(told),
        "of these on PostgreSQL": sum(one.database == "postgres" for one in told),
        "of these by exec": sum(one.by_exec for one in told),
        "processes": sum(one.processes for one in told),
        "kills": sum(one.kills for one in told),
        "intents that a killed process left": sum(one.intents for one in told),
        "restores": sum(one.restores for one in told),
        "payouts": sum(one.payouts for one in told),
        "double payments": sum(one.doubles for one in told),
        "lost or minted cents": sum(one.cents for one in told),
        "tracebacks": sum(one.tracebacks for one in told),
        "payouts not final": sum(one.not_final for one in told),
        "payouts that a person ended": sum(by_person.values()),
        "schedules with anything wrong": sum(bool(one.wrong) for one in told),
        "seconds": round(seconds),
        "kills a second": f"{sum(one.kills for one in told) / max(seconds, 0.001):.1f}",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
    played: Counter[str] = sum((one.played for one in told), Counter())
    for name in (*ACTS, *OTHERS):
        print(f"  played: {played[name]} x {name}")
    for reason, count in by_person.most_common():
        print(f"  a person: {count} x {reason}")
    wrong = [one.seed for one in told if one.wrong]
    if wrong:
        print(f"Tell one again: python -m tests.proof --schedules 1 --seed {wrong[0]}")
    return 8 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
