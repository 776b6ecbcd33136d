"""What naming a winner would lead to, before it is done: the same road, rolled back at its end."""

from __future__ import annotations

import contextlib

from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.domain.withholding import NO_BOOK, DutyBook
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.records.markets import Named
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.settlement.settle import Settled
from kasoko_cli.operations.shared.context import OperationContext


class _Enough(Exception):
    """Undoes the transaction: it was only a look."""


def preview_resolution(
    ctx: OperationContext, limits: WireLimits, *, market: str, named: Named, duties: DutyBook = NO_BOOK
) -> Settled | None:
    """How the market would be settled if it were resolved so; None where it is resolved so already.

    Nothing is written: the market is resolved and planned in a transaction that is undone.
    Raises what resolving and settling would.
    """
    found: Settled | None = None
    with contextlib.suppress(_Enough), ctx.db.transaction() as session:
        row, is_new = markets.resolve_in(session, ctx, market=market, named=named)
        if is_new:
            plan = settle.work_out(session, row, limits, duties=settle.duties_on(duties, ctx.clock()))
            found = settle.planned(session, plan)
        raise _Enough
    return found
