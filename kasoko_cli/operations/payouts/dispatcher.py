"""A run at work: one thread that does all the committing, and senders that only talk to M-Pesa.

The committing thread claims payouts in groups, a little ahead of the senders, and records together the answers that
came while the last group was being written. No transaction is open while a sender waits for an answer. A database
that goes away is waited for: what was sent and answered is recorded when it is back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.daraja.client import Answer
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.daraja.messages import Payment
from kasoko_cli.domain.counts import count_of
from kasoko_cli.errors import Busy, DatabaseUnavailable, KasokoError
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.payouts.claim import Claimer
from kasoko_cli.operations.payouts.outage import Outage, last_in_a_row
from kasoko_cli.operations.payouts.record import Recorder
from kasoko_cli.operations.payouts.run import EVERYTHING, Claimed, Due, RunContext, Selection, SendPolicy, Sent, Stop
from kasoko_cli.operations.payouts.spending_bound import Bound
from kasoko_cli.operations.shared.watching import NO_HOOKS, Hooks
from kasoko_cli.store import attempts, payouts
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.reconnect import patiently
from kasoko_cli.store.log import switch_on

#: How often a waiting run looks around, in seconds.
TICK_SECONDS = 0.2
#: How often a run looks again for what is due and was held by another process just now.
PASSED_OVER_TICKS = 10
#: How often the switches are looked at while nothing is claimed.
SWITCH_SECONDS = 0.5
#: How much is claimed ahead of the senders, in seconds of what they send, and at most. A run that is killed
#: leaves these behind as questions, so it is as little as keeps the senders busy while groups are written.
AHEAD_SECONDS, MOST_AHEAD = 0.5, 512
#: A run this slow claims nothing ahead.
SLOW_PER_SECOND = 20
#: How far ahead of its turn a payout may be claimed, in seconds of the pace.
TURNS_AHEAD_SECONDS = 0.5
#: A run without a pace looks again whether what it claimed so long ago is still its own before it sends it.
LOOK_AFTER_SECONDS = 1.0
#: How long a fast run lets answers gather before it writes them down.
GATHER_SECONDS = 0.1

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class SendOrder:
    """Which payouts a run sends, within which limits, and how long it works.

    With a `bound` it sends what that names and nothing else, as it was shown. Payouts that are named are a bound of
    what they are now. A run without either sends what is due, also what becomes due meanwhile. `max_seconds` ends it
    between two payouts; `stay` also waits for those that are due later. `run_id` is its name in the list of runs, and
    on the attempts that it holds; a new one where it is left out.
    """

    policy: SendPolicy
    trust: Trust
    selection: Selection = EVERYTHING
    bound: Bound | None = None
    max_seconds: float | None = None
    stay: bool = False
    run_id: str | None = None


class Dispatcher:
    """One run at work."""

    def __init__(self, context: RunContext, order: SendOrder, links: Links, hooks: Hooks[Sent] = NO_HOOKS) -> None:
        self.context, self.links, self.hooks = context, links, hooks
        self.run, self.policy = context.run, context.policy
        self.bound, self.stay, self.max_seconds = order.bound, order.stay, order.max_seconds
        #: How many more may be claimed; None where nothing limits it. A bound names all that it has.
        self.left = order.selection.limit if order.bound is None else None
        self.claimer, self.recorder = Claimer(context, order.bound), Recorder(context)
        began_in_one = reconnect.read(context.db, last_in_a_row) is not None
        self.outage = Outage(context.policy, stays=order.stay, began_in_one=began_in_one)
        #: What waits for a sender; None sends one home.
        self.claims: SimpleQueue[Claimed | None] = SimpleQueue()
        #: What came of it; None where it was not sent, since the run had ended.
        self.answers: SimpleQueue[tuple[Claimed, Answer | None]] = SimpleQueue()
        self.ended = threading.Event()
        self.senders: list[threading.Thread] = []
        self.death: BaseException | None = None
        #: How many are claimed and not recorded, and the turns of those that have to wait for one.
        self.in_hand = 0
        self.turns: deque[float] = deque()
        #: Answers that were taken from the queue and are being written down.
        self.unrecorded: list[tuple[Claimed, Answer | None]] = []
        self.speed = _Speed()
        self.looked_at = 0.0
        #: How often something that is due could not be claimed, since another process held it.
        self.passed_over = 0

    @property
    def goes_on(self) -> bool:
        """Whether nothing has stopped the run yet."""
        return self.run.stopped is Stop.DONE

    def work(self, market_id: str | None) -> None:
        """Go on until nothing is due, or something says stop; what is in flight is always waited for."""
        started = time.monotonic()
        try:
            while True:
                self._see_what_stops_it(started)
                room = self._room()
                has_claimed = self._claim_or_heed(room, market_id)
                if not self.goes_on:
                    self.ended.set()
                if self.ended.is_set() or self.outage.is_closed:
                    self._take_back()
                if self.in_hand:
                    if group := self._gathered():
                        self._record(group)
                elif room > 0 and self.goes_on and self.bound is not None and self.bound.is_open:
                    continue  # others have sent what this claim looked at, and there is more
                elif not (self.goes_on and has_claimed) and not self._wait(market_id):
                    return
        except (Busy, DatabaseUnavailable) as error:
            if not self.in_hand:
                raise
            raise DatabaseUnavailable(
                f"{error.message} Under way in this run: {count_of(self.in_hand, 'payout')}; how it went could not be"
                " written down.",
                hint="See that the database can be used. These payouts count as unknown"
                f" {self.policy.lease_seconds} s after they were claimed, and are asked about: kasoko reconcile."
                " Nothing is sent twice.",
            ) from error
        finally:
            # Also where somebody says stop for the second time: then nothing is waited for.
            self.ended.set()
            try:
                with contextlib.suppress(KasokoError):
                    self._leave()
            finally:
                for _ in self.senders:
                    self.claims.put(None)

    # --- The committing thread ----------------------------------------------------------------------------------------

    def _see_what_stops_it(self, started: float) -> None:
        if self.hooks.should_stop():
            self.run.stop(Stop.INTERRUPTED)
        if self.max_seconds is not None and time.monotonic() - started >= self.max_seconds:
            self.run.stop(Stop.TIME)
        if self.outage.stop is not None:
            self.run.stop(*self.outage.stop)

    def _claim_or_heed(self, room: int, market_id: str | None) -> bool:
        """Claim what there is room for, or else look at the switches; whether anything was claimed."""
        if not self.goes_on:
            return False
        if room <= 0:
            self._heed_switches()
            return False
        claimed = self._claim(room, market_id)
        self.left = None if self.left is None else self.left - len(claimed)
        return bool(claimed)

    def _wait(self, market_id: str | None) -> bool:
        """Nothing is under way, and nothing was claimed: wait for what is due later or held just now, if at all."""
        looked = time.monotonic()
        waiting = patiently(self.context.db, lambda: self._waiting(market_id))
        looked = time.monotonic() - looked
        if self.left == 0 and self.goes_on:
            if waiting.payouts:
                self.run.stop(Stop.LIMIT)
            return False
        # Another process may hold a row for a moment only: a retry that looks at it, a result.
        self.passed_over += bool(waiting.payouts)
        again = bool(waiting.payouts) and (self.passed_over <= PASSED_OVER_TICKS or self.outage.is_holding)
        if not self.goes_on or not (again or (self.stay and waiting.later)):
            return False
        time.sleep(max(TICK_SECONDS, 4 * looked))
        return True

    def _room(self) -> int:
        """How many more payouts may be claimed now: one for each sender that is free, and some ahead.

        Ahead is claimed when half of it is used up, so that one claim is worth its commit.
        """
        ahead = self.speed.ahead()
        if self.claims.qsize() * 2 > ahead > 0:
            return 0
        room = self.outage.room(self.policy.concurrency + ahead - self.in_hand, self.in_hand)
        room = room if self.left is None else min(room, self.left)
        if not self.policy.rate_per_second:
            return room
        now = time.monotonic()
        while self.turns and self.turns[0] <= now:
            self.turns.popleft()
        return min(room, max(1, int(self.policy.rate_per_second * TURNS_AHEAD_SECONDS)) - len(self.turns))

    def _claim(self, count: int, market_id: str | None) -> list[Claimed]:
        self.looked_at = time.monotonic()
        claimed = patiently(
            self.context.db,
            lambda: self.claimer.claim(count, market_id),
            again=lambda: self.claimer.stand() or self.claimer.claim(count, market_id),
        )
        self.in_hand += len(claimed)
        for one in claimed:
            if one.send_at:
                self.turns.append(one.send_at)
            self.claims.put(one)
        while len(self.senders) < min(self.policy.concurrency, self.in_hand):
            # A daemon: who says stop for the second time does not wait for M-Pesa. What such a sender has under
            # way stays an INTENT, and becomes a question.
            sender = threading.Thread(target=self._sender, name=f"kasoko-send-{len(self.senders)}", daemon=True)
            self.senders.append(sender)
            sender.start()
        return claimed

    def _heed_switches(self) -> None:
        """See whether somebody paused sending meanwhile; a claim looks by itself."""
        if time.monotonic() - self.looked_at < SWITCH_SECONDS:
            return
        self.looked_at = time.monotonic()
        with contextlib.suppress(KasokoError), self.context.db.reading() as session:
            if (switch := switch_on(session)) is not None:
                self.run.stop(Stop.PAUSED if switch.name == "pause" else Stop.ACCOUNT, switch.reason)

    def _gathered(self) -> list[tuple[Claimed, Answer | None]]:
        """The answers that are there, after at most one tick; a fast run lets some more come together."""
        try:
            group = [self.answers.get(timeout=TICK_SECONDS)]
        except Empty:
            if self.death is not None:
                raise self.death from None
            return []
        if self.speed.ahead() and not self.claims.empty():
            time.sleep(GATHER_SECONDS)
        return [*group, *_drain(self.answers)]

    def _record(self, group: Sequence[tuple[Claimed, Answer | None]]) -> None:
        self.unrecorded = list(group)
        patiently(self.context.db, self._write, again=lambda: self._write(again=True))

    def _write(self, *, again: bool = False) -> None:
        """Record the answers at hand, and give back what was not sent; `again` if that was tried before."""
        answered = [(one, answer) for one, answer in self.unrecorded if answer is not None]
        unsent = [one for one, answer in self.unrecorded if answer is None]
        if answered:
            sent = self.recorder.record(answered, again=again)
            self._done_with(one for one, _ in answered)
            self.speed.count(sum(answer.verdict is Verdict.TAKEN for _, answer in answered))
            with contextlib.suppress(Busy, DatabaseUnavailable):  # else the next command does it
                self.recorder.apply_overtaking(sent)
            for one in sent:
                self.run.sent.append(one)
                self.hooks.on_progress(one)
        if unsent:
            self.recorder.give_back(unsent)
            self._done_with(unsent)

    def _done_with(self, recorded: Iterable[Claimed]) -> None:
        over = {one.attempt_id for one in recorded}
        self.unrecorded = [pair for pair in self.unrecorded if pair[0].attempt_id not in over]
        self.in_hand -= len(over)

    def _leave(self) -> None:
        """Record what was answered and give back what no sender has taken; whatever is still under way stays."""
        self._take_back()
        self.unrecorded += _drain(self.answers)
        self._write(again=True)

    def _take_back(self) -> None:
        """What no sender has taken yet is not sent any more."""
        for one in _drain(self.claims):
            if one is not None:
                self.answers.put((one, None))

    def _waiting(self, market_id: str | None) -> Due:
        with self.context.db.reading() as session:
            now = self.context.clock()
            if self.bound is not None:
                return self.bound.look_again(session, now)
            return Due(*payouts.totals_due(session, now=now, market_id=market_id))

    # --- The senders --------------------------------------------------------------------------------------------------

    def _sender(self) -> None:
        while (one := self.claims.get()) is not None:
            wait_seconds = one.send_at - time.monotonic()
            if wait_seconds > 0:
                self.ended.wait(wait_seconds)
            if self.ended.is_set() or self.outage.is_closed:
                self.answers.put((one, None))
                continue
            try:
                answer = self._send(one)
            except Exception as bug:  # whatever it was: the request may have left
                meaning = f"the sender broke down: {type(bug).__name__}"
                answer = Answer(Verdict.UNKNOWN, None, "", meaning, meaning, "Ask how it ended: kasoko reconcile")
            except BaseException as death:
                self.death = death  # the whole process shall end; what was under way stays a question
                return
            self.outage.note(answer)
            self.answers.put((one, answer))

    def _send(self, one: Claimed) -> Answer:
        return self.context.daraja.pay(
            Payment(one.attempt_id, one.wire_cents, one.phone, self.policy.remarks, one.payout_id),
            self.links.of_payment(one.attempt_id),
            lease=one.lease,
            may_go_again=lambda: not (self.ended.is_set() or self.outage.is_closed),
            is_ours=lambda: self._is_ours(one),
        )

    def _is_ours(self, one: Claimed) -> bool:
        """Whether what was claimed is still ours to send, by its row: asked directly before a request is written.

        Whoever was stopped without a clock that saw it (a paused virtual machine), or works beside a host whose
        clock is ahead, learns here that the lease was ended and somebody has ruled on the attempt. A run without
        a pace of its own asks only about what has waited for a while. Where the row cannot be read nothing leaves.
        """
        if not self.policy.rate_per_second and one.lease.passed() < LOOK_AFTER_SECONDS:
            return True
        try:
            with self.context.db.reading() as session:
                return attempts.is_held(session, one.attempt_id, lease_token=self.context.run_id, send=one.send)
        except KasokoError:
            return False


def _drain(queue: SimpleQueue[Item]) -> Iterator[Item]:
    """Whatever is in a queue now, taken out."""
    with contextlib.suppress(Empty):
        while True:
            yield queue.get_nowait()


class _Speed:
    """How many payouts that M-Pesa took a run records a second, over about the last second.

    Where nothing is taken nothing shall be claimed ahead.
    """

    def __init__(self) -> None:
        self.since, self.counted, self.per_second = time.monotonic(), 0, 0.0

    def count(self, recorded: int) -> None:
        """So many more were recorded just now."""
        self.counted += recorded
        passed = time.monotonic() - self.since
        if passed >= (0.25 if self.per_second else 0.05):  # soon at first: until then a claim is for one round only
            now = self.counted / passed
            self.per_second = now if not self.per_second else (self.per_second + now) / 2
            self.since, self.counted = time.monotonic(), 0

    def ahead(self) -> int:
        """How many payouts to claim beyond what the senders have under way."""
        if self.per_second < SLOW_PER_SECOND:
            return 0
        return min(MOST_AHEAD, int(self.per_second * AHEAD_SECONDS))
