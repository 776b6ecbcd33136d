"""Settings: four layers, known origins, whole error texts, and secrets that are nowhere to be seen."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from kasoko_cli.config import SETTINGS, Config, load_config
from kasoko_cli.domain.addresses import passwords_in, shown_address, without_passwords
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.store.engine.database import Database

KEY = "ab" * 32
SECRETS = {
    "MPESA_CONSUMER_KEY": "consumer-key-3141",
    "MPESA_CONSUMER_SECRET": "consumer-secret-5926",
    "MPESA_SECURITY_CREDENTIAL_ENCRYPTED": "c2VhbGVkLWNyZWRlbnRpYWw=",
    "KASOKO_CALLBACK_KEY": KEY,
}
ACCOUNT = {
    "MPESA_PAYBILL": "600999",
    "MPESA_INITIATOR_NAME": "testapi",
    "MPESA_CALLBACK_URL": "https://pay.example.org",
}
NOT_PLAIN = "must be an address without user, password, question mark or fragment"
NOT_ASCII = "must be an address of plain characters without spaces"
EXAMPLE = Path(__file__).parents[1] / "kasoko.toml.example"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    """Load the settings of a folder of its own, under an environment of its own."""

    def load(
        toml: str | None = None,
        *,
        dotenv: str | None = None,
        environ: dict[str, str] | None = None,
        options: dict[str, object] | None = None,
    ) -> Config:
        if toml is not None:
            (tmp_path / "kasoko.toml").write_text(toml)
        if dotenv is not None:
            (tmp_path / ".env").write_text(dotenv)
            (tmp_path / ".env").chmod(0o600)
        return load_config(environ=environ or {}, options=options, folder=tmp_path)

    return load


def refusal(load: Callable[..., Config], *args: object, **kwargs: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(*args, **kwargs)
    return caught.value


# --- Defaults and the example --------------------------------------------------------------------


def test_without_files_and_environment_everything_is_at_its_default(load: Callable[..., Config]) -> None:
    config = load()
    assert config.database.url == "sqlite:///kasoko.db"
    assert config.daraja.base_url == "https://sandbox.safaricom.co.ke"
    assert (config.market.fee_bps, config.market.min_dividend_bps) == (500, 10_000)
    assert (config.payout.min_cents, config.payout.max_cents, config.payout.daily_cents) == (
        1_000,
        25_000_000,
        50_000_000,
    )
    assert config.payout.confirm_failures_above_cents == 1_000_000
    assert config.payout.retry_schedule_seconds == (120, 240, 480, 960, 1920)
    assert {config.origin(setting) for setting in SETTINGS} == {"default"}
    assert config.file is None
    assert config.warnings == ()


def test_the_example_loads_and_says_nothing_but_the_defaults(load: Callable[..., Config]) -> None:
    assert (
        load(EXAMPLE.read_text()).model_dump() == load_config(environ={}, folder=EXAMPLE.parent / "docs").model_dump()
    )


def test_the_example_lists_every_setting_and_the_name_of_every_variable() -> None:
    text = EXAMPLE.read_text()
    tables = {table.split("]")[0]: table for table in text.split("\n[")[1:]}
    for setting, about in SETTINGS.items():
        group, name = setting.split(".")
        written = f"\n# {name}: {about.variable}" if about.secret else f"\n{name} = "
        assert written in tables[group], setting
        assert about.variable in tables[group], setting


def test_the_example_gives_each_unit(load: Callable[..., Config]) -> None:
    lines = EXAMPLE.read_text().splitlines()
    for setting, about in SETTINGS.items():
        if about.unit and about.unit != "requests":
            at = next(n for n, line in enumerate(lines) if line.startswith(f"{setting.split('.')[1]} = "))
            comment = []
            while lines[(at := at - 1)].startswith("#"):
                comment.append(lines[at])
            assert about.unit in " ".join(comment).lower(), setting


def test_the_packaged_template_is_the_example() -> None:
    packaged = EXAMPLE.parent / "kasoko_cli" / EXAMPLE.name
    assert packaged.read_text() == EXAMPLE.read_text()


# --- Layers and origins --------------------------------------------------------------------------


def test_each_layer_covers_the_one_before_and_says_so(load: Callable[..., Config]) -> None:
    toml = 'database.url = "sqlite:///toml.db"\n[payout]\n\nmin_kes = 20\nmax_kes = 1000\n'
    env = {"PAYOUT_MIN_AMOUNT": "40"}
    assert load(toml).origin("payout.min_kes") == "kasoko.toml:4"
    config = load(toml, dotenv="PAYOUT_MIN_AMOUNT=30\nMPESA_PAYBILL=600999\n", environ=env)
    assert (config.payout.min_kes, config.origin("payout.min_kes")) == (40, "environment PAYOUT_MIN_AMOUNT")
    assert (config.payout.max_kes, config.origin("payout.max_kes")) == (1000, "kasoko.toml:5")
    assert (config.daraja.shortcode, config.origin("daraja.shortcode")) == ("600999", ".env")
    assert config.origin("database.url") == "kasoko.toml:1"
    config = load(
        toml, options={"--database": "sqlite:///option.db"}, environ={"KASOKO_DATABASE_URL": "sqlite:///e.db"}
    )
    assert (config.database.url, config.origin("database.url")) == ("sqlite:///option.db", "option --database")


def test_an_empty_text_is_not_set_in_any_layer(load: Callable[..., Config]) -> None:
    config = load(
        '[daraja]\nshortcode = ""\n', dotenv="MPESA_PAYBILL=\n", environ={"MPESA_PAYBILL": " ", "PAYOUT_MIN_AMOUNT": ""}
    )
    assert config.daraja.shortcode is None
    assert config.payout.min_kes == 10


def test_a_dollar_in_a_secret_of_dotenv_is_a_dollar(load: Callable[..., Config]) -> None:
    config = load(dotenv="MPESA_CONSUMER_KEY=a${HOME}b$c\n")
    assert config.daraja.consumer_key is not None
    assert config.daraja.consumer_key.get_secret_value() == "a${HOME}b$c"


def test_the_operators_old_environment_is_understood(load: Callable[..., Config]) -> None:
    config = load(
        environ={
            "MPESA_PRODUCTION": "True",
            "PAYOUT_PLATFORM_FEE_PCT": "7.25",
            "PAYOUT_MIN_AMOUNT": "10.00",
            "MPESA_CALLBACK_URL": "https://pay.example.org/api/payments/b2c-callback/",
        }
    )
    assert config.daraja.base_url == "https://api.safaricom.co.ke"
    assert config.market.fee_bps == 725
    assert config.payout.min_cents == 1_000
    assert config.daraja.callback_url == "https://pay.example.org"


def test_a_secret_may_lie_in_a_file(load: Callable[..., Config], tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    config = load(environ={"KASOKO_CALLBACK_KEY_FILE": str(file)})
    assert config.listener.callback_key_bytes() == bytes.fromhex(KEY)
    assert config.origin("listener.callback_key") == f"file {file}"
    assert config.warnings == ()


def test_a_relative_database_of_a_file_lies_beside_that_file(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (home / "kasoko.toml").write_text('[database]\nurl = "sqlite:///books.db"\n')
    config = load_config(home / "kasoko.toml", environ={}, folder=elsewhere)
    assert config.database.url == f"sqlite:///{home.resolve()}/books.db"
    config = load_config(
        home / "kasoko.toml", environ={}, folder=elsewhere, options={"--database": "sqlite:///here.db"}
    )
    assert config.database.url == "sqlite:///here.db"


def test_percent_and_amounts_of_toml_never_become_floats(load: Callable[..., Config]) -> None:
    config = load("[market]\nfee_pct = 5.35\n[payout]\nmin_kes = 12.00\n")
    assert config.market.fee_pct == Decimal("5.35")
    assert (config.market.fee_bps, config.payout.min_cents) == (535, 1_200)


# --- Warnings ------------------------------------------------------------------------------------


def test_a_secrets_file_that_others_can_read_is_warned_about(load: Callable[..., Config], tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o640)
    (tmp_path / ".env").write_text("MPESA_CONSUMER_SECRET=x1\n")
    (tmp_path / ".env").chmod(0o644)
    assert load(environ={"KASOKO_CALLBACK_KEY_FILE": str(file)}).warnings == (
        f"{tmp_path}/.env holds secrets and others on this machine can read it: chmod 600 {tmp_path}/.env",
        f"{file} holds secrets and others on this machine can read it: chmod 600 {file}",
    )


def test_a_misspelt_variable_is_warned_about(load: Callable[..., Config]) -> None:
    assert load(environ={"MPESA_PAYBIL": "600999"}).warnings == (
        "MPESA_PAYBIL is no setting of kasoko, and nothing reads it. Did you mean MPESA_PAYBILL?",
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KASOKO_DATABASE", "KASOKO_DATABASE_URL"),
        ("MPESA_SHORTCODE", "MPESA_PAYBILL"),
        ("KASOKO_PAYOUT_CONCURRENCY", "payout.concurrency in kasoko.toml"),
        ("PAYOUT_CONCURRENCY", "payout.concurrency in kasoko.toml"),
        ("KASOKO_LISTENER_PORT", "listener.port in kasoko.toml"),
        ("MPESA_CALLBACK", "MPESA_CALLBACK_URL"),
        ("KASOKO_ZEBRA", ""),
    ],
)
def test_a_setting_that_was_guessed_as_a_variable_is_warned_about_once(
    load: Callable[..., Config], name: str, meant: str
) -> None:
    guess = f" Did you mean {meant}?" if meant else ""
    config = load(dotenv=f"{name}=geheim-4711\n", environ={name: "geheim-4711"})
    assert config.warnings == (f"{name} is no setting of kasoko, and nothing reads it.{guess}",)


@pytest.mark.parametrize(
    "name", ["KASOKO_SERVICE_HOST", "KASOKO_PORT", "KASOKO_PORT_8321_TCP_ADDR", "KASOKO_HOST", "PATH", "DATABASE_URL"]
)
def test_a_variable_of_somebody_else_is_not_warned_about(load: Callable[..., Config], name: str) -> None:
    assert load(environ={name: "tcp://10.0.0.1:8321" if name == "KASOKO_PORT" else "x"}).warnings == ()


def test_a_file_that_lies_elsewhere_is_named_whole_as_the_origin(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder, paybill in ((home, "600111"), (elsewhere, "600222")):
        folder.mkdir()
        (folder / ".env").write_text(f"MPESA_PAYBILL={paybill}\n")
    (home / "kasoko.toml").write_text('[daraja]\nca_file = "ca.pem"\n')
    config = load_config(home / "kasoko.toml", environ={}, folder=elsewhere)
    assert (config.daraja.shortcode, config.origin("daraja.shortcode")) == ("600111", f"{home}/.env")
    assert (config.daraja.ca_file, config.origin("daraja.ca_file")) == (f"{home}/ca.pem", f"{home}/kasoko.toml:2")
    # Where there is no kasoko.toml, the folder itself is the deployment's.
    config = load_config(environ={}, folder=elsewhere)
    assert (config.daraja.shortcode, config.origin("daraja.shortcode")) == ("600222", ".env")


# --- The way to Daraja ---------------------------------------------------------------------------


def test_the_password_of_a_proxy_is_shown_nowhere_and_stands_in_no_toml(load: Callable[..., Config]) -> None:
    proxy = "http://kasoko:geheim-4711@proxy.example.org:3128"
    message, hint = _refused(load, toml=f'[daraja]\nproxy = "{proxy}"\n')
    assert message.startswith("daraja.proxy (kasoko.toml:2) holds a password")
    assert "MPESA_PROXY" in hint
    config = load("", dotenv=f"MPESA_PROXY={proxy}\n")
    assert config.daraja.proxy == proxy
    shown = [repr(config), str(config.model_dump()), config.shown_value("daraja.proxy"), config.redact(f"to {proxy}")]
    assert not [text for text in [*shown, message, hint] if "geheim" in text]
    assert config.shown_value("daraja.proxy") == "http://kasoko:***@proxy.example.org:3128"


@pytest.mark.parametrize("proxy", ["proxy:3128", "socks5://proxy:1080", "http://", "http://p:0", "http://p/path"])
def test_a_proxy_is_an_address_of_http(load: Callable[..., Config], proxy: str) -> None:
    message, _ = _refused(load, toml=f'[daraja]\nproxy = "{proxy}"\n')
    assert "must be like http://proxy.example.org:3128" in message


@pytest.mark.parametrize("given", [{"dotenv": "MPESA_CA_FILE=ca.pem\n"}, {"environ": {"MPESA_CA_FILE": "ca.pem"}}])
def test_with_real_money_only_kasoko_toml_says_who_vouches_for_the_host(
    load: Callable[..., Config], tmp_path: Path, given: dict[str, Any]
) -> None:
    """Else whoever can set a variable reads the secrets of real money."""
    assert load("", **given).daraja.ca_file == f"{tmp_path}/ca.pem"
    for toml in ("production = true", 'production = true\nca_file = "own.pem"'):
        message, hint = _refused(load, toml=f"[daraja]\n{toml}\n", **given)
        assert message.startswith("daraja.ca_file = ca.pem (")
        assert "only kasoko.toml may. Nothing was sent." in message
        assert "write ca_file into kasoko.toml" in hint
    (tmp_path / ".env").unlink(missing_ok=True)
    assert load('[daraja]\nproduction = true\nca_file = "own.pem"\n').daraja.ca_file == f"{tmp_path}/own.pem"


# --- Where secrets may go ------------------------------------------------------------------------

REAL = "https://api.safaricom.co.ke"


def _refused(load: Callable[..., Config], **layers: object) -> tuple[str, str]:
    with pytest.raises(ConfigurationError) as refused:
        load(**layers)
    return refused.value.message, refused.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example",
        "http://127.0.0.1:666",
        "https://sandbox.safaricom.co.ke",
        "https://api.safaricom.co.ke.evil.example",
    ],
)
def test_in_production_no_secret_goes_elsewhere_because_of_a_file_in_the_folder(
    load: Callable[..., Config], url: str
) -> None:
    """Whoever can write a `.env` where the process happens to be would have its key and password."""
    says = f"daraja.base_url = {url} (.env) is not Safaricom's. In production secrets go to api.safaricom.co.ke only,"
    for toml, environ in (("[daraja]\nproduction = true\n", {}), (None, {"MPESA_PRODUCTION": "true"})):
        message, hint = _refused(load, toml=toml, dotenv=f"MPESA_BASE_URL={url}\n", environ=environ)
        assert message == f"{says} unless kasoko.toml itself says otherwise. Nothing was sent."
        assert hint == "Take it out of .env; if it is right, write base_url into kasoko.toml, under [daraja]."
    environ = {"MPESA_PRODUCTION": "true", "MPESA_BASE_URL": url}
    assert "(environment MPESA_BASE_URL)" in _refused(load, environ=environ)[0]
    config = load(f'[daraja]\nproduction = true\nbase_url = "{url}"\n', dotenv="")
    assert config.daraja.base_url == url, "the toml says so, and that one is looked after"


def test_a_file_in_the_folder_does_not_turn_production_off(load: Callable[..., Config]) -> None:
    """Else it would send the secrets of real money to the address of a sandbox."""
    told = "daraja.production = true (kasoko.toml:2), and .env says false. Nothing was sent."
    dotenv = "MPESA_PRODUCTION=false\nMPESA_BASE_URL=http://127.0.0.1:666\n"
    assert _refused(load, toml="[daraja]\nproduction = true\n", dotenv=dotenv)[0] == told


def test_the_address_of_real_money_needs_the_word_for_it(load: Callable[..., Config]) -> None:
    message, hint = _refused(load, toml=f'[daraja]\nbase_url = "{REAL}"\n')
    assert message.endswith("is for real money, and daraja.production is false. Nothing was sent.")
    assert hint == "Set daraja.production (MPESA_PRODUCTION) to true, or take daraja.base_url out."
    assert load(environ={"MPESA_BASE_URL": REAL, "MPESA_PRODUCTION": "1"}).daraja.production


@pytest.mark.parametrize(
    ("dotenv", "told"),
    [
        ("A=1\n\nMPESA_CONSUMER_SECRET 'geheim-4711'\n", ", line 3, cannot be read: it is no NAME=value. It is about"),
        (
            "MPESA_CONSUMER_SECRET\n",
            ", line 1, cannot be read: it is no NAME=value. It is about MPESA_CONSUMER_SECRET.",
        ),
        ("# x\n=geheim-4711\n", ", line 2, cannot be read: it is no NAME=value."),
        ("MPESA_CONSUMER_KEY='geheim-4711\n", ", line 1, cannot be read: it is no NAME=value. It is about MPESA_CONS"),
        ("MPESA_PAYBILL=600999\n#\nMPESA_PAYBILL=600777\n", " gives MPESA_PAYBILL twice: on line 1 and on line 3."),
        ("export A_B='geheim-4711'\nA_B=geheim-4711\n", " gives A_B twice: on line 1 and on line 2."),
    ],
)
def test_a_line_of_secrets_that_cannot_be_read_or_says_a_name_twice_is_told_without_its_value(
    load: Callable[..., Config], tmp_path: Path, dotenv: str, told: str
) -> None:
    message, hint = _refused(load, dotenv=dotenv)
    assert message.startswith(f"{tmp_path / '.env'}{told}")
    assert "geheim" not in message + hint
    assert "600777" not in message + hint


def test_a_name_without_a_value_is_not_given(load: Callable[..., Config]) -> None:
    config = load(dotenv="MPESA_PAYBILL=\n\nMPESA_PAYBILL=600999 # ours\nexport MPESA_INITIATOR_NAME='te$t'\n")
    assert (config.daraja.shortcode, config.daraja.initiator_name) == ("600999", "te$t")


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "told", "expected"),
    [
        ("MPESA_PAYBILL", "6oo", "daraja.shortcode = 6oo", "must be a shortcode of digits only, like 600999"),
        (
            "MPESA_PRODUCTION",
            "perhaps",
            "daraja.production = perhaps",
            "must be a valid boolean, unable to interpret input",
        ),
        (
            "MPESA_BASE_URL",
            "http://example.org",
            "daraja.base_url = http://example.org",
            "must begin with https:// (http:// is only for this machine, 127.0.0.1)",
        ),
        (
            "MPESA_BASE_URL",
            "https://ann:pw@example.org",
            "daraja.base_url = https://ann:***@example.org",
            "must be an address without user, password, question mark or fragment",
        ),
        (
            "MPESA_CALLBACK_URL",
            "pay.example.org",
            "daraja.callback_url = pay.example.org",
            "must be an address like https://pay.example.org",
        ),
        ("MPESA_CALLBACK_URL", "https://a.example/?", "daraja.callback_url = https://a.example/?", NOT_PLAIN),
        ("MPESA_BASE_URL", "https://ünï.example", "daraja.base_url = https://ünï.example", NOT_ASCII),
        (
            "PAYOUT_PLATFORM_FEE_PCT",
            "5.001",
            "market.fee_pct = 5.001",
            "must be a percentage with at most two decimals, like 5.00",
        ),
        (
            "PAYOUT_PLATFORM_FEE_PCT",
            "NaN",
            "market.fee_pct = NaN",
            "must be a percentage with at most two decimals, like 5.00",
        ),
        ("PAYOUT_PLATFORM_FEE_PCT", "101", "market.fee_pct = 101", "must be less than or equal to 100"),
        ("PAYOUT_MIN_AMOUNT", "ten", "payout.min_kes = ten", "must be a whole number of shillings, like 10"),
        ("PAYOUT_MIN_AMOUNT", "10.50", "payout.min_kes = 10.50", "must be a whole number of shillings, like 10"),
        ("PAYOUT_MIN_AMOUNT", "1e9999", "payout.min_kes = 1e9999", "must be a whole number of shillings, like 10"),
        ("PAYOUT_MIN_AMOUNT", "0", "payout.min_kes = 0", "must be greater than or equal to 1"),
        (
            "KASOKO_CALLBACK_KEY",
            "ab" * 31,
            "listener.callback_key = (hidden)",
            "must be hex digits, 64 or more (make one: openssl rand -hex 32)",
        ),
        (
            "MPESA_CONSUMER_KEY",
            "two words",
            "daraja.consumer_key = (hidden)",
            "must be one line of plain characters without spaces",
        ),
        (
            "KASOKO_DATABASE_URL",
            "mysql://ann:pw@db/k",
            "database.url = mysql://ann:***@db/k",
            "must be like sqlite:///kasoko.db or postgresql://user@host/name",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_told_with_its_name_its_origin_and_what_was_expected(
    load: Callable[..., Config], variable: str, value: str, told: str, expected: str
) -> None:
    error = refusal(load, environ={variable: value})
    assert error.message == f"{told} (environment {variable}) {expected}."
    assert error.exit_code == 3
    assert error.hint == "Every setting, its unit and its meaning: kasoko help settings"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"PAYOUT_MIN_AMOUNT": "300000"},
            (
                "payout.min_kes (300000), payout.max_kes (250000) and payout.daily_kes (500000) "
                "must not get smaller in this order."
            ),
        ),
        (
            {"MPESA_CALLBACK_URL": "http://pay.example.org", "MPESA_PRODUCTION": "1"},
            "daraja.callback_url must begin with https:// when daraja.production is true.",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_all_named(
    load: Callable[..., Config], environ: dict[str, str], message: str
) -> None:
    assert refusal(load, environ=environ).message == message


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[payout]\nconcurrency = true\n", "payout.concurrency = true (kasoko.toml:2) must not be true or false."),
        ("[payout]\nlease_seconds = 45\n", "payout.lease_seconds (45) must be above daraja.total_seconds (45)."),
        (
            "[daraja]\ntimeout_seconds = 50\n",
            "daraja.timeout_seconds (50) must not be above daraja.total_seconds (45).",
        ),
        (
            "[payout]\nretry_schedule_seconds = [120, 0]\n",
            "payout.retry_schedule_seconds = [120, 0] (kasoko.toml:2) must be greater than or equal to 1.",
        ),
        ("[payout]\nrate_per_second = nan\n", "payout.rate_per_second = NaN (kasoko.toml:2) must be a finite number."),
        ('[market]\nrounding = "up"\n', "market.rounding = up (kasoko.toml:2) must be 'house' or 'largest'."),
        (
            '[daraja]\nremarks = "50% & more"\n',
            "daraja.remarks = 50% & more (kasoko.toml:2) must be letters, digits, spaces and hyphens only.",
        ),
        (
            "[payout]\nmin_amont = 5\n",
            "payout.min_amont (kasoko.toml:2) is no setting of kasoko. Did you mean payout.min_kes?",
        ),
        ("min_kes = 5\n", "min_kes (kasoko.toml:1) is no setting of kasoko. Did you mean payout.min_kes?"),
        ("\n[payouts]\nmin_kes = 5\n", "payouts (kasoko.toml:2) is no setting of kasoko. Did you mean payout?"),
        ("payout = 5\n", "payout (kasoko.toml:1) is a table of settings, not a setting."),
    ],
)
def test_what_cannot_stand_in_the_toml_is_told_with_its_line(
    load: Callable[..., Config], toml: str, message: str
) -> None:
    assert refusal(load, toml).message == message


def test_several_wrong_settings_are_told_together(load: Callable[..., Config]) -> None:
    error = refusal(load, "[listener]\nport = 99999\n", environ={"PAYOUT_MIN_AMOUNT": "ten"})
    assert error.message == (
        "2 settings cannot be used:\n"
        "  payout.min_kes = ten (environment PAYOUT_MIN_AMOUNT) must be a whole number of shillings, like 10\n"
        "  listener.port = 99999 (kasoko.toml:2) must be less than or equal to 65535."
    )


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('[daraja]\nconsumer_secret = "s3cret"\n', "daraja.consumer_secret (kasoko.toml:2) is a secret"),
        ('MPESA_CONSUMER_SECRET = "s3cret"\n', "daraja.consumer_secret (kasoko.toml:1) is a secret"),
    ],
)
def test_a_secret_in_the_toml_is_refused_by_name_and_not_repeated(
    load: Callable[..., Config], toml: str, told: str
) -> None:
    error = refusal(load, toml)
    assert error.message == f"{told} and must not stand in kasoko.toml, which others may read."
    assert error.hint == (
        "Move it to .env as MPESA_CONSUMER_SECRET=..., or name a file that holds it: MPESA_CONSUMER_SECRET_FILE. "
        "If the file was ever shared, have the secret replaced."
    )


@pytest.mark.parametrize("url", ["postgresql://kasoko:s3cret@db/kasoko", "postgresql://db/kasoko?password=s3cret"])
def test_a_password_in_the_database_address_is_a_secret_too(load: Callable[..., Config], url: str) -> None:
    error = refusal(load, f'[database]\nurl = "{url}"\n')
    assert error.message == (
        "database.url (kasoko.toml:2) holds a password and must not stand in kasoko.toml, which others may read."
    )
    config = load("", environ={"KASOKO_DATABASE_URL": url})
    assert config.database.url == url
    assert "s3cret" not in f"{config!r} {config} {config.model_dump()} {config.model_dump_json()} {config.explain()}"


def test_a_secret_that_is_given_twice_in_one_layer_is_refused(load: Callable[..., Config], tmp_path: Path) -> None:
    error = refusal(load, environ={"MPESA_CONSUMER_KEY": "a", "MPESA_CONSUMER_KEY_FILE": str(tmp_path / "key")})
    assert error.message == "daraja.consumer_key is given twice: by MPESA_CONSUMER_KEY and by MPESA_CONSUMER_KEY_FILE."


def test_a_secrets_file_that_is_not_there_or_empty_is_named(load: Callable[..., Config], tmp_path: Path) -> None:
    file = tmp_path / "key"
    error = refusal(load, environ={"MPESA_CONSUMER_KEY_FILE": str(file)})
    assert error.message == f"Cannot read {file}, which MPESA_CONSUMER_KEY_FILE names: No such file or directory."
    file.write_text("\n")
    error = refusal(load, environ={"MPESA_CONSUMER_KEY_FILE": str(file)})
    assert error.message == f"{file}, which MPESA_CONSUMER_KEY_FILE names, is empty."


def test_a_configuration_that_is_not_there_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path / "none.toml", environ={}, folder=tmp_path)
    assert caught.value.message == f"Cannot read the configuration {tmp_path}/none.toml: No such file or directory."
    assert caught.value.hint == "Point --config at a file that is there, or make one: kasoko init"


def test_a_file_that_is_no_toml_is_told_with_its_line(load: Callable[..., Config], tmp_path: Path) -> None:
    error = refusal(load, "[payout]\nmin_kes = ten\n")
    assert error.message == f"{tmp_path}/kasoko.toml is not valid TOML: Invalid value (at line 2, column 11)."


# --- Secrets -------------------------------------------------------------------------------------


def test_no_secret_is_in_any_picture_of_the_settings(load: Callable[..., Config]) -> None:
    config = load(environ=SECRETS)
    pictures = (
        f"{config!r} {config} {config.model_dump()} {config.model_dump_json()} {config.explain()} {config.daraja}"
    )
    for secret in SECRETS.values():
        assert secret not in pictures


def test_no_secret_is_in_an_error_or_what_caused_it(load: Callable[..., Config]) -> None:
    error = refusal(load, environ={"KASOKO_CALLBACK_KEY": "not-hex-but-secret", "MPESA_CONSUMER_KEY": "also secret"})
    assert "secret" not in f"{error.message}{error.hint}"
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://kasoko:geheim@db/kasoko",
        "postgresql://kasoko:geheim@geheim@db/kasoko",
        "postgresql://kasoko:geheim/geheim:geheim?geheim#geheim&geheim=geheim@db/kasoko",
        "postgresql://kasoko:%67eheim%40geheim@db:5432/kasoko?sslmode=require",
        "postgresql://kasoko:geheim",
        "postgresql://kasoko:geheim/kasoko",
        "postgresql://db/kasoko?password=geheim",
        "postgresql://db/kasoko?sslmode=require&sslpassword=geheim#geheim",
        "postgresql://db/kasoko?password=geheim@geheim&sslmode=require",
        "postgresql://kasoko:geheim@db/kasoko?password=geheim@geheim",
        "postgresql://db/kasoko?pass%77ord=geheim",
        "postgresql://db/kasoko?options=-c%20password%3Dgeheim",
        "postgresql+psycopg://kasoko:geheim@[::1]:5432/kasoko",
        "kasoko:geheim@db/kasoko",
        "host=db password=geheim",
        "mysql://kasoko:geheim@db/kasoko",
    ],
)
def test_no_part_of_a_password_is_shown_however_the_address_spells_it(load: Callable[..., Config], url: str) -> None:
    told = [shown_address(url)]
    if "://" in url:  # else no driver sees it
        told.append(without_passwords(f"no route to {url}, {unquote(url)}", url))
    for environ in ({"KASOKO_DATABASE_URL": url}, {"CELERY_BROKER_URL": url}):
        try:
            config = load(environ=environ)
        except ConfigurationError as refused:
            told += [refused.message, refused.hint]
        else:
            told += [repr(config), config.model_dump_json(), str(config.explain()), config.redact(f"{url} {url[10:]}")]
    if url.startswith("postgresql"):
        try:
            told.append(repr(Database(url)))
        except ConfigurationError as refused:
            told += [refused.message, refused.hint, str(refused.__cause__)]
    assert [one for one in told if "geheim" in one] == []


@pytest.mark.parametrize(
    "url", ["postgresql://db/kasoko?sslmode=require&sslrootcert=/a@b", "postgresql://kasoko@db:5432/kasoko?port=5433"]
)
def test_an_address_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert shown_address(url) == url
    assert passwords_in(url) == []


def test_redact_takes_every_secret_and_password_out_of_a_text(load: Callable[..., Config]) -> None:
    config = load(environ={**SECRETS, "KASOKO_DATABASE_URL": "postgresql://k:db-pass@db/k"})
    text = config.redact(f"{' '.join(SECRETS.values())} postgresql://k:db-pass@db/k and the rest")
    assert text == "(hidden) (hidden) (hidden) (hidden) postgresql://k:(hidden)@db/k and the rest"


# --- Paying --------------------------------------------------------------------------------------


def test_what_paying_needs_is_asked_for_only_when_paying_and_all_at_once(load: Callable[..., Config]) -> None:
    load(environ=SECRETS | ACCOUNT).require_daraja()
    with pytest.raises(ConfigurationError) as caught:
        load(environ={**ACCOUNT, "KASOKO_CALLBACK_KEY": KEY}).require_daraja()
    assert caught.value.message == (
        "Paying by M-Pesa needs 3 settings that are not set: daraja.consumer_key (MPESA_CONSUMER_KEY), "
        "daraja.consumer_secret (MPESA_CONSUMER_SECRET), "
        "daraja.security_credential (MPESA_SECURITY_CREDENTIAL_ENCRYPTED)."
    )
    assert caught.value.hint == (
        "Nothing was sent. Set them in .env or the environment, then look: kasoko config show --origin"
    )


def test_a_listener_without_a_key_says_which_setting_it_needs(load: Callable[..., Config]) -> None:
    with pytest.raises(ConfigurationError, match=r"needs one setting that is not set: listener.callback_key"):
        load().listener.callback_key_bytes()


def test_explain_tells_every_setting_once_in_the_order_of_the_example(load: Callable[..., Config]) -> None:
    explained = load(environ={"MPESA_CONSUMER_KEY": "k1"}).explain()
    assert [one.setting for one in explained] == list(SETTINGS)
    by_name = {one.setting: (one.value, one.origin) for one in explained}
    assert by_name["daraja.consumer_key"] == ("(hidden)", "environment MPESA_CONSUMER_KEY")
    assert by_name["daraja.consumer_secret"] == ("(not set)", "default")
    assert by_name["payout.retry_schedule_seconds"] == ("[120, 240, 480, 960, 1920]", "default")
    assert all(one.meaning.endswith(".") for one in explained)
