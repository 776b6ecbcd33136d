"""Tables for people, rows for pipes, documents for programs; text from outside is only text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from rich.color import Color

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.render import Column

COLUMNS = [Column("user"), Column("amount", right=True)]
ROWS = [("ann\twith a\nbreak", "142.50"), ("[red]ben[/red]\x1b[2J\u202e", None)]

#: A table on a terminal, with a name that would like to be markup.
ON_A_TERMINAL = (
    "from kasoko_cli.cli.output import render\n"
    "from kasoko_cli.cli.command import CommandContext\n"
    "render.table(CommandContext(), 'Wi[b]nners', [render.Column('user'), render.Column('amount', right=True)],"
    " [('[red]ann[/red]\\x1b[2J', '142.50')])\n"
    "render.card(CommandContext(), 'One', [('question', '[link=https://example.org]rain?[/link]')])\n"
)


class Status(StrEnum):
    """As in the domain."""

    PAID = "PAID"


@dataclass(frozen=True)
class Line:
    """As an operation answers."""

    user: str
    amount_cents: int
    at: datetime
    status: Status
    receipt: str | None = None


def test_off_a_terminal_a_table_is_rows_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(CommandContext(), "Winners", COLUMNS, ROWS)
    assert capsys.readouterr().out == ("user\tamount\nann\\twith a\\nbreak\t142.50\n[red]ben[/red]\\x1b[2J\\u202e\t-\n")


def test_off_a_terminal_a_card_is_names_and_values_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    render.card(CommandContext(), "Payout", [("user", "ann"), ("final", True), ("receipt", None)])
    assert capsys.readouterr().out == "user\tann\nfinal\tyes\nreceipt\t-\n"


def test_with_json_a_table_is_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    line = Line("ann [b]", 14_250, datetime(2026, 11, 23, 5, 12, 44, 999, tzinfo=UTC), Status.PAID)
    render.table(CommandContext(json=True), "Winners", COLUMNS, ROWS, document={"items": [line]})
    assert json.loads(capsys.readouterr().out) == {
        "items": [
            {
                "user": "ann [b]",
                "amount_cents": 14_250,
                "at": "2026-11-23T05:12:44Z",
                "status": "PAID",
                "receipt": None,
            }
        ]
    }


@pytest.mark.parametrize("amount", [Decimal("142.50"), 142.5])
def test_an_amount_that_is_not_whole_cents_never_gets_into_a_document(amount: object) -> None:
    with pytest.raises(TypeError, match="has no place in an answer: amounts are whole cents"):
        render.plain({"amount": amount})


def test_a_time_without_its_zone_never_gets_into_a_document() -> None:
    with pytest.raises(AssertionError):
        render.plain(datetime(2026, 11, 23))  # noqa: DTZ001


def test_on_a_terminal_text_from_outside_is_neither_markup_nor_control(
    kasoko_on_a_terminal: Callable[..., tuple[int, str]],
) -> None:
    code, shown = kasoko_on_a_terminal(program=ON_A_TERMINAL)
    assert code == 0
    assert "[red]ann[/red]\\x1b[2J" in shown
    assert "\x1b[2J" not in shown
    assert "[link=https://example.org]rain?[/link]" in shown
    assert "Wi[b]nners" in shown
    assert "\x1b[1m" in shown  # the header line is bold: this was a terminal


def test_no_color_is_honoured(kasoko_on_a_terminal: Callable[..., tuple[int, str]]) -> None:
    red = "from kasoko_cli.cli.output import render; render.error('no', 'yes', kind='bug', exit_code=1, json=False)"
    assert "\x1b[1;31mError:" in kasoko_on_a_terminal(program=red)[1]
    assert "31m" not in kasoko_on_a_terminal(program=red, NO_COLOR="1")[1]


@pytest.mark.parametrize(("typed", "answer"), [("y\n", "True"), ("YES\n", "True"), ("\n", "False"), ("no\n", "False")])
def test_a_question_on_a_terminal_is_no_unless_it_is_yes(
    kasoko_on_a_terminal: Callable[..., tuple[int, str]], typed: str, answer: str
) -> None:
    ask = "from kasoko_cli.cli.command import CommandContext; from kasoko_cli.cli.output import render"
    ask += "; print(render.confirm(CommandContext(), 'Send KES 142.00?'))"
    code, shown = kasoko_on_a_terminal(program=ask, prompt="[y/N] ", typed=typed)
    assert code == 0
    assert "Send KES 142.00? [y/N] " in shown
    assert shown.rstrip().endswith(answer)


def test_yes_is_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert render.confirm(CommandContext(yes=True), "Send?")
    assert capsys.readouterr().err == ""


def test_talk_goes_to_stderr_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    render.talk(CommandContext(), "two\nlines\x07")
    render.talk(CommandContext(quiet=True), "nothing")
    render.warn(CommandContext(), "careful")
    render.warn(CommandContext(quiet=True), "nothing")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "two\nlines\\x07\nWarning: careful\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Wanjikũ – ‘Ngũgĩ’ 東 🎉\u00a0x", "Wanjikũ – ‘Ngũgĩ’ 東 🎉\u00a0x"),
        ("\x1b]8;;https://example.org\x07x", "\\x1b]8;;https://example.org\\x07x"),
        ("a\u2066b\u200fc\u2028d\x85", "a\\u2066b\\u200fc\\u2028d\\x85"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_clean_shows_what_a_terminal_would_obey(text: str, shown: str) -> None:
    assert render.clean(text) == shown


def test_an_amount_is_shown_in_shillings_and_an_absent_one_as_a_dash() -> None:
    assert (render.kes(123_450), render.kes(None)) == ("1,234.50", "-")


# --- Terminals of every kind ---------------------------------------------------------------------

#: A table of eight columns, a warning and an error's first word.
WIDE = (
    "from kasoko_cli.cli.output import render\n"
    "from kasoko_cli.cli.command import CommandContext\n"
    "columns = [render.Column(f'column {n}') for n in range(8)]\n"
    "render.table(CommandContext(), 'Payouts', columns, [[f'value {n}' for n in range(7)] + [None]])\n"
    "render.warn(CommandContext(), 'look')\n"
)


def test_a_table_too_wide_for_a_narrow_terminal_is_shown_row_by_row(kasoko_on_a_terminal: Callable[..., Any]) -> None:
    _, shown = kasoko_on_a_terminal(program=WIDE, COLUMNS="40", NO_COLOR="1")
    lines = [line.rstrip() for line in shown.splitlines()]
    assert [" ".join(line.split()) for line in lines[:3]] == ["Payouts", "column 0 value 0", "column 1 value 1"]
    assert "column 7" not in shown, "what has no value is left out"
    assert max(map(len, lines)) <= 40


#: A table like that of payouts, and a long warning.
PAYOUTS = (
    "from kasoko_cli.cli.output import render\n"
    "from kasoko_cli.cli.command import CommandContext\n"
    "names = ['payout', 'user', 'phone', 'since', 'to phone', 'status', 'receipt or reason']\n"
    "columns = [render.Column(name, right=name == 'to phone') for name in names]\n"
    "row = ['rain.1.11', 'wanjiku', '2547****5678', '2026-11-23 13:00 EAT', '142.00']\n"
    "why = 'it cannot be reached, try it again when it can'\n"
    "rows = [[*row, 'COMPLETED', 'SKN0000016'], [*row, 'AWAITING_APPROVAL', why]]\n"
    "render.table(CommandContext(), 'Payouts', columns, rows)\n"
    "command = 'kasoko incident close 11 --reason WHY'\n"
    "render.warn(CommandContext(), f'{why}, and so on. See it: kasoko payout show rain.1.11. When that is done: '"
    " f'{command}')\n"
)


@pytest.mark.parametrize("width", [92, 100])
def test_phones_times_ids_and_amounts_are_never_folded(kasoko_on_a_terminal: Callable[..., Any], width: int) -> None:
    _, shown = kasoko_on_a_terminal(program=PAYOUTS, COLUMNS=str(width), NO_COLOR="1")
    lines = [line.rstrip() for line in shown.splitlines()]
    assert max(map(len, lines)) <= width
    for start in ("COMPLETED  SKN0000016", "AWAITING_  it cannot"):
        row = "rain.1.11  wanjiku  2547****5678  2026-11-23 13:00 EAT  142.00  "
        assert [line for line in lines if line.startswith(row + start)], shown


def test_a_table_whose_figures_do_not_fit_is_shown_row_by_row(kasoko_on_a_terminal: Callable[..., Any]) -> None:
    _, shown = kasoko_on_a_terminal(program=PAYOUTS, COLUMNS="75", NO_COLOR="1")
    assert "since              2026-11-23 13:00 EAT" in shown


def test_a_long_warning_breaks_between_words_on_a_terminal_and_never_in_a_command(
    kasoko_on_a_terminal: Callable[..., Any],
) -> None:
    _, shown = kasoko_on_a_terminal(program=PAYOUTS, COLUMNS="60", NO_COLOR="1")
    assert shown.replace("\r", "").endswith(
        "Warning: it cannot be reached, try it again when it can,\n"
        "and so on. See it: kasoko payout show rain.1.11. When\n"
        "that is done: kasoko incident close 11 --reason WHY\n"
    )


LONG = "kasoko payout decide --all-unknown-between 2026-11-23T10:00:00Z 2026-11-23T12:00:00Z --not-paid"
HINTS = {
    "Nothing was sent. Check the network, then: kasoko float --listen": ["kasoko float --listen"],
    "Ask who is to be paid; then kasoko user set-phone and kasoko payout release rain.1.1, or leave it as it is.": [
        "kasoko user set-phone",
        "kasoko payout release rain.1.1",
    ],
    f"Unknown is not failed. Once M-Pesa answers again, ask it: kasoko reconcile --now. What it never had: {LONG}": [
        "kasoko reconcile --now",
        LONG,
    ],
    "Say why, and for whom it is done, and by whom: kasoko pause --reason 'the float is being moved'": [
        "kasoko pause --reason 'the float is being moved'"
    ],
    "Stop kasoko listen, every run and every cron job, and try it again when all of them have ended.": [],
}


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("text", HINTS)
def test_a_hint_is_broken_into_even_lines_and_never_inside_a_command(text: str, width: int) -> None:
    lines = render._wrapped_line(f"Hint: {text}", width).split("\n")
    assert " ".join(lines) == f"Hint: {text}"
    for command in HINTS[text]:
        assert [line for line in lines if command in line], (command, lines)
    assert all(len(line) <= width or line.strip(".,") in HINTS[text] for line in lines)
    # No word stands alone under a full line where the lines above could have given it company.
    if len(lines) > 1 and not any("kasoko" in line for line in lines[-2:]):
        assert len(lines[-1]) > width // 3, lines


def test_a_table_that_fits_a_narrow_terminal_stays_one(kasoko_on_a_terminal: Callable[..., Any]) -> None:
    _, shown = kasoko_on_a_terminal(program=ON_A_TERMINAL, COLUMNS="40", NO_COLOR="1")
    assert "user" in shown.splitlines()[1]
    assert "amount" in shown.splitlines()[1]


def test_a_title_is_never_folded_to_the_width_of_its_table(kasoko_on_a_terminal: Callable[..., Any]) -> None:
    """A table without rows is as narrow as its header line."""
    _, shown = kasoko_on_a_terminal(
        program=(
            "from kasoko_cli.cli.output import render\n"
            "from kasoko_cli.cli.command import CommandContext\n"
            "render.table(CommandContext(), 'In the books, in cents', [render.Column('entry')], [])\n"
            "render.card(CommandContext(), 'What the books say', [('a', 'b')])\n"
        ),
        NO_COLOR="1",
    )
    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines == ["In the books, in cents", "entry", "What the books say", "a  b"]


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_is_where_it_is_wanted(
    kasoko_on_a_terminal: Callable[..., Any], environ: dict[str, str], coloured: bool
) -> None:
    _, shown = kasoko_on_a_terminal(program=WIDE, **environ)
    assert ("\x1b[38;5;130mWarning:" in shown) == coloured


def test_colour_can_be_had_off_a_terminal(kasoko: Callable[..., Any]) -> None:
    assert "\x1b[1mHint:\x1b[0m" in kasoko("frist", FORCE_COLOR="1").stderr
    assert "\x1b" not in kasoko("frist").stderr
    assert "\x1b[1mSettle and pay\x1b[0m" in kasoko("--help", FORCE_COLOR="1").stdout
    assert "\x1b[1mExamples\x1b[0m" in kasoko("audit", "--help", FORCE_COLOR="1").stdout
    assert "\x1b" not in kasoko("audit", "--help").stdout


@pytest.mark.parametrize("paper", [0.0, 1.0], ids=["dark", "light"])
def test_each_colour_is_read_on_a_dark_and_on_a_light_terminal(paper: float) -> None:
    """A contrast of 3.8 and more, as WCAG counts it, whatever a theme makes of the sixteen colours by name."""
    for name in (render.GOOD, render.UNDER_WAY, render.DOUBT, render.BAD):
        parts = [part / 255 for part in Color.parse(name).get_truecolor()]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        assert (max(light, paper) + 0.05) / (min(light, paper) + 0.05) > 3.8, name
