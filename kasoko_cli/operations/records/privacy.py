"""What the program knows of a person: shown to them, forgotten when they ask, and not kept longer than needed.

Books, bets and acts name users by an id only. Name and phone stand in a few places that can be emptied: the user,
attempts, the log of calls, the bodies of callbacks and, with its ends alone, the lines of statements. What is
chained holds only salted digests of them, and the salt goes with the person: the audit stays whole, and nobody can
find the number from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, select

from kasoko_cli.clock import iso
from kasoko_cli.domain import phone as phones
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import LIVE, PayoutStatus
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.records import wallets
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import payouts, users
from kasoko_cli.store.engine import reconnect, row_digests
from kasoko_cli.store.engine.locking import CHUNK
from kasoko_cli.store.log import note_event
from kasoko_cli.store.schema.tables import (
    Attempt,
    Bet,
    Callback,
    Event,
    Exchange,
    Market,
    Payout,
    Query,
    Settlement,
    StatementLine,
    User,
)

#: Payouts that leave nothing to be done for their user.
_DONE = (PayoutStatus.COMPLETED, PayoutStatus.WALLET, PayoutStatus.CANCELED)
#: What stands in place of the name and of the phone of somebody who was erased.
ERASED_NAME, ERASED_PHONE = "erased", phones.ERASED
#: What stands in place of what was said in a call that was emptied.
EMPTIED = "{}"


@dataclass(frozen=True, slots=True)
class Erased:
    """What was emptied when a person was erased; `is_new` is False where that was done before."""

    user: str
    attempts: int
    callbacks: int
    calls: int
    is_new: bool


def erase(ctx: OperationContext, *, user_id: str, caution: Caution = payment_guard.CAREFUL) -> Erased:
    """Forget a person: name and phone, wherever they stand. The books, the bets and the record stay as they are.

    Cents that M-Pesa cannot carry stay in the wallet of the id.

    Raises:
        NotFound: there is no such user.
        Refused: no reason was given, money is owed, in flight or staked, or the guard objects.
    """
    if not ctx.act.reason.strip():
        raise Refused("Erasing a person needs a reason. Nothing was changed.", hint="Add --reason 'their request'")
    theirs = reconnect.read(ctx.db, lambda session: [one.id for one in payouts.list_payouts(session, user_id=user_id)])
    payment_guard.judge_first(ctx.db, ctx.clock, caution, theirs)
    now = ctx.clock()
    with ctx.db.transaction() as session:
        user = users.find_user(session, user_id, lock=True)
        if user.erased_at is not None:
            return Erased(user_id, 0, 0, 0, is_new=False)
        _refuse_if_owed(session, user)
        payment_guard.check(
            session, Way.ERASE, payouts.list_payouts(session, user_id=user_id), caution, now=now, subject=user_id
        )
        tried = session.exec(
            select(Attempt).join(Payout, col(Payout.id) == col(Attempt.payout_id)).where(col(Payout.user_id) == user_id)
        ).all()
        for attempt in tried:
            attempt.phone = row_digests.ERASED + row_digests.phone_seal(user.salt, attempt.phone)
        subjects = [attempt.id for attempt in tried]
        subjects += session.exec(select(col(Query.id)).where(col(Query.attempt_id).in_(subjects))).all()
        bodies = _empty_bodies(session, col(Callback.subject).in_(subjects))
        calls = _empty_calls(session, col(Exchange.subject).in_(subjects))
        session.execute(
            sa.update(StatementLine)
            .where(col(StatementLine.attempt_id).in_(subjects), col(StatementLine.party) != "")
            .values(party="****")
            .execution_options(synchronize_session=False)
        )
        user.name, user.phone, user.salt, user.erased_at = ERASED_NAME, ERASED_PHONE, None, now
        session.flush()
        note_event(
            session,
            at=now,
            actor=ctx.act.actor,
            action="user.erase",
            subject=user_id,
            reason=ctx.act.reason,
            detail={"attempts": len(tried), "callbacks": bodies, "calls": calls},
        )
    return Erased(user_id, len(tried), bodies, calls, is_new=True)


def _refuse_if_owed(session: Session, user: User) -> None:
    def refuse(why: str, hint: str) -> None:
        raise Refused(f"{user.id} was not erased: {why}. Nothing was changed.", hint=hint)

    owed = session.exec(
        select(Payout).where(col(Payout.user_id) == user.id, col(Payout.status).not_in(_DONE)).limit(1)
    ).first()
    if owed is not None:
        refuse(f"the payout {owed.id} is {owed.status}", f"End it first: kasoko payout show {owed.id}")
    live = session.exec(
        select(col(Attempt.id))
        .join(Payout, col(Payout.id) == col(Attempt.payout_id))
        .where(col(Payout.user_id) == user.id, col(Attempt.status).in_(LIVE))
    ).first()
    if live is not None:
        refuse(f"money is in flight under {live}", "Find out how it ended: kasoko reconcile")
    staked = session.exec(
        select(col(Market.slug))
        .join(Bet, col(Bet.market_id) == col(Market.id))
        .outerjoin(
            Settlement,
            sa.and_(col(Settlement.market_id) == col(Market.id), col(Settlement.reversed_at).is_(None)),
        )
        .where(col(Bet.user_id) == user.id, col(Bet.cancelled_at).is_(None), col(Settlement.market_id).is_(None))
        .limit(1)
    ).first()
    if staked is not None:
        refuse(f"a bet stands on {staked}, which is not settled", "Settle that market, or cancel the bet, first")
    free, back = book.available(session, user.id), book.balance(session, Account.RECEIVABLE, user.id)
    if free >= 100 or free < 0:
        refuse(f"KES {format_kes(free)} stand in the wallet", f"See it: kasoko wallet show {user.id}")
    if back:
        refuse(f"KES {format_kes(back)} are to be paid back", f"See it: kasoko wallet show {user.id}")


def _empty_bodies(session: Session, which: sa.ColumnElement[bool]) -> int:
    """Drop the bodies of these callbacks; their digests stay."""
    done = session.exec(
        sa.update(Callback)
        .where(which, col(Callback.salt).is_not(None), col(Callback.applied_at).is_not(None))
        .values(body=b"", salt=None)
        .execution_options(synchronize_session=False)
    )
    return int(done.rowcount)


def _empty_calls(session: Session, which: sa.ColumnElement[bool]) -> int:
    """Drop what was said in these calls; when, what and how it ended stay."""
    done = session.exec(
        sa.update(Exchange)
        .where(which, sa.or_(col(Exchange.request) != EMPTIED, col(Exchange.response) != EMPTIED))
        .values(request=EMPTIED, response=EMPTIED)
        .execution_options(synchronize_session=False)
    )
    return int(done.rowcount)


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
    open_ones = select(col(Attempt.id)).where(col(Attempt.status).in_(LIVE))
    with ctx.db.transaction() as session:
        bodies = _empty_bodies(
            session, sa.and_(col(Callback.received_at) < before, col(Callback.subject).not_in(open_ones))
        )
        calls = _empty_calls(session, sa.and_(col(Exchange.at) < before, col(Exchange.subject).not_in(open_ones)))
        if bodies or calls:
            note_event(
                session,
                at=now,
                actor=ctx.act.actor,
                action="db.expire",
                subject="callbacks",
                reason=ctx.act.reason or f"kept for {days} days",
                detail={"before": iso(before), "callbacks": bodies, "calls": calls},
            )
    return Expired(before, bodies, calls)


def data_of(ctx: OperationContext, *, user_id: str) -> dict[str, Any]:
    """Everything that is known of one person, with the whole phone, for that person. That it was asked is recorded.

    Raises:
        NotFound: there is no such user.
    """
    wallet = wallets.show_wallet(ctx.db, user_id, limit=1_000_000)
    now = ctx.clock()
    with ctx.db.transaction() as session:
        user = users.find_user(session, user_id)
        owed = session.exec(select(Payout).where(col(Payout.user_id) == user_id).order_by(col(Payout.id))).all()
        tried = _in(session, Attempt, col(Attempt.payout_id), [payout.id for payout in owed])
        heard = _in(session, Callback, col(Callback.subject), [attempt.id for attempt in tried])
        on_paper = _in(session, StatementLine, col(StatementLine.attempt_id), [attempt.id for attempt in tried])
        placed = session.exec(select(Bet).where(col(Bet.user_id) == user_id).order_by(col(Bet.placed_at))).all()
        subjects = [user_id, *(bet.id for bet in placed), *(payout.id for payout in owed)]
        acts = _in(session, Event, col(Event.subject), subjects)
        found = {
            "user": user.model_dump(include={"id", "name", "phone", "created_at", "phone_set_at", "erased_at"}),
            "wallet": wallet,
            "bets": [bet.model_dump() for bet in placed],
            "payouts": [payout.model_dump() for payout in owed],
            "attempts": [attempt.model_dump(exclude={"lease_token", "lease_until"}) for attempt in tried],
            "results": [
                {"received_at": one.received_at, "about": one.subject, "body": one.body.decode("utf-8", "replace")}
                for one in heard
            ],
            "statement_lines": [line.model_dump(exclude={"statement_id", "resolved_by"}) for line in on_paper],
            "acts": [one.model_dump(include={"at", "actor", "action", "subject", "reason"}) for one in acts],
        }
        note_event(
            session,
            at=now,
            actor=ctx.act.actor,
            action="user.export",
            subject=user_id,
            reason=ctx.act.reason,
            detail={},
        )
    return found


def _in(session: Session, table: Any, column: Any, values: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(values), CHUNK):
        found += session.exec(select(table).where(column.in_(values[start : start + CHUNK]))).all()
    return found
