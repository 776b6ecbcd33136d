"""Records from the operator's platform: what is new comes in, what was changed behind our back is told.

The platform is read once, in one picture of it, into files of our own; those go the way of any other file
(`import_records`, `import_bets`), in one transaction. There is no second way of taking in records, and none of
changing one: what stands here differently is left out, named, and never overwritten.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from sqlmodel import Session

from kasoko_cli.domain.market import MarketStatus, clean_text
from kasoko_cli.domain.money import plain_kes
from kasoko_cli.domain.phone import quoted
from kasoko_cli.domain.time_text import format_time, parse_time
from kasoko_cli.errors import Busy, NotFound, Refused
from kasoko_cli.operations.exchange.import_bets import BET_COLUMNS, bets_kind
from kasoko_cli.operations.exchange.import_records import (
    MARKET_COLUMNS,
    Imported,
    Kind,
    markets_kind,
    take_in,
    users_kind,
)
from kasoko_cli.operations.records import bets as betting
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.record_files import FileRefused, Format, InputFile, Problem
from kasoko_cli.store import bets, markets, users
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.database import Database, WithinTransaction
from kasoko_cli.store.log import platform_incident, raise_platform_incident, words_about
from kasoko_cli.store.platform import outbox, source
from kasoko_cli.store.platform.source import SourceBet, SourceMarket

#: What the parts of the platform are called where files have their names.
PLATFORM = "platform"

#: How many differences an answer names; the rest is counted.
SHOWN = 20

#: A market's, a user's or a bet's id column, by kind.
_ID = {"users": "user_id", "markets": "market_id", "bets": "bet_id"}


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that differs between the platform and here; `column` is empty where it is the whole record."""

    kind: str
    id: str
    column: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind.removesuffix('s')} {self.id}{', ' if self.column else ''}{self.column}: {self.what}"


@dataclass(frozen=True, slots=True)
class Part:
    """What came in of one kind. `taken_back` counts known bets that the platform took back in time."""

    kind: str
    new: int
    known: int
    taken_back: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Synced:
    """What one look at the platform brought. `planned` says that nothing of it was kept."""

    planned: bool
    parts: list[Part]
    stake_cents: int
    differences: list[Difference]


@dataclass(frozen=True, slots=True)
class Compared:
    """How the platform's bets stand against those that were frozen here when their markets closed."""

    markets: int
    bets: int
    differences: list[Difference]


class PlatformRefused(Refused):
    """New records of the platform are not usable; `problems` has every one of them. Nothing was changed."""

    def __init__(self, problems: Sequence[Difference]) -> None:
        shown = [f"  {problem}" for problem in problems[:SHOWN]]
        if more := len(problems) - len(shown):
            shown.append(f"  and {more:,} more.")
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        hint = "Mend it on the platform and sync again: a pool that lacks a bet would be divided wrongly."
        if any((problem.kind, problem.column) == ("markets", "slug") for problem in problems):
            hint += (
                " Or leave its slugs out, for m- and the id: kasoko connect django --print-sql --column market.slug=-"
            )
        super().__init__(
            "\n".join([f"What the platform shows was refused for {count}; nothing was changed.", *shown]), hint=hint
        )
        self.problems = tuple(problems)


class _Rehearsed(Exception):
    """No error: all went well, and nothing of it is to be kept."""


def sync(ctx: OperationContext, platform: Database, *, plan: bool = False, any_block: bool = False) -> Synced:
    """Take in what is new on the platform: users who bet, markets it has not ended, and their bets.

    A bet that the platform took back in time is taken back here. What else it changed is left out and named. Where it
    lacks what stands here, or ended a market itself, an incident keeps that market from being settled. With `plan` it
    all goes the same way and is undone at the end; `any_block` is as in `users_kind`.

    Raises:
        PlatformRefused: a new record is not usable; nothing was changed.
        ConfigurationError: the platform does not show what it should.
        Busy: another process took in the same ids at this moment; nothing was changed.
    """
    with ctx.db.reading() as session:
        ours, settled = markets.list_markets(session), markets.settled_markets(session)
        # `compare` looks at the markets that are settled or void.
        named = sorted(one.id for one in ours if one.id not in settled and one.status is not MarketStatus.VOID)
        known = {one.id for one in ours}
    with tempfile.TemporaryDirectory() as folder:
        files, seen = _fetched(platform, Path(folder), named, known)
        with suppress(_Rehearsed), ctx.db.transaction() as session:
            intake = _Intake(replace(ctx, db=WithinTransaction(ctx.db, session)))
            for kind in (users_kind(any_block=any_block), markets_kind(), bets_kind()):
                intake.take(session, kind, files[kind.name])
            intake.differences += _gone(session, named, seen, at=ctx.clock())
            if plan:
                raise _Rehearsed
    return Synced(plan, intake.parts, intake.stake_cents, intake.differences)


# --- Reading the platform -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the platform showed: its markets, those of them that it has not ended, and the bets that matter."""

    markets: Collection[str]
    taking: Collection[str]
    bets: Collection[str]


def _fetched(platform: Database, folder: Path, named: Sequence[str], known: set[str]) -> tuple[dict[str, Path], _Seen]:
    """What the platform shows, as a file of each kind: read to the end before a transaction of ours is open."""
    files = {kind: folder / f"{kind}.jsonl" for kind in _ID}
    bet_ids = set[str]()

    def noted(one: SourceBet) -> SourceBet:
        bet_ids.add(one.bet_id)
        return one

    with source.looking(platform) as session:
        shown = source.markets(session)
        taking = {one.market_id for one in shown if one.takes}
        ended = (taking & known) - set(named)
        _write(files["markets"], (_market(one) for one in shown if one.takes or one.market_id in known))
        _write(files["users"], (one._asdict() for one in source.users(session, named)))
        standing = (noted(one) for one in source.bets(session, named) if one.market_id not in ended)
        _write(files["bets"], map(_bet, standing))
    return files, _Seen({one.market_id for one in shown}, taking, bet_ids)


def _gone(session: Session, unsettled: Sequence[str], seen: _Seen, *, at: datetime) -> list[Difference]:
    """What stands here of unsettled markets and is gone or ended there. An incident about each market stops it."""
    found = []
    ours = _taken_in(session)
    for market_id in (one for one in unsettled if one in ours):
        lacks = []
        if market_id not in seen.markets:
            lacks.append(_gone_market(market_id))
        elif market_id not in seen.taking and not _was_told(session, market_id):
            what = "The platform ended it by itself, and may pay for it too."
            lacks.append(Difference("markets", market_id, "", what))
        standing = bets.ids_that_stand(session, market_id)
        lacks += [_gone_bet(bet_id, market_id) for bet_id in standing if bet_id not in seen.bets]
        for one in lacks:
            raise_platform_incident(session, market_id, what=str(one), at=at)
        if platform_incident(session, market_id) is not None:
            found += lacks  # what a person has answered is told no more
    return found


def _gone_market(market_id: str) -> Difference:
    return Difference("markets", market_id, "", "The platform does not have it any more.")


def _gone_bet(bet_id: str, market_id: str) -> Difference:
    return Difference("bets", bet_id, "", f"The platform has no such bet on {market_id} any more.")


def _was_told(session: Session, market_id: str) -> bool:
    """Whether the platform knows from us how the market ended: then it is expected to have ended there too."""
    name = f"{outbox.MARKET}{market_id}"
    return outbox.versions(session, [name]).get(name, (0, 0))[1] > 0


def _write(file: Path, rows: Iterable[dict[str, str | None]]) -> None:
    with file.open("w", encoding="utf-8", errors="surrogatepass") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _market(one: SourceMarket) -> dict[str, str | None]:
    told = one._asdict() | {"closes_at": _time(one.closes_at), "fee_bps": _whole(one.fee_bps)}
    return {column: told[column] for column in MARKET_COLUMNS.header}


def _bet(one: SourceBet) -> dict[str, str | None]:
    told = one._asdict() | {"stake_kes": _shillings(one.stake_cents)}
    told |= {"placed_at": _time(one.placed_at), "cancelled_at": _time(one.cancelled_at)}
    return {column: told[column] for column in BET_COLUMNS.header}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def _whole(number: Decimal | None) -> str | None:
    """`500` for 500.00; anything else as it is, for the import to refuse."""
    if number is None:
        return None
    return str(int(number)) if number == number.to_integral_value() else str(number)


def _shillings(cents: Decimal | None) -> str | None:
    """Cents as shillings; a stake with a part of a cent as it is, for the import to refuse."""
    if cents is None:
        return None
    if cents.is_finite() and cents == cents.to_integral_value() and cents >= 0:
        return plain_kes(int(cents))
    return f"{cents / 100:f}"


# --- Taking it in ---------------------------------------------------------------------------------


class _Intake:
    """Takes in one file after the other, and remembers what was left out."""

    def __init__(self, ctx: OperationContext) -> None:
        self.parts: list[Part] = []
        self.differences: list[Difference] = []
        self.stake_cents = 0
        #: Within the one transaction of the whole intake.
        self._ctx = ctx

    def take(self, session: Session, kind: Kind, file: Path) -> None:
        """Take in one file; what stands here differently is left out of it."""
        taken_back = left_out = 0
        done: Imported | None = None
        while file.stat().st_size:
            try:
                with file.open("rb") as stream:
                    done = take_in(self._ctx, InputFile(f"{PLATFORM} {kind.name}", stream, Format.JSONL), kind)
                break
            except FileRefused as refused:
                bad = _by_line(refused.problems, file)
                mended = {line for line, (row, found) in bad.items() if self._take_back(row, found)}
                others = {line: one for line, one in bad.items() if line not in mended}
                self._told(session, kind.name, others)
                taken_back, left_out = taken_back + len(mended), left_out + len(others)
                _leave_out(file, set(others))
        self.parts.append(Part(kind.name, done.new if done else 0, done.known if done else 0, taken_back, left_out))
        self.stake_cents += done.stake_cents if done else 0

    def _take_back(self, row: dict[str, str], found: list[Problem]) -> bool:
        """Whether all that is different is that the platform took the bet back, and that could be done here too."""
        if [problem.column for problem in found] != ["cancelled_at"] or not row.get("cancelled_at"):
            return False
        try:
            return betting.cancel_bet(self._ctx, bet_id=row["bet_id"], at=parse_time(row["cancelled_at"]))
        except NotFound:
            return False  # it is new, and its cell cannot be used
        except Refused as refused:
            found[:] = [Problem(found[0].line, "cancelled_at", f"{refused.message} {refused.hint}")]
            return False

    def _told(self, session: Session, kind: str, bad: dict[int, tuple[dict[str, str], list[Problem]]]) -> None:
        """Remember what is left out, since it stands here differently or came too late.

        Raises:
            PlatformRefused: some of it is new, and not usable.
        """
        ids = [row.get(_ID[kind]) or "" for row, _ in bad.values()]
        closed: set[str] = set()
        forgotten: set[str] = set()
        if kind == "users":
            people = users.known_users(session, ids)
            known, forgotten = set(people), {one.id for one in people.values() if one.erased_at is not None}
        elif kind == "markets":
            known = {market.id for market, _ in bulk_rows.all_markets(session)}
        else:
            known = set(bulk_rows.known_bets(session, ids))
            closed = {one.id for one in bulk_rows.markets_for_bets(session).values() if not one.is_open}
        fresh = []
        for row, found in bad.values():
            name = row.get(_ID[kind]) or ""
            if name in forgotten:
                continue  # who was erased here differs by intent, and the platform's name is not to be shown
            told = [Difference(kind, name, problem.column, problem.what) for problem in found]
            if name in known or (kind == "bets" and row.get("market_id") in closed):
                self.differences += told
            else:
                fresh += told
        if fresh:
            raise PlatformRefused(fresh)


def _rows(file: Path) -> Iterator[tuple[int, str]]:
    with file.open(encoding="utf-8", errors="surrogatepass") as lines:
        yield from enumerate(lines, 1)


def _by_line(problems: Sequence[Problem], file: Path) -> dict[int, tuple[dict[str, str], list[Problem]]]:
    """The rows that something is wrong with, by line, each with what that is."""
    found: dict[int, list[Problem]] = {}
    for problem in problems:
        found.setdefault(problem.line, []).append(problem)
    rows = {line: (json.loads(text), found[line]) for line, text in _rows(file) if line in found}
    if not rows:
        raise Busy("The platform's records cannot be told apart from what is wrong with them; nothing was changed.")
    return rows


def _leave_out(file: Path, lines: set[int]) -> None:
    """The same file without these lines."""
    if lines:
        rest = file.with_suffix(".rest")
        with rest.open("w", encoding="utf-8", errors="surrogatepass") as out:
            out.writelines(text for line, text in _rows(file) if line not in lines)
        rest.replace(file)


# --- Looking back ---------------------------------------------------------------------------------


def compare(db: Database, platform: Database) -> Compared:
    """Hold the platform's bets against those of each market that is closed here; nothing is changed.

    A market is looked at if the platform shows it, or was taken in from there once: one that is gone is told.

    Raises:
        ConfigurationError: the platform does not show what it should.
    """
    differences: list[Difference] = []
    looked_at = counted = 0
    with db.reading() as session, source.looking(platform) as other:
        shown = {one.market_id for one in source.markets(other)}
        from_there = shown | _taken_in(session)
        for market, _ in bulk_rows.all_markets(session):
            if market.status is MarketStatus.OPEN or market.id not in from_there:
                continue
            looked_at += 1
            if market.id not in shown:
                differences.append(_gone_market(market.id))
            for found in _compared(session, market.id, source.bets_of(other, market.id)):
                counted += 1
                differences += found
    return Compared(looked_at, counted, differences)


def _taken_in(session: Session) -> set[str]:
    """The markets that came from the platform, by the record of each import."""
    acts = words_about(session, f"{PLATFORM} markets", "import.markets")
    return {market_id for act in acts for market_id in json.loads(act.detail)["markets"]}


def _compared(session: Session, market_id: str, theirs: Iterable[SourceBet]) -> Iterator[list[Difference]]:
    """Each bet that stands here, and each that only the platform has: what is different about it."""
    spell = functools.partial(_spelt, {one.name for one in markets.list_outcomes(session, market_id)})
    left = {one.bet_id: _cells(_bet(one), spell) for one in theirs}
    for bet_id, _, outcome, user_id, cents, _, placed_at, cancelled_at in bulk_rows.stream_bets(session, market_id):
        here = {
            "market_id": market_id,
            "user_id": user_id,
            "outcome": outcome,
            "stake_kes": plain_kes(cents),
            "placed_at": format_time(placed_at),
            "cancelled_at": _time(cancelled_at) or "",
        }
        there = left.pop(bet_id, None)
        if there is None:
            yield [_gone_bet(bet_id, market_id)]
            continue
        yield [
            Difference("bets", bet_id, column, f"It is {quoted(here[column])} here, and {quoted(there[column])} there.")
            for column in here
            if here[column] != there[column]
        ]
    for bet_id in sorted(left):
        yield [Difference("bets", bet_id, "", f"It is not here: {market_id} was closed without it.")]


def _cells(row: dict[str, str | None], spell: Callable[[str], str]) -> dict[str, str]:
    cells = {column: value or "" for column, value in row.items() if column != "bet_id"}
    return {**cells, "outcome": spell(cells["outcome"])}


def _spelt(names: set[str], outcome: str) -> str:
    """The outcome as it is kept here, where that is only another way to write it."""
    with suppress(Refused):
        cleaned = clean_text(outcome, what="outcome", most=100)
        return cleaned if cleaned in names else outcome
    return outcome
