"""Where the model's database stands: a file or a database on a server, and its copy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from sqlalchemy import create_engine, make_url, text

from kasoko_cli.store.engine import database


class House(Protocol):
    """Where the database stands: how to make an empty one, to copy it aside, and to go back to the copy."""

    url: str

    def back_up(self) -> None:
        """Copy the database aside. Nobody has it open."""

    def restore(self) -> None:
        """Go back to the copy."""

    def close(self) -> None:
        """Remove everything."""


class SqliteHouse:
    """A file, and its copy."""

    def __init__(self, template: Path, folder: Path) -> None:
        self._path = folder / f"{uuid4().hex[:12]}.db"
        self._copy = self._path.with_suffix(".copy")
        shutil.copy(template, self._path)
        self.url = f"sqlite:///{self._path}"

    def back_up(self) -> None:
        """Closing the last connection has put everything into the one file."""
        shutil.copy(self._path, self._copy)

    def restore(self) -> None:
        """As an operator does: the file is replaced, its companions removed."""
        self._remove(self._path)
        shutil.copy(self._copy, self._path)

    def close(self) -> None:
        """Remove both."""
        self._remove(self._path)
        self._copy.unlink(missing_ok=True)

    @staticmethod
    def _remove(path: Path) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


class PostgresHouse:
    """A database on a server, and its copy."""

    def __init__(self, server: str, template: str) -> None:
        self._name = f"kasoko_model_{uuid4().hex[:12]}"
        self._copy = f"{self._name}_copy"
        self._engine = create_engine(database.parse_url(server), isolation_level="AUTOCOMMIT")
        self.url = make_url(server).set(database=self._name).render_as_string(hide_password=False)
        self._make(self._name, template)

    def back_up(self) -> None:
        """A copy as good as a dump."""
        self._drop(self._copy)
        self._make(self._copy, self._name)

    def restore(self) -> None:
        """The copy takes the database's place."""
        self._drop(self._name)
        self._make(self._name, self._copy)

    def close(self) -> None:
        """Remove both."""
        self._drop(self._name)
        self._drop(self._copy)
        self._engine.dispose()

    def _make(self, name: str, template: str) -> None:
        self._do(f"CREATE DATABASE {name} TEMPLATE {template}")

    def _drop(self, name: str) -> None:
        self._do(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _do(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.execute(text(statement))
