"""Claims about a statement that is taken back: as if it had never been there, or not at all."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlmodel import select

from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.reconciliation import statement_import
from kasoko_cli.operations.reconciliation.statement_undo import Undone, list_taken, undo_statement
from kasoko_cli.operations.records import bets
from kasoko_cli.operations.records.bets import NewBet
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import attempts
from kasoko_cli.store.schema.tables import Funding, PostingRow
from tests.operations.data_builder import refusal
from tests.operations.paper import CHARGE, REVERSAL, TRANSFER, Paper
from tests.operations.payout_harness import CYN, PayoutHarness
from tests.operations.reconciliation.test_statement_import import (
    answer,
    both_lines,
    empty_paper,
    paid,
    paid_line,
    silent,
    take,
    unknown,
)

__all__ = ["paid", "silent"]  # fixtures


def balances(harness: PayoutHarness) -> dict[tuple[str, str], int]:
    """What stands on each account, in debit cents."""
    with harness.db.reading() as session:
        rows = session.exec(select(PostingRow)).all()
    found: dict[tuple[str, str], int] = {}
    for row in rows:
        found[row.account, row.owner] = found.get((row.account, row.owner), 0) + row.amount_cents
    return {name: cents for name, cents in found.items() if cents}


def undo(harness: PayoutHarness, number: int = 1) -> Undone:
    return undo_statement(harness.context, statement_id=number)


def is_sound(harness: PayoutHarness) -> bool:
    report = audit(harness.db, harness.clock, deep=True, chain=True)
    assert [(check.name, check.violations) for check in report.checks if not check.ok] == []
    return True


def wrong(harness: PayoutHarness) -> Paper:
    """Charges, money that nobody knows of, a payment that is not on it, and one with another amount."""
    paper = both_lines(harness, framed=True)
    ann, ben = harness.attempt("ann"), harness.attempt("ben")
    paper.line(ann.receipt or "", harness.clock(), withdrawn=900, reason=CHARGE)
    paper.line("UKC0000001", harness.clock(), withdrawn=700, reason=CHARGE, linked=ben.receipt or "")
    paper.line("UKX0000001", harness.clock(), withdrawn=72_000_000, phone=CYN)
    paper.line("UKT0000001", harness.clock(), paid_in=5_000_000, reason=TRANSFER)
    paper.rows[2][6] = "-101.00"
    paper.movement(harness.clock() + timedelta(days=1))
    harness.clock.forward(days=2)
    return paper


def test_it_is_as_if_it_had_never_been_taken_in_and_it_may_be_taken_in_again(paid: PayoutHarness) -> None:
    before = balances(paid)
    paper = wrong(paid)
    first = take(paid, paper, counted=True)
    assert balances(paid) != before
    incidents = len(paid.incidents())
    assert incidents
    statement_import.resolve_suspense(paid.context, name="UKT0000001", resolution="wallet", user_id="ann")

    done = undo(paid)
    assert (done.lines, done.entries, done.incidents, done.charges_cents) == (len(paper.rows), 8, incidents, 1_600)
    assert balances(paid) == before
    assert paid.incidents() == []
    assert statement_import.list_suspense(paid.db) == []
    assert [one.state for one in list_taken(paid.db)] == ["taken back"]
    assert is_sound(paid)

    again = take(paid, paper, counted=True)
    assert again.is_new
    assert [(one.kind, one.receipt, one.open) for one in again.differences] == [
        (one.kind, one.receipt, one.open) for one in first.differences
    ]
    assert len(paid.incidents()) == incidents, "they are raised anew"
    assert paid.balance(Account.CHARGES) == 1_600
    assert paid.balance(Account.CHARGES_DUE) == 0
    assert is_sound(paid)
    statement_import.resolve_suspense(paid.context, name="UKT0000001", resolution="bank")
    assert take(paid, paper, counted=True).new_lines == 0
    assert is_sound(paid)

    undo(paid)
    assert balances(paid) == before
    assert is_sound(paid)
    take(paid, paper, counted=True, name="a third time.csv")
    assert is_sound(paid)


def test_a_charge_that_was_expected_before_is_still_expected(paid: PayoutHarness) -> None:
    ann = paid.attempt("ann")
    with paid.db.transaction() as session:
        book.post(session, journal.charged(ann.id, 900), at=paid.clock())
    before = balances(paid)
    paper = both_lines(paid)
    paper.line(ann.receipt or "", paid.clock(), withdrawn=900, reason=CHARGE)
    take(paid, paper)
    assert undo(paid).entries == 1
    assert balances(paid) == before
    assert take(paid, paper).by_verdict.keys() == {"matched", "charge"}
    assert paid.balance(Account.CHARGES_DUE) == 0
    assert is_sound(paid)


@pytest.mark.parametrize("taken", [False, True], ids=["never taken", "acknowledged"])
def test_what_its_silence_ended_is_unknown_again(silent: PayoutHarness, *, taken: bool) -> None:
    ann = unknown(silent, "ann")
    if taken:
        with silent.db.transaction() as session:
            attempts.keep_conversation(session, ann.id, conversation_id="AG_20261123_1", gateway_id=None)
    before = balances(silent)
    answer(silent, ann.id, 1, 3)
    paper = empty_paper(silent)
    take(silent, paper, counted=True)
    assert silent.statuses()["ann"] == "FAILED"
    assert undo(silent).unknown_again == ["derby.1.1"]
    assert silent.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    assert balances(silent) == before
    assert is_sound(silent)

    take(silent, paper, counted=True)
    assert silent.statuses()["ann"] == "FAILED"
    assert is_sound(silent)
    if taken:
        return  # the simulator knows it by another id
    undo(silent)
    silent.interpose = lambda request: None
    silent.reconcile()
    silent.deliver()
    assert silent.states("ann") == ("COMPLETED", ["SUCCEEDED"]), "it had been paid, and nothing was sent again"
    assert silent.paid_to(ann.phone) == 10_000
    assert is_sound(silent)


def test_what_was_tried_again_since_refuses_the_whole(silent: PayoutHarness) -> None:
    answer(silent, unknown(silent, "ann").id, 1, 3)
    paper = empty_paper(silent)
    paper.line("UKX0000001", silent.clock(), withdrawn=7_00, phone=CYN)
    take(silent, paper, counted=True)
    silent.retry()
    message, _ = refusal(lambda: undo(silent), Refused)
    assert "its silence ended derby.1.1 as not paid, which is PENDING since" in message
    silent.send()
    refusal(lambda: undo(silent), Refused)
    assert silent.balance(Account.SUSPENSE) == 7_00


def test_who_was_paid_by_a_line_of_it_refuses_the_whole(silent: PayoutHarness) -> None:
    at = silent.clock() + timedelta(seconds=2)
    paper = Paper().covering([at])
    paid_line(paper, unknown(silent, "ann"), silent.ledger()[0]["receipt"], at)
    paper.line("UKX0000001", at, withdrawn=7_00, phone=CYN)
    take(silent, paper)
    before = silent.money()
    message, _ = refusal(lambda: undo(silent), Refused)
    assert f"derby.1.1 was paid, and {silent.ledger()[0]['receipt']} of it is the proof" in message
    assert silent.money() == before


def test_what_came_back_or_is_spent_refuses_the_whole(paid: PayoutHarness) -> None:
    paper = both_lines(paid)
    paper.line("UKR0000001", paid.clock(), paid_in=10_000, reason=REVERSAL, linked=paid.attempt("ann").receipt or "")
    take(paid, paper)
    assert "money came back by UKR0000001" in refusal(lambda: undo(paid), Refused)[0]

    paper = Paper()
    paper.line("UKT0000001", paid.clock(), paid_in=50_000, reason=TRANSFER)
    take(paid, paper)
    statement_import.resolve_suspense(paid.context, name="UKT0000001", resolution="wallet", user_id="ben")
    paid.open_market("final")
    bets.place_bet(
        paid.context,
        NewBet(bet_id="b1", market="final", user_id="ben", outcome="Yes", cents=40_000, funding=Funding.WALLET),
    )
    message, hint = refusal(lambda: undo(paid, 2), Refused)
    assert "KES 500.00 of it was resolved as wallet of ben, who has spent it since" in message
    assert hint == "Look at it: kasoko wallet show ben"


def test_a_later_statement_with_the_same_lines_is_taken_back_first(paid: PayoutHarness) -> None:
    paper = both_lines(paid)
    paper.line("UKX0000001", paid.clock(), withdrawn=7_00, phone=CYN)
    take(paid, paper)
    paid.clock.forward(60)
    paper.line("UKX0000002", paid.clock(), withdrawn=7_00, phone=CYN)
    take(paid, paper)
    assert "statement 2 was taken in later" in refusal(lambda: undo(paid, 1), Refused)[0]
    undo(paid, 2)
    undo(paid, 1)
    assert paid.balance(Account.SUSPENSE) == 0
    take(paid, paper)
    assert paid.balance(Account.SUSPENSE) == 14_00
    assert is_sound(paid)


def test_it_is_taken_back_once_and_with_a_reason(paid: PayoutHarness) -> None:
    take(paid, both_lines(paid))
    refusal(lambda: undo(paid, 9), NotFound)
    message, _ = refusal(
        lambda: undo_statement(OperationContext(paid.db, paid.clock, Actor("tester")), statement_id=1), Refused
    )
    assert message.startswith("Taking a statement back needs a reason")
    undo(paid)
    assert "was taken back at" in refusal(lambda: undo(paid), Refused)[0]
    assert paid.payout("ann").status is PayoutStatus.COMPLETED
