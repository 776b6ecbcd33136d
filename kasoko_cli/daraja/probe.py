"""A look at an address from outside: does it answer, what time is it there, how long does its certificate last?

For checks only: nothing here carries a token, a credential or a payment.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from kasoko_cli import __version__

#: How long a look may take at each step.
SECONDS: Final = 8.0
#: How much of an answer is read.
MOST_BYTES: Final = 4_096


@dataclass(frozen=True)
class Seen:
    """An address that answered."""

    http_status: int
    body: bytes
    #: What time it is there, in UTC; None where it does not say.
    date: datetime | None
    #: When its certificate ends, in UTC; None without TLS.
    certificate_ends: datetime | None


@dataclass(frozen=True)
class Unseen:
    """An address that did not answer, and why in words."""

    why: str
    #: Whether it is the certificate that was refused.
    certificate: bool = False


def look(
    url: str, *, context: ssl.SSLContext | None = None, proxy: str | None = None, seconds: float = SECONDS
) -> Seen | Unseen:
    """GET an address once, without redirects or proxies but this; never raises for what the network does."""
    try:
        verify = context or ssl.create_default_context()
        with (
            httpx.Client(
                verify=verify, trust_env=False, proxy=proxy, follow_redirects=False, timeout=seconds
            ) as client,
            client.stream("GET", url, headers={"user-agent": f"kasoko/{__version__}"}) as response,
        ):
            ends = _certificate_ends(response)
            body = b""
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    break
            return Seen(response.status_code, body[:MOST_BYTES], _date(response.headers.get("date")), ends)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return _unseen(error)


def _certificate_ends(response: httpx.Response) -> datetime | None:
    stream = response.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream is not None else None
    found = tls.getpeercert() if tls is not None else None
    if not found or "notAfter" not in found:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)


def _date(text: str | None) -> datetime | None:
    with contextlib.suppress(ValueError, TypeError):
        found = parsedate_to_datetime(text or "")
        return found.astimezone(UTC) if found.tzinfo is not None else None
    return None


def _unseen(error: Exception) -> Unseen:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unseen(f"its certificate is refused: {cause.verify_message}", certificate=True)
        cause = cause.__cause__ or cause.__context__
    kinds: dict[type[Exception], str] = {
        httpx.ConnectTimeout: "it does not answer in time",
        httpx.ReadTimeout: "it takes the connection and says nothing",
        httpx.ConnectError: "it cannot be connected to",
        httpx.ProxyError: "the proxy gives no connection to it",
    }
    text = " ".join(str(error).split())[:120]
    return Unseen(kinds.get(type(error), type(error).__name__) + (f" ({text})" if text else ""))
