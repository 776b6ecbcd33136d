"""What a state or a code means for an operator, and what to do next."""

from __future__ import annotations

import re

from kasoko_cli.clock import eat
from kasoko_cli.daraja.codes import lookup
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.operations.shared.transitions import DECIDED, NOT_ON_STATEMENT, NOT_SENT, STATUS_SAYS_NO
from kasoko_cli.store.schema.tables import Attempt, Payout


def account_refused(code: str, meaning: str, advice: str) -> str:
    """Why everything stops: M-Pesa refuses the account, and what mends it. What to type then is said elsewhere."""
    mend = advice.split(", then:")[0].rstrip(".")
    return f"M-Pesa refuses the account: {meaning}{f' (code {code})' if code else ''}. {mend}."


#: Which role of the API operator a question needs, where M-Pesa says that it may not ask (21).
STATUS_ROLE, BALANCE_ROLE = "Transaction Status query ORG API", "Balance Query ORG API"
_CODE = re.compile(r"\bcode (\w+)\b")


def question_refused(said: str, role: str) -> str:
    """Why M-Pesa answers no question at all, and what mends it, from what is kept of its answer; else empty.

    Asking again under the same wrong password helps nothing, and has M-Pesa lock it in the end.
    """
    found = _CODE.search(said)
    rule = None if found is None else lookup(found[1])
    if rule is None or not rule.account_level:
        return ""
    mend = f'Give the API operator the role "{role}"' if rule.code == "21" else rule.advice
    return account_refused(rule.code, rule.meaning, mend)


def explain(payout: Payout, last: Attempt | None) -> tuple[str | None, str | None]:
    """What a payout's state means, and what to do next; None where nothing is to be done."""
    again = f"kasoko payout retry {payout.id}"
    if payout.status is PayoutStatus.UNKNOWN:
        asked = "Ask M-Pesa: kasoko reconcile --now. What it never knows its portal does, then: kasoko payout decide"
        return (last.result_text if last is not None else None), asked
    if payout.status is PayoutStatus.SENT:
        return "M-Pesa took it; its result comes to kasoko listen", "If it does not come: kasoko reconcile"
    if payout.status is PayoutStatus.SENDING and last is not None and last.status is AttemptStatus.INTENT:
        died = f"If that has died, it counts as unknown after {eat(last.lease_until)}: kasoko reconcile"
        return "its sender has not said how it went", died
    if payout.status is PayoutStatus.RETURNED:
        choice = f"Send it again: kasoko payout again {payout.id}. Or leave it: kasoko payout to-wallet {payout.id}"
        return "its money came back, and stands in the wallet", choice
    code = payout.failure_code
    if code is None or payout.status not in (PayoutStatus.FAILED, PayoutStatus.PENDING, PayoutStatus.HELD):
        return None, None
    if code == NOT_SENT:
        is_due = payout.status is PayoutStatus.PENDING
        then = "It goes again by itself: kasoko payout" if is_due else f"Send it again: {again}"
        return "M-Pesa certainly did not take it", then
    if code == STATUS_SAYS_NO:
        return "M-Pesa, asked, says that it was not paid", f"Send it again: {again}"
    if code == NOT_ON_STATEMENT:
        return "neither the statement nor M-Pesa, asked, knows such a payment", f"Send it again: {again}"
    if code == DECIDED:
        return "a person said that it was not paid", f"Send it again: {again}"
    if "." in code:
        correct = f"Correct the number: kasoko user set-phone {payout.user_id} PHONE, then: {again}"
        return "M-Pesa refused the request itself, at once", correct
    rule = lookup(code, payout.failure_reason or "")
    return rule.meaning, rule.advice
