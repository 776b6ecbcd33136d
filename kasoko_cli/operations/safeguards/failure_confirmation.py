"""What is still missing before a payment that failed is made again under a new id.

A false "not paid" opens a second payment, so M-Pesa's "Declined" is asked for again after a while, and above a limit
every negative is held against other evidence. Nothing is moved here. Elapsed time is shown by stored times: what a
clock that ran ahead dated later than now confirms nothing, and what it is to confirm counts from the next thing
stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session

from kasoko_cli.clock import eat, farthest
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.operations.callbacks.verification import known_id
from kasoko_cli.store import callbacks, status_queries
from kasoko_cli.store.schema.tables import Attempt, Query

#: So many questions that M-Pesa took and did not answer, and there is no second kind of evidence beside a person's.
ASKED_ENOUGH = 3
#: What stands as the answer to a question where M-Pesa has said nothing.
NO_ANSWERS = frozenset({status_queries.NOT_ASKED, *status_queries.NOT_BELIEVED})


@dataclass(frozen=True, slots=True)
class Confirm:
    """How a negative is confirmed: always above so many cents, by answers at least so many seconds apart.

    Where these are 0, one "Declined" of M-Pesa's is enough below the limit.
    """

    above_cents: int = 1_000_000
    apart_seconds: int = 300


@dataclass(frozen=True, slots=True)
class Missing:
    """Why an attempt is not certain to be unpaid yet, and from when on asking M-Pesa can tell."""

    why: str
    from_at: datetime

    @property
    def hint(self) -> str:
        """What a person types, and from when on it helps."""
        return f"Ask M-Pesa, from {eat(self.from_at)} on: kasoko reconcile --now"


def missing(session: Session, attempt: Attempt, confirm: Confirm, now: datetime) -> Missing | None:
    """What is missing before the payout of this attempt is sent under a new id; None where nothing is.

    Only an attempt that FAILED has a successor under a new id: what M-Pesa never took goes again under its own.
    """
    if attempt.status is not AttemptStatus.FAILED:
        return None
    source = (attempt.evidence or "").partition(":")[0]
    is_large = attempt.wire_cents > confirm.above_cents
    # Nobody can be asked any more as the account of a payment from before accounts were written down.
    is_repeated = source == "status" and confirm.apart_seconds > 0 and attempt.account_id is not None
    if not is_large and not is_repeated:
        return None
    asked = _Asked.about(session, attempt, now)
    above = f"above KES {format_kes(confirm.above_cents)} "
    apart = timedelta(seconds=confirm.apart_seconds)
    if source == "callback":
        why = f"{above}a failure that was posted to us is confirmed first"
        from_at = asked.apart_from(attempt.status_at, apart, callback_id=int(_named(attempt)))
        return asked.unless_said(status_queries.NOT_COMPLETED, from_at, why)
    if source == "status":
        if callbacks.was_judged(session, attempt.id, "failed", now):
            return None  # a result said so too: two kinds
        first = next((one.asked_at for one in asked.by_now if one.id == _named(attempt)), attempt.status_at)
        from_at = asked.apart_from(first, apart, callback_id=callbacks.last_about(session, _named(attempt)))
        why = "M-Pesa has answered once that it was not paid, and has to say so again"
        return asked.unless_said(frozenset({"NOT_PAID"}), from_at, why, after=first)
    if source == "statement":
        first = next(
            (one.asked_at for one in asked.by_now if one.answer in status_queries.NOT_COMPLETED), attempt.status_at
        )
        why = f"{above}the silence of a statement is confirmed first"
        return asked.unless_said(status_queries.NOT_COMPLETED, asked.apart_from(first, apart), why, after=first)
    return asked.of_a_person(attempt, f"{above}a person's word is held against M-Pesa's")


def _named(attempt: Attempt) -> str:
    """What the evidence names after its kind."""
    return (attempt.evidence or "").partition(":")[2]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What an attempt's own account was asked about it: by now, and by a clock that was ahead of now."""

    session: Session
    now: datetime
    by_now: Sequence[Query]
    ahead: Sequence[Query]

    @classmethod
    def about(cls, session: Session, attempt: Attempt, now: datetime) -> _Asked:
        """The questions, earliest first."""
        asked = [one for one in status_queries.list_about(session, attempt.id) if one.account_id == attempt.account_id]
        by_now = [one for one in asked if one.asked_at <= now]
        return cls(session, now, by_now, asked[len(by_now) :])

    def apart_from(self, at: datetime, apart: timedelta, *, callback_id: int | None = None) -> datetime:
        """From when on a question is far enough apart from what was written down at `at`.

        Where that was done by a clock that ran ahead: from what came next after the callback that brought it, and
        while nothing has, a question is to be asked.
        """
        if at <= farthest(self.now):
            return at + apart
        after = None if callback_id is None else callbacks.next_after(self.session, callback_id, self.now)
        return self.now if after is None else after + apart

    def unless_said(
        self, answers: frozenset[str], from_at: datetime, why: str, *, after: datetime | None = None
    ) -> Missing | None:
        """What is missing unless the latest question that was answered was asked from then on, and answered so.

        `after` is an earlier answer, which is not the same question.
        """
        for one in self.ahead:
            if one.answer and one.answer not in NO_ANSWERS and one.answer not in answers:
                # It speaks against it until M-Pesa is asked again, once something has come after it.
                number = callbacks.last_about(self.session, one.id)
                from_at = max(from_at, self.apart_from(one.asked_at, timedelta(0), callback_id=number))
        last = next((one for one in reversed(self.by_now) if one.answer and one.answer not in NO_ANSWERS), None)
        said = last is not None and last.answer in answers and last.asked_at >= from_at and last.asked_at != after
        return None if said else Missing(why, from_at)

    def of_a_person(self, attempt: Attempt, why: str) -> Missing | None:
        """M-Pesa has to agree, if it can be asked and answers: else there is no second kind of evidence."""
        taken = [one for one in self.by_now if one.answer != status_queries.NOT_ASKED]
        if known_id(attempt) is None or any(one.answer in status_queries.NOT_COMPLETED for one in taken):
            return None
        if len(taken) >= ASKED_ENOUGH and all(one.answer != "RUNNING" for one in (taken[-1], *self.ahead)):
            return None
        return Missing(why, min(attempt.status_at, self.now))
