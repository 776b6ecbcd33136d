"""Processes of the program: started by the forker or as an operator would, killed, and asked how they ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

#: How to start the real program from a test.
PROGRAM = (sys.executable, "-m", "kasoko_cli")
#: What a process that was killed with SIGKILL ends with, and what stands for one that is stopped and lives.
KILLED, STOPPED = -9, -19
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Order:
    """One process to start: its words, where, what it inherits, how far its clock is ahead, and when it dies."""

    words: tuple[str, ...]
    folder: str
    environ: dict[str, str] = field(repr=False)
    #: The file that its answer goes to, and its talk, unless that has a file of its own.
    said: str
    talk: str | None = None
    #: A file that it reads; None for nothing.
    reads: str | None = None
    #: None has it as an operator has: the machine's clock, and the patience of the settings.
    offset_seconds: float | None = 0.0
    #: Seconds after the start at which it is killed, if it still lives.
    kill_after: float | None = None
    #: Seconds after the start at which it is stopped, if it still lives, until somebody lets it go on.
    stop_after: float | None = None
    #: Where it reads at any moment how far its clock is ahead, in seconds: of one that is stopped meanwhile.
    clock_file: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How one process ended: its exit code (-9 if it was killed), what it said, whether it hung.

    One that is stopped has not ended; it says nothing yet.
    """

    words: tuple[str, ...]
    code: int
    said: str
    seconds: float
    hung: bool = False
    #: Its talk, where that has a file of its own.
    talk: str = ""

    @property
    def killed(self) -> bool:
        """Whether it died of SIGKILL."""
        return self.code == KILLED

    @property
    def stopped(self) -> bool:
        """Whether it stands still."""
        return self.code == STOPPED


class Hands(Protocol):
    """Whoever starts processes: all of a batch at once, and waits for them."""

    def run(self, orders: Sequence[Order]) -> list[Ended]:
        """Start them, kill those that are to be killed, wait for all."""


class Forked:
    """A process that the fork server started and that goes on, in the words of `subprocess.Popen`."""

    def __init__(self, pid: int, reap: Callable[[], int | None], said: Path, talk: Path) -> None:
        self.pid, self.returncode, self._reap = pid, None, reap
        self._ends = os.pidfd_open(pid)
        self.stdout, self.stderr = said.open(), talk.open()
        said.unlink()
        talk.unlink()

    returncode: int | None

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Tell it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        if self.returncode is None and select.select([self._ends], [], [], 0)[0]:
            self.returncode = self._reap()
            os.close(self._ends)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end, so many seconds.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        if self.returncode is None:
            select.select([self._ends], [], [], timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return code


class Forker:
    """The fork server of `forker.py`: a process of the program in a hundredth of a second.

    It sends payouts in these databases before, and so compiles the statements of its children; nobody needs them after.
    """

    def __init__(self, *databases: str) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
        self._stopped: list[Order] = []
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.proof.forker", *databases],
            cwd=ROOT,
            env=kept | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def run(self, orders: Sequence[Order]) -> list[Ended]:
        """Start them behind one barrier. One that is stopped stays so, and the others are waited for."""
        ended = self._ask([asdict(order) for order in orders], orders)
        self._stopped += [order for order, one in zip(orders, ended, strict=True) if one.stopped]
        return ended

    def start(self, order: Order) -> Forked:
        """Start one that goes on, and says what it says into two pipes: nobody waits for it."""
        assert order.talk is not None
        for pipe in (order.said, order.talk):
            os.mkfifo(pipe)
        pid = self._told({"start": asdict(order)})[0]["pid"]
        return Forked(pid, lambda: self._told({"reap": pid})[0]["code"], Path(order.said), Path(order.talk))

    def nudge(self) -> None:
        """Let what is stopped go on for a moment: it stood where others cannot go past it."""
        self._ask("nudge", [])

    def go_on(self) -> list[Ended]:
        """Let what is stopped go on to its end."""
        stopped, self._stopped = self._stopped, []
        return self._ask("go on", stopped)

    def _told(self, wish: object) -> list[Any]:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(wish) + "\n")
            self._process.stdin.flush()
            answers: list[Any] = json.loads(self._line())
        return answers

    def _ask(self, wish: object, orders: Sequence[Order]) -> list[Ended]:
        answers = self._told(wish)
        return [
            Ended(order.words, answer["code"], "", answer["seconds"])
            if answer["code"] == STOPPED
            else Ended(
                order.words,
                answer["code"],
                _read(order.said),
                answer["seconds"],
                answer["hung"],
                _read(order.talk) if order.talk else "",
            )
            for order, answer in zip(orders, answers, strict=True)
        ]

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


@contextlib.contextmanager
def forking(*databases: str) -> Iterator[Forker]:
    """A fork server while the block runs."""
    forker = Forker(*databases)
    try:
        yield forker
    finally:
        forker.close()


class Exec:
    """Starts the true program as an operator would, with the machine's own clock."""

    def run(self, orders: Sequence[Order]) -> list[Ended]:
        """Start them one after another, without waiting in between."""
        running = [_Started(order) for order in orders]
        return [one.wait() for one in running]


class _Started:
    def __init__(self, order: Order) -> None:
        assert order.talk is order.reads is None, "only the forker keeps them apart"
        self.order = order
        with Path(order.said).open("wb") as said:
            self.process = subprocess.Popen(
                [*PROGRAM, *order.words],
                cwd=order.folder,
                env=order.environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self.timer = threading.Timer(order.kill_after or 90.0, self.process.kill)
        self.timer.start()

    def wait(self) -> Ended:
        code = self.process.wait()
        self.timer.cancel()
        self.timer.join()
        hung = code == KILLED and self.order.kill_after is None and "kill" not in self._points()
        return Ended(self.order.words, code, _read(self.order.said), 0.0, hung)

    def _points(self) -> str:
        return self.order.environ.get("KASOKO_TEST_POINTS", "")


def _read(said: str) -> str:
    file = Path(said)
    text = file.read_text(errors="replace") if file.exists() else ""
    file.unlink(missing_ok=True)
    return text
