"""A small process that starts others quickly: everything is imported once, and each child is a fork of it.

    python -m tests.proof.forker [DATABASE...]

A child is a real process with its own memory, database connections and threads; it runs the real command
line, and it can be killed with SIGKILL at any instruction. What it does not do is import everything again,
which takes ten times longer than what is to be tested. This process has no threads, no open database and
no sockets, so a child inherits nothing that is in use. What it does have is the memory of statements: it
sends a few payouts in each database that it is given, which is thrown away, and no child of it compiles
again what that compiled.

It reads one batch a line, a list of orders in JSON, starts them all behind one barrier, kills those that
are to be killed, waits for all, and writes one line: how each of them ended. A child that stops is not waited
for; it stands until the line "go on" comes. One that is started by itself goes on beside all that, and whoever
started it asks whether it has ended.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import typer.main

import kasoko_cli
from kasoko_cli import kill_points
from kasoko_cli.cli.app import app
from kasoko_cli.cli.container import Container
from kasoko_cli.clock import Clock, system_clock
from kasoko_cli.config import load_config
from kasoko_cli.daraja.client import DarajaClient, RequestLimits
from kasoko_cli.operations.account.access_tokens import DatabaseShelf
from tests import compiled

#: A child that is still there after so many seconds is killed, and counts as one that hung.
HUNG_SECONDS = 150.0
#: How often to look whether a child has ended.
LOOK_SECONDS = 0.002
#: How long a child that is stopped goes on when it is nudged.
NUDGE_SECONDS = 0.005
#: How long one that may be stopped waits for M-Pesa: longer than it stands still, and shorter than its lease.
PATIENT_SECONDS = 20.0
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
#: The children that stand still, in the order in which they were stopped.
_stopped: list[int] = []


class HurriedContainer(Container):
    """The container of a child: its clock is put forward, and it has less patience with M-Pesa than settings allow."""

    #: How long M-Pesa gets for an answer. What is stopped meanwhile must not give up for that alone.
    patience_seconds = 0.8

    @functools.cached_property
    def daraja(self) -> DarajaClient:
        """M-Pesa, which gets less than a second for an answer; the waits between two tries are cut to a twentieth."""
        account = self.daraja_account()
        return DarajaClient(
            account,
            DatabaseShelf(self.db, self.clock, account, self.new_id()),
            self.clock,
            limits=RequestLimits(self.patience_seconds / 2, self.patience_seconds),
            sleep=lambda seconds: time.sleep(seconds / 20),
        )


def put_forward(seconds: float) -> Clock:
    """The machine's clock, so many seconds ahead."""

    def clock() -> datetime:
        return system_clock() + timedelta(seconds=seconds)

    return clock


def put_forward_by(file: Path) -> Clock:
    """The machine's clock, as many seconds ahead as a file says now."""

    def clock() -> datetime:
        return system_clock() + timedelta(seconds=float(file.read_text()))

    return clock


def _import_everything() -> None:
    """What commands and libraries import when they are first used, so that no child has to."""
    for module in pkgutil.walk_packages(kasoko_cli.__path__, "kasoko_cli."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    for name in (
        "uvicorn.lifespan.off",
        "uvicorn.loops.auto",
        "uvicorn.protocols.http.auto",
        "uvicorn.protocols.http.h11_impl",
        "sqlalchemy.dialects.sqlite.pysqlite",
        "sqlalchemy.dialects.postgresql.psycopg",
        "psycopg",
        "rich.table",
        "rich.progress",
        "httpx",
    ):
        importlib.import_module(name)


def main() -> None:
    """Serve batches until nobody asks any more."""
    _import_everything()
    compiled.share()
    for url in sys.argv[1:]:
        compiled.warm(url)
    command = typer.main.get_command(app)
    gc.collect()
    gc.freeze()  # children do not copy these pages only to look for garbage in them
    answers = os.fdopen(os.dup(1), "w")
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        wish = json.loads(line)
        match wish:
            case "nudge":
                told = _nudge()
            case "go on":
                told = _go_on()
            case {"start": order}:
                told = [_start(order, command)]
            case {"reap": pid}:
                told = [_reap(pid)]
            case _:
                told = _run(wish, command)
        answers.write(json.dumps(told) + "\n")
        answers.flush()


def _run(orders: list[dict[str, Any]], command: Callable[..., Any]) -> list[dict[str, Any]]:
    """Start them all, let them go at once, and say how each ended."""
    assert threading.active_count() == 1, "a fork of a process with threads may hang"
    gate, opener = os.pipe()
    children: dict[int, int] = {}
    for number, order in enumerate(orders):
        child = os.fork()
        if child == 0:
            os.close(opener)
            _live(order, gate, command)
        children[child] = number
    os.close(gate)
    started = time.monotonic()
    os.close(opener)
    ended: dict[int, dict[str, Any]] = {}
    while children:
        gone = 0
        for child, number in list(children.items()):
            # Only this process reaps, so a number that it still waits for is never somebody else's.
            pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
            elapsed = time.monotonic() - started
            if pid:
                del children[child]
                gone += 1
                if os.WIFSTOPPED(status):
                    _stopped.append(child)
                    code = -os.WSTOPSIG(status)
                else:
                    code = os.waitstatus_to_exitcode(status)
                ended[number] = {"code": code, "seconds": elapsed, "hung": elapsed > HUNG_SECONDS}
            elif elapsed >= (orders[number]["kill_after"] or HUNG_SECONDS):
                os.kill(child, signal.SIGKILL)
            elif elapsed >= (orders[number]["stop_after"] or HUNG_SECONDS):
                os.kill(child, signal.SIGSTOP)
        if not gone:
            time.sleep(LOOK_SECONDS)
    return [ended[number] for number in range(len(orders))]


def _start(order: dict[str, Any], command: Callable[..., Any]) -> dict[str, Any]:
    """Start one that goes on beside what else is asked for; its number."""
    gate, opener = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(opener)
        _live(order, gate, command)
    os.close(gate)
    os.close(opener)
    return {"pid": child}


def _reap(pid: int) -> dict[str, Any]:
    """The exit code of one that was started, once it has ended."""
    gone, status = os.waitpid(pid, os.WNOHANG)
    return {"code": os.waitstatus_to_exitcode(status) if gone else None}


def _nudge() -> list[dict[str, Any]]:
    """Let what is stopped go on for a few thousandths of a second."""
    for child in _stopped:
        os.kill(child, signal.SIGCONT)
    time.sleep(NUDGE_SECONDS)
    for child in _stopped:
        os.kill(child, signal.SIGSTOP)  # one that ended meanwhile is still ours to reap
    time.sleep(LOOK_SECONDS)
    return []


def _go_on() -> list[dict[str, Any]]:
    """Let what is stopped go on to its end, and say how that was."""
    ended = []
    for child in _stopped:
        os.kill(child, signal.SIGCONT)
    started = time.monotonic()
    for child in _stopped:
        hung = False
        while not (found := os.waitpid(child, os.WNOHANG))[0]:
            if hung := time.monotonic() - started > HUNG_SECONDS:
                os.kill(child, signal.SIGKILL)
            time.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - started
        ended.append({"code": os.waitstatus_to_exitcode(found[1]), "seconds": seconds, "hung": hung})
    _stopped.clear()
    return ended


def _settings_of(words: Sequence[str]) -> Path | None:
    """The file that --config names; the container is made here, before the command reads its words."""
    return Path(words[words.index("--config") + 1]) if "--config" in words else None


def _live(order: dict[str, Any], gate: int, command: Callable[..., Any]) -> NoReturn:
    """The life of a child: wait at the barrier, run one command, end."""
    code = 1
    try:
        os.chdir(order["folder"])
        out = os.open(order["said"], _WRITE, 0o600)
        talk = os.open(order["talk"], _WRITE, 0o600) if order["talk"] else out
        for here, there in ((os.open(order["reads"] or os.devnull, os.O_RDONLY), 0), (out, 1), (talk, 2)):
            os.dup2(here, there)
        sys.stdin = os.fdopen(0, closefd=False)
        if not order["talk"]:
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in order, as on a terminal
        sys.argv[1:] = order["words"]
        os.environ.clear()
        os.environ.update(order["environ"])
        importlib.reload(kill_points)  # it reads the environment once, when a process starts
        random.seed()
        os.read(gate, 1)
        os.close(gate)
        if order["offset_seconds"] is None:
            command(args=order["words"], prog_name="kasoko")
        clock = put_forward(order["offset_seconds"])
        if order["clock_file"]:
            clock = put_forward_by(Path(order["clock_file"]))
        container = HurriedContainer(load_config(_settings_of(order["words"])), clock=clock)
        if order["clock_file"]:
            container.patience_seconds = PATIENT_SECONDS
        try:
            command(args=order["words"], obj=container, prog_name="kasoko")
        finally:
            container.close()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
