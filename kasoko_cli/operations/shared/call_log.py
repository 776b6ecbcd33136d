"""The log of calls to Daraja: each is kept, when, what, status, latency, bodies without secrets."""

from __future__ import annotations

from sqlmodel import Session

from kasoko_cli.daraja.client import Answer
from kasoko_cli.store import log
from kasoko_cli.store.engine.bulk_rows import insert_rows
from kasoko_cli.store.schema.tables import Exchange


def keep_calls(session: Session, *answers: tuple[str, Answer]) -> None:
    """Keep every call that was made for these subjects."""
    rows = [{**vars(call), "subject": subject} for subject, answer in answers for call in answer.exchanges]
    insert_rows(session, Exchange, rows)


def were_kept(session: Session, *answers: tuple[str, Answer]) -> bool:
    """Whether these answers' calls stand in the log already; they are kept all together or not at all."""
    for subject, answer in answers:
        if answer.exchanges:
            return log.was_called(session, subject, answer.exchanges[0].at)
    return False
