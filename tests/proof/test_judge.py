"""The judge of the proof: whose receipt proves which payment."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kasoko_cli.domain.payout import AttemptStatus
from kasoko_cli.store.schema.tables import Attempt
from tests.proof.bench import Payment
from tests.proof.judge import wrong_receipts

ANN, BEN = "254712000001", "254712000002"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def attempt(payout_id: str, phone: str, receipt: str, evidence: str) -> Attempt:
    return Attempt(
        id=f"ks-{payout_id}",
        payout_id=payout_id,
        number=1,
        phone=phone,
        wire_cents=40_000,
        api="v1",
        status=AttemptStatus.SUCCEEDED,
        receipt=receipt,
        evidence=evidence,
        lease_token="one",
        lease_until=NOON,
        sent_at=NOON,
        created_at=NOON,
        status_at=NOON,
    )


def paid(payout_id: str, phone: str, receipt: str) -> list[Payment]:
    return [Payment(payout_id.replace(".", " "), f"ks-{payout_id}", receipt, phone, 40_000, 500, NOON)]


def crossed(evidence: str, phones: tuple[str, str]) -> list[str]:
    """Two payments, each proven by the receipt of the other."""
    tries = {
        "m.1.1": [attempt("m.1.1", phones[0], "RB", evidence)],
        "m.1.2": [attempt("m.1.2", phones[1], "RA", evidence)],
    }
    return wrong_receipts(tries, {"m.1.1": paid("m.1.1", phones[0], "RA"), "m.1.2": paid("m.1.2", phones[1], "RB")})


def test_equal_payments_to_one_number_are_proven_together_by_a_statement() -> None:
    assert crossed("statement:7", (ANN, ANN)) == []


@pytest.mark.parametrize(("evidence", "phones"), [("statement:7", (ANN, BEN)), ("status:7", (ANN, ANN))])
def test_the_receipt_of_another_payment_proves_nothing(evidence: str, phones: tuple[str, str]) -> None:
    assert len(crossed(evidence, phones)) == 2


def test_a_receipt_too_many_or_too_few_is_seen_among_equals() -> None:
    tries = {name: [attempt(name, ANN, "RA", "statement:7")] for name in ("m.1.1", "m.1.2")}
    assert wrong_receipts(tries, {"m.1.1": paid("m.1.1", ANN, "RA"), "m.1.2": paid("m.1.2", ANN, "RB")})
