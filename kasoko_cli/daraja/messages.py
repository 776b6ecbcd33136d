"""The wire to M-Pesa: paths, requests, acknowledgements and results, with all of Safaricom's spelling.

Client, listener and simulator share this module; above `daraja/` nobody knows the word `PartyB`.
What comes from outside is content, never trusted: it is parsed strictly or refused with a reason,
and its bytes are kept as evidence by whoever received them, without the credential they may carry.

Source: Daraja portal, pages on authorisation, B2C, transaction status and account balance; live
captures of the sandbox, July to October 2026, for the shapes that the portal does not show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Context, Decimal
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from kasoko_cli.clock import NAIROBI
from kasoko_cli.domain.payout import fold_receipt
from kasoko_cli.domain.phone import mask_in

#: A JSON value after parsing: numbers are int or Decimal, never float.
Json: TypeAlias = "str | int | Decimal | bool | list[Json] | dict[str, Json] | None"
#: A JSON value without parts.
Scalar: TypeAlias = "str | int | Decimal | bool | None"

# --- Paths and fixed words -------------------------------------------------------------------------------------------

#: GET, with `grant_type=client_credentials` and basic authentication.
OAUTH_PATH: Final = "/oauth/v1/generate"
#: The one grant type there is.
GRANT_TYPE: Final = "client_credentials"
#: POST; the caller chooses the OriginatorConversationID, and a repeat of it is refused.
B2C_V3_PATH: Final = "/mpesa/b2c/v3/paymentrequest"
#: POST; the gateway makes the OriginatorConversationID, so a request sent twice may pay twice.
B2C_V1_PATH: Final = "/mpesa/b2c/v1/paymentrequest"
#: POST; how did a payment end?
STATUS_PATH: Final = "/mpesa/transactionstatus/v1/query"
#: POST; what is in the organisation's accounts?
BALANCE_PATH: Final = "/mpesa/accountbalance/v1/query"

#: The CommandID of a status query.
STATUS_COMMAND: Final = "TransactionStatusQuery"
#: The CommandID of a balance query.
BALANCE_COMMAND: Final = "AccountBalance"
#: The CommandIDs that a B2C payment may have.
B2C_COMMANDS: Final = ("BusinessPayment", "SalaryPayment", "PromotionPayment")
#: The IdentifierType of a shortcode; 1 is a phone, 2 a till.
SHORTCODE_IDENTIFIER: Final = "4"

#: What a listener answers to every callback that it has written down.
CALLBACK_REPLY: Final = b'{"ResultCode":0,"ResultDesc":"Accepted"}'

#: Words that a callback URL of C2B may not have, in any case. For B2C no page says so: one service with such a word is
#: paid through, and one was answered "Threat Detected", so they are warned about.
#: Source: Daraja portal, C2B register URL page; two captures of production.
SUSPECT_URL_WORDS: Final = ("mpesa", "m-pesa", "safaricom", "exe", "exec", "cmd", "sql", "query")

# --- Requests --------------------------------------------------------------------------------------------------------


def shillings(wire_cents: int) -> int:
    """The whole shillings that M-Pesa carries for `wire_cents`, a positive multiple of 100."""
    assert wire_cents > 0, "a payment has a positive amount"
    assert wire_cents % 100 == 0, "M-Pesa carries whole shillings"
    return wire_cents // 100


@dataclass(frozen=True, slots=True)
class Initiator:
    """Who asks M-Pesa: the organisation by its shortcode, and its API user with the encrypted password."""

    name: str
    security_credential: str = field(repr=False)
    shortcode: str


@dataclass(frozen=True, slots=True)
class ReplyUrls:
    """Where M-Pesa posts how a request ended, and that it waited too long."""

    result: str
    timeout: str


@dataclass(frozen=True, slots=True)
class Payment:
    """What a B2C request says of one payment: our id for it, whole shillings in cents, and to whom.

    `phone` is `254` and nine digits. Remarks and occasion are cut to what is known to pass.
    """

    attempt_id: str
    wire_cents: int
    phone: str = field(repr=False)
    remarks: str
    occasion: str = ""


def b2c_request(
    initiator: Initiator, payment: Payment, urls: ReplyUrls, *, command_id: str, api: Literal["v1", "v3"]
) -> dict[str, Json]:
    """A B2C payment: v3 with an id of ours, v1 without, where the gateway makes the id."""
    request: dict[str, Json] = {}
    if api == "v3":
        request["OriginatorConversationID"] = payment.attempt_id
    request |= {
        "InitiatorName": initiator.name,
        "SecurityCredential": initiator.security_credential,
        "CommandID": command_id,
        "Amount": shillings(payment.wire_cents),
        "PartyA": initiator.shortcode,
        "PartyB": payment.phone,
        "Remarks": plain_text(payment.remarks) or "payout",
        "QueueTimeOutURL": urls.timeout,
        "ResultURL": urls.result,
    }
    if plain := plain_text(payment.occasion):
        request["Occasion" if api == "v1" else "Occassion"] = plain
    return request


def status_request(
    initiator: Initiator, urls: ReplyUrls, *, attempt_id: str, receipt: str, remarks: str
) -> dict[str, Json]:
    """Ask how a payment ended, by our id for it, by its receipt, or by both.

    Despite its name, OriginalConversationID is the payment's *Originator*ConversationID.
    """
    assert attempt_id or receipt, "a status query names a payment"
    return {
        "Initiator": initiator.name,
        "SecurityCredential": initiator.security_credential,
        "CommandID": STATUS_COMMAND,
        "TransactionID": receipt,
        "OriginalConversationID": attempt_id,
        "PartyA": initiator.shortcode,
        "IdentifierType": SHORTCODE_IDENTIFIER,
        "ResultURL": urls.result,
        "QueueTimeOutURL": urls.timeout,
        "Remarks": plain_text(remarks) or "status",
        "Occasion": "",
    }


def balance_request(initiator: Initiator, urls: ReplyUrls, *, remarks: str) -> dict[str, Json]:
    """Ask what is in the organisation's accounts."""
    return {
        "Initiator": initiator.name,
        "SecurityCredential": initiator.security_credential,
        "CommandID": BALANCE_COMMAND,
        "PartyA": initiator.shortcode,
        "IdentifierType": SHORTCODE_IDENTIFIER,
        "Remarks": plain_text(remarks) or "balance",
        "QueueTimeOutURL": urls.timeout,
        "ResultURL": urls.result,
    }


_NOT_PLAIN = re.compile(r"[^A-Za-z0-9-]")


def plain_text(text: str) -> str:
    """Free text as M-Pesa takes it: letters, digits, spaces and hyphens, at most 100 characters.

    Other characters are reported to make requests fail or vanish; each becomes a space.
    Source: an issue thread of public M-Pesa sample code; lengths from the Daraja portal, B2C page.
    """
    return " ".join(_NOT_PLAIN.sub(" ", text).split())[:100].strip()


# --- Strict JSON -----------------------------------------------------------------------------------------------------

#: The longest body that is parsed as a callback.
MAX_CALLBACK_BYTES: Final = 65_536
#: The longest body that is read as an answer to one of our requests.
MAX_ANSWER_BYTES: Final = 262_144
#: How deep lists and objects may lie in each other; real bodies have five levels.
MAX_DEPTH: Final = 32
#: The longest identifier that is taken; real ones have at most about 64 characters.
MAX_ID_LENGTH: Final = 128
#: The most characters a number may be written with: 19 digits, a sign, a point and some zeros.
_MAX_NUMBER_LENGTH: Final = 40
_INT64 = 2**63
_NOT_UTF_8: Final = "not UTF-8 text"
#: What stands for a byte that is not UTF-8.
_DAMAGED: Final = "\N{REPLACEMENT CHARACTER}"


class MalformedBody(ValueError):
    """A body is not what M-Pesa sends: `reason` says how. The bytes are still evidence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_json(body: bytes, *, max_bytes: int = MAX_CALLBACK_BYTES) -> Json:
    """Parse JSON strictly: exact numbers, no doubled key, nothing that a database could not keep.

    Raises:
        MalformedBody: for anything else. Never anything but this, whatever the bytes.
    """
    if len(body) > max_bytes:
        raise MalformedBody(f"longer than {max_bytes} bytes")
    try:
        return _parse(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise MalformedBody(_NOT_UTF_8) from None


def _read_callback(body: bytes) -> Json:
    """The same for a callback, in which the name of a person may be in another encoding than the rest.

    Each byte that is not UTF-8 becomes `_DAMAGED`. That never takes a quotation mark with it, so the body keeps its
    parts. It is accepted only in text for people: whatever is measured, or names a field, is whole or unreadable.

    Raises:
        MalformedBody: it is not JSON, or a byte that is not UTF-8 stands elsewhere.
    """
    try:
        return read_json(body)
    except MalformedBody as error:
        if error.reason != _NOT_UTF_8:
            raise
    try:
        value = _parse(body.decode("utf-8-sig", "replace"))
    except MalformedBody:
        raise MalformedBody(_NOT_UTF_8) from None
    _check_damage(value)
    return value


def _parse(text: str) -> Json:
    if not text.strip():
        raise MalformedBody("empty")
    try:
        value: Json = _DECODER.decode(text)
    except MalformedBody:
        raise
    except RecursionError:
        raise MalformedBody("nested too deeply") from None
    except ValueError:
        raise MalformedBody("not JSON") from None
    # Nearly every body shows by itself that it has neither.
    if "\\u" in text or _UNSTORABLE.search(text) or text.count("{") + text.count("[") >= MAX_DEPTH:
        _check_depth_and_text(value)
    return value


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedBody("an object has the same key twice")
    return found


def _integer(literal: str) -> int:
    # The length comes first: Python refuses to convert thousands of digits, and rightly so.
    if len(literal) > _MAX_NUMBER_LENGTH or not -_INT64 <= (number := int(literal)) < _INT64:
        raise MalformedBody("a number is past 64 bits")
    return number


def _decimal(literal: str) -> Decimal:
    if len(literal) > _MAX_NUMBER_LENGTH:
        raise MalformedBody("a number is past 64 bits")
    number = Decimal(literal)
    # The exponent is checked before anything is computed: 1e400 is finite, but nobody's money.
    if not -20 <= number.adjusted() <= 19 or not -_INT64 <= number < _INT64:
        raise MalformedBody("a number is past 64 bits")
    return number


def _constant(name: str) -> Json:
    raise MalformedBody(f"{name} is not a number")


#: Made once: to make one takes as long as to read an answer with it.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
)


def _check_depth_and_text(value: Json) -> None:
    """Refuse deep nesting, lone surrogates and NUL, which PostgreSQL's text cannot hold."""
    waiting: list[tuple[Json, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise MalformedBody("nested too deeply")
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, list):
            waiting.extend((part, depth + 1) for part in item)
        elif isinstance(item, dict):
            for key, part in item.items():
                _check_text(key)
                waiting.append((part, depth + 1))


#: Text for people to read: none of it says which payment this is, how it ended or how much it was.
_WORDS: Final = frozenset(
    {
        "ResultDesc",
        "ReceiverPartyPublicName",
        "CreditPartyName",
        "DebitPartyName",
        "InitiatorName",
        "TransactionReason",
        "ReasonType",
        "ErrorMsg",
        "Remarks",
        "Occasion",
        "Occassion",
    }
)


def _check_damage(value: Json) -> None:
    """Refuse a byte that is not UTF-8 in a name of a field, and in every value but those of `_WORDS`.

    Raises:
        MalformedBody: there is one; the reason names the field.
    """
    waiting: list[tuple[str, Json]] = [("body", value)]
    while waiting:
        name, item = waiting.pop()
        if isinstance(item, str):
            if _DAMAGED in item and _unspaced(name) not in _WORDS:
                raise MalformedBody(f"its {mask_in(name[:40])} is {_NOT_UTF_8}")
        elif isinstance(item, list):
            waiting.extend((name, part) for part in item)
        elif isinstance(item, dict):
            if any(_DAMAGED in key for key in item):
                raise MalformedBody(f"the name of a field is {_NOT_UTF_8}")
            # `{"Key": ..., "Value": ...}`: the value is of what the key says.
            key = item.get("Key")
            named = {"Value": key} if isinstance(key, str) else {}
            waiting.extend((named.get(field_name, field_name), part) for field_name, part in item.items())


#: What no database keeps as text: NUL, and half of a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _check_text(text: str) -> None:
    if (found := _UNSTORABLE.search(text)) is not None:
        raise MalformedBody(
            "a text has a NUL character" if found[0] == "\x00" else "a text has half of a surrogate pair"
        )


# --- Acknowledgements ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Acknowledgement:
    """What M-Pesa answers at once: taken (response_code "0"), or an error code and text.

    A field that the answer does not have is None. Both kinds of field may stand in one answer,
    under any HTTP status; `codes.sort_answer` decides what they mean together.
    """

    response_code: str | None = None
    response_description: str = ""
    originator_conversation_id: str | None = None
    conversation_id: str | None = None
    error_code: str | None = None
    error_message: str = ""


def parse_acknowledgement(body: bytes) -> Acknowledgement:
    """Read a synchronous answer of any product.

    Raises:
        MalformedBody: it is not a JSON object, or contradicts itself.
    """
    value = read_json(body, max_bytes=MAX_ANSWER_BYTES)
    if not isinstance(value, dict):
        raise MalformedBody("not a JSON object")
    if value.keys() <= _ACCEPTANCE:
        # Nearly every answer: none of these fields has another spelling beside it.
        return Acknowledgement(
            response_code=_text_of(value.get("ResponseCode")),
            response_description=_text_of(value.get("ResponseDescription")) or "",
            originator_conversation_id=_short("OriginatorConversationID", value.get("OriginatorConversationID")),
            conversation_id=_short("ConversationID", value.get("ConversationID")),
        )
    fault_code, fault_text = _gateway_fault(value)
    named = _by_name(value)
    return Acknowledgement(
        response_code=_text_of(_named(named, "ResponseCode")),
        response_description=_text_of(_named(named, "ResponseDescription", "ResponseDesc")) or "",
        originator_conversation_id=_identifier(named, *_ORIGINATOR_ID),
        conversation_id=_identifier(named, "ConversationID"),
        error_code=_text_of(_named(named, "errorCode")) or fault_code,
        error_message=_text_of(_named(named, "errorMessage")) or fault_text,
    )


#: The fields of an acceptance.
_ACCEPTANCE: Final = frozenset({"ConversationID", "OriginatorConversationID", "ResponseCode", "ResponseDescription"})


def _gateway_fault(value: dict[str, Json]) -> tuple[str | None, str]:
    """Code and text of a fault in the gateway's own form: `{"fault": {"faultstring", "detail": {"errorcode"}}}`.

    Source: the API manager's public documentation of its default fault body.
    """
    fault = value.get("fault")
    if not isinstance(fault, dict):
        return None, ""
    detail = fault.get("detail")
    code = _text_of(detail.get("errorcode")) if isinstance(detail, dict) else None
    return code, _text_of(fault.get("faultstring")) or ""


# --- Results ---------------------------------------------------------------------------------------------------------

#: One identifier, two spellings: C2B answers miss an n.
_ORIGINATOR_ID = ("OriginatorConversationID", "OriginatorCoversationID")
#: Safaricom's receipts: year letter, month letter, day, and seven more. Seven zeros are a placeholder.
_RECEIPT = re.compile(r"[A-Z0-9]{10}")
_PLACEHOLDER = re.compile(r"0*|.*0{7}")
#: Receipts as other people's simulators write them; only believed under their own key.
_LOOSE_RECEIPT = re.compile(r"[A-Za-z0-9]{4,32}")
#: Wider than any number that `read_json` lets through, so that nothing is rounded on the way.
_EXACT = Context(prec=80)
_MONEY = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?")


@dataclass(frozen=True)
class Result:
    """What M-Pesa posts back: how a request ended.

    `parameters` has one value a key, None where the item had no value. A key that came twice with
    different values stands in `contradicted` and is not answered by the helpers. Where `is_envelope`
    is False the body was no result at all (a queue timeout posts our own request back): it has ids
    at most, and never a code. Parameters and text are kept out of `repr`: they name people.
    """

    result_type: str | None
    result_code: str | None
    result_desc: str = field(repr=False)
    originator_conversation_id: str | None
    conversation_id: str | None
    transaction_id: str | None
    parameters: Mapping[str, Scalar] = field(repr=False)
    is_envelope: bool = True
    contradicted: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict, repr=False)

    def text(self, key: str) -> str | None:
        """A parameter as text, whatever its JSON type; None if absent, empty or contradicted."""
        if key in self.contradicted:
            return None
        return _text_of(self.parameters.get(key)) or None

    def cents(self, key: str) -> int | None:
        """A parameter as exact integer cents: `1250`, `1250.00` and `"1250.0"` are 125000."""
        if key in self.contradicted:
            return None
        return exact_cents(self.parameters.get(key))

    def amount_cents(self) -> int | None:
        """What a B2C payment brought the customer, in cents; None if it does not say."""
        return self.cents("TransactionAmount")

    def receipt(self) -> str | None:
        """M-Pesa's proof that money moved: TransactionReceipt, else a TransactionID that looks like one.

        A receipt on a *failure* proves nothing: failures carry real-looking ids too.
        """
        stated = self._stated_receipt()
        if stated is not None:
            return stated if _LOOSE_RECEIPT.fullmatch(stated) and not _PLACEHOLDER.fullmatch(stated) else None
        if "TransactionReceipt" in self.contradicted:
            return None
        return self.transaction_id if looks_like_receipt(self.transaction_id) else None

    def _stated_receipt(self) -> str | None:
        stated = self.text("TransactionReceipt")
        return None if stated is None else fold_receipt(stated)

    @property
    def receipts_disagree(self) -> bool:
        """Whether TransactionID and TransactionReceipt are two different receipts."""
        stated = self._stated_receipt()
        if "TransactionReceipt" in self.contradicted:
            return True
        return stated is not None and looks_like_receipt(self.transaction_id) and stated != self.transaction_id

    @property
    def receiver(self) -> str | None:
        """Who got it, as M-Pesa writes it: `254700000001 - JANE DOE`. A cross-check, never identity."""
        return self.text("ReceiverPartyPublicName")

    def receiver_phone(self) -> str | None:
        """The receiver's number as `254` and nine digits; None if masked, absent or not a phone."""
        return party_phone(self.receiver)

    def completed_at(self) -> datetime | None:
        """When it was done, in UTC; M-Pesa writes `DD.MM.YYYY HH:MM:SS` in Nairobi time."""
        stated = self.text("TransactionCompletedDateTime")
        try:
            local = datetime.strptime(stated or "", "%d.%m.%Y %H:%M:%S").replace(tzinfo=NAIROBI)
        except ValueError:
            return None
        return local.astimezone(UTC)


def parse_result(body: bytes) -> Result:
    """Read a callback of any product, in every shape that was ever seen.

    Raises:
        MalformedBody: it is not JSON, contradicts itself, or has nothing that names a request.
    """
    value = _read_callback(body)
    if not isinstance(value, dict):
        raise MalformedBody("not a JSON object")
    envelope = value.get("Result")
    if isinstance(envelope, dict):
        named = _by_name(envelope)
        parameters, contradicted = _parameters(named)
        return Result(
            result_type=_text_of(_named(named, "ResultType")),
            result_code=_code(_named(named, "ResultCode")),
            result_desc=_text_of(_named(named, "ResultDesc")) or "",
            originator_conversation_id=_identifier(named, *_ORIGINATOR_ID),
            conversation_id=_identifier(named, "ConversationID"),
            transaction_id=_identifier(named, "TransactionID"),
            parameters=parameters,
            contradicted=contradicted,
        )
    if "Result" in value:
        raise MalformedBody("its Result is not an object")
    named = _by_name(value)
    originator, conversation = _identifier(named, *_ORIGINATOR_ID), _identifier(named, "ConversationID")
    if originator is None and conversation is None:
        raise MalformedBody("it has neither a Result nor an id of a request")
    return Result(
        result_type=None,
        result_code=None,
        result_desc="",
        originator_conversation_id=originator,
        conversation_id=conversation,
        transaction_id=None,
        parameters=MappingProxyType({}),
        is_envelope=False,
    )


def looks_like_receipt(text: str | None) -> bool:
    """Whether this is a receipt of Safaricom's form and not the placeholder with seven zeros."""
    return text is not None and bool(_RECEIPT.fullmatch(text)) and not _PLACEHOLDER.fullmatch(text)


def exact_cents(value: Scalar) -> int | None:
    """Shillings, as a number or as text, in integer cents; None if it is not exact, or no amount."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        if not _MONEY.fullmatch(value.strip()):
            return None
        value = Decimal(value.strip())
    cents = Decimal(value).scaleb(2, context=_EXACT)
    return int(cents) if cents >= 0 and cents == cents.to_integral_value() else None


#: A number, and nothing behind it but a dash with a space beside it, and a name.
_PARTY = re.compile(r"(?:\+?254|0)?([17][0-9]{8})(?=\Z|\s+[-\u2013]|[-\u2013]\s)")
#: The most characters that a number and a name have.
_MOST_PARTY: Final = 512


def party_phone(party: str | None) -> str | None:
    """The number in a party text such as `0700000001 - JANE DOE`, as `254` and nine digits, or None.

    What is longer than any party is none, and is not looked through.
    """
    if party is None or len(party) > _MOST_PARTY:
        return None
    found = _PARTY.match(party.strip())
    return f"254{found[1]}" if found else None


def _parameters(named: dict[str, list[Json]]) -> tuple[Mapping[str, Scalar], Mapping[str, tuple[Scalar, ...]]]:
    """Result parameters by key, and all values of each key that came with two different ones.

    A list, a lone object, nothing, null, or the two names nested the wrong way round. The keys are without the
    spaces that those of 2017 have: the same key in both spellings is one key.
    """
    found: dict[str, list[Scalar]] = {}
    holders = named.get("ResultParameters") or named.get("ResultParameter", [])
    for item in (item for holder in holders for item in _items(holder, depth=0)):
        key = item.get("Key")
        if not isinstance(key, str):
            continue
        value = item.get("Value")
        found.setdefault(_unspaced(key), []).append(None if isinstance(value, list | dict) else value)
    different = {key: tuple(values) for key, values in found.items() if len({_text_of(each) for each in values}) > 1}
    return MappingProxyType({key: values[0] for key, values in found.items()}), MappingProxyType(different)


def _items(value: Json, *, depth: int) -> Iterator[dict[str, Json]]:
    """The `{Key, Value}` objects in whatever holds them."""
    if isinstance(value, list):
        for part in value:
            if isinstance(part, dict):
                yield part
    elif isinstance(value, dict):
        if "Key" in value:
            yield value
        elif depth < 3:
            for name in ("ResultParameter", "ResultParameters"):
                yield from _items(value.get(name), depth=depth + 1)


def _by_name(found: dict[str, Json]) -> dict[str, list[Json]]:
    """The values that are there by their names without spaces, which 2017 bodies had in them."""
    named: dict[str, list[Json]] = {}
    for key, value in found.items():
        if value is not None:
            named.setdefault(_unspaced(key), []).append(value)
    return named


def _unspaced(key: str) -> str:
    """The name of a field without spaces, which 2017 bodies had in them, in the envelope and in the parameters."""
    return key.replace(" ", "")


def _named(named: dict[str, list[Json]], *names: str) -> Json:
    """The value under any of these names.

    Raises:
        MalformedBody: two of the names are there and say different things.
    """
    values = [value for name in names for value in named.get(name, ())]
    if len(values) > 1 and any(_text_of(value) != _text_of(values[0]) for value in values[1:]):
        raise MalformedBody(f"two different values of {names[0]}")
    return values[0] if values else None


def _text_of(value: Json) -> str | None:
    """A scalar as text: an id of digits only may come back as a number. None for all else."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        return None
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _code(value: Json) -> str | None:
    """A result code as text: `0` and `"0"` are the same, `false` and `[]` are no code."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    text = _text_of(value)
    return text if text and len(text) <= 32 else None


def _identifier(named: dict[str, list[Json]], *names: str) -> str | None:
    return _short(names[0], _named(named, *names))


def _short(name: str, value: Json) -> str | None:
    text = _text_of(value)
    if text is not None and len(text) > MAX_ID_LENGTH:
        raise MalformedBody(f"its {name} is longer than {MAX_ID_LENGTH} characters")
    return text or None
