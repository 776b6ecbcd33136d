"""Somebody who has only README, `--help` and what was printed last brings a market from its files to paid phones."""

from __future__ import annotations

from tests.journeys.deployment_harness import DeploymentHarness
from tests.journeys.story import act_out
from tests.test_docs import ACTED, parts


def test_four_troubles_end_by_what_the_program_itself_printed_and_the_handbook_shows_it_as_it_was(
    bare: DeploymentHarness,
) -> None:
    """A wrong password, an empty float, an unknown payout, a dead phone: `follows` types only what was named."""
    shown = {name: text for _, name, text in parts() if name in ACTED}
    acted = {name: text + "\n" for name, text in act_out(bare).items()}
    assert acted == shown, "write it anew: python -m tests.test_docs"
