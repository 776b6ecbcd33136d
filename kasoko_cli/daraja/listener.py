"""A bare ASGI function that hands each callback to the function it was given.

The mark in the path is checked before a byte of the body is read. The answer goes out only after
`take` has returned, which means that the body is stored durably; if it cannot be stored, M-Pesa is
told so. Whoever has no valid URL learns nothing: every miss is the same 404.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from kasoko_cli.clock import Clock, system_clock
from kasoko_cli.daraja.links import Kind, Links
from kasoko_cli.daraja.messages import CALLBACK_REPLY, MAX_CALLBACK_BYTES, strip_credentials
from kasoko_cli.daraja.serve import AsgiApp, Receive, Scope, Send

#: The path that a load balancer or a monitor may ask.
HEALTH_PATH: Final = "/healthz"
#: How long a body may take to arrive whole.
BODY_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """A callback as it arrived. The body is evidence, without the credential that it may have carried."""

    kind: Kind
    #: The attempt's or the query's id; empty if it came by the plain path.
    subject_id: str
    #: Whether the path carried our mark. If not it is a hint: stored, never believed.
    signed: bool
    #: The address that posted it, as the socket says.
    source: str
    received_at: datetime
    body: bytes = field(repr=False)


#: Stores a delivery durably; whatever it raises becomes a 503.
Take = Callable[[Delivery], Awaitable[None]]


def listener_app(
    take: Take,
    links: Links,
    *,
    clock: Clock = system_clock,
    max_body: int = MAX_CALLBACK_BYTES,
    body_seconds: float = BODY_SECONDS,
) -> AsgiApp:
    """The listener as an ASGI function, for `serve.Server` or any other server.

    Answers: 200 stored; 404 no such path, or a wrong mark; 405 another method than POST; 408 the
    body took too long; 413 it is too long; 503 it could not be stored.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == HEALTH_PATH:
            await _health(scope, send)
            return
        route = links.parse(scope["path"])
        if route is None or (route.id and not route.mac_ok):
            await _answer(send, 404, b'{"error":"not found"}')
            return
        if scope["method"] != "POST":
            await _answer(send, 405, b'{"error":"method not allowed"}', [(b"allow", b"POST")])
            return
        if _declared_length(scope) > max_body:
            await _answer(send, 413, b'{"error":"too large"}', [(b"connection", b"close")])
            return
        try:
            async with asyncio.timeout(body_seconds):
                body = await _read(receive, max_body)
        except TimeoutError:
            await _answer(send, 408, b'{"error":"too slow"}', [(b"connection", b"close")])
            return
        except _TooLong:
            await _answer(send, 413, b'{"error":"too large"}', [(b"connection", b"close")])
            return
        except _Gone:
            return  # nobody is left to answer, and half a body is no evidence
        delivery = Delivery(
            kind=route.kind,
            subject_id=route.id,
            signed=route.mac_ok,
            source=(scope.get("client") or ("",))[0],
            received_at=clock(),
            body=strip_credentials(body),
        )
        try:
            await take(delivery)
        except Exception as error:
            # No traceback: the error's own text may repeat the body. Its kind is enough to look further.
            _log.error(
                "A callback (%s %s) could not be stored, and M-Pesa was told so: %s",
                delivery.kind,
                delivery.subject_id or "without an id",
                type(error).__name__,
            )
            await _answer(send, 503, b'{"error":"not stored, send it again"}', [(b"retry-after", b"5")])
            return
        await _answer(send, 200, CALLBACK_REPLY)

    return app


async def _health(scope: Scope, send: Send) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        await _answer(send, 405, b'{"error":"method not allowed"}', [(b"allow", b"GET, HEAD")])
        return
    await _answer(send, 200, b'{"status":"ok"}', head=scope["method"] == "HEAD")


class _TooLong(Exception):
    """The body is longer than allowed."""


class _Gone(Exception):
    """The other side closed the connection before the body was whole."""


async def _read(receive: Receive, max_body: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        body += message.get("body", b"")
        if len(body) > max_body:
            raise _TooLong
        if not message.get("more_body", False):
            return bytes(body)


def _declared_length(scope: Scope) -> int:
    """Content-Length, cut to twenty digits, or zero where there is none or it is no number."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(declared[:20]) if declared.isdigit() else 0


async def _answer(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (), *, head: bool = False
) -> None:
    # A client that went away makes sending fail in some servers; what was stored stays stored.
    with contextlib.suppress(OSError):
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                    (b"cache-control", b"no-store"),
                    *headers,
                ],
            }
        )
        await send({"type": "http.response.body", "body": b"" if head else body})
