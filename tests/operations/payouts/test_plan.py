"""A run that is shown before it begins: who gets what, what keeps it back, and a hash that names exactly that."""

from __future__ import annotations

from typing import Any

import pytest

from kasoko_cli.domain.float_cover import FloatCheck
from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.account.tariff_file import load_tariff
from kasoko_cli.operations.payouts import manual_decision, switches
from kasoko_cli.operations.payouts import plan as run_plan
from kasoko_cli.operations.payouts.float_check import GatePolicy
from kasoko_cli.operations.payouts.plan import Parked, RunPlan
from kasoko_cli.operations.payouts.run import Selection
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.records.markets import Named
from kasoko_cli.operations.settlement.preview import preview_resolution
from kasoko_cli.operations.settlement.settle import plan_settlement, settle_market
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from tests.operations.data_builder import DataBuilder
from tests.operations.payout_harness import ANN, BEN, CYN, PayoutHarness

POLICY = GatePolicy(FloatCheck.REFUSE, load_tariff(), 86_400)


def plan(harness: PayoutHarness, *, daily_cents: int = 50_000_000, **which: Any) -> RunPlan:
    return run_plan.plan(harness.db, harness.clock, POLICY, daily_cents, Selection(**which))


def test_a_plan_names_who_gets_what_and_writes_nothing(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    before = harness.money()
    found = plan(harness)
    assert (found.payouts, found.wire_cents, found.receivers, found.several_legs) == (2, 20_000, 2, 0)
    assert [(one.payout_id, one.user_id, one.phone, one.wire_cents, one.would) for one in found.items] == [
        ("derby.1.1", "ann", "2547****0111", 10_000, "send"),
        ("derby.1.2", "ben", "2547****0222", 10_000, "send"),
    ]
    assert found.warnings == ["The float is not known: no balance of M-Pesa was ever read."]
    assert harness.money() == before


def test_a_plan_says_whom_the_days_limit_keeps_back(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN, "cyn": ANN})  # ann and cyn share a phone
    found = plan(harness, daily_cents=15_000)
    assert [one.would for one in found.items] == ["send", "send", "tomorrow"]
    assert found.tomorrow == Parked(1, 10_000)


def test_a_large_payout_is_shown_by_its_legs(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, cents=60_000_000)
    found = plan(harness)
    assert [(one.leg, one.wire_cents) for one in found.items] == [(1, 25_000_000), (2, 25_000_000), (3, 10_000_000)]
    assert (found.receivers, found.several_legs) == (1, 1)
    assert [one.would for one in found.items] == ["send", "send", "tomorrow"]


def test_what_a_person_stopped_is_counted_apart(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN})
    manual_decision.hold(harness.context, payout_id="derby.1.1")
    switches.pause(OperationContext(harness.db, harness.clock, Actor("boss", "the float is being moved")))
    found = plan(harness, limit=1)
    assert (found.payouts, found.held) == (1, Parked(1, 10_000))
    assert found.warnings[0] == "Nothing is sent now: pause by boss, the float is being moved"


def test_the_hash_names_these_payouts_amounts_and_phones(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    first = plan(harness).plan_hash
    assert plan(harness).plan_hash == first
    assert plan(harness, limit=1).plan_hash != first
    assert plan(harness, only=["derby.1.1"]).plan_hash == plan(harness, limit=1).plan_hash
    harness.set_phone("ben", CYN)
    assert plan(harness).plan_hash != first


def test_a_plan_of_what_is_not_there_says_so(harness: PayoutHarness) -> None:
    with pytest.raises(NotFound):
        plan(harness, market="derby")
    with pytest.raises(NotFound):
        plan(harness, only=["derby.1.1"])


# --- Before a winner is named ----------------------------------------------------------------------


@pytest.fixture
def closed(harness: PayoutHarness) -> PayoutHarness:
    """Nearly everybody is on Yes; nothing is resolved."""
    builder = DataBuilder(harness.db, harness.clock, harness.actor)
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 900), "ben": ("No", 10)})
    harness.clock.forward(1)
    markets.close_market(harness.context, market="derby")
    return harness


def preview(harness: PayoutHarness, *winners: str) -> Any:
    return preview_resolution(harness.context, WireLimits(), market="derby", named=Named(winners))


def test_a_preview_takes_the_same_road_and_leaves_nothing(closed: PayoutHarness) -> None:
    found = preview(closed, "Yes")
    assert (found.resolved_outcome, found.settlement.payouts_cents, found.settlement.winning_stake_cents) == (
        "Yes",
        86_450,
        90_000,
    )
    assert found.warnings == [
        "Winners get back less than they staked: nearly everybody backed the winner, and the fee is taken all the same."
    ]
    assert markets.show_market(closed.db, "derby").status == "CLOSED"

    markets.resolve_market(closed.context, market="derby", winners=["Yes"])
    settled = settle_market(closed.context, WireLimits(), market="derby")
    assert (settled.plan_hash, settled.settlement) == (found.plan_hash, found.settlement)


def test_a_preview_refuses_what_resolving_would_and_is_silent_where_nothing_would_change(closed: PayoutHarness) -> None:
    with pytest.raises(NotFound):
        preview(closed, "Maybe")
    markets.resolve_market(closed.context, market="derby", winners=["Yes"])
    assert preview(closed, "Yes") is None
    with pytest.raises(Refused):
        preview(closed, "No")
    assert plan_settlement(closed.db, WireLimits(), market="derby")[0].number == 1
