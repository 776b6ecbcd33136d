"""Everything that somebody who watches wants to see at once, read on one snapshot a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kasoko_cli.clock import Clock
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.operations.account.balances import FloatReport, report
from kasoko_cli.operations.reporting.status_views import overview
from kasoko_cli.operations.shared.overview import Overview
from kasoko_cli.store import attempts
from kasoko_cli.store.engine.database import Database


@dataclass(frozen=True, slots=True)
class Oldest:
    """The payout that has been unknown for longest, since its request was sent."""

    payout_id: str
    since: datetime
    age_seconds: int


@dataclass(frozen=True, slots=True)
class Board:
    """How everything stands at one moment; `heard_seconds` is how long the listener has heard nothing.

    What was never read of the float is None, and not known.
    """

    at: datetime
    overview: Overview
    oldest_unknown: Oldest | None
    heard_seconds: int | None
    float: FloatReport


def read_board(db: Database, clock: Clock, tariff: Tariff) -> Board:
    """How everything stands now."""
    found = overview(db)
    now = clock()
    heard = found.callback_heard_at
    with db.reading() as session:
        unknown = attempts.oldest_unknown(session)
    oldest = None if unknown is None else Oldest(*unknown, _seconds(now, unknown[1]))
    heard_seconds = None if heard is None else _seconds(now, heard)
    return Board(now, found, oldest, heard_seconds, report(db, clock, tariff))


def _seconds(now: datetime, then: datetime) -> int:
    return max(0, int((now - then).total_seconds()))
