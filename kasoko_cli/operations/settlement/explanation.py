"""How one payout came about: every figure of it, worked out again from the bets.

What one cent on an outcome returns depends on the sums alone, so everybody else's stakes are divided as one. An
explanation that does not end at the amount that is owed is a failed check.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from sqlmodel import Session

from kasoko_cli.daraja.codes import Who, lookup
from kasoko_cli.domain.market import Resolution, Rounding, Rules
from kasoko_cli.domain.money import BPS_PER_WHOLE
from kasoko_cli.domain.parimutuel import Division, Stake, divide
from kasoko_cli.domain.payout import PayoutKind, PayoutStatus
from kasoko_cli.domain.phone import mask
from kasoko_cli.domain.withholding import Duties, Duty
from kasoko_cli.errors import CheckFailed
from kasoko_cli.operations.settlement.settle import debts_of, duties_of
from kasoko_cli.store import attempts, bets, markets, payouts
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt, Market, Payout, Settlement

#: Everybody but the user, as one: no user has an empty id.
_OTHERS = ""


@dataclass(frozen=True, slots=True)
class StakeFact:
    """What the user put on one outcome, and what became of it.

    `became` is one of won, lost, late, cancelled, withdrawn, refunded.
    """

    outcome: str
    stake_cents: int
    bets: int
    became: str


@dataclass(frozen=True, slots=True)
class DividendFact:
    """What one shilling on a winning outcome returns: the fraction exactly, and how it is made.

    `part_cents` is what all who backed this outcome share, as a fraction of cents.
    """

    outcome: str
    staked_cents: int
    part_cents: str
    dividend: str
    weight: str | None


@dataclass(frozen=True, slots=True)
class LegFact:
    """One payment of what the user is owed."""

    payout_id: str
    leg: int
    amount_cents: int
    wire_cents: int
    status: str


@dataclass(frozen=True, slots=True)
class TaxFact:
    """What a duty keeps back: its name and rate, what of it is taxed, and what is kept back of that."""

    name: str
    rate_bps: int
    base: str
    base_cents: int
    kept_cents: int


@dataclass(frozen=True, slots=True)
class SendFact:
    """One instruction to M-Pesa about this payout."""

    at: datetime
    wire_cents: int
    phone: str
    status: str
    ended_at: datetime | None
    receipt: str | None


@dataclass(frozen=True, slots=True)
class PayoutExplanation:
    """Every figure of one payout, in the order in which it is worked out.

    `had_cents` is what the user had, or was owed, before: above zero where the outcome was corrected after
    payouts were sent, and this payout is of the difference.
    """

    payout_id: str
    market: str
    slug: str
    question: str
    user: str
    kind: str
    status: str
    rules: Mapping[str, int | str]
    winners: list[str]
    weights: list[tuple[str, str]]
    withdrawn: list[str]
    void: bool
    closed_at: datetime
    settled_at: datetime
    gross_cents: int
    full_fee_cents: int
    fee_cents: int
    top_up_cents: int
    net_cents: int
    winning_stake_cents: int
    number_of_winners: int
    profit_cents: int
    stakes: list[StakeFact]
    dividends: list[DividendFact]
    entitlement: str
    floored_cents: int
    extra_cents: int
    won_cents: int
    tax: TaxFact | None
    had_cents: int
    owed_cents: int
    legs: list[LegFact]
    leg: int
    amount_cents: int
    wire_cents: int
    withheld: TaxFact | None
    stays_cents: int
    sends: list[SendFact]
    not_before: datetime | None
    failure_code: str | None
    at_fault: str | None


def explain_payout(db: Database, payout_id: str) -> PayoutExplanation:
    """How a payout came about.

    Raises:
        NotFound: there is no such payout.
        CheckFailed: the bets do not lead to the amount that is owed.
    """
    with db.reading() as session:
        payout = payouts.find_payout(session, payout_id)
        market = markets.find_market(session, payout.market_id)
        settlement = markets.find_settlement(session, payout.market_id, payout.settlement_no)
        assert market.closed_at is not None, "a market that was settled was closed"
        names = [outcome.name for outcome in markets.list_outcomes(session, market.id)]
        rules = Rules.from_dict(json.loads(settlement.rules))
        resolution = Resolution.from_dict(json.loads(settlement.resolution))
        own = [
            Stake(bet.user_id, bet.outcome, bet.stake_cents, bet.placed_at >= market.closed_at, bool(bet.cancelled_at))
            for bet in bets.bets_of(session, market.id, payout.user_id)
        ]
        sums = bets.valid_stakes(session, market.id, closed_at=market.closed_at)
        division = divide(_as_two_people(own, sums), rules, resolution)
        legs = [
            one
            for one in payouts.list_payouts(session, market_id=market.id, user_id=payout.user_id)
            if (one.settlement_no, one.kind) == (payout.settlement_no, payout.kind)
        ]
        tries = attempts.list_attempts(session, payout_id)
        case = _Case(
            payout, market, settlement, names, rules, resolution, duties_of(settlement), own, sums, division, legs
        )
        return _explained(case, _share(session, case), tries)


@dataclass(frozen=True, slots=True)
class _Case:
    """A payout with all that it follows from: `own` are the user's bets, `sums` the valid stakes on each outcome."""

    payout: Payout
    market: Market
    settlement: Settlement
    names: Sequence[str]
    rules: Rules
    resolution: Resolution
    duties: Duties
    own: Sequence[Stake]
    sums: Mapping[int, int]
    division: Division
    legs: Sequence[Payout]


def _as_two_people(own: Sequence[Stake], sums: Mapping[int, int]) -> list[Stake]:
    """The user's own bets, and the valid stakes of everybody else as one bet on each outcome."""
    mine: dict[int, int] = {}
    for stake in own:
        if not stake.late and not stake.cancelled:
            mine[stake.outcome] = mine.get(stake.outcome, 0) + stake.cents
    others = {outcome: cents - mine.get(outcome, 0) for outcome, cents in sums.items()}
    return [*own, *(Stake(_OTHERS, outcome, cents) for outcome, cents in others.items() if cents)]


@dataclass(frozen=True, slots=True)
class _Share:
    """What the user won (or gets back), what was kept back of it, and what of the rest they had before."""

    won_cents: int
    kept_cents: int
    had_cents: int


def _share(session: Session, case: _Case) -> _Share:
    """The user's share. Raises CheckFailed if it is not what is owed."""
    payout, division, settlement, duties = case.payout, case.division, case.settlement, case.duties
    found = (division.gross_cents, division.fee_cents, division.net_cents, division.winning_stake_cents)
    written = (settlement.gross_cents, settlement.fee_cents, settlement.net_cents, settlement.winning_stake_cents)
    user, owed = payout.user_id, sum(leg.amount_cents for leg in case.legs)
    won, back = division.payouts.get(user, 0), division.refunds.get(user, 0)
    is_correction = settlement.corrects is not None
    if is_correction:
        given = _given(session, payout) if settlement.reversed_at is None else None
    else:
        won, back = (0, back) if payout.kind is PayoutKind.REFUND else (won, 0)
        given = owed
    # Alone against one other, the user may get a unit under LARGEST that somebody else gets in truth.
    unit = case.rules.break_unit_cents if case.rules.rounding is Rounding.LARGEST and won else 0
    for gross in dict.fromkeys((won, won + unit, max(won - unit, 0))):
        kept = duties.winnings.kept_of_win(gross, division.staked.get(user, 0)) if duties.winnings and gross else 0
        net = gross - kept + back
        if found == written and given in (net, None):
            return _Share(gross + back, kept, net - owed if is_correction else 0)
    raise CheckFailed(
        f"{payout.id} cannot be explained: its bets do not lead to the amount that is owed. Nothing was changed.",
        hint="Send nothing of this market until that is understood: kasoko audit",
    )


def _given(session: Session, payout: Payout) -> int:
    """What a user has of a market or is owed of it after its corrections, less what those made them owe back."""
    owed = payouts.list_payouts(session, market_id=payout.market_id, user_id=payout.user_id)
    standing = sum(one.amount_cents for one in owed if one.status is not PayoutStatus.CANCELED)
    return standing - debts_of(session, payout.market_id).get(payout.user_id, 0)


def _explained(case: _Case, share: _Share, tries: Sequence[Attempt]) -> PayoutExplanation:
    payout, market, settlement = case.payout, case.market, case.settlement
    rules, resolution = case.rules, case.resolution
    names, division, sums, legs = case.names, case.division, case.sums, case.legs
    assert market.closed_at is not None
    won = sorted(division.dividends)
    mine = dict.fromkeys(won, 0)
    for stake in case.own:
        if stake.outcome in mine and not stake.late and not stake.cancelled:
            mine[stake.outcome] += stake.cents
    entitlement = sum((mine[outcome] * division.dividends[outcome] for outcome in won), Fraction(0))
    floored = int(entitlement) // rules.break_unit_cents * rules.break_unit_cents
    is_win = payout.kind is PayoutKind.PAYOUT
    owed = sum(leg.amount_cents for leg in legs)
    weights = dict(resolution.weights)
    failed = payout.status is PayoutStatus.FAILED
    return PayoutExplanation(
        payout_id=payout.id,
        market=market.id,
        slug=market.slug,
        question=market.question,
        user=payout.user_id,
        kind=str(payout.kind),
        status=str(payout.status),
        rules=rules.as_dict(),
        winners=[names[outcome] for outcome in resolution.winners],
        weights=[(names[outcome], str(weight)) for outcome, weight in resolution.weights],
        withdrawn=[names[outcome] for outcome in sorted(resolution.withdrawn)],
        void=resolution.void,
        closed_at=market.closed_at,
        settled_at=settlement.settled_at,
        gross_cents=settlement.gross_cents,
        full_fee_cents=settlement.gross_cents * rules.fee_bps // BPS_PER_WHOLE if division.dividends else 0,
        fee_cents=settlement.fee_cents,
        top_up_cents=settlement.top_up_cents,
        net_cents=settlement.net_cents,
        winning_stake_cents=settlement.winning_stake_cents,
        number_of_winners=settlement.winners,
        profit_cents=settlement.net_cents - settlement.winning_stake_cents,
        stakes=_stakes(case.own, names, division, resolution),
        dividends=[
            DividendFact(
                names[outcome],
                sums[outcome],
                str(division.dividends[outcome] * sums[outcome]),
                str(division.dividends[outcome]),
                str(weights[outcome]) if outcome in weights else None,
            )
            for outcome in won
        ],
        entitlement=str(entitlement) if is_win else str(owed),
        floored_cents=floored if is_win else owed,
        extra_cents=share.won_cents - floored if is_win and settlement.corrects is None else 0,
        won_cents=share.won_cents,
        tax=_tax_of(case.duties.winnings, share, division.staked.get(payout.user_id, 0)),
        had_cents=share.had_cents,
        owed_cents=owed,
        legs=[LegFact(leg.id, leg.leg, leg.amount_cents, leg.wire_cents, str(leg.status)) for leg in legs],
        leg=payout.leg,
        amount_cents=payout.amount_cents,
        wire_cents=payout.wire_cents,
        withheld=_withheld_of(case.duties, payout),
        stays_cents=payout.amount_cents - payout.wire_cents - payout.withheld_cents,
        sends=[_send(attempt) for attempt in tries],
        not_before=payout.not_before,
        failure_code=payout.failure_code if failed else None,
        at_fault=_at_fault(payout) if failed else None,
    )


def _tax_of(duty: Duty | None, share: _Share, staked_cents: int) -> TaxFact | None:
    if duty is None or not share.kept_cents:
        return None
    base_cents = duty.base_of_win(share.won_cents, staked_cents)
    return TaxFact(duty.name, duty.rate_bps, str(duty.base), base_cents, share.kept_cents)


def _withheld_of(duties: Duties, payout: Payout) -> TaxFact | None:
    duty = duties.withdrawals
    if duty is None or not payout.withheld_cents:
        return None
    base_cents = duty.base_of_sent(payout.wire_cents, payout.withheld_cents)
    return TaxFact(duty.name, duty.rate_bps, str(duty.base), base_cents, payout.withheld_cents)


def _stakes(own: Sequence[Stake], names: Sequence[str], division: Division, resolution: Resolution) -> list[StakeFact]:
    """The user's stakes by outcome and by what became of them, in the order of the outcomes."""
    sums: dict[tuple[int, str], tuple[int, int]] = {}
    for stake in own:
        if stake.cancelled:
            became = "cancelled"
        elif stake.late:
            became = "late"
        elif stake.outcome in resolution.withdrawn:
            became = "withdrawn"
        elif not division.dividends:
            became = "refunded"
        else:
            became = "won" if stake.outcome in division.dividends else "lost"
        cents, count = sums.get((stake.outcome, became), (0, 0))
        sums[stake.outcome, became] = (cents + stake.cents, count + 1)
    return [
        StakeFact(names[outcome], cents, count, became) for (outcome, became), (cents, count) in sorted(sums.items())
    ]


def _send(attempt: Attempt) -> SendFact:
    ended = attempt.status_at if attempt.evidence is not None else None
    return SendFact(
        attempt.sent_at, attempt.wire_cents, mask(attempt.phone), str(attempt.status), ended, attempt.receipt
    )


def _at_fault(payout: Payout) -> str:
    """What a bettor is told of a failure, never what is wrong with our account: number, limit, busy or ours."""
    code = payout.failure_code or ""
    if "." in code:
        return "number"  # the gateway refused this request itself
    rule = lookup(code, payout.failure_reason or "")
    if rule.needs_other_phone:
        return "number"
    return {Who.TIME: "busy", Who.CUSTOMER: "limit"}.get(rule.who, "ours")
