"""Who comes in: connections are accepted here, and none of them can keep the others out.

A connection that says nothing costs a socket and no more: a protocol, and with TLS a handshake, begin with
its first byte. Until it has said the whole head of a request it *waits*. Who waits longer than the deadline
is cut off, whether in a handshake or in a head that drips. When there are too many connections, room is made
at the cost of the address that has most of them waiting, the one that has waited longest first. So a thousand
open ones of somebody else do not keep out one that has something to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: How many connections are accepted in a row before other work gets its turn.
_AT_A_TIME: Final = 64
#: How many connections are cut off at once where room has to be made.
_ROOM: Final = 16
#: How often overdue connections are looked for, in seconds.
_LOOK_SECONDS: Final = 0.25
#: How long to stop accepting when no descriptor is left and nobody can be cut off, in seconds.
_PAUSE_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What strangers may take of this process."""

    #: How many connections are open at once.
    connections: int = 1024
    #: How long a handshake and the head of a request may take together, in seconds.
    head_seconds: float = 10.0
    #: The longest head of a request, in bytes.
    head_bytes: int = 16_384


class Door:
    """One connection, from the moment it was accepted."""

    __slots__ = ("_doors", "handed_over", "since", "socket", "source")

    def __init__(self, doors: Doors, sock: socket.socket, source: str, since: float) -> None:
        self._doors = doors
        self.socket = sock
        #: The address it came from; all connections of a Unix socket have one.
        self.source = source
        #: When its handshake or the head that is awaited began.
        self.since = since
        #: Whether a transport has the socket.
        self.handed_over = False

    def heard(self) -> None:
        """A whole head has come: whatever follows has deadlines of its own."""
        self._doors.waiting.pop(self, None)

    def waits(self) -> None:
        """Some of a head has come; its time runs from the first byte on."""
        if self not in self._doors.waiting and self in self._doors.open:
            self.since = self._doors.now()
            self._doors.waiting[self] = None

    def gone(self) -> None:
        """The connection is closed."""
        self._doors.waiting.pop(self, None)
        self._doors.open.discard(self)

    def cut(self) -> None:
        """Close it, whatever it is doing."""
        self.gone()
        with contextlib.suppress(OSError, ValueError):
            if self.handed_over:
                # The socket is the transport's: that hears of it, and tells the protocol.
                self.socket.shutdown(socket.SHUT_RDWR)
            else:
                self._doors.loop.remove_reader(self.socket.fileno())
                self.socket.close()


class Doors:
    """Accepts connections on listening sockets and hands each to a protocol once it says something."""

    def __init__(self, limits: ConnectionLimits, tls: Callable[[], ssl.SSLContext | None] = lambda: None) -> None:
        self.limits, self._tls = limits, tls
        #: Every connection there is.
        self.open: set[Door] = set()
        #: Those whose next head has not come whole, in the order in which their time runs out.
        self.waiting: dict[Door, None] = {}
        #: How many were cut off, because their time was over or to make room.
        self.cut_off = 0
        self.loop: asyncio.AbstractEventLoop
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._look: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """The loop's own time, in seconds."""
        return self.loop.time()

    def start(self, sockets: Sequence[socket.socket], protocol: Callable[[Door], asyncio.Protocol]) -> None:
        """Accept on these sockets, which listen already."""
        self.loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._sockets = list(sockets)
        for listening in self._sockets:
            listening.setblocking(False)
            self.loop.add_reader(listening.fileno(), self._accept, listening)
        self._look = self.loop.call_later(_LOOK_SECONDS, self._cut_late)

    def stop(self) -> None:
        """Accept no more, and let those go who have said nothing."""
        for listening in self._sockets:
            self.loop.remove_reader(listening.fileno())
        self._sockets = []
        if self._look is not None:
            self._look.cancel()
        for door in list(self.waiting):
            door.cut()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_A_TIME):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor is left, in this process or on this machine
                if not self._make_room():
                    self._pause(listening)
                return
            if len(self.open) >= self.limits.connections and not self._make_room():
                sock.close()
                continue
            sock.setblocking(False)
            source = address[0] if isinstance(address, tuple) and address else ""
            door = Door(self, sock, source, self.now())
            self.open.add(door)
            self.waiting[door] = None
            self.loop.add_reader(sock.fileno(), self._begin, door)

    def _pause(self, listening: socket.socket) -> None:
        self.loop.remove_reader(listening.fileno())

        def again() -> None:
            if listening in self._sockets:
                self.loop.add_reader(listening.fileno(), self._accept, listening)

        self.loop.call_later(_PAUSE_SECONDS, again)

    def _make_room(self) -> bool:
        """Cut off some that wait, of the address that has most of them; False where nobody waits."""
        if not self.waiting:
            return False
        [(crowd, _)] = Counter(door.source for door in self.waiting).most_common(1)
        # A crowd of one address pays by the dozen, so that looking for it is paid by the dozen too.
        some = [door for door in self.waiting if door.source == crowd][:_ROOM]
        for door in some[: max(1, len(some) - 1)]:
            door.cut()
            self.cut_off += 1
        return True

    def _cut_late(self) -> None:
        """Cut off whoever has waited too long; the first is the one that began first."""
        latest = self.now() - self.limits.head_seconds
        for door in list(self.waiting):
            if door.since > latest:
                break
            door.cut()
            self.cut_off += 1
        self._look = self.loop.call_later(_LOOK_SECONDS, self._cut_late)

    def _begin(self, door: Door) -> None:
        """The first byte has come, or the other side has gone."""
        self.loop.remove_reader(door.socket.fileno())
        door.handed_over = True
        task = self.loop.create_task(self._hand_over(door))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, door: Door) -> None:
        context = self._tls()
        # The time of a handshake is counted here, by the door; asyncio's own limit is no shorter.
        more: dict[str, Any] = {} if context is None else {"ssl_handshake_timeout": self.limits.head_seconds + 1}
        try:
            await self.loop.connect_accepted_socket(lambda: self._protocol(door), door.socket, ssl=context, **more)
        except (OSError, asyncio.CancelledError):  # no handshake; TLS's errors are OSErrors
            door.gone()
            door.socket.close()
