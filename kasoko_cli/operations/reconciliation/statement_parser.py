"""M-Pesa's organisation statement as a file: CSV or XLSX in, exact lines out, or a refusal with line numbers.

A statement is a few lines about the organisation, a header, and a line for each movement, newest first.
What can be read in one way only is read: a byte order mark, line ends of any kind, commas, semicolons or
tabs, amounts with thousands separators, times in both spellings. Whatever could be read in two ways is
refused, since a line that is misread here would end a payout wrongly.

What a line is, is not decided here: `kind` is only what the words of its reason type say, and they are the last
thing to be believed (`statement_matching`).

Times are Nairobi's in the file, UTC from here on. Amounts are cents, never below zero.

Source: the operator's statements of the M-Pesa organisation portal.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from kasoko_cli.domain.money import MAX_CENTS
from kasoko_cli.domain.payout import fold_receipt
from kasoko_cli.domain.phone import mask_in, quoted
from kasoko_cli.operations.reconciliation.statement_party import Party, read_party
from kasoko_cli.operations.reconciliation.statement_preamble import Lead, is_kes, read_lead
from kasoko_cli.operations.reconciliation.statement_rows import Layout, RowKind, SkippedRow, Sums, Times
from kasoko_cli.operations.shared.record_files import FileRefused, Problem
from kasoko_cli.operations.shared.table_files import NumberedCells, Source, read_table, without_noise

#: No line of a statement comes near these: so much text in a cell, so many cells.
MOST_CHARACTERS, MOST_COLUMNS = 2_000, 100

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
#: What every movement has; the other columns of those that are needed may be empty.
_NEVER_EMPTY = tuple(name for name in _NEEDED if name not in ("paid in", "withdrawn", "other party info"))
_CURRENCIES = ("currency", "currency code", "ccy")
_OPTIONAL = ("initiation time", "balance", "balance confirmed", "linked transaction id", "a/c no", *_CURRENCIES)

#: As M-Pesa's header writes them, for messages.
_SPELT = {name: name.title().replace(" No", " No.").replace("A/C No.", "A/C No.") for name in (*_NEEDED, *_OPTIONAL)}

#: So many of its columns, at least, make a line a header; what is missing of them is named.
_FEW = 3

_AMOUNT = re.compile(r"-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]{1,2})?")
_RECEIPT = re.compile(r"[A-Z0-9]{6,20}")
#: Reason types of payments to customers. Some of them have "Charge" in their name, and are payments all the same:
#: "Business Payment to Customer Withdrawal Charge Paid via API", "Salary Payment to Customer Withdrawal Charge Paid
#: via API", "MMI Transfer to Customer via API", "Promotion Payment to Customer". Source: the M-Pesa portal.
_TO_CUSTOMER = re.compile(r"\b(payment|transfer|disbursement) to customer\b(?! charges?$)", re.IGNORECASE)
_CHARGE = re.compile(r"\b(charges?|fees?|tariff)\b", re.IGNORECASE)
_BACK = re.compile(r"\b(revers(al|ed|e)|return(ed)?)\b", re.IGNORECASE)
_PAYOUT = re.compile(r"\b(business|salary|promotion) ?payment\b|\bb2c\b", re.IGNORECASE)
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
    """What the words of a movement's reason type say that it is, with its direction. They may be wrong."""

    PAYOUT = "payout"  #: to a customer
    CHARGE = "charge"  #: what M-Pesa bills
    BACK = "back"  #: money of an earlier movement that came back
    CUSTOMER = "customer"  #: from a customer
    OTHER = "other"  #: anything else, such as a transfer between accounts


@dataclass(frozen=True, slots=True)
class Line:
    """One movement."""

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
    party: Party
    linked: str
    account: str

    @property
    def moved_cents(self) -> int:
        """What it did to the account: in positive, out negative; nothing unless it was completed."""
        return self.paid_in_cents - self.withdrawn_cents if self.status is LineStatus.COMPLETED else 0


#: How late a line may still appear on a statement: of the last hour before its end it proves no absence.
LINES_APPEAR_LATE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when a statement can prove by silence; nothing where the two are one."""

    first: datetime
    last: datetime

    def covers(self, first: datetime, last: datetime) -> bool:
        """Whether all of this time is within it."""
        return self.first <= first < last <= self.last


@dataclass(frozen=True, slots=True)
class StatementFile:
    """A statement that was read whole, oldest line first.

    `lead` is what it says of itself, its time too; what it shows is `span`. It is `whole` where every balance
    follows from the one before, and every total from the lines before it, so that no line between two others can
    have been left out; `broken_at` has the first line that does not follow. `left_out` are rows that are no movements.
    """

    name: str
    digest: str
    lead: Lead
    lines: list[Line]
    whole: bool
    broken_at: int | None
    left_out: tuple[SkippedRow, ...] = ()
    sheet: str | None = None

    def span(self, now: datetime) -> Span:
        """What it covers: from its first movement to its last, less what may appear late.

        Balances show that nothing was left out between two movements, and nothing shows it before the first or
        after the last: a portal cuts what it exports, and a period may be asked for that is not over. So what it
        says of its own time, and the time at which the file was made, can only make this shorter.
        """
        moved = [line.completed_at for line in self.lines if line.moved_cents] or [self.lines[-1].completed_at]
        first, last = moved[0], min(moved[-1], now)
        if self.lead.period is not None:
            first, last = max(first, self.lead.period[0]), min(last, self.lead.period[1])
        if self.lead.made_at is not None:
            last = min(last, self.lead.made_at)
        return Span(first, max(first, last - LINES_APPEAR_LATE))

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
    """
    digest = hashlib.sha256(content).hexdigest()
    table = read_table(Source(name, io.BytesIO(content), hint=_EXPORT_AGAIN), _is_header)
    above = [cells for _, cells in _bounded(name, table.above)]
    if table.header is None:
        where = f" on any of its sheets: {', '.join(table.sheets)}" if len(table.sheets) > 1 else ""
        what = f"no header of a statement stands in it{where}: Receipt No., Completion Time, Details, ..."
        raise _refused(
            name,
            [Problem(1, "", what)],
            hint="Export it from the M-Pesa portal as CSV or XLSX, for the organisation's utility account.",
        )
    if table.also:
        sheets = " and ".join(map(repr, (table.sheet, *table.also)))
        raise _refused(name, [Problem(1, "", f"its sheets {sheets} have a statement each, and one is wanted")])
    [(number, cells)] = _bounded(name, [table.header])
    lead = read_lead(above)
    saved_at = _saved_at(content) if table.sheet is not None else None
    made = [at for at in (lead.made_at, saved_at) if at is not None]
    lead = replace(lead, made_at=min(made, default=None))
    columns = _columns(name, number, cells)
    is_cut = table.sheet is None and content.rstrip(b"\0")[-1:] not in (b"\r", b"\n")
    shape = Layout(columns, cells, above, table.delimiter, _NEVER_EMPTY)
    file = _read_lines(name, digest, lead, shape, _bounded(name, table.rows), is_cut=is_cut)
    return replace(file, sheet=table.sheet if len(table.sheets) > 1 else None)


_HAS_ALL = (
    "The statement of the organisation's utility account, exported whole from the M-Pesa portal, has them all:"
    f" {', '.join(_SPELT[name] for name in _NEEDED)}. A search of transactions, a summary, and a customer's own"
    " statement have fewer."
)
_EXPORT_AGAIN = "Export it again from the M-Pesa portal, and do not edit it. Nothing of it was taken in."


def _refused(name: str, problems: Sequence[Problem], *, hint: str = _EXPORT_AGAIN) -> FileRefused:
    return FileRefused(name, problems, hint=hint)


def _unreadable(name: str, line: int, what: str) -> FileRefused:
    return _refused(name, [Problem(line, "", what)])


def _bounded(name: str, rows: Iterable[NumberedCells]) -> Iterator[NumberedCells]:
    """The rows, held to be no longer than a statement's: what is, is looked at no further."""
    for number, cells in rows:
        if len(cells) > MOST_COLUMNS:
            raise _unreadable(name, number, f"it has {len(cells):,} columns: this is no statement")
        for place, cell in enumerate(cells, start=1):
            if len(cell) > MOST_CHARACTERS:
                what = f"its column {place} has {len(cell):,} characters: this is no statement"
                raise _unreadable(name, number, what)
        yield number, cells


_SAVED = re.compile(rb"<dcterms:(modified|created)[^<>]{0,200}>\s{0,20}([0-9TZ:+.-]{1,40})\s{0,20}</dcterms:\1>")


def _saved_at(content: bytes) -> datetime | None:
    """When a workbook was last saved, as it says of itself: nothing in it is from later."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            said = {what: text.decode() for what, text in _SAVED.findall(packed.read("docProps/core.xml"))}
    except (KeyError, RuntimeError, zipfile.BadZipFile):
        return None
    for what in (b"modified", b"created"):
        with contextlib.suppress(ValueError):
            at = datetime.fromisoformat(said.get(what, ""))
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    return None


def _is_header(cells: Sequence[str]) -> bool:
    names = {_plain(cell) for cell in cells} & _SPELT.keys()
    return len(names) >= _FEW and bool(names & {"receipt no", "completion time"})


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
        raise _refused(name, problems, hint=_HAS_ALL)
    return found


# --- Lines ----------------------------------------------------------------------------------------------------


def _read_lines(
    name: str, digest: str, lead: Lead, shape: Layout, rows: Iterable[NumberedCells], *, is_cut: bool
) -> StatementFile:
    problems: list[Problem] = []
    lines: list[Line] = []
    left_out: list[SkippedRow] = []
    times, sums = Times(), Sums()
    number, cells = 0, list(shape.header)
    for number, cells in rows:
        if not any(cells):
            continue
        if (what := shape.kind_of(cells)) is not None:
            left_out.append(SkippedRow(number, what))
            if what is RowKind.TOTAL:
                sums.compare(number, *(_Reading(number, cells, shape.columns, [], times).total()))
            elif what is RowKind.REMARK and (made := read_lead([cells]).made_at) is not None:
                lead = replace(lead, made_at=min(made, lead.made_at or made))
            continue
        if wrong := shape.wrong(cells):
            problems.append(Problem(number, "", wrong))
            continue
        line = _Reading(number, cells, shape.columns, problems, times).line()
        if line is not None:
            lines.append(line)
            if line.moved_cents:
                sums.add(line.paid_in_cents, line.withdrawn_cents)
    if is_cut and len(cells) < shape.width and (not left_out or left_out[-1].line != number):
        what_is_cut = f"the file ends within this line, after {len(cells)} of {shape.width} columns: it is not whole"
        problems.append(Problem(number, "", what_is_cut))
    problems += times.problems(_SPELT.__getitem__)
    if not lines and not problems:
        problems.append(Problem(1, "", "no line follows the header: a statement without movements says nothing"))
    if problems:
        raise _refused(name, problems)
    newest_first = lines[0].completed_at >= lines[-1].completed_at
    if newest_first:
        lines.reverse()
    broken_at = _broken(lines) if sums.broken_at is None else sums.broken_at
    lines.sort(key=lambda line: line.completed_at)  # stable: within a second the order of the file stands
    return StatementFile(
        name=name,
        digest=digest,
        lead=lead,
        lines=lines,
        whole=broken_at is None,
        broken_at=broken_at or None,
        left_out=tuple(left_out),
    )


def _broken(lines: Sequence[Line]) -> int | None:
    """The first line whose balance does not follow from the one before; 0 where no balance is told at all."""
    moved = [line for line in lines if line.moved_cents]
    told = [(line, line.balance_cents) for line in moved if line.balance_cents is not None]
    if not told or len(told) < len(moved):
        return 0
    pairs = ((line, before + line.moved_cents, balance) for (_, before), (line, balance) in pairwise(told))
    return next((line.number for line, follows, balance in pairs if balance != follows), None)


class _Reading:
    """One line while it is read; what is wrong with it goes to `problems`."""

    def __init__(
        self,
        number: int,
        cells: Sequence[str],
        columns: Mapping[str, int],
        problems: list[Problem],
        times: Times,
    ) -> None:
        self.number, self.cells, self.columns, self.problems, self.times = number, cells, columns, problems, times
        self.wrong = False

    def total(self) -> tuple[int | None, int | None]:
        """What a row of totals has under the two columns of money, in cents; None for what cannot be read there."""
        found = []
        for column in ("paid in", "withdrawn"):
            self.wrong = False
            cents = abs(self._cents(column))
            found.append(None if self.wrong or not self._text(column) else cents)
        return found[0], found[1]

    def line(self) -> Line | None:
        """The line, or None where something is wrong with it."""
        receipt = fold_receipt(self._text("receipt no"))
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
        for column in _CURRENCIES:
            if not is_kes(word := self._text(column)):
                self._note(column, f"{quoted(word)} is no Kenyan shilling, and these books are in nothing else")
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
            kind=_kind(reason, paid_in),
            details=details,
            reason=mask_in(reason)[:200],
            paid_in_cents=paid_in,
            withdrawn_cents=withdrawn,
            balance_cents=balance,
            party=read_party(self._text("other party info")),
            linked=fold_receipt(self._text("linked transaction id")),
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
        moment = self.times.read(self.number, column, text)
        if moment is None:
            known = "2026-11-23 08:05:09, 23-11-2026 08:05:09 and 23/11/2026 08:05"
            self._note(column, f"{quoted(text)} is no time. Known: {known}")
        return moment

    def _cents(self, column: str) -> int:
        text = without_noise(self._text(column).removeprefix("KES ").replace("- ", "-"))
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


def _kind(reason: str, paid_in: int) -> LineKind:
    """What the reason type says. Details and account numbers are other people's words, and say nothing."""
    reason = reason.strip()
    if _TO_CUSTOMER.search(reason):
        return LineKind.BACK if paid_in else LineKind.PAYOUT
    if _CHARGE.search(reason):
        return LineKind.OTHER if paid_in else LineKind.CHARGE
    if paid_in and _BACK.search(reason):
        return LineKind.BACK
    if _PAYOUT.search(reason):
        return LineKind.BACK if paid_in else LineKind.PAYOUT
    return LineKind.CUSTOMER if paid_in and _CUSTOMER.search(reason) else LineKind.OTHER
