"""What every proof needs: processes at hand, and databases of both kinds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kasoko_cli.daraja.simulator.app import SimulatorSettings
from tests.proof.bench import Bench, quick
from tests.proof.databases import Kind, Templates

#: Makes a bench on a database of one kind.
MakeBench = Callable[..., Bench]


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[Templates]:
    """Databases of both kinds, to be copied."""
    found = Templates(tmp_path_factory.mktemp("templates"), postgres_server)
    yield found
    found.close()


@pytest.fixture
def make_bench(tmp_path: Path, templates: Templates) -> Iterator[MakeBench]:
    """Benches, each with a database and a simulator of its own; closed when the test ends."""
    made: list[Bench] = []
    numbers = itertools.count()

    def make(kind: Kind, settings: SimulatorSettings | None = None, *, confirm_above_kes: int = 10_000) -> Bench:
        bench = Bench(
            tmp_path / f"bench-{next(numbers)}",
            templates.new(kind),
            settings or quick(),
            confirm_above_kes=confirm_above_kes,
        )
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.close()
