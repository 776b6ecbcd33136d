"""The listener as an operator runs it: with a certificate of its own, old keys, figures, and a socket of systemd."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from urllib.parse import urlsplit

import httpx
import pytest

from kasoko_cli.daraja.callback_urls import Links
from tests.cli.conftest import environment
from tests.daraja.test_attacks import certificate

KEY, OLD = "ab" * 32, "cd" * 32
#: Takes descriptor ARGV[1] as systemd hands one on, and becomes kasoko.
ACTIVATED = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
    " os.environ['LISTEN_FDS'] = '1'; os.execv(sys.executable, [sys.executable, '-m', 'kasoko_cli', *sys.argv[2:]])"
)


class Running:
    """A `kasoko listen` and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line.rstrip("\n"))

    def says(self, begin: str) -> str:
        """Wait for a line that begins so; says the rest of it."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            line = self._lines.get(timeout=60)
            if line.startswith(begin):
                return line.removeprefix(begin)
        raise AssertionError(begin)

    def stop(self) -> str:
        """SIGTERM; what stood on its standard output."""
        self.process.send_signal(signal.SIGTERM)
        stdout, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return stdout


@contextmanager
def listening(folder: Path, *command: str, pass_fds: tuple[int, ...] = (), **environ: str) -> Iterator[Running]:
    """A listener in this folder."""
    set_to = {"KASOKO_CALLBACK_KEY": KEY, "MPESA_CALLBACK_URL": "https://pay.example.org", **environ}
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment(**set_to),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path) -> Path:
    """A folder with a database."""
    (tmp_path / "kasoko.db").write_bytes(sqlite_template.read_bytes())
    return tmp_path


def posted_to(key: str) -> str:
    return urlsplit(Links("https://pay.example.org", bytes.fromhex(key)).of_payment("ks-1").result).path


def test_a_listener_with_a_certificate_of_its_own_renews_it_and_takes_what_an_old_key_signed(folder: Path) -> None:
    cert_file, key_file = certificate(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        metrics = free.getsockname()[1]
    (folder / "kasoko.toml").write_text(
        f'[listener]\nport = 0\ntls_cert_file = "{cert_file}"\ntls_key_file = "{key_file}"\n'
        f'metrics = "127.0.0.1:{metrics}"\n'
    )
    with listening(folder, "-m", "kasoko_cli", "listen", "--json", KASOKO_OLD_CALLBACK_KEYS=OLD) as running:
        url = running.says("Listening on ").split()[0]
        assert url.startswith("https://127.0.0.1:")
        port = urlsplit(url).port
        assert port is not None
        before = ssl.get_server_certificate(("127.0.0.1", port))
        trusting = ssl.create_default_context(cafile=str(cert_file))
        trusting.check_hostname = False  # it is for pay.example.org, and this is 127.0.0.1
        with httpx.Client(base_url=url, verify=trusting, trust_env=False) as http:
            for key, status in (KEY, 200), (OLD, 200), ("ef" * 32, 404):
                assert http.post(posted_to(key), content=b"{}").status_code == status
        certificate(folder)
        running.process.send_signal(signal.SIGHUP)
        running.says("The certificate was read anew: ")
        assert ssl.get_server_certificate(("127.0.0.1", port)) != before
        key_file.write_text("half a ke")
        running.process.send_signal(signal.SIGHUP)
        assert "The one of before stays in use." in running.says("Warning: ")
        figures = httpx.get(f"http://127.0.0.1:{metrics}/metrics", trust_env=False).text
        assert 'kasoko_payouts{state="PENDING"}' in figures, "how everything stands is there too"
        assert 'kasoko_listener_requests_total{ended="stored"} 2.0' in figures
        assert 'kasoko_listener_requests_total{ended="missed"} 1.0' in figures
        assert "kasoko_callbacks_waiting 0.0" in figures
        assert json.loads(running.stop()) == {"received": 2, "applied": 2}


def test_a_socket_that_systemd_holds_is_served_and_stays_open_between_two_listeners(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        for _ in range(2):
            given = ("-c", ACTIVATED, str(held.fileno()), "listen", "--json")
            with listening(folder, *given, pass_fds=(held.fileno(),)) as running:
                assert running.says("Listening on ").split()[0] == url
                assert httpx.post(url + posted_to(KEY), content=b"{}", trust_env=False).status_code == 200
                assert json.loads(running.stop())["received"] == 1


def test_a_unix_socket_is_served(folder: Path) -> None:
    (folder / "kasoko.toml").write_text(f'[listener]\nunix_socket = "{folder}/listen.sock"\n')
    with listening(folder, "-m", "kasoko_cli", "listen", "--count", "1", "--json") as running:
        assert running.says("Listening on ").split()[0] == f"unix:{folder}/listen.sock"
        with httpx.Client(transport=httpx.HTTPTransport(uds=f"{folder}/listen.sock")) as http:
            assert http.post(f"http://kasoko{posted_to(KEY)}", content=b"{}").status_code == 200
        stdout, _ = running.process.communicate(timeout=60)
        assert json.loads(stdout)["received"] == 1
