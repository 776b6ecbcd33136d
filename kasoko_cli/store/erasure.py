"""Queries on one person: what is known of them, what keeps them from being forgotten, and what is emptied then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlmodel import Session, col, select

from kasoko_cli.domain.payout import LIVE, PayoutStatus
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.engine.locking import rows_in
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
)

#: Payouts that leave nothing to be done for their user.
_DONE = (PayoutStatus.COMPLETED, PayoutStatus.WALLET, PayoutStatus.CANCELED)
#: What stands in place of what was said in a call that was emptied, and of whom a line of a statement names.
EMPTIED, _NOBODY = "{}", "****"


def open_payout(session: Session, user_id: str) -> Payout | None:
    """A payout of the user with which something is still to be done."""
    query = select(Payout).where(col(Payout.user_id) == user_id, col(Payout.status).not_in(_DONE))
    return session.exec(query.limit(1)).first()


def live_attempt(session: Session, user_id: str) -> str | None:
    """The id of an attempt that may still pay the user."""
    query = select(col(Attempt.id)).join(Payout, col(Payout.id) == col(Attempt.payout_id))
    return session.exec(query.where(col(Payout.user_id) == user_id, col(Attempt.status).in_(LIVE))).first()


def unsettled_stake(session: Session, user_id: str) -> str | None:
    """The slug of a market that is not settled, and on which a bet of the user stands."""
    stands = sa.and_(col(Settlement.market_id) == col(Market.id), col(Settlement.reversed_at).is_(None))
    query = (
        select(col(Market.slug))
        .join(Bet, col(Bet.market_id) == col(Market.id))
        .outerjoin(Settlement, stands)
        .where(col(Bet.user_id) == user_id, col(Bet.cancelled_at).is_(None), col(Settlement.market_id).is_(None))
    )
    return session.exec(query.limit(1)).first()


def attempts_to(session: Session, user_id: str) -> Sequence[Attempt]:
    """Every attempt to pay the user."""
    query = select(Attempt).join(Payout, col(Payout.id) == col(Attempt.payout_id))
    return session.exec(query.where(col(Payout.user_id) == user_id)).all()


def empty_about(session: Session, attempt_ids: Sequence[str]) -> tuple[int, int]:
    """Drop what was said about these attempts: how many callbacks and how many calls that touched."""
    asked = session.exec(select(col(Query.id)).where(col(Query.attempt_id).in_(attempt_ids))).all()
    subjects = [*attempt_ids, *asked]
    which = sa.update(StatementLine).where(col(StatementLine.attempt_id).in_(subjects), col(StatementLine.party) != "")
    change(session, which.values(party=_NOBODY))
    return (
        _empty_bodies(session, col(Callback.subject).in_(subjects)),
        _empty_calls(session, col(Exchange.subject).in_(subjects)),
    )


def empty_older(session: Session, before: datetime) -> tuple[int, int]:
    """The same of all that is older, except what was not judged yet and what is about an attempt that may still pay."""
    live = select(col(Attempt.id)).where(col(Attempt.status).in_(LIVE))
    return (
        _empty_bodies(session, sa.and_(col(Callback.received_at) < before, col(Callback.subject).not_in(live))),
        _empty_calls(session, sa.and_(col(Exchange.at) < before, col(Exchange.subject).not_in(live))),
    )


def _empty_bodies(session: Session, which: sa.ColumnElement[bool]) -> int:
    """Drop the bodies of these callbacks; their digests stay."""
    rows = sa.update(Callback).where(which, col(Callback.salt).is_not(None), col(Callback.applied_at).is_not(None))
    return change(session, rows.values(body=b"", salt=None))


def _empty_calls(session: Session, which: sa.ColumnElement[bool]) -> int:
    """Drop what was said in these calls; when, what and how it ended stay."""
    rows = sa.update(Exchange).where(which, sa.or_(col(Exchange.request) != EMPTIED, col(Exchange.response) != EMPTIED))
    return change(session, rows.values(request=EMPTIED, response=EMPTIED))


class KnownOf(NamedTuple):
    """Every row that is about one person."""

    bets: Sequence[Bet]
    payouts: Sequence[Payout]
    attempts: list[Attempt]
    callbacks: list[Callback]
    statement_lines: list[StatementLine]
    events: list[Event]


def known_of(session: Session, user_id: str) -> KnownOf:
    """What is known of a user, beside the user's own row and the books."""
    owed = session.exec(select(Payout).where(col(Payout.user_id) == user_id).order_by(col(Payout.id))).all()
    tried = list(rows_in(session, select(Attempt), col(Attempt.payout_id), [payout.id for payout in owed]))
    attempt_ids = [attempt.id for attempt in tried]
    placed = session.exec(select(Bet).where(col(Bet.user_id) == user_id).order_by(col(Bet.placed_at))).all()
    subjects = [user_id, *(bet.id for bet in placed), *(payout.id for payout in owed)]
    return KnownOf(
        placed,
        owed,
        tried,
        list(rows_in(session, select(Callback), col(Callback.subject), attempt_ids)),
        list(rows_in(session, select(StatementLine), col(StatementLine.attempt_id), attempt_ids)),
        list(rows_in(session, select(Event), col(Event.subject), subjects)),
    )
