"""Access tokens: one a call, each with its own end. Not thread-safe: its owner holds the lock.

Source: Daraja portal, authorisation page: life of 3,600 seconds; its FAQ: a new token invalidates the
one before it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import datetime, timedelta

from kasoko_cli.daraja.simulator import chance
from kasoko_cli.daraja.simulator.answers import GatewayReply, Refusal, Wire, write_json
from kasoko_cli.daraja.simulator.settings import SimulatorSettings


class Tokens:
    """Who may call."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._issued = 0
        self._ends: dict[str, datetime] = {}

    def issue(self, authorization: str, grant_type: str | None, at: datetime) -> GatewayReply:
        """A new token for the right key and secret.

        Raises:
            Refusal: the scheme, the grant type, the key or the secret is wrong.
        """
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            raise Refusal(400, "400.008.01", "Invalid Authentication passed")
        if grant_type != "client_credentials":
            raise Refusal(400, "400.008.02", "Invalid grant type passed")
        if not self._is_right(encoded):
            if self._settings.wrong_key_has_no_body:
                return GatewayReply(400, b"")
            raise Refusal(400, "400.008.01", "Invalid Authentication passed")
        if self._settings.old_token_dies:
            self._ends.clear()
        self._issued += 1
        token = chance.letters(28, chance.ALPHANUMERIC, self._settings.seed, "token", self._issued)
        self._ends[token] = at + timedelta(seconds=self._settings.token_seconds)
        seconds: Wire = self._settings.token_seconds
        if not self._settings.token_life_as_number:
            seconds = str(seconds)
        return GatewayReply(200, write_json({"access_token": token, "expires_in": seconds}))

    def is_alive(self, token: str, at: datetime) -> bool:
        """Whether a call with this token is let in."""
        end = self._ends.get(token)
        return end is not None and at < end

    def kill_all(self) -> None:
        """Every token dies at once, as if somebody else had asked for a new one."""
        self._ends.clear()

    def _is_right(self, encoded: str) -> bool:
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        right = f"{self._settings.consumer_key}:{self._settings.consumer_secret}".encode()
        return hmac.compare_digest(given, right)
