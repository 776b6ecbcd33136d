"""The power is cut at every named point there is: before and after each commit, each request and each answer.

The check kills around the payment: at its request, at its answer, and at the commits before and after them. Its
exhaustive part kills everywhere: for each point the command is run again and again, each time on a payout of its
own, and killed at the first, second, third ... time that the point is reached, until it comes to its end unharmed.
So no point is left out, and none has to be counted beforehand. Then the power stays on, and the judge looks at all
of them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kasoko_cli.kill_points import COMMIT_AFTER, COMMIT_BEFORE, POINTS, REQUEST_AFTER, REQUEST_BEFORE
from tests.proof.bench import Bench, Call, quick, with_listener
from tests.proof.conftest import MakeBench
from tests.proof.databases import Kind
from tests.proof.finish import finish
from tests.proof.judge import judge, states
from tests.proof.processes import Exec, Forker

#: No command here reaches one point more often than this.
MOST = 40
#: Longer than a token lives, so that each process has to fetch one, as the first of a day does.
TOKEN_SECONDS = 3_700

ANN = "254712000001"
#: The connection breaks, once taken; and taken, and then not known as a receiver.
NO_ANSWER, UNREGISTERED = "254799200005", "254799002040"

#: How many processes it takes to kill around the payment: one to see where that is, and one for each point.
AROUND = 7
#: A listener hears everything long before; only one that hangs would listen for so long.
LISTENS_SECONDS = 200

everywhere = pytest.mark.parametrize(
    "everywhere", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["around the payment", "everywhere"]
)
both_databases = pytest.mark.parametrize("kind", ["sqlite", "postgres"])


def kill_at_each(bench: Bench, forker: Forker, calls: Iterator[Sequence[tuple[str, ...]]]) -> Counter[str]:
    """Kill the first command of each batch at each point in turn; how often, by point."""
    killed: Counter[str] = Counter()
    for name in POINTS:
        for number in range(1, MOST):
            victim, *others = next(calls)
            bench.forward(TOKEN_SECONDS)
            ended = bench.run(forker, Call(victim, points=f"kill:{name}:{number}"), *map(Call, others))
            if not ended[0].killed:
                break
            killed[name] += 1
        else:
            raise AssertionError(f"{victim} reaches {name} without end")
    return killed


def kill_around_the_payment(bench: Bench, forker: Forker, calls: Iterator[Sequence[tuple[str, ...]]]) -> Counter[str]:
    """Kill it at its last request, at the answer, and at the commits before and after; how often, by point."""
    killed: Counter[str] = Counter()
    log = bench.folder / "points"
    bench.forward(TOKEN_SECONDS)
    bench.run(forker, *(Call(words, points=f"log:{log}" if not nth else "") for nth, words in enumerate(next(calls))))
    reached = log.read_text().split()
    request = max(at for at, point in enumerate(reached) if point.startswith(REQUEST_BEFORE))
    for point in reached[request - 2 : request + 4]:
        victim, *others = next(calls)
        bench.forward(TOKEN_SECONDS)
        ended = bench.run(forker, Call(victim, points=f"kill:{point}"), *map(Call, others))
        assert ended[0].killed, (point, reached)
        killed[point.partition(":")[0]] += 1
    assert killed == {COMMIT_BEFORE: 2, COMMIT_AFTER: 2, REQUEST_BEFORE: 1, REQUEST_AFTER: 1}, reached
    return killed


def all_is_well(bench: Bench, forker: Forker) -> None:
    """Everybody is paid once in the end, and the ids were never needed to hold a second payment back."""
    end = finish(bench, forker)
    assert judge(bench).wrong == [], end
    assert all(reason.startswith("NOT_FOUND") for reason in end.by_person), end


def payouts_of(bench: Bench, phone: str, count: int) -> list[str]:
    """So many payouts of one market; their ids."""
    bench.owe({f"u{number}": (phone, 10_000) for number in range(count)})
    return [f"derby.1.{number + 1}" for number in range(count)]


def markets_of(bench: Bench, phone: str, count: int) -> list[str]:
    """So many markets, each of which owes one payout."""
    for number in range(count):
        bench.owe({f"u{number}": (phone, 10_000)}, market=f"m{number}")
    return [f"m{number}" for number in range(count)]


@both_databases
@pytest.mark.parametrize(
    ("winners", "listens", "everywhere"),
    [
        pytest.param(1, False, False, id="one winner, around the payment"),
        pytest.param(1, False, True, id="one winner", marks=pytest.mark.exhaustive),
        pytest.param(2, True, True, id="two winners, and it listens", marks=pytest.mark.exhaustive),
    ],
)
def test_a_payout_run_may_die_at_any_point(
    make_bench: MakeBench, forker: Forker, kind: Kind, winners: int, listens: bool, everywhere: bool
) -> None:
    bench = make_bench(kind)
    ids = iter(payouts_of(bench, ANN, winners * (48 if everywhere else AROUND)))

    def calls() -> Iterator[Sequence[tuple[str, ...]]]:
        while True:
            only = itertools.chain.from_iterable(("--only", next(ids)) for _ in range(winners))
            words = ("payout", "--yes", *only)
            yield [with_listener(words) if listens else words]

    if everywhere:
        killed = kill_at_each(bench, forker, calls())
        assert killed[REQUEST_BEFORE] == killed[REQUEST_AFTER] == 1 + winners, "the token, and each payment"
        assert killed[COMMIT_BEFORE] >= 6
        assert killed[COMMIT_AFTER] >= 6
    else:
        kill_around_the_payment(bench, forker, calls())
    all_is_well(bench, forker)


@pytest.mark.exhaustive_on("postgres")
@both_databases
@everywhere
def test_a_retry_may_die_at_any_point(make_bench: MakeBench, forker: Forker, kind: Kind, everywhere: bool) -> None:
    bench = make_bench(kind)
    markets = markets_of(bench, UNREGISTERED, 36 if everywhere else AROUND)
    bench.run_one(forker, *with_listener(("payout", "--yes"), LISTENS_SECONDS))
    assert states(bench) == {"FAILED": len(markets)}
    for number in range(len(markets)):
        bench.set_phone(f"u{number}", ANN)
    calls = ([("retry-failed", "--yes", "--hours", "9999", "--market", market)] for market in markets)

    if everywhere:
        killed = kill_at_each(bench, forker, calls)
        assert killed[REQUEST_BEFORE] == killed[REQUEST_AFTER] == 2, "the token and the payment"
        assert killed[COMMIT_AFTER] >= 7
    else:
        kill_around_the_payment(bench, forker, calls)
    all_is_well(bench, forker)


@pytest.mark.exhaustive_on("postgres")
@both_databases
@everywhere
def test_asking_may_die_at_any_point(make_bench: MakeBench, forker: Forker, kind: Kind, everywhere: bool) -> None:
    bench = make_bench(kind)
    markets = markets_of(bench, NO_ANSWER, 38 if everywhere else AROUND)
    for paid in range(len(markets)):  # as in an outage: each run stops after a few without an answer
        if len(bench.payments()) > paid:
            continue
        bench.run_one(forker, "payout", "--yes")
    assert len(bench.payments()) == len(markets)
    calls = ([("reconcile", market, "--now", "--listen-seconds", "5")] for market in markets)

    if everywhere:
        killed = kill_at_each(bench, forker, calls)
        assert killed[REQUEST_BEFORE] == killed[REQUEST_AFTER] == 2, "the token and the question"
        assert killed[COMMIT_AFTER] >= 5
    else:
        kill_around_the_payment(bench, forker, calls)
    all_is_well(bench, forker)
    assert bench.simulator.ledger()["duplicates_refused"] == 0


@pytest.mark.exhaustive
@both_databases
def test_taking_a_result_may_die_at_any_point(make_bench: MakeBench, forker: Forker, kind: Kind) -> None:
    """The result comes late enough that the listener is there, and only once."""
    bench = make_bench(kind, quick(result_delay_seconds=(2.0, 2.0)))
    ids = payouts_of(bench, ANN, 16)

    killed = kill_at_each(
        bench,
        forker,
        ([("listen", "--for", "60s", "--count", "1"), ("payout", "--yes", "--only", payout)] for payout in ids),
    )

    assert killed[COMMIT_BEFORE] >= 2, "the result is stored, and it is applied"
    assert killed[COMMIT_AFTER] >= 1
    assert not killed[REQUEST_BEFORE], "a listener asks nobody"
    all_is_well(bench, forker)
    assert bench.simulator.ledger()["duplicates_refused"] == 0


@pytest.mark.exhaustive
def test_the_true_program_may_die_at_any_point(make_bench: MakeBench, forker: Forker, tmp_path: Path) -> None:
    """Started by exec, as an operator would; the points are those that a run reaches once there is a token."""
    bench, hands = make_bench("sqlite"), Exec()
    ids = iter(payouts_of(bench, ANN, 20))

    def payout(points: str) -> Call:
        return Call(("payout", "--yes", "--only", next(ids)), points=points)

    log = tmp_path / "points"
    bench.run(hands, payout(""))
    bench.run(hands, payout(f"log:{log}"))
    points = log.read_text().split()
    assert {point.partition(":")[0] for point in points} == set(POINTS)

    for four in (points[start : start + 4] for start in range(0, len(points), 4)):
        ended = bench.run(hands, *(payout(f"kill:{point}") for point in four))
        assert [one.code for one in ended] == [-9] * len(four), list(zip(four, ended, strict=True))
    all_is_well(bench, forker)
