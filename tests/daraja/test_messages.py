"""The wire: what is sent, what is understood, what is refused, and what is never kept."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasoko_cli.daraja import messages, redaction
from kasoko_cli.daraja.codes import Fate, judge_result, read_status
from kasoko_cli.daraja.messages import (
    Initiator,
    MalformedBody,
    Payment,
    ReplyUrls,
    Result,
    exact_cents,
    parse_acknowledgement,
    parse_result,
    party_phone,
    plain_text,
    read_json,
)
from kasoko_cli.daraja.redaction import redact, strip_credentials

#: A cryptogram as RSA-2048 makes it: 344 characters.
CREDENTIAL = "aB3+/" * 68 + "dE=="
INITIATOR = Initiator("opsapi", CREDENTIAL, "600999")
ASKED = ReplyUrls("https://pay.example.org/r", "https://pay.example.org/t")

#: Fields of a B2C request on v3, in the order of the portal's sample. `Occassion` has two c and two s here.
B2C_V3_FIELDS = (
    "OriginatorConversationID",
    "InitiatorName",
    "SecurityCredential",
    "CommandID",
    "Amount",
    "PartyA",
    "PartyB",
    "Remarks",
    "QueueTimeOutURL",
    "ResultURL",
    "Occassion",
)
#: Fields of a B2C request on v1: without an id of the caller's, and with the word as dictionaries spell it.
#: Source: Safaricom's node library, `src/endpoints/b2c.js`; the portal's sample for v3.
B2C_V1_FIELDS = (*B2C_V3_FIELDS[1:-1], "Occasion")
#: Fields of a status query. The user is `Initiator` here, and `Occasion` has one s.
STATUS_FIELDS = (
    "Initiator",
    "SecurityCredential",
    "CommandID",
    "TransactionID",
    "OriginalConversationID",
    "PartyA",
    "IdentifierType",
    "ResultURL",
    "QueueTimeOutURL",
    "Remarks",
    "Occasion",
)
#: Fields of a balance query.
BALANCE_FIELDS = (
    "Initiator",
    "SecurityCredential",
    "CommandID",
    "PartyA",
    "IdentifierType",
    "Remarks",
    "QueueTimeOutURL",
    "ResultURL",
)


def success(**changes: object) -> dict[str, Any]:
    """The success of the portal's B2C page, with made-up values."""
    envelope: dict[str, Any] = {
        "ResultType": 0,
        "ResultCode": 0,
        "ResultDesc": "The service request is processed successfully.",
        "OriginatorConversationID": "ks-7f3c1a528e4b4c099a612d5f0b7c1e90",
        "ConversationID": "AG_20261123_0100104k2m9x7c1v5b8n",
        "TransactionID": "UKN7A1B2C3",
        "ResultParameters": {
            "ResultParameter": [
                {"Key": "TransactionAmount", "Value": 1250},
                {"Key": "TransactionReceipt", "Value": "UKN7A1B2C3"},
                {"Key": "ReceiverPartyPublicName", "Value": "254700000001 - JANE DOE"},
                {"Key": "TransactionCompletedDateTime", "Value": "23.11.2026 14:05:09"},
                {"Key": "B2CUtilityAccountAvailableFunds", "Value": 98750.00},
                {"Key": "B2CWorkingAccountAvailableFunds", "Value": 0.00},
                {"Key": "B2CRecipientIsRegisteredCustomer", "Value": "Y"},
                {"Key": "B2CChargesPaidAccountAvailableFunds", "Value": -180.00},
            ]
        },
        "ReferenceData": {"ReferenceItem": {"Key": "QueueTimeoutURL", "Value": "https://internalapi.example/submit"}},
    }
    return {"Result": envelope | changes}


def parsed(**changes: object) -> Result:
    return parse_result(json.dumps(success(**changes)).encode())


def with_parameters(parameters: object) -> Result:
    return parsed(ResultParameters=parameters)


# --- Requests --------------------------------------------------------------------------------------------------------


def b2c(api: Literal["v1", "v3"] = "v3", **changes: Any) -> dict[str, Any]:
    said = Payment("ks-1", 125_000, "254700000001", "Market 42 payout", "m42")
    urls = ReplyUrls("https://pay.example.org/result", "https://pay.example.org/timeout")
    return messages.b2c_request(INITIATOR, replace(said, **changes), urls, command_id="BusinessPayment", api=api)


def test_a_payment_has_the_fields_of_the_portal_spelt_its_way() -> None:
    assert b2c() == {
        "OriginatorConversationID": "ks-1",
        "InitiatorName": "opsapi",
        "SecurityCredential": CREDENTIAL,
        "CommandID": "BusinessPayment",
        "Amount": 1250,
        "PartyA": "600999",
        "PartyB": "254700000001",
        "Remarks": "Market 42 payout",
        "QueueTimeOutURL": "https://pay.example.org/timeout",
        "ResultURL": "https://pay.example.org/result",
        "Occassion": "m42",
    }
    assert tuple(b2c()) == B2C_V3_FIELDS


def test_a_payment_on_v1_has_no_id_of_ours() -> None:
    request = b2c("v1")
    assert tuple(request) == B2C_V1_FIELDS
    assert request["Occasion"] == "m42", "a strict gateway of v1 refuses the spelling of v3"
    assert redaction.shown_request(request)["Occasion"] == "m42"


@pytest.mark.parametrize("cents", [0, -100, 1250, 99, 101])
def test_only_whole_positive_shillings_reach_the_wire(cents: int) -> None:
    with pytest.raises(AssertionError):
        b2c(wire_cents=cents)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("Market 42 - payout", "Market 42 - payout"),
        ("50% & more @ #1", "50 more 1"),
        ('a"b\\c\nd\te', "a b c d e"),
        ("Ünï cödé", "n c d"),
        ("x" * 200, "x" * 100),
        ("", ""),
    ],
)
def test_free_text_is_cut_to_what_m_pesa_is_known_to_take(text: str, sent: str) -> None:
    assert plain_text(text) == sent


def test_remarks_are_never_empty() -> None:
    assert b2c(remarks="@@@")["Remarks"] == "payout"
    assert "Occassion" not in b2c(occasion="&&&")


def test_a_status_query_names_the_payment_by_our_id_in_a_field_with_another_name() -> None:
    request = messages.status_request(INITIATOR, ASKED, attempt_id="ks-1", receipt="", remarks="q-1")
    assert tuple(request) == STATUS_FIELDS
    assert request["OriginalConversationID"] == "ks-1"
    assert request["Initiator"] == "opsapi"
    assert request["CommandID"] == "TransactionStatusQuery"
    assert request["IdentifierType"] == "4"


def test_a_balance_query_has_the_fields_of_the_portal() -> None:
    request = messages.balance_request(INITIATOR, ASKED, remarks="q-1")
    assert tuple(request) == BALANCE_FIELDS
    assert request["CommandID"] == "AccountBalance"


# --- Results ---------------------------------------------------------------------------------------------------------


def test_the_success_of_the_portal_is_understood() -> None:
    result = parsed()
    assert result.is_envelope
    assert result.result_type == "0"
    assert result.result_code == "0"
    assert result.originator_conversation_id == "ks-7f3c1a528e4b4c099a612d5f0b7c1e90"
    assert result.conversation_id == "AG_20261123_0100104k2m9x7c1v5b8n"
    assert result.amount_cents() == 125_000
    assert result.receipt() == "UKN7A1B2C3"
    assert not result.receipts_disagree
    assert result.receiver == "254700000001 - JANE DOE"
    assert result.receiver_phone() == "254700000001"
    assert result.completed_at() == datetime(2026, 11, 23, 11, 5, 9, tzinfo=UTC)
    assert result.cents("B2CUtilityAccountAvailableFunds") == 9_875_000


def test_the_order_of_parameters_does_not_matter() -> None:
    items = list(reversed(success()["Result"]["ResultParameters"]["ResultParameter"]))
    assert with_parameters({"ResultParameter": items}).parameters == parsed().parameters


@pytest.mark.parametrize(
    ("written", "understood"),
    [
        (0, "0"),
        ("0", "0"),
        (" 0 ", "0"),
        (2001, "2001"),
        ("2001", "2001"),
        ("SFC_IC0003", "SFC_IC0003"),
        (None, None),
        (False, None),
        (True, None),
        ([], None),
        ({}, None),
        ("", None),
        ("00", "00"),
        ("x" * 33, None),
    ],
)
def test_a_result_code_is_text_whatever_its_type_and_false_is_not_zero(written: object, understood: str | None) -> None:
    assert parsed(ResultCode=written).result_code == understood


def test_a_result_without_a_code_has_none() -> None:
    body = success()
    del body["Result"]["ResultCode"]
    assert parse_result(json.dumps(body).encode()).result_code is None


AMOUNT = {"Key": "TransactionAmount", "Value": 1250}


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"ResultParameter": [AMOUNT]}, id="a list"),
        pytest.param({"ResultParameter": AMOUNT}, id="a lone object"),
        pytest.param([AMOUNT], id="no inner name"),
        pytest.param({"ResultParameters": [AMOUNT]}, id="the same name twice"),
        pytest.param({"ResultParameter": {"ResultParameters": [AMOUNT]}}, id="names nested the other way round"),
        pytest.param(AMOUNT, id="a lone object without the inner name"),
        pytest.param({"ResultParameter": [None, 7, "x", [], {}, {"Value": 9}, AMOUNT]}, id="rubbish beside it"),
    ],
)
def test_parameters_are_found_in_every_shape(parameters: object) -> None:
    assert with_parameters(parameters).amount_cents() == 125_000


def test_parameters_are_found_when_the_two_names_are_swapped() -> None:
    body = success()
    body["Result"]["ResultParameter"] = {"ResultParameters": body["Result"].pop("ResultParameters")["ResultParameter"]}
    assert parse_result(json.dumps(body).encode()).amount_cents() == 125_000


@pytest.mark.parametrize("parameters", [None, "", [], {}, 7, {"ResultParameter": None}, {"ResultParameter": ""}])
def test_no_parameters_are_no_parameters(parameters: object) -> None:
    result = with_parameters(parameters)
    assert dict(result.parameters) == {}
    assert result.amount_cents() is None
    assert result.receiver_phone() is None
    assert result.completed_at() is None


def test_absent_parameters_and_references_are_tolerated() -> None:
    body = success()
    del body["Result"]["ResultParameters"], body["Result"]["ReferenceData"]
    result = parse_result(json.dumps(body).encode())
    assert dict(result.parameters) == {}
    assert result.receipt() == "UKN7A1B2C3"


@pytest.mark.parametrize(
    "reference",
    [None, [], {"ReferenceItem": [{"Key": "Occassion"}]}, {"ReferenceItem": {"Key": "Occasion"}}, "x", 3],
)
def test_reference_data_of_any_shape_changes_nothing(reference: object) -> None:
    assert parsed(ReferenceData=reference) == parsed()


def test_an_item_without_a_value_is_there_and_says_nothing() -> None:
    result = with_parameters({"ResultParameter": [{"Key": "TransactionReason"}, AMOUNT]})
    assert result.parameters["TransactionReason"] is None
    assert result.text("TransactionReason") is None


def test_a_value_with_parts_says_nothing() -> None:
    result = with_parameters({"ResultParameter": {"Key": "CreditPartyName", "Value": {"Name": "x"}}})
    assert result.parameters["CreditPartyName"] is None


def test_a_parameter_that_comes_twice_with_two_values_is_not_answered() -> None:
    result = with_parameters({"ResultParameter": [AMOUNT, {"Key": "TransactionAmount", "Value": 9}]})
    assert result.amount_cents() is None
    assert result.contradicted["TransactionAmount"] == (1250, 9)


def test_a_parameter_that_comes_twice_with_one_value_is_answered() -> None:
    assert with_parameters({"ResultParameter": [AMOUNT, AMOUNT]}).amount_cents() == 125_000


def test_two_different_receipts_are_no_receipt() -> None:
    result = with_parameters(
        [{"Key": "TransactionReceipt", "Value": "UKN7A1B2C3"}, {"Key": "TransactionReceipt", "Value": "UKN7A1B2C4"}]
    )
    assert result.receipt() is None
    assert result.receipts_disagree


def test_the_2017_keys_with_spaces_are_understood() -> None:
    body = success()
    body["Result"]["Conversation ID"] = body["Result"].pop("ConversationID")
    body["Result"]["Originator Conversation ID"] = body["Result"].pop("OriginatorConversationID")
    assert parse_result(json.dumps(body).encode()) == parsed()


def test_the_2017_keys_with_spaces_are_understood_among_the_parameters_too() -> None:
    parts = [
        {"Key": "Conversation ID", "Value": "AG_20170727_00004492b1b6d0078fbe"},
        {"Key": "Originator Conversation ID", "Value": "19455-773836-1"},
        {"Key": "Receipt No", "Value": "LGR919G2AV"},
    ]
    body = success()
    del body["Result"]["ResultParameters"]
    body["Result"]["Result Parameters"] = {"ResultParameter": parts}
    answer = read_status(parse_result(json.dumps(body).encode()))
    assert answer.conversation_id == "AG_20170727_00004492b1b6d0078fbe"
    assert answer.originator_conversation_id == "19455-773836-1"
    assert answer.receipt == "LGR919G2AV"


def test_one_key_in_two_spellings_with_two_values_is_no_value() -> None:
    parts = [{"Key": "ReceiptNo", "Value": "UKN7A1B2C3"}, {"Key": "Receipt No", "Value": "UKN7A1B2C4"}]
    result = with_parameters({"ResultParameter": parts})
    assert result.text("ReceiptNo") is None
    assert result.contradicted["ReceiptNo"] == ("UKN7A1B2C3", "UKN7A1B2C4")


def test_a_name_in_another_encoding_leaves_everything_that_is_measured_readable() -> None:
    """A core that sends one Latin-1 letter has paid all the same."""
    whole = parse_result(json.dumps(success()).encode())
    damaged = parse_result(json.dumps(success()).encode().replace(b"JANE DOE", b"JOS\xc9 DOE"))
    assert damaged.receiver == "254700000001 - JOS\N{REPLACEMENT CHARACTER} DOE"
    assert damaged.receiver_phone() == whole.receiver_phone() == "254700000001"
    assert (damaged.receipt(), damaged.amount_cents()) == (whole.receipt(), whole.amount_cents())
    assert damaged.originator_conversation_id == whole.originator_conversation_id
    assert damaged.conversation_id == whole.conversation_id
    assert judge_result(damaged).fate is Fate.PAID


def test_a_byte_in_the_number_of_a_receiver_is_no_number() -> None:
    result = parse_result(json.dumps(success()).encode().replace(b"254700000001 -", b"25470000\xff001 -"))
    assert result.receiver_phone() is None


@pytest.mark.parametrize(
    ("whole", "damaged", "what"),
    [
        (b'"AG_1"', b'"AG\xa01"', "its ConversationID is not UTF-8 text"),
        (b'"ks-1"', b'"ks\xad1"', "its OriginatorConversationID is not UTF-8 text"),
        (b'"UKN7A1B2C3"', b'"UKN7A1B2C\xb3"', "its Transaction(ID|Receipt) is not UTF-8 text"),
        (b'"1250.00"', b'"1250\xb700"', "its TransactionAmount is not UTF-8 text"),
        (b'"0"', b'"0\xff"', "its ResultCode is not UTF-8 text"),
        (b'"23.11.2026', b'"2\xb3.11.2026', "its TransactionCompletedDateTime is not UTF-8 text"),
        (b'"ResultDesc"', b'"ResultDes\xe7"', "the name of a field is not UTF-8 text"),
        (b'"TransactionAmount"', b'"TransactionAmoun\xfe"', "its Key is not UTF-8 text"),
        (b'{"Result"', b'\xff{"Result"', "not UTF-8 text"),
    ],
)
def test_a_byte_that_is_not_utf_8_in_what_is_measured_makes_a_body_unreadable(
    whole: bytes, damaged: bytes, what: str
) -> None:
    body = json.dumps(
        {
            "Result": {
                "ResultCode": "0",
                "ResultDesc": "x",
                "OriginatorConversationID": "ks-1",
                "ConversationID": "AG_1",
                "TransactionID": "UKN7A1B2C3",
                "ResultParameters": {
                    "ResultParameter": [
                        {"Key": "TransactionAmount", "Value": "1250.00"},
                        {"Key": "TransactionReceipt", "Value": "UKN7A1B2C3"},
                        {"Key": "TransactionCompletedDateTime", "Value": "23.11.2026 14:05:09"},
                    ]
                },
            }
        }
    ).encode()
    assert parse_result(body).receipt() == "UKN7A1B2C3"
    assert whole in body
    with pytest.raises(MalformedBody, match=f"^{what}$"):
        parse_result(body.replace(whole, damaged))


def test_the_misspelt_originator_id_is_understood() -> None:
    body = success()
    body["Result"]["OriginatorCoversationID"] = body["Result"].pop("OriginatorConversationID")
    assert parse_result(json.dumps(body).encode()) == parsed()


def test_two_spellings_with_two_ids_are_refused() -> None:
    with pytest.raises(MalformedBody, match="two different values of OriginatorConversationID"):
        parsed(OriginatorCoversationID="ks-other")


def test_an_id_of_digits_that_came_back_as_a_number_is_text_again() -> None:
    result = parsed(OriginatorConversationID=353353, TransactionID=12345678901234)
    assert result.originator_conversation_id == "353353"
    assert result.transaction_id == "12345678901234"


def test_escaped_slashes_are_plain_json() -> None:
    body = json.dumps(success()).replace("/", "\\/").encode()
    assert parse_result(body) == parsed()


def test_a_14_digit_time_keeps_its_digits() -> None:
    result = with_parameters([{"Key": "BOCompletedTime", "Value": 20261006093245}])
    assert result.text("BOCompletedTime") == "20261006093245"


def test_a_real_looking_id_on_a_failure_is_no_parameter() -> None:
    """The 2001 of the portal: a TransactionID that looks real, and no money moved."""
    result = parse_result(
        b'{"Result":{"ResultType":0,"ResultCode":2001,"ResultDesc":"The initiator information is invalid.",'
        b'"OriginatorConversationID":"ks-1","ConversationID":"AG_1","TransactionID":"UKN7D4E5F6"}}'
    )
    assert result.result_code == "2001"
    assert result.text("TransactionReceipt") is None


@pytest.mark.parametrize(
    ("stated", "transaction_id", "receipt", "disagree"),
    [
        ("UKN7A1B2C3", "UKN7A1B2C3", "UKN7A1B2C3", False),
        ("UKN7A1B2C3", "UKN0000000", "UKN7A1B2C3", False),
        ("UKN7A1B2C3", "", "UKN7A1B2C3", False),
        ("UKN7A1B2C3", "UKN7A1B2C4", "UKN7A1B2C3", True),
        ("UKN0000000", "UKN7A1B2C3", None, True),
        (None, "UKN7A1B2C3", "UKN7A1B2C3", False),
        (None, "UKN0000000", None, False),
        (None, "", None, False),
        (None, "ukn7a1b2c3", None, False),
        (None, "UKN7A1B2C", None, False),
        ("MOCK12345", "", "MOCK12345", False),
        ("a receipt", "UKN7A1B2C3", None, True),
        ("ukn7a1b2c3", "UKN7A1B2C3", "UKN7A1B2C3", False),
    ],
)
def test_a_receipt_is_believed_under_its_own_key_or_if_it_looks_like_one(
    stated: str | None, transaction_id: str, receipt: str | None, disagree: bool
) -> None:
    items = [] if stated is None else [{"Key": "TransactionReceipt", "Value": stated}]
    result = parsed(ResultParameters={"ResultParameter": items}, TransactionID=transaction_id)
    assert result.receipt() == receipt
    assert result.receipts_disagree is disagree


@pytest.mark.parametrize(
    ("value", "cents"),
    [
        (10, 1000),
        (Decimal("1250.00"), 125_000),
        (Decimal("0.5"), 50),
        ("300", 30_000),
        ("22000.0", 2_200_000),
        (" 12.34 ", 1234),
        (Decimal("10.005"), None),
        (Decimal("10.00000000000000000000000000000000001"), None),
        ("10.001", None),
        (-180, None),
        ("-1", None),
        ("1,250.00", None),
        ("1e3", None),
        ("", None),
        ("\u0661", None),
        (True, None),
        (None, None),
        (2**63 - 1, (2**63 - 1) * 100),
    ],
)
def test_an_amount_is_exact_cents_or_nothing(value: str | int | Decimal | bool | None, cents: int | None) -> None:
    assert exact_cents(value) == cents


@pytest.mark.parametrize(
    ("party", "phone"),
    [
        ("254700000001 - JANE DOE", "254700000001"),
        ("0700000001 - JANE DOE ", "254700000001"),
        ("0110000001 -  JANE  DOE", "254110000001"),
        ("254700000001 \u2013 JANE", "254700000001"),
        ("+254700000001", "254700000001"),
        ("600999 - Example Markets", None),
        ("2547 ***** 126 - JANE", None),
        ("2547****0111 - JANE", None),
        ("", None),
        (None, None),
    ],
)
def test_a_party_text_gives_its_phone_or_nothing(party: str | None, phone: str | None) -> None:
    assert party_phone(party) == phone


# --- The queue timeout -----------------------------------------------------------------------------------------------


def test_our_own_request_posted_back_is_no_result() -> None:
    """As an engineer of Safaricom's told another team: the queue timeout's body is the request itself."""
    result = parse_result(json.dumps(b2c()).encode())
    assert not result.is_envelope
    assert result.originator_conversation_id == "ks-1"
    assert result.result_code is None
    assert dict(result.parameters) == {}


def test_a_flat_body_never_has_a_code_even_if_it_says_zero() -> None:
    body = {"OriginatorConversationID": "ks-1", "ResultCode": 0, "ResultType": 0, "TransactionID": "UKN7A1B2C3"}
    result = parse_result(json.dumps(body).encode())
    assert not result.is_envelope
    assert result.result_code is None
    assert result.receipt() is None


@pytest.mark.parametrize(
    ("kind", "code"), [(1, 1), (0, 0), (1, 0)], ids=["type 1 code 1", "code 0", "type 1 that says code 0"]
)
def test_a_timeout_in_an_envelope_keeps_its_type(kind: int, code: int) -> None:
    result = parsed(ResultType=kind, ResultCode=code, TransactionID="", ResultParameters=None)
    assert result.result_type == str(kind)
    assert result.result_code == str(code)
    assert result.receipt() is None


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"<html>", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{", "not UTF-8 text"),
        (b"[]", "not a JSON object"),
        (b'"Result"', "not a JSON object"),
        (b"{}", "it has neither a Result nor an id of a request"),
        (b'{"Body":{"stkCallback":{}}}', "it has neither a Result nor an id of a request"),
        (b'{"Result":[]}', "its Result is not an object"),
        (b'{"Result":null,"OriginatorConversationID":"ks-1"}', "its Result is not an object"),
        (b'{"Result":{"ResultCode":0,"ResultCode":1}}', "an object has the same key twice"),
        (b'{"Result":{"ResultCode":NaN}}', "NaN is not a number"),
        (b'{"Result":{"ResultCode":Infinity}}', "Infinity is not a number"),
        (b'{"Result":{"ResultCode":-Infinity}}', "-Infinity is not a number"),
        (b'{"Result":{"ResultCode":1e400}}', "a number is past 64 bits"),
        (b'{"Result":{"ResultCode":0e400}}', "a number is past 64 bits"),
        (b'{"Result":{"ResultCode":1e-400}}', "a number is past 64 bits"),
        (b'{"Result":{"ResultCode":1e999999999999999999}}', "a number is past 64 bits"),
        (b'{"Result":{"ResultCode":9223372036854775808}}', "a number is past 64 bits"),
        (b'{"Result":{"ResultCode":-9223372036854775809}}', "a number is past 64 bits"),
        (b'{"Result":{"ResultCode":' + b"9" * 5000 + b"}}", "a number is past 64 bits"),
        (b'{"Result":{"ResultCode":0.' + b"0" * 5000 + b"}}", "a number is past 64 bits"),
        (b'{"Result":{"ResultDesc":"\\ud800"}}', "a text has half of a surrogate pair"),
        (b'{"Result":{"\\udfff":1}}', "a text has half of a surrogate pair"),
        (b'{"Result":{"ResultDesc":"a\\u0000b"}}', "a text has a NUL character"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested too deeply"),
        (b"[" * 30_000, "nested too deeply"),
        (b'{"Result":{"ConversationID":"' + b"x" * 200 + b'"}}', "its ConversationID is longer than 128 characters"),
        (b" " * 65_537, "longer than 65536 bytes"),
    ],
)
def test_what_m_pesa_never_sends_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedBody) as refused:
        parse_result(body)
    assert refused.value.reason == reason


def test_a_byte_order_mark_and_a_whole_surrogate_pair_are_fine() -> None:
    body = b"\xef\xbb\xbf" + json.dumps(success(ResultDesc="\U0001f600")).encode()
    assert parse_result(body).result_desc == "\U0001f600"


def test_the_largest_64_bit_numbers_are_read() -> None:
    assert read_json(b"[9223372036854775807,-9223372036854775808]") == [2**63 - 1, -(2**63)]


def test_numbers_with_a_point_are_exact() -> None:
    assert read_json(b"[0.1,1250.00]") == [Decimal("0.1"), Decimal("1250.00")]


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "Result",
                    "ResultParameters",
                    "ResultParameter",
                    "Key",
                    "Value",
                    "ResultCode",
                    "ResultType",
                    "ConversationID",
                    "TransactionID",
                    "OriginatorConversationID",
                    "ResultDesc",
                    "SecurityCredential",
                    "errorCode",
                    "ResponseCode",
                    "fault",
                    "detail",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)


def exercise(body: bytes) -> None:
    """Whatever the bytes: a result whose every helper answers, or MalformedBody; and a body without credentials."""
    strip_credentials(body)
    for parse in (parse_result, parse_acknowledgement):
        try:
            found = parse(body)
        except MalformedBody:
            continue
        if isinstance(found, Result):
            repr(found)
            for ask in (found.amount_cents, found.receipt, found.receiver_phone, found.completed_at):
                ask()
            assert found.receipts_disagree in (True, False)
            assert found.result_code is None or found.is_envelope


@settings(max_examples=300, derandomize=True, deadline=None)
@given(anything)
def test_any_json_is_a_result_or_malformed(value: Any) -> None:
    exercise(json.dumps(value).encode())


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,\\0eE.-u ', max_size=80).map(str.encode))
def test_any_bytes_are_a_result_or_malformed(body: bytes) -> None:
    exercise(body)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(anything, st.integers(0, 400), st.binary(max_size=3))
def test_a_damaged_result_is_a_result_or_malformed(value: Any, at: int, damage: bytes) -> None:
    body = json.dumps(success(Extra=value)).encode()
    exercise(body[:at] + damage + body[at + len(damage) :])


# --- Acknowledgements ------------------------------------------------------------------------------------------------


def test_an_acknowledgement_has_its_ids_under_either_spelling() -> None:
    found = parse_acknowledgement(
        b'{"ConversationID":"AG_1","OriginatorCoversationID":"ks-1","ResponseCode":"0","ResponseDescription":"ok"}'
    )
    assert (found.response_code, found.conversation_id, found.originator_conversation_id) == ("0", "AG_1", "ks-1")
    assert found.error_code is None


def test_an_error_has_its_code_and_text() -> None:
    found = parse_acknowledgement(b'{"requestId":null,"errorCode":"400.002.02","errorMessage":"Bad Request"}')
    assert (found.error_code, found.error_message, found.response_code) == ("400.002.02", "Bad Request", None)


def test_a_fault_in_the_gateways_own_form_has_its_code_and_text() -> None:
    found = parse_acknowledgement(
        b'{"fault":{"faultstring":"Spike arrest violation.","detail":{"errorcode":"policies.ratelimit.x"}}}'
    )
    assert (found.error_code, found.error_message) == ("policies.ratelimit.x", "Spike arrest violation.")


# --- Secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(json.dumps(b2c()).encode(), id="our request"),
        pytest.param(json.dumps({"Result": {"Echo": [b2c()]}}).encode(), id="nested"),
        pytest.param(json.dumps({"securityCredential": CREDENTIAL}).encode(), id="other case"),
        pytest.param(json.dumps({"Security Credential": CREDENTIAL}).encode(), id="with a space"),
        pytest.param(json.dumps({"security_credential": CREDENTIAL}).encode(), id="with an underscore"),
        pytest.param(b'{"Security\\u0043redential":"' + CREDENTIAL.encode() + b'"}', id="escaped name"),
        pytest.param(json.dumps({"SecurityCredential": [CREDENTIAL]}).encode(), id="in a list"),
        pytest.param(json.dumps({"SecurityCredential": {"a": {"b": CREDENTIAL}}}).encode(), id="in an object"),
        pytest.param(json.dumps({"Item": {"Key": "x", "Value": CREDENTIAL}}).encode(), id="under another name"),
        pytest.param(json.dumps(b2c()).encode()[:-200], id="cut off"),
        pytest.param(b'{"SecurityCredential":"' + CREDENTIAL.encode(), id="never ending"),
        pytest.param(json.dumps({"echo": json.dumps(b2c())}).encode(), id="JSON in a string"),
        pytest.param(b"SecurityCredential=" + CREDENTIAL.encode() + b"&Amount=10", id="a form"),
        pytest.param(b"<SecurityCredential>" + CREDENTIAL.encode() + b"</SecurityCredential>", id="XML"),
        pytest.param(json.dumps(b2c()).encode("utf-16"), id="UTF-16"),
        pytest.param(b"\x00" + json.dumps(b2c()).encode(), id="a NUL in front"),
        pytest.param(b"\xff\xfe" + json.dumps(b2c()).encode(), id="a wrong mark in front"),
        pytest.param(json.dumps(b2c()).replace("/", "\\/").encode(), id="escaped slashes"),
        pytest.param(
            b'{"SecurityCredential":"'
            + CREDENTIAL.encode()
            + b'","SecurityCredential":"'
            + CREDENTIAL.encode()
            + b'"}',
            id="twice",
        ),
    ],
)
def test_no_credential_survives_whatever_the_shape(body: bytes) -> None:
    stripped = strip_credentials(body)
    kept = stripped + stripped.replace(b"\x00", b"") + stripped.replace(b"\\/", b"/")
    for start in range(0, len(CREDENTIAL) - 20, 10):
        assert CREDENTIAL[start : start + 20].encode() not in kept
    assert b"removed" in stripped.replace(b"\x00", b"")
    assert strip_credentials(stripped) == stripped


def test_a_short_credential_goes_by_its_name() -> None:
    body = b'{"Amount": 10,  "SecurityCredential" : "abc" , "Remarks":"x"}'
    assert strip_credentials(body) == b'{"Amount": 10,  "SecurityCredential" : "[removed]" , "Remarks":"x"}'


@pytest.mark.parametrize(
    "name", ["SecurityCredential", "password", "access_token", "Consumer Key", "consumerSecret", "Authorization"]
)
def test_each_name_of_a_secret_is_seen_in_a_short_plain_body(name: str) -> None:
    body = b'{"Result": {"%s": "S3cretValue99", "Amount": 10}}' % name.encode()
    assert strip_credentials(body) == b'{"Result": {"%s": "[removed]", "Amount": 10}}' % name.encode()


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(success(), indent=1).encode(),
        b'{"a":1,"a":2}',
        b"\xff\x00\xfe",
        b"",
        b"<html>Incapsula incident</html>",
        b'{"ResultDesc":"The security credential is locked."}',
        b'{"ResultDesc":"wrong username, password, algorithm or certificate"}',
    ],
)
def test_a_body_without_credentials_is_kept_byte_for_byte(body: bytes) -> None:
    assert strip_credentials(body) == body


@pytest.mark.parametrize(
    "body", [b'"' + b'\\"' * 32_000, b'"x":' * 16_000, b'{"password":' * 5_000, b"password=" * 7_000]
)
def test_hostile_bodies_are_stripped_in_no_time(body: bytes) -> None:
    started = datetime.now(UTC)
    strip_credentials(body)
    assert (datetime.now(UTC) - started).total_seconds() < 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Error Occurred - Invalid Access Token - Ab3dE6gH9jK2", "Error Occurred - Invalid Access Token - [removed]"),
        ("Invalid Access Token", "Invalid Access Token"),
        ("Authorization: Bearer Ab3dE6gH9jK2mN5p", "Authorization: Bearer [removed]"),
        ("Basic a2V5OnNlY3JldA==", "Basic [removed]"),
        ('{"access_token": "Ab3dE6gH9", "expires_in": "3599"}', '{"access_token": "[removed]", "expires_in": "3599"}'),
        (
            "https://pay.example.org/api/payments/b2c-callback/ks-12ab/" + "0af1" * 8,
            "https://pay.example.org/api/payments/b2c-callback/ks-12ab/[removed]",
        ),
        ("no access token: cannot connect", "no access token: cannot connect"),
        ("paid 254712345678 at 20261123140505", "paid 2547****5678 at 20261123140505"),
    ],
)
def test_nothing_secret_is_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_result_names_nobody_in_its_repr() -> None:
    shown = repr(parsed(ResultDesc="sent to 254700000001"))
    assert "254700000001" not in shown
    assert "JANE" not in shown
    assert "ks-7f3c1a528e4b4c099a612d5f0b7c1e90" in shown
