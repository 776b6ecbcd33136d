"""What a person has to look at."""

from __future__ import annotations

from typing import Annotated

import typer

from kasoko_cli.cli import complete, render
from kasoko_cli.cli.group import Call, Commands
from kasoko_cli.cli.panels import ROAD
from kasoko_cli.cli.render import Column

commands = Commands("incident", "What contradicts itself, until a person closes it.", panel=ROAD)


@commands.reads("list")
def list_(call: Call) -> None:
    """List the incidents that nobody has closed, oldest first.

    Example: kasoko incident list

    Example: kasoko incident list --json

    Exit status: 0 listed.
    """
    from kasoko_cli.cli.words import local
    from kasoko_cli.operations import reports

    found = reports.overview(call.house.db).incidents
    columns = [Column("incident", right=True), Column("since"), Column("kind"), Column("payout"), Column("what")]
    rows = [(one.id, local(one.opened_at), one.kind, one.payout_id, one.what) for one in found]
    render.table(call, "Incidents", columns, rows, document={"incidents": found})
    if not found and not call.json:
        render.talk(call, "There is none.")


@commands.writes()
def close(
    call: Call,
    incident: Annotated[
        int,
        typer.Argument(
            metavar="INCIDENT",
            help="Its number.",
            show_default=False,
            autocompletion=complete.incidents,
        ),
    ],
) -> None:
    """Say that an incident was dealt with, and how.

    Example: kasoko incident close 3 --reason 'the customer paid it back in cash'

    Example: kasoko incident close 4 --reason 'the statement shows one payment'
    --actor wanjiku

    Exit status: 0 closed, 4 no such incident, 5 no reason was given.
    """
    from kasoko_cli.operations.decide import close_incident

    closed = close_incident(call.house.db, call.house.clock, call.act, incident_id=incident)
    if call.json:
        render.document({"incident": incident, "changed": closed})
    else:
        render.did(call, f"Incident {incident} {'is closed' if closed else 'was closed already'}.")
