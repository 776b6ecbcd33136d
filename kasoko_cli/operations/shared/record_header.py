"""The header of a file of records: which of its columns hold what, however people spell them."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from kasoko_cli.domain.cells import trimmed
from kasoko_cli.domain.market import nearest
from kasoko_cli.domain.phone import quoted
from kasoko_cli.domain.time_text import DateOrder, zone_of
from kasoko_cli.errors import Refused
from kasoko_cli.operations.shared.record_files import NO_COLUMN, Columns, FileRefused, Problem, ReadAs

#: How near a name must be to one of ours, so that nobody ignores it without being told.
_NEAR = 0.75

#: How many of a file's own columns a message lists.
_MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Header:
    """Where the columns stand in a file, and which of its own are not read.

    `places` and `written` have those of our columns that are there: their place, the first is 0, and their name as
    the file has it. `width` is the place behind the last column that has a name.
    """

    places: dict[str, int]
    written: dict[str, str]
    ignored: tuple[str, ...]
    width: int


def read_as(
    columns: Columns, *, said: Sequence[str] = (), usual: Sequence[str] = (), timezone: str, order: str | None = None
) -> ReadAs:
    """How a file is to be read: each of `said` and `usual` is like `phone=Mobile No`, the column and its header.

    Raises:
        Refused: one of `said` names no column of such a file, or there is no such time zone.
    """
    named: dict[str, str] = {}
    for one in said:
        column, _, header = one.partition("=")
        if column not in columns.names or not header.strip():
            guess = nearest(column, columns.names)
            raise Refused(
                f"--map {quoted(one)} names no column of such a file; nothing was changed.",
                hint=(f"Did you mean {guess}? " if guess and guess != column else "")
                + f"Write it like {columns.required[-1]}='Its header'. The columns are {', '.join(columns.names)}.",
            )
        if header == NO_COLUMN and column in columns.required:
            raise Refused(
                f"A file without {column} cannot be taken in; nothing was changed.",
                hint=f"Only these may be missing: {', '.join(columns.optional) or 'none'}.",
            )
        named[column] = header
    known = dict(one.split("=", 1) for one in usual)
    return ReadAs(
        columns=named,
        usual_columns={column: header for column, header in known.items() if column in columns.names},
        zone=zone_of(timezone),
        zone_name=timezone,
        order=None if order is None else DateOrder(order),
    )


def plain(name: str) -> str:
    """A column's name as it is compared: `User ID`, `user_id` and `USER-ID` are one, `Fee %` and `fee_pct` too."""
    return "".join(character for character in name.casefold().replace("%", "pct") if character.isalnum())


def recognised(cells: Sequence[str], columns: Columns, read_as: ReadAs) -> int:
    """How many of the cells name a column of ours, or one that stands for it."""
    wanted = {plain(name) for name in (*columns.names, *read_as.columns.values(), *read_as.usual_columns.values())}
    return len({plain(cell) for cell in cells} & (wanted - {""}))


def read_header(name: str, line: int, cells: Sequence[str], columns: Columns, read_as: ReadAs) -> Header:
    """Find the columns in the cells of the header line.

    Raises:
        FileRefused: one is missing, is there twice, or may be meant by a name that is near.
    """
    cells = [trimmed(cell) for cell in cells]
    known = [place for place, cell in enumerate(cells) if plain(cell)]
    by_name: dict[str, list[int]] = {}
    for place in known:
        by_name.setdefault(plain(cells[place]), []).append(place)
    problems: list[Problem] = []
    places: dict[str, int] = {}
    for column in columns.names:
        said = read_as.columns.get(column)
        usual = read_as.usual_columns.get(column)
        if said is None and usual is not None and (usual == NO_COLUMN or plain(usual) in by_name):
            said = usual
        found = [] if said == NO_COLUMN else by_name.get(plain(said or column), [])
        if len(found) > 1 and said is not None:
            found = [place for place in found if cells[place] == said] or found  # as it is spelt, to the letter
        if len(found) > 1:
            problems.append(Problem(line, column, "The column is there twice."))
        elif found:
            places[column] = found[0]
        elif said not in (None, NO_COLUMN):
            problems.append(Problem(line, column, f"There is no column {quoted(said or '')}, which --map names."))
    left = [cells[place] for place in known if place not in places.values()]
    problems += _missing(line, columns, places, left, bool(problems))
    problems += _doubtful(line, columns, read_as, places, left)
    if problems:
        raise FileRefused(name, problems, hint=_hint(columns, cells, problems))
    return Header(
        places=places,
        written={column: cells[place] for column, place in places.items()},
        ignored=tuple(left),
        width=max(known) + 1,
    )


def _missing(line: int, columns: Columns, places: dict[str, int], left: Sequence[str], is_known: bool) -> list[Problem]:
    """The columns that must be there and are not."""
    absent = [name for name in columns.required if name not in places and not is_known]
    problems = []
    for name in absent:
        likely = _likely(name, left)
        problems.append(Problem(line, name, f"The column is missing.{f' Is it {quoted(likely)}?' if likely else ''}"))
    if columns.one_of and not any(name in places for name in columns.one_of):
        first, *others = columns.one_of
        problems.append(Problem(line, first, f"The column is missing, and so is {' and '.join(others)}."))
    return problems


#: Words in the headers of people's files for columns of ours, to ask whether they are meant; they are never taken so.
_OFTEN = {
    "phone": ("mobile", "msisdn", "tel", "number"),
    "user_id": ("member", "customer", "account", "player"),
    "stake_kes": ("amount", "stake"),
    "placed_at": ("time", "date"),
    "closes_at": ("closing", "deadline", "time", "date"),
    "outcome": ("pick", "selection", "choice"),
    "outcomes": ("options", "choices"),
    "market_id": ("event", "match"),
    "bet_id": ("reference", "ticket"),
}


def _likely(name: str, left: Sequence[str]) -> str | None:
    """The one of the file's own columns that is likely to be meant."""
    near = difflib.get_close_matches(plain(name), [plain(cell) for cell in left], n=1, cutoff=0.6)
    for word in (plain(name), *near, *_OFTEN.get(name, ())):
        for cell in left:
            if word in plain(cell) or plain(cell) in word:
                return cell
    return None


def _doubtful(
    line: int, columns: Columns, read_as: ReadAs, places: dict[str, int], left: Sequence[str]
) -> list[Problem]:
    """Columns of the file that would be ignored, and are likely to be meant for one that is not there."""
    open_ = {plain(name): name for name in columns.optional if name not in places and name not in read_as.columns}
    problems = []
    for cell in left:
        near = difflib.get_close_matches(plain(cell), open_, n=1, cutoff=_NEAR)
        if near:
            problems.append(Problem(line, open_[near[0]], f"The column {quoted(cell)} is likely to be meant."))
    return problems


def _hint(columns: Columns, cells: Sequence[str], problems: Sequence[Problem]) -> str:
    """How to say which column is which."""
    there = [cell for cell in cells if cell]
    listed = ", ".join(quoted(cell) for cell in there[:_MOST_LISTED]) + (", ..." if len(there) > _MOST_LISTED else "")
    ours = {plain(name) for name in columns.names}
    left = [cell for cell in there if plain(cell) not in ours]
    names = [problem.column for problem in problems if problem.column not in columns.one_of]
    maps = [f"--map {name}={shlex.quote(_likely(name, left) or 'HEADER')}" for name in names]
    if len(names) < len(problems):
        maps.append(" or ".join(f"--map {name}=HEADER (where {what})" for name, what in columns.one_of.items()))
    drop = next((f" If the file has none: --map {name}=-." for name in names if name in columns.optional), "")
    more = ",".join(name for name in columns.optional if name not in columns.usual)
    optional = f" (and, if you like, {more})" if more else ""
    return (
        f"Its columns are {listed}. Say under which one each stands: {' '.join(maps)}.{drop}"
        f" The usual columns are {','.join(columns.header)}{optional}, in any order."
    )


def no_header_hint(columns: Columns, cells: Sequence[str]) -> str:
    """What to do where no line is the header: the one that comes nearest may be, in other words."""
    listed = ", ".join(quoted(trimmed(cell)) for cell in cells[:_MOST_LISTED])
    names = " ".join(f"--map {name}=HEADER" for name in columns.required)
    return f"If {listed} is the header, say under which name each column stands: {names}. Else put a header line there."
