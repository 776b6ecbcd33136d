"""The whole way of a callback: posted over HTTP to a running listener, stored, answered, applied."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import text

from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.daraja.listener import listener_app
from kasoko_cli.daraja.serve import Server
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.operations.audit import run
from kasoko_cli.operations.callbacks import inbox
from kasoko_cli.operations.callbacks.apply_results import Trust, apply_waiting
from kasoko_cli.operations.callbacks.inbox import Caps, Inbox
from kasoko_cli.store.engine.database import Database, open_database
from tests.operations.callbacks.test_groups import result, sent
from tests.operations.data_builder import DataBuilder

pytestmark = pytest.mark.on_both

LINKS = Links("https://pay.example.org", b"a key of thirty-two bytes, or so")
ACCEPTED = b'{"ResultCode":0,"ResultDesc":"Accepted"}'


class Listener:
    """A running listener over a deployment's database."""

    def __init__(self, builder: DataBuilder, caps: Caps | None = None) -> None:
        self.inbox = Inbox(builder.db, builder.clock, Trust(), caps)
        self.server = Server(listener_app(self.inbox.take, LINKS, clock=builder.clock))
        self.server.start()
        self.http = httpx.Client(base_url=self.server.url, trust_env=False, timeout=60)

    def post(self, url: str, body: bytes) -> httpx.Response:
        return self.http.post(urlsplit(url).path, content=body)

    def close(self) -> None:
        self.http.close()
        self.server.stop()
        self.inbox.close()


@pytest.fixture
def listener(builder: DataBuilder) -> Iterator[Listener]:
    made = Listener(builder)
    try:
        yield made
    finally:
        made.close()


#: Every table that says where money is, or that it may move, without the columns of states and times.
MONEY = {
    "entries": "SELECT * FROM entries ORDER BY id",
    "postings": "SELECT * FROM postings ORDER BY entry_id, line",
    "payouts": "SELECT id, user_id, amount_cents, wire_cents, tries FROM payouts ORDER BY id",
    "attempts": "SELECT id, payout_id, number, wire_cents, sends, receipt FROM attempts ORDER BY id",
    "settlements": "SELECT * FROM settlements ORDER BY market_id, number",
    "bets": "SELECT * FROM bets ORDER BY id",
}


def money(db: Database) -> bytes:
    """Those tables, byte for byte."""
    with db.reading() as session:
        found = {name: [list(row) for row in session.execute(text(query))] for name, query in MONEY.items()}
    return json.dumps(found, default=str).encode()


def settled(listener: Listener, builder: DataBuilder) -> None:
    """Whatever was answered is applied too; what waits for its acknowledgement stays."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        apply_waiting(builder.db, builder.clock, Trust())
        with builder.db.reading() as session:
            if not session.execute(text("SELECT count(*) FROM callbacks WHERE applied_at IS NULL")).scalar_one():
                return
    raise AssertionError("something was not applied")


def _hostile(attempt: str) -> dict[str, bytes]:
    """Bodies of 62 KiB, each with what might take long to read, in a result that is a payment's otherwise."""

    def with_party(party: str) -> bytes:
        said = json.loads(result(attempt, receipt="SKH0000001"))
        named = said["Result"]["ResultParameters"]["ResultParameter"]
        named.append({"Key": "ReceiverPartyPublicName", "Value": party})
        return json.dumps(said, ensure_ascii=False).encode()[:65_000]

    long = 62_000
    return {
        "a party of spaces": with_party("0712345678" + " " * long + "x"),
        "a party of dashes": with_party("0712345678" + " -" * (long // 2) + "x"),
        "a party of digits": with_party("0" * long),
        "accents": with_party("a" + "\u0301\u0323" * (long // 4)),
        "keys": b'{"Result":{' + b",".join(b'"k%d":1' % n for n in range(long // 12)) + b"}}",
        "lists": b'{"Result":' + b"[" * (long // 2) + b"]" * (long // 2) + b"}",
        "quotes": b'{"Result":{"ResultDesc":"' + b'\\"' * (long // 2) + b'"}}',
        "secrets": b'{"Result":{"ResultDesc":"' + b"password security_" * (long // 18) + b'"}}',
        "numbers": b'{"Result":{"ResultCode":' + b"9" * long + b"}}",
        "phones": with_party("07 12 34 56 7 " * (long // 14)),
    }


def test_a_genuine_result_is_answered_soon_whatever_else_is_posted(listener: Listener, builder: DataBuilder) -> None:
    """A party of 30 KB of spaces once took 37 seconds, in the transaction that holds the database."""
    hostile, *others = sent(builder, 31)
    genuine = iter(others)
    slow = {}
    for name, body in _hostile(hostile).items():
        for _ in range(3):  # another process of this machine may have had the processor
            assert listener.post(LINKS.of_payment(hostile).result, body).status_code == 200
            attempt = next(genuine)
            began = time.monotonic()
            answer = listener.post(
                LINKS.of_payment(attempt).result, result(attempt, receipt=f"SKG{attempt[-7:].upper()}")
            )
            took = time.monotonic() - began
            assert answer.status_code == 200
            if took < 1:
                break
        else:
            slow[name] = took
    assert slow == {}
    settled(listener, builder)


def test_of_sixteen_ways_fifteen_leave_every_money_table_byte_identical(
    listener: Listener, builder: DataBuilder
) -> None:
    """The mark, our id, the conversation id, amount and receipt: right and wrong, each with each."""
    ways = list(itertools.product((True, False), repeat=4))
    attempts = sent(builder, 17)
    stranger = attempts.pop()
    builder.paid(stranger)
    paid = []
    for number, ((mark, our_id, conversation, amount), attempt) in enumerate(zip(ways, attempts, strict=True), 1):
        said = json.loads(result(attempt, kes=142 if amount else 143, receipt=f"SKP{number:07d}"))
        if not our_id:
            said["Result"]["OriginatorConversationID"] = stranger
        if not conversation:
            said["Result"]["ConversationID"] = f"AG_{stranger}"
        if not amount:  # another's receipt, too
            said["Result"]["ResultParameters"]["ResultParameter"][1]["Value"] = "SKN0000001"
            said["Result"]["TransactionID"] = "SKN0000001"
        url = LINKS.of_payment(attempt).result
        before = money(builder.db)
        answer = listener.post(url if mark else url[:-1] + ("0" if url[-1] != "0" else "1"), json.dumps(said).encode())
        assert answer.status_code == (200 if mark else 404)
        settled(listener, builder)
        if money(builder.db) != before:
            paid.append((mark, our_id, conversation, amount))
    assert paid == [(True, True, True, True)]
    assert run.audit(builder.db, deep=True).ok


@pytest.mark.parametrize("code", [0, 2040, 26])
def test_fifty_replays_in_parallel_of_a_genuine_body_post_one_entry(
    listener: Listener, builder: DataBuilder, code: int
) -> None:
    [attempt] = sent(builder, 1)
    with builder.db.reading() as session:
        before = int(session.execute(text("SELECT count(*) FROM entries")).scalar_one())
    body = result(attempt, code=code)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: listener.post(LINKS.of_payment(attempt).result, body).content, range(50)))
    assert answers == [ACCEPTED] * 50
    settled(listener, builder)
    with builder.db.reading() as session:
        kinds = [kind for [kind] in session.execute(text("SELECT kind FROM entries ORDER BY id"))][before:]
        stored = session.execute(text("SELECT count(*) FROM callbacks")).scalar_one()
    assert kinds == (["credit", "deliver"] if code == 0 else ["release"])
    assert stored == 50
    assert run.audit(builder.db, deep=True).ok


@pytest.mark.parametrize("code", [0, 2040])
def test_a_result_for_one_payment_on_the_address_of_another_does_nothing(
    listener: Listener, builder: DataBuilder, code: int
) -> None:
    one, other = sent(builder, 2)
    before = money(builder.db)
    assert listener.post(LINKS.of_payment(other).result, result(one, code=code)).content == ACCEPTED
    settled(listener, builder)
    assert money(builder.db) == before
    assert {builder.payout_of(user).status for user in ("winner-0", "winner-1")} == {PayoutStatus.SENT}


def test_a_forged_failure_leads_to_no_second_payment(listener: Listener, builder: DataBuilder) -> None:
    """By whoever knows the address but not what TLS carried; and by whoever knows neither."""
    attempts = sent(builder, 3)
    forged = json.loads(result(attempts[0], code=26))
    forged["Result"]["ConversationID"] = "AG_20261123_guessed"
    assert listener.post(LINKS.of_payment(attempts[0]).result, json.dumps(forged).encode()).status_code == 200
    del forged["Result"]["ConversationID"]
    forged["Result"]["OriginatorConversationID"] = attempts[1]
    assert listener.post(LINKS.of_payment(attempts[1]).result, json.dumps(forged).encode()).status_code == 200
    assert listener.post("http://x/api/payments/b2c-callback/", result(attempts[2], code=26)).status_code == 200
    settled(listener, builder)
    for number in range(3):
        assert builder.payout_of(f"winner-{number}").status in (PayoutStatus.SENT, PayoutStatus.UNKNOWN)
    with builder.db.reading() as session:
        states = {state for [state] in session.execute(text("SELECT status FROM attempts"))}
    assert states <= {"ACCEPTED", "UNKNOWN"}, "an attempt that lives lets no second one be made"


def test_a_result_that_overtakes_its_acknowledgement_is_applied_once(listener: Listener, builder: DataBuilder) -> None:
    """The sender still waits for M-Pesa's answer when the result comes, and comes again."""
    builder.market("derby")
    builder.bets("derby", {"winner-0": ("Yes", 100), "loser": ("No", 50)})
    builder.settle("derby", "Yes")
    attempt = builder.intend("winner-0")
    for _ in range(3):
        assert listener.post(LINKS.of_payment(attempt).result, result(attempt)).content == ACCEPTED
    apply_waiting(builder.db, builder.clock, Trust())
    assert builder.payout_of("winner-0").status is PayoutStatus.SENDING
    builder.accepted(attempt)
    settled(listener, builder)
    assert builder.payout_of("winner-0").status is PayoutStatus.COMPLETED
    assert builder.balances("winner-0") == (14_250, 50)
    assert run.audit(builder.db, deep=True).ok


# --- What is kept -------------------------------------------------------------------------------------------------


def test_what_matches_nothing_is_kept_up_to_a_limit_and_what_is_signed_is_kept_beside_it(builder: DataBuilder) -> None:
    listener = Listener(builder, Caps(hints_per_hour=3, hint_bytes=1000))
    try:
        [attempt] = sent(builder, 1)
        answers = [listener.post("http://x/api/payments/b2c-callback/", b"x").status_code for _ in range(5)]
        assert answers == [200, 200, 200, 429, 429]
        assert listener.post(LINKS.of_payment(attempt).result, result(attempt)).status_code == 200
        builder.clock.forward(hours=1)
        assert listener.post("http://x/api/payments/b2c-callback/", b"x " * 495).status_code == 200
        assert listener.post("http://x/api/payments/b2c-callback/", b"x " * 495).status_code == 429
    finally:
        listener.close()
    again = Listener(builder, Caps(hints_per_hour=3, hint_bytes=1000))
    try:
        assert again.post("http://x/api/payments/b2c-callback/", b"x" * 10).status_code == 429
        assert again.post("http://x/api/payments/b2c-callback/", b"x").status_code == 200
    finally:
        again.close()


def test_of_one_payment_no_flood_of_bodies_is_kept(
    listener: Listener, builder: DataBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "MOST_ABOUT_ONE", 4)
    one, other = sent(builder, 2)
    answers = [listener.post(LINKS.of_payment(one).result, b"%d" % number).status_code for number in range(6)]
    assert answers == [200] * 4 + [429] * 2
    assert listener.post(LINKS.of_payment(other).result, result(other)).status_code == 200
    settled(listener, builder)
    assert builder.payout_of("winner-1").status is PayoutStatus.COMPLETED
    builder.clock.forward(hours=1)
    assert listener.post(LINKS.of_payment(one).result, result(one, receipt="SKN0000002")).status_code == 200


# --- Killed under load --------------------------------------------------------------------------------------------


def test_every_200_that_a_client_saw_is_in_the_database_however_the_listener_died(
    sqlite_template: Path, tmp_path: Path
) -> None:
    """The listener is killed while eight clients post; three times, at moments that chance picks."""
    chance = random.Random(20261124)
    path = tmp_path / "kasoko.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    seen: list[bytes] = []
    for _ in range(3):
        command = [sys.executable, "-m", "tests.benchmarks.listener", "--serve", url, "--http", "httptools"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            clients = [
                threading.Thread(target=_post_until_it_dies, args=(port, f"{len(seen)}-{n}", seen)) for n in range(8)
            ]
            for client in clients:
                client.start()
            wanted = len(seen) + chance.randrange(50, 300)
            ends = time.monotonic() + 60
            while len(seen) < wanted and time.monotonic() < ends:
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
            for client in clients:
                client.join()
    assert len(seen) > 150
    db = open_database(url)
    with db.reading() as session:
        stored = [bytes(body) for [body] in session.execute(text("SELECT body FROM callbacks"))]
    db.close()
    assert len(stored) == len(set(stored))
    assert set(seen) <= set(stored)


def _post_until_it_dies(port: int, name: str, seen: list[bytes]) -> None:
    """Post bodies that differ, and note each that was accepted."""
    number = 0
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            while True:
                number += 1
                body = f"{name}-{number}".encode()
                path = urlsplit(LINKS.of_payment(f"ks-{number:032x}").result).path
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
                answer = b""
                while not answer.endswith(b"}"):
                    part = connection.recv(4096)
                    if not part:
                        return
                    answer += part
                assert answer.startswith(b"HTTP/1.1 200"), answer
                seen.append(body)
    except OSError:
        return
