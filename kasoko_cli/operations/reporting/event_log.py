"""The record of acts: who did what to which thing, when and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kasoko_cli.store import log
from kasoko_cli.store.engine.database import Database


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
    with db.reading() as session:
        found = log.list_events(session, subject=subject, actor=actor, since=since, after=after, limit=limit)
    lines = [
        EventLine(row.id or 0, row.at, row.actor, row.action, row.subject, row.reason, json.loads(row.detail))
        for row in found
    ]
    return lines if after is not None else lines[::-1]
