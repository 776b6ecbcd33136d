"""kasoko.toml and the environment -> one frozen Config; secrets never in repr.

Four layers, each over the one before: `kasoko.toml` (no secrets, may be committed), `.env` beside it,
the environment, the options of the command. The loader is our own because an operator must be able to
ask of every value where it came from; pydantic only says whether a value can be used.

An empty text counts as not set in every layer, so that `MPESA_PAYBILL=` in a compose file is harmless.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from kasoko_cli.domain.market import DeadHeat, MinDividend, Rounding
from kasoko_cli.errors import ConfigurationError

#: Where settings are looked for when no --config is given.
FILE_NAME = "kasoko.toml"

#: Daraja's two environments. Source: Daraja portal, "Getting Started".
SANDBOX_URL = "https://sandbox.safaricom.co.ke"
PRODUCTION_URL = "https://api.safaricom.co.ke"

#: Words that Daraja refuses anywhere in a callback URL, in any case. Source: Daraja portal, B2C page.
FORBIDDEN_IN_CALLBACK = ("mpesa", "m-pesa", "safaricom", "exe", "exec", "cmd", "sql", "query")

#: The path that older deployments carry in MPESA_CALLBACK_URL; our own paths are added after it is taken off.
OLD_CALLBACK_PATH = "/api/payments/b2c-callback"

#: A secrets file is read whole; nothing that we keep in one is longer than this, in bytes.
LONGEST_SECRET = 65_536

HIDDEN = "(hidden)"
NOT_SET = "(not set)"


# --- What a value may be -------------------------------------------------------------------------


def _whole_shillings(value: object) -> object:
    """`10`, `"10"` and `"10.00"` are ten shillings; ten and a half, or a float, are refused."""
    if isinstance(value, str | Decimal):
        try:
            amount = Decimal(value)
        except InvalidOperation:
            raise ValueError("must be a whole number of shillings, like 10") from None
        if not amount.is_finite() or amount != amount.to_integral_value() or abs(amount) > 10**12:
            raise ValueError("must be a whole number of shillings, like 10")
        return int(amount)
    if isinstance(value, float):
        raise ValueError("must be a whole number of shillings, like 10")  # noqa: TRY004 - pydantic wants ValueError
    return value


def _percent(value: object) -> object:
    """`"5.00"`, `5` and (from TOML, as a Decimal) `5.25` are percentages of at most two decimals."""
    wrong = "must be a percentage with at most two decimals, like 5.00"
    if isinstance(value, float) or not isinstance(value, str | int | Decimal):
        raise ValueError(wrong)  # noqa: TRY004 - pydantic wants ValueError
    try:
        percent = Decimal(value)
    except InvalidOperation:
        raise ValueError(wrong) from None
    if not percent.is_finite() or abs(percent) > 10**6 or percent * 100 != (percent * 100).to_integral_value():
        raise ValueError(wrong)
    return percent


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(value: str) -> str:
    """An http(s) address without user, password, question mark or fragment; a closing slash is taken off."""
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("must be an address like https://pay.example.org") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_valid or re.search(r"[\s\\]", value):
        raise ValueError("must be an address like https://pay.example.org")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be an address without user, password, question mark or fragment")
    return value.rstrip("/")


def _base_url(value: str) -> str:
    if not value:
        return value
    value = _url(value)
    parts = urlsplit(value)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https:// (http:// is only for this machine, 127.0.0.1)")
    return value


def _callback_url(value: str) -> str:
    value = _url(value).removesuffix(OLD_CALLBACK_PATH)
    found = [word for word in FORBIDDEN_IN_CALLBACK if word in value.lower()]
    if found:
        raise ValueError(f"must not contain {found[0]!r}: Daraja refuses addresses with that word in them")
    return value


def _plain_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be one line of plain characters without spaces")
    return value


def _callback_key(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2}){32,}", value.get_secret_value()):
        raise ValueError("must be hex digits, 64 or more (make one: openssl rand -hex 32)")
    return value


def _database_url(value: str) -> str:
    if not re.match(r"(sqlite|postgresql)(\+\w+)?://", value):
        raise ValueError("must be like sqlite:///kasoko.db or postgresql://user@host/name")
    return value


Kes = Annotated[int, BeforeValidator(_whole_shillings), Field(ge=1, le=1_000_000_000)]
Percent = Annotated[Decimal, BeforeValidator(_percent)]
Secret = Annotated[SecretStr, AfterValidator(_plain_secret)]
WaitSeconds = Annotated[int, Field(ge=1, le=86_400)]


# --- The settings --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """What is known of a setting besides its value: for `config show`, and for the loader."""

    #: What it means, in a sentence.
    meaning: str
    #: What one of it is: seconds, shillings, percent; empty for names and addresses.
    unit: str = ""
    #: Its name in the environment and in `.env`; empty if it has none.
    variable: str = ""
    #: May not stand in kasoko.toml, is never shown, may be given as a file.
    secret: bool = False
    #: May be given as NAME_FILE; true of every secret, and of the database's address, which may hold a password.
    file: bool = False


class Group(BaseModel):
    """One table of kasoko.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """To pydantic `true` is a good 1; to an operator it is a slip."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("must not be true or false")
        return value


class DatabaseSettings(Group):
    """Where the books are."""

    url: Annotated[
        str,
        AfterValidator(_database_url),
        Field(repr=False),
        Setting("Where everything is kept: a SQLite file or PostgreSQL.", variable="KASOKO_DATABASE_URL", file=True),
    ] = "sqlite:///kasoko.db"

    @field_serializer("url")
    def _without_password(self, url: str) -> str:
        return mask_url(url)


class DarajaSettings(Group):
    """The account with M-Pesa."""

    production: Annotated[
        bool, Setting("Real money: Daraja's production instead of its sandbox.", variable="MPESA_PRODUCTION")
    ] = False
    base_url: Annotated[
        str,
        AfterValidator(_base_url),
        Setting("Daraja's address; by itself the one that production says.", variable="MPESA_BASE_URL"),
    ] = ""
    shortcode: Annotated[
        Annotated[str, Field(pattern=r"^\d{5,10}$")] | None,
        Setting("The number that pays: your paybill or B2C shortcode.", variable="MPESA_PAYBILL"),
    ] = None
    initiator_name: Annotated[
        Annotated[str, Field(max_length=100, pattern=r"^\S+$")] | None,
        Setting("The user name of the API operator on the M-Pesa portal.", variable="MPESA_INITIATOR_NAME"),
    ] = None
    callback_url: Annotated[
        Annotated[str, AfterValidator(_callback_url)] | None,
        Setting("Where the world reaches `kasoko listen`, without our path.", variable="MPESA_CALLBACK_URL"),
    ] = None
    api: Annotated[
        Literal["v3", "v1"], Setting("The B2C interface; v1 takes no id of ours, so it never sends twice.")
    ] = "v3"
    command_id: Annotated[
        Literal["BusinessPayment", "PromotionPayment", "SalaryPayment"],
        Setting("The kind of payment that M-Pesa books and that the receiver reads."),
    ] = "BusinessPayment"
    timeout_seconds: Annotated[
        int, Field(ge=1, le=300), Setting("How long one silence of Daraja may last.", unit="seconds")
    ] = 30
    total_seconds: Annotated[
        int, Field(ge=1, le=600), Setting("How long one request may take altogether.", unit="seconds")
    ] = 45
    remarks: Annotated[
        str,
        # Source: reports of lost requests with other characters in free text; Daraja portal, B2C page: 2 to 100.
        Field(min_length=2, max_length=100, pattern=r"^[A-Za-z0-9 -]+$"),
        Setting("The remark on each payment: letters, digits, space, hyphen."),
    ] = "Prediction market payout"
    consumer_key: Annotated[
        Secret | None, Setting("The app's key on the Daraja portal.", variable="MPESA_CONSUMER_KEY", secret=True)
    ] = None
    consumer_secret: Annotated[
        Secret | None, Setting("The app's secret on the Daraja portal.", variable="MPESA_CONSUMER_SECRET", secret=True)
    ] = None
    security_credential: Annotated[
        Secret | None,
        Setting(
            "The initiator's encrypted password: kasoko credential encrypt.",
            variable="MPESA_SECURITY_CREDENTIAL_ENCRYPTED",
            secret=True,
        ),
    ] = None

    @model_validator(mode="after")
    def _address_of_the_environment(self) -> DarajaSettings:
        if not self.base_url:
            object.__setattr__(self, "base_url", PRODUCTION_URL if self.production else SANDBOX_URL)
        return self


class MarketSettings(Group):
    """What a new market gets when it says nothing else; frozen into the market when it closes."""

    fee_pct: Annotated[
        Percent,
        Field(ge=0, le=100),
        Setting("The operator's share of the gross pool.", unit="percent", variable="PAYOUT_PLATFORM_FEE_PCT"),
    ] = Decimal("5.00")
    rounding: Annotated[
        Rounding,
        Setting("Who gets what rounding leaves: the house, or the largest fractions."),
    ] = Rounding.HOUSE
    break_unit_cents: Annotated[
        int, Field(ge=1, le=100_000), Setting("Payouts are rounded down to a multiple of this.", unit="cents")
    ] = 1
    dead_heat: Annotated[DeadHeat, Setting("How several winning outcomes share the pool.")] = DeadHeat.STAKE
    min_dividend: Annotated[
        MinDividend,
        Setting("Who makes up the minimum dividend: nobody, the fee, the house."),
    ] = MinDividend.NONE
    min_dividend_pct: Annotated[
        Percent, Field(ge=0, le=1000), Setting("The least a winner gets back of the stake.", unit="percent")
    ] = Decimal("100.00")

    @property
    def fee_bps(self) -> int:
        """The fee in basis points: 5.00 percent is 500."""
        return int(self.fee_pct * 100)

    @property
    def min_dividend_bps(self) -> int:
        """The least that comes back, in basis points of the stake: 100 percent is 10000."""
        return int(self.min_dividend_pct * 100)


class PayoutSettings(Group):
    """How payouts are sent."""

    min_kes: Annotated[
        Kes, Setting("Less than this goes to the wallet.", unit="shillings", variable="PAYOUT_MIN_AMOUNT")
    ] = 10
    max_kes: Annotated[Kes, Setting("A payout above this is sent in several legs.", unit="shillings")] = 250_000
    daily_kes: Annotated[Kes, Setting("The most one phone is sent in one Nairobi day.", unit="shillings")] = 500_000
    concurrency: Annotated[int, Field(ge=1, le=64), Setting("How many requests are out at once.", unit="requests")] = 4
    rate_per_second: Annotated[
        float,
        Field(gt=0, le=1000, allow_inf_nan=False),
        Setting("How many payments are begun in a second.", unit="requests a second"),
    ] = 5.0
    retry_schedule_seconds: Annotated[
        tuple[WaitSeconds, ...],
        Field(max_length=20),
        Setting("The waits before a payout that was not sent is tried again.", unit="seconds"),
    ] = (120, 240, 480, 960, 1920)
    lease_seconds: Annotated[
        int, Field(ge=10, le=86_400), Setting("How long a sender owns a payout.", unit="seconds")
    ] = 300
    confirm_failures_above_kes: Annotated[
        Kes,
        Setting("A failure above this is confirmed by a status query before a retry.", unit="shillings"),
    ] = 10_000

    @property
    def min_cents(self) -> int:
        """The least that is sent to a phone, in cents."""
        return self.min_kes * 100

    @property
    def max_cents(self) -> int:
        """The most that one payment carries, in cents."""
        return self.max_kes * 100

    @property
    def daily_cents(self) -> int:
        """The most that one phone is sent in one Nairobi day, in cents."""
        return self.daily_kes * 100

    @property
    def confirm_failures_above_cents(self) -> int:
        """Above this many cents a failure is confirmed by a status query before a new attempt."""
        return self.confirm_failures_above_kes * 100


class ListenerSettings(Group):
    """Where results arrive."""

    host: Annotated[
        str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:_-]+$"), Setting("The address to listen on.")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535), Setting("The port to listen on; 0 takes any free one.")] = 8321
    believe_success_without_ack: Annotated[
        bool, Setting("Believe a success whose acknowledgement was lost without asking.")
    ] = False
    callback_key: Annotated[
        Annotated[SecretStr, AfterValidator(_callback_key)] | None,
        Setting("Signs the address that each result comes to.", variable="KASOKO_CALLBACK_KEY", secret=True),
    ] = None

    def callback_key_bytes(self) -> bytes:
        """The key as bytes, 32 or more.

        Raises:
            ConfigurationError: no key is set.
        """
        if self.callback_key is None:
            raise _missing(["listener.callback_key"])
        return bytes.fromhex(self.callback_key.get_secret_value())


class ReconcileSettings(Group):
    """When we begin to ask."""

    after_seconds: Annotated[
        int, Field(ge=1, le=86_400), Setting("How long a result may be late before it is asked for.", unit="seconds")
    ] = 300


@dataclass(frozen=True)
class Explained:
    """One setting as `config show` tells it; secrets and passwords are already masked."""

    setting: str
    value: str
    origin: str
    unit: str
    meaning: str
    variable: str


class Config(Group):
    """All settings of one run. Made by `load_config`; secrets are in no repr, dump or error."""

    database: DatabaseSettings = DatabaseSettings()
    daraja: DarajaSettings = DarajaSettings()
    market: MarketSettings = MarketSettings()
    payout: PayoutSettings = PayoutSettings()
    listener: ListenerSettings = ListenerSettings()
    reconcile: ReconcileSettings = ReconcileSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _file: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _one_with_another(self) -> Config:
        """What no setting can say alone. The messages name every setting they speak of."""
        pay, daraja = self.payout, self.daraja
        if not pay.min_kes <= pay.max_kes <= pay.daily_kes:
            raise ValueError(
                f"payout.min_kes ({pay.min_kes}), payout.max_kes ({pay.max_kes}) and payout.daily_kes "
                f"({pay.daily_kes}) must not get smaller in this order"
            )
        if daraja.timeout_seconds > daraja.total_seconds:
            raise ValueError(
                f"daraja.timeout_seconds ({daraja.timeout_seconds}) must not be above "
                f"daraja.total_seconds ({daraja.total_seconds})"
            )
        # A lease that runs out while a request is still open would let a second sender in.
        if pay.lease_seconds <= daraja.total_seconds:
            raise ValueError(
                f"payout.lease_seconds ({pay.lease_seconds}) must be above "
                f"daraja.total_seconds ({daraja.total_seconds})"
            )
        if daraja.production and daraja.callback_url is not None and daraja.callback_url.startswith("http:"):
            raise ValueError("daraja.callback_url must begin with https:// when daraja.production is true")
        return self

    @property
    def file(self) -> Path | None:
        """The kasoko.toml that was read, if there was one."""
        return self._file

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know although the run can go on, a sentence each."""
        return self._warnings

    def origin(self, setting: str) -> str:
        """Where the value of `payout.min_kes` came from: default, kasoko.toml:12, .env, environment NAME ..."""
        return self._origins.get(setting, "default")

    def explain(self) -> list[Explained]:
        """Every setting, its value (secrets masked) and where it came from, in the order of kasoko.toml.example."""
        return [
            Explained(
                setting=name,
                value=_shown(getattr(getattr(self, name.split(".")[0]), name.split(".")[1]), about),
                origin=self.origin(name),
                unit=about.unit,
                meaning=about.meaning,
                variable=about.variable,
            )
            for name, about in SETTINGS.items()
        ]

    def require_daraja(self) -> None:
        """Hold that everything is set which paying needs.

        Raises:
            ConfigurationError: with all that is missing, by name.
        """
        missing = [name for name in NEEDED_TO_PAY if self._value(name) is None]
        if missing:
            raise _missing(missing)

    def redact(self, text: str) -> str:
        """The text without any secret of this configuration in it; for tracebacks."""
        secrets = [value.get_secret_value() for name in SETTINGS if isinstance(value := self._value(name), SecretStr)]
        secrets.append(_password(self.database.url))
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text

    def _value(self, setting: str) -> object:
        group, name = setting.split(".")
        return getattr(getattr(self, group), name)


def _settings() -> dict[str, Setting]:
    """Every setting by its dotted name, in the order in which they are written above."""
    found: dict[str, Setting] = {}
    for group_name, group in Config.model_fields.items():
        assert isinstance(group.annotation, type)
        assert issubclass(group.annotation, Group)
        for name, field in group.annotation.model_fields.items():
            found[f"{group_name}.{name}"] = next(m for m in field.metadata if isinstance(m, Setting))
    return found


#: Every setting there is: `payout.min_kes` and what is known of it.
SETTINGS: Mapping[str, Setting] = _settings()

#: What `require_daraja` asks for.
NEEDED_TO_PAY = (
    "daraja.shortcode",
    "daraja.initiator_name",
    "daraja.callback_url",
    "daraja.consumer_key",
    "daraja.consumer_secret",
    "daraja.security_credential",
    "listener.callback_key",
)

#: The options of commands that overrule a setting.
OPTIONS: Mapping[str, str] = {
    "--database": "database.url",
    "--host": "listener.host",
    "--port": "listener.port",
}


# --- Loading -------------------------------------------------------------------------------------


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
) -> Config:
    """Read the four layers and make one Config of them.

    Args:
        file: the operator's --config; without it, kasoko.toml in `folder` if there is one.
        options: what the command was given, by option: `{"--database": "sqlite:///a.db"}`; None is not given.
        environ: the environment; this process's own if not handed in.
        folder: where kasoko.toml and .env are looked for; the current one if not handed in.

    Raises:
        ConfigurationError: a file cannot be read, a name is no setting, a secret stands in kasoko.toml,
            or a value cannot be used. The message names each setting, its origin and its value.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    if file is None and (folder / FILE_NAME).is_file():
        file = folder / FILE_NAME
    home = folder if file is None else file.parent

    warnings: list[str] = []
    given: dict[str, _Given] = {}
    if file is not None:
        given |= _from_toml(file)
    given |= _from_dotenv(home / ".env", warnings)
    given |= _from_environment(environ, folder, "environment {}", warnings)
    for option, value in (options or {}).items():
        if value is not None:
            given[OPTIONS[option]] = _Given(value, f"option {option}")

    config = _validated(given, folder=folder, home=home)
    config._origins = {name: one.origin for name, one in given.items()}
    config._warnings = tuple(warnings)
    config._file = file
    return config


def _from_toml(file: Path) -> dict[str, _Given]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"Cannot read the configuration {file}: {reason}.",
            hint="Point --config at a file that is there, or make one: kasoko init",
        ) from None
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
            origin = f"{file.name}:{line}" if line else file.name
            if setting not in SETTINGS or SETTINGS[setting].secret:
                raise _not_a_setting(setting, origin)
            if setting == "database.url" and isinstance(value, str) and _password(value):
                raise _secret_in_toml("database.url", origin, "holds a password")
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


def _from_dotenv(file: Path, warnings: list[str]) -> dict[str, _Given]:
    if not file.is_file():
        return {}
    try:
        # As written: a `$` in a secret is a `$`.
        values = dotenv_values(file, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"Cannot read {file}: {reason}.", hint="Mend its rights or its text.") from None
    if any(values.get(about.variable) for about in SETTINGS.values() if about.secret):
        _warn_if_others_can_read(file, warnings)
    present = {name: value for name, value in values.items() if value is not None}
    return _from_environment(present, file.parent, ".env", warnings)


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
    for name in environ:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
        if name not in known and near and near[0] not in environ:
            warnings.append(f"{name} is no setting of kasoko. Did you mean {near[0]}?")
    return given


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
        config = Config.model_validate(tree)
    except ValidationError as error:
        wrong += [_explained(problem, given) for problem in error.errors(include_input=False, include_url=False)]
    if wrong:
        message = wrong[0] if len(wrong) == 1 else f"{len(wrong)} settings cannot be used:\n  " + "\n  ".join(wrong)
        raise ConfigurationError(
            message.rstrip(".") + ".", hint="Every setting, its unit and its meaning: kasoko.toml.example"
        )
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
    expected = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    setting = ".".join(str(part) for part in problem["loc"][:2])
    if setting not in given:  # a rule that joins several settings names them itself
        return str(expected)
    if problem["type"] == "string_pattern_mismatch":
        expected = EXPECTED.get(setting, expected)
    return f"{_told(setting, given[setting])} {expected[:1].lower()}{expected[1:]}"


#: What to say instead of a regular expression.
EXPECTED: Mapping[str, str] = {
    "daraja.shortcode": "must be a shortcode of digits only, like 600999",
    "daraja.initiator_name": "must be one word",
    "daraja.remarks": "must be letters, digits, spaces and hyphens only",
    "listener.host": "must be an address like 127.0.0.1",
}


def _told(setting: str, one: _Given) -> str:
    return f"{setting} = {_shown(one.value, SETTINGS[setting])} ({one.origin})"


def _shown(value: object, about: Setting) -> str:
    """A value as a person may see it: no secret, no password, not too long."""
    if value is None or value == "":
        return NOT_SET
    if about.secret:
        return HIDDEN
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(str(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    text = mask_url(str(value))
    return text if len(text) <= 120 else text[:117] + "..."


def mask_url(url: str) -> str:
    """The address without its password: `postgresql://kasoko:***@db/kasoko`."""
    password = _password(url)
    return url.replace(f":{password}@", ":***@", 1) if password else url


def _password(url: str) -> str:
    """The password in `scheme://user:password@host`, or an empty text."""
    found = re.match(r"[\w+.-]+://[^/:@]*:(.+)@", url)
    return found[1] if found else ""


def _not_a_setting(setting: str, origin: str) -> ConfigurationError:
    for name, about in SETTINGS.items():
        if about.secret and setting in {name, about.variable}:
            return _secret_in_toml(name, origin, "is a secret")
    by_last_word = {name.split(".")[1]: name for name in SETTINGS}
    near = difflib.get_close_matches(setting, SETTINGS, n=1, cutoff=0.6)
    near = near or [by_last_word[w] for w in difflib.get_close_matches(setting.split(".")[-1], by_last_word, n=1)]
    return ConfigurationError(
        f"{setting} ({origin}) is no setting of kasoko." + (f" Did you mean {near[0]}?" if near else ""),
        hint="Every setting, its unit and its meaning: kasoko.toml.example",
    )


def _secret_in_toml(setting: str, origin: str, why: str) -> ConfigurationError:
    variable = SETTINGS[setting].variable
    return ConfigurationError(
        f"{setting} ({origin}) {why} and must not stand in {FILE_NAME}, which others may read.",
        hint=f"Move it to .env as {variable}=..., or name a file that holds it: {variable}_FILE. "
        "If the file was ever shared, have the secret replaced.",
    )


def _missing(settings: list[str]) -> ConfigurationError:
    named = ", ".join(f"{name} ({SETTINGS[name].variable})" for name in settings)
    number = "one setting that is" if len(settings) == 1 else f"{len(settings)} settings that are"
    return ConfigurationError(
        f"Paying by M-Pesa needs {number} not set: {named}.",
        hint="Nothing was sent. Set them in .env or the environment, then look: kasoko config show --origin",
    )
