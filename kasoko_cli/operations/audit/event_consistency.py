"""What the record of acts says of people, markets, incidents, switches and payouts, held against their rows.

These rows change, so no digest of them is booked; but each change is an act, and the acts are chained. Whatever
a row says that no act said was written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from kasoko_cli.clock import iso
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.ledger import journal
from kasoko_cli.operations.records.privacy import ERASED_NAME, ERASED_PHONE
from kasoko_cli.operations.shared.violation import Violation
from kasoko_cli.store.engine import row_digests
from kasoko_cli.store.engine.bulk_rows import streamed
from kasoko_cli.store.log import BREAKER, RAISED, stream_events
from kasoko_cli.store.schema.tables import (
    APPEND_ONLY,
    Attempt,
    Callback,
    EntryRow,
    Event,
    Incident,
    Link,
    Market,
    Outcome,
    Payout,
    Query,
    Settlement,
    Switch,
    User,
)

#: Acts by which people are taken in, and by which what is known of them changes.
TAKEN_IN, CHANGED = ("user.add", "import.users"), ("user.set-phone", "user.erase")


def _details(session: Session, *actions: str, upgrade: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The subject and the detail of every event of these kinds, earliest first.

    Where an upgrade put on record what stood at that time, nothing before it counts.
    """
    since = sa.select(sa.func.coalesce(sa.func.max(col(Event.id)), 0)).where(col(Event.action) == upgrade)
    are_of_it = col(Event.action).in_((*actions, upgrade))
    for act in stream_events(session, are_of_it, col(Event.id) >= since.scalar_subquery()):
        yield act.subject, act.detail


def _latest(*actions: str) -> sa.Subquery:
    """The number of the last event of these kinds about each subject."""
    return (
        sa.select(col(Event.subject), sa.func.max(col(Event.id)).label("last"))
        .where(col(Event.action).in_(actions))
        .group_by(col(Event.subject))
        .subquery()
    )


# --- People -------------------------------------------------------------------------------------------------------


def people_are_as_recorded(session: Session) -> Iterator[Violation]:
    """Every user was taken in by an act that is on record, and has the name and the phone that acts gave."""
    batches = set[str]()
    for subject, detail in _details(session, *TAKEN_IN, upgrade="upgrade.users"):
        batch = str(detail.get("batch"))
        batches.add(batch)
        if row_digests.people_digest(session, batch) != detail.get("people"):
            yield Violation(subject, "those who were taken in by it are not those who stand here")
    last = _latest(*CHANGED)
    of_user = (getattr(User, name) for name in ("id", "name", "phone", "salt", "seal", "batch", "erased_at"))
    query = (
        sa.select(*of_user, col(Event.action), col(Event.detail))
        .outerjoin(last, last.c.subject == col(User.id))
        .outerjoin(Event, col(Event.id) == last.c.last)
        .order_by(col(User.id))
    )
    for user_id, name, phone, salt, seal, batch, erased_at, action, detail in streamed(session, query):
        if batch not in batches:
            yield Violation(user_id, "was taken in by no act that is on record")
        if action == "user.erase" or erased_at is not None:
            if (action, name, phone, salt) != ("user.erase", ERASED_NAME, ERASED_PHONE, None) or erased_at is None:
                yield Violation(user_id, "was erased, and the row says otherwise; or it says so, and nobody did it")
            continue
        known = seal if detail is None else json.loads(detail).get("seal")
        if row_digests.person_seal(salt, user_id, name, phone) != known:
            yield Violation(user_id, "has a name or a phone that no act gave")


# --- Markets ------------------------------------------------------------------------------------------------------


def markets_are_as_recorded(session: Session) -> Iterator[Violation]:
    """Every market has the question, outcomes and rules that it was opened with, and was closed and resolved by acts
    on record.
    """
    opened: dict[str, Any] = {}
    for subject, detail in _details(session, "market.add", "import.markets", upgrade="upgrade.markets"):
        opened |= detail["markets"] if "markets" in detail else {subject: detail.get("facts")}
    names: dict[str, list[tuple[int, str]]] = {}
    for market_id, number, name in session.execute(
        sa.select(col(Outcome.market_id), col(Outcome.number), col(Outcome.name))
    ):
        names.setdefault(market_id, []).append((number, name))
    for market in session.execute(sa.select(Market).order_by(col(Market.id))).scalars():
        values = (getattr(market, name) for name in row_digests.MARKET_FACTS)
        if opened.pop(market.id, None) != row_digests.market_digest(values, names.get(market.id, [])):
            yield Violation(market.slug, "its question, outcomes or rules are not those that it was opened with")
        yield from _ended_otherwise(session, market)
    for market_id in opened:
        yield Violation(market_id, "was opened, and is no longer there")


def _ended_otherwise(session: Session, market: Market) -> Iterator[Violation]:
    closed, resolved = dict[str, Any](), set[tuple[str, str]]()
    for act in stream_events(session, col(Event.subject) == market.id, col(Event.action).like("market.%")):
        if act.action == "market.close":
            closed = act.detail
        if "resolution" in act.detail:
            resolved.add((json.dumps(act.detail["resolution"], sort_keys=True), iso(act.at)))
    if market.closed_at is not None:
        stands = {
            "closed_at": iso(market.closed_at),
            "rules_digest": market.rules_digest,
            "bets_digest": market.bets_digest,
        }
        if any(closed.get(name) != value for name, value in stands.items()):
            yield Violation(market.slug, "it was not closed at the time, or with the bets and rules, that it says")
    says = (market.resolution, iso(market.resolved_at)) if market.resolved_at is not None else None
    if says is not None and says not in resolved:
        yield Violation(market.slug, "nobody resolved it as it says, at the time that it says")


# --- Incidents and switches ---------------------------------------------------------------------------------------


def incidents_are_as_recorded(session: Session) -> Iterator[Violation]:
    """Every incident that was raised stands as it was raised, and those that are closed were closed by somebody."""
    raised = dict(_details(session, RAISED, upgrade=""))
    acts = stream_events(session, col(Event.action) == "incident.close")
    closed = {(act.subject, act.actor, act.reason) for act in acts}
    for one in session.execute(sa.select(Incident).order_by(col(Incident.id))).scalars():
        name = f"incident:{one.id}"
        stands = row_digests.incident_facts(one.key, one.kind, one.what, one.payout_id, one.attempt_id, one.callback_id)
        if raised.pop(name, {}).get("facts") != stands:
            yield Violation(name, "is not the one that was raised")
        if one.closed_at is not None and (name, one.closed_by, one.close_reason) not in closed:
            yield Violation(name, f"is closed by {one.closed_by}, and the record knows nothing of it")
        if one.answered_by is not None and not _is_answered(session, one):
            yield Violation(name, "holds nothing back, and no answer of M-Pesa's since says why")
        if one.closed_at is None and any(subject == name for subject, _, _ in closed):
            yield Violation(name, "stands open, and the record says that it was closed")
    for name, detail in raised.items():
        yield Violation(name, f"was raised ({detail.get('key')}), and is no longer there")


def _is_answered(session: Session, one: Incident) -> bool:
    """Whether M-Pesa has answered the question that settled it, which was asked about the same attempt."""
    query = session.get(Query, one.answered_by)
    return (
        query is not None
        and query.attempt_id == one.attempt_id
        and query.answer in ("NOT_PAID", "NOT_FOUND", "COMPLETED")
    )


def switches_are_as_recorded(session: Session) -> Iterator[Violation]:
    """Sending is paused or let go as acts on record left it."""
    on: dict[str, bool] = {}
    turned = col(Event.action).in_(("pause", BREAKER, "resume"))
    for act in stream_events(session, col(Event.subject) == "sending", turned):
        if act.action == "resume":
            on |= dict.fromkeys(act.detail.get("were_on", ()), False)
        else:
            on[act.action] = True
    stand = {row[0]: row[1] for row in session.execute(sa.select(col(Switch.name), col(Switch.is_on)))}
    for name in sorted(stand.keys() | on.keys()):
        if stand.get(name, False) != on.get(name, False):
            yield Violation(name, f"is {'on' if stand.get(name) else 'off'}, and the record says otherwise")


# --- Payouts ------------------------------------------------------------------------------------------------------


#: What may have become of a payout that was held, without anybody letting it go: an earlier attempt of it turned
#: out to have been paid, or its outcome was overridden.
_HELD_OR_ENDED = (PayoutStatus.HELD, PayoutStatus.COMPLETED, PayoutStatus.RETURNED, PayoutStatus.CANCELED)


#: Acts that make what failed due again.
_MADE_DUE = ("payout.retry", "payout.release")


def _made_due_after(session: Session, payout_id: str, released: str) -> bool:
    """Whether an act made it due again after its failure was booked, by the chain: a clock may have been wrong."""

    def place(kind: str, row: sa.ScalarSelect[Any]) -> sa.ScalarSelect[Any]:
        within = sa.and_(
            col(Link.chain) == "books", col(Link.kind) == kind, row.between(col(Link.first), col(Link.last))
        )
        return sa.select(col(Link.number)).where(within).scalar_subquery()

    entry = sa.select(col(EntryRow.id)).where(col(EntryRow.key) == released).scalar_subquery()
    act = sa.select(sa.func.max(col(Event.id))).where(col(Event.subject) == payout_id, col(Event.action).in_(_MADE_DUE))
    later = sa.select(place("events", act.scalar_subquery()) > place("entries", entry))
    return bool(session.execute(later).scalar())


def payouts_are_as_recorded(session: Session) -> Iterator[Violation]:
    """No payout that was held or had failed is due again without somebody who let it go."""
    acts = aliased(Event)
    last = _latest("payout.hold", "payout.release", "payout.retry", "payout.to-wallet")
    held = (
        sa.select(col(Payout.id), col(Payout.status))
        .join(last, last.c.subject == col(Payout.id))
        .join(acts, col(acts.id) == last.c.last)
        .where(col(acts.action) == "payout.hold", col(Payout.status).not_in(_HELD_OR_ENDED))
    )
    for payout_id, status in session.execute(held.order_by(col(Payout.id))):
        yield Violation(payout_id, f"was held, and is {status}: nobody let it go")
    other = aliased(Attempt)
    number = sa.select(sa.func.max(col(other.number))).where(col(other.payout_id) == col(Payout.id))
    again = (
        sa.select(col(Payout.id), col(Attempt.id), col(Attempt.sends), col(Attempt.wire_cents))
        .join(
            Attempt, sa.and_(col(Attempt.payout_id) == col(Payout.id), col(Attempt.number) == number.scalar_subquery())
        )
        .outerjoin(
            acts,
            sa.and_(
                col(acts.subject) == col(Payout.id),
                col(acts.action).in_(_MADE_DUE),
                col(acts.at) >= col(Attempt.status_at),
            ),
        )
        .where(
            col(Payout.status) == PayoutStatus.PENDING,
            col(Attempt.status) == AttemptStatus.FAILED,
            col(acts.id).is_(None),
        )
    )
    for payout_id, *failed in session.execute(again.order_by(col(Payout.id))):
        if not _made_due_after(session, payout_id, journal.released(*failed).key):
            yield Violation(payout_id, "failed and is due again, and nobody made it so")
    moved = (
        sa.select(col(Payout.id))
        .join(
            Settlement,
            sa.and_(
                col(Settlement.market_id) == col(Payout.market_id), col(Settlement.number) == col(Payout.settlement_no)
            ),
        )
        .where(col(Payout.created_at) != col(Settlement.settled_at))
    )
    for (payout_id,) in streamed(session, moved.order_by(col(Payout.id))):
        yield Violation(payout_id, "was owed at another time than its settlement")


def results_are_kept(session: Session) -> Iterator[Violation]:
    """The body of a result is there, unless it expired or the person it is about was erased."""
    expired = [datetime.fromisoformat(detail["before"]) for _, detail in _details(session, "db.expire", upgrade="")]
    about = (
        sa.select(col(Attempt.id))
        .join(Payout, col(Payout.id) == col(Attempt.payout_id))
        .join(User, col(User.id) == col(Payout.user_id))
        .where(col(User.erased_at).is_not(None))
    )
    asked = sa.select(col(Query.id)).where(col(Query.attempt_id).in_(about))
    gone = sa.select(col(Callback.id)).where(
        col(Callback.salt).is_(None), col(Callback.subject).not_in(about), col(Callback.subject).not_in(asked)
    )
    if expired:
        gone = gone.where(col(Callback.received_at) >= max(expired))
    for (number,) in streamed(session, gone.order_by(col(Callback.id))):
        yield Violation(f"callback:{number}", "has lost its body, and nobody dropped it")


def what_is_written_once_is_guarded(session: Session) -> Iterator[Violation]:
    """The database itself refuses to change what is written once."""
    if session.get_bind().dialect.name == "postgresql":
        stand = sa.text("SELECT tgname FROM pg_trigger WHERE tgenabled <> 'D'")
        wanted = {f"{table}_append_only": table for table in APPEND_ONLY}
    else:
        stand = sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        wanted = {f"{table}_append_only_{act}": table for table in APPEND_ONLY for act in ("update", "delete")}
    there = set(session.execute(stand).scalars())
    for name, table in wanted.items():
        if name not in there:
            yield Violation(table, f"its trigger {name} is gone: anybody with the database's password can edit it")
