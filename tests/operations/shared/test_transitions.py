"""What evidence does to an attempt, its payout and the books, entry by entry as the design's table has them."""

from __future__ import annotations

import threading
from datetime import timedelta

import httpx
import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.payouts.run_report import exit_code_of
from kasoko_cli.operations.shared import transitions
from kasoko_cli.store import attempts, payouts
from kasoko_cli.store.log import open_incidents, set_switch, switches_on
from kasoko_cli.store.schema.tables import Attempt
from tests.operations.payout_harness import ANN, BEN, RECEIPT, PayoutHarness

pytestmark = pytest.mark.on_both

SECOND = "UKN9Z9Z9Z9"


@pytest.fixture
def sent(harness: PayoutHarness) -> PayoutHarness:
    """Ann is owed KES 142.50, of which 142 are on their way, and M-Pesa owes no result."""
    harness.owe({"ann": ANN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    return harness


def say(harness: PayoutHarness, attempt: Attempt, code: int, receipt: str = RECEIPT) -> str:
    """M-Pesa posts a result that is whole and in order."""
    return harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=code, receipt=receipt))


def fail_and_send_again(harness: PayoutHarness) -> tuple[Attempt, Attempt]:
    """The first attempt failed on evidence, and a second one is on its way."""
    first = harness.attempt("ann")
    assert say(harness, first, 26) == "failed"
    assert harness.retry().retried == ["derby.1.1"]
    harness.send()
    harness.posts.clear()
    second = harness.attempt("ann")
    assert (second.number, second.status) == (2, AttemptStatus.ACCEPTED)
    return harness.attempts("ann")[0], second


# --- The books, line by line ---------------------------------------------------------------------------------------


def test_a_payout_that_was_paid_has_the_entries_of_the_design_and_leaves_the_cents_in_the_wallet(
    sent: PayoutHarness,
) -> None:
    attempt = sent.attempt("ann")
    assert sent.sending_entries() == {
        f"attempt:{attempt.id}:reserve": [("in_flight", "", 14_200), ("utility", "", -14_200)],
    }
    assert say(sent, attempt, 0) == "paid"
    assert sent.sending_entries() == {
        f"attempt:{attempt.id}:reserve": [("in_flight", "", 14_200), ("utility", "", -14_200)],
        "payout:derby.1.1:credit": [("payable", "ann", 14_250), ("wallet", "ann", -14_250)],
        f"payout:derby.1.1:deliver:{attempt.id}": [("delivered", "ann", 14_200), ("in_flight", "", -14_200)],
    }
    assert sent.wallet("ann") == (14_250, 50)
    assert sent.incidents() == []
    sent.assert_books()


def test_a_payout_that_failed_gives_its_money_back_to_the_float_and_nothing_to_the_wallet(sent: PayoutHarness) -> None:
    attempt = sent.attempt("ann")
    assert say(sent, attempt, 2040) == "failed"
    assert sent.sending_entries() == {
        f"attempt:{attempt.id}:reserve": [("in_flight", "", 14_200), ("utility", "", -14_200)],
        f"attempt:{attempt.id}:release": [("utility", "", 14_200), ("in_flight", "", -14_200)],
    }
    assert sent.wallet("ann") == (0, 0)
    sent.assert_books()


def test_a_payout_whose_end_is_not_known_keeps_its_money_in_flight(sent: PayoutHarness) -> None:
    attempt, before = sent.attempt("ann"), sent.money()
    assert say(sent, attempt, 17) == "unclear"
    assert sent.money() == before
    assert sent.balance(Account.IN_FLIGHT) == 14_200
    sent.assert_books()


# --- Evidence that comes late, twice, or against what was known ----------------------------------------------------


def test_a_success_after_a_failure_wins_with_an_incident_and_the_right_money(sent: PayoutHarness) -> None:
    attempt = sent.attempt("ann")
    assert say(sent, attempt, 26) == "failed"
    assert say(sent, attempt, 0) == "paid"
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert sent.sending_entries() == {
        f"attempt:{attempt.id}:reserve": [("in_flight", "", 14_200), ("utility", "", -14_200)],
        f"attempt:{attempt.id}:release": [("utility", "", 14_200), ("in_flight", "", -14_200)],
        f"attempt:{attempt.id}:late_reserve": [("in_flight", "", 14_200), ("utility", "", -14_200)],
        "payout:derby.1.1:credit": [("payable", "ann", 14_250), ("wallet", "ann", -14_250)],
        f"payout:derby.1.1:deliver:{attempt.id}": [("delivered", "ann", 14_200), ("in_flight", "", -14_200)],
    }
    assert sent.wallet("ann") == (14_250, 50)
    assert sent.incidents() == ["late_success"]
    payout = sent.payout("ann")
    assert (payout.failure_code, payout.failure_reason) == (None, None)
    sent.assert_books()


def test_a_failure_after_a_success_is_kept_as_evidence_and_moves_nothing(sent: PayoutHarness) -> None:
    attempt = sent.attempt("ann")
    say(sent, attempt, 0)
    before = sent.money()
    assert say(sent, attempt, 2040) == "failed"
    assert sent.money() == before
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert sent.incidents() == ["contradiction"]
    assert sent.retry(only=["derby.1.1"]).left[0].why == "it was paid"
    sent.assert_books()


def test_an_account_level_failure_after_a_success_does_not_stop_the_run_of_everybody(sent: PayoutHarness) -> None:
    attempt = sent.attempt("ann")
    say(sent, attempt, 0)
    say(sent, attempt, 2001)
    with sent.db.reading() as session:
        assert list(switches_on(session)) == []
    sent.assert_books()


def test_a_second_receipt_for_one_attempt_is_kept_and_moves_nothing(sent: PayoutHarness) -> None:
    attempt = sent.attempt("ann")
    say(sent, attempt, 0)
    before = sent.money()
    assert say(sent, attempt, 0, SECOND) == "paid"
    assert sent.money() == before
    assert sent.attempt("ann").receipt == RECEIPT
    assert [(one.kind, SECOND in one.what) for one in sent.all_incidents()] == [("contradiction", True)]
    sent.assert_books()


def test_when_the_first_attempt_turns_out_paid_after_the_second_was_the_user_owes_one_back(sent: PayoutHarness) -> None:
    first, second = fail_and_send_again(sent)
    assert say(sent, second, 0) == "paid"
    assert say(sent, first, 0, SECOND) == "paid"
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED", "SUCCEEDED"])
    assert sent.entries("overpaid") == {f"overpaid:{SECOND}": [("receivable", "ann", 14_200), ("utility", "", -14_200)]}
    assert len(sent.entries("credit")) == len(sent.entries("deliver")) == 1
    assert sent.wallet("ann") == (14_250, 50)
    assert sent.balance(Account.IN_FLIGHT) == 0
    assert sorted(sent.incidents()) == ["late_success", "overpaid"]
    sent.assert_books()


@pytest.mark.parametrize("code", [0, 26])
def test_when_the_first_attempt_turns_out_paid_while_the_second_is_on_its_way_the_second_is_booked_for_what_it_is(
    sent: PayoutHarness, code: int
) -> None:
    first, second = fail_and_send_again(sent)
    assert say(sent, first, 0) == "paid"
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED", "ACCEPTED"])
    sent.assert_books()
    say(sent, second, code, SECOND)
    if code == 0:
        assert sent.entries("overpaid", "release") == {
            f"attempt:{first.id}:release": [("utility", "", 14_200), ("in_flight", "", -14_200)],
            f"attempt:{second.id}:release": [("utility", "", 14_200), ("in_flight", "", -14_200)],
            f"overpaid:{SECOND}": [("receivable", "ann", 14_200), ("utility", "", -14_200)],
        }
        assert sorted(sent.incidents()) == ["late_success", "overpaid"]
    else:
        assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED", "FAILED"])
        assert sent.entries("overpaid") == {}
        assert sent.incidents() == ["late_success"]
    assert sent.wallet("ann") == (14_250, 50)
    assert sent.balance(Account.IN_FLIGHT) == 0
    sent.assert_books()


def test_a_payout_that_is_due_again_is_not_sent_when_its_first_attempt_turns_out_paid(sent: PayoutHarness) -> None:
    first = sent.attempt("ann")
    say(sent, first, 26)
    sent.retry()
    assert sent.payout("ann").status is PayoutStatus.PENDING
    assert say(sent, first, 0) == "paid"
    assert sent.send().sent == []
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    sent.assert_books()


def test_a_late_success_while_the_second_attempt_is_under_way_breaks_no_run(sent: PayoutHarness) -> None:
    """The second attempt is acknowledged when its payout is paid already: the answer is written down all the same."""
    first = sent.attempt("ann")
    say(sent, first, 26)
    sent.retry()

    def succeed_late(request: httpx.Request) -> httpx.Response | None:
        if "b2c" not in request.url.path:
            return None
        reply = sent.ask_simulator(request)
        assert say(sent, first, 0) == "paid"
        return reply

    sent.interpose = succeed_late
    assert len(sent.send().sent) == 1
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED", "ACCEPTED"])
    assert sent.incidents() == ["late_success"]
    sent.assert_books()


def test_a_success_of_a_payout_that_went_to_the_wallet_is_owed_back(sent: PayoutHarness) -> None:
    """The wallet has it, and the phone has it too: the second one is the user's debt."""
    first = sent.attempt("ann")
    say(sent, first, 26)
    with sent.db.transaction() as session:
        assert payouts.move(session, "derby.1.1", PayoutStatus.WALLET, at=sent.clock())
        book.post(session, journal.credited("derby.1.1", "ann", 14_250), at=sent.clock())
    assert sent.wallet("ann") == (14_250, 14_250)
    assert say(sent, first, 0) == "paid"
    assert sent.states("ann") == ("WALLET", ["SUCCEEDED"])
    assert sent.wallet("ann") == (14_250, 14_250)
    assert sent.balance(Account.RECEIVABLE, "ann") == 14_200
    assert sorted(sent.incidents()) == ["late_success", "overpaid"]
    sent.assert_books()


def _refused(harness: PayoutHarness) -> None:
    """Nothing leaves: the attempt is REJECTED and waits for its schedule."""

    def refuse(request: httpx.Request) -> httpx.Response | None:
        if "b2c" in request.url.path:
            raise httpx.ConnectError("refused", request=request)
        return None

    harness.interpose = refuse
    harness.send()
    harness.interpose = lambda request: None
    assert harness.states("ann") == ("PENDING", ["REJECTED"])


def test_a_success_on_a_rejected_attempt_is_a_hint_with_an_incident_and_is_not_sent_again(
    harness: PayoutHarness,
) -> None:
    """It was certainly not taken, and a result says that it was paid: M-Pesa is asked before it goes again."""
    harness.owe({"ann": ANN}, cents=14_250)
    _refused(harness)
    attempt, before = harness.attempt("ann"), harness.money()
    assert (
        harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, conversation="AG_20261123_x")) == "hint"
    )
    assert harness.money() == before
    assert harness.incidents() == ["contradiction"]
    harness.clock.forward(hours=1)
    assert harness.send().sent == []
    assert harness.ledger() == []
    payout = harness.payout("ann")
    assert payout.status is PayoutStatus.PENDING
    assert "M-Pesa has not answered since" in (payout.note or "")
    harness.reconcile(at_once=False)
    harness.clock.forward(300)
    assert len(harness.send().sent) == 1, "M-Pesa does not know it: it goes, and under the same id"
    assert [one.id for one in harness.attempts("ann")] == [attempt.id]
    harness.assert_books()


def test_a_success_on_a_rejected_attempt_that_is_believed_is_booked_as_late(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, cents=14_250)
    _refused(harness)
    harness.trust = Trust(success_without_ack=True)
    attempt = harness.attempt("ann")
    assert (
        harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, conversation="AG_20261123_x")) == "paid"
    )
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert list(harness.sending_entries()) == [
        f"attempt:{attempt.id}:reserve",
        f"attempt:{attempt.id}:release",
        f"attempt:{attempt.id}:late_reserve",
        "payout:derby.1.1:credit",
        f"payout:derby.1.1:deliver:{attempt.id}",
    ]
    assert harness.incidents() == ["late_success"]
    assert harness.send().sent == []
    harness.assert_books()


@pytest.mark.parametrize("lie", [{"amount": "left out"}, {"amount": 1}])
def test_a_payout_that_was_made_due_again_is_put_off_when_a_doubtful_success_of_its_first_attempt_turns_up(
    sent: PayoutHarness, lie: dict[str, object]
) -> None:
    """A retry after the incident is refused; so a send after it must be too, or the user may be paid twice."""
    first = sent.attempt("ann")
    say(sent, first, 26)
    assert sent.retry().retried == ["derby.1.1"]
    sent.post(CallbackKind.RESULT, first.id, sent.result(first, **lie))  # type: ignore[arg-type]
    run = sent.send()
    assert (run.sent, run.held, exit_code_of(run, [])) == ([], 1, 7)
    assert sent.payout("ann").status is PayoutStatus.PENDING
    assert len(sent.attempts("ann")) == 1
    sent.assert_books()
    # A person looks into it and lets it go: only then does a second attempt leave.
    for incident in sent.all_incidents():
        assert manual_decision.close_incidents(sent.context, numbers=[incident.id or 0])
    sent.clock.forward(300)
    assert [str(one.became) for one in sent.send().sent] == ["SENT"]
    assert len(sent.attempts("ann")) == 2
    sent.assert_books()


# --- What the schema itself refuses --------------------------------------------------------------------------------


def test_the_schema_refuses_a_second_live_attempt_of_one_payout(sent: PayoutHarness) -> None:
    first, now = sent.attempt("ann"), sent.clock()
    with pytest.raises(IntegrityError), sent.db.transaction() as session:
        session.add(
            Attempt(
                id="ks-1",
                payout_id=first.payout_id,
                number=2,
                status=AttemptStatus.INTENT,
                phone=first.phone,
                wire_cents=first.wire_cents,
                api="v3",
                lease_token="x",
                lease_until=now,
                sent_at=now,
                created_at=now,
                status_at=now,
            )
        )
    assert len(sent.attempts("ann")) == 1
    sent.assert_books()


def test_no_state_is_left_by_a_way_that_is_not_in_the_tables(sent: PayoutHarness) -> None:
    """A guarded move says that it moved nothing, and moves nothing."""
    attempt = sent.attempt("ann")
    say(sent, attempt, 0)
    with sent.db.transaction() as session:
        for status in set(PayoutStatus) - {PayoutStatus.RETURNED}:
            assert not payouts.move(session, "derby.1.1", status, at=sent.clock())
        for state in set(AttemptStatus) - {AttemptStatus.RETURNED}:
            assert not attempts.move(session, attempt.id, state, at=sent.clock())
    assert sent.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    sent.assert_books()


def test_an_attempt_that_is_moved_by_one_process_is_not_moved_again_by_another_that_read_it_before(
    sent: PayoutHarness,
) -> None:
    """Two judges hold the same old picture: the second one's evidence finds nothing to move."""
    attempt = sent.attempt("ann")
    for expected in (True, False):
        with sent.db.transaction() as session:
            outcome = transitions.not_paid(
                session, attempt, transitions.Failure("26", "busy", "callback:1"), at=sent.clock()
            )
            assert outcome.moved is expected
            book.post(session, *outcome.entries, at=sent.clock())
    assert len(sent.entries("release")) == 1
    sent.assert_books()


# --- Leases that ran out -------------------------------------------------------------------------------------------


def intent(harness: PayoutHarness, *users: str) -> None:
    """A sender that dies between its intent and its answer."""

    def killed(request: httpx.Request) -> httpx.Response | None:
        if "b2c" in request.url.path:
            raise KeyboardInterrupt
        return None

    harness.interpose = killed
    for _ in users:
        with pytest.raises(KeyboardInterrupt):
            harness.send()
    harness.interpose = lambda request: None


def test_a_lease_that_ran_out_makes_unknown_and_never_due(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    intent(harness, "ann", "ben")
    before = harness.money()
    with harness.db.transaction() as session:
        assert transitions.reap(session, now=harness.clock()) == 0
    harness.clock.forward(300)
    with harness.db.transaction() as session:
        assert transitions.reap(session, now=harness.clock()) == 0
    harness.clock.forward(1)
    with harness.db.transaction() as session:
        assert transitions.reap(session, now=harness.clock()) == 2
        assert transitions.reap(session, now=harness.clock()) == 0
    assert harness.statuses() == {"ann": "UNKNOWN", "ben": "UNKNOWN"}
    assert harness.money() == before
    assert harness.send().sent == []
    assert harness.ledger() == []
    harness.assert_books()


def test_what_was_sent_again_while_the_reaper_waited_is_not_reaped(harness: PayoutHarness) -> None:
    """The lease that had run out is not the one that stands: a person said not paid, and another run has it now."""
    harness.owe({"ann": ANN})
    intent(harness, "ann")
    harness.clock.forward(301)
    attempt, reaped = harness.attempt("ann"), list[int]()

    def reap() -> None:
        with harness.db.transaction() as session:
            reaped.append(transitions.reap(session, now=harness.clock()))

    with harness.db.transaction() as session:
        found, _ = transitions.lock(session, attempt.id)
        reaper = threading.Thread(target=reap)
        reaper.start()
        reaper.join(0.5)
        assert not reaped, "it waits"
        now, why = harness.clock(), "nobody took it"
        assert transitions.doubtful(session, found, why=why, at=now).moved
        outcome = transitions.never_taken(session, found, transitions.Failure(transitions.DECIDED, why, why), at=now)
        assert payouts.move(session, attempt.payout_id, PayoutStatus.PENDING, at=now)
        assert payouts.move(session, attempt.payout_id, PayoutStatus.SENDING, at=now)
        lease = now + timedelta(seconds=300)
        again = {"the_id": attempt.id, "sends": 2, "lease_until": lease, "lease_token": "another", "sent_at": now}
        again |= {"status_at": now, "phone": attempt.phone, "api": attempt.api}
        assert attempts.begin_again(session, [again]) == 1
        book.post(session, *outcome.entries, journal.reserved(attempt.id, 2, attempt.wire_cents), at=now)
    reaper.join(30)
    assert reaped == [0]
    assert harness.states("ann") == ("SENDING", ["INTENT"])


def test_reaping_waits_for_whoever_has_the_payout_without_holding_what_that_one_needs(harness: PayoutHarness) -> None:
    """Everybody takes the payout first and its attempt second; the other order would lock both out for ever."""
    harness.owe({"ann": ANN})
    intent(harness, "ann")
    harness.clock.forward(301)
    attempt, done, trouble = harness.attempt("ann"), threading.Event(), []

    def reap() -> None:
        try:
            with harness.db.transaction() as session:
                assert transitions.reap(session, now=harness.clock()) == 1
        except Exception as error:
            trouble.append(error)
        done.set()

    with harness.db.transaction() as session:
        payouts.find_payout(session, attempt.payout_id, lock=True)
        thread = threading.Thread(target=reap)
        thread.start()
        assert not done.wait(0.5)
        attempts.find_attempt(session, attempt.id, lock=True)
    thread.join(timeout=30)
    assert trouble == []
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    harness.assert_books()


def test_what_was_judged_or_sent_again_meanwhile_is_not_reaped(harness: PayoutHarness) -> None:
    """The list of dead leases is read first, and what it names may be alive again when its turn comes."""
    harness.owe({"ann": ANN})
    intent(harness, "ann")
    harness.clock.forward(301)
    attempt, done = harness.attempt("ann"), []

    def reap() -> None:
        with harness.db.transaction() as session:
            done.append(transitions.reap(session, now=harness.clock()))

    def extend(session: Session) -> None:
        found = session.exec(select(Attempt).where(col(Attempt.id) == attempt.id)).one()
        found.lease_until = harness.clock() + timedelta(seconds=300)
        session.add(found)

    with harness.db.transaction() as session:
        payouts.find_payout(session, attempt.payout_id, lock=True)
        thread = threading.Thread(target=reap)
        thread.start()
        thread.join(timeout=0.5)
        extend(session)
    thread.join(timeout=30)
    assert done == [0]
    assert harness.states("ann") == ("SENDING", ["INTENT"])
    harness.assert_books()


def test_two_processes_may_turn_a_switch_at_once(harness: PayoutHarness) -> None:
    """Two results of code 1 are applied on two hosts: the breaker is on, and neither host breaks."""
    barrier, trouble = threading.Barrier(2), []

    def turn(actor: str) -> None:
        try:
            barrier.wait(timeout=10)
            with harness.db.transaction() as session:
                set_switch(session, "breaker", is_on=True, reason="code 1", actor=actor, at=harness.clock())
                session.flush()
                threading.Event().wait(0.3)
        except Exception as error:
            trouble.append(error)

    threads = [threading.Thread(target=turn, args=(actor,)) for actor in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    with harness.db.reading() as session:
        assert [switch.name for switch in switches_on(session)] == ["breaker"]
        assert list(open_incidents(session)) == []
