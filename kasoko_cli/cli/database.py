"""The database: its tables, a copy of it, its health."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli import render
from kasoko_cli.cli.group import Call, Commands
from kasoko_cli.cli.panels import HOUSE

if TYPE_CHECKING:
    from kasoko_cli.store.database import Database

commands = Commands("db", "The database: its tables, a copy of it, its health.", panel=HOUSE)


@commands.writes()
def upgrade(call: Call) -> None:
    """Create the tables, or bring them to this program's version.

    Example: kasoko db upgrade

    Example: kasoko db upgrade --database
    postgresql://kasoko@db.example.org/kasoko

    Exit status: 0 done, 3 the database cannot be opened, or is newer than this
    program.
    """
    from kasoko_cli.store.database import upgrade as operation

    found, head = operation(call.house.config.database.url)
    if call.json:
        render.document({"from": found, "to": head, "changed": found != head})
    elif found == head:
        render.line(f"The tables are of version {head} already.")
    else:
        render.line(f"The tables are of version {head} now{'' if found is None else f', and were of {found}'}.")


@commands.reads()
def backup(
    call: Call, file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.", show_default=False)]
) -> None:
    """Copy a SQLite database while others work on it.

    PostgreSQL has its own tool for this: pg_dump.

    Example: kasoko db backup kasoko-2026-11-24.db

    Example: kasoko db backup /srv/copies/kasoko.db --quiet

    Exit status: 0 copied, 3 it cannot be written, 5 the file is there, or this is
    PostgreSQL.
    """
    from kasoko_cli.operations.upkeep import backup as operation

    with _of_any_version(call) as db:
        size = operation(db, file)
    if call.json:
        render.document({"file": str(file), "bytes": size})
    else:
        render.line(f"Copied to {file}, {size:,} bytes.")


@commands.writes()
def expire(
    call: Call,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=1, help="Older than this; else privacy.keep_days.")
    ] = None,
) -> None:
    """Drop what M-Pesa posted, and what was said in calls, once it is old.

    Their digests, times and outcomes stay, so the audit stays whole. What is
    not judged yet, or about an attempt whose fate is open, is kept.

    Example: kasoko db expire

    Example: kasoko db expire --days 400 --reason 'retention rule 7'

    Exit status: 0 done, 2 no days are given, and privacy.keep_days is 0.
    """
    from kasoko_cli.cli.params import WrongUsage
    from kasoko_cli.cli.words import count_of, local
    from kasoko_cli.operations.privacy import expire as operation

    days = days or call.house.config.privacy.keep_days
    if not days:
        raise WrongUsage("Nothing expires by itself: privacy.keep_days is 0. Say how old: --days N.")
    done = operation(call.house.db, call.house.clock, call.act, days=days)
    if call.json:
        render.document(done)
    else:
        bodies = f"{count_of(done.callbacks, 'result')} and {count_of(done.calls, 'call')}"
        render.line(f"{bodies} from before {local(done.before)} emptied.")


@commands.reads()
def check(call: Call) -> None:
    """Look whether the database itself is whole: pages, keys, version.

    Example: kasoko db check

    Example: kasoko db check --json

    Exit status: 0 it is, 3 it cannot be opened, 8 something was found.
    """
    from kasoko_cli.operations.upkeep import check as operation

    with _of_any_version(call) as db:
        found = operation(db)
    if call.json:
        render.document({"ok": not found, "found": found})
    else:
        for problem in found:
            render.line(problem)
        if not found:
            render.line("The database is whole.")
    if found:
        raise typer.Exit(8)


def _of_any_version(call: Call) -> AbstractContextManager[Database]:
    """The database, whatever version its tables are of: before an upgrade a copy matters most."""
    from kasoko_cli.store.database import open_database

    return closing(open_database(call.house.config.database.url, check_schema=False))
