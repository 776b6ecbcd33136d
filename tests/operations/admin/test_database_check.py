"""The health of the database itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from kasoko_cli.operations.admin import database_check
from kasoko_cli.operations.admin.backups import backup
from kasoko_cli.store.engine.database import Database, open_database
from tests.operations.payout_harness import ANN, PayoutHarness

pytestmark = pytest.mark.on_both


def test_a_healthy_database_has_nothing_wrong(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    assert database_check.check(harness.db) == []


def test_tables_of_another_version_are_named(harness: PayoutHarness) -> None:
    with harness.db.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    [found] = database_check.check(harness.db)
    assert found.startswith("The tables are of version 0000, and this program needs ")


def test_a_row_that_points_to_nothing_is_found_on_sqlite(harness: PayoutHarness) -> None:
    if not harness.db.is_sqlite:
        pytest.skip("PostgreSQL does not let anybody write such a row")
    harness.owe({"ann": ANN})
    harness.books_hold_at_the_end = False
    raw = harness.db.engine.raw_connection()
    try:
        raw.execute("PRAGMA query_only=OFF")  # whoever had the connection last may only have read
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute("UPDATE payouts SET user_id = 'nobody'")
        raw.commit()
        raw.execute("PRAGMA foreign_keys=ON")
    finally:
        raw.close()
    assert database_check.check(harness.db) == ["A row of payouts points to a row of users that is not there."]


def test_a_damaged_file_is_found(harness: PayoutHarness, tmp_path: Path) -> None:
    if not harness.db.is_sqlite:
        pytest.skip("a server guards its own files")
    harness.owe({"ann": ANN})
    file = tmp_path / "copy.db"
    backup(harness.db, file, with_audit=False)
    with harness.db.reading() as session:
        page = session.execute(text("SELECT rootpage FROM sqlite_master WHERE name = 'ix_payouts_user'")).scalar_one()
        size = session.execute(text("PRAGMA page_size")).scalar_one()
    content = bytearray(file.read_bytes())
    content[(page - 1) * size + 100 : page * size] = b"\x07" * (size - 100)
    file.write_bytes(content)
    damaged: Database = open_database(f"sqlite:///{file}")
    try:
        assert any(line.startswith("SQLite says: ") for line in database_check.check(damaged))
    finally:
        damaged.close()
