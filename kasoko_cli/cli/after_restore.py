"""`kasoko doctor --after-restore`: what was paid since a copy that was put back."""

from __future__ import annotations

import contextlib

import typer

from kasoko_cli.cli import render
from kasoko_cli.cli.group import Call
from kasoko_cli.cli.render import Column

#: How long the answers are waited for.
ANSWER_SECONDS = 120


def prove(call: Call, *, offline: bool, listen: bool) -> None:
    """Ask, wait for the answers, and tell what is proven; exits with 8 where something is not."""
    from kasoko_cli.cli.listen import listening
    from kasoko_cli.cli.stopping import stay, stopping
    from kasoko_cli.operations import after_restore, reconcile

    house = call.house
    house.hold_to_deployment(house.db)  # doctor reads; this asks, and lets go
    if not offline:
        house.config.require_daraja()
    with contextlib.ExitStack() as stack:
        stopper = stack.enter_context(stopping())
        if listen:
            stack.enter_context(listening(call, otherwise="leave out --listen, for it takes the answers"))
        asked = after_restore.look_after_restore(
            house.db,
            None if offline else house.daraja,
            None if offline else house.links,
            house.clock,
            house.new_id,
            call.act,
            house.caution,
        )
        waiting = [one.query_id for one in asked if one.taken]
        if waiting:
            stay(stopper, ANSWER_SECONDS, lambda: not reconcile.unanswered(house.db, waiting))
    let_go = after_restore.take_answers(house.db, house.clock, call.act, house.caution)
    found = after_restore.proof(house.db, asked, let_go_now=let_go)
    code = 0 if found.ok else 8
    if call.json:
        render.document({"after_restore": found, "exit_code": code})
    else:
        for one in found.asked:
            if not one.taken:
                render.talk(call, f"{one.payout_id} could not be asked about: {one.why}")
        if found.doubted:
            columns = [Column("payout"), Column("status"), Column("KES", right=True), Column("copy of")]
            columns.append(Column("M-Pesa's answer"))
            rows = [
                (
                    one.payout_id,
                    one.status,
                    render.kes(one.wire_cents),
                    one.copy_at,
                    one.answer if one.can_be_asked else "cannot be asked: no id of ours",
                )
                for one in found.doubted
            ]
            render.table(call, "May have been paid since the copy", columns, rows)
            render.hint(
                call,
                "Run it again when the answers are there. What M-Pesa does not answer its statement does:"
                " kasoko reconcile --statement FILE",
            )
        else:
            render.did(
                call,
                f"It is proven that nobody is paid again: {found.found_paid:,} were found paid,"
                f" {found.let_go:,} were let go now.",
            )
            render.talk(call, "Sending is paused since the restore. Let it go on: kasoko resume")
    if code:
        raise typer.Exit(code)
