"""Claims about which commands are at work, and that one work has one run."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import text

from kasoko_cli.errors import Busy, NotFound
from kasoko_cli.operations.reporting import status_views
from kasoko_cli.operations.shared import run_registry
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.overview import DEAD_SECONDS
from kasoko_cli.operations.shared.run_registry import AtWork, at_work
from kasoko_cli.store.engine.database import Database
from tests.conftest import CountedIds, FixedClock
from tests.operations.payout_harness import ANN, PayoutHarness

pytestmark = pytest.mark.on_both

AMINA = Actor("amina")

#: Begins a run as amina; its arguments are those of `at_work`.
Begin = Callable[..., AbstractContextManager[AtWork]]


@pytest.fixture
def begin(db: Database, clock: FixedClock, new_id: CountedIds) -> Begin:
    """Begin a run of one command, `payout` unless another is named."""
    return lambda command="payout", **more: at_work(OperationContext(db, clock, AMINA), new_id, command=command, **more)


def dead_process() -> int:
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def shown(db: Database) -> list[tuple[str, str | None, str, str]]:
    """Who is at work, as status has it."""
    return [(run.command, run.market, run.host, run.doing) for run in status_views.overview(db).runs]


def test_a_second_run_of_the_same_work_is_told_whose_it_is(db: Database, clock: FixedClock, begin: Begin) -> None:
    with begin(host="pay1"):
        clock.forward(7)
        with pytest.raises(Busy) as refused, begin(host="pay1"):
            pass
    said = refused.value.message
    assert said.startswith("Another run has this work: kasoko payout of all markets, by amina on pay1 (process ")
    assert said.endswith("), since 2026-11-23 12:00 EAT, last heard of 7 s ago. Nothing was changed.")
    assert (refused.value.exit_code, "kasoko status" in refused.value.hint) == (9, True)
    with begin(host="pay1"):
        assert shown(db) == [("payout", None, "pay1", "beginning")]
    assert shown(db) == []


def test_the_same_work_is_the_same_market_or_all_of_them(harness: PayoutHarness, begin: Begin) -> None:
    harness.owe({"ann": ANN})
    harness.owe({"ann": ANN}, market="replay")
    with begin(market="derby"):
        for market in ("derby", None):
            with pytest.raises(Busy), begin(market=market):
                pass
        with begin(market="replay"), begin(alone=False), begin("reconcile"), begin("retry-failed"):
            assert len(shown(harness.db)) == 5
    with pytest.raises(NotFound), begin(market="nowhere"):
        pass


def test_hosts_share_the_work_on_postgresql_and_one_database_file_has_one_run(db: Database, begin: Begin) -> None:
    with begin(host="pay1"):
        if db.is_sqlite:
            with pytest.raises(Busy), begin(host="pay2"):
                pass
            return
        with begin(host="pay2"):
            assert [host for *_, host, _ in shown(db)] == ["pay1", "pay2"]


@pytest.mark.parametrize("how", ["its process is gone", "it was silent for a minute"])
def test_a_run_that_died_is_in_nobodys_way(db: Database, clock: FixedClock, begin: Begin, how: str) -> None:
    with begin(host="pay1"):
        if how == "its process is gone":
            with db.transaction() as session:
                session.execute(text("UPDATE runs SET pid = :pid"), {"pid": dead_process()})
        else:
            clock.forward(DEAD_SECONDS)
            with pytest.raises(Busy), begin(host="pay1"):
                pass
            clock.forward(1)
        with begin(host="pay1"):
            assert len(shown(db)) == 1
    with db.reading() as session:
        ended = session.execute(text("SELECT doing FROM runs WHERE ended_at IS NOT NULL ORDER BY doing")).all()
    assert [word for (word,) in ended] == ["died", "done"]


def test_a_run_beats_what_it_does_into_the_list_and_one_taken_for_dead_comes_back(
    db: Database,
    clock: FixedClock,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_registry, "BEAT_SECONDS", 0.01)
    with begin() as mine:
        with db.transaction() as session:
            session.execute(text("UPDATE runs SET ended_at = heartbeat_at, doing = 'died'"))
        mine.doing = "sending"
        mine.count("SENT")
        mine.count("SENT", 2)
        clock.forward(9)
        until(lambda: [run.counts for run in status_views.overview(db).runs] == [{"SENT": 3}])
        [run] = status_views.overview(db).runs
        assert (run.doing, run.heartbeat_at, run.actor) == ("sending", clock(), "amina")


def test_of_two_that_begin_at_one_moment_one_works(db: Database, clock: FixedClock, new_id: CountedIds) -> None:
    outcomes: list[str] = []
    barrier, over = threading.Barrier(4), threading.Event()

    def run() -> None:
        barrier.wait()
        try:
            with at_work(OperationContext(db, clock, AMINA), new_id, command="payout", host="pay1"):
                outcomes.append("worked")
                over.wait(60)
        except Busy:
            outcomes.append("busy")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(outcomes) == 4)
    over.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["busy"] * 3 + ["worked"]


def test_a_run_that_ends_with_an_error_says_so(db: Database, begin: Begin) -> None:
    def stumble() -> None:
        with begin():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stumble()
    with db.reading() as session:
        assert session.execute(text("SELECT doing FROM runs")).all() == [("failed",)]


def until(done: Callable[[], bool]) -> None:
    """Look again and again, for a time."""
    ends_at = time.monotonic() + 60
    while not done():
        assert time.monotonic() < ends_at, "it did not happen"
        time.sleep(0.01)
