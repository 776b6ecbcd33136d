"""How a settlement is shown, before it is made and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of

if TYPE_CHECKING:
    from kasoko_cli.operations.settlement.settle import Settled


def show_settled(
    call: CommandContext, settled: Settled, did: str, *, document: object, more: Sequence[tuple[str, object]] = ()
) -> None:
    """A card of what a settlement comes to, with `more` facts, and its warnings; `document` is what --json prints."""
    figures = settled.settlement
    pairs: list[tuple[str, object]] = [
        ("outcome", settled.resolved_outcome),
        ("bets", settled.bets),
        ("gross pool", amount_of(figures.gross_cents)),
        ("fee", amount_of(figures.fee_cents)),
        ("net pool", amount_of(figures.net_cents)),
        ("on the winner", amount_of(figures.winning_stake_cents)),
        ("winners", f"{figures.winners:,} share {amount_of(figures.payouts_cents)}"),
        ("refunds", amount_of(figures.refunds_cents)),
        ("breakage", amount_of(figures.breakage_cents)),
        ("to phones", f"{count_of(settled.to_phones, 'payout')}, {amount_of(settled.wire_cents)}"),
        ("stays in wallets", amount_of(settled.to_wallets_cents)),
        *more,
        ("plan", settled.plan_hash[:16]),
    ]
    if figures.tax_cents:
        pairs.insert(7, ("kept back as tax", f"{amount_of(figures.tax_cents)} of {amount_of(figures.taxed_cents)}"))
    if settled.withheld_cents:
        at = [name for name, _ in pairs].index("stays in wallets")
        pairs.insert(at, ("kept back of it", f"{amount_of(settled.withheld_cents)}, once it has arrived"))
    if settled.duties:
        pairs.insert(-1, ("duties", ", ".join(settled.duties)))
    if figures.top_up_cents:
        pairs.insert(4, ("the operator adds", amount_of(figures.top_up_cents)))
    render.card(call, f"{settled.slug} {did}", pairs, document=document)
    tell_warnings(call, settled)


def tell_warnings(call: CommandContext, found: Settled) -> None:
    """The warnings of a settlement; in red where winners get less than they staked."""
    one_sided = found.settlement.winners and found.settlement.payouts_cents < found.settlement.winning_stake_cents
    for warning in found.warnings:
        render.alarm(warning) if one_sided else render.warn(call, warning)
