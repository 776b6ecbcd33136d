"""Tables for people, JSON for programs; the only module that prints.

Answers go to stdout, talk goes to stderr. On a terminal an answer is a Rich table; off it, tab-separated
rows under a header line, without colour; with --json, one document. Text from outside is data: it is
never markup for the terminal, and no control or bidirectional character of it reaches one.
"""

from __future__ import annotations

import dataclasses
import json as json_format
import re
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from kasoko_cli.cli.help.layout import has_colour, width_of
from kasoko_cli.cli.options import WrongUsage
from kasoko_cli.clock import iso
from kasoko_cli.streams import heed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from kasoko_cli.cli.command import CommandContext


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table: its name, and on which side its values stand."""

    name: str
    right: bool = False


def columns(*names: str) -> list[Column]:
    """Columns with these names; one that begins with `>` has its values to the right, as numbers stand."""
    return [Column(name.removeprefix(">"), right=name.startswith(">")) for name in names]


# --- Answers -------------------------------------------------------------------------------------


def table(
    call: CommandContext,
    title: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[object]],
    *,
    document: object = None,
) -> None:
    """Answer with rows. Off a terminal: a header line, then one line for each row, fields separated by tabs.

    `document` is the same answer for programs, and is what --json prints instead.
    """
    if call.json:
        _document_of(document)
    elif sys.stdout.isatty():
        from rich.table import Table
        from rich.text import Text

        drawn = Table(header_style="bold", box=None, pad_edge=False)
        cells = [[cell(value) for value in row] for row in rows]
        drawn_rows: list[list[Text]] = [[] for _ in cells]
        fitted = None if _is_too_narrow(columns, cells) else _fitted(columns, cells)
        if fitted is None:
            _blocks(title, columns, cells)
            return
        for column, (texts, width, is_whole) in zip(columns, fitted, strict=True):
            # Folded rather than cut: an amount or an address that is not whole is worse than an ugly one.
            drawn.add_column(
                Text(texts[0]),
                justify="right" if column.right else "left",
                overflow="fold",
                no_wrap=is_whole,
                max_width=width,
            )
            for so_far, text in zip(drawn_rows, texts[1:], strict=True):
                so_far.append(Text(text, style=colour_of(text.replace("\n", ""))))
        for whole_row in drawn_rows:
            drawn.add_row(*whole_row)
        _titled(title, drawn)
    else:
        _write(sys.stdout, "\t".join(column.name for column in columns))
        for row in rows:
            _write(sys.stdout, "\t".join(cell(value) for value in row))


def _titled(title: str, drawn: Table) -> None:
    """A table under its title, which has a line of its own: as a part of the table it would be as narrow as that."""
    from rich.text import Text

    screen = console(sys.stdout)
    if title:
        screen.print(Text(clean(title), style="italic"))
    screen.print(drawn)


#: On a terminal narrower than this, a table that does not fit is shown row by row.
NARROW = 72
#: The least that a column of sentences is left, and one of names, so that phones, times, ids and amounts stay whole.
_SENTENCE, _NAME = 8, 6
#: A receipt and whatever else has a figure in it stays whole inside a sentence up to this length.
_RECEIPT = 12
#: A time or an amount: in one piece, though it has a blank in it.
_FIGURE = re.compile(r"[-+\d:.,Z ]+(EAT)?")
#: A state of two words, which may be broken where they meet: AWAITING_APPROVAL.
_STATE = re.compile(r"[A-Z]+(_[A-Z]+)+")
#: What is wider than this, like the id of an attempt, is folded before the whole table is shown row by row.
_LONG = 20


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[tuple[list[str], int, bool]] | None:
    """Each column's name and values, how wide it may be, and whether they are in one piece; None where none fits.

    Sentences give way first, then names, then states; what has figures in it (phones, times, ids, amounts) never,
    unless it is as long as the id of an attempt.
    """
    room = console(sys.stdout).width - 2 * (len(columns) - 1)
    texts = [[column.name, *(row[n] for row in rows)] for n, column in enumerate(columns)]
    whole = {
        n for n, (_, *values) in enumerate(texts) if all(" " not in one or _FIGURE.fullmatch(one) for one in values)
    }
    widths = list(map(_width, texts))
    if sum(width if n in whole else min(width, 2 * _SENTENCE) for n, width in enumerate(widths)) > room:
        for n in whole:  # a name of two words needs no more width than what stands under it, nor does a state
            name, *values = texts[n]
            broken = (one.replace("_", "_\n") if _STATE.fullmatch(one) else one for one in values)
            texts[n] = [name.replace(" ", "\n"), *broken]
        widths = list(map(_width, texts))
    least = [width if n in whole else min(width, _least(texts[n])) for n, width in enumerate(widths)]
    for n in sorted(whole, key=lambda n: (_has_figures(texts[n]), any(map(colour_of, texts[n])), -widths[n])):
        if sum(least) > room and (widths[n] > _LONG or not _has_figures(texts[n])):
            whole.discard(n)
            least[n] = min(widths[n], _NAME)
    if sum(least) > room:
        return None
    left = room - sum(least)
    giving = sorted(set(range(len(columns))) - whole, key=lambda n: widths[n] - least[n])
    for place, n in enumerate(giving):
        more = min(widths[n] - least[n], left // (len(giving) - place))
        least[n], left = least[n] + more, left - more
    return [(texts[n], least[n], n in whole) for n in range(len(columns))]


def _least(texts: Sequence[str]) -> int:
    receipts = (
        word for text in texts[1:] for word in text.split() if len(word) <= _RECEIPT and _has_figures(["", word])
    )
    return max(_SENTENCE, _width(receipts))


def _has_figures(texts: Sequence[str]) -> bool:
    return any(char.isdigit() for text in texts[1:] for char in text)


def _width(texts: Iterable[str]) -> int:
    """How wide a column of these is, where none is folded."""
    from rich.cells import cell_len

    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def _is_too_narrow(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the terminal is so narrow that the table's fields would be folded beyond reading."""
    room = console(sys.stdout).width
    widths = (max([len(column.name), *(len(row[n]) for row in rows)]) for n, column in enumerate(columns))
    return room < NARROW and sum(widths) + 2 * (len(columns) - 1) > room


def _blocks(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A block for each row: a line for each field that has a value."""
    from rich.table import Table
    from rich.text import Text

    screen = console(sys.stdout)
    screen.print(Text(clean(title), style="italic"))
    for row in rows:
        drawn = Table(show_header=False, box=None, pad_edge=False)
        drawn.add_column(style="dim")
        drawn.add_column(overflow="fold")
        for column, value in zip(columns, row, strict=True):
            if value not in {"", "-"}:
                drawn.add_row(Text(column.name), Text(value, style=colour_of(value)))
        screen.print(drawn)
        screen.print()


#: Of the 256 colours, those with a contrast of nearly 4 and more on black and on white alike. A terminal's own yellow,
#: green and cyan are hardly to be read on white.
GOOD, UNDER_WAY, DOUBT, BAD = "color(28)", "color(30)", "color(130)", "color(160)"

#: The colour of a word that says how something stands, where it fills a field; anything else has none.
_COLOURS = {
    "COMPLETED": GOOD,
    "WALLET": GOOD,
    "SENT": UNDER_WAY,
    "SENDING": UNDER_WAY,
    "UNKNOWN": DOUBT,
    "HELD": DOUBT,
    "FAILED": BAD,
    "RETURNED": BAD,
    "ok": GOOD,
    "warn": DOUBT,
    "FAIL": f"bold {BAD}",
    "skip": "dim",
}


def colour_of(state: str) -> str:
    """The colour of a word that says how something stands; none for any other."""
    return _COLOURS.get(state, "")


def card(call: CommandContext, title: str, pairs: Iterable[tuple[str, object]], *, document: object = None) -> None:
    """Answer with the facts of one thing, one on each line. Off a terminal: name, tab, value.

    `document` is the same answer for programs, and is what --json prints instead.
    """
    if call.json:
        _document_of(document)
    elif sys.stdout.isatty():
        from rich.table import Table
        from rich.text import Text

        drawn = Table(show_header=False, box=None, pad_edge=False)
        drawn.add_column(style="dim")
        drawn.add_column(overflow="fold")
        for name, value in pairs:
            drawn.add_row(Text(name), Text(cell(value)))
        _titled(title, drawn)
    else:
        for name, value in pairs:
            _write(sys.stdout, f"{name}\t{cell(value)}")


def document(answer: object) -> None:
    """Answer with one JSON document: keys as they are named, amounts in cents, times in UTC."""
    _write(sys.stdout, as_json(answer))
    sys.stdout.flush()  # the command may go on for hours, as `simulator` does, and a pipe waits for its answer


def as_json(answer: object) -> str:
    """The text of one JSON document."""
    return json_format.dumps(plain(answer), indent=2, ensure_ascii=False, allow_nan=False)


def _document_of(answer: object) -> None:
    assert answer is not None, "with --json a table or card needs its document"
    document(answer)


def line(text: str) -> None:
    """Answer with one line of text, as it is: for an answer that is itself the thing, to be piped on."""
    _write(sys.stdout, clean(text))
    sys.stdout.flush()


def answer(call: CommandContext, document: object, text: str, *, even_quiet: bool = False) -> None:
    """Answer with the document with --json, else with the sentence: as `line` if `even_quiet`, else as `did`."""
    if call.json:
        _document_of(document)
    elif even_quiet or not call.quiet:
        line(text)


def planned(call: CommandContext, plan: object, text: str) -> None:
    """Answer with what an act would do; nothing of it was done."""
    answer(call, {"plan": plan}, text, even_quiet=True)
    talk(call, "Nothing was written.")


def did(call: CommandContext, text: str) -> None:
    """Answer with what an act has done; silent with --quiet, since an act that went well needs no answer."""
    if not call.quiet:
        line(text)


def json_line(answer: object) -> None:
    """Answer with one line of JSON Lines, at once: whoever reads them follows what happens."""
    _write(sys.stdout, json_format.dumps(plain(answer), ensure_ascii=False, allow_nan=False))
    sys.stdout.flush()


def prose(paragraphs: Iterable[str]) -> None:
    """Answer with sentences, a paragraph a line; on a terminal they are broken between words."""
    if not sys.stdout.isatty():
        for text in paragraphs:
            _write(sys.stdout, clean(text))
        return
    from rich.text import Text

    screen = console(sys.stdout)
    for text in paragraphs:
        screen.print(Text(clean(text)), width=min(screen.width, 100))


def heading(text: str) -> None:
    """Answer with a heading: a new part of a longer answer begins."""
    if not sys.stdout.isatty():
        _write(sys.stdout, f"\n{clean(text)}")
        return
    from rich.text import Text

    console(sys.stdout).print("\n", Text(clean(text), style="bold"), sep="")


def records(text: str) -> None:
    """Answer with a part of a file, byte for byte in UTF-8; a terminal sees control characters spelt out."""
    if sys.stdout.isatty():
        sys.stdout.write(clean(text, lines=True))
    else:
        sys.stdout.buffer.write(text.encode())
    heed(sys.stdout)


def page(text: str) -> None:
    """Answer with a page that `layout` made for the terminal: all of it is ours, its bold too."""
    _write(sys.stdout, text.rstrip("\n"))


def plain(value: object) -> object:
    """The same as JSON knows it.

    Raises:
        TypeError: a Decimal, a float or anything else that has no one meaning in an answer about money.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, datetime):
        assert value.tzinfo is not None, "a time without its zone has no meaning in an answer"
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int):
        # A surrogate alone has no bytes in UTF-8.
        return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value
    raise TypeError(f"{type(value).__name__} has no place in an answer: amounts are whole cents")


# --- Talk ----------------------------------------------------------------------------------------


def talk(call: CommandContext, text: str) -> None:
    """Tell the operator something by the way, on stderr; silent with --quiet."""
    if not call.quiet:
        _write(sys.stderr, _wrapped(clean(text, lines=True)))


def unattended(call: CommandContext) -> bool:
    """Whether nobody looks on and nobody wants talk, as under cron: then a command that went well says nothing."""
    return call.quiet and not call.json and not sys.stdout.isatty() and not sys.stderr.isatty()


def mail(text: str) -> None:
    """Answer with a few lines that somebody will be sent."""
    _write(sys.stdout, clean(text, lines=True))
    sys.stdout.flush()  # before the hints on stderr, which are mailed with it


def warn(call: CommandContext, text: str) -> None:
    """Tell the operator of a danger that does not stop the run; silent with --quiet."""
    if not call.quiet:
        _say("Warning", DOUBT, text)


def alarm(text: str) -> None:
    """Tell the operator, in red, of what they must read before they say yes; --quiet does not hide it."""
    _say("Danger", "bold red", text)


def hint(call: CommandContext, text: str) -> None:
    """Name the one thing to type next after a run that did not end well; --quiet leaves it, as cron mails need it."""
    if not call.json:
        _say("Hint", "bold", text)


def error(message: str, hint: str, *, kind: str, exit_code: int, json: bool) -> None:
    """Say on stderr what happened and what to do next; with --json as one document."""
    if json:
        told = {"error": {"kind": kind, "message": message, "hint": hint, "exit_code": exit_code}}
        _write(sys.stderr, json_format.dumps(plain(told), ensure_ascii=False))
        return
    _say("Error", "bold red", message)
    _say("Hint", "bold", hint)


def confirm(call: CommandContext, question: str) -> bool:
    """Ask the operator, on stderr; True if the answer is yes, or if --yes was given.

    Raises:
        WrongUsage: nobody is there to be asked: not a terminal, and no --yes.
    """
    if call.yes:
        return True
    if not is_somebody_here():
        raise WrongUsage(f"Nobody is here to answer: {clean(question)} Nothing was done. Add --yes to do it.")
    return ask(f"{question} [y/N]").lower() in {"y", "yes"}


def confirm_or_leave(call: CommandContext, question: str, *, otherwise: str = "") -> None:
    """Ask the operator as `confirm` does; where the answer is no, say `otherwise` and end the command.

    Raises:
        WrongUsage: nobody is there to be asked.
        typer.Exit: the operator said no; with 1.
    """
    if not confirm(call, question):
        if otherwise:
            talk(call, otherwise)
        raise typer.Exit(1)


def typed(question: str, wanted: str) -> bool:
    """Have the operator type a word, on stderr, for what is too large for a yes; whether it was that word.

    Raises:
        WrongUsage: nobody is there to type.
    """
    if not is_somebody_here():
        raise WrongUsage(f"Nobody is here to answer: {clean(question)} Nothing was done.")
    return ask(f"{question} Type {wanted} to go on:") == wanted


def is_somebody_here() -> bool:
    """Whether there is a terminal to ask on."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> str:
    """Ask for one line, on stderr; empty where the answer is."""
    sys.stderr.write(f"{clean(question, lines=True)} ")
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip()
    except OSError:  # the terminal is gone
        return ""


def aside(text: str) -> None:
    """Show on stderr what --quiet does not hide: a traceback, redacted already; why an answer cannot be used."""
    _write(sys.stderr, clean(text, lines=True))


def ask_secret(question: str) -> str:
    """Ask for a text that is not shown while it is typed; off a terminal, one line of stdin."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    import getpass

    return getpass.getpass(f"{clean(question)} ", stream=sys.stderr)


# --- Words and places ----------------------------------------------------------------------------


def cell(value: object) -> str:
    """A value as one field of a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return clean(str(plain(value)))


def kes(cents: int | None) -> str:
    """An amount for people: `1,234.50`; a dash where there is none."""
    if cents is None:
        return "-"
    from kasoko_cli.domain.money import format_kes

    return format_kes(cents)


def clean(text: str, *, lines: bool = False) -> str:
    """The text with every control, bidirectional and surrogate character shown as `\\x1b`, `\\u202e` and the like.

    With `lines`, a line break stays one: for our own messages, never for a field.
    """
    if text.isprintable():  # nearly always, and a report has a million fields
        return text
    return "".join(
        char if char.isprintable() or (lines and char == "\n") or unicodedata.category(char) == "Zs" else _spelt(char)
        for char in text
    )


def _spelt(char: str) -> str:
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    code = ord(char)
    return short.get(char) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def is_on_a_terminal() -> bool:
    """Whether the answer goes to a terminal."""
    return sys.stdout.isatty()


def console(stream: TextIO) -> Console:
    """Rich on that stream, without any style where `has_colour` says so: NO_COLOR, TERM=dumb."""
    from rich.console import Console

    return Console(
        file=stream, highlight=False, markup=False, emoji=False, color_system="auto" if has_colour(stream) else None
    )


#: The codes of a terminal for what the first word of a message may look like.
_STYLES = {"bold": "1", DOUBT: "38;5;130", "bold red": "1;31"}


def _say(word: str, style: str, text: str) -> None:
    """`Error: text` on stderr; only the first word is ever coloured. Rich is not loaded for it."""
    told = _wrapped(f"{word}: {clean(text, lines=True)}").removeprefix(f"{word}:")
    shown = f"\x1b[{_STYLES[style]}m{word}:\x1b[0m" if has_colour(sys.stderr) else f"{word}:"
    _write(sys.stderr, f"{shown}{told}")


#: A command inside a sentence, up to the mark or the word that ends it: it is not broken, so that it can be copied.
_COMMAND = re.compile(
    r"\bkasoko(?:(?<![.:)?]) (?!(?:and|or|then|first|once|anew|again|for|from|of|to|by|with|until|in|on|so|as|see|it"
    r"|is|does|runs|asks|takes|says|tells|shows|writes|notes|makes|means|counts|clears|answers|reads|has|when|where|may|that)\b)"
    r"(?:'[^']*'|\"[^\"]*\"|[^\s,;'\"]+))+"
)


def _wrapped(text: str) -> str:
    """The text broken between words where a terminal shows it; off a terminal a line stays one."""
    if not sys.stderr.isatty():
        return text
    width = width_of(sys.stderr)
    return "\n".join(_wrapped_line(line, width) if len(line) > width else line for line in text.split("\n"))


def _wrapped_line(line: str, width: int) -> str:
    """The line in as few lines as it needs, all as nearly of one length as its words and commands let them be."""
    tied = _COMMAND.sub(lambda found: found[0].replace(" ", "\0"), line)

    def broken(width: int) -> list[str]:
        return textwrap.wrap(tied, width, break_long_words=False, break_on_hyphens=False)

    # The narrowest width that needs no more lines, halving what is between: one line must be as wide as that.
    narrow, fewest = width // 2, len(broken(width))
    while narrow < width:
        middle = (narrow + width) // 2
        if len(broken(middle)) <= fewest:
            width = middle
        else:
            narrow = middle + 1
    return "\n".join(broken(width)).replace("\0", " ")


def _write(stream: TextIO, text: str) -> None:
    """One line, whatever the stream's own encoding can show."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)
