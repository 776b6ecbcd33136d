"""A chain of digests over entries, events and callbacks; what stands already is chained here."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlmodel import Session

from kasoko_cli.store.engine import hash_chain, row_digests
from kasoko_cli.store.migrations.ddl import allow_changes, create_table, refuse_changes
from kasoko_cli.store.schema.types import UtcTime

revision = "0004"
down_revision = "0003"

#: The columns that are new.
COLUMNS: dict[str, dict[str, Any]] = {
    "entries": {"facts": sa.LargeBinary(), "digest": sa.LargeBinary()},
    "events": {"digest": sa.LargeBinary()},
    "callbacks": {"salt": sa.LargeBinary(), "digest": sa.LargeBinary()},
    "users": {"salt": sa.LargeBinary(), "seal": sa.Text(), "batch": sa.Text()},
}
#: How many rows are read and written at a time.
AT_ONCE = 5_000


def upgrade() -> None:
    allow_changes("entries", "events")
    for table, columns in COLUMNS.items():
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True))
    create_table(
        "links",
        "chain text, number whole, kind text, first whole, last whole, at time, digest text, hash text",
        key="chain, number",
        checks={
            "chain_is_known": "chain IN ('books', 'inbox')",
            "kind_is_known": "kind IN ('entries', 'events', 'callbacks')",
            "rows_are_in_order": "first <= last",
        },
    )
    with Session(op.get_bind()) as session:
        _salt(session)
        _chain_callbacks(session)
        _chain_entries(session)
        _chain_events(session)
        hash_chain.seal(session)
        session.flush()
    refuse_changes("entries", "events", "links")


def downgrade() -> None:
    allow_changes("entries", "events", "links")
    op.drop_table("links")
    for table, columns in COLUMNS.items():
        for name in columns:
            op.drop_column(table, name)
    refuse_changes("entries", "events")


def _salt(session: Session) -> None:
    """Every user gets a salt, and a seal of who they are."""
    after = ""
    while found := session.execute(
        sa.text("SELECT id, name, phone FROM users WHERE id > :after ORDER BY id LIMIT :n"),
        {"after": after, "n": AT_ONCE},
    ).all():
        after, rows = found[-1].id, []
        for row in found:
            salt = secrets.token_bytes(16)
            rows.append(
                {"salt": salt, "seal": row_digests.person_seal(salt, row.id, row.name, row.phone), "key": row.id}
            )
        session.execute(sa.text("UPDATE users SET salt = :salt, seal = :seal, batch = 'before' WHERE id = :key"), rows)


def _chain_callbacks(session: Session) -> None:
    table = sa.table(
        "callbacks",
        sa.column("id"),
        sa.column("received_at", UtcTime()),
        *(sa.column(name) for name in ("route", "subject")),
        sa.column("signed", sa.Boolean()),
        *(sa.column(name) for name in ("source", "body")),
    )
    for found in _in_parts(session, table):
        rows = []
        for row in found:
            salt = secrets.token_bytes(16)
            digest = hash_chain.body_digest(salt, row.body)
            leaf = hash_chain.callback_leaf(
                row.id, row.received_at, row.route, row.subject if row.signed else None, row.source, digest
            )
            hash_chain.take_in(session, hash_chain.CALLBACKS, row.id, row.received_at, leaf)
            rows.append({"salt": salt, "digest": digest, "key": row.id})
        session.execute(sa.text("UPDATE callbacks SET salt = :salt, digest = :digest WHERE id = :key"), rows)


def _chain_entries(session: Session) -> None:
    table = sa.table("entries", sa.column("id"), sa.column("key"), sa.column("kind"), sa.column("at", UtcTime()))
    lines = sa.text("SELECT line, account, owner, amount_cents FROM postings WHERE entry_id = :key ORDER BY line")
    for found in _in_parts(session, table):
        known, rows = (
            row_digests.facts_of(session, [row_digests.About(row.key, row.kind) for row in found], with_duties=False),
            [],
        )
        for row in found:
            fact = known[row.key].digest if row.key in known else None
            postings = (tuple(line) for line in session.execute(lines, {"key": row.id}))
            leaf = hash_chain.entry_leaf(row.key, row.kind, row.at, fact, postings)
            hash_chain.take_in(session, hash_chain.ENTRIES, row.id, row.at, leaf)
            rows.append({"facts": fact, "digest": leaf, "number": row.id})
        session.execute(sa.text("UPDATE entries SET facts = :facts, digest = :digest WHERE id = :number"), rows)


def _chain_events(session: Session) -> None:
    names = hash_chain.EVENT_FACTS
    table = sa.table("events", *(sa.column(name, UtcTime() if name == "at" else None) for name in names))
    for found in _in_parts(session, table):
        rows = []
        for row in found:
            leaf = hash_chain.event_leaf(row)
            hash_chain.take_in(session, hash_chain.EVENTS, row.id, row.at, leaf)
            rows.append({"digest": leaf, "number": row.id})
        session.execute(sa.text("UPDATE events SET digest = :digest WHERE id = :number"), rows)


def _in_parts(session: Session, table: sa.TableClause) -> Iterator[Sequence[sa.Row[*tuple[Any, ...]]]]:
    after = 0
    query = sa.select(table).order_by(table.c.id).limit(AT_ONCE)
    while found := session.execute(query.where(table.c.id > after)).all():
        after = found[-1].id
        yield found
