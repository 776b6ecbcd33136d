"""How far a callback is believed: nothing moves money but a result whose every factor holds."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.codes import RESULT_RULES, Fate
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.daraja.messages import B2C_V1_PATH, B2C_V3_PATH
from kasoko_cli.daraja.simulator.app import SimulatorSettings
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt
from tests.conftest import CountedIds, FixedClock
from tests.operations.payout_harness import ANN, BEN, RECEIPT, PayoutHarness

PAY_PATHS = (B2C_V1_PATH, B2C_V3_PATH)
CONVERSATION = "AG_20261123_0100104k2m9x7c1v5b8n"


@pytest.fixture
def sent(harness: PayoutHarness) -> PayoutHarness:
    """Ann's payout was taken by M-Pesa; the result that it owes is thrown away."""
    harness.owe({"ann": ANN})
    harness.send()
    assert harness.states("ann") == ("SENT", ["ACCEPTED"])
    harness.posts.clear()
    return harness


def acknowledged(**changes: object) -> Callable[[httpx.Request], httpx.Response | None]:
    """Take the payment, and acknowledge it with other ids than Daraja would; None leaves one out."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAY_PATHS:
            return None
        body = {"ConversationID": CONVERSATION, "ResponseCode": "0", "ResponseDescription": "Accepted", **changes}
        return httpx.Response(200, json={name: value for name, value in body.items() if value is not None})

    return answer


def broken(request: httpx.Request) -> httpx.Response | None:
    """The request arrives, and its answer does not."""
    if request.url.path in PAY_PATHS:
        raise httpx.ReadTimeout("the answer did not come", request=request)
    return None


# --- Four factors -------------------------------------------------------------------------------------------------

#: What takes each factor away from a right success.
WRONG: dict[str, dict[str, Any]] = {
    "our id": {"originator": "ks-00000000000000000000000000000000"},
    "conversation id": {"conversation": "AG_20261123_another0000000000000"},
    "amount and receipt": {"amount": 101},
}


def winners(harness: PayoutHarness, ways: Iterable[Any]) -> list[tuple[Any, str, Attempt]]:
    """A winner for each way, all acknowledged: the way, the user, the attempt."""
    named = [(way, f"user{n}") for n, way in enumerate(ways)]
    harness.owe({user: f"2547120{n:05d}" for n, (_, user) in enumerate(named)})
    harness.send()
    return [(way, user, harness.attempt(user)) for way, user in named]


def test_of_sixteen_ways_for_a_success_only_the_one_with_every_factor_moves_money(harness: PayoutHarness) -> None:
    paid = []
    for way, user, attempt in winners(harness, itertools.product((True, False), repeat=4)):
        mac, *factors = way
        changes: dict[str, Any] = {}
        for name, is_right in zip(WRONG, factors, strict=True):
            changes |= {} if is_right else WRONG[name]
        before = harness.money()
        harness.post(
            CallbackKind.RESULT,
            attempt.id,
            harness.result(attempt, receipt=f"UKN7A1B2{user[4:]:0>2}", **changes),
            signed=mac,
        )
        if harness.payout(user).status == "COMPLETED":
            paid.append(way)
            assert harness.wallet(user) == (10_000, 0)
        else:
            assert harness.money() == before, way
            assert harness.states(user) in [("SENT", ["ACCEPTED"]), ("UNKNOWN", ["UNKNOWN"])], way
            assert harness.wallet(user) == (0, 0)
    assert paid == [(True, True, True, True)]
    harness.assert_books()


def test_of_eight_ways_for_a_failure_only_the_one_with_every_factor_frees_the_money_for_another_try(
    harness: PayoutHarness,
) -> None:
    """A forged failure is worse than a forged success: it invites a second payment."""
    failed = []
    for way, user, attempt in winners(harness, itertools.product((True, False), repeat=3)):
        mac, *factors = way
        changes: dict[str, Any] = {}
        for name, is_right in zip(("our id", "conversation id"), factors, strict=True):
            changes |= {} if is_right else WRONG[name]
        before = harness.money()
        said = harness.result(attempt, code=26, receipt=None, **changes)
        harness.post(CallbackKind.RESULT, attempt.id, said, signed=mac)
        if harness.payout(user).status == "FAILED":
            failed.append((way, harness.payout(user).id))
        else:
            assert harness.money() == before, way
            assert harness.states(user) in [("SENT", ["ACCEPTED"]), ("UNKNOWN", ["UNKNOWN"])], way
    assert [way for way, _ in failed] == [(True, True, True)]
    assert harness.retry().retried == [failed[0][1]]
    harness.assert_books()


#: A right success without one thing, or with one thing that says nothing; and the verdict on it.
LACKING: dict[str, tuple[dict[str, Any], str]] = {
    "our id": ({"originator": None}, "hint"),
    "the conversation id": ({"conversation": None}, "hint"),
    "the amount": ({"amount": "left out"}, "hint"),
    "the receipt": ({"receipt": None}, "hint"),
    "the receipt, which is the placeholder": ({"receipt": "UKN0000000"}, "hint"),
    "an amount that is a number": ({"amount": "a hundred"}, "hint"),
    "an amount that is exact": ({"amount": "100.001"}, "hint"),
    "an amount that is positive": ({"amount": -100}, "hint"),
    "an amount that is not true": ({"amount": True}, "hint"),
    "the result code": ({"code": None}, "unclear"),
    "the text of the result code": ({"code": ""}, "unclear"),
    "a code that is not false": ({"code": False, "amount": "left out"}, "unclear"),
    "a final type": ({"result_type": 1}, "unclear"),
    "a final type, as text": ({"result_type": "1"}, "unclear"),
}


def test_a_success_that_lacks_something_makes_unknown_and_moves_no_money(harness: PayoutHarness) -> None:
    for what, user, attempt in winners(harness, LACKING):
        changes, verdict = LACKING[what]
        before = harness.money()
        assert harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, **changes)) == verdict, what
        assert harness.money() == before, what
        assert harness.states(user) == ("UNKNOWN", ["UNKNOWN"]), what
        assert harness.retry(only=[harness.payout(user).id]).left[0].hint == "kasoko reconcile"
    assert harness.incidents() == []
    harness.assert_books()


#: A success that says something else than what was sent.
LIES: dict[str, dict[str, Any]] = {
    "a shilling less": {"amount": 99},
    "a cent more": {"amount": "100.01"},
    "cents for shillings": {"amount": 10_000},
    "nothing": {"amount": 0},
    "two receipts": {"transaction_id": "UKN9Z9Z9Z9"},
    "another receiver": {"receiver": "0712999222"},
    "another id": {"originator": "ks-0"},
    "another conversation": {"conversation": "AG_x"},
}


def test_a_success_that_says_something_else_changes_nothing_and_calls_a_person(harness: PayoutHarness) -> None:
    for lie, user, attempt in winners(harness, LIES):
        before = harness.money()
        assert harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, **LIES[lie])) == "mismatch", lie
        assert harness.money() == before, lie
        assert harness.states(user) == ("SENT", ["ACCEPTED"]), lie
    assert harness.incidents() == ["mismatch"] * len(LIES)
    harness.assert_books()


def test_a_success_in_another_spelling_is_a_success(harness: PayoutHarness) -> None:
    spellings: list[dict[str, Any]] = [
        {"code": "0"},
        {"amount": "100.00"},
        {"result_type": "0"},
        {"result_type": None},
        {"receiver": "0712000005"},
        {"receiver": "2547****0111"},
    ]
    for n, (said, user, attempt) in enumerate(winners(harness, spellings)):
        body = harness.result(attempt, receipt=f"UKN7A1B2C{n}", **said)
        if said.get("receiver") == "0712000005":
            body = harness.result(attempt, receipt=f"UKN7A1B2C{n}", receiver=f"0{attempt.phone[3:]}")
        assert harness.post(CallbackKind.RESULT, attempt.id, body) == "paid", said
        assert harness.states(user) == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_books()


UNREADABLE = {
    "nothing": b"",
    "half": b"{",
    "the code twice": b'{"Result": {"ResultCode": 0, "ResultCode": 2040}}',
    "not a number": b'{"Result": {"ResultCode": NaN}}',
    "past every number": b'{"Result": {"ResultCode": 1e400}}',
    "deep": b'{"Result": ' + b"[" * 5_000,
    "half a character": b'{"Result": {"ResultDesc": "\\ud800"}}',
    "a NUL": b'{"Result": {"ResultDesc": "\\u0000"}}',
    "no text": b"\xff\xfe\x00",
    "a word": b'"0"',
}


def test_a_body_that_cannot_be_read_is_kept_makes_unknown_and_is_in_nobodys_way(harness: PayoutHarness) -> None:
    for n, (what, user, attempt) in enumerate(winners(harness, UNREADABLE)):
        before = harness.money()
        assert harness.post(CallbackKind.RESULT, attempt.id, UNREADABLE[what]) == "unreadable", what
        assert harness.money() == before, what
        assert harness.states(user) == ("UNKNOWN", ["UNKNOWN"]), what
        true = harness.result(attempt, receipt=f"UKN7A1B2C{n}")
        assert harness.post(CallbackKind.RESULT, attempt.id, true) == "paid", what
    assert harness.incidents() == ["unreadable"] * len(UNREADABLE)
    harness.assert_books()


# --- Receipts and addresses ---------------------------------------------------------------------------------------


def test_a_receipt_that_proves_another_attempt_proves_nothing_more(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send()
    ann, ben = harness.attempt("ann"), harness.attempt("ben")
    assert harness.post(CallbackKind.RESULT, ann.id, harness.result(ann)) == "paid"
    before = harness.money()
    assert harness.post(CallbackKind.RESULT, ben.id, harness.result(ben, receipt=RECEIPT)) == "mismatch"
    assert harness.money() == before
    assert harness.statuses() == {"ann": "COMPLETED", "ben": "SENT"}
    harness.assert_books()


@pytest.mark.parametrize("code", [0, 2040])
def test_a_result_of_one_payment_posted_to_the_address_of_another_changes_neither(
    harness: PayoutHarness, code: int
) -> None:
    """Both payouts are equal: amount and phone alone could not tell them apart."""
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send()
    ann, ben = harness.attempt("ann"), harness.attempt("ben")
    before = harness.money()
    assert harness.post(CallbackKind.RESULT, ben.id, harness.result(ann, code=code)) == "mismatch"
    assert harness.money() == before
    assert harness.statuses() == {"ann": "SENT", "ben": "SENT"}
    harness.assert_books()


def test_a_result_for_an_attempt_that_is_not_here_is_kept_and_a_person_is_called(sent: PayoutHarness) -> None:
    """Our own mark on an id that we do not know: the database was restored from an older copy."""
    before = sent.money()
    stranger = sent.attempt("ann")
    stranger.id = "ks-ffffffffffffffffffffffffffffffff"
    assert sent.post(CallbackKind.RESULT, stranger.id, sent.result(stranger)) == "stray"
    assert sent.money() == before
    assert sent.incidents() == ["stray_result"]
    sent.assert_books()


@pytest.mark.parametrize("kind", list(CallbackKind))
def test_no_body_without_our_mark_does_anything_whatever_its_address(sent: PayoutHarness, kind: CallbackKind) -> None:
    attempt, before = sent.attempt("ann"), sent.money()
    for code in (0, 2040, 1):
        assert sent.post(kind, attempt.id, sent.result(attempt, code=code), signed=False) == "hint"
        assert sent.post(kind, "", sent.result(attempt, code=code), signed=False) == "hint"
    assert sent.money() == before
    assert sent.states("ann") == ("SENT", ["ACCEPTED"])
    assert sent.incidents() == []
    sent.assert_books()


@pytest.mark.parametrize(
    "kind", [CallbackKind.STATUS, CallbackKind.STATUS_TIMEOUT, CallbackKind.BALANCE, CallbackKind.BALANCE_TIMEOUT]
)
def test_the_result_of_a_payment_on_the_address_of_a_query_moves_nothing(
    sent: PayoutHarness, kind: CallbackKind
) -> None:
    attempt, before = sent.attempt("ann"), sent.money()
    assert sent.post(kind, attempt.id, sent.result(attempt)) in ("stray", "noted")
    assert sent.money() == before
    assert sent.states("ann") == ("SENT", ["ACCEPTED"])
    sent.assert_books()


# --- Acknowledgements that were lost, or name other things --------------------------------------------------------


@pytest.mark.parametrize("code", [0, 2040])
def test_a_result_whose_acknowledgement_was_lost_is_a_reason_to_ask_and_no_more(
    harness: PayoutHarness, code: int
) -> None:
    harness.owe({"ann": ANN})
    harness.interpose = broken
    harness.send()
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    attempt, before = harness.attempt("ann"), harness.money()
    assert (
        harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=code, conversation=CONVERSATION))
        == "hint"
    )
    assert harness.money() == before
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    assert harness.retry(only=["derby.1.1"]).retried == []
    harness.assert_books()


def test_a_success_whose_acknowledgement_was_lost_is_believed_where_the_operator_says_so(
    harness: PayoutHarness,
) -> None:
    harness.owe({"ann": ANN})
    harness.interpose, harness.trust = broken, Trust(success_without_ack=True)
    harness.send()
    attempt = harness.attempt("ann")
    failure = harness.result(attempt, code=2040, conversation=CONVERSATION)
    assert harness.post(CallbackKind.RESULT, attempt.id, failure) == "hint"
    assert harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, conversation=CONVERSATION)) == "paid"
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_books()


@pytest.mark.parametrize("code", [0, 2040])
def test_a_result_that_overtakes_its_acknowledgement_waits_for_it(harness: PayoutHarness, code: int) -> None:
    """It is judged once the acknowledgement is recorded, in the same run."""
    harness.owe({"ann": ANN})
    verdicts = []

    def overtaken(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAY_PATHS:
            return None
        answer = harness.ask_simulator(request)
        attempt = harness.attempt("ann")
        conversation = answer.json()["ConversationID"]
        verdicts.append(
            harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=code, conversation=conversation))
        )
        assert harness.states("ann") == ("SENDING", ["INTENT"])
        return answer

    harness.interpose = overtaken
    harness.send()
    assert verdicts == ["waits"]
    assert harness.states("ann") == (("COMPLETED", ["SUCCEEDED"]) if code == 0 else ("FAILED", ["FAILED"]))
    harness.assert_books()


def test_a_result_that_overtook_an_acknowledgement_which_never_came_is_a_hint_once_the_lease_is_over(
    harness: PayoutHarness,
) -> None:
    harness.owe({"ann": ANN})

    def killed(request: httpx.Request) -> httpx.Response | None:
        if request.url.path not in PAY_PATHS:
            return None
        attempt = harness.attempt("ann")
        assert (
            harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, conversation=CONVERSATION)) == "waits"
        )
        raise KeyboardInterrupt

    harness.interpose = killed
    with pytest.raises(KeyboardInterrupt):
        harness.send()
    assert harness.deliver([]) == []
    harness.clock.forward(301)
    assert [judged.verdict for judged in harness.deliver([])] == ["hint"]
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    harness.assert_books()


@pytest.mark.parametrize(
    ("ids", "incidents"),
    [
        pytest.param({"OriginatorConversationID": "gw-4711"}, ["strange_acknowledgement"], id="an id of the gateway's"),
        pytest.param({"OriginatorConversationID": None}, [], id="no id of ours"),
    ],
)
def test_a_gateway_that_calls_our_payment_by_an_id_of_its_own_can_still_say_how_it_ended(
    harness: PayoutHarness, ids: dict[str, Any], incidents: list[str]
) -> None:
    """Other people's simulators do not echo our id, and put their own into the result."""
    harness.owe({"ann": ANN})
    harness.interpose = acknowledged(**ids)
    harness.send()
    assert harness.incidents() == incidents
    attempt = harness.attempt("ann")
    assert attempt.conversation_id == CONVERSATION
    named = ids["OriginatorConversationID"] or attempt.id
    assert harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, originator=named)) == "paid"
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_books()


@pytest.mark.parametrize("code", [0, 2040])
def test_an_acknowledgement_that_was_mixed_up_with_anothers_makes_unknown_and_the_true_result_a_hint(
    harness: PayoutHarness, code: int
) -> None:
    """What it named belongs to another payment, so the true result cannot fit it, and is no lie either."""
    harness.owe({"ann": ANN})
    harness.interpose = acknowledged(OriginatorConversationID="ks-anothers", ConversationID="AG_anothers")
    harness.send()
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    attempt, before = harness.attempt("ann"), harness.money()
    true = harness.result(attempt, code=code, conversation=CONVERSATION)
    assert harness.post(CallbackKind.RESULT, attempt.id, true) == "hint"
    assert harness.money() == before
    assert harness.incidents() == ["strange_acknowledgement"]
    harness.assert_books()


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param({"ConversationID": None}, id="without a conversation id"),
        pytest.param({"ConversationID": ""}, id="with an empty conversation id"),
    ],
)
def test_an_acknowledgement_without_a_conversation_id_leaves_unknown(
    harness: PayoutHarness, ids: dict[str, Any]
) -> None:
    harness.owe({"ann": ANN})
    harness.interpose = acknowledged(**ids)
    run = harness.send()
    assert [str(sent.became) for sent in run.sent] == ["UNKNOWN"]
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    harness.assert_books()


# --- v1: the gateway makes the id ----------------------------------------------------------------------------------


@pytest.fixture
def v1(db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor) -> PayoutHarness:
    """The older API: M-Pesa never hears our id."""
    return PayoutHarness(db, clock, new_id, actor, api="v1")


def test_on_v1_the_result_names_the_gateways_id_and_is_believed(v1: PayoutHarness) -> None:
    v1.owe({"ann": ANN})
    v1.send()
    attempt = v1.attempt("ann")
    assert attempt.gateway_id not in (None, attempt.id)
    assert [judged.verdict for judged in v1.deliver()] == ["paid"]
    assert v1.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    v1.assert_books()


def test_on_v1_a_result_under_another_gateway_id_changes_nothing(v1: PayoutHarness) -> None:
    v1.owe({"ann": ANN})
    v1.send()
    attempt, before = v1.attempt("ann"), v1.money()
    assert v1.post(CallbackKind.RESULT, attempt.id, v1.result(attempt, originator="1a2b-3c4d-5e6f-0")) == "mismatch"
    assert v1.money() == before
    v1.assert_books()


@pytest.mark.parametrize("code", [0, 2040])
def test_on_v1_no_result_is_believed_without_its_acknowledgement(v1: PayoutHarness, code: int) -> None:
    v1.owe({"ann": ANN})
    v1.interpose = broken
    v1.send()
    attempt, before = v1.attempt("ann"), v1.money()
    body = v1.result(attempt, code=code, originator="1a2b-3c4d-5e6f-0", conversation=CONVERSATION)
    assert v1.post(CallbackKind.RESULT, attempt.id, body) == "hint"
    assert v1.money() == before
    assert v1.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    v1.assert_books()


# --- Notices of the queue ------------------------------------------------------------------------------------------


def our_own_request(harness: PayoutHarness, attempt: Attempt) -> dict[str, Any]:
    """What a queue timeout posts back, credential and all."""
    return {
        "OriginatorConversationID": attempt.id,
        "InitiatorName": "testapi",
        "SecurityCredential": "c2VjcmV0" * 40,
        "CommandID": "BusinessPayment",
        "Amount": attempt.wire_cents // 100,
        "PartyA": "600999",
        "PartyB": attempt.phone,
        "Remarks": "kasoko payout",
        "QueueTimeOutURL": harness.links.of_payment(attempt.id).timeout,
        "ResultURL": harness.links.of_payment(attempt.id).result,
    }


SHAPES: dict[str, Callable[[PayoutHarness, Attempt], dict[str, Any] | bytes]] = {
    "an envelope that says 0": lambda harness, attempt: harness.result(attempt, code=0),
    "an envelope that says 0, of type 1": lambda harness, attempt: harness.result(attempt, code=0, result_type=1),
    "an envelope that says 1": lambda harness, attempt: harness.result(attempt, code=1, result_type=1, receipt=""),
    "an envelope that says 2040": lambda harness, attempt: harness.result(attempt, code=2040),
    "our own request": our_own_request,
    "nothing that can be read": lambda harness, attempt: b"\x00",
}


def test_a_timeout_notice_is_neither_paid_nor_failed_whatever_it_says(harness: PayoutHarness) -> None:
    for n, (shape, user, attempt) in enumerate(winners(harness, SHAPES)):
        before = harness.money()
        assert harness.post(CallbackKind.TIMEOUT, attempt.id, SHAPES[shape](harness, attempt)) == "timeout", shape
        assert harness.money() == before, shape
        assert harness.states(user) == ("UNKNOWN", ["UNKNOWN"]), shape
        assert harness.retry(only=[harness.payout(user).id]).retried == []
        assert (
            harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, receipt=f"UKN7A1B2C{n}")) == "paid"
        ), shape
    harness.assert_books()


def test_a_timeout_notice_after_the_end_changes_nothing(harness: PayoutHarness) -> None:
    for n, (way, user, attempt) in enumerate(winners(harness, itertools.product(SHAPES, (0, 2040)))):
        shape, code = way
        harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=code, receipt=f"UKN7A1B2{n:0>2}"))
        before, states = harness.money(), harness.states(user)
        assert harness.post(CallbackKind.TIMEOUT, attempt.id, SHAPES[shape](harness, attempt)) == "timeout"
        assert (harness.money(), harness.states(user)) == (before, states), way
    harness.assert_books()


def test_our_own_request_on_the_address_of_results_is_no_result(sent: PayoutHarness) -> None:
    attempt, before = sent.attempt("ann"), sent.money()
    assert sent.post(CallbackKind.RESULT, attempt.id, our_own_request(sent, attempt)) == "hint"
    assert sent.money() == before
    assert sent.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    sent.assert_books()


# --- Every code ----------------------------------------------------------------------------------------------------


def test_each_code_of_a_definite_failure_fails_the_payout_and_frees_its_money(harness: PayoutHarness) -> None:
    codes = [code for code, rule in RESULT_RULES.items() if rule.fate is Fate.FAILED]
    assert len(codes) > 30
    for code, user, attempt in winners(harness, codes):
        said = harness.result(attempt, code=code, receipt="UKN7D4E5F6")
        assert harness.post(CallbackKind.RESULT, attempt.id, said) == "failed", code
        payout = harness.payout(user)
        assert harness.states(user) == ("FAILED", ["FAILED"]), code
        assert (payout.failure_code, payout.failure_reason) == (code, "as the code says")
        assert harness.attempt(user).receipt is None
        assert harness.wallet(user) == (0, 0)
    assert len(harness.entries("release")) == len(codes)
    harness.assert_books()


def test_each_code_that_leaves_it_open_makes_unknown(harness: PayoutHarness) -> None:
    codes = [code for code, rule in RESULT_RULES.items() if rule.fate is Fate.UNKNOWN]
    codes += ["99999", "SFC_IC9999", "00", "-1", "Success"]
    ways = winners(harness, codes)
    before = harness.money()
    for code, user, attempt in ways:
        assert harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=code)) == "unclear", code
        assert harness.states(user) == ("UNKNOWN", ["UNKNOWN"]), code
    assert harness.money() == before
    harness.assert_books()


# --- The same again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 2040])
def test_one_body_fifty_times_in_ten_threads_posts_one_entry(sent: PayoutHarness, code: int) -> None:
    attempt = sent.attempt("ann")
    notice = sent.result(attempt, code=code)
    trouble: list[BaseException] = []

    def post() -> None:
        try:
            for _ in range(5):
                sent.post(CallbackKind.RESULT, attempt.id, notice)
        except BaseException as error:
            trouble.append(error)

    threads = [threading.Thread(target=post) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    if code == 0:
        assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"])
        assert len(sent.entries("credit")) == len(sent.entries("deliver")) == 1
        assert sent.wallet("ann") == (10_000, 0)
    else:
        assert sent.states("ann") == ("FAILED", ["FAILED"])
        assert len(sent.entries("release")) == 1
    sent.assert_books()


def test_one_poisoned_body_does_not_keep_the_others_from_being_applied(sent: PayoutHarness) -> None:
    attempt = sent.attempt("ann")
    bodies = [b"[" * 60_000, b'{"Result": 7}', b"\x00" * 100]
    deliveries = [Delivery(CallbackKind.RESULT, attempt.id, True, "", sent.clock(), body=body) for body in bodies]
    apply_results.store_deliveries(sent.db, sent.clock, deliveries)
    assert sent.post(CallbackKind.RESULT, attempt.id, sent.result(attempt)) == "paid"
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    sent.assert_books()


def test_a_success_that_names_its_receiver_in_latin_1_is_paid(sent: PayoutHarness) -> None:
    attempt = sent.attempt("ann")
    body = json.dumps(sent.result(attempt, receiver=attempt.phone)).encode().replace(b"JANE DOE", b"JOS\xc9 DOE")
    assert sent.post(CallbackKind.RESULT, attempt.id, body) == "paid"
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert sent.incidents() == []
    sent.assert_books()


def test_results_in_every_shape_that_was_seen_live_are_read_the_same(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    harness = PayoutHarness(db, clock, new_id, actor, SimulatorSettings(vary_shapes=True))
    harness.owe({f"user{n}": f"2547120{n:05d}" for n in range(24)})
    harness.send()
    assert {judged.verdict for judged in harness.deliver()} == {"paid"}
    assert set(harness.statuses().values()) == {"COMPLETED"}
    harness.assert_agreed()
