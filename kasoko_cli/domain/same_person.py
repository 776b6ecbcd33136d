"""Which names mean one person: wherever two people are asked for, they are told apart by this and nothing else."""

from __future__ import annotations

import unicodedata

#: Characters that nobody sees: controls, and marks of format like a zero-width space or a soft hyphen.
_UNSEEN = ("Cc", "Cf")


def person_of(name: str) -> str:
    """Who is meant by a name, as it is compared: `bob`, `Bob ` and `ＢＯＢ` are one person.

    Compatible spellings are one (NFKC), large and small letters too (case folding), what cannot be seen is left
    out, and spaces at the ends or in a row do not count. Empty where the name names nobody.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    seen = (char for char in folded if char.isspace() or unicodedata.category(char) not in _UNSEEN)
    return " ".join("".join(seen).split())


def are_one(name: str, other: str) -> bool:
    """Whether two names mean one person."""
    return person_of(name) == person_of(other)
