"""`kasoko reconcile --statement`: M-Pesa's statement, compared with the books and the results."""

from __future__ import annotations

from pathlib import Path

import typer

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.progress import progress
from kasoko_cli.cli.parsing import amount_of, count_of, local
from kasoko_cli.operations.reconciliation import statement_import as operation
from kasoko_cli.operations.reconciliation.statement_import import StatementReport
from kasoko_cli.operations.reconciliation.statement_owner import NobodysStatement
from kasoko_cli.operations.reconciliation.statement_parser import StatementFile, read_statement
from kasoko_cli.operations.shared.record_files import open_input

#: How many differences a person reads; --json has all.
SHOWN = 50


def take(call: CommandContext, file: Path, *, counted: bool, plan: bool, account: str | None) -> None:
    """Compare a statement and tell; exits with 8 where something differs that a person has to see to."""
    with open_input(file) as stream:
        read = read_statement(file.name, stream.read())
    try:
        report = _take(call, read, counted=counted, plan=plan, account=account)
    except NobodysStatement as nobodys:
        if call.yes or not render.is_somebody_here():
            raise
        render.aside(nobodys.message)
        account = render.ask("Whose is it? Type the shortcode of the account, or nothing to leave it:")
        if not account:
            raise
        report = _take(call, read, counted=counted, plan=plan, account=account)
    _tell(call, report, plan=plan)
    if report.open:
        raise typer.Exit(8)


def _take(
    call: CommandContext, read: StatementFile, *, counted: bool, plan: bool, account: str | None
) -> StatementReport:
    container = call.container
    rules = operation.StatementRules(
        shortcode=container.config.daraja.shortcode,
        customers_are_counted=counted,
        said_account=account,
        caution=container.caution,
        tariff=container.tariff,
    )
    if plan:
        return operation.plan_statement(container.db, container.clock, read, rules)
    with progress(call, "Lines", len(read.lines)) as bar:
        return operation.take_statement(call.context, read, rules, on_progress=bar)


def _tell(call: CommandContext, report: StatementReport, *, plan: bool) -> None:
    if call.json:
        render.document({"plan": plan, "statement": report, "exit_code": 8 if report.open else 0})
        return
    if render.unattended(call) and not (plan or report.open):
        return
    ways = report.payouts
    pairs: list[tuple[str, object]] = [
        ("account", _shown_by(report)),
        ("says", _said(report)),
        ("covers", _covered(report)),
        *([("sheet", report.sheet)] if report.sheet else []),
        ("lines", f"{report.lines:,}, {report.new_lines:,} of them new"),
        *([("left out", _left_out(report))] if report.left_out else []),
        ("whole", "every balance follows from the one before" if report.whole else _not_whole(report)),
        ("payouts, ledger", f"{ways.ledger.count:,}, {amount_of(ways.ledger.amount_cents)}"),
        ("payouts, results", f"{ways.results.count:,}, {amount_of(ways.results.amount_cents)}"),
        ("payouts, statement", f"{ways.statement.count:,}, {amount_of(ways.statement.amount_cents)}"),
        *((name, f"{side.count:,}, {amount_of(side.amount_cents)}") for name, side in report.by_verdict.items()),
        ("balance, statement", None if report.closing_cents is None else amount_of(report.closing_cents)),
        ("balance, ledger now", amount_of(report.utility_cents)),
        ("in suspense", amount_of(report.suspense_cents)),
    ]
    render.card(call, f"Statement {report.file}", pairs)
    if report.differences:
        columns = render.columns(">line", "receipt", "what", ">KES", "why, and what to do")
        rows = [
            (
                one.line,
                one.receipt,
                one.kind,
                render.kes(one.statement_cents - one.ledger_cents),
                f"{one.why}. Do: {one.command}" if one.command else f"{one.why}.",
            )
            for one in report.differences[:SHOWN]
        ]
        render.table(call, "Differences", columns, rows)
        if (more := len(report.differences) - SHOWN) > 0:
            render.talk(call, f"And {more:,} more: --json has all of them.")
    if plan:
        render.talk(call, "Nothing was written.")
    elif not report.is_new and report.taken_at is not None:
        render.talk(call, f"This file was taken in at {local(report.taken_at)}; nothing was written.")
    if report.open:
        render.hint(call, f"{count_of(report.open, 'difference')} to be seen to; each says what to do.")
    else:
        render.talk(call, "Ledger, results and statement agree.")


def _shown_by(report: StatementReport) -> str:
    by = {"lead": "by its lead", "lines": "by payments that M-Pesa's results told of", "word": "by your word only"}
    return f"{report.account or 'ours'}, {by[report.account_proof]}"


def _said(report: StatementReport) -> str | None:
    """What a file says of its own time, which is not always so."""
    said = []
    if report.says_from is not None and report.says_to is not None:
        said.append(f"{local(report.says_from)} to {local(report.says_to)}")
    if report.made_at is not None:
        said.append(f"made at {local(report.made_at)}")
    return ", ".join(said) or None


def _covered(report: StatementReport) -> str:
    if report.covers_from == report.covers_to:
        return "nothing: it shows too little time to prove an absence"
    return f"{local(report.covers_from)} to {local(report.covers_to)}"


def _not_whole(report: StatementReport) -> str:
    if not report.broken_at:
        return "no: it does not have a balance on every line, so it proves no absence"
    return f"no: line {report.broken_at} does not follow from the lines before it, so it proves no absence"


def _left_out(report: StatementReport) -> str:
    """Rows that were taken for no movement, and where each kind stands first."""
    of_kind: dict[str, list[int]] = {}
    for row in report.left_out:
        of_kind.setdefault(row.what, []).append(row.line)
    said = [
        f"{count_of(len(lines), what)} (line {lines[0]}{', ...' if lines[1:] else ''})"
        for what, lines in of_kind.items()
    ]
    return ", ".join(said)
