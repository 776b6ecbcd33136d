"""uvicorn under a bare ASGI function: in the foreground, or in a thread beside other work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

import uvicorn

from kasoko_cli.errors import ConfigurationError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: How many connections may wait to be accepted.
BACKLOG = 2048


class Server:
    """One uvicorn server on a socket that is bound when this object is made.

    Port 0 takes any free port; `url` says which. The socket is bound before the server runs, so
    that "address in use" is an error of the command and not a line in a log. `http` is the parser:
    httptools if it is installed, else h11.

    Raises:
        ConfigurationError: the address cannot be bound.
    """

    def __init__(
        self,
        app: AsgiApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        drain_seconds: float = 5.0,
        http: Literal["auto", "h11", "httptools"] = "auto",
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The protocol is named since asyncio switches Nagle's delay off only where it stands: 40 ms an answer.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
            # Two sockets may be bound to one address as long as neither listens: who is first shows only here.
            self._socket.listen(BACKLOG)
        except OSError as error:
            self._socket.close()
            raise ConfigurationError(
                f"Cannot listen on {host}:{port}: {error.strerror or error}.",
                hint="Another process has this port: stop it, or choose another port.",
            ) from error
        self.host = host
        self.port: int = self._socket.getsockname()[1]
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
            backlog=BACKLOG,
            proxy_headers=False,
            timeout_graceful_shutdown=int(drain_seconds) or 1,
        )
        # A request line holds the mark of a callback URL: whatever handlers there are, it is not logged.
        logging.getLogger("uvicorn.access").disabled = True
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:8321`, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> None:
        """Serve in a thread of its own; returns once requests are taken."""
        ready = threading.Event()

        async def serve() -> None:
            task = asyncio.create_task(self._server._serve([self._socket]))
            while not self._server.started and not task.done():
                await asyncio.sleep(0.005)
            ready.set()
            await task

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="kasoko-serve", daemon=True)
        self._thread.start()
        ready.wait(timeout=30)

    def stop(self) -> None:
        """Take no more, finish what is in flight, then return."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=30)
            self._thread = None
        with contextlib.suppress(OSError):
            self._socket.close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
