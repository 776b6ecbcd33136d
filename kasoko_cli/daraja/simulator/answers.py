"""What the gateway answers at once: acknowledgements, refusals, and all the ways an answer can be spoilt.

Source: Daraja portal, pages on authorisation, B2C, transaction status and account balance, for codes
and texts; sandbox captures of 2026 for the wording on the wire, empty bodies and web pages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Final, TypeAlias

from kasoko_cli.daraja.simulator.script import Fault

#: What `write_json` takes. Money is a Decimal or an int, never a float.
Wire: TypeAlias = "str | int | Decimal | bool | list[Wire] | dict[str, Wire] | None"

JSON: Final = "application/json"
HTML: Final = "text/html"


class Manner(Enum):
    """How an answer is put on the wire."""

    #: All of it, at once.
    WHOLE = "whole"
    #: The head and half of the body, then the connection closes.
    HALF = "half"
    #: A byte at a time.
    DRIPPED = "dripped"
    #: The connection is closed without a byte.
    DROPPED = "dropped"
    #: The connection is reset without a byte.
    RESET = "reset"
    #: Nothing, until the caller gives up.
    NEVER = "never"


@dataclass(frozen=True)
class Notice:
    """A body that is owed to a URL, a while after the answer, or before it."""

    url: str
    body: bytes
    delay_seconds: float = 0.0
    before_answer: bool = False
    content_type: str = JSON


@dataclass(frozen=True)
class GatewayReply:
    """One HTTP answer, how it is sent, and what is posted because of it."""

    status: int
    body: bytes
    content_type: str = JSON
    manner: Manner = Manner.WHOLE
    wait_seconds: float = 0.0
    notices: tuple[Notice, ...] = ()


class Refusal(Exception):
    """The gateway refuses a request; nothing was taken. Carries what it answers."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.status = status
        self.code = code
        self.message = message

    def reply(self, request_id: str | None) -> GatewayReply:
        """The answer: an HTTP status and the gateway's three fields."""
        return error(self.status, self.code, self.message, request_id)


def write_json(value: Wire) -> bytes:
    """JSON in which a Decimal keeps its digits: 98750.00 stays 98750.00, and is never a float."""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts).encode()


def _write(value: Wire, parts: list[str]) -> None:
    if isinstance(value, dict):
        separator = "{"
        for key, part in value.items():
            parts += (separator, json.dumps(key), ": ")
            _write(part, parts)
            separator = ", "
        parts.append("}" if value else "{}")
    elif isinstance(value, list):
        separator = "["
        for part in value:
            parts.append(separator)
            _write(part, parts)
            separator = ", "
        parts.append("]" if value else "[]")
    elif isinstance(value, Decimal):
        parts.append(format(value, "f"))
    else:
        parts.append(json.dumps(value))


def error(status: int, code: str, message: str, request_id: str | None) -> GatewayReply:
    """A refusal in the gateway's shape."""
    return GatewayReply(status, write_json({"requestId": request_id, "errorCode": code, "errorMessage": message}))


def acknowledgement(originator_id: str | None, conversation_id: str, *, full_stop: bool = True) -> GatewayReply:
    """The request is queued: never that it is paid."""
    body: dict[str, Wire] = {"ConversationID": conversation_id}
    if originator_id is not None:
        body["OriginatorConversationID"] = originator_id
    body["ResponseCode"] = "0"
    body["ResponseDescription"] = "Accept the service request successfully" + ("." if full_stop else "")
    return GatewayReply(200, write_json(body))


_FIREWALL_PAGE: Final = (
    b"<html><head><title>503 Service Unavailable</title></head><body>Request unsuccessful. "
    b"Incapsula incident ID: 0000000000000000000-0000000000000000000</body></html>"
)
_WEB_PAGE: Final = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_SOAP_FAULT: Final[Wire] = {
    "Envelope": {
        "Body": {"Fault": {"faultcode": "env:Server", "faultstring": "The service is unavailable", "detail": None}}
    }
}

#: Faults that are an error body: HTTP status, errorCode, errorMessage.
_ERRORS: Final[dict[str, tuple[int, str, str]]] = {
    "invalid_party_b": (400, "400.002.02", "Bad Request - Invalid PartyB"),
    "threat_detected": (400, "400.002.02", "Threat Detected"),
    "spike_arrest": (500, "500.003.02", "Error Occurred: Spike Arrest Violation"),
    "system_busy": (500, "500.003.02", "System is busy. Please try again in few minutes."),
    "quota": (500, "500.003.03", "Error Occurred: Quota Violation"),
    "too_many_requests": (429, "429.001.01", "Too Many Requests"),
    "token_refused_404": (404, "404.001.03", "Invalid Access Token"),
    "internal_error": (500, "500.002.1001", "System internal error."),
    "maintenance": (500, "500.002.1001", "Service is currently under maintenance. Please try again later"),
    "unreachable": (500, "500.003.1001", "Service is currently unreachable. Please try again later"),
    "empty_message": (500, "500.001.1001", ""),
}

_MANNERS: Final = {
    "drop": Manner.DROPPED,
    "reset": Manner.RESET,
    "no_answer": Manner.NEVER,
    "half_answer": Manner.HALF,
    "drip": Manner.DRIPPED,
}


def spoil(
    fault: Fault, taken: GatewayReply | None, *, request_id: str, token: str, slow_seconds: float
) -> GatewayReply:
    """What the caller sees instead of the right answer.

    `taken` is the acknowledgement of a request that was taken, or None if it never was; what is
    owed because of it stays owed.
    """
    name = fault.value.removesuffix("_before").removesuffix("_after")
    owed = () if taken is None else taken.notices
    whole = taken or error(*_ERRORS["internal_error"], request_id)
    if name in _ERRORS:
        reply = error(*_ERRORS[name], None if fault is Fault.THREAT_DETECTED else request_id)
    elif name in _MANNERS:
        reply = replace(whole, manner=_MANNERS[name])
    else:
        reply = _strange(fault, whole, request_id, token, slow_seconds)
    return replace(reply, notices=owed)


def _strange(fault: Fault, whole: GatewayReply, request_id: str, token: str, slow_seconds: float) -> GatewayReply:
    """The spoilt answers that are neither a plain error body nor a broken connection."""
    match fault:
        case Fault.SOAP_FAULT_BEFORE | Fault.SOAP_FAULT_AFTER:
            return GatewayReply(500, write_json(_SOAP_FAULT))
        case Fault.HTML_503_BEFORE | Fault.HTML_503_AFTER:
            return GatewayReply(503, _FIREWALL_PAGE, HTML)
        case Fault.HTML_200_BEFORE | Fault.HTML_200_AFTER:
            return GatewayReply(200, _WEB_PAGE, HTML)
        case Fault.EMPTY_200_BEFORE | Fault.EMPTY_200_AFTER:
            return GatewayReply(200, b"")
        case Fault.TOKEN_DIES | Fault.PRODUCT_MISSING:
            return error(401, "401.002.01", f"Error Occurred - Invalid Access Token - {token}", request_id)
        case Fault.ERROR_IN_200:
            return error(200, "500.003.02", "Error Occurred: Spike Arrest Violation", request_id)
        case Fault.RESPONSE_CODE_NOT_ZERO:
            return GatewayReply(200, write_json({"ResponseCode": "1", "ResponseDescription": "Rejected"}))
        case Fault.SLOW_ANSWER:
            return replace(whole, wait_seconds=slow_seconds)
        case Fault.ACK_WRONG_ID:
            return acknowledgement(f"other-{request_id}", f"AG_20200101_{request_id}")
        case Fault.ACK_SAYS_NOTHING:
            return GatewayReply(200, write_json({"status": "ok"}))
        case _:
            raise AssertionError(f"no answer is written for {fault}")
