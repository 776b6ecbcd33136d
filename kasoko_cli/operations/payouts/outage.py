"""Whether M-Pesa answers at all, seen by all senders of a run together.

In an outage nobody knows which requests were taken. After a few in a row without a clear answer a run stops, and
gives back what it claimed and has not sent. The next one sends a single payout first, and goes on once that is
answered clearly. A run that stays pauses instead, and then sends a single payout in the same way.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.daraja.client import Answer
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.operations.payouts.run import SendPolicy, Stop
from kasoko_cli.store import attempts

#: After this many requests in a row that could not reach M-Pesa at all, the run stops (one that stays goes on, by
#: the schedule: no money moved for them).
UNREACHABLE_STOPS_AFTER = 3
#: After this many in a row without a clear answer, of which one or more may have been taken, it stops or holds.
UNKNOWN_STOPS_AFTER = 3


def last_in_a_row(session: Session) -> datetime | None:
    """When the last payout was sent, if several in a row ended unknown; else None.

    By all runs and tasks of all hosts: a run that begins after such a row sends a single payout first.
    """
    latest = attempts.latest_open(session, UNKNOWN_STOPS_AFTER)
    if len(latest) < UNKNOWN_STOPS_AFTER or any(status is not AttemptStatus.UNKNOWN for status, _ in latest):
        return None
    return latest[0][1]


class Outage:
    """What the last requests of a run came to. Senders note each answer; the committing thread asks for room."""

    def __init__(self, policy: SendPolicy, *, stays: bool, began_in_one: bool = False) -> None:
        self._pauses, self._stays = policy.probe_after_seconds, stays
        self._lock = threading.Lock()
        self._unreachable = self._unknown = 0
        #: How many pauses there were since M-Pesa last answered, and when the one under way is over.
        self._held, self._until = int(began_in_one), 0.0
        #: Nothing more may leave now: senders give back what they are handed.
        self.is_closed = False
        #: Why the run ends, once it does.
        self.stop: tuple[Stop, str] | None = None

    @property
    def is_holding(self) -> bool:
        """Whether the run waits for M-Pesa to answer again."""
        return self._held > 0 and self.is_closed

    def note(self, answer: Answer) -> None:
        """Note what one request came to."""
        if answer.held_back:
            return
        with self._lock:
            if answer.verdict is Verdict.UNKNOWN:
                self._unknown += 1
            elif answer.verdict is Verdict.NOT_SENT and answer.http_status is None:
                self._unreachable += 1
            else:
                self._unreachable = self._unknown = self._held = 0
                self.is_closed = self.stop is not None
                return
            in_a_row = self._unreachable + self._unknown
            if self._unknown and (in_a_row >= UNKNOWN_STOPS_AFTER or self._held):
                if self._stays:
                    self._hold()
                else:
                    self._end(Stop.UNKNOWN, answer.meaning)
            elif in_a_row >= UNREACHABLE_STOPS_AFTER and not self._stays:
                self._end(Stop.UNREACHABLE, answer.text or answer.meaning)

    def room(self, wanted: int, in_hand: int) -> int:
        """How many of `wanted` may be claimed now, with so many under way: all, none in a pause, one after it."""
        with self._lock:
            if self.stop is not None:
                return 0
            if not self._held:
                return wanted
            if time.monotonic() < self._until or in_hand:
                return 0
            self.is_closed = False
            return min(wanted, 1)

    def _hold(self) -> None:
        if self.is_closed:
            return  # one more that was under way already
        self.is_closed = True
        self._until = time.monotonic() + self._pauses[min(self._held, len(self._pauses) - 1)]
        self._held += 1

    def _end(self, why: Stop, text: str) -> None:
        self.is_closed = True
        self.stop = self.stop or (why, text)
