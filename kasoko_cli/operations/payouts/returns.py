"""Money that came back from a receiver, and sending it again.

It stands in the user's wallet, which was credited when the payout was paid, and is not credited a second time. To be
sent again it is kept from what the user can spend, until it has arrived or is left in the wallet for good.
"""

from __future__ import annotations

from kasoko_cli.domain.market import check_identifier
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, fold_receipt
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import needs_reason, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import attempts, payouts, users


def came_back(ctx: OperationContext, *, payout_id: str, receipt: str, caution: Caution = payment_guard.CAREFUL) -> bool:
    """Record that the money of a completed payout came back; returns whether this call did it.

    `receipt` is M-Pesa's proof of the money that came back, for whoever reads the record.

    Raises:
        NotFound: there is no such payout.
        Refused: it is not completed, no reason was given, or the guard objects.
    """
    needs_reason(ctx.actor, "Saying that money came back")
    receipt = check_identifier(fold_receipt(receipt), what="receipt")
    payment_guard.judge_first(ctx.db, ctx.clock, caution, [payout_id])
    now = ctx.clock()
    with ctx.db.transaction() as session:
        payout = payouts.find_payout(session, payout_id, lock=True)
        if payout.status is PayoutStatus.RETURNED:
            return False
        paid = [one for one in attempts.list_attempts(session, payout_id) if one.status is AttemptStatus.SUCCEEDED]
        if payout.status is not PayoutStatus.COMPLETED or not paid:
            raise Refused(
                f"{payout_id} is {payout.status}: only what reached a phone can come back. Nothing was changed.",
                hint=f"Look: kasoko payout show {payout_id}",
            )
        payment_guard.check(session, Way.RETURNED, [payout], caution, now=now)
        delivering = [one for one in paid if book.is_posted(session, journal.delivered_key(payout_id, one.id))]
        assert len(delivering) == 1, "a completed payout was delivered once"
        outcome = transitions.returned(
            session, delivering[0], payout, at=now, why=f"came back by {receipt}: {ctx.actor.reason}"
        )
        detail = {"receipt": receipt, "attempt": delivering[0].id, "cents": delivering[0].wire_cents}
        note_act(session, ctx.actor, "payout.returned", payout_id, at=now, detail=detail)
        book.post(session, *outcome.entries, at=now)
    return True


def send_again(ctx: OperationContext, *, payout_id: str, caution: Caution = payment_guard.CAREFUL) -> None:
    """Make a payout whose money came back due again, under an id of its own; the next run sends it.

    Raises:
        NotFound: there is no such payout.
        Refused: its money did not come back, the user has spent it, no reason was given, or the guard objects.
    """
    needs_reason(ctx.actor, "Sending again what came back")
    payment_guard.judge_first(ctx.db, ctx.clock, caution, [payout_id])
    now = ctx.clock()
    with ctx.db.transaction() as session:
        payout = payouts.find_payout(session, payout_id, lock=True)
        users.find_user(session, payout.user_id, lock=True)
        if payout.status is not PayoutStatus.RETURNED:
            raise Refused(
                f"{payout_id} is {payout.status}: its money did not come back. Nothing was changed.",
                hint=f"Look: kasoko payout show {payout_id}",
            )
        payment_guard.check(session, Way.AGAIN, [payout], caution, now=now)
        left, back = book.available(session, payout.user_id), payout.wire_cents + payout.withheld_cents
        if left < back:
            raise Refused(
                f"The user {payout.user_id} has KES {format_kes(left)} left of the KES"
                f" {format_kes(back)} that came back, and spent the rest. Nothing was changed.",
                hint=f"Leave it in the wallet: kasoko payout to-wallet {payout_id}",
            )
        nth = attempts.count_returned(session, payout_id)
        moved = payouts.move(
            session, payout_id, PayoutStatus.PENDING, at=now, only_from={PayoutStatus.RETURNED}, **transitions.ANEW
        )
        assert moved, "a payout that we hold as RETURNED may be sent again"
        note_act(session, ctx.actor, "payout.again", payout_id, at=now, detail={"cents": back, "after": nth})
        book.post(session, journal.due_again(payout_id, nth, payout.user_id, back), at=now)
