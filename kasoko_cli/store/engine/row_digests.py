"""What an entry is about, as it stood when the entry was posted: a digest of the row behind its key.

An entry moves money because a row says so: a bet, a settlement, an attempt with its phone, its receipt and its
evidence. The digest of that row goes into the entry, and with it into the chain; so a row that is edited later
contradicts the books, whoever edits it. The same function makes the digest when an entry is posted and when it
is audited.

A phone is digested with its user's salt. Once the person is erased the salt is gone and the attempt keeps the
digest in place of the phone, so that the facts still hold and nobody can find the number from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlmodel import Session, col

from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.store.engine.bulk_rows import BET_COLUMNS, bytewise, streamed
from kasoko_cli.store.engine.hash_chain import canonical, sealed, stamp
from kasoko_cli.store.engine.locking import MANY, chunks
from kasoko_cli.store.schema.tables import Attempt, Bet, Callback, Market, Outcome, Payout, Query, Settlement, User

#: What stands before the digest that an attempt keeps in place of an erased phone.
ERASED = "erased:"
#: The kinds of entries that carry facts.
BETS, SETTLES = ("bet", "bet_cancel"), ("settle", "correct")
SENDS, ENDS = ("reserve", "release"), ("deliver", "overpaid")
KINDS = (*BETS, *SETTLES, *SENDS, *ENDS)


class About(NamedTuple):
    """An entry by its key and kind."""

    key: str
    kind: str


class Fact(NamedTuple):
    """The digest of the row that an entry is about.

    `stands` is False where that row has rightly moved on since: an attempt that was sent again.
    """

    digest: bytes
    stands: bool


def phone_seal(salt: bytes | None, phone: str) -> str:
    """The digest of a phone, as an erased attempt keeps it."""
    if phone.startswith(ERASED):
        return phone.removeprefix(ERASED)
    return hashlib.sha256((salt or b"") + phone.encode()).hexdigest()


def person_seal(salt: bytes | None, user_id: str, name: str, phone: str) -> str:
    """The digest of who a user is."""
    return sealed((salt or b"").hex(), user_id, name, phone).hex()


def people_digest(session: Session, batch: str) -> str:
    """The digest of everybody who was taken in together, by their seals at that time."""
    digest = hashlib.sha256()
    query = (
        sa.select(col(User.id), col(User.seal))
        .where(col(User.batch) == batch)
        .order_by(bytewise(session, col(User.id)))
    )
    for user_id, seal in streamed(session, query):
        digest.update(canonical(user_id, seal))
    return digest.hexdigest()


def market_facts(market: Market, outcomes: Iterable[Outcome]) -> str:
    """The digest of a market as it was opened: its question, its outcomes, its rules."""
    return market_digest(
        (getattr(market, name) for name in MARKET_FACTS), [(outcome.number, outcome.name) for outcome in outcomes]
    )


#: The columns of a market that never change, in the order of its digest.
MARKET_FACTS = (
    *("id", "slug", "question", "fee_bps", "rounding", "break_unit_cents", "dead_heat"),
    *("min_dividend", "min_dividend_bps", "closes_at", "created_at"),
)


def market_digest(values: Iterable[Any], outcomes: Iterable[tuple[int, str]]) -> str:
    """The digest of a market by the values of `MARKET_FACTS` and its outcomes, numbered."""
    plain = [stamp(value) if isinstance(value, datetime) else value for value in values]
    return sealed("market", plain, sorted(outcomes)).hex()


def incident_facts(
    key: str, kind: str, what: str, payout_id: str | None, attempt_id: str | None, callback_id: int | None
) -> str:
    """The digest of an incident as it was raised."""
    return sealed("incident", key, kind, what, payout_id, attempt_id, callback_id).hex()


def facts_of(session: Session, entries: Sequence[About], *, with_duties: bool = True) -> dict[str, Fact]:
    """The facts of those of these entries that are about a row which is there, by key.

    `with_duties` is False for a migration that comes before the columns of duties.
    """
    by_kind: dict[str, list[str]] = {}
    for key, kind in entries:
        if kind in KINDS:
            by_kind.setdefault(kind, []).append(key)
    found: dict[str, Fact] = {}
    if not by_kind:
        return found
    session.flush()
    if not by_kind.keys().isdisjoint(BETS):
        found |= _of_bets(session, by_kind.get("bet", []), by_kind.get("bet_cancel", []))
    for key in [*by_kind.get("settle", []), *by_kind.get("correct", [])]:
        found |= _of_settlement(session, key, with_duties=with_duties)
    if not by_kind.keys().isdisjoint((*SENDS, *ENDS)):
        found |= _of_attempts(session, by_kind)
    return found


def _of_bets(session: Session, placed: Sequence[str], cancelled: Sequence[str]) -> dict[str, Fact]:
    by_placed = {key[len("bet:") :]: key for key in placed}
    by_cancelled = {key[len("bet:") : -len(":cancel")]: key for key in cancelled}
    found: dict[str, Fact] = {}
    query = sa.select(*BET_COLUMNS).where(col(Bet.id).in_(MANY))
    for row in _among(session, query, {*by_placed, *by_cancelled}):
        *what, placed_at, cancelled_at = row
        bet_id, facts = what[0], sealed("bet", *what, stamp(placed_at))
        if key := by_placed.get(bet_id):
            found[key] = Fact(facts, True)
        if (key := by_cancelled.get(bet_id)) and cancelled_at is not None:
            found[key] = Fact(sealed("bet_cancel", facts.hex(), stamp(cancelled_at)), True)
    return found


#: The columns of a settlement that never change.
_SETTLEMENT = (
    *("market_id", "number", "gross_cents", "fee_cents", "net_cents", "winning_stake_cents", "winners"),
    *("payouts_cents", "refunds_cents", "breakage_cents", "top_up_cents"),
    *("bets", "rules", "resolution", "bets_digest", "plan_hash"),
)


#: What a settlement kept back, and by which rules; it has nothing there where no duty held.
_DUTIES = ("taxed_cents", "tax_cents", "duties")


def _of_settlement(session: Session, key: str, *, with_duties: bool) -> dict[str, Fact]:
    market_id, _, number = key.partition(":")[2].rpartition(":")
    kept = _DUTIES if with_duties else ()
    query = sa.select(*(getattr(Settlement, name) for name in ("settled_at", *_SETTLEMENT, *kept))).where(
        col(Settlement.market_id) == market_id, col(Settlement.number) == int(number)
    )
    row = session.execute(query).first()
    if row is None:
        return {}
    settled_at, *facts = row
    if not any(facts[len(_SETTLEMENT) :]):
        # As it was digested before there were duties.
        del facts[len(_SETTLEMENT) :]
    return {key: Fact(sealed("settlement", stamp(settled_at), *facts), True)}


def _of_attempts(session: Session, by_kind: dict[str, list[str]]) -> dict[str, Fact]:
    """The facts of entries about attempts; each kind takes in what was known when it is posted."""
    sends: dict[str, list[tuple[str, str, int]]] = {}
    for kind in SENDS:
        for key in by_kind.get(kind, []):
            _, attempt_id, _, *later = key.split(":")
            sends.setdefault(attempt_id, []).append((kind, key, int(later[0]) if later else 1))
    delivered = {key.rpartition(":")[2]: key for key in by_kind.get("deliver", [])}
    overpaid = {key[len("overpaid:") :]: key for key in by_kind.get("overpaid", [])}
    found: dict[str, Fact] = {}
    tried = [*_among(session, _BY_ID, {*sends, *delivered}), *_among(session, _BY_RECEIPT, overpaid)]
    said = _evidence(session, {row.evidence for row in tried if row.evidence})
    for row in tried:
        evidence = said.get(row.evidence, row.evidence)
        for kind, key, send in sends.get(row.id, ()):
            if kind == "reserve":
                facts = sealed(
                    "reserve", row.id, row.payout_id, row.number, send, row.wire_cents, row.api, stamp(row.sent_at),
                    phone_seal(row.salt, row.phone),
                )  # fmt: skip
                found[key] = Fact(facts, send == row.sends)
            else:
                facts = sealed("release", row.id, row.payout_id, send, row.result_code, row.result_text, evidence)
                stands = send == row.sends and row.status in (AttemptStatus.FAILED, AttemptStatus.REJECTED)
                found[key] = Fact(facts, stands)
        for paid in filter(None, (delivered.get(row.id), overpaid.get(row.receipt))):
            facts = sealed("paid", row.id, row.payout_id, row.wire_cents, row.receipt, row.result_code, evidence)
            found[paid] = Fact(facts, True)
    return found


#: What is asked of an attempt, and of what its evidence names.
_ATTEMPT = (
    *("id", "payout_id", "number", "status", "phone", "wire_cents", "api", "sends", "sent_at"),
    *("receipt", "result_code", "result_text", "evidence"),
)
_ATTEMPTS = (
    sa.select(*(col(getattr(Attempt, name)) for name in _ATTEMPT), col(User.salt))
    .join(Payout, col(Payout.id) == col(Attempt.payout_id))
    .join(User, col(User.id) == col(Payout.user_id))
)
_BY_ID, _BY_RECEIPT = _ATTEMPTS.where(col(Attempt.id).in_(MANY)), _ATTEMPTS.where(col(Attempt.receipt).in_(MANY))
_BODIES = sa.select(col(Callback.id), col(Callback.digest)).where(col(Callback.id).in_(MANY))
_ANSWERS = sa.select(col(Query.id), col(Query.attempt_id), col(Query.answer)).where(col(Query.id).in_(MANY))


def _evidence(session: Session, named: Collection[str]) -> dict[str, object]:
    """What the evidence says, where it is a callback or an answer to a question: their digests."""
    bodied = [name for name in named if name.startswith("callback:") and name[len("callback:") :].isdecimal()]
    numbers = {int(name[len("callback:") :]): name for name in bodied}
    asked = {name[len("status:") :]: name for name in named if name.startswith("status:")}
    found: dict[str, object] = {}
    for number, digest in _among(session, _BODIES, numbers):
        found[numbers[number]] = [numbers[number], (digest or b"").hex()]
    for query_id, attempt_id, answer in _among(session, _ANSWERS, asked):
        found[asked[query_id]] = [asked[query_id], attempt_id, answer]
    return found


def _among(session: Session, query: Any, values: Iterable[Any]) -> Iterable[Any]:
    """The rows that a query finds by `MANY`, which is given lists that one statement can carry."""
    for chunk in chunks(values):
        yield from session.connection().execute(query, {"many": chunk})
