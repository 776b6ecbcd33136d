"""A street for each test, on both databases; its processes end with the test, whatever happens in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.street import Street


@pytest.fixture
def street(tmp_path: Path, database_url: str) -> Iterator[Street]:
    """An empty street: no settings yet, a database with all tables."""
    folder = tmp_path / "street"
    folder.mkdir()
    built = Street(folder, database_url)
    try:
        yield built
    finally:
        built.close()
    built.assert_discreet()
