"""The listener's two hands: an answer only after the commit, and nothing lost when it stops."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.errors import Busy
from kasoko_cli.operations.audit import run
from kasoko_cli.operations.callbacks.apply_results import Trust, apply_waiting, judge_waiting, store_deliveries
from kasoko_cli.operations.callbacks.inbox import Inbox
from kasoko_cli.store.engine.database import Database
from tests.operations.data_builder import DataBuilder

pytestmark = pytest.mark.on_both


@pytest.fixture
def inbox(builder: DataBuilder) -> Iterator[Inbox]:
    """An inbox that is closed when the test ends."""
    box = Inbox(builder.db, builder.clock, Trust())
    try:
        yield box
    finally:
        box.close()


def _delivery(builder: DataBuilder, attempt_id: str, body: bytes) -> Delivery:
    return Delivery(CallbackKind.RESULT, attempt_id, True, "127.0.0.1", builder.clock(), body)


def _result(attempt_id: str, *, wire_kes: int, receipt: str = "SKN0000001", code: int = 0) -> bytes:
    """A result as M-Pesa posts it."""
    parameters = [
        {"Key": "TransactionAmount", "Value": wire_kes},
        {"Key": "TransactionReceipt", "Value": receipt},
        {"Key": "ReceiverPartyPublicName", "Value": "254712345678 - Jane Doe"},
    ]
    result = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "The service request is processed successfully." if code == 0 else "The initiator is not allowed",
        "OriginatorConversationID": attempt_id,
        "ConversationID": f"AG_{attempt_id}",
        "TransactionID": receipt,
    }
    if code == 0:
        result["ResultParameters"] = {"ResultParameter": parameters}  # type: ignore[assignment]
    return json.dumps({"Result": result}).encode()


async def _take_all(inbox: Inbox, deliveries: list[Delivery]) -> None:
    await asyncio.gather(*(inbox.take(delivery) for delivery in deliveries))


def _stored(db: Database) -> int:
    with db.reading() as session:
        return int(session.execute(text("SELECT count(*) FROM callbacks")).scalar_one())


def _sent(builder: DataBuilder, count: int = 1) -> list[str]:
    """So many winners of KES 142.50 to whom M-Pesa is paying KES 142."""
    builder.market("derby")
    builder.bets("derby", {f"winner-{n}": ("Yes", 100) for n in range(count)} | {"loser": ("No", 50 * count)})
    builder.settle("derby", "Yes")
    attempts = [builder.intend(f"winner-{n}") for n in range(count)]
    for attempt in attempts:
        builder.accepted(attempt)
    return attempts


def test_what_was_taken_is_on_the_disk_when_the_answer_goes_out(builder: DataBuilder, inbox: Inbox) -> None:
    [attempt] = _sent(builder)

    async def take() -> int:
        await inbox.take(_delivery(builder, attempt, b"not even JSON"))
        return _stored(builder.db)

    assert asyncio.run(take()) == 1
    assert inbox.received == 1


def test_a_result_is_applied_without_anybody_asking(builder: DataBuilder) -> None:
    [attempt] = _sent(builder)
    inbox = Inbox(builder.db, builder.clock, Trust())
    asyncio.run(_take_all(inbox, [_delivery(builder, attempt, _result(attempt, wire_kes=142))]))
    inbox.close()
    assert (inbox.received, inbox.applied) == (1, 1)
    assert builder.payout_of("winner-0").status is PayoutStatus.COMPLETED
    assert builder.balances("winner-0") == (14_250, 50)
    assert run.audit(builder.db, deep=True).ok


def test_the_same_result_twice_credits_once(builder: DataBuilder) -> None:
    """The operator's second scenario: COMPLETED once, the wallet credited once."""
    [attempt] = _sent(builder)
    inbox = Inbox(builder.db, builder.clock, Trust())
    again = _delivery(builder, attempt, _result(attempt, wire_kes=142))
    asyncio.run(_take_all(inbox, [again, again]))
    asyncio.run(_take_all(inbox, [again]))
    inbox.close()
    assert (inbox.received, inbox.applied) == (3, 3)
    assert builder.payout_of("winner-0").status is PayoutStatus.COMPLETED
    assert builder.balances("winner-0") == (14_250, 50)
    assert run.audit(builder.db, deep=True).ok


def test_many_results_at_once_are_all_stored_and_each_applied_once(builder: DataBuilder) -> None:
    attempts = _sent(builder, 40)
    inbox = Inbox(builder.db, builder.clock, Trust())
    deliveries = [
        _delivery(builder, attempt, _result(attempt, wire_kes=142, receipt=f"SKN{n:07d}"))
        for n, attempt in enumerate(attempts, start=1)
    ]
    asyncio.run(_take_all(inbox, deliveries))
    assert inbox.received == _stored(builder.db) == 40
    inbox.close()
    assert inbox.applied == 40
    with builder.db.reading() as session:
        left = session.execute(text("SELECT count(*) FROM callbacks WHERE applied_at IS NULL")).scalar_one()
        paid = session.execute(
            text("SELECT count(*) FROM attempts WHERE status = :s"), {"s": AttemptStatus.SUCCEEDED}
        ).scalar_one()
    assert (left, paid) == (0, 40)
    assert run.audit(builder.db, deep=True).ok


def test_closing_stores_and_applies_what_had_arrived(builder: DataBuilder) -> None:
    attempts = _sent(builder, 12)
    inbox = Inbox(builder.db, builder.clock, Trust())

    async def take_and_close() -> None:
        waiting = [
            asyncio.ensure_future(
                inbox.take(_delivery(builder, attempt, _result(attempt, wire_kes=142, receipt=f"SKN{n:07d}")))
            )
            for n, attempt in enumerate(attempts, start=1)
        ]
        await asyncio.sleep(0)  # each has been handed over, none need have been stored
        closing = threading.Thread(target=inbox.close)
        closing.start()
        await asyncio.gather(*waiting)
        await asyncio.to_thread(closing.join)

    asyncio.run(take_and_close())
    assert (inbox.received, inbox.applied) == (12, 12)
    assert {builder.payout_of(f"winner-{n}").status for n in range(12)} == {PayoutStatus.COMPLETED}


def test_what_cannot_be_stored_is_told_to_the_listener_and_the_inbox_goes_on(
    builder: DataBuilder, inbox: Inbox
) -> None:
    [attempt] = _sent(builder)
    good = _delivery(builder, attempt, _result(attempt, wire_kes=142))
    with builder.db.transaction() as session:
        session.execute(text("ALTER TABLE callbacks RENAME TO hidden"))
    with pytest.raises(Exception, match="callbacks"):
        asyncio.run(inbox.take(good))
    with builder.db.transaction() as session:
        session.execute(text("ALTER TABLE hidden RENAME TO callbacks"))
    asyncio.run(inbox.take(good))
    assert (inbox.received, _stored(builder.db)) == (1, 1)


def test_a_result_that_overtook_its_acknowledgement_waits_for_it(builder: DataBuilder) -> None:
    builder.market("derby")
    builder.bets("derby", {"winner-0": ("Yes", 100), "loser": ("No", 50)})
    builder.settle("derby", "Yes")
    attempt = builder.intend("winner-0")
    inbox = Inbox(builder.db, builder.clock, Trust())
    asyncio.run(_take_all(inbox, [_delivery(builder, attempt, _result(attempt, wire_kes=142))]))
    inbox.close()
    assert (inbox.received, inbox.applied) == (1, 0)
    assert builder.payout_of("winner-0").status is PayoutStatus.SENDING
    builder.accepted(attempt)
    [judged] = apply_waiting(builder.db, builder.clock, Trust())
    assert judged.verdict == "paid"
    assert builder.payout_of("winner-0").status is PayoutStatus.COMPLETED


def test_how_many_are_judged_together_is_asked_before_each_group(builder: DataBuilder) -> None:
    """So that a busy hour is seen between two groups."""
    deliveries = [
        _delivery(builder, attempt, _result(attempt, wire_kes=142, receipt=f"SKN000000{number}"))
        for number, attempt in enumerate(_sent(builder, 5), 1)
    ]
    store_deliveries(builder.db, builder.clock, deliveries)
    most = iter([1, 3, 100, 100])
    groups = list(judge_waiting(builder.db, builder.clock, Trust(), most=lambda: next(most)))
    assert [[judged.verdict for judged in group] for group in groups] == [["paid"], ["paid"] * 3, ["paid"]]


def test_what_comes_in_one_turn_of_the_loop_is_one_commit(inbox: Inbox, builder: DataBuilder) -> None:
    """Each commit makes a link: how many there are says how many groups were stored."""
    deliveries = [_delivery(builder, f"ks-{number}", b"{}") for number in range(32)]
    asyncio.run(_take_all(inbox, deliveries))
    with builder.db.reading() as session:
        links = session.execute(text("SELECT first, last FROM links WHERE chain = 'inbox'")).all()
    assert [(link.first, link.last) for link in links] == [(1, 32)]


def test_what_comes_after_the_end_is_refused_and_not_left_waiting(builder: DataBuilder) -> None:
    inbox = Inbox(builder.db, builder.clock, Trust())
    inbox.close()
    with pytest.raises(Busy, match="about to end"):
        asyncio.run(asyncio.wait_for(inbox.take(_delivery(builder, "ks-1", b"{}")), 30))
    with builder.db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM callbacks")).scalar_one() == 0


def test_every_delivery_is_answered_or_refused_however_the_end_meets_it(builder: DataBuilder) -> None:
    """Whoever got no error has its callback on the disk."""
    inbox = Inbox(builder.db, builder.clock, Trust())
    stored: list[str] = []

    async def keep_on(who: int) -> None:
        for number in range(1_000):
            try:
                await inbox.take(_delivery(builder, name := f"ks-{who}-{number}", b"{}"))
            except Busy:
                return
            stored.append(name)

    async def all_of_them() -> None:
        await asyncio.gather(*map(keep_on, range(8)))

    posting = threading.Thread(target=lambda: asyncio.run(all_of_them()))
    posting.start()
    while inbox.received < 50:
        time.sleep(0.001)
    inbox.close()
    posting.join(timeout=60)
    assert not posting.is_alive()
    with builder.db.reading() as session:
        assert set(stored) <= set(session.execute(text("SELECT subject FROM callbacks")).scalars())


def test_loops_of_several_threads_are_all_answered(inbox: Inbox, builder: DataBuilder) -> None:
    deliveries = [_delivery(builder, f"ks-{number}", b"{}") for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for done in [
            pool.submit(lambda mine: asyncio.run(_take_all(inbox, mine)), deliveries[start::4]) for start in range(4)
        ]:
            done.result()
    assert (inbox.received, inbox.queued) == (40, 0)
    with builder.db.reading() as session:
        assert session.execute(text("SELECT count(DISTINCT subject) FROM callbacks")).scalar_one() == 40
