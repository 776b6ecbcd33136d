"""How a schedule ends: no more faults, rounds of commands, and a person for what only a person can end.

What is left for a person by design, after M-Pesa was asked again and again:

- an attempt that M-Pesa does not know: its process died between the intent and the request, or the request
  was lost on the way. "Not found" alone never fails a payout. The person says that it was not paid, and the
  same id goes again.
- an answer that contradicts what we know: an acknowledgement that named another payment; a database from an
  older copy, whose attempt went to the number that the user has now and not to the one that she had.
- test numbers whose status answers never have a status, or always say another amount or receiver; of what a
  restored copy may have forgotten of them, nobody else can say anything.
- a number that M-Pesa refuses: the user gives another one.
- an incident on a payout that failed: somebody reads it before the payout is tried again.
- the breaker and the pause: somebody resumes.

The person looks where a person would: at what the portal shows under the payout's reference, which here is
the simulator's ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from kasoko_cli.daraja.simulator.people import PEOPLE
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.errors import Refused
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.reconciliation import status_queries
from kasoko_cli.operations.safeguards.payment_guard import is_doubted
from kasoko_cli.operations.safeguards.restore_doubt import HELD_SINCE
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import attempts, payouts, users
from kasoko_cli.store.log import open_incidents, switches_on
from kasoko_cli.store.restored import list_doubted
from kasoko_cli.store.schema.tables import Payout
from tests.proof.bench import ACT, AFTER_RESTORE, Bench, Call, with_listener
from tests.proof.judge import ENDED
from tests.proof.processes import Hands
from tests.proof.statements import Statements

#: Everything ends sooner, or it is stuck.
MOST_ROUNDS = 14
#: A person is asked only about what M-Pesa was asked about so many times, since the faults stopped.
ASKED_FIRST = 3
#: In this round somebody takes the statement of all the time in.
STATEMENT_AT = 6
#: Test numbers about which M-Pesa never says anything of use.
SILENT = frozenset({"254799400006", "254799400011"})

_WAITING = frozenset({PayoutStatus.FAILED, PayoutStatus.HELD, PayoutStatus.PENDING})
_OPEN = (PayoutStatus.SENDING, PayoutStatus.SENT, PayoutStatus.UNKNOWN)


@dataclass(slots=True)
class Finish:
    """How it ended: after how many rounds, and which payouts a person had to end, by the reason."""

    rounds: int = 0
    by_person: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)


def finish(bench: Bench, hands: Hands) -> Finish:
    """Go on until every payout has ended; whatever has not by then, the judge will see."""
    bench.faults_stop()
    bench.settle_all()
    done = Finish()
    asked: Counter[str] = Counter()
    while done.rounds < MOST_ROUNDS:
        owed = _owed(bench)
        if all(payout.status in ENDED for payout in owed):
            return done
        done.rounds += 1
        bench.forward(3_700)
        _resume(bench)
        if any(payout.status in (*_OPEN, PayoutStatus.FAILED, PayoutStatus.HELD) for payout in owed):
            # A failure may have to be confirmed too, before it is tried again.
            _as_each_account(bench, hands, "reconcile", "--now", "--listen-seconds", "1")
            _decide(bench, done, asked)
        if done.rounds == STATEMENT_AT and bench.lies:
            # A failure that M-Pesa never says again opens no second payment, nor is it paid: its statement has it.
            file = Statements(bench, Random(0), "the-last").export("whole")
            bench.run(hands, Call(("reconcile", "--statement", str(file), "--counted", "--yes"), fine=frozenset({8})))
        _close_incidents(bench, done)
        _correct_phones(bench, done, hard=done.rounds > 1)
        _let_go(bench, hands, done, asked)
        owed = _owed(bench)
        if any(payout.status is PayoutStatus.FAILED for payout in owed):
            _as_each_account(bench, hands, *with_listener(("retry-failed", "--yes", "--hours", "9999")))
        if any(payout.status is PayoutStatus.PENDING for payout in owed):
            _as_each_account(bench, hands, *with_listener(("payout", "--yes")))
    for payout in _owed(bench):
        if payout.status not in ENDED:
            done.told += _why_open(bench, payout)
    return done


def _why_open(bench: Bench, payout: Payout) -> Iterator[str]:
    """What stands of a payout that has not ended, for whoever has to find out why."""
    yield f"{payout.id} is {payout.status}: {payout.note or payout.failure_reason}"
    with bench.opened() as db, db.reading() as session:
        for one in attempts.list_attempts(session, payout.id):
            yield f"  attempt {one.number}: {one.status}, {one.lease_token}, {one.evidence}, {one.phone}"
        for found in open_incidents(session, payout_id=payout.id):
            yield f"  incident {found.kind}: {found.latest}"


def _as_each_account(bench: Bench, hands: Hands, *words: str) -> None:
    """Each account that has paid ends what it has begun; the program refuses what is another's."""
    if bench.elsewhere is not None:
        bench.use_account(other=True)
        bench.run_one(hands, *words)
        bench.use_account(other=False)
    bench.run_one(hands, *words)


def _let_go(bench: Bench, hands: Hands, done: Finish, asked: Counter[str]) -> None:
    """What was held since a copy is asked about, and what a person held is let go."""
    held = [payout for payout in _owed(bench) if payout.status is PayoutStatus.HELD]
    with bench.opened() as db, db.reading() as session:
        in_doubt = {one.payout_id for one in list_doubted(session)}
    if in_doubt:
        bench.run(hands, Call(AFTER_RESTORE, fine=frozenset({8})))
        _resume(bench)
    for payout in held:
        if payout.id in in_doubt or (payout.note or "").startswith(HELD_SINCE):
            asked[payout.id] += 1
            if asked[payout.id] > ASKED_FIRST:
                _decide_since_copy(bench, done, payout)
        else:
            with bench.opened() as db:
                try:
                    manual_decision.release(OperationContext(db, bench.clock, ACT), payout_id=payout.id)
                    done.told.append(f"a person lets go {payout.id}")
                except Refused as refused:
                    done.told.append(f"{payout.id} is not let go: {refused.message}")


def _decide_since_copy(bench: Bench, done: Finish, payout: Payout) -> None:
    """What M-Pesa never says of a number, or contradicts, a person does: was it paid since the copy?"""
    payment = next((one for one in bench.payments() if one.reference == payout.id.replace(".", " ")), None)
    with bench.opened() as db:
        with db.reading() as session:
            phones = {one.phone for one in attempts.list_attempts(session, payout.id) if is_doubted(one)}
            contradicted = [one for one in open_incidents(session, payout_id=payout.id) if one.kind == "mismatch"]
        if not (contradicted or phones & SILENT):
            return
        if payment is None:
            for incident in contradicted:
                assert incident.id is not None
                manual_decision.close_incidents(OperationContext(db, bench.clock, ACT), numbers=[incident.id])
        said = manual_decision.Decision(None if payment is None else payment.receipt, "the portal")
        try:
            manual_decision.decide(OperationContext(db, bench.clock, ACT), payout_id=payout.id, decision=said)
        except Refused as refused:
            done.told.append(f"nobody decides on {payout.id}: {refused.message}")
            return
    done.by_person["CONTRADICTED or NO_INFORMATION since a copy"] += 1
    done.told.append(f"a person says that {payout.id} was {'paid' if payment else 'not paid'} since the copy")


def _owed(bench: Bench) -> list[Payout]:
    with bench.opened() as db, db.reading() as session:
        return list(payouts.list_payouts(session))


def _resume(bench: Bench) -> None:
    with bench.opened() as db, db.reading() as session:
        is_off = bool(switches_on(session))
    if is_off:
        bench.resume()


def _decide(bench: Bench, done: Finish, asked: Counter[str]) -> None:
    """What M-Pesa cannot tell, a person says: by what the portal shows under the payout's reference."""
    paid = {payment.reference: payment for payment in bench.payments()}
    with bench.opened() as db:
        for one in status_queries.list_open(db):
            # Where it was told that too much is asked at once, M-Pesa was not asked: a person waits for an answer.
            if one.status == AttemptStatus.INTENT or one.last_answer.startswith("NOT_ASKED"):
                continue
            asked[one.attempt_id] += 1
            if asked[one.attempt_id] < ASKED_FIRST or one.last_answer.startswith("no answer"):
                continue
            with db.reading() as session:
                phone = attempts.find_attempt(session, one.attempt_id).phone
            payment = paid.get(one.payout_id.replace(".", " "))
            reason = one.last_answer
            if payment is not None and payment.attempt_id == one.attempt_id and reason.startswith("NOT_FOUND"):
                bench.troubles.append(f"{one.payout_id}: M-Pesa paid {one.attempt_id}, and does not know it")
            # What M-Pesa answers follows the number it paid. After an older copy was put back our attempt may name
            # the user's newer one, under the id that M-Pesa had taken with the number before.
            went_to = payment.phone if payment is not None and payment.attempt_id == one.attempt_id else phone
            if reason.startswith("NO_INFORMATION") and went_to not in SILENT:
                bench.troubles.append(f"{one.payout_id}: an answer without information to a healthy number: {reason}")
            if not reason.startswith(("NOT_FOUND", "NO_INFORMATION", "CONTRADICTED")):
                bench.troubles.append(f"{one.payout_id}: nothing moved it, and M-Pesa said: {reason}")
            if payment is None:
                # Nothing is said to be unpaid of which something speaks that nobody has looked at.
                with db.reading() as session:
                    stand = [incident.id for incident in open_incidents(session, payout_id=one.payout_id)]
                for number in stand:
                    assert number is not None
                    manual_decision.close_incidents(OperationContext(db, bench.clock, ACT), numbers=[number])
                    done.told.append(f"a person closes the incident {number} of {one.payout_id}")
            said = manual_decision.Decision(None if payment is None else payment.receipt, "the portal")
            try:
                for actor in (ACT, Actor("somebody else", ACT.reason)):
                    manual_decision.decide(
                        OperationContext(db, bench.clock, actor),
                        payout_id=one.payout_id,
                        decision=said,
                        two_people=True,
                    )
            except Refused as refused:
                # What had arrived and was not judged is judged first: it may have ended the payout.
                done.told.append(f"nobody decides on {one.payout_id}: {refused.message}")
                continue
            done.by_person[reason] += 1
            done.told.append(f"a person says that {one.payout_id} was {'paid' if payment else 'not paid'}: {reason}")
            del asked[one.attempt_id]


def _close_incidents(bench: Bench, done: Finish) -> None:
    """Somebody reads what stands in the way of a retry. The money of a payout that failed must not have moved."""
    paid = {payment.reference for payment in bench.payments()}
    with bench.opened() as db:
        with db.reading() as session:
            failed = {one.id: one.status for one in payouts.list_payouts(session, statuses=_WAITING)}
            found = [incident for incident in open_incidents(session) if incident.payout_id in failed]
        for incident in found:
            assert incident.id is not None
            if str(incident.payout_id).replace(".", " ") in paid:
                if failed[str(incident.payout_id)] is PayoutStatus.FAILED and not bench.lies:
                    bench.troubles.append(f"{incident.payout_id} failed, and was paid: {incident.what}")
                continue
            manual_decision.close_incidents(OperationContext(db, bench.clock, ACT), numbers=[incident.id])
            done.told.append(f"a person closes the incident {incident.kind} of {incident.payout_id}")


def _correct_phones(bench: Bench, done: Finish, *, hard: bool) -> None:
    """Whose number M-Pesa refuses gives another; with `hard` everybody whose payout failed does."""
    with bench.opened() as db, db.reading() as session:
        waiting = payouts.list_payouts(session, statuses=_WAITING)
        last = attempts.last_attempts(session, [payout.id for payout in waiting])
        phones = {payout.user_id: users.find_user(session, payout.user_id).phone for payout in waiting}
        # Nobody's number is changed while it is asked whether the old one was paid since a copy.
        in_doubt = {one.payout_id for one in list_doubted(session)}
        doubted = {one.user_id for one in waiting if one.id in in_doubt or (one.note or "").startswith(HELD_SINCE)}
        wrong = {
            payout.user_id
            for payout in waiting
            if phones[payout.user_id] in PEOPLE
            or (
                hard
                and payout.status is not PayoutStatus.PENDING
                and payout.id in last
                and last[payout.id].phone == phones[payout.user_id]
            )
        }
    for user_id in sorted(wrong - doubted):
        bench.set_phone(user_id, other_phone(user_id, done.rounds))
        done.told.append(f"{user_id} gives another number")


def other_phone(user_id: str, nth: int = 1) -> str:
    """An ordinary number of this user's: the nth."""
    number = int("".join(filter(str.isdigit, user_id)) or "99")
    return str(254_713_000_000 + nth * 1_000 + number if number < 1_000 else 254_714_000_000 + nth * 20_000 + number)
