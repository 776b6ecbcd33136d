"""Callback URLs that only we can make: each carries an id and a mark made from it with a key of ours.

M-Pesa signs nothing. Whoever posts to a URL with the right mark has seen that URL, which only TLS
ever carried to M-Pesa. Ids and marks are hex, so that no word that M-Pesa forbids can occur in them.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from kasoko_cli.daraja.messages import SUSPECT_URL_WORDS, ReplyUrls
from kasoko_cli.errors import ConfigurationError

#: Under which path all callbacks arrive.
PREFIX: Final = "/api/payments/"
#: How many hex digits of the HMAC a URL carries: 128 bits.
MAC_LENGTH: Final = 32
#: The shortest key that is taken, in bytes.
SHORTEST_KEY: Final = 16
#: What an id may look like: ours are `ks-` and hex, queries `q-` and hex.
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_PATH = re.compile(rf"{PREFIX}([a-z0-9-]+)(?:/([^/]*)/([^/]*))?/?")


class CallbackKind(StrEnum):
    """What a callback is about; the value is its part of the path."""

    #: The result of a payment.
    RESULT = "b2c-callback"
    #: A payment waited too long in M-Pesa's queue.
    TIMEOUT = "b2c-timeout"
    #: The answer to a status query.
    STATUS = "status-callback"
    #: A status query waited too long.
    STATUS_TIMEOUT = "status-timeout"
    #: The answer to a balance query.
    BALANCE = "balance-callback"
    #: A balance query waited too long.
    BALANCE_TIMEOUT = "balance-timeout"


#: The id whose mark is computed when a path names none, so that every answer takes equally long.
_NOBODY: Final = "ks-" + "0" * 32
_KINDS: Final = {str(kind): kind for kind in CallbackKind}


class Route(NamedTuple):
    """What a path says. Without an id it is the plain path, whose posts are hints and never believed."""

    kind: CallbackKind
    #: The attempt's or the query's id; empty on the plain path.
    id: str
    #: Whether the mark is ours.
    mac_ok: bool


class Links:
    """Makes callback URLs and reads their paths.

    `old_keys` are keys that were in use before: their marks are still taken, since results of
    payments sent yesterday are still to come. Keys never stand in `repr`.

    Raises:
        ConfigurationError: the URL is not a plain address, or a key is too short.
    """

    def __init__(self, callback_url: str, key: bytes, old_keys: Sequence[bytes] = ()) -> None:
        self.base = base_of(callback_url)
        for each in (key, *old_keys):
            if len(each) < SHORTEST_KEY:
                raise ConfigurationError(
                    f"The callback key is shorter than {SHORTEST_KEY} bytes, so that its marks could be guessed.",
                    hint="Set KASOKO_CALLBACK_KEY to a long random text: openssl rand -hex 32",
                )
        self._marks = tuple(_Marks(each) for each in (key, *old_keys))
        #: The path that a proxy left in front of ours, such as `/pay` in `https://example.org/pay`.
        self._front = urlsplit(self.base).path

    def __repr__(self) -> str:
        return f"Links({self.base!r})"

    def of_payment(self, attempt_id: str) -> ReplyUrls:
        """Where the result of a payment is posted."""
        return ReplyUrls(self._url(CallbackKind.RESULT, attempt_id), self._url(CallbackKind.TIMEOUT, attempt_id))

    def of_status(self, query_id: str) -> ReplyUrls:
        """Where the answer to a status query is posted."""
        return ReplyUrls(self._url(CallbackKind.STATUS, query_id), self._url(CallbackKind.STATUS_TIMEOUT, query_id))

    def of_balance(self, query_id: str) -> ReplyUrls:
        """Where the answer to a balance query is posted."""
        return ReplyUrls(self._url(CallbackKind.BALANCE, query_id), self._url(CallbackKind.BALANCE_TIMEOUT, query_id))

    def seal(self, text: bytes) -> bytes:
        """A mark of any text that only who has our key can make: for what passes through other hands."""
        return self._marks[0].seal(text)

    def parse(self, path: str) -> Route | None:
        """What a request's path says; None for every path that is none of ours.

        A path with a wrong mark is a route too, with `mac_ok` False, and took as long to find out.
        """
        if self._front and path.startswith(self._front + "/"):
            path = path[len(self._front) :]
        found = _PATH.fullmatch(path)
        kind = None if found is None else _KINDS.get(found[1])
        subject_id, given = (None, None) if found is None else (found[2], found[3])
        is_id = subject_id is not None and _ID.fullmatch(subject_id) is not None
        # The same work whatever was asked for: how long a 404 took says nothing of how near it was.
        asked = subject_id if is_id and subject_id is not None else _NOBODY
        # Bytes, since a text that is not ASCII cannot be compared in constant time.
        mark = (given or "").encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(marks.of(kind or CallbackKind.RESULT, asked), mark) for marks in self._marks]
        if kind is None:
            return None
        if subject_id is None:
            return Route(kind, "", mac_ok=False) if kind is CallbackKind.RESULT else None
        return Route(kind, subject_id, mac_ok=any(matches)) if is_id else None

    def _url(self, kind: CallbackKind, subject_id: str) -> str:
        assert _ID.fullmatch(subject_id), subject_id
        return f"{self.base}{PREFIX}{kind}/{subject_id}/{self._marks[0].of(kind, subject_id).decode()}"


class _Marks:
    """The marks that one key makes."""

    def __init__(self, key: bytes) -> None:
        # What all marks of a kind have in common is digested once. `hmac.digest` takes longer, and lets other
        # threads have Python's lock, which they give back late.
        self._begun = {kind: hmac.new(key, f"kasoko callback 1\n{kind}\n".encode(), "sha256") for kind in CallbackKind}
        self._text = hmac.new(key, b"kasoko text 1\n", "sha256")

    def seal(self, text: bytes) -> bytes:
        """The mark of a text that is no path."""
        mac = self._text.copy()
        mac.update(text)
        return mac.digest()

    def of(self, kind: CallbackKind, subject_id: str) -> bytes:
        """The mark of an id on one kind of path: that of a timeout does not open the path of results."""
        mac = self._begun[kind].copy()
        mac.update(subject_id.encode())
        return mac.hexdigest()[:MAC_LENGTH].encode()


def base_of(callback_url: str) -> str:
    """The part before `/api/payments/`, whether the setting ends there, or as older ones do, in the whole path.

    Raises:
        ConfigurationError: it is not a plain address.
    """
    hint = "Set MPESA_CALLBACK_URL to your public address, such as https://pay.example.org"
    url = callback_url.strip()
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ConfigurationError("The callback URL is not an address.", hint=hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("The callback URL is not an http or https address.", hint=hint)
    if parts.username or parts.password or "?" in url or "#" in url:
        raise ConfigurationError("The callback URL has a user, a query or a fragment.", hint=hint)
    if not re.fullmatch(r"[!-~]+", url):
        raise ConfigurationError("The callback URL has characters that a URL may not have.", hint=hint)
    return re.sub(rf"{PREFIX}{CallbackKind.RESULT}/?$", "", url).rstrip("/")


def validate_callback_url(url: str, *, production: bool) -> None:
    """Refuse a callback URL that M-Pesa would refuse, or never reach, before anything is sent with it.

    In production it is HTTPS and public. Else plain HTTP is let through, since the simulator runs on
    this machine.

    Raises:
        ConfigurationError: it breaks one of M-Pesa's rules.

    Source: Daraja portal, B2C page; a Safaricom tutorial on localhost.
    """
    base = base_of(url)
    hint = "Set MPESA_CALLBACK_URL to a public https address."
    if not production:
        return
    parts = urlsplit(base)
    if parts.scheme != "https":
        raise ConfigurationError(f"In production M-Pesa posts results to https addresses only: {base}", hint=hint)
    if not _may_be_public(parts.hostname or ""):
        raise ConfigurationError(f"M-Pesa cannot reach this address from outside: {base}", hint=hint)


def suspect_words(url: str) -> list[str]:
    """The words in a callback URL for which M-Pesa may refuse a payment: it does for C2B, and did once for B2C."""
    return [word for word in SUSPECT_URL_WORDS if word in url.lower()]


def doubt_of(url: str) -> str:
    """A warning about a callback URL with such a word; empty where it has none."""
    words = " and ".join(f"'{word}'" for word in suspect_words(url))
    return words and (
        f"{url} has {words} in it. M-Pesa forbids that for C2B; payouts were seen to be paid with such an address, and"
        ' once to be refused ("Threat Detected").'
    )


def _may_be_public(host: str) -> bool:
    """Whether a host could be reached from outside; for a name only the resolver would know."""
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return True
