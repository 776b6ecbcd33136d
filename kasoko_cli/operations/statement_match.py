"""Compare a statement with what this database knows, line by line. Pure: it reads no database and moves nothing.

A line is matched by its receipt. Where nobody has that receipt yet, the attempt's own id in the line's
details decides, or else amount, time and receiver together, and only where they leave one answer.
Whatever they leave open is named and left as it is.

Source for what ends an unknown payout: the rules of reconciling. "Paid" needs M-Pesa's receipt; "not paid"
needs a statement without gaps over the whole time in which it could have been paid, and M-Pesa's own answer,
more than once, that it knows no such payment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from shlex import quote

from kasoko_cli.clock import iso
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus
from kasoko_cli.operations.statement_file import Line, LineKind, LineStatus, StatementFile, is_party
from kasoko_cli.store.facts import ERASED
from kasoko_cli.store.statements import RESTORED, KnownAttempt

#: How far M-Pesa's clock and ours may differ.
CLOCKS_DIFFER = timedelta(minutes=5)
#: How long after its request M-Pesa may still carry a payment out.
LATEST = timedelta(hours=24)
#: How far apart the answers "no such payment" have to be before they count as repeated.
QUIET = timedelta(hours=1)

_OUR_ID = re.compile(r"ks-[0-9a-f]{32}|AG_[0-9]{8}_[0-9A-Za-z]+")

#: Ends what a person has to judge. The incident has its number once the statement was taken in.
CLOSE = "kasoko incident close ID --reason WHY"

_ASK = "kasoko reconcile --now"

PAID = frozenset({AttemptStatus.SUCCEEDED, AttemptStatus.RETURNED})
DEAD = frozenset({AttemptStatus.FAILED, AttemptStatus.REJECTED})
#: Payouts for which a payment that turns up is not the one that was owed.
ENDED = frozenset({PayoutStatus.COMPLETED, PayoutStatus.WALLET, PayoutStatus.CANCELED, PayoutStatus.RETURNED})


class Verdict(StrEnum):
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
    AMBIGUOUS = "ambiguous"  #: several payouts could be this line
    WRONG_RETURN = "wrong-return"  #: something came back that is no whole payment of ours
    UNMATCHED_OUT = "unmatched-out"  #: money went out, and nothing here says why
    UNMATCHED_IN = "unmatched-in"  #: money came in, and nothing here says why
    CHARGE_UNMATCHED = "charge-unmatched"  #: a charge for no payment of ours


#: Nothing differs.
AGREED = frozenset({Verdict.MATCHED, Verdict.FAILED, Verdict.PENDING, Verdict.DEPOSIT, Verdict.STAKE, Verdict.CHARGE})
#: A difference that the statement itself resolves.
SETTLED_BY_IT = frozenset(
    {
        Verdict.ENDED_PAID,
        Verdict.LATE_SUCCESS,
        Verdict.ENDED_NOT_PAID,
        Verdict.RETURNED,
        Verdict.PAID_BACK,
        Verdict.CHARGE_DIFFERS,
    }
)
#: What a person has to see although no money is moved for it.
CONTRADICTS = frozenset(
    {
        Verdict.WRONG_AMOUNT,
        Verdict.WRONG_RECEIVER,
        Verdict.WRONG_TIME,
        Verdict.OTHER_RECEIPT,
        Verdict.TWICE,
        Verdict.FAILED_HERE,
        Verdict.NOT_ON_STATEMENT,
        Verdict.WRONG_RETURN,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line, or one payment that has no line, and what it says.

    The three amounts are what the books, M-Pesa's results and the statement have for it, in cents that went
    out. `suspense_cents` is what goes to suspense: in positive, out negative.
    """

    verdict: Verdict
    why: str
    command: str = ""
    line: Line | None = None
    attempt: KnownAttempt | None = None
    ledger_cents: int = 0
    results_cents: int = 0
    statement_cents: int = 0
    suspense_cents: int = 0
    due_cents: int = 0
    due_is_booked: bool = False

    @property
    def is_open(self) -> bool:
        """Whether a person has to do something about it."""
        return bool(self.suspense_cents) or self.verdict not in AGREED | SETTLED_BY_IT


@dataclass(frozen=True, slots=True)
class Known:
    """What this database knows about the time of a statement."""

    attempts: Sequence[KnownAttempt]
    #: Charges that are expected, and those that a statement has shown already, by attempt, in cents.
    charges_due: Mapping[str, int] = field(default_factory=dict)
    charges_paid: Mapping[str, int] = field(default_factory=dict)
    #: Receipts of payments that were booked as overpaid.
    overpaid: frozenset[str] = frozenset()
    #: Receipts of payments of which the books have the return already.
    came_back: frozenset[str] = frozenset()
    #: Deposits by their reference, collected stakes by their bet, in cents.
    deposits: Mapping[str, int] = field(default_factory=dict)
    stakes: Mapping[str, int] = field(default_factory=dict)
    #: Per attempt, what M-Pesa answered about it, earliest first.
    answers: Mapping[str, Sequence[tuple[datetime, str]]] = field(default_factory=dict)
    #: Our shortcode, where it is set.
    shortcode: str | None = None
    #: Whether payments of customers are stakes that the platform has counted by itself.
    customers_are_counted: bool = False


def match(file: StatementFile, known: Known) -> list[Finding]:
    """What each line says, oldest first, and then what is missing from the statement."""
    return _Matching(file, known).findings()


def is_restored(attempt: KnownAttempt) -> bool:
    """Whether it stands for what a newer database, now gone, may have sent."""
    return attempt.status is AttemptStatus.REJECTED and attempt.lease_token.startswith(RESTORED)


def could_move(attempt: KnownAttempt) -> tuple[datetime, datetime]:
    """From when until when M-Pesa may have carried an attempt out."""
    last = attempt.sent_at
    if is_restored(attempt):
        last = max(last, attempt.status_at)
    return attempt.created_at - CLOCKS_DIFFER, last + LATEST


def _of_results(attempt: KnownAttempt) -> int:
    """What M-Pesa's own results say was paid, in cents."""
    told = (attempt.evidence or "").startswith(("callback:", "status:"))
    return attempt.wire_cents if attempt.status in PAID and told else 0


def _of_books(attempt: KnownAttempt) -> int:
    return attempt.wire_cents if attempt.status in PAID else 0


def _resolve(line: Line, what: str = "WHAT", user_id: str | None = None) -> str:
    """Ends what stands in suspense: by the key of its line, since two lines may have one receipt."""
    whose = "" if user_id is None else f" --user {quote(user_id)}"
    return f"kasoko suspense resolve {line.key[:8]} --as {what}{whose} --reason WHY"


def _decide(payout_id: str) -> str:
    """Ends what nobody knows. Whether it was paid is not said here, and the command is refused until a person does."""
    return f"kasoko payout decide {payout_id} --evidence WHERE --reason WHY"


def _decide_paid(payout_id: str, line: Line) -> str:
    return f"kasoko payout decide {payout_id} --paid --receipt {quote(line.receipt)} --evidence WHERE --reason WHY"


def more_than_owed(finding: Finding, cents: int) -> Finding:
    """A finding that money of a second payment came back, where so much of it is more than its user owes by now."""
    if not cents:
        return replace(finding, suspense_cents=0)
    assert finding.line is not None
    assert finding.attempt is not None
    user_id = finding.attempt.user_id
    why = f"{finding.why}, and KES {format_kes(cents)} of it {user_id} does not owe any more"
    end = f"{_resolve(finding.line, 'wallet', user_id)}; then: {CLOSE}"
    return replace(finding, why=why, command=end, suspense_cents=cents)


class _Matching:
    def __init__(self, file: StatementFile, known: Known) -> None:
        self.file, self.known = file, known
        self.by_receipt = {one.receipt: one for one in known.attempts if one.receipt}
        self.by_id = {one.id: one for one in known.attempts}
        self.by_conversation = {one.conversation_id: one for one in known.attempts if one.conversation_id}
        self.taken: dict[str, Line] = {}  # attempts that a line of this statement speaks of, by id
        self.found: dict[int, Finding] = {}
        self.paid_receipts: set[str] = set()
        self.came_back: set[str] = set()  # attempts whose return this statement has shown, by id
        self.charged: set[str] = set()  # attempts whose charge this statement has shown, by id
        self.open_by_cents: dict[int, list[KnownAttempt]] = {}
        self.open_by_end: dict[tuple[int, str], list[KnownAttempt]] = {}
        for one in known.attempts:
            if one.status in LIVE or (one.status in DEAD and one.payout_status not in ENDED):
                self.open_by_end.setdefault((one.wire_cents, one.phone[-3:]), []).append(one)
                self.open_by_cents.setdefault(one.wire_cents, []).append(one)
        self.paid_by_end: dict[tuple[int, str], list[KnownAttempt]] = {}
        for one in known.attempts:
            if one.status in PAID:
                self.paid_by_end.setdefault((one.wire_cents, one.phone[-3:]), []).append(one)

    def findings(self) -> list[Finding]:
        unclaimed: list[Line] = []
        for line in self.file.lines:
            if line.status is LineStatus.COMPLETED and line.kind is LineKind.PAYOUT:
                if (finding := self._by_name(line)) is None:
                    unclaimed.append(line)
                else:
                    self._note(line, finding)
        self._share_out(unclaimed)
        for line in self.file.lines:
            if line.number not in self.found:
                self._note(line, self._other(line))
        return [self.found[line.number] for line in self.file.lines] + list(self._missing())

    def _note(self, line: Line, finding: Finding) -> None:
        self.found[line.number] = finding
        if finding.attempt is not None and line.status is LineStatus.COMPLETED and line.kind is LineKind.PAYOUT:
            self.taken[finding.attempt.id] = line
            self.by_receipt.setdefault(line.receipt, finding.attempt)

    # --- Payments -------------------------------------------------------------------------------------------------

    def _by_name(self, line: Line) -> Finding | None:
        """A payment by its receipt, or by our id in its details."""
        if line.receipt in self.paid_receipts:
            return self._strange(
                line,
                Verdict.TWICE,
                f"the receipt {line.receipt} stands on a second payment",
                f"{_resolve(line)}; then: {CLOSE}",
                suspense_cents=-line.withdrawn_cents,
            )
        self.paid_receipts.add(line.receipt)
        attempt = self.by_receipt.get(line.receipt)
        if attempt is not None:
            return self._compare(line, attempt)
        named = self._named(line)
        if named is None:
            return None
        if named.receipt is not None:
            why = f"it is the payment {named.id}, for which the books have the receipt {named.receipt}"
            return self._strange(line, Verdict.OTHER_RECEIPT, why, CLOSE, attempt=named)
        wrong = self._unlike(line, named)
        return self._paid(line, named) if wrong is None else self._strange(line, *wrong, attempt=named)

    def _named(self, line: Line) -> KnownAttempt | None:
        for word in _OUR_ID.findall(line.details):
            if (found := self.by_id.get(word) or self.by_conversation.get(word)) is not None:
                return found
        return None

    def _compare(self, line: Line, attempt: KnownAttempt) -> Finding:
        wrong = self._unlike(line, attempt)
        if wrong is None:
            return self._finding(line, Verdict.MATCHED, "the books say the same", attempt=attempt)
        more = line.withdrawn_cents - attempt.wire_cents if wrong[0] is Verdict.WRONG_AMOUNT else 0
        if more:
            whose = "receivable" if more > 0 else "wallet"
            wrong = (*wrong[:2], f"{_resolve(line, whose, attempt.user_id)}; then: {CLOSE}")
        return self._strange(line, *wrong, attempt=attempt, suspense_cents=-more)

    def _unlike(self, line: Line, attempt: KnownAttempt) -> tuple[Verdict, str, str] | None:
        """What speaks against a line being this attempt: the verdict, why, and what to do."""
        end = CLOSE
        if attempt.status in LIVE:
            end = f"{_decide(attempt.payout_id)}; then: {CLOSE}"
        if line.withdrawn_cents != attempt.wire_cents:
            why = (
                f"{attempt.payout_id} was sent with KES {format_kes(attempt.wire_cents)}, and the statement has"
                f" KES {format_kes(line.withdrawn_cents)}"
            )
            return Verdict.WRONG_AMOUNT, why, end
        if line.party and not attempt.phone.startswith(ERASED) and not is_party(attempt.phone, line.party):
            return Verdict.WRONG_RECEIVER, f"{attempt.payout_id} was sent to another number", end
        if line.completed_at < attempt.created_at - CLOCKS_DIFFER:
            why = f"{attempt.payout_id} was sent at {iso(attempt.created_at)}, after the time of this line"
            return Verdict.WRONG_TIME, why, end
        return None

    def _paid(self, line: Line, attempt: KnownAttempt) -> Finding:
        if attempt.status in LIVE or is_restored(attempt):
            return self._finding(
                line, Verdict.ENDED_PAID, f"{attempt.payout_id} was unknown, and it was paid", attempt=attempt
            )
        why = f"{attempt.payout_id} counted as {attempt.status.lower()}, and it was paid after all"
        return self._finding(line, Verdict.LATE_SUCCESS, why, CLOSE, attempt=attempt)

    def _share_out(self, lines: Sequence[Line]) -> None:
        """Payments whose receipt nobody has: by amount, time and receiver, where one answer is left."""
        candidates = {line.number: self._candidates(line) for line in lines}
        for group in _connected(lines, candidates):
            names = {one.id: one for line in group for one in candidates[line.number]}
            if not names:
                for line in group:
                    self._note(line, self._not_ours(line))
                continue
            pairs = _pair_up(group, list(names.values()), candidates)
            if pairs is None:
                could_be = sorted({one.payout_id for one in names.values()})
                payouts = ", ".join(could_be[:5])
                for line in group:
                    why = f"{len(group)} such lines and {len(names)} payouts they could be: {payouts}"
                    which = could_be[0] if len(could_be) == 1 else "PAYOUT"
                    command = f"{_ASK}; what M-Pesa does not answer: {_decide_paid(which, line)}"
                    self._note(line, self._strange(line, Verdict.AMBIGUOUS, why, command))
                continue
            for line, attempt in pairs:
                self._note(line, self._paid(line, attempt))

    def _candidates(self, line: Line) -> list[KnownAttempt]:
        """The open attempts that a line may be; those that failed only where no other is left."""
        if len(line.party.rsplit("*", 1)[-1]) < 3:
            return self._without_party(line)
        found = [
            one
            for one in self.open_by_end.get((line.withdrawn_cents, line.party[-3:]), ())
            if one.id not in self.taken and is_party(one.phone, line.party) and self._in_time(line, one)
        ]
        return [one for one in found if one.status in LIVE or is_restored(one)] or found

    def _without_party(self, line: Line) -> list[KnownAttempt]:
        """A line that does not say whose phone it was may be any open attempt of its amount and time."""
        return [
            one
            for one in self.open_by_cents.get(line.withdrawn_cents, ())
            if one.status in LIVE and one.id not in self.taken and self._in_time(line, one)
        ]

    def _in_time(self, line: Line, attempt: KnownAttempt) -> bool:
        first, last = could_move(attempt)
        return first <= (line.initiated_at or line.completed_at) <= last

    def _not_ours(self, line: Line) -> Finding:
        why = "money went out that is no payout here"
        twins = self.paid_by_end.get((line.withdrawn_cents, line.party[-3:]), ()) if line.party else ()
        twin = next((one for one in twins if is_party(one.phone, line.party)), None)
        end = _resolve(line)
        if twin is not None:
            why += f"; the same receiver had the same amount by {twin.payout_id}, receipt {twin.receipt}"
            end = _resolve(line, "receivable", twin.user_id)
        return self._strange(line, Verdict.UNMATCHED_OUT, why, end, suspense_cents=-line.withdrawn_cents)

    # --- Everything else ------------------------------------------------------------------------------------------

    def _other(self, line: Line) -> Finding:
        if line.status is LineStatus.PENDING:
            return self._finding(line, Verdict.PENDING, "M-Pesa has not decided it; take a later statement in")
        if line.status is LineStatus.FAILED:
            return self._failed(line)
        if line.kind is LineKind.CHARGE:
            return self._charge(line)
        if line.kind is LineKind.BACK and line.paid_in_cents:
            return self._came_back(line)
        if line.withdrawn_cents:
            return self._strange(
                line,
                Verdict.UNMATCHED_OUT,
                f"money went out that is no payout here: {line.reason or 'no reason is given'}",
                _resolve(line),
                suspense_cents=-line.withdrawn_cents,
            )
        return self._came_in(line)

    def _failed(self, line: Line) -> Finding:
        """No money moved by this line. It ends nothing: what is unknown is M-Pesa's to say, not a failed line's."""
        attempt = self.by_receipt.get(line.receipt) or self._named(line)
        if attempt is not None and attempt.status in PAID and line.receipt == attempt.receipt:
            if attempt.id in self.taken:
                return self._finding(line, Verdict.FAILED, "no money moved")
            self.taken[attempt.id] = line
            why = f"{attempt.payout_id} counts as paid by {line.receipt}, and the statement says it failed"
            return self._strange(line, Verdict.FAILED_HERE, why, CLOSE, attempt=attempt)
        return self._finding(line, Verdict.FAILED, "no money moved")

    def _charge(self, line: Line) -> Finding:
        attempt = self.by_receipt.get(line.receipt) or self.by_receipt.get(line.linked)
        cents = line.withdrawn_cents
        if attempt is None:
            return self._strange(
                line,
                Verdict.CHARGE_UNMATCHED,
                "a charge for no payout here",
                _resolve(line, "charges"),
                suspense_cents=-cents,
            )
        in_books = self.known.charges_paid.get(attempt.id)
        if attempt.id in self.charged or in_books not in (None, cents):
            return self._strange(
                line,
                Verdict.CHARGE_UNMATCHED,
                f"a second charge for {attempt.payout_id}",
                _resolve(line, "charges"),
                suspense_cents=-cents,
            )
        self.charged.add(attempt.id)
        if in_books is not None:
            return self._finding(line, Verdict.MATCHED, "the books have this charge", attempt=attempt)
        due = self.known.charges_due.get(attempt.id)
        differs = due is not None and due != cents
        why = f"what M-Pesa took for {attempt.payout_id}"
        if differs:
            why += f": KES {format_kes(cents)}, and KES {format_kes(due or 0)} was expected"
        verdict = Verdict.CHARGE_DIFFERS if differs else Verdict.CHARGE
        finding = self._finding(line, verdict, why, attempt=attempt)
        return replace(finding, due_cents=cents if due is None else due, due_is_booked=due is not None)

    def _came_back(self, line: Line) -> Finding:
        attempt = self.by_receipt.get(line.linked) or self.by_receipt.get(line.receipt)
        if attempt is None:
            return self._came_in(line)
        cents = line.paid_in_cents
        if (attempt.receipt or "") in self.known.came_back:
            return self._finding(line, Verdict.MATCHED, "the books have its return", attempt=attempt)
        if attempt.id in self.came_back:
            why = f"the money of {attempt.payout_id} came back a second time"
            end = f"{_resolve(line)}; then: {CLOSE}"
            return self._strange(line, Verdict.WRONG_RETURN, why, end, attempt=attempt, suspense_cents=cents)
        if cents != attempt.wire_cents:
            why = (
                f"KES {format_kes(cents)} came back of {attempt.payout_id}, which was sent with"
                f" KES {format_kes(attempt.wire_cents)}"
            )
            end = f"{_resolve(line, 'wallet', attempt.user_id)}; then: {CLOSE}"
            return self._strange(line, Verdict.WRONG_RETURN, why, end, attempt=attempt, suspense_cents=cents)
        if (attempt.receipt or "") in self.known.overpaid:
            self.came_back.add(attempt.id)
            why = f"the second payment of {attempt.payout_id} came back"
            return self._finding(line, Verdict.PAID_BACK, why, CLOSE, attempt=attempt)
        if attempt.status is AttemptStatus.SUCCEEDED or attempt.id in self.taken:
            self.came_back.add(attempt.id)
            why = f"the money of {attempt.payout_id} came back; it stands in the wallet"
            return self._finding(
                line, Verdict.RETURNED, why, f"kasoko payout again {attempt.payout_id} --reason WHY", attempt=attempt
            )
        why = f"money came back of {attempt.payout_id}, which is {attempt.payout_status}"
        end = f"{_resolve(line)}; then: {CLOSE}"
        return self._strange(line, Verdict.WRONG_RETURN, why, end, attempt=attempt, suspense_cents=cents)

    def _came_in(self, line: Line) -> Finding:
        cents = line.paid_in_cents
        if self.known.deposits.get(line.receipt) == cents:
            return self._finding(line, Verdict.DEPOSIT, "a deposit that the books have")
        for name in (line.receipt, line.account):
            if self.known.stakes.get(name) == cents:
                return self._finding(line, Verdict.STAKE, f"the stake of the bet {name}")
        if line.kind is LineKind.CUSTOMER and self.known.customers_are_counted:
            return self._finding(line, Verdict.STAKE, "a customer's payment, which the platform has counted")
        why = "money came in, and neither a deposit nor a stake here says so"
        if (booked := self.known.deposits.get(line.receipt)) is not None:
            why = f"the books have this deposit with KES {format_kes(booked)}"
            return self._strange(line, Verdict.UNMATCHED_IN, why, _resolve(line), suspense_cents=cents - booked)
        return self._strange(line, Verdict.UNMATCHED_IN, why, _resolve(line), suspense_cents=cents)

    # --- What no line speaks of -----------------------------------------------------------------------------------

    def _missing(self) -> Iterable[Finding]:
        for one in self.known.attempts:
            if one.id in self.taken:
                continue
            first, last = could_move(one)
            if one.status in PAID:
                # It was paid between its request and our knowledge of that: the whole of it has to be covered.
                if self._covers(first, max(one.status_at, one.sent_at)):
                    yield Finding(
                        Verdict.NOT_ON_STATEMENT,
                        f"{one.payout_id} counts as paid by {one.receipt}, and the statement does not have it"
                        + ("" if self.file.whole else "; but lines of the statement are missing"),
                        CLOSE,
                        attempt=one,
                        ledger_cents=one.wire_cents,
                        results_cents=_of_results(one),
                    )
            elif one.status in LIVE or is_restored(one):
                yield self._silence(one, first, last)

    def _silence(self, attempt: KnownAttempt, first: datetime, last: datetime) -> Finding:
        """An attempt whose end nobody knows, and of which the statement says nothing."""
        why_not = self._not_paid_unless(attempt, first, last)
        if why_not is None:
            why = f"{attempt.payout_id} was unknown; the statement and M-Pesa's answers know no such payment"
            return Finding(Verdict.ENDED_NOT_PAID, why, f"kasoko payout retry {attempt.payout_id}", attempt=attempt)
        end = f"{_ASK}; what M-Pesa does not answer, by its portal: {_decide(attempt.payout_id)}"
        if attempt.status is AttemptStatus.INTENT:
            end = _ASK
        if is_restored(attempt):
            end = "kasoko doctor --after-restore"
        return Finding(Verdict.STILL_UNKNOWN, f"no line is {attempt.payout_id}, and {why_not}", end, attempt=attempt)

    def _not_paid_unless(self, attempt: KnownAttempt, first: datetime, last: datetime) -> str | None:
        """Why the silence of this statement is no proof that an attempt was not paid; None where it is one."""
        if attempt.status is AttemptStatus.INTENT:
            return "it is being sent"
        if not self._covers(first, last):
            return f"the statement covers {iso(self.file.covers_from)} to {iso(self.file.covers_to)} only"
        if not self.file.whole:
            return "its balances do not follow one from another, so lines may be missing"
        if not self._is_our_account():
            return "nothing in it shows that it is of our account"
        if is_restored(attempt):
            return None
        answers = self.known.answers.get(attempt.id, ())
        unknown_there = [at for at, answer in answers if answer == "NOT_FOUND"]
        if not unknown_there or answers[-1][1] != "NOT_FOUND":
            return "M-Pesa, asked, has not said that it knows no such payment"
        if unknown_there[-1] - unknown_there[0] < QUIET:
            return "M-Pesa has said only once, or too soon, that it knows no such payment"
        if unknown_there[-1] > self.file.covers_to:
            return "the statement ends before M-Pesa's last answer"
        return None

    def _covers(self, first: datetime, last: datetime) -> bool:
        return self.file.covers_from <= first and last <= self.file.covers_to

    def _is_our_account(self) -> bool:
        if self.file.shortcode is not None:
            return self.file.shortcode == self.known.shortcode
        return any(one.verdict is Verdict.MATCHED for one in self.found.values())

    # --- Pieces ---------------------------------------------------------------------------------------------------

    def _finding(
        self,
        line: Line,
        verdict: Verdict,
        why: str,
        command: str = "",
        *,
        attempt: KnownAttempt | None = None,
        suspense_cents: int = 0,
    ) -> Finding:
        is_payment = line.kind is LineKind.PAYOUT
        is_first = attempt is not None and is_payment and self.taken.get(attempt.id, line) is line
        return Finding(
            verdict,
            why,
            command,
            line,
            attempt,
            ledger_cents=_of_books(attempt) if attempt is not None and is_first else 0,
            results_cents=_of_results(attempt) if attempt is not None and is_first else 0,
            statement_cents=-line.moved_cents,
            suspense_cents=suspense_cents,
        )

    def _strange(
        self,
        line: Line,
        verdict: Verdict,
        why: str,
        command: str,
        *,
        attempt: KnownAttempt | None = None,
        suspense_cents: int = 0,
    ) -> Finding:
        return self._finding(line, verdict, why, command, attempt=attempt, suspense_cents=suspense_cents)


def _connected(lines: Sequence[Line], candidates: Mapping[int, Sequence[KnownAttempt]]) -> list[list[Line]]:
    """Lines that share a candidate, together; each group can be judged by itself."""
    group_of: dict[int, int] = {}
    groups: dict[int, list[Line]] = {}
    seen: dict[str, int] = {}
    for line in lines:
        home = line.number
        groups[home], group_of[home] = [line], home
        for one in candidates[line.number]:
            other = seen.setdefault(one.id, home)
            while group_of[other] != other:
                other = group_of[other]
            if other != home:
                groups[home] = groups.pop(other) + groups[home]
                group_of[other] = home
    return list(groups.values())


def _pair_up(
    lines: Sequence[Line], attempts: Sequence[KnownAttempt], candidates: Mapping[int, Sequence[KnownAttempt]]
) -> list[tuple[Line, KnownAttempt]] | None:
    """Each line with its attempt, in the order of time, where there are as many of the one as of the other.

    Equal payments to one person cannot be told apart; where each of them has a line, all were paid.
    """
    if len(lines) != len(attempts) or any(not line.party for line in lines):
        return None
    ordered = sorted(attempts, key=lambda one: (one.sent_at, one.id))
    pairs = list(zip(sorted(lines, key=lambda line: (line.completed_at, line.number)), ordered, strict=True))
    return pairs if all(one in candidates[line.number] for line, one in pairs) else None
