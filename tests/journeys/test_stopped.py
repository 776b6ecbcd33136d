"""A sender that stands still past its lease, as under a suspended laptop or a stopped process, and then goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx

from tests.journeys.street import Running, Street
from tests.journeys.test_processes import SLOWLY, until


def stands_still(running: Running) -> bool:
    """Whether the process is stopped."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return "State:\tT" in status


def test_what_a_person_put_into_the_wallet_while_its_sender_stood_still_does_not_leave_after_all(
    street: Street,
) -> None:
    """Spike arrest, the process is stopped past its lease, a person decides, and it goes on: nothing is sent."""
    street.furnish(SLOWLY)
    street.start_simulator()
    street.open_market(
        "rain", "Yes", "No", stakes=[("ann", "0712000001", "Yes", "100"), ("ben", "0712000002", "No", "50")]
    )
    street.settle("rain", "Yes")
    spike = {"fault": "spike_arrest", "endpoint": "b2c", "times": 1}
    httpx.post(f"{street.daraja_url}/_fault", json={"rules": [spike]}, trust_env=False).raise_for_status()
    # The first request is for the token, the second is refused, and before the third it stops.
    run = street.start("payout", "rain", "--yes", "--json", KASOKO_TEST_POINTS="stop:request.before:3")
    until(lambda: stands_still(run))

    def ended() -> bool:
        street.run("reconcile", "--no-listen", code=None)
        return bool(street.items("rain")["ann"]["status"] == "UNKNOWN")

    until(ended)
    why = ("--evidence", "the portal: nothing", "--reason", "its laptop sleeps")
    street.run("payout", "decide", "rain.1.1", "--not-paid", "--yes", *why)
    street.run("payout", "to-wallet", "rain.1.1", "--yes", "--reason", "the user asked for it")
    assert street.wallet("ann") == (14_250, 14_250)

    run.signal(signal.SIGCONT)
    done = run.wait()
    assert street.payments() == [], "the phone was paid beside the wallet"
    assert [one["became"] for one in done.json["run"]["sent"]] == ["WALLET"]
    assert street.rows("SELECT count(*) FROM incidents") == [(0,)]
    assert street.ask("audit", "--deep", "--chain")["ok"]
