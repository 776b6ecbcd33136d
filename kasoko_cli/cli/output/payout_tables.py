"""How payouts and incidents are shown, wherever a command shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, local, nairobi_clock, utc_clock

if TYPE_CHECKING:
    from kasoko_cli.operations.reporting.status_views import Item, Story
    from kasoko_cli.operations.shared.overview import Concern


def show_items(call: CommandContext, title: str, items: list[Item], *, total: int | None = None) -> None:
    """A table of payouts, one row each."""
    columns = render.columns("payout", "user", "phone", "kind", ">KES", ">to phone", "status", "receipt or reason")
    rows = [
        (
            item.id,
            item.user,
            item.phone,
            item.kind,
            render.kes(item.amount_cents),
            render.kes(item.wire_cents),
            item.status,
            item.receipt or (f"{item.failure_code} {item.failure_reason or ''}".strip() if item.failure_code else None),
        )
        for item in items
    ]
    render.table(
        call, title, columns, rows, document={"items": items} if total is None else {"items": items, "total": total}
    )


def show_story(call: CommandContext, found: Story) -> None:
    """One payout's whole story: what it is, what to do, and all that happened, by Nairobi's and by UTC's clock."""
    if call.json:
        render.document(found)
        return
    item = found.payout
    pairs: list[tuple[str, object]] = [
        ("payout", item.id),
        ("market", found.slug),
        ("user", f"{item.user}, {item.phone}"),
        ("owed", f"{amount_of(item.amount_cents)} ({item.kind}, leg {item.leg})"),
        ("to the phone", amount_of(item.wire_cents)),
        ("status", item.status),
        ("receipt", item.receipt),
    ]
    if item.not_before is not None:
        pairs.append(("not before", local(item.not_before)))
    if item.failure_code is not None:
        pairs.append(("failure", f"{item.failure_code} {item.failure_reason or ''}"))
    pairs += [
        (name, text) for name, text in (("means", found.meaning), ("do", found.advice), ("note", found.note)) if text
    ]
    render.card(call, f"Payout {item.id}", pairs, document=found)
    columns = render.columns("EAT", "UTC", "what happened")
    rows = [(nairobi_clock(moment.at), utc_clock(moment.at), moment.what) for moment in found.moments]
    render.table(call, "What happened", columns, rows, document=found)
    if found.entries or not render.is_on_a_terminal():
        render.table(call, "In the books, in cents", render.columns("entry"), [(entry,) for entry in found.entries])
    if found.payout.status in ("COMPLETED", "WALLET", "PENDING"):
        render.talk(call, f"How the amount came about: kasoko explain {item.id}")
    if item.failure_code is not None:
        render.talk(call, f"What the code means: kasoko explain {item.failure_code}")
    show_concerns(call, found.incidents, inside=True)


def show_concerns(call: CommandContext, concerns: list[Concern], *, inside: bool = False) -> None:
    """A warning for each incident that nobody has closed."""
    for one in concerns:
        see = f" Look: kasoko payout show {one.payout_id}." if one.payout_id and not inside else ""
        done = f" When it is dealt with: kasoko incident close {one.id} --reason WHY"
        render.warn(call, f"Incident {one.id}: {one.story}{see}{done}")


def tell_moved(call: CommandContext, payout: str, status: str) -> None:
    """Where one payout stands after what was done to it."""
    render.answer(call, {"payout": payout, "status": status}, f"{payout} is {status}.")
