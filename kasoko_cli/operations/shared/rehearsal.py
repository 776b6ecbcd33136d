"""What an act would do: it goes its own way to the end, in a transaction that is undone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine.database import WithinTransaction

T = TypeVar("T")


class _Enough(Exception):
    """Undoes the transaction: it was only a look."""


def rehearse(ctx: OperationContext, act: Callable[[OperationContext], T]) -> T:
    """What `act` would answer if it were done now; nothing of it stays. Raises what it would raise.

    A plan needs no reason: where none is given yet, one stands in for it.
    """
    found: list[T] = []
    actor = replace(ctx.actor, reason=ctx.actor.reason or "a plan")
    with suppress(_Enough), ctx.db.transaction() as session:
        found.append(act(replace(ctx, db=WithinTransaction(ctx.db, session), actor=actor)))
        raise _Enough
    return found[0]
