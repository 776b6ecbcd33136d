"""Each report as facts, tables and charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def _table(name: str, title: str, rows: Iterable[object], columns: Mapping[str, str]) -> Table:
    """A table of dataclasses: for each heading the attribute under it, which is an amount if it ends in `_cents`."""
    return Table(name, title, list(columns), [[_value(row, one) for one in columns.values()] for row in rows])


def _value(row: object, attribute: str) -> Value:
    value: Value = getattr(row, attribute)
    return Cents(value) if attribute.endswith("_cents") and isinstance(value, int) else value


def settlement_sheet_of(found: SettlementSheet, now: datetime) -> Sheet:
    """A settlement: how the pool was divided, what stood on each outcome, and every payout."""
    figures = found.figures
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
    payouts = {"payout": "payout_id", "user": "user", "name": "name", "phone": "phone", "kind": "kind", "leg": "leg"}
    payouts |= {"amount": "amount_cents", "to phone": "wire_cents", "status": "status", "receipt": "receipt"}
    payouts |= {"failure": "failure_code", "changed": "updated_at"}
    outcomes = {"outcome": "outcome", "bets": "bets", "staked": "staked_cents", "won": "won"}
    states = [(name, one.count, Cents(one.amount_cents)) for name, one in found.by_status.items()]
    pool = {"winners": figures.payouts_cents, "refunds": figures.refunds_cents, "fee": figures.fee_cents}
    pool["breakage"] = figures.breakage_cents
    return Sheet(
        f"Settlement of {found.slug}",
        found.question,
        facts,
        (
            _table("payouts", "Payouts", found.rows, payouts),
            _table("outcomes", "Outcomes", found.outcomes, outcomes),
            Table("states", "Payouts by state", ("state", "payouts", "amount"), states),
        ),
        (
            Chart("Where the pool went", ("amount",), [(name, (cents,)) for name, cents in pool.items()]),
            Chart("Payouts by state", ("amount",), [(name, (amount.cents,)) for name, _, amount in states]),
        ),
        (
            f"Rules: {', '.join(f'{name} {value}' for name, value in found.rules.items())}.",
            f"Settlement {found.settlement_no}; bets {found.bets_digest}; plan {found.plan_hash}.",
            _made(now),
        ),
    )


def day_sheet_of(found: DayClose, now: datetime) -> Sheet:
    """A day: what each account held before and after, what went through, what was earned."""
    owed = found.owed
    facts: list[tuple[str, Value]] = [
        ("Owed at the start", Cents(owed.opening_cents)),
        ("+ settled", Cents(owed.settled_cents)),
        *([("+ came back, to be sent again", Cents(owed.again_cents))] if owed.again_cents else []),
        *([("+ corrected", Cents(owed.corrected_cents))] if owed.corrected_cents else []),
        ("- arrived on phones", Cents(owed.to_phones_cents)),
        *([("- kept back of that as tax", Cents(owed.tax_cents))] if owed.tax_cents else []),
        ("- stays in wallets", Cents(owed.to_wallets_cents)),
        ("= owed at the end", Cents(owed.closing_cents)),
        ("Settlements", _counted(found.settled)),
        ("Sent to M-Pesa", _counted(found.sent)),
        ("Arrived on phones", _counted(found.delivered)),
        ("Came back unpaid", _counted(found.released)),
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
    accounts = {"account": "account", "opening": "opening_cents", "debits": "debit_cents", "credits": "credit_cents"}
    accounts["closing"] = "closing_cents"
    by_hour = [(row.hour, (row.sent_cents, row.delivered_cents, row.released_cents)) for row in found.hours]
    through = ("sent", "arrived", "came back")
    earned = {"fee": found.fee_cents, "breakage": found.breakage_cents}
    if min(earned.values()) < 0:  # a bar below zero has no length
        earned = {}
    return Sheet(
        f"Day close {found.day}",
        "Nairobi day, midnight to midnight" + ("" if found.is_over else "; the day is not over"),
        facts,
        (
            _table("accounts", "Accounts", found.accounts, accounts),
            _table("entries", "Entries", found.kinds, {"kind": "kind", "entries": "entries", "amount": "amount_cents"}),
            Table(
                "hours",
                "Hours",
                ("hour", *through),
                [(f"{hour:02d}:00", *map(Cents, cents)) for hour, cents in by_hour if any(cents)],
            ),
        ),
        (
            Chart("Payouts by hour", through, [(f"{hour:02d}", cents) for hour, cents in by_hour]),
            Chart("Earned", ("amount",), [(name, (cents,)) for name, cents in earned.items()]),
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
    days = {"day": "day", "payments": "payments", "amount": "wire_cents", "expected": "expected_cents"}
    days |= {"charges booked": "booked", "booked": "booked_cents", "missing": "unbooked", "differing": "differing"}
    days["other"] = "other_cents"
    return Sheet(
        "M-Pesa's charges",
        _span(found.first, found.last),
        facts,
        (_table("days", "By day", found.days, days),),
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
    columns = {"number": "id", "kind": "kind", "what": "what", "payout": "payout_id", "opened": "opened_at"}
    columns |= {"closed": "closed_at", "by": "closed_by", "why": "close_reason"}
    by_kind = [(kind, (count,)) for kind, count in found.by_kind.items()]
    return Sheet(
        "Incidents",
        _span(found.first, found.last),
        [("Opened", found.opened), ("Still open", found.still_open)],
        (
            _table("incidents", "Incidents", found.rows, columns),
            Table("kinds", "By kind", ("kind", "incidents"), list(found.by_kind.items())),
        ),
        (Chart("By kind", ("incidents",), by_kind, is_money=False),),
        (_made(now),),
    )


def taxes_sheet_of(found: TaxesReport, now: datetime) -> Sheet:
    """Tax: what was kept back by day and by person, what was paid, and what is due."""
    days = {"day": "day", "on": "on", "duty": "duty", "rate in basis points": "rate_bps", "of": "base"}
    days |= {"times": "times", "taxed": "base_cents", "kept back": "withheld_cents", "source": "source"}
    people = {"user": "user", "on": "on", "kept back": "withheld_cents"}
    remitted = {"when": "at", "on": "on", "reference": "reference", "from": "source", "amount": "amount_cents"}
    due = {"on": "on", "kept back until then": "withheld_cents", "paid until then": "remitted_cents"}
    due["due"] = "due_cents"
    return Sheet(
        "Tax kept back",
        _span(found.first, found.last),
        [
            ("Kept back", Cents(found.withheld_cents)),
            ("Paid to the authority", Cents(found.remitted_cents)),
            *((f"Due on {one.on}", Cents(one.due_cents)) for one in found.due),
        ],
        (
            _table("days", "By day and duty", found.rows, days),
            _table("people", "By person", found.people, people),
            _table("remitted", "Paid to the authority", found.remitted, remitted),
            _table("due", "Due at the end", found.due, due),
        ),
        (),
        ("The duties are the operator's own, as they stood with each settlement.", _made(now)),
    )


def _span(first: object, last: object) -> str:
    if first is None and last is None:
        return "all days"
    return f"from {first or 'the beginning'} to {last or 'today'}, Nairobi days"
