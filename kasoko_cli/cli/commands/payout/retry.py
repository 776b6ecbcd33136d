"""`kasoko payout retry`: named failures, sent again."""

from __future__ import annotations

from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.confirmation import SendOptions
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.options import Events, Listen, ListenSeconds, Plan, argument
from kasoko_cli.cli.payout_run import retry_and_send

verbs = Commands()


@verbs.writes()
def retry(
    call: CommandContext,
    payout: Annotated[list[str], argument("PAYOUT...", "Failed payouts.", autocompletion=completion.failed_payouts)],
    plan: Plan = False,
    listen: Listen = False,
    listen_seconds: ListenSeconds = 120,
    events: Events = False,
) -> None:
    """Send definite failures again, where that can help.

    Only what certainly did not reach the phone, and may now. What is unknown
    belongs to kasoko reconcile.

    Example: kasoko payout retry rain.1.7

    Example: kasoko payout retry rain.1.7 rain.1.9 --listen

    Exit status: 0 sent, 3 settings, 4 no such payout, 5 none may be tried again,
    sending is paused or the float is short, and nothing was changed, 6 some
    failed again, 7 some unknown, 9 another process holds the database, 10 they
    are due again and were not sent.
    """
    options = SendOptions(only=call.payout_ids(payout), listen=listen, listen_seconds=listen_seconds, events=events)
    retry_and_send(call, "payout retry", options, plan=plan)
