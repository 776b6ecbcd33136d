"""Files of records: which columns they have, how they are to be read, and what is said of one that is not taken in."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from kasoko_cli.clock import NAIROBI
from kasoko_cli.domain.market import nearest
from kasoko_cli.domain.time_text import DateOrder
from kasoko_cli.errors import NotFound, Refused

if TYPE_CHECKING:
    pass

#: How many problems an error message names; the rest is counted.
SHOWN = 20

#: No record of ours comes near this; a longer line is another kind of file.
MOST_LINE_BYTES = 1 << 20

#: Past this many problems nobody reads suggestions, and looking for them would take long.
_MOST_SUGGESTIONS = 1_000

#: A spreadsheet takes a cell that begins so for a formula. Apostrophes before it count too, so that
#: one more can be added and taken away again without loss.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


class Format(StrEnum):
    """How a file holds its records."""

    CSV = "csv"  #: a header line, and columns parted by commas, semicolons or tabs
    JSONL = "jsonl"  #: one JSON object a line, UTF-8
    XLSX = "xlsx"  #: a workbook


#: Which format a file has, by its ending.
ENDINGS = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".txt": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".xlsx": Format.XLSX,
    ".xlsm": Format.XLSX,
}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one kind of file, in the order in which rows are handed on.

    `text` names those that hold people's words, which in CSV are guarded against being taken for formulas, `times`
    those that hold times. One of those in `one_of` must be there, each with what its numbers mean; `usual` are optional
    ones that we write.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    one_of: Mapping[str, str] = field(default_factory=dict)
    usual: tuple[str, ...] = ()

    @property
    def header(self) -> tuple[str, ...]:
        """The columns that a file of ours always has."""
        return self.required + self.usual

    @property
    def names(self) -> tuple[str, ...]:
        """Every column."""
        return self.required + self.optional


#: What `ReadAs.columns` says of a column that a file does not have.
NO_COLUMN = "-"


@dataclass(frozen=True, slots=True)
class ReadAs:
    """How a file is to be read, as far as somebody said so.

    `columns` says under which header a column of ours stands; `usual_columns` does, where that header is there.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    usual_columns: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo = NAIROBI
    zone_name: str = "Africa/Nairobi"
    order: DateOrder | None = None
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to be taken in: what people call it, its bytes, how it holds its records, and how it is to be read."""

    name: str
    stream: BinaryIO
    format: Format
    read_as: ReadAs = ReadAs()


class Row(NamedTuple):
    """One record: the line it stands on (the first is 1), and a value for each column, '' where there is none."""

    line: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line; `column` is empty where it is the whole line."""

    line: int
    column: str
    what: str

    def __str__(self) -> str:
        return f"line {self.line}{', ' if self.column else ''}{self.column}: {self.what}"


class FileRefused(Refused):
    """A file was not taken in; `problems` has every line that is wrong."""

    def __init__(self, name: str, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        shown = [f"  {problem}" for problem in problems[:SHOWN]]
        if more := len(problems) - len(shown):
            shown.append(f"  and {more:,} more.")
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        super().__init__(
            "\n".join([f"{name} was refused for {count}; nothing was changed.", *shown]),
            hint=hint
            or "Mend the file and import the whole of it again: what stands already is not taken twice."
            + (" See every problem: --json" if more else ""),
        )
        self.problems = tuple(problems)


class Problems:
    """What was found wrong so far."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def note(self, line: int, column: str, what: str) -> None:
        """Note that this is wrong."""
        self.found.append(Problem(line, column, what))

    def in_order(self) -> list[Problem]:
        """All of them by line."""
        return sorted(self.found, key=lambda problem: problem.line)

    def note_refusal(self, line: int, column: str, refused: Refused) -> None:
        """Note what a rule refused, with its advice."""
        advice = refused.hint.removeprefix("Nothing was changed.").strip()
        self.note(line, column, f"{refused.message.replace('; nothing was changed', '')} {advice}".strip())

    def suggestion(self, word: str, candidates: Sequence[str]) -> str:
        """` Did you mean 'Yes'?`, or nothing."""
        guess = nearest(word, candidates) if len(self.found) < _MOST_SUGGESTIONS else None
        return f" Did you mean {guess!r}?" if guess else ""


# --- Cells ---------------------------------------------------------------------------------------


def guard(cell: str) -> str:
    """The cell with an apostrophe before it, if a spreadsheet would take it for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguard(cell: str) -> str:
    """The cell that `guard` was given. An apostrophe that guards nothing is kept."""
    return cell[1:] if _GUARDED.match(cell) else cell


# --- Opening -------------------------------------------------------------------------------------


def open_input(path: Path) -> BinaryIO:
    """Open a file to be read.

    Raises:
        NotFound: it is not there, or cannot be read.
        Refused: it is a folder.
    """
    try:
        if path.is_dir():
            raise Refused(f"{path} is a folder; nothing was changed.", hint="Name the file in it.")
        stream = path.open("rb")
    except FileNotFoundError:
        raise NotFound(
            f"There is no file {path}; nothing was changed.", hint="Check the name; `-` reads from a pipe."
        ) from None
    except OSError as error:
        raise NotFound(
            f"The file {path} cannot be read: {error.strerror}. Nothing was changed.",
            hint="Check its permissions: ls -l",
        ) from None
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    with stream:
        return spooled(stream)


def spooled(stream: BinaryIO) -> BinaryIO:
    """All that a pipe gives, in a temporary file that only this process sees.

    Nobody waits for the other end of a pipe while the database is held.
    """
    kept = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(stream, kept)
    kept.seek(0)
    return cast(BinaryIO, kept)
