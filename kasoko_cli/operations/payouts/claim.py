"""The first transaction of a payout: once it has committed, the payout is ours to send.

An attempt with its own id stands as INTENT, with a lease, and its cents are in flight. Each statement is about a
group.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session

from kasoko_cli.clock import Lease, nairobi_day
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, originator_id
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.payouts import rate_limit
from kasoko_cli.operations.payouts.run import Claimed, RunContext, Stop
from kasoko_cli.operations.payouts.spending_bound import Bound, Step
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Condition, Objection, Way
from kasoko_cli.store import accounts, attempts, payouts, users
from kasoko_cli.store.attempts import LastTry
from kasoko_cli.store.engine.bulk_rows import insert_rows
from kasoko_cli.store.log import incidents_of, note_event, switch_on
from kasoko_cli.store.payouts import DuePayout
from kasoko_cli.store.schema.tables import Attempt

#: Why a run ends that began as one account, and somebody pays as another one since.
CHANGED = "This database pays as another account since this run began."
#: How long a payout waits about which something has arrived that is to be judged, or asked about.
_WAITS_SECONDS: Mapping[Condition, int] = {Condition.UNJUDGED: 5, Condition.ASKED: 300, Condition.UNCONFIRMED: 300}


class Claimer:
    """Takes payouts that are due, a group at a time."""

    def __init__(self, context: RunContext, bound: Bound | None) -> None:
        self.context, self.bound = context, bound
        #: What was claimed by the transaction under way, for `stand` to look at if its commit is not heard of.
        self._last: list[Claimed] = []
        self._step: Step | None = None

    def claim(self, count: int, market_id: str | None) -> list[Claimed]:
        """Take up to `count` payouts that are due: from this commit on they are ours to send."""
        context, claimed = self.context, list[Claimed]()
        lease = Lease(context.clock, context.policy.lease_seconds)
        now = lease.begun_at
        held = postponed = 0
        unjudged: list[str] = []
        self._last = []
        self._step = step = None if self.bound is None else Step(self.bound)
        with context.db.transaction() as session:
            if (switch := switch_on(session)) is not None:
                # A result of the account, or another host, may have tripped the breaker while we sent.
                context.run.stop(Stop.PAUSED if switch.name == "pause" else Stop.ACCOUNT, switch.reason)
                return []
            if not accounts.is_in_force(session, context.account_id):
                context.run.stop(Stop.CHANGED, CHANGED)
                return []
            while len(claimed) < count:
                due = self._next_due(session, step, count - len(claimed), market_id, now)
                if not due:
                    break
                phones = users.phones_of(session, (one.user_id for one in due))
                last = attempts.last_tries(session, [payout.id for payout in due])
                against = self._objections(session, due, last, now)
                held += self._hold(session, against, now)
                unjudged += self._put_off(session, against, Condition.UNJUDGED, now)
                held += len(self._put_off(session, against, Condition.ASKED, now))
                held += len(self._put_off(session, against, Condition.UNCONFIRMED, now))
                strangers = self._hold_strangers(session, [one for one in due if one.id not in against], now)
                held += len(strangers)
                sure = [payout for payout in due if payout.id not in against and payout.id not in strangers]
                ours = self._within_the_day(session, sure, phones, now)
                postponed += len(sure) - len(ours)
                claimed += self._intend(session, ours, last, lease)
            book.post(session, *(journal.reserved(one.attempt_id, one.send, one.wire_cents) for one in claimed), at=now)
            if claimed and context.policy.rate_per_second:
                slots = rate_limit.take(
                    session, context.account_key, len(claimed), context.policy.rate_per_second, now=now
                )
                begun = time.monotonic()
                claimed = [replace(one, send_at=begun + slot) for one, slot in zip(claimed, slots, strict=True)]
            self._last = claimed
        context.run.held += held
        context.run.postponed += postponed
        if step is not None:
            step.done()
        if unjudged:
            payment_guard.judge_first(context.db, context.clock, context.policy.caution, unjudged)
        return claimed

    def _next_due(
        self, session: Session, step: Step | None, count: int, market_id: str | None, now: datetime
    ) -> list[DuePayout]:
        """The next that are due, at most `count`; of a bound run those that it names, as they were shown."""
        smallest_first = self.context.policy.smallest_first
        if step is None:
            return payouts.list_due(session, now=now, limit=count, market_id=market_id, smallest_first=smallest_first)
        while only := step.take(count):
            due = payouts.list_due(session, now=now, limit=count, market_id=market_id, only=only)
            if due := step.as_shown(due, users.phones_of(session, (one.user_id for one in due))):
                return due
        return []

    def stand(self) -> list[Claimed]:
        """What the last claim took, if it was committed after all; else nothing: all of it stands or none does."""
        if not self._last:
            return []
        one = self._last[0]
        with self.context.db.reading() as session:
            stands = attempts.stands(session, one.attempt_id, lease_token=self.context.run_id, send=one.send)
        if stands and self._step is not None:
            self._step.done()
        return self._last if stands else []

    def _objections(
        self, session: Session, due: Sequence[DuePayout], last: Mapping[str, LastTry], now: datetime
    ) -> dict[str, Objection]:
        """What speaks against sending some of these, which we hold: only of one that was tried is anything known."""
        suspects = {*last, *incidents_of(session, [payout.id for payout in due])}
        if not suspects:
            return {}
        held = payouts.lock_payouts(session, suspects)
        caution = replace(self.context.policy.caution, account_id=self.context.account_id)
        return payment_guard.objections(session, Way.SEND, held.values(), caution, now=now)

    def _hold(self, session: Session, against: Mapping[str, Objection], now: datetime) -> int:
        """Hold payouts that came into doubt after they were due: an earlier attempt may have been paid."""
        doubted = {one: why for one, why in against.items() if why.condition not in _WAITS_SECONDS}
        self._stop(session, {one: f"{why.why}. {why.hint}" for one, why in doubted.items()}, now)
        return len(doubted)

    def _hold_strangers(self, session: Session, due: Sequence[DuePayout], now: datetime) -> set[str]:
        """Hold payouts to people who were erased, or whose row is not as we took it in: a number edited by hand."""
        found = users.not_to_be_paid(session, (one.user_id for one in due))
        strangers = {payout.id: found[payout.user_id] for payout in due if payout.user_id in found}
        locked = payouts.lock_payouts(session, strangers)
        whys = {
            payout_id: f"{locked[payout_id].user_id} {what}. Ask who is to be paid; then kasoko user set-phone and"
            f" kasoko payout release {payout_id}, or kasoko payout to-wallet {payout_id}"
            for payout_id, what in strangers.items()
        }
        self._stop(session, whys, now)
        return set(strangers)

    def _stop(self, session: Session, whys: Mapping[str, str], now: datetime) -> None:
        """Hold payouts that we have locked as PENDING, each with the reason why."""
        for payout_id, why in sorted(whys.items()):
            held = payouts.move(session, payout_id, PayoutStatus.HELD, at=now, note=why, not_before=None)
            assert held, "a payout that we hold as PENDING may be stopped"
            actor = self.context.actor.name
            note_event(session, at=now, actor=actor, action="payout.hold", subject=payout_id, reason=why)

    def _put_off(
        self, session: Session, against: Mapping[str, Objection], condition: Condition, now: datetime
    ) -> list[str]:
        """Put off, for a while, the payouts that wait for a judge or for M-Pesa's answer; returns which.

        They stay due: what a stranger can write holds back no longer than it takes to ask.
        """
        ours = [one for one, why in against.items() if why.condition is condition]
        if ours:
            until, objection = now + timedelta(seconds=_WAITS_SECONDS[condition]), against[ours[0]]
            payouts.postpone(session, ours, until=until, note=f"{objection.why}. {objection.hint}", at=now)
        return ours

    def _within_the_day(
        self, session: Session, due: Sequence[DuePayout], phones: Mapping[str, str], now: datetime
    ) -> list[tuple[DuePayout, str]]:
        """Those whose receivers may be paid today, each with the phone; the others are put off until tomorrow."""
        if not due:
            return []
        today = nairobi_day(now)
        limit = self.context.policy.daily_cents
        wired = attempts.wired_on(session, sorted({phones[payout.user_id] for payout in due}), today)
        ours, too_much = list[tuple[DuePayout, str]](), list[str]()
        for payout in due:
            phone = phones[payout.user_id]
            if wired[phone] + payout.wire_cents > limit:
                too_much.append(payout.id)
            else:
                wired[phone] += payout.wire_cents
                ours.append((payout, phone))
        if too_much:
            why = f"the receiver has had the day's KES {format_kes(limit)}"
            payouts.postpone(session, too_much, until=today[1], note=why, at=now)
        return ours

    def _intend(
        self, session: Session, ours: Sequence[tuple[DuePayout, str]], last: Mapping[str, LastTry], lease: Lease
    ) -> list[Claimed]:
        """Write down the intents of a group."""
        if not ours:
            return []
        ids, now = [payout.id for payout, _ in ours], lease.begun_at
        intended = [self._intent(payout, phone, last.get(payout.id), lease) for payout, phone in ours]
        again = [row for _, row in intended if "the_id" in row]
        count = attempts.begin_again(session, again)
        assert count == len(again), "a rejected attempt of a payout that we hold may be sent again"
        insert_rows(session, Attempt, [row for _, row in intended if "the_id" not in row])
        moved = payouts.move_all(
            session,
            ids,
            PayoutStatus.SENDING,
            at=now,
            only_from={PayoutStatus.PENDING},
            not_before=None,
            note=None,
            failure_code=None,
            failure_reason=None,
        )
        assert moved == len(ids), "a payout that we hold as PENDING may be sent"
        return [one for one, _ in intended]

    def _intent(
        self, payout: DuePayout, phone: str, last: LastTry | None, lease: Lease
    ) -> tuple[Claimed, dict[str, Any]]:
        """One intent, and its row: new, or the same instruction again under an id that M-Pesa never took.

        An id is one account's for ever: another one has a new id, for its M-Pesa may not know the old one.
        """
        now = lease.begun_at
        row: dict[str, Any] = {
            "status_at": now,
            "phone": phone,
            "api": self.context.daraja.account.api,
            "sends": 1,
            "lease_token": self.context.run_id,
            "lease_until": lease.ends_at,
            "sent_at": now,
        }
        if last is not None and last.status is AttemptStatus.REJECTED and last.account_id == self.context.account_id:
            attempt_id = last.id
            row |= {"the_id": attempt_id, "sends": last.sends + 1}
        else:
            number = 1 if last is None else last.number + 1
            attempt_id = originator_id(self.context.deployment, payout, number)
            row |= {"id": attempt_id, "payout_id": payout.id, "number": number, "wire_cents": payout.wire_cents}
            row |= {"status": AttemptStatus.INTENT, "created_at": now, "account_id": self.context.account_id}
        one = Claimed(payout.id, attempt_id, row["sends"], payout.user_id, phone, payout.wire_cents, lease)
        return one, row
