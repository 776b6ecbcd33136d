"""The listener in the process of a command, beside its other work."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.output import render
from kasoko_cli.daraja import serve
from kasoko_cli.daraja.access_control import AllowList
from kasoko_cli.daraja.connection_limits import ConnectionLimits
from kasoko_cli.daraja.listener import Counts, ListenerPolicy, listener_app, metrics_app
from kasoko_cli.daraja.serve import Server, Tls, bound
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.operations.callbacks.apply_results import Judged
from kasoko_cli.operations.callbacks.inbox import Inbox


@contextlib.contextmanager
def listening(
    call: CommandContext,
    host: str | None = None,
    port: int | None = None,
    *,
    tls: Tls | None = None,
    otherwise: str = "choose another with --port",
    tell: Callable[[Judged], None] = lambda _: None,
) -> Iterator[Inbox]:
    """The listener in this process, beside other work; drains when the block ends.

    It listens on the sockets that systemd hands on, else on the address of the command line, else on that of
    the settings. `tls` is the certificate where the caller renews it; `otherwise` says what to do where a
    listener has the port already; `tell` hears of each callback judged.
    """
    container, counts = call.container, Counts()
    settings = container.config.listener
    tls = tls or container.tls()
    with contextlib.ExitStack() as stack:
        sockets = _sockets(call, host, port, otherwise)
        for listening_socket in sockets:
            stack.callback(listening_socket.close)
        inbox = Inbox(container.db, container.clock, container.trust, container.caps, on_progress=tell)
        stack.callback(inbox.close)
        app = listener_app(
            inbox.take,
            container.links,
            clock=container.clock,
            policy=ListenerPolicy(AllowList(settings.allow_from), settings.trusted_proxies, settings.misses_per_minute),
            counts=counts,
        )
        _more_descriptors(settings.max_connections)
        server = Server(app, sockets=sockets, tls=tls, limits=ConnectionLimits(connections=settings.max_connections))
        if settings.metrics:
            metrics_host, _, metrics_port = settings.metrics.rpartition(":")
            figures = container.listener_figures(counts, inbox, server.doors)
            beside = Server(metrics_app(figures), sockets=[bound(metrics_host.strip("[]"), int(metrics_port))])
            stack.enter_context(beside)
            render.talk(call, f"Metrics for Prometheus at {beside.url}/metrics")
        stack.enter_context(server)
        render.talk(call, f"Listening on {server.url} for what M-Pesa posts to {container.config.daraja.callback_url}")
        yield inbox


def _sockets(call: CommandContext, host: str | None, port: int | None, otherwise: str) -> list[socket.socket]:
    """What to listen on."""
    import os
    from pathlib import Path

    settings = call.container.config.listener
    if found := serve.inherited(os.environ):
        return found
    if settings.unix_socket and host is None and port is None:
        return [serve.bound_unix(Path(settings.unix_socket))]
    try:
        return [serve.bound(host or settings.host, settings.port if port is None else port)]
    except ConfigurationError as error:
        hint = f"Another process has this port. If it is kasoko listen, {otherwise}; else stop it."
        raise ConfigurationError(error.message, hint=hint) from error


def _more_descriptors(connections: int) -> None:
    """Raise the limit of open files towards what so many connections need, as far as this process may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        # A sandbox may be stricter than it says: then the limit of connections makes room.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
