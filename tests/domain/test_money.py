"""Amounts as text: read exactly or refused, and written so that they read back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasoko_cli.domain.money import (
    MAX_CENTS,
    format_kes,
    parse_kes,
    parse_percent_bps,
    parse_stake,
    plain_kes,
    whole_shillings_cents,
)
from kasoko_cli.errors import Refused


@pytest.mark.parametrize(
    ("text", "cents"),
    [
        ("150", 15_000),
        ("48.50", 4_850),
        ("48.5", 4_850),
        ("0.01", 1),
        ("0", 0),
        ("0.00", 0),
        ("007", 700),
        ("10000000000000", MAX_CENTS),
        ("1,500", 150_000),
        ("12,345,678.9", 1_234_567_890),
        ("1 500", 150_000),
        ("1\u00a0500.50", 150_050),
        ("KES 1,500.00", 150_000),
        ("kes1500", 150_000),
        ("Ksh 1500", 150_000),
        ("KShs. 1,500/=", 150_000),
        ("500/=", 50_000),
        ("500/-", 50_000),
        ("1500 KES", 150_000),
        (" 150\n", 15_000),
        ("\ufeff150\u200b", 15_000),
    ],
)
def test_an_amount_is_read_to_the_cent(text: str, cents: int) -> None:
    assert parse_kes(text) == cents


#: What people, spreadsheets and attackers write where an amount belongs.
NO_AMOUNTS = [
    "",
    " ",
    "-5",
    "+5",
    "NaN",
    "Infinity",
    "1e3",
    "1e9999",
    "10.001",
    "10.",
    ".50",
    "1_500",
    "1,50",
    "1.500,00",
    "1.500",
    "1500,50",
    "1,500,00",
    "1,500 000",
    "1,,500",
    "15,00,000",
    "KES",
    "KES 1,500 KES 2",
    "USD 5",
    "1 50",
    "1\u200b500",
    "0x10",
    "١٥٠",
    "１５０",
    "10.٥",
    "10000000000000.01",
    "9" * 39,
    "9" * 5_000,
    "0" * 5_000,
]


@pytest.mark.parametrize("text", NO_AMOUNTS)
def test_what_is_no_amount_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(Refused, match="The prize ") as refused:
        parse_kes(text, what="prize")

    assert refused.value.hint.startswith("Nothing was changed. ")
    assert len(refused.value.message) < 200
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("text", [*NO_AMOUNTS, "0", "0.00"])
def test_a_stake_is_at_least_one_cent(text: str) -> None:
    assert parse_stake("0.01") == 1
    with pytest.raises(Refused, match="The stake "):
        parse_stake(text)


def test_the_whole_message_of_a_stake_of_nothing() -> None:
    with pytest.raises(Refused) as refused:
        parse_stake("0.00")

    assert refused.value.message == "The stake '0.00' is nothing: a bet needs at least one cent."
    assert refused.value.hint == "Nothing was changed. Write a stake of 0.01 or more."


def test_the_whole_message_of_a_text_that_is_no_amount() -> None:
    with pytest.raises(Refused) as refused:
        parse_kes("10,001.125")

    assert refused.value.message == (
        "The amount '10,001.125' is not an amount in shillings. It has more than two decimals."
    )
    assert refused.value.hint == (
        "Nothing was changed. Write it with digits, and at most two decimals after a point: 150 or 48.50"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "It is empty."),
        ("-5", "It is below zero."),
        ("(5)", "It is below zero."),
        ("1,50", "Its comma or point may stand before cents or between thousands."),
        ("1.500,00", "Its comma or point may stand before cents or between thousands."),
        ("1.500", "Its comma or point may stand before cents or between thousands."),
        ("1.5E+05", "It has an exponent: in a spreadsheet format the column as a number."),
        ("12.345", "Its comma or point may stand before cents or between thousands."),
        ("0.1234", "It has more than two decimals."),
        ("$5", "It is in another currency."),
        ("1\u200b500", "Its character 2 is a hidden character: Zero width space, U+200B."),
        ("١٥٠", "Its character 1 is a digit of another script: Arabic-indic digit one, U+0661."),
    ],
)
def test_the_reason_why_it_is_no_amount_is_told(text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_kes(text)
    assert refused.value.message.endswith(f" is not an amount in shillings. {reason}")


def test_the_whole_message_of_an_amount_that_is_too_large() -> None:
    with pytest.raises(Refused) as refused:
        parse_kes("10000000000000.01")

    assert refused.value.message == (
        "The amount '10000000000000.01' is more than one amount may be, KES 10,000,000,000,000.00."
    )


def test_a_phone_in_the_column_of_amounts_is_not_printed() -> None:
    with pytest.raises(Refused) as refused:
        parse_kes("+254 712 345 678")

    assert "2547****5678" in refused.value.message
    assert "345" not in refused.value.message


@pytest.mark.parametrize(
    ("cents", "shown"),
    [
        (123_450, "1,234.50"),
        (-123_450, "-1,234.50"),
        (5, "0.05"),
        (-5, "-0.05"),
        (0, "0.00"),
        (MAX_CENTS, "10,000,000,000,000.00"),
    ],
)
def test_an_amount_is_shown_with_its_cents(cents: int, shown: str) -> None:
    assert format_kes(cents) == shown
    assert plain_kes(cents) == shown.replace(",", "")


@settings(derandomize=True, max_examples=200)
@given(st.integers(0, MAX_CENTS))
def test_a_plain_amount_reads_back(cents: int) -> None:
    assert parse_kes(plain_kes(cents)) == cents


@pytest.mark.parametrize(("cents", "whole"), [(0, 0), (99, 0), (100, 100), (199, 100), (14_250, 14_200)])
def test_whole_shillings_are_rounded_down(cents: int, whole: int) -> None:
    assert whole_shillings_cents(cents) == whole


@pytest.mark.parametrize(("text", "bps"), [("5.00", 500), ("5", 500), ("2.5", 250), ("0", 0), ("100", 10_000)])
def test_a_percentage_is_read_in_basis_points(text: str, bps: int) -> None:
    assert parse_percent_bps(text) == bps


@pytest.mark.parametrize("text", ["", "5%", "-1", "100.01", "5.001", "1e1", "NaN", "٥", "9" * 5_000])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="The percentage "):
        parse_percent_bps(text)
