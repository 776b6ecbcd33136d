"""A worker of a Celery fleet."""

from __future__ import annotations

from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import count_of

commands = Commands()


@commands.writes()
def worker(
    call: CommandContext,
    concurrency: Annotated[int | None, option("--concurrency", "N", "How many tasks at once.", min=1, max=256)] = None,
) -> None:
    """Serve the tasks of a Celery fleet, until told to stop.

    The tasks are settle_market, send_b2c_payout and retry_failed_payouts. The
    database decides what a task is worth: delivered twice, it sends once. Needs
    the extra celery and a broker (CELERY_BROKER_URL).

    Example: kasoko worker --yes

    Example: kasoko worker --yes --concurrency 8 --actor fleet-a

    Exit status: 0 told to stop, 3 settings or the extra are missing, 6 no broker.
    """
    from kasoko_cli.cli.celery_fleet import tasks_of

    tasks = tasks_of(call)
    container = call.container
    container.config.require_daraja()
    at_once = concurrency or container.config.celery.worker_concurrency
    # What cannot be used is told here, once, and not by every task. No connection is handed down to the processes
    # that the worker forks: each makes a container of its own.
    container.db.close()
    tasks.check_broker()
    render.talk(
        call, f"Serving {count_of(at_once, 'task')} at once. Stop with Ctrl-C: what is in flight is waited for."
    )
    served = tasks.app.Worker(concurrency=at_once, loglevel="WARNING", without_gossip=True, without_mingle=True)
    served.start()
