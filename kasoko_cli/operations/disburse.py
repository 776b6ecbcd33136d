"""Send what is owed, one payout or a run of them.

For each payout: one transaction in which an attempt with its own id stands as INTENT and its cents are
in flight; then, with no transaction open, the request; then one transaction with what came of it. A
crash in between leaves an INTENT, which becomes UNKNOWN when its lease runs out and is asked about.

The thread that calls `send_due` does all the committing, for all senders, in groups; the sender threads
only talk to M-Pesa.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from sqlmodel import Session, select

from kasoko_cli.clock import Clock, NewId, iso, nairobi_day
from kasoko_cli.daraja.client import Answer, DarajaClient
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.daraja.links import Links
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import (
    RETRY_SCHEDULE_SECONDS,
    AttemptStatus,
    PayoutStatus,
    next_try_seconds,
    originator_id,
)
from kasoko_cli.errors import AccountRefused, Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.operations import fate, receive
from kasoko_cli.operations.acts import Act
from kasoko_cli.operations.advice import account_refused
from kasoko_cli.operations.calls import exchange_rows
from kasoko_cli.operations.receive import Trust
from kasoko_cli.store import attempts, markets, payouts, users
from kasoko_cli.store.database import Database
from kasoko_cli.store.log import note_event, payouts_in_doubt, raise_incident, set_switch, switch_on
from kasoko_cli.store.tables import Attempt, Deployment, Payout

#: After this many requests in a row that could not reach M-Pesa at all, the run stops (one that stays goes on).
UNREACHABLE_STOPS_AFTER = 3
#: Why a payout with an open incident is not sent.
IN_DOUBT = "what is known of it contradicts itself: close its incident, then release it, or put it into the wallet"
#: How often a waiting run looks around, in seconds.
TICK_SECONDS = 0.2
#: How often a run looks again for what is due and was held by another process just now.
PASSED_OVER_TICKS = 10


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """The limits of a run.

    `daily_cents` is per receiver and Nairobi day. `rate_per_second` of 0 means no limit of our own.
    `lease_seconds` bounds one attempt, from its intent to its recorded answer.
    """

    daily_cents: int = 50_000_000
    concurrency: int = 4
    rate_per_second: int = 5
    schedule: Sequence[int] = RETRY_SCHEDULE_SECONDS
    lease_seconds: int = 300
    remarks: str = "kasoko payout"


class Stop(StrEnum):
    """Why a run ended."""

    DONE = "done"  #: nothing that is due is left
    LIMIT = "limit"  #: as many as `--limit` allows
    TIME = "time"  #: as long as `--max-seconds` allows
    INTERRUPTED = "interrupted"
    ACCOUNT = "account"  #: M-Pesa refuses the account
    UNREACHABLE = "unreachable"
    PAUSED = "paused"  #: somebody turned the switch


@dataclass(frozen=True, slots=True)
class Claimed:
    """An attempt that stands as INTENT and is about to leave."""

    payout_id: str
    attempt_id: str
    send: int
    user_id: str
    phone: str = field(repr=False)
    wire_cents: int
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of sending one payout."""

    payout_id: str
    attempt_id: str
    user_id: str
    wire_cents: int
    became: PayoutStatus
    code: str
    why: str
    not_before: datetime | None = None


@dataclass(slots=True)
class Run:
    """What a run did. Amounts are wire cents."""

    sent: list[Sent] = field(default_factory=list)
    stopped: Stop = Stop.DONE
    why: str = ""
    postponed: int = 0
    held: int = 0
    left: int = 0
    next_at: datetime | None = None
    reaped: int = 0

    def count(self, *states: PayoutStatus) -> int:
        """How many payouts of the run ended in one of these states."""
        return sum(sent.became in states for sent in self.sent)

    def cents(self, *states: PayoutStatus) -> int:
        """Their wire cents."""
        return sum(sent.wire_cents for sent in self.sent if sent.became in states)


@dataclass(frozen=True, slots=True)
class Due:
    """What a run would find."""

    payouts: int
    wire_cents: int
    later: int
    next_at: datetime | None


def plan_run(db: Database, clock: Clock, *, market: str | None = None, only: Sequence[str] = ()) -> Due:
    """What a run would send now, and what waits for later; nothing is written.

    Raises:
        NotFound: there is no such market or payout.
    """
    with db.reading() as session:
        return Due(*payouts.totals_due(session, now=clock(), market_id=_market_id(session, market, only), only=only))


def send_due(
    db: Database,
    daraja: DarajaClient,
    links: Links,
    clock: Clock,
    new_id: NewId,
    act: Act,
    policy: SendPolicy,
    trust: Trust,
    *,
    market: str | None = None,
    only: Sequence[str] = (),
    limit: int | None = None,
    max_seconds: float | None = None,
    stay: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Sent], None] = lambda _: None,
) -> Run:
    """Send every payout that is due, each once. `stay` also waits for those that are due later.

    Raises:
        NotFound: there is no such market or payout.
        Refused: sending is paused.
        AccountRefused: M-Pesa refused the account before, and nobody has resumed since.
        ConfigurationError: M-Pesa refuses the consumer key or secret; nothing was changed.
        NotSent: M-Pesa cannot be reached; nothing was changed.
    """
    run = Run()
    receive.apply_waiting(db, clock, trust)
    with db.transaction() as session:
        run.reaped = fate.reap(session, now=clock())
    with db.reading() as session:
        _check_switches(session)
        market_id = _market_id(session, market, only)
        deployment = session.exec(select(Deployment)).one().deployment_id
        due = Due(*payouts.totals_due(session, now=clock(), market_id=market_id, only=only))
    if due.payouts or (stay and due.later):
        daraja.check_account()
        sender = _Sender(db, daraja, links, clock, new_id(), deployment, act, policy, trust, tell, run)
        sender.work(market_id, only, limit, max_seconds, stay, should_stop)
    with db.reading() as session:
        due = Due(*payouts.totals_due(session, now=clock(), market_id=market_id, only=only))
    run.left, run.next_at = due.payouts + due.later, None if due.payouts else due.next_at
    return run


def check_ready(db: Database, daraja: DarajaClient) -> None:
    """See that something can be sent at all, before anything is changed for it.

    Raises:
        Refused: sending is paused.
        AccountRefused: M-Pesa refused the account before, and nobody has resumed since.
        ConfigurationError: M-Pesa refuses the consumer key or secret.
        NotSent: M-Pesa cannot be reached.
    """
    with db.reading() as session:
        _check_switches(session)
    daraja.check_account()


def _market_id(session: Session, market: str | None, only: Sequence[str]) -> str | None:
    for payout_id in only:
        payouts.find_payout(session, payout_id)
    return None if market is None else markets.find_market(session, market).id


def _check_switches(session: Session) -> None:
    switch = switch_on(session)
    if switch is None:
        return
    if switch.name == "pause":
        raise Refused(
            f"Sending is paused by {switch.actor} since {iso(switch.at)}: {switch.reason}. Nothing was sent.",
            hint="Let it go on when that is over: kasoko resume",
        )
    raise AccountRefused(
        f"Sending stopped at {iso(switch.at)}: {switch.reason} Nothing was sent.",
        hint="Mend that first, then: kasoko resume, and kasoko retry-failed, and kasoko payout",
    )


class _Sender:
    """One run: claims in groups, sends in threads, records in groups."""

    def __init__(
        self,
        db: Database,
        daraja: DarajaClient,
        links: Links,
        clock: Clock,
        run_id: str,
        deployment: str,
        act: Act,
        policy: SendPolicy,
        trust: Trust,
        tell: Callable[[Sent], None],
        run: Run,
    ) -> None:
        self.db, self.daraja, self.links, self.clock = db, daraja, links, clock
        self.run_id, self.deployment, self.act, self.policy, self.trust = run_id, deployment, act, policy, trust
        self.tell, self.run = tell, run
        self.random = Random(run_id)  # noqa: S311 - only spreads retries in time
        self.unreachable = 0
        self.stays = False
        self.next_slot = 0.0

    def work(
        self,
        market_id: str | None,
        only: Sequence[str],
        limit: int | None,
        max_seconds: float | None,
        stay: bool,
        should_stop: Callable[[], bool],
    ) -> None:
        """Go on until nothing is due, or something says stop; what is in flight is always waited for."""
        started, claimed_so_far, self.stays = time.monotonic(), 0, stay
        passed_over = 0
        flying: dict[Future[Answer], Claimed] = {}
        with ThreadPoolExecutor(self.policy.concurrency, thread_name_prefix="kasoko-send") as pool:
            while True:
                if self.run.stopped is Stop.DONE:
                    if should_stop():
                        self.run.stopped = Stop.INTERRUPTED
                    elif max_seconds is not None and time.monotonic() - started >= max_seconds:
                        self.run.stopped = Stop.TIME
                room = self.policy.concurrency - len(flying)
                if limit is not None:
                    room = min(room, limit - claimed_so_far)
                claimed = []
                if room > 0 and self.run.stopped is Stop.DONE:
                    claimed = self._claim(room, market_id, only)
                    claimed_so_far += len(claimed)
                    for one in claimed:
                        self._keep_pace()
                        flying[pool.submit(self._send, one)] = one
                if flying:
                    done, _ = wait(flying, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
                    self._record([(flying.pop(future), future.result()) for future in done])
                elif self.run.stopped is not Stop.DONE or not claimed:
                    if self.run.stopped is Stop.DONE and limit is not None and claimed_so_far >= limit:
                        self.run.stopped = Stop.LIMIT if self._waiting(market_id, only).payouts else Stop.DONE
                        return
                    waiting = self._waiting(market_id, only)
                    # Another process may hold a row for a moment only: a retry that looks at it, a result.
                    passed_over += bool(waiting.payouts)
                    held_by_others = bool(waiting.payouts) and passed_over <= PASSED_OVER_TICKS
                    if self.run.stopped is not Stop.DONE or not (held_by_others or (stay and waiting.later)):
                        return
                    time.sleep(TICK_SECONDS)

    def _waiting(self, market_id: str | None, only: Sequence[str]) -> Due:
        with self.db.reading() as session:
            return Due(*payouts.totals_due(session, now=self.clock(), market_id=market_id, only=only))

    def _keep_pace(self) -> None:
        """Wait for this run's next turn."""
        if self.policy.rate_per_second:
            now = time.monotonic()
            time.sleep(max(0.0, self.next_slot - now))
            self.next_slot = max(now, self.next_slot) + 1 / self.policy.rate_per_second

    # --- First transaction: the intent ------------------------------------------------------------------------

    def _claim(self, count: int, market_id: str | None, only: Sequence[str]) -> list[Claimed]:
        """Take up to `count` payouts that are due: from this commit on they are ours to send."""
        now = self.clock()
        claimed: list[Claimed] = []
        entries: list[Entry] = []
        with self.db.transaction() as session:
            if (switch := switch_on(session)) is not None:
                # A result of the account, or another host, may have tripped the breaker while we sent.
                self.run.stopped = Stop.PAUSED if switch.name == "pause" else Stop.ACCOUNT
                self.run.why = switch.reason
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
        note_event(session, at=now, actor=self.act.actor, action="payout.hold", subject=payout.id, reason=IN_DOUBT)
        self.run.held += 1

    def _intend(
        self, session: Session, payout: Payout, last: Attempt | None, phone: str, now: datetime
    ) -> tuple[Claimed | None, Entry | None]:
        """Write down one intent, or put the payout off until the receiver may be paid again."""
        today, tomorrow = nairobi_day(now)
        if attempts.wired_since(session, phone, today) + payout.wire_cents > self.policy.daily_cents:
            payouts.postpone(
                session,
                payout.id,
                until=tomorrow,
                note=f"the receiver has had the day's KES {format_kes(self.policy.daily_cents)}",
                at=now,
            )
            self.run.postponed += 1
            return None, None
        until = now + timedelta(seconds=self.policy.lease_seconds)
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
                api=self.daraja.account.api,
                sends=sends,
                lease_token=self.run_id,
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
                deployment_id=self.deployment,
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
                    api=self.daraja.account.api,
                    sends=sends,
                    lease_token=self.run_id,
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

    # --- No transaction: the request --------------------------------------------------------------------------

    def _send(self, one: Claimed) -> Answer:
        return self.daraja.pay(
            attempt_id=one.attempt_id,
            wire_cents=one.wire_cents,
            phone=one.phone,
            result_url=self.links.result_url(one.attempt_id),
            timeout_url=self.links.timeout_url(one.attempt_id),
            remarks=self.policy.remarks,
            occasion=one.payout_id,
            give_up_at=one.lease_until,
        )

    # --- Second transaction: what came of it ------------------------------------------------------------------

    def _record(self, answers: Sequence[tuple[Claimed, Answer]]) -> None:
        if not answers:
            return
        now = self.clock()
        # In one order everywhere, so that two hosts never wait for each other's rows.
        answers = sorted(answers, key=lambda pair: pair[0].payout_id)
        entries: list[Entry] = []
        sent: list[Sent] = []
        with self.db.transaction() as session:
            for one, answer in answers:
                done, following = self._apply(session, one, answer, now)
                sent.append(done)
                entries += following
                session.add_all(exchange_rows(one.attempt_id, answer))
            session.flush()
            book.post(session, *entries, at=now)
        for done in sent:
            # A result may have overtaken its acknowledgement, and waits for it.
            receive.apply_waiting(self.db, self.clock, self.trust, subject=done.attempt_id)
            self.run.sent.append(done)
            self.tell(done)

    def _apply(self, session: Session, one: Claimed, answer: Answer, now: datetime) -> tuple[Sent, tuple[Entry, ...]]:
        attempt, payout = fate.lock(session, one.attempt_id)
        if (
            attempt.status is not AttemptStatus.INTENT
            or attempt.lease_token != self.run_id
            or attempt.sends != one.send
        ):
            return self._late(session, one, answer, attempt, payout, now)
        verdict, again_at, meaning = answer.verdict, None, answer.meaning
        if verdict is not Verdict.NOT_SENT or answer.http_status is not None:
            self.unreachable = 0
        if verdict is Verdict.TAKEN and (strange := _strange(answer, attempt)):
            _raise_strange(session, one, strange, now)
            if answer.conversation_id:
                attempts.keep_conversation(
                    session,
                    attempt.id,
                    conversation_id=answer.conversation_id,
                    gateway_id=answer.originator_conversation_id,
                )
            verdict, meaning = Verdict.UNKNOWN, strange
        if verdict is Verdict.TAKEN:
            assert answer.conversation_id is not None
            ruling = fate.taken(
                session,
                attempt,
                conversation_id=answer.conversation_id,
                gateway_id=answer.originator_conversation_id if attempt.api == "v1" else None,
                at=now,
            )
            became = PayoutStatus.SENT
        elif verdict in (Verdict.DUPLICATE, Verdict.UNKNOWN):
            ruling = fate.doubtful(session, attempt, why=meaning, at=now, code=answer.code or None)
            became = PayoutStatus.UNKNOWN
        else:
            again_at, code = self._again_at(session, payout, answer, now)
            ruling = fate.not_taken(
                session,
                attempt,
                evidence=f"answer:{answer.code or 'never left'}",
                at=now,
                again_at=again_at,
                code=code,
                reason=answer.text or answer.meaning,
            )
            became = PayoutStatus.FAILED if again_at is None else PayoutStatus.PENDING
        return Sent(
            one.payout_id,
            one.attempt_id,
            one.user_id,
            one.wire_cents,
            became,
            answer.code,
            meaning,
            again_at,
        ), ruling.entries

    def _again_at(self, session: Session, payout: Payout, answer: Answer, now: datetime) -> tuple[datetime | None, str]:
        """When a payout that was certainly not taken is due again, and the code it carries until then."""
        if answer.verdict is Verdict.REFUSED:
            return None, answer.code or fate.NOT_SENT
        if answer.verdict is Verdict.ACCOUNT:
            # The payout is not to blame: it stays due, and its schedule is not used up.
            why = account_refused(answer.code, answer.meaning, answer.advice)
            self.run.stopped, self.run.why = Stop.ACCOUNT, why
            set_switch(session, "breaker", is_on=True, reason=why, actor=self.act.actor, at=now)
            return now, answer.code
        if answer.http_status is None:
            self.unreachable += 1
            if self.unreachable >= UNREACHABLE_STOPS_AFTER and self.run.stopped is Stop.DONE and not self.stays:
                self.run.stopped, self.run.why = Stop.UNREACHABLE, answer.text or answer.meaning
        tries = payouts.count_try(session, payout.id)
        seconds = next_try_seconds(tries, self.policy.schedule, self.random.random())
        return (None if seconds is None else now + timedelta(seconds=seconds)), fate.NOT_SENT

    def _late(
        self, session: Session, one: Claimed, answer: Answer, attempt: Attempt, payout: Payout, now: datetime
    ) -> tuple[Sent, tuple[Entry, ...]]:
        """The lease ran out while we waited, and somebody marked the attempt: it stays for reconcile.

        Only what an acknowledgement names is kept, since a result needs it to be believed.
        """
        if answer.verdict is Verdict.TAKEN and answer.conversation_id and not _strange(answer, attempt):
            fate.taken(
                session,
                attempt,
                conversation_id=answer.conversation_id,
                gateway_id=answer.originator_conversation_id if attempt.api == "v1" else None,
                at=now,
            )
        why = f"the answer came after the lease ran out: {answer.meaning}"
        return Sent(one.payout_id, one.attempt_id, one.user_id, one.wire_cents, payout.status, answer.code, why), ()


def _strange(answer: Answer, attempt: Attempt) -> str:
    """What is wrong with an acknowledgement that says taken; empty if nothing is."""
    if not answer.conversation_id:
        return "M-Pesa acknowledged it without a conversation id"
    if attempt.api == "v3" and answer.originator_conversation_id not in (None, attempt.id):
        return f"M-Pesa acknowledged it as {answer.originator_conversation_id}, which is another id"
    return ""


def _raise_strange(session: Session, one: Claimed, strange: str, now: datetime) -> None:
    raise_incident(
        session,
        key=f"strange-acknowledgement:{one.attempt_id}",
        kind="strange_acknowledgement",
        what=f"{strange} ({one.attempt_id}, payout {one.payout_id}). It counts as unknown and is asked about.",
        at=now,
        payout_id=one.payout_id,
        attempt_id=one.attempt_id,
    )


def note_run(db: Database, clock: Clock, act: Act, run: Run, *, market: str | None) -> None:
    """Write down who ran what and how it went."""
    with db.transaction() as session:
        note_event(
            session,
            at=clock(),
            actor=act.actor,
            action="payout.send",
            subject=market or "all",
            reason=act.reason,
            detail={
                "stopped": str(run.stopped),
                "sent": run.count(PayoutStatus.SENT),
                "sent_cents": run.cents(PayoutStatus.SENT),
                "not_sent": run.count(PayoutStatus.PENDING),
                "failed": run.count(PayoutStatus.FAILED),
                "unknown": run.count(PayoutStatus.UNKNOWN),
            },
        )


@dataclass(frozen=True, slots=True)
class End:
    """Where a payout of the run stands now: a result may have come meanwhile."""

    payout_id: str
    status: str
    wire_cents: int
    code: str
    why: str
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class Counted:
    """How many payouts, and their wire cents."""

    count: int
    amount_cents: int


def ends_of(db: Database, run: Run) -> list[End]:
    """Where each payout of the run stands now, in the order of sending."""
    last = {sent.payout_id: sent for sent in run.sent}
    with db.reading() as session:
        found = {payout.id: payout for payout in payouts.by_ids(session, list(last))}
    return [
        End(
            payout_id,
            str(found[payout_id].status),
            sent.wire_cents,
            found[payout_id].failure_code or sent.code,
            found[payout_id].failure_reason or sent.why,
            found[payout_id].not_before,
        )
        for payout_id, sent in last.items()
    ]


def count_ends(ends: Sequence[End]) -> dict[str, Counted]:
    """How many ended in each state, in the order of the states."""
    counted: dict[str, Counted] = {}
    for status in PayoutStatus:
        cents = [end.wire_cents for end in ends if end.status == status]
        if cents:
            counted[str(status)] = Counted(len(cents), sum(cents))
    return counted


def still_running(db: Database, run: Run) -> int:
    """How many payouts of the run M-Pesa has taken and not yet answered."""
    return sum(end.status in (PayoutStatus.SENT, PayoutStatus.SENDING) for end in ends_of(db, run))


def exit_code_of(run: Run, ends: Sequence[End]) -> int:
    """0 all taken, 6 some not sent or failed, 7 some unknown, 10 stopped early, 130 interrupted: the gravest first."""
    states = {end.status for end in ends}
    if states & {PayoutStatus.UNKNOWN, PayoutStatus.SENDING} or run.held or run.reaped:
        return 7
    if run.stopped is Stop.INTERRUPTED:
        return 130
    if states & {PayoutStatus.FAILED, PayoutStatus.PENDING} or run.stopped in (Stop.ACCOUNT, Stop.UNREACHABLE):
        return 6
    if run.postponed:
        return 6  # their receivers have had the day's limit: not sent today, and nobody shall think so
    if run.stopped is Stop.PAUSED:
        return 5
    return 10 if run.stopped in (Stop.LIMIT, Stop.TIME) and run.left else 0
