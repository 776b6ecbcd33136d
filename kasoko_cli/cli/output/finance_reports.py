"""Each report as facts, tables and charts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from kasoko_cli.cli.output.report_document import Cents, Chart, Sheet, Table, Value, shown, told

if TYPE_CHECKING:
    from kasoko_cli.operations.reporting.finance import ChargesReport, DayClose, IncidentsReport, SettlementSheet
    from kasoko_cli.operations.reporting.taxes import TaxesReport
    from kasoko_cli.operations.shared.overview import Amount


def _made(now: datetime) -> str:
    return f"Made by kasoko on {shown(now)}, Nairobi time. Times are Nairobi's; amounts are in Kenyan shillings."


def _counted(amount: Amount) -> str:
    return f"{amount.count:,} · {told(Cents(amount.amount_cents))}"


def settlement_sheet_of(found: SettlementSheet, now: datetime) -> Sheet:
    """A settlement: how the pool was divided, what stood on each outcome, and every payout."""
    figures, rules = found.figures, found.rules
    facts: list[tuple[str, Value]] = [
        ("Outcome", found.outcome),
        ("Settled", found.settled_at),
        ("Closed", found.closed_at),
        ("Bets", found.bets),
        ("Gross pool", Cents(figures.gross_cents)),
        ("Fee", Cents(figures.fee_cents)),
        ("Net pool", Cents(figures.net_cents)),
        ("Staked on the winner", Cents(figures.winning_stake_cents)),
        ("Winners", figures.winners),
        ("Owed to winners", Cents(figures.payouts_cents)),
        *([("Of that kept back as tax", Cents(figures.tax_cents))] if figures.tax_cents else []),
        ("Refunds", Cents(figures.refunds_cents)),
        ("Breakage", Cents(figures.breakage_cents)),
        ("Added by the operator", Cents(figures.top_up_cents)),
        ("Pending", _counted(found.payouts.pending)),
        ("Completed", _counted(found.payouts.completed)),
        ("Failed", _counted(found.payouts.failed)),
    ]
    told = ", ".join(f"{name} {value}" for name, value in rules.items())
    return Sheet(
        f"Settlement of {found.slug}",
        found.question,
        facts,
        (
            Table(
                "payouts",
                "Payouts",
                (
                    *("payout", "user", "name", "phone", "kind", "leg", "amount", "to phone", "status"),
                    *("receipt", "failure", "changed"),
                ),
                [
                    (
                        row.payout_id,
                        row.user,
                        row.name,
                        row.phone,
                        row.kind,
                        row.leg,
                        Cents(row.amount_cents),
                        Cents(row.wire_cents),
                        row.status,
                        row.receipt,
                        row.failure_code,
                        row.updated_at,
                    )
                    for row in found.rows
                ],
            ),
            Table(
                "outcomes",
                "Outcomes",
                ("outcome", "bets", "staked", "won"),
                [(row.outcome, row.bets, Cents(row.staked_cents), row.won) for row in found.outcomes],
            ),
            Table(
                "states",
                "Payouts by state",
                ("state", "payouts", "amount"),
                [(name, one.count, Cents(one.amount_cents)) for name, one in found.by_status.items()],
            ),
        ),
        (
            Chart(
                "Where the pool went",
                ("amount",),
                [
                    ("winners", (figures.payouts_cents,)),
                    ("refunds", (figures.refunds_cents,)),
                    ("fee", (figures.fee_cents,)),
                    ("breakage", (figures.breakage_cents,)),
                ],
            ),
            Chart(
                "Payouts by state", ("amount",), [(name, (one.amount_cents,)) for name, one in found.by_status.items()]
            ),
        ),
        (
            f"Rules: {told}.",
            f"Settlement {found.settlement_no}; bets {found.bets_digest}; plan {found.plan_hash}.",
            _made(now),
        ),
    )


def day_sheet_of(found: DayClose, now: datetime) -> Sheet:
    """A day: what each account held before and after, what went through, what was earned."""
    facts: list[tuple[str, Value]] = [
        ("Settlements, owed", _counted(found.settled)),
        ("Sent to M-Pesa", _counted(found.sent)),
        ("Arrived on phones", _counted(found.delivered)),
        ("Came back unpaid", _counted(found.released)),
        ("Credited to wallets", _counted(found.credited)),
        ("In flight at the end", Cents(found.in_flight_cents)),
        ("Of those sent, unknown now", _counted(found.unknown)),
        ("Fee earned", Cents(found.fee_cents)),
        ("Breakage earned", Cents(found.breakage_cents)),
        ("Added by the operator", Cents(found.top_up_cents)),
        ("M-Pesa's charges, booked", Cents(found.charges_cents)),
        ("Incidents opened", found.incidents_opened),
        ("Incidents closed", found.incidents_closed),
        ("Incidents open at the end", found.incidents_open),
        ("The books balance", found.is_balanced),
    ]
    return Sheet(
        f"Day close {found.day}",
        "Nairobi day, midnight to midnight" + ("" if found.is_over else "; the day is not over"),
        facts,
        (
            Table(
                "accounts",
                "Accounts",
                ("account", "opening", "debits", "credits", "closing"),
                [
                    (
                        row.account,
                        Cents(row.opening_cents),
                        Cents(row.debit_cents),
                        Cents(row.credit_cents),
                        Cents(row.closing_cents),
                    )
                    for row in found.accounts
                ],
            ),
            Table(
                "entries",
                "Entries",
                ("kind", "entries", "amount"),
                [(row.kind, row.entries, Cents(row.amount_cents)) for row in found.kinds],
            ),
            Table(
                "hours",
                "Hours",
                ("hour", "sent", "arrived", "came back"),
                [
                    (f"{row.hour:02d}:00", Cents(row.sent_cents), Cents(row.delivered_cents), Cents(row.released_cents))
                    for row in found.hours
                    if row.sent_cents or row.delivered_cents or row.released_cents
                ],
            ),
        ),
        (
            Chart(
                "Payouts by hour",
                ("sent", "arrived", "came back"),
                [(f"{row.hour:02d}", (row.sent_cents, row.delivered_cents, row.released_cents)) for row in found.hours],
            ),
            Chart(
                "Earned",
                ("amount",),
                [("fee", (found.fee_cents,)), ("breakage", (found.breakage_cents,))]
                if min(found.fee_cents, found.breakage_cents) >= 0
                else [],
            ),
        ),
        ("A debit balance is positive. Every figure is of the books, by the time of its entry.", _made(now)),
    )


def charges_sheet_of(found: ChargesReport, now: datetime) -> Sheet:
    """Charges by day."""
    facts: list[tuple[str, Value]] = [
        ("Payments that arrived", found.payments),
        ("Their amounts", Cents(found.wire_cents)),
        ("Expected by the tariff", Cents(found.expected_cents)),
        ("Booked", Cents(found.booked_cents)),
        ("Charges booked", found.booked),
        ("Payments without a booked charge", found.unbooked),
        ("Charges other than the tariff says", found.differing),
        ("Booked for no payment that arrived", Cents(found.other_cents)),
        ("Tariff since", found.tariff_valid_from),
    ]
    return Sheet(
        "M-Pesa's charges",
        _span(found.first, found.last),
        facts,
        (
            Table(
                "days",
                "By day",
                ("day", "payments", "amount", "expected", "charges booked", "booked", "missing", "differing", "other"),
                [
                    (
                        row.day,
                        row.payments,
                        Cents(row.wire_cents),
                        Cents(row.expected_cents),
                        row.booked,
                        Cents(row.booked_cents),
                        row.unbooked,
                        row.differing,
                        Cents(row.other_cents),
                    )
                    for row in found.days
                ],
            ),
        ),
        (
            Chart(
                "Expected and booked",
                ("expected", "booked"),
                [(f"{row.day:%m-%d}", (row.expected_cents, row.booked_cents)) for row in found.days],
            )
            if all(row.booked_cents >= 0 for row in found.days)
            else Chart("Expected", ("expected",), [(f"{row.day:%m-%d}", (row.expected_cents,)) for row in found.days]),
        ),
        (
            f"Expected is by the tariff, and not what M-Pesa billed. Source of the tariff: {found.tariff_source}.",
            _made(now),
        ),
    )


def incidents_sheet_of(found: IncidentsReport, now: datetime) -> Sheet:
    """Incidents, and how each ended."""
    return Sheet(
        "Incidents",
        _span(found.first, found.last),
        [("Opened", found.opened), ("Still open", found.still_open)],
        (
            Table(
                "incidents",
                "Incidents",
                ("number", "kind", "what", "payout", "opened", "closed", "by", "why"),
                [
                    (
                        row.id,
                        row.kind,
                        row.what,
                        row.payout_id,
                        row.opened_at,
                        row.closed_at,
                        row.closed_by,
                        row.close_reason,
                    )
                    for row in found.rows
                ],
            ),
            Table("kinds", "By kind", ("kind", "incidents"), list(found.by_kind.items())),
        ),
        (
            Chart(
                "By kind", ("incidents",), [(kind, (count,)) for kind, count in found.by_kind.items()], is_money=False
            ),
        ),
        (_made(now),),
    )


def taxes_sheet_of(found: TaxesReport, now: datetime) -> Sheet:
    """Tax: what was kept back by day and by person, what was paid, and what is due."""
    return Sheet(
        "Tax kept back",
        _span(found.first, found.last),
        [
            ("Kept back", Cents(found.withheld_cents)),
            ("Paid to the authority", Cents(found.remitted_cents)),
            *((f"Due on {one.on}", Cents(one.due_cents)) for one in found.due),
        ],
        (
            Table(
                "days",
                "By day and duty",
                ("day", "on", "duty", "rate in basis points", "of", "times", "taxed", "kept back", "source"),
                [
                    (
                        row.day,
                        row.on,
                        row.duty,
                        row.rate_bps,
                        row.base,
                        row.times,
                        Cents(row.base_cents),
                        Cents(row.withheld_cents),
                        row.source,
                    )
                    for row in found.rows
                ],
            ),
            Table(
                "people",
                "By person",
                ("user", "on", "kept back"),
                [(row.user, row.on, Cents(row.withheld_cents)) for row in found.people],
            ),
            Table(
                "remitted",
                "Paid to the authority",
                ("when", "on", "reference", "from", "amount"),
                [(row.at, row.on, row.reference, row.source, Cents(row.amount_cents)) for row in found.remitted],
            ),
            Table(
                "due",
                "Due at the end",
                ("on", "kept back until then", "paid until then", "due"),
                [
                    (row.on, Cents(row.withheld_cents), Cents(row.remitted_cents), Cents(row.due_cents))
                    for row in found.due
                ],
            ),
        ),
        (),
        ("The duties are the operator's own, as they stood with each settlement.", _made(now)),
    )


def _span(first: object, last: object) -> str:
    if first is None and last is None:
        return "all days"
    return f"from {first or 'the beginning'} to {last or 'today'}, Nairobi days"
