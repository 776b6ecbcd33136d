"""Sending as a whole, stopped and let go on."""

from __future__ import annotations

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.output import render

commands = Commands()


@commands.writes(reason=True)
def pause(call: CommandContext) -> None:
    """Stop all sending, on every host, until kasoko resume.

    Example: kasoko pause --reason 'the float is being moved'

    Example: kasoko pause --reason 'audit found something' --actor wanjiku

    Exit status: 0 paused.
    """
    from kasoko_cli.operations.payouts import switches

    switches.pause(call.context)
    render.answer(call, {"paused": True}, "Sending is paused on every host. What was sent goes on to its result.")


@commands.writes()
def resume(call: CommandContext) -> None:
    """Let sending go on after a pause or a refused account.

    Example: kasoko resume

    Example: kasoko resume --reason 'the float is there again'

    Exit status: 0 sending goes on.
    """
    from kasoko_cli.operations.payouts import switches

    were_on = switches.resume(call.context)
    did = f"Sending goes on; off now: {', '.join(were_on)}." if were_on else "Nothing was paused."
    render.answer(call, {"resumed": were_on}, did)
