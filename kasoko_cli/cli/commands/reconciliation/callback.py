"""What was posted to the listener."""

from __future__ import annotations

from typing import Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import Limit, argument, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import nairobi_clock

commands = Commands("callback")

Number = Annotated[int, argument("CALLBACK", "Its number.")]
Numbers = Annotated[list[int], argument("CALLBACK...", "Their numbers.")]


@commands.reads("list")
def list_(
    call: CommandContext,
    about: Annotated[str | None, option("--about", "ID", "Of one attempt or question, by its id.")] = None,
    verdict: Annotated[str | None, option("--verdict", "WORD", "Judged so: paid, failed, hint, mismatch ...")] = None,
    waiting: Annotated[bool, flag("--waiting", "Only those not judged yet.")] = False,
    hints: Annotated[bool, flag("--hints", "Only those without our mark.")] = False,
    limit: Limit = 50,
) -> None:
    """List what was posted, the latest first.

    Example: kasoko callback list

    Example: kasoko callback list --verdict mismatch

    Exit status: 0 listed.
    """
    from kasoko_cli.operations.callbacks import stored_callbacks

    found = stored_callbacks.list_received(
        call.container.db, about=about, verdict=verdict, waiting=waiting, hints=hints, limit=limit
    )
    columns = render.columns(">callback", "received", "route", "about", "from", "verdict")
    rows = [
        (it.id, nairobi_clock(it.received_at), it.route, it.subject or "-", it.source, it.verdict or "not judged yet")
        for it in found
    ]
    render.table(call, "Callbacks", columns, rows, document={"callbacks": found})
    if not found and not call.json:
        render.talk(call, "There is none.")


@commands.reads()
def show(call: CommandContext, callback: Number) -> None:
    """Show one with its body; phones are masked, credentials were never kept.

    Example: kasoko callback show 17

    Example: kasoko callback show 17 --json

    Exit status: 0 shown, 4 no such callback.
    """
    from kasoko_cli.operations.callbacks import stored_callbacks

    found = stored_callbacks.show_received(call.container.db, callback)
    one = found.callback
    judged = f"{one.verdict}: {one.detail}" if one.verdict else "not judged yet"
    render.card(
        call,
        f"Callback {one.id}",
        [
            ("received", nairobi_clock(one.received_at)),
            ("from", one.source or "-"),
            ("route", one.route),
            ("about", one.subject or "-"),
            ("our mark", "yes" if one.signed else "no: it is never believed"),
            ("verdict", judged),
            ("bytes", f"{one.bytes:,}"),
            ("body", found.body),
        ],
        document=found,
    )


@commands.writes()
def replay(call: CommandContext, callbacks: Numbers) -> None:
    """Judge stored callbacks again; what is known already moves nothing.

    For a body that broke the judge, once that is mended, or one that was a
    stray when it came.

    Example: kasoko callback replay 17

    Example: kasoko callback replay 17 18 --reason 'after the update'

    Exit status: 0 judged, 4 no such callback, 5 its body was dropped, 7 one waits
    or was set aside again.
    """
    from kasoko_cli.operations.callbacks import stored_callbacks

    done = stored_callbacks.replay(call.context, call.container.trust, callbacks)
    columns = render.columns(">callback", "before", "now", "detail")
    rows = [(one.id, one.before or "-", one.verdict or "waits", one.detail or "-") for one in done]
    set_aside, waits = ({one.verdict for one in done} & {word} for word in ("poisonous", None))
    following = "kasoko incident list" if set_aside else "kasoko reconcile --now" if waits else None
    if following or not render.unattended(call):
        render.table(call, "Judged again", columns, rows, document={"replayed": done, "next": following})
    if following:
        why = "What was set aside again has an incident" if set_aside else "What waits is asked about"
        render.hint(call, f"{why}: {following}")
        raise typer.Exit(7)
