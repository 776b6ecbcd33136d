"""One payout as a person is shown it before something is done to it, and the state in which it would be then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlmodel import Session

from kasoko_cli.domain.phone import mask
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.rehearsal import rehearse
from kasoko_cli.store import payouts, users
from kasoko_cli.store.schema.tables import Payout


@dataclass(frozen=True, slots=True)
class PayoutFacts:
    """One payout of those that something is done to: whose it is, and what it carries in cents. The phone is masked."""

    payout_id: str
    user_id: str
    phone: str
    kind: str
    amount_cents: int
    wire_cents: int


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A payout, the state that it is in, and the one that it would be in."""

    payout: PayoutFacts
    status: str
    becomes: str


def plan_move(ctx: OperationContext, payout_id: str, act: Callable[[OperationContext], object]) -> PlannedMove:
    """What `act` would make of a payout; nothing is written.

    Raises:
        NotFound: there is no such payout.
        Refused: what `act` would be refused for.
    """

    def move(inside: OperationContext) -> PlannedMove:
        with inside.db.reading() as session:
            facts, before = (
                facts_of(session, [payouts.find_payout(session, payout_id)]),
                payouts.status_of(session, payout_id),
            )
        act(inside)
        with inside.db.reading() as session:
            return PlannedMove(facts[0], before, payouts.status_of(session, payout_id))

    return rehearse(ctx, move)


def facts_of(session: Session, some: list[Payout]) -> list[PayoutFacts]:
    """These payouts as they are shown."""
    people = users.known_users(session, {one.user_id for one in some})
    return [
        PayoutFacts(
            one.id, one.user_id, mask(people[one.user_id].phone), str(one.kind), one.amount_cents, one.wire_cents
        )
        for one in some
    ]
