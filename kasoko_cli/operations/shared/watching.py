"""How a long operation is attended: where it stands in the list of runs, who stops it, who watches."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from kasoko_cli.operations.shared.run_registry import AtWork

Progress = TypeVar("Progress")


@dataclass(frozen=True, slots=True)
class Hooks(Generic[Progress]):
    """`should_stop` is asked between two steps; `on_progress` is called with what came of each."""

    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[Progress], None] = lambda _: None


#: Nobody stops it, and nobody listens.
NO_HOOKS: Hooks[Any] = Hooks()


class Watcher(Protocol):
    """Follows the work."""

    def part(
        self, title: str, total: int | None = None, *, seconds: float | None = None
    ) -> contextlib.AbstractContextManager[Callable[[str], None]]:
        """Around a part of the work. It gives what is called for each thing done, with how that ended: `SENT`.

        `seconds` is after which a part that only waits gives up.
        """

    def happened(self, event: str, what: object) -> None:
        """One thing happened: the name of the event, and the dataclass that describes it. Called by any thread."""


class Nobody:
    """Watches nothing."""

    def part(
        self,
        title: str,  # noqa: ARG002
        total: int | None = None,  # noqa: ARG002
        *,
        seconds: float | None = None,  # noqa: ARG002
    ) -> contextlib.AbstractContextManager[Callable[[str], None]]:
        """Nobody is told of it."""
        return contextlib.nullcontext(lambda _: None)

    def happened(self, event: str, what: object) -> None:
        """Nobody is told of it."""


@dataclass(frozen=True, slots=True)
class Attended:
    """One run of a long operation."""

    work: AtWork
    #: Set by whoever wants it to stop: what is under way is finished, and nothing new begun.
    stopper: threading.Event = field(default_factory=threading.Event)
    watcher: Watcher = field(default_factory=Nobody)


def stay(stopper: threading.Event, seconds: float | None, done: Callable[[], bool]) -> None:
    """Wait until it is done, the time is over, or somebody says stop."""
    ends_at = None if seconds is None else time.monotonic() + seconds
    while not stopper.is_set() and not done():
        left = 0.2 if ends_at is None else min(0.2, ends_at - time.monotonic())
        if left <= 0:
            return
        stopper.wait(left)
