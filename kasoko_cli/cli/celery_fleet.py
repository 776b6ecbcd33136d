"""The tasks of a Celery fleet, as a command uses them: Celery is loaded, and may be missing, only then."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType


def tasks_of(call: CommandContext) -> ModuleType:
    """The tasks, working in the container of this call.

    Raises:
        ConfigurationError: Celery is not installed, or the settings cannot be used.
    """
    try:
        from kasoko_cli.cli import tasks
    except ImportError as error:
        raise ConfigurationError(
            f"Celery is not installed ({error.name}); nothing was enqueued or served.",
            hint="Install it where kasoko is installed: pip install 'celery[redis]'",
        ) from error
    from kasoko_cli.cli.container import Container

    options = {"--database": call.database_url}
    tasks.configure(
        functools.partial(Container.from_settings, call.config_file, options=options), call.container.config, call.actor
    )
    return tasks
