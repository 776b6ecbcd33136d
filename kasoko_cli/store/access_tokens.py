"""Queries on the shared access token."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import update
from sqlmodel import Session, col, select

from kasoko_cli.store.engine.changes import change, insert_into
from kasoko_cli.store.schema.tables import AccessToken
from kasoko_cli.store.schema.types import over

#: A refresh that has not ended by then is taken over by somebody else.
LONGEST_REFRESH = timedelta(seconds=60)


def ensure_row(session: Session, account: str) -> None:
    """Make the account's row if there is none."""
    session.exec(
        insert_into(session, AccessToken).values(account=account).on_conflict_do_nothing(index_elements=["account"])
    )


def find_token(session: Session, account: str) -> AccessToken | None:
    """The account's token, sealed, and who is fetching a new one; None where nothing was ever kept."""
    return session.exec(select(AccessToken).where(col(AccessToken.account) == account)).one_or_none()


def claim_refresh(session: Session, account: str, refresher: str, *, now: datetime) -> bool:
    """Note that `refresher` is fetching a new token, unless somebody else is; returns whether it was noted."""
    which = update(AccessToken).where(
        col(AccessToken.account) == account, over(col(AccessToken.refresh_until), now, LONGEST_REFRESH)
    )
    return change(session, which.values(refresher=refresher, refresh_until=now + LONGEST_REFRESH)) == 1


def end_refresh(session: Session, account: str, refresher: str, **values: object) -> None:
    """End a claim, with a new token or without; one that somebody else has taken over meanwhile stays."""
    which = update(AccessToken).where(col(AccessToken.account) == account, col(AccessToken.refresher) == refresher)
    change(session, which.values(refresher=None, refresh_until=None, **values))
