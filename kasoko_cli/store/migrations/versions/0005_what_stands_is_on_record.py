"""When somebody was erased; and what stands of people, markets and incidents goes on record, to be held against."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlmodel import Session

from kasoko_cli.store import log
from kasoko_cli.store.engine import hash_chain, row_digests
from kasoko_cli.store.schema.types import UtcTime

revision = "0005"
down_revision = "0004"

ACTOR = "kasoko db upgrade"


def upgrade() -> None:
    op.add_column("users", sa.Column("erased_at", UtcTime(), nullable=True))
    op.create_index("ix_users_batch", "users", ["batch"])
    with Session(op.get_bind()) as session:
        now = datetime.now(UTC)
        if session.execute(sa.text("SELECT 1 FROM users LIMIT 1")).first():
            session.execute(sa.text("UPDATE users SET batch = 'before'"))
            people = row_digests.people_digest(session, "before")
            _note(session, now, "upgrade.users", "users", {"batch": "before", "people": people})
        markets = _markets(session)
        if markets:
            _note(session, now, "upgrade.markets", "markets", {"markets": markets})
        _closed_and_resolved(session, now)
        _incidents(session, now)
        hash_chain.seal(session)
        session.flush()


def downgrade() -> None:
    op.drop_index("ix_users_batch", table_name="users")
    op.drop_column("users", "erased_at")


def _note(session: Session, now: datetime, action: str, subject: str, detail: dict[str, object]) -> None:
    why = "what stood before acts were held against the rows"
    log.note_event(session, at=now, actor=ACTOR, action=action, subject=subject, reason=why, detail=detail)


def _markets(session: Session) -> dict[str, str]:
    table = sa.table("markets", *(sa.column(name, _kind(name)) for name in row_digests.MARKET_FACTS))
    outcomes: dict[str, list[tuple[int, str]]] = {}
    for market_id, number, name in session.execute(sa.text("SELECT market_id, number, name FROM outcomes")):
        outcomes.setdefault(market_id, []).append((number, name))
    return {
        row.id: row_digests.market_digest(row, outcomes.get(row.id, [])) for row in session.execute(sa.select(table))
    }


def _kind(name: str) -> UtcTime | None:
    return UtcTime() if name.endswith("_at") else None


def _closed_and_resolved(session: Session, now: datetime) -> None:
    table = sa.table("markets", sa.column("id"), sa.column("resolution"), sa.column("resolved_at", UtcTime()))
    for row in session.execute(sa.select(table).where(table.c.resolution.is_not(None)).order_by(table.c.id)):
        _note(session, row.resolved_at, "market.upgrade", row.id, {"resolution": json.loads(row.resolution)})
    if session.execute(sa.text("SELECT 1 FROM switches WHERE name = 'breaker' AND is_on")).first():
        _note(session, now, log.BREAKER, "sending", {})


def _incidents(session: Session, now: datetime) -> None:
    query = "SELECT id, key, kind, what, payout_id, attempt_id, callback_id FROM incidents ORDER BY id"
    for number, key, *rest in session.execute(sa.text(query)):
        detail: dict[str, object] = {"key": key, "facts": row_digests.incident_facts(key, *rest)}
        _note(session, now, log.RAISED, f"incident:{number}", detail)
