"""Take a statement of M-Pesa in: compare it with the books and the results, and book what it alone can say.

Each line is taken in once, by a key that it has in every file; the same file again changes nothing. What it
proves ends payouts (`transitions`), what it charges is booked, and money that matches nothing goes to suspense,
where it stands until a person says what it was. Nothing is ever sent here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlmodel import Session

from kasoko_cli.clock import CLOCKS_APART, Clock
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.domain.phone import mask
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.ledger.chart import OWNED, Account
from kasoko_cli.ledger.journal import Entry
from kasoko_cli.operations.reconciliation.statement_findings import (
    AGREED,
    CLOSE,
    CONTRADICTS,
    LATEST,
    KnownBooks,
    LineVerdict,
    StatementFinding,
    is_restored,
    more_than_owed,
)
from kasoko_cli.operations.reconciliation.statement_keys import with_known_keys
from kasoko_cli.operations.reconciliation.statement_matching import match
from kasoko_cli.operations.reconciliation.statement_owner import Proven, prove
from kasoko_cli.operations.reconciliation.statement_parser import LineKind, Span, StatementFile
from kasoko_cli.operations.reconciliation.statement_rows import SkippedRow
from kasoko_cli.operations.safeguards import payment_guard, restore_doubt
from kasoko_cli.operations.safeguards.payment_guard import Caution, Way
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import Actor, needs_reason, note_act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.from_row import from_row
from kasoko_cli.operations.shared.transitions import Success
from kasoko_cli.store import accounts, attempts, payouts, statements, users
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.locking import Turn, take_turn
from kasoko_cli.store.log import KnownIncident, incidents_by_key, raise_incident
from kasoko_cli.store.schema.tables import Statement, StatementLine
from kasoko_cli.store.statements import KnownAttempt

#: How many lines one transaction takes in.
BATCH = 500

#: Kinds of entries that are taken back with their statement, and may be posted again after that.
TAKEN_BACK = frozenset({"suspense", "suspense_resolve", "charge", "charge_paid"})
#: How it is written down that a statement's silence ended a payout.
SILENCE = "statement.not_paid"


@dataclass(frozen=True, slots=True)
class Side:
    """How many payments, and their sum in cents."""

    count: int
    amount_cents: int


@dataclass(frozen=True, slots=True)
class ThreeWay:
    """The payouts of one time as three witnesses have them, and what no difference explains: always nothing."""

    ledger: Side
    results: Side
    statement: Side
    unexplained_cents: int


@dataclass(frozen=True, slots=True)
class StatementDifference:
    """One thing that the three do not say alike, why, and what resolves it; `open` where a person has to act."""

    line: int | None
    receipt: str | None
    payout_id: str | None
    phone: str | None
    kind: str
    why: str
    command: str
    ledger_cents: int
    results_cents: int
    statement_cents: int
    open: bool


@dataclass(frozen=True, slots=True)
class StatementReport:
    """What a statement said, and what was done with it. Times are UTC, amounts cents.

    `says_from`, `says_to` and `made_at` are what the file says of itself, where it does; what it is believed to
    cover, by what it shows, is `covers_from` and `covers_to`. `account_proof` is what shows that it is of `account`.
    `left_out` are its rows that are no movements; `sheet` is the one that was read where a workbook has several.
    """

    file: str
    digest: str
    lines: int
    new_lines: int
    says_from: datetime | None
    says_to: datetime | None
    made_at: datetime | None
    covers_from: datetime
    covers_to: datetime
    account: str | None
    account_proof: str
    whole: bool
    broken_at: int | None
    left_out: tuple[SkippedRow, ...]
    sheet: str | None
    opening_cents: int | None
    closing_cents: int | None
    utility_cents: int
    taken_at: datetime | None
    is_new: bool
    payouts: ThreeWay
    by_verdict: Mapping[str, Side]
    suspense_cents: int
    differences: list[StatementDifference]
    open: int


@dataclass(frozen=True, slots=True)
class StatementRules:
    """How a statement is to be judged.

    `shortcode` is that of the account that pays, `said_account` the one that an operator gave for the statement.
    `customers_are_counted` says that its customers' payments are stakes which the platform has counted. A charge that
    is another than `tariff` says is reported.
    """

    shortcode: str | None
    customers_are_counted: bool
    said_account: str | None = None
    caution: Caution = payment_guard.CAREFUL
    tariff: Tariff | None = None


@dataclass(frozen=True, slots=True)
class _Judged:
    """A statement compared: whose it is, what it covers, what each line of it says, which lines were known."""

    account: Proven
    account_id: int | None
    span: Span
    findings: list[StatementFinding]
    known: Mapping[str, statements.KnownLine]


def plan_statement(db: Database, clock: Clock, file: StatementFile, rules: StatementRules) -> StatementReport:
    """Compare a statement and write nothing.

    Raises:
        NobodysStatement: nothing shows that it is of the account that pays.
        Refused: it is of another account, or in another currency.
    """
    now = clock()
    with db.reading() as session:
        file = _under_known_keys(session, file)
        judged = _judge(session, file, rules, now)
        taken = statements.find_statement(session, file.digest)
        return _report(session, file, judged, taken, is_new=taken is None)


def take_statement(
    ctx: OperationContext,
    file: StatementFile,
    rules: StatementRules,
    *,
    on_progress: Callable[[int], None] = lambda _: None,
) -> StatementReport:
    """Compare a statement, end what it proves, book what it charges, and put what matches nothing into suspense.

    `on_progress` is called with how many findings are dealt with.

    Raises:
        NobodysStatement: nothing shows that it is of the account that pays.
        Refused: it is of another account, or in another currency.
    """
    payment_guard.judge_first(ctx.db, ctx.clock, rules.caution)
    now = ctx.clock()
    with ctx.db.reading() as session:
        file = _under_known_keys(session, file)
        judged = _judge(session, file, rules, now)
    with ctx.db.transaction() as session:
        take_turn(session, Turn.STATEMENT)
        taken = statements.find_statement(session, file.digest)
        if taken is None:
            taken = _new_statement(file, judged.span, ctx.actor, now)
        elif taken.undone_at is not None:
            taken.takes, taken.taken_at, taken.actor = taken.takes + 1, now, ctx.actor.name
            taken.covers_from, taken.covers_to = judged.span.first, judged.span.last
            taken.done_at = taken.undone_at = None
        if taken.done_at is None:
            taken.account_id = judged.account_id or None
        session.add(taken)
        session.flush()
        assert taken.id is not None
        was_done, take = taken.done_at is not None, Take(taken.id, Take.mark_of(taken), ctx.actor, rules.caution)
    if not was_done:
        _take_lines(ctx.db, ctx.clock, take, judged.findings, on_progress)
        with ctx.db.transaction() as session:
            _note_done(session, ctx.actor, file, judged.account, ctx.clock())
    with ctx.db.reading() as session:
        row = statements.find_statement(session, file.digest)
        return _report(session, file, judged, row, is_new=not was_done)


class _Batch(NamedTuple):
    """The transaction in which some findings are applied, the taking in that they are of, and its time."""

    session: Session
    take: Take
    now: datetime


@dataclass(frozen=True, slots=True)
class Take:
    """One taking in of a statement: its number, its mark, and who does it how carefully."""

    statement_id: int
    mark: str
    actor: Actor
    caution: Caution

    @staticmethod
    def mark_of(row: Statement) -> str:
        """What stands with everything that the latest taking in did, to find that again."""
        return f"statement:{row.id}:{row.takes}"


def _note_done(session: Session, actor: Actor, file: StatementFile, account: Proven, now: datetime) -> None:
    row = statements.find_statement(session, file.digest)
    if row is None or row.done_at is not None:
        return
    row.done_at = now
    detail = {"digest": file.digest, "lines": len(file.lines), "account": account.shortcode, "proof": str(account.by)}
    note_act(session, actor, "statement.take", f"statement:{row.id}", at=now, detail=detail)


def _new_statement(file: StatementFile, span: Span, actor: Actor, now: datetime) -> Statement:
    return Statement(
        digest=file.digest,
        name=file.name,
        lines=len(file.lines),
        covers_from=span.first,
        covers_to=span.last,
        is_whole=file.whole,
        opening_cents=file.opening_cents,
        closing_cents=file.closing_cents,
        actor=actor.name,
        taken_at=now,
    )


# --- What is known --------------------------------------------------------------------------------------------


def _under_known_keys(session: Session, file: StatementFile) -> StatementFile:
    """The file with its lines under the keys by which they are known from another export."""
    return replace(file, lines=with_known_keys(session, file.lines, {line.key for line in file.lines}))


def _judge(session: Session, file: StatementFile, rules: StatementRules, now: datetime) -> _Judged:
    named = [name for line in file.lines for name in (line.receipt, line.linked) if name]
    account_id = accounts.of_statement(session, rules.shortcode)
    attempts = statements.attempts_around(
        session,
        named,
        account_id=account_id,
        since=file.lines[0].completed_at - LATEST - CLOCKS_APART,
        until=file.lines[-1].completed_at + CLOCKS_APART + timedelta(seconds=1),
    )
    account = prove(file, attempts, shortcode=rules.shortcode, said=rules.said_account)
    span = file.span(now)
    receipts = [one.receipt for one in attempts if one.receipt]
    due = _posted(session, (f"attempt:{one.id}:charge" for one in attempts), Account.CHARGES_DUE)
    paid = _posted(session, (f"attempt:{one.id}:charge_paid" for one in attempts), Account.UTILITY)
    over = _posted(session, (f"overpaid:{one}" for one in receipts), Account.UTILITY)
    back = _posted(session, (f"recover:{one}" for one in receipts), Account.UTILITY)
    returned = {one.receipt for one in attempts if one.status is AttemptStatus.RETURNED and one.receipt}
    came_in = [line for line in file.lines if line.paid_in_cents]
    deposits = _posted(session, (f"deposit:{line.receipt}" for line in came_in), Account.UTILITY)
    names = (name for line in came_in for name in (line.receipt, line.account) if name)
    known = KnownBooks(
        attempts=attempts,
        account=account,
        account_id=account_id,
        span=span,
        charges_due={attempt_id: -cents for attempt_id, cents in due.items()},
        charges_paid={attempt_id: -cents for attempt_id, cents in paid.items()},
        overpaid=frozenset(over.keys() - back.keys()),
        came_back=frozenset(returned | back.keys()),
        deposits=deposits,
        stakes=statements.collected_stakes(session, names),
        answers=statements.answers_about(session, (one.id for one in attempts if one.receipt is None), now),
        customers_are_counted=rules.customers_are_counted,
        tariff=rules.tariff,
    )
    lines = statements.known_lines(session, (line.key for line in file.lines))
    found = _no_more_than_owed(session, match(file, known))
    return _Judged(account, account_id, span, _past_the_guard(session, found, rules.caution, now), lines)


def _posted(session: Session, keys: Iterable[str], account: Account) -> dict[str, int]:
    """What entries posted to an account, by the second part of their key: what they are about."""
    return {key.split(":")[1]: cents for key, cents in statements.posted_under(session, keys, account).items()}


def _way_of(finding: StatementFinding) -> Way | None:
    """The way out to money that a finding asks for, if any: what it frees or gives back."""
    if finding.verdict is LineVerdict.ENDED_NOT_PAID and finding.attempt is not None:
        return Way.LET_GO if is_restored(finding.attempt) else Way.STATEMENT_NOT_PAID
    return Way.STATEMENT_RETURNED if finding.verdict is LineVerdict.RETURNED else None


def _past_the_guard(
    session: Session, findings: Sequence[StatementFinding], caution: Caution, now: datetime
) -> list[StatementFinding]:
    """The same, where what the guard objects to stays open."""
    of_way: dict[Way, set[str]] = {}
    for one in findings:
        if one.attempt is not None and (way := _way_of(one)) is not None:
            of_way.setdefault(way, set()).add(one.attempt.payout_id)
    against = {
        way: payment_guard.objections(session, way, payouts.by_ids(session, sorted(ids)), caution, now=now)
        for way, ids in of_way.items()
    }
    kept = []
    for one in findings:
        way = _way_of(one)
        found = None if way is None or one.attempt is None else against[way].get(one.attempt.payout_id)
        if found is not None:
            why = f"{one.why}, but {found.why}"
            one = replace(one, verdict=LineVerdict.STILL_UNKNOWN, why=why, command=found.hint)
        kept.append(one)
    return kept


# --- Taking it in ---------------------------------------------------------------------------------------------


def _take_lines(
    db: Database, clock: Clock, take: Take, findings: Sequence[StatementFinding], on_progress: Callable[[int], None]
) -> None:
    keys = {one.line.key for one in findings if one.line is not None}
    for start in range(0, len(findings), BATCH):
        part = findings[start : start + BATCH]
        now = clock()
        with db.transaction() as session:
            take_turn(session, Turn.STATEMENT)
            # Another export of the same movements may have been taken in since the books were read.
            moved = with_known_keys(session, [one.line for one in part if one.line is not None], keys)
            again = {line.number: line for line in moved}
            part = [one if one.line is None else replace(one, line=again[one.line.number]) for one in part]
            batch = _Batch(session, take, now)
            lines = {one.line.key: one for one in part if one.line is not None}
            known = statements.known_lines(session, lines)
            fresh = [one for key, one in lines.items() if key not in known]
            # What was left open before may be clear now: a line that several payouts could have been.
            clearer = [
                one
                for key, one in lines.items()
                if key in known and known[key].verdict == LineVerdict.AMBIGUOUS != one.verdict
            ]
            silent = [one for one in part if one.line is None]
            entries: list[Entry] = []
            paid_back = [one for one in fresh if one.verdict is LineVerdict.PAID_BACK]
            fresh = _with_charges_booked_since(
                session, [one for one in fresh if one.verdict is not LineVerdict.PAID_BACK]
            )
            bulk_rows.insert_rows(session, StatementLine, [_row(take.statement_id, one) for one in fresh])
            for one in clearer:
                assert one.line is not None
                statements.judge_again(session, one.line.key, _row(take.statement_id, one))
            # Rows are locked in one order by everybody who locks several.
            by_payout = sorted([*fresh, *clearer], key=lambda one: one.attempt.payout_id if one.attempt else "")
            for one in by_payout + silent:
                entries += _apply(batch, one)
            # Users are locked after payouts, as everybody does.
            users.lock_wallets(session, {one.attempt.user_id for one in paid_back if one.attempt is not None})
            paid_back = _no_more_than_owed(session, paid_back)
            bulk_rows.insert_rows(session, StatementLine, [_row(take.statement_id, one) for one in paid_back])
            for one in paid_back:
                entries += _apply(batch, one)
            book.post(session, *posted_again(session, entries), at=now)
        on_progress(min(start + BATCH, len(findings)))


def _with_charges_booked_since(session: Session, findings: Sequence[StatementFinding]) -> list[StatementFinding]:
    """The same, where a charge may have come to be expected since the books were read."""
    new = {f"attempt:{one.attempt.id}:charge" for one in findings if one.attempt is not None and _is_new_charge(one)}
    booked = statements.posted_under(session, new, Account.CHARGES_DUE)
    return [
        replace(one, due_cents=-booked[key], due_is_booked=True)
        if one.attempt is not None and (key := f"attempt:{one.attempt.id}:charge") in booked and _is_new_charge(one)
        else one
        for one in findings
    ]


def posted_again(session: Session, entries: Sequence[Entry]) -> list[Entry]:
    """The same entries, those of a statement under a number where one with their key was taken back."""
    keys = statements.standing_keys(session, (one.key for one in entries if one.kind in TAKEN_BACK))
    return [replace(one, key=keys.get(one.key, one.key)) for one in entries]


def _no_more_than_owed(session: Session, findings: Sequence[StatementFinding]) -> list[StatementFinding]:
    """The same, but where a second payment came back, no more of it pays off a debt than its user still owes.

    What was given up or recovered before is no debt any more: the rest goes to suspense, and a person says whose it is.
    """
    owed: dict[str, int] = {}
    found = []
    for one in findings:
        known = one.attempt
        if (
            known is None
            or one.verdict is not LineVerdict.PAID_BACK
            or book.is_posted(session, f"recover:{known.receipt}")
        ):
            found.append(one)
            continue
        if known.user_id not in owed:
            owed[known.user_id] = max(book.balance(session, Account.RECEIVABLE, known.user_id), 0)
        paid_off = min(known.wire_cents, owed[known.user_id])
        owed[known.user_id] -= paid_off
        found.append(more_than_owed(one, known.wire_cents - paid_off))
    return found


def _is_new_charge(finding: StatementFinding) -> bool:
    return finding.verdict in (LineVerdict.CHARGE, LineVerdict.CHARGE_DIFFERS) and not finding.due_is_booked


def _row(statement_id: int, finding: StatementFinding) -> dict[str, object]:
    line = finding.line
    assert line is not None
    return {
        "key": line.key,
        "statement_id": statement_id,
        "line": line.number,
        "receipt": line.receipt,
        "completed_at": line.completed_at,
        "status": str(line.status),
        "kind": str(LineKind.PAYOUT if finding.is_payment else line.kind),
        "reason": line.reason,
        "party": line.party.masked,
        "paid_in_cents": line.paid_in_cents,
        "withdrawn_cents": line.withdrawn_cents,
        "attempt_id": None if finding.attempt is None else finding.attempt.id,
        "verdict": str(finding.verdict),
        "why": finding.why,
        "suspense_cents": finding.suspense_cents,
    }


def _apply(batch: _Batch, finding: StatementFinding) -> tuple[Entry, ...]:
    """Do what one finding asks for; returns the entries that follow from it."""
    session, take, now = batch
    if finding.verdict in CONTRADICTS:
        _raise(session, finding, now)
    line, known = finding.line, finding.attempt
    entries: tuple[Entry, ...] = ()
    if finding.suspense_cents:
        assert line is not None
        entries = (journal.suspended(line.key, finding.suspense_cents),)
    if known is None or finding.verdict not in _EFFECTS:
        return entries
    if (way := _way_of(finding)) is not None:
        payout = payouts.find_payout(session, known.payout_id, lock=True)
        if payment_guard.objections(session, way, [payout], take.caution, now=now):
            return entries  # something has spoken meanwhile: it stays open
    return entries + _EFFECTS[finding.verdict](batch, finding, known)


def _raise(session: Session, finding: StatementFinding, now: datetime) -> None:
    where = "" if finding.line is None else f" (receipt {finding.line.receipt})"
    raise_incident(
        session,
        key=statements.incident_key(session, _incident_key(finding)),
        kind="statement",
        what=f"M-Pesa's statement differs{where}: {finding.why}.",
        at=now,
        payout_id=None if finding.attempt is None else finding.attempt.payout_id,
        attempt_id=None if finding.attempt is None else finding.attempt.id,
    )


def _incident_key(finding: StatementFinding) -> str:
    name = finding.line.key if finding.line is not None else finding.attempt.id if finding.attempt is not None else ""
    return f"statement:{finding.verdict}:{name}"


def _paid(batch: _Batch, finding: StatementFinding, known: KnownAttempt) -> tuple[Entry, ...]:
    assert finding.line is not None
    session = batch.session
    attempt, payout = transitions.lock(session, known.id)
    if attempts.receipt_owner(session, finding.line.receipt) not in (None, attempt.id):
        return ()  # a result has said meanwhile which payment it proves
    success = Success(attempt, payout, finding.line.receipt, f"statement:{finding.line.key}")
    return transitions.paid(session, [success], at=batch.now)[0].entries


def _not_paid(batch: _Batch, finding: StatementFinding, known: KnownAttempt) -> tuple[Entry, ...]:
    """Nobody knows such a payment: under the same id where M-Pesa never took it, so that it refuses it if we err."""
    session, take, now = batch
    attempt, payout = transitions.lock(session, known.id)
    if attempt.status is not known.status or attempt.lease_token != known.lease_token:
        return ()  # something else has spoken meanwhile
    detail = {"take": take.mark, "attempt": known.id, "sends": attempt.sends}
    if is_restored(known):
        detail |= {"restored": known.lease_token, "held": payout.note if payout.status is PayoutStatus.HELD else None}
        detail |= {"silent": restore_doubt.silent(session, payout)}
    note_act(session, take.actor, SILENCE, payout.id, at=now, detail=detail)
    if is_restored(known):
        why = "a statement covers the time, and it has no such line"
        restore_doubt.go_on(session, payout, take.actor, take.caution.confirm, why=why, at=now)
        return ()
    say = transitions.never_taken if attempt.conversation_id is None else transitions.not_paid
    evidence = "statement:no line, and M-Pesa knows no such payment"
    failure = transitions.Failure(transitions.NOT_ON_STATEMENT, finding.why, evidence)
    return say(session, attempt, failure, at=now).entries


def _returned(batch: _Batch, finding: StatementFinding, known: KnownAttempt) -> tuple[Entry, ...]:
    assert finding.line is not None
    session, take, now = batch
    attempt, payout = transitions.lock(session, known.id)
    if payout.status is not PayoutStatus.COMPLETED:
        return ()
    why = f"came back by {finding.line.receipt}, as the statement says"
    detail = {"receipt": finding.line.receipt, "attempt": attempt.id, "line": finding.line.key}
    note_act(session, take.actor, "payout.returned", payout.id, at=now, detail=detail)
    return transitions.returned(session, attempt, payout, at=now, why=why).entries


def _paid_back(batch: _Batch, finding: StatementFinding, known: KnownAttempt) -> tuple[Entry, ...]:
    assert known.receipt is not None
    if book.is_posted(batch.session, f"recover:{known.receipt}"):
        return ()  # a person wrote it down meanwhile
    paid_off = known.wire_cents - finding.suspense_cents
    return (journal.recovered(known.receipt, known.user_id, paid_off, Account.UTILITY),) if paid_off else ()


def _charge(_batch: _Batch, finding: StatementFinding, known: KnownAttempt) -> tuple[Entry, ...]:
    assert finding.line is not None
    expected = () if finding.due_is_booked else (journal.charged(known.id, finding.due_cents),)
    return (*expected, journal.charge_paid(known.id, finding.due_cents, finding.line.withdrawn_cents))


_EFFECTS: Mapping[LineVerdict, Callable[[_Batch, StatementFinding, KnownAttempt], tuple[Entry, ...]]] = {
    LineVerdict.ENDED_PAID: _paid,
    LineVerdict.LATE_SUCCESS: _paid,
    LineVerdict.ENDED_NOT_PAID: _not_paid,
    LineVerdict.RETURNED: _returned,
    LineVerdict.PAID_BACK: _paid_back,
    LineVerdict.CHARGE: _charge,
    LineVerdict.CHARGE_DIFFERS: _charge,
}


# --- Telling --------------------------------------------------------------------------------------------------


def _report(
    session: Session, file: StatementFile, judged: _Judged, taken: Statement | None, *, is_new: bool
) -> StatementReport:
    findings, period = judged.findings, file.lead.period
    withdrawn = statements.withdrawn_incidents(session)
    known = statements.known_lines(session, (line.key for line in file.lines))
    resolved = {line.key for line in known.values() if line.is_resolved}
    incidents = {
        base: found
        for key, found in incidents_by_key(session).items()
        if (base := statements.base_of(key)) is not None and found.number not in withdrawn
    }
    differences = [_difference(one, resolved, incidents) for one in findings if one.verdict not in AGREED]
    said: dict[LineVerdict, list[int]] = {}
    for one in findings:
        said.setdefault(one.verdict, []).append(abs(one.statement_cents) or one.ledger_cents)
    return StatementReport(
        file=file.name,
        digest=file.digest,
        lines=len(file.lines),
        new_lines=sum(line.key not in judged.known for line in file.lines),
        says_from=None if period is None else period[0],
        says_to=None if period is None else period[1],
        made_at=file.lead.made_at,
        covers_from=judged.span.first,
        covers_to=judged.span.last,
        account=judged.account.shortcode,
        account_proof=str(judged.account.by),
        whole=file.whole,
        broken_at=file.broken_at,
        left_out=file.left_out,
        sheet=file.sheet,
        opening_cents=file.opening_cents,
        closing_cents=file.closing_cents,
        utility_cents=book.balance(session, Account.UTILITY),
        taken_at=None if taken is None else taken.taken_at,
        is_new=is_new,
        payouts=_three_ways(findings),
        by_verdict={str(verdict): _side(said[verdict]) for verdict in LineVerdict if verdict in said},
        suspense_cents=-book.balance(session, Account.SUSPENSE),
        differences=differences,
        open=sum(one.open for one in differences),
    )


def _difference(
    finding: StatementFinding, resolved: set[str], incidents: Mapping[str, KnownIncident]
) -> StatementDifference:
    line, attempt = finding.line, finding.attempt
    raised = incidents.get(_incident_key(finding))
    if finding.suspense_cents:
        is_resolved = line is not None and line.key in resolved
    else:
        is_resolved = raised is not None and raised.is_closed
    return StatementDifference(
        line=None if line is None else line.number,
        receipt=line.receipt if line is not None else attempt.receipt if attempt is not None else None,
        payout_id=None if attempt is None else attempt.payout_id,
        phone=line.party.masked if line is not None else mask(attempt.phone) if attempt is not None else None,
        kind=str(finding.verdict),
        why=f"{finding.why}; resolved by a person" if is_resolved else finding.why,
        command="" if is_resolved else _with_number(finding, raised, incidents),
        ledger_cents=finding.ledger_cents,
        results_cents=finding.results_cents,
        statement_cents=finding.statement_cents,
        open=finding.is_open and not is_resolved,
    )


def _with_number(
    finding: StatementFinding, raised: KnownIncident | None, incidents: Mapping[str, KnownIncident]
) -> str:
    """The command of a finding with the number of its incident: its own, or that of the payment it explains."""
    if CLOSE not in finding.command:
        return finding.command
    number = None if raised is None or raised.is_closed else raised.number
    if raised is None and finding.attempt is not None:
        kind = {LineVerdict.LATE_SUCCESS: "late_success", LineVerdict.PAID_BACK: "overpaid"}.get(finding.verdict)
        of_it = (one for one in incidents.values() if one.payout_id == finding.attempt.payout_id and one.kind == kind)
        number = next((one.number for one in of_it if not one.is_closed), None)
    return finding.command.replace(
        CLOSE, "kasoko incident list" if number is None else CLOSE.replace(" ID ", f" {number} ")
    )


def _side(cents: Iterable[int]) -> Side:
    amounts = list(cents)
    return Side(len(amounts), sum(amounts))


def _three_ways(findings: Sequence[StatementFinding]) -> ThreeWay:
    """The payouts as books, results and statement have them; what they differ by is what the findings say."""
    payments = [one for one in findings if one.is_payment]
    ledger = _side(one.ledger_cents for one in payments if one.ledger_cents)
    results = _side(one.results_cents for one in payments if one.results_cents)
    said = _side(one.statement_cents for one in payments if one.statement_cents)
    differing = (one for one in payments if one.verdict is not LineVerdict.MATCHED)
    explained = sum(one.statement_cents - one.ledger_cents for one in differing)
    return ThreeWay(ledger, results, said, said.amount_cents - ledger.amount_cents - explained)


# --- Suspense -------------------------------------------------------------------------------------------------

#: What money in suspense may turn out to be, and the account that it belongs to.
RESOLUTIONS: Mapping[str, Account] = {
    "bank": Account.BANK,  # moved between the bank and the M-Pesa account
    "capital": Account.CAPITAL,  # put in by the operator
    "draw": Account.DRAW,  # taken out by the operator
    "charges": Account.CHARGES,  # billed by M-Pesa, or given back by it
    "counted": Account.UTILITY,  # in the books already by another way, such as stakes of the platform
    "wallet": Account.WALLET,  # a user's deposit
    "receivable": Account.RECEIVABLE,  # a user owes it, or has given it back
    "write-off": Account.WRITE_OFF,  # nobody will ever know
}


@dataclass(frozen=True, slots=True)
class Suspended:
    """Money that matched nothing: in positive, out negative."""

    key: str
    receipt: str
    at: datetime
    party: str
    reason: str
    why: str
    amount_cents: int


def _suspended(line: StatementLine) -> Suspended:
    return from_row(Suspended, line, at=line.completed_at, amount_cents=line.suspense_cents)


def list_suspense(db: Database) -> list[Suspended]:
    """What stands on the suspense account, oldest first."""
    with db.reading() as session:
        return list(map(_suspended, statements.list_suspense(session)))


def resolve_suspense(ctx: OperationContext, *, name: str, resolution: str, user_id: str | None = None) -> Suspended:
    """Say what money in suspense was, once.

    Raises:
        NotFound: nothing in suspense has this name, or there is no such user.
        Refused: it was resolved before, no reason was given, or a user is missing or too many.
    """
    needs_reason(ctx.actor, "Resolving money in suspense")
    account = RESOLUTIONS[resolution]
    if (account in OWNED) != (user_id is not None):
        what = "needs --user" if account in OWNED else "is nobody's, so --user has no meaning"
        raise Refused(f"Money that is resolved as {resolution} {what}. Nothing was changed.")
    now = ctx.clock()
    with ctx.db.transaction() as session:
        line = statements.find_suspense(session, name)
        if user_id is not None:
            users.find_user(session, user_id, lock=True)
            _check_owed(session, account, user_id, line.suspense_cents)
        as_what = resolution if user_id is None else f"{resolution}:{user_id}"
        if not statements.resolve_line(session, line.key, resolution=as_what, by=ctx.actor.name, at=now):
            raise Refused(
                f"{line.receipt} was resolved before, as {line.resolution}; nothing was changed.",
                hint="See what is left: kasoko suspense list",
            )
        detail = {"as": as_what, "cents": line.suspense_cents, "receipt": line.receipt}
        note_act(session, ctx.actor, "suspense.resolve", f"line:{line.key}", at=now, detail=detail)
        resolved = journal.suspense_resolved(line.key, line.suspense_cents, account, user_id or "")
        book.post(session, *posted_again(session, [resolved]), at=now)
        return _suspended(line)


def _check_owed(session: Session, account: Account, user_id: str, cents: int) -> None:
    """Nobody gives back more than is owed, and no wallet goes below zero."""
    if account is Account.RECEIVABLE and cents > 0 and book.balance(session, account, user_id) < cents:
        raise Refused(
            f"The user {user_id} does not owe that much; nothing was changed.",
            hint=f"See what is owed: kasoko wallet show {user_id}. Take it in --as wallet, and then recover from there"
            f" what is owed: kasoko wallet recover {user_id} AMOUNT --reference NAME --from wallet",
        )
    if account is Account.WALLET and cents < 0 and book.available(session, user_id) < -cents:
        raise Refused(
            f"The user {user_id} has less than that available; nothing was changed.",
            hint="What a user got and must give back is --as receivable.",
        )
