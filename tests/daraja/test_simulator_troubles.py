"""Every trouble the simulator can make, and what it does to the money: the ledger is the judge."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import phonenumbers
import pytest

from kasoko_cli.daraja.simulator.app import Endpoint, Fault, Rule
from kasoko_cli.daraja.simulator.people import PEOPLE, Person
from kasoko_cli.daraja.simulator.results import SHAPES
from kasoko_cli.daraja.simulator.script import STAGE_OF, FaultStage
from tests.daraja.simulator_desk import V1, V3, Desk, a_desk

NOW = datetime(2026, 11, 23, 5, 12, 44, tzinfo=UTC)

#: Distinct ids for the desk that all tests of this module share.
_ids = itertools.count(1)

#: Faults after which the request was certainly never taken.
BEFORE_MONEY = {fault for fault in Fault if STAGE_OF[fault] is FaultStage.BEFORE}
#: Faults of a payment that was taken: it moves money as it would without them, TIMEOUT_UNPAID excepted.
AFTER_MONEY = {fault for fault in Fault if STAGE_OF[fault] in (FaultStage.AFTER, FaultStage.RESULT)}


@pytest.fixture(scope="module")
def shared() -> Iterator[Desk]:
    """One desk for all: a fresh id and a cleared inbox each time keep the tests apart."""
    with a_desk(daily_cents=None, utility_cents=10**12) as desk:
        yield desk


@pytest.fixture
def desk(shared: Desk) -> Desk:
    shared.all_posted()
    shared.simulator.gateway.add_faults((), replace_all=True)
    shared.new_token()
    shared.inbox.posts.clear()
    return shared


def fresh_id() -> str:
    return f"ks-trouble-{next(_ids)}"


def send(desk: Desk, phone: str, originator_id: str) -> str:
    """Send once; what the caller saw, in a word."""
    body = desk.b2c(phone, OriginatorConversationID=originator_id)
    try:
        answer = desk.post(V3, body)
    except httpx.TransportError as error:
        return type(error).__name__
    try:
        said = answer.json()
    except ValueError:
        return f"{answer.status_code} not JSON"
    if "errorCode" in said:
        if said["errorCode"].startswith(("401", "404")):
            desk.new_token()
        return f"{answer.status_code} {said['errorCode']} {said['errorMessage']}".strip()
    return f"{answer.status_code} ResponseCode {said.get('ResponseCode')}"


def times_paid(desk: Desk, originator_id: str) -> int:
    return sum(one["originator_conversation_id"] == originator_id for one in desk.ledger()["payments"])


def parameters(result: dict[str, Any]) -> dict[str, Any]:
    return {item["Key"]: item.get("Value") for item in result["ResultParameters"]["ResultParameter"]}


# --- The table of test numbers ---------------------------------------------------------------------------------------


def test_every_test_number_is_a_kenyan_mobile_and_has_its_row() -> None:
    for phone in PEOPLE:
        number = phonenumbers.parse(f"+{phone}")
        assert phonenumbers.is_valid_number_for_region(number, "KE")
        assert phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE
    assert len({person.title for person in PEOPLE.values()}) == len(PEOPLE)


def test_the_table_is_served(desk: Desk) -> None:
    rows = {row["phone"]: row for row in desk.http.get("/_phones").json()["phones"]}
    assert set(rows) == set(PEOPLE)
    assert rows["254799002040"] == {
        "phone": "254799002040",
        "what": "not a registered customer",
        "paid": False,
        "code": "2040",
        "faults": [],
        "first": None,
    }


@pytest.mark.parametrize("person", [pytest.param(person, id=person.phone) for person in PEOPLE.values()])
def test_the_row_of_each_number_tells_whether_money_moves(desk: Desk, person: Person) -> None:
    """The same request is sent up to four times, as a caller that lost the answer might."""
    originator_id, before = fresh_id(), desk.ledger()
    for _ in range(4):
        send(desk, person.phone, originator_id)
    after = desk.ledger()
    assert times_paid(desk, originator_id) == (1 if person.paid else 0)
    assert before["utility_cents"] - after["utility_cents"] == (10_000 if person.paid else 0)


@pytest.mark.parametrize(
    "person", [pytest.param(person, id=person.phone) for person in PEOPLE.values() if not person.faults]
)
def test_a_number_of_a_code_ends_with_that_code(desk: Desk, person: Person) -> None:
    originator_id = fresh_id()
    assert send(desk, person.phone, originator_id) == "200 ResponseCode 0"
    (result,) = desk.inbox.results(1)
    assert str(result["ResultCode"]) == person.code
    assert isinstance(result["ResultCode"], int) is person.code.isdigit()
    assert result["OriginatorConversationID"] == originator_id
    assert "ResultParameters" not in result
    looks_real = person.code in ("2001", "8006", "7", "17") or person.paid
    assert result["TransactionID"].endswith("0000000") is not looks_real


def test_a_number_that_is_not_in_the_table_is_paid(desk: Desk) -> None:
    send(desk, "254799021829", fresh_id())
    assert desk.inbox.results(1)[0]["ResultCode"] == 0


def test_the_table_can_be_switched_off() -> None:
    with a_desk(people=False) as plain:
        plain.pay("254799002040")
        assert plain.inbox.results(1)[0]["ResultCode"] == 0


# --- Answers ---------------------------------------------------------------------------------------------------------

SEEN: dict[Fault, str] = {
    Fault.INVALID_PARTY_B: "400 400.002.02 Bad Request - Invalid PartyB",
    Fault.THREAT_DETECTED: "400 400.002.02 Threat Detected",
    Fault.SPIKE_ARREST: "500 500.003.02 Error Occurred: Spike Arrest Violation",
    Fault.SYSTEM_BUSY: "500 500.003.02 System is busy. Please try again in few minutes.",
    Fault.QUOTA: "500 500.003.03 Error Occurred: Quota Violation",
    Fault.TOO_MANY_REQUESTS: "429 429.001.01 Too Many Requests",
    Fault.TOKEN_DIES: "401 401.002.01 Error Occurred - Invalid Access Token - {token}",
    Fault.PRODUCT_MISSING: "401 401.002.01 Error Occurred - Invalid Access Token - {token}",
    Fault.TOKEN_REFUSED_404: "404 404.001.03 Invalid Access Token",
    Fault.ERROR_IN_200: "200 500.003.02 Error Occurred: Spike Arrest Violation",
    Fault.RESPONSE_CODE_NOT_ZERO: "200 ResponseCode 1",
    Fault.SLOW_ANSWER: "200 ResponseCode 0",
    Fault.ACK_WRONG_ID: "200 ResponseCode 0",
    Fault.ACK_SAYS_NOTHING: "200 ResponseCode None",
}
for _before, _after, _seen in (
    (Fault.INTERNAL_ERROR_BEFORE, Fault.INTERNAL_ERROR_AFTER, "500 500.002.1001 System internal error."),
    (
        Fault.MAINTENANCE_BEFORE,
        Fault.MAINTENANCE_AFTER,
        "500 500.002.1001 Service is currently under maintenance. Please try again later",
    ),
    (
        Fault.UNREACHABLE_BEFORE,
        Fault.UNREACHABLE_AFTER,
        "500 500.003.1001 Service is currently unreachable. Please try again later",
    ),
    (Fault.EMPTY_MESSAGE_BEFORE, Fault.EMPTY_MESSAGE_AFTER, "500 500.001.1001"),
    (Fault.SOAP_FAULT_BEFORE, Fault.SOAP_FAULT_AFTER, "500 ResponseCode None"),
    (Fault.HTML_503_BEFORE, Fault.HTML_503_AFTER, "503 not JSON"),
    (Fault.HTML_200_BEFORE, Fault.HTML_200_AFTER, "200 not JSON"),
    (Fault.EMPTY_200_BEFORE, Fault.EMPTY_200_AFTER, "200 not JSON"),
    (Fault.DROP_BEFORE, Fault.DROP_AFTER, "RemoteProtocolError"),
    (Fault.RESET_BEFORE, Fault.RESET_AFTER, "ReadError"),
    (Fault.NO_ANSWER_BEFORE, Fault.NO_ANSWER_AFTER, "RemoteProtocolError"),
    (Fault.HALF_ANSWER_BEFORE, Fault.HALF_ANSWER_AFTER, "RemoteProtocolError"),
):
    SEEN[_before] = SEEN[_after] = _seen
SEEN[Fault.DRIP_BEFORE] = "500 500.002.1001 System internal error."
SEEN[Fault.DRIP_AFTER] = "200 ResponseCode 0"


def test_every_fault_of_an_answer_is_in_the_list_below() -> None:
    assert set(SEEN) == {fault for fault in Fault if STAGE_OF[fault] in (FaultStage.BEFORE, FaultStage.AFTER)}
    assert not BEFORE_MONEY & AFTER_MONEY
    assert {STAGE_OF[fault] for fault in set(Fault) - BEFORE_MONEY - AFTER_MONEY} == {
        FaultStage.STATUS,
        FaultStage.BALANCE,
    }


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.value) for fault in SEEN])
def test_what_the_caller_sees_of_each_fault_and_what_the_ledger_says(desk: Desk, fault: Fault) -> None:
    originator_id = fresh_id()
    desk.simulator.gateway.add_faults((Rule(fault, originator_id=originator_id, first=1),))
    token = desk.new_token()
    assert send(desk, "254711000001", originator_id) == SEEN[fault].format(token=token)
    taken = fault not in BEFORE_MONEY
    assert times_paid(desk, originator_id) == (1 if taken else 0)
    # Sent again, the id is either taken now or known already; the customer is paid once.
    again = send(desk, "254711000001", originator_id)
    expected = "500 500.002.1001 Duplicate OriginatorConversationID." if taken else "200 ResponseCode 0"
    assert again == expected
    assert times_paid(desk, originator_id) == 1
    assert desk.inbox.results(1)[0]["OriginatorConversationID"] == originator_id


def test_a_dead_token_is_dead_for_the_next_request_too(desk: Desk) -> None:
    desk.simulator.gateway.add_faults((Rule(Fault.TOKEN_DIES, times=1),))
    assert [desk.pay(OriginatorConversationID=fresh_id()).status_code for _ in range(2)] == [401, 401]
    desk.new_token()
    assert desk.pay(OriginatorConversationID=fresh_id()).status_code == 200


def test_an_answer_dribbled_by_the_byte_takes_its_time() -> None:
    with a_desk(drip_seconds=0.005, faults=(Rule(Fault.DRIP_AFTER),)) as slow:
        started = time.monotonic()
        assert slow.pay().json()["ResponseCode"] == "0"
        assert time.monotonic() - started > 0.5


def test_faults_of_an_answer_can_strike_queries_and_tokens(desk: Desk) -> None:
    desk.simulator.gateway.add_faults(
        (
            Rule(Fault.HTML_503_BEFORE, endpoint=Endpoint.STATUS, times=1),
            Rule(Fault.EMPTY_200_AFTER, endpoint=Endpoint.BALANCE, times=1),
            Rule(Fault.UNREACHABLE_BEFORE, endpoint=Endpoint.TOKEN, times=1),
        )
    )
    assert desk.ask("ks-1").status_code == 503
    assert desk.balance().content == b""
    token_answer = desk.http.get(
        "/oauth/v1/generate?grant_type=client_credentials", auth=("simulator-key", "simulator-secret")
    )
    assert token_answer.status_code == 500
    assert len(desk.inbox.results(1)) == 1


# --- Results ---------------------------------------------------------------------------------------------------------


def posted(desk: Desk, fault: Fault, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Pay with one fault of the result; the posts that came, and no more than expected came."""
    originator_id = fresh_id()
    desk.simulator.gateway.add_faults((Rule(fault, originator_id=originator_id),))
    answer = desk.pay(OriginatorConversationID=originator_id)
    assert answer.json()["ResponseCode"] == "0"
    desk.all_posted()
    mine = [(path, json.loads(body)) for path, _, body in desk.inbox.posts]
    assert times_paid(desk, originator_id) == (0 if fault is Fault.TIMEOUT_UNPAID else 1)
    assert len(mine) == count
    return mine


def the_results(posts: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    assert {path for path, _ in posts} <= {"/result"}
    return [body["Result"] for _, body in posts]


def test_a_lost_result_never_comes(desk: Desk) -> None:
    assert posted(desk, Fault.RESULT_LOST, 0) == []


def test_a_doubled_result_comes_twice_the_same(desk: Desk) -> None:
    first, second = the_results(posted(desk, Fault.RESULT_TWICE, 2))
    assert first == second


def test_an_early_result_comes_before_the_acknowledgement(desk: Desk) -> None:
    desk.simulator.gateway.add_faults((Rule(Fault.RESULT_EARLY, times=1),))
    desk.pay(OriginatorConversationID=fresh_id())
    assert len(desk.inbox.posts) == 1


def test_a_late_result_comes_late(desk: Desk) -> None:
    desk.simulator.gateway.add_faults((Rule(Fault.RESULT_LATE, times=1),))
    started = time.monotonic()
    desk.pay(OriginatorConversationID=fresh_id())
    desk.inbox.wait(1)
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (Fault.FAILURE_THEN_SUCCESS, {0, 2040}),
        (Fault.SUCCESS_THEN_FAILURE, {0, 2040}),
        (Fault.FORGED_FAILURE, {0, 2040}),
        (Fault.RESULT_TYPE_ONE, {0}),
    ],
)
def test_contradicting_results_come_both_and_the_money_moved_once(desk: Desk, fault: Fault, codes: set[int]) -> None:
    results = the_results(posted(desk, fault, 2))
    assert {result["ResultCode"] for result in results} == codes
    failures = [result for result in results if result["ResultCode"] == 2040]
    assert all(failure["TransactionID"].endswith("0000000") for failure in failures)
    forged = len({result["ConversationID"] for result in results}) == 2
    assert forged is (fault is Fault.FORGED_FAILURE)
    assert ({0, 1} == {result["ResultType"] for result in results}) is (fault is Fault.RESULT_TYPE_ONE)


def test_contradictions_come_in_their_order(desk: Desk) -> None:
    with a_desk(contradiction_seconds=0.1, faults=(Rule(Fault.FAILURE_THEN_SUCCESS, nth=1),)) as ordered:
        ordered.simulator.gateway.add_faults((Rule(Fault.SUCCESS_THEN_FAILURE, nth=2),))
        ordered.pay()
        assert [result["ResultCode"] for result in ordered.inbox.results(2)] == [2040, 0]
        ordered.pay()
        assert [result["ResultCode"] for result in ordered.inbox.results(4)[2:]] == [0, 2040]


def test_a_contradiction_of_a_failure_is_never_a_success(desk: Desk) -> None:
    desk.simulator.gateway.add_faults((Rule(Fault.FAILURE_THEN_SUCCESS, times=1),))
    desk.pay("254799002040", OriginatorConversationID=fresh_id())
    assert [result["ResultCode"] for result in desk.inbox.results(1)] == [2040]


@pytest.mark.parametrize(
    ("fault", "is_wrong"),
    [
        (Fault.WRONG_AMOUNT, lambda result, paid: parameters(result)["TransactionAmount"] == 101),
        (Fault.WRONG_CONVERSATION_ID, lambda result, paid: result["ConversationID"] != paid["conversation_id"]),
        (
            Fault.WRONG_ORIGINATOR_ID,
            lambda result, paid: result["OriginatorConversationID"] != paid["originator_conversation_id"],
        ),
        (
            Fault.TWO_RECEIPTS,
            lambda result, paid: result["TransactionID"] != parameters(result)["TransactionReceipt"] == paid["receipt"],
        ),
        (Fault.NO_RESULT_CODE, lambda result, paid: "ResultCode" not in result),
    ],
)
def test_a_wrong_result_is_wrong_in_one_thing(
    desk: Desk, fault: Fault, is_wrong: Callable[[dict[str, Any], dict[str, Any]], bool]
) -> None:
    desk.simulator.gateway.add_faults((Rule(fault, times=1),))
    desk.pay(OriginatorConversationID=fresh_id())
    (result,) = desk.inbox.results(1)
    paid = desk.ledger()["payments"][-1]
    assert is_wrong(result, paid)
    right = {
        "amount": parameters(result)["TransactionAmount"] == 100,
        "conversation": result["ConversationID"] == paid["conversation_id"],
        "originator": result["OriginatorConversationID"] == paid["originator_conversation_id"],
        "receipt": result["TransactionID"] == paid["receipt"],
        "code": result.get("ResultCode") == 0,
    }
    assert list(right.values()).count(False) == 1


def test_a_queue_timeout_posts_our_own_request_back_and_nothing_was_paid(desk: Desk) -> None:
    originator_id = fresh_id()
    desk.simulator.gateway.add_faults((Rule(Fault.TIMEOUT_UNPAID, originator_id=originator_id),))
    body = desk.b2c(OriginatorConversationID=originator_id)
    desk.post(V3, body)
    assert desk.inbox.wait(1) == [body]
    assert desk.inbox.posts[0][0] == "/timeout"
    assert times_paid(desk, originator_id) == 0
    assert send(desk, "254711000001", originator_id).endswith("Duplicate OriginatorConversationID.")
    desk.ask(originator_id)
    assert parameters(desk.inbox.results_on("/status", 1)[0])["TransactionStatus"] == "Expired"


def test_a_queue_timeout_can_be_wrong(desk: Desk) -> None:
    ((path, body),) = posted(desk, Fault.TIMEOUT_PAID, 1)
    assert (path, "Result" in body) == ("/timeout", False)


def test_a_queue_timeout_can_be_followed_by_the_result(desk: Desk) -> None:
    paths = [path for path, _ in posted(desk, Fault.TIMEOUT_THEN_RESULT, 2)]
    assert sorted(paths) == ["/result", "/timeout"]


@pytest.mark.parametrize(("fault", "code"), [(Fault.TIMEOUT_SAYS_0, 0), (Fault.TIMEOUT_SAYS_1, 1)])
def test_a_queue_timeout_can_come_in_an_envelope(desk: Desk, fault: Fault, code: int) -> None:
    ((path, body),) = posted(desk, fault, 1)
    assert path == "/timeout"
    assert (body["Result"]["ResultCode"], body["Result"]["TransactionID"]) == (code, "")


def test_results_take_every_shape_and_order_and_stay_json() -> None:
    with a_desk(vary_shapes=True, daily_cents=None) as varied:
        for number in range(150):
            varied.pay("254799002040" if number % 5 == 0 else "254711000001")
        results = varied.inbox.results(150)
        kinds = {content_type for _, content_type, _ in varied.inbox.posts}
    assert len({tuple(result) for result in results}) > 20
    assert kinds == {"application/json", "application/json;charset=utf-8"}
    assert any(b"\\/" in body for _, _, body in varied.inbox.posts)
    seen = {
        "text": any(result.get("ResultCode") == "0" for result in results),
        "list": any(isinstance(result.get("ResultParameters"), list) for result in results),
        "swapped": any("ResultParameter" in result for result in results),
        "null": any(result.get("ResultParameters", "") is None for result in results),
        "lone": any(
            isinstance(holder := result.get("ResultParameters"), dict) and isinstance(holder["ResultParameter"], dict)
            for result in results
        ),
        "no reference": any("ReferenceData" not in result for result in results),
        "spaced": any("Conversation ID" in result for result in results),
        "no id": any(result["TransactionID"] == "" for result in results),
    }
    assert all(seen.values()), seen
    assert len(SHAPES) == 15


# --- Status and balance ----------------------------------------------------------------------------------------------


def status_of(desk: Desk, fault: Fault, phone: str = "254711000001") -> dict[str, Any]:
    """Pay, ask with one fault, and give the answer to the question."""
    originator_id = fresh_id()
    desk.pay(phone, OriginatorConversationID=originator_id)
    desk.simulator.gateway.add_faults((Rule(fault, originator_id=originator_id),))
    assert desk.ask(originator_id).json()["ResponseCode"] == "0"
    return desk.inbox.results_on("/status", 1)[0]


@pytest.mark.parametrize(
    ("fault", "paid", "unpaid"),
    [
        (Fault.STATUS_INITIATED, "Initiated", "Initiated"),
        (Fault.STATUS_AUTHORIZED, "Authorized", "Authorized"),
        (Fault.STATUS_PENDING_AUTHORIZED, "Pending Authorized", "Pending Authorized"),
        (Fault.STATUS_CANCELLED, "Completed", "Cancelled"),
        (Fault.STATUS_EXPIRED, "Completed", "Expired"),
        (Fault.STATUS_LIES, "Declined", "Completed"),
        (Fault.STATUS_MISSING, None, None),
        (Fault.STATUS_WRONG_AMOUNT, "Completed", "Declined"),
        (Fault.STATUS_WRONG_PARTY, "Completed", "Declined"),
    ],
)
def test_a_status_can_be_any_word(desk: Desk, fault: Fault, paid: str | None, unpaid: str | None) -> None:
    said = parameters(status_of(desk, fault))
    assert said.get("TransactionStatus") == paid
    assert ("TransactionStatus" in said) is (paid is not None)
    assert (said["Amount"] == "101.00") is (fault is Fault.STATUS_WRONG_AMOUNT)
    assert said["CreditPartyName"].startswith("254711000001") is (fault is not Fault.STATUS_WRONG_PARTY)
    desk.inbox.posts.clear()
    assert parameters(status_of(desk, fault, "254799002040")).get("TransactionStatus") == unpaid


@pytest.mark.parametrize(
    ("fault", "code"),
    [(Fault.STATUS_LAGS, 2033), (Fault.STATUS_REFUSED, 21), (Fault.STATUS_UNKNOWN_CODE, 99999)],
)
def test_a_status_query_can_end_without_an_answer(desk: Desk, fault: Fault, code: int) -> None:
    result = status_of(desk, fault)
    assert result["ResultCode"] == code
    assert "ResultParameters" not in result


def test_a_status_answer_can_be_lost(desk: Desk) -> None:
    desk.simulator.gateway.add_faults((Rule(Fault.STATUS_LOST, times=1),))
    assert desk.ask("ks-lost").json()["ResponseCode"] == "0"
    desk.ask("ks-found")
    (result,) = desk.inbox.results(1)
    assert result["ResultCode"] == 2033


@pytest.mark.parametrize(
    ("phone", "words"),
    [
        ("254799400001", [2033, 2033, "Completed"]),
        ("254799400002", ["Initiated", "Initiated", "Completed"]),
        ("254799400010", [21, "Completed"]),
        ("254799400012", ["Cancelled"]),
    ],
)
def test_a_number_whose_status_has_trouble_comes_to_an_end(desk: Desk, phone: str, words: list[object]) -> None:
    originator_id = fresh_id()
    send(desk, phone, originator_id)
    heard: list[object] = []
    for count in range(1, len(words) + 1):
        desk.ask(originator_id)
        result = desk.inbox.results(count)[-1]
        heard.append(parameters(result)["TransactionStatus"] if result["ResultCode"] == 0 else result["ResultCode"])
    assert heard == words


def test_a_balance_can_be_lost_refused_or_without_a_utility_account(desk: Desk) -> None:
    desk.simulator.gateway.add_faults((Rule(Fault.BALANCE_LOST, times=1),))
    desk.balance()
    desk.simulator.gateway.add_faults((Rule(Fault.BALANCE_REFUSED, times=1),))
    desk.balance()
    (refused,) = desk.inbox.results(1)
    assert (refused["ResultCode"], parameters(refused)["ActionType"]) == ("21", "AccountBalance")
    assert parameters(refused)["ErrorMsg"].endswith(" ")
    desk.simulator.gateway.add_faults((Rule(Fault.BALANCE_WITHOUT_UTILITY, times=1),))
    desk.balance()
    assert "Utility" not in parameters(desk.inbox.results(2)[1])["AccountBalance"]


# --- Scripts, rates and the seed -------------------------------------------------------------------------------------


def test_a_script_strikes_the_nth_request_and_can_be_set_while_it_runs() -> None:
    with a_desk() as desk:
        rules = [{"fault": "html_503_after", "nth": 2}, {"fault": "result_lost", "phone": "254722000002"}]
        answer = desk.http.post("/_fault", json={"rules": rules})
        assert [rule["fault"] for rule in answer.json()["rules"]] == ["html_503_after", "result_lost"]
        assert [desk.pay().status_code for _ in range(3)] == [200, 503, 200]
        desk.pay("254722000002")
        desk.all_posted()
        assert len(desk.paid()) == 4
        desk.http.post("/_fault", json={"rules": [], "replace": True})
        assert desk.http.get("/_fault").json()["rules"] == []


def test_an_answer_and_a_result_can_go_wrong_together(desk: Desk) -> None:
    originator_id = fresh_id()
    desk.simulator.gateway.add_faults(
        (Rule(Fault.DROP_AFTER, originator_id=originator_id), Rule(Fault.RESULT_LOST, originator_id=originator_id))
    )
    assert send(desk, "254711000001", originator_id) == "RemoteProtocolError"
    assert times_paid(desk, originator_id) == 1
    desk.ask(originator_id)
    desk.all_posted()
    assert [path for path, _, _ in desk.inbox.posts] == ["/status"]


def a_run(seed: int, order: list[int]) -> dict[str, tuple[object, ...]]:
    """Sixty payments with faults by rate, in this order: what became of each."""
    faults = (
        Rule(Fault.SPIKE_ARREST, probability=0.2),
        Rule(Fault.HTML_503_AFTER, probability=0.2),
        Rule(Fault.RESULT_LOST, probability=0.3),
    )
    with a_desk(lambda: NOW, seed=seed, faults=faults, daily_cents=None) as desk:
        seen = {f"ks-{number}": desk.pay(OriginatorConversationID=f"ks-{number}").status_code for number in order}
        ledger = desk.ledger()
        paid = {
            one["originator_conversation_id"]: (one["conversation_id"], one["receipt"]) for one in ledger["payments"]
        }
    return {key: (status, *paid.get(key, ())) for key, status in seen.items()}


def test_the_same_seed_tells_the_same_story_in_any_order() -> None:
    forward = a_run(7, list(range(60)))
    assert a_run(7, list(reversed(range(60)))) == forward
    assert a_run(8, list(range(60))) != forward
    statuses = [outcome[0] for outcome in forward.values()]
    assert {200, 500, 503} == set(statuses)
    assert 4 <= statuses.count(500) <= 24


def test_a_rate_does_not_strike_one_payment_for_ever() -> None:
    with a_desk(seed=3, faults=(Rule(Fault.SPIKE_ARREST, probability=0.5),)) as desk:
        body = desk.b2c()
        answers = [desk.post(V3, body).json().get("errorMessage", "taken") for _ in range(40)]
        assert answers.count("taken") == 1
        assert len(desk.paid()) == 1


def test_on_v1_a_number_that_is_refused_twice_is_taken_the_third_time(desk: Desk) -> None:
    bodies = [desk.b2c("254799100002") for _ in range(3)]
    before = len(desk.paid())
    assert [desk.post(V1, body).status_code for body in bodies] == [500, 500, 200]
    assert len(desk.paid()) == before + 1
