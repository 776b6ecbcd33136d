"""Which entry each event makes: the signs, the owners and the key."""

from __future__ import annotations

import pytest

from kasoko_cli.errors import LedgerUnbalanced
from kasoko_cli.ledger import journal
from kasoko_cli.ledger.chart import OWNED, Account, pool_owner
from kasoko_cli.ledger.journal import Entry, Posting

A = Account

#: The table of events, one line an event: the entry, its key, its debits and its credits in cents.
EVENTS = [
    pytest.param(
        journal.deposited("SKN1", "ann", 500),
        "deposit:SKN1",
        {(A.UTILITY, ""): 500, (A.WALLET, "ann"): -500},
        id="a deposit",
    ),
    pytest.param(
        journal.bet_from_wallet("b1", "ann", "derby", 0, 500),
        "bet:b1",
        {(A.WALLET, "ann"): 500, (A.POOL, "derby/0"): -500},
        id="a bet from the wallet",
    ),
    pytest.param(
        journal.bet_collected("b1", "derby", 1, 500),
        "bet:b1",
        {(A.UTILITY, ""): 500, (A.POOL, "derby/1"): -500},
        id="a bet that the platform collected",
    ),
    pytest.param(
        journal.bet_cancelled("b1", "ann", "derby", 0, 500),
        "bet:b1:cancel",
        {(A.POOL, "derby/0"): 500, (A.WALLET, "ann"): -500},
        id="a bet taken back",
    ),
    pytest.param(
        journal.settled(
            "derby",
            1,
            pools={0: 30_000, 1: 15_000},
            owed=[("ann", 14_250), ("ben", 28_500)],
            earned=journal.Earnings(2_250, 0, 0),
        ),
        "settle:derby:1",
        {
            (A.POOL, "derby/0"): 30_000,
            (A.POOL, "derby/1"): 15_000,
            (A.PAYABLE, "ann"): -14_250,
            (A.PAYABLE, "ben"): -28_500,
            (A.FEE, ""): -2_250,
        },
        id="a market divided: the operator's example",
    ),
    pytest.param(
        journal.settled("derby", 2, pools={0: 10_000}, owed=[("ann", 10_499)], earned=journal.Earnings(500, 1, 1_000)),
        "settle:derby:2",
        {
            (A.POOL, "derby/0"): 10_000,
            (A.MINUS_POOL, ""): 1_000,
            (A.PAYABLE, "ann"): -10_499,
            (A.FEE, ""): -500,
            (A.BREAKAGE, ""): -1,
        },
        id="a market divided with a top-up and breakage",
    ),
    pytest.param(
        journal.reserved("ks-1", 1, 14_200),
        "attempt:ks-1:reserve",
        {(A.IN_FLIGHT, ""): 14_200, (A.UTILITY, ""): -14_200},
        id="an instruction about to leave",
    ),
    pytest.param(
        journal.reserved("ks-1", 2, 14_200),
        "attempt:ks-1:reserve:2",
        {(A.IN_FLIGHT, ""): 14_200, (A.UTILITY, ""): -14_200},
        id="the same instruction about to leave again",
    ),
    pytest.param(
        journal.released("ks-1", 1, 14_200),
        "attempt:ks-1:release",
        {(A.UTILITY, ""): 14_200, (A.IN_FLIGHT, ""): -14_200},
        id="an instruction that was not taken",
    ),
    pytest.param(
        journal.released("ks-1", 3, 14_200),
        "attempt:ks-1:release:3",
        {(A.UTILITY, ""): 14_200, (A.IN_FLIGHT, ""): -14_200},
        id="an instruction that was not taken the third time",
    ),
    pytest.param(
        journal.late_reserved("ks-1", 14_200),
        "attempt:ks-1:late_reserve",
        {(A.IN_FLIGHT, ""): 14_200, (A.UTILITY, ""): -14_200},
        id="a success after a failure",
    ),
    pytest.param(
        journal.credited("derby.1.1", "ann", 14_250),
        "payout:derby.1.1:credit",
        {(A.PAYABLE, "ann"): 14_250, (A.WALLET, "ann"): -14_250},
        id="a win credited",
    ),
    pytest.param(
        journal.delivered("derby.1.1", "ks-1", "ann", 14_200),
        "payout:derby.1.1:deliver:ks-1",
        {(A.DELIVERED, "ann"): 14_200, (A.IN_FLIGHT, ""): -14_200},
        id="a phone that got it",
    ),
    pytest.param(
        journal.overpaid("SKN2", "ann", 14_200),
        "overpaid:SKN2",
        {(A.RECEIVABLE, "ann"): 14_200, (A.UTILITY, ""): -14_200},
        id="a phone that got it twice",
    ),
]


@pytest.mark.parametrize(("entry", "key", "lines"), EVENTS)
def test_each_event_debits_and_credits_what_the_table_says(
    entry: Entry, key: str, lines: dict[tuple[Account, str], int]
) -> None:
    assert entry.key == key
    assert {(posting.account, posting.owner): posting.cents for posting in entry.postings} == lines
    assert len(entry.postings) == len(lines)


def test_an_entry_that_does_not_sum_to_zero_cannot_be_built() -> None:
    with pytest.raises(LedgerUnbalanced) as refused:
        Entry("deposit:1", "deposit", (Posting(A.UTILITY, "", 500), Posting(A.WALLET, "ann", -499)))
    assert refused.value.message == "The entry deposit:1 is off by 1 cents; nothing was written."
    assert refused.value.exit_code == 8


def test_a_division_that_forgets_a_cent_cannot_become_an_entry() -> None:
    with pytest.raises(LedgerUnbalanced, match=r"^The entry settle:derby:1 is off by 1 cents; nothing was written\.$"):
        journal.settled("derby", 1, pools={0: 100}, owed=[("ann", 94)], earned=journal.Earnings(5, 0, 0))


@pytest.mark.parametrize("account", list(Account))
def test_each_account_has_an_owner_exactly_where_it_belongs_to_somebody(account: Account) -> None:
    owner = "" if account in OWNED else "ann"
    other = Posting(A.CAPITAL, "", -1)
    with pytest.raises(LedgerUnbalanced) as refused:
        Entry("x", "x", (Posting(account, owner, 1), other))
    assert refused.value.message == f"The entry x has a line on {account} with the owner {owner!r}."
    right = Posting(account, "ann" if account in OWNED else "", 1)
    assert Entry("x", "x", (right, other)).postings == (right, other)


def test_lines_that_move_nothing_are_left_out() -> None:
    entry = journal.settled("empty", 1, pools={}, owed=[], earned=journal.Earnings(0, 0, 0))
    assert (entry.key, entry.postings) == ("settle:empty:1", ())


def test_each_outcome_of_each_market_has_a_pool_of_its_own() -> None:
    assert pool_owner("derby", 1) == "derby/1"
