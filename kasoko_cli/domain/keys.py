"""Ed25519: who has the private half of a key can sign, and everybody who has the public half can check it.

A private key is 32 bytes; what is public of it, and a signature, are hex.
"""

from __future__ import annotations


def public_key_of(seed: bytes) -> str:
    """The public half of a key, as hex."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()


def sign(seed: bytes, text: bytes) -> str:
    """The signature of a text, as hex."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).sign(text).hex()


def is_signed(public_key: str, signature: str, text: bytes) -> bool:
    """Whether this is the signature of the text by the private half of this key, in plain hex.

    Raises:
        ValueError: the key or the signature is no hex of its length.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), text)
    except InvalidSignature:
        return False
    return (public_key, signature) == (bytes.fromhex(public_key).hex(), bytes.fromhex(signature).hex())
