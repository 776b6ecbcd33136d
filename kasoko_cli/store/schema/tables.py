"""Every table, with the constraints that make a wrong row impossible.

The schema refuses what must never be, on SQLite and PostgreSQL alike; the code only explains it.
Money is BIGINT cents. Times are UTC. States are words, held to their list by a CHECK. Every
constraint has a name that reads as a sentence, since the name is what an operator sees in an error.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlmodel import Field, SQLModel

from kasoko_cli.domain.market import DeadHeat, MarketStatus, MinDividend, Rounding
from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutKind, PayoutStatus
from kasoko_cli.store.schema.types import Counted, StoredWord, UtcTime, Whole

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Funding(StrEnum):
    """Where the stake of a bet came from."""

    COLLECTED = "collected"  #: the platform had already taken it from the bettor
    WALLET = "wallet"  #: it was taken from the user's wallet here


def one_of(column: str, words: Iterable[str], name: str) -> CheckConstraint:
    """A CHECK that holds a column to a list of words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


#: How long a salt is.
SALT_BYTES = 16


def new_salt() -> bytes:
    """Sixteen bytes of chance, to digest what a person may want to be forgotten."""
    return secrets.token_bytes(SALT_BYTES)


def new_salts(count: int) -> list[bytes]:
    """So many of them: the system is asked for chance once, which takes as long as for one."""
    chance = secrets.token_bytes(SALT_BYTES * count)
    return [chance[start : start + SALT_BYTES] for start in range(0, len(chance), SALT_BYTES)]


def new_batch() -> str:
    """A name for those who are taken in together."""
    return secrets.token_hex(8)


def _among(words: Iterable[str]) -> str:
    return "status IN ({})".format(", ".join(sorted(f"'{word}'" for word in words)))


#: The attempts whose fate is not known: their money is in flight.
LIVE_ATTEMPT = _among(LIVE)
#: Payouts that have come to an end, paid or not: monitoring counts them by when they did.
ENDED_PAYOUT = _among((PayoutStatus.COMPLETED, PayoutStatus.WALLET, PayoutStatus.FAILED, PayoutStatus.RETURNED))


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows for which `where` holds, on both databases."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


def _of_account() -> Any:
    """A column that names the account with M-Pesa; null is from before accounts were written down."""
    return Field(default=None, sa_column=Column(Whole, ForeignKey("daraja_accounts.id")))


class Deployment(SQLModel, table=True):
    """Who we are: one row, made with the database. Its id goes into every attempt's id.

    `mirror_since` is from when on the operator's platform is told of results; null where it is not. `account_id`
    is the account that pays now; null until the first payment.

    `closed` is why this database takes no writes: it is a copy that is not finished, or it has moved; null where it
    takes them. `copy_id` names the copy it was last a part of, and `elsewhere` is the other database of that.
    """

    __tablename__ = "deployment"
    __table_args__ = (CheckConstraint("id = 1", name="there_is_one_deployment"),)

    id: int = Field(default=1, primary_key=True)
    deployment_id: str
    created_at: datetime = Field(sa_type=UtcTime)
    mirror_since: datetime | None = Field(default=None, sa_type=UtcTime)
    account_id: int | None = _of_account()
    copy_id: str | None = None
    elsewhere: str | None = None
    closed_at: datetime | None = Field(default=None, sa_type=UtcTime)
    closed: str | None = Field(
        default=None,
        sa_column=Column(
            Text,
            CheckConstraint(
                "(closed IS NULL AND closed_at IS NULL) OR (closed IN ('COPYING', 'MOVED') AND closed_at IS NOT NULL"
                " AND copy_id IS NOT NULL AND elsewhere IS NOT NULL)",
                name="closed_says_when_and_why",
            ),
            nullable=True,
        ),
    )


class DarajaAccount(SQLModel, table=True):
    """An account with M-Pesa that this deployment has paid or asked with; `domain/payer.py` says what makes it one."""

    __tablename__ = "daraja_accounts"
    __table_args__ = (
        one_of("environment", ("sandbox", "production"), "environment_is_known"),
        UniqueConstraint("shortcode", "environment", "api_base", name="account_is_known_once"),
    )

    id: int | None = Field(default=None, sa_column=Column(Counted, primary_key=True))
    shortcode: str
    environment: str
    api_base: str
    first_seen_at: datetime = Field(sa_type=UtcTime)


class User(SQLModel, table=True):
    """Somebody who bets. `phone` is twelve digits, `2547...` or `2541...`.

    What the record says of name and phone is digested with `salt`, which goes when the person is erased.
    `seal` is that digest as it was when the user was taken in, together with the others of one `batch`.
    """

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("length(phone) = 12 AND phone LIKE '254%'", name="phone_is_kenyan_and_whole"),
        Index("ix_users_phone", "phone"),
        Index("ix_users_batch", "batch"),
    )

    id: str = Field(primary_key=True)
    name: str
    phone: str
    created_at: datetime = Field(sa_type=UtcTime)
    phone_set_at: datetime = Field(sa_type=UtcTime)
    salt: bytes | None = Field(default=None, sa_column=Column(LargeBinary, default=new_salt))
    seal: str | None = None
    batch: str | None = None
    erased_at: datetime | None = Field(default=None, sa_type=UtcTime)


class Market(SQLModel, table=True):
    """A question with outcomes, its rules, and who won."""

    __tablename__ = "markets"
    __table_args__ = (
        one_of("status", MarketStatus, "status_is_known"),
        one_of("rounding", Rounding, "rounding_is_known"),
        one_of("dead_heat", DeadHeat, "dead_heat_is_known"),
        one_of("min_dividend", MinDividend, "min_dividend_is_known"),
        CheckConstraint("fee_bps BETWEEN 0 AND 10000", name="fee_is_at_most_the_pool"),
        CheckConstraint("break_unit_cents > 0", name="break_unit_is_positive"),
        CheckConstraint("min_dividend_bps >= 0", name="min_dividend_is_not_negative"),
        CheckConstraint(
            "(status = 'OPEN') = (closed_at IS NULL) OR status = 'VOID'", name="closed_means_it_has_a_closing_time"
        ),
        CheckConstraint(
            "status NOT IN ('RESOLVED', 'VOID') OR (resolved_at IS NOT NULL AND resolution IS NOT NULL)",
            name="resolved_means_it_has_a_resolution",
        ),
        CheckConstraint("status = 'OPEN' OR rules_digest IS NOT NULL", name="closed_means_the_rules_are_frozen"),
        UniqueConstraint("slug", name="market_slug_is_unique"),
    )

    id: str = Field(primary_key=True)
    slug: str
    question: str
    status: MarketStatus = Field(default=MarketStatus.OPEN, sa_column=Column(StoredWord(MarketStatus), nullable=False))
    closes_at: datetime = Field(sa_type=UtcTime)
    closed_at: datetime | None = Field(default=None, sa_type=UtcTime)
    fee_bps: int
    rounding: Rounding = Field(default=Rounding.HOUSE, sa_column=Column(StoredWord(Rounding), nullable=False))
    break_unit_cents: int = Field(default=1, sa_type=Whole)
    dead_heat: DeadHeat = Field(default=DeadHeat.STAKE, sa_column=Column(StoredWord(DeadHeat), nullable=False))
    min_dividend: MinDividend = Field(
        default=MinDividend.NONE, sa_column=Column(StoredWord(MinDividend), nullable=False)
    )
    min_dividend_bps: int = 10_000
    rules_digest: str | None = None
    bets_digest: str | None = None
    resolved_at: datetime | None = Field(default=None, sa_type=UtcTime)
    resolution: str | None = None
    created_at: datetime = Field(sa_type=UtcTime)


class Outcome(SQLModel, table=True):
    """One answer to a market's question; numbered from 0 in the order given."""

    __tablename__ = "outcomes"
    __table_args__ = (UniqueConstraint("market_id", "name", name="outcome_name_is_unique_in_its_market"),)

    market_id: str = Field(primary_key=True, foreign_key="markets.id")
    number: int = Field(primary_key=True)
    name: str


class Bet(SQLModel, table=True):
    """A stake on one outcome. It is never edited; cancelling gives it a time."""

    __tablename__ = "bets"
    __table_args__ = (
        ForeignKeyConstraint(
            ["market_id", "outcome"], ["outcomes.market_id", "outcomes.number"], name="bet_is_on_an_outcome"
        ),
        one_of("funding", Funding, "funding_is_known"),
        CheckConstraint("stake_cents > 0", name="stake_is_positive"),
        Index("ix_bets_market_order", "market_id", "placed_at", "id"),
        Index("ix_bets_user", "user_id"),
    )

    id: str = Field(primary_key=True)
    market_id: str
    outcome: int
    user_id: str = Field(foreign_key="users.id")
    stake_cents: int = Field(sa_type=Whole)
    funding: Funding = Field(sa_column=Column(StoredWord(Funding), nullable=False))
    placed_at: datetime = Field(sa_type=UtcTime)
    cancelled_at: datetime | None = Field(default=None, sa_type=UtcTime)


class Settlement(SQLModel, table=True):
    """How one market's pool was divided, with the rules and the bets it was divided by."""

    __tablename__ = "settlements"
    __table_args__ = (
        CheckConstraint("payouts_cents + breakage_cents = net_cents", name="net_is_payouts_and_breakage"),
        CheckConstraint(
            "gross_cents >= 0 AND fee_cents >= 0 AND net_cents >= 0 AND payouts_cents >= 0"
            " AND refunds_cents >= 0 AND breakage_cents >= 0 AND top_up_cents >= 0",
            name="no_amount_is_negative",
        ),
        _partial("settlement_one_standing_per_market", "market_id", unique=True, where="reversed_at IS NULL"),
    )

    market_id: str = Field(primary_key=True, foreign_key="markets.id")
    number: int = Field(primary_key=True)
    gross_cents: int = Field(sa_type=Whole)
    fee_cents: int = Field(sa_type=Whole)
    net_cents: int = Field(sa_type=Whole)
    winning_stake_cents: int = Field(sa_type=Whole)
    winners: int
    payouts_cents: int = Field(sa_type=Whole)
    refunds_cents: int = Field(sa_type=Whole)
    breakage_cents: int = Field(sa_type=Whole)
    top_up_cents: int = Field(sa_type=Whole)
    bets: int
    rules: str
    resolution: str
    bets_digest: str
    plan_hash: str
    settled_at: datetime = Field(sa_type=UtcTime)
    reversed_at: datetime | None = Field(default=None, sa_type=UtcTime)
    #: The settlement that this one corrects by its differences; None where it divides a whole pool.
    corrects: int | None = None
    #: What of the payouts a duty on winnings taxed, and what it kept back of them.
    taxed_cents: int = Field(default=0, sa_column=Column(Whole, nullable=False, server_default="0"))
    tax_cents: int = Field(
        default=0,
        sa_column=Column(
            Whole,
            CheckConstraint(
                "tax_cents = 0 OR (tax_cents > 0 AND tax_cents <= payouts_cents)", name="tax_is_part_of_the_payouts"
            ),
            nullable=False,
            server_default="0",
        ),
    )
    #: The duties that it is under; None where none held on its day.
    duties: str | None = None


class Approval(SQLModel, table=True):
    """A settlement that a second person has to release, and who did: bound to the plan by its hash.

    Names are kept as they were given, and once more as they are compared (`domain/same_person.py`).
    """

    __tablename__ = "approvals"
    __table_args__ = (
        ForeignKeyConstraint(
            ["market_id", "settlement_no"],
            ["settlements.market_id", "settlements.number"],
            name="approval_is_of_a_settlement",
        ),
        CheckConstraint("(approved_by IS NULL) = (approved_at IS NULL)", name="approved_says_when"),
        CheckConstraint("lower(trim(approved_by)) <> lower(trim(settled_by))", name="nobody_approves_their_own"),
    )

    market_id: str = Field(primary_key=True)
    settlement_no: int = Field(primary_key=True)
    plan_hash: str
    settled_by: str
    approved_by: str | None = None
    approved_at: datetime | None = Field(default=None, sa_type=UtcTime)
    settled_person: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    approved_person: str | None = Field(
        default=None,
        sa_column=Column(
            Text,
            CheckConstraint("approved_person <> settled_person", name="one_person_does_not_do_both"),
            nullable=True,
        ),
    )


class Payout(SQLModel, table=True):
    """What is owed to one person for one settlement, or one leg of it.

    `wire_cents` is what M-Pesa carries, whole shillings. `withheld_cents` is what a duty on withdrawals keeps back
    for it, once it has arrived; the rest stays in the user's wallet.
    """

    __tablename__ = "payouts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["market_id", "settlement_no"],
            ["settlements.market_id", "settlements.number"],
            name="payout_belongs_to_a_settlement",
        ),
        one_of("status", PayoutStatus, "status_is_known"),
        one_of("kind", PayoutKind, "kind_is_known"),
        CheckConstraint("amount_cents > 0", name="amount_is_positive"),
        CheckConstraint(
            "wire_cents BETWEEN 0 AND amount_cents AND wire_cents % 100 = 0", name="wire_is_whole_shillings_of_it"
        ),
        CheckConstraint(
            "wire_cents > 0 OR status IN ('WALLET', 'AWAITING_APPROVAL', 'HELD', 'CANCELED')",
            name="only_what_can_be_carried_is_sent",
        ),
        CheckConstraint("status <> 'HELD' OR note IS NOT NULL", name="held_has_a_reason"),
        CheckConstraint("status <> 'FAILED' OR failure_code IS NOT NULL", name="failed_says_why"),
        UniqueConstraint("market_id", "settlement_no", "user_id", "kind", "leg", name="payout_is_owed_once"),
        Index("ix_payouts_market_status", "market_id", "status", "amount_cents"),
        _partial("ix_payouts_due", "created_at", "market_id", "number", where="status = 'PENDING'"),
        _partial("ix_payouts_due_small", "wire_cents", "created_at", "market_id", "number", where="status = 'PENDING'"),
        Index("ix_payouts_user", "user_id"),
        _partial("ix_payouts_ended", "updated_at", "status", "market_id", where=ENDED_PAYOUT),
    )

    id: str = Field(primary_key=True)
    market_id: str
    settlement_no: int
    number: int
    user_id: str = Field(foreign_key="users.id")
    kind: PayoutKind = Field(sa_column=Column(StoredWord(PayoutKind), nullable=False))
    leg: int
    amount_cents: int = Field(sa_type=Whole)
    wire_cents: int = Field(sa_type=Whole)
    status: PayoutStatus = Field(sa_column=Column(StoredWord(PayoutStatus), nullable=False))
    not_before: datetime | None = Field(default=None, sa_type=UtcTime)
    tries: int = 0
    failure_code: str | None = None
    failure_reason: str | None = None
    note: str | None = None
    created_at: datetime = Field(sa_type=UtcTime)
    updated_at: datetime = Field(sa_type=UtcTime)
    withheld_cents: int = Field(
        default=0,
        sa_column=Column(
            Whole,
            CheckConstraint(
                "withheld_cents = 0 OR (withheld_cents > 0 AND wire_cents + withheld_cents <= amount_cents)",
                name="withheld_is_left_of_the_amount",
            ),
            nullable=False,
            server_default="0",
        ),
    )


class Attempt(SQLModel, table=True):
    """One instruction to M-Pesa, under one id that is never used for anything else.

    `sends` counts how often the request was begun under this id; it passes 1 only where M-Pesa
    certainly never took the earlier ones. `lease_until` bounds how long the sender may take, and
    `lease_token` says which sender it was. `met_before` is M-Pesa's word that it met the id a second time: what it
    acknowledged then was the repeat, and words about the payment name the first.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        one_of("status", AttemptStatus, "status_is_known"),
        CheckConstraint("wire_cents > 0 AND wire_cents % 100 = 0", name="wire_is_whole_shillings"),
        CheckConstraint("sends > 0 AND number > 0", name="counting_starts_at_one"),
        CheckConstraint(
            "(status IN ('SUCCEEDED', 'RETURNED')) = (receipt IS NOT NULL)", name="attempt_paid_means_receipt"
        ),
        CheckConstraint(
            "status IN ('INTENT', 'ACCEPTED', 'UNKNOWN') OR evidence IS NOT NULL", name="attempt_ended_means_evidence"
        ),
        CheckConstraint(
            "status <> 'ACCEPTED' OR conversation_id IS NOT NULL", name="attempt_accepted_means_acknowledged"
        ),
        UniqueConstraint("payout_id", "number", name="attempt_number_is_unique_in_its_payout"),
        UniqueConstraint("receipt", name="receipt_proves_one_attempt"),
        _partial("attempt_one_live_per_payout", "payout_id", unique=True, where=LIVE_ATTEMPT),
        _partial("ix_attempts_live", "status", "status_at", where=LIVE_ATTEMPT),
        Index("ix_attempts_phone_day", "phone", "sent_at"),
        Index("ix_attempts_gateway_id", "gateway_id"),
    )

    id: str = Field(primary_key=True)
    payout_id: str = Field(foreign_key="payouts.id")
    number: int
    status: AttemptStatus = Field(sa_column=Column(StoredWord(AttemptStatus), nullable=False))
    phone: str
    wire_cents: int = Field(sa_type=Whole)
    api: str
    sends: int = 1
    lease_token: str
    lease_until: datetime = Field(sa_type=UtcTime)
    sent_at: datetime = Field(sa_type=UtcTime)
    conversation_id: str | None = None
    gateway_id: str | None = None
    receipt: str | None = None
    result_code: str | None = None
    result_text: str | None = None
    evidence: str | None = None
    created_at: datetime = Field(sa_type=UtcTime)
    status_at: datetime = Field(sa_type=UtcTime)
    account_id: int | None = _of_account()
    met_before: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=false()))


class Callback(SQLModel, table=True):
    """A body that somebody posted to the listener, as it came, credentials stripped.

    `signed` says that its URL carried the right MAC. `applied_at` is set once it has been judged;
    until then the next command takes it up. `digest` is that of the body with `salt`; it stays when the
    body is dropped, and the salt goes with the body.
    """

    __tablename__ = "callbacks"
    __table_args__ = (
        CheckConstraint("(applied_at IS NULL) = (verdict IS NULL)", name="applied_says_how"),
        _partial("ix_callbacks_waiting", "id", where="applied_at IS NULL"),
        # What is kept without our mark is counted whenever a listener starts.
        Index("ix_callbacks_hints", "id", sqlite_where=text("signed IS 0"), postgresql_where=text("signed IS false")),
        Index("ix_callbacks_subject", "subject"),
    )

    id: int | None = Field(default=None, sa_column=Column(Counted, primary_key=True))
    received_at: datetime = Field(sa_type=UtcTime)
    route: str
    subject: str
    signed: bool
    source: str
    body: bytes = Field(sa_type=LargeBinary)
    applied_at: datetime | None = Field(default=None, sa_type=UtcTime)
    verdict: str | None = None
    detail: str | None = None
    salt: bytes | None = Field(default=None, sa_type=LargeBinary)
    digest: bytes | None = Field(default=None, sa_type=LargeBinary)


class Query(SQLModel, table=True):
    """A question to M-Pesa: how did this attempt end, or what is in the account."""

    __tablename__ = "queries"
    __table_args__ = (
        one_of("kind", ("STATUS", "BALANCE"), "kind_is_known"),
        CheckConstraint("(kind = 'STATUS') = (attempt_id IS NOT NULL)", name="status_query_is_about_an_attempt"),
        Index("ix_queries_attempt", "attempt_id", "asked_at"),
    )

    id: str = Field(primary_key=True)
    kind: str
    attempt_id: str | None = Field(default=None, foreign_key="attempts.id")
    asked_at: datetime = Field(sa_type=UtcTime)
    conversation_id: str | None = None
    answered_at: datetime | None = Field(default=None, sa_type=UtcTime)
    answer: str | None = None
    detail: str | None = None
    account_id: int | None = _of_account()


class FloatReading(SQLModel, table=True):
    """What M-Pesa said is in its accounts: in the answer to a query, or by the way in a payment's result.

    Whose accounts they are its query or its attempt says.
    `as_of` is when M-Pesa says that it was so, never later than `noted_at`, when we took it down.
    """

    __tablename__ = "float_readings"
    __table_args__ = (
        CheckConstraint("(query_id IS NULL) <> (attempt_id IS NULL)", name="reading_has_one_source"),
        CheckConstraint("as_of <= noted_at", name="nothing_is_read_before_it_is_so"),
        UniqueConstraint("query_id", name="query_is_read_once"),
        UniqueConstraint("attempt_id", name="result_is_read_once"),
        Index("ix_float_readings_latest", "as_of", "utility_cents"),
    )

    id: int | None = Field(default=None, sa_column=Column(Counted, primary_key=True))
    as_of: datetime = Field(sa_type=UtcTime)
    noted_at: datetime = Field(sa_type=UtcTime)
    query_id: str | None = Field(default=None, foreign_key="queries.id")
    attempt_id: str | None = Field(default=None, foreign_key="attempts.id")
    utility_cents: int = Field(sa_type=Whole)
    working_cents: int | None = Field(default=None, sa_type=Whole)
    charges_cents: int | None = Field(default=None, sa_type=Whole)


class Incident(SQLModel, table=True):
    """Something a person has to look at; it stands until a person closes it.

    `key` says what it is about, and of which kind. `what` is the evidence that raised it; what came since is counted,
    and `latest` is the last of it. `answered_by` is the question to M-Pesa whose answer agrees with the books, where
    that is enough: it was asked after the latest evidence.
    """

    __tablename__ = "incidents"
    __table_args__ = (
        CheckConstraint("(closed_at IS NULL) = (closed_by IS NULL)", name="closed_says_by_whom"),
        CheckConstraint("count > 0", name="incident_was_raised"),
        _partial("incident_stands_once", "key", unique=True, where="closed_at IS NULL"),
    )

    id: int | None = Field(default=None, sa_column=Column(Counted, primary_key=True))
    key: str
    kind: str
    what: str
    payout_id: str | None = Field(default=None, foreign_key="payouts.id")
    attempt_id: str | None = Field(default=None, foreign_key="attempts.id")
    callback_id: int | None = Field(default=None, sa_column=Column(Whole, ForeignKey("callbacks.id")))
    opened_at: datetime = Field(sa_type=UtcTime)
    closed_at: datetime | None = Field(default=None, sa_type=UtcTime)
    closed_by: str | None = None
    close_reason: str | None = None
    count: int = Field(default=1, sa_column=Column(Whole, nullable=False, server_default="1"))
    last_at: datetime = Field(sa_type=UtcTime)
    latest: str
    latest_callback_id: int | None = Field(default=None, sa_column=Column(Whole, ForeignKey("callbacks.id")))
    answered_by: str | None = Field(default=None, foreign_key="queries.id")


class IncidentEvidence(SQLModel, table=True):
    """A piece of evidence for an incident, by what the incident is about: once it was dealt with, it raises no other.

    `evidence` is what it is, in short: the digest of a body, a receipt, the line of a statement.
    """

    __tablename__ = "incident_evidence"

    key: str = Field(primary_key=True)
    evidence: str = Field(primary_key=True)
    seen_at: datetime = Field(sa_type=UtcTime)


class Event(SQLModel, table=True):
    """Who did what to which thing, when and why. Append-only."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_subject", "subject"),)

    id: int | None = Field(default=None, sa_column=Column(Counted, primary_key=True))
    at: datetime = Field(sa_type=UtcTime)
    actor: str
    action: str
    subject: str
    reason: str = ""
    detail: str = "{}"
    digest: bytes | None = Field(default=None, sa_type=LargeBinary)


class Exchange(SQLModel, table=True):
    """One call to Daraja: what, when, how it was answered, how long it took; no secrets."""

    __tablename__ = "exchanges"
    __table_args__ = (
        Index("ix_exchanges_subject", "subject"),
        Index("ix_exchanges_at", "at", "latency_ms"),
        Index("ix_exchanges_latency", "kind", "http_status", "latency_ms"),
    )

    id: int | None = Field(default=None, sa_column=Column(Counted, primary_key=True))
    at: datetime = Field(sa_type=UtcTime)
    kind: str
    subject: str
    http_status: int | None = None
    outcome: str
    latency_ms: int
    request: str
    response: str


class Alert(SQLModel, table=True):
    """Something that is not well, and whether people were told of it.

    `told_mark` is how much of it they know; null while nobody knows. `claimed_until` bounds how long the process
    that is telling them may take.
    """

    __tablename__ = "alerts"
    __table_args__ = (CheckConstraint("(told_mark IS NULL) = (told_at IS NULL)", name="told_says_when"),)

    key: str = Field(primary_key=True)
    what: str
    since: datetime = Field(sa_type=UtcTime)
    told_mark: str | None = None
    told_at: datetime | None = Field(default=None, sa_type=UtcTime)
    claimed_until: datetime | None = Field(default=None, sa_type=UtcTime)


class Statement(SQLModel, table=True):
    """A statement of M-Pesa that was taken in, once; `done_at` is set when every line of it was.

    `account_id` is the account that it is of, where that is known.
    One that was taken back has `undone_at`, and no lines; it may be taken in again. `takes` counts how often it was.
    `covers_from` and `covers_to` are what it shows, not what it says of itself.
    """

    __tablename__ = "statements"
    __table_args__ = (UniqueConstraint("digest", name="statement_is_taken_once"),)

    id: int | None = Field(default=None, sa_column=Column(Counted, primary_key=True))
    digest: str
    name: str
    lines: int
    covers_from: datetime = Field(sa_type=UtcTime)
    covers_to: datetime = Field(sa_type=UtcTime)
    is_whole: bool
    opening_cents: int | None = Field(default=None, sa_type=Whole)
    closing_cents: int | None = Field(default=None, sa_type=Whole)
    actor: str
    taken_at: datetime = Field(sa_type=UtcTime)
    done_at: datetime | None = Field(default=None, sa_type=UtcTime)
    account_id: int | None = _of_account()
    takes: int = Field(default=1, sa_column=Column(Whole, nullable=False, server_default="1"))
    undone_at: datetime | None = Field(default=None, sa_type=UtcTime)


class StatementLine(SQLModel, table=True):
    """One movement of a statement, by a key that it has in every file; `party` is masked.

    `suspense_cents` is what of it matched nothing: in positive, out negative; it stands on the suspense
    account until a person says what it was.
    """

    __tablename__ = "statement_lines"
    __table_args__ = (
        CheckConstraint("paid_in_cents >= 0 AND withdrawn_cents >= 0", name="no_amount_is_negative"),
        CheckConstraint("(resolved_at IS NULL) = (resolution IS NULL)", name="resolved_says_as_what"),
        CheckConstraint("resolved_at IS NULL OR suspense_cents <> 0", name="only_suspense_is_resolved"),
        Index("ix_statement_lines_receipt", "receipt"),
        _partial("ix_statement_lines_in_suspense", "completed_at", where="suspense_cents <> 0 AND resolved_at IS NULL"),
    )

    key: str = Field(primary_key=True)
    statement_id: int = Field(sa_column=Column(Whole, ForeignKey("statements.id"), nullable=False))
    line: int
    receipt: str
    completed_at: datetime = Field(sa_type=UtcTime)
    status: str
    kind: str
    reason: str
    party: str
    paid_in_cents: int = Field(sa_type=Whole)
    withdrawn_cents: int = Field(sa_type=Whole)
    attempt_id: str | None = Field(default=None, foreign_key="attempts.id")
    verdict: str
    why: str
    suspense_cents: int = Field(default=0, sa_type=Whole)
    resolved_at: datetime | None = Field(default=None, sa_type=UtcTime)
    resolved_by: str | None = None
    resolution: str | None = None


class OutboxRow(SQLModel, table=True):
    """A market or a payout that the operator's platform is told of: how often it changed, how much of that it knows.

    Its id is `market:...` or `payout:...`. `version` grows with each change that a platform is told; what it is told
    is how the thing stands when it is told. `told_version` is the last that the platform has for certain.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        CheckConstraint("told_version <= version", name="nobody_is_told_what_is_not_so_yet"),
        _partial("ix_outbox_waiting", "version", "id", where="told_version < version"),
    )

    id: str = Field(primary_key=True)
    version: int = Field(sa_type=Whole)
    told_version: int = Field(default=0, sa_type=Whole)


class AccessToken(SQLModel, table=True):
    """The one token of a Daraja account, shared by every process and host; sealed with its secret."""

    __tablename__ = "access_tokens"

    account: str = Field(primary_key=True)
    sealed: bytes | None = Field(default=None, sa_type=LargeBinary)
    fetched_at: datetime | None = Field(default=None, sa_type=UtcTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcTime)
    refresher: str | None = None
    refresh_until: datetime | None = Field(default=None, sa_type=UtcTime)


class Switch(SQLModel, table=True):
    """A switch that all hosts heed: `pause` by a person, `breaker` by an account-level refusal."""

    __tablename__ = "switches"
    __table_args__ = (one_of("name", ("pause", "breaker"), "switch_is_known"),)

    name: str = Field(primary_key=True)
    is_on: bool
    reason: str
    actor: str
    at: datetime = Field(sa_type=UtcTime)


class RunRow(SQLModel, table=True):
    """A command at work: who runs it, where, on what, and when it was last heard of.

    `market` is empty where it works on all of them. `is_alone` says that the same work may have no second one.
    """

    __tablename__ = "runs"
    __table_args__ = (_partial("ix_runs_open", "started_at", where="ended_at IS NULL"),)

    id: str = Field(primary_key=True)
    command: str
    market: str = ""
    is_alone: bool
    host: str
    pid: int = Field(sa_type=Whole)
    actor: str
    started_at: datetime = Field(sa_type=UtcTime)
    heartbeat_at: datetime = Field(sa_type=UtcTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcTime)
    doing: str
    counts: str = "{}"


class PaceRow(SQLModel, table=True):
    """The one pace of a Daraja account, kept by all senders on all hosts.

    `next_at` is when the next request may begin. `per_1000_seconds` is the pace while M-Pesa has asked for a
    slower one, null at full pace; `changed_at` is when it last changed.
    """

    __tablename__ = "paces"
    __table_args__ = (CheckConstraint("per_1000_seconds > 0", name="pace_is_positive"),)

    account: str = Field(primary_key=True)
    next_at: datetime | None = Field(default=None, sa_type=UtcTime)
    per_1000_seconds: int | None = Field(default=None, sa_type=Whole)
    changed_at: datetime | None = Field(default=None, sa_type=UtcTime)


class EntryRow(SQLModel, table=True):
    """A balanced event in the books. Append-only; its key says what it is about, once.

    `facts` is a digest of the row that it is about, as that stood when the entry was posted
    (`store/engine/row_digests.py`);
    `digest` is one of the entry with its lines and its facts (`store/engine/hash_chain.py`).
    """

    __tablename__ = "entries"
    __table_args__ = (UniqueConstraint("key", name="entry_is_posted_once"),)

    id: int = Field(sa_column=Column(Counted, primary_key=True))
    key: str
    kind: str
    at: datetime = Field(sa_type=UtcTime)
    facts: bytes | None = Field(default=None, sa_type=LargeBinary)
    digest: bytes | None = Field(default=None, sa_type=LargeBinary)


class PostingRow(SQLModel, table=True):
    """One line of an entry: debit positive, credit negative. Append-only."""

    __tablename__ = "postings"
    __table_args__ = (
        CheckConstraint("amount_cents <> 0", name="posting_moves_something"),
        Index("ix_postings_account", "account", "owner", "amount_cents"),
    )

    entry_id: int = Field(sa_column=Column(Counted, ForeignKey("entries.id"), primary_key=True))
    line: int = Field(sa_column=Column(Integer, primary_key=True))
    account: str
    owner: str = ""
    amount_cents: int = Field(sa_type=Whole)


class Link(SQLModel, table=True):
    """What one transaction wrote of one kind: rows `first` to `last`, their digest, and the hash of it all.

    The hash takes in the hash of the link before, so that a chain has one head that speaks for all of it.
    """

    __tablename__ = "links"
    __table_args__ = (
        one_of("chain", ("books", "inbox"), "chain_is_known"),
        one_of("kind", ("entries", "events", "callbacks"), "kind_is_known"),
        CheckConstraint("first <= last", name="rows_are_in_order"),
    )

    chain: str = Field(primary_key=True)
    number: int = Field(sa_column=Column(Whole, primary_key=True))
    kind: str
    first: int = Field(sa_type=Whole)
    last: int = Field(sa_type=Whole)
    at: datetime = Field(sa_type=UtcTime)
    digest: str
    hash: str


#: Tables whose rows are never changed or removed; triggers refuse it on both databases.
APPEND_ONLY = ("entries", "postings", "events", "links")
