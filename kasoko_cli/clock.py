"""Time and chance are handed in, so that a run can be told again."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

#: Says what time it is: always aware, always UTC.
Clock = Callable[[], datetime]

#: Makes a new identifier that nobody else has: lower-case hex.
NewId = Callable[[], str]

#: Kenya keeps UTC+3 all year and has done so since 1960; no time zone database is needed.
NAIROBI = timezone(timedelta(hours=3), "EAT")


def system_clock() -> datetime:
    """The machine's time in UTC."""
    return datetime.now(UTC)


def random_id() -> str:
    """Sixteen hex digits from the operating system's source of chance."""
    return secrets.token_hex(8)


def iso(moment: datetime) -> str:
    """An ISO 8601 time in UTC with a Z, to the second: `2026-11-23T05:12:44Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def nairobi_day(moment: datetime) -> tuple[datetime, datetime]:
    """The Nairobi calendar day that holds `moment`: its first instant and the next day's, in UTC."""
    local = moment.astimezone(NAIROBI)
    start = local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    return start, start + timedelta(days=1)
