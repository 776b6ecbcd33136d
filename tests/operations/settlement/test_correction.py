"""Claims about another outcome: taken back exactly before anything was sent, differences only after."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasoko_cli.domain.market import MarketStatus, Resolution, Rules
from kasoko_cli.domain.parimutuel import Stake, divide
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.records import markets, wallets
from kasoko_cli.operations.settlement import correction, settle
from kasoko_cli.operations.settlement.correction import Override
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import bets, payouts, statements
from kasoko_cli.store import markets as market_rows
from kasoko_cli.store.engine.database import Database, open_database
from tests.conftest import FixedClock
from tests.operations.data_builder import LIMITS, DataBuilder, refusal

FIRST, SECOND = Actor("ann at the desk", "the result was read wrongly"), Actor("ben at the desk", "checked it")
YES, NO = Resolution(winners=(0,)), Resolution(winners=(1,))


def overrides(
    builder: DataBuilder,
    resolution: Resolution,
    *,
    actor: Actor = FIRST,
    confirm: str | None = None,
    market: str = "derby",
) -> Override:
    return correction.override(
        OperationContext(builder.db, builder.clock, actor),
        correction.OverridePolicy(LIMITS),
        market=market,
        resolution=resolution,
        confirm=confirm,
    )


def by_two(builder: DataBuilder, resolution: Resolution, market: str = "derby") -> Override:
    """The first person proposes, the second confirms exactly that plan."""
    proposed = overrides(builder, resolution, market=market)
    if not proposed.needs_second:
        assert proposed.is_new
        return proposed
    assert proposed.waits_for_second
    done = overrides(builder, resolution, actor=SECOND, confirm=proposed.plan_hash[:16], market=market)
    assert done.is_new
    return done


def holds(db: Database) -> None:
    assert [(check.name, check.violations) for check in audit(db, deep=True).checks if not check.ok] == []


def entries(builder: DataBuilder, key: str) -> list[tuple[str, str, int]]:
    with builder.db.reading() as session:
        return [(str(line.account), line.owner, line.cents) for line in book.lines_of(session, key)]


def balance(builder: DataBuilder, account: Account, owner: str = "") -> int:
    with builder.db.reading() as session:
        return book.balance(session, account, owner)


@pytest.fixture
def derby(builder: DataBuilder) -> DataBuilder:
    """Yes has won: ann is owed 142.50 of ann's 100 and ben's 50, and cyn's three shillings give a small payout."""
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 50), "cyn": ("Yes", 3)})
    builder.settle("derby", "Yes")
    return builder


# --- Before anything was sent ------------------------------------------------------------------------------------


def test_before_anything_was_sent_the_settlement_is_taken_back_exactly_and_made_anew(derby: DataBuilder) -> None:
    then = entries(derby, "settle:derby:1")
    done = overrides(derby, NO)
    assert (done.way, done.needs_second, done.canceled) == ("reversal", False, ["derby.1.1", "derby.1.2"])
    assert [(one.user_id, one.before_cents, one.after_cents) for one in done.users] == [
        ("ann", 14_111, 0),
        ("cyn", 423, 0),
        ("ben", 0, 14_535),
    ]
    taken_back = entries(derby, "reverse:settle:derby:1")
    assert sorted((account, owner, -cents) for account, owner, cents in taken_back) == sorted(then)
    assert entries(derby, "reverse:payout:derby.1.2:credit") == [("payable", "cyn", -423), ("wallet", "cyn", 423)]
    assert derby.payout_of("ann").status is PayoutStatus.CANCELED
    assert markets.show_market(derby.db, "derby").resolved_outcome == "No"
    holds(derby.db)

    anew = settle.settle_market(derby.context, LIMITS, market="derby")
    assert (anew.number, anew.is_new) == (2, True)
    assert derby.payout_of("ben").id == "derby.2.1"
    holds(derby.db)


def test_a_market_that_is_not_settled_yet_only_gets_its_other_outcome(builder: DataBuilder) -> None:
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 50)})
    builder.clock.forward(1)
    markets.close_market(builder.context, market="derby")
    markets.resolve_market(builder.context, market="derby", winners=["Yes"])
    assert overrides(builder, NO).way == "resolution"
    assert markets.show_market(builder.db, "derby").resolved_outcome == "No"
    holds(builder.db)


def test_a_resolved_market_can_be_called_off_and_a_void_one_resolved(derby: DataBuilder) -> None:
    overrides(derby, Resolution(void=True))
    with derby.db.reading() as session:
        assert market_rows.find_market(session, "derby").status is MarketStatus.VOID
    settle.settle_market(derby.context, LIMITS, market="derby")
    assert by_two(derby, YES).is_new
    holds(derby.db)


def test_what_was_credited_and_spent_cannot_be_taken_back_so_it_is_owed_back(derby: DataBuilder) -> None:
    derby.market("other")
    derby.bet("other", "cyn", "Yes", cents=423)
    done = by_two(derby, NO)
    assert done.way == "correction"
    assert balance(derby, Account.RECEIVABLE, "cyn") == 423
    holds(derby.db)


# --- After --------------------------------------------------------------------------------------------------------


def test_after_a_payout_was_sent_only_the_differences_are_booked(derby: DataBuilder) -> None:
    derby.accepted(attempt := derby.intend("ann"))
    derby.paid(attempt)
    before = entries(derby, "settle:derby:1")
    done = by_two(derby, NO)

    assert (done.way, done.number, done.canceled) == ("correction", 2, [])
    assert [(one.user_id, one.new_cents, one.overpaid_cents) for one in done.users] == [
        ("ann", 0, 14_111),
        ("cyn", 0, 423),
        ("ben", 14_535, 0),
    ]
    assert (done.gained_cents, done.overpaid_cents, done.house_cents) == (14_535, 14_534, 14_535)
    assert entries(derby, "settle:derby:1") == before, "nothing is edited"
    assert entries(derby, "correction:derby:2") == [
        ("breakage", "", 1),
        ("receivable", "ann", 14_111),
        ("receivable", "cyn", 423),
        ("payable", "ben", -14_535),
    ]
    assert derby.payout_of("ann").status is PayoutStatus.COMPLETED
    assert derby.payout_of("ben").id == "derby.2.1"
    holds(derby.db)


def test_what_was_not_sent_is_canceled_where_it_is_owed_no_longer(builder: DataBuilder) -> None:
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 50), "dan": ("Yes", 200)})
    builder.settle("derby", "Yes")
    builder.accepted(attempt := builder.intend("ann"))
    builder.paid(attempt)
    done = by_two(builder, NO)
    assert done.canceled == ["derby.1.2"]
    assert balance(builder, Account.RECEIVABLE, "dan") == 0
    assert builder.payout_of("dan").status is PayoutStatus.CANCELED
    holds(builder.db)


def test_what_is_on_its_way_stands_and_is_owed_back_if_it_is_too_much(derby: DataBuilder) -> None:
    derby.accepted(attempt := derby.intend("ann"))
    by_two(derby, NO)
    assert balance(derby, Account.RECEIVABLE, "ann") == 14_111
    derby.paid(attempt)
    assert derby.payout_of("ann").status is PayoutStatus.COMPLETED
    holds(derby.db)


def test_the_first_outcome_after_all_drops_the_debt_instead_of_paying_twice(derby: DataBuilder) -> None:
    derby.accepted(attempt := derby.intend("ann"))
    derby.paid(attempt)
    by_two(derby, NO)
    back = by_two(derby, YES)
    assert {one.user_id: (one.new_cents, one.overpaid_cents) for one in back.users} == {
        "ann": (0, -14_111),
        "cyn": (0, -423),
        "ben": (0, 0),
    }
    assert back.canceled == ["derby.2.1"]
    assert balance(derby, Account.RECEIVABLE, "ann") == 0
    holds(derby.db)


def test_what_was_given_back_meanwhile_is_paid_again(derby: DataBuilder) -> None:
    derby.accepted(attempt := derby.intend("ann"))
    derby.paid(attempt)
    by_two(derby, NO)
    wallets.recover(
        OperationContext(derby.db, derby.clock, FIRST),
        user_id="ann",
        cents=10_000,
        source="mpesa",
        reference="UKB0000001",
    )
    back = by_two(derby, YES)
    [ann] = [one for one in back.users if one.user_id == "ann"]
    assert (ann.new_cents, ann.overpaid_cents) == (10_000, -4_111)
    holds(derby.db)


# --- Two people ---------------------------------------------------------------------------------------------------


@pytest.fixture
def paid(derby: DataBuilder) -> DataBuilder:
    derby.accepted(attempt := derby.intend("ann"))
    derby.paid(attempt)
    return derby


def test_one_person_alone_changes_nothing(paid: DataBuilder) -> None:
    with paid.db.reading() as session:
        before = book.balance(session, Account.PAYABLE, None)
    proposed = overrides(paid, NO)
    again = overrides(paid, NO, confirm=proposed.plan_hash)
    assert (proposed.waits_for_second, again.waits_for_second, again.is_new) == (True, True, False)
    with paid.db.reading() as session:
        assert book.balance(session, Account.PAYABLE, None) == before
    assert markets.show_market(paid.db, "derby").resolved_outcome == "Yes"


def test_the_second_person_confirms_exactly_the_plan_that_was_proposed(paid: DataBuilder) -> None:
    proposed = overrides(paid, NO)
    assert overrides(paid, NO, actor=SECOND).waits_for_second, "without its hash nobody has read it"
    for wrong in ("0" * 64, proposed.plan_hash[:8]):
        message, hint = refusal(lambda wrong=wrong: overrides(paid, NO, actor=SECOND, confirm=wrong), Refused)  # type: ignore[misc]
        assert message == (
            f"The plan for derby is {proposed.plan_hash[:16]} now, and not {wrong}. Nothing was changed."
        )
        assert "kasoko pause" in hint


def test_a_plan_that_has_changed_meanwhile_is_not_confirmed(paid: DataBuilder) -> None:
    paid.market("other")
    paid.bets("other", {"dan": ("Yes", 100), "eve": ("Yes", 100), "fay": ("No", 50)})
    paid.settle("other", "Yes")
    paid.paid(paid.intend("dan"))
    proposed = overrides(paid, NO, market="other")
    assert proposed.canceled == ["other.1.2"]
    paid.intend("eve")
    refusal(lambda: overrides(paid, NO, actor=SECOND, confirm=proposed.plan_hash, market="other"), Refused)


def test_one_person_does_not_confirm_under_another_spelling(paid: DataBuilder) -> None:
    proposed = overrides(paid, NO)
    again = overrides(paid, NO, actor=Actor(" Ann  at the DESK", "me again"), confirm=proposed.plan_hash)
    assert (again.waits_for_second, again.is_new) == (True, False)


def test_a_first_word_counts_only_while_nothing_of_the_market_has_moved(paid: DataBuilder) -> None:
    """The plan is still the same, and what it was read about is not: a payout of somebody else is on its way now."""
    paid.market("other")
    paid.bets("other", {"dan": ("Yes", 100), "eve": ("Yes", 100), "fay": ("No", 50)})
    paid.settle("other", "Yes")
    paid.paid(paid.intend("dan"))
    paid.accepted(eve := paid.intend("eve"))
    proposed = overrides(paid, NO, market="other")
    paid.paid(eve)

    told = overrides(paid, NO, actor=SECOND, confirm=proposed.plan_hash, market="other")

    assert (told.waits_for_second, told.plan_hash) == (True, proposed.plan_hash)
    assert "is about how it stood then" in told.note
    assert overrides(paid, NO, confirm=proposed.plan_hash, market="other").is_new


def test_a_first_word_on_another_outcome_expires(paid: DataBuilder) -> None:
    proposed = overrides(paid, NO)
    paid.clock.forward(24 * 3_600)
    told = overrides(paid, NO, actor=SECOND, confirm=proposed.plan_hash)
    assert told.waits_for_second
    assert told.note.startswith("what ann at the desk said expired at ")
    assert overrides(paid, NO, confirm=proposed.plan_hash).is_new
    holds(paid.db)


def test_an_override_needs_a_reason_another_outcome_and_a_market_that_has_one(paid: DataBuilder) -> None:
    assert "needs a reason" in refusal(lambda: overrides(paid, NO, actor=Actor("ann")), Refused)[0]
    assert "is resolved as 'Yes' already" in refusal(lambda: overrides(paid, YES), Refused)[0]
    paid.market("open")
    assert "has no outcome yet" in refusal(lambda: overrides(paid, NO, market="open"), Refused)[0]


def test_a_plan_writes_nothing_and_is_what_is_then_done(paid: DataBuilder) -> None:
    planned = correction.plan_override(paid.db, correction.OverridePolicy(LIMITS), market="derby", resolution=NO)
    assert markets.show_market(paid.db, "derby").resolved_outcome == "Yes"
    done = by_two(paid, NO)
    assert done.plan_hash == planned.plan_hash
    assert done.users == planned.users


# --- Whatever is owed back ----------------------------------------------------------------------------------------


def test_what_is_owed_back_is_recovered_or_written_off_once(paid: DataBuilder) -> None:
    by_two(paid, NO)

    def recover(cents: int, source: str, reference: str) -> bool:
        return wallets.recover(
            OperationContext(paid.db, paid.clock, FIRST), user_id="ann", cents=cents, source=source, reference=reference
        )

    assert recover(100, "bank", "B1")
    assert not recover(100, "bank", "B1")
    assert recover(11, "wallet", "W1")
    assert refusal(lambda: recover(200, "bank", "B1"), Refused)[0].startswith("The reference 'B1' was taken before")
    assert "has KES 0.00 available" in refusal(lambda: recover(1_000, "wallet", "W2"), Refused)[0]
    assert "owes KES 140.00, and not KES 150.00" in refusal(lambda: recover(15_000, "bank", "B2"), Refused)[0]
    assert wallets.write_off(OperationContext(paid.db, paid.clock, FIRST), user_id="ann", cents=14_000, reference="O1")
    assert not wallets.write_off(
        OperationContext(paid.db, paid.clock, FIRST), user_id="ann", cents=14_000, reference="O1"
    )
    assert balance(paid, Account.RECEIVABLE, "ann") == 0
    assert (balance(paid, Account.BANK), balance(paid, Account.WRITE_OFF)) == (100, 14_000)
    holds(paid.db)


# --- Any pool, any overrides --------------------------------------------------------------------------------------

RESOLUTIONS = st.one_of(
    st.sampled_from([YES, NO, Resolution(winners=(2,)), Resolution(void=True), Resolution(winners=(0, 1))])
)
STAKES = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 2), st.integers(100, 60_000)), min_size=1, max_size=10
)
#: What is done to every third, half, ... of the payouts before the next override.
DEEDS = st.lists(
    st.tuples(RESOLUTIONS, st.lists(st.sampled_from(["pay", "fail", "leave", "hold"]), max_size=8)), max_size=4
)


@pytest.mark.exhaustive
@settings(max_examples=25)
@given(stakes=STAKES, first=RESOLUTIONS, deeds=DEEDS)
def test_after_any_overrides_everybody_ends_with_the_new_share_net_of_what_they_owe_back(
    sqlite_template: Path,
    tmp_path_factory: pytest.TempPathFactory,
    stakes: list[tuple[str, int, int]],
    first: Resolution,
    deeds: list[tuple[Resolution, list[str]]],
) -> None:
    path = tmp_path_factory.mktemp("override") / "k.db"
    path.write_bytes(sqlite_template.read_bytes())
    db = open_database(f"sqlite:///{path}")
    try:
        _any_overrides(DataBuilder(db, FixedClock(), Actor("tester", "a test")), stakes, first, deeds)
    finally:
        db.close()


def _any_overrides(
    builder: DataBuilder,
    stakes: list[tuple[str, int, int]],
    first: Resolution,
    deeds: list[tuple[Resolution, list[str]]],
) -> None:
    builder.market("derby", ("A", "B", "C"), rules=Rules(fee_bps=500))
    for user in dict.fromkeys(user for user, _, _ in stakes):
        builder.user(user)
    for user, outcome, cents in stakes:
        builder.bet("derby", user, "ABC"[outcome], cents=cents, collected=True)
    builder.clock.forward(1)
    markets.close_market(builder.context, market="derby")
    _resolve(builder, first)
    settle.settle_market(builder.context, LIMITS, market="derby")
    standing = first
    for resolution, what in deeds:
        _do(builder, what)
        if resolution == standing:
            continue
        by_two(builder, resolution)
        standing = resolution
        with builder.db.reading() as session:
            is_settled = market_rows.standing_settlement(session, "derby") is not None
        if not is_settled:
            settle.settle_market(builder.context, LIMITS, market="derby")
        _everybody_has_the_share(builder, standing)
    holds(builder.db)


def _resolve(builder: DataBuilder, resolution: Resolution) -> None:
    if resolution.void:
        markets.void_market(builder.context, market="derby")
    else:
        winners = ["ABC"[one] for one in resolution.winners]
        markets.resolve_market(builder.context, market="derby", winners=winners)


def _do(builder: DataBuilder, what: list[str]) -> None:
    with builder.db.reading() as session:
        due = [one for one in payouts.list_payouts(session) if one.status is PayoutStatus.PENDING]
    for payout, deed in zip(due, what, strict=False):
        if deed == "hold":
            manual_decision.hold(builder.context, payout_id=payout.id)
        elif deed != "leave":
            builder.accepted(attempt := builder.intend_payout(payout.id))
            builder.paid(attempt) if deed == "pay" else builder.failed(attempt)


def _everybody_has_the_share(builder: DataBuilder, resolution: Resolution) -> None:
    with builder.db.reading() as session:
        stakes = [Stake(one.user_id, one.outcome, one.stake_cents) for one in bets.list_bets(session, "derby")]
        division = divide(stakes, Rules(fee_bps=500), resolution)
        shares: dict[str, int] = {}
        for amounts in (division.payouts, division.refunds):
            for user, cents in amounts.items():
                shares[user] = shares.get(user, 0) + cents
        has: dict[str, int] = {}
        for one in payouts.list_payouts(session):
            if one.status is not PayoutStatus.CANCELED:
                has[one.user_id] = has.get(one.user_id, 0) + one.amount_cents
        keys = [f"correction:derby:{one.number}" for one in market_rows.list_settlements(session, "derby")]
        for user, cents in statements.posted_by_owner(session, keys, Account.RECEIVABLE).items():
            has[user] = has.get(user, 0) - cents
        assert {user: cents for user, cents in has.items() if cents} == {
            user: cents for user, cents in shares.items() if cents
        }
        income = -(
            book.balance(session, Account.FEE)
            + book.balance(session, Account.BREAKAGE)
            + book.balance(session, Account.MINUS_POOL)
        )
        assert income == division.fee_cents + division.breakage_cents - division.top_up_cents
