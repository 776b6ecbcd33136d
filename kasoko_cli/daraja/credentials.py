"""The access token, shared by all who send, and the SecurityCredential.

A new token may kill the old one, so there is one token for the whole account: whoever finds it
stale claims the refresh, and everybody else goes on with what there is or waits for the new one.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import resources
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kasoko_cli.errors import ConfigurationError

# --- The security credential -----------------------------------------------------------------------------------------

#: SHA-256 of the two certificates that Safaricom gave out.
#: Source: computed from the files in about ten public M-Pesa libraries, which all agree.
FINGERPRINTS: Final = {
    "sandbox": "a542c3c67b598a337a1cc741e5434c70de565081e5c853e05a51c843764766f0",
    "production": "9417915212ac708d3ac82b710e71d976fa0eb783f467b159c15ad7216ef2c16b",
}


def bundled_certificate(environment: str) -> bytes:
    """Safaricom's certificate for `sandbox` or `production`, in PEM form.

    The one of the wrong environment makes every payment fail with 2001.
    """
    assert environment in FINGERPRINTS, environment
    pem = resources.files("kasoko_cli.daraja.certificates").joinpath(f"{environment}.cer").read_bytes()
    found = fingerprint(pem)
    if found != FINGERPRINTS[environment]:
        raise ConfigurationError(
            f"The {environment} certificate in this installation is not Safaricom's: its SHA-256 is {found}.",
            hint="Nothing was encrypted. Install kasoko again.",
        )
    return pem


def fingerprint(certificate_pem: bytes) -> str:
    """The SHA-256 of a certificate, in lower-case hex.

    Raises:
        ConfigurationError: it is not a certificate.
    """
    return _certificate(certificate_pem).fingerprint(hashes.SHA256()).hex()


def encrypt_security_credential(password: str, certificate_pem: bytes) -> str:
    """The initiator's password as M-Pesa takes it: RSA with PKCS#1 v1.5 padding, then base64.

    It differs every time, since the padding is random, and may be used again and again.

    Raises:
        ConfigurationError: the password is empty or too long, or the certificate has no RSA key.

    Source: Daraja portal, page on security credentials, the numbered steps.
    """
    key = _certificate(certificate_pem).public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise ConfigurationError(
            "The certificate has no RSA key, so it is not Safaricom's.",
            hint="Nothing was encrypted. Take the certificate of your environment from the Daraja portal.",
        )
    secret = password.encode()
    if not secret or len(secret) > key.key_size // 8 - 11:
        raise ConfigurationError(
            "The initiator password is empty or too long to encrypt.",
            hint="Nothing was encrypted. Enter the password that was set for the API operator.",
        )
    return base64.b64encode(key.encrypt(secret, padding.PKCS1v15())).decode("ascii")


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        pass
    try:
        return x509.load_der_x509_certificate(pem)
    except ValueError:
        raise ConfigurationError(
            "The certificate file is neither PEM nor DER.",
            hint="Take the certificate of your environment from the Daraja portal.",
        ) from None


# --- The access token ------------------------------------------------------------------------------------------------

#: How long before its end a token is replaced.
REFRESH_BEFORE: Final = timedelta(minutes=5)
#: A token with a short life is replaced after this part of it.
REFRESH_PART: Final = 0.8
#: The life of a token whose `expires_in` is missing or cannot be read.
ASSUMED_LIFE: Final = timedelta(seconds=60)
#: No token is believed to live longer than this.
LONGEST_LIFE: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Token:
    """An access token. Its value never stands in `repr`."""

    value: str = field(repr=False)
    fetched_at: datetime
    expires_at: datetime

    def is_fresh(self, now: datetime) -> bool:
        """Whether it need not be replaced yet: five minutes before its end, or after 80 % of a short life.

        A clock that was set back makes a token look as if it came from the future; it is not fresh.
        """
        life = self.expires_at - self.fetched_at
        return self.fetched_at <= now < max(self.expires_at - REFRESH_BEFORE, self.fetched_at + life * REFRESH_PART)


def new_token(value: str, expires_in: object, now: datetime) -> Token:
    """A token just fetched. `expires_in` is seconds as a number or as text; if neither, a short life is assumed.

    Source: Daraja portal, authorisation page (a number); live sandbox answers (text).
    """
    life = ASSUMED_LIFE
    if isinstance(expires_in, int | str) and not isinstance(expires_in, bool):
        digits = str(expires_in).strip()
        if digits.isascii() and digits.isdigit() and len(digits) <= 12:
            life = min(timedelta(seconds=int(digits)), LONGEST_LIFE)
    return Token(value, fetched_at=now, expires_at=now + life)


class TokenShelf(Protocol):
    """Where the one token lies: in this process, or in a database row for many hosts."""

    def current(self) -> Token | None:
        """The token that everybody uses now, fresh or not."""

    def claim_refresh(self, stale: Token | None) -> bool:
        """Whether the caller shall fetch a new one, because `stale` still lies there and nobody else fetches.

        A claim ends with `keep` or `give_up`; one in a database also ends by itself after a while.
        """

    def keep(self, token: Token) -> None:
        """Put a new token there and end the claim."""

    def give_up(self) -> None:
        """End the claim without a new token."""
