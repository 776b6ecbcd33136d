"""Manual pages, made from the same help texts: one of the program and one of every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kasoko_cli import __version__
from kasoko_cli.cli.help.layout import examples_in, exit_codes_in, meant_by, panels_of, told_in, ways_to_call


def pages(root: Any) -> Iterator[tuple[str, str]]:
    """The name of each page's file, and the page: `kasoko.1`, `kasoko-payout-send.1`."""
    yield from _of_tree(root, ("kasoko",), None)


def write(root: Any, folder: Path) -> list[str]:
    """Write every page into a folder that is made if need be; returns their names.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = dict(pages(root))
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(made)


def _of_tree(command: Any, path: tuple[str, ...], parent: Any) -> Iterator[tuple[str, str]]:
    import typer

    # Typer's own class: it knows how a command is called from where it stands.
    ctx = typer.Context(command, info_name=path[-1], parent=parent)
    yield f"{'-'.join(path)}.1", _page(command, ctx, path)
    for name in command.list_commands(ctx) if hasattr(command, "commands") else ():
        yield from _of_tree(command.get_command(ctx, name), (*path, name), ctx)


def _page(command: Any, ctx: Any, path: tuple[str, ...]) -> str:
    text = (command.help or "").strip()
    first, *told = told_in(text)
    name = "-".join(path)
    lines = [
        f'.TH "{_escaped(name.upper())}" "1" "" "kasoko {__version__}" "kasoko"',
        ".SH NAME",
        f"{_escaped(name)} \\- {_escaped(first.rstrip('.'))}",
        ".SH SYNOPSIS",
    ]
    for number, way in enumerate(ways_to_call(ctx, command)):
        lines += [*([".br"] if number else []), f".B {_escaped(' '.join(path))}", _escaped(way)]
    if told:
        lines.append(".SH DESCRIPTION")
        for part in told:
            lines += [".PP", *_kept(part)]
    for heading, rows in panels_of(ctx, meant_by(command)).items():
        lines += [f".SH {_escaped(heading.upper())}", *_listed(rows)]
    if hasattr(command, "commands"):
        children = [(child, command.get_command(ctx, child)) for child in command.list_commands(ctx)]
        rows = [(f"{name}-{child}(1)", (one.help or "").strip().split("\n")[0]) for child, one in children]
        lines += [".SH COMMANDS", *_listed(rows)]
    if examples := examples_in(text):
        lines += [".SH EXAMPLES", ".nf", *(_escaped(example) for example in examples), ".fi"]
    if codes := exit_codes_in(meant_by(command).help or ""):
        lines += [".SH EXIT STATUS", *_listed(codes)]
    if len(path) > 1:
        lines += [".SH SEE ALSO", f".BR {_escaped('-'.join(path[:-1]))} (1)"]
    return "\n".join(lines) + "\n"


def _listed(rows: Any) -> Iterator[str]:
    for word, says in rows:
        yield ".TP"
        yield f".B {_escaped(word)}"
        yield _escaped(says) or "\\&"


def _kept(part: str) -> Iterator[str]:
    """A paragraph; one with indented lines stays as it is."""
    lines = part.splitlines()
    if any(line.startswith(" ") for line in lines):
        yield ".nf"
        yield from (_escaped(line) for line in lines)
        yield ".fi"
    else:
        yield _escaped(" ".join(lines))


def _escaped(text: str) -> str:
    """The text as roff shows it: no line of it is a request, and a hyphen is one that can be copied."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe[:1] in {".", "'"} else safe
