"""Schedules that play one kind of act, often: settings, people, statements, strangers, processes that stand still."""

from __future__ import annotations

from random import Random

import pytest

from kasoko_cli.daraja.simulator.script import Fault, Rule
from tests.proof import schedule
from tests.proof.acts import ACTS, OTHERS, Acts
from tests.proof.bench import Bench, Call, quick, with_listener
from tests.proof.conftest import MakeBench
from tests.proof.databases import Kind, Templates
from tests.proof.finish import finish
from tests.proof.judge import believed_wrongly, judge, states
from tests.proof.processes import Forker
from tests.proof.schedule import HastyGateway

ANN = "254712000001"
#: Taken, and expired in the queue: never paid; and the connection breaks, once taken.
EXPIRED, NO_ANSWER = "254799300015", "254799200005"
#: Longer than a token lives, so that the second request of a sender is its payment; and past the lease of 60 s.
TOKEN_SECONDS, LEASE_SECONDS = 3_700, 61
#: A run that is stopped inside a transaction is let go on, and another one is stopped.
MOST_TRIES = 10


def acts_of(bench: Bench, forker: Forker, *may: str, seed: int = 1) -> Acts:
    """Whoever acts on a bench, outside of any schedule."""
    return Acts(bench, forker, Random(seed), lambda _: None, may=may, stops=True, dies=0.0)


@pytest.mark.exhaustive_on("sqlite")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_run_that_is_stopped_past_its_lease_sends_nothing_once_a_person_decided(
    make_bench: MakeBench, forker: Forker, kind: Kind
) -> None:
    """The others go on, and find what it left; somebody sees that it is not in the portal, and has it credited."""
    bench = make_bench(kind)
    acts = acts_of(bench, forker)
    for nth in range(MOST_TRIES):
        bench.owe({f"u{nth}": (ANN, 10_000)}, market=f"m{nth}")
        bench.forward(TOKEN_SECONDS)
        run = Call(("payout", "--yes", "--only", f"m{nth}.1.1"), points="stop:request.before:2")
        acts.after_batch(bench.run(forker, run))
        if bench.stopped:
            break
    assert acts.played["stop"] == 1, "each time it stood inside a transaction, and was let go on"

    bench.forward(LEASE_SECONDS)
    bench.run_one(forker, "reconcile", "--no-listen")
    while states(bench)["WALLET"] == 0:
        acts.decide()
        acts.to_wallet()
    acts.go_on()

    assert states(bench)["WALLET"] == 1
    assert f"m{nth} 1 1" not in {payment.reference for payment in bench.payments()}
    finish(bench, forker)
    assert judge(bench).wrong == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_one_declined_of_a_payment_that_was_made_credits_no_wallet_and_pays_no_second_time(
    make_bench: MakeBench, forker: Forker, kind: Kind
) -> None:
    bench = make_bench(kind, quick(faults=(Rule(Fault.RESULT_LOST), Rule(Fault.STATUS_LIES, first=1))))
    bench.lies, hasty = True, HastyGateway(bench.simulator.settings, bench.clock)
    bench.simulator.gateway = hasty
    bench.owe({"u1": (ANN, 10_000)})
    bench.run_one(forker, "payout", "--yes")
    bench.forward(TOKEN_SECONDS)
    while not hasty.declined:
        bench.run_one(forker, "reconcile", "--now", "--listen-seconds", "2")
    assert len(bench.payments()) == 1

    acts = acts_of(bench, forker)
    acts.to_wallet()
    bench.run_one(forker, "retry-failed", "--yes", "--hours", "9999")
    assert believed_wrongly(bench) == []
    finish(bench, forker)

    assert judge(bench).wrong == []
    assert states(bench) == {"COMPLETED": 1}


@pytest.mark.exhaustive_on("postgres")
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_a_stranger_posts_ends_nothing(make_bench: MakeBench, forker: Forker, kind: Kind) -> None:
    """They were taken and never made, and the stranger knows their ids, amounts and phones."""
    bench = make_bench(kind)
    bench.owe({f"u{nth}": (EXPIRED, 10_000) for nth in range(2)})
    bench.run_one(forker, "payout", "--yes")
    assert states(bench) == {"SENT": 2}
    acts = acts_of(bench, forker)
    for _ in range(4):
        acts.stranger()
        acts.after_batch([bench.run_one(forker, "listen", "--for", "1s")])
    assert acts.played["stranger"]

    assert states(bench).keys() <= {"SENT", "UNKNOWN"}
    assert believed_wrongly(bench) == []
    finish(bench, forker)
    assert judge(bench).wrong == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_statements_of_every_kind_are_taken_in_and_taken_back(
    make_bench: MakeBench, forker: Forker, kind: Kind
) -> None:
    bench = make_bench(kind)
    bench.owe({"u1": (ANN, 10_000), "u2": (NO_ANSWER, 20_000)})
    bench.run_one(forker, *with_listener(("payout", "--yes")))
    acts = acts_of(bench, forker)
    for _ in range(4):
        bench.forward(TOKEN_SECONDS)
        acts.statement()
        acts.undo()
        assert believed_wrongly(bench) == []
    finish(bench, forker)

    assert judge(bench).wrong == []
    assert len(bench.payments()) == 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_another_account_another_outcome_and_two_people_pay_nobody_twice(
    templates: Templates, forker: Forker, kind: Kind
) -> None:
    told = schedule.run(1, kind, templates, forker, acts=("account", "override", "decide"))

    assert told.wrong == [], str(told)
    assert told.played["account"] + told.played["override"], "it was not played, and so nothing is shown of it"


def test_every_act_has_a_name_of_its_own() -> None:
    assert not ACTS.keys() & set(OTHERS)
