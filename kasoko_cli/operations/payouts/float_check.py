"""The gate before a run: does the float cover it, with M-Pesa's charges and what else is in flight?

It is a look, not a lock: M-Pesa has the last word on its own account. What is not known is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session

from kasoko_cli.clock import Clock, eat, iso
from kasoko_cli.domain.float_cover import Cover, FloatCheck, stops
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payer import Payer
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.errors import Refused
from kasoko_cli.operations.account import balances
from kasoko_cli.operations.account.balances import Reading
from kasoko_cli.operations.payouts.run import EVERYTHING, Selection
from kasoko_cli.operations.payouts.spending_bound import Bound
from kasoko_cli.store import balance_readings, callbacks, markets
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database

#: What M-Pesa said so lately is not asked for again. It counts in whole seconds.
JUST_NOW = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """How strictly the float is looked at, by which tariff, how old what M-Pesa said may be, and of which account."""

    check: FloatCheck
    tariff: Tariff
    max_age_seconds: int
    payer: Payer | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """What a run needs and what there is for it, in cents. What is not known is None.

    `float_cents` is what can be counted on now: what M-Pesa said last, less what it may not have counted yet.
    It is None where no balance was ever read, or where the last one is too old.
    """

    payments: int
    wire_cents: int
    charges_cents: int
    needed_cents: int
    in_flight_cents: int
    float_cents: int | None
    float_as_of: str | None
    shortfall_cents: int | None
    refused: bool
    #: What a person should know before they say yes; empty where all is well.
    warning: str
    tariff_valid_from: str


def look(
    db: Database, clock: Clock, policy: GatePolicy, selection: Selection = EVERYTHING, *, bound: Bound | None = None
) -> Gate:
    """What a run would need now, or one that is bound, and whether the float covers it; nothing is written.

    Raises NotFound if there is no such market.
    """
    now = clock()
    with db.reading() as session:
        market_id = markets.id_of(session, selection.market)
        if bound is None:
            run = balance_readings.sum_of_run(
                session, policy.tariff, now=now, market_id=market_id, only=tuple(selection.only), limit=selection.limit
            )
        else:
            charges_cents = sum(map(policy.tariff.charge_cents, bound.wires_cents))
            run = balance_readings.Sum(len(bound.ids), bound.wire_cents, charges_cents)
        in_flight = balance_readings.under_way(session, policy.tariff)
        reading, available = _there_is(session, policy, now)
    cover = Cover(run.payments, run.wire_cents, run.charges_cents, in_flight.wire_cents, available)
    return _gate(cover, reading, policy)


def _there_is(session: Session, policy: GatePolicy, now: datetime) -> tuple[Reading | None, int | None]:
    """What M-Pesa said last, and the cents that can be counted on; None where it is too old or was never said."""
    reading = balances.last_known(session, now, policy.payer)
    known = reading is not None and reading.age_seconds <= policy.max_age_seconds
    return reading, balances.available_by(session, now, policy.tariff, policy.payer) if known else None


def _gate(cover: Cover, reading: Reading | None, policy: GatePolicy) -> Gate:
    return Gate(
        payments=cover.payments,
        wire_cents=cover.wire_cents,
        charges_cents=cover.charges_cents,
        needed_cents=cover.needed_cents,
        in_flight_cents=cover.in_flight_cents,
        float_cents=cover.available_cents,
        float_as_of=None if reading is None else iso(reading.as_of),
        shortfall_cents=cover.shortfall_cents,
        refused=stops(policy.check, cover),
        warning="" if policy.check is FloatCheck.OFF or not cover.payments else _warning(cover, reading, policy),
        tariff_valid_from=policy.tariff.valid_from.isoformat(),
    )


def look_at_plan(
    db: Database, clock: Clock, policy: GatePolicy, wires_cents: Sequence[int], *, alone: bool = False
) -> Gate:
    """Whether the float would cover payments that are not due yet, beside all that is due already, or `alone`."""
    now = clock()
    with db.reading() as session:
        due = balance_readings.sum_of_run(session, policy.tariff, now=now, market_id=None, limit=0 if alone else None)
        in_flight = balance_readings.under_way(session, policy.tariff)
        reading, available = _there_is(session, policy, now)
    charges = sum(policy.tariff.charge_cents(cents) for cents in wires_cents)
    left = None if available is None else available - due.wire_cents - due.charges_cents
    return _gate(Cover(len(wires_cents), sum(wires_cents), charges, in_flight.wire_cents, left), reading, policy)


def wants_another_word(gate: Gate, now: datetime) -> bool:
    """Whether M-Pesa's last word stops a run, or is too old to count, and was not said just now."""
    if not (gate.refused or (gate.float_cents is None and gate.float_as_of is not None and gate.warning)):
        return False
    return gate.float_as_of is None or datetime.fromisoformat(gate.float_as_of) < now - JUST_NOW


def is_heard_from(db: Database, now: datetime, *, seconds: float) -> bool:
    """Whether somebody has taken in anything of M-Pesa's within so many seconds: then an answer is taken in too."""
    heard_at = reconnect.read(db, lambda session: callbacks.last_heard(session, now))
    return heard_at is not None and heard_at >= now - timedelta(seconds=seconds)


def pass_or_refuse(gate: Gate) -> None:
    """Raise Refused if the float does not cover a run, or is not known where the settings require it."""
    if not gate.refused:
        return
    if gate.shortfall_cents:
        raise Refused(
            f"{gate.warning} Nothing was sent.",
            hint=f"Put KES {format_kes(gate.shortfall_cents)} into the utility account, let kasoko see it:"
            " kasoko float --listen, then: kasoko payout. Or send less: kasoko payout --limit N",
        )
    raise Refused(
        f'{gate.warning} payout.float_check = "require" wants to know it first. Nothing was sent.',
        hint="Ask M-Pesa: kasoko float --listen",
    )


def _warning(cover: Cover, reading: Reading | None, policy: GatePolicy) -> str:
    if cover.shortfall_cents:
        assert cover.available_cents is not None
        assert reading is not None
        said = f"M-Pesa's utility account had KES {format_kes(reading.utility_cents)} at {eat(reading.as_of)}"
        if cover.available_cents != reading.utility_cents:
            said += f", and can be counted on for KES {format_kes(cover.available_cents)} now"
        return (
            f"The float is short by KES {format_kes(cover.shortfall_cents)}: the run needs"
            f" KES {format_kes(cover.needed_cents)} (KES {format_kes(cover.wire_cents)} to phones,"
            f" KES {format_kes(cover.charges_cents)} charges). {said}."
        )
    if cover.available_cents is None and reading is None:
        return "The float is not known: no balance of M-Pesa was ever read."
    if cover.available_cents is None:
        assert reading is not None
        oldest = timedelta(seconds=policy.max_age_seconds)
        return (
            f"The float is not known: M-Pesa last said KES {format_kes(reading.utility_cents)} at"
            f" {eat(reading.as_of)}, which is longer ago than {oldest.total_seconds() / 3600:g} h."
        )
    return ""
