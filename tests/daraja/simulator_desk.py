"""An independent caller of the simulator: plain httpx and a plain HTTP server, none of our client."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from kasoko_cli.clock import Clock, system_clock
from kasoko_cli.daraja.simulator.app import Simulator, SimulatorSettings

V3 = "/mpesa/b2c/v3/paymentrequest"
V1 = "/mpesa/b2c/v1/paymentrequest"


@dataclass
class Inbox:
    """Everything that was posted to us, in order of arrival."""

    url: str = ""
    posts: list[tuple[str, str, bytes]] = field(default_factory=list)
    _arrived: threading.Condition = field(default_factory=threading.Condition)

    def add(self, path: str, content_type: str, body: bytes) -> None:
        with self._arrived:
            self.posts.append((path, content_type, body))
            self._arrived.notify_all()

    def wait(self, count: int, seconds: float = 10) -> list[dict[str, Any]]:
        """The bodies, once there are so many."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.posts) >= count, timeout=seconds), (
                f"{len(self.posts)} of {count} posts came"
            )
            return [json.loads(body) for _, _, body in self.posts]

    def results(self, count: int) -> list[dict[str, Any]]:
        """What is under `Result` in each body, once there are so many."""
        return [body["Result"] for body in self.wait(count)]

    def results_on(self, path: str, count: int) -> list[dict[str, Any]]:
        """What is under `Result` in each body that came to this path, once there are so many."""

        def found() -> list[bytes]:
            return [body for to, _, body in self.posts if to == path]

        with self._arrived:
            assert self._arrived.wait_for(lambda: len(found()) >= count, timeout=10), f"nothing came to {path}"
            return [json.loads(body)["Result"] for body in found()]


@dataclass
class Desk:
    """A caller, its inbox and the simulator."""

    simulator: Simulator
    url: str
    inbox: Inbox
    http: httpx.Client
    _token: str = ""
    _made: int = 0

    def new_token(self) -> str:
        answer = self.http.get(
            "/oauth/v1/generate",
            params={"grant_type": "client_credentials"},
            auth=(self.simulator.settings.consumer_key, self.simulator.settings.consumer_secret),
        )
        self._token = answer.json()["access_token"]
        return self._token

    def post(self, path: str, body: dict[str, object], *, token: str | None = None) -> httpx.Response:
        bearer = token or self._token or self.new_token()
        return self.http.post(path, json=body, headers={"Authorization": f"Bearer {bearer}"})

    def b2c(self, phone: object = "254711000001", kes: object = 100, **changes: object) -> dict[str, object]:
        """A right request, but for the changes; None takes a field out."""
        self._made += 1
        body: dict[str, object] = {
            "OriginatorConversationID": f"ks-test-{self._made}",
            "InitiatorName": "testapi",
            "SecurityCredential": self.simulator.security_credential(),
            "CommandID": "BusinessPayment",
            "Amount": kes,
            "PartyA": "600999",
            "PartyB": phone,
            "Remarks": "payout",
            "QueueTimeOutURL": f"{self.inbox.url}/timeout",
            "ResultURL": f"{self.inbox.url}/result",
            "Occassion": "m1",
            **changes,
        }
        return {name: value for name, value in body.items() if value is not None}

    def pay(
        self, phone: str = "254711000001", kes: object = 100, *, path: str = V3, **changes: object
    ) -> httpx.Response:
        return self.post(path, self.b2c(phone, kes, **changes))

    def ask(self, originator_id: str = "", *, receipt: str = "", **changes: object) -> httpx.Response:
        body: dict[str, object] = {
            "Initiator": "testapi",
            "SecurityCredential": self.simulator.security_credential(),
            "CommandID": "TransactionStatusQuery",
            "TransactionID": receipt,
            "OriginalConversationID": originator_id,
            "PartyA": "600999",
            "IdentifierType": "4",
            "ResultURL": f"{self.inbox.url}/status",
            "QueueTimeOutURL": f"{self.inbox.url}/timeout",
            "Remarks": "status",
            "Occasion": "",
            **changes,
        }
        return self.post("/mpesa/transactionstatus/v1/query", body)

    def balance(self, **changes: object) -> httpx.Response:
        body: dict[str, object] = {
            "Initiator": "testapi",
            "SecurityCredential": self.simulator.security_credential(),
            "CommandID": "AccountBalance",
            "PartyA": "600999",
            "IdentifierType": "4",
            "Remarks": "balance",
            "ResultURL": f"{self.inbox.url}/balance",
            "QueueTimeOutURL": f"{self.inbox.url}/timeout",
            **changes,
        }
        return self.post("/mpesa/accountbalance/v1/query", body)

    def ledger(self) -> dict[str, Any]:
        return dict(self.http.get("/_ledger").json())

    def paid(self) -> list[tuple[str, int]]:
        """Who was really paid: phone and cents, in order."""
        return [(one["phone"], one["amount_cents"]) for one in self.ledger()["payments"]]

    def all_posted(self) -> None:
        """Return once the simulator owes nobody a result."""
        deadline = time.monotonic() + 10
        while self.ledger()["results_owed"]:
            assert time.monotonic() < deadline, "results are still owed"
            time.sleep(0.005)


@contextlib.contextmanager
def an_inbox() -> Iterator[Inbox]:
    """A server that takes whatever is posted to it."""
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            inbox.add(self.path, self.headers["Content-Type"], body)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - so named there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    inbox.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield inbox
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextlib.contextmanager
def a_desk(clock: Clock = system_clock, **settings: Any) -> Iterator[Desk]:
    """A simulator on a loopback socket, without delays unless they are asked for, and its caller."""
    quick: dict[str, Any] = {
        "result_delay_seconds": (0.0, 0.0),
        "late_seconds": 0.3,
        "slow_seconds": 0.2,
        "hang_seconds": 0.3,
        "drip_seconds": 0.001,
    }
    simulator = Simulator(SimulatorSettings(**{**quick, **settings}), clock)
    with (
        an_inbox() as inbox,
        simulator.serving() as url,
        httpx.Client(base_url=url, timeout=10, trust_env=False) as http,
    ):
        yield Desk(simulator, url, inbox, http)
