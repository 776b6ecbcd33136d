"""A folder of files as people, spreadsheets and chats leave them: what is read of each, or with which sentence not.

A workbook is described by its rows, and made as Excel, LibreOffice and Google Sheets keep it: numbers as binary
fractions, dates without a zone, a percentage as its hundredth.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from kasoko_cli.operations.exchange.import_bets import bets_kind
from kasoko_cli.operations.exchange.import_records import (
    ImportPlan,
    markets_kind,
    plan_import,
    take_in,
    users_kind,
)
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.record_files import FileRefused, Format, InputFile
from kasoko_cli.operations.shared.record_header import read_as
from kasoko_cli.store.engine import database
from tests.operations.workbooks import Shown, workbook

KINDS = {"users": users_kind(), "markets": markets_kind(), "bets": bets_kind()}
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
#: The columns that are compared, of whichever kind they are.
SHOWN = {
    "bet_id",
    "market_id",
    "user_id",
    "name",
    "phone",
    "outcome",
    "stake_kes",
    "placed_at",
    "closes_at",
    "fee_bps",
}

U = "user_id,name,phone\n"
B = "bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at\n"
M = "market_id,slug,question,outcomes,closes_at,fee_bps\n"
T = "2026-11-20T09:00:00Z"


def at(year: int, month: int, day: int, hour: int = 0) -> datetime:
    """A date as a sheet has it: without a zone."""
    return datetime(year, month, day, hour)  # noqa: DTZ001 - that is the point of it


def book(*rows: Sequence[object]) -> bytes:
    """A workbook with one sheet."""
    return workbook({"Sheet1": rows})


def bet(stake: str = "100", placed: str = T, bet_id: str = "b1") -> str:
    """A file of one bet."""
    return f"{B}{bet_id},m1,ann,Yes,{stake},{placed},\n"


@dataclass(frozen=True)
class Case:
    """One file: its kind, what is in it, what is read or said, and what the options say."""

    kind: str
    content: str | bytes
    expected: list[str]
    how: Mapping[str, Any] = field(default_factory=dict)

    def file(self) -> InputFile:
        """The file as the command hands it on."""
        how = {"timezone": "Africa/Nairobi", **self.how}
        sheet, form = how.pop("sheet", None), how.pop("format", None)
        read = replace(read_as(KINDS[self.kind].columns, **how), sheet=sheet)
        raw = self.content.encode() if isinstance(self.content, str) else self.content
        chosen = form or (Format.XLSX if raw.startswith(b"PK") else Format.CSV)
        return InputFile("file", io.BytesIO(raw), chosen, read)


READ: dict[str, Case] = {
    "plain": Case("users", U + "cyn,Cyn Wanja,0712345670\n", ["cyn Cyn Wanja 2547****5670"]),
    "UTF-8 with a mark, CRLF": Case(
        "users", ("\ufeff" + U + "cyn,Cyn Wanja,0712345670\n").replace("\n", "\r\n"), ["cyn Cyn Wanja 2547****5670"]
    ),
    "semicolons": Case("users", (U + "cyn,Cyn Wanja,0712345670\n").replace(",", ";"), ["cyn Cyn Wanja 2547****5670"]),
    "semicolons that Excel announces": Case(
        "users", "sep=;\n" + (U + "cyn,Cyn Wanja,0712345670\n").replace(",", ";"), ["cyn Cyn Wanja 2547****5670"]
    ),
    "tabs": Case("users", (U + "cyn,Cyn Wanja,0712345670\n").replace(",", "\t"), ["cyn Cyn Wanja 2547****5670"]),
    "Excel's Unicode text": Case(
        "users", (U + "cyn,Cyn Wanja,0712345670\n").replace(",", "\t").encode("utf-16"), ["cyn Cyn Wanja 2547****5670"]
    ),
    "a space after each comma, quotes": Case(
        "users", 'user_id, name, phone\ncyn, "Wanja, Cyn", 0712345670\n', ["cyn Wanja, Cyn 2547****5670"]
    ),
    "a header in capitals with spaces": Case(
        "users", " User ID ,NAME,Phone\ncyn,Cyn Wanja,0712345670\n", ["cyn Cyn Wanja 2547****5670"]
    ),
    "titles above, empty rows below": Case(
        "users",
        "Members of December,,\n,,\n" + U + "cyn,Cyn Wanja,0712345670\n,,\n,,\n",
        ["cyn Cyn Wanja 2547****5670"],
    ),
    "another column, another order": Case(
        "users", "phone,remark,name,user_id\n0712345670,new,Cyn Wanja,cyn\n", ["cyn Cyn Wanja 2547****5670"]
    ),
    "an index without a name, as pandas writes it": Case(
        "users", ",user_id,name,phone\n0,cyn,Cyn Wanja,0712345670\n", ["cyn Cyn Wanja 2547****5670"]
    ),
    "too many empty cells": Case(
        "users", "user_id,name,phone,,\ncyn,Cyn Wanja,0712345670,,\n", ["cyn Cyn Wanja 2547****5670"]
    ),
    "other names for the columns": Case(
        "users",
        "Member,Full Name,Mobile No\ncyn,Cyn Wanja,0712345670\n",
        ["cyn Cyn Wanja 2547****5670"],
        {"said": ["user_id=member", "name=Full Name", "phone=mobile no"]},
    ),
    "the names of the settings": Case(
        "users",
        "Member,Full Name,Mobile No\ncyn,Cyn Wanja,0712345670\n",
        ["cyn Cyn Wanja 2547****5670"],
        {"usual": ["user_id=Member", "name=Full Name", "phone=Mobile No", "stake_kes=Amount"]},
    ),
    "a workbook with phones as numbers": Case(
        "users",
        book(
            ["User ID", "Name", "Phone", "Joined"],
            ["cyn", "Cyn Wanja", 712345670, at(2026, 1, 1)],
            [None, None, None],
            ["dan", "Dan Otieno", 254712345671.0],
        ),
        ["cyn Cyn Wanja 2547****5670", "dan Dan Otieno 2547****5671"],
    ),
    "a workbook with a title and another sheet": Case(
        "users",
        workbook(
            {
                "Read me": [["Hello"]],
                "Members": [["Members"], [], ["User ID", "Name", "Phone"], ["cyn", "Cyn Wanja", "0712 345 670"]],
            }
        ),
        ["cyn Cyn Wanja 2547****5670"],
    ),
    "a workbook that calls itself .csv": Case(
        "users",
        book(["user_id", "name", "phone"], ["cyn", "Cyn Wanja", "0712345670"]),
        ["cyn Cyn Wanja 2547****5670"],
        {"format": Format.CSV},
    ),
    "a phone from a chat, with marks of direction": Case(
        "users", U + "cyn,Cyn Wanja,\u202a+254 712 345 670\u202c\n", ["cyn Cyn Wanja 2547****5670"]
    ),
    "a phone with hard spaces": Case(
        "users", U + "cyn,Cyn\u00a0Wanja,0712\u00a0345\u00a0670\n", ["cyn Cyn Wanja 2547****5670"]
    ),
    "a phone that a spreadsheet keeps as text": Case(
        "users", U + "cyn,Cyn Wanja,'0712345670\n", ["cyn Cyn Wanja 2547****5670"]
    ),
    "one of two sheets": Case(
        "users",
        workbook(
            {
                "Jan": [["user_id", "name", "phone"], ["cyn", "C", "0712345670"]],
                "Feb": [["user_id", "name", "phone"], ["dan", "D", "0712345671"]],
            }
        ),
        ["dan D 2547****5671"],
        {"sheet": "Feb"},
    ),
    "a market with a percentage": Case(
        "markets",
        "Market ID;Slug;Question;Outcomes;Closes At;Fee %\nm9;sun;Sun?;Yes|No;2026-12-05 17:00;5,00\n".replace(
            "5,00", "5.00"
        ),
        ["m9 2026-12-05T14:00:00Z 500"],
    ),
    "a market in a workbook": Case(
        "markets",
        book(
            ["Market ID", "Slug", "Question", "Outcomes", "Closes At", "Fee %"],
            ["m9", "sun", "Sun?", "Yes|No", at(2026, 12, 5, 17), Shown(0.05, "0%")],
        ),
        ["m9 2026-12-05T14:00:00Z 500"],
    ),
    "a bet by slug, in another case, without cancelled_at": Case(
        "bets",
        "bet_id,market_id,user_id,outcome,stake_kes,placed_at\nb1,rain,ann,YES,100," + T + "\n",
        ["b1 m1 ann Yes 100.00 2026-11-20T09:00:00Z"],
    ),
    "thousands in quotes": Case("bets", bet('"1,500"'), ["b1 m1 ann Yes 1500.00 2026-11-20T09:00:00Z"]),
    "thousands parted by a space": Case("bets", bet("1 500"), ["b1 m1 ann Yes 1500.00 2026-11-20T09:00:00Z"]),
    "KES and cents": Case("bets", bet('"KES 1,500.00"'), ["b1 m1 ann Yes 1500.00 2026-11-20T09:00:00Z"]),
    "an amount as Kenyans write it": Case("bets", bet("500/="), ["b1 m1 ann Yes 500.00 2026-11-20T09:00:00Z"]),
    "a workbook with binary noise and a text": Case(
        "bets",
        book(
            ["Bet ID", "Market ID", "User ID", "Outcome", "Stake (KES)", "Placed At"],
            ["b1", "m1", "ann", "Yes", 0.1 + 0.2, at(2026, 11, 20, 12)],
            ["b2", "m1", "ben", "No", "Ksh 1,500", "2026-11-20 12:00 EAT"],
        ),
        ["b1 m1 ann Yes 0.30 2026-11-20T09:00:00Z", "b2 m1 ben No 1500.00 2026-11-20T09:00:00Z"],
    ),
    "a time of Nairobi": Case("bets", bet(placed="2026-11-20 12:00"), ["b1 m1 ann Yes 100.00 2026-11-20T09:00:00Z"]),
    "a time of London": Case(
        "bets",
        bet(placed="2026-11-20 09:00"),
        ["b1 m1 ann Yes 100.00 2026-11-20T09:00:00Z"],
        {"timezone": "Europe/London"},
    ),
    "days first, as said": Case(
        "bets", bet(placed="05/11/2026 12:00"), ["b1 m1 ann Yes 100.00 2026-11-05T09:00:00Z"], {"order": "dmy"}
    ),
    "days first, as another line proves": Case(
        "bets",
        bet(placed="05/11/2026 12:00") + "b2,m1,ben,No,100,20/11/2026 12:00,\n",
        ["b1 m1 ann Yes 100.00 2026-11-05T09:00:00Z", "b2 m1 ben No 100.00 2026-11-20T09:00:00Z"],
    ),
    "a month by name and half a day": Case(
        "bets", bet(placed="20-Nov-2026 12:00 PM"), ["b1 m1 ann Yes 100.00 2026-11-20T09:00:00Z"]
    ),
    "empty cells left out at the end": Case(
        "bets", B + "b1,m1,ann,Yes,100," + T + "\n", ["b1 m1 ann Yes 100.00 2026-11-20T09:00:00Z"]
    ),
    "late and from the future": Case(
        "bets", bet(placed="2027-01-20 12:00"), ["b1 m1 ann Yes 100.00 2027-01-20T09:00:00Z"]
    ),
    "a column that is nearly ours and is not": Case(
        "bets",
        "bet_id,market_id,user_id,outcome,stake_kes,placed_at,Cancelled\nb1,m1,ann,Yes,100," + T + ",yes\n",
        ["b1 m1 ann Yes 100.00 2026-11-20T09:00:00Z"],
        {"said": ["cancelled_at=-"]},
    ),
    "nothing below the header": Case("bets", B, []),
}

REFUSED: dict[str, Case] = {
    "a phone that a spreadsheet cut": Case(
        "users",
        U + "cyn,Cyn Wanja,2.54712E+11\n",
        [
            (
                "line 2, phone: The phone '2.54712E+11' is not a Kenyan mobile number. A spreadsheet cut "
                "it short: format the column as text and enter the whole number. Write it as 0712 345 "
                "678 or +254 712 345 678."
            )
        ],
    ),
    "a phone that lost digits": Case(
        "users",
        book(["user_id", "name", "phone"], ["cyn", "Cyn Wanja", 71234567.0]),
        [
            (
                "line 2, phone: The phone '7123****67' (8 digits) is not a Kenyan mobile number. Write "
                "it as 0712 345 678 or +254 712 345 678."
            )
        ],
    ),
    "a phone with a hidden character": Case(
        "users",
        U + "cyn,Cyn Wanja,0712\u200b345670\n",
        [
            (
                "line 2, phone: The phone '0712****70' (10 digits) is not a Kenyan mobile number. Its "
                "character 5 is a hidden character: Zero width space, U+200B. Write it as 0712 345 678 "
                "or +254 712 345 678."
            )
        ],
    ),
    "two phones in a cell": Case(
        "users",
        U + "cyn,Cyn Wanja,0712345670 / 0722345670\n",
        [
            (
                "line 2, phone: The phone '0712****70' (20 digits) is not a Kenyan mobile number. There "
                "are two numbers in it, and only one can be paid. Write it as 0712 345 678 or +254 712 "
                "345 678."
            )
        ],
    ),
    "the letter O": Case(
        "users",
        U + "cyn,Cyn Wanja,O712345670\n",
        [
            (
                "line 2, phone: The phone 'O712****70' (9 digits) is not a Kenyan mobile number. The "
                "letter O stands for a zero. Write it as 0712 345 678 or +254 712 345 678."
            )
        ],
    ),
    "a block that is not known": Case(
        "users",
        U + "cyn,Cyn Wanja,0160123456\n",
        [
            (
                "line 2, phone: The phone '0160****56' (10 digits) is in no block of Kenyan mobile "
                "numbers that is known here. Check its digits; if it is right, take it all the same: "
                "--any-block"
            )
        ],
    ),
    "a line end in a cell": Case(
        "users",
        U + 'cyn,"Cyn\nWanja",0712345670\n',
        ["line 2: A quoted field does not end on its line. No field holds a line end."],
    ),
    "Windows-1252": Case(
        "users",
        (U + "cyn,Zoë,0712345670\n").encode("cp1252"),
        ["line 2: It is not UTF-8: byte 0xeb at place 7. Save the file as UTF-8."],
    ),
    "an unquoted comma": Case(
        "users",
        U + "cyn,Wanja, Cyn,0712345670\n",
        ["line 2: It has 4 fields, and the header names 3. Put quotes around a field with a comma."],
    ),
    "columns of other names": Case(
        "users",
        "User ID,Full Name,Mobile No\ncyn,Cyn Wanja,0712345670\n",
        [
            "line 1, name: The column is missing. Is it 'Full Name'?",
            "line 1, phone: The column is missing. Is it 'Mobile No'?",
        ],
    ),
    "no header": Case(
        "users",
        "cyn,Cyn Wanja,0712345670\n",
        ["line 1: It is not the header. The first line names the columns: user_id,name,phone"],
    ),
    "a column twice": Case(
        "users",
        "user_id,name,phone,Phone\ncyn,Cyn,0712345670,0712345671\n",
        ["line 1, phone: The column is there twice."],
    ),
    "an old workbook": Case(
        "users",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600,
        ["line 1: it is a workbook of the old kind (.xls), or one that is locked with a password"],
    ),
    "a web page that calls itself .xls": Case(
        "users",
        "<html><table><tr><td>user_id</td></tr></table></html>",
        ["line 1: it is a web page or XML, whatever its name says"],
    ),
    "two sheets that fit": Case(
        "users",
        workbook(
            {
                "Jan": [["user_id", "name", "phone"], ["cyn", "C", "0712345670"]],
                "Feb": [["user_id", "name", "phone"], ["dan", "D", "0712345671"]],
            }
        ),
        ["line 1: Its sheets 'Jan' and 'Feb' have such columns."],
    ),
    "a closing day without an hour": Case(
        "markets",
        M + "m9,sun,Sun?,Yes|No,2026-12-05,500\n",
        ["line 2, closes_at: '2026-12-05' is a day without a time of day. Write the hour and minute too, like 17:00."],
    ),
    "a closing day in a workbook": Case(
        "markets",
        book(
            ["Market ID", "Slug", "Question", "Outcomes", "Closes At", "Fee bps"],
            ["m9", "sun", "Sun?", "Yes|No", date(2026, 12, 5), 500],
        ),
        ["line 2, closes_at: '2026-12-05' is a day without a time of day. Write the hour and minute too, like 17:00."],
    ),
    "no fee": Case(
        "markets",
        "market_id,slug,question,outcomes,closes_at,fee\nm9,sun,Sun?,Yes|No,2026-12-05 17:00,5\n",
        ["line 1, fee_bps: The column is missing, and so is fee_pct."],
    ),
    "two fees": Case(
        "markets",
        "market_id,slug,question,outcomes,closes_at,fee_bps,fee_pct\nm9,sun,Sun?,Yes|No,2026-12-05 17:00,5,5\n",
        ["line 2, fee_pct: It is '5' percent, and fee_bps says '5'. Leave one of them out."],
    ),
    "a decimal comma": Case(
        "bets",
        bet('"1,50"'),
        [
            (
                "line 2, stake_kes: The stake '1,50' is not an amount in shillings. Its comma or point "
                "may stand before cents or between thousands. Write it with digits, and at most two "
                "decimals after a point: 150 or 48.50"
            )
        ],
    ),
    "points between thousands": Case(
        "bets",
        bet('"1.500,00"'),
        [
            (
                "line 2, stake_kes: The stake '1.500,00' is not an amount in shillings. Its comma or "
                "point may stand before cents or between thousands. Write it with digits, and at most "
                "two decimals after a point: 150 or 48.50"
            )
        ],
    ),
    "three decimals": Case(
        "bets",
        bet("1.500"),
        [
            (
                "line 2, stake_kes: The stake '1.500' is not an amount in shillings. Its comma or point "
                "may stand before cents or between thousands. Write it with digits, and at most two "
                "decimals after a point: 150 or 48.50"
            )
        ],
    ),
    "dollars": Case(
        "bets",
        bet("$5"),
        [
            (
                "line 2, stake_kes: The stake '$5' is not an amount in shillings. It is in another "
                "currency. Write it with digits, and at most two decimals after a point: 150 or 48.50"
            )
        ],
    ),
    "an unquoted thousand": Case(
        "bets",
        "bet_id,market_id,user_id,outcome,placed_at,stake_kes,remark\nb1,m1,ann,Yes," + T + ",1,500,\n",
        ["line 2: It has 8 fields, and the header names 7. Put quotes around a field with a comma."],
    ),
    "an unquoted thousand in a short row": Case(
        "bets",
        "bet_id,market_id,user_id,outcome,placed_at,stake_kes,remark,shop\nb1,m1,ann,Yes," + T + ",1,500\n",
        ["line 2: It has 7 fields, and the header names 8. Put quotes around a field with a comma."],
    ),
    "a date of two readings": Case(
        "bets",
        bet(placed="05/11/2026 12:00"),
        [
            (
                "line 2, placed_at: '05/11/2026 12:00' does not say which of its numbers is the day: it "
                "can be 5 November or 11 May. Say it for the whole file: --dates dmy, or --dates mdy."
            )
        ],
    ),
    "dates of two programs": Case(
        "bets",
        bet(placed="5/11/2026 12:00") + "b2,m1,ben,No,100,20/11/2026 12:00,\nb3,m1,ben,No,100,06/11/2026 12:00,\n",
        [
            (
                "line 2, placed_at: '5/11/2026 12:00' does not say which of its numbers is the day: it "
                "can be 5 November or 11 May. Say it for the whole file: --dates dmy, or --dates mdy."
            ),
            (
                "line 3, placed_at: '20/11/2026 12:00' does not say which of its numbers is the day. Say "
                "it for the whole file: --dates dmy, or --dates mdy."
            ),
            (
                "line 4, placed_at: '06/11/2026 12:00' does not say which of its numbers is the day: it "
                "can be 6 November or 11 June. Say it for the whole file: --dates dmy, or --dates mdy."
            ),
        ],
    ),
    "a date that is no day of that order": Case(
        "bets",
        bet(placed="20/11/2026 12:00"),
        [
            (
                "line 2, placed_at: '20/11/2026 12:00' is no date that is written as month/day/year. "
                "Write it like 2026-11-20T15:00:00Z or 2026-11-20T18:00:00+03:00."
            )
        ],
        {"order": "mdy"},
    ),
    "days that a spreadsheet took for months": Case(
        "bets",
        book(
            ["Bet ID", "Market ID", "User ID", "Outcome", "Stake KES", "Placed At"],
            ["b1", "m1", "ann", "Yes", 100, at(2026, 5, 11, 12)],
            ["b2", "m1", "ben", "No", 100, "20/11/2026 12:00"],
        ),
        [
            (
                "line 3, placed_at: '20/11/2026 12:00' is text, and other times of the file are dates. "
                "The spreadsheet may have taken days for months where it could: import the file that it "
                "was made from, or format the column as text before the times are put in."
            )
        ],
    ),
    "a date as a number": Case(
        "bets",
        bet(placed="46346.5"),
        [
            (
                "line 2, placed_at: The time '46346.5' is the number that a spreadsheet keeps a date by. "
                "Format the column as a date with its time, like yyyy-mm-dd hh:mm."
            )
        ],
    ),
    "a total below": Case(
        "bets",
        bet() + "Total,,,,100,,\n",
        [
            "line 3, market_id: It is empty. Write the market's id or slug.",
            "line 3, user_id: It is empty. Write the user's id.",
            "line 3, placed_at: '' is not a time. Write it like 2026-11-20T15:00:00Z or 2026-11-20T18:00:00+03:00.",
        ],
    ),
    "an id that a spreadsheet cut": Case(
        "bets",
        bet(bet_id="1.23E+15"),
        [
            (
                "line 2, bet_id: '1.23E+15' cannot be the bet id: a spreadsheet cut it short. Format the "
                "column as text and enter the whole of it."
            )
        ],
    ),
    "a column that is nearly ours": Case(
        "bets",
        "bet_id,market_id,user_id,outcome,stake_kes,placed_at,Cancelled\nb1,m1,ann,Yes,100," + T + ",\n",
        ["line 1, cancelled_at: The column 'Cancelled' is likely to be meant."],
    ),
}


@pytest.fixture(scope="module")
def world(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperationContext]:
    """Two users and an open market."""
    path = tmp_path_factory.mktemp("spreadsheets") / "kasoko.db"
    path.write_bytes(sqlite_template.read_bytes())
    db = database.open_database(f"sqlite:///{path}")
    context = OperationContext(db, lambda: NOW, Actor("tester", "a test"))
    users, markets = (
        U + "ann,Ann Auma,0712345678\nben,Ben Müller,0722000111\n",
        M + f"m1,rain,Rain?,Yes|No,{CLOSES},500\n",
    )
    take_in(context, InputFile("users", io.BytesIO(users.encode()), Format.CSV), users_kind())
    take_in(context, InputFile("markets", io.BytesIO(markets.encode()), Format.CSV), markets_kind())
    yield context
    db.close()


CLOSES = "2026-12-01T15:00:00Z"


def planned(world: OperationContext, case: Case) -> ImportPlan:
    return plan_import(world, case.file(), KINDS[case.kind])


def dump(world: OperationContext) -> list[tuple[object, ...]]:
    """How many rows there are of whatever an import writes."""
    names = ("users", "markets", "outcomes", "bets", "entries", "postings", "events")
    with world.db.reading() as session:
        run = session.connection().exec_driver_sql
        return [tuple(run(f"SELECT count(*) FROM {name}").one()) for name in names]


@pytest.mark.parametrize("name", READ)
def test_a_file_is_read_as_it_was_meant(world: OperationContext, name: str) -> None:
    before = dump(world)
    plan = planned(world, READ[name])
    assert [str(problem) for problem in plan.problems] == []
    shown = [" ".join(text for column, text in one.items() if column in SHOWN and text) for one in plan.first]
    assert shown == READ[name].expected
    assert dump(world) == before, "a plan writes nothing"


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_known_is_refused_with_the_reason(world: OperationContext, name: str) -> None:
    before = dump(world)
    try:
        problems = planned(world, REFUSED[name]).problems
    except FileRefused as refused:
        problems = [*refused.problems]
    assert [str(problem) for problem in problems] == REFUSED[name].expected
    with pytest.raises(FileRefused):
        take_in(world, REFUSED[name].file(), KINDS[REFUSED[name].kind])
    assert dump(world) == before


def test_there_are_many_files() -> None:
    assert len(READ) + len(REFUSED) >= 60


def test_what_is_planned_is_what_is_taken_in_and_known_the_second_time(
    sqlite_template: Path, tmp_path: Path, world: OperationContext
) -> None:
    path = tmp_path / "kasoko.db"
    path.write_bytes(sqlite_template.read_bytes())
    db = database.open_database(f"sqlite:///{path}")
    context = replace(world, db=db)
    for case in (READ["a workbook with phones as numbers"], READ["a market in a workbook"]):
        plan = planned(context, case)
        first = take_in(context, case.file(), KINDS[case.kind])
        again = take_in(context, case.file(), KINDS[case.kind])
        assert (plan.new, first.new, again.new, again.known) == (first.new, first.new, 0, first.new)
        assert plan.sha256 == first.sha256
        assert plan.notes == first.notes
    db.close()


def test_what_is_unusual_is_told(world: OperationContext) -> None:
    notes = {note.kind: note for note in planned(world, READ["late and from the future"]).notes}
    assert (notes["late"].first, notes["future"].first, notes["timezone"].count) == (["b1"], ["b1"], 1)
    shared = Case("users", U + "cyn,Cyn,0712345678\ndan,Dan,0712345671\n", [])
    [note] = planned(world, shared).notes
    assert (note.kind, note.count, note.first) == ("shared_phone", 1, ["2547****5678: ann, cyn"])
    extra = {note.kind: note for note in planned(world, READ["another column, another order"]).notes}
    assert extra["ignored"].what == "1 column not read: 'remark'"
