"""Money as whole cents, and the text that people write it in.

Every amount in the program is an integer number of cents (KES 1 = 100 cents). Text is read
exactly or refused: nothing is rounded, and no binary fraction ever stands near money.
"""

from __future__ import annotations

import re

from kasoko_cli.domain.cells import trimmed, unseen_in
from kasoko_cli.domain.phone import quoted
from kasoko_cli.errors import Refused

#: Cents in one Kenyan shilling.
CENTS_PER_SHILLING = 100

#: The largest single amount, ten trillion shillings: a thousandth of what a BIGINT column holds, so
#: that a sum over thousands of such amounts still fits.
MAX_CENTS = 10**15

#: The whole of a percentage, in basis points.
BPS_PER_WHOLE = 10_000

_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]{1,2}))?")

#: An amount as people write it: `KES 1,500.00`, `Ksh 1500`, `1 500`, `500/=`. What parts the thousands is the same
#: throughout, and no amount has three decimals, so that `1,500` can only be fifteen hundred shillings.
_WRITTEN = re.compile(
    r"(?:(?:kes|kshs?|shs?)\.?[ \u00a0]?)?"
    r"([0-9]{1,3}(?:([, \u00a0\u202f])[0-9]{3})(?:\2[0-9]{3})*|[0-9]+)(\.[0-9]{1,2})?"
    r"(?:/[=-]|[ \u00a0]?(?:kes|kshs?|shs?|/[=-]))?",
    re.IGNORECASE,
)

#: Why an amount cannot be known, by how it is written.
_REASONS = (
    (r"", "It is empty."),
    (r"-.*|\(.*\)", "It is below zero."),
    (
        r"[0-9.]*[0-9],[0-9]{1,2}|[0-9]{4,},[0-9]{3}|[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]{1,2})?",
        "Its comma or point may stand before cents or between thousands.",
    ),
    (r"[0-9]+(?:[.,][0-9]+)?e\+?[0-9]+", "It has an exponent: in a spreadsheet format the column as a number."),
    (r"[0-9,]+\.[0-9]{3,}", "It has more than two decimals."),
    (r".*(?:\$|€|£|usd|eur|gbp|ugx|tzs|tsh).*", "It is in another currency."),
)

#: More digits than any amount that fits; checked before the text becomes a number.
_MOST_DIGITS = 40


def parse_kes(text: str, *, what: str = "amount") -> int:
    """Read an amount of shillings such as `150`, `48.50`, `1,500` or `KES 1,500.00`, and return it in cents.

    Raises:
        Refused: it can be read in two ways or in none, or it is above `MAX_CENTS`. The message names
            `what`, the text and, where it is known, the reason.
    """
    cents = _hundredths(text)
    if cents is None:
        cents = _written(text)
    if cents is None:
        raise Refused(
            " ".join(filter(None, [f"The {what} {quoted(text)} is not an amount in shillings.", _reason(text)])),
            hint="Nothing was changed. Write it with digits, and at most two decimals after a point: 150 or 48.50",
        )
    if cents > MAX_CENTS:
        raise Refused(
            f"The {what} {quoted(text)} is more than one amount may be, KES {format_kes(MAX_CENTS)}.",
            hint="Nothing was changed. Look for a misplaced point or digits that run together.",
        )
    return cents


def parse_stake(text: str) -> int:
    """Read the stake of a bet in shillings, and return it in cents: at least one cent.

    Raises:
        Refused: as `parse_kes`, or the stake is zero.
    """
    return parse_payment(text, what="stake", needed_by="a bet", least="a stake of 0.01")


def parse_payment(text: str, *, what: str, needed_by: str = "a payment", least: str = "0.01") -> int:
    """Read an amount of shillings that cannot be nothing, and return it in cents.

    Raises:
        Refused: as `parse_kes`, or it is zero. The message names `what` it is.
    """
    cents = parse_kes(text, what=what)
    if cents == 0:
        raise Refused(
            f"The {what} {quoted(text)} is nothing: {needed_by} needs at least one cent.",
            hint=f"Nothing was changed. Write {least} or more.",
        )
    return cents


def parse_percent_bps(text: str) -> int:
    """Read a percentage from 0 to 100 such as `5.00`, and return it in basis points (500).

    Raises:
        Refused: it is not digits with at most two decimals, or it is above 100.
    """
    bps = _hundredths(text)
    if bps is None or bps > BPS_PER_WHOLE:
        raise Refused(
            f"The percentage {quoted(text)} is not a number from 0 to 100 with at most two decimals.",
            hint="Nothing was changed. Write five percent as 5 or 5.00, without a percent sign.",
        )
    return bps


def format_kes(cents: int) -> str:
    """An amount for people: `1,234.50`."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def plain_kes(cents: int) -> str:
    """An amount for files: `1234.50`, which `parse_kes` reads back as the same cents."""
    return format_kes(cents).replace(",", "")


def whole_shillings_cents(cents: int) -> int:
    """The whole shillings in an amount, in cents: what M-Pesa can carry of it."""
    return cents - cents % CENTS_PER_SHILLING


def _hundredths(text: str) -> int | None:
    """The number of hundredths in a plain decimal text, or None where it is not one."""
    match = _DECIMAL.fullmatch(text)
    if match is None or len(text) > _MOST_DIGITS:
        return None
    whole, part = match.groups(default="")
    return int(whole) * 100 + int(part.ljust(2, "0"))


def _written(text: str) -> int | None:
    """The cents of an amount that is written with a currency, thousands or a closing stroke; None if it is none."""
    match = _WRITTEN.fullmatch(trimmed(text)) if len(text) <= _MOST_DIGITS else None
    return None if match is None else _hundredths(re.sub(r"[^0-9]", "", match[1]) + (match[3] or ""))


def _reason(text: str) -> str:
    """Why a text is no amount, where that can be said."""
    bare = trimmed(text)[:_MOST_DIGITS]
    found = (why for pattern, why in _REASONS if re.fullmatch(pattern, bare, re.IGNORECASE))
    return next(found, unseen_in(bare))
