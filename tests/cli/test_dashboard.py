"""The live board: everything at once, on narrow and wide terminals, and gone without a trace at Ctrl-C."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.commands.reports import dashboard
from kasoko_cli.cli.output import render
from kasoko_cli.operations.account.balances import FloatReport, Reading
from kasoko_cli.operations.reporting.dashboard import Board, Oldest
from kasoko_cli.operations.shared.overview import Amount, Concern, Groups, MarketRow, Overview, RunFacts, SwitchFacts
from tests.cli.conftest import Kasoko

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def market(slug: str, pending: int) -> MarketRow:
    groups = Groups(Amount(pending, pending * 1_234_500), Amount(9_000, 123_456_700), Amount(3, 42_000))
    return MarketRow(slug, slug, "RESOLVED", NOW, True, groups)


def a_board(markets: int = 3) -> Board:
    """A day with everything in it."""
    rows = [market(f"a-market-with-quite-a-long-name-number-{n}", n) for n in range(markets)]
    states = {"PENDING": Amount(40, 49_380_000), "UNKNOWN": Amount(2, 28_500), "COMPLETED": Amount(9_000, 123_456_700)}
    found = Overview(
        markets=rows,
        payouts=rows[0].payouts,
        by_status=states,
        incidents=[
            Concern(
                4, "paid_twice", "the attempt \x1b[2J was paid twice", "rain.1.1", NOW, 3, NOW, "and again", holds=True
            )
        ],
        switches=[SwitchFacts("pause", "the float is being moved", "amina", NOW)],
        callbacks_waiting=2,
        callback_heard_at=NOW,
        runs=[
            RunFacts("1", "payout", "rain", "host-a", 7, "cron", NOW - 3 * MINUTE, NOW, "sending", {"SENT": 40}),
            RunFacts("2", "listen", None, "host-b", 8, "amina", NOW - HOUR, NOW - HOUR, "listening", {}),
        ],
    )
    reading = Reading(9_876_500, 0, 0, NOW - timedelta(minutes=5), 300, "balance query")
    the_float = FloatReport(reading, 9_000_000, 0, 9_000_000, 0, [], 0, "2023-08-01")
    return Board(NOW, found, Oldest("rain.1.3", NOW - timedelta(hours=2), 7_200), 12, the_float)


def drawn(width: int, height: int, found: Board) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, color_system=None)
    console.print(dashboard.drawn(found, 5, width, height))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_board_fits_the_terminal_and_has_everything(width: int) -> None:
    shown = drawn(width, 40, a_board())
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    for text in (
        "2026-11-24 12:00:00 EAT",
        "STOPPED: pause by amina, the float is being moved",
        "2, KES 285.00; the oldest rain.1.3, 2 h",
        "heard from M-Pesa 12 s ago; not applied yet: 2 results",
        "1 open",
        "\\x1b[2J was paid twice",
        "KES 90,000.00 to count on; M-Pesa said KES 98,765.00, 5 min ago",
        "payout rain on host-a, 3 min, sending: 40 SENT",
        "not heard of, perhaps dead",
        "COMPLETED",
        "1,234,567.00",
        "a-market-with-quite-a-long",
        "pending",
    ):
        assert text in shown, text
    assert "…" not in shown.split("Markets")[0], "an amount or a word is cut"


def test_more_markets_than_there_is_room_for_are_counted_and_those_with_work_come_first() -> None:
    shown = drawn(80, 24, a_board(200))
    assert len(shown.splitlines()) <= 24
    assert "and 198 more: kasoko status" in shown
    assert "number-0 " not in shown, "what has nothing pending waits behind"


def test_what_is_not_known_is_said_and_not_taken_as_zero() -> None:
    found = a_board()
    quiet = Overview([], found.overview.payouts, {}, [], [], callbacks_waiting=0, callback_heard_at=None, runs=[])
    nothing = FloatReport(None, None, 0, 0, None, [], None, "2023-08-01")
    shown = drawn(80, 24, Board(NOW, quiet, None, None, nothing))
    assert "not known: no balance of M-Pesa was ever read; kasoko float" in shown
    assert "never heard from M-Pesa" in shown
    assert "allowed" in shown
    assert "no run" in shown


def test_off_a_terminal_it_is_one_snapshot(kasoko: Kasoko, tmp_path: Path, sqlite_template: Path) -> None:
    (tmp_path / "kasoko.db").write_bytes(sqlite_template.read_bytes())
    done = kasoko("status", "--watch")
    assert done.returncode == 0
    assert "listener\tnever heard from M-Pesa\n" in done.stdout
    told = json.loads(kasoko("status", "--watch", "--json").stdout)
    assert told["oldest_unknown"] is None
    assert told["overview"]["markets"] == []


def test_ctrl_c_ends_it_and_leaves_the_terminal_as_it_was(
    kasoko_on_a_terminal: Callable[..., tuple[int, str]], tmp_path: Path, sqlite_template: Path
) -> None:
    (tmp_path / "kasoko.db").write_bytes(sqlite_template.read_bytes())
    run = (
        "import os, signal, sys\n"
        "from kasoko_cli.cli.commands.reports import dashboard\n"
        "real = dashboard.drawn\n"
        "def drawn(*words):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(*words)\n"
        "dashboard.drawn = drawn\n"
        "sys.argv = ['kasoko', 'status', '--watch', '--every', '60']\n"
        "from kasoko_cli.__main__ import main; main()\n"
    )
    code, shown = kasoko_on_a_terminal(program=run)
    assert code == 0, shown
    assert "\x1b[?1049h" in shown, "its own screen"
    assert shown.index("\x1b[?1049l") > shown.index("\x1b[?1049h"), "and back to ours"
    assert "\x1b[?25h" in shown, "with a cursor"
    assert "Traceback" not in shown


def test_the_document_of_the_board_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    render.document(a_board())
    assert json.loads(capsys.readouterr().out)["heard_seconds"] == 12
    assert CommandContext().json is False
