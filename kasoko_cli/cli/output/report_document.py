"""A report as facts, tables and charts, whatever it is about; and as CSV or XLSX.

A cell is a text, a whole number, an amount in cents or a time; each form writes it in its own way. Text from
outside is only text: no formula in a spreadsheet, no control character anywhere.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kasoko_cli.cli.output import render
from kasoko_cli.clock import NAIROBI, iso
from kasoko_cli.domain.money import format_kes, plain_kes
from kasoko_cli.operations.shared.record_files import guard


class Cents(NamedTuple):
    """An amount of money as a cell."""

    cents: int


Value = str | int | bool | Cents | date | datetime | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars: a label, and an amount or a count for each of some series."""

    title: str
    series: Sequence[str]
    bars: Sequence[tuple[str, Sequence[int]]]
    is_money: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; `name` is a word, for the sheet of a workbook and for --table."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A whole report. The first table is the one that CSV has unless another is named."""

    title: str
    subtitle: str
    facts: Sequence[tuple[str, Value]]
    tables: Sequence[Table]
    charts: Sequence[Chart] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)

    def table(self, name: str) -> Table | None:
        """The table with this name."""
        return next((one for one in self.tables if one.name == name), None)


def shown(value: Value) -> str:
    """A cell for people: amounts with two decimals, times as a clock in Nairobi shows them."""
    if value is None:
        return ""
    if isinstance(value, Cents):
        return format_kes(value.cents)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.astimezone(NAIROBI).strftime("%Y-%m-%d %H:%M:%S")
    return render.clean(str(value))


def told(value: Value) -> str:
    """A fact for people: as a cell, with the currency."""
    return f"KES {shown(value)}" if isinstance(value, Cents) else shown(value)


def is_number(value: Value) -> bool:
    """Whether it stands to the right."""
    return isinstance(value, Cents) or (isinstance(value, int) and not isinstance(value, bool))


def to_csv(table: Table) -> str:
    """One table: amounts in shillings with two decimals and no separators, times in UTC."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_plain(value) for value in row] for row in table.rows)
    return out.getvalue()


def _plain(value: Value) -> str | int:
    if isinstance(value, Cents):
        return plain_kes(value.cents)
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, str):
        return guard(render.clean(value))
    if value is None or isinstance(value, bool | date):
        return shown(value)
    return value


def to_xlsx(sheet: Sheet) -> bytes:
    """A workbook: a page of facts, and a page for each table. Numbers are numbers, text is never a formula."""
    from openpyxl import Workbook
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=True)
    page = book.create_sheet("Summary")
    page.column_dimensions["A"].width, page.column_dimensions["B"].width = 28, 48
    page.append([_cell(page, sheet.title, is_bold=True)])
    page.append([_cell(page, sheet.subtitle)])
    page.append([])
    for fact in sheet.facts:
        page.append([_cell(page, value) for value in fact])
    page.append([])
    for note in sheet.notes:
        page.append([_cell(page, note)])
    for table in sheet.tables:
        page = book.create_sheet(table.name.title()[:31])
        page.freeze_panes = "A2"
        for place in range(1, len(table.columns) + 1):
            page.column_dimensions[get_column_letter(place)].width = 16
        page.append([_cell(page, name, is_bold=True) for name in table.columns])
        for row in table.rows:
            page.append([_cell(page, value) for value in row])
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def _cell(page: Any, value: Value, *, is_bold: bool = False) -> Any:
    """A cell of a page that is written row by row; None where it is empty."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font

    if value is None:
        return None
    cell = WriteOnlyCell(page)
    if isinstance(value, Cents):
        cell.value, cell.number_format = Decimal(value.cents) / 100, "#,##0.00"
    elif isinstance(value, int) and not isinstance(value, bool):
        cell.value, cell.number_format = value, "#,##0"
    elif isinstance(value, datetime):
        cell.value, cell.number_format = value.astimezone(NAIROBI).replace(tzinfo=None), "yyyy-mm-dd hh:mm:ss"
    elif isinstance(value, date):
        cell.value, cell.number_format = value, "yyyy-mm-dd"
    else:
        cell.value = shown(value)
        cell.data_type = "s"  # text that begins like a formula is still text
    if is_bold:
        cell.font = Font(bold=True)
    return cell
