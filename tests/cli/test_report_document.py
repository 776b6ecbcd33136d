"""A report in each form: text is only text, numbers are numbers, and nothing of it runs."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kasoko_cli.cli.output.report_document import Cents, Chart, Sheet, Table, Value, shown, to_csv, to_xlsx
from kasoko_cli.cli.output.report_html import MOST_ROWS, to_html

#: Texts that somebody would like a spreadsheet, a browser or a terminal to obey.
NASTY = ["=1+1", "+254", "-2", "@SUM(A1)", "\t=1", "\r=1", "<script>alert(1)</script>", "\u202egnp.exe", "\x1b[2J"]
NOON = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def sheet(rows: list[tuple[Value, ...]], *charts: Chart) -> Sheet:
    table = Table("payouts", "Payouts", ("user", "amount", "count", "at", "won"), rows)
    return Sheet("Settlement of <rain>", "Will it rain?", [("Fee", Cents(2_250))], (table,), charts, ("a note",))


ROWS: list[tuple[Value, ...]] = [
    *((text, Cents(123_450), 1_200, NOON, True) for text in NASTY),
    ("ann", Cents(-50), 0, None, None),
]


def test_csv_has_plain_numbers_utc_times_and_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(to_csv(sheet(ROWS).tables[0]))))
    assert rows[0] == ["user", "amount", "count", "at", "won"]
    assert [row[1:] for row in rows[1:10]] == [["1234.50", "1200", "2026-11-24T09:00:00Z", "yes"]] * 9
    assert rows[10] == ["ann", "-0.50", "0", "", ""]
    for row in rows[1:]:
        assert row[0][0] not in "=+-@\t\r\x1b\u202e", row[0]


def test_a_workbook_has_numbers_as_numbers_and_text_as_text(tmp_path: Path) -> None:
    made = tmp_path / "report.xlsx"
    made.write_bytes(to_xlsx(sheet(ROWS)))
    with zipfile.ZipFile(made) as book:
        names = book.namelist()
        page = book.read("xl/worksheets/sheet2.xml").decode()
        everything = "".join(book.read(name).decode() for name in names if name.endswith(".xml"))
    assert "<f>" not in everything, "a formula"
    assert not any("vba" in name or "external" in name for name in names)
    assert re.search(r'<c r="B2" s="\d+" t="n"><v>1234.5</v>', page)
    assert re.search(r'<c r="C2" s="\d+" t="n"><v>1200</v>', page)
    assert 't="inlineStr"><is><t>=1+1</t>' in page


def test_a_page_runs_nothing_and_fetches_nothing(tmp_path: Path) -> None:
    chart = Chart("By <hour>", ("sent", "arrived"), [(f"{hour:02d}", (hour * 100, 50)) for hour in range(24)])
    lying = Chart("States", ("amount",), [("COMPLETED", (142_00,)), ("FAILED", (0,))])
    page = to_html(sheet(ROWS, chart, lying))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"(?:src|href)=|url\(|@import|https?:", page)
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "Settlement of &lt;rain&gt;" in page
    assert page.count("<svg") == 2
    assert "<title>23, sent: 23.00</title>" in page
    assert "$" not in page


def test_a_page_leaves_out_rows_that_would_make_it_slow_and_says_so() -> None:
    page = to_html(sheet([("ann", Cents(1), 1, NOON, True)] * (MOST_ROWS + 1_500)))
    assert page.count("<tr>") == MOST_ROWS + 1
    assert "Left out here: 1,500 rows" in page


def test_a_report_of_nothing_is_still_a_page() -> None:
    page = to_html(sheet([], Chart("Empty", ("amount",), [("fee", (0,))])))
    assert "<p>None.</p>" in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    ("value", "told"),
    [(Cents(123_456), "1,234.56"), (1_200, "1,200"), (True, "yes"), (NOON, "2026-11-24 12:00:00"), (None, "")],
)
def test_a_cell_is_shown_as_what_it_is(value: Value, told: str) -> None:
    assert shown(value) == told
