"""What cron mails of a run: a headline that its exit code does not contradict."""

from __future__ import annotations

import itertools
import re

import pytest

from kasoko_cli.cli.output import cron_mail
from kasoko_cli.operations.payouts.run import Run, Stop
from kasoko_cli.operations.payouts.run_report import End, exit_code_of

STATES = ("COMPLETED", "FAILED", "UNKNOWN")
ENDS = [(), *itertools.product(STATES, repeat=1), *itertools.product(STATES, repeat=2)]


@pytest.mark.parametrize("held", [0, 1])
@pytest.mark.parametrize("reaped", [0, 2])
@pytest.mark.parametrize("stopped", [Stop.DONE, Stop.ACCOUNT, Stop.TIME])
@pytest.mark.parametrize("states", ENDS, ids="-".join)
def test_a_headline_says_why_somebody_has_to_look(
    held: int, reaped: int, stopped: Stop, states: tuple[str, ...]
) -> None:
    run = Run(held=held, reaped=reaped, stopped=stopped)
    ends = [End(f"rain.1.{n}", state, 11_400, "1", "why", None) for n, state in enumerate(states, start=1)]
    if not cron_mail.needs_somebody(run, ends):
        assert exit_code_of(run, ends) in (0, 10)
        return
    assert exit_code_of(run, ends) in (6, 7)
    headline = cron_mail.run_mail(run, ends).splitlines()[0]
    assert headline.startswith("kasoko: ")
    assert not re.search(r"\b0 ", headline), headline
    troubled = sum(state != "COMPLETED" for state in states)
    assert (f"{troubled} need a look" in headline) == bool(troubled)
    assert ("2 payouts of a sender that stopped in the middle may have moved" in headline) == bool(reaped)
    assert ("1 payout held back" in headline) == bool(held)


def test_what_was_held_back_is_named_where_nothing_else_happened() -> None:
    assert (
        cron_mail.run_mail(Run(held=3), []) == "kasoko: 3 payouts held back, since what is known of them is in doubt."
    )
