"""Write down what M-Pesa says, then apply it.

A callback may be lost, doubled, early, late or forged. It is stored, in a commit of its own, before it is answered.
It moves money only if four factors agree: the MAC in its address, our id, the conversation id of the acknowledgement
(which only TLS ever carried), and the amount with a receipt that is new. What lacks one makes the payout UNKNOWN, and
M-Pesa is asked; what contradicts one raises an incident. A failure needs its ids too: a forged one would invite a
second payment.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.codes import ALREADY_TAKEN, Fate, StatusAnswer, StatusFate, judge_result, read_status
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.daraja.messages import MalformedBody, Result, parse_result
from kasoko_cli.daraja.redaction import redact
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.errors import Busy, ConfigurationError, NotFound
from kasoko_cli.ledger import book
from kasoko_cli.operations.account import balances
from kasoko_cli.operations.callbacks.verification import (
    BELIEVED,
    TrustLevel,
    verify_envelope,
    verify_result,
    verify_status,
)
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.next_steps import account_refused
from kasoko_cli.operations.shared.transitions import Failure, Success, TransitionResult, about_attempt
from kasoko_cli.store import attempts, callbacks, status_queries
from kasoko_cli.store.callbacks import WaitingCallback
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import Asking, answer_incidents, raise_incident, set_switch
from kasoko_cli.store.schema.tables import Attempt, Payout, Query

#: How many callbacks one transaction judges: few enough that storing never waits long for the books.
GROUP = 100
#: Who acts where no person does.
LISTENER = "kasoko listener"

_log = logging.getLogger(__name__)


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
class Judgement:
    """A verdict on its way into the books."""

    word: str
    outcome: TransitionResult
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
    with db.direct() as direct:
        callbacks.store(direct, rows)


def apply_waiting(
    db: Database, clock: Clock, trust: Trust, *, subjects: Sequence[str] | None = None, hints: bool = False
) -> list[Judged]:
    """Judge every callback that was stored and not judged yet, of some subjects or of all; returns what became of each.

    With `hints` those without our mark too, since nobody knows yet what they are about. One that overtook its own
    acknowledgement waits until the sender has recorded that.
    """
    return [judged for group in judge_waiting(db, clock, trust, subjects=subjects, hints=hints) for judged in group]


def judge_waiting(
    db: Database,
    clock: Clock,
    trust: Trust,
    *,
    subjects: Sequence[str] | None = None,
    hints: bool = False,
    most: Callable[[], int] = lambda: GROUP,
) -> Iterator[Sequence[Judged]]:
    """Judge them group by group, each in a transaction of its own; nothing is held between two of them.

    `most` says how many the next group may have: on SQLite nobody can store anything while one is judged.
    """
    after = 0
    while True:
        with db.reading() as session:
            if subjects is not None and not callbacks.any_waiting(session):
                return
            waiting = callbacks.list_waiting(session, subjects=subjects, hints=hints, after=after, limit=most())
        if not waiting:
            return
        # Read before the transaction: on SQLite nobody can store a callback while one is open.
        bodies = [_read(callback) for callback in waiting]
        yield _judge_group(db, clock, trust, bodies)
        after = bodies[-1].callback.id


@dataclass(frozen=True, slots=True)
class _Body:
    """A stored callback that was read: what it says, or why it cannot be read."""

    callback: WaitingCallback
    result: Result | None
    trouble: str = ""
    #: What reading it ended in where that was not foreseen.
    broken: Exception | None = None

    @property
    def evidence(self) -> str:
        """What an attempt that it ended carries as its evidence."""
        return f"callback:{self.callback.id}"


def _read(callback: WaitingCallback) -> _Body:
    try:
        return _Body(callback, parse_result(callback.body))
    except MalformedBody as error:
        return _Body(callback, None, f"unreadable: {error.reason}")
    except Exception as error:
        return _Body(callback, None, broken=error)


#: What is no body's fault: it goes to the caller, and every callback stays as it is.
_NO_BODYS_FAULT = (Busy, ConfigurationError)


def _judge_group(db: Database, clock: Clock, trust: Trust, bodies: Sequence[_Body]) -> Sequence[Judged]:
    """Judge callbacks together; where one makes that fail, each alone, and the one that fails is set aside."""
    try:
        return _judge_together(db, clock, trust, bodies)
    except _NO_BODYS_FAULT:
        raise
    except Exception as error:
        if len(bodies) == 1:
            return _set_aside(db, clock, bodies[0], error)
        _log.warning("%d callbacks cannot be applied together (%s): each alone.", len(bodies), type(error).__name__)
    return [judged for body in bodies for judged in _judge_group(db, clock, trust, [body])]


def _judge_together(db: Database, clock: Clock, trust: Trust, bodies: Sequence[_Body]) -> Sequence[Judged]:
    now = clock()
    with db.transaction() as session:
        waiting = callbacks.lock_waiting(session, [body.callback.id for body in bodies])
        bodies = [body for body in bodies if body.callback.id in waiting]
        verdicts = _judge_plain(session, bodies, at=now)
        for body in bodies:
            if body.callback.id not in verdicts and (verdict := _judge(session, body, trust, at=now)) is not None:
                verdicts[body.callback.id] = verdict
        callbacks.take(
            session,
            {number: (verdict.word, verdict.outcome.note, verdict.about) for number, verdict in verdicts.items()},
            at=now,
        )
        book.post(session, *(entry for verdict in verdicts.values() for entry in verdict.outcome.entries), at=now)
    return [
        Judged(number, verdict.word, verdict.outcome.note, verdict.payout_id)
        for number, verdict in sorted(verdicts.items())
    ]


def _set_aside(db: Database, clock: Clock, body: _Body, error: Exception) -> Sequence[Judged]:
    """Set a callback aside that cannot be judged: its bytes are kept, and an incident is raised."""
    now, what, callback = clock(), type(error).__name__, body.callback
    note = f"applying it ended in {what}; nothing was changed"
    with db.transaction() as session:
        if not callbacks.lock_waiting(session, [body.callback.id]):
            return []
        callbacks.take(session, {body.callback.id: ("poisonous", note, None)}, at=now)
        raise_incident(
            session,
            key=f"poisonous:{callback.route}:{callback.subject}",
            kind="poisonous",
            what=f"The callback {body.callback.id} ({callback.route} {callback.subject or 'without an id'}) cannot be"
            f" applied: {what}. Its bytes are kept and nothing was changed; its payout is asked about in time."
            f" Look at it (kasoko callback show {body.callback.id}) and report it.",
            at=now,
            callback_id=body.callback.id,
        )
    return [Judged(body.callback.id, "poisonous", note)]


def _judge_plain(session: Session, bodies: Sequence[_Body], *, at: datetime) -> dict[int, Judgement]:
    """The verdicts on plain successes, whose rows are moved by a statement for all of them.

    Plain is the signed result of a first attempt that M-Pesa acknowledged, whose every factor holds, with a
    receipt that nobody else has, and nothing else in this group is about its payout. So is one that comes again
    with all that is known, which changes nothing. What is not plain is left to be judged one by one; its payouts
    are locked too, all in one order, so that two hosts never wait for each other.
    """
    subjects = Counter(body.callback.subject for body in bodies if body.callback.signed)
    touched = transitions.lock_many(session, subjects)
    payouts_touched = Counter(payout.id for _, payout in touched.values())
    verified: list[tuple[int, Success]] = []
    known: dict[int, Success] = {}
    for body in bodies:
        callback, result = body.callback, body.result
        if (
            not callback.signed
            or callback.route != CallbackKind.RESULT
            or callback.subject not in touched
            or result is None
        ):
            continue
        attempt, payout = touched[callback.subject]
        has_succeeded = attempt.status is AttemptStatus.SUCCEEDED
        is_alone = subjects[attempt.id] == payouts_touched[payout.id] == 1
        success = Success(attempt, payout, result.receipt() or "", body.evidence)
        if not has_succeeded and not (is_alone and success.is_plain):
            continue
        if judge_result(result).fate is Fate.PAID and verify_result(result, attempt, receipt_owner=None) == BELIEVED:
            receipt, number = success.receipt, callback.id
            assert receipt, "a success is believed with its receipt only"
            if not has_succeeded:
                verified.append((number, success))
            elif receipt == attempt.receipt:
                known[number] = success
    receipts = Counter(success.receipt for _, success in verified)
    owned = attempts.receipts_owned(session, receipts)
    plain = [(n, success) for n, success in verified if receipts[success.receipt] == 1 and success.receipt not in owned]
    results = transitions.paid(session, [success for _, success in plain], at=at)
    said = {body.callback.id: body.result for body in bodies}
    believed = [*plain, *known.items()]
    balances.note_results(session, [(success.attempt.id, said[number]) for number, success in believed], at=at)
    return {
        number: Judgement("paid", outcome, success.payout.id)
        for (number, success), outcome in zip(believed, [*results, *(transitions.REPEAT for _ in known)], strict=True)
    }


def _judge(session: Session, body: _Body, trust: Trust, *, at: datetime) -> Judgement | None:
    """What a callback is worth and what follows; None where it has to wait for its acknowledgement."""
    if body.broken is not None:
        raise body.broken
    callback = body.callback
    if not callback.signed:
        return _unsigned(session, body, at=at)
    kind = CallbackKind(callback.route)
    if kind is CallbackKind.STATUS:
        return _judge_status(session, body, at=at)
    if kind is CallbackKind.BALANCE:
        balance = balances.judge_answer(session, callback, body.result, body.trouble, at=at)
        return None if balance is None else Judgement(balance[0], transitions.unmoved(balance[1]))
    if kind not in (CallbackKind.RESULT, CallbackKind.TIMEOUT):
        return _note_answer(session, body, at=at)
    try:
        attempt, payout = transitions.lock(session, callback.subject)
    except NotFound:
        return _stray(session, callback, at=at)
    if kind is CallbackKind.RESULT:
        return _judge_result(session, body, (attempt, payout), trust, at=at)
    # Whatever its shape or code: a notice of the queue is neither paid nor failed.
    outcome = transitions.doubtful(session, attempt, why="M-Pesa says that it waited too long in the queue", at=at)
    return Judgement("timeout", outcome, payout.id)


def _unsigned(session: Session, body: _Body, *, at: datetime) -> Judgement:
    """What was posted without our mark is kept and never believed; but M-Pesa is asked about what it names.

    It moves no state. That a payment which ended unpaid was made after all is an incident: until somebody has
    looked, nothing is sent again for it.
    """
    result, route = body.result, body.callback.route
    why = body.trouble or "posted without a signature: kept, never believed"
    if result is None or CallbackKind(route) not in (CallbackKind.RESULT, CallbackKind.TIMEOUT):
        return Judgement("hint", transitions.unmoved(why))
    attempt = attempts.named_as(session, result.originator_conversation_id)
    if attempt is None:
        return Judgement("hint", transitions.unmoved(why))
    if route == CallbackKind.RESULT and judge_result(result).fate is Fate.PAID:
        _speaks_against(session, body, attempt, Fate.PAID, "a result was posted without a signature", at=at)
    return Judgement("hint", transitions.unmoved(f"{why}; M-Pesa is asked"), attempt.payout_id, about=attempt.id)


def _judge_result(
    session: Session, body: _Body, tried: tuple[Attempt, Payout], trust: Trust, *, at: datetime
) -> Judgement | None:
    (attempt, payout), result = tried, body.result
    if result is None:
        key = f"{Asking.UNREADABLE}:{attempt.id}"
        what = (
            f"A callback for {attempt.id} cannot be read ({body.trouble}). Its bytes are kept; the payout is asked"
            " about."
        )
        raise_incident(session, key=key, kind="unreadable", what=what, at=at, **about_attempt(attempt, body.evidence))
        return Judgement("unreadable", transitions.doubtful(session, attempt, why=body.trouble, at=at), payout.id)
    rule, receipt = judge_result(result), result.receipt()
    owner = attempts.receipt_owner(session, receipt) if rule.fate is Fate.PAID and receipt else None
    verified = verify_result(result, attempt, receipt_owner=owner)
    if verified.level is TrustLevel.CONTRADICTED:
        return _contradicted(session, body, attempt, f"A result for {attempt.id}: {verified.why}.", at=at)
    if verified.level is TrustLevel.NO_ACK and attempts.is_being_sent(attempt, at):
        return None
    if verified.level is TrustLevel.NO_ACK and rule.fate is Fate.PAID and trust.success_without_ack:
        verified = BELIEVED
    if verified.level is not TrustLevel.BELIEVED:
        # It lacks a factor: a reason to ask, and an incident where the attempt has ended otherwise.
        why = f"a result that is not believed: {verified.why}"
        outcome = transitions.doubtful(session, attempt, why=why, at=at)
        _speaks_against(session, body, attempt, rule.fate, why, at=at)
        return Judgement("hint", outcome, payout.id)
    if rule.fate is Fate.PAID:
        assert receipt is not None, "a success is believed with its receipt only"
        balances.note_results(session, [(attempt.id, result)], at=at)
        [outcome] = transitions.paid(session, [Success(attempt, payout, receipt, body.evidence)], at=at)
        return Judgement("paid", outcome, payout.id)
    if rule.fate is Fate.FAILED:
        code, text = result.result_code or rule.code, redact(result.result_desc)[:500] or rule.meaning
        outcome = transitions.not_paid(session, attempt, Failure(code, text, body.evidence), at=at)
        if rule.account_level and outcome.moved:
            why = account_refused(code, rule.meaning, rule.advice)
            set_switch(session, "breaker", is_on=True, reason=why, actor=LISTENER, at=at)
        return Judgement("failed", outcome, payout.id)
    if rule.code == ALREADY_TAKEN:
        attempts.note_met_before(session, attempt.id)
    why = f"code {result.result_code or 'missing'}: {rule.meaning}"
    outcome = transitions.doubtful(session, attempt, why=why, at=at, code=result.result_code)
    return Judgement("unclear", outcome, payout.id)


def _speaks_against(session: Session, body: _Body, attempt: Attempt, stated: Fate, why: str, *, at: datetime) -> None:
    """Raise an incident if an attempt has ended otherwise than this says."""
    ended = {AttemptStatus.FAILED: Fate.PAID, AttemptStatus.REJECTED: Fate.PAID, AttemptStatus.SUCCEEDED: Fate.FAILED}
    if ended.get(attempt.status) is stated:
        what = f"The attempt {attempt.id} is {attempt.status}, and {why}; it says {stated}. Nothing was changed."
        key = f"{Asking.HINT}:{attempt.id}:{stated}"
        raise_incident(
            session, key=key, kind="contradiction", what=what, at=at, **about_attempt(attempt, body.evidence)
        )


def _contradicted(session: Session, body: _Body, attempt: Attempt, what: str, *, at: datetime) -> Judgement:
    key, told = f"{Asking.MISMATCH}:{attempt.id}", f"{what} Nothing was changed."
    raise_incident(session, key=key, kind="mismatch", what=told, at=at, **about_attempt(attempt, body.evidence))
    return Judgement("mismatch", transitions.unmoved(what), attempt.payout_id)


def _stray(session: Session, callback: WaitingCallback, *, at: datetime) -> Judgement:
    """Our own signature on an attempt that this database does not know: it was restored from an older copy."""
    raise_incident(
        session,
        key=f"stray:{callback.subject}",
        kind="stray_result",
        what=f"A result arrived for {callback.subject}, which this database does not know. Was it restored from an"
        " older copy, or is it another deployment's? Nothing was changed.",
        at=at,
        callback_id=callback.id,
    )
    return Judgement("stray", transitions.unmoved("no such attempt here"))


def _judge_status(session: Session, body: _Body, *, at: datetime) -> Judgement | None:
    """What the answer to a status query is worth and what follows; None while its acknowledgement is to come."""
    query = status_queries.find_query(session, body.callback.subject)
    if query is None or query.attempt_id is None:
        return Judgement("stray", transitions.unmoved("no such query here"))
    if status_queries.is_being_asked(query, at):
        return None
    attempt, payout = transitions.lock(session, query.attempt_id)
    if body.result is None:
        status_queries.note_answer(session, query.id, answer="UNREADABLE", detail=body.trouble, at=at)
        return Judgement("unreadable", transitions.unmoved(body.trouble), payout.id)
    answer = read_status(body.result)
    if not _said_by_its_account(query, attempt, answer):
        why = "another account asked than the one that paid, so its answer says nothing of the payment"
        status_queries.note_answer(session, query.id, answer=status_queries.OTHER_ACCOUNT, detail=why, at=at)
        if answer.fate is StatusFate.COMPLETED:
            _speaks_against(session, body, attempt, Fate.PAID, f"{why}; but this one says that it paid", at=at)
        return Judgement("hint", transitions.unmoved(why), payout.id)
    if answer.fate not in (StatusFate.COMPLETED, StatusFate.NOT_PAID):
        tied = verify_envelope(body.result, query)
        said = answer.fate.upper() if tied is BELIEVED else tied.level.upper()
        status_queries.note_answer(session, query.id, answer=said, detail=tied.why or answer.meaning, at=at)
        if said == "NOT_FOUND" and attempt.status is AttemptStatus.REJECTED:
            # So the books have it, too: it was never taken, and goes again under the same id only.
            answer_incidents(session, attempt.id, query_id=query.id, asked_at=query.asked_at, now=at)
        return Judgement(answer.fate.value, transitions.unmoved(tied.why or answer.meaning), payout.id)
    return _judge_end(session, body, query, (attempt, payout), body.result, at=at)


def _judge_end(
    session: Session, body: _Body, query: Query, tried: tuple[Attempt, Payout], result: Result, *, at: datetime
) -> Judgement:
    """An answer that says how a payment ended, paid or not: believed where it names our question and our payment."""
    (attempt, payout), answer = tried, read_status(result)
    owner = attempts.receipt_owner(session, answer.receipt) if answer.receipt else None
    verified = verify_status(result, answer, query, attempt, receipt_owner=owner)
    said = answer.fate.upper() if verified.level is TrustLevel.BELIEVED else verified.level.upper()
    status_queries.note_answer(session, query.id, answer=said, detail=verified.why or answer.meaning, at=at)
    if verified.level is TrustLevel.CONTRADICTED:
        return _contradicted(session, body, attempt, f"The status of {attempt.id}: {verified.why}.", at=at)
    if verified.level is not TrustLevel.BELIEVED:
        return Judgement("hint", transitions.unmoved(verified.why), payout.id)
    evidence = f"status:{query.id}"
    if answer.fate is StatusFate.NOT_PAID:
        failure = Failure(transitions.STATUS_SAYS_NO, answer.meaning, evidence)
        outcome = transitions.not_paid(session, attempt, failure, at=at)
        if outcome.moved or attempt.status in (AttemptStatus.FAILED, AttemptStatus.REJECTED):
            answer_incidents(session, attempt.id, query_id=query.id, asked_at=query.asked_at, now=at)
        return Judgement("failed", outcome, payout.id)
    if not answer.receipt:
        return Judgement("hint", transitions.unmoved("it says completed, and names no receipt"), payout.id)
    [outcome] = transitions.paid(session, [Success(attempt, payout, answer.receipt, evidence)], at=at)
    if outcome.moved or answer.receipt == attempt.receipt:
        answer_incidents(session, attempt.id, query_id=query.id, asked_at=query.asked_at, now=at)
    return Judgement("paid", outcome, payout.id)


def _said_by_its_account(query: Query, attempt: Attempt, answer: StatusAnswer) -> bool:
    """Whether the account that was asked is the one that made the payment, so that its answer counts.

    Where nobody wrote down who made it, only a payment that was found says something.
    """
    if attempt.account_id is None:
        return answer.fate is StatusFate.COMPLETED
    return query.account_id == attempt.account_id


def _note_answer(session: Session, body: _Body, *, at: datetime) -> Judgement:
    """Note notices that move no money: a query that waited too long."""
    code = None if body.result is None else body.result.result_code
    said = body.trouble or (f"code {code}" if code else "a timeout notice")
    answer = CallbackKind(body.callback.route).name
    status_queries.note_answer(session, body.callback.subject, answer=answer, detail=said, at=at)
    return Judgement("noted", transitions.unmoved(said))
