"""What a proof stands on: a settled market in a database, a simulator that outlives every crash, and processes.

The simulator runs in this process on a loopback socket; every process of the program is another one. The
clock of all of them is the machine's, put forward by `Bench.forward`, so that leases, schedules and the
ladder of questions pass in no time.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from kasoko_cli.clock import system_clock
from kasoko_cli.daraja.simulator.app import Simulator, SimulatorSettings
from kasoko_cli.domain.market import Rules
from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.records import markets, users
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine.database import Database, open_database
from tests.operations.data_builder import collected_bet, open_market
from tests.proof.databases import Kept
from tests.proof.processes import ROOT, Ended, Forker, Hands, Order

ACT = Actor("the proof", "to prove it")
#: The account that settings are switched to.
OTHER_SHORTCODE = "600777"
#: How often what is stopped inside a transaction is let go on for a moment.
MOST_NUDGES = 40

#: Short enough for a proof, and none of them is what is to be proven. The waits of the schedule are
#: seconds, so that `payout --wait` meets them; the clock is put forward over everything else.
SETTINGS = """
[daraja]
timeout_seconds = 1
total_seconds = 2
[payout]
lease_seconds = 60
rate_per_second = 1000
concurrency = 3
retry_schedule_seconds = [1, 1, 2, 2, 2]
confirm_failures_above_kes = {confirm_above_kes}
decide_needs_two = {two_people}
[listener]
port = {port}
"""
#: What is asked about a copy that was put back, with the answers taken in. M-Pesa is asked twice, and nobody can put
#: the clock of a process forward that waits in between: so the wait is short in these settings.
AFTER_RESTORE = ("doctor", "--after-restore", "--listen", "--listen-seconds", "3", "--config", "soon.toml")
SOON = "[reconcile]\nconfirm_negative_seconds = 1\n"


@dataclass(frozen=True, slots=True)
class Call:
    """One process of a batch: its words, and when it dies: after so many seconds, at a named point, or never."""

    words: tuple[str, ...]
    kill_after: float | None = None
    points: str = ""
    #: When it is stopped, if a point does not do it.
    stop_after: float | None = None
    #: The machine that it believes to be on, if not this one.
    host: str = ""
    #: What else than a usual end it may exit with.
    fine: frozenset[int] = frozenset()

    @property
    def may_stop(self) -> bool:
        """Whether somebody may stop it."""
        return self.stop_after is not None or self.points.startswith("stop")

    #: What it inherits besides, or otherwise.
    environ: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        dies = f" (dies after {self.kill_after:.3f} s)" if self.kill_after is not None else ""
        dies = f" (stops after {self.stop_after:.3f} s)" if self.stop_after is not None else dies
        dies = f" ({self.points})" if self.points.startswith(("kill", "stop")) else dies
        return f"kasoko {' '.join(self.words)}{dies}"


class Bench:
    """One deployment. Whatever its processes said is looked at as they end; `troubles` has what must not be."""

    def __init__(
        self,
        folder: Path,
        kept: Kept,
        settings: SimulatorSettings,
        *,
        confirm_above_kes: int = 10_000,
        two_people: bool = False,
    ) -> None:
        self.folder, self.kept = folder, kept
        self.ahead, self.began = timedelta(), system_clock()
        self.simulator = Simulator(settings, self.clock)
        #: The M-Pesa of another account, which knows nothing of what this one does: made when settings name it.
        self.elsewhere: Simulator | None = None
        #: Each market as it was staked on: user, outcome and cents.
        self.stakes: dict[str, list[tuple[str, str, int]]] = {}
        #: Whether M-Pesa may say once of what it paid that it was declined.
        self.lies = False
        self.kills = 0
        self._batches = 0
        self._stopped: Call | None = None
        self.troubles: list[str] = []
        self.tracebacks = 0
        self._running = self.simulator.start()
        self.listener_port = _port()
        folder.mkdir()
        settled = SETTINGS.format(
            port=self.listener_port, confirm_above_kes=confirm_above_kes, two_people=str(two_people).lower()
        )
        (folder / "kasoko.toml").write_text(settled)
        (folder / "soon.toml").write_text(settled + SOON)
        self._environ = {
            "HOME": str(folder),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "KASOKO_DATABASE_URL": kept.url,
            "KASOKO_CALLBACK_KEY": secrets.token_hex(32),
            "MPESA_BASE_URL": self._running.url,
            "MPESA_CALLBACK_URL": f"http://127.0.0.1:{self.listener_port}",
            "MPESA_CONSUMER_KEY": settings.consumer_key,
            "MPESA_CONSUMER_SECRET": settings.consumer_secret,
            "MPESA_INITIATOR_NAME": settings.initiator_name,
            "MPESA_SECURITY_CREDENTIAL_ENCRYPTED": self.simulator.security_credential(),
            "MPESA_PAYBILL": settings.shortcode,
        }
        self.callback_key = self._environ["KASOKO_CALLBACK_KEY"]
        self._home, self._other = self._environ, dict[str, str]()
        self._clock_file = folder / "ahead"
        self.forward(0)

    def clock(self) -> datetime:
        """The machine's time, and what it was put forward."""
        return system_clock() + self.ahead

    def forward(self, seconds: float) -> None:
        """Let time pass for everybody who asks for it from now on."""
        self.ahead += timedelta(seconds=seconds)
        self._clock_file.write_text(str(self.ahead.total_seconds()))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Database]:
        """The database, open for a moment: while processes are killed nobody else holds it."""
        db = open_database(self.kept.url)
        try:
            yield db
        finally:
            db.close()

    def nobody_answers(self) -> None:
        """M-Pesa is gone from its address."""
        self._running.stop()

    def use_account(self, *, other: bool) -> None:
        """From now on the settings of each process are of the other account, or of ours again."""
        if other and self.elsewhere is None:
            seed = self.simulator.settings.seed + 1_000_000
            settings = replace(self.simulator.settings, shortcode=OTHER_SHORTCODE, seed=seed, faults=())
            self.elsewhere = Simulator(settings, self.clock)
            self._running_elsewhere = self.elsewhere.start()
            self._other = {"MPESA_PAYBILL": OTHER_SHORTCODE, "MPESA_BASE_URL": self._running_elsewhere.url}
        self._environ = self._home | (self._other if other else {})

    def close(self) -> None:
        """Stop the simulators, and throw the database away."""
        self._running.stop()
        if self.elsewhere is not None:
            self._running_elsewhere.stop()
        self.kept.drop()

    # --- Who is owed what --------------------------------------------------------------------------------------------

    def owe(
        self,
        winners: Mapping[str, tuple[str, int]],
        *,
        market: str = "derby",
        limits: WireLimits | None = None,
    ) -> None:
        """A settled market: each winner has a phone and a stake in cents; one more has staked on the loser."""
        with self.opened() as db:
            known = {line.id for line in users.list_users(db)}
            for user_id, (phone, _) in winners.items():
                if user_id not in known:
                    users.add_user(OperationContext(db, self.clock, ACT), user_id=user_id, name=user_id, phone=phone)
            if "loser" not in known:
                users.add_user(
                    OperationContext(db, self.clock, ACT), user_id="loser", name="loser", phone="254712999999"
                )
            ctx = OperationContext(db, self.clock, ACT)
            open_market(ctx, market, rules=Rules(fee_bps=500))
            stakes = [*((user_id, "Yes", cents) for user_id, (_, cents) in winners.items()), ("loser", "No", 33_300)]
            self.stakes[market] = stakes
            for user_id, outcome, cents in stakes:
                collected_bet(ctx, market, user_id, outcome, cents)
            markets.close_market(ctx, market=market)
            markets.resolve_market(ctx, market=market, winners=["Yes"])
            settle.settle_market(ctx, limits or WireLimits(), market=market)

    def settle_all(self) -> None:
        """A settlement that was taken back for another outcome is made anew."""
        with self.opened() as db:
            for market in self.stakes:
                settle.settle_market(OperationContext(db, self.clock, ACT), WireLimits(), market=market)

    def outcome_of(self, market: str) -> str:
        """The outcome that a market has now."""
        with self.opened() as db, db.reading() as session:
            [resolution] = session.execute(text("SELECT resolution FROM markets WHERE id = :id"), {"id": market}).one()
        return ("Yes", "No")[json.loads(resolution)["winners"][0]]

    # --- What people do meanwhile ------------------------------------------------------------------------------------

    def set_phone(self, user_id: str, phone: str) -> None:
        """The user gives another number."""
        with self.opened() as db:
            users.set_phone(OperationContext(db, self.clock, ACT), user_id=user_id, phone=phone)

    def pause(self) -> None:
        """Somebody turns the switch."""
        with self.opened() as db:
            switches.pause(OperationContext(db, self.clock, ACT))

    def resume(self) -> None:
        """And turns it back."""
        with self.opened() as db:
            switches.resume(OperationContext(db, self.clock, ACT))

    # --- Processes ---------------------------------------------------------------------------------------------------

    def run(self, hands: Hands, *calls: Call) -> list[Ended]:
        """Run processes at once and look at how they ended. At most one of all may be stopped at a time."""
        self._batches += 1
        orders = [
            Order(
                words=call.words,
                folder=str(self.folder),
                environ=self._environ
                | ({"KASOKO_TEST_POINTS": call.points} if call.points else {})
                | ({"KASOKO_HOST": call.host} if call.host else {})
                | dict(call.environ),
                said=str(self.folder / f"said-{self._batches}-{number}"),
                offset_seconds=self.ahead.total_seconds(),
                kill_after=call.kill_after,
                stop_after=call.stop_after,
                clock_file=str(self._clock_file) if call.may_stop else None,
            )
            for number, call in enumerate(calls)
        ]
        ended = hands.run(orders)
        for call, one in zip(calls, ended, strict=True):
            if one.stopped:
                self._stopped = call
            else:
                self._look_at(one, call.fine)
        return ended

    @property
    def stopped(self) -> bool:
        """Whether a process stands still."""
        return self._stopped is not None

    def stand_clear(self, forker: Forker) -> bool:
        """See that what is stopped stands in nobody's way; False where it still holds the database after many tries."""
        for _ in range(MOST_NUDGES):
            if not self.kept.is_held():
                return True
            forker.nudge()
        return False

    def go_on(self, forker: Forker) -> list[Ended]:
        """Let what is stopped go on to its end."""
        ended = forker.go_on()
        for one in ended:
            self._look_at(one, frozenset())
        self._stopped = None
        return ended

    def run_one(self, hands: Hands, *words: str, points: str = "") -> Ended:
        """Run one process to its end, wherever that is."""
        return self.run(hands, Call(words, points=points))[0]

    def _look_at(self, one: Ended, fine: frozenset[int]) -> None:
        command = f"kasoko {' '.join(one.words)}"
        self.kills += one.killed
        if one.hung:
            self.troubles.append(f"{command} hung")
        if "Traceback" in one.said or "not foreseen" in one.said:
            self.tracebacks += 1
            self.troubles.append(f"{command} exited with {one.code} and a bug: {one.said}")
        elif not (one.killed or one.code in _FINE | fine or (one.code == 3 and "Cannot listen on" in one.said)):
            self.troubles.append(f"{command} exited with {one.code}: {one.said}")

    # --- What really moved -------------------------------------------------------------------------------------------

    def faults_stop(self) -> None:
        """From now on M-Pesa does only what the test numbers say."""
        self.simulator.gateway.add_faults((), replace_all=True)

    def count(self, what: str) -> int:
        """A figure of the ledger of every M-Pesa that there is."""
        found = [each.ledger()[what] for each in (self.simulator, self.elsewhere) if each is not None]
        return sum(one for one in found if isinstance(one, int))

    def payments(self) -> list[Payment]:
        """Each payment that moved money, by whichever account."""
        return [one for each in (self.simulator, self.elsewhere) if each is not None for one in payments_of(each)]


#: What a process may end with by itself: 3 only where another one has the listener's port.
_FINE = frozenset({0, 5, 6, 7, 9, 10, 130})


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that really moved money. Its reference is the id of the payout, as M-Pesa can write it."""

    reference: str
    attempt_id: str
    receipt: str
    phone: str
    amount_cents: int
    charge_cents: int
    at: datetime


def payments_of(simulator: Simulator) -> list[Payment]:
    """Each payment that one account made."""
    found = simulator.ledger()["payments"]
    assert isinstance(found, list)
    return [
        Payment(
            one["reference"],
            one["originator_conversation_id"],
            one["receipt"],
            one["phone"],
            one["amount_cents"],
            one["charge_cents"],
            datetime.fromisoformat(one["at"]),
        )
        for one in found
    ]


def quick(seed: int = 0, **more: object) -> SimulatorSettings:
    """A simulator whose every wait is short."""
    settings = SimulatorSettings(
        seed=seed,
        result_delay_seconds=(0.005, 0.06),
        post_timeout_seconds=2.0,
        late_seconds=0.4,
        slow_seconds=0.25,
        hang_seconds=1.0,
        drip_seconds=0.02,
    )
    return replace(settings, **more)  # type: ignore[arg-type]


def with_listener(words: Sequence[str], seconds: int = 1) -> tuple[str, ...]:
    """The same command, taking in results itself for so long."""
    return (*words, "--listen", "--listen-seconds", str(seconds))


def _port() -> int:
    """A port that is free, below those that the kernel gives to outgoing connections.

    One of those could be connected to itself while nobody listens.
    """
    while True:
        port = random.randint(12_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
