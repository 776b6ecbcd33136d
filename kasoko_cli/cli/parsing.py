"""Words on the command line that mean something exact: times and amounts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kasoko_cli.clock import NAIROBI, eat
from kasoko_cli.domain.counts import count_of as count_of
from kasoko_cli.errors import Refused

if TYPE_CHECKING:
    from fractions import Fraction


def local(moment: datetime) -> str:
    """A time as a clock in Nairobi shows it: `2026-12-01 15:00 EAT`."""
    return eat(moment)


def nairobi_clock(moment: datetime) -> str:
    """A time in a story, by Nairobi's clock: `2026-12-01 15:00:07`."""
    return moment.astimezone(NAIROBI).strftime("%Y-%m-%d %H:%M:%S")


def utc_clock(moment: datetime) -> str:
    """The same instant by UTC's clock beside it: `12:00:07Z`, with its own day where that is another one."""
    other_day = moment.astimezone(NAIROBI).date() != moment.astimezone(UTC).date()
    return moment.astimezone(UTC).strftime("%m-%d %H:%M:%SZ" if other_day else "%H:%M:%SZ")


def age_of(seconds: int) -> str:
    """A length of time in its largest unit: `40 seconds`, `3 hours`, `2 days`."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            return count_of(seconds // size, unit)
    return count_of(seconds, "second")


def amount_of(cents: int) -> str:
    """An amount for people: `KES 1,234.50`."""
    from kasoko_cli.domain.money import format_kes

    return f"KES {format_kes(cents)}"


def debts_of(receivable_cents: int, suspense_cents: int) -> list[tuple[str, str]]:
    """What a user owes back, and what payments to the user nobody has explained; nothing where there is neither."""
    told = [("owes back", amount_of(receivable_cents))] if receivable_cents else []
    if suspense_cents:
        way = "came in" if suspense_cents > 0 else "went out"
        told.append(("in suspense", f"{amount_of(abs(suspense_cents))} that {way}: kasoko suspense list"))
    return told


def parse_weight(text: str) -> tuple[str, Fraction]:
    """An outcome and its part of the pool: `Yes=7/10` or `Yes=0.7`, exactly.

    Raises:
        Refused: it is no such pair.
    """
    from fractions import Fraction

    name, _, part = text.rpartition("=")
    try:
        weight = Fraction(part.strip())
    except (ValueError, ZeroDivisionError):
        weight = Fraction(0)
    if not name or weight <= 0:
        raise Refused(f"{text!r} is not an outcome and its part; nothing was changed.", hint="Write Yes=7/10.")
    return name, weight
