"""The log of calls to Daraja: each is kept, when, what, status, latency, bodies without secrets."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from kasoko_cli.daraja.client import Answer
from kasoko_cli.store import log
from kasoko_cli.store.engine.bulk_rows import insert_rows
from kasoko_cli.store.schema.tables import Exchange


def exchange_rows(subject: str, answer: Answer) -> list[dict[str, Any]]:
    """Every call that was made for one attempt or query, as rows of the log."""
    return [
        {
            "at": call.at,
            "kind": call.kind,
            "subject": subject,
            "http_status": call.http_status,
            "outcome": call.outcome,
            "latency_ms": call.latency_ms,
            "request": call.request,
            "response": call.response,
        }
        for call in answer.exchanges
    ]


def keep_calls(session: Session, *answers: tuple[str, Answer]) -> None:
    """Keep every call that was made for these subjects."""
    insert_rows(session, Exchange, [row for subject, answer in answers for row in exchange_rows(subject, answer)])


def were_kept(session: Session, *answers: tuple[str, Answer]) -> bool:
    """Whether these answers' calls stand in the log already; they are kept all together or not at all."""
    for subject, answer in answers:
        if answer.exchanges:
            return log.was_called(session, subject, answer.exchanges[0].at)
    return False
