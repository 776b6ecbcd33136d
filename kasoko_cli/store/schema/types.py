"""Column types that behave alike on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import BigInteger, ColumnElement, DateTime, Dialect, Integer, Text, or_
from sqlalchemy.types import TypeDecorator, TypeEngine

from kasoko_cli.clock import farthest


class UtcTime(TypeDecorator[datetime]):
    """A time that goes in aware and comes back in UTC, from both databases.

    SQLite keeps no offset: the value is stored as naive UTC. PostgreSQL keeps `timestamptz`.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=dialect.name != "sqlite"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError("a time without an offset cannot be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def over(until: Any, now: datetime, longest: timedelta) -> ColumnElement[bool]:
    """`clock.is_over` of a column, for a WHERE."""
    return or_(until.is_(None), until < now, until > farthest(now, longest))


_Words = TypeVar("_Words", bound=StrEnum)


class StoredWord(TypeDecorator[_Words], Generic[_Words]):
    """A state kept as its word and read back as the enum's member; a CHECK holds the column to the list."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[_Words]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: _Words | str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else str(self.words(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> _Words | None:  # noqa: ARG002
        return None if value is None else self.words(value)


#: Money and other whole numbers past 32 bits.
Whole = BigInteger
#: A row number the database counts up; SQLite only counts a column that is exactly INTEGER.
Counted = BigInteger().with_variant(Integer(), "sqlite")
