"""The simulator speaks Daraja: tokens, fields, acknowledgements, results, queries and refusals."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kasoko_cli.daraja.simulator.app import Simulator, SimulatorSettings
from kasoko_cli.daraja.simulator.gateway import Request
from tests.daraja.simulator_desk import V1, V3, Desk, a_desk

#: 23 November 2026, 08:12:44 in Nairobi.
NOW = datetime(2026, 11, 23, 5, 12, 44, tzinfo=UTC)


class MovingClock:
    """Time that moves when a test says so."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def desk(clock: MovingClock) -> Iterator[Desk]:
    with a_desk(clock) as desk:
        yield desk


def parameters(result: dict[str, Any]) -> dict[str, Any]:
    return {item["Key"]: item.get("Value") for item in result["ResultParameters"]["ResultParameter"]}


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert set(body) == {"requestId", "errorCode", "errorMessage"}
    return answer.status_code, body["errorCode"], body["errorMessage"]


# --- Tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_has_28_letters_and_a_life_written_as_text(desk: Desk) -> None:
    answer = desk.http.get(
        "/oauth/v1/generate?grant_type=client_credentials", auth=("simulator-key", "simulator-secret")
    )
    assert answer.status_code == 200
    assert re.fullmatch(r"[A-Za-z0-9]{28}", answer.json()["access_token"])
    assert answer.json()["expires_in"] == "3599"


def test_the_life_of_a_token_can_be_a_number() -> None:
    with a_desk(token_life_as_number=True) as desk:
        answer = desk.http.get(
            "/oauth/v1/generate?grant_type=client_credentials", auth=("simulator-key", "simulator-secret")
        )
        assert answer.json()["expires_in"] == 3599


@pytest.mark.parametrize(
    ("headers", "grant", "code"),
    [
        pytest.param({"Authorization": "Bearer abc"}, "client_credentials", "400.008.01", id="wrong scheme"),
        pytest.param({}, "client_credentials", "400.008.01", id="no header"),
        pytest.param(
            {"Authorization": "Basic " + base64.b64encode(b"simulator-key:wrong").decode()},
            "client_credentials",
            "400.008.01",
            id="wrong secret",
        ),
        pytest.param({"Authorization": "Basic %%%"}, "client_credentials", "400.008.01", id="not base64"),
        pytest.param(
            {"Authorization": "Basic " + base64.b64encode(b"simulator-key:simulator-secret").decode()},
            "password",
            "400.008.02",
            id="wrong grant type",
        ),
    ],
)
def test_a_token_is_refused(desk: Desk, headers: dict[str, str], grant: str, code: str) -> None:
    answer = desk.http.get("/oauth/v1/generate", params={"grant_type": grant}, headers=headers)
    assert error_of(answer)[:2] == (400, code)


def test_a_wrong_secret_can_be_answered_with_no_body() -> None:
    with a_desk(wrong_key_has_no_body=True) as desk:
        answer = desk.http.get("/oauth/v1/generate?grant_type=client_credentials", auth=("simulator-key", "wrong"))
        assert (answer.status_code, answer.content) == (400, b"")


def test_a_new_token_kills_the_one_before_it(desk: Desk) -> None:
    old, new = desk.new_token(), desk.new_token()
    refused = desk.post(V3, desk.b2c(), token=old)
    assert error_of(refused) == (401, "401.002.01", f"Error Occurred - Invalid Access Token - {old}")
    assert desk.post(V3, desk.b2c(), token=new).json()["ResponseCode"] == "0"
    assert len(desk.paid()) == 1


def test_old_tokens_can_be_left_alive() -> None:
    with a_desk(old_token_dies=False) as desk:
        old, _ = desk.new_token(), desk.new_token()
        assert desk.post(V3, desk.b2c(), token=old).status_code == 200


def test_a_token_dies_of_age(desk: Desk, clock: MovingClock) -> None:
    desk.new_token()
    clock.now += timedelta(seconds=3598)
    assert desk.pay().status_code == 200
    clock.now += timedelta(seconds=1)
    assert desk.pay().status_code == 401


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/mpesa/accountbalance/v1/query", (401, "401.002.01")),
        ("/mpesa/transactionstatus/v1/query", (400, "400.003.01")),
        ("/mpesa/reversal/v1/request", (404, "404.001.03")),
    ],
)
def test_each_product_refuses_a_dead_token_in_its_own_way(desk: Desk, path: str, refusal: tuple[int, str]) -> None:
    assert error_of(desk.post(path, {}, token="x" * 28))[:2] == refusal


def test_no_bearer_is_an_invalid_header(desk: Desk) -> None:
    assert error_of(desk.http.post(V3, json=desk.b2c()))[:2] == (404, "404.001.04")


# --- Requests that are refused before anything is taken --------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("OriginatorConversationID", None),
        ("OriginatorConversationID", ""),
        ("OriginatorConversationID", 12345),
        ("InitiatorName", None),
        ("SecurityCredential", None),
        ("CommandID", "BusinessPayToPochi"),
        ("Amount", 0),
        ("Amount", -5),
        ("Amount", 10.5),
        ("Amount", "10.00"),
        ("Amount", True),
        ("Amount", "1e3"),
        ("Amount", None),
        ("PartyA", "abc"),
        ("PartyB", "0711000001"),
        ("PartyB", "+254711000001"),
        ("PartyB", "254811000001"),
        ("PartyB", None),
        ("Remarks", ""),
        ("Remarks", "x" * 101),
        ("ResultURL", "not a url"),
        ("ResultURL", "ftp://pay.example.org/x"),
        ("QueueTimeOutURL", None),
        ("Occassion", "x" * 101),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_taken(desk: Desk, field: str, value: object) -> None:
    answer = desk.post(V3, desk.b2c(**{field: value}))
    assert error_of(answer) == (400, "400.002.02", f"Bad Request - Invalid {field}")
    assert desk.paid() == []


@pytest.mark.parametrize(
    ("field", "url"),
    [
        ("ResultURL", "https://pay.example.org/mpesa/result"),
        ("ResultURL", "https://pay.example.org/QUERY"),
        ("QueueTimeOutURL", "https://pay.example.org/exec"),
    ],
)
def test_a_word_that_c2b_forbids_passes_unless_the_simulator_is_strict(field: str, url: str) -> None:
    with a_desk() as desk:
        assert desk.post(V3, desk.b2c(**{field: url})).status_code == 200
    with a_desk(refuse_url_words=True) as desk:
        answer = desk.post(V3, desk.b2c(**{field: url}))
        assert error_of(answer) == (400, "400.002.02", f"Bad Request - Invalid {field}")
        assert desk.paid() == []


@pytest.mark.parametrize("spelling", ["Occassion", "Occasion"])
def test_both_spellings_of_occasion_are_taken(desk: Desk, spelling: str) -> None:
    body = {**desk.b2c(Occassion=None), spelling: "m42"}
    assert desk.post(V3, body).status_code == 200
    assert desk.ledger()["payments"][0]["reference"] == "m42"


def test_numbers_may_be_numbers_or_text(desk: Desk) -> None:
    assert desk.pay(kes="125", PartyA=600999, PartyB=254711000001).status_code == 200
    assert desk.paid() == [("254711000001", 12_500)]


def test_a_wrong_content_type_shows_as_an_invalid_first_field(desk: Desk) -> None:
    answer = desk.http.post(V3, data={"a": "b"}, headers={"Authorization": f"Bearer {desk.new_token()}"})
    assert error_of(answer) == (400, "400.002.02", "Bad Request - Invalid InitiatorName")


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b"NaN", b"[" * 9000, b'{"a":"' + b"x" * 70_000 + b'"}'])
def test_a_body_that_is_no_object_is_an_invalid_payload(desk: Desk, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {desk.new_token()}", "Content-Type": "application/json"}
    assert error_of(desk.http.post(V3, content=body, headers=headers))[:2] == (400, "400.002.05")


def test_another_shortcode_is_refused(desk: Desk) -> None:
    assert error_of(desk.pay(PartyA="600000")) == (500, "500.001.1001", "Merchant does not exist")


def test_wrong_paths_and_methods_are_refused(desk: Desk) -> None:
    assert error_of(desk.http.post("/mpesa/b2c/v9/paymentrequest"))[:2] == (404, "404.001.01")
    assert error_of(desk.http.get(V3))[:2] == (405, "405.001")
    assert error_of(desk.http.post("/oauth/v1/generate"))[:2] == (405, "405.001")


def test_spike_arrest_counts_the_requests_of_one_second(clock: MovingClock) -> None:
    with a_desk(clock, requests_per_second=2) as desk:
        answers = [desk.pay() for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 500]
        assert error_of(answers[2])[1:] == ("500.003.02", "Error Occurred: Spike Arrest Violation")
        clock.now += timedelta(seconds=1)
        assert desk.pay().status_code == 200
        assert len(desk.paid()) == 3


# --- Payments --------------------------------------------------------------------------------------------------------


def test_a_payment_on_v3_echoes_the_callers_id_and_the_result_says_all(desk: Desk) -> None:
    answer = desk.pay("254711000001", 1250)
    assert answer.status_code == 200
    ack = answer.json()
    assert ack["OriginatorConversationID"] == "ks-test-1"
    assert ack["ResponseCode"] == "0"
    assert ack["ResponseDescription"] == "Accept the service request successfully."
    assert re.fullmatch(r"AG_20261123_[0-9a-z]{20}", ack["ConversationID"])

    (result,) = desk.inbox.results(1)
    assert (result["ResultType"], result["ResultCode"]) == (0, 0)
    assert result["OriginatorConversationID"] == "ks-test-1"
    assert result["ConversationID"] == ack["ConversationID"]
    assert re.fullmatch(r"UKN[0-9A-Z]{7}", result["TransactionID"])
    said = parameters(result)
    assert said["TransactionAmount"] == 1250
    assert said["TransactionReceipt"] == result["TransactionID"]
    assert said["ReceiverPartyPublicName"].startswith("254711000001 - ")
    assert said["TransactionCompletedDateTime"] == "23.11.2026 08:12:44"
    assert said["B2CRecipientIsRegisteredCustomer"] == "Y"
    assert b'"B2CUtilityAccountAvailableFunds", "Value": 998750.00' in desk.inbox.posts[0][2]
    assert b'"B2CChargesPaidAccountAvailableFunds", "Value": -5.00' in desk.inbox.posts[0][2]
    assert result["ReferenceData"]["ReferenceItem"]["Key"] == "QueueTimeoutURL"

    ledger = desk.ledger()
    assert ledger["payments"] == [
        {
            "originator_conversation_id": "ks-test-1",
            "conversation_id": ack["ConversationID"],
            "receipt": result["TransactionID"],
            "phone": "254711000001",
            "amount_cents": 125_000,
            "charge_cents": 500,
            "reference": "m1",
            "at": "2026-11-23T05:12:44Z",
        }
    ]
    assert (ledger["utility_cents"], ledger["working_cents"], ledger["charges_cents"]) == (99_875_000, 0, -500)


def test_a_receipt_tells_the_nairobi_day(desk: Desk, clock: MovingClock) -> None:
    """22:00 on 8 January in London is already the 9th in Nairobi."""
    clock.now = datetime(2027, 1, 8, 22, 0, tzinfo=UTC)
    desk.pay()
    assert desk.inbox.results(1)[0]["TransactionID"].startswith("VA9")


def test_the_conversation_id_can_be_hex() -> None:
    with a_desk(conversation_ids="hex") as desk:
        assert re.fullmatch(r"AG_\d{8}_[0-9a-f]{20}", desk.pay().json()["ConversationID"])


def test_on_v1_the_gateway_makes_the_id_and_a_repeat_pays_again(desk: Desk) -> None:
    body = desk.b2c(OriginatorConversationID="ours")
    first, second = desk.post(V1, body).json(), desk.post(V1, body).json()
    ids = {first["OriginatorConversationID"], second["OriginatorConversationID"]}
    assert len(ids) == 2
    assert "ours" not in ids
    assert {result["OriginatorConversationID"] for result in desk.inbox.results(2)} == ids
    assert len(desk.paid()) == 2


def test_a_repeated_id_is_refused_for_ever_and_pays_once(desk: Desk, clock: MovingClock) -> None:
    body = desk.b2c()
    assert desk.post(V3, body).status_code == 200
    for days in (0, 1, 400):
        clock.now = NOW + timedelta(days=days)
        desk.new_token()
        other = {**body, "Amount": 999, "PartyB": "254722000002"}
        for repeat in (body, other):
            answer = desk.post(V3, repeat)
            assert error_of(answer) == (500, "500.002.1001", "Duplicate OriginatorConversationID.")
    assert desk.paid() == [("254711000001", 10_000)]
    assert desk.ledger()["duplicates_refused"] == 6


def test_a_failed_payment_spends_its_id_too(desk: Desk) -> None:
    body = desk.b2c("254799002040")
    assert desk.post(V3, body).status_code == 200
    assert error_of(desk.post(V3, {**body, "PartyB": "254711000001"}))[2] == "Duplicate OriginatorConversationID."
    assert desk.paid() == []


def test_a_repeated_id_can_end_in_code_15_instead() -> None:
    with a_desk(duplicates="result") as desk:
        body = desk.b2c()
        first, second = desk.post(V3, body).json(), desk.post(V3, body).json()
        assert second["ResponseCode"] == "0"
        by_conversation = {result["ConversationID"]: result["ResultCode"] for result in desk.inbox.results(2)}
        assert by_conversation == {first["ConversationID"]: 0, second["ConversationID"]: 15}
        assert len(desk.paid()) == 1


def test_the_callers_id_can_be_left_out_of_every_answer() -> None:
    with a_desk(echoes_originator_id=False) as desk:
        assert "OriginatorConversationID" not in desk.pay().json()
        assert "OriginatorConversationID" not in desk.inbox.results(1)[0]
        assert desk.ledger()["payments"][0]["originator_conversation_id"] == "ks-test-1"


# --- Limits and money ------------------------------------------------------------------------------------------------


def codes(desk: Desk, count: int) -> dict[str, Any]:
    return {result["OriginatorConversationID"]: result["ResultCode"] for result in desk.inbox.results(count)}


def test_amounts_outside_the_limits_end_in_2_and_3(desk: Desk) -> None:
    for kes in (9, 10, 250_000, 250_001):
        desk.pay(kes=kes)
    assert codes(desk, 4) == {"ks-test-1": 2, "ks-test-2": 0, "ks-test-3": 0, "ks-test-4": 3}
    assert desk.paid() == [("254711000001", 1_000), ("254711000001", 25_000_000)]


def test_a_customer_receives_no_more_than_her_limit_in_one_nairobi_day(desk: Desk, clock: MovingClock) -> None:
    clock.now = datetime(2026, 11, 23, 20, 59, tzinfo=UTC)  # one minute to midnight in Nairobi
    for _ in range(2):
        desk.pay(kes=250_000)
    desk.pay(kes=10)
    desk.pay("254722000002", kes=10)
    clock.now += timedelta(minutes=1)
    desk.pay(kes=10)
    assert codes(desk, 5)["ks-test-3"] == 4
    assert len(desk.paid()) == 4


def test_the_daily_limit_can_be_switched_off() -> None:
    with a_desk(daily_cents=None) as desk:
        for _ in range(3):
            desk.pay(kes=250_000)
        assert set(codes(desk, 3).values()) == {0}


def test_a_full_account_ends_in_8() -> None:
    with a_desk(balance_cap_cents=15_000) as desk:
        desk.pay(kes=100)
        desk.pay(kes=51)
        desk.pay(kes=50)
        assert codes(desk, 3) == {"ks-test-1": 0, "ks-test-2": 8, "ks-test-3": 0}


def test_an_empty_utility_account_ends_in_1_until_it_is_topped_up() -> None:
    with a_desk(utility_cents=10_000, working_cents=5_000_000) as desk:
        desk.pay(kes=101)
        desk.inbox.wait(1)
        assert desk.http.post("/_top_up", json={"amount_cents": 100}).json() == {"utility_cents": 10_100}
        desk.pay(kes=101)
        assert codes(desk, 2) == {"ks-test-1": 1, "ks-test-2": 0}
        assert desk.ledger()["utility_cents"] == 0
        assert desk.ledger()["working_cents"] == 5_000_000


@pytest.mark.parametrize(
    ("kes", "charge_kes"),
    [
        (10, 0),
        (100, 0),
        (101, 5),
        (1_500, 5),
        (1_501, 9),
        (5_000, 9),
        (5_001, 11),
        (20_000, 11),
        (20_001, 13),
        (250_000, 13),
    ],
)
def test_the_tariff_of_august_2023_goes_to_the_charges_account(kes: int, charge_kes: int) -> None:
    with a_desk() as desk:
        desk.pay(kes=kes)
        ledger = desk.ledger()
        assert ledger["charges_cents"] == -charge_kes * 100
        assert ledger["utility_cents"] == 100_000_000 - kes * 100


def test_the_tariff_can_be_switched_off_and_failures_cost_nothing(desk: Desk) -> None:
    desk.pay("254799002040", kes=1_000)
    assert desk.ledger()["charges_cents"] == 0
    with a_desk(tariff=False) as free:
        free.pay(kes=1_000)
        assert free.ledger()["charges_cents"] == 0


# --- The operator ----------------------------------------------------------------------------------------------------


def test_a_password_encrypted_with_the_served_certificate_is_taken(desk: Desk) -> None:
    certificate = x509.load_pem_x509_certificate(desk.http.get("/_certificate").content)
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    sealed = base64.b64encode(key.encrypt(b"Simulator999#", padding.PKCS1v15())).decode()
    assert len(sealed) == 344
    desk.pay(SecurityCredential=sealed)
    assert desk.inbox.results(1)[0]["ResultCode"] == 0


def test_five_wrong_passwords_in_a_row_lock_the_operator_until_it_is_unlocked(desk: Desk) -> None:
    wrong = desk.simulator.security_credential("Wrong999#")
    for _ in range(4):
        desk.pay(SecurityCredential=wrong)
    desk.pay()  # a right one starts the count again
    for credential in (wrong, "not base64!", wrong):
        desk.pay(SecurityCredential=credential)
    desk.pay(InitiatorName="somebody")
    desk.balance(SecurityCredential=wrong)
    desk.pay()
    desk.ask("ks-test-5")
    assert desk.http.post("/_unlock").status_code == 200
    desk.pay()
    results = desk.inbox.results(13)
    by_id = {result["OriginatorConversationID"]: str(result["ResultCode"]) for result in results}
    paid = {f"ks-test-{n}": by_id[f"ks-test-{n}"] for n in range(1, 12)}
    assert [paid[f"ks-test-{n}"] for n in range(1, 12)] == ["2001"] * 4 + ["0"] + ["2001"] * 4 + ["8006", "0"]
    assert sorted(code for key, code in by_id.items() if not key.startswith("ks-")) == ["2001", "8006"]
    assert [one["originator_conversation_id"] for one in desk.ledger()["payments"]] == ["ks-test-5", "ks-test-11"]


def test_nothing_of_the_secrets_is_in_a_repr_or_in_the_ledger(desk: Desk) -> None:
    desk.pay(SecurityCredential=desk.simulator.security_credential("Wrong999#"))
    desk.post(V3, desk.b2c(), token="T" * 28)
    shown = repr(desk.simulator.settings) + desk.http.get("/_ledger").text
    for secret in ("Simulator999#", "simulator-secret", "T" * 28, desk.simulator.security_credential()[:20]):
        assert secret not in shown


# --- Queries ---------------------------------------------------------------------------------------------------------


def test_a_status_query_by_our_id_tells_the_truth_under_ids_of_its_own(desk: Desk) -> None:
    paid = desk.pay("254711000001", 1250).json()
    receipt = desk.inbox.results(1)[0]["TransactionID"]
    ack = desk.ask("ks-test-1").json()
    assert ack["OriginatorConversationID"] != "ks-test-1"
    result = desk.inbox.results(2)[1]
    assert result["ResultCode"] == 0
    assert result["OriginatorConversationID"] == ack["OriginatorConversationID"]
    assert result["ConversationID"] == ack["ConversationID"]
    assert result["TransactionID"] == "UKN0000000"
    said = parameters(result)
    assert said["TransactionStatus"] == "Completed"
    assert said["OriginatorConversationID"] == "ks-test-1"
    assert said["ConversationID"] == paid["ConversationID"]
    assert said["ReceiptNo"] == receipt
    assert said["Amount"] == "1250.00"
    assert said["CreditPartyName"].startswith("254711000001 - ")
    assert said["DebitPartyCharges"] == "Fee For B2C Payment|KES|5.00"
    assert said["FinalisedTime"] == 20261123081244
    assert result["ReferenceData"] == {"ReferenceItem": {"Key": "Occasion"}}


def test_a_status_query_by_receipt_finds_the_same_payment(desk: Desk) -> None:
    desk.pay()
    receipt = desk.inbox.results(1)[0]["TransactionID"]
    desk.ask(receipt=receipt)
    assert parameters(desk.inbox.results(2)[1])["OriginatorConversationID"] == "ks-test-1"


def test_what_failed_is_declined(desk: Desk) -> None:
    desk.pay("254799002040")
    desk.inbox.wait(1)
    desk.ask("ks-test-1")
    assert parameters(desk.inbox.results(2)[1])["TransactionStatus"] == "Declined"


def test_what_is_not_there_is_2033_by_id_and_2032_by_receipt(desk: Desk) -> None:
    desk.ask("ks-unknown")
    desk.inbox.wait(1)
    desk.ask(receipt="UKN7A1B2C3")
    first, second = desk.inbox.results(2)
    assert (first["ResultCode"], second["ResultCode"]) == (2033, 2032)
    assert "ResultParameters" not in first


def test_a_status_query_for_nothing_is_refused(desk: Desk) -> None:
    assert error_of(desk.ask())[:2] == (400, "400.003.02")
    assert error_of(desk.ask("x", IdentifierType="1"))[2] == "Bad Request - Invalid IdentifierType"


def test_a_payment_is_invisible_while_the_status_lags(clock: MovingClock) -> None:
    with a_desk(clock, status_lag_seconds=60) as desk:
        desk.pay()
        desk.inbox.wait(1)
        desk.ask("ks-test-1")
        assert desk.inbox.results(2)[1]["ResultCode"] == 2033
        clock.now += timedelta(seconds=60)
        desk.ask("ks-test-1")
        assert desk.inbox.results(3)[2]["ResultCode"] == 0


def test_the_balance_comes_packed_with_its_action_type_first(desk: Desk) -> None:
    desk.pay(kes=1250)
    desk.inbox.wait(1)
    ack = desk.balance().json()
    assert ack["ResponseDescription"] == "Accept the service request successfully"
    result = desk.inbox.results(2)[1]
    assert (result["ResultType"], result["ResultCode"]) == ("0", "0")
    items = result["ResultParameters"]["ResultParameter"]
    assert items[0] == {"Key": "ActionType", "Value": "AccountBalance"}
    assert items[1]["Value"].split("&")[:3] == [
        "Working Account|KES|0.00|0.00|0.00|0.00",
        "Utility Account|KES|998750.00|998750.00|0.00|0.00",
        "Charges Paid Account|KES|-5.00|-5.00|0.00|0.00",
    ]


def test_what_is_reserved_is_in_the_balance_and_does_not_pay() -> None:
    """Field 3 is the current balance, 4 what is available, 5 what is reserved."""
    with a_desk(utility_cents=100_000, reserved_cents=90_000) as desk:
        desk.balance()
        packed = desk.inbox.results(1)[0]["ResultParameters"]["ResultParameter"][1]["Value"]
        assert packed.split("&")[1] == "Utility Account|KES|1000.00|100.00|900.00|0.00"
        desk.pay(kes=101)
        desk.pay(kes=100)
        assert [result["ResultCode"] for result in desk.inbox.results(3)[1:]].count(1) == 1
        assert [payment["amount_cents"] for payment in desk.ledger()["payments"]] == [10_000]


def test_a_failed_balance_says_why(desk: Desk) -> None:
    desk.balance(SecurityCredential="wrong")
    result = desk.inbox.results(1)[0]
    assert result["ResultCode"] == "2001"
    assert parameters(result)["ErrorMsg"] == "Initiator information is invalid. "


def test_a_b2c_payment_cannot_be_reversed(desk: Desk) -> None:
    desk.pay()
    receipt = desk.inbox.results(1)[0]["TransactionID"]
    body = {
        "Initiator": "testapi",
        "SecurityCredential": desk.simulator.security_credential(),
        "CommandID": "TransactionReversal",
        "TransactionID": receipt,
        "Amount": 100,
        "ReceiverParty": "600999",
        "RecieverIdentifierType": "11",
        "ResultURL": f"{desk.inbox.url}/reversal",
        "QueueTimeOutURL": f"{desk.inbox.url}/timeout",
        "Remarks": "please",
    }
    assert desk.post("/mpesa/reversal/v1/request", body).json()["ResponseCode"] == "0"
    assert desk.inbox.results(2)[1]["ResultCode"] == "R000002"
    assert desk.ledger()["utility_cents"] == 100_000_000 - 10_000


@pytest.mark.parametrize(
    ("command", "kes", "code", "utility_cents", "working_cents"),
    [
        ("BusinessPayToBulk", 50, "0", 15_000, 7_000),
        ("BusinessTransferFromMMFToUtility", 70, "0", 17_000, 0),
        ("BusinessTransferFromMMFToUtility", 71, "1", 10_000, 7_000),
    ],
)
def test_the_utility_account_is_topped_up_over_the_wire(
    command: str, kes: int, code: str, utility_cents: int, working_cents: int
) -> None:
    with a_desk(utility_cents=10_000, working_cents=7_000) as desk:
        body = {
            "Initiator": "testapi",
            "SecurityCredential": desk.simulator.security_credential(),
            "CommandID": command,
            "SenderIdentifierType": "4",
            "RecieverIdentifierType": "4",
            "Amount": kes,
            "PartyA": "600000",
            "PartyB": "600999",
            "AccountReference": "float",
            "Remarks": "float",
            "ResultURL": f"{desk.inbox.url}/topup",
            "QueueTimeOutURL": f"{desk.inbox.url}/timeout",
        }
        assert desk.post("/mpesa/b2b/v1/paymentrequest", body).json()["ResponseCode"] == "0"
        assert desk.inbox.results(1)[0]["ResultCode"] == code
        ledger = desk.ledger()
        assert (ledger["utility_cents"], ledger["working_cents"]) == (utility_cents, working_cents)
        assert ledger["payments"] == []


# --- Running ---------------------------------------------------------------------------------------------------------


def test_a_public_result_url_can_be_mapped_to_loopback() -> None:
    with a_desk() as outer:
        mapping = (("https://pay.example.org/", f"{outer.inbox.url}/"),)
        with a_desk(callback_map=mapping) as desk:
            assert desk.pay(ResultURL="https://pay.example.org/cb/1?a=b").status_code == 200
            outer.inbox.wait(1)
            assert outer.inbox.posts[0][0] == "/cb/1?a=b"


def test_results_go_to_this_machine_only_unless_the_simulator_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever may send a request names the host: a simulator that posts anywhere knocks at any door for them."""
    with a_desk(result_delay_seconds=(0.0, 0.0)) as desk:
        for host in ("192.0.2.7", "127.0.0.1.example.org", "localhost.example.org"):
            assert desk.pay(ResultURL=f"http://{host}:9/x").status_code == 200
        desk.all_posted()
        assert (desk.ledger()["results_posted"], desk.ledger()["results_undelivered"]) == (0, 3)
    assert "Nothing is posted to 192.0.2.7, which is not this machine." in caplog.text
    caplog.clear()
    with a_desk(post_anywhere=True, post_timeout_seconds=0.2) as desk:
        desk.pay(ResultURL="http://192.0.2.7:9/x")
        desk.all_posted()
    assert caplog.text == "", "it was tried"


def test_a_result_that_nobody_takes_is_dropped_and_the_money_stays_moved(desk: Desk) -> None:
    desk.pay(ResultURL="http://127.0.0.1:9/nobody")
    desk.pay(ResultURL=f"{desk.url}/no/such/place")
    desk.pay()
    desk.all_posted()
    ledger = desk.ledger()
    assert (len(ledger["payments"]), ledger["results_posted"], ledger["results_undelivered"]) == (3, 2, 1)
    assert ledger["results_accepted"] == 1, "an answer of 404 takes nothing"


def test_results_still_owed_at_the_stop_are_dropped_and_a_restart_remembers_everything() -> None:
    simulator = Simulator(SimulatorSettings(result_delay_seconds=(60.0, 60.0)))
    with a_desk() as other:
        bodies = [other.b2c(), other.b2c()]
        for body in bodies:
            with simulator.serving() as url, httpx.Client(base_url=url, trust_env=False) as http:
                desk = Desk(simulator, url, other.inbox, http)
                assert desk.post(V3, body).status_code == 200
                assert desk.post(V3, bodies[0]).status_code == 500 or body is bodies[0]
        ledger = simulator.ledger()
        assert isinstance(ledger["payments"], list)
        assert [one["originator_conversation_id"] for one in ledger["payments"]] == ["ks-test-1", "ks-test-2"]
        assert (ledger["results_posted"], ledger["results_dropped"], ledger["results_owed"]) == (0, 2, 0)
        assert other.inbox.posts == []


def test_the_core_can_be_called_without_a_server() -> None:
    simulator = Simulator(SimulatorSettings())
    basic = base64.b64encode(b"simulator-key:simulator-secret").decode()
    reply = simulator.gateway.handle(
        Request("GET", "/oauth/v1/generate", "grant_type=client_credentials", {"authorization": f"Basic {basic}"})
    )
    assert reply.status == 200
    assert simulator.ledger()["requests"] == 1


def test_the_control_paths_say_what_is_wrong(desk: Desk) -> None:
    assert desk.http.get("/_health").json() == {"ok": True}
    assert desk.http.get("/_nothing").status_code == 404
    for path, body, words in (
        ("/_top_up", b"{}", "amount_cents is a whole number above 0"),
        ("/_top_up", b'{"amount_cents": -1}', "amount_cents is a whole number above 0"),
        ("/_fault", b"[]", "the body is a JSON object"),
        ("/_fault", b'{"rules": 1}', "rules is a list of rules"),
        ("/_fault", b'{"rules": [{"fault": "gremlin"}]}', "there is no fault 'gremlin'; GET /_fault lists them"),
        ("/_fault", b'{"rules": [{"fault": "quota", "nth": 0}]}', "nth is a whole number from 1 on"),
        ("/_fault", b'{"rules": [{"fault": "quota", "often": 1}]}', "a rule has no field 'often'"),
        ("/_fault", b'{"rules": [{"fault": "quota", "probability": 2}]}', "probability is a number from 0 to 1"),
        ("/_fault", b'{"rules": [{"fault": "result_lost", "endpoint": "status"}]}', "cannot happen on status"),
    ):
        answer = desk.http.post(path, content=body)
        assert answer.status_code == 400
        assert words in answer.json()["error"]
    assert desk.http.get("/_fault").json()["rules"] == []
