"""Signals by the thousand, from outside: every loop of the real program ends, and nobody is paid twice."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import environment
from tests.daraja.test_attacks import certificate
from tests.journeys.deployment_harness import PATIENCE_SECONDS, DeploymentHarness
from tests.journeys.test_processes import NO_ANSWER, NO_RESULT, SLOWLY, assert_each_was_paid_once, owe, until

#: Sends signals by their numbers, one a millisecond, until the process is gone.
STORM = """
import os, sys, time
pid, numbers = int(sys.argv[1]), [int(word) for word in sys.argv[2:]]
while True:
    for number in numbers:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            raise SystemExit
        time.sleep(0.001)
"""
#: Waits shortly, again and again, as our loops do, while it is told to stop.
SHORT_WAITS = """
import sys, time
from kasoko_cli.cli.signals import stopping
with stopping() as stopper:
    print("ready", flush=True)
    heard, ends = 0, time.monotonic() + 2
    while heard <= 10 or time.monotonic() < ends:
        heard += stopper.wait(0.0001)
        stopper.clear()
    print(heard, flush=True)
    sys.stdin.read()
"""


@contextmanager
def storm(pid: int, *numbers: signal.Signals) -> Iterator[None]:
    """Somebody outside who does not stop sending these."""
    with subprocess.Popen([sys.executable, "-c", STORM, str(pid), *(str(int(one)) for one in numbers)]) as sender:
        try:
            yield
        finally:
            sender.kill()


def test_thousands_of_signals_do_not_hang_a_loop_of_short_waits() -> None:
    """A handler that takes the lock of the event that its own thread waits for hangs within a second of this."""
    with subprocess.Popen(
        [sys.executable, "-c", SHORT_WAITS], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as waiting:
        try:
            assert waiting.stdout is not None
            assert waiting.stdout.readline() == b"ready\n"
            with storm(waiting.pid, signal.SIGHUP):
                came = select.select([waiting.stdout], [], [], PATIENCE_SECONDS)[0]
            assert came, "it hangs"
            assert int(waiting.stdout.readline()) > 10
        finally:
            waiting.kill()


def test_a_listener_goes_on_under_thousands_of_requests_for_a_new_certificate(
    bare: DeploymentHarness, tmp_path: Path
) -> None:
    bare.furnish()
    cert_file, key_file = certificate(tmp_path)
    settings = (bare.folder / "kasoko.toml").read_text()
    tls = f'[listener]\ntls_cert_file = "{cert_file}"\ntls_key_file = "{key_file}"'
    bare.write("kasoko.toml", settings.replace("[listener]", tls))
    listener = bare.start_listener("--for", "3s")
    with storm(listener.process.pid, signal.SIGHUP):
        listener.wait_for(lambda one: any(line.startswith("Stopped: ") for line in one.err))
    done = listener.wait()
    assert done.code == 0
    assert "The certificate was read anew" in done.err


@pytest.mark.parametrize("words", [("listen", "--for", "30m"), ("simulator", "--port", "0", "--json")])
def test_what_waits_ends_under_thousands_of_stops(bare: DeploymentHarness, words: tuple[str, ...]) -> None:
    bare.furnish()
    running = bare.start(*words, afresh=True)
    running.wait_for(lambda one: bool(one.err if words[0] == "listen" else one.out))
    with storm(running.process.pid, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # 0 where it had ended before the second word; by the signal itself where that came as it was leaving.
        assert running.wait().code in {0, 130, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP}


def test_a_run_ends_under_thousands_of_stops_and_the_next_one_pays_each_once(bare: DeploymentHarness) -> None:
    bare.furnish(SLOWLY)
    bare.start_simulator()
    phones = owe(bare, 12)
    bare.start_listener()
    run = bare.start("payout", "rain", "--yes", "--json", afresh=True)
    until(lambda: len(bare.payments()) >= 4)
    with storm(run.process.pid, signal.SIGTERM, signal.SIGINT):
        assert run.wait().code in {130, -signal.SIGINT, -signal.SIGTERM}

    def paid() -> bool:
        bare.run("payout", "rain", "--yes", code=None)
        bare.run("reconcile", "--now", "--no-listen", code=None)
        return not bare.ask("status", "rain")["payouts"]["pending"]["count"]

    until(paid)
    assert_each_was_paid_once(bare, phones)


def test_reconcile_ends_under_thousands_of_stops(bare: DeploymentHarness) -> None:
    bare.furnish(SLOWLY)
    bare.start_simulator()
    stakes = [("ann", NO_RESULT, "Yes", "100"), ("ben", "0712000001", "No", "9")]
    bare.open_market("rain", "Yes", "No", stakes=stakes)
    bare.settle("rain", "Yes")
    bare.run("payout", "rain", "--yes")
    asking = bare.start("reconcile", "--now", "--listen-seconds", "600", afresh=True)
    asking.wait_for(lambda one: any(line.startswith("Listening on") for line in one.err))
    with storm(asking.process.pid, signal.SIGTERM, signal.SIGINT):
        assert asking.wait().code in {0, 7, 130, -signal.SIGINT, -signal.SIGTERM}


def test_a_terminal_that_goes_away_stops_a_run_between_payouts_as_sigterm_does(bare: DeploymentHarness) -> None:
    """And the shell passes it on once more: that is the same word."""
    bare.furnish(SLOWLY)
    bare.start_simulator()
    owe(bare, 12)
    run = bare.start("payout", "rain", "--yes", "--json", afresh=True)
    until(lambda: len(bare.payments()) >= 2)
    run.signal(signal.SIGHUP)
    run.wait_for(lambda one: any(line.startswith("Stopping: ") for line in one.err))
    run.signal(signal.SIGHUP)
    stopped = run.wait()
    assert (stopped.code, stopped.json["run"]["stopped"]) == (130, "interrupted")
    assert {one["became"] for one in stopped.json["run"]["sent"]} == {"SENT"}, "what was in flight was waited for"
    assert 2 <= len(bare.payments()) < 12


def test_a_third_word_ends_the_process_where_it_stands(bare: DeploymentHarness) -> None:
    """Whatever the unwinding waits for: here for a sender whose answer never comes, and for the listener."""
    bare.furnish(SLOWLY)
    bare.start_simulator()
    stakes = [("ann", NO_ANSWER, "Yes", "100"), ("ben", "0712000001", "No", "9")]
    bare.open_market("rain", "Yes", "No", stakes=stakes)
    bare.settle("rain", "Yes")
    run = bare.start("payout", "rain", "--yes", "--listen", afresh=True)
    until(lambda: len(bare.payments()) == 1)
    began = time.monotonic()
    while run.process.poll() is None:
        os.kill(run.process.pid, signal.SIGINT)
        time.sleep(0.35)
        assert time.monotonic() - began < PATIENCE_SECONDS
    assert run.wait().code in {130, -signal.SIGINT}
    bare.run("payout", "rain", "--yes", code=None)
    assert len(bare.payments()) == 1
