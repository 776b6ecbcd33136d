"""The people who bet, and the phones they are paid on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kasoko_cli.domain import phone as phones
from kasoko_cli.domain.market import check_identifier, clean_text
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import payouts, statements, users
from kasoko_cli.store.engine import row_digests
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.locking import told_of_a_collision
from kasoko_cli.store.schema.tables import User, new_batch, new_salt


@dataclass(frozen=True, slots=True)
class UserView:
    """One user, with the phone masked, both balances and what the user owes back, in cents; as in `Wallet`."""

    id: str
    name: str
    phone: str
    balance_cents: int
    available_cents: int
    receivable_cents: int
    suspense_cents: int
    payouts: int
    created_at: datetime
    phone_set_at: datetime


@dataclass(frozen=True, slots=True)
class UserLine:
    """One user in a list."""

    id: str
    name: str
    phone: str


def add_user(ctx: OperationContext, *, user_id: str, name: str, phone: str, any_block: bool = False) -> bool:
    """Take in a user; says whether it is new.

    Raises Refused if the phone is not a Kenyan mobile, or this id already names somebody else.
    """
    user_id = check_identifier(user_id, what="user id")
    name = clean_text(name, what="name", most=200)
    number = phones.normalize(phone, any_block=any_block)
    now = ctx.clock()
    with told_of_a_collision(f"the user {user_id}"), ctx.db.transaction() as session:
        known = users.known_users(session, [user_id]).get(user_id)
        if known is not None:
            if (known.name, known.phone) == (name, number):
                return False
            raise Refused(
                f"The user {user_id!r} exists with another name or phone; nothing was changed.",
                hint=f"For a new number: kasoko user set-phone {user_id} PHONE. For another person choose another id.",
            )
        batch, salt = new_batch(), new_salt()
        seal = row_digests.person_seal(salt, user_id, name, number)
        user = User(id=user_id, name=name, phone=number, created_at=now, phone_set_at=now)
        user.salt, user.seal, user.batch = salt, seal, batch
        session.add(user)
        session.flush()
        detail = {"batch": batch, "people": row_digests.people_digest(session, batch)}
        note_act(session, ctx.actor, "user.add", user_id, at=now, detail=detail)
    return True


def set_phone(ctx: OperationContext, *, user_id: str, phone: str, any_block: bool = False) -> bool:
    """Give a user another number; payouts that are sent from now on go there. Says whether it changed.

    Raises:
        NotFound: there is no such user.
        Refused: the phone is not a Kenyan mobile.
    """
    number = phones.normalize(phone, any_block=any_block)
    now = ctx.clock()
    with ctx.db.transaction() as session:
        user = users.find_user(session, user_id, lock=True)
        if user.phone == number:
            return False
        seal = row_digests.person_seal(user.salt, user.id, user.name, number)
        detail = {"seal": seal}  # no digit of either number: what is written here cannot be taken back
        user.phone, user.phone_set_at = number, now
        note_act(session, ctx.actor, "user.set-phone", user_id, at=now, detail=detail)
    return True


def list_users(db: Database, *, limit: int | None = None) -> list[UserLine]:
    """Every user, phones masked."""
    with db.reading() as session:
        return [
            UserLine(user.id, user.name, phones.mask(user.phone)) for user in users.list_users(session, limit=limit)
        ]


def show_user(db: Database, user_id: str) -> UserView:
    """One user with both balances. Raises NotFound if there is no such user."""
    with db.reading() as session:
        user = users.find_user(session, user_id)
        return UserView(
            id=user.id,
            name=user.name,
            phone=phones.mask(user.phone),
            balance_cents=book.wallet_balance(session, user_id),
            available_cents=book.available(session, user_id),
            receivable_cents=book.balance(session, Account.RECEIVABLE, user_id),
            suspense_cents=statements.suspense_of(session, user_id),
            payouts=len(payouts.list_payouts(session, user_id=user_id)),
            created_at=user.created_at,
            phone_set_at=user.phone_set_at,
        )
