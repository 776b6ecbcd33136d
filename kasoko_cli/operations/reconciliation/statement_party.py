"""Whose number a statement's line shows, in whatever spelling: what it may be, and what it says for certain.

The two are not opposites. A number that is shown well enough *identifies* a receiver; one that is shown at all
*excludes* whoever it differs from; and what cannot be read as a number may be anybody's. A payout is never taken
for not paid while a line of its amount may be it, so whatever is doubtful here excludes nobody.

Source: exports of the M-Pesa organisation portal and what spreadsheets make of them: `2547 ***** 001 - NAME`,
`NAME - 07** *** 111`, `2********111`, hidden digits as stars, x, #, dots, dashes, blocks.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from kasoko_cli.domain.phone import mask
from kasoko_cli.store.engine.row_digests import ERASED

#: So many digits at the end of a number, at least, say whose it is.
DIGITS_THAT_SAY = 3
#: The most characters that a number and a name have; what is longer takes long to read, and says nothing.
MOST_CHARACTERS = 512
#: A run of signs without a digit hides a number from this length on; `&` between two names hides none.
_HIDES = 3

_APOSTROPHES = "'’‘`´ʼ\""
#: What ends one number, or one name, and begins the next.
_PARTS = re.compile(r"[,;:|/\\]|(?<=\s)-(?=\s)|^-|-$")
#: What may stand within one number. A dash alone does; several in a row hide digits, as dots do.
_WITHIN = re.compile(r"[\s()\[\]]+|(?<![-.])[-.](?![-.])")
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣－"), "-")
_WHOLE = re.compile(r"(?:00?)?(?:254)?0?([17][0-9]{8})")


@dataclass(frozen=True, slots=True)
class Shown:
    """One number as it is shown: every way in which its beginning, and its end, may be read.

    `whole` is the number where nothing of it is hidden. `is_phone` is False where it can be no phone's: then it
    says nothing, and excludes nobody.
    """

    starts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    whole: str = ""
    is_phone: bool = True

    def fits(self, phone: str) -> bool:
        """Whether it may be this number."""
        if self.whole:
            return phone == self.whole
        return any(map(phone.startswith, self.starts)) and any(map(phone.endswith, self.ends))

    @property
    def telling(self) -> tuple[str, ...]:
        """Its ends that are long enough to tell one receiver from another."""
        return (self.whole,) if self.whole else tuple(end for end in self.ends if len(end) >= DIGITS_THAT_SAY)

    def identifies(self, phone: str) -> bool:
        """Whether enough of it is shown to say that it is this number, and it can be read in one way only."""
        return len(self.ends) < 2 and bool(self.telling) and self.fits(phone)


@dataclass(frozen=True, slots=True)
class Party:
    """The other side of a line. `is_clear` where all of it was understood: only then does it exclude anybody."""

    numbers: tuple[Shown, ...] = ()
    is_clear: bool = False

    def may_be(self, phone: str) -> bool:
        """Whether the line may be of this receiver, by what is shown of the number."""
        return not self.is_clear or phone.startswith(ERASED) or any(one.fits(phone) for one in self.numbers)

    def is_surely(self, phone: str) -> bool:
        """Whether the line names this receiver."""
        return any(one.identifies(phone) for one in self.numbers)

    @property
    def ends(self) -> set[str]:
        """The last three digits of everybody whom it may name."""
        return {end[-DIGITS_THAT_SAY:] for one in self.numbers for end in one.telling}

    @property
    def keys(self) -> set[str] | None:
        """The last three digits that a receiver must have to fit; None where it may be anybody."""
        if not self.is_clear or any(len(one.telling) < max(1, len(one.ends)) for one in self.numbers):
            return None
        return self.ends

    @property
    def masked(self) -> str:
        """The number as people may see it, '' where none was understood."""
        known = next((one for one in self.numbers if one.is_phone), None)
        if known is None:
            return ""
        return mask(known.whole) if known.whole else f"{known.starts[0][:4]}****{known.ends[0][-4:]}"


#: Nobody is named: it may be anybody.
ANYBODY = Party()


@lru_cache(maxsize=4_096)
def read_party(text: str) -> Party:
    """Read what a statement says of the other side. What is longer than any party may be anybody."""
    if len(text) > MOST_CHARACTERS:
        return ANYBODY
    plain = unicodedata.normalize("NFKC", text).translate(_DASHES)
    plain = "".join(c for c in plain if unicodedata.category(c) != "Cf" and c not in _APOSTROPHES)
    numbers: list[Shown] = []
    for part in _PARTS.split(plain):
        pieces: list[str] = []
        for piece in [*_WITHIN.split(part), "end"]:
            if _is_of_number(piece):
                pieces.append(piece)
            elif piece:
                numbers += _number(pieces)
                pieces = []
                if any(c.isdigit() for c in piece):
                    numbers.append(Shown(is_phone=False))  # a word with digits in it may be a number misspelt
    return Party(tuple(numbers), bool(numbers) and all(one.is_phone for one in numbers))


def _is_of_number(piece: str) -> bool:
    """Digits, signs, and x where it stands for digits."""
    return bool(piece) and all(c in "0123456789xX" or unicodedata.category(c)[0] in "PS" for c in piece)


def _number(pieces: list[str]) -> list[Shown]:
    """The one number that these pieces, which stand together, are; none where they hide and show nothing."""
    joined = "".join(pieces).removeprefix("+")
    if not any(c.isdigit() for c in joined):
        return [Shown(("",), ("",))] if len(joined) >= _HIDES else []
    if joined.isdigit():
        found = _WHOLE.fullmatch(joined)
        return [Shown(whole=f"254{found[1]}") if found else Shown(is_phone=False)]
    first = next(place for place, c in enumerate(joined) if not c.isdigit())
    last = max(place for place, c in enumerate(joined) if not c.isdigit())
    cuts = _cuts(pieces, len("".join(pieces)) - len(joined))
    starts = [joined[cut:first] for cut in cuts if cut < first] or [""]
    ends = [joined[last + 1 : cut] for cut in cuts if cut > last + 1] or [""]
    # A digit or two that stand apart from what is hidden may be of the name: 2*********** 99 PROBLEMS.
    if first in cuts and len(starts[-1]) < DIGITS_THAT_SAY:
        starts.append("")
    if last + 1 in cuts and len(ends[0]) < DIGITS_THAT_SAY:
        ends.insert(0, "")
    national = [spelt for start in dict.fromkeys(starts) for spelt in _national(start)]
    visible = len(starts[0]) + len(ends[-1])
    if not national or not DIGITS_THAT_SAY <= visible <= len("00254712345678"):
        return [Shown(is_phone=False)]
    # Beyond its nine national digits an end has one of the ways to lead into them, which is not the same in all.
    return [Shown(tuple(national), tuple(dict.fromkeys(end[-9:] for end in reversed(ends))))]


def _cuts(pieces: list[str], skipped: int) -> list[int]:
    """Where the pieces begin and end, in the text that they are together: another number may begin or end there."""
    cuts = [0]
    for piece in pieces:
        cuts.append(cuts[-1] + len(piece))
    return sorted({max(0, cut - skipped) for cut in cuts})


def _national(start: str) -> list[str]:
    """How a number with this beginning begins when it is spelt as we do, with 254; none where it is no phone."""
    digits = start.lstrip("0")
    if digits[:1] in ("1", "7"):
        return [f"254{digits}"]
    return [digits[:3] + digits[3:].removeprefix("0")] if "254".startswith(digits[:3]) else []
