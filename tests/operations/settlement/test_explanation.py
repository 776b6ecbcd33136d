"""The story of a number ends at the number, for every rule; and it is told in two languages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kasoko_cli.cli.output.explanation_text import decimal, spoken, swahili_time
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.codes import every_meaning
from kasoko_cli.domain.market import Rules
from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.errors import CheckFailed, NotFound
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.records import bets, markets, users
from kasoko_cli.operations.records.bets import NewBet
from kasoko_cli.operations.records.markets import NewMarket
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.settlement.explanation import PayoutExplanation, explain_payout
from kasoko_cli.operations.shared import transitions
from kasoko_cli.store.schema.tables import Funding
from tests.operations.payout_harness import ANN, PayoutHarness

#: One bet: who, on what, how many cents, how many seconds after the others.
Placed = tuple[str, str, int, int]


def settled(harness: PayoutHarness, rules: Rules, placed: Sequence[Placed], **how: Any) -> None:
    """A settled market `derby` on X, Y or Z, by these rules, with these bets and this resolution."""
    harness.clock.forward(-60)
    markets.add_market(
        harness.context,
        NewMarket(
            market_id="derby",
            slug="derby",
            question="Who wins the derby?",
            outcomes=["X", "Y", "Z"],
            closes_at=harness.clock() + timedelta(hours=1),
            rules=rules,
        ),
    )
    for number, user in enumerate(dict.fromkeys(user for user, *_ in placed)):
        phone = f"254712000{number:03d}"
        users.add_user(harness.context, user_id=user, name=user.title(), phone=phone)
    start = harness.clock()
    for number, (user, outcome, cents, after) in enumerate(placed):
        harness.clock.now = start + timedelta(seconds=after)
        bets.place_bet(
            harness.context,
            NewBet(
                bet_id=f"b{number}",
                market="derby",
                user_id=user,
                outcome=outcome,
                cents=cents,
                funding=Funding.COLLECTED,
            ),
        )
    harness.clock.now = start + timedelta(seconds=60)
    markets.close_market(harness.context, market="derby")
    if how.get("void"):
        markets.void_market(harness.context, market="derby")
    else:
        markets.resolve_market(harness.context, market="derby", **how)
    settle.settle_market(harness.context, WireLimits(), market="derby")


def of_user(harness: PayoutHarness, user: str) -> PayoutExplanation:
    return explain_payout(harness.db, harness.payout(user).id)


PLAIN = [("ann", "X", 10_000, 0), ("ben", "X", 20_000, 1), ("cyn", "Y", 15_000, 2)]
THREE = [("ann", "X", 1_000, 0), ("ben", "Y", 3_000, 1), ("cyn", "Z", 6_000, 2)]


def test_the_operators_example_is_told_step_by_step(harness: PayoutHarness) -> None:
    settled(harness, Rules(fee_bps=500), PLAIN, winners=["X"])
    found = of_user(harness, "ann")
    assert (found.gross_cents, found.fee_cents, found.net_cents, found.winning_stake_cents) == (
        45_000,
        2_250,
        42_750,
        30_000,
    )
    assert (found.owed_cents, found.wire_cents, found.stays_cents) == (14_250, 14_200, 50)
    assert spoken(found, "en") == [
        "The question was: “Who wins the derby?”",
        "The answer that won is “X”.",
        "All the stakes that count came to KES 450.00.",
        "The fee is 5% of that, rounded down to the cent: KES 22.50.",
        "What is left for the winners to share is KES 427.50.",
        "You put KES 100.00 on “X”.",
        "Those who backed “X” had put KES 300.00 on it together, and share KES 427.50: each shilling brings 1.425.",
        "Your share is 100.00 × 427.50 ÷ 300.00 = 142.50.",
        "So you are owed KES 142.50.",
        (
            "M-Pesa carries whole shillings only: KES 142.00 goes to your phone, and KES 0.50 stays in your wallet,"
            " as yours."
        ),
        "It is waiting to be sent.",
    ]
    assert spoken(found, "sw") == [
        "Swali lilikuwa: “Who wins the derby?”",
        "Jibu lililoshinda ni “X”.",
        "Jumla ya madau yote halali ilikuwa KSh 450.00.",
        "Ada ni asilimia 5 ya jumla hiyo, ikipunguzwa hadi senti kamili: KSh 22.50.",
        "Kiasi kilichobaki cha kugawiwa washindi ni KSh 427.50.",
        "Wewe uliweka KSh 100.00 kwa “X”.",
        (
            "Walioweka madau kwa “X” waliweka jumla ya KSh 300.00, na wanagawana KSh 427.50:"
            " kila shilingi moja inaleta 1.425."
        ),
        "Fungu lako ni 100.00 × 427.50 ÷ 300.00 = 142.50.",
        "Kwa hiyo unastahili kulipwa KSh 142.50.",
        (
            "M-PESA hutuma shilingi kamili pekee: KSh 142.00 zinatumwa kwenye simu yako, na KSh 0.50 zinabaki kwenye"
            " pochi yako, na ni zako."
        ),
        "Inasubiri kutumwa.",
    ]


@pytest.mark.parametrize(
    ("rules", "placed", "how", "user", "owed", "said"),
    [
        pytest.param({}, THREE, {"winners": ["X", "Y"]}, "ann", 2_375, "All who backed one of them", id="dead heat"),
        pytest.param(
            {"dead_heat": "profit"}, THREE, {"winners": ["X", "Y"]}, "ann", 3_750, "First all winners", id="profit"
        ),
        pytest.param({"dead_heat": "pool"}, THREE, {"winners": ["X", "Y"]}, "ben", 4_750, "an equal part", id="pool"),
        pytest.param(
            {},
            [("ann", "X", 10_000, 0), ("ben", "Y", 10_000, 1)],
            {"winners": [], "weights": [("X", "7/10"), ("Y", "3/10")]},
            "ann",
            13_300,
            "“X” 7/10, “Y” 3/10",
            id="weights",
        ),
        pytest.param(
            {"min_dividend": "cap_fee"},
            [("ann", "X", 10_000, 0), ("ben", "X", 5_000, 1)],
            {"winners": ["X"]},
            "ann",
            10_000,
            "so the fee was cut to KES 0.00",
            id="the fee is capped",
        ),
        pytest.param(
            {"min_dividend": "house_topup", "min_dividend_bps": 10_500},
            [("ann", "X", 10_000, 0), ("ben", "X", 5_000, 1)],
            {"winners": ["X"]},
            "ann",
            10_500,
            "at least 1.05 times the stake, so we added KES 15.00",
            id="a top-up",
        ),
        pytest.param(
            {"break_unit_cents": 100}, PLAIN, {"winners": ["X"]}, "ann", 14_200, "whole KES 1.00: KES 142.00", id="unit"
        ),
        pytest.param(
            {"rounding": "largest"},
            [("ann", "X", 1_000, 0), ("ben", "X", 2_000, 1), ("cyn", "X", 4_000, 2), ("dan", "Y", 3_333, 3)],
            {"winners": ["X"]},
            "ben",
            2_805,
            "you got KES 0.01 of it",
            id="largest remainder",
        ),
        pytest.param(
            {},
            [("ann", "X", 3_300, 0), ("ann", "X", 3_300, 1), ("ann", "X", 3_401, 2), ("ben", "Y", 7_700, 3)],
            {"winners": ["X"]},
            "ann",
            16_816,
            "in 3 bets",
            id="several bets",
        ),
        pytest.param(
            {},
            [("ann", "X", 7_000, 0), ("ben", "X", 7_000, 1), ("cyn", "X", 7_000, 1), ("dan", "Y", 9_051, 2)],
            {"winners": ["X"]},
            "ann",
            9_516,
            "= 95.163333…",
            id="not a whole cent",
        ),
        pytest.param({}, PLAIN, {"void": True}, "cyn", 15_000, "The market was called off", id="void"),
        pytest.param({}, PLAIN, {"winners": ["Z"]}, "cyn", 15_000, "Nobody had backed", id="nobody won"),
        pytest.param(
            {}, THREE, {"winners": ["X"], "withdrawn": ["Z"]}, "cyn", 6_000, "“Z” fell away", id="an outcome withdrawn"
        ),
        pytest.param(
            {},
            [("ann", "X", 10_000, 0), ("ben", "Y", 10_000, 1), ("cyn", "X", 50_000, 60)],
            {"winners": ["X"]},
            "cyn",
            50_000,
            "came after the market had closed",
            id="a late bet",
        ),
    ],
)
def test_every_rule_is_told_in_both_languages_and_ends_at_what_is_owed(
    harness: PayoutHarness,
    rules: dict[str, Any],
    placed: Sequence[Placed],
    how: dict[str, Any],
    user: str,
    owed: int,
    said: str,
) -> None:
    from fractions import Fraction

    how = {**how, **({"weights": [(n, Fraction(w)) for n, w in how["weights"]]} if "weights" in how else {})}
    settled(harness, Rules(fee_bps=500, **rules), placed, **how)
    found = of_user(harness, user)
    assert found.owed_cents == owed
    english, swahili = spoken(found, "en"), spoken(found, "sw")
    assert said in " ".join(english)
    assert len(english) == len(swahili)
    assert not {one for one in english if one in swahili and "÷" not in one}


def test_legs_and_the_wallet_are_told(harness: PayoutHarness) -> None:
    settled(harness, Rules(fee_bps=0), [("ann", "X", 60_000_000, 0), ("ben", "X", 999, 1)], winners=["X"])
    assert "it comes in 3 payments; this is number 1, of KES 250,000.00" in " ".join(
        spoken(explain_payout(harness.db, "derby.1.1"), "en")
    )
    small = of_user(harness, "ben")
    assert spoken(small, "en")[-1] == "M-Pesa does not carry so little, so all of it, KES 9.99, is in your wallet."


def test_what_was_sent_when_and_how_it_ended_is_told(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, cents=14_250)
    harness.send()
    assert spoken(of_user(harness, "ann"), "en")[-2:] == [
        "We asked M-Pesa to send KES 142.00 to 2547****0111 on 23 November 2026 at 12:00 Nairobi time.",
        "M-Pesa has not told us yet how it ended.",
    ]
    attempt = harness.attempt("ann")
    harness.clock.forward(245)
    harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=2040))
    assert "give us another one" in spoken(of_user(harness, "ann"), "en")[-1]
    harness.posts.clear()
    harness.set_phone("ann", "254712000999")
    assert harness.retry().retried
    harness.send()
    harness.deliver()
    told = spoken(of_user(harness, "ann"), "sw")
    receipt = harness.attempt("ann").receipt
    assert told[-4:] == [
        "Tuliiomba M-PESA itume KSh 142.00 kwa 2547****0111 tarehe 23 Novemba 2026, saa sita kamili mchana (12:00).",
        "Haikufaulu, na hakuna pesa zilizotoka.",
        (
            "Tuliiomba M-PESA tena itume KSh 142.00 kwa 2547****0999 tarehe 23 Novemba 2026, saa sita na dakika 4"
            " mchana (12:04)."
        ),
        (
            f"Pesa zilifika tarehe 23 Novemba 2026, saa sita na dakika 4 mchana (12:04); nambari ya risiti ya M-PESA ni"
            f" {receipt}."
        ),
    ]


@pytest.mark.parametrize(
    "status",
    ["AWAITING_APPROVAL", "HELD", "PENDING", "SENDING", "SENT", "UNKNOWN", "FAILED", "RETURNED", "CANCELED", "WALLET"],
)
def test_every_state_has_its_sentence_in_both_languages(harness: PayoutHarness, status: str) -> None:
    harness.owe({"ann": ANN}, cents=14_200)
    found = dataclasses.replace(of_user(harness, "ann"), status=status)
    plain = len(spoken(dataclasses.replace(found, status=""), "en"))
    english, swahili = spoken(found, "en"), spoken(found, "sw")
    assert len(english) == len(swahili) == plain + 1
    assert english[-1] != swahili[-1]


def test_bets_that_do_not_lead_to_the_amount_are_a_failed_check_and_no_story(harness: PayoutHarness) -> None:
    harness.books_hold_at_the_end = False
    harness.owe({"ann": ANN}, cents=14_200)
    with harness.db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE bets SET stake_cents = stake_cents + 1 WHERE user_id = 'loser'")
    with pytest.raises(CheckFailed, match="cannot be explained: its bets do not lead to the amount"):
        of_user(harness, "ann")


def test_holding_and_deciding_do_not_disturb_the_story(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, cents=14_200)
    manual_decision.hold(harness.context, payout_id=harness.payout("ann").id)
    assert "held back" in spoken(of_user(harness, "ann"), "en")[-1]
    with pytest.raises(NotFound):
        explain_payout(harness.db, "derby.1.99")


@pytest.mark.parametrize(
    ("hour", "minute", "told"),
    [
        (3, 4, "saa tisa na dakika 4 usiku (03:04)"),
        (5, 0, "saa kumi na moja kamili alfajiri (05:00)"),
        (6, 30, "saa kumi na mbili na nusu asubuhi (06:30)"),
        (7, 0, "saa moja kamili asubuhi (07:00)"),
        (12, 15, "saa sita na robo mchana (12:15)"),
        (15, 4, "saa tisa na dakika 4 alasiri (15:04)"),
        (18, 0, "saa kumi na mbili kamili jioni (18:00)"),
        (19, 1, "saa moja na dakika 1 usiku (19:01)"),
        (0, 0, "saa sita kamili usiku (00:00)"),
    ],
)
def test_swahili_counts_the_hours_from_six(hour: int, minute: int, told: str) -> None:
    moment = datetime(2026, 11, 24, tzinfo=UTC) + timedelta(hours=hour - 3, minutes=minute)
    assert swahili_time(moment).endswith(told)


def test_a_fraction_is_read_out_exactly_or_says_that_it_goes_on() -> None:
    from fractions import Fraction

    assert [decimal(Fraction(*one)) for one in ((57, 40), (3, 1), (1, 3), (1_234_567, 1))] == [
        "1.425",
        "3.00",
        "0.333333…",
        "1,234,567.00",
    ]


def test_the_codes_of_our_own_are_those_that_payouts_carry() -> None:
    own = {one.code for one in every_meaning() if one.where == "kasoko"}
    assert own == {transitions.NOT_SENT, transitions.STATUS_SAYS_NO, transitions.DECIDED}
