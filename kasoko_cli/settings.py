"""What can be set: every setting with its default, its unit, its meaning, and what its value may be.

pydantic says whether a value can be used; where values come from is `config.py`. Secrets are in no repr,
dump or error of what is here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

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

from kasoko_cli.daraja.callback_urls import base_of
from kasoko_cli.domain.addresses import shown_address, without_passwords
from kasoko_cli.domain.float_cover import FloatCheck
from kasoko_cli.domain.market import DeadHeat, MinDividend, Rounding
from kasoko_cli.domain.payer import is_loopback
from kasoko_cli.domain.time_text import zone_of
from kasoko_cli.errors import ConfigurationError, Refused

#: Daraja's two environments. Source: Daraja portal, "Getting Started".
SANDBOX_URL = "https://sandbox.safaricom.co.ke"
PRODUCTION_URL = "https://api.safaricom.co.ke"

HIDDEN = "(hidden)"
NOT_SET = "(not set)"

T = TypeVar("T")


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


def _url(value: str) -> str:
    """An http(s) address without user, password, question mark or fragment; a closing slash is taken off."""
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("must be an address like https://pay.example.org") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_valid:
        raise ValueError("must be an address like https://pay.example.org")
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be an address of plain characters without spaces")
    if parts.username or parts.password or "?" in value or "#" in value:
        raise ValueError("must be an address without user, password, question mark or fragment")
    return value.rstrip("/")


def _base_url(value: str) -> str:
    if not value:
        return value
    value = _url(value)
    parts = urlsplit(value)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https:// (http:// is only for this machine, 127.0.0.1)")
    return value


def _callback_url(value: str) -> str:
    """Without our own path, which older deployments carry in MPESA_CALLBACK_URL."""
    return base_of(_url(value))


def _like(pattern: str, otherwise: str) -> AfterValidator:
    """A text, secret or not, the whole of which has this form."""

    def check(value: str | SecretStr) -> str | SecretStr:
        if not re.fullmatch(pattern, value.get_secret_value() if isinstance(value, SecretStr) else value):
            raise ValueError(otherwise)
        return value

    return AfterValidator(check)


def _sources(value: tuple[str, ...]) -> tuple[str, ...]:
    for word in value:
        try:
            if word not in ("safaricom", "unix"):
                ipaddress.ip_network(word, strict=False)
        except ValueError:
            raise ValueError(f"must be addresses or networks like 10.0.0.0/8, and {word!r} is none") from None
    return value


def _timezone(value: str) -> str:
    try:
        zone_of(value)
    except Refused:
        raise ValueError("must be a time zone like Africa/Nairobi, UTC or +03:00") from None
    return value


def _proxy(value: str) -> str:
    """`http://[user:password@]host:port`, as far as that: a proxy has no path of its own."""
    if not value:
        return value
    try:
        parts = urlsplit(value)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or parts.scheme not in {"http", "https"} or parts.path.strip("/") or "?" in value or "#" in value:
        raise ValueError("must be like http://proxy.example.org:3128, with user:password@ before the host if need be")
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be an address of plain characters without spaces")
    return value.rstrip("/")


def _host_and_port(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if value and not (colon and host.strip("[]") and port.isdigit() and int(port) <= 65_535):
        raise ValueError("must be an address and a port like 127.0.0.1:8323")
    return value


def _credential_day(value: object) -> object:
    """`2026-11-01`, as text or as TOML's own date."""
    if isinstance(value, date) and type(value) is date:
        return value
    try:
        return date.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("must be a day like 2026-11-01") from None


Kes = Annotated[int, BeforeValidator(_whole_shillings), Field(ge=1, le=1_000_000_000)]
KesOrNothing = Annotated[int, BeforeValidator(_whole_shillings), Field(ge=0, le=1_000_000_000)]
Percent = Annotated[Decimal, BeforeValidator(_percent)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Minutes = Annotated[int, Field(ge=1, le=10_080)]
Hours = Annotated[int, Field(ge=1, le=8_760)]
Day = Annotated[date, BeforeValidator(_credential_day)]

BaseUrl = Annotated[str, AfterValidator(_base_url)]
CallbackUrl = Annotated[str, AfterValidator(_callback_url)]
ProxyUrl = Annotated[str, AfterValidator(_proxy)]
Sources = Annotated[tuple[str, ...], AfterValidator(_sources)]
HostAndPort = Annotated[str, AfterValidator(_host_and_port)]
DatabaseUrl = Annotated[
    str,
    _like(r"(sqlite|postgresql)(\+\w+)?://(?s:.*)", "must be like sqlite:///kasoko.db or postgresql://user@host/name"),
]
BrokerUrl = Annotated[str, _like(r"|\w+(\+\w+)?://(?s:.*)", "must be like redis://127.0.0.1:6379/0")]

Secret = Annotated[SecretStr, _like(r"[!-~]*", "must be one line of plain characters without spaces")]
PlatformUrl = Annotated[Secret, _like(r"postgres(ql)?(\+\w+)?://(?s:.*)", "must be like postgresql://kasoko@host/name")]
Addresses = Annotated[SecretStr, _like(r"[ -~\r\n\t]*", "must be addresses of plain characters, parted by spaces")]
_KEY = r"(?:[0-9a-fA-F]{2}){32,}"
CallbackKey = Annotated[SecretStr, _like(_KEY, "must be hex digits, 64 or more (make one: openssl rand -hex 32)")]
CallbackKeys = Annotated[
    SecretStr, _like(rf"{_KEY}([,\s]+{_KEY})*", "must be keys of 64 or more hex digits each, with commas between them")
]
ProofKey = Annotated[SecretStr, _like(r"[0-9a-fA-F]{64}", "must be 64 hex digits (make one: openssl rand -hex 32)")]


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
    #: May be given as NAME_FILE, as every secret may, and is in no repr: an address that may hold a password.
    file: bool = False


def setting(
    default: T,
    meaning: str,
    unit: str = "",
    *,
    variable: str = "",
    secret: bool = False,
    file: bool = False,
    **rest: Any,
) -> T:
    """A setting and its default; the rest is what pydantic holds a value of it to, or shows of it."""
    field = Field(default, repr=not file, **rest)
    field.metadata.append(Setting(meaning, unit, variable, secret, file))
    return cast("T", field)


def secret(meaning: str, variable: str) -> Any:
    """A secret, which has no default."""
    return setting(None, meaning, variable=variable, secret=True)


class SettingsTable(BaseModel):
    """One table of kasoko.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """To pydantic `true` is a good 1; to an operator it is a slip."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("must not be true or false")
        return value


class DatabaseSettings(SettingsTable):
    """Where the books are."""

    url: DatabaseUrl = setting(
        "sqlite:///kasoko.db",
        "Where everything is kept: a SQLite file or PostgreSQL.",
        variable="KASOKO_DATABASE_URL",
        file=True,
    )
    deployment: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = setting(
        None, "Whose database that is; another one's is written by no command.", variable="KASOKO_DEPLOYMENT"
    )

    @field_serializer("url")
    def _without_password(self, url: str) -> str:
        return shown_address(url)


class DarajaSettings(SettingsTable):
    """The account with M-Pesa."""

    production: bool = setting(
        False, "Real money: Daraja's production instead of its sandbox.", variable="MPESA_PRODUCTION"
    )
    base_url: BaseUrl = setting(
        "", "Daraja's address; by itself the one that production says.", variable="MPESA_BASE_URL"
    )
    proxy: ProxyUrl = setting(
        "", "The proxy on the way to Daraja; none unless set here.", variable="MPESA_PROXY", file=True
    )
    ca_file: str = setting(
        "", "The authorities that vouch for Daraja's host, in PEM, instead of the usual ones.", variable="MPESA_CA_FILE"
    )
    shortcode: Annotated[str, Field(pattern=r"^\d{5,10}$")] | None = setting(
        None, "The number that pays: your paybill or B2C shortcode.", variable="MPESA_PAYBILL"
    )
    initiator_name: Annotated[str, Field(max_length=100, pattern=r"^\S+$")] | None = setting(
        None, "The user name of the API operator on the M-Pesa portal.", variable="MPESA_INITIATOR_NAME"
    )
    callback_url: CallbackUrl | None = setting(
        None, "Where the world reaches `kasoko listen`, without our path.", variable="MPESA_CALLBACK_URL"
    )
    api: Literal["v3", "v1"] = setting(
        "v3", "The B2C interface; v1 takes no id of ours, so M-Pesa refuses no repetition."
    )
    command_id: Literal["BusinessPayment", "PromotionPayment", "SalaryPayment"] = setting(
        "BusinessPayment", "The kind of payment that M-Pesa books and that the receiver reads."
    )
    timeout_seconds: int = setting(30, "How long one silence of Daraja may last.", "seconds", ge=1, le=300)
    total_seconds: int = setting(45, "How long one request may take altogether.", "seconds", ge=1, le=600)
    # Source: reports of lost requests with other characters in free text; Daraja portal, B2C page: 2 to 100.
    remarks: str = setting(
        "Prediction market payout",
        "The remark on each payment: letters, digits, space, hyphen.",
        min_length=2,
        max_length=100,
        pattern=r"^[A-Za-z0-9 -]+$",
    )
    consumer_key: Secret | None = secret("The app's key on the Daraja portal.", "MPESA_CONSUMER_KEY")
    consumer_secret: Secret | None = secret("The app's secret on the Daraja portal.", "MPESA_CONSUMER_SECRET")
    security_credential: Secret | None = secret(
        "The initiator's encrypted password: kasoko credential encrypt.", "MPESA_SECURITY_CREDENTIAL_ENCRYPTED"
    )

    security_credential_set_on: Day | None = setting(
        None, "The day on which the initiator's password was set; M-Pesa lets it grow 90 days old."
    )

    @field_serializer("proxy")
    def _proxy_without_password(self, proxy: str) -> str:
        return shown_address(proxy)

    @model_validator(mode="after")
    def _address_of_the_environment(self) -> DarajaSettings:
        if not self.base_url:
            object.__setattr__(self, "base_url", PRODUCTION_URL if self.production else SANDBOX_URL)
        return self


class MarketSettings(SettingsTable):
    """What a new market gets when it says nothing else; frozen into the market when it closes."""

    fee_pct: Percent = setting(
        Decimal("5.00"),
        "The operator's share of the gross pool.",
        "percent",
        variable="PAYOUT_PLATFORM_FEE_PCT",
        ge=0,
        le=100,
    )
    rounding: Rounding = setting(Rounding.HOUSE, "Who gets what rounding leaves: the house, or the largest fractions.")
    break_unit_cents: int = setting(1, "Payouts are rounded down to a multiple of this.", "cents", ge=1, le=100_000)
    dead_heat: DeadHeat = setting(DeadHeat.STAKE, "How several winning outcomes share the pool.")
    min_dividend: MinDividend = setting(
        MinDividend.NONE, "Who makes up the minimum dividend: nobody, the fee, the house."
    )
    min_dividend_pct: Percent = setting(
        Decimal("100.00"), "The least a winner gets back of the stake.", "percent", gt=0, le=1000
    )

    @property
    def fee_bps(self) -> int:
        """The fee in basis points: 5.00 percent is 500."""
        return int(self.fee_pct * 100)

    @property
    def min_dividend_bps(self) -> int:
        """The least that comes back, in basis points of the stake: 100 percent is 10000."""
        return int(self.min_dividend_pct * 100)


class PayoutSettings(SettingsTable):
    """How payouts are sent."""

    min_kes: Kes = setting(10, "Less than this goes to the wallet.", "shillings", variable="PAYOUT_MIN_AMOUNT")
    max_kes: Kes = setting(250_000, "A payout above this is sent in several legs.", "shillings")
    daily_kes: Kes = setting(500_000, "The most one phone is sent in one Nairobi day.", "shillings")
    concurrency: int = setting(4, "How many requests are out at once.", "requests", ge=1, le=256)
    rate_per_second: int = setting(
        5, "How many payments are begun in a second, by all hosts together.", "requests a second", ge=1, le=10_000
    )
    smallest_first: bool = setting(False, "The smallest payouts go first, instead of those that are owed longest.")
    retry_schedule_seconds: tuple[Seconds, ...] = setting(
        (120, 240, 480, 960, 1920),
        "The waits before a payout that was not sent is tried again.",
        "seconds",
        max_length=20,
    )
    lease_seconds: int = setting(300, "How long a sender owns a payout.", "seconds", ge=10, le=86_400)
    confirm_failures_above_kes: Kes = setting(
        10_000, "A failure above this is confirmed by a status query before a retry.", "shillings"
    )
    decide_needs_two: bool = setting(
        False, "A person's word on an unknown payout counts once a second one says the same."
    )
    float_check: FloatCheck = setting(
        FloatCheck.REFUSE, "Before a run, is there enough in the utility account: off, warn, refuse, require."
    )
    float_max_age_hours: Hours = setting(
        24, "A balance that M-Pesa said longer ago than this counts as not known.", "hours"
    )
    tariff_file: str | None = setting(None, "What M-Pesa charges for a payment: a file like kasoko's own tariff.toml.")
    duties_file: str | None = setting(
        None, "Tax that is kept back of winnings and of what is sent: a file of rules with dates."
    )
    confirm_slug_above_kes: KesOrNothing = setting(
        1_000_000, "In production a run above this is confirmed by typing the market's slug.", "shillings"
    )
    approval_above_kes: KesOrNothing | None = setting(
        None, "A settlement that owes more than this is released by a second person.", "shillings"
    )

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
    def confirm_slug_above_cents(self) -> int:
        """Above this many cents a run in production is confirmed by typing."""
        return self.confirm_slug_above_kes * 100

    @property
    def approval_above_cents(self) -> int | None:
        """Above this many cents a settlement waits for a second person; None is never."""
        return None if self.approval_above_kes is None else self.approval_above_kes * 100

    @property
    def confirm_failures_above_cents(self) -> int:
        """Above this many cents a failure is confirmed by a status query before a new attempt."""
        return self.confirm_failures_above_kes * 100


class ApprovalSettings(SettingsTable):
    """What is asked of a person's word: how long the first of two counts, and whether it is signed."""

    expires_hours: Hours = setting(24, "How long the first of two people's words waits for the second.", "hours")
    signed: bool = setting(False, "Approvals and decisions are signed, each person by their own key: kasoko approver.")
    key_file: str = setting(
        "",
        "The key that you sign with, where --sign-with names none.",
        variable="KASOKO_APPROVER_KEY_FILE",
        max_length=4_096,
    )


class ListenerSettings(SettingsTable):
    """Where results arrive."""

    host: str = setting(
        "127.0.0.1", "The address to listen on.", min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:_-]+$"
    )
    port: int = setting(8321, "The port to listen on; 0 takes any free one.", ge=0, le=65_535)
    unix_socket: str = setting(
        "", "The path of a Unix socket to listen on instead of an address and port.", max_length=100
    )
    tls_cert_file: str = setting("", "The certificate and its chain, in PEM, where the listener itself speaks TLS.")
    tls_key_file: str = setting("", "The certificate's key, in PEM, without a password.")
    allow_from: Sources = setting(
        (), "Who may post: addresses, networks, or safaricom for M-Pesa's. Empty for everybody."
    )
    trusted_proxies: Sources = setting(
        (), "Proxies whose X-Forwarded-For is believed: addresses, networks, or unix for the Unix socket."
    )
    max_connections: int = setting(1024, "How many connections are open at once.", "connections", ge=16, le=100_000)
    misses_per_minute: int = setting(
        60, "How often one source may ask for a wrong address.", "requests a minute", ge=1, le=100_000
    )
    hints_per_hour: int = setting(
        1000, "How many posts without our mark are kept.", "posts an hour", ge=0, le=1_000_000
    )
    hints_mib: int = setting(64, "How much of the database such posts may fill.", "mebibytes", ge=0, le=100_000)
    metrics: HostAndPort = setting("", "A private address and port for /metrics, like 127.0.0.1:8323. Empty for none.")
    believe_success_without_ack: bool = setting(
        False, "Believe a success whose acknowledgement was lost without asking."
    )
    callback_key: CallbackKey | None = secret("Signs the address that each result comes to.", "KASOKO_CALLBACK_KEY")
    old_callback_keys: CallbackKeys | None = secret(
        "Earlier keys, with commas: results of what they signed still come in.", "KASOKO_OLD_CALLBACK_KEYS"
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> ListenerSettings:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("listener.tls_cert_file and listener.tls_key_file go together: set both, or neither")
        return self

    def callback_key_bytes(self) -> bytes:
        """The key as bytes, 32 or more.

        Raises:
            ConfigurationError: no key is set.
        """
        if self.callback_key is None:
            raise _missing(["listener.callback_key"])
        return bytes.fromhex(self.callback_key.get_secret_value())

    def old_callback_keys_bytes(self) -> tuple[bytes, ...]:
        """The earlier keys as bytes."""
        if self.old_callback_keys is None:
            return ()
        return tuple(map(bytes.fromhex, re.split(r"[,\s]+", self.old_callback_keys.get_secret_value())))


class ProofSettings(SettingsTable):
    """What proofs of settlement are signed with."""

    key_file: str = setting(
        "proof.key", "Holds the key that signs proofs; made when first needed.", min_length=1, max_length=4_096
    )
    key: ProofKey | None = secret("The key that signs proofs, instead of a file.", "KASOKO_PROOF_KEY")


class FilesSettings(SettingsTable):
    """How files of records are read by `kasoko import`, where its options do not say it."""

    timezone: Annotated[str, AfterValidator(_timezone)] = setting(
        "Africa/Nairobi", "By whose clock times are read that stand without an offset."
    )
    dates: Literal["dmy", "mdy"] | None = setting(
        None, "The order of dates like 05/03/2027; by itself only what a file proves."
    )
    columns: tuple[Annotated[str, _like(r"[a-z_]+=\S.*", "must be like phone=Mobile No")], ...] = setting(
        (), "Under which header of a file a column stands, like phone=Mobile No; - for none."
    )


class PrivacySettings(SettingsTable):
    """How long what holds names and phones is kept."""

    keep_days: int = setting(
        0, "Results and calls older than this are emptied by kasoko db expire.", "days", ge=0, le=36_500
    )


class ReconcileSettings(SettingsTable):
    """When we begin to ask."""

    after_seconds: Seconds = setting(300, "How long a result may be late before it is asked for.", "seconds")
    confirm_negative_seconds: int = setting(
        300,
        "M-Pesa's word that it did not pay counts for a retry once it is repeated so much later.",
        "seconds",
        ge=0,
        le=86_400,
    )


class CelerySettings(SettingsTable):
    """For fleets that run Celery: where its broker is. The database decides all the same."""

    broker_url: BrokerUrl = setting(
        "redis://127.0.0.1:6379/0", "The broker of kasoko worker.", variable="CELERY_BROKER_URL", file=True
    )
    result_backend: BrokerUrl = setting(
        "", "Where its tasks' answers are kept; by itself nowhere.", variable="CELERY_RESULT_BACKEND", file=True
    )
    worker_concurrency: int = setting(
        4, "How many tasks one worker runs at once.", "tasks", variable="CELERY_WORKER_CONCURRENCY", ge=1, le=256
    )

    @field_serializer("broker_url", "result_backend")
    def _without_password(self, url: str) -> str:
        return shown_address(url)


class PlatformSettings(SettingsTable):
    """The operator's own platform, where bets come from."""

    url: PlatformUrl | None = secret("The platform's PostgreSQL, for kasoko sync and mirror.", "KASOKO_PLATFORM_URL")
    mirror: bool = setting(False, "Results are written back to the platform, by kasoko mirror.")


class HealthSettings(SettingsTable):
    """From when on `status --check`, the alerts and the alert rules say that something is not well."""

    success_pct: Percent = setting(
        Decimal("99.00"), "The least of payouts that succeed within the window.", "percent", ge=0, le=100
    )
    window_hours: Hours = setting(24, "How far back success and settlement times are counted.", "hours")
    failed_minutes: Minutes = setting(60, "Any failure within so long is told.", "minutes")
    settlement_minutes: Minutes = setting(5, "How long from a resolution to its last payout.", "minutes")
    unresolved_hours: Hours = setting(24, "How long a market may be closed without an outcome.", "hours")
    unknown_minutes: Minutes = setting(30, "How long a payout may be unknown before it is critical.", "minutes")
    daraja_seconds: int = setting(5, "Within how long M-Pesa answers 95 of 100 requests.", "seconds", ge=1, le=600)
    listener_minutes: Minutes = setting(10, "How long results may be due with nothing heard.", "minutes")
    due_minutes: Minutes = setting(15, "How long a payout may be due and not be sent.", "minutes")
    float_floor_kes: int = setting(
        0,
        "The least that the utility account should hold; 0 asks only for what is owed.",
        "shillings",
        ge=0,
        le=1_000_000_000,
    )


class AlertSettings(SettingsTable):
    """Who is told."""

    urls: Addresses | None = secret("Whom kasoko notify tells: Apprise addresses.", "KASOKO_ALERT_URLS")
    sentry_dsn: Secret | None = secret("Where bugs are told, without anything private.", "KASOKO_SENTRY_DSN")


@dataclass(frozen=True)
class ShownSetting:
    """One setting as `config show` tells it; secrets and passwords are already masked."""

    setting: str
    value: str
    origin: str
    unit: str
    meaning: str
    variable: str


class Config(SettingsTable):
    """All settings of one run. Made by `load_config`; secrets are in no repr, dump or error."""

    database: DatabaseSettings = DatabaseSettings()
    daraja: DarajaSettings = DarajaSettings()
    market: MarketSettings = MarketSettings()
    payout: PayoutSettings = PayoutSettings()
    approval: ApprovalSettings = ApprovalSettings()
    listener: ListenerSettings = ListenerSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    proof: ProofSettings = ProofSettings()
    privacy: PrivacySettings = PrivacySettings()
    files: FilesSettings = FilesSettings()
    celery: CelerySettings = CelerySettings()
    platform: PlatformSettings = PlatformSettings()
    health: HealthSettings = HealthSettings()
    alerts: AlertSettings = AlertSettings()

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
        if trouble := callback_trouble(daraja.callback_url or "", production=daraja.production):
            raise ValueError(f"daraja.callback_url {trouble}")
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

    def explain(self) -> list[ShownSetting]:
        """Every setting, its value (secrets masked) and where it came from, in the order of kasoko.toml.example."""
        return [
            ShownSetting(name, self.shown_value(name), self.origin(name), about.unit, about.meaning, about.variable)
            for name, about in SETTINGS.items()
        ]

    def require_daraja(self) -> None:
        """Hold that everything is set which paying needs.

        Raises:
            ConfigurationError: with all that is missing, by name.
        """
        self.require(*NEEDED_TO_PAY)

    def require(self, *settings: str) -> None:
        """Hold that these settings are set.

        Raises:
            ConfigurationError: with all of them that are not, by name.
        """
        if missing := self.missing(*settings):
            raise _missing(missing)

    def missing(self, *settings: str) -> list[str]:
        """Those of the settings that are not set."""
        return [name for name in settings if self._value(name) is None]

    def shown_value(self, setting: str) -> str:
        """The value of a setting as a person may see it."""
        return shown(self._value(setting), SETTINGS[setting])

    def alert_urls(self) -> list[str]:
        """The addresses that alerts go to, one by one."""
        return [] if self.alerts.urls is None else self.alerts.urls.get_secret_value().split()

    def redact(self, text: str) -> str:
        """The text without any secret of this configuration in it; for tracebacks."""
        secrets = [value.get_secret_value() for name in SETTINGS if isinstance(value := self._value(name), SecretStr)]
        secrets += self.alert_urls()
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        # An error may quote a password by itself.
        platform = "" if self.platform.url is None else self.platform.url.get_secret_value()
        addresses = (self.database.url, self.daraja.proxy, self.celery.broker_url, self.celery.result_backend, platform)
        return without_passwords(text, *addresses)

    def _value(self, setting: str) -> object:
        group, name = setting.split(".")
        return getattr(getattr(self, group), name)


def _settings() -> dict[str, Setting]:
    """Every setting by its dotted name, in the order in which they are written above."""
    found: dict[str, Setting] = {}
    for group_name, group in Config.model_fields.items():
        assert isinstance(group.annotation, type)
        assert issubclass(group.annotation, SettingsTable)
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


def callback_trouble(url: str, *, production: bool) -> str:
    """Why results of this environment cannot come to this address; empty where they can."""
    return (
        "must begin with https:// when daraja.production is true" if production and url[:5].lower() == "http:" else ""
    )


def trouble_with(setting: str, value: object) -> str:
    """Why a setting cannot have this value, as in "... must be a shortcode"; empty where it can."""
    group, name = setting.split(".")
    kind = Config.model_fields[group].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, SettingsTable)
    try:
        kind.model_validate({name: value})
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        return expected_of(setting, problem)
    return ""


def expected_of(setting: str, problem: Any) -> str:
    """What one of pydantic's findings says that a setting must be: `must be a shortcode of digits only ...`."""
    if problem["type"] == "string_pattern_mismatch" and setting in EXPECTED:
        return EXPECTED[setting]
    said = str(problem["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return said[:1].lower() + said[1:]


#: What to say instead of a regular expression.
EXPECTED: Mapping[str, str] = {
    "database.deployment": "must be the sixteen digits and letters that kasoko doctor shows",
    "daraja.shortcode": "must be a shortcode of digits only, like 600999",
    "daraja.initiator_name": "must be one word",
    "daraja.remarks": "must be letters, digits, spaces and hyphens only",
    "listener.host": "must be an address like 127.0.0.1",
}


# --- Masks and words ------------------------------------------------------------------------------


def shown(value: object, about: Setting) -> str:
    """A value as a person may see it: no secret, no password, not too long."""
    if value is None or value == "":
        return NOT_SET
    if about.secret:
        return HIDDEN
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(str(item) for item in value) + "]"
    text = shown_address(str(value))
    return text if len(text) <= 120 else text[:117] + "..."


def _missing(settings: list[str]) -> ConfigurationError:
    named = ", ".join(f"{name} ({SETTINGS[name].variable})" for name in settings)
    number = "one setting that is" if len(settings) == 1 else f"{len(settings)} settings that are"
    return ConfigurationError(
        f"Paying by M-Pesa needs {number} not set: {named}.",
        hint="Nothing was sent. Set them in .env or the environment, then look: kasoko config show --origin",
    )
