"""Read-only answers: how everything stands, one market, one payout. Each is read on one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from kasoko_cli.domain.market import MarketStatus
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import PayoutStatus, fold_receipt
from kasoko_cli.domain.phone import mask
from kasoko_cli.ledger import journal
from kasoko_cli.operations.records.markets import describe_resolution, resolution_of
from kasoko_cli.operations.settlement.settle import SettlementFigures, figures_of
from kasoko_cli.operations.shared.from_row import from_row
from kasoko_cli.operations.shared.next_steps import explain
from kasoko_cli.operations.shared.overview import (
    Amount,
    Concern,
    Groups,
    Overview,
    by_status_of,
    groups_of,
    read_overview,
)
from kasoko_cli.store import attempts, callbacks, log, markets, payouts, statements, status_queries, users
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import open_incidents
from kasoko_cli.store.schema.tables import Attempt, Callback, EntryRow, Incident, Market, Payout, PostingRow


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """Which market, and how it ended."""

    id: str
    slug: str
    question: str
    status: str
    resolved_outcome: str | None
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementFacts(SettlementFigures):
    """How the pool was divided, and when."""

    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Item:
    """One payout, with its latest attempt."""

    id: str
    user: str
    phone: str
    kind: str
    leg: int
    amount_cents: int
    wire_cents: int
    status: str
    attempts: int
    originator_conversation_id: str | None
    conversation_id: str | None
    receipt: str | None
    failure_code: str | None
    failure_reason: str | None
    not_before: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class MarketStatusReport:
    """One market's settlement and payouts."""

    market: MarketFacts
    settlement: SettlementFacts | None
    payouts: Groups
    by_status: Mapping[str, Amount]
    incidents: list[Concern]
    items: list[Item] | None = None


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """One instruction to M-Pesa."""

    originator_conversation_id: str
    number: int
    status: str
    phone: str
    wire_cents: int
    sends: int
    sent_at: datetime
    status_at: datetime
    conversation_id: str | None
    receipt: str | None
    result_code: str | None
    result_text: str | None
    evidence: str | None


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened to a payout, in its story; `kind` is one of the words of `ORDER`."""

    at: datetime
    kind: str
    what: str


#: The kinds of moments, in the order in which they stand where they happened in one instant.
ORDER = ("owed", "send", "answer", "callback", "question", "state", "entry", "incident", "act")


@dataclass(frozen=True, slots=True)
class Story:
    """One payout, whole: what it is, each attempt, each entry, and what happened when."""

    payout: Item
    market: str
    slug: str
    note: str | None
    meaning: str | None
    advice: str | None
    attempts: list[AttemptFacts]
    entries: list[str]
    incidents: list[Concern]
    moments: list[Moment]


def market_status(db: Database, market: str, *, with_items: bool = False) -> MarketStatusReport:
    """One market's settlement and payouts; `with_items` lists each payout.

    Raises:
        NotFound: there is no such market.
    """
    with db.reading() as session:
        row = markets.find_market(session, market)
        settlement = markets.standing_settlement(session, row.id)
        totals = payouts.totals_by_status(session, row.id)
        return MarketStatusReport(
            market=_market_facts(session, row),
            settlement=None
            if settlement is None
            else SettlementFacts(**asdict(figures_of(settlement)), settled_at=settlement.settled_at),
            payouts=groups_of(totals),
            by_status=by_status_of(totals),
            incidents=_concerns(open_incidents(session, market_id=row.id)),
            items=_items(session, payouts.list_payouts(session, market_id=row.id)) if with_items else None,
        )


def overview(db: Database) -> Overview:
    """How everything stands: the markets, the money by state, what a person should look at."""
    with db.reading() as session:
        return read_overview(lambda query: session.connection().exec_driver_sql(query).all())


@dataclass(frozen=True, slots=True)
class PayoutPage:
    """Some payouts, and how many there are of the kind that was asked for."""

    items: list[Item]
    total: int


def list_items(db: Database, *, market: str | None = None) -> list[Item]:
    """Every payout, or those of one market, in the order they were owed.

    Raises:
        NotFound: there is no such market.
    """
    return list_page(db, PayoutFilter(market)).items


@dataclass(frozen=True, slots=True)
class PayoutFilter:
    """Which payouts are asked for, in the words of people; `after` is the last payout of the page before."""

    market: str | None = None
    statuses: Collection[PayoutStatus] = ()
    user: str | None = None
    code: str | None = None
    receipt: str | None = None
    after: str | None = None


def list_page(db: Database, only: PayoutFilter = PayoutFilter(), *, limit: int | None = None) -> PayoutPage:
    """Payouts in the order they were owed; `limit` at most.

    Raises:
        NotFound: there is no such market, user or payout.
    """
    with db.reading() as session:
        wanted = payouts.Wanted(
            market_id=markets.id_of(session, only.market),
            statuses=frozenset(only.statuses) or None,
            user_id=None if only.user is None else users.find_user(session, only.user).id,
            failure_code=only.code,
            receipt=None if only.receipt is None else fold_receipt(only.receipt),
            after=None if only.after is None else payouts.find_payout(session, only.after),
        )
        found = payouts.select_payouts(session, wanted, limit=limit)
        short = limit is not None and len(found) == limit
        return PayoutPage(_items(session, found), payouts.count_payouts(session, wanted) if short else len(found))


def story(db: Database, payout_id: str) -> Story:
    """One payout's whole story.

    Raises:
        NotFound: there is no such payout.
    """
    with db.reading() as session:
        payout = payouts.find_payout(session, payout_id)
        market = markets.find_market(session, payout.market_id)
        tries = attempts.list_attempts(session, payout_id)
        meaning, advice = explain(payout, tries[-1] if tries else None)
        entries = _entries(session, payout, tries)
        return Story(
            payout=_items(session, [payout])[0],
            market=market.id,
            slug=market.slug,
            note=payout.note,
            meaning=meaning,
            advice=advice,
            attempts=[_attempt_facts(attempt) for attempt in tries],
            entries=[f"{entry.key}: {', '.join(lines)}" for entry, lines in entries],
            incidents=_concerns(open_incidents(session, payout_id=payout_id)),
            moments=_moments(session, payout, tries, [entry for entry, _ in entries]),
        )


def _market_facts(session: Session, row: Market) -> MarketFacts:
    names = [outcome.name for outcome in markets.list_outcomes(session, row.id)]
    outcome = None if row.status is MarketStatus.VOID else describe_resolution(resolution_of(row), names)
    return from_row(MarketFacts, row, resolved_outcome=outcome)


def _concerns(found: Sequence[Incident]) -> list[Concern]:
    return [from_row(Concern, one, holds=one.answered_by is None) for one in found]


def _items(session: Session, found: Sequence[Payout]) -> list[Item]:
    people = users.known_users(session, {payout.user_id for payout in found})
    last = attempts.last_attempts(session, [payout.id for payout in found])
    return [_item(payout, people[payout.user_id].phone, last.get(payout.id)) for payout in found]


def _item(payout: Payout, phone: str, last: Attempt | None) -> Item:
    return from_row(
        Item,
        payout,
        user=payout.user_id,
        phone=mask(last.phone if last is not None and payout.status is not PayoutStatus.PENDING else phone),
        attempts=last.number if last is not None else 0,
        originator_conversation_id=last.id if last is not None else None,
        conversation_id=last.conversation_id if last is not None else None,
        receipt=last.receipt if last is not None else None,
    )


def _attempt_facts(attempt: Attempt) -> AttemptFacts:
    return from_row(AttemptFacts, attempt, originator_conversation_id=attempt.id, phone=mask(attempt.phone))


def _entries(session: Session, payout: Payout, tries: Sequence[Attempt]) -> list[tuple[EntryRow, list[str]]]:
    """Every entry of a payout as the books have it, with its lines in words."""
    sends = {attempt.id: attempt.sends for attempt in tries}
    keys = journal.keys_of(payout.id, sends, [attempt.receipt for attempt in tries if attempt.receipt])
    keys = statements.every_key(session, keys)
    found = {entry.id: entry for entry in session.exec(select(EntryRow).where(col(EntryRow.key).in_(keys)))}
    lines = select(PostingRow).where(col(PostingRow.entry_id).in_(found))
    said: dict[int, list[str]] = {}
    for line in session.exec(lines.order_by(col(PostingRow.entry_id), col(PostingRow.line))):
        account = f"{line.account} {line.owner}".strip()
        said.setdefault(line.entry_id, []).append(f"{account} {line.amount_cents:+d}")
    return [(found[number], parts) for number, parts in said.items()]


#: What an entry of a payout says about the money, by its kind.
_BOOKED = {
    "reserve": "its money is in flight",
    "late_reserve": "its money is in flight again: it was paid after all",
    "release": "its money is back in the utility account",
    "credit": "the wallet is credited",
    "deliver": "the phone has it, and the wallet is lowered by it",
    "overpaid": "the user owes it back: M-Pesa paid twice",
}


def _moments(session: Session, payout: Payout, tries: Sequence[Attempt], entries: Sequence[EntryRow]) -> list[Moment]:
    """Everything that is written down about a payout, in the order in which it happened."""
    owed = f"owed: {format_kes(payout.amount_cents)} ({payout.kind}, leg {payout.leg})"
    moments = [Moment(payout.created_at, "owed", owed)]
    for attempt in tries:
        sent = f"sent: {format_kes(attempt.wire_cents)} to {mask(attempt.phone)} as {attempt.id}"
        moments.append(Moment(attempt.sent_at, "send", sent))
        moments += [
            Moment(call.at, "answer", f"M-Pesa: {call.outcome}") for call in log.calls_about(session, attempt.id)
        ]
        moments += [
            Moment(callback.received_at, "callback", f"callback {callback.id} ({callback.route}): {_verdict(callback)}")
            for callback in callbacks.list_of(session, attempt.id)
        ]
        for query in status_queries.list_about(session, attempt.id):
            moments.append(Moment(query.asked_at, "question", f"asked M-Pesa how it ended ({query.id})"))
            if query.answered_at is not None:
                answer = f"the answer: {query.answer}, {query.detail or ''}".rstrip(", ")
                moments.append(Moment(query.answered_at, "question", answer))
        if attempt.status_at != attempt.sent_at:
            why = " ".join(part for part in (attempt.result_code, attempt.result_text) if part)
            by = f", by {attempt.evidence}" if attempt.evidence else ""
            receipt = f", receipt {attempt.receipt}" if attempt.receipt else ""
            became = f"{attempt.status}{f' ({why})' if why else ''}{receipt}{by}"
            moments.append(Moment(attempt.status_at, "state", became))
    for entry in entries:
        # The intent and its entry are one commit, before anything is said to M-Pesa.
        kind = "send" if entry.kind == "reserve" else "entry"
        moments.append(Moment(entry.at, kind, f"booked: {_BOOKED.get(entry.kind, entry.kind)}"))
    for incident in log.incidents_about(session, payout.id):
        moments.append(Moment(incident.opened_at, "incident", f"incident {incident.id}: {incident.what}"))
        if incident.count > 1:
            last = f"incident {incident.id}, {incident.count} times by now: {incident.latest}"
            moments.append(Moment(incident.last_at, "incident", last))
    moments += [
        Moment(event.at, "act", f"{event.action} by {event.actor}" + (f": {event.reason}" if event.reason else ""))
        for event in log.acts_about(session, payout.id)
    ]
    return sorted(moments, key=lambda moment: (moment.at, ORDER.index(moment.kind)))


def _verdict(callback: Callback) -> str:
    if callback.verdict is None:
        return "stored, not applied yet"
    detail = callback.detail or ""
    return detail if detail.startswith(callback.verdict) else f"{callback.verdict}: {detail}".rstrip(": ")
