"""One access token for a Daraja account, shared by every process and host through a row of the database.

A new token may kill the old one, so one process fetches and the others wait. The row holds the token
sealed with a key made from the consumer secret: who reads the database alone cannot use it.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import update
from sqlmodel import Session, col, select

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.client import Account
from kasoko_cli.daraja.credentials import Token
from kasoko_cli.store.access_tokens import ensure_row
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import AccessToken
from kasoko_cli.store.schema.types import over

#: A refresh that has not ended by then is taken over by somebody else.
LONGEST_REFRESH = timedelta(seconds=60)


def account_key(account: Account) -> str:
    """What rows about a Daraja account are kept under: its app, without naming it."""
    identity = f"{account.base_url}\n{account.consumer_key}"
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


class DatabaseShelf:
    """A `TokenShelf` in the database. No transaction is open while a token is fetched."""

    def __init__(self, db: Database, clock: Clock, account: Account, refresher: str) -> None:
        self._db, self._clock, self._refresher = db, clock, refresher
        self._account = account_key(account)
        key = hashlib.sha256(b"kasoko access token\n" + account.consumer_secret.encode()).digest()
        self._seal = Fernet(base64.urlsafe_b64encode(key))

    def current(self) -> Token | None:
        """The token that everybody uses now, fresh or not."""
        with self._db.reading() as session:
            return self._open(self._row(session))

    def claim_refresh(self, stale: Token | None) -> bool:
        """Whether the caller shall fetch a new one: `stale` still lies there and nobody else is fetching."""
        now = self._clock()
        with self._db.transaction() as session:
            ensure_row(session, self._account)
            if self._open(self._row(session)) != stale:
                return False
            claimed = session.exec(
                update(AccessToken)
                .where(
                    col(AccessToken.account) == self._account,
                    over(col(AccessToken.refresh_until), now, LONGEST_REFRESH),
                )
                .values(refresher=self._refresher, refresh_until=now + LONGEST_REFRESH)
                .execution_options(synchronize_session=False)
            )
            return claimed.rowcount == 1

    def keep(self, token: Token) -> None:
        """Put a new token there and end the claim."""
        self._end(
            sealed=self._seal.encrypt(token.value.encode()), fetched_at=token.fetched_at, expires_at=token.expires_at
        )

    def give_up(self) -> None:
        """End the claim without a new token."""
        self._end()

    def _end(self, **values: object) -> None:
        """A claim that somebody else has taken over meanwhile is not ours to end."""
        with self._db.transaction() as session:
            session.exec(
                update(AccessToken)
                .where(col(AccessToken.account) == self._account, col(AccessToken.refresher) == self._refresher)
                .values(refresher=None, refresh_until=None, **values)
                .execution_options(synchronize_session=False)
            )

    def _row(self, session: Session) -> AccessToken | None:
        return session.exec(select(AccessToken).where(col(AccessToken.account) == self._account)).one_or_none()

    def _open(self, row: AccessToken | None) -> Token | None:
        if row is None or row.sealed is None or row.fetched_at is None or row.expires_at is None:
            return None
        try:
            value = self._seal.decrypt(row.sealed).decode()
        except InvalidToken:
            return None  # sealed with another consumer secret: fetch a new one
        return Token(value, fetched_at=row.fetched_at, expires_at=row.expires_at)
