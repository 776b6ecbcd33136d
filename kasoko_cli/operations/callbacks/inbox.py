"""The listener's two threads: one writes callbacks down in groups, another applies them.

A delivery is answered only after the commit that holds it. Storing comes before applying, which rests after each
group for as long as the group took, and much longer while many results come; what it leaves the next command applies.
What nobody has to keep (posts without a mark, the hundredth body about one payment) is kept only up to a limit.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.listener import Delivery, TooMany
from kasoko_cli.errors import Busy
from kasoko_cli.operations.callbacks.apply_results import GROUP, Judged, Trust, judge_waiting, store_deliveries
from kasoko_cli.store import callbacks
from kasoko_cli.store.engine.database import Database

#: How many deliveries one commit holds at most.
MOST_AT_ONCE: Final = 500
#: How long the first waits at most for others that come with it, in seconds.
GATHER_SECONDS: Final = 0.005
#: How long a group should take to judge while callbacks arrive, in seconds: on SQLite storing waits for it.
GROUP_SECONDS: Final = 0.025
#: How many are judged together at least: a group of one takes half as long as one of ten.
FEWEST: Final = 10
#: While more than this arrive in a second, and so many at once, storing is at its limit and has the processor.
BUSY_RATE: Final = 1_000
BUSY_GROUP: Final = 8
#: How many times as long as a group took applying rests after it: then, and while fewer arrive.
BUSY_REST, REST = 40, 1
#: How long it is before callbacks that could not be applied are tried again, in seconds.
AGAIN_SECONDS: Final = 5.0
#: How many bodies about one payment or question are kept in an hour, and how many bytes of them.
MOST_ABOUT_ONE: Final = 200
MOST_BYTES_ABOUT_ONE: Final = 2 * 1024 * 1024
#: How many payments the counting of bodies remembers.
MOST_REMEMBERED: Final = 10_000

_log = logging.getLogger(__name__)

_Waiting = tuple[Delivery, asyncio.AbstractEventLoop, "asyncio.Future[None]"]


@dataclass(frozen=True, slots=True)
class Caps:
    """How much is kept of what matches nothing: posts without our mark."""

    #: How many in an hour.
    hints_per_hour: int = 1000
    #: How many bytes of them, whenever they came.
    hint_bytes: int = 64 * 1024 * 1024


class Gauge:
    """Says of each delivery whether it may still be kept. It counts by the full hour, in bounded memory."""

    def __init__(self, caps: Caps, hint_bytes: int, clock: Clock) -> None:
        self._caps = caps
        self._hint_bytes = hint_bytes
        self._hints = 0
        self._about: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._hour = _hour(clock())

    def check(self, delivery: Delivery) -> None:
        """Count one delivery. Raises TooMany if it is over the limit, and is not kept."""
        since, until = self._hour
        if not since <= delivery.received_at < until:
            self._hour, self._hints = _hour(delivery.received_at), 0
            self._about.clear()
        size = len(delivery.body)
        if not delivery.signed:
            if self._hints >= self._caps.hints_per_hour or self._hint_bytes + size > self._caps.hint_bytes:
                raise TooMany
            self._hints += 1
            self._hint_bytes += size
            return
        subject = delivery.kind + delivery.subject_id
        count, held = self._about.pop(subject, (0, 0))
        allowed = count < MOST_ABOUT_ONE and held + size <= MOST_BYTES_ABOUT_ONE
        self._about[subject] = (count + 1, held + size) if allowed else (count, held)
        if len(self._about) > MOST_REMEMBERED:
            self._about.popitem(last=False)
        if not allowed:
            raise TooMany


def _hour(moment: datetime) -> tuple[datetime, datetime]:
    """The hour that a moment is in: when it begins, and when it ends."""
    since = moment.replace(minute=0, second=0, microsecond=0)
    return since, since + timedelta(hours=1)


class Inbox:
    """Takes deliveries from the listener until it is closed; `received` and `applied` count them.

    `on_progress` is called, in the applying thread, with what became of each.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        trust: Trust,
        caps: Caps | None = None,
        *,
        on_progress: Callable[[Judged], None] = lambda _: None,
    ) -> None:
        self.db, self.clock, self.trust, self.on_progress = db, clock, trust, on_progress
        self.received = 0
        self.applied = 0
        #: How many were handed over to be stored, whether they have been or not.
        self._came = 0
        #: In how many commits.
        self._commits = 0
        with db.reading() as session:
            self._gauge = Gauge(caps or Caps(), callbacks.hint_bytes(session), clock)
        #: What came in the turns of each loop, on its way into the queue.
        self._coming: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        self._queue: deque[_Waiting] = deque()
        self._arrived = threading.Condition()
        self._stored = threading.Event()
        self._stop = threading.Event()
        self._closing = self._busy = False
        self._most = GROUP
        self._writer = threading.Thread(target=self._write, name="kasoko-store", daemon=True)
        self._applier = threading.Thread(target=self._apply, name="kasoko-apply", daemon=True)
        self._writer.start()
        self._applier.start()

    @property
    def queued(self) -> int:
        """How many deliveries wait to be stored."""
        return len(self._queue) + sum(map(len, tuple(self._coming.values())))

    async def take(self, delivery: Delivery) -> None:
        """Store one delivery; returns once it is on the disk.

        Raises:
            TooMany: more has come of this than is kept; the listener answers 429.
            KasokoError: it could not be stored; the listener answers 503.
        """
        self._gauge.check(delivery)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._arrived:
            if self._closing:
                raise Busy("The listener is about to end.", hint="Send it again: the next one takes it.")
            coming = self._coming.get(loop)
            if coming is None:
                coming = self._coming[loop] = []
                loop.call_soon(self._gather, loop, 0, loop.time() + GATHER_SECONDS)
            coming.append((delivery, loop, done))
        await done

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, until: float) -> None:
        """Hand over what has come once a turn of the loop brings nothing more: the two threads share one processor."""
        came = len(self._coming.get(loop, ()))
        if seen < came < MOST_AT_ONCE and loop.time() < until:
            loop.call_soon(self._gather, loop, came, until)
        else:
            self._hand_over(loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._arrived:
            come = self._coming.pop(loop, ())
            self._came += len(come)
            self._queue.extend(come)
            self._arrived.notify()

    def close(self) -> None:
        """Store and apply what has arrived, then stop."""
        with self._arrived:
            for loop in tuple(self._coming):
                self._hand_over(loop)
            self._closing = True
            self._arrived.notify()
        self._stop.set()
        self._writer.join()
        self._stored.set()
        self._applier.join()

    def _write(self) -> None:
        while True:
            with self._arrived:
                while not self._queue and not self._closing:
                    self._arrived.wait()
                if not self._queue:
                    return
                group = [self._queue.popleft() for _ in range(min(len(self._queue), MOST_AT_ONCE))]
            trouble: Exception | None = None
            try:
                store_deliveries(self.db, self.clock, [delivery for delivery, _, _ in group])
            except Exception as error:
                trouble = error
            else:
                self.received += len(group)
                self._commits += 1
                self._stored.set()
            _tell(group, trouble)

    def _apply(self) -> None:
        again = False
        while True:
            self._stored.wait(AGAIN_SECONDS if again else None)
            self._stored.clear()
            closing = self._closing and not self._writer.is_alive()
            again = False
            try:
                began, had = time.monotonic(), self._came
                for group in judge_waiting(self.db, self.clock, self.trust, most=lambda: self._most):
                    for judged in group:
                        self.applied += 1
                        self.on_progress(judged)
                    if self._came > had:
                        self._rest(len(group), time.monotonic() - began)
                    else:
                        self._busy, self._most = False, GROUP
                    began, had = time.monotonic(), self._came
            except Exception as error:
                again = True
                _log.error("Stored callbacks could not be applied now (%s); they are kept.", type(error).__name__)
            if closing:
                return

    def _rest(self, judged: int, took: float) -> None:
        """Let storing have its turn after a group. What comes then, unhindered, says how busy it is."""
        self._most = max(FEWEST, min(GROUP, int(judged * GROUP_SECONDS / took)))
        began, had, commits = time.monotonic(), self._came, self._commits
        # A group may have waited long for another process that writes: that is no reason to rest as long.
        self._stop.wait(min(took, 2 * GROUP_SECONDS) * (BUSY_REST if self._busy else REST))
        came = self._came - had
        many_at_once = came > BUSY_GROUP * (self._commits - commits)
        self._busy = many_at_once and came > BUSY_RATE * (time.monotonic() - began)


def _tell(group: Sequence[_Waiting], trouble: Exception | None) -> None:
    """Let the answers of a group go out: one call into each loop, since each costs a system call."""
    for loop in dict.fromkeys(loop for _, loop, _ in group):
        mine = [done for _, theirs, done in group if theirs is loop]
        try:
            loop.call_soon_threadsafe(_finish, mine, trouble)
        except RuntimeError:  # the loop is closed: nobody is left to be told, and what is stored is stored
            continue


def _finish(waiting: Sequence[asyncio.Future[None]], trouble: Exception | None) -> None:
    for done in waiting:
        if done.done():
            continue
        if trouble is None:
            done.set_result(None)
        else:
            done.set_exception(trouble)
