"""A market: its states, the rules it is settled by, what was resolved, and the names it goes by.

The rules and the bets of a market get a digest when it closes. Whoever keeps the two digests can
prove later that neither was touched between the close and the settlement.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeVar

from kasoko_cli.domain.counts import count_of
from kasoko_cli.domain.money import BPS_PER_WHOLE, MAX_CENTS
from kasoko_cli.domain.payout import looks_like_payout_id
from kasoko_cli.domain.phone import quoted
from kasoko_cli.errors import Refused


class MarketStatus(StrEnum):
    """Where a market stands."""

    #: Takes bets.
    OPEN = "OPEN"
    #: Takes no more bets; its rules and bets have their digests.
    CLOSED = "CLOSED"
    #: Its winning outcome is named; it is settled from here, once.
    RESOLVED = "RESOLVED"
    #: Called off: every bet is refunded in full.
    VOID = "VOID"


#: What may follow what for a market, and why. A resolved market is not voided: from there on people may
#: have been paid, and a wrong outcome is overridden, which books what has to be taken back.
NEXT: Mapping[MarketStatus, Mapping[MarketStatus, str]] = {
    MarketStatus.OPEN: {
        MarketStatus.CLOSED: "its closing time has come, or a person closed it before",
        MarketStatus.VOID: "a person called it off while it took bets",
    },
    MarketStatus.CLOSED: {
        MarketStatus.RESOLVED: "a person named what won",
        MarketStatus.VOID: "a person called it off: nothing can be named",
    },
    MarketStatus.RESOLVED: {},
    MarketStatus.VOID: {},
}


def sources_of(to: MarketStatus) -> frozenset[MarketStatus]:
    """Every state that a market may be in just before `to`."""
    return frozenset(status for status, following in NEXT.items() if to in following)


class Rounding(StrEnum):
    """What happens to the cents that rounding down leaves."""

    #: They are breakage, and go to a named account of the operator.
    HOUSE = "house"
    #: They are handed out one unit at a time by largest fraction; a tie goes to the earliest first bet.
    LARGEST = "largest"


class DeadHeat(StrEnum):
    """How several winning outcomes share the net pool."""

    #: One dividend over all winning stakes.
    STAKE = "stake"
    #: The winners' stakes back first, then the profit in equal parts per winning outcome.
    PROFIT = "profit"
    #: The net pool in equal parts per winning outcome.
    POOL = "pool"


class MinDividend(StrEnum):
    """What is done where winners would get less than a least multiple of their stake."""

    #: Nothing: all on the winner pays 95 % at a fee of 5 %.
    NONE = "none"
    #: The fee shrinks until the dividend is reached, down to no fee.
    CAP_FEE = "cap_fee"
    #: The operator adds what is missing.
    HOUSE_TOPUP = "house_topup"


_Option = TypeVar("_Option", bound=StrEnum)

#: The largest least dividend, a hundred times the stake: more is a slip of the keys.
_MOST_DIVIDEND_BPS = 100 * BPS_PER_WHOLE


@dataclass(frozen=True, slots=True)
class Rules:
    """How one market is settled, frozen when it closes.

    `fee_bps` is the takeout in basis points of the gross pool; `break_unit_cents` is what payouts are
    rounded down to; `min_dividend_bps` is the least dividend (10,000 is the stake itself) and counts only
    where `min_dividend` is not NONE.

    Raises:
        Refused: a value is outside what the rules know.
    """

    fee_bps: int
    rounding: Rounding = Rounding.HOUSE
    break_unit_cents: int = 1
    dead_heat: DeadHeat = DeadHeat.STAKE
    min_dividend: MinDividend = MinDividend.NONE
    min_dividend_bps: int = BPS_PER_WHOLE

    def __post_init__(self) -> None:
        """Refuse what no pool could be settled by."""
        _check_number("fee", self.fee_bps, least=0, most=BPS_PER_WHOLE, unit="basis points")
        _check_number("break unit", self.break_unit_cents, least=1, most=MAX_CENTS, unit="cents")
        _check_number("least dividend", self.min_dividend_bps, least=1, most=_MOST_DIVIDEND_BPS, unit="basis points")
        # A plain string equals its member, but would slip past every `is` in the arithmetic.
        object.__setattr__(self, "rounding", _option(Rounding, "rounding", self.rounding))
        object.__setattr__(self, "dead_heat", _option(DeadHeat, "dead heat rule", self.dead_heat))
        object.__setattr__(self, "min_dividend", _option(MinDividend, "least dividend rule", self.min_dividend))

    def as_dict(self) -> dict[str, int | str]:
        """The rules as JSON has them; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rules:
        """The rules that `as_dict` wrote.

        Raises:
            Refused: a name is missing or unknown, or a value is outside what the rules know.
        """
        _check_names("rule set", data, cls.__slots__)
        return cls(**data)

    def digest(self) -> str:
        """SHA-256 of the rules in canonical JSON, as hex: equal rules have equal digests."""
        canonical = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Resolution:
    """What was resolved: the winners, or weights that sum to one, or that the market is void.

    Outcomes are numbers from 0. `winners` has several for a dead heat; `weights` is a partial
    resolution; `withdrawn` outcomes leave the pool and are refunded. Winners and weights are kept in the
    order of the outcomes, so that two resolutions that say the same are equal.

    Raises:
        Refused: it names nothing, or two things that contradict each other.
    """

    winners: tuple[int, ...] = ()
    weights: tuple[tuple[int, Fraction], ...] = ()
    withdrawn: frozenset[int] = frozenset()
    void: bool = False

    def __post_init__(self) -> None:
        """Refuse a resolution that could be read in two ways, or in none."""
        if (bool(self.winners) + bool(self.weights) + self.void) != 1:
            raise _unresolvable("A resolution names winners, or weights, or says that the market is void: one of them")
        if self.void and self.withdrawn:
            raise _unresolvable("A void market refunds every bet, so no outcome can be withdrawn besides")
        winning = [*self.winners, *(outcome for outcome, _ in self.weights)]
        if any(outcome < 0 for outcome in (*winning, *self.withdrawn)):
            raise _unresolvable("Outcomes are numbered from 0")
        if len(set(winning)) != len(winning):
            raise _unresolvable("An outcome is named as winning twice")
        if self.withdrawn & set(winning):
            raise _unresolvable("An outcome cannot be both withdrawn and winning")
        if self.weights and not all(weight > 0 for _, weight in self.weights):
            raise _unresolvable("A weight is more than 0; an outcome that gets nothing is not named")
        if self.weights and (total := sum(weight for _, weight in self.weights)) != 1:
            raise _unresolvable(f"The weights sum to {total} and not to 1")
        object.__setattr__(self, "winners", tuple(sorted(self.winners)))
        object.__setattr__(self, "weights", tuple(sorted(self.weights)))

    @property
    def named(self) -> frozenset[int]:
        """The outcomes that won, alone, together or by weights."""
        return frozenset((*self.winners, *(outcome for outcome, _ in self.weights)))

    def as_dict(self) -> dict[str, Any]:
        """The resolution as JSON has it, weights as `7/10`; `from_dict` reads it back."""
        return {
            "winners": list(self.winners),
            "weights": [[outcome, f"{weight.numerator}/{weight.denominator}"] for outcome, weight in self.weights],
            "withdrawn": sorted(self.withdrawn),
            "void": self.void,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Resolution:
        """The resolution that `as_dict` wrote.

        Raises:
            Refused: a name is missing or unknown, or it contradicts itself.
        """
        _check_names("resolution", data, cls.__slots__)
        return cls(
            winners=tuple(data["winners"]),
            weights=tuple((outcome, Fraction(weight)) for outcome, weight in data["weights"]),
            withdrawn=frozenset(data["withdrawn"]),
            void=data["void"],
        )


#: One bet as the digest has it: id, user, outcome, cents, when it was placed (ISO 8601), late, cancelled.
BetRow = tuple[str, str, int, int, str, bool, bool]


#: What JSON escapes within printable ASCII.
_QUOTED = re.compile(r'["\\]')
#: JSON's words for false and true, by number.
_JSON = ("false", "true")


class BetsDigest:
    """SHA-256 over bets in the order they are added, one JSON list a line; no bet is held in memory."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._encode = json.JSONEncoder(separators=(",", ":")).encode

    def add(self, row: BetRow) -> None:
        """Take in the next bet."""
        bet_id, user_id, outcome, cents, placed, late, cancelled = row
        text = bet_id + user_id + placed
        if text.isascii() and text.isprintable() and not _QUOTED.search(text):
            # What JSON would make of it, to the letter, in a fifth of the time: identifiers need no escapes.
            line = f'["{bet_id}","{user_id}",{outcome},{cents},"{placed}",{_JSON[late]},{_JSON[cancelled]}]'
        else:
            line = self._encode(row)
        self._digest.update(line.encode() + b"\n")

    def hexdigest(self) -> str:
        """The digest of all bets so far, as hex."""
        return self._digest.hexdigest()


def bets_digest(rows: Iterable[BetRow]) -> str:
    """The digest of bets in the order given, as hex."""
    digest = BetsDigest()
    for row in rows:
        digest.add(row)
    return digest.hexdigest()


#: Words that stand where a market may stand, `kasoko payout list`, and therefore cannot name one.
PAYOUT_VERBS: frozenset[str] = frozenset(
    {"send", "list", "show", "retry", "hold", "release", "to-wallet", "decide", "returned", "again"}
)

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
#: What a spreadsheet makes of an id that is a long number.
_CUT_SHORT = re.compile(r"[0-9](?:[.,][0-9]+)?E\+[0-9]+")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_:.\-]{0,63}")

#: Letters by the book, but nothing to see: fillers, the blank Braille cell, the grapheme joiner.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")


def check_slug(slug: str) -> str:
    """The slug itself, if a market may go by it.

    Raises:
        Refused: it is a verb of `payout`, looks like a payout's id, or is not 1 to 64 lower-case letters,
            digits and hyphens.
    """
    if slug in PAYOUT_VERBS:
        raise Refused(
            f"A market cannot have the slug {quoted(slug)}: `kasoko payout {slug}` means something else.",
            hint="Nothing was changed. Take another word, such as the question's main one.",
        )
    if looks_like_payout_id(slug):
        raise Refused(
            f"A market cannot have the slug {quoted(slug)}: it reads like the id of a payout.",
            hint="Nothing was changed. Write it with hyphens instead of points.",
        )
    if _SLUG.fullmatch(slug) is None:
        raise Refused(
            f"{quoted(slug)} cannot be a slug.",
            hint="Nothing was changed. Use 1 to 64 lower-case letters, digits and hyphens, such as long-rains-2027.",
        )
    return slug


def check_identifier(text: str, *, what: str) -> str:
    """The identifier itself, if a record of the operator's platform may be known by it here.

    Raises:
        Refused: it is not 1 to 64 of the letters, digits and marks that are safe in a file, an address and a
            command line, or it reads like the id of a payout.
    """
    if _CUT_SHORT.fullmatch(text) is not None:
        raise Refused(
            f"{quoted(text)} cannot be the {what}: a spreadsheet cut it short.",
            hint="Nothing was changed. Format the column as text and enter the whole of it.",
        )
    if _IDENTIFIER.fullmatch(text) is None:
        raise Refused(
            f"{quoted(text)} cannot be the {what}.",
            hint="Nothing was changed. Use 1 to 64 letters A-Z a-z, digits and _ : - . and begin with none of : - .",
        )
    if looks_like_payout_id(text):
        raise Refused(
            f"{quoted(text)} cannot be the {what}: it reads like the id of a payout, which ends in two numbers.",
            hint="Nothing was changed. Write it with hyphens instead of points.",
        )
    return text


#: What is longer is no name that somebody misspelt.
_MOST_MISSPELT = 200


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` was most likely meant to be, whatever the case; None where none is near.

    Never the word itself: it is the name of something of another kind, and to say it again helps nobody.
    """
    if len(word) > _MOST_MISSPELT:
        return None
    by_folded = {candidate.casefold(): candidate for candidate in candidates if candidate != word}
    close = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def clean_text(text: str, *, what: str, most: int) -> str:
    """A name, question or outcome as it is kept: composed (NFC), without spaces at its ends.

    Every kind of space becomes a plain one.

    Raises:
        Refused: it is empty, longer than `most` characters, or holds what nobody can see: control and
            direction characters, zero-width ones, fillers.
    """
    hint = f"Nothing was changed. Write 1 to {most} characters."
    if len(text) > 4 * most:  # composed or not: composing takes the square of a long run of accents
        raise Refused(f"The {what} {quoted(text)} has {len(text)} characters.", hint=hint)
    composed = unicodedata.normalize("NFC", text)
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in composed).strip(" ")
    for character in spaced:
        if not character.isprintable() or character in _INVISIBLE:
            raise Refused(
                f"The {what} {quoted(text)} holds a character that nobody can see: U+{ord(character):04X}.",
                hint="Nothing was changed. Write it again without line ends, tabs and hidden characters.",
            )
    if not 1 <= len(spaced) <= most:
        length = f"has {count_of(len(spaced), 'character')}" if spaced else "is empty"
        raise Refused(f"The {what} {quoted(text)} {length}.", hint=hint)
    return spaced


def _check_number(what: str, value: int, *, least: int, most: int, unit: str) -> None:
    """Refuse a rule that is not a whole number between its bounds. `True` is no number here."""
    if type(value) is not int or not least <= value <= most:
        raise Refused(
            f"The {what} of a market cannot be {quoted(str(value))} {unit}.",
            hint=f"Nothing was changed. Use a whole number from {least:,} to {most:,} {unit}.",
        )


def _option(options: type[_Option], what: str, value: str) -> _Option:
    try:
        return options(value)
    except ValueError:
        near = nearest(str(value), [option.value for option in options])
        known = ", ".join(option.value for option in options)
        raise Refused(
            f"A market has no {what} {quoted(str(value))}.",
            hint=f"Nothing was changed. Use one of: {known}." + (f" Did you mean {near}?" if near else ""),
        ) from None


def _check_names(what: str, data: Mapping[str, Any], names: Iterable[str]) -> None:
    known = set(names)
    if odd := sorted(known.symmetric_difference(data)):
        raise Refused(
            f"This {what} is not one that this program wrote: {', '.join(map(quoted, odd))} is missing or unknown.",
            hint="Nothing was changed. Was the database written by a newer kasoko? See: kasoko db check",
        )


def _unresolvable(why: str) -> Refused:
    return Refused(f"{why}.", hint="Nothing was changed. Resolve it again with outcomes that fit together.")
