"""Workbooks as a spreadsheet program writes them, from the rows of each sheet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from openpyxl import Workbook


class Shown(NamedTuple):
    """A number and the form in which its cell shows it."""

    value: float
    form: str


def workbook(sheets: Mapping[str, Sequence[Sequence[object]]]) -> bytes:
    """A workbook: the rows of each sheet by its name."""
    made = Workbook()
    made.remove(made.worksheets[0])
    for title, its_rows in sheets.items():
        sheet = made.create_sheet(title)
        for row in its_rows:
            sheet.append([cell.value if isinstance(cell, Shown) else cell for cell in row])
            for place, cell in enumerate(row, start=1):
                if isinstance(cell, Shown):
                    sheet.cell(sheet.max_row, place).number_format = cell.form
    kept = io.BytesIO()
    made.save(kept)
    return kept.getvalue()
