"""The SQL that an administrator of the platform runs once, so that we see what we need and nothing else.

It makes a schema `kasoko` with three views over the platform's own tables, and lets one role read them; where
results are to be written back, a table of our own beside them, which that role may also write. Names are
quoted and words are literals: whatever a table is called, it cannot become a statement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kasoko_cli.domain.phone import quoted
from kasoko_cli.errors import Refused

#: What stands for a column that the platform does not have.
NONE = "-"

#: What a usual Django platform calls its tables.
TABLES: Mapping[str, str] = {"market": "markets_market", "bet": "markets_bet", "user": "users_customuser"}

#: What it calls their columns. `-` is for one that it does not have.
COLUMNS: Mapping[str, str] = {
    "market.id": "id",
    "market.slug": "slug",
    "market.question": "question",
    "market.status": "status",
    "market.closes_at": "closes_at",
    "market.fee": "fee",
    "market.outcomes": NONE,
    "bet.id": "id",
    "bet.market": "market_id",
    "bet.user": "user_id",
    "bet.outcome": "outcome",
    "bet.stake": "stake",
    "bet.placed_at": "placed_at",
    "bet.cancelled_at": "cancelled_at",
    "user.id": "id",
    "user.name": "name",
    "user.phone": "phone",
}

#: Columns that a platform can do without, and what is said in their place.
_WITHOUT = frozenset({"market.slug", "market.status", "market.fee", "market.outcomes", "bet.cancelled_at"})

#: The states in which a platform has not ended a market itself.
UNFINISHED = ("open", "active", "closed", "locked")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a platform keeps its records: what it calls things, and what it keeps nowhere.

    `fee_bps` and `outcomes` hold for every market of a platform that has no column for them.
    """

    tables: Mapping[str, str] = field(default_factory=lambda: TABLES)
    columns: Mapping[str, str] = field(default_factory=lambda: COLUMNS)
    outcomes: Sequence[str] = ("Yes", "No")
    fee_bps: int = 500
    stake_in_cents: bool = False
    unfinished: Sequence[str] = UNFINISHED


def renamed(usual: Mapping[str, str], said: Sequence[str], *, what: str) -> dict[str, str]:
    """The usual names with those of `said`, each `market=polls_poll` or `bet.stake=amount`, in their place.

    Raises:
        Refused: it names nothing that there is, or a column that there must be is said to be missing.
    """
    found = dict(usual)
    for one in said:
        key, equals, name = one.partition("=")
        if not equals or key not in usual or not name:
            raise Refused(
                f"{quoted(one)} names no {what}; nothing was printed.",
                hint=f"Write it like {next(iter(usual))}=NAME. There are: {', '.join(usual)}",
            )
        if name == NONE and key not in _WITHOUT:
            raise Refused(
                f"A platform without {key} cannot be read; nothing was printed.",
                hint=f"Only these may be missing: {', '.join(sorted(_WITHOUT))}",
            )
        found[key] = name
    return found


def identifier(name: str) -> str:
    """A name as PostgreSQL takes it, quoted.

    Raises:
        Refused: no name can be so.
    """
    if not name or "\0" in name or len(name.encode()) > 63 or not name.isprintable():
        raise Refused(
            f"{quoted(name)} cannot be a name in PostgreSQL; nothing was printed.",
            hint="A name has 1 to 63 bytes and no control characters.",
        )
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as PostgreSQL takes it, whatever `standard_conforming_strings` says.

    Raises:
        Refused: no text can be so.
    """
    if "\0" in text or not text.isprintable():
        raise Refused(f"{quoted(text)} holds a control character; nothing was printed.", hint="Leave it out.")
    escaped = text.replace("'", "''").replace("\\", "\\\\")
    return f"E'{escaped}'" if "\\" in text else f"'{escaped}'"


def _table(name: str) -> str:
    """`schema.table`, each part quoted."""
    return ".".join(identifier(part) for part in re.split(r"\.(?=[^.]+$)", name, maxsplit=1))


#: The table of what the platform is told. It has nothing of the platform's own, and nothing there is changed by it.
_RESULTS = """
-- What kasoko tells of markets and payouts, each as it stands. Nothing else of this database can be written by it.
CREATE TABLE IF NOT EXISTS kasoko.results (
  id text PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('market', 'payout')),
  market_id text NOT NULL,
  user_id text,
  status text NOT NULL,
  outcome text,
  amount_cents bigint,
  delivered_cents bigint,
  wallet_cents bigint,
  withheld_cents bigint,
  receipt text,
  failure_code text,
  changed_at timestamptz NOT NULL,
  version bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS results_version ON kasoko.results (version);
CREATE INDEX IF NOT EXISTS results_market ON kasoko.results (market_id);
CREATE INDEX IF NOT EXISTS results_user ON kasoko.results (user_id);
"""


def sql_for(shape: Shape, role: str, *, mirror: bool = False) -> str:
    """The SQL, for PostgreSQL; with `mirror` the table of results too.

    Raises:
        Refused: a name or a word cannot stand in SQL.
    """
    views = _views(shape, role)
    grants = f"GRANT SELECT, INSERT, UPDATE ON kasoko.results TO {identifier(role)};\n"
    return views + _RESULTS + grants if mirror else views


def _views(shape: Shape, role: str) -> str:
    """The three views, and who may read them."""
    column = {key: identifier(name) if name != NONE else "" for key, name in shape.columns.items()}
    who = identifier(role)
    bar = literal("|".join(shape.outcomes))
    listed = ", ".join(literal(word.lower()) for word in shape.unfinished)
    market_id = f"{column['market.id']}::text"
    fee = f"{column['market.fee']}::numeric * 100" if column["market.fee"] else f"{int(shape.fee_bps)}::numeric"
    stake = f"{column['bet.stake']}::numeric" + ("" if shape.stake_in_cents else " * 100")
    takes = f"coalesce(lower({column['market.status']}::text) IN ({listed}), false)"
    lines = [
        "-- What kasoko may see of this database, and nothing else. Run it as the owner of the tables:",
        "--   psql --single-transaction --set ON_ERROR_STOP=1 --file kasoko.sql",
        f"-- The role must exist: CREATE ROLE {who} LOGIN PASSWORD '...';",
        "",
        "CREATE SCHEMA IF NOT EXISTS kasoko;",
        "REVOKE ALL ON SCHEMA kasoko FROM PUBLIC;",
        "",
        "-- fee_bps: percent times a hundred. takes: the platform has not ended the market itself.",
        "CREATE OR REPLACE VIEW kasoko.source_markets WITH (security_barrier = true) AS",
        "SELECT",
        f"  {market_id} AS market_id,",
        f"  {'lower(' + column['market.slug'] + '::text)' if column['market.slug'] else literal('m-') + ' || ' + market_id} AS slug,",  # noqa: E501
        f"  {column['market.question']}::text AS question,",
        f"  {column['market.outcomes'] + '::text' if column['market.outcomes'] else bar + '::text'} AS outcomes,",
        f"  {column['market.closes_at']}::timestamptz AS closes_at,",
        f"  ({fee}) AS fee_bps,",
        f"  {takes if column['market.status'] else 'true'} AS takes",
        f"FROM {_table(shape.tables['market'])};",
        "",
        "-- stake_cents: exact; a stake with a part of a cent is refused when it is read.",
        "CREATE OR REPLACE VIEW kasoko.source_bets WITH (security_barrier = true) AS",
        "SELECT",
        f"  {column['bet.id']}::text AS bet_id,",
        f"  {column['bet.market']}::text AS market_id,",
        f"  {column['bet.user']}::text AS user_id,",
        f"  {column['bet.outcome']}::text AS outcome,",
        f"  ({stake}) AS stake_cents,",
        f"  {column['bet.placed_at']}::timestamptz AS placed_at,",
        f"  {column['bet.cancelled_at'] + '::timestamptz' if column['bet.cancelled_at'] else 'NULL::timestamptz'} AS cancelled_at",  # noqa: E501
        f"FROM {_table(shape.tables['bet'])};",
        "",
        "-- Only people who ever bet: no staff, no passwords, no e-mail addresses.",
        "CREATE OR REPLACE VIEW kasoko.source_users WITH (security_barrier = true) AS",
        "SELECT",
        f"  u.{column['user.id']}::text AS user_id,",
        f"  u.{column['user.name']}::text AS name,",
        f"  u.{column['user.phone']}::text AS phone",
        f"FROM {_table(shape.tables['user'])} AS u",
        f"WHERE EXISTS (SELECT FROM {_table(shape.tables['bet'])} AS b",
        f"  WHERE b.{column['bet.user']} = u.{column['user.id']});",
        "",
        f"GRANT USAGE ON SCHEMA kasoko TO {who};",
        f"GRANT SELECT ON kasoko.source_markets, kasoko.source_bets, kasoko.source_users TO {who};",
    ]
    return "\n".join(lines) + "\n"
