"""The switches that all hosts heed before anything is sent."""

from __future__ import annotations

from kasoko_cli.errors import Refused
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.log import pause_sending, set_switch, switches_on


def pause(ctx: OperationContext) -> None:
    """Stop all sending, on every host, until `resume`. What was sent already goes on to its result.

    Raises Refused if no reason was given.
    """
    if not ctx.actor.reason.strip():
        raise Refused(
            "A pause needs a reason: whoever meets it will want to know. Nothing was changed.",
            hint="Say why: kasoko pause --reason 'float is being moved'",
        )
    now = ctx.clock()
    with ctx.db.transaction() as session:
        pause_sending(session, reason=ctx.actor.reason, actor=ctx.actor.name, at=now)


def resume(ctx: OperationContext) -> list[str]:
    """Let sending go on: ends a pause and resets the breaker. Returns which of them were on."""
    now = ctx.clock()
    with ctx.db.transaction() as session:
        were_on = [switch.name for switch in switches_on(session)]
        for name in were_on:
            set_switch(session, name, is_on=False, reason=ctx.actor.reason or "resumed", actor=ctx.actor.name, at=now)
        if were_on:
            note_act(session, ctx.actor, "resume", "sending", at=now, detail={"were_on": were_on})
    return were_on
