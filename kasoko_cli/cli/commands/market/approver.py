"""People whose signatures count on approvals and decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import SignWith, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import local

commands = Commands("approver")

Name = Annotated[str, argument("NAME", "The name they act under: --actor.")]


@commands.reads()
def key(
    call: CommandContext,
    output: Annotated[Path, option("--output", "FILE", "Where the key goes; FILE.pub is for the others.")],
) -> None:
    """Make a key to sign with; needs no database and no settings.

    FILE stays with its owner, readable by nobody else. FILE.pub is what somebody
    gives to kasoko approver add.

    Example: kasoko approver key --output wanjiku.key

    Example: kasoko approver key --output /run/user/1000/kasoko.key --json

    Exit status: 0 made, 3 it cannot be written, 5 there is such a file already.
    """
    from kasoko_cli.operations.approvals.key_files import make_key, public_key

    public = make_key(output)
    if call.json:
        render.document({"key": output, "public_file": public, "public_key": public_key(public)})
        return
    render.line(public_key(public))
    render.talk(call, f"The key is {output}: keep it to yourself.")
    render.talk(call, f"Have somebody add it: kasoko approver add NAME --key {public}")


@commands.writes()
def add(
    call: CommandContext,
    name: Name,
    key: Annotated[Path, option("--key", "FILE", "Their public key, or the name of a systemd credential.")],
    sign_with: SignWith = None,
) -> None:
    """Let somebody's signature count.

    Where approval.signed is true and there are approvers, one of them signs it;
    once there have been two, two of them add the same.

    Example: kasoko approver add wanjiku --key wanjiku.key.pub

    Example: kasoko approver add otieno --key otieno.key.pub --actor wanjiku
    --sign-with wanjiku.key

    Exit status: 0 added, 3 the signing key cannot be used, 4 no such file, 5 the
    name or the key has one already, or it is not signed, 10 your word is written
    down, and a second approver has to add the same.
    """
    from kasoko_cli.operations.approvals import approvers
    from kasoko_cli.operations.approvals.key_files import public_key

    public = public_key(key)
    render.confirm_or_leave(call, f"Let {name} sign, with {public}?", otherwise="Nothing was changed.")
    done = approvers.add(call.signed(sign_with), call.container.terms, name=name, public_key=public)
    if call.json:
        render.document(done)
    elif done.waits_for_second:
        render.line(f"{done.name} does not sign yet: {done.note}.")
    else:
        render.did(call, f"{done.name} {done.note}.")
    if done.waits_for_second:
        raise typer.Exit(10)


@commands.reads("list")
def list_(call: CommandContext) -> None:
    """List whose signatures count, and who was removed.

    Example: kasoko approver list

    Example: kasoko approver list --json

    Exit status: 0 listed.
    """
    from kasoko_cli.operations.approvals import approvers

    found = approvers.list_approvers(call.container.db)
    columns = render.columns("approver", "public key", "since", "added by", "removed")
    rows = [
        (it.name, it.public_key[:16], local(it.added_at), it.added_by, it.removed_at and local(it.removed_at))
        for it in found.approvers
    ]
    render.table(call, "Approvers", columns, rows, document=found)
    if not call.json:
        asked = "has to be signed" if found.required else "need not be signed"
        render.talk(call, f"What two people say {asked} here.")


@commands.writes(reason=True)
def remove(call: CommandContext, name: Name, sign_with: SignWith = None) -> None:
    """Let somebody's signature count no more.

    What they signed so far can still be checked. Where approval.signed is true
    one approver signs it, and the last one stays.

    Example: kasoko approver remove otieno --reason 'left the firm'

    Example: kasoko approver remove otieno --reason 'the key is lost' --actor
    wanjiku --sign-with wanjiku.key

    Exit status: 0 removed, 3 the signing key cannot be used, 4 no such approver,
    5 it is not signed, or is the last one.
    """
    from kasoko_cli.operations.approvals import approvers

    render.confirm_or_leave(call, f"Let {name} sign no more?", otherwise="Nothing was changed.")
    done = approvers.remove(call.signed(sign_with), call.container.terms, name=name)
    render.answer(call, done, f"{done.name} signs no more.")
