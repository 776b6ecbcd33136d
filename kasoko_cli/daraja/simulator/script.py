"""What goes wrong, and when: faults by script, by rate, by payment and by phone number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final, NamedTuple

from kasoko_cli.daraja.simulator import chance


class Endpoint(StrEnum):
    """What a request asks for."""

    #: An access token.
    TOKEN = "token"  # noqa: S105 - the name of an endpoint
    #: A payment, on v1 or v3.
    B2C = "b2c"
    #: How a payment ended.
    STATUS = "status"
    #: What is in the accounts.
    BALANCE = "balance"
    #: More money for the utility account.
    TOP_UP = "top_up"
    #: A payment back.
    REVERSAL = "reversal"


class FaultStage(StrEnum):
    """Where a fault strikes. One request can have one fault of each stage."""

    #: The request is not taken: no money moves, its id is not spent.
    BEFORE = "before"
    #: The request is taken, money moves as it would have, and then the answer is spoilt.
    AFTER = "after"
    #: The answer is right and the result of the payment is not.
    RESULT = "result"
    #: The result of a status query is not as it should be.
    STATUS = "status"
    #: The result of a balance query is not as it should be.
    BALANCE = "balance"


class Fault(StrEnum):
    """Everything that can be made to go wrong, in groups: see `FaultStage`.

    Whether money moves is in the group, and for the one exception in the line above the member.
    """

    # --- Before the money: the request is never taken ---

    #: 400 with "Bad Request - Invalid PartyB".
    INVALID_PARTY_B = "invalid_party_b"
    #: 400 with "Threat Detected" and a null requestId.
    THREAT_DETECTED = "threat_detected"
    #: 500 with 500.003.02 "Spike Arrest Violation".
    SPIKE_ARREST = "spike_arrest"
    #: 500 with 500.003.02 "System is busy".
    SYSTEM_BUSY = "system_busy"
    #: 500 with 500.003.03 "Quota Violation".
    QUOTA = "quota"
    #: 429 with a JSON body.
    TOO_MANY_REQUESTS = "too_many_requests"
    #: All tokens die; 401 with 401.002.01 and the token in the text.
    TOKEN_DIES = "token_dies"  # noqa: S105
    #: 401 with 401.002.01 although the token is good: the product is not enabled.
    PRODUCT_MISSING = "product_missing"
    #: 404 with 404.001.03 "Invalid Access Token".
    TOKEN_REFUSED_404 = "token_refused_404"  # noqa: S105
    #: HTTP 200, and the body is an error with an errorCode.
    ERROR_IN_200 = "error_in_200"
    #: HTTP 200 with a ResponseCode that is not "0".
    RESPONSE_CODE_NOT_ZERO = "response_code_not_zero"
    #: 500 with 500.002.1001 "System internal error."
    INTERNAL_ERROR_BEFORE = "internal_error_before"
    #: 500 with 500.002.1001 and a text about maintenance.
    MAINTENANCE_BEFORE = "maintenance_before"
    #: 500 with 500.003.1001 "Service is currently unreachable".
    UNREACHABLE_BEFORE = "unreachable_before"
    #: 500 with 500.001.1001 and no text.
    EMPTY_MESSAGE_BEFORE = "empty_message_before"
    #: 500 with a SOAP fault turned into JSON.
    SOAP_FAULT_BEFORE = "soap_fault_before"
    #: 503 with a web page of the firewall.
    HTML_503_BEFORE = "html_503_before"
    #: 200 with a web page.
    HTML_200_BEFORE = "html_200_before"
    #: 200 without a body.
    EMPTY_200_BEFORE = "empty_200_before"
    #: The connection is closed without an answer.
    DROP_BEFORE = "drop_before"
    #: The connection is reset.
    RESET_BEFORE = "reset_before"
    #: Nothing comes until the caller gives up.
    NO_ANSWER_BEFORE = "no_answer_before"
    #: Half of an error body, then the connection closes.
    HALF_ANSWER_BEFORE = "half_answer_before"
    #: An error body, a byte at a time.
    DRIP_BEFORE = "drip_before"

    # --- After the money: the request is taken, the answer is spoilt ---

    #: As the members of the same name above, once the request is taken.
    INTERNAL_ERROR_AFTER = "internal_error_after"
    MAINTENANCE_AFTER = "maintenance_after"
    UNREACHABLE_AFTER = "unreachable_after"
    EMPTY_MESSAGE_AFTER = "empty_message_after"
    SOAP_FAULT_AFTER = "soap_fault_after"
    HTML_503_AFTER = "html_503_after"
    HTML_200_AFTER = "html_200_after"
    EMPTY_200_AFTER = "empty_200_after"
    DROP_AFTER = "drop_after"
    RESET_AFTER = "reset_after"
    NO_ANSWER_AFTER = "no_answer_after"
    #: Half of the acknowledgement, or all of it a byte at a time.
    HALF_ANSWER_AFTER = "half_answer_after"
    DRIP_AFTER = "drip_after"
    #: The whole acknowledgement, late.
    SLOW_ANSWER = "slow_answer"
    #: The acknowledgement of another payment.
    ACK_WRONG_ID = "ack_wrong_id"
    #: 200 with JSON that has neither a ResponseCode nor an errorCode.
    ACK_SAYS_NOTHING = "ack_says_nothing"

    # --- The result of a payment; money moved as the ledger says ---

    #: It never comes.
    RESULT_LOST = "result_lost"
    #: It comes twice.
    RESULT_TWICE = "result_twice"
    #: It comes before the acknowledgement.
    RESULT_EARLY = "result_early"
    #: It comes late.
    RESULT_LATE = "result_late"
    #: First a failure, then the truth: paid.
    FAILURE_THEN_SUCCESS = "failure_then_success"
    #: First the truth, paid, then a failure.
    SUCCESS_THEN_FAILURE = "success_then_failure"
    #: First a failure with an invented conversation id, then the truth.
    FORGED_FAILURE = "forged_failure"
    #: The amount is one shilling more than was sent.
    WRONG_AMOUNT = "wrong_amount"
    #: The conversation id is another's.
    WRONG_CONVERSATION_ID = "wrong_conversation_id"
    #: The originator id is another's.
    WRONG_ORIGINATOR_ID = "wrong_originator_id"
    #: TransactionID and TransactionReceipt are two receipts.
    TWO_RECEIPTS = "two_receipts"
    #: There is no ResultCode.
    NO_RESULT_CODE = "no_result_code"
    #: A ResultType of 1 ("further messages to come") first, then the final one.
    RESULT_TYPE_ONE = "result_type_one"
    #: It has one of the other shapes that were seen live.
    OTHER_SHAPE = "other_shape"
    #: The request waited too long and expired: the timeout URL gets our own request back. No money moves.
    TIMEOUT_UNPAID = "timeout_unpaid"
    #: The timeout URL gets our own request back, no result comes, and the money moved.
    TIMEOUT_PAID = "timeout_paid"
    #: The timeout URL gets our own request back, and the true result follows.
    TIMEOUT_THEN_RESULT = "timeout_then_result"
    #: The timeout URL gets an envelope that says ResultCode 0, or 1; no result comes, the money moved.
    TIMEOUT_SAYS_0 = "timeout_says_0"
    TIMEOUT_SAYS_1 = "timeout_says_1"

    # --- The result of a status query ---

    #: It never comes.
    STATUS_LOST = "status_lost"
    #: Code 2033: no receipt found for this id, although there is one.
    STATUS_LAGS = "status_lags"
    #: A status that is not final.
    STATUS_INITIATED = "status_initiated"
    STATUS_AUTHORIZED = "status_authorized"
    STATUS_PENDING_AUTHORIZED = "status_pending_authorized"
    #: A final "not paid" in other words than Declined, where nothing was paid; paid stays Completed.
    STATUS_CANCELLED = "status_cancelled"
    STATUS_EXPIRED = "status_expired"
    #: No TransactionStatus at all.
    STATUS_MISSING = "status_missing"
    #: Declined where it was paid, Completed where it was not.
    STATUS_LIES = "status_lies"
    #: Another amount, or another receiver.
    STATUS_WRONG_AMOUNT = "status_wrong_amount"
    STATUS_WRONG_PARTY = "status_wrong_party"
    #: The query itself is refused, code 21; says nothing about the payment.
    STATUS_REFUSED = "status_refused"
    #: A code that nobody has ever seen.
    STATUS_UNKNOWN_CODE = "status_unknown_code"

    # --- The result of a balance query ---

    #: It never comes.
    BALANCE_LOST = "balance_lost"
    #: It fails, with an ErrorMsg.
    BALANCE_REFUSED = "balance_refused"
    #: It has no utility account.
    BALANCE_WITHOUT_UTILITY = "balance_without_utility"


#: The first fault of each stage: the enum is written in these groups.
_FIRST_OF: Final = {
    Fault.INVALID_PARTY_B: FaultStage.BEFORE,
    Fault.INTERNAL_ERROR_AFTER: FaultStage.AFTER,
    Fault.RESULT_LOST: FaultStage.RESULT,
    Fault.STATUS_LOST: FaultStage.STATUS,
    Fault.BALANCE_LOST: FaultStage.BALANCE,
}


def _stages() -> Mapping[Fault, FaultStage]:
    stages: dict[Fault, FaultStage] = {}
    stage = FaultStage.BEFORE
    for fault in Fault:
        stages[fault] = stage = _FIRST_OF.get(fault, stage)
    return stages


#: Where each fault strikes.
STAGE_OF: Final[Mapping[Fault, FaultStage]] = _stages()

#: The endpoint that a rule means when it names none.
_USUAL_ENDPOINT: Final = {
    FaultStage.BEFORE: Endpoint.B2C,
    FaultStage.AFTER: Endpoint.B2C,
    FaultStage.RESULT: Endpoint.B2C,
    FaultStage.STATUS: Endpoint.STATUS,
    FaultStage.BALANCE: Endpoint.BALANCE,
}


@dataclass(frozen=True)
class Rule:
    """One fault and the requests that it strikes; every condition that is given must hold.

    A status query is known by the phone and the originator id of the payment that it asks about.
    """

    fault: Fault
    #: The endpoint; by default the one that the fault belongs to (payments, for answers).
    endpoint: Endpoint | None = None
    #: The nth request on that endpoint, counted from 1.
    nth: int | None = None
    #: Payments to this number (`254` and nine digits).
    phone: str | None = None
    #: The payment with this OriginatorConversationID.
    originator_id: str | None = None
    #: Only the first so many requests about each payment.
    first: int | None = None
    #: At most so many times in all.
    times: int | None = None
    #: How likely it is, from 0 to 1, drawn by the seed for each request of each payment.
    probability: float = 1.0

    def __post_init__(self) -> None:
        stage = STAGE_OF[self.fault]
        if stage in (FaultStage.BEFORE, FaultStage.AFTER):
            fitting = {Endpoint.TOKEN, Endpoint.B2C, Endpoint.STATUS, Endpoint.BALANCE}
        else:
            fitting = {_USUAL_ENDPOINT[stage]}
        if self.where not in fitting:
            raise ValueError(f"{self.fault} cannot happen on {self.where}; it can on {', '.join(sorted(fitting))}")

    @property
    def where(self) -> Endpoint:
        """The endpoint whose requests it strikes."""
        return self.endpoint or _USUAL_ENDPOINT[STAGE_OF[self.fault]]

    @classmethod
    def from_json(cls, value: object) -> Rule:
        """A rule as `POST /_fault` takes it: an object with the names of these fields.

        Raises:
            ValueError: it says what is wrong with which field.
        """
        if not isinstance(value, dict):
            raise ValueError('a rule is an object, such as {"fault": "drop_after", "nth": 1}')  # noqa: TRY004
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise ValueError(f"a rule has no field {unknown[0]!r}; there are {', '.join(sorted(known))}")
        if value.get("fault") not in set(Fault):
            raise ValueError(f"there is no fault {value.get('fault')!r}; GET /_fault lists them")
        if value.get("endpoint") not in {None, *Endpoint}:
            raise ValueError(f"there is no endpoint {value['endpoint']!r}; there are {', '.join(Endpoint)}")
        for name in ("nth", "first", "times"):
            number = value.get(name)
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise ValueError(f"{name} is a whole number from 1 on")
        for name in ("phone", "originator_id"):
            if not isinstance(value.get(name, ""), str):
                raise ValueError(f"{name} is text")  # noqa: TRY004
        probability = value.get("probability", 1)
        if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise ValueError("probability is a number from 0 to 1")
        endpoint = None if value.get("endpoint") is None else Endpoint(value["endpoint"])
        return cls(**value | {"fault": Fault(value["fault"]), "endpoint": endpoint, "probability": float(probability)})


class _Seen(NamedTuple):
    """One request as the rules see it: `nth` is its number on the endpoint, `turn` the one about its subject."""

    endpoint: Endpoint
    nth: int
    subject: str
    phone: str | None
    turn: int


class Script:
    """The rules in force, and how often each was used. Not thread-safe: its owner holds the lock."""

    def __init__(self, seed: int, rules: Iterable[Rule]) -> None:
        self._seed = seed
        self._rules: list[Rule] = list(rules)
        self._used: Counter[Rule] = Counter()
        self._seen: Counter[tuple[Endpoint, str]] = Counter()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force, first match first."""
        return tuple(self._rules)

    def add(self, rules: Iterable[Rule], *, replace: bool) -> None:
        """Put rules before those in force, or in their place."""
        self._rules = [*rules, *([] if replace else self._rules)]

    def choose(
        self, endpoint: Endpoint, *, nth: int, subject: str, phone: str | None, also: tuple[Rule, ...] = ()
    ) -> dict[FaultStage, Fault]:
        """The faults of one request: at most one of each stage, the first rule that fits.

        `subject` is the payment that the request is about, `nth` its number on the endpoint, `also`
        the rules of its test number. A request that is stopped before the money has no other fault.
        """
        self._seen[endpoint, subject] += 1
        if not self._rules and not also:
            return {}
        seen = _Seen(endpoint, nth, subject, phone, self._seen[endpoint, subject])
        chosen: dict[FaultStage, Fault] = {}
        for place, rule in enumerate((*self._rules, *also)):
            stage = STAGE_OF[rule.fault]
            if stage not in chosen and self._fits(rule, place, seen):
                chosen[stage] = rule.fault
                self._used[rule] += 1
        return {FaultStage.BEFORE: chosen[FaultStage.BEFORE]} if FaultStage.BEFORE in chosen else chosen

    def _fits(self, rule: Rule, place: int, seen: _Seen) -> bool:
        if rule.where is not seen.endpoint or (rule.times is not None and self._used[rule] >= rule.times):
            return False
        if rule.nth not in (None, seen.nth) or rule.phone not in (None, seen.phone):
            return False
        if rule.originator_id not in (None, seen.subject) or (rule.first is not None and seen.turn > rule.first):
            return False
        if rule.probability >= 1:
            return True
        return chance.fraction(self._seed, "fault", place, rule.fault, seen.subject, seen.turn) < rule.probability
