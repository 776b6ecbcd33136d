"""The way of a payout in a few words: winners on given phones, a settled market, M-Pesa, its results.

`PayoutHarness` talks to the simulator's gateway without a socket, by the fixed clock; its results wait in `posts`
until they are delivered, so that a test decides what arrives, when, and how often. `LoudRoad` has the same
simulator, our client and our listener on loopback sockets. Both end with the same question: do the books
hold, and is what we believe what really moved?
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from sqlmodel import col, select

from kasoko_cli.daraja.callback_urls import CallbackKind, Links
from kasoko_cli.daraja.client import DarajaApp, DarajaClient, RequestLimits
from kasoko_cli.daraja.listener import Delivery, listener_app
from kasoko_cli.daraja.serve import AsgiApp, Receive, Scope, Send, Server
from kasoko_cli.daraja.simulator.answers import Manner, Notice
from kasoko_cli.daraja.simulator.app import Simulator, SimulatorSettings
from kasoko_cli.daraja.simulator.gateway import Request
from kasoko_cli.domain.market import Rules
from kasoko_cli.domain.payout import AttemptStatus, WireLimits
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account as LedgerAccount
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.callbacks import apply_results as receive
from kasoko_cli.operations.callbacks.apply_results import Judged, Trust
from kasoko_cli.operations.callbacks.inbox import Inbox
from kasoko_cli.operations.payouts import retry, sending
from kasoko_cli.operations.payouts.dispatcher import SendOrder
from kasoko_cli.operations.payouts.retry import Retried
from kasoko_cli.operations.payouts.run import Run, Selection, SendPolicy, Sent
from kasoko_cli.operations.reconciliation import status_queries as reconcile
from kasoko_cli.operations.reconciliation.status_queries import AskPolicy, Inquiry, Reconciled
from kasoko_cli.operations.records import markets, users
from kasoko_cli.operations.safeguards.failure_confirmation import Confirm
from kasoko_cli.operations.safeguards.payment_guard import Caution
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.operations.shared.watching import Hooks
from kasoko_cli.store import attempts, callbacks, payouts
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import open_incidents
from kasoko_cli.store.schema.tables import Attempt, EntryRow, Incident, Payout, PostingRow, Query
from tests.conftest import CountedIds, FixedClock
from tests.daraja.memory_shelf import MemoryShelf
from tests.operations import owed
from tests.operations.data_builder import collected_bet, open_market

KEY = b"a key of thirty-two bytes, or so"
#: A phone of somebody to whom nothing special happens.
ANN, BEN, CYN = "254712000111", "254712000222", "254712000333"
RECEIPT = "UKN7A1B2C3"
#: Who pays, and whose the statements of `paper.py` are.
SHORTCODE = "600000"

#: As fast as it goes, one after another.
AT_ONCE = SendPolicy(rate_per_second=0, concurrency=1)

#: What a test may put in the place of an answer: None lets the simulator answer.
Interpose = Callable[[httpx.Request], httpx.Response | None]


@dataclass(frozen=True, slots=True)
class Money:
    """Everything in the database that says where money is; two of them are equal if nothing moved."""

    entries: tuple[tuple[Any, ...], ...]
    postings: tuple[tuple[Any, ...], ...]
    attempts: tuple[tuple[Any, ...], ...]
    payouts: tuple[tuple[Any, ...], ...]


#: Databases that hold every invariant, by the digest of all their rows.
_WHOLE: set[bytes] = set()


class PayoutHarness:
    """A database, M-Pesa without a socket, and everything between them."""

    def __init__(
        self,
        db: Database,
        clock: FixedClock,
        new_id: CountedIds,
        actor: Actor,
        settings: SimulatorSettings | None = None,
        *,
        api: Literal["v1", "v3"] = "v3",
        simulator: Simulator | None = None,
    ) -> None:
        self.db, self.clock, self.new_id, self.actor = db, clock, new_id, actor
        self.simulator = simulator or Simulator(settings or SimulatorSettings(shortcode=SHORTCODE), clock)
        self.links = Links("https://pay.example.org", KEY)
        self.posts: list[Notice] = []
        self.requests: list[httpx.Request] = []
        self.interpose: Interpose = lambda request: None
        self.trust = Trust()
        #: Whether the fixture asks at the end of the test; a test that breaks rows by hand says no.
        self.books_hold_at_the_end = True
        self.daraja = self.client(api=api)

    @property
    def gateway(self) -> Gateway:
        """M-Pesa, as this account."""
        return Gateway(self.daraja, self.links, self.new_id)

    @property
    def context(self) -> OperationContext:
        """What an operation works on."""
        return OperationContext(self.db, self.clock, self.actor)

    def client(
        self,
        *,
        api: Literal["v1", "v3"] = "v3",
        sends: int = 3,
        url: str = "https://daraja.example.org",
        shelf: MemoryShelf | None = None,
        **other: Any,
    ) -> DarajaClient:
        """A client of its own, as another process has; `other` is what its account has otherwise.

        Processes of one deployment share the `shelf`: each new token ends the one before.
        """
        return DarajaClient(
            replace(self.account(url, api), **other),
            shelf or MemoryShelf(),
            self.clock,
            limits=RequestLimits(5, 10, sends),
            transport=httpx.MockTransport(self._carry),
            sleep=lambda _: None,
        )

    def account(self, url: str, api: Literal["v1", "v3"] = "v3") -> DarajaApp:
        """The simulator's organisation."""
        known = self.simulator.settings
        return DarajaApp(
            url,
            known.consumer_key,
            known.consumer_secret,
            known.shortcode,
            known.initiator_name,
            self.simulator.security_credential(),
            api=api,
        )

    def _carry(self, request: httpx.Request) -> httpx.Response:
        """The wire: what the test put in between, or else the simulator's gateway."""
        self.requests.append(request)
        if (answer := self.interpose(request)) is not None:
            return answer
        return self.ask_simulator(request)

    def ask_simulator(self, request: httpx.Request) -> httpx.Response:
        """The simulator's answer; what it owes because of it waits in `posts`."""
        reply = self.simulator.gateway.handle(
            Request(
                method=request.method,
                path=request.url.path,
                query=request.url.query.decode(),
                headers={name.lower(): value for name, value in request.headers.items()},
                body=request.content,
            )
        )
        self.posts += reply.notices
        if reply.manner is not Manner.WHOLE:
            raise httpx.ReadError("the connection broke", request=request)
        return httpx.Response(reply.status, content=reply.body, headers={"content-type": reply.content_type})

    # --- What is owed ---------------------------------------------------------------------------------------------

    def owe(
        self,
        winners: Mapping[str, str],
        *,
        cents: int = 10_000,
        market: str = "derby",
        approval_above_cents: int | None = None,
    ) -> None:
        """A settled market that owes each of these users `cents`: the pool of a loser makes it so, without a fee."""
        is_empty = owed.is_empty(owed.counted(self.db))
        wanted = (tuple(winners.items()), cents, market, approval_above_cents, self.clock(), self.actor)
        if is_empty and owed.lay(self.db, wanted):
            return
        self.stake(winners, cents=cents, market=market)
        self.settle(market, approval_above_cents=approval_above_cents)
        if is_empty:
            owed.keep(self.db, wanted)

    def stake(self, winners: Mapping[str, str], *, cents: int = 10_000, market: str = "derby") -> None:
        """A market by which each of these users wins `cents` where Yes wins."""
        # The bets came a second ago: at the moment of the close they would be late, and refunded.
        self.clock.forward(-1)
        for user_id, phone in {**winners, "loser": "254712999000"}.items():
            users.add_user(self.context, user_id=user_id, name=user_id, phone=phone)
        self.open_market(market)
        stake = cents // 2
        for user_id in winners:
            self.bet(market, user_id, "Yes", stake)
        self.bet(market, "loser", "No", (cents - stake) * len(winners))
        self.clock.forward(1)

    def settle(self, market: str = "derby", *, approval_above_cents: int | None = None) -> None:
        """Yes has won, and what is owed is written down."""
        markets.close_market(self.context, market=market)
        markets.resolve_market(self.context, market=market, winners=["Yes"])
        settle.settle_market(self.context, WireLimits(), market=market, approval_above_cents=approval_above_cents)

    def bet(self, market: str, user_id: str, outcome: str, cents: int) -> None:
        """The user stakes so much, which the platform has collected."""
        collected_bet(self.context, market, user_id, outcome, cents)

    def open_market(self, market: str) -> None:
        """A market on Yes or No that takes bets for an hour, without a fee."""
        open_market(self.context, market, rules=Rules(fee_bps=0))

    # --- What is done ---------------------------------------------------------------------------------------------

    def send(
        self,
        policy: SendPolicy = AT_ONCE,
        *,
        daraja: DarajaClient | None = None,
        market: str | None = None,
        only: Sequence[str] = (),
        limit: int | None = None,
        max_seconds: float | None = None,
        stay: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Callable[[Sent], None] = lambda _: None,
    ) -> Run:
        """One run of sending."""
        return sending.send_due(
            self.context,
            self.gateway if daraja is None else replace(self.gateway, daraja=daraja),
            SendOrder(policy, self.trust, Selection(market, only, limit), max_seconds=max_seconds, stay=stay),
            Hooks(should_stop, on_progress),
        )

    def deliver(self, notices: Iterable[Notice] | None = None) -> list[Judged]:
        """M-Pesa posts what it owes, or what the test hands in; it is stored and applied."""
        if notices is None:
            notices, self.posts = self.posts, []
        arrived = []
        for notice in notices:
            route = self.links.parse(urlsplit(notice.url).path)
            assert route is not None, notice.url
            arrived.append(
                Delivery(route.kind, route.id, route.mac_ok, "196.201.214.200", self.clock(), body=notice.body)
            )
        if arrived:
            receive.store_deliveries(self.db, self.clock, arrived)
        return receive.apply_waiting(self.db, self.clock, self.trust)

    def post(self, kind: CallbackKind, subject: str, body: bytes | Mapping[str, Any], *, signed: bool = True) -> str:
        """Somebody posts a body by hand; the verdict on it, or "waits"."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        delivery = Delivery(kind, subject, signed, "203.0.113.9", self.clock(), body=content)
        receive.store_deliveries(self.db, self.clock, [delivery])
        judged = receive.apply_waiting(self.db, self.clock, self.trust)
        return judged[-1].verdict if judged else "waits"

    def reconcile(
        self, *, at_once: bool = True, deliver: bool = True, confirm_above_cents: int = 1_000_000
    ) -> Reconciled:
        """One round of asking, with its answers."""
        report = reconcile.ask_around(
            self.context,
            self.gateway,
            Inquiry(AskPolicy(confirm=Confirm(confirm_above_cents)), self.trust, at_once=at_once),
        )
        if deliver:
            self.deliver()
        return report

    def retry(self, *, confirm_above_cents: int = 1_000_000, confirm_apart_seconds: int = 300, **which: Any) -> Retried:
        """What failed becomes due again, where that can help."""
        caution = Caution(Confirm(confirm_above_cents, confirm_apart_seconds), self.trust)
        return retry.retry(self.context, caution=caution, **which)

    def set_phone(self, user_id: str, phone: str) -> None:
        """The user gives another number."""
        users.set_phone(self.context, user_id=user_id, phone=phone)

    # --- What stands there ----------------------------------------------------------------------------------------

    def payout(self, user_id: str, market: str | None = None) -> Payout:
        """The one payout of a user."""
        with self.db.reading() as session:
            [payout] = payouts.list_payouts(session, user_id=user_id, market_id=market)
            session.expunge(payout)
            return payout

    def attempts(self, user_id: str, market: str | None = None) -> list[Attempt]:
        """The attempts of a user's one payout, first to last."""
        payout = self.payout(user_id, market)
        with self.db.reading() as session:
            found = list(attempts.list_attempts(session, payout.id))
            session.expunge_all()
            return found

    def attempt(self, user_id: str, market: str | None = None) -> Attempt:
        """The latest attempt of a user's one payout."""
        return self.attempts(user_id, market)[-1]

    def states(self, user_id: str) -> tuple[str, list[str]]:
        """The state of a user's payout and those of its attempts."""
        return str(self.payout(user_id).status), [str(attempt.status) for attempt in self.attempts(user_id)]

    def statuses(self) -> dict[str, str]:
        """The state of each user's payout."""
        with self.db.reading() as session:
            return {payout.user_id: str(payout.status) for payout in payouts.list_payouts(session)}

    def incidents(self) -> list[str]:
        """The kinds of the incidents that nobody has closed."""
        with self.db.reading() as session:
            return [incident.kind for incident in open_incidents(session)]

    def all_incidents(self) -> list[Incident]:
        """Every incident."""
        with self.db.reading() as session:
            found = list(session.exec(select(Incident)))
            session.expunge_all()
            return found

    def queries(self) -> list[Query]:
        """Every question that was asked, first to last."""
        with self.db.reading() as session:
            found = list(session.exec(select(Query).order_by(col(Query.asked_at), col(Query.id))))
            session.expunge_all()
            return found

    def note_answer(self, attempt_id: str, said: str, at: datetime, *, asked_by: int | None) -> None:
        """M-Pesa, asked by an account, answered so, as far as the database knows."""
        with self.db.transaction() as session:
            session.add(
                Query(
                    id=f"kq-{attempt_id[-6:]}-{self.new_id()}",
                    kind="STATUS",
                    attempt_id=attempt_id,
                    asked_at=at,
                    answered_at=at,
                    answer=said,
                    account_id=asked_by,
                )
            )

    def entries(self, *kinds: str) -> dict[str, list[tuple[str, str, int]]]:
        """The lines of each entry of these kinds, by its key."""
        with self.db.reading() as session:
            rows = session.exec(
                select(EntryRow, PostingRow)
                .join(PostingRow, col(PostingRow.entry_id) == col(EntryRow.id))
                .order_by(col(PostingRow.entry_id), col(PostingRow.line))
            )
            found: dict[str, list[tuple[str, str, int]]] = {}
            for entry, line in rows:
                if not kinds or entry.kind in kinds:
                    found.setdefault(entry.key, []).append((line.account, line.owner, line.amount_cents))
            return found

    def sending_entries(self) -> dict[str, list[tuple[str, str, int]]]:
        """Everything in the books that came after the settlement."""
        return {key: lines for key, lines in self.entries().items() if not key.startswith(("bet:", "settle:"))}

    def money(self) -> Money:
        """Where money is, by every row that says so."""
        with self.db.reading() as session:
            return Money(
                entries=tuple((row.id, row.key, row.kind) for row in session.exec(select(EntryRow))),
                postings=tuple(
                    (row.entry_id, row.line, row.account, row.owner, row.amount_cents)
                    for row in session.exec(select(PostingRow))
                ),
                attempts=tuple(
                    (row.id, row.payout_id, row.number, row.wire_cents, row.sends, row.receipt, row.evidence)
                    for row in session.exec(select(Attempt).order_by(col(Attempt.id)))
                ),
                payouts=tuple(
                    (row.id, row.amount_cents, row.wire_cents, row.tries, row.failure_code)
                    for row in session.exec(select(Payout).order_by(col(Payout.id)))
                ),
            )

    def balance(self, account: LedgerAccount, owner: str = "") -> int:
        """The debit balance of an account."""
        with self.db.reading() as session:
            return book.balance(session, account, owner)

    def wallet(self, user_id: str) -> tuple[int, int]:
        """What was ever credited to a user, and what of it can be spent."""
        with self.db.reading() as session:
            return book.wallet_balance(session, user_id), book.available(session, user_id)

    # --- M-Pesa's side ---------------------------------------------------------------------------------------------

    def ledger(self) -> list[dict[str, Any]]:
        """Every payment that moved money."""
        payments = self.simulator.gateway.ledger()["payments"]
        assert isinstance(payments, list)
        return payments

    def paid_to(self, phone: str) -> int:
        """Cents that really reached a phone."""
        return sum(payment["amount_cents"] for payment in self.ledger() if payment["phone"] == phone)

    def result(
        self,
        attempt: Attempt,
        *,
        code: object = 0,
        amount: object = None,
        receipt: object = RECEIPT,
        transaction_id: object = None,
        originator: object = "ours",
        conversation: object = "acknowledged",
        result_type: object = 0,
        receiver: str | None = None,
        desc: str = "as the code says",
    ) -> dict[str, Any]:
        """A result as M-Pesa writes it; None leaves a field out."""
        fields = {
            "ResultType": result_type,
            "ResultCode": code,
            "ResultDesc": desc,
            "OriginatorConversationID": attempt.id if originator == "ours" else originator,
            "ConversationID": attempt.conversation_id if conversation == "acknowledged" else conversation,
            "TransactionID": receipt if transaction_id is None else transaction_id,
        }
        body: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        if code in (0, "0"):
            wanted = attempt.wire_cents // 100 if amount is None else amount
            parameters: list[dict[str, object]] = []
            if wanted != "left out":
                parameters.append({"Key": "TransactionAmount", "Value": wanted})
            if receipt is not None:
                parameters.append({"Key": "TransactionReceipt", "Value": receipt})
            if receiver is not None:
                parameters.append({"Key": "ReceiverPartyPublicName", "Value": f"{receiver} - JANE DOE"})
            body["ResultParameters"] = {"ResultParameter": parameters}
        return {"Result": body}

    # --- The question at the end -----------------------------------------------------------------------------------

    def assert_books(self) -> None:
        """Every invariant holds. What this process has found whole before, row for row, is not looked at again."""
        content = owed.digest(self.db)
        if content not in _WHOLE:
            report = audit(self.db, deep=True)
            wrong = [(check.name, check.violations) for check in report.checks if not check.ok]
            assert not wrong, wrong
            _WHOLE.add(content)

    def assert_agreed(self) -> None:
        """The books hold, nobody was paid twice, and what we believe is what really moved.

        An attempt whose fate is open may have been paid or not; all others are known. Only v3: there M-Pesa's
        ledger has our ids.
        """
        self.assert_books()
        moved = {payment["originator_conversation_id"]: payment for payment in self.ledger()}
        assert len(moved) == len(self.ledger()), "one id was paid twice"
        with self.db.reading() as session:
            known = list(session.exec(select(Attempt)))
        unknown_to_us = set(moved) - {attempt.id for attempt in known}
        assert not unknown_to_us, "money moved under ids that are not in the database"
        for attempt in known:
            payment = moved.get(attempt.id)
            if attempt.status is AttemptStatus.SUCCEEDED:
                assert payment is not None, f"{attempt.id} is believed paid, and no money moved"
                assert (payment["receipt"], payment["amount_cents"]) == (attempt.receipt, attempt.wire_cents)
            elif attempt.status in (AttemptStatus.FAILED, AttemptStatus.REJECTED):
                assert payment is None, f"{attempt.id} is believed {attempt.status}, and money moved"
        times = Counter(attempt.payout_id for attempt in known if attempt.id in moved)
        assert [payout_id for payout_id, n in times.items() if n > 1] == []
        wired = sum(one.wire_cents for one in known if one.status is AttemptStatus.SUCCEEDED)
        flying = sum(
            one.wire_cents
            for one in known
            if one.status in (AttemptStatus.INTENT, AttemptStatus.ACCEPTED, AttemptStatus.UNKNOWN)
        )
        collected = sum(
            cents
            for lines in self.entries("bet").values()
            for account, _, cents in lines
            if account == LedgerAccount.UTILITY
        )
        assert self.balance(LedgerAccount.UTILITY) == collected - wired - flying
        assert self.balance(LedgerAccount.IN_FLIGHT) == flying


class LoudHarness(PayoutHarness):
    """The same with real sockets: the simulator serves, our client calls it, our listener takes the results."""

    def __init__(
        self,
        db: Database,
        clock: FixedClock,
        new_id: CountedIds,
        actor: Actor,
        settings: SimulatorSettings | None = None,
        *,
        timeout_seconds: float = 2.0,
        total_seconds: float = 4.0,
    ) -> None:
        super().__init__(db, clock, new_id, actor, settings)
        self._stack = ExitStack()
        self._timeouts = timeout_seconds, total_seconds

    def __enter__(self) -> LoudHarness:
        try:
            self.inbox = Inbox(self.db, self.clock, self.trust)
            self._stack.callback(self.inbox.close)
            behind: list[AsgiApp] = []

            async def listener(scope: Scope, receive: Receive, send: Send) -> None:
                await behind[0](scope, receive, send)

            server = self._stack.enter_context(Server(listener))
            self.listener_url = server.url
            self.links = Links(server.url, KEY)
            behind.append(listener_app(self.inbox.take, self.links, clock=self.clock))
            # After the listener, so that it stops before: what is under way still finds somebody to take it.
            url = self._stack.enter_context(self.simulator.serving())
            self.daraja = DarajaClient(
                self.account(url),
                MemoryShelf(),
                self.clock,
                limits=RequestLimits(*self._timeouts),
                sleep=lambda _: None,
            )
            self._stack.callback(self.daraja.close)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def waiting(self) -> int:
        """How many results were stored and not applied yet."""
        with self.db.reading() as session:
            return callbacks.count_waiting(session)

    def until(self, done: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait for what comes over the wire, but not for ever."""
        ends_at = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < ends_at, f"it did not come: {self.statuses()}"
            time.sleep(0.02)
