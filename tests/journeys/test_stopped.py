"""A sender that stands still past its lease, as under a suspended laptop or a stopped process, and then goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from tests.journeys.deployment_harness import DeploymentHarness, Running
from tests.journeys.test_processes import SLOWLY, until


def stands_still(running: Running) -> bool:
    """Whether the process is stopped."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return "State:\tT" in status


@pytest.mark.exhaustive_on("sqlite")
def test_what_a_person_put_into_the_wallet_while_its_sender_stood_still_does_not_leave_after_all(
    deployed: DeploymentHarness,
) -> None:
    """Spike arrest, the process is stopped past its lease, a person decides, and it goes on: nothing is sent."""
    deployed.furnish(SLOWLY)
    deployed.start_simulator()
    deployed.open_market(
        "rain", "Yes", "No", stakes=[("ann", "0712000001", "Yes", "100"), ("ben", "0712000002", "No", "50")]
    )
    deployed.settle("rain", "Yes")
    spike = {"fault": "spike_arrest", "endpoint": "b2c", "times": 1}
    httpx.post(f"{deployed.daraja_url}/_fault", json={"rules": [spike]}, trust_env=False).raise_for_status()
    # The first request is for the token, the second is refused, and before the third it stops.
    run = deployed.start("payout", "rain", "--yes", "--json", KASOKO_TEST_POINTS="stop:request.before:3")
    until(lambda: stands_still(run))

    def ended() -> bool:
        deployed.run("reconcile", "--no-listen", code=None)
        return bool(deployed.items("rain")["ann"]["status"] == "UNKNOWN")

    until(ended)
    why = ("--evidence", "the portal: nothing", "--reason", "its laptop sleeps")
    deployed.run("payout", "decide", "rain.1.1", "--not-paid", "--yes", *why)
    deployed.run("payout", "to-wallet", "rain.1.1", "--yes", "--reason", "the user asked for it")
    assert deployed.wallet("ann") == (14_250, 14_250)

    run.signal(signal.SIGCONT)
    done = run.wait()
    assert deployed.payments() == [], "the phone was paid beside the wallet"
    assert [one["became"] for one in done.json["run"]["sent"]] == ["WALLET"]
    assert deployed.rows("SELECT count(*) FROM incidents") == [(0,)]
    assert deployed.ask("audit", "--deep", "--chain")["ok"]
