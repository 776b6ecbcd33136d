"""Claims about a server that is restarted while a command works: the command waits for it, and its work is whole.

Every third transaction of a command is lost, before it begins or when it has committed, and every third look at
the database too. A file that cannot be used is another matter: that is said at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest
from sqlalchemy import text
from sqlmodel import Session

from kasoko_cli.errors import Busy, DatabaseUnavailable
from kasoko_cli.operations.payouts import run_report, spending_bound
from kasoko_cli.operations.payouts.run import Selection
from kasoko_cli.operations.reconciliation import status_queries
from kasoko_cli.operations.shared.run_registry import at_work
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from tests.operations.payout_harness import ANN, BEN, PayoutHarness

pytestmark = pytest.mark.on_both

#: A number that is not on M-Pesa for the first payment; it is corrected before the second.
NOT_ON_MPESA = "254799002040"


class Restarted(Database):
    """A database whose server goes away at the first and every third transaction or look: before, or at its end."""

    def __init__(self, url: str, chance: Random) -> None:
        super().__init__(url)
        self.chance, self.lost = chance, 0

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One that may be lost."""
        with self._lost(), super().transaction() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One that may be lost."""
        with self._lost(), super().reading() as session:
            yield session

    @contextmanager
    def _lost(self) -> Iterator[None]:
        drawn = self.chance.random() / (1 if self.lost else 3)
        self.lost += drawn < 1 / 3
        if drawn < 1 / 6:
            raise DatabaseUnavailable("The server closed the connection.")
        yield
        if drawn < 1 / 3:
            raise DatabaseUnavailable("The server closed the connection.")


def pays(harness: PayoutHarness) -> None:
    """What `payout` does with the database, from the first line to the last."""
    spending_bound.show(harness.db, harness.clock())
    with at_work(harness.context, harness.new_id, command="payout"):
        run = harness.send()
        run_report.note_run(harness.context, run, Selection())
        run_report.heed_breaker(harness.db, run)
    assert [one.status for one in run_report.ends_of(harness.db, run)] == ["SENT", "SENT"]


def asks(harness: PayoutHarness) -> None:
    """The same of `reconcile`, where no result has come."""
    report = harness.reconcile(deliver=False)
    assert [one.taken for one in report.asked] == [True, True]
    assert status_queries.unanswered(harness.db, [one.query_id for one in report.asked]) == 2
    assert [one.questions for one in status_queries.list_open(harness.db)] == [1, 1]
    assert (status_queries.list_contradictions(harness.db), status_queries.count_failed(harness.db)) == ([], 0)


def tries_again(harness: PayoutHarness) -> None:
    """The same of `retry-failed`, where one was paid and the number of the other was corrected."""
    report = harness.retry()
    assert (len(report.retried), report.wire_cents, report.left) == (1, 10_000, [])


def sent(harness: PayoutHarness) -> None:
    """Both are sent."""
    harness.send()


def failed(harness: PayoutHarness) -> None:
    """One is paid, one failed, and his number is corrected."""
    harness.send()
    harness.deliver()
    assert harness.states("ben") == ("FAILED", ["FAILED"])
    harness.set_phone("ben", BEN)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("before", "works", "ben"),
    [
        pytest.param(lambda _: None, pays, BEN, id="payout"),
        pytest.param(sent, asks, BEN, id="reconcile"),
        pytest.param(failed, tries_again, NOT_ON_MPESA, id="retry-failed"),
    ],
)
def test_a_server_that_is_restarted_again_and_again_needs_no_hand(
    before: Callable[[PayoutHarness], None],
    works: Callable[[PayoutHarness], None],
    ben: str,
    seed: int,
    harness: PayoutHarness,
) -> None:
    if harness.db.is_sqlite:
        return
    harness.owe({"ann": ANN, "ben": ben})
    before(harness)
    sound = harness.db
    harness.db = restarted = Restarted(sound.url.render_as_string(hide_password=False), Random(seed))
    try:
        works(harness)
    finally:
        harness.db = sound
        restarted.close()
    assert restarted.lost
    harness.send()
    harness.deliver()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    assert max(one.number for one in harness.attempts("ann")) == 1
    harness.assert_agreed()


def test_a_file_that_cannot_be_used_is_said_at_once_where_nothing_is_under_way(db: Database) -> None:
    tried = []

    def look(session: Session) -> None:
        tried.append(session)
        if db.is_sqlite or len(tried) == 1:
            raise DatabaseUnavailable("It went away.")

    if db.is_sqlite:
        with pytest.raises(DatabaseUnavailable):
            reconnect.read(db, look)
        assert len(tried) == 1
    else:
        reconnect.read(db, look)
        assert len(tried) == 2


def test_what_is_no_absence_is_not_tried_again(db: Database) -> None:
    tried = []

    def act(session: Session) -> None:
        tried.append(session)
        raise Busy("Another run has this work.")

    with pytest.raises(Busy):
        reconnect.write(db, act)
    assert len(tried) == 1


def test_a_replica_is_refused_at_once_where_nothing_is_under_way(db: Database) -> None:
    tried = []

    def act(session: Session) -> None:
        tried.append(session)
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.execute(text("DELETE FROM links"))

    if db.is_sqlite:
        return
    with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
        reconnect.write(db, act)
    assert len(tried) == 1
