"""Many rows at once, for files: plain tuples in and out, no object a row.

Identifiers are ordered byte by byte on both databases, so that the same records always make the same file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import BigInteger, Dialect, Insert, Update, cast, func
from sqlalchemy.orm import aliased
from sqlalchemy.sql.compiler import SQLCompiler
from sqlmodel import Session, SQLModel, col

from kasoko_cli.domain.market import MarketStatus
from kasoko_cli.domain.payout import ATTEMPT_ID_LENGTH
from kasoko_cli.store.engine.driver import Direct, as_sqlalchemy_says
from kasoko_cli.store.engine.locking import rows_in, where_given
from kasoko_cli.store.schema.tables import Attempt, Bet, EntryRow, Funding, Market, Outcome, Payout, PostingRow, User

#: A statement and a row of plain columns, whichever they are.
Query = sa.Select[*tuple[Any, ...]]
Found = sa.Row[*tuple[Any, ...]]


#: How many rows one statement inserts in a transaction that is the driver's own.
_IN_ONE_STEP = 64

#: How many rows a stream takes from the database at a time.
_AT_A_TIME = 10_000


class BetRecord(NamedTuple):
    """One bet, as files and the table have it."""

    id: str
    market_id: str
    outcome: int
    user_id: str
    stake_cents: int
    funding: Funding
    placed_at: datetime
    cancelled_at: datetime | None


class OpenTo(NamedTuple):
    """What taking in bets needs of a market; `numbers` has its outcomes by name."""

    id: str
    slug: str
    is_open: bool
    status: MarketStatus
    closes_at: datetime
    numbers: dict[str, int]


def insert_rows(session: Session, table: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, each a column's name to its value; all rows name the same columns.

    Raises:
        sqlalchemy.exc.IntegrityError: a row breaks a constraint; the transaction is lost.
    """
    if rows:
        columns = tuple(rows[0])
        insert_tuples(session, table, columns, map(itemgetter(*columns), rows) if len(columns) > 1 else _alone(rows))


def _alone(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    return (tuple(row.values()) for row in rows)


def insert_tuples(
    session: Session, table: type[SQLModel], columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Insert any number of rows, each a tuple in the order of `columns`; they are read as they are written.

    This goes to the driver itself, with one conversion for each column that needs one (times, words):
    SQLAlchemy's own work for each row takes longer than the database does. PostgreSQL takes them by COPY.

    Raises:
        sqlalchemy.exc.IntegrityError: a row breaks a constraint; the transaction is lost.
    """
    session.flush()  # what these rows refer to may still wait in the session
    connection = session.connection()
    dialect = connection.dialect
    statement, binds = _insert_into(table, tuple(columns), dialect)
    ready = _converted(rows, binds)
    if dialect.name == "sqlite":
        while batch := list(islice(ready, _AT_A_TIME)):
            connection.exec_driver_sql(statement, batch)
        return
    with closing(connection.connection.cursor()) as cursor, as_sqlalchemy_says(dialect, statement):
        _copy(cursor, statement, ready)


def insert_directly(
    direct: Direct, table: type[SQLModel], columns: tuple[str, ...], rows: Iterable[Sequence[Any]]
) -> None:
    """The same in a transaction that is the driver's own.

    Raises:
        sqlalchemy.exc.IntegrityError: a row breaks a constraint; the transaction is lost.
    """
    statement, binds = _insert_into(table, columns, direct.dialect)
    if direct.is_sqlite:
        # One step for some rows, since each lets go of Python's lock, and other threads keep it for a while.
        ready = _converted(rows, binds)
        more = f", {statement[statement.rindex('(') :]}"
        while batch := list(islice(ready, _IN_ONE_STEP)):
            direct.cursor.execute(statement + more * (len(batch) - 1), list(chain.from_iterable(batch)))
    else:
        _copy(direct.cursor, statement, _converted(rows, binds))


#: What makes a value fit its column, by the place of the column.
_Binds = Sequence[tuple[int, Callable[[Any], Any]]]


@functools.lru_cache(maxsize=64)
def _insert_into(table: type[SQLModel], columns: tuple[str, ...], dialect: Dialect) -> tuple[str, _Binds]:
    """SQL that inserts rows, and what makes their values fit."""
    named = table.__table__.columns  # type: ignore[attr-defined]
    found = ((n, named[name].type.dialect_impl(dialect).bind_processor(dialect)) for n, name in enumerate(columns))
    binds = [(place, bind) for place, bind in found if bind is not None]
    name, listed = table.__tablename__, ", ".join(columns)
    if dialect.name == "postgresql":
        return f"COPY {name} ({listed}) FROM STDIN", binds
    return f"INSERT INTO {name} ({listed}) VALUES ({', '.join('?' * len(columns))})", binds  # noqa: S608 - our names


def _converted(rows: Iterable[Sequence[Any]], binds: _Binds) -> Iterator[tuple[Any, ...]]:
    """The rows as the driver wants them. What a column turned a value into is remembered: times and words repeat."""
    needed = [(place, _remembering(bind)) for place, bind in binds]
    if not needed:
        yield from rows  # type: ignore[misc] # the driver takes any sequence
        return
    for row in rows:
        values = list(row)
        for place, convert in needed:
            values[place] = convert(values[place])
        yield tuple(values)


def _remembering(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same conversion, with the last value's answer at hand: in a file of bets no two need be alike."""
    last, answer = object(), None

    def remembering(value: Any) -> Any:
        nonlocal last, answer
        if value is not last:
            last, answer = value, convert(value)
        return answer

    return remembering


def _copy(cursor: Any, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def execute_many(session: Session, statement: Insert | Update, rows: Sequence[Mapping[str, Any]]) -> int:
    """Run one statement for each row of values for its bound parameters; returns how many rows it touched.

    The statement is one that lives as long as the program: it is made into SQL once. SQLAlchemy's own way would
    prepare each row of values anew, which takes longer than the database needs to write it.
    """
    if not rows:
        return 0
    connection = session.connection()
    sql, names, prepare, constants = _made(statement, connection.dialect)
    values: list[Any]
    if names is None:
        values = [{name: _prepared(prepare, name, row[name]) for name in row} | constants for row in rows]
    else:
        values = [
            tuple([constants[name] if name in constants else _prepared(prepare, name, row[name]) for name in names])
            for row in rows
        ]
    return connection.exec_driver_sql(sql, values).rowcount


def _prepared(prepare: Mapping[str, Callable[[Any], Any]], name: str, value: Any) -> Any:
    return prepare[name](value) if name in prepare else value


#: SQL; the order of its parameters, or None where they go by name; what makes a value fit; values of its own.
_Made = tuple[str, tuple[str, ...] | None, dict[str, Callable[[Any], Any]], dict[str, Any]]


@functools.lru_cache(maxsize=128)
def _made(statement: Insert | Update, dialect: Dialect) -> _Made:
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    prepare: dict[str, Callable[[Any], Any]] = {}
    constants: dict[str, Any] = {}
    for bind, name in compiled.bind_names.items():
        fit = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if not bind.required:
            constants[name] = bind.effective_value if fit is None else fit(bind.effective_value)
        elif fit is not None:
            prepare[name] = fit
    names = None if compiled.positiontup is None else tuple(compiled.positiontup)
    return str(compiled), names, prepare, constants


def known_users(session: Session, user_ids: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """Those of the users that exist, by id: id, name, phone."""
    query = sa.select(col(User.id), col(User.name), col(User.phone))
    return {row[0]: (row[0], row[1], row[2]) for row in rows_in(session, query, col(User.id), dict.fromkeys(user_ids))}


def existing_users(session: Session, user_ids: Iterable[str]) -> set[str]:
    """The ids of those of the users that exist."""
    return {row[0] for row in rows_in(session, sa.select(col(User.id)), col(User.id), dict.fromkeys(user_ids))}


def known_bets(session: Session, bet_ids: Iterable[str]) -> dict[str, BetRecord]:
    """Those of the bets that exist, by id."""
    query = sa.select(*BET_COLUMNS)
    return {row[0]: BetRecord(*row) for row in rows_in(session, query, col(Bet.id), dict.fromkeys(bet_ids))}


def markets_for_bets(session: Session) -> dict[str, OpenTo]:
    """Every market by id. Those that take bets cannot be closed until the transaction ends."""
    held = sa.select(col(Market.id)).where(col(Market.status) == MarketStatus.OPEN)
    locked = {row[0] for row in session.execute(held.order_by(col(Market.id)).with_for_update(read=True))}
    found = {
        row[0]: OpenTo(row[0], row[1], row[0] in locked, row[2], row[3], {})
        for row in session.execute(
            sa.select(col(Market.id), col(Market.slug), col(Market.status), col(Market.closes_at))
        )
    }
    answers = sa.select(col(Outcome.market_id), col(Outcome.name), col(Outcome.number))
    for market_id, name, number in session.execute(answers):
        if market_id in found:  # one that was made since is not for this file
            found[market_id].numbers[name] = number
    return found


def available_of(session: Session, user_ids: Iterable[str]) -> dict[str, int]:
    """What each of the users can still spend, in cents; users who never had a wallet are left out."""
    query = (
        sa.select(col(PostingRow.owner), cast(-func.sum(col(PostingRow.amount_cents)), BigInteger))
        .where(col(PostingRow.account).in_(["wallet", "delivered"]))
        .group_by(col(PostingRow.owner))
    )
    return {row[0]: int(row[1]) for row in rows_in(session, query, col(PostingRow.owner), dict.fromkeys(user_ids))}


# --- Streams, for exports --------------------------------------------------------------------------


def stream_users(session: Session) -> Iterator[Sequence[Any]]:
    """Every user by id: id, name, phone."""
    query = sa.select(col(User.id), col(User.name), col(User.phone))
    yield from streamed(session, query.order_by(bytewise(session, col(User.id))))


def all_markets(session: Session, market_id: str | None = None) -> list[tuple[Market, list[str]]]:
    """Every market by id, or one, each with the names of its outcomes in their order."""
    query = sa.select(Market).where(*where_given((col(Market.id), market_id)))
    names = sa.select(col(Outcome.market_id), col(Outcome.name)).where(
        *where_given((col(Outcome.market_id), market_id))
    )
    outcomes: dict[str, list[str]] = {}
    for owner, name in session.execute(names.order_by(col(Outcome.number))):
        outcomes.setdefault(owner, []).append(name)
    return [
        (market, outcomes.get(market.id, []))
        for market in session.execute(query.order_by(bytewise(session, col(Market.id)))).scalars()
    ]


def any_from_a_wallet(session: Session, market_id: str | None = None) -> bool:
    """Whether a bet was paid for from a wallet here."""
    from_one = col(Bet.funding) == Funding.WALLET, *where_given((col(Bet.market_id), market_id))
    return session.execute(sa.select(col(Bet.id)).where(*from_one).limit(1)).first() is not None


def stream_bets(session: Session, market_id: str | None = None) -> Iterator[Sequence[Any]]:
    """Every bet, or those of one market, by market and time: as `BetRecord`, the outcome by its name."""
    query = sa.select(*BET_COLUMNS[:2], col(Outcome.name), *BET_COLUMNS[3:]).join(
        Outcome, (col(Outcome.market_id) == col(Bet.market_id)) & (col(Outcome.number) == col(Bet.outcome))
    )
    query = query.where(*where_given((col(Bet.market_id), market_id)))
    place = bytewise(session, col(Bet.market_id)), col(Bet.placed_at), bytewise(session, col(Bet.id))
    yield from streamed(session, query.order_by(*place))


def stream_payouts(session: Session, market_id: str | None = None) -> Iterator[tuple[Payout, Sequence[Any]]]:
    """Every payout in the order they were owed, with slug, name, phone, and its latest attempt.

    Of the attempt the number (0 for none), id, conversation id and receipt.
    """
    other = aliased(Attempt)
    latest = sa.select(func.max(col(other.number))).where(col(other.payout_id) == col(Payout.id)).scalar_subquery()
    query = (
        sa.select(
            Payout,
            col(Market.slug),
            col(User.name),
            col(User.phone),
            func.coalesce(col(Attempt.number), 0),
            col(Attempt.id),
            col(Attempt.conversation_id),
            col(Attempt.receipt),
        )
        .join(Market, col(Market.id) == col(Payout.market_id))
        .join(User, col(User.id) == col(Payout.user_id))
        .outerjoin(Attempt, (col(Attempt.payout_id) == col(Payout.id)) & (col(Attempt.number) == latest))
        .where(*where_given((col(Payout.market_id), market_id)))
        .order_by(col(Payout.created_at), bytewise(session, col(Payout.market_id)), col(Payout.number))
    )
    for row in streamed(session, query):
        yield row[0], row[1:]


def stream_postings(session: Session, market_id: str | None = None) -> Iterator[Sequence[Any]]:
    """Every line of the books in order: entry, key, kind, time, line, account, owner, cents.

    With a market: the entries of its bets, settlements, payouts and attempts.
    """
    query = (
        sa.select(
            *(col(getattr(EntryRow, name)) for name in ("id", "key", "kind", "at")),
            *(col(getattr(PostingRow, name)) for name in ("line", "account", "owner", "amount_cents")),
        )
        .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .order_by(col(EntryRow.id), col(PostingRow.line))
    )
    if market_id is not None:
        pools = sa.select(col(PostingRow.entry_id)).where(
            col(PostingRow.account) == "pool", col(PostingRow.owner).startswith(f"{market_id}/", autoescape=True)
        )
        attempts = sa.select(col(Attempt.id)).join(Payout).where(col(Payout.market_id) == market_id)
        start = len("attempt:") + 1
        query = query.where(
            sa.or_(
                col(EntryRow.id).in_(pools),
                col(EntryRow.key).startswith(f"settle:{market_id}:", autoescape=True),
                col(EntryRow.key).startswith(f"payout:{market_id}.", autoescape=True),
                col(EntryRow.key).startswith("attempt:")
                & func.substr(col(EntryRow.key), start, ATTEMPT_ID_LENGTH).in_(attempts),
            )
        )
    yield from streamed(session, query)


#: The columns of a bet, in the order of `BetRecord`.
BET_COLUMNS = tuple(col(getattr(Bet, name)) for name in BetRecord._fields)


def streamed(session: Session, query: Query) -> Iterator[Found]:
    """The rows that a query finds, some thousands in memory at a time."""
    yield from session.execute(query.execution_options(yield_per=_AT_A_TIME))


def bytewise(session: Session, column: Any) -> Any:
    """The column in the order of its bytes, whatever language the server sorts by."""
    return column.collate("C" if session.get_bind().dialect.name == "postgresql" else "BINARY")
