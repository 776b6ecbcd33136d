"""Named places at which a test may kill this process, as a power cut would, or stop it, as a suspend does.

A crash must lose nothing wherever it happens, and that is proven by making it happen: before and after
each commit, before a request leaves and after its answer was read. Unless a test sets `KASOKO_TEST_POINTS`,
each point is one comparison with None.

    KASOKO_TEST_POINTS=kill:commit.after:3     die the third time that `commit.after` is reached
    KASOKO_TEST_POINTS=stop:request.before:3   stand still the third time, until somebody lets it go on
    KASOKO_TEST_POINTS=log:/path/to/file       write down each point that is reached, a line each
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Final

COMMIT_BEFORE: Final = "commit.before"
COMMIT_AFTER: Final = "commit.after"
REQUEST_BEFORE: Final = "request.before"
REQUEST_AFTER: Final = "request.after"

#: Every point there is.
POINTS: Final = (COMMIT_BEFORE, COMMIT_AFTER, REQUEST_BEFORE, REQUEST_AFTER)

_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_ORDER: Final = os.environ.get("KASOKO_TEST_POINTS")
_reached: Counter[str] = Counter()
_lock = threading.Lock()


def point(name: str) -> None:
    """Say that this place was reached; nothing happens unless a test asked for it."""
    if _ORDER is not None:
        _act(name, _ORDER)


def _act(name: str, order: str) -> None:
    act, _, argument = order.partition(":")
    with _lock:
        _reached[name] += 1
        if act == "log":
            with Path(argument).open("a") as log:
                log.write(f"{name}:{_reached[name]}\n")
        elif act in _SIGNALS and argument == f"{name}:{_reached[name]}":
            # To this very thread: a process is stopped by whichever of its threads wakes first, and this one goes on.
            signal.pthread_kill(threading.get_ident(), _SIGNALS[act])
