"""The log of calls to Daraja: each is kept, when, what, status, latency, bodies without secrets."""

from __future__ import annotations

from kasoko_cli.daraja.client import Answer
from kasoko_cli.store.tables import Exchange


def exchange_rows(subject: str, answer: Answer) -> list[Exchange]:
    """Every call that was made for one attempt or query, for the log."""
    return [
        Exchange(
            at=call.at,
            kind=call.kind,
            subject=subject,
            http_status=call.http_status,
            outcome=call.outcome,
            latency_ms=call.latency_ms,
            request=call.request,
            response=call.response,
        )
        for call in answer.exchanges
    ]
