"""A whole market held before it is sent, and released again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sqlmodel import Session

from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.payouts.manual_decision import STOPPABLE, after_a_hold
from kasoko_cli.operations.payouts.planned_move import PayoutFacts, facts_of
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Objection, Way
from kasoko_cli.operations.shared.actor import needs_reason, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.transitions import ANEW, ON_THEIR_WAY
from kasoko_cli.store import markets, payouts
from kasoko_cli.store.schema.tables import Payout

#: How a payout is marked that was stopped with its market: only those are let go with it.
WITH_ITS_MARKET = "with its whole market: "


@dataclass(frozen=True, slots=True)
class MarketMoved:
    """What holding or releasing a market did.

    `moved` has how many payouts are in which state now because of it, `wire_cents` what they carry, `left` why
    others stayed as they were, and `items` each one that was moved.
    """

    market: str
    slug: str
    moved: dict[str, int]
    wire_cents: int
    left: list[str]
    items: list[PayoutFacts]


def hold_market(ctx: OperationContext, *, market: str) -> MarketMoved:
    """Stop every payout of a market that has not left: due, failed, or waiting for a second person.

    Raises:
        NotFound: there is no such market.
        Refused: no reason was given.
    """
    needs_reason(ctx.actor, "To hold or release a whole market")
    now = ctx.clock()
    with ctx.db.transaction() as session:
        row = markets.find_market(session, market, lock=True)
        payouts.lock_market(session, row.id)
        moved = [
            one
            for one in payouts.list_payouts(session, market_id=row.id, statuses=STOPPABLE)
            if payouts.move(
                session, one.id, PayoutStatus.HELD, at=now, only_from=STOPPABLE, note=WITH_ITS_MARKET + ctx.actor.reason
            )
        ]
        on_their_way = payouts.list_payouts(session, market_id=row.id, statuses=ON_THEIR_WAY)
        items = facts_of(session, moved)
        note_act(session, ctx.actor, "market.hold", row.id, at=now, detail={"payouts": len(moved)})
    left = [f"{one.id} is {one.status}: it may be on its way, and goes on to its result" for one in on_their_way]
    by_state = {str(PayoutStatus.HELD): len(moved)} if moved else {}
    return MarketMoved(row.id, row.slug, by_state, sum(one.wire_cents for one in moved), left, items)


def release_market(
    ctx: OperationContext,
    *,
    market: str,
    caution: Caution = payment_guard.CAREFUL,
    shown: Collection[str] | None = None,
) -> MarketMoved:
    """Release what was held with its whole market; what was held by itself stays held.

    `shown` are the ids that somebody was asked about: no other is released.

    Raises:
        NotFound: there is no such market.
        Refused: no reason was given.
    """
    needs_reason(ctx.actor, "To hold or release a whole market")
    payment_guard.judge_first(ctx.db, ctx.clock, caution)
    now = ctx.clock()
    moved: Counter[str] = Counter()
    left: list[str] = []
    released = list[Payout]()
    with ctx.db.transaction() as session:
        row = markets.find_market(session, market, lock=True)
        payouts.lock_market(session, row.id)
        credited = []
        stopped = payouts.list_payouts(session, market_id=row.id, statuses=frozenset({PayoutStatus.HELD}))
        against = payment_guard.objections(session, Way.RELEASE, stopped, caution, now=now)
        for one in stopped:
            to, why = _may_go(session, one, against.get(one.id))
            if not why and shown is not None and one.id not in shown:
                why = "it was not among those that were shown; do the same again"
            if why or not payouts.move(session, one.id, to, at=now, only_from={PayoutStatus.HELD}, **ANEW):
                left.append(f"{one.id} stays held: {why}")
                continue
            moved[str(to)] += 1
            released.append(one)
            if to is PayoutStatus.WALLET:
                credited.append(journal.credited(one.id, one.user_id, one.amount_cents))
        items = facts_of(session, released)
        note_act(session, ctx.actor, "market.release", row.id, at=now, detail={"payouts": moved.total()})
        book.post_many(session, credited, at=now)
    return MarketMoved(row.id, row.slug, dict(moved), sum(one.wire_cents for one in released), left, items)


def _may_go(session: Session, payout: Payout, against: Objection | None) -> tuple[PayoutStatus, str]:
    """Where a held payout would go, and why it may not; empty where it may."""
    to = after_a_hold(session, payout)
    if not (payout.note or "").startswith(WITH_ITS_MARKET):
        return to, f"it was stopped by itself ({payout.note}); let it go with kasoko payout release {payout.id}"
    return to, f"{against.why}. {against.hint}" if against is not None else ""
