"""Exit 5 means that nothing was changed: a command that has something to change looks before it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kasoko_cli import cli
from kasoko_cli.operations.payouts import retry, switches
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from tests.cli.conftest import Desk
from tests.operations.account.test_balances import lock_in
from tests.operations.data_builder import DataBuilder
from tests.operations.payout_harness import ANN, BEN, PayoutHarness
from tests.operations.payouts.test_retry import end
from tests.operations.settlement.test_approval import resolved

#: M-Pesa's code for an empty utility account, which may be better by the next time.
EMPTY = 1


def everything(desk: Desk) -> dict[str, list[str]]:
    """Every row of every table, but for the access token and who was at work."""
    with desk.harness.db.engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names()) - {"access_tokens", "runs"}
        return {
            name: sorted(repr(tuple(row)) for row in connection.execute(sa.text(f'SELECT * FROM "{name}"')))
            for name in sorted(tables)
        }


def failed(harness: PayoutHarness) -> None:
    """The payouts of ann and ben failed, since the float was empty."""
    harness.owe({"ann": ANN, "ben": BEN}, cents=20_000)
    harness.send()
    harness.posts.clear()
    for user in ("ann", "ben"):
        assert end(harness, user, EMPTY) == "failed"
    switches.resume(harness.context)  # such a result stops all sending


def paused(harness: PayoutHarness) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, Actor("amina", "a holiday")))


def failed_and_paused(harness: PayoutHarness) -> None:
    failed(harness)
    paused(harness)


def failed_and_empty(harness: PayoutHarness) -> None:
    failed(harness)
    lock_in(harness, "100")


def stopped_and_paused(harness: PayoutHarness) -> None:
    """The sender of ann's payout died in the middle, and its lease is over; ben's is due."""
    harness.owe({"ann": ANN, "ben": BEN})
    DataBuilder(harness.db, harness.clock, harness.actor).intend("ann")
    harness.clock.forward(301)
    paused(harness)


REFUSED: dict[str, tuple[Callable[[PayoutHarness], None], str]] = {
    "failures, while sending is paused": (failed_and_paused, "retry-failed"),
    "one failure, while sending is paused": (failed_and_paused, "payout retry derby.1.1"),
    "failures, with an empty float": (failed_and_empty, "retry-failed"),
    "one failure, with an empty float": (failed_and_empty, "payout retry derby.1.1"),
    "what is due, while a sender has died and sending is paused": (stopped_and_paused, "payout"),
}


@pytest.mark.parametrize(("before", "words"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_refused_has_changed_nothing(desk: Desk, before: Callable[[PayoutHarness], None], words: str) -> None:
    before(desk.harness)
    rows, payments = everything(desk), desk.harness.ledger()
    found = desk.run(*words.split(), "--yes", code=5)
    assert "Nothing was sent." in found.stderr
    assert everything(desk) == rows
    assert desk.harness.ledger() == payments


def test_no_command_ends_with_5_but_by_an_error() -> None:
    files = Path(cli.__file__).parent.rglob("*.py")
    assert [file.name for file in files if "Exit(5)" in file.read_text()] == []


# --- Exit 10: what was begun stands, and the rest was refused ---------------------------------------------------------


def test_a_settlement_is_told_of_where_its_payouts_are_refused(desk: Desk) -> None:
    resolved(desk.harness)
    paused(desk.harness)
    found = desk.run("settle", "derby", "--pay", "--yes", code=10)
    assert found.stderr == (
        "Warning: The float is not known: no balance of M-Pesa was ever read.\n"
        "Error: derby is settled. Sending is paused by amina since 2026-11-23 12:00 EAT: a holiday. Nothing was sent.\n"
        "Hint: Let it go on when that is over: kasoko resume\n"
    )
    assert desk.harness.statuses() == {"ann": "PENDING", "ben": "WALLET"}
    assert desk.run("settle", "derby", "--pay", "--yes", code=5).stderr.endswith(
        "Error: Sending is paused by amina since 2026-11-23 12:00 EAT: a holiday. Nothing was sent.\n"
        "Hint: Let it go on when that is over: kasoko resume\n"
    )


def test_failures_that_are_due_again_when_somebody_pauses_are_told_of(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(desk.harness)
    sound = retry.retry

    def pause_after(*given: Any, **more: Any) -> retry.Retried:
        done = sound(*given, **more)
        paused(desk.harness)
        return done

    monkeypatch.setattr(retry, "retry", pause_after)
    found = desk.run("retry-failed", "--yes", code=10)
    assert found.stderr.endswith(
        "Error: 2 payouts are due again, for the next run to send. Sending is paused by amina since"
        " 2026-11-23 12:00 EAT: a holiday. Nothing was sent.\n"
        "Hint: Let it go on when that is over: kasoko resume\n"
    )
    assert set(desk.harness.statuses().values()) == {"PENDING"}
