"""The other side of the wire for benchmarks: a Daraja that takes everything, so fast that it is in nobody's way.

    python -m tests.benchmarks.quick_daraja LATENCY_SECONDS

It prints its port, then answers until its input ends. It moves no money and posts no results; it counts how
many payments it took, and how many of them under an id that it had taken before.
"""

from __future__ import annotations

import asyncio
import re
import sys

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_ID = re.compile(rb'"OriginatorConversationID": "([^"]+)"')


class QuickDaraja:
    """What all connections share."""

    def __init__(self, latency_seconds: float) -> None:
        self.latency_seconds = latency_seconds
        self.seen: set[bytes] = set()
        self.taken = 0

    def answer(self, head: bytes, body: bytes) -> tuple[bytes, bool]:
        """The answer to one request, and whether it takes its time."""
        if head.startswith(b"POST"):
            found = _ID.search(body)
            own = found[1] if found else b"none"
            self.taken += 1
            self.seen.add(own)
            said = b'{"ConversationID": "AG_20261124_%020d", "OriginatorConversationID": "%s", ' % (self.taken, own)
            return (
                said + b'"ResponseCode": "0", "ResponseDescription": "Accept the service request successfully."}',
                True,
            )
        if b"/oauth/" in head:
            return b'{"access_token": "a-token-of-the-quick-one", "expires_in": "3599"}', False
        return b'{"taken": %d, "ids": %d}' % (self.taken, len(self.seen)), False


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, daraja: QuickDaraja) -> None:
        self.daraja = daraja
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        while (end := self.waiting.find(b"\r\n\r\n")) >= 0:
            head = self.waiting[:end]
            length = int(found[1]) if (found := _LENGTH.search(head)) else 0
            if len(self.waiting) < end + 4 + length:
                return
            body, self.waiting = self.waiting[end + 4 : end + 4 + length], self.waiting[end + 4 + length :]
            said, slow = self.daraja.answer(head, body)
            whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
                len(said),
                said,
            )
            if slow and self.daraja.latency_seconds:
                asyncio.get_running_loop().call_later(self.daraja.latency_seconds, self.transport.write, whole)
            else:
                self.transport.write(whole)


async def serve(latency_seconds: float) -> None:
    """Answer until the input ends."""
    loop, daraja = asyncio.get_running_loop(), QuickDaraja(latency_seconds)
    server = await loop.create_server(lambda: Connection(daraja), "127.0.0.1", 0, backlog=1_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
