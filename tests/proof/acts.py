"""What a schedule may play beside crons that die: settings, people, statements, strangers, stops.

Each act is drawn, played, counted under its name and told as a step. Whoever acts here is honest: a person looks at
what the portal shows under a payout's reference, which is the simulator's ledger, and says that; a statement has the
lines of that ledger, and leaves out what was not there yet when it was exported. What they do may be refused, and
any of them may die in the middle of it. What they must never reach together is a second payment.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random

from kasoko_cli.clock import iso
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.kill_points import COMMIT_AFTER, COMMIT_BEFORE, REQUEST_BEFORE
from kasoko_cli.operations.safeguards.restore_doubt import hold_unsent
from kasoko_cli.store import attempts, payouts
from kasoko_cli.store.log import open_incidents
from kasoko_cli.store.schema.tables import Payout
from tests.proof.bench import ACT, AFTER_RESTORE, OTHER_SHORTCODE, Bench, Call, Payment
from tests.proof.judge import not_had
from tests.proof.processes import Ended, Forker
from tests.proof.statements import Statements
from tests.proof.stranger import Stranger, forged

_S = PayoutStatus
#: What an act of a person may be answered besides: nothing fits, or it was refused.
_REFUSED = frozenset({1, 4, 5, 7, 8, 9})
#: People whose words are two, and one whose words are not.
AMINA, BRIAN = "amina", "brian"


class Acts:
    """The acts of one schedule: those that `may` be played, and how often each was."""

    def __init__(
        self,
        bench: Bench,
        hands: Forker,
        draw: Random,
        say: Callable[[str], None],
        *,
        may: Sequence[str],
        stops: bool,
        dies: float = 0.2,
    ) -> None:
        self.bench, self.hands, self.draw, self._say = bench, hands, draw, say
        self._may = [name for name in may if name in ACTS]
        self._stops, self._dies = stops and "stop" in may, dies
        self.played: Counter[str] = Counter()
        self._statements = Statements(bench, draw)
        self._away = False
        self._stranger: Stranger | None = None

    def play(self) -> None:
        """One of the acts, if there is anything for it to be about."""
        if self._away and self.draw.random() < 0.45:
            self._back()
        if self.bench.stopped and self.draw.random() < 0.4:
            self.go_on()
        if self._may:
            name = self.draw.choice(self._may)
            if ACTS[name](self):
                self.played[name] += 1

    def end(self) -> None:
        """Whatever an act has left open is over."""
        if self.bench.stopped:
            self.go_on()
        if self._away:
            self._back()
        if self._stranger is not None:
            self._stranger.stop()
            self._stranger = None

    # --- Settings ----------------------------------------------------------------------------------------------------

    def account(self) -> bool:
        """The settings are switched to another shortcode, for as long as it pleases."""
        if self._away:
            return False
        self._away = True
        self.bench.use_account(other=True)
        self._say(f"the settings are of {OTHER_SHORTCODE} from now on")
        return True

    def _back(self) -> None:
        self._away = False
        self.bench.use_account(other=False)
        self._say("the settings are as they were again")

    # --- Processes that stand still ----------------------------------------------------------------------------------

    def to_stop(self) -> Call | None:
        """A run that will be stopped at any instant, or directly before a request; nobody waits on its port."""
        if not self._stops or self.bench.stopped or self.draw.random() < 0.5:
            return None
        words = self.draw.choice([("payout", "--yes"), ("payout", "--yes"), ("retry-failed", "--yes")])
        if self.draw.random() < 0.6:
            return Call(words, points=f"stop:{REQUEST_BEFORE}:{self.draw.randint(1, 3)}")
        return Call(words, stop_after=self.draw.uniform(0.02, 0.25))

    def after_batch(self, ended: Sequence[Ended]) -> None:
        """If one was stopped, its lease runs out while the others go on; what holds the database goes on at once."""
        if self._stranger is not None:
            self.played["stranger"] += bool(self._stranger.stop())
            self._stranger = None
        if not any(one.stopped for one in ended):
            return
        if not self.bench.stand_clear(self.hands):
            self.go_on()
            return
        self.played["stop"] += 1
        self._say("and it stands still")
        self.bench.forward(self.draw.choice([30, 61, 61, 400]))

    def go_on(self) -> None:
        """What was stopped goes on."""
        ended = self.bench.go_on(self.hands)
        self._say(f"what stood still goes on: {[one.code for one in ended]}")

    # --- What people do ----------------------------------------------------------------------------------------------

    def to_wallet(self) -> bool:
        """Somebody wants it in the wallet instead of on the phone."""
        found = self._some(_S.PENDING, _S.FAILED, _S.HELD)
        return bool(found) and self._do("payout", "to-wallet", self.draw.choice(found).id)

    def decide(self) -> bool:
        """Somebody has looked at the portal; perhaps a second person has as well, or the same in capital letters."""
        found = self._some(_S.UNKNOWN, _S.SENT, _S.SENDING)
        if not found:
            return False
        payout = self.draw.choice(found)
        payment = self._paid().get(payout.id)
        said = ("--not-paid",) if payment is None else ("--paid", "--receipt", payment.receipt)
        for actor in (AMINA, self.draw.choice([BRIAN, BRIAN, AMINA.upper()])):
            self._do("payout", "decide", payout.id, *said, "--evidence", "the portal", actor=actor)
        return True

    def decide_all(self) -> bool:
        """After an outage somebody says it of all: that none of them is in the portal."""
        with self.bench.opened() as db, db.reading() as session:
            live = [(one.payout_id, one.sent_at, one.status) for one in attempts.list_live(session)]
        paid = self._paid()
        unknown = [(name, at) for name, at, status in live if status is AttemptStatus.UNKNOWN and name not in paid]
        if not unknown:
            return False
        first = self.draw.choice(unknown)[1].replace(microsecond=0)
        last = max(at for _, at in unknown) + timedelta(seconds=1)
        if any(first <= at <= last for name, at, _ in live if name in paid):
            last = first + timedelta(seconds=1)
            if any(first <= at <= last for name, at, _ in live if name in paid):
                return False
        words = ("payout", "decide", "--all-unknown-between", iso(first), iso(last), "--not-paid")
        for actor in (AMINA, BRIAN):
            self._do(*words, "--evidence", "the portal", actor=actor)
        return True

    def hold(self) -> bool:
        """Somebody stops a payout, or lets go what is stopped."""
        held, due = self._some(_S.HELD), self._some(_S.PENDING, _S.FAILED)
        if held and (not due or self.draw.random() < 0.6):
            return self._do("payout", "release", self.draw.choice(held).id)
        return bool(due) and self._do("payout", "hold", self.draw.choice(due).id)

    def override(self) -> bool:
        """A market gets its other outcome; once money has left it takes two people and the plan that both have read."""
        market = self.draw.choice(list(self.bench.stakes))
        outcome = "No" if self.bench.outcome_of(market) == "Yes" else "Yes"
        words = ("resolve", market, outcome, "--override")
        [shown] = self.bench.run(self.hands, Call((*words, "--plan", "--json", "--reason", "seen"), fine=_REFUSED))
        if shown.code != 0:
            self._say(f"the override of {market} is refused: {shown.code}")
            return False
        plan_hash = json.JSONDecoder().raw_decode(shown.said)[0]["plan"]["plan_hash"]
        self._do(*words, actor=AMINA)
        if self.bench.outcome_of(market) != outcome:
            self._do(*words, "--confirm", plan_hash, actor=BRIAN)
        self._do("settle", market)  # where nothing had been sent, the settlement was taken back
        return True

    def close(self) -> bool:
        """Somebody closes incidents by a filter, of payouts that are what they are said to be."""
        with self.bench.opened() as db, db.reading() as session:
            found = [(one.kind, one.payout_id) for one in open_incidents(session)]
            wrong = not_had(self.bench, session)
        fitting = [one for one in found if one[1] not in wrong]
        if not fitting:
            return False
        kind, payout_id = self.draw.choice(fitting)
        if payout_id is not None and self.draw.random() < 0.6:
            return self._do("incident", "close", "--payout", payout_id)
        if any(also in wrong for of_kind, also in found if of_kind == kind):
            return False
        return self._do("incident", "close", "--kind", kind)

    def stranger(self) -> bool:
        """Somebody posts to whoever listens in the next batch; it counts once a post was taken."""
        if self._stranger is None:
            self._stranger = Stranger(self.bench.listener_port, forged(self.bench, self.draw))
            self._stranger.start()
            self._say("a stranger posts")
        return False

    # --- Statements --------------------------------------------------------------------------------------------------

    def statement(self) -> bool:
        """A statement is taken in: of all the time, or of another one, or exported at noon, or of another account."""
        what = self.draw.choice(["whole", "whole", "masked", "noon", "noon", "another time", "another account"])
        file = self._statements.export(what)
        self._say(f"a statement of {what}")
        return self._do("reconcile", "--statement", str(file), "--counted")

    def undo(self) -> bool:
        """A statement is taken back, whichever."""
        count = self._statements.count
        return bool(count) and self._do("statement", "undo", str(self.draw.randint(1, count)))

    # --- An own copy put back ----------------------------------------------------------------------------------------

    def restored(self) -> None:
        """A copy stands in the place of the database: hold what is unsent, as `db restore` does it, and ask M-Pesa."""
        with self.bench.opened() as db, db.transaction() as session:
            hold_unsent(session, ACT, api="v3", now=self.bench.clock())
        self.played["restore"] += 1
        self._do(*AFTER_RESTORE)

    # --- Pieces ------------------------------------------------------------------------------------------------------

    def _do(self, *words: str, actor: str = AMINA) -> bool:
        """One command of a person's, who may die over it; True, since it was played whatever it said."""
        points = ""
        if self.draw.random() < self._dies:
            points = f"kill:{self.draw.choice([COMMIT_BEFORE, COMMIT_AFTER])}:{self.draw.randint(1, 3)}"
        given = () if words[0] == "doctor" else ("--yes", "--actor", actor, "--reason", "so it is")
        call = Call((*words, *given), points=points, fine=_REFUSED)
        [ended] = self.bench.run(self.hands, call)
        self._say(f"{call} -> {ended.code}")
        return True

    def _some(self, *statuses: PayoutStatus) -> list[Payout]:
        with self.bench.opened() as db, db.reading() as session:
            return list(payouts.list_payouts(session, statuses=frozenset(statuses)))

    def _paid(self) -> dict[str, Payment]:
        """What the portal shows, by payout."""
        return {payment.reference.replace(" ", "."): payment for payment in self.bench.payments()}


#: Each act by its name.
ACTS: dict[str, Callable[[Acts], bool]] = {
    "account": Acts.account,
    "statement": Acts.statement,
    "undo": Acts.undo,
    "to-wallet": Acts.to_wallet,
    "decide": Acts.decide,
    "decide all": Acts.decide_all,
    "hold and release": Acts.hold,
    "override": Acts.override,
    "close": Acts.close,
    "stranger": Acts.stranger,
}
#: What is played as part of a batch, of a copy put back, or by the gateway.
OTHERS = ("stop", "restore", "declined")
#: What would ask of a database that was put back to know what it cannot know, whatever its road: who paid meanwhile as
#: another account, and which outcome the market had. And where that road is not gone, what the phone has had.
NOT_RESTORED, NOT_WITHOUT_ROAD = frozenset({"account", "override"}), frozenset({"to-wallet"})
#: How many acts one schedule knows, so that what went wrong can be told.
MOST_ACTS = 4
