"""`kasoko payout decide --all-unknown-between`: one word on every payout that an outage left unknown."""

from __future__ import annotations

from pathlib import Path

import typer

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.confirmation import SHOWN_ROWS
from kasoko_cli.cli.options import WrongUsage
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of, local
from kasoko_cli.domain.time_text import parse_time
from kasoko_cli.errors import KasokoError
from kasoko_cli.operations.approvals.second_person import HASH_DIGITS
from kasoko_cli.operations.payouts import bulk_decision as operation
from kasoko_cli.operations.payouts.bulk_decision import LeftUnknown, SentSpan, UnknownList


def give(
    call: CommandContext, between: tuple[str, str], evidence: str, sign_with: Path | None, *, plan: bool = False
) -> None:
    """Show how many and how much, ask, and decide exactly that; with `plan` only show. 10 is a first word."""
    container, span = call.container, _span(between)
    found = operation.look(container.db, container.clock, span, container.caution)
    if plan and call.json:
        render.document({"plan": found})
    elif plan or not (call.json or render.unattended(call)):
        _show(call, found)
    if plan:
        render.talk(
            call, f"{count_of(len(found.items), 'payout')}, {amount_of(found.wire_cents)}. Nothing was written."
        )
        return
    sum_of = f"{count_of(len(found.items), 'payout')}, {amount_of(found.wire_cents)}"
    if found.items:
        question = f"Write down that {sum_of} sent then, were not paid?"
        render.confirm_or_leave(call, question, otherwise="Nothing was changed.")
    done = operation.decide_all(
        call.signed(sign_with),
        operation.BulkDecision(span, found.list_hash, evidence),
        two_people=container.config.payout.decide_needs_two,
        terms=container.terms,
        caution=container.caution,
    )
    if call.json:
        render.document(done)
    elif done.waits_for_second:
        render.line(f"{sum_of} of the list {done.list_hash[:HASH_DIGITS]} stay unknown: {done.note}.")
    else:
        render.did(call, f"{sum_of}: FAILED, {done.note}.")
        _tell_left(call, done.left)
        render.talk(call, "Send them again: kasoko retry-failed")
    if done.waits_for_second:
        raise typer.Exit(10)
    if done.left:
        raise typer.Exit(7)


def _span(between: tuple[str, str]) -> SentSpan:
    try:
        first, last = map(parse_time, between)
    except KasokoError as error:
        raise WrongUsage(f"--all-unknown-between: {error.message}") from None
    if last < first:
        raise WrongUsage("--all-unknown-between takes the earlier time first.")
    return SentSpan(first, last)


def _show(call: CommandContext, found: UnknownList) -> None:
    columns = render.columns("payout", "sent", ">KES", "M-Pesa had taken it")
    rows = [
        (one.payout_id, local(one.sent_at), render.kes(one.wire_cents), "yes" if one.is_acknowledged else "no")
        for one in found.items[:SHOWN_ROWS]
    ]
    render.table(call, "Unknown", columns, rows)
    if len(found.items) > SHOWN_ROWS:
        render.talk(call, f"{SHOWN_ROWS} of {len(found.items):,} are shown: kasoko payout list --status UNKNOWN")
    _tell_left(call, found.left)


def _tell_left(call: CommandContext, left: list[LeftUnknown]) -> None:
    for one in left:
        render.talk(call, f"{one.payout_id} is left unknown: {one.why}. {one.hint}")
