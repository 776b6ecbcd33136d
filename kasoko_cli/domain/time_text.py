"""Times as programs, people and spreadsheets write them: read exactly, or refused with the reason.

A time that stands without its offset is read by the clock of a stated zone, and a date like `05/03/2027` only where
it is known which of its numbers is the day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kasoko_cli.clock import NAIROBI
from kasoko_cli.domain.cells import trimmed, unseen_in
from kasoko_cli.domain.phone import quoted
from kasoko_cli.errors import Refused

#: Years that a bet or a market can have; another one is a slip of the keys.
_YEARS = range(2000, 2200)

_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)

_DATE = r"""
    (?P<first>[0-9]{1,4})(?P<mark>[/.\-])(?P<second>[0-9]{1,2})(?P=mark)(?P<third>[0-9]{1,4})
    |(?P<day>[0-9]{1,2})[ \-](?P<month>[a-z]{3,9})\.?[ \-,]+(?P<year>[0-9]{4})
    |(?P<us_month>[a-z]{3,9})\.?[ ](?P<us_day>[0-9]{1,2}),?[ ](?P<us_year>[0-9]{4})
"""
_CLOCK = r"""
    (?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second_>[0-9]{2})(?:\.(?P<part>[0-9]{1,6}))?)?
    (?:[ ]?(?P<half>[ap])\.?m\.?)?
    (?:[ ]?(?P<offset>z|[+-][0-9]{2}:?[0-9]{2}|utc|gmt|eat))?
"""
_WRITTEN = re.compile(rf"(?:{_DATE})(?:(?:,?[ ]+|t){_CLOCK})?", re.VERBOSE | re.IGNORECASE)
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]

#: How a spreadsheet shows a time where its column is formatted as a number: days since 1899.
_SERIAL = re.compile(r"[34567][0-9]{4}(?:[.,][0-9]+)?")

_EXAMPLES = "Write it like 2026-11-20T15:00:00Z or 2026-11-20T18:00:00+03:00."


class DateOrder(StrEnum):
    """In which order the numbers of a date stand that ends in its year; one that begins with it has one order."""

    DMY = "dmy"  #: 25/03/2027
    MDY = "mdy"  #: 03/25/2027


@dataclass(frozen=True, slots=True)
class TimeStyle:
    """How a file writes its times: by whose clock where no offset stands, and the order of dates, if it is known."""

    zone: tzinfo = NAIROBI
    order: DateOrder | None = None


def zone_of(name: str) -> tzinfo:
    """The time zone of this name: `Africa/Nairobi`, `UTC`, `+03:00`.

    Raises:
        Refused: it is none, or this machine does not know it.
    """
    if name in ("Africa/Nairobi", "EAT"):
        return NAIROBI  # known without a database of time zones
    try:
        return (
            _offset_of(name, NAIROBI) if re.fullmatch(r"(?i)z|utc|gmt|[+-][0-9]{2}:?[0-9]{2}", name) else ZoneInfo(name)
        )
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise Refused(
            f"There is no time zone {quoted(name)} on this machine; nothing was changed.",
            hint="Write it like Africa/Nairobi, UTC or +03:00.",
        ) from None


def parse_time(text: str, style: TimeStyle | None = None) -> datetime:
    """Read a time, and return it in UTC; without a style only ISO 8601 with its offset counts.

    Raises:
        Refused: it is no time, does not exist, or could be read in two ways.
    """
    match = _ISO.fullmatch(text)
    if match is not None and match[1] is not None:
        try:
            moment = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise _no_time(text) from None
        return _within_years(moment, text)
    if style is not None:
        return _within_years(_written(trimmed(text), style, text), text)
    if match is not None:
        raise Refused(
            f"The time {quoted(text)} does not say how far it is from UTC.",
            hint="Write a Z behind it for UTC, or +03:00 for Nairobi.",
        )
    raise _no_time(text)


def format_time(moment: datetime) -> str:
    """A time that `parse_time` reads back exactly; fractions of a second only where there are any."""
    utc = moment.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds" if utc.microsecond else "seconds") + "Z"


def has_no_offset(text: str) -> bool:
    """Whether a time that can be read does not say how far it is from UTC."""
    match = _ISO.fullmatch(text)
    if match is not None:
        return match[1] is None
    match = _WRITTEN.fullmatch(trimmed(text))
    return match is not None and match["offset"] is None


class DateSurvey:
    """What all the times of one file prove of the order in which the numbers of its dates stand."""

    def __init__(self, cells: Iterable[str]) -> None:
        self._orders = {DateOrder.DMY, DateOrder.MDY}
        self._spellings: set[bool] = set()
        self._has_other = self._has_open = False
        for cell in cells:
            self._add(trimmed(cell))

    def _add(self, bare: str) -> None:
        match = _WRITTEN.fullmatch(bare)
        if match is None or match["first"] is None or len(match["first"]) > 2 or len(match["third"]) != 4:
            self._has_other = self._has_other or (match is not None and match["offset"] is None)
            return
        self._has_open = True
        first, second = int(match["first"]), int(match["second"])
        self._orders -= ({DateOrder.DMY} if second > 12 else set()) | ({DateOrder.MDY} if first > 12 else set())
        self._spellings |= {len(number) == 1 for number in (match["first"], match["second"]) if int(number) < 10}

    @property
    def order(self) -> DateOrder | None:
        """The order, where some dates can be read in no other, none contradicts, and all look alike.

        Where some are like `5/3/2027` and others like `05/03/2027`, two programs wrote them, and nothing is proven.
        """
        [order, *others] = [*self._orders, None]
        return order if others == [None] and len(self._spellings) < 2 else None

    @property
    def is_mixed(self) -> bool:
        """Whether some are dates like `05/03/2027`, and others begin with their year and have no offset.

        A spreadsheet that takes the month for the day makes dates of those that it can, and leaves the rest as text.
        """
        return self._has_open and self._has_other


def has_open_order(text: str) -> bool:
    """Whether it is a date that can be read only where the order of its numbers is known."""
    match = _WRITTEN.fullmatch(trimmed(text)) if text[:4].isdigit() is False else None
    return match is not None and match["first"] is not None and len(match["first"]) < 3


def _written(bare: str, style: TimeStyle, text: str) -> datetime:
    """The time that people and spreadsheets write so."""
    match = _WRITTEN.fullmatch(bare)
    if match is None:
        if _SERIAL.fullmatch(bare):
            what = f"The time {quoted(text)} is the number that a spreadsheet keeps a date by."
            raise Refused(what, hint="Format the column as a date with its time, like yyyy-mm-dd hh:mm.")
        raise _no_time(text)
    year, month, day = _date_of(match, style.order, text)
    if match["hour"] is None:
        raise Refused(
            f"{quoted(text)} is a day without a time of day.", hint="Write the hour and minute too, like 17:00."
        )
    try:
        moment = datetime(year, month, day, *_clock_of(match), tzinfo=_offset_of(match["offset"], style.zone))
        utc = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _no_time(text) from None
    if utc.astimezone(moment.tzinfo).replace(tzinfo=None) != moment.replace(tzinfo=None):
        raise Refused(f"The time {quoted(text)} does not exist there: clocks were put forward.", hint=_EXAMPLES)
    if moment.utcoffset() != moment.replace(fold=1).utcoffset():
        raise Refused(f"The time {quoted(text)} was there twice: clocks were put back.", hint=_EXAMPLES)
    return utc


def _date_of(match: re.Match[str], order: DateOrder | None, text: str) -> tuple[int, int, int]:
    """Year, month and day."""
    if match["first"] is None:
        name = (match["month"] or match["us_month"]).lower()
        number = next((n for n, full in enumerate(_MONTHS, 1) if name in (full, full[:3], full[:4])), 0)
        return int(match["year"] or match["us_year"]), number, int(match["day"] or match["us_day"])
    first, second, third = match["first"], match["second"], match["third"]
    if len(first) == 4 and len(third) <= 2:
        return int(first), int(second), int(third)
    if len(first) > 2 or not (len(third) == 4 or (len(third) == 2 and match["mark"] == "/")):
        raise _no_time(text)
    if order is None:
        raise Refused(
            f"{quoted(text)} does not say which of its numbers is the day{_ways(int(first), int(second))}.",
            hint="Say it for the whole file: --dates dmy, or --dates mdy.",
        )
    day, month = (first, second) if order is DateOrder.DMY else (second, first)
    if not 1 <= int(month) <= 12:
        what = "day/month" if order is DateOrder.DMY else "month/day"
        raise Refused(f"{quoted(text)} is no date that is written as {what}/year.", hint=_EXAMPLES)
    return int(third) if len(third) == 4 else 2000 + int(third), int(month), int(day)


def _ways(first: int, second: int) -> str:
    """Both readings of two numbers, where there are two."""
    if not (1 <= first <= 12 and 1 <= second <= 12):
        return ""
    return f": it can be {first} {_MONTHS[second - 1].capitalize()} or {second} {_MONTHS[first - 1].capitalize()}"


def _clock_of(match: re.Match[str]) -> tuple[int, int, int, int]:
    """Hour, minute, second and microsecond."""
    hour, half = int(match["hour"]), (match["half"] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise ValueError("no hour of half a day")
        hour = hour % 12 + (12 if half == "p" else 0)
    return hour, int(match["minute"]), int(match["second_"] or 0), int((match["part"] or "0").ljust(6, "0"))


def _offset_of(written: str | None, zone: tzinfo) -> tzinfo:
    if written is None:
        return zone
    word = written.lower()
    if word in ("z", "utc", "gmt"):
        return UTC
    if word == "eat":
        return NAIROBI
    minutes = int(word[1:3]) * 60 + int(word[-2:])
    if minutes > 14 * 60:
        raise ValueError("no offset of anybody's clock")
    return timezone(timedelta(minutes=-minutes if word[0] == "-" else minutes))


def _within_years(moment: datetime, text: str) -> datetime:
    if moment.year not in _YEARS:
        raise _no_time(text)
    return moment


def _no_time(text: str) -> Refused:
    reason = unseen_in(trimmed(text)[:60])
    return Refused(f"{quoted(text)} is not a time.{' ' if reason else ''}{reason}", hint=_EXAMPLES)
