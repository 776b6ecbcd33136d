"""What a real run needs, looked at one by one."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.errors import KasokoError

if TYPE_CHECKING:
    from sqlmodel import Session

    from kasoko_cli.cli.container import Container
    from kasoko_cli.operations.admin.preflight import Check, CheckResult
    from kasoko_cli.store.engine.database import Database

commands = Commands()


@commands.reads(answers=False)
def doctor(
    call: CommandContext,
    offline: Annotated[bool, flag("--offline", "Leave out what needs the network.")] = False,
    listen: Annotated[bool, flag("--listen", "Listen meanwhile, to see that M-Pesa could.")] = False,
    after_restore: Annotated[
        bool, flag("--after-restore", "Find out what was paid since a copy that was put back.")
    ] = False,
    listen_seconds: Annotated[
        int, option("--listen-seconds", "N", "How long to wait for answers (--after-restore).", min=0)
    ] = 120,
) -> None:
    """Check all that a real run needs, each with its remedy.

    Settings, files, the database, the credential and its age, M-Pesa, the clock,
    the callback address and its certificate, the float, and what stands open.
    Nothing is sent, and M-Pesa is asked for no more than a token.

    After kasoko db restore, --after-restore asks M-Pesa about every id under
    which a payout may have been sent since the copy, takes the answers in, and
    lets go what was not paid. One answer is not enough for that: with --listen
    it stays to ask once more some minutes later, else it says from when on to
    run it again. With --offline it asks nothing.

    Example: kasoko doctor

    Example: kasoko doctor --offline --json

    Example: kasoko doctor --after-restore

    Exit status: 0 nothing fails, 3 settings (with --after-restore), 6 M-Pesa
    cannot be reached (with --after-restore), 8 something fails or is not proven.
    """
    if after_restore:
        from kasoko_cli.cli.commands.admin.after_restore import prove

        prove(call, offline=offline, listen=listen, listen_seconds=listen_seconds)
        return
    from kasoko_cli.operations.admin.preflight import CheckState, examine

    findings: list[CheckResult] = []
    with contextlib.ExitStack() as stack:
        for check, look in _checks(call, stack, offline=offline, listen=listen):
            findings += examine(check, look)
    counts = Counter(one.state for one in findings)
    code = 8 if counts[CheckState.FAIL] else 0
    if call.json:
        document = {
            "checks": findings,
            **{str(state).lower(): counts[state] for state in CheckState},
            "exit_code": code,
        }
        render.document(document)
    else:
        shown = [one for one in findings if not (call.quiet and one.state in (CheckState.OK, CheckState.SKIP))]
        columns = render.columns("check", "state", "what was found")
        rows: list[tuple[object, ...]] = []
        for one in shown:
            rows.append((one.check, one.state, one.says))
            if one.remedy:
                rows.append(("", "", f"do: {one.remedy}"))
        if rows:
            render.table(call, "What a real run needs", columns, rows)
        told = ", ".join(f"{counts[state]} {state}" for state in CheckState if counts[state])
        if code and not call.quiet:
            again = "kasoko doctor --offline" if offline else "kasoko doctor"
            render.hint(call, f"Not ready: {told}. Do what is said above, then look again: {again}")
        elif not code:
            only = " of what can be seen here" if offline else ""
            render.talk(call, f"Nothing fails{only}: {told}.")
    if code:
        raise typer.Exit(code)


def _checks(
    call: CommandContext, stack: contextlib.ExitStack, *, offline: bool, listen: bool
) -> Iterator[tuple[str, Check]]:
    """Every check in its order; those that need what an earlier one found to be missing are left out or say so."""
    from kasoko_cli.operations.admin import preflight as look

    try:
        container = call.container
    except KasokoError as error:
        found = look.fail("settings", error.message, error.hint)
        yield "settings", lambda: [found]
        return
    yield "settings", lambda: _settings(container)
    since = "M-Pesa's charges are counted by the tariff of"
    yield "tariff", lambda: [look.ok("tariff", f"{since} {container.tariff.valid_from}.")]
    yield "private files", lambda: look.private_files(_private(container))
    yield "time zone", look.time_zone
    db = _open(container)
    if isinstance(db, look.CheckResult):
        yield "database", lambda: [db]
    else:
        stack.callback(db.close)
        yield from _database_checks(container, db)
    yield from _secrets_checks(container, None if isinstance(db, look.CheckResult) else db)
    if offline:
        for check in ("daraja", "clock", "token", "callback"):
            yield check, lambda check=check: [look.skip(check, "left out by --offline")]  # type: ignore[misc]
        return
    if listen:
        from kasoko_cli.cli.listening import listening

        try:
            stack.enter_context(listening(call, otherwise="leave out --listen"))
        except KasokoError as error:
            refused = look.fail("listen", error.message, error.hint)
            yield "listen", lambda: [refused]
    yield from _network_checks(container)


def _settings(container: Container) -> Iterator[CheckResult]:
    from kasoko_cli.daraja.callback_urls import doubt_of
    from kasoko_cli.operations.admin import preflight as look
    from kasoko_cli.settings import NEEDED_TO_PAY, SETTINGS

    config = container.config
    for warning in config.warnings:
        names = "Set what is meant, or take it out; every name that is read: kasoko help environment"
        yield look.warn("settings", warning, names if "nothing reads" in warning else "kasoko config show --origin")
    if doubt := doubt_of(config.daraja.callback_url or ""):
        yield look.warn(
            "callback address", doubt, "If M-Pesa refuses payouts for it, take another: daraja.callback_url"
        )
    if not config.warnings:
        kind = "real money" if config.daraja.production else "the sandbox"
        yield look.ok("settings", f"They can be read ({config.file or 'no kasoko.toml'}); this is for {kind}.")
    missing = config.missing(*NEEDED_TO_PAY)
    if missing:
        named = ", ".join(f"{name} ({SETTINGS[name].variable})" for name in missing)
        yield look.fail("settings to pay", f"Not set: {named}.", "kasoko init asks for them; or set them in .env")
    else:
        yield look.ok("settings to pay", "All that paying needs is set.")


def _private(container: Container) -> list[Path]:
    from kasoko_cli.settings import SETTINGS
    from kasoko_cli.store.engine.database import parse_url

    config = container.config
    home = config.file.parent if config.file is not None else Path()
    files = [home / ".env"]
    origins = (config.origin(name) for name, about in SETTINGS.items() if about.file or about.secret)
    files += [Path(origin.removeprefix("file ")) for origin in origins if origin.startswith("file ")]
    url = parse_url(config.database.url)
    if url.get_backend_name() == "sqlite":
        files += [Path(f"{url.database}{ending}") for ending in ("", "-wal", "-shm")]
    return files


def _open(container: Container) -> Database | CheckResult:
    """The database, whatever version its tables are of; or why there is none."""
    from kasoko_cli.operations.admin import preflight as look
    from kasoko_cli.store.engine.database import open_database, schema_version

    try:
        db = open_database(container.config.database.url, check_schema=False)
    except KasokoError as error:
        return look.fail("database", error.message, error.hint)
    try:
        schema_version(db)
    except KasokoError as error:
        db.close()
        return look.fail("database", error.message, error.hint)
    return db


def _database_checks(container: Container, db: Database) -> Iterator[tuple[str, Check]]:
    from kasoko_cli.operations.admin import preflight as look
    from kasoko_cli.store.engine.database import deployment_of, head_version, schema_version

    yield "database", lambda: [look.ok("database", f"{db.shown_url} opens.")]
    yield "tables", lambda: look.tables(db)
    if schema_version(db) is not None:
        wanted = container.config.database.deployment
        yield "deployment", lambda: look.deployment(deployment_of(db), wanted)
    yield "server", lambda: look.server(db)
    yield "durability", lambda: look.durability(db)
    if db.is_sqlite:
        yield "disk", lambda: look.room(Path(str(db.url.database)).resolve().parent)
    else:
        yield "disk", lambda: [look.skip("disk", "PostgreSQL has a disk of its own.")]
    if schema_version(db) != head_version():
        yield "open matters", lambda: [look.skip("open matters", "the tables are of another version")]
        return

    def reading(check: Callable[[Session], Iterable[CheckResult]]) -> Check:
        def look_inside() -> list[CheckResult]:
            with db.reading() as session:
                return list(check(session))

        return look_inside

    yield "account", reading(lambda session: look.account(session, container.payer))
    yield "float", reading(lambda session: look.float_known(session, container.clock(), container.gate_policy))
    yield "listener", reading(lambda session: look.heard(session, container.clock()))
    yield (
        "markets",
        reading(lambda session: look.waiting_markets(session, container.clock(), container.limits_of_health)),
    )
    yield "stored times", reading(lambda session: look.stored_times(session, container.clock()))
    yield "open matters", reading(lambda session: look.in_the_open(session, container.clock()))


def _secrets_checks(container: Container, db: Database | None) -> Iterator[tuple[str, Check]]:
    from kasoko_cli.operations.admin import preflight as look

    daraja, key = container.config.daraja, container.config.listener.callback_key
    if key is not None:
        yield "callback key", lambda: look.callback_key(container.config.listener.callback_key_bytes())
    if file := container.config.listener.tls_cert_file:
        yield "listener certificate", lambda: look.tls_file(Path(file), container.clock())
    if daraja.security_credential is None:
        return
    sealed = daraja.security_credential.get_secret_value()
    environment = "production" if daraja.production else "sandbox"
    is_theirs = look.is_safaricoms(daraja.base_url)
    yield "credential", lambda: look.credential(sealed, environment=environment, is_safaricoms=is_theirs)

    def age() -> list[CheckResult]:
        set_on = daraja.security_credential_set_on
        if db is None:
            return list(look.credential_age(None, container.clock(), sealed, set_on))
        with db.reading() as session:
            return list(look.credential_age(session, container.clock(), sealed, set_on))

    yield "password age", age


def _network_checks(container: Container) -> Iterator[tuple[str, Check]]:
    from kasoko_cli.operations.admin import preflight as look
    from kasoko_cli.settings import NEEDED_TO_PAY

    daraja, config = container.config.daraja, container.config
    yield "daraja", lambda: look.daraja(daraja.base_url, container.clock, container.route)
    missing = config.missing(*NEEDED_TO_PAY)
    if missing:
        yield "token", lambda: [look.skip("token", f"not set: {', '.join(missing)}")]
    else:
        yield "token", lambda: _token(container)
    if daraja.callback_url is None or config.listener.callback_key is None:
        yield "callback", lambda: [look.skip("callback", "the callback address or its key is not set")]
    else:
        yield "callback", lambda: _callback(container)


def _token(container: Container) -> list[CheckResult]:
    from kasoko_cli.operations.admin import preflight as look

    container.daraja.check_account()
    return [look.ok("token", f"{container.config.daraja.base_url} gives a token for the consumer key.")]


def _callback(container: Container) -> list[CheckResult]:
    from kasoko_cli.operations.admin import preflight as look

    links = container.links  # refuses what breaks M-Pesa's rules
    production = container.config.daraja.production
    # Where the settings have an allow-list, a look from here may be refused like anybody's.
    has_list = bool(container.config.listener.allow_from)
    return list(look.callback(links, container.clock, production=production, has_allow_list=has_list))
