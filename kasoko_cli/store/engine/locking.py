"""Locks on rows, and how long a list one statement may carry.

PostgreSQL holds a locked row until the transaction ends. SQLite ignores row locks: there a writer has the
whole database from its BEGIN IMMEDIATE on, which is stronger.

Who decides by what a row says holds that row: by a market's state, the market; by a payout's, the payout; by a user's
money, the user (`users.find_user` for one, `users.lock_wallets` for several). Money is read after that, since each
statement of PostgreSQL's READ COMMITTED sees what has been committed by then. Locks are taken in one order, so that
nobody waits in a ring: markets, payouts by id, attempts, users by id, and last the books, by posting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum, unique
from typing import Any, TypeVar

from sqlalchemy import BindParameter, ColumnElement, bindparam, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

from kasoko_cli.errors import Busy


@unique
class Turn(IntEnum):
    """What one transaction at a time does on PostgreSQL, each under the number of its advisory lock."""

    BOOKS = 7215190332  #: writing entries and events, which are chained
    IMPORT = 7215190333  #: taking in a file
    INBOX = 7215190334  #: storing callbacks, which are chained
    STATEMENT = 7215190336  #: taking in lines of a statement
    WALLETS = 7215190337  #: holding the wallets of several users
    RUN = 7215190338  #: beginning a run
    MOVE = 7215190339  #: moving everything into another database


#: What PostgreSQL says where two transactions write a row under the same name, and the other one was first.
_TAKEN = "23505"

#: How many values one IN list carries; SQLite takes at most 32,766 parameters.
CHUNK = 10_000

#: A list that a statement is given when it is run, under the name `many`. Such a statement is made once for all lists.
MANY: BindParameter[Any] = bindparam("many", expanding=True)

Row = TypeVar("Row")
Value = TypeVar("Value")


def chunks(values: Iterable[Value]) -> Iterator[list[Value]]:
    """The same values, in lists of which a statement may carry each."""
    every = list(values)
    for start in range(0, len(every), CHUNK):
        yield every[start : start + CHUNK]


def rows_in(session: Session, query: Any, column: Any, values: Iterable[Any]) -> Iterator[Any]:
    """What a query finds where `column` has one of these values, however many there are."""
    for chunk in chunks(values):
        yield from session.exec(query.where(column.in_(chunk)))


def where_given(*wanted: tuple[Any, object]) -> list[ColumnElement[bool]]:
    """That each of these columns has its value, for those whose value is not None."""
    return [column == value for column, value in wanted if value is not None]


def for_update(query: SelectOfScalar[Row], *, share: bool = False, skip_locked: bool = False) -> SelectOfScalar[Row]:
    """Lock what the query finds, and read it afresh even if this session has seen it before."""
    return query.with_for_update(read=share, skip_locked=skip_locked).execution_options(populate_existing=True)


def take_turn(session: Session, turn: Turn) -> None:
    """Wait for whoever does the same, until their transaction ends. SQLite has one writer at a time anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SELECT pg_advisory_xact_lock({turn.value})"))


@contextmanager
def told_of_a_collision(what: str) -> Iterator[None]:
    """Say it in our words where another process writes the same new row: a name that was free when we looked.

    Raises:
        Busy: it did; nothing was changed.
    """
    try:
        yield
    except IntegrityError as error:
        if getattr(error.orig, "sqlstate", None) != _TAKEN:
            raise
        raise Busy(
            f"Another process took in {what} at the same moment. Nothing was changed.",
            hint="Run it again: what the other one took in is known then.",
        ) from error
