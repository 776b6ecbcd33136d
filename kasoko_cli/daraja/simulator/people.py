"""Test phone numbers, one for each thing that can happen to a payment.

Every number is a valid Kenyan mobile. Any number that is not in the table is an ordinary customer who
gets her money. Numbers that begin with 2547990 end in a result code; 254799 1 are troubles before the
money moves, 254799 2 after it, 254799 3 are troubles of the result and 254799 4 of the status query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from kasoko_cli.daraja.simulator import chance
from kasoko_cli.daraja.simulator.script import STAGE_OF, Fault, FaultStage, Rule


@dataclass(frozen=True)
class Person:
    """One row of the table: what happens to a payment to this number."""

    phone: str
    #: What happens, in words.
    title: str
    #: Whether her money arrives if the same request is sent again until it is taken.
    paid: bool
    #: The result code that the payment ends with.
    code: str = "0"
    #: What else goes wrong.
    faults: tuple[Fault, ...] = ()
    #: Only the first so many requests about each payment have these faults; None is all.
    first: int | None = None
    #: The same, as the script wants it.
    rules: tuple[Rule, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(Rule(fault, first=self.first) for fault in self.faults))


def _ends_with(number: int, code: str, title: str, *, paid: bool = False) -> Person:
    return Person(phone=f"254799{number:06d}", title=title, paid=paid, code=code)


def _troubled(number: int, title: str, *faults: Fault, first: int | None = None, code: str = "0") -> Person:
    stopped = first is None and any(STAGE_OF[fault] is FaultStage.BEFORE for fault in faults)
    paid = not stopped and code == "0" and Fault.TIMEOUT_UNPAID not in faults
    return Person(phone=f"254799{number:06d}", title=title, paid=paid, code=code, faults=faults, first=first)


_ROWS: Final = (
    # The number ends in the result code; 17 and 99999 mean that nobody knows, so they come paid and unpaid.
    _ends_with(1, "1", "the utility account is too low, whatever is in it"),
    _ends_with(2, "2", "below the least amount"),
    _ends_with(3, "3", "above the greatest amount"),
    _ends_with(4, "4", "has had all she may receive today"),
    _ends_with(7, "7", "the receiver is not resolved"),
    _ends_with(8, "8", "her account is full"),
    _ends_with(11, "11", "our shortcode is inactive"),
    _ends_with(15, "15", "a result that says duplicate although it was not; nothing paid"),
    _ends_with(17, "17", "an internal failure; nothing paid"),
    _ends_with(21, "21", "the operator may not initiate"),
    _ends_with(26, "26", "the system is too busy"),
    _ends_with(2001, "2001", "the initiator is invalid"),
    _ends_with(2006, "2006", "our account is not active"),
    _ends_with(2028, "2028", "our shortcode may not do B2C"),
    _ends_with(2040, "2040", "not a registered customer"),
    _ends_with(4001, "4001", "insufficient balance in the words of July 2026"),
    _ends_with(8006, "8006", "the credential is locked"),
    _ends_with(10003, "SFC_IC0003", "the number is not on M-Pesa"),
    _ends_with(10017, "17", "an internal failure; paid all the same", paid=True),
    _ends_with(99998, "99999", "a code that nobody has ever seen; paid all the same", paid=True),
    _ends_with(99999, "99999", "a code that nobody has ever seen; nothing paid"),
    # Before the money: the request is not taken.
    _troubled(100001, "400 Invalid PartyB", Fault.INVALID_PARTY_B),
    _troubled(100002, "spike arrest twice, then taken", Fault.SPIKE_ARREST, first=2),
    _troubled(100003, "spike arrest always", Fault.SPIKE_ARREST),
    _troubled(100004, "quota once, then taken", Fault.QUOTA, first=1),
    _troubled(100005, "token refused once, then taken", Fault.TOKEN_DIES, first=1),
    _troubled(100006, "token refused always", Fault.PRODUCT_MISSING),
    _troubled(100007, "HTTP 200 with an errorCode", Fault.ERROR_IN_200),
    _troubled(100008, "HTTP 200 with ResponseCode 1", Fault.RESPONSE_CODE_NOT_ZERO),
    _troubled(100009, "internal error once, not taken, then taken", Fault.INTERNAL_ERROR_BEFORE, first=1),
    _troubled(100010, "internal error always, never taken", Fault.INTERNAL_ERROR_BEFORE),
    _troubled(100011, "HTML 503 always, never taken", Fault.HTML_503_BEFORE),
    _troubled(100012, "HTML 503 twice, then taken", Fault.HTML_503_BEFORE, first=2),
    _troubled(100013, "connection closed, never taken", Fault.DROP_BEFORE),
    _troubled(100014, "connection closed once, not taken, then taken", Fault.DROP_BEFORE, first=1),
    _troubled(100015, "connection reset, never taken", Fault.RESET_BEFORE),
    _troubled(100016, "no answer, never taken", Fault.NO_ANSWER_BEFORE),
    _troubled(100017, "half an error, never taken", Fault.HALF_ANSWER_BEFORE),
    _troubled(100018, "500.001.1001 without a text, never taken", Fault.EMPTY_MESSAGE_BEFORE),
    _troubled(100019, "SOAP fault, never taken", Fault.SOAP_FAULT_BEFORE),
    # After the money: taken and paid, and the answer is spoilt.
    _troubled(200001, "internal error, taken", Fault.INTERNAL_ERROR_AFTER),
    _troubled(200002, "HTML 503, taken", Fault.HTML_503_AFTER),
    _troubled(200003, "HTTP 200 with HTML, taken", Fault.HTML_200_AFTER),
    _troubled(200004, "HTTP 200 with nothing, taken", Fault.EMPTY_200_AFTER),
    _troubled(200005, "connection closed, taken", Fault.DROP_AFTER),
    _troubled(200006, "connection reset, taken", Fault.RESET_AFTER),
    _troubled(200007, "no answer, taken", Fault.NO_ANSWER_AFTER),
    _troubled(200008, "half an acknowledgement, taken", Fault.HALF_ANSWER_AFTER),
    _troubled(200009, "the acknowledgement a byte at a time, taken", Fault.DRIP_AFTER),
    _troubled(200010, "a slow acknowledgement, taken", Fault.SLOW_ANSWER),
    _troubled(200011, "500.001.1001 without a text, taken", Fault.EMPTY_MESSAGE_AFTER),
    _troubled(200012, "SOAP fault, taken", Fault.SOAP_FAULT_AFTER),
    _troubled(200013, "service unreachable, taken", Fault.UNREACHABLE_AFTER),
    _troubled(200014, "the acknowledgement of another payment, taken", Fault.ACK_WRONG_ID),
    _troubled(200015, "JSON that says nothing, taken", Fault.ACK_SAYS_NOTHING),
    _troubled(200016, "connection closed, taken, and no result", Fault.DROP_AFTER, Fault.RESULT_LOST),
    _troubled(202040, "connection closed, taken, and it fails", Fault.DROP_AFTER, code="2040"),
    # The result.
    _troubled(300001, "no result, paid", Fault.RESULT_LOST),
    _troubled(300002, "the result twice", Fault.RESULT_TWICE),
    _troubled(300003, "the result before the acknowledgement", Fault.RESULT_EARLY),
    _troubled(300004, "the result late", Fault.RESULT_LATE),
    _troubled(300005, "a failure, then the success; paid", Fault.FAILURE_THEN_SUCCESS),
    _troubled(300006, "the success, then a failure; paid", Fault.SUCCESS_THEN_FAILURE),
    _troubled(300007, "a forged failure, then the success", Fault.FORGED_FAILURE),
    _troubled(300008, "a result with another amount", Fault.WRONG_AMOUNT),
    _troubled(300009, "a result with another conversation id", Fault.WRONG_CONVERSATION_ID),
    _troubled(300010, "a result with another originator id", Fault.WRONG_ORIGINATOR_ID),
    _troubled(300011, "a result with two receipts", Fault.TWO_RECEIPTS),
    _troubled(300012, "a result without a code", Fault.NO_RESULT_CODE),
    _troubled(300013, "a result of type 1, then the final one", Fault.RESULT_TYPE_ONE),
    _troubled(300014, "a result in another shape", Fault.OTHER_SHAPE),
    _troubled(300015, "a queue timeout with our request in it, never paid", Fault.TIMEOUT_UNPAID),
    _troubled(300016, "a queue timeout with our request in it, paid, no result", Fault.TIMEOUT_PAID),
    _troubled(300017, "a queue timeout, then the result", Fault.TIMEOUT_THEN_RESULT),
    _troubled(300018, "a queue timeout that says 0, paid, no result", Fault.TIMEOUT_SAYS_0),
    _troubled(300019, "a queue timeout that says 1, paid, no result", Fault.TIMEOUT_SAYS_1),
    _troubled(300020, "no result, and it failed", Fault.RESULT_LOST, code="2040"),
    # No result, and the status query has trouble: the first two times where there is an end to it.
    _troubled(400001, "no result; status not found twice", Fault.RESULT_LOST, Fault.STATUS_LAGS, first=2),
    _troubled(400002, "no result; status Initiated twice", Fault.RESULT_LOST, Fault.STATUS_INITIATED, first=2),
    _troubled(400003, "no result; status Authorized twice", Fault.RESULT_LOST, Fault.STATUS_AUTHORIZED, first=2),
    _troubled(
        400004,
        "no result; status Pending Authorized twice",
        Fault.RESULT_LOST,
        Fault.STATUS_PENDING_AUTHORIZED,
        first=2,
    ),
    _troubled(400005, "no result; the first status answer never comes", Fault.RESULT_LOST, Fault.STATUS_LOST, first=1),
    _troubled(400006, "no result; status without a status", Fault.RESULT_LOST, Fault.STATUS_MISSING),
    _troubled(400007, "no result; status lies", Fault.RESULT_LOST, Fault.STATUS_LIES),
    _troubled(400008, "no result; status with another amount", Fault.RESULT_LOST, Fault.STATUS_WRONG_AMOUNT),
    _troubled(400009, "no result; status with another receiver", Fault.RESULT_LOST, Fault.STATUS_WRONG_PARTY),
    _troubled(400010, "no result; the query is refused once", Fault.RESULT_LOST, Fault.STATUS_REFUSED, first=1),
    _troubled(400011, "no result; the query ends in an unknown code", Fault.RESULT_LOST, Fault.STATUS_UNKNOWN_CODE),
    _troubled(400012, "no result, failed; status Cancelled", Fault.RESULT_LOST, Fault.STATUS_CANCELLED, code="2040"),
    _troubled(400013, "no result, failed; status Expired", Fault.RESULT_LOST, Fault.STATUS_EXPIRED, code="2040"),
)

#: The table, by phone number.
PEOPLE: Final[Mapping[str, Person]] = MappingProxyType({person.phone: person for person in _ROWS})

#: Anybody who is not in the table.
ORDINARY: Final = Person(phone="", title="gets her money", paid=True)

_FIRST_NAMES: Final = (
    "AKINYI",
    "BARAKA",
    "CHEBET",
    "HASSAN",
    "JANE",
    "KAMAU",
    "MUTHONI",
    "OTIENO",
    "WANJIKU",
    "ZAWADI",
)
_LAST_NAMES: Final = ("AUMA", "BARASA", "DOE", "GITAU", "KIMANI", "MAKENA", "NJOROGE", "ODHIAMBO", "WERE", "WAMBUI")


def name_of(phone: str) -> str:
    """The name under which M-Pesa knows this number; the same in every run."""
    return f"{chance.choice(_FIRST_NAMES, 0, phone, 1)} {chance.choice(_LAST_NAMES, 0, phone, 2)}"
