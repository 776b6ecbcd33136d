"""The road of a market: resolve, settle, and how everything stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.help.panels import ROAD
from kasoko_cli.cli.options import MarketId, Plan, SignWith, WrongUsage
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.payout_tables import show_concerns, show_items, show_story
from kasoko_cli.cli.output.render import Column

if TYPE_CHECKING:
    from kasoko_cli.operations.reporting.status_views import MarketStatusReport
    from kasoko_cli.operations.settlement.settle import Settled
    from kasoko_cli.operations.shared.overview import Groups, Overview, RunFacts

commands = Commands()


@commands.writes(panel=ROAD)
def resolve(
    call: CommandContext,
    market: MarketId,
    outcome: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OUTCOME...",
            help="The winner; several for a dead heat.",
            show_default=False,
            autocompletion=completion.outcomes,
        ),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="NAME=7/10", help="A part for each outcome, summing to 1."),
    ] = None,
    withdrawn: Annotated[
        list[str] | None,
        typer.Option(
            "--withdrawn",
            metavar="NAME",
            help="An outcome that fell away: refunded.",
            autocompletion=completion.outcomes,
        ),
    ] = None,
    override: Annotated[
        bool, typer.Option("--override", help="Another outcome than the one it has; needs --reason.")
    ] = False,
    void: Annotated[bool, typer.Option("--void", help="With --override: call it off after all.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="With --override: show it; write nothing.")] = False,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="HASH", help="With --override: the plan that you have read.")
    ] = None,
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

    Exit status: 0 resolved, 4 no such market or outcome, 5 it is open, was
    resolved otherwise, or a second person has to confirm, 9 another process
    holds the database.
    """
    if override:
        from kasoko_cli.cli.commands.market.override import give

        give(
            call,
            market,
            outcome or [],
            weight or [],
            withdrawn or [],
            void=void,
            plan=plan,
            confirm=confirm,
            sign_with=sign_with,
        )
        return
    if void or plan or confirm is not None:
        raise WrongUsage("--void, --plan and --confirm go with --override. To call a market off: kasoko market void.")
    from kasoko_cli.cli.parsing import parse_weight
    from kasoko_cli.operations.records import markets

    weights = [parse_weight(text) for text in weight or []]
    named: dict[str, Any] = {"winners": outcome or [], "weights": weights, "withdrawn": withdrawn or []}
    if not call.yes and not _resolve_it(call, market, named):
        render.talk(call, "Nothing was changed.")
        raise typer.Exit(1)
    view = markets.resolve_market(call.context, market=market, **named)
    if call.json:
        render.document(view)
        return
    render.did(call, f"{view.slug} is resolved: {view.resolved_outcome}.")
    render.talk(call, f"Divide the pool: kasoko settle {view.slug}")


def _resolve_it(call: CommandContext, market: str, named: dict[str, Any]) -> bool:
    """Show what the resolution would lead to, and ask; True at once where it is resolved so already."""
    from kasoko_cli.operations.settlement.preview import preview_resolution

    container = call.container
    found = preview_resolution(call.context, container.limits, market=market, duties=container.duties, **named)
    if found is None:
        return True
    if render.is_somebody_here():
        _tell_consequences(call, found)
    return render.confirm(call, f"Resolve {found.slug} as {found.resolved_outcome}? It cannot be taken back easily.")


def _tell_consequences(call: CommandContext, found: Settled) -> None:
    from kasoko_cli.cli.parsing import amount_of, count_of

    figures = found.settlement
    render.talk(
        call,
        f"{found.slug}: {count_of(found.bets, 'bet')}, {amount_of(figures.gross_cents)} in the pool. With"
        f" {found.resolved_outcome} {count_of(figures.winners, 'winner')} would share"
        f" {amount_of(figures.payouts_cents)} on {amount_of(figures.winning_stake_cents)} staked; fee"
        f" {amount_of(figures.fee_cents)}, refunds {amount_of(figures.refunds_cents)}.",
    )
    _tell_warnings(call, found)


def _tell_warnings(call: CommandContext, found: Settled) -> None:
    """The warnings of a settlement; in red where winners get less than they staked."""
    one_sided = found.settlement.winners and found.settlement.payouts_cents < found.settlement.winning_stake_cents
    for warning in found.warnings:
        render.alarm(warning) if one_sided else render.warn(call, warning)


@commands.writes(panel=ROAD)
def settle(
    call: CommandContext,
    market: MarketId,
    plan: Plan = False,
    pay: Annotated[bool, typer.Option("--pay", help="Go on and send the payouts.")] = False,
    listen: Annotated[bool, typer.Option("--listen", help="With --pay: take the results too.")] = False,
) -> None:
    """Divide MARKET's pool and owe the payouts; no money leaves.

    It happens once: settling again changes nothing and says so.

    Example: kasoko settle rain --plan

    Example: kasoko settle rain --pay

    Exit status: 0 settled, 3 settings, 4 no such market, 5 it has no result yet,
    or with --pay waits for a second person, 6 with --pay some not sent or failed,
    8 its bets were changed after the close, 9 another process holds the database;
    with --pay also those of kasoko payout.
    """
    from kasoko_cli.cli.commands.payout import send as payout
    from kasoko_cli.cli.output.progress import progress
    from kasoko_cli.operations.settlement import settle as operation

    container = call.container
    if plan:
        _show_settlement_plan(call, market)
        return
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
        _tell_warnings(call, settled)
        return
    if not pay:
        _show_settled(call, settled, did, document=settled)
        if not settled.is_new:
            render.talk(call, f"{settled.slug} {did}.")
        if settled.awaits_approval:
            _tell_who_releases(call, settled)
        elif settled.to_phones and settled.is_new:
            render.talk(call, f"Send the payouts: kasoko payout {settled.slug}")
        return
    if settled.awaits_approval:
        _show_settled(call, settled, did, document=settled)
        _tell_who_releases(call, settled)
        raise typer.Exit(5)
    if not (call.json or render.unattended(call)):
        _show_settled(call, settled, did, document=settled)
    payout.send_payouts(call, market=market, listen=listen, bind=True)


def _tell_who_releases(call: CommandContext, settled: Settled) -> None:
    render.talk(
        call,
        "Nothing of it is sent or credited until a second person has released it:"
        f" kasoko approve {settled.slug} --plan-hash {settled.plan_hash[:16]}",
    )


def _show_settlement_plan(call: CommandContext, market: str) -> None:
    from kasoko_cli.cli.confirmation import SHOWN_ROWS, gate_lines, tell_cut, tell_warning
    from kasoko_cli.operations.payouts import float_check
    from kasoko_cli.operations.settlement.settle import plan_settlement

    container = call.container
    planned, owed = plan_settlement(
        container.db, container.limits, market=market, clock=container.clock, duties=container.duties
    )
    wires = [line.wire_cents for line in owed if line.wire_cents]
    cover = float_check.look_at_plan(container.db, container.clock, container.gate_policy, wires)
    document = {"plan": planned, "owed": owed, "float": cover}
    _show_settled(call, planned, "would be settled", document=document, more=gate_lines(cover))
    if call.json:
        return
    columns = [Column("user"), Column("kind"), Column("leg", right=True), Column("KES", right=True)]
    columns += [Column("to phone", right=True), Column("to wallet", right=True)]
    is_taxed = bool(planned.withheld_cents)
    columns += [Column("kept back", right=True)] if is_taxed else []
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


def _show_settled(
    call: CommandContext, settled: Settled, did: str, *, document: object, more: Sequence[tuple[str, object]] = ()
) -> None:
    from kasoko_cli.cli.parsing import amount_of, count_of

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
    _tell_warnings(call, settled)


@commands.reads(panel=ROAD, answers=False)
def status(
    call: CommandContext,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="MARKET|PAYOUT",
            help="A market, or a payout like rain.1.7; else all.",
            show_default=False,
            autocompletion=completion.markets_or_payouts,
        ),
    ] = None,
    payouts: Annotated[bool, typer.Option("--payouts", help="List each payout of the market.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Everything at once, drawn anew until Ctrl-C.")] = False,
    every: Annotated[int, typer.Option("--every", metavar="SECONDS", min=1, help="With --watch: how often.")] = 5,
    check: Annotated[bool, typer.Option("--check", help="One line for monitoring: is all well? Exits 0 or 8.")] = False,
) -> None:
    """Show how everything stands, one market, or one payout.

    Example: kasoko status

    Example: kasoko status rain --payouts

    Example: kasoko status rain.1.7

    Example: kasoko status --check

    Exit status: 0 shown, 4 no such market or payout, 8 with --check: something is
    not well.
    """
    if check:
        from kasoko_cli.cli.commands.reports.monitoring import check as check_all

        if what is not None:
            raise WrongUsage("--check looks at everything: leave the market out.")
        check_all(call)
        return
    if watch:
        from kasoko_cli.cli.commands.reports import dashboard

        if what is not None:
            raise WrongUsage("--watch shows everything at once; leave the market out.")
        dashboard.watch(call, every)
        return
    from kasoko_cli.domain.payout import looks_like_payout_id

    if what is None:
        _show_overview(call, call.container.overview())
        return
    from kasoko_cli.operations.reporting import status_views

    db = call.container.db
    if looks_like_payout_id(what):
        show_story(call, status_views.story(db, what))
    else:
        _show_market(call, status_views.market_status(db, what, with_items=payouts))


def _show_overview(call: CommandContext, found: Overview) -> None:
    from kasoko_cli.cli.parsing import local

    columns = [Column("market"), Column("status")]
    for group in ("pending", "completed", "failed"):
        columns += [Column(group, right=True), Column("KES", right=True)]
    rows: list[tuple[object, ...]] = [
        (market.slug, "settled" if market.settled else market.status, *_cells(market.payouts))
        for market in found.markets
    ]
    rows.append(("all", "", *_cells(found.payouts)))
    render.table(call, "Markets", columns, rows, document=found)
    if call.json:
        return
    heard = "never" if found.callback_heard_at is None else local(found.callback_heard_at)
    render.talk(call, f"The listener last heard from M-Pesa: {heard}.")
    if found.callbacks_waiting:
        render.warn(call, f"{found.callbacks_waiting} results are stored and not applied yet: kasoko reconcile")
    _show_runs(call, found.runs)
    for switch in found.switches:
        render.warn(call, f"Nothing is sent: {switch.name} by {switch.actor}, {switch.reason} Then: kasoko resume")
    _warn_of_unknown(call, found.by_status)
    show_concerns(call, found.incidents)


def _show_runs(call: CommandContext, runs: list[RunFacts]) -> None:
    from kasoko_cli.cli.parsing import local
    from kasoko_cli.operations.shared.overview import is_dead

    if not runs:
        return
    columns = [Column("at work"), Column("host"), Column("by"), Column("since"), Column("doing"), Column("so far")]
    now = call.container.clock()
    rows = [
        (
            f"{run.command} {run.market or ''}".strip(),
            f"{run.host} ({run.pid})",
            run.actor,
            local(run.started_at),
            f"not heard of since {local(run.heartbeat_at)}" if is_dead(run, now) else run.doing,
            ", ".join(f"{count:,} {what}" for what, count in run.counts.items()),
        )
        for run in runs
    ]
    render.table(call, "Runs", columns, rows)


def _cells(groups: Groups) -> tuple[object, ...]:
    parts = (groups.pending, groups.completed, groups.failed)
    return tuple(value for part in parts for value in (f"{part.count:,}", render.kes(part.amount_cents)))


def _show_market(call: CommandContext, found: MarketStatusReport) -> None:
    from kasoko_cli.cli.parsing import amount_of, count_of, local

    if call.json:
        render.document(found)
        return
    market, settlement = found.market, found.settlement
    pairs: list[tuple[str, object]] = [
        ("question", market.question),
        ("status", f"{market.status}, settled" if settlement else market.status),
        ("outcome", market.resolved_outcome),
        ("resolved", None if market.resolved_at is None else local(market.resolved_at)),
    ]
    if settlement is not None:
        pairs += [
            ("gross pool", amount_of(settlement.gross_cents)),
            ("fee", amount_of(settlement.fee_cents)),
            ("net pool", amount_of(settlement.net_cents)),
            ("winners", f"{settlement.winners:,} share {amount_of(settlement.payouts_cents)}"),
            *([("kept back as tax", amount_of(settlement.tax_cents))] if settlement.tax_cents else []),
            ("refunds", amount_of(settlement.refunds_cents)),
            ("breakage", amount_of(settlement.breakage_cents)),
        ]
        for name in ("pending", "completed", "failed"):
            group = getattr(found.payouts, name)
            pairs.append((name, f"{count_of(group.count, 'payout')}, {amount_of(group.amount_cents)}"))
    pairs += [(f"  {name}", f"{one.count:,}, {amount_of(one.amount_cents)}") for name, one in found.by_status.items()]
    render.card(call, market.slug, pairs, document=found)
    if found.items is not None:
        show_items(call, f"Payouts of {market.slug}", found.items)
    _warn_of_unknown(call, found.by_status)
    show_concerns(call, found.incidents)


def _warn_of_unknown(call: CommandContext, by_status: object) -> None:
    assert isinstance(by_status, dict)
    if unknown := by_status.get("UNKNOWN"):
        plural = "payout is" if unknown.count == 1 else "payouts are"
        render.warn(call, f"{unknown.count:,} {plural} unknown; ask M-Pesa how they ended: kasoko reconcile")
