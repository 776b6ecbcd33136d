"""Queries on the questions we put to M-Pesa."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import func, or_, update
from sqlmodel import Session, col, select

from kasoko_cli.clock import farthest
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.engine.locking import rows_in
from kasoko_cli.store.schema.tables import Attempt, Query

#: What stands as the answer to a question that M-Pesa did not take.
NOT_ASKED = "NOT_ASKED"
#: What stands as the answer to a question that another account asked than the one that paid: it says nothing.
OTHER_ACCOUNT = "OTHER_ACCOUNT"
#: How long an answer that overtook the acknowledgement of its question waits for it.
ASKING = timedelta(minutes=5)


def find_query(session: Session, query_id: str) -> Query | None:
    """The question with this id, if we asked it."""
    return session.exec(select(Query).where(col(Query.id) == query_id)).one_or_none()


def is_being_asked(query: Query, now: datetime) -> bool:
    """Whether M-Pesa's acknowledgement of a question may still be on its way."""
    is_open = query.conversation_id is None and query.answered_at is None
    return is_open and now - ASKING < query.asked_at <= farthest(now)


#: What stands as the answer where a body was posted that is not believed: the true answer may still come.
NOT_BELIEVED = ("LACKING", "CONTRADICTED", "UNREADABLE")


def note_answer(session: Session, query_id: str, *, answer: str, detail: str, at: datetime) -> bool:
    """Write down how a question was answered, the first time that it is believed; returns whether this call did it."""
    which = update(Query).where(
        col(Query.id) == query_id, or_(col(Query.answered_at).is_(None), col(Query.answer).in_(NOT_BELIEVED))
    )
    return change(session, which.values(answered_at=at, answer=answer, detail=detail)) == 1


def last_of(session: Session, attempt_id: str, now: datetime) -> Query | None:
    """The latest question about this attempt, without those dated in the future by a clock that ran ahead."""
    query = select(Query).where(col(Query.attempt_id) == attempt_id, col(Query.asked_at) <= farthest(now))
    return session.exec(query.order_by(col(Query.asked_at).desc())).first()


def asked_about(session: Session, attempt_id: str, now: datetime) -> tuple[int, Query | None]:
    """How often M-Pesa took a question about an attempt, and the latest question, taken or not."""
    asked = (
        select(func.count())
        .select_from(Query)
        .where(col(Query.attempt_id) == attempt_id, func.coalesce(col(Query.answer), "") != NOT_ASKED)
    )
    return session.exec(asked).one(), last_of(session, attempt_id, now)


def keep_conversation(session: Session, query_id: str, conversation_id: str) -> None:
    """Keep M-Pesa's own id for a question, by which its answer is known."""
    which = update(Query).where(col(Query.id) == query_id)
    change(session, which.values(conversation_id=conversation_id))


#: Answers to a status query that do not speak against sending again.
NOT_COMPLETED = frozenset({"NOT_PAID", "NOT_FOUND"})


def was_not_found(session: Session, attempt_id: str, now: datetime) -> bool:
    """Whether M-Pesa said by now, asked by the attempt's own account, that it knows no such payment."""
    query = (
        select(col(Query.id))
        .join(Attempt, col(Attempt.id) == col(Query.attempt_id))
        .where(
            col(Attempt.id) == attempt_id,
            col(Query.answer) == "NOT_FOUND",
            col(Query.asked_at) <= now,
            col(Query.account_id) == col(Attempt.account_id),
        )
    )
    return session.exec(query).first() is not None


def count_unanswered(session: Session, query_ids: Sequence[str]) -> int:
    """How many of these questions have no answer yet."""
    open_questions = (
        select(func.count()).select_from(Query).where(col(Query.id).in_(query_ids), col(Query.answered_at).is_(None))
    )
    return session.exec(open_questions).one()


def ids_about(session: Session, attempt_ids: Sequence[str]) -> dict[str, str]:
    """The attempt that each question about these attempts is about, by the id of the question."""
    query = sa.select(col(Query.id), col(Query.attempt_id))
    return dict(rows_in(session, query, col(Query.attempt_id), attempt_ids))


def list_about(session: Session, attempt_id: str) -> Sequence[Query]:
    """Every question about this attempt, earliest first."""
    query = select(Query).where(col(Query.attempt_id) == attempt_id).order_by(col(Query.asked_at), col(Query.id))
    return session.exec(query).all()
