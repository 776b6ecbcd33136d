"""The rows of a file of records, CSV, JSON Lines or workbook: each thing wrong named by line and column.

A text file is read once and never held in memory. What cannot be read as a row is noted and left out; whoever reads
on decides, at the end, that a file with notes is refused whole.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING

from kasoko_cli.domain.cells import trimmed
from kasoko_cli.domain.phone import quoted
from kasoko_cli.domain.time_text import DateSurvey
from kasoko_cli.operations.shared.record_files import (
    MOST_LINE_BYTES,
    Columns,
    FileRefused,
    Format,
    InputFile,
    Problem,
    Problems,
    Row,
    unguard,
)
from kasoko_cli.operations.shared.record_header import Header, no_header_hint, read_header, recognised
from kasoko_cli.operations.shared.table_files import (
    DELIMITERS,
    MOST_LINES_ABOVE,
    FileKind,
    NumberedCells,
    Source,
    is_torn,
    kind_of,
    read_workbook,
    split,
)

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

#: A workbook, or a text in UTF-16, is held in memory whole.
MOST_HELD_BYTES = 256 << 20


@dataclass(slots=True)
class Understood:
    """How a file was read, in words: its format, what parts its columns, which column stands under which name."""

    format: str
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    #: The line of the header; what is above it are titles.
    header_line: int | None = None
    #: Our columns that are there, each with its name in the file.
    columns: dict[str, str] = field(default_factory=dict)
    #: The file's own columns that mean nothing here.
    ignored: list[str] = field(default_factory=list)
    timezone: str | None = None
    dates: str | None = None


class RowReader:
    """The rows of one file, once, from first to last; what is no row goes to `problems`.

    Raises:
        FileRefused: the file as a whole is not what it should be: empty, in another encoding, or without
            columns that it needs. Nothing of it was read beyond that.
    """

    def __init__(self, file: InputFile, columns: Columns, problems: Problems) -> None:
        self.file = file
        self.problems = problems
        self._columns = columns
        self._digest = hashlib.sha256()
        #: The line that was read last; the first is 1.
        self.line = 0
        #: Whether the cells of the last line may have blanks or unseen characters at their ends.
        self._may_have_blanks = False
        self.understood = Understood(str(file.format))
        self._json_keys: dict[tuple[str, ...], Header | FileRefused] = {}
        self._source = Source(file.name, file.stream)
        self._kind = kind_of(self._source)
        self._rows = self._open()

    def _open(self) -> Iterator[Row]:
        """The rows, by what the file is: a workbook is one whatever its name says."""
        if self._kind is FileKind.WORKBOOK:
            self.understood.format = Format.XLSX
            return self._sheet_rows()
        if self.file.format is Format.JSONL:
            return self._json_rows()
        self.understood.format = Format.CSV
        return self._csv_rows()

    def chunks(self, size: int) -> Iterator[list[Row]]:
        """The rows, so many at a time."""
        while chunk := list(islice(self._rows, size)):
            yield chunk

    def sha256(self) -> str:
        """The digest of all bytes that were read, as hex: of the whole file once its rows are through."""
        return self._digest.hexdigest()

    def date_survey(self) -> DateSurvey:
        """What all times of the file prove together. It is read once more for that, and this reading goes on."""
        stream = self.file.stream
        place = stream.tell()
        stream.seek(0)
        names = self._columns.names
        wanted = [names.index(name) for name in self._columns.times]
        other = RowReader(self.file, self._columns, Problems())
        survey = DateSurvey(row.values[n] for row in other._rows for n in wanted if row.values[n])
        stream.seek(place)
        return survey

    def _refuse(self, what: str, *, column: str = "", hint: str | None = None) -> FileRefused:
        return FileRefused(self.file.name, [Problem(max(self.line, 1), column, what)], hint=hint)

    def _lines(self) -> Iterator[str]:
        """The lines that are text, without their ends."""
        for raw in self._raw_lines():
            self.line += 1
            if len(raw) > MOST_LINE_BYTES:
                raise self._refuse(
                    "It is longer than a megabyte: this is another kind of file, or its lines have no ends."
                )
            if self.line == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
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
                self._may_have_blanks = " " in text or not text.isascii()
                yield text
            elif self.line == 1:
                raise self._refuse(wrong)
            else:
                self.problems.note(self.line, "", wrong)
        if self.line == 0:
            raise self._refuse(
                "The file is empty.",
                hint="Was it written to the end? "
                + (
                    f"A file without records still has its header: {','.join(self._columns.header)}"
                    if self.file.format is Format.CSV
                    else "One JSON object is needed on each line."
                ),
            )

    def _raw_lines(self) -> Iterator[bytes]:
        """The lines as they are, in UTF-8; what says that it is UTF-16 is turned into that."""
        self.understood.encoding = "UTF-16" if self._kind is FileKind.UTF16 else "UTF-8"
        if self._kind is FileKind.UTF16:
            content = self._whole()
            try:
                yield from content.decode("utf-16").encode().splitlines(keepends=True)
            except UnicodeError:
                raise self._refuse("Its UTF-16 is broken. Save the file as UTF-8.") from None
            return
        while raw := self.file.stream.readline(MOST_LINE_BYTES + 1):
            self._digest.update(raw)
            yield raw

    def _whole(self) -> bytes:
        """All bytes of a file that is held in memory; its stream stands at the beginning again.

        Raises FileRefused if it is too large for that.
        """
        stream = self.file.stream
        content = stream.read(MOST_HELD_BYTES + 1)
        if len(content) > MOST_HELD_BYTES:
            raise self._refuse(f"It has more than {MOST_HELD_BYTES >> 20} MiB. Save it as CSV in UTF-8, of any size.")
        self._digest.update(content)
        stream.seek(0)
        return content

    # Workbooks

    def _sheet_rows(self) -> Iterator[Row]:
        """Find the sheet and its header, and return the rows below it.

        Raises FileRefused if there is none, or several could be meant.
        """
        self._whole()
        wanted = self.file.read_as.sheet
        # A header with one name of ours is better than none: what is missing can be said.
        for least in (2, 1):
            table = read_workbook(self._source, functools.partial(self._has, least), wanted)
            if table.header is not None:
                break
        if table.header is None:
            where = f"the sheet {quoted(wanted)}" if wanted else f"any sheet: {', '.join(map(quoted, table.sheets))}"
            names = " ".join(f"--map {name}=HEADER" for name in self._columns.required)
            raise self._refuse(
                f"There is no header on {where}. It names the columns: {','.join(self._columns.header)}",
                hint=f"If its columns have other names, say them: {names}",
            )
        if table.also:
            fitting = [table.sheet or "", *table.also]
            raise self._refuse(
                f"Its sheets {' and '.join(map(quoted, fitting))} have such columns.",
                hint=f"Say which one is meant: {' or '.join(f'--sheet {shlex.quote(name)}' for name in fitting)}",
            )
        self.line, cells = table.header
        self.understood.sheet = table.sheet
        return self._sheet_body(table.rows, _Fit(self._found(cells), self._columns, by_commas=False))

    def _sheet_body(self, rows: Iterator[NumberedCells], fit: _Fit) -> Iterator[Row]:
        pick = itemgetter(*fit.places)
        for self.line, found in rows:
            cells = [trimmed(cell) for cell in found]
            if not any(cells):
                continue
            fitted = fit.row(cells)
            if isinstance(fitted, str):
                self.problems.note(self.line, "", fitted)
            else:
                yield Row(self.line, pick([*fitted, ""]))

    def _has(self, least: int, cells: Sequence[str]) -> bool:
        return self._recognised(cells) >= least

    def _recognised(self, cells: Sequence[str]) -> int:
        """How many of the cells name a column of ours."""
        return recognised(cells, self._columns, self.file.read_as)

    # CSV

    def _csv_rows(self) -> Iterator[Row]:
        """Read the header, and return the rows below it.

        Raises FileRefused if there is none.
        """
        lines = self._lines()
        cells, delimiter = self._csv_header(lines)
        fit = _Fit(self._found(cells), self._columns, by_commas=delimiter == ",")
        self.understood.delimiter = DELIMITERS[delimiter]
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        return self._csv_body(reader, fit)

    def _csv_header(self, lines: Iterator[str]) -> tuple[list[str], str]:
        """The cells of the header line, and what parts them."""
        said: str | None = None
        best: tuple[int, int, list[str]] = (0, 0, [])
        for text in lines:
            if self.line == 1 and re.fullmatch("sep=.", text, re.IGNORECASE):
                said = text[-1] if text[-1] in DELIMITERS else None
                continue
            parted = {mark: split(text, mark) for mark in ([said] if said else DELIMITERS)}
            known = {mark: self._recognised(cells) for mark, cells in parted.items()}
            mark = max(known, key=lambda mark: (known[mark], len(parted[mark])))
            if known[mark] > 1:
                return parted[mark], mark
            if not best[2] or known[mark] > best[0]:
                best = known[mark], self.line, parted[mark]
            if self.line > MOST_LINES_ABOVE:
                break
        count, self.line, cells = best
        if count:
            self._found(cells)  # names what is missing
        if len(cells) == 1 and "|" in cells[0]:
            raise self._refuse("The columns are parted by bars; commas, semicolons or tabs are needed.")
        raise self._refuse(
            f"It is not the header. The first line names the columns: {','.join(self._columns.header)}",
            hint=no_header_hint(self._columns, cells) if cells else None,
        )

    def _found(self, cells: Sequence[str]) -> Header:
        """Where the columns are, by this header."""
        header = read_header(self.file.name, self.line, cells, self._columns, self.file.read_as)
        told = self.understood
        told.header_line, told.columns, told.ignored = self.line, header.written, [*header.ignored]
        return header

    def _csv_body(self, reader: CsvReader, fit: _Fit) -> Iterator[Row]:
        pick = itemgetter(*fit.places)
        words = [self._columns.names.index(name) for name in self._columns.text]
        problems, width = self.problems, fit.width
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
            if self._may_have_blanks:
                row = [trimmed(cell) for cell in row]
            if len(row) != width or not row[0]:
                if not any(row):
                    continue
                fitted = fit.row(row)
                if isinstance(fitted, str):
                    problems.note(self.line, "", fitted)
                    continue
                row = fitted
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
                self.problems.note(self.line, "", f"It is not JSON: {error.msg} at place {error.colno}.")
                continue
            except _NotOurJson as error:
                self.problems.note(self.line, error.key, str(error))
                continue
            except RecursionError:
                self.problems.note(self.line, "", "It is nested too deeply.")
                continue
            if not isinstance(data, dict):
                self.problems.note(self.line, "", 'It is not an object. Write {"column": value, ...} on each line.')
                continue
            values = self._json_values(data)
            if values is not None:
                yield Row(self.line, values)

    def _json_values(self, data: dict[str, object]) -> tuple[str, ...] | None:
        keys = tuple(data)
        if keys not in self._json_keys:
            self._json_keys[keys] = self._json_header(keys)
        header = self._json_keys[keys]
        if isinstance(header, FileRefused):
            for problem in header.problems:
                self.problems.note(self.line, problem.column, f"{problem.what} Write null where there is no value.")
            return None
        before = len(self.problems.found)
        values = []
        for name in self._columns.names:
            value = data[keys[header.places[name]]] if name in header.places else None
            if value is not None and not isinstance(value, str):
                self.problems.note(self.line, name, f"It is {_JSON_KINDS[type(value)]}; a text or a number is needed.")
            values.append(trimmed(value) if isinstance(value, str) else "")
        return tuple(values) if len(self.problems.found) == before else None

    def _json_header(self, keys: Sequence[str]) -> Header | FileRefused:
        """Where the columns are among the names of an object; nearly always all objects have the same."""
        try:
            header = read_header(self.file.name, self.line, keys, self._columns, self.file.read_as)
        except FileRefused as refused:
            return refused
        told = self.understood
        told.columns = header.written | told.columns
        told.ignored += [name for name in header.ignored if name not in told.ignored]
        return header


class _Fit:
    """Makes rows as wide as the header, where what they lack or have too much of is empty."""

    def __init__(self, header: Header, columns: Columns, *, by_commas: bool) -> None:
        #: How many cells a row has that needs no fitting, and where each column stands in it; the place behind the
        #: last is empty.
        self.width = header.width
        self.places = [header.places.get(name, header.width) for name in columns.names]
        self._by_commas = by_commas
        self._needed = 1 + max(header.places[name] for name in columns.required)

    def row(self, cells: list[str]) -> list[str] | str:
        """The row as wide as the header, or a sentence that says why it is none."""
        fits = len(cells) == self.width or not (self._by_commas and is_torn(cells))
        if fits and len(cells) >= self._needed and not any(cells[self.width :]):
            return cells[: self.width] + [""] * (self.width - len(cells))
        return f"It has {len(cells)} fields, and the header names {self.width}. Put quotes around a field with a comma."


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
