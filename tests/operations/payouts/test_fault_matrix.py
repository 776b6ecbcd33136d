"""The fault matrix: every fault, at every step of a payout, in each command that talks to M-Pesa, to the end.

One winner for each case, all in one market. The commands run in rounds, a person says only what M-Pesa was asked
about three times and does not know, and in the end the simulator's ledger is the judge: each was paid once, and what
we believe is what moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx
import pytest

from kasoko_cli.daraja.simulator.app import Endpoint, Fault, Rule
from kasoko_cli.daraja.simulator.script import STAGE_OF, FaultStage
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import KasokoError
from kasoko_cli.operations.payouts import manual_decision, switches
from kasoko_cli.operations.payouts.manual_decision import Decision
from kasoko_cli.operations.payouts.spending_bound import show
from kasoko_cli.operations.reconciliation import status_queries
from tests.operations.payout_harness import PayoutHarness

#: Everybody whose first payment fails for certain has this number then.
UNREGISTERED = "254799002040"
#: Whose number M-Pesa refuses at once gives this one.
CORRECTED = "254713000001"
#: Of these M-Pesa's own answer, with every factor right, is not true: what follows is in docs/results.md.
LIES = frozenset({Fault.STATUS_LIES})
#: A person is asked only about what M-Pesa was asked about so many times.
ASKED_FIRST = 3
MOST_ROUNDS = 16
#: How a payout got into the state in which it is asked about: taken and its result lost, taken and the answer lost
#: too, never taken.
WAYS: Mapping[str, tuple[Fault, ...]] = {
    "sent": (Fault.RESULT_LOST,),
    "unknown, paid": (Fault.DROP_AFTER, Fault.RESULT_LOST),
    "unknown, never taken": (Fault.DROP_BEFORE,),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One winner: the command in which the fault strikes, and where."""

    name: str
    phone: str
    rules: tuple[Rule, ...]
    #: Whether the fault waits for the second attempt, after one that failed for certain.
    fails_first: bool = False

    @property
    def user(self) -> str:
        """Who wins in this case."""
        return f"u{self.phone[-6:]}"


@dataclass
class Cases:
    """Counts numbers for cases."""

    found: list[Case] = field(default_factory=list)

    def add(self, name: str, *faults: tuple[Fault, Endpoint], fails_first: bool = False) -> None:
        """A case whose faults strike once each."""
        phone = f"254711{len(self.found):06d}"
        rules = tuple(Rule(fault, endpoint=where, phone=phone, times=1) for fault, where in faults)
        self.found.append(Case(name, phone, rules, fails_first))


def cases_of(command: str) -> list[Case]:
    """Every fault that can strike in this command, at each step."""
    cases = Cases()
    of_payment = [
        fault for fault in Fault if STAGE_OF[fault] in (FaultStage.BEFORE, FaultStage.AFTER, FaultStage.RESULT)
    ]
    if command in ("payout", "retry-failed"):
        for fault in of_payment:
            cases.add(str(fault), (fault, Endpoint.B2C), fails_first=command == "retry-failed")
        return cases.found
    for way, before in WAYS.items():
        for fault in Fault:
            if STAGE_OF[fault] in (FaultStage.BEFORE, FaultStage.AFTER, FaultStage.STATUS) and fault not in LIES:
                cases.add(f"{way}: {fault}", *((one, Endpoint.B2C) for one in before), (fault, Endpoint.STATUS))
    return cases.found


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", ["payout", "retry-failed", "reconcile"])
def test_every_fault_at_every_step_ends_in_one_payment_and_we_know_it(harness: PayoutHarness, command: str) -> None:
    # PostgreSQL takes longer, and the rules are the same: every fourth of them there.
    cases = cases_of(command)[:: 1 if harness.db.is_sqlite else 4]
    assert len(cases) > 12
    harness.owe({case.user: UNREGISTERED if case.fails_first else case.phone for case in cases})
    harness.simulator.gateway.add_faults(tuple(rule for case in cases for rule in case.rules), replace_all=True)
    if command == "retry-failed":
        _run(harness)
        assert set(harness.statuses().values()) == {"FAILED"}
        for case in cases:
            harness.set_phone(case.user, case.phone)

    by_person = _until_nothing_is_open(harness)

    unpaid = {case.name: harness.payout(case.user) for case in cases if harness.payout(case.user).status != "COMPLETED"}
    assert {name: (str(one.status), one.failure_code, one.note) for name, one in unpaid.items()} == {}
    paid = [payment["phone"] for payment in harness.ledger()]
    phones = {case.phone: CORRECTED if case.name == Fault.INVALID_PARTY_B else case.phone for case in cases}
    assert sorted(paid) == sorted(phones.values()), "each once"
    names = {harness.payout(case.user).id: case.name for case in cases}
    assert {names[payout_id] for payout_id, said in by_person.items() if not said.startswith("NOT_FOUND")} == set()
    harness.assert_agreed()


def _run(harness: PayoutHarness) -> None:
    """Runs, each resumed where an account-level answer has stopped it, until nothing more is due now."""
    for _ in range(40):
        try:
            left = harness.send().left
        except KasokoError:
            left = 1
        switches.resume(harness.context)
        harness.deliver()
        if not left or not _due(harness):
            return
    raise AssertionError("forty runs did not send everything")


def _due(harness: PayoutHarness) -> bool:
    return bool(show(harness.db, harness.clock()).ids)


def _until_nothing_is_open(harness: PayoutHarness) -> dict[str, str]:
    """Rounds of every command; what a person had to say, with M-Pesa's last word about it."""
    by_person: dict[str, str] = {}
    for _ in range(MOST_ROUNDS):
        _run(harness)
        if set(harness.statuses().values()) == {"COMPLETED"}:
            return by_person
        harness.clock.forward(hours=1)
        harness.reconcile()
        for one in status_queries.list_open(harness.db):
            if one.questions >= ASKED_FIRST and one.status == "UNKNOWN" and not one.last_answer.startswith("no answer"):
                by_person[one.payout_id] = one.last_answer
                _decide(harness, one)
        for incident in harness.all_incidents():
            manual_decision.close_incidents(harness.context, numbers=[incident.id or 0])
        for payout in _held(harness):
            manual_decision.release(harness.context, payout_id=payout)
        for user, status in harness.statuses().items():
            if status == "FAILED" and harness.payout(user).failure_code == "400.002.02":
                harness.set_phone(user, CORRECTED)
        harness.retry()
        harness.clock.forward(hours=1)
    return by_person


def _decide(harness: PayoutHarness, one: status_queries.StillOpen) -> None:
    """A person says what the portal shows."""
    receipts = {payment["originator_conversation_id"]: payment["receipt"] for payment in harness.ledger()}
    said = Decision(receipts.get(one.attempt_id), "the portal")
    manual_decision.decide(harness.context, payout_id=one.payout_id, decision=said)


def _held(harness: PayoutHarness) -> Iterator[str]:
    for user, status in harness.statuses().items():
        if status == PayoutStatus.HELD:
            yield harness.payout(user).id


# --- The token ----------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", ["payout", "retry-failed", "reconcile"])
def test_whatever_goes_wrong_while_a_token_is_fetched_changes_nothing_and_the_next_run_pays_once(
    harness: PayoutHarness, command: str
) -> None:
    """Each command is a process of its own, so each has to fetch one; the fault strikes once."""
    faults = [fault for fault in Fault if STAGE_OF[fault] in (FaultStage.BEFORE, FaultStage.AFTER)]
    faults = faults[:: 1 if harness.db.is_sqlite else 4]
    users = {f"u{number}": f"254711{number:06d}" for number in range(len(faults))}
    harness.owe(dict.fromkeys(users, UNREGISTERED) if command == "retry-failed" else users)
    if command == "retry-failed":
        _run(harness)
        for user, phone in users.items():
            harness.set_phone(user, phone)
    elif command == "reconcile":
        harness.simulator.gateway.add_faults((Rule(Fault.RESULT_LOST),), replace_all=True)
        _run(harness)
        harness.simulator.gateway.add_faults((), replace_all=True)

    for user, fault in zip(users, faults, strict=True):
        harness.daraja.close()
        harness.daraja = harness.client()
        harness.simulator.gateway.add_faults((Rule(fault, endpoint=Endpoint.TOKEN, times=1),), replace_all=True)
        for _ in range(3):
            _one_command(harness, command, harness.payout(user).id)
        assert harness.payout(user).status is PayoutStatus.COMPLETED, fault

    assert sorted(payment["phone"] for payment in harness.ledger()) == sorted(users.values())
    harness.assert_agreed()


def _one_command(harness: PayoutHarness, command: str, payout_id: str) -> None:
    try:
        if command == "reconcile":
            harness.reconcile()
            return
        if command == "retry-failed":
            harness.retry(only=[payout_id])
        harness.send(only=[payout_id])
    except (KasokoError, httpx.HTTPError):
        pass
    switches.resume(harness.context)
    harness.deliver()
    harness.clock.forward(hours=1)
