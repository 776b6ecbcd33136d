"""`kasoko help`: topics, the help of a command by another road, and manual pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.help.layout import Page, has_colour, width_of
from kasoko_cli.cli.help.topics import TOPICS
from kasoko_cli.cli.options import WrongUsage, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.errors import ConfigurationError

commands = Commands()


def _topics(incomplete: str) -> list[str]:
    return [name for name in TOPICS if name.startswith(incomplete)]


@commands.reads("help")
def help_(
    call: CommandContext,
    topic: Annotated[list[str] | None, argument("TOPIC", "A topic, or a command.", autocompletion=_topics)] = None,
    man: Annotated[Path | None, option("--man", "DIR", "Write manual pages of every command into DIR.")] = None,
) -> None:
    """Read about exit codes, states, environment, formats, cron, recovery.

    Without a topic it lists them. kasoko help COMMAND is kasoko COMMAND --help.

    Example: kasoko help recovery

    Example: kasoko help --man /usr/local/share/man/man1

    Exit status: 0 shown or written, 2 there is no such topic, 3 the folder cannot
    be written.
    """
    if man is not None:
        _write_manual(call, man)
    elif not topic:
        import sys

        rows = [(name, says) for name, (says, _) in TOPICS.items()]
        page = Page(width_of(), bold=has_colour(sys.stdout))
        page.rows("Topics", rows)
        page.text("Read one: kasoko help TOPIC. Of a command: kasoko COMMAND --help. Of all: kasoko --help")
        render.document({"topics": dict(rows)}) if call.json else render.page(str(page))
    elif len(topic) == 1 and topic[0] in TOPICS:
        text = TOPICS[topic[0]][1]()
        render.document({"topic": topic[0], "text": text}) if call.json else render.page(text)
    else:
        text = _help_of(topic)
        render.document({"command": " ".join(topic), "text": text}) if call.json else render.page(text)


@commands.reads()
def version(call: CommandContext) -> None:
    """Show which kasoko this is; with --json, and which Python.

    Example: kasoko version

    Example: kasoko version --json

    Exit status: 0 shown.
    """
    import platform

    from kasoko_cli import __version__

    document = {"version": __version__, "python": platform.python_version()}
    render.answer(call, document, f"kasoko {__version__}", even_quiet=True)


def _help_of(words: list[str]) -> str:
    """The help text of a command that is named by its words."""
    from difflib import get_close_matches

    ctx, command = _root()
    for word in words:
        names = list(getattr(command, "commands", {}))
        if word not in names:
            known = [*TOPICS, *names] if command is ctx.find_root().command else names
            near = get_close_matches(word, known, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise WrongUsage(f"There is no topic and no command {' '.join(words)!r}.{guess}")
        command = command.commands[word]
        ctx = typer.Context(command, info_name=word, parent=ctx)
    return str(ctx.get_help()) + "\n"


def _root() -> tuple[Any, Any]:
    from kasoko_cli.cli.app import app

    root: Any = typer.main.get_command(app)
    return typer.Context(root, info_name="kasoko", help_option_names=["-h", "--help"]), root


def _write_manual(call: CommandContext, folder: Path) -> None:
    from kasoko_cli.cli.help import man_pages as man

    _, root = _root()
    try:
        written = man.write(root, folder)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror}.", hint="Name a folder that can be."
        ) from error
    if call.json:
        render.document({"folder": folder, "pages": written})
    else:
        render.talk(call, f"{len(written)} pages in {folder}. Read one: man {folder / 'kasoko-payout-send.1'}")
