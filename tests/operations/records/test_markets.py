"""A market's life before the money moves."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest
from sqlalchemy import text

from kasoko_cli.clock import eat
from kasoko_cli.domain.market import DeadHeat, Rules
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.records.markets import MarketView, NewMarket
from tests.operations.data_builder import DataBuilder, refusal


def _add(builder: DataBuilder, market_id: str = "m1", slug: str = "long-rains", **other: object) -> bool:
    described = {
        "question": "Will the long rains be late?",
        "outcomes": ["Yes", "No"],
        "closes_at": builder.clock() + timedelta(hours=1),
        "rules": Rules(fee_bps=500),
        **other,
    }
    return markets.add_market(builder.context, NewMarket(market_id=market_id, slug=slug, **described))  # type: ignore[arg-type]


def _resolve(builder: DataBuilder, *winners: str) -> MarketView:
    return markets.resolve_market(builder.context, market="long-rains", winners=winners)


@pytest.fixture
def rains(builder: DataBuilder) -> DataBuilder:
    """One open market with two bets."""
    _add(builder)
    builder.user("ann", deposit_kes=100)
    builder.bet("long-rains", "ann", "Yes", kes=30)
    builder.bet("long-rains", "ann", "No", kes=20)
    return builder


def test_a_market_is_opened_once_and_told_again_without_harm(builder: DataBuilder) -> None:
    closes_at = builder.clock() + timedelta(hours=1)
    assert _add(builder, closes_at=closes_at) is True
    builder.clock.forward(minutes=5)
    assert _add(builder, closes_at=closes_at) is False
    [line] = markets.list_markets(builder.db)
    assert (line.id, line.slug, line.status, line.resolved_outcome, line.settled) == (
        "m1",
        "long-rains",
        "OPEN",
        None,
        False,
    )


@pytest.mark.parametrize(
    "other",
    [{"question": "Another?"}, {"outcomes": ["No", "Yes"]}, {"slug": "other"}, {"rules": Rules(fee_bps=400)}],
)
def test_an_id_that_names_another_market_is_refused(builder: DataBuilder, other: dict[str, object]) -> None:
    _add(builder)
    assert refusal(lambda: _add(builder, **other), Refused) == (  # type: ignore[arg-type]
        "The market id 'm1' names another market; nothing was changed.",
        "Choose another id.",
    )


def test_a_slug_that_is_taken_is_refused(builder: DataBuilder) -> None:
    _add(builder)
    assert refusal(lambda: _add(builder, "m2"), Refused) == (
        "The slug 'long-rains' is taken by another market; nothing was changed.",
        "Choose another slug.",
    )


@pytest.mark.parametrize(("market_id", "slug", "told"), [("long-rains", "x", "slug"), ("m2", "m1", "id")])
def test_no_name_means_two_markets(builder: DataBuilder, market_id: str, slug: str, told: str) -> None:
    """`resolve m1 Yes` resolved the market m1, and whoever typed it meant the one with that slug."""
    _add(builder)
    name = market_id if told == "slug" else slug
    assert refusal(lambda: _add(builder, market_id, slug=slug), Refused) == (
        f"{name!r} is the {told} of another market; nothing was changed.",
        "Choose another: whoever names a market by its id or slug must mean one.",
    )


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        (["Yes"], "A market has 2 to 200 outcomes; 'long-rains' has 1. Nothing was changed."),
        ([str(n) for n in range(201)], "A market has 2 to 200 outcomes; 'long-rains' has 201. Nothing was changed."),
        (["Yes", "yes "], "The market 'long-rains' names an outcome twice; nothing was changed."),
        (
            ["Yes|No", "Maybe"],
            "An outcome of 'long-rains' holds a bar, which separates outcomes in files; nothing was changed.",
        ),
    ],
)
def test_outcomes_that_cannot_be_told_apart_are_refused(
    builder: DataBuilder, outcomes: list[str], message: str
) -> None:
    assert refusal(lambda: _add(builder, outcomes=outcomes), Refused)[0] == message
    assert markets.list_markets(builder.db) == []


def test_closing_freezes_rules_and_bets(rains: DataBuilder) -> None:
    rains.clock.forward(1)
    assert markets.close_market(rains.context, market="long-rains") is True
    closed = markets.show_market(rains.db, "m1")
    assert (closed.status, closed.closed_at) == ("CLOSED", rains.clock())
    assert closed.rules_digest == Rules(fee_bps=500).digest()
    assert len(str(closed.bets_digest)) == 64
    assert (closed.gross_cents, [(o.name, o.bets, o.stake_cents) for o in closed.outcomes]) == (
        5_000,
        [("Yes", 1, 3_000), ("No", 1, 2_000)],
    )
    rains.clock.forward(hours=5)
    assert markets.close_market(rains.context, market="m1") is False
    assert markets.show_market(rains.db, "m1") == closed


def test_a_market_closed_late_was_closed_at_its_closing_time(rains: DataBuilder) -> None:
    closes_at = markets.show_market(rains.db, "m1").closes_at
    rains.clock.forward(hours=9)
    markets.close_market(rains.context, market="m1")
    assert markets.show_market(rains.db, "m1").closed_at == closes_at


def test_a_market_that_still_takes_bets_is_not_resolved(rains: DataBuilder) -> None:
    closes_at = markets.show_market(rains.db, "m1").closes_at
    assert refusal(lambda: _resolve(rains, "Yes"), Refused) == (
        f"long-rains still takes bets, until {eat(closes_at)}; it was not resolved.",
        "Close it first: kasoko market close long-rains",
    )
    assert markets.show_market(rains.db, "m1").status == "OPEN"


def test_resolving_a_market_past_its_closing_time_closes_it(rains: DataBuilder) -> None:
    closes_at = markets.show_market(rains.db, "m1").closes_at
    rains.clock.now = closes_at
    view = _resolve(rains, "yes")
    assert (view.status, view.closed_at, view.resolved_at, view.resolved_outcome) == (
        "RESOLVED",
        closes_at,
        closes_at,
        "Yes",
    )


def test_resolving_again_the_same_way_changes_nothing(rains: DataBuilder) -> None:
    rains.clock.forward(hours=1)
    first = _resolve(rains, "Yes")
    rains.clock.forward(hours=1)
    assert _resolve(rains, "Yes", "YES") == first


def test_resolving_again_another_way_is_refused(rains: DataBuilder) -> None:
    rains.clock.forward(hours=1)
    at = eat(rains.clock())
    _resolve(rains, "Yes")
    rains.clock.forward(hours=1)
    assert refusal(lambda: _resolve(rains, "No"), Refused) == (
        f"long-rains was resolved as 'Yes' at {at}; it was not changed to 'No'.",
        "See what another outcome would change: kasoko resolve long-rains OUTCOME --override --plan",
    )
    void = refusal(lambda: markets.void_market(rains.context, market="long-rains"), Refused)
    assert void[0] == f"long-rains was resolved as 'Yes' at {at}; it was not changed to 'VOID'."
    assert markets.show_market(rains.db, "m1").resolved_outcome == "Yes"


def test_an_outcome_that_is_not_one_of_the_markets_is_not_found(rains: DataBuilder) -> None:
    rains.clock.forward(hours=1)
    assert refusal(lambda: _resolve(rains, "Yess"), NotFound) == (
        "'Yess' is not an outcome of long-rains; nothing was changed.",
        "Did you mean 'Yes'? Its outcomes are: Yes, No",
    )
    assert markets.show_market(rains.db, "m1").status == "OPEN"


def test_a_market_that_is_unknown_is_not_found_by_any_act(rains: DataBuilder) -> None:
    acts = (
        lambda: markets.show_market(rains.db, "long-rain"),
        lambda: markets.close_market(rains.context, market="long-rain"),
        lambda: markets.void_market(rains.context, market="long-rain"),
        lambda: markets.resolve_market(rains.context, market="long-rain", winners=["Yes"]),
    )
    for act in acts:
        assert refusal(act, NotFound) == (
            "There is no market 'long-rain'.",
            "Did you mean long-rains? List them: kasoko market list",
        )


def test_an_open_market_can_be_called_off_at_once(rains: DataBuilder) -> None:
    rains.clock.forward(1)
    view = markets.void_market(rains.context, market="long-rains")
    assert (view.status, view.resolved_outcome, view.closed_at) == ("VOID", "VOID", rains.clock())
    assert markets.void_market(rains.context, market="long-rains") == view


def test_a_dead_heat_names_several_winners_and_a_partial_one_their_weights(builder: DataBuilder) -> None:
    _add(builder, outcomes=["Ann", "Ben", "Cyn"], rules=Rules(fee_bps=500, dead_heat=DeadHeat.PROFIT))
    _add(builder, "m2", "shared", outcomes=["Ann", "Ben", "Cyn"])
    builder.clock.forward(hours=1)
    assert _resolve(builder, "Cyn", "Ann").resolved_outcome == "Ann|Cyn"
    view = markets.resolve_market(
        builder.context,
        market="shared",
        weights=[("Ben", Fraction(3, 10)), ("Ann", Fraction(7, 10))],
        withdrawn=["Cyn"],
    )
    assert view.resolved_outcome == "Ann:7/10|Ben:3/10"


def test_an_id_goes_before_a_slug_of_the_same_word(builder: DataBuilder) -> None:
    """An older version took such a pair in."""
    _add(builder, "derby", "first")
    _add(builder, "other", "second")
    with builder.db.transaction() as session:
        session.execute(text("UPDATE markets SET slug = 'derby' WHERE id = 'other'"))
    assert markets.show_market(builder.db, "derby").id == "derby"
    assert markets.show_market(builder.db, "first").id == "derby"
