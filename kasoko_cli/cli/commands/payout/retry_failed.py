"""`kasoko retry-failed`: every definite failure of late, sent again."""

from __future__ import annotations

from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.confirmation import SendOptions
from kasoko_cli.cli.options import Events, Listen, ListenSeconds, MaxSeconds, Plan, option
from kasoko_cli.cli.payout_run import retry_and_send

commands = Commands()


@commands.writes("retry-failed")
def retry_failed(
    call: CommandContext,
    hours: Annotated[int, option("--hours", "N", "Failed within so many hours.", min=1)] = 24,
    market: Annotated[str | None, option("--market", "MARKET", "Only of this market.")] = None,
    plan: Plan = False,
    listen: Listen = False,
    listen_seconds: ListenSeconds = 120,
    max_seconds: MaxSeconds = None,
    events: Events = False,
) -> None:
    """Send definite failures again, where it can help.

    It shows them and asks. Safe from cron, and from two crons at once.

    Each one that is left alone is named, with the reason and what to do.

    Example: kasoko retry-failed --yes --hours 6 --max-seconds 240

    Example: kasoko retry-failed --market rain --hours 72 --plan

    Exit status: 0 all taken or nothing to do, 3 settings, 4 no such market, 5
    paused or the float is short, and nothing was changed, 6 some failed again, 7
    some unknown, 9 another run has this work, 10 work is left.
    """
    options = SendOptions(
        market=market, listen=listen, listen_seconds=listen_seconds, max_seconds=max_seconds, events=events
    )
    retry_and_send(call, "retry-failed", options, hours=hours, plan=plan)
