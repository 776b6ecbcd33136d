"""Files as portals and spreadsheets make them: what is read of each, or with which sentence it is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kasoko_cli.operations.reconciliation.statement_parser import StatementFile, read_statement
from kasoko_cli.operations.shared.record_files import FileRefused
from tests.operations.paper import CHARGE, HEADER, PAYBILL, Paper
from tests.operations.workbooks import workbook

NOON = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
LINES = 5


def paper(**how: Any) -> Paper:
    """Five movements of one noon: two payments out with what they cost, and one in."""
    made = Paper(**how)
    made.line("UKN7A1B2C1", NOON, withdrawn=1_234_500, phone="254712000111")
    made.line("UKN7A1B2C1", NOON, withdrawn=900, reason=CHARGE)
    made.line("UKN7A1B2C2", NOON + timedelta(minutes=61), withdrawn=50_000, phone="254712000222")
    made.line("UKN7A1B2C2", NOON + timedelta(minutes=61), withdrawn=500, reason=CHARGE)
    made.line("UKN7A1B2C3", NOON + timedelta(minutes=125), paid_in=15_050, reason=PAYBILL, account="bet-1")
    return made


def text(*, made: Paper | None = None) -> str:
    return (made or paper()).csv(ends="\n", mark=False).decode()


def changed(*changes: tuple[str, str]) -> bytes:
    content = text()
    for old, new in changes:
        assert old in content, old
        content = content.replace(old, new)
    return content.encode()


def with_rows(*rows: str, after: int | None = None) -> bytes:
    """The statement with other rows at its end, or after so many of its own lines."""
    lines = text().splitlines()
    place = len(lines) if after is None else after
    return "\n".join([*lines[:place], *rows, *lines[place:], ""]).encode()


def slashed(content: bytes, day: str = "23") -> bytes:
    return content.replace(b"2026-11-23", f"{day}/11/2026".encode())


def numbers(noise: float = 0.0) -> list[list[object]]:
    """The table with numbers as a spreadsheet keeps them, and without the empty cells at the ends of its rows."""
    rows: list[list[object]] = [list(row) for row in paper().table()]
    for row in rows[-LINES:]:
        for place in (5, 6, 7):
            row[place] = float(str(row[place]).replace(",", "")) if row[place] else None
        row[7] = float(str(row[7])) + noise
        while row[-1] in ("", None):
            row.pop()
    return rows


TOTAL = 'Total,,,,,150.50,"-12,859.00",,,,,,'
DISCLAIMER = "Disclaimer: this record is produced for your use; dial *234# or call 0722002100 for help."

GOOD: dict[str, bytes] = {
    "plain.csv": text().encode(),
    "with-a-mark-and-crlf.csv": paper().csv(),
    "semicolons.csv": paper().csv(separator=";"),
    "tabs.txt": paper().csv(separator="\t"),
    "unicode-text-of-excel.txt": text().encode("utf-16"),
    "a-space-after-each-comma.csv": text().replace(",", ", ").replace("12, ", "12,").replace("87, ", "87,").encode(),
    "texts.xlsx": paper().xlsx(),
    "numbers-and-times.xlsx": paper().xlsx(typed=True),
    "a-second-sheet.xlsx": workbook({"Cover": [["Statement of November"]], "Data": paper().table(), "Chart": []}),
    "no-cells-at-the-ends.xlsx": workbook({"Data": numbers()}),
    "no-cells-at-the-ends.csv": "\n".join(line.rstrip(",") for line in text().splitlines()).encode() + b"\n",
    "columns-without-a-name.csv": "\n".join(f"{line},,," for line in text().splitlines()).encode() + b"\n",
    "more-columns.csv": "\n".join(f"{line},x" for line in text().splitlines()).encode() + b"\n",
    "no-optional-columns.csv": paper(without=("Initiation Time", "Balance", "Balance Confirmed", "A/C No.")).csv(),
    "dust.csv": text().replace('"987,291.50"', "987291.5000000001").encode(),
    "day-first.csv": paper(day_first=True).csv(),
    "slashes.csv": slashed(text().encode()),
    "no-seconds.csv": paper(to_the_minute=True).csv(),
    "slashes-and-no-seconds.csv": slashed(paper(to_the_minute=True).csv()),
    "lower-case-receipts.csv": text().replace("UKN7A1B2C", "ukn7a1b2c").encode(),
    "currency-before-amounts.csv": changed(("15,150.50", "x"))
    if False
    else text().replace(",150.50,", ",KES 150.50,").encode(),
}

#: What is left out of these, by kind.
LEFT_OUT: dict[str, tuple[bytes, list[str]]] = {
    "a-total.csv": (with_rows(TOTAL), ["total"]),
    "a-total-and-a-disclaimer.csv": (with_rows("", TOTAL, "", f'"{DISCLAIMER}"'), ["total", "remark"]),
    "a-disclaimer-with-commas.csv": (
        with_rows("This statement is computer generated, needs no signature, and is yours"),
        ["remark"],
    ),
    "balances.csv": (
        with_rows('Opening Balance,,,,,,,"1,000,000.00"', after=4) + b',,,Closing balance:,,,,"987,291.50"\n',
        ["total", "total"],
    ),
    "a-header-on-each-page.csv": (with_rows(",".join(HEADER), after=6), ["header"]),
    "a-page-head.csv": (
        with_rows("Page 1 of 2", "Organization Name:,KASOKO LTD", "Short Code:,600000", ",".join(HEADER), after=6),
        ["remark", "header", "header", "header"],
    ),
    "when-it-was-made.csv": (with_rows("Generated on 2026-11-25 08:00:00"), ["remark"]),
    "the-end.xlsx": (workbook({"s": [*numbers(), [], ["Total", None, None, None, None, 150.5, 12_859]]}), ["total"]),
}

BAD: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "line 1: the file is empty"),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "it is a workbook of the old kind (.xls)"),
    "web-page.xls": (b"<html><table><tr><td>Receipt No.", "it is a web page or XML, whatever its name says"),
    "statement.pdf": (b"%PDF-1.4", "it is a PDF"),
    "latin-1.csv": (text().replace("JANE", "RENÉ").encode("latin-1"), "it is not UTF-8: byte 0xc9"),
    "two-sheets.xlsx": (
        workbook({"May": paper().table(), "June": paper().table()}),
        "its sheets 'May' and 'June' have a statement each, and one is wanted",
    ),
    "no-sheet.xlsx": (
        workbook({"A": [["x"]], "B": []}),
        "no header of a statement stands in it on any of its sheets: A, B",
    ),
    "noise-that-is-none.xlsx": (workbook({"s": numbers(0.004)}), "is no amount. Known: 1,234.50 and -1234.5"),
    "fewer-columns.csv": (
        paper(without=("Reason Type", "Other Party Info", "Details")).csv(),
        "Reason Type: the column is missing",
    ),
    "no-receipts.csv": (paper(without=("Receipt No.",)).csv(), "line 4, Receipt No.: the column is missing"),
    "months-first.csv": (slashed(text().encode()).replace(b"23/11", b"11/23"), "'11/23/2026 14:05:00' is no time"),
    "which-is-the-day.csv": (
        slashed(text().encode(), "05"),
        "'05/11/2026 14:05:00' can be two days, and no date here shows which: export a time that goes past the 12th",
    ),
    "months-turned-for-days.csv": (
        changed(("UKN7A1B2C3,2026-11-23 14:05:00", "UKN7A1B2C3,23/11/2026 14:05:00")),
        "'2026-11-23 13:01:00' is written in another way than '23/11/2026 14:05:00' on line 5",
    ),
    "times-back-and-forth.csv": (
        slashed(changed(("UKN7A1B2C2,2026-11-23", "UKN7A1B2C2,12/01/2026"))),
        "its times go back and forth: days and months may have been turned round",
    ),
    "a-comma-within-an-amount.csv": (
        changed(('"-12,345.00"', "-12,345.00")),
        "it has 14 columns, and the header has 13",
    ),
    "cut-within-an-amount.csv": (
        text()[: text().rindex("-12,3") + 4].replace('"-12', "-12").encode(),
        "it has 8 columns, and the header has 13",
    ),
    "cut-within-the-party.csv": (
        text()[: text().rindex(" - JANE") - 3].encode(),
        "the file ends within this line, after 11 of 13 columns: it is not whole",
    ),
    "a-total-with-a-time.csv": (with_rows('Total,2026-11-23 14:05:00,,,,,"-100.00",,,,,,'), "'TOTAL' is no receipt"),
    "a-total-with-a-receipt.csv": (with_rows('UKN7A1B2C4,,,Total,,,"-1,000.00",,,,,,'), "'' is no time"),
    "sums-without-a-word.csv": (with_rows(',,,,,150.50,"-12,859.00",,,,,,'), "'' is no receipt"),
    "a-remark-with-an-amount.csv": (with_rows("There was one more payment of KES 500.00 to this person"), "columns"),
    "a-remark-with-a-receipt.csv": (with_rows("Please see also the payment UKN7A1B2C9 of that day"), "columns"),
    "a-remark-with-a-phone.csv": (with_rows("There was one more payment for 254712000333"), "columns"),
    "a-line-in-one-cell.csv": (
        with_rows('"UKN7A1B2C9,2026-11-23 15:00:00,,Business Payment,Completed,,-500,,true"'),
        "it has 1 columns, and the header has 13",
    ),
    "another-header.csv": (with_rows(",".join(reversed(HEADER)), after=6), "'A/C NO.' is no receipt"),
    "no-status.csv": (changed(("Completed,150.50", ",150.50")), "'' is no status of a transaction"),
    "no-lines.csv": ((",".join(HEADER) + "\n" + TOTAL + "\n").encode(), "a statement without movements says nothing"),
}


def facts(file: StatementFile) -> list[tuple[object, ...]]:
    """What moved, without the seconds and the balance, which some exports leave out."""
    return [
        (one.receipt, one.completed_at, one.status, one.kind, one.moved_cents, one.party.masked) for one in file.lines
    ]


def test_there_are_more_than_fifty_files() -> None:
    assert len(GOOD) + len(LEFT_OUT) + len(BAD) >= 55


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_has_the_lines_of_the_plain_one(name: str) -> None:
    file = read_statement(name, GOOD[name])
    assert facts(file) == facts(paper().read())
    assert file.whole == (name != "no-optional-columns.csv")
    assert file.left_out == ()
    assert file.sheet == ("Data" if name == "a-second-sheet.xlsx" else None)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_can_be_no_movement_is_left_out_and_told(name: str) -> None:
    content, kinds = LEFT_OUT[name]
    file = read_statement(name, content)
    assert facts(file) == facts(paper().read())
    assert file.whole
    assert [row.what for row in file.left_out] == kinds


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_a_sentence(name: str) -> None:
    content, said = BAD[name]
    with pytest.raises(FileRefused) as refused:
        read_statement(name, content)
    assert said in refused.value.message
    assert f"{name} was refused for" in refused.value.message
    assert "nothing was changed" in refused.value.message
    assert refused.value.hint


def test_an_export_with_too_few_columns_is_told_which_has_them_all() -> None:
    with pytest.raises(FileRefused) as refused:
        read_statement("s.csv", BAD["fewer-columns.csv"][0])
    assert "The statement of the organisation's utility account, exported whole" in refused.value.hint


@pytest.mark.parametrize(
    ("total", "is_whole"),
    [
        pytest.param(TOTAL, True, id="of all"),
        pytest.param("Grand total,,,,,150.50,,,,,,,", True, id="of what came in"),
        pytest.param(TOTAL.replace("150.50", "650.50"), False, id="a line that came in is missing"),
        pytest.param(TOTAL.replace("12,859.00", "13,859.00"), False, id="a line that went out is missing"),
    ],
)
def test_a_total_that_does_not_add_up_leaves_silence_no_proof(total: str, is_whole: bool) -> None:
    file = read_statement("s.csv", with_rows(total))
    assert (file.whole, file.broken_at) == (is_whole, None if is_whole else 10)


def test_totals_of_pages_are_each_of_their_page() -> None:
    file = read_statement(
        "s.csv", with_rows("Page total,,,,,150.50,-505.00", after=7).replace(b"\n", b"\n") + TOTAL.encode() + b"\n"
    )
    assert file.whole


def test_a_statement_proves_nothing_of_the_time_after_it_says_it_was_made() -> None:
    """Also where it says so at its end."""
    made_at = NOON + timedelta(minutes=90)
    file = read_statement("s.csv", with_rows(f"Generated on {Paper().time(made_at)}"))
    assert file.span(NOON + timedelta(days=2)).last == made_at - timedelta(hours=1)
