"""What the gateway checks about a request before anything is taken.

The simulator reads the protocol by itself here, and shares no line with the client it judges.

Source: Daraja portal, pages on B2C, transaction status, account balance, reversal and B2C account
top-up for fields; C2B register URL page for forbidden words. That amounts are whole shillings stands
in no document, but every public client enforces it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

from kasoko_cli.daraja.callback_urls import suspect_words
from kasoko_cli.daraja.simulator.answers import Refusal
from kasoko_cli.daraja.simulator.script import Endpoint

#: A request body after parsing: numbers are int or Decimal.
Body = dict[str, object]
Check = Callable[[object], bool]

#: The longest body that is read.
MAX_BODY_BYTES: Final = 65_536
_ADDRESSES: Final = ("QueueTimeOutURL", "ResultURL")
_INT64: Final = 2**63


def read_body(body: bytes, content_type: str, first_field: str) -> Body:
    """The JSON object of a request.

    Raises:
        Refusal: it is not JSON, or says that it is something else.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        # A wrong content type shows as an invalid first field: the gateway looks for it in vain.
        raise Refusal(400, "400.002.02", f"Bad Request - Invalid {first_field}")
    try:
        value = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Refusal(400, "400.002.05", "Invalid Request Payload") from None
    if not isinstance(value, dict):
        raise Refusal(400, "400.002.05", "Invalid Request Payload")
    return value


def check_fields(
    body: Body, endpoint: Endpoint, *, with_originator_id: bool = False, refuse_words: bool = False
) -> None:
    """Look at each field in turn; `refuse_words` takes no address with a word that C2B forbids.

    Raises:
        Refusal: with the first field that is missing or wrong.
    """
    if with_originator_id and not _is_id(body.get("OriginatorConversationID")):
        raise Refusal(400, "400.002.02", "Bad Request - Invalid OriginatorConversationID")
    for name, is_right in FIELDS[endpoint].items():
        is_suspect = refuse_words and name in _ADDRESSES and bool(suspect_words(str(body.get(name))))
        if is_suspect or not is_right(body.get(name)):
            raise Refusal(400, "400.002.02", f"Bad Request - Invalid {name}")


def shillings(value: object) -> int:
    """An amount that passed its check, as whole shillings."""
    assert isinstance(value, int | str)
    return int(value)


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value.strip()) <= 64


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_one_of(*words: str | int) -> Check:
    return lambda value: value in words


def _is_number(pattern: str) -> Check:
    return lambda value: re.fullmatch(pattern, _text(value)) is not None


def _is_text(least: int, most: int) -> Check:
    return lambda value: isinstance(value, str) and len(value.strip()) >= least and len(value) <= most


def _is_absent_or(check: Check) -> Check:
    return lambda value: value is None or check(value)


def is_callback_url(value: object) -> bool:
    """Whether results may be posted there: http or https, and a host.

    Loopback addresses are taken, which the real gateway would refuse: this one is often run beside its caller.
    """
    if not isinstance(value, str) or len(value) > 2048:
        return False
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        return False
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None:
        return False
    return _is_not_unspecified(url.hostname)


def _is_not_unspecified(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return True


def _text(value: object) -> str:
    """A whole number or its digits, as text; anything else is the empty text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return ""
    if isinstance(value, int):
        return str(value) if -_INT64 < value < _INT64 else ""
    return value


_is_shortcode: Final = _is_number(r"[0-9]{5,7}")
_is_phone: Final = _is_number(r"254[17][0-9]{8}")
_is_whole_shillings: Final = _is_number(r"0*[1-9][0-9]{0,17}")
_is_remarks, _is_short_text = _is_text(2, 100), _is_text(1, 100)
_is_occasion, _is_text_or_absent = _is_absent_or(_is_text(0, 100)), _is_absent_or(_is_text(0, 64))
_SHORTCODE_TYPE: Final = _is_one_of("4", 4)

#: What each endpoint wants, in the order in which it is looked at.
FIELDS: Final[Mapping[Endpoint, Mapping[str, Check]]] = {
    Endpoint.B2C: {
        "InitiatorName": _is_name,
        "SecurityCredential": _is_name,
        "CommandID": _is_one_of("BusinessPayment", "SalaryPayment", "PromotionPayment"),
        "Amount": _is_whole_shillings,
        "PartyA": _is_shortcode,
        "PartyB": _is_phone,
        "Remarks": _is_remarks,
        "QueueTimeOutURL": is_callback_url,
        "ResultURL": is_callback_url,
        # Both spellings are taken: the portal writes two c for v3, and one for v1.
        "Occassion": _is_occasion,
        "Occasion": _is_occasion,
    },
    Endpoint.STATUS: {
        "Initiator": _is_name,
        "SecurityCredential": _is_name,
        "CommandID": _is_one_of("TransactionStatusQuery"),
        "TransactionID": _is_text_or_absent,
        "OriginalConversationID": _is_text_or_absent,
        "PartyA": _is_shortcode,
        "IdentifierType": _SHORTCODE_TYPE,
        "ResultURL": is_callback_url,
        "QueueTimeOutURL": is_callback_url,
        "Remarks": _is_short_text,
        "Occasion": _is_occasion,
    },
    Endpoint.BALANCE: {
        "Initiator": _is_name,
        "SecurityCredential": _is_name,
        "CommandID": _is_one_of("AccountBalance"),
        "PartyA": _is_shortcode,
        "IdentifierType": _SHORTCODE_TYPE,
        "Remarks": _is_short_text,
        "QueueTimeOutURL": is_callback_url,
        "ResultURL": is_callback_url,
    },
    Endpoint.TOP_UP: {
        "Initiator": _is_name,
        "SecurityCredential": _is_name,
        "CommandID": _is_one_of("BusinessPayToBulk", "BusinessTransferFromMMFToUtility"),
        "SenderIdentifierType": _SHORTCODE_TYPE,
        "RecieverIdentifierType": _SHORTCODE_TYPE,
        "Amount": _is_whole_shillings,
        "PartyA": _is_shortcode,
        "PartyB": _is_shortcode,
        "AccountReference": _is_occasion,
        "Remarks": _is_short_text,
        "QueueTimeOutURL": is_callback_url,
        "ResultURL": is_callback_url,
    },
    Endpoint.REVERSAL: {
        "Initiator": _is_name,
        "SecurityCredential": _is_name,
        "CommandID": _is_one_of("TransactionReversal"),
        "TransactionID": _is_name,
        "Amount": _is_whole_shillings,
        "ReceiverParty": _is_shortcode,
        "RecieverIdentifierType": _is_one_of("11", "4", 11, 4),
        "ResultURL": is_callback_url,
        "QueueTimeOutURL": is_callback_url,
        "Remarks": _is_remarks,
        "Occasion": _is_occasion,
    },
}
