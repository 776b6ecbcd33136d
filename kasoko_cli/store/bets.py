"""Queries on bets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import BigInteger, cast, func, update
from sqlalchemy.orm import Mapped
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Session, col, select

from kasoko_cli.domain.market import BetRow
from kasoko_cli.domain.phone import ERASED
from kasoko_cli.errors import NotFound
from kasoko_cli.store.engine.bulk_rows import bytewise, streamed
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.engine.locking import for_update, rows_in
from kasoko_cli.store.schema.tables import Bet, User


def find_bet(session: Session, bet_id: str, *, lock: bool = False) -> Bet:
    """The bet with this id.

    Raises:
        NotFound: there is none.
    """
    query = select(Bet).where(col(Bet.id) == bet_id)
    bet = session.exec(for_update(query) if lock else query).one_or_none()
    if bet is None:
        raise NotFound(f"There is no bet {bet_id!r}.", hint="List a market's bets: kasoko bet list MARKET")
    return bet


def count_bets(session: Session, market_id: str) -> int:
    """How many bets `stream_bets` gives."""
    return session.exec(select(func.count()).select_from(Bet).where(col(Bet.market_id) == market_id)).one()


def stream_bets(session: Session, market_id: str, closed_at: datetime) -> Iterator[BetRow]:
    """Every bet of the market as its digest has it, earliest first; one placed at or after `closed_at` is late.

    Rows are read as they are used, not all at once. The database writes the times and says what is late:
    to make a time of every row, and text of it again, took longer than dividing the pool.
    """
    placed_at = col(Bet.placed_at)
    query = (
        sa.select(
            col(Bet.id),
            col(Bet.user_id),
            col(Bet.outcome),
            col(Bet.stake_cents),
            _iso(session, placed_at),
            sa.case((placed_at >= closed_at, 1), else_=0),
            sa.case((col(Bet.cancelled_at).is_(None), 0), else_=1),
        )
        .where(col(Bet.market_id) == market_id)
        .order_by(placed_at, col(Bet.id))
        .execution_options(yield_per=10_000)
    )
    # By the connection: the session would look through each row for objects to load.
    for bet_id, user_id, outcome, cents, placed, late, cancelled in session.connection().execute(query):
        yield bet_id, user_id, outcome, cents, placed, late == 1, cancelled == 1


def _iso(session: Session, time: Mapped[datetime]) -> ColumnElement[str]:
    """A time as `clock.iso` writes it, to the second; what is under a second is cut off, never rounded."""
    if session.get_bind().dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", time), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    text = sa.type_coerce(time, sa.Text)
    return func.substr(text, 1, 10).concat("T").concat(func.substr(text, 12, 8)).concat("Z")


def list_bets(session: Session, market_id: str, *, limit: int | None = None) -> Sequence[Bet]:
    """The market's bets, earliest first."""
    query = select(Bet).where(col(Bet.market_id) == market_id).order_by(col(Bet.placed_at), col(Bet.id)).limit(limit)
    return session.exec(query).all()


def known_bets(session: Session, bet_ids: Iterable[str]) -> dict[str, Bet]:
    """Those of the bets that exist, by id."""
    return {bet.id: bet for bet in rows_in(session, select(Bet), col(Bet.id), bet_ids)}


def stakes_by_outcome(session: Session, market_id: str) -> dict[int, tuple[int, int]]:
    """For each outcome with bets that stand: how many, and their stakes in cents."""
    query = (
        select(col(Bet.outcome), func.count(), cast(func.sum(col(Bet.stake_cents)), BigInteger))
        .where(col(Bet.market_id) == market_id, col(Bet.cancelled_at).is_(None))
        .group_by(col(Bet.outcome))
    )
    return {outcome: (count, int(cents)) for outcome, count, cents in session.exec(query)}


def valid_stakes(session: Session, market_id: str, *, closed_at: datetime) -> dict[int, int]:
    """For each outcome: the stakes that take part, in cents; not cancelled, and placed before the close."""
    query = (
        select(col(Bet.outcome), cast(func.sum(col(Bet.stake_cents)), BigInteger))
        .where(col(Bet.market_id) == market_id, col(Bet.cancelled_at).is_(None), col(Bet.placed_at) < closed_at)
        .group_by(col(Bet.outcome))
    )
    return {outcome: int(cents) for outcome, cents in session.exec(query)}


class LeftOut(NamedTuple):
    """Bets that take no part, or are not placed yet: how many, and the stakes of the late ones in cents."""

    late: int
    late_cents: int
    future: int


def left_out(session: Session, market_id: str, *, closed_at: datetime, now: datetime) -> LeftOut:
    """The bets of a market that came too late, and those from the future; cancelled ones do not count."""
    is_late, is_future = col(Bet.placed_at) >= closed_at, col(Bet.placed_at) > now
    query = sa.select(
        func.coalesce(func.sum(sa.case((is_late, 1), else_=0)), 0),
        cast(func.coalesce(func.sum(sa.case((is_late, col(Bet.stake_cents)), else_=0)), 0), BigInteger),
        func.coalesce(func.sum(sa.case((is_future, 1), else_=0)), 0),
    ).where(col(Bet.market_id) == market_id, col(Bet.cancelled_at).is_(None))
    late, cents, future = session.execute(query).one()
    return LeftOut(int(late), int(cents), int(future))


def shared_phones(session: Session, market_id: str) -> dict[str, list[str]]:
    """The phones that several bettors of a market have, each with their ids."""
    bettors = sa.select(col(Bet.user_id)).where(col(Bet.market_id) == market_id)
    theirs = col(User.id).in_(bettors), col(User.phone) != ERASED
    shared = sa.select(col(User.phone)).where(*theirs).group_by(col(User.phone)).having(func.count() > 1)
    query = sa.select(col(User.phone), col(User.id)).where(*theirs, col(User.phone).in_(shared))
    found: dict[str, list[str]] = {}
    for phone, user_id in session.execute(query.order_by(bytewise(session, col(User.id)))):
        found.setdefault(phone, []).append(user_id)
    return found


#: What can have happened to a stake before the pool was divided.
VALID, LATE, CANCELLED = 0, 1, 2


def stream_stakes(session: Session, market_id: str, closed_at: datetime) -> Iterator[tuple[str, int, int, int]]:
    """The stakes of each bettor, by user id in the order of its bytes: user, outcome, fate, cents."""
    fate = sa.case(
        (col(Bet.cancelled_at).is_not(None), CANCELLED), (col(Bet.placed_at) >= closed_at, LATE), else_=VALID
    )
    user_id = bytewise(session, col(Bet.user_id))
    query = (
        sa.select(user_id, col(Bet.outcome), fate, cast(func.sum(col(Bet.stake_cents)), BigInteger))
        .where(col(Bet.market_id) == market_id)
        .group_by(user_id, col(Bet.outcome), fate)
        .order_by(user_id)
    )
    for user, outcome, became, cents in streamed(session, query):
        yield user, outcome, became, int(cents)


def bets_of(session: Session, market_id: str, user_id: str) -> Sequence[Bet]:
    """One user's bets on a market, earliest first, cancelled and late ones too."""
    query = select(Bet).where(col(Bet.market_id) == market_id, col(Bet.user_id) == user_id)
    return session.exec(query.order_by(col(Bet.placed_at), col(Bet.id))).all()


def cancel(session: Session, bet_id: str, *, at: datetime) -> bool:
    """Cancel a bet that stands; returns whether this call did it."""
    which = update(Bet).where(col(Bet.id) == bet_id, col(Bet.cancelled_at).is_(None))
    return change(session, which.values(cancelled_at=at)) == 1


def any_until(session: Session, market_id: str, at: datetime) -> bool:
    """Whether a bet on a market was placed at this time or before it."""
    query = select(col(Bet.id)).where(col(Bet.market_id) == market_id, col(Bet.placed_at) <= at)
    return session.exec(query.limit(1)).first() is not None


def ids_that_stand(session: Session, market_id: str) -> Sequence[str]:
    """The ids of a market's bets that nobody took back, by time."""
    query = select(col(Bet.id)).where(col(Bet.market_id) == market_id, col(Bet.cancelled_at).is_(None))
    return session.exec(query.order_by(col(Bet.placed_at), bytewise(session, col(Bet.id)))).all()
