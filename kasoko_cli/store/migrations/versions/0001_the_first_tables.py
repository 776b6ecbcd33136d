"""The first tables, the triggers that keep the books append-only, and who this deployment is."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.migrations.ddl import allow_changes, create_index, create_table, refuse_changes
from kasoko_cli.store.schema.types import UtcTime

revision = "0001"
down_revision = None

#: Rows of the books and of the record of acts are written once.
APPEND_ONLY = ("entries", "postings", "events")


def upgrade() -> None:
    create_table(
        "access_tokens",
        "account text, sealed bytes?, fetched_at time?, expires_at time?, refresher text?, refresh_until time?",
        key="account",
    )
    create_table(
        "callbacks",
        "id counted, received_at time, route text, subject text, signed bool, source text, body bytes, "
        "applied_at time?, verdict text?, detail text?",
        checks={"applied_says_how": "(applied_at IS NULL) = (verdict IS NULL)"},
    )
    create_index("ix_callbacks_subject", "callbacks", "subject")
    create_index("ix_callbacks_waiting", "callbacks", "id", where="applied_at IS NULL")
    create_table(
        "deployment", "id int, deployment_id text, created_at time", checks={"there_is_one_deployment": "id = 1"}
    )
    create_table("entries", "id counted, key text, kind text, at time", unique={"entry_is_posted_once": "key"})
    create_table("events", "id counted, at time, actor text, action text, subject text, reason text, detail text")
    create_index("ix_events_subject", "events", "subject")
    create_table(
        "exchanges",
        "id counted, at time, kind text, subject text, http_status int?, outcome text, latency_ms int, request text, "
        "response text",
    )
    create_index("ix_exchanges_at", "exchanges", "at")
    create_index("ix_exchanges_subject", "exchanges", "subject")
    create_table(
        "markets",
        "id text, slug text, question text, status text, closes_at time, closed_at time?, fee_bps int, rounding text, "
        "break_unit_cents whole, dead_heat text, min_dividend text, min_dividend_bps int, rules_digest text?, "
        "bets_digest text?, resolved_at time?, resolution text?, created_at time",
        checks={
            "closed_means_it_has_a_closing_time": "(status = 'OPEN') = (closed_at IS NULL) OR status = 'VOID'",
            "dead_heat_is_known": "dead_heat IN ('stake', 'profit', 'pool')",
            "min_dividend_is_known": "min_dividend IN ('none', 'cap_fee', 'house_topup')",
            "rounding_is_known": "rounding IN ('house', 'largest')",
            "closed_means_the_rules_are_frozen": "status = 'OPEN' OR rules_digest IS NOT NULL",
            "status_is_known": "status IN ('OPEN', 'CLOSED', 'RESOLVED', 'VOID')",
            "resolved_means_it_has_a_resolution": (
                "status NOT IN ('RESOLVED', 'VOID') OR (resolved_at IS NOT NULL AND resolution IS NOT NULL)"
            ),
            "break_unit_is_positive": "break_unit_cents > 0",
            "fee_is_at_most_the_pool": "fee_bps BETWEEN 0 AND 10000",
            "min_dividend_is_not_negative": "min_dividend_bps >= 0",
        },
        unique={"market_slug_is_unique": "slug"},
    )
    create_table(
        "switches",
        "name text, is_on bool, reason text, actor text, at time",
        key="name",
        checks={"switch_is_known": "name IN ('pause', 'breaker')"},
    )
    create_table(
        "users",
        "id text, name text, phone text, created_at time, phone_set_at time",
        checks={"phone_is_kenyan_and_whole": "length(phone) = 12 AND phone LIKE '254%'"},
    )
    create_index("ix_users_phone", "users", "phone")
    create_table(
        "outcomes",
        "market_id text, number int, name text",
        key="market_id, number",
        refers={"market_id": "markets.id"},
        unique={"outcome_name_is_unique_in_its_market": "market_id, name"},
    )
    create_table(
        "postings",
        "entry_id counted, line int, account text, owner text, amount_cents whole",
        key="entry_id, line",
        checks={"posting_moves_something": "amount_cents <> 0"},
        refers={"entry_id": "entries.id"},
    )
    create_index("ix_postings_account", "postings", "account, owner, amount_cents")
    create_table(
        "settlements",
        "market_id text, number int, gross_cents whole, fee_cents whole, net_cents whole, winning_stake_cents whole, "
        "winners int, payouts_cents whole, refunds_cents whole, breakage_cents whole, top_up_cents whole, bets int, "
        "rules text, resolution text, bets_digest text, plan_hash text, settled_at time, reversed_at time?",
        key="market_id, number",
        checks={
            "no_amount_is_negative": (
                "gross_cents >= 0 AND fee_cents >= 0 AND net_cents >= 0 AND payouts_cents >= 0 AND refunds_cents >= 0 "
                "AND breakage_cents >= 0 AND top_up_cents >= 0"
            ),
            "net_is_payouts_and_breakage": "payouts_cents + breakage_cents = net_cents",
        },
        refers={"market_id": "markets.id"},
    )
    create_index(
        "settlement_one_standing_per_market", "settlements", "market_id", unique=True, where="reversed_at IS NULL"
    )
    create_table(
        "bets",
        "id text, market_id text, outcome int, user_id text, stake_cents whole, funding text, placed_at time, "
        "cancelled_at time?",
        checks={"funding_is_known": "funding IN ('collected', 'wallet')", "stake_is_positive": "stake_cents > 0"},
        refers={
            "bet_is_on_an_outcome: market_id, outcome": "outcomes.market_id, outcomes.number",
            "user_id": "users.id",
        },
    )
    create_index("ix_bets_market_order", "bets", "market_id, placed_at, id")
    create_index("ix_bets_user", "bets", "user_id")
    create_table(
        "payouts",
        "id text, market_id text, settlement_no int, number int, user_id text, kind text, leg int, amount_cents whole, "
        "wire_cents whole, status text, not_before time?, tries int, failure_code text?, failure_reason text?, "
        "note text?, created_at time, updated_at time",
        checks={
            "kind_is_known": "kind IN ('PAYOUT', 'REFUND')",
            "failed_says_why": "status <> 'FAILED' OR failure_code IS NOT NULL",
            "held_has_a_reason": "status <> 'HELD' OR note IS NOT NULL",
            "status_is_known": (
                "status IN ('AWAITING_APPROVAL', 'HELD', 'PENDING', 'SENDING', 'SENT', 'UNKNOWN', 'COMPLETED', "
                "'WALLET', 'FAILED', 'RETURNED', 'CANCELED')"
            ),
            "only_what_can_be_carried_is_sent": (
                "wire_cents > 0 OR status IN ('WALLET', 'AWAITING_APPROVAL', 'HELD', 'CANCELED')"
            ),
            "amount_is_positive": "amount_cents > 0",
            "wire_is_whole_shillings_of_it": "wire_cents BETWEEN 0 AND amount_cents AND wire_cents % 100 = 0",
        },
        refers={
            "payout_belongs_to_a_settlement: market_id, settlement_no": "settlements.market_id, settlements.number",
            "user_id": "users.id",
        },
        unique={"payout_is_owed_once": "market_id, settlement_no, user_id, kind, leg"},
    )
    create_index("ix_payouts_due", "payouts", "created_at, market_id, number", where="status = 'PENDING'")
    create_index("ix_payouts_market_status", "payouts", "market_id, status, amount_cents")
    create_index("ix_payouts_user", "payouts", "user_id")
    create_table(
        "attempts",
        "id text, payout_id text, number int, status text, phone text, wire_cents whole, api text, sends int, "
        "lease_token text, lease_until time, sent_at time, conversation_id text?, gateway_id text?, receipt text?, "
        "result_code text?, result_text text?, evidence text?, created_at time, status_at time",
        checks={
            "attempt_paid_means_receipt": "(status IN ('SUCCEEDED', 'RETURNED')) = (receipt IS NOT NULL)",
            "attempt_accepted_means_acknowledged": "status <> 'ACCEPTED' OR conversation_id IS NOT NULL",
            "status_is_known": (
                "status IN ('INTENT', 'ACCEPTED', 'REJECTED', 'UNKNOWN', 'SUCCEEDED', 'FAILED', 'RETURNED')"
            ),
            "attempt_ended_means_evidence": "status IN ('INTENT', 'ACCEPTED', 'UNKNOWN') OR evidence IS NOT NULL",
            "counting_starts_at_one": "sends > 0 AND number > 0",
            "wire_is_whole_shillings": "wire_cents > 0 AND wire_cents % 100 = 0",
        },
        refers={"payout_id": "payouts.id"},
        unique={"attempt_number_is_unique_in_its_payout": "payout_id, number", "receipt_proves_one_attempt": "receipt"},
    )
    create_index(
        "attempt_one_live_per_payout",
        "attempts",
        "payout_id",
        unique=True,
        where="status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')",
    )
    create_index("ix_attempts_gateway_id", "attempts", "gateway_id")
    create_index(
        "ix_attempts_live", "attempts", "status, status_at", where="status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')"
    )
    create_index("ix_attempts_phone_day", "attempts", "phone, sent_at")
    create_table(
        "incidents",
        "id counted, key text, kind text, what text, payout_id text?, attempt_id text?, callback_id whole?, "
        "opened_at time, closed_at time?, closed_by text?, close_reason text?",
        checks={"closed_says_by_whom": "(closed_at IS NULL) = (closed_by IS NULL)"},
        refers={"attempt_id": "attempts.id", "callback_id": "callbacks.id", "payout_id": "payouts.id"},
        unique={"incident_is_raised_once": "key"},
    )
    create_table(
        "queries",
        "id text, kind text, attempt_id text?, asked_at time, conversation_id text?, answered_at time?, answer text?, "
        "detail text?",
        checks={
            "status_query_is_about_an_attempt": "(kind = 'STATUS') = (attempt_id IS NOT NULL)",
            "kind_is_known": "kind IN ('STATUS', 'BALANCE')",
        },
        refers={"attempt_id": "attempts.id"},
    )
    create_index("ix_queries_attempt", "queries", "attempt_id, asked_at")

    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION kasoko_append_only() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION '% is append-only: post a new row instead', TG_TABLE_NAME; END $$"
        )
    refuse_changes(*APPEND_ONLY)
    op.execute(
        sa.text("INSERT INTO deployment (id, deployment_id, created_at) VALUES (1, :name, :now)").bindparams(
            sa.bindparam("name", secrets.token_hex(8)), sa.bindparam("now", datetime.now(UTC), type_=UtcTime())
        )
    )


def downgrade() -> None:
    allow_changes(*APPEND_ONLY)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION kasoko_append_only()")
    tables = (
        "queries incidents attempts payouts bets settlements postings outcomes users"
        " switches markets exchanges events entries deployment callbacks access_tokens"
    )
    for table in tables.split():
        op.drop_table(table)
