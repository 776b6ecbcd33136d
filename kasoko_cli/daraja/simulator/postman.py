"""Posts results to whoever they are owed, out of the event loop that serves the requests.

A small HTTP/1.1 client of its own: posting thousands of results a second with a full client library
would cost several times what taking the payments costs, and would make the simulator the slowest part
of every measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from kasoko_cli.daraja.simulator.answers import Notice
from kasoko_cli.domain.payer import is_loopback

#: How many posts are on their way at once.
_CARRIERS: Final = 16
#: A connection that has rested so long is not used again: the other side may be about to close it.
_REST_SECONDS: Final = 1.0
#: The most that is read of an answer.
_MAX_ANSWER_BYTES: Final = 65_536
#: How an answer begins.
_STATUS_LINE: Final = re.compile(r"HTTP/1\.\d (\d{3})(?: |$)")

_log = logging.getLogger(__name__)

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter, float]


@dataclass
class DeliveryTally:
    """What became of the notices, over every start of one simulator."""

    #: Somebody answered, whatever they answered.
    posted: int = 0
    #: Those of them that were answered with success: the listener says that it has stored them.
    accepted: int = 0
    #: Nobody answered, or the host is not one to post to.
    undelivered: int = 0
    #: Still owed when the simulator stopped.
    dropped: int = 0


class Postman:
    """Posts each notice once (or `tries` times), a while after it was handed in.

    Belongs to the event loop that first hands it something.
    """

    def __init__(
        self,
        tally: DeliveryTally,
        *,
        callback_map: tuple[tuple[str, str], ...],
        post_anywhere: bool,
        timeout_seconds: float,
        tries: int,
        post_from: str | None = None,
    ) -> None:
        self._tally = tally
        self._from = None if post_from is None else (post_from, 0)
        self._map = callback_map
        self._anywhere = post_anywhere
        self._told: set[str] = set()
        self._timeout_seconds = timeout_seconds
        self._tries = tries
        self._due: deque[Notice] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._carriers: set[asyncio.Task[None]] = set()
        self._idle: dict[tuple[str, int, bool], list[_Connection]] = {}
        self._is_closed = False
        self._carried = 0

    @property
    def owed(self) -> int:
        """How many notices wait for their time, for a carrier or for an answer."""
        return len(self._timers) + len(self._due) + self._carried

    def hand_in(self, notice: Notice) -> None:
        """Post this when its time has come."""
        if self._is_closed:
            self._tally.dropped += 1
        elif notice.delay_seconds <= 0:
            self._is_due(notice)
        else:
            loop = asyncio.get_running_loop()

            def ripe() -> None:
                self._timers.discard(timer)
                self._is_due(notice)

            timer = loop.call_later(notice.delay_seconds, ripe)
            self._timers.add(timer)

    async def post_now(self, notice: Notice) -> None:
        """Post this and return when it was answered, or given up."""
        if self._is_closed:
            self._tally.dropped += 1
        else:
            await self._deliver(notice)

    async def close(self) -> None:
        """Drop what is still owed, and end what is on its way."""
        self._is_closed = True
        self._tally.dropped += len(self._timers) + len(self._due)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._due.clear()
        carriers = list(self._carriers)
        for carrier in carriers:
            carrier.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)
        for connections in self._idle.values():
            for _, writer, _ in connections:
                await _close(writer)
        self._idle.clear()

    def _is_due(self, notice: Notice) -> None:
        self._due.append(notice)
        if len(self._carriers) < _CARRIERS:
            carrier = asyncio.get_running_loop().create_task(self._carry())
            self._carriers.add(carrier)
            carrier.add_done_callback(self._carriers.discard)

    async def _carry(self) -> None:
        while self._due:
            await self._deliver(self._due.popleft())

    async def _deliver(self, notice: Notice) -> None:
        self._carried += 1
        try:
            await self._try(notice)
        finally:
            self._carried -= 1

    async def _try(self, notice: Notice) -> None:
        host = urlsplit(self._really(notice.url)).hostname or ""
        if not self._anywhere and not is_loopback(host):
            if host not in self._told:
                self._told.add(host)
                _log.warning(
                    "Nothing is posted to %s, which is not this machine. Map it: --callback-map https://%s=http://"
                    "127.0.0.1:8321. Or allow it: --post-anywhere",
                    host,
                    host,
                )
            self._tally.undelivered += 1
            return
        for _ in range(self._tries):
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    status = await self._post(notice)
            except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError):
                continue
            self._tally.posted += 1
            self._tally.accepted += 200 <= status < 300
            return
        self._tally.undelivered += 1

    async def _post(self, notice: Notice) -> int:
        """Post once; the status of the answer, whatever it is."""
        url = urlsplit(self._really(notice.url))
        is_tls = url.scheme == "https"
        origin = (url.hostname or "", url.port or (443 if is_tls else 80), is_tls)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        head = (
            f"POST {target} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: {notice.content_type}\r\n"
            f"Content-Length: {len(notice.body)}\r\nUser-Agent: kasoko-simulator\r\nAccept: */*\r\n\r\n"
        )
        reader, writer = await self._connect(origin)
        try:
            writer.write(head.encode("ascii") + notice.body)
            status, keeps = await _read_answer(reader)
        except BaseException:
            writer.transport.abort()
            raise
        if keeps and not self._is_closed:
            self._idle.setdefault(origin, []).append((reader, writer, asyncio.get_running_loop().time()))
        else:
            writer.close()
        return status

    async def _connect(self, origin: tuple[str, int, bool]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        now = asyncio.get_running_loop().time()
        idle = self._idle.get(origin, [])
        while idle:
            reader, writer, since = idle.pop()
            if now - since < _REST_SECONDS and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        host, port, is_tls = origin
        return await asyncio.open_connection(host, port, ssl=_tls() if is_tls else None, local_addr=self._from)

    def _really(self, url: str) -> str:
        for prefix, instead in self._map:
            if url.startswith(prefix):
                return instead + url.removeprefix(prefix)
        return url


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read one HTTP answer and throw it away; its status, and whether the connection can be used again.

    Raises:
        EOFError: the connection closed before the answer was whole.
        ValueError: this is not HTTP.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.split("\r\n")
    status = _STATUS_LINE.match(status_line)
    if status is None:
        raise ValueError("not an HTTP answer")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = headers.get("content-length", "0" if status[1] == "204" else "")
    if not length.isdigit() or int(length) > _MAX_ANSWER_BYTES:
        return int(status[1]), False
    await reader.readexactly(int(length))
    return int(status[1]), headers.get("connection", "").lower() != "close"


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
