"""systemd units, printed to be read and then installed."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.errors import ConfigurationError, Refused

commands = Commands("units")


@commands.reads("print")
def print_(
    call: CommandContext,
    folder: Annotated[str, option("--folder", "DIR", "Where kasoko.toml is.")] = "/srv/kasoko",
    user: Annotated[str, option("--user", "NAME", "The user that it runs as.")] = "kasoko",
    program: Annotated[str | None, option("--program", "FILE", "The kasoko to run; else this one.")] = None,
    credentials: Annotated[
        str, option("--credentials", "DIR", "A file for each secret, named like its variable.")
    ] = "/etc/kasoko/credentials",
    secrets_in_env: Annotated[bool, flag("--secrets-in-env", "The secrets stand in .env; no credentials.")] = False,
    metrics: Annotated[
        str, option("--metrics", "DIR", "The folder of node_exporter's textfile collector.")
    ] = "/var/lib/prometheus/node-exporter",
    max_total: Annotated[
        str | None,
        option(
            "--max-total",
            "KES",
            "The most that a run of the timer sends; else payout.confirm_slug_above_kes.",
            show_default=False,
        ),
    ] = None,
    socket: Annotated[bool, flag("--socket", "systemd holds the listener's port, also while it starts anew.")] = False,
    output: Annotated[
        Path | None, option("--output", "DIR", "Write each unit into DIR; nothing there is changed.")
    ] = None,
) -> None:
    """Print systemd units: the listener, and a timer for each job.

    Each secret is a credential: a file under /etc/kasoko/credentials that root
    alone can read, named like its variable. Take those out of .env. The jobs are
    payout, retry-failed, reconcile, metrics, audit, with alerts notify, with
    platform.mirror mirror, with privacy.keep_days expire, and on SQLite backup.
    Where more is due than --max-total, the timer sends nothing, and a person
    looks and sends it.

    Example: kasoko units print | less

    Example: kasoko units print --socket --output units

    Exit status: 0 printed, 3 a setting, or the folder cannot be written, 5 a file
    is there already, or a folder or user that no unit can hold.
    """
    from kasoko_cli.domain.addresses import passwords_in
    from kasoko_cli.domain.money import parse_kes, plain_kes
    from kasoko_cli.operations.admin.systemd_units import Place, make_units

    config = call.container.config
    url, most_cents = config.database.url, config.payout.confirm_slug_above_cents
    if max_total is not None:
        most_cents = parse_kes(max_total, what="largest total")
    place = Place(
        folder=PurePosixPath(folder),
        program=PurePosixPath(program or _this_program()),
        user=user,
        credentials=None if secrets_in_env else PurePosixPath(credentials),
        metrics=PurePosixPath(metrics),
        is_sqlite=url.startswith("sqlite"),
        database_is_secret=bool(passwords_in(url)),
        has_alerts=bool(config.alert_urls()),
        has_mirror=config.platform.mirror,
        has_expiry=bool(config.privacy.keep_days),
        most_kes=plain_kes(most_cents).removesuffix(".00"),
        listens_on=f"{config.listener.host}:{config.listener.port}" if socket else None,
    )
    _tell(call, make_units(place), output)


def _tell(call: CommandContext, units: dict[str, str], output: Path | None) -> None:
    if output is not None:
        _write(units, output)
    if call.json:
        render.document({"units": units, "written_to": output})
    elif output is not None:
        render.talk(call, f"{len(units)} units in {output}. Check: systemd-analyze verify {output}/*")
        render.talk(call, "Install: copy them to /etc/systemd/system, systemctl daemon-reload, systemctl enable --now")
    else:
        for name, text in units.items():
            render.records(f"# {name}\n{text}\n")


def _this_program() -> str:
    """The kasoko script that runs now, or the one beside this Python."""
    called = Path(sys.argv[0])
    beside = Path(sys.executable).with_name("kasoko")
    return str((called if called.name == "kasoko" and called.exists() else beside).absolute())


def _write(units: dict[str, str], folder: Path) -> None:
    if there := [name for name in units if (folder / name).exists()]:
        raise Refused(
            f"{folder / there[0]} is there already; nothing was written.", hint="Name an empty folder, and compare."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in units.items():
            (folder / name).write_text(text)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror}.", hint="Name a folder that can be."
        ) from error
