"""Claims about tables: the cells are what the file has, to the character, or it is refused as what it is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from datetime import date, datetime, time

import pytest
from openpyxl import Workbook

from kasoko_cli.operations.shared.record_files import FileRefused
from kasoko_cli.operations.shared.table_files import Source, TextTable, read_table, without_noise
from tests.operations.workbooks import workbook

ROWS = [["id", "name", "note"], ["1", "Ann, of Thika", ""], ["2", "B;n", "x"]]


def is_header(cells: Sequence[str]) -> bool:
    return [cell.casefold() for cell in cells[:2]] == ["id", "name"]


def read(content: bytes) -> TextTable:
    return read_table(Source("t", io.BytesIO(content)), is_header)


def rows_of(table: TextTable) -> list[tuple[int, list[str]]]:
    assert table.header is not None
    return [table.header, *table.rows]


COMMAS = 'id,name,note\n1,"Ann, of Thika",\n2,B;n,x\n'
SEMICOLONS = 'id;name;note\n1;Ann, of Thika;\n2;"B;n";x\n'


@pytest.mark.parametrize(
    ("content", "delimiter", "encoding"),
    [
        pytest.param(COMMAS.encode(), ",", "UTF-8", id="commas"),
        pytest.param(COMMAS.encode("utf-8-sig"), ",", "UTF-8", id="a byte order mark"),
        pytest.param(COMMAS.replace("\n", "\r\n").encode(), ",", "UTF-8", id="carriage returns"),
        pytest.param(COMMAS.replace("\n", "\r").encode(), ",", "UTF-8", id="carriage returns alone"),
        pytest.param(COMMAS.replace(",n", ", n").replace(',"', ', "').encode(), ",", "UTF-8", id="a space after each"),
        pytest.param(COMMAS.encode("utf-16"), ",", "UTF-16", id="UTF-16, as Excel's Unicode text"),
        pytest.param(b"\xfe\xff" + COMMAS.encode("utf-16-be"), ",", "UTF-16", id="UTF-16, the other way round"),
        pytest.param(SEMICOLONS.encode(), ";", "UTF-8", id="semicolons"),
        pytest.param(COMMAS.replace(",n", "\tn").replace(',"', '\t"').replace('",', '"\t').replace("2,", "2\t")
                     .replace(",x", "\tx").encode(), "\t", "UTF-8", id="tabs"),
    ],
)  # fmt: skip
def test_a_text_is_split_as_its_header_shows(content: bytes, delimiter: str, encoding: str) -> None:
    table = read(content)
    assert rows_of(table) == list(enumerate(ROWS, start=1))
    assert (table.delimiter, table.encoding, table.sheet) == (delimiter, encoding, None)


def test_lines_above_the_header_are_kept_and_numbers_are_those_of_the_file() -> None:
    table = read(b'sep=;\nMarkets of\nNovember\n\nid;name\n1;"two\nlines"\n2;x\n')
    assert table.above == [(2, ["Markets of"]), (3, ["November"]), (4, [])]
    assert rows_of(table) == [(5, ["id", "name"]), (6, ["1", "two\nlines"]), (8, ["2", "x"])]
    assert read(b"a,b\n1,2\n").header is None


def test_a_workbook_is_read_from_the_first_sheet_that_has_the_header() -> None:
    cells = ["1", "Ann, of Thika", None]
    about: list[list[object]] = [["About"], ["Id", "people"]]
    table = read(workbook({"About": about, "People": [["Titles"], [], ROWS[0], cells, [], [2, "B;n", "x", None]]}))
    assert table.above == [(1, ["Titles"]), (2, [])]
    assert rows_of(table) == [(3, ROWS[0]), (4, ["1", "Ann, of Thika"]), (5, []), (6, ["2", "B;n", "x"])]
    assert (table.sheet, table.also, table.sheets) == ("People", (), ("About", "People"))
    both = read(workbook({"May": ROWS, "June": ROWS}))
    assert (both.sheet, both.also) == ("May", ("June",))
    none = read(workbook({"May": about, "June": about}))
    assert (none.header, none.sheets) == (None, ("May", "June"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1500, "1500"),
        (254712345678.0, "254712345678"),
        (2.5, "2.5"),
        (True, "true"),
        ("  text ", "text"),
        (datetime(2027, 3, 5, 17, 0), "2027-03-05 17:00:00"),  # noqa: DTZ001 - a sheet has no zones
        (datetime(2027, 3, 5, 17, 0, 1, 500_000), "2027-03-05 17:00:01.500000"),  # noqa: DTZ001
        (datetime(2027, 3, 5), "2027-03-05 00:00:00"),  # noqa: DTZ001
        (date(2027, 3, 5), "2027-03-05"),
        (time(17, 30), "17:30:00"),
    ],
)
def test_a_cell_of_a_sheet_is_its_exact_text(value: object, shown: str) -> None:
    table = read(workbook({"s": [["id", "name"], ["x", value]]}))
    assert rows_of(table)[1] == (2, ["x", shown])


@pytest.mark.parametrize(
    ("kept", "shown"),
    [
        ("0.30000000000000004", "0.30"),
        ("1234.5600000000001", "1234.56"),
        ("1.4551915228366852E-11", "0.00"),
        ("2.54712345678E11", "254712345678"),
        ("333333333333.3333", "333333333333.3333"),
        ("1E-3", "0.001"),
        ("1.23456789012345E+17", "1.23456789012345E+17"),
    ],
)
def test_a_number_is_shown_as_what_was_meant_and_lost_digits_as_lost(kept: str, shown: str) -> None:
    texts = '<c r="A1" t="inlineStr"><is><t>id</t></is></c><c r="B1" t="inlineStr"><is><t>name</t></is></c>'
    sheet = f'<row r="1">{texts}</row><row r="2"><c r="B2"><v>{kept}</v></c></row>'
    table = read(spoilt(f"{SHEET}<sheetData>{sheet}</sheetData></worksheet>".encode()))
    assert rows_of(table)[1] == (2, ["", shown])


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("1234.5600000000001", "1234.56"),
        ("-1234.5599999999999", "-1234.56"),
        ("9999999.990000001", "9999999.99"),
        ("-0.0000000000145519152283", "0.00"),
        ("12345.001", "12345.001"),
        ("1234.5610000000001", "1234.5610000000001"),
        ("1234.56499999999999", "1234.56499999999999"),
        ("0.1234567", "0.1234567"),
        ("1,234.5600000000001", "1,234.5600000000001"),
        ("123456789012345678.560000000000001", "123456789012345678.560000000000001"),
    ],
)
def test_only_what_is_noise_of_a_binary_fraction_is_taken_off_an_amount(text: str, exact: str) -> None:
    assert without_noise(text) == exact


def packed(parts: dict[str, bytes]) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            book.writestr(name, content)
    return kept.getvalue()


def spoilt(sheet: bytes) -> bytes:
    """A workbook whose sheet has other bytes."""
    with zipfile.ZipFile(io.BytesIO(workbook({"s": ROWS}))) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    return packed(parts | {"xl/worksheets/sheet1.xml": sheet})


SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'

#: Entities in entities: a gigabyte of text from a kilobyte.
LAUGHS = (
    b'<!DOCTYPE x [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"&a;" * 10) for n in range(10))
    + b']><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><dimension ref="A1"/>'
    b'<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>&a9;</t></is></c></row></sheetData></worksheet>'
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: the file is empty"),
        (b"\n \n", "line 1: the file is empty"),
        (b"id,name\n1,Ren\xe9\n", "line 2: it is not UTF-8: byte 0xe9 at place 6"),
        (COMMAS.encode("utf-16-le"), "line 1: it holds a NUL character"),
        (COMMAS.encode("utf-16")[:-1], "line 3: its UTF-16 is broken"),
        (b'id,name\n1,"Ann\n', "line 2: it cannot be split into columns"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "it is a workbook of the old kind (.xls), or one that is"),
        (b"\r\n<HTML><body><table><tr><td>id", "it is a web page or XML, whatever its name says"),
        (b'<?xml version="1.0"?><Workbook>', "it is a web page or XML"),
        (b"%PDF-1.7\n", "it is a PDF"),
        (b"PK\x03\x04 and nothing", "it is no workbook that can be read"),
        (packed({"content.xml": b"<x/>", "mimetype": b"x"}), "it is a spreadsheet of OpenDocument (.ods)"),
        (packed({"bets.csv": b"id,name"}), "it is an archive, and no workbook"),
        (packed({"[Content_Types].xml": b"<Types>"}), "it is no workbook that can be read"),
        (spoilt(b"<worksheet><sheetData><row"), "it is no workbook that can be read"),
        (
            spoilt(SHEET.encode() + b'<dimension ref="A1"/><sheetData><row r="x"/>'),
            "line 1: the sheet 's' cannot be read from here on",
        ),
        (spoilt(LAUGHS), "line 1: the sheet 's' cannot be read from here on"),
    ],
)
def test_what_is_no_table_is_refused_as_what_it_is(content: bytes, said: str) -> None:
    with pytest.raises(FileRefused) as refused:
        rows_of(read(content))
    assert said in refused.value.message


def test_a_million_rows_that_are_not_there_take_no_longer_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet may claim that its only row is the thousand millionth."""
    monkeypatch.setattr("kasoko_cli.operations.shared.table_files.MOST_SECONDS", 0.05)
    far = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1">'
    far += b'<c r="A1" t="inlineStr"><is><t>id</t></is></c><c r="B1" t="inlineStr"><is><t>name</t></is></c></row>'
    far += b'<row r="1000000000"/></sheetData></worksheet>'
    with pytest.raises(FileRefused, match=r"the workbook took longer than 0.05 seconds to read up to here"):
        rows_of(read(spoilt(far)))


@pytest.mark.parametrize(("kept", "form", "shown"), [(0.05, "0%", "5%"), (0.0525, "0.00%", "5.25%"), (1, "0%", "100%")])
def test_a_percentage_is_what_the_sheet_shows(kept: float, form: str, shown: str) -> None:
    """Kept as 0.05 and read as 0.05 percent it would be a hundredth of what was meant."""
    book = Workbook()
    page = book.worksheets[0]
    page.append(["id", "name"])
    page.append(["1", kept])
    page["B2"].number_format = form
    out = io.BytesIO()
    book.save(out)
    assert rows_of(read(out.getvalue()))[1] == (2, ["1", shown])
