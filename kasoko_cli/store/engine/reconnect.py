"""Waiting for a database that went away: a server that restarts or fails over, or a file that somebody keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlmodel import Session
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

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
        if not error.is_starting:
            raise
        tell(f"{error.message} It is waited for, {SERVER_SECONDS // 60} minutes at most.")
    return _tries(_is_starting, SERVER_SECONDS)(open_database, url)


def _is_starting(error: BaseException) -> bool:
    return isinstance(error, DatabaseUnavailable) and error.is_starting


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
    return _tries(lambda error: isinstance(error, away), seconds)(act)


def _tries(is_worth_it: Callable[[BaseException], bool], seconds: int) -> Retrying:
    return Retrying(
        retry=retry_if_exception(is_worth_it),
        wait=wait_exponential(multiplier=0.1, max=2) + wait_random(0, 0.2),
        stop=stop_after_delay(seconds),
        reraise=True,
    )
