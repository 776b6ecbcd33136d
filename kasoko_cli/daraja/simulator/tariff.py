"""What M-Pesa charges a business for a payment, as data with its date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Tariff:
    """Bands of amounts, each with the business's charge; both in whole shillings.

    The customer pays nothing, and the business does not pay for a later withdrawal.
    """

    valid_from: date
    #: (up to and including this amount, charge), in rising order.
    bands: tuple[tuple[int, int], ...]

    def charge_cents(self, amount_cents: int) -> int:
        """The charge for one payment; amounts above the last band cost what the last band costs."""
        for up_to_kes, charge_kes in self.bands:
            if amount_cents <= up_to_kes * 100:
                return charge_kes * 100
        return self.bands[-1][1] * 100


#: Registered customers, "business pays the payout charge".
#: Source: Safaricom bulk-payment tariff form, August 2023. It ends at 150,000; that the last band
#: reaches to 250,000 is what one production package uses.
AUGUST_2023 = Tariff(
    valid_from=date(2023, 8, 1),
    bands=((100, 0), (1_500, 5), (5_000, 9), (20_000, 11), (250_000, 13)),
)
