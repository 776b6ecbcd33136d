"""Queries for M-Pesa's statements: what was taken in, and what a statement is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import BigInteger, cast, func, or_, update
from sqlmodel import Session, col, select

from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus
from kasoko_cli.errors import NotFound
from kasoko_cli.store.locking import CHUNK
from kasoko_cli.store.tables import (
    Attempt,
    Bet,
    EntryRow,
    Funding,
    Payout,
    PostingRow,
    Query,
    Statement,
    StatementLine,
)


class KnownAttempt(NamedTuple):
    """An attempt as a statement is compared with it; times in UTC, amounts in cents."""

    id: str
    payout_id: str
    user_id: str
    payout_status: PayoutStatus
    status: AttemptStatus
    phone: str
    wire_cents: int
    receipt: str | None
    conversation_id: str | None
    gateway_id: str | None
    evidence: str | None
    lease_token: str
    created_at: datetime
    sent_at: datetime
    status_at: datetime
    account_id: int | None


_COLUMNS = (
    col(Attempt.id),
    col(Attempt.payout_id),
    col(Payout.user_id),
    col(Payout.status),
    col(Attempt.status),
    col(Attempt.phone),
    col(Attempt.wire_cents),
    col(Attempt.receipt),
    col(Attempt.conversation_id),
    col(Attempt.gateway_id),
    col(Attempt.evidence),
    col(Attempt.lease_token),
    col(Attempt.created_at),
    col(Attempt.sent_at),
    col(Attempt.status_at),
    col(Attempt.account_id),
)

#: How the mark begins of an attempt that a restored copy does not know to have been sent; it stands in place
#: of its sender's token.
RESTORED = "restored:"


def attempts_around(
    session: Session, receipts: Iterable[str], *, since: datetime, until: datetime, account_id: int | None
) -> list[KnownAttempt]:
    """Every attempt that a statement of this time may speak of: by its time, its receipt, or because it is open.

    Only those that the account made, or of which nobody wrote down which did.
    """
    base = sa.select(*_COLUMNS).join(Payout, col(Payout.id) == col(Attempt.payout_id))
    if account_id is not None:
        base = base.where(or_(col(Attempt.account_id) == account_id, col(Attempt.account_id).is_(None)))
    by_time = base.where(
        or_(
            col(Attempt.created_at).between(since, until),
            col(Attempt.status).in_(LIVE),
            col(Attempt.lease_token).like(f"{RESTORED}%"),
        )
    ).order_by(col(Attempt.sent_at), col(Attempt.id))
    found = {row[0]: KnownAttempt(*row) for row in session.execute(by_time)}
    wanted = list(dict.fromkeys(receipts))
    for start in range(0, len(wanted), CHUNK):
        query = base.where(col(Attempt.receipt).in_(wanted[start : start + CHUNK]))
        found |= {row[0]: KnownAttempt(*row) for row in session.execute(query)}
    return list(found.values())


def posted_under(session: Session, keys: Iterable[str], account: str) -> dict[str, int]:
    """What the entries with these keys posted to an account, in debit cents; only those that exist."""
    wanted, found = list(dict.fromkeys(keys)), dict[str, int]()
    for start in range(0, len(wanted), CHUNK):
        query = (
            sa.select(col(EntryRow.key), cast(func.sum(col(PostingRow.amount_cents)), BigInteger))
            .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
            .where(col(EntryRow.key).in_(wanted[start : start + CHUNK]), col(PostingRow.account) == account)
            .group_by(col(EntryRow.key))
        )
        found |= {key: int(cents) for key, cents in session.execute(query)}
    return found


def posted_by_owner(session: Session, keys: Iterable[str], account: str) -> dict[str, int]:
    """What the entries with these keys posted to an account, by its owner, in debit cents."""
    query = (
        sa.select(col(PostingRow.owner), cast(func.sum(col(PostingRow.amount_cents)), BigInteger))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(EntryRow.key).in_(list(keys)), col(PostingRow.account) == account)
        .group_by(col(PostingRow.owner))
    )
    return {owner: int(cents) for owner, cents in session.execute(query)}


def collected_stakes(session: Session, bet_ids: Iterable[str]) -> dict[str, int]:
    """The stakes of those of the bets that the platform had collected, in cents."""
    wanted, found = list(dict.fromkeys(bet_ids)), dict[str, int]()
    for start in range(0, len(wanted), CHUNK):
        query = sa.select(col(Bet.id), col(Bet.stake_cents)).where(
            col(Bet.id).in_(wanted[start : start + CHUNK]), col(Bet.funding) == Funding.COLLECTED
        )
        found |= {row[0]: row[1] for row in session.execute(query)}
    return found


def answers_about(session: Session, attempt_ids: Iterable[str]) -> dict[str, list[tuple[datetime, str]]]:
    """What M-Pesa answered when it was asked about these attempts by the account that made each, earliest first."""
    wanted, found = list(attempt_ids), dict[str, list[tuple[datetime, str]]]()
    for start in range(0, len(wanted), CHUNK):
        query = (
            sa.select(col(Query.attempt_id), col(Query.answered_at), col(Query.answer))
            .join(Attempt, col(Attempt.id) == col(Query.attempt_id))
            .where(
                col(Query.attempt_id).in_(wanted[start : start + CHUNK]),
                col(Query.answered_at).is_not(None),
                col(Query.account_id) == col(Attempt.account_id),
            )
            .order_by(col(Query.answered_at))
        )
        for attempt_id, at, answer in session.execute(query):
            found.setdefault(attempt_id, []).append((at, answer or ""))
    return found


def find_statement(session: Session, digest: str) -> Statement | None:
    """The statement with this content, if it was taken in, whole or in part."""
    return session.exec(select(Statement).where(col(Statement.digest) == digest)).one_or_none()


class KnownLine(NamedTuple):
    """A line that was taken in before."""

    key: str
    statement_id: int
    verdict: str
    is_resolved: bool


def known_lines(session: Session, keys: Iterable[str]) -> dict[str, KnownLine]:
    """Those of the lines that were taken in before, by key."""
    wanted, found = list(keys), dict[str, KnownLine]()
    for start in range(0, len(wanted), CHUNK):
        query = sa.select(
            col(StatementLine.key),
            col(StatementLine.statement_id),
            col(StatementLine.verdict),
            col(StatementLine.resolved_at).is_not(None),
        ).where(col(StatementLine.key).in_(wanted[start : start + CHUNK]))
        found |= {row[0]: KnownLine(*row) for row in session.execute(query)}
    return found


def judge_again(session: Session, key: str, *, verdict: str, why: str, attempt_id: str | None) -> None:
    """Write down what a line that was left open turned out to be."""
    session.execute(
        update(StatementLine)
        .where(col(StatementLine.key) == key)
        .values(verdict=verdict, why=why, attempt_id=attempt_id)
        .execution_options(synchronize_session=False)
    )


def list_suspense(session: Session) -> Sequence[StatementLine]:
    """Lines whose money matched nothing and that nobody has resolved, oldest first."""
    query = (
        select(StatementLine)
        .where(col(StatementLine.suspense_cents) != 0, col(StatementLine.resolved_at).is_(None))
        .order_by(col(StatementLine.completed_at), col(StatementLine.key))
    )
    return session.exec(query).all()


def find_suspense(session: Session, name: str) -> StatementLine:
    """The line in suspense with this receipt, or whose key begins so.

    Raises:
        NotFound: there is none, or several.
    """
    query = select(StatementLine).where(
        col(StatementLine.suspense_cents) != 0,
        or_(col(StatementLine.receipt) == name.upper(), col(StatementLine.key).startswith(name, autoescape=True)),
    )
    found = session.exec(query).all()
    if len(found) != 1:
        what = f"{len(found)} lines in suspense are called" if found else "There is no line in suspense that is called"
        raise NotFound(f"{what} {name[:40]!r}.", hint="Name it by the first column of: kasoko suspense list")
    return found[0]


def resolve_line(session: Session, key: str, *, resolution: str, by: str, at: datetime) -> bool:
    """Write down what money in suspense was; says whether this call did it."""
    done = session.exec(
        update(StatementLine)
        .where(col(StatementLine.key) == key, col(StatementLine.resolved_at).is_(None))
        .values(resolved_at=at, resolved_by=by, resolution=resolution)
        .execution_options(synchronize_session=False)
    )
    return done.rowcount == 1
