"""The first transaction of a payout: from its commit on the payout is ours to send.

An attempt with its own id stands as INTENT, with a lease, and its cents are in flight.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import Session

from kasoko_cli.clock import nairobi_day
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, originator_id
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.operations.sending.run import Claimed, Desk, Stop
from kasoko_cli.store import attempts, payouts, users
from kasoko_cli.store.log import note_event, payouts_in_doubt, switch_on
from kasoko_cli.store.tables import Attempt, Payout

#: Why a payout with an open incident is not sent.
IN_DOUBT = "what is known of it contradicts itself: close its incident, then release it, or put it into the wallet"


class Claimer:
    """Takes payouts that are due, a group at a time."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def claim(self, count: int, market_id: str | None, only: Sequence[str]) -> list[Claimed]:
        """Take up to `count` payouts that are due: from this commit on they are ours to send."""
        now = self.desk.clock()
        claimed: list[Claimed] = []
        entries: list[Entry] = []
        with self.desk.db.transaction() as session:
            if (switch := switch_on(session)) is not None:
                # A result of the account, or another host, may have tripped the breaker while we sent.
                self.desk.run.stopped = Stop.PAUSED if switch.name == "pause" else Stop.ACCOUNT
                self.desk.run.why = switch.reason
                return []
            while len(claimed) < count:
                due = payouts.list_due(session, now=now, limit=count - len(claimed), market_id=market_id, only=only)
                if not due:
                    break
                last = attempts.last_attempts(session, [payout.id for payout in due])
                people = users.known_users(session, [payout.user_id for payout in due])
                doubted = payouts_in_doubt(session, [payout.id for payout in due])
                for payout in due:
                    if payout.id in doubted:
                        self._hold(session, payout, now)
                        continue
                    one, entry = self._intend(session, payout, last.get(payout.id), people[payout.user_id].phone, now)
                    if one is not None and entry is not None:
                        claimed.append(one)
                        entries.append(entry)
            book.post(session, *entries, at=now)
        return claimed

    def _hold(self, session: Session, payout: Payout, now: datetime) -> None:
        """Stop a payout that came into doubt after it was due: an earlier attempt of it may have been paid."""
        held = payouts.move(session, payout.id, PayoutStatus.HELD, at=now, note=IN_DOUBT, not_before=None)
        assert held, "a payout that we hold as PENDING may be stopped"
        note_event(session, at=now, actor=self.desk.act.actor, action="payout.hold", subject=payout.id, reason=IN_DOUBT)
        self.desk.run.held += 1

    def _intend(
        self, session: Session, payout: Payout, last: Attempt | None, phone: str, now: datetime
    ) -> tuple[Claimed | None, Entry | None]:
        """Write down one intent, or put the payout off until the receiver may be paid again."""
        today, tomorrow = nairobi_day(now)
        if attempts.wired_since(session, phone, today) + payout.wire_cents > self.desk.policy.daily_cents:
            payouts.postpone(
                session,
                payout.id,
                until=tomorrow,
                note=f"the receiver has had the day's KES {format_kes(self.desk.policy.daily_cents)}",
                at=now,
            )
            self.desk.run.postponed += 1
            return None, None
        until = now + timedelta(seconds=self.desk.policy.lease_seconds)
        again = last is not None and last.status is AttemptStatus.REJECTED
        if last is not None and again:
            # M-Pesa certainly never took this id: the same instruction goes again under it.
            attempt_id, number, sends = last.id, last.number, last.sends + 1
            moved = attempts.move(
                session,
                attempt_id,
                AttemptStatus.INTENT,
                at=now,
                phone=phone,
                api=self.desk.daraja.account.api,
                sends=sends,
                lease_token=self.desk.run_id,
                lease_until=until,
                sent_at=now,
                evidence=None,
                result_code=None,
                result_text=None,
            )
            assert moved, "a rejected attempt of a payout that we hold may be sent again"
        else:
            number, sends = (last.number + 1 if last is not None else 1), 1
            attempt_id = originator_id(
                deployment_id=self.desk.deployment,
                market_id=payout.market_id,
                settlement_no=payout.settlement_no,
                user_id=payout.user_id,
                kind=payout.kind,
                leg=payout.leg,
                number=number,
            )
            session.add(
                Attempt(
                    id=attempt_id,
                    payout_id=payout.id,
                    number=number,
                    status=AttemptStatus.INTENT,
                    phone=phone,
                    wire_cents=payout.wire_cents,
                    api=self.desk.daraja.account.api,
                    sends=sends,
                    lease_token=self.desk.run_id,
                    lease_until=until,
                    sent_at=now,
                    created_at=now,
                    status_at=now,
                )
            )
            session.flush()
        moved = payouts.move(
            session,
            payout.id,
            PayoutStatus.SENDING,
            at=now,
            not_before=None,
            note=None,
            failure_code=None,
            failure_reason=None,
        )
        assert moved, "a payout that we hold as PENDING may be sent"
        one = Claimed(payout.id, attempt_id, sends, payout.user_id, phone, payout.wire_cents, until)
        return one, journal.reserved(attempt_id, sends, payout.wire_cents)
