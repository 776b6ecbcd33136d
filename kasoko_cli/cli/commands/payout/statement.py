"""M-Pesa's statement, compared; and money of it that matched nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.help.panels import BOOKS
from kasoko_cli.cli.options import WrongUsage
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.render import Column

if TYPE_CHECKING:
    from kasoko_cli.operations.reconciliation.statement_import import StatementReport
    from kasoko_cli.operations.reconciliation.statement_parser import StatementFile

commands = Commands("suspense", "Money on M-Pesa's statement that matched nothing.", panel=BOOKS)
files = Commands("statement", "Statements of M-Pesa that were taken in, and taking one back.", panel=BOOKS)

#: How many differences a person reads; --json has all.
SHOWN = 50


def take(call: CommandContext, file: Path, *, counted: bool, plan: bool, account: str | None) -> None:
    """Compare a statement and tell; exits with 8 where something differs that a person has to see to."""
    from kasoko_cli.operations.reconciliation.statement_owner import NobodysStatement
    from kasoko_cli.operations.reconciliation.statement_parser import read_statement
    from kasoko_cli.operations.shared.record_files import open_input

    with open_input(file) as stream:
        read = read_statement(file.name, stream.read())
    try:
        report = _take(call, read, counted=counted, plan=plan, account=account)
    except NobodysStatement as nobodys:
        if call.yes or not render.is_somebody_here():
            raise
        render.say_again(nobodys.message)
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
    from kasoko_cli.cli.output.progress import progress
    from kasoko_cli.operations.reconciliation import statement_import as operation

    container = call.container
    how: dict[str, Any] = {
        "shortcode": container.config.daraja.shortcode,
        "customers_are_counted": counted,
        "said_account": account,
        "caution": container.caution,
        "tariff": container.tariff,
    }
    if plan:
        return operation.plan_statement(container.db, container.clock, read, **how)
    with progress(call, "Lines", len(read.lines)) as bar:
        return operation.take_statement(call.context, read, **how, tell=bar)


def _tell(call: CommandContext, report: StatementReport, *, plan: bool) -> None:
    from kasoko_cli.cli.parsing import amount_of, count_of, local

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
        ("lines", f"{report.lines:,}, {report.new_lines:,} of them new"),
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
        columns = [Column("line", right=True), Column("receipt"), Column("what"), Column("KES", right=True)]
        columns.append(Column("why, and what to do"))
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
    from kasoko_cli.cli.parsing import local

    said = []
    if report.says_from is not None and report.says_to is not None:
        said.append(f"{local(report.says_from)} to {local(report.says_to)}")
    if report.made_at is not None:
        said.append(f"made at {local(report.made_at)}")
    return ", ".join(said) or None


def _covered(report: StatementReport) -> str:
    from kasoko_cli.cli.parsing import local

    if report.covers_from == report.covers_to:
        return "nothing: it shows too little time to prove an absence"
    return f"{local(report.covers_from)} to {local(report.covers_to)}"


def _not_whole(report: StatementReport) -> str:
    where = f" from line {report.broken_at} on" if report.broken_at else ""
    return f"no: its balances do not follow one from another{where}, so it proves no absence"


@commands.reads("list")
def list_(call: CommandContext) -> None:
    """List money that matched nothing, oldest first.

    Example: kasoko suspense list

    Example: kasoko suspense list --json

    Exit status: 0 listed.
    """
    from kasoko_cli.cli.parsing import local
    from kasoko_cli.operations.reconciliation.statement_import import list_suspense

    found = list_suspense(call.container.db)
    columns = [Column("item"), Column("receipt"), Column("when"), Column("KES", right=True), Column("party")]
    columns += [Column("reason"), Column("why")]
    rows = [
        (one.key[:8], one.receipt, local(one.at), render.kes(one.amount_cents), one.party or None, one.reason, one.why)
        for one in found
    ]
    render.table(call, "In suspense", columns, rows, document={"suspense": found})
    if not found and not call.json:
        render.talk(call, "There is none.")


@commands.writes()
def resolve(
    call: CommandContext,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Of suspense list, or a receipt.", show_default=False)],
    as_: Annotated[str, typer.Option("--as", metavar="WHAT", help="What it was; see above.", show_default=False)],
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="Whose it is.")] = None,
) -> None:
    """Say what money in suspense was, once, with a reason.

    WHAT is bank (moved to or from the bank), capital, draw, charges, counted (in
    the books already by another way), wallet (of --user), receivable (--user owes
    it, or gave it back), write-off.

    Example: kasoko suspense resolve UKN7A1B2C3 --as bank --reason 'float top-up'

    Example: kasoko suspense resolve UKN7A1B2C4 --as wallet --user kamau --reason
    'a deposit that nobody wrote down'

    Exit status: 0 resolved, 2 no such WHAT, 4 nothing is called so, 5 it was
    resolved before, or the rules refuse it.
    """
    from kasoko_cli.cli.parsing import amount_of
    from kasoko_cli.operations.reconciliation.statement_import import RESOLUTIONS, resolve_suspense

    if as_ not in RESOLUTIONS:
        raise WrongUsage(f"There is no {as_!r}. WHAT is one of: {', '.join(RESOLUTIONS)}.")
    done = resolve_suspense(call.context, name=item, resolution=as_, user_id=user)
    if call.json:
        render.document({"resolved": done, "as": as_, "user": user})
        return
    render.did(
        call, f"{done.receipt}, {amount_of(done.amount_cents)}, is resolved as {as_}{f' of {user}' if user else ''}."
    )


@files.reads("list")
def list_files(call: CommandContext) -> None:
    """List the statements that were taken in, the latest first.

    A statement is taken in by kasoko reconcile --statement FILE.

    Example: kasoko statement list

    Example: kasoko statement list --json

    Exit status: 0 listed.
    """
    from kasoko_cli.cli.parsing import local
    from kasoko_cli.operations.reconciliation.statement_undo import list_taken

    found = list_taken(call.container.db)
    columns = [Column("statement", right=True), Column("file"), Column("taken in"), Column("by"), Column("covers")]
    columns += [Column("lines", right=True), Column("suspense KES", right=True), Column("state")]
    rows = [
        (
            one.id,
            one.file,
            local(one.taken_at),
            one.actor,
            f"{local(one.covers_from)} to {local(one.covers_to)}",
            one.brought,
            render.kes(one.in_suspense_cents),
            one.state,
        )
        for one in found
    ]
    render.table(call, "Statements", columns, rows, document={"statements": found})
    if not found and not call.json:
        render.talk(call, "There is none.")


@files.writes()
def undo(
    call: CommandContext,
    statement: Annotated[
        int, typer.Argument(metavar="STATEMENT", help="Its number in statement list.", show_default=False)
    ],
) -> None:
    """Take a statement back that should not have been taken in, exactly.

    Every entry that it booked is reversed, what people said of its suspense too;
    its lines are forgotten, so that the right file can be taken in; its incidents
    are closed. What its silence ended as not paid is unknown again. It is refused
    as a whole where somebody was paid by a line of it, or sent to again since.

    Example: kasoko statement undo 3 --reason 'of another paybill'

    Example: kasoko statement undo 4 --yes --reason 'edited by hand'

    Exit status: 0 taken back, 1 it was not confirmed, 4 no such statement, 5 it
    cannot be taken back any more, or no reason was given.
    """
    from kasoko_cli.cli.parsing import amount_of, count_of
    from kasoko_cli.errors import NotFound
    from kasoko_cli.operations.reconciliation.statement_undo import list_taken, undo_statement

    container = call.container
    found = next((one for one in list_taken(container.db) if one.id == statement), None)
    if found is None:
        raise NotFound(f"There is no statement {statement}.", hint="See them: kasoko statement list")
    what = f"{found.file}, {count_of(found.brought, 'line')}, {amount_of(found.in_suspense_cents)} in suspense"
    if not render.confirm(call, f"Take statement {statement} back: {what}?"):
        raise typer.Exit(1)
    done = undo_statement(call.context, statement_id=statement)
    if call.json:
        render.document({"undone": done})
        return
    entries = "1 entry" if done.entries == 1 else f"{done.entries:,} entries"
    again = f" Unknown again: {', '.join(done.unknown_again)}." if done.unknown_again else ""
    render.did(
        call,
        f"Statement {statement} ({done.file}) is taken back: {count_of(done.lines, 'line')} forgotten, {entries}"
        f" reversed, {count_of(done.incidents, 'incident')} closed.{again}",
    )
    if done.unknown_again:
        render.hint(call, "Ask M-Pesa about them: kasoko reconcile --now")
