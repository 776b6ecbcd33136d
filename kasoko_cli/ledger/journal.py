"""Which entry each event makes. Pure: it builds entries, it posts nothing.

An entry that does not sum to zero cannot be built. Its key says what it is about, and the books
take each key once: an event told twice is an error of the caller, never a second movement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kasoko_cli.errors import LedgerUnbalanced
from kasoko_cli.ledger.chart import OWNED, Account, pool_owner


class Posting(NamedTuple):
    """One line: debit positive, credit negative, in cents."""

    account: Account
    owner: str
    cents: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A balanced event. Lines of zero cents are left out.

    Raises:
        LedgerUnbalanced: the lines do not sum to zero, or an owner is missing or too many.
    """

    key: str
    kind: str
    postings: tuple[Posting, ...]

    def __post_init__(self) -> None:
        total = sum(posting.cents for posting in self.postings)
        if total != 0:
            raise LedgerUnbalanced(f"The entry {self.key} is off by {total} cents; nothing was written.")
        for posting in self.postings:
            if (posting.account in OWNED) != bool(posting.owner):
                raise LedgerUnbalanced(
                    f"The entry {self.key} has a line on {posting.account} with the owner {posting.owner!r}."
                )


def entry(key: str, kind: str, postings: Iterable[Posting]) -> Entry:
    """Build an entry, leaving out the lines that move nothing."""
    return Entry(key, kind, tuple(posting for posting in postings if posting.cents))


def _move(key: str, kind: str, *, debit: tuple[Account, str], credit: tuple[Account, str], cents: int) -> Entry:
    return entry(key, kind, (Posting(*debit, cents), Posting(*credit, -cents)))


def deposited(reference: str, user_id: str, cents: int) -> Entry:
    """A user put money into the wallet; it arrived in our M-Pesa account."""
    return _move(
        f"deposit:{reference}", "deposit", debit=(Account.UTILITY, ""), credit=(Account.WALLET, user_id), cents=cents
    )


def bet_from_wallet(bet_id: str, user_id: str, market_id: str, outcome: int, cents: int) -> Entry:
    """A stake taken from the user's wallet into the pool."""
    pool = (Account.POOL, pool_owner(market_id, outcome))
    return _move(f"bet:{bet_id}", "bet", debit=(Account.WALLET, user_id), credit=pool, cents=cents)


def bet_collected(bet_id: str, market_id: str, outcome: int, cents: int) -> Entry:
    """A stake that the platform had already collected into our M-Pesa account."""
    pool = (Account.POOL, pool_owner(market_id, outcome))
    return _move(f"bet:{bet_id}", "bet", debit=(Account.UTILITY, ""), credit=pool, cents=cents)


def bet_cancelled(bet_id: str, user_id: str, market_id: str, outcome: int, cents: int) -> Entry:
    """A bet taken back before the close: the stake returns to the wallet."""
    pool = (Account.POOL, pool_owner(market_id, outcome))
    return _move(f"bet:{bet_id}:cancel", "bet_cancel", debit=pool, credit=(Account.WALLET, user_id), cents=cents)


def settled(
    market_id: str,
    number: int,
    *,
    pools: Mapping[int, int],
    owed: Iterable[tuple[str, int]],
    fee_cents: int,
    breakage_cents: int,
    top_up_cents: int,
) -> Entry:
    """A market divided: every pool emptied, the winners and refunds owed, fee and breakage earned.

    `pools` has the cents of each outcome; `owed` has one (user, cents) for each payout or refund.
    """
    return entry(
        f"settle:{market_id}:{number}",
        "settle",
        [
            *(Posting(Account.POOL, pool_owner(market_id, outcome), cents) for outcome, cents in pools.items()),
            Posting(Account.MINUS_POOL, "", top_up_cents),
            *(Posting(Account.PAYABLE, user_id, -cents) for user_id, cents in owed),
            Posting(Account.FEE, "", -fee_cents),
            Posting(Account.BREAKAGE, "", -breakage_cents),
        ],
    )


def _numbered(key: str, send: int) -> str:
    return key if send == 1 else f"{key}:{send}"


def reserved(attempt_id: str, send: int, wire_cents: int) -> Entry:
    """An instruction is about to leave: its money is in flight. `send` counts the sends of this id."""
    return _move(
        _numbered(f"attempt:{attempt_id}:reserve", send),
        "reserve",
        debit=(Account.IN_FLIGHT, ""),
        credit=(Account.UTILITY, ""),
        cents=wire_cents,
    )


def released(attempt_id: str, send: int, wire_cents: int) -> Entry:
    """The instruction was rejected or failed: its money never left."""
    return _move(
        _numbered(f"attempt:{attempt_id}:release", send),
        "release",
        debit=(Account.UTILITY, ""),
        credit=(Account.IN_FLIGHT, ""),
        cents=wire_cents,
    )


def late_reserved(attempt_id: str, wire_cents: int) -> Entry:
    """A success arrived for an attempt whose money had been released: take it back into flight."""
    return _move(
        f"attempt:{attempt_id}:late_reserve",
        "late_reserve",
        debit=(Account.IN_FLIGHT, ""),
        credit=(Account.UTILITY, ""),
        cents=wire_cents,
    )


def credited(payout_id: str, user_id: str, amount_cents: int) -> Entry:
    """What was owed is now the user's: once for each payout, on evidence or instead of the phone."""
    return _move(
        f"payout:{payout_id}:credit",
        "credit",
        debit=(Account.PAYABLE, user_id),
        credit=(Account.WALLET, user_id),
        cents=amount_cents,
    )


def delivered(payout_id: str, attempt_id: str, user_id: str, wire_cents: int) -> Entry:
    """The phone got it: booked against the wallet, so that it cannot be spent a second time."""
    return _move(
        f"payout:{payout_id}:deliver:{attempt_id}",
        "deliver",
        debit=(Account.DELIVERED, user_id),
        credit=(Account.IN_FLIGHT, ""),
        cents=wire_cents,
    )


def overpaid(receipt: str, user_id: str, wire_cents: int) -> Entry:
    """The provider paid a second time for one payout: the user owes it back."""
    return _move(
        f"overpaid:{receipt}",
        "overpaid",
        debit=(Account.RECEIVABLE, user_id),
        credit=(Account.UTILITY, ""),
        cents=wire_cents,
    )


def keys_of(payout_id: str, sends: Mapping[str, int], receipts: Iterable[str]) -> list[str]:
    """Every key that entries of one payout may have.

    `sends` has its attempts and how often each was sent, `receipts` what M-Pesa paid of it.
    """
    keys = [f"payout:{payout_id}:credit", *(f"overpaid:{receipt}" for receipt in receipts)]
    for attempt_id, count in sends.items():
        keys += [f"payout:{payout_id}:deliver:{attempt_id}", f"attempt:{attempt_id}:late_reserve"]
        for send in range(1, count + 1):
            keys += [_numbered(f"attempt:{attempt_id}:{what}", send) for what in ("reserve", "release")]
    return keys
