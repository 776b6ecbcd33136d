"""Who a name means: one rule for every act that two people do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasoko_cli.domain.same_person import are_one, person_of


@pytest.mark.parametrize(
    "name",
    ["bob", "Bob ", "BOB", "  bob\t", "\uff22\uff4f\uff42", "b\u200bob", "bo\u00adb", "\u202ebob\u202c"],
)
def test_one_person_has_many_spellings(name: str) -> None:
    assert are_one(name, "bob")


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("Ann   at the\u00a0Desk", "ann at the desk"),
        ("STRASSE", "strasse"),
        ("Stra\u00dfe", "strasse"),
        ("Jose\u0301", "jos\u00e9"),
        (" \u200b ", ""),
    ],
)
def test_a_name_is_folded(name: str, person: str) -> None:
    assert person_of(name) == person


def test_two_people_are_two() -> None:
    assert not are_one("bob", "bobby")
    assert not are_one("jose", "jos\u00e9")


@given(st.text(max_size=20))
def test_folding_is_done_once_and_for_all(name: str) -> None:
    assert person_of(person_of(name)) == person_of(name)
