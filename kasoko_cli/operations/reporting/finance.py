"""What finance asks for: a settlement's sheet, the close of a day, charges, incidents. Read-only, on one snapshot.

Every figure of a day comes from the books, by the time of its entry; so the days add up to the books, and a
day that is over never changes. Only what has no entry (who is still unknown, an incident) is read elsewhere.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from sqlalchemy import BigInteger, cast, func
from sqlmodel import Session, col, select

from kasoko_cli.clock import NAIROBI, Clock, nairobi_day
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.domain.phone import shown
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import daybook
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.records.markets import describe_resolution, resolution_of
from kasoko_cli.operations.settlement.settle import SettlementFigures, figures_of
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.from_row import from_row
from kasoko_cli.operations.shared.overview import Amount, Groups, by_status_of, groups_of
from kasoko_cli.store import attempts, bets, markets, payouts
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt, EntryRow, Incident, PostingRow

# --- A settlement --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One outcome of the market, and what stood on it."""

    outcome: str
    bets: int
    staked_cents: int
    won: bool


@dataclass(frozen=True, slots=True)
class PayoutRow:
    """One payout of the settlement."""

    payout_id: str
    user: str
    name: str
    phone: str
    kind: str
    leg: int
    amount_cents: int
    wire_cents: int
    status: str
    receipt: str | None
    failure_code: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SettlementSheet:
    """One market's settlement, whole."""

    market: str
    slug: str
    question: str
    outcome: str
    closed_at: datetime | None
    resolved_at: datetime | None
    settled_at: datetime
    settlement_no: int
    rules: dict[str, int | str]
    bets: int
    bets_digest: str
    plan_hash: str
    figures: SettlementFigures
    outcomes: list[OutcomeRow]
    payouts: Groups
    by_status: dict[str, Amount]
    rows: list[PayoutRow]


def settlement_sheet(db: Database, market: str, *, show_phone: bool = False) -> SettlementSheet:
    """Everything of one settlement.

    Raises:
        NotFound: there is no such market.
        Refused: it was not settled yet.
    """
    with db.reading() as session:
        row = markets.find_market(session, market)
        settlement = markets.standing_settlement(session, row.id)
        if settlement is None:
            raise Refused(
                f"{row.slug} was not settled yet, so there is no sheet of it.",
                hint=f"Settle it first: kasoko settle {row.slug} --plan",
            )
        resolution = resolution_of(row)
        assert resolution is not None, "a market that is settled has a resolution"
        names = [outcome.name for outcome in markets.list_outcomes(session, row.id)]
        staked = bets.stakes_by_outcome(session, row.id)
        winning = {*resolution.winners, *(outcome for outcome, _ in resolution.weights)}
        totals = payouts.totals_by_status(session, row.id)
        return from_row(
            SettlementSheet,
            row,
            market=row.id,
            outcome=describe_resolution(resolution, names) or "",
            settled_at=settlement.settled_at,
            settlement_no=settlement.number,
            rules=json.loads(settlement.rules),
            bets=settlement.bets,
            bets_digest=settlement.bets_digest,
            plan_hash=settlement.plan_hash,
            figures=figures_of(settlement),
            outcomes=[
                OutcomeRow(name, *staked.get(number, (0, 0)), number in winning) for number, name in enumerate(names)
            ],
            payouts=groups_of(totals),
            by_status=by_status_of(totals),
            rows=list(_payout_rows(session, row.id, show_phone=show_phone)),
        )


def _payout_rows(session: Session, market_id: str, *, show_phone: bool) -> Iterator[PayoutRow]:
    for payout, (_, name, phone, _, _, _, receipt) in bulk_rows.stream_payouts(session, market_id):
        who = {"user": payout.user_id, "name": name, "phone": shown(phone, whole=show_phone)}
        yield from_row(PayoutRow, payout, payout_id=payout.id, receipt=receipt, **who)


# --- A day ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountDay:
    """One account on one day: a debit balance is positive."""

    account: str
    opening_cents: int
    debit_cents: int
    credit_cents: int
    closing_cents: int


@dataclass(frozen=True, slots=True)
class KindDay:
    """One kind of entry on one day."""

    kind: str
    entries: int
    amount_cents: int


@dataclass(frozen=True, slots=True)
class HourDay:
    """One hour of a Nairobi day, in cents: what was sent, what arrived, what came back."""

    hour: int
    sent_cents: int
    delivered_cents: int
    released_cents: int


@dataclass(frozen=True, slots=True)
class OwedDay:
    """What was owed to users on one day, in cents, of the account `payable`: the parts add up to its end.

    `opening + settled + again + corrected - to_phones - tax - to_wallets = closing`. `again_cents` came back from
    phones and is to be sent again; `corrected_cents` is by how much corrections raised what is owed; `tax_cents` was
    kept back of what went to phones.
    """

    opening_cents: int
    settled_cents: int
    again_cents: int
    corrected_cents: int
    to_phones_cents: int
    tax_cents: int
    to_wallets_cents: int
    closing_cents: int


@dataclass(frozen=True, slots=True)
class DayClose:
    """The close of one Nairobi day."""

    day: date
    starts_at: datetime
    ends_at: datetime
    is_over: bool
    accounts: list[AccountDay]
    kinds: list[KindDay]
    hours: list[HourDay]
    owed: OwedDay
    settled: Amount
    sent: Amount
    delivered: Amount
    released: Amount
    credited: Amount
    in_flight_cents: int
    unknown: Amount
    fee_cents: int
    breakage_cents: int
    top_up_cents: int
    charges_cents: int
    incidents_opened: int
    incidents_closed: int
    incidents_open: int
    is_balanced: bool


def day_close(db: Database, clock: Clock, day: date | None = None) -> DayClose:
    """The close of a Nairobi day; of today so far if none is named.

    Raises:
        Refused: the day has not begun.
    """
    now = clock()
    noon = now if day is None else datetime.combine(day, time(12), NAIROBI)
    start, end = nairobi_day(noon)
    if start > now:
        raise Refused(
            f"{day} has not begun in Nairobi.", hint="Name a day that is over, or leave --date out for today."
        )
    with db.reading() as session:
        accounts = daybook.accounts(session, start=start, end=end)
        kinds = {one.kind: one for one in daybook.kinds(session, start=start, end=end)}
        moved = {one.account: one.debit_cents - one.credit_cents for one in accounts}
        closing = {one.account: one.closing_cents for one in accounts}

        def amount_of(*names: str) -> Amount:
            found = [kinds[name] for name in names if name in kinds]
            return Amount(sum(one.entries for one in found), sum(one.moved_cents for one in found))

        opened, closed, still = _incidents_of(session, start, end)
        return DayClose(
            day=start.astimezone(NAIROBI).date(),
            starts_at=start,
            ends_at=end,
            is_over=end <= now,
            accounts=[AccountDay(*one, one.closing_cents) for one in accounts],
            kinds=[KindDay(one.kind, one.entries, one.cents) for one in kinds.values()],
            hours=_hours(session, start, end),
            owed=_owed(session, accounts, start, end),
            settled=amount_of("settle"),
            sent=amount_of("reserve", "late_reserve"),
            delivered=amount_of("deliver"),
            released=amount_of("release"),
            credited=amount_of("credit"),
            in_flight_cents=closing.get("in_flight", 0),
            unknown=_unknown(session, end),
            fee_cents=-moved.get("fee", 0),
            breakage_cents=-moved.get("breakage", 0),
            top_up_cents=moved.get("minus_pool", 0),
            charges_cents=moved.get("charges", 0),
            incidents_opened=opened,
            incidents_closed=closed,
            incidents_open=still,
            is_balanced=sum(closing.values()) == 0,
        )


def _owed(session: Session, accounts: list[daybook.AccountMoves], start: datetime, end: datetime) -> OwedDay:
    owed = next((one for one in accounts if one.account == Account.PAYABLE), None)
    raised = {kind: -cents for kind, cents in daybook.kinds_of(session, Account.PAYABLE, start=start, end=end).items()}
    tax = -daybook.kinds_of(session, Account.TAX_WITHHELD, start=start, end=end).get("deliver", 0)
    phones = daybook.kinds_of(session, Account.DELIVERED, start=start, end=end).get("deliver", 0)
    settled, again = raised.pop("settle", 0), raised.pop("again", 0)
    ended = -(raised.pop("credit", 0) + raised.pop("again_ended", 0))
    return OwedDay(
        opening_cents=-owed.opening_cents if owed else 0,
        settled_cents=settled,
        again_cents=again,
        corrected_cents=sum(raised.values()),
        to_phones_cents=phones,
        tax_cents=tax,
        to_wallets_cents=ended - phones - tax,
        closing_cents=-owed.closing_cents if owed else 0,
    )


_OF_THE_WIRE = frozenset({"reserve", "late_reserve", "deliver", "release"})


def _hours(session: Session, start: datetime, end: datetime) -> list[HourDay]:
    sums: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for kind, _, at, cents in daybook.movements(session, start=start, end=end, kinds=_OF_THE_WIRE):
        sums[at.astimezone(NAIROBI).hour][kind] += cents
    by_hour = ((hour, sums[hour]) for hour in range(24))
    return [HourDay(hour, of["reserve"] + of["late_reserve"], of["deliver"], of["release"]) for hour, of in by_hour]


def _unknown(session: Session, end: datetime) -> Amount:
    """What was sent until then and is unknown now."""
    live = select(func.count(), cast(func.coalesce(func.sum(col(Attempt.wire_cents)), 0), BigInteger))
    count, cents = session.exec(
        live.where(col(Attempt.status) == AttemptStatus.UNKNOWN, col(Attempt.sent_at) < end)
    ).one()
    return Amount(count, int(cents))


def _incidents_of(session: Session, start: datetime, end: datetime) -> tuple[int, int, int]:
    """How many were opened and closed in a stretch of time, and how many stood at its end."""
    opened, closed = col(Incident.opened_at), col(Incident.closed_at)
    query = select(
        func.count().filter(opened >= start),
        func.count().filter(closed >= start, closed < end),
        func.count().filter(closed.is_(None) | (closed >= end)),
    ).where(opened < end)
    found = session.exec(query).one()
    return found[0], found[1], found[2]


# --- Charges -------------------------------------------------------------------------------------


@dataclass(slots=True)
class ChargeDay:
    """What M-Pesa charged for the payments that arrived on one Nairobi day, whenever its statement was taken in.

    `expected_cents` is what the tariff says for them, `booked_cents` what the books have of it, for `booked` of them.
    `unbooked` of them cost something by the tariff, and the books have nothing; for `differing` the books have
    another amount than the tariff. `other_cents` was booked on that day and is of no payment that arrived.
    """

    day: date
    payments: int = 0
    wire_cents: int = 0
    expected_cents: int = 0
    booked: int = 0
    booked_cents: int = 0
    unbooked: int = 0
    differing: int = 0
    other_cents: int = 0


@dataclass(frozen=True, slots=True)
class ChargesReport:
    """Charges by day."""

    first: date | None
    last: date | None
    tariff_valid_from: date
    tariff_source: str
    days: list[ChargeDay]
    payments: int
    wire_cents: int
    expected_cents: int
    booked: int
    booked_cents: int
    unbooked: int
    differing: int
    other_cents: int


def charges_report(
    db: Database, tariff: Tariff, *, first: date | None = None, last: date | None = None
) -> ChargesReport:
    """What M-Pesa charged for the payments of each day, and what it should have by the tariff.

    Raises:
        Refused: the first day is after the last.
    """
    start, end = between(first, last)
    days: dict[date, ChargeDay] = {}

    def day_of(at: datetime) -> ChargeDay:
        day = at.astimezone(NAIROBI).date()
        return days.setdefault(day, ChargeDay(day))

    with db.reading() as session:
        charges, others = _charges(session, start, end)
        for attempt_id, at, cents in _arrived(session, start, end):
            row, expected, booked = day_of(at), tariff.charge_cents(cents), charges.get(attempt_id, 0)
            row.payments += 1
            row.wire_cents += cents
            row.expected_cents += expected
            row.booked += bool(booked)
            row.booked_cents += booked
            row.unbooked += bool(expected) and not booked
            row.differing += bool(booked) and booked != expected
        for at, cents in others:
            day_of(at).other_cents += cents
    rows = [days[day] for day in sorted(days)]
    sums = [sum(getattr(row, name) for row in rows) for name in ChargeDay.__slots__[1:]]
    return ChargesReport(first, last, tariff.valid_from, tariff.source, rows, *sums)


def _arrived(session: Session, start: datetime, end: datetime) -> Iterator[tuple[str, datetime, int]]:
    """Every payment that arrived, a second one for the same payout too: its attempt, when, and its wire cents."""
    paid = list(daybook.movements(session, start=start, end=end, kinds=frozenset({"deliver", "overpaid"})))
    receipts = [key.removeprefix("overpaid:") for kind, key, _, _ in paid if kind == "overpaid"]
    owners = attempts.owners_of(session, receipts)
    for kind, key, at, cents in paid:
        receipt = key.removeprefix("overpaid:")
        yield key.rpartition(":deliver:")[2] if kind == "deliver" else owners.get(receipt, receipt), at, cents


def _charges(session: Session, start: datetime, end: datetime) -> tuple[dict[str, int], list[tuple[datetime, int]]]:
    """What the books have of each attempt's charge since then, and what within that time is of no payment."""
    query = (
        select(col(EntryRow.key), col(EntryRow.at), col(PostingRow.amount_cents))
        .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .where(col(PostingRow.account) == str(Account.CHARGES), col(EntryRow.at) >= start)
    )
    of_attempts: Counter[str] = Counter()
    lines = []
    for key, at, cents in session.exec(query):
        named = _CHARGE.search(key)
        attempt_id = named.group(1) if named else ""
        of_attempts[attempt_id] += cents
        lines.append((attempt_id, at, cents))
    paid = attempts.paid_of(session, of_attempts)
    others = [(at, cents) for attempt_id, at, cents in lines if attempt_id not in paid and at < end]
    return dict(of_attempts), others


#: The key of a charge, as it stands, under a number, or taken back. Source: `ledger/journal.py`.
_CHARGE = re.compile(r"(?:^|:)attempt:([^:]+):charge")


def between(first: date | None, last: date | None) -> tuple[datetime, datetime]:
    """From the first instant of one Nairobi day to the last of another; open where none is named."""
    if first is not None and last is not None and first > last:
        raise Refused(f"{first} is after {last}.", hint="Give --since the earlier day and --until the later one.")
    start = datetime.combine(first or date(2000, 1, 1), time(), NAIROBI)
    end = datetime.combine(last or date(2999, 1, 1), time(), NAIROBI) + timedelta(days=1)
    return start, end


# --- Incidents -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """One incident, how often it happened and when last, and how it was closed."""

    id: int
    kind: str
    what: str
    payout_id: str | None
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    close_reason: str | None
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class IncidentsReport:
    """Incidents that were opened in some days, and how many of each kind."""

    first: date | None
    last: date | None
    opened: int
    still_open: int
    by_kind: dict[str, int]
    rows: list[IncidentRow]


def incidents_report(db: Database, *, first: date | None = None, last: date | None = None) -> IncidentsReport:
    """Every incident that was opened in these days, earliest first.

    Raises:
        Refused: the first day is after the last.
    """
    start, end = between(first, last)
    with db.reading() as session:
        query = select(Incident).where(col(Incident.opened_at) >= start, col(Incident.opened_at) < end)
        rows = [from_row(IncidentRow, one) for one in session.exec(query.order_by(col(Incident.id)))]
    kinds = Counter(row.kind for row in rows)
    still_open = sum(row.closed_at is None for row in rows)
    return IncidentsReport(first, last, len(rows), still_open, dict(sorted(kinds.items())), rows)


# --- Whole phones --------------------------------------------------------------------------------


def note_unmasked(ctx: OperationContext, *, what: str, market: str | None) -> None:
    """Write down that somebody had whole phones shown, of one market or of all, before they are.

    Raises NotFound if there is no such market.
    """
    with ctx.db.transaction() as session:
        subject = markets.id_of(session, market) or "all"
        note_act(session, ctx.actor, "phones.shown", subject, at=ctx.clock(), detail={"what": what})
