"""The first tables, the triggers that keep the books append-only, and who this deployment is."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from kasoko_cli.store.schema.types import UtcTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "access_tokens",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("fetched_at", UtcTime(), nullable=True),
        sa.Column("expires_at", UtcTime(), nullable=True),
        sa.Column("refresher", sa.Text(), nullable=True),
        sa.Column("refresh_until", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_access_tokens")),
    )
    op.create_table(
        "callbacks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("received_at", UtcTime(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("signed", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("applied_at", UtcTime(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.CheckConstraint("(applied_at IS NULL) = (verdict IS NULL)", name=op.f("ck_callbacks_applied_says_how")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_callbacks")),
    )
    op.create_index("ix_callbacks_subject", "callbacks", ["subject"], unique=False)
    op.create_index(
        "ix_callbacks_waiting",
        "callbacks",
        ["id"],
        unique=False,
        sqlite_where=sa.text("applied_at IS NULL"),
        postgresql_where=sa.text("applied_at IS NULL"),
    )
    op.create_table(
        "deployment",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_deployment_there_is_one_deployment")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
    )
    op.create_table(
        "entries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entries")),
        sa.UniqueConstraint("key", name="entry_is_posted_once"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_subject", "events", ["subject"], unique=False)
    op.create_table(
        "exchanges",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("latency_ms", sa.Integer(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchanges")),
    )
    op.create_index("ix_exchanges_at", "exchanges", ["at"], unique=False)
    op.create_index("ix_exchanges_subject", "exchanges", ["subject"], unique=False)
    op.create_table(
        "markets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("closes_at", UtcTime(), nullable=False),
        sa.Column("closed_at", UtcTime(), nullable=True),
        sa.Column("fee_bps", sa.Integer(), nullable=False),
        sa.Column("rounding", sa.Text(), nullable=False),
        sa.Column("break_unit_cents", sa.BigInteger(), nullable=False),
        sa.Column("dead_heat", sa.Text(), nullable=False),
        sa.Column("min_dividend", sa.Text(), nullable=False),
        sa.Column("min_dividend_bps", sa.Integer(), nullable=False),
        sa.Column("rules_digest", sa.Text(), nullable=True),
        sa.Column("bets_digest", sa.Text(), nullable=True),
        sa.Column("resolved_at", UtcTime(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.CheckConstraint(
            "(status = 'OPEN') = (closed_at IS NULL) OR status = 'VOID'",
            name=op.f("ck_markets_closed_means_it_has_a_closing_time"),
        ),
        sa.CheckConstraint("dead_heat IN ('stake', 'profit', 'pool')", name=op.f("ck_markets_dead_heat_is_known")),
        sa.CheckConstraint(
            "min_dividend IN ('none', 'cap_fee', 'house_topup')", name=op.f("ck_markets_min_dividend_is_known")
        ),
        sa.CheckConstraint("rounding IN ('house', 'largest')", name=op.f("ck_markets_rounding_is_known")),
        sa.CheckConstraint(
            "status = 'OPEN' OR rules_digest IS NOT NULL", name=op.f("ck_markets_closed_means_the_rules_are_frozen")
        ),
        sa.CheckConstraint("status IN ('OPEN', 'CLOSED', 'RESOLVED', 'VOID')", name=op.f("ck_markets_status_is_known")),
        sa.CheckConstraint(
            "status NOT IN ('RESOLVED', 'VOID') OR (resolved_at IS NOT NULL AND resolution IS NOT NULL)",
            name=op.f("ck_markets_resolved_means_it_has_a_resolution"),
        ),
        sa.CheckConstraint("break_unit_cents > 0", name=op.f("ck_markets_break_unit_is_positive")),
        sa.CheckConstraint("fee_bps BETWEEN 0 AND 10000", name=op.f("ck_markets_fee_is_at_most_the_pool")),
        sa.CheckConstraint("min_dividend_bps >= 0", name=op.f("ck_markets_min_dividend_is_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_markets")),
        sa.UniqueConstraint("slug", name="market_slug_is_unique"),
    )
    op.create_table(
        "switches",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.CheckConstraint("name IN ('pause', 'breaker')", name=op.f("ck_switches_switch_is_known")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_switches")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("phone_set_at", UtcTime(), nullable=False),
        sa.CheckConstraint("length(phone) = 12 AND phone LIKE '254%'", name=op.f("ck_users_phone_is_kenyan_and_whole")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
    )
    op.create_index("ix_users_phone", "users", ["phone"], unique=False)
    op.create_table(
        "outcomes",
        sa.Column("market_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["market_id"], ["markets.id"], name=op.f("fk_outcomes_market_id")),
        sa.PrimaryKeyConstraint("market_id", "number", name=op.f("pk_outcomes")),
        sa.UniqueConstraint("market_id", "name", name="outcome_name_is_unique_in_its_market"),
    )
    op.create_table(
        "postings",
        sa.Column("entry_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount_cents <> 0", name=op.f("ck_postings_posting_moves_something")),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name=op.f("fk_postings_entry_id")),
        sa.PrimaryKeyConstraint("entry_id", "line", name=op.f("pk_postings")),
    )
    op.create_index("ix_postings_account", "postings", ["account", "owner", "amount_cents"], unique=False)
    op.create_table(
        "settlements",
        sa.Column("market_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("gross_cents", sa.BigInteger(), nullable=False),
        sa.Column("fee_cents", sa.BigInteger(), nullable=False),
        sa.Column("net_cents", sa.BigInteger(), nullable=False),
        sa.Column("winning_stake_cents", sa.BigInteger(), nullable=False),
        sa.Column("winners", sa.Integer(), nullable=False),
        sa.Column("payouts_cents", sa.BigInteger(), nullable=False),
        sa.Column("refunds_cents", sa.BigInteger(), nullable=False),
        sa.Column("breakage_cents", sa.BigInteger(), nullable=False),
        sa.Column("top_up_cents", sa.BigInteger(), nullable=False),
        sa.Column("bets", sa.Integer(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.Column("bets_digest", sa.Text(), nullable=False),
        sa.Column("plan_hash", sa.Text(), nullable=False),
        sa.Column("settled_at", UtcTime(), nullable=False),
        sa.Column("reversed_at", UtcTime(), nullable=True),
        sa.CheckConstraint(
            "gross_cents >= 0 AND fee_cents >= 0 AND net_cents >= 0 AND payouts_cents >= 0 AND refunds_cents >= 0 AND breakage_cents >= 0 AND top_up_cents >= 0",
            name=op.f("ck_settlements_no_amount_is_negative"),
        ),
        sa.CheckConstraint(
            "payouts_cents + breakage_cents = net_cents", name=op.f("ck_settlements_net_is_payouts_and_breakage")
        ),
        sa.ForeignKeyConstraint(["market_id"], ["markets.id"], name=op.f("fk_settlements_market_id")),
        sa.PrimaryKeyConstraint("market_id", "number", name=op.f("pk_settlements")),
    )
    op.create_index(
        "settlement_one_standing_per_market",
        "settlements",
        ["market_id"],
        unique=True,
        sqlite_where=sa.text("reversed_at IS NULL"),
        postgresql_where=sa.text("reversed_at IS NULL"),
    )
    op.create_table(
        "bets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("market_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("stake_cents", sa.BigInteger(), nullable=False),
        sa.Column("funding", sa.Text(), nullable=False),
        sa.Column("placed_at", UtcTime(), nullable=False),
        sa.Column("cancelled_at", UtcTime(), nullable=True),
        sa.CheckConstraint("funding IN ('collected', 'wallet')", name=op.f("ck_bets_funding_is_known")),
        sa.CheckConstraint("stake_cents > 0", name=op.f("ck_bets_stake_is_positive")),
        sa.ForeignKeyConstraint(
            ["market_id", "outcome"], ["outcomes.market_id", "outcomes.number"], name="bet_is_on_an_outcome"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_bets_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bets")),
    )
    op.create_index("ix_bets_market_order", "bets", ["market_id", "placed_at", "id"], unique=False)
    op.create_index("ix_bets_user", "bets", ["user_id"], unique=False)
    op.create_table(
        "payouts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("market_id", sa.Text(), nullable=False),
        sa.Column("settlement_no", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("leg", sa.Integer(), nullable=False),
        sa.Column("amount_cents", sa.BigInteger(), nullable=False),
        sa.Column("wire_cents", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("not_before", UtcTime(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.CheckConstraint("kind IN ('PAYOUT', 'REFUND')", name=op.f("ck_payouts_kind_is_known")),
        sa.CheckConstraint("status <> 'FAILED' OR failure_code IS NOT NULL", name=op.f("ck_payouts_failed_says_why")),
        sa.CheckConstraint("status <> 'HELD' OR note IS NOT NULL", name=op.f("ck_payouts_held_has_a_reason")),
        sa.CheckConstraint(
            "status IN ('AWAITING_APPROVAL', 'HELD', 'PENDING', 'SENDING', 'SENT', 'UNKNOWN', 'COMPLETED', 'WALLET', 'FAILED', 'RETURNED', 'CANCELED')",
            name=op.f("ck_payouts_status_is_known"),
        ),
        sa.CheckConstraint(
            "wire_cents > 0 OR status IN ('WALLET', 'AWAITING_APPROVAL', 'HELD', 'CANCELED')",
            name=op.f("ck_payouts_only_what_can_be_carried_is_sent"),
        ),
        sa.CheckConstraint("amount_cents > 0", name=op.f("ck_payouts_amount_is_positive")),
        sa.CheckConstraint(
            "wire_cents BETWEEN 0 AND amount_cents AND wire_cents % 100 = 0",
            name=op.f("ck_payouts_wire_is_whole_shillings_of_it"),
        ),
        sa.ForeignKeyConstraint(
            ["market_id", "settlement_no"],
            ["settlements.market_id", "settlements.number"],
            name="payout_belongs_to_a_settlement",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_payouts_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payouts")),
        sa.UniqueConstraint("market_id", "settlement_no", "user_id", "kind", "leg", name="payout_is_owed_once"),
    )
    op.create_index(
        "ix_payouts_due",
        "payouts",
        ["created_at", "market_id", "number"],
        unique=False,
        sqlite_where=sa.text("status = 'PENDING'"),
        postgresql_where=sa.text("status = 'PENDING'"),
    )
    op.create_index("ix_payouts_market_status", "payouts", ["market_id", "status", "amount_cents"], unique=False)
    op.create_index("ix_payouts_user", "payouts", ["user_id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("payout_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("wire_cents", sa.BigInteger(), nullable=False),
        sa.Column("api", sa.Text(), nullable=False),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=False),
        sa.Column("lease_until", UtcTime(), nullable=False),
        sa.Column("sent_at", UtcTime(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=True),
        sa.Column("gateway_id", sa.Text(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("result_code", sa.Text(), nullable=True),
        sa.Column("result_text", sa.Text(), nullable=True),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("status_at", UtcTime(), nullable=False),
        sa.CheckConstraint(
            "(status IN ('SUCCEEDED', 'RETURNED')) = (receipt IS NOT NULL)",
            name=op.f("ck_attempts_attempt_paid_means_receipt"),
        ),
        sa.CheckConstraint(
            "status <> 'ACCEPTED' OR conversation_id IS NOT NULL",
            name=op.f("ck_attempts_attempt_accepted_means_acknowledged"),
        ),
        sa.CheckConstraint(
            "status IN ('INTENT', 'ACCEPTED', 'REJECTED', 'UNKNOWN', 'SUCCEEDED', 'FAILED', 'RETURNED')",
            name=op.f("ck_attempts_status_is_known"),
        ),
        sa.CheckConstraint(
            "status IN ('INTENT', 'ACCEPTED', 'UNKNOWN') OR evidence IS NOT NULL",
            name=op.f("ck_attempts_attempt_ended_means_evidence"),
        ),
        sa.CheckConstraint("sends > 0 AND number > 0", name=op.f("ck_attempts_counting_starts_at_one")),
        sa.CheckConstraint("wire_cents > 0 AND wire_cents % 100 = 0", name=op.f("ck_attempts_wire_is_whole_shillings")),
        sa.ForeignKeyConstraint(["payout_id"], ["payouts.id"], name=op.f("fk_attempts_payout_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("payout_id", "number", name="attempt_number_is_unique_in_its_payout"),
        sa.UniqueConstraint("receipt", name="receipt_proves_one_attempt"),
    )
    op.create_index(
        "attempt_one_live_per_payout",
        "attempts",
        ["payout_id"],
        unique=True,
        sqlite_where=sa.text("status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')"),
        postgresql_where=sa.text("status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')"),
    )
    op.create_index("ix_attempts_gateway_id", "attempts", ["gateway_id"], unique=False)
    op.create_index(
        "ix_attempts_live",
        "attempts",
        ["status", "status_at"],
        unique=False,
        sqlite_where=sa.text("status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')"),
        postgresql_where=sa.text("status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')"),
    )
    op.create_index("ix_attempts_phone_day", "attempts", ["phone", "sent_at"], unique=False)
    op.create_table(
        "incidents",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("payout_id", sa.Text(), nullable=True),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("callback_id", sa.BigInteger(), nullable=True),
        sa.Column("opened_at", UtcTime(), nullable=False),
        sa.Column("closed_at", UtcTime(), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("close_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("(closed_at IS NULL) = (closed_by IS NULL)", name=op.f("ck_incidents_closed_says_by_whom")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_incidents_attempt_id")),
        sa.ForeignKeyConstraint(["callback_id"], ["callbacks.id"], name=op.f("fk_incidents_callback_id")),
        sa.ForeignKeyConstraint(["payout_id"], ["payouts.id"], name=op.f("fk_incidents_payout_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
        sa.UniqueConstraint("key", name="incident_is_raised_once"),
    )
    op.create_table(
        "queries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("asked_at", UtcTime(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=True),
        sa.Column("answered_at", UtcTime(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'STATUS') = (attempt_id IS NOT NULL)", name=op.f("ck_queries_status_query_is_about_an_attempt")
        ),
        sa.CheckConstraint("kind IN ('STATUS', 'BALANCE')", name=op.f("ck_queries_kind_is_known")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_queries_attempt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queries")),
    )
    op.create_index("ix_queries_attempt", "queries", ["attempt_id", "asked_at"], unique=False)

    _refuse_changes()
    op.execute(
        sa.text("INSERT INTO deployment (id, deployment_id, created_at) VALUES (1, :name, :now)").bindparams(
            sa.bindparam("name", secrets.token_hex(8)), sa.bindparam("now", datetime.now(UTC), type_=UtcTime())
        )
    )


def downgrade() -> None:
    _allow_changes()
    op.drop_index("ix_queries_attempt", table_name="queries")
    op.drop_table("queries")
    op.drop_table("incidents")
    op.drop_index("ix_attempts_phone_day", table_name="attempts")
    op.drop_index(
        "ix_attempts_live",
        table_name="attempts",
        sqlite_where=sa.text("status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')"),
        postgresql_where=sa.text("status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')"),
    )
    op.drop_index("ix_attempts_gateway_id", table_name="attempts")
    op.drop_index(
        "attempt_one_live_per_payout",
        table_name="attempts",
        sqlite_where=sa.text("status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')"),
        postgresql_where=sa.text("status IN ('ACCEPTED', 'INTENT', 'UNKNOWN')"),
    )
    op.drop_table("attempts")
    op.drop_index("ix_payouts_user", table_name="payouts")
    op.drop_index("ix_payouts_market_status", table_name="payouts")
    op.drop_index(
        "ix_payouts_due",
        table_name="payouts",
        sqlite_where=sa.text("status = 'PENDING'"),
        postgresql_where=sa.text("status = 'PENDING'"),
    )
    op.drop_table("payouts")
    op.drop_index("ix_bets_user", table_name="bets")
    op.drop_index("ix_bets_market_order", table_name="bets")
    op.drop_table("bets")
    op.drop_index(
        "settlement_one_standing_per_market",
        table_name="settlements",
        sqlite_where=sa.text("reversed_at IS NULL"),
        postgresql_where=sa.text("reversed_at IS NULL"),
    )
    op.drop_table("settlements")
    op.drop_index("ix_postings_account", table_name="postings")
    op.drop_table("postings")
    op.drop_table("outcomes")
    op.drop_index("ix_users_phone", table_name="users")
    op.drop_table("users")
    op.drop_table("switches")
    op.drop_table("markets")
    op.drop_index("ix_exchanges_subject", table_name="exchanges")
    op.drop_index("ix_exchanges_at", table_name="exchanges")
    op.drop_table("exchanges")
    op.drop_index("ix_events_subject", table_name="events")
    op.drop_table("events")
    op.drop_table("entries")
    op.drop_table("deployment")
    op.drop_index(
        "ix_callbacks_waiting",
        table_name="callbacks",
        sqlite_where=sa.text("applied_at IS NULL"),
        postgresql_where=sa.text("applied_at IS NULL"),
    )
    op.drop_index("ix_callbacks_subject", table_name="callbacks")
    op.drop_table("callbacks")
    op.drop_table("access_tokens")


APPEND_ONLY = ("entries", "postings", "events")


def _refuse_changes() -> None:
    """Rows of the books and of the record of acts are written once: nobody edits or removes them."""
    postgres = op.get_bind().dialect.name == "postgresql"
    if postgres:
        op.execute(
            "CREATE FUNCTION kasoko_append_only() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION '% is append-only: post a new row instead', TG_TABLE_NAME; END $$"
        )
    for table in APPEND_ONLY:
        if postgres:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION kasoko_append_only()"
            )
            continue
        for act in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_append_only_{act} BEFORE {act.upper()} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only: post a new row instead'); END"
            )


def _allow_changes() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    for table in APPEND_ONLY:
        if postgres:
            op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
            continue
        for act in ("update", "delete"):
            op.execute(f"DROP TRIGGER {table}_append_only_{act}")
    if postgres:
        op.execute("DROP FUNCTION kasoko_append_only()")
