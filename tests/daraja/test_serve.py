"""Claims about the server: who has the port is known before anything is posted to it."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.h11_impl import RequestResponseCycle as H11Cycle
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle as HttpToolsCycle

from kasoko_cli.daraja.serve import Receive, Scope, Send, Server, Tls, bound, bound_unix, inherited
from kasoko_cli.errors import ConfigurationError
from tests.daraja.test_attacks import certificate


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that nobody asks."""


def test_a_port_is_taken_from_the_moment_the_first_server_is_made() -> None:
    """Two sockets that may both be bound and do not listen yet: the second must not go on as if it would."""
    first = Server(nothing)
    try:
        with pytest.raises(ConfigurationError, match=rf"Cannot listen on 127\.0\.0\.1:{first.port}: "):
            bound(first.host, first.port)
    finally:
        first.stop()


def test_a_port_is_free_again_once_its_server_has_stopped() -> None:
    first = Server(nothing)
    with first:
        pass
    second = Server(nothing, sockets=[bound(first.host, first.port)])
    with second:
        assert second.port == first.port


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers everybody the same."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_the_internals_of_uvicorn_that_are_overridden_are_those_of_its_bounded_version() -> None:
    """What `serve.py` calls, replaces or reads of uvicorn beside its public `Config` and `Server.should_exit`."""
    server = uvicorn.Server(uvicorn.Config(nothing))
    for method in ("startup", "shutdown"):
        assert list(inspect.signature(getattr(server, method)).parameters) == ["sockets"]
    assert list(inspect.signature(server._serve).parameters) == ["sockets"]
    assert callable(server.config.get_loop_factory)
    assert not server.started
    assert vars(server.server_state).keys() >= {"connections", "tasks"}
    server.config.load()
    for protocol in (H11Protocol, HttpToolsProtocol):
        assert list(inspect.signature(protocol).parameters)[:3] == ["config", "server_state", "app_state"]
        loop = asyncio.new_event_loop()
        made = protocol(server.config, server.server_state, {}, loop)
        loop.close()
        assert vars(made).keys() >= {"cycle", "scope", "transport"}
        for method in ("connection_made", "data_received", "connection_lost"):
            assert callable(getattr(made, method))
    for cycle in (H11Cycle, HttpToolsCycle):
        source = inspect.getsource(cycle.__init__)
        assert "self.more_body" in source
        assert "self.response_complete" in source


# --- A Unix socket ------------------------------------------------------------------------------------------------


def ask(path: Path) -> str:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        return client.get("http://kasoko/").text


def test_a_unix_socket_serves_its_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "listen.sock"
    with Server(hello, sockets=[bound_unix(path)]) as server:
        assert server.url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert ask(path) == "ok"


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "listen.sock"
    bound_unix(path).close()
    assert path.exists()
    with Server(hello, sockets=[bound_unix(path)]):
        assert ask(path) == "ok"


def test_a_socket_of_a_living_process_and_a_file_are_left_alone(tmp_path: Path) -> None:
    path, file = tmp_path / "listen.sock", tmp_path / "notes.txt"
    file.write_text("mine")
    hint = "Stop the process that listens there, or choose another path for listener.unix_socket."
    with Server(hello, sockets=[bound_unix(path)]):
        with pytest.raises(ConfigurationError) as taken:
            bound_unix(path)
        assert (taken.value.message, taken.value.hint) == (f"Cannot listen on {path}: another process does.", hint)
        assert ask(path) == "ok"
    with pytest.raises(ConfigurationError) as refused:
        bound_unix(file)
    assert refused.value.message == f"Cannot listen on {file}: it is there, and is no socket."
    assert file.read_text() == "mine"
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        bound_unix(tmp_path / "nowhere" / "listen.sock")


# --- Sockets of systemd -------------------------------------------------------------------------------------------

ACTIVATED = """
import os, socket, sys
from kasoko_cli.daraja.serve import inherited
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = "1"
[found] = inherited(os.environ)
print(found.getsockname()[1], "LISTEN_FDS" in os.environ, os.get_inheritable(found.fileno()))
"""


def test_a_socket_that_systemd_opened_is_taken_over_and_no_child_takes_it_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        if opened.fileno() == 3:
            pytest.fail("descriptor 3 belongs to this process")
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.dup2({opened.fileno()}, 3, inheritable=True)\n{ACTIVATED}"],
            pass_fds=[opened.fileno()],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [str(opened.getsockname()[1]), "False", "False"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
    ],
)
def test_what_systemd_opened_for_another_process_is_left_alone(environ: dict[str, str]) -> None:
    assert inherited(dict(environ)) == []


# --- Certificates -------------------------------------------------------------------------------------------------


def test_a_certificate_that_cannot_be_used_is_told_in_words(tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, wrong_key = certificate(other)
    hint = "Mend listener.tls_cert_file and listener.tls_key_file: PEM files, the chain with the certificate first."
    for key, why in (
        (wrong_key, f"{cert_file} and {wrong_key} cannot be used for TLS: they are no certificate and its key."),
        (tmp_path / "none", f"Cannot read {tmp_path / 'none'}: No such file or directory."),
    ):
        with pytest.raises(ConfigurationError) as refused:
            Tls(cert_file, key)
        assert (refused.value.message, refused.value.hint) == (why, hint)
    Tls(cert_file, key_file)


def test_a_renewed_certificate_that_cannot_be_used_leaves_the_one_of_before(tmp_path: Path) -> None:
    tls = Tls(*certificate(tmp_path))
    before = tls.context
    tls.key_file.write_text("half a ke")
    with pytest.raises(ConfigurationError):
        tls.reload()
    assert tls.context is before


def test_a_server_with_tls_says_https(tmp_path: Path) -> None:
    tls = Tls(*certificate(tmp_path))
    with Server(hello, tls=tls) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
