"""One access token for the whole account: found by every process, fetched by one, unreadable in the database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from kasoko_cli.daraja.client import DarajaApp
from kasoko_cli.daraja.credentials import Token
from kasoko_cli.operations.account.access_tokens import DatabaseShelf
from kasoko_cli.store.access_tokens import LONGEST_REFRESH
from kasoko_cli.store.engine.database import Database
from tests.conftest import FixedClock

pytestmark = pytest.mark.on_both

ACCOUNT = DarajaApp(
    base_url="https://sandbox.safaricom.co.ke",
    consumer_key="a-consumer-key",
    consumer_secret="a-consumer-secret",
    shortcode="600000",
    initiator_name="testapi",
    security_credential="c2VhbGVk",
)


@pytest.fixture
def shelf(db: Database, clock: FixedClock) -> DatabaseShelf:
    """The shelf as the first process sees it."""
    return DatabaseShelf(db, clock, ACCOUNT, "first")


@pytest.fixture
def other(db: Database, clock: FixedClock) -> DatabaseShelf:
    """The same shelf as another process sees it."""
    return DatabaseShelf(db, clock, ACCOUNT, "other")


def _token(clock: FixedClock, value: str = "a-secret-token") -> Token:
    return Token(value, fetched_at=clock(), expires_at=clock() + timedelta(hours=1))


def test_a_token_that_one_process_kept_is_found_by_every_other(
    shelf: DatabaseShelf, other: DatabaseShelf, clock: FixedClock
) -> None:
    assert shelf.current() is None
    assert shelf.claim_refresh(None) is True
    shelf.keep(token := _token(clock))
    assert other.current() == shelf.current() == token


def test_only_one_process_fetches_a_new_token(shelf: DatabaseShelf, other: DatabaseShelf, clock: FixedClock) -> None:
    assert shelf.claim_refresh(None) is True
    assert other.claim_refresh(None) is False
    assert shelf.claim_refresh(None) is False
    shelf.keep(token := _token(clock))
    assert other.claim_refresh(None) is False  # there is a newer one than it thought
    assert other.claim_refresh(token) is True


def test_threads_that_want_a_token_at_once_fetch_it_once(db: Database, clock: FixedClock) -> None:
    shelves = [DatabaseShelf(db, clock, ACCOUNT, f"run {n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda shelf: shelf.claim_refresh(None), shelves)) == 1


def test_a_claim_that_was_given_up_is_free_at_once_and_keeps_the_old_token(
    shelf: DatabaseShelf, other: DatabaseShelf, clock: FixedClock
) -> None:
    shelf.claim_refresh(None)
    shelf.keep(token := _token(clock))
    assert shelf.claim_refresh(token) is True
    shelf.give_up()
    assert other.current() == token
    assert other.claim_refresh(token) is True


def test_a_claim_of_a_process_that_died_ends_by_itself(
    shelf: DatabaseShelf, other: DatabaseShelf, clock: FixedClock
) -> None:
    assert shelf.claim_refresh(None) is True
    clock.forward(LONGEST_REFRESH.total_seconds())
    assert other.claim_refresh(None) is False
    clock.forward(1)
    assert other.claim_refresh(None) is True


def test_a_process_that_comes_back_late_neither_ends_the_new_claim_nor_replaces_its_token(
    shelf: DatabaseShelf, other: DatabaseShelf, clock: FixedClock
) -> None:
    shelf.claim_refresh(None)
    clock.forward(LONGEST_REFRESH.total_seconds() + 1)
    other.claim_refresh(None)
    shelf.keep(_token(clock, "an-old-token"))
    shelf.give_up()
    assert other.current() is None
    assert shelf.claim_refresh(None) is False
    other.keep(token := _token(clock))
    assert shelf.current() == token


def test_the_database_does_not_hold_the_token_as_it_is(db: Database, shelf: DatabaseShelf, clock: FixedClock) -> None:
    shelf.claim_refresh(None)
    shelf.keep(_token(clock))
    with db.reading() as session:
        row = session.execute(text("SELECT account, sealed, refresher FROM access_tokens")).one()
    held = " ".join(str(value) for value in row) + bytes(row.sealed).decode()
    for secret in ("a-secret-token", "a-consumer-key", "a-consumer-secret"):
        assert secret not in held


def test_a_token_sealed_with_another_secret_is_not_used_but_fetched_anew(
    db: Database, shelf: DatabaseShelf, clock: FixedClock
) -> None:
    shelf.claim_refresh(None)
    shelf.keep(_token(clock))
    rotated = DatabaseShelf(db, clock, replace(ACCOUNT, consumer_secret="another-secret"), "rotated")
    assert rotated.current() is None
    assert rotated.claim_refresh(None) is True


def test_each_account_has_a_token_of_its_own(db: Database, shelf: DatabaseShelf, clock: FixedClock) -> None:
    shelf.claim_refresh(None)
    shelf.keep(_token(clock))
    for account in (
        replace(ACCOUNT, consumer_key="another-key"),
        replace(ACCOUNT, base_url="https://api.safaricom.co.ke"),
    ):
        assert DatabaseShelf(db, clock, account, "other").current() is None
