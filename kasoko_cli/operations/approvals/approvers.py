"""People whose signatures count: added, listed, removed.

While signatures are required nobody can make two people of themselves: once there have been two, one is added
by two others. Removing takes one, since it lets nobody do more; but the last one stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlmodel import Session

from kasoko_cli.domain.same_person import person_of
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.approvals import signatures
from kasoko_cli.operations.approvals.second_person import ApprovalTerms, Declaration, hear
from kasoko_cli.operations.approvals.signatures import ADD, REMOVE, REMOVED, REQUIRE, SUBJECT, Approver, KnownApprovers
from kasoko_cli.operations.shared.actor import needs_reason
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine import hash_chain
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import note_event, raise_incident


@dataclass(frozen=True, slots=True)
class Approvers:
    """Who signs, and whether everything has to be signed."""

    required: bool
    approvers: list[Approver]


@dataclass(frozen=True, slots=True)
class ApproverAdded:
    """What came of adding one; `waits_for_second` says that another approver has to add the same."""

    name: str
    public_key: str
    note: str
    waits_for_second: bool = False


def list_approvers(db: Database) -> Approvers:
    """Everybody whose signature counts, and those who were removed."""
    with db.reading() as session:
        known = signatures.known_now(session)
    return Approvers(known.required, [*known.people.values(), *known.removed])


def add(ctx: OperationContext, terms: ApprovalTerms, *, name: str, public_key: str) -> ApproverAdded:
    """Let somebody's signature count.

    Raises Refused if the name or the key has one already, or those who have to sign it did not.
    """
    actor, name, now = ctx.actor, " ".join(name.split()), ctx.clock()
    with ctx.db.transaction() as session:
        known = _hold(session)
        _check_new(known, name, public_key)
        if known.people and (terms.signed or known.required):
            signatures.hold_signed(session, actor, wanted=terms.signed, at=now, what="A new approver")
        else:
            actor = replace(actor, key=None)  # nobody could check it: there is no approver yet, or nobody asks
            if terms.signed and not known.required:
                note_event(session, at=now, actor=actor.name, action=REQUIRE, subject=SUBJECT)
        detail: dict[str, object] = {"name": name, "public_key": public_key}
        if known.were_two and terms.signed:
            heard = hear(session, actor, terms, Declaration(ADD, SUBJECT, detail), at=now)
            if heard.first is None:
                return ApproverAdded(name, public_key, heard.note, waits_for_second=True)
            detail |= {signatures.FIRST: heard.first}
        signatures.note_signed(session, actor, ADD, SUBJECT, at=now, detail=detail)
    return ApproverAdded(name, public_key, "signs from now on")


def _check_new(known: KnownApprovers, name: str, public_key: str) -> None:
    if not person_of(name):
        raise Refused("An approver needs a name. Nothing was changed.", hint="kasoko approver add NAME --key FILE")
    if (one := known.people.get(person_of(name))) is not None:
        raise Refused(
            f"{one.name} signs already, with {one.public_key[:16]}. Nothing was changed.",
            hint=f"For another key remove the old one first: kasoko approver remove {name!r}",
        )
    if public_key in known.keys:
        raise Refused(
            f"The key {public_key[:16]} was added before. Nothing was changed.",
            hint="One key is one person's, once. Make another: kasoko approver key --output FILE",
        )


def remove(ctx: OperationContext, terms: ApprovalTerms, *, name: str) -> Approver:
    """Stop counting somebody's signature; what was signed so far can still be checked.

    Where signatures are required one approver has to sign it, and the last one stays. With settings that do not
    ask for it any more (`approval.signed = false`) it goes without, and raises an incident each time.

    Raises:
        NotFound: nobody of that name signs.
        Refused: no reason was given, it is not signed, or this is the last one.
    """
    actor, now = ctx.actor, ctx.clock()
    needs_reason(actor, "Removing an approver")
    with ctx.db.transaction() as session:
        known = _hold(session)
        one = known.people.get(person_of(name))
        if one is None:
            raise NotFound(f"{name} is no approver.", hint="Who signs: kasoko approver list")
        if terms.signed:
            signatures.hold_signed(session, actor, wanted=True, at=now, what="Removing an approver")
            if len(known.people) == 1:
                raise Refused(
                    f"{one.name} is the last approver, and stays while signatures are required. Nothing was changed.",
                    hint="How signing is given up, or begun anew: kasoko help people",
                )
        else:
            actor = replace(actor, key=None)
        if known.required and not terms.signed:
            raise_incident(
                session,
                key=f"{REMOVED}{one.public_key}",
                kind="approver_removed",
                what=f"The key of {one.name} was removed by {actor.name} without a signature, with settings that ask"
                " for none. If nobody meant to begin anew, somebody wants to act alone.",
                at=now,
            )
        detail = {"name": one.name, "public_key": one.public_key}
        signatures.note_signed(session, actor, REMOVE, SUBJECT, at=now, detail=detail)
    return replace(one, removed_at=now)


def _hold(session: Session) -> KnownApprovers:
    """Whose signatures count; nobody else can change that until the transaction ends."""
    hash_chain.lock_deployment(session)
    return signatures.known_now(session)
