"""Any order of operations, answers, crashes, clocks and restored backups: nobody is paid twice, nothing is lost.

Hypothesis draws what is done and what goes wrong; after each step the simulator's ledger and every invariant are
asked. At the end the faults stop, and what we believe must be what moved, to the cent.

    pytest tests/model/test_machine.py --hypothesis-profile=long --timeout=0 --hypothesis-show-statistics
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.simulator.answers import Notice
from kasoko_cli.daraja.simulator.script import STAGE_OF, Fault, FaultStage
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.kill_points import POINTS
from kasoko_cli.operations.payouts import manual_decision, switches
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.schema.tables import Attempt
from tests.model.houses import House, PostgresHouse, SqliteHouse
from tests.model.sheets import REASONS, RECEIVERS, Export
from tests.model.world import (
    ACT,
    DAY_SECONDS,
    LEASE_SECONDS,
    LIES,
    PHONES,
    SETTINGS,
    Deal,
    Setting,
    Tally,
    World,
    in_old_words,
)

#: Results that M-Pesa itself makes up. They are believed, so such worlds confirm each failure before a new id.
FALSE_FAILURES = (Fault.FAILURE_THEN_SUCCESS,)


def _of(*stages: FaultStage) -> list[Fault]:
    return [fault for fault in Fault if STAGE_OF[fault] in stages and fault not in (*FALSE_FAILURES, *LIES)]


#: What other processes and the clock do while a request is under way.
MEANWHILE = st.lists(
    st.sampled_from(["lease runs out", "send", "reconcile", "deliver", "decide", "retry", "another account"]),
    min_size=1,
    max_size=3,
).map(tuple)
#: What they do while a sender stands that has not sent yet: its lease is over, and others have ruled on it.
STANDS = st.sampled_from([(), (), (), ("lease runs out", "send", "decide"), ("lease runs out", "reconcile", "decide")])
NOTHING: st.SearchStrategy[tuple[str, ...]] = st.just(())
#: One fault on the way and one of the result, each often absent.
ANSWER_FAULTS = st.sampled_from([None, None, None, *_of(FaultStage.BEFORE, FaultStage.AFTER)])
WIRES = st.sampled_from(["", "", "", "", "refused", "wanders", "crash before", "crash after"])


def _deals(results: list[Fault]) -> st.SearchStrategy[list[Deal]]:
    def deal(
        on_the_way: Fault | None,
        result: Fault | None,
        wire: str,
        before: tuple[str, ...],
        after: tuple[str, ...],
        stands: tuple[str, ...],
    ) -> Deal:
        faults = tuple(fault for fault in (on_the_way, result) if fault is not None)
        return Deal(faults, wire, before, after, stands)

    one = st.builds(
        deal,
        ANSWER_FAULTS,
        st.sampled_from([None, None, None, *results]),
        WIRES,
        st.one_of(NOTHING, NOTHING, MEANWHILE),
        st.one_of(NOTHING, NOTHING, MEANWHILE),
        STANDS,
    )
    return st.lists(one, min_size=2, max_size=5)


#: Deals for payments and for questions.
PAYMENTS = _deals(_of(FaultStage.RESULT))
QUESTIONS = _deals(_of(FaultStage.STATUS))
#: At which point, the how manieth time it is reached, the power goes; or not.
Crashes = tuple[str, int] | None
CRASHES: st.SearchStrategy[Crashes] = st.one_of(
    st.none(), st.none(), st.tuples(st.sampled_from(POINTS), st.integers(1, 6))
)
#: Which one of however many there are.
WHICH = st.integers(0, 40)
#: Steps of time: seconds, the lease, the schedule, the ladder, a day, and a clock that is set back.
STEPS = st.sampled_from([1, 30, 121, 245, LEASE_SECONDS, 961, 1921, 3_601, 14_401, DAY_SECONDS, None, -5, -3_600])
FORGED_RECEIPT = "UKN7A1B2C3"


class Payouts(RuleBasedStateMachine):
    """What anybody may do, in any order."""

    def __init__(self, make_house: Callable[[], House], tally: Tally) -> None:
        super().__init__()
        self.make_house, self.tally = make_house, tally
        self.world: World | None = None
        self.broken = False

    @initialize(doubts_failures=st.booleans())
    def begin(self, doubts_failures: bool) -> None:
        """A database with two markets that owe, and an older copy that knows one of them."""
        self.world = World(self.make_house(), doubts_failures=doubts_failures, tally=self.tally)
        self.world.place_next()
        self.world.back_up()
        self.world.place_next()

    @contextmanager
    def at_work(self, crash: Crashes = None) -> Iterator[World]:
        """One process at work, which may crash; a failed claim ends the example without another look."""
        assert self.world is not None
        try:
            with self.world.process():
                if crash is not None:
                    self.world.plug.pull(*crash)
                yield self.world
        except BaseException:
            self.broken = True
            raise

    # --- What is done ---------------------------------------------------------------------------------------------

    @rule(deals=PAYMENTS, limit=st.sampled_from([None, None, 1, 2]), lie=st.one_of(st.none(), WHICH), crash=CRASHES)
    def send(self, deals: list[Deal], limit: int | None, lie: int | None, crash: Crashes) -> None:
        """`kasoko payout`. Where the operator has every failure confirmed, M-Pesa may post one that is not true."""
        with self.at_work(crash) as world:
            if lie is not None and world.confirm.above_cents == 0:
                deals = deals or [Deal()]
                deals[lie % len(deals)] = replace(deals[lie % len(deals)], faults=FALSE_FAILURES)
            world.send(deals, limit=limit)

    @rule(deals=QUESTIONS, at_once=st.booleans(), lies=st.booleans(), crash=CRASHES)
    def reconcile(self, deals: list[Deal], at_once: bool, lies: bool, crash: Crashes) -> None:
        """`kasoko reconcile`; M-Pesa may deny once what it paid. Beside a false failure there is no other untruth."""
        with self.at_work(crash) as world:
            if lies and world.confirm.above_cents:
                deals = [replace(deals[0], faults=LIES), *deals[1:]]
            if world.confirm.above_cents == 0:
                deals = [
                    replace(deal, faults=tuple(fault for fault in deal.faults if fault is not Fault.STATUS_LAGS))
                    for deal in deals
                ]
            world.ask(deals, at_once=at_once)

    @rule(crash=CRASHES)
    def retry_failed(self, crash: Crashes) -> None:
        """`kasoko retry-failed`."""
        with self.at_work(crash) as world:
            world.retry()

    @rule(
        act=st.sampled_from(
            [
                *["settle", "settle", "set phone", "set phone", "decide", "decide", "hold", "release"],
                *["to wallet", "pause", "resume", "close incidents", "decide all", "comes back", "again", "override"],
            ]
        ),
        which=WHICH,
        crash=CRASHES,
    )
    def somebody_acts(self, act: str, which: int, crash: Crashes) -> None:
        """A platform with one more market; a user with another number; an operator who looks at M-Pesa's portal."""
        with self.at_work(crash) as world:
            known = world.payouts()
            payout = known[which % len(known)]
            match act:
                case "settle":
                    world.place_next()
                case "set phone":
                    world.set_phone(payout.user_id, PHONES[payout.user_id][which % 2])
                case "pause":
                    switches.pause(OperationContext(world.db, world.clock, ACT))
                case "resume":
                    world.resume()
                case "decide":
                    world.decide_truly(payout)
                case "hold":
                    world.act_on(manual_decision.hold, payout, frozenset({PayoutStatus.PENDING, PayoutStatus.FAILED}))
                case "release":
                    world.act_on(manual_decision.release, payout, frozenset({PayoutStatus.HELD}))
                case "to wallet":
                    if world.may_credit(payout):
                        allowed = frozenset({PayoutStatus.HELD, PayoutStatus.PENDING, PayoutStatus.FAILED})
                        world.act_on(manual_decision.to_wallet, payout, allowed)
                case "comes back":
                    world.money_comes_back(payout)
                case "again":
                    world.send_again(payout)
                case "override":
                    world.change_outcome(payout.market_id)
                case "decide all":
                    world.decide_all_truly(is_stale=which % 2 == 1)
                case _:
                    world.close_incidents()

    @precondition(lambda self: self.world is not None and self.world.may_change())
    @rule(setting=st.sampled_from([*SETTINGS, None]))
    def change_account(self, setting: Setting | None) -> None:
        """The settings are of another shortcode or another host from now on, and perhaps back; or of real money."""
        with self.at_work() as world:
            if setting is None:
                world.try_real_money()
            else:
                world.set_to(setting)

    @rule(
        export=st.builds(
            Export,
            bank=st.sampled_from([0, 0, 1]),
            hours_old=st.sampled_from([0, 0, 2, 24]),
            hours_long=st.sampled_from([24, 24 * 30]),
            hours_ahead=st.sampled_from([0, 24 * 7]),
            lags=st.booleans(),
            receiver=st.integers(0, len(RECEIVERS) - 1),
            reason=st.integers(0, len(REASONS) - 1),
        ),
        undoes=st.one_of(st.none(), st.none(), WHICH),
        crash=CRASHES,
    )
    def statement(self, export: Export, undoes: int | None, crash: Crashes) -> None:
        """A statement: of any account, too old, too short, masked, in any words; or one is taken back."""
        with self.at_work(crash) as world:
            if undoes is None:
                world.take_statement(export)
            else:
                world.undo_statement(undoes)

    # --- What arrives, and what does not --------------------------------------------------------------------------

    @rule(apply=st.booleans(), crash=CRASHES)
    def deliver_all(self, apply: bool, crash: Crashes) -> None:
        """Everything that M-Pesa has posted arrives, in its order; what a crash takes away never comes again."""
        with self.at_work(crash) as world:
            world.deliver(world.take_mail(), apply=apply)

    @precondition(lambda self: self.world is not None and self.world.mail)
    @rule(
        how=st.sampled_from(["come", "in old words", "come and stay", "come in part", "go astray", "get lost"]),
        which=st.lists(WHICH, min_size=2, max_size=4),
        cut=st.integers(0, 99),
        apply=st.booleans(),
    )
    def some_mail(self, how: str, which: list[int], cut: int, apply: bool) -> None:
        """Some of it in any order: doubled, late, cut short, at another's address (mark and all), or never."""
        with self.at_work() as world:
            chosen = [world.mail[number % len(world.mail)] for number in which]
            if how in ("come", "in old words", "get lost"):
                world.mail = [notice for notice in world.mail if notice not in chosen]
            if how == "in old words":
                chosen = [replace(notice, body=in_old_words(notice.body)) for notice in chosen]
            if how == "come in part":
                chosen = [replace(notice, body=notice.body[: len(notice.body) * cut // 100]) for notice in chosen]
            if how == "go astray":
                chosen = [Notice(chosen[0].url, notice.body) for notice in chosen[1:]]
            if how != "get lost":
                world.deliver(chosen, apply=apply)

    @precondition(lambda self: self.world is not None and self.world.wandering)
    @rule(which=WHICH)
    def arrive(self, which: int) -> None:
        """A request that timed out reaches M-Pesa after all."""
        with self.at_work() as world:
            world.arrive(which)

    @rule(
        which=WHICH,
        code=st.sampled_from([0, 0, 2040, 2040, 1, 17]),
        kind=st.sampled_from([CallbackKind.RESULT, CallbackKind.RESULT, CallbackKind.TIMEOUT]),
        conversation=st.sampled_from(["AG_20261123_0123456789abcdef0123", None]),
        names_us=st.booleans(),
        more_cents=st.sampled_from([0, 0, 100]),
        signed=st.booleans(),
    )
    def forge_result(
        self,
        which: int,
        code: int,
        kind: CallbackKind,
        conversation: str | None,
        names_us: bool,
        more_cents: int,
        signed: bool,
    ) -> None:
        """Somebody who knows all but the conversation id posts how a payment ended."""
        with self.at_work() as world:
            if attempts := world.attempts():
                attempt = attempts[which % len(attempts)]
                body = forged(attempt, code, conversation, names_us=names_us, more_cents=more_cents)
                world.forge(kind, attempt.id, body, signed=signed)

    @rule(
        which=WHICH,
        word=st.sampled_from(["Completed", "Declined", "Expired"]),
        conversation=st.sampled_from(["AG_20261123_0123456789abcdef0123", None]),
        signed=st.booleans(),
    )
    def forge_status(self, which: int, word: str, conversation: str | None, signed: bool) -> None:
        """Somebody who knows all but the question's conversation id answers it."""
        with self.at_work() as world:
            if questions := world.open_queries():
                query = questions[which % len(questions)]
                [attempt] = [one for one in world.attempts() if one.id == query.attempt_id]
                world.forge(CallbackKind.STATUS, query.id, forged_status(attempt, word, conversation), signed=signed)

    # --- Time, copies ---------------------------------------------------------------------------------------------

    @rule(seconds=STEPS)
    def time_passes(self, seconds: int | None) -> None:
        """The clock moves on, is set back a little, or strikes midnight in Nairobi."""
        with self.at_work() as world:
            if seconds is None:
                world.just_past_midnight()
            else:
                world.clock.now += timedelta(seconds=seconds)

    @rule(restores=st.booleans())
    def copies(self, restores: bool) -> None:
        """The database is copied aside, or the copy takes its place: all since then is forgotten, not at M-Pesa."""
        with self.at_work() as world:
            if restores and not world.may_be_put_back():
                return
            if restores:
                self.tally.add("restored")
                world.restore()
            else:
                world.back_up()

    # --- What must hold -------------------------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        """Nobody was paid twice, nothing false is believed, and the books hold."""
        if self.world is not None and not self.broken:
            with self.at_work() as world:
                world.check()

    def teardown(self) -> None:
        """Faults stop, and everything comes to its end."""
        if self.world is None:
            return
        try:
            if not self.broken:
                self.tally.add("example")
                self.world.calm_down()
        finally:
            self.world.close()


def forged(attempt: Attempt, code: int, conversation: str | None, *, names_us: bool, more_cents: int) -> bytes:
    """A result in M-Pesa's words, with everything right but what only TLS ever carried."""
    result: dict[str, object] = {"ResultType": 0, "ResultCode": code, "ResultDesc": "", "TransactionID": FORGED_RECEIPT}
    if names_us:
        result["OriginatorConversationID"] = attempt.id
    if conversation is not None:
        result["ConversationID"] = conversation
    if code == 0:
        result["ResultParameters"] = {
            "ResultParameter": [
                {"Key": "TransactionAmount", "Value": (attempt.wire_cents + more_cents) // 100},
                {"Key": "TransactionReceipt", "Value": FORGED_RECEIPT},
            ]
        }
    return json.dumps({"Result": result}).encode()


def forged_status(attempt: Attempt, word: str, conversation: str | None) -> bytes:
    """A status answer with everything right but the question's own conversation id."""
    parameters = {
        "OriginatorConversationID": attempt.id,
        "ConversationID": attempt.conversation_id,
        "Amount": str(attempt.wire_cents // 100),
        "ReceiptNo": FORGED_RECEIPT,
        "TransactionStatus": word,
        "CreditPartyName": f"{attempt.phone} - Jane Doe",
    }
    result: dict[str, object] = {
        "ResultType": 0,
        "ResultCode": 0,
        "ResultDesc": "",
        "OriginatorConversationID": attempt.id,
        "TransactionID": FORGED_RECEIPT,
        "ResultParameters": {
            "ResultParameter": [{"Key": key, "Value": value} for key, value in parameters.items() if value is not None]
        },
    }
    if conversation is not None:
        result["ConversationID"] = conversation
    return json.dumps({"Result": result}).encode()


def run(make_house: Callable[[], House], *, share: float) -> Tally:
    """Run the machine for this share of the profile's examples; CI's profile always draws the same ones."""
    profile = settings.default
    assert profile is not None
    tally = Tally()
    run_state_machine_as_test(
        lambda: Payouts(make_house, tally),  # type: ignore[arg-type]  # whatever makes one will do
        settings=settings(
            profile,
            max_examples=max(1, round(profile.max_examples * share)),
            stateful_step_count=20,
            phases=[phase for phase in profile.phases if phase is not Phase.explain],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return tally


def of_examples(few: float, many: float) -> pytest.MarkDecorator:
    """Few of the profile's examples in the check, many in its exhaustive part."""
    return pytest.mark.parametrize("share", [few, pytest.param(many, marks=pytest.mark.exhaustive)])


@of_examples(0.05, 0.15)
def test_whatever_happens_on_sqlite_nobody_is_paid_twice(sqlite_template: Path, tmp_path: Path, share: float) -> None:
    tally = run(lambda: SqliteHouse(sqlite_template, tmp_path), share=share)
    print(tally.counts)
    assert tally.counts["example"] > 50 * share


@of_examples(0.02, 0.03)
def test_whatever_happens_on_postgres_nobody_is_paid_twice(
    postgres_server: str, postgres_template: str, share: float
) -> None:
    tally = run(lambda: PostgresHouse(postgres_server, postgres_template), share=share)
    print(tally.counts)
    assert tally.counts["example"] > 50 * share
