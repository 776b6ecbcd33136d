"""The two reports: payouts and entries."""

from __future__ import annotations

import csv
import io

import pytest
from sqlmodel import col, update

from kasoko_cli.operations.exchange.export import PAYOUT_COLUMNS, RecordKind, export
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.record_files import Format
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Payout
from tests.conftest import FixedClock
from tests.operations.data_builder import DataBuilder


def rows(
    db: Database, kind: RecordKind, *, market: str | None = None, show_phone: bool = False
) -> list[dict[str, str]]:
    parts: list[str] = []
    done = export(db, kind, Format.CSV, parts.append, market=market, show_phone=show_phone)
    found = list(csv.DictReader(io.StringIO("".join(parts))))
    assert len(found) == done.rows
    return found


@pytest.fixture
def builder(db: Database, clock: FixedClock, actor: Actor) -> DataBuilder:
    """Two markets that are settled; of the first one payout failed and was paid under a second id."""
    builder = DataBuilder(db, clock, actor)
    for market, users in (("rain", ("ann", "ben")), ("rain2", ("cyn", "dan"))):
        builder.market(market)
        builder.bets(market, {users[0]: ("Yes", 100), users[1]: ("No", 150)})
        builder.settle(market, "Yes")
    builder.failed(builder.intend("ann"))
    builder.due_again("ann")
    return builder


def test_a_payout_has_one_row_with_its_latest_attempt(builder: DataBuilder) -> None:
    attempt_id = builder.intend("ann")
    receipt = builder.paid(attempt_id)
    found = rows(builder.db, RecordKind.PAYOUTS)
    assert list(found[0]) == list(PAYOUT_COLUMNS.names)
    assert [(row["user_id"], row["amount_cents"], row["wire_cents"], row["status"]) for row in found] == [
        ("ann", "23750", "23700", "COMPLETED"),
        ("cyn", "23750", "23700", "PENDING"),
    ]
    assert (found[0]["originator_conversation_id"], found[0]["receipt"]) == (attempt_id, receipt)
    assert (found[1]["originator_conversation_id"], found[1]["receipt"]) == ("", "")
    assert [row["phone"] for row in rows(builder.db, RecordKind.PAYOUTS, market="rain2")] == ["2547****0003"]
    assert [row["phone"] for row in rows(builder.db, RecordKind.PAYOUTS, market="rain2", show_phone=True)] == [
        "254700000003"
    ]


def test_what_mpesa_or_a_person_wrote_is_no_formula_and_shows_no_phone(builder: DataBuilder) -> None:
    with builder.db.transaction() as session:
        session.exec(
            update(Payout)
            .where(col(Payout.user_id) == "cyn")
            .values(note="=cmd|' /C calc'!A0", failure_reason="@254712345678 is not registered")
        )
    [row] = rows(builder.db, RecordKind.PAYOUTS, market="rain2")
    assert row["note"] == "'=cmd|' /C calc'!A0"
    assert row["failure_reason"] == "'@2547****5678 is not registered"


def test_the_entries_of_a_market_are_all_that_its_money_did(builder: DataBuilder) -> None:
    """Those of a market whose id begins alike are not among them."""
    builder.paid(builder.intend("ann"))
    found = rows(builder.db, RecordKind.ENTRIES, market="rain")
    expected = {"bet", "settle", "reserve", "release", "credit", "deliver"}
    assert {row["kind"] for row in found} == expected
    assert sum(int(row["amount_cents"]) for row in found) == 0
    others = rows(builder.db, RecordKind.ENTRIES, market="rain2")
    assert {row["key"] for row in found} & {row["key"] for row in others} == set()
    every = {row["key"] for row in rows(builder.db, RecordKind.ENTRIES)}
    left = every - {row["key"] for row in found} - {row["key"] for row in others}
    assert {key.split(":")[0] for key in left} == {"deposit"}


def test_negative_cents_stay_numbers(builder: DataBuilder) -> None:
    cents = {row["amount_cents"] for row in rows(builder.db, RecordKind.ENTRIES)}
    assert "-10000" in cents
    assert not any(cell.startswith("'") for cell in cents)
