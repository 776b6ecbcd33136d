"""What is owed to one person, the instructions to M-Pesa that pay it, and what may follow what.

A payout is what one user is owed for one settlement of one market; above M-Pesa's limit it is
several legs, each a payout of its own. An attempt is one instruction to M-Pesa to pay one leg.
The tables here are the only rules of movement: the store guards every change of state with their
inverse, so a state that is not named as a source can never be left by accident.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from kasoko_cli.domain.money import CENTS_PER_SHILLING, format_kes, whole_shillings_cents
from kasoko_cli.domain.withholding import Duty
from kasoko_cli.errors import Refused

#: How M-Pesa's receipts look, in any case. Source: messages and statements of M-Pesa, 2026.
_RECEIPT = re.compile(r"(?=[A-Za-z]*[0-9])[A-Za-z][A-Za-z0-9]{9}")


def fold_receipt(text: str) -> str:
    """M-Pesa's receipt as it is kept and compared: in capitals, as M-Pesa writes it, whatever somebody typed."""
    return text.strip().upper()


def is_receipt(text: str) -> bool:
    """Whether a reference is a receipt of M-Pesa's, and not a name of somebody's own."""
    return _RECEIPT.fullmatch(text) is not None


class PayoutKind(StrEnum):
    """Why somebody is owed money."""

    #: A share of the pool, for backing the winner.
    PAYOUT = "PAYOUT"
    #: The stake back: a void market, nobody on the winner, a late bet, a withdrawn outcome.
    REFUND = "REFUND"


class PayoutStatus(StrEnum):
    """Where a payout stands."""

    #: Computed, and not released by a second person yet.
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    #: Stopped by a rule or a person, with a reason.
    HELD = "HELD"
    #: May be sent now, or from its `not_before` time on.
    PENDING = "PENDING"
    #: An attempt stands; its request may or may not have left.
    SENDING = "SENDING"
    #: M-Pesa took it; the result is still to come.
    SENT = "SENT"
    #: There is no answer that can be trusted: it may have been paid.
    UNKNOWN = "UNKNOWN"
    #: There is evidence that the receiver got it.
    COMPLETED = "COMPLETED"
    #: Credited to the wallet: M-Pesa cannot carry so little, or a person chose it.
    WALLET = "WALLET"
    #: There is evidence that no money moved.
    FAILED = "FAILED"
    #: It was completed, and the money came back; it is in the wallet.
    RETURNED = "RETURNED"
    #: Never paid: its settlement was reversed, or a correction left nothing of it.
    CANCELED = "CANCELED"


class AttemptStatus(StrEnum):
    """Where one instruction to M-Pesa stands."""

    #: Committed before a byte leaves; the request may or may not have gone.
    INTENT = "INTENT"
    #: M-Pesa acknowledged it; the result is still to come.
    ACCEPTED = "ACCEPTED"
    #: M-Pesa certainly did not take it.
    REJECTED = "REJECTED"
    #: Nobody here knows whether money moved.
    UNKNOWN = "UNKNOWN"
    #: The money moved; there is a receipt.
    SUCCEEDED = "SUCCEEDED"
    #: M-Pesa took it, and there is evidence that no money moved.
    FAILED = "FAILED"
    #: The money moved, and came back.
    RETURNED = "RETURNED"


_P = PayoutStatus
_A = AttemptStatus

#: What may follow what for a payout, and why. Nothing leaves UNKNOWN without evidence, and nothing
#: leaves CANCELED at all: a success that turns up for it, or for WALLET, is an incident.
PAYOUT_NEXT: Mapping[PayoutStatus, Mapping[PayoutStatus, str]] = {
    _P.AWAITING_APPROVAL: {
        _P.PENDING: "a second person released exactly the plan that was shown",
        _P.WALLET: "a second person released it, and M-Pesa cannot carry so little",
        _P.HELD: "a rule or a person stopped it, with a reason",
        _P.CANCELED: "the settlement was reversed before it was released",
        _P.COMPLETED: "it was released and paid, and then an older copy of the database was put back",
    },
    _P.HELD: {
        _P.PENDING: "a person let it go, with a reason",
        _P.AWAITING_APPROVAL: "a person let it go, and the second person has not released it yet",
        _P.WALLET: "a person chose the wallet instead of the phone",
        _P.CANCELED: "the settlement was reversed before anything was sent",
        _P.COMPLETED: "an earlier attempt turned out to have succeeded",
    },
    _P.PENDING: {
        _P.SENDING: "an attempt was recorded, and its request may leave from now on",
        _P.HELD: "a rule or a person stopped it, with a reason",
        _P.WALLET: "M-Pesa cannot carry so little, or a person chose the wallet instead of the phone",
        _P.CANCELED: "the settlement was reversed before anything was sent",
        _P.COMPLETED: "an earlier attempt turned out to have succeeded",
    },
    _P.SENDING: {
        _P.SENT: "M-Pesa acknowledged the request",
        _P.PENDING: "M-Pesa certainly did not take it; the schedule names the next try",
        _P.FAILED: "M-Pesa refused it for good, the schedule is used up, or a failure overtook its acknowledgement",
        _P.UNKNOWN: "no answer that we can trust, or the sender's lease ran out",
        _P.COMPLETED: "a success overtook its acknowledgement, or an earlier attempt turned out to have succeeded",
    },
    _P.SENT: {
        _P.COMPLETED: "a result, a status answer, a statement or a person's decision says that it was paid",
        _P.FAILED: "a result, a status answer, a statement or a person's decision says that it was not paid",
        _P.UNKNOWN: "silence, a queue timeout, or a result that we cannot trust",
    },
    _P.UNKNOWN: {
        _P.COMPLETED: "a late result, a status answer, a statement or a person's decision says that it was paid",
        _P.FAILED: "a late result, a status answer, a statement or a person's decision says that it was not paid",
        _P.PENDING: "evidence says that M-Pesa never took it, so it may be sent",
    },
    _P.COMPLETED: {_P.RETURNED: "the money came back from the receiver"},
    _P.WALLET: {_P.CANCELED: "the settlement was reversed, and what it had credited was still in the wallet"},
    _P.FAILED: {
        _P.PENDING: "a retry: the failure is definite and may succeed, or the phone was changed",
        _P.WALLET: "a person chose the wallet instead of the phone",
        _P.COMPLETED: "a late success of an attempt that was thought failed: an incident, never silent",
        _P.HELD: "a rule or a person stopped it from being tried again",
        _P.UNKNOWN: "the statement whose silence said so was taken back",
        _P.CANCELED: "the settlement was reversed, and no money had moved",
    },
    _P.RETURNED: {
        _P.PENDING: "a person sends it again; the wallet was credited before and is not credited twice",
        _P.WALLET: "it stays in the wallet, which was credited before and is not credited twice",
    },
    _P.CANCELED: {},
}

#: What may follow what for an attempt, and why. A result can overtake its own acknowledgement.
#:
#: A rejected attempt becomes an INTENT again under the same id, and no new number is drawn: an id is
#: spent only when M-Pesa took it. A database restored from a backup then walks through the same ids
#: in the same order, and M-Pesa refuses the ones that were already paid. Numbering on over ids that
#: were never taken would break that: the restored database would count fewer of them, and meet
#: its next payment under an id that M-Pesa has never seen.
ATTEMPT_NEXT: Mapping[AttemptStatus, Mapping[AttemptStatus, str]] = {
    _A.INTENT: {
        _A.ACCEPTED: "M-Pesa acknowledged the request",
        _A.REJECTED: "the request never left, or M-Pesa refused it by nature",
        _A.UNKNOWN: "no answer that we can trust, or the sender's lease ran out",
        _A.SUCCEEDED: "a success overtook its acknowledgement",
        _A.FAILED: "a failure overtook its acknowledgement",
    },
    _A.ACCEPTED: {
        _A.SUCCEEDED: "a result, a status answer, a statement or a person's decision says that it was paid",
        _A.FAILED: "a result, a status answer, a statement or a person's decision says that it was not paid",
        _A.UNKNOWN: "silence, a queue timeout, or a result that we cannot trust",
    },
    _A.REJECTED: {
        _A.INTENT: "the same instruction sent again under the same id: M-Pesa certainly never took it",
        _A.UNKNOWN: "the statement whose silence said so was taken back",
        _A.SUCCEEDED: "M-Pesa had taken it after all and paid: an incident, never silent",
    },
    _A.UNKNOWN: {
        _A.SUCCEEDED: "a late result, a status answer, a statement or a person's decision says that it was paid",
        _A.FAILED: "a late result, a status answer, a statement or a person's decision says that it was not paid",
        _A.REJECTED: "evidence says that M-Pesa never took it, so the same id may go again",
    },
    _A.SUCCEEDED: {_A.RETURNED: "the money came back from the receiver"},
    _A.FAILED: {
        _A.SUCCEEDED: "a late success: an incident, never silent",
        _A.UNKNOWN: "the statement whose silence said so was taken back",
    },
    _A.RETURNED: {},
}

#: An attempt that may still move money. A payout has at most one.
LIVE: frozenset[AttemptStatus] = frozenset({_A.INTENT, _A.ACCEPTED, _A.UNKNOWN})

#: The three groups that reports show. Each state of what is owed is in exactly one, so the groups add up
#: to the total. CANCELED is in none: its settlement was reversed, so it is owed no longer.
GROUPS: Mapping[str, frozenset[PayoutStatus]] = {
    "pending": frozenset({_P.AWAITING_APPROVAL, _P.HELD, _P.PENDING, _P.SENDING, _P.SENT, _P.UNKNOWN}),
    "completed": frozenset({_P.COMPLETED, _P.WALLET}),
    "failed": frozenset({_P.FAILED, _P.RETURNED}),
}

#: What a platform is told of a payout: how it ended, or that it has not ended. How it is being sent is nobody else's.
ENDED: frozenset[PayoutStatus] = frozenset({_P.COMPLETED, _P.WALLET, _P.FAILED, _P.RETURNED, _P.CANCELED})

#: Seconds to wait after the first, second, ... try that M-Pesa certainly did not take: the operator's schedule.
RETRY_SCHEDULE_SECONDS: tuple[int, ...] = (120, 240, 480, 960, 1920)

#: The characters of an attempt's id: `ks-` and 32 hex digits.
ATTEMPT_ID_LENGTH = 35

_PAYOUT_ID = re.compile(r".+\.[0-9]+\.[0-9]+", re.DOTALL)

_Status = TypeVar("_Status", PayoutStatus, AttemptStatus)


def payout_sources_of(to: PayoutStatus) -> frozenset[PayoutStatus]:
    """Every state that a payout may be in just before `to`."""
    return _sources_of(PAYOUT_NEXT, to)


def attempt_sources_of(to: AttemptStatus) -> frozenset[AttemptStatus]:
    """Every state that an attempt may be in just before `to`."""
    return _sources_of(ATTEMPT_NEXT, to)


def told_as(status: PayoutStatus) -> PayoutStatus:
    """The state that a platform is told: PENDING for whatever has not ended."""
    return status if status in ENDED else PayoutStatus.PENDING


def is_told(to: PayoutStatus, sources: Collection[PayoutStatus]) -> bool:
    """Whether a payout that goes to `to` from one of `sources` may have become something else to a platform."""
    return any(told_as(one) is not told_as(to) for one in sources)


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What M-Pesa carries in one payment, in cents: whole shillings between two bounds.

    Raises:
        Refused: a bound is not whole shillings, or the largest is under twice the smallest, so
            that some amounts between could not be cut into legs.

    Source: Daraja portal, B2C page, frequent questions: KES 10 to KES 250,000 per transaction.
    """

    min_cents: int = 1_000
    max_cents: int = 25_000_000

    def __post_init__(self) -> None:
        """Refuse bounds that would leave an amount which no legs can carry."""
        whole = self.min_cents % CENTS_PER_SHILLING == 0 and self.max_cents % CENTS_PER_SHILLING == 0
        if not whole or not CENTS_PER_SHILLING <= self.min_cents <= self.max_cents // 2:
            raise Refused(
                f"Payouts from KES {format_kes(self.min_cents)} to KES {format_kes(self.max_cents)} cannot be sent.",
                hint="Nothing was changed. Both limits are whole shillings, and the upper is at least twice the lower.",
            )


class Leg(NamedTuple):
    """One part of an entitlement: what is owed, what of it M-Pesa carries, what is kept back for it, in cents.

    The wire and what is kept back are together never above the amount. A wire of 0 means that the amount goes to
    the wallet, whole. A tuple, since a settlement makes a million of them.
    """

    amount_cents: int
    wire_cents: int
    withheld_cents: int = 0


def legs(entitlement_cents: int, limits: WireLimits, duty: Duty | None = None) -> list[Leg]:
    """Cut what one user is owed into payments that M-Pesa can carry.

    Amounts sum to the entitlement. The cents under a shilling ride on the last leg and stay in the
    user's wallet. A last leg under the minimum borrows from the one before; where all of it is under
    the minimum there is one leg that goes to the wallet. Nothing owed, no leg. How much one receiver
    may get in a day is not decided here: it depends on the day.

    `duty` keeps back a part of what is sent; both limits are those of what arrives.
    """
    assert entitlement_cents >= 0, "nobody is owed less than nothing"
    if entitlement_cents == 0:
        return []
    carried = _most_sent(entitlement_cents, duty)
    if carried < limits.min_cents:
        return [Leg(entitlement_cents, 0)]
    if carried <= limits.max_cents:
        return [Leg(entitlement_cents, carried, duty.kept_of_sent(carried) if duty else 0)]
    most = _leg(limits.max_cents, duty)
    full, rest = divmod(entitlement_cents, most.amount_cents)
    cut = [most] * full
    last = _most_sent(rest, duty)
    if 0 < last < limits.min_cents:
        # With a duty, rounding may take a cent more of two smaller legs: one shilling further then.
        lent = limits.min_cents - last
        while (
            last := _most_sent(rest + most.amount_cents - _leg(limits.max_cents - lent, duty).amount_cents, duty)
        ) < (limits.min_cents):
            lent += CENTS_PER_SHILLING
        cut[-1] = _leg(limits.max_cents - lent, duty)
    if last:
        cut.append(_leg(last, duty))
    over = entitlement_cents - sum(leg.amount_cents for leg in cut)
    cut[-1] = cut[-1]._replace(amount_cents=cut[-1].amount_cents + over)
    assert over >= 0, "what is sent and kept back is never more than what is owed"
    return cut


def _leg(wire_cents: int, duty: Duty | None) -> Leg:
    """The leg that sends so much, with what is kept back for it."""
    withheld = duty.kept_of_sent(wire_cents) if duty else 0
    return Leg(wire_cents + withheld, wire_cents, withheld)


def _most_sent(cents: int, duty: Duty | None) -> int:
    return duty.most_sent(cents) if duty else whole_shillings_cents(cents)


class Debt(Protocol):
    """What one payout owes, and nothing else: a row of one, or the part of it that was read."""

    @property
    def market_id(self) -> str:
        """Of which market."""

    @property
    def settlement_no(self) -> int:
        """Of which of its settlements."""

    @property
    def user_id(self) -> str:
        """To whom."""

    @property
    def kind(self) -> PayoutKind:
        """Whether it is won or given back."""

    @property
    def leg(self) -> int:
        """The part of it, where it is more than M-Pesa carries at once."""


def originator_id(deployment_id: str, debt: Debt, number: int) -> str:
    """The id of one attempt, 35 characters, made from what is owed and not from chance.

    The same debt always gets the same id: a database restored from yesterday's backup makes it
    again, and M-Pesa refuses what we forgot that we had sent. The fields are joined as a JSON list,
    so no two sets of fields read the same. `kind` is one of them because one user may be owed a
    payout and a refund in one settlement. `number` is 1 for the first attempt, and goes up only when the last
    id is spent: one that M-Pesa never took is used again.

    Source: Daraja portal, B2C v3 page: `OriginatorConversationID` is the caller's and must be unique.
    """
    owed = json.dumps(
        [deployment_id, debt.market_id, debt.settlement_no, debt.user_id, str(debt.kind), debt.leg, number]
    )
    return "ks-" + hashlib.sha256(owed.encode()).hexdigest()[:32]


def payout_id(market_id: str, settlement_no: int, n: int) -> str:
    """The id of the n-th payout of a settlement: `derby.1.7`."""
    return f"{market_id}.{settlement_no}.{n}"


def looks_like_payout_id(text: str) -> bool:
    """Whether a text ends like a payout id; no market, user or slug may."""
    return _PAYOUT_ID.fullmatch(text) is not None


def market_in(payout: str) -> tuple[str, str]:
    """The market that a payout's id begins with, and the rest of it: `derby` and `.1.7`."""
    market, settlement, n = payout.rsplit(".", 2)
    return market, f".{settlement}.{n}"


def next_try_seconds(tries_made: int, schedule: Sequence[int], spread: float) -> int | None:
    """Seconds until the next try, after `tries_made` (1 or more) that M-Pesa certainly did not take.

    None once the schedule is used up. `spread`, from 0 up to 1, is chance handed in: it adds up to a
    tenth, so that payouts which failed together do not come back together. Never earlier than the schedule.
    """
    assert tries_made >= 1, "there is nothing to wait for before the first try"
    assert 0 <= spread < 1, "the spread is a part of one"
    if tries_made > len(schedule):
        return None
    wait_seconds = schedule[tries_made - 1]
    return wait_seconds + int(wait_seconds * spread / 10)


def _sources_of(table: Mapping[_Status, Mapping[_Status, str]], to: _Status) -> frozenset[_Status]:
    return frozenset(status for status, following in table.items() if to in following)
