"""What a statement's lines, and the absence of a line, may say; and what each finding asks a person to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from shlex import quote

from kasoko_cli.clock import CLOCKS_APART
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.operations.reconciliation.statement_owner import TOLD_BY_MPESA, Proven
from kasoko_cli.operations.reconciliation.statement_parser import Line, Span
from kasoko_cli.store.statements import RESTORED, KnownAttempt

#: How long after its request M-Pesa may still carry a payment out.
LATEST = timedelta(hours=24)

#: Ends what a person has to judge. The incident has its number once the statement was taken in.
CLOSE = "kasoko incident close ID --reason WHY"
#: Asks M-Pesa how it ended.
ASK = "kasoko reconcile --now"

PAID = frozenset({AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED})
DEAD = frozenset({AttemptStatus.FAILED, AttemptStatus.REJECTED})
#: Payouts for which a payment that turns up is not the one that was owed.
ENDED = frozenset({PayoutStatus.COMPLETED, PayoutStatus.WALLET, PayoutStatus.CANCELED, PayoutStatus.RETURNED})


class LineVerdict(StrEnum):
    """What a line, or its absence, says."""

    MATCHED = "matched"  #: the books say the same
    FAILED = "failed"  #: no money moved, and the books say so too
    PENDING = "pending"  #: M-Pesa has not decided
    DEPOSIT = "deposit"  #: a deposit that is in the books
    STAKE = "stake"  #: a stake that the platform collected
    CHARGE = "charge"  #: what M-Pesa took for a payout of ours
    ENDED_PAID = "ended-paid"  #: nobody knew; it was paid
    LATE_SUCCESS = "late-success"  #: the books had it as failed; it was paid
    ENDED_NOT_PAID = "ended-not-paid"  #: nobody knew; it was not paid
    RETURNED = "returned"  #: the money of a payout came back
    PAID_BACK = "paid-back"  #: the money of a second payment came back
    CHARGE_DIFFERS = "charge-differs"  #: M-Pesa took another amount than was expected
    WRONG_AMOUNT = "wrong-amount"  #: the receipt is known with another amount
    WRONG_RECEIVER = "wrong-receiver"  #: the receipt is known with another receiver
    WRONG_TIME = "wrong-time"  #: the receipt is known, and the line is from before it was sent
    OTHER_RECEIPT = "other-receipt"  #: it names our payment, and the books have another receipt for that
    TWICE = "twice"  #: a second movement under one receipt
    FAILED_HERE = "failed-here"  #: the books say paid, the statement says failed
    NOT_ON_STATEMENT = "not-on-statement"  #: the books say paid, and the statement does not have it
    STILL_UNKNOWN = "still-unknown"  #: nobody knows, and this statement does not say either
    AMBIGUOUS = "ambiguous"  #: a payout that nobody knows the end of could be this line, or several could
    WRONG_RETURN = "wrong-return"  #: what came back is not the whole of a payment of ours
    UNMATCHED_OUT = "unmatched-out"  #: money went out, and nothing here says why
    UNMATCHED_IN = "unmatched-in"  #: money came in, and nothing here says why
    CHARGE_UNMATCHED = "charge-unmatched"  #: a charge for no payment of ours


def _verdicts(words: str) -> frozenset[LineVerdict]:
    return frozenset(map(LineVerdict, words.split()))


#: Nothing differs.
AGREED = _verdicts("matched failed pending deposit stake charge")
#: What leaves no doubt which payment a line is, or is the charge of.
CLEAR = _verdicts("matched ended-paid late-success charge charge-differs")
#: A difference that the statement itself resolves.
SETTLED_BY_IT = _verdicts("ended-paid late-success ended-not-paid returned paid-back charge-differs")
#: What a person has to see although no money is moved for it.
CONTRADICTS = _verdicts(
    "wrong-amount wrong-receiver wrong-time other-receipt twice failed-here not-on-statement wrong-return"
)


@dataclass(frozen=True, slots=True)
class StatementFinding:
    """One line, or one payment that has no line, and what it says.

    `is_payment` says that it counts as a payment to a customer, whatever its words call it; `is_repeat`, that another
    line is the payment of its attempt. `suspense_cents` is what goes to suspense: in positive, out negative.
    """

    line: Line | None
    verdict: LineVerdict
    why: str
    command: str = ""
    attempt: KnownAttempt | None = None
    suspense_cents: int = 0
    due_cents: int = 0
    due_is_booked: bool = False
    is_payment: bool = False
    is_repeat: bool = False

    @property
    def statement_cents(self) -> int:
        """What the statement has for it, in cents that went out."""
        return 0 if self.line is None else -self.line.moved_cents

    @property
    def ledger_cents(self) -> int:
        """What the books have as paid for it, in cents."""
        if self.attempt is None or self.is_repeat or not self.is_payment:
            return 0
        return self.attempt.wire_cents if self.attempt.status in PAID else 0

    @property
    def results_cents(self) -> int:
        """What M-Pesa's own results say was paid for it, in cents."""
        told = self.attempt is not None and (self.attempt.evidence or "").startswith(TOLD_BY_MPESA)
        return self.ledger_cents if told else 0

    @property
    def is_open(self) -> bool:
        """Whether a person has to do something about it."""
        return bool(self.suspense_cents) or self.verdict not in AGREED | SETTLED_BY_IT


@dataclass(frozen=True, slots=True)
class KnownBooks:
    """What this database knows about the time of a statement."""

    attempts: Sequence[KnownAttempt]
    #: The account that the statement is proven to be of, and the time that it covers.
    account: Proven
    span: Span
    #: That account by its number here; None where nothing was ever done with it.
    account_id: int | None = None
    #: Charges that are expected, and those that a statement has shown already, by attempt, in cents.
    charges_due: Mapping[str, int] = field(default_factory=dict)
    charges_paid: Mapping[str, int] = field(default_factory=dict)
    #: What a payment should cost; None: whatever M-Pesa took is what it costs.
    tariff: Tariff | None = None
    #: Receipts of payments that were booked as overpaid.
    overpaid: frozenset[str] = frozenset()
    #: Receipts of payments whose return the books have already.
    came_back: frozenset[str] = frozenset()
    #: Deposits by their reference, collected stakes by their bet, in cents.
    deposits: Mapping[str, int] = field(default_factory=dict)
    stakes: Mapping[str, int] = field(default_factory=dict)
    #: Per attempt, what M-Pesa answered about it, earliest first.
    answers: Mapping[str, Sequence[tuple[datetime, str]]] = field(default_factory=dict)
    #: Whether payments of customers are stakes that the platform has counted by itself.
    customers_are_counted: bool = False


def is_restored(attempt: KnownAttempt) -> bool:
    """Whether it stands for what a newer database, now gone, may have sent."""
    return attempt.status is AttemptStatus.REJECTED and attempt.lease_token.startswith(RESTORED)


def is_open_ended(attempt: KnownAttempt) -> bool:
    """Whether nobody knows how it ended: only then does it matter what a statement's silence says."""
    return attempt.status in LIVE or is_restored(attempt)


def could_move(attempt: KnownAttempt) -> tuple[datetime, datetime]:
    """From when until when M-Pesa may have carried an attempt out."""
    last = attempt.sent_at
    if is_restored(attempt):
        last = max(last, attempt.status_at)
    return attempt.created_at - CLOCKS_APART, last + LATEST


def resolve(line: Line, what: str = "WHAT", user_id: str | None = None) -> str:
    """Ends what stands in suspense: by the key of its line, since two lines may have one receipt."""
    whose = "" if user_id is None else f" --user {quote(user_id)}"
    return f"kasoko suspense resolve {line.key[:8]} --as {what}{whose} --reason WHY"


def decide(payout_id: str) -> str:
    """Ends what nobody knows. Whether it was paid is not said here, and the command is refused until a person does."""
    return f"kasoko payout decide {payout_id} --evidence WHERE --reason WHY"


def decide_paid(payout_id: str, line: Line) -> str:
    """Ends it as paid by a line that a person says is the payment."""
    return f"kasoko payout decide {payout_id} --paid --receipt {quote(line.receipt)} --evidence WHERE --reason WHY"


def more_than_owed(finding: StatementFinding, cents: int) -> StatementFinding:
    """A finding that money of a second payment came back, where so much of it is more than its user owes by now."""
    if not cents:
        return replace(finding, suspense_cents=0)
    assert finding.line is not None
    assert finding.attempt is not None
    user_id = finding.attempt.user_id
    why = f"{finding.why}, and KES {format_kes(cents)} of it {user_id} does not owe any more"
    end = f"{resolve(finding.line, 'wallet', user_id)}; then: {CLOSE}"
    return replace(finding, why=why, command=end, suspense_cents=cents)
