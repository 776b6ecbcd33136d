"""A market's life before the money moves: opened, closed, resolved or made void."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from fractions import Fraction

from sqlmodel import Session

from kasoko_cli.clock import Clock, eat, iso, system_clock
from kasoko_cli.domain.market import (
    MarketStatus,
    Resolution,
    Rules,
    bets_digest,
    check_identifier,
    check_slug,
    clean_text,
)
from kasoko_cli.domain.money import CENTS_PER_SHILLING
from kasoko_cli.domain.parimutuel import terms_of
from kasoko_cli.errors import Refused
from kasoko_cli.operations.records.bets import find_outcome
from kasoko_cli.operations.shared.actor import Actor, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.from_row import from_row
from kasoko_cli.store import bets, markets
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.locking import told_of_a_collision
from kasoko_cli.store.engine.row_digests import market_facts
from kasoko_cli.store.schema.tables import Market, Outcome

#: A market has at least two answers and no more than this.
MOST_OUTCOMES = 200


@dataclass(frozen=True, slots=True)
class MarketLine:
    """One market in a list."""

    id: str
    slug: str
    question: str
    status: str
    closes_at: datetime
    resolved_outcome: str | None
    settled: bool


@dataclass(frozen=True, slots=True)
class OutcomeLine:
    """One outcome and the stakes that stand on it, in cents.

    Of those `pool_cents` take part, and `returns_cents` is what one shilling of them returns if this outcome wins as
    things stand, rounded down; None where nobody's does.
    """

    number: int
    name: str
    bets: int
    stake_cents: int
    pool_cents: int
    returns_cents: int | None


@dataclass(frozen=True, slots=True)
class MarketView:
    """One market with its rules and stakes."""

    id: str
    slug: str
    question: str
    status: str
    closes_at: datetime
    closed_at: datetime | None
    resolved_at: datetime | None
    resolved_outcome: str | None
    rules: dict[str, object]
    rules_digest: str | None
    bets_digest: str | None
    outcomes: list[OutcomeLine]
    gross_cents: int
    late_bets: int
    late_cents: int
    future_bets: int
    shared_phones: list[list[str]]


def rules_of(market: Market) -> Rules:
    """The rules a market is divided by."""
    return from_row(Rules, market)


def resolution_of(market: Market) -> Resolution | None:
    """How a market ended, if it has."""
    return None if market.resolution is None else Resolution.from_dict(json.loads(market.resolution))


def describe_resolution(resolution: Resolution | None, names: Sequence[str]) -> str | None:
    """The winning outcome in words: names joined by a bar, weights behind a colon, VOID."""
    if resolution is None:
        return None
    if resolution.void:
        return "VOID"
    if resolution.weights:
        return "|".join(f"{names[number]}:{weight}" for number, weight in resolution.weights)
    return "|".join(names[number] for number in resolution.winners)


@dataclass(frozen=True, slots=True)
class NewMarket:
    """A market as somebody describes it, before any of it is checked."""

    market_id: str
    slug: str
    question: str
    outcomes: Sequence[str]
    closes_at: datetime
    rules: Rules


def new_market(described: NewMarket, now: datetime) -> tuple[Market, list[Outcome]]:
    """Check a market's description and build its rows.

    Raises Refused if the id, slug, question or outcomes are not usable.
    """
    market_id, slug = check_identifier(described.market_id, what="market id"), described.slug
    names = [clean_text(name, what="outcome", most=100) for name in described.outcomes]
    if not 2 <= len(names) <= MOST_OUTCOMES:
        raise Refused(f"A market has 2 to {MOST_OUTCOMES} outcomes; {slug!r} has {len(names)}. Nothing was changed.")
    if len({name.casefold() for name in names}) != len(names):
        raise Refused(f"The market {slug!r} names an outcome twice; nothing was changed.")
    if any("|" in name for name in names):
        raise Refused(f"An outcome of {slug!r} holds a bar, which separates outcomes in files; nothing was changed.")
    market = Market(
        id=market_id,
        slug=check_slug(slug),
        question=clean_text(described.question, what="question", most=500),
        closes_at=described.closes_at,
        **asdict(described.rules),
        created_at=now,
    )
    return market, [Outcome(market_id=market_id, number=n, name=name) for n, name in enumerate(names)]


def add_market(ctx: OperationContext, described: NewMarket) -> bool:
    """Open a market; says whether it is new.

    Raises Refused if the description is not usable, or the id or slug names another market.
    """
    now = ctx.clock()
    market, answers = new_market(described, now)
    with told_of_a_collision(f"the market {market.slug}"), ctx.db.transaction() as session:
        if known := markets.known_markets(session, [market.id]).get(market.id):
            if same_market(session, known, market, answers):
                return False
            raise Refused(
                f"The market id {market.id!r} names another market; nothing was changed.", hint="Choose another id."
            )
        for other in markets.list_markets(session):
            if other.slug == market.slug:
                raise Refused(
                    f"The slug {market.slug!r} is taken by another market; nothing was changed.",
                    hint="Choose another slug.",
                )
            if market.id == other.slug or market.slug == other.id:
                name, what = (market.id, "slug") if market.id == other.slug else (market.slug, "id")
                raise Refused(
                    f"{name!r} is the {what} of another market; nothing was changed.",
                    hint="Choose another: whoever names a market by its id or slug must mean one.",
                )
        session.add(market)
        session.flush()
        session.add_all(answers)
        note_act(session, ctx.actor, "market.add", market.id, at=now, detail={"facts": market_facts(market, answers)})
    return True


def same_market(session: Session, known: Market, market: Market, answers: Sequence[Outcome]) -> bool:
    """Whether a description says the same as the market that stands."""
    described = (market.slug, market.question, market.closes_at, rules_of(market))
    if (known.slug, known.question, known.closes_at, rules_of(known)) != described:
        return False
    return [outcome.name for outcome in markets.list_outcomes(session, known.id)] == [answer.name for answer in answers]


def close_market(ctx: OperationContext, *, market: str) -> bool:
    """Stop bets now and freeze the rules and the bets; says whether this call did it.

    Raises NotFound if there is no such market.
    """
    with ctx.db.transaction() as session:
        row = markets.find_market(session, market, lock=True)
        now = ctx.clock()  # not before: a bet that we waited for was in time
        if row.status is not MarketStatus.OPEN:
            return False
        _close(session, row, ctx.actor, at=min(now, row.closes_at), now=now)
    return True


def _close(session: Session, market: Market, actor: Actor, *, at: datetime, now: datetime) -> None:
    """Freeze a market: no bet stamped at or after `at` takes part."""
    frozen = bets_digest(bets.stream_bets(session, market.id, at))
    digest = rules_of(market).digest()
    moved = markets.move(
        session, market.id, MarketStatus.CLOSED, at=now, closed_at=at, rules_digest=digest, bets_digest=frozen
    )
    assert moved, "a market locked as OPEN can be closed"
    session.refresh(market)
    detail = {"closed_at": iso(at), "rules_digest": digest, "bets_digest": frozen}
    note_act(session, actor, "market.close", market.id, at=now, detail=detail)


def resolve_market(
    ctx: OperationContext,
    *,
    market: str,
    winners: Sequence[str] = (),
    weights: Sequence[tuple[str, Fraction]] = (),
    withdrawn: Sequence[str] = (),
) -> MarketView:
    """Name the winning outcome. A market past its closing time is closed by it; the same again changes nothing.

    Raises:
        NotFound: there is no such market, or an outcome is not one of its own.
        Refused: it is still open, void, or resolved with another outcome.
    """
    with ctx.db.transaction() as session:
        row, _ = resolve_in(session, ctx, market=market, named=Named(winners, weights, withdrawn))
    return show_market(ctx.db, row.id, ctx.clock)


@dataclass(frozen=True, slots=True)
class Named:
    """How a market ended, in the names of its outcomes."""

    winners: Sequence[str] = ()
    weights: Sequence[tuple[str, Fraction]] = ()
    withdrawn: Sequence[str] = ()

    def numbered(self, market: Market, outcomes: list[Outcome]) -> Resolution:
        """The same in the market's own numbers. Raises NotFound if a name is not one of its outcomes."""
        return Resolution(
            winners=tuple(dict.fromkeys(find_outcome(market, outcomes, name).number for name in self.winners)),
            weights=tuple((find_outcome(market, outcomes, name).number, weight) for name, weight in self.weights),
            withdrawn=frozenset(find_outcome(market, outcomes, name).number for name in self.withdrawn),
        )


def resolve_in(session: Session, ctx: OperationContext, *, market: str, named: Named) -> tuple[Market, bool]:
    """Name the winning outcome in the caller's transaction; the market, and whether that is new.

    Raises what `resolve_market` raises.
    """
    row = markets.find_market(session, market, lock=True)
    outcomes = list(markets.list_outcomes(session, row.id))
    resolution = named.numbered(row, outcomes)
    is_new = resolution_of(row) is None
    _end(session, row, outcomes, resolution, ctx.actor, ctx.clock())
    session.refresh(row)
    return row, is_new


def read_resolution(db: Database, *, market: str, named: Named, void: bool = False) -> Resolution:
    """The resolution that these names say, in the market's own numbers.

    Raises:
        NotFound: there is no such market, or an outcome is not one of its own.
        Refused: it names nothing, or two things that contradict each other.
    """
    if void and not (named.winners or named.weights or named.withdrawn):
        return Resolution(void=True)
    with db.reading() as session:
        row = markets.find_market(session, market)
        return named.numbered(row, list(markets.list_outcomes(session, row.id)))


def void_market(ctx: OperationContext, *, market: str) -> MarketView:
    """Call a market off: settling it gives every stake back and takes no fee. The same again changes nothing.

    Raises:
        NotFound: there is no such market.
        Refused: it is resolved already.
    """
    with ctx.db.transaction() as session:
        row = markets.find_market(session, market, lock=True)
        now = ctx.clock()
        if row.status is MarketStatus.OPEN and now < row.closes_at:
            _close(session, row, ctx.actor, at=now, now=now)
        _end(session, row, list(markets.list_outcomes(session, row.id)), Resolution(void=True), ctx.actor, now)
    return show_market(ctx.db, row.id, ctx.clock)


def _end(
    session: Session, market: Market, outcomes: Sequence[Outcome], resolution: Resolution, actor: Actor, now: datetime
) -> None:
    names = [outcome.name for outcome in outcomes]
    standing = resolution_of(market)
    if standing is not None:
        if standing == resolution:
            return
        raise Refused(
            f"{market.slug} was resolved as {describe_resolution(standing, names)!r}"
            f" at {eat(market.resolved_at or now)}; it was not changed to {describe_resolution(resolution, names)!r}.",
            hint=f"See what another outcome would change: kasoko resolve {market.slug} OUTCOME --override --plan",
        )
    if market.status is MarketStatus.OPEN:
        if now < market.closes_at:
            raise Refused(
                f"{market.slug} still takes bets, until {eat(market.closes_at)}; it was not resolved.",
                hint=f"Close it first: kasoko market close {market.slug}",
            )
        _close(session, market, actor, at=market.closes_at, now=now)
    to = MarketStatus.VOID if resolution.void else MarketStatus.RESOLVED
    moved = markets.move(
        session, market.id, to, at=now, resolved_at=now, resolution=json.dumps(resolution.as_dict(), sort_keys=True)
    )
    assert moved, "a market locked as CLOSED can be resolved"
    detail = {"outcome": describe_resolution(resolution, names), "resolution": resolution.as_dict()}
    note_act(session, actor, "market.void" if resolution.void else "market.resolve", market.id, at=now, detail=detail)


def list_markets(db: Database) -> list[MarketLine]:
    """Every market, the latest to close first."""
    with db.reading() as session:
        return [
            MarketLine(
                id=market.id,
                slug=market.slug,
                question=market.question,
                status=str(market.status),
                closes_at=market.closes_at,
                resolved_outcome=_resolved(session, market),
                settled=markets.standing_settlement(session, market.id) is not None,
            )
            for market in markets.list_markets(session)
        ]


def _resolved(session: Session, market: Market) -> str | None:
    names = [outcome.name for outcome in markets.list_outcomes(session, market.id)]
    return describe_resolution(resolution_of(market), names)


def show_market(db: Database, market: str, clock: Clock = system_clock) -> MarketView:
    """One market with its rules and the stakes on each outcome. Raises NotFound if there is no such market."""
    with db.reading() as session:
        row = markets.find_market(session, market)
        closed_at = row.closed_at or row.closes_at
        left_out = bets.left_out(session, row.id, closed_at=closed_at, now=clock())
        lines = _outcome_lines(session, row, closed_at)
        return MarketView(
            id=row.id,
            slug=row.slug,
            question=row.question,
            status=str(row.status),
            closes_at=row.closes_at,
            closed_at=row.closed_at,
            resolved_at=row.resolved_at,
            resolved_outcome=_resolved(session, row),
            rules=dict(rules_of(row).as_dict()),
            rules_digest=row.rules_digest,
            bets_digest=row.bets_digest,
            outcomes=lines,
            gross_cents=sum(line.stake_cents for line in lines),
            late_bets=left_out.late,
            late_cents=left_out.late_cents,
            future_bets=left_out.future,
            shared_phones=list(bets.shared_phones(session, row.id).values()),
        )


def _outcome_lines(session: Session, market: Market, closed_at: datetime) -> list[OutcomeLine]:
    """Each outcome with its stakes, and what a shilling on it would return."""
    stakes = bets.stakes_by_outcome(session, market.id)
    pool = bets.valid_stakes(session, market.id, closed_at=closed_at)
    lines = []
    for one in markets.list_outcomes(session, market.id):
        dividend = terms_of(pool, rules_of(market), Resolution(winners=(one.number,))).dividends.get(one.number)
        returns = None if dividend is None else int(dividend * CENTS_PER_SHILLING)
        count, cents = stakes.get(one.number, (0, 0))
        lines.append(OutcomeLine(one.number, one.name, count, cents, pool.get(one.number, 0), returns))
    return lines
