"""Write down what M-Pesa says, then apply it.

A callback is unsigned by M-Pesa, may be lost, doubled, early, late or forged. It is stored as it came,
in a commit of its own, before anybody is answered. Only then is it judged, and it moves money only if
four factors agree: the MAC in its address, our id, the conversation id of the acknowledgement (which
only TLS ever carried), and the amount with a receipt that is new. Whatever lacks a factor makes the
payout UNKNOWN, and M-Pesa is asked; whatever contradicts one changes nothing and raises an incident.
A forged failure is worse than a forged success, since it invites a second payment: so no failure is
believed either unless its ids hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.codes import Fate, StatusFate, judge_result, read_status
from kasoko_cli.daraja.links import Kind
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.daraja.messages import MalformedBody, Result, parse_result, redact
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.errors import NotFound
from kasoko_cli.ledger import book
from kasoko_cli.operations import fate, floats
from kasoko_cli.operations.advice import account_refused
from kasoko_cli.operations.belief import BELIEVED, Weight, weigh_result, weigh_status
from kasoko_cli.operations.fate import Ruling
from kasoko_cli.store import attempts, callbacks, queries
from kasoko_cli.store.database import Database
from kasoko_cli.store.locking import for_update
from kasoko_cli.store.log import raise_incident, set_switch
from kasoko_cli.store.tables import Attempt, Callback, Payout

#: How long an answer that overtook the acknowledgement of its question waits for it.
ASKING_SECONDS = 300
#: Who acts where no person does.
LISTENER = "kasoko listener"


@dataclass(frozen=True, slots=True)
class Trust:
    """How much a callback is believed; `success_without_ack` believes a success whose acknowledgement was lost."""

    success_without_ack: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one callback: its verdict, why in words, and the payout it was about, if any."""

    callback_id: int
    verdict: str
    detail: str
    payout_id: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict on its way into the books."""

    word: str
    ruling: Ruling
    payout_id: str | None = None
    #: The attempt that the body names, where its address named none.
    about: str | None = None


def store_deliveries(db: Database, clock: Clock, deliveries: Sequence[Delivery]) -> None:
    """Write down what arrived, all in one commit; when this returns it is on the disk."""
    now = clock()
    rows = [
        {
            "received_at": now,
            "route": str(delivery.kind),
            "subject": delivery.subject_id,
            "signed": delivery.signed,
            "source": delivery.source,
            "body": delivery.body,
        }
        for delivery in deliveries
    ]
    with db.transaction() as session:
        callbacks.store(session, rows)


def apply_waiting(db: Database, clock: Clock, trust: Trust, *, subject: str | None = None) -> list[Judged]:
    """Judge every callback that was stored and not judged yet; says what became of each.

    One that overtook its own acknowledgement waits until the sender has recorded that.
    """
    judged: list[Judged] = []
    after = 0
    while True:
        with db.reading() as session:
            numbers = callbacks.list_waiting(session, subject=subject, after=after)
        if not numbers:
            return judged
        judged += filter(None, (apply_callback(db, clock, trust, number) for number in numbers))
        after = numbers[-1]


def apply_callback(db: Database, clock: Clock, trust: Trust, callback_id: int) -> Judged | None:
    """Judge one stored callback, once; None where it was judged already or has to wait."""
    now = clock()
    with db.transaction() as session:
        waiting = select(Callback).where(col(Callback.id) == callback_id, col(Callback.applied_at).is_(None))
        callback = session.exec(for_update(waiting)).one_or_none()
        if callback is None:
            return None
        verdict = _judge(session, callback, trust, at=now)
        if verdict is None:
            return None
        callbacks.take(
            session, callback_id, verdict=verdict.word, detail=verdict.ruling.note, about=verdict.about, at=now
        )
        book.post(session, *verdict.ruling.entries, at=now)
        return Judged(callback_id, verdict.word, verdict.ruling.note, verdict.payout_id)


def _judge(session: Session, callback: Callback, trust: Trust, *, at: datetime) -> Verdict | None:
    """What a callback is worth and what follows; None where it has to wait for its acknowledgement."""
    try:
        result, trouble = parse_result(callback.body), ""
    except MalformedBody as error:
        result, trouble = None, f"unreadable: {error.reason}"
    if not callback.signed:
        return _unsigned(session, callback, result, trouble, at=at)
    kind = Kind(callback.route)
    if kind in (Kind.RESULT, Kind.TIMEOUT):
        try:
            attempt, payout = fate.lock(session, callback.subject)
        except NotFound:
            return _stray(session, callback, at=at)
        if kind is Kind.TIMEOUT:
            # Whatever its shape or code: a notice of the queue is neither paid nor failed.
            ruling = fate.doubtful(session, attempt, why="M-Pesa says that it waited too long in the queue", at=at)
            return Verdict("timeout", ruling, payout.id)
        if result is None:
            return _unreadable(session, callback, attempt, trouble, at=at)
        return _judge_result(session, callback, result, attempt, payout, trust, at=at)
    if kind is Kind.STATUS:
        return _judge_status(session, callback, result, trouble, at=at)
    if kind is Kind.BALANCE:
        balance = floats.judge_answer(session, callback, result, trouble, at=at)
        return None if balance is None else Verdict(balance[0], Ruling(False, (), balance[1]))
    return _note_answer(session, callback, result, trouble, at=at)


def _unsigned(session: Session, callback: Callback, result: Result | None, trouble: str, *, at: datetime) -> Verdict:
    """Posted without our mark: kept and never believed, whoever posted it; but M-Pesa is asked about what it names.

    It moves no state. That a payment which ended unpaid was made after all is an incident: until somebody has
    looked, nothing is sent again for it.
    """
    why = trouble or "posted without a signature: kept, never believed"
    if result is None or Kind(callback.route) not in (Kind.RESULT, Kind.TIMEOUT):
        return Verdict("hint", Ruling(False, (), why))
    attempt = attempts.named_as(session, result.originator_conversation_id)
    if attempt is None:
        return Verdict("hint", Ruling(False, (), why))
    stated = judge_result(result).fate if callback.route == Kind.RESULT else Fate.UNKNOWN
    if stated is Fate.PAID:
        _speaks_against(session, callback, attempt, stated, "a result was posted without a signature", at=at)
    return Verdict("hint", Ruling(False, (), f"{why}; M-Pesa is asked"), attempt.payout_id, about=attempt.id)


def _judge_result(
    session: Session,
    callback: Callback,
    result: Result,
    attempt: Attempt,
    payout: Payout,
    trust: Trust,
    *,
    at: datetime,
) -> Verdict | None:
    rule, receipt = judge_result(result), result.receipt()
    owner = attempts.receipt_owner(session, receipt) if rule.fate is Fate.PAID and receipt else None
    weighed = weigh_result(result, attempt, receipt_owner=owner)
    if weighed.weight is Weight.CONTRADICTED:
        return _contradicted(session, callback, attempt, f"A result for {attempt.id}: {weighed.why}.", at=at)
    if weighed.weight is Weight.NO_ACK and attempt.status is AttemptStatus.INTENT and attempt.lease_until >= at:
        return None
    if weighed.weight is Weight.NO_ACK and rule.fate is Fate.PAID and trust.success_without_ack:
        weighed = BELIEVED
    evidence, text = f"callback:{callback.id}", redact(result.result_desc)[:500]
    if weighed.weight is not Weight.BELIEVED:
        return _hinted(session, callback, attempt, rule.fate, f"a result that is not believed: {weighed.why}", at=at)
    if rule.fate is Fate.PAID:
        assert receipt is not None, "a success is believed with its receipt only"
        floats.note_result(session, attempt.id, result, at=at)
        return Verdict(
            "paid", fate.paid(session, attempt, payout, receipt=receipt, evidence=evidence, at=at), payout.id
        )
    if rule.fate is Fate.FAILED:
        code = result.result_code or rule.code
        ruling = fate.not_paid(session, attempt, code=code, reason=text or rule.meaning, evidence=evidence, at=at)
        if rule.account_level and ruling.moved:
            why = account_refused(code, rule.meaning, rule.advice)
            set_switch(session, "breaker", is_on=True, reason=why, actor=LISTENER, at=at)
        return Verdict("failed", ruling, payout.id)
    why = f"code {result.result_code or 'missing'}: {rule.meaning}"
    return Verdict("unclear", fate.doubtful(session, attempt, why=why, at=at, code=result.result_code), payout.id)


def _hinted(session: Session, callback: Callback, attempt: Attempt, stated: Fate, why: str, *, at: datetime) -> Verdict:
    """A result that lacks a factor: never believed, but a reason to ask. On an attempt that ended, an incident."""
    ruling = fate.doubtful(session, attempt, why=why, at=at)
    _speaks_against(session, callback, attempt, stated, why, at=at)
    return Verdict("hint", Ruling(ruling.moved, (), why), attempt.payout_id)


def _speaks_against(
    session: Session, callback: Callback, attempt: Attempt, stated: Fate, why: str, *, at: datetime
) -> None:
    """Raise an incident if an attempt has ended otherwise than this says."""
    ended = {AttemptStatus.FAILED: Fate.PAID, AttemptStatus.REJECTED: Fate.PAID, AttemptStatus.SUCCEEDED: Fate.FAILED}
    if ended.get(attempt.status) is stated:
        raise_incident(
            session,
            key=f"hint-after-end:{attempt.id}:{stated}",
            kind="contradiction",
            what=f"The attempt {attempt.id} is {attempt.status}, and {why}; it says {stated}. Nothing was changed.",
            at=at,
            payout_id=attempt.payout_id,
            attempt_id=attempt.id,
            callback_id=callback.id,
        )


def _contradicted(session: Session, callback: Callback, attempt: Attempt, what: str, *, at: datetime) -> Verdict:
    raise_incident(
        session,
        key=f"mismatch:{attempt.id}:{hashlib.sha256(callback.body).hexdigest()[:16]}",
        kind="mismatch",
        what=f"{what} Nothing was changed.",
        at=at,
        payout_id=attempt.payout_id,
        attempt_id=attempt.id,
        callback_id=callback.id,
    )
    return Verdict("mismatch", Ruling(False, (), what), attempt.payout_id)


def _unreadable(session: Session, callback: Callback, attempt: Attempt, why: str, *, at: datetime) -> Verdict:
    raise_incident(
        session,
        key=f"unreadable:{attempt.id}:{hashlib.sha256(callback.body).hexdigest()[:16]}",
        kind="unreadable",
        what=f"A callback for {attempt.id} cannot be read ({why}). Its bytes are kept; the payout is asked about.",
        at=at,
        payout_id=attempt.payout_id,
        attempt_id=attempt.id,
        callback_id=callback.id,
    )
    return Verdict("unreadable", fate.doubtful(session, attempt, why=why, at=at), attempt.payout_id)


def _stray(session: Session, callback: Callback, *, at: datetime) -> Verdict:
    """Our own signature on an attempt that this database does not know: it was taken from an older copy."""
    raise_incident(
        session,
        key=f"stray:{callback.subject}",
        kind="stray_result",
        what=f"A result arrived for {callback.subject}, which this database does not know. Was it restored from an"
        " older copy, or is it another deployment's? Nothing was changed.",
        at=at,
        callback_id=callback.id,
    )
    return Verdict("stray", Ruling(False, (), "no such attempt here"))


def _judge_status(
    session: Session, callback: Callback, result: Result | None, trouble: str, *, at: datetime
) -> Verdict | None:
    query = queries.find_query(session, callback.subject)
    if query is None or query.attempt_id is None:
        return Verdict("stray", Ruling(False, (), "no such query here"))
    is_being_asked = query.conversation_id is None and query.answered_at is None
    if is_being_asked and at < query.asked_at + timedelta(seconds=ASKING_SECONDS):
        return None
    attempt, payout = fate.lock(session, query.attempt_id)
    if result is None:
        queries.note_answer(session, query.id, answer="UNREADABLE", detail=trouble, at=at)
        return Verdict("unreadable", Ruling(False, (), trouble), payout.id)
    answer = read_status(result)
    if answer.fate not in (StatusFate.COMPLETED, StatusFate.NOT_PAID):
        queries.note_answer(session, query.id, answer=answer.fate.upper(), detail=answer.meaning, at=at)
        return Verdict(answer.fate.value, Ruling(False, (), answer.meaning), payout.id)
    owner = attempts.receipt_owner(session, answer.receipt) if answer.receipt else None
    weighed = weigh_status(result, answer, query, attempt, receipt_owner=owner)
    said = answer.fate.upper() if weighed.weight is Weight.BELIEVED else weighed.weight.upper()
    queries.note_answer(session, query.id, answer=said, detail=weighed.why or answer.meaning, at=at)
    if weighed.weight is Weight.CONTRADICTED:
        return _contradicted(session, callback, attempt, f"The status of {attempt.id}: {weighed.why}.", at=at)
    if weighed.weight is not Weight.BELIEVED:
        return Verdict("hint", Ruling(False, (), weighed.why), payout.id)
    evidence = f"status:{query.id}"
    if answer.fate is StatusFate.NOT_PAID:
        ruling = fate.not_paid(
            session, attempt, code=fate.STATUS_SAYS_NO, reason=answer.meaning, evidence=evidence, at=at
        )
        return Verdict("failed", ruling, payout.id)
    if not answer.receipt:
        return Verdict("hint", Ruling(False, (), "it says completed, and names no receipt"), payout.id)
    ruling = fate.paid(session, attempt, payout, receipt=answer.receipt, evidence=evidence, at=at)
    return Verdict("paid", ruling, payout.id)


def _note_answer(session: Session, callback: Callback, result: Result | None, trouble: str, *, at: datetime) -> Verdict:
    """Notices that move no money: a query that waited too long."""
    said = trouble or (
        f"code {result.result_code}" if result is not None and result.result_code else "a timeout notice"
    )
    queries.note_answer(session, callback.subject, answer=Kind(callback.route).name, detail=said, at=at)
    return Verdict("noted", Ruling(False, (), said))
