"""Whether all is well: the figures are counted right, and each rule speaks when it should and only then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.operations.admin import preflight
from kasoko_cli.operations.monitoring import prometheus
from kasoko_cli.operations.monitoring.health import Finding, FloatWatch, HealthLimits, State, check_health, judge
from kasoko_cli.operations.monitoring.metrics_snapshot import (
    Figures,
    SettlementTime,
    Spans,
    Switched,
    Unsettled,
    read_figures,
)
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.records import markets, users
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.monitoring.metrics import WaitingMarket
from tests.operations.account.test_balances import TARIFF, lock_in
from tests.operations.monitoring.test_prometheus import samples
from tests.operations.payout_harness import ANN, BEN, CYN, PayoutHarness

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

#: Nothing ever happened.
QUIET = Figures(
    at=NOW,
    by_status={},
    completed=0,
    failed=0,
    success_bps=None,
    failed_lately=0,
    last_failed_at=None,
    unknown=0,
    unknown_cents=0,
    unknown_since=None,
    in_flight=0,
    in_flight_cents=0,
    awaited_since=None,
    due_since=None,
    settled=[],
    unsettled=[],
    calls_lately=0,
    daraja_p95_ms=None,
    heard_at=None,
    callbacks_waiting=0,
    incidents={},
    latest_incident=0,
    switches=[],
    float_cents=None,
    float_as_of=None,
    succeeded={},
)


def ago(**length: int) -> datetime:
    return NOW - timedelta(**length)


def found(figures: Figures, limits: HealthLimits | None = None) -> list[tuple[str, State]]:
    return [(one.key, one.state) for one in judge(figures, limits or HealthLimits())]


# --- The rules -----------------------------------------------------------------------------------


def test_where_nothing_happened_all_is_well() -> None:
    assert found(QUIET) == []


@pytest.mark.parametrize(
    ("changed", "key", "state"),
    [
        pytest.param({"failed_lately": 1, "last_failed_at": ago(minutes=5)}, "failed", State.CRITICAL, id="a failure"),
        pytest.param({"unknown": 1, "unknown_since": ago(minutes=29)}, "unknown", State.WARNING, id="unknown"),
        pytest.param({"unknown": 1, "unknown_since": ago(minutes=31)}, "unknown", State.CRITICAL, id="long unknown"),
        pytest.param({"success_bps": 9_899, "completed": 99, "failed": 1}, "success", State.WARNING, id="success rate"),
        pytest.param({"daraja_p95_ms": 5_001}, "daraja", State.WARNING, id="slow M-Pesa"),
        pytest.param({"due_since": ago(minutes=16)}, "due", State.CRITICAL, id="nobody sends"),
        pytest.param({"incidents": {"overpaid": 1}}, "incidents", State.CRITICAL, id="an incident"),
        pytest.param({"awaited_since": ago(minutes=11)}, "listener", State.CRITICAL, id="deaf, never heard"),
        pytest.param(
            {"awaited_since": ago(minutes=11), "heard_at": ago(minutes=12)}, "listener", State.CRITICAL, id="deaf now"
        ),
        pytest.param(
            {"callbacks_waiting": 2, "heard_at": ago(minutes=2)}, "waiting", State.WARNING, id="nobody applies"
        ),
        pytest.param(
            {"unsettled": [Unsettled("rain", ago(minutes=6), 3, 9_700)]}, "settlement", State.WARNING, id="slow market"
        ),
        pytest.param(
            {"waiting_markets": [WaitingMarket("rain", False, ago(hours=25), 500)]},
            "unresolved",
            State.WARNING,
            id="nobody resolves",
        ),
        pytest.param(
            {"waiting_markets": [WaitingMarket("rain", True, ago(minutes=6), 500)]},
            "unsettled",
            State.WARNING,
            id="nobody settles",
        ),
        pytest.param({"switches": [Switched("pause", "lunch", ago(hours=1))]}, "paused", State.WARNING, id="paused"),
        pytest.param(
            {"switches": [Switched("breaker", "code 8006", ago(hours=1))]}, "breaker", State.CRITICAL, id="refused"
        ),
    ],
)
def test_each_rule_speaks(changed: dict[str, object], key: str, state: State) -> None:
    assert found(replace(QUIET, **changed)) == [(key, state)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"success_bps": 9_900}, id="exactly 99 %"),
        pytest.param({"daraja_p95_ms": 5_000}, id="exactly 5 s"),
        pytest.param({"due_since": ago(minutes=15)}, id="due for exactly as long as allowed"),
        pytest.param({"awaited_since": ago(minutes=11), "heard_at": ago(minutes=1)}, id="one late, others come"),
        pytest.param({"callbacks_waiting": 1, "heard_at": ago(seconds=5)}, id="a result is being applied"),
        pytest.param({"unsettled": [Unsettled("rain", ago(minutes=5), 3, 9_700)]}, id="a market under way"),
        pytest.param({"settled": [SettlementTime("rain", 9_000, NOW)]}, id="a market that took long is over"),
        pytest.param({"waiting_markets": [WaitingMarket("rain", False, ago(hours=24), 500)]}, id="has just closed"),
        pytest.param({"waiting_markets": [WaitingMarket("rain", True, ago(minutes=5), 500)]}, id="has just ended"),
        pytest.param({"due_since": NOW + timedelta(hours=1)}, id="a clock that went back"),
    ],
)
def test_no_rule_speaks_before_its_limit(changed: dict[str, object]) -> None:
    assert found(replace(QUIET, **changed)) == []  # type: ignore[arg-type]


WATCH = FloatWatch(tariff=TARIFF, max_age_seconds=86_400)
#: KES 500.00 was said an hour ago, and all of it can be counted on.
KNOWN = replace(QUIET, float_cents=50_000, float_as_of=ago(hours=1), float_available_cents=50_000)


@pytest.mark.parametrize(
    ("figures", "floor_cents", "what"),
    [
        pytest.param(
            replace(KNOWN, float_needed_cents=50_001),
            0,
            "The float is short: KES 500.00 can be counted on, and KES 500.01 are owed to phones",
            id="a cent is missing",
        ),
        pytest.param(
            replace(QUIET, float_needed_cents=100),
            0,
            "The float is not known: no balance of M-Pesa was ever read, and KES 1.00 are owed to phones",
            id="never read",
        ),
        pytest.param(
            replace(KNOWN, float_as_of=ago(hours=25), float_needed_cents=100),
            0,
            "The float is not known: M-Pesa last said KES 500.00, 25 h ago, and KES 1.00 are owed to phones",
            id="too old, though it would be enough",
        ),
        pytest.param(
            KNOWN,
            60_000,
            "The float is short: KES 500.00 can be counted on, and KES 600.00 are to be there at all times",
            id="below the floor, though nothing is owed",
        ),
        pytest.param(replace(KNOWN, float_needed_cents=50_000), 50_000, None, id="exactly enough"),
        pytest.param(QUIET, 0, None, id="nothing is wanted of it"),
    ],
)
def test_a_float_that_is_short_or_not_known_is_a_warning(figures: Figures, floor_cents: int, what: str | None) -> None:
    limits = HealthLimits(float_watch=replace(WATCH, floor_cents=floor_cents))
    said = [(one.key, one.state, one.what) for one in judge(figures, limits)]
    assert said == ([] if what is None else [("float", State.WARNING, what)])
    assert found(figures) == [], "where nobody watches it, nothing is said"


def test_what_is_owed_is_counted_with_its_charges_and_what_is_under_way_is_not_there(harness: PayoutHarness) -> None:
    lock_in(harness, "500.00")
    harness.clock.forward(60)
    harness.owe({"ann": ANN, "ben": BEN}, cents=20_000)
    harness.send(limit=1)
    now = read_figures(harness.db, harness.clock, Spans(), TARIFF)
    assert (now.float_cents, now.float_available_cents, now.float_needed_cents) == (50_000, 29_500, 20_500)
    found_in = samples(prometheus.exposition(harness.db, harness.clock, HealthLimits(float_watch=WATCH)))
    assert found_in["kasoko_float_available_cents", ()] == 29_500
    assert found_in["kasoko_float_wanted_cents", ()] == 20_500


def test_metrics_leave_out_a_float_that_is_too_old_to_be_known(harness: PayoutHarness) -> None:
    lock_in(harness, "500.00")
    harness.clock.forward(86_401)
    names = {
        name for name, _ in samples(prometheus.exposition(harness.db, harness.clock, HealthLimits(float_watch=WATCH)))
    }
    assert "kasoko_float_wanted_cents" in names
    assert "kasoko_float_available_cents" not in names


def test_the_limits_are_the_operators() -> None:
    slow = replace(QUIET, daraja_p95_ms=900, due_since=ago(seconds=90))
    assert [key for key, _ in found(slow, HealthLimits(daraja_ms=800, due_seconds=60))] == ["due", "daraja"]


def test_a_further_failure_has_a_larger_mark_and_so_is_told_again() -> None:
    first, second = (
        next(iter(judge(replace(QUIET, failed_lately=1, last_failed_at=at), HealthLimits())))
        for at in (ago(minutes=2), ago(minutes=1))
    )
    assert first.mark < second.mark


def test_unknown_that_becomes_critical_has_a_larger_mark() -> None:
    young, old = (
        next(iter(judge(replace(QUIET, unknown=1, unknown_since=since), HealthLimits())))
        for since in (ago(minutes=1), ago(hours=2))
    )
    assert young.mark < old.mark


def test_every_finding_says_what_to_type_or_to_look_at() -> None:
    all_of_it = replace(
        QUIET,
        failed_lately=2,
        last_failed_at=NOW,
        unknown=2,
        unknown_since=ago(hours=3),
        incidents={"overpaid": 1, "receipt": 2},
        due_since=ago(days=3),
        unsettled=[Unsettled("rain", ago(hours=5), 3, 9_700), Unsettled("cup", ago(hours=1), 1, 100)],
    )
    said = {one.key: f"{one.what}. {one.do}" for one in judge(all_of_it, HealthLimits())}
    assert said == {
        "failed": "2 payouts failed in the last 60 min. See why: kasoko payout list --status FAILED",
        "incidents": "3 incidents that nobody has closed: overpaid, receipt. Read them: kasoko incident list",
        "unknown": "How 2 payouts ended is unknown, KES 0.00, the oldest for 3 h. Ask M-Pesa: kasoko reconcile."
        " Never send them by hand.",
        "due": "A payout has been due for 3 days and nobody sends it. Send what is due: kasoko payout."
        " Does its timer run?",
        "settlement": "rain was resolved 5 h ago and is not through: 3 payouts, KES 97.00 (and 1 more)."
        " See what it waits for: kasoko status rain",
    }


# --- The figures ---------------------------------------------------------------------------------


@pytest.fixture
def busy(harness: PayoutHarness) -> PayoutHarness:
    """Ann was paid, Ben failed, nobody knows about Cyn."""
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    for user, code in (("ann", 0), ("ben", 2040), ("cyn", 17)):
        attempt = harness.attempt(user)
        body = harness.result(attempt, code=code, receiver=attempt.phone, desc="said so")
        harness.post(CallbackKind.RESULT, attempt.id, body)
    return harness


def test_the_figures_are_what_the_rows_say(busy: PayoutHarness) -> None:
    busy.clock.forward(60)
    now = read_figures(busy.db, busy.clock, Spans())
    assert {state: (one.count, one.amount_cents) for state, one in now.by_status.items()} == {
        "COMPLETED": (1, 14_250),
        "FAILED": (1, 14_250),
        "UNKNOWN": (1, 14_250),
    }
    assert (now.completed, now.failed, now.success_bps) == (1, 1, 5_000)
    assert (now.failed_lately, now.last_failed_at is not None) == (1, True)
    assert (now.unknown, now.unknown_cents) == (1, 14_200)
    assert (now.in_flight, now.in_flight_cents) == (1, 14_200)
    assert now.unknown_since is not None
    assert [(one.payouts, one.amount_cents) for one in now.unsettled] == [(1, 14_250)]
    assert now.settled == []
    assert now.calls_lately == 3
    assert now.heard_at is not None
    assert now.due_since is None


def test_a_market_is_through_when_its_last_payout_is_final(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, cents=14_250)
    harness.send()
    harness.clock.forward(90)
    harness.deliver()
    now = read_figures(harness.db, harness.clock, Spans())
    assert now.unsettled == []
    assert [one.seconds for one in now.settled] == [90]


def test_a_market_that_nobody_resolves_or_settles_is_told_everywhere(harness: PayoutHarness) -> None:
    def told() -> list[str]:
        health = check_health(harness.db, harness.clock, HealthLimits())
        with harness.db.reading() as session:
            named = list(preflight.waiting_markets(session, harness.clock(), HealthLimits()))
        said = [f"{one.what}. {one.do}" for one in health.findings if one.key in ("unresolved", "unsettled")]
        assert [f"{one.says} Type: {one.remedy}" for one in named if one.state == "warn"] == said
        return said

    for market, user in (("rain", "ann"), ("cup", None)):
        harness.open_market(market)
        if user is not None:
            users.add_user(harness.context, user_id=user, name=user, phone=ANN)
            harness.bet(market, user, "Yes", 5_000)
    harness.clock.forward(3_600 + 86_400)
    assert told() == []
    harness.clock.forward(3_600)
    said = "rain closed 25 h ago and nobody has resolved it; KES 50.00 are staked."
    assert told() == [f"{said} Type: kasoko resolve rain OUTCOME"], "and nobody has bet on the other one"
    markets.resolve_market(harness.context, market="rain", winners=["Yes"])
    assert told() == []
    harness.clock.forward(301)
    said = "rain ended 5 min ago and was never settled; KES 50.00 are staked."
    assert told() == [f"{said} Type: kasoko settle rain"]
    settle.settle_market(harness.context, WireLimits(), market="rain")
    assert told() == []


def test_a_failure_is_told_for_an_hour(busy: PayoutHarness) -> None:
    def keys() -> set[str]:
        return {one.key for one in check_health(busy.db, busy.clock, HealthLimits()).findings}

    assert "failed" in keys()
    busy.clock.forward(3_601)
    assert "failed" not in keys()
    assert "success" in keys(), "the day's rate remembers it"


def test_the_worst_stands_first(busy: PayoutHarness, actor: Actor) -> None:
    switches.pause(OperationContext(busy.db, busy.clock, actor))
    health = check_health(busy.db, busy.clock, HealthLimits())
    assert health.state is State.CRITICAL
    assert health.findings[0].key == "failed"
    assert isinstance(health.findings[0], Finding)
    assert not health.ok
