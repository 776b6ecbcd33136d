"""What naming a winner would lead to, before it is done: the same road, rolled back at its end."""

from __future__ import annotations

from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.domain.withholding import NO_BOOK, DutyBook
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.records.markets import Named
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.settlement.settle import Settled
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.rehearsal import rehearse


def preview_resolution(
    ctx: OperationContext, limits: WireLimits, *, market: str, named: Named, duties: DutyBook = NO_BOOK
) -> Settled | None:
    """How the market would be settled if it were resolved so; None where it is resolved so already.

    Nothing is written: the market is resolved and planned in a transaction that is undone.
    Raises what resolving and settling would.
    """

    def resolved(inside: OperationContext) -> Settled | None:
        with inside.db.transaction() as session:
            row, is_new = markets.resolve_in(session, inside, market=market, named=named)
            if not is_new:
                return None
            plan = settle.work_out(session, row, limits, duties=settle.duties_on(duties, ctx.clock()))
            return settle.planned(session, plan)

    return rehearse(ctx, resolved)
