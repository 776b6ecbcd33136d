"""The float: asked of M-Pesa, and held against the books."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.progress import progress
from kasoko_cli.cli.parsing import age_of, amount_of, local

if TYPE_CHECKING:
    from kasoko_cli.domain.tariff import Tariff
    from kasoko_cli.operations.account.balances import AskedBalance, FloatReport

commands = Commands()


@commands.writes("float")
def float_(
    call: CommandContext,
    last: Annotated[bool, flag("--last", "Ask nobody; show what was said last.")] = False,
    listen: Annotated[bool, flag("--listen", "Take the answer in here; else kasoko listen does.")] = False,
    listen_seconds: Annotated[int, option("--listen-seconds", "N", "How long to wait for the answer.", min=0)] = 60,
    tariff: Annotated[bool, flag("--tariff", "Show M-Pesa's charges as kasoko counts them.")] = False,
) -> None:
    """Ask M-Pesa for its balances, and compare them with the books.

    The answer is posted to the listener. The balance that counts before a run is
    the available part of the utility account.

    Example: kasoko float --listen

    Example: kasoko float --last --json

    Exit status: 0 shown, 3 settings, 6 M-Pesa did not take the question, 7 it did
    not answer in time, or said no balance.
    """
    from kasoko_cli.operations.account import balances

    container = call.container
    if tariff:
        _show_tariff(call, container.tariff)
        return
    if last:
        _show(call, balances.report(container.db, container.clock, container.tariff, container.payer), None, "", 0)
        return
    container.config.require_daraja()
    _ = container.tariff  # a file that cannot be read is told before M-Pesa is asked
    with contextlib.ExitStack() as stack:
        from kasoko_cli.cli.listening import listening
        from kasoko_cli.cli.signals import stopping
        from kasoko_cli.operations.shared.watching import stay

        stopper = stack.enter_context(stopping())
        if listen:
            stack.enter_context(listening(call, otherwise="leave out --listen, for it takes the answer"))
        asked = balances.ask(call.context, container.gateway)
        if asked.taken:
            from kasoko_cli.operations.callbacks import apply_results

            apply_results.apply_waiting(container.db, container.clock, container.trust, subjects=[asked.query_id])
            with progress(call, "Waiting for M-Pesa's answer", seconds=listen_seconds):
                stay(stopper, listen_seconds, lambda: balances.answer_of(container.db, asked.query_id) is not None)
    said = balances.answer_of(container.db, asked.query_id)
    code = 6 if not asked.taken else 7 if said is None or said else 0
    if not code:
        call.ended_well("float")
    found = balances.report(container.db, container.clock, container.tariff, container.payer)
    _show(call, found, asked, _trouble(asked, said), code)


def _trouble(asked: AskedBalance, said: str | None) -> str:
    """Why M-Pesa's balance is not known now; empty where it is."""
    if not asked.taken:
        return f"M-Pesa did not take the question: {asked.why}"
    if said is None:
        return "M-Pesa took the question and has not answered yet; it may take minutes, and needs a listener."
    return said and f"M-Pesa answered, and said no balance: {said}"


def _next(trouble: str) -> str:
    """The one next thing: to ask again, and before that to mend what has M-Pesa answer no question."""
    from kasoko_cli.operations.shared.next_steps import BALANCE_ROLE, question_refused

    refused = question_refused(trouble, BALANCE_ROLE)
    if refused:
        return f"{refused} Then ask again: kasoko float --listen"
    return "Ask again, and let this command take the answer: kasoko float --listen"


def _show(call: CommandContext, found: FloatReport, asked: AskedBalance | None, trouble: str, code: int) -> None:
    reading = found.reading
    if call.json:
        following = _next(trouble) if code == 7 else None
        render.document({"float": found, "asked": asked, "trouble": trouble, "next": following, "exit_code": code})
    elif reading is None:
        render.talk(call, "The float is not known: no balance of M-Pesa was ever read.")
    elif not (asked and not code and render.unattended(call)):  # a timer asks so that the next run knows it
        pairs: list[tuple[str, object]] = [
            ("utility account", amount_of(reading.utility_cents)),
            ("said at", f"{local(reading.as_of)}, {age_of(reading.age_seconds)} ago, by a {reading.said_by}"),
            ("to count on now", None if found.available_cents is None else amount_of(found.available_cents)),
            ("in flight", amount_of(found.in_flight_cents)),
            ("working account", None if reading.working_cents is None else amount_of(reading.working_cents)),
            ("charges account", None if reading.charges_cents is None else amount_of(reading.charges_cents)),
        ]
        render.card(call, "The float, as M-Pesa says", pairs, document=found)
        rows: list[tuple[object, ...]] = [("utility, in the books", render.kes(found.books_cents))]
        rows += [(f"  {one.why}", render.kes(one.cents)) for one in found.differences]
        rows.append(("utility, as M-Pesa says", render.kes(reading.utility_cents)))
        render.table(call, "The books and M-Pesa", render.columns("what", ">KES"), rows, document=found)
        if found.unexplained_cents:
            render.talk(call, "What is not told to kasoko is told by M-Pesa's statement of the utility account.")
    if trouble:
        render.warn(call, trouble)
        if code == 7:
            render.hint(call, _next(trouble))
    if code:
        raise typer.Exit(code)


def _show_tariff(call: CommandContext, tariff: Tariff) -> None:
    rows = [(f"{up_to:,}", f"{charge:,}") for up_to, charge in tariff.bands]
    document = {
        "valid_from": tariff.valid_from,
        "source": tariff.source,
        "bands": [{"up_to_kes": up_to, "charge_kes": charge} for up_to, charge in tariff.bands],
    }
    columns = render.columns(">up to KES", ">charge KES")
    render.table(call, f"M-Pesa's charges since {tariff.valid_from}", columns, rows, document=document)
    if not call.json:
        render.talk(call, f"Source: {tariff.source}.")
