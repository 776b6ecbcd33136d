"""Take a statement back that should not have been taken in, exactly: as if it had never been there.

Every entry that it booked is reversed by its exact negation, its lines are forgotten, so that the right file, or
the same one, can be taken in later, and the incidents that it raised are closed. What it ended as not paid is
unknown again, if nothing was built on that since. What cannot be taken back safely refuses the whole: who was paid
by a line of it, what came back by one, and what was sent again since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col

from kasoko_cli.clock import eat
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.operations.account.payer import NOT_SENT_SINCE
from kasoko_cli.operations.reconciliation.statement_findings import CONTRADICTS, LineVerdict
from kasoko_cli.operations.reconciliation.statement_import import SILENCE, Take
from kasoko_cli.operations.safeguards import restore_doubt
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import Actor, needs_reason, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.from_row import from_row
from kasoko_cli.store import attempts, statements, users
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.locking import Turn, take_turn
from kasoko_cli.store.log import close_incident, note_event, stream_events
from kasoko_cli.store.schema.tables import Attempt, Event, Payout, Statement, StatementLine

#: At most so many reasons against it are named.
NAMED = 5


@dataclass(frozen=True, slots=True)
class TakenStatement:
    """A statement that was taken in. `lines` are the file's, `brought` those that no other had brought before.

    `covers_from` and `covers_to` are what it shows. `state` is `taken`, `half taken` or `taken back`.
    """

    id: int
    file: str
    digest: str
    taken_at: datetime
    actor: str
    covers_from: datetime
    covers_to: datetime
    lines: int
    brought: int
    in_suspense_cents: int
    state: str


@dataclass(frozen=True, slots=True)
class Undone:
    """What taking a statement back did. `unknown_again` are the payouts that its silence had ended."""

    id: int
    file: str
    lines: int
    entries: int
    suspense_cents: int
    charges_cents: int
    unknown_again: list[str]
    incidents: int


def list_taken(db: Database) -> list[TakenStatement]:
    """Every statement that was taken in, the latest first; those taken back too."""
    with db.reading() as session:
        return [_taken(*found) for found in statements.list_statements(session)]


def _taken(row: Statement, brought: int, in_suspense: int) -> TakenStatement:
    state = "taken back" if row.undone_at is not None else "half taken" if row.done_at is None else "taken"
    told = {"brought": brought, "in_suspense_cents": in_suspense, "state": state}
    return from_row(TakenStatement, row, file=row.name, **told)


def undo_statement(ctx: OperationContext, *, statement_id: int) -> Undone:
    """Take a statement back, whole or not at all.

    Raises:
        NotFound: there is no statement with this number.
        Refused: it was taken back before, no reason was given, or something of it can no longer be taken back.
    """
    needs_reason(ctx.actor, "Taking a statement back")
    now = ctx.clock()
    with ctx.db.transaction() as session:
        take_turn(session, Turn.STATEMENT)
        row = statements.find_by_number(session, statement_id)
        if row.undone_at is not None:
            raise Refused(f"Statement {statement_id} was taken back at {eat(row.undone_at)}; nothing was changed.")
        lines = statements.lines_of(session, statement_id)
        ended = _ended_by(session, Take.mark_of(row))
        fates = [(detail, *transitions.lock(session, detail["attempt"])) for detail in ended]
        against = [*_against(session, row, lines), *(why for one in fates if (why := _cannot_doubt(session, *one)))]
        if against:
            more = f" And {len(against) - NAMED} more." if len(against) > NAMED else ""
            raise Refused(
                f"Statement {statement_id} ({row.name}) cannot be taken back: {'; '.join(against[:NAMED])}.{more}"
                " Nothing was changed.",
                hint="See what it said: kasoko statement list. What it put into suspense can be resolved by itself:"
                " kasoko suspense list",
            )
        reversals = _reversals(session, lines)
        _check_users(session, statement_id, reversals)
        entries = [entry for one in fates for entry in _doubt(session, ctx.actor, row, one, at=now)]
        closed = _withdraw_incidents(session, ctx.actor, row, lines, at=now)
        statements.forget_lines(session, statement_id)
        row.undone_at = now
        done = Undone(
            statement_id,
            row.name,
            len(lines),
            len(reversals),
            _moved(reversals, Account.SUSPENSE),
            -_moved(reversals, Account.CHARGES),
            [payout.id for _, _, payout in fates],
            len(closed),
        )
        undone = {"digest": row.digest, "lines": len(lines), "entries": len(reversals), "incidents": closed}
        note_act(session, ctx.actor, "statement.undo", f"statement:{statement_id}", at=now, detail=undone)
        session.flush()
        book.post_many(session, [*reversals, *entries], at=now)
        return done


def _moved(entries: Sequence[Entry], account: Account) -> int:
    return sum(line.cents for entry in entries for line in entry.postings if line.account is account)


# --- What speaks against it -------------------------------------------------------------------------------------------


def _against(session: Session, row: Statement, lines: Sequence[StatementLine]) -> Iterator[str]:
    """What of the lines cannot be taken back, in words."""
    assert row.id is not None
    for payout_id, receipt in statements.attempts_proven_by(session, row.id):
        yield f"{payout_id} was paid, and {receipt} of it is the proof"
    came_back = [line for line in lines if line.verdict in (LineVerdict.RETURNED, LineVerdict.PAID_BACK)]
    for line in came_back:
        yield f"money came back by {line.receipt}, and stands where it belongs"
    if lines:
        times = [line.completed_at for line in lines]
        later = statements.later_with_the_same_lines(session, row, min(times), max(times))
        if later is not None:
            yield f"statement {later.id} was taken in later and may have lines of it: take that back first"


def _ended_by(session: Session, mark: str) -> list[dict[str, Any]]:
    """What the silence of this taking in ended, as it was written down."""
    acts = stream_events(session, col(Event.action) == SILENCE)
    return [act.detail for act in acts if act.detail["take"] == mark]


def _cannot_doubt(session: Session, detail: dict[str, Any], attempt: Attempt, payout: Payout) -> str:
    """Why a payout cannot go back to unknown, or to doubt; empty where it can."""
    if detail.get("restored") is not None:
        waits = detail["held"] is None or payout.status is PayoutStatus.PENDING or payout.note == detail["held"]
        if attempt.status is AttemptStatus.REJECTED and attempt.lease_token == NOT_SENT_SINCE and waits:
            return ""
    else:
        last = attempts.list_attempts(session, payout.id)[-1]
        stands = attempt.status in (AttemptStatus.FAILED, AttemptStatus.REJECTED) and attempt.sends == detail["sends"]
        if stands and last.id == attempt.id and payout.status is PayoutStatus.FAILED:
            return ""
    return f"its silence ended {payout.id} as not paid, which is {payout.status} since"


def _check_users(session: Session, statement_id: int, reversals: Sequence[Entry]) -> None:
    """Nobody loses money that is spent: what a person said that suspense was may have gone on since."""
    moved: Counter[tuple[Account, str]] = Counter()
    for entry in reversals:
        for account, owner, cents in entry.postings:
            if owner:
                moved[account, owner] += cents
    users.lock_wallets(session, {owner for _, owner in moved})
    for (account, owner), cents in moved.items():
        short = account is Account.WALLET and book.available(session, owner) < cents
        if short or (account is Account.RECEIVABLE and book.balance(session, account, owner) + cents < 0):
            what = "has spent" if account is Account.WALLET else "has given back"
            raise Refused(
                f"Statement {statement_id} cannot be taken back: KES {format_kes(abs(cents))} of it was resolved as"
                f" {account} of {owner}, who {what} it since. Nothing was changed.",
                hint=f"Look at it: kasoko wallet show {owner}",
            )


# --- Doing it ---------------------------------------------------------------------------------------------------------


def _reversals(session: Session, lines: Sequence[StatementLine]) -> list[Entry]:
    """The exact negation of every entry that lines booked, or that was booked of them since."""
    keys = [
        key for line in lines if line.suspense_cents for key in (f"suspense:{line.key}:resolve", f"suspense:{line.key}")
    ]
    charged = [
        line for line in lines if line.attempt_id and line.verdict in (LineVerdict.CHARGE, LineVerdict.CHARGE_DIFFERS)
    ]
    keys += [f"attempt:{line.attempt_id}:charge_paid" for line in charged]
    expected = [f"attempt:{line.attempt_id}:charge" for line in charged]
    standing = statements.standing_keys(session, [*keys, *expected])
    together = statements.posted_together(session, [(standing[key], standing[f"{key}_paid"]) for key in expected])
    posted = statements.postings_of(session, [*(standing[key] for key in keys), *together])
    return [
        journal.reversal(key, [journal.Posting(Account(account), owner, cents) for account, owner, cents in postings])
        for key, postings in posted.items()
    ]


def _doubt(
    session: Session, actor: Actor, row: Statement, ended: tuple[dict[str, Any], Attempt, Payout], *, at: datetime
) -> tuple[Entry, ...]:
    """What its silence ended is unknown again, or in doubt again since a copy was put back."""
    detail, attempt, payout = ended
    why = f"statement {row.id}, which had nothing of it, was taken back"
    note_act(session, actor, "payout.unknown", payout.id, at=at)
    if detail.get("restored") is not None:
        ids = detail.get("silent", [attempt.id])
        restore_doubt.doubt_again(session, payout, attempt_ids=ids, mark=detail["restored"], note=detail["held"], at=at)
        return ()
    return transitions.doubt_again(session, attempt, why=why, at=at).entries


def _withdraw_incidents(
    session: Session, actor: Actor, row: Statement, lines: Sequence[StatementLine], *, at: datetime
) -> list[int]:
    """Close the incidents that it raised and nobody has closed; returns their numbers."""
    why = f"{statements.WITHDRAWN}{row.id}: {actor.reason}"
    raised = [f"statement:{line.verdict}:{line.key}" for line in lines if line.verdict in CONTRADICTS]
    standing = statements.incidents_of(session, row, raised)
    for number in standing:
        close_incident(session, number, by=actor.name, reason=why, at=at)
        note_event(session, at=at, actor=actor.name, action="incident.close", subject=f"incident:{number}", reason=why)
    return standing
