"""M-Pesa's organisation statement as a file: CSV or XLSX in, exact lines out, or a refusal with line numbers.

A statement is a few lines about the organisation, a header, and a line for each movement, newest first.
What can be read in one way only is read: a byte order mark, line ends of any kind, commas, semicolons or
tabs, amounts with thousands separators, times in both spellings. Whatever could be read in two ways is
refused, since a line that is misread here would end a payout wrongly.

Times are Nairobi's in the file, UTC from here on. Amounts are cents, never below zero.

Source: the operator's statements of the M-Pesa organisation portal.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from kasoko_cli.clock import NAIROBI
from kasoko_cli.domain.money import MAX_CENTS
from kasoko_cli.domain.phone import mask_in, quoted
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.operations.rowfiles import FileRefused, Problem

#: The header must stand within so many lines; what is before it is about the organisation.
MOST_LINES_BEFORE = 60
#: A workbook that unpacks to more than this is no statement.
MOST_UNPACKED_BYTES = 1 << 30

_NEEDED = (
    "receipt no",
    "completion time",
    "details",
    "transaction status",
    "paid in",
    "withdrawn",
    "reason type",
    "other party info",
)
_OPTIONAL = ("initiation time", "balance", "balance confirmed", "linked transaction id", "a/c no")

#: As M-Pesa's header writes them, for messages.
_SPELT = {name: name.title().replace(" No", " No.").replace("A/C No.", "A/C No.") for name in (*_NEEDED, *_OPTIONAL)}

_AMOUNT = re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]{1,2})?")
_TIME = re.compile(
    r"(?:([0-9]{4})-([0-9]{2})-([0-9]{2})|([0-9]{2})-([0-9]{2})-([0-9]{4})) ([0-9]{2}):([0-9]{2}):([0-9]{2})"
)
_PERIOD = re.compile(rf"from\W+({_TIME.pattern})\W+to\W+({_TIME.pattern})", re.IGNORECASE)
_RECEIPT = re.compile(r"[A-Z0-9]{6,20}")
_SHORTCODE = re.compile(r"short ?code\W{0,4}([0-9]{5,7})\b", re.IGNORECASE)
#: The first word of the other party, if it is a number, whole or with stars in it.
_PARTY = re.compile(r"\s*\+?([0-9]{2,}[0-9*]*)(?=$|[\s,;:|-])")
_CHARGE = re.compile(r"\b(charges?|fees?|tariff)\b", re.IGNORECASE)
_BACK = re.compile(r"\b(revers(al|ed|e)|return(ed)?)\b", re.IGNORECASE)
_PAYOUT = re.compile(r"\b(business|salary|promotion) ?payment\b|\bb2c\b|\bpayment to customer\b", re.IGNORECASE)
_CUSTOMER = re.compile(
    r"\bpay ?(bill|utility)\b|\bmerchant payment\b|\bcustomer (payment|pay)\b|\bbuy goods\b", re.IGNORECASE
)


class LineStatus(StrEnum):
    """How M-Pesa says that a movement ended."""

    COMPLETED = "completed"  #: the money moved
    FAILED = "failed"  #: no money moved
    PENDING = "pending"  #: not decided yet


_STATUSES = {
    "completed": LineStatus.COMPLETED,
    "failed": LineStatus.FAILED,
    "declined": LineStatus.FAILED,
    "cancelled": LineStatus.FAILED,
    "canceled": LineStatus.FAILED,
    "expired": LineStatus.FAILED,
    "pending": LineStatus.PENDING,
    "authorized": LineStatus.PENDING,
    "authorised": LineStatus.PENDING,
}


class LineKind(StrEnum):
    """What a movement is, by its reason and its direction."""

    PAYOUT = "payout"  #: to a customer
    CHARGE = "charge"  #: what M-Pesa bills
    BACK = "back"  #: money of an earlier movement that came back
    CUSTOMER = "customer"  #: from a customer
    OTHER = "other"  #: anything else, such as a transfer between accounts


@dataclass(frozen=True, slots=True)
class Line:
    """One movement. `party` is the other side's number as it is shown, whole, masked or ''."""

    number: int
    key: str
    receipt: str
    completed_at: datetime
    initiated_at: datetime | None
    status: LineStatus
    kind: LineKind
    details: str
    reason: str
    paid_in_cents: int
    withdrawn_cents: int
    balance_cents: int | None
    party: str
    linked: str
    account: str

    @property
    def moved_cents(self) -> int:
        """What it did to the account: in positive, out negative; nothing unless it was completed."""
        return self.paid_in_cents - self.withdrawn_cents if self.status is LineStatus.COMPLETED else 0


@dataclass(frozen=True, slots=True)
class StatementFile:
    """A statement that was read whole, oldest line first.

    `covers_from` and `covers_to` are what it says of itself, or else its oldest and newest line. It is
    `whole` where every balance follows from the one before, so that no line can have been left out;
    `broken_at` has the first line whose balance does not follow.
    """

    name: str
    digest: str
    shortcode: str | None
    lines: list[Line]
    covers_from: datetime
    covers_to: datetime
    whole: bool
    broken_at: int | None

    @property
    def opening_cents(self) -> int | None:
        """The balance before the oldest movement."""
        first = next((line for line in self.lines if line.balance_cents is not None and line.moved_cents), None)
        return None if first is None or first.balance_cents is None else first.balance_cents - first.moved_cents

    @property
    def closing_cents(self) -> int | None:
        """The balance after the newest movement."""
        return next((line.balance_cents for line in reversed(self.lines) if line.balance_cents is not None), None)


def read_statement(name: str, content: bytes) -> StatementFile:
    """Read a statement, whichever of the two formats it has.

    Raises:
        FileRefused: it is no statement, or a line could be read in two ways; every such line is named.
        ConfigurationError: it is a workbook, and the package that reads one is not installed.
    """
    digest = hashlib.sha256(content).hexdigest()
    rows = _sheet_rows(name, content) if content[:4] == b"PK\x03\x04" else _text_rows(name, content)
    before: list[str] = []
    for number, cells in rows:
        if _is_header(cells):
            return _read_lines(name, digest, before, _columns(name, number, cells), rows)
        before.append(" ".join(cell for cell in cells if cell))
        if len(before) > MOST_LINES_BEFORE:
            break
    raise _refused(
        name,
        [Problem(1, "", "no header of a statement stands in it: Receipt No., Completion Time, Details, ...")],
        hint="Export it from the M-Pesa portal as CSV or XLSX, for the organisation's utility account.",
    )


def _refused(name: str, problems: Sequence[Problem], *, hint: str | None = None) -> FileRefused:
    return FileRefused(
        name,
        problems,
        hint=hint or "Export it again from the M-Pesa portal, and do not edit it. Nothing of it was taken in.",
    )


# --- The two formats ------------------------------------------------------------------------------------------

#: A line's number and its cells.
Row = tuple[int, list[str]]


def _text_rows(name: str, content: bytes) -> Iterator[Row]:
    if not content.strip():
        raise _refused(name, [Problem(1, "", "the file is empty")])
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _refused(name, [Problem(1, "", "it is UTF-16, and UTF-8 is needed: save it as `CSV UTF-8`")])
    try:
        text = content.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(name, [Problem(line, "", f"it is not UTF-8: byte 0x{content[error.start]:02x}")]) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _refused(name, [Problem(line, "", "it holds a NUL character: this is no text file")])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    return _csv_rows(name, reader)


def _csv_rows(name: str, reader: Iterator[list[str]]) -> Iterator[Row]:
    while True:
        first = getattr(reader, "line_num", 0) + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _refused(name, [Problem(first, "", f"it cannot be split into columns: {error}")]) from error
        yield first, [cell.strip() for cell in cells]


def _separator(text: str) -> str:
    """What parts the columns of the header line; a comma where no line looks like one."""
    for line in io.StringIO(text):
        if "receipt no" in line.casefold():
            for separator in (",", ";", "\t"):
                if _is_header([cell.strip().strip('"') for cell in line.split(separator)]):
                    return separator
    return ","


def _sheet_rows(name: str, content: bytes) -> Iterator[Row]:
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise ConfigurationError(
            f"{name} is a workbook, and the package that reads one is not installed. Nothing was changed.",
            hint="Install it: pip install 'kasoko[xlsx]'. Or export the statement as CSV.",
        ) from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            unpacked = sum(part.file_size for part in packed.infolist())
        if unpacked > MOST_UNPACKED_BYTES:
            raise _refused(name, [Problem(1, "", "it unpacks to more than a gigabyte: this is no statement")])
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise _refused(name, [Problem(1, "", "it is no workbook that can be read")]) from error
    if len(book.worksheets) != 1:
        raise _refused(name, [Problem(1, "", f"it has {len(book.worksheets)} sheets, and one is wanted")])
    sheet = book.worksheets[0]
    sheet.reset_dimensions()  # what a writer claims of its size is often wrong
    for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        yield number, [_cell(value) for value in row]


def _cell(value: object) -> str:
    """A cell as text. Excel keeps an amount as a binary fraction: its shortest decimal is the amount."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}"
    return str(value).strip()


def _is_header(cells: Sequence[str]) -> bool:
    return {"receipt no", "completion time"} <= {_plain(cell) for cell in cells}


def _plain(cell: str) -> str:
    return " ".join(cell.casefold().split()).rstrip(".:")


def _columns(name: str, number: int, cells: Sequence[str]) -> dict[str, int]:
    """Where each column stands."""
    found: dict[str, int] = {}
    problems = []
    for place, cell in enumerate(cells):
        plain = _plain(cell)
        if plain in _SPELT and plain in found:
            problems.append(Problem(number, _SPELT[plain], "the column is there twice"))
        if plain in _SPELT:
            found[plain] = place
    problems += [Problem(number, _SPELT[column], "the column is missing") for column in _NEEDED if column not in found]
    if problems:
        raise _refused(name, problems)
    return found


# --- Lines ----------------------------------------------------------------------------------------------------


def _read_lines(
    name: str, digest: str, before: Sequence[str], columns: dict[str, int], rows: Iterable[Row]
) -> StatementFile:
    problems: list[Problem] = []
    lines = []
    widest = max(columns.values()) + 1
    for number, cells in rows:
        if not any(cells):
            continue
        if len(cells) < widest:
            problems.append(Problem(number, "", f"it has {len(cells)} columns, and the header has {widest} or more"))
            continue
        line = _Reading(number, cells, columns, problems).line()
        if line is not None:
            lines.append(line)
    if not lines and not problems:
        problems.append(Problem(1, "", "no line follows the header: a statement without movements says nothing"))
    if problems:
        raise _refused(name, problems)
    newest_first = lines[0].completed_at >= lines[-1].completed_at
    if newest_first:
        lines.reverse()
    broken_at = _broken(lines)
    lines.sort(key=lambda line: line.completed_at)  # stable: within a second the order of the file stands
    said = _period(before)
    return StatementFile(
        name=name,
        digest=digest,
        shortcode=_shortcode(before),
        lines=lines,
        covers_from=said[0] if said else lines[0].completed_at,
        covers_to=said[1] if said else lines[-1].completed_at,
        whole=broken_at is None,
        broken_at=broken_at or None,
    )


def _broken(lines: Sequence[Line]) -> int | None:
    """The first line whose balance does not follow from the one before; 0 where no balance is told at all."""
    told = [line for line in lines if line.moved_cents]
    if not told or any(line.balance_cents is None for line in told):
        return 0
    balance = None
    for line in told:
        assert line.balance_cents is not None
        if balance is not None and line.balance_cents != balance + line.moved_cents:
            return line.number
        balance = line.balance_cents
    return None


def _period(before: Sequence[str]) -> tuple[datetime, datetime] | None:
    """The time that the statement says it covers, where it says so."""
    for text in before:
        if found := _PERIOD.search(text):
            times = [_time(part) for part in (found[1], found[11])]
            if times[0] and times[1] and times[0] <= times[1]:
                return times[0], times[1]
    return None


def _shortcode(before: Sequence[str]) -> str | None:
    for text in before:
        if found := _SHORTCODE.search(text):
            return found[1]
    return None


def _time(text: str) -> datetime | None:
    """A time of a statement, in UTC; None where it is no time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day = (found[1], found[2], found[3]) if found[1] else (found[6], found[5], found[4])
    try:
        local = datetime(int(year), int(month), int(day), int(found[7]), int(found[8]), int(found[9]), tzinfo=NAIROBI)
    except ValueError:
        return None
    return local.astimezone(UTC)


class _Reading:
    """One line while it is read; what is wrong with it goes to `problems`."""

    def __init__(self, number: int, cells: Sequence[str], columns: dict[str, int], problems: list[Problem]) -> None:
        self.number, self.cells, self.columns, self.problems = number, cells, columns, problems
        self.wrong = False

    def line(self) -> Line | None:
        """The line, or None where something is wrong with it."""
        receipt = self._text("receipt no").upper()
        if _RECEIPT.fullmatch(receipt) is None:
            self._note("receipt no", f"{quoted(receipt)} is no receipt")
        completed_at = self._when("completion time")
        initiated_at = self._when("initiation time") if self._text("initiation time") else None
        word = self._text("transaction status").casefold()
        status = _STATUSES.get(word)
        if status is None:
            self._note("transaction status", f"{quoted(word)} is no status of a transaction that is known here")
        paid_in, withdrawn = self._cents("paid in"), abs(self._cents("withdrawn"))
        balance = self._cents("balance") if self._text("balance") else None
        if paid_in < 0:
            self._note("paid in", "it is below zero, and it is not said what that means")
        if paid_in and withdrawn:
            self._note("withdrawn", "money came in and went out on one line")
        if status is LineStatus.COMPLETED and not (paid_in or withdrawn):
            self._note("paid in", "it is completed, and no money moved")
        if self.wrong or completed_at is None or status is None:
            return None
        details, reason = self._text("details"), self._text("reason type")
        told = (receipt, status.value, completed_at.isoformat(), str(paid_in), str(withdrawn), str(balance), reason)
        return Line(
            number=self.number,
            key=hashlib.sha256("\n".join(told).encode()).hexdigest()[:24],
            receipt=receipt,
            completed_at=completed_at,
            initiated_at=initiated_at,
            status=status,
            kind=_kind(reason or details, details, paid_in, withdrawn),
            details=details,
            reason=mask_in(reason)[:200],
            paid_in_cents=paid_in,
            withdrawn_cents=withdrawn,
            balance_cents=balance,
            party=_party(self._text("other party info")),
            linked=self._text("linked transaction id").upper(),
            account=self._text("a/c no"),
        )

    def _text(self, column: str) -> str:
        place = self.columns.get(column)
        return self.cells[place] if place is not None and place < len(self.cells) else ""

    def _note(self, column: str, what: str) -> None:
        self.wrong = True
        self.problems.append(Problem(self.number, _SPELT[column], what))

    def _when(self, column: str) -> datetime | None:
        text = self._text(column)
        moment = _time(text)
        if moment is None:
            self._note(column, f"{quoted(text)} is no time. Known: 2026-11-23 08:05:09 and 23-11-2026 08:05:09")
        return moment

    def _cents(self, column: str) -> int:
        text = self._text(column).removeprefix("KES ").replace("- ", "-")
        if text in ("", "-"):
            return 0
        cents = 0
        if _AMOUNT.fullmatch(text):
            whole, _, part = text.replace(",", "").lstrip("-").partition(".")
            cents = int(whole) * 100 + int(part.ljust(2, "0") or 0)
        if not _AMOUNT.fullmatch(text) or cents > MAX_CENTS:
            self._note(column, f"{quoted(text)} is no amount. Known: 1,234.50 and -1234.5")
            return 0
        return -cents if text.startswith("-") else cents


def _kind(reason: str, details: str, paid_in: int, withdrawn: int) -> LineKind:
    if _CHARGE.search(reason):
        return LineKind.CHARGE if withdrawn or not paid_in else LineKind.OTHER
    if paid_in and (_BACK.search(reason) or _BACK.search(details)):
        return LineKind.BACK
    if _PAYOUT.search(reason):
        return LineKind.PAYOUT if withdrawn or not paid_in else LineKind.BACK
    return LineKind.CUSTOMER if paid_in and _CUSTOMER.search(reason) else LineKind.OTHER


def _party(text: str) -> str:
    found = _PARTY.match(text)
    if found is None:
        return ""
    digits = found[1]
    if digits.startswith("0"):
        digits = "254" + digits[1:]
    return digits


def is_party(phone: str, shown: str) -> bool:
    """Whether a number may be the one that a statement shows, whole or with stars in its middle.

    Three digits at its end are needed; fewer say nothing.
    """
    if "*" not in shown:
        return phone == shown
    start, end = shown.split("*", 1)[0], shown.rsplit("*", 1)[1]
    return len(end) >= 3 and phone.startswith(start) and phone.endswith(end)
