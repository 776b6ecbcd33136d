"""Payouts that are held back, one or a whole market, and let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import argument
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.payout_tables import tell_moved
from kasoko_cli.cli.parsing import amount_of, count_of

if TYPE_CHECKING:
    from kasoko_cli.operations.payouts.market_hold import MarketMoved

verbs = Commands()


PayoutOrMarket = Annotated[str, argument("PAYOUT|MARKET", "A payout like rain.1.7, or a market.")]


@verbs.writes(reason=True)
def hold(call: CommandContext, payout: PayoutOrMarket) -> None:
    """Stop a payout, or all of a market, before it is sent.

    Of a market it stops what is due, has failed, or waits for a second person.

    Example: kasoko payout hold rain.1.7 --reason 'the customer disputes it'

    Example: kasoko payout hold rain --reason 'the result is disputed'

    Exit status: 0 it is held, 4 no such payout or market, 5 it is on its way or
    has ended.
    """
    from kasoko_cli.domain.payout import looks_like_payout_id
    from kasoko_cli.operations.payouts import manual_decision, market_hold

    if looks_like_payout_id(payout):
        payout = call.payout_id(payout)
        tell_moved(call, payout, manual_decision.hold(call.context, payout_id=payout))
    else:
        _tell_market(call, market_hold.hold_market(call.context, market=payout))


@verbs.writes(reason=True)
def release(call: CommandContext, payout: PayoutOrMarket) -> None:
    """Let a held payout go: it is due again, or waits for approval.

    Of a market it lets go what was held with the whole market; what was held by
    itself stays.

    Example: kasoko payout release rain.1.7 --reason 'the customer agrees'

    Example: kasoko payout release rain --reason 'the result stands'

    Exit status: 0 it is released, 4 no such payout or market, 5 it is not held.
    """
    from kasoko_cli.domain.payout import looks_like_payout_id
    from kasoko_cli.operations.payouts import manual_decision, market_hold

    container = call.container
    if looks_like_payout_id(payout):
        payout = call.payout_id(payout)
        status = manual_decision.release(call.context, payout_id=payout, caution=container.caution)
        tell_moved(call, payout, status)
    else:
        moved = market_hold.release_market(call.context, market=payout, caution=container.caution)
        _tell_market(call, moved)


def _tell_market(call: CommandContext, done: MarketMoved) -> None:
    if call.json:
        render.document(done)
        return
    for status, count in done.moved.items():
        render.did(call, f"{count_of(count, 'payout')} of {done.slug} now {status}.")
    if done.moved:
        render.talk(call, f"They carry {amount_of(done.wire_cents)} to phones.")
    else:
        render.did(call, f"Nothing of {done.slug} was there to be moved.")
    for why in done.left:
        render.talk(call, f"{why}.")
