"""How everything stands, one market, or one payout; and the one line that monitoring reads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.options import WrongUsage, argument, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.payout_tables import show_concerns, show_items, show_story
from kasoko_cli.cli.parsing import amount_of, count_of, local

if TYPE_CHECKING:
    from kasoko_cli.operations.monitoring.health import Health
    from kasoko_cli.operations.reporting.status_views import MarketStatusReport
    from kasoko_cli.operations.shared.overview import Amount, Groups, Overview, RunFacts

commands = Commands()


@commands.reads(answers=False)
def status(
    call: CommandContext,
    what: Annotated[
        str | None,
        argument(
            "MARKET|PAYOUT",
            "A market, or a payout like rain.1.7; else all.",
            autocompletion=completion.markets_or_payouts,
        ),
    ] = None,
    payouts: Annotated[bool, flag("--payouts", "List each payout of the market.")] = False,
    watch: Annotated[bool, flag("--watch", "Everything at once, drawn anew until Ctrl-C.")] = False,
    every: Annotated[int, option("--every", "SECONDS", "With --watch: how often.", min=1)] = 5,
    check: Annotated[bool, flag("--check", "One line for monitoring: is all well? Exits 0 or 8.")] = False,
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
        if what is not None:
            raise WrongUsage("--check looks at everything: leave the market out.")
        _check(call)
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
        show_story(call, status_views.story(db, call.payout_id(what)))
    else:
        _show_market(call, status_views.market_status(db, what, with_items=payouts))


def _show_overview(call: CommandContext, found: Overview) -> None:
    columns = render.columns("market", "status")
    for group in ("pending", "completed", "failed"):
        columns += render.columns(f">{group}", ">KES")
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
        waiting = count_of(found.callbacks_waiting, "result")
        render.warn(call, f"Stored and not applied yet: {waiting}. Apply what is stored: kasoko reconcile")
    _show_runs(call, found.runs, {market.id: market.slug for market in found.markets})
    for switch in found.switches:
        render.warn(call, f"Nothing is sent: {switch.name} by {switch.actor}, {switch.reason} Then: kasoko resume")
    _warn_of_unknown(call, found.by_status)
    show_concerns(call, found.incidents)


def _show_runs(call: CommandContext, runs: list[RunFacts], slugs: Mapping[str, str]) -> None:
    from kasoko_cli.operations.shared.overview import is_dead

    if not runs:
        return
    columns = render.columns("at work", "host", "by", "since", "doing", "so far")
    now = call.container.clock()
    rows = [
        (
            f"{run.command} {slugs.get(run.market or '', run.market or '')}".strip(),
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


def _warn_of_unknown(call: CommandContext, by_status: Mapping[str, Amount]) -> None:
    if unknown := by_status.get("UNKNOWN"):
        plural = "payout is" if unknown.count == 1 else "payouts are"
        render.warn(call, f"{unknown.count:,} {plural} unknown; ask M-Pesa how they ended: kasoko reconcile")


def _check(call: CommandContext) -> None:
    """Say in one line whether all is well, as monitoring reads it, and exit by it: 0 or 8."""
    from kasoko_cli.operations.monitoring.health import check_health

    container = call.container
    health = check_health(container.db, container.clock, container.limits_of_health)
    if call.json:
        render.document(
            {"ok": health.ok, "state": health.state, "findings": health.findings, "figures": health.figures}
        )
    elif not (call.quiet and health.ok):
        render.line(_one_line(health))
        for finding in health.findings:
            render.line(f"{finding.state}: {finding.what}. {finding.do}")
    if not health.ok:
        raise typer.Exit(8)


def _one_line(health: Health) -> str:
    """`KASOKO OK - 1,200 payouts completed ... | success=100.00%;99 failed=0`: plugin output with perfdata."""
    from kasoko_cli.operations.monitoring.health import percent

    now = health.figures
    if health.findings:
        said = "; ".join(finding.what for finding in health.findings)
    else:
        rate = "none ended" if now.success_bps is None else f"{percent(now.success_bps)} succeeded"
        said = f"{count_of(now.completed + now.failed, 'payout')} ended in the window, {rate}; nothing to do"

    def age(since: datetime | None) -> int:
        return 0 if since is None else max(0, round((now.at - since).total_seconds()))

    figures: list[tuple[str, str]] = [
        *([] if now.success_bps is None else [("success", percent(now.success_bps).replace(" ", ""))]),
        ("failed", str(now.failed_lately)),
        ("unknown", str(now.unknown)),
        ("unknown_age", f"{age(now.unknown_since)}s"),
        ("due_age", f"{age(now.due_since)}s"),
        ("in_flight", str(now.in_flight)),
        ("incidents", str(sum(now.incidents.values()))),
        *([] if now.daraja_p95_ms is None else [("daraja_p95", f"{now.daraja_p95_ms}ms")]),
        *([("settlement", f"{now.settled[-1].seconds}s")] if now.settled else []),
    ]
    # A bar would begin the figures: a reason that an operator typed may hold one.
    return (
        f"KASOKO {health.state} - {said.replace('|', '/')} | {' '.join(f'{name}={value}' for name, value in figures)}"
    )
