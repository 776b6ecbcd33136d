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
from kasoko_cli.daraja.access_control import AllowList, MissLimiter
from kasoko_cli.daraja.callback_urls import CallbackKind, Links, Route
from kasoko_cli.daraja.messages import CALLBACK_REPLY, MAX_CALLBACK_BYTES
from kasoko_cli.daraja.redaction import strip_credentials
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

    kind: CallbackKind
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


@dataclass(frozen=True, slots=True)
class ListenerPolicy:
    """Who may post, how often a source may be wrong, and how much of a request is read.

    `trusted_proxies` are addresses and networks whose X-Forwarded-For is believed.
    """

    allow: AllowList = field(default_factory=AllowList)
    trusted_proxies: Sequence[str] = ()
    misses_per_minute: int = MISSES_PER_MINUTE
    max_body: int = MAX_CALLBACK_BYTES
    body_seconds: float = BODY_SECONDS


def listener_app(
    take: Take,
    links: Links,
    *,
    clock: Clock = system_clock,
    policy: ListenerPolicy | None = None,
    counts: Counts | None = None,
) -> AsgiApp:
    """The listener as an ASGI function, for `serve.Server` or any other server.

    Answers: 200 stored; 404 no such path, a wrong mark, or an address that is not allowed; 405 another method
    than POST; 400, 408, 413 or 431 a length that contradicts itself, a body that took too long or is too long,
    a head that is too long; 429 too many misses of one source, or more hints than are kept; 503 it could not be
    stored. Only a stored callback keeps its connection.
    """
    policy = policy or ListenerPolicy()
    app = _Listener(take, links, clock, policy, counts or Counts())
    return behind(app, policy.trusted_proxies) if policy.trusted_proxies else app


class _Listener:
    """What `listener_app` answers with."""

    def __init__(self, take: Take, links: Links, clock: Clock, policy: ListenerPolicy, counts: Counts) -> None:
        self._take, self._links, self._clock, self._policy, self._counts = take, links, clock, policy, counts
        self._misses = MissLimiter(policy.misses_per_minute)
        self._under_way = {True: 0, False: 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == HEALTH_PATH:
            await _health(scope, send)
            return
        try:
            route = self._admit(scope)
            await self._store(route, scope, receive)
        except _Refused as refused:
            await _refuse(send, refused.status, refused.why, refused.headers)
        except _Gone:
            pass  # nobody is left to answer, and half a body is no evidence
        else:
            if route.mac_ok:
                self._counts.stored += 1
                await _send(send, _ACCEPTED, CALLBACK_REPLY)
            else:
                self._counts.hints += 1
                await _send(send, _ACCEPTED_AND_CLOSED, CALLBACK_REPLY)

    def _admit(self, scope: Scope) -> Route:
        """Who asks for an address of ours, may do so, and is not one too many.

        Raises:
            _Refused: 404, 405, 429 or 503.
        """
        route, counts = self._links.parse(scope["path"]), self._counts
        is_allowed = self._policy.allow.allows(_source(scope))
        if route is None or (route.id and not route.mac_ok) or not is_allowed:
            counts.missed += 1
            counts.not_allowed += not is_allowed
            if self._misses.may_miss(_source(scope), time.monotonic()):
                raise _Refused(404, b"not found")
            counts.limited += 1
            raise _Refused(429, b"too many", retry_after=b"60")
        if scope["method"] != "POST":
            counts.refused += 1
            raise _Refused(405, b"method not allowed", [(b"allow", b"POST")])
        if self._under_way[route.mac_ok] >= (MOST_SIGNED if route.mac_ok else MOST_HINTS):
            counts.overflowed += 1
            raise _Refused(503, b"busy, send it again", retry_after=b"5")
        return route

    async def _store(self, route: Route, scope: Scope, receive: Receive) -> None:
        """Read a callback and have it stored.

        Raises:
            _Gone: half of it came.
            _Refused: 400, 408, 413, 429, 431 or 503.
        """
        self._under_way[route.mac_ok] += 1
        try:
            body = await self._body(scope, receive)
            delivery = Delivery(
                kind=route.kind,
                subject_id=route.id,
                signed=route.mac_ok,
                source=_source(scope),
                received_at=self._clock(),
                body=strip_credentials(body),
            )
            await self._take(delivery)
        except (_Refused, _Gone):
            raise
        except TooMany:
            self._counts.overflowed += 1
            raise _Refused(429, b"too many", retry_after=b"3600") from None
        except Exception as error:
            self._counts.failed += 1
            # No traceback: the error's own text may repeat the body. Its kind is enough to look further.
            _log.error(
                "A callback (%s %s) could not be stored, and M-Pesa was told so: %s",
                route.kind,
                route.id or "without an id",
                type(error).__name__,
            )
            raise _Refused(503, b"not stored, send it again", retry_after=b"5") from None
        finally:
            self._under_way[route.mac_ok] -= 1

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        try:
            _check_head(scope["headers"], self._policy.max_body)
            if WHOLE in scope:
                return await _read(receive, self._policy.max_body)
            async with asyncio.timeout(self._policy.body_seconds):
                return await _read(receive, self._policy.max_body)
        except TimeoutError:
            self._counts.refused += 1
            raise _Refused(408, b"too slow") from None
        except _Refused:
            self._counts.refused += 1
            raise


def _source(scope: Scope) -> str:
    """The address that asks, as the socket says, or a proxy that is trusted."""
    return str((scope.get("client") or ("",))[0])


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
    """A request that is not taken, and how it is answered."""

    def __init__(
        self, status: int, why: bytes, headers: Sequence[tuple[bytes, bytes]] = (), *, retry_after: bytes = b""
    ) -> None:
        super().__init__(why)
        self.status, self.why = status, why
        self.headers = [*headers, (b"retry-after", retry_after)] if retry_after else headers


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
