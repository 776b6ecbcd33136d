"""Records from files of the operator's platform: all of a file, or nothing of it.

A record is known by its platform's id. What stands already with the same content is left alone, so that a
file can be taken in twice; the same id with other content is refused. Bets are taken in by `import_bets`.
"""

from __future__ import annotations

import functools
import gc
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeVar

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from kasoko_cli.domain import phone as phones
from kasoko_cli.domain.counts import count_of
from kasoko_cli.domain.market import Rules, check_identifier, check_slug, clean_text
from kasoko_cli.domain.money import parse_percent_bps
from kasoko_cli.domain.phone import quoted
from kasoko_cli.domain.time_text import DateOrder, format_time
from kasoko_cli.errors import Busy, Refused
from kasoko_cli.operations.exchange.time_cells import TimeCells
from kasoko_cli.operations.records.markets import NewMarket, new_market, rules_of
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.record_files import (
    Columns,
    FileRefused,
    InputFile,
    Problem,
    Problems,
    Row,
)
from kasoko_cli.operations.shared.record_rows import RowReader, Understood
from kasoko_cli.operations.shared.rehearsal import rehearse
from kasoko_cli.store import users
from kasoko_cli.store.engine import bulk_rows, row_digests
from kasoko_cli.store.engine.locking import Turn, take_turn
from kasoko_cli.store.schema.tables import Market, Outcome, User, new_batch, new_salt

#: How many rows are looked up and written at a time.
CHUNK = 10_000

#: How many records are shown as they were understood, and how many a note names.
FIRST = 3

USER_COLUMNS = Columns(("user_id", "name", "phone"), text=("name",))
MARKET_COLUMNS = Columns(
    ("market_id", "slug", "question", "outcomes", "closes_at"),
    ("fee_bps", "fee_pct", "rounding", "break_unit_cents", "dead_heat", "min_dividend", "min_dividend_bps"),
    text=("question", "outcomes"),
    times=("closes_at",),
    one_of={"fee_bps": "500 is 5 %", "fee_pct": "5 is 5 %"},
    usual=("fee_bps",),
)

#: The columns of a market that are whole numbers, and those that are rules.
_NUMBERS = frozenset({"fee_bps", "break_unit_cents", "min_dividend_bps"})
_RULES = tuple(name for name in MARKET_COLUMNS.optional if name != "fee_pct")

#: What is told while a file is read: how many lines are done.
Told = Callable[[int], object]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody should know of a file that can be taken in: how many there are, in words, the first of them.

    `kind` is `ignored`, `titles`, `timezone` or `dates` for how it was read, and `late`, `future` or `shared_phone`
    for what is unusual in it.
    """

    kind: str
    count: int
    what: str
    first: list[str]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file's records. `stake_cents` and `cancelled` are those of new bets."""

    kind: str
    file: str
    new: int
    known: int
    stake_cents: int
    cancelled: int
    sha256: str
    notes: list[Note]


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What taking in a file would do: how it is read, its first records as they are understood, what is wrong."""

    kind: str
    file: str
    understood: Understood
    first: list[dict[str, str]]
    new: int
    known: int
    stake_cents: int
    cancelled: int
    sha256: str
    notes: list[Note]
    problems: list[Problem]


class Intake(ABC):
    """Takes in the rows of one kind of file; what is wrong with one goes to the problems.

    `new` counts the records that were written, `known` those that stood already or came twice. `stake_cents` and
    `cancelled` are those of new bets. `first` has the first records as they were understood, phones masked.
    """

    def __init__(self, session: Session, reader: RowReader, now: datetime) -> None:
        self.new = self.known = self.stake_cents = self.cancelled = 0
        self.first: list[dict[str, str]] = []
        self.times = TimeCells(reader)
        self._session, self._problems, self._now = session, reader.problems, now

    @abstractmethod
    def take(self, rows: Sequence[Row]) -> None:
        """Write those that nobody knows yet; one that stands otherwise is a problem of its line."""

    def notes(self) -> list[Note]:
        """What is unusual in the records that were written."""
        return []

    def close(self) -> None:  # noqa: B027 - there is nothing to give back, but for bets
        """Give back what was opened."""

    @abstractmethod
    def finish(self) -> dict[str, object]:
        """Do what is done once every row is known to be good; returns what the record of the import holds besides."""

    def _cell(self, line: int, column: str, parse: Callable[[str], T], text: str) -> T | None:
        """What the cell says, or None where it is refused, which is noted."""
        try:
            return parse(text)
        except Refused as refused:
            self._problems.note_refusal(line, column, refused)
            return None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file: what it is called, its columns, and what takes its rows in."""

    name: str
    columns: Columns
    intake_of: Callable[[Session, RowReader, datetime], Intake]


def users_kind(*, any_block: bool = False) -> Kind:
    """Users: id, name, phone. With `any_block` phones count whose block is not known to be mobile."""
    return Kind("users", USER_COLUMNS, functools.partial(_Users, any_block))


def markets_kind() -> Kind:
    """Markets with their outcomes, closing time and rules; they are open."""
    return Kind("markets", MARKET_COLUMNS, _Markets)


def take_in(ctx: OperationContext, file: InputFile, kind: Kind, *, told: Told | None = None) -> Imported:
    """Take in a file: read from end to end in one transaction, which only a file without a problem commits.

    Raises:
        FileRefused: anything in the file is wrong; nothing was changed.
        Busy: another process took in the same ids at this moment; nothing was changed.
    """
    now, reader = ctx.clock(), RowReader(file, kind.columns, Problems())
    with (
        _told_of_others(file, kind),
        ctx.db.transaction() as session,
        _taken(session, reader, kind, now, told) as intake,
    ):
        if reader.problems.found:
            raise FileRefused(file.name, reader.problems.in_order())
        notes = _notes(reader, intake)
        proof = intake.finish()
        if intake.new:
            detail = {"new": intake.new, "known": intake.known, "sha256": reader.sha256(), **proof}
            note_act(session, ctx.actor, f"import.{kind.name}", file.name, at=now, detail=detail | _clock_of(reader))
    return Imported(
        kind.name, file.name, intake.new, intake.known, intake.stake_cents, intake.cancelled, reader.sha256(), notes
    )


def plan_import(ctx: OperationContext, file: InputFile, kind: Kind, *, told: Told | None = None) -> ImportPlan:
    """What `take_in` would do, by the same road up to the books; nothing is written.

    Raises:
        FileRefused: the file as a whole is not what it should be.
        Busy: another process took in the same ids at this moment.
    """
    now, reader = ctx.clock(), RowReader(file, kind.columns, Problems())

    def look(inside: OperationContext) -> ImportPlan:
        with inside.db.transaction() as session, _taken(session, reader, kind, now, told) as intake:
            return ImportPlan(
                kind=kind.name,
                file=file.name,
                understood=reader.understood,
                first=intake.first,
                new=intake.new,
                known=intake.known,
                stake_cents=intake.stake_cents,
                cancelled=intake.cancelled,
                sha256=reader.sha256(),
                notes=_notes(reader, intake),
                problems=reader.problems.in_order(),
            )

    with _told_of_others(file, kind):
        return rehearse(ctx, look)


@contextmanager
def _taken(session: Session, reader: RowReader, kind: Kind, now: datetime, told: Told | None) -> Iterator[Intake]:
    """What took in every row; the books are left as they are."""
    take_turn(session, Turn.IMPORT)
    with _without_collecting(), closing(kind.intake_of(session, reader, now)) as intake:
        for rows in reader.chunks(CHUNK):
            intake.take(rows)
            if told is not None:
                told(reader.line)
        yield intake


def _notes(reader: RowReader, intake: Intake) -> list[Note]:
    """What somebody should know of the file, how it was read first."""
    read, notes = reader.understood, intake.notes()
    if count := intake.times.without_offset:
        what = (
            f"{count_of(count, 'time')} without an offset: read as {read.timezone} time. For another: --timezone ZONE"
        )
        notes.insert(0, Note("timezone", count, what, []))
    if read.dates is not None:
        order = "day/month/year" if read.dates == DateOrder.DMY else "month/day/year"
        how = "as said" if reader.file.read_as.order else "since some can be nothing else"
        notes.insert(0, Note("dates", 1, f"Dates were read as {order}, {how}.", []))
    if read.header_line is not None and read.header_line > 1:
        what = f"The header is line {read.header_line}; what is above it was not read."
        notes.insert(0, Note("titles", read.header_line - 1, what, []))
    if read.ignored:
        named = ", ".join(map(quoted, read.ignored[: 3 * FIRST])) + (", ..." if len(read.ignored) > 3 * FIRST else "")
        what = f"{count_of(len(read.ignored), 'column')} not read: {named}"
        notes.insert(0, Note("ignored", len(read.ignored), what, read.ignored))
    return notes


def _clock_of(reader: RowReader) -> dict[str, object]:
    """By whose clock times were read, and in which order their dates, for the record; nothing where each said it."""
    told = {"timezone": reader.understood.timezone, "dates": reader.understood.dates}
    return {name: value for name, value in told.items() if value is not None}


@contextmanager
def _told_of_others(file: InputFile, kind: Kind) -> Iterator[None]:
    """Say in words that somebody else wrote the same."""
    try:
        yield
    except IntegrityError as error:
        raise Busy(
            f"Another process took in some of the same {kind.name} while {file.name} was read; nothing was changed.",
            hint="Import it again: what the other one took in is known then.",
        ) from error


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Keep Python from looking for cycles while rows go by: there are none, and looking takes a third of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class _Users(Intake):
    def __init__(self, any_block: bool, session: Session, reader: RowReader, now: datetime) -> None:
        super().__init__(session, reader, now)
        self._any_block = any_block
        self._batch = new_batch()

    def take(self, rows: Sequence[Row]) -> None:
        common = {"created_at": self._now, "phone_set_at": self._now, "batch": self._batch}
        standing = bulk_rows.known_users(self._session, (row.values[0] for row in rows))
        fresh: list[dict[str, object]] = []
        for line, (user_id, name, phone) in rows:
            one = self._read(line, user_id, name, phone)
            if one is None:
                continue
            if len(self.first) < FIRST:
                self.first.append(dict(zip(USER_COLUMNS.names, (*one[:2], phones.mask(one[2])), strict=True)))
            other = standing.get(one[0])
            if other is None:
                standing[one[0]] = one
                seal = row_digests.person_seal(salt := new_salt(), *one)
                fresh.append({"id": one[0], "name": one[1], "phone": one[2], "salt": salt, "seal": seal, **common})
            elif other == one:
                self.known += 1
            elif other[1] != one[1]:
                what = f"The user {user_id!r} is known as {quoted(other[1])}, and here as {quoted(one[1])}."
                self._problems.note(line, "name", f"{what} Another person needs another id.")
            else:
                stands, here = phones.mask(other[2]), phones.mask(one[2])
                what = f"The user {user_id!r} is known with {stands}, and here with {here}."
                advice = f"For a new number: kasoko user set-phone {user_id} PHONE"
                self._problems.note(line, "phone", f"{what} {advice}")
        bulk_rows.insert_rows(self._session, User, fresh)
        self.new += len(fresh)

    def _read(self, line: int, user_id: str, name: str, phone: str) -> tuple[str, str, str] | None:
        good_id = self._cell(line, "user_id", lambda text: check_identifier(text, what="user id"), user_id)
        good_name = self._cell(line, "name", lambda text: clean_text(text, what="name", most=200), name)
        number = None
        if "*" in phone:
            what = "The phone is masked, and a masked phone cannot be paid. Export the users with --show-phone."
            self._problems.note(line, "phone", what)
        else:
            number = self._cell(line, "phone", lambda text: phones.normalize(text, any_block=self._any_block), phone)
        if good_id is None or good_name is None or number is None:
            return None
        return good_id, good_name, number

    def notes(self) -> list[Note]:
        """Who of the new users has the phone of somebody else."""
        shared = users.shared_phones(self._session, self._batch)
        if not shared:
            return []
        first = [f"{phones.mask(phone)}: {', '.join(owners)}" for phone, owners in islice(shared.items(), FIRST)]
        what = f"{count_of(len(shared), 'phone')} of several users: {'; '.join(first)}"
        return [Note("shared_phone", len(shared), what + ("; ..." if len(shared) > FIRST else ""), first)]

    def finish(self) -> dict[str, object]:
        """Users move no money; who they are is digested."""
        return {"batch": self._batch, "people": row_digests.people_digest(self._session, self._batch)}


class _Markets(Intake):
    """Takes in markets. There are few, so each is looked at by itself."""

    def __init__(self, session: Session, reader: RowReader, now: datetime) -> None:
        super().__init__(session, reader, now)
        self._standing = {market.id: (market, names) for market, names in bulk_rows.all_markets(session)}
        self._slugs = {market.slug: market.id for market, _ in self._standing.values()}
        self._facts: dict[str, str] = {}

    def take(self, rows: Sequence[Row]) -> None:
        markets: list[Market] = []
        outcomes: list[Outcome] = []
        for line, values in rows:
            read = self._read(line, dict(zip(MARKET_COLUMNS.names, values, strict=True)))
            if read is None:
                continue
            market, answers = read
            names = [answer.name for answer in answers]
            if len(self.first) < FIRST:
                self.first.append(market_cells(market, names))
            if market.id in self._standing:
                self._compare(line, market, names, *self._standing[market.id])
            elif market.slug in self._slugs:
                taken = self._slugs[market.slug]
                what = f"The slug {market.slug!r} is taken by the market {taken!r}. Choose another slug."
                self._problems.note(line, "slug", what)
            elif market.slug != market.id and market.slug in self._standing:
                what = f"The slug {market.slug!r} is the id of another market. Choose another slug."
                self._problems.note(line, "slug", what)
            elif self._slugs.get(market.id, market.id) != market.id:
                what = f"The id is the slug of the market {self._slugs[market.id]!r}. Choose another id."
                self._problems.note(line, "market_id", what)
            else:
                self._standing[market.id], self._slugs[market.slug] = (market, names), market.id
                markets.append(market)
                outcomes += answers
                self._facts[market.id] = row_digests.market_facts(market, answers)
        bulk_rows.insert_rows(self._session, Market, [market.model_dump() for market in markets])
        bulk_rows.insert_rows(self._session, Outcome, [outcome.model_dump() for outcome in outcomes])
        self.new += len(markets)

    def _compare(self, line: int, market: Market, names: list[str], standing: Market, its_names: list[str]) -> None:
        here, there = market_cells(market, names), market_cells(standing, its_names)
        differing = [column for column in here if here[column] != there[column]]
        if not differing:
            self.known += 1
        for column in differing:
            what = (
                f"The market {market.id!r} is known with {quoted(there[column])}, and here with {quoted(here[column])}."
            )
            self._problems.note(line, column, f"{what} A market is not changed; another one needs another id.")

    def _read(self, line: int, cells: dict[str, str]) -> tuple[Market, list[Outcome]] | None:
        before = len(self._problems.found)
        market_id, slug, question = cells["market_id"], cells["slug"], cells["question"]
        self._cell(line, "market_id", lambda text: check_identifier(text, what="market id"), market_id)
        self._cell(line, "slug", check_slug, slug)
        self._cell(line, "question", lambda text: clean_text(text, what="question", most=500), question)
        closes_at = self._cell(line, "closes_at", self.times.parse, cells["closes_at"])
        rules = self._rules(line, cells)
        if closes_at is None or rules is None or len(self._problems.found) > before:
            return None

        def market_of(outcomes: str) -> tuple[Market, list[Outcome]]:
            return new_market(NewMarket(market_id, slug, question, outcomes.split("|"), closes_at, rules), self._now)

        return self._cell(line, "outcomes", market_of, cells["outcomes"])

    def _rules(self, line: int, cells: dict[str, str]) -> Rules | None:
        """The rules, each asked for by itself first, so that what is wrong has its column."""
        given: dict[str, int | str] = {}
        if fee := cells["fee_pct"]:
            bps = self._cell(line, "fee_pct", parse_percent_bps, fee.removesuffix("%").rstrip())
            if bps is not None and cells["fee_bps"] not in ("", str(bps)):
                what = (
                    f"It is {quoted(fee)} percent, and fee_bps says {quoted(cells['fee_bps'])}. Leave one of them out."
                )
                self._problems.note(line, "fee_pct", what)
            elif bps is not None:
                given["fee_bps"] = bps
        for column in _RULES:
            text = cells[column]
            if not text and (column != "fee_bps" or fee):
                continue
            if column in _NUMBERS and re.fullmatch("[0-9]{1,18}", text) is None:
                self._problems.note(line, column, f"{quoted(text)} is not a whole number. Write digits only.")
                continue
            value = int(text) if column in _NUMBERS else text
            if self._cell(line, column, functools.partial(_rule, column, value), text) is not None:
                given[column] = value
        return Rules(**{"fee_bps": 0, **given})  # type: ignore[arg-type]

    def finish(self) -> dict[str, object]:
        """Markets move no money; what each is, is digested."""
        return {"markets": self._facts}


def _rule(column: str, value: int | str, _text: str) -> Rules:
    return Rules(**{"fee_bps": 0, column: value})  # type: ignore[arg-type]


def market_cells(market: Market, names: Sequence[str]) -> dict[str, str]:
    """A market as a file has it: each column's text."""
    return {
        "market_id": market.id,
        "slug": market.slug,
        "question": market.question,
        "outcomes": "|".join(names),
        "closes_at": format_time(market.closes_at),
        **{name: str(value) for name, value in rules_of(market).as_dict().items()},
    }
