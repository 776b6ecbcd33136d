"""No secret is kept or logged: credentials, tokens, URL signatures and whole phones go out of bodies and texts."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Final

from kasoko_cli.daraja.messages import Json
from kasoko_cli.domain.phone import mask, mask_in

#: What replaces a secret.
REMOVED: Final = "[removed]"
#: A JSON string; one that never ends reaches to the end, so that each character is looked at once.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_AFTER_KEY = re.compile(r"\s*:\s*")
_BARE_VALUE = re.compile(r"[^,\]}\s]*")
#: A credential where JSON does not help: in a form, in XML, in JSON inside a string.
_LOOSE_CREDENTIAL = re.compile(
    r"(?i)((?:security[\s_-]*credential|access[\s_-]*token|consumer[\s_-]*(?:key|secret)|password)"
    r"[^A-Za-z0-9+/%\[:=>]{0,8}[:=>][^A-Za-z0-9+/%\[]{0,8})"
    # A digit tells a secret from the next word of a sentence; it is looked for no further than need be.
    r"(?=[A-Za-z+/%=_\\.-]{0,64}[0-9])([A-Za-z0-9+/%=_\\.-]{6,})"
)
#: An RSA-2048 cryptogram in base64 has 344 characters; nothing else on this wire looks like that.
_CRYPTOGRAM = re.compile(r"[A-Za-z0-9+/%\\]{200,}={0,2}")
_HALF_CRYPTOGRAM = 100
_SECRET_KEYS = frozenset({"password", "accesstoken", "consumerkey", "consumersecret", "authorization"})
#: What each name of a secret contains; derived from the names, so that none is forgotten.
_SECRET_ROOTS = (b"credential", *(key.encode() for key in sorted(_SECRET_KEYS)))
_NO_LETTER = re.compile(r"[^a-z]+")
#: Every name of a secret has one of these in its letters.
_SECRET_WORD = re.compile("|".join(sorted({"credential", *_SECRET_KEYS})))


def strip_credentials(body: bytes) -> bytes:
    """The body without the values of SecurityCredential and its kind; every other byte as it was.

    A queue timeout posts our own request back, credential and all. Works on what is no JSON too.
    """
    if _names_none(body):
        return body
    # NUL bytes make JSON look like UTF-16, which it may or may not be: both readings are searched.
    for encoding in dict.fromkeys((json.detect_encoding(body), "utf-8")):
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        text = body.decode(encoding, errors)
        stripped = _without_secrets(text)
        if stripped != text:
            body = stripped.encode(encoding, errors)
    return body


#: Every byte that is no letter, and the letters in lower case.
_NO_LETTERS = bytes(byte for byte in range(256) if not chr(byte).isascii() or not chr(byte).isalpha())
_LOWER = bytes(ord(chr(byte).lower()) if byte < 128 else byte for byte in range(256))


def _names_none(body: bytes) -> bool:
    """Whether a body certainly has nothing to strip: true of results, and cheap to see.

    False for what is not ASCII, or escapes more than slashes: it may spell a name in many ways.
    """
    if not body.isascii() or body.count(b"\\") != body.count(b"\\/"):
        return False
    # A text as long as a cryptogram holds a whole piece of half that length, which then has no quotation mark.
    for start in range(0, len(body) - _HALF_CRYPTOGRAM + 1, _HALF_CRYPTOGRAM):
        if body.find(b'"', start, start + _HALF_CRYPTOGRAM) < 0:
            return False
    letters = body.translate(_LOWER, _NO_LETTERS)
    for root in _SECRET_ROOTS:  # noqa: SIM110 - a generator takes twice as long, for each result that comes
        if root in letters:
            return False
    return True


def _without_secrets(text: str) -> str:
    if text.isascii() and "\\" not in text and not _SECRET_WORD.search(_NO_LETTER.sub("", text.lower())):
        # However they are cut up, none of the names stands in it. Nearly every answer is like that.
        return _CRYPTOGRAM.sub(REMOVED, text)
    kept: list[str] = []
    done = 0
    for token in _STRING.finditer(text):
        if token.start() < done or (colon := _AFTER_KEY.match(text, token.end())) is None:
            continue
        if not _names_secret(token[0]):
            continue
        end = _value_end(text, colon.end())
        kept += (text[done : colon.end()], f'"{REMOVED}"')
        done = end
    kept.append(text[done:])
    joined = _LOOSE_CREDENTIAL.sub(rf"\1{REMOVED}", "".join(kept))
    return _CRYPTOGRAM.sub(REMOVED, joined)


@functools.lru_cache(maxsize=256)
def _names_secret(token: str) -> bool:
    """Whether a JSON string is the name of a secret, however it is spelt or escaped."""
    try:
        name = json.loads(token, strict=False)
    except ValueError:
        name = token
    letters = _NO_LETTER.sub("", name.lower())
    return "credential" in letters or letters in _SECRET_KEYS


def _value_end(text: str, start: int) -> int:
    """Where the JSON value that begins at `start` ends; the end of the text if it never does."""
    if text[start : start + 1] not in ("{", "["):
        found = _STRING.match(text, start) or _BARE_VALUE.match(text, start)
        return found.end() if found else start
    depth = 0
    for token in re.compile(_STRING.pattern + r"|[\[\]{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            return token.end()
    return len(text)


_TOKEN_IN_TEXT = re.compile(r"(?i)(Invalid Access Token\s*[-:]\s*)([^\s\"',;}<]+)")
_AUTHORIZATION = re.compile(r"(?i)\b(Bearer|Basic)\s+(?!\[removed\])[A-Za-z0-9+/=._~-]{4,}")
#: The last part of a callback URL of ours: who has it can post a result that bears our mark.
_URL_MAC = re.compile(r"(/(?:[a-z0-9]+-(?:callback|timeout))\\?/[A-Za-z0-9._-]+\\?/)[0-9a-fA-F]{16,}")


def shown_request(request: Mapping[str, Json]) -> dict[str, Json]:
    """A request of ours as it may be kept: what `redact` makes of it, by knowing which field holds what.

    `redact` has to search for what it does not know, which for a whole request takes longer than to send it.
    """
    shown = dict(request)
    for name, value in request.items():
        if name in _OPEN or not isinstance(value, str):
            continue
        if name == "SecurityCredential":
            shown[name] = REMOVED
        elif name in ("ResultURL", "QueueTimeOutURL"):
            shown[name] = f"{value.rpartition('/')[0]}/{REMOVED}"
        elif name == "PartyB":
            shown[name] = mask(value)
        elif name in ("Occassion", "Occasion"):
            # The payout's own id, each of them another: a settlement and a number behind the market's id.
            market, *numbers = value.rsplit(" ", 2)
            shown[name] = " ".join((_redacted(market), *numbers))
        else:
            shown[name] = _redacted(value)
    return shown


#: The fields of a request that have nothing to hide.
_OPEN: Final = frozenset({"OriginatorConversationID", "CommandID", "Amount"})

#: An acceptance as M-Pesa words it, and ids: nothing in it could be a secret or somebody's number.
_ORDINARY_ACCEPTANCE = re.compile(
    r"\{(?:[\s,]*"
    r'(?:"(?:Originator)?ConversationID"\s*:\s*"(?:ks-[0-9a-f]{32}|AG_[0-9]{8}_[0-9a-z]{20})"'
    r'|"ResponseCode"\s*:\s*"0"'
    r'|"ResponseDescription"\s*:\s*"Accept the service request successfully\.?"))*\s*\}'
)


def redact_answer(text: str) -> str:
    """What `redact` makes of an answer; nearly all of them are acceptances, which are told apart at once."""
    return text if _ORDINARY_ACCEPTANCE.fullmatch(text) else redact(text)


@functools.lru_cache(maxsize=64)
def _redacted(text: str) -> str:
    """The same for the fields of a request, most of which are alike in a whole run."""
    return redact(text)


def redact(text: str) -> str:
    """Text that may be logged or kept: no token, credential, URL signature or whole phone number."""
    text = _without_secrets(text)
    small = text.lower() if text.isascii() else ""
    if not small or "invalid access token" in small:
        text = _TOKEN_IN_TEXT.sub(rf"\1{REMOVED}", text)
    if not small or "bearer" in small or "basic" in small:
        text = _AUTHORIZATION.sub(rf"\1 {REMOVED}", text)
    text = _URL_MAC.sub(rf"\1{REMOVED}", text)
    return mask_in(text)
