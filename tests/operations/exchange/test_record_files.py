"""What a file may be, and what is said of one that is not."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kasoko_cli.domain.time_text import format_time, parse_time
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.shared.record_files import (
    MOST_LINE_BYTES,
    SHOWN,
    Columns,
    FileRefused,
    Format,
    InputFile,
    Problem,
    Problems,
    Row,
    guard,
    open_input,
    unguard,
)
from kasoko_cli.operations.shared.record_rows import RowReader

COLUMNS = Columns(("id", "word", "amount"), ("extra",), text=("word",))
HEADER = "id,word,amount\n"


def read(data: str | bytes, form: Format = Format.CSV) -> tuple[list[Row], list[Problem]]:
    """The rows of a file and what is wrong with it, whether or not its reading stopped there."""
    raw = data.encode() if isinstance(data, str) else data
    problems = Problems()
    rows: list[Row] = []
    try:
        for chunk in RowReader(InputFile("a file", io.BytesIO(raw), form), COLUMNS, problems).chunks(2):
            rows += chunk
    except FileRefused as refused:
        return rows, [*problems.found, *refused.problems]
    return rows, problems.found


def told(data: str | bytes, form: Format = Format.CSV) -> list[str]:
    return [str(problem) for problem in read(data, form)[1]]


# --- CSV -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("id,word,amount\na,x,1\nb,y,2\n", id="plain"),
        pytest.param("id,word,amount\r\na,x,1\r\nb,y,2\r\n", id="Windows line ends"),
        pytest.param(b"\xef\xbb\xbfid,word,amount\na,x,1\nb,y,2", id="a byte order mark, and no end of the last line"),
        pytest.param('amount,id,word\n1,a,x\n"2","b","y"\n', id="another order, quotes"),
        pytest.param("id,word,amount,extra\na,x,1,\nb,y,2,\n", id="an optional column"),
        pytest.param("id,word,amount\na,x,1\nb,y,2\n\n,,\n , ,\n", id="empty rows at the end"),
        pytest.param("id;word;amount\na;x;1\nb;y;2\n", id="semicolons"),
        pytest.param("id\tword\tamount\na\tx\t1\nb\ty\t2\n", id="tabs"),
        pytest.param("id,word,amount\na,x,1\nb,y,2\n".encode("utf-16"), id="UTF-16"),
        pytest.param("ID, Word ,AMOUNT\na, x, 1\n b,\u00a0y ,2\n", id="blanks, and a header in another case"),
        pytest.param("id,word,amount,,\na,x,1,,\nb,y,2\n", id="columns without a name"),
        pytest.param("id,word,amount,extra\na,x,1\nb,y,2,\n", id="an empty cell at the end that is left out"),
        pytest.param("id,word,amount\na,x,1,,\nb,y,2,\n", id="empty cells beyond the header"),
        pytest.param("id,word,remark,amount\na,x,hello,1\nb,y,,2\n", id="a column that means nothing here"),
    ],
)
def test_the_same_rows_however_they_are_written(data: str | bytes) -> None:
    rows, problems = read(data)
    assert problems == []
    assert [row.values for row in rows] == [("a", "x", "1", ""), ("b", "y", "2", "")]
    assert [row.line for row in rows] == [2, 3]


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        pytest.param("", ["line 1: The file is empty."], id="empty"),
        pytest.param("id,word\na,x\n", ["line 1, amount: The column is missing."], id="a missing column"),
        pytest.param(
            "id,word,amuont\na,x,1\n",
            ["line 1, amount: The column is missing. Is it 'amuont'?"],
            id="an unknown column, and the nearest",
        ),
        pytest.param("id,id,word,amount\na,a,x,1\n", ["line 1, id: The column is there twice."], id="a doubled column"),
        pytest.param(
            "a,x,1\nb,y,2\n",
            ["line 1: It is not the header. The first line names the columns: id,word,amount"],
            id="no header",
        ),
        pytest.param(
            b"id,word,amount\na,M\xfcller,1\nb,\xe9,2\n",
            [
                "line 2: It is not UTF-8: byte 0xfc at place 4. Save the file as UTF-8.",
                "line 3: It is not UTF-8: byte 0xe9 at place 3. Save the file as UTF-8.",
            ],
            id="Latin-1",
        ),
        pytest.param(
            b"id,word,amount\na,\0,1\n", ["line 2: It holds a NUL character. Save the file as UTF-8 text."], id="a NUL"
        ),
        pytest.param(
            "id,word,amount\na,x\nb,y,2,3\n",
            [
                "line 2: It has 2 fields, and the header names 3. Put quotes around a field with a comma.",
                "line 3: It has 4 fields, and the header names 3. Put quotes around a field with a comma.",
            ],
            id="ragged rows",
        ),
        pytest.param(
            "id,word,amount\ra,x,1\r",
            ["line 1: It holds a carriage return by itself. End each line with a line feed, or with both."],
            id="the line ends of an old Macintosh",
        ),
        pytest.param(
            'id,word,amount\na,"x\ny",1\nb,z,2\n',
            ["line 2: A quoted field does not end on its line. No field holds a line end."],
            id="a line end in a field",
        ),
        pytest.param(
            'id,word,amount\na,"x,1\nb,z,2\n',
            ["line 2: The quotes do not match (unexpected end of data). Write a quote inside quotes twice."],
            id="a quote that is never closed",
        ),
        pytest.param(
            'id,word,amount\na,"x"y,1\nb,z,2\n',
            ["line 2: The quotes do not match (',' expected after '\"'). Write a quote inside quotes twice."],
            id="a quote in the middle",
        ),
        pytest.param(
            b"id,word,amount\na," + b"x" * MOST_LINE_BYTES + b",1\n",
            ["line 2: It is longer than a megabyte: this is another kind of file, or its lines have no ends."],
            id="a line without end",
        ),
    ],
)
def test_each_thing_wrong_with_a_csv_file_has_its_line(data: str | bytes, problems: list[str]) -> None:
    assert told(data) == problems


def test_the_rows_beside_a_bad_one_are_read() -> None:
    rows, problems = read('id,word,amount\na,"x"y,1\nb,z,2\nc\nd,w,3\n')
    assert [row.line for row in rows] == [3, 5]
    assert [problem.line for problem in problems] == [2, 4]


# --- JSON Lines ----------------------------------------------------------------------------------


def test_numbers_in_json_are_taken_as_they_are_written() -> None:
    rows, problems = read(
        '{"id": 7, "word": "x", "amount": 0.10}\n\n{"amount":1e9999,"word":null,"id":"b"}\n', Format.JSONL
    )
    assert problems == []
    assert rows == [Row(1, ("7", "x", "0.10", "")), Row(3, ("b", "", "1e9999", ""))]


def test_digits_that_a_float_would_lose_are_kept() -> None:
    amount = "9007199254740993.01"
    rows, _ = read(f'{{"id":"a","word":"x","amount":{amount}}}', Format.JSONL)
    assert rows[0].values[2] == amount


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param('["a"]', 'line 1: It is not an object. Write {"column": value, ...} on each line.', id="a list"),
        pytest.param("17", 'line 1: It is not an object. Write {"column": value, ...} on each line.', id="a number"),
        pytest.param(
            "{", "line 1: It is not JSON: Expecting property name enclosed in double quotes at place 2.", id="half"
        ),
        pytest.param(
            '{"id":"a","id":"b","word":"x","amount":1}', "line 1: The name 'id' is there twice.", id="a name twice"
        ),
        pytest.param('{"id":"a","word":"x","amount":NaN}', "line 1: NaN is not a number in JSON.", id="NaN"),
        pytest.param(
            '{"id":"a","word":"x"}',
            "line 1, amount: The column is missing. Write null where there is no value.",
            id="a missing column",
        ),
        pytest.param(
            '{"id":"a","word":["x"],"amount":1}',
            "line 1, word: It is a list; a text or a number is needed.",
            id="nested",
        ),
        pytest.param(
            '{"id":true,"word":"x","amount":1}',
            "line 1, id: It is true or false; a text or a number is needed.",
            id="bool",
        ),
        pytest.param("[" * 100_000, "line 1: It is nested too deeply.", id="deep"),
        pytest.param("", "line 1: The file is empty.", id="empty"),
    ],
)
def test_each_thing_wrong_with_a_json_line_has_its_line(line: str, problem: str) -> None:
    assert told(line, Format.JSONL) == [problem]


# --- Cells ---------------------------------------------------------------------------------------


@given(st.text(alphabet="'=+-@\t\rax", max_size=6))
@example("=1+1")
@example("''=x")
def test_a_guarded_cell_is_no_formula_and_comes_back(cell: str) -> None:
    guarded = guard(cell)
    assert not guarded.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguard(guarded) == cell


@pytest.mark.parametrize("cell", ["O'Connor", "'s-Gravenhage", "'", "''", "x=1"])
def test_an_apostrophe_that_guards_nothing_is_kept(cell: str) -> None:
    assert guard(cell) == unguard(cell) == cell


def test_only_columns_of_words_lose_a_guard() -> None:
    rows, _ = read(HEADER + "'=a,'=b,'=c\n")
    assert rows[0].values == ("'=a", "=b", "'=c", "")


@given(st.datetimes(datetime(2000, 1, 2), datetime(2199, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_comes_back_to_the_microsecond(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment


def test_an_offset_is_counted() -> None:
    assert (
        parse_time("2026-11-20T18:00:00+03:00")
        == parse_time("2026-11-20 15:00Z")
        == datetime(2026, 11, 20, 15, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20",
        "20.11.2026 15:00",
        "2026-02-30T00:00:00Z",
        "2026-11-20T25:00:00Z",
        "1763650800",
        "0001-01-01T00:00:00Z",
        "2026-W47-5T15:00:00Z",
        "2026-11-20T15:00:00.1234567Z",
        "2026-11-20T15:00:00+99:00",
        "٢٠٢٦-11-20T15:00:00Z",
        "",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not a time"):
        parse_time(text)


def test_a_time_without_its_offset_is_refused() -> None:
    with pytest.raises(
        Refused, match=r"The time '2026-11-20T15:00:00' does not say how far it is from UTC\."
    ) as refused:
        parse_time("2026-11-20T15:00:00")
    assert refused.value.hint == "Write a Z behind it for UTC, or +03:00 for Nairobi."


# --- The refusal itself --------------------------------------------------------------------------


def test_the_first_problems_are_shown_and_the_rest_is_counted() -> None:
    refused = FileRefused("bets.csv", [Problem(n, "stake_kes", "It is wrong.") for n in range(2, 2 + SHOWN + 3)])
    lines = refused.message.splitlines()
    assert lines[0] == "bets.csv was refused for 23 problems; nothing was changed."
    assert lines[1] == "  line 2, stake_kes: It is wrong."
    assert len(lines) == SHOWN + 2
    assert lines[-1] == "  and 3 more."
    assert len(refused.problems) == SHOWN + 3
    assert refused.exit_code == 5


def test_a_file_that_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"There is no file .*nothing was changed"):
        open_input(tmp_path / "none.csv")
    with pytest.raises(Refused, match="is a folder"):
        open_input(tmp_path)


def test_the_digest_is_that_of_the_whole_file() -> None:
    import hashlib

    raw = b"\xef\xbb\xbf" + HEADER.encode() + b"a,x,1\r\n\r\n"
    reader = RowReader(InputFile("f", io.BytesIO(raw), Format.CSV), COLUMNS, Problems())
    assert len(list(reader.chunks(10))) == 1
    assert reader.sha256() == hashlib.sha256(raw).hexdigest()


def test_a_lone_surrogate_from_json_is_text_and_not_an_error() -> None:
    rows, problems = read(json.dumps({"id": "a", "word": "\ud800", "amount": "1"}), Format.JSONL)
    assert (len(rows), problems) == (1, [])
