"""Duties: what is kept back, checked with a pencil and over random amounts."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kasoko_cli.domain.payout import WireLimits, legs
from kasoko_cli.domain.withholding import BASES, Base, Duties, Duty, DutyBook, On, RoundTo, kept_of_winners
from kasoko_cli.errors import ConfigurationError

WINNINGS = Duty(
    "a duty on winnings", On.WINNINGS, Base.PROFIT, 1_000, date(2026, 1, 1), None, RoundTo.DOWN, 1, False, "made up"
)
WITHDRAWALS = Duty(
    "a duty on withdrawals",
    On.WITHDRAWALS,
    Base.WITHDRAWN,
    500,
    date(2026, 1, 1),
    None,
    RoundTo.HALF_UP,
    1,
    False,
    "made up",
)
LIMITS = WireLimits()


def test_the_operators_example_under_a_made_up_duty_of_ten_percent_of_the_profit() -> None:
    kept = kept_of_winners(WINNINGS, {"U1": 14_250, "U2": 28_500}, {"U1": 10_000, "U2": 20_000})
    assert kept == {"U1": 425, "U2": 850}


@pytest.mark.parametrize(
    ("base", "rounding", "unit", "payout", "staked", "kept"),
    [
        (Base.PROFIT, RoundTo.DOWN, 1, 14_259, 10_000, 425),
        (Base.PROFIT, RoundTo.UP, 1, 14_259, 10_000, 426),
        (Base.PROFIT, RoundTo.HALF_UP, 1, 14_255, 10_000, 426),
        (Base.PROFIT, RoundTo.HALF_UP, 1, 14_254, 10_000, 425),
        (Base.PROFIT, RoundTo.DOWN, 100, 14_259, 10_000, 400),
        (Base.PROFIT, RoundTo.UP, 100, 14_259, 10_000, 500),
        (Base.PAYOUT, RoundTo.DOWN, 1, 14_259, 10_000, 1_425),
        (Base.PROFIT, RoundTo.UP, 1, 9_500, 10_000, 0),
        (Base.PAYOUT, RoundTo.UP, 100, 40, 10, 40),
    ],
)
def test_winnings(base: Base, rounding: RoundTo, unit: int, payout: int, staked: int, kept: int) -> None:
    duty = replace(WINNINGS, base=base, rounding=rounding, unit_cents=unit)
    assert duty.kept_of_win(payout, staked) == kept


@pytest.mark.parametrize(
    ("base", "owed", "sent", "kept"),
    [
        (Base.WITHDRAWN, 14_250, 13_500, 711),  # 5 % of 142.11
        (Base.WITHDRAWN, 10_000, 9_500, 500),
        (Base.WITHDRAWN, 9_999, 9_400, 495),
        (Base.SENT, 14_250, 13_500, 675),
        (Base.SENT, 10_500, 10_000, 500),
        (Base.SENT, 10_499, 9_900, 495),
    ],
)
def test_withdrawals(base: Base, owed: int, sent: int, kept: int) -> None:
    [leg] = legs(owed, LIMITS, replace(WITHDRAWALS, base=base))
    assert leg == (owed, sent, kept)


def test_what_stays_under_the_least_that_can_be_sent_goes_to_the_wallet_whole() -> None:
    assert legs(1_050, LIMITS, WITHDRAWALS) == [(1_050, 0, 0)]
    assert legs(1_053, LIMITS, WITHDRAWALS) == [(1_053, 1_000, 53)]


DUTIES = st.builds(
    lambda base, rate, rounding, unit: replace(
        WITHDRAWALS, base=base, rate_bps=rate, rounding=rounding, unit_cents=unit
    ),
    st.sampled_from(BASES[On.WITHDRAWALS]),
    st.integers(1, 9_999),
    st.sampled_from(RoundTo),
    st.sampled_from([1, 100]),
)


@given(DUTIES, st.integers(0, 10**9))
def test_the_most_is_sent_that_leaves_its_own_duty(duty: Duty, cents: int) -> None:
    sent = duty.most_sent(cents)
    assert sent % 100 == 0
    assert 0 <= sent + duty.kept_of_sent(sent) <= cents or sent == 0
    assert sent + 100 + duty.kept_of_sent(sent + 100) > cents


@given(DUTIES, st.integers(0, 10**7))
def test_what_is_kept_of_a_withdrawal_is_the_rate_of_all_that_leaves(duty: Duty, shillings: int) -> None:
    kept = duty.kept_of_sent(shillings * 100)
    exact = Fraction(duty.base_of_sent(shillings * 100, kept) * duty.rate_bps, 10_000 * duty.unit_cents)
    nearest = {
        RoundTo.DOWN: exact.__floor__(),
        RoundTo.UP: exact.__ceil__(),
        RoundTo.HALF_UP: (exact + Fraction(1, 2)).__floor__(),
    }
    assert kept == nearest[duty.rounding] * duty.unit_cents


@given(st.none() | DUTIES, st.integers(0, 300_000_000))
def test_legs_under_a_duty_add_up_and_keep_the_limits(duty: Duty | None, owed: int) -> None:
    cut = legs(owed, LIMITS, duty)
    assert sum(leg.amount_cents for leg in cut) == owed
    for leg in cut:
        kept = duty.kept_of_sent(leg.wire_cents) if duty else 0
        assert leg.withheld_cents == kept
        assert leg.wire_cents + kept <= leg.amount_cents
        assert leg.wire_cents == 0 or LIMITS.min_cents <= leg.wire_cents <= LIMITS.max_cents
    if len(cut) > 1:
        assert all(leg.wire_cents for leg in cut)
    for leg in cut[:-1]:
        assert leg.amount_cents == leg.wire_cents + leg.withheld_cents, "what is left rides on the last leg"


def test_the_rule_of_a_day_is_the_one_that_holds_on_it() -> None:
    before = replace(WINNINGS, name="before", valid_until=date(2026, 6, 30))
    after = replace(WINNINGS, name="after", valid_from=date(2026, 7, 1), rate_bps=500)
    book = DutyBook((after, before, WITHDRAWALS))
    assert book.on(date(2025, 12, 31)) == Duties()
    assert book.on(date(2026, 6, 30)) == Duties(before, WITHDRAWALS)
    assert book.on(date(2026, 7, 1)) == Duties(after, WITHDRAWALS)
    assert Duties.from_dict(book.on(date(2026, 7, 1)).as_dict()) == Duties(after, WITHDRAWALS)
    assert not Duties()
    assert Duties(None, WITHDRAWALS).on_sending(refund=True) is None
    assert Duties(None, replace(WITHDRAWALS, with_refunds=True)).on_sending(refund=True) is not None


def test_two_rules_on_one_thing_on_one_day_are_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        DutyBook((WINNINGS, replace(WINNINGS, name="another", valid_from=date(2026, 7, 1))))
    assert refused.value.message == "The duties 'a duty on winnings' and 'another' are both on winnings on 2026-07-01."
    assert refused.value.hint == "Give the earlier one a valid_until, the day before the later one begins."


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"base": Base.SENT}, "is on winnings, and its base is sent"),
        ({"rate_bps": 0}, "has a rate of 0 basis points"),
        ({"rate_bps": 10_000}, "has a rate of 10000 basis points"),
        ({"unit_cents": 5}, "is rounded to 5 cents"),
        ({"valid_until": date(2025, 1, 1)}, "ends before it begins"),
        ({"with_refunds": True}, "taxes refunds as winnings"),
        ({"source": " "}, "has no name, or does not say where it is from"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        replace(WINNINGS, **wrong)
    assert refused.value.message == f"The duty 'a duty on winnings' {says}."
