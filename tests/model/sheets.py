"""Statements of the model's M-Pesas: true to the ledger, in whatever words, and as short as a portal makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from kasoko_cli.daraja.simulator.app import Simulator
from tests.operations.paper import B2C, REVERSAL, Paper

#: The receiver as the other side of a line shows it; the last three tell little or nothing.
RECEIVERS = (
    lambda phone: phone,
    lambda phone: f"2547 ***** {phone[-3:]}",
    lambda phone: f"0{phone[3:5]}* *** {phone[-3:]} O'BRIEN",
    lambda phone: f"************{phone[-1]}",
    lambda _: "JANE DOE",
    lambda _: "",
)
#: Reason types that M-Pesa gives to payments to customers.
REASONS = (
    B2C,
    "Business Payment to Customer Withdrawal Charge Paid via API",
    "Salary Payment to Customer Withdrawal Charge Paid via API",
    "MMI Transfer to Customer via API",
)


@dataclass(frozen=True)
class Export:
    """How somebody exports a statement: of which M-Pesa, how old the file is, and what it says of itself."""

    bank: int = 0
    #: How many hours before now it was made, and how many it reaches back from there.
    hours_old: int = 0
    hours_long: int = 24 * 30
    #: How many hours past the moment at which it was made its period goes.
    hours_ahead: int = 0
    #: Whether lines of the last half hour are not on it yet.
    lags: bool = False
    receiver: int = 0
    reason: int = 0


def sheet_of(bank: Simulator, export: Export, now: datetime, came_back: Mapping[str, tuple[datetime, str]]) -> Paper:
    """The statement: `came_back` is by our id, and a customer's payment at either end shows how far it goes."""
    made_at = now - timedelta(hours=export.hours_old)
    since = made_at - timedelta(hours=export.hours_long)
    paper = Paper(shortcode=bank.settings.shortcode)
    paper.since, paper.until = since, made_at + timedelta(hours=export.hours_ahead)
    shown_to = made_at - timedelta(minutes=30) if export.lags else made_at
    _customer(paper, since)
    lines = [(paid.at, "", paid) for paid in bank.gateway._account._paid]
    lines += [(*came_back[paid.originator_id], paid) for _, _, paid in lines if paid.originator_id in came_back]
    for at, returned_by, paid in sorted(lines, key=lambda line: line[0]):
        if not since < at <= shown_to:
            continue
        if returned_by:
            back, linked = paid.amount_cents, paid.transaction_id
            paper.line(returned_by, at, paid_in=back, reason=REVERSAL, phone=paid.phone, linked=linked)
        else:
            party = RECEIVERS[export.receiver % len(RECEIVERS)](paid.phone)
            paper.line(
                paid.transaction_id,
                paid.at,
                withdrawn=paid.amount_cents,
                reason=REASONS[export.reason % len(REASONS)],
                phone=party,
                details="Payment to a customer",
            )
    _customer(paper, made_at)
    return paper


def _customer(paper: Paper, at: datetime) -> None:
    """A stake of one shilling, which the platform has counted; its receipt is that of its second everywhere."""
    paper.line(f"U{int(at.timestamp()):09d}"[-10:], at, paid_in=100, reason="Pay Bill Online")
