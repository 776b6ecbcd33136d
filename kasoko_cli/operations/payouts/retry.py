"""Try definite failures again, and say why each of the others is left alone.

Only evidence that no money moved makes a payout FAILED, so only FAILED payouts are ever retried; what is unknown
belongs to reconcile. A failure that cannot succeed unchanged is left alone until what caused it has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlmodel import Session

from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way
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
    now = ctx.clock()
    report = Retried()

    def look(session: Session) -> list[str]:
        for payout_id in only:
            payouts.find_payout(session, payout_id)
        return list(only) or _failed(session, market, None if hours is None else now - timedelta(hours=hours))

    named = reconnect.read(ctx.db, look)
    payment_guard.judge_first(ctx.db, ctx.clock, caution, named)
    for payout_id in named:
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
        if (left := _not_failed(payout)) is not None:
            return left
        against = payment_guard.objections(session, Way.RETRY, [payout], caution, now=now).get(payout_id)
        if against is not None:
            code = payout.failure_code or ""
            return LeftAlone(payout_id, str(payout.status), code, against.why, against.hint)
        moved = payouts.move(session, payout.id, PayoutStatus.PENDING, at=now, only_from={PayoutStatus.FAILED}, **ANEW)
        assert moved, "a payout that we hold as FAILED may be tried again"
        note_act(session, actor, "payout.retry", payout.id, at=now, detail={"after": payout.failure_code})
        return payout.wire_cents


def _failed(session: Session, market: str | None, since: datetime | None) -> list[str]:
    market_id = markets.id_of(session, market)
    found = payouts.list_payouts(session, market_id=market_id, statuses=frozenset({PayoutStatus.FAILED}))
    return [payout.id for payout in found if since is None or payout.updated_at >= since]


def _not_failed(payout: Payout) -> LeftAlone | None:
    """Why a payout cannot be tried again, unless it is FAILED: only then is there evidence that no money moved."""
    if payout.status is PayoutStatus.FAILED:
        return None
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
