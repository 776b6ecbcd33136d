"""The database: its tables, a copy of it, another place for it, its health."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import argument, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of, local

if TYPE_CHECKING:
    from kasoko_cli.operations.admin.database_copy import Copied
    from kasoko_cli.store.engine.database import Database
    from kasoko_cli.store.engine.whole_copy import TableRows

commands = Commands("db")


@commands.writes()
def upgrade(call: CommandContext) -> None:
    """Bring the tables to this program's version.

    A database that is not there is not made: that is kasoko init, once.

    Example: kasoko db upgrade

    Example: kasoko db upgrade --database
    postgresql://kasoko@db.example.org/kasoko

    Exit status: 0 done, 3 the database is not there, is another deployment's,
    cannot be opened, or is newer than this program.
    """
    from kasoko_cli.store.engine.database import upgrade as operation

    container = call.container
    with _of_any_version(call, with_tables=True) as db:
        container.hold_to_deployment(db)
    found, head = operation(container.config.database.url)
    before = " now" if found is None else f" now, and were of {found}"
    document = {"from": found, "to": head, "changed": found != head}
    render.answer(call, document, f"The tables are of version {head}{' already' if found == head else before}.")


@commands.reads(answers=False)
def backup(
    call: CommandContext,
    file: Annotated[Path, argument("FILE", "Where to write it.")],
    no_audit: Annotated[bool, flag("--no-audit", "Do not audit the copy; that takes a while.")] = False,
) -> None:
    """Copy the database while others work on it, and look at the copy.

    SQLite by its own online backup, PostgreSQL by pg_dump. The copy is opened
    and audited before it is called one. Put it back with kasoko db restore.

    Example: kasoko db backup kasoko-2026-11-23.db

    Example: kasoko db backup /var/backups/kasoko.dump --no-audit

    Exit status: 0 copied, 3 it cannot be written or pg_dump fails, 5 the file is
    there, 8 the audit found something in the copy.
    """
    from kasoko_cli.operations.admin.backups import backup as operation

    with _of_any_version(call) as db:
        copy = operation(db, file, with_audit=not no_audit)
    code = 8 if copy.found else 0
    if not code:
        call.ended_well("db backup")
    if call.json:
        render.document({"backup": copy, "exit_code": code})
    else:
        render.did(call, f"Copied to {file}, {copy.bytes:,} bytes, {copy.checked}.")
        for line in copy.found:
            render.warn(call, line)
        if copy.checked == "listed":
            render.warn(call, "The server lets this user make no database, so the copy was not tried.")
    if code:
        render.hint(call, "The copy is as the database is. Look at that: kasoko audit")
        raise typer.Exit(code)


@commands.writes()
def restore(
    call: CommandContext,
    file: Annotated[Path, argument("FILE", "A copy by db backup.")],
    replace: Annotated[bool, flag("--replace", "A database is there: keep it under another name.")] = False,
    target_lost: Annotated[bool, flag("--target-lost", "It was moved by db copy, and that is lost for good.")] = False,
) -> None:
    """Put a copy in the place of the database, and hold all that is unsent.

    The copy does not know what was sent since it was taken. So everything that
    it would send is held, and sending is paused, until kasoko doctor
    --after-restore or a statement has found out. Stop every other kasoko first.

    Example: kasoko db restore kasoko-2026-11-23.db --replace

    Example: kasoko db restore /var/backups/kasoko.dump --replace --yes --reason
    'the disk died'

    Exit status: 0 it is in place, 3 settings or a tool, 4 no such file, 5 a
    database is there, the copy is none, or it was moved elsewhere by kasoko db
    copy, 9 somebody has the database open.
    """
    from kasoko_cli.operations.admin.backups import Expected
    from kasoko_cli.operations.admin.backups import restore as operation

    container = call.container
    url = container.config.database.url
    render.confirm_or_leave(call, f"Put {file} in the place of the database?", otherwise="Nothing was changed.")
    done = operation(
        url,
        file,
        container.clock,
        call.who,
        Expected(container.config.daraja.api, container.payer, container.config.database.deployment, target_lost),
        replace=replace,
    )
    if call.json:
        render.document(done)
        return
    render.did(call, f"{done.database} is {file} now, last written to at {local(done.copy_at)}.")
    if done.kept_aside is not None:
        render.talk(call, f"What was there is kept: {done.kept_aside}")
    held = count_of(done.doubted, "payout")
    render.talk(call, f"{held}, {amount_of(done.wire_cents)}, may have been sent since; {done.held:,} are held.")
    render.warn(call, "Whoever was erased since the copy is here again. Erase them anew: kasoko user erase USER")
    render.hint(call, "Find out what was paid since: kasoko doctor --after-restore. Sending is paused until resume.")


@commands.writes()
def copy(
    call: CommandContext,
    target: Annotated[str, argument("TARGET_URL", "Where to: postgresql://user@host/name, sqlite:///file.")],
    plan: Annotated[bool, flag("--plan", "Show what would be copied; write nothing.")] = False,
) -> None:
    """Move everything into another database, and close this one.

    From SQLite to PostgreSQL, back, or to another place of the same kind. The
    target is empty or not there. Every row is compared, both are audited; then
    this one takes no writes any more, and only then the target takes them. So
    never do both send. Stop every other kasoko first. Killed, it is run again.

    A password in TARGET_URL is seen by whoever lists processes: keep it in
    ~/.pgpass instead.

    Example: kasoko db copy postgresql://kasoko@db.example.org/kasoko --plan

    Example: kasoko db copy postgresql://kasoko@db.example.org/kasoko --yes
    --reason 'more than one host'

    Exit status: 0 moved, 3 one of them cannot be opened, 5 the target is not
    empty or is another's, 8 the audit found something, 9 somebody has it open.
    """
    from kasoko_cli.operations.admin import database_copy
    from kasoko_cli.operations.shared.context import OperationContext
    from kasoko_cli.store.engine.database import Database, open_database

    container = call.container
    with closing(open_database(container.config.database.url)) as source:
        container.hold_to_deployment(source)
        if plan:
            planned = database_copy.plan(source, target)
            title = f"{planned.source} to {planned.target}, which has {planned.target_has}"
            rows = [(one.table, f"{one.rows:,}") for one in planned.tables]
            render.table(call, title, render.columns("table", "rows"), rows, document={"plan": planned})
            return
        question = f"Move everything to {Database(target).place}, and close {source.place}?"
        render.confirm_or_leave(call, question, otherwise="Nothing was changed.")
        ctx = OperationContext(source, container.clock, call.who)
        done = database_copy.copy(ctx, target, container.new_id, tell=partial(_tell, call))
    if call.json:
        render.document({"copy": done})
        return
    render.did(call, _copied(done))
    render.hint(call, "Let the settings name it: KASOKO_DATABASE_URL, or database.url. Then: kasoko doctor")


def _tell(call: CommandContext, one: TableRows) -> None:
    if one.rows:
        render.talk(call, f"{one.table}: {count_of(one.rows, 'row')}")


def _copied(done: Copied) -> str:
    if done.outcome == "copied":
        return (
            f"{count_of(done.rows, 'row')} of {len(done.tables)} tables were copied and compared: {done.target} is the"
            f" database now. {done.source} is closed: it can be read, and takes no writes."
        )
    was = "was opened" if done.outcome == "finished" else "was opened before"
    return (
        f"Everything had been copied and compared: {done.target} {was}, and is the database. {done.source} is closed."
    )


@commands.writes()
def expire(
    call: CommandContext,
    days: Annotated[int | None, option("--days", "N", "Older than this; else privacy.keep_days.", min=1)] = None,
) -> None:
    """Drop what M-Pesa posted, and what was said in calls, once it is old.

    Their digests, times and outcomes stay, so the audit stays whole. What is
    not judged yet, or about an attempt whose fate is open, is kept.

    Example: kasoko db expire

    Example: kasoko db expire --days 400 --reason 'retention rule 7'

    Exit status: 0 done, 2 no days are given, and privacy.keep_days is 0.
    """
    from kasoko_cli.cli.options import WrongUsage
    from kasoko_cli.operations.records.privacy import expire as operation

    days = days or call.container.config.privacy.keep_days
    if not days:
        raise WrongUsage("Nothing expires by itself: privacy.keep_days is 0. Say how old: --days N.")
    done = operation(call.context, days=days)
    bodies = f"{count_of(done.callbacks, 'result')} and {count_of(done.calls, 'call')}"
    render.answer(call, done, f"{bodies} from before {local(done.before)} emptied.")


@commands.reads(answers=False)
def check(call: CommandContext) -> None:
    """Look whether the database itself is whole: pages, keys, version.

    Example: kasoko db check

    Example: kasoko db check --json

    Exit status: 0 it is, 3 it cannot be opened, 8 something was found.
    """
    from kasoko_cli.operations.admin.database_check import check as operation

    with _of_any_version(call) as db:
        found = operation(db)
    if call.json:
        render.document({"ok": not found, "found": found})
    else:
        for problem in found:
            render.line(problem)
        if found:
            keep = "Keep it as it is, and put a copy in its place: kasoko db restore FILE --replace"
            render.hint(call, f"The database is not whole: {count_of(len(found), 'problem')}. {keep}")
        else:
            render.did(call, "The database is whole.")
    if found:
        raise typer.Exit(8)


def _of_any_version(call: CommandContext, *, with_tables: bool = False) -> AbstractContextManager[Database]:
    """The database, whatever version its tables are of: before an upgrade a copy matters most."""
    from kasoko_cli.store.engine.database import open_database

    return closing(open_database(call.container.config.database.url, check_schema=False, with_tables=with_tables))
