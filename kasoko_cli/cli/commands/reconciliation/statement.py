"""M-Pesa's statements that were taken in, and money of them that matched nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import Plan, WrongUsage, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of, local
from kasoko_cli.errors import NotFound

if TYPE_CHECKING:
    from kasoko_cli.operations.reconciliation.statement_undo import Undone

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
    plan: Plan = False,
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
    from kasoko_cli.operations.shared.rehearsal import rehearse

    if as_ not in RESOLUTIONS:
        raise WrongUsage(f"There is no {as_!r}. WHAT is one of: {', '.join(RESOLUTIONS)}.")
    act = partial(resolve_suspense, name=item, resolution=as_, user_id=user)
    whose = f" of {user}" if user else ""
    if plan or not call.yes:
        found = rehearse(call.context, act)
        told = f"{found.receipt}, {amount_of(found.amount_cents)}"
        if plan:
            document = {"resolved": found, "as": as_, "user": user}
            render.planned(call, document, f"{told}, would be resolved as {as_}{whose}.")
            return
        question = f"Write down that {told}, was {as_}{whose}?"
        render.confirm_or_leave(call, question, otherwise="Nothing was changed.")
    done = act(call.context)
    answer = {"resolved": done, "as": as_, "user": user}
    render.answer(call, answer, f"{done.receipt}, {amount_of(done.amount_cents)}, is resolved as {as_}{whose}.")


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
    call: CommandContext,
    statement: Annotated[int, argument("STATEMENT", "Its number in statement list.")],
    plan: Plan = False,
) -> None:
    """Take a statement back that should not have been taken in, exactly.

    Every entry that it booked is reversed, what people said of its suspense too;
    its lines are forgotten, so that the right file can be taken in; its incidents
    are closed. What its silence ended as not paid is unknown again. It is refused
    as a whole where somebody was paid by a line of it, or sent to again since.

    Example: kasoko statement undo 3 --plan

    Example: kasoko statement undo 4 --yes --reason 'edited by hand'

    Exit status: 0 taken back, 1 it was not confirmed, 4 no such statement, 5 it
    cannot be taken back any more.
    """
    from kasoko_cli.operations.reconciliation.statement_undo import list_taken, undo_statement
    from kasoko_cli.operations.shared.rehearsal import rehearse

    found = next((one for one in list_taken(call.container.db) if one.id == statement), None)
    if found is None:
        raise NotFound(f"There is no statement {statement}.", hint="See them: kasoko statement list")
    act = partial(undo_statement, statement_id=statement)
    if plan or not call.yes:
        would = rehearse(call.context, act)
        if plan:
            render.planned(call, would, _undone(would, "would be"))
            return
        render.talk(call, _undone(would, "would be"))
        what = f"{found.file}, {count_of(found.brought, 'line')}, {amount_of(found.in_suspense_cents)} in suspense"
        render.confirm_or_leave(call, f"Take statement {statement} back: {what}?", otherwise="Nothing was changed.")
    done = act(call.context)
    if call.json:
        render.document({"undone": done})
        return
    render.did(call, _undone(done, "is"))
    if done.unknown_again:
        render.hint(call, "Ask M-Pesa about them: kasoko reconcile --now")


def _undone(done: Undone, verb: str) -> str:
    """What taking a statement back did, or would do."""
    entries = count_of(done.entries, "entry", "entries")
    again = f" Unknown again: {', '.join(done.unknown_again)}." if done.unknown_again else ""
    return (
        f"Statement {done.id} ({done.file}) {verb} taken back: {count_of(done.lines, 'line')} forgotten, {entries}"
        f" reversed, {count_of(done.incidents, 'incident')} closed.{again}"
    )
