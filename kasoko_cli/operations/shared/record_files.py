"""Files of records, CSV and JSON Lines: read row by row, each thing wrong named by line and column.

A file is read once and never held in memory. What cannot be read as a row is noted and left out; whoever reads on
decides, at the end, that a file with notes is refused whole.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from kasoko_cli.domain.market import nearest
from kasoko_cli.domain.phone import quoted
from kasoko_cli.errors import NotFound, Refused

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

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

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)

#: Years that a bet or a market can have; another one is a slip of the keys.
_YEARS = range(2000, 2200)


class Format(StrEnum):
    """How a file holds its records."""

    CSV = "csv"  #: commas, a header line, UTF-8
    JSONL = "jsonl"  #: one JSON object a line, UTF-8


#: Which format a file has, by its ending.
ENDINGS = {".csv": Format.CSV, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one kind of file, in the order in which rows are handed on.

    `text` names those that hold people's words, which in CSV are guarded against being taken for formulas.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    text: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every column."""
        return self.required + self.optional


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to be taken in: what people call it, its bytes, how it holds its records."""

    name: str
    stream: BinaryIO
    format: Format


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


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time with its offset from UTC, such as `2026-11-20T18:00:00+03:00` or `...T15:00:00Z`.

    Raises Refused if it is another spelling, has no offset, or does not exist.
    """
    match = _TIME.fullmatch(text)
    if match is not None and match[1] is None:
        raise Refused(
            f"The time {quoted(text)} does not say how far it is from UTC.",
            hint="Write a Z behind it for UTC, or +03:00 for Nairobi.",
        )
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC) if match is not None else None
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment.year not in _YEARS:
        raise Refused(
            f"{quoted(text)} is not a time.", hint="Write it like 2026-11-20T15:00:00Z or 2026-11-20T18:00:00+03:00."
        )
    return moment


def format_time(moment: datetime) -> str:
    """A time that `parse_time` reads back exactly; fractions of a second only where there are any."""
    utc = moment.astimezone(UTC)
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds" if utc.microsecond else "seconds") + "Z"


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


# --- Reading -------------------------------------------------------------------------------------


class RowReader:
    """The rows of one file, once, from first to last; what is no row goes to `problems`.

    Raises:
        FileRefused: the file as a whole is not what it should be: empty, in another encoding, or with
            other columns. Nothing of it was read beyond that.
    """

    def __init__(self, file: InputFile, columns: Columns, problems: Problems) -> None:
        self._file = file
        self._columns = columns
        self._problems = problems
        self._digest = hashlib.sha256()
        #: The line that was read last; the first is 1.
        self.line = 0
        self._rows = self._csv_rows(self._csv_header()) if file.format is Format.CSV else self._json_rows()

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """The rows, so many at a time."""
        while chunk := list(islice(self._rows, size)):
            yield chunk

    def sha256(self) -> str:
        """The digest of all bytes that were read, as hex: of the whole file once its rows are through."""
        return self._digest.hexdigest()

    def _refuse(self, what: str, *, column: str = "", hint: str | None = None) -> FileRefused:
        return FileRefused(self._file.name, [Problem(max(self.line, 1), column, what)], hint=hint)

    def _lines(self) -> Iterator[str]:
        """The lines that are text, without their ends."""
        while raw := self._file.stream.readline(MOST_LINE_BYTES + 1):
            self.line += 1
            self._digest.update(raw)
            if len(raw) > MOST_LINE_BYTES:
                raise self._refuse(
                    "It is longer than a megabyte: this is another kind of file, or its lines have no ends."
                )
            if self.line == 1:
                raw = self._without_mark(raw)
            wrong = None
            try:
                text = raw.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                byte, place = raw[error.start], error.start + 1
                wrong = f"It is not UTF-8: byte 0x{byte:02x} at place {place}. Save the file as UTF-8."
            else:
                if "\0" in text:
                    wrong = "It holds a NUL character. Save the file as UTF-8 text."
                elif "\r" in text:
                    wrong = "It holds a carriage return by itself. End each line with a line feed, or with both."
            if wrong is None:
                yield text
            elif self.line == 1:
                raise self._refuse(wrong)
            else:
                self._problems.note(self.line, "", wrong)
        if self.line == 0:
            raise self._refuse(
                "The file is empty.",
                hint="Was it written to the end? "
                + (
                    f"A file without records still has its header: {','.join(self._columns.required)}"
                    if self._file.format is Format.CSV
                    else "One JSON object is needed on each line."
                ),
            )

    def _without_mark(self, raw: bytes) -> bytes:
        """The first line without the byte order mark that Windows programs put there."""
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise self._refuse("The file is UTF-16, and UTF-8 is needed. Save it as UTF-8, in Excel as `CSV UTF-8`.")
        return raw.removeprefix(b"\xef\xbb\xbf")

    # CSV

    def _csv_header(self) -> _CsvRows:
        """Read the header line; says how the rows under it lie.

        Raises FileRefused if it is not the header of such a file.
        """
        reader = csv.reader(self._lines(), strict=True)
        try:
            header = next(reader)
        except (csv.Error, StopIteration):
            header = []
        wanted = ",".join(self._columns.required)
        if not set(header) & set(self._columns.names):
            other = next((name for mark, name in _OTHER_MARKS.items() if len(header) == 1 and mark in header[0]), None)
            raise self._refuse(
                f"The columns are parted by {other}; commas are needed."
                if other
                else f"It is not the header. The first line names the columns: {wanted}"
            )
        wrong = [
            Problem(1, name, "The column is there twice.")
            for name in sorted({n for n in header if header.count(n) > 1})
        ]
        for name in dict.fromkeys(header):
            if name not in self._columns.names:
                guess = self._problems.suggestion(name, self._columns.names)
                wrong.append(Problem(1, "", f"There is no column {quoted(name)}.{guess}"))
        wrong += [Problem(1, name, "The column is missing.") for name in self._columns.required if name not in header]
        if wrong:
            optional = f" (and, if you like, {','.join(self._columns.optional)})" if self._columns.optional else ""
            raise FileRefused(self._file.name, wrong, hint=f"The columns are {wanted}{optional}, in any order.")
        places = [header.index(name) if name in header else len(header) for name in self._columns.names]
        return _CsvRows(reader, len(header), places)

    def _csv_rows(self, below: _CsvRows) -> Iterator[Row]:
        reader, width, places = below
        pick = itemgetter(*places)
        words = [self._columns.names.index(name) for name in self._columns.text]
        problems = self._problems
        lines_before = reader.line_num
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                first = self.line - (reader.line_num - lines_before) + 1
                lines_before = reader.line_num
                problems.note(first, "", f"The quotes do not match ({error}). Write a quote inside quotes twice.")
                continue
            if reader.line_num != lines_before + 1:
                first = self.line - (reader.line_num - lines_before) + 1
                lines_before = reader.line_num
                problems.note(first, "", "A quoted field does not end on its line. No field holds a line end.")
                continue
            lines_before = reader.line_num
            if not row:
                continue
            if len(row) != width:
                problems.note(
                    self.line,
                    "",
                    f"It has {len(row)} fields, and the header names {width}. Put quotes around a field with a comma.",
                )
                continue
            row.append("")  # what a column that is not there holds
            values = pick(row)
            for place in words:
                if values[place].startswith("'"):
                    values = tuple(unguard(v) if n in words else v for n, v in enumerate(values))
                    break
            yield Row(self.line, values)

    # JSON Lines

    def _json_rows(self) -> Iterator[Row]:
        decoder = json.JSONDecoder(
            object_pairs_hook=_object, parse_float=str, parse_int=str, parse_constant=_refuse_constant
        )
        for text in self._lines():
            if not text.strip():
                continue
            try:
                data = decoder.decode(text)
            except json.JSONDecodeError as error:
                self._problems.note(self.line, "", f"It is not JSON: {error.msg} at place {error.colno}.")
                continue
            except _NotOurJson as error:
                self._problems.note(self.line, error.key, str(error))
                continue
            except RecursionError:
                self._problems.note(self.line, "", "It is nested too deeply.")
                continue
            if not isinstance(data, dict):
                self._problems.note(self.line, "", 'It is not an object. Write {"column": value, ...} on each line.')
                continue
            values = self._json_values(data)
            if values is not None:
                yield Row(self.line, values)

    def _json_values(self, data: dict[str, object]) -> tuple[str, ...] | None:
        before = len(self._problems.found)
        for key in data:
            if key not in self._columns.names:
                guess = self._problems.suggestion(key, self._columns.names)
                self._problems.note(self.line, "", f"There is no column {quoted(key)}.{guess}")
        for name in self._columns.required:
            if name not in data:
                self._problems.note(self.line, name, "The column is missing. Write null where there is no value.")
        values = []
        for name in self._columns.names:
            value = data.get(name)
            if value is not None and not isinstance(value, str):
                self._problems.note(self.line, name, f"It is {_JSON_KINDS[type(value)]}; a text or a number is needed.")
            values.append(value if isinstance(value, str) else "")
        return tuple(values) if len(self._problems.found) == before else None


class _CsvRows(NamedTuple):
    """How the rows of a CSV file lie: how many fields the header names, and where each column stands."""

    reader: CsvReader
    width: int
    places: list[int]


#: What other programs put where a comma belongs.
_OTHER_MARKS = {";": "semicolons", "\t": "tabs", "|": "bars"}

_JSON_KINDS: dict[type, str] = {dict: "an object", list: "a list", bool: "true or false"}


class _NotOurJson(ValueError):
    """Python reads it, and we do not: two values under one name, or NaN."""

    def __init__(self, what: str, key: str = "") -> None:
        super().__init__(what)
        self.key = key


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    data = dict(pairs)
    if len(data) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _NotOurJson(f"The name {quoted(twice)} is there twice.")
    return data


def _refuse_constant(word: str) -> object:
    raise _NotOurJson(f"{word} is not a number in JSON.")
