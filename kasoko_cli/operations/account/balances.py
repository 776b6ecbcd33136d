"""What is in the M-Pesa accounts: asked for, noted where a payment's result mentions it, compared with the books.

A balance is a reading of one moment. What may have moved since is subtracted from it, and a reading that is
too old, or that was never taken, is *not known*: never zero, and never enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, cast, func
from sqlmodel import Session, col, select

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.balances import Balances, read_balance, read_result
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.daraja.messages import Result
from kasoko_cli.daraja.redaction import redact
from kasoko_cli.domain.payer import Payer
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.call_log import keep_calls
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.store import accounts, balance_readings, status_queries
from kasoko_cli.store.callbacks import WaitingCallback
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import EntryRow, FloatReading, PostingRow, Query


@dataclass(frozen=True, slots=True)
class AskedBalance:
    """A question for the balances, and what became of asking it."""

    query_id: str
    taken: bool
    why: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What M-Pesa said last, in cents; `said_by` is `balance query` or `payment result`."""

    utility_cents: int
    working_cents: int | None
    charges_cents: int | None
    as_of: datetime
    age_seconds: int
    said_by: str


@dataclass(frozen=True, slots=True)
class FloatDifference:
    """One reason why M-Pesa has another sum than the books, and how much it makes up."""

    why: str
    cents: int


@dataclass(frozen=True, slots=True)
class FloatReport:
    """The float: what M-Pesa said, what of it can be counted on now, and how it compares with the books.

    `available_cents` is the utility account less all that the reading may not hold yet. `differences` sum to
    `difference_cents`, which is M-Pesa's figure less that of the books. What is not known is None.
    """

    reading: Reading | None
    available_cents: int | None
    in_flight_cents: int
    books_cents: int
    difference_cents: int | None
    differences: list[FloatDifference]
    unexplained_cents: int | None
    tariff_valid_from: str


# --- Asking --------------------------------------------------------------------------------------


def ask(ctx: OperationContext, gateway: Gateway) -> AskedBalance:
    """Ask M-Pesa for its balances; the answer is posted to the listener.

    Raises:
        ConfigurationError: M-Pesa refuses the consumer key or secret.
        NotSent: M-Pesa cannot be reached.
    """
    db, clock, actor, daraja, links = ctx.db, ctx.clock, ctx.actor, gateway.daraja, gateway.links
    daraja.check_account()
    query_id = f"kq-{gateway.new_id()}"
    with db.transaction() as session:
        asker = accounts.ensure(session, daraja.account.payer, at=clock())
        session.add(Query(id=query_id, kind="BALANCE", attempt_id=None, asked_at=clock(), account_id=asker))
        note_act(session, actor, "float.ask", query_id, at=clock())
    answer = daraja.ask_balance(links.of_balance(query_id), query_id=query_id)
    taken = answer.verdict is Verdict.TAKEN
    with db.transaction() as session:
        if taken and answer.conversation_id:
            status_queries.keep_conversation(session, query_id, answer.conversation_id)
        elif not taken:
            nothing, why = status_queries.NOT_ASKED, answer.meaning
            status_queries.note_answer(session, query_id, answer=nothing, detail=why, at=clock())
        keep_calls(session, (query_id, answer))
    return AskedBalance(query_id, taken, answer.meaning if taken else f"{answer.meaning} {answer.advice}".strip())


def answer_of(db: Database, query_id: str) -> str | None:
    """What M-Pesa answered in words: empty where its balances were read, None where it has not answered."""
    with db.reading() as session:
        query = status_queries.find_query(session, query_id)
        if query is None or query.answered_at is None:
            return None
        if balance_readings.reading_of_query(session, query_id) is not None:
            return ""
        return query.detail or "it was not read"


# --- Taking down ---------------------------------------------------------------------------------


def note_results(session: Session, results: Sequence[tuple[str, Result | None]], *, at: datetime) -> None:
    """Note the balances that believed results of payments mention, where they say as of when.

    `results` are attempts and what M-Pesa said of each.
    """
    rows = []
    for attempt_id, result in results:
        found = None if result is None else read_result(result)
        if found is not None and found.as_of is not None and found.utility_cents is not None:
            rows.append(_row(found, found.utility_cents, found.as_of, at=at, attempt_id=attempt_id))
    balance_readings.add_readings(session, rows)


def judge_answer(
    session: Session, callback: WaitingCallback, result: Result | None, trouble: str, *, at: datetime
) -> tuple[str, str] | None:
    """Judge a signed answer to a balance query; a verdict and why, or None where it waits for its acknowledgement.

    It is believed if it answers a question of ours under the conversation id that M-Pesa gave it.
    """
    query = status_queries.find_query(session, callback.subject)
    if query is None or query.kind != "BALANCE":
        return "stray", "no such query here"
    if status_queries.is_being_asked(query, at):
        return None
    if query.conversation_id is None and query.answered_at is None:
        return "hint", "a balance whose question was never acknowledged: kept, not believed"
    if result is None:
        status_queries.note_answer(session, query.id, answer="UNREADABLE", detail=trouble, at=at)
        return "unreadable", trouble
    if result.conversation_id != query.conversation_id:
        return "hint", "a balance under another conversation id: kept, not believed"
    if result.result_code != "0":
        said = redact(result.text("ErrorMsg") or result.result_desc).strip()[:200]
        why = f"code {result.result_code or 'missing'}: {said}"
        status_queries.note_answer(session, query.id, answer="REFUSED", detail=why, at=at)
        return "noted", why
    found = read_balance(result)
    why = "; ".join(f"cannot be read: {part}" for part in found.unreadable)
    if found.utility_cents is None:
        why = f"M-Pesa names no utility account{'; ' + why if why else ''}"
        status_queries.note_answer(session, query.id, answer="UNREADABLE", detail=why, at=at)
        return "unreadable", why
    status_queries.note_answer(session, query.id, answer="BALANCE", detail=why or "read", at=at)
    row = _row(found, found.utility_cents, found.as_of or query.asked_at, at=at, query_id=query.id)
    balance_readings.add_readings(session, [row])
    return "noted", why or "the balances were read"


def _row(
    found: Balances,
    utility_cents: int,
    as_of: datetime,
    *,
    at: datetime,
    attempt_id: str | None = None,
    query_id: str | None = None,
) -> dict[str, object]:
    return {
        # M-Pesa's clock may be ahead of ours, and a reading of the future would outlive all that follow.
        "as_of": min(as_of, at),
        "noted_at": at,
        "attempt_id": attempt_id,
        "query_id": query_id,
        "utility_cents": utility_cents,
        "working_cents": found.working_cents,
        "charges_cents": found.charges_cents,
    }


# --- What it comes to ----------------------------------------------------------------------------


def last_known(session: Session, now: datetime, payer: Payer | None = None) -> Reading | None:
    """What M-Pesa said last of an account, or else of the one that pays now, and how long ago."""
    row = balance_readings.latest_reading(session, now, payer)
    return None if row is None else _reading(row, now)


def _reading(row: FloatReading, now: datetime) -> Reading:
    return Reading(
        row.utility_cents,
        row.working_cents,
        row.charges_cents,
        row.as_of,
        max(0, int((now - row.as_of).total_seconds())),
        "balance query" if row.query_id is not None else "payment result",
    )


def available_by(session: Session, now: datetime, tariff: Tariff, payer: Payer | None = None) -> int | None:
    """What the utility account can be counted on to hold now, in cents; None where no balance was ever read."""
    row = balance_readings.latest_reading(session, now, payer)
    if row is None:
        return None
    gone = balance_readings.not_in(session, row, tariff)
    return row.utility_cents - gone.wire_cents - gone.charges_cents


def report(db: Database, clock: Clock, tariff: Tariff, payer: Payer | None = None) -> FloatReport:
    """The float as M-Pesa last said of an account, or of the one that pays now, compared with the books."""
    now = clock()
    with db.reading() as session:
        row = balance_readings.latest_reading(session, now, payer)
        books = book.balance(session, Account.UTILITY)
        in_flight = balance_readings.under_way(session, tariff)
        valid_from = tariff.valid_from.isoformat()
        if row is None:
            return FloatReport(None, None, in_flight.wire_cents, books, None, [], None, valid_from)
        differences = _differences(session, row, tariff)
        difference = row.utility_cents - books
        unexplained = difference - sum(one.cents for one in differences)
        if unexplained:
            differences.append(FloatDifference(_UNEXPLAINED, unexplained))
        return FloatReport(
            _reading(row, now),
            available_by(session, now, tariff, payer),
            in_flight.wire_cents,
            books,
            difference,
            differences,
            unexplained,
            valid_from,
        )


_UNEXPLAINED = "not told to kasoko: top-ups, withdrawals, an opening balance, takings on another account"


def _differences(session: Session, row: FloatReading, tariff: Tariff) -> list[FloatDifference]:
    """Why M-Pesa may have another sum than the books, with what each reason makes up."""
    gone, paid = balance_readings.not_in(session, row, tariff), balance_readings.charges_paid(session, tariff)
    # Where M-Pesa books its charges on an account of their own, they are not missing from this one.
    charged_here = not row.charges_cents
    found = [
        FloatDifference("payments under way, or paid after M-Pesa said it", gone.wire_cents),
        FloatDifference("deposits and collected stakes booked after M-Pesa said it", -_came_in(session, row.as_of)),
        FloatDifference(
            f"M-Pesa's charges by the tariff of {tariff.valid_from}, payments: {paid.payments:,}",
            -paid.charges_cents * charged_here,
        ),
    ]
    return [one for one in found if one.cents]


def _came_in(session: Session, since: datetime) -> int:
    query = (
        select(cast(func.coalesce(func.sum(col(PostingRow.amount_cents)), 0), BigInteger))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(
            col(PostingRow.account) == str(Account.UTILITY),
            col(EntryRow.kind).in_(("deposit", "bet")),
            col(EntryRow.at) > since,
        )
    )
    return int(session.exec(query).one())
