"""Which account with M-Pesa pays: evidence counts only for the one that made the attempt.

Another shortcode, or the sandbox, knows nothing of our payments: its "no such payment" proves nothing, and its
balance covers nothing. So the account may change only when nothing that the last one sent is open, a database that
has paid in the sandbox never pays in production, and M-Pesa is asked about a payment by the account that made it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlmodel import Session

from kasoko_cli.clock import Clock
from kasoko_cli.domain.payer import Payer
from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.errors import Refused
from kasoko_cli.operations.shared.actor import Actor, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import accounts
from kasoko_cli.store.accounts import KnownAccount, OpenElsewhere
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.schema.tables import Attempt
from kasoko_cli.store.statements import RESTORED

#: Evidence of a rejection that is sure in itself: what M-Pesa or the network answered, or what people saw. All
#: other is silence, and then the same id is what holds a second payment back: M-Pesa refuses it, if it was taken.
SURE = ("answer:", "decided by ")
#: The mark of an attempt of which it was found out that it was not sent since a copy was taken.
NOT_SENT_SINCE = "not sent since the copy"

_log = logging.getLogger(__name__)


def hold_to_account(ctx: OperationContext, payer: Payer) -> None:
    """Check that we may act as this account now; payments from before accounts were recorded are taken for its own.

    Raises Refused if this database is of the other environment, or another account has payments under way.
    """

    def may_have_older(session: Session) -> bool:
        current, others = accounts.in_force(session), accounts.open_elsewhere(session, accounts.find(session, payer))
        return (current is None or any(one.account is None for one in others)) and bool(accounts.unclaimed(session))

    if reconnect.read(ctx.db, may_have_older):
        reconnect.write(ctx.db, lambda session: _adopt(session, ctx.clock, ctx.actor, payer))
    reconnect.read(ctx.db, lambda session: check_account(session, payer))


def check_account(session: Session, payer: Payer) -> KnownAccount | None:
    """Check that this account may pay and ask now; returns which one has paid until now.

    Raises Refused if this database is of the other environment, or another account has payments under way.
    """
    current = accounts.in_force(session)
    if current is not None and current.payer.environment != payer.environment:
        raise _wrong_environment(current, payer)
    if others := accounts.open_elsewhere(session, accounts.find(session, payer)):
        raise wrong_account(others, payer)
    return current


def put_in_force(ctx: OperationContext, payer: Payer) -> int:
    """Make this the account that pays from now on; returns its number. A run that pays as another one finds out.

    Raises Refused as `hold_to_account` does.
    """

    def act_on(session: Session) -> int:
        current = accounts.in_force(session, lock=True)
        if current is not None and current.payer == payer:
            return current.id
        check_account(session, payer)
        now = ctx.clock()
        account_id = accounts.ensure(session, payer, at=now)
        accounts.put_in_force(session, account_id)
        detail = {"account": payer.name, "before": None if current is None else current.payer.name}
        note_act(session, ctx.actor, "account.use", "deployment", at=now, detail=detail)
        return account_id

    current = reconnect.read(ctx.db, accounts.in_force)
    if current is not None and current.payer == payer:
        return current.id
    account_id = reconnect.write(ctx.db, act_on)
    if current is not None:
        _log.warning("This database paid as %s until now. From now on it pays as %s.", current.payer.name, payer.name)
    return account_id


def may_be_paid_elsewhere(last: Attempt, account_id: int) -> bool:
    """Whether the next try of a payout would be another account's, and only silence says that the last was not taken.

    Nobody knows whether M-Pesa's memory of ids reaches from one shortcode to another.
    """
    if last.status is not AttemptStatus.REJECTED or last.account_id == account_id:
        return False
    is_sure = (last.evidence or "").startswith(SURE) and last.lease_token != NOT_SENT_SINCE
    return not is_sure or last.lease_token.startswith(RESTORED)


def wrong_account(others: Sequence[OpenElsewhere], payer: Payer) -> Refused:
    """Why nothing is done as this account while another one's payments are open, and what to do."""
    first = others[0]
    named = ", ".join(one.payout_id for one in others[:5]) + (f" and {len(others) - 5:,} more" * (len(others) > 5))
    is_one = len(others) == 1
    of_whom = "an account that nobody wrote down" if first.account is None else first.account.payer.name
    restore = (
        "the settings as they were" if first.account is None else " and ".join(payer.differs_from(first.account.payer))
    )
    return Refused(
        f"{'A payout was' if is_one else f'{len(others):,} payouts were'} sent by {of_whom} and nobody here knows yet"
        f" how {'it' if is_one else 'they'} ended: {named}. The settings are of {payer.name}, which knows nothing of"
        f" {'it' if is_one else 'them'}. Nothing was sent, and nobody was asked.",
        hint=f"Set {restore} again, and ask that account: kasoko reconcile --now. Change it when nothing is open."
        " If it is gone for good, two people say how each ended: kasoko payout decide PAYOUT --help",
    )


def _wrong_environment(current: KnownAccount, payer: Payer) -> Refused:
    is_real = payer.environment == "production"
    of_it, of_settings = ("the sandbox", "real money") if is_real else ("real money", "the sandbox")
    return Refused(
        f"This database is for {of_it}: it pays as {current.payer.name}. The settings are for {of_settings}:"
        f" {payer.name}. Nothing was sent, and nobody was asked.",
        hint=f"A database is for one of the two. Name the one for {of_settings} (database.url, KASOKO_DATABASE_URL;"
        f" a first one: kasoko init), or set {' and '.join(payer.differs_from(current.payer))} again.",
    )


def _adopt(session: Session, clock: Clock, actor: Actor, payer: Payer) -> None:
    """Take payments from before accounts were recorded for this account's, unless something speaks against it."""
    older, now = accounts.unclaimed(session), clock()
    account_id = accounts.ensure(session, payer, at=now)
    adopted = accounts.adopt(session, older, KnownAccount(account_id, payer))
    if adopted:
        said = "Payments from before accounts were written down, %d of them, count as made by %s now."
        _log.warning(said, adopted, payer.name)
        detail = {"account": payer.name, "attempts": adopted, "left": len(older) - adopted}
        note_act(session, actor, "account.adopt", "deployment", at=now, detail=detail)
