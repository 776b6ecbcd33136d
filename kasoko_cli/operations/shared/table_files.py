"""Tables as people have them, CSV or a sheet of a workbook: rows of text cells with the number of their line.

What a cell means is for the reader to say. Nothing is guessed here: a number of a sheet is its shortest exact
decimal, a time is written as ISO 8601, and a file that is no table is refused as what it is.
"""

from __future__ import annotations

import csv
import io
import re
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

from kasoko_cli.operations.shared.record_files import FileRefused, Problem

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook

#: A line's number and its cells.
NumberedCells = tuple[int, list[str]]

#: What can part the columns of a text, and how people call it.
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}

#: The header must stand within so many lines; what is above it are titles.
MOST_LINES_ABOVE = 60
#: A workbook that unpacks to more than it is no table of a size that is read here.
MOST_UNPACKED_BYTES = 1 << 30
#: How often its packed size a workbook may be, beyond a megabyte: tables pack to a tenth, a bomb to a thousandth.
MOST_TIMES_PACKED = 60
#: How long a workbook may take to read, in seconds.
MOST_SECONDS = 120

#: A whole number with more digits than this lost some: a sheet keeps no more.
_MOST_EXACT = 10**15
#: Binary noise in a sum of money has this many digits or more, and is this near to a cent.
_NOISY_DIGITS, _NOISE = 15, Decimal("0.00001")


class FileKind(StrEnum):
    """What a file is by its first bytes, whatever its name says."""

    TEXT = "text"  #: UTF-8, perhaps
    UTF16 = "utf-16"  #: a text with the mark of UTF-16
    WORKBOOK = "workbook"  #: a ZIP archive, as XLSX is one
    OLD_WORKBOOK = "old workbook"  #: what Excel wrote until 2003, and what it locks with a password
    WEB_PAGE = "web page"  #: HTML or XML, which some portals call .xls
    PDF = "pdf"  #: pages


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read: its name for people, its bytes, and what to do where it is no table."""

    name: str
    stream: BinaryIO
    hint: str | None = None

    def refuse(self, line: int, what: str, *, hint: str | None = None) -> FileRefused:
        """A refusal of the whole file."""
        return FileRefused(self.name, [Problem(line, "", what)], hint=hint or self.hint)


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table that was found: the lines above its header, the header, and the rows below it, read as they are needed.

    `header` is None where there is none. `delimiter` and `encoding` are those of a text; `sheet` is the one that is
    read of a workbook, `also` names others of its sheets that have such a header, and `sheets` all of them.
    """

    above: list[NumberedCells]
    header: NumberedCells | None
    rows: Iterator[NumberedCells]
    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    also: tuple[str, ...] = ()
    sheets: tuple[str, ...] = ()


IsHeader = Callable[[Sequence[str]], bool]


def read_table(source: Source, is_header: IsHeader) -> TextTable:
    """Find the table in a file.

    Raises:
        FileRefused: it is no text and no workbook, or cannot be read; the rows raise it too.
    """
    kind = kind_of(source)
    return read_workbook(source, is_header) if kind is FileKind.WORKBOOK else read_text(source, is_header, kind)


def kind_of(source: Source) -> FileKind:
    """What the file is; its stream stands at the beginning again.

    Raises FileRefused where it is something that is not read here.
    """
    head = source.stream.read(1 << 10)
    source.stream.seek(0)
    kind = next((kind for mark, kind in _MARKS.items() if head.startswith(mark)), FileKind.TEXT)
    if kind is FileKind.TEXT and _MARKUP.match(head):
        kind = FileKind.WEB_PAGE
    if kind in _REFUSED:
        raise source.refuse(1, _REFUSED[kind], hint=_SAVE_AS)
    return kind


_MARKS = {
    b"\xff\xfe": FileKind.UTF16,
    b"\xfe\xff": FileKind.UTF16,
    b"PK\x03\x04": FileKind.WORKBOOK,
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": FileKind.OLD_WORKBOOK,
    b"%PDF": FileKind.PDF,
}
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|!--|html|head|body|meta|style|table|\?xml)\b", re.IGNORECASE)
_REFUSED = {
    FileKind.OLD_WORKBOOK: "it is a workbook of the old kind (.xls), or one that is locked with a password",
    FileKind.WEB_PAGE: "it is a web page or XML, whatever its name says",
    FileKind.PDF: "it is a PDF",
}
_SAVE_AS = "Open it in a spreadsheet, save it as XLSX or as `CSV UTF-8`, without a password, and take that file."


# --- Text -----------------------------------------------------------------------------------------------------


def read_text(source: Source, is_header: IsHeader, kind: FileKind = FileKind.TEXT) -> TextTable:
    """Find the table in a text: commas, semicolons or tabs, as the header line shows."""
    encoding = "utf-16" if kind is FileKind.UTF16 else "utf-8-sig"
    lines = _lines(source, encoding)
    first = list(islice(lines, MOST_LINES_ABOVE + 1))
    if not any(line.strip() for line in first) and next(lines, None) is None:
        raise source.refuse(1, "the file is empty")
    said = re.fullmatch(r"sep=([,;\t])\s*", first[0], re.IGNORECASE)
    delimiter = said[1] if said else _delimiter(first, is_header)
    rows = _rows(source, chain(first, lines), delimiter)
    if said:
        next(rows)
    above, header = _above(rows, is_header)
    return TextTable(above, header, rows, delimiter, "UTF-16" if kind is FileKind.UTF16 else "UTF-8")


def _above(rows: Iterator[NumberedCells], is_header: IsHeader) -> tuple[list[NumberedCells], NumberedCells | None]:
    """The lines above the header, and the header; the rows go on below it."""
    above: list[NumberedCells] = []
    for row in islice(rows, MOST_LINES_ABOVE + 1):
        if is_header(row[1]):
            return above, row
        above.append(row)
    return above, None


def _delimiter(lines: Iterable[str], is_header: IsHeader) -> str:
    """What parts the columns of the header line; a comma where no line looks like one."""
    for line in lines:
        for delimiter in DELIMITERS:
            if is_header(split(line, delimiter)):
                return delimiter
    return ","


def split(line: str, delimiter: str) -> list[str]:
    """The cells of one line; none where its quotes do not match."""
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return []


#: Two neighbouring cells that were one amount, before a comma in it parted them.
_TORN = re.compile(r"(?:kes|kshs?)?\.? ?-?[0-9]{1,3},[0-9]{3}(?:\.[0-9]{1,2})?(?:/[=-])?", re.IGNORECASE)


def is_torn(cells: Sequence[str]) -> bool:
    """Whether `1,500` may have become two cells, so that all that follow stand under the wrong name."""
    return any(_TORN.fullmatch(f"{left},{right}") for left, right in pairwise(cells))


def _lines(source: Source, encoding: str) -> Iterator[str]:
    """The lines of a text, with their ends."""
    text = io.TextIOWrapper(source.stream, encoding=encoding, newline="")
    number = 0
    try:
        for number, line in enumerate(text, start=1):
            if "\0" in line:
                raise source.refuse(number, "it holds a NUL character: it is no text, or UTF-16 without its mark")
            yield line
    except UnicodeDecodeError as error:
        raise _not_decoded(source, encoding, number, error) from error
    finally:
        text.detach()


def _not_decoded(source: Source, encoding: str, number: int, error: UnicodeDecodeError) -> FileRefused:
    """A refusal that names the line and the byte, which a decoder that reads ahead does not know."""
    if encoding == "utf-16":
        return source.refuse(number + 1, "its UTF-16 is broken: the file was not written to its end")
    source.stream.seek(0)
    for number, raw in enumerate(source.stream, start=1):
        try:
            raw.decode()
        except UnicodeDecodeError as found:
            what = f"it is not UTF-8: byte 0x{raw[found.start]:02x} at place {found.start + 1}"
            return source.refuse(number, f"{what}. Save it as `CSV UTF-8`; Latin-1 and Windows-1252 are not read")
    return source.refuse(number + 1, f"it is not UTF-8: {error.reason}")


def _rows(source: Source, lines: Iterable[str], delimiter: str) -> Iterator[NumberedCells]:
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise source.refuse(first, f"it cannot be split into columns: {error}") from error
        yield first, [cell.strip() for cell in cells]


# --- Workbooks ------------------------------------------------------------------------------------------------


def read_workbook(source: Source, is_header: IsHeader, sheet: str | None = None) -> TextTable:
    """Find the table in a workbook: on its first sheet that has the header, or on the one that is named."""
    book = _open(source)
    names = tuple(book.sheetnames)
    if sheet is not None and sheet not in names:
        raise source.refuse(1, f"it has no sheet {sheet!r}; it has {', '.join(map(repr, names))}")
    wanted = names if sheet is None else (sheet,)
    found: TextTable | None = None
    also = []
    for name in wanted:
        rows = _sheet_rows(source, book, name)
        above, header = _above(rows, is_header)
        if header is not None and found is not None:
            also.append(name)
        elif header is not None:
            found = TextTable(above, header, rows, sheet=name)
    if found is None:
        return TextTable([], None, iter(()), sheets=names)
    return TextTable(found.above, found.header, found.rows, sheet=found.sheet, also=tuple(also), sheets=names)


def _open(source: Source) -> Workbook:
    from openpyxl import load_workbook

    # What it says of styles and extensions that it does not know is of no use to anybody here.
    warnings.filterwarnings("ignore", module=r"openpyxl\.")
    try:
        _refuse_bombs(source)
        return load_workbook(source.stream, read_only=True, data_only=True)
    except FileRefused:
        raise
    except Exception as error:  # a parser of files from anywhere: whatever it stumbles over
        raise source.refuse(1, "it is no workbook that can be read", hint=_SAVE_AS) from error


def _refuse_bombs(source: Source) -> None:
    """Look at the archive before anything of it is unpacked; a part never unpacks to more than it says."""
    packed_bytes = source.stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(source.stream) as packed:
        parts = packed.infolist()
    unpacked = sum(part.file_size for part in parts)
    if unpacked > MOST_UNPACKED_BYTES:
        raise source.refuse(1, "it unpacks to more than a gigabyte: it is no table of a size that is read here")
    if unpacked > max(1 << 20, MOST_TIMES_PACKED * packed_bytes):
        raise source.refuse(
            1,
            f"it unpacks to {unpacked / packed_bytes:,.0f} times its size: it is no table of a size that is read here",
        )
    names = {part.filename for part in parts}
    if "[Content_Types].xml" not in names:
        what = "a spreadsheet of OpenDocument (.ods)" if "content.xml" in names else "an archive, and no workbook"
        raise source.refuse(1, f"it is {what}", hint=_SAVE_AS)
    source.stream.seek(0)


def _sheet_rows(source: Source, book: Workbook, name: str) -> Iterator[NumberedCells]:
    """The rows of one sheet, without the empty cells at their ends."""
    number, spent = 0, 0.0
    rows: Iterator[Sequence[Any]] | None = None
    while spent < MOST_SECONDS:
        began = time.monotonic()
        try:
            if rows is None:
                sheet: Any = book[name]
                sheet.reset_dimensions()  # what a writer claims of its size is often wrong
                rows = iter(sheet.iter_rows())
            row = next(rows, None)
        except Exception as error:  # a parser of files from anywhere: whatever it stumbles over
            raise source.refuse(number + 1, f"the sheet {name!r} cannot be read from here on", hint=_SAVE_AS) from error
        spent += time.monotonic() - began
        if row is None:
            return
        number += 1
        cells = [_text(cell.value, cell) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        yield number, cells
    what = f"the workbook took longer than {MOST_SECONDS} seconds to read up to here; as CSV it is quick"
    raise source.refuse(number, what)


def _text(value: object, cell: object) -> str:
    """The value of a cell as text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    shown_as = str(getattr(cell, "number_format", ""))
    if isinstance(value, int | float) and "%" in shown_as:
        return f"{without_noise(f'{(Decimal(repr(value)) * 100).normalize():f}')}%"  # 0.05 is shown as 5%, and is 5%
    if isinstance(value, float):
        return _decimal(value)
    if isinstance(value, datetime):
        return _moment(value, shown_as)
    return value.isoformat() if isinstance(value, date) else str(value)


def _moment(moment: datetime, number_format: str) -> str:
    """A time to the second; a day alone where the sheet shows no more."""
    nearest = (moment + timedelta(milliseconds=500)).replace(microsecond=0)
    if abs(nearest - moment) <= timedelta(milliseconds=2):
        moment = nearest
    if not any((moment.hour, moment.minute, moment.second, moment.microsecond)) and "h" not in number_format.lower():
        return moment.date().isoformat()
    return moment.isoformat(sep=" ")


def _decimal(value: float) -> str:
    """A number of a sheet. It is kept as a binary fraction: its shortest decimal is what was meant, less its noise."""
    exact = Decimal(repr(value))
    if abs(exact) >= _MOST_EXACT:
        return f"{exact.normalize():E}"  # digits are lost, and that is to be seen
    return str(int(exact)) if value.is_integer() else without_noise(f"{exact:f}")


def without_noise(text: str) -> str:
    """`1234.5600000000001` as `1234.56`: a decimal whose last digits can only be those of a binary fraction.

    Any other text is returned as it is. What is not within a thousandth of a cent is no noise.
    """
    if len(text.lstrip("-")) <= _NOISY_DIGITS or not re.fullmatch(r"-?[0-9]{1,16}\.[0-9]{3,400}", text):
        return text
    exact = Decimal(text)
    cents = Decimal(round(exact * 100)) / 100
    return f"{cents:.2f}" if abs(exact - cents) < _NOISE else text
