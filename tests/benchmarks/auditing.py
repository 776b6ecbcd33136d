"""How long the audit takes and how much memory it needs, as the payouts grow; and how long `status` takes.

```text
python -m tests.benchmarks.auditing [--payouts 10000 100000 1000000] [--database sqlite | postgres] [--markdown FILE]
```

One market, every bet a winner's, every payout paid: each has a bet, an attempt, a stored result and four entries.
The people come in by the import, so that each check finds what it looks for. Every measurement is a process of its
own, which opens the finished database and does one thing. Not a test: it prints figures.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from kasoko_cli.ledger import book
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.exchange.import_records import take_in, users_kind
from kasoko_cli.operations.reporting import status_views
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.record_files import Format, InputFile
from kasoko_cli.operations.shared.transitions import Success
from kasoko_cli.store import callbacks
from kasoko_cli.store.engine.database import Database, WithinTransaction, open_database, upgrade
from tests.benchmarks.memory import peak_mib
from tests.benchmarks.page import measured_apart, show, table, takes_markdown
from tests.benchmarks.results import SENT, on_their_way, result_body
from tests.benchmarks.settle import ACT, OPENED, database_named, timed

#: Results that are booked in one transaction, as a busy listener does.
AT_ONCE = 1_000
PAID = SENT + timedelta(minutes=1)


def build(url: str, count: int) -> None:
    """A database with so many payouts, all of them paid."""
    upgrade(url)
    db = open_database(url)
    try:
        lines = (f"u{n},User {n},2547{n % 10**8:08d}\n" for n in range(count))
        people = io.BytesIO(("user_id,name,phone\n" + "".join(lines)).encode())
        take_in(OperationContext(db, lambda: OPENED, ACT), InputFile("users.csv", people, Format.CSV), users_kind())
        sent = on_their_way(db, count, with_people=False)
        for start in range(0, count, AT_ONCE):
            _pay(db, start, sent[start : start + AT_ONCE])
    finally:
        db.close()


def _pay(db: Database, start: int, sent: list[tuple[str, int]]) -> None:
    with db.transaction() as session:
        rows = [
            {
                "received_at": PAID,
                "route": "result",
                "subject": attempt_id,
                "signed": True,
                "source": "196.201.214.200",
                "body": result_body(attempt_id, cents, start + n),
            }
            for n, (attempt_id, cents) in enumerate(sent)
        ]
        with WithinTransaction(db, session).direct() as direct:
            first = callbacks.store(direct, rows)
        callbacks.take(session, {first + n: ("applied", "paid", None) for n in range(len(sent))}, at=PAID)
        known = transitions.lock_many(session, [attempt_id for attempt_id, _ in sent])
        successes = [
            Success(*known[attempt_id], f"UKP{start + n:07X}", f"callback:{first + n}")
            for n, (attempt_id, _) in enumerate(sent)
        ]
        results = transitions.paid(session, successes, at=PAID)
        book.post_many(session, (entry for outcome in results for entry in outcome.entries), at=PAID)


def _audited(db: Database, *, deep: bool, chain: bool) -> None:
    report = audit(db, lambda: PAID, deep=deep, chain=chain)
    for check in report.checks:
        print(f"    {check.took_ms:>9,} ms  {check.name}", flush=True)
    assert report.ok, [(check.name, check.violations[:3]) for check in report.checks if not check.ok]


WORK: Mapping[str, Callable[[Database], object]] = {
    "nothing": lambda _db: None,
    "audit": lambda db: _audited(db, deep=False, chain=False),
    "audit --deep --chain": lambda db: _audited(db, deep=True, chain=True),
    "status": status_views.overview,
    "status MARKET": lambda db: status_views.market_status(db, "derby"),
}


def one(url: str, work: str) -> None:
    """Do one thing, and say how long it took and the most memory that this process held; its figures as JSON."""
    db = open_database(url)
    try:
        with timed() as timing:
            WORK[work](db)
    finally:
        db.close()
    took, peak = timing(), peak_mib()
    print(f"  {work:<22} {took.seconds:9.3f} s   {took.worked:9.3f} s of this process   peak memory {peak:6.0f} MiB")
    print(json.dumps({"worked": took.worked, "peak": peak}))


HEAD = ("command", "payouts", "processor, s", "peak MiB")


def row(work: str, count: int, found: Mapping[str, Any]) -> tuple[str, ...]:
    """A measurement as a line of the table."""
    name = "nothing, the database opened" if work == "nothing" else f"`{work}`"
    worked = f"{found['worked']:.2f}" if found["worked"] < 1 else f"{found['worked']:.1f}"
    return name, f"{count:,}", worked, f"{found['peak']:.0f}"


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="How the audit grows with the payouts.")
    parser.add_argument("--payouts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--database", default="sqlite", help="sqlite or postgres")
    parser.add_argument("--measure", choices=WORK, help="one thing, in a database that is there already")
    takes_markdown(parser)
    options = parser.parse_args()
    if options.measure:
        one(options.database, options.measure)
        return
    rows: dict[str, list[tuple[str, ...]]] = {work: [] for work in WORK}
    for count in options.payouts:
        with database_named(options.database) as url:
            print(f"{count:,} payouts, {options.database}", flush=True)
            build(url, count)
            for work in WORK:
                found = measured_apart("auditing", "--database", url, "--measure", work)
                rows[work].append(row(work, count, found))
    show(table(HEAD, [line for lines in rows.values() for line in lines]), options.markdown)


if __name__ == "__main__":
    main()
