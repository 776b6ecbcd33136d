"""A market's states, rules, resolution and digests, and the names that records may have."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasoko_cli.domain.market import (
    NEXT,
    PAYOUT_VERBS,
    BetRow,
    DeadHeat,
    MarketStatus,
    MinDividend,
    Resolution,
    Rounding,
    Rules,
    bets_digest,
    check_identifier,
    check_slug,
    clean_text,
    nearest,
    sources_of,
)
from kasoko_cli.errors import Refused

S = MarketStatus


def test_a_market_goes_from_open_to_closed_to_resolved_or_is_void() -> None:
    assert {state: set(following) for state, following in NEXT.items()} == {
        S.OPEN: {S.CLOSED, S.VOID},
        S.CLOSED: {S.RESOLVED, S.VOID},
        S.RESOLVED: set(),
        S.VOID: set(),
    }
    assert all(len(cause.split()) > 3 for following in NEXT.values() for cause in following.values())
    assert sources_of(S.RESOLVED) == {S.CLOSED}
    assert sources_of(S.VOID) == {S.OPEN, S.CLOSED}
    assert sources_of(S.OPEN) == set()


DEFAULT = Rules(500)
UNUSUAL = Rules(
    250,
    rounding=Rounding.LARGEST,
    break_unit_cents=100,
    dead_heat=DeadHeat.PROFIT,
    min_dividend=MinDividend.HOUSE_TOPUP,
    min_dividend_bps=10_500,
)


@pytest.mark.parametrize("rules", [DEFAULT, UNUSUAL], ids=["default", "unusual"])
def test_rules_survive_the_way_through_json(rules: Rules) -> None:
    kept = json.loads(json.dumps(rules.as_dict()))

    assert Rules.from_dict(kept) == rules
    assert Rules.from_dict(kept).digest() == rules.digest()
    assert type(Rules.from_dict(kept).rounding) is Rounding


def test_the_digest_of_rules_never_changes_from_one_version_to_the_next() -> None:
    assert DEFAULT.as_dict() == {
        "fee_bps": 500,
        "rounding": "house",
        "break_unit_cents": 1,
        "dead_heat": "stake",
        "min_dividend": "none",
        "min_dividend_bps": 10_000,
    }
    assert DEFAULT.digest() == "5a8dd13d6b896f08d726fedb30dcd4fa4269065f9c29b410d21ca74bcd91d34f"


def test_every_rule_is_in_the_digest() -> None:
    digests = {DEFAULT.digest()}
    for name, value in UNUSUAL.as_dict().items():
        digests.add(Rules.from_dict(DEFAULT.as_dict() | {name: value}).digest())

    assert len(digests) == 1 + len(dataclasses.fields(Rules))


@pytest.mark.parametrize(
    "odd",
    [
        {"fee_bps": -1},
        {"fee_bps": 10_001},
        {"fee_bps": 5.0},
        {"fee_bps": True},
        {"fee_bps": "500"},
        {"fee_bps": None},
        {"break_unit_cents": 0},
        {"break_unit_cents": 10**16},
        {"min_dividend_bps": 0},
        {"min_dividend_bps": 1_000_001},
        {"rounding": "up"},
        {"rounding": None},
        {"dead_heat": "stakes"},
        {"min_dividend": "capfee"},
        {"surprise": 1},
    ],
    ids=str,
)
def test_rules_that_no_pool_could_be_settled_by_are_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        Rules.from_dict(DEFAULT.as_dict() | odd)

    assert refused.value.hint.startswith("Nothing was changed. ")


def test_rules_with_a_part_missing_are_refused() -> None:
    kept = DEFAULT.as_dict()
    del kept["rounding"]

    with pytest.raises(Refused, match="'rounding' is missing or unknown"):
        Rules.from_dict(kept)


def test_a_misspelt_rule_gets_the_nearest_one_suggested() -> None:
    with pytest.raises(Refused) as refused:
        Rules.from_dict(DEFAULT.as_dict() | {"min_dividend": "capfee"})

    assert refused.value.message == "A market has no least dividend rule 'capfee'."
    assert refused.value.hint == ("Nothing was changed. Use one of: none, cap_fee, house_topup. Did you mean cap_fee?")


@pytest.mark.parametrize(
    "resolution",
    [
        Resolution(winners=(0,)),
        Resolution(winners=(2, 0), withdrawn=frozenset({3, 1})),
        Resolution(weights=((1, Fraction(3, 10)), (0, Fraction(7, 10)))),
        Resolution(void=True),
    ],
    ids=["one winner", "a dead heat", "weights", "void"],
)
def test_a_resolution_survives_the_way_through_json(resolution: Resolution) -> None:
    assert Resolution.from_dict(json.loads(json.dumps(resolution.as_dict()))) == resolution


def test_resolutions_that_say_the_same_are_equal() -> None:
    weights = ((0, Fraction(7, 10)), (1, Fraction(3, 10)))

    assert Resolution(winners=(1, 0)) == Resolution(winners=(0, 1))
    assert Resolution(weights=weights[::-1]) == Resolution(weights=weights)
    assert Resolution(weights=weights).as_dict() == {
        "winners": [],
        "weights": [[0, "7/10"], [1, "3/10"]],
        "withdrawn": [],
        "void": False,
    }


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({}, "one of them"),
        ({"winners": (0,), "void": True}, "one of them"),
        ({"winners": (0,), "weights": ((1, Fraction(1)),)}, "one of them"),
        ({"weights": ((1, Fraction(1)),), "void": True}, "one of them"),
        ({"void": True, "withdrawn": frozenset({0})}, "no outcome can be withdrawn besides"),
        ({"winners": (0, 0)}, "named as winning twice"),
        ({"weights": ((0, Fraction(1, 2)), (0, Fraction(1, 2)))}, "named as winning twice"),
        ({"winners": (-1,)}, "numbered from 0"),
        ({"winners": (0,), "withdrawn": frozenset({-1})}, "numbered from 0"),
        ({"winners": (0,), "withdrawn": frozenset({0})}, "both withdrawn and winning"),
        ({"weights": ((0, Fraction(1)),), "withdrawn": frozenset({0})}, "both withdrawn and winning"),
        ({"weights": ((0, Fraction(2, 3)), (1, Fraction(1, 4)))}, "The weights sum to 11/12 and not to 1"),
        ({"weights": ((0, Fraction(3, 2)), (1, Fraction(-1, 2)))}, "A weight is more than 0"),
        ({"weights": ((0, Fraction(1)), (1, Fraction(0)))}, "A weight is more than 0"),
    ],
)
def test_a_resolution_that_contradicts_itself_is_refused(odd: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        Resolution(**odd)


def test_a_resolution_with_a_part_missing_is_refused() -> None:
    with pytest.raises(Refused, match="'void' is missing or unknown"):
        Resolution.from_dict({"winners": [0], "weights": [], "withdrawn": []})


BET: BetRow = ("b1", "u1", 0, 4_850, "2026-11-15T16:08:24Z", False, False)


def test_the_digest_of_bets_never_changes_from_one_version_to_the_next() -> None:
    assert bets_digest([BET]) == "54e4b57c3cc28acab379c08f5d55a9c4f5f392440601adcf58416078f6438cdd"


def test_every_field_of_every_bet_counts_and_so_does_the_order() -> None:
    others = [
        ("b2", *BET[1:]),
        ("b1", "u2", *BET[2:]),
        (*BET[:2], 1, *BET[3:]),
        (*BET[:3], 4_851, *BET[4:]),
        (*BET[:4], "2026-11-15T16:08:25Z", *BET[5:]),
        (*BET[:5], True, False),
        (*BET[:5], False, True),
        ("b1u", "1", *BET[2:]),
    ]
    lists: list[list[Any]] = [[], [BET], [BET, BET], *([other] for other in others)]
    lists += [[BET, others[0]], [others[0], BET]]

    assert len({bets_digest(iter(rows)) for rows in lists}) == len(lists)


@given(
    st.lists(
        st.tuples(
            st.text(max_size=8),
            st.text(max_size=8),
            st.integers(),
            st.integers(),
            st.text(),
            st.booleans(),
            st.booleans(),
        )
    )
)
def test_a_bet_is_digested_as_json_whatever_its_identifiers_hold(rows: list[BetRow]) -> None:
    lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)

    assert bets_digest(rows) == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("slug", ["a", "7", "long-rains", "derby-2026", "x" * 64, "sender", "a--b"])
def test_a_slug_is_lower_case_letters_digits_and_hyphens(slug: str) -> None:
    assert check_slug(slug) == slug


@pytest.mark.parametrize(
    "slug",
    ["", "x" * 65, "Derby", "long rains", "-rains", "rains-", "-", "a_b", "a.b", "mvua-ñ", "derby\n", "٣", "../etc"],
)
def test_what_cannot_be_typed_as_a_slug_is_refused(slug: str) -> None:
    with pytest.raises(Refused, match="cannot be a slug"):
        check_slug(slug)


@pytest.mark.parametrize(
    "verb", ["send", "list", "show", "retry", "hold", "release", "to-wallet", "decide", "returned", "again"]
)
def test_a_verb_of_payout_cannot_name_a_market(verb: str) -> None:
    with pytest.raises(Refused, match=f"`kasoko payout {verb}` means something else"):
        check_slug(verb)
    assert verb in PAYOUT_VERBS
    assert len(PAYOUT_VERBS) == 10


def test_a_slug_that_reads_like_a_payout_is_refused() -> None:
    with pytest.raises(Refused, match="reads like the id of a payout"):
        check_slug("derby.1.7")


@pytest.mark.parametrize("text", ["m1", "u00001", "A_b:c-d.e", "_x", "0", "x" * 64, "v1.2", "send"])
def test_an_identifier_of_the_platform_is_kept_as_it_is(text: str) -> None:
    assert check_identifier(text, what="user id") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x" * 65,
        "a b",
        "a/b",
        "-x",
        "--yes",
        ".",
        "..",
        ":a",
        "=1+1",
        "@x",
        "é",
        "a\n",
        "a\x00",
        "a,b",
        "a|b",
        "a'b",
    ],
)
def test_an_identifier_that_could_be_misread_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="cannot be the user id") as refused:
        check_identifier(text, what="user id")

    assert refused.value.hint == (
        "Nothing was changed. Use 1 to 64 letters A-Z a-z, digits and _ : - . and begin with none of : - ."
    )


def test_an_identifier_that_reads_like_a_payout_is_refused() -> None:
    with pytest.raises(Refused, match="cannot be the market id: it reads like the id of a payout"):
        check_identifier("derby.1.7", what="market id")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("gor mahia", "Gor Mahia"),
        ("GOR MAHIA", "Gor Mahia"),
        ("Gor Mahai", "Gor Mahia"),
        ("afc", None),
        ("AFC Leopard", "AFC Leopards"),
        ("draw", "Draw"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_outcome_is_suggested_whatever_the_case(word: str, meant: str | None) -> None:
    assert nearest(word, ["Gor Mahia", "AFC Leopards", "Draw"]) == meant


def test_nothing_is_near_where_there_is_nothing() -> None:
    assert nearest("Yes", []) is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Akinyi Auma", "Akinyi Auma"),
        ("  Akinyi ", "Akinyi"),
        ("Akinyi\u00a0Auma", "Akinyi Auma"),
        ("Kı\u0302", "Kı\u0302"),
        ("Ne\u0301", "Né"),
        ("محمد", "محمد"),
        ("<b>|=1+1", "<b>|=1+1"),
        ("x" * 20, "x" * 20),
    ],
)
def test_a_name_is_kept_composed_and_otherwise_as_it_is(text: str, kept: str) -> None:
    assert clean_text(text, what="name", most=20) == kept


#: Control characters, line ends, directions, zero widths, a lone surrogate, private use, fillers, a tag.
HIDDEN = [
    *("\x00", "\x1b", "\x7f", "\x9b", "\n", "\r", "\t", "\u2028", "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff"),
    *("\ud800", "\u00ad", "\ue000", "\u3164", "\u2800", "\U000e0041"),
]


@pytest.mark.parametrize("hidden", HIDDEN, ids=ascii)
def test_a_name_with_what_nobody_can_see_is_refused(hidden: str) -> None:
    with pytest.raises(Refused, match=f"U\\+{ord(hidden):04X}") as refused:
        clean_text(f"Aki{hidden}nyi", what="name", most=20)

    assert hidden not in refused.value.message or hidden.isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "The name '' is empty."), ("  ", "The name '  ' is empty."), ("x" * 21, "has 21 characters")],
)
def test_a_name_is_neither_empty_nor_too_long(text: str, message: str) -> None:
    with pytest.raises(Refused, match=message) as refused:
        clean_text(text, what="name", most=20)

    assert refused.value.hint == "Nothing was changed. Write 1 to 20 characters."


def test_a_name_of_accents_without_end_is_refused_at_once() -> None:
    """To compose it takes the square of its length: 64 KiB of it took thirteen seconds."""
    began = time.process_time()
    with pytest.raises(Refused, match="has 64001 characters"):
        clean_text("a" + "\u0301\u0323" * 32_000, what="name", most=200)
    assert time.process_time() - began < 1


@settings(derandomize=True, max_examples=200)
@given(st.text(max_size=30))
def test_a_text_that_is_kept_can_be_shown_and_is_kept_the_same_again(text: str) -> None:
    try:
        kept = clean_text(text, what="name", most=30)
    except Refused as refused:
        assert refused.message.isprintable()  # noqa: PT017
    else:
        assert kept.isprintable()
        assert clean_text(kept, what="name", most=30) == kept
