"""The listener over a real server and a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from kasoko_cli.daraja import listener
from kasoko_cli.daraja.access_control import AllowList
from kasoko_cli.daraja.callback_urls import CallbackKind, Links
from kasoko_cli.daraja.listener import Counts, Delivery, ListenerPolicy, TooMany, listener_app, metrics_app
from kasoko_cli.daraja.serve import Server, bound, bound_unix
from kasoko_cli.errors import ConfigurationError

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
LINKS = Links("https://pay.example.org", b"0123456789abcdef0123456789abcdef")
ID = "ks-" + "0af1" * 8
CREDENTIAL = "aB3+/" * 68 + "dE=="


class Store:
    """Keeps what it is given, or breaks, or takes its time."""

    def __init__(self) -> None:
        self.was_given = threading.Event()
        self.clear()

    def clear(self) -> None:
        self.kept: list[Delivery] = []
        self.error: Exception | None = None
        self.wait_seconds = 0.0

    async def take(self, delivery: Delivery) -> None:
        self.was_given.set()
        await asyncio.sleep(self.wait_seconds)
        if self.error is not None:
            raise self.error
        self.kept.append(delivery)


@pytest.fixture(scope="module", params=["h11", "httptools"])
def house(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Store]]:
    """One server under each parser: h11 is always there, httptools only with the extra."""
    if request.param == "httptools":
        pytest.importorskip("httptools")
    store = Store()
    app = listener_app(
        store.take,
        LINKS,
        clock=lambda: NOW,
        policy=ListenerPolicy(max_body=1000, body_seconds=0.5, misses_per_minute=10_000),
    )
    with Server(app, http=request.param) as running:
        yield running, store


@pytest.fixture
def store(house: tuple[Server, Store]) -> Store:
    house[1].clear()
    return house[1]


@pytest.fixture
def server(house: tuple[Server, Store], store: Store) -> Server:
    return house[0]


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


def path_of(url: str) -> str:
    return urlsplit(url).path


RESULT_PATH = path_of(LINKS.of_payment(ID).result)


def test_a_signed_result_is_stored_and_then_accepted(http: httpx.Client, store: Store) -> None:
    answer = http.post(RESULT_PATH, content=b'{"Result":{}}')
    assert answer.status_code == 200
    assert answer.content == b'{"ResultCode":0,"ResultDesc":"Accepted"}'
    assert answer.headers["content-type"] == "application/json"
    (kept,) = store.kept
    assert kept == Delivery(CallbackKind.RESULT, ID, True, "127.0.0.1", NOW, b'{"Result":{}}')


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (LINKS.of_payment(ID).result, CallbackKind.RESULT),
        (LINKS.of_payment(ID).timeout, CallbackKind.TIMEOUT),
        (LINKS.of_status(ID).result, CallbackKind.STATUS),
        (LINKS.of_status(ID).timeout, CallbackKind.STATUS_TIMEOUT),
        (LINKS.of_balance(ID).result, CallbackKind.BALANCE),
        (LINKS.of_balance(ID).timeout, CallbackKind.BALANCE_TIMEOUT),
    ],
)
def test_each_kind_of_callback_arrives_as_its_kind(
    http: httpx.Client, store: Store, url: str, kind: CallbackKind
) -> None:
    assert http.post(path_of(url), content=b"x").status_code == 200
    assert [(each.kind, each.subject_id, each.signed) for each in store.kept] == [(kind, ID, True)]


@pytest.mark.parametrize("path", ["/api/payments/b2c-callback/", "/api/payments/b2c-callback"])
def test_the_plain_path_is_kept_as_a_hint(http: httpx.Client, store: Store, path: str) -> None:
    assert http.post(path, content=b"x").status_code == 200
    assert [(each.subject_id, each.signed) for each in store.kept] == [("", False)]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/payments/",
        "/api/payments/b2c-callback/" + ID,
        RESULT_PATH[:-1],
        RESULT_PATH + "0",
        RESULT_PATH.replace("b2c-callback", "b2c-timeout"),
        RESULT_PATH.replace(ID, "ks-" + "0af2" * 8),
        RESULT_PATH.replace("b2c-callback", "b2c%2Dcallback") + "%00",
        "/api/payments/b2c-timeout/",
        "/api/payments/b2c-callback/" + ID + "/",
        "/..%2f" + RESULT_PATH,
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
def test_every_miss_is_the_same_404(http: httpx.Client, store: Store, path: str, method: str) -> None:
    answer = http.request(method, path, content=b"x")
    assert answer.status_code == 404
    assert answer.content == b'{"error":"not found"}'
    assert dict(answer.headers) == {
        "content-type": "application/json",
        "content-length": "21",
        "cache-control": "no-store",
        "connection": "close",
    }
    assert store.kept == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", [RESULT_PATH, "/api/payments/b2c-callback/"])
def test_another_method_is_told_which_one(http: httpx.Client, store: Store, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert store.kept == []


def test_the_listener_says_that_it_lives(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.head("/healthz").status_code == 200
    assert http.post("/healthz").headers["allow"] == "GET, HEAD"


def test_what_cannot_be_stored_is_not_accepted(
    http: httpx.Client, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = RuntimeError('disk full while writing {"PartyB": "254712345678"}')
    answer = http.post(RESULT_PATH, content=b'{"PartyB": "254712345678"}')
    assert answer.status_code == 503
    assert b"Accepted" not in answer.content
    assert [record.getMessage() for record in caplog.records] == [
        f"A callback (b2c-callback {ID}) could not be stored, and M-Pesa was told so: RuntimeError"
    ]
    assert "254712345678" not in caplog.text
    store.error = None
    assert http.post(RESULT_PATH, content=b"again").status_code == 200


def test_the_answer_waits_until_it_is_stored(http: httpx.Client, store: Store) -> None:
    store.wait_seconds = 0.3
    started = time.monotonic()
    http.post(RESULT_PATH, content=b"x")
    assert time.monotonic() - started >= 0.3
    assert len(store.kept) == 1


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_that_is_too_long_is_refused(http: httpx.Client, store: Store, chunked: bool) -> None:
    body = b"x" * 1001
    answer = http.post(RESULT_PATH, content=iter([body[:600], body[600:]]) if chunked else body)
    assert answer.status_code == 413
    assert store.kept == []


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_a_body_of_just_the_limit_is_taken(http: httpx.Client, store: Store, chunked: bool) -> None:
    body = b"x " * 500
    answer = http.post(RESULT_PATH, content=iter([body[:600], body[600:]]) if chunked else body)
    assert answer.status_code == 200
    assert store.kept[0].body == body


@pytest.mark.parametrize("body", [b"", b"\xff\x00not json", b"[" * 900])
def test_any_body_is_evidence_and_kept_byte_for_byte(http: httpx.Client, store: Store, body: bytes) -> None:
    assert http.post(RESULT_PATH, content=body).status_code == 200
    assert store.kept[0].body == body


def test_a_credential_is_gone_before_the_body_is_handed_on(http: httpx.Client, store: Store) -> None:
    """A queue timeout posts our own request back, credential and all."""
    echo = {"OriginatorConversationID": ID, "SecurityCredential": CREDENTIAL, "Amount": 10}
    assert http.post(path_of(LINKS.of_payment(ID).timeout), json=echo).status_code == 200
    assert json.loads(store.kept[0].body) == echo | {"SecurityCredential": "[removed]"}
    assert CREDENTIAL not in repr(store.kept[0])


def test_a_body_is_not_in_the_repr_of_a_delivery(http: httpx.Client, store: Store) -> None:
    http.post(RESULT_PATH, content=b"254712345678")
    assert "254712345678" not in repr(store.kept[0])


def test_a_forwarded_address_is_not_believed(http: httpx.Client, store: Store) -> None:
    http.post(RESULT_PATH, content=b"x", headers={"X-Forwarded-For": "196.201.214.200", "Forwarded": "for=1.2.3.4"})
    assert store.kept[0].source == "127.0.0.1"


def raw_request(server: Server, data: bytes, *, wait_seconds: float = 5.0) -> bytes:
    """Send bytes as they are and read until the other side closes or falls silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait_seconds) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while chunk := connection.recv(65_536):
                answer += chunk
        except OSError:
            pass
        return answer


def test_a_body_that_never_comes_is_given_up(server: Server, store: Store) -> None:
    head = f"POST {RESULT_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
    started = time.monotonic()
    answer = raw_request(server, head.encode())
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 3
    assert store.kept == []


def test_the_mark_is_checked_before_the_body_is_waited_for(server: Server) -> None:
    head = f"POST {RESULT_PATH[:-1]} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"
    started = time.monotonic()
    answer = raw_request(server, head.encode(), wait_seconds=0.4)
    assert answer.startswith(b"HTTP/1.1 404")
    assert time.monotonic() - started < 0.45


def test_a_declared_length_past_the_limit_is_refused_before_the_body_comes(server: Server, store: Store) -> None:
    head = f"POST {RESULT_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"
    assert raw_request(server, head.encode(), wait_seconds=0.4).startswith(b"HTTP/1.1 413")
    assert store.kept == []


def test_half_a_body_is_no_evidence(server: Server, store: Store) -> None:
    head = f"POST {RESULT_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode())
    time.sleep(0.2)
    assert store.kept == []


def test_what_is_no_http_hurts_nobody(server: Server, store: Store, http: httpx.Client) -> None:
    raw_request(server, b"\x16\x03\x01\x00\xa5 not http\r\n\r\n", wait_seconds=0.5)
    assert http.post(RESULT_PATH, content=b"x").status_code == 200


def test_many_results_at_once_are_all_stored(server: Server, store: Store) -> None:
    def post(number: int) -> None:
        with httpx.Client(trust_env=False) as client:
            path = path_of(LINKS.of_payment(f"ks-{number:032x}").result)
            assert client.post(server.url + path, content=str(number).encode()).status_code == 200

    threads = [threading.Thread(target=post, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.subject_id for each in store.kept) == [f"ks-{number:032x}" for number in range(40)]


def test_a_stopping_server_finishes_what_it_took() -> None:
    store = Store()
    store.wait_seconds = 0.5
    found: list[int] = []
    server = Server(listener_app(store.take, LINKS))
    server.start()
    poster = threading.Thread(
        target=lambda: found.append(httpx.post(server.url + RESULT_PATH, content=b"x", trust_env=False).status_code)
    )
    poster.start()
    assert store.was_given.wait(60)
    server.stop()
    poster.join()
    assert found == [200]
    assert len(store.kept) == 1


def test_a_port_that_is_taken_is_an_error_of_the_command() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError) as refused:
            bound("127.0.0.1", port)
    assert str(refused.value) == f"Cannot listen on 127.0.0.1:{port}: Address already in use."
    assert refused.value.hint == "Another process has this port: stop it, or choose another port."


def test_no_request_is_logged_with_its_mark(http: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """The last part of a callback URL lets whoever reads it post as M-Pesa."""
    caplog.set_level(logging.DEBUG, logger="uvicorn")
    caplog.set_level(logging.DEBUG, logger="kasoko_cli")
    http.post(RESULT_PATH, content=b"x")
    mark = RESULT_PATH.rsplit("/", 1)[1]
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert all(mark not in record.getMessage() for record in ours)


def test_what_is_no_request_is_left_alone() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    async def offer() -> None:
        await listener_app(Store().take, LINKS)({"type": "websocket", "path": RESULT_PATH}, receive, send)

    asyncio.run(offer())
    assert sent == []


# --- Strangers ----------------------------------------------------------------------------------------------------


def serve(**more: Any) -> tuple[Server, Store, Counts]:
    """A listener of its own, and what it counts."""
    store, counts = Store(), Counts()
    return (
        Server(listener_app(store.take, LINKS, clock=lambda: NOW, counts=counts, policy=ListenerPolicy(**more))),
        store,
        counts,
    )


def test_who_asks_for_wrong_addresses_too_often_is_told_to_wait_and_a_right_one_is_always_answered() -> None:
    server, store, counts = serve(misses_per_minute=5)
    with server, httpx.Client(base_url=server.url, trust_env=False) as http:
        found = [http.post(RESULT_PATH + letter) for letter in "0123456789"]
        assert [answer.status_code for answer in found[:5]] == [404] * 5
        limited = [answer.headers["retry-after"] for answer in found if answer.status_code == 429]
        assert set(limited) == {"60"}
        assert http.post(RESULT_PATH, content=b"x").status_code == 200
    assert len(store.kept) == 1
    assert (counts.stored, counts.missed, counts.limited) == (1, 10, len(limited))


@pytest.mark.parametrize("path", [RESULT_PATH, "/api/payments/b2c-callback/", "/none"])
def test_who_is_not_on_the_list_learns_nothing(path: str) -> None:
    server, store, counts = serve(allow=AllowList(["safaricom"]))
    with server, httpx.Client(base_url=server.url, trust_env=False) as http:
        answer = http.post(path, content=b"x")
        assert (answer.status_code, answer.content) == (404, b'{"error":"not found"}')
        assert http.get("/healthz").status_code == 200
    assert store.kept == []
    assert counts.not_allowed == 1


FORWARDED = {"X-Forwarded-For": "203.0.113.66, 196.201.214.200"}


def test_a_proxy_that_is_trusted_says_who_posted() -> None:
    server, store, _ = serve(allow=AllowList(["safaricom"]), trusted_proxies=["127.0.0.1"])
    with server, httpx.Client(base_url=server.url, trust_env=False) as http:
        assert http.post(RESULT_PATH, content=b"x", headers=FORWARDED).status_code == 200
        # What stands before the last address that the proxy itself saw was written by whoever posted.
        forged = {"X-Forwarded-For": "196.201.214.200, 203.0.113.66"}
        assert http.post(RESULT_PATH, content=b"x", headers=forged).status_code == 404
        assert http.post(RESULT_PATH, content=b"x").status_code == 404
    assert [each.source for each in store.kept] == ["196.201.214.200"]


def test_a_proxy_that_is_not_trusted_says_nothing() -> None:
    server, store, _ = serve(trusted_proxies=["10.0.0.0/8"])
    with server, httpx.Client(base_url=server.url, trust_env=False) as http:
        assert http.post(RESULT_PATH, content=b"x", headers=FORWARDED).status_code == 200
    assert [each.source for each in store.kept] == ["127.0.0.1"]


def test_the_proxy_of_a_unix_socket_is_trusted_by_name(tmp_path: Path) -> None:
    for trusted, source in (["unix"], "196.201.214.200"), ([], ""):
        store = Store()
        app = listener_app(store.take, LINKS, policy=ListenerPolicy(trusted_proxies=trusted))
        path = tmp_path / "listen.sock"
        with (
            Server(app, sockets=[bound_unix(path)]),
            httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as http,
        ):
            assert http.post(f"http://kasoko{RESULT_PATH}", content=b"x", headers=FORWARDED).status_code == 200
        assert [each.source for each in store.kept] == [source]


def test_what_is_over_the_limit_of_what_is_kept_is_told_so() -> None:
    server, store, counts = serve()
    store.error = TooMany()
    with server, httpx.Client(base_url=server.url, trust_env=False) as http:
        answer = http.post(RESULT_PATH, content=b"x")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3600")
    assert counts.overflowed == 1


def test_posts_without_a_mark_cannot_take_the_place_of_signed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bodies that drip on the plain path are all that is read there at once; a result has its own places."""
    monkeypatch.setattr(listener, "MOST_HINTS", 3)
    server, store, counts = serve(body_seconds=5)
    head = b"POST /api/payments/b2c-callback/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx"
    with server, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port))).sendall(head)
        http = stack.enter_context(httpx.Client(base_url=server.url, trust_env=False))
        ends = time.monotonic() + 20
        while http.post("/api/payments/b2c-callback/", content=b"x").status_code != 503:
            assert time.monotonic() < ends
        assert http.post(RESULT_PATH, content=b"x").status_code == 200
    assert counts.overflowed == 1
    assert [each.signed for each in store.kept][-1]


# --- Figures ------------------------------------------------------------------------------------------------------


def test_metrics_are_on_an_address_of_their_own() -> None:
    def broken() -> bytes:
        raise RuntimeError("254712345678")

    with Server(metrics_app(lambda: b"kasoko_up 1\n")) as server:
        answer = httpx.get(f"{server.url}/metrics", trust_env=False)
        assert (answer.status_code, answer.text) == (200, "kasoko_up 1\n")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert httpx.get(f"{server.url}/healthz", trust_env=False).status_code == 404
        assert httpx.post(f"{server.url}/metrics", trust_env=False).status_code == 405
    with Server(metrics_app(broken)) as server:
        assert httpx.get(f"{server.url}/metrics", trust_env=False).status_code == 503


def test_the_listeners_own_address_has_no_metrics(http: httpx.Client) -> None:
    assert http.get("/metrics").status_code == 404
