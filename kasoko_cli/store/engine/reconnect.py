"""Waiting for a database that went away: a server that restarts or fails over, or a file that somebody keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlmodel import Session
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random
from tenacity.stop import StopBaseT

from kasoko_cli.errors import Busy, DatabaseUnavailable, KasokoError
from kasoko_cli.store.engine.database import Database, open_database

#: How long a server is waited for, and how long a file.
SERVER_SECONDS, FILE_SECONDS = 600, 60

T = TypeVar("T")


def open_patiently(url: str, tell: Callable[[str], None]) -> Database:
    """Open a database as `open_database` does; a server that is just starting is waited for, and that is told.

    Raises:
        DatabaseUnavailable: there is none, it cannot be opened, or it did not start.
        SchemaOutOfDate: its tables are of another version.
    """
    try:
        return open_database(url)
    except DatabaseUnavailable as error:
        if not error.wait_seconds:
            raise
        most = f"{error.wait_seconds // 60} minutes" if error.wait_seconds >= 60 else f"{error.wait_seconds} seconds"
        tell(f"{error.message} It is waited for, {most} at most.")

    def is_over(state: RetryCallState) -> bool:
        """One that refused connections and is starting by now is waited for as one that starts."""
        assert state.outcome is not None
        return (state.seconds_since_start or 0) >= _wait_for(state.outcome.exception())

    return _tries(lambda error: _wait_for(error) > 0, is_over)(open_database, url)


def _wait_for(error: BaseException | None) -> int:
    return error.wait_seconds if isinstance(error, DatabaseUnavailable) else 0


def patiently(db: Database, act: Callable[[], T], again: Callable[[], T] | None = None) -> T:
    """Do it, however long the database is away; `again` knows that an earlier commit may have come through.

    Without `again` it is `act` that is done once more: it has to be such as may be repeated.

    Raises:
        DatabaseUnavailable: it did not come back.
        Busy: somebody keeps it locked.
    """
    away = (Busy, DatabaseUnavailable)
    try:
        return act()
    except away:
        return _once_it_is_back(again or act, away, FILE_SECONDS if db.is_sqlite else SERVER_SECONDS)


def wait_for_server(db: Database, act: Callable[[], T], again: Callable[[], T] | None = None) -> T:
    """The same where nothing is under way yet, or any more: only a server that went away is waited for.

    Raises:
        DatabaseUnavailable: it did not come back. What is wrong with a file, and that a server is a replica, is said
            at once.
    """
    if db.is_sqlite:
        return act()
    try:
        return act()
    except DatabaseUnavailable as error:
        if error.is_replica:
            raise
        return _once_it_is_back(again or act, (DatabaseUnavailable,), SERVER_SECONDS)


def read(db: Database, look: Callable[[Session], T]) -> T:
    """What is seen in one picture of the database, once its server is there."""

    def once() -> T:
        with db.reading() as session:
            return look(session)

    return wait_for_server(db, once)


def write(db: Database, act: Callable[[Session], T]) -> T:
    """What is written in one transaction, once the server is there: it has to be such as may be repeated."""

    def once() -> T:
        with db.transaction() as session:
            return act(session)

    return wait_for_server(db, once)


def _once_it_is_back(act: Callable[[], T], away: tuple[type[KasokoError], ...], seconds: int) -> T:
    return _tries(lambda error: isinstance(error, away), stop_after_delay(seconds))(act)


def _tries(is_worth_it: Callable[[BaseException], bool], is_over: StopBaseT) -> Retrying:
    return Retrying(
        retry=retry_if_exception(is_worth_it),
        wait=wait_exponential(multiplier=0.1, max=2) + wait_random(0, 0.2),
        stop=is_over,
        reraise=True,
    )
