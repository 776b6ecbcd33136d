"""One HTTP exchange with M-Pesa, with an end to it, and what is certain if it broke.

httpx has timeouts for each read, none for the whole: an answer that drips in byte by byte would
never end. So the sockets here know a deadline. Only what breaks while connecting proves that the
request never left; every other break leaves it unknown.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpcore
import httpx

from kasoko_cli import __version__
from kasoko_cli.daraja.messages import MAX_ANSWER_BYTES
from kasoko_cli.points import REQUEST_AFTER, REQUEST_BEFORE, point

#: The longest that connecting, TLS included, may take at each step.
CONNECT_SECONDS: Final = 10.0
#: A connection that was idle for longer is not used again: the other side may be closing it.
KEEP_ALIVE_SECONDS: Final = 4.0

#: What can only break before the first byte of the request is written.
_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Reply:
    """A whole answer, whatever it says."""

    http_status: int
    body: bytes = field(repr=False)
    latency_ms: int


@dataclass(frozen=True)
class Broken:
    """No whole answer: `never_left` is True only where that is certain."""

    never_left: bool
    #: What broke, in words that carry nothing of the request.
    what: str
    latency_ms: int
    #: The status, if at least that had arrived.
    http_status: int | None = None


class Deadline:
    """A moment of the monotonic clock, or none."""

    def __init__(self, seconds: float | None = None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left; never below zero."""
        return float("inf") if self._at is None else max(0.0, self._at - time.monotonic())

    def within(self, timeout: float | None) -> float | None:
        """The timeout, cut at the deadline; None is no end at all."""
        left = self.remaining()
        if timeout is None:
            return None if self._at is None else left
        return min(timeout, left)


class Wire:
    """Exchanges with one host: a connection a thread, one TLS context for all of them."""

    def __init__(self, base_url: str, *, timeout_seconds: float, transport: httpx.BaseTransport | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = httpx.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds))
        self._transport = transport
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._mine = threading.local()
        self._clients: list[httpx.Client] = []

    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        deadline: Deadline,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Reply | Broken:
        """Send one request once and read the whole answer. Never raises for what the network does."""
        started = time.monotonic()
        status: int | None = None

        def elapsed() -> int:
            return round((time.monotonic() - started) * 1000)

        if deadline.remaining() <= 0:
            return Broken(never_left=True, what="no time was left to send it", latency_ms=0)
        client, current = self._client()
        current.until = deadline
        point(REQUEST_BEFORE)
        try:
            with client.stream(
                method, self._base_url + path, params=params, headers=dict(headers), content=content
            ) as response:
                status = response.status_code
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        return Broken(False, "the answer is too long", elapsed(), status)
                    if deadline.remaining() <= 0:
                        return Broken(False, "the answer took too long", elapsed(), status)
                point(REQUEST_AFTER)
                return Reply(status, bytes(body), elapsed())
        except _NEVER_LEFT as error:
            return Broken(True, _words(error), elapsed(), status)
        except Exception as error:  # whatever it was, the request may have left
            return Broken(False, _words(error), elapsed(), status)
        finally:
            current.until = Deadline()

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            clients, self._clients = self._clients, []
            self._mine = threading.local()
        for client in clients:
            client.close()

    def _client(self) -> tuple[httpx.Client, _CurrentDeadline]:
        """This thread's connection, and where to write its deadline."""
        found: tuple[httpx.Client, _CurrentDeadline] | None = getattr(self._mine, "client", None)
        if found is None:
            current = _CurrentDeadline()
            client = httpx.Client(
                transport=self._transport or _DeadlineTransport(self._tls_context(), current),
                timeout=self._timeout,
                trust_env=False,
                follow_redirects=False,
                # Compressed answers are short ones nobody asked for; a plain body has no surprises.
                headers={
                    "User-Agent": f"kasoko/{__version__}",
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                },
            )
            with self._lock:
                self._clients.append(client)
            found = self._mine.client = (client, current)
        return found

    def _tls_context(self) -> ssl.SSLContext | None:
        """One context for all threads: making one takes longer than a request. None for plain HTTP."""
        if self._base_url.startswith("http://"):
            return None
        with self._lock:
            if self._tls is None:
                self._tls = httpx.create_ssl_context(trust_env=False)
                # The system's own authorities count too, for networks that look into TLS with one of theirs.
                self._tls.load_default_certs()
            return self._tls


def _words(error: Exception) -> str:
    """What broke, by kind: an exception's own text may repeat what was sent."""
    names: dict[type[Exception], str] = {
        httpx.ConnectTimeout: "connecting took too long",
        httpx.ConnectError: "cannot connect",
        httpx.PoolTimeout: "no connection was free",
        httpx.ReadTimeout: "no answer in time",
        httpx.WriteTimeout: "sending took too long",
        httpx.ReadError: "the connection broke while reading",
        httpx.WriteError: "the connection broke while sending",
        httpx.RemoteProtocolError: "the connection was closed without a whole answer",
    }
    words = names.get(type(error), type(error).__name__)
    cause = error.__cause__
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    reason = cause.strerror if isinstance(cause, OSError) else None
    return f"{words} ({reason})" if reason else words


# --- Sockets that know when to stop ----------------------------------------------------------------------------------


class _CurrentDeadline:
    """The deadline of the exchange that this thread has under way."""

    def __init__(self) -> None:
        self.until = Deadline()


class _DeadlineStream(httpcore.NetworkStream):
    """A socket whose every read and write ends by the deadline."""

    def __init__(self, inner: httpcore.NetworkStream, current: _CurrentDeadline) -> None:
        self._inner = inner
        self._current = current

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._current.until.remaining() <= 0:
            raise httpcore.ReadTimeout("the answer took too long")
        return self._inner.read(max_bytes, self._current.until.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._current.until.remaining() <= 0:
            raise httpcore.WriteTimeout("sending took too long")
        self._inner.write(buffer, self._current.until.within(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        if self._current.until.remaining() <= 0:
            raise httpcore.ConnectTimeout("connecting took too long")
        secured = self._inner.start_tls(ssl_context, server_hostname, self._current.until.within(timeout))
        return _DeadlineStream(secured, self._current)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    """Opens such sockets; one that opened too late is closed before anything is written to it."""

    def __init__(self, current: _CurrentDeadline) -> None:
        self._inner = httpcore.SyncBackend()
        self._current = current

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(host, port, self._current.until.within(timeout), local_address, socket_options)
        if self._current.until.remaining() <= 0:
            stream.close()
            raise httpcore.ConnectTimeout("connecting took too long")
        return _DeadlineStream(stream, self._current)


class _Body(httpx.SyncByteStream):
    """The answer's body, with httpx's names for what breaks."""

    def __init__(self, inner: Iterable[bytes]) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._inner
        except httpcore.NetworkError as error:
            raise httpx.ReadError("reading the answer broke") from error
        except (httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise _translated(error) from error

    def close(self) -> None:
        if hasattr(self._inner, "close"):
            self._inner.close()


class _DeadlineTransport(httpx.BaseTransport):
    """httpx over a pool of one connection made of such sockets."""

    def __init__(self, tls: ssl.SSLContext | None, current: _CurrentDeadline) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=_DeadlineBackend(current),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        try:
            answer = self._pool.handle_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _translated(error) from error
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer.stream))

    def close(self) -> None:
        self._pool.close()


#: Each exception of the socket layer by httpx's own name for it, the most specific first.
_NAMES: Final[tuple[tuple[type[Exception], type[httpx.TransportError]], ...]] = (
    (httpcore.ConnectTimeout, httpx.ConnectTimeout),
    (httpcore.PoolTimeout, httpx.PoolTimeout),
    (httpcore.WriteTimeout, httpx.WriteTimeout),
    (httpcore.TimeoutException, httpx.ReadTimeout),
    (httpcore.ConnectError, httpx.ConnectError),
    (httpcore.WriteError, httpx.WriteError),
    (httpcore.NetworkError, httpx.ReadError),
    (httpcore.ProtocolError, httpx.RemoteProtocolError),
)


def _translated(error: Exception) -> httpx.TransportError:
    """The same break under httpx's name. What has no name of its own is a broken protocol: unknown."""
    for theirs, ours in _NAMES:
        if isinstance(error, theirs):
            return ours(str(error))
    return httpx.RemoteProtocolError(str(error))
