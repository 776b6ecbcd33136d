"""Dividing the pool of a market among those who backed what won.

Everyone who backed the winner shares the stakes of all, less the operator's fee, in proportion to
their stake. One way of counting serves every option: each winning outcome gets a *dividend*, an
exact fraction that says what one cent on it returns; what a user is owed is the sum of stake times
dividend, rounded down **once per user**; what rounding leaves has a name, breakage. All of it is
whole cents and exact fractions, in Python integers, which no product overflows.

A division that does not conserve money cannot leave this module.

Source (order of operations: refunds first, takeout from the gross pool): Arizona R19-2-523 and
Indiana 71 IAC 9-4-1. Each option names its own source below.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from kasoko_cli.domain.market import DeadHeat, MinDividend, Resolution, Rounding, Rules
from kasoko_cli.domain.money import BPS_PER_WHOLE
from kasoko_cli.errors import LedgerUnbalanced


class Stake(NamedTuple):
    """One bet, as far as dividing cares: who put how many cents on which outcome (numbered from 0).

    `late` is a bet stamped at or after the close: it is refunded and takes no part. `cancelled` is a bet
    that was refunded when it was cancelled: nothing more is owed for it, late or not. A tuple, since a
    division reads a million of them.
    """

    user_id: str
    outcome: int
    cents: int
    late: bool = False
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Division:
    """Who gets what of one market, in cents, and where every cent of it went.

    Where everything is refunded the fee, the net and the winning stake read 0 and nobody is in `payouts`.
    """

    #: Every stake that was read, whatever its fate.
    staked_cents: int
    #: The valid stakes: not cancelled, not late, not on a withdrawn outcome.
    gross_cents: int
    #: The operator's takeout of the gross.
    fee_cents: int
    #: What the winners share: the gross less the fee, and the operator's top-up.
    net_cents: int
    #: The stakes on the winning outcomes.
    winning_stake_cents: int
    #: What each winner is owed, in order of their first winning bet; somebody may be owed 0.
    payouts: Mapping[str, int] = field(default_factory=dict)
    #: Stakes to give back now: late, withdrawn, void, nobody on the winner.
    refunds: Mapping[str, int] = field(default_factory=dict)
    #: Stakes of cancelled bets, which were given back when they were cancelled.
    already_refunded: Mapping[str, int] = field(default_factory=dict)
    #: What each winner had staked on the outcomes that won.
    staked: Mapping[str, int] = field(default_factory=dict)
    #: What rounding down left.
    breakage_cents: int = 0
    #: What the operator adds so that the least dividend is reached.
    top_up_cents: int = 0
    #: What one cent on each winning outcome returns, exactly, before rounding.
    dividends: Mapping[int, Fraction] = field(default_factory=dict)

    @property
    def dividend(self) -> Fraction | None:
        """The one dividend of all winning outcomes; None where they differ or where nobody won."""
        different = set(self.dividends.values())
        return different.pop() if len(different) == 1 else None

    def check_conserved(self) -> None:
        """Refuse a division that would mint or lose a cent.

        Raises:
            LedgerUnbalanced: this is a bug. Not an `assert`, which `python -O` would leave out.
        """
        paid = sum(self.payouts.values())
        given_back = sum(self.refunds.values()) + sum(self.already_refunded.values())
        out = paid + given_back + self.fee_cents + self.breakage_cents
        least = min(
            self.fee_cents,
            self.net_cents,
            self.breakage_cents,
            self.top_up_cents,
            self.gross_cents - self.fee_cents,
            min(self.payouts.values(), default=0),
            min(self.refunds.values(), default=0),
        )
        if out != self.staked_cents + self.top_up_cents or least < 0 or type(out) is not int:
            raise LedgerUnbalanced(
                f"Dividing stakes of {self.staked_cents} cents and a top-up of {self.top_up_cents} gave away {out}: "
                f"payouts {paid}, refunds {given_back}, fee {self.fee_cents}, breakage {self.breakage_cents}."
            )


def divide(stakes: Iterable[Stake], rules: Rules, resolution: Resolution) -> Division:
    """Divide a pool. One pass over the bets; what is kept of them is a sum per user and outcome.

    The order of the bets only matters for a tie under `Rounding.LARGEST`, and for the order of the answer.

    Source (late bets are no valid bets): Texas 16-321.217.
    """
    pool = _read(stakes, resolution.named)
    terms = terms_of({outcome: sum(own.values()) for outcome, own in pool.valid.items()}, rules, resolution)
    payouts = _payouts(pool, terms, rules)
    division = Division(
        staked_cents=pool.staked_cents,
        gross_cents=terms.gross_cents,
        fee_cents=terms.fee_cents,
        net_cents=terms.net_cents,
        winning_stake_cents=terms.winning_stake_cents,
        payouts=payouts,
        refunds=_per_user(pool.late, *(pool.valid[outcome] for outcome in terms.given_back)),
        staked=_staked(pool, terms.dividends),
        already_refunded=pool.cancelled,
        breakage_cents=terms.net_cents - sum(payouts.values()),
        top_up_cents=terms.top_up_cents,
        dividends=terms.dividends,
    )
    division.check_conserved()
    return division


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """How a pool is shared, from the sums on its outcomes alone; what a bettor is owed follows from these and from
    their own stakes. Amounts in cents.
    """

    gross_cents: int
    fee_cents: int
    net_cents: int
    top_up_cents: int
    winning_stake_cents: int
    #: What one cent on each winning outcome returns, exactly; nothing where every stake goes back.
    dividends: Mapping[int, Fraction]
    #: The outcomes whose valid stakes go back.
    given_back: tuple[int, ...]
    #: The same dividends over one denominator, and that denominator for each break unit.
    times: Mapping[int, int]
    step: int
    unit_cents: int

    def owed(self, stakes: Mapping[int, int]) -> int | None:
        """What a bettor with these valid stakes is owed, rounded down once; None where nothing of theirs won."""
        won = [cents * self.times[outcome] for outcome, cents in stakes.items() if outcome in self.times]
        return sum(won) // self.step * self.unit_cents if won else None


def terms_of(valid: Mapping[int, int], rules: Rules, resolution: Resolution) -> PoolTerms:
    """How a pool is shared, from the valid stakes on each outcome that has bets, in cents."""
    standing = {outcome: cents for outcome, cents in valid.items() if outcome not in resolution.withdrawn}
    # One outcome alone is a pool like any other, but what a withdrawal leaves alone is no contest any more.
    no_contest = resolution.void or (bool(resolution.withdrawn) and len(standing) < 2)
    named = resolution.named
    winning = {} if no_contest else {outcome: cents for outcome, cents in standing.items() if outcome in named}
    given_back = tuple(outcome for outcome in valid if not (winning and outcome in standing))
    gross = sum(standing.values())
    fee = net = top_up = 0
    dividends: dict[int, Fraction] = {}
    if winning:
        fee, top_up = _takeout(gross, sum(winning.values()), rules)
        net = gross - fee + top_up
        dividends = _dividends(net, winning, rules.dead_heat, dict(resolution.weights))
    denominator = lcm(*(dividend.denominator for dividend in dividends.values()))
    return PoolTerms(
        gross_cents=gross,
        fee_cents=fee,
        net_cents=net,
        top_up_cents=top_up,
        winning_stake_cents=sum(winning.values()),
        dividends=dividends,
        given_back=given_back,
        times={outcome: int(dividend * denominator) for outcome, dividend in dividends.items()},
        step=denominator * rules.break_unit_cents,
        unit_cents=rules.break_unit_cents,
    )


@dataclass(slots=True)
class _Pool:
    """The bets of a market, summed in cents per user while they are read; the valid ones per outcome too."""

    staked_cents: int = 0
    valid: defaultdict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    late: dict[str, int] = field(default_factory=dict)
    cancelled: dict[str, int] = field(default_factory=dict)
    #: Where several outcomes are named as winning: who backed one, in order of their first such bet.
    winners: dict[str, None] = field(default_factory=dict)


def _read(stakes: Iterable[Stake], named: Set[int]) -> _Pool:
    pool = _Pool()
    several = len(named) > 1
    for user_id, outcome, cents, late, cancelled in stakes:
        assert cents > 0, "a bet of nothing is refused when it is placed"
        pool.staked_cents += cents
        if cancelled:
            kept = pool.cancelled
        elif late:
            kept = pool.late
        else:
            kept = pool.valid[outcome]
            if several and outcome in named:
                pool.winners[user_id] = None
        kept[user_id] = kept.get(user_id, 0) + cents
    return pool


def _takeout(gross: int, winning_stake: int, rules: Rules) -> tuple[int, int]:
    """The fee, rounded down, and what the operator adds, so that net / winning stake is the least dividend.

    Source (the least dividend is paid from the operator's commission): Ohio 3769-13-09.
    """
    fee = gross * rules.fee_bps // BPS_PER_WHOLE
    if rules.min_dividend is MinDividend.NONE:
        return fee, 0
    least_net = -(-winning_stake * rules.min_dividend_bps // BPS_PER_WHOLE)  # rounded up: never under the promise
    if rules.min_dividend is MinDividend.CAP_FEE:
        return min(fee, max(gross - least_net, 0)), 0
    return fee, max(least_net - (gross - fee), 0)


def _dividends(
    net: int, winning: Mapping[int, int], dead_heat: DeadHeat, weights: Mapping[int, Fraction]
) -> dict[int, Fraction]:
    """What one cent on each winning outcome returns, exactly. `winning` has only outcomes with bets.

    An outcome that won without bets has dropped out: its part goes to the others, in proportion to
    their weights.

    Source (profit split): Ohio 3769-13-16.
    """
    winning_stake = sum(winning.values())
    if weights:
        backed = sum(weights[outcome] for outcome in winning)
        return {outcome: weights[outcome] / backed * net / stake for outcome, stake in winning.items()}
    if dead_heat is DeadHeat.POOL:
        return {outcome: Fraction(net, len(winning) * stake) for outcome, stake in winning.items()}
    profit = net - winning_stake
    if dead_heat is DeadHeat.PROFIT and profit >= 0:
        return {outcome: 1 + Fraction(profit, len(winning) * stake) for outcome, stake in winning.items()}
    return dict.fromkeys(winning, Fraction(net, winning_stake))


def _payouts(pool: _Pool, terms: PoolTerms, rules: Rules) -> dict[str, int]:
    """What each winner is owed, rounded down once per user to the break unit.

    Under `Rounding.LARGEST` the whole units that this leaves are handed out, one each, by largest fraction.

    Source (rounding down to the cent): Kentucky KRS 230.3615.
    """
    if not terms.dividends:
        return {}
    unit, step = terms.unit_cents, terms.step
    payouts = {user_id: owed // step * unit for user_id, owed in _owed(pool, terms.times)}
    left = terms.net_cents - sum(payouts.values())
    assert 0 <= left < unit * len(payouts), "rounding down leaves less than a unit for each winner"
    if rules.rounding is Rounding.LARGEST and left >= unit:
        fractions = {user_id: owed % step for user_id, owed in _owed(pool, terms.times)}
        # Sorting keeps the order of equals, and the winners stand in order of their first bet.
        for user_id in sorted(fractions, key=lambda user_id: -fractions[user_id])[: left // unit]:
            payouts[user_id] += unit
    return payouts


def _owed(pool: _Pool, per_cent: Mapping[int, int]) -> Iterator[tuple[str, int]]:
    """Each winner and their exact entitlement, as a numerator over the dividends' common denominator."""
    if len(per_cent) == 1:
        [(outcome, times)] = per_cent.items()
        yield from ((user_id, stake * times) for user_id, stake in pool.valid[outcome].items())
        return
    backed = [(pool.valid[outcome], times) for outcome, times in per_cent.items()]
    for user_id in pool.winners:
        yield user_id, sum(stakes.get(user_id, 0) * times for stakes, times in backed)


def _staked(pool: _Pool, winning: Collection[int]) -> Mapping[str, int]:
    """What each winner had on the outcomes that won; where there is one, it is the pool's own sum."""
    if len(winning) == 1:
        return pool.valid[next(iter(winning))]
    return _per_user(*(pool.valid[outcome] for outcome in winning))


def _per_user(*parts: Mapping[str, int]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for user_id, cents in part.items():
            total[user_id] = total.get(user_id, 0) + cents
    return total
