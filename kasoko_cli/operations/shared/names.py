"""What people name, by the id that the books have for it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session

from kasoko_cli.store import markets, payouts
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database


def payout_ids(db: Database, named: Sequence[str]) -> list[str]:
    """The ids of payouts that are named by their ids or with their market's slug (`rain.1.7`), each once.

    Raises NotFound if there is no such payout.
    """
    return reconnect.read(db, lambda session: list(dict.fromkeys(payouts.id_of(session, one) for one in named)))


def market_names(db: Database, market: str) -> tuple[str, str]:
    """The id and the slug of the market with this id or slug. Raises NotFound if there is none."""

    def look(session: Session) -> tuple[str, str]:
        found = markets.find_market(session, market)
        return found.id, found.slug

    return reconnect.read(db, look)
