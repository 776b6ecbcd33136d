"""How far a callback is to be believed. Pure: it reads rows and bodies, it moves nothing.

Of the four factors (`apply_results`) the listener checks the MAC before it reads the body; the others are verified
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from kasoko_cli.daraja.codes import Fate, StatusAnswer, StatusFate, judge_result
from kasoko_cli.daraja.messages import Result
from kasoko_cli.domain.money import format_kes
from kasoko_cli.store.schema.tables import Attempt, Query


class TrustLevel(StrEnum):
    """What a body is worth."""

    BELIEVED = "believed"  #: every factor holds
    LACKING = "lacking"  #: a factor is missing: ask M-Pesa, believe nothing
    NO_ACK = "no-ack"  #: only the acknowledgement is missing, so nothing to compare its conversation id with
    CONTRADICTED = "contradicted"  #: a factor says something else: change nothing, raise an incident


@dataclass(frozen=True, slots=True)
class Verification:
    """A level of trust and the reason for it, in words that name no phone and no secret."""

    level: TrustLevel
    why: str = ""


BELIEVED = Verification(TrustLevel.BELIEVED)
_contradicted = partial(Verification, TrustLevel.CONTRADICTED)
_lacking = partial(Verification, TrustLevel.LACKING)


def known_id(attempt: Attempt) -> str | None:
    """The originator id that M-Pesa uses for an attempt: ours on v3, on v1 the one it made, if it told us."""
    return attempt.id if attempt.api == "v3" else attempt.gateway_id


def _acknowledged(attempt: Attempt, stated: str | None) -> str | None:
    """The conversation id of the acknowledgement, to compare with that of a body that names the payment `stated`.

    Where the acknowledgement named another id and this body names ours, what it said proves nothing. Nor does it
    where M-Pesa met the id a second time: what it acknowledged last was the repeat, and the payment is the first.
    """
    mixed_up = attempt.gateway_id is not None and stated == attempt.id
    return None if mixed_up or attempt.met_before else attempt.conversation_id


def _is_another(attempt: Attempt, acknowledged: str | None, stated: str | None) -> bool:
    """Whether a body names another conversation than the acknowledgement: it may be that of an earlier send."""
    return acknowledged is not None and stated not in (None, acknowledged) and attempt.sends > 1


_EARLIER_SEND = _lacking("its conversation id is not the one of the last acknowledgement, and the id was sent before")


def verify_result(result: Result, attempt: Attempt, *, receipt_owner: str | None) -> Verification:
    """Verify a result on an attempt's own address. `receipt_owner` is the attempt its receipt already proves."""
    stated = result.originator_conversation_id
    acknowledged = _acknowledged(attempt, stated)
    if stated is not None and (known := {known_id(attempt), attempt.gateway_id} - {None}) and stated not in known:
        return _contradicted(f"its originator conversation id is {stated[:64]!r}")
    is_earlier = _is_another(attempt, acknowledged, result.conversation_id)
    if acknowledged is not None and result.conversation_id not in (None, acknowledged) and not is_earlier:
        return _contradicted("its conversation id is not the one of the acknowledgement")
    if judge_result(result).fate is Fate.PAID and (trouble := _verify_payment(result, attempt, receipt_owner)):
        return trouble
    if stated is None:
        return _lacking("it does not name our id")
    if acknowledged is None:
        return Verification(TrustLevel.NO_ACK, "no acknowledgement was recorded, so its conversation id proves nothing")
    if result.conversation_id is None:
        return _lacking("it does not name its conversation id")
    return _EARLIER_SEND if is_earlier else BELIEVED


def _verify_payment(result: Result, attempt: Attempt, receipt_owner: str | None) -> Verification | None:
    amount, receipt = result.amount_cents(), result.receipt()
    if amount is not None and amount != attempt.wire_cents:
        return _contradicted(
            f"it says KES {format_kes(amount)}, and KES {format_kes(attempt.wire_cents)} was sent",
        )
    if result.receipts_disagree:
        return _contradicted("it names two different receipts")
    if receipt_owner not in (None, attempt.id):
        return _contradicted(f"its receipt {receipt} already proves the attempt {receipt_owner}")
    if result.receiver_phone() not in (None, attempt.phone):
        return _contradicted("it names another receiver")
    if amount is None:
        return _lacking("it does not say the amount")
    if receipt is None:
        return _lacking("it has no receipt")
    return None


def verify_envelope(result: Result, query: Query) -> Verification:
    """Whether an answer is tied to our question: by the conversation id that only the acknowledgement of it carried."""
    if result.conversation_id is not None and query.conversation_id not in (None, result.conversation_id):
        return _contradicted("its conversation id is not the one of the query's acknowledgement")
    if query.conversation_id is None or result.conversation_id is None:
        return _lacking("it cannot be tied to the query by a conversation id")
    return BELIEVED


def verify_status(
    result: Result, answer: StatusAnswer, query: Query, attempt: Attempt, *, receipt_owner: str | None
) -> Verification:
    """Verify the answer to a status query: the envelope names the query, its parameters name the payment."""
    if (tied := verify_envelope(result, query)) is not BELIEVED:
        return tied
    named, phone = known_id(attempt) or attempt.id, attempt.phone
    if answer.fate is StatusFate.NOT_PAID and answer.originator_conversation_id == named:
        # What ended unpaid under our id has paid nobody, whoever it was for: a database from an older copy may
        # know another number than the one that the id went to. Disbelieved, it would never end: no id follows.
        phone = answer.receiver_phone or phone
    if differences := answer.differences(attempt_id=named, wire_cents=attempt.wire_cents, phone=phone):
        return _contradicted(", ".join(differences))
    acknowledged = _acknowledged(attempt, answer.originator_conversation_id)
    is_earlier = _is_another(attempt, acknowledged, answer.conversation_id)
    if answer.conversation_id is not None and acknowledged not in (None, answer.conversation_id) and not is_earlier:
        return _contradicted("the payment's conversation id differs")
    if receipt_owner not in (None, attempt.id):
        return _contradicted(f"its receipt {answer.receipt} already proves the attempt {receipt_owner}")
    if answer.originator_conversation_id is None and (answer.conversation_id is None or acknowledged is None):
        return _lacking("it names no id of the payment that we know")
    # That an earlier send paid ends the question. That it did not leaves the last one, which may have.
    if is_earlier and (answer.originator_conversation_id is None or answer.fate is StatusFate.NOT_PAID):
        return _EARLIER_SEND
    return BELIEVED
