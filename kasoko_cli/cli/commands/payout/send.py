"""`kasoko payout send`: what is due, sent from here or by the workers of a Celery fleet."""

from __future__ import annotations

from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.confirmation import Bounds, SendOptions, look_and_ask, show_plan
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.options import (
    Events,
    Limit,
    Listen,
    ListenSeconds,
    MaxSeconds,
    MaybeMarketId,
    Plan,
    Wait,
    WrongUsage,
    option,
)
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import count_of
from kasoko_cli.cli.payout_run import send_payouts

verbs = Commands()


@verbs.writes()
def send(
    call: CommandContext,
    market: MaybeMarketId = None,
    limit: Limit = None,
    only: Annotated[
        list[str] | None, option("--only", "PAYOUT", "Just this payout.", autocompletion=completion.payouts)
    ] = None,
    wait: Wait = False,
    listen: Listen = False,
    listen_seconds: ListenSeconds = 120,
    plan: Plan = False,
    max_seconds: MaxSeconds = None,
    *,
    bounds: Bounds,
    events: Events = False,
    engine: Annotated[
        str, option("--engine", "NAME", "local sends here; celery enqueues for kasoko worker.")
    ] = "local",
) -> None:
    """Send what is due, of MARKET or of all markets.

    kasoko payout MARKET means kasoko payout send MARKET. In production a run
    above payout.confirm_slug_above_kes is confirmed by typing the market's slug;
    off a terminal --yes then needs --expect-total, --max-total or --plan-hash.

    A run whose sum was shown or bounded sends exactly those payouts, amounts and
    phones. What became due meanwhile is told, and waits for the next run.

    Example: kasoko payout rain --plan

    Example: kasoko payout rain --listen

    Example: kasoko payout --yes --max-seconds 240

    Exit status: 0 all taken, 3 settings, 4 no such market or payout, 5 paused,
    the float is short or the sum is another, 6 some not sent or failed, 7 some
    unknown, 9 another run has this work, 10 work is left.
    """
    if engine not in ("local", "celery"):
        raise WrongUsage(f"There is no engine {engine!r}. Take local or celery.")
    options = SendOptions(
        market=market,
        only=call.payout_ids(only or []),
        limit=limit,
        wait=wait,
        listen=listen,
        listen_seconds=listen_seconds,
        max_seconds=max_seconds,
        bounds=bounds,
        bind=engine == "celery",
        events=events,
    )
    if plan:
        show_plan(call, options)
    elif engine == "local":
        send_payouts(call, options)
    elif wait or listen or max_seconds is not None:
        raise WrongUsage("With --engine celery the workers send: --wait, --listen, --max-seconds are not for it.")
    else:
        _enqueue(call, options)


def _enqueue(call: CommandContext, options: SendOptions) -> None:
    """Put one task for each payout on the queue of a Celery fleet; nothing is claimed, the database does not change."""
    from kasoko_cli.cli.celery_fleet import tasks_of
    from kasoko_cli.operations.payouts import sending

    tasks, container = tasks_of(call), call.container
    question, seal = "Enqueue {}, for the workers to send?", container.links.seal
    _, bound = look_and_ask(call, options, question=question, seal=seal)
    sending.check_ready(call.context, container.daraja)
    tasks.check_broker()
    assert bound is not None, "it was bound"
    tasks.enqueue(bound.marks())
    document = {"engine": "celery", "enqueued": bound.ids}
    render.answer(call, document, f"{count_of(len(bound.ids), 'payout')} enqueued. How they end: kasoko status")
