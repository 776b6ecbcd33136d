"""A run of sending as a command makes it: asked for, followed on the screen, told, and ended with its code."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.confirmation import SendOptions, look_and_ask, show_receivers
from kasoko_cli.cli.float_gate import pass_float
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of
from kasoko_cli.cli.signals import stopping
from kasoko_cli.errors import Refused, Unfinished

if TYPE_CHECKING:
    from kasoko_cli.cli.output.progress import Events
    from kasoko_cli.operations.payouts.float_check import Gate
    from kasoko_cli.operations.payouts.retry import LeftAlone, Retried, RetryPlan
    from kasoko_cli.operations.shared.run_registry import AtWork


def send_payouts(
    call: CommandContext, options: SendOptions, *, retried: Retried | None = None, work: AtWork | None = None
) -> None:
    """Ask unless somebody was asked, send, listen if wanted, tell, and exit with the run's code.

    `retried` is what made its payouts due. `work` is the run that stands in the list already; else this is one of its
    own. Payouts that were named are nobody's work but the caller's.
    """
    from kasoko_cli.cli.listening import listening
    from kasoko_cli.cli.output.progress import Events, OnScreen
    from kasoko_cli.cli.output.run_tables import tell_run
    from kasoko_cli.operations.payouts.dispatcher import SendOrder
    from kasoko_cli.operations.payouts.run import Selection
    from kasoko_cli.operations.payouts.send_and_wait import outcome_of, send_and_wait
    from kasoko_cli.operations.shared.watching import Attended

    container = call.container
    gate, bound = look_and_ask(call, options)
    order = SendOrder(
        container.send_policy,
        container.trust,
        Selection(options.market, limit=options.limit),
        bound=bound,
        max_seconds=options.max_seconds,
        stay=options.wait,
    )
    events = Events(container.clock, on=options.events)
    with contextlib.ExitStack() as stack:
        told = "Stopping: what is in flight is waited for. Once more to stop at once; both are safe."
        stopper = stack.enter_context(stopping(functools.partial(render.talk, call, told)))
        if work is None:
            work = stack.enter_context(call.at_work("payout", market=options.market, alone=not options.only))
        if options.listen:
            stack.enter_context(listening(call, otherwise="leave out --listen, for it takes the results"))
        attended = Attended(work, stopper, OnScreen(call, events))
        run = send_and_wait(
            call.context,
            container.gateway,
            order,
            attended,
            listen_seconds=options.listen_seconds if options.listen else None,
            expected=gate.payments,
        )
    waited = options.listen_seconds if options.listen else None
    tell_run(call, outcome_of(container.db, container.clock, run), retried, events, waited=waited)


def retry_and_send(
    call: CommandContext, command: str, options: SendOptions, *, hours: int | None = None, plan: bool = False
) -> None:
    """Show which failures may go again, those named or those of the last hours, ask, and send exactly those.

    Whatever can refuse it is looked at before anything is made due again.

    Raises:
        Refused: payouts were named and none may be sent again, sending is paused, or the float is short.
        Unfinished: they are due again, and sending was stopped before it began.
    """
    from kasoko_cli.cli.output.progress import Events
    from kasoko_cli.operations.payouts import float_check, sending
    from kasoko_cli.operations.payouts.retry import plan_retry, retry

    container = call.container
    container.config.require_daraja()
    found = plan_retry(call.context, caution=container.caution, only=options.only, market=options.market, hours=hours)
    if plan:
        _show_retry(call, command, found, document=found)
        if not call.json:
            _tell_left_alone(call, Events(container.clock, on=False), found.left)
            render.talk(call, "Nothing was written or sent.")
        return
    sending.check_ready(call.context, container.daraja)
    events = Events(container.clock, on=options.events)
    _tell_left_alone(call, events, found.left)
    if not found.items:
        with call.at_work(command, market=options.market, alone=not options.only):  # it was looked for, and well
            _tell_nothing(call, options, events, found.left)
        return
    wires = [one.wire_cents for one in found.items]

    def look() -> Gate:
        return float_check.look_at_plan(container.db, container.clock, container.gate_policy, wires, alone=True)

    pass_float(call, look(), look, listen=options.listen, max_seconds=options.max_seconds)
    if not (call.yes or call.json):
        _show_retry(call, command, found)
    question = f"Send {count_of(len(found.items), 'failed payout')}, {amount_of(found.wire_cents)}, again?"
    render.confirm_or_leave(call, question, otherwise="Nothing was sent.")
    with call.at_work(command, market=options.market, alone=not options.only) as work:
        retried = retry(call.context, caution=container.caution, only=[one.payout_id for one in found.items])
        _tell_left_alone(call, events, retried.left)
        retried.left = found.left + retried.left
        if not retried.retried:
            _tell_nothing(call, options, events, retried.left)
            return
        again = replace(options, market=None, only=retried.retried, asked=True)
        are = "is" if len(retried.retried) == 1 else "are"
        with going_on(f"{count_of(len(retried.retried), 'payout')} {are} due again, for the next run to send"):
            send_payouts(call, again, retried=retried, work=work)


def _show_retry(call: CommandContext, command: str, found: RetryPlan, *, document: object = None) -> None:
    """What would go again, to whom, and why it failed."""
    if call.json:
        render.document(document)
        return
    failed = [(one, f"{one.code} {one.why}".strip()) for one in found.items]
    show_receivers(call, "What may go again", "failed", failed, everything=f"kasoko {command} --plan --json")


def _tell_left_alone(call: CommandContext, events: Events, left: Sequence[LeftAlone]) -> None:
    for one in left:
        events("left_alone", one)
        render.talk(call, f"{one.payout_id} is left alone: {one.why}. {one.hint}")


def _tell_nothing(call: CommandContext, options: SendOptions, events: Events, left: list[LeftAlone]) -> None:
    """That nothing may go again. Raises Refused if payouts were named."""
    from kasoko_cli.operations.payouts.retry import Retried

    if options.only:
        raise Refused(f"{left[0].payout_id} was not sent again: {left[0].why}.", hint=left[0].hint)
    if call.json or options.events:
        answer: dict[str, object] = {
            "run": None,
            "payouts": [],
            "retried": Retried(left=left),
            "next": None,
            "exit_code": 0,
        }
        events.answer(answer)
    else:
        render.talk(call, "Nothing to send again.")


@contextlib.contextmanager
def going_on(after: str) -> Iterator[None]:
    """Around the second part of a command whose first part stands, `after` which it goes on.

    Raises:
        Unfinished: the second part was refused.
    """
    try:
        yield
    except Refused as error:
        unfinished = Unfinished(f"{after}. {error.message}", hint=error.hint)
        unfinished.needs_nobody = error.needs_nobody
        raise unfinished from error
