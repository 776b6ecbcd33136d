"""One of a thing is never told in the plural: the source is read for numbers with a plural behind them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kasoko_cli.domain.counts import count_of
from tests.cli.conftest import MISSPELT, well_written

PACKAGE = Path(__file__).parents[2] / "kasoko_cli"
#: What the program counts for people.
THINGS = (
    "bets|bettors|bytes|callbacks|characters|columns|days|entries|fields|hours|lines|markets|minutes|outcomes|pages"
    "|payments|payouts|people|problems|questions|requests|results|rows|runs|seconds|senders|sends|sheets|stakes"
    "|statements|tasks|things|times|units|users|wallets|winners"
)
PLURAL = re.compile(rf" (?:[a-z-]+ )?(?:{THINGS})\b")
#: What is never one, and why; and what only a developer reads.
NEVER_ONE = {
    "copy.bytes": "a database has thousands",
    "len(units)": "the listener and its timers",
    "len(written)": "a page for each command",
    "len(found.legs)": "told only of several",
    "len(checked.checks)": "every invariant",
    "incident.count": "told only of several",
    "self.count": "told only of several",
    "one.bets": "told only of several",
    "count": "told only of several",
    "len(group)": "told only of several",
    "len(names)": "told only of several",
    "len(found)": "told only where it is not one",
    "len(book.worksheets)": "told only where it is not one",
    "len(key)": "a key has 32 bytes or more",
    "len(text)": "a text that is too long",
    "len(cell)": "a cell that is too long",
    "len(cells)": "a row that is too long, or has not enough of a dozen columns",
    "len(row)": "a row of a file; told with the number of the header's",
    "most": "a bound",
    "max_bytes": "a bound",
    "unpacked / packed_bytes": "a bomb",
    "shape.width": "a header has many",
    "PLATFORM": "a name",
    "written.bytes": "a page of figures",
    "least": "a dividend, like 1.05",
    "round(seconds / 86400)": "hours are told up to two days",
    "seconds // 86400": "hours are told up to two days",
}


def _numbers(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Each value of an f-string that has a plural behind it: its line, what it is, the words."""
    guarded = {id(one) for found in ast.walk(tree) if isinstance(found, ast.IfExp) for one in ast.walk(found)}
    for text in ast.walk(tree):
        if isinstance(text, ast.JoinedStr) and id(text) not in guarded:
            for value, words in zip(text.values, text.values[1:], strict=False):
                if isinstance(value, ast.FormattedValue) and isinstance(words, ast.Constant):
                    yield text.lineno, ast.unparse(value.value), str(words.value)


def test_a_number_before_a_plural_is_told_by_count_of() -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{line}: {{{value}}}{words[:30]}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if "simulator" not in file.parts and "migrations" not in file.parts
        for line, value, words in _numbers(ast.parse(file.read_text(encoding="utf-8")))
        if PLURAL.match(words)
        and not re.match(r" (?:to|from|in|of|on|and) ", words)
        and value not in NEVER_ONE
        and not re.search(r"\b[A-Z_]{4,}\b", value)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 payouts"), (1, "1 payout"), (2, "2 payouts"), (1200, "1,200 payouts")]
)
def test_how_many_are_told_in_the_number_of_the_noun(number: int, told: str) -> None:
    assert count_of(number, "payout") == told
    assert count_of(number, "entry", "entries").endswith("entry" if number == 1 else "entries")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("1 payouts", "1 payout"),
        ("There is 1 rows.", "There are 11 rows."),
        ("It is done..", "It is done..."),
        ("No,, not that", "See ../kasoko.db, and there"),
        ("One , two", "One, two"),
        ("Ended.; again", "Ended; again"),
    ],
)
def test_what_is_misspelt_is_found_in_whatever_the_tests_of_the_command_line_print(wrong: str, right: str) -> None:
    assert MISSPELT.search(wrong)
    assert well_written(right) == right
