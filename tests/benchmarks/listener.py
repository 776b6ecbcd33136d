"""How many results a second the listener stores and applies, and how long each poster waits.

```text
python -m tests.benchmarks.listener [--results 20000] [--connections 32] [--http h11] [--rounds 1] [--requests 0]
                                   [--database URL] [--markdown FILE]
```

The listener is a process of its own, on a new SQLite database (WAL, synchronous FULL) unless one is named,
which must be empty. This process posts real result bodies, each to its own signed address, over keep-alive
connections; a connection posts again when it was answered. Right before, the same requests go to the same
server with a function that answers at once and does nothing: what the machine and the parser can do at all.
`--requests` posts more than there are payments: the bodies come again, to see whether memory stays flat. Not a
test: it prints figures.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from sqlalchemy import text

from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.daraja.listener import listener_app
from kasoko_cli.daraja.messages import CALLBACK_REPLY
from kasoko_cli.daraja.serve import Receive, Scope, Send, Server
from kasoko_cli.operations.audit import run
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.callbacks.inbox import Inbox
from kasoko_cli.store.engine.database import Database, open_database, upgrade
from tests.benchmarks.page import show, table, takes_markdown
from tests.benchmarks.results import SENT, on_their_way, result_body

LINKS = Links("https://pay.example.org", b"a key of thirty-two bytes, or so")


def requests(sent: Sequence[tuple[str, int]]) -> list[bytes]:
    """The requests that M-Pesa sends, whole."""
    made = []
    for number, (attempt, cents) in enumerate(sent, 1):
        body = result_body(attempt, cents, number)
        head = (
            f"POST {urlsplit(LINKS.of_payment(attempt).result).path} HTTP/1.1\r\nHost: pay.example.org\r\n"
            f"Content-Type: application/json;charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


def post(port: int, work: Iterator[bytes], connections: int) -> tuple[list[float], int]:
    """Post everything; how long each waited, and how many were not accepted.

    A connection posts, waits for the answer, and posts again. Plain sockets: what the poster takes of the two
    processors the listener lacks.
    """
    waits: list[float] = []
    refused = 0
    waiting = select.poll()
    began: dict[int, float] = {}
    answers: dict[int, bytes] = {}
    made = {}
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made[sock.fileno()] = sock
        waiting.register(sock, select.POLLIN)
    idle = [file for file, sock in made.items() if not _posted(sock, work, began)]
    while len(idle) < len(made):
        for file, _ in waiting.poll():
            sock = made[file]
            answer = answers.pop(file, b"") + sock.recv(65536)
            if not answer.endswith(b"}"):
                assert answer, "the listener closed a connection that it should have kept"
                answers[file] = answer
                continue
            waits.append(time.perf_counter() - began[file])
            refused += not answer.startswith(b"HTTP/1.1 200 ")
            if not _posted(sock, work, began):
                idle.append(file)
    for sock in made.values():
        sock.close()
    return waits, refused


def _posted(sock: socket.socket, work: Iterator[bytes], began: dict[int, float]) -> bool:
    request = next(work, None)
    if request is None:
        return False
    began[sock.fileno()] = time.perf_counter()
    sock.sendall(request)
    return True


def serve(url: str, http: Literal["h11", "httptools"]) -> None:
    """The listener's process: says its port, and serves until its input ends."""
    db = open_database(url)
    inbox = Inbox(db, lambda: SENT + timedelta(seconds=30), Trust())
    with Server(listener_app(inbox.take, LINKS), http=http) as server:
        print(server.port, flush=True)
        sys.stdin.read()
    inbox.close()
    db.close()


async def answer_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """What any server does for a request at least."""
    if scope["type"] == "http":
        await receive()
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(CALLBACK_REPLY)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": CALLBACK_REPLY})


def serve_nothing(http: Literal["h11", "httptools"]) -> None:
    """The same process without a listener in it."""
    with Server(answer_at_once, http=http) as server:
        print(server.port, flush=True)
        sys.stdin.read()


#: How many requests a server alone gets at most.
MOST_ALONE = 20_000
#: Where a server is asked for that stores nothing.
NOWHERE = "nowhere"


@contextlib.contextmanager
def listening(url: str, http: str) -> Iterator[tuple[int, int]]:
    """A listener on this database: its port and its process."""
    command = [sys.executable, "-m", "tests.benchmarks.listener", "--serve", url, "--http", http]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
        process.stdin.close()
        process.wait(timeout=120)


def memory_mib(pid: int) -> float:
    """What a process holds in memory, in MiB, where /proc tells it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def processor_seconds(pid: int) -> float:
    """How long a process has worked so far, where /proc tells it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waiting_count(db: Database) -> int:
    with db.reading() as session:
        return int(session.execute(text("SELECT count(*) FROM callbacks WHERE applied_at IS NULL")).scalar_one())


def endless(made: Sequence[bytes], count: int) -> Iterator[bytes]:
    """So many requests, the same again when they are used up."""
    for number in range(count):
        yield made[number % len(made)]


def sampled(work: Iterable[bytes], total: int, pid: int, held: list[float]) -> Iterator[bytes]:
    """The same requests; what the process holds is noted at each tenth of them."""
    for number, request in enumerate(work):
        if number and number % max(1, total // 10) == 0:
            held.append(memory_mib(pid))
        yield request


#: The goals: how many are stored in a second with each parser, and applied; how long a poster may wait, at p99.
GOAL_STORED = {"h11": 3_500, "httptools": 9_000}
GOAL_APPLIED = 1_500
GOAL_WAIT_MS = 50

HEAD = ("parser", "server/s", "stored/s", "ratio", "goal", "p99, ms", "goal", "applied/s", "goal")


@dataclass(frozen=True, slots=True)
class Figures:
    """How it went with one parser; `left` were not applied yet when the last was stored."""

    http: str
    bare_seconds: float
    connections: int
    request_bytes: int
    total: int
    stored_seconds: float
    left: int
    drained_seconds: float
    applied_seconds: float
    worked_seconds: float
    waits: Sequence[float]
    before_mib: float
    #: At each tenth of the requests, after the last of them, and once all of them were applied.
    held_mib: Sequence[float]

    def wait_ms(self, per_cent: int) -> float:
        """How long so many in a hundred waited at most."""
        return self.waits[min(len(self.waits) * per_cent // 100, len(self.waits) - 1)] * 1000

    def told(self) -> Iterator[str]:
        """In words."""
        stored, drained, applied = (
            f"{count:10,} in {took:7.2f} s   {count / took:9,.0f} a second"
            for count, took in (
                (self.total, self.stored_seconds),
                (self.left, self.drained_seconds),
                (self.total, self.applied_seconds),
            )
        )
        yield (
            f"{self.http}, {self.connections} connections, {self.request_bytes:,} bytes a request,"
            f" load {os.getloadavg()[0]:.1f}"
        )
        yield f"  stored    {stored}, {self.bare_seconds / self.stored_seconds:.2f} of the server alone"
        yield (
            f"  of it {self.total - self.left:,} applied meanwhile,"
            f" {self.worked_seconds / self.total * 1e6:,.0f} us of processor time each"
        )
        yield (
            f"  answered  p50 {self.wait_ms(50):.1f} ms, p99 {self.wait_ms(99):.1f} ms,"
            f" slowest {self.wait_ms(100):.1f} ms"
        )
        if self.left:
            yield f"  applied   {drained} once nothing more came"
        yield f"  all of it {applied}, stored and applied"
        *along, applied = (f"{held:.0f}" for held in self.held_mib)
        tenths = " ".join(along)
        yield f"  memory    {self.before_mib:.0f} MiB before; {tenths} at each tenth; {applied} once all was applied"


def measure(url: str, http: str, results: int, connections: int, count: int) -> Figures:
    """Post results to a listener, and see how it went."""
    upgrade(url)
    db = open_database(url)
    made = requests(on_their_way(db, results))
    total = max(count, results)
    with listening(NOWHERE, http) as (port, _):
        some = min(total, MOST_ALONE)
        began = time.perf_counter()
        post(port, endless(made, some), connections)
        bare = (time.perf_counter() - began) * total / some
    with listening(url, http) as (port, pid):
        post(port, iter([]), 1)
        before, idle = memory_mib(pid), processor_seconds(pid)
        began = time.perf_counter()
        held: list[float] = []
        waits, refused = post(port, sampled(endless(made, total), total, pid, held), connections)
        took = time.perf_counter() - began
        worked = processor_seconds(pid)
        left = waiting_count(db)
        held.append(memory_mib(pid))
        draining = time.perf_counter()
        while waiting_count(db):
            time.sleep(0.05)
        drained = time.perf_counter() - draining
        applied = time.perf_counter() - began
        held.append(memory_mib(pid))
    waits.sort()
    with db.reading() as session:
        stored = session.execute(text("SELECT count(*) FROM callbacks")).scalar_one()
        paid = session.execute(text("SELECT count(*) FROM payouts WHERE status = 'COMPLETED'")).scalar_one()
    assert (stored, refused) == (total, 0), (stored, refused)
    assert paid == results, paid
    assert run.audit(db).ok
    db.close()
    return Figures(
        http=http,
        bare_seconds=bare,
        connections=connections,
        request_bytes=len(made[0]),
        total=total,
        stored_seconds=took,
        left=left,
        drained_seconds=drained,
        applied_seconds=applied,
        worked_seconds=worked - idle,
        waits=waits,
        before_mib=before,
        held_mib=held,
    )


def row_of(rounds: Sequence[Figures]) -> tuple[str, ...]:
    """The rounds of one parser as a line of the table."""
    http = rounds[0].http
    return (
        http,
        spread(one.total / one.bare_seconds for one in rounds),
        spread(one.total / one.stored_seconds for one in rounds),
        spread((one.bare_seconds / one.stored_seconds for one in rounds), ".2f"),
        f"{GOAL_STORED[http]:,}",
        spread(one.wait_ms(99) for one in rounds),
        f"{GOAL_WAIT_MS}",
        spread(one.total / one.applied_seconds for one in rounds),
        f"{GOAL_APPLIED:,}",
    )


def spread(figures: Iterable[float], form: str = ",.0f") -> str:
    """The lowest and the highest."""
    low, *between = sorted(figures)
    return f"{low:{form}}-{between[-1]:{form}}" if between else f"{low:{form}}"


def parsers() -> list[str]:
    """The parsers that are installed: h11 always is, httptools comes with the extra `fast`."""
    return ["h11", "httptools"] if importlib.util.find_spec("httptools") else ["h11"]


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="How many results a second the listener stores and applies.")
    parser.add_argument("--results", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--requests", type=int, default=0, help="post so many, the same results again and again")
    parser.add_argument("--http", choices=["h11", "httptools"], help="one parser; each that is installed if not given")
    parser.add_argument("--rounds", type=int, default=1, help="how many times with each parser, in turns")
    parser.add_argument("--database", help="an empty database, for one parser; a new SQLite file if it is not given")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    takes_markdown(parser)
    options = parser.parse_args()
    if options.serve:
        serve_nothing(options.http) if options.serve == NOWHERE else serve(options.serve, options.http)
        return
    chosen = [options.http] if options.http else parsers()
    rounds: dict[str, list[Figures]] = {http: [] for http in chosen}
    for http in chosen * options.rounds:
        with tempfile.TemporaryDirectory() as folder:
            url = options.database or f"sqlite:///{Path(folder) / 'benchmark.db'}"
            figures = measure(url, http, options.results, options.connections, options.requests)
        print(*figures.told(), sep="\n", flush=True)
        rounds[http].append(figures)
    show(table(HEAD, [row_of(each) for each in rounds.values()]), options.markdown)


if __name__ == "__main__":
    main()
