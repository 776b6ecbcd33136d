"""A world on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.houses import House, PostgresHouse, SqliteHouse
from tests.model.world import World


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world on each kind of database."""
    house: House
    if request.param == "sqlite":
        house = SqliteHouse(request.getfixturevalue("sqlite_template"), tmp_path)
    else:
        house = PostgresHouse(request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template"))
    built = World(house)
    try:
        yield built
    finally:
        built.close()
