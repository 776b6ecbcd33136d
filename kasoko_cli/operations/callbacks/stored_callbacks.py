"""What M-Pesa, or somebody, has posted: shown, and judged once more.

Judging again is safe: evidence that is known already moves nothing. It helps after a bug in the judging was mended,
or after a payment turned up that was not known before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kasoko_cli.daraja.redaction import redact
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.callbacks.apply_results import Judged, Trust, apply_waiting
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.from_row import from_row
from kasoko_cli.store import callbacks
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Callback

#: How many callbacks a list has unless it says otherwise.
SOME = 50


@dataclass(frozen=True, slots=True)
class Received:
    """One callback as a list has it; `verdict` is None while it was not judged."""

    id: int
    received_at: datetime
    #: The part of the path that says what it is about: `b2c-callback` is the result of a payment.
    route: str
    #: The attempt's or the query's id; empty for a post on the plain path.
    subject: str
    #: Whether its address carried our mark.
    signed: bool
    #: The address that posted it.
    source: str
    bytes: int
    verdict: str | None
    detail: str | None
    applied_at: datetime | None


@dataclass(frozen=True, slots=True)
class ShownCallback:
    """One callback whole; phones in the body are masked, and credentials were never kept."""

    callback: Received
    body: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """One callback that was judged again: what was said before, and now; None where it waits for its turn."""

    id: int
    before: str | None
    verdict: str | None
    detail: str | None


def list_received(
    db: Database,
    *,
    about: str | None = None,
    verdict: str | None = None,
    waiting: bool = False,
    hints: bool = False,
    limit: int | None = SOME,
) -> list[Received]:
    """The latest callbacks, newest first; `about` names an attempt or a question, `hints` are those without a mark."""
    with db.reading() as session:
        found = callbacks.list_latest(
            session, subject=about, verdict=verdict, waiting=waiting, hints=hints, limit=limit
        )
        return [_received(callback) for callback in found]


def show_received(db: Database, number: int) -> ShownCallback:
    """One callback with its body. Raises NotFound if there is no such callback."""
    with db.reading() as session:
        [callback] = _found(callbacks.by_numbers(session, [number]), [number])
        return ShownCallback(_received(callback), redact(callback.body.decode("utf-8", "backslashreplace")))


def replay(ctx: OperationContext, trust: Trust, numbers: Sequence[int]) -> list[Replayed]:
    """Judge stored callbacks again, and write down who wanted it; what they said before stays in the record.

    Raises:
        NotFound: one of them does not exist; none was judged.
        Refused: the body of one was dropped since; none was judged.
    """
    now = ctx.clock()
    with ctx.db.transaction() as session:
        found = _found(callbacks.by_numbers(session, numbers, lock=True), numbers)
        for callback in found:
            if callback.salt is None and callback.applied_at is not None:
                raise Refused(
                    f"The body of the callback {callback.id} was dropped; its digest and verdict stand. Nothing was"
                    " judged again.",
                    hint=f"See what is left of it: kasoko callback show {callback.id}",
                )
        before = {callback.id: callback.verdict for callback in found}
        subjects = dict.fromkeys(callback.subject for callback in found)
        callbacks.make_waiting(session, numbers)
        for callback in found:
            detail = {"verdict": callback.verdict, "detail": callback.detail}
            note_act(session, ctx.actor, "callback.replay", f"callback:{callback.id}", at=now, detail=detail)
    judged: dict[int, Judged] = {}
    for subject in subjects:
        judged |= {one.callback_id: one for one in apply_waiting(ctx.db, ctx.clock, trust, subjects=[subject])}

    def replayed(number: int) -> Replayed:
        one = judged.get(number)
        return Replayed(number, before[number], one.verdict if one else None, one.detail if one else None)

    return [replayed(number) for number in dict.fromkeys(numbers)]


def _found(found: Sequence[Callback], numbers: Sequence[int]) -> Sequence[Callback]:
    known = {callback.id for callback in found}
    for number in numbers:
        if number not in known:
            raise NotFound(f"There is no callback {number}.", hint="See which there are: kasoko callback list")
    return found


def _received(callback: Callback) -> Received:
    return from_row(Received, callback, bytes=len(callback.body))
