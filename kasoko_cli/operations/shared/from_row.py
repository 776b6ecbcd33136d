"""Answers that repeat what stands in a row, under the same names."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def from_row(kind: type[Answer], row: object, **others: Any) -> Answer:
    """A dataclass with what the row has under the names of its fields; `others` are not read from the row."""
    same = {one.name: getattr(row, one.name) for one in fields(kind) if one.name not in others}  # type: ignore[arg-type]
    return kind(**same, **others)
