"""Claims about a database that was put back to an older copy: it walks through the same ids again."""

from __future__ import annotations

import pytest

from tests.proof.bench import Bench, with_listener
from tests.proof.conftest import MakeBench
from tests.proof.databases import Kind
from tests.proof.finish import finish
from tests.proof.judge import judge, states
from tests.proof.processes import Forker

ANN, OTHER = "254712000001", "254712000002"
#: M-Pesa takes the request, and then it does not know the receiver.
UNREGISTERED = "254799002040"

pytestmark = pytest.mark.parametrize("kind", ["sqlite", "postgres"])


def send(bench: Bench, forker: Forker) -> None:
    bench.run_one(forker, *with_listener(("payout", "--yes")))


def test_what_was_paid_since_the_copy_is_not_paid_again(make_bench: MakeBench, forker: Forker, kind: Kind) -> None:
    bench = make_bench(kind)
    bench.owe({"u1": (ANN, 10_000), "u2": (OTHER, 20_000)})
    bench.kept.copy()
    send(bench, forker)
    assert states(bench) == {"COMPLETED": 2}

    bench.kept.put_back()
    assert states(bench) == {"PENDING": 2}
    send(bench, forker)

    assert states(bench) == {"UNKNOWN": 2}, "M-Pesa refused ids that it knows, which says nothing of the money"
    bench.run_one(forker, "reconcile", "--now", "--listen-seconds", "5")
    assert bench.simulator.ledger()["duplicates_refused"] == 2
    assert states(bench) == {"COMPLETED": 2}
    assert judge(bench, put_back=True).wrong == []


@pytest.mark.exhaustive_on("sqlite")
def test_a_failure_since_the_copy_is_seen_though_the_number_has_changed(
    make_bench: MakeBench, forker: Forker, kind: Kind
) -> None:
    """The id is spent on an instruction to the old number that ended unpaid; the next id goes to the new one.

    If M-Pesa's word on it were not believed, the same id would be sent and refused for ever.
    """
    bench = make_bench(kind)
    bench.owe({"u1": (UNREGISTERED, 10_000)})
    bench.kept.copy()
    send(bench, forker)
    assert states(bench) == {"FAILED": 1}

    bench.kept.put_back()
    bench.set_phone("u1", ANN)
    send(bench, forker)
    assert states(bench) == {"UNKNOWN": 1}
    bench.run_one(forker, "reconcile", "--now", "--listen-seconds", "5")
    assert states(bench) == {"FAILED": 1}
    bench.forward(600)  # before another id may pay M-Pesa has to say so again, some time later
    bench.run_one(forker, "reconcile", "--now", "--listen-seconds", "5")
    bench.run_one(forker, *with_listener(("retry-failed", "--yes")))

    assert judge(bench, put_back=True).wrong == []
    assert [payment.phone for payment in bench.payments()] == [ANN]


@pytest.mark.exhaustive_on("sqlite")
def test_a_payment_since_the_copy_is_found_though_its_number_was_given_later(
    make_bench: MakeBench, forker: Forker, kind: Kind
) -> None:
    """The copy sends the first id to the old number; M-Pesa refuses it and says who was paid: a person decides."""
    bench = make_bench(kind)
    bench.owe({"u1": (ANN, 10_000)})
    bench.kept.copy()
    bench.set_phone("u1", OTHER)
    send(bench, forker)
    assert states(bench) == {"COMPLETED": 1}

    bench.kept.put_back()
    send(bench, forker)
    bench.run_one(forker, "reconcile", "--now", "--listen-seconds", "5")
    assert states(bench) == {"UNKNOWN": 1}, "the receiver differs, so nothing is believed"
    end = finish(bench, forker)

    assert end.by_person == {"CONTRADICTED the receiver differs": 1}
    assert judge(bench, put_back=True).wrong == []
    assert len(bench.payments()) == 1
