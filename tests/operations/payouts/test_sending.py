"""Sending: the intent first, one id for one debt, and never a second payment, whatever breaks."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text

from kasoko_cli.clock import eat, iso
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.messages import B2C_V1_PATH, B2C_V3_PATH
from kasoko_cli.daraja.simulator.app import Fault, Rule, SimulatorSettings
from kasoko_cli.domain.payout import RETRY_SCHEDULE_SECONDS, AttemptStatus, PayoutStatus
from kasoko_cli.errors import AccountRefused, ConfigurationError, NotFound, NotSent, Refused
from kasoko_cli.operations.payouts import run_report, switches
from kasoko_cli.operations.payouts.run import Run, Selection, SendPolicy, Sent, Stop
from kasoko_cli.operations.payouts.run_report import count_ends, ends_of, exit_code_of
from kasoko_cli.operations.records import users
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import attempts
from kasoko_cli.store.engine import database
from kasoko_cli.store.engine.database import Database
from tests.conftest import CountedIds, FixedClock
from tests.daraja.memory_shelf import MemoryShelf
from tests.operations.payout_harness import ANN, BEN, CYN, LoudHarness, PayoutHarness

PAYS = (B2C_V1_PATH, B2C_V3_PATH)
THREE = {"ann": ANN, "ben": BEN, "cyn": CYN}


def people(count: int) -> dict[str, str]:
    """So many winners, each with a phone of their own."""
    return {f"user{n:03d}": f"2547120{n:05d}" for n in range(count)}


def on_payment(
    do: Callable[[httpx.Request], httpx.Response | None],
) -> Callable[[httpx.Request], httpx.Response | None]:
    """Do it where a payment is asked for; the token has an answer of its own."""
    return lambda request: do(request) if request.url.path in PAYS else None


def refused(request: httpx.Request) -> httpx.Response:
    """The connection is refused: nothing left."""
    raise httpx.ConnectError("connection refused", request=request)


def silent(request: httpx.Request) -> httpx.Response:
    """It left, and no answer comes."""
    raise httpx.ReadTimeout("the answer did not come", request=request)


def error(status: int, code: str, message: str) -> Callable[[httpx.Request], httpx.Response | None]:
    """M-Pesa's own refusal of every payment."""
    body = {"requestId": "1", "errorCode": code, "errorMessage": message}
    return on_payment(lambda request: httpx.Response(status, json=body))


def ids_sent(harness: PayoutHarness) -> list[str]:
    """The id of each payment that was asked for, in order."""
    return [json.loads(one.content)["OriginatorConversationID"] for one in harness.requests if one.url.path in PAYS]


def tuples(run: Run, harness: PayoutHarness) -> tuple[list[str], int]:
    """What became of each payout of a run, and the exit code."""
    return [str(sent.became) for sent in run.sent], exit_code_of(run, ends_of(harness.db, run))


# --- The intent first ----------------------------------------------------------------------------------------------


def test_the_intent_is_on_the_disk_before_a_byte_leaves(harness: PayoutHarness, database_url: str) -> None:
    """Another process, with a connection of its own, sees the whole intent while the request is under way."""
    harness.owe({"ann": ANN})
    seen = []

    def look(request: httpx.Request) -> httpx.Response | None:
        other = database.open_database(database_url)
        try:
            with other.reading() as session:
                attempt = attempts.find_attempt(session, json.loads(request.content)["OriginatorConversationID"])
                seen.append((attempt.status, attempt.wire_cents, attempt.lease_until > harness.clock()))
            # Nothing is locked either: the books, the payout and a new row can be written meanwhile.
            with other.transaction() as session:
                session.execute(text("UPDATE payouts SET note = 'seen'"))
        finally:
            other.close()
        assert harness.sending_entries() == {
            f"attempt:{attempt.id}:reserve": [("in_flight", "", 10_000), ("utility", "", -10_000)]
        }
        assert harness.states("ann") == ("SENDING", ["INTENT"])
        return None

    harness.interpose = on_payment(look)
    harness.send()
    assert seen == [(AttemptStatus.INTENT, 10_000, True)]
    assert harness.states("ann") == ("SENT", ["ACCEPTED"])
    harness.deliver()
    harness.assert_agreed()


def test_what_is_asked_of_m_pesa_is_the_wire_to_the_phone_with_addresses_that_bear_our_mark(
    harness: PayoutHarness,
) -> None:
    harness.owe({"ann": ANN}, cents=14_250)
    harness.send()
    [request] = [one for one in harness.requests if one.url.path in PAYS]
    sent, attempt = json.loads(request.content), harness.attempt("ann")
    assert (sent["Amount"], sent["PartyB"], sent["OriginatorConversationID"]) == (142, ANN, attempt.id)
    assert (sent["ResultURL"], sent["QueueTimeOutURL"]) == (
        harness.links.of_payment(attempt.id).result,
        harness.links.of_payment(attempt.id).timeout,
    )
    assert attempt.id.startswith("ks-")
    assert len(attempt.id) <= 36


def test_a_process_that_dies_while_it_sends_leaves_a_question_and_never_a_second_payment(
    harness: PayoutHarness,
) -> None:
    harness.owe({"ann": ANN})

    def killed(request: httpx.Request) -> httpx.Response | None:
        harness.ask_simulator(request)
        raise KeyboardInterrupt

    harness.interpose = on_payment(killed)
    with pytest.raises(KeyboardInterrupt):
        harness.send()
    harness.interpose = lambda request: None
    assert harness.states("ann") == ("SENDING", ["INTENT"])
    assert harness.send().sent == []
    harness.clock.forward(301)
    run = harness.send()
    assert (run.sent, run.reaped) == ([], 1)
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    harness.reconcile()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_agreed()


# --- The same id, or a new one -------------------------------------------------------------------------------------


def test_a_request_that_never_left_goes_again_under_the_same_id_inside_its_lease(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    turns = itertools.count()
    harness.interpose = on_payment(lambda request: refused(request) if next(turns) < 2 else None)
    assert tuples(harness.send(), harness) == (["SENT"], 0)
    assert ids_sent(harness) == [harness.attempt("ann").id] * 3
    assert (harness.attempt("ann").number, harness.attempt("ann").sends) == (1, 1)
    assert len(harness.entries("reserve")) == 1
    harness.deliver()
    harness.assert_agreed()


def test_what_the_gateway_refused_goes_again_later_under_the_same_id_with_a_numbered_reserve(
    harness: PayoutHarness,
) -> None:
    harness.owe({"ann": ANN})
    harness.interpose = error(500, "500.003.02", "Error Occurred: Spike Arrest Violation")
    assert tuples(harness.send(), harness) == (["PENDING"], 6)
    attempt = harness.attempt("ann")
    assert (attempt.status, attempt.sends, harness.payout("ann").tries) == (AttemptStatus.REJECTED, 1, 1)
    assert attempt.evidence == "answer:500.003.02"
    harness.assert_books()
    harness.clock.forward(132)
    harness.interpose = lambda request: None
    assert tuples(harness.send(), harness) == (["SENT"], 0)
    assert (harness.attempt("ann").id, harness.attempt("ann").sends) == (attempt.id, 2)
    assert set(ids_sent(harness)) == {attempt.id}
    harness.deliver()
    assert list(harness.sending_entries()) == [
        f"attempt:{attempt.id}:reserve",
        f"attempt:{attempt.id}:release",
        f"attempt:{attempt.id}:reserve:2",
        "payout:derby.1.1:credit",
        f"payout:derby.1.1:deliver:{attempt.id}",
    ]
    harness.assert_agreed()


def test_a_new_id_is_drawn_only_after_an_attempt_that_was_taken_and_failed(harness: PayoutHarness) -> None:
    harness.owe({"ann": "254799002040"})
    harness.send()
    harness.deliver()
    assert harness.states("ann") == ("FAILED", ["FAILED"])
    harness.set_phone("ann", ANN)
    assert harness.retry().retried == ["derby.1.1"]
    assert tuples(harness.send(), harness) == (["SENT"], 0)
    harness.deliver()
    first, second = harness.attempts("ann")
    assert first.id != second.id
    assert [(one.number, one.status, one.phone) for one in (first, second)] == [
        (1, AttemptStatus.FAILED, "254799002040"),
        (2, AttemptStatus.SUCCEEDED, ANN),
    ]
    harness.assert_agreed()


def test_an_impossible_number_fails_and_its_id_is_used_again_for_the_corrected_one(harness: PayoutHarness) -> None:
    harness.owe({"ann": "254799100001"})
    assert tuples(harness.send(), harness) == (["FAILED"], 6)
    assert harness.payout("ann").failure_code == "400.002.02"
    harness.set_phone("ann", ANN)
    harness.retry()
    harness.send()
    harness.deliver()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert len(set(ids_sent(harness))) == 1
    assert (harness.attempt("ann").phone, harness.paid_to(ANN)) == (ANN, 10_000)
    harness.assert_agreed()


def test_two_equal_payouts_to_one_person_are_two_payments(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, market="derby")
    harness.owe({"ann": ANN}, market="replay")
    assert tuples(harness.send(), harness) == (["SENT", "SENT"], 0)
    harness.deliver()
    assert len(set(ids_sent(harness))) == 2
    assert harness.paid_to(ANN) == 20_000
    assert harness.wallet("ann") == (20_000, 0)
    harness.assert_agreed()


def test_two_hundred_payouts_in_one_moment_are_two_hundred_ids(harness: PayoutHarness) -> None:
    harness.owe(people(200))
    run = harness.send(SendPolicy(rate_per_second=0, concurrency=8))
    assert (run.count(PayoutStatus.SENT), run.stopped, run.left) == (200, Stop.DONE, 0)
    assert len(set(ids_sent(harness))) == len(ids_sent(harness)) == 200
    assert len(harness.deliver()) == 200
    harness.assert_agreed()


# --- The schedule --------------------------------------------------------------------------------------------------


def test_the_schedule_is_kept_then_it_fails_and_a_retry_by_hand_succeeds(harness: PayoutHarness) -> None:
    """Five tries after the first, 120, 240, 480, 960 and 1920 seconds apart; it survives the process."""
    harness.owe({"ann": ANN})
    harness.interpose = on_payment(refused)
    for n, seconds in enumerate(RETRY_SCHEDULE_SECONDS, start=1):
        assert tuples(harness.send(), harness) == (["PENDING"], 6)
        payout = harness.payout("ann")
        assert payout.not_before is not None
        waits = (payout.not_before - harness.clock()).total_seconds()
        assert seconds <= waits <= seconds * 1.1
        assert (payout.tries, harness.attempt("ann").sends) == (n, n)
        harness.clock.forward(waits - 1)
        run = harness.send()
        assert (run.sent, run.left, run.next_at) == ([], 1, payout.not_before)
        harness.clock.forward(1)
    assert tuples(harness.send(), harness) == (["FAILED"], 6)
    payout = harness.payout("ann")
    assert (payout.failure_code, payout.not_before, payout.tries) == ("NOT_SENT", None, 6)
    assert harness.states("ann") == ("FAILED", ["REJECTED"])
    harness.clock.forward(hours=5)
    assert harness.send().sent == []
    harness.assert_books()
    harness.interpose = lambda request: None
    assert harness.retry().retried == ["derby.1.1"]
    assert tuples(harness.send(), harness) == (["SENT"], 0)
    harness.deliver()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert len(set(ids_sent(harness))) == 1
    harness.assert_agreed()


def test_a_retry_by_hand_begins_the_schedule_anew(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.interpose = on_payment(refused)
    for _ in range(6):
        harness.send()
        harness.clock.forward(hours=1)
    assert harness.payout("ann").status is PayoutStatus.FAILED
    harness.retry()
    assert tuples(harness.send(), harness) == (["PENDING"], 6)
    assert harness.payout("ann").tries == 1


def test_a_run_that_stays_waits_for_what_is_due_later(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    turns = itertools.count()
    harness.interpose = on_payment(lambda request: refused(request) if next(turns) < 3 else None)
    ticks = itertools.count()

    def pass_time() -> bool:
        if next(ticks) > 2:
            harness.clock.forward(60)
        return False

    run = harness.send(stay=True, should_stop=pass_time)
    assert [str(sent.became) for sent in run.sent] == ["PENDING", "SENT"]
    assert exit_code_of(run, ends_of(harness.db, run)) == 0
    harness.deliver()
    harness.assert_agreed()


# --- What becomes of it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(on_payment(silent), "", id="a read timeout"),
        pytest.param(error(500, "500.002.1001", "System internal error."), "500.002.1001", id="an internal error"),
        pytest.param(error(500, "500.003.1001", "Service is unreachable"), "500.003.1001", id="unreachable"),
        pytest.param(error(500, "500.001.1001", ""), "500.001.1001", id="an error without a text"),
        pytest.param(
            error(500, "500.002.1001", "Duplicate OriginatorConversationID."), "500.002.1001", id="a duplicate"
        ),
        pytest.param(on_payment(lambda _: httpx.Response(503, text="<html>")), "503", id="a firewall"),
        pytest.param(on_payment(lambda _: httpx.Response(200, text="<html>")), "200", id="a web page"),
        pytest.param(on_payment(lambda _: httpx.Response(200)), "200", id="nothing"),
        pytest.param(on_payment(lambda _: httpx.Response(200, json={"ok": True})), "200", id="another JSON"),
        pytest.param(on_payment(lambda _: httpx.Response(200, json={"ResponseCode": "1"})), "1", id="another code"),
        pytest.param(on_payment(lambda _: httpx.Response(302)), "302", id="a redirect"),
    ],
)
def test_what_may_have_been_taken_is_unknown_and_is_never_sent_again(
    harness: PayoutHarness, answer: Callable[[httpx.Request], httpx.Response | None], code: str
) -> None:
    harness.owe({"ann": ANN})
    harness.interpose = answer
    assert tuples(harness.send(), harness) == (["UNKNOWN"], 7)
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    assert (harness.attempt("ann").result_code or "") == code
    assert ids_sent(harness) == [harness.attempt("ann").id]
    assert len(harness.entries("reserve")) == 1
    assert harness.entries("release") == {}
    for _ in range(3):
        harness.clock.forward(hours=12)
        assert harness.send().sent == []
        assert harness.retry(only=["derby.1.1"]).retried == []
    assert len(ids_sent(harness)) == 1
    harness.assert_agreed()


def test_a_duplicate_is_the_first_request_which_is_asked_about(harness: PayoutHarness) -> None:
    """The first request was taken, and its answer looked like a refusal: M-Pesa's memory of ids saves the day."""
    harness.owe({"ann": ANN})
    turns = itertools.count()

    def lie(request: httpx.Request) -> httpx.Response | None:
        answer = harness.ask_simulator(request)
        return refused(request) if next(turns) == 0 else answer

    harness.interpose = on_payment(lie)
    assert tuples(harness.send(), harness) == (["UNKNOWN"], 7)
    assert harness.simulator.gateway.ledger()["duplicates_refused"] == 1
    harness.reconcile()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_agreed()


# --- The account, the pause, the network ---------------------------------------------------------------------------


def test_a_refusal_of_the_account_trips_the_breaker_and_leaves_the_rest_untouched(harness: PayoutHarness) -> None:
    harness.owe(THREE)
    harness.interpose = error(401, "401.002.01", "Error Occurred - Invalid Access Token - ")
    run = harness.send()
    assert (tuples(run, harness), run.stopped) == ((["PENDING"], 6), Stop.ACCOUNT)
    assert "refused twice" in run.why
    assert harness.payout("ann").tries == 0
    with harness.db.reading() as session:
        assert list(attempts.list_attempts(session, "derby.1.2")) == []
    harness.interpose = lambda request: None
    with pytest.raises(AccountRefused, match="refused twice") as stopped:
        harness.send()
    assert stopped.value.hint == "Mend that first, then: kasoko resume, and kasoko retry-failed, and kasoko payout"
    assert switches.resume(harness.context) == ["breaker"]
    assert tuples(harness.send(), harness) == (["SENT"] * 3, 0)
    harness.deliver()
    harness.assert_agreed()


def test_a_result_that_blames_the_account_stops_the_run_it_belongs_to(harness: PayoutHarness) -> None:
    """Every other payment would meet the same: of a hundred winners one is refused, not a hundred."""
    harness.owe({"ann": "254799000001", **people(5)})

    def tell(_: Sent) -> None:
        harness.deliver()

    run = harness.send(on_progress=tell)
    assert [str(sent.became) for sent in run.sent] == ["SENT"]
    assert (run.stopped, run.left) == (Stop.ACCOUNT, 5)
    assert run.why == (
        "M-Pesa refuses the account: the utility account has too little money (code 1)."
        " Move money into the utility account."
    )
    assert exit_code_of(run, ends_of(harness.db, run)) == 6
    assert harness.states("ann") == ("FAILED", ["FAILED"])
    harness.assert_agreed()


def test_a_key_that_m_pesa_refuses_changes_nothing_at_all(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.interpose = lambda request: httpx.Response(400, json={"errorCode": "400.008.01", "errorMessage": "Invalid"})
    before = harness.money()
    with pytest.raises(ConfigurationError):
        harness.send()
    assert harness.money() == before
    assert harness.payout("ann").status is PayoutStatus.PENDING


def test_a_pause_holds_every_host_until_it_is_resumed(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    with pytest.raises(Refused, match="needs a reason"):
        switches.pause(OperationContext(harness.db, harness.clock, Actor("amina")))
    switches.pause(OperationContext(harness.db, harness.clock, Actor("amina", "the float is being moved")))
    with pytest.raises(Refused, match=f"paused by amina since {eat(harness.clock())}: the float is being moved"):
        harness.send()
    assert ids_sent(harness) == []
    assert switches.resume(harness.context) == ["pause"]
    assert switches.resume(harness.context) == []
    assert tuples(harness.send(), harness) == (["SENT"], 0)


def test_a_pause_during_a_run_stops_it_between_two_payouts(harness: PayoutHarness) -> None:
    harness.owe(THREE)
    run = harness.send(
        on_progress=lambda _: switches.pause(OperationContext(harness.db, harness.clock, Actor("amina", "stop")))
    )
    assert ([str(sent.became) for sent in run.sent], run.stopped, run.why) == (["SENT"], Stop.PAUSED, "stop")
    assert exit_code_of(run, ends_of(harness.db, run)) == 10
    assert harness.statuses() == {"ann": "SENT", "ben": "PENDING", "cyn": "PENDING"}
    harness.deliver()
    harness.assert_agreed()


def test_a_network_that_is_gone_stops_the_run_after_three(harness: PayoutHarness) -> None:
    harness.owe(people(9))
    harness.interpose = on_payment(refused)
    run = harness.send()
    assert (tuples(run, harness), run.stopped) == ((["PENDING"] * 3, 6), Stop.UNREACHABLE)
    assert run.left == 9
    harness.assert_books()


def test_a_network_that_is_gone_before_the_first_payment_changes_nothing(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.interpose = refused
    before = harness.money()
    with pytest.raises(NotSent):
        harness.send()
    assert harness.money() == before


# --- How much of it ------------------------------------------------------------------------------------------------


def test_limit_only_and_market_choose_what_is_sent(harness: PayoutHarness) -> None:
    harness.owe(THREE)
    harness.owe({"ann": ANN}, market="replay")
    run = harness.send(limit=2)
    assert (tuples(run, harness), run.stopped, run.left) == ((["SENT"] * 2, 10), Stop.LIMIT, 2)
    run = harness.send(only=["replay.1.1"], limit=1)
    assert (tuples(run, harness), run.stopped, run.left) == ((["SENT"], 0), Stop.DONE, 0)
    assert harness.payout("cyn").status is PayoutStatus.PENDING
    assert tuples(harness.send(market="replay"), harness) == ([], 0)
    assert tuples(harness.send(market="derby"), harness) == (["SENT"], 0)
    assert tuples(harness.send(), harness) == ([], 0)
    harness.deliver()
    harness.assert_agreed()


@pytest.mark.parametrize("which", [{"market": "nowhere"}, {"only": ["nowhere.1.1"]}])
def test_what_is_not_there_is_not_found_and_nothing_is_sent(harness: PayoutHarness, which: dict[str, object]) -> None:
    harness.owe({"ann": ANN})
    with pytest.raises(NotFound):
        harness.send(**which)  # type: ignore[arg-type]
    assert harness.requests == []


def test_a_run_ends_when_its_time_is_over_or_when_it_is_interrupted(harness: PayoutHarness) -> None:
    harness.owe(THREE)
    run = harness.send(max_seconds=0)
    assert (run.sent, run.stopped, exit_code_of(run, [])) == ([], Stop.TIME, 10)
    turns = itertools.count()
    run = harness.send(should_stop=lambda: next(turns) > 0)
    assert (tuples(run, harness), run.stopped) == ((["SENT"], 130), Stop.INTERRUPTED)
    assert tuples(harness.send(), harness) == (["SENT"] * 2, 0)
    harness.deliver()
    harness.assert_agreed()


def test_a_receiver_gets_no_more_in_one_nairobi_day_than_the_limit(harness: PayoutHarness) -> None:
    """Three legs to one phone, of which two fit; two of them are claimed at once, and midnight is Nairobi's."""
    harness.owe({"ann": ANN}, cents=60_000_000)
    with harness.db.reading() as session:
        legs = [row[0] for row in session.execute(text("SELECT wire_cents FROM payouts ORDER BY leg"))]
    assert legs == [25_000_000, 25_000_000, 10_000_000]
    run = harness.send(SendPolicy(rate_per_second=0, concurrency=3))
    assert (len(run.sent), run.postponed, run.left) == (2, 1, 1)
    assert run.next_at is not None
    assert iso(run.next_at) == "2026-11-23T21:00:00Z"
    assert exit_code_of(run, ends_of(harness.db, run)) == 6
    harness.deliver()
    assert harness.paid_to(ANN) == 50_000_000
    harness.clock.now = run.next_at - timedelta(seconds=1)
    assert harness.send().sent == []
    harness.clock.forward(1)
    assert [str(sent.became) for sent in harness.send().sent] == ["SENT"]
    harness.deliver()
    assert harness.paid_to(ANN) == 60_000_000
    harness.assert_agreed()


def test_the_days_limit_counts_what_may_have_moved_and_not_what_did_not(harness: PayoutHarness) -> None:
    policy = SendPolicy(rate_per_second=0, concurrency=1, daily_cents=10_000)
    harness.owe({"ann": ANN}, market="first")
    harness.interpose = on_payment(refused)
    harness.send(policy)
    harness.interpose = lambda request: None
    harness.owe({"ann": ANN}, market="second")
    assert [str(sent.became) for sent in harness.send(policy).sent] == ["SENT"]
    harness.owe({"ann": ANN}, market="third")
    assert harness.send(policy, market="third").postponed == 1
    assert harness.payout("ann", "third").note == "the receiver has had the day's KES 100.00"
    harness.assert_books()


def test_exit_codes_name_the_gravest_first(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "bad": "254799100001", "lost": "254799200005"})
    run = harness.send()
    assert tuples(run, harness) == (["SENT", "FAILED", "UNKNOWN"], 7)
    harness.deliver()
    harness.reconcile()
    assert exit_code_of(run, ends_of(harness.db, run)) == 6
    counted = count_ends(ends_of(harness.db, run))
    assert {state: (each.count, each.amount_cents) for state, each in counted.items()} == {
        "COMPLETED": (2, 20_000),
        "FAILED": (1, 10_000),
    }


# --- Leases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["taken", "refused", "silent", "strange"])
def test_an_answer_after_the_lease_ran_out_changes_no_state_and_keeps_what_a_result_needs(
    harness: PayoutHarness, ends: str
) -> None:
    harness.owe({"ann": ANN})

    def slow(request: httpx.Request) -> httpx.Response | None:
        if ends == "refused":
            answer = httpx.Response(400, json={"errorCode": "400.002.02", "errorMessage": "Invalid PartyB"})
        else:
            answer = harness.ask_simulator(request)
        harness.clock.forward(301)
        with harness.db.transaction() as session:
            assert transitions.reap(session, now=harness.clock()) == 1
        if ends == "silent":
            raise httpx.ReadTimeout("too late", request=request)
        if ends == "strange":
            return httpx.Response(200, json=answer.json() | {"OriginatorConversationID": "ks-anothers"})
        return answer

    harness.interpose = on_payment(slow)
    before = None
    run = harness.send()
    assert [str(sent.became) for sent in run.sent] == ["UNKNOWN"]
    assert run.sent[0].why.startswith("the answer came after the lease ran out: ")
    assert harness.states("ann") == ("UNKNOWN", ["UNKNOWN"])
    assert len(harness.entries("reserve")) == 1
    assert harness.entries("release") == {}
    assert (harness.attempt("ann").conversation_id is not None) is (ends == "taken")
    before = harness.money()
    harness.deliver()
    if ends == "taken":
        assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    else:
        assert harness.money() == before
    harness.assert_agreed()


def test_nothing_is_sent_that_could_outlive_its_lease(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    run = harness.send(SendPolicy(rate_per_second=0, concurrency=1, lease_seconds=5))
    assert [(str(sent.became), sent.why) for sent in run.sent] == [
        ("PENDING", "too little time was left to send it safely")
    ]
    assert ids_sent(harness) == []
    harness.assert_agreed()


# --- A database that was restored ----------------------------------------------------------------------------------


@pytest.fixture
def rewind(database_url: str, db: Database, tmp_path: Path) -> Callable[[], Callable[[], None]]:
    """Take a copy of the database now; what it gives puts that copy back."""

    def take() -> Callable[[], None]:
        db.close()
        if db.is_sqlite:
            # The write-ahead log goes into the file first, so that the file is the whole database.
            with _connected(database_url) as run:
                run("PRAGMA wal_checkpoint(TRUNCATE)")
            copy, file = tmp_path / f"{uuid4().hex}.db", Path(str(db.url.database))
            shutil.copy(file, copy)

            def put_back() -> None:
                db.close()
                for part in ("-wal", "-shm"):
                    file.with_name(file.name + part).unlink(missing_ok=True)
                shutil.copy(copy, file)

            return put_back
        name, server = str(db.url.database), make_url(database_url).set(database="postgres")
        template = f"{name}_copy_{uuid4().hex[:6]}"
        with _connected(server.render_as_string(hide_password=False)) as run:
            run(f"CREATE DATABASE {template} TEMPLATE {name}")

        def put_back_server() -> None:
            db.close()
            with _connected(server.render_as_string(hide_password=False)) as run:
                run(f"DROP DATABASE {name} WITH (FORCE)")
                run(f"CREATE DATABASE {name} TEMPLATE {template}")
                run(f"DROP DATABASE {template}")

        return put_back_server

    return take


@contextmanager
def _connected(url: str) -> Iterator[Callable[[str], None]]:
    engine = create_engine(database.parse_url(url), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield lambda statement: connection.execute(text(statement)).close()
    finally:
        engine.dispose()


Rewind = Callable[[], Callable[[], None]]


def settle_down(harness: PayoutHarness) -> None:
    """Go on as an operator would, until nothing more can be done: send, ask, retry, for two days."""
    for _ in range(8):
        harness.send()
        harness.deliver()
        harness.reconcile()
        harness.retry()
        harness.clock.forward(hours=6)


def test_a_database_restored_from_before_the_run_pays_nobody_twice(harness: PayoutHarness, rewind: Rewind) -> None:
    harness.owe(people(5))
    put_back = rewind()
    harness.send()
    harness.deliver()
    first_ids = ids_sent(harness)
    put_back()
    assert set(harness.statuses().values()) == {"PENDING"}
    assert tuples(harness.send(), harness) == (["UNKNOWN"] * 5, 7)
    assert sorted(ids_sent(harness)) == sorted([*first_ids, *first_ids])
    assert harness.simulator.gateway.ledger()["duplicates_refused"] == 5
    assert len(harness.ledger()) == 5
    harness.reconcile()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    harness.assert_agreed()


def test_a_restored_database_pays_nobody_twice_where_a_request_had_first_not_left(
    harness: PayoutHarness, rewind: Rewind
) -> None:
    """The tries that never left used up no id: the restored database counts none of them, and meets the same one."""
    harness.owe({"ann": ANN})
    put_back = rewind()
    harness.interpose = on_payment(refused)
    for _ in range(2):
        harness.send()
        harness.clock.forward(hours=1)
    harness.interpose = lambda request: None
    harness.send()
    harness.deliver()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert harness.attempt("ann").sends == 3
    put_back()
    assert tuples(harness.send(), harness) == (["UNKNOWN"], 7)
    settle_down(harness)
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert len(harness.ledger()) == 1
    harness.assert_agreed()


@pytest.mark.parametrize("backup", ["before the first", "after the first failed"])
@pytest.mark.parametrize("corrected", [True, False])
def test_a_restored_database_pays_nobody_twice_where_a_second_attempt_had_paid(
    harness: PayoutHarness, rewind: Rewind, backup: str, corrected: bool
) -> None:
    """The first attempt failed, the number was corrected, the second paid; and then all that was forgotten."""
    wrong = "254799000008"
    harness.owe({"ann": wrong})
    put_back = rewind() if backup == "before the first" else None
    harness.send()
    harness.deliver()
    put_back = put_back or rewind()
    harness.set_phone("ann", ANN)
    harness.retry()
    harness.send()
    harness.deliver()
    assert harness.states("ann") == ("COMPLETED", ["FAILED", "SUCCEEDED"])
    put_back()
    harness.send()
    harness.deliver()
    harness.reconcile()
    assert harness.states("ann") == ("FAILED", ["FAILED"])
    if corrected:
        harness.set_phone("ann", ANN)
    settle_down(harness)
    assert len(harness.ledger()) == 1
    assert harness.paid_to(ANN) == 10_000
    assert harness.paid_to(wrong) == 0
    if corrected:
        assert harness.states("ann") == ("COMPLETED", ["FAILED", "SUCCEEDED"])
        harness.assert_agreed()
    else:
        # M-Pesa says that another phone got it: nothing is believed, nothing is sent, a person is called.
        assert harness.states("ann") == ("UNKNOWN", ["FAILED", "UNKNOWN"])
        assert "mismatch" in harness.incidents()
        harness.assert_books()


def test_a_result_for_what_a_restored_database_forgot_is_a_stray_until_the_same_id_is_made_again(
    harness: PayoutHarness, rewind: Rewind
) -> None:
    harness.owe({"ann": ANN})
    put_back = rewind()
    harness.send()
    put_back()
    assert [judged.verdict for judged in harness.deliver()] == ["stray"]
    settle_down(harness)
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    assert len(harness.ledger()) == 1
    harness.assert_agreed()


# --- Many at once --------------------------------------------------------------------------------------------------


def test_three_processes_that_send_at_once_send_each_payout_once(
    db: Database, database_url: str, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    harness = PayoutHarness(db, clock, new_id, actor)
    harness.owe(people(30))
    harnesses = [
        PayoutHarness(database.open_database(database_url), clock, new_id, actor, simulator=harness.simulator)
        for _ in range(3)
    ]
    shelf = MemoryShelf()
    for mine in harnesses:
        mine.daraja = mine.client(shelf=shelf)
    runs: list[Run] = []
    trouble: list[BaseException] = []

    def send(mine: PayoutHarness) -> None:
        try:
            runs.append(mine.send(SendPolicy(rate_per_second=0, concurrency=3)))
        except BaseException as failure:
            trouble.append(failure)

    threads = [threading.Thread(target=send, args=(mine,)) for mine in harnesses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    sent = [one.payout_id for run in runs for one in run.sent]
    assert len(sent) == len(set(sent)) == 30
    assert {str(one.became) for run in runs for one in run.sent} == {"SENT"}
    assert harness.simulator.gateway.ledger()["duplicates_refused"] == 0
    for mine in harnesses:
        mine.deliver()
        mine.db.close()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    harness.assert_agreed()


def test_one_run_records_the_fates_of_many_senders_right(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    """Every second request is dropped after M-Pesa took it, every fifth refused: all by chance, told by the seed."""
    faults = (
        Rule(Fault.SPIKE_ARREST, probability=0.2),
        Rule(Fault.INTERNAL_ERROR_AFTER, probability=0.3),
        Rule(Fault.RESULT_LOST, probability=0.3),
        Rule(Fault.RESULT_TWICE, probability=0.5),
    )
    harness = PayoutHarness(db, clock, new_id, actor, SimulatorSettings(faults=faults, seed=11))
    harness.owe(people(40))
    for _ in range(6):
        harness.send(SendPolicy(rate_per_second=0, concurrency=8))
        harness.deliver()
        harness.clock.forward(hours=1)
    harness.reconcile()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    assert len(harness.ledger()) == 40
    harness.assert_agreed()


def test_a_run_over_real_sockets_is_believed_and_booked_to_the_cent(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    settings = SimulatorSettings(result_delay_seconds=(0.0, 0.05), vary_shapes=True)
    with LoudHarness(db, clock, new_id, actor, settings) as harness:
        harness.owe(people(20), cents=14_250)
        run = harness.send(SendPolicy(rate_per_second=0, concurrency=4))
        assert run.count(PayoutStatus.SENT) == 20
        harness.until(lambda: set(harness.statuses().values()) == {"COMPLETED"})
        harness.assert_agreed()
        assert harness.wallet("user007") == (14_250, 50)


def test_what_is_sent_is_told_and_written_down_with_who_did_it(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "bad": "254799100001"})
    told: list[str] = []
    run = harness.send(on_progress=lambda sent: told.append(f"{sent.user_id} {sent.became}"))
    assert told == ["ann SENT", "bad FAILED"]
    run_report.note_run(harness.context, run, Selection())
    with harness.db.reading() as session:
        [(actor, subject, detail)] = session.execute(
            text("SELECT actor, subject, detail FROM events WHERE action = 'payout.send'")
        )
        calls = session.execute(text("SELECT request, response, outcome FROM exchanges ORDER BY id")).all()
    assert (actor, subject) == ("tester", "all")
    assert json.loads(detail) == {
        "stopped": "done",
        "sent": 1,
        "sent_cents": 10_000,
        "not_sent": 0,
        "failed": 1,
        "unknown": 0,
    }
    assert [outcome.partition(":")[0] for *_, outcome in calls] == ["taken", "refused"]
    whole = "\n".join(f"{request} {response}" for request, response, _ in calls)
    for secret in (
        ANN,
        harness.daraja.account.security_credential,
        harness.links.of_payment(harness.attempt("ann").id).result,
    ):
        assert secret not in whole


def test_a_run_keeps_the_pace_that_it_is_told(harness: PayoutHarness) -> None:
    harness.owe(people(4))
    started = time.monotonic()
    harness.send(SendPolicy(rate_per_second=20, concurrency=4))
    assert time.monotonic() - started >= 3 / 20


def test_a_forged_result_during_the_run_does_not_end_a_payment_that_is_being_sent(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})

    def forge(request: httpx.Request) -> httpx.Response | None:
        attempt = harness.attempt("ann")
        for code in (0, 2040):
            body = harness.result(attempt, code=code, conversation="AG_forged")
            assert harness.post(CallbackKind.RESULT, attempt.id, body) == "waits"
        return None

    harness.interpose = on_payment(forge)
    harness.send()
    assert harness.states("ann") == ("SENT", ["ACCEPTED"])
    assert harness.incidents() == ["mismatch"], "one for each thing and kind, however often"
    harness.deliver()
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED"])
    harness.assert_agreed()


# --- Whose number it is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "why"),
    [
        ("phone = '254711999000'", "has a name or a phone that no act gave"),
        ("seal = NULL", "has a name or a phone that no act gave"),
        ("phone = '254000000000', name = 'erased'", "was erased, and has no number"),
    ],
)
def test_a_number_that_was_edited_in_the_database_or_erased_is_not_paid(
    harness: PayoutHarness, done: str, why: str
) -> None:
    """Whoever may write to one table would be paid what anybody won; an override paid a person who was erased."""
    harness.owe({"ann": ANN, "ben": BEN})
    users.set_phone(harness.context, user_id="ben", phone=CYN)
    with harness.db.transaction() as session:
        was = session.execute(text("SELECT name, phone, seal FROM users WHERE id = 'ann'")).one()
        session.execute(text(f"UPDATE users SET {done} WHERE id = 'ann'"))
    run = harness.send()
    assert ([one.user_id for one in run.sent], run.held) == (["ben"], 1)
    assert harness.statuses() == {"ann": "HELD", "ben": "SENT"}
    note = harness.payout("ann").note or ""
    assert note.startswith(f"ann {why}")
    assert "kasoko payout to-wallet derby.1." in note
    with harness.db.transaction() as session:  # for the audit after each test
        back = text("UPDATE users SET name = :name, phone = :phone, seal = :seal WHERE id = 'ann'")
        session.execute(back, dict(was._mapping))
