"""A token for one process, any number of threads: what a database row does for many hosts."""

from __future__ import annotations

import threading

from kasoko_cli.daraja.credentials import Token


class MemoryShelf:
    """A token for one process, any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._claimed = False

    def current(self) -> Token | None:
        """The token that everybody uses now, fresh or not."""
        with self._lock:
            return self._token

    def claim_refresh(self, stale: Token | None) -> bool:
        """Whether the caller shall fetch a new token."""
        with self._lock:
            if self._claimed or self._token != stale:
                return False
            self._claimed = True
            return True

    def keep(self, token: Token) -> None:
        """Put a new token there and end the claim."""
        with self._lock:
            self._token = token
            self._claimed = False

    def give_up(self) -> None:
        """End the claim without a new token."""
        with self._lock:
            self._claimed = False
