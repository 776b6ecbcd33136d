"""Phones: many spellings in, one out, and never whole where people look."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasoko_cli.domain.phone import mask, mask_in, normalize, quoted
from kasoko_cli.errors import Refused


@pytest.mark.parametrize(
    "spelling",
    [
        "0712345678",
        "0712 345 678",
        "0712-345-678",
        "0712.345.678",
        "(0712) 345678",
        "712345678",
        "712 345 678",
        "254712345678",
        "2547 1234 5678",
        "+254712345678",
        "+254 712 345 678",
        "+254-712-345-678",
        "+254 (712) 345 678",
        "00254712345678",
        "00254 712 345678",
        " 0712345678 ",
        "0712345678\n",
        "'0712345678",
        "254712345678.0",
        "712345678.0",
        "0712\u00a0345\u2011678",
        "\u202a+254 712 345 678\u202c",
        "\ufeff0712345678",
    ],
)
def test_a_mobile_number_has_one_spelling_inside(spelling: str) -> None:
    assert normalize(spelling) == "254712345678"


@pytest.mark.parametrize("spelling", ["0110123456", "110123456", "254110123456", "+254 110 123 456"])
def test_the_numbers_that_begin_with_01_are_mobile_too(spelling: str) -> None:
    assert normalize(spelling) == "254110123456"


@pytest.mark.parametrize("phone", ["0700000001", "0733123456", "0770123456", "0790123456", "0100123456"])
def test_the_operator_behind_a_prefix_does_not_matter(phone: str) -> None:
    assert normalize(phone) == "254" + phone[1:]


#: Too short, too long, landlines, a range that nobody was given, other countries, letters, other digits, two in one.
NO_PHONES = [
    "",
    "0",
    "07123",
    "071234567",
    "07123456789",
    "0202345678",
    "020 234 5678",
    "0800723253",
    "0900123456",
    "254202345678",
    "+255712345678",
    "+1 202 555 0100",
    "+0712345678",
    "++254712345678",
    "254+712345678",
    "000254712345678",
    "2540712345678",
    "0712345678 / 0722345678",
    "O712345678",
    "0712/345/678",
    "٠٧١٢٣٤٥٦٧٨",
    "０７１２３４５６７８",
    "0712345678x12",
    "71234567.0",
    "071234567.0",
    "0712\u200b345678",
    "'; DROP TABLE users; --",
]


@pytest.mark.parametrize("text", NO_PHONES)
def test_what_is_no_kenyan_mobile_is_refused_and_not_printed(text: str) -> None:
    with pytest.raises(Refused, match=r"is not a Kenyan mobile number\.") as refused:
        normalize(text)

    assert refused.value.hint == "Nothing was changed. Write it as 0712 345 678 or +254 712 345 678."
    assert len(text) < 6 or text not in refused.value.message
    assert refused.value.message.isprintable()
    assert re.search(r"[0-9]{5}", refused.value.message) is None or len(text) < 6


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "It is empty."),
        ("2.54712E+11", "A spreadsheet cut it short: format the column as text and enter the whole number."),
        ("2,54712E+11", "A spreadsheet cut it short: format the column as text and enter the whole number."),
        ("71234567.0", "A spreadsheet took it for a number, and digits are missing: format the column as text."),
        ("0712 345 678 / 0722 345 678", "There are two numbers in it, and only one can be paid."),
        ("0712345678 or 0722345678", "There are two numbers in it, and only one can be paid."),
        ("O712345678", "The letter O stands for a zero."),
        ("0712\u200b345678", "Its character 5 is a hidden character: Zero width space, U+200B."),
        ("٠٧١٢٣٤٥٦٧٨", "Its character 1 is a digit of another script: Arabic-indic digit zero, U+0660."),
    ],
)
def test_the_reason_why_it_is_no_phone_is_told(text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        normalize(text)
    assert refused.value.message.endswith(f" is not a Kenyan mobile number. {reason}")


def test_what_a_spreadsheet_cut_short_is_shown_as_it_is() -> None:
    with pytest.raises(Refused, match=r"The phone '2\.54712E\+11' is not"):
        normalize("2.54712E+11")


@pytest.mark.parametrize("text", ["0160123456", "+254 160 123 456", "160123456"])
def test_a_number_of_a_block_that_is_not_known_is_taken_when_somebody_says_so(text: str) -> None:
    with pytest.raises(Refused, match="in no block of Kenyan mobile numbers that is known here") as refused:
        normalize(text)
    assert refused.value.hint.endswith("take it all the same: --any-block")
    assert normalize(text, any_block=True) == "254160123456"
    with pytest.raises(Refused, match="is not a Kenyan mobile number"):
        normalize("0202345678", any_block=True)


def test_the_whole_message_of_a_phone_that_lacks_a_digit() -> None:
    with pytest.raises(Refused) as refused:
        normalize("071234567")

    assert refused.value.message == "The phone '0712****67' (9 digits) is not a Kenyan mobile number."


def test_a_masked_number_keeps_its_ends() -> None:
    assert mask("254712345678") == "2547****5678"


@pytest.mark.parametrize("short", ["", "5678", "0712345678", "71234567890"])
def test_what_is_too_short_to_keep_its_ends_is_hidden_whole(short: str) -> None:
    assert mask(short) == "****"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("254712345678", "2547****5678"),
        ("pay 254712345678 now", "pay 2547****5678 now"),
        ("0712345678,0110123456", "2547****5678,2541****3456"),
        ("+254 712 345 678.", "2547****5678."),
        ("00254-712-345-678", "2547****5678"),
        ("+254 (0) 712 345 678", "2547****5678"),
        ("(0712) 345-678", "(2547****5678"),
        ("0712\u00a0345\u2011678", "2547****5678"),
        ('{"PartyB": "254712345678"}', '{"PartyB": "2547****5678"}'),
        ("phone=254712345678&x=1", "phone=2547****5678&x=1"),
        ("254712345678: refused", "2547****5678: refused"),
        ("254712345678 - JANE DOE", "2547****5678 - JANE DOE"),
        ("tel:+254712345678;ext", "tel:2547****5678;ext"),
    ],
)
def test_phones_in_free_text_are_masked(text: str, masked: str) -> None:
    assert mask_in(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "KES 25,000,000.00",
        "amount_cents=25000000",
        "2026-11-23T07:12:34Z",
        "01-12-2026 10:05:00",
        "20261123071234",
        "receipt UKN7A1B2C3",
        "AG_20261123_0100104k2m9x7c1v5b8n",
        "ks-a0712345678b254712345678c0123456",
        "order 07123456789012",
        "derby.1.7",
        "2547****5678",
    ],
)
def test_what_is_no_phone_is_left_alone(text: str) -> None:
    assert mask_in(text) == text


@settings(derandomize=True, max_examples=300)
@given(
    st.sampled_from(["0", "254", "+254", "00254", "+254 ", "254-", "0 "]),
    st.from_regex(r"[17][0-9]{8}", fullmatch=True),
    st.sampled_from(["", " ", "-", ".", ") ", " ("]),
    st.text(alphabet="abc, :;=\"'/\n", max_size=5),
)
def test_no_spelling_of_a_phone_survives_in_a_text(lead: str, national: str, gap: str, around: str) -> None:
    text = f"{around}{lead}{national[:3]}{gap}{national[3:6]}{gap}{national[6:]}{around}"

    assert mask_in(text) == f"{around}{mask('254' + national)}{around}"


def test_a_quoted_text_is_short_masked_and_printable() -> None:
    assert quoted("Gor\x1b[31m Mahia") == r"'Gor\x1b[31m Mahia'"
    assert quoted("evil\u202etxt") == r"'evil\u202etxt'"
    assert quoted("call 0712345678") == "'call 2547****5678'"
    assert quoted("x" * 100) == "'" + "x" * 60 + "…'"
    assert quoted("x" * 60) == "'" + "x" * 60 + "'"
