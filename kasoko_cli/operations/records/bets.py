"""Stakes: taken in before the close, given back if cancelled before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kasoko_cli.clock import Clock, eat, iso, system_clock
from kasoko_cli.domain.market import MarketStatus, check_identifier, nearest
from kasoko_cli.domain.money import format_kes
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import bets, markets, users
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.locking import told_of_a_collision
from kasoko_cli.store.schema.tables import Bet, Funding, Market, Outcome


@dataclass(frozen=True, slots=True)
class BetLine:
    """One bet in a list. `marks` has what is unusual: `late`, `future`, `shared_phone`."""

    id: str
    user: str
    outcome: str
    stake_cents: int
    funding: str
    placed_at: datetime
    cancelled_at: datetime | None
    marks: list[str]


@dataclass(frozen=True, slots=True)
class Placed:
    """A bet that stands, and what the user has left to spend, in cents."""

    bet: BetLine
    market: str
    slug: str
    is_new: bool
    available_cents: int


def find_outcome(market: Market, outcomes: list[Outcome], name: str) -> Outcome:
    """The market's outcome with this name, whatever its case.

    Raises NotFound if it is not one of the market's; the nearest is suggested.
    """
    for outcome in outcomes:
        if outcome.name == name:
            return outcome
    loose = [outcome for outcome in outcomes if outcome.name.casefold() == name.strip().casefold()]
    if len(loose) == 1:
        return loose[0]
    names = [outcome.name for outcome in outcomes]
    guess = nearest(name, names)
    suggestion = f"Did you mean {guess!r}? " if guess else ""
    raise NotFound(
        f"{name!r} is not an outcome of {market.slug}; nothing was changed.",
        hint=f"{suggestion}Its outcomes are: {', '.join(names)}",
    )


@dataclass(frozen=True, slots=True)
class NewBet:
    """A bet as somebody places it: who stakes how many cents on which outcome of which market, paid how."""

    bet_id: str
    market: str
    user_id: str
    outcome: str
    cents: int
    funding: Funding = Funding.WALLET


def place_bet(ctx: OperationContext, wanted: NewBet) -> Placed:
    """Take in one bet, now.

    A bet id is taken once: the same bet again changes nothing.

    Raises:
        NotFound: there is no such market, user or outcome.
        Refused: the market takes no bets, the wallet does not hold the stake, or the id names another bet.
    """
    bet_id, cents, funding = check_identifier(wanted.bet_id, what="bet id"), wanted.cents, wanted.funding
    if cents <= 0:
        raise Refused(f"A stake of KES {format_kes(cents)} is no bet; nothing was changed.")
    with told_of_a_collision(f"the bet {bet_id}"), ctx.db.transaction() as session:
        row = markets.find_market(session, wanted.market, share=True)
        user = users.find_user(session, wanted.user_id, lock=True)
        now = ctx.clock()  # not before: whoever waits long for its turn is not in time
        chosen = find_outcome(row, list(markets.list_outcomes(session, row.id)), wanted.outcome)
        known = bets.known_bets(session, [bet_id]).get(bet_id)
        if known is not None:
            same = (known.market_id, known.user_id, known.outcome, known.stake_cents, known.funding)
            if same != (row.id, user.id, chosen.number, cents, funding):
                raise Refused(
                    f"The bet id {bet_id!r} names another bet; nothing was changed.",
                    hint="Give this bet an id of its own.",
                )
            return Placed(_line(known, chosen.name), row.id, row.slug, False, book.available(session, user.id))
        if row.status is not MarketStatus.OPEN or now >= row.closes_at:
            raise Refused(
                f"{row.slug} takes no more bets: it closed at {eat(row.closed_at or row.closes_at)}."
                " Nothing was changed.",
                hint="Bets stand from before the close only.",
            )
        free = book.available(session, user.id)
        if funding is Funding.WALLET and cents > free:
            raise Refused(
                f"{user.id} has KES {format_kes(free)} available, and the stake is KES {format_kes(cents)}."
                " Nothing was changed.",
                hint=f"Take in a deposit first: kasoko wallet deposit {user.id} AMOUNT --reference RECEIPT",
            )
        bet = Bet(
            id=bet_id,
            market_id=row.id,
            outcome=chosen.number,
            user_id=user.id,
            stake_cents=cents,
            funding=funding,
            placed_at=now,
        )
        session.add(bet)
        session.flush()
        note_act(session, ctx.actor, "bet.place", bet_id, at=now)
        if funding is Funding.WALLET:
            entry = journal.bet_from_wallet(bet_id, user.id, row.id, chosen.number, cents)
        else:
            entry = journal.bet_collected(bet_id, row.id, chosen.number, cents)
        book.post(session, entry, at=now)
        return Placed(_line(bet, chosen.name), row.id, row.slug, True, book.available(session, user.id))


def cancel_bet(ctx: OperationContext, *, bet_id: str, at: datetime | None = None) -> bool:
    """Take a bet back before its market closes; the stake returns to the wallet. Says whether it did.

    `at` is when the platform took it back, where that is not now.

    Raises:
        NotFound: there is no such bet.
        Refused: the market has closed, or had by then; or the bet was not yet placed.
    """
    with ctx.db.transaction() as session:
        market = markets.find_market(session, bets.find_bet(session, bet_id).market_id, share=True)
        bet = bets.find_bet(session, bet_id, lock=True)
        now = at or ctx.clock()
        if bet.cancelled_at is not None:
            return False
        if market.status is not MarketStatus.OPEN or now >= market.closes_at:
            raise Refused(
                f"The bet {bet_id} stands: {market.slug} closed at {eat(market.closed_at or market.closes_at)}.",
                hint="A closed market is settled or made void as a whole: kasoko market void",
            )
        if now < bet.placed_at:
            raise Refused(
                f"The bet {bet_id} stands: it was placed at {iso(bet.placed_at)}, and is said to have been taken back"
                " before that.",
                hint="Check both times.",
            )
        if not bets.cancel(session, bet_id, at=now):
            return False
        note_act(session, ctx.actor, "bet.cancel", bet_id, at=now)
        book.post(
            session, journal.bet_cancelled(bet_id, bet.user_id, bet.market_id, bet.outcome, bet.stake_cents), at=now
        )
    return True


def list_bets(db: Database, market: str, *, limit: int | None = None, clock: Clock = system_clock) -> list[BetLine]:
    """The bets of a market, earliest first. Raises NotFound if there is no such market."""
    with db.reading() as session:
        row = markets.find_market(session, market)
        names = {outcome.number: outcome.name for outcome in markets.list_outcomes(session, row.id)}
        sharing = {user_id for users_ in bets.shared_phones(session, row.id).values() for user_id in users_}
        closed_at, now = row.closed_at or row.closes_at, clock()

        def marks(bet: Bet) -> list[str]:
            is_so = {
                "late": bet.placed_at >= closed_at and bet.cancelled_at is None,
                "future": bet.placed_at > now,
                "shared_phone": bet.user_id in sharing,
            }
            return [mark for mark, here in is_so.items() if here]

        found = bets.list_bets(session, row.id, limit=limit)
        return [_line(bet, names[bet.outcome], marks(bet)) for bet in found]


def _line(bet: Bet, outcome: str, marks: Sequence[str] = ()) -> BetLine:
    return BetLine(
        bet.id, bet.user_id, outcome, bet.stake_cents, str(bet.funding), bet.placed_at, bet.cancelled_at, [*marks]
    )
