"""Code and text -> taken, not sent, paid, failed or unknown; each line of `codes.toml` with its source.

M-Pesa gives one number opposite meanings on different products, and gives two opposite meanings
to one number on the same product. So there is one table a direction, code *and* text are read, and
what no line names is unknown: asked about, never sent again.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

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
from kasoko_cli.domain.payout import fold_receipt

#: The tables, as people can read and extend them.
_TABLES: Final[Mapping[str, list[dict[str, Any]]]] = tomllib.loads(
    files("kasoko_cli.daraja").joinpath("codes.toml").read_text(encoding="utf-8")
)


class Sure(StrEnum):
    """How well the meaning of a code is known."""

    OFFICIAL = "official"  #: Safaricom's Daraja portal says so
    OLDER_OFFICIAL = "older_official"  #: earlier papers of Safaricom say so
    LIVE = "live"  #: it was recorded from the real gateway
    CODEBASES = "codebases"  #: two or more public codebases agree
    ONE_CODEBASE = "one_codebase"  #: one public codebase says so
    OURS = "ours"  #: it is a code of kasoko's own


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
    #: How people know it: its code, and its words where the code alone says too little.
    shown: str = ""
    #: What stands behind it, for a person who looks it up.
    more: str = ""
    #: How well it is known.
    sure: Sure = Sure.OFFICIAL

    def fits(self, code: str | None, text: str) -> bool:
        """Whether this line speaks of an answer with this code and this text."""
        return (self.code is None or (code is not None and re.fullmatch(self.code, code) is not None)) and (
            self.text is None or re.search(self.text, text, re.IGNORECASE) is not None
        )


_WAIT = "Nothing to do: it is sent again, later, with the same id."
_ASK = "Ask how it ended: kasoko reconcile"


def _answer_rules(table: str) -> tuple[AnswerRule, ...]:
    said = ({"code": None, "text": None} | row for row in _TABLES[table])
    return tuple(AnswerRule(**row | {"verdict": Verdict(row["verdict"]), "sure": Sure(row["sure"])}) for row in said)


#: Errors of the gateway, in the order in which they are tried. What fits no line is unknown.
ANSWER_RULES: Final[tuple[AnswerRule, ...]] = _answer_rules("answer")

#: A ResponseCode other than 0 under HTTP 2xx that is a refusal by its nature. Every other one is unknown.
RESPONSE_RULES: Final[tuple[AnswerRule, ...]] = _answer_rules("response")


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


#: The codes of answers that say that too much is asked at once.
_SPIKES = re.compile(r"500\.003\.0[23]|policies\.ratelimit\..*|429(\..*)?")


def is_spike_arrest(answer: SortedAnswer) -> bool:
    """Whether M-Pesa refused it because it is asked too often, so that all senders have to slow down."""
    return answer.verdict is Verdict.NOT_SENT and _SPIKES.fullmatch(answer.code) is not None


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
_KEY_REFUSED = "the consumer key or secret is refused"
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
            return TokenAnswer(Verdict.ACCOUNT, str(http_status), "", _KEY_REFUSED, _CHECK_KEY)
        meaning = f"the token service answered HTTP {http_status} with what cannot be read ({malformed.reason})"
        return TokenAnswer(Verdict.NOT_SENT, str(http_status), "", meaning, _WAIT)
    assert isinstance(value, dict), "parse_acknowledgement takes nothing else"
    token = value.get("access_token")
    if 200 <= http_status < 300 and answer.error_code is None and isinstance(token, str) and _BEARER.fullmatch(token):
        expires_in = value.get("expires_in", value.get("expiry_in"))
        return TokenAnswer(Verdict.TAKEN, "0", "", "a token", "", value=token, expires_in=expires_in)
    code, text = answer.error_code or str(http_status), answer.error_message
    if code in ("400.008.01", "400.008.02") or http_status in (400, 401):
        return TokenAnswer(Verdict.ACCOUNT, code, text, _KEY_REFUSED, _CHECK_KEY)
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
    #: What stands behind it, for a person who looks it up.
    more: str = ""
    #: How well it is known.
    sure: Sure = Sure.OFFICIAL


def _ask(code: str, meaning: str, source: str, advice: str = _ASK) -> ResultRule:
    """A code that leaves open whether money moved."""
    return ResultRule(code, meaning, Fate.UNKNOWN, Who.ASK, advice, source)


#: What the `kind` of a row says: its fate, and on whom it depends whether the same payment can succeed.
_KINDS: Final[Mapping[str, tuple[Fate, Who]]] = MappingProxyType(
    {
        "paid": (Fate.PAID, Who.NOBODY),
        # A definite failure of our side: nothing else is sent until the operator has mended it.
        "account": (Fate.FAILED, Who.OPERATOR),
        # A definite failure that time may mend.
        "later": (Fate.FAILED, Who.TIME),
        # A definite failure of this number.
        "phone": (Fate.FAILED, Who.CUSTOMER),
        # A definite failure of this request: the same one fails again.
        "never": (Fate.FAILED, Who.PERMANENT),
        # It leaves open whether money moved.
        "ask": (Fate.UNKNOWN, Who.ASK),
    }
)


def _result_rule(row: Mapping[str, Any]) -> ResultRule:
    kind = row["kind"]
    fate, who = _KINDS[kind]
    return ResultRule(
        **{name: row[name] for name in ("code", "meaning", "advice", "source", "more")},
        fate=fate,
        who=Who.CUSTOMER if row.get("who") == "customer" else who,
        account_level=kind == "account",
        may_succeed_again=kind in ("account", "later"),
        needs_other_phone=kind == "phone",
        sure=Sure(row["sure"]),
    )


#: B2C result codes by their text.
RESULT_RULES: Final[Mapping[str, ResultRule]] = MappingProxyType(
    {row["code"]: _result_rule(row) for row in _TABLES["result"]}
)

#: M-Pesa met an id that it had taken before: the result is that of the repeat, and the first request stands.
ALREADY_TAKEN: Final = "15"

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

#: Status queries only: no such receipt, no such originator id.
_NOT_FOUND_CODES: Final = frozenset(row["code"] for row in _TABLES["status"])


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
        receipt=None if receipt is None else fold_receipt(receipt),
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


# --- Looked up by a person -------------------------------------------------------------------------------------------


class Moved(StrEnum):
    """Whether money moved, as far as a code says it."""

    YES = "yes"
    NO = "no"
    MAYBE = "maybe"


@dataclass(frozen=True)
class Meaning:
    """What one code means, wherever M-Pesa says it."""

    code: str
    #: Where it is said: in the result of a payment, in the answer to a request, in the result of a status query.
    where: str
    meaning: str
    more: str
    money_moved: Moved
    #: What becomes of the payout.
    becomes: str
    #: Whether everything else stops too.
    stops_all: bool
    advice: str
    source: str
    sure: Sure


_BECOMES: Final[Mapping[Verdict, str]] = MappingProxyType(
    {
        Verdict.NOT_SENT: "PENDING, and sent again later with the same id",
        Verdict.REFUSED: "FAILED",
        Verdict.ACCOUNT: "PENDING, and nothing else is sent",
        Verdict.DUPLICATE: "UNKNOWN, and asked about",
        Verdict.UNKNOWN: "UNKNOWN, and asked about",
    }
)

_ENDS: Final[Mapping[Fate, tuple[Moved, str]]] = MappingProxyType(
    {
        Fate.PAID: (Moved.YES, "COMPLETED"),
        Fate.FAILED: (Moved.NO, "FAILED"),
        Fate.UNKNOWN: (Moved.MAYBE, "UNKNOWN, and asked about"),
    }
)


def every_meaning() -> list[Meaning]:
    """Every code that is known, as a person looks it up: results first, then answers, status queries, our own."""
    found = [_meaning(rule.code, "result", vars(rule), *_ENDS[rule.fate]) for rule in RESULT_RULES.values()]
    for rule in (*ANSWER_RULES, *RESPONSE_RULES):
        moved = Moved.MAYBE if rule.verdict in (Verdict.DUPLICATE, Verdict.UNKNOWN) else Moved.NO
        found.append(_meaning(rule.shown, "answer", vars(rule), moved, _BECOMES[rule.verdict]))
    still = "UNKNOWN still, and asked about again"
    found += [_meaning(row["code"], "status query", row, Moved.MAYBE, still) for row in _TABLES["status"]]
    return found + [_meaning(row["code"], "kasoko", row, Moved.NO, "FAILED") for row in _TABLES["own"]]


def meanings_of(code: str) -> list[Meaning]:
    """What a code means, in each place where M-Pesa says it; none where it stands in no table."""
    wanted = code.strip().casefold()
    patterns = {
        rule.shown
        for rule in (*ANSWER_RULES, *RESPONSE_RULES)
        if rule.code is not None and re.fullmatch(rule.code, wanted, re.IGNORECASE)
    }
    return [
        one
        for one in every_meaning()
        if one.code.casefold() == wanted
        or one.code in patterns
        or (one.where == "answer" and len(wanted) >= 3 and wanted in one.code.casefold())
    ]


def _meaning(code: str, where: str, said: Mapping[str, Any], moved: Moved, becomes: str) -> Meaning:
    told = {name: said[name] for name in ("meaning", "more", "advice", "source")}
    stops = said.get("account_level") or said.get("verdict") is Verdict.ACCOUNT
    return Meaning(
        code, where, money_moved=moved, becomes=becomes, stops_all=bool(stops), sure=Sure(said["sure"]), **told
    )
