"""What was posted: listed, shown without secrets and whole phones, judged again without moving anything twice."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.audit import run
from kasoko_cli.operations.callbacks import apply_results, stored_callbacks
from kasoko_cli.operations.callbacks.apply_results import Trust, apply_waiting, store_deliveries
from tests.operations.callbacks.test_groups import posted, result, sent
from tests.operations.data_builder import DataBuilder


def test_the_latest_come_first_and_each_condition_narrows_the_list(builder: DataBuilder) -> None:
    ids = sent(builder, 3)
    store_deliveries(
        builder.db,
        builder.clock,
        [
            *posted(builder, (ids[0], result(ids[0])), (ids[1], result(ids[1], kes=9))),
            *posted(builder, ("", b"hello"), signed=False),
        ],
    )
    apply_waiting(builder.db, builder.clock, Trust())
    store_deliveries(builder.db, builder.clock, posted(builder, (ids[2], b"{}")))
    found = stored_callbacks.list_received(builder.db)
    assert [(one.subject, one.verdict, one.signed) for one in found] == [
        (ids[2], None, True),
        ("", "hint", False),
        (ids[1], "mismatch", True),
        (ids[0], "paid", True),
    ]
    assert [one.subject for one in stored_callbacks.list_received(builder.db, verdict="paid")] == [ids[0]]
    assert [one.subject for one in stored_callbacks.list_received(builder.db, waiting=True)] == [ids[2]]
    assert [one.subject for one in stored_callbacks.list_received(builder.db, hints=True)] == [""]
    assert [one.verdict for one in stored_callbacks.list_received(builder.db, about=ids[1])] == ["mismatch"]
    assert len(stored_callbacks.list_received(builder.db, limit=2)) == 2


def test_a_body_is_shown_without_whole_phones(builder: DataBuilder) -> None:
    body = json.dumps({"Result": {"ReceiverPartyPublicName": "254712345678 - JANE DOE"}}).encode() + b"\xff\x1b[2J"
    store_deliveries(
        builder.db, builder.clock, [Delivery(CallbackKind.RESULT, "ks-1", True, "192.0.2.7", builder.clock(), body)]
    )
    [one] = stored_callbacks.list_received(builder.db)
    shown = stored_callbacks.show_received(builder.db, one.id)
    assert "254712345678" not in shown.body
    assert "JANE DOE" in shown.body
    assert (shown.callback.bytes, shown.callback.source) == (len(body), "192.0.2.7")
    with pytest.raises(NotFound, match="There is no callback 99"):
        stored_callbacks.show_received(builder.db, 99)


def test_judging_again_moves_nothing_twice_and_says_who_wanted_it(builder: DataBuilder) -> None:
    ids = sent(builder, 2)
    store_deliveries(
        builder.db, builder.clock, posted(builder, (ids[0], result(ids[0])), (ids[1], result(ids[1], code=2040)))
    )
    apply_waiting(builder.db, builder.clock, Trust())
    numbers = [one.id for one in stored_callbacks.list_received(builder.db)]
    with builder.db.reading() as session:
        before = session.execute(text("SELECT count(*), sum(amount_cents * amount_cents) FROM postings")).all()
    done = stored_callbacks.replay(builder.context, Trust(), numbers)
    assert [(one.before, one.verdict, one.detail) for one in done] == [
        ("failed", "failed", "known already"),
        ("paid", "paid", "known already"),
    ]
    with builder.db.reading() as session:
        assert session.execute(text("SELECT count(*), sum(amount_cents * amount_cents) FROM postings")).all() == before
        acts = session.execute(text("SELECT actor, action, subject, detail FROM events WHERE action LIKE 'callback%'"))
        assert [(actor, action, json.loads(detail)["verdict"]) for actor, action, _, detail in acts] == [
            ("tester", "callback.replay", "paid"),
            ("tester", "callback.replay", "failed"),
        ]
    assert builder.payout_of("winner-0").status is PayoutStatus.COMPLETED
    assert run.audit(builder.db, deep=True).ok


def test_a_poisonous_body_is_applied_by_a_replay_once_the_judge_is_mended(
    builder: DataBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    [attempt] = sent(builder, 1)
    store_deliveries(builder.db, builder.clock, posted(builder, (attempt, result(attempt))))
    with monkeypatch.context() as broken:
        broken.setattr(apply_results, "verify_result", lambda *_, **__: 1 // 0)
        assert [one.verdict for one in apply_waiting(builder.db, builder.clock, Trust())] == ["poisonous"]
        [one] = stored_callbacks.list_received(builder.db, verdict="poisonous")
        [again] = stored_callbacks.replay(builder.context, Trust(), [one.id])
        assert again.verdict == "poisonous"
    [done] = stored_callbacks.replay(builder.context, Trust(), [one.id])
    assert (done.before, done.verdict) == ("poisonous", "paid")
    assert builder.payout_of("winner-0").status is PayoutStatus.COMPLETED
    with builder.db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM incidents")).scalar_one() == 1
    assert run.audit(builder.db, deep=True).ok


def test_a_body_that_was_dropped_is_not_judged_again(builder: DataBuilder) -> None:
    """What is left of it says nothing: judged as it stands it would be unreadable, and call a person."""
    [attempt] = sent(builder, 1)
    store_deliveries(builder.db, builder.clock, posted(builder, (attempt, result(attempt))))
    apply_waiting(builder.db, builder.clock, Trust())
    with builder.db.transaction() as session:
        session.execute(text("UPDATE callbacks SET body = :none, salt = NULL"), {"none": b""})
    [one] = stored_callbacks.list_received(builder.db)
    with pytest.raises(Refused, match=f"The body of the callback {one.id} was dropped"):
        stored_callbacks.replay(builder.context, Trust(), [one.id])
    assert stored_callbacks.list_received(builder.db) == [one]


def test_one_number_that_does_not_exist_leaves_all_as_they_are(builder: DataBuilder) -> None:
    [attempt] = sent(builder, 1)
    store_deliveries(builder.db, builder.clock, posted(builder, (attempt, result(attempt))))
    apply_waiting(builder.db, builder.clock, Trust())
    [one] = stored_callbacks.list_received(builder.db)
    with pytest.raises(NotFound, match="There is no callback 77"):
        stored_callbacks.replay(builder.context, Trust(), [one.id, 77])
    assert stored_callbacks.list_received(builder.db) == [one]
