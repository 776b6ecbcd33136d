"""The second transaction of a payout: what came of its request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

from sqlmodel import Session

from kasoko_cli.daraja.client import Answer
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, next_try_seconds
from kasoko_cli.ledger import book
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.operations import fate, receive
from kasoko_cli.operations.advice import account_refused
from kasoko_cli.operations.calls import exchange_rows
from kasoko_cli.operations.sending.run import Claimed, Desk, Sent, Stop
from kasoko_cli.store import attempts, payouts
from kasoko_cli.store.log import raise_incident, set_switch
from kasoko_cli.store.tables import Attempt, Payout

#: After this many requests in a row that could not reach M-Pesa at all, the run stops (one that stays goes on).
UNREACHABLE_STOPS_AFTER = 3


class Recorder:
    """Writes down answers, a group at a time. `stays` is a run that waits for what is due later."""

    def __init__(self, desk: Desk, *, stays: bool) -> None:
        self.desk, self.stays = desk, stays
        self.chance = Random(desk.run_id)  # noqa: S311 - only spreads retries in time
        self.unreachable = 0

    def record(self, answers: Sequence[tuple[Claimed, Answer]]) -> None:
        if not answers:
            return
        now = self.desk.clock()
        # In one order everywhere, so that two hosts never wait for each other's rows.
        answers = sorted(answers, key=lambda pair: pair[0].payout_id)
        entries: list[Entry] = []
        sent: list[Sent] = []
        with self.desk.db.transaction() as session:
            for one, answer in answers:
                done, following = self._apply(session, one, answer, now)
                sent.append(done)
                entries += following
                session.add_all(exchange_rows(one.attempt_id, answer))
            session.flush()
            book.post(session, *entries, at=now)
        for done in sent:
            # A result may have overtaken its acknowledgement, and waits for it.
            receive.apply_waiting(self.desk.db, self.desk.clock, self.desk.trust, subject=done.attempt_id)
            self.desk.run.sent.append(done)
            self.desk.tell(done)

    def _apply(self, session: Session, one: Claimed, answer: Answer, now: datetime) -> tuple[Sent, tuple[Entry, ...]]:
        attempt, payout = fate.lock(session, one.attempt_id)
        if (
            attempt.status is not AttemptStatus.INTENT
            or attempt.lease_token != self.desk.run_id
            or attempt.sends != one.send
        ):
            return self._late(session, one, answer, attempt, payout, now)
        verdict, again_at, meaning = answer.verdict, None, answer.meaning
        if verdict is not Verdict.NOT_SENT or answer.http_status is not None:
            self.unreachable = 0
        if verdict is Verdict.TAKEN and (strange := _strange(answer, attempt)):
            _raise_strange(session, one, strange, now)
            if answer.conversation_id:
                attempts.keep_conversation(
                    session,
                    attempt.id,
                    conversation_id=answer.conversation_id,
                    gateway_id=answer.originator_conversation_id,
                )
            verdict, meaning = Verdict.UNKNOWN, strange
        if verdict is Verdict.TAKEN:
            assert answer.conversation_id is not None
            ruling = fate.taken(
                session,
                attempt,
                conversation_id=answer.conversation_id,
                gateway_id=answer.originator_conversation_id if attempt.api == "v1" else None,
                at=now,
            )
            became = PayoutStatus.SENT
        elif verdict in (Verdict.DUPLICATE, Verdict.UNKNOWN):
            ruling = fate.doubtful(session, attempt, why=meaning, at=now, code=answer.code or None)
            became = PayoutStatus.UNKNOWN
        else:
            again_at, code = self._again_at(session, payout, answer, now)
            ruling = fate.not_taken(
                session,
                attempt,
                evidence=f"answer:{answer.code or 'never left'}",
                at=now,
                again_at=again_at,
                code=code,
                reason=answer.text or answer.meaning,
            )
            became = PayoutStatus.FAILED if again_at is None else PayoutStatus.PENDING
        return Sent(
            one.payout_id,
            one.attempt_id,
            one.user_id,
            one.wire_cents,
            became,
            answer.code,
            meaning,
            again_at,
        ), ruling.entries

    def _again_at(self, session: Session, payout: Payout, answer: Answer, now: datetime) -> tuple[datetime | None, str]:
        """When a payout that was certainly not taken is due again, and the code it carries until then."""
        if answer.verdict is Verdict.REFUSED:
            return None, answer.code or fate.NOT_SENT
        if answer.verdict is Verdict.ACCOUNT:
            # The payout is not to blame: it stays due, and its schedule is not used up.
            why = account_refused(answer.code, answer.meaning, answer.advice)
            self.desk.run.stopped, self.desk.run.why = Stop.ACCOUNT, why
            set_switch(session, "breaker", is_on=True, reason=why, actor=self.desk.act.actor, at=now)
            return now, answer.code
        if answer.http_status is None:
            self.unreachable += 1
            if self.unreachable >= UNREACHABLE_STOPS_AFTER and self.desk.run.stopped is Stop.DONE and not self.stays:
                self.desk.run.stopped, self.desk.run.why = Stop.UNREACHABLE, answer.text or answer.meaning
        tries = payouts.count_try(session, payout.id)
        seconds = next_try_seconds(tries, self.desk.policy.schedule, self.chance.random())
        return (None if seconds is None else now + timedelta(seconds=seconds)), fate.NOT_SENT

    def _late(
        self, session: Session, one: Claimed, answer: Answer, attempt: Attempt, payout: Payout, now: datetime
    ) -> tuple[Sent, tuple[Entry, ...]]:
        """The lease ran out while we waited, and somebody marked the attempt: it stays for reconcile.

        Only what an acknowledgement names is kept, since a result needs it to be believed.
        """
        if answer.verdict is Verdict.TAKEN and answer.conversation_id and not _strange(answer, attempt):
            fate.taken(
                session,
                attempt,
                conversation_id=answer.conversation_id,
                gateway_id=answer.originator_conversation_id if attempt.api == "v1" else None,
                at=now,
            )
        why = f"the answer came after the lease ran out: {answer.meaning}"
        return Sent(one.payout_id, one.attempt_id, one.user_id, one.wire_cents, payout.status, answer.code, why), ()


def _strange(answer: Answer, attempt: Attempt) -> str:
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
        kind="strange_acknowledgement",
        what=f"{strange} ({one.attempt_id}, payout {one.payout_id}). It counts as unknown and is asked about.",
        at=now,
        payout_id=one.payout_id,
        attempt_id=one.attempt_id,
    )
