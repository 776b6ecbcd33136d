"""Queries on the questions we put to M-Pesa."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from kasoko_cli.store.tables import Query


def find_query(session: Session, query_id: str) -> Query | None:
    """The question with this id, if we asked it."""
    return session.exec(select(Query).where(col(Query.id) == query_id)).one_or_none()


def note_answer(session: Session, query_id: str, *, answer: str, detail: str, at: datetime) -> bool:
    """Write down how a question was answered, the first time; says whether this call did it."""
    noted = session.exec(
        update(Query)
        .where(col(Query.id) == query_id, col(Query.answered_at).is_(None))
        .values(answered_at=at, answer=answer, detail=detail)
        .execution_options(synchronize_session=False)
    )
    return noted.rowcount == 1


def last_of(session: Session, attempt_id: str) -> Query | None:
    """The latest question about this attempt."""
    query = select(Query).where(col(Query.attempt_id) == attempt_id).order_by(col(Query.asked_at).desc())
    return session.exec(query).first()
