"""What must always hold, each asked of the database by a function of that name.

A function's docstring says what must hold; it yields what speaks against it, and nothing where all is well. Sums are
of BIGINT cents; keys of entries are built here as the journal builds them, so that a row without its entry is found as
surely as an entry without its row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Result,
    Select,
    SQLColumnExpression,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
)
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from kasoko_cli.domain.counts import count_of
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import ATTEMPT_ID_LENGTH, LIVE, AttemptStatus, PayoutStatus
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.shared.violation import Violation
from kasoko_cli.store.engine import row_digests
from kasoko_cli.store.log import stream_events
from kasoko_cli.store.schema.tables import (
    Approval,
    Attempt,
    Bet,
    Callback,
    EntryRow,
    Event,
    Funding,
    Incident,
    Outcome,
    Payout,
    PostingRow,
    Query,
    Settlement,
    StatementLine,
)
from kasoko_cli.store.statements import FORGOTTEN, RESTORED

#: How many entries are compared with their rows at a time.
FACTS_AT_ONCE = 5_000
#: Attempts that M-Pesa paid, whether or not the money came back later.
PAID = (AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED)
#: Attempts after which another id may be used.
DEAD = (AttemptStatus.FAILED, AttemptStatus.REJECTED, AttemptStatus.RETURNED)
#: Payouts whose amount stands in the wallet.
CREDITED = (PayoutStatus.COMPLETED, PayoutStatus.WALLET, PayoutStatus.RETURNED)
#: The state of the live attempt that each of these payouts has.
FLYING = {
    PayoutStatus.SENDING: AttemptStatus.INTENT,
    PayoutStatus.SENT: AttemptStatus.ACCEPTED,
    PayoutStatus.UNKNOWN: AttemptStatus.UNKNOWN,
}


# --- The books by themselves ----------------------------------------------------------------------------------


def entries_balance(session: Session) -> Iterator[Violation]:
    """Each entry sums to zero."""
    total = _sum(col(PostingRow.amount_cents))
    query = (
        sa.select(col(EntryRow.key), total)
        .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .group_by(col(EntryRow.id), col(EntryRow.key))
        .having(total != 0)
        .order_by(col(EntryRow.id))
    )
    for key, cents in session.execute(query):
        yield Violation(key, f"its lines sum to {cents} cents")


def book_balances(session: Session) -> Iterator[Violation]:
    """All postings together sum to zero."""
    cents = session.execute(sa.select(_sum(col(PostingRow.amount_cents)))).scalar_one()
    if cents:
        yield Violation("the book", f"all postings together sum to {cents} cents")


def available_not_negative(session: Session) -> Iterator[Violation]:
    """Nobody has less than nothing available."""
    held = _balances(Account.WALLET, Account.DELIVERED)
    query = sa.select(held.c.owner, held.c.cents).where(held.c.cents > 0).order_by(held.c.owner)
    for user_id, cents in session.execute(query):
        yield Violation(user_id, f"has KES {format_kes(-cents)} available")


def reversal_negates_target(session: Session) -> Iterator[Violation]:
    """A reversal takes back exactly the entry that it names."""
    target = aliased(EntryRow)
    named = col(target.key) == func.substr(col(EntryRow.key), len("reverse:") + 1)
    is_reversal = col(EntryRow.key).like("reverse:%")
    lost = (
        sa.select(col(EntryRow.key))
        .outerjoin(target, named)
        .where(is_reversal, col(target.id).is_(None))
        .order_by(col(EntryRow.id))
    )
    for (key,) in session.execute(lost):
        yield Violation(key, "the entry that it names does not exist")
    left = _sum(col(PostingRow.amount_cents))
    query = (
        sa.select(col(EntryRow.key), col(PostingRow.account), col(PostingRow.owner), left)
        .join(target, named)
        .join(PostingRow, col(PostingRow.entry_id).in_([col(EntryRow.id), col(target.id)]))
        .where(is_reversal)
        .group_by(col(EntryRow.id), col(EntryRow.key), col(PostingRow.account), col(PostingRow.owner))
        .having(left != 0)
        .order_by(col(EntryRow.id), col(PostingRow.account), col(PostingRow.owner))
    )
    for key, account, owner, cents in session.execute(query):
        yield Violation(key, f"together with its target it leaves {cents} cents on {_named(account, owner)}")


def rows_are_as_booked(session: Session) -> Iterator[Violation]:
    """The bet, the settlement or the attempt behind each entry is what it was when the entry was posted, with its
    phone, its receipt and its evidence.
    """
    after = 0
    query = (
        sa.select(col(EntryRow.id), col(EntryRow.key), col(EntryRow.kind), col(EntryRow.facts))
        .where(col(EntryRow.kind).in_(row_digests.KINDS))
        .order_by(col(EntryRow.id))
        .limit(FACTS_AT_ONCE)
    )
    while entries := session.execute(query.where(col(EntryRow.id) > after)).all():
        after = entries[-1][0]
        found = row_digests.facts_of(session, [row_digests.About(key, kind) for _, key, kind, _ in entries])
        for _, key, kind, digest in entries:
            fact = found.get(key)
            if fact is None:
                if digest is not None:
                    yield Violation(key, f"what this {kind} is about is no longer there, or not what it was")
            elif fact.stands and fact.digest != digest:
                yield Violation(key, f"what this {kind} is about is not what it was when it was posted")


# --- Pools ----------------------------------------------------------------------------------------------------


def open_pools_equal_stakes(session: Session) -> Iterator[Violation]:
    """The pool of a market that is not settled holds exactly its stakes."""
    pools = _balances(Account.POOL)
    stakes = (
        sa.select(col(Bet.market_id), col(Bet.outcome), _sum(col(Bet.stake_cents)).label("cents"))
        .where(col(Bet.cancelled_at).is_(None))
        .group_by(col(Bet.market_id), col(Bet.outcome))
        .subquery("stakes")
    )
    held, staked = func.coalesce(-pools.c.cents, 0), func.coalesce(stakes.c.cents, 0)
    query = (
        sa.select(_pool_owner(), held, staked)
        .outerjoin(Settlement, _stands_for(col(Outcome.market_id)))
        .outerjoin(pools, pools.c.owner == _pool_owner())
        .outerjoin(stakes, and_(stakes.c.market_id == col(Outcome.market_id), stakes.c.outcome == col(Outcome.number)))
        .where(col(Settlement.market_id).is_(None), held != staked)
        .order_by(col(Outcome.market_id), col(Outcome.number))
    )
    for owner, in_pool, on_it in session.execute(query):
        yield Violation(owner, f"its pool holds KES {format_kes(in_pool)}, and its stakes are KES {format_kes(on_it)}")
    stray = (
        sa.select(pools.c.owner, pools.c.cents)
        .outerjoin(Outcome, pools.c.owner == _pool_owner())
        .where(col(Outcome.market_id).is_(None), pools.c.cents != 0)
        .order_by(pools.c.owner)
    )
    for owner, cents in session.execute(stray):
        yield Violation(owner, f"is no outcome of any market, and its pool holds KES {format_kes(-cents)}")


def settled_markets_hold_nothing(session: Session) -> Iterator[Violation]:
    """A settled market has divided every cent that it held."""
    pools = _balances(Account.POOL)
    query = (
        sa.select(pools.c.owner, pools.c.cents)
        .join(Outcome, pools.c.owner == _pool_owner())
        .join(Settlement, _stands_for(col(Outcome.market_id)))
        .where(pools.c.cents != 0)
        .order_by(pools.c.owner)
    )
    for owner, cents in session.execute(query):
        yield Violation(owner, f"its market is settled, and its pool holds KES {format_kes(-cents)}")


# --- Attempts and what is in flight ---------------------------------------------------------------------------


def in_flight_equals_live_attempts(session: Session) -> Iterator[Violation]:
    """What is in flight is what the attempts whose fate is open were sent with, one by one."""
    # Called a text, or SQLite makes no index of it for the join below, and looks at each one for each attempt.
    sent = sa.select(
        cast(func.substr(col(EntryRow.key), len("attempt:") + 1, ATTEMPT_ID_LENGTH), Text).label("attempt_id"),
        col(PostingRow.amount_cents),
    ).join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
    arrived = (
        sa.select(col(Attempt.id), col(PostingRow.amount_cents))
        .join(EntryRow, _delivers())
        .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
    )
    on_account = col(PostingRow.account) == str(Account.IN_FLIGHT)
    moved = sa.union_all(
        sent.where(on_account, col(EntryRow.key).like("attempt:%")), arrived.where(on_account)
    ).subquery("moved")
    flying = (
        sa.select(moved.c.attempt_id, _sum(moved.c.amount_cents).label("cents"))
        .group_by(moved.c.attempt_id)
        .subquery("flying")
    )
    held = func.coalesce(flying.c.cents, 0)
    expected = case((col(Attempt.status).in_(LIVE), col(Attempt.wire_cents)), else_=0)
    query = (
        sa.select(col(Attempt.id), col(Attempt.status), held, expected)
        .outerjoin(flying, flying.c.attempt_id == col(Attempt.id))
        .where(held != expected)
        .order_by(col(Attempt.id))
    )
    for attempt_id, status, cents, should in session.execute(query):
        yield Violation(
            attempt_id, f"is {status} with KES {format_kes(cents)} in flight instead of KES {format_kes(should)}"
        )
    live = sa.select(_sum(col(Attempt.wire_cents))).where(col(Attempt.status).in_(LIVE)).scalar_subquery()
    book = sa.select(_sum(col(PostingRow.amount_cents))).where(on_account).scalar_subquery()
    in_book, wired = session.execute(sa.select(book, live)).one()
    if in_book != wired:
        yield Violation(
            str(Account.IN_FLIGHT), f"holds KES {format_kes(in_book)}, and live attempts wired KES {format_kes(wired)}"
        )


def payouts_follow_their_attempts(session: Session) -> Iterator[Violation]:
    """A payout that is being sent, sent or unknown has one attempt in that state, and no other payout has one unless
    it was paid by another.
    """
    flying = and_(col(Attempt.payout_id) == col(Payout.id), col(Attempt.status).in_(LIVE))
    fits = or_(*(and_(col(Payout.status) == p, col(Attempt.status) == a) for p, a in FLYING.items()))
    # A late success of an earlier attempt completes a payout while a later one is still on its way.
    overtaken = col(Payout.status).in_([PayoutStatus.COMPLETED, PayoutStatus.RETURNED])
    query = (
        sa.select(col(Payout.id), col(Payout.status), col(Attempt.id), col(Attempt.status))
        .outerjoin(Attempt, flying)
        .where(
            or_(
                and_(col(Payout.status).in_(list(FLYING)), col(Attempt.id).is_(None)),
                and_(col(Attempt.id).is_not(None), sa.not_(fits), sa.not_(overtaken)),
            )
        )
        .order_by(col(Payout.id))
    )
    for payout_id, status, attempt_id, stands in session.execute(query):
        other = "no attempt is on its way" if attempt_id is None else f"its attempt {attempt_id} is {stands}"
        yield Violation(payout_id, f"is {status}, and {other}")


def new_attempt_has_dead_predecessor(session: Session) -> Iterator[Violation]:
    """A payout is tried under a new id only after the attempt before it ended without the money moving for good."""
    before = aliased(Attempt)
    query = (
        sa.select(col(Attempt.id), col(Attempt.number), col(before.id), col(before.status))
        .outerjoin(
            before, and_(col(before.payout_id) == col(Attempt.payout_id), col(before.number) == col(Attempt.number) - 1)
        )
        # What failed on evidence and was paid after all is known, and a person has it before them.
        .outerjoin(Incident, col(Incident.key) == literal("late-success:").concat(col(before.id)))
        .where(
            col(Attempt.number) > 1,
            # What only stands for a request that a restored copy may have forgotten was never sent from here.
            or_(col(Attempt.status) != AttemptStatus.REJECTED, func.coalesce(col(Attempt.evidence), "") != FORGOTTEN),
            or_(
                col(before.id).is_(None),
                and_(
                    col(before.status).not_in(DEAD),
                    or_(col(before.status) != AttemptStatus.SUCCEEDED, col(Incident.id).is_(None)),
                ),
            ),
        )
        .order_by(col(Attempt.id))
    )
    for attempt_id, number, earlier, status in session.execute(query):
        what = "the one before it does not exist" if earlier is None else f"the one before it, {earlier}, is {status}"
        yield Violation(attempt_id, f"is attempt {number} of its payout, and {what}")


def success_has_receipt_and_evidence(session: Session) -> Iterator[Violation]:
    """An attempt that was paid has a receipt, and its evidence is in this database."""
    callback_says = and_(
        col(Attempt.evidence) == literal("callback:").concat(cast(col(Callback.id), Text)),
        col(Callback.subject) == col(Attempt.id),
    )
    query_says = and_(
        col(Attempt.evidence) == literal("status:").concat(col(Query.id)), col(Query.attempt_id) == col(Attempt.id)
    )
    statement_says = and_(
        col(Attempt.evidence) == literal("statement:").concat(col(StatementLine.key)),
        col(StatementLine.attempt_id) == col(Attempt.id),
        col(StatementLine.receipt) == col(Attempt.receipt),
    )
    unproven = or_(
        col(Attempt.receipt).is_(None),
        col(Attempt.evidence).is_(None),
        and_(col(Attempt.evidence).like("callback:%"), col(Callback.id).is_(None)),
        and_(col(Attempt.evidence).like("status:%"), col(Query.id).is_(None)),
        and_(col(Attempt.evidence).like("statement:%"), col(StatementLine.key).is_(None)),
    )
    query = (
        sa.select(col(Attempt.id), col(Attempt.receipt), col(Attempt.evidence))
        .outerjoin(Callback, callback_says)
        .outerjoin(Query, query_says)
        .outerjoin(StatementLine, statement_says)
        .where(col(Attempt.status).in_(PAID), unproven)
        .order_by(col(Attempt.id))
    )
    for attempt_id, receipt, evidence in session.execute(query):
        if receipt is None:
            what = "was paid without a receipt"
        elif evidence is None:
            what = "was paid without evidence"
        else:
            what = f"was paid on the evidence {evidence}, which is not about it or not there"
        yield Violation(attempt_id, what)


def wire_within_payout(session: Session) -> Iterator[Violation]:
    """No attempt was sent with more than its payout."""
    query = (
        sa.select(col(Attempt.id), col(Attempt.wire_cents), col(Payout.id), col(Payout.wire_cents))
        .join(Payout, col(Payout.id) == col(Attempt.payout_id))
        .where(col(Attempt.wire_cents) > col(Payout.wire_cents))
        .order_by(col(Attempt.id))
    )
    for attempt_id, wire, payout_id, most in session.execute(query):
        yield Violation(
            attempt_id, f"was sent with KES {format_kes(wire)}, and {payout_id} carries KES {format_kes(most)}"
        )


# --- Payouts and what their users were credited with ----------------------------------------------------------


def win_credited_once(session: Session) -> Iterator[Violation]:
    """Each credit is the whole of one payout, to its own user."""
    stray = (
        sa.select(col(EntryRow.key))
        .outerjoin(Payout, _credits())
        .where(col(EntryRow.kind) == "credit", col(Payout.id).is_(None))
        .order_by(col(EntryRow.id))
    )
    for (key,) in session.execute(stray):
        yield Violation(key, "credits a payout that does not exist, or one that was credited already")
    of_user = col(PostingRow.owner) == col(Payout.user_id)
    into_wallet = _sum_where(and_(of_user, col(PostingRow.account) == str(Account.WALLET)))
    from_payable = _sum_where(and_(of_user, col(PostingRow.account) == str(Account.PAYABLE)))
    query = (
        sa.select(col(Payout.id), col(Payout.user_id), col(Payout.amount_cents), into_wallet)
        .join(EntryRow, _credits())
        .outerjoin(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .group_by(col(Payout.id), col(Payout.user_id), col(Payout.amount_cents))
        .having(
            or_(into_wallet != -col(Payout.amount_cents), from_payable != col(Payout.amount_cents), func.count() != 2)
        )
        .order_by(col(Payout.id))
    )
    for payout_id, user_id, owed, cents in session.execute(query):
        yield Violation(
            payout_id, f"owes {user_id} KES {format_kes(owed)}, and its credit gave them KES {format_kes(-cents)}"
        )


def completed_means_credited_and_delivered(session: Session) -> Iterator[Violation]:
    """A completed payout was credited and delivered exactly once, and no other has a delivery that stands."""
    delivered, returned = _count_entries(_deliver_key()), _count_entries(_return_key())
    standing = func.coalesce(delivered.c.entries, 0) - func.coalesce(returned.c.entries, 0)
    came_back = func.coalesce(returned.c.entries, 0)
    is_done = col(Payout.status).in_(CREDITED)
    taken_back = aliased(EntryRow)
    query = (
        sa.select(col(Payout.id), col(Payout.status), col(EntryRow.id), standing)
        .outerjoin(EntryRow, col(EntryRow.key) == _credit_key())
        .outerjoin(taken_back, col(taken_back.key) == literal("reverse:").concat(_credit_key()))
        .outerjoin(delivered, delivered.c.payout_id == col(Payout.id))
        .outerjoin(returned, returned.c.payout_id == col(Payout.id))
        .where(
            or_(
                standing != case((col(Payout.status) == PayoutStatus.COMPLETED, 1), else_=0),
                and_(is_done, col(EntryRow.id).is_(None)),
                and_(sa.not_(is_done), col(EntryRow.id).is_not(None), came_back == 0, col(taken_back.id).is_(None)),
                and_(is_done, col(taken_back.id).is_not(None)),
            )
        )
        .order_by(col(Payout.id))
    )
    for payout_id, status, credit, times in session.execute(query):
        credited = "not credited" if credit is None else "credited"
        yield Violation(
            payout_id,
            f"is {status}, was {credited}, and has {count_of(times, 'standing delivery', 'standing deliveries')}",
        )


def paid_attempts_are_booked_once(session: Session) -> Iterator[Violation]:
    """An attempt that M-Pesa paid is booked once, as delivered or as overpaid, and no other attempt is."""
    stray = (
        sa.select(col(EntryRow.key))
        .outerjoin(Attempt, _delivers())
        .where(col(EntryRow.kind) == "deliver", col(Attempt.id).is_(None))
        .order_by(col(EntryRow.id))
    )
    for (key,) in session.execute(stray):
        yield Violation(key, "delivers by an attempt that does not exist")
    booked = col(EntryRow.key).in_([_deliver_key(), _overpaid_key()])
    times = func.count(col(EntryRow.id))
    expected = case((col(Attempt.status).in_(PAID), 1), else_=0)
    counted = (
        sa.select(col(Attempt.id), col(Attempt.status), times)
        .outerjoin(EntryRow, booked)
        .group_by(col(Attempt.id), col(Attempt.status))
        .having(times != expected)
        .order_by(col(Attempt.id))
    )
    for attempt_id, status, count in session.execute(counted):
        yield Violation(attempt_id, f"is {status}, and is booked as paid {count} times")
    to_user = _sum_where(
        and_(
            col(PostingRow.owner) == col(Payout.user_id),
            col(PostingRow.account).in_([str(Account.DELIVERED), str(Account.RECEIVABLE)]),
        )
    )
    weighed = (
        sa.select(col(Attempt.id), col(Attempt.wire_cents), to_user, col(EntryRow.key))
        .join(Payout, col(Payout.id) == col(Attempt.payout_id))
        .join(EntryRow, booked)
        .outerjoin(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .group_by(col(Attempt.id), col(Attempt.wire_cents), col(EntryRow.id), col(EntryRow.key))
        .having(to_user != col(Attempt.wire_cents))
        .order_by(col(Attempt.id))
    )
    for attempt_id, wire, cents, key in session.execute(weighed):
        yield Violation(
            attempt_id, f"was sent with KES {format_kes(wire)}, and {key} books KES {format_kes(cents)} to its user"
        )


def payable_equals_uncredited_payouts(session: Session) -> Iterator[Violation]:
    """What the books owe each user is the sum of the payouts that were not credited yet."""
    on_books = sa.select(col(PostingRow.owner), -col(PostingRow.amount_cents)).where(
        col(PostingRow.account) == str(Account.PAYABLE)
    )
    open_payouts = (
        sa.select(col(Payout.user_id), col(Payout.amount_cents))
        .outerjoin(EntryRow, col(EntryRow.key) == _credit_key())
        .where(col(EntryRow.id).is_(None), col(Payout.status) != PayoutStatus.CANCELED)
    )
    # What came back and is sent again was credited before: it is owed to the phone until it has arrived.
    sent_again = (
        sa.select(col(Payout.user_id), col(Payout.wire_cents) + col(Payout.withheld_cents))
        .join(EntryRow, _credits())
        .where(col(Payout.status).not_in([*CREDITED, PayoutStatus.CANCELED]))
    )
    for user_id, in_book, by_payouts in _at_odds(session, on_books, open_payouts, sent_again):
        yield Violation(
            user_id,
            f"the books owe KES {format_kes(in_book)}, and the payouts not credited yet are"
            f" KES {format_kes(by_payouts)}",
        )


def withheld_equals_what_arrived(session: Session) -> Iterator[Violation]:
    """What was kept back of what was sent to a user is what their payments that arrived say."""
    booked_rows = (
        sa.select(col(PostingRow.owner), -col(PostingRow.amount_cents))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(PostingRow.account) == str(Account.TAX_WITHHELD), col(EntryRow.kind).in_(["deliver", "return"]))
    )
    arrived = sa.select(col(Payout.user_id), col(Payout.withheld_cents)).where(
        col(Payout.withheld_cents) > 0, col(Payout.status) == PayoutStatus.COMPLETED
    )
    for user_id, in_book, by_payouts in _at_odds(session, booked_rows, arrived):
        yield Violation(
            user_id,
            f"KES {format_kes(in_book)} was kept back of what was sent, and the payments that arrived say"
            f" KES {format_kes(by_payouts)}",
        )


def remittances_are_as_recorded(session: Session) -> Iterator[Violation]:
    """Each payment of tax to the authority is in the books as somebody booked it."""
    paid = col(PostingRow.account) == str(Account.TAX_REMITTED)
    query = (
        sa.select(col(EntryRow.key), col(PostingRow.owner), col(PostingRow.amount_cents))
        .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
        .where(paid)
    )
    booked = {key: (on, cents) for key, on, cents in session.execute(query)}
    acts = stream_events(session, col(Event.action) == "tax.remit")
    said = {f"remit:{act.subject}": (act.detail["on"], act.detail["cents"]) for act in acts}
    for key in sorted(booked.keys() | said.keys()):
        if booked.get(key) != said.get(key):
            on, cents = booked.get(key, ("nothing", 0))
            by_act = f"KES {format_kes(said[key][1])} on {said[key][0]}" if key in said else "none"
            yield Violation(key, f"the books have KES {format_kes(cents)} on {on}, and the act says {by_act}")


def receivables_not_negative(session: Session) -> Iterator[Violation]:
    """Nobody has given back more than was overpaid."""
    owed = _balances(Account.RECEIVABLE)
    query = sa.select(owed.c.owner, owed.c.cents).where(owed.c.cents < 0).order_by(owed.c.owner)
    for user_id, cents in session.execute(query):
        yield Violation(user_id, f"has given back KES {format_kes(-cents)} more than was overpaid")


def suspense_equals_open_lines(session: Session) -> Iterator[Violation]:
    """What stands in suspense is the money of statement lines that nobody has resolved, one by one."""
    line_key = case(
        (col(EntryRow.key).like("suspense:%"), func.substr(col(EntryRow.key), len("suspense:") + 1, 24)),
        (
            col(EntryRow.key).like("reverse:suspense:%"),
            func.substr(col(EntryRow.key), len("reverse:suspense:") + 1, 24),
        ),
        else_=col(EntryRow.key),
    )
    moved = (
        sa.select(cast(line_key, Text).label("line_key"), col(PostingRow.amount_cents))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(PostingRow.account) == str(Account.SUSPENSE))
        .subquery("moved")
    )
    held = (
        sa.select(moved.c.line_key, (-_sum(moved.c.amount_cents)).label("cents"))
        .group_by(moved.c.line_key)
        .subquery("held")
    )
    expected = case((col(StatementLine.resolved_at).is_(None), col(StatementLine.suspense_cents)), else_=0)
    in_books = func.coalesce(held.c.cents, 0)
    query = (
        sa.select(col(StatementLine.key), in_books, expected)
        .outerjoin(held, held.c.line_key == col(StatementLine.key))
        .where(in_books != expected)
        .order_by(col(StatementLine.key))
    )
    for key, cents, should in session.execute(query):
        yield Violation(key, f"has KES {format_kes(cents)} in suspense instead of KES {format_kes(should)}")
    stray = (
        sa.select(held.c.line_key, held.c.cents)
        .outerjoin(StatementLine, held.c.line_key == col(StatementLine.key))
        .where(col(StatementLine.key).is_(None), held.c.cents != 0)
        .order_by(held.c.line_key)
    )
    for key, cents in session.execute(stray):
        yield Violation(key, f"is no line of a statement, and has KES {format_kes(cents)} in suspense")


def wallets_recompute(session: Session) -> Iterator[Violation]:
    """What each wallet gave to bets and got back from them is what the bets themselves say."""
    moved = (
        sa.select(col(PostingRow.owner), col(PostingRow.amount_cents))
        .join(EntryRow, col(EntryRow.id) == col(PostingRow.entry_id))
        .where(col(PostingRow.account) == str(Account.WALLET), col(EntryRow.kind).in_(["bet", "bet_cancel"]))
    )
    standing = sa.select(col(Bet.user_id), col(Bet.stake_cents)).where(
        col(Bet.funding) == Funding.WALLET, col(Bet.cancelled_at).is_(None)
    )
    # The platform had collected these, and their cancelling put them into the wallet.
    given_back = sa.select(col(Bet.user_id), -col(Bet.stake_cents)).where(
        col(Bet.funding) == Funding.COLLECTED, col(Bet.cancelled_at).is_not(None)
    )
    for user_id, in_book, by_bets in _at_odds(session, moved, standing, given_back):
        yield Violation(
            user_id, f"the wallet gave KES {format_kes(in_book)} to bets, and the bets say KES {format_kes(by_bets)}"
        )


# --- The second person ----------------------------------------------------------------------------------------


def second_person_releases(session: Session) -> Iterator[Violation]:
    """What waits for a second person has not gone on, and nothing waits that asks for none.

    Not those that were released and paid, and then an older copy was put back: that was found out since.
    """
    outstanding = and_(
        col(Approval.market_id) == col(Payout.market_id),
        col(Approval.settlement_no) == col(Payout.settlement_no),
        col(Approval.approved_by).is_(None),
    )
    stays = (PayoutStatus.AWAITING_APPROVAL, PayoutStatus.HELD, PayoutStatus.CANCELED)
    found_paid = sa.exists().where(
        col(Attempt.payout_id) == col(Payout.id),
        col(Attempt.lease_token).like(f"{RESTORED}%"),
        col(Attempt.receipt).is_not(None),
    )
    went_on = (
        sa.select(col(Payout.id), col(Payout.status))
        .join(Approval, outstanding)
        .where(col(Payout.status).not_in(stays), sa.not_(found_paid))
        .order_by(col(Payout.id))
    )
    for payout_id, status in session.execute(went_on):
        yield Violation(payout_id, f"it is {status}, and no second person has released its settlement")
    left_waiting = (
        sa.select(col(Payout.id))
        .outerjoin(Approval, outstanding)
        .where(col(Payout.status) == PayoutStatus.AWAITING_APPROVAL, col(Approval.market_id).is_(None))
        .order_by(col(Payout.id))
    )
    for (payout_id,) in session.execute(left_waiting):
        yield Violation(payout_id, "it waits for a second person, and its settlement asks for none")


# --- Pieces of the questions ----------------------------------------------------------------------------------


def _at_odds(
    session: Session, booked: Select[*tuple[Any, ...]], *rows: Select[*tuple[Any, ...]]
) -> Result[*tuple[Any, ...]]:
    """The users for whom what is booked and what the rows say differ, with both sums; each row is a user and cents."""
    of_rows = (one.add_columns(literal(0)) for one in rows)
    both = sa.union_all(booked.add_columns(literal(1)), *of_rows).subquery("both")
    user_id, cents, is_booked = both.columns
    one, other = (_sum(case((is_booked == side, cents), else_=0)) for side in (1, 0))
    return session.execute(sa.select(user_id, one, other).group_by(user_id).having(one != other).order_by(user_id))


def _sum(column: SQLColumnExpression[Any]) -> ColumnElement[int]:
    """A sum of cents that both databases answer with a whole number."""
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


def _sum_where(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return _sum(case((condition, col(PostingRow.amount_cents)), else_=0))


def _balances(*accounts: Account) -> FromClause:
    """The debit balance of each owner over these accounts."""
    return (
        sa.select(col(PostingRow.owner), _sum(col(PostingRow.amount_cents)).label("cents"))
        .where(col(PostingRow.account).in_([str(account) for account in accounts]))
        .group_by(col(PostingRow.owner))
        .subquery("balances")
    )


def _count_entries(key: ColumnElement[str]) -> FromClause:
    """For each payout whose attempts have entries under such keys: how many."""
    return (
        sa.select(col(Attempt.payout_id), func.count().label("entries"))
        .join(EntryRow, col(EntryRow.key) == key)
        .group_by(col(Attempt.payout_id))
        .subquery()
    )


def _stands_for(market_id: SQLColumnExpression[str]) -> ColumnElement[bool]:
    return and_(col(Settlement.market_id) == market_id, col(Settlement.reversed_at).is_(None))


def _pool_owner() -> ColumnElement[str]:
    return col(Outcome.market_id).concat("/").concat(cast(col(Outcome.number), Text))


def _credits() -> ColumnElement[bool]:
    """An entry is the credit of a payout. The id is also read out of the key, so that the database can go from
    entries to payouts by an index, and not only the other way: it took a look at each payout for each entry."""
    around, length = len("payout::credit"), func.length(col(EntryRow.key))
    # PostgreSQL refuses to cut less than nothing out of a key that is shorter.
    within = case((length > around, func.substr(col(EntryRow.key), len("payout:") + 1, length - around)), else_="")
    return and_(col(Payout.id) == within, col(EntryRow.key) == _credit_key())


def _delivers() -> ColumnElement[bool]:
    """An entry is the delivery of an attempt; its id, at the end of the key, is read out of it as in `_credits`."""
    at_the_end = func.substr(col(EntryRow.key), func.length(col(EntryRow.key)) - (ATTEMPT_ID_LENGTH - 1))
    return and_(col(Attempt.id) == at_the_end, col(EntryRow.key) == _deliver_key())


def _credit_key() -> ColumnElement[str]:
    return literal("payout:").concat(col(Payout.id)).concat(":credit")


def _deliver_key() -> ColumnElement[str]:
    return literal("payout:").concat(col(Attempt.payout_id)).concat(":deliver:").concat(col(Attempt.id))


def _return_key() -> ColumnElement[str]:
    return literal("payout:").concat(col(Attempt.payout_id)).concat(":return:").concat(col(Attempt.receipt))


def _overpaid_key() -> ColumnElement[str]:
    return literal("overpaid:").concat(col(Attempt.receipt))


def _named(account: str, owner: str) -> str:
    return f"{account} of {owner}" if owner else account
