"""A report as facts, tables and charts, whatever it is about; and as CSV or XLSX.

A cell is a text, a whole number, an amount in cents or a time; each form writes it in its own way. Text from
outside is only text: no formula in a spreadsheet, no control character anywhere.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kasoko_cli.cli.output import render
from kasoko_cli.clock import NAIROBI, iso
from kasoko_cli.domain.money import format_kes, plain_kes
from kasoko_cli.errors import ConfigurationError
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
    """A workbook: a page of facts, and a page for each table. Numbers are numbers, text is never a formula.

    Raises:
        ConfigurationError: the package that writes it is not installed.
    """
    try:
        import xlsxwriter
    except ImportError as error:
        raise ConfigurationError(
            "XLSX needs the package XlsxWriter, which is not installed. Nothing was written.",
            hint="Install it: pip install 'kasoko[xlsx]'. Or take --format csv.",
        ) from error
    safe = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    made = io.BytesIO()
    with xlsxwriter.Workbook(made, {**safe, "constant_memory": True, "remove_timezone": True}) as book:
        bold = book.add_format({"bold": True})
        formats = {
            "money": book.add_format({"num_format": "#,##0.00"}),
            "whole": book.add_format({"num_format": "#,##0"}),
            "time": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            "day": book.add_format({"num_format": "yyyy-mm-dd"}),
        }
        page = book.add_worksheet("Summary")
        page.set_column(0, 0, 28)
        page.set_column(1, 1, 48)
        page.write_string(0, 0, render.clean(sheet.title), bold)
        page.write_string(1, 0, render.clean(sheet.subtitle))
        for number, (name, value) in enumerate(sheet.facts, start=3):
            page.write_string(number, 0, name)
            _write(page, number, 1, value, formats)
        for number, note in enumerate(sheet.notes, start=4 + len(sheet.facts)):
            page.write_string(number, 0, render.clean(note))
        for table in sheet.tables:
            page = book.add_worksheet(table.name.title()[:31])
            page.freeze_panes(1, 0)
            for place, name in enumerate(table.columns):
                page.set_column(place, place, 16)
                page.write_string(0, place, name, bold)
            for number, row in enumerate(table.rows, start=1):
                for place, value in enumerate(row):
                    _write(page, number, place, value, formats)
    return made.getvalue()


def _write(page: Any, row: int, place: int, value: Value, formats: Mapping[str, Any]) -> None:
    if value is None:
        return
    if isinstance(value, Cents):
        page.write_number(row, place, Decimal(value.cents) / 100, formats["money"])
    elif isinstance(value, int) and not isinstance(value, bool):
        page.write_number(row, place, value, formats["whole"])
    elif isinstance(value, datetime):
        page.write_datetime(row, place, value.astimezone(NAIROBI), formats["time"])
    elif isinstance(value, date):
        page.write_datetime(row, place, value, formats["day"])
    else:
        page.write_string(row, place, shown(value))
