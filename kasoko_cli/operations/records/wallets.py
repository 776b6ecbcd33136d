"""What users hold with the operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.domain.market import check_identifier
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import fold_receipt, is_receipt
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way
from kasoko_cli.operations.shared.actor import needs_reason, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import payouts, statements, users
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.locking import told_of_a_collision


@dataclass(frozen=True, slots=True)
class WalletLine:
    """One movement of a wallet: credits raise it. `account` says which of the two numbers it moves."""

    at: datetime
    entry: str
    kind: str
    account: str
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Wallet:
    """Everything ever credited (`balance`) and what can still be spent (`available`), in cents.

    `receivable_cents` is what the user owes back; `suspense_cents` is money of payments to the user that a statement
    has and nobody has explained: in positive, out negative.
    """

    user: str
    balance_cents: int
    available_cents: int
    receivable_cents: int
    suspense_cents: int
    lines: list[WalletLine]


def show_wallet(db: Database, user_id: str, *, limit: int = 50) -> Wallet:
    """A user's wallet with its latest movements. Raises NotFound if there is no such user."""
    with db.reading() as session:
        users.find_user(session, user_id)
        return Wallet(
            user=user_id,
            balance_cents=book.wallet_balance(session, user_id),
            available_cents=book.available(session, user_id),
            receivable_cents=book.balance(session, Account.RECEIVABLE, user_id),
            suspense_cents=statements.suspense_of(session, user_id),
            lines=[WalletLine(*row) for row in book.movements_of(session, user_id, limit=limit)],
        )


def deposit(ctx: OperationContext, *, user_id: str, cents: int, reference: str) -> bool:
    """Credit a wallet with money that arrived in our M-Pesa account; says whether it is new.

    `reference` names the arrival, such as the receipt of the customer's payment: each is taken once.

    Raises:
        NotFound: there is no such user.
        Refused: the amount is not positive, or the reference was taken for another user or amount.
    """
    reference = check_identifier(reference, what="reference")
    if cents <= 0:
        raise Refused(f"A deposit of KES {format_kes(cents)} is not money; nothing was changed.")
    now = ctx.clock()
    with told_of_a_collision(f"the reference {reference}"), ctx.db.transaction() as session:
        users.find_user(session, user_id, lock=True)
        reference = _as_it_stands(session, "deposit", reference)
        entry = journal.deposited(reference, user_id, cents)
        if standing := book.lines_of(session, entry.key):
            if journal.Posting(Account.WALLET, user_id, -cents) in standing:
                return False
            raise Refused(
                f"The reference {reference!r} was taken before, for another user or amount; nothing was changed.",
                hint="Each arrival of money has its own reference: use the receipt of the customer's payment.",
            )
        note_act(session, ctx.actor, "wallet.deposit", user_id, at=now, detail={"cents": cents, "reference": reference})
        book.post(session, entry, at=now)
    return True


def _as_it_stands(session: Session, what: str, reference: str) -> str:
    """A reference as an entry has it already, in whatever case; else as it is kept: a receipt in capitals."""
    if not is_receipt(reference):
        return reference
    spellings = (reference, fold_receipt(reference), reference.lower())
    standing = (one for one in spellings if book.is_posted(session, f"{what}:{one}"))
    return next(standing, fold_receipt(reference))


#: Where money that was overpaid comes back from.
SOURCES = {"wallet": Account.WALLET, "mpesa": Account.UTILITY, "bank": Account.BANK}


def recover(
    ctx: OperationContext,
    *,
    user_id: str,
    cents: int,
    source: str,
    reference: str,
    caution: Caution = payment_guard.CAREFUL,
) -> bool:
    """Write down that a user gave back what was overpaid; says whether it is new.

    `reference` names it, such as the receipt of the user's payment: each is taken once.

    Raises:
        NotFound: there is no such user.
        Refused: the user does not owe that much, the wallet does not have it, or no reason was given.
    """
    how = (Way.RECOVER, caution, SOURCES[source])
    return _reduce_debt(ctx, how, user_id=user_id, cents=cents, reference=reference)


def write_off(
    ctx: OperationContext, *, user_id: str, cents: int, reference: str, caution: Caution = payment_guard.CAREFUL
) -> bool:
    """Give up what a user owes; says whether it is new.

    Raises:
        NotFound: there is no such user.
        Refused: the user does not owe that much, or no reason was given.
    """
    how = (Way.WRITE_OFF, caution, None)
    return _reduce_debt(ctx, how, user_id=user_id, cents=cents, reference=reference)


def _reduce_debt(
    ctx: OperationContext, how: tuple[Way, Caution, Account | None], *, user_id: str, cents: int, reference: str
) -> bool:
    way, caution, source = how
    what = "write-off" if source is None else "recover"
    needs_reason(ctx.actor, f"A {what}" if source is None else "Recovering what was overpaid")
    reference = check_identifier(reference, what="reference")
    if cents <= 0:
        raise Refused(f"KES {format_kes(cents)} is not money; nothing was changed.")
    payment_guard.judge_first_of(ctx.db, ctx.clock, caution, user_id)
    now = ctx.clock()
    with told_of_a_collision(f"the reference {reference}"), ctx.db.transaction() as session:
        users.find_user(session, user_id, lock=True)
        if source is None:
            entry = journal.written_off(reference, user_id, cents)
        else:
            reference = _as_it_stands(session, "recover", reference)
            entry = journal.recovered(reference, user_id, cents, source)
        if book.is_posted(session, entry.key):
            if sorted(book.lines_of(session, entry.key)) == sorted(entry.postings):
                return False
            raise Refused(
                f"The reference {reference!r} was taken before, for something else; nothing was changed.",
                hint="Each has its own reference: use the receipt, or a number of your own.",
            )
        payment_guard.check(
            session, way, payouts.list_payouts(session, user_id=user_id), caution, now=now, subject=user_id
        )
        owed = book.balance(session, Account.RECEIVABLE, user_id)
        if owed < cents:
            raise Refused(
                f"The user {user_id} owes KES {format_kes(owed)}, and not KES {format_kes(cents)}."
                " Nothing was changed.",
                hint=f"See what is owed: kasoko wallet show {user_id}",
            )
        if source is Account.WALLET and (left := book.available(session, user_id)) < cents:
            raise Refused(
                f"The user {user_id} has KES {format_kes(left)} available, and not KES {format_kes(cents)}."
                " Nothing was changed.",
                hint="Recover that much now, and the rest when there is more.",
            )
        detail = {"cents": cents, "reference": reference, "source": "" if source is None else str(source)}
        note_act(session, ctx.actor, f"wallet.{what}", user_id, at=now, detail=detail)
        book.post(session, entry, at=now)
    return True
