"""uvicorn under a bare ASGI function: in the foreground, or in a thread beside other work.

uvicorn parses HTTP and runs the function. Accepting, deadlines and limits of connections are ours
(`connection_limits.py`), since uvicorn has no deadline for the head of a request and counts whoever says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import stat
import threading
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Literal

import uvicorn

from kasoko_cli.daraja.connection_limits import ConnectionLimits, Door, Doors
from kasoko_cli.errors import ConfigurationError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: What a request's scope says where its whole body came with its head: nobody has to be waited for.
WHOLE = "kasoko.whole"
#: How many connections may wait to be accepted.
BACKLOG = 2048
#: How long what is in flight may take once no more is taken.
DRAIN_SECONDS = 5
#: The first descriptor that systemd hands on. Source: sd_listen_fds(3).
FIRST_INHERITED = 3


class Tls:
    """A certificate and its key, read from files, and read again when they have been renewed.

    Raises:
        ConfigurationError: a file cannot be read, or the two do not belong together.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self.cert_file, self.key_file = cert_file, key_file
        self.reload()

    def reload(self) -> None:
        """Read the files anew; handshakes that begin after this use them. If they cannot be used, nothing changes."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        hint = "Mend listener.tls_cert_file and listener.tls_key_file: PEM files, the chain with the certificate first."
        for file in (self.cert_file, self.key_file):
            try:
                file.read_bytes()
            except OSError as error:
                raise ConfigurationError(f"Cannot read {file}: {error.strerror}.", hint=hint) from None
        try:
            context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
        except (ssl.SSLError, ValueError, _HasPassword) as error:
            why = "the key has a password" if isinstance(error, _HasPassword) else "they are no certificate and its key"
            raise ConfigurationError(
                f"{self.cert_file} and {self.key_file} cannot be used for TLS: {why}.", hint=hint
            ) from None
        self.context = context


class _HasPassword(Exception):
    """The key is encrypted."""


def _no_password() -> str:
    raise _HasPassword  # OpenSSL would ask at the terminal, where nobody may be


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens on this address; port 0 takes any free one.

    Raises:
        ConfigurationError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named since asyncio switches Nagle's delay off only where it stands: 40 ms an answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # Two sockets may be bound to one address as long as neither listens: who is first shows only here.
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}.",
            hint="Another process has this port: stop it, or choose another port.",
        ) from error
    return listening


def bound_unix(path: Path) -> socket.socket:
    """A Unix socket that listens at this path, for its owner and group; one that a dead process left is replaced.

    Raises:
        ConfigurationError: another process listens there, the path is taken, or cannot be made.
    """
    if trouble := _in_the_way(path):
        raise ConfigurationError(f"Cannot listen on {path}: {trouble}.", hint=_UNIX_HINT)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"Cannot listen on {path}: {error.strerror or error}.", hint=_UNIX_HINT) from error
    finally:
        os.umask(before)
    return listening


_UNIX_HINT = "Stop the process that listens there, or choose another path for listener.unix_socket."


def _in_the_way(path: Path) -> str:
    """What stands at this path that may not be replaced, in words; empty where nothing does."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return "it is there, and is no socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(1)
            asking.connect(str(path))
    except OSError:
        return ""
    return "another process does"


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd has opened for this process, which listen already; none where it has not.

    The environment forgets them, so that no child takes them for its own. Source: sd_listen_fds(3).
    """
    pid, count = environ.get("LISTEN_PID", ""), environ.get("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    found = []
    for number in range(FIRST_INHERITED, FIRST_INHERITED + int(count)):
        os.set_inheritable(number, False)
        found.append(socket.socket(fileno=number))
    return found


class Server:
    """One uvicorn server on sockets that listen before it runs.

    So "address in use" is an error of the command and not a line in a log. Without `sockets` it takes a free port
    of this machine; `url` says which. `http` is the parser: httptools if it is installed, else h11.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        sockets: Sequence[socket.socket] = (),
        tls: Tls | None = None,
        limits: ConnectionLimits | None = None,
        http: Literal["auto", "h11", "httptools"] = "auto",
    ) -> None:
        limits = limits or ConnectionLimits()
        self._sockets = list(sockets) or [bound("127.0.0.1", 0)]
        self._tls = tls
        address = self._sockets[0].getsockname()
        self.host = address[0] if isinstance(address, tuple) else str(address)
        self.port: int = address[1] if isinstance(address, tuple) else 0
        config = uvicorn.Config(
            app,
            interface="asgi3",
            lifespan="off",
            http=http,
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=limits.head_bytes,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        # A request line holds the mark of a callback URL: whatever handlers there are, it is not logged. Nor is
        # what strangers send that is no HTTP, a line each time.
        logging.getLogger("uvicorn.access").disabled = True
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self.doors = Doors(limits, lambda: None if tls is None else tls.context)
        self._server = _Uvicorn(config, self.doors)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:8321` without a trailing slash, or the path of a Unix socket."""
        if self._sockets[0].family == socket.AF_UNIX:
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def start(self) -> None:
        """Serve in a thread of its own; returns once requests are taken."""
        ready = threading.Event()

        async def serve() -> None:
            task = asyncio.create_task(self._server._serve(self._sockets))
            while not self._server.started and not task.done():
                await asyncio.sleep(0.005)
            ready.set()
            await task

        def run() -> None:
            with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
                runner.run(serve())

        self._thread = threading.Thread(target=run, name="kasoko-serve", daemon=True)
        self._thread.start()
        ready.wait(timeout=30)

    def stop(self) -> None:
        """Take no more, finish what is in flight, then return."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=30)
            self._thread = None
        for listening in self._sockets:
            with contextlib.suppress(OSError):
                listening.close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class _Uvicorn(uvicorn.Server):
    """uvicorn, to which connections come through our doors."""

    def __init__(self, config: uvicorn.Config, doors: Doors) -> None:
        super().__init__(config)
        self._doors = doors

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Instead of uvicorn's own: the sockets are there, and accepting is the doors'."""
        await self.lifespan.startup()
        self.servers = []
        protocol = _guarded(self.config.http_protocol_class)

        def made(door: Door) -> asyncio.Protocol:
            return protocol(door, self._doors.limits, self.config, self.server_state, self.lifespan.state)

        self._doors.start(sockets or [], made)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, then as uvicorn does: idle connections are closed, answers under way are finished."""
        self._doors.stop()
        await super().shutdown(sockets)


def _guarded(base: type[Any]) -> Callable[..., asyncio.Protocol]:
    """uvicorn's protocol of either parser, which tells its door what has come."""

    class Guarded(base):  # type: ignore[misc]
        def __init__(self, door: Door, limits: ConnectionLimits, *uvicorns: Any) -> None:
            super().__init__(*uvicorns)
            self.door, self.limits = door, limits
            self.head_bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(_Corked(transport))

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:  # a whole head has come, and the function has been called
                self.head_bytes = 0
                self.door.heard()
                if not self.cycle.more_body:
                    self.scope[WHOLE] = True  # before the function is called: its task runs after this
            elif before is None or before.response_complete:
                self.head_bytes += len(data)
                self.door.waits()
                # h11 counts by itself, httptools takes whatever comes.
                if self.head_bytes > self.limits.head_bytes and not self.transport.is_closing():
                    self.transport.write(_TOO_LONG)
                    self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.door.gone()

    return Guarded


class _Corked:
    """A transport that sends the head of an answer together with its body: one system call and one packet less.

    uvicorn writes the two one after the other. A head that nothing follows goes out on the loop's next turn.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._inner = transport
        self._head = b""
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        """Hold the first piece back for the second."""
        if self._head:
            head, self._head = self._head, b""
            self._inner.write(head + data)
        elif data:
            self._head = data
            self._call_soon(self._flush)

    def close(self) -> None:
        """Close once everything has gone out."""
        self._flush()
        self._inner.close()

    def _flush(self) -> None:
        if self._head:
            self.write(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\ncontent-length: 25\r\n"
    b'connection: close\r\n\r\n{"error":"head too long"}'
)
