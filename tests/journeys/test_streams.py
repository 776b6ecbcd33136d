"""Streams that are closed, full, or read by nobody any more: the work is done, and its exit code kept."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys

from tests.journeys.deployment_harness import PATIENCE_SECONDS, DeploymentHarness
from tests.journeys.test_processes import SLOWLY, assert_each_was_paid_once, owe, until

#: What a shell writes behind a command so that it cannot tell anything; `{gone}` is a pipe that nobody reads.
BROKEN = {
    "both are closed": ">&- 2>&-",
    "both are full": ">/dev/full 2>/dev/full",
    "nobody reads them": ">&{gone} 2>&{gone}",
}

#: What is run besides settle and payout, in each of these ways, and its exit code.
AFTERWARDS = (
    [(0, ("status", "m0"))],
    [(4, ("status", "nosuch")), (0, ("retry-failed", "--yes"))],
    [(0, ("status", "--json")), (0, ("reconcile", "--no-listen"))],
)


def run(deployed: DeploymentHarness, how: str, *words: str) -> tuple[int, str]:
    """Run the real program so; its exit code, and what it could tell."""
    reading, gone = os.pipe()
    os.close(reading)
    command = shlex.join([sys.executable, "-m", "kasoko_cli", *words])
    try:
        done = subprocess.run(
            ["bash", "-c", f"exec {command} {BROKEN[how].format(gone=gone)}"],
            cwd=deployed.folder,
            env=deployed.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            pass_fds=(gone,),
        )
    finally:
        os.close(gone)
    deployed.said += [done.stdout, done.stderr]
    return done.returncode, done.stdout + done.stderr


def test_a_line_of_cron_does_its_work_whatever_has_become_of_its_streams(bare: DeploymentHarness) -> None:
    bare.furnish()
    bare.start_simulator()
    bare.start_listener()
    for number, (how, more) in enumerate(zip(BROKEN, AFTERWARDS, strict=True)):
        market = f"m{number}"
        stakes = [("ann", "0712000001", "Yes", "100"), ("ben", "0712000002", "No", "50")]
        bare.open_market(market, "Yes", "No", stakes=stakes)
        bare.run("resolve", market, "Yes", "--yes")
        assert run(bare, how, "settle", market, "--yes")[0] == 0, how
        assert run(bare, how, "payout", market, "--yes", "--events" if number % 2 else "--quiet")[0] == 0, how
        for code, words in more:
            assert run(bare, how, *words)[0] == code, (how, words)
        assert len(bare.payments()) == number + 1, how
    bare.until_final()
    assert bare.ask("audit", "--deep", "--chain")["ok"]


def test_a_run_whose_terminal_is_torn_away_ends_between_payouts_and_leaves_nothing_open(
    bare: DeploymentHarness,
) -> None:
    bare.furnish(SLOWLY)
    bare.start_simulator()
    bare.start_listener()
    phones = owe(bare, 12)
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kasoko_cli", "payout", "rain", "--yes"],
        cwd=bare.folder,
        env={**bare.environ, "TERM": "xterm"},
        preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509 - nothing but that
    ) as process:
        os.close(theirs)
        until(lambda: len(bare.payments()) >= 2)
        os.close(mine)
        assert process.wait(timeout=PATIENCE_SECONDS) == 130
    assert len(bare.payments()) < 12
    bare.run("payout", "rain", "--yes")
    bare.until_final("rain")
    assert_each_was_paid_once(bare, phones)
