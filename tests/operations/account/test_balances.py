"""The float: what M-Pesa says of it is taken down and believed, what it does not say stays not known."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.messages import parse_result
from kasoko_cli.domain.float_cover import FloatCheck
from kasoko_cli.errors import Refused
from kasoko_cli.operations.account import balances
from kasoko_cli.operations.account.balances import AskedBalance, FloatReport
from kasoko_cli.operations.account.tariff_file import load_tariff
from kasoko_cli.operations.payouts import float_check
from kasoko_cli.operations.payouts.float_check import Gate, GatePolicy
from kasoko_cli.operations.payouts.run import Selection
from tests.operations.payout_harness import ANN, BEN, CYN, PayoutHarness

TARIFF = load_tariff()
DAY = 86_400


def ask(harness: PayoutHarness) -> AskedBalance:
    return balances.ask(harness.context, harness.gateway)


def report(harness: PayoutHarness) -> FloatReport:
    return balances.report(harness.db, harness.clock, TARIFF)


def look(harness: PayoutHarness, check: FloatCheck = FloatCheck.REFUSE, **which: Any) -> Gate:
    return float_check.look(harness.db, harness.clock, GatePolicy(check, TARIFF, DAY), Selection(**which))


def say(harness: PayoutHarness, query_id: str, packed: str, *, code: str = "0", conversation: str | None = None) -> str:
    """M-Pesa answers a balance query with this."""
    [query] = [one for one in harness.queries() if one.id == query_id]
    items = [{"Key": "AccountBalance", "Value": packed}, {"Key": "ErrorMsg", "Value": "API Password is locked. "}]
    result = {
        "ResultCode": code,
        "ConversationID": conversation or query.conversation_id,
        "ResultParameters": {"ResultParameter": items},
    }
    return harness.post(CallbackKind.BALANCE, query_id, {"Result": result})


def lock_in(harness: PayoutHarness, kes: str) -> None:
    """M-Pesa says that so much is in the utility account now."""
    asked = ask(harness)
    harness.posts.clear()
    assert say(harness, asked.query_id, f"Utility Account|KES|{kes}|{kes}|0.00|0.00") == "noted"


def test_a_float_that_nobody_ever_said_is_not_known(harness: PayoutHarness) -> None:
    found = report(harness)
    assert (found.reading, found.available_cents, found.difference_cents, found.unexplained_cents) == (None,) * 4


def test_the_answer_to_a_question_is_the_float(harness: PayoutHarness) -> None:
    asked = ask(harness)
    assert (asked.taken, balances.answer_of(harness.db, asked.query_id)) == (True, None)

    assert [judged.verdict for judged in harness.deliver()] == ["noted"]

    assert balances.answer_of(harness.db, asked.query_id) == ""
    found = report(harness)
    assert found.reading is not None
    assert found.reading.utility_cents == harness.simulator.gateway.ledger()["utility_cents"]
    assert (found.reading.said_by, found.reading.age_seconds) == ("balance query", 0)
    assert found.available_cents == found.reading.utility_cents


def test_an_answer_that_overtakes_its_acknowledgement_waits_for_it(harness: PayoutHarness) -> None:
    def overtaken(request: Any) -> Any:
        if "accountbalance" not in request.url.path:
            return None
        answer = harness.ask_simulator(request)
        harness.deliver()  # before our side has read the acknowledgement
        return answer

    harness.interpose = overtaken
    asked = ask(harness)
    assert balances.answer_of(harness.db, asked.query_id) is None
    harness.deliver()
    assert balances.answer_of(harness.db, asked.query_id) == ""


def test_a_balance_under_another_conversation_id_is_not_believed(harness: PayoutHarness) -> None:
    asked = ask(harness)
    assert say(harness, asked.query_id, "Utility Account|KES|1.00|1.00", conversation="AG_forged") == "hint"
    assert report(harness).reading is None
    assert balances.answer_of(harness.db, asked.query_id) is None


def test_a_balance_without_our_mark_or_of_no_question_changes_nothing(harness: PayoutHarness) -> None:
    asked = ask(harness)
    body = {"Result": {"ResultCode": "0", "ConversationID": "AG_1"}}
    assert harness.post(CallbackKind.BALANCE, asked.query_id, body, signed=False) == "hint"
    assert harness.post(CallbackKind.BALANCE, "kq-nobody", body) == "stray"
    assert report(harness).reading is None


@pytest.mark.parametrize(
    ("packed", "code", "verdict", "said"),
    [
        ("Working Account|KES|1.00|1.00", "0", "unreadable", "M-Pesa names no utility account"),
        (
            "Utility Account|KES|1.00",
            "0",
            "unreadable",
            "M-Pesa names no utility account; cannot be read: Utility Account|KES|1.00",
        ),
        ("", "8006", "noted", "code 8006: API Password is locked."),
    ],
)
def test_an_answer_without_a_balance_says_why_and_leaves_the_float_unknown(
    harness: PayoutHarness, packed: str, code: str, verdict: str, said: str
) -> None:
    asked = ask(harness)
    assert say(harness, asked.query_id, packed, code=code) == verdict
    assert balances.answer_of(harness.db, asked.query_id) == said
    assert report(harness).reading is None


def test_every_result_says_the_float_by_the_way_and_a_repeat_says_nothing_new(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send()
    notices = list(harness.posts)
    harness.deliver()
    harness.deliver(notices)
    found = report(harness)
    assert found.reading is not None
    assert found.reading.said_by == "payment result"
    # The lowest of those from the same second: what M-Pesa had once both were paid.
    assert found.reading.utility_cents == harness.simulator.gateway.ledger()["utility_cents"]
    assert found.available_cents == found.reading.utility_cents


def test_what_is_under_way_is_not_counted_on(harness: PayoutHarness) -> None:
    lock_in(harness, "1000.00")
    harness.clock.forward(60)
    harness.owe({"ann": ANN})
    harness.send()
    found = report(harness)
    assert (found.in_flight_cents, found.available_cents) == (10_000, 100_000 - 10_000)


def test_a_payment_whose_end_came_by_other_evidence_after_the_reading_is_not_counted_on(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    lock_in(harness, "1000.00")
    harness.clock.forward(60)
    harness.send()
    harness.posts.clear()  # its result is lost
    harness.reconcile()
    assert harness.statuses()["ann"] == "COMPLETED"
    assert report(harness).available_cents == 100_000 - 10_000


def test_an_old_result_that_comes_late_does_not_turn_the_float_back(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send(limit=1)
    late, harness.posts = harness.posts, []
    harness.clock.forward(60)
    harness.send()
    harness.deliver()
    known = report(harness).reading
    harness.deliver(late)
    assert report(harness).reading == known


def test_a_clock_of_mpesa_that_is_ahead_does_not_outlive_what_follows(harness: PayoutHarness) -> None:
    asked = ask(harness)
    [notice] = harness.posts
    ahead = json.loads(notice.body)
    for item in ahead["Result"]["ResultParameters"]["ResultParameter"]:
        if item["Key"] == "BOCompletedTime":
            item["Value"] = "20991231235959"
    assert parse_result(json.dumps(ahead).encode()).text("BOCompletedTime") == "20991231235959"
    harness.post(CallbackKind.BALANCE, asked.query_id, ahead)
    harness.clock.forward(60)
    lock_in(harness, "5.00")
    found = report(harness).reading
    assert found is not None
    assert found.utility_cents == 500


def test_the_books_and_mpesa_differ_for_reasons_that_add_up(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})  # 200 shillings collected
    harness.send(limit=1)
    harness.deliver()  # ann has 100 of them
    lock_in(harness, "5000.00")
    harness.clock.forward(60)
    harness.send()  # ben's 100 are under way
    found = report(harness)
    assert found.books_cents == 0
    assert found.difference_cents == 500_000
    assert sum(one.cents for one in found.differences) == found.difference_cents
    assert {one.why.split(":")[0]: one.cents for one in found.differences} == {
        "payments under way, or paid after M-Pesa said it": 10_000,
        "not told to kasoko": 490_000,
    }
    assert found.unexplained_cents == 490_000


# --- The gate ------------------------------------------------------------------------------------


def test_a_run_that_is_covered_passes_in_silence(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN}, cents=20_000)
    lock_in(harness, "410.00")  # two times 200 and two times 5
    found = look(harness)
    assert (found.needed_cents, found.charges_cents, found.shortfall_cents, found.warning) == (41_000, 1_000, 0, "")
    float_check.pass_or_refuse(found)


def test_a_run_that_is_one_cent_short_is_refused_to_the_cent(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN}, cents=20_000)
    lock_in(harness, "409.99")
    with pytest.raises(Refused) as caught:
        float_check.pass_or_refuse(look(harness))
    assert caught.value.message == (
        "The float is short by KES 0.01: the run needs KES 410.00 (KES 400.00 to phones, KES 10.00 charges)."
        " M-Pesa's utility account had KES 409.99 at 2026-11-23 12:00 EAT. Nothing was sent."
    )
    assert caught.value.hint == (
        "Put KES 0.01 into the utility account, let kasoko see it: kasoko float --listen, then: kasoko payout."
        " Or send less: kasoko payout --limit N"
    )
    warned = look(harness, FloatCheck.WARN)
    assert warned.warning.startswith("The float is short by KES 0.01")
    float_check.pass_or_refuse(warned)
    assert look(harness, FloatCheck.OFF).warning == ""
    float_check.pass_or_refuse(look(harness, limit=1))


def test_what_else_is_in_flight_is_counted_before_the_run(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN}, cents=20_000)
    lock_in(harness, "500.00")
    harness.clock.forward(60)
    harness.send(limit=1)
    found = look(harness)
    assert (found.in_flight_cents, found.float_cents, found.needed_cents) == (20_000, 50_000 - 20_500, 41_000)
    assert found.shortfall_cents == 11_500


@pytest.mark.parametrize(
    ("age", "warning"),
    [
        pytest.param(None, "The float is not known: no balance of M-Pesa was ever read.", id="never"),
        pytest.param(
            DAY + 1,
            "The float is not known: M-Pesa last said KES 1.00 at 2026-11-23 12:00 EAT, which is longer ago than 24 h.",
            id="too old",
        ),
    ],
)
def test_a_float_that_is_not_known_is_said_and_never_taken_as_zero(
    harness: PayoutHarness, age: int | None, warning: str
) -> None:
    if age is not None:
        lock_in(harness, "1.00")
        harness.clock.now += timedelta(seconds=age)
    harness.owe({"ann": ANN})
    found = look(harness)
    assert (found.float_cents, found.shortfall_cents, found.warning) == (None, None, warning)
    float_check.pass_or_refuse(found)
    with pytest.raises(Refused) as caught:
        float_check.pass_or_refuse(look(harness, FloatCheck.REQUIRE))
    assert caught.value.message == (
        f'{warning} payout.float_check = "require" wants to know it first. Nothing was sent.'
    )
    assert caught.value.hint == "Ask M-Pesa: kasoko float --listen"


def test_a_settlement_that_is_planned_needs_its_share_beside_what_is_due(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, cents=20_000)
    lock_in(harness, "500.00")
    found = float_check.look_at_plan(
        harness.db, harness.clock, GatePolicy(FloatCheck.REFUSE, TARIFF, DAY), [30_000, 5_000]
    )
    assert (found.payments, found.needed_cents, found.float_cents) == (2, 35_500, 50_000 - 20_500)
    assert found.shortfall_cents == 35_500 - 29_500
