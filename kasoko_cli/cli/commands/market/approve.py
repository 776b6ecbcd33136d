"""The second person's word on a settlement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.confirmation import check_hash_is_whole, show_receivers
from kasoko_cli.cli.options import MarketId, Plan, SignWith, WrongUsage, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of, local

if TYPE_CHECKING:
    from kasoko_cli.operations.settlement.approval import ApprovalPlan

commands = Commands()


@commands.writes()
def approve(
    call: CommandContext,
    market: MarketId,
    plan_hash: Annotated[str | None, option("--plan-hash", "HASH", "Release only the plan with this hash.")] = None,
    plan: Plan = False,
    sign_with: SignWith = None,
) -> None:
    """Release a settlement that waits for a second person.

    It shows the plan and asks. Exactly that plan is released, by its hash; and
    nobody releases what they settled themselves. payout.approval_above_kes says
    which settlements wait; approval.signed, whether it is signed.

    Example: kasoko approve rain

    Example: kasoko approve rain --yes --plan-hash cef3baf0e8b78b97 --actor joyce

    Exit status: 0 released, 4 no such market, 5 it is not settled, needs no
    second person, is another plan, is not signed, or you settled it, 8 its
    payouts were edited, 9 another process holds the database.
    """
    from kasoko_cli.operations.settlement import approval as operation

    container = call.container
    if plan_hash is not None:
        check_hash_is_whole(plan_hash)
    found = operation.look(container.db, market=market)
    if plan:
        _show(call, found)
        return
    if found.approved_by is None:
        if call.yes and plan_hash is None:
            raise WrongUsage("--yes releases a plan that somebody has read: name it with --plan-hash.")
        if not call.json and render.is_somebody_here():
            _show(call, found)
        sum_of = f"{count_of(found.payouts, 'payout')}, {amount_of(found.wire_cents)} to phones"
        question = f"Release {found.slug}: {sum_of}, settled by {found.settled_by}?"
        render.confirm_or_leave(call, question, otherwise="Nothing was released.")
    done = operation.approve(
        call.signed(sign_with),
        market=market,
        plan_hash=plan_hash or found.plan_hash,
        caution=container.caution,
        terms=container.terms,
    )
    if call.json:
        render.document(done)
        return
    if not done.is_new:
        render.did(call, f"{done.slug} was released by {done.approved_by} before; nothing was changed.")
        return
    render.did(call, f"{done.slug} is released: {count_of(done.released, 'payout')} due, {done.to_wallets} to wallets.")
    render.talk(call, f"Send them: kasoko payout {done.slug}")


def _show(call: CommandContext, found: ApprovalPlan) -> None:
    figures = found.settlement
    pairs: list[tuple[str, object]] = [
        ("settled", f"{local(found.settled_at)} by {found.settled_by}"),
        ("gross pool", amount_of(figures.gross_cents)),
        ("fee", amount_of(figures.fee_cents)),
        ("winners", f"{figures.winners:,} share {amount_of(figures.payouts_cents)}"),
        *([("kept back as tax", amount_of(figures.tax_cents))] if figures.tax_cents else []),
        ("refunds", amount_of(figures.refunds_cents)),
        ("to phones", f"{count_of(found.payouts, 'payout')}, {amount_of(found.wire_cents)}"),
        ("to wallets", amount_of(found.to_wallets_cents)),
        ("plan", found.plan_hash[:16]),
    ]
    if found.approved_by is not None and found.approved_at is not None:
        pairs.insert(1, ("released", f"{local(found.approved_at)} by {found.approved_by}"))
    render.card(call, f"{found.slug}, for a second person", pairs, document=found)
    if call.json or not found.items:
        return
    items, everything = [(one, one.status) for one in found.items], f"kasoko approve {found.slug} --plan --json"
    show_receivers(call, "Who would be paid what", "status", items, everything=everything)
