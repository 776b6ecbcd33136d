"""Help texts as plain pages: laid out by ourselves, since loading Rich takes longer than all else that help does.

A page is headings and, under each, text or two columns. It fits the terminal from 40 columns on, keeps lines
readable on wide ones, and is bold only where somebody looks.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

#: No line of a page is longer, however wide the terminal: longer ones are hard to read.
WIDEST = 100
#: No page is narrower, whatever the terminal says.
NARROWEST = 36

Rows = Sequence[tuple[str, str]]


def width_of(stream: TextIO | None = None) -> int:
    """How many columns a page may have: of COLUMNS, of the terminal, or 80."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        found = int(columns)
    else:
        try:
            found = os.get_terminal_size((stream or sys.stdout).fileno()).columns or 80
        except (OSError, ValueError):  # no terminal, or a stream of a test
            found = 80
    return max(NARROWEST, min(found, WIDEST))


def has_colour(stream: TextIO) -> bool:
    """Whether bold and colours may be used on a stream: NO_COLOR, then FORCE_COLOR, then what the terminal can."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


class Page:
    """A page while it is written: headings, texts and lists, laid out for a width."""

    def __init__(self, width: int, *, bold: bool) -> None:
        self.width, self.bold = width, bold
        self._parts: list[str] = []

    def __str__(self) -> str:
        return "\n\n".join(self._parts) + "\n"

    def strong(self, text: str) -> str:
        """The text, bold where that can be shown."""
        return f"\x1b[1m{text}\x1b[0m" if self.bold else text

    def usage(self, *ways: str) -> None:
        """How it is called: each way on a line of its own, or more."""
        lines = [
            textwrap.fill(way, self.width, initial_indent=" " * 7 if n else "Usage: ", subsequent_indent=" " * 9)
            for n, way in enumerate(ways)
        ]
        self._parts.append("\n".join(lines).replace("Usage:", self.strong("Usage:"), 1))

    def text(self, text: str, *, heading: str = "") -> None:
        """A paragraph, broken anew for the width; one with indented lines is kept as it is."""
        lines = text.splitlines()
        kept = any(line.startswith(" ") for line in lines)
        told = text if kept else "\n".join(_wrapped(" ".join(lines), self.width))
        self._parts.append(f"{self.strong(heading)}\n{told}" if heading else told)

    def commands(self, heading: str, lines: Iterable[str]) -> None:
        """Command lines; a long one is broken before an option as a shell reads it, so that it can be copied."""
        self._parts.append("\n".join([self.strong(heading), *(f"  {self._continued(line)}" for line in lines)]))

    def _continued(self, line: str) -> str:
        broken = [""]
        for piece in re.split(r" (?=--)", line):
            if broken[-1] and len(broken[-1]) + len(piece) + 9 > self.width:
                broken.append("")
            broken[-1] = f"{broken[-1]} {piece}".strip()
        return " \\\n      ".join(broken)

    def rows(self, heading: str, rows: Rows) -> None:
        """Two columns under a heading; a left word that is too long has its text on the next line."""
        if rows:
            self._parts.append("\n".join([self.strong(heading), *self._laid_out(rows)]))

    def _laid_out(self, rows: Rows) -> Iterable[str]:
        most = max(16, self.width * 2 // 5)
        left = min(max(len(word) for word, _ in rows), most - 4)
        indent = " " * (left + 4)
        for word, text in rows:
            told = _wrapped(text, self.width - len(indent)) or [""]
            if len(word) > left:
                yield f"  {word}"
            else:
                yield f"  {word:<{left}}  {told.pop(0)}".rstrip()
            yield from (indent + line for line in told)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


# --- Help texts of commands ----------------------------------------------------------------------


def examples_in(text: str) -> list[str]:
    """The command lines that a help text shows, each on one line."""
    found = []
    for part in text.split("\n\n"):
        if part.startswith("Example:"):
            found.append(" ".join(part.removeprefix("Example:").split()))
        elif part.startswith("Examples:"):
            found += [line.strip() for line in part.splitlines()[1:]]
    return found


def exit_codes_in(text: str) -> Rows:
    """The exit codes that a help text tells: `Exit status: 0 done, 4 no such market.`"""
    for part in text.split("\n\n"):
        if part.startswith("Exit status:"):
            told = " ".join(part.removeprefix("Exit status:").split()).rstrip(".")
            return [(one.split(" ", 1)[0], one.split(" ", 1)[-1]) for one in re.split(r", (?=\d+ )", told)]
    return []


def told_in(text: str) -> list[str]:
    """The paragraphs that are neither examples nor exit codes."""
    return [part for part in text.split("\n\n") if not part.startswith(("Example", "Exit status:"))]


def meant_by(command: Any) -> Any:
    """The command itself; of a group, the one that is meant where none is named: its options are the group's too."""
    return getattr(command, "commands", {}).get(getattr(command, "default", ""), command)


def ways_to_call(ctx: Any, command: Any) -> list[str]:
    """What may follow the words of a command, in each way in which it can be called."""
    meant = meant_by(command)
    own = [piece for piece in command.collect_usage_pieces(ctx) if meant is command or piece != "[OPTIONS]"]
    return [*([] if meant is command else [" ".join(meant.collect_usage_pieces(ctx))]), " ".join(own)]


def command_page(ctx: Any, command: Any, page: Page) -> str:
    """The help text of one command or of a group, from what Typer knows of it."""
    text, meant = (command.help or "").strip(), meant_by(command)
    page.usage(*(f"{ctx.command_path} {way}" for way in ways_to_call(ctx, command)))
    for part in told_in(text):
        page.text(part)
    names = command.list_commands(ctx) if hasattr(command, "commands") else []
    children = [(name, command.get_command(ctx, name)) for name in names]
    page.rows("Commands", [(name, (child.help or "").strip().split("\n")[0]) for name, child in children])
    shown = examples_in(text) or [one for _, child in children[:2] for one in examples_in(child.help or "")[:1]]
    for heading, rows in panels_of(ctx, meant).items():
        page.rows(heading, rows)
    if shown:
        page.commands("Examples", shown)
    page.rows("Exit codes", exit_codes_in(meant.help or ""))
    if command.epilog:
        page.text(command.epilog)
    return str(page)


def panels_of(ctx: Any, command: Any) -> dict[str, list[tuple[str, str]]]:
    """Arguments and options with what each is for, under their headings; those of every command come last."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
            name = re.sub(r" <[\w\[\]]+>$", "", record[0])  # Python's word for what the metavar says
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append((name, record[1]))
    shared = panels.pop(SHARED_PANEL, [])
    return {**panels, SHARED_PANEL: shared} if shared else panels


#: The panel under which the options of every command stand, last.
SHARED_PANEL = "Options of every command"
