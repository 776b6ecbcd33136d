"""`kasoko init`, `config show` and `credential encrypt`, as an operator meets them on the first day."""

from __future__ import annotations

import base64
import json
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from kasoko_cli.config import load_config
from kasoko_cli.settings import SETTINGS
from kasoko_cli.store.engine.database import Database, deployment_of, head_version, upgrade
from tests.cli.conftest import Kasoko

EXAMPLE = Path(__file__).parents[2] / "kasoko.toml.example"


# --- init ----------------------------------------------------------------------------------------


def test_init_writes_settings_secrets_and_database_and_asks_nothing(kasoko: Kasoko, tmp_path: Path) -> None:
    result = kasoko("init")
    assert result.stdout == (
        "kasoko.toml\twritten\n"
        ".env\twritten, with a fresh key; fill in the secrets of the Daraja portal\n"
        "sqlite:///kasoko.db\tcreated\n"
    )
    assert result.stderr == (
        "See the whole road on a database that is thrown away: kasoko demo\n"
        "See what a real run still needs: kasoko doctor\n"
    )
    assert result.returncode == 0
    whose = deployment_of(Database(f"sqlite:///{tmp_path / 'kasoko.db'}"))
    expected = EXAMPLE.read_text().replace('deployment = ""', f'deployment = "{whose}"')
    assert (tmp_path / "kasoko.toml").read_text() == expected

    secrets = tmp_path / ".env"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    for about in SETTINGS.values():
        assert not about.secret or f"{about.variable}=" in secrets.read_text()
    config = load_config(environ={}, folder=tmp_path)
    assert len(config.listener.callback_key_bytes()) == 32
    assert config.warnings == ()


def test_init_again_changes_nothing(kasoko: Kasoko, tmp_path: Path) -> None:
    kasoko("init")
    before = {name: (tmp_path / name).read_bytes() for name in ("kasoko.toml", ".env")}
    result = kasoko("init", "--json")
    assert json.loads(result.stdout) == {
        "settings": {"file": "kasoko.toml", "written": False},
        "secrets": {"file": ".env", "written": False},
        "database": {"url": "sqlite:///kasoko.db", "from_version": head_version(), "to_version": head_version()},
    }
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_two_deployments_have_two_keys(kasoko: Kasoko, tmp_path: Path) -> None:
    kasoko("init")
    first = (tmp_path / ".env").read_text()
    (tmp_path / ".env").unlink()
    kasoko("init")
    assert (tmp_path / ".env").read_text() != first


def test_init_adds_only_the_missing_key_to_secrets_that_are_there(kasoko: Kasoko, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MPESA_CONSUMER_KEY=mine")
    (tmp_path / ".env").chmod(0o600)
    result = kasoko("init")
    assert ".env\tis there; KASOKO_CALLBACK_KEY was added\n" in result.stdout
    assert re.fullmatch(r"MPESA_CONSUMER_KEY=mine\nKASOKO_CALLBACK_KEY=[0-9a-f]{64}\n", (tmp_path / ".env").read_text())


def test_init_leaves_settings_that_are_there_alone_and_uses_them(kasoko: Kasoko, tmp_path: Path) -> None:
    (tmp_path / "kasoko.toml").write_text('[database]\nurl = "sqlite:///books.db"\n')
    result = kasoko("init", "--new-deployment")
    assert "kasoko.toml\tis there, left alone\n" in result.stdout
    assert "sqlite:///books.db\tcreated\n" in result.stdout
    assert (tmp_path / "books.db").exists()


def test_init_where_nothing_may_be_written_says_so(kasoko: Kasoko, tmp_path: Path) -> None:
    result = kasoko("init", "--config", "nowhere/kasoko.toml")
    assert result.returncode == 3
    assert result.stderr == (
        "Error: Cannot write nowhere/kasoko.toml: No such file or directory.\n"
        "Hint: Nothing else was changed. Choose a folder that you may write, and run it again.\n"
    )
    assert list(tmp_path.iterdir()) == []


# --- Whose database it is ------------------------------------------------------------------------


def test_a_database_that_is_gone_is_made_anew_by_nothing_but_a_word(kasoko: Kasoko, tmp_path: Path) -> None:
    """`rm kasoko.db`, and a newcomer who does what the hint says pays every winner again: so it says something else."""
    kasoko("init")
    (tmp_path / "kasoko.db").unlink()
    gone = f"There is no database at {tmp_path / 'kasoko.db'}"
    for words in (("payout", "--yes"), ("db", "upgrade"), ("status",), ("import", "users", "users.csv")):
        (tmp_path / "users.csv").write_text("user_id,name,phone\n")
        result = kasoko(*words)
        assert result.returncode == 3
        assert result.stderr.startswith(f"Error: {gone}.\nHint: Is it in another folder, or on another name")
        assert "Is there a backup (kasoko db restore FILE)?" in result.stderr
    refused = kasoko("init")
    assert refused.returncode == 5
    assert refused.stderr.startswith(
        f"Error: {gone}, and {tmp_path / 'kasoko.toml'} and {tmp_path / '.env'} are here. Nothing was changed.\n"
    )
    assert "pay them again. If nobody ever was: kasoko init --new-deployment\n" in refused.stderr
    (tmp_path / "kasoko.toml").rename(tmp_path / "moved")
    assert kasoko("init").returncode == 5, (
        "the key that signed addresses shows as well that somebody may have been paid"
    )
    (tmp_path / "moved").rename(tmp_path / "kasoko.toml")
    assert not (tmp_path / "kasoko.db").exists()


def test_a_database_that_is_made_anew_makes_the_same_ids(kasoko: Kasoko, tmp_path: Path) -> None:
    """So M-Pesa refuses what the one before had sent."""
    kasoko("init")
    db = Database(f"sqlite:///{tmp_path / 'kasoko.db'}")
    before = deployment_of(db)
    db.close()
    (tmp_path / "kasoko.db").unlink()
    assert kasoko("init", "--new-deployment").returncode == 0
    assert deployment_of(Database(f"sqlite:///{tmp_path / 'kasoko.db'}")) == before
    assert kasoko("audit", "--deep").returncode == 0


def test_the_database_of_another_deployment_is_read_and_never_written(kasoko: Kasoko, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    upgrade(f"sqlite:///{other / 'kasoko.db'}", deployment="0123456789abcdef")
    kasoko("init")
    kasoko("db", "backup", "copy.db", "--database", f"sqlite:///{other / 'kasoko.db'}")
    before = (other / "kasoko.db").read_bytes()
    elsewhere = ("--database", f"sqlite:///{other / 'kasoko.db'}")
    for words in (
        ("pause", "--reason", "drill", *elsewhere),
        ("payout", "--yes", *elsewhere),
        ("db", "upgrade", *elsewhere),
        ("doctor", "--after-restore", "--offline", *elsewhere),
        ("init", *elsewhere),
        ("db", "restore", "copy.db", "--replace", "--yes", "--reason", "drill"),
    ):
        result = kasoko(*words)
        assert (words, result.returncode) == (words, 3)
        assert "is of the deployment 0123456789abcdef, and the settings are of " in result.stderr
    assert (other / "kasoko.db").read_bytes() == before
    assert kasoko("market", "list", *elsewhere).returncode == 0
    found = json.loads(kasoko("doctor", "--offline", "--json", *elsewhere).stdout)
    assert [one["state"] for one in found["checks"] if one["check"] == "deployment"] == ["FAIL"]
    named = kasoko("pause", "--reason", "drill", *elsewhere, KASOKO_DEPLOYMENT="0123456789abcdef")
    assert named.returncode == 0


# --- config show ---------------------------------------------------------------------------------


def test_config_show_tells_every_setting_and_where_it_came_from(kasoko: Kasoko, tmp_path: Path) -> None:
    (tmp_path / "kasoko.toml").write_text("[payout]\nmin_kes = 20\n")
    result = kasoko("config", "show", "--origin", MPESA_CONSUMER_KEY="k-3141", MPESA_INITIATOR_NAME="[red]x")
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert rows[0] == ["setting", "value", "origin", "unit"]
    assert [row[0] for row in rows[1:]] == list(SETTINGS)
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["payout.min_kes"] == ["20", "kasoko.toml:2", "shillings"]
    assert by_name["daraja.consumer_key"] == ["(hidden)", "environment MPESA_CONSUMER_KEY", ""]
    assert by_name["daraja.initiator_name"][0] == "[red]x"
    assert "k-3141" not in result.stdout + result.stderr


def test_config_show_as_json_masks_the_password_of_the_database(kasoko: Kasoko) -> None:
    result = kasoko("config", "show", "--json", "--database", "postgresql://kasoko:s3cret@db/kasoko")
    shown = json.loads(result.stdout)["settings"][0]
    assert shown == {
        "setting": "database.url",
        "value": "postgresql://kasoko:***@db/kasoko",
        "origin": "option --database",
        "unit": "",
        "meaning": "Where everything is kept: a SQLite file or PostgreSQL.",
        "variable": "KASOKO_DATABASE_URL",
    }


def test_a_warning_is_told_beside_the_answer(kasoko: Kasoko, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MPESA_CONSUMER_KEY=k1\n")
    (tmp_path / ".env").chmod(0o644)
    warning = (
        f"Warning: {tmp_path}/.env holds secrets and others on this machine can read it: chmod 600 {tmp_path}/.env\n"
    )
    assert kasoko("config", "show").stderr == warning
    assert kasoko("config", "show", "--quiet").stderr == ""


def test_a_setting_that_cannot_be_used_ends_with_3(kasoko: Kasoko) -> None:
    result = kasoko("config", "show", PAYOUT_MIN_AMOUNT="ten")
    assert result.returncode == 3
    assert result.stderr == (
        "Error: payout.min_kes = ten (environment PAYOUT_MIN_AMOUNT) must be a whole number of shillings, like 10.\n"
        "Hint: Every setting, its unit and its meaning: kasoko help settings\n"
    )


# --- credential encrypt --------------------------------------------------------------------------


def certificate(folder: Path) -> tuple[Path, rsa.RSAPrivateKey]:
    """A certificate like Safaricom's, whose private half we have."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a certificate of a test")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(begin).not_valid_after(begin + timedelta(days=1))
    file = folder / "certificate.pem"
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file, key


def test_the_credential_opens_with_the_certificates_key(kasoko: Kasoko, tmp_path: Path) -> None:
    file, key = certificate(tmp_path)
    result = kasoko("credential", "encrypt", "--certificate", str(file), stdin="Safaricom999!*!\n")
    assert key.decrypt(base64.b64decode(result.stdout), padding.PKCS1v15()) == b"Safaricom999!*!"
    assert result.returncode == 0
    assert "Safaricom999" not in result.stdout + result.stderr


def test_the_password_is_not_shown_while_it_is_typed(kasoko_on_a_terminal: Callable[..., tuple[int, str]]) -> None:
    prompt = "Initiator password (sandbox, not shown): "
    code, shown = kasoko_on_a_terminal("credential", "encrypt", prompt=prompt, typed="hunter2\n")
    assert code == 0
    assert prompt in shown
    assert "hunter2" not in shown
    assert re.search(r"[A-Za-z0-9+/]{342}==", shown)


def test_a_certificate_that_is_not_there_is_named(kasoko: Kasoko) -> None:
    result = kasoko("credential", "encrypt", "--certificate", "none.pem", stdin="x\n")
    assert result.returncode == 4
    assert result.stderr == (
        "Error: Cannot read the certificate none.pem: No such file or directory.\n"
        "Hint: Nothing was encrypted. Leave --certificate out to use the one that came along.\n"
    )


def test_an_environment_that_does_not_exist_is_wrong_usage(kasoko: Kasoko) -> None:
    result = kasoko("credential", "encrypt", "--environment", "test", stdin="x\n")
    assert result.returncode == 2
    assert result.stderr.startswith("Error: --environment is 'test'; it is sandbox or production.\n")


# --- init asks -----------------------------------------------------------------------------------


def test_init_takes_its_answers_from_options_and_says_the_same_again(kasoko: Kasoko, tmp_path: Path) -> None:
    words = ("--shortcode", "600999", "--initiator", "testapi", "--callback-url", "https://pay.example.org")
    assert kasoko("init", *words).returncode == 0
    written = (tmp_path / "kasoko.toml").read_text()
    assert 'shortcode = "600999"' in written
    assert 'callback_url = "https://pay.example.org"' in written
    assert "production = false" in written
    assert kasoko("init", *words).returncode == 0
    [line] = [number for number, text in enumerate(written.splitlines(), 1) if text == 'shortcode = "600999"']
    other = kasoko("init", "--shortcode", "600998")
    assert (other.returncode, other.stderr) == (
        5,
        (
            f"Error: daraja.shortcode is 600999 and not 600998 (set in kasoko.toml:{line}). Nothing was changed.\n"
            "Hint: init never changes a setting that is there. Change daraja.shortcode yourself there, then run init"
            " without that option.\n"
        ),
    )
    (tmp_path / ".env").write_text("MPESA_PAYBILL=600997\n")
    assert "daraja.shortcode is 600997 and not 600998 (set in .env)" in kasoko("init", "--shortcode", "600998").stderr
    assert (tmp_path / "kasoko.toml").read_text() == written


def test_init_refuses_a_value_that_cannot_be_used_before_it_writes(kasoko: Kasoko, tmp_path: Path) -> None:
    result = kasoko("init", "--callback-url", "https://pay.example.org/?a=b")
    assert (result.returncode, result.stderr) == (
        2,
        (
            "Error: daraja.callback_url = 'https://pay.example.org/?a=b' must be an address without user, password,"
            " question mark or fragment. Nothing was written.\nHint: Read how it is used: kasoko init --help\n"
        ),
    )
    assert list(tmp_path.iterdir()) == []


def test_a_word_in_the_callback_address_is_warned_about_and_taken(kasoko: Kasoko, tmp_path: Path) -> None:
    result = kasoko("init", "--callback-url", "https://mpesa.example.org")
    assert result.returncode == 0
    said = "https://mpesa.example.org has 'mpesa' in it. M-Pesa forbids that for C2B;"
    assert said in result.stderr
    assert f"callback address\twarn\t{said}" in kasoko("doctor", "--offline", "--quiet").stdout


def test_init_asks_on_a_terminal_encrypts_the_password_and_keeps_it_nowhere(
    kasoko_on_a_terminal: Callable[..., tuple[int, str]], kasoko: Kasoko, tmp_path: Path
) -> None:
    answers = [
        ("Sandbox or production? [sandbox] ", ""),
        ("Shortcode, the number that pays, like 600999: ", "6x"),
        (
            "must be a shortcode of digits only, like 600999.\r\nShortcode, the number that pays, like 600999: ",
            "600999",
        ),
        ("Initiator, the user name of the API operator: ", "testapi"),
        ("like https://pay.example.org: ", "https://pay.example.org"),
        ("Consumer key of the app on the Daraja portal (not shown): ", "a'key#1"),
        ("Consumer secret of the app (not shown): ", "secret12"),
        ("Initiator's password (sandbox; encrypted here, kept nowhere, not shown): ", "Safaricom999!*!"),
    ]
    code, shown = kasoko_on_a_terminal("init", answers=answers)
    assert code == 0, shown
    for secret in ("a'key#1", "secret12", "Safaricom999"):
        assert secret not in shown
    env = (tmp_path / ".env").read_text()
    assert "Safaricom999" not in env + (tmp_path / "kasoko.toml").read_text()
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    config = load_config(environ={}, folder=tmp_path)
    config.require_daraja()
    assert config.daraja.consumer_key is not None
    assert config.daraja.consumer_key.get_secret_value() == "a'key#1"
    assert config.daraja.security_credential is not None
    assert len(config.daraja.security_credential.get_secret_value()) == 344

    before = env, (tmp_path / "kasoko.toml").read_text()
    code, shown = kasoko_on_a_terminal("init")  # there is nothing left to ask
    assert code == 0, shown
    assert ((tmp_path / ".env").read_text(), (tmp_path / "kasoko.toml").read_text()) == before

    found = json.loads(kasoko("doctor", "--offline", "--json").stdout)
    states = {one["check"]: one["state"] for one in found["checks"]}
    assert {one for one, state in states.items() if state == "FAIL"} == set()
    assert (states["settings to pay"], states["credential"], states["password age"]) == ("ok", "ok", "ok")


HTTP_WORDS = ("init", "--yes", "--production", "--callback-url", "http://pay.example.org")


def test_an_address_that_production_rules_out_is_refused_before_anything_is_written(
    kasoko: Kasoko, tmp_path: Path
) -> None:
    result = kasoko(*HTTP_WORDS)
    assert (result.returncode, result.stderr) == (
        2,
        (
            "Error: daraja.callback_url = 'http://pay.example.org' must begin with https:// when daraja.production is"
            " true. Nothing was written.\nHint: Write --callback-url https://pay.example.org\n"
        ),
    )
    by_environment = kasoko("init", "--production", MPESA_CALLBACK_URL="http://pay.example.org")
    assert (by_environment.returncode, by_environment.stderr) == (
        3,
        (
            "Error: daraja.callback_url must begin with https:// when daraja.production is true.\nHint: Set"
            " daraja.callback_url to one like https://pay.example.org where it stands: environment MPESA_CALLBACK_URL\n"
        ),
    )
    assert kasoko("init", "--database", "oracle://db").returncode == 3
    assert list(tmp_path.iterdir()) == []
    assert kasoko(*HTTP_WORDS[:-1], "https://pay.example.org").returncode == 0
    assert kasoko("config", "show").returncode == 0


def test_the_question_for_the_address_is_asked_again_with_the_reason(
    kasoko_on_a_terminal: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    address = "Callback address, where the world reaches kasoko listen, like https://pay.example.org: "
    answers = [
        ("Sandbox or production? [sandbox] ", "production"),
        ("Shortcode, the number that pays, like 600999: ", "600999"),
        ("Initiator, the user name of the API operator: ", "payer"),
        (address, "http://pay.example.org"),
        (f"when daraja.production is true.\r\n{address}", "https://pay.example.org"),
        ("Consumer key of the app on the Daraja portal (not shown): ", "key12"),
        ("Consumer secret of the app (not shown): ", "secret12"),
        ("Initiator's password (production; encrypted here, kept nowhere, not shown): ", "Safaricom999!*!"),
    ]
    code, shown = kasoko_on_a_terminal("init", answers=answers)
    assert code == 0, shown
    assert "fill in the secrets" not in shown, "each was given"
    assert 'callback_url = "https://pay.example.org"' in (tmp_path / "kasoko.toml").read_text()


def test_a_question_that_is_interrupted_leaves_nothing_behind(
    kasoko_on_a_terminal: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    program = (
        "from kasoko_cli.cli.output import render; from kasoko_cli.cli.app import app\n"
        "def interrupt(question): raise KeyboardInterrupt\n"
        "render.ask_secret = interrupt\n"
        "app(['init', '--shortcode', '600999', '--initiator', 'a', '--callback-url', 'https://pay.example.org'])"
    )
    code, shown = kasoko_on_a_terminal(program=program, prompt="[sandbox] ", typed="\n")
    assert code == 130
    for line in (" Interrupted; nothing was written.\r\n", " Begin again: kasoko init\r\n"):
        assert line in shown
    assert list(tmp_path.iterdir()) == []


# --- doctor --------------------------------------------------------------------------------------


def test_the_doctor_names_what_is_missing_and_exits_8(kasoko: Kasoko, tmp_path: Path) -> None:
    before = kasoko("doctor", "--offline", "--quiet")
    assert before.returncode == 8
    assert (
        f"database\tFAIL\tThere is no database at {tmp_path / 'kasoko.db'}.\n"
        "\t\tdo: Is it in another folder, or on another name (--database URL)? Is there a backup (kasoko db restore"
        " FILE)? A new database does not know who was paid, and would pay them again. Only for a first one: kasoko"
        " init\n"
    ) in before.stdout
    kasoko("init")
    after = kasoko("doctor", "--offline", "--quiet")
    assert after.returncode == 8
    assert (
        "settings to pay\tFAIL\tNot set: daraja.shortcode (MPESA_PAYBILL), daraja.initiator_name"
        " (MPESA_INITIATOR_NAME), daraja.callback_url (MPESA_CALLBACK_URL), daraja.consumer_key (MPESA_CONSUMER_KEY),"
        " daraja.consumer_secret (MPESA_CONSUMER_SECRET), daraja.security_credential"
        " (MPESA_SECURITY_CREDENTIAL_ENCRYPTED).\n\t\tdo: kasoko init asks for them; or set them in .env\n"
    ) in after.stdout
    assert "Only their owner" not in after.stdout, "with --quiet what is well is left out"
    assert after.stderr == ""


def test_the_doctor_tells_settings_that_cannot_be_read_as_a_finding(kasoko: Kasoko, tmp_path: Path) -> None:
    (tmp_path / "kasoko.toml").write_text("[payout]\nmin_kes = 0\n")
    found = json.loads(kasoko("doctor", "--json").stdout)
    assert (found["fail"], found["exit_code"]) == (1, 8)
    assert found["checks"][0]["says"].startswith("payout.min_kes = 0 (kasoko.toml:2)")


def test_a_credential_without_a_database_says_how_its_age_can_be_told(kasoko: Kasoko, tmp_path: Path) -> None:
    file, _ = certificate(tmp_path)
    assert kasoko("credential", "encrypt", "--certificate", str(file), stdin="x\n").stderr == (
        "Set it as MPESA_SECURITY_CREDENTIAL_ENCRYPTED. M-Pesa lets the password grow 90 days old.\n"
        "There is no database here to write down when: set daraja.security_credential_set_on, for kasoko doctor.\n"
    )
