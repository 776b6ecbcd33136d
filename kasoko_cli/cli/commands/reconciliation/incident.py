"""What a person has to look at."""

from __future__ import annotations

from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.options import WrongUsage, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import count_of, local
from kasoko_cli.errors import KasokoError

commands = Commands("incident")


@commands.reads("list")
def list_(call: CommandContext) -> None:
    """List the incidents that nobody has closed, oldest first.

    What comes again while an incident stands is counted in it. One that M-Pesa
    has answered holds no payout back, and is marked so.

    Example: kasoko incident list

    Example: kasoko incident list --json

    Exit status: 0 listed.
    """
    from kasoko_cli.operations.reporting import status_views

    found = status_views.overview(call.container.db).incidents
    columns = render.columns(">incident", "since", ">times", "last", "kind", "payout", "what")
    rows = [
        (one.id, local(one.opened_at), one.count, local(one.last_at), one.kind, one.payout_id, one.story)
        for one in found
    ]
    render.table(call, "Incidents", columns, rows, document={"incidents": found})
    if not found and not call.json:
        render.talk(call, "There is none.")


@commands.writes(reason=True)
def close(
    call: CommandContext,
    incident: Annotated[
        int | None, argument("[INCIDENT]", "Its number; or say which by options.", autocompletion=completion.incidents)
    ] = None,
    kind: Annotated[str | None, option("--kind", "KIND", "All of this kind.")] = None,
    payout: Annotated[
        str | None, option("--payout", "PAYOUT", "All about this one.", autocompletion=completion.payouts)
    ] = None,
    before: Annotated[
        str | None, option("--before", "TIME", "All that last happened before: 2026-11-24T09:00:00+03:00.")
    ] = None,
) -> None:
    """Say that an incident was dealt with, and how; or all that the options name.

    Options together mean what fits each of them. How many these are is shown,
    and asked about. What is new after that raises another incident.

    Example: kasoko incident close 3 --reason 'the customer paid it back in cash'

    Example: kasoko incident close --kind mismatch --payout rain.1.7
    --reason 'forged: the address had leaked'

    Exit status: 0 closed, or none stands that fits, 2 neither a number nor an
    option, 4 no such incident or payout.
    """
    from kasoko_cli.domain.time_text import parse_time
    from kasoko_cli.operations.payouts.manual_decision import Which, close_incidents, list_incidents

    try:
        earlier_than = None if before is None else parse_time(before)
    except KasokoError as error:
        raise WrongUsage(f"--before: {error.message}") from None
    which = Which(kind, None if payout is None else call.payout_id(payout), earlier_than)
    if (incident is None) == which.is_all:
        raise WrongUsage("Say which: either the number of an incident, or --kind, --payout, --before.")
    if incident is not None:
        closed = bool(close_incidents(call.context, numbers=[incident]))
        did = "is closed" if closed else "was closed already"
        render.answer(call, {"incident": incident, "changed": closed}, f"Incident {incident} {did}.")
        return
    numbers = list_incidents(call.container.db, which)
    if numbers:
        render.confirm_or_leave(call, f"Close {count_of(len(numbers), 'incident')}, the first {numbers[0]}?")
    done = close_incidents(call.context, numbers=numbers)
    closing = (
        f"{count_of(len(done), 'incident')} closed." if done else "No incident stands that fits; nothing was changed."
    )
    render.answer(call, {"incidents": done, "changed": bool(done)}, closing)
