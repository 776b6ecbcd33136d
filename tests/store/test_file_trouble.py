"""A file that cannot be used is named as what it is: full, damaged, somebody else's, not to be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from kasoko_cli.errors import DatabaseUnavailable
from kasoko_cli.store.engine.database import open_database
from kasoko_cli.store.engine.file_trouble import trouble_with_file
from tests.cli.conftest import environment

STANDS = "What was committed before stands, and nothing else was changed."


@pytest.fixture
def file(sqlite_template: Path, tmp_path: Path) -> Path:
    file = tmp_path / "kasoko.db"
    file.write_bytes(sqlite_template.read_bytes())
    return file


def test_a_full_disk_is_named_and_nothing_is_lost(file: Path) -> None:
    db = open_database(f"sqlite:///{file}")

    def fill() -> None:
        with db.transaction() as session:
            session.execute(text("CREATE TABLE held (x TEXT)"))
            pages = session.execute(text("PRAGMA page_count")).scalar_one()
            session.execute(text(f"PRAGMA max_page_count = {pages}"))
            session.execute(text("INSERT INTO held VALUES (zeroblob(1000000))"))

    with pytest.raises(DatabaseUnavailable) as full:
        fill()
    assert full.value.message == f"The database {file} has no room: the disk that it lies on is full. {STANDS}"
    assert full.value.hint.startswith(f"Make room there (df -h {file.parent}).")
    with db.reading() as session:
        assert not session.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'held'")).all()
    db.close()


def test_a_disk_that_takes_no_more_is_named_by_commands(file: Path) -> None:
    """A limit on the size of files stands for a quota: a commit fails in the middle, and so does a copy."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        program = f"{sys.executable} -m kasoko_cli {' '.join(words)} --database sqlite:///{file}"
        shell = ["bash", "-c", f"ulimit -f 10; exec {program}"]
        environ = environment(PYTHONDONTWRITEBYTECODE="1")  # which would be cut off, too
        return subprocess.run(
            shell, cwd=file.parent, env=environ, capture_output=True, text=True, timeout=60, check=False
        )

    done = run("pause", "--reason", "full", "--yes")
    assert done.returncode == 3
    assert "the disk may be full, over a quota, or damaged (disk I/O error)" in done.stderr
    copied = run("db", "backup", "copy.db")
    assert copied.returncode == 3
    assert "The copy could not be written to copy.db: disk I/O error. It was removed" in copied.stderr
    assert not (file.parent / "copy.db").exists()


def test_whose_a_file_or_a_folder_is_that_may_not_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readonly = "attempt to write a readonly database"
    refused = {file}
    monkeypatch.setattr(os, "access", lambda path, _: path not in refused)
    me = "root" if os.geteuid() == 0 else None
    said, hint = trouble_with_file(file, readonly) or ("", "")
    assert said.startswith(f"cannot be written: {file} does not let its owner, {me or ''}")
    assert hint.startswith(f"chmod u+rw {file}.")
    refused = {file.parent}
    said, hint = trouble_with_file(file, readonly) or ("", "")
    assert said.startswith(f"cannot be written: the folder {file.parent} does not let its owner")
    assert hint.startswith(f"chmod u+rwx {file.parent}.")
    monkeypatch.setattr(os, "geteuid", lambda: 4_711)
    said, hint = trouble_with_file(file, readonly) or ("", "")
    assert said.endswith(", and this runs as uid 4711")
    assert hint.startswith("Run it as ")
    refused = set()
    assert trouble_with_file(file, readonly) is None
    assert trouble_with_file(file, "file is not a database") is None
