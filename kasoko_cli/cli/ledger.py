"""The books, proven."""

from __future__ import annotations

from typing import Annotated

import typer

from kasoko_cli.cli import render
from kasoko_cli.cli.group import Call, Commands
from kasoko_cli.cli.panels import BOOKS
from kasoko_cli.cli.render import Column

commands = Commands()


@commands.reads(panel=BOOKS)
def audit(
    call: Call,
    deep: Annotated[bool, typer.Option("--deep", help="Also each wallet, from its postings.")] = False,
) -> None:
    """Recompute everything from the bets up.

    Names each thing that must always hold, and every row that breaks one.

    Example: kasoko audit

    Example: kasoko audit --deep --json

    Exit status: 0 all holds, 8 something does not.
    """
    from kasoko_cli.cli.telling import progress
    from kasoko_cli.operations.audit import audit as operation

    with progress(call, "Auditing"):
        report = operation(call.house.db, deep=deep)
    rows = [
        (check.name, "ok" if check.ok else f"{check.count:,} WRONG", f"{check.took_ms:,} ms", check.says)
        for check in report.checks
    ]
    columns = [Column("check"), Column("result"), Column("took", right=True), Column("what must hold")]
    render.table(call, "Audit", columns, rows, document=report)
    for check in report.checks:
        for violation in check.violations:
            render.talk(call, f"{check.name}: {violation.subject}: {violation.what}")
        if not check.ok:
            render.talk(call, check.hint)
    if not report.ok:
        raise typer.Exit(8)
