"""Poolers in transaction mode: PgBouncer where it is installed, and a small one of our own everywhere.

Ours has one session with the server for all its clients. Whoever begins a transaction has it until that ends; what a
client leaves in the session (a prepared statement, a setting, a lock) the next one meets. Whoever gives an option at
the start that it does not know is refused, as PgBouncer refuses.
"""

from __future__ import annotations

import contextlib
import getpass
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import make_url

#: What PgBouncer takes at the start. Source: its documentation, `ignore_startup_parameters`.
KNOWN = {"user", "database", "client_encoding", "datestyle", "timezone", "standard_conforming_strings"}
KNOWN |= {"application_name"}
_REQUESTS = b"QSF"
_READY, _IDLE = b"Z", b"I"


def _whole(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = sock.recv(count - len(found))
        if not part:
            raise ConnectionError
        found += part
    return found


def _part(sock: socket.socket) -> bytes:
    """What is there, at least a byte."""
    if not (found := sock.recv(65_536)):
        raise ConnectionError
    return found


def _message(sock: socket.socket) -> tuple[bytes, bytes]:
    """One message: its kind and its body."""
    head = _whole(sock, 5)
    return head[:1], _whole(sock, struct.unpack("!i", head[1:])[0] - 4)


def _request(client: socket.socket) -> tuple[bytes, bytes]:
    """The same of a client in the middle of a transaction: one that says good-bye there has left."""
    kind, body = _message(client)
    if kind == b"X":
        raise ConnectionError
    return kind, body


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


class Pooler:
    """Ours: its address is `url`."""

    def __init__(self, server_url: str, *, starting: int = 0, port: int = 0) -> None:
        self._starting = starting
        self._target = make_url(server_url)
        self._session = threading.Lock()
        self._server, self._greeting = self._connected()
        self._listening = socket.create_server(("127.0.0.1", port))
        port = self._listening.getsockname()[1]
        self.url = f"postgresql://{self._target.username}@127.0.0.1:{port}/{self._target.database}"
        #: How many clients have come.
        self.clients = 0
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _connected(self) -> tuple[socket.socket, list[bytes]]:
        """A session with the server, and what it says of itself."""
        host = self._target.query.get("host") or self._target.host
        port = self._target.port or 5432
        if str(host).startswith("/"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(f"{host}/.s.PGSQL.{port}")
        else:
            sock = socket.create_connection((str(host), port))
        said = f"user\0{self._target.username}\0database\0{self._target.database}\0\0".encode()
        sock.sendall(struct.pack("!ii", len(said) + 8, 196608) + said)
        greeting = []
        while True:
            kind, body = _message(sock)
            if kind == b"S":
                greeting.append(_packed(kind, body))
            elif kind == _READY:
                return sock, greeting
            else:
                assert kind in b"RKN", (kind, body)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.clients += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ConnectionError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._greeted(client):
                return
            while True:
                kind, body = _message(client)
                if kind == b"X":
                    return
                with self._session:
                    self._one_transaction(client, kind, body)

    def _greeted(self, client: socket.socket) -> bool:
        while True:
            size, protocol = struct.unpack("!ii", _whole(client, 8))
            words = _whole(client, size - 8).split(b"\0")
            if protocol in {80877103, 80877104}:  # TLS or GSS: no
                client.sendall(b"N")
                continue
            break
        if self._starting:
            self._starting -= 1
            client.sendall(_packed(b"E", b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"))
            return False
        for name in words[:-1:2]:
            if name and name.decode().lower() not in KNOWN:
                refused = f"SFATAL\0C08P01\0Munsupported startup parameter: {name.decode()}\0\0".encode()
                client.sendall(_packed(b"E", refused))
                return False
        own_key = struct.pack("!ii", 7_000_000 + self.clients, 1)
        client.sendall(
            _packed(b"R", struct.pack("!i", 0))
            + b"".join(self._greeting)
            + _packed(b"K", own_key)
            + _packed(b"Z", _IDLE)
        )
        return True

    def _one_transaction(self, client: socket.socket, kind: bytes, body: bytes) -> None:
        """Hand on what one client and the server say to each other until no transaction is open."""
        waiting, came = 0, b""
        try:
            while True:
                waiting += kind in _REQUESTS
                self._server.sendall(_packed(kind, body))
                while True:
                    ready = select.select([self._server, client], [], [])[0]
                    if client in ready and self._server not in ready:
                        kind, body = _request(client)
                        break
                    # A server may keep the end of a message until the client has asked for it: nobody waits for that.
                    came += _part(self._server)
                    while len(came) >= 5 and len(came) > (size := struct.unpack("!i", came[1:5])[0]):
                        answer, said, came = came[:1], came[5 : size + 1], came[size + 1 :]
                        client.sendall(_packed(answer, said))
                        waiting -= answer == _READY
                        if answer == _READY and not waiting and said == _IDLE:
                            return
        except (OSError, ConnectionError):
            self._server.close()  # as PgBouncer does where a client leaves in the middle
            self._server = self._connected_again()
            if self._closed:
                self._server.close()
            raise

    def _connected_again(self) -> socket.socket:
        """Another session with the server, which may have its hands full on a busy machine."""
        for _ in range(200):
            with contextlib.suppress(OSError, AssertionError):
                return self._connected()[0]
            time.sleep(0.1)
        return self._connected()[0]

    def close(self) -> None:
        """End it."""
        self._closed = True
        self._listening.close()
        self._server.close()


@contextlib.contextmanager
def small_pooler(server_url: str, *, starting: int = 0) -> Iterator[str]:
    """The address of ours before this database; the first so many clients are told that it is still starting."""
    pooler = Pooler(server_url, starting=starting)
    try:
        yield pooler.url
    finally:
        pooler.close()


def has_pgbouncer() -> bool:
    """Whether the program is here."""
    return shutil.which("pgbouncer") is not None


@contextlib.contextmanager
def pgbouncer(server_url: str, folder: Path, *, mode: str = "transaction") -> Iterator[str]:
    """The address of a real PgBouncer in this mode before this database, with two sessions."""
    target = make_url(server_url)
    host = target.query.get("host") or target.host
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="kasoko-pgbouncer-"))
    home.chmod(0o755)
    settings = home / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{target.database} = host={host} port={target.port or 5432} user={target.username}\n"
        f"[pgbouncer]\npool_mode = {mode}\ndefault_pool_size = 2\nmax_client_conn = 200\nauth_type = any\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
    )
    # It does not run as root; the owner of the server's socket may use that.
    who = Path(str(host)).owner() if str(host).startswith("/") else "nobody"
    words = ["pgbouncer", *(["-u", who] if getpass.getuser() == "root" else []), str(settings)]
    with (folder / "pgbouncer.log").open("w") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        url = f"postgresql://{target.username}@127.0.0.1:{port}/{target.database}"
        try:
            ends = time.monotonic() + 30
            while True:
                try:
                    psycopg.connect(url).close()
                    break
                except psycopg.OperationalError:
                    assert time.monotonic() < ends, (folder / "pgbouncer.log").read_text()
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(home)
