"""A statement of ten thousand lines, of which two hundred differ in ten ways: every difference is named."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.audit import invariants
from kasoko_cli.operations.reconciliation import statement_import
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.settlement.settle import settle_market
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import payouts
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt, Bet, Callback, Funding, Payout, User
from tests.conftest import FixedClock
from tests.operations.data_builder import LIMITS, DataBuilder
from tests.operations.paper import B2C, CHARGE, PAYBILL, REVERSAL, TRANSFER, Paper
from tests.operations.reconciliation.test_statement_import import commands_in, parses

#: Payouts of the market, and how many of them differ in each of the ways.
PAYOUTS, EACH = 4_890, 20
LINES = 10_000


def a_large_market(builder: DataBuilder, clock: FixedClock) -> list[tuple[Payout, str, str]]:
    """Every payout was sent; all but the first sixty were paid, and our books know it. With attempt and phone."""
    builder.market("derby")
    now = clock()
    people = [(f"u{n:04d}", f"2547{n:08d}") for n in range(PAYOUTS)]
    with builder.db.transaction() as session:
        bulk_rows.insert_rows(
            session,
            User,
            [
                {"id": user, "name": user, "phone": phone, "created_at": now, "phone_set_at": now}
                for user, phone in [*people, ("loser", "254799999999")]
            ],
        )
        stakes = [(user, 0, 100_000 + 100 * n) for n, (user, _) in enumerate(people)] + [("loser", 1, 10_000_000)]
        bulk_rows.insert_rows(
            session,
            Bet,
            [
                {
                    "id": f"b-{user}",
                    "market_id": "derby",
                    "outcome": outcome,
                    "user_id": user,
                    "stake_cents": cents,
                    "funding": Funding.COLLECTED,
                    "placed_at": now,
                    "cancelled_at": None,
                }
                for user, outcome, cents in stakes
            ],
        )
        collected = (journal.bet_collected(f"b-{user}", "derby", outcome, cents) for user, outcome, cents in stakes)
        book.post_many(session, collected, at=now)
    clock.forward(1)
    markets.close_market(OperationContext(builder.db, clock, builder.actor), market="derby")
    markets.resolve_market(OperationContext(builder.db, clock, builder.actor), market="derby", winners=["Yes"])
    settle_market(OperationContext(builder.db, clock, builder.actor), LIMITS, market="derby")
    clock.forward(10)
    phones = dict(people)
    with builder.db.reading() as session:
        owed = [(one, f"ks-{one.number:032x}", phones[one.user_id]) for one in payouts.list_payouts(session)]
    _send(builder.db, clock, owed)
    return owed


def state_of(nth: int) -> AttemptStatus:
    """The first twenty are unknown, the next failed, the next unknown too; all others were paid."""
    if nth < 20 or 40 <= nth < 60:
        return AttemptStatus.UNKNOWN
    return AttemptStatus.FAILED if nth < 40 else AttemptStatus.SUCCEEDED


def _send(db: Database, clock: FixedClock, owed: list[tuple[Payout, str, str]]) -> None:
    now = clock()
    of_payout = {
        AttemptStatus.UNKNOWN: PayoutStatus.UNKNOWN,
        AttemptStatus.FAILED: PayoutStatus.FAILED,
        AttemptStatus.SUCCEEDED: PayoutStatus.COMPLETED,
    }
    rows, entries, posted = [], [], []
    for nth, (payout, attempt_id, phone) in enumerate(owed):
        status = state_of(nth)
        ended = status is not AttemptStatus.UNKNOWN
        rows.append(
            {
                "id": attempt_id,
                "payout_id": payout.id,
                "number": 1,
                "status": status,
                "phone": phone,
                "wire_cents": payout.wire_cents,
                "api": "v3",
                "sends": 1,
                "lease_token": "town",
                "lease_until": now,
                "sent_at": now,
                "conversation_id": f"AG_20261123_{nth:020x}",
                "receipt": receipt_of(nth) if status is AttemptStatus.SUCCEEDED else None,
                "evidence": f"callback:{nth + 1}" if ended else None,
                "created_at": now,
                "status_at": now,
            }
        )
        posted.append(
            {
                "id": nth + 1,
                "received_at": now,
                "route": "result",
                "subject": attempt_id,
                "signed": True,
                "source": "127.0.0.1",
                "body": b"{}",
                "applied_at": now,
                "verdict": "by hand",
            }
        )
        entries.append(journal.reserved(attempt_id, 1, payout.wire_cents))
        if status is AttemptStatus.FAILED:
            entries.append(journal.released(attempt_id, 1, payout.wire_cents))
        if status is AttemptStatus.SUCCEEDED:
            entries.append(journal.credited(payout.id, payout.user_id, payout.amount_cents))
            entries.append(journal.delivered(payout.id, attempt_id, payout.user_id, payout.wire_cents))
    with db.transaction() as session:
        bulk_rows.insert_rows(session, Callback, posted)
        bulk_rows.insert_rows(session, Attempt, rows)
        for status, becomes in of_payout.items():
            ids = [payout.id for nth, (payout, _, _) in enumerate(owed) if state_of(nth) is status]
            session.execute(
                Payout.__table__.update()  # type: ignore[attr-defined]
                .where(Payout.__table__.c.id.in_(ids))  # type: ignore[attr-defined]
                .values(status=str(becomes), failure_code="2040" if becomes is PayoutStatus.FAILED else None)
            )
        book.post_many(session, entries, at=now)


def receipt_of(nth: int) -> str:
    return f"UKN{nth:07d}"


def the_statement(clock: FixedClock, owed: list[tuple[Payout, str, str]], rng: random.Random) -> Paper:
    """What M-Pesa wrote: all that was paid, its charges, and twenty of each difference."""
    paper = Paper(opening_cents=10_000_000_000)
    at = clock()
    paper.since, paper.until = at - timedelta(days=1), at + timedelta(days=2)
    paper.line("UKS0000001", paper.since, paid_in=10_000, reason=PAYBILL)
    for nth, (payout, _, phone) in enumerate(owed):
        at += timedelta(seconds=rng.randrange(3))
        receipt, cents, shown = receipt_of(nth), payout.wire_cents, phone
        masked = f"{phone[:4]}****{phone[-4:]}" if nth % 2 else phone
        if 40 <= nth < 60:
            continue  # 3: unknown, and on no line
        if 60 <= nth < 80:
            cents += 5_000  # 4: another amount
        if 80 <= nth < 100:
            shown = masked = "254700000000"  # 5: another receiver
        if 100 <= nth < 120:
            continue  # 6: paid by our books, and on no line
        if 120 <= nth < 140:
            paper.line(receipt, at, withdrawn=cents, phone=shown, status="Failed")  # 7: failed there
            continue
        # 1 and 2: the first forty are unknown and failed in the books, and their lines are like all others.
        paper.line(receipt, at, withdrawn=cents, phone=masked, reason=B2C)
        paper.line(receipt, at, withdrawn=900, reason=CHARGE)
        if 140 <= nth < 160:
            paper.line(f"UKR{nth:07d}", at, paid_in=cents, reason=REVERSAL, linked=receipt)  # 8: it came back
    for nth in range(EACH):
        paper.line(f"UKX{nth:07d}", at, withdrawn=3_300, phone="254733000000")  # 9: paid to somebody unknown
        paper.line(f"UKT{nth:07d}", at, paid_in=1_000_000, reason=TRANSFER)  # 10: money from somewhere
    nth = 0
    while len(paper.rows) < LINES - 1:
        nth += 1
        paper.line(f"UKF{nth:07d}", at, paid_in=10_000, reason=PAYBILL, status="Failed")
    paper.line("UKS0000002", paper.until, paid_in=10_000, reason=PAYBILL)
    clock.forward(days=3)
    return paper


@pytest.mark.exhaustive
def test_ten_thousand_lines_are_matched_and_each_of_two_hundred_differences_is_named(
    builder: DataBuilder, clock: FixedClock
) -> None:
    owed = a_large_market(builder, clock)
    paper = the_statement(clock, owed, random.Random(7))
    file = paper.read()
    assert (len(file.lines), file.whole) == (LINES, True)
    report = statement_import.take_statement(
        OperationContext(builder.db, clock, builder.actor),
        file,
        statement_import.StatementRules(shortcode="600000", customers_are_counted=True),
    )
    found: dict[str, set[str]] = {}
    for one in report.differences:
        found.setdefault(one.kind, set()).add(one.payout_id or one.receipt or "")
        assert one.why
        assert one.command or one.kind == "ended-paid"
        assert all(parses(line) for line in commands_in(one.command)), one.command

    def names(first: int) -> set[str]:
        return {owed[nth][0].id for nth in range(first, first + EACH)}

    assert found == {
        "ended-paid": names(0),
        "late-success": names(20),
        "still-unknown": names(40),
        "wrong-amount": names(60),
        "wrong-receiver": names(80),
        "not-on-statement": names(100),
        "failed-here": names(120),
        "returned": names(140),
        "unmatched-out": {f"UKX{nth:07d}" for nth in range(EACH)},
        "unmatched-in": {f"UKT{nth:07d}" for nth in range(EACH)},
    }
    assert len(report.differences) == 200
    assert report.payouts.unexplained_cents == 0
    assert report.open == 200 - 3 * EACH
    with builder.db.reading() as session:
        paid = sum(cents for line in file.lines if line.kind == "payout" and (cents := -line.moved_cents))
        charges = sum(-line.moved_cents for line in file.lines if line.kind == "charge")
        assert report.payouts.statement.amount_cents == paid
        assert book.balance(session, Account.CHARGES) == charges
        assert book.balance(session, Account.SUSPENSE) == EACH * (3_300 + 5_000 - 1_000_000)
        for rule in (
            invariants.entries_balance,
            invariants.available_not_negative,
            invariants.suspense_equals_open_lines,
            invariants.success_has_receipt_and_evidence,
            invariants.payable_equals_uncredited_payouts,
        ):
            assert list(rule(session)) == []
