"""Send what is owed, one payout or a run of them.

For each payout: one transaction in which an attempt stands as INTENT and its cents are in flight (`claim`); then,
with no transaction open, the request (`dispatcher`); then one with what came of it (`record`). A crash in between
leaves an INTENT, which becomes UNKNOWN when its lease runs out and is asked about.
"""

from __future__ import annotations

from dataclasses import replace

from sqlmodel import Session

from kasoko_cli.clock import Clock, eat
from kasoko_cli.daraja.client import DarajaClient
from kasoko_cli.errors import AccountRefused, Paused
from kasoko_cli.operations.account import payer
from kasoko_cli.operations.account.access_tokens import account_key
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.operations.payouts.dispatcher import Dispatcher, SendOrder
from kasoko_cli.operations.payouts.outage import last_in_a_row
from kasoko_cli.operations.payouts.run import Due, Run, RunContext, SendPolicy, Sent, Stop
from kasoko_cli.operations.payouts.spending_bound import Bound, show
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.operations.shared.watching import NO_HOOKS, Hooks
from kasoko_cli.store import markets, payouts
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.hash_chain import deployment_of
from kasoko_cli.store.engine.reconnect import wait_for_server
from kasoko_cli.store.log import check_may_pause, switch_on


def state_of(db: Database, payout_id: str) -> str:
    """Where one payout stands. Raises NotFound if there is no such payout."""
    with db.reading() as session:
        return str(payouts.find_payout(session, payout_id).status)


def send_due(ctx: OperationContext, gateway: Gateway, order: SendOrder, hooks: Hooks[Sent] = NO_HOOKS) -> Run:
    """Send every payout that is due and asked for, each once.

    Raises:
        NotFound: there is no such market or payout.
        Refused: sending is paused, or the payments of another account are open.
        AccountRefused: M-Pesa refused the account before, and nobody has resumed since.
        ConfigurationError: M-Pesa refuses the consumer key or secret, or nobody could pause this with the
            database's role; nothing was changed.
        NotSent: M-Pesa cannot be reached; nothing was changed.
    """
    db, clock, run = ctx.db, ctx.clock, Run()

    def begin(session: Session) -> int:
        check_may_pause(session)
        return transitions.reap(session, now=clock())

    def look(session: Session) -> tuple[str | None, str]:
        _check_switches(session)
        return markets.id_of(session, order.selection.market), deployment_of(session)

    def still_due(session: Session) -> Due:
        return Due(*payouts.totals_due(session, now=clock(), market_id=market_id))

    reconnect.read(db, _check_switches)  # before anything is changed; what is judged now may turn one on
    wait_for_server(db, lambda: apply_results.apply_waiting(db, clock, order.trust))
    run.reaped = reconnect.write(db, begin)
    market_id, deployment = reconnect.read(db, look)
    payer.hold_to_account(ctx, gateway.daraja.account.payer)
    if order.selection.only and order.bound is None:
        smallest_first = order.policy.smallest_first
        bound = show(db, clock(), order.selection, later=order.stay, smallest_first=smallest_first)
        order = replace(order, bound=bound)
    is_limited = order.bound is not None and len(order.bound.ids) == order.selection.limit
    if order.bound is None:
        due = reconnect.read(db, still_due)
        is_any = bool(due.payouts or (order.stay and due.later))
    else:
        is_any = bool(order.bound.ids)
    if is_any:
        context = _begin(ctx, gateway, order, deployment, run)
        Dispatcher(context, order, gateway.links, hooks).work(market_id)
    if order.bound is not None:
        _end_of_bound(ctx, run, order.bound, market_id, is_limited=is_limited)
        return run
    due = reconnect.read(db, still_due)
    run.left, run.next_at = due.payouts + due.later, None if due.payouts else due.next_at
    return run


def _begin(ctx: OperationContext, gateway: Gateway, order: SendOrder, deployment: str, run: Run) -> RunContext:
    """Begin as the account that pays, which M-Pesa has to know."""
    account = gateway.daraja.account
    gateway.daraja.check_account()
    return RunContext(
        db=ctx.db,
        daraja=gateway.daraja,
        clock=ctx.clock,
        actor=ctx.actor,
        policy=order.policy,
        trust=order.trust,
        account_id=payer.put_in_force(ctx, account.payer),
        account_key=account_key(account),
        run_id=order.run_id or gateway.new_id(),
        deployment=deployment,
        run=run,
    )


def _end_of_bound(ctx: OperationContext, run: Run, bound: Bound, market_id: str | None, *, is_limited: bool) -> None:
    """Note what a bound run leaves: of its own, and of what became due meanwhile."""

    def look(session: Session) -> tuple[Due, Due]:
        now = ctx.clock()
        own = bound.look_again(session, now)
        return own, own if bound.named else Due(*payouts.totals_due(session, now=now, market_id=market_id))

    own, due = reconnect.read(ctx.db, look)
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
    """Check that anything can be sent at all, before anything is changed for it.

    Raises:
        Refused: sending is paused, or the payments of another account are open.
        AccountRefused: M-Pesa refused the account before, and nobody has resumed since.
        ConfigurationError: M-Pesa refuses the consumer key or secret.
        NotSent: M-Pesa cannot be reached.
    """
    reconnect.read(ctx.db, _check_switches)
    payer.hold_to_account(ctx, daraja.account.payer)
    daraja.check_account()


def _check_switches(session: Session) -> None:
    switch = switch_on(session)
    if switch is None:
        return
    if switch.name == "pause":
        raise Paused(f"Sending is paused by {switch.actor} since {eat(switch.at)}: {switch.reason}. Nothing was sent.")
    raise AccountRefused(
        f"Sending stopped at {eat(switch.at)}: {switch.reason} Nothing was sent.",
        hint="Mend that first, then: kasoko resume, and kasoko retry-failed, and kasoko payout",
    )
