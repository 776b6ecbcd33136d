"""The machine's rarer ways, each walked once and in the order that hurts: what random search meets too seldom.

The acts are the world's own, and so is the judge: it is asked after each step, and at the end all must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kasoko_cli.daraja.simulator.app import Fault
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.operations.payouts import manual_decision
from tests.model.houses import SqliteHouse
from tests.model.sheets import RECEIVERS, Export
from tests.model.world import DAY_SECONDS, LIES, SETTINGS, Deal, World, in_old_words, with_faults

OURS, OTHERS, SAME_ELSEWHERE = SETTINGS
#: Paid, and neither the answer nor the result comes.
LOST = with_faults(Fault.DROP_AFTER, Fault.RESULT_LOST)
#: Never taken, and nobody here can tell.
SWALLOWED = with_faults(Fault.NO_ANSWER_BEFORE)


@pytest.fixture
def world(sqlite_template: Path, tmp_path: Path) -> Iterator[World]:
    """A world in a file: what differs on a server is the machine's to find."""
    built = World(SqliteHouse(sqlite_template, tmp_path))
    try:
        yield built
    finally:
        built.close()


def states(world: World) -> Mapping[str, str]:
    """How each payout stands; every invariant holds."""
    world.check()
    return {payout.id: str(payout.status) for payout in world.payouts()}


def ask_for_days(world: World) -> None:
    """As long as it takes until silence counts."""
    for _ in range(4):
        world.clock.forward(DAY_SECONDS)
        world.ask()
        world.deliver(world.take_mail())


def test_another_account_neither_pays_nor_is_asked_while_payments_are_open(world: World) -> None:
    world.place(0)
    world.send([LOST, LOST])
    for setting in (OTHERS, SAME_ELSEWHERE):
        world.set_to(setting)
        world.send()
        ask_for_days(world)
        world.retry()
        assert set(states(world).values()) == {"UNKNOWN"}
    world.try_real_money()
    assert world.tally.counts["send: Refused"] == 3
    assert world.banks[1].gateway.ledger()["requests"] == 0
    world.set_to(OURS)
    world.ask()
    world.deliver(world.take_mail())
    assert states(world) == {"m0.1.1": "COMPLETED", "m0.1.2": "FAILED"}
    world.calm_down()


def test_what_a_stopped_sender_holds_does_not_leave_once_two_people_have_ruled(world: World) -> None:
    world.place(0)
    world.send([Deal(stands=("lease runs out", "reconcile", "decide", "retry"))], limit=1)
    assert world.tally.counts["decided"] == 1
    assert world.payments() == []
    states(world)
    world.calm_down()


def test_one_declined_opens_no_second_payment(world: World) -> None:
    """M-Pesa denies once what it paid: neither a retry nor a wallet before it has said so again."""
    world.place(0)
    world.send([with_faults(Fault.RESULT_LOST)], limit=1)
    [payout] = [one for one in world.payouts() if world.attempts_of(one.id)]
    world.ask([with_faults(*LIES)])
    world.deliver(world.take_mail())
    assert states(world)[payout.id] == "FAILED"
    assert [left.payout_id for left in world.retry()] == [payout.id]
    world.act_on(manual_decision.to_wallet, payout, frozenset())
    world.clock.forward(DAY_SECONDS)
    world.send()
    assert len(world.attempts_of(payout.id)) == 1
    world.ask()
    world.deliver(world.take_mail())
    assert states(world)[payout.id] == "COMPLETED"
    world.calm_down()


def test_many_are_decided_as_they_were_shown_or_not_at_all(world: World) -> None:
    """What was posted arrives between the list and the second person: the list is another one, and nothing ends."""
    world.place(0)
    world.send([SWALLOWED, with_faults(Fault.TIMEOUT_THEN_RESULT)])
    [notice] = [one for one in world.mail if "/b2c-timeout/" in one.url]
    world.deliver([notice])
    assert set(states(world).values()) == {"UNKNOWN"}
    world.decide_all_truly(is_stale=True)
    assert "decided in bulk" not in world.tally.counts
    assert states(world) == {"m0.1.1": "UNKNOWN", "m0.1.2": "FAILED"}
    world.place(1)
    world.clock.forward(DAY_SECONDS)
    world.send([LOST])  # and this one the portal shows
    world.decide_all_truly()
    assert world.tally.counts["decided in bulk"] == 1
    assert states(world)["m0.1.1"] == "FAILED"
    world.calm_down()


def test_results_and_answers_in_their_older_words_are_read(world: World) -> None:
    world.place(0)
    world.send([with_faults(Fault.RESULT_LOST), with_faults(Fault.RESULT_LOST)])
    world.ask()
    mail = [replace(notice, body=in_old_words(notice.body)) for notice in world.take_mail()]
    assert [b"N\xc9" in notice.body or b"r Conversation ID" in notice.body for notice in mail].count(True) >= 2
    world.deliver(mail)
    assert states(world) == {"m0.1.1": "COMPLETED", "m0.1.2": "FAILED"}
    world.calm_down()


# --- Statements -------------------------------------------------------------------------------------------------------


def swallowed(world: World) -> str:
    """A payment that wanders; M-Pesa, asked for days, has no trace of it. Says which payout."""
    world.place(0)
    world.send([Deal(wire="wanders")], limit=1)
    [attempt] = world.attempts()
    ask_for_days(world)
    world.clock.forward(hours=2)
    assert states(world)[attempt.payout_id] == "UNKNOWN"
    return attempt.payout_id


def test_silence_counts_until_it_is_taken_back_and_never_for_another_account(world: World) -> None:
    """The request was on its way for days; no other M-Pesa knows its id."""
    payout_id = swallowed(world)
    for _ in range(2):
        world.take_statement(Export())
        assert states(world)[payout_id] == "FAILED"
        world.undo_statement(0)
        assert states(world)[payout_id] == "UNKNOWN"
    world.take_statement(Export())
    for setting in (OTHERS, SAME_ELSEWHERE):
        world.set_to(setting)
        world.retry()
        world.send()
        world.deliver(world.take_mail())
        assert len(world.attempts_of(payout_id)) == 1
    world.arrive(0)
    states(world)
    world.set_to(OURS)
    world.calm_down()
    assert len(world.attempts_of(payout_id)) == 1


def test_a_statement_that_does_not_show_the_time_ends_nothing(world: World) -> None:
    """Another account's, one of the same day that says next week, one that lags, and one that begins too late."""
    payout_id = swallowed(world)
    for export in (
        Export(bank=1),
        Export(hours_old=96, hours_ahead=7 * 24),
        Export(hours_old=2, hours_ahead=7 * 24, lags=True),
        Export(hours_long=72),
    ):
        world.take_statement(export)
        assert states(world)[payout_id] == "UNKNOWN", export
    assert world.tally.counts["statement: refused"] == 1
    world.arrive(0)
    world.calm_down()


def test_what_is_on_the_statement_in_any_spelling_is_not_ended_by_silence(world: World) -> None:
    """M-Pesa's answers lag behind: it says for days that it has no trace of what it paid."""
    world.place(0)
    world.send([LOST], limit=1)
    [attempt] = world.attempts()
    for _ in range(4):
        world.clock.forward(DAY_SECONDS)
        world.ask([with_faults(Fault.STATUS_LAGS)])
        world.deliver(world.take_mail())
    world.clock.forward(hours=2)
    for receiver in reversed(range(len(RECEIVERS))):
        world.take_statement(Export(receiver=receiver, reason=receiver))
        assert states(world)[attempt.payout_id] in ("UNKNOWN", "COMPLETED")
    assert states(world)[attempt.payout_id] == "COMPLETED"
    world.calm_down()


# --- What is owed anew ------------------------------------------------------------------------------------------------


def test_what_comes_back_is_sent_again_once_and_another_outcome_pays_nobody_twice(world: World) -> None:
    world.place(0)
    world.send()
    world.deliver(world.take_mail())
    [paid] = [one for one in world.payouts() if one.status is PayoutStatus.COMPLETED]
    world.send_again(paid)
    world.money_comes_back(paid)
    world.take_statement(Export())
    assert states(world)[paid.id] == "RETURNED"
    for _ in range(2):
        world.send_again(world.payouts()[0])
        world.change_outcome("m0")
        world.clock.forward(DAY_SECONDS)
        world.send()
        world.deliver(world.take_mail())
        states(world)
    world.place(1)
    world.change_outcome("m1")
    world.change_outcome("m1")
    world.clock.forward(hours=2)
    world.take_statement(Export(reason=1))
    states(world)
    world.calm_down()
    assert len([one for one in world.payments() if one["reference"].startswith("m0 ")]) == 3
