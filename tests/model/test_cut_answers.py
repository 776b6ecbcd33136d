"""Every answer cut at every byte: what is not whole is no answer, and never an excuse to send again.

A raw server gives the real client an acknowledgement, a refusal or a token up to some byte and goes away; the real
listener gets results that end anywhere. Whoever is cut off must not be believed, and must not be fatal either.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from sqlmodel import select

from kasoko_cli.clock import Lease
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.client import Answer, DarajaApp, DarajaClient, RequestLimits
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.daraja.credentials import Token
from kasoko_cli.daraja.listener import Delivery, listener_app
from kasoko_cli.daraja.messages import Payment, ReplyUrls
from kasoko_cli.daraja.serve import Server
from kasoko_cli.daraja.simulator.answers import Notice
from kasoko_cli.daraja.simulator.app import Fault
from kasoko_cli.daraja.simulator.gateway import Request
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account as LedgerAccount
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.store.schema.tables import Callback
from tests.conftest import FixedClock
from tests.daraja.memory_shelf import MemoryShelf
from tests.model.world import World, with_faults

TOKEN = "Ab3dE6gH9jK2mN5pQ8sT1vW4yZ70"


def whole(body: bytes, status: str = "200 OK", *, framing: str = "length") -> bytes:
    """An HTTP answer as it goes over the wire: its body counted, in chunks, or ended by the connection."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
    match framing:
        case "length":
            return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        case "chunks":
            half = len(body) // 2
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
            return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"
        case _:
            return f"{head}Connection: close\r\n\r\n".encode() + body


def said(**fields: object) -> bytes:
    """A JSON body."""
    return json.dumps(fields).encode()


ACKNOWLEDGEMENT = said(
    ConversationID="AG_20261123_0100104k2m9x7c1v5b8n",
    OriginatorConversationID="ks-1",
    ResponseCode="0",
    ResponseDescription="Accept the service request successfully.",
)
TOKEN_ANSWER = said(access_token=TOKEN, expires_in="3599")
REFUSALS = {
    "invalid number": (
        "400 Bad Request",
        said(requestId="1-2-3", errorCode="400.002.02", errorMessage="Bad Request - Invalid PartyB"),
        Verdict.REFUSED,
    ),
    "account": (
        "500 Internal Server Error",
        said(requestId="1-2-3", errorCode="500.001.1001", errorMessage="Merchant does not exist"),
        Verdict.ACCOUNT,
    ),
    "too many": (
        "500 Internal Server Error",
        said(requestId="1-2-3", errorCode="500.003.02", errorMessage="Error Occurred: Spike Arrest Violation"),
        Verdict.NOT_SENT,
    ),
    "duplicate": (
        "500 Internal Server Error",
        said(requestId="1-2-3", errorCode="500.002.1001", errorMessage="Duplicate OriginatorConversationID."),
        Verdict.DUPLICATE,
    ),
}


class CutServer:
    """A bare socket: `answer` makes the bytes of each answer, of which `send` puts on the wire what it likes."""

    def __init__(self, answer: Callable[[str, str, dict[str, str], bytes], bytes]) -> None:
        self.answer = answer
        self.send: Callable[[socket.socket, bytes], None] = lambda connection, data: connection.sendall(data)
        self.payments: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(timeout=10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    self._answer_one(connection)
                except OSError:
                    continue  # the client went away, as it may

    def _answer_one(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65_536)):
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        request_line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65_536)
        method, target, _ = request_line.split(" ")
        if "/b2c/" in target:
            self.payments.append(body)
        self.send(connection, self.answer(method, target, headers, body))


@contextmanager
def serving(answer: Callable[[str, str, dict[str, str], bytes], bytes]) -> Iterator[CutServer]:
    server = CutServer(answer)
    try:
        yield server
    finally:
        server.close()


def client_of(server: CutServer, *, fetches_token: bool = False, **options: float) -> DarajaClient:
    """Our client, its token in its hand; one try only, so that each cut is seen by itself."""
    clock = FixedClock()
    shelf = MemoryShelf()
    if not fetches_token:
        assert shelf.claim_refresh(None)
        shelf.keep(Token(TOKEN, fetched_at=clock(), expires_at=clock() + timedelta(hours=1)))
    account = DarajaApp(
        server.url, "consumer-key", "consumer-secret", "600999", "testapi", "credential-of-the-initiator"
    )
    limits = RequestLimits(**{"timeout_seconds": 5.0, "total_seconds": 10.0} | options, sends=1)
    return DarajaClient(account, shelf, clock, limits=limits, sleep=lambda _: None)


def pay(client: DarajaClient) -> Answer:
    return client.pay(
        Payment("ks-1", 10_000, "254712000111", "kasoko payout"),
        ReplyUrls(
            "https://pay.example.org/api/payments/b2c-callback/ks-1/0a",
            "https://pay.example.org/api/payments/b2c-timeout/ks-1/0a",
        ),
        lease=Lease(FixedClock(), 300),
    )


def close_after(cut: int) -> Callable[[socket.socket, bytes], None]:
    """The first bytes, and a connection that ends as if nothing were wrong."""
    return lambda connection, data: connection.sendall(data[:cut])


def reset_after(cut: int) -> Callable[[socket.socket, bytes], None]:
    """The first bytes, and a reset."""

    def send(connection: socket.socket, data: bytes) -> None:
        connection.sendall(data[:cut])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return send


# --- Acknowledgements, refusals, tokens -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [close_after, reset_after])
@pytest.mark.parametrize("framing", ["length", "chunks", "connection"])
def test_an_acknowledgement_cut_at_any_byte_leaves_it_unknown_and_goes_once(
    framing: str, ending: Callable[[int], Callable[[socket.socket, bytes], None]]
) -> None:
    answer = whole(ACKNOWLEDGEMENT, framing=framing)
    with serving(lambda *_: answer) as server:
        client = client_of(server)
        for cut in range(len(answer)):
            server.payments.clear()
            server.send = ending(cut)
            given = pay(client)
            assert given.verdict is Verdict.UNKNOWN, f"cut after {cut} bytes: {given}"
            assert given.conversation_id is None
            assert [json.loads(body)["OriginatorConversationID"] for body in server.payments] == ["ks-1"]
        server.send = close_after(len(answer))
        assert pay(client).verdict is Verdict.TAKEN
        client.close()


@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_a_refusal_cut_at_any_byte_is_no_refusal(name: str) -> None:
    """The money may have moved before a proxy lost the rest: what was cut says nothing."""
    status, body, verdict = REFUSALS[name]
    for framing in ("length", "connection"):
        answer = whole(body, status, framing=framing)
        with serving(lambda *_, answer=answer: answer) as server:
            client = client_of(server)
            for cut in range(len(answer)):
                server.payments.clear()
                server.send = close_after(cut)
                given = pay(client)
                assert given.verdict is Verdict.UNKNOWN, f"cut after {cut} bytes: {given}"
                assert len(server.payments) == 1
            server.send = close_after(len(answer))
            assert pay(client).verdict is verdict
            client.close()


def test_a_token_cut_at_any_byte_is_no_token_and_nothing_is_sent() -> None:
    answer = whole(TOKEN_ANSWER)
    with serving(lambda _method, target, *_: answer if "/oauth/" in target else whole(ACKNOWLEDGEMENT)) as server:
        for cut in range(len(answer)):
            client = client_of(server, fetches_token=True)
            server.send = close_after(cut)
            given = pay(client)
            assert given.verdict is Verdict.NOT_SENT, f"cut after {cut} bytes: {given}"
            client.close()
        assert server.payments == []
        server.send = close_after(10_000)
        client = client_of(server, fetches_token=True)
        assert pay(client).verdict is Verdict.TAKEN
        client.close()


def test_the_acknowledgement_of_a_question_cut_at_any_byte_is_none() -> None:
    answer = whole(ACKNOWLEDGEMENT)
    with serving(lambda *_: answer) as server:
        client = client_of(server)

        def ask() -> Answer:
            return client.ask_status(
                ReplyUrls("https://pay.example.org/1", "https://pay.example.org/2"), query_id="kq-1", attempt_id="ks-1"
            )

        for cut in range(len(answer)):
            server.send = close_after(cut)
            given = ask()
            assert (given.verdict, given.conversation_id) == (Verdict.UNKNOWN, None), f"cut after {cut} bytes"
        server.send = close_after(len(answer))
        assert ask().verdict is Verdict.TAKEN
        client.close()


@pytest.mark.parametrize("at_once", [0, 30, len(whole(ACKNOWLEDGEMENT)) - 20])
def test_an_answer_that_drips_from_any_byte_on_ends_at_the_deadline(at_once: int) -> None:
    """Each byte comes in time for itself; only the deadline for the whole ends it."""

    def drip(connection: socket.socket, data: bytes) -> None:
        connection.sendall(data[:at_once])
        for at in range(at_once, len(data)):
            time.sleep(0.1)
            connection.sendall(data[at : at + 1])

    with serving(lambda *_: whole(ACKNOWLEDGEMENT)) as server:
        server.send = drip
        client = client_of(server, timeout_seconds=1.0, total_seconds=0.7)
        started = time.monotonic()
        given = pay(client)
        took = time.monotonic() - started
        client.close()
    assert given.verdict is Verdict.UNKNOWN
    assert 0.5 < took < 5
    assert len(server.payments) == 1


# --- From end to end -------------------------------------------------------------------------------------------------


def test_a_run_whose_acknowledgements_are_cut_leaves_the_money_in_flight_until_it_is_asked_about(world: World) -> None:
    """Each payout's acknowledgement is cut elsewhere: at once, in the head, in the body, before the last byte."""
    parts = iter([0.0, 0.05, 0.5, 0.8, 0.999])

    def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        path, _, query = target.partition("?")
        reply = world.simulator.gateway.handle(Request(method, path, query, headers, body))
        world.mail += reply.notices
        return whole(reply.body, f"{reply.status} Whatever")

    for number in (0, 1):
        world.place(number)
    owed = [payout for payout in world.payouts() if payout.status is PayoutStatus.PENDING]
    with serving(answer) as server:

        def cut_payments(connection: socket.socket, data: bytes) -> None:
            is_payment = b"access_token" not in data
            connection.sendall(data[: int(len(data) * next(parts))] if is_payment else data)

        world.daraja.close()
        world.daraja = real_client(world, server)
        server.send = cut_payments
        for _ in range(3):  # the first stops after three in a row, each further one after the one that it tries
            world.send()
        world.daraja.close()
        world.daraja = world._client()
        ids = [json.loads(body)["OriginatorConversationID"] for body in server.payments]

    assert len(ids) == len(set(ids)) == len(owed) == 5
    assert {payout.status for payout in world.payouts()} == {PayoutStatus.UNKNOWN}
    with world.db.reading() as session:
        assert book.balance(session, LedgerAccount.IN_FLIGHT, "") == sum(payout.wire_cents for payout in owed)
    world.check()
    world.send()  # nothing is due, and nothing leaves
    assert len(world.attempts()) == 5
    world.mail.clear()  # and every result is lost
    world.ask()
    world.deliver(world.take_mail())
    world.check()
    states = {payout.user_id: payout.status for payout in world.payouts()}
    assert states == {
        "ann": PayoutStatus.COMPLETED,
        "dan": PayoutStatus.FAILED,
        "cyn": PayoutStatus.COMPLETED,
        "eve": PayoutStatus.FAILED,
    }


def real_client(world: World, server: CutServer) -> DarajaClient:
    """The world's client, over a real socket."""
    known = world.simulator.settings
    account = DarajaApp(
        server.url,
        known.consumer_key,
        known.consumer_secret,
        known.shortcode,
        known.initiator_name,
        world.simulator.security_credential(),
    )
    return DarajaClient(account, MemoryShelf(), world.clock, sleep=lambda _: None)


# --- Results and notices ---------------------------------------------------------------------------------------------


def parts_of(world: World, notice: Notice) -> list[Notice]:
    """Everything that this body can be cut to; on PostgreSQL, where each takes longer, every ninth of it."""
    step = 1 if world.db.is_sqlite else 9
    return [Notice(notice.url, notice.body[:cut]) for cut in range(0, len(notice.body), step)]


@pytest.mark.exhaustive_on("sqlite")
@pytest.mark.parametrize(
    ("user_id", "ends"), [("ann", PayoutStatus.COMPLETED), ("dan", PayoutStatus.FAILED)], ids=["success", "failure"]
)
def test_a_result_cut_at_any_byte_says_nothing_and_the_whole_one_is_applied(
    world: World, user_id: str, ends: PayoutStatus
) -> None:
    world.place(0)
    world.send()
    [payout] = [one for one in world.payouts() if one.user_id == user_id]
    [attempt] = world.attempts_of(payout.id)
    [notice] = [one for one in world.mail if attempt.id in one.url]
    parts = parts_of(world, notice)
    for start in range(0, len(parts), 100):
        world.deliver(parts[start : start + 100])
        [payout] = [one for one in world.payouts() if one.user_id == user_id]
        assert payout.status is PayoutStatus.UNKNOWN, f"among the cuts {start} to {start + 100}"
    world.check()
    world.deliver([notice])
    [payout] = [one for one in world.payouts() if one.user_id == user_id]
    assert payout.status is ends
    world.check()


def test_a_status_answer_cut_at_any_byte_says_nothing_and_the_whole_one_is_applied(world: World) -> None:
    world.place(0)
    world.send([with_faults(Fault.DROP_AFTER)] * 2)
    world.mail.clear()
    world.ask()
    notices = world.take_mail()
    world.deliver(parts_of(world, notices[0]))
    assert {payout.status for payout in world.payouts()} == {PayoutStatus.UNKNOWN}
    world.check()
    world.deliver(notices)
    assert [payout.status for payout in world.payouts()] == [PayoutStatus.COMPLETED, PayoutStatus.FAILED]
    world.check()


def test_a_queue_notice_cut_at_any_byte_is_neither_paid_nor_failed(world: World) -> None:
    """Our own request comes back in part: it said nothing of the money when it was whole."""
    world.place(0)
    world.send([with_faults(Fault.TIMEOUT_PAID)])
    [notice] = [one for one in world.mail if "/b2c-timeout/" in one.url]
    world.mail.clear()
    world.deliver(parts_of(world, notice))
    world.deliver([notice])
    assert {attempt.status for attempt in world.attempts()} == {AttemptStatus.UNKNOWN, AttemptStatus.ACCEPTED}
    world.check()


def test_a_post_cut_at_any_byte_of_its_wire_stores_nothing(world: World) -> None:
    """The listener stores only what came whole; a post that ends early is no evidence, and M-Pesa is not told 200."""
    world.place(0)
    world.send(limit=1)
    [notice] = world.take_mail()

    async def take(delivery: Delivery) -> None:
        apply_results.store_deliveries(world.db, world.clock, [delivery])

    with Server(listener_app(take, world.links, clock=world.clock)) as server:
        path = urlsplit(notice.url).path
        request = (
            f"POST {path} HTTP/1.1\r\nHost: pay.example.org\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(notice.body)}\r\n\r\n"
        ).encode() + notice.body
        for cut in range(len(request)):
            assert b" 200 " not in posted(server.port, request[:cut]), f"cut after {cut} bytes"
        assert stored(world) == []
        assert b" 200 " in posted(server.port, request)
    assert stored(world) == [(CallbackKind.RESULT, notice.body)]
    world.apply()
    assert world.payouts()[0].status is PayoutStatus.COMPLETED
    world.check()


def posted(port: int, data: bytes) -> bytes:
    """What a server answers to these bytes and nothing more."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
            if b"\r\n\r\n" in answer and answer.startswith(b"HTTP/1.1 200"):
                break
        return answer


def stored(world: World) -> Sequence[tuple[str, bytes]]:
    """Every body that was stored, with its kind."""
    with world.db.reading() as session:
        return [(row.route, row.body) for row in session.exec(select(Callback))]
