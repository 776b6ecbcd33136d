"""Wallets: what came in, once for each reference, and what can be spent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.ledger import book
from kasoko_cli.operations.records import wallets
from tests.operations.data_builder import DataBuilder, refusal


def _deposit(builder: DataBuilder, user_id: str, cents: int, reference: str = "SKN1") -> bool:
    return wallets.deposit(builder.context, user_id=user_id, cents=cents, reference=reference)


def test_a_deposit_is_credited_once_for_its_reference(builder: DataBuilder) -> None:
    builder.user("ann")
    assert _deposit(builder, "ann", 5_000) is True
    assert _deposit(builder, "ann", 5_000) is False
    assert builder.balances("ann") == (5_000, 5_000)


def test_the_receipt_of_a_deposit_is_the_same_in_any_case(builder: DataBuilder) -> None:
    """Statements have it in capitals, and would put the same money into suspense."""
    builder.user("ann")

    def deposit(reference: str) -> bool:
        return _deposit(builder, "ann", 100, reference)

    assert [deposit(one) for one in ("ukn7a1b2c3", "UKN7A1B2C3", "Till-7", "till-7")] == [True, False, True, True]
    with builder.db.reading() as session:
        assert book.is_posted(session, "deposit:UKN7A1B2C3")


@pytest.mark.parametrize(("user_id", "cents"), [("ben", 5_000), ("ann", 5_001)])
def test_a_reference_that_was_taken_for_something_else_is_refused(
    builder: DataBuilder, user_id: str, cents: int
) -> None:
    builder.user("ann")
    builder.user("ben")
    _deposit(builder, "ann", 5_000)
    assert refusal(lambda: _deposit(builder, user_id, cents), Refused) == (
        "The reference 'SKN1' was taken before, for another user or amount; nothing was changed.",
        "Each arrival of money has its own reference: use the receipt of the customer's payment.",
    )
    assert (builder.balances("ann"), builder.balances("ben")) == ((5_000, 5_000), (0, 0))


@pytest.mark.parametrize(("cents", "shown"), [(0, "0.00"), (-500, "-5.00")])
def test_a_deposit_of_nothing_is_refused(builder: DataBuilder, cents: int, shown: str) -> None:
    builder.user("ann")
    message, _ = refusal(lambda: _deposit(builder, "ann", cents), Refused)
    assert message == f"A deposit of KES {shown} is not money; nothing was changed."


def test_money_for_somebody_unknown_is_not_taken(builder: DataBuilder) -> None:
    assert refusal(lambda: _deposit(builder, "nobody", 100), NotFound)[0] == "There is no user 'nobody'."


def test_a_wallet_shows_its_latest_movements_as_its_user_sees_them(builder: DataBuilder) -> None:
    builder.user("ann", deposit_kes=100)
    builder.market("derby")
    builder.bet("derby", "ann", "Yes", kes=40)
    wallet = wallets.show_wallet(builder.db, "ann")
    assert (wallet.balance_cents, wallet.available_cents, wallet.receivable_cents) == (6_000, 6_000, 0)
    assert [(line.kind, line.entry, line.amount_cents) for line in wallet.lines] == [
        ("bet", "bet:bet-0001", -4_000),
        ("deposit", "deposit:DEP0000001", 10_000),
    ]
    assert [line.kind for line in wallets.show_wallet(builder.db, "ann", limit=1).lines] == ["bet"]


def test_a_paid_win_raises_the_balance_by_all_of_it_and_leaves_the_cents_to_spend(builder: DataBuilder) -> None:
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("Yes", 200), "cyn": ("No", 150)})
    builder.settle("derby", "Yes")
    builder.accepted(attempt := builder.intend("ann"))
    assert builder.balances("ann") == (0, 0)
    builder.paid(attempt)
    assert builder.balances("ann") == (14_250, 50)
    assert [(line.account, line.amount_cents) for line in wallets.show_wallet(builder.db, "ann").lines[:2]] == [
        ("delivered", -14_200),
        ("wallet", 14_250),
    ]


def test_one_reference_told_by_several_threads_at_once_is_credited_once(builder: DataBuilder) -> None:
    builder.user("ann")
    with ThreadPoolExecutor(6) as pool:
        told = [pool.submit(_deposit, builder, "ann", 5_000) for _ in range(6)]
        assert sum(one.result() for one in told) == 1
    assert builder.balances("ann") == (5_000, 5_000)
