"""The outbox: noted with the change itself, for all that a platform is told, and not at all where it is not."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kasoko_cli.domain.payout import PAYOUT_NEXT, PayoutStatus, told_as
from kasoko_cli.store import payouts
from kasoko_cli.store.engine.database import Database, open_database
from kasoko_cli.store.platform import outbox
from tests.store.test_tables import GOOD, _insert

NOON = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
PAYOUT = "payout:derby.1.1"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def owed(db: Database) -> Database:
    """A database with one payout of one settled market."""
    with db.engine.begin() as connection:
        for table in ("users", "markets", "outcomes", "bets", "settlements", "payouts"):
            _insert(connection, table, GOOD[table])
    return db


def be(db: Database, status: PayoutStatus) -> None:
    """The payout stands so, whatever it was."""
    with db.transaction() as session:
        session.execute(
            text("UPDATE payouts SET status = :status, note = 'a reason', failure_code = '1'"), {"status": status}
        )


def go(db: Database, to: PayoutStatus, at: datetime = NOON, **values: Any) -> None:
    with db.transaction() as session:
        assert payouts.move(session, "derby.1.1", to, at=at, **values)


def begin(db: Database, at: datetime = NOON) -> bool:
    with db.transaction() as session:
        return outbox.begin(session, at=at)


def rows(db: Database) -> dict[str, tuple[int, int]]:
    with db.reading() as session:
        found = session.execute(text("SELECT id, version, told_version FROM outbox"))
        return {name: (version, told) for name, version, told in found}


def test_nothing_is_noted_while_the_platform_is_told_nothing(owed: Database) -> None:
    go(owed, PayoutStatus.COMPLETED)
    with owed.transaction() as session:
        outbox.note_settlement(session, "derby", 1, at=NOON)
        outbox.note_all(session, at=NOON)
    assert rows(owed) == {}


def test_the_beginning_notes_all_that_stands_and_only_once(owed: Database) -> None:
    assert begin(owed)
    assert set(rows(owed)) == {PAYOUT, "market:derby"}
    before = rows(owed)
    assert not begin(owed, NOON + timedelta(days=1))
    assert rows(owed) == before


def test_whatever_a_platform_would_see_change_is_noted(owed: Database) -> None:
    begin(owed)
    for source, following in PAYOUT_NEXT.items():
        for nth, to in enumerate(following, start=1):
            be(owed, source)
            before = rows(owed)[PAYOUT]
            go(owed, to, NOON + timedelta(seconds=nth), only_from={source})
            noted = rows(owed)[PAYOUT] != before
            assert noted is (told_as(source) is not told_as(to)), f"{source} -> {to}"


def test_a_change_that_is_taken_back_is_not_noted(owed: Database) -> None:
    begin(owed)
    before = rows(owed)
    with suppress(ZeroDivisionError), owed.transaction() as session:
        assert payouts.move(session, "derby.1.1", PayoutStatus.COMPLETED, at=NOON)
        raise ZeroDivisionError
    assert rows(owed) == before


def test_a_version_only_grows_even_when_the_clock_goes_back(owed: Database) -> None:
    begin(owed)
    seen = [rows(owed)[PAYOUT][0]]
    for hours, to in ((1, PayoutStatus.FAILED), (-5, PayoutStatus.PENDING), (0, PayoutStatus.WALLET)):
        go(owed, to, NOON + timedelta(hours=hours), failure_code="1")
        seen.append(rows(owed)[PAYOUT][0])
    assert seen == sorted(set(seen))


def test_what_changed_again_while_it_was_told_waits_still(owed: Database) -> None:
    begin(owed)
    with owed.reading() as session:
        found = outbox.waiting(session, limit=10)
        assert outbox.count_waiting(session) == (1, 1)
    go(owed, PayoutStatus.COMPLETED, NOON + timedelta(seconds=1))
    with owed.transaction() as session:
        assert outbox.told(session, found) == 2
        assert outbox.told(session, found) == 0, "told twice is told once"
    with owed.reading() as session:
        assert [one.id for one in outbox.waiting(session, limit=10)] == [PAYOUT]


def test_a_change_that_is_under_way_at_the_beginning_is_not_missed(owed: Database) -> None:
    """On PostgreSQL the beginning waits for it; on SQLite there is one writer anyway."""
    other = open_database(owed.url.render_as_string(hide_password=False))
    beginning = threading.Thread(target=begin, args=(other, NOON))
    with owed.transaction() as session:
        assert payouts.move(session, "derby.1.1", PayoutStatus.COMPLETED, at=NOON)
        beginning.start()
        if not owed.is_sqlite:
            while not _waits(owed):
                pass
    beginning.join(timeout=60)
    assert set(rows(owed)) == {PAYOUT, "market:derby"}
    with owed.reading() as session:
        assert session.execute(text("SELECT status FROM payouts")).scalar_one() == "COMPLETED"
    other.close()


def _waits(db: Database) -> bool:
    with db.reading() as session:
        asked = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareLock'")
        return bool(session.execute(asked).scalar_one())


def test_every_statement_that_changes_a_payouts_state_is_known_here() -> None:
    """A new one has to note what it changes, or be of a kind that no platform sees."""
    found = set()
    for file in (ROOT / "kasoko_cli").rglob("*.py"):
        if "migrations" not in file.parts:
            for function in re.split(r"^(?=def |    def )", file.read_text(), flags=re.MULTILINE):
                if re.search(r"update\(Payout\)[^#]*?\.values\([^)]*status=", function, re.DOTALL):
                    found.add((file.name, function.split("(")[0].strip()))
    assert found == {
        ("payouts.py", "def move_all"),
        ("approvals.py", "def release_all"),  # from AWAITING_APPROVAL to PENDING: both have not ended
        ("restored.py", "def hold_pending"),  # who calls it notes everything
        ("restored.py", "def hold_settlement"),  # from PENDING to HELD, in what is just being written
    }
