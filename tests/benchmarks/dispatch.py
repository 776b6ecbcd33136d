"""How many payouts are sent a second, beside a bare httpx loop without a database, against one and the same Daraja.

    python -m tests.benchmarks.dispatch                 all of it: about ten minutes
    python -m tests.benchmarks.dispatch quick           no latency, SQLite only
    python -m tests.benchmarks.dispatch --markdown FILE the table for docs/performance.md, too

Ours commits each intent before its request leaves and each result before it is told, by the same code as
`kasoko payout`: synchronous=FULL on SQLite, fsync and synchronous_commit on PostgreSQL. The bare loop does
what the measurements of the design did: a Client a thread, keep-alive, one body, no database. Both run in
processes of their own, one after the other, so that a busy machine slows both; the ratio is what counts.
Nothing here is asserted but that every payout was sent once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import text

from kasoko_cli.clock import random_id, system_clock
from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.daraja.client import DarajaApp, DarajaClient
from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.operations.account.access_tokens import DatabaseShelf
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.exchange.import_bets import bets_kind
from kasoko_cli.operations.exchange.import_records import markets_kind, take_in, users_kind
from kasoko_cli.operations.payouts import sending
from kasoko_cli.operations.payouts.dispatcher import SendOrder
from kasoko_cli.operations.payouts.run import SendPolicy
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.operations.shared.record_files import Format, InputFile
from kasoko_cli.store.engine import database
from tests.benchmarks.memory import peak_mib
from tests.benchmarks.page import show, table, takes_markdown
from tests.proof.databases import named, on_server, postgres_running

ACT = Actor("benchmark")
CLOSES = datetime.now(UTC) + timedelta(days=1)


# --- The other side -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quick_daraja(latency_seconds: float) -> Iterator[str]:
    """A Daraja in a process of its own; its address."""
    command = [sys.executable, "-m", "tests.benchmarks.quick_daraja", str(latency_seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


def taken(address: str) -> tuple[int, int]:
    """How many payments it took, and under how many different ids."""
    said = httpx.get(f"{address}/count", trust_env=False).json()
    return said["taken"], said["ids"]


# --- What runs in a process of its own ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement: how many requests, in how many seconds, and the most memory its process had."""

    requests: int
    seconds: float
    peak_mb: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def bare(address: str, requests: int, in_flight: int) -> Figures:
    """A pool of threads that only posts."""
    context, left = ssl.create_default_context(), iter(range(requests))
    lock = threading.Lock()
    body = json.dumps(
        {"OriginatorConversationID": "ks-0123456789abcdef0123456789abcdef"} | dict.fromkeys("abcdefgh", "x" * 40)
    )
    headers = {"Authorization": "Bearer a-token", "Content-Type": "application/json"}

    def post() -> None:
        with httpx.Client(verify=context, trust_env=False, timeout=30) as client:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                client.post(f"{address}/mpesa/b2c/v3/paymentrequest", content=body, headers=headers).json()

    threads = [threading.Thread(target=post) for _ in range(in_flight)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Figures(requests, time.perf_counter() - begun, round(peak_mib()))


def ours(address: str, url: str, in_flight: int) -> Figures:
    """One run of everything that is due."""
    db = database.open_database(url)
    account = DarajaApp(address, "a-key", "a-secret", "600000", "benchmark", "a credential of some length" * 12)
    daraja = DarajaClient(account, DatabaseShelf(db, system_clock, account, random_id()), system_clock)
    links = Links("https://pay.example.org", b"a key of thirty-two bytes, or so")
    policy = SendPolicy(rate_per_second=0, concurrency=in_flight)
    begun = time.perf_counter()
    run = sending.send_due(
        OperationContext(db, system_clock, ACT), Gateway(daraja, links, random_id), SendOrder(policy, Trust())
    )
    took = time.perf_counter() - begun
    assert {str(one.became) for one in run.sent} <= {"SENT"}
    daraja.close()
    db.close()
    return Figures(len(run.sent), took, round(peak_mib()))


def in_a_process(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.dispatch", "one", *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def let_go(*processes: subprocess.Popen[str]) -> list[Figures]:
    """Wait until each has imported all that it needs, let them go at once, and collect what they measured."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in processes]
    return [Figures(**json.loads(one)) for one in said]


def one(words: list[str]) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    what, address, *rest = words
    figures = bare(address, int(rest[0]), int(rest[1])) if what == "bare" else ours(address, rest[0], int(rest[1]))
    print(json.dumps({"requests": figures.requests, "seconds": figures.seconds, "peak_mb": figures.peak_mb}))


# --- What is owed -------------------------------------------------------------------------------------------------


def owe(url: str, payouts: int) -> None:
    """A settled market with so many winners, in a new database."""
    database.upgrade(url)
    db = database.open_database(url)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        users = "".join(f"u{n:07d},User {n},2547{n + 10_000_000:08d}\n" for n in range(payouts + 1))
        (folder / "users.csv").write_text("user_id,name,phone\n" + users)
        market = f"derby,derby,Who wins?,Yes|No,{CLOSES.isoformat()},0\n"
        (folder / "markets.csv").write_text("market_id,slug,question,outcomes,closes_at,fee_bps\n" + market)
        placed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        bets = "".join(f"b{n:07d},derby,u{n:07d},Yes,100,{placed},\n" for n in range(payouts))
        bets += f"loser,derby,u{payouts:07d},No,{payouts},{placed},\n"
        (folder / "bets.csv").write_text("bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at\n" + bets)

        def file(which: str) -> InputFile:
            return InputFile(which, (folder / which).open("rb"), Format.CSV)

        take_in(OperationContext(db, system_clock, ACT), file("users.csv"), users_kind())
        take_in(OperationContext(db, system_clock, ACT), file("markets.csv"), markets_kind())
        take_in(OperationContext(db, system_clock, ACT), file("bets.csv"), bets_kind())
    time.sleep(1.1)
    markets.close_market(OperationContext(db, system_clock, ACT), market="derby")
    markets.resolve_market(OperationContext(db, system_clock, ACT), market="derby", winners=["Yes"])
    settle.settle_market(OperationContext(db, system_clock, ACT), WireLimits(), market="derby")
    with db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM payouts WHERE status = 'PENDING'")).scalar() == payouts
    db.close()


def measure(address: str, url: str, payouts: int, in_flight: int, processes: int) -> Figures:
    """Send all that is owed, from so many processes; what they did together."""
    owe(url, payouts)
    before, _ = taken(address)
    figures = let_go(*[in_a_process("ours", address, url, in_flight) for _ in range(processes)])
    assert taken(address)[0] - before == sum(one.requests for one in figures) == payouts
    return Figures(payouts, max(one.seconds for one in figures), max(one.peak_mb for one in figures))


# --- The table ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table; `servers` are PostgreSQL's, or none for SQLite."""

    name: str
    latency_seconds: float
    in_flight: int
    payouts: int
    processes: int = 1
    on_postgres: bool = False


CASES = (
    Case("SQLite, no latency", 0, 4, 8_000),
    Case("PostgreSQL, no latency, one process", 0, 4, 8_000, on_postgres=True),
    Case("PostgreSQL, no latency, four processes", 0, 4, 12_000, processes=4, on_postgres=True),
    Case("SQLite, 2 s latency", 2, 64, 1_600),
    Case("SQLite, 2 s latency", 2, 256, 6_400),
)


HEAD = ("case", "in flight", "payouts", "bare/s", "ours/s", "ratio", "of ideal", "peak MB")


def run_case(case: Case, folder: Path, server: str | None, rounds: int) -> tuple[str, ...]:
    """Measure bare and ours in turn, and say the medians."""
    bares, mine = [], []
    for number in range(rounds):
        with quick_daraja(case.latency_seconds) as address:
            bares += let_go(in_a_process("bare", address, case.payouts, case.in_flight))
            name = f"bench_{random_id()}"
            if case.on_postgres:
                assert server is not None
                on_server(server, f"CREATE DATABASE {name}")
                url = named(server, name)
            else:
                url = f"sqlite:///{folder / name}.db"
            mine.append(measure(address, url, case.payouts, case.in_flight, case.processes))
        print(
            f"  {case.name}, {case.in_flight} in flight, round {number + 1}: bare {bares[-1].per_second:,.0f} a second,"
            f" ours {mine[-1].per_second:,.0f}, ratio {mine[-1].per_second / bares[-1].per_second:.2f}",
            flush=True,
        )
    their, own = (statistics.median(one.per_second for one in figures) for figures in (bares, mine))
    ratio = statistics.median(
        own_one.per_second / bare_one.per_second for own_one, bare_one in zip(mine, bares, strict=True)
    )
    ideal = f"{own / (case.in_flight / case.latency_seconds):.2f}" if case.latency_seconds else "-"
    peak = max(one.peak_mb for one in mine)
    return (
        case.name,
        f"{case.processes} x {case.in_flight}",
        f"{case.payouts:,}",
        f"{their:,.0f}",
        f"{own:,.0f}",
        f"{ratio:.2f}",
        ideal,
        str(peak),
    )


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="?", choices=["all", "quick"], default="all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--payouts", type=int, help="so many in each case, instead of its own number")
    parser.add_argument("--only", help="only cases whose name has this in it")
    takes_markdown(parser)
    asked = parser.parse_args()
    cases = [case for case in CASES if asked.only is None or asked.only in case.name]
    cases = cases[:1] if asked.which == "quick" else cases
    if asked.payouts:
        cases = [Case(c.name, c.latency_seconds, c.in_flight, asked.payouts, c.processes, c.on_postgres) for c in cases]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        needs_server = any(case.on_postgres for case in cases)
        server = stack.enter_context(postgres_running()) if needs_server else None
        rows = [run_case(case, folder, server, asked.rounds) for case in cases]
    show(table(HEAD, rows, words=2), asked.markdown)


if __name__ == "__main__":
    main()
