"""One decision on many: every payout that is unknown since an outage, ended as not paid, each past the same guard.

What is shown and asked about is one list, by its hash; exactly that list is decided, or nothing of it. What the guard
objects to is named and left as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from sqlmodel import Session

from kasoko_cli.clock import Clock
from kasoko_cli.domain.proof import canonical
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.operations.approvals.second_person import HASH_DIGITS, USUAL, ApprovalTerms, Declaration, hear, is_named
from kasoko_cli.operations.approvals.signatures import DECIDE, DECIDE_ALL, FIRST, hold_signed, note_signed
from kasoko_cli.operations.payouts.manual_decision import Decided, Decision, end, needs_evidence, said_of
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way
from kasoko_cli.operations.shared.actor import needs_reason
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import attempts, payouts
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt, Payout

#: What a word on many is about.
SUBJECT = "payouts"


class SentSpan(NamedTuple):
    """When they were sent: from the first moment to the last, both included."""

    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Unknown:
    """One payout on the list; `is_acknowledged` says that M-Pesa had taken it, so that its id is spent."""

    payout_id: str
    attempt_id: str
    sent_at: datetime
    wire_cents: int
    is_acknowledged: bool


@dataclass(frozen=True, slots=True)
class LeftUnknown:
    """A payout that was not decided, why, and what a person can do."""

    payout_id: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class UnknownList:
    """Every payout that is unknown since it was sent within a span, and may be decided; in cents."""

    first: datetime
    last: datetime
    list_hash: str
    wire_cents: int
    items: list[Unknown] = field(default_factory=list)
    left: list[LeftUnknown] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BulkDecision:
    """A statement that nothing of a list was paid: the span and the hash that were shown, and the evidence."""

    span: SentSpan
    list_hash: str
    evidence: str


@dataclass(frozen=True, slots=True)
class DecidedAll:
    """What came of it; `waits_for_second` says that another person has to say the same of the same list."""

    list_hash: str
    wire_cents: int
    note: str
    decided: list[Decided]
    left: list[LeftUnknown]
    waits_for_second: bool = False


def look(db: Database, clock: Clock, span: SentSpan, caution: Caution = payment_guard.CAREFUL) -> UnknownList:
    """List what is unknown and was sent within the span; what has arrived meanwhile is judged first."""
    _judge(db, clock, span, caution)
    with db.reading() as session:
        return _list(attempts.list_unknown(session, *span), session, span, caution, clock())[0]


def decide_all(
    ctx: OperationContext,
    said: BulkDecision,
    *,
    two_people: bool = False,
    terms: ApprovalTerms = USUAL,
    caution: Caution = payment_guard.CAREFUL,
) -> DecidedAll:
    """End every payout of the list as not paid, in one transaction, each as `decide` ends one.

    Raises:
        Refused: a reason or evidence is missing, it is not signed, nothing is on the list, or the list is not
            the one that was shown.
    """
    needs_reason(ctx.actor, "A decision")
    needs_evidence(said.evidence)
    _judge(ctx.db, ctx.clock, said.span, caution)
    now = ctx.clock()
    with ctx.db.transaction() as session:
        held = payouts.lock_payouts(session, [payout.id for _, payout in attempts.list_unknown(session, *said.span)])
        # Read again: what ended while we waited for it is unknown no more.
        found = [(one, payout) for one, payout in attempts.list_unknown(session, *said.span) if payout.id in held]
        listed, rows = _list(found, session, said.span, caution, now)
        _check_shown(listed, said.list_hash)
        hold_signed(session, ctx.actor, wanted=terms.signed, at=now, what="A decision")
        bound: dict[str, object] = {"list": listed.list_hash, "count": len(rows), "paid": False}
        detail: dict[str, object] = {"evidence": said.evidence, "cents": listed.wire_cents}
        done = DecidedAll(listed.list_hash, listed.wire_cents, "", [], listed.left)
        if two_people:
            heard = hear(session, ctx.actor, terms, Declaration(DECIDE_ALL, SUBJECT, bound, detail), at=now)
            if heard.first is None:
                return replace(done, note=heard.note, waits_for_second=True)
            bound |= {FIRST: heard.first}
        note_signed(session, ctx.actor, DECIDE_ALL, SUBJECT, at=now, detail=bound | detail)
        decision, entries = Decision(None, said.evidence), list[Entry]()
        for attempt, payout in rows:
            outcome, status = end(session, ctx.actor, (attempt, payout), decision, at=now)
            told = said_of(attempt, decision) | {"list": listed.list_hash, "evidence": said.evidence}
            note_signed(session, ctx.actor, DECIDE, payout.id, at=now, detail=told)
            done.decided.append(Decided(payout.id, status, outcome.note))
            entries += outcome.entries
        book.post_many(session, entries, at=now)
        return replace(done, note="not paid")


def _judge(db: Database, clock: Clock, span: SentSpan, caution: Caution) -> None:
    with db.reading() as session:
        ids = [payout.id for _, payout in attempts.list_unknown(session, *span)]
    payment_guard.judge_first(db, clock, caution, ids)


def _check_shown(listed: UnknownList, list_hash: str) -> None:
    if not listed.items:
        raise Refused(
            "No payout that was sent then is unknown and may be decided. Nothing was changed.",
            hint="See which are unknown: kasoko payout list --status UNKNOWN",
        )
    if not is_named(listed.list_hash, list_hash):
        raise Refused(
            f"The list is {listed.list_hash[:HASH_DIGITS]} now, and not {list_hash[:64]}. Nothing was changed.",
            hint="Something of it was sent or has ended since it was shown. Look again, with the same command.",
        )


def _list(
    found: Sequence[tuple[Attempt, Payout]], session: Session, span: SentSpan, caution: Caution, now: datetime
) -> tuple[UnknownList, list[tuple[Attempt, Payout]]]:
    """List what may be decided, with its hash, and those rows; what the guard objects to is listed apart."""
    against = payment_guard.objections(session, Way.DECIDE_NOT_PAID, [payout for _, payout in found], caution, now=now)
    rows = [(attempt, payout) for attempt, payout in found if payout.id not in against]
    told = [[payout.id, attempt.id, attempt.sends, attempt.wire_cents] for attempt, payout in rows]
    listed = UnknownList(
        *span,
        list_hash=hashlib.sha256(canonical(told)).hexdigest(),
        wire_cents=sum(attempt.wire_cents for attempt, _ in rows),
        items=[
            Unknown(payout.id, one.id, one.sent_at, one.wire_cents, one.conversation_id is not None)
            for one, payout in rows
        ],
        left=[LeftUnknown(name, objection.why, objection.hint) for name, objection in against.items()],
    )
    return listed, rows
