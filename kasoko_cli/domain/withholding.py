"""Tax that is kept back from winners by rules with dates: on what they win, and on what is sent to their phones.

A rule says on what it falls, which part of it is taxed, at what rate, from when until when, how it is rounded, and
where it is from. None is built in. What a rule keeps back is a function of two amounts, to be checked with a pencil:

- on *winnings*, of a winner's payout and of what they had staked on the outcomes that won. Once for each winner of
  a settlement, like their payout. A refund is nothing won.
- on *withdrawals*, of what arrives on the phone. Once for each payment.

All amounts are whole cents; a rate is in basis points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from enum import StrEnum
from itertools import combinations
from typing import Any

from kasoko_cli.domain.money import BPS_PER_WHOLE, CENTS_PER_SHILLING
from kasoko_cli.errors import ConfigurationError


class On(StrEnum):
    """What a duty falls on."""

    #: What a settlement gives to a winner.
    WINNINGS = "winnings"
    #: What M-Pesa is asked to carry to a phone.
    WITHDRAWALS = "withdrawals"


class Base(StrEnum):
    """Which part of it is taxed."""

    #: Of winnings: the payout less what the winner had staked on the outcomes that won; never below zero.
    PROFIT = "profit"
    #: Of winnings: the whole payout, the stake with it.
    PAYOUT = "payout"
    #: Of withdrawals: all that leaves the wallet, which is what is sent and what is kept back of it.
    WITHDRAWN = "withdrawn"
    #: Of withdrawals: what is sent alone; the duty comes on top.
    SENT = "sent"


#: The bases that each has.
BASES: Mapping[On, tuple[Base, ...]] = {
    On.WINNINGS: (Base.PROFIT, Base.PAYOUT),
    On.WITHDRAWALS: (Base.WITHDRAWN, Base.SENT),
}


class RoundTo(StrEnum):
    """Which way a part of a unit goes."""

    #: To the winner.
    DOWN = "down"
    #: To the authority.
    UP = "up"
    #: To the nearer unit; from the middle to the authority.
    HALF_UP = "half_up"


@dataclass(frozen=True, slots=True)
class Duty:
    """One rule: on what, how much of it, from when until when, and by which authority.

    `valid_until` is the last day on which it holds, None for ever; days are Nairobi's. `unit_cents` is what it is
    rounded to. `with_refunds` says whether a stake that is sent back counts as withdrawn.

    Raises:
        ConfigurationError: the parts do not fit each other.
    """

    name: str
    on: On
    base: Base
    rate_bps: int
    valid_from: date
    valid_until: date | None
    rounding: RoundTo
    unit_cents: int
    with_refunds: bool
    source: str

    def __post_init__(self) -> None:
        """Refuse a rule that cannot be followed."""
        if self.base not in BASES[self.on]:
            self._refuse(f"is on {self.on}, and its base is {self.base}", f"It may be: {', '.join(BASES[self.on])}.")
        if not 0 < self.rate_bps < BPS_PER_WHOLE:
            self._refuse(f"has a rate of {self.rate_bps} basis points", "5 % is 500; it is above 0 and below 10000.")
        if self.unit_cents not in (1, CENTS_PER_SHILLING):
            self._refuse(f"is rounded to {self.unit_cents} cents", "unit_cents is 1, or 100 for whole shillings.")
        if self.valid_until is not None and self.valid_until < self.valid_from:
            self._refuse("ends before it begins", "valid_until is the last day on which it holds.")
        if self.with_refunds and self.on is On.WINNINGS:
            self._refuse("taxes refunds as winnings", "A stake that goes back is nothing won: leave with_refunds out.")
        if not self.name.strip() or not self.source.strip():
            self._refuse("has no name, or does not say where it is from", "Give each [[duty]] a name and a source.")

    def _refuse(self, why: str, hint: str) -> None:
        raise ConfigurationError(f"The duty {self.name!r} {why}.", hint=hint)

    def holds_on(self, day: date) -> bool:
        """Whether it holds on a Nairobi day."""
        return self.valid_from <= day and (self.valid_until is None or day <= self.valid_until)

    def base_of_win(self, payout_cents: int, staked_cents: int) -> int:
        """What of a winner's payout is taxed."""
        return payout_cents if self.base is Base.PAYOUT else max(payout_cents - staked_cents, 0)

    def kept_of_win(self, payout_cents: int, staked_cents: int) -> int:
        """What is kept back of a winner's payout; never more than all of it."""
        kept = self._rounded(self.base_of_win(payout_cents, staked_cents) * self.rate_bps, BPS_PER_WHOLE)
        return min(kept, payout_cents)

    def kept_of_sent(self, sent_cents: int) -> int:
        """What is kept back where so much is sent.

        With the base `withdrawn` it is the rate of what is sent and kept back together, to the same unit.
        """
        whole = BPS_PER_WHOLE - self.rate_bps if self.base is Base.WITHDRAWN else BPS_PER_WHOLE
        return self._rounded(sent_cents * self.rate_bps, whole)

    def base_of_sent(self, sent_cents: int, kept_cents: int) -> int:
        """What of a payment is taxed."""
        return sent_cents + kept_cents if self.base is Base.WITHDRAWN else sent_cents

    def most_sent(self, cents: int) -> int:
        """The most whole shillings, in cents, that can be sent so that they and what is kept back are not above
        `cents`."""
        sent = cents * BPS_PER_WHOLE // (BPS_PER_WHOLE + self.rate_bps) if self.base is Base.SENT else cents
        if self.base is Base.WITHDRAWN:
            sent = cents * (BPS_PER_WHOLE - self.rate_bps) // BPS_PER_WHOLE
        # Off by what rounding moves, a shilling or two, either way.
        sent = sent // CENTS_PER_SHILLING * CENTS_PER_SHILLING + 2 * CENTS_PER_SHILLING
        while sent > 0 and sent + self.kept_of_sent(sent) > cents:
            sent -= CENTS_PER_SHILLING
        return sent

    def _rounded(self, numerator: int, denominator: int) -> int:
        """A fraction of cents, to whole units."""
        unit = denominator * self.unit_cents
        if self.rounding is RoundTo.DOWN:
            units = numerator // unit
        elif self.rounding is RoundTo.UP:
            units = -(-numerator // unit)
        else:
            units = (2 * numerator + unit) // (2 * unit)
        return units * self.unit_cents

    def as_dict(self) -> dict[str, Any]:
        """Its parts as plain JSON."""
        return {name: value.isoformat() if isinstance(value, date) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Duty:
        """A rule from what `as_dict` gave.

        Raises:
            ConfigurationError, ValueError, TypeError or LookupError: it is not that.
        """
        until = found["valid_until"]
        for name in ("rate_bps", "unit_cents"):
            if type(found[name]) is not int:
                raise TypeError(f"{name} is no whole number")
        return cls(
            name=found["name"],
            on=On(found["on"]),
            base=Base(found["base"]),
            rate_bps=found["rate_bps"],
            valid_from=date.fromisoformat(found["valid_from"]),
            valid_until=None if until is None else date.fromisoformat(until),
            rounding=RoundTo(found["rounding"]),
            unit_cents=found["unit_cents"],
            with_refunds=bool(found["with_refunds"]),
            source=found["source"],
        )


@dataclass(frozen=True, slots=True)
class Duties:
    """The rules that one settlement is under: at most one on each thing."""

    winnings: Duty | None = None
    withdrawals: Duty | None = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.winnings is not None or self.withdrawals is not None

    def on_sending(self, *, refund: bool) -> Duty | None:
        """The rule that what is sent falls under, a refund or not."""
        duty = self.withdrawals
        return duty if duty is not None and (duty.with_refunds or not refund) else None

    def as_dict(self) -> dict[str, Any]:
        """Both as plain JSON."""
        return {str(one.on): one.as_dict() for one in (self.winnings, self.withdrawals) if one is not None}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Duties:
        """The rules from what `as_dict` gave.

        Raises:
            ConfigurationError, ValueError, TypeError or LookupError: they are not that.
        """
        if unknown := found.keys() - set(On):
            raise ValueError(f"a duty on {sorted(unknown)}")
        duties = {on: Duty.from_dict(found[on]) for on in On if on in found}
        if any(duty.on is not on for on, duty in duties.items()):
            raise ValueError("a duty stands where another belongs")
        return cls(**{str(on): duty for on, duty in duties.items()})


#: No rule: nothing is kept back.
NO_DUTIES = Duties()


@dataclass(frozen=True, slots=True)
class DutyBook:
    """Every rule of the operator, past, present and to come.

    Raises:
        ConfigurationError: two of them hold on one thing on one day.
    """

    duties: tuple[Duty, ...] = ()

    def __post_init__(self) -> None:
        """Refuse rules that overlap."""
        for one, other in combinations(self.duties, 2):
            first, second = sorted((one, other), key=lambda duty: duty.valid_from)
            if one.on is other.on and first.holds_on(second.valid_from):
                raise ConfigurationError(
                    f"The duties {first.name!r} and {second.name!r} are both on {one.on} on {second.valid_from}.",
                    hint="Give the earlier one a valid_until, the day before the later one begins.",
                )

    def on(self, day: date) -> Duties:
        """The rules that hold on a Nairobi day."""
        return Duties(**{str(duty.on): duty for duty in self.duties if duty.holds_on(day)})


#: What holds where the operator names no file.
NO_BOOK = DutyBook()


def kept_of_winners(duty: Duty | None, payouts: Mapping[str, int], staked: Mapping[str, int]) -> dict[str, int]:
    """What is kept back of each winner, in cents; only winners of whom something is."""
    if duty is None:
        return {}
    kept = ((user, duty.kept_of_win(cents, staked[user])) for user, cents in payouts.items())
    return {user: cents for user, cents in kept if cents}


def taxed_of_winners(duty: Duty | None, payouts: Mapping[str, int], staked: Mapping[str, int]) -> int:
    """What of all winners' payouts together is taxed, in cents."""
    if duty is None:
        return 0
    return sum(duty.base_of_win(cents, staked[user]) for user, cents in payouts.items())
