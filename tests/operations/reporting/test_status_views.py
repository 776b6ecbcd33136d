"""What is shown: exactly the names that the contract promises, sums that add up, and no whole phone number."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest

from kasoko_cli.cli.output.render import plain
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.domain.payout import GROUPS, PayoutStatus
from kasoko_cli.errors import NotFound
from kasoko_cli.operations.payouts import manual_decision, retry, switches
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.reporting import status_views
from kasoko_cli.operations.reporting.status_views import PayoutFilter
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from tests.operations.payout_harness import ANN, BEN, CYN, RECEIPT, PayoutHarness

#: Fields that the contract names for `status MARKET --json`, as written there.
MARKET = {"id", "slug", "question", "status", "resolved_outcome", "resolved_at"}
SETTLEMENT = {
    "gross_cents",
    "fee_cents",
    "net_cents",
    "winning_stake_cents",
    "winners",
    "payouts_cents",
    "refunds_cents",
    "breakage_cents",
}
ITEM = {
    "id",
    "user",
    "phone",
    "kind",
    "leg",
    "amount_cents",
    "wire_cents",
    "status",
    "attempts",
    "originator_conversation_id",
    "conversation_id",
    "receipt",
    "failure_code",
    "failure_reason",
    "not_before",
    "updated_at",
}


@pytest.fixture
def busy(harness: PayoutHarness) -> PayoutHarness:
    """Ann was paid, Ben failed, nobody knows about Cyn, Dan has less than M-Pesa carries, Eve is due."""
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    for user, code in (("ann", 0), ("ben", 2040), ("cyn", 17)):
        attempt = harness.attempt(user)
        body = harness.result(attempt, code=code, receiver=attempt.phone, desc=f"{attempt.phone} said {code}")
        harness.post(CallbackKind.RESULT, attempt.id, body)
    harness.owe({"dan": "254712000444"}, cents=999, market="small")
    harness.owe({"eve": "254712000555"}, cents=20_000, market="late")
    return harness


def document(answer: Any) -> Any:
    """What `--json` prints of it."""
    return json.loads(json.dumps(plain(answer), allow_nan=False))


def floats_in(value: Any) -> list[object]:
    """Every number that is not whole."""
    if isinstance(value, Mapping):
        return [found for part in value.values() for found in floats_in(part)]
    if isinstance(value, list):
        return [found for part in value for found in floats_in(part)]
    return [value] if isinstance(value, float) else []


def test_the_status_of_a_market_has_the_names_of_the_contract(busy: PayoutHarness) -> None:
    told = document(status_views.market_status(busy.db, "derby", with_items=True))
    assert {"market", "settlement", "payouts", "by_status", "items"} <= set(told)
    assert set(told["market"]) == MARKET
    assert set(told["settlement"]) >= SETTLEMENT
    assert set(told["payouts"]) == {"pending", "completed", "failed"}
    for amount in (*told["payouts"].values(), *told["by_status"].values()):
        assert set(amount) == {"count", "amount_cents"}
    for item in told["items"]:
        assert set(item) == ITEM
    assert floats_in(told) == []


def test_the_status_of_a_market_has_the_figures_of_its_settlement_and_payouts(busy: PayoutHarness) -> None:
    told = document(status_views.market_status(busy.db, "derby", with_items=True))
    settled = told["settlement"]
    assert {name: settled[name] for name in SETTLEMENT} == {
        "gross_cents": 42_750,
        "fee_cents": 0,
        "net_cents": 42_750,
        "winning_stake_cents": 21_375,
        "winners": 3,
        "payouts_cents": 42_750,
        "refunds_cents": 0,
        "breakage_cents": 0,
    }
    assert told["payouts"] == {
        "pending": {"count": 1, "amount_cents": 14_250},
        "completed": {"count": 1, "amount_cents": 14_250},
        "failed": {"count": 1, "amount_cents": 14_250},
    }
    assert told["by_status"] == {
        "UNKNOWN": {"count": 1, "amount_cents": 14_250},
        "COMPLETED": {"count": 1, "amount_cents": 14_250},
        "FAILED": {"count": 1, "amount_cents": 14_250},
    }
    assert (told["market"]["status"], told["market"]["resolved_outcome"]) == ("RESOLVED", "Yes")
    assert told["market"]["resolved_at"] == "2026-11-23T09:00:00Z"


def test_each_item_says_where_its_payout_stands(busy: PayoutHarness) -> None:
    items = {item["user"]: item for item in document(status_views.list_items(busy.db))}
    ann, ben, cyn, dan, eve = (items[user] for user in ("ann", "ben", "cyn", "dan", "eve"))
    attempt = busy.attempt("ann")
    assert ann == {
        "id": "derby.1.1",
        "user": "ann",
        "phone": "2547****0111",
        "kind": "PAYOUT",
        "leg": 1,
        "amount_cents": 14_250,
        "wire_cents": 14_200,
        "status": "COMPLETED",
        "attempts": 1,
        "originator_conversation_id": attempt.id,
        "conversation_id": attempt.conversation_id,
        "receipt": RECEIPT,
        "failure_code": None,
        "failure_reason": None,
        "not_before": None,
        "updated_at": "2026-11-23T09:00:00Z",
    }
    assert (ben["status"], ben["failure_code"], ben["receipt"]) == ("FAILED", "2040", None)
    assert (cyn["status"], cyn["failure_code"], cyn["receipt"]) == ("UNKNOWN", None, None)
    assert (dan["status"], dan["wire_cents"], dan["attempts"], dan["originator_conversation_id"]) == (
        "WALLET",
        0,
        0,
        None,
    )
    assert (eve["status"], eve["attempts"]) == ("PENDING", 0)


def test_the_overview_adds_up_over_all_markets(busy: PayoutHarness) -> None:
    told = document(status_views.overview(busy.db))
    assert {market["id"]: market["settled"] for market in told["markets"]} == {
        "derby": True,
        "small": True,
        "late": True,
    }
    assert told["payouts"] == {
        "pending": {"count": 2, "amount_cents": 34_250},
        "completed": {"count": 2, "amount_cents": 15_249},
        "failed": {"count": 1, "amount_cents": 14_250},
    }
    for group in told["payouts"]:
        assert told["payouts"][group]["amount_cents"] == sum(
            market["payouts"][group]["amount_cents"] for market in told["markets"]
        )
    assert sum(one["amount_cents"] for one in told["by_status"].values()) == 63_749
    assert (told["callbacks_waiting"], told["callback_heard_at"]) == (0, "2026-11-23T09:00:00Z")
    assert floats_in(told) == []


def test_each_state_of_a_payout_is_in_one_group_but_for_what_is_owed_no_longer() -> None:
    grouped = [status for group in GROUPS.values() for status in group]
    assert sorted(grouped) == sorted(set(PayoutStatus) - {PayoutStatus.CANCELED})
    assert len(grouped) == len(set(grouped))


def test_no_report_shows_a_whole_phone_not_even_one_that_m_pesa_wrote_into_its_text(busy: PayoutHarness) -> None:
    busy.set_phone("ben", "254712000666")
    switches.pause(OperationContext(busy.db, busy.clock, Actor("amina", "a look")))
    told: list[object] = [
        status_views.overview(busy.db),
        status_views.list_items(busy.db),
        *(status_views.market_status(busy.db, market, with_items=True) for market in ("derby", "small", "late")),
        *(status_views.story(busy.db, payout_id) for payout_id in ("derby.1.1", "derby.1.2", "derby.1.3", "small.1.1")),
        retry.retry(busy.context),
    ]
    for answer in told:
        shown = json.dumps(plain(answer)) + repr(answer)
        for phone in (ANN, BEN, CYN, "254712000444", "254712000555", "254712000666"):
            assert phone not in shown
            assert phone[3:] not in shown


def test_a_payout_that_is_due_shows_the_number_it_will_go_to_and_one_that_ended_the_number_it_went_to(
    busy: PayoutHarness,
) -> None:
    busy.set_phone("ben", "254712000666")
    busy.set_phone("eve", "254712000777")
    shown = {item.user: item.phone for item in status_views.list_items(busy.db)}
    assert (shown["ben"], shown["eve"]) == ("2547****0222", "2547****0777")
    busy.retry()
    assert {item.user: item.phone for item in status_views.list_items(busy.db)}["ben"] == "2547****0666"


@pytest.mark.parametrize("ask", [status_views.market_status, status_views.story])
def test_what_is_not_there_is_not_found(busy: PayoutHarness, ask: Any) -> None:
    with pytest.raises(NotFound):
        ask(busy.db, "nowhere.1.1")


def test_a_market_that_is_not_settled_has_no_settlement_and_a_void_one_no_outcome(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.open_market("empty")
    told = status_views.market_status(harness.db, "empty")
    assert (told.settlement, told.by_status, told.items, told.market.resolved_outcome) == (None, {}, None, None)
    markets.close_market(harness.context, market="empty")
    markets.void_market(harness.context, market="empty")
    assert status_views.market_status(harness.db, "empty").market.resolved_outcome is None


def test_payouts_are_found_by_what_is_known_of_them_and_page_by_page(busy: PayoutHarness) -> None:
    def ids(**which: Any) -> list[str]:
        return [item.id for item in status_views.list_page(busy.db, PayoutFilter(**which)).items]

    everything = ids()
    assert len(everything) == 5
    assert ids(statuses=[PayoutStatus.FAILED, PayoutStatus.UNKNOWN]) == ["derby.1.2", "derby.1.3"]
    assert ids(user="ann") == ids(receipt=RECEIPT) == ids(receipt=RECEIPT.lower()) == ["derby.1.1"]
    assert ids(code="2040") == ["derby.1.2"]
    assert ids(code="2001") == ids(receipt="UKN0000000") == []
    assert ids(market="late", user="ann") == []
    first = status_views.list_page(busy.db, limit=2)
    assert (len(first.items), first.total) == (2, 5)
    pages = [item.id for item in first.items]
    while (page := status_views.list_page(busy.db, PayoutFilter(after=pages[-1]), limit=2)).items:
        pages += [item.id for item in page.items]
    assert pages == everything
    with pytest.raises(NotFound):
        status_views.list_page(busy.db, PayoutFilter(user="nobody"))
    with pytest.raises(NotFound):
        status_views.list_page(busy.db, PayoutFilter(after="derby.1.99"))


# --- One payout's story --------------------------------------------------------------------------------------------


def test_a_story_tells_each_attempt_entry_and_callback_in_the_order_of_time(harness: PayoutHarness) -> None:
    harness.owe({"ann": "254799002040"}, cents=14_250)
    for seconds in (0, 60):
        harness.clock.forward(seconds)
        harness.send()
        harness.clock.forward(5)
        harness.deliver()
        harness.set_phone("ann", ANN)
        harness.retry()
    first, second = harness.attempts("ann")
    story = status_views.story(harness.db, "derby.1.1")
    assert [(one.number, one.status, one.phone, one.sends, one.receipt) for one in story.attempts] == [
        (1, "FAILED", "2547****2040", 1, None),
        (2, "SUCCEEDED", "2547****0111", 1, second.receipt),
    ]
    assert story.entries == [
        f"attempt:{first.id}:reserve: in_flight +14200, utility -14200",
        f"attempt:{first.id}:release: utility +14200, in_flight -14200",
        f"attempt:{second.id}:reserve: in_flight +14200, utility -14200",
        "payout:derby.1.1:credit: payable ann +14250, wallet ann -14250",
        f"payout:derby.1.1:deliver:{second.id}: delivered ann +14200, in_flight -14200",
    ]
    assert [moment.what.partition(":")[0].partition(" (")[0] for moment in story.moments] == [
        "owed",
        "sent",
        "booked",
        "M-Pesa",
        "callback 1",
        "FAILED",
        "booked",
        "payout.retry by tester",
        "sent",
        "booked",
        "M-Pesa",
        "callback 2",
        "SUCCEEDED",
        "booked",
        "booked",
    ]
    sent = [moment.what for moment in story.moments if moment.what.startswith("sent")]
    assert sent == [f"sent: 142.00 to 2547****2040 as {first.id}", f"sent: 142.00 to 2547****0111 as {second.id}"]
    assert [moment.at for moment in story.moments] == sorted(moment.at for moment in story.moments)
    assert (story.market, story.payout.status, story.incidents) == ("derby", "COMPLETED", [])
    assert set(document(story)) == {field.name for field in dataclasses.fields(story)}


def test_a_story_of_a_failure_says_what_it_means_and_what_to_do(busy: PayoutHarness) -> None:
    story = status_views.story(busy.db, "derby.1.2")
    assert story.meaning == "the receiver is not a registered M-Pesa customer"
    assert story.advice is not None
    assert story.advice.startswith("Ask the customer for another number")
    assert story.payout.failure_reason == "2547****0222 said 2040"


def test_a_story_shows_incidents_until_a_person_closes_them(busy: PayoutHarness) -> None:
    attempt = busy.attempt("ann")
    busy.post(CallbackKind.RESULT, attempt.id, busy.result(attempt, code=26))
    [concern] = status_views.story(busy.db, "derby.1.1").incidents
    assert (concern.kind, concern.payout_id) == ("contradiction", "derby.1.1")
    assert concern in status_views.market_status(busy.db, "derby").incidents
    assert concern in status_views.overview(busy.db).incidents
    manual_decision.close_incidents(busy.context, numbers=[concern.id])
    story = status_views.story(busy.db, "derby.1.1")
    assert story.incidents == []
    assert [moment.kind for moment in story.moments][-2:] == ["incident", "act"]


def test_a_story_shows_the_entries_of_a_second_payment(harness: PayoutHarness) -> None:
    """M-Pesa paid twice: what the user owes back belongs to the payout's story too."""
    harness.owe({"ann": ANN})
    harness.send()
    harness.posts.clear()
    first = harness.attempt("ann")
    harness.post(CallbackKind.RESULT, first.id, harness.result(first, code=26))
    harness.retry()
    harness.send()
    second = harness.attempt("ann")
    harness.post(CallbackKind.RESULT, second.id, harness.result(second))
    harness.post(CallbackKind.RESULT, first.id, harness.result(first, receipt="UKN9Z9Z9Z9"))
    story = status_views.story(harness.db, "derby.1.1")
    assert "overpaid:UKN9Z9Z9Z9: receivable ann +10000, utility -10000" in story.entries
