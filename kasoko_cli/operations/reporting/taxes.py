"""Tax that was kept back of winners: what of it, by which rule, what is still due to the authority, and paying it.

Every figure comes from the books, by the time of its entry, and from the rules that stand with each settlement.
What was given back (a settlement taken back, a payment that returned) counts below zero, on its own day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import BigInteger, cast, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from kasoko_cli.clock import NAIROBI, Clock
from kasoko_cli.domain.market import check_identifier
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.withholding import Duties, On
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.reporting.finance import between
from kasoko_cli.operations.settlement.settle import duties_of
from kasoko_cli.operations.shared.actor import needs_reason, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine import hash_chain
from kasoko_cli.store.engine.bulk_rows import streamed
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import EntryRow, PostingRow, Settlement

#: The entries by which each is kept back and given back.
_KINDS = {On.WINNINGS: ("settle", "correct", "reverse"), On.WITHDRAWALS: ("deliver", "return")}
#: Where the money for the authority comes from.
SOURCES = {"bank": Account.BANK, "mpesa": Account.UTILITY}
REMIT = "tax.remit"


@dataclass(frozen=True, slots=True)
class TaxRow:
    """What one rule kept back on one Nairobi day, less what was given back; amounts in cents.

    `times` counts the winners of settlements, or the payments.
    """

    day: date
    on: str
    duty: str
    rate_bps: int
    base: str
    source: str
    times: int
    base_cents: int
    withheld_cents: int


@dataclass(frozen=True, slots=True)
class TaxPerson:
    """What was kept back of one user in these days, less what was given back."""

    user: str
    on: str
    withheld_cents: int


@dataclass(frozen=True, slots=True)
class Remittance:
    """A payment to the authority."""

    at: datetime
    on: str
    reference: str
    source: str
    amount_cents: int


@dataclass(frozen=True, slots=True)
class TaxDue:
    """What is due to the authority at the end of the last day: kept back until then, less what was paid to it."""

    on: str
    withheld_cents: int
    remitted_cents: int
    due_cents: int


@dataclass(frozen=True, slots=True)
class TaxesReport:
    """What was kept back in some days, by day and rule and by person, what was paid of it, and what is due."""

    first: date | None
    last: date | None
    withheld_cents: int
    remitted_cents: int
    due: list[TaxDue]
    rows: list[TaxRow]
    people: list[TaxPerson]
    remitted: list[Remittance]


def taxes_report(db: Database, *, first: date | None = None, last: date | None = None) -> TaxesReport:
    """What was kept back of winners and what was paid of it, in these days.

    Raises:
        Refused: the first day is after the last.
    """
    start, end = between(first, last)
    with db.reading() as session:
        rows = _rows(session, start, end)
        remitted = _remitted(session, start, end)
        return TaxesReport(
            first,
            last,
            sum(row.withheld_cents for row in rows),
            sum(one.amount_cents for one in remitted),
            [_due(session, on, end) for on in On],
            rows,
            _people(session, start, end),
            remitted,
        )


@dataclass(slots=True)
class _Sums:
    times: int = 0
    base_cents: int = 0
    withheld_cents: int = 0


def _rows(session: Session, start: datetime, end: datetime) -> list[TaxRow]:
    """By day and rule. A settlement's base is the one that it was written with; a payment's follows from it."""
    settlements = {(one.market_id, one.number): one for one in session.exec(select(Settlement))}
    known: dict[tuple[str, int], Duties] = {}
    sums: dict[tuple[date, str, str, int, str, str], _Sums] = {}
    for key, kind, at, lines, withheld_cents, sent_cents in _entries(session, start, end):
        on = On.WITHDRAWALS if kind in _KINDS[On.WITHDRAWALS] else On.WINNINGS
        place = _settlement_of(key)
        one = settlements[place]
        duties = known.setdefault(place, duties_of(one))
        duty = duties.winnings if on is On.WINNINGS else duties.withdrawals
        assert duty is not None, "what was kept back was kept back by a rule"
        sign = -1 if kind in ("reverse", "return") else 1
        if on is On.WITHDRAWALS:
            base_cents = sign * duty.base_of_sent(abs(sent_cents), abs(withheld_cents))
        else:
            before = settlements[place[0], one.corrects].taxed_cents if one.corrects is not None else 0
            base_cents = sign * (one.taxed_cents - before)
        rule = (at.astimezone(NAIROBI).date(), str(on), duty.name, duty.rate_bps, str(duty.base), duty.source)
        of = sums.setdefault(rule, _Sums())
        of.times += sign * lines
        of.base_cents += base_cents
        of.withheld_cents += withheld_cents
    return [TaxRow(*rule, of.times, of.base_cents, of.withheld_cents) for rule, of in sorted(sums.items())]


def _entries(session: Session, start: datetime, end: datetime) -> Iterator[tuple[str, str, datetime, int, int, int]]:
    """Every entry of these days that kept something back or gave it back: key, kind, time, users, withheld, sent."""
    delivered = aliased(PostingRow)
    cents = col(PostingRow.amount_cents)
    query = (
        sa.select(
            col(EntryRow.key),
            col(EntryRow.kind),
            col(EntryRow.at),
            func.count(),
            cast(-func.sum(cents), BigInteger),
            cast(func.coalesce(func.sum(col(delivered.amount_cents)), 0), BigInteger),
        )
        .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .outerjoin(
            delivered,
            sa.and_(col(delivered.entry_id) == col(EntryRow.id), col(delivered.account) == str(Account.DELIVERED)),
        )
        .where(col(PostingRow.account) == str(Account.TAX_WITHHELD), col(EntryRow.at) >= start, col(EntryRow.at) < end)
        .group_by(col(EntryRow.id), col(EntryRow.key), col(EntryRow.kind), col(EntryRow.at))
        .order_by(col(EntryRow.id))
    )
    return (tuple(row) for row in streamed(session, query))


def _settlement_of(key: str) -> tuple[str, int]:
    """The settlement that an entry comes of, by market and number: that of its market, or of its payout."""
    kind, _, rest = key.removeprefix("reverse:").partition(":")
    if kind == "payout":
        payout_id = rest.rsplit(":", 2)[0]
        market_id, number, _ = payout_id.rsplit(".", 2)
    else:
        market_id, _, number = rest.rpartition(":")
    return market_id, int(number)


def _people(session: Session, start: datetime, end: datetime) -> list[TaxPerson]:
    on = sa.case((col(EntryRow.kind).in_(_KINDS[On.WITHDRAWALS]), str(On.WITHDRAWALS)), else_=str(On.WINNINGS))
    withheld = cast(-func.sum(col(PostingRow.amount_cents)), BigInteger)
    query = (
        sa.select(col(PostingRow.owner), on.label("fell_on"), withheld)
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(PostingRow.account) == str(Account.TAX_WITHHELD), col(EntryRow.at) >= start, col(EntryRow.at) < end)
        .group_by(col(PostingRow.owner), sa.literal_column("fell_on"))
        .order_by(col(PostingRow.owner), sa.literal_column("fell_on"))
    )
    return [TaxPerson(user, fell_on, int(cents)) for user, fell_on, cents in streamed(session, query)]


def _remitted(session: Session, start: datetime, end: datetime) -> list[Remittance]:
    paid, source = aliased(PostingRow), aliased(PostingRow)
    query = (
        sa.select(col(EntryRow.at), col(paid.owner), col(EntryRow.key), col(source.account), col(paid.amount_cents))
        .join(paid, col(paid.entry_id) == col(EntryRow.id))
        .join(source, sa.and_(col(source.entry_id) == col(EntryRow.id), col(source.amount_cents) < 0))
        .where(col(paid.account) == str(Account.TAX_REMITTED), col(EntryRow.at) >= start, col(EntryRow.at) < end)
        .order_by(col(EntryRow.id))
    )
    return [
        Remittance(at, on, key.removeprefix("remit:"), account, cents)
        for at, on, key, account, cents in session.execute(query)
    ]


def _due(session: Session, on: On, end: datetime) -> TaxDue:
    query = (
        sa.select(cast(func.coalesce(func.sum(col(PostingRow.amount_cents)), 0), BigInteger))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(EntryRow.at) < end)
    )
    withheld = -session.execute(
        query.where(col(PostingRow.account) == str(Account.TAX_WITHHELD), col(EntryRow.kind).in_(_KINDS[on]))
    ).scalar_one()
    remitted = session.execute(
        query.where(col(PostingRow.account) == str(Account.TAX_REMITTED), col(PostingRow.owner) == str(on))
    ).scalar_one()
    return TaxDue(str(on), withheld, remitted, withheld - remitted)


def due(db: Database, clock: Clock) -> list[TaxDue]:
    """What is due to the authority now."""
    with db.reading() as session:
        return [_due(session, on, clock()) for on in On]


@dataclass(frozen=True, slots=True)
class Remitted:
    """What a payment to the authority left due; `is_new` is False where it was booked before."""

    on: str
    reference: str
    amount_cents: int
    source: str
    due_cents: int
    is_new: bool


def remit(ctx: OperationContext, *, on: On, cents: int, source: str, reference: str) -> Remitted:
    """Write down that what was kept back was paid to the authority, by a way outside of kasoko.

    `reference` names it, such as the number of the authority's receipt: each is taken once.

    Raises:
        Refused: that much is not due, the reference was taken for something else, or no reason was given.
    """
    needs_reason(ctx.actor, "Paying tax to the authority")
    reference = check_identifier(reference, what="reference")
    if cents <= 0:
        raise Refused(f"KES {format_kes(cents)} is not money; nothing was changed.")
    now = ctx.clock()
    entry = journal.remitted(reference, str(on), cents, SOURCES[source])
    with ctx.db.transaction() as session:
        # Nobody else posts until this ends: two who pay the same at once do not both find it due.
        hash_chain.lock(session, hash_chain.BOOKS)
        left = _due(session, on, now + timedelta(days=36_500)).due_cents
        if book.is_posted(session, entry.key):
            if sorted(book.lines_of(session, entry.key)) == sorted(entry.postings):
                return Remitted(str(on), reference, cents, source, left, is_new=False)
            raise Refused(
                f"The reference {reference!r} was taken before, for something else; nothing was changed.",
                hint="Each payment has its own: the number of the authority's receipt. See them: kasoko report taxes",
            )
        if left < cents:
            raise Refused(
                f"KES {format_kes(left)} of tax on {on} is due, and not KES {format_kes(cents)}. Nothing was changed.",
                hint="See what is due: kasoko tax show",
            )
        note_act(session, ctx.actor, REMIT, reference, at=now, detail={"on": str(on), "cents": cents, "source": source})
        book.post(session, entry, at=now)
    return Remitted(str(on), reference, cents, source, left - cents, is_new=True)
