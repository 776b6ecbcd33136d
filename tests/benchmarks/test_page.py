"""Each measurement has its place on the page, and there is none without a measurement."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import PARTS
from tests.benchmarks.page import PAGE, show, table, takes_markdown


def test_every_part_has_its_place_on_the_page_and_is_a_module() -> None:
    assert re.findall(r"^<!-- measured: (\w+) -->$", PAGE.read_text(), re.MULTILINE) == list(PARTS)
    for module, *_ in PARTS.values():
        assert callable(importlib.import_module(f"tests.benchmarks.{module}").main)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_has_the_columns_on_the_page_that_it_writes(part: str) -> None:
    module, *_ = PARTS[part]
    head = importlib.import_module(f"tests.benchmarks.{module}").HEAD

    assert f"<!-- measured: {part} -->\n\n| {' | '.join(head)} |\n" in PAGE.read_text()


def test_a_table_is_printed_and_written_where_it_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    takes_markdown(parser)

    for words in ([], ["--markdown", str(tmp_path / "table.md")]):
        show("| a |\n", parser.parse_args(words).markdown)

        assert capsys.readouterr().out == "| a |\n\n"
    assert (tmp_path / "table.md").read_text() == "| a |\n"


def test_a_table_has_words_on_the_left_and_numbers_on_the_right() -> None:
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n"
