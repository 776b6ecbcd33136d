"""After a copy was put back: M-Pesa is asked about every id in doubt, until each payout's is ended.

What comes into doubt, and by which answers the doubt ends, stands in `restore_doubt`. Nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.clock import Clock
from kasoko_cli.operations.account.payer import hold_to_account, wrong_account
from kasoko_cli.operations.callbacks.verification import known_id
from kasoko_cli.operations.reconciliation.status_queries import AskedStatus, ask_about
from kasoko_cli.operations.safeguards import payment_guard, restore_doubt
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.store import accounts, payouts, restored
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt
from kasoko_cli.store.statements import RESTORED

#: How many rounds of questions follow from one another; what the last one brings into doubt is asked about next time.
ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Doubted:
    """An id under which a payout may have been paid since the copy was taken, and what M-Pesa said of it.

    `ask_from` is from when on another question may confirm the answer. `against` is what else holds the payout back.
    """

    payout_id: str
    status: str
    attempt_id: str
    wire_cents: int
    copy_at: str
    answer: str
    can_be_asked: bool
    ask_from: datetime | None
    against: str


@dataclass(frozen=True, slots=True)
class AfterRestore:
    """Whether it is proven that nobody is paid again; `doubted` has what is not."""

    ok: bool
    doubted: list[Doubted]
    asked: list[AskedStatus]
    let_go: int
    found_paid: int


def look_after_restore(
    ctx: OperationContext, gateway: Gateway | None, caution: Caution, *, besides: Collection[str] = ()
) -> list[AskedStatus]:
    """Ask M-Pesa about every id under which a payout may have been sent since the copy was taken.

    Not about those whose answer can only be confirmed later, nor about `besides`, which were asked about just now.
    Without a `gateway` only what was answered before is taken in. Nothing is sent.

    Raises:
        Refused: another account paid when the copy was taken, and has to be asked.
        ConfigurationError: M-Pesa refuses the consumer key or secret.
        NotSent: M-Pesa cannot be reached.
    """
    take_answers(ctx, caution)
    if gateway is None:
        return []
    db, clock, daraja = ctx.db, ctx.clock, gateway.daraja
    hold_to_account(ctx, daraja.account.payer)
    reconnect.write(db, restored.take_numbers)
    with db.reading() as session:
        asker = accounts.find(session, daraja.account.payer)
        if others := accounts.doubted_elsewhere(session, asker):
            raise wrong_account(others, daraja.account.payer)
        turn = [
            one
            for one in restored.list_doubted(session)
            if one.id not in besides and one.account_id == asker and _may_be_asked(session, one, caution, clock())
        ]
    if turn:
        daraja.check_account()
    asked = []
    for attempt in turn:
        asked.append(ask_about(ctx, gateway, attempt))
        payment_guard.judge_first(db, clock, caution, [attempt.payout_id])
    return asked


def _may_be_asked(session: Session, attempt: Attempt, caution: Caution, now: datetime) -> bool:
    """Whether a question about it can tell more than is known."""
    word = restore_doubt.word_of(session, attempt, caution.confirm, now)
    return known_id(attempt) is not None and not word.is_sure and (word.ask_from is None or word.ask_from <= now)


def take_answers(ctx: OperationContext, caution: Caution) -> int:
    """Let go what was not paid since the copy was taken, by what is known now; returns how many payouts."""
    payment_guard.judge_first(ctx.db, ctx.clock, caution)
    with ctx.db.reading() as session:
        doubted = list(dict.fromkeys(one.payout_id for one in restored.list_doubted(session)))
    count, now = 0, ctx.clock()
    for payout_id in doubted:
        with ctx.db.transaction() as session:
            payout = payouts.find_payout(session, payout_id, lock=True)
            if payment_guard.objections(session, Way.LET_GO, [payout], caution, now=now):
                continue
            why = "M-Pesa, asked about its ids, knows of no payment"
            count += restore_doubt.go_on(session, payout, ctx.actor, caution.confirm, why=why, at=now)
    return count


def proof(
    db: Database,
    clock: Clock,
    asked: list[AskedStatus],
    *,
    let_go_now: int = 0,
    caution: Caution = payment_guard.CAREFUL,
) -> AfterRestore:
    """What is not proven yet, after M-Pesa was asked."""
    with db.reading() as session:
        doubted = [_doubted(session, one, caution, clock()) for one in restored.list_doubted(session)]
        return AfterRestore(not doubted, doubted, asked, let_go_now, restored.count_paid(session))


def _doubted(session: Session, attempt: Attempt, caution: Caution, now: datetime) -> Doubted:
    payout = payouts.find_payout(session, attempt.payout_id)
    word = restore_doubt.word_of(session, attempt, caution.confirm, now)
    against = payment_guard.objections(session, Way.LET_GO, [payout], caution, now=now).get(payout.id)
    return Doubted(
        payout.id,
        str(payout.status),
        attempt.id,
        attempt.wire_cents,
        attempt.lease_token.removeprefix(RESTORED),
        word.answer or "not answered",
        known_id(attempt) is not None,
        word.ask_from,
        "" if against is None else f"{against.why}. {against.hint}",
    )
