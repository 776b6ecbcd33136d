"""A person is forgotten, and the books, the record and the chain stay whole."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import LargeBinary, String, text
from sqlmodel import SQLModel

from kasoko_cli.domain.market import Resolution
from kasoko_cli.errors import Refused
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.exchange import export
from kasoko_cli.operations.exchange.export import RecordKind
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.reconciliation import statement_import
from kasoko_cli.operations.records import privacy, users
from kasoko_cli.operations.reporting import finance
from kasoko_cli.operations.settlement import correction, settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.record_files import Format
from kasoko_cli.store import attempts
from kasoko_cli.store.schema.tables import Exchange
from tests.operations.data_builder import LIMITS, DataBuilder, refusal
from tests.operations.paper import Paper
from tests.operations.payout_harness import ANN, PayoutHarness

PHONE = "254712345678"
NAME = "Wanjiku Otieno"


@pytest.fixture
def paid(builder: DataBuilder) -> DataBuilder:
    """Ann won and was paid; her name and her phone stand wherever they can."""
    users.add_user(builder.context, user_id="ann", name=NAME, phone=PHONE)
    builder.deposit("ann", 100_00)
    builder.user("ben", deposit_kes=100)
    builder.market("rain")
    builder.bet("rain", "ann", "Yes", kes=100)
    builder.bet("rain", "ben", "No", kes=100)
    builder.settle("rain", "Yes")
    attempt = builder.intend("ann")
    with builder.db.transaction() as session:
        now = builder.clock()
        body = json.dumps({"PartyB": PHONE, "ReceiverPartyPublicName": f"{PHONE} - {NAME}"})
        session.add(
            Exchange(at=now, kind="b2c", subject=attempt, outcome="taken", latency_ms=1, request=body, response=body)
        )
    builder.accepted(attempt)
    builder.paid(attempt, body=body.encode())
    return builder


def _everything(builder: DataBuilder) -> str:
    """Every value of every table, as text."""
    found = []
    with builder.db.reading() as session:
        for table in SQLModel.metadata.sorted_tables:
            found += [repr(tuple(row)) for row in session.execute(text(f"SELECT * FROM {table.name}"))]
    return "\n".join(found)


def test_an_erased_person_stands_nowhere_and_the_audit_is_whole(paid: DataBuilder) -> None:
    before = _everything(paid)
    assert PHONE in before
    assert NAME in before
    done = privacy.erase(paid.context, user_id="ann")
    assert (done.is_new, done.attempts, done.callbacks, done.calls) == (True, 1, 1, 1)
    after = _everything(paid)
    assert PHONE not in after
    assert NAME not in after
    assert "712345678" not in after
    report = audit(paid.db, paid.clock, deep=True, chain=True)
    assert [(check.name, check.violations) for check in report.checks if not check.ok] == []
    assert not privacy.erase(paid.context, user_id="ann").is_new
    assert users.show_user(paid.db, "ann").name == "erased"


@pytest.mark.parametrize("whole", [False, True])
def test_an_erased_persons_number_is_shown_nowhere_as_if_it_were_one(paid: DataBuilder, *, whole: bool) -> None:
    privacy.erase(paid.context, user_id="ann")
    [row] = finance.settlement_sheet(paid.db, "rain", show_phone=whole).rows
    [line] = [one for one in users.list_users(paid.db) if one.id == "ann"]
    assert [users.show_user(paid.db, "ann").phone, line.phone, row.phone] == ["****"] * 3
    for kind in (RecordKind.USERS, RecordKind.PAYOUTS):
        written: list[str] = []
        export.export(paid.db, kind, Format.CSV, written.append, show_phone=whole)
        assert "****" in "".join(written)
        assert "254000" not in "".join(written)


def test_nobody_is_erased_while_money_is_open(paid: DataBuilder) -> None:
    actor = Actor("tester", "asked for it")
    paid.deposit("ben", 50_00)
    told, _ = refusal(lambda: privacy.erase(OperationContext(paid.db, paid.clock, actor), user_id="ben"), Refused)
    assert told == "ben was not erased: KES 50.00 stand in the wallet. Nothing was changed."
    paid.market("snow")
    paid.bet("snow", "ben", "Yes", kes=50)
    told, _ = refusal(lambda: privacy.erase(OperationContext(paid.db, paid.clock, actor), user_id="ben"), Refused)
    assert told == "ben was not erased: a bet stands on snow, which is not settled. Nothing was changed."
    paid.settle("snow", "Yes")
    told, _ = refusal(lambda: privacy.erase(OperationContext(paid.db, paid.clock, actor), user_id="ben"), Refused)
    assert told == "ben was not erased: the payout snow.1.1 is PENDING. Nothing was changed."
    told, _ = refusal(
        lambda: privacy.erase(OperationContext(paid.db, paid.clock, Actor("tester")), user_id="ann"), Refused
    )
    assert told == "Erasing a person needs a reason, for whoever reads the record. Nothing was changed."
    assert NAME in _everything(paid)


def test_what_is_old_is_emptied_and_the_audit_is_whole(paid: DataBuilder) -> None:
    assert privacy.expire(paid.context, days=30).callbacks == 0
    paid.clock.forward(days=31)
    done = privacy.expire(paid.context, days=30)
    assert (done.callbacks, done.calls) == (1, 1)
    assert privacy.expire(paid.context, days=30).callbacks == 0
    assert audit(paid.db, paid.clock, deep=True, chain=True).ok


def test_one_person_gets_all_that_is_known_of_them(paid: DataBuilder) -> None:
    known = privacy.data_of(paid.context, user_id="ann")
    assert known["user"]["phone"] == PHONE
    assert [bet["user_id"] for bet in known["bets"]] == ["ann"]
    assert [payout["user_id"] for payout in known["payouts"]] == ["ann"]
    assert len(known["attempts"]) == len(known["results"]) == 1
    with paid.db.reading() as session:
        asked = session.execute(text("SELECT actor FROM events WHERE action = 'user.export'")).scalars().all()
    assert asked == ["tester"]


# --- Everywhere that a person could stand -----------------------------------------------------------------------------

#: Columns that say who somebody is; erasing empties them.
OF_A_PERSON = {
    *("users.name", "users.phone", "users.salt", "attempts.phone", "statement_lines.party"),
    *("callbacks.body", "callbacks.salt", "exchanges.request", "exchanges.response"),
}
#: Texts by people or from M-Pesa: phones in them are masked before they are written.
MASKED_WHEN_WRITTEN = {
    *("events.reason", "events.detail", "incidents.what", "incidents.close_reason", "switches.reason", "alerts.what"),
    *("payouts.note", "payouts.failure_reason", "attempts.result_text", "attempts.evidence", "callbacks.detail"),
    *("queries.answer", "queries.detail", "exchanges.outcome", "runs.doing", "runs.counts", "statements.name"),
    *("statement_lines.reason", "statement_lines.why", "statement_lines.resolution", "incidents.latest"),
}
#: Ids, words of ours, digests, addresses, operators' names and what a market asks: nobody who bets stands there.
OF_NOBODY = {
    *("access_tokens.account", "access_tokens.sealed", "access_tokens.refresher", "alerts.key", "alerts.told_mark"),
    *("callbacks.route", "callbacks.subject", "callbacks.source", "callbacks.verdict", "callbacks.digest"),
    *("daraja_accounts.shortcode", "daraja_accounts.environment", "daraja_accounts.api_base"),
    *("deployment.deployment_id", "deployment.copy_id", "deployment.elsewhere", "deployment.closed"),
    *("entries.key", "entries.kind", "entries.facts", "entries.digest"),
    *("events.actor", "events.action", "events.subject", "events.digest", "exchanges.kind", "exchanges.subject"),
    *("links.chain", "links.kind", "links.digest", "links.hash", "markets.id", "markets.slug", "markets.question"),
    *("markets.status", "markets.rounding", "markets.dead_heat", "markets.min_dividend", "markets.rules_digest"),
    *("markets.bets_digest", "markets.resolution", "outbox.id", "paces.account", "runs.id", "runs.command"),
    *("runs.market", "runs.host", "runs.actor", "statements.digest", "statements.actor", "switches.name"),
    *("switches.actor", "users.id", "users.seal", "users.batch", "outcomes.market_id", "outcomes.name"),
    *("postings.account", "postings.owner", "settlements.market_id", "settlements.rules", "settlements.resolution"),
    *("settlements.bets_digest", "settlements.plan_hash", "settlements.duties", "approvals.market_id"),
    *("approvals.plan_hash", "approvals.settled_by", "approvals.approved_by", "bets.id", "bets.market_id"),
    *("approvals.settled_person", "approvals.approved_person", "incidents.answered_by"),
    *("incident_evidence.key", "incident_evidence.evidence"),
    *("bets.user_id", "bets.funding", "payouts.id", "payouts.market_id", "payouts.user_id", "payouts.kind"),
    *("payouts.status", "payouts.failure_code", "attempts.id", "attempts.payout_id", "attempts.status"),
    *("attempts.api", "attempts.lease_token", "attempts.conversation_id", "attempts.gateway_id", "attempts.receipt"),
    *("attempts.result_code", "incidents.key", "incidents.kind", "incidents.payout_id", "incidents.attempt_id"),
    *("incidents.closed_by", "queries.id", "queries.kind", "queries.attempt_id", "queries.conversation_id"),
    *("statement_lines.key", "statement_lines.receipt", "statement_lines.status", "statement_lines.kind"),
    *("statement_lines.attempt_id", "statement_lines.verdict", "statement_lines.resolved_by"),
    *("float_readings.query_id", "float_readings.attempt_id"),
}


def test_of_every_column_that_can_hold_a_text_it_is_known_whether_a_person_stands_there() -> None:
    """A new column fails here until somebody has thought of it, and `user erase` with them."""
    texts = {
        f"{table.name}.{column.name}"
        for table in SQLModel.metadata.sorted_tables
        for column in table.columns
        if isinstance(getattr(column.type, "impl_instance", column.type), LargeBinary | String)
    }
    assert texts == OF_A_PERSON | MASKED_WHEN_WRITTEN | OF_NOBODY
    assert len(texts) == len(OF_A_PERSON) + len(MASKED_WHEN_WRITTEN) + len(OF_NOBODY)


def test_a_phone_that_people_wrote_into_reasons_and_a_statement_is_nowhere_once_its_owner_is_erased(
    paid: DataBuilder,
) -> None:
    """Whoever gives a reason writes what comes to mind; the record cannot be changed later, so it is masked now."""
    told = Actor("tester", f"she rang from {PHONE}, or +254 712 345 678, or 0712-345-678")
    with paid.db.reading() as session:
        [attempt] = attempts.list_attempts(session, paid.payout_of("ann").id)
        session.expunge(attempt)
    paper = Paper().covering([paid.clock()])
    paper.line(attempt.receipt or "", paid.clock(), withdrawn=attempt.wire_cents, phone=PHONE)
    paper.line("UKX0000001", paid.clock(), withdrawn=7_00, phone=PHONE, reason=f"Business Payment to {PHONE}")
    statement_import.take_statement(
        OperationContext(paid.db, paid.clock, told),
        paper.read(),
        statement_import.StatementRules(shortcode="600000", customers_are_counted=False),
    )
    statement_import.resolve_suspense(
        OperationContext(paid.db, paid.clock, told), name="UKX0000001", resolution="write-off"
    )
    switches.pause(OperationContext(paid.db, paid.clock, told))
    paid.deposit("ben", 1_00)
    privacy.erase(OperationContext(paid.db, paid.clock, told), user_id="ann")
    after = _everything(paid)
    for spelt in (PHONE, "712345678", "712 345 678", "712-345-678", NAME):
        assert spelt not in after, spelt
    lines = [row for row in after.splitlines() if attempt.receipt and f"'{attempt.receipt}'" in row]
    assert lines
    assert not any("2547****5678" in row for row in lines), "not even its ends stand beside what was paid to it"
    report = audit(paid.db, paid.clock, deep=True, chain=True)
    assert [(check.name, check.violations) for check in report.checks if not check.ok] == []


def test_an_override_pays_nobody_who_was_erased(harness: PayoutHarness) -> None:
    """The loser was forgotten, and another outcome owes them: that is held, and the audit stays whole."""
    harness.owe({"ann": ANN})
    privacy.erase(OperationContext(harness.db, harness.clock, Actor("tester", "a letter")), user_id="loser")
    correction.override(
        OperationContext(harness.db, harness.clock, Actor("ann at the desk", "read wrongly")),
        correction.OverridePolicy(LIMITS),
        market="derby",
        resolution=Resolution(winners=(1,)),
    )
    settle.settle_market(harness.context, LIMITS, market="derby")
    run = harness.send()
    assert ([one.user_id for one in run.sent], run.held) == ([], 1)
    owed = harness.payout("loser")
    assert (str(owed.status), (owed.note or "").startswith("loser was erased, and has no number")) == ("HELD", True)
    assert harness.ledger() == []
    assert audit(harness.db, harness.clock, deep=True, chain=True).ok
