"""Whether the chain holds: every row that was chained is as it was written, and nothing came in beside it.

Reads every entry, event and callback once, in their order, and works every digest out again; nothing is held in
memory but one part of one entry. The end of a chain, its head, can be kept in a file elsewhere: a chain that was
written anew from some row on is whole in itself, and only such a file tells.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session, col

from kasoko_cli.clock import NAIROBI, iso
from kasoko_cli.errors import ConfigurationError, Refused
from kasoko_cli.operations.exchange.export import written_whole
from kasoko_cli.operations.shared.violation import Violation
from kasoko_cli.store.engine import hash_chain as chain
from kasoko_cli.store.engine.bulk_rows import streamed
from kasoko_cli.store.schema.tables import Callback, EntryRow, Event, Link, PostingRow

#: What a file of heads says it is.
FORM = "kasoko heads 1"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain at some time: how many links it had, and the hash that speaks for all of them."""

    chain: str
    number: int
    hash: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DayHead:
    """The last link that a chain had on a Nairobi day."""

    day: str
    chain: str
    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Heads:
    """What a file of heads holds: the ends of both chains, and each day's."""

    form: str
    deployment: str
    made_at: datetime
    heads: list[Head]
    days: list[DayHead]


class _Leaf(NamedTuple):
    """One chained row: its number, the digest worked out now, a name for people, whether it is as written."""

    number: int
    leaf: bytes
    name: str
    is_as_written: bool


def chain_holds(session: Session) -> Iterator[Violation]:
    """Every entry, event and callback is as it was written, none is missing, and none came in beside the chain."""
    deployment = chain.deployment_of(session)
    for name in (chain.BOOKS, chain.INBOX):
        yield from _broken_chain(session, name, deployment)
    for kind, leaves in (
        (chain.ENTRIES, _entries(session)),
        (chain.EVENTS, _events(session)),
        (chain.CALLBACKS, _callbacks(session)),
    ):
        yield from _touched(session, kind, leaves)


def _broken_chain(session: Session, name: str, deployment: str) -> Iterator[Violation]:
    """Whether each link's hash follows from what it says and from the one before."""
    before, expected = chain.first_hash(name, deployment), 1
    for link in streamed(session, _links().where(col(Link.chain) == name).order_by(col(Link.number))):
        if link.number != expected:
            yield Violation(f"{name}:{expected}", f"is not there, and the next link is {name}:{link.number}")
        elif link.hash != chain.link_hash(
            before, chain.LinkFacts(name, link.number, link.kind, link.first, link.last, link.at, link.digest)
        ):
            yield Violation(
                f"{name}:{link.number}", f"does not follow from the link before it (written {iso(link.at)})"
            )
        before, expected = link.hash, link.number + 1


def _links() -> Any:
    names = ("chain", "number", "kind", "first", "last", "at", "digest", "hash")
    return sa.select(*(getattr(Link, name) for name in names))


def _touched(session: Session, kind: str, leaves: Iterator[_Leaf]) -> Iterator[Violation]:
    """Rows of one kind that are not as their links have them."""
    query = _links().where(col(Link.kind) == kind).order_by(col(Link.chain), col(Link.number))
    row = next(leaves, None)
    for link in streamed(session, query):
        digest, touched, count = hashlib.sha256(), list[str](), 0
        while row is not None and row.number <= link.last:
            if row.number < link.first:
                yield Violation(row.name, f"stands outside the chain: it was put in beside it, {kind} {row.number}")
            else:
                digest.update(row.leaf)
                count += 1
                if not row.is_as_written:
                    touched.append(row.name)
            row = next(leaves, None)
        if digest.hexdigest() != link.digest:
            yield from _told(link, kind, touched, count)
        else:
            # Its own digest was touched, and the link knows the right one.
            yield from (Violation(name, "has another digest than the one it was written with") for name in touched)
    while row is not None:
        yield Violation(row.name, f"stands outside the chain: it was put in after its last link, {kind} {row.number}")
        row = next(leaves, None)


def _told(link: Any, kind: str, touched: Sequence[str], count: int) -> Iterator[Violation]:
    if touched:
        yield from (Violation(name, f"is not as it was written at {iso(link.at)} or before") for name in touched)
        return
    numbers = f"{kind} {link.first} to {link.last}" if link.last > link.first else f"{kind} {link.first}"
    yield Violation(
        f"{link.chain}:{link.number}",
        f"{numbers}, written at {iso(link.at)}, are not those that were chained: {count} are there",
    )


def _entries(session: Session) -> Iterator[_Leaf]:
    of_entry = (getattr(EntryRow, name) for name in ("id", "key", "kind", "at", "facts", "digest"))
    of_line = (getattr(PostingRow, name) for name in ("line", "account", "owner", "amount_cents"))
    query = (
        sa.select(*of_entry, *of_line)
        .outerjoin(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .order_by(col(EntryRow.id), col(PostingRow.line))
    )
    for number, rows in itertools.groupby(streamed(session, query), key=itemgetter(0)):
        first = next(rows)
        lines = (tuple(row[6:]) for row in itertools.chain([first], rows) if row[6] is not None)
        leaf = chain.entry_leaf(first[1], first[2], first[3], first[4], lines)
        yield _Leaf(number, leaf, first[1], leaf == first[5])


def _events(session: Session) -> Iterator[_Leaf]:
    columns = [getattr(Event, name) for name in chain.EVENT_FACTS]
    for *facts, digest in streamed(session, sa.select(*columns, col(Event.digest)).order_by(col(Event.id))):
        leaf = chain.event_leaf(facts)
        yield _Leaf(facts[0], leaf, f"event:{facts[0]}", leaf == digest)


def _callbacks(session: Session) -> Iterator[_Leaf]:
    names = ("id", "received_at", "route", "subject", "signed", "source", "digest", "body", "salt")
    query = sa.select(*(getattr(Callback, name) for name in names)).order_by(col(Callback.id))
    for number, received_at, route, subject, signed, source, digest, body, salt in streamed(session, query):
        leaf = chain.callback_leaf(number, received_at, route, subject if signed else None, source, digest or b"")
        # A body that was dropped took its salt with it. SQLite keeps a text in a column of bytes, if it is told to.
        whole = salt is None or (isinstance(body, bytes) and chain.body_digest(salt, body) == digest)
        yield _Leaf(number, leaf, f"callback:{number}", whole)


# --- Heads --------------------------------------------------------------------------------------------------------


def heads_of(session: Session, now: datetime) -> Heads:
    """The ends of both chains now, and those of each day."""
    days: dict[tuple[str, str], Any] = {}
    last: dict[str, Any] = {}
    query = sa.select(col(Link.chain), col(Link.number), col(Link.hash), col(Link.at))
    for link in streamed(session, query.order_by(col(Link.chain), col(Link.number))):
        last[link.chain] = days[link.at.astimezone(NAIROBI).date().isoformat(), link.chain] = link
    return Heads(
        form=FORM,
        deployment=chain.deployment_of(session),
        made_at=now,
        heads=[Head(link.chain, link.number, link.hash, link.at) for link in last.values()],
        days=[DayHead(day, name, link.number, link.hash) for (day, name), link in sorted(days.items())],
    )


def export_heads(heads: Heads, file: Path) -> None:
    """Write the heads into a file, whole or not at all.

    Raises:
        Refused: it cannot be written.
    """
    with written_whole(file, private=False) as stream:
        stream.write(json.dumps(asdict(heads), indent=1, default=iso) + "\n")


def read_heads(file: Path) -> Heads:
    """The heads that `export_heads` wrote.

    Raises:
        Refused: it is no such file.
        ConfigurationError: it cannot be read.
    """
    from pydantic import TypeAdapter

    hint = "Name a file that kasoko audit --chain --export wrote."
    try:
        found = TypeAdapter(Heads).validate_json(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.", hint=hint) from error
    except ValueError:
        found = None
    if found is None or found.form != FORM:
        raise Refused(f"{file} is no file of heads, or not whole.", hint=hint)
    return found


def unlike_heads(session: Session, exported: Heads) -> Iterator[Violation]:
    """What speaks against this being the database whose heads were exported, grown since."""
    deployment = chain.deployment_of(session)
    if exported.deployment != deployment:
        yield Violation(deployment, f"is not the deployment of the exported heads, {exported.deployment}")
        return
    last = sa.select(col(Link.chain), sa.func.max(col(Link.number))).group_by(col(Link.chain))
    ends = {row[0]: int(row[1]) for row in session.execute(last)}
    for head in exported.heads:
        end = ends.get(head.chain, 0)
        if head.number > end:
            yield Violation(
                f"{head.chain}:{head.number}",
                f"this database is older than the head, which was exported at {iso(exported.made_at)}: its chain ends"
                f" at {head.chain}:{end}. It is an older copy, or its end was cut off",
            )
    every: list[Head | DayHead] = [*exported.heads, *exported.days]
    for kept in every:
        stands = sa.select(col(Link.hash)).where(col(Link.chain) == kept.chain, col(Link.number) == kept.number)
        if session.execute(stands).scalar() not in (None, kept.hash):
            yield Violation(
                f"{kept.chain}:{kept.number}",
                f"has another hash than the one exported at {iso(exported.made_at)}: the chain was written anew from"
                " there or before",
            )
