"""The text of a cell as people and spreadsheets leave it: blanks at its ends, and characters that nobody sees."""

from __future__ import annotations

import unicodedata

#: What nobody sees and a copied text brings along: byte order marks, zero-width characters, directions, soft hyphens.
_UNSEEN = "\ufeff\u00ad\u061c\u180e" + "".join(map(chr, [*range(0x200B, 0x2010), *range(0x2028, 0x202F)]))
_UNSEEN += "".join(map(chr, range(0x2060, 0x2070)))

_BLANK = _UNSEEN + " \t\n\r\x0b\x0c\x85\u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def trimmed(text: str) -> str:
    """The text without blanks and unseen characters at its ends, where they can mean nothing."""
    return text.strip(_BLANK)


def unseen_in(text: str) -> str:
    """A sentence that names the first character that nobody can see or tell from another; empty if there is none."""
    for place, character in enumerate(text, start=1):
        if character in _UNSEEN or not (character.isprintable() or character == " "):
            what = "a hidden character"
        elif unicodedata.category(character) == "Zs" and character != " ":
            what = "a special space"
        elif character.isdecimal() and not character.isascii():
            what = "a digit of another script"
        else:
            continue
        name = unicodedata.name(character, "control character").capitalize()
        return f"Its character {place} is {what}: {name}, U+{ord(character):04X}."
    return ""
