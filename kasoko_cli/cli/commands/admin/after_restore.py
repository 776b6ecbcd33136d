"""`kasoko doctor --after-restore`: what was paid since a copy that was put back."""

from __future__ import annotations

import contextlib
import functools
import math
from threading import Event

import typer

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.container import Container
from kasoko_cli.cli.listening import listening
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import nairobi_clock
from kasoko_cli.cli.signals import stopping
from kasoko_cli.operations.reconciliation import restore_recovery, status_queries
from kasoko_cli.operations.reconciliation.restore_recovery import AfterRestore, Doubted
from kasoko_cli.operations.reconciliation.status_queries import AskedStatus
from kasoko_cli.operations.shared.watching import stay

#: How many rounds of questions there are at most; each waits until a first answer can be confirmed.
LOOKS = 3


def prove(call: CommandContext, *, offline: bool, listen: bool, listen_seconds: int) -> None:
    """Ask, wait for the answers of each round so long, and tell what is proven; exits with 8 where something is not.

    Who listens stays until M-Pesa was asked once more about what one answer does not prove.
    """
    container = call.container
    container.hold_to_deployment(container.db)  # doctor reads; this asks, and lets go
    if not offline:
        container.config.require_daraja()
    with contextlib.ExitStack() as stack:
        stopper = stack.enter_context(stopping())
        if listen:
            stack.enter_context(listening(call, otherwise="leave out --listen, for it takes the answers"))
        asked: list[AskedStatus] = []
        let_go = 0
        for looks_left in reversed(range(LOOKS if listen and not offline else 1)):
            now_asked, now_let_go = _look(call, stopper, offline=offline, most_seconds=listen_seconds)
            asked += now_asked
            let_go += now_let_go
            found = restore_recovery.proof(
                container.db, container.clock, asked, let_go_now=let_go, caution=container.caution
            )
            later = [one.ask_from for one in found.doubted if one.ask_from is not None]
            if not later or not looks_left or stopper.is_set():
                break
            seconds = math.ceil(max(0.0, (max(later) - container.clock()).total_seconds())) + 1
            render.talk(
                call, f"One answer is not enough to pay: M-Pesa is asked once more at {nairobi_clock(max(later))}."
            )
            stay(stopper, seconds, lambda: False)
    code = 0 if found.ok else 8
    if call.json:
        render.document({"after_restore": found, "exit_code": code})
    else:
        _tell(call, found)
    if code:
        raise typer.Exit(code)


def _tell(call: CommandContext, found: AfterRestore) -> None:
    for one in found.asked:
        if not one.taken:
            render.talk(call, f"{one.payout_id} could not be asked about: {one.why}")
    if not found.doubted:
        render.did(
            call,
            f"It is proven that nobody is paid again: {found.found_paid:,} were found paid,"
            f" {found.let_go:,} were let go now.",
        )
        render.talk(call, "Sending is paused since the restore. Let it go on: kasoko resume")
        return
    columns = render.columns("payout", "status", ">KES", "copy of", "M-Pesa's answer")
    rows = [(it.payout_id, it.status, render.kes(it.wire_cents), it.copy_at, _said(it)) for it in found.doubted]
    render.table(call, "May have been paid since the copy", columns, rows)
    for payout_id, why in {it.payout_id: it.against for it in found.doubted if it.against}.items():
        render.talk(call, f"{payout_id} is held: {why}")
    render.hint(call, _next_step(found.doubted))


def _look(call: CommandContext, stopper: Event, *, offline: bool, most_seconds: int) -> tuple[list[AskedStatus], int]:
    """Ask about every id in doubt, until no answer brings another one into it; also how many payouts were let go."""
    container, let_go = call.container, 0
    asked: list[AskedStatus] = []
    for _ in range(restore_recovery.ROUNDS):
        now_asked = restore_recovery.look_after_restore(
            call.context,
            None if offline else container.gateway,
            container.caution,
            besides=[one.attempt_id for one in asked],
        )
        asked += now_asked
        waiting = [one.query_id for one in now_asked if one.taken]
        if waiting:
            stay(stopper, most_seconds, functools.partial(_all_answered, container, waiting))
        let_go += restore_recovery.take_answers(call.context, container.caution)
        if not waiting or stopper.is_set():
            break
    return asked, let_go


def _all_answered(container: Container, query_ids: list[str]) -> bool:
    return not status_queries.unanswered(container.db, query_ids)


def _said(one: Doubted) -> str:
    if not one.can_be_asked:
        return "cannot be asked: no id of ours"
    return one.answer if one.ask_from is None else f"{one.answer}, once"


def _next_step(doubted: list[Doubted]) -> str:
    """The one thing to do next: what M-Pesa can still answer comes before what a person has to look for."""
    if later := [one.ask_from for one in doubted if one.ask_from is not None]:
        return (
            f"One answer is not enough to pay. Run it once more, from {nairobi_clock(max(later))} on: kasoko doctor"
            " --after-restore. With --listen it stays for that."
        )
    return (
        "When the answers are there: kasoko doctor --after-restore. With --listen it takes them itself. What M-Pesa"
        " does not answer its statement does: kasoko reconcile --statement FILE; or its portal, by people: kasoko"
        f" payout decide {doubted[0].payout_id} --help"
    )
