"""Claims about moving into another database: all of it arrives, and never can both of them send."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from kasoko_cli.errors import Busy, CheckFailed, ConfigurationError, DatabaseClosed, DatabaseUnavailable, Refused
from kasoko_cli.operations.admin import backups, database_copy, preflight
from kasoko_cli.operations.admin.backups import Expected
from kasoko_cli.operations.admin.database_copy import Copied, Outcome, Target
from kasoko_cli.operations.admin.preflight import CheckState
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine import whole_copy
from kasoko_cli.store.engine.database import Database, find_closed, find_mark, open_database, schema_version, upgrade
from kasoko_cli.store.log import list_events
from kasoko_cli.store.schema.tables import Alert
from tests.conftest import FixedClock
from tests.operations.audit.test_audit import lively
from tests.operations.data_builder import DataBuilder
from tests.operations.payout_harness import ANN, BEN, PayoutHarness
from tests.proof.databases import Kind, create_copy, named, on_server

pytestmark = pytest.mark.on_both

BOTH_WAYS = pytest.mark.parametrize(
    ("database_url", "to"), [("sqlite", "postgres"), ("postgres", "sqlite")], indirect=["database_url"]
)
MOVER = Actor("mover", "more than one host")


class Places:
    """Addresses of databases that are not there, or are a server's empty ones; thrown away in the end."""

    def __init__(self, folder: Path, server: str) -> None:
        self._folder, self._server = folder, server
        self._made: list[str] = []

    def new(self, kind: str, template: str | None = None) -> str:
        """The address of an empty place, or of a copy of the server's database of that name."""
        name = f"kasoko_place_{uuid4().hex[:10]}"
        if kind == "sqlite":
            return f"sqlite:///{self._folder / name}.db"
        if template is None:
            on_server(self._server, f"CREATE DATABASE {name}")
        else:
            create_copy(self._server, name, template)
        self._made.append(name)
        return named(self._server, name)

    def close(self) -> None:
        """Throw the server's databases away."""
        for name in self._made:
            on_server(self._server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def places(tmp_path: Path, postgres_server: str) -> Iterator[Places]:
    """Empty places of both kinds."""
    made = Places(tmp_path, postgres_server)
    yield made
    made.close()


def move(source: str, target: str, clock: Callable[[], Any] | None = None) -> Copied:
    """Copy all of one database into another."""
    with contextlib.closing(open_database(source)) as db:
        ids = iter([uuid4().hex[:16]])
        return database_copy.copy(OperationContext(db, clock or FixedClock(), MOVER), target, lambda: next(ids))


def takes_writes(url: str) -> bool:
    """Whether a row can be written there; nothing is left of it."""
    with contextlib.closing(Database(url)) as db:
        if db.is_sqlite and not Path(db.place).exists():
            return False
        if schema_version(db) is None:
            return False
        closed = find_closed(db) is not None
        try:
            with db.transaction() as session:
                session.execute(text("INSERT INTO alerts (key, what, since) VALUES ('x', 'x', '2026-01-01')"))
                session.rollback()
        except DatabaseClosed:
            assert closed, "what refuses writes says so when it is opened"
            return False
        assert not closed, "what says that it takes no writes refuses them"
        return True


def rows_of(url: str) -> list[whole_copy.TableRows]:
    """Every table, counted and digested."""
    with contextlib.closing(open_database(url)) as db, db.reading() as session:
        return list(whole_copy.digest_rows(session))


def is_whole(url: str) -> bool:
    """Whether the audit finds nothing."""
    with contextlib.closing(open_database(url)) as db:
        return audit(db, deep=True, chain=True).ok


# --- What arrives -------------------------------------------------------------------------------------------------


@BOTH_WAYS
def test_all_of_it_arrives_and_only_the_copy_takes_writes(
    builder: DataBuilder, database_url: str, places: Places, to: str
) -> None:
    lively(builder)
    builder.db.close()
    before, target = rows_of(database_url), places.new(to)
    with contextlib.closing(open_database(database_url)) as db:
        planned = database_copy.plan(db, target)
    assert (planned.target_has, planned.rows) == (Target.NOTHING, sum(one.rows for one in before))
    assert not takes_writes(target)

    done = move(database_url, target)

    assert done.outcome is Outcome.COPIED
    assert rows_of(database_url) == rows_of(target) == done.tables
    changed = {one.table for one, was in zip(done.tables, before, strict=True) if one != was}
    assert changed == {"events", "links"}, "the move itself is on the record of both"
    assert (takes_writes(database_url), takes_writes(target)) == (False, True)
    assert is_whole(database_url)
    assert is_whole(target)
    with contextlib.closing(open_database(target)) as db, db.reading() as session:
        (said,) = list_events(session, limit=1)
        assert (said.actor, said.action, said.subject, said.reason) == ("mover", "db.copy", "database", MOVER.reason)
    assert move(database_url, target).outcome is Outcome.ALREADY
    with contextlib.closing(open_database(database_url)) as db:
        (found,) = preflight.tables(db)
        assert (found.state, "was moved to" in found.says) == (CheckState.FAIL, True)


@BOTH_WAYS
def test_what_was_on_its_way_goes_on_in_the_copy_and_nobody_is_paid_twice(
    harness: PayoutHarness, database_url: str, places: Places, to: Kind
) -> None:
    """A server's counters go on behind the highest number, too: or the calls of the next run could not be logged."""
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send(limit=1)
    old = harness.db
    old.close()
    move(database_url, target := places.new(to), harness.clock)

    with pytest.raises(DatabaseClosed, match="was moved to"):
        harness.send()  # a process that had it open before
    assert len(harness.ledger()) == 1
    old.close()
    harness.db = open_database(target)
    harness.deliver()
    harness.send()
    harness.deliver()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    assert [harness.paid_to(ANN), harness.paid_to(BEN)] == [10_000, 10_000]
    harness.assert_agreed()
    harness.assert_books()
    harness.books_hold_at_the_end = False
    harness.db.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_it_moves_back_without_anything_lost(
    harness: PayoutHarness, database_url: str, places: Places, clock: FixedClock
) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    harness.db.close()
    move(database_url, there := places.new("postgres"))
    with contextlib.closing(open_database(there)) as db:
        switches.pause(OperationContext(db, clock, MOVER))
    with pytest.raises(Refused, match="is not empty"):
        move(there, database_url)
    move(there, back := places.new("sqlite"))
    assert [takes_writes(url) for url in (database_url, there, back)] == [False, False, True]
    assert is_whole(back)
    with pytest.raises(Refused, match="was moved to"):
        move(there, places.new("sqlite"))


# --- Killed -------------------------------------------------------------------------------------------------------


def steps_of(source: str, target: str, *, die_at: int | None = None, log: Path | None = None) -> int:
    """Copy in a process of its own that dies before its step of this number; a commit and each write is a step.

    Returns how it ended: -9 if it died. Its steps go to the `log`.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    count = 0

    def step(what: str) -> None:
        nonlocal count
        if count == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        if log is not None:
            with log.open("a") as file:
                file.write(f"{what}\n")

    def statement(_conn: Any, _cursor: Any, said: str, *_rest: Any) -> None:
        if not said.lstrip().startswith(("SELECT", "PRAGMA", "SHOW", "BEGIN", "WITH")):
            step(" ".join(said.split()[:3]))

    code = 1
    try:
        event.listen(Engine, "before_cursor_execute", statement)
        event.listen(Engine, "commit", lambda _conn: step("COMMIT"))
        move(source, target)
        code = 0
    finally:
        os._exit(code)


@pytest.mark.parametrize(
    ("database_url", "to"),
    [("sqlite", "postgres"), pytest.param("postgres", "sqlite", marks=pytest.mark.exhaustive)],
    indirect=["database_url"],
)
def test_killed_anywhere_never_both_send_and_the_next_try_ends_it(
    harness: PayoutHarness, database_url: str, places: Places, to: Kind, tmp_path: Path
) -> None:
    """Before and after each commit, and half way between."""
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send(limit=1)
    harness.db.close()
    kind = "sqlite" if to == "postgres" else "postgres"

    def fresh() -> str:
        """A copy of the source, as it was before any of this."""
        name = str(Database(database_url).url.database)
        if kind == "postgres":
            return places.new(kind, name)
        url = places.new(kind)
        with (
            contextlib.closing(sqlite3.connect(name)) as one,
            contextlib.closing(sqlite3.connect(str(Database(url).url.database))) as other,
        ):
            one.backup(other)
        return url

    log = tmp_path / "steps"
    assert steps_of(fresh(), places.new(to), log=log) == 0
    steps = log.read_text().splitlines()
    commits = [number for number, what in enumerate(steps) if what == "COMMIT"]
    assert len(commits) >= 4, "the target's tables, its rows, the source's end, the target's beginning"
    dying = {*commits, *(number + 1 for number in commits if number + 1 < len(steps))}
    dying |= {(one + other) // 2 for one, other in zip([0, *commits], commits, strict=False)}
    outcomes = set[Outcome]()
    for number in sorted(dying):
        source, target = fresh(), places.new(to)
        assert steps_of(source, target, die_at=number) == -signal.SIGKILL
        ours, theirs = takes_writes(source), takes_writes(target)
        assert not (ours and theirs), f"killed at {number}, {steps[number]}: both would send"
        assert ours or number > commits[-3], f"killed at {number}, {steps[number]}: closed before all was there"
        done = move(source, target)
        outcomes.add(done.outcome)
        assert (takes_writes(source), takes_writes(target)) == (False, True)
        assert rows_of(source) == rows_of(target)
    assert outcomes >= {Outcome.COPIED, Outcome.FINISHED}


# --- Refused ------------------------------------------------------------------------------------------------------


def refused(error: type[Exception], words: str, source: str, target: str) -> None:
    """Hold that a copy is refused in these words, and the source goes on."""
    with pytest.raises(error, match=words):
        move(source, target)
    assert takes_writes(source)


def test_the_target_is_another_database_and_empty(db: Database, database_url: str, places: Places) -> None:
    db.close()
    refused(Refused, "is the database itself", database_url, database_url)
    other = places.new("sqlite")
    upgrade(other)
    with contextlib.closing(open_database(other)) as there:
        switches.pause(OperationContext(there, FixedClock(), MOVER))
    refused(Refused, "is not empty: it is of the deployment .* and has rows in events", database_url, other)
    assert takes_writes(other)


@pytest.mark.exhaustive_on("postgres")
def test_tables_without_a_row_are_as_good_as_none(db: Database, database_url: str, places: Places) -> None:
    db.close()
    upgrade(target := places.new("postgres"))
    move(database_url, target)
    assert rows_of(database_url) == rows_of(target)


def test_a_file_by_another_name_is_the_same_file(
    sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kasoko.db"
    file.write_bytes(sqlite_template.read_bytes())
    (tmp_path / "soft.db").symlink_to(file)
    os.link(file, tmp_path / "hard.db")
    monkeypatch.chdir(tmp_path)
    for name in ("kasoko.db", "./kasoko.db", "soft.db", "hard.db"):
        refused(Refused, "is the database itself", f"sqlite:///{file}", f"sqlite:///{name}")


@pytest.mark.exhaustive_on("postgres")
def test_what_is_another_programs_is_let_be(db: Database, database_url: str, places: Places, tmp_path: Path) -> None:
    db.close()
    target = places.new("postgres")
    with contextlib.closing(Database(target)) as there, there.transaction() as session:
        session.execute(text("CREATE TABLE orders (id int)"))
    refused(Refused, "holds tables of another program, orders among them", database_url, target)
    (tmp_path / "letter.txt").write_text("Dear Sir, " * 500)
    refused(DatabaseUnavailable, "file is not a database", database_url, f"sqlite:///{tmp_path}/letter.txt")
    refused(ConfigurationError, "There is no folder", database_url, f"sqlite:///{tmp_path}/nowhere/x.db")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_copy_of_another_deployment_that_is_not_finished_is_let_be(
    db: Database, database_url: str, places: Places
) -> None:
    db.close()
    other, target = places.new("sqlite"), places.new("sqlite")
    upgrade(other)
    assert steps_of(other, target, die_at=_last_but_one(other, places)) == -signal.SIGKILL
    refused(Refused, "is not empty: it is of the deployment", database_url, target)
    with pytest.raises(DatabaseClosed, match=r"is a copy of .* not finished"):
        move(target, places.new("sqlite"))


def _last_but_one(source: str, places: Places) -> int:
    """The step before which a copy is filled, and its source still open."""
    log = Path(Database(places.new("sqlite")).place).with_suffix(".log")
    copy = places.new("sqlite")
    Path(Database(copy).place).write_bytes(Path(Database(source).place).read_bytes())
    steps_of(copy, places.new("sqlite"), log=log)
    return [number for number, what in enumerate(log.read_text().splitlines()) if what == "COMMIT"][-2]


def test_who_has_it_open_is_told_of(db: Database, database_url: str, places: Places) -> None:
    with db.reading() as session:
        session.execute(text("SELECT 1"))
        refused(Busy, "is open: ", database_url, places.new("sqlite"))


@pytest.mark.exhaustive_on("postgres")
def test_what_the_audit_finds_stays_where_it_is(harness: PayoutHarness, database_url: str, places: Places) -> None:
    harness.owe({"ann": ANN})
    harness.books_hold_at_the_end = False
    with harness.db.transaction() as session:
        session.execute(text("UPDATE payouts SET wire_cents = 9900"))
    harness.db.close()
    refused(CheckFailed, "does not pass the audit", database_url, places.new("sqlite"))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_row_that_the_target_does_not_take_is_told_and_nothing_is_moved(
    harness: PayoutHarness, places: Places
) -> None:
    """A NUL in a text is nothing to SQLite, and not allowed on PostgreSQL."""
    source = f"sqlite:///{harness.db.place}"
    with harness.db.transaction() as session:
        session.add(Alert(key="y", what="a\0b", since=harness.clock()))
    harness.db.close()
    target = places.new("postgres")
    refused(CheckFailed, "does not take what is in .* NUL", source, target)
    assert not takes_writes(target)


# --- Copies of what was moved -------------------------------------------------------------------------------------


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_copy_of_what_was_moved_is_put_back_only_where_the_other_is_lost(
    harness: PayoutHarness, places: Places, tmp_path: Path
) -> None:
    harness.owe({"ann": ANN})
    source, clock = f"sqlite:///{harness.db.place}", harness.clock
    backups.backup(harness.db, tmp_path / "before")
    harness.db.close()
    move(source, target := places.new("sqlite"), clock)
    with contextlib.closing(open_database(source)) as db:
        backups.backup(db, tmp_path / "after")

    def put_back(file: str, to: str, *, lost: bool = False) -> None:
        backups.restore(to, tmp_path / file, clock, MOVER, Expected("v3", target_lost=lost), replace=True)

    for file in ("before", "after"):
        with pytest.raises(Refused, match=r"was moved to .* would be a second one that pays"):
            put_back(file, source)
    with pytest.raises(Refused, match="is of a database that was moved to"):
        put_back("after", places.new("sqlite"))
    assert (takes_writes(source), takes_writes(target)) == (False, True)

    Path(Database(target).place).unlink()
    put_back("after", source, lost=True)
    assert takes_writes(source)
    harness.db = open_database(source)
    assert harness.statuses() == {"ann": "HELD"}, "what was sent since is not known there"
    assert find_mark(harness.db) is not None
