"""Claims about a statement that is taken in: what it ends, what it books, what it leaves to a person."""

from __future__ import annotations

import re
import shlex
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import typer.main
from sqlmodel import col, select

from kasoko_cli.cli.app import app
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.payouts import manual_decision, returns
from kasoko_cli.operations.reconciliation import statement_import
from kasoko_cli.operations.reconciliation.statement_import import StatementReport
from kasoko_cli.operations.records import users, wallets
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import attempts
from kasoko_cli.store.log import open_incidents
from kasoko_cli.store.schema.tables import Attempt, StatementLine
from tests.operations.data_builder import DataBuilder, refusal
from tests.operations.paper import CHARGE, PAYBILL, REVERSAL, TRANSFER, Paper
from tests.operations.payout_harness import ANN, BEN, CYN, PayoutHarness

SHORTCODE = "600000"


def take(
    harness: PayoutHarness, paper: Paper, *, counted: bool = False, name: str = "statement.csv", said: str | None = None
) -> StatementReport:
    """Take it in; whatever it tells a person to type exists and parses."""
    report = statement_import.take_statement(
        harness.context,
        paper.read(name),
        statement_import.StatementRules(shortcode=SHORTCODE, customers_are_counted=counted, said_account=said),
    )
    assert all(parses(line) for one in report.differences for line in commands_in(one.command))
    return report


def commands_in(command: str) -> list[str]:
    """The command lines in what a difference tells a person to do."""
    return re.split(r"; [^:]+: ", command) if command else []


def parses(line: str) -> bool:
    """Whether the program has such a command, with these options."""
    program, *words = shlex.split(line)
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands"):
        found = found.commands[words.pop(0)]
    found.make_context("kasoko", words)
    return program == "kasoko"


def obey(harness: PayoutHarness, line: str) -> None:
    """Do what a person would who types it, and says WHAT the money was."""
    _, *verb, item, option, value = shlex.split(line)[:6]
    if verb == ["suspense", "resolve"]:
        assert option == "--as"
        user_id = line.split("--user ")[1].split()[0] if "--user" in line else None
        what = "write-off" if value == "WHAT" else value
        statement_import.resolve_suspense(harness.context, name=item, resolution=what, user_id=user_id)
    else:
        assert verb == ["incident", "close"]
        assert manual_decision.close_incidents(harness.context, numbers=[int(item)])


def standing(harness: PayoutHarness, key: str) -> int:
    """The number of the one incident whose key begins so."""
    [found] = [one.id for one in harness.all_incidents() if one.key.startswith(key) and one.closed_at is None]
    assert found is not None
    return found


def differences(report: StatementReport) -> dict[str, str | None]:
    return {one.kind: one.payout_id for one in report.differences}


def paid_line(paper: Paper, attempt: Attempt, receipt: str, at: datetime, **how: int) -> None:
    """The line that M-Pesa writes for a payment."""
    cents = how.get("cents", attempt.wire_cents)
    paper.line(receipt, at, withdrawn=cents, phone=attempt.phone)


def unknown(harness: PayoutHarness, user_id: str) -> Attempt:
    """A payment that was sent, and whose answer and result were lost."""
    [attempt] = harness.attempts(user_id)
    assert attempt.status is AttemptStatus.UNKNOWN
    return attempt


def lose_every_answer(harness: PayoutHarness) -> None:
    def lost(request: httpx.Request) -> None:
        if "paymentrequest" in request.url.path:
            harness.ask_simulator(request)
            raise httpx.ReadError("the connection broke", request=request)

    harness.interpose = lost


@pytest.fixture
def silent(harness: PayoutHarness) -> PayoutHarness:
    """Two payouts were sent and paid, and nobody here knows: every answer and result was lost."""
    harness.owe({"ann": ANN, "ben": BEN})
    lose_every_answer(harness)
    harness.send()
    harness.posts.clear()
    assert harness.statuses() == {"ann": "UNKNOWN", "ben": "UNKNOWN"}
    return harness


@pytest.fixture
def paid(harness: PayoutHarness) -> PayoutHarness:
    """Two payouts were sent and paid, and their results came."""
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send()
    harness.deliver()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    return harness


@pytest.mark.parametrize("masked", [False, True])
def test_an_unknown_payout_ends_paid_by_its_line(silent: PayoutHarness, *, masked: bool) -> None:
    at, ann = silent.clock() + timedelta(seconds=2), unknown(silent, "ann")
    paper = Paper(masked=masked).covering([at])
    paid_line(paper, ann, silent.ledger()[0]["receipt"], at)
    report = take(silent, paper)

    assert differences(report) == {"ended-paid": "derby.1.1", "still-unknown": "derby.1.2"}
    assert silent.statuses() == {"ann": "COMPLETED", "ben": "UNKNOWN"}
    assert silent.attempt("ann").evidence == f"statement:{paper.read().lines[0].key}"
    assert silent.wallet("ann") == (10_000, 0)
    assert report.payouts.unexplained_cents == 0
    assert report.open == 1


def test_the_same_file_again_changes_nothing(silent: PayoutHarness) -> None:
    at = silent.clock() + timedelta(seconds=2)
    paper = Paper().covering([at])
    paid_line(paper, unknown(silent, "ann"), silent.ledger()[0]["receipt"], at)
    paper.line("UKN0000009", at, withdrawn=77_700, phone=CYN)
    paper.line("UKN0000008", at, paid_in=5_000_000, reason=TRANSFER)
    first = take(silent, paper)
    before = silent.money()
    again = take(silent, paper)
    other_name = take(silent, paper, name="copy.csv")

    assert (first.is_new, again.is_new, other_name.is_new) == (True, False, False)
    assert (first.new_lines, again.new_lines) == (3, 0)
    assert silent.money() == before
    assert set(differences(again)) == {"still-unknown", "unmatched-out", "unmatched-in"}


def test_lines_of_another_file_are_not_taken_in_twice(silent: PayoutHarness) -> None:
    at = silent.clock() + timedelta(seconds=2)
    paper = Paper().covering([at])
    paper.line("UKN0000009", at, withdrawn=77_700, phone=CYN)
    take(silent, paper)
    paper.line("UKN0000010", at + timedelta(seconds=1), withdrawn=5_000, phone=CYN)
    report = take(silent, paper)
    assert (report.lines, report.new_lines) == (2, 1)
    assert silent.balance(Account.SUSPENSE) == 82_700


@pytest.mark.parametrize("turned", [False, True], ids=["less afterwards", "less at first"])
@pytest.mark.parametrize("how", [{"without": ("Balance",)}, {"to_the_minute": True}], ids=["no balances", "no seconds"])
def test_another_export_of_the_same_movements_books_nothing_twice(
    silent: PayoutHarness, how: dict[str, Any], *, turned: bool
) -> None:
    """A key that is made of the balance and the second would be another one in each."""
    at = silent.clock() + timedelta(seconds=2)
    ann, receipt = unknown(silent, "ann"), silent.ledger()[0]["receipt"]
    exports = []
    for one in ({}, how) if not turned else (how, {}):
        paper = Paper(**one).covering([at])
        paid_line(paper, ann, receipt, at)
        paper.line(receipt, at, withdrawn=900, reason=CHARGE)
        paper.line("UKN0000009", at + timedelta(seconds=3), withdrawn=77_700, phone=CYN)
        paper.line("UKN0000009", at + timedelta(seconds=4), withdrawn=900, reason=CHARGE)
        exports.append(paper)
    first = take(silent, exports[0])
    before = silent.money()
    exports[1].line("UKN0000010", at + timedelta(minutes=2), withdrawn=5_000, phone=CYN)
    again = take(silent, exports[1])
    assert (first.new_lines, again.lines, again.new_lines) == (4, 5, 1)
    assert silent.balance(Account.SUSPENSE) == 77_700 + 900 + 5_000
    assert silent.money() != before, "the line that is new was booked"


def test_a_plan_names_the_same_and_writes_nothing(silent: PayoutHarness) -> None:
    at = silent.clock() + timedelta(seconds=2)
    paper = Paper().covering([at])
    paid_line(paper, unknown(silent, "ann"), silent.ledger()[0]["receipt"], at)
    before = silent.money()
    planned = statement_import.plan_statement(
        silent.db,
        silent.clock,
        paper.read(),
        statement_import.StatementRules(shortcode=SHORTCODE, customers_are_counted=False),
    )
    assert silent.money() == before
    assert silent.statuses() == {"ann": "UNKNOWN", "ben": "UNKNOWN"}
    assert planned.differences == take(silent, paper).differences


def test_two_equal_payouts_to_one_person_end_paid_only_where_both_have_a_line(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.owe({"ann": ANN}, market="final")
    lose_every_answer(harness)
    harness.send()
    harness.posts.clear()
    at = harness.clock() + timedelta(seconds=2)
    receipts = [payment["receipt"] for payment in harness.ledger()]
    one = Paper().covering([at])
    one.line(receipts[0], at, withdrawn=10_000, phone=ANN)
    report = take(harness, one)
    assert {row.kind for row in report.differences} == {"ambiguous", "still-unknown"}
    assert harness.balance(Account.SUSPENSE) == 0, "its money is in flight already"

    one.line(receipts[1], at, withdrawn=10_000, phone=ANN)
    report = take(harness, one)
    assert {row.kind for row in report.differences} == {"ended-paid"}
    assert harness.statuses() == {"ann": "COMPLETED"}
    assert harness.wallet("ann") == (20_000, 0)


def test_a_line_that_names_our_id_ends_that_payout_and_no_other(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.owe({"ann": ANN}, market="final")
    lose_every_answer(harness)
    harness.send()
    harness.posts.clear()
    second = harness.attempt("ann", "final")
    at = harness.clock() + timedelta(seconds=2)
    paper = Paper().covering([at])
    paper.line("UKN0000001", at, withdrawn=10_000, phone=ANN, details=f"Original conversation ID is {second.id}.")
    take(harness, paper)
    assert harness.attempt("ann", "final").receipt == "UKN0000001"
    assert harness.payout("ann", "derby").status is PayoutStatus.UNKNOWN


def test_a_line_before_the_request_or_a_day_after_it_is_not_ours(silent: PayoutHarness) -> None:
    now = silent.clock()
    paper = Paper().covering([now])
    paid_line(paper, unknown(silent, "ann"), "UKN0000001", now - timedelta(minutes=6))
    paid_line(paper, unknown(silent, "ann"), "UKN0000002", now + timedelta(hours=25))
    report = take(silent, paper)
    assert [row.kind for row in report.differences] == [
        "unmatched-out",
        "unmatched-out",
        "still-unknown",
        "still-unknown",
    ]
    assert silent.statuses() == {"ann": "UNKNOWN", "ben": "UNKNOWN"}


def test_a_line_that_does_not_say_whose_phone_it_was_ends_nothing(silent: PayoutHarness) -> None:
    at = silent.clock() + timedelta(seconds=2)
    paper = Paper().covering([at])
    paper.line("UKN0000001", at, withdrawn=10_000)
    report = take(silent, paper)
    assert {row.kind for row in report.differences} == {"ambiguous", "still-unknown"}


def test_what_failed_and_is_on_the_statement_was_paid_after_all(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.send()
    failed = harness.result(harness.attempt("ann"), code=2040, desc="not registered", receipt=None)
    assert harness.post(CallbackKind.RESULT, harness.attempt("ann").id, failed) == "failed"
    at = harness.clock() + timedelta(seconds=1)
    paper = Paper().covering([at])
    paid_line(paper, harness.attempt("ann"), "UKN0000001", at)
    report = take(harness, paper)
    assert differences(report) == {"late-success": "derby.1.1"}
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert harness.incidents() == ["late_success"]
    assert report.open == 0


# --- Not paid ---------------------------------------------------------------------------------------------------


def answer(harness: PayoutHarness, attempt_id: str, *hours: float, said: str = "NOT_FOUND") -> None:
    """M-Pesa, asked so many hours after the request, answered so."""
    with harness.db.reading() as session:
        asked_by = attempts.find_attempt(session, attempt_id).account_id
    for after in hours:
        harness.note_answer(attempt_id, said, harness.clock() + timedelta(hours=after), asked_by=asked_by)


def empty_paper(harness: PayoutHarness, *, hours: float = 48) -> Paper:
    """A statement of the whole time with nothing of ours on it, taken in three days after it was sent."""
    sent = harness.clock()
    paper = Paper().covering([sent])
    for at in (sent - timedelta(days=1), sent, sent + timedelta(hours=hours)):
        paper.movement(at)
    harness.clock.forward(days=3)
    return paper


def test_not_paid_needs_the_whole_time_and_mpesas_repeated_word(silent: PayoutHarness) -> None:
    ann = unknown(silent, "ann")
    answer(silent, ann.id, 1, 3)
    report = take(silent, empty_paper(silent), counted=True)
    assert differences(report) == {"ended-not-paid": "derby.1.1", "still-unknown": "derby.1.2"}
    assert silent.states("ann") == ("FAILED", ["REJECTED"]), "the id is not spent: M-Pesa refuses it if we err"
    assert silent.statuses()["ben"] == "UNKNOWN"
    silent.interpose = lambda request: None
    silent.retry()
    silent.send()
    silent.reconcile()
    assert silent.paid_to(ANN) == 10_000, "the simulator had paid it: the second request was refused as a duplicate"


@pytest.mark.parametrize(
    ("hours", "said", "spoil", "why"),
    [
        ((), "NOT_FOUND", "nothing", "M-Pesa, asked, has not said that it knows no such payment"),
        ((1,), "NOT_FOUND", "nothing", "M-Pesa has said only once, or too soon"),
        ((1, 1.5), "NOT_FOUND", "nothing", "M-Pesa has said only once, or too soon"),
        ((1, 3), "PENDING", "nothing", "M-Pesa, asked, has not said"),
        ((1, 3), "NOT_FOUND", "short", "the statement covers"),
        ((1, 3), "NOT_FOUND", "gap", "its balances do not follow one from another"),
        ((1, 3), "NOT_FOUND", "nameless", "nothing in it shows that it is of our account"),
        ((1, 60), "NOT_FOUND", "nothing", "the statement ends before M-Pesa's last answer"),
        ((1, 47.5), "NOT_FOUND", "nothing", "the statement ends before M-Pesa's last answer"),
    ],
)
def test_not_paid_is_not_said_where_anything_of_that_lacks(
    silent: PayoutHarness, hours: tuple[float, ...], said: str, spoil: str, why: str
) -> None:
    answer(silent, unknown(silent, "ann").id, *hours, said=said)
    paper = empty_paper(silent)
    if spoil == "short":
        paper.until = silent.clock() - timedelta(days=3) + timedelta(hours=3)
    if spoil == "gap":
        paper.rows[1][7] = "1.00"
    if spoil == "nameless":
        paper.shortcode = ""
    report = take(silent, paper, counted=True, said=SHORTCODE if spoil == "nameless" else None)
    assert silent.statuses() == {"ann": "UNKNOWN", "ben": "UNKNOWN"}
    [ann] = [row for row in report.differences if row.payout_id == "derby.1.1"]
    assert ann.kind == "still-unknown"
    assert why in ann.why
    assert commands_in(ann.command) == [
        "kasoko reconcile --now",
        "kasoko payout decide derby.1.1 --evidence WHERE --reason WHY",
    ], "silence is not said to be --not-paid: a person copies what stands here"


def test_a_failed_line_ends_nothing(silent: PayoutHarness) -> None:
    paper = empty_paper(silent)
    ann = unknown(silent, "ann")
    paper.line("UKN0000001", silent.clock(), withdrawn=ann.wire_cents, phone=ANN, status="Failed", details=ann.id)
    take(silent, paper, counted=True)
    assert silent.statuses() == {"ann": "UNKNOWN", "ben": "UNKNOWN"}


# --- What contradicts -------------------------------------------------------------------------------------------


def both_lines(harness: PayoutHarness, *, framed: bool = False) -> Paper:
    """What M-Pesa writes where all is well; `framed` by movements that show how far it goes."""
    at = harness.clock() + timedelta(seconds=1)
    paper = Paper().covering([at])
    if framed:
        paper.movement(at - timedelta(days=1))
    for user_id in ("ann", "ben"):
        attempt = harness.attempt(user_id)
        assert attempt.receipt is not None
        paid_line(paper, attempt, attempt.receipt, at)
    return paper


def test_where_all_is_well_the_three_agree_to_the_cent(paid: PayoutHarness) -> None:
    report = take(paid, both_lines(paid))
    assert report.differences == []
    ways = report.payouts
    assert [(side.count, side.amount_cents) for side in (ways.ledger, ways.results, ways.statement)] == [
        (2, 20_000)
    ] * 3
    assert (ways.unexplained_cents, report.open) == (0, 0)


@pytest.mark.parametrize(
    ("change", "kind", "delta", "suspense"),
    [
        ({6: "-101.00"}, "wrong-amount", 100, 100),
        ({10: "254712000999 - JANE DOE"}, "wrong-receiver", 0, 0),
        ({1: "2026-11-22 12:00:00"}, "wrong-time", 0, 0),
        ({4: "Failed"}, "failed-here", -10_000, 0),
        ({0: "UKX0000001"}, "not-on-statement", -10_000, 10_000),
    ],
)
def test_each_contradiction_is_named_and_raises_an_incident(
    paid: PayoutHarness, change: dict[int, str], kind: str, delta: int, suspense: int
) -> None:
    paper = both_lines(paid, framed=True)
    for place, text in change.items():
        paper.rows[2][place] = text
    paper.movement(paid.clock() + timedelta(days=1))
    paid.clock.forward(days=2)
    report = take(paid, paper, counted=True)
    [found] = [row for row in report.differences if row.kind == kind]
    assert found.payout_id == "derby.1.2"
    assert found.command.endswith(f"kasoko incident close {standing(paid, f'statement:{kind}:')} --reason WHY")
    assert found.statement_cents - found.ledger_cents == delta
    assert report.payouts.unexplained_cents == 0
    assert paid.balance(Account.SUSPENSE) == suspense
    assert "statement" in paid.incidents()
    assert take(paid, paper, counted=True, name="again.csv").open == report.open
    assert paid.balance(Account.SUSPENSE) == suspense
    for row in report.differences:
        for line in commands_in(row.command):
            obey(paid, line)
    assert take(paid, paper, counted=True, name="once more.csv").open == 0


def test_a_second_payment_under_one_receipt_goes_to_suspense(paid: PayoutHarness) -> None:
    paper = both_lines(paid)
    attempt = paid.attempt("ann")
    assert attempt.receipt is not None
    paid_line(paper, attempt, attempt.receipt, paid.clock() + timedelta(seconds=9))
    report = take(paid, paper)
    assert differences(report) == {"twice": None}
    assert paid.balance(Account.SUSPENSE) == 10_000
    in_suspense = [wallets.show_wallet(paid.db, user).suspense_cents for user in ("ann", "ben")]
    assert in_suspense == [-10_000, 0], "it went out, to ann"
    assert users.show_user(paid.db, "ann").suspense_cents == -10_000


def test_another_organisations_statement_is_refused(paid: PayoutHarness) -> None:
    paper = both_lines(paid)
    paper.shortcode = "600111"
    message, hint = refusal(lambda: take(paid, paper), Refused)
    assert message == (
        "statement.csv is the statement of 600111, and this deployment pays from 600000. Nothing was changed."
    )
    assert hint == "Export the statement of the shortcode that pays, or set daraja.shortcode."


# --- Charges ----------------------------------------------------------------------------------------------------


def test_charges_are_booked_by_the_line_that_shows_them(paid: PayoutHarness) -> None:
    paper = both_lines(paid)
    at = paid.clock() + timedelta(seconds=1)
    ann, ben = paid.attempt("ann"), paid.attempt("ben")
    paper.line(ann.receipt or "", at, withdrawn=900, reason=CHARGE)
    paper.line("UKC0000001", at, withdrawn=900, reason=CHARGE, linked=ben.receipt or "")
    paper.line(ann.receipt or "", at, withdrawn=900, reason=CHARGE)
    paper.line("UKC0000002", at, withdrawn=1_500, reason="Monthly fee")
    report = take(paid, paper)
    assert [row.why for row in report.differences] == ["a second charge for derby.1.1", "a charge for no payout here"]
    assert (paid.balance(Account.CHARGES), paid.balance(Account.CHARGES_DUE)) == (1_800, 0)
    assert paid.balance(Account.SUSPENSE) == 2_400
    assert paid.entries("charge", "charge_paid") == {
        f"attempt:{ann.id}:charge": [("charges", "", 900), ("charges_due", "", -900)],
        f"attempt:{ann.id}:charge_paid": [("charges_due", "", 900), ("utility", "", -900)],
        f"attempt:{ben.id}:charge": [("charges", "", 900), ("charges_due", "", -900)],
        f"attempt:{ben.id}:charge_paid": [("charges_due", "", 900), ("utility", "", -900)],
    }


def test_a_charge_other_than_expected_is_told_and_booked_as_it_was(paid: PayoutHarness) -> None:
    ann = paid.attempt("ann")
    with paid.db.transaction() as session:
        book.post(session, journal.charged(ann.id, 500), at=paid.clock())
    paper = both_lines(paid)
    paper.line(ann.receipt or "", paid.clock(), withdrawn=900, reason=CHARGE)
    report = take(paid, paper)
    assert [(row.kind, row.open) for row in report.differences] == [("charge-differs", False)]
    assert report.differences[0].why == "what M-Pesa took for derby.1.1: KES 9.00, and KES 5.00 was expected"
    assert (paid.balance(Account.CHARGES), paid.balance(Account.CHARGES_DUE)) == (900, 0)


# --- Money that came back ---------------------------------------------------------------------------------------


def test_what_came_back_stands_in_the_wallet_and_goes_again_under_a_new_id(paid: PayoutHarness) -> None:
    paper = both_lines(paid)
    ann = paid.attempt("ann")
    paper.line("UKR0000001", paid.clock(), paid_in=10_000, reason=REVERSAL, linked=ann.receipt or "")
    report = take(paid, paper)
    assert differences(report) == {"returned": "derby.1.1"}
    assert paid.states("ann") == ("RETURNED", ["RETURNED"])
    assert paid.wallet("ann") == (10_000, 10_000)
    assert paid.entries("return") == {
        f"payout:derby.1.1:return:{ann.receipt}": [("utility", "", 10_000), ("delivered", "ann", -10_000)]
    }
    returns.send_again(paid.context, payout_id="derby.1.1")
    assert paid.wallet("ann") == (10_000, 0), "what is to be sent again cannot be spent"
    paid.assert_books()
    paid.send()
    paid.deliver()
    assert paid.states("ann") == ("COMPLETED", ["RETURNED", "SUCCEEDED"])
    assert paid.wallet("ann") == (10_000, 0)
    paid_line(paper, paid.attempt("ann"), paid.attempt("ann").receipt or "", paid.clock())
    assert take(paid, paper).open == 0


def test_what_came_back_may_stay_in_the_wallet(paid: PayoutHarness) -> None:
    returns.came_back(paid.context, payout_id="derby.1.1", receipt="UKR1")
    assert not returns.came_back(paid.context, payout_id="derby.1.1", receipt="UKR1")
    manual_decision.to_wallet(paid.context, payout_id="derby.1.1")
    assert (paid.payout("ann").status, paid.wallet("ann")) == (PayoutStatus.WALLET, (10_000, 10_000))


def test_what_was_to_go_again_may_still_stay_in_the_wallet(paid: PayoutHarness) -> None:
    returns.came_back(paid.context, payout_id="derby.1.1", receipt="UKR1")
    returns.send_again(paid.context, payout_id="derby.1.1")
    manual_decision.to_wallet(paid.context, payout_id="derby.1.1")
    assert (paid.payout("ann").status, paid.wallet("ann")) == (PayoutStatus.WALLET, (10_000, 10_000))


def test_a_part_that_came_back_is_a_persons_to_judge(paid: PayoutHarness) -> None:
    paper = both_lines(paid)
    paper.line("UKR1000001", paid.clock(), paid_in=4_000, reason=REVERSAL, linked=paid.attempt("ann").receipt or "")
    report = take(paid, paper)
    assert differences(report) == {"wrong-return": "derby.1.1"}
    assert paid.payout("ann").status is PayoutStatus.COMPLETED
    assert paid.balance(Account.SUSPENSE) == -4_000


@pytest.mark.parametrize("given_up", [14_200, 9_200, 0], ids=["all", "a part", "nothing"])
def test_what_comes_back_of_a_debt_that_was_given_up_goes_to_suspense(harness: PayoutHarness, given_up: int) -> None:
    """M-Pesa paid ann twice. The debt goes to nothing and no lower; the rest is a line that a person resolves."""
    builder = DataBuilder(harness.db, harness.clock, harness.actor)
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 50)})
    builder.settle("derby", "Yes")
    late = builder.intend("ann")
    builder.failed(late)
    builder.due_again("ann")
    builder.paid(builder.intend("ann"))
    receipt = builder.paid(late)
    if given_up:
        wallets.write_off(harness.context, user_id="ann", cents=given_up, reference="off")
    paper = Paper()
    paper.line("UKR0000001", harness.clock(), paid_in=14_200, reason=REVERSAL, linked=receipt)
    plan = statement_import.plan_statement(
        harness.db,
        harness.clock,
        paper.read(),
        statement_import.StatementRules(shortcode=SHORTCODE, customers_are_counted=False),
    )
    assert harness.balance(Account.RECEIVABLE, "ann") == 14_200 - given_up
    report = take(harness, paper)
    assert report.differences == plan.differences
    assert [(one.kind, one.open) for one in report.differences] == [("paid-back", bool(given_up))]
    assert harness.balance(Account.RECEIVABLE, "ann") == 0
    assert harness.balance(Account.SUSPENSE) == -given_up
    assert take(harness, paper).new_lines == 0
    assert harness.balance(Account.SUSPENSE) == -given_up
    if given_up:
        assert report.differences[0].why.endswith(f"and KES {given_up // 100}.00 of it ann does not owe any more")
        before = harness.wallet("ann")[1]
        obey(harness, commands_in(report.differences[0].command)[0])
        assert harness.balance(Account.SUSPENSE) == 0
        assert harness.wallet("ann")[1] == before + given_up


def test_a_payment_that_came_back_twice_came_back_once(paid: PayoutHarness) -> None:
    """The second line that names it is money of which nobody here knows what it is."""
    paper = both_lines(paid)
    for receipt in ("UKR0000001", "UKR0000002"):
        paper.line(receipt, paid.clock(), paid_in=10_000, reason=REVERSAL, linked=paid.attempt("ann").receipt or "")
    report = take(paid, paper)
    assert [(one.kind, one.open) for one in report.differences] == [("returned", False), ("wrong-return", True)]
    assert (paid.balance(Account.SUSPENSE), paid.wallet("ann")) == (-10_000, (10_000, 10_000))
    paid.assert_books()


# --- Suspense ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "user", "account", "cents"),
    [
        ("bank", None, Account.BANK, -50_000),
        ("capital", None, Account.CAPITAL, -50_000),
        ("charges", None, Account.CHARGES, -50_000),
        ("counted", None, Account.UTILITY, 0),
        ("wallet", "ann", Account.WALLET, -60_000),
    ],
)
def test_money_in_suspense_stands_there_until_a_person_says_what_it_was(
    paid: PayoutHarness, resolution: str, user: str | None, account: Account, cents: int
) -> None:
    paper = both_lines(paid)
    utility = paid.balance(Account.UTILITY)
    paper.line("UKT0000001", paid.clock(), paid_in=50_000, reason=TRANSFER)
    assert take(paid, paper).open == 1
    [item] = statement_import.list_suspense(paid.db)
    assert (item.receipt, item.amount_cents) == ("UKT0000001", 50_000)
    assert paid.balance(Account.UTILITY) == utility + 50_000

    statement_import.resolve_suspense(paid.context, name="UKT0000001", resolution=resolution, user_id=user)
    assert statement_import.list_suspense(paid.db) == []
    assert paid.balance(Account.SUSPENSE) == 0
    assert paid.balance(account, user or "") == (cents if account is not Account.UTILITY else utility)
    assert take(paid, paper).open == 0
    message, _ = refusal(
        lambda: statement_import.resolve_suspense(paid.context, name=item.key[:8], resolution=resolution, user_id=user),
        Refused,
    )
    assert "was resolved before" in message


def test_suspense_is_resolved_with_a_reason_and_by_its_name(paid: PayoutHarness) -> None:
    def resolve(name: str, resolution: str = "bank", user: str | None = None, reason: str = "because") -> None:
        statement_import.resolve_suspense(
            OperationContext(paid.db, paid.clock, Actor("tester", reason)),
            name=name,
            resolution=resolution,
            user_id=user,
        )

    paper = both_lines(paid)
    paper.line("UKT0000001", paid.clock(), paid_in=50_000, reason=TRANSFER)
    paper.line("UKT0000002", paid.clock(), withdrawn=90_000, reason=TRANSFER)
    take(paid, paper)
    assert refusal(lambda: resolve("UKT0000001", reason=""), Refused)[0].startswith("Resolving money in suspense needs")
    assert refusal(lambda: resolve("UKT9999999"), NotFound)[0].startswith("There is no line in suspense")
    assert "needs --user" in refusal(lambda: resolve("UKT0000001", "wallet"), Refused)[0]
    assert "does not owe that much" in refusal(lambda: resolve("UKT0000001", "receivable", "ann"), Refused)[0]
    assert "has less than that available" in refusal(lambda: resolve("UKT0000002", "wallet", "ann"), Refused)[0]
    resolve("UKT0000002", "receivable", "ann")
    assert paid.balance(Account.RECEIVABLE, "ann") == 90_000


def test_deposits_and_stakes_of_the_platform_are_known_by_their_receipt_and_account(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    wallets.deposit(harness.context, user_id="ann", cents=7_000, reference="UKD0000001")
    now = harness.clock()
    paper = Paper()
    paper.line("UKD0000001", now, paid_in=7_000, reason=PAYBILL, phone=ANN)
    paper.line("UKD0000002", now, paid_in=5_000, reason=PAYBILL, phone=ANN, account="derby-ann")
    assert take(harness, paper).by_verdict.keys() == {"deposit", "stake"}
    paper.line("UKD0000003", now, paid_in=5_000, reason=PAYBILL, phone=ANN, account="whatever")
    assert statement_import.plan_statement(
        harness.db,
        harness.clock,
        paper.read(),
        statement_import.StatementRules(shortcode=SHORTCODE, customers_are_counted=True),
    ).by_verdict.keys() == {"deposit", "stake"}
    assert take(harness, paper).open == 1


def test_no_whole_number_of_a_phone_is_kept_or_told(silent: PayoutHarness) -> None:
    at = silent.clock()
    paper = Paper().covering([at])
    paper.line("UKN0000009", at, withdrawn=77_700, phone=CYN)
    report = take(silent, paper)
    with silent.db.reading() as session:
        lines = list(session.exec(select(StatementLine).order_by(col(StatementLine.line))))
        incidents = [one.what for one in open_incidents(session)]
    told = f"{report} {[line.model_dump() for line in lines]} {incidents}"
    assert CYN not in told
    assert ANN not in told
    assert "JANE" not in told
    assert "2547****0333" in told
