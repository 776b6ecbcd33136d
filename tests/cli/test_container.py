"""The container is made from the settings, a part at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.container import Container
from kasoko_cli.config import load_config
from kasoko_cli.errors import ConfigurationError, DatabaseUnavailable
from kasoko_cli.store.engine.database import upgrade
from tests.test_config import ACCOUNT, KEY, SECRETS


def container(folder: Path, **environ: str) -> Container:
    url = f"sqlite:///{folder}/kasoko.db"
    return Container(load_config(environ={"KASOKO_DATABASE_URL": url, **environ}, folder=folder))


def test_mpesa_is_made_from_the_settings_and_shows_no_secret(tmp_path: Path) -> None:
    made = container(tmp_path, **SECRETS, **ACCOUNT, MPESA_BASE_URL="http://127.0.0.1:1")
    upgrade(made.config.database.url)
    account = made.daraja.account
    assert (account.base_url, account.shortcode, account.initiator_name) == ("http://127.0.0.1:1", "600999", "testapi")
    assert account.consumer_secret == SECRETS["MPESA_CONSUMER_SECRET"]
    assert made.daraja is made.daraja
    for secret in SECRETS.values():
        assert secret not in f"{account!r} {made.links!r} {made.daraja!r} {made!r}"
    made.close()


def test_links_can_be_made_with_the_key_alone(tmp_path: Path) -> None:
    links = container(tmp_path, KASOKO_CALLBACK_KEY=KEY, MPESA_CALLBACK_URL="https://pay.example.org").links
    assert links.of_payment("ks-1").result.startswith("https://pay.example.org/api/payments/b2c-callback/ks-1/")


def test_what_is_missing_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^Paying by M-Pesa needs 7 settings that are not set: "):
        _ = container(tmp_path).daraja
    with pytest.raises(ConfigurationError, match=r"needs one setting that is not set: listener\.callback_key"):
        _ = container(tmp_path, MPESA_CALLBACK_URL="https://pay.example.org").links
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"^There is no database at .*kasoko\.db\.$"):
        _ = container(tmp_path).db
    assert list(tmp_path.iterdir()) == []


def test_the_policy_of_a_run_is_what_is_set(tmp_path: Path) -> None:
    (tmp_path / "kasoko.toml").write_text("[payout]\nconcurrency = 2\nrate_per_second = 9\ndaily_kes = 300000\n")
    policy = container(tmp_path).send_policy
    assert (policy.concurrency, policy.rate_per_second, policy.daily_cents) == (2, 9, 30_000_000)
    assert (policy.lease_seconds, tuple(policy.schedule)) == (300, (120, 240, 480, 960, 1920))
    assert container(tmp_path).trust.success_without_ack is False


def test_an_act_says_who_and_why() -> None:
    actor = CommandContext(actor="ann", reason="a goal was missed").who
    assert (actor.name, actor.reason) == ("ann", "a goal was missed")
    assert CommandContext(actor="ann").who.reason == ""
