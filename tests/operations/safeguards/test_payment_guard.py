"""One guard before every way out to money: each condition against each way, and what the hint leads to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
import typer.main
from sqlmodel import col

from kasoko_cli.cli.app import app
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.codes import RESULT_RULES, Fate
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.domain.market import Resolution
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, originator_id
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.account import payer
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.payouts import manual_decision, market_hold, retry, returns
from kasoko_cli.operations.payouts.manual_decision import Decision
from kasoko_cli.operations.reconciliation import restore_recovery, statement_import
from kasoko_cli.operations.records import markets, privacy, users, wallets
from kasoko_cli.operations.safeguards import payment_guard
from kasoko_cli.operations.safeguards.failure_confirmation import Confirm, Missing
from kasoko_cli.operations.safeguards.payment_guard import GUARDS, Case, Caution, Condition, Objection, Way
from kasoko_cli.operations.safeguards.restore_doubt import HELD_SINCE
from kasoko_cli.operations.settlement import approval as approve
from kasoko_cli.operations.settlement import correction
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.transitions import NOT_ON_STATEMENT
from kasoko_cli.store import approvals, attempts, status_queries
from kasoko_cli.store.log import Asking, Standing, answer_incidents, raise_incident
from kasoko_cli.store.schema.tables import Approval, Attempt, Deployment, Incident, Payout, Query
from kasoko_cli.store.statements import RESTORED
from tests.operations.data_builder import LIMITS, DataBuilder
from tests.operations.paper import PAYBILL, Paper
from tests.operations.payout_harness import AT_ONCE, PayoutHarness

_C = Condition
#: The attempts that a deployment makes go to this number, which is nobody's.
OLD_PHONE = "254712345678"
BOSS = Actor("boss", "seen by both")


@dataclass(frozen=True)
class Scene:
    """One payout on its way: who is owed it, and everything that a test may do about it."""

    builder: DataBuilder
    harness: PayoutHarness
    number: int
    #: The account that pays.
    account_id: int

    @property
    def market(self) -> str:
        return f"m{self.number}"

    @property
    def user(self) -> str:
        return f"w{self.number}"

    @property
    def payout_id(self) -> str:
        return f"{self.market}.1.1"

    def payout(self) -> Payout:
        return self.builder.payout_of(self.user)

    def last(self) -> Attempt | None:
        with self.builder.db.reading() as session:
            return attempts.last_attempts(session, [self.payout_id]).get(self.payout_id)

    # --- How it comes to where a way begins ---------------------------------------------------------------------------

    def owed(self, *, approval: bool = False) -> str:
        self.builder.market(self.market)
        self.builder.bets(self.market, {self.user: ("Yes", 100), f"l{self.number}": ("No", 100)})
        self.builder.settle(self.market, "Yes", approval_above_cents=0 if approval else None)
        return self.payout_id

    def sent(self) -> str:
        attempt = self.builder.intend_payout(self.owed())
        self.builder.accepted(attempt)
        return attempt

    def failed(self) -> None:
        self.builder.failed(self.sent())

    def unknown(self) -> None:
        self.builder.doubted(self.sent())

    def completed(self) -> None:
        self.builder.paid(self.sent())

    def came_back(self) -> None:
        attempt = self.sent()
        self.builder.paid(attempt)
        self.builder.came_back(attempt)

    def held(self) -> None:
        self.failed()
        manual_decision.hold(self.builder.context, payout_id=self.payout_id)

    def held_with_its_market(self) -> None:
        self.failed()
        market_hold.hold_market(self.builder.context, market=self.market)

    def due_again(self) -> None:
        self.failed()
        retry.retry(self.builder.context, only=[self.payout_id])

    def restored(self) -> None:
        """Held since a copy was put back; M-Pesa has answered twice that it knows no such payment."""
        self.failed()
        manual_decision.hold(self.builder.context, payout_id=self.payout_id)
        self.update(Payout, Payout.id, self.payout_id, note=f"{HELD_SINCE}yesterday")
        self.never_taken(self.attempt(AttemptStatus.REJECTED, lease_token=f"{RESTORED}yesterday"))

    def owes(self) -> None:
        """Paid, and paid again by M-Pesa: the user owes that."""
        self.completed()
        with self.builder.db.transaction() as session:
            book.post(session, journal.overpaid(f"X{self.number}", self.user, 10_000), at=self.builder.clock())

    # --- Rows by hand -------------------------------------------------------------------------------------------------

    def update(self, table: type[Any], key: Any, value: object, **values: object) -> None:
        with self.builder.db.transaction() as session:
            session.execute(sa.update(table).where(col(key) == value).values(**values))

    def attempt(self, status: AttemptStatus, **more: object) -> str:
        """One attempt more, of which nothing is in the books."""
        now, payout, before = self.builder.clock(), self.payout(), self.last()
        number = 1 if before is None else before.number + 1
        with self.builder.db.transaction() as session:
            deployment = session.execute(sa.select(col(Deployment.deployment_id))).scalar_one()
            values: dict[str, Any] = {
                "id": originator_id(deployment, payout, number),
                "payout_id": payout.id,
                "number": number,
                "status": status,
                "phone": OLD_PHONE,
                "wire_cents": payout.wire_cents,
                "api": "v3",
                "lease_token": "by hand",
                "lease_until": now,
                "sent_at": now,
                "created_at": now,
                "status_at": now,
                "evidence": "by hand",
                "account_id": self.account_id,
            }
            session.add(Attempt(**(values | more)))
        return str(values["id"])

    def any_attempt(self) -> str:
        before = self.last()
        return before.id if before is not None else self.attempt(AttemptStatus.REJECTED)

    def answered(self, attempt_id: str, said: str) -> None:
        now = self.builder.clock()
        with self.builder.db.transaction() as session:
            query = f"kq-{now:%H%M%S}-{attempt_id[-12:]}"
            answer: dict[str, Any] = {"asked_at": now, "answered_at": now, "answer": said}
            session.add(Query(id=query, kind="STATUS", attempt_id=attempt_id, account_id=self.account_id, **answer))
        self.update(Attempt, Attempt.id, attempt_id, account_id=self.account_id)

    def never_taken(self, attempt_id: str) -> None:
        for _ in range(2):
            self.builder.clock.forward(301)
            self.answered(attempt_id, "NOT_FOUND")

    # --- What speaks against it, and how it ends by what the hint says ------------------------------------------------

    def impose(self, condition: Condition) -> None:
        match condition:
            case _C.UNJUDGED:
                self.an_answer_before_its_acknowledgement()
            case _C.LIVE:
                self.attempt(AttemptStatus.UNKNOWN)
            case _C.INCIDENT:
                now = self.builder.clock()
                with self.builder.db.transaction() as session:
                    raise_incident(
                        session, key=self.payout_id, kind="mismatch", what="?", at=now, payout_id=self.payout_id
                    )
            case _C.ASKED:
                now, attempt = self.builder.clock(), self.any_attempt()
                with self.builder.db.transaction() as session:
                    raise_incident(
                        session,
                        key=f"{Asking.MISMATCH}:{attempt}",
                        kind="mismatch",
                        what="?",
                        at=now,
                        payout_id=self.payout_id,
                        attempt_id=attempt,
                    )
            case _C.RESTORED:
                self.attempt(AttemptStatus.REJECTED, lease_token=f"{RESTORED}yesterday")
            case _C.UNCONFIRMED:
                last = self.last()
                if last is None or last.status is not AttemptStatus.FAILED:
                    self.attempt(AttemptStatus.FAILED, evidence="callback:1", result_code="26")
            case _C.SILENCE:
                self.any_attempt()
                self.update(Payout, Payout.id, self.payout_id, failure_code=NOT_ON_STATEMENT)
            case _C.ACCOUNT:
                self.attempt(AttemptStatus.REJECTED, account_id=None)  # by nobody knows which
            case _C.SAME_NUMBER:
                self.fail_with(next(code for code, rule in RESULT_RULES.items() if rule.needs_other_phone))
            case _C.HOPELESS:
                rules = RESULT_RULES.items()
                hopeless = (
                    code
                    for code, rule in rules
                    if rule.fate is Fate.FAILED and not (rule.may_succeed_again or rule.needs_other_phone)
                )
                self.fail_with(next(hopeless))
            case _C.APPROVAL:
                with self.builder.db.transaction() as session:
                    session.add(Approval(market_id=self.market, settlement_no=1, plan_hash="0" * 64, settled_by="ann"))

    def fail_with(self, code: str) -> None:
        """It failed with this code to the number that the user has now."""
        self.update(Payout, Payout.id, self.payout_id, failure_code=code, failure_reason="as the code says")
        users.set_phone(self.builder.context, user_id=self.user, phone=OLD_PHONE)

    def an_answer_before_its_acknowledgement(self) -> None:
        """M-Pesa's answer to a question that is just being asked: it is stored, and waits to be judged."""
        now, query = self.builder.clock(), f"kq-asked-{self.number:012x}"
        attempt = self.any_attempt()
        with self.builder.db.transaction() as session:
            session.add(Query(id=query, kind="STATUS", attempt_id=attempt, asked_at=now))
        body = json.dumps({"Result": {"ResultType": 0, "ResultCode": 0, "ResultDesc": "", "ConversationID": "AG_1"}})
        arrived = Delivery(CallbackKind.STATUS, query, True, "196.201.214.200", now, body.encode())
        apply_results.store_deliveries(self.builder.db, self.builder.clock, [arrived])

    def obey(self, condition: Condition, hint: str) -> None:
        """What the hinted command comes to."""
        match condition:
            case _C.UNJUDGED:
                assert "kasoko reconcile" in hint
                self.builder.clock.forward(301)
                apply_results.apply_waiting(self.builder.db, self.builder.clock, Trust())
                if (last := self.last()) is not None and payment_guard.is_doubted(last):
                    self.never_taken(last.id)  # the answer that came said nothing: it is asked again
            case _C.LIVE:
                assert "kasoko reconcile" in hint
                live = self.last()
                assert live is not None
                self.update(Attempt, Attempt.id, live.id, status=AttemptStatus.FAILED, evidence="callback:1")
            case _C.INCIDENT:
                [number] = re.findall(r"kasoko incident close ([0-9]+) --reason", hint)
                manual_decision.close_incidents(self.builder.context, numbers=[int(number)])
            case _C.RESTORED:
                assert "kasoko doctor --after-restore" in hint
                doubted = self.last()
                assert doubted is not None
                self.never_taken(doubted.id)
                restore_recovery.take_answers(self.builder.context, Caution())
            case _C.ASKED:
                assert "kasoko reconcile --now" in hint
                attempt = self.any_attempt()
                self.builder.clock.forward(301)
                last = self.last()
                is_doubted = last is not None and payment_guard.is_doubted(last)
                self.answered(attempt, "NOT_FOUND" if is_doubted else "NOT_PAID")
                with self.builder.db.transaction() as session:
                    asked = status_queries.list_about(session, attempt)[-1]
                    assert (
                        answer_incidents(
                            session, attempt, query_id=asked.id, asked_at=asked.asked_at, now=self.builder.clock()
                        )
                        == 1
                    )
            case _C.UNCONFIRMED | _C.SILENCE:
                assert "kasoko reconcile --now" in hint
                last = self.last()
                assert last is not None
                self.builder.clock.forward(301)
                self.answered(last.id, "NOT_PAID" if condition is _C.UNCONFIRMED else "NOT_FOUND")
            case _C.ACCOUNT:
                assert "Set the settings of that one again" in hint
                last = self.last()
                assert last is not None
                self.update(Attempt, Attempt.id, last.id, account_id=self.account_id)
            case _C.SAME_NUMBER:
                assert f"kasoko user set-phone {self.user} PHONE" in hint
                self.another_number()
            case _C.HOPELESS:
                self.another_number()
            case _C.APPROVAL:
                assert f"kasoko approve {self.market}" in hint
                with self.builder.db.transaction() as session:
                    assert approvals.approve(
                        session, self.market, 1, plan_hash="0" * 64, by="boss", at=self.builder.clock()
                    )

    def another_number(self) -> None:
        phone = f"2547120{self.number:05d}"
        users.set_phone(self.builder.context, user_id=self.user, phone=phone)


# --- The ways -----------------------------------------------------------------------------------------------------

#: Takes a scene and how careful to be: the hint where it was left alone or refused, None where it went.
Take = Callable[[Scene, Caution], str | None]


def refused(actor: Callable[[], object]) -> str | None:
    """The hint of the refusal, or None."""
    try:
        actor()
    except Refused as refusal:
        said = refusal
    else:
        return None
    assert said.message.lower().endswith("nothing was changed."), said.message
    return said.hint


def call(operation: Callable[..., object], **more: object) -> Take:
    """A way that is an operation on one payout."""

    def take(scene: Scene, caution: Caution) -> str | None:
        builder = scene.builder
        return refused(partial(operation, builder.context, payout_id=scene.payout_id, caution=caution, **more))

    return take


def send(scene: Scene, caution: Caution) -> str | None:
    """What was held meanwhile is let go first, as its note says."""
    builder, before = scene.builder, scene.payout()
    if before.status is PayoutStatus.HELD:
        hint = refused(
            partial(
                manual_decision.release,
                OperationContext(builder.db, builder.clock, BOSS),
                payout_id=scene.payout_id,
                caution=caution,
            )
        )
        assert hint is None, hint
    builder.clock.forward(10)
    scene.harness.send(replace(AT_ONCE, caution=caution), only=[scene.payout_id])
    payout = scene.payout()
    if payout.status in (PayoutStatus.HELD, PayoutStatus.PENDING):
        return f"{payout.note}; kasoko reconcile"
    assert payout.status in (PayoutStatus.SENT, PayoutStatus.FAILED), payout.status
    return None


def try_again(scene: Scene, caution: Caution) -> str | None:
    builder = scene.builder
    report = retry.retry(builder.context, only=[scene.payout_id], caution=caution)
    return report.left[0].hint if report.left else None


def release_market(scene: Scene, caution: Caution) -> str | None:
    builder = scene.builder
    done = market_hold.release_market(builder.context, market=scene.market, caution=caution)
    return done.left[0] if done.left else None


def let_go(scene: Scene, caution: Caution) -> str | None:
    builder = scene.builder
    restore_recovery.take_answers(builder.context, caution)
    if scene.payout().status is PayoutStatus.PENDING:
        return None
    with builder.db.reading() as session:
        return payment_guard.objections(session, Way.LET_GO, [scene.payout()], caution, now=builder.clock())[
            scene.payout_id
        ].hint


def approve_it(scene: Scene, caution: Caution) -> str | None:
    builder = scene.builder
    plan = approve.look(builder.db, market=scene.market).plan_hash
    act = partial(
        approve.approve,
        OperationContext(builder.db, builder.clock, BOSS),
        market=scene.market,
        plan_hash=plan,
        caution=caution,
    )
    return refused(act)


def override_it(scene: Scene, caution: Caution) -> str | None:
    builder = scene.builder
    other = markets.read_resolution(builder.db, market=scene.market, named=markets.Named(["No"]))
    assert isinstance(other, Resolution)
    policy = correction.OverridePolicy(LIMITS, caution=caution)
    planned = partial(
        correction.plan_override,
        builder.db,
        policy,
        market=scene.market,
        resolution=other,
        clock=builder.clock,
    )
    act = partial(
        correction.override,
        builder.context,
        policy,
        market=scene.market,
        resolution=other,
    )
    if (hint := refused(planned)) is not None:
        assert refused(act) == hint
        return hint
    return refused(act)


def debt(operation: Callable[..., object], **more: object) -> Take:
    def take(scene: Scene, caution: Caution) -> str | None:
        builder, reference = scene.builder, f"R{scene.number}"
        return refused(
            partial(
                operation,
                builder.context,
                user_id=scene.user,
                cents=10_000,
                reference=reference,
                caution=caution,
                **more,
            )
        )

    return take


def erase(scene: Scene, caution: Caution) -> str | None:
    builder, wallet = scene.builder, scene.builder.balances(scene.user)[1]
    if wallet:  # what M-Pesa could not carry was spent
        builder.market(f"s{scene.number}")
        builder.bet(f"s{scene.number}", scene.user, "Yes", cents=wallet)
        builder.settle(f"s{scene.number}", "No")
    return refused(partial(privacy.erase, builder.context, user_id=scene.user, caution=caution))


NOT_PAID, PAID = Decision(None, "the portal"), Decision("UKN7A1B2C3", "the portal")

#: Each way: how a payout comes to where it begins, and how it is taken. Statements have tests of their own below.
TAKEN: dict[str, tuple[Way, Callable[[Scene], object], Take]] = {
    "payout": (Way.SEND, Scene.due_again, send),
    "payout retry": (Way.RETRY, Scene.failed, try_again),
    "payout again": (Way.AGAIN, Scene.came_back, call(returns.send_again)),
    "payout release": (Way.RELEASE, Scene.held, call(manual_decision.release)),
    "payout release MARKET": (Way.RELEASE, Scene.held_with_its_market, release_market),
    "doctor --after-restore": (Way.LET_GO, Scene.restored, let_go),
    "approve": (Way.APPROVE, partial(Scene.owed, approval=True), approve_it),
    "payout to-wallet": (Way.TO_WALLET, Scene.failed, call(manual_decision.to_wallet)),
    "payout to-wallet of what was held": (Way.TO_WALLET, Scene.held, call(manual_decision.to_wallet)),
    "payout to-wallet of what is due": (Way.TO_WALLET, Scene.due_again, call(manual_decision.to_wallet)),
    "payout to-wallet of what came back": (Way.TO_WALLET, Scene.came_back, call(manual_decision.to_wallet)),
    "payout returned": (Way.RETURNED, Scene.completed, call(returns.came_back, receipt="UKP0A1B2C3")),
    "payout decide --not-paid": (Way.DECIDE_NOT_PAID, Scene.unknown, call(manual_decision.decide, decision=NOT_PAID)),
    "payout decide --paid": (Way.DECIDE_PAID, Scene.unknown, call(manual_decision.decide, decision=PAID)),
    "resolve --override": (Way.OVERRIDE, Scene.failed, override_it),
    "wallet recover": (Way.RECOVER, Scene.owes, debt(wallets.recover, source="bank")),
    "wallet write-off": (Way.WRITE_OFF, Scene.owes, debt(wallets.write_off)),
    "user erase": (Way.ERASE, Scene.completed, erase),
}


@pytest.fixture
def scenes(builder: DataBuilder, harness: PayoutHarness) -> Iterator[Scene]:
    """One scene after another, each with a market of its own."""
    harness.books_hold_at_the_end = False  # rows are made by hand
    account_id = payer.put_in_force(builder.context, harness.daraja.account.payer)
    return (Scene(builder, harness, number, account_id) for number in range(1, 100))


def caution_of(condition: Condition) -> Caution:
    """Above nothing every failure is confirmed; else none of these is."""
    above_cents = 0 if condition is _C.UNCONFIRMED else 10**9
    return Caution(Confirm(above_cents), account_id=2 if condition is _C.ACCOUNT else None)


@pytest.mark.parametrize("name", TAKEN)
def test_each_condition_stops_the_way_until_the_hint_was_followed(scenes: Iterator[Scene], name: str) -> None:
    way, prepare, take = TAKEN[name]
    for condition in GUARDS[way]:
        scene, caution = next(scenes), caution_of(condition)
        prepare(scene)
        scene.impose(condition)
        before, status = scene.harness.money(), scene.payout().status

        hint = take(scene, caution)

        assert hint is not None, f"{name} went, and it does not hold that {condition}"
        assert scene.harness.money() == before
        assert scene.payout().status is (PayoutStatus.HELD if hint and held_instead(way, condition) else status)
        # What passes the guard itself is named only where the failure is certain and the number is what was wrong.
        more = {_C.SAME_NUMBER: {"payout retry"}, _C.HOPELESS: {"payout to-wallet"}}.get(condition, set())
        assert commands_in(hint) <= HARMLESS | more, "a hint never makes it worse"
        scene.obey(condition, hint)
        assert take(scene, caution) is None, f"{name} after its hint was followed"


def held_instead(way: Way, condition: Condition) -> bool:
    """A run stops what it finds in doubt, and puts off what is about to be judged, or to be asked about."""
    return way is Way.SEND and condition not in (_C.UNJUDGED, _C.ASKED, _C.UNCONFIRMED)


@pytest.mark.parametrize("name", TAKEN)
def test_what_the_table_does_not_name_stops_no_way(scenes: Iterator[Scene], name: str) -> None:
    way, prepare, take = TAKEN[name]
    scene = next(scenes)
    prepare(scene)
    is_live = scene.payout().status is PayoutStatus.UNKNOWN
    beside_the_point = {_C.APPROVAL} if way is Way.APPROVE else {_C.LIVE} if is_live else set()
    beside_the_point |= {_C.RESTORED} if way is Way.LET_GO else set()
    last = [_C.UNCONFIRMED]  # whose attempt has to be the latest
    for condition in sorted(set(Condition) - {*GUARDS[way], *beside_the_point, *last}) + last:
        if condition not in GUARDS[way]:
            scene.impose(condition)
    assert take(scene, caution_of(_C.UNCONFIRMED if _C.UNCONFIRMED not in GUARDS[way] else _C.LIVE)) is None


#: Commands that move no money out: all that a hint may name.
HARMLESS = {
    *("reconcile", "payout show", "incident close", "incident list", "doctor", "approve", "user set-phone"),
    *("payout release",),
}


def commands_in(hint: str) -> set[str]:
    """The commands that a hint names; each exists."""
    found = set()
    for words in re.findall(r"kasoko((?: [a-z][a-z-]*)+)", hint):
        group: Any = typer.main.get_command(app)
        path: list[str] = []
        for word in words.split():
            if not hasattr(group, "commands"):
                break
            assert word in group.commands, f"there is no kasoko {' '.join([*path, word])}"
            group = group.commands[word]
            path.append(word)
        found.add(" ".join(path))
    return found


# --- The table by itself ------------------------------------------------------------------------------------------


def _case(condition: Condition | None) -> Case:
    """A payout that failed; with a condition, one of which that does not hold."""
    sent: dict[str, Any] = {"id": "ks-1", "payout_id": "rain.1.1", "number": 1, "wire_cents": 10_000, "api": "v3"}
    owed: dict[str, Any] = {"id": "rain.1.1", "market_id": "rain", "settlement_no": 1, "user_id": "ann"}
    attempt = Attempt(**sent, status=AttemptStatus.FAILED, phone=OLD_PHONE, lease_token="run", evidence="callback:1")
    payout = Payout(**owed, wire_cents=10_000)
    case = Case(payout, (attempt,), phone=OLD_PHONE)
    match condition:
        case _C.UNJUDGED:
            return replace(case, unjudged=(7,))
        case _C.LIVE:
            attempt.status = AttemptStatus.ACCEPTED
        case _C.INCIDENT:
            return replace(case, incidents=(Standing(3, is_asked=False), Standing(4, is_asked=True)))
        case _C.ASKED:
            return replace(case, incidents=(Standing(4, is_asked=True),))
        case _C.UNCONFIRMED:
            return replace(case, lacks=Missing("a second word", datetime(2026, 11, 23, 9, tzinfo=UTC)))
        case _C.RESTORED:
            attempt.status, attempt.lease_token = AttemptStatus.REJECTED, f"{RESTORED}yesterday"
        case _C.SAME_NUMBER:
            payout.failure_code = "2040"
        case _C.HOPELESS:
            payout.failure_code = "999999"
        case _C.SILENCE:
            return replace(case, was_asked=False)
        case _C.ACCOUNT:
            attempt.status, attempt.account_id = AttemptStatus.REJECTED, 1
            return replace(case, account_id=2)
        case _C.APPROVAL:
            return replace(case, awaits_approval=True)
        case _:
            pass
    return case


@pytest.mark.parametrize("condition", Condition)
@pytest.mark.parametrize("way", Way)
def test_a_way_is_stopped_by_what_its_row_names_and_by_nothing_else(way: Way, condition: Condition) -> None:
    found = payment_guard.objection(way, _case(condition))
    if condition in GUARDS[way]:
        assert isinstance(found, Objection)
        assert found.condition is condition
        assert found.why
        assert found.hint
    else:
        assert found is None


@pytest.mark.parametrize("way", Way)
def test_whatever_pays_or_credits_asks_whether_the_phone_has_had_it(way: Way) -> None:
    """What is judged is judged first, whichever way; only what a person vouches for goes past an incident."""
    assert GUARDS[way][0] is _C.UNJUDGED
    if way in (Way.SEND, Way.RETRY, Way.AGAIN, Way.RELEASE, Way.APPROVE, Way.TO_WALLET):
        assert {_C.LIVE, _C.INCIDENT, _C.RESTORED, _C.UNCONFIRMED} <= set(GUARDS[way])
    assert payment_guard.objection(way, _case(None)) is None


def test_an_incident_that_was_closed_stops_nothing(scenes: Iterator[Scene]) -> None:
    scene = next(scenes)
    scene.failed()
    scene.impose(_C.INCIDENT)
    scene.update(Incident, Incident.payout_id, scene.payout_id, closed_at=scene.builder.clock(), closed_by="ann")
    assert call(manual_decision.to_wallet)(scene, Caution()) is None
    assert scene.payout().status is PayoutStatus.WALLET


# --- What has arrived is judged first -----------------------------------------------------------------------------


def result(attempt: Attempt, receipt: str) -> bytes:
    """M-Pesa's word that this attempt was paid, with every factor."""
    values = {"TransactionAmount": attempt.wire_cents // 100, "TransactionReceipt": receipt}
    said = {
        "ResultType": 0,
        "ResultCode": 0,
        "ResultDesc": "",
        "OriginatorConversationID": attempt.id,
        "ConversationID": attempt.conversation_id,
        "TransactionID": receipt,
        "ResultParameters": {"ResultParameter": [{"Key": key, "Value": value} for key, value in values.items()]},
    }
    return json.dumps({"Result": said}).encode()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        *("payout", "payout retry", "payout release", "payout release MARKET", "resolve --override"),
        *("payout to-wallet", "payout to-wallet of what was held", "payout to-wallet of what is due"),
        *("payout decide --not-paid",),
    ],
)
def test_a_stored_success_is_judged_before_its_payout_goes_any_other_way(
    scenes: Iterator[Scene], name: str, *, signed: bool
) -> None:
    """The phone had it; its result is stored, and nobody has looked. Without our mark it is a reason to look."""
    way, prepare, take = TAKEN[name]
    scene = next(scenes)
    prepare(scene)
    attempt = scene.last()
    assert attempt is not None
    subject = attempt.id if signed else ""
    arrived = Delivery(
        CallbackKind.RESULT, subject, signed, "196.201.214.200", scene.builder.clock(), result(attempt, "UKN77")
    )
    apply_results.store_deliveries(scene.builder.db, scene.builder.clock, [arrived])

    if way is Way.SEND:
        assert scene.harness.send(only=[scene.payout_id]).sent == []
    elif way is Way.DECIDE_NOT_PAID and not signed:
        return  # nothing speaks against a person's word yet but a post without our mark: that is asked about
    else:
        try:
            hint = take(scene, Caution())
        except AssertionError:
            hint = "it has ended, and the refusal says so"
        # It counts as paid now: only the difference is booked, and a market has nothing left that is held.
        went_on = signed and (way is Way.OVERRIDE or name == "payout release MARKET")
        assert (hint is None) == went_on

    payout = scene.payout()
    if signed:
        assert payout.status is PayoutStatus.COMPLETED
    else:
        assert payout.status in (PayoutStatus.FAILED, PayoutStatus.HELD, PayoutStatus.PENDING)
    assert scene.builder.balances(scene.user)[1] == payout.amount_cents - payout.wire_cents if signed else True


# --- Statements ---------------------------------------------------------------------------------------------------


def silent_paper(harness: PayoutHarness) -> Paper:
    """A statement of the whole time with nothing of ours on it but a deposit, first and last."""
    paper = Paper().covering([harness.clock()])
    paper.line("UKN0000099", harness.clock() - timedelta(hours=1), paid_in=100, reason=PAYBILL)
    paper.line("UKN0000100", harness.clock() + timedelta(days=2), paid_in=100, reason=PAYBILL)
    return paper


def test_a_statement_ends_nothing_about_which_an_incident_stands(scenes: Iterator[Scene]) -> None:
    """Its silence says not paid, and something else says otherwise: a person looks first, and then decides."""
    scene = next(scenes)
    scene.unknown()
    attempt, paper = scene.any_attempt(), silent_paper(scene.harness)
    for hours in (1, 2):
        scene.builder.clock.forward(hours=hours)
        scene.answered(attempt, "NOT_FOUND")
    scene.impose(_C.INCIDENT)
    scene.builder.clock.forward(days=3)
    take = partial(
        statement_import.take_statement,
        scene.builder.context,
        paper.read(),
        statement_import.StatementRules("600000", customers_are_counted=True),
    )

    [open_one] = [one for one in take().differences if one.payout_id == scene.payout_id]

    assert (open_one.kind, open_one.open) == ("still-unknown", True)
    assert "contradicts itself" in open_one.why
    assert scene.payout().status is PayoutStatus.UNKNOWN
    scene.obey(_C.INCIDENT, open_one.command)
    assert call(manual_decision.decide, decision=NOT_PAID)(scene, Caution()) is None
