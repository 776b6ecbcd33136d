"""Wallets: what came in, once for each reference, and what can be spent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.records import wallets
from tests.operations.town import Town, refusal


def _deposit(town: Town, user_id: str, cents: int, reference: str = "SKN1") -> bool:
    return wallets.deposit(town.context, user_id=user_id, cents=cents, reference=reference)


def test_a_deposit_is_credited_once_for_its_reference(town: Town) -> None:
    town.user("ann")
    assert _deposit(town, "ann", 5_000) is True
    assert _deposit(town, "ann", 5_000) is False
    assert town.balances("ann") == (5_000, 5_000)


@pytest.mark.parametrize(("user_id", "cents"), [("ben", 5_000), ("ann", 5_001)])
def test_a_reference_that_was_taken_for_something_else_is_refused(town: Town, user_id: str, cents: int) -> None:
    town.user("ann")
    town.user("ben")
    _deposit(town, "ann", 5_000)
    assert refusal(lambda: _deposit(town, user_id, cents), Refused) == (
        "The reference 'SKN1' was taken before, for another user or amount; nothing was changed.",
        "Each arrival of money has its own reference: use the receipt of the customer's payment.",
    )
    assert (town.balances("ann"), town.balances("ben")) == ((5_000, 5_000), (0, 0))


@pytest.mark.parametrize(("cents", "shown"), [(0, "0.00"), (-500, "-5.00")])
def test_a_deposit_of_nothing_is_refused(town: Town, cents: int, shown: str) -> None:
    town.user("ann")
    message, _ = refusal(lambda: _deposit(town, "ann", cents), Refused)
    assert message == f"A deposit of KES {shown} is not money; nothing was changed."


def test_money_for_somebody_unknown_is_not_taken(town: Town) -> None:
    assert refusal(lambda: _deposit(town, "nobody", 100), NotFound)[0] == "There is no user 'nobody'."


def test_a_wallet_shows_its_latest_movements_as_its_user_sees_them(town: Town) -> None:
    town.user("ann", deposit_kes=100)
    town.market("derby")
    town.bet("derby", "ann", "Yes", kes=40)
    wallet = wallets.show_wallet(town.db, "ann")
    assert (wallet.balance_cents, wallet.available_cents, wallet.receivable_cents) == (6_000, 6_000, 0)
    assert [(line.kind, line.entry, line.amount_cents) for line in wallet.lines] == [
        ("bet", "bet:bet-0001", -4_000),
        ("deposit", "deposit:DEP0000001", 10_000),
    ]
    assert [line.kind for line in wallets.show_wallet(town.db, "ann", limit=1).lines] == ["bet"]


def test_a_paid_win_raises_the_balance_by_all_of_it_and_leaves_the_cents_to_spend(town: Town) -> None:
    town.market("derby")
    town.bets("derby", {"ann": ("Yes", 100), "ben": ("Yes", 200), "cyn": ("No", 150)})
    town.settle("derby", "Yes")
    town.accepted(attempt := town.intend("ann"))
    assert town.balances("ann") == (0, 0)
    town.paid(attempt)
    assert town.balances("ann") == (14_250, 50)
    assert [(line.account, line.amount_cents) for line in wallets.show_wallet(town.db, "ann").lines[:2]] == [
        ("delivered", -14_200),
        ("wallet", 14_250),
    ]


def test_one_reference_told_by_several_threads_at_once_is_credited_once(town: Town) -> None:
    town.user("ann")
    with ThreadPoolExecutor(6) as pool:
        told = [pool.submit(_deposit, town, "ann", 5_000) for _ in range(6)]
        assert sum(one.result() for one in told) == 1
    assert town.balances("ann") == (5_000, 5_000)
