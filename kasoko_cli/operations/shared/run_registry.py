"""Which commands are at work, and that one work has one of them.

A row says who works on what, for `status`, and so that a second cron job ends with exit 9 and says who has the work.
No payment depends on it. A run that was not heard of for a minute counts as dead, and so does one on this machine
whose process is gone: the next one takes its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from kasoko_cli.clock import Clock, NewId, eat
from kasoko_cli.errors import Busy, KasokoError
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.overview import DEAD_SECONDS, RunFacts, is_dead
from kasoko_cli.store import markets, runs
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.locking import Turn, take_turn
from kasoko_cli.store.engine.reconnect import wait_for_server
from kasoko_cli.store.engine.server import host_name
from kasoko_cli.store.schema.tables import RunRow

#: How often a run says that it is alive.
BEAT_SECONDS = 5.0
#: What stands in place of what a run did if it ended without saying so.
DIED = "died"


@dataclass(slots=True)
class AtWork:
    """This process's run: what it is doing, and how far it is. The heartbeat writes it into the database."""

    id: str
    doing: str = "beginning"
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, by: int = 1) -> None:
        """Count something that was done, by a word: `SENT`."""
        self.counts[what] = self.counts.get(what, 0) + by


@contextlib.contextmanager
def at_work(
    ctx: OperationContext,
    new_id: NewId,
    *,
    command: str,
    market: str | None = None,
    alone: bool = True,
    host: str | None = None,
) -> Iterator[AtWork]:
    """List this run while the body works; `alone` refuses where the same work has a run already.

    On SQLite one such run at a time may work, on PostgreSQL one on each host: there the hosts share the work.

    Raises:
        Busy: a run that is alive has this work.
        NotFound: there is no such market.
    """
    db, clock = ctx.db, ctx.clock
    mine = AtWork(new_id())
    host = host or host_name()

    def begin(*, again: bool = False) -> None:
        with db.transaction() as session:
            take_turn(session, Turn.RUN)
            if again and session.get(RunRow, mine.id) is not None:
                return
            _bury(session, host, now=clock())
            market_id = "" if market is None else markets.find_market(session, market).id
            if alone:
                _check_free(session, command, market_id, None if db.is_sqlite else host, now=clock())
            session.add(
                RunRow(
                    id=mine.id,
                    command=command,
                    market=market_id,
                    is_alone=alone,
                    host=host,
                    pid=os.getpid(),
                    actor=ctx.actor.name,
                    started_at=clock(),
                    heartbeat_at=clock(),
                    doing=mine.doing,
                )
            )

    wait_for_server(db, begin, again=lambda: begin(again=True))
    over = threading.Event()
    heart = threading.Thread(target=_beat, args=(db, clock, mine, over), name="kasoko-heart", daemon=True)
    heart.start()
    how = "failed"
    try:
        yield mine
        how = "done"
    finally:
        over.set()
        heart.join()
        # If this cannot be written the work is done all the same, and the row is found dead within a minute.
        with contextlib.suppress(KasokoError), db.transaction() as session:
            runs.end(session, mine.id, doing=how, counts=mine.counts, at=clock())


def note_success(ctx: OperationContext, command: str) -> None:
    """Write down, for the metrics, that a command which is no run has just ended well.

    What it did stands without this: a database that may not be written to now is no reason to fail.
    """
    with contextlib.suppress(KasokoError, SQLAlchemyError), ctx.db.transaction() as session:
        runs.note_success(session, command, host=host_name(), pid=os.getpid(), actor=ctx.actor.name, at=ctx.clock())


def list_runs(session: Session) -> list[RunFacts]:
    """Every run that has not ended, longest first. One that was killed stands here until the next one begins."""
    return [_facts(row) for row in runs.list_open(session)]


def _facts(row: RunRow) -> RunFacts:
    return RunFacts(
        row.id,
        row.command,
        row.market or None,
        row.host,
        row.pid,
        row.actor,
        row.started_at,
        row.heartbeat_at,
        row.doing,
        json.loads(row.counts),
    )


def _beat(db: Database, clock: Clock, mine: AtWork, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        # A database that is away for a while is no reason to stop: the work waits for it too.
        with contextlib.suppress(KasokoError), db.transaction() as session:
            runs.beat(session, mine.id, doing=mine.doing, counts=dict(mine.counts), at=clock())


def _bury(session: Session, host: str, *, now: datetime) -> None:
    """End the rows of runs that died: not heard of for a minute, or of this machine and without a process."""
    for row in runs.list_open(session):
        gone = row.host == host and not _is_running(row.pid)
        if gone or is_dead(_facts(row), now):
            runs.end(session, row.id, doing=DIED, counts=None, at=now)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's, and it is there
    return True


def _check_free(session: Session, command: str, market_id: str, host: str | None, *, now: datetime) -> None:
    for row in runs.list_open(session, command=command):
        same_work = not row.market or not market_id or row.market == market_id
        if row.is_alone and same_work and host in (None, row.host):
            silent = max(0, int((now - row.heartbeat_at).total_seconds()))
            raise Busy(
                f"Another run has this work: kasoko {row.command} of {row.market or 'all markets'}, by {row.actor} on"
                f" {row.host} (process {row.pid}), since {eat(row.started_at)}, last heard of {silent} s ago."
                " Nothing was changed.",
                hint="Let it work, and look at it: kasoko status. It counts as dead, and this command takes its place,"
                f" when its process is gone or it was not heard of for {DEAD_SECONDS} s.",
            )
