"""What is in the organisation's accounts, as M-Pesa writes it: in the answer to a query, and in each B2C result.

The answer has all accounts packed into one text, `Utility Account|KES|228037.00|228037.00|0.00|0.00&...`.
Accounts are looked up by name, for their order and their set vary. What can be paid out is the *available*
part, the fourth field. A part that cannot be read is named and never guessed at.

Source: Daraja portal, account balance page; live captures of 2024 to 2026. That the fields are current,
available, reserved and uncleared follows from the arithmetic of the portal's own top-up sample.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from kasoko_cli.clock import NAIROBI
from kasoko_cli.daraja.messages import Result, Scalar, exact_cents
from kasoko_cli.domain.money import MAX_CENTS

#: How much of an unreadable part is shown.
_TOLD = 60


@dataclass(frozen=True)
class Balances:
    """What may be spent of each account, in cents; None where M-Pesa did not say."""

    utility_cents: int | None
    working_cents: int | None
    #: What M-Pesa has billed; below zero as a rule.
    charges_cents: int | None
    #: When M-Pesa says that it was so, in UTC.
    as_of: datetime | None
    #: What could not be read, in words.
    unreadable: tuple[str, ...] = field(default=())


def read_balance(result: Result) -> Balances:
    """What the answer to a balance query says."""
    accounts, unreadable = _accounts(result.text("AccountBalance") or "")
    return Balances(
        accounts.get("utility"),
        accounts.get("working"),
        accounts.get("chargespaid"),
        _moment(result.text("BOCompletedTime")),
        tuple(unreadable),
    )


def read_result(result: Result) -> Balances:
    """What the result of a B2C payment says by the way: the balances just after it."""

    def of(key: str) -> int | None:
        return None if key in result.contradicted else signed_cents(result.parameters.get(key))

    return Balances(
        of("B2CUtilityAccountAvailableFunds"),
        of("B2CWorkingAccountAvailableFunds"),
        of("B2CChargesPaidAccountAvailableFunds"),
        result.completed_at(),
    )


def signed_cents(value: Scalar) -> int | None:
    """Shillings, as a number or as text and maybe below zero, in integer cents; None if that is no exact amount."""
    below_zero = False
    if isinstance(value, str) and value.strip().startswith("-"):
        below_zero, value = True, value.strip()[1:]
    elif isinstance(value, int | Decimal) and not isinstance(value, bool) and value < 0:
        below_zero, value = True, -value
    found = exact_cents(value)
    if found is None or found > MAX_CENTS:
        return None
    return -found if below_zero else found


def _accounts(packed: str) -> tuple[Mapping[str, int], list[str]]:
    """The available cents of each account by its name in plain letters, and what could not be read."""
    found: dict[str, int] = {}
    unreadable: list[str] = []
    twice: set[str] = set()
    for part in filter(str.strip, packed.split("&")):
        name, *fields = (piece.strip() for piece in part.split("|"))
        key = re.sub(r"[^a-z]", "", name.lower()).removesuffix("account")
        cents = signed_cents(fields[2]) if len(fields) >= 3 else None
        if not key or cents is None or fields[0].upper() != "KES":
            unreadable.append(part.strip()[:_TOLD])
        elif found.setdefault(key, cents) != cents:
            unreadable.append(part.strip()[:_TOLD])
            twice.add(key)
    return {key: cents for key, cents in found.items() if key not in twice}, unreadable


def _moment(digits: str | None) -> datetime | None:
    """`YYYYMMDDHHMMSS`, which M-Pesa writes in Nairobi time, in UTC."""
    if digits is None or not re.fullmatch(r"[0-9]{14}", digits):
        return None
    try:
        local = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=NAIROBI)
    except ValueError:
        return None
    return local.astimezone(UTC)
