"""Compare a statement with what this database knows, line by line. Pure: it reads no database and moves nothing.

First, every line of money that went out is identified, whatever its words call it: by its receipt; by our own id
in its details; by amount, time and receiver, where they leave one answer. Only what is left is judged by the words
of its reason. And only then is asked what no line speaks of: while anything that is not identified may be a payout,
that payout stays unknown, and both are named.

Source for what ends an unknown payout: the rules of reconciling. "Paid" needs M-Pesa's receipt; "not paid"
needs a statement without gaps over the whole time in which it could have been paid, without a line that may be it,
and M-Pesa's own answer, more than once, that it knows no such payment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain, islice

from kasoko_cli.clock import CLOCKS_APART, iso
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payout import LIVE, AttemptStatus
from kasoko_cli.operations.reconciliation.statement_findings import (
    ASK,
    CLEAR,
    CLOSE,
    DEAD,
    ENDED,
    PAID,
    KnownBooks,
    LineVerdict,
    StatementFinding,
    could_move,
    decide,
    decide_paid,
    is_open_ended,
    is_restored,
    resolve,
)
from kasoko_cli.operations.reconciliation.statement_parser import Line, LineKind, LineStatus, StatementFile
from kasoko_cli.store.engine.row_digests import ERASED
from kasoko_cli.store.statements import KnownAttempt

#: How far apart the answers "no such payment" have to be before they count as repeated.
QUIET = timedelta(hours=1)
#: A line may be a payout although its time is off by so much: a clock was wrong, or a file has another zone's times.
TIMES_DIFFER = timedelta(hours=24)
#: At most so many payouts, or lines, are named where several could be meant.
NAMED = 5

_OUR_ID = re.compile(r"ks-[0-9a-f]{32}|AG_[0-9]{8}_[0-9A-Za-z]+")


def match(file: StatementFile, known: KnownBooks) -> list[StatementFinding]:
    """What each line says, oldest first, and then what is missing from the statement."""
    matching = _Matching(file, known)
    matching.identify()
    matching.judge_by_words()
    missing = list(matching.missing())
    return [*(matching.found[line.number] for line in file.lines), *missing]


class _Matching:
    def __init__(self, file: StatementFile, known: KnownBooks) -> None:
        self.file, self.known = file, known
        self.by_receipt = {one.receipt: one for one in known.attempts if one.receipt}
        self.by_id = {one.id: one for one in known.attempts}
        self.by_conversation = {one.conversation_id: one for one in known.attempts if one.conversation_id}
        self.taken: dict[str, Line] = {}  # attempts that a line of this statement is the payment of, by id
        self.found: dict[int, StatementFinding] = {}
        self.came_back: set[str] = set()  # attempts whose return this statement has shown, by id
        self.charged: set[str] = set()  # attempts whose charge this statement has shown, by id
        self.out: dict[str, list[Line]] = {}  # what went out, by receipt
        for line in file.lines:
            if line.withdrawn_cents and line.status is LineStatus.COMPLETED:
                self.out.setdefault(line.receipt, []).append(line)
        self.open_by_end: dict[tuple[int, str], list[KnownAttempt]] = {}
        self.forgotten: dict[int, list[KnownAttempt]] = {}
        self.unended: dict[int, list[KnownAttempt]] = {}
        self.unended_by_end: dict[tuple[int, str], list[KnownAttempt]] = {}
        self.paid_by_end: dict[tuple[int, str], list[KnownAttempt]] = {}
        for one in known.attempts:
            end = (one.wire_cents, one.phone[-3:])
            if is_open_ended(one):
                self.unended.setdefault(one.wire_cents, []).append(one)
                self.unended_by_end.setdefault(end, []).append(one)
            if is_restored(one):
                self.forgotten.setdefault(one.wire_cents, []).append(one)
            if one.status in LIVE or (one.status in DEAD and one.payout_status not in ENDED):
                self.open_by_end.setdefault(end, []).append(one)
            if one.status in PAID:
                self.paid_by_end.setdefault(end, []).append(one)

    # --- First: which payment a line is, whatever its words ---------------------------------------------------------

    def identify(self) -> None:
        """Tie what went out to payments of ours: by receipt, by our id, by amount, time and receiver."""
        for receipt, lines in self.out.items():
            attempt = self.by_receipt.get(receipt)
            line = None if attempt is None else _payment_among(lines, attempt)
            if attempt is not None and line is not None:
                self._note(line, self._compare(line, attempt))
        for receipt, lines in self.out.items():
            if receipt not in self.by_receipt:
                self._by_our_id(lines)
        self._share_out([lines for receipt, lines in self.out.items() if receipt not in self.by_receipt])

    def _by_our_id(self, lines: Sequence[Line]) -> None:
        """What of one receipt names a payment of ours in its details."""
        naming: dict[str, list[Line]] = {}
        for line in lines:
            if (named := self._named(line)) is not None:
                naming.setdefault(named.id, []).append(line)
        for attempt_id, mine in naming.items():
            one = self.by_id[attempt_id]
            payment = _payment_among(mine, one)
            if payment is None or payment.receipt in self.by_receipt:
                continue
            if one.receipt is not None or one.id in self.taken:
                receipt = one.receipt or self.taken[one.id].receipt
                why = f"it is the payment {one.id}, for which the receipt {receipt} is known"
                self._note(payment, self._payment(payment, LineVerdict.OTHER_RECEIPT, why, CLOSE, attempt=one))
            elif (wrong := self._unlike(payment, one)) is not None:
                self._note(payment, self._payment(payment, *wrong, attempt=one))
            else:
                self._note(payment, self._paid(payment, one))

    def _named(self, line: Line) -> KnownAttempt | None:
        for word in _OUR_ID.findall(line.details):
            if (found := self.by_id.get(word) or self.by_conversation.get(word)) is not None:
                return found
        return None

    def _share_out(self, receipts: Iterable[Sequence[Line]]) -> None:
        """Payments whose receipt nobody has: by amount, time and receiver, where one answer is left."""
        sure: dict[int, list[KnownAttempt]] = {}
        lines = []
        for of_one in receipts:
            # One receipt is one payment, with what it costs: of two lines that name a receiver of ours, the larger.
            fits = [(line, some) for line in of_one if (some := self._receivers(line))]
            if fits:
                line, some = max(fits, key=lambda fit: (fit[0].kind is LineKind.PAYOUT, fit[0].withdrawn_cents))
                sure[line.number] = some
                lines.append(line)
        for group in _connected(lines, sure):
            names = {one.id: one for line in group for one in sure[line.number]}
            pairs = _pair_up(group, list(names.values()), sure)
            for line, attempt in pairs or ():
                self._note(line, self._paid(line, attempt))
            if pairs is None:
                payouts = _payouts(names.values())
                why = f"{len(group)} such lines and {len(names)} payouts they could be: {', '.join(payouts[:NAMED])}"
                for line in group:
                    self._note(line, self._ambiguous(line, why, payouts))

    def _receivers(self, line: Line) -> list[KnownAttempt]:
        """The open attempts that a line names the receiver of; those that failed only where no other is left.

        A line that links to another movement belongs to that, and is no payment by itself.
        """
        if line.linked in self.by_receipt or line.linked in self.out:
            return []
        found = [
            one
            for end in line.party.ends
            for one in self.open_by_end.get((line.withdrawn_cents, end), ())
            if one.id not in self.taken and line.party.is_surely(one.phone) and _in_time(line, one)
        ]
        found = list(dict.fromkeys(found))
        return [one for one in found if is_open_ended(one)] or found

    def _note(self, line: Line, finding: StatementFinding) -> None:
        self.found[line.number] = finding
        if finding.attempt is not None and finding.is_payment and line.status is LineStatus.COMPLETED:
            self.taken.setdefault(finding.attempt.id, line)
            self.by_receipt.setdefault(line.receipt, finding.attempt)

    def _compare(self, line: Line, attempt: KnownAttempt) -> StatementFinding:
        self.taken[attempt.id] = line
        wrong = self._unlike(line, attempt)
        if wrong is None:
            return self._payment(line, LineVerdict.MATCHED, "the books say the same", attempt=attempt)
        more = line.withdrawn_cents - attempt.wire_cents if wrong[0] is LineVerdict.WRONG_AMOUNT else 0
        if more:
            whose = "receivable" if more > 0 else "wallet"
            wrong = (*wrong[:2], f"{resolve(line, whose, attempt.user_id)}; then: {CLOSE}")
        return self._payment(line, *wrong, attempt=attempt, suspense_cents=-more)

    def _unlike(self, line: Line, attempt: KnownAttempt) -> tuple[LineVerdict, str, str] | None:
        """What speaks against a line being this attempt: the verdict, why, and what to do."""
        end = CLOSE
        if attempt.status in LIVE:
            end = f"{decide(attempt.payout_id)}; then: {CLOSE}"
        if line.withdrawn_cents != attempt.wire_cents:
            why = (
                f"{attempt.payout_id} was sent with KES {format_kes(attempt.wire_cents)}, and the statement has"
                f" KES {format_kes(line.withdrawn_cents)}"
            )
            return LineVerdict.WRONG_AMOUNT, why, end
        if not line.party.may_be(attempt.phone):
            return LineVerdict.WRONG_RECEIVER, f"{attempt.payout_id} was sent to another number", end
        if line.completed_at < attempt.created_at - CLOCKS_APART:
            why = f"{attempt.payout_id} was sent at {iso(attempt.created_at)}, after the time of this line"
            return LineVerdict.WRONG_TIME, why, end
        return None

    def _paid(self, line: Line, attempt: KnownAttempt) -> StatementFinding:
        self.taken[attempt.id] = line
        if is_open_ended(attempt):
            why = f"{attempt.payout_id} was unknown, and it was paid"
            return self._payment(line, LineVerdict.ENDED_PAID, why, attempt=attempt)
        why = f"{attempt.payout_id} counted as {attempt.status.lower()}, and it was paid after all"
        return self._payment(line, LineVerdict.LATE_SUCCESS, why, CLOSE, attempt=attempt)

    def _ambiguous(self, line: Line, why: str, payouts: Sequence[str]) -> StatementFinding:
        which = payouts[0] if len(payouts) == 1 else "PAYOUT"
        command = f"{ASK}; what M-Pesa does not answer: {decide_paid(which, line)}"
        return self._payment(line, LineVerdict.AMBIGUOUS, why, command)

    # --- Last: what is left, by its words ---------------------------------------------------------------------------

    def judge_by_words(self) -> None:
        """Judge each line that was not identified as a payment of ours."""
        for line in self.file.lines:
            if line.number not in self.found:
                self._note(line, self._left(line))

    def _left(self, line: Line) -> StatementFinding:
        if line.status is LineStatus.FAILED:
            return self._failed(line)
        if line.status is LineStatus.PENDING:
            return StatementFinding(line, LineVerdict.PENDING, "M-Pesa has not decided it; take a later statement in")
        if line.withdrawn_cents:
            return self._went_out(line)
        if (attempt := self.by_receipt.get(line.linked)) is not None and line.paid_in_cents == attempt.wire_cents:
            return self._came_back(line, attempt)
        attempt = attempt or self.by_receipt.get(line.receipt)
        if attempt is not None and line.kind is LineKind.BACK:
            return self._came_back(line, attempt)
        return self._came_in(line)

    def _went_out(self, line: Line) -> StatementFinding:
        owner = self.by_receipt.get(line.receipt)
        costs = owner or self.by_receipt.get(line.linked) or self._named(line)
        if line.kind is LineKind.CHARGE and costs is not None and (costs.id in self.taken or costs.status in PAID):
            return self._charge(line, costs)
        if owner is not None and (line.kind is LineKind.PAYOUT or line.withdrawn_cents == owner.wire_cents):
            why = f"the receipt {line.receipt} stands on a second payment"
            end = f"{resolve(line)}; then: {CLOSE}"
            return self._payment(line, LineVerdict.TWICE, why, end, suspense_cents=-line.withdrawn_cents)
        if could_be := _payouts(self._could_be(line)):
            why = f"it may be {', '.join(could_be)}: amount and time fit, and nothing tells the receiver apart"
            return self._ambiguous(line, why, could_be)
        if line.kind is LineKind.CHARGE:
            why = "a charge for no payout here" if costs is None else f"a charge for {costs.payout_id} without it"
            end = resolve(line, "charges")
            return StatementFinding(line, LineVerdict.CHARGE_UNMATCHED, why, end, suspense_cents=-line.withdrawn_cents)
        return self._not_ours(line)

    def _could_be(self, line: Line) -> list[KnownAttempt]:
        """Some of the payouts with an unknown end that this line may be."""
        keys = line.party.keys
        if keys is None:
            some: Iterable[KnownAttempt] = self.unended.get(line.withdrawn_cents, ())
        else:
            some = chain.from_iterable(self.unended_by_end.get((line.withdrawn_cents, end), ()) for end in keys)
            some = chain(some, self.forgotten.get(line.withdrawn_cents, ()))
        fits = (one for one in some if one.id not in self.taken and _may_go_to(line, one) and _in_time(line, one))
        return list(islice(fits, NAMED))

    def _not_ours(self, line: Line) -> StatementFinding:
        why = "money went out that is no payout here"
        twins = (one for end in line.party.ends for one in self.paid_by_end.get((line.withdrawn_cents, end), ()))
        twin = next((one for one in twins if line.party.is_surely(one.phone)), None)
        end = resolve(line)
        if line.kind is not LineKind.PAYOUT:
            why += f": {line.reason or 'no reason is given'}"
        if twin is not None:
            why += f"; the same receiver had the same amount by {twin.payout_id}, receipt {twin.receipt}"
            end = resolve(line, "receivable", twin.user_id)
        is_payment, cents = line.kind is LineKind.PAYOUT, -line.withdrawn_cents
        return StatementFinding(line, LineVerdict.UNMATCHED_OUT, why, end, suspense_cents=cents, is_payment=is_payment)

    def _failed(self, line: Line) -> StatementFinding:
        """No money moved by this line. It ends nothing: what is unknown is M-Pesa's to say, not a failed line's."""
        attempt = self.by_receipt.get(line.receipt) or self._named(line)
        is_ours = attempt is not None and attempt.status in PAID and line.receipt == attempt.receipt
        if attempt is not None and is_ours and attempt.id not in self.taken:
            self.taken[attempt.id] = line
            why = f"{attempt.payout_id} counts as paid by {line.receipt}, and the statement says it failed"
            return self._payment(line, LineVerdict.FAILED_HERE, why, CLOSE, attempt=attempt)
        return StatementFinding(line, LineVerdict.FAILED, "no money moved")

    def _charge(self, line: Line, attempt: KnownAttempt) -> StatementFinding:
        cents = line.withdrawn_cents
        in_books = self.known.charges_paid.get(attempt.id)
        if attempt.id in self.charged or in_books not in (None, cents):
            why, end = f"a second charge for {attempt.payout_id}", resolve(line, "charges")
            return StatementFinding(line, LineVerdict.CHARGE_UNMATCHED, why, end, suspense_cents=-cents)
        self.charged.add(attempt.id)
        if in_books is not None:
            return StatementFinding(line, LineVerdict.MATCHED, "the books have this charge", attempt=attempt)
        due = self.known.charges_due.get(attempt.id)
        expected = due
        if due is None and self.known.tariff is not None:
            expected = self.known.tariff.charge_cents(attempt.wire_cents)
        differs = expected is not None and expected != cents
        why = f"what M-Pesa took for {attempt.payout_id}"
        if differs:
            why += f": KES {format_kes(cents)}, and KES {format_kes(expected or 0)} was expected"
        verdict = LineVerdict.CHARGE_DIFFERS if differs else LineVerdict.CHARGE
        found = StatementFinding(line, verdict, why, attempt=attempt, due_cents=cents)
        return found if due is None else replace(found, due_cents=due, due_is_booked=True)

    def _came_back(self, line: Line, attempt: KnownAttempt) -> StatementFinding:
        cents, name, receipt = line.paid_in_cents, attempt.payout_id, attempt.receipt or ""
        if receipt in self.known.came_back:
            return StatementFinding(line, LineVerdict.MATCHED, "the books have its return", attempt=attempt)
        is_debt = receipt in self.known.overpaid
        if attempt.id in self.came_back:
            why, end = f"the money of {name} came back a second time", resolve(line)
        elif cents != attempt.wire_cents:
            sent = format_kes(attempt.wire_cents)
            why = f"KES {format_kes(cents)} came back of {name}, which was sent with KES {sent}"
            end = resolve(line, "wallet", attempt.user_id)
        elif is_debt or attempt.status is AttemptStatus.SUCCEEDED or attempt.id in self.taken:
            self.came_back.add(attempt.id)
            if is_debt:
                why = f"the second payment of {name} came back"
                return StatementFinding(line, LineVerdict.PAID_BACK, why, CLOSE, attempt)
            why = f"the money of {name} came back; it stands in the wallet"
            return StatementFinding(
                line, LineVerdict.RETURNED, why, f"kasoko payout again {name} --reason WHY", attempt
            )
        else:
            why, end = f"money came back of {name}, which is {attempt.payout_status}", resolve(line)
        end = f"{end}; then: {CLOSE}"
        return StatementFinding(line, LineVerdict.WRONG_RETURN, why, end, attempt, suspense_cents=cents)

    def _came_in(self, line: Line) -> StatementFinding:
        cents = line.paid_in_cents
        if self.known.deposits.get(line.receipt) == cents:
            return StatementFinding(line, LineVerdict.DEPOSIT, "a deposit that the books have")
        for name in (line.receipt, line.account):
            if self.known.stakes.get(name) == cents:
                return StatementFinding(line, LineVerdict.STAKE, f"the stake of the bet {name}")
        if line.kind is LineKind.CUSTOMER and self.known.customers_are_counted:
            return StatementFinding(line, LineVerdict.STAKE, "a customer's payment, which the platform has counted")
        why = "money came in, and neither a deposit nor a stake here says so"
        if (booked := self.known.deposits.get(line.receipt)) is not None:
            why = f"the books have this deposit with KES {format_kes(booked)}"
            cents -= booked
        return StatementFinding(line, LineVerdict.UNMATCHED_IN, why, resolve(line), suspense_cents=cents)

    # --- What no line speaks of -------------------------------------------------------------------------------------

    def missing(self) -> Iterator[StatementFinding]:
        """Payments of ours that are on no line."""
        mentions = self._mentions()
        rivals = _Rivals(line for line in self.file.lines if self._is_in_question(line))
        for one in self.known.attempts:
            if one.id in self.taken:
                continue
            first, last = could_move(one)
            if one.status in PAID:
                # It was paid between its request and our knowledge of that: the whole of it has to be covered.
                if self.known.span.covers(first, max(one.status_at, one.sent_at)):
                    why = f"{one.payout_id} counts as paid by {one.receipt}, and the statement does not have it"
                    why += "" if self.file.whole else "; but lines of the statement are missing"
                    yield StatementFinding(None, LineVerdict.NOT_ON_STATEMENT, why, CLOSE, one, is_payment=True)
            elif is_open_ended(one):
                lines = list({line.number: line for line in (*mentions.get(one.id, ()), *rivals.of(one))}.values())
                yield self._still_unknown(one, lines) if lines else self._silence(one, first, last)

    def _is_in_question(self, line: Line) -> bool:
        """Whether a line is, or may become, money that went out for a payment that is not certain."""
        if not line.withdrawn_cents or line.status is LineStatus.FAILED:
            return False
        if line.status is LineStatus.PENDING:
            return True
        # A charge that is tied to its payment by a link only, and not by its receipt, is one by its words.
        return self.found[line.number].verdict not in CLEAR or line.receipt not in self.by_receipt

    def _mentions(self) -> dict[str, list[Line]]:
        """Lines that name a payment of ours which they are not: what it costs is only charged where it is made."""
        found: dict[str, list[Line]] = {}
        if any(is_open_ended(one) and one.id not in self.taken for one in self.known.attempts):
            for line in self.file.lines:
                moves = line.withdrawn_cents and line.status is not LineStatus.FAILED
                if moves and (one := self._named(line)) is not None:
                    found.setdefault(one.id, []).append(line)
        return found

    def _still_unknown(self, attempt: KnownAttempt, lines: Sequence[Line]) -> StatementFinding:
        """An attempt that a line may be, which names it too from now on."""
        name = attempt.payout_id
        for line in lines[:NAMED]:
            finding = self.found[line.number]
            if name not in finding.why:
                why = f"{finding.why}; it may be {name}, of which nobody knows the end"
                self.found[line.number] = replace(finding, why=why)
        said = " or ".join(f"{line.receipt} (line {line.number})" for line in lines[:NAMED])
        why = f"no line is {name} for certain, and {said} may be it"
        return StatementFinding(None, LineVerdict.STILL_UNKNOWN, why, _ending(attempt), attempt, is_payment=True)

    def _silence(self, attempt: KnownAttempt, first: datetime, last: datetime) -> StatementFinding:
        """An attempt whose end nobody knows, and which no line may be."""
        name, verdict = attempt.payout_id, LineVerdict.STILL_UNKNOWN
        why_not = self._not_paid_unless(attempt, first, last)
        why, end = f"no line is {name}, and {why_not}", _ending(attempt)
        if why_not is None:
            verdict, end = LineVerdict.ENDED_NOT_PAID, f"kasoko payout retry {name}"
            why = f"{name} was unknown; the statement and M-Pesa's answers know no such payment"
        return StatementFinding(None, verdict, why, end, attempt, is_payment=True)

    def _not_paid_unless(self, attempt: KnownAttempt, first: datetime, last: datetime) -> str | None:
        """Why the silence of this statement is no proof that an attempt was not paid; None where it is one."""
        span = self.known.span
        if attempt.status is AttemptStatus.INTENT:
            return "it is being sent"
        if not span.covers(first, last):
            return f"the statement covers {iso(span.first)} to {iso(span.last)} only"
        if not self.file.whole:
            return "its balances do not follow one from another, or its totals do not add up, so lines may be missing"
        if not self.known.account.is_shown:
            return "nothing in it shows that it is of our account"
        if self.known.account_id is None or attempt.account_id != self.known.account_id:
            return "nobody wrote down that the account that it is of made this payment"
        if is_restored(attempt):
            return None
        answers = self.known.answers.get(attempt.id, ())
        unknown_there = [at for at, answer in answers if answer == "NOT_FOUND"]
        if not unknown_there or answers[-1][1] != "NOT_FOUND":
            return "M-Pesa, asked, has not said that it knows no such payment"
        if unknown_there[-1] - unknown_there[0] < QUIET:
            return "M-Pesa has said only once, or too soon, that it knows no such payment"
        if unknown_there[-1] > span.last:
            return "the statement ends before M-Pesa's last answer"
        return None

    # --- Pieces -----------------------------------------------------------------------------------------------------

    def _payment(
        self,
        line: Line,
        verdict: LineVerdict,
        why: str,
        command: str = "",
        *,
        attempt: KnownAttempt | None = None,
        suspense_cents: int = 0,
    ) -> StatementFinding:
        """A finding about a line that counts as a payment to a customer: the first one of an attempt is that."""
        found = StatementFinding(line, verdict, why, command, attempt, suspense_cents=suspense_cents, is_payment=True)
        is_repeat = attempt is not None and self.taken.get(attempt.id, line) is not line
        return replace(found, is_repeat=is_repeat)


class _Rivals:
    """Lines whose payment is not certain, found by the payout that each may be."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.anybodys: dict[int, list[Line]] = {}
        self.by_end: dict[tuple[int, str], list[Line]] = {}
        self.by_cents: dict[int, list[Line]] = {}
        for line in lines:
            self.by_cents.setdefault(line.withdrawn_cents, []).append(line)
            keys = line.party.keys
            if keys is None:
                self.anybodys.setdefault(line.withdrawn_cents, []).append(line)
            for end in keys or ():
                self.by_end.setdefault((line.withdrawn_cents, end), []).append(line)

    def of(self, attempt: KnownAttempt) -> list[Line]:
        """Some of the lines that this attempt may be."""
        cents, first, last = attempt.wire_cents, *could_move(attempt)
        if attempt.phone.startswith(ERASED) or is_restored(attempt):
            some: Iterable[Line] = self.by_cents.get(cents, ())
        else:
            some = chain(self.anybodys.get(cents, ()), self.by_end.get((cents, attempt.phone[-3:]), ()))
        fits = (
            line
            for line in some
            if _may_go_to(line, attempt)
            and any(
                first - TIMES_DIFFER <= at <= last + TIMES_DIFFER for at in (line.initiated_at, line.completed_at) if at
            )
        )
        return list(islice(fits, NAMED))


def _may_go_to(line: Line, attempt: KnownAttempt) -> bool:
    """Whether its receiver may be the attempt's: to which number a forgotten request went, nobody knows."""
    return is_restored(attempt) or line.party.may_be(attempt.phone)


def _in_time(line: Line, attempt: KnownAttempt) -> bool:
    first, last = could_move(attempt)
    return first <= (line.initiated_at or line.completed_at) <= last


def _payouts(attempts: Iterable[KnownAttempt]) -> list[str]:
    return sorted({one.payout_id for one in attempts})


def _ending(attempt: KnownAttempt) -> str:
    """What a person can do for an attempt that stays unknown."""
    if is_restored(attempt):
        return "kasoko doctor --after-restore"
    if attempt.status is AttemptStatus.INTENT:
        return ASK
    return f"{ASK}; what M-Pesa does not answer, by its portal: {decide(attempt.payout_id)}"


def _payment_among(lines: Sequence[Line], attempt: KnownAttempt) -> Line | None:
    """Which line of a receipt is this payment: by amount and receiver, and by words only where these leave it open.

    None where all that is there has another amount, and its words say that it is a charge.
    """

    def likeness(line: Line) -> tuple[bool, bool, bool, int]:
        has_amount = line.withdrawn_cents == attempt.wire_cents
        return has_amount, line.party.may_be(attempt.phone), line.kind is LineKind.PAYOUT, -line.number

    likest = max(lines, key=likeness)
    if likest.withdrawn_cents == attempt.wire_cents:
        return likest
    return max((line for line in lines if line.kind is not LineKind.CHARGE), key=likeness, default=None)


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
    if len(lines) != len(attempts):
        return None
    ordered = sorted(attempts, key=lambda one: (one.sent_at, one.id))
    pairs = list(zip(sorted(lines, key=lambda line: (line.completed_at, line.number)), ordered, strict=True))
    return pairs if all(one in candidates[line.number] for line, one in pairs) else None
