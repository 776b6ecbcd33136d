"""The files that `kasoko init` leaves behind: settings to read, and a place for the secrets."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from kasoko_cli.config import SETTINGS, Config, load_config
from kasoko_cli.errors import ConfigurationError, Refused
from kasoko_cli.store.engine.database import Database

#: The template, in the package, so that an installed kasoko has it too.
TEMPLATE = "kasoko.toml.example"

#: The secret that init makes itself; the others come from Safaricom.
OWN_KEY = "KASOKO_CALLBACK_KEY"


@dataclass(frozen=True)
class FirstFile:
    """One file that init looked after."""

    file: Path
    #: Whether this call wrote it, or a part of it.
    written: bool
    #: The same in words.
    did: str


def template() -> str:
    """The text of a new kasoko.toml: every setting, its default, unit and meaning."""
    return files("kasoko_cli").joinpath(TEMPLATE).read_text(encoding="utf-8")


def foreseen(file: Path, values: Mapping[str, str], *, database_url: str | None) -> Config:
    """The settings as they will be once kasoko.toml is written with these values, if it is not there yet.

    Raises:
        ConfigurationError: they cannot be used, because of a file that is there, the environment, or one another.
    """
    text = None if file.exists() else filled(values)
    return load_config(file, text=text, options={"--database": database_url})


def write_settings(file: Path, values: Mapping[str, str]) -> FirstFile:
    """Write kasoko.toml from the template, with these values in it, unless it is there.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    written = _create(file, filled(values), mode=0o644)
    return FirstFile(file, written, "written" if written else "is there, left alone")


def filled(values: Mapping[str, str]) -> str:
    """The template with these settings in the place of their defaults; each name in it stands in one table only."""
    text = template()
    for setting, value in values.items():
        name = setting.split(".")[1]
        written = value if setting == "daraja.production" else json.dumps(value)
        text, count = re.subn(rf"(?m)^{name} = .*$", lambda _, line=f"{name} = {written}": line, text, count=1)  # type: ignore[misc]
        assert count == 1, f"the template has {setting}"
    return text


def refuse_other_settings(file: Path, wanted: Mapping[str, str]) -> None:
    """Check that the settings which are in force say what the options say, as a kasoko.toml that is there stays.

    Raises:
        Refused: one of them is something else; the message says where it was set.
    """
    if not file.exists() or not wanted:
        return
    config = load_config(file)
    for setting, value in wanted.items():
        if (found := config.shown_value(setting)) != value:
            origin = config.origin(setting)
            where = {"default": f"{file} does not set it"}.get(origin, f"set in {origin}")
            raise Refused(
                f"{setting} is {found} and not {value} ({where}). Nothing was changed.",
                hint=f"init never changes a setting that is there. Change {setting} yourself"
                f" {f'in {file}' if origin == 'default' else 'there'}, then run init without that option.",
            )


def new_deployment() -> str:
    """A random name for a new deployment."""
    return secrets.token_hex(8)


def refuse_second_database(file: Path, config: Config) -> None:
    """Hold that a database that is missing has never been: nothing beside it shows that there was one.

    Raises:
        Refused: settings are there, or the key that signed the addresses of results.
    """
    env = file.parent / ".env"
    has_key = env.is_file() and OWN_KEY in env.read_text(encoding="utf-8", errors="replace")
    there = [str(one.resolve()) for one, stands in ((file, file.exists()), (env, has_key)) if stands]
    if there:
        place = Database(config.database.url).place
        raise Refused(
            f"There is no database at {place}, and {' and '.join(there)} {'is' if len(there) == 1 else 'are'} here."
            " Nothing was changed.",
            hint="Is the database in another folder, or on another name (database.url)? Is there a backup (kasoko db"
            " restore FILE)? A new one does not know who was paid, and would pay them again. If nobody ever was: kasoko"
            " init --new-deployment",
        )


def write_secrets(file: Path, answers: Mapping[str, str], *, missing: bool) -> FirstFile:
    """Write .env with a fresh callback key and these secrets, or add to one what it has not.

    `missing` is whether paying needs a secret that is set nowhere yet.

    The file is for its owner alone. What stands in it is never changed: another key would make the
    results of payouts that are under way unreadable.

    Raises:
        ConfigurationError: the file cannot be read or written.
    """
    names = [about.variable for about in SETTINGS.values() if about.secret and about.variable != OWN_KEY]
    key = f"{OWN_KEY}={secrets.token_hex(32)}\n"
    text = (
        "# The secrets of kasoko. For its owner alone: never commit it, never send it.\n"
        "# Instead of a value, NAME_FILE=/path may name a file that holds it.\n\n"
        "# Signs the addresses that results come to. To change it: new value here, the old one in\n"
        "# KASOKO_OLD_CALLBACK_KEYS until no payout that was sent before is open (kasoko reconcile).\n"
        + key
        + "\n# From the Daraja portal; the last one from: kasoko credential encrypt\n"
        + "".join(_line(name, answers[name]) if name in answers else f"# {name}=\n" for name in names)
    )
    if _create(file, text, mode=0o600):
        rest = "; fill in the secrets of the Daraja portal" if missing else ""
        return FirstFile(file, True, f"written, with a fresh key{rest}")
    from dotenv import dotenv_values

    try:
        present = dotenv_values(file, interpolate=False, encoding="utf-8")
        has_key = present.get(OWN_KEY) or present.get(f"{OWN_KEY}_FILE") or os.environ.get(OWN_KEY)
        new = {} if has_key else {OWN_KEY: secrets.token_hex(32)}
        new |= {name: value for name, value in answers.items() if not present.get(name)}
        if not new:
            return FirstFile(file, False, "is there, left alone")
        with file.open("a", encoding="utf-8") as opened:
            opened.write("\n" + "".join(_line(name, value) for name, value in new.items()))
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot_write(file, error) from None
    added = f"{', '.join(new)} {'was' if len(new) == 1 else 'were'} added"
    return FirstFile(file, True, f"is there; {added}")


def _line(name: str, value: str) -> str:
    """One line of .env; a value that is more than letters, digits and base64 is quoted."""
    if re.fullmatch(r"[A-Za-z0-9+/=._-]+", value):
        return f"{name}={value}\n"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{escaped}'\n"


def _create(file: Path, text: str, *, mode: int) -> bool:
    """Create the file with this text; False if it is there already, whoever made it in the meantime."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return False
    except OSError as error:
        raise _cannot_write(file, error) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(descriptor)
    return True


def _cannot_write(file: Path, error: Exception) -> ConfigurationError:
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
    return ConfigurationError(
        f"Cannot write {file}: {reason}.",
        hint="Nothing else was changed. Choose a folder that you may write, and run it again.",
    )
