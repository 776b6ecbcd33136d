"""Signals that end a run, taken in without a lock.

Python runs a signal handler in the main thread, in the middle of whatever that does: maybe of `Event.wait()`,
whose lock nobody gets twice, or of a line that is being written. So the handlers here touch plain attributes and
nothing else. What takes locks is done by a thread of its own, which hears of each signal through a pipe that the
interpreter writes to (`signal.set_wakeup_fd`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from kasoko_cli.cli.command import INTERRUPTED

#: What ends a run: Ctrl-C, `kill` and systemd, and the terminal when it goes away.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What comes again within so many seconds is the same word: `timeout` says it twice at once.
SAME_WORD_SECONDS = 0.3


class _Words:
    """How often somebody has said stop. Only `heed` changes it, which no other handler can interrupt half-way."""

    def __init__(self) -> None:
        self.said, self._at = 0, 0.0

    def heed(self, number: int, _frame: FrameType | None) -> None:
        """The first word is the thread's to pass on; the second stops at once; the third waits for nothing at all.

        A terminal that goes away is a first word and never another: a shell passes it on once more.

        Raises:
            KeyboardInterrupt: at the second word.
        """
        now = time.monotonic()
        if self.said and (number == signal.SIGHUP or now - self._at < SAME_WORD_SECONDS):
            return
        self.said, self._at = self.said + 1, now
        if self.said == 2:
            raise KeyboardInterrupt
        if self.said > 2:
            os._exit(INTERRUPTED)


@contextlib.contextmanager
def stopping(
    told: Callable[[], None] = lambda: None, *, renew: Callable[[], None] | None = None
) -> Iterator[threading.Event]:
    """An event that is set by Ctrl-C, SIGTERM, and SIGHUP: what is under way is finished, and nothing new begun.

    `told` is called once, in another thread, when the first comes. A second one stops at once, with
    KeyboardInterrupt, and a third ends the process where it stands; all three are safe. With `renew`, SIGHUP calls
    that instead, unless it says that the terminal is gone. What was started under nohup stays deaf to SIGHUP.
    """
    stopper, words, had_terminal = threading.Event(), _Words(), _has_terminal()
    before = {number: signal.getsignal(number) for number in STOPS}
    is_deaf = before[signal.SIGHUP] is signal.SIG_IGN

    def heard(number: int) -> None:
        if number == signal.SIGHUP and renew is not None and (is_deaf or not had_terminal or _has_terminal()):
            renew()
        elif number in STOPS and not stopper.is_set():
            stopper.set()
            told()

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    hearer = threading.Thread(target=_hear, args=(reading, heard), name="kasoko-signals", daemon=True)
    hearer.start()
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in STOPS:
        if number != signal.SIGHUP or (renew is None and not is_deaf):
            signal.signal(number, words.heed)
        elif renew is not None:
            signal.signal(number, lambda *_: None)  # a handler of ours, so that the pipe is written to
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            # Once somebody has said stop, a terminal that goes away while we leave takes no exit code with it; nor
            # does a request to read something anew, which comes too late.
            is_over = number == signal.SIGHUP and (words.said > 0 or renew is not None)
            signal.signal(number, signal.SIG_IGN if is_over else handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writing)
        hearer.join(timeout=1)  # it may be in the middle of a line that nobody takes


def _hear(reading: int, heard: Callable[[int], None]) -> None:
    """Pass on each signal that is written into the pipe, until its other end is closed."""
    with open(reading, "rb", buffering=0) as pipe:
        while numbers := pipe.read(256):
            for number in dict.fromkeys(numbers):
                heard(number)


def _has_terminal() -> bool:
    """Whether this process has a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
