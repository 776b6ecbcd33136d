"""A run of sending as a command makes it: asked for, followed on the screen, told, and ended with its code."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.confirmation import SendOptions, look_and_ask
from kasoko_cli.cli.output import render
from kasoko_cli.cli.signals import stopping
from kasoko_cli.errors import Refused

if TYPE_CHECKING:
    from kasoko_cli.operations.payouts.retry import Retried
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
    tell_run(call, outcome_of(container.db, run), retried, events)


def retry_and_send(call: CommandContext, command: str, options: SendOptions, *, hours: int | None = None) -> None:
    """Make failures due again, those named or those of the last hours, and send exactly those."""
    call.container.config.require_daraja()
    question = "Send failed payouts again, where their failure is definite?"
    render.confirm_or_leave(call, question, otherwise="Nothing was sent.")
    with call.at_work(command, market=options.market, alone=not options.only) as work:
        retried = _retry(call, options, hours)
        if retried.retried:
            again = replace(options, market=None, only=retried.retried, asked=True)
            send_payouts(call, again, retried=retried, work=work)


def _retry(call: CommandContext, options: SendOptions, hours: int | None) -> Retried:
    """What was made due again; each that was left alone is told, and that there was nothing to send.

    Raises:
        Refused: payouts were named, and none of them may be sent again.
    """
    from kasoko_cli.cli.output.progress import Events
    from kasoko_cli.operations.payouts import sending
    from kasoko_cli.operations.payouts.retry import retry

    container = call.container
    sending.check_ready(call.context, container.daraja)
    retried = retry(call.context, caution=container.caution, only=options.only, market=options.market, hours=hours)
    events = Events(container.clock, on=options.events)
    for one in retried.left:
        events("left_alone", one)
        render.talk(call, f"{one.payout_id} is left alone: {one.why}. {one.hint}")
    if not retried.retried:
        if options.only:
            first = retried.left[0]
            raise Refused(f"{first.payout_id} was not sent again: {first.why}.", hint=first.hint)
        if call.json or options.events:
            events.answer({"run": None, "payouts": [], "retried": retried, "next": None, "exit_code": 0})
        else:
            render.talk(call, "Nothing to send again.")
    return retried
