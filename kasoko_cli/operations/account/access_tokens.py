"""One access token for a Daraja account, shared by every process and host through a row of the database.

A new token may kill the old one, so one process fetches and the others wait. The row holds the token
sealed with a key made from the consumer secret: who reads the database alone cannot use it.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.client import DarajaApp
from kasoko_cli.daraja.credentials import Token
from kasoko_cli.store import access_tokens
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import AccessToken


def account_key(account: DarajaApp) -> str:
    """What rows about a Daraja account are kept under: its app, without naming it."""
    identity = f"{account.base_url}\n{account.consumer_key}"
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


class DatabaseShelf:
    """A `TokenShelf` in the database. No transaction is open while a token is fetched."""

    def __init__(self, db: Database, clock: Clock, account: DarajaApp, refresher: str) -> None:
        self._db, self._clock, self._refresher = db, clock, refresher
        self._account = account_key(account)
        key = hashlib.sha256(b"kasoko access token\n" + account.consumer_secret.encode()).digest()
        self._seal = Fernet(base64.urlsafe_b64encode(key))

    def current(self) -> Token | None:
        """The token that everybody uses now, fresh or not."""
        with self._db.reading() as session:
            return self._open(access_tokens.find_token(session, self._account))

    def claim_refresh(self, stale: Token | None) -> bool:
        """Whether the caller shall fetch a new one: `stale` is still the current one and nobody else is fetching."""
        with self._db.transaction() as session:
            access_tokens.ensure_row(session, self._account)
            if self._open(access_tokens.find_token(session, self._account)) != stale:
                return False
            return access_tokens.claim_refresh(session, self._account, self._refresher, now=self._clock())

    def keep(self, token: Token) -> None:
        """Put a new token there and end the claim."""
        self._end(
            sealed=self._seal.encrypt(token.value.encode()), fetched_at=token.fetched_at, expires_at=token.expires_at
        )

    def give_up(self) -> None:
        """End the claim without a new token."""
        self._end()

    def _end(self, **values: object) -> None:
        with self._db.transaction() as session:
            access_tokens.end_refresh(session, self._account, self._refresher, **values)

    def _open(self, row: AccessToken | None) -> Token | None:
        if row is None or row.sealed is None or row.fetched_at is None or row.expires_at is None:
            return None
        try:
            value = self._seal.decrypt(row.sealed).decode()
        except InvalidToken:
            return None  # sealed with another consumer secret: fetch a new one
        return Token(value, fetched_at=row.fetched_at, expires_at=row.expires_at)
