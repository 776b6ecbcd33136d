"""What a run of sending would do, shown before it begins: who gets what, what it needs, what stands in its way.

Nothing is written. The plan's hash names exactly these payouts, amounts and phones, to bind a run to what was shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.clock import Clock, nairobi_day
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.domain.phone import mask
from kasoko_cli.operations.payouts import float_check
from kasoko_cli.operations.payouts.float_check import Gate, GatePolicy
from kasoko_cli.operations.payouts.run import EVERYTHING, Selection
from kasoko_cli.operations.payouts.spending_bound import plan_line
from kasoko_cli.store import attempts, markets, payouts, users
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import incidents_of, switch_on
from kasoko_cli.store.schema.tables import Payout


@dataclass(frozen=True, slots=True)
class Planned:
    """One payout that a run would send: to whom, how much, and what would keep it back."""

    payout_id: str
    market: str
    slug: str
    user_id: str
    phone: str
    kind: str
    leg: int
    amount_cents: int
    wire_cents: int
    #: `send`, `tomorrow` (the receiver has had the day's limit) or `hold` (an incident stands about it).
    would: str


@dataclass(frozen=True, slots=True)
class Parked:
    """Payouts that a run does not touch, and what they carry."""

    payouts: int
    wire_cents: int


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run would do now; amounts in cents."""

    payouts: int
    wire_cents: int
    later: int
    next_at: datetime | None
    receivers: int
    several_legs: int
    tomorrow: Parked
    in_doubt: Parked
    held: Parked
    awaiting_approval: Parked
    float: Gate
    warnings: list[str]
    plan_hash: str
    items: list[Planned]


def plan(
    db: Database,
    clock: Clock,
    policy: GatePolicy,
    daily_cents: int,
    selection: Selection = EVERYTHING,
    *,
    smallest_first: bool = False,
) -> RunPlan:
    """Work out a run and write nothing. `daily_cents` is the most for one receiver in a Nairobi day.

    Raises NotFound if there is no such market or payout.
    """
    now = clock()
    looked = float_check.look(db, clock, policy, selection)
    with db.reading() as session:
        for payout_id in selection.only:
            payouts.find_payout(session, payout_id)
        market_id, only = markets.id_of(session, selection.market), selection.only
        _, _, later, next_at = payouts.totals_due(session, now=now, market_id=market_id, only=only)
        due = payouts.list_due_now(
            session, now=now, limit=selection.limit, market_id=market_id, only=only, smallest_first=smallest_first
        )
        items, plan_hash = _items(session, due, daily_cents, now)
        parked = payouts.parked_by_status(session, market_id)
        switch = switch_on(session)
    paused = [] if switch is None else [f"Nothing is sent now: {switch.name} by {switch.actor}, {switch.reason}"]
    return RunPlan(
        payouts=len(items),
        wire_cents=sum(one.wire_cents for one in items),
        later=later,
        next_at=next_at,
        receivers=len({one.user_id for one in items}),
        several_legs=len({one.user_id for one in items if one.leg > 1}),
        tomorrow=_parked(items, "tomorrow"),
        in_doubt=_parked(items, "hold"),
        held=Parked(*parked.get(PayoutStatus.HELD, (0, 0))),
        awaiting_approval=Parked(*parked.get(PayoutStatus.AWAITING_APPROVAL, (0, 0))),
        float=looked,
        warnings=[*paused, *filter(None, [looked.warning])],
        plan_hash=plan_hash,
        items=items,
    )


def _items(session: Session, due: Sequence[Payout], daily_cents: int, now: datetime) -> tuple[list[Planned], str]:
    """Each payout that is due with what would become of it, and the hash of them all."""
    people = users.known_users(session, {payout.user_id for payout in due})
    slugs = markets.known_markets(session, {payout.market_id for payout in due})
    wired = attempts.wired_by_phone(session, nairobi_day(now))
    doubted = incidents_of(session, [payout.id for payout in due])
    items, digest = [], hashlib.sha256()
    for payout in due:
        phone = people[payout.user_id].phone
        digest.update(plan_line(payout.id, payout.wire_cents, phone))
        would = "hold" if payout.id in doubted else "send"
        if would == "send" and wired.get(phone, 0) + payout.wire_cents > daily_cents:
            would = "tomorrow"
        if would == "send":
            wired[phone] = wired.get(phone, 0) + payout.wire_cents
        items.append(
            Planned(
                payout.id,
                payout.market_id,
                slugs[payout.market_id].slug,
                payout.user_id,
                mask(phone),
                str(payout.kind),
                payout.leg,
                payout.amount_cents,
                payout.wire_cents,
                would,
            )
        )
    return items, digest.hexdigest()


def _parked(items: Sequence[Planned], would: str) -> Parked:
    found = [one.wire_cents for one in items if one.would == would]
    return Parked(len(found), sum(found))
