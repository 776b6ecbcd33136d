"""Queries on markets, their outcomes and their settlements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, or_, update
from sqlmodel import Session, col, select

from kasoko_cli.domain.market import MarketStatus, nearest, sources_of
from kasoko_cli.domain.payout import looks_like_payout_id, market_in
from kasoko_cli.errors import NotFound
from kasoko_cli.store.engine.changes import change
from kasoko_cli.store.engine.locking import for_update, rows_in
from kasoko_cli.store.platform import outbox
from kasoko_cli.store.schema.tables import Market, Outcome, Settlement


def find_market(session: Session, market: str, *, lock: bool = False, share: bool = False) -> Market:
    """The market with this id or slug; an id goes before a slug.

    `lock` keeps other writers of it waiting until the transaction ends; `share` only those that
    change the market itself.

    Raises:
        NotFound: there is none; the nearest slug or id is suggested.
    """
    found = named(session, market, lock=lock, share=share)
    if found is None:
        raise _no_market(session, market)
    return found


def named(session: Session, market: str, *, lock: bool = False, share: bool = False) -> Market | None:
    """The same; None where there is none."""
    query = select(Market).where(or_(col(Market.id) == market, col(Market.slug) == market))
    query = query.order_by(col(Market.id) != market)
    if lock or share:
        query = for_update(query, share=share)
    return session.exec(query).first()


def _no_market(session: Session, market: str) -> NotFound:
    if looks_like_payout_id(market):
        hint = f"That is how a payout is named; its market would be {market_in(market)[0]}."
        return NotFound(f"There is no market {market!r}.", hint=f"{hint} List them: kasoko market list")
    names = [name for row in session.exec(select(col(Market.slug), col(Market.id))) for name in row]
    guess = nearest(market, names)
    suggestion = f"Did you mean {guess}? " if guess else ""
    return NotFound(f"There is no market {market!r}.", hint=f"{suggestion}List them: kasoko market list")


def id_of(session: Session, market: str | None) -> str | None:
    """The id of the market with this id or slug; None is all markets.

    Raises:
        NotFound: there is none.
    """
    return None if market is None else find_market(session, market).id


def list_markets(session: Session) -> Sequence[Market]:
    """Markets, the latest to close first."""
    return session.exec(select(Market).order_by(col(Market.closes_at).desc(), col(Market.id))).all()


def known_markets(session: Session, market_ids: Iterable[str]) -> dict[str, Market]:
    """Those of the markets that exist, by id."""
    return {market.id: market for market in rows_in(session, select(Market), col(Market.id), market_ids)}


def list_outcomes(session: Session, market_id: str) -> Sequence[Outcome]:
    """The market's outcomes, by number."""
    query = select(Outcome).where(col(Outcome.market_id) == market_id).order_by(col(Outcome.number))
    return session.exec(query).all()


def move(session: Session, market_id: str, to: MarketStatus, *, at: datetime, **values: Any) -> bool:
    """Move a market to `to` if it may go there; returns whether this call did it. An end is noted for the platform."""
    which = update(Market).where(col(Market.id) == market_id, col(Market.status).in_(sources_of(to)))
    moved = change(session, which.values(status=to, **values))
    if moved and to in (MarketStatus.RESOLVED, MarketStatus.VOID):
        outbox.note_market(session, market_id, at=at)
    return moved == 1


def standing_settlement(session: Session, market_id: str) -> Settlement | None:
    """The market's settlement that has not been reversed, if it has one."""
    query = select(Settlement).where(col(Settlement.market_id) == market_id, col(Settlement.reversed_at).is_(None))
    return session.exec(query).one_or_none()


def find_settlement(session: Session, market_id: str, number: int) -> Settlement:
    """One settlement of a market, which there is."""
    query = select(Settlement).where(col(Settlement.market_id) == market_id, col(Settlement.number) == number)
    return session.exec(query).one()


def next_settlement_number(session: Session, market_id: str) -> int:
    """The number that the market's next settlement gets; the first is 1."""
    query = select(func.coalesce(func.max(col(Settlement.number)), 0)).where(col(Settlement.market_id) == market_id)
    return int(session.exec(query).one()) + 1


def list_settlements(session: Session, market_id: str) -> Sequence[Settlement]:
    """Every settlement of a market, first to last, those that were taken back too."""
    query = select(Settlement).where(col(Settlement.market_id) == market_id).order_by(col(Settlement.number))
    return session.exec(query).all()


def supersede(session: Session, market_id: str, number: int, *, at: datetime) -> None:
    """A settlement stands no longer: it was taken back, or another one corrects it."""
    which = update(Settlement).where(
        col(Settlement.market_id) == market_id, col(Settlement.number) == number, col(Settlement.reversed_at).is_(None)
    )
    done = change(session, which.values(reversed_at=at))
    assert done == 1, "a settlement that we hold stands"


def override(session: Session, market_id: str, *, was: str, to: MarketStatus, resolution: str, at: datetime) -> bool:
    """Give a market that ended another outcome, if it still has the one that was read; returns whether it did."""
    which = update(Market).where(
        col(Market.id) == market_id,
        col(Market.resolution) == was,
        col(Market.status).in_([MarketStatus.RESOLVED, MarketStatus.VOID]),
    )
    moved = change(session, which.values(status=to, resolution=resolution, resolved_at=at))
    if moved:
        outbox.note_market(session, market_id, at=at)
    return moved == 1


def settled_markets(session: Session) -> set[str]:
    """The ids of all markets with a standing settlement."""
    return set(session.exec(select(col(Settlement.market_id)).where(col(Settlement.reversed_at).is_(None))))
