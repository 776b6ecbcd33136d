"""One random schedule: a market, troubles, real processes, kills, people; then the end, and the judge.

Everything is drawn from the seed. What the machine does in between (where exactly a kill strikes, which
process is first) is not, so a schedule that went wrong is told step by step.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.simulator.account import Instruction
from kasoko_cli.daraja.simulator.app import SimulatorSettings
from kasoko_cli.daraja.simulator.gateway import Ids, SimulatedGateway, _Call
from kasoko_cli.daraja.simulator.people import PEOPLE
from kasoko_cli.daraja.simulator.results import Envelope
from kasoko_cli.daraja.simulator.script import STAGE_OF, Endpoint, Fault, FaultStage, Rule
from kasoko_cli.domain.payout import AttemptStatus, WireLimits
from kasoko_cli.kill_points import POINTS
from kasoko_cli.store import attempts
from tests.proof.acts import ACTS, MOST_ACTS, NOT_RESTORED, NOT_WITHOUT_ROAD, OTHERS, Acts
from tests.proof.bench import Bench, Call, quick, with_listener
from tests.proof.databases import Kind, Templates
from tests.proof.finish import finish, other_phone
from tests.proof.judge import believed_wrongly, judge, states
from tests.proof.processes import Exec, Forker, Hands

#: A schedule goes on until so many processes were killed, or it has taken so many steps.
WANTED_KILLS = 6
MOST_STEPS = 16

#: What a payout may be once the faults have stopped and everybody has done what is theirs.
FINAL = frozenset({"COMPLETED", "WALLET", "CANCELED"})

#: M-Pesa itself says, by every factor that there is, that an attempt failed which was paid. Below the
#: limit from which failures are confirmed, a retry after that is a second payment, and nobody who can only
#: listen to M-Pesa can know better. So these are drawn only where every failure is confirmed before a retry.
#: A success whose post nobody took, followed by a failure, is the same to whoever hears only the second.
FALSE_FAILURES = frozenset({Fault.FAILURE_THEN_SUCCESS, Fault.SUCCESS_THEN_FAILURE})

#: Where failures are confirmed, the confirmation has to be one: "not found" does not speak against a retry,
#: so a status that lags behind a false failure is the same lie told twice.
NOT_WITH_FALSE_FAILURES = frozenset({Fault.STATUS_LAGS})

#: The status answer itself lies, and no other answer stands behind it: drawn nowhere, but once about each payment
#: that was made, where nothing else says falsely that it failed (`HastyGateway`).
NEVER = frozenset({Fault.STATUS_LIES})

_PAYMENT_FAULTS = [
    fault for fault in Fault if STAGE_OF[fault] in (FaultStage.BEFORE, FaultStage.AFTER, FaultStage.RESULT)
]
_STATUS_FAULTS = [fault for fault in Fault if STAGE_OF[fault] is FaultStage.STATUS]
#: What may go wrong while a token is fetched, and is no refusal of the app itself.
_TOKEN_FAULTS = [
    Fault.INTERNAL_ERROR_BEFORE,
    Fault.HTML_503_BEFORE,
    Fault.DROP_BEFORE,
    Fault.RESET_AFTER,
    Fault.HALF_ANSWER_AFTER,
    Fault.NO_ANSWER_AFTER,
]


@dataclass(slots=True)
class Told:
    """How one schedule went."""

    seed: int
    database: Kind
    by_exec: bool
    kills: int = 0
    processes: int = 0
    intents: int = 0
    restores: int = 0
    markets: int = 1
    payouts: int = 0
    doubles: int = 0
    cents: int = 0
    tracebacks: int = 0
    not_final: int = 0
    seconds: float = 0.0
    rounds: int = 0
    by_person: Counter[str] = field(default_factory=Counter)
    #: How often each act was played.
    played: Counter[str] = field(default_factory=Counter)
    steps: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"seed {self.seed} on {self.database}{', by exec' if self.by_exec else ''}"
        return "\n  ".join([f"{head}: {len(self.wrong)} things are wrong", *self.wrong, "The steps:", *self.steps])


def run(
    seed: int,
    database: Kind,
    templates: Templates,
    forker: Forker,
    *,
    by_exec: bool = False,
    acts: Sequence[str] | None = None,
) -> Told:
    """Run one schedule to its end, and judge it. With `by_exec` each process is started as an operator would.

    It plays a few of all acts, or those that are named, and often.
    """
    started = time.monotonic()
    told = Told(seed, database, by_exec)
    with tempfile.TemporaryDirectory(prefix="kasoko-proof-") as folder:
        folder_of = Path(folder) / "deployment"
        play = _Play(seed, told, templates, database, folder_of, Exec() if by_exec else forker, forker, acts)
        try:
            play.steps()
            end = finish(play.bench, forker)
            told.steps += end.told
            told.by_person, told.rounds = end.by_person, end.rounds
            found = judge(play.bench, put_back=told.restores > 0)
            knew = not told.restores and not any(play.acts.played[act] for act in SAY_NOT_PAID)
            if knew and (refused := play.bench.count("duplicates_refused")):
                # The id held it back, and money moved once. But who has forgotten nothing has nothing to send twice,
                # unless somebody said that M-Pesa never paid what it never acknowledged: that goes under its own id.
                found.wrong.append(f"M-Pesa had to refuse {refused} requests whose ids it had taken")
            told.payouts = found.payouts
            told.not_final = sum(count for state, count in states(play.bench).items() if state not in FINAL)
            told.kills, told.tracebacks = play.bench.kills, play.bench.tracebacks
            told.doubles, told.cents, told.wrong = found.doubles, found.cents, found.wrong
            told.played = play.acts.played + Counter(declined=play.hasty.declined)
        finally:
            play.acts.end()
            play.bench.close()
    told.seconds = time.monotonic() - started
    return told


#: Acts by which what M-Pesa has taken, and never acknowledged or paid, may end as not paid.
SAY_NOT_PAID = ("decide", "decide all", "statement")


class HastyGateway(SimulatedGateway):
    """One that says "Declined" once of a payment that was made, where the script lies; it never says "Completed" of

    one that was not: that is believed at once, and no other answer stands behind it.
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self.declined = 0

    def _status_of(self, call: _Call, found: Instruction, fault: Fault | None, ids: Ids) -> Envelope:
        if fault is Fault.STATUS_LIES:
            fault = fault if found.paid else None
            self.declined += found.paid
        return super()._status_of(call, found, fault, ids)


class _Play:
    """A schedule under way."""

    def __init__(
        self,
        seed: int,
        told: Told,
        templates: Templates,
        database: Kind,
        folder: Path,
        hands: Hands,
        forker: Forker,
        acts: Sequence[str] | None,
    ) -> None:
        self.random, chosen = Random(seed), Random(f"the acts of {seed}")
        self.often = 0.5 if acts is None else 0.8
        self.told, self.hands = told, hands
        draw = self.random
        #: Every failure is confirmed before a retry, so that M-Pesa may say falsely that something failed.
        self.is_cautious = draw.random() < 0.25
        self.is_restored = draw.random() < 0.3
        self.copied = False
        #: The markets that the copy does not know, each with who won it.
        self.since_copied: dict[str, dict[str, tuple[str, int]]] = {}
        settings: dict[str, Any] = {
            "faults": self._rules(),
            "vary_shapes": draw.random() < 0.5,
            "duplicates": "result" if draw.random() < 0.25 else "refuse",
            "conversation_ids": draw.choice(["base36", "hex"]),
            "old_token_dies": draw.random() < 0.7,
            "requests_per_second": draw.choice([None, None, None, 8]),
        }
        if not self.is_cautious:
            settings["status_lag_seconds"] = draw.choice([0.0, 0.0, 100.0])
        #: Whether the road after a restore is gone, or the copy just goes on where it stands.
        self.by_harness = chosen.random() < 0.5 if acts is None else "restore" in acts
        self.is_restored = self.is_restored if acts is None else "restore" in acts
        may = chosen.sample([*ACTS, *OTHERS], MOST_ACTS) if acts is None else list(acts)
        if self.is_restored:
            left_out = NOT_RESTORED if self.by_harness else NOT_RESTORED | NOT_WITHOUT_ROAD
            may = [name for name in may if name not in left_out]
        if "declined" in may and not self.is_cautious:
            lie = Rule(Fault.STATUS_LIES, first=1, probability=chosen.choice([0.5, 1.0]))
            settings["faults"] = (lie, *settings["faults"])
        self.bench = Bench(
            folder,
            templates.new(database),
            quick(seed, **settings),
            confirm_above_kes=1 if self.is_cautious else 10_000,
            two_people=chosen.random() < 0.3,
        )
        self.bench.lies = any(rule.fault is Fault.STATUS_LIES for rule in settings["faults"])
        self.hasty = HastyGateway(self.bench.simulator.settings, self.bench.clock)
        self.bench.simulator.gateway = self.hasty
        self.acts = Acts(self.bench, forker, chosen, self.say, may=may, stops=not told.by_exec)
        self.say(
            f"cautious {self.is_cautious}, restored {self.is_restored}, acts {', '.join(may) or 'none'},"
            f" {', '.join(f'{name} {value}' for name, value in settings.items() if name != 'faults')}"
        )
        for rule in settings["faults"]:
            self.say(f"fault {rule.fault} on {rule.where}, probability {rule.probability}, first {rule.first}")
        #: The test numbers that may win here, and how many people there are.
        self.strange = [
            person.phone for person in PEOPLE.values() if not any(self._forbidden(fault) for fault in person.faults)
        ]
        self.known = 0
        self.users = self._people()

    def say(self, step: str) -> None:
        """Keep a step, to tell it again."""
        self.told.steps.append(step)

    # --- What there is -----------------------------------------------------------------------------------------------

    def _rules(self) -> tuple[Rule, ...]:
        draw = self.random
        rules = []
        for _ in range(draw.choice([0, 1, 2, 2, 3, 4])):
            place = draw.random()
            if place < 0.72:
                fault, endpoint = draw.choice(_PAYMENT_FAULTS), None
            elif place < 0.88:
                fault, endpoint = draw.choice(_STATUS_FAULTS), None
            elif place < 0.95:
                both = [each for each in _PAYMENT_FAULTS if STAGE_OF[each] in (FaultStage.BEFORE, FaultStage.AFTER)]
                fault, endpoint = draw.choice(both), Endpoint.STATUS
            else:
                fault, endpoint = draw.choice(_TOKEN_FAULTS), Endpoint.TOKEN
            if not self._forbidden(fault):
                first = draw.choice([None, 1, 2])
                rules.append(Rule(fault, endpoint=endpoint, probability=draw.choice([0.2, 0.4, 0.7, 1.0]), first=first))
        return tuple(rules)

    def _forbidden(self, fault: Fault) -> bool:
        if fault in NEVER:
            return True
        return fault in (NOT_WITH_FALSE_FAILURES if self.is_cautious else FALSE_FAILURES)

    def _people(self) -> list[str]:
        winners = self._winners(self.random.randint(2, 6))
        # Where a payment carries little, a winner gets her money in several legs.
        limits = WireLimits(max_cents=40_000) if self.random.random() < 0.2 else None
        self.bench.owe(winners, limits=limits)
        if self.random.random() < 0.25:
            again = {user: (phone, cents + 1_000) for user, (phone, cents) in list(winners.items())[:2]}
            self.bench.owe(again, market="cup")
            self.say(f"the first two have also won the cup: {', '.join(again)}")
        return list(winners)

    def _another_market(self) -> None:
        """Somebody else wins, so that the next process does not die of nothing."""
        self.told.markets += 1
        winners = self._winners(self.random.randint(1, 3))
        market = f"league{self.told.markets}"
        self.bench.owe(winners, market=market)
        self.users += winners
        if self.copied:
            self.since_copied[market] = winners

    def _winners(self, count: int) -> dict[str, tuple[str, int]]:
        draw = self.random
        winners: dict[str, tuple[str, int]] = {}
        for _ in range(count):
            self.known += 1
            phone = draw.choice(self.strange) if draw.random() < 0.4 else f"254712000{self.known:03d}"
            winners[f"u{self.known}"] = (phone, draw.randint(50, 900) * 100 + draw.choice([0, 0, 37]))
        for user, (phone, cents) in winners.items():
            self.say(f"{user} has {phone} ({PEOPLE[phone].title if phone in PEOPLE else 'ordinary'}), staked {cents}")
        return winners

    # --- What is done ------------------------------------------------------------------------------------------------

    def steps(self) -> None:
        """One batch of processes after another, and people in between."""
        for step in range(MOST_STEPS):
            if self.bench.kills >= WANTED_KILLS or self.bench.troubles:
                break
            self._between(step)
            if self.acts.draw.random() < self.often:
                self.acts.play()
            calls = self._batch(self._work())
            ended = self.bench.run(self.hands, *calls)
            self.told.processes += len(ended)
            self.told.intents += self._intents()
            if not (self.is_cautious or self.told.restores):
                # M-Pesa has told no lie here, and nothing was forgotten: what is believed is so at any moment.
                self.bench.troubles += believed_wrongly(self.bench)
            ends = "; ".join(
                f"{call} -> {one.code} in {one.seconds:.2f} s" for call, one in zip(calls, ended, strict=True)
            )
            self.say(f"+{self.bench.ahead.total_seconds():.0f} s: {ends}")
            self.acts.after_batch(ended)
        self.acts.end()

    def _between(self, step: int) -> None:
        draw = self.random
        self.bench.forward(draw.choice([0, 0, 1, 3, 30, 61, 61, 400, 1_000, 4_000]))
        chance = draw.random()
        if chance < 0.10:
            user = draw.choice(self.users)
            self.bench.set_phone(user, other_phone(user, 0))
            self.say(f"{user} gives another number")
        elif chance < 0.15:
            self.bench.pause()
            self.say("pause")
        elif chance < 0.30:
            self.bench.resume()
            self.say("resume")
        if self.bench.stopped:
            return  # it has the database open
        if self.is_restored and not self.copied and draw.random() < 0.5:
            self.bench.kept.copy()
            self.copied = True
            self.say("a copy of the database is kept")
        elif self.copied and step > 1 and draw.random() < 0.3:
            self.bench.kept.put_back()
            self.told.restores += 1
            self.say(
                f"the database is put back to its copy{''.join(map(', settled again: {}'.format, self.since_copied))}"
            )
            if self.by_harness:
                self.acts.restored()
            for market, winners in self.since_copied.items():
                self.bench.owe(winners, market=market)  # from the platform, which has forgotten nothing

    def _work(self) -> list[str]:
        """What there is to do, as the verbs that do it; with nothing left, another market is settled."""
        found = states(self.bench)
        if not found.keys() - FINAL - {"HELD"}:
            self._another_market()
            return ["pay"]
        verbs = {"PENDING": "pay", "FAILED": "retry", "SENDING": "ask", "SENT": "ask", "UNKNOWN": "ask"}
        return [verb for state, verb in verbs.items() if found[state]]

    def _intents(self) -> int:
        """How many intents stand whose process is gone: nobody knows whether their request left."""
        with self.bench.opened() as db, db.reading() as session:
            return sum(attempt.status is AttemptStatus.INTENT for attempt in attempts.list_live(session))

    def _batch(self, work: Sequence[str]) -> list[Call]:
        """One process, or two or three at once; only one of them listens, or rarely two quarrel about the port."""
        draw = self.random
        calls: list[Call] = []
        listens = False
        for _ in range(draw.choices([1, 2, 3], [5, 3, 2])[0]):
            # Mostly what there is to do, sometimes what there is not: crons do not look first.
            verb = draw.choice(work) if draw.random() < 0.85 else draw.choice(["pay", "retry", "ask"])
            words = self._words(verb, may_listen=not listens or draw.random() < 0.1)
            listens = listens or "--listen" in words or words[0] == "listen" or "--now" in words
            calls.append(self._dying(words))
        stopped = self.acts.to_stop()
        return [*calls, stopped] if stopped else calls

    def _words(self, verb: str, *, may_listen: bool) -> tuple[str, ...]:
        draw = self.random
        if verb == "ask":
            if not may_listen:
                return ("reconcile", "--no-listen")
            return draw.choice([("listen", "--for", "1s"), *[("reconcile", "--now", "--listen-seconds", "1")] * 3])
        pay: Sequence[tuple[str, ...]] = [
            ("payout", "--yes"),
            ("payout", "--yes"),
            ("payout", "derby", "--yes", "--limit", "2"),
            ("payout", "--yes", "--wait", "--max-seconds", "2"),
        ]
        words = draw.choice(pay) if verb == "pay" else ("retry-failed", "--yes")
        return with_listener(words) if may_listen and draw.random() < 0.6 else words

    def _dying(self, words: tuple[str, ...]) -> Call:
        draw = self.random
        chance = draw.random()
        if chance < 0.12:
            return Call(words)
        if chance < 0.5:
            return Call(words, points=f"kill:{draw.choice(POINTS)}:{draw.randint(1, 10)}")
        if self.told.by_exec:
            return Call(words, kill_after=draw.uniform(0.7, 2.5))
        return Call(words, kill_after=draw.uniform(0.02, draw.choice([0.1, 0.2, 0.4])))
