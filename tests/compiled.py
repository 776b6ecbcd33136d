"""One memory of compiled statements for every engine of a process, by the kind of database.

SQLAlchemy keeps what it has compiled for as long as an engine lives, and each test has an engine of its own:
half of what a test took was the compilation of the same few hundred statements. A process of the program has one
engine, and compiles each once; so do the tests.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.util import LRUCache

from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine import database

#: More statements than there are.
_MOST = 5_000

#: M-Pesa takes it, and then does not know the receiver; and it takes it, and then the connection breaks.
UNREGISTERED, NO_ANSWER = "254799002040", "254799200005"

_known: dict[str, tuple[Dialect, Any]] = {}
_make = database._engine


def share() -> None:
    """From now on the engines of this process share what they compile; they need not be of one database."""
    database._engine = _engine


def _engine(url: URL) -> Engine:
    engine = _make(url)
    kind = url.get_backend_name()
    if kind in _known:
        engine.dialect, engine._compiled_cache = _known[kind]
        return engine

    # Not before a dialect has seen a server does it know what the server can do.
    @event.listens_for(engine.pool, "first_connect")
    def _keep(_connection: object, _record: object) -> None:
        engine._compiled_cache = LRUCache(_MOST)
        _known.setdefault(kind, (engine.dialect, engine._compiled_cache))

    return engine


def warm(url: str) -> None:
    """Send payouts the usual ways in an empty database that nobody needs, so that the statements are compiled."""
    from tests.conftest import CountedIds, FixedClock
    from tests.operations.payout_harness import ANN, BEN, PayoutHarness

    db, clock = database.open_database(url), FixedClock()
    harness = PayoutHarness(db, clock, CountedIds(), Actor("nobody", "to compile"))
    try:
        harness.owe({"ann": ANN, "ben": UNREGISTERED, "cyn": NO_ANSWER})
        harness.send()
        harness.deliver()
        clock.forward(3_600)
        harness.reconcile()
        harness.set_phone("ben", BEN)
        harness.retry()
        harness.send()
        harness.deliver()
        harness.assert_books()
    finally:
        db.close()
