"""Queries on the questions we put to M-Pesa."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, or_, update
from sqlmodel import Session, col, select

from kasoko_cli.clock import farthest
from kasoko_cli.store.locking import CHUNK
from kasoko_cli.store.tables import Attempt, Query

#: What stands as the answer to a question that M-Pesa did not take.
NOT_ASKED = "NOT_ASKED"
#: What stands as the answer to a question that another account asked than the one that paid: it says nothing.
OTHER_ACCOUNT = "OTHER_ACCOUNT"
#: How long whoever asks may take to write down that M-Pesa took the question.
ASKING = timedelta(minutes=5)


def find_query(session: Session, query_id: str) -> Query | None:
    """The question with this id, if we asked it."""
    return session.exec(select(Query).where(col(Query.id) == query_id)).one_or_none()


def is_under_way(query: Query, now: datetime) -> bool:
    """Whether a question may still be with whoever asks it: its acknowledgement is not to be had yet."""
    return now - ASKING < query.asked_at <= farthest(now)


def note_answer(session: Session, query_id: str, *, answer: str, detail: str, at: datetime) -> bool:
    """Write down how a question was answered, the first time that it is believed; says whether this call did it."""
    noted = session.exec(
        update(Query)
        .where(
            col(Query.id) == query_id,
            or_(col(Query.answered_at).is_(None), col(Query.answer).in_(NOT_BELIEVED)),
        )
        .values(answered_at=at, answer=answer, detail=detail)
        .execution_options(synchronize_session=False)
    )
    return noted.rowcount == 1


def last_of(session: Session, attempt_id: str) -> Query | None:
    """The latest question about this attempt."""
    query = select(Query).where(col(Query.attempt_id) == attempt_id).order_by(col(Query.asked_at).desc())
    return session.exec(query).first()


def asked_ahead(session: Session, now: datetime, attempt_ids: Sequence[str] | None = None) -> list[str]:
    """Those of the attempts, or of all, that a clock that ran ahead asked about."""
    query = select(Query.attempt_id).where(col(Query.asked_at) > farthest(now), col(Query.attempt_id).is_not(None))
    if attempt_ids is not None:
        query = query.where(col(Query.attempt_id).in_(attempt_ids))
    return sorted({attempt_id for attempt_id in session.exec(query) if attempt_id is not None})


def set_right(session: Session, attempt_ids: Sequence[str], now: datetime) -> None:
    """Have what a clock that ran ahead asked about attempts count as asked before anything became of them."""
    for attempt in session.exec(select(Attempt).where(col(Attempt.id).in_(attempt_ids))):
        session.exec(
            update(Query)
            .where(col(Query.attempt_id) == attempt.id, col(Query.asked_at) > farthest(now))
            .values(asked_at=min(attempt.sent_at, now) - timedelta(seconds=1))
            .execution_options(synchronize_session=False)
        )


def asked_about(session: Session, attempt_id: str) -> tuple[int, Query | None]:
    """How often M-Pesa took a question about an attempt, and the latest question, taken or not."""
    asked = (
        select(func.count())
        .select_from(Query)
        .where(col(Query.attempt_id) == attempt_id, func.coalesce(col(Query.answer), "") != NOT_ASKED)
    )
    return session.exec(asked).one(), last_of(session, attempt_id)


def keep_conversation(session: Session, query_id: str, conversation_id: str) -> None:
    """Keep M-Pesa's own id for a question, by which its answer is known."""
    session.exec(
        update(Query)
        .where(col(Query.id) == query_id)
        .values(conversation_id=conversation_id)
        .execution_options(synchronize_session=False)
    )


#: Answers to a status query that do not speak against sending again.
NOT_COMPLETED = frozenset({"NOT_PAID", "NOT_FOUND"})


def was_not_found(session: Session, attempt_id: str) -> bool:
    """Whether M-Pesa ever said, asked by the attempt's own account, that it knows no such payment."""
    query = (
        select(col(Query.id))
        .join(Attempt, col(Attempt.id) == col(Query.attempt_id))
        .where(
            col(Attempt.id) == attempt_id,
            col(Query.answer) == "NOT_FOUND",
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
    found = dict[str, str]()
    for start in range(0, len(attempt_ids), CHUNK):
        query = select(Query.id, Query.attempt_id).where(col(Query.attempt_id).in_(attempt_ids[start : start + CHUNK]))
        found |= {query_id: attempt_id for query_id, attempt_id in session.exec(query) if attempt_id is not None}
    return found


def list_about(session: Session, attempt_id: str) -> Sequence[Query]:
    """Every question about this attempt, earliest first."""
    query = select(Query).where(col(Query.attempt_id) == attempt_id).order_by(col(Query.asked_at), col(Query.id))
    return session.exec(query).all()
