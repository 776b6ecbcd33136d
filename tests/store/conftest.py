"""An empty place for a database, of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.proof.databases import named, on_server


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without a single table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    server, name = request.getfixturevalue("postgres_server"), f"kasoko_empty_{uuid4().hex[:10]}"
    on_server(server, f"CREATE DATABASE {name}")
    try:
        yield named(server, name)
    finally:
        on_server(server, f"DROP DATABASE {name} WITH (FORCE)")
