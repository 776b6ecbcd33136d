"""Rows of a statement before they are movements: whether each has its cells in their columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: Two neighbouring cells that were one amount, before a comma in it parted them.
_TORN = re.compile(r"-?[0-9]{1,3},[0-9]{3}(?:\.[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a statement, and how many cells its header has; `delimiter` is None in a workbook.

    A spreadsheet leaves out empty cells at the end of a row, and columns that have no name. In a text, a row of
    another length may also have slipped, or been cut.
    """

    columns: Mapping[str, int]
    width: int
    delimiter: str | None
    needed: Sequence[str]

    def wrong(self, cells: Sequence[str]) -> str | None:
        """Why these cells may not stand under their columns; None where they do."""
        if self.delimiter is None or len(cells) == self.width:
            return None
        is_torn = self.delimiter == "," and any(_TORN.fullmatch(f"{left},{right}") for left, right in pairwise(cells))
        is_long = any(cells[self.width :])
        is_short = len(cells) <= max(self.columns[name] for name in self.needed)
        if is_torn or is_long or is_short:
            return f"it has {len(cells)} columns, and the header has {self.width}"
        return None
