"""The record of acts: who did what to which thing, when and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import col, select

from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Event


@dataclass(frozen=True, slots=True)
class EventLine:
    """One act."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    detail: dict[str, Any]


def list_events(
    db: Database,
    *,
    subject: str | None = None,
    actor: str | None = None,
    since: datetime | None = None,
    after: int | None = None,
    limit: int = 50,
) -> list[EventLine]:
    """The last acts, oldest first; or with `after` the next ones behind that number."""
    query = select(Event)
    if subject is not None:
        query = query.where(col(Event.subject) == subject)
    if actor is not None:
        query = query.where(col(Event.actor) == actor)
    if since is not None:
        query = query.where(col(Event.at) >= since)
    if after is None:
        query = query.order_by(col(Event.id).desc())
    else:
        query = query.where(col(Event.id) > after).order_by(col(Event.id))
    with db.reading() as session:
        found = session.exec(query.limit(limit)).all()
    lines = [
        EventLine(row.id or 0, row.at, row.actor, row.action, row.subject, row.reason, json.loads(row.detail))
        for row in found
    ]
    return lines if after is not None else lines[::-1]
