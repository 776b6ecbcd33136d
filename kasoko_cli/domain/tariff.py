"""What M-Pesa charges the business for a payment: bands of amounts, with the date and the source they have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from kasoko_cli.errors import ConfigurationError


@dataclass(frozen=True)
class Tariff:
    """Bands of amounts, each with the business's charge; both in whole shillings.

    The customer pays nothing, and the business does not pay for a later withdrawal.

    Raises:
        ConfigurationError: there is no band, the bands do not rise, or a charge is below zero.
    """

    valid_from: date
    #: (up to and including this amount, charge), in rising order.
    bands: tuple[tuple[int, int], ...]
    source: str = ""

    def __post_init__(self) -> None:
        amounts = [0, *(up_to for up_to, _ in self.bands)]
        rises = all(lower < upper for lower, upper in pairwise(amounts))
        if not self.bands or not rises or any(charge < 0 for _, charge in self.bands):
            raise ConfigurationError(
                f"The tariff of {self.valid_from} has no bands, or they do not rise, or a charge is below zero.",
                hint="Write one [[band]] after the other, each with a larger up_to_kes than the one before it.",
            )

    def charge_cents(self, amount_cents: int) -> int:
        """The charge for one payment; amounts above the last band cost what the last band costs."""
        for up_to_kes, charge_kes in self.bands:
            if amount_cents <= up_to_kes * 100:
                return charge_kes * 100
        return self.bands[-1][1] * 100
