"""A deployment that bets, and a way from a settled market to M-Pesa and back, on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.database import Database
from tests.conftest import CountedIds, FixedClock
from tests.operations.data_builder import DataBuilder
from tests.operations.payout_harness import PayoutHarness


@pytest.fixture
def harness(db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor) -> Iterator[PayoutHarness]:
    """Nobody is owed anything yet; M-Pesa is healthy, its results wait to be delivered; in the end the books hold."""
    made = PayoutHarness(db, clock, new_id, actor)
    yield made
    if made.books_hold_at_the_end:
        made.assert_books()


@pytest.fixture
def builder(db: Database, clock: FixedClock, actor: Actor) -> DataBuilder:
    """Nobody lives here yet."""
    return DataBuilder(db, clock, actor)
