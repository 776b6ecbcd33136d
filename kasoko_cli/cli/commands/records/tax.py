"""Tax that is kept back of winners for the revenue authority."""

from __future__ import annotations

from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import WrongUsage, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of

commands = Commands("tax")


@commands.reads()
def show(call: CommandContext) -> None:
    """Show the duties that hold today, and what is due to the authority.

    The duties are those of payout.duties_file; without one nothing is kept back.
    What was kept back, by day and by person: kasoko report taxes.

    Example: kasoko tax show

    Example: kasoko tax show --json

    Exit status: 0 shown, 3 the file of duties cannot be read.
    """
    from kasoko_cli.cli.output.explanation_text import percent_of
    from kasoko_cli.operations.reporting import taxes
    from kasoko_cli.operations.settlement.settle import duties_on

    container = call.container
    today = duties_on(container.duties, container.clock())
    found = taxes.due(container.db, container.clock)
    held = {str(duty.on): duty for duty in (today.winnings, today.withdrawals) if duty is not None}
    document = {"duties": [duty.as_dict() for duty in container.duties.duties], "today": today.as_dict(), "due": found}
    columns = render.columns("on", "duty today", ">rate", ">kept back", ">paid", ">due")
    rows = [
        (
            one.on,
            held[one.on].name if one.on in held else "none",
            f"{percent_of(held[one.on].rate_bps)} % of {held[one.on].base}" if one.on in held else None,
            render.kes(one.withheld_cents),
            render.kes(one.remitted_cents),
            render.kes(one.due_cents),
        )
        for one in found
    ]
    render.table(call, "Tax", columns, rows, document=document)
    if not container.duties.duties:
        render.talk(call, "No file of duties is named (payout.duties_file): nothing is kept back.")


@commands.writes(reason=True)
def remit(
    call: CommandContext,
    amount: Annotated[str, argument("KES", "How much was paid.")],
    on: Annotated[str, option("--on", "WHAT", "winnings or withdrawals.", show_default=False)],
    reference: Annotated[
        str, option("--reference", "TEXT", "The number of the authority's receipt.", show_default=False)
    ],
    source: Annotated[str, option("--from", "WHERE", "bank or mpesa.")] = "bank",
) -> None:
    """Write down that tax was paid to the authority.

    Nothing is sent: the payment itself is made outside, from the bank or the
    M-Pesa account. Each reference is taken once.

    Example: kasoko tax remit 42750 --on winnings --reference PRN2026110042
    --reason 'October'

    Example: kasoko tax remit 999.50 --on withdrawals --from mpesa --reference
    UKT7A1B2C3 --reason 'the week of 16 November'

    Exit status: 0 written down, 2 no such WHAT or WHERE, 5 that much is not due,
    or the rules refuse it.
    """
    from kasoko_cli.domain.money import parse_payment
    from kasoko_cli.domain.withholding import On
    from kasoko_cli.operations.reporting import taxes

    if on not in list(On):
        raise WrongUsage(f"Nothing falls on {on!r}. WHAT is one of: {', '.join(On)}.")
    if source not in taxes.SOURCES:
        raise WrongUsage(f"Tax is not paid from {source!r}. WHERE is one of: {', '.join(taxes.SOURCES)}.")
    cents = parse_payment(amount, what="tax")
    done = taxes.remit(call.context, on=On(on), cents=cents, source=source, reference=reference)
    did = "was paid" if done.is_new else "was written down before"
    still = f"{amount_of(done.due_cents)} is still due."
    render.answer(call, done, f"{amount_of(cents)} of tax on {on} {did}: {reference}. {still}")
