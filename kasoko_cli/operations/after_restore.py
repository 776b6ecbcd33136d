"""After a copy was put back: nobody is paid again for what the lost hours had paid.

A copy does not know what was sent after it was taken. The id of an attempt is a function of what is owed,
so this database can say under which id each payout may have been sent since, and M-Pesa refuses every id
that it has taken before. On top of that, nothing goes out until M-Pesa was asked about that id, or a
statement covers the time: an attempt stands for each such id, with no money in flight and the mark
`restored:TIME`, and its payout is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import func, update
from sqlmodel import Session, col, select

from kasoko_cli.clock import Clock, NewId, iso
from kasoko_cli.daraja.client import DarajaClient
from kasoko_cli.daraja.links import Links
from kasoko_cli.domain.payer import Payer
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, originator_id
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.operations import guard
from kasoko_cli.operations.accounts import NOT_SENT_SINCE, hold_to_account, wrong_account
from kasoko_cli.operations.acts import Act
from kasoko_cli.operations.belief import known_id
from kasoko_cli.operations.guard import Caution, Way, is_doubted
from kasoko_cli.operations.reconcile import Asked, ask_about
from kasoko_cli.store import accounts, attempts, bulk, outbox, payouts, users
from kasoko_cli.store.database import Database
from kasoko_cli.store.log import note_event, pause_sending, raise_incident
from kasoko_cli.store.statements import RESTORED
from kasoko_cli.store.tables import (
    Attempt,
    Callback,
    Deployment,
    EntryRow,
    Event,
    Exchange,
    Payout,
    Query,
)

#: How the reason of a payout begins that is held because of a restored copy.
HELD_SINCE = "restored from a copy of "
#: Payouts that may have been sent since the copy was taken.
UNSENT = frozenset(
    {
        PayoutStatus.PENDING,
        PayoutStatus.HELD,
        PayoutStatus.AWAITING_APPROVAL,
        PayoutStatus.FAILED,
        PayoutStatus.RETURNED,
    }
)
#: Answers of M-Pesa after which the id may be used: it never took it, or refuses it by itself.
NOT_PAID_BY_IT = frozenset({"NOT_FOUND", "NOT_PAID"})


@dataclass(frozen=True, slots=True)
class Held:
    """What was stopped in a restored copy: when it was last written to, and how many payouts."""

    copy_at: datetime
    held: int
    doubted: int
    wire_cents: int


@dataclass(frozen=True, slots=True)
class Doubted:
    """A payout that may have been paid since the copy was taken, and what M-Pesa said of its id."""

    payout_id: str
    status: str
    attempt_id: str
    wire_cents: int
    copy_at: str
    answer: str
    can_be_asked: bool


@dataclass(frozen=True, slots=True)
class AfterRestore:
    """Whether it is proven that nobody is paid again; `doubted` has what is not."""

    ok: bool
    doubted: list[Doubted]
    asked: list[Asked]
    let_go: int
    found_paid: int


def last_written(session: Session) -> datetime | None:
    """When this database was last written to, by its youngest row; None where it has none."""
    columns = (
        col(EntryRow.at),
        col(Event.at),
        col(Exchange.at),
        col(Callback.received_at),
        col(Attempt.status_at),
        col(Payout.updated_at),
        col(Query.asked_at),
    )
    times = [session.execute(sa.select(func.max(column))).scalar() for column in columns]
    return max((at for at in times if at is not None), default=None)


def hold_unsent(session: Session, act: Act, *, api: str, payer: Payer | None = None, now: datetime) -> Held:
    """Stop everything in a restored copy that may have been sent since, and note the ids it would have had.

    The account that paid when the copy was taken has to be asked about them. Where `payer`, whose account the
    settings are of, is another one, that one may have paid since as well, and a person has to look at each.
    """
    copy_at = last_written(session) or now
    mark = f"{RESTORED}{iso(copy_at)}"
    found = [one for one in payouts.list_payouts(session, statuses=UNSENT) if one.wire_cents]
    last = attempts.last_attempts(session, [one.id for one in found])
    people = users.known_users(session, {one.user_id for one in found})
    deployment = session.exec(select(col(Deployment.deployment_id))).one()
    current = accounts.in_force(session)
    account_id = None if current is None else current.id
    if current is None and payer is not None:
        account_id = accounts.ensure(session, payer, at=now)
        accounts.put_in_force(session, account_id)
    rows = []
    for payout in found:
        before = last.get(payout.id)
        is_rejected = before is not None and before.status is AttemptStatus.REJECTED
        if before is not None and is_rejected and before.account_id == account_id:
            _mark(session, before.id, mark, at=now)
        elif before is None or is_rejected or before.status in (AttemptStatus.FAILED, AttemptStatus.RETURNED):
            number = 1 if before is None else before.number + 1
            row = _attempt(payout, people[payout.user_id].phone, deployment, number, api, mark, copy_at, now)
            rows.append(row | {"account_id": account_id})
        if current is not None and payer not in (None, current.payer):
            _raise_two_accounts(session, payout.id, current.payer, payer, at=now)
    bulk.insert_rows(session, Attempt, rows)
    held = session.exec(
        update(Payout)
        .where(col(Payout.status) == PayoutStatus.PENDING)
        .values(status=PayoutStatus.HELD, note=f"{HELD_SINCE}{iso(copy_at)}", updated_at=now, not_before=None)
        .execution_options(synchronize_session=False)
    )
    outbox.note_all(session, at=now)  # the platform may have been told since how things stood that are forgotten here
    why = f"{HELD_SINCE}{iso(copy_at)}: first kasoko doctor --after-restore"
    pause_sending(session, reason=why, actor=act.actor, at=now)
    note_event(
        session,
        at=now,
        actor=act.actor,
        action="db.restore",
        subject="database",
        reason=act.reason,
        detail={"copy_at": iso(copy_at), "held": held.rowcount, "doubted": len(found)},
    )
    return Held(copy_at, held.rowcount, len(found), sum(one.wire_cents for one in found))


def _raise_two_accounts(session: Session, payout_id: str, then: Payer, now_is: Payer, *, at: datetime) -> None:
    """Only one account can be asked about an id, and since the copy two may have paid: that is a person's to see."""
    raise_incident(
        session,
        key=f"restored-two-accounts:{payout_id}:{iso(at)}",
        kind="restored_two_accounts",
        what=f"{payout_id} may have been paid since the copy was taken by {then.name}, which paid then, or by"
        f" {now_is.name}, of which the settings were when the copy was put back. kasoko doctor --after-restore asks the"
        " first; look at the portal of the other. It is not sent before this is closed.",
        at=at,
        payout_id=payout_id,
    )


def _attempt(
    payout: Payout, phone: str, deployment: str, number: int, api: str, mark: str, copy_at: datetime, now: datetime
) -> dict[str, object]:
    return {
        "id": originator_id(
            deployment_id=deployment,
            market_id=payout.market_id,
            settlement_no=payout.settlement_no,
            user_id=payout.user_id,
            kind=payout.kind,
            leg=payout.leg,
            number=number,
        ),
        "payout_id": payout.id,
        "number": number,
        "status": AttemptStatus.REJECTED,
        "phone": phone,
        "wire_cents": payout.wire_cents,
        "api": api,
        "sends": 1,
        "lease_token": mark,
        "lease_until": now,
        "sent_at": copy_at,
        "evidence": "restored copy: not known to have been sent",
        "created_at": copy_at,
        "status_at": now,
    }


def _mark(session: Session, attempt_id: str, mark: str, *, at: datetime) -> None:
    """Note that an attempt may have been sent since the copy was taken, or that this is known now.

    The mark stands in place of its sender's: a sender puts its own there. What its entries were booked with,
    its evidence among it, stays as it is.
    """
    session.exec(
        update(Attempt)
        .where(col(Attempt.id) == attempt_id, col(Attempt.status) == AttemptStatus.REJECTED)
        .values(lease_token=mark, status_at=at)
        .execution_options(synchronize_session=False)
    )


def let_go(session: Session, payout: Payout, act: Act, *, why: str, at: datetime) -> tuple[Entry, ...]:
    """It was not paid since the copy was taken: what was held for that may be sent, under the same id.

    The caller holds the payout's lock, and has asked the guard.
    """
    for attempt in attempts.list_attempts(session, payout.id):
        if is_doubted(attempt):
            _mark(session, attempt.id, NOT_SENT_SINCE, at=at)
    if payout.status is PayoutStatus.HELD and (payout.note or "").startswith(HELD_SINCE):
        moved = payouts.move(session, payout.id, PayoutStatus.PENDING, at=at, note=None, tries=0)
        assert moved, "a payout that we hold as HELD may be released"
        note_event(session, at=at, actor=act.actor, action="payout.release", subject=payout.id, reason=why)
    return ()


def doubt_again(
    session: Session, attempt: Attempt, payout: Payout, *, mark: str, note: str | None, at: datetime
) -> None:
    """What was let go by evidence that was taken back is in doubt again, as it was: with its mark, and held."""
    _mark(session, attempt.id, mark, at=at)
    if note is not None:
        moved = payouts.move(
            session, payout.id, PayoutStatus.HELD, at=at, only_from={PayoutStatus.PENDING}, note=note, not_before=None
        )
        assert moved, "a payout that we hold as PENDING may be held"


def look_after_restore(
    db: Database,
    daraja: DarajaClient | None,
    links: Links | None,
    clock: Clock,
    new_id: NewId,
    act: Act,
    caution: Caution,
) -> list[Asked]:
    """Ask M-Pesa about every id under which a payout may have been sent since the copy was taken.

    Without `daraja` only what was answered before is taken in. Nothing is sent.

    Raises:
        Refused: another account paid when the copy was taken, and has to be asked.
        ConfigurationError: M-Pesa refuses the consumer key or secret.
        NotSent: M-Pesa cannot be reached.
    """
    take_answers(db, clock, act, caution)
    if daraja is None or links is None:
        return []
    hold_to_account(db, clock, act, daraja.account.payer)
    now = clock()
    with db.reading() as session:
        asker = accounts.find(session, daraja.account.payer)
        if others := accounts.doubted_elsewhere(session, asker):
            raise wrong_account(others, daraja.account.payer)
        turn = [one for one in _doubted(session) if known_id(one) is not None and not _answer_to(session, one, now)]
    if turn:
        daraja.check_account()
    asked = []
    for attempt in turn:
        asked.append(ask_about(db, daraja, links, clock, new_id, attempt))
        guard.judge_first(db, clock, caution, [attempt.payout_id])
    return asked


def take_answers(db: Database, clock: Clock, act: Act, caution: Caution) -> int:
    """Let go what M-Pesa's answers say was not paid since the copy was taken; says how many payouts."""
    guard.judge_first(db, clock, caution)
    count, now = 0, clock()
    with db.reading() as session:
        answered = [(one.payout_id, _answer_to(session, one, now)) for one in _doubted(session)]
    for payout_id, answer in answered:
        if answer in NOT_PAID_BY_IT:
            with db.transaction() as session:
                payout = payouts.find_payout(session, payout_id, lock=True)
                if not guard.objections(session, Way.LET_GO, [payout], caution, now=now):
                    let_go(session, payout, act, why=f"M-Pesa, asked about its id, answered {answer}", at=now)
                    count += 1
    return count


def proof(db: Database, asked: list[Asked], *, let_go_now: int = 0) -> AfterRestore:
    """What is not proven yet, after M-Pesa was asked."""
    with db.reading() as session:
        doubted = []
        for one in _doubted(session):
            payout = payouts.find_payout(session, one.payout_id)
            doubted.append(
                Doubted(
                    payout.id,
                    str(payout.status),
                    one.id,
                    one.wire_cents,
                    one.lease_token.removeprefix(RESTORED),
                    _answer_to(session, one, None) or "not answered",
                    known_id(one) is not None,
                )
            )
        paid = (
            select(func.count())
            .select_from(Attempt)
            .where(
                col(Attempt.lease_token).like(f"{RESTORED}%"),
                col(Attempt.status).in_([AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED]),
            )
        )
        return AfterRestore(not doubted, doubted, asked, let_go_now, session.exec(paid).one())


def _doubted(session: Session) -> list[Attempt]:
    """The attempts that stand for what may have been sent since the copy was taken."""
    query = (
        select(Attempt)
        .where(col(Attempt.status) == AttemptStatus.REJECTED, col(Attempt.lease_token).like(f"{RESTORED}%"))
        .order_by(col(Attempt.payout_id))
    )
    return list(session.exec(query))


def _answer_to(session: Session, attempt: Attempt, now: datetime | None) -> str | None:
    """What M-Pesa answered the attempt's own account about it since the copy was put back, asked by now, or ever."""
    query = (
        select(col(Query.answer))
        .where(
            col(Query.attempt_id) == attempt.id,
            col(Query.asked_at) >= attempt.status_at,
            sa.true() if now is None else col(Query.asked_at) <= now,
            col(Query.account_id) == attempt.account_id,
            col(Query.answered_at).is_not(None),
            col(Query.answer) != "NOT_ASKED",
        )
        .order_by(col(Query.answered_at).desc())
    )
    return session.exec(query).first()
