"""A bare ASGI function that hands each callback to the function it was given.

The mark in the path is checked before a byte of the body is read. The answer goes out only after
`take` has returned, which means that the body is stored durably; if it cannot be stored, M-Pesa is
told so. Whoever has no valid URL learns nothing: every miss is the same 404, and costs the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from kasoko_cli.clock import Clock, system_clock
from kasoko_cli.daraja.access_control import AllowList, Misses
from kasoko_cli.daraja.callback_urls import Kind, Links
from kasoko_cli.daraja.messages import CALLBACK_REPLY, MAX_CALLBACK_BYTES, strip_credentials
from kasoko_cli.daraja.serve import WHOLE, AsgiApp, Receive, Scope, Send

#: The path that a load balancer or a monitor may ask.
HEALTH_PATH: Final = "/healthz"
#: The path that Prometheus asks, on an address of its own.
METRICS_PATH: Final = "/metrics"
#: How long a body may take to arrive whole, in seconds.
BODY_SECONDS: Final = 10.0
#: How many signed callbacks may be under way at once: being read, or waiting to be stored.
MOST_SIGNED: Final = 2_000
#: The same for posts on the plain path, which anybody may send.
MOST_HINTS: Final = 64
#: How many header lines a request may have, and how many bytes they may hold.
MOST_HEADERS: Final = 64
MOST_HEADER_BYTES: Final = 16_384
#: How often one source may be wrong in a minute.
MISSES_PER_MINUTE: Final = 60

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A callback as it arrived. The body is evidence, without the credential that it may have carried."""

    kind: Kind
    #: The attempt's or the query's id; empty if it came by the plain path.
    subject_id: str
    #: Whether the path carried our mark. If not it is a hint: stored, never believed.
    signed: bool
    #: The address that posted it, as the socket says, or a proxy that is trusted.
    source: str
    received_at: datetime
    body: bytes = field(repr=False)


class TooMany(Exception):
    """More has come than is kept of this: what `take` raises becomes a 429."""


#: Stores a delivery durably; whatever it raises becomes a 503, but `TooMany` a 429.
Take = Callable[[Delivery], Awaitable[None]]


@dataclass(slots=True)
class Counts:
    """What the listener has done since it started: figures for a monitor, no secrets."""

    #: Callbacks stored, with our mark in their address.
    stored: int = 0
    #: Posts on the plain path, stored as hints.
    hints: int = 0
    #: Requests for no address of ours, or with a wrong mark.
    missed: int = 0
    #: Misses of a source that had too many.
    limited: int = 0
    #: Requests from an address that is not on the list.
    not_allowed: int = 0
    #: Requests that were refused for their shape: a method, a length, a head, a body that came too slowly.
    refused: int = 0
    #: Callbacks that were turned away since too many were under way, or more had come than is kept.
    overflowed: int = 0
    #: Callbacks that could not be stored: M-Pesa was answered 503.
    failed: int = 0


def listener_app(
    take: Take,
    links: Links,
    *,
    clock: Clock = system_clock,
    max_body: int = MAX_CALLBACK_BYTES,
    body_seconds: float = BODY_SECONDS,
    allow: AllowList | None = None,
    trusted_proxies: Sequence[str] = (),
    misses_per_minute: int = MISSES_PER_MINUTE,
    counts: Counts | None = None,
) -> AsgiApp:
    """The listener as an ASGI function, for `serve.Server` or any other server.

    Answers: 200 stored; 404 no such path, a wrong mark, or an address that is not allowed; 405 another method
    than POST; 400, 408, 413 or 431 a length that contradicts itself, a body that took too long or is too long,
    a head that is too long; 429 too many misses of one source, or more hints than are kept; 503 it could not be
    stored. Only a stored callback keeps its connection.

    `trusted_proxies` are addresses and networks whose X-Forwarded-For is believed.
    """
    allow, counts = allow or AllowList(), counts or Counts()
    misses = Misses(misses_per_minute)
    under_way = {True: 0, False: 0}
    most = {True: MOST_SIGNED, False: MOST_HINTS}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == HEALTH_PATH:
            await _health(scope, send)
            return
        route = links.parse(scope["path"])
        source = (scope.get("client") or ("",))[0]
        is_allowed = allow.allows(source)
        if route is None or (route.id and not route.mac_ok) or not is_allowed:
            counts.missed += 1
            counts.not_allowed += not is_allowed
            if misses.may_miss(source, time.monotonic()):
                await _refuse(send, 404, b"not found")
            else:
                counts.limited += 1
                await _refuse(send, 429, b"too many", [(b"retry-after", b"60")])
            return
        if scope["method"] != "POST":
            counts.refused += 1
            await _refuse(send, 405, b"method not allowed", [(b"allow", b"POST")])
            return
        signed = route.mac_ok
        if under_way[signed] >= most[signed]:
            counts.overflowed += 1
            await _refuse(send, 503, b"busy, send it again", [(b"retry-after", b"5")])
            return
        under_way[signed] += 1
        try:
            try:
                _check_head(scope["headers"], max_body)
                if WHOLE in scope:
                    body = await _read(receive, max_body)
                else:
                    async with asyncio.timeout(body_seconds):
                        body = await _read(receive, max_body)
            except TimeoutError:
                counts.refused += 1
                await _refuse(send, 408, b"too slow")
                return
            except _Refused as refused:
                counts.refused += 1
                await _refuse(send, refused.status, refused.why)
                return
            except _Gone:
                return  # nobody is left to answer, and half a body is no evidence
            delivery = Delivery(
                kind=route.kind,
                subject_id=route.id,
                signed=signed,
                source=source,
                received_at=clock(),
                body=strip_credentials(body),
            )
            try:
                await take(delivery)
            except TooMany:
                counts.overflowed += 1
                await _refuse(send, 429, b"too many", [(b"retry-after", b"3600")])
                return
            except Exception as error:
                counts.failed += 1
                # No traceback: the error's own text may repeat the body. Its kind is enough to look further.
                _log.error(
                    "A callback (%s %s) could not be stored, and M-Pesa was told so: %s",
                    delivery.kind,
                    delivery.subject_id or "without an id",
                    type(error).__name__,
                )
                await _refuse(send, 503, b"not stored, send it again", [(b"retry-after", b"5")])
                return
        finally:
            under_way[signed] -= 1
        if signed:
            counts.stored += 1
            await _send(send, _ACCEPTED, CALLBACK_REPLY)
        else:
            counts.hints += 1
            await _send(send, _ACCEPTED_AND_CLOSED, CALLBACK_REPLY)

    return behind(app, trusted_proxies) if trusted_proxies else app


def behind(app: AsgiApp, trusted_proxies: Sequence[str]) -> AsgiApp:
    """The same function, told by these proxies who asks them; the last address that is none of theirs counts.

    The peer of a Unix socket has no address: it is trusted by the name `unix`.
    """
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    inner = ProxyHeadersMiddleware(cast(Any, app), trusted_hosts=list(trusted_proxies))

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.get("client"):
            scope["client"] = ("unix", 0)
        await inner(cast(Any, scope), cast(Any, receive), cast(Any, send))

    return told


def metrics_app(figures: Callable[[], bytes]) -> AsgiApp:
    """`/metrics` for Prometheus, on an address of its own; `figures` may take its time, and runs in a thread."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - nothing is read
        if scope["type"] != "http":
            return
        if scope["path"] != METRICS_PATH:
            await _refuse(send, 404, b"not found")
        elif scope["method"] not in ("GET", "HEAD"):
            await _refuse(send, 405, b"method not allowed", [(b"allow", b"GET, HEAD")])
        else:
            try:
                body = await asyncio.to_thread(figures)
            except Exception as error:
                _log.error("The figures cannot be read now: %s", type(error).__name__)
                await _refuse(send, 503, b"not now")
                return
            start = _start(200, body, [_CLOSE])
            start["headers"][0] = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
            await _send(send, start, b"" if scope["method"] == "HEAD" else body)

    return app


async def _health(scope: Scope, send: Send) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        await _refuse(send, 405, b"method not allowed", [(b"allow", b"GET, HEAD")])
        return
    body = b'{"status":"ok"}'
    await _send(send, _start(200, body, [_CLOSE]), b"" if scope["method"] == "HEAD" else body)


class _Refused(Exception):
    """A request whose head or body is not taken."""

    def __init__(self, status: int, why: bytes) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class _Gone(Exception):
    """The other side closed the connection before the body was whole."""


def _check_head(headers: Sequence[tuple[bytes, bytes]], max_body: int) -> None:
    """Refuse a head that is too long, or that says two things about how long the body is.

    Raises:
        _Refused: 400, 413 or 431.
    """
    size, declared, chunked = 0, None, False
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"content-length":
            if declared is not None or not value.isdigit():
                raise _Refused(400, b"no one length")
            declared = value
        elif name == b"transfer-encoding":
            chunked = True
    if size > MOST_HEADER_BYTES or len(headers) > MOST_HEADERS:
        raise _Refused(431, b"head too long")
    if declared is not None and chunked:
        raise _Refused(400, b"no one length")
    if declared is not None and int(declared[:20]) > max_body:
        raise _Refused(413, b"too large")


async def _read(receive: Receive, max_body: int) -> bytes:
    """The whole body.

    Raises:
        _Gone: nobody is there any more.
        _Refused: it is too long.
    """
    message = await receive()
    if message["type"] != "http.disconnect" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > max_body:
            raise _Refused(413, b"too large")
        return body
    parts = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise _Gone
        parts += message.get("body", b"")
        if len(parts) > max_body:
            raise _Refused(413, b"too large")
        if not message.get("more_body", False):
            return bytes(parts)
        message = await receive()


_CLOSE: Final = (b"connection", b"close")


def _start(status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> dict[str, Any]:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *headers,
        ],
    }


_ACCEPTED: Final = _start(200, CALLBACK_REPLY)
_ACCEPTED_AND_CLOSED: Final = _start(200, CALLBACK_REPLY, [_CLOSE])


async def _refuse(send: Send, status: int, why: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Say no, and close: whoever is refused keeps no connection."""
    body = b'{"error":"%s"}' % why
    await _send(send, _start(status, body, [*headers, _CLOSE]), body)


async def _send(send: Send, start: dict[str, Any], body: bytes) -> None:
    # A client that went away makes sending fail in some servers; what was stored stays stored.
    with contextlib.suppress(OSError):
        await send(start)
        await send({"type": "http.response.body", "body": body})
