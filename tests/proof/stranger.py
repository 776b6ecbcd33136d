"""Somebody who can reach the listener and knows ids, but no address of ours: what is posted so must move nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit

from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.daraja.simulator.app import Simulator
from kasoko_cli.daraja.simulator.results import body_of, payment
from kasoko_cli.store import attempts
from kasoko_cli.store.schema.tables import Attempt
from tests.proof.bench import Bench

#: How often one batch is disturbed at most, and how long a listener is waited for, in seconds.
MOST_POSTS, PATIENCE = 6, 1.5


@dataclass(frozen=True, slots=True)
class Body:
    """One post: where to, and what it says."""

    path: str
    content: bytes


def forged(bench: Bench, draw: Random) -> list[Body]:
    """Successes and failures of payments that there are and that there are not, and true results once more."""
    with bench.opened() as db, db.reading() as session:
        live = list(attempts.list_live(session))
    bodies = [_lie(draw, one, draw.choice(live) if live else None) for one in _some(draw, live)]
    return bodies + list(_replays(bench, draw))


def _some(draw: Random, live: Sequence[Attempt]) -> list[Attempt | None]:
    return [draw.choice([None, *live]) for _ in range(draw.randint(2, MOST_POSTS))]


def _lie(draw: Random, about: Attempt | None, address: Attempt | None) -> Body:
    """On the plain path, or with a wrong mark, or at the address of another payment."""
    attempt_id = about.id if about else f"ks-{draw.getrandbits(128):032x}"
    mark = f"{draw.getrandbits(128):032x}"
    owner = address.id if address and draw.random() < 0.5 else attempt_id
    path = draw.choice(["/api/payments/b2c-callback", f"/api/payments/b2c-callback/{owner}/{mark}"])
    code = draw.choice([0, 0, 1, 2040])
    cents = about.wire_cents if about else 50_000
    receipt = f"UKU{draw.randint(10**6, 10**7 - 1)}"
    parameters = [
        {"Key": "TransactionAmount", "Value": cents // 100},
        {"Key": "TransactionReceipt", "Value": receipt},
        {"Key": "ReceiverPartyPublicName", "Value": f"{about.phone if about else '254700000000'} - JANE DOE"},
    ]
    result: dict[str, object] = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "The service request is processed successfully." if code == 0 else "Declined.",
        "OriginatorConversationID": attempt_id,
        "ConversationID": (about.conversation_id if about else None) or "AG_20261124_0000forged0000forged",
        "TransactionID": receipt if code == 0 else "UKU0000000",
    }
    if code == 0:
        result["ResultParameters"] = {"ResultParameter": parameters}
    return Body(path, json.dumps({"Result": result}).encode())


def _replays(bench: Bench, draw: Random) -> Iterator[Body]:
    """True results, as somebody who had seen them would post them again: to their own address, or to another's."""
    links = Links(f"http://127.0.0.1:{bench.listener_port}", bench.callback_key.encode())
    taken = _taken(bench.simulator)
    for one in draw.sample(taken, min(2, len(taken))):
        to = draw.choice([one, draw.choice(taken)])
        yield Body(urlsplit(links.of_payment(to).result).path, _true(bench.simulator, one))


def _taken(simulator: Simulator) -> list[str]:
    found = simulator.ledger()["payments"]
    assert isinstance(found, list)
    return [one["originator_conversation_id"] for one in found]


def _true(simulator: Simulator, originator_id: str) -> bytes:
    instruction = simulator.gateway._account.find(originator_id)
    assert instruction is not None
    return body_of(payment(instruction, originator_id=originator_id))


class Stranger(threading.Thread):
    """Posts as soon as anybody listens, and stops when the batch is over."""

    def __init__(self, port: int, bodies: Sequence[Body]) -> None:
        super().__init__(daemon=True)
        self.posted = 0
        self._port, self._bodies = port, bodies
        self._over = threading.Event()

    def run(self) -> None:
        """Try each of them until it is taken or refused."""
        until = time.monotonic() + PATIENCE
        for body in self._bodies:
            while not self._over.is_set() and time.monotonic() < until:
                if self._post(body):
                    self.posted += 1
                    break
                self._over.wait(0.03)

    def stop(self) -> int:
        """End, and say how many were posted."""
        self._over.set()
        self.join()
        return self.posted

    def _post(self, body: Body) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=1)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", body.path, body.content, {"Content-Type": "application/json"})
            connection.getresponse().read()
            return True
        return False
