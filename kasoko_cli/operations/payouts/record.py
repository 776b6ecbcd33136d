"""The second transaction of a payout: what came of its request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from random import Random

from sqlmodel import Session

from kasoko_cli.daraja.client import Answer
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import RETRY_SCHEDULE_SECONDS, AttemptStatus, PayoutStatus, next_try_seconds
from kasoko_cli.ledger import book
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.operations.payouts import rate_limit
from kasoko_cli.operations.payouts.run import Claimed, RunContext, Sent, Stop
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.call_log import keep_calls, were_kept
from kasoko_cli.operations.shared.next_steps import account_refused
from kasoko_cli.operations.shared.transitions import AcknowledgedSend, Failure
from kasoko_cli.store import attempts, payouts
from kasoko_cli.store.attempts import HeldAttempt
from kasoko_cli.store.log import LATE_ACKNOWLEDGEMENT, raise_incident, set_switch
from kasoko_cli.store.schema.tables import Attempt, Payout


class Recorder:
    """Writes down answers, a group at a time."""

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.chance = Random(context.run_id)  # noqa: S311 - only spreads retries in time
        #: What the group under way becomes, in case that its commit is not heard of.
        self._done: list[Sent] = []

    def record(self, answers: Sequence[tuple[Claimed, Answer]], *, again: bool = False) -> list[Sent]:
        """Write down what came of a group, in one commit.

        `again` where that was tried before: its commit may have come through, and its acknowledgement been lost.
        """
        now = self.context.clock()
        # In one order everywhere, so that two hosts never wait for each other's rows.
        answers = sorted(answers, key=lambda pair: pair[0].payout_id)
        entries: list[Entry] = []
        sent: dict[str, Sent] = {}
        with self.context.db.transaction() as session:
            found = attempts.lock_group(session, [one.attempt_id for one, _ in answers])
            if again and self._done and were_kept(session, *((one.attempt_id, answer) for one, answer in answers)):
                return self._done
            self._done = []
            plain = [
                (one, answer)
                for one, answer in answers
                if answer.verdict is Verdict.TAKEN
                and self._holds(one, found[one.attempt_id])
                and not _strange(answer, found[one.attempt_id])
            ]
            sent |= self._acknowledged(session, plain, found, now)
            for one, answer in answers:
                if one.attempt_id not in sent:
                    sent[one.attempt_id], following = self._apply(session, one, answer, now)
                    entries += following
            keep_calls(session, *((one.attempt_id, answer) for one, answer in answers))
            session.flush()
            book.post(session, *entries, at=now)
            if (rate := self.context.policy.rate_per_second) and any(answer.spikes for _, answer in answers):
                rate_limit.slow_down(session, self.context.account_key, rate, now=now)
            self._done = [sent[one.attempt_id] for one, _ in answers]
        return self._done

    def give_back(self, unsent: Sequence[Claimed]) -> None:
        """Payouts that were claimed and whose requests certainly never left are due again, as if never claimed."""
        now = self.context.clock()
        entries: list[Entry] = []
        why = Failure(transitions.NOT_SENT, "the run ended before it was sent", "answer:never left")
        with self.context.db.transaction() as session:
            for one in sorted(unsent, key=lambda one: one.payout_id):
                attempt, _ = transitions.lock(session, one.attempt_id)
                if self._holds(one, attempt):
                    entries += transitions.not_taken(session, attempt, why, at=now, again_at=now).entries
            book.post(session, *entries, at=now)

    def apply_overtaking(self, sent: Sequence[Sent]) -> None:
        """Judge results that overtook their acknowledgements, and waited for them."""
        subjects = [one.attempt_id for one in sent]
        apply_results.apply_waiting(self.context.db, self.context.clock, self.context.trust, subjects=subjects)

    def _holds(self, one: Claimed, attempt: HeldAttempt | Attempt) -> bool:
        """Whether this run still holds the attempt, in this very send of it."""
        return (
            attempt.status is AttemptStatus.INTENT
            and attempt.lease_token == self.context.run_id
            and attempt.sends == one.send
        )

    def _acknowledged(
        self, session: Session, plain: Sequence[tuple[Claimed, Answer]], found: Mapping[str, HeldAttempt], now: datetime
    ) -> dict[str, Sent]:
        """What M-Pesa took, without anything strange about it: nearly all, so one statement is for all of them."""
        ours = (_acknowledgement(found[one.attempt_id], answer, one.send, self.context.run_id) for one, answer in plain)
        transitions.taken(session, list(ours), at=now)
        return {one.attempt_id: one.became(PayoutStatus.SENT, answer.code, answer.meaning) for one, answer in plain}

    def _apply(self, session: Session, one: Claimed, answer: Answer, now: datetime) -> tuple[Sent, tuple[Entry, ...]]:
        attempt, payout = transitions.lock(session, one.attempt_id)
        if not self._holds(one, attempt):
            return self._late(session, one, answer, attempt, payout, now)
        verdict, again_at, meaning = answer.verdict, None, answer.meaning
        if verdict is Verdict.TAKEN and (strange := _strange(answer, attempt)):
            _raise_strange(session, one, strange, now)
            if answer.conversation_id:
                theirs = answer.originator_conversation_id
                attempts.keep_conversation(
                    session, attempt.id, conversation_id=answer.conversation_id, gateway_id=theirs
                )
            verdict, meaning = Verdict.UNKNOWN, strange
        if verdict is Verdict.DUPLICATE:
            attempts.note_met_before(session, attempt.id)
        if verdict in (Verdict.DUPLICATE, Verdict.UNKNOWN):
            outcome = transitions.doubtful(session, attempt, why=meaning, at=now, code=answer.code or None)
            became = PayoutStatus.UNKNOWN
        else:
            again_at, code = self._again_at(session, payout, answer, now)
            failure = Failure(code, answer.text or answer.meaning, f"answer:{answer.code or 'never left'}")
            outcome = transitions.not_taken(session, attempt, failure, at=now, again_at=again_at)
            became = PayoutStatus.FAILED if again_at is None else PayoutStatus.PENDING
        return one.became(became, answer.code, meaning, again_at), outcome.entries

    def _again_at(self, session: Session, payout: Payout, answer: Answer, now: datetime) -> tuple[datetime | None, str]:
        """When a payout that was certainly not taken is due again, and the code it carries until then."""
        if answer.verdict is Verdict.REFUSED:
            return None, answer.code or transitions.NOT_SENT
        if answer.verdict is Verdict.ACCOUNT:
            # The payout is not to blame: it stays due, and its schedule is not used up.
            why = account_refused(answer.code, answer.meaning, answer.advice)
            self.context.run.stopped, self.context.run.why = Stop.ACCOUNT, why
            set_switch(session, "breaker", is_on=True, reason=why, actor=self.context.actor.name, at=now)
            return now, answer.code
        if answer.held_back:
            # We kept it here ourselves, so that none of its tries is used up; not at once, should a clock run wild.
            return now + timedelta(seconds=RETRY_SCHEDULE_SECONDS[0]), transitions.NOT_SENT
        tries = payouts.count_try(session, payout.id)
        seconds = next_try_seconds(tries, self.context.policy.schedule, self.chance.random())
        return (None if seconds is None else now + timedelta(seconds=seconds)), transitions.NOT_SENT

    def _late(
        self, session: Session, one: Claimed, answer: Answer, attempt: Attempt, payout: Payout, now: datetime
    ) -> tuple[Sent, tuple[Entry, ...]]:
        """The lease ran out while we waited, and the attempt was marked: it is left to reconcile.

        Only what an acknowledgement names is kept, since a result needs it to be believed. Where somebody has
        ended the attempt as not paid meanwhile, the request left all the same: the payout is in doubt until a
        person has looked, and M-Pesa is asked.
        """
        known = attempt.status is AttemptStatus.FAILED and attempt.conversation_id == answer.conversation_id
        if attempt.status in _ENDED_UNPAID and answer.verdict in _MAY_BE_TAKEN and not known:
            _raise_ended(session, one, answer, attempt, now)
        if answer.verdict is Verdict.DUPLICATE:
            attempts.note_met_before(session, attempt.id)
        if answer.verdict is Verdict.TAKEN and answer.conversation_id and not _strange(answer, attempt):
            said = _acknowledgement(attempt, answer, attempt.sends, attempt.lease_token)
            if attempt.status is AttemptStatus.INTENT:
                transitions.taken(session, [said], at=now)
            else:
                attempts.keep_conversation(
                    session, attempt.id, conversation_id=said.conversation_id, gateway_id=said.gateway_id
                )
        why = f"the answer came after the lease ran out: {answer.meaning}"
        return one.became(payout.status, answer.code, why), ()


def _acknowledgement(attempt: HeldAttempt | Attempt, answer: Answer, send: int, lease_token: str) -> AcknowledgedSend:
    assert answer.conversation_id, "an acknowledgement without a conversation id is strange"
    gateway_id = answer.originator_conversation_id if attempt.api == "v1" else None
    return AcknowledgedSend(attempt.id, attempt.payout_id, send, lease_token, answer.conversation_id, gateway_id)


#: States that say that no money moved, and answers that say that it may.
_ENDED_UNPAID = (AttemptStatus.REJECTED, AttemptStatus.FAILED)
_MAY_BE_TAKEN = (Verdict.TAKEN, Verdict.UNKNOWN, Verdict.DUPLICATE)


def _raise_ended(session: Session, one: Claimed, answer: Answer, attempt: Attempt, now: datetime) -> None:
    raise_incident(
        session,
        key=f"late-acknowledgement:{one.attempt_id}:{one.send}",
        kind=LATE_ACKNOWLEDGEMENT,
        what=f"The attempt {one.attempt_id} was ended as {attempt.status} while its sender was"
        f" stopped, and the request left after all: {answer.meaning}. The payout {one.payout_id},"
        f" KES {format_kes(one.wire_cents)}, may reach the phone. M-Pesa is asked: kasoko reconcile",
        at=now,
        payout_id=one.payout_id,
        attempt_id=one.attempt_id,
    )


def _strange(answer: Answer, attempt: HeldAttempt | Attempt) -> str:
    """What is wrong with an acknowledgement that says taken; empty if nothing is."""
    if not answer.conversation_id:
        return "M-Pesa acknowledged it without a conversation id"
    if attempt.api == "v3" and answer.originator_conversation_id not in (None, attempt.id):
        return f"M-Pesa acknowledged it as {answer.originator_conversation_id}, which is another id"
    return ""


def _raise_strange(session: Session, one: Claimed, strange: str, now: datetime) -> None:
    raise_incident(
        session,
        key=f"strange-acknowledgement:{one.attempt_id}",
        evidence=f"{one.send}: {strange}",
        kind="strange_acknowledgement",
        what=f"{strange} ({one.attempt_id}, payout {one.payout_id}). It counts as unknown and is asked about.",
        at=now,
        payout_id=one.payout_id,
        attempt_id=one.attempt_id,
    )
