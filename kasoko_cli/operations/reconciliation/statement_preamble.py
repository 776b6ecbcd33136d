"""What stands before the header of a statement: whose account it is of, in which currency, and of which time.

A statement of another account is the worst file that there is: every line of it is money that this deployment
never had. So every form in which a lead names an account is read, and an account that is named and is not ours
refuses the file. What it says of its own time is only ever taken for less than it says.

Source: leads of exports of the M-Pesa organisation portal, and of what aggregators and banks make of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kasoko_cli.clock import NAIROBI

#: A time of a statement, the year first or the day; some exports leave out the seconds.
TIME = re.compile(
    r"(?:([0-9]{4})-([0-9]{2})-([0-9]{2})|([0-9]{2})-([0-9]{2})-([0-9]{4})|([0-9]{2})/([0-9]{2})/([0-9]{4}))"
    r" ([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?"
)
_PERIOD = re.compile(rf"from\W+(?P<first>{TIME.pattern})\W+to\W+(?P<last>{TIME.pattern})", re.IGNORECASE)

#: What says what a number in a lead is: an account, or a sum, an address, a count. The last word before it counts.
_SAYS = re.compile(
    r"\b(?:(?P<account>short ?codes?|pay ?bill|till|buy ?goods|business|organi[sz]ation|account|a/c|merchant|store"
    r"|outlet|head ?office|h\.?o\.?|agent|company|client|customer|partner|holder)"
    r"|balances?|totals?|amounts?|paid in|withdrawn|address|box|tel|phone|page|lines|rows|records|transactions)\b",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(r"(?<![0-9.,:/*#])([0-9]{5,7})(?![0-9*#]|[.,:/][0-9])")
_SPACED = re.compile(r"'?[0-9][0-9 ]*[0-9]'?")

#: The account of the organisation that it is a statement of. B2C leaves from the utility account.
_ITS_ACCOUNT = re.compile(r"\baccount\b", re.IGNORECASE)
_OTHER_ACCOUNT = re.compile(r"\b(working|mmf|charges? paid|settlement|bonus|loan)\b", re.IGNORECASE)
_UTILITY = re.compile(r"\butility\b", re.IGNORECASE)

_CURRENCY = re.compile(r"\b(?:currency(?: code)?|ccy)\W+([A-Za-z.]+(?: shillings?)?)", re.IGNORECASE)
_KES = re.compile(r"(?:kes|kshs?|kenyan? shillings?)\.?", re.IGNORECASE)

#: What says when something was made.
MADE = re.compile(
    r"\b(?:generated|printed|exported|downloaded|created|extracted|produced|run|prepared|as at|report date"
    r"|date of (?:issue|report|statement)|statement date)\b",
    re.IGNORECASE,
)
_DAY = re.compile(
    r"(?<![0-9])(?:([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})|([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4}))"
)
_OF_DAY = re.compile(r"[T ,]*(?:at )?([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\s*([AaPp])?\.?[Mm]?")


@dataclass(frozen=True, slots=True)
class Lead:
    """What a statement says of itself; times in UTC.

    `accounts` are the shortcodes that it names, in order. `other_account` is its own word where it says that it
    is not of the utility account, `currency` where it is not in shillings. `made_at` is when it says it was made.
    """

    accounts: tuple[str, ...] = ()
    other_account: str = ""
    currency: str = ""
    period: tuple[datetime, datetime] | None = None
    made_at: datetime | None = None


def read_lead(rows: Sequence[Sequence[str]]) -> Lead:
    """Read the lines before the header."""
    texts = [" ".join(cell for cell in cells if cell) for cells in rows]
    currencies = (found[1] for text in texts if (found := _CURRENCY.search(text)))
    made = [moment for text in texts if MADE.search(text) for moment in _moments(text)]
    return Lead(
        accounts=tuple(dict.fromkeys(name for cells in rows for name in _accounts(cells))),
        other_account=next((text.strip() for text in texts if _is_of_another(text)), ""),
        currency=next((word for word in currencies if not is_kes(word)), ""),
        period=_period(texts),
        made_at=min(made, default=None),
    )


def is_kes(word: str) -> bool:
    """Whether a currency is ours; nothing said is."""
    return not word or _KES.fullmatch(word) is not None


def time_of(text: str) -> datetime | None:
    """A time of a statement, in UTC; None where it is no time."""
    found = TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day = (found[1], found[2], found[3]) if found[1] else (found[6], found[5], found[4])
    if found[7]:
        year, month, day = found[9], found[8], found[7]
    return _moment(int(year), int(month), int(day), int(found[10]), int(found[11]), int(found[12] or 0))


def _moment(year: int, month: int, day: int, hour: int, minute: int, second: int) -> datetime | None:
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=NAIROBI).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _accounts(cells: Sequence[str]) -> Iterator[str]:
    """The shortcodes that one line of the lead names."""
    plain = (cell.replace(" ", "").strip("'") if _SPACED.fullmatch(cell) else cell for cell in cells)
    text = " ".join(plain)
    said = [(found.end(), found["account"] is not None) for found in _SAYS.finditer(text)]
    for found in _ACCOUNT.finditer(text):
        before = [names for end, names in said if end <= found.start()]
        if before[-1] if before else said and all(names for _, names in said):
            yield found[1]


def _is_of_another(text: str) -> bool:
    return bool(_ITS_ACCOUNT.search(text) and _OTHER_ACCOUNT.search(text) and not _UTILITY.search(text))


def _period(texts: Sequence[str]) -> tuple[datetime, datetime] | None:
    """The time that the statement says it covers, where it says so."""
    for text in texts:
        if found := _PERIOD.search(text):
            first, last = time_of(found["first"]), time_of(found["last"])
            if first and last and first <= last:
                return first, last
    return None


def _moments(text: str) -> Iterator[datetime]:
    """Every time in a text. A day alone ends at its midnight; one that can be read in two ways is the earlier."""
    for found in _DAY.finditer(text):
        if found[1]:
            days = [(int(found[1]), int(found[2]), int(found[3]))]
        else:
            days = [(int(found[6]), int(found[5]), int(found[4])), (int(found[6]), int(found[4]), int(found[5]))]
        of_day = _OF_DAY.match(text, found.end())
        read = [moment for day in days if (moment := _at(day, of_day))]
        if read:
            yield min(read)


def _at(day: tuple[int, int, int], of_day: re.Match[str] | None) -> datetime | None:
    if of_day is None:
        midnight = _moment(*day, 0, 0, 0)
        return None if midnight is None else midnight + timedelta(days=1)
    hour = int(of_day[1])
    if of_day[4]:
        hour = hour % 12 + (12 if of_day[4] in "Pp" else 0)
    return _moment(*day, hour, int(of_day[2]), int(of_day[3] or 0))
