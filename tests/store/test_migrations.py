"""Migrations go up, down and up again, and what they make is what the tables say, on both databases."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, text
from sqlmodel import SQLModel

from kasoko_cli.errors import DatabaseUnavailable
from kasoko_cli.store.engine.database import Database, head_version, schema_version, upgrade
from tests.proof.databases import named, on_server


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", "kasoko_cli:store/migrations")
    return config


def _migrate(url: str, to: str) -> None:
    db, config = Database(url), _alembic()
    with db.engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if to == "base" else command.upgrade)(config, to)
    db.close()


def _plain(sql: str) -> str:
    """SQL without what only says that text may also be called VARCHAR."""
    return re.sub(r"::text(\[\])?|::character varying(\[\])?|[()\s]", "", sql).replace("VARCHAR", "TEXT")


def _shape(engine: Engine) -> dict[str, Any]:
    """Everything that the database itself can tell of its tables."""
    shape: dict[str, Any] = {}
    inspector = inspect(engine)
    for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        shape[table] = {
            "columns": [
                (column["name"], _plain(str(column["type"])), column["nullable"], column["default"])
                for column in inspector.get_columns(table)
            ],
            "key": inspector.get_pk_constraint(table),
            "checks": sorted((c["name"], _plain(c["sqltext"])) for c in inspector.get_check_constraints(table)),
            "uniques": sorted((u["name"], u["column_names"]) for u in inspector.get_unique_constraints(table)),
            "foreign": sorted(
                # SQLite does not tell the name of a reference that came with its column.
                (f["constrained_columns"], f["referred_table"], "" if engine.name == "sqlite" else f["name"])
                for f in inspector.get_foreign_keys(table)
            ),
            "indexes": sorted(
                (
                    str(i["name"]),
                    i["column_names"],
                    i["unique"],
                    _plain(str({k: str(v) for k, v in i["dialect_options"].items()})),
                )
                for i in inspector.get_indexes(table)
            ),
        }
    return shape


def test_migrations_go_up_down_and_up_again(empty_url: str) -> None:
    db = Database(empty_url)
    try:
        assert upgrade(empty_url) == (None, head_version())
        first = _shape(db.engine)
        _migrate(empty_url, "base")
        assert set(inspect(db.engine).get_table_names()) == {"alembic_version"}
        assert schema_version(db) is None
        if not db.is_sqlite:
            with db.engine.connect() as connection:
                left = text("SELECT count(*) FROM pg_proc WHERE proname LIKE 'kasoko%'")
                assert connection.execute(left).scalar_one() == 0
        assert upgrade(empty_url) == (None, head_version())
        assert _shape(db.engine) == first
    finally:
        db.close()


def test_an_upgrade_of_what_is_up_to_date_does_nothing(database_url: str) -> None:
    assert upgrade(database_url) == (head_version(), head_version())


def test_what_the_migrations_make_is_what_the_tables_say(
    database_url: str, db: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = _alembic()
    with db.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.check(config)  # raises if a new migration would have something to do
    if db.is_sqlite:
        other = create_engine(f"sqlite:///{tmp_path / 'from-tables.db'}")
    else:
        server, name = request.getfixturevalue("postgres_server"), f"{db.url.database}_tables"
        on_server(server, f"CREATE DATABASE {name}")
        other = create_engine(Database(named(server, name)).url)
    try:
        SQLModel.metadata.create_all(other)
        assert _shape(db.engine) == _shape(other)
    finally:
        other.dispose()
        if not db.is_sqlite:
            on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


def test_the_newest_migration_is_the_version_that_this_program_asks_for() -> None:
    script = ScriptDirectory.from_config(_alembic())
    assert script.get_heads() == [head_version()]


def test_each_new_database_is_a_deployment_of_its_own(tmp_path: Path) -> None:
    names = set()
    for file in ("one.db", "two.db"):
        upgrade(url := f"sqlite:///{tmp_path / file}")
        db = Database(url)
        with db.reading() as session:
            names.add(session.execute(text("SELECT deployment_id FROM deployment")).scalar_one())
        db.close()
    assert len(names) == 2


def test_an_upgrade_that_fails_half_way_leaves_the_tables_as_they_were(empty_url: str) -> None:
    _migrate(empty_url, "0003")
    db = Database(empty_url)
    try:
        with db.engine.begin() as connection:
            connection.execute(text("CREATE TABLE statements (id INTEGER)"))  # in the way of a later one
        before = _shape(db.engine)
        with pytest.raises(DatabaseUnavailable, match="already exists"):
            upgrade(empty_url)
        assert (schema_version(db), _shape(db.engine)) == ("0003", before)
    finally:
        db.close()


def test_two_processes_that_upgrade_at_once_both_end_well(empty_url: str) -> None:
    program = (
        "import sys; from kasoko_cli.store.engine.database import head_version, upgrade; import alembic.command;"
        " print('ready', flush=True); sys.stdin.readline(); print(upgrade(sys.argv[1])[1] == head_version())"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:  # the line goes out to all before anybody is waited for
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    for run in runs:
        out, trouble = run.communicate(timeout=60)
        assert (out, trouble, run.returncode) == ("True\n", "", 0)
    db = Database(empty_url)
    with db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM deployment")).scalar_one() == 1
    db.close()
