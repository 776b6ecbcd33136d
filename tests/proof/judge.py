"""The judge: what the simulator's ledger says moved, against what the database believes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sqlmodel import select

from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, originator_id
from kasoko_cli.operations.audit import audit
from kasoko_cli.store import attempts, callbacks, payouts
from kasoko_cli.store.tables import Attempt, Deployment, Payout
from tests.proof.bench import Bench, Payment

#: No payout has had more attempts than this.
MOST_ATTEMPTS = 60


@dataclass(slots=True)
class Judgement:
    """What is wrong; nothing, if all is well. `cents` is what was lost or minted."""

    payouts: int = 0
    doubles: int = 0
    cents: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.doubles or self.cents or self.wrong)


def judge(bench: Bench, *, final: bool = True, put_back: bool = False) -> Judgement:
    """Compare the two. With `final`, each winner must have been paid, exactly once.

    Each result that the listener accepted must stand in the database, unless that was `put_back` to an older copy.
    """
    found = Judgement(wrong=list(bench.troubles))
    moved: defaultdict[str, list[Payment]] = defaultdict(list)
    for payment in bench.payments():
        moved[payment.reference].append(payment)
    with bench.opened() as db:
        with db.reading() as session:
            deployment = session.exec(select(Deployment)).one().deployment_id
            owed = {payout.id: payout for payout in payouts.list_payouts(session)}
            stored, answered = len(callbacks.list_all(session)), bench.simulator.ledger()["results_accepted"]
            tries = {payout_id: list(attempts.list_attempts(session, payout_id)) for payout_id in owed}
        found.payouts = len(owed)
        assert isinstance(answered, int)
        if stored < answered and not put_back:
            found.wrong.append(f"{answered} results were accepted, and {stored} are stored")
        for payout in owed.values():
            theirs = moved.pop(payout.id.replace(".", " "), [])
            _judge_one(found, deployment, payout, tries[payout.id], theirs, final=final)
        for reference, strays in moved.items():
            found.cents += sum(stray.amount_cents for stray in strays)
            found.wrong.append(f"{reference!r} was paid, and nobody is owed that")
        for check in audit(db, deep=True, chain=True).checks:
            found.wrong += [f"audit: {check.name}: {violation}" for violation in check.violations]
    return found


def _judge_one(
    found: Judgement,
    deployment: str,
    payout: Payout,
    tries: list[Attempt],
    payments: list[Payment],
    *,
    final: bool,
) -> None:
    succeeded = [attempt for attempt in tries if attempt.status is AttemptStatus.SUCCEEDED]
    believed = sum(attempt.wire_cents for attempt in succeeded)
    really = sum(payment.amount_cents for payment in payments)
    if len(payments) > 1:
        found.doubles += 1
        found.wrong.append(f"{payout.id} was paid {len(payments)} times: {payments}")
    family = {
        originator_id(
            deployment_id=deployment,
            market_id=payout.market_id,
            settlement_no=payout.settlement_no,
            user_id=payout.user_id,
            kind=payout.kind,
            leg=payout.leg,
            number=number,
        )
        for number in range(1, MOST_ATTEMPTS)
    }
    found.wrong += [
        f"{payout.id} was paid under another's id: {one}" for one in payments if one.attempt_id not in family
    ]
    is_open = payout.status in (PayoutStatus.SENDING, PayoutStatus.SENT, PayoutStatus.UNKNOWN)
    if is_open and not final:
        return
    found.cents += abs(believed - really)
    if believed != really:
        found.wrong.append(f"{payout.id} is {payout.status}: {believed} cents are believed, {really} cents moved")
    if (payout.status is PayoutStatus.COMPLETED) != bool(payments):
        found.wrong.append(f"{payout.id} is {payout.status}, and was paid {len(payments)} times")
    if {attempt.receipt for attempt in succeeded} != {payment.receipt for payment in payments}:
        found.wrong.append(f"{payout.id} is proven by {[one.receipt for one in succeeded]}, and paid by {payments}")
    if final and payout.status is not PayoutStatus.COMPLETED:
        found.wrong.append(f"{payout.id} is still {payout.status}")


def believed_wrongly(bench: Bench) -> list[str]:
    """Payouts that count as not paid, or as paid, in the middle of everything, and it is not so."""
    paid = {payment.reference: payment.receipt for payment in bench.payments()}
    wrong = []
    with bench.opened() as db, db.reading() as session:
        for payout in payouts.list_payouts(session):
            receipt = paid.get(payout.id.replace(".", " "))
            if payout.status in (PayoutStatus.PENDING, PayoutStatus.FAILED) and receipt is not None:
                wrong.append(f"{payout.id} is {payout.status}, and was paid")
            if payout.status is PayoutStatus.COMPLETED and receipt is None:
                wrong.append(f"{payout.id} is {payout.status}, and was not paid")
    return wrong


def states(bench: Bench) -> Counter[str]:
    """How many payouts are in each state."""
    with bench.opened() as db, db.reading() as session:
        return Counter(str(payout.status) for payout in payouts.list_payouts(session))
