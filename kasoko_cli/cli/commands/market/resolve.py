"""The outcome of a market, named; or another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.commands.market.override import OutcomeOptions
from kasoko_cli.cli.commands.market.override import override as override_outcome
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.options import MarketId, Plan, SignWith, WrongUsage, argument, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.settlement_card import tell_warnings
from kasoko_cli.cli.parsing import amount_of, count_of

if TYPE_CHECKING:
    from kasoko_cli.operations.settlement.settle import Settled

commands = Commands()


@commands.writes()
def resolve(
    call: CommandContext,
    market: MarketId,
    outcome: Annotated[
        list[str] | None,
        argument("OUTCOME...", "The winner; several for a dead heat.", autocompletion=completion.outcomes),
    ] = None,
    weight: Annotated[
        list[str] | None, option("--weight", "NAME=7/10", "A part for each outcome, summing to 1.")
    ] = None,
    withdrawn: Annotated[
        list[str] | None,
        option("--withdrawn", "NAME", "An outcome that fell away: refunded.", autocompletion=completion.outcomes),
    ] = None,
    override: Annotated[bool, flag("--override", "Another outcome than the one it has; --reason is required.")] = False,
    void: Annotated[bool, flag("--void", "With --override: call it off after all.")] = False,
    plan: Plan = False,
    confirm: Annotated[str | None, option("--confirm", "HASH", "With --override: the plan that you have read.")] = None,
    sign_with: SignWith = None,
) -> None:
    """Name the winning outcome of MARKET.

    It shows what would follow, and asks. A market past its closing time is closed
    by it. The same outcome again changes nothing.

    --override gives it another outcome. Before anything was sent the settlement
    is taken back exactly. After that only differences are booked: who gains is
    paid the rest, who was overpaid owes it back. Then two people are needed: one
    runs it, another one again with --confirm.

    Example: kasoko resolve rain Yes

    Example: kasoko resolve cup --weight Home=1/2 --weight Away=1/2

    Example: kasoko resolve rain No --override --plan

    Exit status: 0 resolved, 4 no such market or outcome, 5 it is open, or was
    resolved otherwise, 9 another process holds the database, 10 your word is
    written down, and a second person has to confirm.
    """
    given = OutcomeOptions(
        market=market,
        winners=outcome or [],
        weights=weight or [],
        withdrawn=withdrawn or [],
        void=void,
        plan=plan,
        confirm=confirm,
        sign_with=sign_with,
    )
    if override:
        override_outcome(call, given)
    elif void or confirm is not None:
        raise WrongUsage("--void and --confirm go with --override. To call a market off: kasoko market void.")
    else:
        _resolve(call, given)


def _resolve(call: CommandContext, given: OutcomeOptions) -> None:
    from kasoko_cli.operations.records import markets

    named = given.named()
    if given.plan:
        _show_plan(call, given.market, named)
        return
    if not call.yes and not _may_resolve(call, given.market, named):
        render.talk(call, "Nothing was changed.")
        raise typer.Exit(1)
    view = markets.resolve_market(call.context, market=given.market, **named)
    if call.json:
        render.document(view)
        return
    render.did(call, f"{view.slug} is resolved: {view.resolved_outcome}.")
    render.talk(call, f"Divide the pool: kasoko settle {view.slug}")


def _preview(call: CommandContext, market: str, named: dict[str, Any]) -> Settled | None:
    from kasoko_cli.operations.records.markets import Named
    from kasoko_cli.operations.settlement.preview import preview_resolution

    limits, duties = call.container.limits, call.container.duties
    return preview_resolution(call.context, limits, market=market, duties=duties, named=Named(**named))


def _show_plan(call: CommandContext, market: str, named: dict[str, Any]) -> None:
    """What the resolution would lead to; null, as a document, where it stands already."""
    found = _preview(call, market, named)
    if call.json:
        render.document({"plan": found})
    elif found is None:
        render.talk(call, "It is resolved so already.")
    else:
        render.line(_consequences(found))
        tell_warnings(call, found)
    render.talk(call, "Nothing was written.")


def _may_resolve(call: CommandContext, market: str, named: dict[str, Any]) -> bool:
    """Show what the resolution would lead to, and ask; True at once where it is resolved so already."""
    found = _preview(call, market, named)
    if found is None:
        return True
    if render.is_somebody_here():
        render.talk(call, _consequences(found))
        tell_warnings(call, found)
    return render.confirm(call, f"Resolve {found.slug} as {found.resolved_outcome}? It cannot be taken back easily.")


def _consequences(found: Settled) -> str:
    """Who would share what."""
    figures = found.settlement
    return (
        f"{found.slug}: {count_of(found.bets, 'bet')}, {amount_of(figures.gross_cents)} in the pool. With"
        f" {found.resolved_outcome} {count_of(figures.winners, 'winner')} would share"
        f" {amount_of(figures.payouts_cents)} on {amount_of(figures.winning_stake_cents)} staked; fee"
        f" {amount_of(figures.fee_cents)}, refunds {amount_of(figures.refunds_cents)}."
    )
