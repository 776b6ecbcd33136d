"""M-Pesa's organisation statement as a file, made from what a test says that happened."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from kasoko_cli.clock import NAIROBI
from kasoko_cli.domain.money import format_kes
from kasoko_cli.operations.reconciliation.statement_parser import StatementFile, read_statement

HEADER = [
    "Receipt No.",
    "Completion Time",
    "Initiation Time",
    "Details",
    "Transaction Status",
    "Paid In",
    "Withdrawn",
    "Balance",
    "Balance Confirmed",
    "Reason Type",
    "Other Party Info",
    "Linked Transaction ID",
    "A/C No.",
]

B2C, CHARGE = "Business Payment to Customer via API", "Business Payment Charge"
REVERSAL, PAYBILL, TRANSFER = "B2C Reversal", "Pay Bill Online", "Organization Settlement Account to Utility"


@dataclass
class Paper:
    """What happened on the account, in the order in which it happened."""

    shortcode: str = "600000"
    opening_cents: int = 100_000_000
    day_first: bool = False
    masked: bool = False
    to_the_minute: bool = False
    without: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    rows: list[list[str]] = field(default_factory=list)
    balance_cents: int = field(init=False)

    def __post_init__(self) -> None:
        self.balance_cents = self.opening_cents

    def line(
        self,
        receipt: str,
        at: datetime,
        *,
        paid_in: int = 0,
        withdrawn: int = 0,
        reason: str = B2C,
        status: str = "Completed",
        phone: str = "",
        details: str = "",
        linked: str = "",
        account: str = "",
    ) -> None:
        """One movement, in cents; only what is completed moves the balance."""
        if status == "Completed":
            self.balance_cents += paid_in - withdrawn
        if phone and self.masked:
            phone = f"{phone[:4]}****{phone[-4:]}"
        party = f"{phone} - JANE DOE" if phone else ""
        self.rows.append(
            [
                receipt,
                self.time(at),
                self.time(at),
                details or f"{reason} to {party}",
                status,
                format_kes(paid_in) if paid_in else "",
                format_kes(-withdrawn) if withdrawn else "",
                format_kes(self.balance_cents),
                "true",
                reason,
                party,
                linked,
                account,
            ]
        )

    def movement(self, at: datetime) -> None:
        """A customer's payment of one shilling, which shows that the statement goes so far."""
        self.line(f"UKM{len(self.rows):07d}", at, paid_in=100, reason=PAYBILL)

    def time(self, at: datetime) -> str:
        """A time of Nairobi in one of the two spellings."""
        said = at.astimezone(NAIROBI).strftime("%d-%m-%Y %H:%M:%S" if self.day_first else "%Y-%m-%d %H:%M:%S")
        return said[:-3] if self.to_the_minute else said

    def table(self) -> list[list[str]]:
        """The whole sheet: about the organisation, the header, the newest first."""
        before = [["Organization Name:", "KASOKO LTD"], ["Short Code:", self.shortcode]]
        if self.since is not None and self.until is not None:
            before.append(["Time Period:", f"From {self.time(self.since)} To {self.time(self.until)}"])
        kept = [place for place, name in enumerate(HEADER) if name not in self.without]
        return [*before, [], *([row[place] for place in kept] for row in (HEADER, *reversed(self.rows)))]

    def csv(self, *, separator: str = ",", ends: str = "\r\n", mark: bool = True) -> bytes:
        """As a CSV file."""
        written = io.StringIO()
        csv.writer(written, delimiter=separator, lineterminator=ends).writerows(self.table())
        return (b"\xef\xbb\xbf" if mark else b"") + written.getvalue().encode()

    def xlsx(self, *, typed: bool = False, saved_at: datetime | None = None) -> bytes:
        """As a workbook; `typed` writes numbers and times as such and not as text.

        It says that it was saved at `saved_at`, or else a week after its newest line.
        """
        from openpyxl import Workbook

        book = Workbook()
        sheet = book.active
        assert sheet is not None
        for row in self.table():
            cells: list[object] = list(row)
            if typed and len(row) == len(HEADER) and row[0] != HEADER[0]:
                cells[1] = datetime.strptime(row[1], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007 - a sheet has no zones
                for place in (5, 6, 7):
                    cells[place] = float(row[place].replace(",", "")) if row[place] else None
            sheet.append(cells)
        kept = io.BytesIO()
        book.save(kept)
        newest = datetime.strptime(self.rows[-1][1], "%d-%m-%Y %H:%M:%S" if self.day_first else "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
        return _saved(kept.getvalue(), saved_at or newest.replace(tzinfo=NAIROBI) + timedelta(days=7))

    def read(self, name: str = "statement.csv") -> StatementFile:
        """As the program reads it."""
        return read_statement(name, self.csv())

    def covering(self, around: Sequence[datetime]) -> Paper:
        """The same, which says that it covers these times with two days on either side."""
        self.since, self.until = min(around) - timedelta(days=2), max(around) + timedelta(days=2)
        return self


def _saved(content: bytes, at: datetime) -> bytes:
    """The same workbook, which says that it was saved then; openpyxl always writes the time of this machine."""
    written = io.BytesIO()
    said = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}".encode()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w") as new:
        for part in old.infolist():
            text = old.read(part)
            if part.filename == "docProps/core.xml":
                text = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + said, text)
            new.writestr(part, text)
    return written.getvalue()
