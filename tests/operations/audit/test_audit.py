"""An audit holds on a lively database, and each of its checks finds the row that was touched by hand."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from sqlalchemy import Connection, text
from sqlmodel import Session

from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.audit.run import DEEP_RULES, RULES, audit, check_all
from kasoko_cli.operations.records import bets, markets
from kasoko_cli.store import attempts, payouts
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import APPEND_ONLY
from tests.operations.data_builder import DataBuilder

#: One winner for each way that a payout can go; each staked KES 100 on the winner and is owed KES 142.39.
WAYS = (
    "waiting",
    "intent",
    "accepted",
    "unknown",
    "paid",
    "failed",
    "refused",
    "resent",
    "retried",
    "overtaken",
    "twice",
    "returned",
    "returned-paid",
)


@pytest.fixture
def builder(builder: DataBuilder) -> DataBuilder:
    """A deployment in which everything that can happen has happened."""
    return lively(builder)


def lively(builder: DataBuilder) -> DataBuilder:
    """Markets in every state, and in one of them a payout in every state with the attempts that led there."""
    _settled_in_every_way(builder)
    _markets_of_every_state(builder)
    with builder.db.transaction() as session:  # a deposit that was taken back
        book.post(session, journal.deposited("MISTAKE", builder.user("gus"), 5_000), at=builder.clock())
        back = journal.deposited("MISTAKE", "gus", -5_000)
        book.post(session, journal.Entry(f"reverse:{back.key}", "reverse", back.postings), at=builder.clock())
    return builder


def _settled_in_every_way(builder: DataBuilder) -> None:
    builder.market("derby")
    builder.bets("derby", {f"{way}-winner": ("Yes", 100) for way in WAYS})
    builder.bets("derby", {"small": ("Yes", 3), "loser": ("No", 50 * len(WAYS))})
    builder.settle("derby", "Yes")
    tries = {way: builder.intend(f"{way}-winner") for way in WAYS if way != "waiting"}
    for way in ("accepted", "unknown", "paid", "failed", "retried", "overtaken", "twice", "returned", "returned-paid"):
        builder.accepted(tries[way])
    builder.doubted(tries["unknown"])
    builder.paid(tries["paid"])
    builder.failed(tries["failed"])
    builder.rejected(tries["refused"], for_good=True)
    builder.rejected(tries["resent"])
    builder.again(tries["resent"])
    builder.paid(tries["resent"])
    for way in ("retried", "overtaken", "twice"):
        builder.failed(tries[way])
        builder.due_again(f"{way}-winner")
        builder.accepted(later := builder.intend(f"{way}-winner"))
        if way == "twice":
            builder.paid(later)
        if way != "retried":
            builder.paid(tries[way])  # the first one was paid after all
    for way in ("returned", "returned-paid"):
        builder.paid(tries[way])
        builder.came_back(tries[way])
    builder.due_again("returned-paid-winner")
    builder.paid(builder.intend("returned-paid-winner"))


def _markets_of_every_state(builder: DataBuilder) -> None:
    builder.user("ann", deposit_kes=1_000)
    for market in ("open", "closed", "void", "nobody"):
        builder.market(market)
        builder.bet(market, "ann", "Yes", kes=100)
        builder.bet(market, "ann", "No", kes=20, collected=True)
        for collected in (True, False):
            cancelled = builder.bet(market, "ann", "No", kes=7, collected=collected)
            bets.cancel_bet(builder.context, bet_id=cancelled)
    builder.clock.forward(hours=1)
    builder.settle("void")
    builder.market("empty")
    builder.settle("empty", "Yes")
    builder.settle("nobody", "Yes")
    markets.close_market(builder.context, market="closed")


def test_a_lively_database_passes_every_check(builder: DataBuilder) -> None:
    report = audit(builder.db, deep=True)
    assert [(check.name, check.violations) for check in report.checks if not check.ok] == []
    assert report.ok
    assert [check.name for check in report.checks] == [rule.name for rule in (*RULES, *DEEP_RULES)]


def test_an_empty_database_passes_every_check(db: Database) -> None:
    assert audit(db, deep=True).ok


def test_the_lively_database_has_attempts_and_payouts_in_every_state_that_a_run_can_make(builder: DataBuilder) -> None:
    with builder.db.reading() as session:
        tried = {row[0] for row in session.execute(text("SELECT DISTINCT status FROM attempts"))}
        owed = {row[0] for row in session.execute(text("SELECT DISTINCT status FROM payouts"))}
    assert tried == set(AttemptStatus)
    assert owed == set(PayoutStatus) - {PayoutStatus.AWAITING_APPROVAL, PayoutStatus.HELD, PayoutStatus.CANCELED}


class Tampering(NamedTuple):
    """What somebody with the database's password could do; which check tells of it, about what, in which words."""

    check: str
    sql: str
    subject: str
    what: str


_ENTRY = "(SELECT id FROM entries WHERE key = '{}')"

TAMPERINGS = [
    Tampering(
        "withheld-equals-what-arrived",
        "UPDATE payouts SET withheld_cents = 39 WHERE id = '{paid}'",
        "paid-winner",
        "KES 0.00 was kept back of what was sent, and the payments that arrived say KES 0.39",
    ),
    Tampering(
        "remittances-are-as-recorded",
        f"UPDATE postings SET account = 'tax_remitted', owner = 'winnings' WHERE account = 'utility' AND entry_id ="
        f" {_ENTRY.format('deposit:DEP0000001')}",
        "deposit:DEP0000001",
        "the books have KES 100.00 on winnings, and the act says none",
    ),
    Tampering(
        "receivables-not-negative",
        f"UPDATE postings SET account = 'receivable' WHERE account = 'wallet' AND entry_id ="
        f" {_ENTRY.format('deposit:DEP0000001')}",
        "waiting-winner",
        "has given back KES 100.00 more than was overpaid",
    ),
    Tampering(
        "suspense-equals-open-lines",
        f"UPDATE postings SET account = 'suspense' WHERE account = 'utility' AND entry_id ="
        f" {_ENTRY.format('deposit:DEP0000001')}",
        "deposit:DEP0000001",
        "is no line of a statement, and has KES -100.00 in suspense",
    ),
    Tampering(
        "entries-balance",
        f"UPDATE postings SET amount_cents = amount_cents + 1 WHERE line = 0 AND entry_id ="
        f" {_ENTRY.format('deposit:DEP0000001')}",
        "deposit:DEP0000001",
        "its lines sum to 1 cents",
    ),
    Tampering(
        "book-balances",
        f"DELETE FROM postings WHERE line = 0 AND entry_id = {_ENTRY.format('deposit:DEP0000001')}",
        "the book",
        "all postings together sum to -10000 cents",
    ),
    Tampering(
        "available-not-negative",
        "UPDATE postings SET amount_cents = amount_cents + 1 WHERE account = 'wallet' AND owner = 'loser'"
        " AND amount_cents > 0",
        "loser",
        "has KES -0.01 available",
    ),
    Tampering(
        "open-pools-equal-stakes",
        "UPDATE bets SET stake_cents = 10001 WHERE market_id = 'open' AND outcome = 0",
        "open/0",
        "its pool holds KES 100.00, and its stakes are KES 100.01",
    ),
    Tampering(
        "open-pools-equal-stakes",
        "UPDATE postings SET owner = 'open/7' WHERE account = 'pool' AND owner = 'open/0'",
        "open/7",
        "is no outcome of any market, and its pool holds KES 100.00",
    ),
    Tampering(
        "settled-markets-hold-nothing",
        "UPDATE postings SET amount_cents = amount_cents - 1 WHERE account = 'pool' AND owner = 'derby/1'"
        f" AND entry_id = {_ENTRY.format('settle:derby:1')}",
        "derby/1",
        "its market is settled, and its pool holds KES 0.01",
    ),
    Tampering(
        "in-flight-equals-live-attempts",
        "UPDATE attempts SET status = 'FAILED', evidence = 'by hand' WHERE id = '{intent_attempt}'",
        "{intent_attempt}",
        "is FAILED with KES 142.00 in flight instead of KES 0.00",
    ),
    Tampering(
        "in-flight-equals-live-attempts",
        "UPDATE entries SET key = 'attempt:lost:reserve' WHERE key = 'attempt:{intent_attempt}:reserve'",
        "{intent_attempt}",
        "is INTENT with KES 0.00 in flight instead of KES 142.00",
    ),
    Tampering(
        "in-flight-equals-live-attempts",
        "UPDATE postings SET amount_cents = amount_cents + 1 WHERE account = 'in_flight' AND entry_id ="
        f" {_ENTRY.format('attempt:{intent_attempt}:reserve')}",
        "in_flight",
        "holds KES 710.01, and live attempts wired KES 710.00",
    ),
    Tampering(
        "payouts-follow-their-attempts",
        "UPDATE payouts SET status = 'PENDING' WHERE id = '{intent}'",
        "{intent}",
        "is PENDING, and its attempt {intent_attempt} is INTENT",
    ),
    Tampering(
        "payouts-follow-their-attempts",
        "UPDATE payouts SET status = 'SENDING' WHERE id = '{waiting}'",
        "{waiting}",
        "is SENDING, and no attempt is on its way",
    ),
    Tampering(
        "win-credited-once",
        "INSERT INTO entries (id, key, kind, at) SELECT 100001, key || ':2', kind, at FROM entries WHERE key ="
        " 'payout:{paid}:credit';"
        "INSERT INTO postings (entry_id, line, account, owner, amount_cents) SELECT 100001, line, account, owner,"
        f" amount_cents FROM postings WHERE entry_id = {_ENTRY.format('payout:{paid}:credit')}",
        "payout:{paid}:credit:2",
        "credits a payout that does not exist, or one that was credited already",
    ),
    Tampering(
        "win-credited-once",
        "UPDATE postings SET owner = 'loser' WHERE account = 'wallet' AND entry_id ="
        f" {_ENTRY.format('payout:{paid}:credit')}",
        "{paid}",
        "owes paid-winner KES 142.39, and its credit gave them KES 0.00",
    ),
    Tampering(
        "completed-means-credited-and-delivered",
        "UPDATE payouts SET status = 'COMPLETED' WHERE id = '{failed}'",
        "{failed}",
        "is COMPLETED, was not credited, and has 0 standing deliveries",
    ),
    Tampering(
        "completed-means-credited-and-delivered",
        "UPDATE payouts SET status = 'FAILED', failure_code = '1' WHERE id = '{paid}'",
        "{paid}",
        "is FAILED, was credited, and has 1 standing delivery",
    ),
    Tampering(
        "paid-attempts-are-booked-once",
        "UPDATE entries SET key = key || 'x' WHERE key = 'overpaid:{overpaid}'",
        "{twice_attempt}",
        "is SUCCEEDED, and is booked as paid 0 times",
    ),
    Tampering(
        "paid-attempts-are-booked-once",
        "UPDATE entries SET key = key || 'x' WHERE key = 'payout:{paid}:deliver:{paid_attempt}'",
        "payout:{paid}:deliver:{paid_attempt}x",
        "delivers by an attempt that does not exist",
    ),
    Tampering(
        "paid-attempts-are-booked-once",
        "UPDATE postings SET owner = 'loser' WHERE account = 'delivered' AND entry_id ="
        f" {_ENTRY.format('payout:{paid}:deliver:{paid_attempt}')}",
        "{paid_attempt}",
        "was sent with KES 142.00, and payout:{paid}:deliver:{paid_attempt} books KES 0.00 to its user",
    ),
    Tampering(
        "new-attempt-has-dead-predecessor",
        "DELETE FROM incidents WHERE key = 'late-success:{overtaken_attempt}'",
        "{overtaken_second}",
        "is attempt 2 of its payout, and the one before it, {overtaken_attempt}, is SUCCEEDED",
    ),
    Tampering(
        "new-attempt-has-dead-predecessor",
        "UPDATE attempts SET number = 7 WHERE id = '{overtaken_second}'",
        "{overtaken_second}",
        "is attempt 7 of its payout, and the one before it does not exist",
    ),
    Tampering(
        "payable-equals-uncredited-payouts",
        "UPDATE payouts SET amount_cents = amount_cents + 1 WHERE id = '{waiting}'",
        "waiting-winner",
        "the books owe KES 142.39, and the payouts not credited yet are KES 142.40",
    ),
    Tampering(
        "success-has-receipt-and-evidence",
        "UPDATE attempts SET receipt = NULL WHERE id = '{paid_attempt}'",
        "{paid_attempt}",
        "was paid without a receipt",
    ),
    Tampering(
        "success-has-receipt-and-evidence",
        "UPDATE attempts SET evidence = NULL WHERE id = '{paid_attempt}'",
        "{paid_attempt}",
        "was paid without evidence",
    ),
    Tampering(
        "success-has-receipt-and-evidence",
        "UPDATE attempts SET evidence = 'callback:1001' WHERE id = '{paid_attempt}'",
        "{paid_attempt}",
        "was paid on the evidence callback:1001, which is not about it or not there",
    ),
    Tampering(
        "wire-within-payout",
        "UPDATE attempts SET wire_cents = wire_cents + 100 WHERE id = '{paid_attempt}'",
        "{paid_attempt}",
        "was sent with KES 143.00, and {paid} carries KES 142.00",
    ),
    Tampering(
        "second-person-releases",
        "INSERT INTO approvals (market_id, settlement_no, plan_hash, settled_by) VALUES ('derby', 1, '0', 'ann')",
        "{waiting}",
        "it is PENDING, and no second person has released its settlement",
    ),
    Tampering(
        "second-person-releases",
        "UPDATE payouts SET status = 'AWAITING_APPROVAL' WHERE id = '{waiting}'",
        "{waiting}",
        "it waits for a second person, and its settlement asks for none",
    ),
    Tampering(
        "two-people-are-two",
        "INSERT INTO approvals (market_id, settlement_no, plan_hash, settled_by, approved_by, approved_at)"
        " SELECT 'derby', 1, '0', 'bob', '\uff22ob', received_at FROM callbacks LIMIT 1",
        "derby",
        "was settled by bob and released by \uff22ob, who is the same",
    ),
    Tampering(
        "acts-are-signed",
        "INSERT INTO events (id, at, actor, action, subject, reason, detail)"
        " SELECT 9001, received_at, 'x', 'approver.add', 'approvers', '',"
        ' \'{{"name": "ann", "public_key": "00"}}\' FROM callbacks WHERE id = 1'
        " UNION ALL SELECT 9002, received_at, 'bob', 'settlement.approve', 'derby', '',"
        ' \'{{"signature": {{"public_key": "00", "value": "00"}}}}\' FROM callbacks WHERE id = 1',
        "event:9002",
        "settlement.approve of derby by bob has a signature that does not count: bob is no approver",
    ),
    Tampering(
        "reversal-negates-target",
        "UPDATE postings SET amount_cents = amount_cents * 2 WHERE entry_id ="
        f" {_ENTRY.format('reverse:deposit:MISTAKE')}",
        "reverse:deposit:MISTAKE",
        "together with its target it leaves -5000 cents on utility",
    ),
    Tampering(
        "reversal-negates-target",
        "UPDATE entries SET key = 'deposit:OTHER' WHERE key = 'deposit:MISTAKE'",
        "reverse:deposit:MISTAKE",
        "the entry that it names does not exist",
    ),
    Tampering(
        "closed-markets-keep-their-bets",
        "UPDATE bets SET outcome = 1 WHERE market_id = 'closed' AND outcome = 0",
        "closed",
        "its bets are not those that stood when it closed",
    ),
    Tampering(
        "closed-markets-keep-their-bets",
        "UPDATE markets SET fee_bps = 400 WHERE id = 'closed'",
        "closed",
        "its rules are not those that stood when it closed",
    ),
    Tampering(
        "settlements-recompute",
        "UPDATE bets SET stake_cents = stake_cents + 100 WHERE user_id = 'paid-winner'",
        "derby (settlement 1)",
        "the bets are not those that it was divided by",
    ),
    Tampering(
        "settlements-recompute",
        "UPDATE payouts SET user_id = 'loser' WHERE id = '{waiting}'",
        "derby (settlement 1)",
        "loser is owed KES 142.39 (PAYOUT), and the bets give KES 0.00",
    ),
    Tampering(
        "settlements-recompute",
        "UPDATE payouts SET wire_cents = 14100 WHERE id = '{waiting}'",
        "derby (settlement 1)",
        "its payouts are not those of the plan that was settled",
    ),
    Tampering(
        "settlements-recompute",
        "UPDATE settlements SET fee_cents = fee_cents + 1 WHERE market_id = 'derby'",
        "derby (settlement 1)",
        "fee_cents is 9766, and its bets give 9765",
    ),
    Tampering(
        "settlements-recompute",
        "UPDATE postings SET amount_cents = amount_cents - 1 WHERE account = 'fee'",
        "derby (settlement 1)",
        "the books have -9766 cents on fee for it, and it says -9765",
    ),
    Tampering(
        "settlements-recompute",
        "UPDATE markets SET resolution = replace(resolution, '[0]', '[1]') WHERE id = 'derby'",
        "derby (settlement 1)",
        "it was divided by another outcome than the market has",
    ),
    Tampering(
        "settlements-recompute",
        "UPDATE settlements SET rules = 'none' WHERE market_id = 'derby'",
        "derby (settlement 1)",
        "the rules or the resolution that it was written with cannot be read",
    ),
    Tampering(
        "wallets-recompute",
        "DELETE FROM bets WHERE market_id = 'open' AND cancelled_at IS NULL AND funding = 'wallet'",
        "ann",
        "the wallet gave KES 372.00 to bets, and the bets say KES 272.00",
    ),
    Tampering(
        "rows-are-as-booked",
        "UPDATE attempts SET phone = '254799999999' WHERE id = '{intent_attempt}'",
        "attempt:{intent_attempt}:reserve",
        "what this reserve is about is not what it was when it was posted",
    ),
    Tampering(
        "rows-are-as-booked",
        "DELETE FROM bets WHERE market_id = 'open' AND cancelled_at IS NULL AND funding = 'wallet'",
        "bet:{bet}",
        "what this bet is about is no longer there, or not what it was",
    ),
    Tampering(
        "people-are-as-recorded",
        "UPDATE users SET name = 'Somebody Else' WHERE id = 'ann'",
        "ann",
        "has a name or a phone that no act gave",
    ),
    Tampering(
        "markets-are-as-recorded",
        "UPDATE outcomes SET name = 'Maybe' WHERE market_id = 'open' AND number = 0",
        "open",
        "its question, outcomes or rules are not those that it was opened with",
    ),
    Tampering(
        "incidents-are-as-recorded",
        "UPDATE incidents SET closed_at = opened_at, closed_by = 'ann', close_reason = 'nothing' WHERE id = 1",
        "incident:1",
        "is closed by ann, and the record knows nothing of it",
    ),
    Tampering(
        "switches-are-as-recorded",
        "INSERT INTO switches (name, is_on, reason, actor, at) SELECT 'pause', signed, 'x', 'x', received_at"
        " FROM callbacks LIMIT 1",
        "pause",
        "is on, and the record says otherwise",
    ),
    Tampering(
        "payouts-are-as-recorded",
        "UPDATE payouts SET status = 'PENDING' WHERE id = '{failed}'",
        "{failed}",
        "failed and is due again, and nobody made it so",
    ),
    Tampering(
        "results-are-kept",
        "UPDATE callbacks SET body = '', salt = NULL WHERE id = 3",
        "callback:3",
        "has lost its body, and nobody dropped it",
    ),
]


def test_every_check_has_a_row_that_breaks_it() -> None:
    assert {tampering.check for tampering in TAMPERINGS} == {rule.name for rule in (*RULES, *DEEP_RULES)}


@pytest.mark.exhaustive
def test_each_touched_row_fails_its_check_in_words_and_with_what_to_do(builder: DataBuilder) -> None:
    """One lively database; each tampering is undone before the next."""
    names = _names(builder)
    with builder.db.engine.connect() as connection:
        _unlock(connection)
        for tampering in TAMPERINGS:
            savepoint = connection.begin_nested()
            for statement in tampering.sql.format(**names).split(";"):
                assert connection.exec_driver_sql(statement).rowcount, (statement, tampering)
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                checks = check_all(session, deep=True, limit_per_check=100)
            savepoint.rollback()
            [check] = [check for check in checks if check.name == tampering.check]
            found = [(violation.subject, violation.what) for violation in check.violations]
            assert (tampering.subject.format(**names), tampering.what.format(**names)) in found, tampering
            assert not check.ok
            assert check.count == len(found)
            assert check.hint


def test_no_more_violations_are_shown_than_asked_for_and_all_are_counted(builder: DataBuilder) -> None:
    with builder.db.engine.connect() as connection:
        _unlock(connection)
        connection.exec_driver_sql("UPDATE attempts SET wire_cents = wire_cents + 100")
        connection.commit()
    report = audit(builder.db, limit_per_check=2)
    [check] = [check for check in report.checks if check.name == "wire-within-payout"]
    assert not report.ok
    assert (check.ok, check.count, len(check.violations)) == (False, 16, 2)


def _names(builder: DataBuilder) -> dict[str, str]:
    """The ids that the tamperings speak of: `paid` is a payout, `paid_attempt` its first attempt."""
    names = {}
    with builder.db.reading() as session:
        names["bet"] = session.execute(
            text("SELECT id FROM bets WHERE market_id = 'open' AND cancelled_at IS NULL AND funding = 'wallet'")
        ).scalar_one()
        for way in WAYS:
            [payout] = payouts.list_payouts(session, user_id=f"{way}-winner")
            tried = attempts.list_attempts(session, payout.id)
            names[way] = payout.id
            if tried:
                names[f"{way}_attempt"] = tried[0].id
            if len(tried) > 1:
                names[f"{way}_second"] = tried[1].id
            if way == "twice":
                names["overpaid"] = str(tried[0].receipt)
    return names


def _unlock(connection: Connection) -> None:
    """What stops an honest program but not the owner of the database: triggers and CHECKs, out of the way."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
        for table in APPEND_ONLY:
            for act in ("update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER {table}_append_only_{act}")
    else:
        for table in APPEND_ONLY:
            connection.exec_driver_sql(f"DROP TRIGGER {table}_append_only ON {table}")
        for name in ("attempt_paid_means_receipt", "attempt_ended_means_evidence"):
            connection.exec_driver_sql(f"ALTER TABLE attempts DROP CONSTRAINT ck_attempts_{name}")
    connection.commit()
