"""The accounts, by name. A debit is positive, a credit negative.

The wallet is credited once for a win, when M-Pesa confirms, and what went to the phone is booked
against it on `delivered` in the same entry set. So `balance` says all that was ever credited to a
user, and `available` what of it can still be spent; the phone and a spendable wallet are never both paid.
"""

from __future__ import annotations

from enum import StrEnum


class Account(StrEnum):
    """Every account there is; its owner, where it has one, stands beside it in a posting."""

    UTILITY = "utility"  #: the M-Pesa utility account as we believe it
    IN_FLIGHT = "in_flight"  #: instructed to M-Pesa, fate not known
    BANK = "bank"  #: the operator's bank
    RECEIVABLE = "receivable"  #: by user: overpaid, to recover
    WALLET = "wallet"  #: by user: everything ever credited to the user
    DELIVERED = "delivered"  #: by user: of that, already sent to the phone (contra to wallet)
    POOL = "pool"  #: by market and outcome: stakes in escrow
    PAYABLE = "payable"  #: by user: won or to be refunded, not yet credited
    FEE = "fee"  #: income: the takeout
    BREAKAGE = "breakage"  #: income: what rounding payouts down leaves
    CHARGES = "charges"  #: what M-Pesa bills for payouts
    CHARGES_DUE = "charges_due"  #: of that, not yet taken from our account
    MINUS_POOL = "minus_pool"  #: expense: the operator's top-up to a minimum dividend
    WRITE_OFF = "write_off"  #: expense: receivables given up
    SUSPENSE = "suspense"  #: money that matches nothing yet
    CAPITAL = "capital"  #: put in by the operator
    DRAW = "draw"  #: taken out by the operator
    TAX_WITHHELD = "tax_withheld"  #: by user: kept back for the revenue authority
    TAX_REMITTED = "tax_remitted"  #: by what it fell on: of that, paid to the authority (contra to tax_withheld)


#: Accounts that belong to somebody or something; the others have the owner ''.
OWNED = frozenset(
    {
        Account.RECEIVABLE,
        Account.WALLET,
        Account.DELIVERED,
        Account.POOL,
        Account.PAYABLE,
        Account.TAX_WITHHELD,
        Account.TAX_REMITTED,
    }
)


def pool_owner(market_id: str, outcome: int) -> str:
    """Whose stakes these are: one pool account for each outcome of each market."""
    return f"{market_id}/{outcome}"
