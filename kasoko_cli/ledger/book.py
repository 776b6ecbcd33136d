"""The one writer of money. Every movement goes through `post`, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from sqlalchemy import BigInteger, cast, func, text
from sqlmodel import Session, col, select

from kasoko_cli.ledger.chart import Account
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.store.bulk import insert_rows, insert_tuples
from kasoko_cli.store.tables import EntryRow, PostingRow

#: How many entries are written by one statement.
BATCH = 5_000


def post(session: Session, *entries: Entry, at: datetime) -> None:
    """Write entries into the books, in the transaction of the state change that caused them.

    Raises:
        sqlalchemy.exc.IntegrityError: an entry with this key stands already; the caller's
            transaction is lost, and with it the state change that would have moved money twice.
    """
    post_many(session, entries, at=at)


def post_many(session: Session, entries: Iterable[Entry], *, at: datetime) -> int:
    """Write many entries, in the order given and in batches; says how many."""
    source, written = iter(entries), 0
    while batch := list(islice(source, BATCH)):
        first = _next_id(session)
        insert_rows(
            session,
            EntryRow,
            [{"id": first + n, "key": entry.key, "kind": entry.kind, "at": at} for n, entry in enumerate(batch)],
        )
        lines = (
            (first + n, line, account.value, owner, cents)
            for n, entry in enumerate(batch)
            for line, (account, owner, cents) in enumerate(entry.postings)
        )
        insert_tuples(session, PostingRow, ("entry_id", "line", "account", "owner", "amount_cents"), lines)
        written += len(batch)
    return written


def _next_id(session: Session) -> int:
    """The first entry number that nobody has used or will use before this transaction ends.

    SQLite has one writer at a time, so the highest number plus one is free. PostgreSQL takes a
    lock for the rest of the transaction, so that entries also commit in the order of their numbers.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(7215190332)"))
    return int(session.exec(select(func.coalesce(func.max(col(EntryRow.id)), 0))).one()) + 1


def balance(session: Session, account: Account, owner: str | None = "") -> int:
    """The debit balance of an account in cents; `owner=None` sums over all owners."""
    query = select(cast(func.coalesce(func.sum(col(PostingRow.amount_cents)), 0), BigInteger)).where(
        col(PostingRow.account) == str(account)
    )
    if owner is not None:
        query = query.where(col(PostingRow.owner) == owner)
    return int(session.exec(query).one())


def wallet_balance(session: Session, user_id: str) -> int:
    """Everything ever credited to the user, less what was staked from the wallet, in cents."""
    return -balance(session, Account.WALLET, user_id)


def available(session: Session, user_id: str) -> int:
    """What the user can still spend or take out: the balance less what went to the phone, in cents."""
    return wallet_balance(session, user_id) - balance(session, Account.DELIVERED, user_id)
