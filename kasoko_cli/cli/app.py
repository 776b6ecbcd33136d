"""The root command and its groups.

This module and every command module import typer and our aliases only; what a command needs, it imports
in its body. A test holds that `kasoko --help` loads none of the heavy packages.
"""

from __future__ import annotations

from typing import Annotated

import typer

from kasoko_cli.cli import (
    bet,
    data,
    database,
    demo,
    group,
    incident,
    ledger,
    listen,
    market,
    payout,
    road,
    setup,
    simulate,
    user,
    wallet,
)

#: Every command, panel by panel, as `kasoko --help` lists them.
SHOWN = (
    *("resolve", "settle", "payout", "retry-failed", "status", "incident", "pause", "resume"),  # The road
    *("market", "user", "bet", "wallet", "import", "export"),  # Records
    *("listen", "reconcile", "simulator", "credential"),  # M-Pesa
    *("audit",),  # Books
    *("init", "demo", "config", "db"),  # House
)


class Kasoko(group.Root):
    """The root of the program."""

    shown = SHOWN


app = typer.Typer(
    name="kasoko",
    cls=Kasoko,
    help="Settle pari-mutuel prediction markets and pay the winners by M-Pesa, once.",
    epilog="Every command tells more: kasoko COMMAND --help",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    # __main__ answers a bare --version before this module is loaded; this is for it among other words.
    if wanted:
        from kasoko_cli import __version__

        typer.echo(f"kasoko {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Settle pari-mutuel prediction markets and pay the winners by M-Pesa, once."""


for commands in (
    road.commands,
    payout.commands,
    payout.verbs,
    incident.commands,
    market.commands,
    user.commands,
    bet.commands,
    wallet.commands,
    data.imports,
    data.exports,
    listen.commands,
    simulate.commands,
    setup.credential,
    ledger.commands,
    setup.commands,
    demo.commands,
    setup.config,
    database.commands,
):
    app.add_typer(commands, rich_help_panel=commands.panel)
