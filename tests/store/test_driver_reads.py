"""Reading by the driver alone says what SQLAlchemy says, and leaves what is unusual to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kasoko_cli.cli.container import Container
from kasoko_cli.config import load_config
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.errors import DatabaseUnavailable, SchemaOutOfDate
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.reporting import status_views
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.overview import read_overview
from kasoko_cli.store.engine import driver_reads
from kasoko_cli.store.engine.database import Database
from tests.operations.conftest import harness  # noqa: F401 - a fixture
from tests.operations.payout_harness import ANN, BEN, CYN, PayoutHarness


def test_both_ways_of_reading_give_the_same_overview(harness: PayoutHarness, database_url: str, actor: Actor) -> None:  # noqa: F811
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    for user, code in (("ann", 0), ("ben", 2040)):
        attempt = harness.attempt(user)
        harness.post(
            CallbackKind.RESULT, attempt.id, harness.result(attempt, code=code, receiver=attempt.phone, desc="said so")
        )
    harness.post(
        CallbackKind.RESULT,
        harness.attempt("ben").id,
        harness.result(harness.attempt("ben"), code=0, receiver=BEN, desc="paid"),
    )
    switches.pause(OperationContext(harness.db, harness.clock, actor))
    heavy = status_views.overview(harness.db)
    with driver_reads.reading(database_url) as rows:
        light = read_overview(rows)
    assert light == heavy
    assert heavy.incidents
    assert heavy.switches
    assert heavy.callback_heard_at == harness.clock()


def test_it_cannot_write(db: Database, database_url: str) -> None:
    with driver_reads.reading(database_url) as rows, pytest.raises(Exception, match=r"(?i)read.?only"):
        rows("DELETE FROM markets")


def test_it_reads_one_unchanging_picture(db: Database, database_url: str, actor: Actor, harness: PayoutHarness) -> None:  # noqa: F811
    with driver_reads.reading(database_url) as rows:
        before = read_overview(rows)
        switches.pause(OperationContext(harness.db, harness.clock, actor))
        assert read_overview(rows) == before


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/kasoko.db",
        "sqlite:///kasoko.db?mode=ro",
        "postgresql://kasoko@127.0.0.1:1/kasoko",
        "mysql://kasoko@db/kasoko",
    ],
)
def test_what_is_unusual_is_left_to_the_other_way(url: str) -> None:
    with pytest.raises(driver_reads.NotPlain), driver_reads.reading(url):
        pass


def container(folder: Path, url: str) -> Container:
    return Container(load_config(environ={"KASOKO_DATABASE_URL": url}, folder=folder))


def test_a_database_that_is_not_there_is_told_as_ever_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="There is no database at"):
        container(tmp_path, f"sqlite:///{tmp_path}/kasoko.db").overview()
    assert list(tmp_path.iterdir()) == []


def test_tables_of_another_version_are_told_as_ever(tmp_path: Path, sqlite_template: Path) -> None:
    file = tmp_path / "kasoko.db"
    file.write_bytes(sqlite_template.read_bytes())
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(SchemaOutOfDate, match="has tables of version 9999"):
        container(tmp_path, f"sqlite:///{file}").overview()


def test_a_file_that_is_no_database_is_told_as_ever(tmp_path: Path) -> None:
    (tmp_path / "kasoko.db").write_text("not a database, but long enough to be looked at as one" * 100)
    with pytest.raises(DatabaseUnavailable, match="cannot be used"):
        container(tmp_path, f"sqlite:///{tmp_path}/kasoko.db").overview()
