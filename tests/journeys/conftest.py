"""A street for each test, on both databases; its processes end with the test, whatever happens in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import _named, _on_server
from tests.journeys.street import Street
from tests.proof.processes import Forker


@pytest.fixture
def street(tmp_path: Path, database_url: str, forker: Forker) -> Iterator[Street]:
    """An empty street: no settings yet, a database with all tables."""
    folder = tmp_path / "street"
    folder.mkdir()
    built = Street(folder, database_url, forker)
    try:
        yield built
    finally:
        built.close()
    built.assert_discreet()


@pytest.fixture
def bare(tmp_path: Path, forker: Forker) -> Iterator[Street]:
    """A street whose database is not even there."""
    built = Street(tmp_path, f"sqlite:///{tmp_path}/kasoko.db", forker)
    try:
        yield built
    finally:
        built.close()
    built.assert_discreet()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def module_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Like `database_url`, once for all the tests of a module that change nothing in it."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("shared") / "kasoko.db"
        path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
        yield f"sqlite:///{path}"
        return
    server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
    name = f"kasoko_{uuid4().hex[:12]}"
    _on_server(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield _named(server, name)
    finally:
        _on_server(server, f"DROP DATABASE {name} WITH (FORCE)")
