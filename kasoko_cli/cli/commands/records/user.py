"""The people who bet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import AnyBlock, Limit, UserId, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of, debts_of, local

commands = Commands("user")

Phone = Annotated[str, argument("PHONE", "A Kenyan mobile, like 0712345678.")]


@commands.writes()
def add(
    call: CommandContext,
    user: UserId,
    name: Annotated[str, argument("NAME", "The user's name.")],
    phone: Phone,
    any_block: AnyBlock = False,
) -> None:
    """Take in a user.

    Example: kasoko user add u1 'Wanjiku Otieno' 0712345678

    Example: kasoko user add u2 'Kamau Njoroge' +254722345678

    Exit status: 0 the user stands, 5 the rules refuse it.
    """
    from kasoko_cli.operations.records import users

    is_new = users.add_user(call.context, user_id=user, name=name, phone=phone, any_block=any_block)
    _tell(call, user, "taken in" if is_new else "stands already, and was not changed", changed=is_new)


@commands.reads("list")
def list_(call: CommandContext, limit: Limit = None) -> None:
    """List the users, phones masked.

    Example: kasoko user list

    Example: kasoko user list --limit 20 --json

    Exit status: 0 listed.
    """
    from kasoko_cli.operations.records import users

    found = users.list_users(call.container.db, limit=limit)
    columns = render.columns("user", "name", "phone")
    render.table(call, "Users", columns, [(one.id, one.name, one.phone) for one in found], document={"users": found})


@commands.reads()
def show(call: CommandContext, user: UserId) -> None:
    """Show one user: what is available, what was credited, what went to the phone.

    Example: kasoko user show u1

    Example: kasoko user show u1 --json

    Exit status: 0 shown, 4 no such user.
    """
    from kasoko_cli.operations.records import users

    view = users.show_user(call.container.db, user)
    pairs: list[tuple[str, object]] = [
        ("user", view.id),
        ("name", view.name),
        ("phone", view.phone),
        ("phone set", local(view.phone_set_at)),
        ("available", amount_of(view.available_cents)),
        ("credited in all", amount_of(view.balance_cents)),
        ("to the phone", amount_of(view.balance_cents - view.available_cents)),
        *debts_of(view.receivable_cents, view.suspense_cents),
        ("payouts", view.payouts),
    ]
    render.card(call, view.name, pairs, document=view)


@commands.writes("set-phone")
def set_phone(call: CommandContext, user: UserId, phone: Phone, any_block: AnyBlock = False) -> None:
    """Give a user another number; payouts that are sent from now on go there.

    Example: kasoko user set-phone u1 0722000111 --reason 'the old line is dead'

    Example: kasoko user set-phone u1 0110000222 --actor wanjiku

    Exit status: 0 the number stands, 4 no such user, 5 it is no Kenyan mobile.
    """
    from kasoko_cli.operations.records import users

    changed = users.set_phone(call.context, user_id=user, phone=phone, any_block=any_block)
    _tell(call, user, "has a new number" if changed else "had this number already", changed=changed)


@commands.writes(reason=True)
def erase(call: CommandContext, user: UserId) -> None:
    """Forget a person: name and phone, wherever they stand.

    The books, the bets and the record of acts stay, under the id alone, and the
    audit stays whole. It cannot be undone. It is refused while anything is
    owed, in flight or staked.

    Example: kasoko user erase u1 --reason 'asked for it by letter'

    Example: kasoko user erase u1 --yes --reason 'closed account' --json

    Exit status: 0 forgotten, 4 no such user, 5 money stands open.
    """
    from kasoko_cli.operations.records import privacy

    if not render.confirm(call, f"Forget who {user} is? It cannot be undone."):
        raise typer.Abort
    done = privacy.erase(call.context, user_id=user, caution=call.container.caution)
    counts = ((done.attempts, "attempt"), (done.callbacks, "result"), (done.calls, "call"))
    emptied = f"is forgotten: {', '.join(count_of(*one) for one in counts)} emptied"
    render.answer(call, done, f"{user} {emptied if done.is_new else 'was forgotten before'}.")


@commands.writes("export")
def export_(
    call: CommandContext,
    user: UserId,
    output: Annotated[Path | None, option("--output", "FILE", "Write it there, for you alone.", short="-o")] = None,
) -> None:
    """Write all that is known of one person, as JSON, for that person.

    The phone is whole, and so are the results that M-Pesa posted. That it was
    written is itself an act on record.

    Example: kasoko user export u1 --output u1.json --reason 'asked for it'

    Example: kasoko user export u1 --json

    Exit status: 0 written, 4 no such user or folder, 5 it cannot be written.
    """
    from kasoko_cli.operations.exchange.export import written_whole
    from kasoko_cli.operations.records import privacy

    known = privacy.data_of(call.context, user_id=user)
    if output is None:
        render.document(known)
        return
    with written_whole(output, private=True) as file:
        file.write(render.as_json(known) + "\n")
    render.answer(call, {"user": user, "file": output}, f"{user} is in {output}.")


def _tell(call: CommandContext, user: str, did: str, *, changed: bool) -> None:
    render.answer(call, {"user": user, "changed": changed}, f"{user} {did}.")
