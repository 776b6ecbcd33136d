"""A deployment of real processes: the program, its listener and its simulator, each started as an operator would.

A deployment has a folder with settings, a database and free ports of its own. Whatever any of its processes says
is kept, so that a test can hold that no secret, no whole phone and no traceback was ever among it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import sqlalchemy as sa

from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.store.engine.database import parse_url
from tests.proof.processes import PROGRAM, Forked, Forker, Order

#: How long a command, a start or a stop may take before the test gives up, in seconds. It is far above
#: what any of them takes, since the machine may be busy.
PATIENCE_SECONDS = 150.0

#: How long the listener may be silent before a test gives up on a result.
RESULTS_SECONDS = 150.0

#: A phone as anybody would write it without gaps.
_WHOLE_PHONE = re.compile(r"(?<![0-9])(?:\+?254|0)[17][0-9]{8}(?![0-9])")
#: Our own ids and digests, and M-Pesa's conversation ids, which may hold ten digits in a row.
_IDS = re.compile(r"\b(?:(?:ks-|kq-)?[0-9a-f]{16,64}|AG_[0-9]{8}_[0-9a-z]{20})\b")

Json = Any


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit code, its answer and its talk."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def json(self) -> Json:
        """The one document that it answered with."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error that it ended with, told with --json: the last line of its talk."""
        found: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return found


class Running:
    """A process that goes on; its lines are read as they come, so that it never waits for us."""

    def __init__(self, words: Sequence[str], process: subprocess.Popen[str] | Forked) -> None:
        self.words = tuple(words)
        self.out: list[str] = []
        self.err: list[str] = []
        self._news = threading.Condition()
        self._open = 2
        self.process = process
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str] | None, lines: list[str]) -> None:
        assert stream is not None
        with stream:
            for line in stream:
                with self._news:
                    lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def wait_for(self, heard: Callable[[Running], bool]) -> None:
        """Wait until it has said so; an end before that, or too long a silence, fails the test."""
        with self._news:
            came = self._news.wait_for(lambda: heard(self) or not self._open, timeout=PATIENCE_SECONDS)
            assert came, f"{self} is silent: {self.said}"
            assert heard(self), f"{self} ended: {self.said}"

    def document(self) -> Json:
        """The document that it answers with once it is ready."""
        self.wait_for(lambda running: "}\n" in running.out)
        return json.loads("".join(self.out))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> Done:
        """Wait for its end."""
        code = self.process.wait(timeout=PATIENCE_SECONDS)
        for reader in self._readers:
            reader.join(timeout=PATIENCE_SECONDS)
        return Done(self.words, code, "".join(self.out), "".join(self.err))

    def stop(self) -> Done:
        """Stop it as an operator would, with SIGTERM, and wait for its end."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait()

    def kill(self) -> Done:
        """End it at once, whatever it is doing, as a power cut would."""
        if self.process.poll() is None:
            self.process.kill()
        return self.wait()

    @property
    def said(self) -> str:
        """All that it has said so far."""
        return "".join([*self.out, *self.err])

    def __repr__(self) -> str:
        return f"kasoko {' '.join(self.words)}"


class DeploymentHarness:
    """One deployment: settings in a folder, a database, and the processes that were started on it."""

    def __init__(self, folder: Path, database_url: str, forker: Forker) -> None:
        self.folder, self._forker = folder, forker
        self.database_url = database_url
        self.listener_port = free_port()
        self.callback_url = f"http://127.0.0.1:{self.listener_port}"
        self.daraja_url = ""
        #: Everything that any process said, command by command.
        self.said: list[str] = []
        self._running: list[Running] = []

    # --- Processes ---------------------------------------------------------------------------------------------------

    @property
    def environ(self) -> dict[str, str]:
        """What a process inherits: no setting but the database's address and ours, and a home of its own."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            "HOME": str(self.folder),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "KASOKO_DATABASE_URL": self.database_url,
            "MPESA_CALLBACK_URL": self.callback_url,
        }

    def run(self, *words: str, code: int | None = 0, stdin: str = "", **environ: str) -> Done:
        """Run `kasoko WORDS...` to its end; it must exit with `code`, unless that is None.

        A process of its own with the real wiring, forked from one that has imported everything already.
        """
        return self._run(words, code, stdin, environ, str(self.folder / "stderr"))

    def see(self, *words: str, code: int, stdin: str = "") -> Done:
        """The same, with answer and talk in one, in the order in which they come on a terminal."""
        return self._run(words, code, stdin, {}, None)

    def _run(
        self, words: tuple[str, ...], code: int | None, stdin: str, environ: Mapping[str, str], talk: str | None
    ) -> Done:
        reads = str(self.write("stdin", stdin)) if stdin else None
        done = self._forker.run(
            [
                Order(
                    words=words,
                    folder=str(self.folder),
                    environ={**self.environ, **environ},
                    said=str(self.folder / "stdout"),
                    talk=talk,
                    reads=reads,
                    offset_seconds=None,
                )
            ]
        )[0]
        self.said += [done.said, done.talk]
        told = f"kasoko {' '.join(words)} exited with {done.code}:\n{done.said}{done.talk}"
        assert not done.hung, told
        assert code is None or done.code == code, told
        return Done(words, done.code, done.said, done.talk)

    def ask(self, *words: str, code: int = 0) -> Json:
        """Run `kasoko WORDS... --json`; its document."""
        return self.run(*words, "--json", code=code).json

    def start(self, *words: str, afresh: bool = False, **environ: str) -> Running:
        """Start `kasoko WORDS...` and let it go on; it ends with the deployment at the latest.

        It is forked too, unless it is to begin `afresh`: with an interpreter of its own.
        """
        number = len(self._running)
        process: subprocess.Popen[str] | Forked
        if afresh:
            process = subprocess.Popen(
                [*PROGRAM, *words],
                cwd=self.folder,
                env=self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        else:
            process = self._forker.start(
                Order(
                    words=words,
                    folder=str(self.folder),
                    environ=self.environ | environ,
                    said=str(self.folder / f"stdout-{number}"),
                    talk=str(self.folder / f"stderr-{number}"),
                    offset_seconds=None,
                )
            )
        running = Running(words, process)
        self._running.append(running)
        return running

    def start_simulator(self, *words: str, port: int = 0) -> Running:
        """Start a Daraja, and put what its clients need into .env; returns once it takes requests."""
        simulator = self.start("simulator", "--port", str(port), "--write-env", ".env", "--json", *words)
        self.daraja_url = simulator.document()["url"]
        return simulator

    def start_listener(self, *words: str) -> Running:
        """Start `kasoko listen`; returns once it takes results."""
        listener = self.start("listen", *words)
        listener.wait_for(lambda running: any(line.startswith("Listening on") for line in running.err))
        return listener

    def close(self) -> None:
        """End every process that still runs, and keep what it said."""
        for running in self._running:
            running.kill()
            self.said.append(running.said)

    # --- Settings ----------------------------------------------------------------------------------------------------

    def furnish(self, settings: str = "") -> None:
        """`kasoko init`, then settings that hurry: these and the given ones."""
        self.run("init", "--yes")
        hurry = f"""
            [daraja]
            timeout_seconds = 4
            total_seconds = 6
            [listener]
            port = {self.listener_port}
        """
        lines = [line.strip() for line in (hurry + (settings or PAY_FAST)).splitlines()]
        (self.folder / "kasoko.toml").write_text("\n".join(lines) + "\n")

    def secrets(self) -> dict[str, str]:
        """What stands in .env and must be nowhere else."""
        pairs = dict(
            line.split("=", 1)
            for line in (self.folder / ".env").read_text().splitlines()
            if "=" in line and not line.startswith("#")
        )
        public = {"MPESA_BASE_URL", "MPESA_CALLBACK_URL", "MPESA_PAYBILL", "MPESA_INITIATOR_NAME"}
        return {name: value for name, value in pairs.items() if name not in public and value}

    def links(self) -> Links:
        """The signed addresses of this deployment."""
        return Links(self.callback_url, bytes.fromhex(self.secrets()["KASOKO_CALLBACK_KEY"]))

    # --- People and markets ------------------------------------------------------------------------------------------

    def open_market(self, slug: str, *outcomes: str, stakes: Sequence[tuple[str, str, str, str]]) -> None:
        """Take in people and what they stake, and close the market: (user, phone, outcome, shillings) each.

        By files and in one go, since each command takes a second of its own.
        """
        users = "".join(f"{user},{user.title()},{phone}\n" for user, phone, _, _ in stakes)
        self.write("users.csv", f"user_id,name,phone\n{users}")
        self.write(
            "markets.csv",
            "market_id,slug,question,outcomes,closes_at,fee_bps\n"
            f"{slug},{slug},What of {slug}?,{'|'.join(outcomes)},2026-11-20T15:00:00Z,500\n",
        )
        bets = "".join(
            f"{slug}-{user},{slug},{user},{outcome},{kes},2026-11-20T14:00:00Z,\n" for user, _, outcome, kes in stakes
        )
        self.write("bets.csv", f"bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at\n{bets}")
        for kind in ("users", "markets", "bets"):
            self.run("import", kind, f"{kind}.csv", "--yes")

    def settle(self, slug: str, *winners: str) -> Json:
        """Resolve and settle."""
        self.run("resolve", slug, *winners, "--yes")
        return self.ask("settle", slug, "--yes")

    def write(self, name: str, text: str) -> Path:
        """A file in the deployment's folder."""
        file = self.folder / name
        file.write_text(text)
        return file

    # --- How things stand --------------------------------------------------------------------------------------------

    def items(self, market: str) -> dict[str, Json]:
        """The market's payouts by user: for markets that owe each user one."""
        found = self.ask("status", market, "--payouts")["items"]
        by_user = {item["user"]: item for item in found}
        assert len(by_user) == len(found), "a user is owed two payouts"
        return by_user

    def wallet(self, user: str) -> tuple[int, int]:
        """Balance and available, in cents."""
        found = self.ask("wallet", "show", user)
        return found["balance_cents"], found["available_cents"]

    def until_final(self, market: str | None = None) -> Json:
        """Wait, while a listener runs elsewhere, until nothing is pending; the status at the end."""
        ends_at = time.monotonic() + RESULTS_SECONDS
        while True:
            found = self.ask("status", *([market] if market else []))
            if not found["payouts"]["pending"]["count"]:
                return found
            assert time.monotonic() < ends_at, f"not final after {RESULTS_SECONDS:.0f} s: {found}"

    def ledger(self) -> Json:
        """What really moved, as the simulator has it."""
        return httpx.get(f"{self.daraja_url}/_ledger", trust_env=False).raise_for_status().json()

    def payments(self) -> list[Json]:
        """Each payment that the simulator made, in the order of the making."""
        found: list[Json] = self.ledger()["payments"]
        return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the database, past the program."""
        engine = sa.create_engine(parse_url(self.database_url))
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sa.text(query))]
        finally:
            engine.dispose()

    def everything(self) -> dict[str, list[str]]:
        """Every row of every table, but for the shared access token and who was at work: equal if nothing changed."""
        engine = sa.create_engine(parse_url(self.database_url))
        try:
            tables = sorted(set(sa.inspect(engine).get_table_names()) - {"access_tokens", "runs"})
            assert "postings" in tables
            with engine.connect() as connection:
                return {
                    name: sorted(repr(tuple(row)) for row in connection.execute(sa.text(f'SELECT * FROM "{name}"')))
                    for name in tables
                }
        finally:
            engine.dispose()

    def assert_discreet(self) -> None:
        """No process has shown a traceback, a secret or a whole phone."""
        for running in self._running:
            self.said.append(running.said)
        secrets = self.secrets() if (self.folder / ".env").exists() else {}
        for text in self.said:
            assert "Traceback" not in text, text
            assert_hides(text, secrets)


def assert_hides(text: str, secrets: Mapping[str, str]) -> None:
    """None of the secrets stands in the text, and no whole phone."""
    for name, value in secrets.items():
        assert value not in text, f"{name} was shown"
    phone = _WHOLE_PHONE.search(_IDS.sub("", text))
    assert phone is None, f"{phone[0] if phone else ''} was shown: {text}"


#: Settings under which a test does not wait for our own brakes.
PAY_FAST = """
    [payout]
    rate_per_second = 1000
    concurrency = 8
"""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
