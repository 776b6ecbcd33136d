"""Rows of a statement before they are movements: whether their cells stand in their columns, and what is no movement.

A row is left out only where it can be nothing but a total, a heading that comes again or a remark: what may be a
damaged payment refuses the file, since silence about a payment can prove that it was not made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kasoko_cli.operations.reconciliation.statement_preamble import MADE, TIME, time_of
from kasoko_cli.operations.shared.record_files import Problem
from kasoko_cli.operations.shared.table_files import is_torn

#: An amount of money, in a row that is no movement.
_MONEY = re.compile(r"(?:kes |ksh\.? )?-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?", re.IGNORECASE)
_TOTAL = re.compile(
    r"(?:(?:grand|sub|page|overall) ?-?)?totals?(?: (?:amounts?|paid in|withdrawn|charges|transactions|of page))?"
    r"|(?:opening|closing|starting|ending) balance|balance (?:[bc]/?f|brought forward|carried forward)",
    re.IGNORECASE,
)
#: How a remark begins that portals and aggregators put below a statement.
_REMARK = re.compile(
    r"\W*(?:disclaimer|notes?\b|n\.?b\b|terms\b|this (?:statement|report|document|record)\b|page [0-9]+\b"
    r"|end of (?:statement|report|file|page|document)\b)",
    re.IGNORECASE,
)
_WORD = re.compile(r"\b[A-Za-z]{2,}\b")
#: How many words make a sentence, which no damaged movement is.
_SENTENCE = 5
#: What a movement leaves behind however it is damaged: a receipt, an amount, its words.
_OF_A_PAYMENT = re.compile(
    r"\b(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{8,}\b|[0-9][.,][0-9]|[0-9][*x#•.-]{3,}"
    r"|\b(?:payment|transfer|disbursement) to\b|\bb2c\b|\b(?:completed|failed|declined|pending)\b",
    re.IGNORECASE,
)
_PHONE = re.compile(r"[0-9]{9,}")
_DATED = re.compile(r"[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}|[0-9]:[0-9]{2}")


class RowKind(StrEnum):
    """What a row is that is no movement."""

    TOTAL = "total"  #: sums, or the balance at an end
    HEADER = "header"  #: the header, or a line above it, once more
    REMARK = "remark"  #: a disclaimer, the number of a page, when it was made


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was left out, by the number of its line."""

    line: int
    what: RowKind


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a statement, its header and the lines above that; `delimiter` is None in a workbook.

    A spreadsheet leaves out empty cells at the end of a row, and columns that have no name. In a text, a row of
    another length may also have slipped, or been cut. `needed` are the columns that every movement has.
    """

    columns: Mapping[str, int]
    header: Sequence[str]
    above: Sequence[Sequence[str]]
    delimiter: str | None
    needed: Sequence[str]

    @property
    def width(self) -> int:
        """How many cells the header has."""
        return len(self.header)

    def wrong(self, cells: Sequence[str]) -> str | None:
        """Why these cells may not stand under their columns; None where they do."""
        if self.delimiter is None or len(cells) == self.width:
            return None
        is_long = any(cells[self.width :])
        is_short = len(cells) <= max(self.columns[name] for name in self.needed)
        if (self.delimiter == "," and is_torn(cells)) or is_long or is_short:
            return f"it has {len(cells)} columns, and the header has {self.width}"
        return None

    def kind_of(self, cells: Sequence[str]) -> RowKind | None:
        """What a row is that can be no movement; None where it is one, or may be."""
        if self._begins_a_movement(cells):
            return None
        said = [cell for cell in cells if cell]
        if _told(cells) == _told(self.header):
            return RowKind.HEADER
        if sum(cell.rstrip(".:") in self.columns for cell in _told(cells)) > 1:
            return None  # the header of other columns
        labels = [cell for cell in said if _TOTAL.fullmatch(cell.rstrip(" :."))]
        if labels and all(cell in labels or _MONEY.fullmatch(cell) for cell in said) and self._has_no_receipt(cells):
            return RowKind.TOTAL
        text = " ".join(said)
        if _OF_A_PAYMENT.search(text):
            return None
        if any(_told(cells) == _told(line) for line in self.above):
            return RowKind.HEADER
        if any(_MONEY.fullmatch(cell) for cell in said):
            return None
        return RowKind.REMARK if _is_remark(text) else None

    def _begins_a_movement(self, cells: Sequence[str]) -> bool:
        """Whether a time stands in its column: nearly every row, and quickly told."""
        place = self.columns["completion time"]
        return place < len(cells) and TIME.fullmatch(cells[place]) is not None

    def _has_no_receipt(self, cells: Sequence[str]) -> bool:
        place = self.columns["receipt no"]
        return place >= len(cells) or not cells[place] or _TOTAL.fullmatch(cells[place].rstrip(" :.")) is not None


def _is_remark(text: str) -> bool:
    """Whether a text that has neither receipt nor amount is what people write below a table."""
    if _DATED.search(text):
        return MADE.match(text) is not None
    is_sentence = len(_WORD.findall(text)) >= _SENTENCE and _PHONE.search(text) is None
    return is_sentence or _REMARK.match(text) is not None


def _told(cells: Sequence[str]) -> list[str]:
    """The cells of a row as two rows are compared."""
    told = [" ".join(cell.casefold().split()) for cell in cells]
    while told and not told[-1]:
        told.pop()
    return told


@dataclass(slots=True)
class Sums:
    """What the totals of a statement have to be: of all movements so far, and of those since the last total."""

    paid_in: int = 0
    withdrawn: int = 0
    since: tuple[int, int] = (0, 0)
    #: The first total that is neither; lines may be missing then.
    broken_at: int | None = None

    def add(self, paid_in_cents: int, withdrawn_cents: int) -> None:
        """Count a movement."""
        self.paid_in += paid_in_cents
        self.withdrawn += withdrawn_cents

    def compare(self, number: int, paid_in_cents: int | None, withdrawn_cents: int | None) -> None:
        """Hold a total against what was counted; None is what it does not say."""
        fits = any(
            paid_in_cents in (None, self.paid_in - before_in) and withdrawn_cents in (None, self.withdrawn - before_out)
            for before_in, before_out in ((0, 0), self.since)
        )
        if not fits:
            self.broken_at = self.broken_at or number
        self.since = (self.paid_in, self.withdrawn)


@dataclass(slots=True)
class Times:
    """How the times of one file are written, and whether they can be read in one way only.

    `05/03/2026` is the fifth of March only where another date of the file shows that days come first. Two spellings in
    one file are what a spreadsheet makes that takes days for months: it changes those that it can.
    """

    #: The first time of each spelling in each column: its line, its column, its text.
    first: dict[tuple[str, str], tuple[int, str, str]] = field(default_factory=dict)
    shows_order: bool = False
    slashed: list[datetime] = field(default_factory=list)

    def read(self, number: int, column: str, text: str) -> datetime | None:
        """The time in UTC; None where it is none."""
        found, moment = TIME.fullmatch(text), time_of(text)
        if found is None or moment is None:
            return None
        date = "year" if found[1] else "/" if found[7] else "-"
        self.first.setdefault((column, f"{date} {bool(found[12])}"), (number, column, text))
        if date == "/":
            self.shows_order = self.shows_order or int(found[7]) > len(_MONTHS)
            if column == "completion time":
                self.slashed.append(moment)
        return moment

    def problems(self, spelt: Callable[[str], str]) -> list[Problem]:
        """What speaks against the reading of them."""
        found = []
        of_column: dict[str, tuple[int, str, str]] = {}
        for (column, _), (number, _, text) in self.first.items():
            line, _, other = of_column.setdefault(column, (number, column, text))
            if line != number:
                what = f"{text!r} is written in another way than {other!r} on line {line}"
                found.append(Problem(number, spelt(column), what))
        slash = next((first for (_, spelling), first in self.first.items() if spelling.startswith("/")), None)
        if slash is not None and not found:
            number, column, text = slash
            if not self.shows_order:
                what = f"{text!r} can be two days, and no date here shows which: export a time that goes past the 12th"
                found.append(Problem(number, spelt(column), what))
            elif self.slashed not in (ordered := sorted(self.slashed), ordered[::-1]):
                what = "its times go back and forth: days and months may have been turned round"
                found.append(Problem(number, spelt(column), what))
        return found


_MONTHS = range(12)
