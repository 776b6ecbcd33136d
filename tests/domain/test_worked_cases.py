"""Worked pools, to be checked with a pencil.

All amounts are cents; the fee is 500 basis points, the unit one cent, the rounding `house` and several winners
share by `stake` unless the rule says otherwise. A bet reads `user:outcome stake`, so `A:Y100` is A's 100 cents on Y.
W is the stake on the winning outcomes; what is left is breakage.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import pytest

from kasoko_cli.domain.market import DeadHeat, MinDividend, Resolution, Rounding, Rules
from kasoko_cli.domain.parimutuel import Division, Stake, divide
from kasoko_cli.domain.payout import Leg, WireLimits, legs

#: From 50 on: corners of the same rules.
BLACKBOARD = """
 # | case                                                            | bets                                          | rule                             |  gross |   fee |    net |      W | payouts                           | refunds                     | left | top-up
 1 | the operator's example                                          | U1:Y10000 U2:Y20000 U3:N15000                 | win Y                            |  45000 |  2250 |  42750 |  30000 | U1=14250 U2=28500                 | —                           |    0 |      0
 2 | same pool, the other side wins                                  | U1:Y10000 U2:Y20000 U3:N15000                 | win N                            |  45000 |  2250 |  42750 |  15000 | U3=42750                          | —                           |    0 |      0
 3 | no winning bets                                                 | A:Y10000 B:Y5000                              | win N                            |  15000 |     0 |      0 |      0 | —                                 | A=10000 B=5000              |    0 |      0
 4 | all bets on the winner, the operator's formula                  | A:Y10000 B:Y5000                              | win Y                            |  15000 |   750 |  14250 |  15000 | A=9500 B=4750                     | —                           |    0 |      0
 5 | same, cap_fee at 1.00                                           | A:Y10000 B:Y5000                              | win Y, cap_fee 1.00              |  15000 |     0 |  15000 |  15000 | A=10000 B=5000                    | —                           |    0 |      0
 6 | same, house tops up to 1.05                                     | A:Y10000 B:Y5000                              | win Y, house_topup 1.05          |  15000 |   750 |  15750 |  15000 | A=10500 B=5250                    | —                           |    0 |   1500
 7 | 97% on the winner, the operator's formula                       | A:Y97000 B:N3000                              | win Y                            | 100000 |  5000 |  95000 |  97000 | A=95000                           | —                           |    0 |      0
 8 | 97% on the winner, cap_fee at 1.00                              | A:Y97000 B:N3000                              | win Y, cap_fee 1.00              | 100000 |  3000 |  97000 |  97000 | A=97000                           | —                           |    0 |      0
 9 | three equal winners, one cent over, house                       | A:Y100 B:Y100 C:Y100 D:N51                    | win Y                            |    351 |    17 |    334 |    300 | A=111 B=111 C=111                 | —                           |    1 |      0
10 | same, largest remainder (earliest bet wins the tie)             | A:Y100 B:Y100 C:Y100 D:N51                    | win Y, largest                   |    351 |    17 |    334 |    300 | A=112 B=111 C=111                 | —                           |    0 |      0
12 | unequal thirds, largest remainder                               | A:Y1000 B:Y2000 C:Y4000 D:N3333               | win Y, largest                   |  10333 |   516 |   9817 |   7000 | A=1402 B=2805 C=5610              | —                           |    0 |      0
13 | odd fee: floor of fee                                           | A:Y101 B:N100                                 | win Y                            |    201 |    10 |    191 |    101 | A=191                             | —                           |    0 |      0
14 | fee 0                                                           | U1:Y10000 U2:Y20000 U3:N15000                 | win Y, fee 0bp                   |  45000 |     0 |  45000 |  30000 | U1=15000 U2=30000                 | —                           |    0 |      0
15 | fee 100%                                                        | U1:Y10000 U2:Y20000 U3:N15000                 | win Y, fee 10000bp               |  45000 | 45000 |      0 |  30000 | U1=0 U2=0                         | —                           |    0 |      0
17 | one-cent bets                                                   | A:Y1 B:Y1 C:N1                                | win Y                            |      3 |     0 |      3 |      2 | A=1 B=1                           | —                           |    1 |      0
18 | one-cent bets, largest remainder                                | A:Y1 B:Y1 C:N1                                | win Y, largest                   |      3 |     0 |      3 |      2 | A=2 B=1                           | —                           |    0 |      0
19 | whole-shilling break (unit 100)                                 | U1:Y10000 U2:Y20000 U3:N15000                 | win Y, unit 100                  |  45000 |  2250 |  42750 |  30000 | U1=14200 U2=28500                 | —                           |   50 |      0
20 | whole-shilling break, largest remainder                         | U1:Y10000 U2:Y20000 U3:N15000                 | win Y, unit 100, largest         |  45000 |  2250 |  42750 |  30000 | U1=14200 U2=28500                 | —                           |   50 |      0
22 | one user, three winning bets (floor once per user)              | A:Y33 A:Y33 A:Y34 B:Y100 C:N77                | win Y                            |    277 |    13 |    264 |    200 | A=132 B=132                       | —                           |    0 |      0
23 | user on both sides                                              | A:Y6000 A:N4000 B:N5000                       | win Y                            |  15000 |   750 |  14250 |   6000 | A=14250                           | —                           |    0 |      0
24 | two winning outcomes, stake split                               | A:X1000 B:Y3000 C:Z6000                       | win X+Y                          |  10000 |   500 |   9500 |   4000 | A=2375 B=7125                     | —                           |    0 |      0
25 | two winning outcomes, profit split                              | A:X1000 B:Y3000 C:Z6000                       | win X+Y, profit split            |  10000 |   500 |   9500 |   4000 | A=3750 B=5750                     | —                           |    0 |      0
26 | two winning outcomes, pool split                                | A:X1000 B:Y3000 C:Z6000                       | win X+Y, pool split              |  10000 |   500 |   9500 |   4000 | A=4750 B=4750                     | —                           |    0 |      0
27 | dead heat, pool split pays the favourite below stake            | A:X8000 B:Y1000 C:Z1000                       | win X+Y, pool split              |  10000 |   500 |   9500 |   9000 | A=4750 B=4750                     | —                           |    0 |      0
28 | dead heat, one winner unbacked (profit)                         | A:X1000 C:Z6000                               | win X+Y, profit split            |   7000 |   350 |   6650 |   1000 | A=6650                            | —                           |    0 |      0
30 | void market                                                     | U1:Y10000 U2:Y20000 U3:N15000                 | void                             |  45000 |     0 |      0 |      0 | —                                 | U1=10000 U2=20000 U3=15000  |    0 |      0
31 | late bet excluded and refunded                                  | A:Y10000 B:N10000 C:Y50000(late)              | win Y                            |  20000 |  1000 |  19000 |  10000 | A=19000                           | C=50000                     |    0 |      0
33 | cancelled bet before close                                      | A:Y10000 B:Y4000(cancelled) C:N6000           | win Y                            |  16000 |   800 |  15200 |  10000 | A=15200                           | B=4000                      |    0 |      0
34 | outcome withdrawn, others stand                                 | A:X2000 B:Y3000 C:Z5000                       | win X, withdrawn Z               |   5000 |   250 |   4750 |   2000 | A=4750                            | C=5000                      |    0 |      0
36 | partial 70/30 resolution                                        | A:Y10000 B:N10000                             | weights Y=7/10/N=3/10            |  20000 |  1000 |  19000 |  20000 | A=13300 B=5700                    | —                           |    0 |      0
40 | single bet, it wins                                             | A:Y10000                                      | win Y                            |  10000 |   500 |   9500 |  10000 | A=9500                            | —                           |    0 |      0
42 | empty market                                                    | —                                             | win Y                            |      0 |     0 |      0 |      0 | —                                 | —                           |    0 |      0
43 | big pool: products exceed 64 bits                               | A:Y333333333333 B:Y666666666667 C:N999999999999 | win Y                            | 1999999999999 | 99999999999 | 1900000000000 | 1000000000000 | A=633333333332 B=1266666666667    | —                           |    1 |      0
50 | the least dividend is rounded up                                | A:Y333 B:N1                                   | win Y, fee 0bp, house_topup 1.05 |    334 |     0 |    350 |    333 | A=350                             | —                           |    0 |     16
51 | no top-up where none is needed                                  | U1:Y10000 U2:Y20000 U3:N15000                 | win Y, house_topup 1.05          |  45000 |  2250 |  42750 |  30000 | U1=14250 U2=28500                 | —                           |    0 |      0
52 | the fee is capped at nothing, never below                       | A:Y10000 B:Y5000                              | win Y, cap_fee 2.00              |  15000 |     0 |  15000 |  15000 | A=10000 B=5000                    | —                           |    0 |      0
53 | a cap that does not bind                                        | U1:Y10000 U2:Y20000 U3:N15000                 | win Y, cap_fee 1.00              |  45000 |  2250 |  42750 |  30000 | U1=14250 U2=28500                 | —                           |    0 |      0
54 | profit split without a profit falls back to stake               | A:X8000 B:Y1000 C:Z100                        | win X+Y, profit split            |   9100 |   455 |   8645 |   9000 | A=7684 B=960                      | —                           |    1 |      0
55 | pool split, an unbacked winner drops out                        | A:X1000 C:Z6000                               | win X+Y, pool split              |   7000 |   350 |   6650 |   1000 | A=6650                            | —                           |    0 |      0
56 | a user on two winners is floored once, over both                | A:X50 A:Y1 B:X1 B:Y50 C:Z9                    | win X+Y, pool split, fee 0bp     |    111 |     0 |    111 |    102 | A=55 B=55                         | —                           |    1 |      0
57 | an unbacked weight goes to the others in proportion             | A:X1000 B:Y1000                               | weights X=1/5/Y=3/10/Z=1/2       |   2000 |   100 |   1900 |   2000 | A=760 B=1140                      | —                           |    0 |      0
58 | nobody is on any weight                                         | A:X1000                                       | weights Y=1/2/Z=1/2              |   1000 |     0 |      0 |      0 | —                                 | A=1000                      |    0 |      0
59 | no contest is left after a withdrawal                           | A:X2000 C:Z5000                               | win X, withdrawn Z               |   2000 |     0 |      0 |      0 | —                                 | A=2000 C=5000               |    0 |      0
60 | late on one side, cancelled on the other                        | A:Y100 B:N100(late) A:Y7(cancelled)           | win Y                            |    100 |     5 |     95 |    100 | A=95                              | A=7 B=100                   |    0 |      0
61 | void gives everything back once, the late bet too               | A:Y100 A:Y30(late)                            | void                             |    100 |     0 |      0 |      0 | —                                 | A=130                       |    0 |      0
62 | a tie goes to the first winning bet, not the first bet          | C:N51 B:Y100 A:Y100 C:Y100                    | win Y, largest                   |    351 |    17 |    334 |    300 | B=112 A=111 C=111                 | —                           |    0 |      0
63 | the same in a dead heat                                         | B:Y100 A:X100 C:Z51 D:Y100                    | win X+Y, largest                 |    351 |    17 |    334 |    300 | B=112 A=111 D=111                 | —                           |    0 |      0
64 | five units of ten over three winners leave two to hand out      | A:Y100 B:Y100 C:Y100 D:N50                    | win Y, unit 10, largest, fee 0bp |    350 |     0 |    350 |    300 | A=120 B=120 C=110                 | —                           |    0 |      0
65 | bets of one user are not floored one by one                     | A:Y1 A:Y1 B:N1                                | win Y                            |      3 |     0 |      3 |      2 | A=3                               | —                           |    0 |      0
66 | a withdrawn outcome that nobody backed still asks for a contest | A:X2000                                       | win X, withdrawn Z               |   2000 |     0 |      0 |      0 | —                                 | A=2000                      |    0 |      0
"""  # noqa: E501

_BET = re.compile(r"(?P<user>\w+):(?P<outcome>[A-Z])(?P<cents>\d+)(?:\((?P<fate>late|cancelled)\))?")
_LINES = [[cell.strip() for cell in line.split("|")] for line in BLACKBOARD.strip().splitlines()[1:]]


def number(letter: str) -> int:
    """Outcomes go by number in the program."""
    return ord(letter) - ord("A")


def stake(bet: str) -> Stake:
    match = _BET.fullmatch(bet)
    assert match is not None, bet
    fate = match["fate"]
    return Stake(match["user"], number(match["outcome"]), int(match["cents"]), fate == "late", fate == "cancelled")


def rules_and_resolution(rule: str) -> tuple[Rules, Resolution]:
    """The rule column in the program's words."""
    rules: dict[str, Any] = {"fee_bps": 500}
    resolution: dict[str, Any] = {}
    for words in rule.split(", "):
        match words.split():
            case ["win", letters]:
                resolution["winners"] = tuple(map(number, letters.split("+")))
            case ["weights", weights]:
                parts = re.findall(r"([A-Z])=(\d+/\d+)", weights)
                resolution["weights"] = tuple((number(letter), Fraction(weight)) for letter, weight in parts)
            case ["withdrawn", letter]:
                resolution["withdrawn"] = frozenset({number(letter)})
            case ["void"]:
                resolution["void"] = True
            case ["fee", bps]:
                rules["fee_bps"] = int(bps.removesuffix("bp"))
            case ["unit", cents]:
                rules["break_unit_cents"] = int(cents)
            case ["largest"]:
                rules["rounding"] = Rounding.LARGEST
            case ["profit" | "pool" as dead_heat, "split"]:
                rules["dead_heat"] = DeadHeat(dead_heat)
            case ["cap_fee" | "house_topup" as least, times]:
                rules["min_dividend"] = MinDividend(least)
                rules["min_dividend_bps"] = int(Fraction(times) * 10_000)
            case _:
                raise AssertionError(f"the blackboard says {words!r}, which nobody taught this test")
    return Rules(**rules), Resolution(**resolution)


def worked(bets: str, rule: str) -> Division:
    return divide(map(stake, bets.replace("—", "").split()), *rules_and_resolution(rule))


def amounts(cell: str) -> dict[str, int]:
    """`A=9500 B=4750`, by user."""
    return {user: int(cents) for user, cents in re.findall(r"(\w+)=(\d+)", cell)}


@pytest.mark.parametrize("line", [pytest.param(line, id=f"{line[0]}: {line[1]}") for line in _LINES])
def test_a_worked_pool_divides_as_on_the_blackboard(line: list[str]) -> None:
    _, _, bets, rule, gross, fee, net, winning_stake, payouts, refunds, left, top_up = line
    division = worked(bets, rule)

    assert division.gross_cents == int(gross)
    assert division.fee_cents == int(fee)
    assert division.net_cents == int(net)
    assert division.winning_stake_cents == int(winning_stake)
    assert division.breakage_cents == int(left)
    assert division.top_up_cents == int(top_up)
    assert list(division.payouts.items()) == list(amounts(payouts).items()), "in order of the first winning bet"
    given_back = dict(division.refunds)
    for user, cents in division.already_refunded.items():
        given_back[user] = given_back.get(user, 0) + cents
    assert given_back == amounts(refunds)


def test_no_line_of_the_blackboard_is_skipped() -> None:
    assert len({line[0] for line in _LINES}) == len(_LINES) == 50


def test_a_cancelled_bet_is_not_refunded_again() -> None:
    division = worked("A:Y10000 B:Y4000(cancelled) C:N6000", "win Y")

    assert division.refunds == {}
    assert division.already_refunded == {"B": 4000}
    assert division.staked_cents == 20_000


def test_the_dividend_is_exact() -> None:
    division = worked("A:Y1 B:Y2 C:N4", "win Y, fee 0bp")

    assert division.dividend == Fraction(7, 3)
    assert division.payouts == {"A": 2, "B": 4}


def test_outcomes_that_return_differently_have_no_common_dividend() -> None:
    division = worked("A:X1000 B:Y3000 C:Z6000", "win X+Y, profit split")

    assert division.dividend is None
    assert division.dividends == {number("X"): Fraction(15, 4), number("Y"): Fraction(23, 12)}


def test_where_all_is_refunded_there_is_no_dividend() -> None:
    assert worked("A:Y10000 B:Y5000", "void").dividend is None


#: What M-Pesa carries unless a line says otherwise: KES 10 to KES 250,000 a payment.
LIMITS = WireLimits()


@pytest.mark.parametrize(
    ("entitlement", "cut"),
    [
        pytest.param(14_250, [(14_250, 14_200)], id="P1: half a shilling stays"),
        pytest.param(28_500, [(28_500, 28_500)], id="P2: whole shillings"),
        pytest.param(999, [(999, 0)], id="P3: under the minimum, to the wallet"),
        pytest.param(1_000, [(1_000, 1_000)], id="P4: exactly the minimum"),
        pytest.param(1_099, [(1_099, 1_000)], id="P5: the minimum is tested after flooring"),
        pytest.param(
            60_000_000,
            [(25_000_000, 25_000_000), (25_000_000, 25_000_000), (10_000_000, 10_000_000)],
            id="P6: three legs",
        ),
        pytest.param(25_000_050, [(25_000_050, 25_000_000)], id="P7: a second leg would be under a shilling"),
        pytest.param(25_050_000, [(25_000_000, 25_000_000), (50_000, 50_000)], id="P8: two legs"),
        pytest.param(25_000_500, [(24_999_500, 24_999_500), (1_000, 1_000)], id="P9: the last leg borrows"),
        pytest.param(25_000_550, [(24_999_500, 24_999_500), (1_050, 1_000)], id="borrowing carries the cents along"),
        pytest.param(
            50_000_500,
            [(25_000_000, 25_000_000), (24_999_500, 24_999_500), (1_000, 1_000)],
            id="only the leg just before lends",
        ),
        pytest.param(25_001_000, [(25_000_000, 25_000_000), (1_000, 1_000)], id="a last leg at the minimum"),
        pytest.param(25_000_000, [(25_000_000, 25_000_000)], id="exactly the maximum"),
        pytest.param(1, [(1, 0)], id="one cent"),
        pytest.param(0, [], id="nothing owed, no leg"),
    ],
)
def test_an_entitlement_is_cut_into_what_m_pesa_carries(entitlement: int, cut: list[tuple[int, int]]) -> None:
    assert legs(entitlement, LIMITS) == [Leg(amount_cents=amount, wire_cents=wire) for amount, wire in cut]
