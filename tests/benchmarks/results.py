"""Payments on their way, many of them, and the results that M-Pesa owes for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus, WireLimits
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Attempt
from tests.benchmarks.settle import BATCH, OPENED, prepare

ACT = Actor("benchmark")
#: When everything was sent.
SENT = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


def on_their_way(db: Database, count: int, *, with_people: bool = True) -> list[tuple[str, int]]:
    """As many payouts that M-Pesa has acknowledged: the id of each attempt and its cents."""
    prepare(db, count, with_people=with_people)
    settle.settle_market(OperationContext(db, lambda: OPENED + timedelta(days=2), ACT), WireLimits(), market="derby")
    sent: list[tuple[str, int]] = []
    with db.transaction() as session:
        owed = session.execute(text("SELECT id, user_id, wire_cents FROM payouts WHERE status = 'PENDING'")).all()
        for start in range(0, len(owed), BATCH):
            part = [
                (payout, f"ks-{start + n:032x}", cents)
                for n, (payout, _, cents) in enumerate(owed[start : start + BATCH])
            ]
            bulk_rows.insert_rows(session, Attempt, [_attempt(*one) for one in part])
            book.post_many(session, (journal.reserved(attempt, 1, cents) for _, attempt, cents in part), at=SENT)
            sent += [(attempt, cents) for _, attempt, cents in part]
        session.execute(
            text("UPDATE payouts SET status = :sent WHERE status = 'PENDING'"), {"sent": str(PayoutStatus.SENT)}
        )
    return sent


def _attempt(payout_id: str, attempt_id: str, wire_cents: int) -> dict[str, object]:
    return {
        "id": attempt_id,
        "payout_id": payout_id,
        "number": 1,
        "status": AttemptStatus.ACCEPTED,
        "phone": "254712000111",
        "wire_cents": wire_cents,
        "api": "v3",
        "sends": 1,
        "lease_token": "benchmark",
        "lease_until": SENT + timedelta(minutes=5),
        "sent_at": SENT,
        "conversation_id": conversation_of(attempt_id),
        "created_at": SENT,
        "status_at": SENT,
    }


def conversation_of(attempt_id: str) -> str:
    """M-Pesa's own id for an attempt."""
    return f"AG_20261125_{attempt_id[-20:]}"


def result_body(attempt_id: str, wire_cents: int, number: int) -> bytes:
    """A success as M-Pesa posts it, byte for byte of the same length whatever it is about."""
    receipt = f"UKP{number:07X}"
    return (
        '{"Result":{"ResultType":0,"ResultCode":0,"ResultDesc":"The service request is processed successfully.",'
        f'"OriginatorConversationID":"{attempt_id}","ConversationID":"{conversation_of(attempt_id)}",'
        f'"TransactionID":"{receipt}","ResultParameters":{{"ResultParameter":['
        f'{{"Key":"TransactionAmount","Value":{wire_cents // 100}}},'
        f'{{"Key":"TransactionReceipt","Value":"{receipt}"}},'
        '{"Key":"ReceiverPartyPublicName","Value":"254712000111 - JANE DOE"},'
        '{"Key":"TransactionCompletedDateTime","Value":"25.11.2026 12:00:09"},'
        '{"Key":"B2CUtilityAccountAvailableFunds","Value":98750.00},'
        '{"Key":"B2CWorkingAccountAvailableFunds","Value":0.00},'
        '{"Key":"B2CRecipientIsRegisteredCustomer","Value":"Y"},'
        '{"Key":"B2CChargesPaidAccountAvailableFunds","Value":-180.00}]},'
        '"ReferenceData":{"ReferenceItem":{"Key":"QueueTimeoutURL","Value":'
        '"https:\\/\\/internalapi.example.org\\/b2cresults\\/v1\\/submit"}}}}'
    ).encode()
