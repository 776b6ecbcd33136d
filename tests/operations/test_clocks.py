"""A clock that ran a year ahead for a while: nothing that it wrote keeps anybody waiting, and nothing is paid twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from kasoko_cli.clock import CLOCKS_APART, farthest
from kasoko_cli.daraja.client import Account
from kasoko_cli.daraja.credentials import LONGEST_LIFE, Token
from kasoko_cli.daraja.links import Kind
from kasoko_cli.operations import floats
from kasoko_cli.operations.runs import at_work
from kasoko_cli.operations.sending import pace
from kasoko_cli.operations.tokens import DatabaseShelf
from kasoko_cli.store import alerts
from kasoko_cli.store.tables import Attempt, Payout, Query, RunRow
from tests.conftest import FixedClock
from tests.operations.road import ANN, AT_ONCE, BEN, Road

AHEAD = timedelta(days=365)
NOT_ON_MPESA = "254799002040"


@contextmanager
def running_ahead(clock: FixedClock, by: timedelta = AHEAD) -> Iterator[None]:
    """The machine's clock is wrong, and somebody sets it right afterwards."""
    clock.now += by
    try:
        yield
    finally:
        clock.now -= by


def dies(_: httpx.Request) -> httpx.Response:
    """The process ends in the middle of a request."""
    raise KeyboardInterrupt


def refuses(request: httpx.Request) -> httpx.Response | None:
    """M-Pesa cannot be reached for a payment."""
    if "b2c" in request.url.path:
        raise httpx.ConnectError("no route", request=request)
    return None


# --- Payments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [AHEAD, timedelta(minutes=10)], ids=["a year", "ten minutes"])
def test_a_lease_of_a_clock_that_ran_ahead_is_over_and_makes_unknown(road: Road, by: timedelta) -> None:
    road.owe({"ann": ANN})
    with running_ahead(road.clock, by):
        road.daraja.check_account()  # its token is another matter
        road.interpose = dies
        with pytest.raises(KeyboardInterrupt):
            road.send()
    assert road.states("ann") == ("SENDING", ["INTENT"])
    road.interpose = lambda _: None
    assert road.send().reaped == 1
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"]), "never PENDING: the request may have left"
    assert road.ledger() == []


def test_a_lease_that_is_longer_than_any_can_be_is_over(road: Road) -> None:
    road.owe({"ann": ANN})
    road.interpose = dies
    with pytest.raises(KeyboardInterrupt):
        road.send()
    with road.db.transaction() as session:
        session.execute(update(Attempt).values(lease_until=road.clock() + AHEAD))
    road.interpose = lambda _: None
    assert road.send().reaped == 1
    assert road.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_the_lease_of_a_host_that_is_a_little_ahead_is_its_own(road: Road) -> None:
    road.owe({"ann": ANN})
    with running_ahead(road.clock, CLOCKS_APART):
        road.interpose = dies
        with pytest.raises(KeyboardInterrupt):
            road.send()
    road.interpose = lambda _: None
    assert road.send().reaped == 0
    assert road.states("ann") == ("SENDING", ["INTENT"])


def test_what_was_put_off_by_a_clock_that_ran_ahead_is_due(road: Road) -> None:
    road.owe({"ann": ANN, "ben": BEN})
    with running_ahead(road.clock):
        road.interpose = refuses
        road.send()
    road.interpose = lambda _: None
    assert set(road.statuses().values()) == {"PENDING"}
    assert len(road.send().sent) == 2
    road.deliver()
    assert road.paid_to(ANN) == road.paid_to(BEN) == 10_000


def test_what_is_put_off_until_tomorrow_is_not_due_today(road: Road) -> None:
    road.owe({"ann": ANN})
    with road.db.transaction() as session:
        session.execute(update(Payout).values(not_before=road.clock() + timedelta(days=1)))
    assert road.send().left == 1
    assert road.ledger() == []


def test_what_a_clock_that_ran_ahead_sent_is_not_of_every_day_until_then(road: Road) -> None:
    policy = replace(AT_ONCE, daily_cents=10_000)
    road.owe({"ann": ANN})
    with running_ahead(road.clock):
        road.send(policy)
        road.deliver()
    road.clock.forward(days=1)
    road.owe({"ann": ANN}, market="second")
    assert len(road.send(policy).sent) == 1
    road.deliver()
    assert road.paid_to(ANN) == 20_000


def test_what_a_clock_that_ran_ahead_sent_is_asked_about_now_and_then_on_the_ladder(road: Road) -> None:
    road.owe({"ann": ANN})
    with running_ahead(road.clock):
        road.send()
    road.posts.clear()
    assert len(road.reconcile(at_once=False, deliver=False).asked) == 1
    assert road.reconcile(at_once=False, deliver=False).asked == []
    road.clock.forward(3_600)
    assert len(road.reconcile(at_once=False).asked) == 1
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED"])


def test_a_failure_that_a_clock_that_ran_ahead_wrote_down_can_be_confirmed(road: Road) -> None:
    road.owe({"ben": NOT_ON_MPESA})
    road.send()
    with running_ahead(road.clock):
        road.deliver()
    road.set_phone("ben", BEN)
    assert road.retry(confirm_above_cents=1).retried == []
    road.clock.forward(60)
    road.reconcile(confirm_above_cents=1)
    road.clock.forward(3_600)
    road.reconcile(confirm_above_cents=1)
    assert len(road.retry(confirm_above_cents=1).retried) == 1


def test_a_question_of_a_clock_that_ran_ahead_confirms_no_later_failure_and_does_not_hide_newer_ones(
    road: Road,
) -> None:
    road.owe({"ben": NOT_ON_MPESA})
    road.send()
    attempt = road.attempt("ben")
    road.note_answer(attempt.id, "NOT_FOUND", road.clock() + AHEAD, asked_by=attempt.account_id)
    road.clock.forward(60)
    road.deliver()
    road.clock.forward(60)
    road.reconcile(confirm_above_cents=1, deliver=False)
    assert max(one.asked_at for one in road.queries()) == road.clock()
    assert min(one.asked_at for one in road.queries()) < attempt.sent_at


def test_an_answer_to_a_question_of_a_clock_that_ran_ahead_waits_no_longer(road: Road) -> None:
    road.owe({"ann": ANN})
    road.send()
    attempt = road.attempt("ann")
    with road.db.transaction() as session:
        asked_at = road.clock() + AHEAD
        session.add(Query(id="kq-1", kind="STATUS", attempt_id=attempt.id, asked_at=asked_at))
        session.add(Query(id="kq-2", kind="BALANCE", asked_at=asked_at))
    assert road.post(Kind.STATUS, "kq-1", b"{}") != "waits"
    assert road.post(Kind.BALANCE, "kq-2", b"{}") != "waits"


def test_a_balance_of_a_clock_that_ran_ahead_is_overtaken(road: Road) -> None:
    road.owe({"ann": ANN})
    with running_ahead(road.clock):
        road.send()
        road.deliver()
        with road.db.reading() as session:
            assert floats.last_known(session, road.clock()) is not None
    with road.db.reading() as session:
        assert floats.last_known(session, road.clock()) is None
    road.owe({"ben": BEN}, market="second")
    road.send()
    road.deliver()
    with road.db.reading() as session:
        known = floats.last_known(session, road.clock())
        assert known is not None
        assert known.as_of <= farthest(road.clock())


# --- Claims -------------------------------------------------------------------------------------------------------


def test_a_claim_on_the_token_of_a_clock_that_ran_ahead_is_over(road: Road) -> None:
    account = Account("https://daraja.example.org", "key", "secret", "600000", "api", "sealed")
    shelves = [DatabaseShelf(road.db, road.clock, account, name) for name in ("alpha", "beta")]
    with running_ahead(road.clock):
        assert shelves[0].claim_refresh(None)
    assert shelves[1].claim_refresh(None)
    assert not shelves[0].claim_refresh(None), "it is beta's now"


def test_a_token_of_a_clock_that_ran_ahead_is_neither_fresh_nor_alive(clock: FixedClock) -> None:
    now = clock()
    for token in (
        Token("t", fetched_at=now + AHEAD, expires_at=now + AHEAD + LONGEST_LIFE),
        Token("t", fetched_at=now - LONGEST_LIFE, expires_at=now + AHEAD),
    ):
        assert (token.is_fresh(now), token.is_alive(now)) == (False, False)


def test_a_pace_that_a_clock_that_ran_ahead_has_slowed_rises_and_can_be_slowed_again(road: Road) -> None:
    with running_ahead(road.clock), road.db.transaction() as session:
        assert pace.slow_down(session, "app", 10, now=road.clock())
    with road.db.transaction() as session:
        assert pace.slow_down(session, "app", 10, now=road.clock())
    road.clock.forward(3_600)
    with road.db.transaction() as session:
        pace.take(session, "app", 1, 10, now=road.clock())
        assert pace.take(session, "app", 2, 10, now=road.clock()) == pytest.approx([0.1, 0.2])
    with running_ahead(road.clock), road.db.transaction() as session:
        pace.slow_down(session, "app", 10, now=road.clock())
    with road.db.transaction() as session:
        pace.take(session, "app", 1, 10, now=road.clock())
    road.clock.forward(3_600)
    with road.db.transaction() as session:
        assert pace.take(session, "app", 2, 10, now=road.clock()) == pytest.approx([0, 0.1])


def test_a_run_that_was_heard_of_by_a_clock_that_ran_ahead_is_dead(road: Road) -> None:
    then = road.clock() + AHEAD
    row = RunRow(
        id="old",
        command="payout",
        is_alone=True,
        host="alpha",
        pid=os.getpid(),
        actor="ann",
        started_at=then,
        heartbeat_at=then,
        doing="sending",
    )
    with road.db.transaction() as session:
        session.add(row)
    with at_work(road.db, road.clock, road.new_id, road.act, command="payout", host="alpha"):
        pass
    with road.db.reading() as session:
        assert session.exec(select(RunRow.doing).where(col(RunRow.id) == "old")).one() == "died"


def test_a_claim_to_tell_people_of_a_clock_that_ran_ahead_is_over(road: Road) -> None:
    def claim() -> bool:
        now = road.clock()
        with road.db.transaction() as session:
            return alerts.claim(session, "k", mark="1", what="it", now=now, until=now + alerts.LONGEST_CLAIM)

    with running_ahead(road.clock):
        assert claim()
    assert claim()
    assert not claim()


# --- The measure ----------------------------------------------------------------------------------------------------


def test_what_can_be_is_as_far_ahead_as_it_was_stored_and_what_two_clocks_may_differ(clock: FixedClock) -> None:
    assert farthest(clock()) == clock() + CLOCKS_APART
    assert farthest(clock(), timedelta(hours=1)) == clock() + timedelta(hours=1) + CLOCKS_APART
