"""How a run of sending is told: what it did, what needs a look, and the next thing to type."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import typer

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.output import cron_mail, render
from kasoko_cli.cli.output.progress import Events
from kasoko_cli.cli.parsing import count_of, local
from kasoko_cli.operations.payouts.retry import Retried
from kasoko_cli.operations.payouts.run import Run, Stop
from kasoko_cli.operations.payouts.run_report import count_ends
from kasoko_cli.operations.payouts.send_and_wait import RunOutcome

#: How many payouts that have changed are named; the JSON has all.
MOST_CHANGED = 20
_STOPPED = {
    "changed": "another account pays now",
    "limit": "as many as --limit says",
    "bound": "this run was bound to what was shown",
    "time": "as long as --max-seconds says",
    "interrupted": "interrupted; everything is recorded",
    "account": "nothing more was sent",
    "unreachable": "M-Pesa cannot be reached; no money moved for these",
    "unknown": "several in a row brought no clear answer, as in an outage; what was not sent is still due",
    "paused": "sending was paused",
}


def tell_run(
    call: CommandContext, found: RunOutcome, retried: Retried | None, events: Events, *, waited: int | None = None
) -> None:
    """Say what the run did, name each payout that needs a look, and exit with the code.

    `waited` is how many seconds results were waited for; None where nobody took them in here.
    """
    if call.json or events.on:
        events.answer(
            {
                "run": found.run,
                "payouts": found.ends,
                "retried": retried,
                "next": found.after_doubt,
                "exit_code": found.exit_code,
            }
        )
    elif render.unattended(call):
        if cron_mail.needs_somebody(found.run, found.ends):
            render.mail(cron_mail.run_mail(found.run, found.ends))
            _tell_stop(call, found, waited)
    else:
        _tell_ends(call, found)
        _tell_stop(call, found, waited)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _tell_ends(call: CommandContext, found: RunOutcome) -> None:
    """How many ended in which way, and each that did not end well."""
    columns = render.columns("became", ">payouts", ">KES to phones")
    rows = [(name, one.count, render.kes(one.amount_cents)) for name, one in count_ends(found.ends).items()]
    if rows:
        render.table(call, "This run", columns, rows)
    else:
        run = found.run
        is_idle = run.stopped is Stop.DONE and not (run.held or run.reaped or run.postponed or run.left)
        render.talk(call, "Nothing is due." if is_idle else "Nothing was sent.")
    troubled = [
        (it.payout_id, render.kes(it.wire_cents), it.status, it.why or it.code, it.not_before and local(it.not_before))
        for it in found.ends
        if it.status in ("FAILED", "PENDING", "UNKNOWN", "HELD")
    ]
    if troubled:
        columns = render.columns("payout", ">KES", "status", "why", "again")
        render.table(call, "To look at", columns, troubled)


def _tell_stop(call: CommandContext, found: RunOutcome, waited: int | None) -> None:
    """Why the run ended, what is left, and the next thing to type."""
    for said in _left_by(found.run):
        render.talk(call, said)
    states, stopped = found.states, str(found.run.stopped)
    if "SENT" in states:
        render.talk(call, _who_takes_results(call, found, waited))
    if found.after_doubt is not None:
        render.hint(call, found.after_doubt)
        return
    if stopped == "account":
        render.hint(call, "Mend the account, then: kasoko resume, and kasoko retry-failed, and kasoko payout")
    elif "FAILED" in states:
        render.hint(call, "What failed, and what each needs: kasoko retry-failed")
    if "HELD" in states:
        render.hint(call, "Some were held meanwhile: kasoko payout list --status HELD")


def _who_takes_results(call: CommandContext, found: RunOutcome, waited: int | None) -> str:
    """Where the results are that have not come yet, and what to type if they do not."""
    if waited is not None:
        missing = sum(one.status == "SENT" for one in found.ends)
        return (
            f"{count_of(missing, 'result')} did not come within {waited} s, and may still come: kasoko listen takes"
            " them. Or ask M-Pesa: kasoko reconcile"
        )
    posts, ask = "M-Pesa posts their results to kasoko listen.", "If one does not come: kasoko reconcile"
    lately = timedelta(minutes=call.container.config.health.listener_minutes)
    if found.heard_at is not None and found.heard_at >= call.container.clock() - lately:
        return f"{posts} {ask}"
    heard = "yet" if found.heard_at is None else f"since {local(found.heard_at)}"
    return f"{posts} No listener has been heard from {heard}: if none runs, nobody takes them. {ask}"


def _left_by(run: Run) -> Iterator[str]:
    """Why a run ended, and what it did not send: a sentence each."""
    for payout_id in run.changed[:MOST_CHANGED]:
        yield f"{payout_id} was left: its amount or phone is another one now than was shown."
    if run.more:
        yield f"{run.more:,} more became due meanwhile, and were not shown: kasoko payout --plan"
    if why := _STOPPED.get(str(run.stopped)):
        yield f"Stopped: {why}{'. ' + run.why if run.why else '.'}"
    if run.reaped:
        yield f"{count_of(run.reaped, 'payout')} of a sender that stopped in the middle may have moved."
    if run.held:
        yield f"{count_of(run.held, 'payout')} held back, since what is known of them is in doubt."
    if run.postponed:
        yield f"{run.postponed:,} wait for tomorrow: their receivers have had the day's limit."
    if run.left:
        when = "" if run.next_at is None else f", the next at {local(run.next_at)}"
        yield f"{count_of(run.left, 'payout')} left{when}: kasoko payout"
