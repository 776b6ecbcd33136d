"""Claims about two and three processes that are let go at once on one payout."""

from __future__ import annotations

import pytest

from tests.proof.bench import Bench, Call, with_listener
from tests.proof.conftest import MakeBench
from tests.proof.databases import Kind
from tests.proof.finish import finish
from tests.proof.judge import judge, states
from tests.proof.processes import Forker

#: How often they race: here a few times, and in the exhaustive part until each has been first in every way.
FEW, MANY = 3, 10
#: A listener hears everything long before; only one that hangs would listen for so long.
LISTENS_SECONDS = 200
ANN = "254712000001"
#: M-Pesa takes it, and then does not know the receiver.
UNREGISTERED = "254799002040"

pytestmark = [
    pytest.mark.parametrize("kind", ["sqlite", "postgres"]),
    pytest.mark.parametrize("rounds", [FEW, pytest.param(MANY, marks=pytest.mark.exhaustive)]),
]


def owe_many(bench: Bench, count: int) -> list[str]:
    """So many payouts to healthy numbers; their ids."""
    bench.owe({f"u{number}": (f"254712000{number:03d}", 10_000) for number in range(count)})
    return [f"derby.1.{number + 1}" for number in range(count)]


def race(bench: Bench, forker: Forker, *commands: tuple[str, ...]) -> None:
    """Let them go at once; none of them may come out with a bug."""
    bench.run(forker, *map(Call, commands))
    assert bench.troubles == []


def the_end(bench: Bench, forker: Forker, payments: int) -> None:
    """Each was paid once, and M-Pesa never had to save us by refusing an id."""
    finish(bench, forker)
    assert judge(bench).wrong == []
    assert len(bench.payments()) == payments
    assert bench.simulator.ledger()["duplicates_refused"] == 0


@pytest.mark.exhaustive_on("sqlite")
@pytest.mark.parametrize("racers", [2, 3])
def test_payouts_at_once_send_one_payment(
    make_bench: MakeBench, forker: Forker, kind: Kind, rounds: int, racers: int
) -> None:
    bench = make_bench(kind)
    due = owe_many(bench, rounds * 4 // racers)
    for number, payout in enumerate(due, start=1):
        race(bench, forker, *[("payout", "--yes", "--only", payout)] * racers)
        assert len(bench.payments()) == number
    the_end(bench, forker, len(due))


@pytest.mark.exhaustive_on("sqlite")
@pytest.mark.parametrize("crons", ["retry retry", "retry retry payout", "payout retry"])
def test_retries_at_once_send_one_payment(
    make_bench: MakeBench, forker: Forker, kind: Kind, rounds: int, crons: str
) -> None:
    """Each market owes one payout, which failed for a number that has been corrected since."""
    bench = make_bench(kind)
    markets = [f"m{number}" for number in range(rounds)]
    for number, market in enumerate(markets):
        bench.owe({f"u{number}": (UNREGISTERED, 10_000)}, market=market)
    bench.run_one(forker, *with_listener(("payout", "--yes"), LISTENS_SECONDS))
    assert states(bench) == {"FAILED": rounds}
    for number, market in enumerate(markets, start=1):
        bench.set_phone(f"u{number - 1}", ANN)
        commands = {"retry": ("retry-failed", "--yes", "--market", market), "payout": ("payout", "--yes", market)}
        race(bench, forker, *(commands[cron] for cron in crons.split()))
        assert len(bench.payments()) == number
    the_end(bench, forker, rounds)


def test_asking_while_it_is_sent_disturbs_nothing(
    make_bench: MakeBench, forker: Forker, kind: Kind, rounds: int
) -> None:
    """The answer may overtake the acknowledgement, and a status query may find what is not recorded yet."""
    bench = make_bench(kind)
    for payout in owe_many(bench, rounds):
        race(bench, forker, ("payout", "--yes", "--only", payout), ("reconcile", "--now", "--listen-seconds", "1"))
    the_end(bench, forker, rounds)


@pytest.mark.exhaustive_on("sqlite")
def test_two_askers_and_a_listener_at_once_believe_the_same(
    make_bench: MakeBench, forker: Forker, kind: Kind, rounds: int
) -> None:
    """The sender died after M-Pesa had paid; its result was posted to nobody."""
    bench = make_bench(kind)
    for payout in owe_many(bench, rounds):
        bench.run_one(forker, "payout", "--yes", "--only", payout, points="kill:request.after:2")
        bench.forward(100)
        race(
            bench,
            forker,
            ("listen", "--for", "1s"),
            ("reconcile", "--now", "--no-listen"),
            ("reconcile", "--no-listen"),
        )
    the_end(bench, forker, rounds)
