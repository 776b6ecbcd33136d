"""The whole road, on a database that is thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.render import Column
from kasoko_cli.cli.parsing import count_of

commands = Commands()


@commands.reads(answers=False)
def demo(call: CommandContext) -> None:
    """Watch markets settle and winners get paid, in some seconds.

    Needs no settings: a database that is thrown away, and the built-in simulator
    instead of M-Pesa.

    Example: kasoko demo

    Example: kasoko demo --json

    Exit status: 0 each winner was paid exactly once, 8 the books and the money do
    not agree.
    """
    from kasoko_cli.operations.admin import demo as operation

    with tempfile.TemporaryDirectory(prefix="kasoko-demo-") as folder:
        report = operation.run(Path(folder), _Stage(call))
    if call.json:
        render.document(report)
    else:
        render.talk(call, f"\nThat took {count_of(report.seconds, 'second')}. Your own first day: kasoko init")
    if not report.proven:
        raise typer.Exit(8)


class _Stage:
    """Shows the demo on the terminal; with --json only the end of it."""

    def __init__(self, call: CommandContext) -> None:
        self.call = call

    def scene(self, title: str) -> None:
        """A new part begins."""
        if not self.call.json:
            render.heading(title)

    def say(self, text: str) -> None:
        """One sentence."""
        if not self.call.json:
            render.line(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows under columns; amounts stand right."""
        if not self.call.json:
            render.table(self.call, "", [Column(name, right=name.endswith("KES")) for name in columns], rows)
