"""Try definite failures again, and say why each of the others is left alone.

Only evidence that no money moved makes a payout FAILED, so only FAILED payouts are ever retried; what is unknown
belongs to reconcile. A failure that cannot succeed unchanged is left alone until what caused it has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlmodel import Session

from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.operations.payouts.planned_move import PayoutFacts, facts_of
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Objection, Way
from kasoko_cli.operations.shared.actor import Actor, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.transitions import ANEW
from kasoko_cli.store import markets, payouts
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.reconnect import wait_for_server
from kasoko_cli.store.schema.tables import Payout


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A payout that was not retried, why, and what a person can do."""

    payout_id: str
    status: str
    code: str
    why: str
    hint: str


@dataclass(slots=True)
class Retried:
    """Which payouts are due again, and which were left alone."""

    retried: list[str] = field(default_factory=list)
    wire_cents: int = 0
    left: list[LeftAlone] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FailedPayout(PayoutFacts):
    """A payout that would be tried again, and why it failed."""

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """Which payouts would be due again, and which would be left alone."""

    items: list[FailedPayout]
    wire_cents: int
    left: list[LeftAlone]


def retry(
    ctx: OperationContext,
    *,
    caution: Caution = payment_guard.CAREFUL,
    only: Sequence[str] = (),
    market: str | None = None,
    hours: int | None = None,
) -> Retried:
    """Make failed payouts due again where that can help; the next run sends them.

    Each goes under a new id if M-Pesa took the last one, and under the same if it never did.

    `only` names payouts; otherwise all that failed in the last `hours`, of one market or of all.
    Raises NotFound if there is no such market or payout.
    """
    now, report = ctx.clock(), Retried()
    for payout_id in _named(ctx, caution, only, market, hours):
        made = wait_for_server(
            ctx.db,
            partial(_make_due, ctx.db, ctx.actor, payout_id, caution, now),
            partial(_make_due, ctx.db, ctx.actor, payout_id, caution, now, again=True),
        )
        if isinstance(made, LeftAlone):
            report.left.append(made)
        else:
            report.retried.append(payout_id)
            report.wire_cents += made
    return report


def plan_retry(
    ctx: OperationContext,
    *,
    caution: Caution = payment_guard.CAREFUL,
    only: Sequence[str] = (),
    market: str | None = None,
    hours: int | None = None,
) -> RetryPlan:
    """What `retry` would make due again now, and what it would leave alone; no payout is moved for it.

    Raises NotFound if there is no such market or payout.
    """
    named = _named(ctx, caution, only, market, hours)

    def judge(session: Session) -> RetryPlan:
        found = {one.id: one for one in payouts.by_ids(session, named)}
        against = payment_guard.objections(session, Way.RETRY, found.values(), caution, now=ctx.clock())
        again, left = list[Payout](), list[LeftAlone]()
        for one in (found[payout_id] for payout_id in dict.fromkeys(named)):
            if (alone := _left_alone(one, against.get(one.id))) is not None:
                left.append(alone)
            else:
                again.append(one)
        items = [
            FailedPayout(**asdict(facts), code=one.failure_code or "", why=one.failure_reason or "")
            for one, facts in zip(again, facts_of(session, again), strict=True)
        ]
        return RetryPlan(items, sum(one.wire_cents for one in again), left)

    return reconnect.read(ctx.db, judge)


def _named(
    ctx: OperationContext, caution: Caution, only: Sequence[str], market: str | None, hours: int | None
) -> list[str]:
    """The payouts that are named, or those that failed of late, with all judged that has arrived about them."""

    def find(session: Session) -> list[str]:
        for payout_id in only:
            payouts.find_payout(session, payout_id)
        return list(only) or _failed(session, market, None if hours is None else ctx.clock() - timedelta(hours=hours))

    named = reconnect.read(ctx.db, find)
    payment_guard.judge_first(ctx.db, ctx.clock, caution, named)
    return named


def _make_due(
    db: Database, actor: Actor, payout_id: str, caution: Caution, now: datetime, *, again: bool = False
) -> LeftAlone | int:
    """Make one failed payout due again: its wire cents, or why it is left alone.

    `again` where that was tried before, and its commit may have come through.
    """
    with db.transaction() as session:
        payout = payouts.find_payout(session, payout_id, lock=True)
        if again and payout.status is PayoutStatus.PENDING and payout.updated_at == now:
            return payout.wire_cents
        against = payment_guard.objections(session, Way.RETRY, [payout], caution, now=now).get(payout_id)
        if (left := _left_alone(payout, against)) is not None:
            return left
        moved = payouts.move(session, payout.id, PayoutStatus.PENDING, at=now, only_from={PayoutStatus.FAILED}, **ANEW)
        assert moved, "a payout that we hold as FAILED may be tried again"
        note_act(session, actor, "payout.retry", payout.id, at=now, detail={"after": payout.failure_code})
        return payout.wire_cents


def _failed(session: Session, market: str | None, since: datetime | None) -> list[str]:
    market_id = markets.id_of(session, market)
    found = payouts.list_payouts(session, market_id=market_id, statuses=frozenset({PayoutStatus.FAILED}))
    return [payout.id for payout in found if since is None or payout.updated_at >= since]


def _left_alone(payout: Payout, against: Objection | None) -> LeftAlone | None:
    """Why a payout is not tried again; only where it is FAILED there is evidence that no money moved."""
    if payout.status is PayoutStatus.FAILED:
        if against is None:
            return None
        return LeftAlone(payout.id, str(payout.status), payout.failure_code or "", against.why, against.hint)
    why = _NOT_FAILED.get(payout.status, f"it is {payout.status}")
    hint = _HINTS.get(payout.status, f"kasoko payout show {payout.id}")
    if payout.status is PayoutStatus.RETURNED:
        hint = f"kasoko payout again {payout.id}"
    return LeftAlone(payout.id, str(payout.status), payout.failure_code or "", why, hint)


_NOT_FAILED = {
    PayoutStatus.UNKNOWN: "nobody here knows whether it was paid",
    PayoutStatus.SENDING: "it is being sent",
    PayoutStatus.SENT: "M-Pesa took it, and its result is still to come",
    PayoutStatus.PENDING: "it is due already",
    PayoutStatus.COMPLETED: "it was paid",
    PayoutStatus.WALLET: "it was credited to the wallet",
    PayoutStatus.HELD: "it is held",
    PayoutStatus.AWAITING_APPROVAL: "it waits for approval",
    PayoutStatus.CANCELED: "its settlement was reversed",
    PayoutStatus.RETURNED: "the money came back, and a person decides",
}

_HINTS = {
    **dict.fromkeys((PayoutStatus.UNKNOWN, PayoutStatus.SENDING, PayoutStatus.SENT), "kasoko reconcile"),
    PayoutStatus.PENDING: "kasoko payout",
}
