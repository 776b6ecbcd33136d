"""What the simulator's M-Pesa charges a business for a payment."""

from __future__ import annotations

from datetime import date

from kasoko_cli.domain.tariff import Tariff

__all__ = ["AUGUST_2023", "Tariff"]

#: Registered customers, "business pays the payout charge".
#: Source: Safaricom bulk-payment tariff form, August 2023. It ends at 150,000; that the last band
#: reaches to 250,000 is what one production package uses.
AUGUST_2023 = Tariff(valid_from=date(2023, 8, 1), bands=((100, 0), (1_500, 5), (5_000, 9), (20_000, 11), (250_000, 13)))
