"""Codes and texts: each line of the tables, and what stands in none of them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasoko_cli.daraja import codes
from kasoko_cli.daraja.codes import (
    RESULT_RULES,
    Fate,
    StatusFate,
    Verdict,
    Who,
    judge_result,
    lookup,
    read_status,
    sort_answer,
    sort_token_answer,
)
from kasoko_cli.daraja.messages import Result, parse_result


def error(code: str | None, message: str, **more: object) -> bytes:
    body: dict[str, object] = {"requestId": "1-2-3", "errorMessage": message} | more
    if code is not None:
        body["errorCode"] = code
    return json.dumps(body).encode()


TAKEN = json.dumps(
    {
        "ConversationID": "AG_20261123_0100104k2m9x7c1v5b8n",
        "OriginatorConversationID": "ks-1",
        "ResponseCode": "0",
        "ResponseDescription": "Accept the service request successfully.",
    }
).encode()

# --- Answers ---------------------------------------------------------------------------------------------------------


def test_response_code_zero_is_taken_with_its_ids() -> None:
    answer = sort_answer(200, TAKEN)
    assert answer.verdict is Verdict.TAKEN
    assert answer.acknowledgement.conversation_id == "AG_20261123_0100104k2m9x7c1v5b8n"
    assert answer.acknowledgement.originator_conversation_id == "ks-1"


def test_response_code_zero_as_a_number_is_taken() -> None:
    assert sort_answer(201, b'{"ResponseCode":0}').verdict is Verdict.TAKEN


@pytest.mark.parametrize(
    ("http", "code", "message", "verdict"),
    [
        (400, "400.002.02", "Bad Request - Invalid PartyB", Verdict.REFUSED),
        (400, "400.002.02", "Bad Request - Invalid Amount", Verdict.REFUSED),
        (400, "400.002.02", "Bad Request - Invalid Remarks", Verdict.REFUSED),
        (400, "400.002.02", "Bad Request - Invalid Occassion", Verdict.REFUSED),
        (400, "400.002.02", "Bad Request - Invalid OriginatorConversationID", Verdict.REFUSED),
        (400, "400.002.02", "Bad Request - Invalid InitiatorName", Verdict.ACCOUNT),
        (400, "400.002.02", "Bad Request - Invalid SecurityCredential", Verdict.ACCOUNT),
        (400, "400.002.02", "Bad Request - Invalid PartyA", Verdict.ACCOUNT),
        (400, "400.002.02", "Bad Request - Invalid CommandID", Verdict.ACCOUNT),
        (400, "400.002.02", "Bad Request - Invalid ResultURL", Verdict.ACCOUNT),
        (400, "400.002.02", "Bad Request - Invalid QueueTimeOutURL", Verdict.ACCOUNT),
        (400, "400.002.02", "Bad Request", Verdict.ACCOUNT),
        (400, None, "Threat Detected", Verdict.ACCOUNT),
        (400, "400.002.02", "Threat Detected", Verdict.ACCOUNT),
        (400, "400.002.05", "Invalid Request Payload", Verdict.REFUSED),
        (400, "400.003.02", "Bad Request", Verdict.REFUSED),
        (400, "400.003.01", "Invalid Access Token", Verdict.NOT_SENT),
        (401, "401.002.01", "Error Occurred - Invalid Access Token - Ab3dE6", Verdict.NOT_SENT),
        (401, "401.001", "Invalid Access Token", Verdict.NOT_SENT),
        (404, "404.001.03", "Invalid Access Token", Verdict.NOT_SENT),
        (404, "404.001.04", "Invalid Authentication Header", Verdict.ACCOUNT),
        (404, "404.001.01", "Resource not found", Verdict.ACCOUNT),
        (404, "404.002.01", "Resource not found", Verdict.ACCOUNT),
        (404, "404.003.01", "Resource not found", Verdict.ACCOUNT),
        (405, "405.001", "Method Not Allowed", Verdict.ACCOUNT),
        (500, "500.003.02", "Error Occurred: Spike Arrest Violation", Verdict.NOT_SENT),
        (500, "500.003.02", "System is busy. Please try again in few minutes.", Verdict.NOT_SENT),
        (500, "500.003.02", "something else", Verdict.UNKNOWN),
        (500, "500.003.03", "Error Occurred: Quota Violation", Verdict.NOT_SENT),
        (500, "500.003.03", "something else", Verdict.UNKNOWN),
        (500, "500.002.1001", "Duplicate OriginatorConversationID.", Verdict.DUPLICATE),
        (500, "500.002.1001", "System internal error.", Verdict.UNKNOWN),
        (500, "500.002.1001", "Service is currently under maintenance. Please try again later", Verdict.UNKNOWN),
        (500, "00.002.1001", "Service is currently under maintenance.", Verdict.UNKNOWN),
        (500, "500.001.1001", "Merchant does not exist", Verdict.ACCOUNT),
        (500, "500.001.1001", "Wrong credentials", Verdict.ACCOUNT),
        (500, "500.001.1001", "Unable to lock subscriber, a transaction is already in process", Verdict.UNKNOWN),
        (500, "500.001.1001", "[MpesaCB - ]The service encountered an internal error", Verdict.UNKNOWN),
        (500, "500.001.1001", "", Verdict.UNKNOWN),
        (500, "500.003.1001", "Internal Server Error", Verdict.UNKNOWN),
        (500, "500.003.1001", "Service is currently unreachable. Please try again later.", Verdict.UNKNOWN),
        (500, None, "Service is temporarily unavailable", Verdict.UNKNOWN),
        (401, None, "Unauthorized", Verdict.NOT_SENT),
        (429, "429.001", "Too many requests", Verdict.NOT_SENT),
        (429, None, "Too many requests", Verdict.NOT_SENT),
        (403, "401.002.01", "Invalid API call as no apiproduct match found", Verdict.ACCOUNT),
        (400, "400.999.99", "a code that nobody knows", Verdict.UNKNOWN),
        (503, "503.001", "whatever", Verdict.UNKNOWN),
    ],
)
def test_each_error_has_its_verdict(http: int, code: str | None, message: str, verdict: Verdict) -> None:
    answer = sort_answer(http, error(code, message))
    assert answer.verdict is verdict
    assert answer.meaning
    assert answer.advice
    assert answer.code == (code or str(http))
    assert answer.text == message


@pytest.mark.parametrize("http", [200, 201, 202, 400, 500])
def test_an_error_code_counts_whatever_the_http_status(http: int) -> None:
    """A mock of a production system answers errors under 200 and 201."""
    answer = sort_answer(http, error("401.002.01", "Invalid Access Token"))
    assert answer.verdict is Verdict.NOT_SENT
    assert answer.token_refused


@pytest.mark.parametrize(
    ("code", "message"), [("400.002.02", "Invalid PartyB"), ("500.003.02", "Spike arrest"), ("404.001.04", "header")]
)
def test_only_a_refused_token_asks_for_a_new_one(code: str, message: str) -> None:
    assert not sort_answer(400, error(code, message)).token_refused


@pytest.mark.parametrize(
    ("http", "body"),
    [
        pytest.param(200, b"", id="empty 200"),
        pytest.param(200, b"<html>login</html>", id="HTML 200"),
        pytest.param(200, b"{}", id="no code at all"),
        pytest.param(200, b"[]", id="a list"),
        pytest.param(200, b'{"ResponseCode":null}', id="a null code"),
        pytest.param(200, b'{"ResponseCode":false}', id="false is not zero"),
        pytest.param(200, b'{"ResponseCode":"00000000"}', id="eight zeros"),
        pytest.param(200, b'{"ResponseCode":"0","ResponseCode":"1"}', id="two codes"),
        pytest.param(500, TAKEN, id="taken under 500"),
        pytest.param(302, TAKEN, id="taken under a redirect"),
        pytest.param(302, b"", id="a redirect"),
        pytest.param(500, b"", id="empty 500"),
        pytest.param(502, b"<html>Bad gateway</html>", id="HTML 502"),
        pytest.param(503, b"<html>Incapsula incident ID: 1</html>", id="WAF"),
        pytest.param(403, b"<html>Forbidden</html>", id="HTML 403"),
        pytest.param(401, b"<html>login</html>", id="HTML 401"),
        pytest.param(404, b"<html>nginx</html>", id="HTML 404"),
        pytest.param(200, b'{"Envelope":{"Body":{"Fault":{"faultcode":"x"}}}}', id="SOAP fault under 200"),
        pytest.param(500, b'{"Envelope":{"Body":{"Fault":{"faultcode":"x"}}}}', id="SOAP fault under 500"),
        pytest.param(200, b'{"ResponseCode":"0","errorCode":"400.002.02","errorMessage":"Invalid PartyB"}', id="both"),
        pytest.param(200, TAKEN[:40], id="cut off"),
        pytest.param(200, b" " * 300_000, id="too long"),
    ],
)
def test_what_cannot_be_understood_is_unknown(http: int, body: bytes) -> None:
    assert sort_answer(http, body).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(("http", "body"), [(401, b""), (429, b""), (429, b"<html>slow down</html>")])
def test_an_empty_401_and_any_429_are_refusals_by_nature(http: int, body: bytes) -> None:
    assert sort_answer(http, body).verdict is Verdict.NOT_SENT


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("18", Verdict.ACCOUNT),
        ("20", Verdict.ACCOUNT),
        ("21", Verdict.ACCOUNT),
        ("22", Verdict.ACCOUNT),
        ("23", Verdict.ACCOUNT),
        ("24", Verdict.REFUSED),
        ("25", Verdict.REFUSED),
        ("29", Verdict.REFUSED),
        ("100000005", Verdict.REFUSED),
        ("100000010", Verdict.ACCOUNT),
        ("100000011", Verdict.NOT_SENT),
        ("100000000", Verdict.UNKNOWN),
        ("100000001", Verdict.UNKNOWN),
        ("100000002", Verdict.UNKNOWN),
        ("100000004", Verdict.UNKNOWN),
        ("100000007", Verdict.UNKNOWN),
        ("100000009", Verdict.UNKNOWN),
        ("1", Verdict.UNKNOWN),
        ("17", Verdict.UNKNOWN),
        ("15", Verdict.UNKNOWN),
    ],
)
def test_another_response_code_under_200_is_a_refusal_only_by_its_nature(code: str, verdict: Verdict) -> None:
    body = json.dumps({"ResponseCode": code, "ResponseDescription": "x"}).encode()
    assert sort_answer(200, body).verdict is verdict
    assert sort_answer(500, body).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("code", "text", "verdict", "token_refused"),
    [
        (
            "policies.ratelimit.SpikeArrestViolation",
            "Spike arrest violation. Allowed rate : 5ps",
            Verdict.NOT_SENT,
            False,
        ),
        ("policies.ratelimit.QuotaViolation", "Rate limit quota violation.", Verdict.NOT_SENT, False),
        ("keymanagement.service.access_token_expired", "Access Token expired", Verdict.NOT_SENT, True),
        ("keymanagement.service.invalid_access_token", "Invalid Access Token", Verdict.NOT_SENT, True),
        (
            "keymanagement.service.InvalidAPICallAsNoApiProductMatchFound",
            "Invalid API call as no apiproduct match found",
            Verdict.ACCOUNT,
            False,
        ),
        ("messaging.adaptors.http.flow.GatewayTimeout", "Gateway Timeout", Verdict.UNKNOWN, False),
    ],
)
def test_faults_in_the_gateways_own_form(code: str, text: str, verdict: Verdict, token_refused: bool) -> None:
    body = json.dumps({"fault": {"faultstring": text, "detail": {"errorcode": code}}}).encode()
    answer = sort_answer(504 if verdict is Verdict.UNKNOWN else 401, body)
    assert (answer.verdict, answer.token_refused) == (verdict, token_refused)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.integers(100, 599), st.text(max_size=20) | st.none(), st.text(max_size=40))
def test_an_error_never_counts_as_taken(http: int, code: str | None, message: str) -> None:
    assert sort_answer(http, error(code, message)).verdict is not Verdict.TAKEN


def test_every_line_of_the_answer_tables_says_where_it_is_from() -> None:
    for rule in (*codes.ANSWER_RULES, *codes.RESPONSE_RULES):
        assert rule.source
        assert rule.meaning
        assert rule.advice
        assert rule.code or rule.text
        assert rule.verdict is not Verdict.TAKEN
        assert not rule.token_refused or rule.verdict is Verdict.NOT_SENT


# --- Tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expires_in", ["3599", 3599])
def test_a_token_is_found_whether_its_life_is_text_or_number(expires_in: object) -> None:
    body = json.dumps({"access_token": "Ab3dE6gH9jK2mN5pQ8sT1vW4yZ70", "expires_in": expires_in}).encode()
    answer = sort_token_answer(200, body)
    assert answer.verdict is Verdict.TAKEN
    assert answer.value == "Ab3dE6gH9jK2mN5pQ8sT1vW4yZ70"
    assert answer.expires_in == expires_in
    assert "Ab3dE6" not in repr(answer)


@pytest.mark.parametrize(
    ("http", "body"),
    [
        (400, error("400.008.01", "Invalid Authentication passed")),
        (400, error("400.008.02", "Invalid grant type passed")),
        (400, b""),
        (400, b"  "),
        (401, b""),
        (401, error("401.001", "Unauthorized")),
        (401, b"<html>"),
        (200, error("400.008.01", "Invalid Authentication passed")),
        (404, error("404.001.01", "Resource not found")),
    ],
)
def test_a_wrong_key_is_a_matter_of_the_account(http: int, body: bytes) -> None:
    assert sort_token_answer(http, body).verdict is Verdict.ACCOUNT


@pytest.mark.parametrize(
    ("http", "body"),
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b'{"access_token":null}'),
        (200, b'{"access_token":""}'),
        (200, b'{"access_token":"with space"}'),
        (200, b'{"access_token":"line\\r\\nbreak"}'),
        (200, b'{"access_token":12345678}'),
        (500, b'{"access_token":"Ab3dE6gH9jK2"}'),
        (500, error("500.003.1001", "Service is currently unreachable")),
        (503, b"<html>Incapsula incident</html>"),
        (400, b"<html>"),
        (302, b""),
        (429, b""),
    ],
)
def test_without_a_token_nothing_was_sent(http: int, body: bytes) -> None:
    assert sort_token_answer(http, body).verdict is Verdict.NOT_SENT


# --- Results ---------------------------------------------------------------------------------------------------------

#: code, fate, on whom it depends, stops the run, may succeed unchanged, needs another phone
TABLE = """
0           paid    -  no  no  no
1           failed  O  yes yes no
2           failed  P  no  no  no
3           failed  P  no  no  no
4           failed  C  no  yes no
5           failed  O  yes yes no
6           failed  O  yes yes no
7           failed  C  no  no  yes
8           failed  C  no  yes no
11          failed  O  yes yes no
12          failed  C  no  no  yes
13          failed  O  yes yes no
14          failed  C  no  no  yes
15          unknown Q  no  no  no
17          unknown Q  no  no  no
18          failed  O  yes yes no
19          unknown Q  no  no  no
20          failed  O  yes yes no
21          failed  O  yes yes no
22          failed  O  yes yes no
24          failed  P  no  no  no
25          failed  P  no  no  no
26          failed  T  no  yes no
29          failed  P  no  no  no
1001        failed  T  no  yes no
1005        failed  P  no  no  no
2001        failed  O  yes yes no
2006        failed  O  yes yes no
2007        failed  C  no  no  yes
2020        failed  P  no  no  no
2028        failed  O  yes yes no
2029        unknown Q  no  no  no
2032        unknown Q  no  no  no
2033        unknown Q  no  no  no
2040        failed  C  no  no  yes
2043        failed  O  yes yes no
2051        failed  C  no  no  yes
2202        failed  P  no  no  no
4001        failed  O  yes yes no
8006        failed  O  yes yes no
9999        unknown Q  no  no  no
100000100   unknown Q  no  no  no
SFC_IC0003  failed  C  no  no  yes
TP40153     failed  O  yes yes no
R000001     unknown Q  no  no  no
R000002     unknown Q  no  no  no
R002        failed  P  no  no  no
R003        failed  C  no  no  yes
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize(("code", "fate", "who", "stops", "again", "phone"), ROWS, ids=[row[0] for row in ROWS])
def test_each_result_code_has_its_fate(code: str, fate: str, who: str, stops: str, again: str, phone: str) -> None:
    rule = lookup(code)
    found = (
        rule.fate.value,
        rule.who.value,
        rule.account_level,
        rule.may_succeed_again,
        rule.needs_other_phone,
    )
    assert found == (fate, who, stops == "yes", again == "yes", phone == "yes")


def test_the_table_above_has_every_code() -> None:
    assert set(RESULT_RULES) <= {row[0] for row in ROWS}


def test_every_rule_says_what_it_means_what_to_do_and_where_it_is_from() -> None:
    for rule in RESULT_RULES.values():
        assert rule.meaning
        assert rule.source
        assert rule.advice or rule.fate is Fate.PAID
        assert (rule.fate is Fate.UNKNOWN) == (rule.who is Who.ASK)
        assert rule.fate is Fate.FAILED or not (rule.may_succeed_again or rule.needs_other_phone or rule.account_level)


@pytest.mark.parametrize("code", ["", None, "00", "0.0", "-1", "3000", "sfc_ic0003", "SFC_IC0004", "success", " 0"])
def test_a_code_in_no_table_is_unknown(code: str | None) -> None:
    rule = lookup(code, "The service request is processed successfully.")
    assert rule.fate is Fate.UNKNOWN
    assert rule.who is Who.ASK
    assert not rule.may_succeed_again


def test_17_that_speaks_of_the_same_amount_is_still_asked_about() -> None:
    rule = lookup("17", "Rule limited: similar transaction within 2 minutes")
    assert rule.fate is Fate.UNKNOWN
    assert rule.meaning == "the same amount went to this customer moments ago"


def result(code: object = 0, kind: object = 0, desc: str = "text", **parameters: object) -> Result:
    envelope: dict[str, Any] = {"ResultDesc": desc, "OriginatorConversationID": "q-1", "ConversationID": "AG_q"}
    if code is not None:
        envelope["ResultCode"] = code
    if kind is not None:
        envelope["ResultType"] = kind
    envelope["ResultParameters"] = {"ResultParameter": [{"Key": k, "Value": v} for k, v in parameters.items()]}
    return parse_result(json.dumps({"Result": envelope}).encode())


@pytest.mark.parametrize(
    ("code", "kind", "fate"),
    [
        (0, 0, Fate.PAID),
        ("0", "0", Fate.PAID),
        (0, None, Fate.PAID),
        (0, 1, Fate.UNKNOWN),
        (1, 1, Fate.UNKNOWN),
        (2001, 1, Fate.UNKNOWN),
        (0, 2, Fate.UNKNOWN),
        (None, 0, Fate.UNKNOWN),
        (False, 0, Fate.UNKNOWN),
        (2040, 0, Fate.FAILED),
        ("SFC_IC0003", 0, Fate.FAILED),
        (17, 0, Fate.UNKNOWN),
    ],
)
def test_only_a_final_result_has_a_fate(code: object, kind: object, fate: Fate) -> None:
    assert judge_result(result(code, kind)).fate is fate


def test_our_own_request_posted_back_leaves_it_unknown() -> None:
    echo = parse_result(b'{"OriginatorConversationID":"ks-1","Amount":10,"ResultCode":0}')
    assert judge_result(echo).fate is Fate.UNKNOWN


# --- Status answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        ("Completed", StatusFate.COMPLETED),
        ("completed ", StatusFate.COMPLETED),
        ("Cancelled", StatusFate.NOT_PAID),
        ("Declined", StatusFate.NOT_PAID),
        ("Expired", StatusFate.NOT_PAID),
        ("Initiated", StatusFate.RUNNING),
        ("Authorized", StatusFate.RUNNING),
        ("Pending  Authorized", StatusFate.RUNNING),
        ("Failed", StatusFate.NO_INFORMATION),
        ("", StatusFate.NO_INFORMATION),
        (None, StatusFate.NO_INFORMATION),
        (0, StatusFate.NO_INFORMATION),
    ],
)
def test_the_status_word_decides_and_not_the_code(status: object, fate: StatusFate) -> None:
    assert read_status(result(TransactionStatus=status)).fate is fate


def test_a_status_answer_without_a_status_says_nothing() -> None:
    assert read_status(result(Amount=10, ReceiptNo="UKN7A1B2C3")).fate is StatusFate.NO_INFORMATION


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        (2032, StatusFate.NOT_FOUND),
        ("2033", StatusFate.NOT_FOUND),
        (2001, StatusFate.NO_INFORMATION),
        (8006, StatusFate.NO_INFORMATION),
        (21, StatusFate.NO_INFORMATION),
        ("SFC_IC0003", StatusFate.NO_INFORMATION),
        (1, StatusFate.NO_INFORMATION),
        (None, StatusFate.NO_INFORMATION),
    ],
)
def test_another_code_is_about_the_query_and_never_about_the_payment(code: object, fate: StatusFate) -> None:
    assert read_status(result(code, TransactionStatus="Completed", Amount=10)).fate is fate


def test_a_status_query_that_timed_out_says_nothing() -> None:
    assert read_status(result(0, 1, TransactionStatus="Completed")).fate is StatusFate.NO_INFORMATION
    echo = parse_result(b'{"OriginatorConversationID":"q-1"}')
    assert read_status(echo).fate is StatusFate.NO_INFORMATION


def status_result(items: list[dict[str, object]]) -> Result:
    return parse_result(
        json.dumps(
            {
                "Result": {
                    "ResultType": 0,
                    "ResultCode": 0,
                    "OriginatorConversationID": "q-1",
                    "ConversationID": "AG_query",
                    "TransactionID": "UKN0000000",
                    "ResultParameters": {"ResultParameter": items},
                }
            }
        ).encode()
    )


PORTAL: list[dict[str, object]] = [
    {"Key": "DebitPartyName", "Value": "600999 - Example Markets"},
    {"Key": "CreditPartyName", "Value": "254700000001 - Jane Doe"},
    {"Key": "OriginatorConversationID", "Value": "ks-7f3c"},
    {"Key": "InitiatedTime", "Value": 20261123140505},
    {"Key": "DebitPartyCharges", "Value": "Fee For B2C Payment|KES|5.00"},
    {"Key": "TransactionReason"},
    {"Key": "TransactionStatus", "Value": "Completed"},
    {"Key": "Amount", "Value": "1250.00"},
    {"Key": "ConversationID", "Value": "AG_payment"},
    {"Key": "ReceiptNo", "Value": "UKN7A1B2C3"},
]


def test_a_status_answer_is_read_from_its_parameters_and_not_from_the_envelope() -> None:
    answer = read_status(status_result(PORTAL))
    assert answer.fate is StatusFate.COMPLETED
    assert answer.originator_conversation_id == "ks-7f3c"
    assert answer.conversation_id == "AG_payment"
    assert answer.amount_cents == 125_000
    assert answer.receipt == "UKN7A1B2C3"
    assert answer.receiver_phone == "254700000001"
    assert answer.differences(attempt_id="ks-7f3c", wire_cents=125_000, phone="254700000001") == ()
    assert "254700000001" not in repr(answer)


def test_the_receiver_may_be_the_second_debit_party() -> None:
    """The portal's own sample has DebitPartyName twice; the second is who was paid."""
    items = [item if item["Key"] != "CreditPartyName" else item | {"Key": "DebitPartyName"} for item in PORTAL]
    assert read_status(status_result(items)).receiver_phone == "254700000001"


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        ({"Amount": 1249}, ("the amount differs",)),
        ({"Amount": None}, ("the amount is not stated",)),
        ({"OriginatorConversationID": "ks-other"}, ("our id differs",)),
        ({"OriginatorConversationID": None}, ()),
        ({"CreditPartyName": "254700000002 - John"}, ("the receiver differs",)),
        ({"CreditPartyName": "2547****0001 - Jane"}, ()),
    ],
)
def test_what_does_not_fit_the_payment_is_named(changes: dict[str, object], differences: tuple[str, ...]) -> None:
    items = [item | {"Value": changes[str(item["Key"])]} if item["Key"] in changes else item for item in PORTAL]
    answer = read_status(status_result(items))
    assert answer.differences(attempt_id="ks-7f3c", wire_cents=125_000, phone="254700000001") == differences


def test_two_contradicting_statuses_are_none() -> None:
    answer = read_status(status_result([*PORTAL, {"Key": "TransactionStatus", "Value": "Declined"}]))
    assert answer.fate is StatusFate.NO_INFORMATION


def test_no_advice_names_a_command_that_is_not_in_the_design() -> None:
    """Advice is followed word by word: each command in it must be one of the program's."""
    known = {"payout", "payout retry", "payout to-wallet", "retry-failed", "reconcile", "config show --origin"}
    known |= {"credential encrypt", "resume", "user set-phone"}
    advice = [rule.advice for rule in (*codes.ANSWER_RULES, *codes.RESPONSE_RULES)]
    advice += [rule.advice for rule in RESULT_RULES.values()]
    for text in advice:
        for command in re.findall(r"kasoko ([a-z -]+?)(?=[.,)]|$| then|, then)", text):
            assert command.strip() in known


def test_advice_on_what_stops_all_sending_lets_it_go_on_first() -> None:
    for rule in RESULT_RULES.values():
        resumes = "kasoko resume, and kasoko retry-failed" in rule.advice
        assert resumes == rule.account_level, f"{rule.code}: {rule.advice}"


# --- Looked up by a person -------------------------------------------------------------------------------------------


def test_every_row_of_the_tables_can_be_looked_up_and_says_all_that_a_person_needs() -> None:
    found = codes.every_meaning()
    assert {one.where for one in found} == {"result", "answer", "status query", "kasoko"}
    for one in found:
        assert one in codes.meanings_of(one.code), one.code
        assert one.meaning
        assert one.source
        assert one.more.endswith("."), one.code
        assert one.advice or one.money_moved is codes.Moved.YES, one.code


def test_a_looked_up_code_says_of_the_money_what_is_decided_by_it() -> None:
    moved = {Fate.PAID: "yes", Fate.FAILED: "no", Fate.UNKNOWN: "maybe"}
    told = {one.code: str(one.money_moved) for one in codes.every_meaning() if one.where == "result"}
    assert told == {code: moved[rule.fate] for code, rule in RESULT_RULES.items()}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("2001", ["2001"]),
        ("sfc_ic0003", ["SFC_IC0003"]),
        ("17", ["17"]),
        ("20", ["20", "18, 20, 21, 22, 23, 100000010"]),
        ("500.002.1001", ["500.002.1001 Duplicate OriginatorConversationID", "500.002.1001, 00.002.1001"]),
        ("threat detected", ["Threat Detected"]),
        ("777", []),
    ],
)
def test_a_code_is_found_in_each_place_where_it_means_something(asked: str, found: list[str]) -> None:
    assert [one.code for one in codes.meanings_of(asked)] == found
