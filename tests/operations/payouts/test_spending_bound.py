"""A run that is bound to what was shown: those payouts, amounts and phones, and never a cent more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text

from kasoko_cli.domain.payout import PayoutKind
from kasoko_cli.errors import Refused
from kasoko_cli.operations.payouts import manual_decision, sending
from kasoko_cli.operations.payouts import spending_bound as bounds
from kasoko_cli.operations.payouts.dispatcher import SendOrder
from kasoko_cli.operations.payouts.run import Selection, SendPolicy, Stop
from kasoko_cli.operations.payouts.spending_bound import Bound, Step, show
from kasoko_cli.operations.shared.watching import Hooks
from kasoko_cli.store import payouts
from kasoko_cli.store.engine import locking
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.payouts import DuePayout, ShownPayout
from tests.operations.payout_harness import ANN, AT_ONCE, BEN, CYN, PayoutHarness
from tests.operations.payouts.test_sending import ids_sent, on_payment, people, refused


def shown(
    harness: PayoutHarness,
    *,
    market: str | None = None,
    only: Sequence[str] = (),
    limit: int | None = None,
    **more: Any,
) -> Bound:
    return show(harness.db, harness.clock(), Selection(market, only, limit), **more)


def send(
    harness: PayoutHarness,
    bound: Bound,
    policy: SendPolicy = AT_ONCE,
    *,
    limit: int | None = None,
    stay: bool = False,
    **hooks: Any,
) -> Any:
    order = SendOrder(policy, harness.trust, Selection(limit=limit), bound, stay=stay)
    return sending.send_due(harness.context, harness.gateway, order, Hooks(**hooks))


def due(payout_id: str, wire_cents: int, user: str = "ann") -> DuePayout:
    return DuePayout(payout_id, "m", 1, user, PayoutKind.PAYOUT, 1, wire_cents)


@pytest.mark.parametrize(
    ("wire_cents", "phone", "is_taken"),
    [(10_000, ANN, True), (10_100, ANN, False), (10_000, BEN, False)],
    ids=["as shown", "another amount", "another phone"],
)
def test_only_what_was_shown_is_taken(wire_cents: int, phone: str, is_taken: bool) -> None:
    bound = Bound.of([ShownPayout("a.1.1", 10_000, ANN), ShownPayout("a.1.2", 5_000, CYN)])
    step = Step(bound)
    assert step.take(1) == ["a.1.1"]
    taken = step.as_shown([due("a.1.1", wire_cents)], {"ann": phone})
    assert (len(taken), step.changed) == (int(is_taken), [] if is_taken else ["a.1.1"])


def test_no_more_cents_are_claimed_than_were_shown_and_each_payout_counts_once() -> None:
    bound = Bound.of([ShownPayout("a.1.1", 10_000, ANN), ShownPayout("a.1.2", 5_000, ANN)])
    bound.most_cents = 12_000
    for _ in range(2):  # it was not taken, and goes again
        bound.at = 0
        step = Step(bound)
        step.take(1)
        assert step.as_shown([due("a.1.1", 10_000)], {"ann": ANN}) == [due("a.1.1", 10_000)]
        step.done()
        assert bound.spent_cents == 10_000
    step = Step(bound)
    assert step.take(5) == ["a.1.2"]
    assert step.as_shown([due("a.1.2", 5_000)], {"ann": ANN}) == []
    step.done()
    assert (bound.spent_cents, bound.changed, step.take(1)) == (10_000, ["a.1.2"], [])


def test_a_claim_that_did_not_commit_counts_for_nothing() -> None:
    bound = Bound.of([ShownPayout("a.1.1", 10_000, ANN)])
    lost = Step(bound)
    lost.take(1)
    lost.as_shown([due("a.1.1", 10_000)], {"ann": ANN})
    assert (bound.at, bound.spent_cents, Step(bound).take(1)) == (0, 0, ["a.1.1"])


def test_a_bound_run_that_stays_sends_again_what_was_not_taken_and_nothing_else(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    manual_decision.hold(harness.context, payout_id="derby.1.1")
    bound = shown(harness, later=True)
    turns = itertools.count()
    harness.interpose = on_payment(lambda request: refused(request) if next(turns) < 3 else None)

    def pass_time() -> bool:
        if harness.payout("ann").status == "HELD":
            manual_decision.release(harness.context, payout_id="derby.1.1")
        harness.clock.forward(60)
        return False

    run = send(harness, bound, stay=True, should_stop=pass_time)
    assert [str(one.became) for one in run.sent] == ["PENDING", "SENT"]
    assert (run.stopped, run.more, run.left, bound.spent_cents) == (Stop.BOUND, 1, 1, 10_000)
    assert harness.statuses() == {"ann": "PENDING", "ben": "SENT"}
    harness.deliver()
    harness.assert_agreed()


def test_what_others_have_sent_of_a_list_is_passed_over_in_short_claims(
    harness: PayoutHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LOOKED_AT_ONCE", 2)
    harness.owe(people(9))
    bound = shown(harness)
    harness.send(limit=7)
    run = send(harness, bound)
    assert (len(run.sent), run.stopped, run.left) == (2, Stop.DONE, 0)
    assert len(set(ids_sent(harness))) == 9


def test_a_bound_keeps_the_order_in_which_a_run_sends(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, cents=20_000)
    harness.owe({"ben": BEN}, market="rain", cents=10_000)
    assert shown(harness).ids == ["derby.1.1", "rain.1.1"]
    assert shown(harness, smallest_first=True).ids == ["rain.1.1", "derby.1.1"]
    assert shown(harness, only=["rain.1.1", "derby.1.1"]).ids == ["derby.1.1", "rain.1.1"]
    assert shown(harness, market="rain", limit=1).ids == ["rain.1.1"]
    send(harness, shown(harness, smallest_first=True, limit=1), limit=1)
    assert harness.statuses() == {"ann": "PENDING", "ben": "SENT"}


def test_a_list_of_names_may_be_longer_than_one_statement_carries(
    harness: PayoutHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payouts, "CHUNK", 2)
    monkeypatch.setattr(locking, "CHUNK", 2)
    monkeypatch.setattr(bounds, "CHUNK", 2)
    harness.owe(people(5))
    names = [f"derby.1.{number}" for number in (5, 3, 1, 2, 4)]
    bound = shown(harness, only=names)
    assert bound.ids == sorted(names)
    run = send(harness, bound, SendPolicy(rate_per_second=0, concurrency=3))
    assert (len(run.sent), run.stopped, run.left) == (5, Stop.DONE, 0)


def test_a_mark_that_came_with_a_task_is_taken_by_who_has_the_key_only(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    marked = dict(shown(harness, seal=harness.links.seal).marks())
    assert ANN not in str(marked)
    run = send(harness, Bound.carried("derby.1.1", marked["derby.1.2"], harness.links.seal))
    assert (run.sent, run.changed, run.stopped) == ([], ["derby.1.1"], Stop.BOUND)
    assert len(send(harness, Bound.carried("derby.1.1", marked["derby.1.1"], harness.links.seal)).sent) == 1
    harness.set_phone("ben", CYN)
    assert send(harness, Bound.carried("derby.1.2", marked["derby.1.2"], harness.links.seal)).sent == []
    with pytest.raises(Refused, match="carries a mark that is none"):
        Bound.carried("derby.1.2", "x", harness.links.seal)


def test_each_payout_of_a_list_is_found_by_its_id(db: Database) -> None:
    """However much else is due: else each claim of a short list would read through all of it."""
    if not db.is_sqlite:
        return  # PostgreSQL decides by how many there are
    with db.reading() as session:
        rows = session.execute(
            text("EXPLAIN QUERY PLAN SELECT id FROM payouts WHERE payouts.status = 'PENDING' AND id IN ('a', 'b', 'c')")
        )
        said = " ".join(str(row) for row in rows)
    assert "ix_payouts_due" not in said
