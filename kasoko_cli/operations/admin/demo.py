"""The whole road on a database that is thrown away, against the built-in simulator.

Two markets: the operator's own example, and one where every winner meets another kind of trouble. It
runs the same operations as the commands do, over real HTTP, and ends by comparing our books with the
simulator's own ledger of the money that really moved.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import httpx

from kasoko_cli.clock import random_id, system_clock
from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.daraja.client import DarajaApp, DarajaClient, RequestLimits
from kasoko_cli.daraja.listener import listener_app
from kasoko_cli.daraja.serve import AsgiApp, Receive, Scope, Send, Server
from kasoko_cli.daraja.simulator.app import Simulator, SimulatorSettings
from kasoko_cli.domain.market import Rules
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import PayoutStatus, WireLimits
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account as LedgerAccount
from kasoko_cli.operations.account.access_tokens import DatabaseShelf
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.callbacks.inbox import Inbox
from kasoko_cli.operations.payouts import retry, sending
from kasoko_cli.operations.payouts.dispatcher import SendOrder
from kasoko_cli.operations.payouts.run import Selection, SendPolicy
from kasoko_cli.operations.reconciliation import status_queries
from kasoko_cli.operations.records import bets, markets, users, wallets
from kasoko_cli.operations.records.bets import NewBet
from kasoko_cli.operations.records.markets import NewMarket
from kasoko_cli.operations.reporting import status_views
from kasoko_cli.operations.safeguards.payment_guard import CAREFUL
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.store import callbacks
from kasoko_cli.store.engine.database import Database, open_database, upgrade

#: Who wins on the second market, on which phone of the simulator's table, and what happens there.
TROUBLES = (
    ("Achieng", "254712000111", "nothing: an ordinary payment"),
    ("Barasa", "254799100002", "refused twice for too many requests"),
    ("Chebet", "254799200005", "the connection breaks, once taken"),
    ("Dalmas", "254799200002", "an HTML page, and the money moves"),
    ("Eunice", "254799200008", "half of an acknowledgement"),
    ("Fatuma", "254799002040", "a number that is not registered"),
    ("Githinji", "254799100001", "a number that is impossible"),
)

#: Where the two whose number was wrong are paid in the end.
NEW_PHONE = {"Fatuma": "254712000222", "Githinji": "254712000333"}

ACT = Actor("demo", "the demo")
FEE = Rules(fee_bps=500)


class Presenter(Protocol):
    """Who shows the demo."""

    def scene(self, title: str) -> None:
        """A new part begins."""

    def say(self, text: str) -> None:
        """One sentence."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows under columns; those named KES or with a colon stand right."""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """How the demo ended; `proven` says that our books and the simulator's ledger agree to the cent."""

    markets: int
    payouts: int
    paid_once: int
    paid_twice: int
    wire_cents: int
    simulator_cents: int
    checks: int
    violations: int
    seconds: int
    proven: bool


@dataclass(frozen=True, slots=True)
class _Set:
    """Everything that stands on the stage."""

    db: Database
    daraja: DarajaClient
    links: Links
    simulator: Simulator

    @property
    def context(self) -> OperationContext:
        """What its operations work on."""
        return OperationContext(self.db, system_clock, ACT)

    @property
    def gateway(self) -> Gateway:
        """The way to its simulator."""
        return Gateway(self.daraja, self.links, random_id)


def run(folder: Path, stage: Presenter) -> DemoReport:
    """Play the whole road in `folder`, and prove it."""
    started = time.monotonic()
    with _furnished(folder) as on:
        _the_example(on, stage)
        _the_troubles(on, stage)
        return _the_proof(on, stage, started)


@contextmanager
def _furnished(folder: Path) -> Iterator[_Set]:
    """A new database, a simulator, a listener and a client for each other, over loopback."""
    url = f"sqlite:///{folder / 'demo.db'}"
    upgrade(url)
    db = open_database(url)
    inbox = Inbox(db, system_clock, Trust())
    behind: list[AsgiApp] = []

    async def listener(scope: Scope, receive: Receive, send: Send) -> None:
        await behind[0](scope, receive, send)

    simulator = Simulator(SimulatorSettings(seed=7, result_delay_seconds=(0.05, 0.2)))
    try:
        with simulator.serving() as daraja_url, Server(listener) as server:
            links = Links(server.url, secrets.token_bytes(32))
            behind.append(listener_app(inbox.take, links))
            account = DarajaApp(
                daraja_url,
                simulator.settings.consumer_key,
                simulator.settings.consumer_secret,
                simulator.settings.shortcode,
                simulator.settings.initiator_name,
                simulator.security_credential(),
            )
            shelf = DatabaseShelf(db, system_clock, account, random_id())
            daraja = DarajaClient(account, shelf, system_clock, limits=RequestLimits(3, 5))
            try:
                yield _Set(db, daraja, links, simulator)
            finally:
                daraja.close()
    finally:
        inbox.close()
        db.close()


# --- The operator's example ------------------------------------------------------------------------


def _the_example(on: _Set, stage: Presenter) -> None:
    stage.scene("1. Three people bet, Yes wins, two are paid")
    stakes = [("wanjiku", "0712345678", "Yes", 10_000), ("otieno", "0722345678", "Yes", 20_000)]
    stakes.append(("kamau", "0110345678", "No", 15_000))
    _open(on, "rain", "Will it rain in Nairobi on Friday?", ("Yes", "No"), stakes)
    stage.say("Stakes of 100 and 200 on Yes and 150 on No, a fee of 5 %. The result is Yes.")
    markets.resolve_market(on.context, market="rain", winners=["Yes"])
    settled = settle.settle_market(on.context, WireLimits(), market="rain")
    figures = settled.settlement
    columns = ("market", "gross KES", "fee KES", "net KES", "payouts KES", "breakage KES")
    cents = [figures.gross_cents, figures.fee_cents, figures.net_cents, figures.payouts_cents, figures.breakage_cents]
    stage.table(columns, [("rain", *map(format_kes, cents))])
    _send(on, market="rain")
    _until_heard(on, "rain")
    stage.say("M-Pesa carries whole shillings: the 50 cents stay in the wallet.")
    _show_winners(on, stage, "rain")
    before = _figures_of_wallets(on)
    _deliver_again(on)
    same = "nothing changed" if _figures_of_wallets(on) == before else "SOMETHING CHANGED"
    stage.say(f"Every result was posted a second time: {same}.")


def _open(
    on: _Set, slug: str, question: str, outcomes: Sequence[str], stakes: Sequence[tuple[str, str, str, int]]
) -> None:
    """Take in the people with their money, open the market, take their bets, close it."""
    closes_at = system_clock() + timedelta(hours=1)
    markets.add_market(
        on.context,
        NewMarket(market_id=slug, slug=slug, question=question, outcomes=outcomes, closes_at=closes_at, rules=FEE),
    )
    for user_id, phone, outcome, cents in stakes:
        users.add_user(on.context, user_id=user_id, name=user_id.title(), phone=phone)
        wallets.deposit(on.context, user_id=user_id, cents=cents, reference=f"demo-{slug}-{user_id}")
        bets.place_bet(
            on.context, NewBet(bet_id=f"{slug}-{user_id}", market=slug, user_id=user_id, outcome=outcome, cents=cents)
        )
    markets.close_market(on.context, market=slug)


def _show_winners(on: _Set, stage: Presenter, market: str) -> None:
    rows = []
    for item in status_views.list_items(on.db, market=market):
        wallet = wallets.show_wallet(on.db, item.user)
        owed, sent = format_kes(item.amount_cents), format_kes(item.wire_cents)
        left = (format_kes(wallet.available_cents), format_kes(wallet.balance_cents))
        rows.append((item.user, owed, sent, item.receipt, *left))
    columns = ("winner", "owed KES", "to phone KES", "receipt", "available KES", "credited KES")
    stage.table(columns, rows)


def _figures_of_wallets(on: _Set) -> list[int]:
    with on.db.reading() as session:
        return [book.balance(session, account, None) for account in LedgerAccount]


def _deliver_again(on: _Set) -> None:
    """Post every result that came a second time, as M-Pesa might."""
    with on.db.reading() as session:
        stored = callbacks.list_all(session)
    for callback in stored:
        httpx.post(on.links.of_payment(callback.subject).result, content=callback.body, trust_env=False)
    _until(lambda: not _waiting(on))


def _waiting(on: _Set) -> int:
    with on.db.reading() as session:
        return callbacks.count_waiting(session)


# --- Every kind of trouble -------------------------------------------------------------------------


def _the_troubles(on: _Set, stage: Presenter) -> None:
    stage.scene("2. Seven winners, and something goes wrong for six of them")
    stakes = [(name.lower(), phone, "Gor Mahia", 10_000 + 700 * n) for n, (name, phone, _) in enumerate(TROUBLES)]
    stakes.append(("zainabu", "0712000999", "AFC Leopards", 90_000))
    _open(on, "derby", "Who wins the Mashemeji derby?", ("Gor Mahia", "AFC Leopards"), stakes)
    markets.resolve_market(on.context, market="derby", winners=["Gor Mahia"])
    settle.settle_market(on.context, WireLimits(), market="derby")
    _send(on, market="derby")
    known_first = {item.user: item.status for item in status_views.list_items(on.db, market="derby")}
    _until_heard(on, "derby")
    after_results = {item.user: item.status for item in status_views.list_items(on.db, market="derby")}
    stage.say("No answer is not a no: it makes the payout UNKNOWN, and M-Pesa is asked.")
    _ask(on)
    after_asking = {item.user: item.status for item in status_views.list_items(on.db, market="derby")}
    stage.table(
        ("winner", "what happens", "sent", "results", "asked"),
        [
            (name, what, known_first[name.lower()], after_results[name.lower()], after_asking[name.lower()])
            for name, _, what in TROUBLES
        ],
    )
    stage.say("Two failures are definite: their numbers are corrected, and they are sent again.")
    for name, phone in NEW_PHONE.items():
        users.set_phone(on.context, user_id=name.lower(), phone=phone)
    again = retry.retry(on.context, caution=CAREFUL, hours=24)
    _send(on, only=again.retried)
    _until_heard(on, "derby")
    _show_winners(on, stage, "derby")


def _send(on: _Set, *, market: str | None = None, only: Sequence[str] = ()) -> None:
    """A run that stays until nothing is due: so much trouble at once looks like an outage, and is waited out."""
    order = SendOrder(
        SendPolicy(rate_per_second=0, concurrency=8, schedule=(1,) * 5, probe_after_seconds=(0.1,)),
        Trust(),
        Selection(market, only),
        stay=True,
    )
    sending.send_due(on.context, on.gateway, order)


def _ask(on: _Set) -> None:
    """Ask about all that is unknown, and wait for the answers."""
    inquiry = status_queries.Inquiry(status_queries.AskPolicy(), Trust(), at_once=True)
    asked = status_queries.ask_around(on.context, on.gateway, inquiry).asked
    _until(lambda: not status_queries.unanswered(on.db, [one.query_id for one in asked if one.taken]))


def _until_heard(on: _Set, market: str) -> None:
    """Wait until nothing of the market is on its way."""
    moving = (PayoutStatus.SENDING, PayoutStatus.SENT)
    _until(lambda: not any(state in status_views.market_status(on.db, market).by_status for state in moving))
    _until(lambda: not _waiting(on))


def _until(done: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for it, but not for ever: what did not come shows in the proof."""
    ends_at = time.monotonic() + seconds
    while not done() and time.monotonic() < ends_at:
        time.sleep(0.05)


# --- The proof -------------------------------------------------------------------------------------


def _the_proof(on: _Set, stage: Presenter, started: float) -> DemoReport:
    stage.scene("3. The proof")
    checked = audit(on.db)
    wrong = sum(check.count for check in checked.checks)
    all_hold = f"and {wrong} do not" if wrong else "and all do"
    stage.say(f"Audit: {len(checked.checks)} things must always hold, {all_hold}.")
    items = status_views.list_items(on.db)
    delivered = sum(item.wire_cents for item in items if item.status == PayoutStatus.COMPLETED)
    payments = on.simulator.ledger()["payments"]
    assert isinstance(payments, list)
    counts = Counter(payment["reference"] for payment in payments)
    times = [counts[item.id.replace(".", " ")] for item in items]
    moved = sum(payment["amount_cents"] for payment in payments)
    once, twice = times.count(1), sum(n > 1 for n in times)
    stage.table(
        ("payouts", "paid once", "paid twice", "our books say KES", "really moved KES"),
        [(len(items), once, twice, format_kes(delivered), format_kes(moved))],
    )
    proven = once == len(items) and not twice and delivered == moved and not wrong
    stage.say("Each winner was paid exactly once." if proven else "The books and the money do not agree.")
    return DemoReport(
        markets=2,
        payouts=len(items),
        paid_once=once,
        paid_twice=twice,
        wire_cents=delivered,
        simulator_cents=moved,
        checks=len(checked.checks),
        violations=wrong,
        seconds=int(time.monotonic() - started),
        proven=proven,
    )
