"""The schema refuses what must never be: each constraint, by its name, on both databases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, Connection, UniqueConstraint, text
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlmodel import SQLModel

from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import APPEND_ONLY

#: Rows are written as plain SQL: nothing of ours stands between them and the constraints.
NOON = "2026-11-23 09:00:00.000000"
LATER = "2026-11-23 09:00:01.000000"

Row = Mapping[str, Any]

#: A row of each table that the schema takes, in an order that foreign keys allow.
GOOD: dict[str, Row] = {
    "users": {"id": "ann", "name": "Ann", "phone": "254712345678", "created_at": NOON, "phone_set_at": NOON},
    "markets": {
        "id": "derby",
        "slug": "derby",
        "question": "Who wins?",
        "status": "RESOLVED",
        "closes_at": NOON,
        "closed_at": NOON,
        "fee_bps": 500,
        "rounding": "house",
        "break_unit_cents": 1,
        "dead_heat": "stake",
        "min_dividend": "none",
        "min_dividend_bps": 10_000,
        "rules_digest": "0",
        "bets_digest": "0",
        "resolved_at": NOON,
        "resolution": "{}",
        "created_at": NOON,
    },
    "outcomes": {"market_id": "derby", "number": 0, "name": "Yes"},
    "bets": {
        "id": "b1",
        "market_id": "derby",
        "outcome": 0,
        "user_id": "ann",
        "stake_cents": 100,
        "funding": "wallet",
        "placed_at": NOON,
        "cancelled_at": None,
    },
    "settlements": {
        "market_id": "derby",
        "number": 1,
        "gross_cents": 100,
        "fee_cents": 5,
        "net_cents": 95,
        "winning_stake_cents": 100,
        "winners": 1,
        "payouts_cents": 94,
        "refunds_cents": 0,
        "breakage_cents": 1,
        "top_up_cents": 0,
        "bets": 1,
        "rules": "{}",
        "resolution": "{}",
        "bets_digest": "0",
        "plan_hash": "0",
        "settled_at": NOON,
        "reversed_at": None,
    },
    "payouts": {
        "id": "derby.1.1",
        "market_id": "derby",
        "settlement_no": 1,
        "number": 1,
        "user_id": "ann",
        "kind": "PAYOUT",
        "leg": 1,
        "amount_cents": 14_250,
        "wire_cents": 14_200,
        "status": "SENT",
        "not_before": None,
        "tries": 0,
        "failure_code": None,
        "failure_reason": None,
        "note": None,
        "created_at": NOON,
        "updated_at": NOON,
    },
    "attempts": {
        "id": "ks-1",
        "payout_id": "derby.1.1",
        "number": 1,
        "status": "SUCCEEDED",
        "phone": "254712345678",
        "wire_cents": 14_200,
        "api": "v3",
        "sends": 1,
        "lease_token": "run",
        "lease_until": NOON,
        "sent_at": NOON,
        "conversation_id": "AG_1",
        "gateway_id": None,
        "receipt": "SKN1",
        "result_code": "0",
        "result_text": "paid",
        "evidence": "callback:1",
        "created_at": NOON,
        "status_at": NOON,
    },
    "callbacks": {
        "id": 1,
        "received_at": NOON,
        "route": "result",
        "subject": "ks-1",
        "signed": True,
        "source": "127.0.0.1",
        "body": b"{}",
        "applied_at": NOON,
        "verdict": "paid",
        "detail": None,
    },
    "queries": {
        "id": "q1",
        "kind": "STATUS",
        "attempt_id": "ks-1",
        "asked_at": NOON,
        "conversation_id": None,
        "answered_at": None,
        "answer": None,
        "detail": None,
    },
    "incidents": {
        "id": 1,
        "key": "late-success:ks-1",
        "kind": "late_success",
        "what": "It was paid after all.",
        "payout_id": None,
        "attempt_id": None,
        "callback_id": None,
        "opened_at": NOON,
        "closed_at": None,
        "closed_by": None,
        "close_reason": None,
        "last_at": NOON,
        "latest": "?",
    },
    "daraja_accounts": {
        "id": 1,
        "shortcode": "600999",
        "environment": "sandbox",
        "api_base": "https://sandbox.safaricom.co.ke",
        "first_seen_at": NOON,
    },
    "paces": {"account": "somebody", "per_1000_seconds": 5_000},
    "switches": {"name": "pause", "is_on": True, "reason": "a test", "actor": "tester", "at": NOON},
    "approvals": {
        "market_id": "derby",
        "settlement_no": 1,
        "plan_hash": "0",
        "settled_by": "ann",
        "approved_by": "joyce",
        "approved_at": NOON,
    },
    "float_readings": {
        "id": 1,
        "as_of": NOON,
        "noted_at": NOON,
        "query_id": None,
        "attempt_id": "ks-1",
        "utility_cents": 100,
        "working_cents": None,
        "charges_cents": -5,
    },
    "events": {"id": 1, "at": NOON, "actor": "tester", "action": "test", "subject": "x", "reason": "", "detail": "{}"},
    "statements": {
        "id": 1,
        "digest": "0",
        "name": "s.csv",
        "lines": 1,
        "covers_from": NOON,
        "covers_to": LATER,
        "is_whole": True,
        "actor": "ann",
        "taken_at": NOON,
    },
    "statement_lines": {
        "key": "0",
        "statement_id": 1,
        "line": 9,
        "receipt": "UKT0000001",
        "completed_at": NOON,
        "status": "completed",
        "kind": "other",
        "reason": "",
        "party": "",
        "paid_in_cents": 100,
        "withdrawn_cents": 0,
        "verdict": "unmatched-in",
        "why": "",
        "suspense_cents": 100,
    },
    "entries": {"id": 1, "key": "deposit:1", "kind": "deposit", "at": NOON},
    "postings": {"entry_id": 1, "line": 0, "account": "utility", "owner": "", "amount_cents": 100},
    "links": {
        "chain": "books",
        "number": 1,
        "kind": "entries",
        "first": 1,
        "last": 1,
        "at": NOON,
        "digest": "00",
        "hash": "00",
    },
}

#: A second attempt and a second payout that break nothing but what a case changes.
_LIVE = {"id": "ks-2", "number": 2, "receipt": None, "evidence": None, "status": "UNKNOWN"}

#: A reading that answers a question instead of coming with a result.
_ANSWER = {"attempt_id": None, "query_id": "q1"}

#: (constraint, table, what differs from the good row, the columns by which SQLite names a UNIQUE that refuses).
BAD: list[tuple[str, str, Row, str]] = [
    ("ck_users_phone_is_kenyan_and_whole", "users", {"id": "ben", "phone": "0712345678"}, ""),
    ("ck_users_phone_is_kenyan_and_whole", "users", {"id": "ben", "phone": "255712345678"}, ""),
    ("ck_deployment_there_is_one_deployment", "deployment", {"id": 2, "deployment_id": "x", "created_at": NOON}, ""),
    (
        "ck_deployment_closed_says_when_and_why",
        "deployment",
        {"id": 1, "deployment_id": "x", "created_at": NOON, "closed": "MOVED"},
        "",
    ),
    ("ck_markets_status_is_known", "markets", {"id": "m", "slug": "m", "status": "ENDED"}, ""),
    ("ck_markets_rounding_is_known", "markets", {"id": "m", "slug": "m", "rounding": "up"}, ""),
    ("ck_markets_dead_heat_is_known", "markets", {"id": "m", "slug": "m", "dead_heat": "coin"}, ""),
    ("ck_markets_min_dividend_is_known", "markets", {"id": "m", "slug": "m", "min_dividend": "all"}, ""),
    ("ck_markets_fee_is_at_most_the_pool", "markets", {"id": "m", "slug": "m", "fee_bps": 10_001}, ""),
    ("ck_markets_fee_is_at_most_the_pool", "markets", {"id": "m", "slug": "m", "fee_bps": -1}, ""),
    ("ck_markets_break_unit_is_positive", "markets", {"id": "m", "slug": "m", "break_unit_cents": 0}, ""),
    ("ck_markets_min_dividend_is_not_negative", "markets", {"id": "m", "slug": "m", "min_dividend_bps": -1}, ""),
    ("ck_markets_closed_means_it_has_a_closing_time", "markets", {"id": "m", "slug": "m", "closed_at": None}, ""),
    ("ck_markets_resolved_means_it_has_a_resolution", "markets", {"id": "m", "slug": "m", "resolution": None}, ""),
    ("ck_markets_closed_means_the_rules_are_frozen", "markets", {"id": "m", "slug": "m", "rules_digest": None}, ""),
    ("market_slug_is_unique", "markets", {"id": "m"}, "markets.slug"),
    ("outcome_name_is_unique_in_its_market", "outcomes", {"number": 1}, "outcomes.market_id, outcomes.name"),
    ("ck_bets_stake_is_positive", "bets", {"id": "b2", "stake_cents": 0}, ""),
    ("ck_bets_funding_is_known", "bets", {"id": "b2", "funding": "credit"}, ""),
    ("bet_is_on_an_outcome", "bets", {"id": "b2", "outcome": 7}, "FOREIGN KEY"),
    (
        "ck_settlements_net_is_payouts_and_breakage",
        "settlements",
        {"number": 2, "reversed_at": NOON, "payouts_cents": 95},
        "",
    ),
    (
        "ck_settlements_no_amount_is_negative",
        "settlements",
        {"number": 2, "reversed_at": NOON, "refunds_cents": -1},
        "",
    ),
    ("settlement_one_standing_per_market", "settlements", {"number": 2}, "settlements.market_id"),
    ("ck_payouts_status_is_known", "payouts", {"id": "p2", "leg": 2, "status": "DONE"}, ""),
    ("ck_payouts_kind_is_known", "payouts", {"id": "p2", "leg": 2, "kind": "GIFT"}, ""),
    (
        "ck_payouts_amount_is_positive",
        "payouts",
        {"id": "p2", "leg": 2, "amount_cents": 0, "wire_cents": 0, "status": "WALLET"},
        "",
    ),
    ("ck_payouts_wire_is_whole_shillings_of_it", "payouts", {"id": "p2", "leg": 2, "wire_cents": 14_300}, ""),
    ("ck_payouts_wire_is_whole_shillings_of_it", "payouts", {"id": "p2", "leg": 2, "wire_cents": 14_250}, ""),
    ("ck_payouts_withheld_is_left_of_the_amount", "payouts", {"id": "p2", "leg": 2, "withheld_cents": -1}, ""),
    ("ck_payouts_withheld_is_left_of_the_amount", "payouts", {"id": "p2", "leg": 2, "withheld_cents": 51}, ""),
    (
        "ck_settlements_tax_is_part_of_the_payouts",
        "settlements",
        {"number": 2, "reversed_at": NOON, "tax_cents": 10**9},
        "",
    ),
    (
        "ck_settlements_tax_is_part_of_the_payouts",
        "settlements",
        {"number": 2, "reversed_at": NOON, "tax_cents": -1},
        "",
    ),
    ("ck_payouts_only_what_can_be_carried_is_sent", "payouts", {"id": "p2", "leg": 2, "wire_cents": 0}, ""),
    ("ck_payouts_held_has_a_reason", "payouts", {"id": "p2", "leg": 2, "status": "HELD"}, ""),
    ("ck_payouts_failed_says_why", "payouts", {"id": "p2", "leg": 2, "status": "FAILED"}, ""),
    (
        "payout_is_owed_once",
        "payouts",
        {"id": "p2"},
        "payouts.market_id, payouts.settlement_no, payouts.user_id, payouts.kind, payouts.leg",
    ),
    ("payout_belongs_to_a_settlement", "payouts", {"id": "p2", "settlement_no": 7}, "FOREIGN KEY"),
    ("ck_attempts_status_is_known", "attempts", {"id": "ks-2", "number": 2, "status": "LOST", "receipt": None}, ""),
    ("ck_attempts_wire_is_whole_shillings", "attempts", {**_LIVE, "wire_cents": 150}, ""),
    ("ck_attempts_counting_starts_at_one", "attempts", {**_LIVE, "number": 0}, ""),
    ("ck_attempts_counting_starts_at_one", "attempts", {**_LIVE, "sends": 0}, ""),
    ("ck_attempts_attempt_paid_means_receipt", "attempts", {"id": "ks-2", "number": 2, "receipt": None}, ""),
    ("ck_attempts_attempt_paid_means_receipt", "attempts", {**_LIVE, "receipt": "SKN2"}, ""),
    (
        "ck_attempts_attempt_ended_means_evidence",
        "attempts",
        {"id": "ks-2", "number": 2, "receipt": "SKN2", "evidence": None},
        "",
    ),
    (
        "ck_attempts_attempt_accepted_means_acknowledged",
        "attempts",
        {**_LIVE, "status": "ACCEPTED", "conversation_id": None},
        "",
    ),
    (
        "attempt_number_is_unique_in_its_payout",
        "attempts",
        {**_LIVE, "number": 1},
        "attempts.payout_id, attempts.number",
    ),
    ("receipt_proves_one_attempt", "attempts", {"id": "ks-2", "number": 2}, "attempts.receipt"),
    ("ck_callbacks_applied_says_how", "callbacks", {"id": 2, "verdict": None}, ""),
    ("ck_daraja_accounts_environment_is_known", "daraja_accounts", {"id": 2, "environment": "moon"}, ""),
    (
        "account_is_known_once",
        "daraja_accounts",
        {"id": 2},
        "daraja_accounts.shortcode, daraja_accounts.environment, daraja_accounts.api_base",
    ),
    ("ck_queries_kind_is_known", "queries", {"id": "q2", "kind": "GOSSIP", "attempt_id": None}, ""),
    ("ck_queries_status_query_is_about_an_attempt", "queries", {"id": "q2", "attempt_id": None}, ""),
    ("ck_approvals_approved_says_when", "approvals", {"settlement_no": 2, "approved_at": None}, ""),
    ("ck_approvals_nobody_approves_their_own", "approvals", {"settlement_no": 2, "approved_by": " Ann "}, ""),
    (
        "ck_approvals_one_person_does_not_do_both",
        "approvals",
        {"settlement_no": 2, "settled_person": "joyce", "approved_person": "joyce"},
        "",
    ),
    ("approval_is_of_a_settlement", "approvals", {"settlement_no": 7}, "FOREIGN KEY"),
    ("ck_float_readings_reading_has_one_source", "float_readings", {"id": 2, "attempt_id": None}, ""),
    ("ck_float_readings_reading_has_one_source", "float_readings", {"id": 2, "query_id": "q1"}, ""),
    ("ck_float_readings_nothing_is_read_before_it_is_so", "float_readings", {"id": 2, "as_of": LATER}, ""),
    ("result_is_read_once", "float_readings", {"id": 2}, "float_readings.attempt_id"),
    (
        "query_is_read_once",
        "float_readings",
        {"id": 2, "attempt_id": None, "query_id": "q1"},
        "float_readings.query_id",
    ),
    ("ck_incidents_closed_says_by_whom", "incidents", {"id": 2, "key": "other", "closed_at": NOON}, ""),
    ("incident_stands_once", "incidents", {"id": 2}, "incidents.key"),
    ("ck_incidents_incident_was_raised", "incidents", {"id": 2, "key": "other", "count": 0}, ""),
    ("ck_paces_pace_is_positive", "paces", {"per_1000_seconds": 0}, ""),
    ("ck_switches_switch_is_known", "switches", {"name": "light"}, ""),
    ("ck_alerts_told_says_when", "alerts", {"key": "failed", "what": "?", "since": NOON, "told_at": NOON}, ""),
    (
        "ck_outbox_nobody_is_told_what_is_not_so_yet",
        "outbox",
        {"id": "market:derby", "version": 1, "told_version": 2},
        "",
    ),
    ("statement_is_taken_once", "statements", {"id": 2}, "statements.digest"),
    ("ck_statement_lines_no_amount_is_negative", "statement_lines", {"key": "1", "paid_in_cents": -1}, ""),
    ("ck_statement_lines_resolved_says_as_what", "statement_lines", {"key": "1", "resolved_at": NOON}, ""),
    (
        "ck_statement_lines_only_suspense_is_resolved",
        "statement_lines",
        {"key": "1", "suspense_cents": 0, "resolved_at": NOON, "resolution": "bank"},
        "",
    ),
    ("entry_is_posted_once", "entries", {"id": 2}, "entries.key"),
    ("ck_postings_posting_moves_something", "postings", {"line": 1, "amount_cents": 0}, ""),
    ("ck_links_chain_is_known", "links", {"chain": "gold"}, ""),
    ("ck_links_kind_is_known", "links", {"number": 2, "kind": "rumours"}, ""),
    ("ck_links_rows_are_in_order", "links", {"number": 2, "first": 2}, ""),
]


def _insert(connection: Connection, table: str, row: Row) -> None:
    columns = ", ".join(row)
    values = ", ".join(f":{column}" for column in row)
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), dict(row))


@pytest.fixture
def filled(db: Database) -> Database:
    """A database with one good row in each table."""
    with db.engine.begin() as connection:
        for table, row in GOOD.items():
            _insert(connection, table, row)
    return db


def test_every_bad_row_is_refused_by_the_constraint_that_names_it(filled: Database) -> None:
    with filled.engine.connect() as connection:
        _insert(connection, "float_readings", {**GOOD["float_readings"], "id": 9, **_ANSWER})
        for name, table, changes, columns in BAD:
            savepoint = connection.begin_nested()
            with pytest.raises(IntegrityError) as refused:
                _insert(connection, table, {**GOOD.get(table, {}), **changes})
            savepoint.rollback()
            expected = columns if filled.is_sqlite and columns else name
            assert expected in str(refused.value.orig), (name, changes)


def test_a_payout_has_at_most_one_attempt_that_may_still_move_money(filled: Database) -> None:
    with filled.engine.connect() as connection:
        _insert(connection, "attempts", {**GOOD["attempts"], **_LIVE})
        for status in ("INTENT", "ACCEPTED", "UNKNOWN"):
            savepoint = connection.begin_nested()
            with pytest.raises(IntegrityError) as refused:
                _insert(connection, "attempts", {**GOOD["attempts"], **_LIVE, "id": "x", "number": 3, "status": status})
            savepoint.rollback()
            expected = "attempts.payout_id" if filled.is_sqlite else "attempt_one_live_per_payout"
            assert expected in str(refused.value.orig)
        ended = {**GOOD["attempts"], **_LIVE, "id": "x", "number": 3, "status": "FAILED", "evidence": "callback:2"}
        _insert(connection, "attempts", ended)


def test_every_named_constraint_has_a_row_that_it_refuses() -> None:
    tested = {name for name, *_ in BAD} | {"attempt_one_live_per_payout"}
    named = set[str]()
    for table in SQLModel.metadata.sorted_tables:
        of_columns = {constraint for column in table.columns for constraint in column.constraints}
        named |= {
            str(constraint.name)
            for constraint in {*table.constraints, *of_columns}
            if isinstance(constraint, CheckConstraint | UniqueConstraint)
        }
        named |= {str(index.name) for index in table.indexes if index.unique}
    assert named == tested - {"bet_is_on_an_outcome", "payout_belongs_to_a_settlement", "approval_is_of_a_settlement"}


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("act", ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_books_and_the_record_of_acts_are_written_once(filled: Database, table: str, act: str) -> None:
    if table in ("postings", "links"):
        act = act.replace("id = id", "line = line" if table == "postings" else "hash = hash")
    if act.startswith("TRUNCATE"):
        if filled.is_sqlite:
            act = "DELETE FROM {}"  # SQLite has no TRUNCATE, and its DELETE of everything must not take a short cut
        else:
            act += " CASCADE"
    with filled.engine.connect() as connection, pytest.raises(DatabaseError) as refused:
        connection.execute(text(act.format(table)))
    told = {table} | ({"postings"} if "CASCADE" in act else set())
    assert any(f"{name} is append-only: post a new row instead" in str(refused.value.orig) for name in told)
    with filled.engine.connect() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 1
