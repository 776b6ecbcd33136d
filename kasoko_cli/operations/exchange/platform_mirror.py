"""Results, written back to the operator's platform: how each market ended, and what became of each payout.

The platform has one table for it, which is ours alone. Balances are not touched there: what a result means for an
account of the platform's own is the platform's to decide.

What waits to be told stands in the outbox (`store/platform/outbox.py`), written with the change itself. Here it is
read in one picture with how things stand, written to the platform, and only then crossed off. Killed in between it is
told again, which changes nothing: a result there is only replaced by one with a higher version. So any number of
mirrors may run at once, on any host.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session

from kasoko_cli.domain.payout import PayoutStatus, told_as
from kasoko_cli.operations.records.markets import describe_resolution, resolution_of
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import attempts, markets, payouts
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.platform import outbox, source
from kasoko_cli.store.platform.source import PlatformResult
from kasoko_cli.store.schema.tables import Market, Payout, Settlement

#: How many results are told at a time.
AT_A_TIME = 1_000


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What the platform was told, and what waits still. `began` says that this call was the first.

    `newer` has the ids of rows that are newer there than anything that this database has made: they were left.
    """

    is_on: bool
    began: bool
    markets: int
    payouts: int
    waiting_markets: int
    waiting_payouts: int
    newer: list[str] = field(default_factory=list)


def mirror(ctx: OperationContext, platform: Database, *, again: bool = False) -> Mirrored:
    """Tell the platform whatever it has not been told; with `again` everything, whatever it was told before.

    A row that is newer there stays; with `again` it is named.

    The first call notes all that stands; from then on each change is noted by whoever makes it, on every host.

    Raises:
        ConfigurationError: the platform has no place for it, or it may not be written.
        DatabaseUnavailable: a database does not answer; what was not told waits.
    """
    source.check_results(platform)  # before anything is noted: there is a place to tell it
    now = ctx.clock()
    with ctx.db.transaction() as session:
        began = outbox.begin(session, at=now)
        if again and not began:
            outbox.note_all(session, at=now)
        if began or again:
            action = "mirror.begin" if began else "mirror.again"
            note_act(session, ctx.actor, action, "platform", at=now)
    told_markets = told_payouts = 0
    newer = list[str]()
    for results in _results(ctx.db):
        source.tell(platform, results)
        newer += _newer(ctx.db, platform, results) if again else []
        with ctx.db.transaction() as session:
            outbox.told(session, [outbox.UntoldRow(one.version, one.id) for one in results])
        of_markets = sum(one.kind == "market" for one in results)
        told_markets, told_payouts = told_markets + of_markets, told_payouts + len(results) - of_markets
    with ctx.db.reading() as session:
        return Mirrored(True, began, told_markets, told_payouts, *outbox.count_waiting(session), newer)


def _newer(db: Database, platform: Database, results: Sequence[PlatformResult]) -> list[str]:
    """Those that the platform has under a version that this database has not made, as after an older copy was put back.

    What another mirror has told meanwhile is noted here too, and is none of them.
    """
    found = source.newer(platform, {one.id: one.version for one in results})
    if not found:
        return []
    with db.reading() as session:
        known = outbox.versions(session, list(found))
    return [name for name, version in found.items() if version > known[name][0]]


def look(db: Database) -> Mirrored:
    """What waits to be told; nobody is told anything."""
    with db.reading() as session:
        return Mirrored(outbox.is_on(session), False, 0, 0, *outbox.count_waiting(session))


def stop(ctx: OperationContext) -> bool:
    """Note nothing for the platform from now on, on any host; returns whether this call ended it."""
    now = ctx.clock()
    with ctx.db.transaction() as session:
        ended = outbox.end(session)
        if ended:
            note_act(session, ctx.actor, "mirror.stop", "platform", at=now)
        return ended


def _results(db: Database) -> Iterator[list[PlatformResult]]:
    """What waits, in parts, each thing at most once; no transaction is open while a part is told."""
    last = None
    while True:
        with db.reading() as session:
            found = outbox.waiting(session, limit=AT_A_TIME, after=last)
            results = _read(session, found)
        if not found:
            return
        last = found[-1]
        yield results


def _read(session: Session, found: Sequence[outbox.UntoldRow]) -> list[PlatformResult]:
    versions = {one.id: one.version for one in found}
    of_kind = {
        kind: [one.removeprefix(kind) for one in versions if one.startswith(kind)]
        for kind in (outbox.MARKET, outbox.PAYOUT)
    }
    known = markets.known_markets(session, of_kind[outbox.MARKET]).values()
    results = [_market(session, one, versions[f"{outbox.MARKET}{one.id}"]) for one in known]
    owed = payouts.by_ids(session, of_kind[outbox.PAYOUT])
    receipts = attempts.receipts_of(session, [one.id for one in owed])
    results += [_payout(one, receipts.get(one.id), versions[f"{outbox.PAYOUT}{one.id}"]) for one in owed]
    assert len(results) == len(found), "what is noted stands: markets and payouts are never removed"
    return results


def _market(session: Session, market: Market, version: int) -> PlatformResult:
    assert market.resolved_at is not None, "only a market that has ended is noted"
    names = [outcome.name for outcome in markets.list_outcomes(session, market.id)]
    standing = markets.standing_settlement(session, market.id)
    return PlatformResult(
        id=f"{outbox.MARKET}{market.id}",
        kind="market",
        market_id=market.id,
        user_id=None,
        status=str(market.status),
        outcome=describe_resolution(resolution_of(market), names),
        amount_cents=None if standing is None else _owed(standing),
        delivered_cents=None,
        wallet_cents=None,
        withheld_cents=None,
        receipt=None,
        failure_code=None,
        changed_at=market.resolved_at if standing is None else max(market.resolved_at, standing.settled_at),
        version=version,
    )


def _owed(settlement: Settlement) -> int:
    """All that a settlement owes, after a duty on winnings."""
    return settlement.payouts_cents - settlement.tax_cents + settlement.refunds_cents


def _payout(payout: Payout, receipt: str | None, version: int) -> PlatformResult:
    status = told_as(payout.status)
    arrived = status is PayoutStatus.COMPLETED
    delivered, withheld = (payout.wire_cents, payout.withheld_cents) if arrived else (0, 0)
    is_credited = status in (PayoutStatus.COMPLETED, PayoutStatus.WALLET, PayoutStatus.RETURNED)
    return PlatformResult(
        id=f"{outbox.PAYOUT}{payout.id}",
        kind="payout",
        market_id=payout.market_id,
        user_id=payout.user_id,
        status=str(status),
        outcome=None,
        amount_cents=payout.amount_cents,
        delivered_cents=delivered,
        wallet_cents=payout.amount_cents - delivered - withheld if is_credited else 0,
        withheld_cents=withheld,
        receipt=receipt if status in (PayoutStatus.COMPLETED, PayoutStatus.RETURNED) else None,
        failure_code=payout.failure_code if status is PayoutStatus.FAILED else None,
        changed_at=payout.updated_at,
        version=version,
    )
