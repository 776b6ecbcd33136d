"""The security credential and the one token."""

from __future__ import annotations

import base64
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from kasoko_cli.daraja.credentials import (
    FINGERPRINTS,
    Token,
    bundled_certificate,
    encrypt_security_credential,
    fingerprint,
    new_token,
)
from kasoko_cli.errors import ConfigurationError
from tests.daraja.memory_shelf import MemoryShelf

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - timedelta(days=900)).not_valid_after(NOW - timedelta(1))
    return builder.sign(key, hashes.SHA256())


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    ("environment", "sha256"),
    [
        (
            "sandbox",
            "A5:42:C3:C6:7B:59:8A:33:7A:1C:C7:41:E5:43:4C:70:DE:56:50:81:E5:C8:53:E0:5A:51:C8:43:76:47:66:F0",
        ),
        (
            "production",
            "94:17:91:52:12:AC:70:8D:3A:C8:2B:71:0E:71:D9:76:FA:0E:B7:83:F4:67:B1:59:C1:5A:D7:21:6E:F2:C1:6B",
        ),
    ],
)
def test_the_bundled_certificates_are_safaricoms(environment: str, sha256: str) -> None:
    assert fingerprint(bundled_certificate(environment)) == sha256.replace(":", "").lower()
    assert FINGERPRINTS[environment] == sha256.replace(":", "").lower()


@pytest.mark.parametrize("environment", ["sandbox", "production"])
def test_a_credential_for_either_environment_has_344_characters_and_differs_each_time(environment: str) -> None:
    pem = bundled_certificate(environment)
    first, second = (encrypt_security_credential("Safaricom999!*!", pem) for _ in range(2))
    assert len(first) == 344
    assert len(base64.b64decode(first, validate=True)) == 256
    assert first != second


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_whoever_has_the_private_key_reads_the_password_back(
    key: rsa.RSAPrivateKey, encoding: serialization.Encoding
) -> None:
    """The certificate is out of date, as Safaricom's are: only its key counts."""
    made = encrypt_security_credential("Pass#123%é", certificate(key).public_bytes(encoding))
    assert key.decrypt(base64.b64decode(made), padding.PKCS1v15()).decode() == "Pass#123%é"


@pytest.mark.parametrize("password", ["", "x" * 246])
def test_a_password_that_cannot_be_encrypted_is_refused(key: rsa.RSAPrivateKey, password: str) -> None:
    pem = certificate(key).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(ConfigurationError) as refused:
        encrypt_security_credential(password, pem)
    assert str(refused.value) == "The initiator password is empty or too long to encrypt."
    assert refused.value.hint == "Nothing was encrypted. Enter the password that was set for the API operator."


def test_a_file_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        encrypt_security_credential("secret", b"-----BEGIN CERTIFICATE-----\nnonsense")
    assert str(refused.value) == "The certificate file is neither PEM nor DER."


def test_a_certificate_without_an_rsa_key_is_refused() -> None:
    pem = certificate(ec.generate_private_key(ec.SECP256R1())).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(ConfigurationError) as refused:
        encrypt_security_credential("secret", pem)
    assert str(refused.value) == "The certificate has no RSA key, so it is not Safaricom's."


# --- The token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        ("3599", 3599),
        (3599, 3599),
        (" 60 ", 60),
        (None, 60),
        ("", 60),
        ("soon", 60),
        (True, 60),
        ("-5", 60),
        (0, 0),
        (10**9, 3600),
        ("9" * 5000, 60),
        ([], 60),
    ],
)
def test_a_token_lives_as_long_as_it_says_within_reason(expires_in: object, seconds: int) -> None:
    assert new_token("value", expires_in, NOW).expires_at == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("life", "age", "fresh"),
    [
        (3599, 0, True),
        (3599, 3298, True),
        (3599, 3299, False),
        (3599, 4000, False),
        (60, 47, True),
        (60, 48, False),
        (0, 0, False),
        (3599, -1, False),
    ],
)
def test_a_token_is_replaced_five_minutes_before_its_end_or_after_most_of_a_short_life(
    life: int, age: int, fresh: bool
) -> None:
    token = new_token("value", life, NOW)
    assert token.is_fresh(NOW + timedelta(seconds=age)) is fresh


def test_a_token_is_not_in_its_repr() -> None:
    assert "Ab3dE6gH9" not in repr(new_token("Ab3dE6gH9", 3599, NOW))


def test_one_claim_at_a_time() -> None:
    shelf = MemoryShelf()
    assert shelf.current() is None
    assert shelf.claim_refresh(None)
    assert not shelf.claim_refresh(None)
    shelf.give_up()
    assert shelf.claim_refresh(None)
    token = new_token("value", 3599, NOW)
    shelf.keep(token)
    assert shelf.current() == token


def test_a_token_that_was_replaced_meanwhile_is_not_refreshed_again() -> None:
    shelf = MemoryShelf()
    old, new = new_token("old", 3599, NOW), new_token("new", 3599, NOW)
    shelf.keep(new)
    assert not shelf.claim_refresh(old)
    assert not shelf.claim_refresh(None)
    assert shelf.claim_refresh(new)


def test_of_many_threads_one_gets_the_claim() -> None:
    shelf = MemoryShelf()
    start, won = threading.Barrier(16), []

    def claim() -> None:
        start.wait()
        if shelf.claim_refresh(None):
            won.append(threading.get_ident())

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert isinstance(won[0], int)


def test_two_tokens_of_one_moment_differ_by_value() -> None:
    assert Token("a", NOW, NOW) != Token("b", NOW, NOW)
