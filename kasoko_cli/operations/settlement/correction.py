"""Another outcome for a market that is resolved already: nothing is edited, the difference is booked.

Before anything was sent, the settlement is reversed, its payouts are canceled, and the market is settled anew under
the next number. Once money has left, only each user's difference is booked: a further payout, or a debt. A second
person confirms exactly the plan that was shown, by its hash, while nothing of the market has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.clock import Clock, system_clock
from kasoko_cli.domain.market import MarketStatus, Resolution
from kasoko_cli.domain.payout import AttemptStatus, PayoutKind, PayoutStatus, WireLimits, legs
from kasoko_cli.domain.withholding import NO_BOOK, DutyBook
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.ledger.journal import Earnings, Entry, UserCorrection
from kasoko_cli.operations.approvals.second_person import HASH_DIGITS, USUAL, ApprovalTerms, Declaration, hear, is_named
from kasoko_cli.operations.approvals.signatures import FIRST, OVERRIDE, hold_signed, note_signed
from kasoko_cli.operations.records.markets import describe_resolution, resolution_of
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way, is_doubted, tries_of
from kasoko_cli.operations.settlement.settle import (
    Owed,
    Plan,
    SettlementFigures,
    credits_of,
    debts_of,
    duties_of,
    duties_on,
    figures_of,
    hash_plan,
    keys_of_settlement,
    work_out,
    write_payouts,
    write_settlement,
)
from kasoko_cli.operations.shared.actor import Actor, needs_reason
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.transitions import UNSENT
from kasoko_cli.store import markets, payouts, statements, users
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.hash_chain import stamp
from kasoko_cli.store.schema.tables import Attempt, Market, Payout, Settlement

#: Attempts by which no money moved.
MOVED_NOTHING = frozenset({AttemptStatus.FAILED, AttemptStatus.REJECTED})


@dataclass(frozen=True, slots=True)
class UserChange:
    """What another outcome changes for one user, in cents.

    `kept_cents` is what stays with them of what they had or were owed; `canceled_cents` was owed and not
    sent; `new_cents` is a new payout; `overpaid_cents` they owe back, or below zero, is a debt that is dropped.
    """

    user_id: str
    before_cents: int
    after_cents: int
    kept_cents: int
    canceled_cents: int
    new_cents: int
    overpaid_cents: int


@dataclass(frozen=True, slots=True)
class Override:
    """What another outcome does, or would do. Amounts in cents.

    `way` is `resolution` where nothing was settled, `reversal` where nothing was sent, else `correction`.
    `house_cents` is what it costs the operator if nobody gives anything back. `note` is what the first of two
    people is told.
    """

    market: str
    slug: str
    way: str
    number: int | None
    was: str
    becomes: str
    before: SettlementFigures | None
    after: SettlementFigures
    users: list[UserChange]
    canceled: list[str]
    gained_cents: int
    overpaid_cents: int
    house_cents: int
    plan_hash: str
    needs_second: bool
    is_new: bool = False
    waits_for_second: bool = False
    proposed_by: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class OverridePolicy:
    """What the settings say of another outcome: how much M-Pesa carries, the duties, two people, what is guarded."""

    limits: WireLimits
    duties: DutyBook = NO_BOOK
    terms: ApprovalTerms = USUAL
    caution: Caution = payment_guard.CAREFUL


@dataclass(slots=True)
class _Work:
    """An override worked out in full: what the answer shows, and what writing it needs."""

    market: Market
    standing: Settlement | None
    plan: Plan
    #: A digest of how the market, its payouts and their attempts stand.
    stands: str
    cancel: list[Payout] = field(default_factory=list)
    owed: list[Owed] = field(default_factory=list)


def plan_override(
    db: Database, policy: OverridePolicy, *, market: str, resolution: Resolution, clock: Clock = system_clock
) -> Override:
    """Work out what another outcome would do, and write nothing of it. What has arrived is judged first.

    Raises:
        NotFound: there is no such market.
        Refused: it has no outcome yet, or has this one; or the guard objects to what it would take back.
        CheckFailed: its bets are not those that stood at the close.
    """
    payment_guard.judge_first(db, clock, policy.caution)
    with db.reading() as session:
        row, now = markets.find_market(session, market), clock()
        return _work_out(session, policy, row, resolution, now)[1]


def override(
    ctx: OperationContext, policy: OverridePolicy, *, market: str, resolution: Resolution, confirm: str | None = None
) -> Override:
    """Give a market another outcome. Once money has left, a second person has to confirm the first one's plan.

    A correction is of the winnings of that day, under the duty that they were under; what is sent because of it
    falls under the duty of today.

    `confirm` is the hash of the plan that was read, or its first 16 digits or more. The first word counts as
    long as no payout of the market has moved since, and until it expires.

    Raises:
        NotFound: there is no such market.
        Refused: no reason was given, it has this outcome already, the plan is not the one that was confirmed, or the
            guard objects to what it would take back.
        CheckFailed: its bets are not those that stood at the close.
    """
    needs_reason(ctx.actor, "Another outcome")
    payment_guard.judge_first(ctx.db, ctx.clock, policy.caution)
    now = ctx.clock()
    with ctx.db.transaction() as session:
        row = markets.find_market(session, market, lock=True)
        # Nobody begins to send one of them while we hold them all, and nobody spends what they were credited with.
        held = payouts.lock_market(session, row.id)
        users.lock_wallets(session, {one.user_id for one in held})
        work, shown = _work_out(session, policy, row, resolution, now)
        first = None
        if confirm is not None and not is_named(shown.plan_hash, confirm):
            raise Refused(
                f"The plan for {row.slug} is {shown.plan_hash[:HASH_DIGITS]} now, and not {confirm[:64]}."
                " Nothing was changed.",
                hint="Something was sent or has ended since it was read. Stop sending (kasoko pause), and read it"
                f" again: kasoko resolve {row.slug} OUTCOME --override --plan",
            )
        if shown.needs_second:
            hold_signed(session, ctx.actor, wanted=policy.terms.signed, at=now, what="Another outcome")
            bound = {"plan_hash": shown.plan_hash, "stands": work.stands}
            word = Declaration(OVERRIDE, row.id, bound, {"becomes": shown.becomes})
            heard = hear(session, ctx.actor, policy.terms, word, at=now, confirms=confirm is not None)
            if heard.first is None:
                return replace(shown, waits_for_second=True, proposed_by=ctx.actor.name, note=heard.note)
            first = heard.first
        _write(session, ctx.actor, work, shown, now, first=first)
        return replace(shown, is_new=True, proposed_by=first)


# --- Working it out -------------------------------------------------------------------------------------------


def _work_out(
    session: Session, policy: OverridePolicy, market: Market, resolution: Resolution, now: datetime
) -> tuple[_Work, Override]:
    was = resolution_of(market)
    if was is None:
        raise Refused(
            f"{market.slug} has no outcome yet; there is nothing to override.",
            hint=f"Name the winning outcome: kasoko resolve {market.slug} OUTCOME",
        )
    names = [outcome.name for outcome in markets.list_outcomes(session, market.id)]
    said, becomes = describe_resolution(was, names) or "", describe_resolution(resolution, names) or ""
    if was == resolution:
        raise Refused(f"{market.slug} is resolved as {said!r} already; nothing was changed.")
    standing = markets.standing_settlement(session, market.id)
    owed = payouts.list_payouts(session, market_id=market.id) if standing is not None else []
    tries = tries_of(session, [one.id for one in owed])
    _check_no_doubt(market, tries)
    way, today = "resolution", duties_on(policy.duties, now)
    if standing is not None:
        is_whole = standing.corrects is None and _nothing_left(session, owed, tries, standing.number)
        way = "reversal" if is_whole else "correction"
        if not is_whole:
            today = replace(today, winnings=duties_of(standing).winnings)
    plan = work_out(session, market, policy.limits, resolution=resolution, duties=today)
    work = _Work(market, standing, plan, _digest_of(market, owed, tries))
    changes: list[UserChange] = []
    if standing is not None and way == "reversal":
        work.cancel = [one for one in owed if one.settlement_no == standing.number]
        changes = _changed_by_settling_anew(work.cancel, plan)
    elif standing is not None:
        changes = _differences(session, work, owed, tries, policy.limits)
    payment_guard.check(session, Way.OVERRIDE, work.cancel, policy.caution, now=now, subject=market.slug)
    return work, _show(work, way, said, becomes, changes)


def _digest_of(market: Market, owed: Sequence[Payout], tries: Mapping[str, Sequence[Attempt]]) -> str:
    """A digest of how a market stands: its outcome, its payouts, and every send of each."""
    digest = hashlib.sha256(json.dumps([market.resolution, stamp(market.resolved_at)]).encode())
    for one in owed:
        sends = [[attempt.id, str(attempt.status), attempt.sends] for attempt in tries.get(one.id, ())]
        digest.update(json.dumps([one.id, str(one.status), one.amount_cents, sends]).encode())
    return digest.hexdigest()


def _check_no_doubt(market: Market, tries: Mapping[str, Sequence[Attempt]]) -> None:
    """What a restored copy may have forgotten is found out first."""
    for payout, some in tries.items():
        if any(is_doubted(one) for one in some):
            raise Refused(
                f"{market.slug} was not overridden: nobody knows yet whether {payout} was sent before this database"
                " was restored. Nothing was changed.",
                hint="Find out first: kasoko doctor --after-restore",
            )


def _nothing_left(
    session: Session, owed: Sequence[Payout], tries: Mapping[str, Sequence[Attempt]], number: int
) -> bool:
    """Whether everything that was owed can be taken back: nothing was sent, and what was credited is still there."""
    credited: dict[str, int] = {}
    for one in owed:
        if one.settlement_no != number:
            continue
        if one.status not in UNSENT | {PayoutStatus.WALLET}:
            return False
        if any(attempt.status not in MOVED_NOTHING for attempt in tries.get(one.id, ())):
            return False
        if one.status is PayoutStatus.WALLET:
            credited[one.user_id] = credited.get(one.user_id, 0) + one.amount_cents
    return all(book.available(session, user_id) >= cents for user_id, cents in credited.items())


def _changed_by_settling_anew(canceled: Sequence[Payout], plan: Plan) -> list[UserChange]:
    before, after = _sums(canceled), _sums(plan.owed)
    return [
        UserChange(user, before.get(user, 0), after.get(user, 0), 0, before.get(user, 0), after.get(user, 0), 0)
        for user in dict.fromkeys([*before, *after])
        if before.get(user, 0) != after.get(user, 0)
    ]


def _sums(owed: Iterable[Payout | Owed]) -> dict[str, int]:
    """The cents of each user."""
    sums: dict[str, int] = {}
    for one in owed:
        sums[one.user_id] = sums.get(one.user_id, 0) + one.amount_cents
    return sums


def _differences(
    session: Session, work: _Work, owed: Sequence[Payout], tries: Mapping[str, Sequence[Attempt]], limits: WireLimits
) -> list[UserChange]:
    """User by user: what stays, what is canceled, what is owed anew, and what is owed back."""
    standing = [one for one in owed if one.status is not PayoutStatus.CANCELED]
    debts = debts_of(session, work.market.id)
    given, after = _sums(standing), _sums(work.plan.owed)
    of_user: dict[str, list[Payout]] = {}
    for one in standing:
        of_user.setdefault(one.user_id, []).append(one)
    changes = []
    for user in dict.fromkeys([*given, *after]):
        before, wanted = given.get(user, 0) - debts.get(user, 0), after.get(user, 0)
        if before == wanted:
            continue
        canceled = [one for one in of_user.get(user, ()) if _can_cancel(one, tries)] if wanted < before else []
        work.cancel += canceled
        taken_back = sum(one.amount_cents for one in canceled)
        rest = wanted - (before - taken_back)
        if rest >= 0:
            owes = max(min(debts.get(user, 0), book.balance(session, Account.RECEIVABLE, user)), 0)
            dropped = min(rest, owes)
            new, overpaid = rest - dropped, -dropped
        else:
            new, overpaid = 0, -rest
        changes.append(UserChange(user, before, wanted, before - taken_back, taken_back, new, overpaid))
        _owe(work, user, new, limits)
    return changes


def _can_cancel(payout: Payout, tries: Mapping[str, Sequence[Attempt]]) -> bool:
    """Whether nothing of a payout was sent or credited; one that came back once has been credited."""
    return payout.status in UNSENT and all(one.status in MOVED_NOTHING for one in tries.get(payout.id, ()))


def _owe(work: _Work, user: str, cents: int, limits: WireLimits) -> None:
    """A new payout of the difference, in as many legs as M-Pesa needs."""
    kinds = {line.kind for line in work.plan.owed if line.user_id == user} if cents else set()
    kind = PayoutKind.REFUND if kinds == {PayoutKind.REFUND} else PayoutKind.PAYOUT
    duty = work.plan.duties.on_sending(refund=kind is PayoutKind.REFUND)
    for leg, cut in enumerate(legs(cents, limits, duty), start=1):
        work.owed.append(Owed(len(work.owed) + 1, user, kind, leg, *cut))


def _show(work: _Work, way: str, was: str, becomes: str, changes: list[UserChange]) -> Override:
    before = None if work.standing is None else figures_of(work.standing)
    after = work.plan.figures
    canceled = sorted(one.id for one in work.cancel)
    overpaid = sum(one.overpaid_cents for one in changes)
    lost = 0
    if before is not None and way == "correction":
        earned = after.fee_cents + after.breakage_cents - after.top_up_cents
        lost = before.fee_cents + before.breakage_cents - before.top_up_cents - earned
    return Override(
        market=work.market.id,
        slug=work.market.slug,
        way=way,
        number=work.plan.number if way == "correction" else None,
        was=was,
        becomes=becomes,
        before=before,
        after=after,
        users=changes,
        canceled=canceled,
        gained_cents=sum(max(one.after_cents - one.before_cents, 0) for one in changes),
        overpaid_cents=overpaid,
        house_cents=overpaid + lost,
        plan_hash=_hash(work, way, changes, canceled),
        needs_second=way == "correction",
    )


def _hash(work: _Work, way: str, changes: Sequence[UserChange], canceled: Sequence[str]) -> str:
    """A digest of exactly this plan: everything that it would book, and for whom."""
    told = [way, work.plan.plan_hash, [list(asdict(one).values()) for one in changes], list(canceled)]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()


# --- Writing it -----------------------------------------------------------------------------------------------


def _write(session: Session, actor: Actor, work: _Work, shown: Override, now: datetime, *, first: str | None) -> None:
    market, resolution = work.market, work.plan.resolution
    entries: list[Entry] = []
    for payout in work.cancel:
        moved = payouts.move(
            session, payout.id, PayoutStatus.CANCELED, at=now, note=f"the outcome was overridden: {actor.reason}"
        )
        assert moved, "a payout that we hold, and that nobody has sent, can be canceled"
    if work.standing is not None:
        # Before the new one is written: only one settlement of a market stands.
        markets.supersede(session, market.id, work.standing.number, at=now)
    if shown.way == "reversal":
        assert work.standing is not None
        keys = [f"payout:{one.id}:credit" for one in work.cancel if one.status is PayoutStatus.WALLET]
        keys = [f"settle:{market.id}:{work.standing.number}", *keys]
        entries += [journal.reversal(key, book.lines_of(session, key)) for key in keys]
    if shown.way == "correction":
        entries.append(_correct(session, work, shown, now))
        entries += credits_of(work.plan, work.owed)
    to = MarketStatus.VOID if resolution.void else MarketStatus.RESOLVED
    assert market.resolution is not None
    overridden = markets.override(
        session,
        market.id,
        was=market.resolution,
        to=to,
        resolution=json.dumps(resolution.as_dict(), sort_keys=True),
        at=now,
    )
    assert overridden, "a market that we hold has the outcome that we read"
    detail = {
        "was": shown.was,
        "becomes": shown.becomes,
        "way": shown.way,
        "plan_hash": shown.plan_hash,
        "resolution": resolution.as_dict(),
        **({} if first is None else {"stands": work.stands, FIRST: first}),
    }
    note_signed(
        session, actor if first is not None else replace(actor, key=None), OVERRIDE, market.id, at=now, detail=detail
    )
    book.post(session, *entries, at=now)


def _correct(session: Session, work: _Work, shown: Override, now: datetime) -> Entry:
    """The settlement that corrects the standing one, the payouts of the differences, and their entry."""
    standing, plan, before, after = work.standing, work.plan, shown.before, shown.after
    assert standing is not None
    assert before is not None
    booked = statements.posted_by_owner(session, keys_of_settlement(session, standing), Account.TAX_WITHHELD)
    people = dict.fromkeys([*booked, *plan.kept])
    withheld = {user: plan.kept.get(user, 0) + booked.get(user, 0) for user in people}
    plan_hash = hash_plan(plan, work.owed)
    write_settlement(session, plan, plan_hash=plan_hash, now=now, corrects=standing.number)
    write_payouts(session, work.market.id, plan.number, work.owed, now)
    return journal.corrected(
        work.market.id,
        plan.number,
        [UserCorrection(one.user_id, one.after_cents - one.before_cents, one.overpaid_cents) for one in shown.users],
        earned=Earnings(
            after.fee_cents - before.fee_cents,
            after.breakage_cents - before.breakage_cents,
            after.top_up_cents - before.top_up_cents,
        ),
        withheld=withheld,
    )
