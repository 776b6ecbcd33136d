"""The files that `kasoko init` leaves behind: settings to read, and a place for the secrets."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from kasoko_cli.config import SETTINGS
from kasoko_cli.errors import ConfigurationError

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


def write_settings(file: Path) -> FirstFile:
    """Write kasoko.toml from the template unless it is there.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    written = _create(file, template(), mode=0o644)
    return FirstFile(file, written, "written" if written else "is there, left alone")


def write_secrets(file: Path) -> FirstFile:
    """Write .env with a fresh callback key, or add the key to one that has none.

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
        "# Signs the addresses that results come to. Changing it orphans payouts under way.\n"
        + key
        + "\n# From the Daraja portal; the last one from: kasoko credential encrypt\n"
        + "".join(f"# {name}=\n" for name in names)
    )
    if _create(file, text, mode=0o600):
        return FirstFile(file, True, "written, with a fresh key; fill in the secrets of the Daraja portal")
    from dotenv import dotenv_values

    try:
        present = dotenv_values(file, interpolate=False, encoding="utf-8")
        if present.get(OWN_KEY) or present.get(f"{OWN_KEY}_FILE") or os.environ.get(OWN_KEY):
            return FirstFile(file, False, "is there, left alone")
        with file.open("a", encoding="utf-8") as opened:
            opened.write(f"\n{key}")
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot_write(file, error) from None
    return FirstFile(file, True, f"is there; {OWN_KEY} was added")


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
