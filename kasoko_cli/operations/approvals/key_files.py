"""Files with keys: made once, readable by their owner alone; a private one is never taken for a public one."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from kasoko_cli.domain.keys import public_key_of
from kasoko_cli.errors import ConfigurationError, NotFound, Refused

#: What stands before the hex of a public key in its file, so that no private key passes for one.
PUBLIC = "ed25519:"
#: Where systemd puts the files that a unit is handed as credentials.
CREDENTIALS = "CREDENTIALS_DIRECTORY"


def make_seed(file: Path) -> bytes:
    """A new private key of 32 bytes in a file that its owner alone can read, as hex.

    Raises:
        FileExistsError: the file is there.
        OSError: it cannot be written.
    """
    seed = secrets.token_bytes(32)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
        new.write(seed.hex() + "\n")
    return seed


def seed_in(file: Path) -> bytes:
    """The private key in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not 64 hex digits.
    """
    seed = bytes.fromhex(file.read_text().strip())
    if len(seed) != 32:
        raise ValueError("a key has 32 bytes")
    return seed


def make_key(file: Path) -> Path:
    """Make a key of a person: the private half in `file`, the public one beside it; returns where that is.

    Raises:
        Refused: one of the files is there.
        ConfigurationError: they cannot be written.
    """
    public = file.with_name(file.name + ".pub")
    if file.exists() or public.exists():
        raise Refused(
            f"There is a {file} or a {public} already. No key was made.",
            hint="A key that is lost is replaced: name another file, or move this one away.",
        )
    try:
        public.write_text(f"{PUBLIC}{public_key_of(make_seed(file))}\n")
    except OSError as error:
        raise ConfigurationError(
            f"The key {file} cannot be written: {error.strerror}.", hint="Name a file in a folder of your own."
        ) from error
    return public


def private_key(file: Path) -> bytes:
    """The key that a person signs with; from a file that only its owner can read, or from systemd.

    Raises:
        NotFound: there is no such file.
        ConfigurationError: it is no such key, or others can read it.
    """
    file, is_handed_in = _found(file)
    try:
        is_open = bool(stat.S_IMODE(file.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO))
        seed = seed_in(file)
    except FileNotFoundError:
        raise _no_key(file) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{file} is no key to sign with ({type(error).__name__}). Nothing was changed.",
            hint="It holds 64 hex digits, as kasoko approver key --output FILE makes it.",
        ) from error
    if is_open and not is_handed_in:
        raise ConfigurationError(
            f"Others than its owner can use the key {file}: it says nothing of who signs. Nothing was changed.",
            hint=f"If nobody has read it: chmod 600 {file}. Otherwise have it removed, and make another.",
        )
    return seed


def public_key(file: Path) -> str:
    """The public half of a person's key, as hex.

    Raises:
        NotFound: there is no such file.
        Refused: it holds no public key.
    """
    file, _ = _found(file)
    found = ""
    try:
        text = file.read_text().strip()
        if text.startswith(PUBLIC):
            found = bytes.fromhex(text.removeprefix(PUBLIC)).hex()
    except FileNotFoundError:
        raise _no_key(file) from None
    except (OSError, ValueError):
        pass
    if len(found) != 64:
        raise Refused(
            f"{file} is no public key. Nothing was changed.",
            hint=f"Name the file that ends with .pub: one line, {PUBLIC} and 64 hex digits. The private key stays with"
            " its owner.",
        )
    return found


def _no_key(file: Path) -> NotFound:
    return NotFound(f"There is no key {file}. Nothing was changed.", hint="Make one: kasoko approver key --output FILE")


def _found(file: Path) -> tuple[Path, bool]:
    """The file itself, or the one that systemd handed in under this name; and whether it is that."""
    handed = os.environ.get(CREDENTIALS)
    if handed and not file.exists() and file.name == str(file) and (Path(handed) / file).exists():
        return Path(handed) / file, True
    return file, bool(handed) and Path(handed or "") in file.parents
