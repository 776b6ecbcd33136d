"""What users hold with the operator."""

from __future__ import annotations

from typing import Annotated

import typer

from kasoko_cli.cli import render
from kasoko_cli.cli.group import Call, Commands
from kasoko_cli.cli.panels import RECORDS
from kasoko_cli.cli.params import UserId
from kasoko_cli.cli.render import Column

commands = Commands("wallet", "What users hold with the operator.", panel=RECORDS)


@commands.reads()
def show(call: Call, user: UserId) -> None:
    """Show a user's wallet: balance, what is available, latest movements.

    Example: kasoko wallet show u1

    Example: kasoko wallet show u1 --json

    Exit status: 0 shown, 4 no such user.
    """
    from kasoko_cli.cli.words import amount_of, local
    from kasoko_cli.domain.money import format_kes
    from kasoko_cli.operations import wallets

    wallet = wallets.show_wallet(call.house.db, user)
    render.talk(call, f"Balance {amount_of(wallet.balance_cents)}, available {amount_of(wallet.available_cents)}.")
    columns = [Column("when"), Column("entry"), Column("account"), Column("KES", right=True)]
    rows = [(local(one.at), one.entry, one.account, format_kes(one.amount_cents)) for one in wallet.lines]
    render.table(call, f"Wallet of {user}", columns, rows, document=wallet)


@commands.writes()
def deposit(
    call: Call,
    user: UserId,
    amount: Annotated[str, typer.Argument(metavar="KES", help="How much arrived.", show_default=False)],
    reference: Annotated[
        str,
        typer.Option("--reference", metavar="TEXT", help="The receipt of the customer's payment.", show_default=False),
    ],
) -> None:
    """Credit a wallet with money that arrived; each reference is taken once.

    Example: kasoko wallet deposit u1 500 --reference UKN7A1B2C3

    Example: kasoko wallet deposit u1 99.50 --reference UKN7A1B2C4 --actor wanjiku

    Exit status: 0 it is credited, 4 no such user, 5 the rules refuse it.
    """
    from kasoko_cli.cli.words import amount_of
    from kasoko_cli.domain.money import parse_stake
    from kasoko_cli.operations import wallets

    cents = parse_stake(amount)
    house = call.house
    is_new = wallets.deposit(house.db, house.clock, call.act, user_id=user, cents=cents, reference=reference)
    if call.json:
        render.document({"user": user, "reference": reference, "amount_cents": cents, "changed": is_new})
        return
    render.line(f"{amount_of(cents)} for {user} {'credited' if is_new else 'was credited before'}: {reference}.")
