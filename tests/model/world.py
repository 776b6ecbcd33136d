"""A small world for the state machine: one operator, M-Pesa with its own ledger, and everything that may go wrong.

The operations, the database and the client are the real ones; M-Pesa is the simulator's gateway behind a
transport without sockets. Its ledger of the money that really moved is the judge. A *process* here is a
`Database` and a `DarajaClient`; when it crashes both are dropped, nothing of it commits any more, and the next
one opens what is on the disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from sqlmodel import Session, select

from kasoko_cli.clock import nairobi_day
from kasoko_cli.daraja import wire
from kasoko_cli.daraja.callback_urls import CallbackKind, Links
from kasoko_cli.daraja.client import DarajaApp, DarajaClient
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.daraja.simulator.account import Instruction
from kasoko_cli.daraja.simulator.answers import Manner, Notice
from kasoko_cli.daraja.simulator.app import Endpoint, Fault, Rule, Simulator, SimulatorSettings
from kasoko_cli.daraja.simulator.gateway import Request
from kasoko_cli.domain.market import Resolution, Rules
from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus, WireLimits, originator_id
from kasoko_cli.errors import AccountRefused, ConfigurationError, NotSent, Refused
from kasoko_cli.kill_points import COMMIT_BEFORE, REQUEST_BEFORE
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account as LedgerAccount
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.payouts import bulk_decision, manual_decision, retry, returns, sending, switches
from kasoko_cli.operations.payouts.dispatcher import SendOrder
from kasoko_cli.operations.payouts.manual_decision import Decision
from kasoko_cli.operations.payouts.run import Selection, SendPolicy
from kasoko_cli.operations.reconciliation import statement_import, statement_undo, status_queries
from kasoko_cli.operations.reconciliation.status_queries import AskPolicy, Inquiry
from kasoko_cli.operations.records import markets, users
from kasoko_cli.operations.safeguards.failure_confirmation import Confirm
from kasoko_cli.operations.safeguards.payment_guard import Caution
from kasoko_cli.operations.settlement import correction, settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.store import accounts, payouts
from kasoko_cli.store.engine import database
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import open_incidents
from kasoko_cli.store.schema.tables import Attempt, Bet, Deployment, Market, Payout, Query, User
from tests.conftest import CountedIds, FixedClock
from tests.daraja.memory_shelf import MemoryShelf
from tests.model.houses import House
from tests.model.sheets import Export, sheet_of
from tests.operations.data_builder import collected_bet, open_market

KEY = b"a key of thirty-two bytes, or so"
ACT = Actor("ann", "the machine says so")
#: Each user's two numbers; what happens to a payment to the special ones is in the simulator's table.
PHONES: Mapping[str, tuple[str, str]] = {
    "ann": ("254712000111", "254712000112"),
    "ben": ("254712000221", "254799002040"),  # the second fails for good: not registered
    "cyn": ("254799010017", "254712000331"),  # the first: an internal failure that was paid all the same
    "dan": ("254799002040", "254712000441"),
    "eve": ("254799099999", "254799000001"),  # a code that nobody knows, not paid; and one that stops the account
}
#: Who wins how many cents in each market. Two equal payouts to one person are two payments; 40,000 are two legs.
MARKETS: Sequence[Mapping[str, int]] = (
    {"ann": 10_000, "dan": 14_250},
    {"ann": 10_000, "cyn": 5_050, "eve": 2_000},
    {"ben": 40_000, "ann": 12_300},
    {"cyn": 30_000, "dan": 900, "ben": 1_000},
)


class Setting(NamedTuple):
    """What the settings say of the account that pays, and which of the two M-Pesas is behind it."""

    shortcode: str
    base_url: str
    bank: int
    environment: Literal["sandbox", "production"] = "sandbox"


#: Loopback is of this machine, as a simulator on a socket is: the account is the same. Neither M-Pesa knows what the
#: other one did; the third setting is the first account by another way.
SETTINGS = (
    Setting("600999", "http://127.0.0.1:1", 0),
    Setting("600777", "http://127.0.0.1:1", 1),
    Setting("600999", "https://daraja.example.org", 0),
)
REAL_MONEY = Setting("600999", "https://daraja.example.org", 0, "production")
#: Answers of M-Pesa itself, over TLS, that are not true: it denies what it paid. A second answer says how it was.
LIES = (Fault.STATUS_LIES,)
LIMITS = WireLimits(max_cents=20_000)
POLICY = SendPolicy(rate_per_second=0, concurrency=1, daily_cents=50_000)
#: Past every lease.
LEASE_SECONDS = POLICY.lease_seconds + 1
DAY_SECONDS = 86_400


class Crash(BaseException):
    """The process died here. Nothing catches it but the world."""


class Objection(BaseException):
    """Something is wrong that was seen from inside a request: no sender may take it for a broken wire."""


@dataclass
class Plug:
    """When the next crash comes. A process that crashed commits nothing more, whatever its `finally`s do."""

    name: str = ""
    countdown: int = 0
    dead: bool = False
    #: How many transactions have come to their commit: nothing needs another look where it has not changed.
    commits: int = 0

    def pull(self, name: str, countdown: int) -> None:
        """Crash when the point of this name is reached that many times."""
        self.name, self.countdown = name, countdown

    def reset(self) -> None:
        """A new process, and no crash ahead."""
        self.name, self.countdown, self.dead = "", 0, False

    def point(self, name: str) -> None:
        """What the program's named points call instead of doing nothing."""
        if self.dead:
            raise Crash
        self.commits += name == COMMIT_BEFORE
        if name == self.name:
            self.countdown -= 1
            if self.countdown == 0:
                self.die()

    def die(self) -> None:
        """The process dies now."""
        self.dead = True
        raise Crash


@dataclass
class MpesaClock:
    """M-Pesa's own clock: it goes with ours, and whoever sets ours back does not set M-Pesa's."""

    ours: FixedClock
    latest: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.latest = max(self.latest, self.ours())
        return self.latest


@dataclass(frozen=True)
class Deal:
    """What happens to one request: on its way, at M-Pesa, and to its answer."""

    #: Faults of the simulator, at most one of each stage.
    faults: tuple[Fault, ...] = ()
    #: What the wire does: "" carries it; "refused" never connects; "crash before" and "crash after" kill the sender;
    #: "wanders" times out, and the request reaches M-Pesa later.
    wire: str = ""
    #: What other processes and the clock do while the request is under way, before M-Pesa looks at it and after.
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    #: What they do while its sender stands, as a suspended machine does, before its last look.
    stands: tuple[str, ...] = ()


PLAIN = Deal()


@dataclass
class Tally:
    """What happened, for whoever wonders whether the machine gets anywhere."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str) -> None:
        """Count one."""
        self.counts[what] = self.counts.get(what, 0) + 1


class World:
    """Everything there is, and the questions that must always have the right answer."""

    def __init__(self, house: House, *, doubts_failures: bool = False, tally: Tally | None = None) -> None:
        self.house = house
        self.tally = tally or Tally()
        #: With this every failure is confirmed before it is tried again, and M-Pesa may post failures that are false.
        self.confirm = Confirm(0 if doubts_failures else 1_000_000)
        self.caution = Caution(self.confirm)
        self.policy = replace(POLICY, caution=self.caution)
        self.clock, self.new_id, self.plug = FixedClock(), CountedIds(), Plug()
        self.mpesa_clock = MpesaClock(self.clock)
        self.banks = [
            Simulator(SimulatorSettings(shortcode=SETTINGS[bank].shortcode, seed=bank + 1), self.mpesa_clock)
            for bank in range(2)
        ]
        #: As whom the settings pay, and those as whom anybody did.
        self.setting = SETTINGS[0]
        self.used: set[Setting] = set()
        self.links = Links("https://pay.example.org", KEY)
        #: What M-Pesa has posted and nobody has taken yet.
        self.mail: list[Notice] = []
        #: Requests that timed out here and have not reached M-Pesa yet.
        self.wandering: list[tuple[Simulator, httpx.Request]] = []
        #: Ids that a rejected attempt may have although they were paid: a person was rash, or the database forgot.
        self.forgotten: set[str] = set()
        #: Ids of which a person said that they were not paid, while M-Pesa had nothing to show.
        self.said_unpaid: set[str] = set()
        #: Ids of which M-Pesa itself once answered "Declined", and had paid them.
        self.lied_about: set[str] = set()
        self.was_put_back = False
        #: Payments that came back, by our id: when, and M-Pesa's receipt for it. Nobody has that money any more.
        self.came_back: dict[str, tuple[datetime, str]] = {}
        #: Markets whose outcome is another one now, and whether any ever had another.
        self.overridden: set[str] = set()
        self.was_overridden = False
        #: Markets that the database has settled, and those that anybody ever began to settle.
        self.placed: set[int] = set()
        self.ever_placed: set[int] = set()
        self._deals: list[Deal] = []
        self._depth = 0
        self._jumped = False
        self._checked: tuple[int, int] | None = None
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(database, "point", self.plug.point)
        self._patch.setattr(wire, "point", self._at_wire)
        self._credential = self.banks[0].security_credential()
        self._open()
        with self.db.reading() as session:
            self.deployment = session.exec(select(Deployment)).one().deployment_id

    @property
    def simulator(self) -> Simulator:
        """The M-Pesa behind the settings."""
        return self.banks[self.setting.bank]

    def close(self) -> None:
        """Nothing is left."""
        self._patch.undo()
        self._shut()
        self.house.close()

    # --- Processes ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self.db = Database(self.house.url)
        self.daraja = self._client()

    def _shut(self) -> None:
        self.daraja.close()
        self.db.close()

    def _client(self) -> DarajaClient:
        known = self.simulator.settings
        return DarajaClient(
            DarajaApp(
                self.setting.base_url,
                known.consumer_key,
                known.consumer_secret,
                self.setting.shortcode,
                known.initiator_name,
                self._credential,
                environment=self.setting.environment,
            ),
            MemoryShelf(),
            self.clock,
            transport=httpx.MockTransport(partial(self._carry, self.simulator)),
            sleep=lambda _: None,
        )

    @contextmanager
    def process(self) -> Iterator[None]:
        """Whatever happens in here may crash; then every object is dropped and the database opened again."""
        try:
            yield
        except Crash:
            self.tally.add("crash")
            self._depth = 0
            self._deals = []
            self._shut()
            self._open()
        finally:
            self.plug.reset()

    def back_up(self) -> None:
        """Copy the database aside."""
        self._shut()
        self.house.back_up()
        self._open()

    def restore(self) -> None:
        """Go back to the copy: what was recorded since is forgotten, what M-Pesa did is not."""
        self._shut()
        self.house.restore()
        self._open()
        self._checked, self.was_put_back = None, True
        self.forgotten |= {payment["originator_conversation_id"] for payment in self.payments()}
        with self.db.reading() as session:
            stand = {market.id for market in session.exec(select(Market))}
        self.placed = {number for number in self.placed if f"m{number}" in stand}

    # --- The wire -------------------------------------------------------------------------------------------------

    def _carry(self, bank: Simulator, request: httpx.Request) -> httpx.Response:
        """One request; what fails here besides the wire is a failed claim."""
        if self.plug.dead:
            raise Crash
        try:
            return self._deal_with(bank, request)
        except httpx.TransportError:
            raise
        except Exception as error:
            raise Objection(f"{type(error).__name__}: {error}") from error

    def _at_wire(self, name: str) -> None:
        """A named point; just before a request leaves its sender may stand while others act."""
        self.plug.point(name)
        acts = self._deals[0].stands if name == REQUEST_BEFORE and not self._depth and self._deals else ()
        if acts and any(attempt.status is AttemptStatus.INTENT for attempt in self.open_attempts()):
            self._deals[0] = replace(self._deals[0], stands=())
            self._meanwhile(acts, has_left=False)

    def _deal_with(self, bank: Simulator, request: httpx.Request) -> httpx.Response:
        """What the request's deal says; plainly where another process asks in between."""
        assert self.setting.environment == "sandbox", "a request left with settings for real money"
        is_payment = "/b2c/" in request.url.path
        if is_payment:
            self.used.add(self.setting)
            self._check_intent(request)
        asks_token = "/oauth/" in request.url.path
        deal = PLAIN if self._depth or asks_token or not self._deals else self._deals.pop(0)
        self._meanwhile(deal.before)
        if deal.wire == "crash before":
            self.plug.die()
        if deal.wire == "refused":
            raise httpx.ConnectError("refused", request=request)
        if deal.wire == "wanders" and is_payment:
            self.tally.add("request wandered")
            self.wandering.append((bank, request))
            self.forgotten.add(json.loads(request.content)["OriginatorConversationID"])
            raise httpx.ReadTimeout("no answer", request=request)
        response = self._ask_gateway(bank, request, deal.faults)
        if deal.wire == "crash after":
            self.plug.die()
        self._meanwhile(deal.after)
        return response

    def _ask_gateway(self, bank: Simulator, request: httpx.Request, faults: Sequence[Fault]) -> httpx.Response:
        endpoint = Endpoint.STATUS if "/transactionstatus/" in request.url.path else Endpoint.B2C
        rules = []
        for fault in faults:
            if fault is Fault.STATUS_LIES and not self._may_lie(request):
                continue
            try:
                rules.append(Rule(fault, endpoint=endpoint))
            except ValueError:
                continue  # a fault of the other kind of request
        bank.gateway.add_faults(tuple(rules), replace_all=True)
        reply = bank.gateway.handle(
            Request(
                method=request.method,
                path=request.url.path,
                query=request.url.query.decode(),
                headers={name.lower(): value for name, value in request.headers.items()},
                body=request.content,
            )
        )
        for notice in reply.notices:
            if notice.before_answer:
                self.deliver([notice])
            else:
                self.mail.append(notice)
        self.clock.forward(reply.wait_seconds)
        match reply.manner:
            case Manner.WHOLE:
                return httpx.Response(reply.status, content=reply.body, headers={"content-type": reply.content_type})
            case Manner.HALF | Manner.DROPPED:
                raise httpx.RemoteProtocolError("closed", request=request)
            case Manner.RESET:
                raise httpx.ReadError("reset", request=request)
            case _:
                raise httpx.ReadTimeout("no answer in time", request=request)

    def _may_lie(self, request: httpx.Request) -> bool:
        """M-Pesa denies what it paid, once of each payment; what it did not pay it never says it did."""
        asked_id = json.loads(request.content).get("OriginalConversationID", "")
        found = self.taken(asked_id) if "/transactionstatus/" in request.url.path else None
        if found is None or not found.paid or asked_id in self.lied_about:
            return False
        self.tally.add("lied")
        self.lied_about.add(asked_id)
        return True

    def arrive(self, index: int) -> None:
        """A request that wandered reaches M-Pesa at last; nobody waits for its answer."""
        bank, request = self.wandering.pop(index % len(self.wandering))
        try:
            self._ask_gateway(bank, request, ())
        except httpx.TransportError:
            return

    def _meanwhile(self, acts: Sequence[str], *, has_left: bool = True) -> None:
        """What another process does, or the clock, while a request is under way, or has not left yet."""
        for act in acts:
            self._depth += 1
            self.tally.add(f"meanwhile {act}")
            others, self.daraja = self.daraja, self._client()
            try:
                match act:
                    case "lease runs out":
                        self._jumped |= has_left
                        self.clock.forward(LEASE_SECONDS)
                    case "send":
                        self.send()
                    case "reconcile":
                        self.ask()
                    case "deliver":
                        self.deliver(self.take_mail())
                    case "decide":
                        for payout in self.payouts():
                            self.decide_truly(payout)
                    case "retry":
                        self.retry()
                    case "another account":
                        with self.set_for(SETTINGS[1] if self.setting != SETTINGS[1] else SETTINGS[0]):
                            self.send()
                            self.ask()
                    case _:
                        raise AssertionError(act)
            finally:
                self.daraja.close()
                self.daraja = others
                self._depth -= 1

    def _check_intent(self, request: httpx.Request) -> None:
        """What leaves stands in the database before: the same id, number and amount, and its money in flight."""
        body = json.loads(request.content)
        with self.db.reading() as session:
            attempt = session.get(Attempt, body["OriginatorConversationID"])
            assert attempt is not None, "a request left before its intent was written down"
            assert (attempt.phone, attempt.wire_cents) == (body["PartyB"], int(body["Amount"]) * 100)
            if self._jumped:
                return  # the clock jumped over the lease while the request was made: others may have marked it
            assert attempt.status is AttemptStatus.INTENT, f"a request left for an attempt that is {attempt.status}"
            assert attempt.lease_until >= self.clock(), "a request left after its lease had run out"
            payout = payouts.find_payout(session, attempt.payout_id)
            assert payout.status is PayoutStatus.SENDING

    # --- As which account -----------------------------------------------------------------------------------------

    def may_change(self) -> bool:
        """Whether a careful operator changes the account.

        Not while a request may still arrive, or has arrived, of which a person said that it was not paid: another
        M-Pesa would not know its id. Nor after a copy was put back without a word.
        """
        on_the_way = self._on_the_way()
        misled = any(one in on_the_way or self.is_paid(one) for one in self.said_unpaid)
        return not misled and not self.was_put_back

    def set_to(self, setting: Setting) -> None:
        """The settings say another account from now on."""
        self.daraja.close()
        self.setting = setting
        self.daraja = self._client()

    @contextmanager
    def set_for(self, setting: Setting) -> Iterator[None]:
        """Somebody runs something with other settings, and sets them back."""
        before = self.setting
        if not self.may_change():
            setting = before
        self.set_to(setting)
        try:
            yield
        finally:
            self.set_to(before)

    def try_real_money(self) -> None:
        """Somebody sets the sandbox's database to real money: nothing leaves (see `_deal_with`)."""
        with self.db.reading() as session:
            is_in_force = accounts.in_force(session) is not None
        if is_in_force:
            before, self.setting = self.setting, REAL_MONEY
            self.daraja.close()
            self.daraja = self._client()
            try:
                self.send()
                self.ask()
            finally:
                self.set_to(before)

    # --- What an operator does ------------------------------------------------------------------------------------

    def place(self, number: int) -> None:
        """A market with its bets, resolved and settled; the same every time, as a platform's export is."""
        market = f"m{number}"
        self.ever_placed.add(number)
        ctx = OperationContext(self.db, self.clock, ACT)
        with self.db.reading() as session:
            known_users = {user.id for user in session.exec(select(User))}
            known_bets = {bet.id for bet in session.exec(select(Bet))}
            known = session.get(Market, market) is not None
        for user_id in MARKETS[number]:
            if user_id not in known_users:
                users.add_user(ctx, user_id=user_id, name=user_id, phone=PHONES[user_id][0])
        if not known:
            open_market(ctx, market, hours=24, rules=Rules(fee_bps=0))
        for user_id, cents in MARKETS[number].items():
            if f"{market}-{user_id}" not in known_bets:
                collected_bet(ctx, market, user_id, "Yes", cents)
        markets.close_market(ctx, market=market)
        markets.resolve_market(ctx, market=market, winners=["Yes"])
        self.settle(market)
        self.placed.add(number)

    def place_next(self) -> None:
        """One more market; after a restore, the platform's export is imported once more."""
        missing = [number for number in range(len(MARKETS)) if number not in self.placed]
        if missing:
            self.place(missing[0])

    @property
    def gateway(self) -> Gateway:
        """M-Pesa, as the account that pays now."""
        return Gateway(self.daraja, self.links, self.new_id)

    def send(self, deals: Sequence[Deal] = (), *, limit: int | None = None) -> None:
        """One run of sending; each request has its deal, and those after the last are carried plainly."""
        with self._dealt(deals):
            try:
                sending.send_due(
                    OperationContext(self.db, self.clock, ACT),
                    self.gateway,
                    SendOrder(self.policy, Trust(), Selection(limit=limit)),
                )
            except (Refused, AccountRefused, NotSent, ConfigurationError) as error:
                self.tally.add(f"send: {type(error).__name__}")

    def ask(self, deals: Sequence[Deal] = (), *, at_once: bool = True) -> None:
        """One round of reconcile."""
        with self._dealt(deals):
            try:
                status_queries.ask_around(
                    OperationContext(self.db, self.clock, ACT),
                    self.gateway,
                    Inquiry(AskPolicy(confirm=self.confirm), Trust(), at_once=at_once),
                )
            except (Refused, NotSent, ConfigurationError) as error:
                self.tally.add(f"ask: {type(error).__name__}")

    @contextmanager
    def _dealt(self, deals: Sequence[Deal]) -> Iterator[None]:
        """Another process's run in between leaves this one's deals alone."""
        if self._depth:
            yield
            return
        self._deals, self._jumped = list(deals), False
        try:
            yield
        except Objection as objection:
            raise AssertionError(str(objection)) from objection
        finally:
            self._deals = []

    def retry(self) -> list[retry.LeftAlone]:
        """`retry-failed`; says what was left alone."""
        report = retry.retry(OperationContext(self.db, self.clock, ACT), caution=self.caution)
        for _ in report.retried:
            self.tally.add("retried")
        return report.left

    def decide_truly(self, payout: Payout) -> None:
        """Two people who have looked at M-Pesa's portal say how a payout ended; refused where it is known or doubted.

        The first one may say it twice, under two spellings of one name, which is still one person's word.
        """
        live = [attempt for attempt in self.attempts_of(payout.id) if attempt.status in LIVE]
        attempt_id = live[0].id if live else ""
        instruction = self.taken(attempt_id)
        receipt = instruction.transaction_id if instruction is not None and instruction.paid else None
        try:
            spelt_anew = [f" {ACT.name.upper()}"] if payout.number % 4 == 1 else []
            for name in (ACT.name, *spelt_anew, "somebody else"):
                done = manual_decision.decide(
                    OperationContext(self.db, self.clock, Actor(name, ACT.reason)),
                    payout_id=payout.id,
                    decision=Decision(receipt, "the organisation portal"),
                    two_people=True,
                    caution=self.caution,
                )
                assert done.waits_for_second is (name != "somebody else"), done
        except Refused:
            # What was stored is judged first, and may have ended it.
            live = [attempt for attempt in self.attempts_of(payout.id) if attempt.status in LIVE]
            is_in_doubt = receipt is None and self.stand_about(payout.id)
            assert not live or live[0].status is AttemptStatus.INTENT or is_in_doubt, "an unknown payout may be decided"
            return
        self.tally.add("decided")
        if instruction is None:
            self._said_unpaid(attempt_id)

    def _said_unpaid(self, attempt_id: str) -> None:
        """A request may still be on its way: the portal cannot show it."""
        self.forgotten.add(attempt_id)
        self.said_unpaid.add(attempt_id)

    def decide_all_truly(self, *, is_stale: bool = False) -> None:
        """Two people end all that is unknown since an outage: what was sent before the first that the portal shows.

        A list that changed since it was shown (`is_stale`: what was posted arrives in between) is refused.
        """
        span = bulk_decision.SentSpan(self.clock() - timedelta(days=400), self.clock() + timedelta(days=400))
        listed = bulk_decision.look(self.db, self.clock, span, self.caution)
        if shown := [one.sent_at for one in listed.items if self.is_paid(one.attempt_id)]:
            span = bulk_decision.SentSpan(span.first, min(shown) - timedelta(microseconds=1))
            listed = bulk_decision.look(self.db, self.clock, span, self.caution)
        if not listed.items:
            return
        if is_stale:
            self.deliver(self.take_mail())
        try:
            for name in (ACT.name, f" {ACT.name.upper()}", "somebody else"):
                done = bulk_decision.decide_all(
                    OperationContext(self.db, self.clock, Actor(name, ACT.reason)),
                    bulk_decision.BulkDecision(span, listed.list_hash, "the organisation portal"),
                    two_people=True,
                    caution=self.caution,
                )
                assert done.waits_for_second is (name != "somebody else"), done
        except Refused:
            assert is_stale, "what was shown is what may be decided"
            return
        assert [one.payout_id for one in done.decided] == [one.payout_id for one in listed.items]
        self.tally.add("decided in bulk")
        for one in listed.items:
            if self.taken(one.attempt_id) is None:
                self._said_unpaid(one.attempt_id)

    def may_credit(self, payout: Payout) -> bool:
        """Whether a careful person credits a wallet: not what a request still on its way, or forgotten, may pay.

        What M-Pesa has paid otherwise must be refused, whoever asks.
        """
        ids = set(self.family(payout).values())
        unseen = {one for one in ids & self.forgotten if self.is_paid(one)}
        return payout.status is PayoutStatus.COMPLETED or not ids & (self._on_the_way() | unseen)

    def act_on(self, verb: Callable[..., str], payout: Payout, allowed: frozenset[PayoutStatus]) -> None:
        """Hold, release or to-wallet: done where it may be, refused where not."""
        more = {} if verb is manual_decision.hold else {"caution": self.caution}
        try:
            verb(OperationContext(self.db, self.clock, ACT), payout_id=payout.id, **more)
        except Refused:
            self.tally.add(f"{verb.__name__}: refused")
            return
        assert payout.status in allowed, f"{verb.__name__} of a payout that was {payout.status}"
        self.tally.add(verb.__name__)

    def take_statement(self, export: Export) -> statement_import.StatementReport | None:
        """`reconcile --statement`: a true one of the account that pays is taken in, another account's is refused."""
        bank = self.banks[export.bank]
        file = sheet_of(bank, export, self.mpesa_clock(), self.came_back).read()
        is_ours = bank.settings.shortcode == self.setting.shortcode
        try:
            report = statement_import.take_statement(
                OperationContext(self.db, self.clock, ACT),
                file,
                statement_import.StatementRules(
                    shortcode=self.setting.shortcode, customers_are_counted=True, caution=self.caution
                ),
            )
        except Refused:
            assert not is_ours, "a true statement of the account that pays is refused"
            self.tally.add("statement: refused")
            return None
        assert is_ours, "the statement of another account was taken in"
        for verdict in report.by_verdict:
            self.tally.add(f"statement: {verdict}")
        return report

    def undo_statement(self, which: int) -> None:
        """`statement undo` of one that stands; refused where something was built on it."""
        taken = [one for one in statement_undo.list_taken(self.db) if one.state != "taken back"]
        if not taken:
            return
        number = taken[which % len(taken)].id
        try:
            done = statement_undo.undo_statement(OperationContext(self.db, self.clock, ACT), statement_id=number)
        except Refused:
            self.tally.add("statement undo: refused")
            return
        self.tally.add("statement undone")
        known = {payout.id: payout.status for payout in self.payouts()}
        for payout_id in done.unknown_again:
            assert known[payout_id] not in (PayoutStatus.PENDING, PayoutStatus.WALLET), "silence that was taken back"

    def may_be_put_back(self) -> bool:
        """Whether a copy may take the database's place without a word: its ids alone must hold everything.

        They do not where another account has paid since, or where what was paid is owed again under other ids.
        """
        return len(self.used) <= 1 and not self.came_back and not self.was_overridden

    def money_comes_back(self, payout: Payout) -> None:
        """M-Pesa gives a payment back, and a person says so; the same once more where nobody has heard it yet."""
        paid = [one for one in self.attempts_of(payout.id) if one.status is AttemptStatus.SUCCEEDED]
        if payout.status is not PayoutStatus.COMPLETED or self.was_put_back:
            return
        [attempt] = paid
        instruction = self.taken(attempt.id)
        assert instruction is not None
        if attempt.id not in self.came_back:
            self.came_back[attempt.id] = (self.mpesa_clock(), f"UKR{len(self.came_back):07d}")
            [bank] = [bank for bank in self.banks if bank.gateway._account.find(attempt.id) is not None]
            bank.gateway.top_up(instruction.amount_cents)
            self.tally.add("came back")
        receipt = self.came_back[attempt.id][1]
        try:
            returns.came_back(
                OperationContext(self.db, self.clock, ACT), payout_id=payout.id, receipt=receipt, caution=self.caution
            )
        except Refused:
            assert self.stand_about(payout.id), "what came back may be said where nothing is in doubt"

    def send_again(self, payout: Payout) -> None:
        """`payout again`: only what came back."""
        try:
            returns.send_again(OperationContext(self.db, self.clock, ACT), payout_id=payout.id, caution=self.caution)
        except Refused:
            return
        assert payout.status is PayoutStatus.RETURNED, f"sent again although it was {payout.status}"
        self.tally.add("again")

    def change_outcome(self, market: str) -> None:
        """Another outcome, which gives everybody the same: what nobody has sent is owed anew under other ids.

        Two people where money has left. A careful person waits for what is still on its way.
        """
        theirs = [payout for payout in self.payouts() if payout.market_id == market]
        if self.was_put_back or not all(self.may_credit(payout) for payout in theirs):
            return
        outcome = Resolution(winners=(0,)) if market in self.overridden else Resolution(void=True)
        before = self._owed(market)
        try:
            shown = self._override(ACT, market, outcome, None)
            if shown.waits_for_second:
                shown = self._override(Actor("somebody else", ACT.reason), market, outcome, shown.plan_hash)
        except Refused:
            self.tally.add("override: refused")
            return
        assert shown.is_new
        self.settle(market)
        self.tally.add(f"override: {shown.way}")
        self.overridden ^= {market}
        self.was_overridden = True
        assert self._owed(market) == before, "another outcome of the same worth owes the same"

    def settle(self, market: str) -> None:
        """What is owed is worked out; a market that is settled already stays as it is."""
        settle.settle_market(OperationContext(self.db, self.clock, ACT), LIMITS, market=market)

    def _override(self, actor: Actor, market: str, outcome: Resolution, confirm: str | None) -> correction.Override:
        return correction.override(
            OperationContext(self.db, self.clock, actor),
            correction.OverridePolicy(LIMITS, caution=self.caution),
            market=market,
            resolution=outcome,
            confirm=confirm,
        )

    def _owed(self, market: str) -> int:
        """What a market's payouts are worth, those left out that were taken back."""
        return sum(
            payout.amount_cents
            for payout in self.payouts()
            if payout.market_id == market and payout.status is not PayoutStatus.CANCELED
        )

    def stand_about(self, payout_id: str) -> bool:
        """Whether an incident stands about a payout."""
        with self.db.reading() as session:
            return bool(open_incidents(session, payout_id=payout_id))

    def close_incidents(self) -> None:
        """A person has looked at each."""
        with self.db.reading() as session:
            numbers = [incident.id for incident in open_incidents(session)]
        for number in numbers:
            assert number is not None
            manual_decision.close_incidents(OperationContext(self.db, self.clock, ACT), numbers=[number])

    def resume(self) -> None:
        """Sending may go on."""
        switches.resume(OperationContext(self.db, self.clock, ACT))

    def set_phone(self, user_id: str, phone: str) -> None:
        """A user gives another number; one that the database does not know has none to change."""
        if any(user_id in MARKETS[number] for number in self.placed):
            users.set_phone(OperationContext(self.db, self.clock, ACT), user_id=user_id, phone=phone)

    # --- What arrives ---------------------------------------------------------------------------------------------

    def take_mail(self) -> list[Notice]:
        """Everything that M-Pesa has posted so far."""
        taken, self.mail = self.mail, []
        return taken

    def deliver(self, notices: Sequence[Notice], *, apply: bool = True) -> None:
        """The listener takes these; it may die before it applies them."""
        arrived = []
        for notice in notices:
            route = self.links.parse(urlsplit(notice.url).path)
            assert route is not None, notice.url
            arrived.append(Delivery(route.kind, route.id, route.mac_ok, "196.201.214.200", self.clock(), notice.body))
        if arrived:
            self.tally.add("delivered")
            apply_results.store_deliveries(self.db, self.clock, arrived)
        if apply:
            self.apply()

    def apply(self) -> None:
        """What was stored is judged."""
        apply_results.apply_waiting(self.db, self.clock, Trust())

    def forge(self, kind: CallbackKind, subject: str, body: bytes, *, signed: bool) -> None:
        """Somebody posts a body; `signed` has seen the address."""
        apply_results.store_deliveries(
            self.db, self.clock, [Delivery(kind, subject, signed, "203.0.113.9", self.clock(), body)]
        )
        self.apply()

    # --- What is known --------------------------------------------------------------------------------------------

    def payments(self) -> list[dict[str, Any]]:
        """The judge: every payment that moved money."""
        found: list[dict[str, Any]] = []
        for bank in self.banks:
            payments = bank.gateway.ledger()["payments"]
            assert isinstance(payments, list)
            found += payments
        return found

    def taken(self, attempt_id: str) -> Instruction | None:
        """What either M-Pesa knows under this id."""
        found = (bank.gateway._account.find(attempt_id) for bank in self.banks)
        return next((one for one in found if one is not None), None)

    def is_paid(self, attempt_id: str) -> bool:
        """Whether money moved under this id."""
        instruction = self.taken(attempt_id)
        return instruction is not None and instruction.paid

    def payouts(self) -> list[Payout]:
        """Every payout, in the order in which they were owed."""
        with self.db.reading() as session:
            found = list(payouts.list_payouts(session))
            session.expunge_all()
            return found

    def attempts(self) -> list[Attempt]:
        """Every attempt."""
        with self.db.reading() as session:
            return _all_attempts(session)

    def open_attempts(self) -> list[Attempt]:
        """Those whose fate is not known."""
        return [attempt for attempt in self.attempts() if attempt.status in LIVE]

    def attempts_of(self, payout_id: str) -> list[Attempt]:
        """The attempts of one payout, first to last."""
        return [attempt for attempt in self.attempts() if attempt.payout_id == payout_id]

    def open_queries(self) -> list[Query]:
        """Questions that have no answer yet."""
        with self.db.reading() as session:
            found = [query for query in session.exec(select(Query)) if query.answered_at is None]
            session.expunge_all()
            return sorted(found, key=lambda query: query.id)

    def family(self, payout: Payout) -> dict[int, str]:
        """The ids that this payout can ever have, by number, as far as any run gets."""
        return {number: originator_id(self.deployment, payout, number) for number in range(1, 30)}

    def _on_the_way(self) -> set[str]:
        """The ids of requests that may still arrive."""
        return {json.loads(request.content)["OriginatorConversationID"] for _, request in self.wandering}

    # --- What must always hold ------------------------------------------------------------------------------------

    def check(self) -> None:
        """Every invariant, whatever has happened so far."""
        moved = self._check_judge()
        if (seen := (self.plug.commits, len(moved))) == self._checked:
            return
        with self.db.reading() as session:
            attempts = _all_attempts(session)
            known = list(payouts.list_payouts(session))
            in_flight = book.balance(session, LedgerAccount.IN_FLIGHT, "")
            kinds = {incident.kind for incident in open_incidents(session)}
        assert "overpaid" not in kinds
        assert in_flight == sum(attempt.wire_cents for attempt in attempts if attempt.status in LIVE)
        by_payout: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            by_payout.setdefault(attempt.payout_id, []).append(attempt)
            self._check_attempt(attempt, moved.get(attempt.id))
        for payout in known:
            self._check_payout(payout, by_payout.get(payout.id, []), moved)
        report = audit(self.db)
        assert [(one.name, one.violations) for one in report.checks if not one.ok] == []
        self._checked = seen

    def _check_judge(self) -> dict[str, dict[str, Any]]:
        """Nobody was paid twice, by M-Pesa's own ledger; its payments by our ids."""
        payments = self.payments()
        kept = [one for one in payments if one["originator_conversation_id"] not in self.came_back]
        references = [payment["reference"] for payment in kept]
        assert len(set(references)) == len(references), f"paid twice: {references}"
        users = {phone: user_id for user_id, phones in PHONES.items() for phone in phones}
        received: dict[tuple[str, str], int] = {}
        for one in kept:
            whose = str(one["reference"]).partition(" ")[0], users[one["phone"]]
            received[whose] = received.get(whose, 0) + one["amount_cents"]
        for (market, user_id), cents in received.items():
            assert cents <= MARKETS[int(market[1:])][user_id], f"{user_id} was paid {cents} cents for {market}"
        return {payment["originator_conversation_id"]: payment for payment in payments}

    def _check_attempt(self, attempt: Attempt, payment: Mapping[str, Any] | None) -> None:
        if attempt.status in (AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED):
            assert payment is not None, f"{attempt.id} is believed paid, and no money moved"
            assert (payment["receipt"], payment["amount_cents"]) == (attempt.receipt, attempt.wire_cents)
        elif attempt.status is AttemptStatus.FAILED:
            # A failure that M-Pesa itself invents is believed; it is asked about before anything is sent again.
            is_false = self.confirm.above_cents == 0 or attempt.id in self.lied_about
            assert payment is None or is_false, f"{attempt.id} is believed failed, and was paid"
        elif attempt.status is AttemptStatus.REJECTED:
            assert payment is None or attempt.id in self.forgotten, f"{attempt.id} is believed not taken, and was paid"

    def _check_payout(self, payout: Payout, attempts: list[Attempt], moved: Mapping[str, object]) -> None:
        """A payout that M-Pesa paid is believed paid, or is asked about, or meets its old id before a new one."""
        for earlier, later in pairwise(attempts):
            is_others = earlier.account_id != later.account_id
            is_spent = earlier.status is not AttemptStatus.REJECTED or is_others
            assert is_spent, f"{earlier.id} was never taken, and a new id was drawn"
        by_number = {attempt.number: attempt for attempt in attempts}
        if payout.status is PayoutStatus.COMPLETED:
            assert any(attempt.status is AttemptStatus.SUCCEEDED for attempt in attempts)
        next_number = len(attempts) + (not attempts or attempts[-1].status is not AttemptStatus.REJECTED)
        for number, attempt_id in self.family(payout).items():
            if attempt_id not in moved or attempt_id in self.came_back:
                continue
            assert payout.status not in (PayoutStatus.WALLET, PayoutStatus.CANCELED), "the phone and the wallet"
            attempt = by_number.get(number)
            if attempt is not None and attempt.status in {*LIVE, AttemptStatus.SUCCEEDED}:
                continue
            if attempt is not None and attempt.status is AttemptStatus.FAILED:
                # Only where M-Pesa posted a false failure: nothing may be due before it was asked about.
                assert payout.status in (PayoutStatus.FAILED, PayoutStatus.HELD), f"{payout.id} is {payout.status}"
                continue
            assert next_number <= number, f"{payout.id} was paid as number {number}, and would go as {next_number}"

    # --- The end --------------------------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """Faults stop, time passes, everything arrives and is asked about; then we believe exactly what moved."""
        self.plug.reset()
        while self.wandering:
            self.arrive(0)
        for number in sorted(self.ever_placed - self.placed):
            self.place(number)
        for number in self.placed:
            self.settle(f"m{number}")
        for turn in range(6):
            self._find_out()
            self.check()
            if not self._try_again(last=turn >= 4):
                break
        self._find_out()
        known = {payout.id: payout for payout in self.payouts()}
        for attempt in self.attempts():
            if attempt.id in self.came_back and attempt.status is AttemptStatus.SUCCEEDED:
                self.money_comes_back(known[attempt.payout_id])
        self.check()
        self._check_agreed()

    def _find_out(self) -> None:
        """Ask until nothing is open; a person speaks only where M-Pesa cannot."""
        self.deliver(self.take_mail())
        for _ in range(3):
            if not self.open_attempts() and not self.lied_about:
                break
            self.clock.forward(LEASE_SECONDS)
            for _ in self._each_setting():
                self.ask()
                self.deliver(self.take_mail())
        self.close_incidents()
        known = {payout.id: payout for payout in self.payouts()}
        for attempt in self.open_attempts():
            self._check_needs_person(attempt)
            self.decide_truly(known[attempt.payout_id])

    def _check_needs_person(self, attempt: Attempt) -> None:
        """M-Pesa, asked three times and telling the truth, settles all that it ever took to this very number."""
        instruction = self.taken(attempt.id)
        if instruction is None or instruction.phone != attempt.phone:
            return
        acknowledged = attempt.conversation_id in (None, instruction.conversation_id)
        assert not acknowledged, f"{attempt.id} is {attempt.status}, although M-Pesa knows and says how it ended"

    def _try_again(self, *, last: bool) -> bool:
        """Everything that is owed and did not go goes again; says whether there was anything."""
        self.close_incidents()
        self.resume()
        for payout in self.payouts():
            if payout.status is PayoutStatus.HELD and not last:
                self.act_on(manual_decision.release, payout, frozenset({PayoutStatus.HELD}))
        if last:
            due = [payout for payout in self.payouts() if payout.status is PayoutStatus.PENDING]
        else:
            failed = {payout.id: payout for payout in self.payouts()}
            for left in self.retry():
                if left.status == PayoutStatus.FAILED:
                    self._toggle_phone(failed[left.payout_id].user_id)
            self.retry()
            due = [payout for payout in self.payouts() if payout.status is PayoutStatus.PENDING]
        self.clock.forward(DAY_SECONDS)
        for _ in self._each_setting():
            self.send()
            self.deliver(self.take_mail())
        return bool(due)

    def _each_setting(self) -> Iterator[Setting]:
        """Everything that was paid as somebody is looked at as that one."""
        for setting in sorted(self.used) or [self.setting]:
            self.set_to(setting)
            yield setting

    def _toggle_phone(self, user_id: str) -> None:
        with self.db.reading() as session:
            user = session.get(User, user_id)
            assert user is not None
            other = next(phone for phone in PHONES[user_id] if phone != user.phone)
        self.set_phone(user_id, other)

    def _check_agreed(self) -> None:
        """What we believe is what moved, to the cent."""
        moved = self._check_judge()
        assert audit(self.db, deep=True).ok
        for payout in self.payouts():
            attempts = self.attempts_of(payout.id)
            assert not [one for one in attempts if one.status in LIVE], f"{payout.id} is {payout.status} for ever"
            believed = {one.id for one in attempts if one.status is AttemptStatus.SUCCEEDED}
            really = set(self.family(payout).values()) & set(moved) - set(self.came_back)
            assert believed == really, f"{payout.id}, {payout.status}: believed {believed}, moved {really}"
            assert (payout.status is PayoutStatus.COMPLETED) == bool(really), f"{payout.id} is {payout.status}"
        collected = sum(sum(MARKETS[number].values()) for number in self.placed)
        with self.db.reading() as session:
            assert book.balance(session, LedgerAccount.IN_FLIGHT, "") == 0
            utility = book.balance(session, LedgerAccount.UTILITY, "")
            # What a statement shows and a copy that was put back has forgotten stands here for a person.
            utility += book.balance(session, LedgerAccount.SUSPENSE, "")
        paid = sum(one["amount_cents"] for attempt_id, one in moved.items() if attempt_id not in self.came_back)
        assert utility == collected - paid, "lost or minted"
        assert sum(bank.settings.utility_cents - bank.gateway._account.utility_cents for bank in self.banks) == paid

    def just_past_midnight(self) -> None:
        """A new day begins in Nairobi."""
        _, tomorrow = nairobi_day(self.clock())
        self.clock.now = tomorrow + timedelta(seconds=1)


def _all_attempts(session: Session) -> list[Attempt]:
    found = sorted(session.exec(select(Attempt)), key=lambda attempt: (attempt.payout_id, attempt.number))
    session.expunge_all()
    return found


def with_faults(*faults: Fault) -> Deal:
    """A request that is carried, and these faults."""
    return replace(PLAIN, faults=faults)


def in_old_words(body: bytes) -> bytes:
    """The same as older answers of Daraja have it: keys of two words, and a name that is no UTF-8."""
    body = re.sub(rb'ConversationID"(\s*,\s*"Value")', rb' Conversation ID"\1', body).replace(b'" Con', b'"Con')
    return re.sub(rb'(PublicName"\s*,\s*"Value"\s*:\s*"[^"]*)"', lambda found: found[1] + b' N\xc9"', body)
