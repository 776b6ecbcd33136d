"""What is dated later than it can have been stored: by a clock that ran ahead, or ours is behind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import func
from sqlmodel import Session, col, select

from kasoko_cli.clock import farthest
from kasoko_cli.store.attempts import LONGEST_LEASE
from kasoko_cli.store.monitoring.alerts import LONGEST_CLAIM
from kasoko_cli.store.payouts import LONGEST_WAIT
from kasoko_cli.store.schema.tables import (
    AccessToken,
    Alert,
    Attempt,
    Callback,
    Event,
    FloatReading,
    Incident,
    PaceRow,
    Payout,
    Query,
    RunRow,
)

_AT_ONCE = timedelta(0)
#: Each time that is compared with now, what it is of, and how far ahead it may be of whoever stores it.
_STORED: Sequence[tuple[str, Any, timedelta]] = (
    ("leases", Attempt.lease_until, LONGEST_LEASE),
    ("sends", Attempt.sent_at, _AT_ONCE),
    ("ends", Attempt.status_at, _AT_ONCE),
    ("waits", Payout.not_before, LONGEST_WAIT),
    ("questions", Query.asked_at, _AT_ONCE),
    ("callbacks", Callback.received_at, _AT_ONCE),
    ("balances", FloatReading.as_of, _AT_ONCE),
    ("incidents", Incident.last_at, _AT_ONCE),
    ("acts", Event.at, _AT_ONCE),
    ("runs", RunRow.heartbeat_at, _AT_ONCE),
    ("paces", PaceRow.changed_at, _AT_ONCE),
    ("tokens", AccessToken.fetched_at, _AT_ONCE),
    ("claims", Alert.claimed_until, LONGEST_CLAIM),
)


class Ahead(NamedTuple):
    """How many times of one kind are too late, and the latest of them."""

    of: str
    rows: int
    latest: datetime


def dated_ahead(session: Session, now: datetime) -> list[Ahead]:
    """The kinds of which there are any."""
    found = []
    for of, column, ahead in _STORED:
        query = select(func.count(), func.max(col(column))).where(col(column) > farthest(now, ahead))
        count, latest = session.exec(query).one()
        if count:
            found.append(Ahead(of, count, latest))
    return found
