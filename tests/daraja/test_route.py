"""The way to Daraja through a proxy, and with authorities of one's own: real sockets, real TLS, a real simulator."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kasoko_cli.clock import system_clock
from kasoko_cli.daraja import probe
from kasoko_cli.daraja.client import DarajaApp, DarajaClient, RequestLimits
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.daraja.probe import Seen, Unseen
from kasoko_cli.daraja.wire import Route
from kasoko_cli.errors import ConfigurationError, NotSent
from tests.daraja.memory_shelf import MemoryShelf
from tests.daraja.simulator_desk import Desk, a_desk
from tests.daraja.test_attacks import certificate
from tests.daraja.test_client import pay

HOST = "daraja.example.org"
LIMITS = RequestLimits(timeout_seconds=2, total_seconds=4, sends=1)


class Proxy:
    """A CONNECT proxy, and behind it one TLS host: whatever name is asked for, it leads to the simulator."""

    def __init__(self, behind: str, cert: tuple[Path, Path], answer: bytes) -> None:
        self._behind, self._answer = urlsplit(behind), answer
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(*cert)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.heads: list[bytes] = []
        #: What broke while TLS was spoken.
        self.failed: list[Exception] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listening.accept()[0],), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        head = b""
        with near:
            while not head.endswith(b"\r\n\r\n"):
                head += near.recv(1)
            self.heads.append(head)
            near.sendall(self._answer)
            if b" 200 " not in self._answer:
                return
            try:
                with (
                    self._tls.wrap_socket(near, server_side=True) as secured,
                    socket.create_connection((self._behind.hostname, self._behind.port)) as far,
                ):
                    threading.Thread(target=_pump, args=(far, secured), daemon=True).start()
                    _pump(secured, far)
            except OSError as error:
                self.failed.append(error)

    def close(self) -> None:
        self._listening.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65_536):
            sink.sendall(part)


@contextlib.contextmanager
def proxied(
    folder: Path, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
) -> Iterator[tuple[Proxy, Desk]]:
    with a_desk() as desk:
        proxy = Proxy(desk.url, certificate(folder, HOST), answer)
        try:
            yield proxy, desk
        finally:
            proxy.close()


def client_of(desk: Desk, route: Route, base_url: str = f"https://{HOST}") -> DarajaClient:
    set_to = desk.simulator.settings
    app = DarajaApp(
        base_url,
        set_to.consumer_key,
        set_to.consumer_secret,
        set_to.shortcode,
        set_to.initiator_name,
        desk.simulator.security_credential(),
        route=route,
    )
    return DarajaClient(app, MemoryShelf(), system_clock, limits=LIMITS)


def test_a_payment_goes_through_the_proxy_to_a_host_that_ones_own_authority_vouches_for(tmp_path: Path) -> None:
    with proxied(tmp_path) as (proxy, desk):
        route = Route(f"http://kasoko:p%40ss@127.0.0.1:{proxy.port}", str(tmp_path / "cert.pem"))
        client = client_of(desk, route)
        assert pay(client).verdict is Verdict.TAKEN
        client.close()
        [head] = proxy.heads  # one connection for the token and for the payment
        assert head.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n".encode())
        assert re.findall(rb"Proxy-Authorization: Basic (\S+)", head) == [base64.b64encode(b"kasoko:p@ss")]
        assert b"Authorization: Bearer" not in head
        assert "p%40ss" not in repr(client.account) + repr(route)
        seen = probe.look(f"https://{HOST}/", context=route.tls_context(), proxy=route.proxy_to(HOST))
        assert isinstance(seen, Seen)
        assert seen.certificate_ends is not None


def test_without_the_authority_nothing_is_said_to_the_host(tmp_path: Path) -> None:
    with proxied(tmp_path) as (proxy, desk):
        for ca_file in ("", str(_another(tmp_path))):
            client = client_of(desk, Route(f"http://127.0.0.1:{proxy.port}", ca_file))
            assert pay(client).verdict is Verdict.NOT_SENT
            client.close()
        until = time.monotonic() + 10
        while len(proxy.failed) < 2 and time.monotonic() < until:  # its threads hear of it a moment later
            time.sleep(0.01)
        assert len(proxy.failed) == 2
        assert all(isinstance(one, ssl.SSLError) for one in proxy.failed)


def _another(folder: Path) -> Path:
    (folder / "other").mkdir()
    return certificate(folder / "other", "elsewhere.example.org")[0]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answers HTTP 407"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\nno route", "answers HTTP 502"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "answers with what cannot be read"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}", "answers with what cannot be read"),
        (b"", "answers with what cannot be read"),
    ],
)
def test_what_a_proxy_refuses_never_left_and_says_why(answer: bytes, why: str, tmp_path: Path) -> None:
    with proxied(tmp_path, answer) as (proxy, desk):
        client = client_of(desk, Route(f"http://kasoko:s3cret@127.0.0.1:{proxy.port}", str(tmp_path / "cert.pem")))
        told = pay(client)
        assert told.verdict is Verdict.NOT_SENT
        assert f"cannot connect (the proxy 127.0.0.1:{proxy.port} {why})" in told.text
        with pytest.raises(NotSent) as refused:
            client.check_account()
        assert "daraja.proxy" in refused.value.hint
        assert "s3cret" not in repr(told) + str(refused.value)
        client.close()


def test_a_proxy_that_is_not_there_and_one_that_says_nothing_never_took_it(tmp_path: Path) -> None:
    with proxied(tmp_path) as (proxy, desk), socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        client = client_of(desk, Route(f"http://127.0.0.1:{port}"))
        told = pay(client)
        assert (told.verdict, f"the proxy 127.0.0.1:{port} does not answer in time" in told.text) == (
            Verdict.NOT_SENT,
            True,
        )
        client.close()
        proxy.close()
        client = client_of(desk, Route("http://127.0.0.1:1"))
        told = pay(client)
        assert told.verdict is Verdict.NOT_SENT
        assert "the proxy 127.0.0.1:1 cannot be reached" in told.text
        client.close()


def test_this_machine_is_never_asked_for_through_a_proxy(tmp_path: Path) -> None:
    with proxied(tmp_path) as (proxy, desk):
        client = client_of(desk, Route(f"http://127.0.0.1:{proxy.port}"), desk.url)
        assert pay(client).verdict is Verdict.TAKEN
        client.close()
        assert proxy.heads == []


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_file_of_authorities_that_cannot_be_used_is_named_before_anything_is_sent(
    text: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with a_desk() as desk, pytest.raises(ConfigurationError, match=re.escape(f"daraja.ca_file {file} cannot be used")):
        client_of(desk, Route(ca_file=str(file)))


def test_a_look_says_that_it_is_the_proxy(tmp_path: Path) -> None:
    with proxied(tmp_path, b"HTTP/1.1 407 No\r\n\r\n") as (proxy, _):
        seen = probe.look(f"https://{HOST}/", proxy=f"http://127.0.0.1:{proxy.port}", seconds=2)
        assert isinstance(seen, Unseen)
        assert "proxy" in seen.why
