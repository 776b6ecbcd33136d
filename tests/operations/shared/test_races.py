"""Two who decide by the same money or the same state at the same moment, on PostgreSQL.

Nothing here is left to luck. Every act ends by writing into the books, so the books are kept from everybody: the
first comes as far as it can and waits, the second does the same, and only then may both go on. Whichever was
first, the other has to see what it did. On SQLite a writer has the whole database, and there is no such moment.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from kasoko_cli.domain.market import Resolution
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import Busy, KasokoError, Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.account import payer
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.callbacks import stored_callbacks
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.exchange.import_bets import bets_kind
from kasoko_cli.operations.exchange.import_records import take_in
from kasoko_cli.operations.payouts import manual_decision, market_hold
from kasoko_cli.operations.reconciliation import statement_import
from kasoko_cli.operations.records import bets, markets, privacy, users, wallets
from kasoko_cli.operations.settlement import approval, correction
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.record_files import Format, InputFile
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.locking import Turn
from kasoko_cli.store.schema.tables import Funding
from tests.operations.data_builder import LIMITS, DataBuilder
from tests.operations.paper import REVERSAL, Paper
from tests.operations.payout_harness import ANN, BEN, PayoutHarness

pytestmark = [pytest.mark.on_both, pytest.mark.parametrize("database_url", ["postgres"], indirect=True)]

FIRST, SECOND = Actor("ann at the desk", "the result was read wrongly"), Actor("ben at the desk", "checked it")
YES, NO = Resolution(winners=(0,)), Resolution(winners=(1,))
SECONDS = 60.0

Deed = Callable[[], Any]
both_ways = pytest.mark.parametrize("turned", [False, True], ids=["in-order", "turned"])


class Done(threading.Thread):
    """Somebody at work; `came` has what came of it, or how it was refused."""

    def __init__(self, deed: Deed) -> None:
        super().__init__(daemon=True)
        self.deed = deed
        self.came: Any = None
        self.bug: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.came = self.deed()
        except KasokoError as refused:
            self.came = refused
        except BaseException as bug:
            self.bug = bug


@contextmanager
def nobody_posts(db: Database) -> Iterator[None]:
    """Keep the books from everybody while the block runs."""
    with db.engine.connect() as holder:
        holder.execute(text(f"SELECT pg_advisory_xact_lock({Turn.BOOKS.value})"))
        yield


def waits(db: Database, *workers: Done) -> None:
    """Wait until each of them has ended, or waits for somebody."""
    asleep = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        at_work = sum(one.is_alive() for one in workers)
        with db.engine.connect() as look:
            if look.execute(asleep).scalar_one() >= at_work:
                return
        time.sleep(0.01)
    raise AssertionError("somebody neither ends nor waits")


def race(db: Database, one: Deed, other: Deed, *, turned: bool = False) -> tuple[Any, Any]:
    """Let `one` decide, then the `other` (or the other way round), and only then both write; what came of each."""
    deeds = [other, one] if turned else [one, other]
    with nobody_posts(db):
        first = Done(deeds[0])
        waits(db, first)
        second = Done(deeds[1])
        waits(db, first, second)
    for worker in (first, second):
        worker.join(SECONDS)
        assert not worker.is_alive(), "somebody waits for ever"
        if worker.bug is not None:
            raise worker.bug
    return (second.came, first.came) if turned else (first.came, second.came)


def holds(db: Database) -> None:
    assert [(check.name, check.violations) for check in audit(db, deep=True, chain=True).checks if not check.ok] == []


def balance(builder: DataBuilder, account: Account, owner: str = "") -> int:
    with builder.db.reading() as session:
        return book.balance(session, account, owner)


# --- What a user has ------------------------------------------------------------------------------------------------


@pytest.fixture
def derby(builder: DataBuilder) -> DataBuilder:
    """Yes has won, and cyn's KES 4.23, too little for a phone, stand in the wallet; the cup still takes bets."""
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 50), "cyn": ("Yes", 3)})
    builder.settle("derby", "Yes")
    builder.market("cup")
    assert builder.balances("cyn") == (423, 423)
    return builder


def overrides(
    builder: DataBuilder, resolution: Resolution = NO, actor: Actor = FIRST, confirm: str | None = None
) -> Deed:
    return partial(
        correction.override,
        OperationContext(builder.db, builder.clock, actor),
        correction.OverridePolicy(LIMITS),
        market="derby",
        resolution=resolution,
        confirm=confirm,
    )


def bets_400(builder: DataBuilder, bet_id: str = "late") -> Deed:
    return partial(
        bets.place_bet,
        builder.context,
        bets.NewBet(bet_id, "cup", "cyn", "Yes", 400),
    )


def imports_400(builder: DataBuilder) -> Deed:
    file = (
        "bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at\n"
        f"late,cup,cyn,Yes,4.00,{builder.clock():%Y-%m-%dT%H:%M:%SZ},\n"
    )
    return lambda: take_in(
        builder.context, InputFile("bets.csv", io.BytesIO(file.encode()), Format.CSV), bets_kind(Funding.WALLET)
    )


@both_ways
@pytest.mark.parametrize("spends", [bets_400, imports_400])
def test_what_an_override_takes_back_is_not_spent_meanwhile(
    derby: DataBuilder, spends: Callable[[DataBuilder], Deed], turned: bool
) -> None:
    overridden, spent = race(derby.db, overrides(derby), spends(derby), turned=turned)
    if turned:
        assert (overridden.way, overridden.waits_for_second) == ("correction", True), "it was spent before"
        assert derby.balances("cyn") == (23, 23)
    else:
        assert (overridden.way, overridden.is_new) == ("reversal", True)
        assert isinstance(spent, KasokoError)
        assert derby.balances("cyn") == (0, 0)
    holds(derby.db)


def test_rounds_of_overrides_and_bets_at_once_leave_no_wallet_below_zero(derby: DataBuilder) -> None:
    """As it comes, too, and of several at once: each outcome is overridden while everybody who can bets."""
    for number in range(4):
        workers = [Done(overrides(derby, NO if number % 2 == 0 else YES))]
        workers += [Done(bets_400(derby, f"late-{number}-{nth}")) for nth in range(3)]
        for worker in workers:
            worker.join(SECONDS)
            assert worker.bug is None
        assert derby.balances("cyn")[1] >= 0
    holds(derby.db)


@both_ways
@pytest.mark.parametrize("other", [bets_400, imports_400])
def test_a_wallet_is_spent_once(derby: DataBuilder, other: Callable[[DataBuilder], Deed], turned: bool) -> None:
    came = race(derby.db, bets_400(derby, "this"), other(derby), turned=turned)
    assert sum(isinstance(one, KasokoError) for one in came) == 1
    assert derby.balances("cyn") == (23, 23)
    holds(derby.db)


# --- What a user owes -----------------------------------------------------------------------------------------------


@pytest.fixture
def overpaid(builder: DataBuilder) -> DataBuilder:
    """M-Pesa has paid ann twice: first under an attempt that it said had failed; ann owes KES 142 back."""
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 50)})
    builder.settle("derby", "Yes")
    one = builder.intend("ann")
    builder.accepted(one)
    builder.failed(one)
    builder.due_again("ann")
    other = builder.intend("ann")
    builder.accepted(other)
    builder.paid(other)
    builder.paid(one)
    assert balance(builder, Account.RECEIVABLE, "ann") == 14_200
    return builder


def writes_off(builder: DataBuilder, cents: int = 14_200) -> Deed:
    return partial(wallets.write_off, builder.context, user_id="ann", cents=cents, reference=f"off-{cents}")


def recovers(builder: DataBuilder, cents: int = 14_200) -> Deed:
    return partial(
        wallets.recover,
        builder.context,
        user_id="ann",
        cents=cents,
        source="bank",
        reference=f"back-{cents}",
    )


def takes_it_back(builder: DataBuilder) -> Deed:
    """The statement says that the second payment came back."""
    with builder.db.reading() as session:
        receipt = session.execute(text("SELECT key FROM entries WHERE kind = 'overpaid'")).scalar_one().split(":")[1]
    paper = Paper()
    paper.line("UKR0000001", builder.clock(), paid_in=14_200, reason=REVERSAL, linked=receipt)
    return partial(
        statement_import.take_statement,
        builder.context,
        paper.read(),
        statement_import.StatementRules("600000", customers_are_counted=False),
    )


@both_ways
@pytest.mark.parametrize("other", [writes_off, recovers])
def test_what_comes_back_by_a_statement_pays_off_no_more_than_is_owed(
    overpaid: DataBuilder, other: Callable[[DataBuilder], Deed], turned: bool
) -> None:
    _, ended = race(overpaid.db, takes_it_back(overpaid), other(overpaid), turned=turned)
    assert balance(overpaid, Account.RECEIVABLE, "ann") == 0
    assert isinstance(ended, KasokoError) != turned, "who is second finds nothing owed"
    assert balance(overpaid, Account.SUSPENSE) == (-14_200 if turned else 0)
    holds(overpaid.db)


@both_ways
def test_a_debt_is_given_up_or_recovered_once(overpaid: DataBuilder, turned: bool) -> None:
    came = race(overpaid.db, writes_off(overpaid), recovers(overpaid), turned=turned)
    assert sum(isinstance(one, Refused) for one in came) == 1
    assert balance(overpaid, Account.RECEIVABLE, "ann") == 0
    holds(overpaid.db)


@both_ways
def test_a_debt_that_another_correction_drops_is_not_given_up_meanwhile(builder: DataBuilder, turned: bool) -> None:
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 50)})
    builder.settle("derby", "Yes")
    builder.paid(builder.intend("ann"))
    overrides(builder, NO, FIRST)()
    with pytest.raises(Refused):
        overrides(builder, NO, SECOND, "0" * 16)()
    plan = correction.plan_override(
        builder.db, correction.OverridePolicy(LIMITS), market="derby", resolution=NO, clock=builder.clock
    )
    overrides(builder, NO, SECOND, plan.plan_hash)()
    owed = balance(builder, Account.RECEIVABLE, "ann")
    assert owed == 14_250
    back = overrides(builder, YES, FIRST)()
    corrected, given_up = race(
        builder.db, overrides(builder, YES, SECOND, back.plan_hash), writes_off(builder, owed), turned=turned
    )
    assert balance(builder, Account.RECEIVABLE, "ann") == 0
    assert isinstance(given_up, Refused) != turned
    assert isinstance(corrected, Refused) == turned, "the plan that was confirmed dropped a debt that is gone"
    holds(builder.db)


# --- What a market is -----------------------------------------------------------------------------------------------


def closes(builder: DataBuilder) -> Deed:
    return partial(markets.close_market, builder.context, market="cup")


def cancels(builder: DataBuilder) -> Deed:
    return partial(bets.cancel_bet, builder.context, bet_id="early")


@both_ways
@pytest.mark.parametrize("other", [bets_400, imports_400, cancels])
def test_a_close_has_every_bet_that_was_taken_in_and_no_other(
    derby: DataBuilder, other: Callable[[DataBuilder], Deed], turned: bool
) -> None:
    if other is cancels:
        bets_400(derby, "early")()
    closed, taken = race(derby.db, closes(derby), other(derby), turned=turned)
    assert closed is True
    assert isinstance(taken, KasokoError) != turned
    markets.resolve_market(derby.context, market="cup", winners=["Yes"])
    derby.settle("cup", "Yes")  # refused where the bets are not those of the close
    holds(derby.db)


def test_a_bet_that_waited_beyond_the_closing_time_is_too_late(derby: DataBuilder) -> None:
    """What was asked in time and comes to its turn an hour later is not stamped with the time of its asking."""
    with derby.db.engine.connect() as holder:
        holder.execute(text("SELECT id FROM users WHERE id = 'cyn' FOR UPDATE"))
        late = Done(bets_400(derby))
        waits(derby.db, late)
        derby.clock.forward(hours=2)
    late.join(SECONDS)
    assert isinstance(late.came, Refused)


# --- What a payout is -----------------------------------------------------------------------------------------------


@pytest.fixture
def awaiting(builder: DataBuilder) -> DataBuilder:
    """Ann's payout and cyn's, which no phone can be sent, wait for a second person."""
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 50), "cyn": ("Yes", 3)})
    builder.settle("derby", "Yes", approval_above_cents=0)
    return builder


def approves(builder: DataBuilder) -> Deed:
    plan = approval.look(builder.db, market="derby")
    return partial(
        approval.approve, OperationContext(builder.db, builder.clock, SECOND), market="derby", plan_hash=plan.plan_hash
    )


@both_ways
def test_a_hold_and_an_approval_at_once(awaiting: DataBuilder, turned: bool) -> None:
    small = awaiting.payout_of("cyn").id
    hold = partial(manual_decision.hold, OperationContext(awaiting.db, awaiting.clock, FIRST), payout_id=small)
    approved, held = race(awaiting.db, approves(awaiting), hold, turned=turned)
    assert (approved.released, approved.to_wallets) == (1, 0 if turned else 1)
    assert isinstance(held, Refused) != turned
    assert awaiting.payout_of("cyn").status is (PayoutStatus.HELD if turned else PayoutStatus.WALLET)
    holds(awaiting.db)


@both_ways
@pytest.mark.parametrize("whole", [False, True], ids=["one", "its-market"])
def test_what_is_let_go_while_its_settlement_is_approved_does_not_wait_for_ever(
    awaiting: DataBuilder, whole: bool, turned: bool
) -> None:
    payout = awaiting.payout_of("ann").id
    if whole:
        market_hold.hold_market(OperationContext(awaiting.db, awaiting.clock, FIRST), market="derby")
        let_go: Deed = partial(
            market_hold.release_market,
            OperationContext(awaiting.db, awaiting.clock, FIRST),
            market="derby",
        )
    else:
        manual_decision.hold(OperationContext(awaiting.db, awaiting.clock, FIRST), payout_id=payout)
        let_go = partial(
            manual_decision.release,
            OperationContext(awaiting.db, awaiting.clock, FIRST),
            payout_id=payout,
        )
    race(awaiting.db, approves(awaiting), let_go, turned=turned)
    assert awaiting.payout_of("ann").status is PayoutStatus.PENDING
    holds(awaiting.db)


def _override(harness: PayoutHarness) -> Deed:
    return partial(
        correction.override,
        OperationContext(harness.db, harness.clock, FIRST),
        correction.OverridePolicy(LIMITS),
        market="derby",
        resolution=NO,
    )


def _hold(harness: PayoutHarness) -> Deed:
    return partial(manual_decision.hold, OperationContext(harness.db, harness.clock, FIRST), payout_id="derby.1.1")


def _hold_market(harness: PayoutHarness) -> Deed:
    return partial(market_hold.hold_market, OperationContext(harness.db, harness.clock, FIRST), market="derby")


def _to_wallet(harness: PayoutHarness) -> Deed:
    return partial(manual_decision.to_wallet, OperationContext(harness.db, harness.clock, FIRST), payout_id="derby.1.1")


@both_ways
@pytest.mark.parametrize("stops", [_override, _hold, _hold_market, _to_wallet])
def test_what_is_stopped_is_not_claimed_and_what_is_claimed_is_not_stopped(
    harness: PayoutHarness, stops: Callable[[PayoutHarness], Deed], turned: bool
) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    payer.put_in_force(
        OperationContext(harness.db, harness.clock, FIRST), harness.daraja.account.payer
    )  # else a first run writes that before
    stopped, _ = race(harness.db, stops(harness), harness.send, turned=turned)
    harness.deliver()
    was_stopped = not isinstance(stopped, KasokoError) and not (
        getattr(stopped, "waits_for_second", False) or getattr(stopped, "left", None)
    )
    assert harness.paid_to(ANN) == (0 if was_stopped else 10_000)
    assert was_stopped != turned
    harness.assert_books()


# --- Names that are given once --------------------------------------------------------------------------------------


def _user(builder: DataBuilder, user_id: str) -> Deed:
    return partial(users.add_user, builder.context, user_id="new", name=user_id, phone="0712000001")


def _deposit(builder: DataBuilder, user_id: str) -> Deed:
    return partial(wallets.deposit, builder.context, user_id=user_id, cents=100, reference="SKN9")


def _bet(builder: DataBuilder, user_id: str) -> Deed:
    return partial(
        bets.place_bet,
        builder.context,
        bets.NewBet("same", "cup", user_id, "No", 100, Funding.COLLECTED),
    )


@pytest.mark.parametrize("takes", [_user, _deposit, _bet])
def test_one_name_is_taken_once_and_who_comes_second_is_told(
    derby: DataBuilder, takes: Callable[[DataBuilder, str], Deed]
) -> None:
    one, other = race(derby.db, takes(derby, "ann"), takes(derby, "ben"))
    assert not isinstance(one, KasokoError)
    assert isinstance(other, Busy)
    assert other.message.endswith("at the same moment. Nothing was changed.")
    with pytest.raises(Refused):
        takes(derby, "ben")()
    holds(derby.db)


def test_nobody_is_erased_while_a_bet_of_theirs_is_taken_in(derby: DataBuilder) -> None:
    derby.user("dan")
    erases = partial(privacy.erase, OperationContext(derby.db, derby.clock, FIRST), user_id="dan")
    _, erased = race(derby.db, _bet(derby, "dan"), erases)
    assert isinstance(erased, Refused)
    assert "a bet stands on cup" in erased.message
    holds(derby.db)


@both_ways
def test_a_body_is_judged_again_or_dropped(overpaid: DataBuilder, turned: bool) -> None:
    with overpaid.db.reading() as session:
        number = session.execute(text("SELECT min(id) FROM callbacks")).scalar_one()
    overpaid.clock.forward(days=100)
    replays = partial(stored_callbacks.replay, OperationContext(overpaid.db, overpaid.clock, FIRST), Trust(), [number])
    drops = partial(privacy.expire, OperationContext(overpaid.db, overpaid.clock, FIRST), days=30)
    replayed, dropped = race(overpaid.db, replays, drops, turned=turned)
    assert isinstance(replayed, Refused) == turned, "what was dropped is not judged again"
    assert dropped.callbacks == (3 if turned else 2)
    holds(overpaid.db)


def test_taking_in_a_statement_keeps_no_result_waiting(database_url: str) -> None:
    """Each thing that one transaction does at a time has a number of its own: two once shared theirs."""
    assert len({turn.value for turn in Turn}) == len(list(Turn)) == len(Turn.__members__)
