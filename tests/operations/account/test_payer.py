"""Which account pays: what another one says is no evidence, and nobody pays twice because a setting changed."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.simulator.app import SimulatorSettings
from kasoko_cli.domain.float_cover import FloatCheck
from kasoko_cli.domain.payer import Payer, api_base_of
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book
from kasoko_cli.operations.account import balances
from kasoko_cli.operations.account import payer as accounts
from kasoko_cli.operations.account.tariff_file import load_tariff
from kasoko_cli.operations.admin.preflight import CheckState, examine
from kasoko_cli.operations.admin.preflight import account as look_at_account
from kasoko_cli.operations.payouts import float_check, manual_decision, run_report, sending, switches
from kasoko_cli.operations.payouts.float_check import GatePolicy
from kasoko_cli.operations.payouts.run import Sent, Stop
from kasoko_cli.operations.reconciliation import restore_recovery, statement_import, status_queries
from kasoko_cli.operations.safeguards.payment_guard import Caution
from kasoko_cli.operations.safeguards.restore_doubt import hold_unsent
from kasoko_cli.operations.shared import transitions
from kasoko_cli.store import accounts as stored
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt, Deployment, Event, Query
from tests.operations.data_builder import refusal
from tests.operations.paper import Paper
from tests.operations.payout_harness import ANN, BEN, CYN, SHORTCODE, PayoutHarness

OTHER = "600777"
CAUTION = Caution()


@pytest.fixture
def elsewhere(harness: PayoutHarness) -> PayoutHarness:
    """The same database with the settings of another shortcode, whose M-Pesa knows nothing of what ours did."""
    return PayoutHarness(harness.db, harness.clock, harness.new_id, harness.actor, SimulatorSettings(shortcode=OTHER))


@pytest.fixture
def lost(harness: PayoutHarness) -> PayoutHarness:
    """Ann was paid, and neither the answer nor the result came."""
    harness.owe({"ann": ANN})

    def break_it(request: httpx.Request) -> httpx.Response:
        harness.ask_simulator(request)
        raise httpx.ReadTimeout("nothing came", request=request)

    harness.interpose = lambda request: break_it(request) if "b2c" in request.url.path else None
    harness.send()
    harness.interpose = lambda _: None
    harness.posts.clear()
    assert (harness.statuses(), harness.paid_to(ANN)) == ({"ann": "UNKNOWN"}, 10_000)
    return harness


def ask(harness: PayoutHarness, who: PayoutHarness, user_id: str = "ann") -> None:
    """Somebody asks M-Pesa about a payout as an account that perhaps did not make it, and hears the answer."""
    status_queries.ask_about(harness.context, who.gateway, harness.attempt(user_id))
    who.deliver()


def take(harness: PayoutHarness, shortcode: str) -> statement_import.StatementReport:
    """A whole statement of this shortcode, with nothing of ours on it, taken in three days after it was sent."""
    sent = harness.attempt("ann").sent_at
    paper = Paper(shortcode=shortcode).covering([sent])
    for at in (sent - timedelta(days=1), sent, sent + timedelta(days=2)):
        paper.movement(at)
    harness.clock.now = sent + timedelta(days=3)
    return statement_import.take_statement(
        harness.context, paper.read(), statement_import.StatementRules(shortcode=shortcode, customers_are_counted=True)
    )


def test_what_another_account_says_ends_nothing_and_nothing_is_sent_as_it(
    lost: PayoutHarness, elsewhere: PayoutHarness
) -> None:
    """The story: paid by 600000, answer lost; as 600777 three answers say not found, and its statement is silent."""
    message = ""
    for doing in (
        elsewhere.reconcile,
        elsewhere.send,
        lambda: sending.check_ready(lost.context, elsewhere.daraja),  # retry and the task queue
    ):
        message, hint = refusal(doing, Refused)
    assert message == (
        "A payout was sent by 600000 (sandbox at https://daraja.example.org) and nobody here knows yet how it ended:"
        " derby.1.1. The settings are of 600777 (sandbox at https://daraja.example.org), which knows nothing of it."
        " Nothing was sent, and nobody was asked."
    )
    assert hint.startswith("Set daraja.shortcode (MPESA_PAYBILL) = 600000 again, and ask that account:")
    assert (elsewhere.requests, lost.queries()) == ([], [])
    for hours in (1, 2, 2):
        lost.clock.forward(hours=hours)
        ask(lost, elsewhere)
    assert [one.answer for one in lost.queries()] == ["OTHER_ACCOUNT"] * 3
    assert not take(lost, OTHER).by_verdict.get("ended-not-paid")
    report = take(lost, SHORTCODE)
    assert [(one.kind, one.payout_id) for one in report.differences] == [("still-unknown", "derby.1.1")]
    assert "M-Pesa, asked, has not said" in report.differences[0].why
    assert lost.statuses() == {"ann": "UNKNOWN"}
    lost.reconcile()
    assert lost.statuses() == {"ann": "COMPLETED"}
    lost.assert_agreed()


def test_what_was_asked_as_another_account_before_that_was_looked_at_counts_for_nothing(
    lost: PayoutHarness, elsewhere: PayoutHarness
) -> None:
    """Older rows: the answers stand as NOT_FOUND, and were asked as 600777; a retry of such an end is refused too."""
    attempt = lost.attempt("ann")
    with lost.db.transaction() as session:
        theirs = stored.ensure(session, elsewhere.daraja.account.payer, at=lost.clock())
    for hours in (1, 3):
        lost.note_answer(attempt.id, "NOT_FOUND", lost.clock() + timedelta(hours=hours), asked_by=theirs)
    take(lost, SHORTCODE)
    assert lost.statuses() == {"ann": "UNKNOWN"}
    with lost.db.transaction() as session:  # as an older version ended it
        row, _ = transitions.lock(session, attempt.id)
        at, why = lost.clock(), "statement:no line"
        ended = transitions.not_paid(session, row, transitions.Failure("STATEMENT", "silence", why), at=at)
        book.post(session, *ended.entries, at=at)
    [left] = lost.retry(only=["derby.1.1"]).left
    assert (left.why, left.hint) == (
        "it counts as not paid since nobody knew it, and it is not on record that its own account was asked",
        "Ask M-Pesa first: kasoko reconcile --now",
    )
    lost.reconcile()
    assert lost.statuses() == {"ann": "COMPLETED"}


def test_a_payment_that_another_account_finds_all_the_same_is_told_and_believed_by_nobody(
    lost: PayoutHarness, elsewhere: PayoutHarness
) -> None:
    ask(lost, elsewhere)
    [query] = lost.queries()
    with lost.db.transaction() as session:
        session.exec(update(Query).values(answered_at=None, answer=None))
        transitions.doubtful(session, lost.attempt("ann"), why="again", at=lost.clock())
    body = lost.result(lost.attempt("ann"))["Result"] | {"ConversationID": query.conversation_id}
    names = {"TransactionStatus": "Completed", "Amount": 100, "ReceiptNo": "UKN7A1B2C3"}
    names |= {"OriginatorConversationID": lost.attempt("ann").id}
    body["ResultParameters"] = {"ResultParameter": [{"Key": key, "Value": value} for key, value in names.items()]}
    assert lost.post(CallbackKind.STATUS, query.id, {"Result": body}) == "hint"
    assert [one.answer for one in lost.queries()] == ["OTHER_ACCOUNT"]
    assert lost.statuses() == {"ann": "UNKNOWN"}


def test_the_sandbox_and_production_never_share_a_database(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send(limit=1)
    harness.deliver()
    real = harness.client(environment="production")
    message, hint = refusal(lambda: harness.send(daraja=real), Refused)
    assert message == (
        "This database is for the sandbox: it pays as 600000 (sandbox at https://daraja.example.org). The settings"
        " are for real money: 600000 (production at https://daraja.example.org). Nothing was sent, and nobody was"
        " asked."
    )
    assert "Name the one for real money (database.url" in hint
    assert "or set daraja.production (MPESA_PRODUCTION) = false again" in hint
    assert sorted(harness.statuses().values()) == ["COMPLETED", "PENDING"]


def test_an_account_changes_once_nothing_is_open_and_a_failure_goes_under_a_new_id(
    harness: PayoutHarness, elsewhere: PayoutHarness
) -> None:
    harness.owe({"ann": "254799002040", "ben": BEN})
    harness.send()
    harness.deliver()
    assert harness.statuses() == {"ann": "FAILED", "ben": "COMPLETED"}
    harness.set_phone("ann", ANN)
    assert elsewhere.retry(only=["derby.1.1"]).retried == ["derby.1.1"]
    elsewhere.send()
    elsewhere.deliver()
    assert elsewhere.statuses() == {"ann": "COMPLETED", "ben": "COMPLETED"}
    with harness.db.reading() as session:
        noted = session.exec(select(Event).where(col(Event.action) == "account.use").order_by(col(Event.id))).all()
        assert [one.detail.count("600000") for one in noted] == [1, 1]
    first, second = harness.attempts("ann")
    assert first.account_id != second.account_id


def test_a_large_failure_is_confirmed_by_the_account_that_sent_it(
    harness: PayoutHarness, elsewhere: PayoutHarness
) -> None:
    harness.owe({"ann": "254799002040"}, cents=2_000_000)
    harness.send()
    harness.deliver()
    report = elsewhere.reconcile()
    assert (report.asked, report.elsewhere, elsewhere.requests) == ([], ["derby.1.1"], [])
    ask(harness, elsewhere)
    harness.set_phone("ann", ANN)
    told = harness.retry(only=["derby.1.1"]).left[0].hint
    assert told == "Ask M-Pesa, from 2026-11-23 12:05 EAT on: kasoko reconcile --now"
    harness.clock.forward(301)
    harness.reconcile()
    assert harness.retry(only=["derby.1.1"]).retried == ["derby.1.1"]


def test_what_was_refused_goes_as_another_account_under_an_id_of_its_own(
    harness: PayoutHarness, elsewhere: PayoutHarness
) -> None:
    harness.owe({"ann": ANN})
    spike = httpx.Response(500, json={"errorCode": "500.003.02", "errorMessage": "Spike arrest"})
    harness.interpose = lambda request: spike if "b2c" in request.url.path else None
    harness.send()
    assert harness.states("ann") == ("PENDING", ["REJECTED"])
    harness.clock.forward(hours=1)
    elsewhere.send()
    elsewhere.deliver()
    assert harness.states("ann") == ("COMPLETED", ["REJECTED", "SUCCEEDED"])
    assert elsewhere.paid_to(ANN) == 10_000


def test_what_only_silence_says_was_not_taken_never_goes_as_another_account(
    lost: PayoutHarness, elsewhere: PayoutHarness
) -> None:
    """It was paid. Ours would refuse its id as a duplicate; whether the other one would, nobody has published."""
    attempt = lost.attempt("ann")
    for hours in (1, 3):
        at = lost.clock() + timedelta(hours=hours)
        lost.note_answer(attempt.id, "NOT_FOUND", at, asked_by=attempt.account_id)
    take(lost, SHORTCODE)
    assert lost.states("ann") == ("FAILED", ["REJECTED"])
    lost.retry(only=["derby.1.1"])
    run = elsewhere.send()
    assert (run.held, elsewhere.ledger(), lost.states("ann")) == (1, [], ("HELD", ["REJECTED"]))
    assert lost.payout("ann").note == (
        "another account tried it, and only silence says that it was not taken. Set the settings of that one again,"
        " then: kasoko payout release derby.1.1 --reason WHY"
    )
    manual_decision.release(lost.context, payout_id="derby.1.1", caution=CAUTION)
    lost.send()
    assert lost.states("ann") == ("UNKNOWN", ["UNKNOWN"])  # a duplicate, so the first one stands
    lost.reconcile()
    assert lost.statuses() == {"ann": "COMPLETED"}
    lost.assert_agreed()


def test_a_new_key_secret_or_initiator_is_the_same_account(harness: PayoutHarness) -> None:
    settings = SimulatorSettings(shortcode=SHORTCODE, consumer_key="another-key", initiator_name="another")
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send(limit=1)  # under way
    again = PayoutHarness(harness.db, harness.clock, harness.new_id, harness.actor, settings)
    again.send()
    assert set(harness.statuses().values()) == {"SENT"}


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("http://127.0.0.1:8322", "http://127.0.0.1:40123", True),
        ("http://localhost:8322/", "http://[::1]:9", True),
        ("https://api.safaricom.co.ke", "https://API.safaricom.co.ke:443/", True),
        ("https://api.safaricom.co.ke", "https://sandbox.safaricom.co.ke", False),
        ("https://api.safaricom.co.ke", "https://daraja.example.org", False),
        ("https://daraja.example.org/one", "https://daraja.example.org/two", False),
        ("https://daraja.example.org", "https://daraja.example.org:8443", False),
        ("https://daraja.example.org", "http://127.0.0.1:8322", False),
    ],
)
def test_a_simulator_that_starts_again_is_the_same_and_another_host_is_not(one: str, other: str, is_same: bool) -> None:
    assert (api_base_of(one) == api_base_of(other)) is is_same


def test_the_balance_of_another_account_covers_no_run(harness: PayoutHarness, elsewhere: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    balances.ask(harness.context, elsewhere.gateway)
    answer, elsewhere.posts = elsewhere.posts, []  # which does not come yet
    balances.ask(harness.context, harness.gateway)
    harness.deliver()

    def known_to(who: PayoutHarness) -> int | None:
        policy = GatePolicy(FloatCheck.REQUIRE, load_tariff(), 86_400, who.daraja.account.payer)
        return float_check.look(harness.db, harness.clock, policy).float_cents

    assert (known_to(harness) is None, known_to(elsewhere)) == (False, None)
    elsewhere.deliver(answer)
    assert known_to(elsewhere) == elsewhere.simulator.settings.utility_cents


def test_a_run_ends_when_somebody_pays_as_another_account(harness: PayoutHarness, elsewhere: PayoutHarness) -> None:
    """Two hosts with two settings: the one that was first finds out at its next claim, in the same transaction."""
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN})

    def change(_: Sent) -> None:
        harness.deliver()
        accounts.put_in_force(harness.context, elsewhere.daraja.account.payer)

    run = harness.send(on_progress=change)
    assert (run.stopped, len(harness.ledger())) == (Stop.CHANGED, 1)
    assert run_report.exit_code_of(run, run_report.ends_of(harness.db, run)) == 10
    elsewhere.send()
    elsewhere.deliver()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    assert len(elsewhere.ledger()) == 2


# --- From before accounts were written down -----------------------------------------------------------------------


def forget_accounts(db: Database) -> None:
    """The database as an upgrade from an older version leaves it."""
    with db.transaction() as session:
        for table in (Attempt, Query, Deployment):
            session.exec(update(table).values(account_id=None))


def test_what_is_older_belongs_to_the_account_that_its_own_kept_request_names(
    lost: PayoutHarness, elsewhere: PayoutHarness, caplog: pytest.LogCaptureFixture
) -> None:
    ask(lost, elsewhere)  # as the older version asked, with the setting changed
    with lost.db.transaction() as session:
        session.exec(update(Query).values(answer="NOT_FOUND"))
    forget_accounts(lost.db)
    message, hint = refusal(elsewhere.reconcile, Refused)
    assert message.startswith("A payout was sent by an account that nobody wrote down and nobody here knows yet how")
    assert hint.startswith("Set the settings as they were again, and ask that account:")
    lost.reconcile(deliver=False)
    assert "count as made by 600000" in caplog.text
    assert lost.attempt("ann").account_id is not None
    assert [one.account_id for one in lost.queries()][:1] == [None]  # what 600777 was asked says nothing
    lost.deliver()
    assert lost.statuses() == {"ann": "COMPLETED"}


def test_what_is_older_and_named_by_nothing_belongs_to_who_pays_if_nothing_speaks_against_it(
    lost: PayoutHarness,
) -> None:
    """Its sender died before its request was written down, and the others that were name our shortcode."""
    forget_accounts(lost.db)
    with lost.db.transaction() as session:
        session.connection().exec_driver_sql("UPDATE exchanges SET subject = 'another' WHERE kind = 'b2c'")
    lost.reconcile()
    assert lost.statuses() == {"ann": "COMPLETED"}


# --- A copy that was put back ---------------------------------------------------------------------------------------


def restored(harness: PayoutHarness, payer: Payer | None) -> None:
    """The database is a copy now, which somebody with these settings put back."""
    with harness.db.transaction() as session:
        hold_unsent(session, harness.actor, api="v3", payer=payer, now=harness.clock())


def prove(harness: PayoutHarness, who: PayoutHarness) -> restore_recovery.AfterRestore:
    """Ask, and ask once more some time later."""
    asked = []
    for _ in range(2):
        asked += restore_recovery.look_after_restore(harness.context, who.gateway, CAUTION)
        who.deliver()
        restore_recovery.take_answers(harness.context, CAUTION)
        harness.clock.forward(301)
    return restore_recovery.proof(harness.db, harness.clock, asked)


def test_after_a_restore_the_account_of_the_copy_is_asked_and_no_other(
    harness: PayoutHarness, elsewhere: PayoutHarness
) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send(only=["derby.1.1"])
    harness.deliver()
    restored(harness, harness.daraja.account.payer)
    message, _ = refusal(lambda: prove(harness, elsewhere), Refused)
    assert "600000" in message
    ask(harness, elsewhere, "ben")
    restore_recovery.take_answers(harness.context, CAUTION)
    assert harness.statuses()["ben"] == "HELD"
    assert prove(harness, harness).ok
    assert harness.statuses()["ben"] == "PENDING"


def test_a_copy_put_back_with_the_settings_of_another_account_waits_for_a_person(
    harness: PayoutHarness, elsewhere: PayoutHarness
) -> None:
    """Since the copy the one may have paid, or the other, and each can be asked about its own only."""
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send(only=["derby.1.1"])
    harness.deliver()
    restored(harness, elsewhere.daraja.account.payer)
    prove(harness, harness)
    assert harness.incidents() == ["restored_two_accounts"]
    switches.resume(harness.context)
    harness.send()
    assert (harness.statuses()["ben"], harness.paid_to(BEN)) == ("HELD", 0)


# --- The doctor -----------------------------------------------------------------------------------------------------


def test_the_doctor_says_whose_settings_these_are(harness: PayoutHarness, elsewhere: PayoutHarness) -> None:
    def states(who: PayoutHarness) -> list[CheckState]:
        with harness.db.reading() as session:
            return [one.state for one in examine("account", lambda: look_at_account(session, who.daraja.account.payer))]

    assert (states(harness), states(elsewhere)) == ([CheckState.OK], [CheckState.OK])
    harness.owe({"ann": ANN})
    harness.send()
    assert (states(harness), states(elsewhere)) == ([CheckState.OK], [CheckState.FAIL])
    harness.deliver()
    assert (states(harness), states(elsewhere)) == ([CheckState.OK], [CheckState.WARN])
    assert harness.attempt("ann").status is AttemptStatus.SUCCEEDED
