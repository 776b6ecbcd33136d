"""Addresses of databases and brokers as people may see them: no part of a password, however it is spelt.

A password may stand between user and host with characters that belong in percent (`p@ss/w`), where no two readers
agree where it ends; in a parameter (`?password=`, `sslpassword`, `options`); or in a text that is no address at all.
What is not known to be harmless is hidden, and what cannot be told apart is hidden whole.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

#: What stands in place of a password.
HIDDEN = "***"

#: The parameters whose values say where and how, and nothing secret. Source: libpq, "Parameter Key Words".
_OPEN = frozenset(
    """
    application_name channel_binding client_encoding connect_timeout dbname gssencmode host hostaddr keepalives
    keepalives_count keepalives_idle keepalives_interval load_balance_hosts mode passfile port require_auth service
    ssl_cert_reqs sslcert sslcrl sslkey sslmode sslnegotiation sslrootcert target_session_attrs tcp_user_timeout
    timeout uri user virtual_host
    """.split()  # noqa: SIM905 - a list of forty lines says no more
)
_PARAMETER = re.compile(r"([?&])([^=&?]*)=([^&]*)")
_SECRET = re.compile(r"pass|pwd|secret|token|credential", re.IGNORECASE)
#: A value that is shorter is no secret by its parameter's name, and stands in every other word of an error.
_LEAST = 4


def shown_address(address: str) -> str:
    """The address without its password: `postgresql://kasoko:***@db/kasoko`."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return HIDDEN if "@" in address or _SECRET.search(address) else address
    if not scheme.startswith("sqlite"):
        user, colon, password = rest.rpartition("@")[0].partition(":")
        if colon:  # one that is empty too: nothing is told of it
            # Where the password ends is sure where one @ is there, and no parameter before it.
            is_sure = rest.count("@") == 1 and "?" not in password
            rest = f"{user}:{HIDDEN}@{rest.rpartition('@')[2]}" if is_sure else f"{user}:{HIDDEN}"
        elif _is_cut_off(rest):
            rest = f"{rest.partition(':')[0]}:{HIDDEN}"
    return f"{scheme}{mark}" + _PARAMETER.sub(_shown_parameter, rest)


def passwords_in(address: str) -> list[str]:
    """Each password in an address, and each text that may be one; none where there is no password."""
    scheme, mark, rest = address.partition("://")
    if not mark or scheme.startswith("sqlite"):
        return []
    found = [value for _, name, value in _PARAMETER.findall(rest) if value and _is_secret(name)]
    after = rest.partition(":")[2]
    if ":" in rest.rpartition("@")[0]:
        found += [after[: place.start()] for place in re.finditer("@", after)]
    elif _is_cut_off(rest):
        found.append(after)
    return [one for one in found if one]


def without_passwords(text: str, *addresses: str) -> str:
    """A text, such as a driver's words, without any password of these addresses, in whatever spelling."""
    hidden: set[str] = set()
    for address in addresses:
        hidden.update(passwords_in(address))
        hidden.update(value for _, name, value in _PARAMETER.findall(address) if not _is_open(name, value))
    hidden |= {unquote_plus(one) for one in hidden}
    for one in sorted(hidden, key=len, reverse=True):
        text = text.replace(one, "(hidden)")
    return text


def _shown_parameter(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={found[3] if found[2] in _OPEN else HIDDEN}"


def _is_open(name: str, value: str) -> bool:
    return name in _OPEN or (len(value) < _LEAST and not _is_secret(name))


def _is_secret(name: str) -> bool:
    return name not in _OPEN and _SECRET.search(unquote_plus(name)) is not None


def _is_cut_off(rest: str) -> bool:
    """Whether what follows the colon of an address without an @ is no port: a password whose host is missing."""
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    return "@" not in rest and ":" in place and not place.startswith("[") and not place.rpartition(":")[2].isdigit()
