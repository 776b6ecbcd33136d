"""A second person releases exactly the plan that was shown, and no hold, wallet or name is a way round it."""

from __future__ import annotations

import json
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from kasoko_cli.domain.market import Rules
from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.errors import CheckFailed, Refused
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.payouts import manual_decision, market_hold
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.safeguards.failure_confirmation import Confirm
from kasoko_cli.operations.safeguards.payment_guard import Caution
from kasoko_cli.operations.settlement import approval, settle
from kasoko_cli.operations.settlement.approval import Approved
from kasoko_cli.operations.settlement.settle import Settled
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.schema.tables import Event
from tests.operations.audit.test_chain_check import migrate
from tests.operations.data_builder import DataBuilder
from tests.operations.payout_harness import ANN, BEN, PayoutHarness

ANN_SETTLES, JOYCE = Actor("ann", "the match is over"), Actor("joyce", "I have read it")


def resolved(harness: PayoutHarness) -> None:
    """Yes has won derby, with KES 95 of ann and KES 3.33 of ben on it."""
    builder = DataBuilder(harness.db, harness.clock, harness.actor)
    builder.market("derby", rules=Rules(fee_bps=0))
    for user, phone, outcome, cents in (
        ("ann", ANN, "Yes", 9_500),
        ("ben", BEN, "Yes", 333),
        ("cyn", "254712999000", "No", 4_917),
    ):
        builder.user(user, phone=phone)
        builder.bet("derby", user, outcome, cents=cents, collected=True)
    harness.clock.forward(1)
    markets.close_market(harness.context, market="derby")
    markets.resolve_market(harness.context, market="derby", winners=["Yes"])


def owe(harness: PayoutHarness, *, above_cents: int | None = 0) -> Settled:
    """Settled by ann: the winner ann gets 142.50, the winner ben 4.99, which no phone can be sent."""
    resolved(harness)
    return settle.settle_market(
        OperationContext(harness.db, harness.clock, ANN_SETTLES),
        WireLimits(),
        market="derby",
        approval_above_cents=above_cents,
    )


def release(harness: PayoutHarness, plan_hash: str, actor: Actor = JOYCE) -> Approved:
    return approval.approve(OperationContext(harness.db, harness.clock, actor), market="derby", plan_hash=plan_hash)


def acts(harness: PayoutHarness, action: str) -> list[Event]:
    with harness.db.reading() as session:
        found = list(session.exec(select(Event).where(col(Event.action) == action)))
        session.expunge_all()
        return found


def test_nothing_is_sent_or_credited_before_the_second_person(harness: PayoutHarness) -> None:
    settled = owe(harness)
    assert settled.awaits_approval
    assert harness.statuses() == {"ann": "AWAITING_APPROVAL", "ben": "AWAITING_APPROVAL"}
    assert harness.wallet("ben") == (0, 0)
    assert harness.send().sent == []
    assert approval.waiting(harness.db) == (2, 14_200)


def test_the_second_person_releases_the_plan_that_was_shown_once(harness: PayoutHarness) -> None:
    settled = owe(harness)
    shown = approval.look(harness.db, market="derby")
    assert (shown.plan_hash, shown.settled_by, shown.payouts) == (settled.plan_hash, "ann", 2)
    assert [(one.user_id, one.amount_cents, one.wire_cents) for one in shown.items] == [
        ("ann", 14_250, 14_200),
        ("ben", 499, 0),
    ]

    done = release(harness, shown.plan_hash)

    assert (done.released, done.to_wallets, done.approved_by, done.is_new) == (1, 1, "joyce", True)
    assert harness.statuses() == {"ann": "PENDING", "ben": "WALLET"}
    assert harness.wallet("ben") == (499, 499)
    [event] = acts(harness, "settlement.approve")
    assert (event.actor, event.reason) == ("joyce", "I have read it")
    assert json.loads(event.detail) == {"plan_hash": settled.plan_hash, "released": 1, "settlement": 1}

    again = release(harness, shown.plan_hash, Actor("mary"))
    assert (again.is_new, again.approved_by) == (False, "joyce")
    assert len(acts(harness, "settlement.approve")) == 1
    assert not settle.settle_market(
        OperationContext(harness.db, harness.clock, ANN_SETTLES), WireLimits(), market="derby"
    ).awaits_approval
    harness.send()
    harness.deliver()
    assert harness.statuses()["ann"] == "COMPLETED"


@pytest.mark.parametrize(
    ("above_cents", "waits"), [(None, False), (0, True), (14_748, True), (14_749, False), (10**9, False)]
)
def test_only_what_owes_more_than_the_sum_waits(harness: PayoutHarness, above_cents: int | None, waits: bool) -> None:
    settled = owe(harness, above_cents=above_cents)
    assert settled.settlement.payouts_cents == 14_749
    assert settled.awaits_approval is waits
    if not waits:
        with pytest.raises(Refused) as caught:
            release(harness, settled.plan_hash)
        assert caught.value.message == (
            "derby was settled at 2026-11-23 12:00 EAT and needs no second person. Nothing was changed."
        )


@pytest.mark.parametrize("name", ["ann", "Ann", " ann ", "", "\uff21nn", "an\u00adn"])
def test_nobody_releases_what_they_settled_themselves(harness: PayoutHarness, name: str) -> None:
    settled = owe(harness)
    with pytest.raises(Refused) as caught:
        release(harness, settled.plan_hash, Actor(name))
    assert caught.value.message == "derby was settled by ann, and is released by somebody else. Nothing was released."
    assert caught.value.hint == (
        "Have a second person run it as their own user, or with --actor NAME and their own name."
    )
    assert harness.statuses() == {"ann": "AWAITING_APPROVAL", "ben": "AWAITING_APPROVAL"}


def test_the_database_itself_refuses_a_release_by_whoever_settled(harness: PayoutHarness) -> None:
    owe(harness)
    by_hand = text(
        "UPDATE approvals SET approved_by = 'ＡNN', approved_person = 'ann', approved_at = CURRENT_TIMESTAMP"
    )
    with pytest.raises(IntegrityError, match="one_person_does_not_do_both"), harness.db.engine.begin() as connection:
        connection.execute(by_hand)


def test_releases_from_before_the_one_rule_are_upgraded_and_told(harness: PayoutHarness, database_url: str) -> None:
    """Whoever did both under two spellings before stays on record, and the upgrade does not stop at it."""
    release(harness, owe(harness).plan_hash)
    harness.books_hold_at_the_end = False
    migrate(database_url, "0010", down=True)
    with harness.db.engine.begin() as connection:
        connection.execute(text("UPDATE approvals SET settled_by = '\uff2aoyce', approved_by = 'Joyce'"))
    migrate(database_url, "head")
    with harness.db.engine.connect() as connection:
        names = connection.execute(text("SELECT settled_person, approved_person FROM approvals")).one()
    assert tuple(names) == ("joyce", None)
    [check] = [check for check in audit(harness.db).checks if not check.ok]
    assert (check.name, [one.what for one in check.violations]) == (
        "two-people-are-two",
        ["was settled by \uff2aoyce and released by Joyce, who is the same"],
    )


@pytest.mark.parametrize("wrong", ["0" * 64, "", "abc", "%"])
def test_another_plan_is_not_released(harness: PayoutHarness, wrong: str) -> None:
    settled = owe(harness)
    for given in (wrong, settled.plan_hash[:15]):
        with pytest.raises(Refused) as caught:
            release(harness, given)
        assert caught.value.message == (
            f"derby is settled by the plan {settled.plan_hash[:16]}, and not by {given}. Nothing was released."
        )
        assert caught.value.hint == "Read the plan that stands: kasoko approve derby"
    assert release(harness, settled.plan_hash[:16].upper()).is_new


def test_payouts_that_were_edited_since_are_found(harness: PayoutHarness) -> None:
    settled = owe(harness)
    harness.books_hold_at_the_end = False
    with harness.db.engine.begin() as connection:
        connection.execute(text("UPDATE payouts SET user_id = 'cyn' WHERE user_id = 'ann'"))
    with pytest.raises(CheckFailed) as caught:
        release(harness, settled.plan_hash)
    assert caught.value.message == (
        f"The payouts of derby are not those of its plan {settled.plan_hash[:16]}. Nothing was released."
    )
    assert set(harness.statuses().values()) == {"AWAITING_APPROVAL"}


def test_a_market_that_is_not_settled_has_nothing_to_release(harness: PayoutHarness) -> None:
    harness.open_market("derby")
    with pytest.raises(Refused) as caught:
        approval.look(harness.db, market="derby")
    assert caught.value.message == "derby is not settled; there is nothing to release."


def test_a_hold_is_no_way_round_the_second_person(harness: PayoutHarness) -> None:
    settled = owe(harness)
    [held, small] = [harness.payout(user).id for user in ("ann", "ben")]
    for payout_id in (held, small):
        assert manual_decision.hold(harness.context, payout_id=payout_id) == "HELD"
    with pytest.raises(Refused) as caught:
        manual_decision.to_wallet(harness.context, payout_id=held)
    assert caught.value.message == (
        f"{held} was not paid into the wallet: it waits for a second person. Nothing was changed."
    )
    released = manual_decision.release(harness.context, payout_id=held, caution=Caution(Confirm(10**9)))
    assert released == "AWAITING_APPROVAL"
    assert harness.send().sent == []

    done = release(harness, settled.plan_hash)  # what is held stays held

    assert (done.released, done.to_wallets) == (1, 0)
    assert harness.statuses() == {"ann": "PENDING", "ben": "HELD"}
    assert manual_decision.release(harness.context, payout_id=small, caution=Caution(Confirm(10**9))) == "WALLET"
    assert harness.wallet("ben") == (499, 499)


def test_of_two_who_release_at_once_one_does(harness: PayoutHarness) -> None:
    settled = owe(harness)
    barrier, done = threading.Barrier(2), list[Approved]()

    def one(name: str) -> None:
        barrier.wait(timeout=30)
        done.append(release(harness, settled.plan_hash, Actor(name)))

    threads = [threading.Thread(target=one, args=(name,)) for name in ("joyce", "mary")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(one.is_new for one in done) == [False, True]
    assert len(acts(harness, "settlement.approve")) == 1
    assert harness.wallet("ben") == (499, 499)


# --- A whole market held ---------------------------------------------------------------------------


def hold(harness: PayoutHarness, reason: str = "the result is disputed") -> market_hold.MarketMoved:
    return market_hold.hold_market(OperationContext(harness.db, harness.clock, Actor("boss", reason)), market="derby")


def let_go(harness: PayoutHarness) -> market_hold.MarketMoved:
    return market_hold.release_market(
        OperationContext(harness.db, harness.clock, Actor("boss", "it stands")),
        market="derby",
        caution=Caution(Confirm(10**9)),
    )


def test_a_market_is_held_and_let_go_whole(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    held = hold(harness)
    assert (held.moved, held.wire_cents, held.left) == ({"HELD": 2}, 20_000, [])
    assert harness.send().sent == []
    assert harness.payout("ann").note == "with its whole market: the result is disputed"
    assert hold(harness).moved == {}
    assert let_go(harness).moved == {"PENDING": 2}
    assert [event.reason for event in acts(harness, "market.hold")] == ["the result is disputed"] * 2
    assert len(harness.send().sent) == 2


def test_what_was_held_by_itself_stays_when_its_market_goes(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    ann = harness.payout("ann").id
    manual_decision.hold(OperationContext(harness.db, harness.clock, Actor("boss", "ann disputes it")), payout_id=ann)
    assert hold(harness).moved == {"HELD": 1}
    done = let_go(harness)
    assert done.moved == {"PENDING": 1}
    assert done.left == [
        f"{ann} stays held: it was stopped by itself (ann disputes it); let it go with kasoko payout release {ann}"
    ]


def test_what_has_left_is_not_held(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    harness.send(limit=1)
    done = hold(harness)
    assert done.moved == {"HELD": 1}
    assert done.left == ["derby.1.1 is SENT: it may be on its way, and goes on to its result"]


def test_a_market_that_waits_for_a_second_person_still_does_after_a_hold(harness: PayoutHarness) -> None:
    settled = owe(harness)
    assert hold(harness).moved == {"HELD": 2}
    assert release(harness, settled.plan_hash).released == 0
    assert let_go(harness).moved == {"PENDING": 1, "WALLET": 1}
    assert harness.wallet("ben") == (499, 499)


def test_a_market_is_not_held_without_a_reason(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    with pytest.raises(Refused) as caught:
        hold(harness, " ")
    assert (caught.value.message, caught.value.hint) == (
        "To hold or release a whole market needs a reason, for whoever reads the record. Nothing was changed.",
        "Add --reason 'why'",
    )
