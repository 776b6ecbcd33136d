"""Kenyan mobile numbers: one spelling inside, masked wherever people look.

Inside the program a phone is twelve digits without a plus, `254712345678`, the form that M-Pesa
takes. No message, log line or table shows all of them: `mask`, `mask_in` and `quoted` see to that.
"""

from __future__ import annotations

import re

from kasoko_cli.domain.cells import trimmed, unseen_in
from kasoko_cli.errors import Refused

#: What may stand between the digits of a number that a person wrote: pasted hard spaces and dashes too.
_SEPARATORS = re.compile(r"[ .()\-\u00a0\u202f\u2010-\u2013]")

#: A number that a spreadsheet kept as one, with the decimal that it never had.
_KEPT_AS_NUMBER = re.compile(r"([1-9][0-9]{8,11})\.0")

#: What a spreadsheet makes of a long number: at most seven of its digits are left.
_CUT_SHORT = re.compile(r"[0-9](?:[.,][0-9]{1,6})?[eE]\+?[0-9]{1,3}")

#: Why a text is no phone, by how it is written.
_REASONS = (
    (r"", "It is empty."),
    (
        r"[0-9]+(?:[.,][0-9]+)?e\+?[0-9]+",
        "A spreadsheet cut it short: format the column as text and enter the whole number.",
    ),
    (r"[0-9]+\.[0-9]", "A spreadsheet took it for a number, and digits are missing: format the column as text."),
    (r"(?=.*o)[+(]?[0-9o][0-9o ().\-]*", "The letter O stands for a zero."),
)

#: Every way to lead into the nine national digits. Source: Daraja portal, B2C page, `PartyB`: 254 and nine digits.
_SPELLING = re.compile(r"(?:\+254|00254|254|0)?([17][0-9]{8})")

#: What may stand between two digits of a number in free text, pasted hard spaces and dashes too.
_GAP = r"[ \t.()\-\u00a0\u2010-\u2013]{0,2}"

#: A run that may be a phone in free text. Our own attempt ids are matched first and left alone:
#: their hex may hold ten digits in a row. A statement's time, `01-12-2026 10:05`, is no phone either.
_PHONE_IN_TEXT = re.compile(
    r"(?=[k+02])"  # what either begins with: four times as fast
    r"(?:(?P<ours>ks-[0-9a-f]{32})"
    r"|(?<![0-9])(?![0-9]{2}-[0-9]{2}-[0-9]{4} [0-9]{2}:[0-9]{2})"
    rf"(?:\+?(?:00)?2{_GAP}5{_GAP}4{_GAP}(?:0{_GAP})?|0{_GAP})[17](?:{_GAP}[0-9]){{8}}(?![0-9]))"
)

#: How much of a foreign text an error message repeats.
_MOST_QUOTED = 60


def normalize(text: str, *, any_block: bool = False) -> str:
    """The one spelling of a Kenyan mobile number: `0712 345 678` becomes `254712345678`.

    Only the plan of numbers decides, never the operator's prefix: people keep their number when
    they change operator. The plan grows, so with `any_block` every number that begins as mobile ones do counts.

    Raises:
        Refused: it is not a Kenyan mobile number. The message shows it masked, with the reason where it is known.

    Source: Daraja portal, B2C page (`PartyB`); Communications Authority's numbering plan, as kept by libphonenumber.
    """
    bare = trimmed(text).removeprefix("'")
    number = _KEPT_AS_NUMBER.fullmatch(bare)
    if number is None and re.fullmatch(r"[0-9]+\.[0-9]", bare):
        digits = None  # without its point it would be another number
    else:
        digits = _SPELLING.fullmatch(number[1] if number else _SEPARATORS.sub("", bare))
    if digits is not None and (any_block or _is_kenyan_mobile(digits[1])):
        return "254" + digits[1]
    if digits is not None:
        raise Refused(
            f"The phone {_hint_of(text)} is in no block of Kenyan mobile numbers that is known here.",
            hint="Nothing was changed. Check its digits; if it is right, take it all the same: --any-block",
        )
    raise Refused(
        " ".join(filter(None, [f"The phone {_hint_of(text)} is not a Kenyan mobile number.", _reason(bare)])),
        hint="Nothing was changed. Write it as 0712 345 678 or +254 712 345 678.",
    )


#: What stands in place of the number of somebody who was erased: it is nobody's, and no mobile number.
ERASED = "254000000000"


def mask(phone: str) -> str:
    """A number as people may see it: `254712345678` becomes `2547****5678`; what is shorter, or erased, is hidden."""
    if phone == ERASED:
        return "****"
    return f"{phone[:4]}****{phone[-4:]}" if phone.isdigit() and len(phone) >= len("254712345678") else "****"


def shown(phone: str, *, whole: bool) -> str:
    """A number as it is where somebody asked for whole ones, and else masked; one that was erased is none."""
    return phone if whole and phone != ERASED else mask(phone)


def mask_in(text: str) -> str:
    """The text with every run that looks like a Kenyan phone masked, however it is spelt."""
    return _PHONE_IN_TEXT.sub(_masked, text)


def quoted(text: str) -> str:
    """A text from outside as an error message may repeat it: in quotes, short, masked, without control characters."""
    shown = mask_in(text[: 4 * _MOST_QUOTED])
    return repr(shown if len(shown) <= _MOST_QUOTED else shown[:_MOST_QUOTED] + "…")


def _is_kenyan_mobile(national: str) -> bool:
    import phonenumbers  # only where a number is judged: loading its tables is slow

    number = phonenumbers.PhoneNumber(country_code=254, national_number=int(national))
    return phonenumbers.is_valid_number_for_region(number, "KE") and phonenumbers.number_type(number) in {
        phonenumbers.PhoneNumberType.MOBILE,
        phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE,
    }


def _masked(match: re.Match[str]) -> str:
    if match["ours"]:
        return match["ours"]
    national = re.sub(r"[^0-9]", "", match[0])[-9:]
    return mask("254" + national)


def _reason(bare: str) -> str:
    """Why a text is no phone, where that can be said."""
    parts = re.split(r"[/,;&|]| or ", bare[:_MOST_QUOTED])
    if sum(len(re.findall(r"[0-9]", part)) >= len("2345678") for part in parts) > 1:
        return "There are two numbers in it, and only one can be paid."
    found = (why for pattern, why in _REASONS if re.fullmatch(pattern, bare[:_MOST_QUOTED], re.IGNORECASE))
    return next(found, unseen_in(bare[:_MOST_QUOTED]))


def _hint_of(text: str) -> str:
    """Enough of a refused number to find it in a list, never all of it: its ends, and how many digits it has.

    One that a spreadsheet cut short is none any more, and is shown as it is.
    """
    if _CUT_SHORT.fullmatch(text):
        return repr(text)
    digits = sum(character.isdigit() for character in text)
    ends = text if len(text) < 6 else f"{text[:4]}****{text[-2:]}"
    return f"{ends!r} ({digits} {'digit' if digits == 1 else 'digits'})"
