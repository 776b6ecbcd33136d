"""Keys of people, as they meet them: made, added, signed with, and never mistaken for one another."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kasoko_cli.cli.app import app
from kasoko_cli.operations.settlement.settle import Settled
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.database import open_database
from tests.conftest import FixedClock
from tests.operations.data_builder import DataBuilder

Desk = Callable[..., Result]


@pytest.fixture
def settled(sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settled:
    """Somebody settled rain, and it waits for a second person."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("KASOKO_DATABASE_URL", "KASOKO_APPROVER_KEY_FILE", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(sqlite_template, tmp_path / "kasoko.db")
    Path("kasoko.toml").write_text("[approval]\nsigned = true\n")
    db = open_database(f"sqlite:///{tmp_path / 'kasoko.db'}")
    builder = DataBuilder(db, FixedClock(), Actor("cron", "by itself"))
    builder.market("rain")
    builder.bets("rain", {"ann": ("Yes", 100), "ben": ("No", 150)})
    done = builder.settle("rain", "Yes", approval_above_cents=0)
    db.close()
    return done


def kasoko(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == code, done.output
    return done


def said(done: Result) -> str:
    return " ".join(done.output.split())


@pytest.fixture
def signed(settled: Settled) -> Settled:
    """Wanjiku and Otieno have keys, and everything is signed."""
    for name in ("wanjiku", "otieno"):
        kasoko("approver", "key", "--output", f"{name}.key")
        sign = ("--actor", "wanjiku", "--sign-with", "wanjiku.key") if name == "otieno" else ()
        kasoko("approver", "add", name, "--key", f"{name}.key.pub", "--yes", *sign)
    return settled


@pytest.mark.usefixtures("settled")
def test_a_key_is_its_owners_alone_and_is_made_once() -> None:
    done = kasoko("approver", "key", "--output", "wanjiku.key")
    public = Path("wanjiku.key.pub").read_text()
    assert stat.S_IMODE(Path("wanjiku.key").stat().st_mode) == 0o600
    assert public == f"ed25519:{done.stdout}"
    assert Path("wanjiku.key").read_text().strip() not in done.output
    again = kasoko("approver", "key", "--output", "wanjiku.key", code=5)
    assert "There is a wanjiku.key or a wanjiku.key.pub already. No key was made." in said(again)
    shown = json.loads(kasoko("approver", "key", "--output", "other.key", "--json").stdout)
    assert (shown["key"], shown["public_file"]) == ("other.key", "other.key.pub")


@pytest.mark.usefixtures("settled")
def test_a_private_key_is_not_taken_for_a_public_one_nor_the_other_way() -> None:
    kasoko("approver", "key", "--output", "wanjiku.key")
    done = kasoko("approver", "add", "wanjiku", "--key", "wanjiku.key", "--yes", code=5)
    assert "wanjiku.key is no public key. Nothing was changed." in said(done)
    assert kasoko("approver", "list", "--json").stdout.count("public_key") == 0
    kasoko("approver", "add", "wanjiku", "--key", "wanjiku.key.pub", "--yes")
    wrong = ("approver", "add", "otieno", "--key", "wanjiku.key.pub", "--yes", "--sign-with")
    assert "wanjiku.key.pub is no key to sign with" in said(kasoko(*wrong, "wanjiku.key.pub", code=3))
    assert "There is no key nothing.key." in said(kasoko(*wrong, "nothing.key", code=4))
    Path("wanjiku.key").chmod(0o640)
    assert "Others than its owner can use the key wanjiku.key" in said(kasoko(*wrong, "wanjiku.key", code=3))


def test_a_release_is_signed_with_a_file_or_a_variable_or_what_systemd_hands_in(
    signed: Settled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("approve", "rain", "--yes", "--plan-hash", signed.plan_hash, "--actor", "otieno")
    assert "A release has to be signed: approval.signed. Nothing was changed." in said(kasoko(*words, code=5))
    other = kasoko(*words, "--sign-with", "wanjiku.key", code=5)
    assert "it is signed with another key than that of otieno" in said(other)
    monkeypatch.setenv("KASOKO_APPROVER_KEY_FILE", "wanjiku.key")
    assert "it is signed with another key than that of otieno" in said(kasoko(*words, code=5))
    (tmp_path / "handed").mkdir()
    Path("otieno.key").rename(tmp_path / "handed" / "mine")
    (tmp_path / "handed" / "mine").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "handed"))
    assert "rain is released" in said(kasoko(*words, "--sign-with", "mine"))
    [check] = [
        one for one in json.loads(kasoko("audit", "--json").stdout)["checks"] if one["name"] == "acts-are-signed"
    ]
    assert check["ok"]


@pytest.mark.usefixtures("signed")
def test_a_third_is_added_by_two_and_the_list_shows_who() -> None:
    kasoko("approver", "key", "--output", "amina.key")
    words = ("approver", "add", "amina", "--key", "amina.key.pub", "--yes")
    first = kasoko(*words, "--actor", "wanjiku", "--sign-with", "wanjiku.key", code=10)
    assert said(first) == "amina does not sign yet: a second person has to say the same."
    assert "amina signs from now on." in said(kasoko(*words, "--actor", "otieno", "--sign-with", "otieno.key"))
    gone = ("approver", "remove", "wanjiku", "--yes", "--actor", "amina", "--sign-with", "amina.key")
    assert "needs a reason" in said(kasoko(*gone, code=2))
    kasoko(*gone, "--reason", "left the firm")
    listed = json.loads(kasoko("approver", "list", "--json").stdout)
    assert listed["required"]
    assert [(one["name"], one["added_by"], one["removed_at"] is None) for one in listed["approvers"]][:2] == [
        ("otieno", "wanjiku", True),
        ("amina", "otieno", True),
    ]
    assert "has to be signed here." in said(kasoko("approver", "list"))


@pytest.mark.usefixtures("signed")
def test_what_needs_no_person_needs_no_signature() -> None:
    kasoko("reconcile", "--yes", "--quiet", code=3)  # no account of Daraja is set, and nothing else is asked for
    for words in (("pause", "--reason", "a test"), ("resume",), ("status",), ("audit",)):
        kasoko(*words)
