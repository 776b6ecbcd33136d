"""Which entry each event makes. Pure: it builds entries, it posts nothing.

An entry that does not sum to zero cannot be built. Its key says what it is about, and the books
take each key once: an event told twice is an error of the caller, never a second movement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from kasoko_cli.errors import LedgerUnbalanced
from kasoko_cli.ledger.chart import OWNED, Account, pool_owner

#: What is kept back where no duty holds.
NOTHING: Mapping[str, int] = MappingProxyType({})


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


#: Accounts with nobody's name beside them, as `_move` takes them.
UTILITY, IN_FLIGHT, SUSPENSE = (Account.UTILITY, ""), (Account.IN_FLIGHT, ""), (Account.SUSPENSE, "")


def _move(key: str, kind: str, cents: int, *, debit: tuple[Account, str], credit: tuple[Account, str]) -> Entry:
    return entry(key, kind, (Posting(*debit, cents), Posting(*credit, -cents)))


def _pool(market_id: str, outcome: int) -> tuple[Account, str]:
    return (Account.POOL, pool_owner(market_id, outcome))


def deposited(reference: str, user_id: str, cents: int) -> Entry:
    """A user put money into the wallet; it arrived in our M-Pesa account."""
    return _move(f"deposit:{reference}", "deposit", cents, debit=UTILITY, credit=(Account.WALLET, user_id))


def bet_from_wallet(bet_id: str, user_id: str, market_id: str, outcome: int, cents: int) -> Entry:
    """A stake taken from the user's wallet into the pool."""
    return _move(f"bet:{bet_id}", "bet", cents, debit=(Account.WALLET, user_id), credit=_pool(market_id, outcome))


def bet_collected(bet_id: str, market_id: str, outcome: int, cents: int) -> Entry:
    """A stake that the platform had already collected into our M-Pesa account."""
    return _move(f"bet:{bet_id}", "bet", cents, debit=UTILITY, credit=_pool(market_id, outcome))


def bet_cancelled(bet_id: str, user_id: str, market_id: str, outcome: int, cents: int) -> Entry:
    """A bet taken back before the close: the stake returns to the wallet."""
    wallet = (Account.WALLET, user_id)
    return _move(f"bet:{bet_id}:cancel", "bet_cancel", cents, debit=_pool(market_id, outcome), credit=wallet)


class Earnings(NamedTuple):
    """What the operator earns by a division, in cents: the fee and the breakage, and what the pool was topped up by."""

    fee_cents: int
    breakage_cents: int
    top_up_cents: int


def settled(
    market_id: str,
    number: int,
    *,
    pools: Mapping[int, int],
    owed: Iterable[tuple[str, int]],
    earned: Earnings,
    withheld: Mapping[str, int] = NOTHING,
) -> Entry:
    """A market divided: every pool emptied, the winners and refunds owed, fee and breakage earned.

    `pools` has the cents of each outcome; `owed` has one (user, cents) for each payout or refund, and `withheld`
    what a duty on winnings kept back of each winner.
    """
    return entry(
        f"settle:{market_id}:{number}",
        "settle",
        [
            *(Posting(Account.POOL, pool_owner(market_id, outcome), cents) for outcome, cents in pools.items()),
            Posting(Account.MINUS_POOL, "", earned.top_up_cents),
            *(Posting(Account.PAYABLE, user_id, -cents) for user_id, cents in owed),
            *(Posting(Account.TAX_WITHHELD, user_id, -cents) for user_id, cents in withheld.items()),
            Posting(Account.FEE, "", -earned.fee_cents),
            Posting(Account.BREAKAGE, "", -earned.breakage_cents),
        ],
    )


def _numbered(key: str, send: int) -> str:
    return key if send == 1 else f"{key}:{send}"


def reserved(attempt_id: str, send: int, wire_cents: int) -> Entry:
    """An instruction is about to leave: its money is in flight. `send` counts the sends of this id."""
    return _move(
        _numbered(f"attempt:{attempt_id}:reserve", send), "reserve", wire_cents, debit=IN_FLIGHT, credit=UTILITY
    )


def released(attempt_id: str, send: int, wire_cents: int) -> Entry:
    """The instruction was rejected or failed: its money never left."""
    return _move(
        _numbered(f"attempt:{attempt_id}:release", send), "release", wire_cents, debit=UTILITY, credit=IN_FLIGHT
    )


def late_reserved(attempt_id: str, wire_cents: int) -> Entry:
    """A success arrived for an attempt whose money had been released: take it back into flight."""
    return _move(f"attempt:{attempt_id}:late_reserve", "late_reserve", wire_cents, debit=IN_FLIGHT, credit=UTILITY)


def credited(payout_id: str, user_id: str, amount_cents: int) -> Entry:
    """What was owed is now the user's: once for each payout, on evidence or instead of the phone."""
    return _move(
        f"payout:{payout_id}:credit",
        "credit",
        amount_cents,
        debit=(Account.PAYABLE, user_id),
        credit=(Account.WALLET, user_id),
    )


def delivered_key(payout_id: str, attempt_id: str) -> str:
    """The key of the entry that books an attempt as delivered."""
    return f"payout:{payout_id}:deliver:{attempt_id}"


def delivered(payout_id: str, attempt_id: str, user_id: str, wire_cents: int, withheld_cents: int = 0) -> Entry:
    """The phone got it: booked against the wallet, so that it cannot be spent a second time.

    What a duty on withdrawals keeps back for it leaves the wallet too.
    """
    return entry(
        delivered_key(payout_id, attempt_id),
        "deliver",
        [
            Posting(Account.DELIVERED, user_id, wire_cents),
            Posting(Account.WALLET, user_id, withheld_cents),
            Posting(Account.IN_FLIGHT, "", -wire_cents),
            Posting(Account.TAX_WITHHELD, user_id, -withheld_cents),
        ],
    )


def overpaid(receipt: str, user_id: str, wire_cents: int) -> Entry:
    """The provider paid a second time for one payout: the user owes it back."""
    return _move(f"overpaid:{receipt}", "overpaid", wire_cents, debit=(Account.RECEIVABLE, user_id), credit=UTILITY)


def returned(payout_id: str, receipt: str, user_id: str, wire_cents: int, withheld_cents: int = 0) -> Entry:
    """What a phone had got came back: it stands in the wallet again, with what was kept back for it.

    `receipt` is the one of the payment.
    """
    return entry(
        f"payout:{payout_id}:return:{receipt}",
        "return",
        [
            Posting(Account.UTILITY, "", wire_cents),
            Posting(Account.TAX_WITHHELD, user_id, withheld_cents),
            Posting(Account.DELIVERED, user_id, -wire_cents),
            Posting(Account.WALLET, user_id, -withheld_cents),
        ],
    )


def due_again(payout_id: str, nth: int, user_id: str, cents: int) -> Entry:
    """What came back is to be sent again: until it has arrived the user cannot spend it. `nth` counts its returns.

    `cents` is what is sent and what is kept back for it.
    """
    return _move(
        f"payout:{payout_id}:again:{nth}",
        "again",
        cents,
        debit=(Account.DELIVERED, user_id),
        credit=(Account.PAYABLE, user_id),
    )


def again_ended(payout_id: str, nth: int, user_id: str, cents: int) -> Entry:
    """Sending again has ended, on the phone or in the wallet: what was kept from the user is given free."""
    return _move(
        f"payout:{payout_id}:again:{nth}:ended",
        "again_ended",
        cents,
        debit=(Account.PAYABLE, user_id),
        credit=(Account.DELIVERED, user_id),
    )


def charged(attempt_id: str, cents: int) -> Entry:
    """M-Pesa bills a payment; it has not taken it from our account yet."""
    return _move(
        f"attempt:{attempt_id}:charge", "charge", cents, debit=(Account.CHARGES, ""), credit=(Account.CHARGES_DUE, "")
    )


def charge_paid(attempt_id: str, due_cents: int, cents: int) -> Entry:
    """The statement shows what M-Pesa took for a payment; what was not expected of it is a charge too."""
    return entry(
        f"attempt:{attempt_id}:charge_paid",
        "charge_paid",
        [
            Posting(Account.CHARGES_DUE, "", due_cents),
            Posting(Account.CHARGES, "", cents - due_cents),
            Posting(Account.UTILITY, "", -cents),
        ],
    )


def suspended(line_key: str, cents: int) -> Entry:
    """A line of the statement that matches nothing: its money came in (positive) or went out (negative)."""
    return _move(f"suspense:{line_key}", "suspense", cents, debit=UTILITY, credit=SUSPENSE)


def suspense_resolved(line_key: str, cents: int, account: Account, owner: str = "") -> Entry:
    """A person said what money in suspense was: `cents` as they were suspended."""
    return _move(f"suspense:{line_key}:resolve", "suspense_resolve", cents, debit=SUSPENSE, credit=(account, owner))


def recovered(reference: str, user_id: str, cents: int, source: Account) -> Entry:
    """A user gave back what was overpaid: from the wallet, into our M-Pesa account, or into the bank."""
    owner = user_id if source is Account.WALLET else ""
    return _move(f"recover:{reference}", "recover", cents, debit=(source, owner), credit=(Account.RECEIVABLE, user_id))


def written_off(reference: str, user_id: str, cents: int) -> Entry:
    """What a user owes is given up."""
    return _move(
        f"write_off:{reference}",
        "write_off",
        cents,
        debit=(Account.WRITE_OFF, ""),
        credit=(Account.RECEIVABLE, user_id),
    )


def remitted(reference: str, on: str, cents: int, source: Account) -> Entry:
    """What was kept back was paid to the authority, from the bank or from our M-Pesa account.

    `on` says what it fell on, winnings or withdrawals.
    """
    return _move(f"remit:{reference}", "remit", cents, debit=(Account.TAX_REMITTED, on), credit=(source, ""))


def reversal(key: str, postings: Iterable[Posting]) -> Entry:
    """The exact negation of the entry that has this key and these lines."""
    return entry(f"reverse:{key}", "reverse", [Posting(line.account, line.owner, -line.cents) for line in postings])


@dataclass(frozen=True, slots=True)
class UserCorrection:
    """What a correction books for one user, in cents.

    `owed_cents` is how much more (or less) the new division gives; `overpaid_cents` is how much the user
    owes back because of it, or below zero, how much of such a debt it cancels.
    """

    user_id: str
    owed_cents: int
    overpaid_cents: int


def corrected(
    market_id: str,
    number: int,
    users: Iterable[UserCorrection],
    *,
    earned: Earnings,
    withheld: Mapping[str, int] = NOTHING,
) -> Entry:
    """Another outcome after payouts were sent: the differences only. `earned` says by how much each part rose."""
    lines = [
        Posting(Account.FEE, "", -earned.fee_cents),
        Posting(Account.BREAKAGE, "", -earned.breakage_cents),
        Posting(Account.MINUS_POOL, "", earned.top_up_cents),
        *(Posting(Account.TAX_WITHHELD, user_id, -cents) for user_id, cents in withheld.items()),
    ]
    for user in users:
        lines.append(Posting(Account.RECEIVABLE, user.user_id, user.overpaid_cents))
        lines.append(Posting(Account.PAYABLE, user.user_id, -user.owed_cents - user.overpaid_cents))
    return entry(f"correction:{market_id}:{number}", "correct", lines)


def keys_of(payout_id: str, sends: Mapping[str, int], receipts: Iterable[str]) -> list[str]:
    """Every key that entries of one payout may have.

    `sends` has its attempts and how often each was sent, `receipts` what M-Pesa paid of it.
    """
    keys = [f"payout:{payout_id}:credit", f"reverse:payout:{payout_id}:credit"]
    for nth, receipt in enumerate(receipts, start=1):
        keys += [f"overpaid:{receipt}", f"recover:{receipt}", f"payout:{payout_id}:return:{receipt}"]
        keys += [f"payout:{payout_id}:again:{nth}", f"payout:{payout_id}:again:{nth}:ended"]
    for attempt_id, count in sends.items():
        keys += [f"payout:{payout_id}:deliver:{attempt_id}", f"attempt:{attempt_id}:late_reserve"]
        keys += [f"attempt:{attempt_id}:charge", f"attempt:{attempt_id}:charge_paid"]
        for send in range(1, count + 1):
            keys += [_numbered(f"attempt:{attempt_id}:{what}", send) for what in ("reserve", "release")]
    return keys
