"""Who acts, and why: handed to every operation that changes something."""

from __future__ import annotations

from dataclasses import dataclass

from kasoko_cli.errors import Refused


@dataclass(frozen=True, slots=True)
class Act:
    """Who does it and the reason given; both are written down with what was done."""

    actor: str
    reason: str = ""


def needs_reason(act: Act, what: str) -> None:
    """Hold that a reason was given.

    Raises:
        Refused: none was.
    """
    if not act.reason.strip():
        raise Refused(
            f"{what} needs a reason, for whoever reads the record. Nothing was changed.", hint="Add --reason 'why'"
        )
