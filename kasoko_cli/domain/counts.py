"""How many of a thing, in words."""

from __future__ import annotations


def count_of(number: int, noun: str, plural: str = "") -> str:
    """How many: `1 payout`, `1,200 payouts`; `plural` where that is more than an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
