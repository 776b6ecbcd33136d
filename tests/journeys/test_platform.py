"""A platform on Django and PostgreSQL: its own tables, through views, to bets here, and what it changes later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import make_url
from typer.testing import CliRunner

from kasoko_cli.cli.app import app
from kasoko_cli.daraja.simulator.people import PEOPLE
from kasoko_cli.domain.payout import WireLimits
from kasoko_cli.domain.withholding import DutyBook
from kasoko_cli.errors import ConfigurationError, DatabaseUnavailable, Refused
from kasoko_cli.ledger import book
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.exchange import platform_mirror, platform_sync
from kasoko_cli.operations.exchange.platform_views import COLUMNS, TABLES, Shape, identifier, literal, renamed, sql_for
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.records import bets, markets
from kasoko_cli.operations.safeguards.restore_doubt import hold_unsent
from kasoko_cli.operations.settlement import settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.platform import source
from kasoko_cli.store.platform.source import open_platform
from tests.conftest import CountedIds, FixedClock
from tests.domain.test_withholding import WINNINGS, WITHDRAWALS
from tests.journeys.deployment_harness import DeploymentHarness
from tests.journeys.pages import Reader, read_page
from tests.operations.data_builder import refusal
from tests.operations.payout_harness import PayoutHarness
from tests.proof.databases import named, on_server
from tests.proof.processes import KILLED

ROOT = Path(__file__).parents[2]

FILL = """
from decimal import Decimal
from datetime import datetime, timezone
from tests.platform.users.models import CustomUser
from tests.platform.markets.models import Market, Bet
at = lambda hour, minute=0, us=0: datetime(2026, 11, 23, hour, minute, 0, us, tzinfo=timezone.utc)
people = [CustomUser.objects.create(username=f"u{n}", name=name, phone=phone) for n, (name, phone) in
          enumerate([("Ann Auma", "0712000111"), ("Ben Müller", "+254 712 000 222"), ("Cyn", "254712000333")])]
CustomUser.objects.create(username="staff", name="No Phone", phone="", is_staff=True)
rain = Market.objects.create(slug="rain", question="Will it rain?", closes_at=at(12))
Market.objects.create(slug="old", question="Was it?", closes_at=at(7), status="SETTLED")
old = Market.objects.get(slug="old")
for n, (who, outcome, stake) in enumerate([(0, "Yes", "100"), (1, "No", "150.5"), (2, "Yes", "33.33")]):
    Bet.objects.create(market=rain, user=people[who], outcome=outcome, stake=Decimal(stake), placed_at=at(8, n, 123456))
Bet.objects.create(market=old, user=people[0], outcome="Yes", stake=9, placed_at=at(6))
"""


@dataclass(frozen=True)
class Django:
    """A Django project with a database of its own."""

    url: str
    role_url: str
    role: str

    def manage(self, *words: str) -> str:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        more = {"PLATFORM_DATABASE_URL": self.url, "DJANGO_SETTINGS_MODULE": "tests.platform.settings"}
        done = subprocess.run(
            [sys.executable, "-m", "django", *words],
            cwd=ROOT,
            env=kept | more,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def orm(self, code: str) -> Any:
        """Run it in the project; the answer is the JSON that it prints."""
        said = self.manage("shell", "--verbosity", "0", "--no-imports", "--command", code)
        return json.loads(said) if said.strip() else None

    def sql(self, statement: str) -> None:
        """By hand in the platform's database, as its owner."""
        on_server(self.url, statement)

    def own(self) -> list[Any]:
        """Every row of every table that is the platform's own."""
        engine = sa.create_engine(make_url(self.url).set(drivername="postgresql+psycopg"))
        with engine.connect() as connection:
            tables = sa.inspect(connection).get_table_names()
            found = [connection.execute(sa.text(f'SELECT t::text FROM "{name}" t ORDER BY 1')).all() for name in tables]
        engine.dispose()
        return [*zip(tables, found, strict=True)]

    def states(self) -> dict[str, str]:
        """What it was told: the state of each thing."""
        engine = sa.create_engine(make_url(self.url).set(drivername="postgresql+psycopg"))
        with engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT id, status FROM kasoko.results ORDER BY id")).all()
        engine.dispose()
        return {row.id: row.status for row in rows}


@pytest.fixture(scope="module")
def filled(postgres_server: str) -> Iterator[str]:
    """The name of a database that Django migrated and filled, and that the printed SQL was run in."""
    name, role = f"platform_{uuid4().hex[:8]}", f"reader_{uuid4().hex[:8]}"
    on_server(postgres_server, f"CREATE DATABASE {name}")
    on_server(postgres_server, f"CREATE ROLE {role} LOGIN PASSWORD 'reading'")
    url = named(postgres_server, name)
    project = Django(url, url, role)
    project.manage("migrate", "--verbosity", "0")
    project.orm(FILL)
    printed = CliRunner().invoke(app, ["connect", "django", "--print-sql", "--mirror", "--role", role])
    assert printed.exit_code == 0, printed.output
    _run_sql(url, printed.stdout)
    try:
        yield name
    finally:
        on_server(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")
        on_server(postgres_server, f"DROP ROLE {role}")


def _run_sql(url: str, script: str) -> None:
    """As psql runs a file."""
    engine = sa.create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql(script)
    engine.dispose()


@pytest.fixture
def django(filled: str, postgres_server: str) -> Iterator[Django]:
    """That platform, in a copy of its own."""
    name = f"platform_{uuid4().hex[:12]}"
    on_server(postgres_server, f"CREATE DATABASE {name} TEMPLATE {filled}")
    url = named(postgres_server, name)
    engine = sa.create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        role = connection.execute(
            sa.text(
                "SELECT grantee FROM information_schema.table_privileges WHERE table_name = 'source_bets'"
                " AND privilege_type = 'SELECT' AND grantee LIKE 'reader%'"
            )
        ).scalar_one()
    engine.dispose()
    mine = make_url(url).set(username=role, password="reading").render_as_string(hide_password=False)
    try:
        yield Django(url, mine, role)
    finally:
        on_server(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def theirs(django: Django) -> Iterator[Database]:
    """What the role of the printed SQL sees of it."""
    opened = open_platform(django.role_url)
    yield opened
    opened.close()


@pytest.fixture
def sync(db: Database, clock: FixedClock, actor: Actor, theirs: Database) -> Callable[..., platform_sync.Synced]:
    def run(**how: bool) -> platform_sync.Synced:
        return platform_sync.sync(OperationContext(db, clock, actor), theirs, **how)

    return run


def counts(synced: platform_sync.Synced) -> dict[str, tuple[int, int]]:
    return {part.kind: (part.new, part.known) for part in synced.parts}


def test_what_djangos_orm_wrote_comes_in_once_to_the_cent(
    db: Database, clock: FixedClock, sync: Callable[..., platform_sync.Synced]
) -> None:
    """Neither staff without a bet nor a market that the platform ended itself comes in."""
    assert counts(sync(plan=True)) == {"users": (3, 0), "markets": (1, 0), "bets": (3, 0)}
    first, second = sync(), sync()
    assert counts(first) == {"users": (3, 0), "markets": (1, 0), "bets": (3, 0)}, "the plan kept nothing"
    assert counts(second) == {"users": (0, 3), "markets": (0, 1), "bets": (0, 3)}
    assert first.stake_cents == 100_00 + 150_50 + 33_33
    assert [(line.outcome, line.stake_cents, line.placed_at.microsecond) for line in bets.list_bets(db, "rain")] == [
        ("Yes", 100_00, 123456),
        ("No", 150_50, 123456),
        ("Yes", 33_33, 123456),
    ]
    assert audit(db, clock, deep=True, chain=True).ok


def test_a_bet_taken_back_in_time_is_taken_back_and_every_other_change_is_told_and_left(
    db: Database, clock: FixedClock, django: Django, sync: Callable[..., platform_sync.Synced]
) -> None:
    sync()
    django.sql("UPDATE markets_bet SET cancelled_at = '2026-11-23 08:30:00+00' WHERE stake = 33.33")
    django.sql("UPDATE markets_bet SET stake = 1000 WHERE stake = 100")
    django.sql("UPDATE users_customuser SET phone = '0799999999' WHERE name = 'Ben Müller'")
    found = sync()
    assert [(one.kind, one.column) for one in found.differences] == [("users", "phone"), ("bets", "stake_kes")]
    assert "0799999999" not in str(found)
    assert [part.taken_back for part in found.parts] == [0, 0, 1]
    here = {line.outcome: line for line in bets.list_bets(db, "rain") if line.cancelled_at is None}
    assert {name: line.stake_cents for name, line in here.items()} == {"Yes": 100_00, "No": 150_50}
    assert audit(db, clock, deep=True).ok


def test_one_new_record_that_cannot_be_used_keeps_everything_out(
    db: Database, django: Django, sync: Callable[..., platform_sync.Synced]
) -> None:
    """A pool that lacks a bet would be divided wrongly."""
    django.sql("UPDATE markets_bet SET stake = 33.333 WHERE stake = 33.33")
    with pytest.raises(platform_sync.PlatformRefused) as refused:
        sync()
    assert [(one.kind, one.column) for one in refused.value.problems] == [("bets", "stake_kes")]
    assert markets.list_markets(db) == []


def test_a_slug_that_cannot_be_one_here_names_the_way_round(
    django: Django, sync: Callable[..., platform_sync.Synced]
) -> None:
    django.sql("UPDATE markets_market SET slug = slug || '_2027'")
    with pytest.raises(platform_sync.PlatformRefused) as refused:
        sync()
    assert "'rain_2027' cannot be a slug" in refused.value.message
    assert refused.value.hint.endswith("kasoko connect django --print-sql --column market.slug=-")


def test_what_the_platform_does_to_a_settled_market_is_told_by_the_check(
    db: Database,
    clock: FixedClock,
    actor: Actor,
    django: Django,
    theirs: Database,
    sync: Callable[..., platform_sync.Synced],
) -> None:
    sync()
    clock.forward(hours=4)
    django.sql(
        "INSERT INTO markets_bet (market_id, user_id, outcome, stake, placed_at)"
        " SELECT market_id, user_id, 'Yes', 5, '2026-11-23 12:30:00+00' FROM markets_bet WHERE stake = 100"
    )
    markets.close_market(OperationContext(db, clock, actor), market="rain")
    late = sync()
    assert [one.column for one in late.differences] == ["market_id"], "it came after the close, and is told"
    markets.resolve_market(OperationContext(db, clock, actor), market="rain", winners=["Yes"])
    settle.settle_market(OperationContext(db, clock, actor), WireLimits(), market="rain")
    django.sql("DELETE FROM markets_bet WHERE stake = 5")
    assert platform_sync.compare(db, theirs) == platform_sync.Compared(1, 3, [])

    django.sql("UPDATE markets_bet SET cancelled_at = '2026-11-23 13:00:00+00' WHERE stake = 33.33")
    django.sql("UPDATE markets_bet SET outcome = 'Yes' WHERE stake = 150.5")
    django.sql("DELETE FROM markets_bet WHERE stake = 100")
    told = {(one.column or one.what) for one in platform_sync.compare(db, theirs).differences}
    assert told == {"cancelled_at", "outcome", "The platform has no such bet on 1 any more."}
    django.sql("DELETE FROM markets_bet")
    django.sql("DELETE FROM markets_market")
    assert len(platform_sync.compare(db, theirs).differences) == 4, "the market and each of its bets"
    assert audit(db, clock, deep=True).ok


STOPPED = [
    pytest.param(
        "DELETE FROM markets_bet WHERE stake = 150.5",
        "bet 2: The platform has no such bet on 1 any more.",
        id="a bet is gone",
    ),
    pytest.param(
        "UPDATE markets_market SET status = 'RESOLVED' WHERE slug = 'rain'",
        "market 1: The platform ended it by itself, and may pay for it too.",
        id="it was ended there",
    ),
    pytest.param(
        "ALTER TABLE markets_market DISABLE TRIGGER ALL; DELETE FROM markets_market WHERE slug = 'rain'",
        "market 1: The platform does not have it any more.",
        id="it is gone",
    ),
]


@pytest.mark.parametrize(("change", "what"), STOPPED)
def test_what_is_gone_or_ended_there_is_told_and_stops_the_market_until_a_person_answers(
    db: Database,
    clock: FixedClock,
    actor: Actor,
    django: Django,
    sync: Callable[..., platform_sync.Synced],
    change: str,
    what: str,
) -> None:
    def settled_now() -> bool:
        return settle.settle_market(OperationContext(db, clock, actor), WireLimits(), market="rain").is_new

    sync()
    django.sql(change)
    assert [str(one) for one in sync(plan=True).differences] == [what]
    assert manual_decision.list_incidents(db, manual_decision.Which(kind="platform")) == [], "a plan keeps nothing"
    assert [str(one) for one in sync().differences] == [what]
    assert [str(one) for one in sync().differences] == [what], "it is told until it is answered"
    clock.forward(hours=4)
    markets.close_market(OperationContext(db, clock, actor), market="rain")
    markets.resolve_market(OperationContext(db, clock, actor), market="rain", winners=["Yes"])
    [number] = manual_decision.list_incidents(db, manual_decision.Which(kind="platform"))
    message, hint = refusal(settled_now, Refused)
    assert message == f"rain was not settled: {what} Nothing was changed."
    assert f"kasoko incident close {number} --reason" in hint
    manual_decision.close_incidents(OperationContext(db, clock, actor), numbers=[number])
    assert sync().differences == [], "a person has answered it"
    django.sql("DELETE FROM markets_bet WHERE stake = 33.33")
    assert "bet 3: The platform has no such bet on 1 any more." in map(str, sync().differences)
    refusal(settled_now, Refused)
    manual_decision.close_incidents(OperationContext(db, clock, actor), numbers=[number + 1])
    assert settled_now()
    assert audit(db, clock, deep=True, chain=True).ok


def test_a_platform_that_was_told_how_a_market_ended_may_end_it_too(
    db: Database,
    clock: FixedClock,
    actor: Actor,
    django: Django,
    theirs: Database,
    sync: Callable[..., platform_sync.Synced],
) -> None:
    sync()
    clock.forward(hours=4)
    markets.close_market(OperationContext(db, clock, actor), market="rain")
    markets.resolve_market(OperationContext(db, clock, actor), market="rain", winners=["Yes"])
    platform_mirror.mirror(OperationContext(db, clock, actor), theirs)
    django.sql("UPDATE markets_market SET status = 'RESOLVED' WHERE slug = 'rain'")
    assert sync().differences == []


@pytest.mark.parametrize(("column", "view"), [("bet.placed_at", "source_bets"), ("market.closes_at", "source_markets")])
def test_a_time_without_a_zone_is_refused(
    django: Django, sync: Callable[..., platform_sync.Synced], column: str, view: str
) -> None:
    """Where a table has none, the view's cast would guess it: that of whoever looks."""
    table, name = {"bet": "markets_bet", "market": "markets_market"}[column.partition(".")[0]], column.partition(".")[2]
    django.sql(f"ALTER TABLE {table} ADD COLUMN naive timestamp DEFAULT '2026-11-23 12:00'")
    shape = Shape(columns=renamed(COLUMNS, [f"{column}=naive"], what="column"))
    sync()
    _run_sql(django.url, sql_for(shape, django.role))
    message, hint = refusal(sync, ConfigurationError)
    assert message.endswith(f"{view}.{name} comes from a time without a zone; nothing was taken in.")
    assert "USE_TZ = True" in hint


def test_the_role_can_read_the_views_and_nothing_of_the_platform_itself(theirs: Database) -> None:
    for table in ("markets_bet", "users_customuser", "auth_permission"):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), theirs.reading() as session:
            session.execute(sa.text(f"SELECT * FROM {table}"))
    for statement in (
        "DELETE FROM kasoko.source_bets",
        "DELETE FROM kasoko.source_markets",
        "DELETE FROM kasoko.results",
        "TRUNCATE kasoko.results",
        "CREATE TABLE kasoko.mine (id int)",
        "UPDATE users_customuser SET phone = '0799999999'",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), theirs.transaction() as session:
            session.execute(sa.text(statement))


def test_no_name_can_become_a_statement() -> None:
    assert identifier('a"; DROP TABLE bets; --') == '"a""; DROP TABLE bets; --"'
    assert literal("it's \\ so") == "E'it''s \\\\ so'"
    shape = Shape(
        tables=renamed(TABLES, ["bet=core.my bet"], what="table"),
        columns=renamed(COLUMNS, ["market.fee=-", 'bet.stake=x"y'], what="column"),
        fee_bps=725,
    )
    sql = sql_for(shape, 'r"x')
    assert "results" not in sql, "only with --mirror is there anything to write"
    assert 'GRANT SELECT, INSERT, UPDATE ON kasoko.results TO "r""x";' in sql_for(shape, 'r"x', mirror=True)
    assert 'FROM "core"."my bet"' in sql
    assert '"x""y"::numeric * 100' in sql
    assert "(725::numeric) AS fee_bps" in sql


def test_the_lines_of_the_page_run_as_they_stand_there(bare: DeploymentHarness, django: Django, tmp_path: Path) -> None:
    bare.furnish("[platform]\nmirror = true")
    reader = Reader(bare, tmp_path, environ={"KASOKO_PLATFORM_URL": django.role_url})
    read_page("docs/django.md", reader)
    assert len(bare.ask("user", "list")["users"]) == 3


# --- Results, written back ------------------------------------------------------------------------

TOLD = """
import json
from tests.platform.markets.models import Result
print(json.dumps([[one.id, one.user_id, one.status, one.outcome, one.amount_cents, one.delivered_cents,
                   one.wallet_cents, bool(one.receipt), one.failure_code] for one in Result.objects.order_by("id")]))
"""
ALL = f"SELECT {', '.join(source.PlatformResult._fields)} FROM kasoko.results ORDER BY id"
#: M-Pesa answers this number with a definite failure.
REFUSED = next(phone for phone, one in PEOPLE.items() if one.code == "2040")


@pytest.fixture
def harness(db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor) -> Iterator[PayoutHarness]:
    made = PayoutHarness(db, clock, new_id, actor)
    yield made
    made.assert_books()


@pytest.fixture
def settled(
    db: Database, clock: FixedClock, actor: Actor, django: Django, sync: Callable[..., platform_sync.Synced]
) -> None:
    """The platform's market, settled here: Ann and Cyn won. Cyn has a number that M-Pesa refuses."""
    django.sql(f"UPDATE users_customuser SET phone = '{REFUSED}' WHERE name = 'Cyn'")
    sync()
    clock.forward(hours=4)
    markets.resolve_market(OperationContext(db, clock, actor), market="rain", winners=["Yes"])
    settle.settle_market(OperationContext(db, clock, actor), WireLimits(), market="rain")


@pytest.mark.usefixtures("settled")
def test_results_reach_djangos_orm_and_nothing_of_the_platforms_own_is_touched(
    db: Database, clock: FixedClock, actor: Actor, django: Django, theirs: Database, harness: PayoutHarness
) -> None:
    before = django.own()
    assert platform_mirror.look(db) == platform_mirror.Mirrored(False, False, 0, 0, 0, 0), "off until it is asked for"
    assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs) == platform_mirror.Mirrored(
        True, True, 1, 2, 0, 0
    )
    ann, cyn = 202_23, 67_40
    assert django.states() == {"market:1": "RESOLVED", "payout:1.1.1": "PENDING", "payout:1.1.2": "PENDING"}
    harness.send()
    assert platform_mirror.look(db).waiting_payouts == 0, "that it is on its way is nobody else's business"
    harness.deliver()
    assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs) == platform_mirror.Mirrored(
        True, False, 0, 2, 0, 0
    )
    assert django.orm(TOLD) == [
        ["market:1", None, "RESOLVED", "Yes", ann + cyn, None, None, False, None],
        ["payout:1.1.1", "1", "COMPLETED", None, ann, 202_00, 23, True, None],
        ["payout:1.1.2", "3", "FAILED", None, cyn, 0, 0, False, "2040"],
    ]
    manual_decision.to_wallet(OperationContext(db, clock, Actor("tester", "they asked for it")), payout_id="1.1.2")
    assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs).payouts == 1
    assert django.states()["payout:1.1.2"] == "WALLET"
    assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs, again=True).payouts == 2, (
        "as after the platform was restored"
    )
    assert django.own() == before
    assert audit(db, clock, deep=True, chain=True).ok


def test_what_a_duty_kept_back_is_told_as_the_books_have_it(
    db: Database,
    clock: FixedClock,
    actor: Actor,
    theirs: Database,
    harness: PayoutHarness,
    sync: Callable[..., platform_sync.Synced],
) -> None:
    sync()
    clock.forward(hours=4)
    markets.resolve_market(OperationContext(db, clock, actor), market="rain", winners=["Yes"])
    settle.settle_market(
        OperationContext(db, clock, actor), WireLimits(), market="rain", duties=DutyBook((WINNINGS, WITHDRAWALS))
    )
    harness.send()
    harness.deliver()
    platform_mirror.mirror(OperationContext(db, clock, actor), theirs)
    with theirs.reading() as session, db.reading() as books:
        market, *owed = [source.PlatformResult(*row) for row in session.execute(sa.text(ALL)).all()]
        for one in owed:
            assert one.user_id is not None
            assert one.wallet_cents == book.available(books, one.user_id)
            assert one.withheld_cents
            assert one.amount_cents == (one.delivered_cents or 0) + (one.wallet_cents or 0) + one.withheld_cents
    assert market.amount_cents == sum(one.amount_cents or 0 for one in owed)


@pytest.mark.usefixtures("settled")
def test_a_mirror_that_was_overtaken_tells_nothing_old(
    db: Database,
    clock: FixedClock,
    actor: Actor,
    django: Django,
    theirs: Database,
    harness: PayoutHarness,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has read, and before it writes the payout ends and another mirror tells that."""
    tell = source.tell

    def overtaken(to: Database, results: Sequence[source.PlatformResult]) -> None:
        monkeypatch.setattr(source, "tell", tell)
        harness.send()
        harness.deliver()
        assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs).waiting_payouts == 0
        tell(to, results)

    monkeypatch.setattr(source, "tell", overtaken)
    assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs).waiting_payouts == 0
    assert [*django.states().values()] == ["RESOLVED", "COMPLETED", "FAILED"]


@pytest.mark.usefixtures("settled")
def test_a_platform_that_is_away_is_told_later(
    db: Database, clock: FixedClock, actor: Actor, django: Django, theirs: Database, harness: PayoutHarness
) -> None:
    platform_mirror.mirror(OperationContext(db, clock, actor), theirs)
    harness.send()
    harness.deliver()
    django.sql("ALTER TABLE kasoko.results RENAME TO gone")
    with pytest.raises(ConfigurationError, match="takes no results: relation") as refused:
        platform_mirror.mirror(OperationContext(db, clock, actor), theirs)
    assert refused.value.hint.endswith("kasoko connect django --print-sql --mirror")
    away = open_platform(named(django.role_url, "no_such_platform"))
    with pytest.raises(DatabaseUnavailable, match="no_such_platform"):
        platform_mirror.mirror(OperationContext(db, clock, actor), away)
    away.close()
    assert platform_mirror.look(db).waiting_payouts == 2
    django.sql("ALTER TABLE kasoko.gone RENAME TO results")
    assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs).payouts == 2


@pytest.mark.usefixtures("settled")
def test_a_database_from_an_older_copy_tells_the_platform_how_it_stands_now(
    db: Database, clock: FixedClock, actor: Actor, django: Django, theirs: Database
) -> None:
    platform_mirror.mirror(OperationContext(db, clock, actor), theirs)
    with db.transaction() as session:
        kept = session.execute(sa.text("SELECT id, version, told_version FROM outbox")).all()
    manual_decision.to_wallet(OperationContext(db, clock, Actor("tester", "they asked for it")), payout_id="1.1.2")
    clock.forward(60)
    platform_mirror.mirror(OperationContext(db, clock, actor), theirs)
    assert [*django.states().values()] == ["RESOLVED", "PENDING", "WALLET"]
    with db.transaction() as session:  # as it stood before; what was done since is forgotten
        for name, version, told in kept:
            values = {"id": name, "version": version, "told": told}
            session.execute(
                sa.text("UPDATE outbox SET version = :version, told_version = :told WHERE id = :id"), values
            )
    clock.forward(60)
    with db.transaction() as session:
        hold_unsent(session, actor, api="v3", now=clock())
    assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs).payouts == 2
    with theirs.reading() as session:
        versions = session.execute(sa.text("SELECT version FROM kasoko.results")).scalars().all()
    assert min(versions) > max(version for _, version, _ in kept)


@pytest.mark.usefixtures("settled")
def test_again_names_what_is_newer_there_than_all_that_is_known_here(
    db: Database, clock: FixedClock, actor: Actor, django: Django, theirs: Database
) -> None:
    platform_mirror.mirror(OperationContext(db, clock, actor), theirs)
    django.sql(
        "UPDATE kasoko.results SET status = 'COMPLETED', version = version + 86400000000 WHERE id = 'payout:1.1.2'"
    )
    assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs, again=True).newer == ["payout:1.1.2"]
    assert django.states()["payout:1.1.2"] == "COMPLETED", "it was left"
    clock.forward(days=2)
    assert platform_mirror.mirror(OperationContext(db, clock, actor), theirs, again=True).newer == []
    assert django.states()["payout:1.1.2"] == "PENDING"


# --- The commands ---------------------------------------------------------------------------------


def test_sync_and_mirror_as_an_operator_calls_them(deployed: DeploymentHarness, django: Django) -> None:
    """From an empty database to a result on the platform. A mirror killed anywhere is made good by the next."""
    deployed.furnish()
    with (deployed.folder / ".env").open("a") as secrets:
        secrets.write(f"KASOKO_PLATFORM_URL={django.role_url}\n")
    django.sql("UPDATE markets_market SET closes_at = now() - interval '1 minute' WHERE slug = 'rain'")
    planned = deployed.run("sync", "--plan")
    assert planned.out.splitlines() == ["users: 3 new, 0 known", "markets: 1 new, 0 known", "bets: 3 new, 0 known"]
    assert planned.err == "This was a plan; nothing was kept. To take it in: kasoko sync\n"
    assert deployed.ask("sync")["stake_cents"] == 283_83
    assert deployed.run("sync", "--quiet").out == ""
    deployed.run("resolve", "rain", "Yes", "--yes")
    deployed.run("settle", "rain")
    assert deployed.run("sync", "--check").out == "1 closed market, 3 bets: the platform has them as they stand here.\n"
    django.sql("UPDATE markets_bet SET stake = 1000 WHERE stake = 150.5")
    checked = deployed.run("sync", "--check", code=8)
    assert "1 difference.\nbet 2, stake_kes: It is '150.50' here, and '1000.00' there.\n" in checked.out

    nothing = deployed.run("mirror", "--plan").out
    assert nothing == "Nothing is noted for the platform yet. The first kasoko mirror notes all that stands.\n"
    off = deployed.run("mirror", code=3)
    assert "Writing results back is off (platform.mirror). Nothing was written." in off.err
    with (deployed.folder / "kasoko.toml").open("a") as settings:
        settings.write("[platform]\nmirror = true\n")
    for point in ("commit.before:1", "commit.after:1", "commit.before:2", "commit.after:2", "commit.before:3"):
        deployed.run("mirror", code=KILLED, KASOKO_TEST_POINTS=f"kill:{point}")
    assert deployed.run("mirror", "--plan").out == "Waiting to be told: 1 market, 2 payouts.\n"
    assert deployed.run("mirror").out == "Told: 1 market, 2 payouts.\n"
    assert deployed.run("mirror").out == "Told: 0 markets, 0 payouts.\n"
    assert django.states() == {"market:1": "RESOLVED", "payout:1.1.1": "PENDING", "payout:1.1.2": "PENDING"}
    django.sql("UPDATE kasoko.results SET version = version + 86400000000 WHERE id = 'payout:1.1.2'")
    newer = deployed.run("mirror", "--again", code=8)
    assert "1 newer there than all that is known here, and left as it was: payout:1.1.2\n" in newer.out
    assert "kasoko doctor --after-restore" in newer.err
    assert deployed.ask("mirror", "--stop") == {"stopped": True}
    assert deployed.run("mirror", "--stop").out == "The platform was told nothing before.\n"
    deployed.run("audit", "--deep", "--chain")
