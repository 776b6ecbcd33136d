"""How long a file of bets takes, beside raw `executemany` of the same rows on SQLite.

    python -m tests.benchmarks.importing [BETS ...] [--markdown FILE]

The raw run writes what the import writes, bets, entries and postings, by the driver alone into the same
tables with the same indexes, in one transaction; it reads no file and checks nothing.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from kasoko_cli.clock import system_clock
from kasoko_cli.operations.exchange.import_bets import bets_kind
from kasoko_cli.operations.exchange.import_records import markets_kind, take_in, users_kind
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.record_files import Format, InputFile
from kasoko_cli.store.engine import database
from tests.benchmarks.memory import peak_mib
from tests.benchmarks.page import measured_apart, show, table, takes_markdown
from tests.benchmarks.settle import Took, timed

USERS = 20_000
OUTCOMES = ("Yes", "No", "Neither")
CLOSES = datetime(2026, 12, 1, 15, tzinfo=UTC)


def write_files(folder: Path, bets: int) -> None:
    with (folder / "users.csv").open("w") as file:
        file.write("user_id,name,phone\n")
        file.writelines(f"u{n:06d},User {n},2547{n + 10_000_000:08d}\n" for n in range(USERS))
    with (folder / "markets.csv").open("w") as file:
        file.write("market_id,slug,question,outcomes,closes_at,fee_bps\n")
        file.writelines(f"m{n},market-{n},Which?,{'|'.join(OUTCOMES)},{CLOSES.isoformat()},500\n" for n in range(10))
    start = CLOSES - timedelta(days=30)
    with (folder / "bets.csv").open("w") as file:
        file.write("bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at\n")
        for n in range(bets):
            placed = (start + timedelta(seconds=2 * n)).strftime("%Y-%m-%dT%H:%M:%SZ")
            user = n * 7919 % USERS
            file.write(f"b{n:09d},m{n % 10},u{user:06d},{OUTCOMES[n % 3]},{n % 900 + 1}.{n % 100:02d},{placed},\n")


def imported(folder: Path, kasoko: Path) -> tuple[Took, Took]:
    """The first import, and the same file again."""
    db = database.Database(f"sqlite:///{kasoko}")
    actor = Actor("benchmark")

    def file(name: str) -> InputFile:
        return InputFile(name, (folder / name).open("rb"), Format.CSV)

    take_in(OperationContext(db, system_clock, actor), file("users.csv"), users_kind())
    take_in(OperationContext(db, system_clock, actor), file("markets.csv"), markets_kind())
    took = []
    for _ in range(2):
        with timed() as timing:
            take_in(OperationContext(db, system_clock, actor), file("bets.csv"), bets_kind())
        took.append(timing())
    with db.reading() as session:
        assert session.connection().execute(text("SELECT sum(amount_cents) FROM postings")).scalar() == 0
    db.close()
    return took[0], took[1]


def raw(kasoko: Path, empty: Path) -> Took:
    """The same rows by the driver alone; reading them first is not counted."""
    source = sqlite3.connect(kasoko)
    tables = {
        name: source.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall()
        for name in ("users", "markets", "outcomes", "bets", "entries", "postings")
    }
    source.close()
    target = sqlite3.connect(empty, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        target.execute(f"PRAGMA {pragma}")

    def write(name: str) -> None:
        rows = tables[name]
        target.executemany(f"INSERT INTO {name} VALUES ({','.join('?' * len(rows[0]))})", rows)

    for name in ("users", "markets", "outcomes"):
        write(name)
    with timed() as timing:
        target.execute("BEGIN IMMEDIATE")
        for name in ("bets", "entries", "postings"):
            write(name)
        target.execute("COMMIT")
    target.close()
    return timing()


def one(bets: int) -> dict[str, float]:
    """Measure in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, bets)
        for database_name in ("kasoko.db", "raw.db"):
            database.upgrade(f"sqlite:///{folder / database_name}")
        first, again = imported(folder, folder / "kasoko.db")
        peak = round(peak_mib())
        alone = raw(folder / "kasoko.db", folder / "raw.db")
        return {
            "first": first.seconds,
            "again": again.seconds,
            "alone": alone.seconds,
            "cpu_ratio": first.worked / alone.worked,
            "us_a_bet": first.worked / bets * 1e6,
            "peak": peak,
        }


HEAD = ("bets", "import, s", "µs a bet", "again, s", "raw, s", "ratio", "of CPU", "peak MiB")


def main() -> None:
    """Each measurement in a process of its own."""
    parser = argparse.ArgumentParser(description="How long a file of bets takes, beside raw executemany.")
    parser.add_argument("bets", type=int, nargs="*", default=[100_000, 1_000_000])
    takes_markdown(parser)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(one(asked.bets[0])))
        return
    rows = []
    for bets in asked.bets:
        found = measured_apart("importing", "--here", bets)
        first, again, alone = (f"{found[name]:.1f}" for name in ("first", "again", "alone"))
        ratio, of_cpu = f"{found['first'] / found['alone']:.1f}", f"{found['cpu_ratio']:.1f}"
        rows.append(
            (f"{bets:,}", first, f"{found['us_a_bet']:.0f}", again, alone, ratio, of_cpu, f"{found['peak']:.0f}")
        )
    show(table(HEAD, rows, words=0), asked.markdown)


if __name__ == "__main__":
    main()
