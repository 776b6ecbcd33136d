"""Who acts, and why: handed to every operation that changes something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.domain.phone import mask_in
from kasoko_cli.errors import Refused
from kasoko_cli.store.log import note_event


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it and the reason given; both are written down with what was done.

    What is written down once cannot be changed when a person is erased: a phone in a reason is masked here.
    Spaces around a name are no part of it. `key` is what they sign with, where they sign: a private key of 32 bytes.
    """

    name: str
    reason: str = ""
    key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Mask what looks like a phone in the reason, and take the name as it is meant."""
        object.__setattr__(self, "name", " ".join(self.name.split()))
        object.__setattr__(self, "reason", mask_in(self.reason))


def needs_reason(actor: Actor, what: str) -> None:
    """Raise Refused unless a reason was given."""
    if not actor.reason.strip():
        raise Refused(
            f"{what} needs a reason, for whoever reads the record. Nothing was changed.", hint="Add --reason 'why'"
        )


def note_act(
    session: Session,
    actor: Actor,
    action: str,
    subject: str,
    *,
    at: datetime,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write down what the actor did to the subject, and their reason, in the transaction that does it."""
    note_event(session, at=at, actor=actor.name, action=action, subject=subject, reason=actor.reason, detail=detail)
