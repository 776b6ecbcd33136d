"""Config -> database, Daraja client, clock, ids: what an operation is given.

Every part is made when it is first asked for, so that `market list` never meets M-Pesa and
`config show` never opens a database.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kasoko_cli.clock import Clock, NewId, random_id, system_clock
from kasoko_cli.config import Config, load_config

if TYPE_CHECKING:
    from kasoko_cli.store.database import Database


class House:
    """The settings and what they furnish: the database, M-Pesa, time and ids."""

    def __init__(self, config: Config, *, clock: Clock = system_clock, new_id: NewId = random_id) -> None:
        self.config = config
        self.clock = clock
        self.new_id = new_id

    @classmethod
    def furnished(cls, config_file: Path | None = None, *, options: Mapping[str, object] | None = None) -> House:
        """The house of this process: settings from the files, the environment and the command's options.

        Raises:
            ConfigurationError: the settings cannot be read or used.
        """
        return cls(load_config(config_file, options=options))

    @functools.cached_property
    def db(self) -> Database:
        """The database, opened, with its schema checked.

        Raises:
            DatabaseUnavailable: it is not there or cannot be opened.
            SchemaOutOfDate: its tables are of another version.
        """
        from kasoko_cli.store.database import open_database

        return open_database(self.config.database.url)

    def close(self) -> None:
        """Give back what was opened."""
        if "db" in self.__dict__:
            self.db.close()
