"""What a command tells while it goes on: a bar or a line now and then for people, JSON Lines for programs.

Nothing here is an answer's only place: whoever looks away loses nothing, the end of the run says it all.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kasoko_cli.cli.output import render

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kasoko_cli.cli.command import CommandContext
    from kasoko_cli.clock import Clock

#: How often a run that nobody watches on a terminal says how far it is.
EVERY_SECONDS = 30.0
#: The rate is that of the last so many seconds: a pause at the start does not spoil it for an hour.
RATE_SECONDS = 60.0


class Tally:
    """How far a run is: done, of how many, how fast, and how many ended in which way.

    Call it with how many are done. It may be called and read from several threads.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        seconds: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        #: When a part that only waits gives up.
        self.ends_at = None if seconds is None else now() + seconds
        self.begin(title, total)

    def begin(self, title: str, total: int | None = None) -> None:
        """The next part of the same work, counted and timed by itself."""
        self.title, self.total, self.done = title, total, 0
        self.counts: Mapping[str, int] = {}
        self._began = self._now()
        self._seen = deque([(self._began, 0)])

    def step(self, title: str, done: int, total: int) -> None:
        """So much of one part is done; another title than before begins another part. A total of 0 is not known."""
        if title != self.title:
            self.begin(title)
        if total:
            self(done, total)

    def __call__(self, done: int, total: int | None = None, counts: Mapping[str, int] | None = None) -> None:
        """`done` are done; `total` where that has become known; `counts` by outcome."""
        self.done = done
        self.total = self.total if total is None else total
        if counts is not None:
            self.counts = dict(counts)
        now = self._now()
        if now > self._seen[-1][0]:
            self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - RATE_SECONDS:
            self._seen.popleft()

    def rate(self) -> float:
        """How many a second, of late; 0 where that is not known yet."""
        began, before = self._seen[0]
        seconds = self._now() - began
        return (self.done - before) / seconds if seconds >= 1 else 0.0

    def facts(self) -> list[str]:
        """`1,200 of 10,000`, `4.9/s`, `30 min left`: what is known of it; else how long it has taken."""
        if self.ends_at is not None:
            of_all = [] if self.total is None else [f"{self.done:,} of {self.total:,}"]
            return [*of_all, f"gives up in {duration(self.ends_at - self._now())}"]
        if self.total is None and not self.done:
            return [duration(self._now() - self._began)]  # what cannot be counted still takes its time
        facts = [f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"]
        if rate := self.rate():
            facts.append(f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.1f}/s")
            if self.total is not None and self.total > self.done:
                facts.append(f"{duration((self.total - self.done) / rate)} left")
        return facts

    def outcomes(self) -> list[str]:
        """`1,190 SENT`, `10 UNKNOWN`: how many ended in which way."""
        return [f"{count:,} {name}" for name, count in self.counts.items() if count]

    def line(self) -> str:
        """All of it, for a log."""
        outcomes = ", ".join(self.outcomes())
        return f"{self.title}: {', '.join(self.facts())}{'; ' + outcomes if outcomes else ''}."


def duration(seconds: float) -> str:
    """A length of time for people, never more exact than it is known: `40 s`, `12 min`, `3 h 20 min`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(seconds / 86_400)} days"


@contextmanager
def progress(
    call: CommandContext,
    title: str,
    total: int | None = None,
    *,
    seconds: float | None = None,
    every_seconds: float = EVERY_SECONDS,
    bar: bool = True,
) -> Iterator[Tally]:
    """How far the block is, on stderr: a bar on a terminal, a line now and then off it; nothing with --quiet.

    A bar whose block ends in an error goes away: what is said then stands alone.

    The block calls what it is given with how many are done. With `bar` off a terminal gets lines too. A block that
    only waits says after how many `seconds` it gives up.
    """
    tally = Tally(title, total, seconds=seconds)
    if call.quiet:
        yield tally
    elif bar and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(tally):
            yield tally
    else:
        with _lines(call, tally, every_seconds):
            yield tally


@contextmanager
def _lines(call: CommandContext, tally: Tally, every_seconds: float) -> Iterator[None]:
    over = threading.Event()

    def tell() -> None:
        while not over.wait(every_seconds):
            render.talk(call, tally.line())

    teller = threading.Thread(target=tell, name="kasoko-progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


@contextmanager
def _bar(tally: Tally) -> Iterator[None]:
    from rich.live import Live

    # What is written to stderr meanwhile goes above the bar; stdout is somebody's file or our own screen.
    with Live(
        get_renderable=lambda: _drawn(tally),
        console=render.console(sys.stderr),
        refresh_per_second=5,
        redirect_stdout=sys.stdout.isatty(),
        vertical_overflow="crop",
    ) as live:
        try:
            yield
        except BaseException:
            live.transient = True
            raise


def _drawn(tally: Tally) -> RenderableType:
    """`Sending ━━━━━━ 1,200 of 10,000  4.9/s  30 min left`, and the outcomes under it."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    facts = "  ".join(tally.facts())
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(render.clean(tally.title)),
        ProgressBar(tally.total, min(tally.done, tally.total or tally.done), width=20, pulse=tally.total is None),
        Text(facts, overflow="ellipsis", no_wrap=True),
    )
    lines: list[RenderableType] = [row]
    if tally.counts:
        parts = [(f"{count:,} {name}", render.colour_of(name)) for name, count in tally.counts.items() if count]
        told = Text("  ", overflow="ellipsis", no_wrap=True)
        lines.append(told.append_text(Text("  ").join(Text(words, style=style) for words, style in parts)))
    return Group(*lines)


class Events:
    """`--events`: what happens, as it happens, one JSON object per line on stdout; silent unless it is `on`."""

    def __init__(self, clock: Clock, *, on: bool) -> None:
        self.clock, self.on = clock, on
        self._one_at_a_time = threading.Lock()

    @property
    def on_a_terminal(self) -> bool:
        """Whether the lines go where a bar would be drawn through them."""
        return self.on and sys.stdout.isatty()

    def __call__(self, event: str, what: object) -> None:
        """Tell one thing: its name, when, and the dataclass or mapping that says what."""
        if not self.on:
            return
        said: Any = render.plain(what)
        with self._one_at_a_time:
            render.json_line({"event": event, "at": self.clock(), **said})

    def answer(self, document: object) -> None:
        """End with the answer: the last line, or by itself the document that --json prints."""
        if self.on:
            self("summary", document)
        else:
            render.document(document)


class Outcomes:
    """Counts how each of many ended, and moves a tally on by one for each."""

    def __init__(self, tally: Tally) -> None:
        self.tally, self.counts = tally, Counter[str]()

    def __call__(self, outcome: object) -> None:
        """One more ended like this; an empty word counts it and says no more."""
        self.counts[str(outcome)] += 1
        self.tally(self.counts.total(), counts={name: count for name, count in self.counts.items() if name})


class OnScreen:
    """Shows whoever runs a command how its operation goes on: by a bar and by `--events`."""

    def __init__(self, call: CommandContext, telling: Events) -> None:
        self._call, self.happened = call, telling

    @contextmanager
    def part(
        self, title: str, total: int | None = None, *, seconds: float | None = None
    ) -> Iterator[Callable[[str], None]]:
        """A bar, or lines, for a part of the work; no bar where the events are shown."""
        with progress(self._call, title, total, seconds=seconds, bar=not self.happened.on_a_terminal) as tally:
            yield Outcomes(tally)
