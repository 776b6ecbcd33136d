"""What is still missing before a payment that failed is made again under a new id.

A false "not paid" opens a second payment, so one is not enough. M-Pesa's own "Declined" is asked for again after a
while; above a limit every negative is held against another: a result against an answer, an answer against a later
one, a statement's silence and a person's word against an answer. Pure reading: nothing is moved here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session

from kasoko_cli.clock import iso
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.operations.belief import known_id
from kasoko_cli.store import callbacks, queries
from kasoko_cli.store.tables import Attempt, Query

#: So many questions that M-Pesa took and did not answer, and there is no second kind of evidence beside a person's.
ASKED_ENOUGH = 3


#: What stands as the answer to a question where M-Pesa has said nothing.
_NO_ANSWERS = frozenset({queries.NOT_ASKED, *queries.NOT_BELIEVED})


@dataclass(frozen=True, slots=True)
class Confirm:
    """How a negative is confirmed: always above so many cents, by answers at least so many seconds apart.

    Where these are 0, one "Declined" of M-Pesa's is enough below the limit.
    """

    above_cents: int = 1_000_000
    apart_seconds: int = 300


@dataclass(frozen=True, slots=True)
class Missing:
    """Why an attempt does not count as unpaid for certain yet, and from when on a question can tell."""

    why: str
    from_at: datetime

    @property
    def hint(self) -> str:
        """What a person types, and from when on it helps."""
        return f"Ask M-Pesa, from {iso(self.from_at)} on: kasoko reconcile --now"


def missing(session: Session, attempt: Attempt, confirm: Confirm) -> Missing | None:
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
    asked = [one for one in queries.list_about(session, attempt.id) if one.account_id == attempt.account_id]
    above = f"above KES {format_kes(confirm.above_cents)} "
    apart = timedelta(seconds=confirm.apart_seconds)
    if source == "callback":
        why = f"{above}a failure that was posted to us is confirmed first"
        return _unless_said(asked, queries.NOT_COMPLETED, attempt.status_at + apart, why)
    if source == "status":
        if callbacks.was_judged(session, attempt.id, "failed"):
            return None  # a result said so too: two kinds
        first = next((one.asked_at for one in asked if one.id == _named(attempt)), attempt.status_at)
        why = "M-Pesa has answered once that it was not paid, and has to say so again"
        return _unless_said(asked, frozenset({"NOT_PAID"}), first + apart, why, after=first)
    if source == "statement":
        first = next((one.asked_at for one in asked if one.answer in queries.NOT_COMPLETED), attempt.status_at)
        why = f"{above}the silence of a statement is confirmed first"
        return _unless_said(asked, queries.NOT_COMPLETED, first + apart, why, after=first)
    return _of_a_person(attempt, asked, f"{above}a person's word is held against M-Pesa's")


def _named(attempt: Attempt) -> str:
    """What the evidence names after its kind."""
    return (attempt.evidence or "").partition(":")[2]


def _unless_said(
    asked: Sequence[Query], answers: frozenset[str], from_at: datetime, why: str, *, after: datetime | None = None
) -> Missing | None:
    """What is missing unless the latest question that was answered was asked from then on, and answered so.

    `after` is an earlier answer, which is not the same question.
    """
    last = next((one for one in reversed(asked) if one.answer and one.answer not in _NO_ANSWERS), None)
    said = last is not None and last.answer in answers and last.asked_at >= from_at and last.asked_at != after
    return None if said else Missing(why, from_at)


def _of_a_person(attempt: Attempt, asked: Sequence[Query], why: str) -> Missing | None:
    """M-Pesa has to agree, if it can be asked and answers: else there is no second kind of evidence."""
    taken = [one for one in asked if one.answer != queries.NOT_ASKED]
    if known_id(attempt) is None or any(one.answer in queries.NOT_COMPLETED for one in taken):
        return None
    if len(taken) >= ASKED_ENOUGH and taken[-1].answer != "RUNNING":
        return None
    return Missing(why, attempt.status_at)
