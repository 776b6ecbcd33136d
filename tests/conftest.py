"""What every test may ask for: a database of each kind, a clock that stands still, ids that count."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine import database
from kasoko_cli.store.engine.database import Database
from tests import compiled
from tests.proof.databases import copied, named, on_server, postgres_running
from tests.proof.processes import Forker

OPERATIONS = Path(__file__).parent / "operations"

# Under `nohup` every process that a test starts would ignore SIGHUP, and tests of it would wait for nothing.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The same examples on every machine; a longer run asks for more with --hypothesis-profile=long.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")
compiled.share()
# Whatever the shell says: what every worker and each process of a test imports is compiled once.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many workers `-n auto` means: two a processor, since the journeys wait as long as they work."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the exhaustive part what a test says with `exhaustive_on`, and an operation's tests on PostgreSQL.

    What differs on a server is shown before that by the tests of the store, of races, of whole processes and of
    crashes, and by the modules of operations that say `on_both`.
    """
    for item in items:
        if not (isinstance(item, pytest.Function) and hasattr(item, "callspec")):
            continue
        kinds = item.callspec.params.values()
        said = item.get_closest_marker("exhaustive_on")
        is_operation = item.path.is_relative_to(OPERATIONS) and item.get_closest_marker("on_both") is None
        if (said is not None and said.args[0] in kinds) or (said is None and is_operation and "postgres" in kinds):
            item.add_marker("exhaustive")


class FixedClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now: datetime = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float = 0, **more: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds, **more)


class CountedIds:
    """Ids that count: the same in every run of a test."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        return f"{next(self._numbers):016x}"


@pytest.fixture
def clock() -> FixedClock:
    """Noon in Nairobi, standing still."""
    return FixedClock()


@pytest.fixture
def new_id() -> CountedIds:
    """Ids that count from one."""
    return CountedIds()


@pytest.fixture
def actor() -> Actor:
    """Somebody acts."""
    return Actor("tester", "a test")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a PostgreSQL server: the one of KASOKO_TEST_DATABASE_URL, or one started from pip alone."""
    with postgres_running() as address:
        yield address


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """The name of a database with all tables, to be copied for each test."""
    name = f"kasoko_template_{uuid4().hex[:8]}"
    on_server(postgres_server, f"CREATE DATABASE {name}")
    database.upgrade(named(postgres_server, name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables, to be copied for each test."""
    path = tmp_path_factory.mktemp("template") / "kasoko.db"
    database.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def forker(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, postgres_server: str, postgres_template: str
) -> Iterator[Forker]:
    """A fork server: processes of the program that need not import everything again, nor compile its statements."""
    path = tmp_path_factory.mktemp("forker") / "kasoko.db"
    path.write_bytes(sqlite_template.read_bytes())
    with copied(postgres_server, postgres_template) as address:
        made = Forker(f"sqlite:///{path}", address)
    with contextlib.closing(made):
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database with all tables: each test runs on both kinds."""
    if request.param == "sqlite":
        template = request.getfixturevalue("sqlite_template")
        path = tmp_path / "kasoko.db"
        path.write_bytes(template.read_bytes())
        yield f"sqlite:///{path}"
        return
    server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
    with copied(server, template) as address:
        yield address


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """An empty database with all tables, of both kinds in turn."""
    opened = database.open_database(database_url)
    try:
        yield opened
    finally:
        opened.close()
