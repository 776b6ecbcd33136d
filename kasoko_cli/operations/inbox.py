"""The listener's two hands: one thread writes callbacks down in groups, another applies them.

Each delivery is answered only after the commit that holds it. Applying never holds up storing, and
what was not applied when the process ends is applied by the next command.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.operations.receive import Judged, Trust, apply_waiting, store_deliveries
from kasoko_cli.store.database import Database

#: How many deliveries one commit holds at most.
MOST_AT_ONCE = 500

_log = logging.getLogger(__name__)

_Waiting = tuple[Delivery, asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Inbox:
    """Takes deliveries from the listener until it is closed; `received` and `applied` count them.

    `tell` is called, in the applying thread, with what became of each.
    """

    def __init__(
        self, db: Database, clock: Clock, trust: Trust, *, tell: Callable[[Judged], None] = lambda _: None
    ) -> None:
        self.db, self.clock, self.trust, self.tell = db, clock, trust, tell
        self.received = 0
        self.applied = 0
        self._queue: deque[_Waiting] = deque()
        self._arrived = threading.Condition()
        self._stored = threading.Event()
        self._closing = False
        self._writer = threading.Thread(target=self._write, name="kasoko-store", daemon=True)
        self._applier = threading.Thread(target=self._apply, name="kasoko-apply", daemon=True)
        self._writer.start()
        self._applier.start()

    async def take(self, delivery: Delivery) -> None:
        """Store one delivery; returns once it is on the disk.

        Raises:
            KasokoError: it could not be stored; the listener answers 503.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._arrived:
            self._queue.append((delivery, loop, done))
            self._arrived.notify()
        await done

    def close(self) -> None:
        """Store and apply what has arrived, then stop."""
        with self._arrived:
            self._closing = True
            self._arrived.notify()
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
                self._stored.set()
            for _, loop, done in group:
                loop.call_soon_threadsafe(_finish, done, trouble)

    def _apply(self) -> None:
        while True:
            self._stored.wait()
            self._stored.clear()
            closing = self._closing and not self._writer.is_alive()
            try:
                for judged in apply_waiting(self.db, self.clock, self.trust):
                    self.applied += 1
                    self.tell(judged)
            except Exception as error:
                _log.error("Stored callbacks could not be applied now (%s); they are kept.", type(error).__name__)
            if closing:
                return


def _finish(done: asyncio.Future[None], trouble: Exception | None) -> None:
    if done.done():
        return
    if trouble is None:
        done.set_result(None)
    else:
        done.set_exception(trouble)
