"""What a run tells while it goes on: how far it is, how fast, how it ends; and never at the cost of the run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.output.progress import Events, Outcomes, Tally, duration, progress
from tests.conftest import FixedClock


class Seconds:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_says_how_many_how_fast_how_long_and_how_they_ended() -> None:
    seconds = Seconds()
    tally = Tally("Sending", 10_000, now=seconds)
    seconds.now += 240
    tally(1_200, counts={"SENT": 1_190, "UNKNOWN": 10, "FAILED": 0})
    assert tally.line() == "Sending: 1,200 of 10,000, 5.0/s, 29 min left; 1,190 SENT, 10 UNKNOWN."


def test_the_rate_is_that_of_the_last_minute() -> None:
    """A pause of an hour in the middle does not make the rest look like a day."""
    seconds = Seconds()
    tally = Tally("Sending", 1_000, now=seconds)
    seconds.now += 3_600
    tally(1)
    for done in range(11, 611, 10):
        seconds.now += 1
        tally(done)
    assert 9.5 < tally.rate() <= 10
    assert tally.facts()[-1] == "40 s left"


def test_a_rate_that_is_not_known_yet_is_not_made_up() -> None:
    tally = Tally("Lines of bets.csv", now=Seconds())
    tally(5_000)
    assert tally.line() == "Lines of bets.csv: 5,000."


def test_what_cannot_be_counted_says_how_long_it_has_taken() -> None:
    seconds = Seconds()
    tally = Tally("Dividing the pool", now=seconds)
    seconds.now += 42
    assert tally.line() == "Dividing the pool: 42 s."


def test_each_part_of_a_work_has_its_own_count_and_rate() -> None:
    seconds = Seconds()
    tally = Tally("Dividing the pool", now=seconds)
    seconds.now += 3_600
    tally.step("Reading bets", 0, 100_000)
    seconds.now += 2
    tally.step("Reading bets", 50_000, 100_000)
    assert tally.line() == "Reading bets: 50,000 of 100,000, 25,000/s, 2 s left."
    tally.step("Booking", 0, 0)
    seconds.now += 3
    assert tally.line() == "Booking: 3 s."


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "0 s"), (89, "89 s"), (100, "2 min"), (5_400, "1 h 30 min"), (7_200, "2 h"), (400_000, "5 days")],
)
def test_a_length_of_time_is_told_as_exactly_as_it_is_known(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_off_a_terminal_there_is_a_line_now_and_then_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(CommandContext(), "Sending", 2, every_seconds=0.01) as tally:
        Outcomes(tally)("SENT")
        threading.Event().wait(0.3)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Sending: 1 of 2; 1 SENT.\n")


def test_a_short_run_off_a_terminal_says_nothing_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(CommandContext(), "Sending", 2) as tally:
        tally(1)
    with progress(CommandContext(quiet=True), "Sending", 2, every_seconds=0.01) as tally:
        threading.Event().wait(0.1)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_counts_and_what_is_said_meanwhile_stands_above_it(
    kasoko_on_a_terminal: Callable[..., tuple[int, str]],
) -> None:
    run = (
        "from kasoko_cli.cli import command\n"
        "from kasoko_cli.cli.output import render\n"
        "from kasoko_cli.cli.output.progress import Outcomes, progress\n"
        "with progress(command.CommandContext(), 'Sending [b]rain', 2) as tally:\n"
        "    outcomes = Outcomes(tally)\n    outcomes('SENT')\n"
        "    render.talk(command.CommandContext(), 'by the way')\n"
        "    outcomes('UNKNOWN')\n"
    )
    code, shown = kasoko_on_a_terminal(program=run)
    assert code == 0
    last = shown[shown.rindex("Sending [b]rain") :].splitlines()
    assert "2 of 2" in last[0]
    assert "1 SENT" in last[1]
    assert "1 UNKNOWN" in last[1]
    assert "by the way\r\n" in shown


def test_a_bar_goes_away_where_its_work_ends_in_an_error(
    kasoko_on_a_terminal: Callable[..., tuple[int, str]],
) -> None:
    run = (
        "from kasoko_cli.cli import command\n"
        "from kasoko_cli.cli.output import render\n"
        "from kasoko_cli.cli.output.progress import progress\n"
        "try:\n"
        "    with progress(command.CommandContext(), 'Sending', 2) as tally:\n"
        "        tally(1, counts={'SENT': 1})\n        raise SystemExit\n"
        "except SystemExit:\n    render.error('It broke.', 'Mend it.', kind='x', exit_code=1, json=False)\n"
    )
    _, shown = kasoko_on_a_terminal(program=run)
    before, _, after = shown.rpartition("1 SENT")
    assert before
    # Both lines of the bar are erased, one above the other, before anything else is said.
    assert after.split("Error")[0].count("\x1b[1A\x1b[2K") == 2


def test_a_dumb_terminal_gets_lines_and_no_color_gets_none(
    kasoko_on_a_terminal: Callable[..., tuple[int, str]],
) -> None:
    run = (
        "from kasoko_cli.cli import command\nfrom kasoko_cli.cli.output.progress import progress\n"
        "with progress(command.CommandContext(), 'Sending', 2) as tally:\n    tally(2, counts={'FAILED': 2})\n"
    )
    code, shown = kasoko_on_a_terminal(program=f"import os\nos.environ['TERM'] = 'dumb'\n{run}")
    assert (code, shown) == (0, "")
    code, shown = kasoko_on_a_terminal(program=run, NO_COLOR="1")
    assert code == 0
    assert "2 FAILED" in shown
    assert "\x1b[3" not in shown


# --- For programs --------------------------------------------------------------------------------


def test_events_are_a_json_object_a_line_and_the_last_is_the_answer(
    capsys: pytest.CaptureFixture[str], clock: FixedClock
) -> None:
    events = Events(clock, on=True)
    events("payout", {"payout_id": "rain.1.1", "became": "SENT"})
    events.answer({"exit_code": 0})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"event": "payout", "at": "2026-11-23T09:00:00Z", "payout_id": "rain.1.1", "became": "SENT"},
        {"event": "summary", "at": "2026-11-23T09:00:00Z", "exit_code": 0},
    ]


def test_events_that_were_not_asked_for_leave_the_answer_as_it_was(
    capsys: pytest.CaptureFixture[str], clock: FixedClock
) -> None:
    events = Events(clock, on=False)
    events("payout", {"payout_id": "rain.1.1"})
    assert not events.on_a_terminal
    events.answer({"exit_code": 0})
    assert capsys.readouterr().out == '{\n  "exit_code": 0\n}\n'
