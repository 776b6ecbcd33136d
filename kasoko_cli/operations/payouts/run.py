"""A run of sending: its limits, what it does one by one, and what became of it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kasoko_cli.clock import Clock, Lease
from kasoko_cli.daraja.client import DarajaClient
from kasoko_cli.domain.payout import RETRY_SCHEDULE_SECONDS, PayoutStatus
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.safeguards.payment_guard import CAREFUL, Caution
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.database import Database


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """The limits of a run.

    `daily_cents` is per receiver and Nairobi day. `rate_per_second` counts for all senders of the account
    together; 0 means no limit of our own. `lease_seconds` bounds one attempt, from its intent to its recorded
    answer. Those that are owed longest go first, or with `smallest_first` the smallest.
    """

    daily_cents: int = 50_000_000
    concurrency: int = 4
    rate_per_second: int = 5
    smallest_first: bool = False
    schedule: Sequence[int] = RETRY_SCHEDULE_SECONDS
    lease_seconds: int = 300
    #: How long a run that stays holds after several unknown in a row before it sends a single one: each pause.
    probe_after_seconds: Sequence[float] = (60, 120, 240, 480, 960)
    remarks: str = "kasoko payout"
    caution: Caution = CAREFUL


@dataclass(frozen=True, slots=True)
class Selection:
    """Which payouts: of one market or of all, or those that are named, and at most `limit` of them."""

    market: str | None = None
    only: Sequence[str] = ()
    limit: int | None = None


#: Every payout.
EVERYTHING = Selection()


class Stop(StrEnum):
    """Why a run ended."""

    DONE = "done"  #: nothing that is due is left
    LIMIT = "limit"  #: as many as `--limit` allows
    BOUND = "bound"  #: all that was shown; more became due meanwhile, or something shown has changed
    TIME = "time"  #: as long as `--max-seconds` allows
    INTERRUPTED = "interrupted"
    ACCOUNT = "account"  #: M-Pesa refuses the account
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"  #: several in a row brought no clear answer
    PAUSED = "paused"  #: somebody turned the switch
    CHANGED = "changed"  #: somebody pays as another account now


@dataclass(frozen=True, slots=True)
class Claimed:
    """An attempt that stands as INTENT and is about to leave."""

    payout_id: str
    attempt_id: str
    send: int
    user_id: str
    phone: str = field(repr=False)
    wire_cents: int
    lease: Lease
    #: When its turn is, by this machine's monotonic clock; 0 is at once.
    send_at: float = 0.0

    def became(self, status: PayoutStatus, code: str, why: str, not_before: datetime | None = None) -> Sent:
        """What came of sending it."""
        return Sent(self.payout_id, self.attempt_id, self.user_id, self.wire_cents, status, code, why, not_before)


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
    #: Of these, how many are due and were not shown to whoever bound the run.
    more: int = 0
    #: Payouts that have another amount or phone than was shown: they were left.
    changed: list[str] = field(default_factory=list)
    next_at: datetime | None = None
    reaped: int = 0

    def stop(self, how: Stop, why: str = "") -> None:
        """End the run between two payouts; the first reason stands."""
        if self.stopped is Stop.DONE:
            self.stopped, self.why = how, why

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


@dataclass(frozen=True, slots=True)
class RunContext:
    """What every part of one run is given: who sends, with what, within which limits, and what it did so far."""

    db: Database
    daraja: DarajaClient
    clock: Clock
    actor: Actor
    policy: SendPolicy
    trust: Trust
    #: The number of the account that pays, as `store/accounts.py` has it.
    account_id: int
    #: What the pace of the Daraja account is kept under.
    account_key: str
    #: This run's name on the attempts that it holds.
    run_id: str
    #: A part of every attempt's id.
    deployment: str
    run: Run
