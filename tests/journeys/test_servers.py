"""PostgreSQL as it is met in the field: behind a pooler, and with a host that stands still in a transaction."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.deployment_harness import PATIENCE_SECONDS, DeploymentHarness
from tests.journeys.test_processes import SLOWLY, assert_each_was_paid_once, owe, until
from tests.proof.databases import copied, on_server
from tests.proof.processes import Forker
from tests.store.pooler import has_pgbouncer, pgbouncer, small_pooler
from tests.store.test_server import standby_of

#: kasoko, which stands still in the transaction that claims, on a server that ends such a one after two seconds.
STANDS_STILL = """
import os, signal
from kasoko_cli.operations.payouts.claim import Claimer
from kasoko_cli.store.engine import database, server
server._LIMITS["write"] = (2, 600)
intend, stopped = Claimer._intend, []
def _intend(*arguments):
    claimed = intend(*arguments)
    if claimed and not stopped:
        stopped.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)
    return claimed
Claimer._intend = _intend
from kasoko_cli.__main__ import main
main()
"""


@pytest.fixture
def server_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """An empty database of PostgreSQL with all tables."""
    with copied(postgres_server, postgres_template) as address:
        yield address


@pytest.fixture(params=["ours", "PgBouncer"])
def pooled(
    request: pytest.FixtureRequest, server_url: str, tmp_path: Path, forker: Forker
) -> Iterator[DeploymentHarness]:
    """A deployment whose database stands behind a pooler in transaction mode."""
    if request.param == "PgBouncer" and not has_pgbouncer():
        pytest.skip("PgBouncer is not installed")
    with small_pooler(server_url) if request.param == "ours" else pgbouncer(server_url, tmp_path) as address:
        built = DeploymentHarness(tmp_path, address, forker)
        try:
            yield built
        finally:
            built.close()
        built.assert_discreet()


def test_two_hosts_and_a_listener_behind_a_pooler_pay_each_winner_once(pooled: DeploymentHarness) -> None:
    pooled.furnish(SLOWLY)
    pooled.start_simulator()
    phones = owe(pooled, 24)
    pooled.start_listener()
    runs = [pooled.start("payout", "rain", "--yes", "--json", KASOKO_HOST=host) for host in ("pay1", "pay2")]
    assert [run.wait().code for run in runs] == [0, 0]
    pooled.until_final("rain")
    assert pooled.ask("reconcile", "--no-listen")["open"] == []
    assert pooled.rows("SELECT count(*) FROM incidents") == [(0,)]
    assert_each_was_paid_once(pooled, phones)


def test_a_host_that_stands_still_while_it_claims_holds_nobody_up_and_sends_nothing_of_that_claim(
    server_url: str, tmp_path: Path, forker: Forker
) -> None:
    """The server ends its transaction, another host sends, and when it goes on it has claimed nothing."""
    deployed = DeploymentHarness(tmp_path, server_url, forker)
    try:
        deployed.furnish(SLOWLY)
        deployed.start_simulator()
        phones = owe(deployed, 6)
        deployed.start_listener()
        words = [sys.executable, "-c", STANDS_STILL, "payout", "rain", "--yes", "--json"]
        environ = {**deployed.environ, "KASOKO_HOST": "pay1"}
        with subprocess.Popen(words, cwd=deployed.folder, env=environ, stdout=subprocess.PIPE, text=True) as still:
            try:
                until(lambda: "State:\tT" in Path(f"/proc/{still.pid}/status").read_text())
                assert len(deployed.ask("payout", "rain", "--yes")["run"]["sent"]) == 6
                still.send_signal(signal.SIGCONT)
                out, _ = still.communicate(timeout=PATIENCE_SECONDS)
            finally:
                still.kill()
        assert (still.returncode, '"sent": []' in out) == (0, True), out
        deployed.until_final("rain")
        assert_each_was_paid_once(deployed, phones)
    finally:
        deployed.close()


def test_what_takes_no_writes_by_itself_pays_and_can_be_paused(server_url: str, tmp_path: Path, forker: Forker) -> None:
    """`default_transaction_read_only` of a database: each transaction says itself whether it writes."""
    name = server_url.rsplit("/", 1)[1].split("?")[0]
    on_server(server_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    deployed = DeploymentHarness(tmp_path, server_url, forker)
    try:
        deployed.furnish()
        deployed.start_simulator()
        phones = owe(deployed, 3)
        deployed.start_listener()
        deployed.run("pause", "--yes", "--reason", "lunch")
        assert "Sending is paused" in deployed.run("payout", "rain", "--yes", code=5).err
        deployed.run("resume", "--yes", "--reason", "lunch is over")
        deployed.run("payout", "rain", "--yes")
        deployed.until_final("rain")
        assert_each_was_paid_once(deployed, phones)
    finally:
        deployed.close()


@pytest.mark.skipif("KASOKO_TEST_DATABASE_URL" in os.environ, reason="a server of somebody's has no standby of ours")
def test_on_a_replica_nothing_is_sent_and_much_can_be_read(server_url: str, tmp_path: Path, forker: Forker) -> None:
    """What would stop `pause` stops `payout` first; on the primary both go on."""
    deployed = DeploymentHarness(tmp_path, server_url, forker)
    try:
        deployed.furnish()
        deployed.start_simulator()
        owe(deployed, 2)
        with standby_of(server_url) as replica:
            for words in (("pause", "--yes", "--reason", "lunch"), ("payout", "rain", "--yes"), ("reconcile", "--now")):
                told = deployed.run(*words, "--database", replica, code=3)
                assert "takes no writes" in told.err, told.err
            assert (
                deployed.run("status", "rain", "--database", replica, "--json").json["by_status"]["PENDING"]["count"]
                == 2
            )
            deployed.run("audit", "--database", replica)
        assert deployed.payments() == []
    finally:
        deployed.close()
