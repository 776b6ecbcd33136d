"""Every command that writes leaves an act on record, with who did it, why and when; the list is kept complete."""

from __future__ import annotations

import ast
from pathlib import Path

import kasoko_cli
from kasoko_cli.operations.payouts import manual_decision, switches
from kasoko_cli.operations.records import bets, privacy, users
from kasoko_cli.operations.reporting.event_log import list_events
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from tests.operations.data_builder import DataBuilder

#: Modules of operations that take an Actor, and hand it to others instead of writing it down themselves.
HANDS_ON = {
    "restore_recovery",
    "backups",
    "platform_sync",
    "actor",
    "demo",
    "sending",
    "import_bets",
    "preview",
    "run",
    "send_and_wait",
    "ask_and_wait",
    "run_registry",
    "rehearsal",
    "planned_move",
}


def test_every_operation_that_is_told_who_acts_writes_it_down() -> None:
    """A module with a function that takes an `Actor` or its context also notes an event (or is known to hand it on)."""
    silent = []
    package = Path(kasoko_cli.__file__).parent / "operations"
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        takes = any(
            isinstance(node, ast.arg)
            and isinstance(node.annotation, ast.Name)
            and node.annotation.id in ("Actor", "OperationContext")
            for node in ast.walk(tree)
        )
        notes = any(
            isinstance(node, ast.Name) and node.id in ("note_act", "note_signed", "note_event", "_note")
            for node in ast.walk(tree)
        )
        if takes and not notes and path.stem not in HANDS_ON:
            silent.append(str(path.relative_to(package)))
    assert silent == []


def test_acts_have_who_why_and_when(builder: DataBuilder) -> None:
    actor, db, clock = Actor("wanjiku", "because"), builder.db, builder.clock
    named = DataBuilder(db, clock, actor)
    named.user("ann", deposit_kes=500)
    users.set_phone(OperationContext(db, clock, actor), user_id="ann", phone="0799000001")
    named.market("rain")
    named.market("snow")
    named.bet("rain", "ann", "Yes", kes=100)
    bets.cancel_bet(OperationContext(db, clock, actor), bet_id=named.bet("rain", "ann", "Yes", kes=50))
    named.bet("rain", "ann", "No", kes=50, collected=True)
    named.settle("rain", "Yes")
    named.settle("snow")
    payout = named.payout_of("ann", "rain").id
    manual_decision.hold(OperationContext(db, clock, actor), payout_id=payout)
    manual_decision.release(OperationContext(db, clock, actor), payout_id=payout)
    manual_decision.to_wallet(OperationContext(db, clock, actor), payout_id=payout)
    switches.pause(OperationContext(db, clock, actor))
    switches.resume(OperationContext(db, clock, actor))
    privacy.data_of(OperationContext(db, clock, actor), user_id="ann")
    found = list_events(db, limit=1_000)
    assert {(one.actor, one.reason) for one in found} == {("wanjiku", "because")}
    assert {one.action for one in found} == {
        "user.add",
        "user.set-phone",
        "user.export",
        "wallet.deposit",
        "market.add",
        "market.close",
        "market.resolve",
        "market.void",
        "market.settle",
        "bet.place",
        "bet.cancel",
        "payout.hold",
        "payout.release",
        "payout.to-wallet",
        "pause",
        "resume",
    }
    assert all(one.at <= clock() for one in found)
