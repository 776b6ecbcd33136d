"""Moving a deployment into another database, from SQLite to PostgreSQL or any other way; exactly one of them sends.

The order is what makes it safe. One transaction holds the source from the first look to the end, so that nobody else
writes; in it everything is read, and the target, which is closed from its first moment on, is filled and compared. The
same transaction closes the source for good. Only after its commit the target is opened. Killed before that commit, the
source is as it was, and what is in the target is thrown away by the next try. Killed after it, neither sends, and the
next try opens the target.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from kasoko_cli.clock import NewId, eat
from kasoko_cli.domain.addresses import without_passwords
from kasoko_cli.errors import Busy, CheckFailed, ConfigurationError, DatabaseUnavailable, Refused
from kasoko_cli.operations.audit import chain_check
from kasoko_cli.operations.audit.run import check_all
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine import hash_chain, whole_copy
from kasoko_cli.store.engine.closing import Mark, Why, close_writes, find_mark, open_writes
from kasoko_cli.store.engine.database import (
    Database,
    deployment_of,
    find_closed,
    head_version,
    schema_version,
    upgrade,
)
from kasoko_cli.store.engine.database import find_mark as mark_of
from kasoko_cli.store.engine.reconnect import patiently
from kasoko_cli.store.engine.whole_copy import TableRows

#: The act of moving everything into another database.
COPY = "db.copy"


class Target(StrEnum):
    """What stands at the place that is copied to."""

    NOTHING = "nothing"  #: no file, or no tables
    EMPTY = "empty"  #: tables of this version without a row
    UNFINISHED = "unfinished"  #: a copy of this deployment that is not finished


class Outcome(StrEnum):
    """What became of it."""

    COPIED = "copied"  #: everything was copied, and the target is the database now
    FINISHED = "finished"  #: everything had been copied before, and the target was opened
    ALREADY = "already"  #: it had been finished before


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What would be copied: every table with its rows, and what stands at the target."""

    source: str
    target: str
    target_has: Target
    rows: int
    tables: list[TableRows]


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied, by the digest of each table, which both databases have; empty where it was copied before.

    `heads` are those of the chains, the same on both sides.
    """

    source: str
    target: str
    copy_id: str
    outcome: Outcome
    rows: int
    tables: list[TableRows]
    heads: list[chain_check.Head]


#: Tells of each table that was copied.
Tell = Callable[[TableRows], None]


def plan(source: Database, target_url: str) -> CopyPlan:
    """What `copy` would do; nothing is written.

    Raises:
        DatabaseClosed: the source has moved already, or is itself a copy that is not finished.
        Refused: the target is the source, holds something, or is a copy of another deployment.
        DatabaseUnavailable: one of them cannot be opened.
    """
    with closing(Database(target_url)) as target:
        _differ(source, target)
        if closed := find_closed(source):
            raise closed
        has = _look_at(target, deployment_of(source))
        with source.reading() as session:
            tables = whole_copy.count_rows(session)
    return CopyPlan(source.place, target.place, has, sum(one.rows for one in tables), tables)


def copy(ctx: OperationContext, target_url: str, new_id: NewId, *, tell: Tell = lambda _: None) -> Copied:
    """Move everything into another database, and close this one; nobody else may have it open.

    Called again after it was killed it finishes, or begins anew.

    Raises:
        DatabaseClosed: the source is itself a copy that is not finished.
        Refused: the target is the source, holds something, or is a copy of another deployment; or the source was
            moved elsewhere before.
        Busy: another process has the source open, or writes to it.
        CheckFailed: the audit found something in the source, or the copy is not like it; the source goes on.
        DatabaseUnavailable: one of them cannot be opened, or went away.
    """
    source = ctx.db
    with closing(Database(target_url)) as target:
        _differ(source, target)
        mark = mark_of(source)
        if mark is not None and mark.why is Why.MOVED:
            return _finished(source, target, mark)
        if closed := find_closed(source):
            raise closed
        _look_at(target, deployment_of(source))  # before anybody is kept waiting
        target.close()  # it is not known yet to be another one
        _be_alone(source)
        mark = Mark(Why.MOVED, new_id(), target.place, ctx.clock())
        with source.transaction() as held:
            whole_copy.hold(held)
            tables, heads = _copied(ctx, held, target, mark, tell)
            close_writes(held, mark)
        _open(source, target, mark)
    return _done(source, target, mark, Outcome.COPIED, tables, heads)


def _done(
    source: Database,
    target: Database,
    mark: Mark,
    outcome: Outcome,
    tables: list[TableRows],
    heads: list[chain_check.Head],
) -> Copied:
    rows = sum(one.rows for one in tables)
    return Copied(source.place, target.place, mark.copy_id, outcome, rows, tables, heads)


# --- The steps ----------------------------------------------------------------------------------------------------


def _copied(
    ctx: OperationContext, held: Session, target: Database, mark: Mark, tell: Tell
) -> tuple[list[TableRows], list[chain_check.Head]]:
    """Fill the target with what the source has under its hold, and compare them; the target stays closed."""
    source, now = ctx.db, ctx.clock()
    if (found := find_mark(held)) is not None and found.why is not None:  # since it was looked at
        raise Busy("Another kasoko db copy has just moved this database. Nothing was changed.")
    if not target.is_sqlite and whole_copy.is_held(target):
        raise _the_same(target)
    deployment = hash_chain.deployment_of(held)
    has = _look_at(target, deployment)
    detail = {"copy_id": mark.copy_id, "from": source.place, "to": target.place}
    note_act(held, ctx.actor, COPY, "database", at=now, detail=detail)
    hash_chain.seal(held)
    heads = _heads(held, f"The database {source.place}", now)
    unfinished = Mark(Why.COPYING, mark.copy_id, source.place, now)
    try:
        if has is Target.UNFINISHED:
            with target.transaction() as session:
                whole_copy.drop_everything(session)
        upgrade(_address(target), then=partial(whole_copy.begin, deployment=deployment, mark=unfinished))
        tables = list[TableRows]()
        with target.transaction() as session:
            whole_copy.hold(session)
            open_writes(session)
            for table in whole_copy.copy_rows(held, session):
                tables.append(table)
                tell(table)
            close_writes(session, unfinished)
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        said = without_passwords(said, _address(source), _address(target))
        raise CheckFailed(
            f"{target.place} does not take what is in {source.place}: {said}. Nothing was moved; {source.place} is as"
            " it was.",
            hint="Mend that, then copy again: what is there of the copy is thrown away.",
        ) from error
    _compare(source, target, tables, heads, now)
    return tables, heads


def _compare(
    source: Database, target: Database, tables: list[TableRows], heads: list[chain_check.Head], now: datetime
) -> None:
    """Hold that the target, as it was committed, has the rows of the source and passes the same audit."""
    with target.reading() as session:
        unlike = [
            one.table for one, is_there in zip(tables, whole_copy.digest_rows(session), strict=True) if one != is_there
        ]
        if unlike or _heads(session, f"The copy {target.place}", now) != heads:
            raise CheckFailed(
                f"The copy {target.place} is not as {source.place} is: {', '.join(unlike) or 'its chain'}. Nothing was"
                f" moved; {source.place} is as it was, and goes on.",
                hint="Report it, and go on with the database that you have.",
            )


def _heads(session: Session, what: str, now: datetime) -> list[chain_check.Head]:
    """The heads of both chains, once the whole audit has found nothing."""
    bad = [one for one in check_all(session, deep=True, chain=True, limit_per_check=1) if not one.ok]
    if bad:
        first = bad[0].violations[0]
        raise CheckFailed(
            f"{what} does not pass the audit: {', '.join(one.name for one in bad)}; {first.subject} {first.what}."
            " Nothing was moved.",
            hint="See all of it, and what to do: kasoko audit --deep --chain",
        )
    return chain_check.heads_of(session, now).heads


def _open(source: Database, target: Database, mark: Mark) -> None:
    """Let the target be written to: the source is closed. It may be done again."""

    def opening() -> None:
        with target.transaction() as session:
            found = find_mark(session)
            if found is None or found.copy_id != mark.copy_id:
                raise _elsewhere(source, target, mark)
            if found.why is not None:
                open_writes(session)

    try:
        patiently(target, opening)
    except (Busy, DatabaseUnavailable) as error:
        raise DatabaseUnavailable(
            f"Everything was copied, {source.place} is closed, and {target.place} is not opened yet: {error.message}",
            hint="Neither of them sends, and nothing is lost. Copy once more, to the same address: that opens it.",
        ) from error


def _address(db: Database) -> str:
    return db.url.render_as_string(hide_password=False)


def _finished(source: Database, target: Database, mark: Mark) -> Copied:
    """Open the target if it is what the source was moved to: it had been compared before the source was closed."""
    found = None if _is_nothing(target) else mark_of(target)
    if found is None or found.copy_id != mark.copy_id:
        raise _elsewhere(source, target, mark)
    outcome = Outcome.ALREADY if found.why is None else Outcome.FINISHED
    _open(source, target, mark)
    return _done(source, target, mark, outcome, [], [])


def _elsewhere(source: Database, target: Database, mark: Mark) -> Refused:
    when = "" if mark.at is None else f" at {eat(mark.at)}"
    return Refused(
        f"{source.place} was moved to {mark.elsewhere}{when}, and {target.place} is not that copy. Nothing was"
        " changed.",
        hint=f"Name {mark.elsewhere}. To move on from there, let the settings name it, and copy from it. If it is lost:"
        " kasoko help recovery",
    )


# --- Before anything is written -----------------------------------------------------------------------------------


def _differ(source: Database, target: Database) -> None:
    """Hold that two files are two. A server's database by another address is found out once it is held."""
    if not (source.is_sqlite and target.is_sqlite):
        return
    ours, theirs = Path(source.place), Path(target.place)
    if ours == theirs or (theirs.exists() and ours.samefile(theirs)):
        raise _the_same(target)


def _the_same(target: Database) -> Refused:
    return Refused(
        f"{target.place} is the database itself, or somebody else copies into it. Nothing was changed.",
        hint="Name another place to copy it to.",
    )


def _is_nothing(target: Database) -> bool:
    """Whether there is no database, or one without any table. A file is not made by asking."""
    if target.is_sqlite:
        file = Path(target.place)
        if not file.parent.is_dir():
            raise ConfigurationError(
                f"There is no folder {file.parent}; nothing was changed.", hint=f"Make it first: mkdir -p {file.parent}"
            )
        if not file.exists() or not file.stat().st_size:
            return True
    if schema_version(target) is not None:
        return False
    with target.reading() as session:
        return not whole_copy.stranger(session)


def _look_at(target: Database, deployment: str) -> Target:
    """What stands at the target, where it may be copied to."""
    if _is_nothing(target):
        return Target.NOTHING
    with target.reading() as session:
        stranger = whole_copy.stranger(session)
    if stranger:
        raise Refused(
            f"{target.place} holds tables of another program, {stranger} among them. Nothing was changed.",
            hint="Make a database for kasoko alone, and name that: CREATE DATABASE kasoko",
        )
    mark, whose, version = mark_of(target), deployment_of(target), schema_version(target)
    if mark is not None and mark.why is Why.COPYING and whose == deployment:
        return Target.UNFINISHED
    is_closed, is_ours = mark is not None and mark.why is not None, version == head_version()
    with target.reading() as session:
        filled = whole_copy.first_with_rows(session) if is_ours else ""
    if is_closed or filled or not is_ours:
        what = f"rows in {filled}" if filled else f"tables of version {version}"
        raise Refused(
            f"{target.place} is not empty: it is of the deployment {whose}, and has {what}. Nothing was changed.",
            hint="Name a database that is empty or not there. Is it this one under another name, or was this one copied"
            " from it?",
        )
    return Target.EMPTY


def _be_alone(source: Database) -> None:
    """Hold that no other process has the source open; what one that comes later writes is refused by the database."""
    if source.is_sqlite:
        schema_version(source)
        source.close()
        # SQLite removes the log when the last process lets go of the file.
        who = ["another process"] if Path(f"{source.place}-wal").exists() else []
    else:
        who = whole_copy.others(source)
    if who:
        raise Busy(
            f"The database {source.place} is open: {', '.join(who[:3])}. Nothing was changed.",
            hint="Stop kasoko listen, every run, worker and cron job, and try again. A pooler's idle sessions count:"
            " name the server itself.",
        )
