"""Before the first payout: the settings, the database, the credential."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kasoko_cli.cli.command import CommandContext, Commands, Interrupted
from kasoko_cli.cli.options import flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.errors import KasokoError, NotFound

if TYPE_CHECKING:
    from kasoko_cli.cli.commands.admin.init_files import FirstFile

commands = Commands()
config = Commands("config")
credential = Commands("credential")


@commands.writes()
def init(
    call: CommandContext,
    shortcode: Annotated[str | None, option("--shortcode", "N", "The number that pays, like 600999.")] = None,
    initiator: Annotated[str | None, option("--initiator", "NAME", "The user name of the API operator.")] = None,
    callback_url: Annotated[
        str | None, option("--callback-url", "URL", "Where the world reaches kasoko listen.")
    ] = None,
    production: Annotated[bool, flag("--production", "Real money, not Safaricom's sandbox.")] = False,
    new_deployment: Annotated[
        bool, flag("--new-deployment", "Settings are here and no database: make one all the same.")
    ] = False,
) -> None:
    """Write kasoko.toml and .env, and set up the database.

    On a terminal it asks for what paying needs and is not there yet; Enter leaves
    an answer for later. The initiator's password is encrypted on the spot and
    kept nowhere. A file that is there is never overwritten, a secret that is
    there never changed: run it as often as you like.

    Where settings are and no database is, it makes none: a new one does not know
    who was paid, and would pay them again. For settings that never paid anybody,
    say --new-deployment.

    Example: kasoko init

    Example: kasoko init --yes --shortcode 600999 --initiator testapi
    --callback-url https://pay.example.org

    Exit status: 0 done, 2 a value cannot be used, 3 a setting elsewhere cannot be
    used, or a file or the database not be written, 5 kasoko.toml is there and
    says something else, or settings are there and no database is.
    """
    given = {
        "daraja.shortcode": shortcode,
        "daraja.initiator_name": initiator,
        "daraja.callback_url": callback_url,
        "daraja.production": "true" if production else None,
    }
    _init(call, {name: value for name, value in given.items() if value is not None}, new_deployment=new_deployment)


def _init(call: CommandContext, wanted: dict[str, str], *, new_deployment: bool) -> None:
    """Judge the settings and the database, ask for what is missing, and write."""
    from kasoko_cli.cli.commands.admin import init_files, init_questions
    from kasoko_cli.store.engine.database import Database, find_deployment, hold_to_deployment

    toml_file = call.config_file or Path("kasoko.toml")
    init_questions.check(wanted)
    init_files.refuse_other_settings(toml_file, wanted)
    # Nothing is written before everything was judged: a kasoko.toml that cannot be used stops every other command.
    foresee = partial(init_files.foreseen, toml_file, database_url=call.database_url)
    rest = {name: value for name, value in wanted.items() if name != init_questions.CALLBACK}
    config = foresee(rest)
    production = config.daraja.production
    whose = find_deployment(config.database.url)
    if whose is not None:
        hold_to_deployment(Database(config.database.url).place, whose, config.database.deployment)
    elif not new_deployment:
        init_files.refuse_second_database(toml_file, config)
    whose = whose or config.database.deployment or init_files.new_deployment()
    init_questions.check_together(wanted, production=production)
    answers = init_questions.NO_SECRETS
    if render.is_somebody_here() and not (call.yes or call.json):
        try:
            wanted = init_questions.ask_settings(call, toml_file, wanted, production=production)
            answers = init_questions.ask_secrets(call, foresee(wanted))
        except KeyboardInterrupt:
            raise Interrupted("Interrupted; nothing was written.", "Begin again: kasoko init") from None
    missing = foresee(wanted).missing(*init_questions.SECRETS, init_questions.CREDENTIAL)
    toml = init_files.write_settings(toml_file, wanted | {"database.deployment": whose})
    env = init_files.write_secrets(
        toml.file.parent / ".env", answers.secrets, missing=len(missing) > len(answers.secrets)
    )
    _set_up(call, toml, env, whose)
    if answers.sealed:
        _note_encrypted(call, answers.sealed, answers.environment)
    _tell_next(call, wanted.get(init_questions.CALLBACK, ""))


def _set_up(call: CommandContext, toml: FirstFile, env: FirstFile, whose: str) -> None:
    """Make or upgrade the tables, and tell where everything stands."""
    from kasoko_cli.domain.addresses import shown_address
    from kasoko_cli.store.engine.database import upgrade

    url = call.container.config.database.url
    found, head = upgrade(url, deployment=whose)
    database = "is up to date" if found == head else "created" if found is None else f"upgraded from {found}"
    shown = shown_address(url)
    if not render.unattended(call):
        render.card(
            call,
            "kasoko is set up",
            [(str(toml.file), toml.did), (str(env.file), env.did), (shown, database)],
            document={
                "settings": {"file": str(toml.file), "written": toml.written},
                "secrets": {"file": str(env.file), "written": env.written},
                "database": {"url": shown, "from_version": found, "to_version": head},
            },
        )


def _tell_next(call: CommandContext, callback_url: str) -> None:
    from kasoko_cli.daraja.callback_urls import doubt_of

    if doubt := doubt_of(callback_url):
        render.warn(call, f"{doubt} It was written as it is.")
    render.talk(call, "See the whole road on a database that is thrown away: kasoko demo")
    render.talk(call, "See what a real run still needs: kasoko doctor")


def _note_encrypted(call: CommandContext, sealed: str, environment: str) -> bool:
    """Write down that a credential was made, so that doctor can tell its age; whether there was a database for it."""
    from kasoko_cli.operations.admin.preflight import note_encrypted

    try:
        container = call.container
        note_encrypted(
            container.db,
            container.clock,
            actor=call.actor,
            reason=call.reason or "",
            sealed=sealed,
            environment=environment,
        )
    except KasokoError:
        return False
    return True


@config.reads()
def show(
    call: CommandContext, origin: Annotated[bool, flag("--origin", "Also where each value came from.")] = False
) -> None:
    """Show every setting in force; secrets and passwords are hidden.

    Example: kasoko config show --origin

    Example: kasoko config show --verbose

    Exit status: 0 shown, 3 a setting cannot be used.
    """
    explained = call.container.config.explain()
    columns = render.columns("setting", "value", *(["origin"] if origin else []), "unit")
    rows = [(one.setting, one.value, *([one.origin] if origin else []), one.unit) for one in explained]
    if call.verbose:
        columns += render.columns("meaning")
        rows = [(*row, one.meaning) for row, one in zip(rows, explained, strict=True)]
    render.table(call, "Settings", columns, rows, document={"settings": explained})


@credential.writes("encrypt")
def encrypt(
    call: CommandContext,
    environment: Annotated[
        str | None, option("--environment", "NAME", "sandbox or production; else as the settings say.")
    ] = None,
    certificate: Annotated[
        Path | None, option("--certificate", "FILE", "Safaricom's certificate; else the one that came along.")
    ] = None,
) -> None:
    """Encrypt the initiator's password for MPESA_SECURITY_CREDENTIAL_ENCRYPTED.

    The password is asked for without showing it; off a terminal it is the first
    line of stdin. It is kept nowhere. Each answer differs, and each one works.

    Example: kasoko credential encrypt

    Example: kasoko credential encrypt --environment production

    Exit status: 0 printed, 2 no such environment, 4 no such certificate.
    """
    from kasoko_cli.cli.options import WrongUsage
    from kasoko_cli.daraja.credentials import bundled_certificate, encrypt_security_credential

    if environment not in {None, "sandbox", "production"}:
        raise WrongUsage(f"--environment is {environment!r}; it is sandbox or production.")
    chosen = environment or ("production" if call.container.config.daraja.production else "sandbox")
    pem = bundled_certificate(chosen) if certificate is None else _read_certificate(certificate)
    password = render.ask_secret(f"Initiator password ({chosen}, not shown):")
    sealed = encrypt_security_credential(password, pem)
    noted = _note_encrypted(call, sealed, chosen)
    render.answer(call, {"environment": chosen, "security_credential": sealed}, sealed, even_quiet=True)
    render.talk(call, "Set it as MPESA_SECURITY_CREDENTIAL_ENCRYPTED. M-Pesa lets the password grow 90 days old.")
    if not noted:
        render.talk(
            call,
            "There is no database here to write down when: set daraja.security_credential_set_on, for kasoko doctor.",
        )


def _read_certificate(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise NotFound(
            f"Cannot read the certificate {file}: {error.strerror}.",
            hint="Nothing was encrypted. Leave --certificate out to use the one that came along.",
        ) from None
