"""What a shell offers when somebody presses Tab: markets, outcomes, payouts, users, incidents.

Asked at every key, so it loads no settings, no SQLAlchemy and no pydantic: it finds the database's address by
itself, opens it for reading only, and gives up after a moment. Whatever goes wrong, it offers nothing and says
nothing: a message would land in the middle of what is being typed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

#: How long the database may take, in seconds.
PATIENCE_SECONDS = 0.4
#: How many are offered at most: more than that nobody reads.
MOST = 60


def markets(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Markets that begin so, with their question."""
    return _offered(ctx, "SELECT slug, question FROM markets WHERE slug LIKE ? ESCAPE '!' ORDER BY slug", incomplete)


def outcomes(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The outcomes of the market that was named already."""
    market = str(ctx.params.get("market") or "")
    query = (
        "SELECT o.name, m.slug FROM outcomes o JOIN markets m ON m.id = o.market_id"
        " WHERE o.name LIKE ? ESCAPE '!' AND (m.slug = ? OR m.id = ?) ORDER BY o.number"
    )
    return _offered(ctx, query, incomplete, market, market)


def payouts(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Payouts that begin so, with their state."""
    return _payouts(ctx, incomplete, "p.status", "")


def failed_payouts(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Payouts that failed."""
    return _payouts(ctx, incomplete, "p.failure_reason", "p.status = 'FAILED' AND")


def _payouts(ctx: typer.Context, incomplete: str, says: str, where: str) -> list[tuple[str, str]]:
    """Payouts whose id begins so; where there is none, those that begin so with their market's slug."""
    by_slug = "m.slug || substr(p.id, length(m.id) + 1)"
    for named, of in (("p.id", "payouts p"), (by_slug, "payouts p JOIN markets m ON m.id = p.market_id")):
        # Every word of it is ours; what was typed is a value.
        query = f"SELECT {named} AS named, {says} FROM {of} WHERE {where} {named} LIKE ? ESCAPE '!' ORDER BY named"  # noqa: S608
        if found := _offered(ctx, query, incomplete):
            return found
    return []


def markets_or_payouts(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Markets; once a dot is typed, payouts."""
    return payouts(ctx, incomplete) if "." in incomplete else markets(ctx, incomplete)


def users(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Users whose id begins so. Without their names: what is typed may be looked on."""
    return [
        (user, "")
        for user, _ in _offered(ctx, "SELECT id, '' FROM users WHERE id LIKE ? ESCAPE '!' ORDER BY id", incomplete)
    ]


def incidents(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The numbers of incidents that nobody has closed."""
    query = (
        "SELECT CAST(id AS TEXT), kind FROM incidents WHERE closed_at IS NULL"
        " AND CAST(id AS TEXT) LIKE ? ESCAPE '!' ORDER BY id"
    )
    return _offered(ctx, query, incomplete)


def states(incomplete: str) -> list[str]:
    """The states of a payout."""
    from kasoko_cli.domain.payout import PayoutStatus

    return [status for status in PayoutStatus if status.startswith(incomplete.upper())]


def _offered(ctx: typer.Context, query: str, incomplete: str, *more: str) -> list[tuple[str, str]]:
    """The first rows of a query of two texts whose first begins as was typed; none if anything goes wrong."""
    pattern = incomplete.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
    with contextlib.suppress(Exception):
        url = _database_url(ctx)
        rows = _from_sqlite if url.startswith("sqlite") else _from_postgres
        return [(str(value), str(says or "")) for value, says in rows(url, f"{query} LIMIT {MOST}", [pattern, *more])]
    return []


def _from_sqlite(url: str, query: str, values: Sequence[str]) -> Sequence[tuple[Any, Any]]:
    import sqlite3

    ends_at = time.monotonic() + PATIENCE_SECONDS
    path = Path(url.split("///", 1)[1]).absolute()
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=PATIENCE_SECONDS)
    try:
        connection.set_progress_handler(lambda: int(time.monotonic() > ends_at), 1_000)
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def _from_postgres(url: str, query: str, values: Sequence[str]) -> Sequence[tuple[Any, Any]]:
    import psycopg

    from kasoko_cli.store.engine import server

    address = "postgresql://" + url.split("://", 1)[1]
    milliseconds = int(PATIENCE_SECONDS * 1_000)
    with psycopg.connect(address, **server.connect_args() | {"connect_timeout": 2}) as connection:
        connection.execute(f"{server.beginning('read')}; SET LOCAL statement_timeout = {milliseconds}".encode())
        # The words of the query are ours; what was typed is handed over as values.
        return connection.execute(query.replace("?", "%s").encode(), values).fetchall()


def _database_url(ctx: typer.Context) -> str:
    """Where the database is: of --database, the environment, .env, kasoko.toml; else the one of this folder."""
    given = ctx.params.get("database_url")
    if given:
        return str(given)
    file = Path(str(ctx.params.get("config_file") or "kasoko.toml"))
    variable = "KASOKO_DATABASE_URL"
    for value in _in_environment(variable, dict(os.environ), Path()):
        return value
    for value in _in_environment(variable, dict(_lines_of(file.parent / ".env")), file.parent):
        return _beside(value, file.parent)
    if file.is_file():
        import tomllib

        found = tomllib.loads(file.read_text(encoding="utf-8")).get("database", {}).get("url")
        if found:
            return _beside(str(found), file.parent)
    return _beside("sqlite:///kasoko.db", file.parent)


def _in_environment(variable: str, values: dict[str, str], folder: Path) -> Iterator[str]:
    if values.get(variable):
        yield values[variable]
    if values.get(f"{variable}_FILE"):
        yield (folder / values[f"{variable}_FILE"]).read_text(encoding="utf-8").strip()


def _lines_of(file: Path) -> Iterator[tuple[str, str]]:
    """The plain `NAME=value` lines of a .env file."""
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            name, found, value = line.removeprefix("export ").partition("=")
            if found:
                yield name.strip(), value.strip().strip("'\"")


def _beside(url: str, folder: Path) -> str:
    """A relative file of SQLite lies beside the file that names it."""
    scheme, found, path = url.partition("///")
    is_relative = url.startswith("sqlite") and found and not path.startswith("/")
    return f"{scheme}///{folder.absolute() / path}" if is_relative else url
