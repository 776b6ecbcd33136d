"""kasoko.toml and the environment -> one frozen Config; secrets never in repr.

Four layers, each over the one before: `kasoko.toml` (no secrets, may be committed), `.env` beside it,
the environment, the options of the command. The loader is our own because an operator must be able to
ask of every value where it came from. What can be set, and to what, is in `settings.py`.

An empty text counts as not set in every layer, so that `MPESA_PAYBILL=` in a compose file is harmless.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import ValidationError

from kasoko_cli.domain.addresses import passwords_in
from kasoko_cli.domain.payer import SAFARICOM
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.settings import SETTINGS, Config, DatabaseSettings, expected_of, shown

__all__ = ["SETTINGS", "Config", "load_config"]

#: Where settings are looked for when no --config is given.
FILE_NAME = "kasoko.toml"

#: A secrets file is read whole; nothing that we keep in one is longer than this, in bytes.
LONGEST_SECRET = 65_536

#: The options of commands that overrule a setting.
OPTIONS: Mapping[str, str] = {"--database": "database.url", "--host": "listener.host", "--port": "listener.port"}


@dataclass(frozen=True)
class _Given:
    """A value as it was written somewhere, before anyone looked at it."""

    value: object
    origin: str


def load_config(
    file: Path | None = None,
    *,
    options: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    text: str | None = None,
) -> Config:
    """Read the four layers and make one Config of them.

    Args:
        file: the operator's --config; without it, kasoko.toml in `folder` if there is one.
        options: what the command was given, by option: `{"--database": "sqlite:///a.db"}`; None is not given.
        environ: the environment; this process's own if not handed in.
        folder: where kasoko.toml and .env are looked for; the current one if not handed in.
        text: what `file` is going to hold, to judge it before it is written; else what it holds.

    Raises:
        ConfigurationError: a file cannot be read, a name is no setting, a secret stands in kasoko.toml,
            or a value cannot be used. The message names each setting, its origin and its value.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    if file is None and (folder / FILE_NAME).is_file():
        file = folder / FILE_NAME
    home = folder if file is None else file.parent

    def called(one: Path) -> str:
        # By its name where it lies in the folder we are in; else nobody knows which `.env` it is.
        return one.name if home.absolute() == folder.absolute() else str(one.absolute())

    warnings: list[str] = []
    given: dict[str, _Given] = {}
    if file is not None:
        given |= _from_toml(file, _text_of(file) if text is None else text, called=called(file))
    in_toml = dict(given)
    given |= _from_dotenv(home / ".env", warnings, called=called(home / ".env"))
    given |= _from_environment(environ, folder, "environment {}", warnings)
    for option, value in (options or {}).items():
        if value is not None:
            given[OPTIONS[option]] = _Given(value, f"option {option}")

    config = _validated(given, folder=folder, home=home)
    _hold_to_safaricom(config, given, in_toml)
    config._origins = {name: one.origin for name, one in given.items()}
    config._warnings = tuple(dict.fromkeys(warnings))
    config._file = file
    return config


def _hold_to_safaricom(config: Config, given: Mapping[str, _Given], in_toml: Mapping[str, _Given]) -> None:
    """Hold that no secret of real money goes elsewhere because of a `.env` that lies in the folder, or of a variable.

    What kasoko.toml says is for real money stays so. In production secrets go to Safaricom's host, unless kasoko.toml
    itself names another, and the usual authorities vouch for it, unless kasoko.toml itself names others.

    Raises:
        ConfigurationError: with the setting, its value and where it stands.
    """
    daraja, url, mode = config.daraja, given.get("daraja.base_url"), given.get("daraja.production")
    vouching = given.get("daraja.ca_file")
    if daraja.production and vouching is not None and vouching != in_toml.get("daraja.ca_file"):
        raise ConfigurationError(
            f"{_told('daraja.ca_file', vouching)} says whom secrets of real money go to, and only {FILE_NAME} may."
            " Nothing was sent.",
            hint=f"Take it out of {vouching.origin}; if it is right, write ca_file into {FILE_NAME}, under [daraja].",
        )
    stated = in_toml.get("daraja.production")
    if stated is not None and mode is not None and stated.value is True and not daraja.production:
        raise ConfigurationError(
            f"{_told('daraja.production', stated)}, and {mode.origin} says false. Nothing was sent.",
            hint=f"Take it out of {mode.origin}; if this is the sandbox now, change {stated.origin}.",
        )
    if url is None:
        return
    host, real = urlsplit(daraja.base_url).hostname or "", SAFARICOM["production"]
    if host == real and not daraja.production:
        raise ConfigurationError(
            f"{_told('daraja.base_url', url)} is for real money, and daraja.production is false. Nothing was sent.",
            hint="Set daraja.production (MPESA_PRODUCTION) to true, or take daraja.base_url out.",
        )
    stated = in_toml.get("daraja.base_url")
    if daraja.production and host != real and (stated is None or stated.value != url.value):
        raise ConfigurationError(
            f"{_told('daraja.base_url', url)} is not Safaricom's. In production secrets go to {real} only, unless"
            f" {FILE_NAME} itself says otherwise. Nothing was sent.",
            hint=f"Take it out of {url.origin}; if it is right, write base_url into {FILE_NAME}, under [daraja].",
        )


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"Cannot read the configuration {file}: {reason}.",
            hint="Point --config at a file that is there, or make one: kasoko init",
        ) from None


def _from_toml(file: Path, text: str, *, called: str) -> dict[str, _Given]:
    try:
        # Numbers with a point become Decimal: no float comes near a fee or an amount.
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{file} is not valid TOML: {error}.", hint='Text needs quotation marks: remarks = "Payout"'
        ) from None

    given: dict[str, _Given] = {}
    for group, table in document.items():
        names = table if isinstance(table, dict) and group in Config.model_fields else {None: table}
        for name, value in names.items():
            setting = group if name is None else f"{group}.{name}"
            line = _line_of(text, group, name)
            origin = f"{called}:{line}" if line else called
            if setting not in SETTINGS or SETTINGS[setting].secret:
                raise _not_a_setting(setting, origin)
            if setting in ("database.url", "daraja.proxy") and isinstance(value, str) and passwords_in(value):
                raise _secret_in_toml(setting, origin, "holds a password")
            if value != "":
                given[setting] = _Given(value, origin)
    return given


def _line_of(text: str, group: str, name: str | None) -> int | None:
    """The line on which a setting is written; None if it is written in a way that we do not follow."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            table = header[1]
            if name is None and table == group:
                return number
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            written = f"{table}.{key[1]}" if table else key[1]
            if written == (group if name is None else f"{group}.{name}"):
                return number
    return None


def _from_dotenv(file: Path, warnings: list[str], *, called: str) -> dict[str, _Given]:
    if not file.is_file():
        return {}
    try:
        values = lines_of(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"Cannot read {file}: {reason}.", hint="Mend its rights or its text.") from None
    if any(values.get(about.variable) for about in SETTINGS.values() if about.secret):
        _warn_if_others_can_read(file, warnings)
    return _from_environment(values, file.parent, called, warnings)


def lines_of(file: Path) -> dict[str, str]:
    """What each name of .env is set to, as written: a `$` in a secret is a `$`. A name without a value sets nothing.

    Raises:
        ConfigurationError: a line cannot be read, or a name has two values: nobody would know which one holds.
    """
    values: dict[str, str] = {}
    first: dict[str, int] = {}
    with file.open(encoding="utf-8") as opened:
        for line in parse_stream(opened):
            number = line.original.line + len(line.original.string) - len(line.original.string.lstrip("\n"))
            if line.error or (line.key is not None and line.value is None):
                named = re.match(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)", line.original.string)
                about = f" It is about {named[1]}." if named else ""
                raise ConfigurationError(
                    f"{file}, line {number}, cannot be read: it is no NAME=value.{about}",
                    hint="Mend the line; quote a value with spaces or # in it: NAME='the value'. Nothing was done.",
                )
            if line.key is None or not line.value:
                continue
            if line.key in values:
                raise ConfigurationError(
                    f"{file} gives {line.key} twice: on line {first[line.key]} and on line {number}.",
                    hint="Keep the one that holds. Nothing was done.",
                )
            values[line.key], first[line.key] = line.value, number
    return values


def _from_environment(environ: Mapping[str, str], folder: Path, origin: str, warnings: list[str]) -> dict[str, _Given]:
    """The settings that have a name there, and the secrets that are named as files."""
    given: dict[str, _Given] = {}
    known: set[str] = set()
    for setting, about in SETTINGS.items():
        if not about.variable:
            continue
        known.add(about.variable)
        value = environ.get(about.variable, "").strip()
        if value:
            given[setting] = _Given(value, origin.format(about.variable))
        if about.secret or about.file:
            file_variable = f"{about.variable}_FILE"
            known.add(file_variable)
            path = environ.get(file_variable, "").strip()
            if path and value:
                raise ConfigurationError(
                    f"{setting} is given twice: by {about.variable} and by {file_variable}.",
                    hint="Keep one of the two.",
                )
            if path:
                given[setting] = _Given(_read_secret(folder / path, file_variable, warnings), f"file {folder / path}")
    warnings += [words for name in environ if name not in known and (words := _unread(name, environ, known))]
    return given


#: What our names begin with; others begin with it too, where a cluster names its services.
_PREFIXES = ("KASOKO_", "MPESA_", "PAYOUT_")
_OF_OTHERS = re.compile(r"KASOKO_(HOST|TEST_.*|(.*_)?SERVICE_(HOST|PORT)(_.*)?|(.*_)?PORT_\d+_(TCP|UDP).*)")


def _unread(name: str, environ: Mapping[str, str], known: Set[str]) -> str:
    """What to say of a name that looks like a setting and that nothing reads; nothing of any other."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
    is_a_service = _OF_OTHERS.fullmatch(name) or environ[name].startswith("tcp://")
    is_ours = name.startswith(_PREFIXES) and not is_a_service
    if not is_ours and not (near and near[0] not in environ):
        return ""
    guess = near[0] if near else _setting_called(name.partition("_")[2]) if is_ours else ""
    return f"{name} is no setting of kasoko, and nothing reads it." + (f" Did you mean {guess}?" if guess else "")


def _setting_called(word: str) -> str:
    """How the setting is given that somebody may have meant by `SHORTCODE` or `PAYOUT_CONCURRENCY`; empty for none."""
    spelt = {name.partition(".")[2].upper(): name for name in SETTINGS}
    spelt |= {name.replace(".", "_").upper(): name for name in SETTINGS}
    spelt |= {about.variable.partition("_")[2]: name for name, about in SETTINGS.items() if about.variable}
    found = difflib.get_close_matches(word, spelt, n=1, cutoff=0.8)
    return (SETTINGS[spelt[found[0]]].variable or f"{spelt[found[0]]} in {FILE_NAME}") if found else ""


def _read_secret(file: Path, variable: str, warnings: list[str]) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(LONGEST_SECRET + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"Cannot read {file}, which {variable} names: {reason}.", hint="Mend the path or the file's rights."
        ) from None
    if len(text) > LONGEST_SECRET or not text.strip():
        wrong = "is empty" if not text.strip() else f"is longer than {LONGEST_SECRET} bytes"
        raise ConfigurationError(
            f"{file}, which {variable} names, {wrong}.", hint="Name the file of the secret itself."
        )
    _warn_if_others_can_read(file, warnings)
    return text.strip()


def _warn_if_others_can_read(file: Path, warnings: list[str]) -> None:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        warnings.append(f"{file} holds secrets and others on this machine can read it: chmod 600 {file}")


def _validated(given: Mapping[str, _Given], *, folder: Path, home: Path) -> Config:
    """Let pydantic judge the values, and say in the operator's words what it found."""
    tree: dict[str, dict[str, object]] = {}
    wrong: list[str] = []
    for setting, one in given.items():
        group, name = setting.split(".")
        tree.setdefault(group, {})[name] = one.value
    try:
        _place_database(tree, given, folder=folder, home=home)
        if authorities := tree.get("daraja", {}).get("ca_file"):
            from_outside = given["daraja.ca_file"].origin.startswith("environment")
            tree["daraja"]["ca_file"] = str((folder if from_outside else home).absolute() / str(authorities))
        config = Config.model_validate(tree)
    except ValidationError as error:
        wrong += [_explained(problem, given) for problem in error.errors(include_input=False, include_url=False)]
    if wrong:
        message = wrong[0] if len(wrong) == 1 else f"{len(wrong)} settings cannot be used:\n  " + "\n  ".join(wrong)
        hint = "Every setting, its unit and its meaning: kasoko help settings"
        if len(wrong) == 1 and wrong[0].startswith("daraja.callback_url must begin with https"):
            origin = given["daraja.callback_url"].origin
            hint = f"Set daraja.callback_url to one like https://pay.example.org where it stands: {origin}"
        raise ConfigurationError(message.rstrip(".") + ".", hint=hint)
    return config


def _place_database(
    tree: dict[str, dict[str, object]], given: Mapping[str, _Given], *, folder: Path, home: Path
) -> None:
    """Let a relative SQLite path of kasoko.toml or .env mean a place beside that file, from wherever we are called."""
    one = given.get("database.url")
    from_outside = one is not None and one.origin.startswith(("option", "environment"))
    url = DatabaseSettings().url if one is None else one.value
    if from_outside or home.resolve() == folder.resolve() or not isinstance(url, str):
        return
    relative = re.match(r"(sqlite(?:\+\w+)?:///)(?!/)(?!:memory:)(.+)", url)
    if relative:
        tree.setdefault("database", {})["url"] = f"{relative[1]}{home.resolve() / relative[2]}"


# --- Words for what is wrong ---------------------------------------------------------------------


def _explained(problem: Any, given: Mapping[str, _Given]) -> str:
    """One of pydantic's findings as a sentence: the setting, its value, its origin, what was expected."""
    setting = ".".join(str(part) for part in problem["loc"][:2])
    expected = expected_of(setting, problem)
    # A rule that joins several settings names them itself.
    return f"{_told(setting, given[setting])} {expected}" if setting in given else expected


def _told(setting: str, one: _Given) -> str:
    return f"{setting} = {shown(one.value, SETTINGS[setting])} ({one.origin})"


def _not_a_setting(setting: str, origin: str) -> ConfigurationError:
    if setting in Config.model_fields:
        return ConfigurationError(
            f"{setting} ({origin}) is a table of settings, not a setting.",
            hint=f"Write [{setting}] on a line of its own and its settings under it.",
        )
    for name, about in SETTINGS.items():
        if about.secret and setting in {name, about.variable}:
            return _secret_in_toml(name, origin, "is a secret")
    by_last_word = {name.split(".")[1]: name for name in SETTINGS}
    near = difflib.get_close_matches(setting, [*SETTINGS, *Config.model_fields], n=1, cutoff=0.6)
    near = near or [by_last_word[w] for w in difflib.get_close_matches(setting.split(".")[-1], by_last_word, n=1)]
    return ConfigurationError(
        f"{setting} ({origin}) is no setting of kasoko." + (f" Did you mean {near[0]}?" if near else ""),
        hint="Every setting, its unit and its meaning: kasoko help settings",
    )


def _secret_in_toml(setting: str, origin: str, why: str) -> ConfigurationError:
    variable = SETTINGS[setting].variable
    return ConfigurationError(
        f"{setting} ({origin}) {why} and must not stand in {FILE_NAME}, which others may read.",
        hint=f"Move it to .env as {variable}=..., or name a file that holds it: {variable}_FILE. "
        "If the file was ever shared, have the secret replaced.",
    )
