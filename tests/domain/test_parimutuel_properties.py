"""What holds for every pool, tried on random ones under random rules."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping
from fractions import Fraction
from math import floor
from random import Random
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from kasoko_cli.domain.market import DeadHeat, MinDividend, Resolution, Rounding, Rules
from kasoko_cli.domain.money import MAX_CENTS
from kasoko_cli.domain.parimutuel import Division, Stake, divide
from kasoko_cli.domain.payout import WireLimits, legs
from kasoko_cli.errors import LedgerUnbalanced

#: The same pools on every run, so that a red build stays red.
FIXED = settings(derandomize=True, max_examples=200, deadline=None)

OUTCOMES = range(4)

#: Small sums meet in ties; large ones pass 64 bits as soon as two are multiplied.
cents = st.one_of(st.integers(1, 12), st.integers(1, 100_000), st.integers(1, MAX_CENTS))

bets = st.lists(
    st.builds(
        Stake,
        user_id=st.sampled_from("ABCDEFG"),
        outcome=st.sampled_from(OUTCOMES),
        cents=cents,
        late=st.sampled_from([False, False, False, True]),
        cancelled=st.sampled_from([False, False, False, True]),
    ),
    max_size=25,
)

rules = st.builds(
    Rules,
    fee_bps=st.one_of(st.integers(0, 10_000), st.just(500)),
    rounding=st.sampled_from(Rounding),
    break_unit_cents=st.sampled_from([1, 1, 5, 100]),
    dead_heat=st.sampled_from(DeadHeat),
    min_dividend=st.sampled_from(MinDividend),
    min_dividend_bps=st.sampled_from([10_000, 10_000, 10_500, 12_345]),
)

house_rules = rules.map(lambda some: dataclasses.replace(some, rounding=Rounding.HOUSE))


@st.composite
def resolutions(draw: st.DrawFn) -> Resolution:
    """Winners, weights or void, and now and then a withdrawn outcome."""
    shape = draw(st.sampled_from(["winners", "winners", "winners", "weights", "void"]))
    if shape == "void":
        return Resolution(void=True)
    named = draw(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=3, unique=True))
    others = [outcome for outcome in OUTCOMES if outcome not in named]
    withdrawn = frozenset(draw(st.one_of(st.just([]), st.lists(st.sampled_from(others), max_size=2))))
    if shape == "winners":
        return Resolution(winners=tuple(named), withdrawn=withdrawn)
    parts = draw(st.lists(st.integers(1, 9), min_size=len(named), max_size=len(named)))
    weights = tuple((outcome, Fraction(part, sum(parts))) for outcome, part in zip(named, parts, strict=True))
    return Resolution(weights=weights, withdrawn=withdrawn)


def sums(stakes: list[Stake]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for stake in stakes:
        total[stake.user_id] += stake.cents
    return total


def winning_stakes(stakes: list[Stake], division: Division) -> dict[str, dict[int, int]]:
    """By user and outcome, what took part and won."""
    backed: dict[str, dict[int, int]] = defaultdict(dict)
    for stake in stakes:
        if not stake.late and not stake.cancelled and stake.outcome in division.dividends:
            mine = backed[stake.user_id]
            mine[stake.outcome] = mine.get(stake.outcome, 0) + stake.cents
    return backed


@FIXED
@given(bets, rules, resolutions())
def test_every_cent_goes_somewhere_and_none_is_minted(stakes: list[Stake], by: Rules, resolved: Resolution) -> None:
    division = divide(stakes, by, resolved)

    paid = sum(division.payouts.values()) + sum(division.refunds.values()) + sum(division.already_refunded.values())
    assert paid + division.fee_cents + division.breakage_cents == sum(sums(stakes).values()) + division.top_up_cents
    assert all(type(amount) is int and amount >= 0 for amount in division.payouts.values())
    assert all(type(amount) is int and amount > 0 for amount in division.refunds.values())
    assert 0 <= division.fee_cents <= division.gross_cents
    assert division.already_refunded == sums([stake for stake in stakes if stake.cancelled])


@FIXED
@given(bets, rules, resolutions())
def test_breakage_is_less_than_a_unit_for_each_winner(stakes: list[Stake], by: Rules, resolved: Resolution) -> None:
    division = divide(stakes, by, resolved)

    most = by.break_unit_cents * (len(division.payouts) if by.rounding is Rounding.HOUSE else 1)
    assert division.breakage_cents == 0 or 0 < division.breakage_cents < most
    assert all(amount % by.break_unit_cents == 0 for amount in division.payouts.values())


@FIXED
@given(bets, rules, resolutions())
def test_a_payout_is_stake_times_dividend_rounded_down_once(
    stakes: list[Stake], by: Rules, resolved: Resolution
) -> None:
    """Counted a second time, slowly, in fractions: never rounded up, never bet by bet."""
    division = divide(stakes, by, resolved)
    assume(division.payouts)

    backed = winning_stakes(stakes, division)
    assert set(backed) == set(division.payouts)
    shared = Fraction(0)
    for user, mine in backed.items():
        exact = sum((stake * division.dividends[outcome] for outcome, stake in mine.items()), Fraction(0))
        down = floor(exact / by.break_unit_cents) * by.break_unit_cents
        more = division.payouts[user] - down
        assert more == 0 or (by.rounding is Rounding.LARGEST and more == by.break_unit_cents and exact > down)
        shared += exact
    assert shared == division.net_cents


@FIXED
@given(bets, st.integers(0, 10_000), st.sampled_from(OUTCOMES))
def test_the_default_rule_is_the_operators_formula(stakes: list[Stake], fee_bps: int, winner: int) -> None:
    division = divide(stakes, Rules(fee_bps), Resolution(winners=(winner,)))

    valid = [stake for stake in stakes if not stake.late and not stake.cancelled]
    gross = sum(stake.cents for stake in valid)
    backers = sums([stake for stake in valid if stake.outcome == winner])
    assume(backers)
    fee = gross * fee_bps // 10_000
    winning = sum(backers.values())
    assert division.fee_cents == fee
    assert division.payouts == {user: stake * (gross - fee) // winning for user, stake in backers.items()}
    assert division.refunds == sums([stake for stake in stakes if stake.late and not stake.cancelled])
    assert division.dividend == Fraction(gross - fee, winning)


@FIXED
@given(bets, rules, resolutions())
def test_where_nobody_wins_everyone_gets_all_of_it_back(stakes: list[Stake], by: Rules, resolved: Resolution) -> None:
    division = divide(stakes, by, resolved)
    assume(not division.payouts)

    assert division.refunds == sums([stake for stake in stakes if not stake.cancelled])
    assert (division.fee_cents, division.net_cents, division.breakage_cents, division.top_up_cents) == (0, 0, 0, 0)


@FIXED
@given(bets, rules, resolutions(), st.sampled_from(OUTCOMES))
def test_more_stake_on_an_outcome_never_pays_less_and_equal_stakes_pay_the_same(
    stakes: list[Stake], by: Rules, resolved: Resolution, outcome: int
) -> None:
    division = divide(stakes, by, resolved)

    backed = winning_stakes(stakes, division)
    on_it_alone = [(mine[outcome], division.payouts[user]) for user, mine in backed.items() if [*mine] == [outcome]]
    for stake, payout in on_it_alone:
        for other_stake, other_payout in on_it_alone:
            if stake < other_stake:
                assert payout <= other_payout
            if stake == other_stake and by.rounding is Rounding.HOUSE:
                assert payout == other_payout


@FIXED
@given(bets, house_rules, resolutions(), st.randoms(use_true_random=False))
def test_the_order_of_bets_does_not_matter_to_the_house(
    stakes: list[Stake], by: Rules, resolved: Resolution, chance: Random
) -> None:
    shuffled = list(stakes)
    chance.shuffle(shuffled)

    assert divide(shuffled, by, resolved) == divide(stakes, by, resolved)


@FIXED
@given(bets, rules, resolutions(), st.data())
def test_splitting_a_bet_in_two_changes_nothing(
    stakes: list[Stake], by: Rules, resolved: Resolution, data: st.DataObject
) -> None:
    large = [place for place, stake in enumerate(stakes) if stake.cents > 1]
    assume(large)
    place = data.draw(st.sampled_from(large))
    whole = stakes[place]
    part = data.draw(st.integers(1, whole.cents - 1))
    split = [
        *stakes[:place],
        whole._replace(cents=part),
        whole._replace(cents=whole.cents - part),
        *stakes[place + 1 :],
    ]

    assert divide(split, by, resolved) == divide(stakes, by, resolved)


@FIXED
@given(bets, st.integers(0, 10_000), st.lists(st.sampled_from(OUTCOMES), min_size=1, unique=True))
def test_with_the_fee_capped_at_the_stake_no_winner_loses(
    stakes: list[Stake], fee_bps: int, winners: list[int]
) -> None:
    by = Rules(fee_bps, min_dividend=MinDividend.CAP_FEE)
    division = divide(stakes, by, Resolution(winners=tuple(winners)))

    for user, mine in winning_stakes(stakes, division).items():
        assert division.payouts[user] >= sum(mine.values())


@FIXED
@given(bets, rules, resolutions())
def test_the_least_dividend_is_kept_and_never_costs_more_than_it_must(
    stakes: list[Stake], by: Rules, resolved: Resolution
) -> None:
    division = divide(stakes, by, resolved)
    assume(division.winning_stake_cents)

    plain_fee = division.gross_cents * by.fee_bps // 10_000
    promised = Fraction(division.winning_stake_cents * by.min_dividend_bps, 10_000)
    if by.min_dividend is MinDividend.NONE:
        assert (division.fee_cents, division.top_up_cents) == (plain_fee, 0)
    if by.min_dividend is MinDividend.CAP_FEE:
        assert division.top_up_cents == 0
        assert division.fee_cents == 0 or division.net_cents >= promised
        assert division.fee_cents == plain_fee or division.net_cents < promised + 1
    if by.min_dividend is MinDividend.HOUSE_TOPUP:
        assert division.fee_cents == plain_fee
        assert division.net_cents >= promised
        assert division.top_up_cents == 0 or division.net_cents < promised + 1


@FIXED
@given(bets, rules, resolutions())
def test_dividing_twice_gives_the_same(stakes: list[Stake], by: Rules, resolved: Resolution) -> None:
    assert divide(iter(stakes), by, resolved) == divide(iter(stakes), by, resolved)


@FIXED
@example(25_000_500, WireLimits())
@given(
    st.one_of(st.integers(0, 3_000), st.integers(0, 100_000_000), st.integers(24_990_000, 25_010_000)),
    st.sampled_from([WireLimits(), WireLimits(100, 200), WireLimits(1_000, 2_000), WireLimits(5_000, 99_900)]),
)
def test_legs_carry_all_that_m_pesa_can_and_sum_to_what_is_owed(entitlement: int, limits: WireLimits) -> None:
    assume(entitlement < limits.max_cents * 2_000)
    cut = legs(entitlement, limits)

    assert sum(leg.amount_cents for leg in cut) == entitlement
    assert all(leg.wire_cents <= leg.amount_cents for leg in cut)
    carried = sum(leg.wire_cents for leg in cut)
    assert carried == (entitlement // 100 * 100 if entitlement // 100 * 100 >= limits.min_cents else 0)
    if carried:
        assert all(limits.min_cents <= leg.wire_cents <= limits.max_cents for leg in cut)
        assert all(leg.wire_cents % 100 == 0 for leg in cut)
        assert all(leg.amount_cents == leg.wire_cents for leg in cut[:-1])
        assert len(cut) == -(-carried // limits.max_cents), "no more payments than it takes"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"breakage_cents": 1}, id="a cent minted"),
        pytest.param({"payouts": {"A": 18_999}}, id="a cent lost"),
        pytest.param({"payouts": {"A": 19_001}, "breakage_cents": -1}, id="breakage below nothing"),
        pytest.param({"payouts": {"A": 20_001, "B": -1}, "fee_cents": 0}, id="a payout below nothing"),
        pytest.param({"payouts": {"A": 0}, "fee_cents": 20_000, "gross_cents": 19_999}, id="a fee above the gross"),
        pytest.param({"payouts": {"A": 19_000.0}}, id="a float"),
    ],
)
def test_a_division_that_does_not_conserve_money_is_refused(change: dict[str, Any]) -> None:
    sound = divide([Stake("A", 0, 10_000), Stake("B", 1, 10_000)], Rules(500), Resolution(winners=(0,)))

    with pytest.raises(LedgerUnbalanced, match="Dividing stakes of 20000 cents"):
        dataclasses.replace(sound, **change).check_conserved()


def test_no_division_leaves_unchecked_and_a_float_is_found() -> None:
    with pytest.raises(LedgerUnbalanced, match=r"Dividing stakes of 1\.5 cents"):
        divide([Stake("A", 0, 1.5)], Rules(500), Resolution(void=True))  # type: ignore[arg-type]


def test_a_bet_of_nothing_never_reaches_a_division() -> None:
    with pytest.raises(AssertionError, match="refused when it is placed"):
        divide([Stake("A", 0, 0)], Rules(500), Resolution(winners=(0,)))
