"""What a restored copy does not know: nobody is paid again for what the lost hours had paid.

An attempt's id follows from what is owed, so this database can say under which id each payout may have been sent
since. That id is in doubt: an attempt stands for it, REJECTED, with no money in flight and the mark `restored:TIME`,
and every way out to money is closed meanwhile. Nothing here asks anybody (`after_restore` does).

The next id was used only after the last had ended unpaid, or its money had come back. So the doubt of a payout ends
when an id is found paid; or when one is found that M-Pesa never took, and every earlier one is confirmed to have paid
nobody. An id that M-Pesa knows and that paid nobody ends nothing: the next one comes into doubt with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from sqlmodel import Session

from kasoko_cli.clock import iso
from kasoko_cli.domain.payer import Payer
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, originator_id
from kasoko_cli.operations.account.payer import NOT_SENT_SINCE
from kasoko_cli.operations.safeguards.failure_confirmation import NO_ANSWERS, Confirm, missing
from kasoko_cli.operations.safeguards.payment_guard import is_doubted
from kasoko_cli.operations.shared.actor import Actor, note_act
from kasoko_cli.operations.shared.transitions import UNSENT
from kasoko_cli.store import accounts, attempts, bets, payouts, restored, status_queries, users
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.hash_chain import deployment_of
from kasoko_cli.store.log import RESTORE, last_restore, note_event, pause_sending, raise_incident
from kasoko_cli.store.platform import outbox
from kasoko_cli.store.schema.tables import Attempt, Payout
from kasoko_cli.store.statements import FORGOTTEN, RESTORED, SPENT_SINCE

#: How the reason of a payout begins that is held because of a restored copy.
HELD_SINCE = "restored from a copy of "
#: Payouts that may have been sent since the copy was taken.
MAY_BE_SENT = UNSENT | {PayoutStatus.RETURNED}


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What was stopped in a restored copy: when it was last written to, and how many payouts."""

    copy_at: datetime
    held: int
    doubted: int
    wire_cents: int


@dataclass(frozen=True, slots=True)
class LastWord:
    """What is known of an id in doubt: what was answered last, and whether M-Pesa took it and it paid nobody.

    `is_sure`: the answer is confirmed, as every negative is that opens a payment. `ask_from`: the time from which on
    a question may confirm it; None where nothing was answered yet, or no question is needed.
    """

    answer: str | None
    is_spent: bool
    is_sure: bool
    ask_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Doubt:
    """What all attempts that stand for forgotten requests have in common."""

    mark: str
    copy_at: datetime
    restored_at: datetime
    api: str
    account_id: int | None


# --- What comes into doubt ----------------------------------------------------------------------------------------


def hold_unsent(session: Session, actor: Actor, *, api: str, payer: Payer | None = None, now: datetime) -> HeldBack:
    """Stop everything in a restored copy that may have been sent since, and note the ids it would have had.

    What was under way in the copy keeps its state, and is marked: once it has ended unpaid the next id is in doubt.
    The account that paid when the copy was taken has to be asked about them. Where `payer`, whose account the
    settings are of, is another one, that one may have paid since as well, and a person has to look at each.
    """
    copy_at = restored.last_written(session) or now
    mark = f"{RESTORED}{iso(copy_at)}"
    found = [one for one in payouts.list_payouts(session, statuses=MAY_BE_SENT) if one.wire_cents]
    last = attempts.last_attempts(session, [one.id for one in found])
    current = accounts.in_force(session)
    account_id = None if current is None else current.id
    if current is None and payer is not None:
        account_id = accounts.ensure(session, payer, at=now)
        accounts.put_in_force(session, account_id)
    doubt = _Doubt(mark, copy_at, now, api, account_id)
    fresh: list[tuple[Payout, int]] = []
    for payout in found:
        before = last.get(payout.id)
        is_rejected = before is not None and before.status is AttemptStatus.REJECTED
        if before is not None and is_rejected and before.account_id == account_id:
            restored.mark(session, before.id, mark, at=now)
        elif before is None or is_rejected or before.status in restored.SPENT:
            fresh.append((payout, 1 if before is None else before.number + 1))
            if before is not None and before.status in restored.SPENT:
                restored.mark(session, before.id, mark)
        if current is not None and payer not in (None, current.payer):
            _raise_two_accounts(session, payout.id, current.payer, payer, at=now)
    _stand_for(session, fresh, doubt)
    restored.mark_live(session, mark)
    held = restored.hold_pending(session, note=f"{HELD_SINCE}{iso(copy_at)}", at=now)
    outbox.note_all(session, at=now)  # the platform may have been told since how things stood that are forgotten here
    why = f"{HELD_SINCE}{iso(copy_at)}: first kasoko doctor --after-restore"
    pause_sending(session, reason=why, actor=actor.name, at=now)
    detail = {"copy_at": iso(copy_at), "held": held, "doubted": len(found), "api": api}
    note_act(session, actor, RESTORE, "database", at=now, detail=detail)
    return HeldBack(copy_at, held, len(found), sum(one.wire_cents for one in found))


def hold_settled(session: Session, market_id: str, settlement_no: int) -> None:
    """Hold the payouts of a settlement that the lost hours may have had too, and have paid.

    That is every settlement of a market that had a bet before the copy was put back: its payouts have the same ids.
    """
    since = last_restore(session)
    if since is None or not bets.any_until(session, market_id, since.at):
        return
    current = accounts.in_force(session)
    account_id = None if current is None else current.id
    doubt = _Doubt(f"{RESTORED}{iso(since.copy_at)}", since.copy_at, since.at, since.api, account_id)
    owed = payouts.list_payouts(session, market_id=market_id, statuses=MAY_BE_SENT)
    fresh = [(one, 1) for one in owed if one.settlement_no == settlement_no and one.wire_cents]
    _stand_for(session, fresh, doubt)
    restored.hold_settlement(session, market_id, settlement_no, note=f"{HELD_SINCE}{iso(since.copy_at)}")


def _raise_two_accounts(session: Session, payout_id: str, then: Payer, now_is: Payer, *, at: datetime) -> None:
    """Only one account can be asked about an id, and two may have paid since the copy: a person has to look."""
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


def _stand_for(session: Session, some: Sequence[tuple[Payout, int]], doubt: _Doubt) -> None:
    """An attempt for the request of each of these payouts that may be forgotten, under its id of this number."""
    people = users.known_users(session, {payout.user_id for payout, _ in some})
    deployment = deployment_of(session)
    rows = [
        {
            "id": originator_id(deployment, payout, number),
            "payout_id": payout.id,
            "number": number,
            "status": AttemptStatus.REJECTED,
            "phone": people[payout.user_id].phone,
            "wire_cents": payout.wire_cents,
            "api": doubt.api,
            "sends": 1,
            "lease_token": doubt.mark,
            "lease_until": doubt.restored_at,
            "sent_at": doubt.copy_at,
            "evidence": FORGOTTEN,
            "created_at": doubt.copy_at,
            "status_at": doubt.restored_at,
            "account_id": doubt.account_id,
        }
        for payout, number in some
    ]
    bulk_rows.insert_rows(session, Attempt, rows)


# --- How it ends --------------------------------------------------------------------------------------------------


def word_of(session: Session, attempt: Attempt, confirm: Confirm, now: datetime) -> LastWord:
    """What is known of an attempt in doubt: by what this database has ended it with, or by M-Pesa's answers since."""
    if attempt.status is not AttemptStatus.REJECTED:
        lacks = missing(session, attempt, confirm, now)
        return LastWord(str(attempt.status), True, lacks is None, None if lacks is None else lacks.from_at)
    said = [
        one
        for one in status_queries.list_about(session, attempt.id)
        if one.account_id == attempt.account_id
        and attempt.status_at <= one.asked_at <= now  # not by a clock that ran ahead
        and one.answer not in (None, status_queries.NOT_ASKED)
    ]
    heard = [one for one in said if one.answer not in NO_ANSWERS]
    negatives = list(takewhile(lambda one: one.answer in status_queries.NOT_COMPLETED, reversed(heard)))
    is_spent = any(one.answer == "NOT_PAID" for one in heard)
    if not negatives:
        return LastWord(said[-1].answer if said else None, is_spent, False)
    first, last = negatives[-1], negatives[0]
    is_one_enough = not confirm.apart_seconds and attempt.wire_cents <= confirm.above_cents
    from_at = first.asked_at + timedelta(seconds=confirm.apart_seconds)
    is_sure = is_one_enough or (first.id != last.id and last.asked_at >= from_at)
    return LastWord(last.answer, is_spent, is_sure, None if is_sure else from_at)


def go_on(session: Session, payout: Payout, actor: Actor, confirm: Confirm, *, why: str, at: datetime) -> bool:
    """Resolve the doubt about a payout as far as what is known allows; returns whether it was let go.

    An id that is spent brings the next one into doubt at once, so that all of them are asked about together; the
    payout is let go when every one of them is sure, or none is left in doubt. The caller holds the payout's lock,
    and has asked the guard.
    """
    tries = restored.list_tries(session, payout.id)
    words = {one.id: word_of(session, one, confirm, at) for one in tries if is_doubted(one)}
    if tries and tries[-1].id in words and words[tries[-1].id].is_spent:
        _doubt_next(session, payout, tries[-1], at=at)
        return False
    if not all(word.is_sure for word in words.values()):
        return False
    let_go(session, payout, actor, spent={one for one, word in words.items() if word.is_spent}, why=why, at=at)
    return True


def silent(session: Session, payout: Payout) -> list[str]:
    """Take a statement's silence, or a person's word, as proof that no forgotten request of a payout was paid.

    Returns their ids. What this database itself knows to have failed is confirmed as ever.
    """
    ended = [
        one.id
        for one in restored.list_tries(session, payout.id)
        if is_doubted(one) and one.status is AttemptStatus.REJECTED
    ]
    for one in ended:
        restored.mark(session, one, NOT_SENT_SINCE)
    return ended


def let_go(
    session: Session, payout: Payout, actor: Actor, *, spent: Collection[str] = (), why: str, at: datetime
) -> None:
    """Let a payout go that was not paid since the copy was taken: what was held may be sent, under its last id.

    `spent` are the ids that M-Pesa took: they are not used again.
    """
    for attempt in restored.list_tries(session, payout.id):
        if is_doubted(attempt):
            restored.mark(session, attempt.id, SPENT_SINCE if attempt.id in spent else NOT_SENT_SINCE)
    if payout.status is PayoutStatus.HELD and (payout.note or "").startswith(HELD_SINCE):
        moved = payouts.move(session, payout.id, PayoutStatus.PENDING, at=at, note=None, tries=0)
        assert moved, "a payout that we hold as HELD may be released"
        note_event(session, at=at, actor=actor.name, action="payout.release", subject=payout.id, reason=why)


def doubt_again(
    session: Session, payout: Payout, *, attempt_ids: Sequence[str], mark: str, note: str | None, at: datetime
) -> None:
    """Doubt again, with its mark and held, what was let go by evidence that was taken back."""
    for one in attempt_ids:
        restored.mark(session, one, mark)
    if note is not None and payout.status is PayoutStatus.PENDING:
        moved = payouts.move(
            session, payout.id, PayoutStatus.HELD, at=at, only_from={PayoutStatus.PENDING}, note=note, not_before=None
        )
        assert moved, "a payout that we hold as PENDING may be held"


def _doubt_next(session: Session, payout: Payout, spent: Attempt, *, at: datetime) -> None:
    """Doubt the next id too: this one was used and paid nobody, so the next may have been used after it."""
    since = last_restore(session)
    copy_at, restored_at = (spent.created_at, at) if since is None else (since.copy_at, since.at)
    doubt = _Doubt(spent.lease_token, copy_at, restored_at, spent.api, spent.account_id)
    _stand_for(session, [(payout, spent.number + 1)], doubt)
