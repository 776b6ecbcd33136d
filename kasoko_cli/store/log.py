"""What is written down beside the books: who did what, what a person must look at, which calls were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import func, update
from sqlalchemy.exc import ProgrammingError
from sqlmodel import Session, col, select

from kasoko_cli.errors import ConfigurationError
from kasoko_cli.store.engine import hash_chain
from kasoko_cli.store.engine.bulk_rows import streamed
from kasoko_cli.store.engine.changes import change, insert_into
from kasoko_cli.store.engine.locking import rows_in, where_given
from kasoko_cli.store.engine.row_digests import incident_facts
from kasoko_cli.store.schema.tables import Callback, Event, Exchange, Incident, IncidentEvidence, Payout, Switch

#: Who acts where no person does, and what the program itself writes down.
MACHINE, RAISED, BREAKER = "kasoko", "incident.raise", "breaker"
#: The act of putting a copy back.
RESTORE = "db.restore"


#: The incident of a request that left although its attempt had been ended as not paid.
LATE_ACKNOWLEDGEMENT = "late_acknowledgement"
#: The incident of a market that the platform has otherwise, and how its key begins; the market's id follows.
PLATFORM = "platform"


def note_event(
    session: Session,
    *,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str = "",
    detail: Mapping[str, object] | None = None,
) -> None:
    """Write down an act: who, what, to which thing, why. It is written, and chained, when the transaction commits."""
    hash_chain.take_in_event(
        session,
        {
            "at": at,
            "actor": actor,
            "action": action,
            "subject": subject,
            "reason": reason,
            "detail": json.dumps(detail or {}, sort_keys=True, ensure_ascii=False),
        },
    )


def list_events(
    session: Session,
    *,
    subjects: Collection[str] | None = None,
    actor: str | None = None,
    since: datetime | None = None,
    after: int | None = None,
    limit: int,
) -> Sequence[Event]:
    """The last acts, latest first; or with `after` the next ones behind that number, earliest first."""
    query = select(Event).where(*where_given((col(Event.actor), actor)))
    if subjects is not None:
        query = query.where(col(Event.subject).in_(subjects))
    if since is not None:
        query = query.where(col(Event.at) >= since)
    if after is None:
        query = query.order_by(col(Event.id).desc())
    else:
        query = query.where(col(Event.id) > after).order_by(col(Event.id))
    return session.exec(query.limit(limit)).all()


class EventFacts(NamedTuple):
    """An act as it stands on record."""

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    detail: dict[str, Any]


def stream_events(session: Session, *where: sa.ColumnElement[bool]) -> Iterator[EventFacts]:
    """The acts of which all this holds, earliest first."""
    columns = (Event.id, Event.at, Event.actor, Event.action, Event.subject, Event.reason, Event.detail)
    query = sa.select(*map(col, columns)).where(*where).order_by(col(Event.id))
    for *plain, detail in streamed(session, query):
        yield EventFacts._make((*plain, json.loads(detail)))


def words_about(session: Session, subject: str, action: str) -> Sequence[Event]:
    """What was said of one thing under one name, latest first."""
    query = select(Event).where(col(Event.subject) == subject, col(Event.action) == action)
    return session.exec(query.order_by(col(Event.id).desc())).all()


def is_raised(session: Session, key: str) -> bool:
    """Whether an incident with this key was ever raised."""
    return session.exec(select(col(Incident.id)).where(col(Incident.key) == key)).first() is not None


def was_called(session: Session, subject: str, at: datetime) -> bool:
    """Whether a call about this, made at this time, stands in the log."""
    query = select(col(Exchange.id)).where(col(Exchange.subject) == subject, col(Exchange.at) == at)
    return session.exec(query).first() is not None


class Restore(NamedTuple):
    """A copy that was put back: when, when it was last written to, and which B2C was used then."""

    at: datetime
    copy_at: datetime
    api: str


def last_restore(session: Session) -> Restore | None:
    """The last time that this database was replaced by a copy; None where it never was."""
    query = select(Event).where(col(Event.subject) == "database", col(Event.action) == RESTORE)
    event = session.exec(query.order_by(col(Event.id).desc()).limit(1)).first()
    if event is None:
        return None
    detail = json.loads(event.detail)
    return Restore(event.at, datetime.fromisoformat(detail["copy_at"]), detail.get("api", "v3"))


class KnownIncident(NamedTuple):
    """An incident by its number, and whether a person has closed it."""

    number: int
    kind: str
    payout_id: str | None
    is_closed: bool


def incidents_by_key(session: Session) -> dict[str, KnownIncident]:
    """The latest incident of each key, the closed ones too."""
    found = sa.select(
        col(Incident.key), col(Incident.id), col(Incident.kind), col(Incident.payout_id), col(Incident.closed_at)
    ).order_by(col(Incident.id))
    return {
        key: KnownIncident(number, kind, payout_id, closed_at is not None)
        for key, number, kind, payout_id, closed_at in session.execute(found)
        if number is not None
    }


class Asking(StrEnum):
    """Incidents that anybody can raise who knows a callback address: what they begin their keys with.

    A question to M-Pesa about the attempt answers them, if it is asked after the latest evidence.
    """

    MISMATCH = "mismatch"
    UNREADABLE = "unreadable"
    HINT = "hint-after-end"


def raise_incident(
    session: Session,
    *,
    key: str,
    kind: str,
    what: str,
    at: datetime,
    payout_id: str | None = None,
    attempt_id: str | None = None,
    callback_id: int | None = None,
    evidence: str | None = None,
) -> bool:
    """Raise an incident, or count it where one with this key stands already; returns whether it is new.

    `key` is what it is about, and the kind of it. `evidence` is what speaks for it, in short: the body of the
    callback where that is left out, or else the key itself. Evidence that a person has dealt with raises nothing;
    evidence that is new raises another incident once the last one was closed.
    """
    seen = evidence or (key if callback_id is None else _digest_of(session, callback_id))
    is_new = (
        session.execute(
            insert_into(session, IncidentEvidence)
            .values(key=key, evidence=seen, seen_at=at)
            .on_conflict_do_nothing(index_elements=["key", "evidence"])
            .returning(col(IncidentEvidence.key))
        ).scalar()
        is not None
    )
    if (is_new or callback_id is not None) and _count_again(session, key, what, at, callback_id, is_new=is_new):
        return False
    if not is_new:
        return False
    number = session.execute(
        insert_into(session, Incident)
        .values(
            key=key,
            kind=kind,
            what=what,
            payout_id=payout_id,
            attempt_id=attempt_id,
            callback_id=callback_id,
            opened_at=at,
            last_at=at,
            latest=what,
            latest_callback_id=callback_id,
        )
        .on_conflict_do_nothing(index_elements=["key"], index_where=_STANDS)
        .returning(col(Incident.id))
    ).scalar()
    if number is None:
        # Somebody else has raised it at the same time.
        _count_again(session, key, what, at, callback_id, is_new=True)
        return False
    note_event(
        session,
        at=at,
        actor=MACHINE,
        action=RAISED,
        subject=f"incident:{number}",
        reason=kind,
        detail={"key": key, "facts": incident_facts(key, kind, what, payout_id, attempt_id, callback_id)},
    )
    return True


def _digest_of(session: Session, callback_id: int) -> str:
    body = session.exec(select(col(Callback.body)).where(col(Callback.id) == callback_id)).one()
    return hashlib.sha256(body).hexdigest()[:16]


def _count_again(session: Session, key: str, what: str, at: datetime, callback_id: int | None, *, is_new: bool) -> bool:
    """Count what has happened again in the incident that stands; returns whether one does.

    A callback that is judged anew is not counted anew. What is new has to be asked about again.
    """
    values: dict[str, Any] = {
        "count": col(Incident.count) + 1,
        "last_at": at,
        "latest": what,
        "latest_callback_id": callback_id,
    }
    which = update(Incident).where(
        col(Incident.key) == key,
        col(Incident.closed_at).is_(None),
        col(Incident.latest_callback_id).is_distinct_from(callback_id) if callback_id is not None else sa.true(),
    )
    return change(session, which.values(values | ({"answered_by": None} if is_new else {}))) == 1


#: The incidents that stand, and of these the ones that hold back what is owed: no answer of M-Pesa's has settled them.
_STANDS = col(Incident.closed_at).is_(None)
_HOLDS = sa.and_(_STANDS, col(Incident.answered_by).is_(None))
_MAY_BE_ANSWERED = sa.or_(*(col(Incident.key).startswith(f"{one}:", autoescape=True) for one in Asking))


def answer_incidents(session: Session, attempt_id: str, *, query_id: str, asked_at: datetime, now: datetime) -> int:
    """M-Pesa, asked, says what the books have: what anybody could have posted before holds nothing back any more.

    Only what may be answered, and whose latest evidence came before the question. Of a question that a clock which
    ran ahead asked nobody knows what came before it. Returns how many.
    """
    if asked_at > now:
        return 0
    which = update(Incident).where(
        _HOLDS, col(Incident.attempt_id) == attempt_id, col(Incident.last_at) <= asked_at, _MAY_BE_ANSWERED
    )
    return change(session, which.values(answered_by=query_id))


def to_be_asked(session: Session, *, market_id: str | None = None) -> dict[str, datetime]:
    """The attempts about which M-Pesa has to be asked since an incident holds their payouts, and since when."""
    query = select(col(Incident.attempt_id), func.max(col(Incident.last_at))).where(_HOLDS, _MAY_BE_ANSWERED)
    if market_id is not None:
        query = query.join(Payout, col(Payout.id) == col(Incident.payout_id)).where(col(Payout.market_id) == market_id)
    found = session.exec(query.where(col(Incident.attempt_id).is_not(None)).group_by(col(Incident.attempt_id)))
    return {attempt_id: since for attempt_id, since in found if attempt_id is not None}


def open_incidents(
    session: Session,
    *,
    payout_id: str | None = None,
    market_id: str | None = None,
    kind: str | None = None,
    before: datetime | None = None,
) -> Sequence[Incident]:
    """Incidents that nobody has closed, oldest first: of one payout, of one market, of one kind, or all.

    `before` leaves out those whose latest evidence came at that time or later.
    """
    of = where_given((col(Incident.payout_id), payout_id), (col(Incident.kind), kind))
    query = select(Incident).where(_STANDS, *of).order_by(col(Incident.id))
    if market_id is not None:
        query = query.join(Payout, col(Payout.id) == col(Incident.payout_id)).where(col(Payout.market_id) == market_id)
    if before is not None:
        query = query.where(col(Incident.last_at) < before)
    return session.exec(query).all()


def raise_platform_incident(session: Session, market_id: str, *, what: str, at: datetime) -> bool:
    """The platform has something of this market otherwise, and `what` is the evidence; returns whether that is new."""
    return raise_incident(session, key=f"{PLATFORM}:{market_id}", kind=PLATFORM, what=what, at=at, evidence=what)


def platform_incident(session: Session, market_id: str) -> Incident | None:
    """The incident that stands since the platform lacks something of this market, or ended it; None if none does."""
    return session.exec(select(Incident).where(_STANDS, col(Incident.key) == f"{PLATFORM}:{market_id}")).first()


def incidents_about(session: Session, payout_id: str) -> Sequence[Incident]:
    """Every incident about a payout, closed ones too, oldest first."""
    return session.exec(select(Incident).where(col(Incident.payout_id) == payout_id).order_by(col(Incident.id))).all()


class Standing(NamedTuple):
    """An incident that holds its payout back; `is_asked` where M-Pesa's answer is enough to settle it."""

    number: int
    is_asked: bool


def incidents_of(session: Session, payout_ids: Sequence[str]) -> dict[str, list[Standing]]:
    """The incidents that hold back each of these payouts, oldest first; only those that have any."""
    found: dict[str, list[Standing]] = {}
    query = sa.select(col(Incident.payout_id), col(Incident.id), _MAY_BE_ANSWERED).where(_HOLDS)
    for payout_id, number, is_asked in rows_in(
        session, query.order_by(col(Incident.id)), col(Incident.payout_id), payout_ids
    ):
        found.setdefault(payout_id, []).append(Standing(number, bool(is_asked)))
    return found


def close_incident(session: Session, incident_id: int, *, by: str, reason: str, at: datetime) -> bool | None:
    """Close an incident that stands; returns whether this call did it, None where there is no such incident."""
    which = update(Incident).where(col(Incident.id) == incident_id, col(Incident.closed_at).is_(None))
    closed = change(session, which.values(closed_at=at, closed_by=by, close_reason=reason))
    if closed == 1:
        return True
    known = session.exec(select(col(Incident.id)).where(col(Incident.id) == incident_id)).first()
    return None if known is None else False


def switches_on(session: Session) -> Sequence[Switch]:
    """The switches that forbid sending now: the pause before the breaker."""
    return session.exec(select(Switch).where(col(Switch.is_on)).order_by(col(Switch.name).desc())).all()


def switch_on(session: Session) -> Switch | None:
    """The switch that forbids sending, if one is on."""
    return next(iter(switches_on(session)), None)


def set_switch(session: Session, name: str, *, is_on: bool, reason: str, actor: str, at: datetime) -> None:
    """Turn a switch on or off for all hosts; of two at once the last word stands."""
    values = {"is_on": is_on, "reason": reason, "actor": actor, "at": at}
    session.exec(
        insert_into(session, Switch)
        .values(name=name, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
    )
    if name == BREAKER and is_on:  # people say themselves what they do
        note_event(session, at=at, actor=actor, action=BREAKER, subject="sending", reason=reason)


def check_may_pause(session: Session) -> None:
    """See that who sends could also stop all sending: nothing is written.

    Raises:
        ConfigurationError: the database's role may not.
    """
    nothing = select(Switch).where(sa.false())
    try:
        session.execute(sa.insert(Switch).from_select(list(Switch.model_fields), nothing))
        session.execute(sa.update(Switch).where(sa.false()).values(reason=""))
    except ProgrammingError as error:
        raise ConfigurationError(
            "This role of the database could not pause sending (kasoko pause), so that it may not send either."
            " Nothing was sent.",
            hint="Let it write every table of kasoko: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ...",
        ) from error


def pause_sending(session: Session, *, reason: str, actor: str, at: datetime) -> None:
    """Stop all sending, on every host, and write down who did it."""
    set_switch(session, "pause", is_on=True, reason=reason, actor=actor, at=at)
    note_event(session, at=at, actor=actor, action="pause", subject="sending", reason=reason)


def acts_about(session: Session, payout_id: str) -> Sequence[Event]:
    """What people did to a payout or to an incident about it, earliest first."""
    incidents = session.exec(select(col(Incident.id)).where(col(Incident.payout_id) == payout_id)).all()
    subjects = [payout_id, *(f"incident:{number}" for number in incidents)]
    acts = select(Event).where(col(Event.subject).in_(subjects), col(Event.action) != RAISED)
    return session.exec(acts.order_by(col(Event.id))).all()


def calls_about(session: Session, attempt_id: str) -> Sequence[Exchange]:
    """The requests to pay that were made for an attempt, earliest first."""
    query = select(Exchange).where(col(Exchange.subject) == attempt_id, col(Exchange.kind) == "b2c")
    return session.exec(query.order_by(col(Exchange.id))).all()
