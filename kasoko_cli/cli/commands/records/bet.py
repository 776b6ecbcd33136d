"""Stakes."""

from __future__ import annotations

from typing import Annotated, Literal

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.options import BetId, Limit, MarketId, UserId, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, local

commands = Commands("bet")


@commands.writes()
def place(
    call: CommandContext,
    market: MarketId,
    user: UserId,
    outcome: Annotated[str, argument("OUTCOME", "What the user bets on.", autocompletion=completion.outcomes)],
    amount: Annotated[str, argument("KES", "The stake, like 100 or 99.50.")],
    bet_id: Annotated[str | None, option("--id", "ID", "Its id, so that saying it twice bets once.")] = None,
    *,
    funding: Annotated[
        Literal["collected", "wallet"],
        option("--funding", None, "Taken by the platform already, or from the wallet here.", show_default=False),
    ],
) -> None:
    """Take in a bet, now.

    Where the stake comes from has to be said: one that nobody took would be paid
    out all the same. In import bets it is collected unless said otherwise.

    Example: kasoko bet place rain u1 Yes 100 --funding wallet

    Example: kasoko bet place rain u1 Yes 99.50 --id b-1001 --funding collected

    Exit status: 0 it stands, 4 no such market, user or outcome, 5 the rules
    refuse it.
    """
    from kasoko_cli.domain.money import parse_stake
    from kasoko_cli.operations.records import bets
    from kasoko_cli.store.schema.tables import Funding

    placed = bets.place_bet(
        call.context,
        bets.NewBet(bet_id or call.container.new_id(), market, user, outcome, parse_stake(amount), Funding(funding)),
    )
    bet, did = placed.bet, "stands" if placed.is_new else "stands already"
    stake = f"{amount_of(bet.stake_cents)} on {bet.outcome} in {placed.slug}"
    left = f"{user} has {amount_of(placed.available_cents)} available"
    render.answer(call, placed, f"Bet {bet.id} {did}: {stake}; {left}.")


@commands.writes()
def cancel(call: CommandContext, bet: BetId) -> None:
    """Take a bet back before its market closes; the stake returns to the wallet.

    Example: kasoko bet cancel b-1001

    Example: kasoko bet cancel b-1001 --reason 'placed twice'

    Exit status: 0 it is cancelled, 4 no such bet, 5 its market is closed.
    """
    from kasoko_cli.operations.records import bets

    cancelled = bets.cancel_bet(call.context, bet_id=bet)
    did = "is cancelled" if cancelled else "was cancelled already"
    render.answer(call, {"bet": bet, "changed": cancelled}, f"Bet {bet} {did}.")


@commands.reads("list")
def list_(call: CommandContext, market: MarketId, limit: Limit = None) -> None:
    """List the bets on MARKET, earliest first.

    The mark says what is unusual: late (settling gives it back), future (it is
    placed later than now), shared phone (another bettor here has the same).

    Example: kasoko bet list rain

    Example: kasoko bet list rain --limit 20 --json

    Exit status: 0 listed, 4 no such market.
    """
    from kasoko_cli.domain.money import format_kes
    from kasoko_cli.operations.records import bets

    found = bets.list_bets(call.container.db, market, limit=limit, clock=call.container.clock)
    columns = render.columns("bet", "user", "outcome", ">KES", "placed", "cancelled", "mark")
    rows = [
        (
            one.id,
            one.user,
            one.outcome,
            format_kes(one.stake_cents),
            local(one.placed_at),
            one.cancelled_at and local(one.cancelled_at),
            ", ".join(mark.replace("_", " ") for mark in one.marks) or None,
        )
        for one in found
    ]
    render.table(call, f"Bets on {market}", columns, rows, document={"bets": found})
