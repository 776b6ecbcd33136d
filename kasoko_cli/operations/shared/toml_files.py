"""Files of rules that an operator may write, a tariff or duties: one way to read them and to say what is wrong."""

from __future__ import annotations

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from kasoko_cli.errors import ConfigurationError


def read_text(source: Path | Traversable, what: str, *, undone: str, hint: str) -> str:
    """The text of a file. `what` names it, and `undone` says what was not done where it cannot be read.

    Raises ConfigurationError if it cannot be read.
    """
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"Cannot read {what}: {reason}. {undone}", hint=hint) from None


def parse(text: str, what: str, *, hint: str) -> dict[str, Any]:
    """What a text holds as TOML; `what` names it with its verb, "The tariff FILE is".

    Raises ConfigurationError if it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{what} not valid TOML: {error}.", hint=hint) from None
