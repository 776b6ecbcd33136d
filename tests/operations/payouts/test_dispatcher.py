"""Claims about the crew of a run: a database that goes away under it, and what is given back when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session

from kasoko_cli.daraja.client import Answer
from kasoko_cli.errors import DatabaseUnavailable
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.payouts.run import SendPolicy, Stop
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from tests.operations.payout_harness import ANN, AT_ONCE, BEN, PayoutHarness

pytestmark = pytest.mark.on_both


class Losing(Database):
    """A database that goes away at one transaction: before it begins, when it has committed, or from then on."""

    def __init__(self, url: str, at: int, when: str) -> None:
        super().__init__(url)
        self.at, self.when, self.begun = at, when, 0

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        self.begun += 1
        lost = self.begun == self.at
        gone = self.when == "from then on" and self.begun >= self.at
        if gone or (lost and self.when == "before it begins"):
            raise DatabaseUnavailable("The server closed the connection.")
        with super().transaction() as session:
            yield session
        if lost:
            raise DatabaseUnavailable("The server closed the connection.")


@pytest.mark.parametrize("when", ["before it begins", "when it has committed"])
@pytest.mark.parametrize("at", [pytest.param(3, id="claim"), pytest.param(4, id="record"), pytest.param(6, id="later")])
def test_a_database_that_is_lost_at_a_commit_loses_and_doubles_nothing(
    harness: PayoutHarness, database_url: str, at: int, when: str
) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    sound, losing = harness.db, Losing(database_url, at, when)
    harness.db = losing
    try:
        run = harness.send()
    finally:
        harness.db = sound
        losing.close()
    assert losing.begun > at
    assert [str(sent.became) for sent in run.sent] == ["SENT", "SENT"]
    with harness.db.reading() as session:
        calls = session.execute(text("SELECT subject, count(*) FROM exchanges WHERE kind = 'b2c' GROUP BY subject"))
        assert sorted(count for _, count in calls) == [1, 1], "each call is kept once"
        assert session.execute(text("SELECT max(sends) FROM attempts")).scalar() == 1
    assert len(harness.entries("reserve")) == 2
    harness.deliver()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    harness.assert_agreed()


def test_a_database_that_does_not_come_back_leaves_a_question_and_says_so(
    harness: PayoutHarness, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.owe({"ann": ANN})
    monkeypatch.setattr(reconnect, "SERVER_SECONDS", 0)
    monkeypatch.setattr(reconnect, "FILE_SECONDS", 0)

    sound, gone = harness.db, Losing(database_url, 4, "from then on")
    harness.db = gone
    try:
        with pytest.raises(DatabaseUnavailable) as lost:
            harness.send(SendPolicy(rate_per_second=0, concurrency=1))
    finally:
        harness.db = sound
        gone.close()
    assert "Under way in this run: 1 payout; how it went" in lost.value.message
    assert "kasoko reconcile" in lost.value.hint
    assert harness.states("ann") == ("SENDING", ["INTENT"])
    harness.clock.forward(301)
    assert harness.send(AT_ONCE).reaped == 1
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    harness.reconcile()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])


def test_what_waits_for_its_turn_when_sending_is_paused_is_given_back_unsent(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    run = harness.send(
        SendPolicy(rate_per_second=4, concurrency=2),
        on_progress=lambda _: switches.pause(OperationContext(harness.db, harness.clock, Actor("amina", "stop"))),
    )
    assert ([sent.user_id for sent in run.sent], run.stopped) == (["ann"], Stop.PAUSED)
    assert harness.states("ben") == ("PENDING", ["REJECTED"])
    with harness.db.reading() as session:
        assert session.execute(text("SELECT tries FROM payouts ORDER BY number")).all() == [(0,), (0,)]
    switches.resume(harness.context)
    before = harness.attempt("ben").id
    assert [str(sent.became) for sent in harness.send().sent] == ["SENT"]
    assert harness.attempt("ben").id == before, "its id was never used"
    harness.deliver()
    harness.assert_agreed()


def test_a_sender_that_breaks_down_leaves_its_payout_unknown(
    harness: PayoutHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    broken = iter([True])

    def pay(*request: Any, **how: Any) -> Answer:
        if next(broken, False):
            raise RuntimeError("a bug")
        return real(*request, **how)

    real = harness.daraja.pay
    monkeypatch.setattr(harness.daraja, "pay", pay)
    run = harness.send()
    assert [(str(sent.became), sent.why) for sent in run.sent] == [
        ("UNKNOWN", "the sender broke down: RuntimeError"),
        ("SENT", "M-Pesa has taken the request"),
    ]
    harness.assert_books()
