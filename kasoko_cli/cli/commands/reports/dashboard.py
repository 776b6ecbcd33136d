"""`status --watch`: everything at once, drawn anew every few seconds, until Ctrl-C.

Only the colours of the terminal's own palette are used, so it reads on light and on dark ground alike, and
each colour stands beside a word that says the same.
"""

from __future__ import annotations

import sys

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.progress import duration
from kasoko_cli.cli.parsing import count_of, nairobi_clock
from kasoko_cli.cli.signals import stopping
from kasoko_cli.operations.reporting.dashboard import Board, read_board
from kasoko_cli.operations.shared.overview import Groups, is_dead

#: How many markets and incidents the board shows at most; the rest are counted.
MOST_MARKETS, MOST_INCIDENTS = 10, 3
#: From so many columns on there is room for every sum of money.
WIDE = 100


def watch(call: CommandContext, every_seconds: int) -> None:
    """Draw the board until somebody stops it; off a terminal once, as rows."""
    container = call.container
    if call.json or not render.is_on_a_terminal():
        _snapshot(call, read_board(container.db, container.clock, container.tariff))
        return
    screen = render.console(sys.stdout)
    with stopping() as stopper, Live(console=screen, screen=True, auto_refresh=False, transient=True) as live:
        while not stopper.is_set():
            found = read_board(container.db, container.clock, container.tariff)
            live.update(drawn(found, every_seconds, *screen.size), refresh=True)
            stopper.wait(every_seconds)


def _snapshot(call: CommandContext, board: Board) -> None:
    """The same once, for a pipe: one fact on each line."""
    found = board.overview
    pairs: list[tuple[str, object]] = [(name, text) for name, text, _ in _facts(board)]
    for name, groups in [*((f"market {one.slug}", one.payouts) for one in found.markets), ("all", found.payouts)]:
        pairs.append((name, _in_words(groups)))
    render.card(call, "Status", pairs, document=board)


def _in_words(groups: Groups) -> str:
    parts = (("pending", groups.pending), ("completed", groups.completed), ("failed", groups.failed))
    return ", ".join(f"{one.count:,} {name} KES {render.kes(one.amount_cents)}" for name, one in parts)


def drawn(board: Board, every_seconds: int, width: int, height: int) -> RenderableType:
    """The board as a terminal of this size shows it."""
    head = Text.assemble(
        ("kasoko", "bold"),
        f"  {nairobi_clock(board.at)} EAT",
        (f"  every {every_seconds} s, Ctrl-C ends it", "dim"),
    )
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text, style in _facts(board):
        facts.add_row(name, Text(render.clean(text), style=style))
    for one in board.overview.incidents[:MOST_INCIDENTS]:
        facts.add_row(
            f"  no. {one.id}", Text(render.clean(one.what), style=render.BAD, overflow="ellipsis", no_wrap=True)
        )
    money = Table(box=None, pad_edge=False, header_style="dim", title="Money by state", title_justify="left")
    for name, justify in (("state", "left"), ("payouts", "right"), ("KES", "right")):
        money.add_column(name, justify=justify)  # type: ignore[arg-type] # one of the words that Rich knows
    for state, amount in board.overview.by_status.items():
        word = Text(state, style=render.colour_of(state))
        money.add_row(word, f"{amount.count:,}", render.kes(amount.amount_cents))
    room = max(2, min(MOST_MARKETS, height - 14 - facts.row_count - money.row_count))
    return Group(head, "", facts, "", money, "", _markets(board, room, width))


def _markets(board: Board, room: int, width: int) -> RenderableType:
    found = board.overview.markets
    shown = sorted(found, key=lambda one: not one.payouts.pending.count)[:room]
    # On a narrow terminal the money that waits is shown, and of what has ended how many.
    with_money = ("pending", "completed", "failed") if width >= WIDE else ("pending",)
    names, rows = ["status"], []
    for group in ("pending", "completed", "failed"):
        names += [group, "KES"] if group in with_money else [group]
    for one in shown:
        cells = ["settled" if one.settled else one.status.lower()]
        for group in ("pending", "completed", "failed"):
            amount = getattr(one.payouts, group)
            cells.append(f"{amount.count:,}")
            if group in with_money:
                cells.append(f"{amount.amount_cents // 100:,}")
        rows.append(cells)
    table = Table(box=None, pad_edge=False, header_style="dim", title="Markets", title_justify="left", expand=True)
    table.add_column("market", overflow="ellipsis", no_wrap=True, ratio=1)
    for place, name in enumerate(names):
        most = max([len(name), *(len(row[place]) for row in rows)])
        table.add_column(name, justify="right" if place else "left", no_wrap=True, min_width=most)
    for one, cells in zip(shown, rows, strict=True):
        table.add_row(Text(render.clean(one.slug)), *cells)
    if len(found) > len(shown):
        table.caption = f"and {len(found) - len(shown):,} more: kasoko status"
        table.caption_justify = "left"
    return table


def _facts(board: Board) -> list[tuple[str, str, str]]:
    """What is to be known besides the money: name, text, colour."""
    found = board.overview
    facts = [
        ("sending", f"STOPPED: {switch.name} by {switch.actor}, {switch.reason}", "bold red")
        for switch in found.switches
    ] or [("sending", "allowed", "")]
    oldest = board.oldest_unknown
    unknown = found.by_status.get("UNKNOWN")
    if oldest is None or unknown is None:
        facts.append(("unknown", "none", ""))
    else:
        age = duration(oldest.age_seconds)
        text = f"{unknown.count:,}, KES {render.kes(unknown.amount_cents)}; the oldest {oldest.payout_id}, {age}"
        facts.append(("unknown", text, render.DOUBT))
    if board.heard_seconds is None:
        facts.append(("listener", "never heard from M-Pesa", render.DOUBT))
    else:
        heard = f"heard from M-Pesa {duration(board.heard_seconds)} ago"
        waits = f"; not applied yet: {count_of(found.callbacks_waiting, 'result')}" if found.callbacks_waiting else ""
        facts.append(("listener", heard + waits, render.DOUBT if waits else ""))
    facts.append(("float", *_float(board)))
    slugs = {market.id: market.slug for market in found.markets}
    for run in found.runs:
        dead = is_dead(run, board.at)
        counts = ", ".join(f"{number:,} {word}" for word, number in run.counts.items())
        since = duration((board.at - run.started_at).total_seconds())
        place = f"{run.command} {slugs.get(run.market or '', run.market or 'all')} on {run.host}, {since}"
        says = f"{place}, {run.doing}{': ' + counts if counts else ''}{'; not heard of, perhaps dead' if dead else ''}"
        facts.append(("at work", says, render.DOUBT if dead else render.UNDER_WAY))
    if not found.runs:
        facts.append(("at work", "no run", ""))
    count = len(found.incidents)
    facts.append(("incidents", f"{count:,} open" if count else "none", render.BAD if count else ""))
    return facts


def _float(board: Board) -> tuple[str, str]:
    """What the utility account holds, as far as that is known, and the colour of it."""
    found = board.float
    if found.reading is None:
        return "not known: no balance of M-Pesa was ever read; kasoko float", render.DOUBT
    said = f"KES {render.kes(found.reading.utility_cents)}, {duration(found.reading.age_seconds)} ago"
    if found.available_cents is None:
        return f"{said}; what of it can be counted on now is not known", render.DOUBT
    return f"KES {render.kes(found.available_cents)} to count on; M-Pesa said {said}", ""
