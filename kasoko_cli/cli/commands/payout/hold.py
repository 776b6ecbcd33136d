"""Payouts that are held back, one or a whole market, and let go."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.confirmation import may_be_done, show_receivers
from kasoko_cli.cli.options import Plan, argument
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.payout_tables import tell_moved
from kasoko_cli.cli.parsing import amount_of, count_of

if TYPE_CHECKING:
    from kasoko_cli.operations.payouts.market_hold import MarketMoved

verbs = Commands()


PayoutOrMarket = Annotated[str, argument("PAYOUT|MARKET", "A payout like rain.1.7, or a market.")]


@verbs.writes(reason=True)
def hold(call: CommandContext, payout: PayoutOrMarket, plan: Plan = False) -> None:
    """Stop a payout, or all of a market, before it is sent.

    Of a market it stops what is due, has failed, or waits for a second person.

    Example: kasoko payout hold rain.1.7 --reason 'the customer disputes it'

    Example: kasoko payout hold rain --reason 'the result is disputed'

    Exit status: 0 it is held, 4 no such payout or market, 5 it is on its way or
    has ended.
    """
    from kasoko_cli.domain.payout import looks_like_payout_id
    from kasoko_cli.operations.payouts import manual_decision, market_hold
    from kasoko_cli.operations.shared.rehearsal import rehearse

    if looks_like_payout_id(payout):
        payout = call.payout_id(payout)
        act = partial(manual_decision.hold, payout_id=payout)
        # To stop a payout is never asked about: whoever does it is in a hurry, and nothing is lost by it.
        if not plan or may_be_done(call, payout, act, question="", plan=plan):
            tell_moved(call, payout, act(call.context))
    elif plan:
        _show_market(call, rehearse(call.context, partial(market_hold.hold_market, market=payout)), "hold", plan=True)
    else:
        _tell_market(call, market_hold.hold_market(call.context, market=payout))


@verbs.writes(reason=True)
def release(call: CommandContext, payout: PayoutOrMarket, plan: Plan = False) -> None:
    """Let a held payout go: it is due again, or waits for approval.

    Of a market it lets go what was held with the whole market; what was held by
    itself stays. It shows them and asks, and releases no other.

    Example: kasoko payout release rain.1.7 --reason 'the customer agrees'

    Example: kasoko payout release rain --reason 'the result stands'

    Exit status: 0 it is released, 4 no such payout or market, 5 it is not held.
    """
    from kasoko_cli.domain.payout import looks_like_payout_id
    from kasoko_cli.operations.payouts import manual_decision, market_hold
    from kasoko_cli.operations.shared.rehearsal import rehearse

    container = call.container
    if looks_like_payout_id(payout):
        payout = call.payout_id(payout)
        one = partial(manual_decision.release, payout_id=payout, caution=container.caution)
        if may_be_done(call, payout, one, question="Release {}?", plan=plan):
            tell_moved(call, payout, one(call.context))
        return
    act, shown = partial(market_hold.release_market, market=payout, caution=container.caution), None
    if plan or not call.yes:
        found = rehearse(call.context, act)
        shown = [one.payout_id for one in found.items]
        if plan or not call.json:
            _show_market(call, found, "release", plan=plan)
        if plan:
            return
        question = f"Release {count_of(len(shown), 'payout')} of {found.slug}, {amount_of(found.wire_cents)} to phones?"
        render.confirm_or_leave(call, question, otherwise="Nothing was changed.")
    _tell_market(call, act(call.context, shown=shown))


def _show_market(call: CommandContext, found: MarketMoved, verb: str, *, plan: bool) -> None:
    """Which payouts would be held or released."""
    if call.json:
        render.document({"plan": found})
        return
    rows = [(one, "held" if verb == "hold" else "due") for one in found.items]
    show_receivers(call, f"To {verb}", "then", rows, everything=f"kasoko payout {verb} {found.slug} --plan --json")
    for why in found.left:
        render.talk(call, f"{why}.")
    if plan:
        render.talk(
            call, f"{count_of(len(found.items), 'payout')}, {amount_of(found.wire_cents)}. Nothing was written."
        )


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
