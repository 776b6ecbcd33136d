"""Chance that can be told again: every draw is a function of the seed and of what it is drawn for."""

from __future__ import annotations

import hashlib
from typing import Final, TypeVar

T = TypeVar("T")

#: Lower-case hex digits, as in conversation ids until September 2025.
HEX: Final = "0123456789abcdef"
#: Lower-case letters and digits, as in conversation ids since.
BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
#: What receipts are made of.
RECEIPT_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: What access tokens are made of.
ALPHANUMERIC: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def fraction(seed: int, *about: object) -> float:
    """A number from 0 up to 1, the same for the same seed and the same thing.

    Nothing is kept between draws, so the order in which requests arrive changes none of them.
    """
    return _number(seed, about, 7) / 2**56


def choice(options: tuple[T, ...], seed: int, *about: object) -> T:
    """One of the options, the same for the same seed and the same thing."""
    return options[_number(seed, about, 16) % len(options)]


def shuffled(items: list[T], seed: int, *about: object) -> list[T]:
    """The items in another order, the same for the same seed and the same thing."""
    order = sorted((fraction(seed, *about, index), index) for index in range(len(items)))
    return [items[index] for _, index in order]


def letters(count: int, alphabet: str, seed: int, *about: object) -> str:
    """A word of `count` letters, the same for the same seed and the same thing."""
    number = _number(seed, about, 32)
    word = []
    for _ in range(count):
        number, index = divmod(number, len(alphabet))
        word.append(alphabet[index])
    return "".join(word)


def _number(seed: int, about: tuple[object, ...], size: int) -> int:
    text = "\x1f".join(map(str, (seed, *about)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big")
