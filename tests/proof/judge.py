"""The judge: what the simulator's ledger says moved, against what the database believes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlmodel import Session, select

from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus, originator_id
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.store import attempts, callbacks, payouts
from kasoko_cli.store.schema.tables import Attempt, Deployment, Payout
from tests.proof.bench import Bench, Payment

#: No payout has had more attempts than this.
MOST_ATTEMPTS = 60
#: The takeout of every market of the proof.
FEE_BPS = 500
_S = PayoutStatus
#: What a payout may be in the end, and what says that the phone has not had it.
ENDED = frozenset({_S.COMPLETED, _S.WALLET, _S.CANCELED})
NOT_PAID = frozenset({_S.PENDING, _S.HELD, _S.FAILED, _S.WALLET, _S.CANCELED})


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
            stored, answered = len(callbacks.list_all(session)), bench.count("results_accepted")
            books = _books(session)
            tries = {payout_id: list(attempts.list_attempts(session, payout_id)) for payout_id in owed}
        found.payouts = len(owed)
        if stored < answered and not put_back:
            found.wrong.append(f"{answered} results were accepted, and {stored} are stored")
        if final:
            _judge_people(bench, found, books, owed)
        theirs = {payout_id: moved.pop(payout_id.replace(".", " "), []) for payout_id in owed}
        for payout in owed.values():
            _judge_one(found, deployment, payout, tries[payout.id], theirs[payout.id], final=final)
        found.wrong += wrong_receipts(tries, theirs)
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
    family = {originator_id(deployment, payout, number) for number in range(1, MOST_ATTEMPTS)}
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
    if final and payout.status not in ENDED:
        found.wrong.append(f"{payout.id} is still {payout.status}")


def wrong_receipts(tries: Mapping[str, list[Attempt]], moved: Mapping[str, list[Payment]]) -> list[str]:
    """What is proven by the receipt of another payment, by payout; what nobody knows the end of is left out.

    A statement names no payout: of equal payments to one number in one second nothing tells which is which. Those it
    proves together, by as many receipts as were paid.
    """
    proven: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    paid: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for payout_id, attempts_of in tries.items():
        succeeded = [one for one in attempts_of if one.status is AttemptStatus.SUCCEEDED]
        if not succeeded and any(one.status in LIVE for one in attempts_of):
            continue
        group: tuple[str, ...] = (payout_id,)
        if succeeded and all((one.evidence or "").startswith("statement:") for one in succeeded):
            group = (succeeded[0].phone, f"{succeeded[0].wire_cents} cents")
        proven[group] += [str(one.receipt) for one in succeeded]
        paid[group] += [one.receipt for one in moved[payout_id]]
    return [
        f"{' '.join(group)} is proven by {sorted(proven[group])}, and paid by {sorted(paid[group])}"
        for group in proven
        if sorted(proven[group]) != sorted(paid[group])
    ]


def _books(session: Session) -> Mapping[tuple[str, str], int]:
    """What the postings say of each account of each owner, in cents: read here, and by nothing of the program."""
    query = text("SELECT account, owner, sum(amount_cents) FROM postings GROUP BY account, owner")
    return defaultdict(int, {(account, owner): int(cents) for account, owner, cents in session.execute(query)})


def _judge_people(
    bench: Bench, found: Judgement, books: Mapping[tuple[str, str], int], owed: Mapping[str, Payout]
) -> None:
    """Whoever was staked with: what is theirs by the stakes, what the phone got, and what the wallet says."""
    theirs: Counter[str] = Counter()
    for market, stakes in bench.stakes.items():
        outcome = bench.outcome_of(market)
        gross, winning = sum(cents for _, _, cents in stakes), sum(cents for _, on, cents in stakes if on == outcome)
        net = gross - gross * FEE_BPS // 10_000
        theirs.update({user: cents * net // winning for user, on, cents in stakes if on == outcome})
    by_phone: Counter[str] = Counter()
    for payment in bench.payments():
        if (payout := owed.get(payment.reference.replace(" ", "."))) is not None:
            by_phone[payout.user_id] += payment.amount_cents
    for user in {user for stakes in bench.stakes.values() for user, _, _ in stakes}:
        credited, owes = -books["wallet", user] - books["payable", user], books["receivable", user]
        delivered = books["delivered", user]
        lost = theirs[user] - (credited - owes)
        if lost or delivered != by_phone[user] or credited < delivered:
            found.cents += max(abs(lost), abs(delivered - by_phone[user]))
            found.wrong.append(
                f"{user} won {theirs[user]} cents: the books have {credited}, of which {delivered} went to the phone,"
                f" and {owes} to be paid back; M-Pesa paid {by_phone[user]}"
            )


def believed_wrongly(bench: Bench) -> list[str]:
    """Payouts that count as not paid, or as paid, in the middle of everything, and it is not so.

    Where M-Pesa lies, it is only waited for the second word on it: nothing has been built on the first.
    """
    not_paid = NOT_PAID - {_S.FAILED, _S.HELD} if bench.lies else NOT_PAID
    paid = {payment.reference: payment.receipt for payment in bench.payments()}
    wrong = []
    with bench.opened() as db, db.reading() as session:
        for payout in payouts.list_payouts(session):
            receipt = paid.get(payout.id.replace(".", " "))
            if payout.status in not_paid and receipt is not None:
                wrong.append(f"{payout.id} is {payout.status}, and was paid")
            if payout.status is PayoutStatus.COMPLETED and receipt is None:
                wrong.append(f"{payout.id} is {payout.status}, and was not paid")
    return wrong


def not_had(bench: Bench, session: Session) -> set[str]:
    """Payouts that M-Pesa has paid and that do not count as paid."""
    paid = {payment.reference.replace(" ", ".") for payment in bench.payments()}
    return {one.id for one in payouts.list_payouts(session) if one.id in paid and one.status is not _S.COMPLETED}


def states(bench: Bench) -> Counter[str]:
    """How many payouts are in each state."""
    with bench.opened() as db, db.reading() as session:
        return Counter(str(payout.status) for payout in payouts.list_payouts(session))
