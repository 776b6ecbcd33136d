"""The one writer of money. Every movement goes through `post`, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice

from sqlalchemy import BigInteger, cast, func
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from kasoko_cli.ledger.chart import Account
from kasoko_cli.ledger.journal import Entry, Posting
from kasoko_cli.store.engine import hash_chain
from kasoko_cli.store.engine.bulk_rows import insert_tuples
from kasoko_cli.store.engine.row_digests import About, facts_of
from kasoko_cli.store.schema.tables import EntryRow, PostingRow

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
    """Write many entries, in the order given and in batches; returns how many."""
    source, written = iter(entries), 0
    while batch := list(islice(source, BATCH)):
        facts = facts_of(session, [About(entry.key, entry.kind) for entry in batch])
        # From here on nobody else posts before this transaction ends: entries commit in the order of their numbers.
        hash_chain.lock(session, hash_chain.BOOKS)
        first = hash_chain.next_number(session, col(EntryRow.id))
        rows = []
        for number, entry in enumerate(batch, start=first):
            fact = facts[entry.key].digest if entry.key in facts else None
            leaf = hash_chain.entry_leaf(entry.key, entry.kind, at, fact, _lines(entry))
            hash_chain.take_in(session, hash_chain.ENTRIES, number, at, leaf)
            rows.append((number, entry.key, entry.kind, at, fact, leaf))
        insert_tuples(session, EntryRow, ("id", "key", "kind", "at", "facts", "digest"), rows)
        lines = ((number, *line) for number, entry in enumerate(batch, start=first) for line in _lines(entry))
        insert_tuples(session, PostingRow, ("entry_id", "line", "account", "owner", "amount_cents"), lines)
        written += len(batch)
    return written


def _lines(entry: Entry) -> Iterator[tuple[int, str, str, int]]:
    """The lines of an entry as its digest and its rows have them."""
    for line, (account, owner, cents) in enumerate(entry.postings):
        yield line, account._value_, owner, cents  # `value` looks it up anew, a million times for a large market


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


def movements_of(session: Session, user_id: str, *, limit: int) -> list[tuple[datetime, str, str, str, int]]:
    """What moved in a user's wallet, latest first: when, key, kind, account, and how many cents it rose by."""
    query = (
        columns(col(EntryRow.at), col(EntryRow.key), col(EntryRow.kind), col(PostingRow.account))
        .add_columns(-col(PostingRow.amount_cents))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(
            col(PostingRow.account).in_([str(Account.WALLET), str(Account.DELIVERED)]), col(PostingRow.owner) == user_id
        )
        .order_by(col(EntryRow.id).desc())
        .limit(limit)
    )
    return [(at, key, kind, account, cents) for at, key, kind, account, cents in session.execute(query)]


def is_posted(session: Session, key: str) -> bool:
    """Whether an entry with this key stands."""
    return session.exec(select(col(EntryRow.id)).where(col(EntryRow.key) == key)).first() is not None


def lines_of(session: Session, key: str) -> list[Posting]:
    """The lines of the entry with this key; none where it does not exist."""
    query = (
        select(PostingRow)
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(EntryRow.key) == key)
        .order_by(col(PostingRow.line))
    )
    return [Posting(Account(line.account), line.owner, line.amount_cents) for line in session.exec(query)]
