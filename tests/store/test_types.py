"""Times and words come back from both databases as they went in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, Table, insert, select
from sqlalchemy.exc import StatementError

from kasoko_cli.domain.market import MarketStatus
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.types import Counted, StoredWord, UtcTime, Whole

ROWS = Table(
    "rows_of_a_test",
    MetaData(),
    Column("id", Counted, primary_key=True),
    Column("at", UtcTime()),
    Column("word", StoredWord(MarketStatus)),
    Column("cents", Whole),
)


@pytest.fixture
def rows(db: Database) -> Database:
    """A database with a table of these types."""
    with db.engine.begin() as connection:
        ROWS.create(connection)
    return db


def _kept(db: Database, **values: Any) -> Any:
    with db.transaction() as session:
        session.execute(insert(ROWS).values(**values))
    with db.reading() as session:
        return session.execute(select(ROWS).order_by(ROWS.c.id.desc())).first()


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 11, 23, 9, 0, 0, 123456, tzinfo=UTC),
        datetime(2026, 11, 23, 1, 30, tzinfo=timezone(timedelta(hours=3))),
        datetime(2026, 11, 23, 22, 15, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
    ],
)
def test_a_time_comes_back_as_the_same_moment_in_utc(rows: Database, moment: datetime) -> None:
    kept = _kept(rows, at=moment)
    assert kept.at == moment
    assert kept.at.utcoffset() == timedelta(0)


def test_times_are_ordered_whatever_offset_they_came_with(rows: Database) -> None:
    noon = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    later = datetime(2026, 11, 23, 4, 0, tzinfo=timezone(timedelta(hours=-6)))
    _kept(rows, at=later)
    _kept(rows, at=noon)
    with rows.reading() as session:
        assert session.execute(select(ROWS.c.at).order_by(ROWS.c.at)).scalars().all() == [noon, later]
        assert session.execute(select(ROWS.c.at).where(ROWS.c.at > noon)).scalars().all() == [later]


def test_a_time_without_an_offset_is_refused(rows: Database) -> None:
    with pytest.raises(StatementError, match="a time without an offset cannot be stored"):
        _kept(rows, at=datetime(2026, 11, 23, 9, 0))  # noqa: DTZ001


def test_a_word_comes_back_as_the_member_of_its_list(rows: Database) -> None:
    assert _kept(rows, word=MarketStatus.VOID).word is MarketStatus.VOID
    assert _kept(rows, word="CLOSED").word is MarketStatus.CLOSED


def test_a_word_that_is_not_on_the_list_is_refused(rows: Database) -> None:
    with pytest.raises(StatementError, match="'ENDED' is not a valid MarketStatus"):
        _kept(rows, word="ENDED")


def test_nothing_stays_nothing(rows: Database) -> None:
    assert _kept(rows, at=None, word=None)[1:] == (None, None, None)


@pytest.mark.parametrize("cents", [0, -1, 2**31, 2**63 - 1, -(2**63)])
def test_cents_past_32_bits_are_kept_whole(rows: Database, cents: int) -> None:
    kept = _kept(rows, cents=cents).cents
    assert (kept, type(kept)) == (cents, int)
