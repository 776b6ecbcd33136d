"""Payouts, listed and one by one."""

from __future__ import annotations

from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.options import Limit, MaybeMarketId, PayoutId, WrongUsage, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.payout_tables import show_items, show_story

verbs = Commands()


#: How many payouts a terminal is shown unless it asks for more.
SCREENFUL = 100


@verbs.reads("list")
def list_(
    call: CommandContext,
    market: MaybeMarketId = None,
    status: Annotated[
        list[str] | None,
        option("--status", "STATE", "Only those, like FAILED; may be repeated.", autocompletion=completion.states),
    ] = None,
    user: Annotated[str | None, option("--user", "USER", "Only of this user.")] = None,
    code: Annotated[str | None, option("--code", "CODE", "Only failed with this code.")] = None,
    receipt: Annotated[str | None, option("--receipt", "R", "The one with this receipt.")] = None,
    after: Annotated[str | None, option("--after", "PAYOUT", "Only those after this one: the next page.")] = None,
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
        status_views.PayoutFilter(
            market,
            [PayoutStatus(one) for one in wanted],
            user,
            code,
            receipt,
            None if after is None else call.payout_id(after),
        ),
        limit=limit,
    )
    show_items(call, "Payouts", page.items, total=page.total)
    if page.total > len(page.items):
        last = page.items[-1].id
        render.talk(call, f"{len(page.items):,} of {page.total:,}. The next: the same with --after {last}")


@verbs.reads()
def show(call: CommandContext, payout: PayoutId) -> None:
    """Show one payout's story: its attempts, results and entries.

    Example: kasoko payout show rain.1.7

    Example: kasoko payout show rain.1.7 --json

    Exit status: 0 shown, 4 no such payout.
    """
    from kasoko_cli.operations.reporting import status_views

    show_story(call, status_views.story(call.container.db, call.payout_id(payout)))
