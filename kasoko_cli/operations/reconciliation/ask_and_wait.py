"""A whole round of reconciling: M-Pesa is asked, its answers are waited for where somebody takes them in."""

from __future__ import annotations

import time
from dataclasses import dataclass

from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.reconciliation import status_queries
from kasoko_cli.operations.reconciliation.status_queries import (
    AskedStatus,
    AskPolicy,
    Contradiction,
    Inquiry,
    Reconciled,
    StillOpen,
    count_failed,
    list_contradictions,
    list_open,
    next_step,
    unanswered,
)
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.operations.shared.watching import Attended, Hooks, stay
from kasoko_cli.store.engine.database import Database


@dataclass(frozen=True, slots=True)
class AskRequest:
    """Which payouts are asked about, and how long that may take."""

    market: str | None = None
    #: Ask about all of them, whenever their turn is.
    now_at_once: bool = False
    #: Nothing new is asked after this, and no answer waited for.
    max_seconds: float | None = None
    #: How long answers are waited for; None where nobody takes them in here.
    listen_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """What a round did, what is still open, and the number that it exits with."""

    report: Reconciled
    open: list[StillOpen]
    contradictions: list[Contradiction]
    exit_code: int
    #: The one thing to type next where something is unknown; empty where nothing is.
    next: str
    #: How many payouts stand as failed, where that is all that is left to do.
    failed: int

    @property
    def not_asked(self) -> list[AskedStatus]:
        """The questions that M-Pesa did not take."""
        return [one for one in self.report.asked if not one.taken]

    @property
    def has_done_something(self) -> bool:
        """Whether anything was asked or learnt."""
        return bool(self.report.asked or self.report.applied or self.report.reaped)


def ask_and_wait(
    ctx: OperationContext, gateway: Gateway, policy: AskPolicy, trust: Trust, request: AskRequest, attended: Attended
) -> Reconciled:
    """Ask about every payout whose turn it is, and wait for the answers if that is wanted.

    Raises what `status_queries.ask_around` raises.
    """
    ends_at = None if request.max_seconds is None else time.monotonic() + request.max_seconds
    work, watcher, stopper = attended.work, attended.watcher, attended.stopper
    work.doing = "asking"
    with watcher.part("Asking") as one_more:

        def on_progress(asked: AskedStatus) -> None:
            how = "asked" if asked.taken else "not asked"
            watcher.happened("question", asked)
            one_more(how)
            work.count(how)

        def should_stop() -> bool:
            return stopper.is_set() or (ends_at is not None and time.monotonic() >= ends_at)

        inquiry = Inquiry(policy, trust, request.market, at_once=request.now_at_once)
        report = status_queries.ask_around(ctx, gateway, inquiry, Hooks(should_stop, on_progress))
    waiting = [one.query_id for one in report.asked if one.taken]
    if waiting and request.listen_seconds is not None:
        work.doing = "waiting for answers"
        most = float(request.listen_seconds)
        most = most if ends_at is None else max(0.0, min(most, ends_at - time.monotonic()))
        with watcher.part("Waiting for answers", len(waiting), seconds=most) as one_more:
            came = 0

            def all_there() -> bool:
                nonlocal came
                left = unanswered(ctx.db, waiting)
                for _ in range(len(waiting) - left - came):
                    one_more("")
                came = len(waiting) - left
                return not left

            stay(stopper, most, all_there)
    return report


def outcome_of(db: Database, report: Reconciled, market: str | None) -> RoundOutcome:
    """What is open after a round, of one market or of all: asked once nothing more is taken in."""
    still, contradictions = list_open(db, market=market), list_contradictions(db, market=market)
    is_unknown = contradictions or any(one.status == "UNKNOWN" for one in still)
    code = 7 if is_unknown else 6 if any(not one.taken for one in report.asked) else 0
    following = next_step(still, contradictions, report.unaskable)
    failed = 0 if following else count_failed(db, market=market)
    return RoundOutcome(report, still, contradictions, code, following, failed)
