"""What must hold of every body whatever: read or refused with a reason, judged or left open, never a crash."""

from __future__ import annotations

import json
from decimal import Decimal

from kasoko_cli.daraja.codes import Fate, StatusFate, judge_result, read_status
from kasoko_cli.daraja.messages import MalformedBody, parse_result
from kasoko_cli.daraja.redaction import redact, strip_credentials

#: What no kept body may contain.
SECRET = "c2VjcmV0MQ" * 30


def one_body(body: bytes) -> None:
    """Read one body, and ask everything that is ever asked of it."""
    stripped = strip_credentials(body)
    assert strip_credentials(stripped) == stripped, "what was stripped has nothing left to strip"
    redact(body.decode("utf-8", "backslashreplace"))
    try:
        result = parse_result(body)
    except MalformedBody:
        return
    repr(result)
    said = judge_result(result)
    amount = result.amount_cents()
    assert amount is None or (type(amount) is int and amount >= 0), "no float ever touches money"
    for text in (result.receipt(), result.receiver, result.receiver_phone(), result.result_code):
        assert text is None or isinstance(text, str)
    assert isinstance(result.receipts_disagree, bool)
    result.completed_at()
    if said.fate is Fate.PAID:
        assert result.is_envelope, "a flat body is never a payment"
        assert result.result_code == "0", "nothing but 0 is paid"
    answer = read_status(result)
    if answer.fate is StatusFate.COMPLETED:
        assert result.result_code == "0"
    assert all(not isinstance(value, float) for value in result.parameters.values())
    assert all(isinstance(value, str | int | Decimal | bool | None) for value in result.parameters.values())


def a_secret_in(body: bytes) -> None:
    """Put a credential into a body that is a JSON object, as a queue timeout does: it is gone from what is kept."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        kept = strip_credentials(json.dumps({**value, "SecurityCredential": SECRET}).encode())
        assert SECRET.encode() not in kept
