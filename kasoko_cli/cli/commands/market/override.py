"""`kasoko resolve --override`: shown first, done by one person or by two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kasoko_cli.cli.options import WrongUsage
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of, parse_weight

if TYPE_CHECKING:
    from kasoko_cli.cli.command import CommandContext
    from kasoko_cli.operations.settlement.correction import Override


@dataclass(frozen=True, kw_only=True)
class OutcomeOptions:
    """What a market's outcome shall be, as it was typed, and how that is to happen."""

    market: str
    winners: Sequence[str]
    weights: Sequence[str]
    withdrawn: Sequence[str]
    #: Only of a market that has an outcome: call it off after all; show it; the plan that was read; who signs.
    void: bool = False
    plan: bool = False
    confirm: str | None = None
    sign_with: Path | None = None

    def named(self) -> dict[str, Any]:
        """The words about the outcome, as operations take them.

        Raises:
            Refused: a weight is no outcome and its part.
        """
        weights = [parse_weight(text) for text in self.weights]
        return {"winners": self.winners, "weights": weights, "withdrawn": self.withdrawn}


def override(call: CommandContext, given: OutcomeOptions) -> None:
    """Show what another outcome changes, ask, and do it or propose it; exits with 10 where somebody has to confirm."""
    from kasoko_cli.operations.approvals.second_person import HASH_DIGITS, WAITS
    from kasoko_cli.operations.records.markets import Named, read_resolution
    from kasoko_cli.operations.settlement import correction as operation

    if given.void and (given.winners or given.weights or given.withdrawn):
        raise WrongUsage("--void names no outcome.")
    container = call.container
    resolution = read_resolution(container.db, market=given.market, named=Named(**given.named()), void=given.void)
    policy = operation.OverridePolicy(container.limits, container.duties, container.terms, container.caution)
    planned = operation.plan_override(
        container.db, policy, market=given.market, resolution=resolution, clock=container.clock
    )
    if given.plan:
        _show(call, planned, document={"plan": planned})
        render.talk(call, "Nothing was written.")
        return
    if not (call.json or render.unattended(call)):
        _show(call, planned, document=planned)
    call = call.with_reason()
    question = f"Give {planned.slug} the outcome {planned.becomes} instead of {planned.was}?"
    render.confirm_or_leave(call, question, otherwise="Nothing was changed.")
    done = operation.override(
        call.signed(given.sign_with), policy, market=given.market, resolution=resolution, confirm=given.confirm
    )
    if call.json:
        render.document(done)
    elif done.waits_for_second:
        render.line(f"{done.slug} keeps the outcome {done.was} until a second person confirms this plan.")
        if done.note != WAITS:
            render.talk(call, f"{done.note[:1].upper()}{done.note[1:]}.")
        render.hint(
            call,
            f"Somebody else, who has read it: the same command with --confirm {done.plan_hash[:HASH_DIGITS]}",
        )
    else:
        render.did(call, f"{done.slug} has the outcome {done.becomes}, and not {done.was}.")
        _tell_next(call, done)
    if done.waits_for_second:
        raise typer.Exit(10)


def _tell_next(call: CommandContext, done: Override) -> None:
    if done.way == "correction":
        render.talk(call, f"Send the new payouts: kasoko payout {done.slug}")
        if done.overpaid_cents > 0:
            render.talk(call, "What is owed back: kasoko wallet recover, or kasoko wallet write-off")
    else:
        render.talk(call, f"Divide the pool by it: kasoko settle {done.slug}")


_WAYS = {
    "resolution": "nothing was settled: only the outcome changes",
    "reversal": "nothing was sent: the settlement is taken back exactly, and made anew",
    "correction": "money has left: only the differences are booked",
}


def _show(call: CommandContext, found: Override, *, document: object) -> None:
    gains = [one for one in found.users if one.after_cents > one.before_cents]
    pairs: list[tuple[str, object]] = [
        ("outcome", f"{found.becomes}, and not {found.was}"),
        ("how", _WAYS[found.way]),
        ("canceled", count_of(len(found.canceled), "payout")),
        ("gain", f"{count_of(len(gains), 'user')}, {amount_of(found.gained_cents)}"),
        ("owed back", amount_of(found.overpaid_cents)),
        ("costs the house", f"{amount_of(found.house_cents)}, if nothing is given back"),
        ("plan", found.plan_hash[:16]),
    ]
    render.card(call, f"{found.slug}, overridden", pairs, document=document)
    if call.json or not found.users:
        return
    columns = render.columns("user", ">had", ">has", ">canceled", ">new", ">owes back")
    rows = [
        (it.user_id, it.before_cents, it.after_cents, it.canceled_cents, it.new_cents, it.overpaid_cents)
        for it in found.users
    ]
    render.table(call, "Who it changes", columns, [(user, *map(render.kes, cents)) for user, *cents in rows])
