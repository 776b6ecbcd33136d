"""The books, proven."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import WrongUsage, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.progress import progress
from kasoko_cli.cli.parsing import count_of

if TYPE_CHECKING:
    from kasoko_cli.operations.audit.run import AuditReport

commands = Commands()


@commands.reads(answers=False)
def audit(
    call: CommandContext,
    deep: Annotated[bool, flag("--deep", "Also each wallet, and the row behind each entry.")] = False,
    chain: Annotated[bool, flag("--chain", "Also the chain of digests, from its first link.")] = False,
    export: Annotated[Path | None, option("--export", "FILE", "Write the heads of the chain there.")] = None,
    head: Annotated[Path | None, option("--head", "FILE", "Hold the chain against heads exported before.")] = None,
) -> None:
    """Recompute everything from the bets up.

    Names each thing that must always hold, and every row that breaks one. The
    chain tells of any row that was changed, removed or put in by hand. Keep its
    heads on another machine (--export): held against them (--head), a chain
    that was written anew shows, and so does an older copy of the database.

    Example: kasoko audit --deep

    Example: kasoko audit --chain --export heads-2026-11-24.json

    Example: kasoko audit --chain --head heads-2026-11-23.json

    With --quiet it says nothing while all holds.

    Exit status: 0 all holds, 4 no such folder, 5 the file cannot be written or
    is none of heads, 8 something does not hold.
    """
    from kasoko_cli.operations.audit import chain_check
    from kasoko_cli.operations.audit.run import audit as operation

    if (export or head) and not chain:
        raise WrongUsage("--export and --head are about the chain. Add --chain.")
    exported = chain_check.read_heads(head) if head else None
    with progress(call, "Auditing"):
        report = operation(call.container.db, call.container.clock, deep=deep, chain=chain, head=exported)
    if call.json or not call.quiet:
        _show(call, report)
    elif not report.ok:
        from kasoko_cli.cli.output import cron_mail

        render.mail(cron_mail.audit_mail(report))
    if not report.ok:
        raise typer.Exit(8)
    if call.database_url is None:  # a copy that is named by hand stays as it is
        call.ended_well("audit")
    if export and report.heads:
        chain_check.export_heads(report.heads, export)
        render.talk(call, f"Heads written to {export}. Keep them where whoever runs this machine cannot write.")


def _show(call: CommandContext, report: AuditReport) -> None:
    """Every check, and what speaks against those that do not hold."""
    rows = [
        (check.name, "ok" if check.ok else f"{check.count:,} WRONG", f"{check.took_ms:,} ms", check.says)
        for check in report.checks
    ]
    columns = render.columns("check", "result", ">took", "what must hold")
    render.table(call, "Audit", columns, rows, document=report)
    for check in report.checks:
        for violation in check.violations:
            render.talk(call, f"{check.name}: {violation.subject}: {violation.what}")
        if not check.ok:
            render.talk(call, check.hint)
    if call.json:
        return
    wrong = [check.name for check in report.checks if not check.ok]
    if wrong:
        stop = "Stop sending first: kasoko pause --reason 'the audit found something'"
        of_all = f"{len(wrong)} of {count_of(len(report.checks), 'check')}"
        render.hint(call, f"The audit found something in {of_all}: {', '.join(wrong)}. {stop}")
    else:
        render.talk(call, f"All holds: {count_of(len(report.checks), 'check')}, and nothing speaks against any.")
