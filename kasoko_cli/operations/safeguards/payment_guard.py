"""One guard before every way out to money: whatever frees, moves, credits or re-sends it passes here.

`GUARDS` has the conditions of each way. A way first has what has arrived judged (`judge_first`), and asks again
inside the transaction that holds the payout's lock: what came in between objects too. Nothing here moves anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlmodel import Session

from kasoko_cli.clock import Clock
from kasoko_cli.daraja.codes import lookup
from kasoko_cli.daraja.messages import parse_result
from kasoko_cli.domain.payout import LIVE, AttemptStatus
from kasoko_cli.errors import Refused
from kasoko_cli.operations.account.payer import may_be_paid_elsewhere
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.safeguards.failure_confirmation import Confirm, Missing, missing
from kasoko_cli.operations.shared.transitions import DECIDED, NOT_ON_STATEMENT, NOT_SENT, STATUS_SAYS_NO
from kasoko_cli.store import approvals, attempts, callbacks, payouts, status_queries, users
from kasoko_cli.store.callbacks import WaitingCallback
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.reconnect import wait_for_server
from kasoko_cli.store.log import Standing, incidents_of
from kasoko_cli.store.schema.tables import Attempt, Payout
from kasoko_cli.store.statements import FORGOTTEN, RESTORED

#: Of more payouts than this, everything that has arrived is judged, whatever it is about.
FEW = 500


class Way(StrEnum):
    """A way out to money, by the command that takes it."""

    SEND = "payout"  #: the claim itself: an intent stands, and its request leaves
    RETRY = "payout retry, retry-failed"
    AGAIN = "payout again"
    RELEASE = "payout release"
    LET_GO = "doctor --after-restore"  #: what was held since a copy was put back; a statement does the same
    APPROVE = "approve"
    TO_WALLET = "payout to-wallet"
    RETURNED = "payout returned"
    DECIDE_NOT_PAID = "payout decide --not-paid"
    DECIDE_PAID = "payout decide --paid"
    STATEMENT_NOT_PAID = "reconcile --statement: not paid"
    STATEMENT_RETURNED = "reconcile --statement: came back"
    OVERRIDE = "resolve --override"  #: what nobody has sent is taken back, and the rest booked by its difference
    RECOVER = "wallet recover"
    WRITE_OFF = "wallet write-off"
    ERASE = "user erase"


class Condition(StrEnum):
    """What may speak against it."""

    UNJUDGED = "what has arrived about it is judged"
    LIVE = "no attempt may still move money"
    INCIDENT = "no incident stands about it"
    ASKED = "M-Pesa has answered what anybody could have posted about it"
    RESTORED = "it was not sent since a copy that was put back"
    UNCONFIRMED = "the failure that opens another payment is confirmed"
    SILENCE = "what counts as not paid by silence was asked about by its own account"
    ACCOUNT = "what only silence says was not taken is sent again by no other account"
    SAME_NUMBER = "the number may take it"
    HOPELESS = "the failure may pass"
    APPROVAL = "the second person has released it"


_C = Condition
#: For whatever ends in a second payment if the phone had the first.
_NOT_HAD = (_C.UNJUDGED, _C.LIVE, _C.INCIDENT, _C.ASKED, _C.RESTORED, _C.UNCONFIRMED, _C.SILENCE)

#: What must hold before money goes each way.
GUARDS: Mapping[Way, Sequence[Condition]] = {
    Way.SEND: (*_NOT_HAD, _C.ACCOUNT, _C.APPROVAL),
    Way.RETRY: (*_NOT_HAD, _C.SAME_NUMBER, _C.HOPELESS, _C.APPROVAL),
    Way.AGAIN: (*_NOT_HAD, _C.APPROVAL),
    Way.RELEASE: (*_NOT_HAD, _C.SAME_NUMBER, _C.HOPELESS),
    Way.LET_GO: (_C.UNJUDGED, _C.LIVE, _C.INCIDENT, _C.ASKED),
    Way.APPROVE: _NOT_HAD,
    Way.TO_WALLET: (*_NOT_HAD, _C.APPROVAL),
    Way.RETURNED: (_C.UNJUDGED, _C.LIVE, _C.INCIDENT, _C.ASKED),
    Way.DECIDE_NOT_PAID: (_C.UNJUDGED, _C.INCIDENT, _C.ASKED),
    Way.DECIDE_PAID: (_C.UNJUDGED,),
    Way.STATEMENT_NOT_PAID: (_C.UNJUDGED, _C.INCIDENT, _C.ASKED),
    Way.STATEMENT_RETURNED: (_C.UNJUDGED, _C.LIVE),
    # What is under way is not taken back: the difference is booked around it.
    Way.OVERRIDE: (_C.UNJUDGED, _C.INCIDENT, _C.ASKED, _C.RESTORED, _C.UNCONFIRMED),
    Way.RECOVER: (_C.UNJUDGED,),
    Way.WRITE_OFF: (_C.UNJUDGED,),
    Way.ERASE: (_C.UNJUDGED, _C.LIVE, _C.INCIDENT, _C.ASKED, _C.RESTORED),
}


@dataclass(frozen=True, slots=True)
class Caution:
    """What the settings say of it: how a failure is confirmed; how much a callback is believed.

    `account_id` is the account that is about to send, where one is.
    """

    confirm: Confirm = field(default_factory=Confirm)
    trust: Trust = field(default_factory=Trust)
    account_id: int | None = None


#: By the default settings.
CAREFUL = Caution()


@dataclass(frozen=True, slots=True)
class Objection:
    """What speaks against it: why in words, and what a person can do."""

    condition: Condition
    why: str
    hint: str


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a payout: all that a condition may look at.

    `phone` is the user's number now; `incidents` are those that hold it back, `unjudged` the numbers of what waits;
    `lacks` is what is missing before its failure opens another payment. `was_asked` is False where silence ended
    it and it is not on record that M-Pesa was asked as the account that had made it. `account_id` is the account that
    is about to send, where one is.
    """

    payout: Payout
    tries: Sequence[Attempt] = ()
    phone: str = ""
    incidents: Sequence[Standing] = ()
    unjudged: Sequence[int] = ()
    lacks: Missing | None = None
    was_asked: bool = True
    awaits_approval: bool = False
    account_id: int | None = None


def judge_first(db: Database, clock: Clock, caution: Caution, payout_ids: Sequence[str] | None = None) -> None:
    """Have everything judged that has arrived about these payouts, or about all; no transaction is open meanwhile."""
    subjects = None
    if payout_ids is not None and len(payout_ids) <= FEW:
        subjects = reconnect.read(db, lambda session: attempts.names_of(session, payout_ids))
    wait_for_server(db, lambda: apply_results.apply_waiting(db, clock, caution.trust, subjects=subjects, hints=True))


def judge_first_of(db: Database, clock: Clock, caution: Caution, user_id: str) -> None:
    """The same for all payouts of a user."""
    theirs = reconnect.read(db, lambda session: [one.id for one in payouts.list_payouts(session, user_id=user_id)])
    judge_first(db, clock, caution, theirs)


def objection(way: Way, case: Case) -> Objection | None:
    """What speaks first against one payout going this way, or None."""
    for condition in GUARDS[way]:
        if (against := _FOUND_BY[condition](case)) is not None:
            return Objection(condition, *against)
    return None


def objections(
    session: Session, way: Way, some: Iterable[Payout], caution: Caution, *, now: datetime
) -> dict[str, Objection]:
    """What speaks against each of these payouts, by id; the caller holds their locks."""
    found = {case.payout.id: objection(way, case) for case in _look(session, way, list(some), caution, now)}
    return {payout_id: against for payout_id, against in found.items() if against is not None}


def check(
    session: Session, way: Way, some: Iterable[Payout], caution: Caution, *, now: datetime, subject: str = ""
) -> None:
    """Raise Refused if anything speaks against one of these payouts going this way.

    `subject` is what is refused where that is not the payout itself: a market, a user.
    """
    for payout_id, against in objections(session, way, some, caution, now=now).items():
        which = f"{subject} {_NOT_DONE[way]}: {payout_id}: " if subject else f"{payout_id} {_NOT_DONE[way]}: "
        raise Refused(f"{which}{against.why}. Nothing was changed.", hint=against.hint)


#: What did not happen, for the ways that refuse as a whole; the others name each payout that they leave alone.
_NOT_DONE: Mapping[Way, str] = {
    Way.AGAIN: "was not made due again",
    Way.RELEASE: "was not released",
    Way.APPROVE: "was not released",
    Way.TO_WALLET: "was not paid into the wallet",
    Way.RETURNED: "was not written down as come back",
    Way.DECIDE_NOT_PAID: "was not decided",
    Way.DECIDE_PAID: "was not decided",
    Way.OVERRIDE: "was not overridden",
    Way.RECOVER: "has not paid back",
    Way.WRITE_OFF: "still owes what is owed",
    Way.ERASE: "was not erased",
}


# --- What each condition means ----------------------------------------------------------------------------------


_Against = tuple[str, str] | None


def _unjudged(case: Case) -> _Against:
    why = "a result about it has arrived and is not judged yet"
    return (why, "Have it judged: kasoko reconcile") if case.unjudged else None


def _live(case: Case) -> _Against:
    live = next((one for one in case.tries if one.status in LIVE), None)
    if live is None:
        return None
    return f"money may still move under {live.id}, which is {live.status}", "Find out how it ended: kasoko reconcile"


def _incident(case: Case) -> _Against:
    numbers = [one.number for one in case.incidents if not one.is_asked]
    if not numbers:
        return None
    return (
        "what is known of it contradicts itself, and a person decides",
        f"Look at it: kasoko payout show {case.payout.id}. Once it is clear how it ended: {_close(numbers[0])}",
    )


def _asked(case: Case) -> _Against:
    numbers = [one.number for one in case.incidents if one.is_asked]
    if not numbers:
        return None
    return (
        "something was posted that says otherwise, and M-Pesa has not answered since",
        f"Ask M-Pesa: kasoko reconcile --now. Where it does not say: {_close(numbers[0])}",
    )


def _close(number: int) -> str:
    return f"kasoko incident close {number} --reason WHY"


def _restored(case: Case) -> _Against:
    why = "nobody knows yet whether it was sent before this database was restored"
    is_any = any(is_doubted(one) for one in case.tries)
    return (why, "Find out first: kasoko doctor --after-restore") if is_any else None


def _unconfirmed(case: Case) -> _Against:
    return None if case.lacks is None else (case.lacks.why, case.lacks.hint)


def _silence(case: Case) -> _Against:
    why = "it counts as not paid since nobody knew it, and it is not on record that its own account was asked"
    return None if case.was_asked else (why, "Ask M-Pesa first: kasoko reconcile --now")


def _account(case: Case) -> _Against:
    if case.account_id is None or not case.tries or not may_be_paid_elsewhere(case.tries[-1], case.account_id):
        return None
    return (
        "another account tried it, and only silence says that it was not taken",
        f"Set the settings of that one again, then: kasoko payout release {case.payout.id} --reason WHY",
    )


def _same_number(case: Case) -> _Against:
    payout, code = case.payout, case.payout.failure_code or ""
    if not _speaks_of_the_number(case):
        return None
    rule = lookup(code, payout.failure_reason or "")
    is_refusal = "." in code  # M-Pesa refused the request itself, at once: result codes have no dots
    if not (rule.needs_other_phone or is_refusal):
        return None
    said = rule.meaning if rule.needs_other_phone else payout.failure_reason
    return (
        f"it cannot succeed to the same number: {said}",
        f"Correct the number: kasoko user set-phone {payout.user_id} PHONE, then: kasoko payout retry {payout.id}",
    )


def _hopeless(case: Case) -> _Against:
    if not _speaks_of_the_number(case):
        return None
    rule = lookup(case.payout.failure_code or "", case.payout.failure_reason or "")
    return None if rule.may_succeed_again else (f"it cannot succeed unchanged: {rule.meaning}", rule.advice)


def _approval(case: Case) -> _Against:
    release = f"Have its settlement released first: kasoko approve {case.payout.market_id}"
    return ("it waits for a second person", release) if case.awaits_approval else None


_FOUND_BY: Mapping[Condition, Callable[[Case], _Against]] = {
    _C.UNJUDGED: _unjudged,
    _C.LIVE: _live,
    _C.INCIDENT: _incident,
    _C.ASKED: _asked,
    _C.RESTORED: _restored,
    _C.UNCONFIRMED: _unconfirmed,
    _C.SILENCE: _silence,
    _C.ACCOUNT: _account,
    _C.SAME_NUMBER: _same_number,
    _C.HOPELESS: _hopeless,
    _C.APPROVAL: _approval,
}


def is_doubted(attempt: Attempt) -> bool:
    """Whether it, or what came after it, may have been sent since the copy that was restored was taken."""
    ended = (AttemptStatus.REJECTED, AttemptStatus.FAILED, AttemptStatus.RETURNED)
    return attempt.status in ended and attempt.lease_token.startswith(RESTORED)


def _speaks_of_the_number(case: Case) -> bool:
    """Whether a code of M-Pesa ended it, and the user has the same number since."""
    code = case.payout.failure_code
    if not code or code in (NOT_SENT, STATUS_SAYS_NO, NOT_ON_STATEMENT, DECIDED):
        return False
    sent = [one for one in case.tries if one.evidence != FORGOTTEN]
    return bool(sent) and case.phone == sent[-1].phone


# --- What is known ----------------------------------------------------------------------------------------------


def _look(session: Session, way: Way, some: Sequence[Payout], caution: Caution, now: datetime) -> Iterator[Case]:
    """What the conditions of this way look at, for many payouts by few queries."""
    asked, ids = GUARDS[way], [one.id for one in some]
    tries = tries_of(session, ids)
    stand = incidents_of(session, ids) if _C.INCIDENT in asked else {}
    waits = _waiting_about(session, tries)
    people = users.known_users(session, {one.user_id for one in some}) if _C.SAME_NUMBER in asked else {}
    settlements = {(one.market_id, one.settlement_no) for one in some} if _C.APPROVAL in asked else set()
    unapproved = {one for one in settlements if approvals.is_outstanding(session, *one)}
    for payout in some:
        theirs = tries.get(payout.id, [])
        is_silent = _C.SILENCE in asked and payout.failure_code == NOT_ON_STATEMENT and bool(theirs)
        yield Case(
            payout,
            theirs,
            phone=people[payout.user_id].phone if people else "",
            incidents=stand.get(payout.id, ()),
            unjudged=waits.get(payout.id, ()),
            lacks=missing(session, theirs[-1], caution.confirm, now) if theirs and _C.UNCONFIRMED in asked else None,
            was_asked=not is_silent or status_queries.was_not_found(session, theirs[-1].id, now),
            awaits_approval=(payout.market_id, payout.settlement_no) in unapproved,
            account_id=caution.account_id,
        )


def tries_of(session: Session, payout_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """The attempts of each of these payouts."""
    tries: dict[str, list[Attempt]] = {}
    for one in attempts.of_payouts(session, payout_ids):
        tries.setdefault(one.payout_id, []).append(one)
    return tries


def _waiting_about(session: Session, tries: Mapping[str, Sequence[Attempt]]) -> dict[str, list[int]]:
    """The numbers of what has arrived about the attempts of each payout and is not judged yet."""
    if not tries or not callbacks.any_waiting(session):
        return {}
    whose = {one.id: payout_id for payout_id, some in tries.items() for one in some}
    whose |= {one.gateway_id: payout_id for payout_id, some in tries.items() for one in some if one.gateway_id}
    whose |= {query: whose[attempt] for query, attempt in status_queries.ids_about(session, list(whose)).items()}
    found: dict[str, list[int]] = {}
    for callback in callbacks.waiting_about(session, list(whose)):
        payout_id = whose.get(callback.subject) or whose.get(_named_in(callback))
        if payout_id is not None:
            found.setdefault(payout_id, []).append(callback.id)
    return found


def _named_in(callback: WaitingCallback) -> str:
    """The id of ours that a body without our mark names; empty where it names none."""
    try:
        return parse_result(callback.body).originator_conversation_id or ""
    except Exception:  # whatever it breaks: it is set aside once it is judged
        return ""
