"""Many rows at once, by the driver alone: the same rows, and the same refusals, as one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from kasoko_cli.clock import iso
from kasoko_cli.domain.market import Rules
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.records.markets import NewMarket
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import bets
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Bet, Funding, User

NOON = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
PEOPLE = ("id", "name", "phone", "created_at", "phone_set_at")
BETS = ("id", "market_id", "outcome", "user_id", "stake_cents", "funding", "placed_at", "cancelled_at")


def test_rows_come_back_as_they_went_in(db: Database) -> None:
    nairobi = NOON.astimezone(timezone(timedelta(hours=3)))
    odd = "O'Brien \t \\N \\ \u20ac"
    with db.transaction() as session:
        rows = iter([("u1", odd, "254712345678", nairobi, NOON), ("u2", "B", "254712345679", NOON, nairobi)])
        bulk_rows.insert_tuples(session, User, PEOPLE, rows)

    with db.reading() as session:
        users = session.exec(select(User).order_by(col(User.id))).all()
        assert [(user.id, user.name, user.created_at, user.phone_set_at) for user in users] == [
            ("u1", odd, NOON, NOON),
            ("u2", "B", NOON, NOON),
        ]


def test_a_row_that_breaks_a_constraint_takes_all_of_them_back(db: Database) -> None:
    good, bad = ("u1", "A", "254712345678", NOON, NOON), ("u2", "B", "not a phone", NOON, NOON)

    with pytest.raises(IntegrityError, match="phone_is_kenyan_and_whole"), db.transaction() as session:
        bulk_rows.insert_tuples(session, User, PEOPLE, [good, bad])

    with db.reading() as session:
        assert session.exec(select(User)).all() == []


def test_bets_are_streamed_as_the_digest_has_them_and_parts_of_a_second_are_cut_off(db: Database, actor: Actor) -> None:
    times = [NOON, NOON + timedelta(microseconds=999_999), NOON + timedelta(seconds=59, microseconds=999_999)]
    closed_at = times[1]
    with db.transaction() as session:
        bulk_rows.insert_tuples(session, User, PEOPLE, [("u", "A", "254712345678", NOON, NOON)])
    markets.add_market(
        OperationContext(db, lambda: NOON, actor),
        NewMarket(
            market_id="m",
            slug="m",
            question="?",
            outcomes=["Yes", "No"],
            closes_at=NOON + timedelta(days=1),
            rules=Rules(fee_bps=500),
        ),
    )
    with db.transaction() as session:
        rows = [
            (f"b{n}", "m", n % 2, "u", 100 + n, Funding.COLLECTED, at, at if n else None) for n, at in enumerate(times)
        ]
        bulk_rows.insert_tuples(session, Bet, BETS, rows)

    with db.reading() as session:
        assert list(bets.stream_bets(session, "m", closed_at)) == [
            ("b0", "u", 0, 100, iso(times[0]), False, False),
            ("b1", "u", 1, 101, iso(times[1]), True, True),
            ("b2", "u", 0, 102, iso(times[2]), True, True),
        ]
