"""Send what is owed, one payout or a run of them.

For each payout: one transaction in which an attempt with its own id stands as INTENT and its cents are
in flight; then, with no transaction open, the request; then one transaction with what came of it. A
crash in between leaves an INTENT, which becomes UNKNOWN when its lease runs out and is asked about.

This is the door. Its rooms are in `sending/`: `claiming` the first transaction, `crew` the threads and
the requests, `recording` the second transaction, `telling` what came of it all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlmodel import Session, select

from kasoko_cli.clock import Clock, iso
from kasoko_cli.daraja.client import DarajaClient
from kasoko_cli.errors import AccountRefused, Paused
from kasoko_cli.operations.account import payer
from kasoko_cli.operations.account.access_tokens import account_key
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.payouts.dispatcher import Crew
from kasoko_cli.operations.payouts.outage import last_in_a_row
from kasoko_cli.operations.payouts.run import Desk, Due, Run, SendPolicy, Sent, Stop
from kasoko_cli.operations.payouts.run_report import (
    Counted,
    End,
    count_ends,
    ends_of,
    exit_code_of,
    heed_breaker,
    note_run,
    still_running,
    unknown_between,
)
from kasoko_cli.operations.payouts.spending_bound import Bound, show
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.store import markets, payouts
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.reconnect import wait_for_server
from kasoko_cli.store.log import check_may_pause, switch_on
from kasoko_cli.store.schema.tables import Deployment

__all__ = [
    "Counted",
    "Due",
    "End",
    "Run",
    "SendPolicy",
    "Sent",
    "Stop",
    "check_ready",
    "count_ends",
    "ends_of",
    "exit_code_of",
    "heed_breaker",
    "is_outage",
    "note_run",
    "plan_run",
    "send_due",
    "state_of",
    "still_running",
    "unknown_between",
]


def plan_run(db: Database, clock: Clock, *, market: str | None = None, only: Sequence[str] = ()) -> Due:
    """What a run would send now, and what waits for later; nothing is written.

    Raises:
        NotFound: there is no such market or payout.
    """

    def look(session: Session) -> Due:
        return Due(*payouts.totals_due(session, now=clock(), market_id=_market_id(session, market, only), only=only))

    return reconnect.read(db, look)


def state_of(db: Database, payout_id: str) -> str:
    """Where one payout stands.

    Raises:
        NotFound: there is no such payout.
    """
    with db.reading() as session:
        return str(payouts.find_payout(session, payout_id).status)


def send_due(
    ctx: OperationContext,
    gateway: Gateway,
    policy: SendPolicy,
    trust: Trust,
    *,
    market: str | None = None,
    only: Sequence[str] = (),
    bound: Bound | None = None,
    limit: int | None = None,
    max_seconds: float | None = None,
    stay: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Sent], None] = lambda _: None,
    run_id: str | None = None,
) -> Run:
    """Send every payout that is due, each once. `stay` also waits for those that are due later.

    With a `bound` it sends what that names and nothing else, as it was shown. `only` is a bound of what those
    payouts are now. A run without either sends what is due, also what becomes due meanwhile.

    `run_id` is the run's name in the list of runs, and on the attempts that it holds.

    Raises:
        NotFound: there is no such market or payout.
        Refused: sending is paused, or the payments of another account are open.
        AccountRefused: M-Pesa refused the account before, and nobody has resumed since.
        ConfigurationError: M-Pesa refuses the consumer key or secret, or nobody could pause this with the
            database's role; nothing was changed.
        NotSent: M-Pesa cannot be reached; nothing was changed.
    """
    db, clock, account = ctx.db, ctx.clock, gateway.daraja.account
    run = Run()

    def begin(session: Session) -> int:
        check_may_pause(session)
        return transitions.reap(session, now=clock())

    def look(session: Session) -> tuple[str | None, str]:
        _check_switches(session)
        return markets.id_of(session, market), session.exec(select(Deployment)).one().deployment_id

    def still_due(session: Session) -> Due:
        return Due(*payouts.totals_due(session, now=clock(), market_id=market_id))

    wait_for_server(db, lambda: apply_results.apply_waiting(db, clock, trust))
    run.reaped = reconnect.write(db, begin)
    market_id, deployment = reconnect.read(db, look)
    payer.hold_to_account(ctx, account.payer)
    if only and bound is None:
        bound = show(
            db,
            clock(),
            market=market,
            only=only,
            limit=limit,
            later=stay,
            smallest_first=policy.smallest_first,
        )
    due = reconnect.read(db, still_due) if bound is None else None
    if (due.payouts or (stay and due.later)) if due is not None else bound is not None and bound.ids:
        gateway.daraja.check_account()
        account_id, key, name = payer.put_in_force(ctx, account.payer), account_key(account), run_id or gateway.new_id()
        desk = Desk(db, gateway.daraja, clock, ctx.act, policy, trust, account_id, key, name, deployment, tell, run)
        Crew(desk, gateway.links, bound, stay=stay).work(
            market_id, limit if bound is None else None, max_seconds, should_stop
        )
    if bound is not None:
        _end_of_bound(db, clock, run, bound, market_id, is_limited=limit is not None)
        return run
    due = reconnect.read(db, still_due)
    run.left, run.next_at = due.payouts + due.later, None if due.payouts else due.next_at
    return run


def _end_of_bound(
    db: Database, clock: Clock, run: Run, bound: Bound, market_id: str | None, *, is_limited: bool
) -> None:
    """What a bound run leaves: of its own, and what became due meanwhile."""

    def look(session: Session) -> tuple[Due, Due]:
        now = clock()
        own = bound.look_again(session, now)
        return own, own if bound.named else Due(*payouts.totals_due(session, now=now, market_id=market_id))

    own, due = reconnect.read(db, look)
    run.changed = bound.changed
    named = len(run.changed) if bound.named else 0
    run.left, run.next_at = due.payouts + due.later + named, None if due.payouts else due.next_at
    if not bound.named:
        run.more = max(0, due.payouts - own.payouts - len(run.changed))
    if run.more or run.changed:
        run.stop(Stop.LIMIT if is_limited and not run.changed else Stop.BOUND)


def is_outage(db: Database, clock: Clock, policy: SendPolicy) -> bool:
    """Whether the last payouts that anybody sent all ended unknown, and it is too early to send another to see."""
    last = reconnect.read(db, last_in_a_row)
    return last is not None and abs((clock() - last).total_seconds()) < policy.probe_after_seconds[0]


def check_ready(ctx: OperationContext, daraja: DarajaClient) -> None:
    """See that something can be sent at all, before anything is changed for it.

    Raises:
        Refused: sending is paused, or the payments of another account are open.
        AccountRefused: M-Pesa refused the account before, and nobody has resumed since.
        ConfigurationError: M-Pesa refuses the consumer key or secret.
        NotSent: M-Pesa cannot be reached.
    """
    reconnect.read(ctx.db, _check_switches)
    payer.hold_to_account(ctx, daraja.account.payer)
    daraja.check_account()


def _market_id(session: Session, market: str | None, only: Sequence[str]) -> str | None:
    for payout_id in only:
        payouts.find_payout(session, payout_id)
    return markets.id_of(session, market)


def _check_switches(session: Session) -> None:
    switch = switch_on(session)
    if switch is None:
        return
    if switch.name == "pause":
        raise Paused(f"Sending is paused by {switch.actor} since {iso(switch.at)}: {switch.reason}. Nothing was sent.")
    raise AccountRefused(
        f"Sending stopped at {iso(switch.at)}: {switch.reason} Nothing was sent.",
        hint="Mend that first, then: kasoko resume, and kasoko retry-failed, and kasoko payout",
    )
