"""How unknown payouts ended: asked of M-Pesa, or read in its statement."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import Events, Host, MaybeMarketId, Port, WrongUsage, flag, option
from kasoko_cli.cli.output import progress, render
from kasoko_cli.cli.parsing import count_of, local

if TYPE_CHECKING:
    from kasoko_cli.operations.reconciliation.ask_and_wait import AskRequest, RoundOutcome

commands = Commands()


@commands.writes()
def reconcile(
    call: CommandContext,
    market: MaybeMarketId = None,
    host: Host = None,
    port: Port = None,
    now: Annotated[bool, flag("--now", "Ask about all of them, whenever their turn is.")] = False,
    listen_seconds: Annotated[int, option("--listen-seconds", "N", "How long to wait for answers.", min=0)] = 120,
    no_listen: Annotated[bool, flag("--no-listen", "Another process listens already; do not wait.")] = False,
    max_seconds: Annotated[int | None, option("--max-seconds", "N", "Ask nothing new after this.", min=1)] = None,
    events: Events = False,
    statement: Annotated[Path | None, option("--statement", "FILE", "Compare M-Pesa's statement, CSV or XLSX.")] = None,
    counted: Annotated[bool, flag("--counted", "Its customers' payments are stakes counted already.")] = False,
    account: Annotated[
        str | None, option("--account", "SHORTCODE", "Whose statement it is, where it does not say.")
    ] = None,
    plan: Annotated[bool, flag("--plan", "With --statement: look only; write nothing.")] = False,
) -> None:
    """Find out how unknown payouts ended: apply results, ask M-Pesa.

    Sends nothing again. Each payout is asked about on a ladder: 5 min, 15 min, 1
    h, 4 h, 12 h, 24 h.

    With --statement it asks nobody: it compares M-Pesa's organisation statement
    with the books and the results, ends what that proves, and names every
    difference. The same file again changes nothing; kasoko statement undo takes
    one back.

    Example: kasoko reconcile rain --now

    Example: kasoko reconcile --statement utility-2026-11.csv --plan

    Exit status: 0 nothing is unknown, 3 settings, 4 no such market or file, 5 the
    statement was refused, 6 M-Pesa cannot be reached, 7 some are still unknown or
    contradict themselves, 8 the statement differs, 9 another run has this work.
    """
    if statement is not None:
        from kasoko_cli.cli.commands.reconciliation.statement_comparison import take

        if market is not None or now:
            raise WrongUsage("A statement is of the whole account: leave MARKET and --now out.")
        take(call, statement, counted=counted, plan=plan, account=account)
        return
    if plan or counted or account is not None:
        raise WrongUsage("--plan, --counted and --account go with --statement FILE.")
    from kasoko_cli.operations.reconciliation.ask_and_wait import AskRequest

    request = AskRequest(market, now, max_seconds, None if no_listen else listen_seconds)
    _reconcile(call, request, (host, port), with_events=events)


def _reconcile(
    call: CommandContext, request: AskRequest, address: tuple[str | None, int | None], *, with_events: bool
) -> None:
    """Ask, wait for the answers where this process listens, tell, and exit with the code."""
    from kasoko_cli.cli.listening import listening
    from kasoko_cli.cli.signals import stopping
    from kasoko_cli.operations.reconciliation.ask_and_wait import ask_and_wait, outcome_of
    from kasoko_cli.operations.shared.watching import Attended

    container = call.container
    container.config.require_daraja()
    events = progress.Events(container.clock, on=with_events)
    with contextlib.ExitStack() as stack:
        stopper = stack.enter_context(stopping())
        work = stack.enter_context(call.at_work("reconcile", market=request.market))
        if request.listen_seconds is not None:
            otherwise = "add --no-listen, for it takes the answers"
            heard = listening(call, *address, otherwise=otherwise, tell=lambda judged: events("callback", judged))
            stack.enter_context(heard)
        attended = Attended(work, stopper, progress.OnScreen(call, events))
        report = ask_and_wait(call.context, container.gateway, container.ask_policy, container.trust, request, attended)
    found = outcome_of(container.db, report, request.market)
    if call.json or events.on:
        events.answer(
            {
                "reconciled": report,
                "open": found.open,
                "contradictions": found.contradictions,
                "next": found.next or None,
                "exit_code": found.exit_code,
            }
        )
    elif not render.unattended(call) or (found.exit_code and found.has_done_something):
        _tell(call, found)  # else nothing is unknown, or nothing was learnt: nobody has to act on it now
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _tell(call: CommandContext, found: RoundOutcome) -> None:
    report, not_asked = found.report, found.not_asked
    render.talk(
        call,
        f"{count_of(len(report.applied), 'stored result')} applied, {count_of(report.reaped, 'lost sender')} marked,"
        f" {len(report.asked) - len(not_asked):,} asked about, {report.not_yet:,} not asked yet.",
    )
    for one in not_asked:
        render.talk(call, f"{one.payout_id} could not be asked about: {one.why}")
    if report.next_at is not None:
        render.talk(call, f"The next turn is at {local(report.next_at)}; at once: kasoko reconcile --now")
    if render.unattended(call):
        from kasoko_cli.cli.output import cron_mail

        render.mail(cron_mail.reconcile_mail(report, found.open, found.contradictions))
    elif found.open:
        columns = render.columns("payout", "status", ">KES", "sent", ">asked", "last answer")
        rows = [
            (it.payout_id, it.status, render.kes(it.wire_cents), local(it.since), it.questions, it.last_answer or "-")
            for it in found.open
        ]
        render.table(call, "Still open", columns, rows)
        counts = Counter(it.status for it in found.open)
        told = ", ".join(f"{count:,} {status}" for status, count in counts.items())
        render.talk(call, f"How {count_of(len(found.open), 'payout')} ended is not known yet: {told}.")
    else:
        render.talk(call, "Nothing is open: the end of every payout that was sent is known.")
    if found.next:
        render.hint(call, found.next)
    elif found.failed:
        render.hint(
            call, f"{count_of(found.failed, 'payout')} failed. What may succeed goes again: kasoko retry-failed"
        )
