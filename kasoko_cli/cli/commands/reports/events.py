"""Who did what to which thing, when and why."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import Limit, WrongUsage, argument, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import local
from kasoko_cli.errors import KasokoError
from kasoko_cli.streams import heed

if TYPE_CHECKING:
    from kasoko_cli.operations.reporting.event_log import EventLine

commands = Commands()

#: How often --follow looks for new acts, in seconds.
LOOK_SECONDS = 1.0


@commands.reads()
def events(
    call: CommandContext,
    subject: Annotated[str | None, argument("SUBJECT", "A payout, bet, user or market; else all.")] = None,
    actor: Annotated[str | None, option("--actor", "NAME", "Only what NAME did.")] = None,
    since: Annotated[str | None, option("--since", "TIME", "Only from then on: 2026-11-24T09:00:00+03:00.")] = None,
    follow: Annotated[bool, flag("--follow", "Go on with what happens, until Ctrl-C.", short="-f")] = False,
    limit: Limit = None,
) -> None:
    """List who did what, when and why; the last 50 unless said otherwise.

    Every act that changes something is on this record, also what the program
    does by itself (its actor is kasoko). With --json and --follow each act is
    one line.

    Example: kasoko events --actor wanjiku --since 2026-11-24T00:00:00+03:00

    Example: kasoko events rain.1.1 --follow --json

    Exit status: 0 listed, 2 the time cannot be read, 130 interrupted.
    """
    from kasoko_cli.domain.time_text import parse_time
    from kasoko_cli.operations.reporting.event_log import list_events

    try:
        begin = None if since is None else parse_time(since)
    except KasokoError as error:
        raise WrongUsage(f"--since: {error.message}") from None
    db = call.container.db
    found = list_events(db, subject=subject, actor=actor, since=begin, limit=limit or 50)
    if not follow:
        columns = render.columns("when", "who", "did", "to", "why")
        render.table(call, "Acts", columns, map(_row, found), document={"events": found})
        return
    last = max([one.id for one in found], default=0) or max((one.id for one in list_events(db, limit=1)), default=0)
    while True:
        for one in found:
            if call.json:
                render.json_line(one)
            else:
                render.line("\t".join(_row(one)))
            last = one.id
        heed(sys.stdout)
        time.sleep(LOOK_SECONDS)
        found = list_events(db, subject=subject, actor=actor, since=begin, after=last, limit=1_000)


def _row(one: EventLine) -> tuple[str, ...]:
    return local(one.at), one.actor, one.action, one.subject, one.reason
