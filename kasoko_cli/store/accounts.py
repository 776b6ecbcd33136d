"""Queries on the accounts with M-Pesa: which one pays now, and what was sent or asked by which."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import or_, update
from sqlmodel import Session, col, select

from kasoko_cli.domain.payer import Payer
from kasoko_cli.domain.payout import LIVE, AttemptStatus
from kasoko_cli.store.engine.changes import change, insert_into
from kasoko_cli.store.engine.locking import chunks, rows_in
from kasoko_cli.store.schema.tables import Attempt, DarajaAccount, Deployment, Exchange, Query
from kasoko_cli.store.statements import RESTORED


class KnownAccount(NamedTuple):
    """An account by its number here."""

    id: int
    payer: Payer


class OpenElsewhere(NamedTuple):
    """A payment whose end is not known and that this account did not make; None where nobody wrote down which did."""

    payout_id: str
    attempt_id: str
    account: KnownAccount | None


_COLUMNS = tuple(col(getattr(DarajaAccount, name)) for name in ("id", *Payer._fields))


def find(session: Session, payer: Payer) -> int | None:
    """The number of an account here; None where nothing was ever done with it."""
    query = sa.select(col(DarajaAccount.id)).where(
        col(DarajaAccount.shortcode) == payer.shortcode,
        col(DarajaAccount.environment) == payer.environment,
        col(DarajaAccount.api_base) == payer.api_base,
    )
    return session.execute(query).scalar()


def ensure(session: Session, payer: Payer, *, at: datetime) -> int:
    """The number of an account here, written down now if it is new."""
    if (known := find(session, payer)) is not None:
        return known
    session.exec(
        insert_into(session, DarajaAccount).values(**payer._asdict(), first_seen_at=at).on_conflict_do_nothing()
    )
    known = find(session, payer)
    assert known is not None, "it was written just now, here or by somebody whose commit we waited for"
    return known


def in_force(session: Session, *, lock: bool = False) -> KnownAccount | None:
    """The account that pays now; None before the first payment. `lock` keeps it from being changed or used."""
    query = sa.select(*_COLUMNS).join(Deployment, col(Deployment.account_id) == col(DarajaAccount.id))
    if lock:
        session.execute(sa.select(col(Deployment.id)).with_for_update())
    row = session.execute(query).first()
    return None if row is None else KnownAccount(row[0], Payer(*row[1:]))


def is_in_force(session: Session, account_id: int) -> bool:
    """Whether this account pays now; it does until the transaction ends."""
    # Shared: any number of senders claim at once, and only who changes the account waits for them.
    query = sa.select(col(Deployment.account_id)).with_for_update(read=True, key_share=True)
    return session.execute(query).scalar() == account_id


def put_in_force(session: Session, account_id: int) -> None:
    """From now on this account pays."""
    change(session, update(Deployment).values(account_id=account_id))


def open_elsewhere(session: Session, account_id: int | None) -> list[OpenElsewhere]:
    """The payments under way that another account made, longest sent first."""
    others = col(Attempt.status).in_(LIVE), col(Attempt.account_id).is_distinct_from(account_id)
    return _with_accounts(session, *others)


def doubted_elsewhere(session: Session, account_id: int | None) -> list[OpenElsewhere]:
    """What a restored copy does not know to have been sent, where another account would have sent it."""
    others = (
        col(Attempt.status) == AttemptStatus.REJECTED,
        col(Attempt.lease_token).like(f"{RESTORED}%"),
        col(Attempt.account_id).is_distinct_from(account_id),
    )
    return _with_accounts(session, *others)


def _with_accounts(session: Session, *which: sa.ColumnElement[bool]) -> list[OpenElsewhere]:
    query = (
        sa.select(col(Attempt.payout_id), col(Attempt.id), *_COLUMNS)
        .outerjoin(DarajaAccount, col(DarajaAccount.id) == col(Attempt.account_id))
        .where(*which)
        .order_by(col(Attempt.sent_at), col(Attempt.id))
    )
    return [
        OpenElsewhere(row[0], row[1], None if row[2] is None else KnownAccount(row[2], Payer(*row[3:])))
        for row in session.execute(query)
    ]


#: The number of an account that nothing was ever done with.
NEVER_USED = 0


def of_statement(session: Session, shortcode: str | None) -> int | None:
    """The account that a statement of this shortcode is of: the one that pays, or an earlier one beside it.

    A statement does not say sandbox or production, nor where its M-Pesa is: those are the deployment's. None where
    nothing was paid yet, or only before accounts were written down.
    """
    current = in_force(session)
    if current is None or shortcode in (None, current.payer.shortcode):
        return None if current is None else current.id
    query = (
        sa.select(col(DarajaAccount.id))
        .where(col(DarajaAccount.shortcode) == shortcode, col(DarajaAccount.environment) == current.payer.environment)
        .order_by(col(DarajaAccount.id).desc())
    )
    return session.execute(query).scalars().first() or NEVER_USED


# --- From before accounts were written down ---------------------------------------------------------------------------

#: What may still be asked about, or sent again.
_NOT_DONE = (*sorted(LIVE), AttemptStatus.REJECTED, AttemptStatus.FAILED)
_PART_A = re.compile(r'"PartyA":\s*"?(\d+)')
#: How many kept requests are looked at for another shortcode.
_LATEST_CALLS = 1_000


def unclaimed(session: Session) -> list[str]:
    """Attempts of no account that are not over for good."""
    query = select(col(Attempt.id)).where(col(Attempt.account_id).is_(None), col(Attempt.status).in_(_NOT_DONE))
    return list(session.exec(query))


def adopt(session: Session, attempt_ids: Collection[str], account: KnownAccount) -> int:
    """Write down that this account made these attempts, where their own kept requests say its shortcode.

    Those of which no request is kept are taken for its own only where no kept request at all names another one.
    A question is taken for its own only by its own request: what another account answered must never count.
    Returns how many attempts.
    """
    named = _shortcodes(session, "b2c", attempt_ids)
    wanted = {one for one in attempt_ids if named.get(one) == {account.payer.shortcode}}
    if all(said == {account.payer.shortcode} for said in (*named.values(), *_lately(session))):
        wanted |= {one for one in attempt_ids if one not in named}
    for part in chunks(wanted):
        change(session, _of(Attempt, part, account.id))
        query = select(col(Query.id)).where(col(Query.attempt_id).in_(part), col(Query.account_id).is_(None))
        said = _shortcodes(session, "status", session.exec(query).all())
        for asked in chunks([one for one, codes in said.items() if codes == {account.payer.shortcode}]):
            change(session, _of(Query, asked, account.id))
    return len(wanted)


def _of(table: type[Attempt] | type[Query], ids: Collection[str], account_id: int) -> sa.Update:
    found = update(table).where(col(table.id).in_(ids), col(table.account_id).is_(None))
    return found.values(account_id=account_id)


def _shortcodes(session: Session, kind: str, subjects: Collection[str]) -> dict[str, set[str]]:
    """The shortcodes that the kept requests about each of these name."""
    found: dict[str, set[str]] = {}
    query = sa.select(col(Exchange.subject), col(Exchange.request)).where(col(Exchange.kind) == kind)
    for subject, request in rows_in(session, query, col(Exchange.subject), subjects):
        if said := _PART_A.search(request):
            found.setdefault(subject, set()).add(said[1])
    return found


def _lately(session: Session) -> list[set[str]]:
    query = select(col(Exchange.request)).where(or_(col(Exchange.kind) == "b2c", col(Exchange.kind) == "status"))
    requests = session.exec(query.order_by(col(Exchange.id).desc()).limit(_LATEST_CALLS))
    return [{said[1]} for request in requests if (said := _PART_A.search(request))]
