"""What the operator's platform has still to be told: a row for each market and payout, written with its change.

Whether anything is written is asked of the one row of `deployment`, after the change and in its transaction: it is
one switch for all hosts, and whoever turns it on waits for those who have changed something and found it off.

A row carries no news, only a version that grows; what is told is read when it is told, in one picture with the
version. So a change can be told twice, and late, and never lost or told backwards. A version is the time of the
change in microseconds, or one more than the last: a database from an older copy goes on above what the platform has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Row, case, func, literal, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from kasoko_cli.domain.market import MarketStatus
from kasoko_cli.store.engine.changes import change, insert_into
from kasoko_cli.store.engine.locking import chunks, for_update
from kasoko_cli.store.schema.tables import Deployment, Market, OutboxRow, Payout
from kasoko_cli.store.schema.types import Whole

#: How the id of a row begins, by what it is about.
MARKET, PAYOUT = "market:", "payout:"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The markets of which there is something to tell.
_ENDED = col(Market.status).in_([MarketStatus.RESOLVED, MarketStatus.VOID])


class UntoldRow(NamedTuple):
    """A row that the platform has not been told, or not for certain."""

    version: int
    id: str


def note_payouts(session: Session, payout_ids: Sequence[str], *, at: datetime) -> None:
    """These payouts have changed, by the caller's transaction."""
    for chunk in chunks(payout_ids):
        chosen = col(Payout.id).in_(chunk)
        _note(session, PAYOUT, select(col(Payout.id)).where(chosen), at)


def note_settlement(session: Session, market_id: str, number: int, *, at: datetime) -> None:
    """A market was settled, and all these payouts are owed, by the caller's transaction."""
    mine = (col(Payout.market_id) == market_id, col(Payout.settlement_no) == number)
    _note(session, PAYOUT, select(col(Payout.id)).where(*mine), at)
    note_market(session, market_id, at=at)


def note_market(session: Session, market_id: str, *, at: datetime) -> None:
    """A market has ended, or has another outcome, by the caller's transaction."""
    _note(session, MARKET, select(col(Market.id)).where(col(Market.id) == market_id), at)


def _note(session: Session, kind: str, found: SelectOfScalar[str], at: datetime) -> None:
    session.flush()
    if not is_on(session):
        return
    ids = found.subquery()
    news = columns(literal(kind).concat(ids.c[0]), literal(_version(at), Whole), literal(0, Whole))
    # SQLite reads ON after SELECT as a join's, unless a WHERE stands between.
    added = insert_into(session, OutboxRow).from_select(["id", "version", "told_version"], news.where(literal(1) == 1))
    newer = added.excluded.version > col(OutboxRow.version)
    session.execute(
        added.on_conflict_do_update(
            index_elements=["id"],
            set_={"version": case((newer, added.excluded.version), else_=col(OutboxRow.version) + 1)},
        )
    )


def _version(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def is_on(session: Session) -> bool:
    """Whether the platform is told of results. Plain SQL: it is asked with every result that comes."""
    found = session.connection().exec_driver_sql("SELECT mirror_since IS NOT NULL FROM deployment")
    return bool(found.scalar_one())


def begin(session: Session, *, at: datetime) -> bool:
    """From now on the platform is told; all that has ended before is noted too. Returns whether this call began it.

    PostgreSQL lets those who write at this moment end first: each change is seen here, or noted by who made it.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.connection().exec_driver_sql("LOCK TABLE markets, settlements, payouts IN SHARE MODE")
    which = update(Deployment).where(col(Deployment.mirror_since).is_(None))
    began = change(session, which.values(mirror_since=at))
    if began:
        note_all(session, at=at)
    return bool(began)


def end(session: Session) -> bool:
    """From now on nothing is noted; what was is kept. Returns whether this call ended it."""
    which = update(Deployment).where(col(Deployment.mirror_since).is_not(None))
    return bool(change(session, which.values(mirror_since=None)))


def note_all(session: Session, *, at: datetime) -> None:
    """Every market that has ended and every payout are to be told, whatever was told before."""
    _note(session, PAYOUT, select(col(Payout.id)), at)
    _note(session, MARKET, select(col(Market.id)).where(_ENDED), at)


def waiting(session: Session, *, limit: int, after: UntoldRow | None = None) -> list[UntoldRow]:
    """What the platform has still to be told, longest waiting first, behind `after`."""
    query = columns(col(OutboxRow.version), col(OutboxRow.id)).where(_IS_WAITING)
    if after is not None:
        place = col(OutboxRow.version), col(OutboxRow.id)
        query = query.where((place[0] > after.version) | ((place[0] == after.version) & (place[1] > after.id)))
    query = query.order_by(col(OutboxRow.version), col(OutboxRow.id)).limit(limit)
    return [UntoldRow(*row) for row in session.execute(query)]


def count_waiting(session: Session) -> tuple[int, int]:
    """How many markets and how many payouts wait to be told."""
    is_market = col(OutboxRow.id).startswith(MARKET)
    query = columns(func.count().filter(is_market), func.count().filter(~is_market))
    row: Row[int, int] = session.execute(query.where(_IS_WAITING)).one()
    return row[0], row[1]


def versions(session: Session, ids: Collection[str]) -> dict[str, tuple[int, int]]:
    """Of each of these that is noted: its version here, and the last that the platform has for certain (0: none)."""
    rows = columns(col(OutboxRow.id), col(OutboxRow.version), col(OutboxRow.told_version))
    return {row[0]: (row[1], row[2]) for row in session.execute(rows.where(col(OutboxRow.id).in_(ids)))}


def told(session: Session, rows: Collection[UntoldRow]) -> int:
    """Note that the platform has these for certain; returns for how many that is new.

    A row that somebody changes at this moment is left out and told again: to wait for its writer while others are
    held could leave two transactions waiting for each other.
    """
    versions = {one.id: one.version for one in rows}
    query = select(OutboxRow).where(col(OutboxRow.id).in_(versions)).order_by(col(OutboxRow.id))
    count = 0
    for row in session.exec(for_update(query, skip_locked=True)):
        if row.told_version < versions[row.id]:
            row.told_version = versions[row.id]
            count += 1
    session.flush()
    return count


#: As in the index of what waits.
_IS_WAITING = col(OutboxRow.told_version) < col(OutboxRow.version)
