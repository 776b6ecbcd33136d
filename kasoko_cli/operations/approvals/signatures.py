"""Whose signature an act carries, and whether that is a person who may: each has a key of their own.

Keys are added and removed by events, which nobody can change, so that old signatures can still be checked. What is
signed is the act as it stands on record: deployment, time, name, what was done to what, why, and all that it is bound
to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlmodel import Session, col

from kasoko_cli.domain.keys import is_signed, public_key_of, sign
from kasoko_cli.domain.same_person import person_of
from kasoko_cli.errors import Refused
from kasoko_cli.operations.shared.actor import Actor, note_act
from kasoko_cli.operations.shared.violation import Violation
from kasoko_cli.store.engine import hash_chain
from kasoko_cli.store.log import EventFacts, is_raised, note_event, stream_events
from kasoko_cli.store.schema.tables import Event

#: What the record of keys is about, and its acts; the last says that from here on everything has to be signed.
SUBJECT, ADD, REMOVE, REQUIRE = "approvers", "approver.add", "approver.remove", "approver.require"
#: What the name of an act carries while it is only the first one's word.
PROPOSED = ".proposed"
#: What an act that two people did says of the first of them; where an act says whose key signed it, and how.
FIRST, SIGNATURE = "first", "signature"
#: Acts that are signed, where that is asked; an override only where it needs two.
APPROVE, DECIDE, DECIDE_ALL, OVERRIDE = "settlement.approve", "payout.decide", "payouts.decide", "market.override"
_ACTS = tuple(one for act in (APPROVE, DECIDE, DECIDE_ALL, OVERRIDE, ADD) for one in (act, act + PROPOSED))
#: How an incident about a key that was removed without a signature begins.
REMOVED = "approver-removed:"


@dataclass(frozen=True, slots=True)
class Approver:
    """Somebody whose signature counts, or counted until `removed_at`; the name is as it was given."""

    name: str
    public_key: str
    added_at: datetime
    added_by: str
    removed_at: datetime | None = None


@dataclass(slots=True)
class KnownApprovers:
    """Whose signatures count at one point of the record.

    `required` is whether everything has to be signed from here on. `were_two` is whether two have ever been known
    since there was none: then it takes two to add one. `keys` are all that were ever added.
    """

    people: dict[str, Approver] = field(default_factory=dict)
    removed: list[Approver] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    required: bool = False
    were_two: bool = False

    def take_in(self, word: EventFacts) -> None:
        """Apply one event about the keys."""
        if word.action == REQUIRE:
            self.required = True
        elif word.action == ADD:
            name, key = str(word.detail["name"]), str(word.detail["public_key"])
            self.people[person_of(name)] = Approver(name, key, word.at, word.actor)
            self.keys.add(key)
            self.were_two |= len(self.people) > 1
        elif word.action == REMOVE and (gone := self.people.pop(person_of(str(word.detail["name"])), None)):
            self.removed.append(replace(gone, removed_at=word.at))
            if not self.people:
                self.required = self.were_two = False


def known_now(session: Session) -> KnownApprovers:
    """Whose signatures count now."""
    known = KnownApprovers()
    for word in stream_events(session, col(Event.subject) == SUBJECT, col(Event.action).in_((ADD, REMOVE, REQUIRE))):
        known.take_in(word)
    return known


# --- Signing --------------------------------------------------------------------------------------------------------


def note_signed(
    session: Session, actor: Actor, action: str, subject: str, *, at: datetime, detail: Mapping[str, object]
) -> None:
    """Write down a person's act, signed if they sign."""
    told = dict(detail)
    if actor.key is not None:
        word = EventFacts(0, at, actor.name, action, subject, actor.reason, told)
        signature = sign(actor.key, text_of(word, hash_chain.deployment_of(session)))
        told[SIGNATURE] = {"public_key": public_key_of(actor.key), "value": signature}
    note_act(session, actor, action, subject, at=at, detail=told)


def text_of(word: EventFacts, deployment: str) -> bytes:
    """What is signed of an act: all that is on record of it, in canonical form."""
    plain = {name: value for name, value in word.detail.items() if name != SIGNATURE}
    who_did_what = (word.actor, word.action, word.subject, word.reason)
    parts = ["kasoko act 1", deployment, hash_chain.stamp(word.at), *who_did_what, plain]
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def hold_signed(session: Session, actor: Actor, *, wanted: bool, at: datetime, what: str) -> None:
    """Raise Refused unless an act is signed by a known person under their own name, where it has to be.

    `wanted` is the setting; where it asks for less than this database was told to, that is refused too. A signature
    that is given though nobody asks for one has to be good as well.
    """
    known = known_now(session)
    if known.required and not wanted:
        raise Refused(
            f"{what} has to be signed here, and these settings do not ask for it. Nothing was changed.",
            hint="Use the settings with approval.signed = true. How signing is given up: kasoko help people",
        )
    if actor.key is None:
        if wanted:
            raise Refused(
                f"{what} has to be signed: approval.signed. Nothing was changed.",
                hint="Sign it with your key: --sign-with FILE, or approval.key_file (KASOKO_APPROVER_KEY_FILE)."
                " You have none? kasoko approver key --output FILE",
            )
        return
    if (why := _why_not(known, actor.name, public_key_of(actor.key))) is not None:
        raise Refused(f"{what} was not taken: {why}. Nothing was changed.", hint="Who signs: kasoko approver list")
    if wanted and not known.required:
        note_event(session, at=at, actor=actor.name, action=REQUIRE, subject=SUBJECT)


def _why_not(known: KnownApprovers, actor: str, public_key: str) -> str | None:
    """Why a key does not sign for this name."""
    approver = known.people.get(person_of(actor))
    if approver is None:
        return f"{actor} is no approver"
    if approver.public_key != public_key:
        return f"it is signed with another key than that of {approver.name}"
    return None


def trouble_with(word: EventFacts, known: KnownApprovers, deployment: str) -> str | None:
    """Why the signature of an act is not good; None where it is."""
    given = word.detail.get(SIGNATURE)
    if not isinstance(given, dict):
        return "is not signed"
    public_key, value = str(given.get("public_key")), str(given.get("value"))
    if (why := _why_not(known, word.actor, public_key)) is not None:
        return f"has a signature that does not count: {why}"
    try:
        holds = is_signed(public_key, value, text_of(word, deployment))
    except ValueError:
        holds = False
    return None if holds else f"has a signature that {word.actor} did not give, or was changed after it was given"


def is_good(session: Session, event: Event, known: KnownApprovers) -> bool:
    """Whether an event carries a signature that counts now."""
    word = EventFacts(0, event.at, event.actor, event.action, event.subject, event.reason, json.loads(event.detail))
    return trouble_with(word, known, hash_chain.deployment_of(session)) is None


# --- Checking -------------------------------------------------------------------------------------------------------


def bad_signatures(session: Session) -> Iterator[Violation]:
    """Acts whose signature is missing, forged, used before, or by somebody who was no approver; for the audit."""
    if not known_now(session).keys:
        return
    deployment, known, used = hash_chain.deployment_of(session), KnownApprovers(), set[str]()
    for word in stream_events(session, col(Event.action).in_((*_ACTS, REMOVE, REQUIRE))):
        trouble = trouble_with(word, known, deployment) if _has_to_hold(session, word, known) else None
        # A first word may be said twice; who did an act did it once.
        if SIGNATURE in word.detail and not word.action.endswith(PROPOSED):
            value = json.dumps(word.detail[SIGNATURE])
            if trouble is None and value in used:
                trouble = "has a signature that another act has too"
            used.add(value)
        if trouble is not None:
            yield Violation(f"event:{word.number}", f"{word.action} of {word.subject} by {word.actor} {trouble}")
        if word.subject == SUBJECT:
            known.take_in(word)


def _has_to_hold(session: Session, word: EventFacts, known: KnownApprovers) -> bool:
    """Whether an act has to be signed, or says that it is."""
    if SIGNATURE in word.detail:
        return True
    if not known.required or word.action == REQUIRE:
        return False
    if word.action == ADD:
        return bool(known.people)
    if word.action == REMOVE:
        # Without a signature it goes where the settings ask for none any more, and an incident says so.
        return not is_raised(session, f"{REMOVED}{word.detail['public_key']}")
    return word.action != OVERRIDE or FIRST in word.detail
