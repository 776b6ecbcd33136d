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
from kasoko_cli.operations.shared.actor import Act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from tests.operations.road import ANN, AT_ONCE, BEN, Road


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
    road: Road, database_url: str, at: int, when: str
) -> None:
    road.owe({"ann": ANN, "ben": BEN})
    sound, losing = road.db, Losing(database_url, at, when)
    road.db = losing
    try:
        run = road.send()
    finally:
        road.db = sound
        losing.close()
    assert losing.begun > at
    assert [str(sent.became) for sent in run.sent] == ["SENT", "SENT"]
    with road.db.reading() as session:
        calls = session.execute(text("SELECT subject, count(*) FROM exchanges WHERE kind = 'b2c' GROUP BY subject"))
        assert sorted(count for _, count in calls) == [1, 1], "each call is kept once"
        assert session.execute(text("SELECT max(sends) FROM attempts")).scalar() == 1
    assert len(road.entries("reserve")) == 2
    road.deliver()
    assert set(road.statuses().values()) == {"COMPLETED"}
    road.assert_agreed()


def test_a_database_that_does_not_come_back_leaves_a_question_and_says_so(
    road: Road, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.owe({"ann": ANN})
    monkeypatch.setattr(reconnect, "SERVER_SECONDS", 0)
    monkeypatch.setattr(reconnect, "FILE_SECONDS", 0)

    sound, gone = road.db, Losing(database_url, 4, "from then on")
    road.db = gone
    try:
        with pytest.raises(DatabaseUnavailable) as lost:
            road.send(SendPolicy(rate_per_second=0, concurrency=1))
    finally:
        road.db = sound
        gone.close()
    assert "1 payouts of this run were under way" in lost.value.message
    assert "kasoko reconcile" in lost.value.hint
    assert road.states("ann") == ("SENDING", ["INTENT"])
    road.clock.forward(301)
    assert road.send(AT_ONCE).reaped == 1
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    road.reconcile()
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])


def test_what_waits_for_its_turn_when_sending_is_paused_is_given_back_unsent(road: Road) -> None:
    road.owe({"ann": ANN, "ben": BEN})
    run = road.send(
        SendPolicy(rate_per_second=4, concurrency=2),
        on_progress=lambda _: switches.pause(OperationContext(road.db, road.clock, Act("amina", "stop"))),
    )
    assert ([sent.user_id for sent in run.sent], run.stopped) == (["ann"], Stop.PAUSED)
    assert road.states("ben") == ("PENDING", ["REJECTED"])
    with road.db.reading() as session:
        assert session.execute(text("SELECT tries FROM payouts ORDER BY number")).all() == [(0,), (0,)]
    switches.resume(road.context)
    before = road.attempt("ben").id
    assert [str(sent.became) for sent in road.send().sent] == ["SENT"]
    assert road.attempt("ben").id == before, "its id was never used"
    road.deliver()
    road.assert_agreed()


def test_a_sender_that_breaks_down_leaves_its_payout_unknown(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    road.owe({"ann": ANN, "ben": BEN})
    broken = iter([True])

    def pay(*request: Any, **how: Any) -> Answer:
        if next(broken, False):
            raise RuntimeError("a bug")
        return real(*request, **how)

    real = road.daraja.pay
    monkeypatch.setattr(road.daraja, "pay", pay)
    run = road.send()
    assert [(str(sent.became), sent.why) for sent in run.sent] == [
        ("UNKNOWN", "the sender broke down: RuntimeError"),
        ("SENT", "M-Pesa has taken the request"),
    ]
    road.assert_books()
