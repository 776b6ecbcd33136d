"""Shared parameters of commands, as Annotated aliases, and what a wrong command line is.

An option on the root is not seen after the subcommand, so every command takes the shared options
itself; `command.py` adds them, so that no command has to write them down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kasoko_cli.cli.help import completion
from kasoko_cli.cli.help.layout import SHARED_PANEL

#: The panel of the help text under which the options of every command stand.
SHARED = SHARED_PANEL

# --- Taken by every command ----------------------------------------------------------------------

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings; else ./kasoko.toml if it is there.", rich_help_panel=SHARED
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="The database, like sqlite:///kasoko.db.", rich_help_panel=SHARED),
]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.", rich_help_panel=SHARED)]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only the answer and errors, no talk.", rich_help_panel=SHARED)
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more when it fails.", rich_help_panel=SHARED)]

# --- Taken by every command that writes ----------------------------------------------------------

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.", rich_help_panel=SHARED)]
ActorName = Annotated[
    str | None, typer.Option("--actor", metavar="NAME", help="Who does this; else the OS user.", rich_help_panel=SHARED)
]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the record.", rich_help_panel=SHARED)
]

# --- Words that several commands use -------------------------------------------------------------

MarketId = Annotated[
    str,
    typer.Argument(
        metavar="MARKET", help="The market's id or slug.", show_default=False, autocompletion=completion.markets
    ),
]
MaybeMarketId = Annotated[
    str | None,
    typer.Argument(
        metavar="MARKET",
        help="The market's id or slug; else all.",
        show_default=False,
        autocompletion=completion.markets,
    ),
]
PayoutId = Annotated[
    str,
    typer.Argument(metavar="PAYOUT", help="The payout's id.", show_default=False, autocompletion=completion.payouts),
]
UserId = Annotated[
    str, typer.Argument(metavar="USER", help="The user's id.", show_default=False, autocompletion=completion.users)
]
BetId = Annotated[str, typer.Argument(metavar="BET", help="The bet's id.", show_default=False)]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most this many.")]
SignWith = Annotated[
    Path | None, typer.Option("--sign-with", metavar="FILE", help="Sign with the key in FILE; else approval.key_file.")
]
Plan = Annotated[bool, typer.Option("--plan", help="Show what would happen; write and send nothing.")]
Events = Annotated[bool, typer.Option("--events", help="A JSON line for each thing as it happens.")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay for those that are due later.")]
Listen = Annotated[bool, typer.Option("--listen", help="Take the results too, until they are all there.")]
ListenSeconds = Annotated[
    int, typer.Option("--listen-seconds", metavar="N", min=1, help="How long to wait for results.")
]
MaxSeconds = Annotated[
    int | None, typer.Option("--max-seconds", metavar="N", min=1, help="Begin nothing new after this.")
]
ExpectTotal = Annotated[str | None, typer.Option("--expect-total", metavar="KES", help="Send only if this is the sum.")]
MaxTotal = Annotated[
    str | None, typer.Option("--max-total", metavar="KES", help="Send only if the sum is at most this.")
]
PlanHash = Annotated[
    str | None, typer.Option("--plan-hash", metavar="HASH", help="Send only what --plan showed under this hash.")
]
Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="The address; else of the settings.")]
Port = Annotated[int | None, typer.Option("--port", metavar="PORT", help="The port; else of the settings.")]


class WrongUsage(typer.TyperException):
    """The command line itself is wrong; nothing was looked at. Exits 2, as Typer's own errors do."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        #: What to do next, where the help text of the command is not the best answer.
        self.hint = hint
        #: The command that was called; `command.py` fills it in, so that its help text can be named.
        self.ctx: typer.Context | None = None
