"""What a run tells: who ran what, where its payouts stand now, and the number it exits with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session

from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.operations.payouts.run import Run, Selection, Stop
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.overview import Amount
from kasoko_cli.store import attempts, markets, payouts
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import BREAKER, switches_on


def note_run(ctx: OperationContext, run: Run, selection: Selection) -> None:
    """Write down who ran what and how it went."""
    detail = {
        "stopped": str(run.stopped),
        "sent": run.count(PayoutStatus.SENT),
        "sent_cents": run.cents(PayoutStatus.SENT),
        "not_sent": run.count(PayoutStatus.PENDING),
        "failed": run.count(PayoutStatus.FAILED),
        "unknown": run.count(PayoutStatus.UNKNOWN),
    }

    def note(session: Session) -> None:
        subject = markets.id_of(session, selection.market) or ", ".join(selection.only) or "all"
        note_act(session, ctx.actor, "payout.send", subject, at=ctx.clock(), detail=detail)

    reconnect.write(ctx.db, note)


@dataclass(frozen=True, slots=True)
class End:
    """Where a payout of the run stands now: a result may have come meanwhile."""

    payout_id: str
    status: str
    wire_cents: int
    code: str
    why: str
    not_before: datetime | None


def ends_of(db: Database, run: Run) -> list[End]:
    """Where each payout of the run stands now, in the order of sending."""
    last = {sent.payout_id: sent for sent in run.sent}
    found = {payout.id: payout for payout in reconnect.read(db, lambda session: payouts.by_ids(session, list(last)))}
    return [
        End(
            payout_id,
            str(found[payout_id].status),
            sent.wire_cents,
            found[payout_id].failure_code or sent.code,
            found[payout_id].failure_reason or sent.why,
            found[payout_id].not_before,
        )
        for payout_id, sent in last.items()
    ]


def heed_breaker(db: Database, run: Run) -> None:
    """Note on a finished run that a result has meanwhile stopped all sending."""
    if run.stopped not in (Stop.DONE, Stop.LIMIT, Stop.TIME, Stop.BOUND):
        return
    breaker = next((switch for switch in reconnect.read(db, switches_on) if switch.name == BREAKER), None)
    if breaker is not None:
        run.stopped, run.why = Stop.ACCOUNT, breaker.reason


def count_ends(ends: Sequence[End]) -> dict[str, Amount]:
    """How many ended in each state, in the order of the states."""
    cents = {str(status): [end.wire_cents for end in ends if end.status == status] for status in PayoutStatus}
    return {status: Amount(len(some), sum(some)) for status, some in cents.items() if some}


def unknown_between(db: Database, run: Run) -> tuple[datetime, datetime] | None:
    """When the first and the last payout that the run left unknown were sent, rounded outwards to whole seconds."""
    ids = [sent.payout_id for sent in run.sent if sent.became is PayoutStatus.UNKNOWN]
    found = reconnect.read(db, lambda session: attempts.last_attempts(session, ids))
    times = [one.sent_at for one in found.values() if one.status is AttemptStatus.UNKNOWN]
    if not times:
        return None
    return min(times).replace(microsecond=0), (max(times) + timedelta(seconds=1)).replace(microsecond=0)


def exit_code_of(run: Run, ends: Sequence[End]) -> int:
    """0 all taken, 6 some not sent or failed, 7 some unknown, 10 stopped early, 130 interrupted: the gravest first.

    5, paused or another account pays now, only where nothing was sent by then.
    """
    states = {end.status for end in ends}
    if states & {PayoutStatus.UNKNOWN, PayoutStatus.SENDING} or run.held or run.reaped:
        return 7
    if run.stopped is Stop.INTERRUPTED:
        return 130
    if states & {PayoutStatus.FAILED, PayoutStatus.PENDING} or run.stopped in (Stop.ACCOUNT, Stop.UNREACHABLE):
        return 6
    if run.postponed:
        return 6  # their receivers have had the day's limit: not sent today, and nobody shall think so
    if run.stopped in (Stop.PAUSED, Stop.CHANGED):
        return 10 if run.sent else 5
    return 10 if run.stopped in (Stop.LIMIT, Stop.TIME, Stop.BOUND) and run.left else 0
