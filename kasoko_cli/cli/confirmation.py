"""Before money leaves: what a run would do, the float, and the questions that have to be answered first."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import typer

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.float_gate import pass_float
from kasoko_cli.cli.options import ExpectTotal, MaxTotal, PlanHash, WrongUsage
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of, local
from kasoko_cli.errors import Refused

if TYPE_CHECKING:
    from kasoko_cli.operations.payouts.float_check import Gate
    from kasoko_cli.operations.payouts.plan import Planned
    from kasoko_cli.operations.payouts.planned_move import PayoutFacts
    from kasoko_cli.operations.payouts.retry import FailedPayout
    from kasoko_cli.operations.payouts.spending_bound import Bound, Seal
    from kasoko_cli.operations.settlement.approval import ToRelease
    from kasoko_cli.operations.shared.context import OperationContext

#: How many rows of a plan are shown to a person; the document has all.
SHOWN_ROWS = 20


class Bounds(NamedTuple):
    """What a caller who is not asked says about the run beforehand."""

    expect_total: ExpectTotal = None
    max_total: MaxTotal = None
    plan_hash: PlanHash = None

    def __bool__(self) -> bool:
        return any((self.expect_total, self.max_total, self.plan_hash))


#: Nothing is said beforehand.
UNBOUNDED = Bounds()


@dataclass(frozen=True, kw_only=True)
class SendOptions:
    """Which payouts a command sends, how long it stays, and what is said of the sum beforehand."""

    market: str | None = None
    only: Sequence[str] = ()
    limit: int | None = None
    #: Stay for those that are due later.
    wait: bool = False
    listen: bool = False
    listen_seconds: int = 120
    max_seconds: int | None = None
    bounds: Bounds = UNBOUNDED
    #: Somebody has said yes already.
    asked: bool = False
    #: Send what is due now and nothing else, also where nobody is asked.
    bind: bool = False
    #: Tell each thing as it happens, as JSON Lines.
    events: bool = False


def look_and_ask(
    call: CommandContext,
    options: SendOptions,
    *,
    question: str = "Send {}, to phones by M-Pesa?",
    seal: Seal | None = None,
) -> tuple[Gate, Bound | None]:
    """Hold the run against its bounds and the float, tell what is to be known, and ask.

    Returns what the run needs, and what it is bound to; None where nobody was shown a sum: then it sends what is due.
    Whoever names a bound or payouts, or is asked, says yes to what stands there now: the run is bound to it. So is
    one that must be (`bind`). With `wait`, what is due later counts too.

    Raises:
        NotFound: there is no such market or payout.
        Refused: the sum or the plan is another one, or the float does not cover it.
        typer.Exit: the operator said no.
    """
    from kasoko_cli.operations.payouts import float_check
    from kasoko_cli.operations.payouts.run import Selection
    from kasoko_cli.operations.payouts.spending_bound import show

    container, bounds, bound = call.container, options.bounds, None
    selection = Selection(options.market, options.only, options.limit)
    if bounds.plan_hash is not None:
        check_hash_is_whole(bounds.plan_hash)
    if bounds or options.only or options.bind or not (options.asked or call.yes):
        bound = show(
            container.db,
            container.clock(),
            selection,
            later=options.wait and bounds.plan_hash is None,
            smallest_first=container.config.payout.smallest_first,
            seal=seal,
        )
        _check_hash(bounds.plan_hash, bound)

    def look() -> Gate:
        return float_check.look(container.db, container.clock, container.gate_policy, selection, bound=bound)

    found = look()
    _check_totals(bounds, found.wire_cents)
    container.config.require_daraja()
    if not found.payments:
        _tell_of_approval(call, options.market)
        return found, bound
    if not options.asked:  # else it was looked at before they said yes, and payouts were made due for it
        found = pass_float(call, found, look, listen=options.listen, max_seconds=options.max_seconds)
    if found.warning and not call.json:  # a program that reads stderr shall find one document there
        render.warn(call, found.warning)
    large = container.config.daraja.production and found.wire_cents > container.config.payout.confirm_slug_above_cents
    sum_of = f"{count_of(found.payments, 'payout')}, {amount_of(found.wire_cents)}"
    if large and not options.asked:
        _confirm_large(call, found, question.format(f"{sum_of}, real money"), options.market, bounds)
    elif not (options.asked or render.confirm(call, question.format(sum_of))):
        render.talk(call, "Nothing was sent.")
        raise typer.Exit(1)
    return found, bound


def _tell_of_approval(call: CommandContext, market: str | None) -> None:
    """Why nothing is due, where it is a second person who has to act."""
    from kasoko_cli.operations.settlement import approval

    count, cents = approval.waiting(call.container.db, market=market)
    if count:
        render.hint(
            call,
            f"Waiting for a second person: {count_of(count, 'payout')}, {amount_of(cents)}."
            f" Release it: kasoko approve {market or 'MARKET'}",
        )


def _confirm_large(call: CommandContext, found: Gate, question: str, market: str | None, bounds: Bounds) -> None:
    """A sum that is typed for: a yes from habit is not enough, and a script has to know the sum."""
    from kasoko_cli.domain.money import plain_kes

    if call.yes and bounds:
        return
    if not render.is_somebody_here():
        above = amount_of(call.container.config.payout.confirm_slug_above_cents)
        raise Refused(
            f"{amount_of(found.wire_cents)} is due, more than {above} (payout.confirm_slug_above_kes), and nobody is"
            " here to confirm it. Nothing was sent.",
            hint=f"Look: kasoko payout --plan. Then say the sum: --yes --expect-total {plain_kes(found.wire_cents)},"
            " or a bound: --yes --max-total KES",
        )
    word = market or "all"
    if not render.typed(question, word):
        look = "kasoko payout --plan" if market is None else f"kasoko payout {market} --plan"
        render.talk(call, f"That is not {word}; nothing was sent. Run it again and type {word}, or look first: {look}")
        raise typer.Exit(1)


def _check_totals(bounds: Bounds, due_cents: int) -> None:
    from kasoko_cli.domain.money import parse_kes

    expected, most = bounds.expect_total, bounds.max_total
    if expected is not None and parse_kes(expected, what="expected total") != due_cents:
        raise Refused(
            f"{amount_of(due_cents)} is due, and not KES {expected}; nothing was sent.",
            hint="See what is due: kasoko payout --plan",
        )
    if most is not None and parse_kes(most, what="largest total") < due_cents:
        raise Refused(
            f"{amount_of(due_cents)} is due, more than the KES {most} that --max-total allows; nothing was sent.",
            hint="See what is due: kasoko payout --plan. Then send it by hand, or raise the bound.",
        )


def _check_hash(wanted: str | None, bound: Bound) -> None:
    found = bound.plan_hash
    if wanted is not None and not found.startswith(wanted.lower()):
        raise Refused(
            f"What is due is not what the plan {wanted} showed: it is the plan {found[:16]} now. Nothing was sent.",
            hint="A payout, an amount or a phone changed. Look again: kasoko payout --plan",
        )


def check_hash_is_whole(wanted: str) -> None:
    """Refuse a hash so short that another plan could have it too.

    Raises:
        WrongUsage: it is not 16 to 64 hex digits.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{16,64}", wanted):
        raise WrongUsage("--plan-hash takes the 16 hex digits that the plan shows, or all 64 of its --json.")


def show_plan(call: CommandContext, options: SendOptions) -> None:
    """`kasoko payout --plan`: totals, who gets what, what stands in the way. Writes and sends nothing."""
    from kasoko_cli.operations.payouts import plan
    from kasoko_cli.operations.payouts.run import Selection

    container, settings = call.container, call.container.config.payout
    found = plan.plan(
        container.db,
        container.clock,
        container.gate_policy,
        settings.daily_cents,
        Selection(options.market, options.only, options.limit),
        smallest_first=settings.smallest_first,
    )
    if call.json:
        render.document(found)
        return
    pairs: list[tuple[str, object]] = [
        ("due now", f"{count_of(found.payouts, 'payout')}, {amount_of(found.wire_cents)} to phones"),
        ("receivers", f"{found.receivers:,}, {found.several_legs:,} of them in several legs"),
    ]
    for name, part in (
        ("put off to tomorrow", found.tomorrow),
        ("held by incidents", found.in_doubt),
        ("held", found.held),
        ("await approval", found.awaiting_approval),
    ):
        if part.payouts:
            pairs.append((name, f"{count_of(part.payouts, 'payout')}, {amount_of(part.wire_cents)}"))
    pairs += [("due later", found.later), ("next due", None if found.next_at is None else local(found.next_at))]
    pairs += gate_lines(found.float)
    pairs.append(("plan", found.plan_hash[:16]))
    render.card(call, f"A run for {options.market or 'all markets'}", pairs)
    if found.items:
        would = [(one, one.would) for one in found.items]
        show_receivers(call, "Who would be sent what", "would", would, everything="kasoko payout --plan --json")
    for warning in found.warnings:
        tell_warning(call, warning, found.float)
    render.talk(call, "Nothing was written or sent.")


def may_be_done(
    call: CommandContext,
    payout: str,
    act: Callable[[OperationContext], object],
    *,
    question: str,
    plan: bool,
    context: OperationContext | None = None,
) -> bool:
    """Show a payout and ask before `act` is done to it; False where it was only to be shown (`plan`).

    `question` has a place for the payout: `Credit {} to the wallet?`. What would refuse `act` refuses it here.

    Raises:
        typer.Exit: the operator said no.
    """
    from kasoko_cli.operations.payouts.planned_move import plan_move

    if call.yes and not plan:
        return True
    planned = plan_move(context or call.context, payout, act)
    one = planned.payout
    owed = amount_of(one.amount_cents)
    if one.wire_cents != one.amount_cents:
        owed += f" owed, {amount_of(one.wire_cents)} of it to the phone"
    told = f"{payout} ({owed}, {one.user_id}, {one.phone}, {planned.status})"
    if not plan:
        render.confirm_or_leave(call, question.format(told), otherwise="Nothing was changed.")
        return True
    becomes = "would stay so" if planned.becomes == planned.status else f"would be {planned.becomes}"
    render.planned(call, planned, f"{told} {becomes}.")
    return False


def show_receivers(
    call: CommandContext,
    title: str,
    last: str,
    items: Sequence[tuple[Planned | ToRelease | FailedPayout | PayoutFacts, object]],
    *,
    everything: str,
) -> None:
    """The first payouts of a plan, each with what stands in the `last` column; and the command that shows all."""
    columns = render.columns("payout", "user", "phone", "kind", ">KES", ">to phone", last)
    rows = [
        (it.payout_id, it.user_id, it.phone, it.kind, render.kes(it.amount_cents), render.kes(it.wire_cents), value)
        for it, value in items[:SHOWN_ROWS]
    ]
    render.table(call, title, columns, rows)
    tell_cut(call, len(items), everything)


def tell_cut(call: CommandContext, rows: int, command: str) -> None:
    """Say that a list was cut, and where the rest of it is."""
    if rows > SHOWN_ROWS:
        render.talk(call, f"... and {rows - SHOWN_ROWS:,} more. All of them: {command}")


def tell_warning(call: CommandContext, warning: str, gate: Gate) -> None:
    """A warning of a plan; a shortfall in red."""
    if gate.shortfall_cents and warning == gate.warning:
        render.alarm(warning)
    else:
        render.warn(call, warning)


def gate_lines(gate: Gate) -> list[tuple[str, object]]:
    """What a run needs, and what there is for it, as lines of a card."""
    known = "not known" if gate.float_cents is None else f"{amount_of(gate.float_cents)} to count on"
    lines: list[tuple[str, object]] = [
        ("charges", f"{amount_of(gate.charges_cents)} by the tariff of {gate.tariff_valid_from}"),
        ("needs", amount_of(gate.needed_cents)),
        ("float", known),
    ]
    if gate.in_flight_cents:
        lines.append(("in flight", amount_of(gate.in_flight_cents)))
    if gate.shortfall_cents:
        lines.append(("short by", amount_of(gate.shortfall_cents)))
    return lines
