"""The commands of the finance desk, as an operator meets them: statements, another outcome, tax."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kasoko_cli.cli.app import app
from kasoko_cli.operations.shared import transitions
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store import attempts
from kasoko_cli.store.engine.database import open_database
from tests.conftest import FixedClock
from tests.operations.data_builder import DataBuilder
from tests.operations.paper import Paper

PACKAGE = Path(__file__).parents[2] / "kasoko_cli"
Desk = Callable[..., Result]


@pytest.fixture
def builder(sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataBuilder:
    """Yes has won derby: ann's payout arrived, ben's is due, cyn lost. Rain is closed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("KASOKO_DATABASE_URL", raising=False)
    shutil.copy(sqlite_template, tmp_path / "kasoko.db")
    db = open_database(f"sqlite:///{tmp_path / 'kasoko.db'}")
    builder = DataBuilder(db, FixedClock(), Actor("somebody", "a test"))
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("Yes", 200), "cyn": ("No", 150)})
    builder.settle("derby", "Yes")
    builder.accepted(attempt := builder.intend("ann"))
    builder.paid(attempt)
    return builder


@pytest.fixture
def desk(builder: DataBuilder) -> Desk:
    """Run a command on that database as somebody."""

    def run(*words: str, actor: str = "ann at the desk") -> Result:
        write = ["--actor", actor] if words[:2] not in (("report", "taxes"), ("tax", "show")) else []
        write = [] if words[0] == "explain" or words[:2] == ("suspense", "list") else write
        return CliRunner().invoke(app, [*words, "--database", builder.db.url.render_as_string(), *write])

    return run


def paper_of(builder: DataBuilder) -> Paper:
    """The statement of that day: ann's payment, and money that nobody here knows."""
    with builder.db.reading() as session:
        [attempt] = attempts.list_attempts(session, builder.payout_of("ann").id)
        receipt, cents, phone = attempt.receipt or "", attempt.wire_cents, attempt.phone
    paper = Paper().covering([builder.clock()])
    paper.line(receipt, builder.clock(), withdrawn=cents, phone=phone)
    paper.line("UKX0000001", builder.clock(), withdrawn=7_00, phone="254722000999")
    return paper


# --- A statement ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_a_statement_is_compared_named_taken_in_once_and_resolved(
    builder: DataBuilder, desk: Desk, tmp_path: Path, ending: str
) -> None:
    file = tmp_path / f"statement.{ending}"
    file.write_bytes(getattr(paper_of(builder), ending)())
    planned = desk("reconcile", "--statement", str(file), "--plan")
    assert planned.exit_code == 8, planned.output
    assert "Nothing was written." in planned.output
    assert "There is none." in desk("suspense", "list").output
    taken = desk("reconcile", "--statement", str(file), "--json")
    assert taken.exit_code == 8
    told = json.loads(taken.stdout)
    assert (told["plan"], told["exit_code"]) == (False, 8)
    assert [one["receipt"] for one in told["statement"]["differences"]] == ["UKX0000001"]
    assert "254722000999" not in taken.output
    again = desk("reconcile", "--statement", str(file))
    assert "nothing was written" in again.output
    listed = desk("suspense", "list")
    assert "UKX0000001" in listed.output
    assert "2547****0999" in listed.output
    wrong = desk("suspense", "resolve", "UKX0000001", "--as", "gift", "--reason", "x")
    assert wrong.exit_code == 2
    assert "There is no 'gift'." in wrong.output
    unreasoned = desk("suspense", "resolve", "UKX0000001", "--as", "bank")
    assert unreasoned.exit_code == 2
    assert "needs a reason" in unreasoned.output
    done = desk("suspense", "resolve", "UKX0000001", "--as", "bank", "--reason", "moved to the bank", "--yes")
    assert (done.exit_code, done.stdout) == (0, "UKX0000001, KES -7.00, is resolved as bank.\n")
    assert desk("suspense", "resolve", "UKX0000001", "--as", "bank", "--reason", "again", "--yes").exit_code == 5
    assert desk("reconcile", "--statement", str(file)).exit_code == 0


def test_a_file_that_is_no_statement_is_refused_in_words(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "letter.csv").write_text("Dear Sir,\nplease find attached\n")
    done = desk("reconcile", "--statement", "letter.csv")
    assert done.exit_code == 5, done.output
    assert "letter.csv" in done.output
    assert "Traceback" not in done.output


# --- Another outcome --------------------------------------------------------------------------------------------------


def test_another_outcome_after_a_payment_takes_a_plan_and_two_people(builder: DataBuilder, desk: Desk) -> None:
    plan = desk("resolve", "derby", "No", "--override", "--plan", "--reason", "read wrongly")
    assert plan.exit_code == 0, plan.output
    assert "only the differences are booked" in plan.output
    assert "Nothing was written." in plan.output
    first = desk("resolve", "derby", "No", "--override", "--yes", "--reason", "read wrongly")
    assert first.exit_code == 10
    assert "keeps the outcome Yes until a second person confirms this plan." in first.output
    shown = desk("resolve", "derby", "No", "--override", "--plan", "--json")
    plan_hash = json.loads(shown.stdout)["plan"]["plan_hash"][:16]
    assert f"--confirm {plan_hash}" in first.output
    words = ("resolve", "derby", "No", "--override", "--yes", "--confirm", plan_hash, "--reason", "checked it")
    alone = desk(*words)
    assert alone.exit_code == 10, "the first person cannot be the second"
    wrong = desk(*words[:6], "0" * 16, *words[7:], actor="ben at the desk")
    assert wrong.exit_code == 5
    assert "Nothing was changed." in wrong.output
    done = desk(*words, actor="ben at the desk")
    assert done.exit_code == 0, done.output
    assert "derby has the outcome No, and not Yes." in done.stdout
    told = desk("explain", builder.payout_of("cyn").id)
    assert told.exit_code == 0, told.output
    assert "So you are owed KES 427.50." in told.stdout
    assert desk("explain", builder.payout_of("ann").id).exit_code == 0, "the old payout is explained as it was owed"


def test_another_outcome_without_a_reason_or_by_a_wrong_word_changes_nothing(desk: Desk) -> None:
    assert desk("resolve", "derby", "No", "--override", "--yes").exit_code == 2
    assert desk("resolve", "derby", "Yes", "--override", "--yes", "--reason", "x").exit_code == 5
    both = desk("resolve", "derby", "No", "--override", "--void", "--yes", "--reason", "x")
    assert (both.exit_code, "--void names no outcome." in both.output) == (2, True)
    assert desk("resolve", "derby", "No", "--void").exit_code == 2


# --- Tax --------------------------------------------------------------------------------------------------------------


def test_tax_goes_from_the_operators_file_to_the_authority(builder: DataBuilder, desk: Desk, tmp_path: Path) -> None:
    assert "No file of duties is named" in desk("tax", "show").output
    shutil.copy(PACKAGE / "duties.example.toml", tmp_path / "duties.toml")
    (tmp_path / "kasoko.toml").write_text('[payout]\nduties_file = "duties.toml"\n')
    text = (tmp_path / "duties.toml").read_text().replace("valid_until = 2026-12-31\n", "")
    (tmp_path / "duties.toml").write_text(text)
    builder.market("rain")
    builder.bets("rain", {"dan": ("Yes", 100), "eve": ("No", 50)})
    builder.clock.forward(days=2)
    assert desk("resolve", "rain", "Yes", "--yes").exit_code == 0
    plan = desk("settle", "rain", "--plan")
    assert plan.exit_code == 0, plan.output
    assert "KES 4.25 of KES 42.50" in plan.output
    assert desk("settle", "rain", "--yes").exit_code == 0
    status = desk("settle", "rain", "--json", "--yes")
    assert json.loads(status.stdout)["settlement"]["tax_cents"] == 425
    shown = desk("tax", "show")
    assert "example duty on winnings" in shown.output
    assert "4.25" in shown.output
    refused = desk("tax", "remit", "4.26", "--on", "winnings", "--reference", "PRN1", "--reason", "x")
    assert (refused.exit_code, "is due, and not KES 4.26" in refused.output) == (5, True)
    assert desk("tax", "remit", "1", "--on", "stakes", "--reference", "PRN1", "--reason", "x").exit_code == 2
    words = ("tax", "remit", "4.25", "--on", "winnings", "--reference", "PRN1", "--reason", "November")
    assert desk(*words).stdout == "KES 4.25 of tax on winnings was paid: PRN1. KES 0.00 is still due.\n"
    assert "was written down before" in desk(*words).stdout
    rows = desk("report", "taxes", "--format", "csv", "--table", "people").stdout
    assert rows.splitlines() == ["user,on,kept back", "dan,winnings,4.25"]
    assert desk("report", "taxes", "--output", "taxes.html").exit_code == 0
    assert desk("report", "taxes", "--output", "taxes.xlsx").exit_code == 0
    assert "PRN1" in (tmp_path / "taxes.html").read_text()
    table = desk("report", "taxes")
    assert (table.exit_code, "example duty on winnings" in table.output) == (0, True)


def test_a_file_of_duties_that_is_wrong_stops_settling_and_says_what_to_do(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "duties.toml").write_text("[[duty]]\nname = 'x'\n")
    (tmp_path / "kasoko.toml").write_text('[payout]\nduties_file = "duties.toml"\n')
    done = desk("settle", "derby", "--yes")
    assert done.exit_code == 3, done.output
    assert "does not say:" in done.output


# --- One word on many -------------------------------------------------------------------------------------------------


def test_all_that_an_outage_left_unknown_is_shown_and_ended_by_one_word(builder: DataBuilder, desk: Desk) -> None:
    attempt_id = builder.intend("ben")
    with builder.db.transaction() as session:
        attempt, _ = transitions.lock(session, attempt_id)
        transitions.doubtful(session, attempt, why="no answer", at=builder.clock())
    words = ("payout", "decide", "--all-unknown-between", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", "--not-paid")
    given = ("--evidence", "statement", "--reason", "outage")
    alone = desk(*words, *given)
    assert (alone.exit_code, "Nobody is here to answer: Write down that 1 payout, KES 285.00" in alone.output) == (
        2,
        True,
    )
    Path("kasoko.toml").write_text("[payout]\ndecide_needs_two = true\n")
    first = desk(*words, *given, "--yes")
    assert first.exit_code == 10
    assert "stay unknown: a second person has to say the same." in first.output
    done = desk(*words, *given, "--yes", "--json", actor="ben at the desk")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [(one["payout_id"], one["status"]) for one in told["decided"]] == [("derby.1.2", "FAILED")]
    again = desk(*words, *given, "--yes")
    assert (again.exit_code, "No payout that was sent then is unknown" in again.output) == (5, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--all-unknown-between", "now", "then", "--not-paid"), "--all-unknown-between: "),
        (
            ("--all-unknown-between", "2026-11-24T00:00:00Z", "2026-11-23T00:00:00Z", "--not-paid"),
            "takes the earlier time first",
        ),
        (
            ("--all-unknown-between", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", "--paid", "--receipt", "R"),
            "Name one PAYOUT, or --all-unknown-between T1 T2 with --not-paid.",
        ),
        (("--not-paid",), "Name one PAYOUT, or --all-unknown-between T1 T2 with --not-paid."),
    ],
)
def test_a_decision_is_of_one_payout_or_of_a_span(desk: Desk, words: tuple[str, ...], message: str) -> None:
    done = desk("payout", "decide", *words, "--yes", "--reason", "seen")
    assert (done.exit_code, message in done.output) == (2, True), done.output
