"""Divide every settled pool again, from its bets, and compare what comes out with what was written.

The division is the same pure function that settled the market; the bets are read as they stand now. So
a bet, a rule, a payout or a figure that was touched afterwards shows, whoever touched it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy import BigInteger, cast, func
from sqlmodel import Session, col, select

from kasoko_cli.domain.market import BetsDigest, MarketStatus, Resolution, Rules, bets_digest
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.parimutuel import Division, Stake, divide
from kasoko_cli.domain.payout import PayoutKind, PayoutStatus
from kasoko_cli.errors import KasokoError
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.invariants import Violation
from kasoko_cli.operations.markets import resolution_of, rules_of
from kasoko_cli.operations.settle import Owed, figures_by, figures_of, hash_plan
from kasoko_cli.store import bets, markets, statements
from kasoko_cli.store.tables import EntryRow, Market, Payout, PostingRow, Settlement


def changed_markets(session: Session) -> Iterator[Violation]:
    """Closed markets whose rules or bets are no longer those that were frozen at the close.

    Settled markets are left to `changed_settlements`, which reads the same bets.
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


def changed_settlements(session: Session) -> Iterator[Violation]:
    """Settlements that come out differently when they are worked out again."""
    query = (
        select(Settlement, Market)
        .join(Market, col(Market.id) == col(Settlement.market_id))
        .order_by(col(Settlement.market_id), col(Settlement.number))
    )
    for settlement, market in session.exec(query).all():
        name = f"{market.slug} (settlement {settlement.number})"
        try:
            rules = Rules.from_dict(json.loads(settlement.rules))
            resolution = Resolution.from_dict(json.loads(settlement.resolution))
        except (KasokoError, ValueError, TypeError, LookupError):
            yield Violation(name, "the rules or the resolution that it was written with cannot be read")
            continue
        for what in _differences(session, settlement, market, rules, resolution):
            yield Violation(name, what)


def _differences(
    session: Session, settlement: Settlement, market: Market, rules: Rules, resolution: Resolution
) -> Iterator[str]:
    """In words, whatever of one settlement does not follow from its bets."""
    if rules.digest() != market.rules_digest or rules != rules_of(market):
        yield "its rules are not those that stood when the market closed"
    if settlement.reversed_at is None and resolution != resolution_of(market):
        yield "it was divided by another outcome than the market has"
    division, digest, count = _divided(session, market, rules, resolution)
    if not digest == settlement.bets_digest == market.bets_digest:
        yield "the bets are not those that it was divided by"
    if count != settlement.bets:
        yield f"the market has {count} bets, and it was divided among {settlement.bets}"
    now, then = asdict(figures_by(division)), asdict(figures_of(settlement))
    for figure, cents in now.items():
        if cents != then[figure]:
            yield f"{figure} is {then[figure]}, and its bets give {cents}"
    owed = _written(session, settlement)
    if settlement.corrects is None:
        yield from _unlike(division, owed)
    elif settlement.reversed_at is None:
        yield from _unlike_corrected(session, settlement, division)
    if settlement.reversed_at is not None and not _was_replaced(session, settlement):
        yield "it does not stand, and neither its reversal nor a correction is in the books"
    if hash_plan(market.id, digest, settlement.number, rules, resolution, owed) != settlement.plan_hash:
        yield "its payouts are not those of the plan that was settled"
    yield from _posted_otherwise(session, settlement)


def _divided(session: Session, market: Market, rules: Rules, resolution: Resolution) -> tuple[Division, str, int]:
    """The division of the bets as they stand now, their digest, and how many there are."""
    digest, count, closed_at = BetsDigest(), 0, market.closed_at
    assert closed_at is not None, "a market that was settled was closed"

    def stakes() -> Iterator[Stake]:
        nonlocal count
        for bet in bets.stream_bets(session, market.id, closed_at):
            digest.add(bet)
            count += 1
            _, user_id, outcome, cents, _, late, cancelled = bet
            if not cancelled:
                yield Stake(user_id, outcome, cents, late)

    division = divide(stakes(), rules, resolution)
    return division, digest.hexdigest(), count


def _written(session: Session, settlement: Settlement) -> list[Owed]:
    """The payouts of a settlement as its plan had them."""
    query = (
        sa.select(
            col(Payout.number),
            col(Payout.user_id),
            col(Payout.kind),
            col(Payout.leg),
            col(Payout.amount_cents),
            col(Payout.wire_cents),
        )
        .where(col(Payout.market_id) == settlement.market_id, col(Payout.settlement_no) == settlement.number)
        .order_by(col(Payout.number))
    )
    return [Owed(*row) for row in session.execute(query)]


def _unlike(division: Division, owed: list[Owed]) -> Iterator[str]:
    """Users who are owed something else than their share, row by row; legs of one debt are summed."""
    written: dict[tuple[str, PayoutKind], int] = {}
    for line in owed:
        key = line.user_id, line.kind
        written[key] = written.get(key, 0) + line.amount_cents
    shares = {(user_id, PayoutKind.PAYOUT): cents for user_id, cents in division.payouts.items() if cents}
    shares |= {(user_id, PayoutKind.REFUND): cents for user_id, cents in division.refunds.items() if cents}
    for key in sorted(written.keys() | shares.keys()):
        then, now = written.get(key, 0), shares.get(key, 0)
        if then != now:
            user_id, kind = key
            yield f"{user_id} is owed KES {format_kes(then)} ({kind}), and the bets give KES {format_kes(now)}"


def _unlike_corrected(session: Session, settlement: Settlement, division: Division) -> Iterator[str]:
    """Users who, after corrections, have or are owed something else than their share, net of what they owe back."""
    market_id = settlement.market_id
    query = (
        sa.select(col(Payout.user_id), cast(func.sum(col(Payout.amount_cents)), BigInteger))
        .where(col(Payout.market_id) == market_id, col(Payout.status) != PayoutStatus.CANCELED)
        .group_by(col(Payout.user_id))
    )
    given = {user_id: int(cents) for user_id, cents in session.execute(query)}
    keys = [f"correction:{market_id}:{one.number}" for one in markets.list_settlements(session, market_id)]
    for user_id, cents in statements.posted_by_owner(session, keys, Account.RECEIVABLE).items():
        given[user_id] = given.get(user_id, 0) - cents
    shares: dict[str, int] = {}
    for amounts in (division.payouts, division.refunds):
        for user_id, cents in amounts.items():
            shares[user_id] = shares.get(user_id, 0) + cents
    for user_id in sorted(given.keys() | shares.keys()):
        has, share = given.get(user_id, 0), shares.get(user_id, 0)
        if has != share:
            then, now = format_kes(has), format_kes(share)
            yield f"{user_id} has KES {then} after the corrections, and the bets give KES {now}"


def _was_replaced(session: Session, settlement: Settlement) -> bool:
    """Whether a settlement that stands no longer was taken back exactly, or corrected by a later one."""
    market_id, number = settlement.market_id, settlement.number
    if any(one.corrects == number for one in markets.list_settlements(session, market_id)):
        return True
    return book.is_posted(session, f"reverse:settle:{market_id}:{number}")


def _keys_of(session: Session, settlement: Settlement) -> list[str]:
    """The entries that together book a settlement: its own, or that of the first one and every correction since."""
    by_number = {one.number: one for one in markets.list_settlements(session, settlement.market_id)}
    keys, one = [], settlement
    while one.corrects is not None:
        keys.append(f"correction:{one.market_id}:{one.number}")
        one = by_number[one.corrects]
    return [*keys, f"settle:{one.market_id}:{one.number}"]


def _posted_otherwise(session: Session, settlement: Settlement) -> Iterator[str]:
    """Figures that stand otherwise in the books than in the settlement."""
    query = (
        sa.select(col(PostingRow.account), cast(func.sum(col(PostingRow.amount_cents)), BigInteger))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(EntryRow.key).in_(_keys_of(session, settlement)))
        .group_by(col(PostingRow.account))
    )
    posted = {account: int(cents) for account, cents in session.execute(query)}
    # What a correction makes somebody owe back was owed to them before: the two stand together.
    posted[Account.PAYABLE] = posted.get(Account.PAYABLE, 0) + posted.pop(Account.RECEIVABLE, 0)
    expected = {
        Account.FEE: -settlement.fee_cents,
        Account.BREAKAGE: -settlement.breakage_cents,
        Account.MINUS_POOL: settlement.top_up_cents,
        Account.PAYABLE: -settlement.payouts_cents - settlement.refunds_cents,
    }
    for account, cents in expected.items():
        if posted.get(account, 0) != cents:
            yield f"the books have {posted.get(account, 0)} cents on {account} for it, and it says {cents}"
