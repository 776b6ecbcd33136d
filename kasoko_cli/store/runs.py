"""Queries on runs: which commands are at work, where, and when each was last heard of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from kasoko_cli.store.engine.changes import change, insert_into
from kasoko_cli.store.engine.locking import where_given
from kasoko_cli.store.schema.tables import RunRow


def list_open(session: Session, *, command: str | None = None) -> Sequence[RunRow]:
    """Runs that have not said that they ended, longest first; some may have died."""
    query = select(RunRow).where(col(RunRow.ended_at).is_(None), *where_given((col(RunRow.command), command)))
    return session.exec(query.order_by(col(RunRow.started_at), col(RunRow.id))).all()


def beat(session: Session, run_id: str, *, doing: str, counts: Mapping[str, int], at: datetime) -> None:
    """Say that a run is alive and what it does; one that was taken for dead stands as running again."""
    which = update(RunRow).where(col(RunRow.id) == run_id)
    change(session, which.values(heartbeat_at=at, doing=doing, counts=json.dumps(counts), ended_at=None))


def note_success(session: Session, command: str, *, host: str, pid: int, actor: str, at: datetime) -> None:
    """Write down when a command that is no run last ended well: one row for each, however often it does."""
    latest = {"host": host, "pid": pid, "actor": actor, "started_at": at, "heartbeat_at": at, "ended_at": at}
    row = {
        "id": f"last:{command}",
        "command": command,
        "market": "",
        "is_alone": False,
        "doing": "done",
        "counts": "{}",
    }
    session.exec(
        insert_into(session, RunRow).values(row | latest).on_conflict_do_update(index_elements=["id"], set_=latest)
    )


def end(session: Session, run_id: str, *, doing: str, counts: Mapping[str, int] | None, at: datetime) -> bool:
    """Say that a run is over, and how; returns whether it stood as running."""
    values: dict[str, object] = {"ended_at": at, "doing": doing}
    if counts is not None:
        values |= {"heartbeat_at": at, "counts": json.dumps(counts)}
    which = update(RunRow).where(col(RunRow.id) == run_id, col(RunRow.ended_at).is_(None))
    return change(session, which.values(**values)) == 1
