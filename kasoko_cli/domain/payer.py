"""Which account with M-Pesa pays: evidence about a payment counts only where the same one gave it."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

#: Stands for every port of this machine: a simulator that was started again is no other account.
THIS_MACHINE = "this machine"
#: Safaricom's own hosts, by environment. Source: Daraja portal, "Going live".
SAFARICOM = {"sandbox": "sandbox.safaricom.co.ke", "production": "api.safaricom.co.ke"}
#: The setting behind each field, and its name in the environment.
SETTINGS = {
    "shortcode": "daraja.shortcode (MPESA_PAYBILL)",
    "environment": "daraja.production (MPESA_PRODUCTION)",
    "api_base": "daraja.base_url (MPESA_BASE_URL)",
}


class Payer(NamedTuple):
    """An organisation at one M-Pesa: its shortcode, sandbox or production, and where its Daraja is.

    Consumer key, initiator and credential are no part of it: they change, and the account is the same.
    """

    shortcode: str
    environment: str
    api_base: str

    @property
    def name(self) -> str:
        """For people: `600999 (sandbox)`, with the place where that is not Safaricom's own."""
        at = "" if self.api_base == f"https://{SAFARICOM[self.environment]}" else f" at {self.api_base}"
        return f"{self.shortcode} ({self.environment}{at})"

    def differs_from(self, other: Payer) -> list[str]:
        """The settings by which the two differ, each with the value that the other has."""
        values = {"environment": "true" if other.environment == "production" else "false"}
        return [
            f"{SETTINGS[field]} = {values.get(field, getattr(other, field))}"
            for field in self._fields
            if getattr(self, field) != getattr(other, field)
        ]


def api_base_of(url: str) -> str:
    """Where a Daraja is, to be compared: scheme, host, port and path; any loopback address is this machine."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if is_loopback(host):
        return THIS_MACHINE
    port = "" if parts.port in (None, {"https": 443, "http": 80}.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
