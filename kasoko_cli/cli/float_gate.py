"""The float before money leaves: where what M-Pesa said last does not suffice, it is asked once more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.output import render

if TYPE_CHECKING:
    from kasoko_cli.operations.payouts.float_check import Gate

#: How long a run waits for M-Pesa's answer.
WAIT_SECONDS = 30


def pass_float(
    call: CommandContext, found: Gate, look: Callable[[], Gate], *, listen: bool, max_seconds: int | None = None
) -> Gate:
    """What was `found`, if the float covers it by what M-Pesa said last; else what `look` finds
    once it was asked again.

    It is asked where its last word is old, and somebody takes its answers: this process (`listen`), or a listener
    that was heard from lately. What is waited for is bounded.

    Raises:
        Refused: the float does not cover the run, or is not known; sending is paused.
        AccountRefused: M-Pesa refused the account before, and is not asked anything until somebody resumes.
        NotSent: M-Pesa cannot be reached.
    """
    from kasoko_cli.operations.payouts import float_check

    if float_check.wants_another_word(found, call.container.clock()) and _ask(call, listen, max_seconds):
        found = look()
    float_check.pass_or_refuse(found)
    return found


def _ask(call: CommandContext, listen: bool, max_seconds: int | None) -> bool:
    """Ask M-Pesa for its balances and wait for the answer; whether it came."""
    from kasoko_cli.cli.listening import listening
    from kasoko_cli.cli.output.progress import progress
    from kasoko_cli.operations.account import balances
    from kasoko_cli.operations.payouts import sending
    from kasoko_cli.operations.payouts.float_check import is_heard_from
    from kasoko_cli.operations.shared.watching import stay

    container = call.container
    lately = container.config.health.listener_minutes * 60
    if not (listen or is_heard_from(container.db, container.clock(), seconds=lately)):
        return False
    sending.check_ready(call.context, container.daraja)
    seconds = WAIT_SECONDS if max_seconds is None else min(WAIT_SECONDS, max_seconds)
    with contextlib.ExitStack() as stack:
        if listen:
            otherwise = "leave out --listen, for it takes the results"
            stack.enter_context(listening(replace(call, quiet=True, handed_in=container), otherwise=otherwise))
        asked = balances.ask(call.context, container.gateway)
        if not asked.taken:
            render.warn(call, f"M-Pesa was asked for the float, and did not take the question: {asked.why}")
            return False
        stack.enter_context(progress(call, "The float is asked for", seconds=seconds))
        stay(threading.Event(), seconds, lambda: balances.answer_of(container.db, asked.query_id) is not None)
    answer = balances.answer_of(container.db, asked.query_id)
    if answer is None:
        render.warn(call, f"M-Pesa was asked for the float, and has not answered within {seconds} s.")
    elif answer:
        render.warn(call, f"M-Pesa was asked for the float, and said no balance: {answer}")
    return answer == ""
