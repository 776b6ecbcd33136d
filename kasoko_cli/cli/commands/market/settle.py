"""The pool of a market, divided."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.confirmation import SHOWN_ROWS, SendOptions, gate_lines, tell_cut, tell_warning
from kasoko_cli.cli.options import MarketId, Plan, flag
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.progress import progress
from kasoko_cli.cli.output.settlement_card import show_settled, tell_warnings
from kasoko_cli.cli.payout_run import going_on, send_payouts

if TYPE_CHECKING:
    from kasoko_cli.operations.settlement.settle import Settled

commands = Commands()


@commands.writes()
def settle(
    call: CommandContext,
    market: MarketId,
    plan: Plan = False,
    pay: Annotated[bool, flag("--pay", "Go on and send the payouts.")] = False,
    listen: Annotated[bool, flag("--listen", "With --pay: take the results too.")] = False,
) -> None:
    """Divide MARKET's pool and owe the payouts; only --pay sends.

    It happens once: settling again changes nothing and says so.

    Example: kasoko settle rain --plan

    Example: kasoko settle rain --pay

    Exit status: 0 settled, 3 settings, 4 no such market, 5 it has no result yet,
    6 with --pay some not sent or failed, 8 its bets were changed after the close,
    9 another process holds the database, 10 with --pay it is settled, and waits
    for a second person or was not sent; with --pay also those of kasoko payout.
    """
    from kasoko_cli.operations.settlement import settle as operation

    container = call.container
    if plan:
        _show_settlement_plan(call, market)
        return
    if pay:
        container.config.require_daraja()
    with progress(call, "Dividing the pool") as tally:
        settled = operation.settle_market(
            call.context,
            container.limits,
            market=market,
            approval_above_cents=container.config.payout.approval_above_cents,
            tell=tally.step,
            duties=container.duties,
        )
    call.ended_well("settle")
    did = "is settled" if settled.is_new else "was settled before; nothing was changed"
    if render.unattended(call) and not (pay or settled.awaits_approval):
        tell_warnings(call, settled)
        return
    if not pay:
        show_settled(call, settled, did, document=settled)
        if not settled.is_new:
            render.talk(call, f"{settled.slug} {did}.")
        if settled.awaits_approval:
            _tell_who_releases(call, settled)
        elif settled.to_phones and settled.is_new:
            render.talk(call, f"Send the payouts: kasoko payout {settled.slug}")
        return
    if settled.awaits_approval:
        show_settled(call, settled, did, document=settled)
        _tell_who_releases(call, settled)
        raise typer.Exit(10)
    if not (call.json or render.unattended(call)):
        show_settled(call, settled, did, document=settled)
    with going_on(f"{settled.slug} is settled") if settled.is_new else contextlib.nullcontext():
        send_payouts(call, SendOptions(market=market, listen=listen, bind=True))


def _tell_who_releases(call: CommandContext, settled: Settled) -> None:
    render.talk(
        call,
        "Nothing of it is sent or credited until a second person has released it:"
        f" kasoko approve {settled.slug} --plan-hash {settled.plan_hash[:16]}",
    )


def _show_settlement_plan(call: CommandContext, market: str) -> None:
    from kasoko_cli.operations.payouts import float_check
    from kasoko_cli.operations.settlement.settle import plan_settlement

    container = call.container
    planned, owed = plan_settlement(
        container.db, container.limits, market=market, clock=container.clock, duties=container.duties
    )
    wires = [line.wire_cents for line in owed if line.wire_cents]
    cover = float_check.look_at_plan(container.db, container.clock, container.gate_policy, wires)
    document = {"plan": planned, "owed": owed, "float": cover}
    show_settled(call, planned, "would be settled", document=document, more=gate_lines(cover))
    if call.json:
        return
    columns = render.columns("user", "kind", ">leg", ">KES", ">to phone", ">to wallet")
    is_taxed = bool(planned.withheld_cents)
    columns += render.columns(">kept back") if is_taxed else []
    rows = [
        (
            line.user_id,
            line.kind,
            line.leg,
            render.kes(line.amount_cents),
            render.kes(line.wire_cents),
            render.kes(line.amount_cents - line.wire_cents - line.withheld_cents),
            *([render.kes(line.withheld_cents)] if is_taxed else []),
        )
        for line in owed[:SHOWN_ROWS]
    ]
    if rows:
        render.table(call, "Who would be owed what", columns, rows)
        tell_cut(call, len(owed), f"kasoko settle {planned.slug} --plan --json")
    if cover.warning:
        tell_warning(call, cover.warning, cover)
    render.talk(call, "Nothing was written.")
