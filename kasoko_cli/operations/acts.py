"""Who acts, and why: handed to every operation that changes something."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Act:
    """Who does it and the reason given; both are written down with what was done."""

    actor: str
    reason: str = ""
