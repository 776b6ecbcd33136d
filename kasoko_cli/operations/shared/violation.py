"""What an audit finds: every check of it yields these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong, and with which thing."""

    subject: str
    what: str
