"""Claims about the other side of a statement's line: what is shown identifies, what differs excludes, no more."""

from __future__ import annotations

import pytest

from kasoko_cli.operations.reconciliation.statement_party import read_party

ANN = "254712000111"


@pytest.mark.parametrize(
    "shown",
    [
        "254712000111",
        "254712000111 - JANE DOE",
        "2547****0111 - JANE DOE",
        "2547 ***** 111 - JANE DOE",
        "254 712 000 111",
        "254-712-000-111",
        "+254 (712) 000111",
        "0712000111",
        "07** *** 111 O'BRIEN",
        "712000111",
        "2********111",
        "0********111",
        "********0111",
        "JANE DOE - 2547****0111",
        "JANE DOE (2547****111)",
        "D’SOUZA, 2547xxxxx111",
        "2547XXXXX111 - ALEX",
        "2547#####111",
        "2547•••••111",
        "2547…111",
        "2547-----111",
        "2547████0111",
        "'254712000111",
        "２５４７１２０００１１１",
        "00254712000111",
        "2540712000111",
        "X 0712000111",
        "**40712000111",
        "0254****111",
    ],
)
def test_a_receiver_is_known_in_every_spelling(shown: str) -> None:
    party = read_party(shown)
    assert party.is_surely(ANN)
    assert not party.may_be("254712000112"), "its last digit differs, and nothing else could be meant"
    assert "111" in party.ends
    assert "12000" not in party.masked


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "JANE DOE",
        "2.54712E+11",
        "************",
        "600111 - KASOKO LTD",
        "12345678 - 254712000999",
        "254712000999 - JANE 2 DOE",
        "2547****99 - 99 PROBLEMS",
        "2547****111 99 PROBLEMS",
        "2547****1 11",
        "2*********** 99 PROBLEMS",
        "JANE 99 *********111",
        "25471200011",
        "M254712000999",
        "254712000999 - " + "JANE " * 100,
    ],
)
def test_what_cannot_be_read_as_one_number_may_be_anybodys(shown: str) -> None:
    assert read_party(shown).may_be(ANN)


@pytest.mark.parametrize("shown", ["", "JANE DOE", "2547****11", "2547********", "JANE 111", "*** 1 1 1 2"])
def test_fewer_than_three_digits_at_its_end_name_nobody(shown: str) -> None:
    assert not read_party(shown).is_surely(ANN)


def test_a_number_that_was_erased_here_may_be_on_any_line() -> None:
    assert read_party("254712000999").may_be("erased:0123")
    assert not read_party("254712000999").is_surely("erased:0123")
