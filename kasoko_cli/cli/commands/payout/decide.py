"""What only a person can say of a payout: how it ended, and which way its money goes."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.confirmation import may_be_done
from kasoko_cli.cli.help import completion
from kasoko_cli.cli.options import PayoutId, Plan, SignWith, WrongUsage, argument, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.payout_tables import tell_moved

verbs = Commands()


@verbs.writes("to-wallet", reason=True)
def to_wallet(call: CommandContext, payout: PayoutId, plan: Plan = False) -> None:
    """Credit the user's wallet instead of the phone.

    Example: kasoko payout to-wallet rain.1.7 --plan

    Example: kasoko payout to-wallet rain.1.7 --yes --reason 'the line is dead'

    Exit status: 0 it is credited, 4 no such payout, 5 it is on its way or has
    ended.
    """
    from kasoko_cli.operations.payouts import manual_decision as operation

    payout = call.payout_id(payout)
    act = partial(operation.to_wallet, payout_id=payout, caution=call.container.caution)
    question = "Credit {} to the wallet, and never send it to the phone?"
    if may_be_done(call, payout, act, question=question, plan=plan):
        tell_moved(call, payout, act(call.context))


@verbs.writes("decide", reason=True)
def decide_(
    call: CommandContext,
    payout: Annotated[
        str | None,
        argument("PAYOUT", "The payout's id; none with --all-unknown-between.", autocompletion=completion.payouts),
    ] = None,
    paid: Annotated[bool, flag("--paid", "The receiver got it; needs --receipt.")] = False,
    not_paid: Annotated[bool, flag("--not-paid", "No money moved.")] = False,
    receipt: Annotated[str | None, option("--receipt", "R", "M-Pesa's proof.")] = None,
    evidence: Annotated[str, option("--evidence", "TEXT", "Where the next person can see it.")] = "",
    between: Annotated[
        tuple[str, str] | None,
        option(
            "--all-unknown-between",
            "T1 T2",
            "All that is unknown and was sent then; with --not-paid.",
            show_default=False,
        ),
    ] = None,
    plan: Plan = False,
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

    Exit status: 0 decided, 4 no such payout, 5 how it ended is known, or it is
    not signed (approval.signed), 7 some were left unknown, 10 your word is
    written down, and a second person has to say the same.
    """
    from kasoko_cli.operations.payouts.manual_decision import Decision, decide

    if paid == not_paid or (receipt is not None) != paid:
        raise WrongUsage("Say --paid with --receipt, or --not-paid.")
    if between is not None and payout is None and not_paid:
        from kasoko_cli.cli.commands.payout.bulk_decision import give

        give(call, between, evidence, sign_with, plan=plan)
        return
    if between is not None or payout is None:
        raise WrongUsage("Name one PAYOUT, or --all-unknown-between T1 T2 with --not-paid.")
    payout = call.payout_id(payout)
    container, context = call.container, call.signed(sign_with)
    act = partial(
        decide,
        payout_id=payout,
        decision=Decision(receipt, evidence),
        two_people=container.config.payout.decide_needs_two,
        terms=container.terms,
        caution=container.caution,
    )
    question = f"Write down that {{}} {'was paid, receipt ' + (receipt or '') if paid else 'was not paid'}?"
    if not may_be_done(call, payout, act, question=question, plan=plan, context=context):
        return
    done = act(context)
    if call.json:
        render.document(done)
    else:
        said = f"{payout} is {done.status}: {done.note}."
        render.line(said) if done.waits_for_second else render.did(call, said)
    if done.waits_for_second:
        raise typer.Exit(10)


@verbs.writes(reason=True)
def returned(
    call: CommandContext,
    payout: PayoutId,
    receipt: Annotated[str, option("--receipt", "R", "M-Pesa's proof of what came back.", show_default=False)],
    plan: Plan = False,
) -> None:
    """Say that the money of a completed payout came back.

    It stands in the user's wallet then. A statement says this by itself: kasoko
    reconcile --statement FILE. Send it again with kasoko payout again, or leave
    it with kasoko payout to-wallet.

    Example: kasoko payout returned rain.1.7 --receipt UKP0A1B2C3 --reason 'the
    number was given up'

    Example: kasoko payout returned rain.1.8 --receipt UKP0A1B2C4 --reason
    reversed --yes

    Exit status: 0 it is returned, 4 no such payout, 5 it is not completed.
    """
    from kasoko_cli.operations.payouts.returns import came_back

    payout = call.payout_id(payout)
    act = partial(came_back, payout_id=payout, receipt=receipt, caution=call.container.caution)
    if not may_be_done(call, payout, act, question="Write down that the money of {} came back?", plan=plan):
        return
    is_new = act(call.context)
    if call.json:
        render.document({"payout": payout, "status": "RETURNED", "changed": is_new})
        return
    render.did(call, f"{payout} is RETURNED{'' if is_new else ' already'}; its money stands in the wallet.")
    render.talk(call, f"Send it again: kasoko payout again {payout}")


@verbs.writes(reason=True)
def again(call: CommandContext, payout: PayoutId, plan: Plan = False) -> None:
    """Make a payout due again whose money came back.

    It goes under a new id. Until it has arrived the user cannot spend it.

    Example: kasoko payout again rain.1.7 --reason 'the user gave another number'

    Example: kasoko payout again rain.1.7 --reason 'asked for it' --yes

    Exit status: 0 it is due, 4 no such payout, 5 its money did not come back, or
    the user has spent it.
    """
    from kasoko_cli.operations.payouts.returns import send_again

    payout = call.payout_id(payout)
    act = partial(send_again, payout_id=payout, caution=call.container.caution)
    if not may_be_done(call, payout, act, question="Make {} due again?", plan=plan):
        return
    act(call.context)
    tell_moved(call, payout, "PENDING")
    render.talk(call, f"Send it: kasoko payout --only {payout}")
