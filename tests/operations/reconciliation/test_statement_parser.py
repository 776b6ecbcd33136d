"""Claims about reading a statement: in one way, or not at all."""

from __future__ import annotations

import io
import time
import zipfile
from datetime import UTC, datetime, timedelta

import pytest

from kasoko_cli.operations.reconciliation.statement_parser import LineKind, LineStatus, StatementFile, read_statement
from kasoko_cli.operations.shared.record_files import FileRefused
from tests.operations.paper import CHARGE, HEADER, PAYBILL, REVERSAL, TRANSFER, Paper

NOON = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def written(*, day_first: bool = False) -> Paper:
    paper = Paper(day_first=day_first)
    paper.line("UKN0000001", NOON, paid_in=5_000_000, reason=TRANSFER)
    paper.line("UKN0000002", NOON + timedelta(minutes=1), withdrawn=1_234_500, phone="254712000111")
    paper.line("UKN0000002", NOON + timedelta(minutes=1), withdrawn=900, reason=CHARGE)
    paper.line("UKN0000003", NOON + timedelta(minutes=2), withdrawn=10_000, status="Failed", phone="254712000222")
    paper.line("UKN0000004", NOON + timedelta(minutes=3), paid_in=1_234_500, reason=REVERSAL, linked="UKN0000002")
    paper.line("UKN0000005", NOON + timedelta(minutes=4), paid_in=15_050, reason=PAYBILL, account="bet-1")
    return paper


def facts(file: StatementFile) -> list[tuple[object, ...]]:
    return [
        (line.key, line.receipt, line.completed_at, line.status, line.kind, line.paid_in_cents, line.withdrawn_cents)
        for line in file.lines
    ]


def test_a_statement_is_read_to_the_cent_oldest_first() -> None:
    paper = written()
    paper.since, paper.until = NOON - timedelta(days=1), NOON + timedelta(days=1)
    file = read_statement("s.csv", paper.csv())
    assert [(line.receipt, line.moved_cents, line.status, line.kind) for line in file.lines] == [
        ("UKN0000001", 5_000_000, LineStatus.COMPLETED, LineKind.OTHER),
        ("UKN0000002", -1_234_500, LineStatus.COMPLETED, LineKind.PAYOUT),
        ("UKN0000002", -900, LineStatus.COMPLETED, LineKind.CHARGE),
        ("UKN0000003", 0, LineStatus.FAILED, LineKind.PAYOUT),
        ("UKN0000004", 1_234_500, LineStatus.COMPLETED, LineKind.BACK),
        ("UKN0000005", 15_050, LineStatus.COMPLETED, LineKind.CUSTOMER),
    ]
    assert file.lines[1].completed_at == NOON + timedelta(minutes=1), "Nairobi is three hours ahead of UTC"
    assert file.lines[1].party.is_surely("254712000111")
    assert (file.lead.accounts, file.whole, file.opening_cents) == (("600000",), True, 100_000_000)
    assert file.closing_cents == 100_000_000 + 5_000_000 - 1_234_500 - 900 + 1_234_500 + 15_050
    assert file.lead.period == (paper.since, paper.until)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(written().csv(separator=";"), id="semicolons"),
        pytest.param(written().csv(separator="\t"), id="tabs"),
        pytest.param(written().csv(ends="\n", mark=False), id="line feeds and no byte order mark"),
        pytest.param(written().xlsx(), id="a workbook of texts"),
        pytest.param(written().xlsx(typed=True), id="a workbook of numbers and times"),
        pytest.param(written(day_first=True).csv(), id="days before months"),
        pytest.param(written().csv().replace(b"Receipt No.,", b'"receipt  no",'), id="a header in other letters"),
    ],
)
def test_every_spelling_of_a_statement_has_the_same_lines_by_the_same_keys(content: bytes) -> None:
    assert facts(read_statement("s", content)) == facts(read_statement("s", written().csv()))


def test_the_oldest_first_is_read_too() -> None:
    head, *lines = written().csv(mark=False).decode().split(",".join(HEADER) + "\r\n")
    turned = "\r\n".join(reversed(lines[0].strip().split("\r\n")))
    file = read_statement("s", f"{head}{','.join(HEADER)}\r\n{turned}\r\n".encode())
    assert facts(file) == facts(read_statement("s", written().csv()))
    assert file.whole


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("2026-11-23 12:01:00", "11/23/2026 12:01:00"), "line 8, Completion Time: '11/23/2026 12:01:00' is no time"),
        (("2026-11-23 12:01:00", "2026-11-23 25:01:00"), "is no time"),
        (('"-12,345.00"', '"-12.345,00"'), "line 9, Withdrawn: '-12.345,00' is no amount"),
        (('"-12,345.00"', '"12,34,5.00"'), "is no amount"),
        (('"-12,345.00"', "12345.001"), "is no amount"),
        (("Failed", "Perhaps"), "line 7, Transaction Status: 'perhaps' is no status of a transaction"),
        (("UKN0000003,", "UKN-3,"), "line 7, Receipt No.: 'UKN-3' is no receipt"),
        (('Completed,,"-12,345.00"', 'Completed,10.00,"-12,345.00"'), "money came in and went out on one line"),
        (('Completed,,"-12,345.00"', "Completed,,"), "it is completed, and no money moved"),
        (("Withdrawn,", "Gone,"), "line 4, Withdrawn: the column is missing"),
        (("Balance Confirmed,", "Withdrawn,"), "line 4, Withdrawn: the column is there twice"),
        (("UKN0000001,", "UKN0000001"), "line 10, Receipt No.: 'UKN00000012026-11-23 12:00:00' is no receipt"),
        (("Receipt No.", "Number"), "line 4, Receipt No.: the column is missing"),
    ],
)
def test_whatever_could_be_read_in_two_ways_is_refused_with_its_line(change: tuple[str, str], said: str) -> None:
    content = written().csv(mark=False).decode()
    assert change[0] in content
    content = content.replace(*change, 1)
    with pytest.raises(FileRefused) as refused:
        read_statement("s.csv", content.encode())
    assert said in refused.value.message
    assert "nothing was changed" in refused.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "line 1: the file is empty"),
        (b"Receipt No.,Completion Time\n\xe9", "line 2: it is not UTF-8: byte 0xe9"),
        (b"a,b\n\0", "line 2: it holds a NUL character"),
        (b"a,b\nc," + b"d" * 2_001, "line 2: its column 2 has 2,001 characters"),
        (b"," * 100, "line 1: it has 101 columns"),
        (b"PK\x03\x04 and nothing", "no workbook that can be read"),
        (",".join(HEADER).encode(), "a statement without movements says nothing"),
        ((",".join(HEADER) + '\n"UKN').encode(), "line 2: it cannot be split into columns"),
    ],
)
def test_what_is_no_statement_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(FileRefused) as refused:
        read_statement("s", content)
    assert said in refused.value.message


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    """A workbook of 84 KiB took 50 seconds and 1.3 GiB."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/sharedStrings.xml", b"<si><t>0</t></si>" * 3_000_000)
    began = time.process_time()
    with pytest.raises(FileRefused, match=r"it unpacks to \d+ times its size: it is no table"):
        read_statement("s.xlsx", packed.getvalue())
    assert time.process_time() - began < 1


def test_a_line_that_was_left_out_shows_in_the_balances() -> None:
    paper = written()
    del paper.rows[1]
    file = read_statement("s.csv", paper.csv())
    assert not file.whole
    assert file.broken_at == 8


def test_no_line_holds_a_persons_whole_number_in_its_reason() -> None:
    paper = Paper()
    paper.line("UKN0000001", NOON, withdrawn=100, reason="Business Payment to 254712000111")
    [line] = paper.read().lines
    assert line.reason == "Business Payment to 2547****0111"
