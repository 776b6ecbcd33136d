"""The books of a period: what each account held before, what went in and out, what it holds after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import BigInteger, Cast, ColumnElement, and_, case, cast, func
from sqlmodel import Session, col, select

from kasoko_cli.ledger.chart import Account
from kasoko_cli.store.schema.tables import EntryRow, PostingRow


class AccountMoves(NamedTuple):
    """One account over a period, in cents; debits, credits and what it holds are all positive numbers."""

    account: str
    opening_cents: int
    debit_cents: int
    credit_cents: int

    @property
    def closing_cents(self) -> int:
        """What it holds at the end."""
        return self.opening_cents + self.debit_cents - self.credit_cents


#: The line that says how much was moved, by kind of entry: the account, and whether its debit (1) or credit (-1) is
#: meant. An entry has other lines too: what a duty kept back is no money that arrived on a phone.
MEANT: Mapping[str, tuple[Account, int]] = MappingProxyType(
    {
        "settle": (Account.PAYABLE, -1),
        "reserve": (Account.IN_FLIGHT, 1),
        "late_reserve": (Account.IN_FLIGHT, 1),
        "release": (Account.UTILITY, 1),
        "deliver": (Account.DELIVERED, 1),
        "credit": (Account.WALLET, -1),
        "overpaid": (Account.RECEIVABLE, 1),
    }
)


class KindMoves(NamedTuple):
    """One kind of entry over a period: how many, the sum of their debits, and what they moved, in cents.

    What was moved is told by the line that `MEANT` has for the kind, and else by the debits.
    """

    kind: str
    entries: int
    cents: int
    moved_cents: int


class Movement(NamedTuple):
    """One entry: its kind, its key, when, and what it moved in cents."""

    kind: str
    key: str
    at: datetime
    cents: int


def _sum(condition: ColumnElement[bool]) -> Cast[int]:
    return cast(func.coalesce(func.sum(col(PostingRow.amount_cents)).filter(condition), 0), BigInteger)


def accounts(session: Session, *, start: datetime, end: datetime) -> list[AccountMoves]:
    """Every account that ever moved before `end`, in the order of the chart."""
    at, cents = col(EntryRow.at), col(PostingRow.amount_cents)
    query = (
        select(
            col(PostingRow.account),
            _sum(at < start),
            _sum(and_(at >= start, cents > 0)),
            _sum(and_(at >= start, cents < 0)),
        )
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(at < end)
        .group_by(col(PostingRow.account))
    )
    found = {
        name: AccountMoves(name, int(opening), int(ins), -int(outs)) for name, opening, ins, outs in session.exec(query)
    }
    return [found[account] for account in Account if account in found]


def kinds(session: Session, *, start: datetime, end: datetime) -> list[KindMoves]:
    """Every kind of entry in a period, by name."""
    query = (
        select(
            col(EntryRow.kind),
            func.count(func.distinct(col(EntryRow.id))),
            _sum(col(PostingRow.amount_cents) > 0),
            _moved(),
        )
        .join(PostingRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(EntryRow.at) >= start, col(EntryRow.at) < end)
        .group_by(col(EntryRow.kind))
        .order_by(col(EntryRow.kind))
    )
    return [KindMoves(kind, int(count), int(cents), int(moved)) for kind, count, cents, moved in session.exec(query)]


def _moved() -> Cast[int]:
    """The sum of the lines that say how much was moved."""
    kind, account, cents = col(EntryRow.kind), col(PostingRow.account), col(PostingRow.amount_cents)
    ours = [(and_(kind == name, account == str(one)), sign * cents) for name, (one, sign) in MEANT.items()]
    else_debits = (and_(kind.not_in(MEANT), cents > 0), cents)
    return cast(func.coalesce(func.sum(case(*ours, else_debits, else_=0)), 0), BigInteger)


def kinds_of(session: Session, account: Account, *, start: datetime, end: datetime) -> dict[str, int]:
    """What each kind of entry posted to an account in a period, in debit cents."""
    cents = cast(func.sum(col(PostingRow.amount_cents)), BigInteger)
    query = (
        select(col(EntryRow.kind), cents)
        .join(PostingRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(EntryRow.at) >= start, col(EntryRow.at) < end, col(PostingRow.account) == str(account))
        .group_by(col(EntryRow.kind))
    )
    return {kind: int(moved) for kind, moved in session.exec(query)}


def movements(session: Session, *, start: datetime, end: datetime, kinds: frozenset[str]) -> Iterator[Movement]:
    """Every entry of these kinds, in the order of their writing."""
    query = (
        select(col(EntryRow.kind), col(EntryRow.key), col(EntryRow.at), _moved())
        .join(PostingRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(EntryRow.at) >= start, col(EntryRow.at) < end, col(EntryRow.kind).in_(kinds))
        .group_by(col(EntryRow.id), col(EntryRow.kind), col(EntryRow.key), col(EntryRow.at))
        .order_by(col(EntryRow.id))
    )
    for kind, key, at, cents in session.exec(query):
        yield Movement(kind, key, at, int(cents))
