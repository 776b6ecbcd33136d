"""What a long operation asks and reports while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Progress = TypeVar("Progress")


@dataclass(frozen=True, slots=True)
class Hooks(Generic[Progress]):
    """`should_stop` is asked between two steps; `on_progress` is called with what came of each."""

    should_stop: Callable[[], bool] = lambda: False
    on_progress: Callable[[Progress], None] = lambda _: None


#: Nobody stops it, and nobody listens.
NO_HOOKS: Hooks[Any] = Hooks()
