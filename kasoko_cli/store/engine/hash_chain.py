"""A chain of digests over what is written once: nothing in it can be changed, added or removed unseen.

Each entry (with its postings), each event and each stored callback has a digest of its own, its *leaf*. What
one transaction wrote of a kind makes one link: the digest of its leaves, and a hash over that and the hash of
the link before. So whoever keeps the last hash, the *head*, elsewhere can tell whether anything up to it was
touched. There are two chains: `books` (entries and events), written under the lock of the books, and `inbox`
(callbacks), which the listener writes without waiting for anybody's settlement.

Links are written last in their transaction, so that they stand in the order of the commits: SQLite has one
writer at a time, PostgreSQL takes a lock per chain until the transaction ends.

Digests are SHA-256 over JSON lists without spaces; times are ISO 8601 UTC with microseconds. No name and no
phone is in any of them except behind a salt, which goes when the person is erased.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import insert, literal_column
from sqlmodel import Session, SQLModel, col, func, select

from kasoko_cli.store.engine.bulk_rows import insert_directly, insert_tuples
from kasoko_cli.store.engine.driver import Direct
from kasoko_cli.store.engine.locking import Turn, for_update
from kasoko_cli.store.schema.tables import Deployment, Event, Link

#: The chain of entries and events, and that of callbacks; each with the turn of whoever writes at its end.
BOOKS, INBOX = "books", "inbox"
_TURN = {BOOKS: Turn.BOOKS, INBOX: Turn.INBOX}

#: What a link is about, and the chain it belongs to.
ENTRIES, EVENTS, CALLBACKS = "entries", "events", "callbacks"
CHAIN_OF = {ENTRIES: BOOKS, EVENTS: BOOKS, CALLBACKS: INBOX}

#: The columns of an event in the order of its leaf.
EVENT_FACTS = ("id", "at", "actor", "action", "subject", "reason", "detail")

#: SQL for the last link of each chain.
_ENDS = {
    chain: f"SELECT number, hash FROM links WHERE chain = '{chain}' ORDER BY number DESC LIMIT 1"  # noqa: S608 - ours
    for chain in (BOOKS, INBOX)
}

#: How many lines of an entry are taken into its digest at a time.
LINES_AT_ONCE = 1_000

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
#: A text as that encoder spells it.
_spelt = json.encoder.encode_basestring_ascii

#: Where a session keeps what it has still to chain.
_PENDING = "kasoko_chain"


def canonical(*parts: object) -> bytes:
    """A list in the one spelling that is digested."""
    return _encode(parts).encode()


@functools.lru_cache(maxsize=64)  # what is written together was written at one time
def stamp(moment: datetime | None) -> str | None:
    """A time in the one spelling that is digested."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")


def sealed(*parts: object) -> bytes:
    """The digest of a list."""
    return hashlib.sha256(canonical(*parts)).digest()


def entry_leaf(
    key: str, kind: str, at: datetime, facts: bytes | None, lines: Iterable[tuple[int, str, str, int]]
) -> bytes:
    """The digest of an entry with its lines (number, account, owner, cents), however many there are."""
    digest = hashlib.sha256(canonical("entry", key, kind, stamp(at), facts.hex() if facts else None))
    source = iter(lines)
    while part := list(islice(source, LINES_AT_ONCE)):
        digest.update(_encode(part).encode())
    return digest.digest()


def event_leaf(facts: Iterable[Any]) -> bytes:
    """The digest of an event, by the values of `EVENT_FACTS`."""
    number, at, *rest = facts
    return sealed("event", number, stamp(at), *rest)


def body_digest(salt: bytes, body: bytes) -> bytes:
    """The digest of a callback's body; without the salt it says nothing about the body."""
    return hashlib.sha256(salt + body).digest()


def callback_leaf(
    number: int, received_at: datetime, route: str, subject: str | None, source: str, body: bytes
) -> bytes:
    """The digest of a callback; `body` is the salted digest of its body, which outlives the body itself.

    Which attempt it is about is part of it where its signed address says so; otherwise that is found out later, and
    `subject` is None.
    """
    about, mark = ("null", "false") if subject is None else (_spelt(subject), "true")
    # As `canonical` spells it: its encoder is made anew each time, which takes as long as all the rest of a row.
    text = (
        f'["callback",{number},"{stamp(received_at)}",{_spelt(route)},{about},{mark},{_spelt(source)},"{body.hex()}"]'
    )
    return hashlib.sha256(text.encode()).digest()


def first_hash(chain: str, deployment_id: str) -> str:
    """What the first link of a chain follows: the deployment itself."""
    return sealed("kasoko chain 1", chain, deployment_id).hex()


class LinkFacts(NamedTuple):
    """What a link says: its place in its chain, and which rows of one kind it is about, by their digest."""

    chain: str
    number: int
    kind: str
    first: int
    last: int
    at: datetime
    digest: str


def link_hash(before: str, link: LinkFacts) -> str:
    """The hash of a link, by the hash of the one before it."""
    *which, at, digest = link
    return sealed("link", before, *which, stamp(at), digest).hex()


@dataclass(slots=True)
class _Run:
    """Rows of one kind that one transaction wrote, in the order of their numbers."""

    kind: str
    first: int
    last: int
    at: datetime
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, number: int, at: datetime, leaf: bytes) -> None:
        """Take in the next row, by the digest of it."""
        self.last, self.at = number, at
        self.digest.update(leaf)


@dataclass(slots=True)
class _Pending:
    """What a transaction has written or will write, and has still to chain."""

    runs: dict[str, _Run] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)


def _pending(session: Session) -> _Pending:
    pending: _Pending = session.info.setdefault(_PENDING, _Pending())
    return pending


def take_in(session: Session, kind: str, number: int, at: datetime, leaf: bytes) -> None:
    """Let a row be chained when this transaction commits. Rows come in the order of their numbers."""
    _take_in(_pending(session).runs, kind, number, at, leaf)


def take_in_event(session: Session, event: dict[str, Any]) -> None:
    """Let an event be written and chained when this transaction commits."""
    _pending(session).events.append(event)


def lock(where: Session | Direct, chain: str) -> None:
    """Be the only writer of a chain until the transaction ends. SQLite has one writer at a time anyway."""
    dialect = where.dialect if isinstance(where, Direct) else where.get_bind().dialect
    if dialect.name == "postgresql":
        _first(where, f"SELECT pg_advisory_xact_lock({_TURN[chain].value})")


def next_number(where: Session | Direct, column: Any) -> int:
    """The first number that nobody has used, and nobody will before this transaction ends, under the lock."""
    return int(_first(where, _highest(column))[0]) + 1


def _first(where: Session | Direct, statement: str) -> Any:
    """The first row that plain SQL finds, or None: in a session's transaction, or in the driver's own."""
    if isinstance(where, Direct):
        return where.first(statement)
    return where.connection().exec_driver_sql(statement).first()


@functools.lru_cache(maxsize=8)
def _highest(column: Any) -> str:
    """SQL for the highest number so far. Spelt once: SQLAlchemy's own way takes longer than the database does."""
    return str(select(func.coalesce(func.max(column), literal_column("0"))))


def seal(session: Session) -> None:
    """Write what waits to be chained; called last, right before the commit."""
    pending: _Pending | None = session.info.pop(_PENDING, None)
    if pending is None:
        return
    session.flush()
    if pending.events:
        lock(session, BOOKS)
        first = next_number(session, col(Event.id))
        rows = [{"id": first + n, **event} for n, event in enumerate(pending.events)]
        for row in rows:
            row["digest"] = event_leaf(row[name] for name in EVENT_FACTS)
            _take_in(pending.runs, EVENTS, row["id"], row["at"], row["digest"])
        _insert(session, Event, rows)
    for chain in (BOOKS, INBOX):
        runs = [run for run in pending.runs.values() if CHAIN_OF[run.kind] == chain]
        if runs:
            lock(session, chain)
            _link(session, chain, runs)


def _take_in(runs: dict[str, _Run], kind: str, number: int, at: datetime, leaf: bytes) -> None:
    if kind not in runs:
        runs[kind] = _Run(kind, number, number, at)
    runs[kind].add(number, at, leaf)


def append(direct: Direct, kind: str, numbers: range, at: datetime, leaves: Iterable[bytes]) -> None:
    """Chain rows that were just written, the last thing that this transaction does; it has the lock of the chain."""
    run = _Run(kind, numbers[0], numbers[-1], at)
    for leaf in leaves:
        run.digest.update(leaf)
    _link(direct, CHAIN_OF[kind], [run])


def _link(where: Session | Direct, chain: str, runs: Sequence[_Run]) -> None:
    end = _first(where, _ENDS[chain])
    number, before = (0, first_hash(chain, _first(where, _DEPLOYMENT)[0])) if end is None else (end[0], end[1])
    links = _links(chain, number, before, runs)
    if isinstance(where, Direct):
        insert_directly(where, Link, _LINK, links)
    else:
        insert_tuples(where, Link, _LINK, links)


def _links(chain: str, number: int, before: str, runs: Sequence[_Run]) -> Iterator[tuple[Any, ...]]:
    """The links of these runs, after the one that has this number and this hash."""
    for run in runs:
        number += 1
        link = LinkFacts(chain, number, run.kind, run.first, run.last, run.at, run.digest.hexdigest())
        before = link_hash(before, link)
        yield *link, before


#: SQL for what `deployment_of` says.
_DEPLOYMENT = "SELECT deployment_id FROM deployment"
#: The columns of a link in the order in which they are written.
_LINK = (*LinkFacts._fields, "hash")


def deployment_of(session: Session) -> str:
    """The id of this deployment."""
    return session.exec(select(col(Deployment.deployment_id))).one()


def lock_deployment(session: Session) -> None:
    """Hold what there is one of in a deployment, until the transaction ends."""
    session.exec(for_update(select(Deployment))).one()


def _insert(session: Session, table: type[SQLModel], rows: Sequence[dict[str, Any]]) -> None:
    session.execute(insert(table.__table__), rows)  # type: ignore[attr-defined]
