"""Payouts: sent, listed, looked at, tried again."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.confirmation import (
    NO_BOUNDS,
    Bounds,
    ExpectTotal,
    MaxTotal,
    PlanHash,
    look_and_ask,
    show_plan,
)
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.help.panels import ROAD
from kasoko_cli.cli.options import Events, Limit, MaybeMarketId, PayoutId, Plan, SignWith, WrongUsage
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.payout_tables import show_items, show_story
from kasoko_cli.cli.output.render import Column
from kasoko_cli.cli.signals import stopping

if TYPE_CHECKING:
    from kasoko_cli.cli.output.progress import Events as Telling
    from kasoko_cli.operations.payouts.market_hold import MarketMoved
    from kasoko_cli.operations.payouts.retry import Retried
    from kasoko_cli.operations.payouts.sending import Run, Sent
    from kasoko_cli.operations.shared.run_registry import AtWork

commands = Commands(
    "payout",
    "Send what is owed, and look at it.\n\nOptions of sending: kasoko payout send --help",
    default="send",
    panel=ROAD,
)
verbs = Commands()

Wait = Annotated[bool, typer.Option("--wait", help="Stay for those that are due later.")]
Listen = Annotated[bool, typer.Option("--listen", help="Take the results too, until they are all there.")]
ListenSeconds = Annotated[
    int, typer.Option("--listen-seconds", metavar="N", min=1, help="How long to wait for results.")
]
MaxSeconds = Annotated[
    int | None, typer.Option("--max-seconds", metavar="N", min=1, help="Begin nothing new after this.")
]

#: What is told at the first Ctrl-C.
_STOPPING = "Stopping: what is in flight is waited for. Once more to stop at once; both are safe."

PayoutOrMarket = Annotated[
    str, typer.Argument(metavar="PAYOUT|MARKET", help="A payout like rain.1.7, or a market.", show_default=False)
]


@commands.writes()
def send(
    call: CommandContext,
    market: MaybeMarketId = None,
    limit: Limit = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="PAYOUT",
            help="Just this payout.",
            autocompletion=completion.payouts,
        ),
    ] = None,
    wait: Wait = False,
    listen: Listen = False,
    listen_seconds: ListenSeconds = 120,
    plan: Plan = False,
    max_seconds: MaxSeconds = None,
    expect_total: ExpectTotal = None,
    max_total: MaxTotal = None,
    plan_hash: PlanHash = None,
    events: Events = False,
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="local sends here; celery enqueues for kasoko worker.")
    ] = "local",
) -> None:
    """Send what is due, of MARKET or of all markets.

    kasoko payout MARKET means kasoko payout send MARKET. In production a run
    above payout.confirm_slug_above_kes is confirmed by typing the market's slug;
    off a terminal --yes then needs --expect-total, --max-total or --plan-hash.

    A run whose sum was shown or bounded sends exactly those payouts, amounts and
    phones. What became due meanwhile is told, and waits for the next run.

    Example: kasoko payout rain --plan

    Example: kasoko payout rain --listen

    Example: kasoko payout --yes --max-seconds 240

    Exit status: 0 all taken, 3 settings, 4 no such market or payout, 5 paused,
    the float is short or the sum is another, 6 some not sent or failed, 7 some
    unknown, 9 another run has this work, 10 work is left.
    """
    if engine not in ("local", "celery"):
        raise WrongUsage(f"There is no engine {engine!r}. Take local or celery.")
    if plan:
        show_plan(call, market, only or [], limit)
        return
    if engine == "celery":
        if wait or listen or max_seconds is not None:
            raise WrongUsage("With --engine celery the workers send: --wait, --listen, --max-seconds are not for it.")
        bounds = Bounds(expect_total, max_total, plan_hash)
        _enqueue(call, market=market, limit=limit, only=only or [], bounds=bounds)
        return
    send_payouts(
        call,
        market=market,
        limit=limit,
        only=only or [],
        wait=wait,
        listen=listen,
        listen_seconds=listen_seconds,
        max_seconds=max_seconds,
        bounds=Bounds(expect_total, max_total, plan_hash),
        events=events,
    )


def _enqueue(call: CommandContext, *, market: str | None, limit: int | None, only: list[str], bounds: Bounds) -> None:
    """Put a task a payout on the queue of a Celery fleet; nothing is claimed, and nothing changes in the database."""
    from kasoko_cli.cli.commands.admin.worker import tasks_of
    from kasoko_cli.cli.parsing import count_of
    from kasoko_cli.operations.payouts import sending

    tasks = tasks_of(call)
    container = call.container
    question = "Enqueue {}, for the workers to send?"
    looked = look_and_ask(
        call,
        market=market,
        only=only,
        limit=limit,
        bounds=bounds,
        asked=False,
        question=question,
        bind=True,
        seal=container.links.seal,
    )
    sending.check_ready(call.context, container.daraja)
    tasks.check_broker()
    assert looked.bound is not None, "it was bound"
    enqueued = looked.bound.ids
    tasks.enqueue(looked.bound.marks())
    if call.json:
        render.document({"engine": "celery", "enqueued": enqueued})
        return
    render.did(call, f"{count_of(len(enqueued), 'payout')} enqueued. How they end: kasoko status")


def send_payouts(
    call: CommandContext,
    *,
    market: str | None,
    limit: int | None = None,
    only: list[str] | None = None,
    wait: bool = False,
    listen: bool = False,
    listen_seconds: int = 120,
    max_seconds: int | None = None,
    bounds: Bounds = NO_BOUNDS,
    asked: bool = False,
    bind: bool = False,
    retried: Retried | None = None,
    events: bool = False,
    work: AtWork | None = None,
) -> None:
    """Ask unless it was `asked`, send, listen if wanted, tell, and exit with the run's code.

    With `bind` the run sends what is due now and nothing else, also where nobody is asked.
    `work` is the run that stands in the list already; else this is one of its own. Payouts that were named are
    nobody's work but the caller's.
    """
    from kasoko_cli.cli.output.progress import Events as Telling
    from kasoko_cli.cli.output.progress import Outcomes, progress
    from kasoko_cli.operations.payouts import sending
    from kasoko_cli.operations.shared.run_registry import at_work

    container = call.container
    looked = look_and_ask(
        call,
        market=market,
        only=only or [],
        limit=limit,
        bounds=bounds,
        asked=asked,
        later=wait,
        bind=bind,
    )
    telling = Telling(container.clock, on=events)
    with contextlib.ExitStack() as stack:
        stopper = stack.enter_context(stopping(functools.partial(render.talk, call, _STOPPING)))
        if work is None:
            place = at_work(
                container.db,
                container.clock,
                container.new_id,
                call.act,
                command="payout",
                market=market,
                alone=not only,
            )
            work = stack.enter_context(place)
        if listen:
            from kasoko_cli.cli.commands.payout.listen import listening

            stack.enter_context(listening(call, otherwise="leave out --listen, for it takes the results"))
        work.doing = "sending"
        with progress(call, "Sending", looked.gate.payments, bar=not telling.on_a_terminal) as tally:
            outcomes = Outcomes(tally)

            def tell(sent: Sent) -> None:
                telling("payout", sent)
                outcomes(sent.became)
                work.count(str(sent.became))

            run = sending.send_due(
                call.context,
                container.gateway,
                container.send_policy,
                container.trust,
                market=market,
                bound=looked.bound,
                limit=limit,
                max_seconds=max_seconds,
                stay=wait,
                should_stop=stopper.is_set,
                tell=tell,
                run_id=work.id,
            )
        if run.sent:
            sending.note_run(call.context, run, market=market)
        if listen and run.sent:
            work.doing = "waiting for results"
            _await_results(call, run, listen_seconds, stopper, telling)
            sending.heed_breaker(container.db, run)
    _tell_run(call, run, retried, telling)


def _await_results(call: CommandContext, run: Run, seconds: int, stopper: threading.Event, telling: Telling) -> None:
    """Wait until every payout of the run has ended, or is unknown, or the time is over."""
    from kasoko_cli.cli.output.progress import Outcomes, progress
    from kasoko_cli.operations.payouts.sending import Run, ends_of

    ends_at = time.monotonic() + seconds
    waiting = {sent.payout_id: sent for sent in run.sent}
    with progress(call, "Results", len(waiting), bar=not telling.on_a_terminal) as tally:
        outcomes = Outcomes(tally)
        while True:
            began = time.monotonic()
            for end in ends_of(call.container.db, Run(sent=list(waiting.values()))):
                if end.status not in ("SENT", "SENDING"):
                    if end.status != waiting.pop(end.payout_id).became:
                        telling("result", end)
                    outcomes(end.status)
            now = time.monotonic()
            if not waiting or now >= ends_at or stopper.is_set():
                return
            # Ten thousand take a while to look at: most of the time is the listener's.
            stopper.wait(max(0.2, 4 * (now - began)))


def _tell_run(call: CommandContext, run: Run, retried: Retried | None, telling: Telling) -> None:
    """Say what the run did, name each payout that needs a look, and exit with the code."""
    from kasoko_cli.cli.parsing import local
    from kasoko_cli.operations.payouts import sending

    ends = sending.ends_of(call.container.db, run)
    code = sending.exit_code_of(run, ends)
    if call.json or telling.on:
        following = _next_after_doubt(call, {one.status for one in ends}, run) if code == 7 else None
        telling.answer({"run": run, "payouts": ends, "retried": retried, "next": following, "exit_code": code})
    elif render.unattended(call):
        from kasoko_cli.cli.output import cron_mail

        if cron_mail.needs_somebody(run, ends):
            render.mail(cron_mail.run_mail(run, ends))
            _tell_stop(call, run, {one.status for one in ends}, is_doubtful=code == 7)
    else:
        columns = [Column("became"), Column("payouts", right=True), Column("KES to phones", right=True)]
        rows = [(name, one.count, render.kes(one.amount_cents)) for name, one in sending.count_ends(ends).items()]
        if rows:
            render.table(call, "This run", columns, rows)
        else:
            is_idle = run.stopped is sending.Stop.DONE and not (run.held or run.reaped or run.postponed or run.left)
            render.talk(call, "Nothing is due." if is_idle else "Nothing was sent.")
        troubled = [one for one in ends if one.status in ("FAILED", "PENDING", "UNKNOWN", "HELD")]
        if troubled:
            columns = [Column("payout"), Column("KES", right=True), Column("status"), Column("why"), Column("again")]
            again = [None if one.not_before is None else local(one.not_before) for one in troubled]
            rows_of_trouble = [
                (one.payout_id, render.kes(one.wire_cents), one.status, one.why or one.code, at)
                for one, at in zip(troubled, again, strict=True)
            ]
            render.table(call, "To look at", columns, rows_of_trouble)
        _tell_stop(call, run, {one.status for one in ends}, is_doubtful=code == 7)
    if code:
        raise typer.Exit(code)


def _next_after_doubt(call: CommandContext, states: set[str], run: Run) -> str:
    """The one thing to type next where it is not known how some ended; everything else can wait for it."""
    from kasoko_cli.clock import iso
    from kasoko_cli.operations.payouts.sending import Stop, unknown_between

    if run.stopped is Stop.ACCOUNT and states & {"UNKNOWN", "SENDING"}:
        return (
            "Unknown is not failed. Mend the account, for M-Pesa may refuse the question too, then:"
            " kasoko resume, and kasoko reconcile --now, and kasoko retry-failed"
        )
    if run.stopped is Stop.UNKNOWN and (between := unknown_between(call.container.db, run)) is not None:
        return (
            "Unknown is not failed. Once M-Pesa answers again, ask it how they ended: kasoko reconcile --now. What its"
            " statement shows it never had is decided at once: kasoko payout decide --all-unknown-between"
            f" {iso(between[0])} {iso(between[1])} --not-paid"
        )
    if run.reaped and not states & {"UNKNOWN", "SENDING"}:
        return "The sender of some stopped in the middle: they are unknown. Ask M-Pesa: kasoko reconcile --now"
    if states & {"UNKNOWN", "SENDING"}:
        return "Unknown is not failed. Ask M-Pesa how they ended: kasoko reconcile --now"
    return "What is held contradicts itself, and a person decides: kasoko incident list"


def _tell_stop(call: CommandContext, run: Run, states: set[str], *, is_doubtful: bool) -> None:
    """Why the run ended, what is left, and the next thing to type."""
    from kasoko_cli.cli.parsing import count_of, local
    from kasoko_cli.operations.payouts.sending import Stop

    for payout_id in run.changed[:MOST_CHANGED]:
        render.talk(call, f"{payout_id} was left: its amount or phone is another one now than was shown.")
    if run.more:
        render.talk(call, f"{run.more:,} more became due meanwhile, and were not shown: kasoko payout --plan")
    if run.stopped not in (Stop.DONE, Stop.BOUND):
        render.talk(call, f"Stopped: {_STOPPED[str(run.stopped)]}{'. ' + run.why if run.why else '.'}")
    if run.reaped:
        render.talk(call, f"{count_of(run.reaped, 'payout')} of a sender that stopped in the middle may have moved.")
    if run.held:
        render.talk(call, f"{count_of(run.held, 'payout')} held back, since what is known of them is in doubt.")
    if run.postponed:
        render.talk(call, f"{run.postponed:,} wait for tomorrow: their receivers have had the day's limit.")
    if run.left:
        when = "" if run.next_at is None else f", the next at {local(run.next_at)}"
        render.talk(call, f"{count_of(run.left, 'payout')} left{when}: kasoko payout")
    if "SENT" in states:
        render.talk(call, "M-Pesa posts their results to kasoko listen. If one does not come: kasoko reconcile")
    if is_doubtful:
        render.hint(call, _next_after_doubt(call, states, run))
        return
    if run.stopped is Stop.ACCOUNT:
        render.hint(call, "Mend the account, then: kasoko resume, and kasoko retry-failed, and kasoko payout")
    elif "FAILED" in states:
        render.hint(call, "What failed, and what each needs: kasoko retry-failed")
    if "HELD" in states:
        render.hint(call, "Some were held meanwhile: kasoko payout list --status HELD")


#: How many payouts that have changed are named; the JSON has all.
MOST_CHANGED = 20
_STOPPED = {
    "changed": "another account pays now",
    "limit": "as many as --limit says",
    "time": "as long as --max-seconds says",
    "interrupted": "interrupted; everything is recorded",
    "account": "nothing more was sent",
    "unreachable": "M-Pesa cannot be reached; no money moved for these",
    "unknown": "several in a row brought no clear answer, as in an outage; what was not sent is still due",
    "paused": "sending was paused",
}


#: How many payouts a terminal is shown unless it asks for more.
SCREENFUL = 100


@commands.reads("list")
def list_(
    call: CommandContext,
    market: MaybeMarketId = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATE",
            help="Only those, like FAILED; may be repeated.",
            autocompletion=completion.states,
        ),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="Only of this user.")] = None,
    code: Annotated[str | None, typer.Option("--code", metavar="CODE", help="Only failed with this code.")] = None,
    receipt: Annotated[str | None, typer.Option("--receipt", metavar="R", help="The one with this receipt.")] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="PAYOUT", help="Only those after this one: the next page.")
    ] = None,
    limit: Limit = None,
) -> None:
    """List payouts, one row each, in the order they were owed.

    A terminal is shown the first hundred, and what to type for the next; a pipe
    and --json have all, unless --limit says otherwise.

    Example: kasoko payout list rain --status FAILED --status UNKNOWN

    Example: kasoko payout list --receipt UKN7A1B2C3

    Exit status: 0 shown, 2 no such state, 4 no such market, user or payout.
    """
    from kasoko_cli.domain.market import nearest
    from kasoko_cli.domain.payout import PayoutStatus
    from kasoko_cli.operations.reporting import status_views

    wanted = [one.upper() for one in status or []]
    for one in wanted:
        if one not in list(PayoutStatus):
            near = nearest(one, PayoutStatus)
            guess = f" Did you mean {near}?" if near else ""
            raise WrongUsage(f"There is no state {one!r}.{guess} The states are: {', '.join(PayoutStatus)}.")
    if limit is None and not call.json and render.is_on_a_terminal():
        limit = SCREENFUL
    page = status_views.list_page(
        call.container.db,
        market=market,
        statuses=[PayoutStatus(one) for one in wanted],
        user=user,
        code=code,
        receipt=receipt,
        after=after,
        limit=limit,
    )
    show_items(call, "Payouts", page.items, total=page.total)
    if page.total > len(page.items):
        last = page.items[-1].id
        render.talk(call, f"{len(page.items):,} of {page.total:,}. The next: the same with --after {last}")


@commands.reads()
def show(call: CommandContext, payout: PayoutId) -> None:
    """Show one payout's story: its attempts, results and entries.

    Example: kasoko payout show rain.1.7

    Example: kasoko payout show rain.1.7 --json

    Exit status: 0 shown, 4 no such payout.
    """
    from kasoko_cli.operations.reporting import status_views

    show_story(call, status_views.story(call.container.db, payout))


@commands.writes()
def retry(
    call: CommandContext,
    payout: Annotated[
        list[str],
        typer.Argument(
            metavar="PAYOUT...", help="Failed payouts.", show_default=False, autocompletion=completion.failed_payouts
        ),
    ],
    listen: Listen = False,
    listen_seconds: ListenSeconds = 120,
    events: Events = False,
) -> None:
    """Send definite failures again, where that can help.

    Only what certainly did not reach the phone, and may now. What is unknown
    belongs to kasoko reconcile.

    Example: kasoko payout retry rain.1.7

    Example: kasoko payout retry rain.1.7 rain.1.9 --listen

    Exit status: 0 sent, 3 settings, 4 no such payout, 5 none may be tried again,
    6 some failed again, 7 some unknown, 9 another process holds the database.
    """
    retry_and_send(call, only=payout, listen=listen, listen_seconds=listen_seconds, events=events)


@commands.writes()
def hold(call: CommandContext, payout: PayoutOrMarket) -> None:
    """Stop a payout, or all of a market, before it is sent.

    Of a market it stops what is due, has failed, or waits for a second person.

    Example: kasoko payout hold rain.1.7 --reason 'the customer disputes it'

    Example: kasoko payout hold rain --reason 'the result is disputed'

    Exit status: 0 it is held, 4 no such payout or market, 5 it is on its way, has
    ended, or no reason was given.
    """
    from kasoko_cli.domain.payout import looks_like_payout_id
    from kasoko_cli.operations.payouts import manual_decision, market_hold

    if looks_like_payout_id(payout):
        _tell_moved(call, payout, manual_decision.hold(call.context, payout_id=payout))
    else:
        _tell_market(call, market_hold.hold_market(call.context, market=payout))


@commands.writes()
def release(call: CommandContext, payout: PayoutOrMarket) -> None:
    """Let a held payout go: it is due again, or waits for approval.

    Of a market it lets go what was held with the whole market; what was held by
    itself stays.

    Example: kasoko payout release rain.1.7 --reason 'the customer agrees'

    Example: kasoko payout release rain --reason 'the result stands'

    Exit status: 0 it is released, 4 no such payout or market, 5 it is not held,
    or no reason was given.
    """
    from kasoko_cli.domain.payout import looks_like_payout_id
    from kasoko_cli.operations.payouts import manual_decision, market_hold

    container = call.container
    if looks_like_payout_id(payout):
        status = manual_decision.release(call.context, payout_id=payout, caution=container.caution)
        _tell_moved(call, payout, status)
    else:
        moved = market_hold.release_market(call.context, market=payout, caution=container.caution)
        _tell_market(call, moved)


def _tell_market(call: CommandContext, done: MarketMoved) -> None:
    from kasoko_cli.cli.parsing import amount_of, count_of

    if call.json:
        render.document(done)
        return
    for status, count in done.moved.items():
        render.did(call, f"{count_of(count, 'payout')} of {done.slug} now {status}.")
    if done.moved:
        render.talk(call, f"They carry {amount_of(done.wire_cents)} to phones.")
    else:
        render.did(call, f"Nothing of {done.slug} was there to be moved.")
    for why in done.left:
        render.talk(call, f"{why}.")


@commands.writes("to-wallet")
def to_wallet(call: CommandContext, payout: PayoutId) -> None:
    """Credit the user's wallet instead of the phone.

    Example: kasoko payout to-wallet rain.1.7

    Example: kasoko payout to-wallet rain.1.7 --yes --reason 'the line is dead'

    Exit status: 0 it is credited, 4 no such payout, 5 it is on its way or has
    ended.
    """
    from kasoko_cli.operations.payouts import manual_decision as operation

    if not render.confirm(call, f"Credit {payout} to the wallet, and never send it to the phone?"):
        raise typer.Exit(1)
    container = call.container
    status = operation.to_wallet(call.context, payout_id=payout, caution=container.caution)
    _tell_moved(call, payout, status)


def _tell_moved(call: CommandContext, payout: str, status: str) -> None:
    render.document({"payout": payout, "status": status}) if call.json else render.did(call, f"{payout} is {status}.")


@commands.writes("decide")
def decide_(
    call: CommandContext,
    payout: Annotated[
        str | None,
        typer.Argument(
            metavar="PAYOUT",
            help="The payout's id; none with --all-unknown-between.",
            show_default=False,
            autocompletion=completion.payouts,
        ),
    ] = None,
    paid: Annotated[bool, typer.Option("--paid", help="The receiver got it; needs --receipt.")] = False,
    not_paid: Annotated[bool, typer.Option("--not-paid", help="No money moved.")] = False,
    receipt: Annotated[str | None, typer.Option("--receipt", metavar="R", help="M-Pesa's proof.")] = None,
    evidence: Annotated[str, typer.Option("--evidence", metavar="TEXT", help="Where the next person can see it.")] = "",
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--all-unknown-between",
            metavar="T1 T2",
            help="All that is unknown and was sent then; with --not-paid.",
            show_default=False,
        ),
    ] = None,
    sign_with: SignWith = None,
) -> None:
    """Say how an unknown payout ended, on evidence that you hold.

    First ask M-Pesa: kasoko reconcile. Use this where its portal or its statement
    says what its answers do not. With payout.decide_needs_two a second person has
    to say the same of the same send, within approval.expires_hours.

    After an outage --all-unknown-between T1 T2 says it of every payout that was
    sent then and is unknown. It shows how many and how much, and asks; each one
    passes the same guard, and those that do not are named and left.

    Example: kasoko payout decide rain.1.7 --paid --receipt UKN7A1B2C3 --evidence
    'portal, 23 November' --reason 'no result came'

    Example: kasoko payout decide rain.1.7 --not-paid --evidence 'statement of 23
    November' --reason 'it is not in it'

    Example: kasoko payout decide --all-unknown-between 2026-11-23T06:00:00Z
    2026-11-23T06:10:00Z --not-paid --evidence 'statement' --reason 'outage'

    Exit status: 0 decided, 4 no such payout, 5 how it ended is known, it is not
    signed (approval.signed), or a second person has to say the same, 7 some were
    left unknown.
    """
    from kasoko_cli.operations.payouts.manual_decision import Decision, decide

    if paid == not_paid or (receipt is not None) != paid:
        raise WrongUsage("Say --paid with --receipt, or --not-paid.")
    if between is not None and payout is None and not_paid:
        from kasoko_cli.cli.commands.payout.bulk_decision import give

        give(call, between, evidence, sign_with)
        return
    if between is not None or payout is None:
        raise WrongUsage("Name one PAYOUT, or --all-unknown-between T1 T2 with --not-paid.")
    said = f"was paid, receipt {receipt}" if paid else "was not paid"
    if not render.confirm(call, f"Write down that {payout} {said}?"):
        raise typer.Exit(1)
    container = call.container
    done = decide(
        call.signed(sign_with),
        payout_id=payout,
        decision=Decision(receipt, evidence),
        two_people=container.config.payout.decide_needs_two,
        terms=container.terms,
        caution=container.caution,
    )
    if call.json:
        render.document(done)
    else:
        said = f"{payout} is {done.status}: {done.note}."
        render.line(said) if done.waits_for_second else render.did(call, said)
    if done.waits_for_second:
        raise typer.Exit(5)


@commands.writes()
def returned(
    call: CommandContext,
    payout: PayoutId,
    receipt: Annotated[
        str, typer.Option("--receipt", metavar="R", help="M-Pesa's proof of what came back.", show_default=False)
    ],
) -> None:
    """Say that the money of a completed payout came back.

    It stands in the user's wallet then. A statement says this by itself: kasoko
    reconcile --statement FILE. Send it again with kasoko payout again, or leave
    it with kasoko payout to-wallet.

    Example: kasoko payout returned rain.1.7 --receipt UKP0A1B2C3 --reason 'the
    number was given up'

    Example: kasoko payout returned rain.1.8 --receipt UKP0A1B2C4 --reason
    reversed --yes

    Exit status: 0 it is returned, 4 no such payout, 5 it is not completed, or no
    reason was given.
    """
    from kasoko_cli.operations.payouts.returns import came_back

    if not render.confirm(call, f"Write down that the money of {payout} came back?"):
        raise typer.Exit(1)
    container = call.container
    is_new = came_back(call.context, payout_id=payout, receipt=receipt, caution=container.caution)
    if call.json:
        render.document({"payout": payout, "status": "RETURNED", "changed": is_new})
        return
    render.did(call, f"{payout} is RETURNED{'' if is_new else ' already'}; its money stands in the wallet.")
    render.talk(call, f"Send it again: kasoko payout again {payout}")


@commands.writes()
def again(call: CommandContext, payout: PayoutId) -> None:
    """Make a payout due again whose money came back.

    It goes under a new id. Until it has arrived the user cannot spend it.

    Example: kasoko payout again rain.1.7 --reason 'the user gave another number'

    Example: kasoko payout again rain.1.7 --reason 'asked for it' --yes

    Exit status: 0 it is due, 4 no such payout, 5 its money did not come back, or
    the user has spent it.
    """
    from kasoko_cli.operations.payouts.returns import send_again

    if not render.confirm(call, f"Make {payout} due again?"):
        raise typer.Exit(1)
    container = call.container
    send_again(call.context, payout_id=payout, caution=container.caution)
    _tell_moved(call, payout, "PENDING")
    render.talk(call, f"Send it: kasoko payout --only {payout}")


@verbs.writes("retry-failed", panel=ROAD)
def retry_failed(
    call: CommandContext,
    hours: Annotated[int, typer.Option("--hours", metavar="N", min=1, help="Failed within so many hours.")] = 24,
    market: Annotated[str | None, typer.Option("--market", metavar="MARKET", help="Only of this market.")] = None,
    listen: Listen = False,
    listen_seconds: ListenSeconds = 120,
    max_seconds: MaxSeconds = None,
    events: Events = False,
) -> None:
    """Send definite failures again, where it can help.

    Safe from cron, and from two crons at once.

    Each one that is left alone is named, with the reason and what to do.

    Example: kasoko retry-failed --yes --hours 6 --max-seconds 240

    Example: kasoko retry-failed --market rain --hours 72

    Exit status: 0 all taken or nothing to do, 3 settings, 4 no such market, 5
    paused, 6 some failed again, 7 some unknown, 9 another run has this work, 10
    work is left.
    """
    retry_and_send(
        call,
        hours=hours,
        market=market,
        listen=listen,
        listen_seconds=listen_seconds,
        max_seconds=max_seconds,
        events=events,
    )


def retry_and_send(
    call: CommandContext,
    *,
    only: list[str] | None = None,
    hours: int | None = None,
    market: str | None = None,
    listen: bool = False,
    listen_seconds: int = 120,
    max_seconds: int | None = None,
    events: bool = False,
) -> None:
    """Make failures due again and send exactly those."""
    from kasoko_cli.operations.shared.run_registry import at_work

    container = call.container
    container.config.require_daraja()
    if not render.confirm(call, "Send failed payouts again, where their failure is definite?"):
        render.talk(call, "Nothing was sent.")
        raise typer.Exit(1)
    command = "payout retry" if only else "retry-failed"
    with at_work(
        container.db, container.clock, container.new_id, call.act, command=command, market=market, alone=not only
    ) as work:
        _retry_and_send(
            call,
            work,
            only=only or [],
            hours=hours,
            market=market,
            listen=listen,
            listen_seconds=listen_seconds,
            max_seconds=max_seconds,
            events=events,
        )


def _retry_and_send(
    call: CommandContext,
    work: AtWork,
    *,
    only: list[str],
    hours: int | None,
    market: str | None,
    listen: bool,
    listen_seconds: int,
    max_seconds: int | None,
    events: bool,
) -> None:
    from kasoko_cli.cli.output.progress import Events as Telling
    from kasoko_cli.errors import Refused
    from kasoko_cli.operations.payouts import sending
    from kasoko_cli.operations.payouts.retry import retry as operation

    container = call.container
    sending.check_ready(call.context, container.daraja)
    report = operation(
        call.context,
        caution=container.caution,
        only=only,
        market=market,
        hours=hours,
    )
    telling = Telling(container.clock, on=events)
    for one in report.left:
        telling("left_alone", one)
        render.talk(call, f"{one.payout_id} is left alone: {one.why}. {one.hint}")
    if not report.retried:
        if only:
            first = report.left[0]
            raise Refused(f"{first.payout_id} was not sent again: {first.why}.", hint=first.hint)
        if call.json or events:
            telling.answer({"run": None, "payouts": [], "retried": report, "next": None, "exit_code": 0})
        else:
            render.talk(call, "Nothing to send again.")
        return
    send_payouts(
        call,
        market=None,
        asked=True,
        only=report.retried,
        listen=listen,
        listen_seconds=listen_seconds,
        max_seconds=max_seconds,
        retried=report,
        events=events,
        work=work,
    )


@verbs.writes(panel=ROAD)
def pause(call: CommandContext) -> None:
    """Stop all sending, on every host, until kasoko resume.

    Example: kasoko pause --reason 'the float is being moved'

    Example: kasoko pause --reason 'audit found something' --actor wanjiku

    Exit status: 0 paused, 5 no reason was given.
    """
    from kasoko_cli.operations.payouts import switches

    switches.pause(call.context)
    if call.json:
        render.document({"paused": True})
    else:
        render.did(call, "Sending is paused on every host. What was sent goes on to its result.")


@verbs.writes(panel=ROAD)
def resume(call: CommandContext) -> None:
    """Let sending go on after a pause or a refused account.

    Example: kasoko resume

    Example: kasoko resume --reason 'the float is there again'

    Exit status: 0 sending goes on.
    """
    from kasoko_cli.operations.payouts import switches

    were_on = switches.resume(call.context)
    if call.json:
        render.document({"resumed": were_on})
    else:
        render.did(call, f"Sending goes on; off now: {', '.join(were_on)}." if were_on else "Nothing was paused.")
