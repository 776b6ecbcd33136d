"""What evidence does to an attempt, to its payout and to the books. Nothing else ends an attempt.

Each function moves the attempt by one guarded UPDATE, moves the payout if this attempt decides it, and returns the
entries that follow, for the caller to post last in the same transaction. A repeat moves nothing; a contradiction
raises an incident and moves no money. The caller holds the payout's row (`lock`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from kasoko_cli.clock import iso
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.ledger import journal
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.store import attempts, payouts
from kasoko_cli.store.log import last_restore, raise_incident
from kasoko_cli.store.schema.tables import Attempt, Payout
from kasoko_cli.store.statements import RESTORED

#: States of payouts that nobody has sent, or that certainly reached nobody.
UNSENT = frozenset({PayoutStatus.AWAITING_APPROVAL, PayoutStatus.HELD, PayoutStatus.PENDING, PayoutStatus.FAILED})
#: States of payouts whose money may be on its way.
ON_THEIR_WAY = frozenset({PayoutStatus.SENDING, PayoutStatus.SENT, PayoutStatus.UNKNOWN})
#: What a payout has that is made due anew: its schedule begins again, at once, and nothing is noted of it.
ANEW: Mapping[str, Any] = {"tries": 0, "not_before": None, "note": None}
#: What a payout that M-Pesa did not take carries as its failure code once the schedule is used up.
NOT_SENT = "NOT_SENT"
#: What a status answer that says Declined, Cancelled or Expired leaves as the failure code.
STATUS_SAYS_NO = "STATUS"
#: What a payout carries as its failure code when people said that it was not paid.
DECIDED = "DECIDED"
#: What it carries when neither the statement nor M-Pesa, asked, knows the payment.
NOT_ON_STATEMENT = "STATEMENT"


@dataclass(frozen=True, slots=True)
class TransitionResult:
    """What came of a piece of evidence: whether anything moved, the entries that follow, and why in words."""

    moved: bool
    entries: tuple[Entry, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Evidence that no money moved: the code and reason that the payout carries, and where the evidence is kept."""

    code: str
    reason: str
    evidence: str


def unmoved(note: str) -> TransitionResult:
    """Nothing was changed; why, in words."""
    return TransitionResult(False, (), note)


#: The evidence said what was known already.
REPEAT = unmoved("known already")


def lock(session: Session, attempt_id: str) -> tuple[Attempt, Payout]:
    """The attempt and its payout, kept from other writers until the transaction ends.

    Raises NotFound if there is no such attempt.
    """
    payout_id = attempts.find_attempt(session, attempt_id).payout_id
    payout = payouts.find_payout(session, payout_id, lock=True)
    return attempts.find_attempt(session, attempt_id, lock=True), payout


def lock_many(session: Session, subjects: Collection[str]) -> dict[str, tuple[Attempt, Payout]]:
    """The attempts with these ids and their payouts; for the id of a question, locks what it is about too.

    The payouts are locked in the order of their ids, as everybody does who locks several.
    """
    owed = payouts.lock_payouts(session, attempts.payouts_of(session, subjects))
    return {one.id: (one, owed[one.payout_id]) for one in attempts.lock_attempts(session, subjects)}


@dataclass(frozen=True, slots=True)
class AcknowledgedSend:
    """M-Pesa's acknowledgement of one send of an attempt, and the lease under which its sender holds the attempt."""

    attempt_id: str
    payout_id: str
    send: int
    lease_token: str
    conversation_id: str
    #: M-Pesa's own name for the payment, which v1 makes and v3 does not.
    gateway_id: str | None


def taken(session: Session, acknowledged: Sequence[AcknowledgedSend], *, at: datetime) -> None:
    """M-Pesa acknowledged requests: INTENT -> ACCEPTED, SENDING -> SENT, by one statement for each.

    The caller has locked the attempts, and each is the INTENT of this send under this lease. A payout that an earlier
    attempt turned out to have paid meanwhile is COMPLETED, and stays so.
    """
    if not acknowledged:
        return
    rows = [
        {
            "the_id": one.attempt_id,
            "the_send": one.send,
            "the_lease": one.lease_token,
            "status_at": at,
            "conversation_id": one.conversation_id,
            "gateway_id": one.gateway_id,
        }
        for one in acknowledged
    ]
    moved = attempts.acknowledge(session, rows)
    assert moved == len(rows), "an attempt that is locked as INTENT may be acknowledged"
    owed = [one.payout_id for one in acknowledged]
    payouts.move_all(session, owed, PayoutStatus.SENT, at=at, only_from={PayoutStatus.SENDING})


def not_taken(
    session: Session, attempt: Attempt, failure: Failure, *, at: datetime, again_at: datetime | None
) -> TransitionResult:
    """M-Pesa certainly did not take it: INTENT -> REJECTED, and the money is back in the float.

    The payout is PENDING again from `again_at` on, or FAILED where that is None.
    """
    if not attempts.move(session, attempt.id, AttemptStatus.REJECTED, at=at, evidence=failure.evidence):
        return REPEAT
    to = PayoutStatus.FAILED if again_at is None else PayoutStatus.PENDING
    return _unpaid(session, attempt, failure, to, at=at, only_from={PayoutStatus.SENDING}, not_before=again_at)


def _unpaid(
    session: Session, attempt: Attempt, failure: Failure, to: PayoutStatus = PayoutStatus.FAILED, **moved: Any
) -> TransitionResult:
    """What follows for the payout of an attempt that ended unpaid, and for the money that was in flight for it."""
    payouts.move(session, attempt.payout_id, to, failure_code=failure.code, failure_reason=failure.reason, **moved)
    return TransitionResult(True, (_released(attempt),), failure.reason)


def _released(attempt: Attempt) -> Entry:
    return journal.released(attempt.id, attempt.sends, attempt.wire_cents)


def doubtful(
    session: Session, attempt: Attempt, *, why: str, at: datetime, code: str | None = None
) -> TransitionResult:
    """Nobody here knows whether money moved: INTENT or ACCEPTED -> UNKNOWN. The money stays in flight."""
    from_here = {AttemptStatus.INTENT, AttemptStatus.ACCEPTED}
    moved = attempts.move(
        session, attempt.id, AttemptStatus.UNKNOWN, at=at, only_from=from_here, result_code=code, result_text=why
    )
    if moved:
        payouts.move(
            session, attempt.payout_id, PayoutStatus.UNKNOWN, at=at, only_from={PayoutStatus.SENDING, PayoutStatus.SENT}
        )
    return TransitionResult(moved, (), why)


def doubt_again(session: Session, attempt: Attempt, *, why: str, at: datetime) -> TransitionResult:
    """The evidence by which it ended as not paid was taken back: -> UNKNOWN, and its money is in flight again.

    It counts as one more send, though nothing is sent: each entry of an attempt is booked under its send's number.
    """
    send, from_here = attempt.sends + 1, {AttemptStatus.FAILED, AttemptStatus.REJECTED}
    nothing_known = {"evidence": None, "result_code": None, "result_text": why}
    moved = attempts.move(
        session, attempt.id, AttemptStatus.UNKNOWN, at=at, only_from=from_here, sends=send, **nothing_known
    )
    assert moved, f"an attempt that is {attempt.status} and locked may be doubted again"
    no_failure = {"failure_code": None, "failure_reason": None}
    moved = payouts.move(
        session, attempt.payout_id, PayoutStatus.UNKNOWN, at=at, only_from={PayoutStatus.FAILED}, **no_failure
    )
    assert moved, "a payout that is FAILED and locked may be doubted again"
    return TransitionResult(True, (journal.reserved(attempt.id, send, attempt.wire_cents),), why)


def not_paid(session: Session, attempt: Attempt, failure: Failure, *, at: datetime) -> TransitionResult:
    """There is evidence that no money moved: -> FAILED, and the money is back in the float."""
    if attempt.status in (AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED):
        raise_incident(
            session,
            key=f"failure-after-success:{attempt.id}",
            kind="contradiction",
            what=f"The attempt {attempt.id} was paid (receipt {attempt.receipt}), and now a result says it failed:"
            f" {failure.code} {failure.reason}. Nothing was changed.",
            at=at,
            **about_attempt(attempt, failure.evidence),
        )
        return unmoved("a failure after a success: kept as evidence, nothing changed")
    result: dict[str, Any] = {"result_code": failure.code, "result_text": failure.reason}
    if not attempts.move(session, attempt.id, AttemptStatus.FAILED, at=at, evidence=failure.evidence, **result):
        return REPEAT
    return _unpaid(session, attempt, failure, at=at, only_from=ON_THEIR_WAY)


def never_taken(session: Session, attempt: Attempt, failure: Failure, *, at: datetime) -> TransitionResult:
    """There is evidence that M-Pesa never took an attempt that was unknown: UNKNOWN -> REJECTED, payout FAILED.

    Its id is not spent. If the payout is tried again it goes under the same one, so that M-Pesa refuses it if
    the evidence was wrong.
    """
    if not attempts.move(
        session, attempt.id, AttemptStatus.REJECTED, at=at, evidence=failure.evidence, result_text=failure.reason
    ):
        return REPEAT
    return _unpaid(session, attempt, failure, at=at, only_from={PayoutStatus.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Success:
    """Evidence that the receiver got it: the attempt and its payout, locked, the receipt, and where it is kept."""

    attempt: Attempt
    payout: Payout
    receipt: str
    evidence: str

    @property
    def is_plain(self) -> bool:
        """Whether nothing has happened to the payout but this one attempt, which M-Pesa acknowledged."""
        return (
            self.attempt.number == 1
            and self.attempt.status is AttemptStatus.ACCEPTED
            and self.payout.status is PayoutStatus.SENT
        )

    @property
    def was_known(self) -> bool:
        """Whether the attempt counts as paid already."""
        return self.attempt.status in (AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED)

    @property
    def was_released(self) -> bool:
        """Whether its money counts as back in the float."""
        return self.attempt.status in (AttemptStatus.FAILED, AttemptStatus.REJECTED)

    @property
    def is_owed(self) -> bool:
        """Whether the user has not had the money of this payout in another way."""
        return self.payout.status not in _SETTLED_WITHOUT_THIS


def paid(session: Session, successes: Sequence[Success], *, at: datetime) -> list[TransitionResult]:
    """There is evidence that receivers got it: -> SUCCEEDED, the wallets credited, the deliveries booked.

    Each is of another payout. One statement moves the attempts, one the payouts. A success after a failure wins,
    with an incident. A success for a payout that was already paid or put into the wallet is the provider's second
    payment: the user owes it back, with an incident.
    """
    assert len({one.payout.id for one in successes}) == len(successes), "each success is of another payout"
    new = [one for one in successes if not one.was_known]
    attempts.succeed(session, [(one.attempt.id, one.receipt, one.evidence) for one in new], at=at)
    for one in new:
        _note_surprise(session, one, at)
    owed = [one.payout.id for one in new if one.is_owed]
    if owed:
        done = payouts.move_all(
            session, owed, PayoutStatus.COMPLETED, at=at, failure_code=None, failure_reason=None, not_before=None
        )
        assert done == len(owed), "a payout that is locked and owed may be completed"
    return [_paid_before(session, one, at) if one.was_known else _what_follows(session, one, at) for one in successes]


def _note_surprise(session: Session, success: Success, at: datetime) -> None:
    """Raise an incident where an attempt succeeded that had ended unpaid; a question about a copy is answered."""
    attempt, before = success.attempt, success.attempt.status
    # What a restored copy has forgotten was asked about: that it was paid is the answer, and no surprise.
    is_answer = before is AttemptStatus.REJECTED and attempt.lease_token.startswith(RESTORED)
    if attempt.lease_token.startswith(RESTORED):
        attempts.end_doubt(session, attempt)
    if success.was_released and not is_answer:
        raise_incident(
            session,
            key=f"late-success:{attempt.id}",
            kind="late_success",
            what=f"The attempt {attempt.id} was taken for {before.lower()}, and M-Pesa paid it after all:"
            f" receipt {success.receipt}, KES {format_kes(attempt.wire_cents)}.",
            at=at,
            **about_attempt(attempt),
        )


def _what_follows(session: Session, success: Success, at: datetime) -> TransitionResult:
    """The entries of a payment that was not known before."""
    attempt, payout = success.attempt, success.payout
    if not success.is_owed:
        return _overpaid(session, success, at)
    entries = [journal.late_reserved(attempt.id, attempt.wire_cents)] if success.was_released else []
    if not success.is_plain and attempts.was_paid_before(session, payout.id, besides=attempt.id):
        entries.append(again_ended(session, payout))
    else:
        entries.append(journal.credited(payout.id, payout.user_id, payout.amount_cents))
    entries.append(journal.delivered(payout.id, attempt.id, payout.user_id, attempt.wire_cents, payout.withheld_cents))
    return TransitionResult(True, tuple(entries), f"paid, receipt {success.receipt}")


def returned(session: Session, attempt: Attempt, payout: Payout, *, at: datetime, why: str) -> TransitionResult:
    """The money of a paid attempt came back: SUCCEEDED -> RETURNED, and it stands in the wallet again.

    Only for the attempt that completed its payout; a second payment that comes back is recovered instead.
    """
    mark = _mark_of_older(session, attempt)
    if not attempts.move(session, attempt.id, AttemptStatus.RETURNED, at=at, result_text=why, lease_token=mark):
        return REPEAT
    assert attempt.receipt is not None, "what was paid has its receipt"
    moved = payouts.move(session, payout.id, PayoutStatus.RETURNED, at=at, note=why)
    assert moved, f"a payout that is {payout.status} had its money delivered"
    entry = journal.returned(payout.id, attempt.receipt, payout.user_id, attempt.wire_cents, payout.withheld_cents)
    return TransitionResult(True, (entry,), "the money came back")


def _mark_of_older(session: Session, attempt: Attempt) -> str:
    """The mark of a payment that is older than a restored copy: it may have been sent again since."""
    since = last_restore(session)
    if since is None or attempt.sent_at > since.at:
        return attempt.lease_token
    return f"{RESTORED}{iso(since.copy_at)}"


def again_ended(session: Session, payout: Payout) -> Entry:
    """The entry that frees what was kept from the user while a payout was sent again: it arrived, or stays here."""
    nth = attempts.count_returned(session, payout.id)
    return journal.again_ended(payout.id, nth, payout.user_id, payout.wire_cents + payout.withheld_cents)


#: States in which a success comes on top of what the user has had already.
_SETTLED_WITHOUT_THIS = frozenset(
    {PayoutStatus.COMPLETED, PayoutStatus.WALLET, PayoutStatus.CANCELED, PayoutStatus.RETURNED}
)


def _paid_before(session: Session, success: Success, at: datetime) -> TransitionResult:
    attempt, receipt = success.attempt, success.receipt
    if attempt.receipt == receipt:
        return REPEAT
    raise_incident(
        session,
        key=f"second-receipt:{attempt.id}",
        kind="contradiction",
        what=f"The attempt {attempt.id} has the receipt {attempt.receipt}, and a result names another: {receipt}."
        " Nothing was changed.",
        at=at,
        **about_attempt(attempt, receipt),
    )
    return unmoved("a second receipt for one attempt: kept as evidence, nothing changed")


def _overpaid(session: Session, success: Success, at: datetime) -> TransitionResult:
    attempt, payout, receipt = success.attempt, success.payout, success.receipt
    raise_incident(
        session,
        key=f"overpaid:{receipt}",
        kind="overpaid",
        what=f"The payout {payout.id} was {payout.status} already, and M-Pesa paid it again: receipt {receipt},"
        f" KES {format_kes(attempt.wire_cents)}. The user {payout.user_id} owes it back.",
        at=at,
        **about_attempt(attempt),
    )
    back = [] if success.was_released else [_released(attempt)]
    owed_back = journal.overpaid(receipt, payout.user_id, attempt.wire_cents)
    return TransitionResult(True, (*back, owed_back), f"paid a second time, receipt {receipt}")


def about_attempt(attempt: Attempt, evidence: str | None = None) -> dict[str, Any]:
    """What an incident about an attempt refers to. `evidence` is `callback:N`, or whatever else says it in short."""
    named: dict[str, Any] = {"payout_id": attempt.payout_id, "attempt_id": attempt.id}
    if evidence is not None and evidence.startswith("callback:"):
        return named | {"callback_id": int(evidence.removeprefix("callback:"))}
    return named | {"evidence": evidence}


def reap(session: Session, *, now: datetime) -> int:
    """Mark attempts whose sender is gone: a lease that ran out makes UNKNOWN, never PENDING. Returns how many.

    Nothing is sent again here: the request may have left before its sender died.
    """
    count = 0
    for attempt_id in attempts.list_stale(session, now=now):
        attempt, _ = lock(session, attempt_id)
        if attempt.status is AttemptStatus.INTENT and not attempts.is_being_sent(attempt, now):
            outcome = doubtful(session, attempt, why="its sender stopped before an answer was recorded", at=now)
            count += outcome.moved
    return count
