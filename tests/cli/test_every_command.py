"""Every command, found in the program itself: what writes leaves an act under a name, what reads shows no whole phone.

A command that comes new fails here until it has a line in the tables below.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from kasoko_cli.cli.app import app
from kasoko_cli.domain.keys import public_key_of
from kasoko_cli.domain.withholding import DutyBook
from kasoko_cli.operations.approvals import approvers
from kasoko_cli.operations.approvals.second_person import USUAL
from kasoko_cli.operations.payouts import manual_decision, switches
from kasoko_cli.operations.reconciliation import statement_import
from kasoko_cli.operations.records import markets
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store import attempts
from kasoko_cli.store.engine.database import open_database
from kasoko_cli.store.log import raise_incident
from kasoko_cli.store.schema.tables import Exchange
from tests.conftest import FixedClock
from tests.domain.test_withholding import WINNINGS, WITHDRAWALS
from tests.operations.audit.test_audit import WAYS, lively
from tests.operations.data_builder import DataBuilder
from tests.operations.paper import Paper

WHO = "ann at the desk"
#: Words of a command to the words that call it; `{...}` are names of the deployment.
WRITES: Mapping[str, str] = {
    "resolve": "resolve closed Yes",
    "settle": "settle ready",
    "approve": "approve waits --plan-hash {waits_hash}",
    "approver add": "approver add wanjiku --key wanjiku.key.pub",
    "approver remove": "approver remove otieno",
    "payout hold": "payout hold {waiting}",
    "payout release": "payout release {held}",
    "payout to-wallet": "payout to-wallet {waiting}",
    "payout decide": "payout decide {unknown} --paid --receipt UKZ0000001 --evidence seen",
    "payout returned": "payout returned {paid} --receipt UKZ0000002",
    "payout again": "payout again {returned}",
    "incident close": "incident close {incident}",
    "pause": "pause",
    "resume": "resume",
    "market add": "market add new --question Which? --outcome A --outcome B --closes-at 2027-01-01T00:00:00Z",
    "market close": "market close open",
    "market void": "market void open",
    "user add": "user add newcomer Somebody 0712999111",
    "user set-phone": "user set-phone ann 0712999222",
    "user erase": "user erase lonely",
    "user export": "user export ann",
    "bet place": "bet place long ann Yes 5 --funding wallet",
    "bet cancel": "bet cancel {open_bet}",
    "wallet deposit": "wallet deposit ann 5 --reference NEW1",
    "wallet recover": "wallet recover twice-winner 1 --from bank --reference NEW2",
    "wallet write-off": "wallet write-off twice-winner 1 --reference NEW3",
    "import users": "import users users.csv",
    "import markets": "import markets markets.csv",
    "import bets": "import bets bets.csv",
    "callback replay": "callback replay {callback}",
    "suspense resolve": "suspense resolve UKX0000001 --as bank",
    "statement undo": "statement undo 1",
    "tax remit": "tax remit 1 --on winnings --reference PRN9",
    "db expire": "db expire --days 1",
}
#: What writes and has no line above: why, and what holds it instead.
NOT_HERE = {
    "payout send": "a run, which `runs` keeps with its actor; tests/operations/shared/test_run_registry.py",
    "payout retry": "sends at once, and needs a Daraja; tests/operations/payouts/test_retry.py",
    "retry-failed": "the same, and an act for each payout; tests/operations/payouts/test_retry.py",
    "reconcile": "the same; tests/operations/shared/test_run_registry.py",
    "listen": "M-Pesa acts, and each body is kept",
    "worker": "serves tasks; each is one of the operations above",
    "float": "asks M-Pesa, which is kept as a question",
    "sync": "needs a platform; tests/journeys/test_platform.py",
    "mirror": "needs a platform",
    "notify": "tells people; its alerts are kept",
    "credential encrypt": "stores nothing",
    "init": "makes the database",
    "db upgrade": "changes tables, not rows",
    "db copy": "goes to another database; tests/operations/admin/test_database_copy.py",
    "db restore": "puts another database in place; tests/operations/admin/test_backups.py",
}


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name in list(command.commands):
            yield from _commands(command.commands[name], (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _options(name: str) -> set[str]:
    return {option for parameter in COMMANDS[name].params for option in parameter.opts}


@dataclass(frozen=True)
class Prepared:
    """A database in which everything has happened, and the names that the tables speak of."""

    file: Path
    names: Mapping[str, str]


@pytest.fixture(scope="module")
def prepared(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("every")
    file = folder / "kasoko.db"
    file.write_bytes(sqlite_template.read_bytes())
    db, clock, actor = open_database(f"sqlite:///{file}"), FixedClock(), Actor("somebody else", "a test")
    builder = lively(DataBuilder(db, clock, actor))
    builder.user("lonely")
    builder.market("ready")
    builder.bets("ready", {"rae": ("Yes", 10), "rob": ("No", 10)})
    clock.forward(1)
    markets.close_market(OperationContext(db, clock, actor), market="ready")
    markets.resolve_market(OperationContext(db, clock, actor), market="ready", winners=["Yes"])
    builder.market("waits")
    builder.bets("waits", {"wes": ("Yes", 10), "wil": ("No", 10)})
    waits = builder.settle("waits", "Yes", approval_above_cents=0)
    builder.market("stopped")
    builder.bets("stopped", {"held-winner": ("Yes", 100), "held-loser": ("No", 100)})
    builder.settle("stopped", "Yes")
    manual_decision.hold(OperationContext(db, clock, actor), payout_id=(held := builder.payout_of("held-winner").id))
    builder.market("taxed")
    builder.bets("taxed", {"taxed-winner": ("Yes", 100), "taxed-loser": ("No", 100)})
    builder.settle("taxed", "Yes", duties=DutyBook((WINNINGS, WITHDRAWALS)))
    builder.market("long", hours=24 * 365 * 50)
    names = {"open_bet": builder.bet("long", "ann", "Yes", kes=5)}
    approvers.add(OperationContext(db, clock, actor), USUAL, name="otieno", public_key=public_key_of(bytes(32)))
    switches.pause(OperationContext(db, clock, actor))
    paper = Paper().covering([clock()])
    paper.line("UKX0000001", clock(), withdrawn=7_00, phone="254712345678")
    statement_import.take_statement(
        OperationContext(db, clock, actor),
        paper.read(),
        statement_import.StatementRules(shortcode="600000", customers_are_counted=False),
    )
    names |= {"held": held, "waits_hash": waits.plan_hash[:16]}
    with db.transaction() as session:
        raise_incident(session, key="test:open", kind="test", what="Something.", at=clock())
        for way in WAYS:
            payout = builder.payout_of(f"{way}-winner")
            names[way] = payout.id
            for tried in attempts.list_attempts(session, payout.id):
                body = f'{{"PartyB": "{tried.phone}"}}'
                session.add(
                    Exchange(
                        at=clock(),
                        kind="b2c",
                        subject=tried.id,
                        outcome="taken",
                        latency_ms=1,
                        request=body,
                        response=body,
                    )
                )
    db.close()
    with sqlite3.connect(file) as plain:
        names["incident"] = str(plain.execute("SELECT id FROM incidents WHERE key = 'test:open'").fetchone()[0])
        names["callback"] = str(plain.execute("SELECT max(id) FROM callbacks").fetchone()[0])
    return Prepared(file, names)


@pytest.fixture
def desk(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in a folder of its own, with files to import."""
    shutil.copy(prepared.file, tmp_path / "kasoko.db")
    (tmp_path / "users.csv").write_text("user_id,name,phone\nfiled,Filed Person,0712888111\n")
    (tmp_path / "wanjiku.key.pub").write_text(f"ed25519:{public_key_of(bytes([1]) * 32)}\n")
    (tmp_path / "markets.csv").write_text(
        "market_id,slug,question,outcomes,closes_at,fee_bps\nm9,filed,Which?,A|B,2027-01-01T00:00:00Z,500\n"
    )
    (tmp_path / "bets.csv").write_text(
        "bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at\nb9,open,ann,Yes,5,2026-11-23T09:00:01Z,\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("KASOKO_DATABASE_URL", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def _acts(desk: Path) -> list[tuple[str, str, str, str]]:
    with sqlite3.connect(desk / "kasoko.db") as plain:
        rows = plain.execute("SELECT actor, action, reason, at FROM events WHERE actor = ?", (WHO,)).fetchall()
    return [tuple(row) for row in rows]


def test_every_command_that_writes_is_in_one_of_the_two_tables() -> None:
    assert {name for name in COMMANDS if "--yes" in _options(name)} == WRITES.keys() | NOT_HERE.keys()
    assert all({"--actor", "--reason"} <= _options(name) for name in (*WRITES, *NOT_HERE))


@pytest.mark.parametrize("name", WRITES)
def test_what_a_command_writes_is_on_record_with_actor_reason_and_time(
    name: str, desk: Path, prepared: Prepared
) -> None:
    assert _acts(desk) == []
    words = WRITES[name].format(**prepared.names).split()
    given = ["--database", f"sqlite:///{desk}/kasoko.db", "--yes", "--actor", WHO, "--reason", "it was asked for"]
    done = CliRunner().invoke(app, [*words, *given])
    acts = _acts(desk)
    assert acts, (done.exit_code, done.output)
    assert all(actor == WHO and action and at for actor, action, _, at in acts)
    assert {reason for _, _, reason, _ in acts} == {"it was asked for"}


# --- What is read -----------------------------------------------------------------------------------------------------

#: Words of a command to the words that call it, each way of showing apart.
READS: Mapping[str, tuple[str, ...]] = {
    "payout list": ("payout list", "payout list --json"),
    "payout show": ("payout show {paid}", "payout show {twice} --json"),
    "status": ("status", "status --json", "status derby --payouts", "status derby --payouts --json", "status {paid}"),
    "explain": ("explain {paid}", "explain {paid} --lang sw", "explain {paid} --json"),
    "incident list": ("incident list", "incident list --json"),
    "market list": ("market list", "market list --json"),
    "market show": ("market show derby", "market show derby --json"),
    "user list": ("user list", "user list --json"),
    "user show": ("user show ann", "user show ann --json"),
    "bet list": ("bet list open", "bet list open --json"),
    "wallet show": ("wallet show ann", "wallet show ann --json"),
    "export users": ("export users",),
    "export markets": ("export markets",),
    "export bets": ("export bets",),
    "export payouts": ("export payouts",),
    "export entries": ("export entries",),
    "callback list": ("callback list", "callback list --json"),
    "callback show": ("callback show {callback}", "callback show {callback} --json"),
    "audit": ("audit --json",),
    "suspense list": ("suspense list", "suspense list --json"),
    "statement list": ("statement list", "statement list --json"),
    "events": ("events", "events --json"),
    "report settlement": (
        "report settlement derby",
        "report settlement derby --json",
        "report settlement derby --format csv",
        "report settlement derby --format html",
    ),
    "report daily": ("report daily", "report daily --json"),
    "report charges": ("report charges", "report charges --format html"),
    "report incidents": ("report incidents", "report incidents --format csv"),
    "report taxes": ("report taxes", "report taxes --format csv --table people", "report taxes --json"),
    "report proof": ("report proof derby", "report proof derby --user paid-winner"),
    "tax show": ("tax show", "tax show --json"),
    "approve": ("approve waits --plan", "approve waits --plan --json"),
    "settle": ("settle ready --plan", "settle ready --plan --json"),
    "approver list": ("approver list", "approver list --json"),
    "payout send": ("payout derby --plan", "payout derby --plan --json"),
    "resolve": ("resolve ready No --override --plan --reason x", "resolve ready No --override --plan --json"),
    "config show": ("config show", "config show --json"),
    "db check": ("db check", "db check --json"),
    "doctor": ("doctor --offline", "doctor --offline --json"),
}
#: What reads and shows nobody: it reads no database of ours, or shows only words of its own.
SHOW_NOBODY = {
    *(
        "approver key",
        "connect django",
        "simulator",
        "demo",
        "report proof-key",
        "verify",
        "metrics rules",
        "metrics write",
    ),
    *("units print", "help", "version", "db backup"),
}


def test_every_command_that_reads_is_in_one_of_the_two_tables() -> None:
    reading = {name for name in COMMANDS if "--yes" not in _options(name)}
    assert reading == (READS.keys() - WRITES.keys() - NOT_HERE.keys()) | SHOW_NOBODY


@pytest.mark.parametrize("name", READS)
def test_no_whole_phone_is_shown_by_whatever_reads(name: str, desk: Path, prepared: Prepared) -> None:
    with sqlite3.connect(desk / "kasoko.db") as plain:
        found = plain.execute("SELECT phone FROM users UNION SELECT phone FROM attempts").fetchall()
    known = {phone[-9:] for (phone,) in found} | {"712345678"}
    assert len(known) > 10
    for words in READS[name]:
        said = words.format(**prepared.names).split()
        done = CliRunner().invoke(app, [*said, "--database", f"sqlite:///{desk}/kasoko.db"])
        assert done.output.strip(), words
        assert done.exit_code in (0, 3, 7, 8), (words, done.output)
        digits = done.output.replace(" ", "").replace("-", "")
        assert not [phone for phone in known if phone in digits], words


@pytest.mark.usefixtures("desk")
def test_a_payout_without_entries_ends_with_its_story(
    prepared: Prepared, kasoko_on_a_terminal: Callable[..., tuple[int, str]]
) -> None:
    for words in (("payout", "show"), ("status",)):
        assert "In the books" in kasoko_on_a_terminal(*words, prepared.names["paid"])[1]
        code, shown = kasoko_on_a_terminal(*words, prepared.names["held"])
        assert (code, "In the books" in shown) == (0, False)
        assert shown.splitlines()[-1].rstrip().endswith("payout.hold by somebody else: a test")
