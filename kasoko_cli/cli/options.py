"""Shared parameters of commands, as Annotated aliases, and what a wrong command line is.

An option on the root is not seen after the subcommand, so every command takes the shared options
itself; `command.py` adds them, so that no command has to write them down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kasoko_cli.cli.help import completion
from kasoko_cli.cli.help.layout import SHARED_PANEL


def argument(metavar: str, about: str, **rest: Any) -> Any:
    """An argument, as the help text names it, and what it is; the rest is Typer's."""
    return typer.Argument(metavar=metavar, help=about, show_default=False, **rest)


def option(name: str, metavar: str | None, about: str, *, short: str | None = None, **rest: Any) -> Any:
    """An option that takes a value; Typer itself writes a metavar of None, with the words to choose from."""
    return typer.Option(name, *filter(None, [short]), metavar=metavar, help=about, **rest)


def flag(name: str, about: str, *, short: str | None = None, **rest: Any) -> Any:
    """An option that takes no value."""
    return option(name, None, about, short=short, **rest)


# --- Taken by every command ----------------------------------------------------------------------

_SHARED = {"rich_help_panel": SHARED_PANEL}

ConfigFile = Annotated[
    Path | None, option("--config", "FILE", "Settings; else ./kasoko.toml if it is there.", **_SHARED)
]
DatabaseUrl = Annotated[str | None, option("--database", "URL", "The database, like sqlite:///kasoko.db.", **_SHARED)]
Json = Annotated[bool, flag("--json", "Answer with one JSON document.", **_SHARED)]
Quiet = Annotated[bool, flag("--quiet", "Only the answer and errors, no talk.", short="-q", **_SHARED)]
Verbose = Annotated[bool, flag("--verbose", "Tell more when it fails.", short="-v", **_SHARED)]

# --- Taken by every command that writes ----------------------------------------------------------

Yes = Annotated[bool, flag("--yes", "Do it without asking.", short="-y", **_SHARED)]
ActorName = Annotated[str | None, option("--actor", "NAME", "Who does this; else the OS user.", **_SHARED)]
Reason = Annotated[str | None, option("--reason", "TEXT", "Why, for the record.", **_SHARED)]
#: The same, where the act is not done without: asked for on a terminal.
NeededReason = Annotated[str | None, option("--reason", "TEXT", "Why, for the record. [required]")]

# --- Words that several commands use -------------------------------------------------------------

MarketId = Annotated[str, argument("MARKET", "The market's id or slug.", autocompletion=completion.markets)]
MaybeMarketId = Annotated[
    str | None, argument("MARKET", "The market's id or slug; else all.", autocompletion=completion.markets)
]
PayoutId = Annotated[
    str, argument("PAYOUT", "Like rain.1.7: with its market's id or slug.", autocompletion=completion.payouts)
]
UserId = Annotated[str, argument("USER", "The user's id.", autocompletion=completion.users)]
BetId = Annotated[str, argument("BET", "The bet's id.")]
Limit = Annotated[int | None, option("--limit", "N", "At most this many.", min=1)]
SignWith = Annotated[Path | None, option("--sign-with", "FILE", "Sign with the key in FILE; else approval.key_file.")]
AnyBlock = Annotated[bool, flag("--any-block", "Take a phone of a number block that is not known here.")]
Plan = Annotated[bool, flag("--plan", "Show what would happen; write and send nothing.")]
Events = Annotated[bool, flag("--events", "A JSON line for each thing as it happens.")]
Wait = Annotated[bool, flag("--wait", "Stay for those that are due later.")]
Listen = Annotated[bool, flag("--listen", "Take the results too, until they are all there.")]
ListenSeconds = Annotated[int, option("--listen-seconds", "N", "How long to wait for results.", min=1)]
MaxSeconds = Annotated[int | None, option("--max-seconds", "N", "Begin nothing new after this.", min=1)]
ExpectTotal = Annotated[str | None, option("--expect-total", "KES", "Send only if this is the sum.")]
MaxTotal = Annotated[str | None, option("--max-total", "KES", "Send only if the sum is at most this.")]
PlanHash = Annotated[str | None, option("--plan-hash", "HASH", "Send only what --plan showed under this hash.")]
Host = Annotated[str | None, option("--host", "HOST", "The address; else of the settings.")]
Port = Annotated[int | None, option("--port", "PORT", "The port; else of the settings.")]


class WrongUsage(typer.TyperException):
    """The command line itself is wrong; nothing was looked at. Exits 2, as Typer's own errors do."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        #: What to do next, where the help text of the command is not the best answer.
        self.hint = hint
        #: The command that was called; `command.py` fills it in, so that its help text can be named.
        self.ctx: typer.Context | None = None
