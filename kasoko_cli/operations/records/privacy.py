"""What the program knows of a person: shown to them, erased when they ask, and not kept longer than needed.

Books, bets and acts name users by an id only. Name and phone stand where they can be emptied: the user, attempts, the
log of calls, callbacks and, with its ends alone, statement lines. What is chained holds only salted digests of them,
and the salt goes with the person: the audit stays whole, and nobody can find the number from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session

from kasoko_cli.clock import iso
from kasoko_cli.domain import phone as phones
from kasoko_cli.domain.counts import count_of
from kasoko_cli.domain.money import format_kes
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.records import wallets
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way
from kasoko_cli.operations.shared.actor import needs_reason, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import erasure, payouts, users
from kasoko_cli.store.engine import row_digests
from kasoko_cli.store.schema.tables import User

#: What stands in place of the name and of the phone of somebody who was erased.
ERASED_NAME, ERASED_PHONE = "erased", phones.ERASED


@dataclass(frozen=True, slots=True)
class Erased:
    """What was emptied when a person was erased; `is_new` is False where that was done before."""

    user: str
    attempts: int
    callbacks: int
    calls: int
    is_new: bool


def erase(ctx: OperationContext, *, user_id: str, caution: Caution = payment_guard.CAREFUL) -> Erased:
    """Erase a person's name and phone, wherever they stand. The books, the bets and the record stay as they are.

    Cents that M-Pesa cannot carry stay in the wallet of the id.

    Raises:
        NotFound: there is no such user.
        Refused: no reason was given, money is owed, in flight or staked, or the guard objects.
    """
    needs_reason(ctx.actor, "Erasing a person")
    payment_guard.judge_first_of(ctx.db, ctx.clock, caution, user_id)
    now = ctx.clock()
    with ctx.db.transaction() as session:
        user = users.find_user(session, user_id, lock=True)
        if user.erased_at is not None:
            return Erased(user_id, 0, 0, 0, is_new=False)
        _refuse_if_owed(session, user)
        payment_guard.check(
            session, Way.ERASE, payouts.list_payouts(session, user_id=user_id), caution, now=now, subject=user_id
        )
        tried = erasure.attempts_to(session, user_id)
        for attempt in tried:
            attempt.phone = row_digests.ERASED + row_digests.phone_seal(user.salt, attempt.phone)
        bodies, calls = erasure.empty_about(session, [attempt.id for attempt in tried])
        user.name, user.phone, user.salt, user.erased_at = ERASED_NAME, ERASED_PHONE, None, now
        session.flush()
        detail = {"attempts": len(tried), "callbacks": bodies, "calls": calls}
        note_act(session, ctx.actor, "user.erase", user_id, at=now, detail=detail)
    return Erased(user_id, len(tried), bodies, calls, is_new=True)


def _refuse_if_owed(session: Session, user: User) -> None:
    def refuse(why: str, hint: str) -> None:
        raise Refused(f"{user.id} was not erased: {why}. Nothing was changed.", hint=hint)

    if (owed := erasure.open_payout(session, user.id)) is not None:
        refuse(f"the payout {owed.id} is {owed.status}", f"End it first: kasoko payout show {owed.id}")
    if (live := erasure.live_attempt(session, user.id)) is not None:
        refuse(f"money is in flight under {live}", "Find out how it ended: kasoko reconcile")
    if (staked := erasure.unsettled_stake(session, user.id)) is not None:
        refuse(f"a bet stands on {staked}, which is not settled", "Settle that market, or cancel the bet, first")
    free, back = book.available(session, user.id), book.balance(session, Account.RECEIVABLE, user.id)
    if free >= 100 or free < 0:
        refuse(f"KES {format_kes(free)} stand in the wallet", f"See it: kasoko wallet show {user.id}")
    if back:
        refuse(f"KES {format_kes(back)} are to be paid back", f"See it: kasoko wallet show {user.id}")


@dataclass(frozen=True, slots=True)
class Expired:
    """How many bodies of callbacks and how many calls older than `before` were emptied."""

    before: datetime
    callbacks: int
    calls: int


def expire(ctx: OperationContext, *, days: int) -> Expired:
    """Drop bodies of callbacks and calls that are older than so many days; their digests and outcomes stay.

    What was not judged yet, and what belongs to an attempt whose fate is open, is kept.
    """
    now = ctx.clock()
    before = now - timedelta(days=days)
    with ctx.db.transaction() as session:
        bodies, calls = erasure.empty_older(session, before)
        if bodies or calls:
            actor = replace(ctx.actor, reason=ctx.actor.reason or f"kept for {count_of(days, 'day')}")
            detail = {"before": iso(before), "callbacks": bodies, "calls": calls}
            note_act(session, actor, "db.expire", "callbacks", at=now, detail=detail)
    return Expired(before, bodies, calls)


def data_of(ctx: OperationContext, *, user_id: str) -> dict[str, Any]:
    """Everything that is known of one person, with the whole phone, for that person. That it was asked is recorded.

    Raises NotFound if there is no such user.
    """
    wallet = wallets.show_wallet(ctx.db, user_id, limit=1_000_000)
    now = ctx.clock()
    with ctx.db.transaction() as session:
        user = users.find_user(session, user_id)
        known = erasure.known_of(session, user_id)
        found = {
            "user": user.model_dump(include={"id", "name", "phone", "created_at", "phone_set_at", "erased_at"}),
            "wallet": wallet,
            "bets": [bet.model_dump() for bet in known.bets],
            "payouts": [payout.model_dump() for payout in known.payouts],
            "attempts": [attempt.model_dump(exclude={"lease_token", "lease_until"}) for attempt in known.attempts],
            "results": [
                {"received_at": one.received_at, "about": one.subject, "body": one.body.decode("utf-8", "replace")}
                for one in known.callbacks
            ],
            "statement_lines": [
                line.model_dump(exclude={"statement_id", "resolved_by"}) for line in known.statement_lines
            ],
            "acts": [one.model_dump(include={"at", "actor", "action", "subject", "reason"}) for one in known.events],
        }
        note_act(session, ctx.actor, "user.export", user_id, at=now)
    return found
