"""Try definite failures again, and say why each of the others is left alone.

Only evidence that no money moved makes a payout FAILED, so only FAILED payouts are ever retried; what is
unknown belongs to reconcile. A failure that cannot succeed unchanged is left alone until what caused it
has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlmodel import Session

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.codes import lookup
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.operations.acts import Act
from kasoko_cli.operations.fate import DECIDED, NOT_ON_STATEMENT, NOT_SENT, STATUS_SAYS_NO
from kasoko_cli.store import attempts, markets, patience, payouts, queries, users
from kasoko_cli.store.database import Database
from kasoko_cli.store.log import note_event, open_incidents
from kasoko_cli.store.patience import wait_for_server
from kasoko_cli.store.tables import Attempt, Payout


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
    db: Database,
    clock: Clock,
    act: Act,
    *,
    confirm_above_cents: int,
    only: Sequence[str] = (),
    market: str | None = None,
    hours: int | None = None,
) -> Retried:
    """Make failed payouts due again where that can help; the next run sends them.

    Each goes under a new id if M-Pesa took the last one, and under the same if it never did.

    `only` names payouts; otherwise all that failed in the last `hours`, of one market or of all.

    Raises:
        NotFound: there is no such market or payout.
    """
    now = clock()
    report = Retried()

    def look(session: Session) -> list[str]:
        for payout_id in only:
            payouts.find_payout(session, payout_id)
        return list(only) or _failed(session, market, None if hours is None else now - timedelta(hours=hours))

    for payout_id in patience.read(db, look):
        made = wait_for_server(
            db,
            partial(_make_due, db, act, payout_id, confirm_above_cents, now),
            partial(_make_due, db, act, payout_id, confirm_above_cents, now, again=True),
        )
        if isinstance(made, LeftAlone):
            report.left.append(made)
        else:
            report.retried.append(payout_id)
            report.wire_cents += made
    return report


def _make_due(
    db: Database, act: Act, payout_id: str, confirm_above_cents: int, now: datetime, *, again: bool = False
) -> LeftAlone | int:
    """Make one failed payout due again: its wire cents, or why it is left alone.

    `again` where that was tried before, and its commit may have come through.
    """
    with db.transaction() as session:
        payout = payouts.find_payout(session, payout_id, lock=True)
        if again and payout.status is PayoutStatus.PENDING and payout.updated_at == now:
            return payout.wire_cents
        left = _not_failed(payout) or why_not_again(session, payout, confirm_above_cents)
        if left is not None:
            return left
        moved = payouts.move(
            session,
            payout.id,
            PayoutStatus.PENDING,
            at=now,
            only_from={PayoutStatus.FAILED},
            tries=0,
            not_before=None,
            note=None,
        )
        assert moved, "a payout that we hold as FAILED may be tried again"
        note_event(
            session,
            at=now,
            actor=act.actor,
            action="payout.retry",
            subject=payout.id,
            reason=act.reason,
            detail={"after": payout.failure_code},
        )
        return payout.wire_cents


def _failed(session: Session, market: str | None, since: datetime | None) -> list[str]:
    market_id = markets.id_of(session, market)
    found = payouts.list_payouts(session, market_id=market_id, statuses=frozenset({PayoutStatus.FAILED}))
    return [payout.id for payout in found if since is None or payout.updated_at >= since]


def _not_failed(payout: Payout) -> LeftAlone | None:
    """Why a payout is none to try again: only what is FAILED has evidence that no money moved."""
    if payout.status is PayoutStatus.FAILED:
        return None
    why = _NOT_FAILED.get(payout.status, f"it is {payout.status}")
    hint = _HINTS.get(payout.status, f"kasoko payout show {payout.id}")
    if payout.status is PayoutStatus.RETURNED:
        hint = f"kasoko payout again {payout.id}"
    return LeftAlone(payout.id, str(payout.status), payout.failure_code or "", why, hint)


def why_not_again(session: Session, payout: Payout, confirm_above_cents: int) -> LeftAlone | None:
    """Why a payout whose last attempt failed is not sent again, or None if it may be."""

    def left(why: str, hint: str) -> LeftAlone:
        return LeftAlone(payout.id, str(payout.status), payout.failure_code or "", why, hint)

    show = f"kasoko payout show {payout.id}"
    if open_incidents(session, payout_id=payout.id):
        return left("what is known of it contradicts itself, and a person decides", show)
    last = attempts.last_attempts(session, [payout.id]).get(payout.id)
    user = users.find_user(session, payout.user_id)
    phone_changed = last is None or user.phone != last.phone
    code = payout.failure_code or ""
    if code not in (NOT_SENT, STATUS_SAYS_NO, NOT_ON_STATEMENT, DECIDED) and not phone_changed:
        rule = lookup(code, payout.failure_reason or "")
        if rule.needs_other_phone or _is_refusal(code):
            said = rule.meaning if rule.needs_other_phone else payout.failure_reason
            correct = f"kasoko user set-phone {payout.user_id} PHONE"
            return left(
                f"it cannot succeed to the same number: {said}",
                f"Correct the number: {correct}, then: kasoko payout retry {payout.id}",
            )
        if not rule.may_succeed_again:
            return left(f"it cannot succeed unchanged: {rule.meaning}", rule.advice)
    if last is not None and payout.wire_cents > confirm_above_cents and not _confirmed(session, last):
        return left(
            f"above KES {format_kes(confirm_above_cents)} a failure that was posted to us is confirmed first",
            "kasoko reconcile",
        )
    return None


def _is_refusal(code: str) -> bool:
    """Whether M-Pesa refused the request itself, at once: those codes have dots, result codes have none."""
    return "." in code


def _confirmed(session: Session, last: Attempt) -> bool:
    """Whether something besides a callback says that the attempt failed."""
    return not (last.evidence or "").startswith("callback:") or queries.was_confirmed(session, last)


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
    PayoutStatus.UNKNOWN: "kasoko reconcile",
    PayoutStatus.SENDING: "kasoko reconcile",
    PayoutStatus.SENT: "kasoko reconcile",
    PayoutStatus.PENDING: "kasoko payout",
}
