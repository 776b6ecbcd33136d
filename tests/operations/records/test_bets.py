"""Stakes: taken in before the close and from money that is there, given back if cancelled before it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from kasoko_cli.clock import eat
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.records import bets, markets
from kasoko_cli.operations.records.bets import NewBet, Placed
from kasoko_cli.store.schema.tables import Funding
from tests.operations.data_builder import DataBuilder, refusal


@pytest.fixture
def derby(builder: DataBuilder) -> DataBuilder:
    """One market, and Ann with KES 500 in her wallet."""
    builder.market("long-rains", ("Yes", "No", "Maybe later"))
    builder.user("ann", deposit_kes=500)
    return builder


def _place(
    builder: DataBuilder,
    bet_id: str = "b1",
    *,
    market: str = "long-rains",
    user_id: str = "ann",
    outcome: str = "Yes",
    cents: int = 10_000,
    funding: Funding = Funding.WALLET,
) -> Placed:
    return bets.place_bet(
        builder.context,
        NewBet(bet_id=bet_id, market=market, user_id=user_id, outcome=outcome, cents=cents, funding=funding),
    )


def _pool(builder: DataBuilder, outcome: int) -> int:
    with builder.db.reading() as session:
        return -book.balance(session, Account.POOL, f"long-rains/{outcome}")


def test_a_bet_moves_its_stake_from_the_wallet_into_the_pool(derby: DataBuilder) -> None:
    placed = _place(derby)
    assert (placed.is_new, placed.available_cents, placed.market) == (True, 40_000, "long-rains")
    assert (placed.bet.outcome, placed.bet.placed_at, placed.bet.funding) == ("Yes", derby.clock(), "wallet")
    assert (_pool(derby, 0), derby.balances("ann")) == (10_000, (40_000, 40_000))


def test_a_bet_that_the_platform_collected_leaves_the_wallet_alone(derby: DataBuilder) -> None:
    assert _place(derby, cents=99_999_900, funding=Funding.COLLECTED).available_cents == 50_000
    assert (_pool(derby, 0), derby.balances("ann")) == (99_999_900, (50_000, 50_000))


def test_the_same_bet_again_changes_nothing(derby: DataBuilder) -> None:
    first = _place(derby)
    derby.clock.forward(minutes=5)
    again = _place(derby)
    assert (again.is_new, again.bet, again.available_cents) == (False, first.bet, 40_000)
    derby.clock.forward(hours=2)
    assert _place(derby).is_new is False  # even after the close


@pytest.mark.parametrize("other", [{"cents": 10_001}, {"outcome": "No"}, {"funding": Funding.COLLECTED}])
def test_a_bet_id_with_other_content_is_refused(derby: DataBuilder, other: dict[str, object]) -> None:
    _place(derby)
    assert refusal(lambda: _place(derby, **other), Refused) == (  # type: ignore[arg-type]
        "The bet id 'b1' names another bet; nothing was changed.",
        "Give this bet an id of its own.",
    )
    assert derby.balances("ann") == (40_000, 40_000)


def test_a_bet_above_what_is_available_is_refused(derby: DataBuilder) -> None:
    assert refusal(lambda: _place(derby, cents=50_001), Refused) == (
        "ann has KES 500.00 available, and the stake is KES 500.01. Nothing was changed.",
        "Take in a deposit first: kasoko wallet deposit ann AMOUNT --reference RECEIPT",
    )
    assert (_pool(derby, 0), derby.balances("ann")) == (0, (50_000, 50_000))


def test_what_was_sent_to_the_phone_cannot_be_staked_again(builder: DataBuilder) -> None:
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 150)})
    builder.settle("derby", "Yes")
    builder.accepted(attempt := builder.intend("ann"))
    builder.paid(attempt)
    builder.market("long-rains")
    assert builder.balances("ann") == (23_750, 50)
    assert refusal(lambda: _place(builder, cents=51), Refused)[0] == (
        "ann has KES 0.50 available, and the stake is KES 0.51. Nothing was changed."
    )
    assert _place(builder, cents=50).available_cents == 0


@pytest.mark.parametrize(("cents", "shown"), [(0, "0.00"), (-500, "-5.00")])
def test_a_stake_of_nothing_is_no_bet(derby: DataBuilder, cents: int, shown: str) -> None:
    assert refusal(lambda: _place(derby, cents=cents), Refused)[0] == (
        f"A stake of KES {shown} is no bet; nothing was changed."
    )


def test_an_unknown_market_is_not_found_and_the_nearest_is_suggested(derby: DataBuilder) -> None:
    assert refusal(lambda: _place(derby, market="long-rain"), NotFound) == (
        "There is no market 'long-rain'.",
        "Did you mean long-rains? List them: kasoko market list",
    )
    assert refusal(lambda: _place(derby, market="zzz"), NotFound) == (
        "There is no market 'zzz'.",
        "List them: kasoko market list",
    )


def test_an_unknown_outcome_is_not_found_and_the_nearest_is_suggested(derby: DataBuilder) -> None:
    assert refusal(lambda: _place(derby, outcome="Maybe latr"), NotFound) == (
        "'Maybe latr' is not an outcome of long-rains; nothing was changed.",
        "Did you mean 'Maybe later'? Its outcomes are: Yes, No, Maybe later",
    )
    assert refusal(lambda: _place(derby, outcome="42"), NotFound)[1] == "Its outcomes are: Yes, No, Maybe later"
    assert _place(derby, outcome=" yES ").bet.outcome == "Yes"


def test_an_unknown_user_cannot_bet(derby: DataBuilder) -> None:
    assert refusal(lambda: _place(derby, user_id="nobody"), NotFound)[0] == "There is no user 'nobody'."


def test_no_bet_is_taken_at_or_after_the_close(derby: DataBuilder) -> None:
    closes_at = derby.clock() + timedelta(hours=1)
    derby.clock.forward(3_599.999)
    assert _place(derby, "just-in-time").is_new
    derby.clock.now = closes_at
    expected = (
        f"long-rains takes no more bets: it closed at {eat(closes_at)}. Nothing was changed.",
        "Bets stand from before the close only.",
    )
    assert refusal(lambda: _place(derby, "late"), Refused) == expected
    markets.close_market(derby.context, market="long-rains")
    assert refusal(lambda: _place(derby, "late"), Refused) == expected


def test_no_bet_is_taken_after_a_person_closed_the_market(derby: DataBuilder) -> None:
    markets.close_market(derby.context, market="long-rains")
    assert refusal(lambda: _place(derby), Refused)[0] == (
        f"long-rains takes no more bets: it closed at {eat(derby.clock())}. Nothing was changed."
    )


@pytest.mark.parametrize("funding", list(Funding))
def test_a_cancelled_bet_is_given_back_to_the_wallet_once(derby: DataBuilder, funding: Funding) -> None:
    _place(derby, funding=funding)
    assert bets.cancel_bet(derby.context, bet_id="b1") is True
    assert bets.cancel_bet(derby.context, bet_id="b1") is False
    held = 50_000 if funding is Funding.WALLET else 60_000
    assert (_pool(derby, 0), derby.balances("ann")) == (0, (held, held))
    [line] = bets.list_bets(derby.db, "long-rains")
    assert line.cancelled_at == derby.clock()


def test_a_bet_stands_once_its_market_has_closed(derby: DataBuilder) -> None:
    _place(derby)
    derby.clock.forward(hours=1)
    assert refusal(lambda: bets.cancel_bet(derby.context, bet_id="b1"), Refused) == (
        f"The bet b1 stands: long-rains closed at {eat(derby.clock())}.",
        "A closed market is settled or made void as a whole: kasoko market void",
    )
    assert refusal(lambda: bets.cancel_bet(derby.context, bet_id="b2"), NotFound) == (
        "There is no bet 'b2'.",
        "List a market's bets: kasoko bet list MARKET",
    )


def test_bets_are_listed_in_the_order_of_placing(derby: DataBuilder) -> None:
    for outcome in ("No", "Yes", "Maybe later"):
        derby.bet("long-rains", "ann", outcome, kes=10)
    assert [line.outcome for line in bets.list_bets(derby.db, "long-rains")] == ["No", "Yes", "Maybe later"]
    assert len(bets.list_bets(derby.db, "long-rains", limit=2)) == 2


def test_threads_that_bet_from_one_wallet_at_once_never_overdraw_it(derby: DataBuilder) -> None:
    """KES 500 and twelve bets of KES 90: five fit, whoever is first."""

    def bet(number: int) -> bool:
        try:
            return _place(derby, f"b{number}", outcome=("Yes", "No")[number % 2], cents=9_000).is_new
        except Refused:
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(bet, range(12))) == 5
    assert derby.balances("ann") == (5_000, 5_000)
    assert _pool(derby, 0) + _pool(derby, 1) == 45_000
    assert audit(derby.db, deep=True).ok


def test_one_bet_told_by_several_threads_at_once_is_taken_once(derby: DataBuilder) -> None:
    with ThreadPoolExecutor(6) as pool:
        assert sum(placed.is_new for placed in pool.map(lambda _: _place(derby), range(6))) == 1
    assert derby.balances("ann") == (40_000, 40_000)
