"""The organisation's password: encrypted by the caller with our certificate, decrypted and compared here.

Source: Daraja portal, on the security credential: the plain password, RSA with PKCS#1 v1.5 padding,
base64. A sandbox capture of 2026: code 2001 five times in a row, then 8006.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import UTC, datetime
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

#: After so many wrong passwords in a row the operator is locked.
WRONG_BEFORE_LOCK: Final = 5
#: How many different cryptograms are remembered: decrypting one costs as much as three requests.
_REMEMBERED: Final = 1024


@cache
def _key() -> rsa.RSAPrivateKey:
    """One key a process: it takes a tenth of a second to make."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate_pem() -> str:
    """The certificate whose key a caller encrypts the password with."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulator.invalid")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .sign(_key(), hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def encrypt(password: str) -> str:
    """A SecurityCredential for this password: 344 base64 characters, different each time."""
    return base64.b64encode(_key().public_key().encrypt(password.encode(), padding.PKCS1v15())).decode("ascii")


class Operator:
    """The API operator: its name, its password, and whether it is locked. Not thread-safe by itself."""

    def __init__(self, name: str, password: str) -> None:
        self._name = name
        self._password = password.encode()
        self._known: dict[str, bool] = {}
        self._wrong_in_a_row = 0

    @property
    def is_locked(self) -> bool:
        """Whether only an unlock helps."""
        return self._wrong_in_a_row >= WRONG_BEFORE_LOCK

    def unlock(self) -> None:
        """What the Business Administrator does on the portal."""
        self._wrong_in_a_row = 0

    def refusal(self, name: object, credential: object) -> str | None:
        """The result code that this request's operator ends in: 2001, 8006, or None if all is well."""
        if self.is_locked:
            return "8006"
        if name == self._name and isinstance(credential, str) and self._is_right(credential):
            self._wrong_in_a_row = 0
            return None
        self._wrong_in_a_row += 1
        return "2001"

    def _is_right(self, credential: str) -> bool:
        if credential not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[credential] = self._decrypts(credential)
        return self._known[credential]

    def _decrypts(self, credential: str) -> bool:
        try:
            plain = _key().decrypt(base64.b64decode(credential, validate=True), padding.PKCS1v15())
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(plain, self._password)
