"""Divide the pool of a market that has ended, and owe the payouts. No money leaves here.

One transaction: the settlement, the entry that empties the pool, and the payouts. Nothing here can reach M-Pesa.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.clock import NAIROBI, Clock, eat, system_clock
from kasoko_cli.domain.market import BetsDigest, MarketStatus, Resolution, Rules
from kasoko_cli.domain.parimutuel import Division, Stake, divide
from kasoko_cli.domain.payout import PayoutKind, PayoutStatus, WireLimits, legs, payout_id
from kasoko_cli.domain.withholding import NO_BOOK, NO_DUTIES, Duties, DutyBook, kept_of_winners, taxed_of_winners
from kasoko_cli.errors import CheckFailed, Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.operations.records.markets import describe_resolution, resolution_of, rules_of
from kasoko_cli.operations.safeguards.restore_doubt import hold_settled
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import approvals, bets, markets, payouts, statements
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import platform_incident
from kasoko_cli.store.payouts import SettlementTotals
from kasoko_cli.store.platform import outbox
from kasoko_cli.store.schema.tables import Market, Payout, Settlement

#: Called while a settlement goes on with what is being done, how much of it is, and of how much.
Tell = Callable[[str, int, int], None]
#: How often it is called, in rows.
TELL_EVERY = 5_000


def _nobody(_doing: str, _done: int, _total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Owed:
    """One payout of a settlement: whose, why, which leg, and its two amounts in cents."""

    number: int
    user_id: str
    kind: PayoutKind
    leg: int
    amount_cents: int
    wire_cents: int
    withheld_cents: int = 0


@dataclass(frozen=True, slots=True)
class SettlementFigures:
    """How a pool was divided, in cents.

    `payouts_cents` is what the winners won. Of that a duty on winnings taxes `taxed_cents` and keeps back
    `tax_cents`, so that the rest is owed to them.
    """

    gross_cents: int
    fee_cents: int
    net_cents: int
    winning_stake_cents: int
    winners: int
    payouts_cents: int
    refunds_cents: int
    breakage_cents: int
    top_up_cents: int
    taxed_cents: int = 0
    tax_cents: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling a market did, or would do; `is_new` is False where it was settled before.

    `withheld_cents` is what a duty on withdrawals keeps back of it once it has arrived.
    """

    market: str
    slug: str
    resolved_outcome: str
    number: int
    bets: int
    settlement: SettlementFigures
    payouts: int
    to_phones: int
    wire_cents: int
    to_wallets: int
    to_wallets_cents: int
    plan_hash: str
    warnings: list[str]
    settled_at: datetime | None
    is_new: bool
    awaits_approval: bool = False
    withheld_cents: int = 0
    duties: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Basis:
    """What a settlement is worked out from, beside the amounts: which market and bets, by which rules and outcome."""

    market_id: str
    number: int
    bets_digest: str
    rules: Rules
    resolution: Resolution
    duties: Duties


@dataclass(frozen=True, slots=True)
class Plan(Basis):
    """A settlement worked out in full, before anything is written."""

    market: Market
    division: Division
    pools: dict[int, int]
    bets: int
    owed: list[Owed]
    #: What a duty on winnings keeps back of each winner.
    kept: Mapping[str, int]
    plan_hash: str = ""

    @property
    def figures(self) -> SettlementFigures:
        """The figures of the division, with what is kept back of it."""
        division = self.division
        return SettlementFigures(
            gross_cents=division.gross_cents,
            fee_cents=division.fee_cents,
            net_cents=division.net_cents,
            winning_stake_cents=division.winning_stake_cents,
            winners=len(division.payouts),
            payouts_cents=sum(division.payouts.values()),
            refunds_cents=sum(division.refunds.values()),
            breakage_cents=division.breakage_cents,
            top_up_cents=division.top_up_cents,
            taxed_cents=taxed_of_winners(self.duties.winnings, division.payouts, division.staked),
            tax_cents=sum(self.kept.values()),
        )


def plan_settlement(
    db: Database, limits: WireLimits, *, market: str, clock: Clock = system_clock, duties: DutyBook = NO_BOOK
) -> tuple[Settled, list[Owed]]:
    """Work out a settlement and write nothing.

    Raises:
        NotFound: there is no such market.
        Refused: it has no result yet, or is settled already.
        CheckFailed: its bets are not those that stood at the close.
    """
    with db.reading() as session:
        row = markets.find_market(session, market)
        if standing := markets.standing_settlement(session, row.id):
            raise Refused(
                f"{row.slug} was settled at {eat(standing.settled_at)}; there is nothing left to plan.",
                hint=f"See it: kasoko status {row.slug}",
            )
        plan = work_out(session, row, limits, duties=duties_on(duties, clock()))
        return planned(session, plan), plan.owed


def settle_market(
    ctx: OperationContext,
    limits: WireLimits,
    *,
    market: str,
    approval_above_cents: int | None = None,
    duties: DutyBook = NO_BOOK,
    tell: Tell = _nobody,
) -> Settled:
    """Divide the pool once; settling again changes nothing and says so.

    `duties` has the rules by which something is kept back of winners: those of today hold for this settlement for
    good. Where it owes more than `approval_above_cents`, nothing of it is sent or credited until a second person
    has released it. `tell` is called now and then.

    Raises:
        NotFound: there is no such market.
        Refused: it has no result yet, or the platform has it otherwise and nobody has looked at that.
        CheckFailed: its bets are not those that stood at the close.
    """
    now = ctx.clock()
    with ctx.db.transaction() as session:
        row = markets.find_market(session, market, lock=True)
        if standing := markets.standing_settlement(session, row.id):
            return _settled_before(session, row, standing)
        _check_platform(session, row)
        plan = work_out(session, row, limits, duties=duties_on(duties, now), tell=tell)
        waits = approval_above_cents is not None and sum(one.amount_cents for one in plan.owed) > approval_above_cents
        write_settlement(session, plan, plan_hash=plan.plan_hash, now=now)
        write_payouts(session, row.id, plan.number, _telling(plan.owed, tell), now, waits=waits)
        if waits:
            approvals.ask_for(session, row.id, plan.number, plan_hash=plan.plan_hash, settled_by=ctx.actor.name)
        detail = {"settlement": plan.number, "plan_hash": plan.plan_hash, "payouts": len(plan.owed)}
        note_act(session, ctx.actor, "market.settle", row.id, at=now, detail=detail)
        tell("Booking", 0, 0)
        _post(session, plan, now, waits=waits)
        return replace(planned(session, plan), settled_at=now, is_new=True, awaits_approval=waits)


def _check_platform(session: Session, market: Market) -> None:
    incident = platform_incident(session, market.id)
    if incident is not None:
        raise Refused(
            f"{market.slug} was not settled: {incident.what} Nothing was changed.",
            hint="Ask whoever runs the platform which is right, so that not both pay. A bet that is none is taken back"
            f" first (kasoko bet cancel). Then: kasoko incident close {incident.id} --reason TEXT, and settle again.",
        )


def duties_on(book_of_duties: DutyBook, now: datetime) -> Duties:
    """The duties that hold on the Nairobi day of `now`."""
    return book_of_duties.on(now.astimezone(NAIROBI).date())


def duties_of(settlement: Settlement) -> Duties:
    """The duties that apply to a settlement.

    Raises ConfigurationError, ValueError, TypeError or LookupError if somebody edited them, and they cannot be read.
    """
    return NO_DUTIES if settlement.duties is None else Duties.from_dict(json.loads(settlement.duties))


def keys_of_settlement(session: Session, settlement: Settlement) -> list[str]:
    """The entries that together book a settlement: its own, or that of the first one and every correction since."""
    by_number = {one.number: one for one in markets.list_settlements(session, settlement.market_id)}
    keys, one = [], settlement
    while one.corrects is not None:
        keys.append(f"correction:{one.market_id}:{one.number}")
        one = by_number[one.corrects]
    return [*keys, f"settle:{one.market_id}:{one.number}"]


def debts_of(session: Session, market_id: str) -> dict[str, int]:
    """What the corrections of a market made each user owe back, less what later ones dropped of it."""
    keys = [f"correction:{market_id}:{one.number}" for one in markets.list_settlements(session, market_id)]
    return statements.posted_by_owner(session, keys, Account.RECEIVABLE)


def work_out(
    session: Session,
    market: Market,
    limits: WireLimits,
    *,
    resolution: Resolution | None = None,
    tell: Tell = _nobody,
    duties: Duties = NO_DUTIES,
) -> Plan:
    """Work a settlement out in full, by the market's own resolution or by another one.

    Raises:
        Refused: it has no result yet.
        CheckFailed: its bets are not those that stood at the close.
    """
    resolution = resolution or resolution_of(market)
    if resolution is None:
        is_open = market.status is MarketStatus.OPEN
        state = f"is open (its closing time is {eat(market.closes_at)})" if is_open else "has no result yet"
        raise Refused(
            f"{market.slug} {state}; it was not settled.",
            hint=f"Name the winning outcome first: kasoko resolve {market.slug} OUTCOME",
        )
    assert market.closed_at is not None, "a market that has ended was closed"
    closed_at, rules, digest, pools, count = market.closed_at, rules_of(market), BetsDigest(), dict[int, int](), 0
    total = bets.count_bets(session, market.id)

    def stakes() -> Iterator[Stake]:
        nonlocal count
        for bet in bets.stream_bets(session, market.id, closed_at):
            digest.add(bet)
            count += 1
            if not count % TELL_EVERY:
                tell("Reading bets", count, total)
            _, user_id, outcome, cents, _, late, cancelled = bet
            if not cancelled:
                pools[outcome] = pools.get(outcome, 0) + cents
                yield Stake(user_id, outcome, cents, late)

    division = divide(stakes(), rules, resolution)
    if digest.hexdigest() != market.bets_digest or rules.digest() != market.rules_digest:
        raise CheckFailed(
            f"{market.slug} was not settled: its bets or rules are not those that stood when it closed.",
            hint="Nothing was changed. Somebody edited the database by hand: kasoko audit, then restore the rows.",
        )
    number = markets.next_settlement_number(session, market.id)
    kept = kept_of_winners(duties.winnings, division.payouts, division.staked)
    if not duties.winnings:
        division = replace(division, staked={})  # a tenth of the memory for a million winners; a duty alone asks for it
    owed = list(_owed(division, limits, duties, kept))
    basis = (market.id, number, digest.hexdigest(), rules, resolution, duties)
    plan = Plan(*basis, market, division, pools, count, owed, kept)
    return replace(plan, plan_hash=hash_plan(plan, owed))


def _owed(division: Division, limits: WireLimits, duties: Duties, kept: Mapping[str, int]) -> Iterator[Owed]:
    """Winners in the order of their first bets, then refunds; a share of nothing makes no payout."""
    number = 0
    for kind, amounts in ((PayoutKind.PAYOUT, division.payouts), (PayoutKind.REFUND, division.refunds)):
        is_refund = kind is PayoutKind.REFUND
        duty = duties.on_sending(refund=is_refund)
        for user_id, cents in amounts.items():
            net = cents if is_refund else cents - kept.get(user_id, 0)
            for leg, cut in enumerate(legs(net, limits, duty), start=1):
                number += 1
                yield Owed(number, user_id, kind, leg, *cut)


def basis_of(settlement: Settlement) -> Basis:
    """What a settlement that was written says it was worked out from.

    Raises KasokoError, ValueError, TypeError or LookupError if somebody edited it, and it cannot be read.
    """
    return Basis(
        settlement.market_id,
        settlement.number,
        settlement.bets_digest,
        Rules.from_dict(json.loads(settlement.rules)),
        Resolution.from_dict(json.loads(settlement.resolution)),
        duties_of(settlement),
    )


def hash_plan(basis: Basis, owed: Iterable[Owed]) -> str:
    """A digest of exactly this plan: who gets how much, by which rules and duties and from which bets."""
    digest = hashlib.sha256()
    head: list[object] = [basis.market_id, basis.number, basis.rules.digest(), basis.bets_digest]
    head.append(basis.resolution.as_dict())
    if basis.duties:
        head.append(basis.duties.as_dict())
    digest.update(json.dumps(head, sort_keys=True).encode())
    for line in owed:
        withheld = f"|{line.withheld_cents}" if line.withheld_cents else ""
        text = f"\n{line.user_id}|{line.kind}|{line.leg}|{line.amount_cents}|{line.wire_cents}{withheld}"
        digest.update(text.encode())
    return digest.hexdigest()


def write_settlement(
    session: Session, plan: Plan, *, plan_hash: str, now: datetime, corrects: int | None = None
) -> None:
    """The row of a settlement; `corrects` is the number of the one whose payouts it only adds to."""
    session.add(
        Settlement(
            market_id=plan.market.id,
            number=plan.number,
            **asdict(plan.figures),
            bets=plan.bets,
            rules=json.dumps(plan.rules.as_dict(), sort_keys=True),
            resolution=json.dumps(plan.resolution.as_dict(), sort_keys=True),
            bets_digest=plan.bets_digest,
            plan_hash=plan_hash,
            settled_at=now,
            corrects=corrects,
            duties=json.dumps(plan.duties.as_dict(), sort_keys=True) if plan.duties else None,
        )
    )
    session.flush()


def _telling(owed: Sequence[Owed], tell: Tell) -> Iterator[Owed]:
    """Yield the payouts, and tell how many of them were written."""
    for done, line in enumerate(owed):
        if not done % TELL_EVERY:
            tell("Writing payouts", done, len(owed))
        yield line


def write_payouts(
    session: Session, market_id: str, settlement_no: int, owed: Iterable[Owed], now: datetime, *, waits: bool = False
) -> None:
    """A row for each payout of a settlement; what M-Pesa cannot carry goes to the wallet. The platform is told."""
    waiting = PayoutStatus.AWAITING_APPROVAL if waits else None
    rows = (
        (
            payout_id(market_id, settlement_no, line.number),
            market_id,
            settlement_no,
            line.number,
            line.user_id,
            line.kind,
            line.leg,
            line.amount_cents,
            line.wire_cents,
            waiting or (PayoutStatus.PENDING if line.wire_cents else PayoutStatus.WALLET),
            0,
            now,
            now,
            line.withheld_cents,
        )
        for line in owed
    )
    bulk_rows.insert_tuples(session, Payout, _PAYOUT_COLUMNS, rows)
    hold_settled(session, market_id, settlement_no)
    outbox.note_settlement(session, market_id, settlement_no, at=now)


#: What `write_payouts` says of a payout; the rest of its row is empty.
_PAYOUT_COLUMNS = (
    *("id", "market_id", "settlement_no", "number", "user_id", "kind", "leg", "amount_cents", "wire_cents"),
    *("status", "tries", "created_at", "updated_at", "withheld_cents"),
)


def _post(session: Session, plan: Plan, now: datetime, *, waits: bool) -> None:
    """The pool divided, and what M-Pesa cannot carry credited to the wallets at once, unless it waits."""
    division = plan.division
    entry = journal.settled(
        plan.market.id,
        plan.number,
        pools=plan.pools,
        owed=((line.user_id, line.amount_cents) for line in plan.owed),
        earned=journal.Earnings(division.fee_cents, division.breakage_cents, division.top_up_cents),
        withheld=plan.kept,
    )
    book.post(session, entry, at=now)
    if waits:
        return
    book.post_many(session, credits_of(plan, plan.owed), at=now)


def credits_of(plan: Plan, owed: Iterable[Owed]) -> Iterator[Entry]:
    """What M-Pesa cannot carry of these payouts, credited to the wallets."""
    small = (line for line in owed if not line.wire_cents)
    return (
        journal.credited(payout_id(plan.market_id, plan.number, one.number), one.user_id, one.amount_cents)
        for one in small
    )


def figures_of(settlement: Settlement) -> SettlementFigures:
    """The figures that a settlement was written with."""
    return SettlementFigures(**{name: getattr(settlement, name) for name in SettlementFigures.__slots__})


def _warnings(figures: SettlementFigures) -> list[str]:
    """What a person should read before the money is owed."""
    if figures.winners and figures.payouts_cents < figures.winning_stake_cents:
        return [_LITTLE]
    if not figures.winners and figures.refunds_cents:
        return ["Nobody backed the winner, or the market is void: every stake goes back in full, and the fee is 0."]
    return []


_LITTLE = (
    "Winners get back less than they staked: nearly everybody backed the winner, and the fee is taken all the same."
)


def planned(session: Session, plan: Plan) -> Settled:
    """What settling by this plan would do."""
    totals = SettlementTotals(
        payouts=len(plan.owed),
        to_phones=sum(line.wire_cents > 0 for line in plan.owed),
        amount_cents=sum(line.amount_cents for line in plan.owed),
        wire_cents=sum(line.wire_cents for line in plan.owed),
        withheld_cents=sum(line.withheld_cents for line in plan.owed),
    )
    return _answer(session, plan.market, (plan, plan.figures), totals, plan.resolution, plan.duties)


def _settled_before(session: Session, market: Market, standing: Settlement) -> Settled:
    totals = payouts.settlement_totals(session, market.id, standing.number)
    written, resolution = (standing, figures_of(standing)), resolution_of(market)
    waits = approvals.is_outstanding(session, market.id, standing.number)
    found = _answer(session, market, written, totals, resolution, duties_of(standing))
    return replace(found, settled_at=standing.settled_at, awaits_approval=waits)


def _answer(
    session: Session,
    market: Market,
    settled: tuple[Plan | Settlement, SettlementFigures],
    totals: SettlementTotals,
    resolution: Resolution | None,
    duties: Duties,
) -> Settled:
    names = [outcome.name for outcome in markets.list_outcomes(session, market.id)]
    settlement, figures = settled
    return Settled(
        market=market.id,
        slug=market.slug,
        resolved_outcome=describe_resolution(resolution, names) or "",
        number=settlement.number,
        bets=settlement.bets,
        settlement=figures,
        payouts=totals.payouts,
        to_phones=totals.to_phones,
        wire_cents=totals.wire_cents,
        to_wallets=totals.payouts - totals.to_phones,
        to_wallets_cents=totals.amount_cents - totals.wire_cents - totals.withheld_cents,
        plan_hash=settlement.plan_hash,
        warnings=_warnings(figures),
        settled_at=None,
        is_new=False,
        withheld_cents=totals.withheld_cents,
        duties=[duty.name for duty in (duties.winnings, duties.withdrawals) if duty is not None],
    )
