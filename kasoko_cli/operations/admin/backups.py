"""A copy of the database that was looked at before it is trusted, and putting one back.

A copy that was put back has forgotten what was sent since it was taken. So nothing of it is sent until that
is found out (`restore_doubt`, `restore_recovery`), and the database that it replaces is kept beside it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from kasoko_cli.clock import Clock
from kasoko_cli.domain.addresses import without_passwords
from kasoko_cli.domain.payer import Payer
from kasoko_cli.errors import Busy, CheckFailed, ConfigurationError, KasokoError, NotFound, Refused
from kasoko_cli.operations.admin.database_check import check
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.safeguards.restore_doubt import HeldBack, hold_unsent
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.closing import Mark, Why, open_writes
from kasoko_cli.store.engine.database import (
    Database,
    find_deployment,
    find_mark,
    head_version,
    hold_to_deployment,
    open_database,
    schema_version,
    upgrade,
)
from kasoko_cli.store.log import pause_sending

#: How long a tool of PostgreSQL may take.
TOOL_SECONDS = 6 * 3_600


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy: its file, size and SHA-256, and how far it was looked at.

    `checked` is what was found whole: `restored and audited`, `restored`, or `listed` where the server lets
    nobody make a database to try it in.
    """

    file: str
    bytes: int
    sha256: str
    schema: str | None
    checked: str
    found: list[str]


@dataclass(frozen=True, slots=True)
class Restored:
    """A copy that was put back, what it replaced, and what was stopped because of it."""

    file: str
    database: str
    kept_aside: str | None
    copy_at: datetime
    held: int
    doubted: int
    wire_cents: int
    schema_was: str | None
    schema: str


def backup(db: Database, file: Path, *, with_audit: bool = True) -> Backup:
    """Copy the database while others work on it, and look at the copy; it is readable by its owner only.

    SQLite by its own online backup, PostgreSQL by pg_dump.

    Raises:
        Refused: the file is there already.
        ConfigurationError: the file cannot be written, or pg_dump is missing or fails.
        CheckFailed: the copy is not whole; it was removed.
    """
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise Refused(f"{file} is there already, and was not touched.", hint="Choose another name.") from None
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be written: {error.strerror}. Nothing was changed.", hint="Choose a folder that can be."
        ) from error
    try:
        if db.is_sqlite:
            with closing(sqlite3.connect(str(db.url.database))) as source, closing(sqlite3.connect(file)) as copy:
                source.backup(copy)
        else:
            _tool(db.url, "pg_dump", "--format=custom", "--no-owner", f"--file={file}")
        with file.open("rb") as written:
            os.fsync(written.fileno())
        checked, schema, found = _looked_at(db, file, with_audit=with_audit)
    except (sqlite3.Error, OSError) as error:
        file.unlink(missing_ok=True)
        raise ConfigurationError(
            f"The copy could not be written to {file}: {error}. It was removed; the database is as it was.",
            hint=f"See that there is room (df -h {file.resolve().parent}), or choose another folder.",
        ) from error
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return Backup(str(file), file.stat().st_size, _sha256(file), schema, checked, found)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the settings say a copy is of: which B2C it sends by, and where they say, whose account and database.

    `target_lost`: the operator says that where the database had been moved to is lost.
    """

    api: str
    payer: Payer | None = None
    deployment: str | None = None
    target_lost: bool = False


def restore(url: str, file: Path, clock: Clock, actor: Actor, expected: Expected, *, replace: bool = False) -> Restored:
    """Put a copy in the place of the database, hold everything unsent, and keep the database that was there.

    Raises:
        NotFound: there is no such file.
        Refused: it is no copy of ours, a database is there and `replace` was not said, somebody has it open, or it was
            moved elsewhere and that is not said to be lost.
        ConfigurationError: the place cannot be written, or pg_restore is missing or fails.
        SchemaOutOfDate: the copy is newer than this program.
        CheckFailed: the copy is not whole.
    """
    if not file.is_file():
        raise NotFound(
            f"There is no file {file}; nothing was changed.", hint="Name a file that kasoko db backup wrote."
        )
    made_ready = functools.partial(_made_ready, file=file, clock=clock, actor=actor, expected=expected)
    with closing(Database(url)) as place:
        if replace and not expected.target_lost:
            _hold_to_move(place)
        put_back = _restore_file if place.is_sqlite else _restore_server
        return put_back(place, file, clock, made_ready=made_ready, replace=replace)


def _hold_to_move(place: Database) -> None:
    """Hold that the database that is to be replaced was not moved elsewhere: a copy here would be a second one."""
    try:
        mark = None if place.is_sqlite and not Path(place.place).exists() else find_mark(place)
    except (KasokoError, SQLAlchemyError):
        return  # what cannot be read is what a copy is put back for
    finally:
        place.close()
    if mark is not None and mark.why is Why.MOVED:
        raise _moved(f"{place.place} was moved to {mark.elsewhere}, which is the database now", mark)


def _moved(what: str, mark: Mark) -> Refused:
    return Refused(
        f"{what}. A copy put in this place would be a second one that pays. Nothing was changed.",
        hint=f"Restore {mark.elsewhere}: let the settings name it, and put back a copy of it. Only where that is lost,"
        " with every copy of it: --target-lost",
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


# --- Looking at a copy ----------------------------------------------------------------------------------------


def _looked_at(db: Database, file: Path, *, with_audit: bool) -> tuple[str, str | None, list[str]]:
    """How far a copy was looked at, the version of its tables, and what the audit found in it."""
    if db.is_sqlite:
        # Beside the copy itself: opened where it is, it would get files of its own beside it.
        with tempfile.TemporaryDirectory(prefix="kasoko-look-", dir=file.parent) as folder:
            tried = Path(folder) / "copy.db"
            shutil.copyfile(file, tried)
            return _examined(f"sqlite:///{tried}", with_audit=with_audit)
    _tool(db.url, "pg_restore", "--list", str(file), connect=False)
    try:
        with _scratch(db.url) as url:
            _tool(url, "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={url.database}", str(file))
            return _examined(url.render_as_string(hide_password=False), with_audit=with_audit)
    except SQLAlchemyError:  # who may not make a database has pg_restore's own word
        return "listed", None, []


def _examined(url: str, *, with_audit: bool) -> tuple[str, str | None, list[str]]:
    with closing(Database(url)) as copy:
        schema = schema_version(copy)
        broken = [line for line in check(copy) if not line.startswith("The tables are of version")]
        if schema is None or broken:
            raise CheckFailed(
                f"The copy is not whole: {'; '.join(broken) or 'it has no tables of ours'}. It was removed.",
                hint="Look at the database itself: kasoko db check. Keep the last good copy.",
            )
        if not with_audit or schema != head_version():
            return "restored", schema, []
        report = audit(copy, limit_per_check=5)
        found = [f"{one.name}: {bad.subject} {bad.what}" for one in report.checks for bad in one.violations]
        return "restored and audited", schema, found


# --- SQLite ---------------------------------------------------------------------------------------------------


def _restore_file(
    place: Database,
    file: Path,
    clock: Clock,
    *,
    made_ready: Callable[[str], tuple[str | None, HeldBack]],
    replace: bool,
) -> Restored:
    target = Path(str(place.url.database))
    if target.exists() and not replace:
        raise _there_already(place)
    if not target.parent.is_dir():
        raise ConfigurationError(
            f"There is no folder {target.parent}; nothing was changed.", hint=f"Make it first: mkdir -p {target.parent}"
        )
    fresh = target.with_name(f"{target.name}.restoring")
    _remove(fresh)
    try:
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        shutil.copyfile(file, fresh)  # opened where it is, the copy would get files of its own beside it
        if Path(f"{file}-wal").exists():
            shutil.copyfile(f"{file}-wal", f"{fresh}-wal")
    except OSError as error:
        _remove(fresh)
        raise Refused(
            f"{file} cannot be put back: {error}. Nothing was changed.",
            hint="A copy of a SQLite database is wanted, as kasoko db backup writes it.",
        ) from error
    try:
        was, held = made_ready(f"sqlite:///{fresh}")
        aside = _set_aside(target, clock) if target.exists() else None
        fresh.replace(target)
    except BaseException:
        _remove(fresh)
        raise
    return _restored(file, place, None if aside is None else str(aside), was, held)


def _made_ready(url: str, file: Path, clock: Clock, actor: Actor, expected: Expected) -> tuple[str | None, HeldBack]:
    """Look at a copy, bring its tables to this program's version, and hold what is unsent."""
    try:
        _, was, _ = _examined(url, with_audit=False)
        whose = find_deployment(url)
    except (KasokoError, DatabaseError) as error:
        raise Refused(f"{file} was not put back: {error}. Nothing was changed.", hint="Take another copy.") from error
    if whose is not None:
        hold_to_deployment(str(file), whose, expected.deployment)
    _open_again(url, file, expected)
    upgrade(url)
    with closing(open_database(url)) as copy, copy.transaction() as session:
        held = hold_unsent(session, actor, api=expected.api, payer=expected.payer, now=clock())
    return was, held


def _open_again(url: str, file: Path, expected: Expected) -> None:
    """Let a copy of a database that was moved be written to, where the one that it was moved to is lost."""
    with closing(Database(url)) as copy:
        mark = find_mark(copy)
        if mark is None or mark.why is None:
            return
        if mark.why is Why.COPYING:
            raise Refused(
                f"{file} is of a copy of {mark.elsewhere} that was not finished. Nothing was changed.",
                hint="Put back a copy of a database that was in use.",
            )
        if not expected.target_lost:
            raise _moved(f"{file} is of a database that was moved to {mark.elsewhere}, which is the database now", mark)
        with copy.transaction() as session:
            open_writes(session)


def _not_taken(name: str, is_taken: Callable[[str], bool]) -> str:
    """The name, or the first with a number behind it that is free: two that are replaced in one second are two."""
    return next(one for one in chain([name], (f"{name}-{number}" for number in count(2))) if not is_taken(one))


def _set_aside(target: Path, clock: Clock) -> Path:
    """Keep the database that is replaced, under another name; nobody may have it open."""
    name = f"{target.name}.before-restore-{clock().astimezone(UTC):%Y%m%dT%H%M%SZ}"
    aside = target.with_name(_not_taken(name, lambda one: target.with_name(one).exists()))
    try:
        _pause(f"sqlite:///{target}", clock)
        can_be_opened = True
    except (KasokoError, SQLAlchemyError):
        can_be_opened = False
    # SQLite removes the log when the last process lets go of the file.
    log = Path(f"{target}-wal")
    if can_be_opened and log.exists():
        raise Busy(
            f"Another process has the database {target} open. Nothing was changed.",
            hint="Stop kasoko listen, every run and every cron job, and try again.",
        )
    try:
        os.link(target, aside)  # the old one has both names until the copy takes its place in one step
        for ending in ("-wal", "-shm"):
            if Path(f"{target}{ending}").exists():
                Path(f"{target}{ending}").rename(f"{aside}{ending}")
    except OSError as error:
        raise Refused(f"{aside} cannot be written: {error.strerror}. Nothing was changed.") from error
    return aside


def _pause(url: str, clock: Clock) -> None:
    """Whoever still has the old database sends nothing more from it."""
    with closing(open_database(url, check_schema=False)) as old, old.transaction() as session:
        why = "this database was replaced by a restored copy"
        pause_sending(session, reason=why, actor="kasoko db restore", at=clock())


def _remove(file: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        Path(f"{file}{ending}").unlink(missing_ok=True)


def _there_already(place: Database) -> Refused:
    return Refused(
        f"There is a database at {place.shown_url}; nothing was changed.",
        hint="Put the copy in its place, and keep it beside under another name: --replace",
    )


def _restored(file: Path, place: Database, aside: str | None, was: str | None, held: HeldBack) -> Restored:
    return Restored(
        file=str(file),
        database=place.shown_url,
        kept_aside=aside,
        copy_at=held.copy_at,
        held=held.held,
        doubted=held.doubted,
        wire_cents=held.wire_cents,
        schema_was=was,
        schema=head_version(),
    )


# --- PostgreSQL -----------------------------------------------------------------------------------------------


def _restore_server(
    place: Database,
    file: Path,
    clock: Clock,
    *,
    made_ready: Callable[[str], tuple[str | None, HeldBack]],
    replace: bool,
) -> Restored:
    name = str(place.url.database)
    _tool(place.url, "pg_restore", "--list", str(file), connect=False)
    there = _is_there(place.url, name)
    if there and not replace and _has_tables(place):
        raise _there_already(place)
    fresh = f"{name[:40]}_restoring_{uuid4().hex[:8]}"
    url = place.url.set(database=fresh)
    _on_server(place.url, f'CREATE DATABASE "{fresh}"')
    try:
        _tool(url, "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={fresh}", str(file))
        was, held = made_ready(url.render_as_string(hide_password=False))
        aside = None
        if there:
            aside = f"{name[:30]}_before_restore_{clock().astimezone(UTC):%Y%m%d%H%M%S}"
            aside = _not_taken(aside, functools.partial(_is_there, place.url))
            _rename_aside(place, name, aside, clock)
        _on_server(place.url, f'ALTER DATABASE "{fresh}" RENAME TO "{name}"')
    except BaseException:
        with suppress(SQLAlchemyError):
            _on_server(place.url, f'DROP DATABASE IF EXISTS "{fresh}" WITH (FORCE)')
        raise
    return _restored(file, place, aside, was, held)


def _is_there(url: URL, name: str) -> bool:
    return _on_server(url, "SELECT count(*) FROM pg_database WHERE datname = :name", name=name) > 0


def _has_tables(place: Database) -> bool:
    with closing(place):
        return schema_version(place) is not None


def _rename_aside(place: Database, name: str, aside: str, clock: Clock) -> None:
    with suppress(KasokoError, SQLAlchemyError):
        _pause(place.url.render_as_string(hide_password=False), clock)
    place.close()
    try:
        _on_server(place.url, f'ALTER DATABASE "{name}" RENAME TO "{aside}"')
    except DatabaseError as error:
        raise Busy(
            f"The database {place.shown_url} is in use. Nothing was changed, but its sending is paused.",
            hint="Stop kasoko listen, every run and every cron job, and try again.",
        ) from error


@contextmanager
def _scratch(url: URL) -> Iterator[URL]:
    """A database of its own on the same server, thrown away afterwards."""
    name = f"kasoko_look_{uuid4().hex[:12]}"
    _on_server(url, f'CREATE DATABASE "{name}"')
    try:
        yield url.set(database=name)
    finally:
        _on_server(url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _on_server(url: URL, statement: str, **values: str) -> int:
    """Run one statement on the server, outside the database itself; returns what it counted, or 0."""
    engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT", hide_parameters=True)
    try:
        with engine.connect() as connection:
            found = connection.execute(text(statement), values)
            return int(found.scalar_one()) if found.returns_rows else 0
    finally:
        engine.dispose()


def _tool(url: URL, *words: str, connect: bool = True) -> None:
    """Run a tool of PostgreSQL; the connection and its password go by the environment, where nobody sees them."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if connect:
        given = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password}
        given |= {"PGDATABASE": url.database}
        given |= {f"PG{name.upper()}": value for name, value in url.query.items() if isinstance(value, str)}
        environ |= {name: str(value) for name, value in given.items() if value is not None}
    try:
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{words[0]} is not installed; nothing was changed.",
            hint="Install PostgreSQL's client of the server's version: apt-get install postgresql-client",
        ) from error
    if done.returncode:
        said = without_passwords(" ".join(done.stderr.split()), url.render_as_string(hide_password=False))[:300]
        said = said or f"exit {done.returncode}"
        raise ConfigurationError(f"{words[0]} failed: {said}", hint="Nothing was changed. Mend that, and try again.")
