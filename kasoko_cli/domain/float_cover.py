"""Whether the float covers a run. Pure: the figures are handed in, and what is not known stays not known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FloatCheck(StrEnum):
    """How strictly the float is looked at before a run."""

    #: Not at all.
    OFF = "off"
    #: A shortfall, and a float that is not known, are told; the run goes on.
    WARN = "warn"
    #: A shortfall is refused; a float that is not known is told.
    REFUSE = "refuse"
    #: A shortfall is refused, and so is a float that is not known.
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class Cover:
    """What a run needs, and what there is for it, all in cents.

    `available_cents` is what M-Pesa said last less all that it may not have counted yet; None where it is
    not known. It is never taken as zero.
    """

    payments: int
    wire_cents: int
    charges_cents: int
    in_flight_cents: int
    available_cents: int | None

    @property
    def needed_cents(self) -> int:
        """What the run takes out of the utility account, charges included."""
        return self.wire_cents + self.charges_cents

    @property
    def shortfall_cents(self) -> int | None:
        """What is missing; 0 where it is enough, None where the float is not known."""
        return None if self.available_cents is None else max(0, self.needed_cents - self.available_cents)


def stops(check: FloatCheck, cover: Cover) -> bool:
    """Whether a run must not begin."""
    if check in (FloatCheck.OFF, FloatCheck.WARN) or not cover.payments:
        return False
    if cover.shortfall_cents is None:
        return check is FloatCheck.REQUIRE
    return cover.shortfall_cents > 0
