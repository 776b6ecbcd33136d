"""The crew of a run: one thread that does all the committing, and senders that only talk to M-Pesa.

No transaction is open while a sender waits for an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from kasoko_cli.daraja.client import Answer
from kasoko_cli.daraja.links import Links
from kasoko_cli.operations.sending.claiming import Claimer
from kasoko_cli.operations.sending.recording import Recorder
from kasoko_cli.operations.sending.run import Claimed, Desk, Due, Stop
from kasoko_cli.store import payouts

#: How often a waiting run looks around, in seconds.
TICK_SECONDS = 0.2
#: How often a run looks again for what is due and was held by another process just now.
PASSED_OVER_TICKS = 10


class Crew:
    """One run at work: claims in groups, sends in threads, records in groups."""

    def __init__(self, desk: Desk, links: Links, *, stay: bool) -> None:
        self.desk, self.links, self.run, self.policy = desk, links, desk.run, desk.policy
        self.claimer, self.recorder = Claimer(desk), Recorder(desk, stays=stay)
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
        started, claimed_so_far = time.monotonic(), 0
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
                    claimed = self.claimer.claim(room, market_id, only)
                    claimed_so_far += len(claimed)
                    for one in claimed:
                        self._keep_pace()
                        flying[pool.submit(self._send, one)] = one
                if flying:
                    done, _ = wait(flying, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
                    self.recorder.record([(flying.pop(future), future.result()) for future in done])
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
        with self.desk.db.reading() as session:
            now = self.desk.clock()
            return Due(*payouts.totals_due(session, now=now, market_id=market_id, only=only))

    def _keep_pace(self) -> None:
        """Wait for this run's next turn."""
        if self.policy.rate_per_second:
            now = time.monotonic()
            time.sleep(max(0.0, self.next_slot - now))
            self.next_slot = max(now, self.next_slot) + 1 / self.policy.rate_per_second

    def _send(self, one: Claimed) -> Answer:
        return self.desk.daraja.pay(
            attempt_id=one.attempt_id,
            wire_cents=one.wire_cents,
            phone=one.phone,
            result_url=self.links.result_url(one.attempt_id),
            timeout_url=self.links.timeout_url(one.attempt_id),
            remarks=self.policy.remarks,
            occasion=one.payout_id,
            give_up_at=one.lease_until,
        )
