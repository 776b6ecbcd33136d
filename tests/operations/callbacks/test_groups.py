"""Callbacks judged in groups: what judging them one by one leaves, and one poisonous body stops nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from kasoko_cli.daraja import messages
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import DatabaseUnavailable
from kasoko_cli.operations.audit import run
from kasoko_cli.operations.callbacks import apply_results, verification
from kasoko_cli.operations.callbacks.apply_results import Trust, apply_waiting, store_deliveries
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.database import Database, open_database
from tests.conftest import FixedClock
from tests.operations.data_builder import DataBuilder

pytestmark = pytest.mark.on_both

#: Everything that judging writes, without the numbers that only say in which order it was written.
ROWS = (
    "SELECT id, applied_at, verdict, detail FROM callbacks",
    "SELECT id, status, status_at, receipt, result_code, result_text, evidence FROM attempts",
    "SELECT id, status, updated_at, failure_code, failure_reason, not_before FROM payouts",
    "SELECT key, kind, at, line, account, owner, amount_cents FROM entries JOIN postings ON entry_id = id",
    "SELECT key, kind, what, payout_id, attempt_id, callback_id FROM incidents",
    "SELECT * FROM switches",
)


def result(attempt: str, *, kes: int = 142, receipt: str = "SKN0000001", code: int = 0) -> bytes:
    """A result as M-Pesa posts it."""
    said: dict[str, Any] = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "as the code says",
        "OriginatorConversationID": attempt,
        "ConversationID": f"AG_{attempt}",
        "TransactionID": receipt,
    }
    if code == 0:
        said["ResultParameters"] = {
            "ResultParameter": [
                {"Key": "TransactionAmount", "Value": kes},
                {"Key": "TransactionReceipt", "Value": receipt},
            ]
        }
    return json.dumps({"Result": said}).encode()


def sent(builder: DataBuilder, count: int) -> list[str]:
    """So many winners of KES 142.50 to whom M-Pesa is paying KES 142."""
    builder.market("derby")
    builder.bets("derby", {f"winner-{n}": ("Yes", 100) for n in range(count)} | {"loser": ("No", 50 * count)})
    builder.settle("derby", "Yes")
    attempts = [builder.intend(f"winner-{n}") for n in range(count)]
    for attempt in attempts:
        builder.accepted(attempt)
    return attempts


def posted(
    builder: DataBuilder, *bodies: tuple[str, bytes], kind: CallbackKind = CallbackKind.RESULT, signed: bool = True
) -> list[Delivery]:
    return [Delivery(kind, subject, signed, "127.0.0.1", builder.clock(), body) for subject, body in bodies]


def assorted(builder: DataBuilder, ids: Sequence[str]) -> list[Delivery]:
    """Plain, doubled, contradicting, failed, of strangers, two in one receipt's name, unclear then paid, unsigned."""
    return [
        *posted(
            builder,
            (ids[0], result(ids[0], receipt="SKN0000001")),
            (ids[1], result(ids[1], receipt="SKN0000002")),
            (ids[1], result(ids[1], receipt="SKN0000002")),
            (ids[2], result(ids[2], kes=999, receipt="SKN0000003")),
            (ids[3], result(ids[3], code=2040)),
            (ids[4], result(ids[4], receipt="SKN0000004")),
            (ids[5], result(ids[5], receipt="SKN0000004")),
            (ids[6], b"[[["),
            ("ks-" + "0" * 32, result(ids[0])),
            (ids[7], result(ids[7], code=1)),
            (ids[8], result(ids[8], code=17)),
            (ids[8], result(ids[8], receipt="SKN0000005")),
            (ids[9], result(ids[9], receipt="SKN0000001")),
        ),
        *posted(builder, (ids[10], b"{}"), kind=CallbackKind.TIMEOUT),
        *posted(builder, ("", result(ids[0])), signed=False),
        *posted(builder, *((attempt, result(attempt, receipt=f"SKP{n:07d}")) for n, attempt in enumerate(ids[11:], 1))),
    ]


def everything(db: Database) -> list[list[tuple[Any, ...]]]:
    with db.reading() as session:
        return [sorted((tuple(row) for row in session.execute(text(query))), key=repr) for query in ROWS]


def test_judging_together_leaves_what_judging_one_by_one_leaves(
    sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same callbacks, in groups of 1, 3 and 100, on copies of one database: every row is the same."""
    first = Path(shutil.copy(sqlite_template, tmp_path / "first.db"))
    clock = FixedClock()
    db = open_database(f"sqlite:///{first}")
    builder = DataBuilder(db, clock, Actor("tester", "a test"))
    ids = sent(builder, 16)
    store_deliveries(db, clock, assorted(builder, ids))
    db.close()
    found = []
    for size in (1, 3, 100):
        monkeypatch.setattr(apply_results, "GROUP", size)
        copy = open_database(f"sqlite:///{shutil.copy(first, tmp_path / f'{size}.db')}")
        judged = apply_waiting(copy, clock, Trust())
        found.append(([(one.callback_id, one.verdict, one.detail) for one in judged], everything(copy)))
        assert run.audit(copy, deep=True).ok
        copy.close()
    # Of two attempts in one receipt's name the earlier has it, in whatever group they come.
    assert found[0] == found[1] == found[2]
    assert {verdict for _, verdict, _ in found[0][0]} == {
        *("paid", "mismatch", "failed", "unreadable", "stray", "unclear", "timeout", "hint")
    }
    assert "each alone" not in caplog.text


def test_plain_successes_are_moved_together_on_both_databases(
    builder: DataBuilder, caplog: pytest.LogCaptureFixture
) -> None:
    ids = sent(builder, 8)
    store_deliveries(
        builder.db,
        builder.clock,
        posted(builder, *((one, result(one, receipt=f"SKP{n:07d}")) for n, one in enumerate(ids, 1))),
    )
    statements: list[object] = []
    event.listen(builder.db.engine, "before_cursor_execute", lambda *seen: statements.append(seen))
    judged = apply_waiting(builder.db, builder.clock, Trust())
    assert [one.verdict for one in judged] == ["paid"] * 8
    assert len(statements) < 8 * 4, "eight at once take hardly more statements than one"
    assert caplog.text == ""
    assert {builder.payout_of(f"winner-{n}").status for n in range(8)} == {PayoutStatus.COMPLETED}
    assert {builder.balances(f"winner-{n}") for n in range(8)} == {(14_250, 50)}
    assert run.audit(builder.db, deep=True).ok


def test_results_that_come_again_are_judged_together_and_change_nothing(builder: DataBuilder) -> None:
    """When M-Pesa posts everything once more. Who says anything else than before is still judged for itself."""
    ids = sent(builder, 8)
    again = [(one, result(one, receipt=f"SKP{n:07d}")) for n, one in enumerate(ids, 1)]
    store_deliveries(builder.db, builder.clock, posted(builder, *again))
    apply_waiting(builder.db, builder.clock, Trust())
    before = _all_but_callbacks(builder.db)
    store_deliveries(builder.db, builder.clock, posted(builder, *again, *again, *again))
    statements: list[object] = []
    event.listen(builder.db.engine, "before_cursor_execute", lambda *seen: statements.append(seen))
    judged = apply_waiting(builder.db, builder.clock, Trust())
    assert [(one.verdict, one.detail) for one in judged] == [("paid", "known already")] * 24
    assert len(statements) < 24, "many at once take hardly more statements than one"
    assert _all_but_callbacks(builder.db) == before

    others = [(ids[0], result(ids[0], receipt="SKP7777777")), (ids[1], result(ids[1], receipt="SKP0000002", kes=143))]
    store_deliveries(builder.db, builder.clock, posted(builder, again[0], *others, again[1]))
    judged = apply_waiting(builder.db, builder.clock, Trust())
    assert [one.verdict for one in judged] == ["paid", "paid", "mismatch", "paid"]
    assert judged[1].detail == "a second receipt for one attempt: kept as evidence, nothing changed"
    with builder.db.reading() as session:
        assert session.execute(text("SELECT kind FROM incidents ORDER BY kind")).scalars().all() == [
            *("contradiction", "mismatch")
        ]
    assert {builder.balances(f"winner-{n}") for n in range(8)} == {(14_250, 50)}
    assert run.audit(builder.db, deep=True).ok


def _all_but_callbacks(db: Database) -> list[list[tuple[Any, ...]]]:
    tables = ("attempts", "payouts", "entries", "postings", "events", "incidents", "float_readings")
    with db.reading() as session:
        found = [session.execute(text(f"SELECT * FROM {name}")) for name in tables]
        return [sorted((tuple(row) for row in rows), key=repr) for rows in found]


@pytest.mark.parametrize("where", ["reading it", "weighing it"])
def test_a_poisonous_body_is_set_aside_with_an_incident_and_the_rest_goes_on(
    builder: DataBuilder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    ids = sent(builder, 5)
    poison = result(ids[2], receipt="SKP6666666")
    if where == "reading it":
        read = messages.parse_result
        monkeypatch.setattr(apply_results, "parse_result", lambda body: read(body) if body != poison else 1 // 0)
    else:
        weigh = verification.verify_result
        broken = lambda said, attempt, **more: weigh(said, attempt, **more) if attempt.id != ids[2] else 1 // 0  # noqa: E731
        monkeypatch.setattr(apply_results, "verify_result", broken)
    bodies = [(one, result(one, receipt=f"SKP{n:07d}")) for n, one in enumerate(ids, 1)]
    bodies[2] = (ids[2], poison)
    store_deliveries(builder.db, builder.clock, posted(builder, *bodies))
    judged = apply_waiting(builder.db, builder.clock, Trust())
    assert [one.verdict for one in judged] == ["paid", "paid", "poisonous", "paid", "paid"]
    assert builder.payout_of("winner-2").status is PayoutStatus.SENT
    assert "5 callbacks cannot be applied together (ZeroDivisionError): each alone." in caplog.text
    with builder.db.reading() as session:
        [(kind, what, number)] = session.execute(text("SELECT kind, what, callback_id FROM incidents")).all()
    assert (kind, number) == ("poisonous", judged[2].callback_id)
    assert f"kasoko callback show {number}" in what
    assert "254712345678" not in what
    assert apply_waiting(builder.db, builder.clock, Trust()) == []
    assert run.audit(builder.db, deep=True).ok


def test_a_database_that_goes_away_sets_nothing_aside(builder: DataBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = sent(builder, 2)
    store_deliveries(
        builder.db,
        builder.clock,
        posted(builder, *((one, result(one, receipt=f"SKP{n:07d}")) for n, one in enumerate(ids, 1))),
    )

    def gone(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("gone")

    with monkeypatch.context() as broken:
        broken.setattr(apply_results, "verify_result", gone)
        with pytest.raises(DatabaseUnavailable):
            apply_waiting(builder.db, builder.clock, Trust())
    assert [one.verdict for one in apply_waiting(builder.db, builder.clock, Trust())] == ["paid", "paid"]
