"""A sender that died with its lease: whoever comes after it marks what it left as unknown, and sends none of it.

The schedules need luck to die between the commit of an intent and that of its answer, to be found by a run and not by
an asker, and to have been paid: here each of it is made to happen. M-Pesa refuses an id that it has taken, so a reaper
that sends again is not seen in what moved, but in what M-Pesa had to refuse.
"""

from __future__ import annotations

import itertools

import pytest

from tests.proof.bench import Bench
from tests.proof.conftest import MakeBench
from tests.proof.databases import Kind
from tests.proof.finish import finish
from tests.proof.judge import believed_wrongly, judge, states
from tests.proof.processes import Forker

ANN = "254712000001"
#: Longer than a token lives, so that the second request of each sender is its payment; and past the lease of 60 s.
TOKEN_SECONDS, LEASE_SECONDS = 3_700, 61
#: Whoever may find what a dead sender left.
FINDERS = (("payout", "--yes"), ("retry-failed", "--yes", "--hours", "9999"), ("reconcile", "--no-listen"))

pytestmark = pytest.mark.parametrize("kind", ["sqlite", "postgres"])


def all_look(bench: Bench, forker: Forker, first: int) -> None:
    """Everybody who may find it comes by, each after the other."""
    for words in itertools.islice(itertools.cycle(FINDERS), first, first + len(FINDERS)):
        bench.run_one(forker, *words)


@pytest.mark.exhaustive_on("sqlite")
@pytest.mark.parametrize(
    ("point", "paid"),
    [pytest.param("kill:request.before:2", 0, id="unsent"), pytest.param("kill:request.after:2", 1, id="paid")],
)
def test_what_a_dead_sender_left_is_asked_about_and_never_sent_by_whoever_finds_it(
    make_bench: MakeBench, forker: Forker, kind: Kind, point: str, paid: int
) -> None:
    bench = make_bench(kind)
    for number in range(len(FINDERS)):
        bench.owe({f"u{number}": (ANN, 10_000)}, market=f"m{number}")
        bench.forward(TOKEN_SECONDS)
        assert bench.run_one(forker, "payout", "--yes", "--only", f"m{number}.1.1", points=point).killed
        assert len(bench.payments()) == paid * (number + 1)

        all_look(bench, forker, number)
        assert states(bench)["SENDING"] == 1, "its lease still runs: it may be at work"
        bench.forward(LEASE_SECONDS)
        all_look(bench, forker, number)
        assert states(bench) == {"UNKNOWN": number + 1}
        assert len(bench.payments()) == paid * (number + 1)
        assert believed_wrongly(bench) == []
        assert bench.simulator.ledger()["duplicates_refused"] == 0, "M-Pesa had to save us"

    finish(bench, forker)
    assert judge(bench).wrong == []
    assert len(bench.payments()) == len(FINDERS)
    assert bench.simulator.ledger()["duplicates_refused"] == 0
