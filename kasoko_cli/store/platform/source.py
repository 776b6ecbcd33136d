"""What the operator's platform shows us: three views in its own database. And what we tell it: one table there.

The contract is the schema `kasoko` that `kasoko connect django --print-sql` prints. Whatever a view is made of,
its columns are these: ids and words as text, times with their offset, fees in basis points, stakes in cents.
The table `results` is ours alone to write, and all that we may write: the platform's own tables stay out of reach.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError
from sqlmodel import Session

from kasoko_cli.errors import ConfigurationError
from kasoko_cli.store.engine.database import Database

#: The command that prints what the platform's administrator runs.
PRINTED = "kasoko connect django --print-sql"
#: What is said where results cannot be written, and the command that helps.
_NO_RESULTS = "takes no results", f"{PRINTED} --mirror"
#: How many rows are taken from the platform at a time.
_AT_A_TIME = 5_000

#: The bets of markets that are to be taken in, or that are named.
_WANTED = "market_id IN (SELECT market_id FROM kasoko.source_markets WHERE takes) OR market_id = ANY(:named)"


class SourceMarket(NamedTuple):
    """A market of the platform. `takes` says that it may be taken in: the platform has not ended it."""

    market_id: str
    slug: str | None
    question: str | None
    outcomes: str | None
    closes_at: datetime | None
    fee_bps: Decimal | None
    takes: bool


class SourceUser(NamedTuple):
    """Somebody of the platform."""

    user_id: str
    name: str | None
    phone: str | None


class SourceBet(NamedTuple):
    """A bet of the platform; the stake in cents, as exact as the platform has it."""

    bet_id: str
    market_id: str
    user_id: str
    outcome: str | None
    stake_cents: Decimal | None
    placed_at: datetime | None
    cancelled_at: datetime | None


class PlatformResult(NamedTuple):
    """How a market or a payout stands, as the platform is told. Amounts in cents.

    A market is RESOLVED or VOID; `amount_cents` is all that its settlement owes, None while it has none. A payout
    is PENDING until it has ended. `delivered_cents` is what of it is on the phone, `wallet_cents` what stands in
    the user's wallet with us instead, `withheld_cents` what a duty on withdrawals kept back: together all of it.
    """

    id: str
    kind: str
    market_id: str
    user_id: str | None
    status: str
    outcome: str | None
    amount_cents: int | None
    delivered_cents: int | None
    wallet_cents: int | None
    withheld_cents: int | None
    receipt: str | None
    failure_code: str | None
    changed_at: datetime
    version: int


def open_platform(url: str) -> Database:
    """The platform's database; nothing is asked of it yet.

    Raises:
        ConfigurationError: it is no address of PostgreSQL.
    """
    platform = Database(url)
    if platform.is_sqlite:
        raise ConfigurationError(
            "The platform's address is one of SQLite; its views are in PostgreSQL.",
            hint="Write KASOKO_PLATFORM_URL=postgresql://kasoko@host/name in .env, or give it by --source.",
        )
    return platform


@contextmanager
def looking(platform: Database) -> Iterator[Session]:
    """One unchanging, read-only picture of the platform.

    Raises:
        ConfigurationError: the views are not there, or not as they should be, or may not be read.
        DatabaseUnavailable: the platform's database does not answer.
    """
    with _told(platform, "does not show what it should", PRINTED), platform.reading() as session:
        _check_zones(platform, session)
        yield session


#: The times of the views, and what the views are made of. Where a table's time has no zone, the cast to one that has
#: stands in the definition, and means the zone of whoever looks; PostgreSQL drops it where there was one.
_TIMES = """
SELECT c.relname, a.attname, format_type(a.atttypid, NULL),
  CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) ELSE '' END
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.oid IN ('kasoko.source_markets'::regclass, 'kasoko.source_bets'::regclass)
  AND a.attname IN ('closes_at', 'placed_at', 'cancelled_at')
ORDER BY c.relname, a.attnum
"""
_ZONED = "timestamp with time zone"


def _check_zones(platform: Database, session: Session) -> None:
    """See that every time has a zone: 12:00 in Nairobi is no close at 15:00."""
    for view, column, kind, definition in session.execute(sa.text(_TIMES)):
        if kind != _ZONED or re.search(rf'(?<!NULL)::{_ZONED} AS "?{column}\b', definition or ""):
            raise ConfigurationError(
                f"{platform.shown_url}: {view}.{column} comes from a time without a zone; nothing was taken in.",
                hint="Set USE_TZ = True and migrate the columns, or have the view say the zone: AT TIME ZONE 'UTC'.",
            )


def check_results(platform: Database) -> None:
    """Look whether the platform has the table of results.

    Raises:
        ConfigurationError: the table is not there, or not as it should be.
        DatabaseUnavailable: the platform's database does not answer.
    """
    with _told(platform, *_NO_RESULTS), platform.transaction() as session:
        session.execute(sa.text(f"SELECT {', '.join(PlatformResult._fields)} FROM kasoko.results LIMIT 0"))  # noqa: S608


def tell(platform: Database, results: Sequence[PlatformResult]) -> None:
    """Write results to the platform, in one transaction; what is newer there, or the same, stays as it is.

    Raises:
        ConfigurationError: the table is not there, or not as it should be, or may not be written.
        DatabaseUnavailable: the platform's database does not answer.
    """
    names = PlatformResult._fields
    values = ", ".join(f":{name}" for name in names)
    changed = ", ".join(f"{name} = excluded.{name}" for name in names if name != "id")
    statement = sa.text(
        f"INSERT INTO kasoko.results ({', '.join(names)}) VALUES ({values})"  # noqa: S608 - names of our own
        f" ON CONFLICT (id) DO UPDATE SET {changed} WHERE results.version < excluded.version"
    )
    # Everybody who tells writes in this order, so that nobody waits for somebody who waits for them.
    rows = [one._asdict() for one in sorted(results)]
    with _told(platform, *_NO_RESULTS), platform.transaction() as session:
        session.execute(statement, rows)


def newer(platform: Database, versions: Mapping[str, int]) -> dict[str, int]:
    """Which of these rows the platform has under a higher version, and under which.

    Raises:
        ConfigurationError, DatabaseUnavailable: as `tell`.
    """
    query = sa.text("SELECT id, version FROM kasoko.results WHERE id = ANY(:ids)")
    with _told(platform, *_NO_RESULTS), platform.reading() as session:
        rows = [(name, version) for name, version in session.execute(query, {"ids": list(versions)})]
    return {name: version for name, version in rows if version > versions[name]}


@contextmanager
def _told(platform: Database, says: str, command: str) -> Iterator[None]:
    """What the platform's database refuses, as a sentence."""
    try:
        yield
    except ProgrammingError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise ConfigurationError(
            f"{platform.shown_url} {says}: {reason}. Nothing was changed.",
            hint=f"Have the platform's administrator run what this prints: {command}",
        ) from error


def markets(session: Session) -> list[SourceMarket]:
    """Every market of the platform, by id."""
    query = sa.text(f"SELECT {', '.join(SourceMarket._fields)} FROM kasoko.source_markets ORDER BY market_id")  # noqa: S608
    return [SourceMarket._make(row) for row in session.execute(query)]


def users(session: Session, named: Sequence[str]) -> Iterator[SourceUser]:
    """Who has a bet on a market that is to be taken in, or that is named."""
    bettors = f"SELECT user_id FROM kasoko.source_bets WHERE {_WANTED}"  # noqa: S608 - words of our own
    for row in _streamed(session, SourceUser, "source_users", f"user_id IN ({bettors})", "user_id", named):
        yield SourceUser._make(row)


def bets(session: Session, named: Sequence[str]) -> Iterator[SourceBet]:
    """The bets of markets that are to be taken in, or that are named."""
    for row in _streamed(session, SourceBet, "source_bets", _WANTED, "placed_at, bet_id", named):
        yield SourceBet._make(row)


def bets_of(session: Session, market_id: str) -> Iterator[SourceBet]:
    """The bets of one market."""
    for row in _streamed(session, SourceBet, "source_bets", "market_id = ANY(:named)", "bet_id", [market_id]):
        yield SourceBet._make(row)


def _streamed(
    session: Session, kind: type[Any], view: str, where: str, order: str, named: Sequence[str]
) -> Iterator[sa.Row[Any]]:
    query = sa.text(f"SELECT {', '.join(kind._fields)} FROM kasoko.{view} WHERE {where} ORDER BY {order}")  # noqa: S608
    yield from session.execute(query, {"named": list(named)}, execution_options={"yield_per": _AT_A_TIME})
