"""The second person: releases exactly the plan that was shown, by its hash, and nobody releases their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.clock import eat
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.domain.phone import mask
from kasoko_cli.domain.same_person import person_of
from kasoko_cli.errors import CheckFailed, Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.approvals.second_person import HASH_DIGITS, USUAL, ApprovalTerms, is_named
from kasoko_cli.operations.approvals.signatures import APPROVE, hold_signed, note_signed
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way
from kasoko_cli.operations.settlement.settle import Owed, SettlementFigures, basis_of, figures_of, hash_plan
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import approvals, markets, payouts, users
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Approval, Market, Payout, Settlement


@dataclass(frozen=True, slots=True)
class ToRelease:
    """One payout that waits for the second person."""

    payout_id: str
    user_id: str
    phone: str
    kind: str
    leg: int
    amount_cents: int
    wire_cents: int
    status: str


@dataclass(frozen=True, slots=True)
class ApprovalPlan:
    """A settlement as the second person sees it before releasing it. Amounts in cents."""

    market: str
    slug: str
    number: int
    settlement: SettlementFigures
    settled_by: str
    settled_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    payouts: int
    wire_cents: int
    to_wallets_cents: int
    withheld_cents: int
    plan_hash: str
    items: list[ToRelease]


@dataclass(frozen=True, slots=True)
class Approved:
    """What a release did; `is_new` is False where it had been released before."""

    market: str
    slug: str
    plan_hash: str
    approved_by: str
    approved_at: datetime
    released: int
    to_wallets: int
    is_new: bool


def look(db: Database, *, market: str) -> ApprovalPlan:
    """What waits for the second person, to be read before it is released.

    Raises:
        NotFound: there is no such market.
        Refused: it is not settled, or needs no second person.
    """
    with db.reading() as session:
        row, standing, approval = _find(session, market)
        owed = payouts.of_settlement(session, standing.market_id, standing.number)
        people = users.known_users(session, {payout.user_id for payout in owed})
        items = [
            ToRelease(
                payout.id,
                payout.user_id,
                mask(people[payout.user_id].phone),
                str(payout.kind),
                payout.leg,
                payout.amount_cents,
                payout.wire_cents,
                str(payout.status),
            )
            for payout in owed
        ]
        return ApprovalPlan(
            market=row.id,
            slug=row.slug,
            number=standing.number,
            settlement=figures_of(standing),
            settled_by=approval.settled_by,
            settled_at=standing.settled_at,
            approved_by=approval.approved_by,
            approved_at=approval.approved_at,
            payouts=len(items),
            wire_cents=sum(one.wire_cents for one in items),
            to_wallets_cents=sum(one.amount_cents - one.wire_cents - one.withheld_cents for one in owed),
            withheld_cents=sum(one.withheld_cents for one in owed),
            plan_hash=approval.plan_hash,
            items=items,
        )


def approve(
    ctx: OperationContext,
    *,
    market: str,
    plan_hash: str,
    caution: Caution = payment_guard.CAREFUL,
    terms: ApprovalTerms = USUAL,
) -> Approved:
    """Release a settlement: its payouts are due, and what M-Pesa cannot carry is credited to the wallets.

    `plan_hash` is the whole hash of the plan that the second person read, or its first 16 digits or more. The
    payouts that stand are hashed again: an amount that was changed by hand since the settlement is found.

    Raises:
        NotFound: there is no such market.
        Refused: it is not settled, needs no second person, the hash is of another plan, it has to be signed, the
            second person is the one who settled, or the guard objects to one of its payouts.
        CheckFailed: the payouts are not those of the plan.
    """
    payment_guard.judge_first(ctx.db, ctx.clock, caution)
    now = ctx.clock()
    with ctx.db.transaction() as session:
        row, standing, approval = _find(session, market, lock=True)
        if not is_named(approval.plan_hash, plan_hash):
            raise Refused(
                f"{row.slug} is settled by the plan {approval.plan_hash[:HASH_DIGITS]}, and not by {plan_hash[:64]}."
                " Nothing was released.",
                hint=f"Read the plan that stands: kasoko approve {row.slug}",
            )
        if approval.approved_by is not None and approval.approved_at is not None:
            return Approved(
                row.id, row.slug, approval.plan_hash, approval.approved_by, approval.approved_at, 0, 0, is_new=False
            )
        hold_signed(session, ctx.actor, wanted=terms.signed, at=now, what="A release")
        # Who lets one of them go meanwhile waits for us, and finds it released; who has done so is waited for.
        payouts.lock_market(session, row.id)
        owed = payouts.of_settlement(session, standing.market_id, standing.number)
        _check_unchanged(row, standing, owed)
        parked = [one for one in owed if one.status is PayoutStatus.AWAITING_APPROVAL]
        payment_guard.check(session, Way.APPROVE, parked, caution, now=now, subject=row.slug)
        if not person_of(ctx.actor.name) or not approvals.approve(
            session, row.id, standing.number, plan_hash=approval.plan_hash, by=ctx.actor.name, at=now
        ):
            raise Refused(
                f"{row.slug} was settled by {approval.settled_by}, and is released by somebody else. Nothing was"
                " released.",
                hint="Have a second person run it as their own user, or with --actor NAME and their own name.",
            )
        small = [one for one in parked if not one.wire_cents]
        released = approvals.release_all(session, row.id, standing.number, at=now)
        for payout in small:
            moved = payouts.move(
                session, payout.id, PayoutStatus.WALLET, at=now, only_from={PayoutStatus.AWAITING_APPROVAL}
            )
            assert moved, "a payout of a market that we hold waits for us"
        detail = {"settlement": standing.number, "plan_hash": approval.plan_hash, "released": released}
        note_signed(session, ctx.actor, APPROVE, row.id, at=now, detail=detail)
        entries = (journal.credited(one.id, one.user_id, one.amount_cents) for one in small)
        book.post_many(session, entries, at=now)
        return Approved(row.id, row.slug, approval.plan_hash, ctx.actor.name, now, released, len(small), is_new=True)


def waiting(db: Database, *, market: str | None = None) -> tuple[int, int]:
    """How many payouts wait for a second person, and their wires in cents."""
    with db.reading() as session:
        market_id = markets.id_of(session, market)
        return payouts.parked_by_status(session, market_id).get(PayoutStatus.AWAITING_APPROVAL, (0, 0))


def _find(session: Session, market: str, *, lock: bool = False) -> tuple[Market, Settlement, Approval]:
    row = markets.find_market(session, market, lock=lock)
    standing = markets.standing_settlement(session, row.id)
    if standing is None:
        raise Refused(
            f"{row.slug} is not settled; there is nothing to release.",
            hint=f"See how it stands: kasoko status {row.slug}",
        )
    approval = approvals.find_approval(session, row.id, standing.number)
    if approval is None:
        raise Refused(
            f"{row.slug} was settled at {eat(standing.settled_at)} and needs no second person. Nothing was changed.",
            hint="payout.approval_above_kes says which settlements do. Send this one: kasoko payout " + row.slug,
        )
    return row, standing, approval


def _check_unchanged(market: Market, standing: Settlement, owed: Sequence[Payout]) -> None:
    lines = (
        Owed(one.number, one.user_id, one.kind, one.leg, one.amount_cents, one.wire_cents, one.withheld_cents)
        for one in owed
    )
    if hash_plan(basis_of(standing), lines) != standing.plan_hash:
        raise CheckFailed(
            f"The payouts of {market.slug} are not those of its plan {standing.plan_hash[:16]}. Nothing was released.",
            hint="Somebody edited the database by hand: kasoko audit, then restore the rows.",
        )
