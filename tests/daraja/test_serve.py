"""Claims about the server: who has the port is known before anything is posted to it."""

from __future__ import annotations

import pytest

from kasoko_cli.daraja.serve import Receive, Scope, Send, Server
from kasoko_cli.errors import ConfigurationError


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that nobody asks."""


def test_a_port_is_taken_from_the_moment_the_first_server_is_made() -> None:
    """Two sockets that may both be bound and do not listen yet: the second must not go on as if it would."""
    first = Server(nothing)
    try:
        with pytest.raises(ConfigurationError, match=rf"Cannot listen on 127\.0\.0\.1:{first.port}: "):
            Server(nothing, port=first.port)
    finally:
        first.stop()


def test_a_port_is_free_again_once_its_server_has_stopped() -> None:
    first = Server(nothing)
    with first:
        pass
    second = Server(nothing, port=first.port)
    with second:
        assert second.port == first.port
