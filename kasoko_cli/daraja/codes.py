"""Code and text -> taken, not sent, paid, failed or unknown; each line with its source.

M-Pesa gives one number opposite meanings on different products, and gives two opposite meanings
to one number on the same product. So there is one table a direction, code *and* text are read, and
what no line names is unknown: asked about, never sent again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kasoko_cli.daraja.messages import (
    MAX_ANSWER_BYTES,
    Acknowledgement,
    Json,
    MalformedBody,
    Result,
    parse_acknowledgement,
    party_phone,
    read_json,
)

_PORTAL_B2C = "Daraja portal, B2C page, result codes"
_PORTAL_BALANCE = "Daraja portal, account balance page, result codes"
_PORTAL_B2C_ERRORS = "Daraja portal, B2C page, error codes"
_SEVERAL = "the same meaning in three or more public codebases"
_PRODUCTION_CODE = "one public codebase that pays in production"
_LIVE = "live sandbox capture, July to October 2026"

# --- What M-Pesa answers at once -------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """What an answer, or the lack of one, says about the request."""

    #: M-Pesa has it and will post a result.
    TAKEN = "taken"
    #: Certainly not taken; the same id may go again later.
    NOT_SENT = "not_sent"
    #: Certainly not taken, and never will be as it stands: this request is malformed, or its number impossible.
    REFUSED = "refused"
    #: Certainly not taken, nor will anything else of this account be: the run stops.
    ACCOUNT = "account"
    #: This id was taken before. The first request stands; how it ended has to be asked.
    DUPLICATE = "duplicate"
    #: It may have been taken.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class AnswerRule:
    """One line of the table of synchronous answers; it applies where code and text both fit."""

    #: A pattern for the whole errorCode; None fits every code, and its absence.
    code: str | None
    #: A pattern that occurs somewhere in the text, in any case; None fits every text.
    text: str | None
    verdict: Verdict
    #: What it means, for a person.
    meaning: str
    #: What an operator does next.
    advice: str
    #: Where this is known from.
    source: str
    #: Whether a fresh token may mend it.
    token_refused: bool = False

    def fits(self, code: str | None, text: str) -> bool:
        """Whether this line speaks of an answer with this code and this text."""
        return (self.code is None or (code is not None and re.fullmatch(self.code, code) is not None)) and (
            self.text is None or re.search(self.text, text, re.IGNORECASE) is not None
        )


_WAIT = "Nothing to do: it is sent again, later, with the same id."
_ASK = "Ask how it ended: kasoko reconcile"
_CHECK_ACCOUNT = "Mend the account or the settings, then: kasoko payout"

#: Errors of the gateway, in the order in which they are tried. What fits no line is unknown.
ANSWER_RULES: Final[tuple[AnswerRule, ...]] = (
    AnswerRule(
        None,
        r"duplicate\s+originator\s*conversation\s*id",
        Verdict.DUPLICATE,
        "this id was already taken; the first request stands",
        _ASK,
        f"{_PORTAL_B2C_ERRORS}, the error sample",
    ),
    AnswerRule(
        None,
        r"threat detected",
        Verdict.ACCOUNT,
        "the gateway refuses a callback URL",
        "Choose a callback URL without the words M-Pesa forbids: set MPESA_CALLBACK_URL",
        "an issue thread of Safaricom's public sample code, with the body",
    ),
    AnswerRule(
        None,
        r"no apiproduct match found",
        Verdict.ACCOUNT,
        "the product is not enabled on this app, or the environment is wrong",
        "Enable B2C on the app in the Daraja portal, or correct the environment, then: kasoko payout",
        "Daraja portal, authorisation page, frequent questions",
    ),
    AnswerRule(
        r"400\.003\.01|401\.002\.01|401\.001|404\.001\.03",
        None,
        Verdict.NOT_SENT,
        "the access token is refused",
        _WAIT,
        f"{_PORTAL_B2C_ERRORS}; status and reversal pages; {_LIVE}",
        token_refused=True,
    ),
    AnswerRule(
        None,
        r"invalid access token|access token (has )?expired",
        Verdict.NOT_SENT,
        "the access token is refused",
        _WAIT,
        f"{_PORTAL_B2C_ERRORS}; {_LIVE}",
        token_refused=True,
    ),
    AnswerRule(
        r"400\.002\.02",
        r"invalid\s+(PartyB|Amount|Remarks|Occass?ion|OriginatorConversationID|TransactionID|OriginalConversationID)\b",
        Verdict.REFUSED,
        "a field of this request is refused",
        "Correct the phone or the amount, then: kasoko payout retry",
        f"{_PORTAL_B2C_ERRORS}; seen live many times",
    ),
    AnswerRule(
        r"400\.002\.02",
        None,
        Verdict.ACCOUNT,
        "a field that every request has is refused",
        "Check initiator name, credential, shortcode and callback URL: kasoko config show --origin",
        f"{_PORTAL_B2C_ERRORS}; a wrong content type shows as an invalid first field",
    ),
    AnswerRule(
        r"400\.002\.05",
        None,
        Verdict.REFUSED,
        "the request is malformed",
        "This is a bug: report it with this line.",
        _PORTAL_B2C_ERRORS,
    ),
    AnswerRule(
        r"400\.003\.02",
        None,
        Verdict.REFUSED,
        "something is missing in the request",
        "This is a bug: report it with this line.",
        _PORTAL_B2C_ERRORS,
    ),
    AnswerRule(
        r"404\.001\.04",
        None,
        Verdict.ACCOUNT,
        "the authentication header or the HTTP method is refused",
        _CHECK_ACCOUNT,
        _PORTAL_B2C_ERRORS,
    ),
    AnswerRule(
        r"404\.00[123]\.01",
        None,
        Verdict.ACCOUNT,
        "there is no such path at this address",
        "Check MPESA_BASE_URL and MPESA_PRODUCTION, then: kasoko payout",
        _PORTAL_B2C_ERRORS,
    ),
    AnswerRule(
        r"405\.001",
        None,
        Verdict.ACCOUNT,
        "the HTTP method is refused",
        _CHECK_ACCOUNT,
        _PORTAL_B2C_ERRORS,
    ),
    AnswerRule(
        r"500\.003\.02",
        r"spike\s*arrest|system is busy",
        Verdict.NOT_SENT,
        "too many requests in one second, or the gateway is busy",
        _WAIT,
        f"{_PORTAL_B2C_ERRORS} (both texts)",
    ),
    AnswerRule(
        r"500\.003\.03",
        r"quota",
        Verdict.NOT_SENT,
        "the quota of requests is used up",
        _WAIT,
        _PORTAL_B2C_ERRORS,
    ),
    AnswerRule(
        r"policies\.ratelimit\.(SpikeArrest|Quota)Violation",
        None,
        Verdict.NOT_SENT,
        "too many requests",
        _WAIT,
        "the API manager's public documentation of its fault codes",
    ),
    AnswerRule(
        r"429(\..*)?",
        None,
        Verdict.NOT_SENT,
        "too many requests",
        _WAIT,
        "third-party descriptions only",
    ),
    AnswerRule(
        r"500\.001\.1001",
        r"merchant does not exist|wrong credentials",
        Verdict.ACCOUNT,
        "the shortcode or its credentials are refused",
        _CHECK_ACCOUNT,
        "Daraja portal, M-Pesa Express page, error codes",
    ),
    AnswerRule(
        r"5?00\.002\.1001",
        None,
        Verdict.UNKNOWN,
        "M-Pesa has internal trouble, or is under maintenance",
        _ASK,
        "an issue thread of a public M-Pesa library; Daraja portal, account balance page",
    ),
    AnswerRule(
        r"500\.001\.1001|500\.003\.1001",
        None,
        Verdict.UNKNOWN,
        "M-Pesa has internal trouble",
        _ASK,
        f"{_PORTAL_B2C_ERRORS}; {_LIVE}",
    ),
)

#: A ResponseCode other than 0 under HTTP 2xx that is a refusal by its nature. Every other one is unknown.
#: Source: Daraja portal, account balance page, response and result codes.
RESPONSE_RULES: Final[tuple[AnswerRule, ...]] = (
    AnswerRule(
        r"18|20|21|22|23|100000010",
        None,
        Verdict.ACCOUNT,
        "the initiator is refused",
        "Check the initiator, its role and its credential, then: kasoko payout",
        _PORTAL_BALANCE,
    ),
    AnswerRule(
        r"24|25|29|100000005",
        None,
        Verdict.REFUSED,
        "the request is malformed",
        "This is a bug: report it with this line.",
        _PORTAL_BALANCE,
    ),
    AnswerRule(r"100000011", None, Verdict.NOT_SENT, "too many requests", _WAIT, _PORTAL_BALANCE),
)


@dataclass(frozen=True)
class SortedAnswer:
    """What a synchronous answer says about its request."""

    verdict: Verdict
    #: errorCode, ResponseCode, or the HTTP status where there is neither.
    code: str
    #: What M-Pesa wrote, as it came: redact it before it is logged or kept.
    text: str
    #: What it means, for a person.
    meaning: str
    #: What to do next.
    advice: str
    #: Whether a fresh token may mend it.
    token_refused: bool = False
    #: The ids, where the answer has any.
    acknowledgement: Acknowledgement = field(default_factory=Acknowledgement)


def sort_answer(http_status: int, body: bytes) -> SortedAnswer:
    """Sort the answer to a B2C, status or balance request.

    An errorCode counts whatever the HTTP status, since error bodies were seen under 200; a success
    counts only under 2xx and without an errorCode.
    """
    try:
        answer = parse_acknowledgement(body)
    except MalformedBody as malformed:
        return _sort_unreadable(http_status, body, malformed.reason)
    ok = 200 <= http_status < 300
    failed = answer.error_code is not None or bool(answer.error_message)
    if failed and answer.response_code is None:
        for rule in ANSWER_RULES:
            if rule.fits(answer.error_code, answer.error_message):
                return _sorted(rule, answer.error_code or str(http_status), answer.error_message, answer)
    elif not failed and answer.response_code is not None and ok:
        if answer.response_code == "0":
            taken = "M-Pesa has taken the request"
            return SortedAnswer(Verdict.TAKEN, "0", answer.response_description, taken, "", acknowledgement=answer)
        for rule in RESPONSE_RULES:
            if rule.fits(answer.response_code, answer.response_description):
                return _sorted(rule, answer.response_code, answer.response_description, answer)
    return _sort_by_status(http_status, answer)


def _sorted(rule: AnswerRule, code: str, text: str, answer: Acknowledgement) -> SortedAnswer:
    return SortedAnswer(
        rule.verdict, code, text, rule.meaning, rule.advice, token_refused=rule.token_refused, acknowledgement=answer
    )


def _sort_by_status(http_status: int, answer: Acknowledgement) -> SortedAnswer:
    """An answer that no line names: 401 and 429 are refusals whatever they say; the rest is unknown."""
    code = answer.error_code or answer.response_code or str(http_status)
    text = answer.error_message or answer.response_description
    if answer.response_code is None and http_status == 401:
        meaning = "the access token is refused"
        return SortedAnswer(Verdict.NOT_SENT, code, text, meaning, _WAIT, token_refused=True, acknowledgement=answer)
    if answer.response_code is None and http_status == 429:
        return SortedAnswer(Verdict.NOT_SENT, code, text, "too many requests", _WAIT, acknowledgement=answer)
    meaning = f"an answer that is not in the tables (HTTP {http_status})"
    return SortedAnswer(Verdict.UNKNOWN, code, text, meaning, _ASK, acknowledgement=answer)


def _sort_unreadable(http_status: int, body: bytes, reason: str) -> SortedAnswer:
    """Nothing to read: an empty 401 and any 429 still say that the request was not taken."""
    empty = not body.strip()
    if http_status == 429 or (http_status == 401 and empty):
        return _sort_by_status(http_status, Acknowledgement())
    what = "nothing" if empty else f"a body that cannot be read ({reason})"
    return SortedAnswer(Verdict.UNKNOWN, str(http_status), "", f"M-Pesa answered HTTP {http_status} with {what}", _ASK)


@dataclass(frozen=True)
class TokenAnswer:
    """What the answer to a token request says: TAKEN with a token, ACCOUNT, or NOT_SENT."""

    verdict: Verdict
    code: str
    text: str
    meaning: str
    advice: str
    #: The access token; empty unless TAKEN.
    value: str = field(default="", repr=False)
    #: How long it lives, as M-Pesa wrote it: text or number, or None.
    expires_in: Json = None


_BEARER = re.compile(r"[A-Za-z0-9._~+/=-]{4,2048}")
_CHECK_KEY = (
    "Check MPESA_CONSUMER_KEY and MPESA_CONSUMER_SECRET, and that they belong to this environment: "
    "kasoko config show --origin"
)


def sort_token_answer(http_status: int, body: bytes) -> TokenAnswer:
    """Sort the answer to a token request. No money is in it, so nothing here is ever unknown.

    Source: Daraja portal, authorisation page; an empty 400 for a wrong key from one public codebase.
    """
    try:
        value = read_json(body, max_bytes=MAX_ANSWER_BYTES)
        answer = parse_acknowledgement(body)
    except MalformedBody as malformed:
        if http_status == 401 or (http_status == 400 and not body.strip()):
            return TokenAnswer(
                Verdict.ACCOUNT, str(http_status), "", "the consumer key or secret is refused", _CHECK_KEY
            )
        meaning = f"the token service answered HTTP {http_status} with what cannot be read ({malformed.reason})"
        return TokenAnswer(Verdict.NOT_SENT, str(http_status), "", meaning, _WAIT)
    assert isinstance(value, dict), "parse_acknowledgement takes nothing else"
    token = value.get("access_token")
    if 200 <= http_status < 300 and answer.error_code is None and isinstance(token, str) and _BEARER.fullmatch(token):
        expires_in = value.get("expires_in", value.get("expiry_in"))
        return TokenAnswer(Verdict.TAKEN, "0", "", "a token", "", value=token, expires_in=expires_in)
    code, text = answer.error_code or str(http_status), answer.error_message
    if code in ("400.008.01", "400.008.02") or http_status in (400, 401):
        return TokenAnswer(Verdict.ACCOUNT, code, text, "the consumer key or secret is refused", _CHECK_KEY)
    for rule in ANSWER_RULES:
        if rule.verdict is Verdict.ACCOUNT and rule.fits(answer.error_code, answer.error_message):
            return TokenAnswer(Verdict.ACCOUNT, code, text, rule.meaning, rule.advice)
    meaning = f"the token service answered HTTP {http_status} without a token"
    return TokenAnswer(Verdict.NOT_SENT, code, text, meaning, _WAIT)


# --- How a payment ended ---------------------------------------------------------------------------------------------


class Fate(StrEnum):
    """What a final result says about the money."""

    #: The customer has it.
    PAID = "paid"
    #: No money moved, definitely.
    FAILED = "failed"
    #: It may have moved: ask, never send again.
    UNKNOWN = "unknown"


class Who(StrEnum):
    """On whom it depends whether the same payment can succeed."""

    #: Nothing is left to do.
    NOBODY = "-"
    #: On time: the same payment may succeed later unchanged.
    TIME = "T"
    #: On the operator: funds, a role, an unlock, a setting.
    OPERATOR = "O"
    #: On the customer: it may become possible, or another number is needed.
    CUSTOMER = "C"
    #: It never can: the request itself is impossible.
    PERMANENT = "P"
    #: Ask first: money may have moved.
    ASK = "Q"


@dataclass(frozen=True)
class ResultRule:
    """One line of the table of B2C result codes."""

    code: str
    #: What it means for a B2C payment, for a person.
    meaning: str
    fate: Fate
    who: Who
    #: What an operator does next.
    advice: str
    #: Where this is known from.
    source: str
    #: Whether every other payment of this account would meet the same: the run stops.
    account_level: bool = False
    #: Whether the same payment, unchanged, may succeed later.
    may_succeed_again: bool = False
    #: Whether it can only succeed to another number.
    needs_other_phone: bool = False


def _operator(code: str, meaning: str, advice: str, source: str) -> ResultRule:
    """A definite failure of the account: nothing else is sent until the operator has mended it."""
    return ResultRule(
        code, meaning, Fate.FAILED, Who.OPERATOR, advice, source, account_level=True, may_succeed_again=True
    )


def _later(code: str, meaning: str, who: Who, advice: str, source: str) -> ResultRule:
    """A definite failure that time may mend."""
    return ResultRule(code, meaning, Fate.FAILED, who, advice, source, may_succeed_again=True)


def _phone(code: str, meaning: str, advice: str, source: str) -> ResultRule:
    """A definite failure of this number."""
    return ResultRule(code, meaning, Fate.FAILED, Who.CUSTOMER, advice, source, needs_other_phone=True)


def _never(code: str, meaning: str, advice: str, source: str) -> ResultRule:
    """A definite failure of this request: the same one fails again."""
    return ResultRule(code, meaning, Fate.FAILED, Who.PERMANENT, advice, source)


def _ask(code: str, meaning: str, source: str, advice: str = _ASK) -> ResultRule:
    """A code that leaves open whether money moved."""
    return ResultRule(code, meaning, Fate.UNKNOWN, Who.ASK, advice, source)


_OTHER_PHONE = "Ask the customer for another number: kasoko user set-phone, then: kasoko payout retry"
_FUND = "Move money into the utility account, then: kasoko retry-failed"
_ACCOUNT = "Have Safaricom or the Business Administrator mend it, then: kasoko retry-failed"
_BUG = "This is a bug: report it with this line. The money can go to the wallet: kasoko payout to-wallet"
_CREDENTIAL = (
    "Check initiator name, password and environment, make a new credential (kasoko credential encrypt), "
    "then: kasoko retry-failed"
)

_RULES: Final[tuple[ResultRule, ...]] = (
    ResultRule("0", "paid", Fate.PAID, Who.NOBODY, "", _PORTAL_B2C),
    _operator("1", "the utility account has too little money", _FUND, _PORTAL_B2C),
    _never(
        "2",
        "the amount is below M-Pesa's minimum of KES 10",
        "Credit the wallet instead: kasoko payout to-wallet",
        f"{_PORTAL_B2C}; {_PRODUCTION_CODE}",
    ),
    _never(
        "3",
        "the amount is above M-Pesa's maximum of KES 250,000",
        "Credit the wallet instead: kasoko payout to-wallet",
        _PORTAL_B2C,
    ),
    _later(
        "4",
        "the customer's daily limit is reached",
        Who.CUSTOMER,
        "Send it tomorrow, Nairobi time: kasoko payout retry",
        _PORTAL_B2C,
    ),
    _operator("5", "the utility account would fall below its minimum", _FUND, f"older Safaricom list; {_SEVERAL}"),
    _operator("6", "our shortcode is not known", _ACCOUNT, _SEVERAL),
    _phone("7", "the receiver is not known", _OTHER_PHONE, f"{_SEVERAL}; {_LIVE}"),
    _later(
        "8",
        "the customer's balance would pass M-Pesa's maximum",
        Who.CUSTOMER,
        "Send it later: kasoko payout retry",
        _PORTAL_B2C,
    ),
    _operator("11", "our shortcode is not active", _ACCOUNT, _PORTAL_B2C),
    _phone("12", "the customer's account cannot receive money", _OTHER_PHONE, _SEVERAL),
    _operator("13", "our account is not known", _ACCOUNT, _SEVERAL),
    _phone("14", "the customer's account is not known", _OTHER_PHONE, _SEVERAL),
    _ask("15", "this id was taken before; the first request stands", _PORTAL_BALANCE),
    _ask("17", "M-Pesa had an internal failure", f"{_PORTAL_BALANCE}; a Safaricom tutorial"),
    _operator("18", "the initiator's credential is wrong", _CREDENTIAL, _PORTAL_BALANCE),
    _ask("19", "M-Pesa lost the order of its messages", _PORTAL_BALANCE),
    _operator("20", "the initiator's name is not known", _CREDENTIAL, _PORTAL_BALANCE),
    _operator(
        "21",
        "the initiator may not start B2C payments",
        'Give it the role "ORG B2C API Initiator", then: kasoko retry-failed',
        _PORTAL_B2C,
    ),
    _operator("22", "the initiator is not active, or has no permission", _ACCOUNT, _PORTAL_BALANCE),
    _never("24", "a field is missing", _BUG, _PORTAL_BALANCE),
    _never("25", "a field has the wrong form", _BUG, _PORTAL_BALANCE),
    _later("26", "M-Pesa was too busy", Who.TIME, "Send it later: kasoko payout retry", _PORTAL_BALANCE),
    _never("29", "the command is not known", _BUG, _PORTAL_BALANCE),
    _later(
        "1001",
        "another operation had locked the customer's account",
        Who.TIME,
        "Send it after a minute: kasoko payout retry",
        "two public codebases; the same code on M-Pesa Express",
    ),
    _never("1005", "an account reference is invalid", _BUG, _PRODUCTION_CODE),
    _operator("2001", "the initiator's name, password or certificate is wrong", _CREDENTIAL, _PORTAL_B2C),
    _operator("2006", "our account is not active", _ACCOUNT, _PORTAL_B2C),
    _phone("2007", "M-Pesa's outside check of the receiver failed", _OTHER_PHONE, _PRODUCTION_CODE),
    _never("2020", "the form of the amount is invalid", _BUG, _PRODUCTION_CODE),
    _operator("2028", "our shortcode may not make B2C payments", _ACCOUNT, _PORTAL_B2C),
    _ask("2029", "the reason type is not known", _PRODUCTION_CODE),
    _phone("2040", "the receiver is not a registered M-Pesa customer", _OTHER_PHONE, f"{_PORTAL_B2C}; {_LIVE}"),
    _operator("2043", "our organisation does not belong to the initiator", _ACCOUNT, _PRODUCTION_CODE),
    _phone("2051", "the number is not a valid phone", _OTHER_PHONE, _PRODUCTION_CODE),
    _never("2202", "an account number does not exist", _BUG, _PRODUCTION_CODE),
    _operator("4001", "the utility account has too little money", _FUND, _LIVE),
    _operator(
        "8006",
        "the initiator's password is locked",
        "Have the Business Administrator unlock it, make a new credential, then: kasoko retry-failed",
        f"{_PORTAL_B2C}; {_LIVE}",
    ),
    _ask("9999", "M-Pesa had an internal failure", "two public codebases"),
    _ask("100000100", "M-Pesa had a failure of its storage", "two public codebases"),
    _phone("SFC_IC0003", "the number is not on M-Pesa", _OTHER_PHONE, _PORTAL_B2C),
    _operator("TP40153", "the operator has no permission", _ACCOUNT, "one public codebase"),
    _never("R002", "the type of identity document is not known", _BUG, "two public codebases; validated B2C only"),
    _phone(
        "R003", "the identity document is another person's", _OTHER_PHONE, "two public codebases; validated B2C only"
    ),
)

#: B2C result codes by their text.
RESULT_RULES: Final[Mapping[str, ResultRule]] = MappingProxyType({rule.code: rule for rule in _RULES})

#: On M-Pesa Express the number 17 means this instead; if B2C ever says it, time mends it, but only after asking.
_SAME_AGAIN = re.compile(r"2 minutes|two minutes|similar transaction|same amount", re.IGNORECASE)


def lookup(code: str | None, desc: str = "") -> ResultRule:
    """What a B2C result code means. A code that no line names, or none at all, is unknown."""
    rule = RESULT_RULES.get(code or "")
    if rule is None:
        what = f"the result code {code} is not in the tables" if code else "the result has no code"
        return _ask(code or "", what, "no source names it", "Hold it for a person, and ask: kasoko reconcile")
    if rule.code == "17" and _SAME_AGAIN.search(desc):
        return _ask("17", "the same amount went to this customer moments ago", rule.source)
    return rule


def judge_result(result: Result) -> ResultRule:
    """What a B2C result says about the money.

    Only a final result has a fate: our own request posted back by a queue timeout, and a result
    of type 1 (more is to come), leave it unknown whatever else they say.
    """
    if not result.is_envelope:
        return _ask("", "no result: M-Pesa says that the request waited too long", "Daraja portal, B2C page")
    if result.result_type not in ("0", None):
        return _ask(result.result_code or "", "not a final result: more is to come", "Daraja portal, B2C page")
    return lookup(result.result_code, result.result_desc)


# --- How a payment ended, asked afterwards ---------------------------------------------------------------------------


class StatusFate(StrEnum):
    """What a status answer says about the payment that was asked about."""

    #: The customer has the money.
    COMPLETED = "completed"
    #: It was cancelled, declined or expired: final.
    NOT_PAID = "not_paid"
    #: It is still under way: ask later.
    RUNNING = "running"
    #: Not known to M-Pesa *yet*; once is no proof that it never will be.
    NOT_FOUND = "not_found"
    #: The answer says nothing about the payment.
    NO_INFORMATION = "no_information"


#: Source: Daraja portal, transaction status page, frequent questions.
_STATUS_WORDS: Final[Mapping[str, StatusFate]] = MappingProxyType(
    {
        "completed": StatusFate.COMPLETED,
        "cancelled": StatusFate.NOT_PAID,
        "declined": StatusFate.NOT_PAID,
        "expired": StatusFate.NOT_PAID,
        "initiated": StatusFate.RUNNING,
        "authorized": StatusFate.RUNNING,
        "pending authorized": StatusFate.RUNNING,
    }
)

#: Status queries only: no such receipt (live sandbox captures); no such originator id (a production codebase).
_NOT_FOUND_CODES: Final = frozenset({"2032", "2033"})


@dataclass(frozen=True)
class StatusAnswer:
    """A status result, read from its parameters: the envelope's ids are those of the *query*."""

    fate: StatusFate
    #: Why it is this fate, for a person.
    meaning: str
    originator_conversation_id: str | None = None
    conversation_id: str | None = None
    amount_cents: int | None = None
    receipt: str | None = None
    #: The receiver as `254` and nine digits; None if masked or not stated. Kept out of `repr`.
    receiver_phone: str | None = None

    def __repr__(self) -> str:
        return f"StatusAnswer({self.fate.value}, {self.meaning!r}, receipt={self.receipt!r})"

    def differences(self, *, attempt_id: str, wire_cents: int, phone: str) -> tuple[str, ...]:
        """What does not fit the payment that was asked about; empty if all that matters fits.

        The amount must be stated. Our id and the receiver count only where they are readable:
        some answers leave the id out, and M-Pesa may mask numbers.
        """
        found: list[str] = []
        if self.amount_cents != wire_cents:
            found.append("the amount is not stated" if self.amount_cents is None else "the amount differs")
        if self.originator_conversation_id not in (None, attempt_id):
            found.append("our id differs")
        if self.receiver_phone not in (None, phone):
            found.append("the receiver differs")
        return tuple(found)


def read_status(result: Result) -> StatusAnswer:
    """What a status result says about the payment: code 0 only says that the *query* worked."""
    if not result.is_envelope or result.result_type not in ("0", None):
        return StatusAnswer(StatusFate.NO_INFORMATION, "no final answer to the query")
    if result.result_code in _NOT_FOUND_CODES:
        return StatusAnswer(StatusFate.NOT_FOUND, f"M-Pesa does not know it yet (code {result.result_code})")
    if result.result_code != "0":
        return StatusAnswer(StatusFate.NO_INFORMATION, f"the query itself failed (code {result.result_code})")
    stated = result.text("TransactionStatus")
    words = " ".join((stated or "").lower().split())
    receipt = result.text("ReceiptNo")
    return StatusAnswer(
        fate=_STATUS_WORDS.get(words, StatusFate.NO_INFORMATION),
        meaning=f"M-Pesa says {words}" if words in _STATUS_WORDS else "the answer has no status that is known",
        originator_conversation_id=result.text("OriginatorConversationID"),
        conversation_id=result.text("ConversationID"),
        amount_cents=result.cents("Amount"),
        receipt=receipt,
        receiver_phone=_credit_party(result),
    )


def _credit_party(result: Result) -> str | None:
    """Who was paid: CreditPartyName, or the second DebitPartyName, as the portal's own sample has it."""
    named = party_phone(result.text("CreditPartyName"))
    if named is not None:
        return named
    for value in result.contradicted.get("DebitPartyName", ())[1:]:
        if isinstance(value, str) and (phone := party_phone(value)) is not None:
            return phone
    return None
