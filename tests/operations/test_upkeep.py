"""A copy of the database while others work on it, and its health."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from sqlalchemy import text

from kasoko_cli.errors import ConfigurationError, Refused
from kasoko_cli.operations import upkeep
from kasoko_cli.operations.audit import audit
from kasoko_cli.store.database import Database, open_database
from tests.operations.road import ANN, BEN, Road


def test_a_copy_is_the_whole_database_and_readable_by_its_owner_only(road: Road, tmp_path: Path) -> None:
    road.owe({"ann": ANN, "ben": BEN})
    road.send()
    road.deliver()
    file = tmp_path / "copy.db"
    if not road.db.is_sqlite:
        with pytest.raises(Refused) as refused:
            upkeep.backup(road.db, file)
        assert refused.value.hint.startswith(f"pg_dump --format=custom --file={file}")
        assert not file.exists()
        return
    # Others have it open, and one of them is writing.
    with road.db.transaction() as session:
        session.execute(text("UPDATE payouts SET note = 'not committed'"))
        size = upkeep.backup(road.db, file)
    assert size == file.stat().st_size > 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    copy = open_database(f"sqlite:///{file}")
    try:
        again = Road(copy, road.clock, road.new_id, road.act)
        assert again.money() == road.money()
        assert (again.statuses(), again.payout("ann").note) == (road.statuses(), None)
        assert audit(copy, deep=True).ok
        assert upkeep.check(copy) == []
    finally:
        copy.close()


def test_a_copy_never_takes_the_place_of_a_file(road: Road, tmp_path: Path) -> None:
    file = tmp_path / "yesterday.db"
    file.write_text("yesterday")
    with pytest.raises(Refused):
        upkeep.backup(road.db, file)
    assert file.read_text() == "yesterday"


def test_a_copy_into_a_folder_that_is_not_there_says_so(road: Road, tmp_path: Path) -> None:
    if not road.db.is_sqlite:
        pytest.skip("PostgreSQL has its own tool for a copy")
    with pytest.raises(ConfigurationError, match="cannot be written: No such file or directory"):
        upkeep.backup(road.db, tmp_path / "nowhere" / "copy.db")


def test_a_healthy_database_has_nothing_wrong(road: Road) -> None:
    road.owe({"ann": ANN})
    assert upkeep.check(road.db) == []


def test_tables_of_another_version_are_named(road: Road) -> None:
    with road.db.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    [found] = upkeep.check(road.db)
    assert found.startswith("The tables are of version 0000, and this program needs ")


def test_a_row_that_points_to_nothing_is_found_on_sqlite(road: Road) -> None:
    if not road.db.is_sqlite:
        pytest.skip("PostgreSQL does not let anybody write such a row")
    road.owe({"ann": ANN})
    road.books_hold_at_the_end = False
    raw = road.db.engine.raw_connection()
    try:
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute("UPDATE payouts SET user_id = 'nobody'")
        raw.commit()
        raw.execute("PRAGMA foreign_keys=ON")
    finally:
        raw.close()
    assert upkeep.check(road.db) == ["A row of payouts points to a row of users that is not there."]


def test_a_damaged_file_is_found(road: Road, tmp_path: Path) -> None:
    if not road.db.is_sqlite:
        pytest.skip("a server guards its own files")
    road.owe({"ann": ANN})
    file = tmp_path / "copy.db"
    upkeep.backup(road.db, file)
    with road.db.reading() as session:
        page = session.execute(text("SELECT rootpage FROM sqlite_master WHERE name = 'ix_payouts_user'")).scalar_one()
        size = session.execute(text("PRAGMA page_size")).scalar_one()
    content = bytearray(file.read_bytes())
    content[(page - 1) * size + 100 : page * size] = b"\x07" * (size - 100)
    file.write_bytes(content)
    damaged: Database = open_database(f"sqlite:///{file}")
    try:
        assert any(line.startswith("SQLite says: ") for line in upkeep.check(damaged))
    finally:
        damaged.close()
