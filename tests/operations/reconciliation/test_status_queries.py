"""Asking M-Pesa how a payout ended: when, by which name, and which answers are believed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx
import pytest

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.messages import B2C_V1_PATH, B2C_V3_PATH, STATUS_PATH
from kasoko_cli.daraja.simulator.app import Fault, Rule, SimulatorSettings
from kasoko_cli.operations.reconciliation import status_queries
from kasoko_cli.operations.reconciliation.status_queries import AskPolicy, Inquiry
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt, Query
from tests.conftest import CountedIds, FixedClock
from tests.operations.payout_harness import ANN, BEN, RECEIPT, PayoutHarness

QUERY_CONVERSATION = "AG_20261123_query00000000000000"


def lost(harness: PayoutHarness, users: Mapping[str, str] | None = None) -> PayoutHarness:
    """Winners whose requests were taken, and whose acknowledgements and results were lost."""
    harness.owe(users or {"ann": ANN})

    def cut(request: httpx.Request) -> httpx.Response | None:
        if request.url.path in (B2C_V1_PATH, B2C_V3_PATH):
            harness.ask_simulator(request)
            raise httpx.ReadTimeout("the answer did not come", request=request)
        return None

    harness.interpose = cut
    while "PENDING" in harness.statuses().values():
        assert harness.send().sent, "a run stops after a few in a row, and the next one goes on"
    harness.interpose = lambda request: None
    harness.posts.clear()
    assert set(harness.statuses().values()) == {"UNKNOWN"}
    return harness


def answering(harness: PayoutHarness, *, conversation: str | None = QUERY_CONVERSATION) -> None:
    """M-Pesa takes every question, and its answer is left to the test."""

    def take(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != STATUS_PATH:
            return None
        body = {"OriginatorConversationID": "gw-query-1", "ConversationID": conversation, "ResponseCode": "0"}
        return httpx.Response(200, json={name: value for name, value in body.items() if value is not None})

    harness.interpose = take


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


def asked(harness: PayoutHarness) -> Query:
    """The question that was just asked about the one open payout."""
    report = harness.reconcile()
    assert [one.taken for one in report.asked] == [True]
    return harness.queries()[-1]


# --- When ----------------------------------------------------------------------------------------------------------


def test_questions_are_asked_on_the_ladder_and_no_earlier(harness: PayoutHarness) -> None:
    """5 min, 15 min, 1 h, 4 h, 12 h, 24 h after it was sent, and then once a day."""
    lost(harness)
    answering(harness)
    started, asked_after = harness.clock(), []
    for _ in range(60 * 24 * 3 // 5 + 2):
        if harness.reconcile(at_once=False).asked:
            asked_after.append(int((harness.clock() - started).total_seconds()))
        harness.clock.forward(300)
    assert asked_after == [300, 900, 3_600, 14_400, 43_200, 86_400, 172_800, 259_200]
    assert len(harness.queries()) == 8
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    harness.assert_books()


def test_a_round_says_what_it_did_not_ask_yet_and_when_it_will(harness: PayoutHarness) -> None:
    lost(harness, {"ann": ANN, "ben": BEN})
    sent_at = harness.attempt("ann").sent_at
    report = harness.reconcile(at_once=False)
    assert (report.asked, report.not_yet) == ([], 2)
    assert report.next_at is not None
    assert (report.next_at - sent_at).total_seconds() == 300


def test_a_payout_that_was_taken_is_asked_about_once_its_result_is_late(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.send()
    harness.posts.clear()
    harness.clock.forward(299)
    assert harness.reconcile(at_once=False).asked == []
    harness.clock.forward(1)
    assert len(harness.reconcile(at_once=False).asked) == 1
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_agreed()


def test_what_is_being_sent_or_ended_is_not_asked_about(harness: PayoutHarness) -> None:
    lost(harness, {"ann": ANN, "ben": BEN})
    harness.reconcile()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    asked_before = len(harness.queries())
    assert harness.reconcile().asked == []
    assert len(harness.queries()) == asked_before
    harness.assert_agreed()


def test_the_question_stands_in_the_database_before_it_is_asked(harness: PayoutHarness) -> None:
    lost(harness)
    seen = []

    def look(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == STATUS_PATH:
            [query] = harness.queries()
            assert harness.links.of_status(query.id).result in request.content.decode()
            seen.append(query.id)
        return None

    harness.interpose = look
    harness.reconcile()
    assert len(seen) == 1


def test_reconcile_never_sends_a_payment(harness: PayoutHarness) -> None:
    lost(harness)
    harness.requests.clear()
    for _ in range(3):
        harness.reconcile()
    assert {request.url.path for request in harness.requests} <= {STATUS_PATH, "/oauth/v1/generate"}


# --- What is believed ----------------------------------------------------------------------------------------------


def test_completed_with_the_right_ids_amount_and_receiver_is_paid(harness: PayoutHarness) -> None:
    lost(harness)
    answering(harness)
    query = asked(harness)
    assert harness.post(CallbackKind.STATUS, query.id, status(harness.attempt("ann"))) == "paid"
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert harness.attempt("ann").evidence == f"status:{query.id}"
    assert harness.attempt("ann").receipt == RECEIPT
    harness.assert_books()


#: How the core of 2017 spells what the one of now writes in one word.
SPACED = {
    "OriginatorConversationID": "Originator Conversation ID",
    "ConversationID": "Conversation ID",
    "TransactionID": "Transaction ID",
    "ReceiptNo": "Receipt No",
}


@pytest.mark.parametrize(("word", "became"), [("Completed", "COMPLETED"), ("Declined", "FAILED")])
def test_an_answer_in_the_spelling_of_2017_is_applied_like_one_of_now(
    harness: PayoutHarness, word: str, became: str
) -> None:
    lost(harness)
    answering(harness)
    query = asked(harness)
    text = json.dumps(status(harness.attempt("ann"), TransactionStatus=word))
    for key, spaced in SPACED.items():
        text = text.replace(f'"{key}"', f'"{spaced}"')
    harness.post(CallbackKind.STATUS, query.id, text.replace("Jane Doe", "Jos\\u00e9 Doe").encode())
    assert harness.payout("ann").status == became
    assert harness.incidents() == []
    harness.assert_books()


@pytest.mark.parametrize("word", ["Declined", "Cancelled", "Expired", "DECLINED"])
def test_a_final_no_fails_the_payout_which_may_then_be_tried_again(harness: PayoutHarness, word: str) -> None:
    lost(harness)
    answering(harness)
    query = asked(harness)
    assert (
        harness.post(CallbackKind.STATUS, query.id, status(harness.attempt("ann"), TransactionStatus=word)) == "failed"
    )
    assert harness.states("ann") == ("FAILED", ["FAILED"])
    assert harness.payout("ann").failure_code == "STATUS"
    assert harness.retry().retried == [], "it is asked a second time, some time later"
    harness.clock.forward(300)
    query = asked(harness)
    assert (
        harness.post(CallbackKind.STATUS, query.id, status(harness.attempt("ann"), TransactionStatus=word)) == "failed"
    )
    assert harness.retry().retried == ["derby.1.1"]
    harness.assert_books()


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


def questions(harness: PayoutHarness, ways: Iterable[Any]) -> list[tuple[Any, str, Attempt, Query]]:
    """A question about a lost winner for each way: the way, the user, the attempt, the question."""
    named = [(way, f"user{n}") for n, way in enumerate(ways)]
    lost(harness, {user: f"2547120{n:05d}" for n, (_, user) in enumerate(named)})
    answering(harness)
    harness.reconcile()
    by_attempt = {query.attempt_id: query for query in harness.queries()}
    found = [(way, user, harness.attempt(user)) for way, user in named]
    return [(way, user, attempt, by_attempt[attempt.id]) for way, user, attempt in found]


def test_an_answer_that_says_too_little_moves_nothing_and_never_fails_a_payout(harness: PayoutHarness) -> None:
    for what, user, attempt, query in questions(harness, OPEN):
        changes, answer, verdict = OPEN[what]
        before = harness.money()
        assert harness.post(CallbackKind.STATUS, query.id, status(attempt, **changes)) == verdict, what
        assert harness.money() == before, what
        assert harness.states(user) == ("UNKNOWN", ["UNKNOWN"]), what
        assert {one.id: one.answer for one in harness.queries()}[query.id] == answer, what
        assert harness.retry(only=[attempt.payout_id]).retried == [], what
    assert harness.incidents() == []
    harness.assert_books()


#: Answers that say something else than what was sent.
DIFFERENT: dict[str, dict[str, Any]] = {
    "amount": {"Amount": "101.00"},
    "amount by a cent": {"Amount": "100.01"},
    "no amount": {"Amount": None},
    "receiver": {"CreditPartyName": "254712999999 - Somebody Else"},
    "our id": {"OriginatorConversationID": "ks-00000000000000000000000000000000"},
    "conversation of the query": {"conversation": "AG_20261123_another"},
}


def test_an_answer_that_speaks_of_another_payment_moves_nothing_and_calls_a_person(harness: PayoutHarness) -> None:
    ways = [way for way in itertools.product(DIFFERENT, ("Completed", "Declined")) if way != ("receiver", "Declined")]
    for (what, word), user, attempt, query in questions(harness, ways):
        before = harness.money()
        body = status(attempt, TransactionStatus=word, **DIFFERENT[what])
        assert harness.post(CallbackKind.STATUS, query.id, body) == "mismatch", (what, word)
        assert harness.money() == before, (what, word)
        assert harness.states(user) == ("UNKNOWN", ["UNKNOWN"]), (what, word)
    assert harness.incidents() == ["mismatch"] * len(ways)
    harness.assert_books()


def test_what_ended_unpaid_under_our_id_paid_nobody_whatever_number_it_names(harness: PayoutHarness) -> None:
    """A restored copy may know another number than the one that the id went to: disbelieved, it would never end."""
    lost(harness)
    answering(harness)
    query = asked(harness)
    body = status(harness.attempt("ann"), TransactionStatus="Declined", **DIFFERENT["receiver"])
    assert harness.post(CallbackKind.STATUS, query.id, body) == "failed"
    assert harness.states("ann") == ("FAILED", ["FAILED"])
    assert harness.incidents() == []
    harness.assert_books()


def test_without_our_id_a_no_to_another_number_is_no_answer_about_our_payment(harness: PayoutHarness) -> None:
    lost(harness)
    answering(harness)
    query, before = asked(harness), harness.money()
    different = DIFFERENT["receiver"] | {"OriginatorConversationID": None}
    body = status(harness.attempt("ann"), TransactionStatus="Declined", **different)
    assert harness.post(CallbackKind.STATUS, query.id, body) == "mismatch"
    assert harness.money() == before
    harness.assert_books()


def test_the_payments_ids_are_read_from_the_parameters_and_never_from_the_envelope(harness: PayoutHarness) -> None:
    """The envelope names the query: ids of another payment of ours in it say nothing, and none of it is needed."""
    lost(harness, {"ann": ANN, "ben": BEN})
    answering(harness)
    harness.reconcile()
    ann, ben = harness.attempt("ann"), harness.attempt("ben")
    [about_ann] = [query for query in harness.queries() if query.attempt_id == ann.id]
    body = status(ann, originator=ben.id, transaction_id="UKN9Z9Z9Z9")
    assert harness.post(CallbackKind.STATUS, about_ann.id, body) == "paid"
    assert harness.statuses() == {"ann": "COMPLETED", "ben": "UNKNOWN"}
    assert harness.attempt("ann").receipt == RECEIPT
    harness.assert_books()


def test_an_envelope_that_names_the_payment_is_no_substitute_for_parameters_that_name_another(
    harness: PayoutHarness,
) -> None:
    lost(harness, {"ann": ANN, "ben": BEN})
    answering(harness)
    harness.reconcile()
    ann, ben = harness.attempt("ann"), harness.attempt("ben")
    [about_ann] = [query for query in harness.queries() if query.attempt_id == ann.id]
    before = harness.money()
    for word in ("Completed", "Declined"):
        body = status(ann, originator=ann.id, OriginatorConversationID=ben.id, TransactionStatus=word)
        assert harness.post(CallbackKind.STATUS, about_ann.id, body) == "mismatch"
    assert harness.money() == before
    assert harness.statuses() == {"ann": "UNKNOWN", "ben": "UNKNOWN"}
    harness.assert_books()


def test_an_answer_to_another_question_is_not_an_answer_to_this_one(harness: PayoutHarness) -> None:
    """Posted to the address of Ben's question, Ann's answer names Ann."""
    lost(harness, {"ann": ANN, "ben": BEN})
    answering(harness)
    harness.reconcile()
    ann, ben = harness.attempt("ann"), harness.attempt("ben")
    [about_ben] = [query for query in harness.queries() if query.attempt_id == ben.id]
    before = harness.money()
    assert harness.post(CallbackKind.STATUS, about_ben.id, status(ann)) == "mismatch"
    assert harness.money() == before
    harness.assert_books()


def test_a_receipt_that_proves_another_attempt_is_not_believed_in_an_answer_either(harness: PayoutHarness) -> None:
    lost(harness, {"ann": ANN, "ben": BEN})
    answering(harness)
    harness.reconcile()
    verdicts = [
        harness.post(CallbackKind.STATUS, query.id, status(harness.attempt(user)))
        for user in ("ann", "ben")
        for query in harness.queries()
        if query.attempt_id == harness.attempt(user).id
    ]
    assert verdicts == ["paid", "mismatch"]
    assert harness.statuses() == {"ann": "COMPLETED", "ben": "UNKNOWN"}
    harness.assert_books()


def test_the_address_of_a_question_that_was_never_asked_moves_nothing(harness: PayoutHarness) -> None:
    lost(harness)
    before = harness.money()
    assert harness.post(CallbackKind.STATUS, "kq-0000000000000000", status(harness.attempt("ann"))) == "stray"
    assert harness.post(CallbackKind.STATUS, harness.attempt("ann").id, status(harness.attempt("ann"))) == "stray"
    assert harness.money() == before
    harness.assert_books()


def test_an_answer_without_our_mark_is_a_hint(harness: PayoutHarness) -> None:
    lost(harness)
    answering(harness)
    query, before = asked(harness), harness.money()
    for word in ("Completed", "Declined"):
        body = status(harness.attempt("ann"), TransactionStatus=word)
        assert harness.post(CallbackKind.STATUS, query.id, body, signed=False) == "hint"
    assert harness.money() == before
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_a_question_that_waited_too_long_says_nothing(harness: PayoutHarness) -> None:
    lost(harness)
    answering(harness)
    query, before = asked(harness), harness.money()
    for body in (status(harness.attempt("ann")), status(harness.attempt("ann"), TransactionStatus="Declined"), b"{"):
        assert harness.post(CallbackKind.STATUS_TIMEOUT, query.id, body) == "noted"
    assert harness.money() == before
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    # The answer itself may still come.
    assert harness.post(CallbackKind.STATUS, query.id, status(harness.attempt("ann"))) == "paid"
    harness.assert_books()


def test_an_answer_that_cannot_be_read_is_written_down_and_moves_nothing(harness: PayoutHarness) -> None:
    lost(harness)
    answering(harness)
    query, before = asked(harness), harness.money()
    assert harness.post(CallbackKind.STATUS, query.id, b'{"Result": ') == "unreadable"
    assert harness.queries()[-1].answer == "UNREADABLE"
    assert harness.money() == before
    harness.assert_books()


def test_an_answer_that_comes_twice_or_contradicts_itself_credits_once(harness: PayoutHarness) -> None:
    lost(harness)
    answering(harness)
    query = asked(harness)
    yes = status(harness.attempt("ann"))
    no = status(harness.attempt("ann"), TransactionStatus="Declined")
    assert harness.post(CallbackKind.STATUS, query.id, yes) == "paid"
    before = harness.money()
    assert [harness.post(CallbackKind.STATUS, query.id, body) for body in (yes, no)] == ["paid", "failed"]
    assert harness.money() == before
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert harness.incidents() == ["contradiction"]
    harness.assert_books()


@pytest.mark.parametrize("code", [2032, 2033])
def test_not_found_never_fails_a_payout_however_often_it_is_said(harness: PayoutHarness, code: int) -> None:
    lost(harness)
    answering(harness)
    for _ in range(8):
        harness.reconcile(at_once=False)
        for query in harness.queries():
            if query.answered_at is None:
                harness.post(CallbackKind.STATUS, query.id, status(harness.attempt("ann"), code=code))
        harness.clock.forward(days=1)
    assert len(harness.queries()) == 7
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    assert harness.send().sent == []
    harness.assert_books()


# --- Acknowledgements of the payment and of the question -----------------------------------------------------------


def acknowledge(harness: PayoutHarness, change: Callable[[dict[str, Any]], None]) -> None:
    """The simulator takes the payment, and its acknowledgement arrives changed."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in (B2C_V1_PATH, B2C_V3_PATH):
            return None
        body = harness.ask_simulator(request).json()
        change(body)
        return httpx.Response(200, json=body)

    harness.interpose = answer


@pytest.mark.parametrize(("paid", "ends"), [(True, "COMPLETED"), (False, "FAILED")])
def test_a_payment_whose_acknowledgement_was_mixed_up_is_cleared_up_by_asking(
    harness: PayoutHarness, paid: bool, ends: str
) -> None:
    """Its acknowledgement named another payment's ids: they are no measure for an answer that names ours."""
    harness.owe({"ann": ANN if paid else "254799002040"})

    def mix_up(body: dict[str, Any]) -> None:
        body |= {"OriginatorConversationID": "ks-anothers", "ConversationID": "AG_20261123_anothers"}

    acknowledge(harness, mix_up)
    harness.send()
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    harness.deliver()
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    harness.interpose = lambda request: None
    harness.reconcile()
    assert harness.payout("ann").status == ends
    # A person has to look at it before anything is sent again.
    assert harness.retry(only=["derby.1.1"]).retried == []
    assert harness.incidents() == ["strange_acknowledgement"]
    harness.assert_agreed()


def test_an_acknowledgement_that_mixed_up_the_conversation_alone_needs_a_person(harness: PayoutHarness) -> None:
    """It named our id and another conversation: the result and the answer contradict it, and nothing is believed."""
    harness.owe({"ann": ANN})

    def mix_up(body: dict[str, Any]) -> None:
        body["ConversationID"] = "AG_20261123_anothers"

    acknowledge(harness, mix_up)
    harness.send()
    before = harness.money()
    harness.interpose = lambda request: None
    assert [judged.verdict for judged in harness.deliver()] == ["mismatch"]
    harness.reconcile()
    assert harness.money() == before
    assert harness.states("ann") == ("SENT", ["ACCEPTED"])
    assert [(one.kind, one.count) for one in harness.all_incidents()] == [("mismatch", 2)]
    harness.assert_books()


def test_an_answer_that_overtakes_the_acknowledgement_of_its_question_waits_for_it(harness: PayoutHarness) -> None:
    """Its conversation id is what ties it to the question; thrown away, it would be asked for again an hour later."""
    lost(harness)
    verdicts: list[str] = []

    def overtake(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != STATUS_PATH:
            return None
        answer = harness.ask_simulator(request)
        verdicts.extend(judged.verdict for judged in harness.deliver())
        return answer

    harness.interpose = overtake
    harness.reconcile()
    assert verdicts == []
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_agreed()


def test_an_answer_to_a_question_whose_acknowledgement_never_came_is_a_hint(harness: PayoutHarness) -> None:
    lost(harness)

    def cut(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != STATUS_PATH:
            return None
        harness.ask_simulator(request)
        raise httpx.ReadTimeout("the answer did not come", request=request)

    harness.interpose = cut
    before = harness.money()
    report = harness.reconcile(deliver=False)
    assert [(one.taken, one.why.partition(":")[0]) for one in report.asked] == [(False, "M-Pesa may have it")]
    assert [judged.verdict for judged in harness.deliver()] == ["hint"]
    assert harness.money() == before
    assert harness.queries()[-1].answer == "NOT_ASKED"
    harness.assert_books()


def test_a_question_that_m_pesa_did_not_take_is_written_down_as_not_asked(harness: PayoutHarness) -> None:
    lost(harness)

    def refuse(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != STATUS_PATH:
            return None
        return httpx.Response(500, json={"errorCode": "500.003.02", "errorMessage": "Spike Arrest Violation"})

    harness.interpose = refuse
    report = harness.reconcile()
    assert [one.taken for one in report.asked] == [False]
    assert [(query.answer, query.conversation_id) for query in harness.queries()] == [("NOT_ASKED", None)]
    assert status_queries.unanswered(harness.db, [one.query_id for one in report.asked]) == 0
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_every_trouble_of_a_status_query_leaves_the_money_where_it_is_until_the_truth_comes(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    faults = (Fault.STATUS_LOST, Fault.STATUS_LAGS, Fault.STATUS_INITIATED, Fault.STATUS_MISSING, Fault.STATUS_REFUSED)
    settings = SimulatorSettings(faults=tuple(Rule(fault, nth=n + 1) for n, fault in enumerate(faults)))
    harness = lost(PayoutHarness(db, clock, new_id, actor, settings))
    before = harness.money()
    for _ in faults:
        harness.reconcile()
        harness.clock.forward(1)
        assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
        assert harness.money() == before
    harness.reconcile()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_agreed()


# --- v1 ------------------------------------------------------------------------------------------------------------


def test_on_v1_a_payment_without_an_acknowledgement_cannot_be_asked_about_and_is_named(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    """M-Pesa has no name for it that we know: only the statement or the portal can tell."""
    harness = lost(PayoutHarness(db, clock, new_id, actor, api="v1"))
    report = harness.reconcile()
    assert (report.asked, report.unaskable) == ([], ["derby.1.1"])
    assert harness.queries() == []
    assert [one.payout_id for one in status_queries.list_open(harness.db)] == ["derby.1.1"]
    assert harness.send().sent == []
    harness.assert_books()


def test_on_v1_the_question_names_the_gateways_id(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    harness = PayoutHarness(db, clock, new_id, actor, api="v1")
    harness.owe({"ann": ANN})
    harness.send()
    harness.posts.clear()
    harness.reconcile()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_books()


# --- Large failures ------------------------------------------------------------------------------------------------


def failed(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, cents=1_100_000)
    harness.send()
    harness.posts.clear()
    attempt = harness.attempt("ann")
    harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=26))
    assert harness.states("ann") == ("FAILED", ["FAILED"])


def test_a_large_failure_that_was_posted_is_confirmed_by_asking_and_a_completed_wins(harness: PayoutHarness) -> None:
    """The simulator paid; the failure was a lie of the wire. Asking first saves a second payment."""
    failed(harness)
    [left] = harness.retry().left
    assert left.hint.endswith("kasoko reconcile --now")
    assert len(harness.reconcile().asked) == 1
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert harness.incidents() == ["late_success"]
    harness.assert_agreed()


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
    harness: PayoutHarness, changes: dict[str, Any], may_go: bool
) -> None:
    failed(harness)
    answering(harness)
    harness.clock.forward(300)
    harness.reconcile()
    query = harness.queries()[-1]
    harness.post(CallbackKind.STATUS, query.id, status(harness.attempt("ann"), **changes))
    assert harness.retry().retried == (["derby.1.1"] if may_go else [])
    harness.assert_books()


def test_a_small_failure_is_not_asked_about(harness: PayoutHarness) -> None:
    harness.owe({"ann": "254799002040"})
    harness.send()
    harness.deliver()
    harness.clock.forward(300)
    assert harness.reconcile().asked == []
    assert len(harness.reconcile(confirm_above_cents=9_999).asked) == 1


def test_list_open_says_what_was_asked_and_answered(harness: PayoutHarness) -> None:
    lost(harness)
    answering(harness)
    [one] = status_queries.list_open(harness.db)
    assert (one.payout_id, one.status, one.wire_cents, one.questions, one.last_answer) == (
        "derby.1.1",
        "UNKNOWN",
        10_000,
        0,
        "",
    )
    query = asked(harness)
    harness.post(CallbackKind.STATUS, query.id, status(harness.attempt("ann"), code=2033))
    [one] = status_queries.list_open(harness.db, market="derby")
    assert (one.questions, one.last_answer) == (1, "NOT_FOUND M-Pesa does not know it yet (code 2033)")


def test_the_first_question_comes_after_as_long_as_the_operator_says(harness: PayoutHarness) -> None:
    lost(harness)
    harness.clock.forward(60)
    report = status_queries.ask_around(
        harness.context,
        harness.gateway,
        Inquiry(AskPolicy(after_seconds=60), harness.trust),
    )
    assert len(report.asked) == 1
