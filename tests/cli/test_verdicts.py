"""What is told at the end: one line of verdict, what is waited for and until when, and whose money is whose."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from kasoko_cli.cli.output.progress import Tally
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.admin import database_check
from tests.cli.conftest import Desk
from tests.operations.payout_harness import ANN

NONE_HEARD = "No listener has been heard from yet: if none runs, nobody takes them."


def test_a_wallet_leads_with_what_is_available(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN}, cents=10_050)
    desk.harness.send()
    desk.harness.deliver()
    told = desk.run("wallet", "show", "ann").stderr
    assert told == "Available KES 0.50. Credited in all KES 100.50, of which KES 100.00 went to the phone.\n"
    shown = desk.run("user", "show", "ann").stdout.splitlines()
    assert shown[4:7] == ["available\tKES 0.50", "credited in all\tKES 100.50", "to the phone\tKES 100.00"]


def test_what_a_user_owes_back_stands_beside_what_is_available(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN}, cents=10_050)
    with desk.harness.db.transaction() as session:
        book.post(session, journal.overpaid("UKN7A1B2C3", "ann", 10_000), at=desk.harness.clock())
    assert "\nOwes back: KES 100.00.\n" in desk.run("wallet", "show", "ann").stderr
    assert "owes back\tKES 100.00\n" in desk.run("user", "show", "ann").stdout
    assert "owes back" not in desk.run("user", "show", "loser").stdout


@pytest.mark.parametrize(
    ("command", "what"), [("tax remit 0 --on winnings", "tax"), ("wallet deposit ann 0", "deposit")]
)
def test_an_amount_of_nothing_is_called_what_it_is(desk: Desk, command: str, what: str) -> None:
    told = desk.run(*command.split(), "--reference", "R1", "--reason", "x", code=5).stderr
    assert f"The {what} '0' is nothing: a payment needs at least one cent." in told
    assert "stake" not in told


def test_a_run_that_takes_no_results_says_where_no_listener_was_heard_from(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN})
    assert NONE_HEARD in desk.run("payout", "--yes").stderr
    desk.harness.deliver()
    desk.harness.owe({"ben": "254712000002"}, market="rain")
    told = desk.run("payout", "--yes").stderr
    assert "M-Pesa posts their results to kasoko listen. If one does not come: kasoko reconcile" in told


def test_a_wait_counts_down_to_when_it_gives_up() -> None:
    now = 100.0
    tally = Tally("Waiting for results", 3, seconds=120, now=lambda: now)
    tally(1)
    now = 140.0
    assert tally.line() == "Waiting for results: 1 of 3, gives up in 80 s."


def test_the_audit_ends_with_a_verdict(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN})
    last = desk.run("audit").stderr.splitlines()[-1]
    assert last.startswith("All holds: ")
    with desk.harness.db.transaction() as session:
        session.execute(sa.text("UPDATE payouts SET wire_cents = wire_cents - 100"))
    last = desk.run("audit", code=8).stderr.splitlines()[-1]
    assert last.startswith("Hint: The audit found something in ")
    assert last.endswith("Stop sending first: kasoko pause --reason 'the audit found something'")
    with desk.harness.db.transaction() as session:
        session.execute(sa.text("UPDATE payouts SET wire_cents = wire_cents + 100"))


def test_a_check_of_the_database_ends_with_a_verdict(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    assert desk.run("db", "check").stdout == "The database is whole.\n"
    monkeypatch.setattr(database_check, "check", lambda _: ["page 7 is damaged"])
    assert desk.run("db", "check", code=8).stderr == (
        "Hint: The database is not whole: 1 problem. Keep it as it is, and put a copy in its place: kasoko db restore"
        " FILE --replace\n"
    )
