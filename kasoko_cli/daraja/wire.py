"""One HTTP exchange with M-Pesa, with an end to it, and what is certain if it broke.

httpx has timeouts for each read, none for the whole: an answer that drips in byte by byte would
never end. So the sockets here know a deadline. Only what breaks while connecting proves that the
request never left; every other break leaves it unknown.
"""

from __future__ import annotations

import base64
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpcore
import httpx

from kasoko_cli import __version__
from kasoko_cli.daraja.messages import MAX_ANSWER_BYTES
from kasoko_cli.domain.payer import is_loopback
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.kill_points import REQUEST_AFTER, REQUEST_BEFORE, point

#: The longest that connecting, TLS included, may take at each step.
CONNECT_SECONDS: Final = 10.0
#: A connection that was idle for longer is not used again: the other side may be closing it.
KEEP_ALIVE_SECONDS: Final = 4.0

#: How long the head of a proxy's answer may be.
MOST_HEAD_BYTES: Final = 16_384
_PORTS: Final = {"http": 80, "https": 443}

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
    #: Whether the caller held it back: then nothing is wrong with the network.
    held_back: bool = False


class _HeldBack(Exception):
    """The caller says that a request must not leave any more."""


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


class _Last:
    """The content of a request, and the last question before it is written."""

    def __init__(self, content: bytes | None, hold_back: Callable[[], str]) -> None:
        self.content = content
        self._hold_back = hold_back

    def check(self) -> None:
        """Hold that it may leave.

        Raises:
            _HeldBack: it may not, and why.
        """
        if why := self._hold_back():
            raise _HeldBack(why)

    def __iter__(self) -> Iterator[bytes]:
        # The socket layer asks for this when it has connected and written the head of the request. A head without
        # its content instructs nobody.
        self.check()
        if self.content is not None:
            yield self.content


@dataclass(frozen=True)
class Route:
    """The way to M-Pesa: through a proxy or not, and who vouches for its host."""

    #: `http://[user:password@]host:port`; empty for none. In no repr: it may hold a password.
    proxy: str = field(default="", repr=False)
    #: Authorities in PEM, instead of the usual ones; empty for those.
    ca_file: str = ""

    def proxy_to(self, host: str) -> str | None:
        """The proxy on the way to a host; none to this machine."""
        return None if is_loopback(host) or not self.proxy else self.proxy

    def tls_context(self) -> ssl.SSLContext:
        """What a host's certificate is held to.

        Raises:
            ConfigurationError: the file of authorities cannot be read or used.
        """
        if not self.ca_file:
            usual = httpx.create_ssl_context(trust_env=False)
            # The system's own authorities count too, for networks that look into TLS with one of theirs.
            usual.load_default_certs()
            return usual
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # a file without a certificate in it is an SSLError, which is one too
            why = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigurationError(
                f"daraja.ca_file {self.ca_file} cannot be used: {why}. Nothing was sent.",
                hint="Name a PEM file of the authorities, or take it out: kasoko config show --origin",
            ) from None


DIRECT: Final = Route()


class Wire:
    """Exchanges with one host: a connection a thread, one TLS context for all of them."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float,
        transport: httpx.BaseTransport | None = None,
        route: Route = DIRECT,
    ) -> None:
        self._route = route
        self._base_url = httpx.URL(base_url.rstrip("/"))
        self._timeout_seconds = timeout_seconds
        self._transport = transport
        self._lock = threading.Lock()
        #: Made at once where a file that may be wrong says what it holds; else when it is first needed.
        self._tls = route.tls_context() if route.ca_file else None
        self._mine = threading.local()
        self._lines: list[_Line | _Given] = []

    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        deadline: Deadline,
        content: bytes | None = None,
        hold_back: Callable[[], str] = lambda: "",
    ) -> Reply | Broken:
        """Send one request once and read the whole answer. Never raises for what the network does.

        `hold_back` says why the request must not leave, or nothing where it may. It is asked before anything is
        done, and for the last time directly before the first byte of the content is written: connecting may
        have taken seconds, and the process may have been stopped.
        """
        started = time.monotonic()
        status: int | None = None

        def elapsed() -> int:
            return round((time.monotonic() - started) * 1000)

        if deadline.remaining() <= 0:
            return Broken(never_left=True, what="no time was left to send it", latency_ms=0)
        line = self._line()
        point(REQUEST_BEFORE)
        try:
            status, chunks, let_go = line.carry(method, path, headers, _Last(content, hold_back), deadline)
            try:
                body = b""
                for chunk in chunks:
                    body = body + chunk if body else chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        return Broken(False, "the answer is too long", elapsed(), status)
                    if deadline.remaining() <= 0:
                        return Broken(False, "the answer took too long", elapsed(), status)
                point(REQUEST_AFTER)
                return Reply(status, body, elapsed())
            finally:
                let_go()
        except _HeldBack as held:
            return Broken(True, str(held), elapsed(), held_back=True)
        except _NEVER_LEFT as error:
            return Broken(True, _words(error), elapsed(), status)
        except Exception as error:  # whatever it was, the request may have left
            return Broken(False, _words(error), elapsed(), status)

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            lines, self._lines = self._lines, []
            self._mine = threading.local()
        for line in lines:
            line.close()

    def _line(self) -> _Line | _Given:
        """This thread's connection."""
        found: _Line | _Given | None = getattr(self._mine, "line", None)
        if found is None:
            if self._transport is not None:
                found = _Given(self._base_url, self._transport)
            else:
                proxy = self._route.proxy_to(self._base_url.host)
                found = _Line(self._base_url, self._tls_context(), self._timeout_seconds, proxy)
            with self._lock:
                self._lines.append(found)
            self._mine.line = found
        return found

    def _tls_context(self) -> ssl.SSLContext | None:
        """One context for all threads: making one takes longer than a request. None for plain HTTP."""
        if self._base_url.scheme == "http":
            return None
        with self._lock:
            if self._tls is None:
                self._tls = self._route.tls_context()
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
        said = cause.args[0] if cause.args and isinstance(cause.args[0], _NoWay) else None
        cause = said or cause.__cause__ or cause.__context__
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


class _ProxyBackend(httpcore.NetworkBackend):
    """Opens such a socket through a proxy. Whatever goes wrong there is no connection: the request has not left."""

    def __init__(self, proxy: str, inner: httpcore.NetworkBackend) -> None:
        self._proxy = httpx.URL(proxy)
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        proxy = self._proxy
        place = f"the proxy {proxy.host}:{proxy.port or _PORTS[proxy.scheme]}"
        stream: httpcore.NetworkStream | None = None
        try:
            stream = self._inner.connect_tcp(
                proxy.host, proxy.port or _PORTS[proxy.scheme], timeout, local_address, socket_options
            )
            if proxy.scheme == "https":
                stream = stream.start_tls(DIRECT.tls_context(), proxy.host, timeout)
            stream.write(self._request(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), timeout)
            head = b""
            while b"\r\n\r\n" not in head and len(head) < MOST_HEAD_BYTES:
                more = stream.read(4_096, timeout)
                if not more:
                    break
                head += more
        except httpcore.TimeoutException:
            raise _no_way(stream, httpcore.ConnectTimeout, f"{place} does not answer in time") from None
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise _no_way(stream, httpcore.ConnectError, f"{place} cannot be reached") from None
        # The host speaks only once it is spoken to: nothing may come behind the head.
        if not re.match(rb"HTTP/1\.[01] 2\d\d\b", head) or not head.endswith(b"\r\n\r\n"):
            said = re.match(rb"HTTP/1\.[01] ([13-5]\d\d)\b", head)
            words = f"answers HTTP {said[1].decode()}" if said else "answers with what cannot be read"
            raise _no_way(stream, httpcore.ConnectError, f"{place} {words}")
        return stream

    def _request(self, target: str) -> bytes:
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"User-Agent: {_HEADERS['User-Agent']}"]
        if self._proxy.username or self._proxy.password:
            told = base64.b64encode(f"{self._proxy.username}:{self._proxy.password}".encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {told}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class _NoWay(OSError):
    """Why a proxy gave no connection, in words that carry nothing of what it was told."""


def _no_way(stream: httpcore.NetworkStream | None, kind: type[Exception], why: str) -> Exception:
    """Close what was opened; the error that no connection was made."""
    if stream is not None:
        stream.close()
    return kind(_NoWay(0, why))


#: What every request says of us. Compressed answers are short ones nobody asked for; a plain body has no surprises.
_HEADERS: Final = {
    "User-Agent": f"kasoko/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "keep-alive",
}
#: A status, the parts of the body, and what to call when it was read or given up.
_Carried = tuple[int, Iterable[bytes], Callable[[], None]]


class _Line:
    """One thread's connection: httpx's own, without the client around it, which costs more than all the rest.

    What a client adds (cookies, redirects, decoding, authentication flows) has no place here.
    """

    def __init__(
        self, base_url: httpx.URL, tls: ssl.SSLContext | None, timeout_seconds: float, proxy: str | None
    ) -> None:
        port = base_url.port or _PORTS[base_url.scheme]
        self._origin = httpcore.Origin(base_url.raw_scheme, base_url.raw_host, port)
        self._front = base_url.raw_path.rstrip(b"/")
        self._host = base_url.netloc
        self._tls = tls
        self._current = _CurrentDeadline()
        direct = _DeadlineBackend(self._current)
        self._backend: httpcore.NetworkBackend = _ProxyBackend(proxy, direct) if proxy else direct
        connect_seconds = min(CONNECT_SECONDS, timeout_seconds)
        self._timeouts = {"connect": connect_seconds, "read": timeout_seconds, "write": timeout_seconds}
        self._connection: httpcore.HTTPConnection | None = None

    def carry(self, method: str, path: str, headers: Mapping[str, str], last: _Last, deadline: Deadline) -> _Carried:
        """Send a request and read the head of its answer.

        Raises:
            _HeldBack: it must not leave, and its content did not.
            httpx.TransportError: it broke; only what breaks while connecting never left.
        """
        last.check()
        self._current.until = deadline
        target = self._front + path.encode("ascii")
        lines = [(b"Host", self._host)]
        lines += [(name.encode("ascii"), value.encode("ascii")) for name, value in {**_HEADERS, **headers}.items()]
        if last.content is not None:
            lines.append((b"Content-Length", str(len(last.content)).encode("ascii")))
        url = httpcore.URL(scheme=self._origin.scheme, host=self._origin.host, port=self._origin.port, target=target)
        request = httpcore.Request(method, url, headers=lines, content=last, extensions={"timeout": self._timeouts})
        try:
            response = self._usable().handle_request(request)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _translated(error) from error
        assert isinstance(response.stream, Iterable)
        return response.status, _read(response.stream), response.close

    def _usable(self) -> httpcore.HTTPConnection:
        """The connection that is open, or a new one: an old one may be closing on the other side."""
        old = self._connection
        if old is not None and old.is_idle() and not old.has_expired():
            return old
        if old is not None:
            old.close()
        self._connection = httpcore.HTTPConnection(
            self._origin, ssl_context=self._tls, keepalive_expiry=KEEP_ALIVE_SECONDS, network_backend=self._backend
        )
        return self._connection

    def close(self) -> None:
        """Close the connection. What this thread has under way breaks."""
        if self._connection is not None:
            self._connection.close()


class _Given:
    """The same over a transport that was handed in."""

    def __init__(self, base_url: httpx.URL, transport: httpx.BaseTransport) -> None:
        self._base_url = str(base_url).rstrip("/")
        self._transport = transport

    def carry(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        last: _Last,
        deadline: Deadline,  # noqa: ARG002 - a transport has no sockets that we know
    ) -> _Carried:
        """Send a request and read the head of its answer.

        Raises:
            _HeldBack: it must not leave, and did not.
        """
        request = httpx.Request(method, self._base_url + path, headers={**_HEADERS, **headers}, content=last.content)
        last.check()
        response = self._transport.handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)
        return response.status_code, response.stream, response.stream.close

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()


def _read(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The answer's body, with httpx's names for what breaks."""
    try:
        yield from parts
    except httpcore.NetworkError as error:
        raise httpx.ReadError("reading the answer broke") from error
    except (httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise _translated(error) from error


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
