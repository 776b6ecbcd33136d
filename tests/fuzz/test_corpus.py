"""The corpus of the searches, replayed: every shape that was seen or found, and what chance makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.target import a_secret_in, one_body

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
BODIES = [file.read_bytes() for file in CORPUS]


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) >= 30


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_a_body_of_the_corpus_is_read_or_refused(file: Path) -> None:
    one_body(file.read_bytes())
    a_secret_in(file.read_bytes())


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(BODIES),
    st.sampled_from(BODIES),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), st.binary(max_size=8)), max_size=4),
    st.integers(0, 2000),
)
def test_bodies_that_were_cut_joined_and_damaged_are_read_or_refused(
    one: bytes, other: bytes, damages: list[tuple[int, int, bytes]], cut: int
) -> None:
    body = one[:cut] + other[cut:] if cut % 2 else one
    for at, length, put in damages:
        at %= len(body) + 1
        body = body[:at] + put + body[at + length :]
    one_body(body)
    a_secret_in(body)
