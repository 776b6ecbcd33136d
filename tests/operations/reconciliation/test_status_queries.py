"""Asking M-Pesa how a payout ended: when, by which name, and which answers are believed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx
import pytest

from kasoko_cli.daraja.callback_urls import Kind
from kasoko_cli.daraja.messages import B2C_V1_PATH, B2C_V3_PATH, STATUS_PATH
from kasoko_cli.daraja.simulator.app import Fault, Rule, SimulatorSettings
from kasoko_cli.operations.reconciliation import status_queries
from kasoko_cli.operations.reconciliation.status_queries import AskPolicy, Inquiry
from kasoko_cli.operations.shared.actor import Act
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt, Query
from tests.conftest import CountedIds, FixedClock
from tests.operations.road import ANN, BEN, RECEIPT, Road

QUERY_CONVERSATION = "AG_20261123_query00000000000000"


def lost(road: Road, users: Mapping[str, str] | None = None) -> Road:
    """Winners whose requests were taken, and whose acknowledgements and results were lost."""
    road.owe(users or {"ann": ANN})

    def cut(request: httpx.Request) -> httpx.Response | None:
        if request.url.path in (B2C_V1_PATH, B2C_V3_PATH):
            road.ask_simulator(request)
            raise httpx.ReadTimeout("the answer did not come", request=request)
        return None

    road.interpose = cut
    while "PENDING" in road.statuses().values():
        assert road.send().sent, "a run stops after a few in a row, and the next one goes on"
    road.interpose = lambda request: None
    road.posts.clear()
    assert set(road.statuses().values()) == {"UNKNOWN"}
    return road


def answering(road: Road, *, conversation: str | None = QUERY_CONVERSATION) -> None:
    """M-Pesa takes every question, and its answer is left to the test."""

    def take(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != STATUS_PATH:
            return None
        body = {"OriginatorConversationID": "gw-query-1", "ConversationID": conversation, "ResponseCode": "0"}
        return httpx.Response(200, json={name: value for name, value in body.items() if value is not None})

    road.interpose = take


def status(attempt: Attempt, **changes: Any) -> dict[str, Any]:
    """A whole answer: `code`, `conversation` and `result_type` of the envelope, the others are parameters."""
    envelope = {
        "ResultType": changes.pop("result_type", 0),
        "ResultCode": changes.pop("code", 0),
        "ResultDesc": "The service request is processed successfully.",
        "OriginatorConversationID": changes.pop("originator", "gw-query-1"),
        "ConversationID": changes.pop("conversation", QUERY_CONVERSATION),
        "TransactionID": changes.pop("transaction_id", "UKN0000000"),
    }
    parameters = {
        "CreditPartyName": f"{attempt.phone} - Jane Doe",
        "OriginatorConversationID": attempt.id,
        "TransactionStatus": "Completed",
        "Amount": f"{attempt.wire_cents // 100}.00",
        "ConversationID": attempt.conversation_id or "AG_20261123_payment0000000000000",
        "ReceiptNo": RECEIPT,
        **changes,
    }
    items = [{"Key": key, "Value": value} for key, value in parameters.items() if value is not None]
    return {
        "Result": {name: value for name, value in envelope.items() if value is not None}
        | {"ResultParameters": {"ResultParameter": items}}
    }


def asked(road: Road) -> Query:
    """The question that was just asked about the one open payout."""
    report = road.reconcile()
    assert [one.taken for one in report.asked] == [True]
    return road.queries()[-1]


# --- When ----------------------------------------------------------------------------------------------------------


def test_questions_are_asked_on_the_ladder_and_no_earlier(road: Road) -> None:
    """5 min, 15 min, 1 h, 4 h, 12 h, 24 h after it was sent, and then once a day."""
    lost(road)
    answering(road)
    started, asked_after = road.clock(), []
    for _ in range(60 * 24 * 3 // 5 + 2):
        if road.reconcile(at_once=False).asked:
            asked_after.append(int((road.clock() - started).total_seconds()))
        road.clock.forward(300)
    assert asked_after == [300, 900, 3_600, 14_400, 43_200, 86_400, 172_800, 259_200]
    assert len(road.queries()) == 8
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    road.assert_books()


def test_a_round_says_what_it_did_not_ask_yet_and_when_it_will(road: Road) -> None:
    lost(road, {"ann": ANN, "ben": BEN})
    sent_at = road.attempt("ann").sent_at
    report = road.reconcile(at_once=False)
    assert (report.asked, report.not_yet) == ([], 2)
    assert report.next_at is not None
    assert (report.next_at - sent_at).total_seconds() == 300


def test_a_payout_that_was_taken_is_asked_about_once_its_result_is_late(road: Road) -> None:
    road.owe({"ann": ANN})
    road.send()
    road.posts.clear()
    road.clock.forward(299)
    assert road.reconcile(at_once=False).asked == []
    road.clock.forward(1)
    assert len(road.reconcile(at_once=False).asked) == 1
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    road.assert_agreed()


def test_what_is_being_sent_or_ended_is_not_asked_about(road: Road) -> None:
    lost(road, {"ann": ANN, "ben": BEN})
    road.reconcile()
    assert set(road.statuses().values()) == {"COMPLETED"}
    asked_before = len(road.queries())
    assert road.reconcile().asked == []
    assert len(road.queries()) == asked_before
    road.assert_agreed()


def test_the_question_stands_in_the_database_before_it_is_asked(road: Road) -> None:
    lost(road)
    seen = []

    def look(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == STATUS_PATH:
            [query] = road.queries()
            assert road.links.of_status(query.id).result in request.content.decode()
            seen.append(query.id)
        return None

    road.interpose = look
    road.reconcile()
    assert len(seen) == 1


def test_reconcile_never_sends_a_payment(road: Road) -> None:
    lost(road)
    road.requests.clear()
    for _ in range(3):
        road.reconcile()
    assert {request.url.path for request in road.requests} <= {STATUS_PATH, "/oauth/v1/generate"}


# --- What is believed ----------------------------------------------------------------------------------------------


def test_completed_with_the_right_ids_amount_and_receiver_is_paid(road: Road) -> None:
    lost(road)
    answering(road)
    query = asked(road)
    assert road.post(Kind.STATUS, query.id, status(road.attempt("ann"))) == "paid"
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert road.attempt("ann").evidence == f"status:{query.id}"
    assert road.attempt("ann").receipt == RECEIPT
    road.assert_books()


#: How the core of 2017 spells what the one of now writes in one word.
SPACED = {
    "OriginatorConversationID": "Originator Conversation ID",
    "ConversationID": "Conversation ID",
    "TransactionID": "Transaction ID",
    "ReceiptNo": "Receipt No",
}


@pytest.mark.parametrize(("word", "became"), [("Completed", "COMPLETED"), ("Declined", "FAILED")])
def test_an_answer_in_the_spelling_of_2017_is_applied_like_one_of_now(road: Road, word: str, became: str) -> None:
    lost(road)
    answering(road)
    query = asked(road)
    text = json.dumps(status(road.attempt("ann"), TransactionStatus=word))
    for key, spaced in SPACED.items():
        text = text.replace(f'"{key}"', f'"{spaced}"')
    road.post(Kind.STATUS, query.id, text.replace("Jane Doe", "Jos\\u00e9 Doe").encode())
    assert road.payout("ann").status == became
    assert road.incidents() == []
    road.assert_books()


@pytest.mark.parametrize("word", ["Declined", "Cancelled", "Expired", "DECLINED"])
def test_a_final_no_fails_the_payout_which_may_then_be_tried_again(road: Road, word: str) -> None:
    lost(road)
    answering(road)
    query = asked(road)
    assert road.post(Kind.STATUS, query.id, status(road.attempt("ann"), TransactionStatus=word)) == "failed"
    assert road.states("ann") == ("FAILED", ["FAILED"])
    assert road.payout("ann").failure_code == "STATUS"
    assert road.retry().retried == [], "it is asked a second time, some time later"
    road.clock.forward(300)
    query = asked(road)
    assert road.post(Kind.STATUS, query.id, status(road.attempt("ann"), TransactionStatus=word)) == "failed"
    assert road.retry().retried == ["derby.1.1"]
    road.assert_books()


#: Answers that leave the payout open: the envelope or the parameters, and what is written down as the answer.
OPEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "still running": ({"TransactionStatus": "Initiated"}, "RUNNING", "running"),
    "still to be authorised": ({"TransactionStatus": "Authorized"}, "RUNNING", "running"),
    "pending": ({"TransactionStatus": "Pending Authorized"}, "RUNNING", "running"),
    "no status": ({"TransactionStatus": None}, "NO_INFORMATION", "no_information"),
    "another status": ({"TransactionStatus": "Perhaps"}, "NO_INFORMATION", "no_information"),
    "no such receipt": ({"code": 2032}, "NOT_FOUND", "not_found"),
    "no such id": ({"code": 2033}, "NOT_FOUND", "not_found"),
    "the initiator is wrong": ({"code": 2001}, "NO_INFORMATION", "no_information"),
    "the initiator is locked": ({"code": 8006}, "NO_INFORMATION", "no_information"),
    "the initiator may not ask": ({"code": 21}, "NO_INFORMATION", "no_information"),
    "a definite failure of the query": ({"code": 2040}, "NO_INFORMATION", "no_information"),
    "insufficient balance": ({"code": 1}, "NO_INFORMATION", "no_information"),
    "a code that nobody knows": ({"code": 99999}, "NO_INFORMATION", "no_information"),
    "no code": ({"code": None}, "NO_INFORMATION", "no_information"),
    "more to come": ({"result_type": 1}, "NO_INFORMATION", "no_information"),
    "completed without a receipt": ({"ReceiptNo": None}, "COMPLETED", "hint"),
    "no conversation of the query": ({"conversation": None}, "LACKING", "hint"),
    "no id of the payment": ({"OriginatorConversationID": None, "ConversationID": None}, "LACKING", "hint"),
    "declined, of no payment": (
        {"TransactionStatus": "Declined", "OriginatorConversationID": None, "ConversationID": None},
        "LACKING",
        "hint",
    ),
}


def questions(road: Road, ways: Iterable[Any]) -> list[tuple[Any, str, Attempt, Query]]:
    """A question about a lost winner for each way: the way, the user, the attempt, the question."""
    named = [(way, f"user{n}") for n, way in enumerate(ways)]
    lost(road, {user: f"2547120{n:05d}" for n, (_, user) in enumerate(named)})
    answering(road)
    road.reconcile()
    by_attempt = {query.attempt_id: query for query in road.queries()}
    found = [(way, user, road.attempt(user)) for way, user in named]
    return [(way, user, attempt, by_attempt[attempt.id]) for way, user, attempt in found]


def test_an_answer_that_says_too_little_moves_nothing_and_never_fails_a_payout(road: Road) -> None:
    for what, user, attempt, query in questions(road, OPEN):
        changes, answer, verdict = OPEN[what]
        before = road.money()
        assert road.post(Kind.STATUS, query.id, status(attempt, **changes)) == verdict, what
        assert road.money() == before, what
        assert road.states(user) == ("UNKNOWN", ["UNKNOWN"]), what
        assert {one.id: one.answer for one in road.queries()}[query.id] == answer, what
        assert road.retry(only=[attempt.payout_id]).retried == [], what
    assert road.incidents() == []
    road.assert_books()


#: Answers that say something else than what was sent.
DIFFERENT: dict[str, dict[str, Any]] = {
    "amount": {"Amount": "101.00"},
    "amount by a cent": {"Amount": "100.01"},
    "no amount": {"Amount": None},
    "receiver": {"CreditPartyName": "254712999999 - Somebody Else"},
    "our id": {"OriginatorConversationID": "ks-00000000000000000000000000000000"},
    "conversation of the query": {"conversation": "AG_20261123_another"},
}


def test_an_answer_that_speaks_of_another_payment_moves_nothing_and_calls_a_person(road: Road) -> None:
    ways = [way for way in itertools.product(DIFFERENT, ("Completed", "Declined")) if way != ("receiver", "Declined")]
    for (what, word), user, attempt, query in questions(road, ways):
        before = road.money()
        body = status(attempt, TransactionStatus=word, **DIFFERENT[what])
        assert road.post(Kind.STATUS, query.id, body) == "mismatch", (what, word)
        assert road.money() == before, (what, word)
        assert road.states(user) == ("UNKNOWN", ["UNKNOWN"]), (what, word)
    assert road.incidents() == ["mismatch"] * len(ways)
    road.assert_books()


def test_what_ended_unpaid_under_our_id_paid_nobody_whatever_number_it_names(road: Road) -> None:
    """A restored copy may know another number than the one that the id went to: disbelieved, it would never end."""
    lost(road)
    answering(road)
    query = asked(road)
    body = status(road.attempt("ann"), TransactionStatus="Declined", **DIFFERENT["receiver"])
    assert road.post(Kind.STATUS, query.id, body) == "failed"
    assert road.states("ann") == ("FAILED", ["FAILED"])
    assert road.incidents() == []
    road.assert_books()


def test_without_our_id_a_no_to_another_number_is_no_answer_about_our_payment(road: Road) -> None:
    lost(road)
    answering(road)
    query, before = asked(road), road.money()
    different = DIFFERENT["receiver"] | {"OriginatorConversationID": None}
    body = status(road.attempt("ann"), TransactionStatus="Declined", **different)
    assert road.post(Kind.STATUS, query.id, body) == "mismatch"
    assert road.money() == before
    road.assert_books()


def test_the_payments_ids_are_read_from_the_parameters_and_never_from_the_envelope(road: Road) -> None:
    """The envelope names the query: ids of another payment of ours in it say nothing, and none of it is needed."""
    lost(road, {"ann": ANN, "ben": BEN})
    answering(road)
    road.reconcile()
    ann, ben = road.attempt("ann"), road.attempt("ben")
    [about_ann] = [query for query in road.queries() if query.attempt_id == ann.id]
    body = status(ann, originator=ben.id, transaction_id="UKN9Z9Z9Z9")
    assert road.post(Kind.STATUS, about_ann.id, body) == "paid"
    assert road.statuses() == {"ann": "COMPLETED", "ben": "UNKNOWN"}
    assert road.attempt("ann").receipt == RECEIPT
    road.assert_books()


def test_an_envelope_that_names_the_payment_is_no_substitute_for_parameters_that_name_another(road: Road) -> None:
    lost(road, {"ann": ANN, "ben": BEN})
    answering(road)
    road.reconcile()
    ann, ben = road.attempt("ann"), road.attempt("ben")
    [about_ann] = [query for query in road.queries() if query.attempt_id == ann.id]
    before = road.money()
    for word in ("Completed", "Declined"):
        body = status(ann, originator=ann.id, OriginatorConversationID=ben.id, TransactionStatus=word)
        assert road.post(Kind.STATUS, about_ann.id, body) == "mismatch"
    assert road.money() == before
    assert road.statuses() == {"ann": "UNKNOWN", "ben": "UNKNOWN"}
    road.assert_books()


def test_an_answer_to_another_question_is_not_an_answer_to_this_one(road: Road) -> None:
    """Posted to the address of Ben's question, Ann's answer names Ann."""
    lost(road, {"ann": ANN, "ben": BEN})
    answering(road)
    road.reconcile()
    ann, ben = road.attempt("ann"), road.attempt("ben")
    [about_ben] = [query for query in road.queries() if query.attempt_id == ben.id]
    before = road.money()
    assert road.post(Kind.STATUS, about_ben.id, status(ann)) == "mismatch"
    assert road.money() == before
    road.assert_books()


def test_a_receipt_that_proves_another_attempt_is_not_believed_in_an_answer_either(road: Road) -> None:
    lost(road, {"ann": ANN, "ben": BEN})
    answering(road)
    road.reconcile()
    verdicts = [
        road.post(Kind.STATUS, query.id, status(road.attempt(user)))
        for user in ("ann", "ben")
        for query in road.queries()
        if query.attempt_id == road.attempt(user).id
    ]
    assert verdicts == ["paid", "mismatch"]
    assert road.statuses() == {"ann": "COMPLETED", "ben": "UNKNOWN"}
    road.assert_books()


def test_the_address_of_a_question_that_was_never_asked_moves_nothing(road: Road) -> None:
    lost(road)
    before = road.money()
    assert road.post(Kind.STATUS, "kq-0000000000000000", status(road.attempt("ann"))) == "stray"
    assert road.post(Kind.STATUS, road.attempt("ann").id, status(road.attempt("ann"))) == "stray"
    assert road.money() == before
    road.assert_books()


def test_an_answer_without_our_mark_is_a_hint(road: Road) -> None:
    lost(road)
    answering(road)
    query, before = asked(road), road.money()
    for word in ("Completed", "Declined"):
        body = status(road.attempt("ann"), TransactionStatus=word)
        assert road.post(Kind.STATUS, query.id, body, signed=False) == "hint"
    assert road.money() == before
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_a_question_that_waited_too_long_says_nothing(road: Road) -> None:
    lost(road)
    answering(road)
    query, before = asked(road), road.money()
    for body in (status(road.attempt("ann")), status(road.attempt("ann"), TransactionStatus="Declined"), b"{"):
        assert road.post(Kind.STATUS_TIMEOUT, query.id, body) == "noted"
    assert road.money() == before
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    # The answer itself may still come.
    assert road.post(Kind.STATUS, query.id, status(road.attempt("ann"))) == "paid"
    road.assert_books()


def test_an_answer_that_cannot_be_read_is_written_down_and_moves_nothing(road: Road) -> None:
    lost(road)
    answering(road)
    query, before = asked(road), road.money()
    assert road.post(Kind.STATUS, query.id, b'{"Result": ') == "unreadable"
    assert road.queries()[-1].answer == "UNREADABLE"
    assert road.money() == before
    road.assert_books()


def test_an_answer_that_comes_twice_or_contradicts_itself_credits_once(road: Road) -> None:
    lost(road)
    answering(road)
    query = asked(road)
    yes = status(road.attempt("ann"))
    no = status(road.attempt("ann"), TransactionStatus="Declined")
    assert road.post(Kind.STATUS, query.id, yes) == "paid"
    before = road.money()
    assert [road.post(Kind.STATUS, query.id, body) for body in (yes, no)] == ["paid", "failed"]
    assert road.money() == before
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert road.incidents() == ["contradiction"]
    road.assert_books()


@pytest.mark.parametrize("code", [2032, 2033])
def test_not_found_never_fails_a_payout_however_often_it_is_said(road: Road, code: int) -> None:
    lost(road)
    answering(road)
    for _ in range(8):
        road.reconcile(at_once=False)
        for query in road.queries():
            if query.answered_at is None:
                road.post(Kind.STATUS, query.id, status(road.attempt("ann"), code=code))
        road.clock.forward(days=1)
    assert len(road.queries()) == 7
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    assert road.send().sent == []
    road.assert_books()


# --- Acknowledgements of the payment and of the question -----------------------------------------------------------


def acknowledge(road: Road, change: Callable[[dict[str, Any]], None]) -> None:
    """The simulator takes the payment, and its acknowledgement arrives changed."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in (B2C_V1_PATH, B2C_V3_PATH):
            return None
        body = road.ask_simulator(request).json()
        change(body)
        return httpx.Response(200, json=body)

    road.interpose = answer


@pytest.mark.parametrize(("paid", "ends"), [(True, "COMPLETED"), (False, "FAILED")])
def test_a_payment_whose_acknowledgement_was_mixed_up_is_cleared_up_by_asking(
    road: Road, paid: bool, ends: str
) -> None:
    """Its acknowledgement named another payment's ids: they are no measure for an answer that names ours."""
    road.owe({"ann": ANN if paid else "254799002040"})

    def mix_up(body: dict[str, Any]) -> None:
        body |= {"OriginatorConversationID": "ks-anothers", "ConversationID": "AG_20261123_anothers"}

    acknowledge(road, mix_up)
    road.send()
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    road.deliver()
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    road.interpose = lambda request: None
    road.reconcile()
    assert road.payout("ann").status == ends
    # A person has to look at it before anything is sent again.
    assert road.retry(only=["derby.1.1"]).retried == []
    assert road.incidents() == ["strange_acknowledgement"]
    road.assert_agreed()


def test_an_acknowledgement_that_mixed_up_the_conversation_alone_needs_a_person(road: Road) -> None:
    """It named our id and another conversation: the result and the answer contradict it, and nothing is believed."""
    road.owe({"ann": ANN})

    def mix_up(body: dict[str, Any]) -> None:
        body["ConversationID"] = "AG_20261123_anothers"

    acknowledge(road, mix_up)
    road.send()
    before = road.money()
    road.interpose = lambda request: None
    assert [judged.verdict for judged in road.deliver()] == ["mismatch"]
    road.reconcile()
    assert road.money() == before
    assert road.states("ann") == ("SENT", ["ACCEPTED"])
    assert [(one.kind, one.count) for one in road.all_incidents()] == [("mismatch", 2)]
    road.assert_books()


def test_an_answer_that_overtakes_the_acknowledgement_of_its_question_waits_for_it(road: Road) -> None:
    """Its conversation id is what ties it to the question; thrown away, it would be asked for again an hour later."""
    lost(road)
    verdicts: list[str] = []

    def overtake(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != STATUS_PATH:
            return None
        answer = road.ask_simulator(request)
        verdicts.extend(judged.verdict for judged in road.deliver())
        return answer

    road.interpose = overtake
    road.reconcile()
    assert verdicts == []
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    road.assert_agreed()


def test_an_answer_to_a_question_whose_acknowledgement_never_came_is_a_hint(road: Road) -> None:
    lost(road)

    def cut(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != STATUS_PATH:
            return None
        road.ask_simulator(request)
        raise httpx.ReadTimeout("the answer did not come", request=request)

    road.interpose = cut
    before = road.money()
    report = road.reconcile(deliver=False)
    assert [(one.taken, one.why.partition(":")[0]) for one in report.asked] == [(False, "M-Pesa may have it")]
    assert [judged.verdict for judged in road.deliver()] == ["hint"]
    assert road.money() == before
    assert road.queries()[-1].answer == "NOT_ASKED"
    road.assert_books()


def test_a_question_that_m_pesa_did_not_take_is_written_down_as_not_asked(road: Road) -> None:
    lost(road)

    def refuse(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != STATUS_PATH:
            return None
        return httpx.Response(500, json={"errorCode": "500.003.02", "errorMessage": "Spike Arrest Violation"})

    road.interpose = refuse
    report = road.reconcile()
    assert [one.taken for one in report.asked] == [False]
    assert [(query.answer, query.conversation_id) for query in road.queries()] == [("NOT_ASKED", None)]
    assert status_queries.unanswered(road.db, [one.query_id for one in report.asked]) == 0
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_every_trouble_of_a_status_query_leaves_the_money_where_it_is_until_the_truth_comes(
    db: Database, clock: FixedClock, new_id: CountedIds, act: Act
) -> None:
    faults = (Fault.STATUS_LOST, Fault.STATUS_LAGS, Fault.STATUS_INITIATED, Fault.STATUS_MISSING, Fault.STATUS_REFUSED)
    settings = SimulatorSettings(faults=tuple(Rule(fault, nth=n + 1) for n, fault in enumerate(faults)))
    road = lost(Road(db, clock, new_id, act, settings))
    before = road.money()
    for _ in faults:
        road.reconcile()
        road.clock.forward(1)
        assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])
        assert road.money() == before
    road.reconcile()
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    road.assert_agreed()


# --- v1 ------------------------------------------------------------------------------------------------------------


def test_on_v1_a_payment_without_an_acknowledgement_cannot_be_asked_about_and_is_named(
    db: Database, clock: FixedClock, new_id: CountedIds, act: Act
) -> None:
    """M-Pesa has no name for it that we know: only the statement or the portal can tell."""
    road = lost(Road(db, clock, new_id, act, api="v1"))
    report = road.reconcile()
    assert (report.asked, report.unaskable) == ([], ["derby.1.1"])
    assert road.queries() == []
    assert [one.payout_id for one in status_queries.list_open(road.db)] == ["derby.1.1"]
    assert road.send().sent == []
    road.assert_books()


def test_on_v1_the_question_names_the_gateways_id(
    db: Database, clock: FixedClock, new_id: CountedIds, act: Act
) -> None:
    road = Road(db, clock, new_id, act, api="v1")
    road.owe({"ann": ANN})
    road.send()
    road.posts.clear()
    road.reconcile()
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    road.assert_books()


# --- Large failures ------------------------------------------------------------------------------------------------


def failed(road: Road) -> None:
    road.owe({"ann": ANN}, cents=1_100_000)
    road.send()
    road.posts.clear()
    attempt = road.attempt("ann")
    road.post(Kind.RESULT, attempt.id, road.result(attempt, code=26))
    assert road.states("ann") == ("FAILED", ["FAILED"])


def test_a_large_failure_that_was_posted_is_confirmed_by_asking_and_a_completed_wins(road: Road) -> None:
    """The simulator paid; the failure was a lie of the wire. Asking first saves a second payment."""
    failed(road)
    [left] = road.retry().left
    assert left.hint.endswith("kasoko reconcile --now")
    assert len(road.reconcile().asked) == 1
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert road.incidents() == ["late_success"]
    road.assert_agreed()


@pytest.mark.parametrize(
    ("changes", "may_go"),
    [
        ({"TransactionStatus": "Declined"}, True),
        ({"code": 2033}, True),
        ({"TransactionStatus": "Initiated"}, False),
        ({"TransactionStatus": None}, False),
        ({"code": 21}, False),
        ({"Amount": "1.00", "TransactionStatus": "Declined"}, False),
    ],
)
def test_a_large_failure_may_go_again_only_after_an_answer_that_speaks_against_payment(
    road: Road, changes: dict[str, Any], may_go: bool
) -> None:
    failed(road)
    answering(road)
    road.clock.forward(300)
    road.reconcile()
    query = road.queries()[-1]
    road.post(Kind.STATUS, query.id, status(road.attempt("ann"), **changes))
    assert road.retry().retried == (["derby.1.1"] if may_go else [])
    road.assert_books()


def test_a_small_failure_is_not_asked_about(road: Road) -> None:
    road.owe({"ann": "254799002040"})
    road.send()
    road.deliver()
    road.clock.forward(300)
    assert road.reconcile().asked == []
    assert len(road.reconcile(confirm_above_cents=9_999).asked) == 1


def test_list_open_says_what_was_asked_and_answered(road: Road) -> None:
    lost(road)
    answering(road)
    [one] = status_queries.list_open(road.db)
    assert (one.payout_id, one.status, one.wire_cents, one.questions, one.last_answer) == (
        "derby.1.1",
        "UNKNOWN",
        10_000,
        0,
        "",
    )
    query = asked(road)
    road.post(Kind.STATUS, query.id, status(road.attempt("ann"), code=2033))
    [one] = status_queries.list_open(road.db, market="derby")
    assert (one.questions, one.last_answer) == (1, "NOT_FOUND M-Pesa does not know it yet (code 2033)")


def test_the_first_question_comes_after_as_long_as_the_operator_says(road: Road) -> None:
    lost(road)
    road.clock.forward(60)
    report = status_queries.ask_around(
        road.context,
        road.gateway,
        Inquiry(AskPolicy(after_seconds=60), road.trust),
    )
    assert len(report.asked) == 1
