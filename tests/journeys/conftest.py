"""A deployment for each test, on both databases; its processes end with the test, whatever happens in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kasoko_cli.daraja.simulator.app import Simulator, SimulatorSettings
from tests.journeys.deployment_harness import DeploymentHarness
from tests.journeys.pages import Reader, move_in
from tests.proof.databases import copied
from tests.proof.processes import Forker

#: What each has of `rain` is KES 320.62; kamau's payout is rain.1.7, and only zoe loses.
_WINNERS = ("ann", "ben", "cyn", "dan", "eve", "fay", "kamau", "wanjiku")
#: The deployment is as old as the session: on a slow machine more than the five minutes that a market may take.
NOTHING_IS_LATE = "settlement_minutes = 600\ndue_minutes = 600\nunknown_minutes = 600\nlistener_minutes = 600\n"


@pytest.fixture
def deployed(tmp_path: Path, database_url: str, forker: Forker) -> Iterator[DeploymentHarness]:
    """An empty deployment: no settings yet, a database with all tables."""
    folder = tmp_path / "street"
    folder.mkdir()
    built = DeploymentHarness(folder, database_url, forker)
    try:
        yield built
    finally:
        built.close()
    built.assert_discreet()


@pytest.fixture
def bare(tmp_path: Path, forker: Forker) -> Iterator[DeploymentHarness]:
    """A deployment whose database is not even there."""
    built = DeploymentHarness(tmp_path, f"sqlite:///{tmp_path}/kasoko.db", forker)
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
    with copied(server, template) as address:
        yield address


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Path:
    """A folder with two folders in it: `rain` is resolved, and it is settled; nothing was sent."""
    both = tmp_path_factory.mktemp("town")
    folder = both / "settled"
    folder.mkdir()
    deployed = DeploymentHarness(folder, f"sqlite:///{folder}/kasoko.db", forker)
    deployed.furnish()
    stakes = [(user, f"07120001{n:02d}", "Yes", "300") for n, user in enumerate(_WINNERS)]
    deployed.open_market("rain", "Yes", "No", stakes=[*stakes, ("zoe", "0712000199", "No", "300")])
    deployed.run("resolve", "rain", "Yes", "--yes")
    shutil.copytree(folder, both / "resolved")
    deployed.run("settle", "rain", "--yes")
    return both


@pytest.fixture
def reader(builder: Path, tmp_path: Path, forker: Forker) -> Iterator[Reader]:
    """Somebody in a copy of that deployment, with a Daraja of their own."""
    folder = tmp_path / "town"
    shutil.copytree(builder / "settled", folder)
    deployed = DeploymentHarness(folder, f"sqlite:///{folder}/kasoko.db", forker)
    settings = folder / "kasoko.toml"
    kept = [line for line in settings.read_text().splitlines() if not line.startswith("port =")]
    port = "\n".join(kept).replace("[listener]", f"[listener]\nport = {deployed.listener_port}")
    settings.write_text(f"{port}\n[health]\n{NOTHING_IS_LATE}")
    simulator = Simulator(SimulatorSettings())
    try:
        running = simulator.start()
        url = running.url
        move_in(deployed, simulator, url)
        found = Reader(deployed, builder, here={"http://127.0.0.1:8322": url}, simulator=simulator, running=running)
        try:
            yield found
        finally:
            simulator.let_go()
            assert found.running is not None
            found.running.stop()
    finally:
        deployed.close()
    deployed.assert_discreet()
