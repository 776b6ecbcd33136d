"""M-Pesa's statements that were taken in, and money of them that matched nothing."""

from __future__ import annotations

from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import WrongUsage, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of, local
from kasoko_cli.errors import NotFound

commands = Commands("suspense")
files = Commands("statement")


@commands.reads("list")
def list_(call: CommandContext) -> None:
    """List money that matched nothing, oldest first.

    Example: kasoko suspense list

    Example: kasoko suspense list --json

    Exit status: 0 listed.
    """
    from kasoko_cli.operations.reconciliation.statement_import import list_suspense

    found = list_suspense(call.container.db)
    columns = render.columns("item", "receipt", "when", ">KES", "party", "reason", "why")
    rows = [
        (one.key[:8], one.receipt, local(one.at), render.kes(one.amount_cents), one.party or None, one.reason, one.why)
        for one in found
    ]
    render.table(call, "In suspense", columns, rows, document={"suspense": found})
    if not found and not call.json:
        render.talk(call, "There is none.")


@commands.writes(reason=True)
def resolve(
    call: CommandContext,
    item: Annotated[str, argument("ITEM", "Of suspense list, or a receipt.")],
    as_: Annotated[str, option("--as", "WHAT", "What it was; see above.", show_default=False)],
    user: Annotated[str | None, option("--user", "USER", "Whose it is.")] = None,
) -> None:
    """Say what money in suspense was, once.

    WHAT is bank (moved to or from the bank), capital, draw, charges, counted (in
    the books already by another way), wallet (of --user), receivable (--user owes
    it, or gave it back), write-off.

    Example: kasoko suspense resolve UKN7A1B2C3 --as bank --reason 'float top-up'

    Example: kasoko suspense resolve UKN7A1B2C4 --as wallet --user kamau --reason
    'a deposit that nobody wrote down'

    Exit status: 0 resolved, 2 no such WHAT, 4 nothing is called so, 5 it was
    resolved before, or the rules refuse it.
    """
    from kasoko_cli.operations.reconciliation.statement_import import RESOLUTIONS, resolve_suspense

    if as_ not in RESOLUTIONS:
        raise WrongUsage(f"There is no {as_!r}. WHAT is one of: {', '.join(RESOLUTIONS)}.")
    done = resolve_suspense(call.context, name=item, resolution=as_, user_id=user)
    document = {"resolved": done, "as": as_, "user": user}
    whose = f" of {user}" if user else ""
    render.answer(call, document, f"{done.receipt}, {amount_of(done.amount_cents)}, is resolved as {as_}{whose}.")


@files.reads("list")
def list_files(call: CommandContext) -> None:
    """List the statements that were taken in, the latest first.

    A statement is taken in by kasoko reconcile --statement FILE.

    Example: kasoko statement list

    Example: kasoko statement list --json

    Exit status: 0 listed.
    """
    from kasoko_cli.operations.reconciliation.statement_undo import list_taken

    found = list_taken(call.container.db)
    columns = render.columns(">statement", "file", "taken in", "by", "covers", ">lines", ">suspense KES", "state")
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


@files.writes(reason=True)
def undo(
    call: CommandContext, statement: Annotated[int, argument("STATEMENT", "Its number in statement list.")]
) -> None:
    """Take a statement back that should not have been taken in, exactly.

    Every entry that it booked is reversed, what people said of its suspense too;
    its lines are forgotten, so that the right file can be taken in; its incidents
    are closed. What its silence ended as not paid is unknown again. It is refused
    as a whole where somebody was paid by a line of it, or sent to again since.

    Example: kasoko statement undo 3 --reason 'of another paybill'

    Example: kasoko statement undo 4 --yes --reason 'edited by hand'

    Exit status: 0 taken back, 1 it was not confirmed, 4 no such statement, 5 it
    cannot be taken back any more.
    """
    from kasoko_cli.operations.reconciliation.statement_undo import list_taken, undo_statement

    found = next((one for one in list_taken(call.container.db) if one.id == statement), None)
    if found is None:
        raise NotFound(f"There is no statement {statement}.", hint="See them: kasoko statement list")
    what = f"{found.file}, {count_of(found.brought, 'line')}, {amount_of(found.in_suspense_cents)} in suspense"
    render.confirm_or_leave(call, f"Take statement {statement} back: {what}?")
    done = undo_statement(call.context, statement_id=statement)
    if call.json:
        render.document({"undone": done})
        return
    entries = count_of(done.entries, "entry", "entries")
    again = f" Unknown again: {', '.join(done.unknown_again)}." if done.unknown_again else ""
    render.did(
        call,
        f"Statement {statement} ({done.file}) is taken back: {count_of(done.lines, 'line')} forgotten, {entries}"
        f" reversed, {count_of(done.incidents, 'incident')} closed.{again}",
    )
    if done.unknown_again:
        render.hint(call, "Ask M-Pesa about them: kasoko reconcile --now")
