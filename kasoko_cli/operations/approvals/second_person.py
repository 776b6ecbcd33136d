"""Where two people have to say the same: the first one's word, and whether the second one's is about the same thing.

A first word is an event, with all that it is *bound* to: the send that it speaks of, its state, a plan's hash. The
second counts only where the first says the same of the same thing, comes from somebody else, and has not expired.
Whatever happens in between makes the first word one about something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlmodel import Session, col

from kasoko_cli.clock import farthest, iso
from kasoko_cli.domain.same_person import are_one, person_of
from kasoko_cli.errors import Refused
from kasoko_cli.operations.approvals.signatures import FIRST, PROPOSED, SIGNATURE, is_good, known_now, note_signed
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.violation import Violation
from kasoko_cli.store import approvals
from kasoko_cli.store.log import stream_events, words_about
from kasoko_cli.store.schema.tables import Event

#: What stands in a first word beside what it is bound to.
_FREE = frozenset({"evidence", "becomes", "expires_at", SIGNATURE})
#: So many digits of its hash name a plan or a list.
HASH_DIGITS = 16
#: What the first of two is told.
WAITS = "a second person has to say the same"


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """What the settings ask of a person's word: for how many hours the first of two counts, and a signature."""

    hours: int = 24
    signed: bool = False


#: What is asked where nothing else is set.
USUAL = ApprovalTerms()


@dataclass(frozen=True, slots=True)
class Declaration:
    """What one of two people says: `bound` is what both have to say, in plain JSON; `detail` only goes on record."""

    action: str
    subject: str
    bound: Mapping[str, object]
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a word: who said the same before, or None where this is the first word now, and why."""

    first: str | None
    note: str = WAITS


def is_named(plan_hash: str, digits: str) -> bool:
    """Whether a plan or a list is named by its hash, or by enough of its first digits."""
    return len(digits) >= HASH_DIGITS and plan_hash.startswith(digits.lower())


def hear(
    session: Session, actor: Actor, terms: ApprovalTerms, word: Declaration, *, at: datetime, confirms: bool = True
) -> Heard:
    """Look for another person's word that says the same; where there is none, write this one down as the first.

    The caller holds what the word is about, so that nothing of it changes before the act is done. A word that
    `confirms` nothing is a first word, whatever others said. Raises Refused if the act names nobody.
    """
    if not person_of(actor.name):
        raise Refused(
            "Two people are asked for here, and this word names nobody. Nothing was changed.",
            hint="Say who you are: --actor NAME",
        )
    heard = _said_by_another(session, actor, terms, word, at) if confirms else Heard(None)
    if heard.first is None:
        until = at + timedelta(hours=terms.hours)
        detail = {**word.bound, **word.detail, "expires_at": iso(until)}
        note_signed(session, actor, word.action + PROPOSED, word.subject, at=at, detail=detail)
    return heard


def _said_by_another(session: Session, actor: Actor, terms: ApprovalTerms, wanted: Declaration, at: datetime) -> Heard:
    note, known = WAITS, known_now(session) if terms.signed else None
    for word in words_about(session, wanted.subject, wanted.action + PROPOSED):
        if are_one(word.actor, actor.name):
            continue
        said = json.loads(word.detail)
        # A word from before words expired is bound to too little, and counts for nothing.
        until = said.get("expires_at", "")
        is_same = all(name in said and said[name] == value for name, value in wanted.bound.items())
        counts = known is None or is_good(session, word, known)
        if is_same and counts and word.at <= farthest(at) and iso(at) < until:
            return Heard(word.actor)
        if note == WAITS and counts:
            note = _why_not(word, until if is_same else None, at)
    return Heard(None, note)


def _why_not(word: Event, expired_at: str | None, at: datetime) -> str:
    if word.at > farthest(at):
        return f"what {word.actor} said is dated {iso(word.at)}, which is to come, and counts for nothing: {WAITS}"
    if expired_at is not None:
        return f"what {word.actor} said expired at {expired_at}, and this is the first word now: {WAITS}"
    what = f"what {word.actor} said at {iso(word.at)} is something else, or is about how it stood then"
    return f"{what}; this is a first word too: {WAITS}"


def agreements_of_one(session: Session) -> Iterator[Violation]:
    """Acts of two people that one person did under two names, or that nobody had said before; for the audit."""
    for one in approvals.list_approved(session):
        if one.approved_by is not None and are_one(one.settled_by, one.approved_by):
            what = f"was settled by {one.settled_by} and released by {one.approved_by}, who is the same"
            yield Violation(one.market_id, what)
    for number, at, actor, action, subject, _, detail in stream_events(
        session, col(Event.detail).contains(f'"{FIRST}": ')
    ):
        first = detail.get(FIRST)
        if first is None or action.endswith(PROPOSED):
            continue
        if are_one(first, actor):
            yield Violation(f"event:{number}", f"{action} of {subject} is by {actor} and {first}, who is the same")
        elif not any(
            _is_first_word(said, detail, iso(at)) for said in _words_of(session, first, action, subject, number)
        ):
            yield Violation(
                f"event:{number}", f"{action} of {subject} is by {actor}, and {first} had not said the same"
            )


def _words_of(session: Session, actor: str, action: str, subject: str, before: int) -> Iterator[dict[str, object]]:
    for word in words_about(session, subject, action + PROPOSED):
        if word.actor == actor and (word.id or 0) < before:
            yield json.loads(word.detail)


def _is_first_word(said: Mapping[str, object], done: Mapping[str, object], at: str) -> bool:
    bound = said.keys() - _FREE
    return at < str(said.get("expires_at", "")) and all(said[name] == done.get(name) for name in bound)
