"""What strangers do to the listener: a genuine result that is sent meanwhile is answered, each time.

The listener is a server of its own on a loopback socket, with a limit of connections that the attack passes
and a short deadline for heads. The genuine result must be answered within `SOON`; on a quiet machine that is
some milliseconds, and the bound is wide since the tests share theirs with others.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.daraja.connection_limits import ConnectionLimits
from kasoko_cli.daraja.listener import Delivery, ListenerPolicy, listener_app
from kasoko_cli.daraja.serve import Server, Tls

LINKS = Links("https://pay.example.org", b"0123456789abcdef0123456789abcdef")
PATH = urlsplit(LINKS.of_payment("ks-" + "0af1" * 8).result).path
BODY = b'{"Result":{"ResultCode":0}}'
GENUINE = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (PATH.encode(), len(BODY), BODY)
HEAD_SECONDS = 1.5
#: How soon a genuine result is answered, in seconds, however many others are at the door.
SOON = 1.0
#: How often the genuine result may be tried: another process of this machine may have had the processor.
TRIES = 5


def certificate(folder: Path, name: str = "pay.example.org") -> tuple[Path, Path]:
    """A certificate signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


class House:
    """A listener that keeps what it is given."""

    def __init__(self, http: str, tls: Tls | None, limits: ConnectionLimits) -> None:
        self.kept: list[Delivery] = []
        app = listener_app(self._take, LINKS, policy=ListenerPolicy(body_seconds=HEAD_SECONDS))
        self.server = Server(app, http=http, tls=tls, limits=limits)  # type: ignore[arg-type]
        self.tls = tls

    async def _take(self, delivery: Delivery) -> None:
        await asyncio.sleep(0)
        self.kept.append(delivery)

    def connect(self, *, handshake: bool = True) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.server.port), timeout=10)
        if self.tls is None or not handshake:
            return made
        context = ssl.create_default_context(cafile=str(self.tls.cert_file))
        return context.wrap_socket(made, server_hostname="pay.example.org")

    def genuine(self) -> float:
        """Post a genuine result on a connection of its own; how long it took until it was accepted."""
        began = time.monotonic()
        with self.connect() as connection:
            connection.sendall(GENUINE)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return time.monotonic() - began

    def assert_open(self) -> None:
        """A genuine result is answered soon."""
        took = []
        for _ in range(TRIES):
            took.append(self.genuine())
            if took[-1] < SOON:
                return
        raise AssertionError(took)


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def house(http: str) -> Iterator[House]:
    made = House(http, None, ConnectionLimits(connections=256, head_seconds=HEAD_SECONDS))
    with made.server:
        yield made


@pytest.fixture
def tls_house(http: str, tmp_path: Path) -> Iterator[House]:
    made = House(http, Tls(*certificate(tmp_path)), ConnectionLimits(connections=256, head_seconds=HEAD_SECONDS))
    with made.server:
        yield made


@contextlib.contextmanager
def crowd(house: House, count: int, says: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that say this much and no more."""
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            made.append(house.connect(handshake=False))
            with contextlib.suppress(OSError):  # it may be cut off already, to make room
                made[-1].sendall(says)
        yield made
    finally:
        for connection in made:
            connection.close()


def eventually(claim: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.05)


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(65_536) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize(
    "says",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"POST " + PATH.encode(), id="half a request line"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\n", id="half a head"),
    ],
)
def test_a_thousand_half_open_connections_keep_no_genuine_result_out(house: House, says: bytes) -> None:
    with crowd(house, 1000, says) as connections:
        house.assert_open()
        assert len(house.server.doors.open) <= 257
        eventually(lambda: all(is_closed(connection) for connection in connections))
        house.assert_open()
    eventually(lambda: not house.server.doors.open)


def test_a_head_that_drips_is_cut_off_in_time(house: House) -> None:
    """A byte now and then is no reason to wait longer: the time runs from the first one."""
    with house.connect() as dripping:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in b"POST / HTTP/1.1\r\nHost: " + b"x" * 1000:
                dripping.sendall(bytes([byte]))
                if is_closed(dripping):
                    break
                time.sleep(0.1)
        assert time.monotonic() - began >= HEAD_SECONDS - 0.5
        assert is_closed(dripping)
    house.assert_open()


def test_a_second_head_that_drips_is_cut_off_too(house: House) -> None:
    with house.connect() as connection:
        connection.sendall(GENUINE)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(b"POST / HT")
        eventually(lambda: is_closed(connection))
    house.assert_open()


def test_a_body_that_drips_is_given_up(house: House) -> None:
    with house.connect() as dripping:
        dripping.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" % PATH.encode())
        answer = b""
        with contextlib.suppress(OSError):
            for _ in range(100):
                dripping.sendall(b"x")
                dripping.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    answer += dripping.recv(4096)
                    break
        assert answer.startswith(b"HTTP/1.1 408")
    assert house.kept == []
    house.assert_open()


HEADS = {
    "100 MB declared": (b"Content-Length: 104857600\r\n\r\n", {b"413"}),
    "a length past all numbers": (b"Content-Length: " + b"9" * 400 + b"\r\n\r\n", {b"413", b"400"}),
    "two lengths": (b"Content-Length: 27\r\nContent-Length: 5\r\n\r\n" + BODY, {b"400"}),
    "one length twice": (b"Content-Length: 27\r\nContent-Length: 27\r\n\r\n" + BODY, {b"400", b"200"}),
    "a length below zero": (b"Content-Length: -1\r\n\r\n" + BODY, {b"400"}),
    "both a length and chunked": (
        b"Content-Length: 27\r\nTransfer-Encoding: chunked\r\n\r\n1b\r\n" + BODY + b"\r\n0\r\n\r\n",
        {b"400"},
    ),
    "chunked twice over": (b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", {b"400", b"501"}),
    "another encoding": (b"Transfer-Encoding: gzip\r\n\r\n", {b"400", b"501"}),
    "a hundred headers": (b"".join(b"X-%d: y\r\n" % n for n in range(100)) + b"Content-Length: 0\r\n\r\n", {b"431"}),
    "a header of 60 kB": (b"X: " + b"y" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n", {b"431", b"400"}),
    "a header of 1 MB": (b"X: " + b"y" * 1_000_000 + b"\r\n\r\n", {b"431", b"400"}),
    "a header that never ends": (b"X: " + b"y" * 3_000_000, {b"431", b"400"}),
    "a space before the colon": (b"Content-Length : 27\r\n\r\n" + BODY, {b"400"}),
    "NUL in a header": (b"X: a\x00b\r\nContent-Length: 0\r\n\r\n", {b"400"}),
}


@pytest.mark.parametrize("what", HEADS)
def test_a_strange_head_is_answered_or_cut_and_does_no_harm(house: House, what: str) -> None:
    rest, answers = HEADS[what]
    with house.connect() as connection:
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\n" % PATH.encode() + rest)
            answer = connection.recv(4096)
        # An answer may be lost where the other side still sends while we close; never is it another one.
        assert answer == b"" or answer[9:12] in answers, answer
        if answer[9:12] != b"200":
            assert house.kept == []
            eventually(lambda: is_closed(connection))
    house.assert_open()


def test_chunks_without_end_are_cut_at_the_limit(house: House) -> None:
    with house.connect() as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % PATH.encode())
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 50_000_000 and not is_closed(connection):
                connection.settimeout(10)
                connection.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
                sent += 0x8000
        assert sent < 50_000_000
    assert house.kept == []
    house.assert_open()


def test_an_extension_of_a_chunk_without_end_is_cut_in_time(house: House) -> None:
    with house.connect() as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5" % PATH.encode())
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 30 and not is_closed(connection):
                connection.settimeout(10)
                connection.sendall(b";x" * 1000)
        assert time.monotonic() - began < 30
    assert house.kept == []
    house.assert_open()


def test_requests_that_are_sent_before_the_answers_are_each_answered(house: House) -> None:
    with house.connect() as connection:
        connection.sendall(GENUINE * 20)
        answer = b""
        while answer.count(b"HTTP/1.1 200") < 20:
            answer += connection.recv(65_536)
    assert len(house.kept) == 20


# --- With TLS ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "says",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="the begin of a hello"),
    ],
)
def test_silent_handshakes_keep_no_genuine_result_out(tls_house: House, says: bytes) -> None:
    with crowd(tls_house, 1000, says) as connections:
        tls_house.assert_open()
        eventually(lambda: all(is_closed(connection) for connection in connections))
    eventually(lambda: not tls_house.server.doors.open)
    tls_house.assert_open()


def test_what_is_no_tls_is_cut_off(tls_house: House) -> None:
    with tls_house.connect(handshake=False) as connection:
        connection.sendall(GENUINE)
        eventually(lambda: is_closed(connection))
    assert tls_house.kept == []
    tls_house.assert_open()


def test_a_certificate_that_was_renewed_is_used_once_it_was_read_anew(tls_house: House, tmp_path: Path) -> None:
    tls = tls_house.tls
    assert tls is not None

    def shown() -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with tls_house.connect(handshake=False) as plain, context.wrap_socket(plain) as wrapped:
            return wrapped.getpeercert(binary_form=True) or b""

    first = shown()
    certificate(tmp_path)
    assert shown() == first
    tls.reload()
    assert shown() != first
    tls_house.assert_open()
