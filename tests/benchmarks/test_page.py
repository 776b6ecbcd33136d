"""Each measurement has its place on the page, and there is none without a measurement."""

from __future__ import annotations

import importlib
import re

from tests.benchmarks.__main__ import PARTS
from tests.benchmarks.page import PAGE, table


def test_every_part_has_its_place_on_the_page_and_is_a_module() -> None:
    assert re.findall(r"^<!-- measured: (\w+) -->$", PAGE.read_text(), re.MULTILINE) == list(PARTS)
    for module, *_ in PARTS.values():
        assert callable(importlib.import_module(f"tests.benchmarks.{module}").main)


def test_a_table_has_words_on_the_left_and_numbers_on_the_right() -> None:
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n"
