"""What is said in the words of the database's driver, without SQLAlchemy, where its work for each row is too much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.exc import DBAPIError


@dataclass(frozen=True, slots=True)
class Direct:
    """A transaction that is open, in the words of the database's driver."""

    cursor: Any
    dialect: Dialect

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.dialect.name == "sqlite"

    def first(self, statement: str) -> Any:
        """The first row that a statement without values finds, or None."""
        return self.cursor.execute(statement).fetchone()


@contextmanager
def as_sqlalchemy_says(dialect: Dialect, statement: str | None = None) -> Iterator[set[Exception]]:
    """Let the driver's errors be SQLAlchemy's; those that are put into the set say that the connection is gone."""
    gone = set[Exception]()
    driver_error = dialect.loaded_dbapi.Error
    try:
        yield gone
    except driver_error as error:
        raise DBAPIError.instance(
            statement, None, error, driver_error, connection_invalidated=error in gone, dialect=dialect
        ) from error
