"""Whatever somebody with the database's password changes by hand, `audit --deep --chain` finds it and names it.

One database in which everything has happened is prepared once. Each tampering is done to it, told by the audit
in the words that are expected, and undone. Triggers and CHECKs are out of the way first: they stop an honest
program, not the owner of the database.
"""

# ruff: noqa: E501 - a tampering a line, to be read as a list

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlmodel import Session, col, select

from kasoko_cli.domain.withholding import DutyBook, On
from kasoko_cli.operations.audit import chain_check
from kasoko_cli.operations.audit.run import HEAD, Check, check_all
from kasoko_cli.operations.payouts import manual_decision, retry, switches
from kasoko_cli.operations.records import markets, users
from kasoko_cli.operations.reporting import taxes
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import attempts, payouts
from kasoko_cli.store.engine import hash_chain
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import raise_incident, set_switch
from kasoko_cli.store.schema.tables import APPEND_ONLY, EntryRow, Event, Link
from tests.conftest import FixedClock
from tests.domain.test_withholding import WINNINGS, WITHDRAWALS
from tests.operations.audit.test_audit import WAYS, lively
from tests.operations.data_builder import DataBuilder


@dataclass(frozen=True)
class Tampering:
    """What was done by hand, the check that must tell of it, and about what; `{...}` are names of the deployment."""

    what: str
    sql: str
    check: str
    subject: str


def _entry(key: str) -> str:
    return f"(SELECT id FROM entries WHERE key = '{key}')"


PAID = "payout:{paid}:deliver:{paid_attempt}"

#: At least sixty; the list grows with whatever else can be thought of.
TAMPERINGS = [
    # --- Amounts ---
    Tampering("a stake", "UPDATE bets SET stake_cents = 10001 WHERE id = '{open_bet}'", "rows-are-as-booked", "bet:{open_bet}"),
    Tampering("a stake of a settled market", "UPDATE bets SET stake_cents = stake_cents + 100 WHERE user_id = 'paid-winner'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("what a payout owes", "UPDATE payouts SET amount_cents = amount_cents + 1 WHERE id = '{waiting}'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("what a payout carries", "UPDATE payouts SET wire_cents = wire_cents - 100 WHERE id = '{waiting}'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("what an attempt carried", "UPDATE attempts SET wire_cents = wire_cents - 100 WHERE id = '{paid_attempt}'", "rows-are-as-booked", PAID),
    Tampering("one posting", "UPDATE postings SET amount_cents = amount_cents + 1 WHERE line = 0 AND entry_id = " + _entry("deposit:DEP0000001"), "entries-balance", "deposit:DEP0000001"),
    Tampering("both sides of an entry", "UPDATE postings SET amount_cents = amount_cents * 2 WHERE entry_id = " + _entry("deposit:DEP0000001"), "chain-holds", "deposit:DEP0000001"),
    Tampering("the fee in a settlement", "UPDATE settlements SET fee_cents = fee_cents + 1 WHERE market_id = 'derby'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("the fee in the books", "UPDATE postings SET amount_cents = amount_cents - 1 WHERE account = 'fee'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("the pool in a settlement", "UPDATE settlements SET gross_cents = gross_cents + 1, refunds_cents = refunds_cents + 1 WHERE market_id = 'void'", "settlements-recompute", "void (settlement 1)"),
    # --- Who ---
    Tampering("whose payout it is", "UPDATE payouts SET user_id = 'loser' WHERE id = '{waiting}'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("whose bet it is", "UPDATE bets SET user_id = 'loser' WHERE id = '{open_bet}'", "rows-are-as-booked", "bet:{open_bet}"),
    Tampering("whose collected bet it is", "UPDATE bets SET user_id = 'loser' WHERE id = '{collected_bet}'", "rows-are-as-booked", "bet:{collected_bet}"),
    Tampering("a deposit moved to another wallet", "UPDATE postings SET owner = 'loser' WHERE account = 'wallet' AND entry_id = " + _entry("deposit:DEP0000001"), "chain-holds", "deposit:DEP0000001"),
    Tampering("a credit moved to another user", "UPDATE postings SET owner = 'loser' WHERE account = 'wallet' AND entry_id = " + _entry("payout:{paid}:credit"), "win-credited-once", "{paid}"),
    Tampering("a delivery moved to another user", "UPDATE postings SET owner = 'loser' WHERE account = 'delivered' AND entry_id = " + _entry(PAID), "paid-attempts-are-booked-once", "{paid_attempt}"),
    Tampering("two postings with their owners swapped", "UPDATE postings SET owner = CASE owner WHEN 'waiting-winner' THEN 'loser' ELSE owner END WHERE account = 'payable'", "payable-equals-uncredited-payouts", "loser"),
    Tampering("a user's phone", "UPDATE users SET phone = '254799999999' WHERE id = 'ann'", "people-are-as-recorded", "ann"),
    Tampering("a user's name", "UPDATE users SET name = 'Somebody Else' WHERE id = 'ann'", "people-are-as-recorded", "ann"),
    Tampering("a phone that was set by an act", "UPDATE users SET phone = '254799999999' WHERE id = 'moved'", "people-are-as-recorded", "moved"),
    Tampering("a phone with a seal of its own", "UPDATE users SET seal = '00' WHERE id = 'ann'", "people-are-as-recorded", "ann"),
    Tampering("a user put in", "INSERT INTO users (id, name, phone, created_at, phone_set_at) SELECT 'ghost', 'Ghost', '254799999998', created_at, created_at FROM users WHERE id = 'ann'", "people-are-as-recorded", "ghost"),
    Tampering("a user taken away", "DELETE FROM users WHERE id = 'moved'", "people-are-as-recorded", "moved"),
    Tampering("somebody made to look erased", "UPDATE users SET name = 'erased', phone = '254000000000', salt = NULL, erased_at = created_at WHERE id = 'moved'", "people-are-as-recorded", "moved"),
    Tampering("the phone that an attempt went to", "UPDATE attempts SET phone = '254799999999' WHERE id = '{paid_attempt}'", "rows-are-as-booked", "attempt:{paid_attempt}:reserve"),
    # --- States ---
    Tampering("a failed payout called paid", "UPDATE payouts SET status = 'COMPLETED' WHERE id = '{failed}'", "completed-means-credited-and-delivered", "{failed}"),
    Tampering("a paid payout called failed", "UPDATE payouts SET status = 'FAILED', failure_code = '1' WHERE id = '{paid}'", "completed-means-credited-and-delivered", "{paid}"),
    Tampering("an unknown payout made due", "UPDATE payouts SET status = 'PENDING' WHERE id = '{unknown}'", "payouts-follow-their-attempts", "{unknown}"),
    Tampering("an unknown attempt made to fail", "UPDATE attempts SET status = 'FAILED', evidence = 'by hand' WHERE id = '{unknown_attempt}'", "in-flight-equals-live-attempts", "{unknown_attempt}"),
    Tampering("a failed payout made due by nobody", "UPDATE payouts SET status = 'PENDING' WHERE id = '{failed}'", "payouts-are-as-recorded", "{failed}"),
    Tampering("a held payout let go by nobody", "UPDATE payouts SET status = 'PENDING', note = NULL WHERE id = '{held}'", "payouts-are-as-recorded", "{held}"),
    Tampering("a payout cancelled by nobody", "UPDATE payouts SET status = 'CANCELED' WHERE id = '{waiting}'", "payable-equals-uncredited-payouts", "waiting-winner"),
    Tampering("a payout put into the wallet by nobody", "UPDATE payouts SET status = 'WALLET' WHERE id = '{waiting}'", "completed-means-credited-and-delivered", "{waiting}"),
    Tampering("a bet cancelled by nobody", "UPDATE bets SET cancelled_at = placed_at WHERE id = '{open_bet}'", "open-pools-equal-stakes", "open/0"),
    Tampering("a cancelled bet that stands again", "UPDATE bets SET cancelled_at = NULL WHERE id = '{cancelled_bet}'", "rows-are-as-booked", "bet:{cancelled_bet}:cancel"),
    Tampering("when a bet was cancelled", "UPDATE bets SET cancelled_at = '2026-11-23 09:30:00' WHERE id = '{cancelled_bet}'", "rows-are-as-booked", "bet:{cancelled_bet}:cancel"),
    Tampering("a pause that nobody ended", "UPDATE switches SET is_on = {false} WHERE name = 'pause'", "switches-are-as-recorded", "pause"),
    Tampering("a breaker that nobody reset", "DELETE FROM switches WHERE name = 'breaker'", "switches-are-as-recorded", "breaker"),
    # --- Evidence ---
    Tampering("a receipt", "UPDATE attempts SET receipt = 'FORGED0001' WHERE id = '{paid_attempt}'", "rows-are-as-booked", PAID),
    Tampering("two receipts swapped", "UPDATE attempts SET receipt = 'X' WHERE id = '{paid_attempt}';UPDATE attempts SET receipt = '{paid_receipt}' WHERE id = '{resent_attempt}';UPDATE attempts SET receipt = '{resent_receipt}' WHERE id = '{paid_attempt}'", "rows-are-as-booked", PAID),
    Tampering("the evidence of a payment", "UPDATE attempts SET evidence = 'callback:{other_callback}' WHERE id = '{paid_attempt}'", "rows-are-as-booked", PAID),
    Tampering("evidence in a person's word", "UPDATE attempts SET evidence = 'decided by nobody: trust me' WHERE id = '{paid_attempt}'", "rows-are-as-booked", PAID),
    Tampering("the evidence of a failure", "UPDATE attempts SET evidence = 'answer:never left' WHERE id = '{failed_attempt}'", "rows-are-as-booked", "attempt:{failed_attempt}:release"),
    Tampering("why an attempt failed", "UPDATE attempts SET result_code = '1' WHERE id = '{failed_attempt}'", "rows-are-as-booked", "attempt:{failed_attempt}:release"),
    Tampering("the body of a callback", "UPDATE callbacks SET body = {other_body} WHERE id = {callback}", "chain-holds", "callback:{callback}"),
    Tampering("a body with a digest that fits", "UPDATE callbacks SET body = {other_body}, salt = NULL, digest = {other_body} WHERE id = {callback}", "chain-holds", "inbox:{callback}"),
    Tampering("a body dropped by nobody", "UPDATE callbacks SET body = {no_body}, salt = NULL WHERE id = {callback}", "results-are-kept", "callback:{callback}"),
    Tampering("a callback called signed", "UPDATE callbacks SET source = '196.201.214.200' WHERE id = {callback}", "chain-holds", "inbox:{callback}"),
    Tampering("a callback taken away", "DELETE FROM callbacks WHERE id = {callback}", "chain-holds", "inbox:{callback}"),
    Tampering("a callback put in", "INSERT INTO callbacks (id, received_at, route, subject, signed, source, body) SELECT 999, received_at, route, subject, signed, source, body FROM callbacks WHERE id = {callback}", "chain-holds", "callback:999"),
    Tampering("an attempt under another number", "UPDATE attempts SET number = 7 WHERE id = '{overtaken_second}'", "new-attempt-has-dead-predecessor", "{overtaken_second}"),
    Tampering("an attempt taken away", "DELETE FROM attempts WHERE id = '{paid_attempt}'", "rows-are-as-booked", PAID),
    Tampering("an attempt of another payout", "UPDATE attempts SET payout_id = '{waiting}' WHERE id = '{failed_attempt}'", "rows-are-as-booked", "attempt:{failed_attempt}:release"),
    Tampering("when it was sent", "UPDATE attempts SET sent_at = '2026-11-01 00:00:00' WHERE id = '{paid_attempt}'", "rows-are-as-booked", "attempt:{paid_attempt}:reserve"),
    # --- Markets and settlements ---
    Tampering("the fee of a closed market", "UPDATE markets SET fee_bps = 400 WHERE id = 'closed'", "closed-markets-keep-their-bets", "closed"),
    Tampering("the fee of an open market", "UPDATE markets SET fee_bps = 400 WHERE id = 'open'", "markets-are-as-recorded", "open"),
    Tampering("the question", "UPDATE markets SET question = 'What else?' WHERE id = 'open'", "markets-are-as-recorded", "open"),
    Tampering("when it closes", "UPDATE markets SET closes_at = '2027-01-01 00:00:00' WHERE id = 'open'", "markets-are-as-recorded", "open"),
    Tampering("when it closed", "UPDATE markets SET closed_at = '2026-11-23 08:00:00' WHERE id = 'derby'", "markets-are-as-recorded", "derby"),
    Tampering("when it was resolved", "UPDATE markets SET resolved_at = '2026-11-23 08:00:00' WHERE id = 'derby'", "markets-are-as-recorded", "derby"),
    Tampering("an outcome renamed", "UPDATE outcomes SET name = 'Maybe' WHERE market_id = 'derby' AND number = 0", "markets-are-as-recorded", "derby"),
    Tampering("two outcomes swapped", "UPDATE outcomes SET name = 'x' WHERE market_id = 'derby' AND number = 0;UPDATE outcomes SET name = 'Yes' WHERE market_id = 'derby' AND number = 1;UPDATE outcomes SET name = 'No' WHERE market_id = 'derby' AND number = 0", "markets-are-as-recorded", "derby"),
    Tampering("the resolution of the market", "UPDATE markets SET resolution = replace(resolution, '[0]', '[1]') WHERE id = 'derby'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("the resolution of market and settlement", "UPDATE markets SET resolution = replace(resolution, '[0]', '[1]') WHERE id = 'derby';UPDATE settlements SET resolution = replace(resolution, '[0]', '[1]') WHERE market_id = 'derby'", "markets-are-as-recorded", "derby"),
    Tampering("the rules it was settled by", "UPDATE settlements SET rules = replace(rules, '500', '400') WHERE market_id = 'derby'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("the rules everywhere", "UPDATE settlements SET rules = replace(rules, '500', '400') WHERE market_id = 'derby';UPDATE markets SET fee_bps = 400 WHERE id = 'derby'", "markets-are-as-recorded", "derby"),
    Tampering("when it was settled", "UPDATE settlements SET settled_at = '2026-11-23 08:00:00' WHERE market_id = 'derby'", "rows-are-as-booked", "settle:derby:1"),
    Tampering("the plan's hash", "UPDATE settlements SET plan_hash = '00' WHERE market_id = 'derby'", "rows-are-as-booked", "settle:derby:1"),
    Tampering("when a payout was owed", "UPDATE payouts SET created_at = '2026-11-23 08:00:00' WHERE id = '{waiting}'", "payouts-are-as-recorded", "{waiting}"),
    Tampering("a payout taken away", "DELETE FROM payouts WHERE id = '{waiting}'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("a payout put in", "INSERT INTO payouts (id, market_id, settlement_no, number, user_id, kind, leg, amount_cents, wire_cents, status, tries, created_at, updated_at) SELECT id || '9', market_id, settlement_no, 999, 'loser', kind, leg, amount_cents, wire_cents, status, tries, created_at, updated_at FROM payouts WHERE id = '{waiting}'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("a bet taken away", "DELETE FROM bets WHERE id = '{collected_bet}'", "rows-are-as-booked", "bet:{collected_bet}"),
    Tampering("a bet put in", "INSERT INTO bets (id, market_id, outcome, user_id, stake_cents, funding, placed_at) SELECT 'ghost', market_id, outcome, user_id, stake_cents, funding, placed_at FROM bets WHERE id = '{open_bet}'", "open-pools-equal-stakes", "open/0"),
    Tampering("when a bet was placed", "UPDATE bets SET placed_at = '2026-11-23 08:00:00' WHERE id = '{open_bet}'", "rows-are-as-booked", "bet:{open_bet}"),
    Tampering("how a bet was paid", "UPDATE bets SET funding = 'collected' WHERE id = '{open_bet}'", "rows-are-as-booked", "bet:{open_bet}"),
    Tampering("a market taken away", "DELETE FROM outcomes WHERE market_id = 'spare';DELETE FROM markets WHERE id = 'spare'", "markets-are-as-recorded", "spare"),
    # --- Tax ---
    Tampering("the tax in a settlement", "UPDATE settlements SET tax_cents = tax_cents - 1 WHERE market_id = 'taxed'", "settlements-recompute", "taxed (settlement 1)"),
    Tampering("what was taxed", "UPDATE settlements SET taxed_cents = taxed_cents - 1 WHERE market_id = 'taxed'", "settlements-recompute", "taxed (settlement 1)"),
    Tampering("the rate of a duty", "UPDATE settlements SET duties = replace(duties, '1000', '900') WHERE market_id = 'taxed'", "settlements-recompute", "taxed (settlement 1)"),
    Tampering("the source of a duty", "UPDATE settlements SET duties = replace(duties, 'made up', 'the law') WHERE market_id = 'taxed'", "rows-are-as-booked", "settle:taxed:1"),
    Tampering("a duty taken away", "UPDATE settlements SET duties = NULL WHERE market_id = 'taxed'", "settlements-recompute", "taxed (settlement 1)"),
    Tampering("a duty put in", "UPDATE settlements SET duties = (SELECT other.duties FROM settlements other WHERE other.market_id = 'taxed') WHERE market_id = 'derby'", "settlements-recompute", "derby (settlement 1)"),
    Tampering("what is kept back of a payment", "UPDATE payouts SET withheld_cents = withheld_cents - 1 WHERE id = '{taxed}'", "settlements-recompute", "taxed (settlement 1)"),
    Tampering("a tax on winnings moved to another user", "UPDATE postings SET owner = 'loser' WHERE account = 'tax_withheld' AND entry_id = " + _entry("settle:taxed:1"), "settlements-recompute", "taxed (settlement 1)"),
    Tampering("a tax on a payment moved to another user", "UPDATE postings SET owner = 'loser' WHERE account = 'tax_withheld' AND entry_id = " + _entry("payout:{taxed}:deliver:{taxed_attempt}"), "withheld-equals-what-arrived", "loser"),
    Tampering("how much was paid to the authority", "UPDATE postings SET amount_cents = amount_cents * 2 WHERE entry_id = " + _entry("remit:PRN1"), "remittances-are-as-recorded", "remit:PRN1"),
    Tampering("for what it was paid", "UPDATE postings SET owner = 'withdrawals' WHERE account = 'tax_remitted'", "remittances-are-as-recorded", "remit:PRN1"),
    Tampering("a payment to the authority taken away", "DELETE FROM postings WHERE entry_id = " + _entry("remit:PRN1") + ";DELETE FROM entries WHERE key = 'remit:PRN1'", "remittances-are-as-recorded", "remit:PRN1"),
    # --- Incidents ---
    Tampering("an incident closed in silence", "UPDATE incidents SET closed_at = opened_at, closed_by = 'ann', close_reason = 'nothing to see' WHERE key = 'test:open'", "incidents-are-as-recorded", "{open_incident}"),
    Tampering("an incident closed by somebody else", "UPDATE incidents SET closed_by = 'somebody else' WHERE key = 'test:closed'", "incidents-are-as-recorded", "{closed_incident}"),
    Tampering("a closed incident opened again", "UPDATE incidents SET closed_at = NULL, closed_by = NULL, close_reason = NULL WHERE key = 'test:closed'", "incidents-are-as-recorded", "{closed_incident}"),
    Tampering("what an incident says", "UPDATE incidents SET what = 'Nothing.' WHERE key = 'test:open'", "incidents-are-as-recorded", "{open_incident}"),
    Tampering("an incident taken away", "DELETE FROM incidents WHERE key = 'test:open'", "incidents-are-as-recorded", "{open_incident}"),
    # --- The record, the books and the chain ---
    Tampering("who did it", "UPDATE events SET actor = 'somebody else' WHERE id = 2", "chain-holds", "event:2"),
    Tampering("why it was done", "UPDATE events SET reason = 'because' WHERE id = 2", "chain-holds", "event:2"),
    Tampering("when it was done", "UPDATE events SET at = '2026-11-23 08:00:00' WHERE id = 2", "chain-holds", "event:2"),
    Tampering("an event taken away", "DELETE FROM events WHERE id = 2", "chain-holds", "books:2"),
    Tampering("an event put in", "INSERT INTO events (id, at, actor, action, subject, reason, detail) SELECT 99999, at, actor, 'payout.release', '{held}', reason, detail FROM events WHERE id = 2", "chain-holds", "event:99999"),
    Tampering("an event with a digest that fits", "UPDATE events SET reason = 'because', digest = {other_body} WHERE id = 2", "chain-holds", "event:2"),
    Tampering("the key of an entry", "UPDATE entries SET key = 'deposit:OTHER' WHERE key = 'deposit:DEP0000002'", "chain-holds", "deposit:OTHER"),
    Tampering("the time of an entry", "UPDATE entries SET at = '2026-11-23 08:00:00' WHERE key = 'deposit:DEP0000002'", "chain-holds", "deposit:DEP0000002"),
    Tampering("the kind of an entry", "UPDATE entries SET kind = 'gift' WHERE key = 'deposit:DEP0000002'", "chain-holds", "deposit:DEP0000002"),
    Tampering("the facts of an entry", "UPDATE entries SET facts = NULL WHERE key = 'bet:{open_bet}'", "rows-are-as-booked", "bet:{open_bet}"),
    Tampering("an entry taken away", "DELETE FROM postings WHERE entry_id = 1;DELETE FROM entries WHERE id = 1", "chain-holds", "books:3"),
    Tampering("an entry put in", "INSERT INTO entries (id, key, kind, at) SELECT 99999, 'deposit:GIFT', kind, at FROM entries WHERE key = 'deposit:DEP0000001';INSERT INTO postings (entry_id, line, account, owner, amount_cents) SELECT 99999, line, account, owner, amount_cents FROM postings WHERE entry_id = " + _entry("deposit:DEP0000001"), "chain-holds", "deposit:GIFT"),
    Tampering("a credit that comes twice", "INSERT INTO entries (id, key, kind, at) SELECT 99999, key || ':2', kind, at FROM entries WHERE key = 'payout:{paid}:credit';INSERT INTO postings (entry_id, line, account, owner, amount_cents) SELECT 99999, line, account, owner, amount_cents FROM postings WHERE entry_id = " + _entry("payout:{paid}:credit"), "win-credited-once", "payout:{paid}:credit:2"),
    Tampering("a line split in two", "UPDATE postings SET amount_cents = amount_cents - 1 WHERE account = 'fee';INSERT INTO postings (entry_id, line, account, owner, amount_cents) SELECT entry_id, 99999, account, owner, 1 FROM postings WHERE account = 'fee' LIMIT 1", "chain-holds", "settle:derby:1"),
    Tampering("a link", "UPDATE links SET hash = digest WHERE chain = 'books' AND number = 5", "chain-holds", "books:5"),
    Tampering("a link taken away", "DELETE FROM links WHERE chain = 'books' AND number = 5", "chain-holds", "books:5"),
    Tampering("who we are", "UPDATE deployment SET deployment_id = 'other'", "chain-holds", "books:1"),
]  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A database with everything in it, open on one connection with nothing in the way."""

    builder: DataBuilder
    names: Mapping[str, str]
    heads: chain_check.Heads
    connection: Connection

    def checks(self, *, head: bool = False) -> dict[str, Check]:
        """The whole audit of what stands now."""
        with Session(self.connection, join_transaction_mode="create_savepoint") as session:
            kept = self.heads if head else None
            checks = check_all(session, deep=True, chain=True, head=kept, limit_per_check=1_000)
        return {check.name: check for check in checks}


def prepare(db: Database, clock: FixedClock) -> tuple[DataBuilder, dict[str, str]]:
    """A deployment in which everything has happened, and the names that the tamperings speak of."""
    actor = Actor("tester", "a test")
    builder = lively(DataBuilder(db, clock, actor))
    builder.user("moved")
    users.set_phone(OperationContext(db, clock, actor), user_id="moved", phone="0799000001")
    builder.market("spare")
    builder.market("stopped")
    builder.bets("stopped", {"held-winner": ("Yes", 100), "held-loser": ("No", 100)})
    builder.settle("stopped", "Yes")
    manual_decision.hold(OperationContext(db, clock, actor), payout_id=(held := builder.payout_of("held-winner").id))
    switches.pause(OperationContext(db, clock, actor))
    with db.transaction() as session:
        set_switch(session, "breaker", is_on=True, reason="a test", actor="tester", at=clock())
        for key in ("test:open", "test:closed"):
            raise_incident(session, key=key, kind="test", what="Something.", at=clock())
    with db.reading() as session:
        numbers = {key: number for number, key in session.execute(text("SELECT id, key FROM incidents")).all()}
    manual_decision.close_incidents(OperationContext(db, clock, actor), numbers=[numbers["test:closed"]])
    retried = retry.retry(OperationContext(db, clock, actor), only=[builder.payout_of("refused-winner").id])
    assert retried.retried
    markets.close_market(OperationContext(db, clock, actor), market="spare")
    builder.market("taxed")
    builder.bets("taxed", {"taxed-winner": ("Yes", 100), "taxed-loser": ("No", 100)})
    builder.settle("taxed", "Yes", duties=DutyBook((WINNINGS, WITHDRAWALS)))
    builder.accepted(sent := builder.intend("taxed-winner"))
    builder.paid(sent)
    taxes.remit(OperationContext(db, clock, actor), on=On.WINNINGS, cents=100, source="bank", reference="PRN1")
    names = {
        "taxed": builder.payout_of("taxed-winner").id,
        "taxed_attempt": sent,
        "held": held,
        "open_incident": f"incident:{numbers['test:open']}",
        "closed_incident": f"incident:{numbers['test:closed']}",
        "no_body": "X''" if db.is_sqlite else "''",
        "false": "0" if db.is_sqlite else "false",
        "other_body": "X'7b7d7b7d'" if db.is_sqlite else "'\\x7b7d7b7d'",
    }
    with db.reading() as session:
        for name, where in (
            ("open_bet", "cancelled_at IS NULL AND funding = 'wallet'"),
            ("collected_bet", "cancelled_at IS NULL AND funding = 'collected'"),
            ("cancelled_bet", "cancelled_at IS NOT NULL AND funding = 'wallet'"),
        ):
            query = f"SELECT id FROM bets WHERE market_id = 'open' AND {where}"
            names[name] = str(session.execute(text(query)).scalar_one())
        for way in WAYS:
            [payout] = payouts.list_payouts(session, user_id=f"{way}-winner")
            names[way] = payout.id
            for number, attempt in enumerate(attempts.list_attempts(session, payout.id), start=1):
                names["attempt" if not number else f"{way}_{'attempt' if number == 1 else 'second'}"] = attempt.id
                if number == 1:
                    names[f"{way}_receipt"] = str(attempt.receipt)
                    names[f"{way}_evidence"] = str(attempt.evidence)
        names["callback"] = names["paid_evidence"].removeprefix("callback:")
        names["other_callback"] = names["failed_evidence"].removeprefix("callback:")
    return builder, names


@pytest.fixture
def prepared(db: Database, clock: FixedClock) -> Iterator[Prepared]:
    builder, names = prepare(db, clock)
    with db.reading() as session:
        kept = replace(chain_check.heads_of(session, clock()), days=[])
    with db.engine.connect() as connection:
        if db.is_sqlite:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
            connection.commit()
            driver: Any = connection.connection.driver_connection
            driver.execute("ROLLBACK") if driver.in_transaction else None
            driver.execute("PRAGMA foreign_keys=OFF")
        else:
            connection.exec_driver_sql("SET session_replication_role = replica")
            connection.commit()
        yield Prepared(builder, names, kept, connection)


def _drop_triggers(connection: Connection) -> None:
    for table in APPEND_ONLY:
        if connection.dialect.name == "sqlite":
            for act in ("update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER {table}_append_only_{act}")
        else:
            connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER {table}_append_only")


def _tamper(prepared: Prepared, sql: str) -> None:
    for statement in sql.format(**prepared.names).split(";"):
        assert prepared.connection.exec_driver_sql(statement).rowcount, statement


def test_the_prepared_database_is_whole(prepared: Prepared) -> None:
    checks = prepared.checks(head=True)
    assert [(check.name, check.violations) for check in checks.values() if not check.ok] == []


@pytest.mark.exhaustive_on("sqlite")
def test_each_of_the_tamperings_is_found_and_named(prepared: Prepared) -> None:
    """On PostgreSQL every fourth, since each takes a whole audit."""
    chosen = TAMPERINGS if prepared.builder.db.is_sqlite else TAMPERINGS[::4]
    missed = []
    _drop_triggers(prepared.connection)
    for tampering in chosen:
        savepoint = prepared.connection.begin_nested()
        _tamper(prepared, tampering.sql)
        checks = prepared.checks()
        savepoint.rollback()
        told = {violation.subject for violation in checks[tampering.check].violations}
        if tampering.subject.format(**prepared.names) not in told:
            others = {
                name: check.violations[:2] for name, check in checks.items() if not check.ok and name[:4] != "what"
            }
            missed.append((tampering.what, tampering.check, told, others))
    assert not missed, missed[:3]


def test_there_are_at_least_sixty_tamperings() -> None:
    assert len({tampering.what for tampering in TAMPERINGS}) == len(TAMPERINGS) >= 60


def test_a_trigger_that_was_dropped_is_told_even_if_nothing_was_touched(prepared: Prepared) -> None:
    _drop_triggers(prepared.connection)
    checks = prepared.checks()
    told = {violation.subject for violation in checks["what-is-written-once-is-guarded"].violations}
    assert told == set(APPEND_ONLY)
    assert [name for name, check in checks.items() if not check.ok] == ["what-is-written-once-is-guarded"]


def test_a_tail_that_was_rewritten_with_all_its_digests_is_told_by_the_head(prepared: Prepared) -> None:
    """Somebody who knows how the chain is made edits the last event and writes the links anew."""
    connection = prepared.connection
    _drop_triggers(connection)
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        row = session.execute(text("SELECT id FROM events ORDER BY id DESC LIMIT 1")).scalar_one()
        session.execute(text("UPDATE events SET reason = 'rewritten' WHERE id = :id"), {"id": row})
        _rewrite(session)
        session.commit()
    checks = prepared.checks(head=True)
    assert checks["chain-holds"].ok
    assert [violation.subject for violation in checks[HEAD].violations] == [
        f"books:{head.number}" for head in prepared.heads.heads if head.chain == "books"
    ]


def _rewrite(session: Session) -> None:
    """Give every event and every link of the books the digest that it would have had."""
    before = hash_chain.first_hash("books", hash_chain.deployment_of(session))
    for link in session.exec(select(Link).where(col(Link.chain) == "books").order_by(col(Link.number))).all():
        leaves = []
        if link.kind == "events":
            for event in session.exec(select(Event).where(col(Event.id).between(link.first, link.last))).all():
                leaf = hash_chain.event_leaf(getattr(event, name) for name in hash_chain.EVENT_FACTS)
                session.execute(text("UPDATE events SET digest = :d WHERE id = :id"), {"d": leaf, "id": event.id})
                leaves.append(leaf)
        else:
            found = session.exec(select(EntryRow).where(col(EntryRow.id).between(link.first, link.last)))
            leaves = [entry.digest or b"" for entry in found]
        digest = hashlib.sha256(b"".join(leaves)).hexdigest()
        before = hash_chain.link_hash(
            before, hash_chain.LinkFacts("books", link.number, link.kind, link.first, link.last, link.at, digest)
        )
        session.execute(
            text("UPDATE links SET digest = :d, hash = :h WHERE chain = 'books' AND number = :n"),
            {"d": digest, "h": before, "n": link.number},
        )
