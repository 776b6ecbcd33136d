"""Who may post to the listener, and how often somebody may be wrong. Bounded memory, no clock of its own."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from kasoko_cli.errors import ConfigurationError

#: The addresses that M-Pesa posts results from, and two that only some lists have. Sandbox addresses may differ.
#: Source: Daraja portal, "Getting Started"; ten public deployments.
SAFARICOM: Final = (
    "196.201.212.69",
    "196.201.212.74",
    "196.201.212.127",
    "196.201.212.128",
    "196.201.212.129",
    "196.201.212.132",
    "196.201.212.136",
    "196.201.212.138",
    "196.201.213.44",
    "196.201.213.114",
    "196.201.214.200",
    "196.201.214.206",
    "196.201.214.207",
    "196.201.214.208",
)
#: Lists of addresses that go by a name.
PRESETS: Final = {"safaricom": SAFARICOM}
#: How many sources the counting of misses remembers; the one that was wrong longest ago is forgotten first.
MOST_SOURCES: Final = 4096

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AllowList:
    """Addresses that may post: single ones, networks, presets by name. An empty list allows everybody.

    Raises:
        ConfigurationError: a word is no address, no network and no preset.
    """

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._networks: list[_Network] = []
        for word in words:
            for text in PRESETS.get(word.lower(), (word,)):
                try:
                    self._networks.append(ipaddress.ip_network(text, strict=False))
                except ValueError:
                    raise ConfigurationError(
                        f"{word!r} is no address, no network like 10.0.0.0/8, and no list that goes by this name.",
                        hint=f"Names that are known: {', '.join(PRESETS)}.",
                    ) from None

    def __bool__(self) -> bool:
        return bool(self._networks)

    def allows(self, source: str) -> bool:
        """Whether this address may post; what is no address may not, where there is a list at all."""
        if not self._networks:
            return True
        address = _address(source)
        return address is not None and any(address in network for network in self._networks)


class MissLimiter:
    """Counts wrong addresses by who asked for them, so that nobody can guess for ever.

    Each source may be wrong `per_minute` times at once, and gets that many back in a minute. A genuine
    address is never counted, nor kept from anybody.
    """

    def __init__(self, per_minute: int, *, most_sources: int = MOST_SOURCES) -> None:
        self._most, self._per_minute = most_sources, per_minute
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._left)

    def may_miss(self, source: str, now: float) -> bool:
        """Count one more miss of this source at `now`, in seconds; False where it has had too many."""
        key = _neighbourhood(source)
        left, at = self._left.pop(key, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - at) * self._per_minute / 60)
        allowed = left >= 1
        self._left[key] = (left - 1 if allowed else left, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return allowed


def _address(source: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _neighbourhood(source: str) -> str:
    """Who is counted together: an IPv4 address, or the network of 64 bits that one customer has of IPv6."""
    address = _address(source)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address or source[:64])
