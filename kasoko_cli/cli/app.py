"""The root command: loads the module of a command when it is called, and no other.

This module and every command module import typer and our aliases only; what a command needs, it imports
in its body. A test holds that `kasoko --help` loads none of the heavy packages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main

from kasoko_cli.cli.command import Root
from kasoko_cli.cli.help.command_index import ABOUT, WORDS, front_page


class _Loaded(Mapping[str, Any]):
    """The commands by name; a command's module is loaded when it is first asked for."""

    def __init__(self) -> None:
        self._words = {word.name: word for word in WORDS}
        self._commands: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._commands:
            word = self._words[name]
            module, _, noun = word.place.partition(":")
            commands = getattr(import_module(f"kasoko_cli.cli.commands.{module}"), noun or "commands")
            found = typer.main.get_group(commands)
            self._commands[name] = found if commands.info.name == name else found.commands[name]
        return self._commands[name]

    def __contains__(self, name: object) -> bool:
        return name in self._words

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)


class Kasoko(Root):
    """The root of the program."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "commands": _Loaded()})

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as Typer calls it
        """Every command, in the order of the front page; Typer's own would load them all."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - of every command of the root alike
        """The front page; no command is loaded for it."""
        formatter.write(front_page())

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The words that begin so; no command is loaded for it."""
        from typer._click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(word.name, help=word.says) for word in WORDS if word.name.startswith(incomplete)]


app = typer.Typer(
    name="kasoko",
    cls=Kasoko,
    help=ABOUT,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
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
