"""The noun `payout`, and the modules of its verbs in the order in which help shows them."""

from __future__ import annotations

from kasoko_cli.cli.command import Commands
from kasoko_cli.cli.commands.payout import decide, hold, retry, send, show

commands = Commands(
    "payout",
    """Send what is owed, and look at it.

    kasoko payout MARKET means kasoko payout send MARKET; its options are below.
    """,
    default="send",
)
for module in (send, show, retry, hold, decide):
    commands.add_typer(module.verbs)
