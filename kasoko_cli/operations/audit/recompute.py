"""Divide every settled pool again, from its bets, and compare what comes out with what was written.

The division is the same pure function that settled the market; the bets are read as they stand now. So
a bet, a rule, a payout or a figure that was touched afterwards shows, whoever touched it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import BigInteger, cast, func
from sqlmodel import Session, col, select

from kasoko_cli.domain.counts import count_of
from kasoko_cli.domain.market import BetsDigest, MarketStatus, Resolution, Rounding, Rules, bets_digest
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.parimutuel import Division, Stake, divide, terms_of
from kasoko_cli.domain.payout import PayoutKind, PayoutStatus
from kasoko_cli.domain.withholding import Duties
from kasoko_cli.errors import KasokoError
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.records.markets import resolution_of, rules_of
from kasoko_cli.operations.settlement.settle import (
    Basis,
    Owed,
    SettlementFigures,
    basis_of,
    figures_of,
    hash_plan,
    keys_of_settlement,
)
from kasoko_cli.operations.shared.from_row import from_row
from kasoko_cli.operations.shared.violation import Violation
from kasoko_cli.store import bets, markets
from kasoko_cli.store.engine.bulk_rows import bytewise, streamed
from kasoko_cli.store.schema.tables import EntryRow, Market, Payout, PostingRow, Settlement


def closed_markets_keep_their_bets(session: Session) -> Iterator[Violation]:
    """The bets and rules of a closed market are those that stood at the close.

    Settled markets are left to `settlements_recompute`, which reads the same bets.
    """
    query = (
        select(Market)
        .outerjoin(Settlement, col(Settlement.market_id) == col(Market.id))
        .where(col(Market.status) != MarketStatus.OPEN, col(Settlement.market_id).is_(None))
        .order_by(col(Market.id))
    )
    for market in session.exec(query).all():
        assert market.closed_at is not None, "a market that is not open was closed"
        if bets_digest(bets.stream_bets(session, market.id, market.closed_at)) != market.bets_digest:
            yield Violation(market.slug, "its bets are not those that stood when it closed")
        if rules_of(market).digest() != market.rules_digest:
            yield Violation(market.slug, "its rules are not those that stood when it closed")


def settlements_recompute(session: Session) -> Iterator[Violation]:
    """Every settlement, worked out again from its bets, owes the same to the same people."""
    query = (
        select(Settlement, Market)
        .join(Market, col(Market.id) == col(Settlement.market_id))
        .order_by(col(Settlement.market_id), col(Settlement.number))
    )
    for settlement, market in session.exec(query).all():
        name = f"{market.slug} (settlement {settlement.number})"
        try:
            basis = basis_of(settlement)
        except (KasokoError, ValueError, TypeError, LookupError):
            yield Violation(name, "the rules or the resolution that it was written with cannot be read")
            continue
        for what in _differences(session, settlement, market, basis):
            yield Violation(name, what)


def _differences(session: Session, settlement: Settlement, market: Market, basis: Basis) -> Iterator[str]:
    """In words, whatever of one settlement does not follow from its bets."""
    rules, resolution = basis.rules, basis.resolution
    if rules.digest() != market.rules_digest or rules != rules_of(market):
        yield "its rules are not those that stood when the market closed"
    if settlement.reversed_at is None and resolution != resolution_of(market):
        yield "it was divided by another outcome than the market has"
    pool = _summed(session, market)
    if not pool.digest == settlement.bets_digest == market.bets_digest:
        yield "the bets are not those that it was divided by"
    if pool.count != settlement.bets:
        yield f"the market has {count_of(pool.count, 'bet')}, and it was divided among {settlement.bets}"
    again = _Again(session, market, rules, resolution, basis.duties, pool)
    yield from _people(session, settlement, again)
    now, then = asdict(again.figures), asdict(figures_of(settlement))
    for figure, cents in now.items():
        if cents != then[figure]:
            yield f"{figure} is {then[figure]}, and its bets give {cents}"
    if settlement.reversed_at is not None and not _was_replaced(session, settlement):
        yield "it does not stand, and neither its reversal nor a correction is in the books"
    written = _written(session, settlement)
    if hash_plan(replace(basis, bets_digest=pool.digest), written) != settlement.plan_hash:
        yield "its payouts are not those of the plan that was settled"
    yield from _posted_otherwise(session, settlement)


@dataclass(slots=True)
class _Summed:
    """What the bets of a market come to, as they stand now: their digest, how many, and the valid stakes."""

    digest: str = ""
    count: int = 0
    valid: dict[int, int] = field(default_factory=dict)


def _summed(session: Session, market: Market) -> _Summed:
    """One pass over the bets, which keeps a sum for each outcome."""
    assert market.closed_at is not None, "a market that was settled was closed"
    found, digest = _Summed(), BetsDigest()
    for bet in bets.stream_bets(session, market.id, market.closed_at):
        digest.add(bet)
        found.count += 1
        _, _, outcome, cents, _, late, cancelled = bet
        if not late and not cancelled:
            found.valid[outcome] = found.valid.get(outcome, 0) + cents
    found.digest = digest.hexdigest()
    return found


class _Share(NamedTuple):
    """What one bettor is owed for winning (None where nothing of theirs won), what goes back, what is kept back."""

    user_id: str
    payout_cents: int | None
    refund_cents: int
    kept_cents: int


class _Again:
    """A division made again, one bettor at a time, in the order of their ids; its figures once all were read.

    How the pool is shared follows from the sums on its outcomes, so that nobody has to be held in memory. Only
    `Rounding.LARGEST`, which hands out what is left to whoever lost most by rounding, has to know them all.
    """

    def __init__(
        self, session: Session, market: Market, rules: Rules, resolution: Resolution, duties: Duties, pool: _Summed
    ) -> None:
        self._session, self._market, self._duty = session, market, duties.winnings
        self._terms = terms_of(pool.valid, rules, resolution)
        self._whole = _divided(session, market, rules, resolution) if rules.rounding is Rounding.LARGEST else None
        self._winners = self._paid = self._refunds = self._taxed = self._kept = 0

    def shares(self) -> Iterator[_Share]:
        """Every bettor with a bet that was not cancelled."""
        closed_at, terms = self._market.closed_at, self._terms
        assert closed_at is not None
        given_back = frozenset(terms.given_back)
        stakes = bets.stream_stakes(self._session, self._market.id, closed_at)
        for user_id, rows in groupby(stakes, key=itemgetter(0)):
            valid: dict[int, int] = {}
            refund = 0
            for _, outcome, became, cents in rows:
                if became == bets.VALID:
                    valid[outcome] = valid.get(outcome, 0) + cents
                if became == bets.LATE or (became == bets.VALID and outcome in given_back):
                    refund += cents
            payout = terms.owed(valid) if self._whole is None else self._whole.payouts.get(user_id)
            kept = 0
            self._refunds += refund
            if payout is not None:
                self._winners += 1
                self._paid += payout
                if self._duty is not None:
                    staked = sum(cents for outcome, cents in valid.items() if outcome in terms.dividends)
                    self._taxed += self._duty.base_of_win(payout, staked)
                    kept = self._duty.kept_of_win(payout, staked)
                    self._kept += kept
            yield _Share(user_id, payout, refund, kept)

    @property
    def figures(self) -> SettlementFigures:
        """The figures of the division; only after `shares` was read to its end."""
        terms = self._terms
        return from_row(
            SettlementFigures,
            terms,
            winners=self._winners,
            payouts_cents=self._paid,
            refunds_cents=self._refunds,
            breakage_cents=terms.net_cents - self._paid,
            taxed_cents=self._taxed,
            tax_cents=self._kept,
        )


def _divided(session: Session, market: Market, rules: Rules, resolution: Resolution) -> Division:
    """The division of the bets as they stand now, with everybody in memory."""
    assert market.closed_at is not None, "a market that was settled was closed"
    rows = bets.stream_bets(session, market.id, market.closed_at)
    stakes = (Stake(user_id, outcome, cents, late) for _, user_id, outcome, cents, _, late, gone in rows if not gone)
    return divide(stakes, rules, resolution)


def _written(session: Session, settlement: Settlement) -> Iterator[Owed]:
    """The payouts of a settlement as its plan had them."""
    names = ("number", "user_id", "kind", "leg", "amount_cents", "wire_cents", "withheld_cents")
    query = (
        sa.select(*(getattr(Payout, name) for name in names))
        .where(col(Payout.market_id) == settlement.market_id, col(Payout.settlement_no) == settlement.number)
        .order_by(col(Payout.number))
    )
    return (Owed(*row) for row in streamed(session, query))


#: What is compared of one person: what the rows say, and what the bets give.
_WRITTEN, _GIVEN = 0, 1
#: One side of a comparison of one person: user, what it is about, which side, cents.
_Side = tuple[str, str, int, int]
_ABOUT = itemgetter(0, 1)
#: What a duty kept back, and what a user has in all, beside the kinds of payouts.
_KEPT, _ALL = "TAX", "ALL"


def _people(session: Session, settlement: Settlement, again: _Again) -> Iterator[str]:
    """Users who are owed something else than their share, one after the other; legs of one debt are summed."""
    sides: list[Iterable[_Side]] = [_given(again, as_one=settlement.corrects is not None)]
    if settlement.corrects is None:
        sides.append(_owed_to(session, settlement))
    else:
        sides += [_had(session, settlement), _owes_back(session, settlement)]
    sides.append(_kept_of(session, settlement))
    for (user_id, what), rows in groupby(heapq.merge(*sides, key=_ABOUT), key=_ABOUT):
        sums = [0, 0]
        for _, _, side, cents in rows:
            sums[side] += cents
        then, now = (format_kes(cents) for cents in sums)
        # What is had after later corrections says nothing of an earlier one.
        if sums[_WRITTEN] == sums[_GIVEN] or (what == _ALL and settlement.reversed_at is not None):
            continue
        if what == _KEPT:
            yield f"KES {then} was kept back of {user_id} as tax, and the duty gives KES {now}"
        elif what == _ALL:
            yield f"{user_id} has KES {then} after the corrections, and the bets give KES {now}"
        else:
            yield f"{user_id} is owed KES {then} ({what}), and the bets give KES {now}"


def _given(again: _Again, *, as_one: bool) -> Iterator[_Side]:
    """What the bets give to each, payout and refund apart or `as_one`."""
    for user_id, payout, refund, kept in again.shares():
        net = (payout or 0) - kept
        if as_one:
            yield user_id, _ALL, _GIVEN, net + refund
        else:
            yield user_id, str(PayoutKind.PAYOUT), _GIVEN, net
            yield user_id, str(PayoutKind.REFUND), _GIVEN, refund
        yield user_id, _KEPT, _GIVEN, kept


def _owed_to(session: Session, settlement: Settlement) -> Iterator[_Side]:
    """What the payouts of a settlement owe to each."""
    user_id = bytewise(session, col(Payout.user_id))
    query = (
        sa.select(user_id, col(Payout.kind), cast(func.sum(col(Payout.amount_cents)), BigInteger))
        .where(col(Payout.market_id) == settlement.market_id, col(Payout.settlement_no) == settlement.number)
        .group_by(user_id, col(Payout.kind))
        .order_by(user_id, col(Payout.kind))
    )
    return ((user, str(kind), _WRITTEN, int(cents)) for user, kind, cents in streamed(session, query))


def _had(session: Session, settlement: Settlement) -> Iterator[_Side]:
    """What all the payouts of a market that stand owe, or gave, to each."""
    user_id = bytewise(session, col(Payout.user_id))
    query = (
        sa.select(user_id, cast(func.sum(col(Payout.amount_cents)), BigInteger))
        .where(col(Payout.market_id) == settlement.market_id, col(Payout.status) != PayoutStatus.CANCELED)
        .group_by(user_id)
        .order_by(user_id)
    )
    return ((user, _ALL, _WRITTEN, int(cents)) for user, cents in streamed(session, query))


def _owes_back(session: Session, settlement: Settlement) -> Iterator[_Side]:
    """What corrections made each owe back."""
    market_id = settlement.market_id
    keys = [f"correction:{market_id}:{one.number}" for one in markets.list_settlements(session, market_id)]
    found = _posted(session, keys, Account.RECEIVABLE)
    return ((user, _ALL, _WRITTEN, -cents) for user, cents in found)


def _kept_of(session: Session, settlement: Settlement) -> Iterator[_Side]:
    """What the books kept back of each as a duty on winnings."""
    found = _posted(session, keys_of_settlement(session, settlement), Account.TAX_WITHHELD)
    return ((user, _KEPT, _WRITTEN, -cents) for user, cents in found)


def _posted(session: Session, keys: Sequence[str], account: Account) -> Iterator[tuple[str, int]]:
    """What the entries with these keys posted to an account, by its owner in the order of its bytes."""
    owner = bytewise(session, col(PostingRow.owner))
    query = (
        sa.select(owner, cast(func.sum(col(PostingRow.amount_cents)), BigInteger))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(EntryRow.key).in_(keys), col(PostingRow.account) == str(account))
        .group_by(owner)
        .order_by(owner)
    )
    return ((user, int(cents)) for user, cents in streamed(session, query))


def _was_replaced(session: Session, settlement: Settlement) -> bool:
    """Whether a settlement that stands no longer was taken back exactly, or corrected by a later one."""
    market_id, number = settlement.market_id, settlement.number
    if any(one.corrects == number for one in markets.list_settlements(session, market_id)):
        return True
    return book.is_posted(session, f"reverse:settle:{market_id}:{number}")


def _posted_otherwise(session: Session, settlement: Settlement) -> Iterator[str]:
    """Figures that stand otherwise in the books than in the settlement."""
    query = (
        sa.select(col(PostingRow.account), cast(func.sum(col(PostingRow.amount_cents)), BigInteger))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(EntryRow.key).in_(keys_of_settlement(session, settlement)))
        .group_by(col(PostingRow.account))
    )
    posted = {account: int(cents) for account, cents in session.execute(query)}
    # What a correction makes somebody owe back was owed to them before: the two stand together.
    posted[Account.PAYABLE] = posted.get(Account.PAYABLE, 0) + posted.pop(Account.RECEIVABLE, 0)
    expected = {
        Account.FEE: -settlement.fee_cents,
        Account.BREAKAGE: -settlement.breakage_cents,
        Account.MINUS_POOL: settlement.top_up_cents,
        Account.PAYABLE: settlement.tax_cents - settlement.payouts_cents - settlement.refunds_cents,
        Account.TAX_WITHHELD: -settlement.tax_cents,
    }
    for account, cents in expected.items():
        if posted.get(account, 0) != cents:
            yield f"the books have {posted.get(account, 0)} cents on {account} for it, and it says {cents}"
