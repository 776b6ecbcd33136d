"""Find out what is unknown: ask M-Pesa how each such payout ended, and believe only a whole answer.

Nothing is ever sent again here. Each question stands in the database before it is asked; its answer is
posted to the listener like any other result, and verified in `callbacks/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from sqlmodel import Session

from kasoko_cli.clock import farthest
from kasoko_cli.daraja.codes import Verdict
from kasoko_cli.domain.payer import Payer
from kasoko_cli.domain.payout import LIVE, AttemptStatus, PayoutStatus
from kasoko_cli.operations.account.payer import hold_to_account
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.operations.callbacks.apply_results import Judged, Trust
from kasoko_cli.operations.callbacks.verification import known_id
from kasoko_cli.operations.safeguards.failure_confirmation import ASKED_ENOUGH, Confirm, missing
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import note_act
from kasoko_cli.operations.shared.call_log import keep_calls, were_kept
from kasoko_cli.operations.shared.context import Gateway, OperationContext
from kasoko_cli.operations.shared.next_steps import STATUS_ROLE, question_refused
from kasoko_cli.operations.shared.watching import NO_HOOKS, Hooks
from kasoko_cli.store import accounts, attempts, callbacks, markets, payouts, status_queries
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.reconnect import wait_for_server
from kasoko_cli.store.log import LATE_ACKNOWLEDGEMENT, open_incidents, to_be_asked
from kasoko_cli.store.schema.tables import Attempt, Query

#: When the first, second, ... question about an attempt is asked, in seconds after it was sent.
LADDER_SECONDS = (300, 900, 3_600, 14_400, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class AskPolicy:
    """Whom to ask about, and how often.

    `after_seconds` is how long a result may take before it is asked for. After the last step of the
    ladder the question is asked once a step of that length. Negatives are asked about again as `confirm` says.
    """

    after_seconds: int = 300
    ladder: Sequence[int] = LADDER_SECONDS
    confirm: Confirm = field(default_factory=Confirm)


@dataclass(frozen=True, slots=True)
class AskedStatus:
    """One question and what became of asking it."""

    payout_id: str
    attempt_id: str
    query_id: str
    taken: bool
    why: str


@dataclass(slots=True)
class Reconciled:
    """What a round of reconciling did, and what is still open."""

    applied: list[Judged] = field(default_factory=list)
    reaped: int = 0
    asked: list[AskedStatus] = field(default_factory=list)
    not_yet: int = 0
    left: int = 0
    next_at: datetime | None = None
    unaskable: list[str] = field(default_factory=list)
    #: Payouts that are to be asked about, but by the account that made them, which is not the one of the settings.
    elsewhere: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StillOpen:
    """A payout whose end nobody here knows."""

    payout_id: str
    status: str
    attempt_id: str
    wire_cents: int
    since: datetime
    questions: int
    last_answer: str


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What a round asks about: of one market or of all, those whose turn it is, or `at_once` every one."""

    policy: AskPolicy
    trust: Trust
    market: str | None = None
    at_once: bool = False


def ask_around(
    ctx: OperationContext, gateway: Gateway, inquiry: Inquiry, hooks: Hooks[AskedStatus] = NO_HOOKS
) -> Reconciled:
    """Apply what has arrived, mark dead leases, and ask about every payout whose turn it is.

    Once it shall stop, no further question is begun; those that were not asked are counted, and keep their turn.

    Raises:
        NotFound: there is no such market.
        Refused: another account made the payments that are open, and has to be asked about them.
        ConfigurationError: M-Pesa refuses the consumer key or secret.
        NotSent: M-Pesa cannot be reached.
    """
    db, clock, payer, trust = ctx.db, ctx.clock, gateway.daraja.account.payer, inquiry.trust
    report = Reconciled(applied=wait_for_server(db, lambda: apply_results.apply_waiting(db, clock, trust)))
    now = clock()
    report.reaped = reconnect.write(db, lambda session: transitions.reap(session, now=now))
    hold_to_account(ctx, payer)
    turn = reconnect.read(db, lambda session: _whose_turn(session, report, inquiry, payer, now))
    if turn:
        gateway.daraja.check_account()
    for number, attempt in enumerate(turn):
        if hooks.should_stop():
            report.left = len(turn) - number
            break
        asked = ask_about(ctx, gateway, attempt)
        # An answer may have overtaken the acknowledgement of its question, and waits for it.
        judge = partial(apply_results.apply_waiting, db, clock, trust, subjects=[asked.query_id])
        report.applied += wait_for_server(db, judge)
        report.asked.append(asked)
        hooks.on_progress(asked)
    if report.asked:
        reconnect.write(db, lambda session: _note_round(session, ctx, inquiry, len(report.asked)))
    return report


def _note_round(session: Session, ctx: OperationContext, inquiry: Inquiry, asked: int) -> None:
    subject = markets.id_of(session, inquiry.market) or "all"
    note_act(session, ctx.actor, "reconcile", subject, at=ctx.clock(), detail={"asked": asked})


#: What stands as the last answer while there is none.
_SILENCE = "no answer yet"
#: The state of a payout whose live attempt is in this state: what every other answer shows.
_PAYOUT_WORDS = {AttemptStatus.INTENT: "SENDING", AttemptStatus.ACCEPTED: "SENT"}


def list_open(db: Database, *, market: str | None = None) -> list[StillOpen]:
    """Every payout that was instructed and whose end is not known, longest first."""

    def look(session: Session) -> list[StillOpen]:
        found = []
        for attempt in attempts.list_live(session, market_id=markets.id_of(session, market)):
            asked = status_queries.list_about(session, attempt.id)
            count, last = sum(one.answer != status_queries.NOT_ASKED for one in asked), asked[-1] if asked else None
            said = "" if last is None else f"{last.answer or _SILENCE} {last.detail or ''}".strip()
            found.append(
                StillOpen(
                    attempt.payout_id,
                    _PAYOUT_WORDS.get(attempt.status, str(attempt.status)),
                    attempt.id,
                    attempt.wire_cents,
                    attempt.sent_at,
                    count,
                    said,
                )
            )
        return found

    return reconnect.read(db, look)


def count_failed(db: Database, *, market: str | None = None) -> int:
    """How many payouts stand as failed: what is left to do once every end is known."""
    totals = reconnect.read(db, lambda session: payouts.totals_by_status(session, markets.id_of(session, market)))
    return totals.get(PayoutStatus.FAILED, (0, 0))[0]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """An incident that stands about a payout: what is known of it contradicts itself, until a person closes it."""

    incident_id: int
    payout_id: str
    what: str


def list_contradictions(db: Database, *, market: str | None = None) -> list[Contradiction]:
    """Every incident about a payout that nobody has closed and no answer of M-Pesa's has settled, oldest first."""
    found = reconnect.read(db, lambda session: open_incidents(session, market_id=markets.id_of(session, market)))
    return [
        Contradiction(one.id, one.payout_id, one.what)
        for one in found
        if one.id is not None and one.payout_id is not None and one.answered_by is None
    ]


def next_step(still: Sequence[StillOpen], contradictions: Sequence[Contradiction], unaskable: Sequence[str]) -> str:
    """The one thing to type next after a round, and why; empty where every end is known or on its way."""
    unknown = [one for one in still if one.status == AttemptStatus.UNKNOWN]
    if contradictions:
        return "What is known of a payout contradicts itself, and a person decides: kasoko incident list"
    for one in unknown:
        if refused := question_refused(one.last_answer, STATUS_ROLE):
            return f"{refused} Then ask M-Pesa again: kasoko reconcile --now"
    for one in unknown:
        is_answered = one.questions >= ASKED_ENOUGH and not one.last_answer.startswith(_SILENCE)
        if is_answered or one.payout_id in unaskable:
            return (
                f"M-Pesa does not say how {one.payout_id} ended, its portal or statement does. Look there, then:"
                f" kasoko payout decide {one.payout_id} --help"
            )
    if unknown:
        return "Unknown is not failed. Ask M-Pesa again: kasoko reconcile --now"
    return ""


def _whose_turn(session: Session, report: Reconciled, inquiry: Inquiry, payer: Payer, now: datetime) -> list[Attempt]:
    """The attempts that are asked about now; the report has those that are not, and why."""
    report.not_yet, report.next_at, report.unaskable, report.elsewhere = 0, None, [], []
    turn, policy, asker = list[Attempt](), inquiry.policy, accounts.find(session, payer)
    for question in _open_questions(session, policy, markets.id_of(session, inquiry.market), now):
        attempt, from_at = question.attempt, question.from_at
        due_at = now if question.is_hinted else from_at or _due_at(question, policy, now)
        if not (inquiry.at_once or due_at <= now):
            report.not_yet += 1
            report.next_at = due_at if report.next_at is None else min(report.next_at, due_at)
        elif attempt.account_id != asker:
            report.elsewhere.append(attempt.payout_id)
        elif known_id(attempt) is None:
            # Without an acknowledgement M-Pesa has no name for it that we know: only the statement can tell.
            report.unaskable.append(attempt.payout_id)
        else:
            turn.append(attempt)
    return turn


@dataclass(frozen=True, slots=True)
class _Question:
    """An attempt that is to be asked about, and how often that was done.

    `is_hinted`: at once, since somebody has posted something about it since M-Pesa was last asked. `from_at`: then,
    since an earlier answer confirms nothing.
    """

    attempt: Attempt
    asked: int
    latest: Query | None
    is_hinted: bool
    from_at: datetime | None = None


def _open_questions(session: Session, policy: AskPolicy, market_id: str | None, now: datetime) -> list[_Question]:
    """Attempts whose end is not known, failures that are to be confirmed, and whatever a hint names.

    Also those that a statement's silence ended, unless it is on record that the account that made them was asked; those
    that left although they had been ended; and those about which something was said that the books do not have: until
    M-Pesa has answered, that holds the payout back.
    """
    live = [one for one in attempts.list_live(session, market_id=market_id) if one.status is not AttemptStatus.INTENT]
    stopped = payouts.list_payouts(
        session, market_id=market_id, statuses=frozenset({PayoutStatus.FAILED, PayoutStatus.HELD})
    )
    last = attempts.last_attempts(session, [payout.id for payout in stopped]).values()
    said_otherwise = to_be_asked(session, market_id=market_id)
    left_late = {
        incident.attempt_id
        for incident in open_incidents(session, market_id=market_id, kind=LATE_ACKNOWLEDGEMENT)
        if incident.attempt_id is not None
    }
    silent = {payout.id for payout in stopped if payout.failure_code == transitions.NOT_ON_STATEMENT}
    unasked = {
        one.id for one in last if one.payout_id in silent and not status_queries.was_not_found(session, one.id, now)
    }
    wanted = said_otherwise.keys() | left_late | unasked
    earlier = [attempts.find_attempt(session, one) for one in sorted(wanted - {one.id for one in (*live, *last)})]
    ended = [*last, *(one for one in earlier if one.status not in LIVE)]
    hinted = _hinted(session, [*live, *ended], said_otherwise, now)
    found = []
    for attempt in (*live, *ended):
        lacks = missing(session, attempt, policy.confirm, now)
        is_wanted = attempt.id in wanted and known_id(attempt) is not None
        if attempt.status in LIVE or attempt.id in hinted or is_wanted or lacks is not None:
            asked, latest = status_queries.asked_about(session, attempt.id, now)
            is_first = lacks is not None and (latest is None or latest.asked_at < lacks.from_at)
            from_at = lacks.from_at if lacks is not None and is_first else None
            found.append(_Question(attempt, asked, latest, attempt.id in hinted, from_at))
    return found


def _hinted(
    session: Session, among: Sequence[Attempt], said_otherwise: Mapping[str, datetime], now: datetime
) -> set[str]:
    """Those about which somebody has posted something since M-Pesa last took a question about them.

    Where that was M-Pesa's own answer to the last question, or is dated later than now, the next one has its turn
    like any other.
    """
    hints = callbacks.last_hints(session, [attempt.id for attempt in among])
    otherwise = {one.id: said_otherwise[one.id] for one in among if one.id in said_otherwise and known_id(one)}
    found = set()
    for attempt_id in hints.keys() | otherwise.keys():
        last = status_queries.last_of(session, attempt_id, now)
        if last is None or last.answer == status_queries.NOT_ASKED:
            found.add(attempt_id)
            continue
        hinted_at, said_at = hints.get(attempt_id, last.asked_at), otherwise.get(attempt_id, last.asked_at)
        is_its_answer = last.answered_at is not None and last.answered_at >= said_at
        is_new = last.asked_at < said_at <= farthest(now) and not is_its_answer
        if is_new or last.asked_at < hinted_at <= farthest(now):
            found.add(attempt_id)
    return found


def _due_at(question: _Question, policy: AskPolicy, now: datetime) -> datetime:
    """When the next question about an attempt may be asked; `after_seconds` replaces the first step.

    Where it was sent by a clock that ran ahead, at once, and then a step after each question.
    """
    attempt, asked = question.attempt, question.asked
    steps = [policy.after_seconds, *policy.ladder[1:]]
    if attempt.sent_at > farthest(now):
        latest = question.latest
        return now if latest is None else latest.asked_at + timedelta(seconds=steps[min(asked, len(steps) - 1)])
    beyond = max(0, asked - len(steps) + 1)
    seconds = steps[min(asked, len(steps) - 1)] + beyond * steps[-1]
    return attempt.sent_at + timedelta(seconds=seconds)


def ask_about(ctx: OperationContext, gateway: Gateway, attempt: Attempt) -> AskedStatus:
    """Ask M-Pesa how one attempt ended; the question stands in the database before it is asked, and who asks it."""
    db, clock, daraja, links = ctx.db, ctx.clock, gateway.daraja, gateway.links
    query_id = f"kq-{gateway.new_id()}"

    def ask(session: Session) -> None:
        if session.get(Query, query_id) is None:
            asker = accounts.ensure(session, daraja.account.payer, at=clock())
            session.add(Query(id=query_id, kind="STATUS", attempt_id=attempt.id, asked_at=clock(), account_id=asker))

    reconnect.write(db, ask)
    answer = daraja.ask_status(links.of_status(query_id), query_id=query_id, attempt_id=known_id(attempt) or "")
    taken = answer.verdict is Verdict.TAKEN

    def keep(*, again: bool = False) -> None:
        with db.transaction() as session:
            if again and were_kept(session, (query_id, answer)):
                return
            if taken and answer.conversation_id:
                status_queries.keep_conversation(session, query_id, answer.conversation_id)
            elif not taken:
                status_queries.note_answer(
                    session, query_id, answer=status_queries.NOT_ASKED, detail=answer.meaning, at=clock()
                )
            keep_calls(session, (query_id, answer))

    wait_for_server(db, keep, again=lambda: keep(again=True))
    return AskedStatus(attempt.payout_id, attempt.id, query_id, taken, answer.meaning)


def unanswered(db: Database, query_ids: Sequence[str]) -> int:
    """How many of these questions have no answer yet."""
    return reconnect.read(db, lambda session: status_queries.count_unanswered(session, query_ids))
