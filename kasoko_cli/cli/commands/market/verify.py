"""A proof of settlement, checked by anybody: without a database and without settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of

commands = Commands()


@commands.reads(answers=False)
def verify(
    call: CommandContext,
    file: Annotated[Path, argument("FILE", "What report proof wrote.")],
    code: Annotated[str | None, option("--code", "C", "Your inclusion code: find your own share.")] = None,
    key: Annotated[str | None, option("--key", "HEX", "The operator's public key; else any key will do.")] = None,
) -> None:
    """Check a proof of settlement; needs no database and no settings.

    Divides the pool again from the stakes in FILE, and checks every share, the
    root and the signature. The key that it names is the operator's only if the
    operator publishes the same one.

    Example: kasoko verify rain.proof.json

    Example: kasoko verify rain.proof.json --code wanjiku:ABCDEFGHIJKLMNOP

    Exit status: 0 it holds, 5 FILE cannot be read, 8 it does not hold, or the
    code belongs to nobody in it.
    """
    from kasoko_cli.operations.settlement import settlement_proof

    found = settlement_proof.verify(file, code=code, public_key=key)
    if call.json:
        render.document(found)
        return
    render.line(f"root {found.root}")
    render.line(f"key  {found.public_key}")
    if found.mine is not None:
        render.line(
            f"You are in it: {amount_of(found.mine['payout_cents'])} won, {amount_of(found.mine['refund_cents'])}"
            f" given back; your exact share is {found.mine['share']} cents."
        )
    render.line(
        f"The proof of {found.market} holds: {count_of(found.bettors, 'bettor')},"
        f" {amount_of(found.gross_cents)} staked, {amount_of(found.fee_cents)} fee,"
        f" {amount_of(found.payouts_cents)} won, {amount_of(found.refunds_cents)} given back."
    )
