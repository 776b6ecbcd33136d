"""What users hold with the operator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import Plan, UserId, WrongUsage, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, debts_of, local

if TYPE_CHECKING:
    from kasoko_cli.operations.shared.context import OperationContext

commands = Commands("wallet")


@commands.reads()
def show(call: CommandContext, user: UserId) -> None:
    """Show a user's wallet: what is available, and the latest movements.

    Available is what the user can still spend. Credited in all are deposits,
    winnings and refunds, less stakes; what of it went to the phone is gone. What
    the user owes back, and what is in suspense of payments to them, is told too.

    Example: kasoko wallet show u1

    Example: kasoko wallet show u1 --json

    Exit status: 0 shown, 4 no such user.
    """
    from kasoko_cli.domain.money import format_kes
    from kasoko_cli.operations.records import wallets

    wallet = wallets.show_wallet(call.container.db, user)
    sent = amount_of(wallet.balance_cents - wallet.available_cents)
    render.talk(
        call,
        f"Available {amount_of(wallet.available_cents)}. Credited in all {amount_of(wallet.balance_cents)},"
        f" of which {sent} went to the phone.",
    )
    for what, told in debts_of(wallet.receivable_cents, wallet.suspense_cents):
        render.talk(call, f"{what.capitalize()}: {told}.")
    columns = render.columns("when", "entry", "account", ">KES")
    rows = [(local(one.at), one.entry, one.account, format_kes(one.amount_cents)) for one in wallet.lines]
    render.table(call, f"Wallet of {user}", columns, rows, document=wallet)


@commands.writes()
def deposit(
    call: CommandContext,
    user: UserId,
    amount: Annotated[str, argument("KES", "How much arrived.")],
    reference: Annotated[
        str, option("--reference", "TEXT", "The receipt of the customer's payment.", show_default=False)
    ],
) -> None:
    """Credit a wallet with money that arrived; each reference is taken once.

    Example: kasoko wallet deposit u1 500 --reference UKN7A1B2C3

    Example: kasoko wallet deposit u1 99.50 --reference UKN7A1B2C4 --actor wanjiku

    Exit status: 0 it is credited, 4 no such user, 5 the rules refuse it.
    """
    from kasoko_cli.domain.money import parse_payment
    from kasoko_cli.operations.records import wallets

    cents = parse_payment(amount, what="deposit")
    is_new = wallets.deposit(call.context, user_id=user, cents=cents, reference=reference)
    document = {"user": user, "reference": reference, "amount_cents": cents, "changed": is_new}
    did = "credited" if is_new else "was credited before"
    render.answer(call, document, f"{amount_of(cents)} for {user} {did}: {reference}.")


Debt = Annotated[str, argument("KES", "How much of the debt.")]
Reference = Annotated[str, option("--reference", "TEXT", "Names it; each is taken once.", show_default=False)]


@commands.writes(reason=True)
def recover(
    call: CommandContext,
    user: UserId,
    amount: Debt,
    reference: Reference,
    source: Annotated[str, option("--from", "WHERE", "wallet, mpesa or bank.")] = "wallet",
    plan: Plan = False,
) -> None:
    """Write down that USER gave back what was overpaid.

    From the wallet here, or by money that arrived in the M-Pesa account or in the
    bank.

    Example: kasoko wallet recover kamau 142.50 --reference R7 --reason 'agreed'

    Example: kasoko wallet recover kamau 100 --from mpesa --reference UKB1A2B3C4
    --reason 'paid back'

    Exit status: 0 written down, 2 no such WHERE, 4 no such user, 5 that much is
    not owed, or not there.
    """
    from kasoko_cli.domain.money import parse_payment
    from kasoko_cli.operations.records import wallets

    if source not in wallets.SOURCES:
        raise WrongUsage(f"Money does not come from {source!r}. WHERE is one of: {', '.join(wallets.SOURCES)}.")
    cents, caution = parse_payment(amount, what="debt"), call.container.caution
    act = partial(wallets.recover, user_id=user, cents=cents, source=source, reference=reference, caution=caution)
    if not _may_be_done(call, act, user, cents, f"given back, from the {source}", plan=plan):
        return
    is_new = act(call.context)
    _tell_debt(call, user, reference, cents, "recovered", changed=is_new)


@commands.writes("write-off", reason=True)
def write_off(call: CommandContext, user: UserId, amount: Debt, reference: Reference, plan: Plan = False) -> None:
    """Give up what USER owes: it is the operator's loss.

    Example: kasoko wallet write-off kamau 142.50 --reference W7 --reason 'gone'

    Example: kasoko wallet write-off kamau 3 --reference W8 --reason 'too little'

    Exit status: 0 written off, 4 no such user, 5 that much is not owed.
    """
    from kasoko_cli.domain.money import parse_payment
    from kasoko_cli.operations.records import wallets

    cents = parse_payment(amount, what="debt")
    act = partial(wallets.write_off, user_id=user, cents=cents, reference=reference, caution=call.container.caution)
    if not _may_be_done(call, act, user, cents, "given up", plan=plan):
        return
    is_new = act(call.context)
    _tell_debt(call, user, reference, cents, "written off", changed=is_new)


def _may_be_done(
    call: CommandContext, act: Callable[[OperationContext], bool], user: str, cents: int, how: str, *, plan: bool
) -> bool:
    """Show what is owed and ask; False where it was only to be shown."""
    from kasoko_cli.operations.records import wallets
    from kasoko_cli.operations.shared.rehearsal import rehearse

    if call.yes and not plan:
        return True
    is_new = rehearse(call.context, act)
    owed = wallets.show_wallet(call.container.db, user).receivable_cents
    told = f"{amount_of(cents)} of the {amount_of(owed)} that {user} owes"
    if not plan:
        question = f"Write down that {told} are {how}?" if is_new else f"This was written down before: {how}. Again?"
        render.confirm_or_leave(call, question, otherwise="Nothing was changed.")
        return True
    document = {"user": user, "amount_cents": cents, "owed_cents": owed, "changed": is_new}
    done = f"{told} would be {how}" if is_new else f"{amount_of(cents)} of {user} was {how} before"
    render.planned(call, document, f"{done}.")
    return False


def _tell_debt(call: CommandContext, user: str, reference: str, cents: int, did: str, *, changed: bool) -> None:
    document = {"user": user, "reference": reference, "amount_cents": cents, "changed": changed}
    render.answer(call, document, f"{amount_of(cents)} of {user} {did if changed else f'was {did} before'}.")
