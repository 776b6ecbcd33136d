"""The one writer of money: each key once, all of an entry or nothing, and a book that is always at zero."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

import kasoko_cli
from kasoko_cli.domain.money import MAX_CENTS
from kasoko_cli.errors import LedgerUnbalanced
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import OWNED, Account
from kasoko_cli.ledger.journal import Entry, Posting
from kasoko_cli.store.engine.database import Database, open_database

NOON = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def _count(db: Database, table: str) -> int:
    with db.reading() as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_an_entry_is_posted_with_all_its_lines_in_their_order(db: Database) -> None:
    with db.transaction() as session:
        book.post(session, journal.deposited("SKN1", "ann", 500), at=NOON)
    with db.reading() as session:
        lines = session.execute(
            text(
                "SELECT key, kind, line, account, owner, amount_cents FROM entries JOIN postings ON entry_id = id"
                " ORDER BY line"
            )
        ).all()
    assert [tuple(line) for line in lines] == [
        ("deposit:SKN1", "deposit", 0, "utility", "", 500),
        ("deposit:SKN1", "deposit", 1, "wallet", "ann", -500),
    ]


def test_an_event_told_twice_is_refused_and_takes_its_whole_transaction_with_it(db: Database) -> None:
    with db.transaction() as session:
        book.post(session, journal.deposited("SKN1", "ann", 500), at=NOON)

    def tell_again() -> None:
        with db.transaction() as session:
            book.post(session, journal.deposited("SKN2", "ann", 700), at=NOON)
            book.post(session, journal.deposited("SKN1", "ann", 500), at=NOON)

    with pytest.raises(IntegrityError):
        tell_again()
    assert (_count(db, "entries"), _count(db, "postings")) == (1, 2)
    with db.reading() as session:
        assert book.available(session, "ann") == 500


def test_the_same_key_twice_in_one_batch_leaves_nothing_behind(db: Database) -> None:
    entry = journal.deposited("SKN1", "ann", 500)

    def post() -> None:
        with db.transaction() as session:
            book.post(session, entry, entry, at=NOON)

    with pytest.raises(IntegrityError):
        post()
    assert (_count(db, "entries"), _count(db, "postings")) == (0, 0)


def test_balances_are_debits_and_wallets_are_what_users_hold(db: Database) -> None:
    with db.transaction() as session:
        book.post(
            session,
            journal.deposited("SKN1", "ann", 1_000),
            journal.deposited("SKN2", "ben", 300),
            journal.bet_from_wallet("b1", "ann", "derby", 0, 400),
            at=NOON,
        )
        assert book.balance(session, Account.UTILITY) == 1_300
        assert book.balance(session, Account.WALLET, "ann") == -600
        assert book.balance(session, Account.WALLET, None) == -900
        assert book.balance(session, Account.POOL, "derby/0") == -400
        assert (book.wallet_balance(session, "ann"), book.available(session, "ann")) == (600, 600)
        assert (book.wallet_balance(session, "nobody"), book.available(session, "nobody")) == (0, 0)


def test_a_delivered_win_raises_the_balance_by_all_and_what_is_available_by_the_rest(db: Database) -> None:
    """142.50 won and 142 sent: the phone and a spendable wallet are never both paid."""
    owed = journal.settled("derby", 1, pools={0: 15_000}, owed=[("ann", 14_250)], earned=journal.Earnings(750, 0, 0))
    with db.transaction() as session:
        book.post(session, journal.bet_collected("b1", "derby", 0, 15_000), owed, at=NOON)
        book.post(session, journal.reserved("ks-1", 1, 14_200), at=NOON)
        assert (book.wallet_balance(session, "ann"), book.available(session, "ann")) == (0, 0)
        book.post(
            session,
            journal.credited("derby.1.1", "ann", 14_250),
            journal.delivered("derby.1.1", "ks-1", "ann", 14_200),
            at=NOON,
        )
        assert (book.wallet_balance(session, "ann"), book.available(session, "ann")) == (14_250, 50)
        assert book.balance(session, Account.IN_FLIGHT) == 0


def test_sums_past_what_one_amount_may_be_stay_whole_numbers(db: Database) -> None:
    with db.transaction() as session:
        book.post(session, *(journal.deposited(f"S{n}", "ann", MAX_CENTS) for n in range(40)), at=NOON)
        held = book.wallet_balance(session, "ann")
    assert (held, type(held)) == (40 * MAX_CENTS, int)


def test_many_entries_are_numbered_without_gaps_over_several_batches(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "BATCH", 7)
    with db.transaction() as session:
        assert book.post_many(session, (journal.deposited(f"S{n}", "ann", 1) for n in range(30)), at=NOON) == 30
        assert book.post_many(session, iter(()), at=NOON) == 0
    with db.reading() as session:
        assert session.execute(text("SELECT min(id), max(id), count(*) FROM entries")).one() == (1, 30, 30)


def test_threads_that_post_at_once_neither_clash_nor_lose_an_entry(db: Database) -> None:
    def post(thread: int) -> None:
        for n in range(15):
            with db.transaction() as session:
                book.post(session, journal.deposited(f"{thread}-{n}", "ann", 1), at=NOON)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(post, thread) for thread in range(6)]:
            done.result()
    with db.reading() as session:
        assert book.wallet_balance(session, "ann") == 90
        assert session.execute(text("SELECT count(DISTINCT id), max(id) FROM entries")).one() == (90, 90)


# --- Whatever happens, the book is at zero --------------------------------------------------------------------

_PEOPLE, _CENTS = st.sampled_from(["ann", "ben", "cyn"]), st.integers(1, MAX_CENTS)
_IDS, _OUTCOMES = st.uuids().map(str), st.integers(0, 3)


@st.composite
def _settlements(draw: st.DrawFn) -> Entry:
    pools = draw(st.dictionaries(_OUTCOMES, _CENTS, min_size=1))
    left = sum(pools.values())
    owed = []
    for person in draw(st.lists(_PEOPLE, max_size=5)):
        share = draw(st.integers(0, left))
        owed.append((person, share))
        left -= share
    fee = draw(st.integers(0, left))
    return journal.settled(draw(_IDS), 1, pools=pools, owed=owed, earned=journal.Earnings(fee, left - fee, 0))


EVENTS = st.one_of(
    st.builds(journal.deposited, _IDS, _PEOPLE, _CENTS),
    st.builds(journal.bet_from_wallet, _IDS, _PEOPLE, _IDS, _OUTCOMES, _CENTS),
    st.builds(journal.bet_collected, _IDS, _IDS, _OUTCOMES, _CENTS),
    st.builds(journal.bet_cancelled, _IDS, _PEOPLE, _IDS, _OUTCOMES, _CENTS),
    st.builds(journal.reserved, _IDS, st.integers(1, 9), _CENTS),
    st.builds(journal.released, _IDS, st.integers(1, 9), _CENTS),
    st.builds(journal.late_reserved, _IDS, _CENTS),
    st.builds(journal.credited, _IDS, _PEOPLE, _CENTS),
    st.builds(journal.delivered, _IDS, _IDS, _PEOPLE, _CENTS),
    st.builds(journal.overpaid, _IDS, _PEOPLE, _CENTS),
    _settlements(),
)


@contextmanager
def _copy_of(template: Path) -> Iterator[Database]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kasoko.db"
        path.write_bytes(template.read_bytes())
        db = open_database(f"sqlite:///{path}")
        try:
            yield db
        finally:
            db.close()


@settings(max_examples=60)
@given(events=st.lists(EVENTS, max_size=25))
def test_any_order_of_any_events_leaves_the_book_at_zero(sqlite_template: Path, events: list[Entry]) -> None:
    expected: dict[tuple[str, str], int] = {}
    with _copy_of(sqlite_template) as db:
        for event in events:
            with db.transaction() as session:
                book.post(session, event, at=NOON)
            for account, owner, cents in event.postings:
                expected[account, owner] = expected.get((account, owner), 0) + cents
        with db.reading() as session:
            assert sum(book.balance(session, account, None) for account in Account) == 0
            for (name, owner), cents in expected.items():
                assert book.balance(session, Account(name), owner) == cents


@given(
    postings=st.lists(
        st.builds(
            lambda account, cents: Posting(account, "ann" if account in OWNED else "", cents),
            st.sampled_from(list(Account)),
            st.integers(-MAX_CENTS, MAX_CENTS),
        ),
        max_size=6,
    )
)
def test_lines_become_an_entry_exactly_if_they_sum_to_zero(postings: list[Posting]) -> None:
    if sum(posting.cents for posting in postings):
        with pytest.raises(LedgerUnbalanced):
            journal.entry("x", "x", postings)
    else:
        assert sum(posting.cents for posting in journal.entry("x", "x", postings).postings) == 0


def test_only_the_book_writes_entries_and_postings() -> None:
    package = Path(kasoko_cli.__file__).parent
    writes = re.compile(
        r"(insert|update|delete|insert_rows|insert_tuples)\(\s*(session,\s*)?(EntryRow|PostingRow)"
        r"|(INSERT INTO|UPDATE|DELETE FROM)\s+(entries|postings)"
        r"|\b(EntryRow|PostingRow)\((?!SQLModel)",
        re.IGNORECASE,
    )
    writers = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if writes.search(path.read_text("utf-8"))
    }
    digests_what_stood = "store/migrations/versions/0004_a_chain_of_digests.py"
    assert writers == {"ledger/book.py", digests_what_stood}
