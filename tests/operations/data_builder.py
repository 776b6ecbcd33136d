"""A deployment that bets: users, markets and stakes in few words, and attempts made by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import pytest
from sqlmodel import Session

from kasoko_cli.domain.market import Rules
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, WireLimits
from kasoko_cli.domain.withholding import NO_BOOK, DutyBook
from kasoko_cli.errors import KasokoError
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.payouts import returns
from kasoko_cli.operations.records import bets, markets, users, wallets
from kasoko_cli.operations.records.bets import NewBet
from kasoko_cli.operations.records.markets import NewMarket
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.settlement.settle import Settled
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.transitions import AcknowledgedSend, Success, TransitionResult
from kasoko_cli.store import attempts, callbacks, payouts
from kasoko_cli.store.engine.database import Database, WithinTransaction
from kasoko_cli.store.log import note_event
from kasoko_cli.store.schema.tables import Attempt, Funding, Payout
from tests.conftest import FixedClock

#: The smallest payout that M-Pesa carries is KES 10, the largest KES 250,000.
LIMITS = WireLimits()


def open_market(
    ctx: OperationContext, market_id: str, outcomes: Sequence[str] = ("Yes", "No"), *, hours: int = 1, rules: Rules
) -> None:
    """A market that takes bets for so many hours."""
    closes_at = ctx.clock() + timedelta(hours=hours)
    markets.add_market(ctx, NewMarket(market_id, market_id, f"What of {market_id}?", outcomes, closes_at, rules))


def collected_bet(ctx: OperationContext, market: str, user_id: str, outcome: str, cents: int) -> None:
    """The user's only bet on a market, which the platform has collected."""
    bets.place_bet(ctx, NewBet(f"{market}-{user_id}", market, user_id, outcome, cents, Funding.COLLECTED))


class DataBuilder:
    """Everybody and every market of one test; stakes and deposits are whole shillings unless they say cents."""

    def __init__(self, db: Database, clock: FixedClock, actor: Actor) -> None:
        self.db, self.clock, self.actor = db, clock, actor
        self._people = 0
        self._bets = 0
        self._receipts = 0

    @property
    def context(self) -> OperationContext:
        """What an operation works on."""
        return OperationContext(self.db, self.clock, self.actor)

    def user(self, user_id: str, *, phone: str | None = None, deposit_kes: int = 0) -> str:
        """Somebody with a phone of their own, and perhaps money in the wallet."""
        self._people += 1
        number = phone or f"2547{self._people:08d}"
        users.add_user(self.context, user_id=user_id, name=user_id.title(), phone=number)
        if deposit_kes:
            self.deposit(user_id, deposit_kes * 100)
        return user_id

    def deposit(self, user_id: str, cents: int) -> None:
        """Money that came in for a wallet."""
        self._receipts += 1
        reference = f"DEP{self._receipts:07d}"
        wallets.deposit(self.context, user_id=user_id, cents=cents, reference=reference)

    def market(
        self, market_id: str, outcomes: Sequence[str] = ("Yes", "No"), *, hours: int = 1, rules: Rules | None = None
    ) -> str:
        """A market with a fee of 5 % that closes in an hour, unless said otherwise."""
        open_market(self.context, market_id, outcomes, hours=hours, rules=rules or Rules(fee_bps=500))
        return market_id

    def bet(
        self, market: str, user_id: str, outcome: str, *, kes: int = 0, cents: int = 0, collected: bool = False
    ) -> str:
        """One bet, a second after the one before."""
        self._bets += 1
        self.clock.forward(1)
        bet_id = f"bet-{self._bets:04d}"
        bets.place_bet(
            self.context,
            NewBet(
                bet_id=bet_id,
                market=market,
                user_id=user_id,
                outcome=outcome,
                cents=kes * 100 + cents,
                funding=Funding.COLLECTED if collected else Funding.WALLET,
            ),
        )
        return bet_id

    def bets(self, market: str, stakes_kes: Mapping[str, tuple[str, int]]) -> None:
        """A bet of each user, new ones with just enough in the wallet: `{"ann": ("Yes", 100)}`."""
        for user_id, (outcome, kes) in stakes_kes.items():
            self.user(user_id, deposit_kes=kes)
            self.bet(market, user_id, outcome, kes=kes)

    def settle(
        self,
        market: str,
        *winners: str,
        duties: DutyBook = NO_BOOK,
        approval_above_cents: int | None = None,
    ) -> Settled:
        """Close it a second after the last bet, name the winner (or nobody: void), and divide the pool."""
        self.clock.forward(1)
        markets.close_market(self.context, market=market)
        if winners:
            markets.resolve_market(self.context, market=market, winners=winners)
        else:
            markets.void_market(self.context, market=market)
        return settle.settle_market(
            self.context,
            LIMITS,
            market=market,
            duties=duties,
            approval_above_cents=approval_above_cents,
        )

    def payout_of(self, user_id: str, market: str | None = None) -> Payout:
        """The one payout of a user."""
        with self.db.reading() as session:
            [payout] = payouts.list_payouts(session, user_id=user_id, market_id=market)
            session.expunge(payout)
            return payout

    def balances(self, user_id: str) -> tuple[int, int]:
        """What was ever credited to a wallet, and what can be spent of it, in cents."""
        with self.db.reading() as session:
            return book.wallet_balance(session, user_id), book.available(session, user_id)

    # --- Attempts by hand: the same rows and entries as a run makes, without a wire -------------------------------

    def intend(self, user_id: str) -> str:
        """An attempt under a new id stands as INTENT, and its money is in flight."""
        return self.intend_payout(self.payout_of(user_id).id)

    def intend_payout(self, payout_id: str) -> str:
        """The same for one payout by its id."""
        with self.db.transaction() as session:
            payout = payouts.find_payout(session, payout_id)
            number = len(attempts.list_attempts(session, payout.id)) + 1
            attempt_id = "ks-" + hashlib.sha256(f"{payout.id} {number}".encode()).hexdigest()[:32]
            now = self.clock()
            attempt = Attempt(
                id=attempt_id,
                payout_id=payout.id,
                number=number,
                status=AttemptStatus.INTENT,
                phone="254712345678",
                wire_cents=payout.wire_cents,
                api="v3",
                lease_token="town",
                lease_until=now + timedelta(minutes=5),
                sent_at=now,
                created_at=now,
                status_at=now,
            )
            session.add(attempt)
            session.flush()
            assert payouts.move(session, payout.id, PayoutStatus.SENDING, at=now)
            book.post(session, journal.reserved(attempt_id, 1, payout.wire_cents), at=now)
        return attempt_id

    def again(self, attempt_id: str) -> None:
        """A rejected attempt goes out a second time under its own id."""
        with self.db.transaction() as session:
            attempt, payout = transitions.lock(session, attempt_id)
            now, sends = self.clock(), attempt.sends + 1
            assert attempts.move(session, attempt_id, AttemptStatus.INTENT, at=now, sends=sends, evidence=None)
            assert payouts.move(session, payout.id, PayoutStatus.SENDING, at=now, not_before=None)
            book.post(session, journal.reserved(attempt_id, sends, attempt.wire_cents), at=now)

    def accepted(self, attempt_id: str) -> None:
        """M-Pesa acknowledged it."""
        with self.db.transaction() as session:
            one, _ = transitions.lock(session, attempt_id)
            said = AcknowledgedSend(one.id, one.payout_id, one.sends, one.lease_token, f"AG_{attempt_id}", None)
            transitions.taken(session, [said], at=self.clock())

    def doubted(self, attempt_id: str) -> None:
        """Nobody knows."""
        with self.db.transaction() as session:
            attempt, _ = transitions.lock(session, attempt_id)
            transitions.doubtful(session, attempt, why="no answer", at=self.clock())

    def rejected(self, attempt_id: str, *, for_good: bool = False) -> None:
        """M-Pesa certainly did not take it."""
        with self.db.transaction() as session:
            attempt, _ = transitions.lock(session, attempt_id)
            outcome = transitions.not_taken(
                session,
                attempt,
                transitions.Failure("NOT_SENT", "M-Pesa cannot be reached", "answer:never left"),
                at=self.clock(),
                again_at=None if for_good else self.clock(),
            )
            self._post(session, outcome)

    def failed(self, attempt_id: str) -> None:
        """There is evidence that no money moved."""
        with self.db.transaction() as session:
            attempt, _ = transitions.lock(session, attempt_id)
            evidence = self._callback(session, attempt_id)
            outcome = transitions.not_paid(
                session, attempt, transitions.Failure("2040", "not registered", evidence), at=self.clock()
            )
            self._post(session, outcome)

    def paid(self, attempt_id: str, body: bytes = b"{}") -> str:
        """There is evidence that the phone got it; says the receipt."""
        self._receipts += 1
        receipt = f"SKN{self._receipts:07d}"
        with self.db.transaction() as session:
            attempt, payout = transitions.lock(session, attempt_id)
            evidence = self._callback(session, attempt_id, body)
            success = Success(attempt, payout, receipt, evidence)
            self._post(session, transitions.paid(session, [success], at=self.clock())[0])
        return receipt

    def due_again(self, user_id: str) -> None:
        """A person makes a payout due again."""
        payout = self.payout_of(user_id)
        if payout.status is PayoutStatus.RETURNED:
            returns.send_again(self.context, payout_id=payout.id)
            return
        with self.db.transaction() as session:
            assert payouts.move(session, payout.id, PayoutStatus.PENDING, at=self.clock())
            note_event(session, at=self.clock(), actor="town", action="payout.retry", subject=payout.id)

    def came_back(self, attempt_id: str) -> None:
        """The money of a paid attempt came back from the receiver."""
        with self.db.transaction() as session:
            attempt, payout = transitions.lock(session, attempt_id)
            self._post(session, transitions.returned(session, attempt, payout, at=self.clock(), why="it came back"))

    def _callback(self, session: Session, attempt_id: str, said: bytes = b"{}") -> str:
        """A stored body that says so, and its name as evidence."""
        now = self.clock()
        body = {"route": "result", "subject": attempt_id, "signed": True, "source": "127.0.0.1", "body": said}
        with WithinTransaction(self.db, session).direct() as direct:
            number = callbacks.store(direct, [{"received_at": now, **body}])
        callbacks.take(session, {number: ("by hand", "", None)}, at=now)
        return f"callback:{number}"

    def _post(self, session: Session, outcome: TransitionResult) -> None:
        assert outcome.moved, outcome.note
        book.post(session, *outcome.entries, at=self.clock())


def refusal(call: Callable[[], object], kind: type[KasokoError]) -> tuple[str, str]:
    """The message and the hint of the error that a call must end with, of exactly this kind."""
    with pytest.raises(kind) as refused:
        call()
    assert type(refused.value) is kind
    return refused.value.message, refused.value.hint
