"""Reports for finance: the days add up to the books, and what is told of a settlement is what was settled."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlmodel import col, select

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.domain.withholding import DutyBook
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.reconciliation import statement_import, statement_undo
from kasoko_cli.operations.reporting import finance
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.overview import Amount
from kasoko_cli.store.log import raise_incident
from kasoko_cli.store.schema.tables import Attempt, Event, PostingRow
from tests.domain.test_withholding import WINNINGS, WITHDRAWALS
from tests.operations.data_builder import DataBuilder
from tests.operations.paper import CHARGE, Paper
from tests.operations.payout_harness import ANN, BEN, CYN, PayoutHarness

TARIFF = Tariff(date(2023, 8, 1), ((100, 0), (1_500, 5), (5_000, 9)), "a form")


@pytest.fixture
def three_days(harness: PayoutHarness) -> PayoutHarness:
    """Owed and sent late on the first Nairobi day, ended on the second, and a third with another market."""
    harness.clock.now = datetime(2026, 11, 23, 20, 59, tzinfo=UTC)  # 23:59 in Nairobi
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    harness.clock.forward(minutes=2)
    for user, code in (("ann", 0), ("ben", 2040)):
        attempt = harness.attempt(user)
        harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=code))
    harness.clock.forward(days=1)
    harness.owe({"dan": "254712000444"}, cents=999, market="small")
    return harness


def test_the_days_add_up_to_the_books_to_the_cent(three_days: PayoutHarness) -> None:
    harness = three_days
    days = [finance.day_close(harness.db, harness.clock, date(2026, 11, 23) + timedelta(days=n)) for n in range(3)]
    moved: Counter[str] = Counter()
    for before, after in zip([None, *days], days, strict=False):
        opening = {row.account: row.opening_cents for row in after.accounts}
        if before is not None:
            closing = {row.account: row.closing_cents for row in before.accounts}
            assert {name: cents for name, cents in opening.items() if cents} == {n: c for n, c in closing.items() if c}
        else:
            assert not any(opening.values())
        for row in after.accounts:
            assert row.closing_cents == row.opening_cents + row.debit_cents - row.credit_cents
            moved[row.account] += row.debit_cents - row.credit_cents
        assert after.is_balanced
    books: Counter[str] = Counter()
    with harness.db.reading() as session:
        for line in session.exec(select(PostingRow)):
            books[line.account] += line.amount_cents
    assert {name: cents for name, cents in moved.items() if cents} == {n: c for n, c in books.items() if c}
    assert sum(moved.values()) == 0


def adds_up(owed: finance.OwedDay) -> bool:
    came = owed.opening_cents + owed.settled_cents + owed.again_cents + owed.corrected_cents
    return came - owed.to_phones_cents - owed.tax_cents - owed.to_wallets_cents == owed.closing_cents


def test_a_day_says_what_was_owed_and_where_it_went(three_days: PayoutHarness) -> None:
    harness = three_days
    days = [finance.day_close(harness.db, harness.clock, date(2026, 11, 23) + timedelta(days=n)).owed for n in range(3)]
    assert days == [
        finance.OwedDay(0, 42_750, 0, 0, 0, 0, 0, 42_750),
        finance.OwedDay(42_750, 0, 0, 0, 14_200, 0, 50, 28_500),
        finance.OwedDay(28_500, 999, 0, 0, 0, 0, 999, 28_500),
    ]
    assert all(map(adds_up, days))


def test_a_day_is_nairobis_and_tells_what_went_through_on_it(three_days: PayoutHarness) -> None:
    harness = three_days
    first, second, third = (
        finance.day_close(harness.db, harness.clock, date(2026, 11, 23) + timedelta(days=n)) for n in range(3)
    )
    assert (first.settled, first.sent, first.delivered) == (Amount(1, 42_750), Amount(3, 42_600), Amount(0, 0))
    assert first.in_flight_cents == 42_600
    assert (second.sent.count, second.delivered, second.released) == (0, Amount(1, 14_200), Amount(1, 14_200))
    assert second.in_flight_cents == 14_200
    assert [(row.hour, row.sent_cents) for row in first.hours if row.sent_cents] == [(23, 42_600)]
    assert [(row.hour, row.delivered_cents) for row in second.hours if row.delivered_cents] == [(0, 14_200)]
    assert (third.settled, third.credited) == (Amount(1, 999), Amount(1, 999))
    assert (first.is_over, second.is_over, third.is_over) == (True, True, False)
    assert finance.day_close(harness.db, harness.clock) == third
    with pytest.raises(Refused, match="has not begun"):
        finance.day_close(harness.db, harness.clock, date(2026, 11, 27))


def test_a_day_that_is_over_tells_the_same_later(three_days: PayoutHarness) -> None:
    harness = three_days
    before = finance.day_close(harness.db, harness.clock, date(2026, 11, 24))
    attempt = harness.attempt("cyn")
    harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, receipt="UKN0B0B0B0"))
    assert finance.day_close(harness.db, harness.clock, date(2026, 11, 24)) == before


def test_a_settlement_sheet_has_every_payout_and_its_rows_add_up(three_days: PayoutHarness) -> None:
    found = finance.settlement_sheet(three_days.db, "derby")
    assert sum(row.amount_cents for row in found.rows) == found.figures.payouts_cents == 42_750
    assert [(row.outcome, row.bets, row.won) for row in found.outcomes] == [("Yes", 3, True), ("No", 1, False)]
    assert sum(row.staked_cents for row in found.outcomes) == found.figures.gross_cents
    assert {row.status for row in found.rows} == {"COMPLETED", "FAILED", "SENT"}
    assert {row.phone for row in found.rows} == {"2547****0111", "2547****0222", "2547****0333"}
    whole = finance.settlement_sheet(three_days.db, "derby", show_phone=True)
    assert {row.phone for row in whole.rows} == {ANN, BEN, CYN}


def test_a_market_that_was_not_settled_has_no_sheet(harness: PayoutHarness) -> None:
    harness.open_market("later")
    with pytest.raises(Refused, match="was not settled yet"):
        finance.settlement_sheet(harness.db, "later")
    with pytest.raises(NotFound):
        finance.settlement_sheet(harness.db, "nowhere")


def test_charges_are_expected_by_the_tariff_and_booked_only_where_the_books_have_them(
    three_days: PayoutHarness,
) -> None:
    found = finance.charges_report(three_days.db, TARIFF)
    assert [(row.day, row.payments, row.wire_cents, row.expected_cents) for row in found.days] == [
        (date(2026, 11, 24), 1, 14_200, 500)
    ]
    assert (found.booked, found.booked_cents) == (0, 0)
    assert finance.charges_report(three_days.db, TARIFF, last=date(2026, 11, 23)).days == []
    with pytest.raises(Refused, match="is after"):
        finance.charges_report(three_days.db, TARIFF, first=date(2026, 11, 25), last=date(2026, 11, 24))


def test_a_day_with_everything_in_it_adds_up_to_the_books(harness: PayoutHarness) -> None:
    """Both duties, legs, a return sent again, a second payment, a wallet, and a statement that comes a day later.

    What the sheets say is held to what M-Pesa's ledger says, and to the accounts of the books.
    """
    builder = DataBuilder(harness.db, harness.clock, harness.actor)
    builder.market("derby")
    for user, phone, outcome, kes in (
        ("ann", ANN, "Yes", 100),
        ("ben", BEN, "Yes", 200),
        ("dan", "254712000444", "Yes", 200_000),
        ("eve", "254712000555", "No", 100_150),
    ):
        builder.user(user, phone=phone, deposit_kes=kes)
        builder.bet("derby", user, outcome, kes=kes)
    builder.settle("derby", "Yes", duties=DutyBook((WINNINGS, WITHDRAWALS)))
    while harness.send().sent:
        harness.deliver()
    ann, ben = harness.attempt("ann"), harness.attempt("ben")
    with harness.db.reading() as session:
        query = select(Attempt).where(col(Attempt.phone) == "254712000444").order_by(col(Attempt.payout_id))
        first, second = session.exec(query).all()
        session.expunge_all()
    builder.came_back(ann.id)
    builder.due_again("ann")
    harness.send()
    harness.deliver()
    again = harness.attempts("ann")[-1]
    with harness.db.transaction() as session:
        book.post(session, journal.overpaid("SECOND0001", "ben", ben.wire_cents), at=harness.clock())
    delivered = [ben, first, second, ann, again]

    day = finance.day_close(harness.db, harness.clock)
    assert day.delivered == Amount(5, sum(one.wire_cents for one in delivered)), "without what a duty kept back"
    assert day.delivered.amount_cents == sum(one["amount_cents"] for one in harness.ledger())
    assert day.delivered.amount_cents == sum(one.delivered_cents for one in day.hours)
    assert day.sent.amount_cents == sum(one.sent_cents for one in day.hours) == day.delivered.amount_cents
    settled = finance.settlement_sheet(harness.db, "derby")
    assert day.settled == Amount(1, sum(row.amount_cents for row in settled.rows)), "without the fee"
    assert day.credited.amount_cents == day.settled.amount_cents
    owed = day.owed
    assert adds_up(owed)
    assert (owed.settled_cents, owed.to_phones_cents) == (day.settled.amount_cents, day.delivered.amount_cents)
    assert owed.again_cents > 0 < owed.tax_cents
    assert (owed.opening_cents, owed.closing_cents) == (0, -harness.balance(Account.PAYABLE))
    assert day.is_balanced

    harness.clock.forward(days=1)
    paper = Paper()
    for attempt, charge in ((ann, 500), (again, 0), (first, 900), (second, 700)):
        at = attempt.sent_at + timedelta(seconds=1)
        assert attempt.receipt is not None
        paper.line(attempt.receipt, at, withdrawn=attempt.wire_cents, phone=attempt.phone)
        if charge:
            paper.line(attempt.receipt, at, withdrawn=charge, reason=CHARGE)
    paper.line("UKT0000009", harness.clock(), withdrawn=300, reason="Monthly fee")
    tariff = Tariff(date(2023, 8, 1), ((200, 0), (250_000, 9)), "a form")
    rules = statement_import.StatementRules("600000", customers_are_counted=False, tariff=tariff)
    report = statement_import.take_statement(harness.context, paper.read(), rules)
    whys = [one.why for one in report.differences if one.kind == "charge-differs"]
    assert [why.partition(": ")[2] for why in whys] == [
        "KES 5.00, and KES 0.00 was expected",
        "KES 7.00, and KES 9.00 was expected",
    ]
    [item] = statement_import.list_suspense(harness.db)
    statement_import.resolve_suspense(harness.context, name=item.key, resolution="charges")

    found = finance.charges_report(harness.db, tariff)
    assert [
        (row.payments, row.expected_cents, row.booked, row.booked_cents, row.unbooked, row.differing, row.other_cents)
        for row in found.days
    ] == [(6, 3_600, 3, 2_100, 2, 2, 0), (0, 0, 0, 0, 0, 0, 300)]
    assert found.booked_cents + found.other_cents == harness.balance(Account.CHARGES)
    later = finance.day_close(harness.db, harness.clock)
    assert later.charges_cents == harness.balance(Account.CHARGES)
    statement_undo.undo_statement(
        OperationContext(harness.db, harness.clock, Actor("ann", "the wrong file")), statement_id=1
    )
    assert finance.charges_report(harness.db, tariff).booked_cents == 0


def test_incidents_are_listed_with_how_they_ended(harness: PayoutHarness) -> None:
    with harness.db.transaction() as session:
        raise_incident(session, key="a", kind="paid_twice", what="it was paid twice", at=harness.clock())
    found = finance.incidents_report(harness.db)
    assert (found.opened, found.still_open, found.by_kind) == (1, 1, {"paid_twice": 1})
    day = finance.day_close(harness.db, harness.clock)
    assert (day.incidents_opened, day.incidents_closed, day.incidents_open) == (1, 0, 1)
    assert finance.incidents_report(harness.db, last=date(2026, 11, 22)).rows == []


def test_who_had_whole_phones_shown_is_written_down(harness: PayoutHarness) -> None:
    harness.open_market("derby")
    finance.note_unmasked(harness.context, what="report settlement", market="derby")
    with harness.db.reading() as session:
        [event] = session.exec(select(Event).where(col(Event.action) == "phones.shown"))
    assert (event.actor, event.subject, event.reason) == ("tester", "derby", "a test")
