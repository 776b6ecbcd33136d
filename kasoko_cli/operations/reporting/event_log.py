"""The record of acts: who did what to which thing, when and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from kasoko_cli.domain.payout import looks_like_payout_id, market_in
from kasoko_cli.store import log, markets
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
    """The last acts, oldest first; or with `after` the next ones behind that number.

    A market among the subjects may be named by its slug too, and a payout with it: acts have their ids.
    """
    with db.reading() as session:
        subjects = None if subject is None else _subjects(session, subject)
        found = log.list_events(session, subjects=subjects, actor=actor, since=since, after=after, limit=limit)
    lines = [
        EventLine(row.id or 0, row.at, row.actor, row.action, row.subject, row.reason, json.loads(row.detail))
        for row in found
    ]
    return lines if after is not None else lines[::-1]


def _subjects(session: Session, named: str) -> set[str]:
    """What is meant by a name: the thing of that very name, and the market or payout that goes by it."""
    market, rest = market_in(named) if looks_like_payout_id(named) else (named, "")
    known = markets.named(session, market)
    return {named} if known is None else {named, known.id + rest}
