"""What something would do to a payout is what it does, with all that has arrived; and nothing of it stays."""

from __future__ import annotations

import json
from functools import partial

import pytest

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.errors import Refused
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.operations.payouts import manual_decision, market_hold
from kasoko_cli.operations.payouts.manual_decision import Decided, Decision
from kasoko_cli.operations.payouts.planned_move import PayoutFacts, plan_move
from kasoko_cli.operations.shared.rehearsal import rehearse
from tests.operations.payout_harness import ANN, BEN, PayoutHarness

NOT_PAID = Decision(None, "the portal")


@pytest.fixture
def unknown(harness: PayoutHarness) -> PayoutHarness:
    """Ann's payout was taken, and a queue timeout made it unknown."""
    harness.owe({"ann": ANN})
    harness.send()
    harness.posts.clear()
    harness.post(CallbackKind.TIMEOUT, harness.attempt("ann").id, b"{}")
    return harness


def decide(decision: Decision) -> partial[Decided]:
    return partial(manual_decision.decide, payout_id="derby.1.1", decision=decision)


def test_it_says_whose_it_is_what_it_carries_and_what_would_become_of_it(unknown: PayoutHarness) -> None:
    planned = plan_move(unknown.context, "derby.1.1", decide(NOT_PAID))
    assert planned.payout == PayoutFacts("derby.1.1", "ann", "2547****0111", "PAYOUT", 10_000, 10_000)
    assert (planned.status, planned.becomes) == ("UNKNOWN", "FAILED")
    assert unknown.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_a_result_that_waits_to_be_judged_speaks_in_the_plan_too_and_still_waits(unknown: PayoutHarness) -> None:
    attempt = unknown.attempt("ann")
    body = json.dumps(unknown.result(attempt)).encode()
    delivery = Delivery(CallbackKind.RESULT, attempt.id, True, "203.0.113.9", unknown.clock(), body=body)
    apply_results.store_deliveries(unknown.db, unknown.clock, [delivery])
    with pytest.raises(Refused, match="how it ended is known"):
        plan_move(unknown.context, "derby.1.1", decide(NOT_PAID))
    assert unknown.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    assert [one.verdict for one in unknown.deliver([])] == ["paid"]
    assert unknown.states("ann") == ("COMPLETED", ["SUCCEEDED"])


def test_a_whole_market_can_be_rehearsed_on_the_way_to_it(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    act = partial(market_hold.hold_market, market="derby")
    would = rehearse(harness.context, act)
    assert harness.statuses() == {"ann": "PENDING", "ben": "PENDING"}
    assert would == act(harness.context)
    assert [one.user_id for one in would.items] == ["ann", "ben"]
