"""A whole run: what is due is sent, its results are waited for where somebody takes them, and what is next is named."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from kasoko_cli.clock import Clock, iso
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.operations.payouts import sending
from kasoko_cli.operations.payouts.dispatcher import SendOrder
from kasoko_cli.operations.payouts.run import Run, Sent, Stop
from kasoko_cli.operations.payouts.run_report import End, ends_of, exit_code_of, heed_breaker, note_run, unknown_between
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.operations.shared.watching import Attended, Hooks
from kasoko_cli.store import callbacks
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run did, where its payouts stand now, and the number that it exits with."""

    run: Run
    ends: list[End]
    exit_code: int
    #: The one thing to do next where it is not known how some ended; everything else can wait for it.
    after_doubt: str | None
    #: When M-Pesa was last heard from, by whoever listens.
    heard_at: datetime | None = None

    @property
    def states(self) -> set[str]:
        """Every state that a payout of the run is in."""
        return {end.status for end in self.ends}


def send_and_wait(
    ctx: OperationContext,
    gateway: Gateway,
    order: SendOrder,
    attended: Attended,
    *,
    listen_seconds: int | None = None,
    expected: int | None = None,
) -> Run:
    """Send what is due, note who did, and wait so long for the results where somebody takes them in here.

    `expected` is how many payouts it will be, for whoever watches. Raises what `sending.send_due` raises.
    """
    work, watcher = attended.work, attended.watcher
    work.doing = "sending"
    with watcher.part("Sending", expected) as one_more:

        def on_progress(sent: Sent) -> None:
            watcher.happened("payout", sent)
            one_more(str(sent.became))
            work.count(str(sent.became))

        order = replace(order, run_id=work.id)
        run = sending.send_due(ctx, gateway, order, Hooks(attended.stopper.is_set, on_progress))
    if run.sent:
        note_run(ctx, run, order.selection)
    if listen_seconds is not None and run.sent:
        work.doing = "waiting for results"
        _await_results(ctx.db, run, listen_seconds, attended)
        heed_breaker(ctx.db, run)
    return run


def outcome_of(db: Database, clock: Clock, run: Run) -> RunOutcome:
    """How a run ended, as it stands now: asked once nothing more is taken in."""
    ends = ends_of(db, run)
    code = exit_code_of(run, ends)
    after_doubt = _after_doubt(db, run, {end.status for end in ends}) if code == 7 else None
    heard_at = reconnect.read(db, lambda session: callbacks.last_heard(session, clock()))
    return RunOutcome(run, ends, code, after_doubt, heard_at)


def _await_results(db: Database, run: Run, seconds: int, attended: Attended) -> None:
    """Wait until every payout of the run has ended, or is unknown, or the time is over."""
    ends_at = time.monotonic() + seconds
    waiting = {sent.payout_id: sent for sent in run.sent}
    with attended.watcher.part("Waiting for results", len(waiting), seconds=seconds) as one_more:
        while True:
            began = time.monotonic()
            for end in ends_of(db, Run(sent=list(waiting.values()))):
                if end.status not in _UNDER_WAY:
                    if end.status != waiting.pop(end.payout_id).became:
                        attended.watcher.happened("result", end)
                    one_more(end.status)
            now = time.monotonic()
            if not waiting or now >= ends_at or attended.stopper.is_set():
                return
            # Ten thousand take a while to look at: most of the time is the listener's.
            attended.stopper.wait(max(0.2, 4 * (now - began)))


_UNDER_WAY = (PayoutStatus.SENT, PayoutStatus.SENDING)


def _after_doubt(db: Database, run: Run, states: Collection[str]) -> str:
    """The one thing to type next where it is not known how some ended."""
    is_unknown = PayoutStatus.UNKNOWN in states or PayoutStatus.SENDING in states
    if run.stopped is Stop.ACCOUNT and is_unknown:
        return (
            "Unknown is not failed. Mend the account, for M-Pesa may refuse the question too, then:"
            " kasoko resume, and kasoko reconcile --now, and kasoko retry-failed"
        )
    if run.stopped is Stop.UNKNOWN and (between := unknown_between(db, run)) is not None:
        return (
            "Unknown is not failed. Once M-Pesa answers again, ask it how they ended: kasoko reconcile --now. What its"
            " statement shows it never had is decided at once: kasoko payout decide --all-unknown-between"
            f" {iso(between[0])} {iso(between[1])} --not-paid"
        )
    if run.reaped and not is_unknown:
        return "The sender of some stopped in the middle: they are unknown. Ask M-Pesa: kasoko reconcile --now"
    if is_unknown:
        return "Unknown is not failed. Ask M-Pesa how they ended: kasoko reconcile --now"
    return "What is held contradicts itself, and a person decides: kasoko incident list"
