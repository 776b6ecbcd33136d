"""Queries for M-Pesa's statements: what was taken in, and what a statement is compared with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import BigInteger, cast, func, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus, fold_receipt
from kasoko_cli.errors import NotFound
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.engine.locking import chunks, for_update, rows_in
from kasoko_cli.store.schema.tables import (
    Attempt,
    Bet,
    EntryRow,
    Funding,
    Incident,
    Link,
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
    *(col(Attempt.id), col(Attempt.payout_id), col(Payout.user_id), col(Payout.status)),
    *(col(getattr(Attempt, name)) for name in KnownAttempt._fields[4:]),
)

#: The beginning of the mark on an attempt that a restored copy does not know was sent; it replaces the sender's token.
RESTORED = "restored:"
#: The mark of an id that was used since a copy was taken, or may have been, and paid nobody.
SPENT_SINCE = "spent since the copy"
#: The evidence of an attempt that stands for a request which a restored copy may have forgotten.
FORGOTTEN = "restored copy: not known to have been sent"


def attempts_around(
    session: Session, receipts: Iterable[str], *, since: datetime, until: datetime, account_id: int | None
) -> list[KnownAttempt]:
    """Every attempt that a statement of this time may speak of: by its time, its receipt, or because it is open.

    Only those that the account made, or of which nobody wrote down which did. Of the ids of one payout that a
    restored copy may have forgotten only the last: a line that is the payment of one cannot be told from another's.
    """
    base = sa.select(*_COLUMNS).join(Payout, col(Payout.id) == col(Attempt.payout_id))
    if account_id is not None:
        base = base.where(or_(col(Attempt.account_id) == account_id, col(Attempt.account_id).is_(None)))
    later = aliased(Attempt)
    is_next = sa.and_(
        col(later.payout_id) == col(Attempt.payout_id),
        col(later.number) > col(Attempt.number),
        col(later.lease_token).like(f"{RESTORED}%"),
    )
    is_doubted = sa.and_(col(Attempt.status) == AttemptStatus.REJECTED, col(Attempt.lease_token).like(f"{RESTORED}%"))
    base = base.where(sa.not_(sa.and_(is_doubted, sa.exists().where(is_next))))
    by_time = base.where(
        or_(
            sa.and_(col(Attempt.created_at) <= until, col(Attempt.sent_at) >= since),
            col(Attempt.status).in_(LIVE),
            col(Attempt.lease_token).like(f"{RESTORED}%"),
        )
    ).order_by(col(Attempt.sent_at), col(Attempt.id))
    found = {row[0]: KnownAttempt(*row) for row in session.execute(by_time)}
    proven = rows_in(session, base, col(Attempt.receipt), dict.fromkeys(receipts))
    found |= {row[0]: KnownAttempt(*row) for row in proven}
    return list(found.values())


def posted_under(session: Session, keys: Iterable[str], account: str) -> dict[str, int]:
    """What stands of the entries with these keys on an account, in debit cents; only those that exist.

    An entry that was taken back does not stand, and one that was posted after that does, by the same key.
    """
    wanted = list(dict.fromkeys(keys))
    found = _posted_under(session, wanted, account)
    again = {key: now for key, now in standing_keys(session, found).items() if now != key}
    since = _posted_under(session, list(again.values()), account)
    return {key: cents for key, cents in found.items() if key not in again} | {
        key: since[now] for key, now in again.items() if now in since
    }


def standing_keys(session: Session, keys: Iterable[str]) -> dict[str, str]:
    """The key under which the entry of each of these stands, or may be posted, by the key that it had at first.

    That is the same key, or where its entry was taken back the same with a number: `KEY:2`, `KEY:3`, ...
    """
    found, nth = {key: key for key in keys}, 1
    open_still = set(found)
    while open_still:
        nth += 1
        taken_back = _existing(session, [f"reverse:{found[key]}" for key in open_still])
        open_still = {key for key in open_still if f"reverse:{found[key]}" in taken_back}
        found |= {key: f"{key}:{nth}" for key in open_still}
    return found


def every_key(session: Session, keys: Iterable[str]) -> list[str]:
    """The same keys, those of entries that took them back, and those of entries that were posted after that."""
    found: list[str] = []
    for key, now in standing_keys(session, keys).items():
        last = int(now.rpartition(":")[2]) if now != key else 1
        before = [key, *(f"{key}:{nth}" for nth in range(2, last))] if last > 1 else []
        found += [*before, *(f"reverse:{one}" for one in before), now]
    return found


def _existing(session: Session, keys: Sequence[str]) -> set[str]:
    return set(rows_in(session, select(col(EntryRow.key)), col(EntryRow.key), keys))


def _posted_under(session: Session, wanted: Sequence[str], account: str) -> dict[str, int]:
    query = (
        sa.select(col(EntryRow.key), cast(func.sum(col(PostingRow.amount_cents)), BigInteger))
        .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .where(col(PostingRow.account) == account)
        .group_by(col(EntryRow.key))
    )
    return {key: int(cents) for key, cents in rows_in(session, query, col(EntryRow.key), wanted)}


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
    query = sa.select(col(Bet.id), col(Bet.stake_cents)).where(col(Bet.funding) == Funding.COLLECTED)
    return dict(rows_in(session, query, col(Bet.id), dict.fromkeys(bet_ids)))


def answers_about(session: Session, attempt_ids: Iterable[str], now: datetime) -> dict[str, list[tuple[datetime, str]]]:
    """What M-Pesa answered when it was asked about these attempts by the account that made each, earliest first.

    That it does not know one counts only by a clock that was not ahead: silence is measured in time.
    """
    query = (
        sa.select(col(Query.attempt_id), col(Query.answered_at), col(Query.answer))
        .join(Attempt, col(Attempt.id) == col(Query.attempt_id))
        .where(
            or_(col(Query.answered_at) <= now, col(Query.answer) != "NOT_FOUND"),
            col(Query.answered_at).is_not(None),
            col(Query.account_id) == col(Attempt.account_id),
        )
        .order_by(col(Query.answered_at))
    )
    found: dict[str, list[tuple[datetime, str]]] = {}
    for attempt_id, at, answer in rows_in(session, query, col(Query.attempt_id), attempt_ids):
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
    query = sa.select(
        col(StatementLine.key),
        col(StatementLine.statement_id),
        col(StatementLine.verdict),
        col(StatementLine.resolved_at).is_not(None),
    )
    return {row[0]: KnownLine(*row) for row in rows_in(session, query, col(StatementLine.key), keys)}


class BroughtLine(NamedTuple):
    """A line that was taken in before, as what moved."""

    key: str
    receipt: str
    completed_at: datetime
    status: str
    reason: str
    paid_in_cents: int
    withdrawn_cents: int


def brought_with(session: Session, receipts: Iterable[str]) -> list[BroughtLine]:
    """Every line that was taken in before with one of these receipts, in the order of their times and keys."""
    query = sa.select(*(col(getattr(StatementLine, name)) for name in BroughtLine._fields))
    rows = (BroughtLine(*row) for row in rows_in(session, query, col(StatementLine.receipt), receipts))
    return sorted(rows, key=lambda row: (row.completed_at, row.key))


def judge_again(session: Session, key: str, values: Mapping[str, object]) -> None:
    """Write down what a line that was left open turned out to be, and by which statement."""
    which = update(StatementLine).where(col(StatementLine.key) == key)
    change(session, which.values(values))


def list_suspense(session: Session) -> Sequence[StatementLine]:
    """Lines whose money matched nothing and that nobody has resolved, oldest first."""
    query = (
        select(StatementLine)
        .where(col(StatementLine.suspense_cents) != 0, col(StatementLine.resolved_at).is_(None))
        .order_by(col(StatementLine.completed_at), col(StatementLine.key))
    )
    return session.exec(query).all()


def suspense_of(session: Session, user_id: str) -> int:
    """What stands in suspense by lines that are payments to one user, in cents: in positive, out negative."""
    which = or_(col(Attempt.id) == col(StatementLine.attempt_id), col(Attempt.receipt) == col(StatementLine.receipt))
    theirs = sa.exists().where(which, col(Payout.id) == col(Attempt.payout_id), col(Payout.user_id) == user_id)
    query = sa.select(cast(func.coalesce(func.sum(col(StatementLine.suspense_cents)), 0), BigInteger)).where(
        col(StatementLine.suspense_cents) != 0, col(StatementLine.resolved_at).is_(None), theirs
    )
    return int(session.execute(query).scalar_one())


def list_statements(session: Session) -> list[tuple[Statement, int, int]]:
    """Every statement that was taken in, the latest first: how many lines it brought, and what of it is in suspense."""
    brought, left = func.count(col(StatementLine.key)), _in_suspense()
    query = (
        sa.select(Statement, brought, left)
        .outerjoin(StatementLine, col(StatementLine.statement_id) == col(Statement.id))
        .group_by(col(Statement.id))
        .order_by(col(Statement.id).desc())
    )
    return [(row, int(lines), int(cents)) for row, lines, cents in session.execute(query)]


def _in_suspense() -> sa.ColumnElement[int]:
    """The sum of what stands in suspense by lines, in cents."""
    stands = sa.case((col(StatementLine.resolved_at).is_(None), col(StatementLine.suspense_cents)), else_=0)
    return cast(func.coalesce(func.sum(stands), 0), BigInteger)


def find_by_number(session: Session, statement_id: int) -> Statement:
    """The statement with this number, kept from other writers.

    Raises:
        NotFound: there is none.
    """
    found = session.exec(for_update(select(Statement).where(col(Statement.id) == statement_id))).one_or_none()
    if found is None:
        raise NotFound(f"There is no statement {statement_id}.", hint="See them: kasoko statement list")
    return found


def lines_of(session: Session, statement_id: int) -> list[StatementLine]:
    """The lines that a statement brought, in the order of their keys."""
    query = select(StatementLine).where(col(StatementLine.statement_id) == statement_id)
    return list(session.exec(query.order_by(col(StatementLine.key))))


def later_with_the_same_lines(session: Session, row: Statement, since: datetime, until: datetime) -> Statement | None:
    """A statement that was taken in later and has lines of that time which others had brought."""
    brought = sa.select(func.count()).where(col(StatementLine.statement_id) == col(Statement.id)).scalar_subquery()
    query = select(Statement).where(
        col(Statement.id) != row.id,
        col(Statement.taken_at) >= row.taken_at,
        col(Statement.undone_at).is_(None),
        col(Statement.covers_from) <= until,
        col(Statement.covers_to) >= since,
        brought < col(Statement.lines),
    )
    return session.exec(query.order_by(col(Statement.id).desc()).limit(1)).first()


def attempts_proven_by(session: Session, statement_id: int) -> list[tuple[str, str]]:
    """The payouts that a line of this statement proves to have been paid, each with the receipt."""
    query = (
        sa.select(col(Attempt.payout_id), col(StatementLine.receipt))
        .join(StatementLine, col(Attempt.evidence) == sa.literal("statement:").concat(col(StatementLine.key)))
        .where(col(StatementLine.statement_id) == statement_id)
        .order_by(col(Attempt.payout_id))
    )
    return [(payout_id, receipt) for payout_id, receipt in session.execute(query)]


def posted_together(session: Session, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The first key of each pair of entries that one transaction posted together."""
    first, other = aliased(EntryRow), aliased(EntryRow)
    of_second = {second: one for one, second in pairs}
    found: list[str] = []
    for some in chunks(pairs):
        query = (
            sa.select(col(first.key), col(other.key))
            .join(Link, sa.and_(col(Link.first) <= col(first.id), col(first.id) <= col(Link.last)))
            .join(other, sa.and_(col(Link.first) <= col(other.id), col(other.id) <= col(Link.last)))
            .where(col(Link.chain) == "books", col(Link.kind) == "entries")
            .where(col(first.key).in_([one for one, _ in some]), col(other.key).in_([second for _, second in some]))
        )
        found += [one for one, second in session.execute(query) if of_second.get(second) == one]
    return found


def postings_of(session: Session, keys: Sequence[str]) -> dict[str, list[tuple[str, str, int]]]:
    """The lines of the entries with these keys, as account, owner and cents, in order; only those that exist."""
    query = (
        sa.select(col(EntryRow.key), col(PostingRow.account), col(PostingRow.owner), col(PostingRow.amount_cents))
        .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .order_by(col(EntryRow.id), col(PostingRow.line))
    )
    found: dict[str, list[tuple[str, str, int]]] = {}
    for key, account, owner, cents in rows_in(session, query, col(EntryRow.key), keys):
        found.setdefault(key, []).append((account, owner, cents))
    return found


#: The beginning of the reason with which incidents of a withdrawn statement are closed: no person dealt with them.
WITHDRAWN = "taken back with statement "
_INCIDENT = re.compile(r"(statement:[a-z-]+:[^:]+)(?::[0-9]+)?")


def base_of(incident_key: str) -> str | None:
    """The key of a statement's incident without the number that it has after one was withdrawn; its own otherwise."""
    found = _INCIDENT.fullmatch(incident_key)
    return incident_key if found is None else found[1]


def withdrawn_incidents(session: Session) -> set[int]:
    """The numbers of incidents that went with their statements."""
    query = select(col(Incident.id)).where(col(Incident.close_reason).startswith(WITHDRAWN, autoescape=True))
    return {number for number in session.exec(query) if number is not None}


def incident_key(session: Session, base: str) -> str:
    """The key for an incident of a statement: a number is added where one was raised and went with its statement."""
    query = sa.select(func.count()).where(
        or_(col(Incident.key) == base, col(Incident.key).startswith(f"{base}:", autoescape=True)),
        col(Incident.close_reason).startswith(WITHDRAWN, autoescape=True),
    )
    gone = session.execute(query).scalar_one()
    return base if not gone else f"{base}:{gone + 1}"


def incidents_of(session: Session, row: Statement, bases: Iterable[str]) -> list[int]:
    """The incidents that stand since a statement was taken in: those of its lines, and of payments not on it."""
    wanted = {base for base in bases if base}
    query = sa.select(col(Incident.id), col(Incident.key)).where(
        col(Incident.kind) == "statement",
        col(Incident.closed_at).is_(None),
        col(Incident.opened_at) >= row.taken_at,
        col(Incident.opened_at) <= (row.done_at or row.taken_at + timedelta(days=1)),
    )
    return [
        number
        for number, key in session.execute(query.order_by(col(Incident.id)))
        if base_of(key) in wanted or key.startswith("statement:not-on-statement:")
    ]


def forget_lines(session: Session, statement_id: int) -> None:
    """Forget the lines that a statement brought; another may bring them then."""
    session.execute(sa.delete(StatementLine).where(col(StatementLine.statement_id) == statement_id))


def find_suspense(session: Session, name: str) -> StatementLine:
    """The line in suspense with this receipt, or whose key begins so.

    Raises:
        NotFound: there is none, or several.
    """
    query = select(StatementLine).where(
        col(StatementLine.suspense_cents) != 0,
        or_(
            col(StatementLine.receipt) == fold_receipt(name),
            col(StatementLine.key).startswith(name.lower(), autoescape=True),
        ),
    )
    found = session.exec(query).all()
    if len(found) != 1:
        what = f"{len(found)} lines in suspense are called" if found else "There is no line in suspense that is called"
        raise NotFound(f"{what} {name[:40]!r}.", hint="Name it by the first column of: kasoko suspense list")
    return found[0]


def resolve_line(session: Session, key: str, *, resolution: str, by: str, at: datetime) -> bool:
    """Write down what money in suspense was; returns whether this call did it."""
    which = update(StatementLine).where(col(StatementLine.key) == key, col(StatementLine.resolved_at).is_(None))
    return change(session, which.values(resolved_at=at, resolved_by=by, resolution=resolution)) == 1
