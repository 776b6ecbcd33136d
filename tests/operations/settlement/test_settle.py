"""Dividing the pool: once, in one transaction, from the bets that stood at the close."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from kasoko_cli.clock import eat
from kasoko_cli.domain.market import Rules
from kasoko_cli.domain.payout import PayoutKind, PayoutStatus, WireLimits
from kasoko_cli.errors import CheckFailed, NotFound, Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.records import bets, markets
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.settlement.settle import Owed, Settled, SettlementFigures
from kasoko_cli.store import payouts
from tests.operations.data_builder import LIMITS, DataBuilder, refusal


def _settle(builder: DataBuilder, market: str = "derby") -> Settled:
    return settle.settle_market(builder.context, LIMITS, market=market)


def _owed(builder: DataBuilder, market: str = "derby") -> list[tuple[str, str, int, int, str]]:
    with builder.db.reading() as session:
        return [
            (payout.user_id, str(payout.kind), payout.amount_cents, payout.wire_cents, str(payout.status))
            for payout in payouts.list_payouts(session, market_id=market)
        ]


def _balance(builder: DataBuilder, account: Account, owner: str | None = "") -> int:
    with builder.db.reading() as session:
        return book.balance(session, account, owner)


@pytest.fixture
def derby(builder: DataBuilder) -> DataBuilder:
    """The operator's example: 100 and 200 on Yes, 150 on No, closed."""
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("Yes", 200), "cyn": ("No", 150)})
    builder.clock.forward(1)
    markets.close_market(builder.context, market="derby")
    return builder


def _resolve(builder: DataBuilder, winner: str = "Yes", market: str = "derby") -> None:
    markets.resolve_market(builder.context, market=market, winners=[winner])


def test_the_operators_example_is_settled_to_the_cent(derby: DataBuilder) -> None:
    _resolve(derby)
    settled = _settle(derby)
    assert settled.settlement == SettlementFigures(
        gross_cents=45_000,
        fee_cents=2_250,
        net_cents=42_750,
        winning_stake_cents=30_000,
        winners=2,
        payouts_cents=42_750,
        refunds_cents=0,
        breakage_cents=0,
        top_up_cents=0,
    )
    assert (settled.payouts, settled.to_phones, settled.wire_cents, settled.to_wallets_cents) == (2, 2, 42_700, 50)
    assert (settled.number, settled.bets, settled.resolved_outcome, settled.warnings) == (1, 3, "Yes", [])
    assert settled.is_new
    assert _owed(derby) == [
        ("ann", "PAYOUT", 14_250, 14_200, "PENDING"),
        ("ben", "PAYOUT", 28_500, 28_500, "PENDING"),
    ]
    assert _balance(derby, Account.FEE) == -2_250
    assert _balance(derby, Account.POOL, None) == 0
    assert _balance(derby, Account.PAYABLE, "ann") == -14_250
    assert [derby.balances(user) for user in ("ann", "ben", "cyn")] == [(0, 0)] * 3
    assert audit(derby.db, deep=True).ok


def test_the_operators_example_is_paid_to_the_cent(derby: DataBuilder) -> None:
    """142 and 285 go to the phones; balances rise by 142.50 and 285.00, available by 0.50 and 0.00."""
    _resolve(derby)
    _settle(derby)
    for user in ("ann", "ben"):
        derby.accepted(attempt := derby.intend(user))
        derby.paid(attempt)
    assert [derby.balances(user) for user in ("ann", "ben", "cyn")] == [(14_250, 50), (28_500, 0), (0, 0)]
    assert _balance(derby, Account.UTILITY) == 45_000 - 42_700
    assert _balance(derby, Account.PAYABLE, None) == 0
    assert audit(derby.db, deep=True).ok


def test_settling_twice_changes_nothing_and_says_so(derby: DataBuilder) -> None:
    _resolve(derby)
    first = _settle(derby)
    derby.clock.forward(hours=1)
    again = _settle(derby)
    assert first.is_new
    assert not again.is_new
    assert {name: getattr(again, name) for name in Settled.__slots__ if name != "is_new"} == {
        name: getattr(first, name) for name in Settled.__slots__ if name != "is_new"
    }
    assert len(_owed(derby)) == 2
    assert _balance(derby, Account.FEE) == -2_250


def test_several_threads_that_settle_at_once_make_one_settlement(derby: DataBuilder) -> None:
    _resolve(derby)
    with ThreadPoolExecutor(5) as pool:
        settled = list(pool.map(lambda _: _settle(derby), range(5)))
    assert sum(one.is_new for one in settled) == 1
    assert {one.plan_hash for one in settled} == {settled[0].plan_hash}
    assert len(_owed(derby)) == 2
    assert audit(derby.db).ok


def test_a_plan_says_what_settling_will_do_and_writes_nothing(derby: DataBuilder) -> None:
    _resolve(derby)
    planned, owed = settle.plan_settlement(derby.db, LIMITS, market="derby")
    assert owed == [
        Owed(1, "ann", PayoutKind.PAYOUT, 1, 14_250, 14_200),
        Owed(2, "ben", PayoutKind.PAYOUT, 1, 28_500, 28_500),
    ]
    assert (_owed(derby), planned.is_new, planned.settled_at) == ([], False, None)
    settled = _settle(derby)
    assert (settled.plan_hash, settled.settlement) == (planned.plan_hash, planned.settlement)
    assert refusal(lambda: settle.plan_settlement(derby.db, LIMITS, market="derby"), Refused) == (
        f"derby was settled at {eat(derby.clock())}; there is nothing left to plan.",
        "See it: kasoko status derby",
    )


def test_every_bet_on_losing_outcomes_refunds_everyone_in_full_without_a_fee(derby: DataBuilder) -> None:
    """The operator's fourth scenario: nobody backed the winner."""
    builder = derby
    builder.market("nobody", ("Yes", "No", "Draw"))
    builder.deposit("ann", 10_050)
    builder.deposit("ben", 20_000)
    builder.bet("nobody", "ann", "Yes", cents=10_050)
    builder.bet("nobody", "ben", "No", kes=200)
    settled = builder.settle("nobody", "Draw")
    assert settled.settlement == SettlementFigures(30_050, 0, 0, 0, 0, 0, 30_050, 0, 0)
    assert settled.warnings == [
        "Nobody backed the winner, or the market is void: every stake goes back in full, and the fee is 0."
    ]
    assert _owed(builder, "nobody") == [
        ("ann", "REFUND", 10_050, 10_000, "PENDING"),
        ("ben", "REFUND", 20_000, 20_000, "PENDING"),
    ]
    assert _balance(builder, Account.FEE) == 0
    assert audit(builder.db, deep=True).ok


def test_a_void_market_refunds_every_stake_and_takes_no_fee(builder: DataBuilder) -> None:
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 250)})
    settled = builder.settle("derby")
    assert (settled.resolved_outcome, settled.settlement.fee_cents, settled.settlement.refunds_cents) == (
        "VOID",
        0,
        35_000,
    )
    assert [(user, kind, cents) for user, kind, cents, *_ in _owed(builder)] == [
        ("ann", "REFUND", 10_000),
        ("ben", "REFUND", 25_000),
    ]
    assert audit(builder.db, deep=True).ok


def test_what_m_pesa_cannot_carry_goes_to_the_wallet_at_once(builder: DataBuilder) -> None:
    """KES 9.99 cannot be sent and can be staked again; KES 10 can be sent and cannot."""
    builder.market("derby", rules=Rules(fee_bps=0))
    builder.user("ann", deposit_kes=100)
    builder.user("ben", deposit_kes=100)
    builder.bet("derby", "ann", "Yes", cents=999)
    builder.bet("derby", "ben", "Yes", cents=1_000)
    settled = builder.settle("derby", "Yes")
    assert (settled.to_phones, settled.to_wallets, settled.to_wallets_cents) == (1, 1, 999)
    assert _owed(builder) == [("ann", "PAYOUT", 999, 0, "WALLET"), ("ben", "PAYOUT", 1_000, 1_000, "PENDING")]
    assert (builder.balances("ann"), builder.balances("ben")) == ((10_000, 10_000), (9_000, 9_000))
    assert audit(builder.db, deep=True).ok


def test_what_is_more_than_one_payment_may_be_is_owed_in_legs(builder: DataBuilder) -> None:
    builder.market("derby", rules=Rules(fee_bps=0))
    builder.bets("derby", {"ann": ("Yes", 250_001)})
    settled = builder.settle("derby", "Yes")
    assert (settled.settlement.winners, settled.payouts) == (1, 2)
    assert [(cents, wire) for _, _, cents, wire, _ in _owed(builder)] == [(24_999_100, 24_999_100), (1_000, 1_000)]
    assert audit(builder.db).ok


def test_other_limits_of_the_wire_cut_other_legs(builder: DataBuilder) -> None:
    builder.market("derby", rules=Rules(fee_bps=0))
    builder.bets("derby", {"ann": ("Yes", 250)})
    markets.void_market(builder.context, market="derby")
    limits = WireLimits(min_cents=1_000, max_cents=10_000)
    settle.settle_market(builder.context, limits, market="derby")
    assert [wire for *_, wire, _ in _owed(builder)] == [10_000, 10_000, 5_000]
    assert audit(builder.db).ok


def test_cancelled_and_late_bets_take_no_part(derby: DataBuilder) -> None:
    builder = derby
    builder.market("rains")
    for user in ("ann", "ben"):
        builder.deposit(user, 20_000)
    builder.bet("rains", "ann", "Yes", kes=100)
    cancelled = builder.bet("rains", "ben", "Yes", kes=100)
    bets.cancel_bet(builder.context, bet_id=cancelled)
    late = builder.bet("rains", "ben", "No", kes=70)
    # Closed at the very moment of the last bet: one stamped at or after the close is late.
    markets.close_market(builder.context, market="rains")
    _resolve(builder, market="rains")
    settled = _settle(builder, "rains")
    assert late
    assert (settled.settlement.gross_cents, settled.settlement.refunds_cents) == (10_000, 7_000)
    assert [(user, kind, cents) for user, kind, cents, *_ in _owed(builder, "rains")] == [
        ("ann", "PAYOUT", 9_500),
        ("ben", "REFUND", 7_000),
    ]
    assert settled.warnings == [
        "Winners get back less than they staked: nearly everybody backed the winner, and the fee is taken all the same."
    ]
    assert audit(builder.db, deep=True).ok


def test_a_market_without_a_bet_is_settled_without_a_payout(builder: DataBuilder) -> None:
    builder.market("derby")
    settled = builder.settle("derby", "Yes")
    assert (settled.payouts, settled.settlement) == (0, SettlementFigures(0, 0, 0, 0, 0, 0, 0, 0, 0))
    assert audit(builder.db, deep=True).ok


def test_a_fee_of_everything_owes_nobody_a_payout_of_nothing(builder: DataBuilder) -> None:
    builder.market("derby", rules=Rules(fee_bps=10_000))
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 50)})
    settled = builder.settle("derby", "Yes")
    assert (settled.settlement.winners, settled.settlement.fee_cents, settled.payouts) == (1, 15_000, 0)
    assert audit(builder.db, deep=True).ok


def test_a_market_that_takes_bets_is_not_settled(builder: DataBuilder) -> None:
    builder.market("derby")
    closes_at = markets.show_market(builder.db, "derby").closes_at
    assert refusal(lambda: _settle(builder), Refused) == (
        f"derby is open (its closing time is {eat(closes_at)}); it was not settled.",
        "Name the winning outcome first: kasoko resolve derby OUTCOME",
    )


def test_a_market_without_a_result_is_not_settled(derby: DataBuilder) -> None:
    expected = (
        "derby has no result yet; it was not settled.",
        "Name the winning outcome first: kasoko resolve derby OUTCOME",
    )
    assert refusal(lambda: _settle(derby), Refused) == expected
    assert refusal(lambda: settle.plan_settlement(derby.db, LIMITS, market="derby"), Refused) == expected
    assert _owed(derby) == []


def test_an_unknown_market_is_not_settled(derby: DataBuilder) -> None:
    assert refusal(lambda: _settle(derby, "darby"), NotFound) == (
        "There is no market 'darby'.",
        "Did you mean derby? List them: kasoko market list",
    )


@pytest.mark.parametrize(
    "touched",
    [
        "UPDATE bets SET stake_cents = stake_cents + 100 WHERE user_id = 'ann'",
        "UPDATE bets SET outcome = 0 WHERE user_id = 'cyn'",
        "UPDATE bets SET user_id = 'ann' WHERE user_id = 'ben'",
        "DELETE FROM bets WHERE user_id = 'cyn'",
        "UPDATE markets SET fee_bps = 100",
        "UPDATE markets SET dead_heat = 'pool'",
    ],
)
def test_bets_or_rules_that_were_touched_after_the_close_are_not_settled(derby: DataBuilder, touched: str) -> None:
    _resolve(derby)
    with derby.db.transaction() as session:
        session.execute(text(touched))
    expected = (
        "derby was not settled: its bets or rules are not those that stood when it closed.",
        "Nothing was changed. Somebody edited the database by hand: kasoko audit, then restore the rows.",
    )
    assert refusal(lambda: _settle(derby), CheckFailed) == expected
    assert refusal(lambda: settle.plan_settlement(derby.db, LIMITS, market="derby"), CheckFailed) == expected
    assert (_owed(derby), _balance(derby, Account.PAYABLE, None)) == ([], 0)


def test_settling_sends_nothing(derby: DataBuilder) -> None:
    _resolve(derby)
    _settle(derby)
    with derby.db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM attempts")).scalar_one() == 0
        statuses = {payout.status for payout in payouts.list_payouts(session)}
    assert statuses == {PayoutStatus.PENDING}
