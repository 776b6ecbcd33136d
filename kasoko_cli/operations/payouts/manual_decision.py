"""What only a person can do: stop a payout, let it go, put it into the wallet, say how it ended.

Each act has an actor and a reason, and each is refused unless the payout is where the act makes sense.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.domain.market import check_identifier
from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus, fold_receipt
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.approvals.second_person import USUAL, ApprovalTerms, Declaration, hear
from kasoko_cli.operations.approvals.signatures import DECIDE, FIRST, hold_signed, note_signed
from kasoko_cli.operations.safeguards import payment_guard, restore_doubt
from kasoko_cli.operations.safeguards.failure_confirmation import Confirm
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way, is_doubted
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import Actor, needs_reason, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.transitions import DECIDED, Success, TransitionResult
from kasoko_cli.store import approvals, attempts, payouts
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import close_incident, open_incidents
from kasoko_cli.store.schema.tables import Attempt, Payout

#: What has not left and may be stopped.
STOPPABLE = transitions.UNSENT - {PayoutStatus.HELD}


@dataclass(frozen=True, slots=True)
class Decision:
    """How a payout ended, as a person says: paid with M-Pesa's receipt, or not paid (no receipt)."""

    receipt: str | None
    evidence: str

    @property
    def paid(self) -> bool:
        """Whether it says that the receiver got it."""
        return self.receipt is not None


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision did; `waits_for_second` says that another person has to say the same."""

    payout_id: str
    status: str
    note: str
    waits_for_second: bool = False


def decide(
    ctx: OperationContext,
    *,
    payout_id: str,
    decision: Decision,
    two_people: bool = False,
    terms: ApprovalTerms = USUAL,
    caution: Caution = payment_guard.CAREFUL,
) -> Decided:
    """End an unknown payout on a person's evidence: M-Pesa's portal, its statement, the customer's message.

    With `two_people`, the first word is written down, and the second person who says the same ends it: of the
    same attempt, of the same send of it, in the state that it was in, before the first word expires.
    An attempt that M-Pesa never acknowledged and that was not paid may go again under the *same* id: if the
    person erred, M-Pesa refuses it instead of paying twice.

    Raises:
        NotFound: there is no such payout.
        Refused: it is not unknown, a reason or evidence is missing, the receipt proves another attempt, or the
            guard objects.
    """
    needs_reason(ctx.actor, "A decision")
    needs_evidence(decision.evidence)
    if decision.receipt is not None:
        decision = replace(decision, receipt=check_identifier(fold_receipt(decision.receipt), what="receipt"))
    payment_guard.judge_first(ctx.db, ctx.clock, caution, [payout_id])
    now = ctx.clock()
    with ctx.db.transaction() as session:
        payout = payouts.find_payout(session, payout_id, lock=True)
        attempt = _open_attempt(session, payout)
        hold_signed(session, ctx.actor, wanted=terms.signed, at=now, what="A decision")
        payment_guard.check(
            session, Way.DECIDE_PAID if decision.paid else Way.DECIDE_NOT_PAID, [payout], caution, now=now
        )
        if decision.receipt and (owner := attempts.receipt_owner(session, decision.receipt)) not in (None, attempt.id):
            raise Refused(
                f"The receipt {decision.receipt} already proves the attempt {owner}; nothing was changed.",
                hint="One receipt proves one payment. Read it again.",
            )
        detail = said_of(attempt, decision)
        seen = {"evidence": decision.evidence}
        if two_people:
            heard = hear(session, ctx.actor, terms, Declaration(DECIDE, payout_id, detail, seen), at=now)
            if heard.first is None:
                return Decided(payout_id, str(payout.status), heard.note, waits_for_second=True)
            detail |= {FIRST: heard.first}
        outcome, status = end(session, ctx.actor, (attempt, payout), decision, confirm=caution.confirm, at=now)
        note_signed(session, ctx.actor, DECIDE, payout_id, at=now, detail=detail | seen)
        book.post(session, *outcome.entries, at=now)
        return Decided(payout_id, status, outcome.note)


def needs_evidence(evidence: str) -> None:
    """Raise Refused unless it is said where the next person can see the evidence."""
    if not evidence.strip():
        raise Refused(
            "A decision needs its evidence: where can the next person see it? Nothing was changed.",
            hint="Say it: --evidence 'M-Pesa portal, organisation statement of 23 November'",
        )


def end(
    session: Session,
    actor: Actor,
    tried: tuple[Attempt, Payout],
    decision: Decision,
    *,
    confirm: Confirm = payment_guard.CAREFUL.confirm,
    at: datetime,
) -> tuple[TransitionResult, str]:
    """End an attempt as somebody says; what follows from it, and the state of its payout then."""
    attempt, payout = tried
    evidence = f"decided by {actor.name}: {decision.evidence}"
    if decision.receipt is not None:
        [outcome] = transitions.paid(session, [Success(attempt, payout, decision.receipt, evidence)], at=at)
        return outcome, str(PayoutStatus.COMPLETED)
    if is_doubted(attempt):
        restore_doubt.silent(session, payout)
        restore_doubt.go_on(session, payout, actor, confirm, why=evidence, at=at)
        status = payouts.find_payout(session, payout.id, lock=True).status
        return TransitionResult(True, (), "it was not paid since the copy was taken"), str(status)
    ended = transitions.never_taken if attempt.conversation_id is None else transitions.not_paid
    outcome = ended(session, attempt, transitions.Failure(DECIDED, actor.reason, evidence), at=at)
    return outcome, str(PayoutStatus.FAILED)


def _open_attempt(session: Session, payout: Payout) -> Attempt:
    tries = attempts.list_attempts(session, payout.id)
    for attempt in tries:
        if attempt.status in LIVE:
            if attempt.status is AttemptStatus.INTENT:
                raise Refused(
                    f"{payout.id} is being sent; nothing was changed.",
                    hint="Wait until its sender has ended or its lease runs out, then: kasoko reconcile",
                )
            return transitions.lock(session, attempt.id)[0]
    # What a copy that was put back has forgotten: the last id that may have been used since.
    if tries and is_doubted(tries[-1]) and tries[-1].status is AttemptStatus.REJECTED:
        return transitions.lock(session, tries[-1].id)[0]
    raise Refused(
        f"{payout.id} is {payout.status}: how it ended is known, and nothing was changed.",
        hint=f"Look: kasoko payout show {payout.id}",
    )


def said_of(attempt: Attempt, decision: Decision) -> dict[str, object]:
    """What a decision says, and of which send in which state: of another one it is another decision."""
    return {
        "attempt": attempt.id,
        "sends": attempt.sends,
        "status": str(attempt.status),
        "paid": decision.paid,
        "receipt": decision.receipt,
    }


def hold(ctx: OperationContext, *, payout_id: str) -> str:
    """Stop a payout before it is sent, with a reason; returns its state.

    Raises:
        NotFound: there is no such payout.
        Refused: no reason was given, or it is on its way or has ended.
    """
    needs_reason(ctx.actor, "A hold")
    return _move(ctx, payout_id, PayoutStatus.HELD, only_from=STOPPABLE, note=ctx.actor.reason)


def release(ctx: OperationContext, *, payout_id: str, caution: Caution = payment_guard.CAREFUL) -> str:
    """Release a held payout: it is due again, or waits again for the second person; returns its state.

    One that had failed is released only where it may be tried again, as `retry` has it.

    Raises:
        NotFound: there is no such payout.
        Refused: no reason was given, it is not held, or the guard objects.
    """
    needs_reason(ctx.actor, "A release")
    payment_guard.judge_first(ctx.db, ctx.clock, caution, [payout_id])
    return _move(ctx, payout_id, None, only_from={PayoutStatus.HELD}, past=(Way.RELEASE, caution), **transitions.ANEW)


def to_wallet(ctx: OperationContext, *, payout_id: str, caution: Caution = payment_guard.CAREFUL) -> str:
    """Credit the wallet instead of the phone; returns its state.

    Raises:
        NotFound: there is no such payout.
        Refused: no reason was given, it is on its way or has ended, or the guard objects: the phone may have had it.
    """
    needs_reason(ctx.actor, "Paying into the wallet")
    payment_guard.judge_first(ctx.db, ctx.clock, caution, [payout_id])
    return _move(
        ctx,
        payout_id,
        PayoutStatus.WALLET,
        only_from={PayoutStatus.HELD, PayoutStatus.PENDING, PayoutStatus.FAILED, PayoutStatus.RETURNED},
        past=(Way.TO_WALLET, caution),
        note=ctx.actor.reason,
        not_before=None,
    )


def _move(
    ctx: OperationContext,
    payout_id: str,
    wanted: PayoutStatus | None,
    *,
    only_from: Collection[PayoutStatus],
    past: tuple[Way, Caution] | None = None,
    **values: object,
) -> str:
    now = ctx.clock()
    with ctx.db.transaction() as session:
        payout = payouts.find_payout(session, payout_id, lock=True)
        to = wanted or after_a_hold(session, payout)
        if payout.status not in only_from:
            allowed = ", ".join(sorted(only_from))
            raise Refused(
                f"{payout_id} is {payout.status}, and this is for what is {allowed}; nothing was changed.",
                hint=f"Look: kasoko payout show {payout_id}",
            )
        if past is not None:
            payment_guard.check(session, past[0], [payout], past[1], now=now)
        moved = payouts.move(session, payout_id, to, at=now, only_from=only_from, **values)
        assert moved, f"a payout that we hold as {payout.status} may become {to}"
        verb = {PayoutStatus.HELD: "hold", PayoutStatus.WALLET: "to-wallet", None: "release"}[wanted]
        detail = {"from": str(payout.status), "cents": payout.amount_cents}
        note_act(session, ctx.actor, f"payout.{verb}", payout_id, at=now, detail=detail)
        if to is PayoutStatus.WALLET and not attempts.count_returned(session, payout.id):
            book.post(session, journal.credited(payout.id, payout.user_id, payout.amount_cents), at=now)
        elif to is PayoutStatus.WALLET and payout.status is not PayoutStatus.RETURNED:
            # It was credited when it was paid the first time, and kept from the user since it was due again.
            book.post(session, transitions.again_ended(session, payout), at=now)
    return str(to)


def after_a_hold(session: Session, payout: Payout) -> PayoutStatus:
    """The state of a payout once it is released: a hold is no way round the second person."""
    if approvals.is_outstanding(session, payout.market_id, payout.settlement_no):
        return PayoutStatus.AWAITING_APPROVAL
    return PayoutStatus.PENDING if payout.wire_cents else PayoutStatus.WALLET


@dataclass(frozen=True, slots=True)
class Which:
    """Which open incidents: of one kind, about one payout, whose latest evidence is older than a time."""

    kind: str | None = None
    payout_id: str | None = None
    before: datetime | None = None

    @property
    def is_all(self) -> bool:
        """Whether it leaves none out."""
        return self == Which()


def list_incidents(db: Database, which: Which) -> list[int]:
    """The numbers of the open incidents that are meant. Raises NotFound if there is no such payout."""
    with db.reading() as session:
        if which.payout_id is not None:
            payouts.find_payout(session, which.payout_id)
        found = open_incidents(session, kind=which.kind, payout_id=which.payout_id, before=which.before)
        return [one.id for one in found if one.id is not None]


def close_incidents(ctx: OperationContext, *, numbers: Sequence[int]) -> list[int]:
    """Record that a person has dealt with incidents; returns which of them this call closed, in one commit.

    Raises:
        NotFound: one of them does not exist; none was closed.
        Refused: no reason was given.
    """
    needs_reason(ctx.actor, "Closing an incident")
    now, done = ctx.clock(), list[int]()
    with ctx.db.transaction() as session:
        for number in sorted(set(numbers)):
            closed = close_incident(session, number, by=ctx.actor.name, reason=ctx.actor.reason, at=now)
            if closed is None:
                raise NotFound(f"There is no incident {number}.", hint="See which stand: kasoko incident list")
            if closed:
                note_act(session, ctx.actor, "incident.close", f"incident:{number}", at=now)
                done.append(number)
    return done
