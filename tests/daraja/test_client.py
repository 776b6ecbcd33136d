"""The client against everything that can go wrong between it and M-Pesa."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx
import pytest

from kasoko_cli.clock import Lease
from kasoko_cli.daraja import client as client_module
from kasoko_cli.daraja.client import Answer, DarajaApp, DarajaClient, RequestLimits
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.daraja.credentials import Token, new_token
from kasoko_cli.daraja.messages import Payment, ReplyUrls
from kasoko_cli.errors import ConfigurationError, NotSent
from tests.daraja.memory_shelf import MemoryShelf

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
TOKEN = "Ab3dE6gH9jK2mN5pQ8sT1vW4yZ70"
KEY = "consumerKeyForTests0123"
SECRET = "consumerSecretForTests0123"
CREDENTIAL = "aB3+/" * 68 + "dE=="
PHONE = "254700000001"
MARK = "0af1" * 8
ACK = {
    "ConversationID": "AG_20261123_0100104k2m9x7c1v5b8n",
    "OriginatorConversationID": "ks-1",
    "ResponseCode": "0",
    "ResponseDescription": "Accept the service request successfully.",
}
SECRETS = (TOKEN, KEY, SECRET, CREDENTIAL, PHONE, MARK)


class ManualClock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def account(base_url: str = "https://daraja.example", api: Literal["v1", "v3"] = "v3") -> DarajaApp:
    return DarajaApp(base_url, KEY, SECRET, "600999", "opsapi", CREDENTIAL, api=api)


def is_oauth(request: httpx.Request) -> bool:
    return request.url.path == "/oauth/v1/generate"


class Gateway:
    """The other side as a function: answers token requests, and gives each other request to `answers` in turn."""

    def __init__(self, *answers: object, tokens: list[object] | None = None) -> None:
        self.answers = list(answers)
        self.tokens = tokens
        self.token_requests: list[httpx.Request] = []
        self.requests: list[httpx.Request] = []
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            if is_oauth(request):
                self.token_requests.append(request)
                if self.tokens is None:
                    return httpx.Response(200, json={"access_token": TOKEN, "expires_in": "3599"})
                return self._give(self.tokens.pop(0))
            self.requests.append(request)
            return self._give(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])

    @staticmethod
    def _give(answer: object) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx.Response)
        return httpx.Response(answer.status_code, content=answer.content)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]


def taken() -> httpx.Response:
    return httpx.Response(200, json=ACK)


def refusal(http: int, code: str, message: str) -> httpx.Response:
    return httpx.Response(http, json={"requestId": "1", "errorCode": code, "errorMessage": message})


def daraja(
    gateway: Gateway, clock: ManualClock | None = None, *, api: Literal["v1", "v3"] = "v3", **options: Any
) -> DarajaClient:
    clock = clock or ManualClock()
    transport = httpx.MockTransport(gateway)
    shelf = options.pop("shelf", None) or MemoryShelf()
    return DarajaClient(
        account(api=api), shelf, clock, transport=transport, sleep=clock.sleep, limits=RequestLimits(**options)
    )


def pay(client: DarajaClient, **changes: Any) -> Answer:
    urls = ReplyUrls(
        *(f"https://pay.example.org/api/payments/b2c-{kind}/ks-1/{MARK}" for kind in ("callback", "timeout"))
    )
    said = {name: changes.pop(name) for name in list(changes) if name in Payment.__dataclass_fields__}
    payment = replace(Payment("ks-1", 125_000, PHONE, "Market 42", "m42"), **said)
    return client.pay(payment, urls, **{"lease": Lease(lambda: NOW, 600)} | changes)


# --- Paying ----------------------------------------------------------------------------------------------------------


def test_a_payment_that_was_taken_has_its_ids_and_both_exchanges() -> None:
    gateway = Gateway(taken())
    answer = pay(daraja(gateway))
    assert answer.verdict is Verdict.TAKEN
    assert (answer.http_status, answer.code) == (200, "0")
    assert answer.conversation_id == "AG_20261123_0100104k2m9x7c1v5b8n"
    assert answer.originator_conversation_id == "ks-1"
    assert [each.kind for each in answer.exchanges] == ["oauth", "b2c"]
    assert all(each.at == NOW and each.http_status == 200 for each in answer.exchanges)


def test_what_is_sent_is_what_the_portal_asks_for() -> None:
    gateway = Gateway(taken())
    pay(daraja(gateway))
    (asked,) = gateway.token_requests
    assert asked.method == "GET"
    assert asked.url.params["grant_type"] == "client_credentials"
    assert asked.headers["authorization"] == httpx.BasicAuth(KEY, SECRET)._auth_header
    (sent,) = gateway.requests
    assert (sent.method, sent.url.path) == ("POST", "/mpesa/b2c/v3/paymentrequest")
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["user-agent"].startswith("kasoko/")
    assert gateway.bodies[0]["OriginatorConversationID"] == "ks-1"
    assert gateway.bodies[0]["Amount"] == 1250
    assert gateway.bodies[0]["PartyB"] == PHONE
    assert gateway.bodies[0]["SecurityCredential"] == CREDENTIAL


def test_on_v1_no_id_of_ours_is_sent_and_theirs_comes_back() -> None:
    gateway = Gateway(httpx.Response(200, json=ACK | {"OriginatorConversationID": "12345-6789012-1"}))
    answer = pay(daraja(gateway, api="v1"))
    assert gateway.requests[0].url.path == "/mpesa/b2c/v1/paymentrequest"
    assert "OriginatorConversationID" not in gateway.bodies[0]
    assert answer.originator_conversation_id == "12345-6789012-1"


@pytest.mark.parametrize("cents", [0, -100, 14250])
def test_what_m_pesa_cannot_carry_never_leaves(cents: int) -> None:
    gateway = Gateway(taken())
    with pytest.raises(AssertionError):
        pay(daraja(gateway), wire_cents=cents)
    assert gateway.requests == []


@pytest.mark.parametrize(
    "broken",
    [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"), httpx.PoolTimeout("full")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("api", ["v1", "v3"])
def test_what_broke_while_connecting_goes_again_with_the_same_id(broken: Exception, api: Literal["v1", "v3"]) -> None:
    gateway = Gateway(broken, broken, taken())
    answer = pay(daraja(gateway, api=api))
    assert answer.verdict is Verdict.TAKEN
    assert len(gateway.requests) == 3
    assert len({request.content for request in gateway.requests}) == 1


def test_it_goes_only_a_few_times() -> None:
    gateway = Gateway(httpx.ConnectError("refused"))
    answer = pay(daraja(gateway, sends=3))
    assert answer.verdict is Verdict.NOT_SENT
    assert answer.http_status is None
    assert answer.text == "cannot connect"
    assert len(gateway.requests) == 3
    assert [each.kind for each in answer.exchanges] == ["oauth", "b2c", "b2c", "b2c"]


@pytest.mark.parametrize(
    "broken",
    [
        httpx.ReadTimeout("slow"),
        httpx.WriteTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.WriteError("reset"),
        httpx.CloseError("close"),
        httpx.RemoteProtocolError("cut"),
        httpx.LocalProtocolError("ours"),
        httpx.DecodingError("gzip"),
        httpx.TooManyRedirects("loop"),
        httpx.ProxyError("proxy"),
        httpx.UnsupportedProtocol("scheme"),
        OSError("strange"),
        ValueError("stranger"),
        RuntimeError("strangest"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("api", ["v1", "v3"])
def test_what_broke_otherwise_is_unknown_and_goes_only_once(broken: Exception, api: Literal["v1", "v3"]) -> None:
    gateway = Gateway(broken)
    answer = pay(daraja(gateway, api=api))
    assert answer.verdict is Verdict.UNKNOWN
    assert len(gateway.requests) == 1
    assert answer.conversation_id is None
    assert answer.advice == "Ask how it ended: kasoko reconcile"


@pytest.mark.parametrize(
    ("refused", "verdict"),
    [
        (refusal(500, "500.003.02", "Spike Arrest Violation"), Verdict.NOT_SENT),
        (refusal(500, "500.003.03", "Quota Violation"), Verdict.NOT_SENT),
        (httpx.Response(429), Verdict.NOT_SENT),
        (refusal(400, "400.002.02", "Bad Request - Invalid PartyB"), Verdict.REFUSED),
        (refusal(400, "400.002.02", "Bad Request - Invalid InitiatorName"), Verdict.ACCOUNT),
        (refusal(500, "500.002.1001", "Duplicate OriginatorConversationID."), Verdict.DUPLICATE),
        (refusal(500, "500.002.1001", "System internal error."), Verdict.UNKNOWN),
        (httpx.Response(200, text="<html>"), Verdict.UNKNOWN),
        (httpx.Response(200), Verdict.UNKNOWN),
        (httpx.Response(302, headers={"Location": "https://elsewhere.example"}), Verdict.UNKNOWN),
        (httpx.Response(503, text="<html>Incapsula incident</html>"), Verdict.UNKNOWN),
        (httpx.Response(200, content=b"x" * 300_000), Verdict.UNKNOWN),
    ],
)
def test_only_a_certain_refusal_goes_again(refused: httpx.Response, verdict: Verdict) -> None:
    gateway = Gateway(refused)
    answer = pay(daraja(gateway))
    assert answer.verdict is verdict
    assert len(gateway.requests) == (3 if verdict is Verdict.NOT_SENT else 1)
    assert len({request.content for request in gateway.requests}) == 1


def test_a_spike_arrest_is_waited_out() -> None:
    clock = ManualClock()
    gateway = Gateway(refusal(500, "500.003.02", "Spike Arrest Violation"), taken())
    answer = pay(daraja(gateway, clock))
    assert answer.verdict is Verdict.TAKEN
    assert 0.5 <= (clock.now - NOW).total_seconds() <= 1.0


def test_after_an_unknown_nothing_goes_again_even_if_a_refusal_came_first() -> None:
    gateway = Gateway(refusal(500, "500.003.02", "Spike Arrest Violation"), httpx.ReadTimeout("slow"), taken())
    assert pay(daraja(gateway)).verdict is Verdict.UNKNOWN
    assert len(gateway.requests) == 2


def test_nothing_is_sent_that_could_outlive_the_lease() -> None:
    gateway = Gateway(taken())
    answer = pay(daraja(gateway, total_seconds=45), lease=Lease(lambda: NOW, 44))
    assert answer.verdict is Verdict.NOT_SENT
    assert answer.text == "too little time was left to send it safely"
    assert gateway.requests == gateway.token_requests == []
    assert answer.exchanges == ()


def test_nothing_is_sent_again_that_could_outlive_the_lease() -> None:
    """The first try just fits; waiting and trying again would not."""
    gateway = Gateway(httpx.ConnectError("refused"))
    answer = pay(daraja(gateway, total_seconds=45), lease=Lease(lambda: NOW, 45.2))
    assert answer.verdict is Verdict.NOT_SENT
    assert len(gateway.requests) == 1


def test_each_try_asks_whether_it_may_still_leave_also_after_a_new_token() -> None:
    """The token was refused, and in between the attempt was ended: the second try stays here."""
    gateway = Gateway(TOKEN_REFUSED, taken(), tokens=[token("first"), token("second")])
    ours = iter([True, False])
    answer = pay(daraja(gateway), is_ours=lambda: next(ours))
    assert (answer.verdict, answer.held_back) == (Verdict.NOT_SENT, True)
    assert answer.text == "it is not ours to send any more"
    assert (len(gateway.requests), len(gateway.token_requests)) == (1, 2)
    assert [each.kind for each in answer.exchanges] == ["oauth", "b2c", "oauth", "b2c"]


def test_a_lease_that_ends_while_the_token_is_fetched_keeps_the_payment_here() -> None:
    class Slow(Gateway):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if is_oauth(request):
                clock.sleep(600)
            return super().__call__(request)

    clock, gateway = ManualClock(), Slow(taken())
    answer = pay(daraja(gateway, clock), lease=Lease(clock, 300))
    assert (answer.verdict, answer.held_back) == (Verdict.NOT_SENT, True)
    assert gateway.requests == []


# --- Other questions -------------------------------------------------------------------------------------------------


def test_a_status_query_asks_by_our_id() -> None:
    gateway = Gateway(httpx.Response(200, json=ACK | {"OriginatorConversationID": "1a2b-3c4d"}))
    answer = daraja(gateway).ask_status(
        ReplyUrls("https://pay.example.org/r", "https://pay.example.org/t"), query_id="q-7", attempt_id="ks-1"
    )
    assert answer.verdict is Verdict.TAKEN
    assert answer.originator_conversation_id == "1a2b-3c4d"
    assert gateway.requests[0].url.path == "/mpesa/transactionstatus/v1/query"
    body = gateway.bodies[0]
    assert (body["OriginalConversationID"], body["TransactionID"], body["Remarks"]) == ("ks-1", "", "q-7")
    assert answer.exchanges[-1].kind == "status"


def test_a_balance_query_asks_for_the_shortcode() -> None:
    gateway = Gateway(taken())
    answer = daraja(gateway).ask_balance(ReplyUrls("https://x.example/r", "https://x.example/t"), query_id="q-8")
    assert answer.verdict is Verdict.TAKEN
    assert gateway.requests[0].url.path == "/mpesa/accountbalance/v1/query"
    assert gateway.bodies[0]["PartyA"] == "600999"
    assert answer.exchanges[-1].kind == "balance"


# --- The token -------------------------------------------------------------------------------------------------------


def token(value: str) -> httpx.Response:
    return httpx.Response(200, json={"access_token": value, "expires_in": "3599"})


TOKEN_REFUSED = refusal(401, "401.002.01", f"Error Occurred - Invalid Access Token - {TOKEN}")


def test_a_token_is_fetched_once_for_many_payments() -> None:
    gateway = Gateway(taken())
    client = daraja(gateway)
    for _ in range(5):
        pay(client)
    assert len(gateway.token_requests) == 1


def test_a_token_near_its_end_is_replaced() -> None:
    clock, gateway = ManualClock(), Gateway(taken(), tokens=[token("first-token-1"), token("second-token-2")])
    client = daraja(gateway, clock)
    pay(client)
    clock.sleep(3298)
    pay(client, lease=Lease(clock, 600))
    assert len(gateway.token_requests) == 1
    clock.sleep(2)
    pay(client, lease=Lease(clock, 600))
    assert [request.headers["authorization"] for request in gateway.requests] == [
        "Bearer first-token-1",
        "Bearer first-token-1",
        "Bearer second-token-2",
    ]


def test_a_refused_token_is_replaced_once_and_the_same_id_goes_again() -> None:
    gateway = Gateway(TOKEN_REFUSED, taken(), tokens=[token(TOKEN), token("second-token-2")])
    answer = pay(daraja(gateway))
    assert answer.verdict is Verdict.TAKEN
    assert len(gateway.token_requests) == 2
    assert len({request.content for request in gateway.requests}) == 1
    assert gateway.requests[1].headers["authorization"] == "Bearer second-token-2"


def test_a_token_refused_twice_is_a_matter_of_the_account() -> None:
    gateway = Gateway(TOKEN_REFUSED, tokens=[token(TOKEN), token("second-token-2"), token("third-token-3")])
    answer = pay(daraja(gateway))
    assert answer.verdict is Verdict.ACCOUNT
    assert answer.meaning == "the access token was refused twice: consumer key, environment or product"
    assert len(gateway.requests) == 2
    assert len(gateway.token_requests) == 2


def test_a_token_that_another_process_replaced_is_taken_from_the_shelf() -> None:
    """Our token died since another host fetched one; that one lies on the shelf and needs no third."""
    shelf = MemoryShelf()
    shelf.keep(new_token("from-another-host", 3599, NOW))
    gateway = Gateway(taken())
    assert pay(daraja(gateway, shelf=shelf)).verdict is Verdict.TAKEN
    assert gateway.token_requests == []
    assert gateway.requests[0].headers["authorization"] == "Bearer from-another-host"


def test_a_wrong_consumer_key_stops_the_run_before_anything_is_sent() -> None:
    gateway = Gateway(taken(), tokens=[refusal(400, "400.008.01", "Invalid Authentication passed")])
    answer = pay(daraja(gateway))
    assert answer.verdict is Verdict.ACCOUNT
    assert gateway.requests == []
    assert answer.exchanges[0].outcome == "account: the consumer key or secret is refused"


@pytest.mark.parametrize("broken", [httpx.ReadTimeout("slow"), httpx.ConnectError("refused"), httpx.ReadError("reset")])
def test_a_token_that_cannot_be_fetched_means_that_nothing_was_sent(broken: Exception) -> None:
    """No money is in a token request: however it broke, the payment never left."""
    gateway = Gateway(taken(), tokens=[broken, token(TOKEN)])
    answer = pay(daraja(gateway))
    assert answer.verdict is Verdict.TAKEN
    assert len(gateway.requests) == 1


def test_a_failed_fetch_leaves_the_claim_to_the_next() -> None:
    shelf = MemoryShelf()
    gateway = Gateway(taken(), tokens=[httpx.Response(503)] * 3)
    assert pay(daraja(gateway, shelf=shelf)).verdict is Verdict.NOT_SENT
    assert shelf.claim_refresh(None)


def test_many_threads_fetch_one_token() -> None:
    class Slow(Gateway):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if is_oauth(request):
                time.sleep(0.1)
            return super().__call__(request)

    gateway = Slow(taken())
    client = daraja(gateway)
    found: list[Verdict] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(pay(client, attempt_id=f"ks-{n}").verdict)) for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert found == [Verdict.TAKEN] * 12
    assert len(gateway.token_requests) == 1
    assert {body["OriginatorConversationID"] for body in gateway.bodies} == {f"ks-{n}" for n in range(12)}


def test_many_threads_whose_token_is_refused_fetch_one_more() -> None:
    """All twelve are refused with the first token; one fetches the second, the others take it."""
    barrier = threading.Barrier(12)

    class Strict(Gateway):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if is_oauth(request):
                with self._lock:
                    self.token_requests.append(request)
                    return token(f"token-number-{len(self.token_requests)}")
            if request.headers["authorization"] == "Bearer token-number-1":
                barrier.wait(timeout=10)
                return TOKEN_REFUSED
            return taken()

    gateway = Strict(taken())
    client = daraja(gateway)
    found: list[Verdict] = []
    threads = [threading.Thread(target=lambda: found.append(pay(client).verdict)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Verdict.TAKEN] * 12
    assert len(gateway.token_requests) == 2


class OtherProcessFetches:
    """A shelf whose claim another process holds; it brings its token when `arrives` looks have passed."""

    def __init__(self, held: Token | None, arrives: int) -> None:
        self.held, self.left = held, arrives

    def current(self) -> Token | None:
        self.left -= 1
        return self.held if self.left > 0 else new_token("brought-by-another", 3599, NOW)

    def claim_refresh(self, stale: Token | None) -> bool:
        return False

    def keep(self, token: Token) -> None:
        raise AssertionError("nobody here has the claim")

    def give_up(self) -> None:
        raise AssertionError("nobody here has the claim")


def test_while_another_process_fetches_the_first_token_ours_waits() -> None:
    gateway = Gateway(taken())
    assert pay(daraja(gateway, shelf=OtherProcessFetches(None, 4))).verdict is Verdict.TAKEN
    assert gateway.token_requests == []
    assert gateway.requests[0].headers["authorization"] == "Bearer brought-by-another"


def test_while_another_process_fetches_a_token_that_still_lives_is_used() -> None:
    old = Token("old-but-alive", NOW - timedelta(seconds=3500), NOW + timedelta(seconds=99))
    gateway = Gateway(taken())
    assert pay(daraja(gateway, shelf=OtherProcessFetches(old, 9))).verdict is Verdict.TAKEN
    assert gateway.requests[0].headers["authorization"] == "Bearer old-but-alive"


def test_a_token_that_another_process_never_brings_means_that_nothing_was_sent() -> None:
    gateway = Gateway(taken())
    answer = pay(daraja(gateway, shelf=OtherProcessFetches(None, 10**9), total_seconds=0.2, sends=1))
    assert answer.verdict is Verdict.NOT_SENT
    assert answer.text == "no access token: another process took too long to fetch one"
    assert gateway.requests == []


# --- The account -----------------------------------------------------------------------------------------------------


def test_a_good_account_passes() -> None:
    (exchange,) = daraja(Gateway(taken())).check_account()
    assert (exchange.kind, exchange.outcome) == ("oauth", "a token")


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (
            refusal(400, "400.008.01", "Invalid Authentication passed"),
            "400.008.01",
            ' It said: "Invalid Authentication passed".',
        ),
        (httpx.Response(400), "400", ""),
        (httpx.Response(401), "401", ""),
    ],
)
def test_a_wrong_key_is_a_configuration_error_that_says_where_to_look(
    answer: httpx.Response, code: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        daraja(Gateway(taken(), tokens=[answer])).check_account()
    assert str(refused.value) == (
        f"M-Pesa at https://daraja.example gives no access token: the consumer key or secret is refused ({code}).{said}"
    )
    assert refused.value.hint == (
        "Nothing was sent. Check MPESA_CONSUMER_KEY and MPESA_CONSUMER_SECRET, and that they belong to this "
        "environment: kasoko config show --origin. Then run it again"
    )


def test_an_unreachable_m_pesa_is_not_sent() -> None:
    with pytest.raises(NotSent) as refused:
        daraja(Gateway(taken(), tokens=[httpx.ConnectError("refused")])).check_account()
    assert str(refused.value) == (
        "M-Pesa at https://daraja.example gives no access token: cannot connect. Nothing was sent."
    )
    assert refused.value.hint == (
        "No money moved. Check the network, daraja.proxy and MPESA_BASE_URL, then run it again"
    )
    assert refused.value.exit_code == 6


def test_an_unreadable_m_pesa_is_not_sent() -> None:
    with pytest.raises(NotSent, match="answered HTTP 503 with what cannot be read"):
        daraja(Gateway(taken(), tokens=[httpx.Response(503, text="<html>")])).check_account()


@pytest.mark.parametrize(
    "base_url",
    [
        "http://daraja.example",
        "http://10.0.0.1",
        "ftp://daraja.example",
        "daraja.example",
        "",
        "https://",
        "https://user:pw@daraja.example",
        "https://daraja.example?x=1",
        "https://daraja.example:port",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
    ],
)
def test_secrets_go_nowhere_without_tls(base_url: str) -> None:
    with pytest.raises(ConfigurationError):
        account(base_url)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.safaricom.co.ke",
        "http://127.0.0.1:8321",
        "http://localhost:1",
        "http://[::1]:8321/",
        "https://x/pre",
    ],
)
def test_https_and_this_machine_are_fine(base_url: str) -> None:
    assert account(base_url).base_url == base_url


@pytest.mark.parametrize(
    "change",
    [
        {"consumer_key": ""},
        {"consumer_secret": "a b"},
        {"consumer_key": "line\nbreak"},
        {"consumer_key": "é"},
        {"command_id": "Pay"},
        {"api": "v2"},
    ],
)
def test_an_account_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        "base_url": "https://daraja.example",
        "consumer_key": KEY,
        "consumer_secret": SECRET,
        "shortcode": "600999",
        "initiator_name": "opsapi",
        "security_credential": CREDENTIAL,
    }
    with pytest.raises(ConfigurationError):
        DarajaApp(**fields | change)


# --- Secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        taken(),
        TOKEN_REFUSED,
        refusal(400, "400.002.02", f"Bad Request - Invalid PartyB {PHONE} {CREDENTIAL} {SECRET} {KEY}"),
        httpx.Response(500, json={"echo": {"SecurityCredential": CREDENTIAL, "PartyB": PHONE, "t": TOKEN}}),
        httpx.Response(500, text=f"<p>Bearer {TOKEN} {CREDENTIAL} {PHONE} /b2c-callback/ks-1/{MARK}</p>"),
        httpx.ReadTimeout(f"{TOKEN} {CREDENTIAL} {PHONE}"),
        ValueError(f"{TOKEN} {CREDENTIAL} {PHONE}"),
    ],
    ids=["taken", "token refused", "text that repeats all", "JSON that echoes", "HTML", "timeout", "strange error"],
)
def test_nothing_secret_is_in_an_answer_its_exchanges_or_the_log(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = daraja(Gateway(answer))
    found = pay(client)
    shown = repr(found) + repr(client) + repr(client.account) + caplog.text
    for exchange in found.exchanges:
        shown += "".join((exchange.outcome, exchange.request, exchange.response))
    for secret in SECRETS:
        assert secret not in shown
    assert "ks-1" in shown


def test_an_answer_is_one_line_for_a_terminal() -> None:
    answer = pay(
        daraja(Gateway(refusal(400, "400.002.02", "Bad\r\nRequest\x1b[31m - Invalid PartyB\u202e " + "x " * 900)))
    )
    assert answer.text.startswith("Bad Request[31m - Invalid PartyB x x x")
    assert answer.text.isprintable()
    assert len(answer.text) == client_module.TEXT_CHARACTERS
    kept = answer.exchanges[-1].response
    assert "\x1b" not in kept
    assert "\u202e" not in kept


def test_a_body_with_nul_bytes_can_still_be_stored() -> None:
    """PostgreSQL's text has no NUL; a body that has some must not cost us the record of the call."""
    answer = pay(daraja(Gateway(httpx.Response(500, content=b"a\x00b\xff"))))
    assert answer.exchanges[-1].response == "a\ufffdb\ufffd"


def test_a_code_as_long_as_a_book_is_cut() -> None:
    answer = pay(daraja(Gateway(refusal(500, "5 " * 900, "x"))))
    assert len(answer.code) == client_module.CODE_CHARACTERS


def test_a_long_body_is_kept_in_part() -> None:
    answer = pay(daraja(Gateway(httpx.Response(500, text="x " * 50_000))))
    assert len(answer.exchanges[-1].response) == client_module.KEPT_CHARACTERS


# --- Real sockets ----------------------------------------------------------------------------------------------------

OAUTH_BODY = json.dumps({"access_token": TOKEN, "expires_in": "3599"}).encode()


def http(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


class RawGateway:
    """A bare socket that answers token requests rightly and B2C requests as `misbehave` likes."""

    def __init__(self, misbehave: Callable[[socket.socket], None]) -> None:
        self._misbehave = misbehave
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.05)
        self.port: int = self._listening.getsockname()[1]
        self.received: list[bytes] = []
        self.connections = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                continue
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            try:
                while (request := _read_request(connection)) is not None:
                    if request.startswith(b"GET"):
                        connection.sendall(http(OAUTH_BODY))
                        continue
                    self.received.append(request)
                    self._misbehave(connection)
                    return
            except OSError:
                return

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)
        self._listening.close()


def _read_request(connection: socket.socket) -> bytes | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65_536)
        if not chunk:
            return None
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(rest) < length:
        chunk = connection.recv(65_536)
        if not chunk:
            return None
        rest += chunk
    return head + b"\r\n\r\n" + rest


@contextmanager
def raw(misbehave: Callable[[socket.socket], None], **options: Any) -> Iterator[tuple[DarajaClient, RawGateway]]:
    gateway = RawGateway(misbehave)
    clock = ManualClock()
    limits = RequestLimits(**{"timeout_seconds": 1.0, "total_seconds": 2.0} | options)
    client = DarajaClient(
        account(f"http://127.0.0.1:{gateway.port}"), MemoryShelf(), clock, sleep=clock.sleep, limits=limits
    )
    try:
        yield client, gateway
    finally:
        client.close()
        gateway.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drip(data: bytes, seconds: float = 0.1) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            time.sleep(seconds)

    return send


def say(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


ACK_BYTES = http(json.dumps(ACK).encode())


def test_over_a_real_socket_a_payment_is_taken() -> None:
    with raw(say(ACK_BYTES)) as (client, gateway):
        answer = pay(client)
        assert answer.verdict is Verdict.TAKEN
        assert gateway.connections == 1
        assert len(gateway.received) == 1


def test_the_last_question_comes_after_connecting_directly_before_the_content() -> None:
    """Who stands still while connecting, or after the head was written, sends nothing that M-Pesa could act on."""
    ours = iter([True, False])
    with raw(say(ACK_BYTES)) as (client, gateway):
        answer = pay(client, is_ours=lambda: next(ours))
        assert (answer.verdict, answer.held_back) == (Verdict.NOT_SENT, True)
    assert gateway.connections == 1, "the token's"
    assert gateway.received == []


@pytest.mark.parametrize(
    "misbehave",
    [
        pytest.param(lambda connection: None, id="closed without a word"),
        pytest.param(reset, id="reset"),
        pytest.param(say(ACK_BYTES[:20]), id="cut in the head"),
        pytest.param(say(ACK_BYTES[:-5]), id="cut in the body"),
        pytest.param(say(b"no HTTP at all\r\n\r\n"), id="no HTTP"),
        pytest.param(
            say(http(b"\x1f\x8b not gzip").replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1)),
            id="bad gzip",
        ),
        pytest.param(say(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000), id="an endless head"),
        pytest.param(
            say(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 400_000), id="an endless body"
        ),
        pytest.param(say(b"HTTP/1.1 204 No Content\r\n\r\n"), id="204"),
        pytest.param(say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), id="two lengths"),
    ],
)
def test_over_a_real_socket_every_broken_answer_is_unknown_and_goes_once(
    misbehave: Callable[[socket.socket], None],
) -> None:
    with raw(misbehave) as (client, gateway):
        answer = pay(client)
        assert answer.verdict is Verdict.UNKNOWN
        assert len(gateway.received) == 1


def test_silence_ends_with_the_read_timeout() -> None:
    with raw(lambda connection: time.sleep(1.2), timeout_seconds=0.5) as (client, gateway):
        started = time.monotonic()
        answer = pay(client)
        assert time.monotonic() - started < 1.2
        assert answer.verdict is Verdict.UNKNOWN
        assert answer.text == "no answer in time"
        assert len(gateway.received) == 1


def test_silence_ends_at_the_deadline_though_the_read_timeout_is_long() -> None:
    with raw(lambda connection: time.sleep(1.5), timeout_seconds=30.0, total_seconds=0.4) as (client, _gateway):
        started = time.monotonic()
        assert pay(client).verdict is Verdict.UNKNOWN
        assert time.monotonic() - started < 1.2


def test_a_body_past_the_limit_is_read_no_further() -> None:
    answer = pay(daraja(Gateway(httpx.Response(200, content=b" " * 300_000))))
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.text == "the answer is too long"
    assert answer.exchanges[-1].response == ""


@pytest.mark.parametrize(
    "dripped",
    [
        pytest.param(ACK_BYTES, id="in the head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100, id="in chunks"),
    ],
)
def test_an_answer_that_drips_in_byte_by_byte_ends_at_the_deadline(dripped: bytes) -> None:
    """Each byte comes well inside the read timeout; only the deadline ends it."""
    with raw(drip(dripped), timeout_seconds=1.0, total_seconds=1.5) as (client, gateway):
        started = time.monotonic()
        answer = pay(client)
        assert 1.0 < time.monotonic() - started < 2.5
        assert answer.verdict is Verdict.UNKNOWN
        assert len(gateway.received) == 1


def test_a_body_that_drips_in_ends_at_the_deadline() -> None:
    head, _, body = ACK_BYTES.partition(b"\r\n\r\n")

    def misbehave(connection: socket.socket) -> None:
        connection.sendall(head + b"\r\n\r\n")
        drip(body)(connection)

    with raw(misbehave, total_seconds=1.0) as (client, _gateway):
        answer = pay(client)
        assert answer.verdict is Verdict.UNKNOWN
        assert answer.http_status == 200


def test_a_closed_port_is_not_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    clock = ManualClock()
    client = DarajaClient(account(f"http://127.0.0.1:{port}"), MemoryShelf(), clock, sleep=clock.sleep)
    answer = pay(client)
    assert answer.verdict is Verdict.NOT_SENT
    assert answer.text == "no access token: cannot connect (Connection refused)"
    with pytest.raises(NotSent):
        client.check_account()
    client.close()


def test_a_port_that_closed_after_the_token_is_not_sent_and_goes_again() -> None:
    shelf = MemoryShelf()
    shelf.keep(new_token(TOKEN, 3599, NOW))
    clock = ManualClock()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    client = DarajaClient(account(f"http://127.0.0.1:{port}"), shelf, clock, sleep=clock.sleep)
    answer = pay(client)
    client.close()
    assert answer.verdict is Verdict.NOT_SENT
    assert [each.kind for each in answer.exchanges] == ["b2c"] * 3


def test_a_name_that_does_not_exist_is_not_sent() -> None:
    clock = ManualClock()
    client = DarajaClient(account("https://daraja.invalid"), MemoryShelf(), clock, limits=RequestLimits(sends=1))
    assert pay(client).verdict is Verdict.NOT_SENT
    client.close()


def test_a_server_without_tls_under_https_is_not_sent() -> None:
    shelf = MemoryShelf()
    shelf.keep(new_token(TOKEN, 3599, NOW))
    gateway = RawGateway(say(ACK_BYTES))
    clock = ManualClock()
    client = DarajaClient(
        account(f"https://127.0.0.1:{gateway.port}"),
        shelf,
        clock,
        sleep=clock.sleep,
        limits=RequestLimits(timeout_seconds=0.2, sends=1),
    )
    answer = pay(client)
    client.close()
    gateway.close()
    assert answer.verdict is Verdict.NOT_SENT
    assert gateway.received == []


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with raw(say(ACK_BYTES)) as (client, _gateway):
        assert pay(client).verdict is Verdict.TAKEN


def test_each_thread_has_its_own_connection() -> None:
    """Eight threads wait inside their requests at once; a shared connection could not."""
    together = threading.Barrier(8)

    def misbehave(connection: socket.socket) -> None:
        together.wait(timeout=5)
        connection.sendall(ACK_BYTES)

    found: list[Verdict] = []
    with raw(misbehave, timeout_seconds=5.0, total_seconds=8.0) as (client, gateway):
        threads = [threading.Thread(target=lambda: found.append(pay(client).verdict)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(gateway.received) == 8
    assert found == [Verdict.TAKEN] * 8
