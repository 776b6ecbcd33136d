"""Records in from files and out again, on both databases."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import stat
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlmodel import col, select

from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account, pool_owner
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.exchange.export import RecordKind, export, written_whole
from kasoko_cli.operations.exchange.import_bets import bets_kind
from kasoko_cli.operations.exchange.import_records import Imported, markets_kind, take_in, users_kind
from kasoko_cli.operations.records import bets, markets, users, wallets
from kasoko_cli.operations.records.bets import NewBet
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.record_files import FileRefused, Format, InputFile
from kasoko_cli.store.engine import database
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Bet, EntryRow, Event, Funding, Market, PostingRow, User
from tests.conftest import FixedClock

DATA = Path(__file__).parents[1].parent / "data"

USERS = "user_id,name,phone\nann,Ann Auma,0712345678\nben,Ben Müller,+254 722 000 111\n"
MARKETS = (
    "market_id,slug,question,outcomes,closes_at,fee_bps\n"
    "m1,rain,Will it rain?,Yes|No,2026-12-01T15:00:00Z,500\n"
    "m2,sun,Will it shine?,Oui|Non,2026-11-20T15:00:00Z,0\n"
)
BETS_HEADER = "bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at\n"
BETS = (
    BETS_HEADER + "b1,m1,ann,Yes,100,2026-11-20T09:00:00Z,\n"
    "b2,m1,ben,No,48.50,2026-11-20T12:00:00+03:00,2026-11-21T09:00:00Z\n"
    "b3,m2,ben,Oui,0.01,2026-11-20T15:00:00Z,\n"
)


class Platform:
    """The operator's platform, which hands over files."""

    def __init__(self, db: Database, clock: FixedClock, actor: Actor) -> None:
        self.db, self.clock, self.actor = db, clock, actor

    @property
    def context(self) -> OperationContext:
        """What an operation works on."""
        return OperationContext(self.db, self.clock, self.actor)

    def users(self, data: str | bytes, form: Format = Format.CSV) -> Imported:
        return take_in(self.context, file_of("users.csv", data, form), users_kind())

    def markets(self, data: str | bytes, form: Format = Format.CSV) -> Imported:
        return take_in(self.context, file_of("markets.csv", data, form), markets_kind())

    def bets(self, data: str | bytes, form: Format = Format.CSV, *, funding: Funding = Funding.COLLECTED) -> Imported:
        return take_in(self.context, file_of("bets.csv", data, form), bets_kind(funding))

    def bet_refusals(self, *rows: str, funding: Funding = Funding.COLLECTED) -> list[str]:
        """What is said of bets that are refused; the books and the bets are as they were."""
        before = everything(self.db)
        with pytest.raises(FileRefused) as refused:
            self.bets(BETS_HEADER + "".join(f"{row}\n" for row in rows), funding=funding)
        assert everything(self.db) == before
        return [str(problem) for problem in refused.value.problems]


def file_of(name: str, data: str | bytes, form: Format = Format.CSV) -> InputFile:
    return InputFile(name, io.BytesIO(data.encode() if isinstance(data, str) else data), form)


def everything(db: Database) -> list[object]:
    """Every row that an import could touch."""
    with db.reading() as session:
        return [
            row.model_dump()
            for table in (User, Market, Bet, EntryRow, PostingRow, Event)
            for row in sorted(session.exec(select(table)).all(), key=repr)
        ]


def exported(db: Database, kind: RecordKind, form: Format = Format.CSV, **options: object) -> str:
    parts: list[str] = []
    export(db, kind, form, parts.append, **options)  # type: ignore[arg-type]
    return "".join(parts)


@pytest.fixture
def platform(db: Database, clock: FixedClock, actor: Actor) -> Platform:
    """An empty database."""
    return Platform(db, clock, actor)


@pytest.fixture
def builder(platform: Platform) -> Platform:
    """Two users and two markets, which are both still open."""
    platform.users(USERS)
    platform.markets(MARKETS)
    return platform


@pytest.fixture
def other_db(request: pytest.FixtureRequest, db: Database, tmp_path: Path) -> Iterator[Database]:
    """An empty database of the other kind."""
    if not db.is_sqlite:
        path = tmp_path / "other.db"
        path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
        opened = database.open_database(f"sqlite:///{path}")
        yield opened
        opened.close()
        return
    server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
    admin = create_engine(database.parse_url(server), isolation_level="AUTOCOMMIT")
    name = f"kasoko_other_{abs(hash(str(tmp_path))):x}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    opened = database.open_database(database.parse_url(server).set(database=name).render_as_string(hide_password=False))
    try:
        yield opened
    finally:
        opened.close()
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


# --- In ------------------------------------------------------------------------------------------


def test_a_bet_from_a_file_is_in_the_books(builder: Platform) -> None:
    done = builder.bets(BETS)
    assert (done.kind, done.new, done.known, done.stake_cents, done.cancelled) == ("bets", 3, 0, 14851, 1)
    with builder.db.reading() as session:
        assert book.balance(session, Account.UTILITY) == 14851
        assert book.balance(session, Account.POOL, pool_owner("m1", 0)) == -10000
        assert book.balance(session, Account.POOL, pool_owner("m1", 1)) == 0
        assert book.balance(session, Account.POOL, pool_owner("m2", 0)) == -1
        assert book.available(session, "ben") == 4850, "a cancelled stake is back in the wallet"
        keys = session.exec(select(col(EntryRow.key)).order_by(col(EntryRow.id))).all()
        assert list(keys) == ["bet:b1", "bet:b2", "bet:b2:cancel", "bet:b3"]
    assert audit(builder.db, deep=True).ok


def test_a_late_bet_is_taken_in(builder: Platform) -> None:
    """Settling gives it back: what the platform collected is owed to whoever paid it."""
    builder.bets(BETS)
    assert [bet.id for bet in bets.list_bets(builder.db, "sun")] == ["b3"]


def test_what_is_unusual_is_marked_where_bets_and_markets_are_looked_at(builder: Platform) -> None:
    """Late, from the future, cancelled though late, two bettors with one phone; and what a shilling would return."""
    builder.users("user_id,name,phone\ndan,Dan,0712345678\nzoe,Zoe,0722000111\n")
    builder.bets(
        BETS_HEADER + "b1,m1,ann,Yes,100,2026-11-20T09:00:00Z,\nb2,m1,dan,No,200,2026-11-20T09:00:00Z,\n"
        "b3,m1,ann,Yes,5,2026-12-01T15:00:00Z,\nb4,m1,ben,Yes,7,2026-12-02T15:00:00Z,2026-12-02T16:00:00Z\n"
    )
    view = markets.show_market(builder.db, "rain", builder.clock)
    assert [(one.stake_cents, one.pool_cents, one.returns_cents) for one in view.outcomes] == [
        (10_500, 10_000, 285),
        (20_000, 20_000, 142),
    ]
    assert (view.late_bets, view.late_cents, view.future_bets) == (1, 500, 1)
    assert view.shared_phones == [["ann", "dan"]], "zoe has ben's phone, and no bet here"
    assert {bet.id: bet.marks for bet in bets.list_bets(builder.db, "rain", clock=builder.clock)} == {
        "b1": ["shared_phone"],
        "b2": ["shared_phone"],
        "b3": ["late", "future", "shared_phone"],
        "b4": ["future"],
    }
    empty = markets.show_market(builder.db, "sun", builder.clock)
    assert [one.returns_cents for one in empty.outcomes] == [None, None]


def test_json_lines_say_the_same_as_csv(platform: Platform, builder: Platform) -> None:
    rows = list(csv.DictReader(io.StringIO(BETS)))
    lines = "".join(json.dumps({**row, "cancelled_at": row["cancelled_at"] or None}) + "\n" for row in rows)
    assert builder.bets(BETS).new == 3
    assert (builder.bets(lines, Format.JSONL).new, builder.bets(lines, Format.JSONL).known) == (0, 3)


@pytest.mark.parametrize("kind", ["users", "markets", "bets"])
def test_the_same_file_twice_changes_nothing_and_says_so(builder: Platform, kind: str) -> None:
    builder.bets(BETS)
    before = everything(builder.db)
    done = {"users": builder.users, "markets": builder.markets, "bets": builder.bets}[kind](
        {"users": USERS, "markets": MARKETS, "bets": BETS}[kind]
    )
    assert (done.new, done.known) == (0, 3 if kind == "bets" else 2)
    assert everything(builder.db) == before


def test_another_spelling_of_the_same_content_is_known(builder: Platform) -> None:
    builder.bets(BETS)
    assert builder.users("user_id,name,phone\nann,  Ann\u00a0Auma ,254712345678\n").known == 1
    assert builder.bets(BETS_HEADER + "b1,m1,ann,Yes,100.00,2026-11-20T12:00:00+03:00,\n").known == 1


def test_a_line_that_stands_twice_is_taken_once(builder: Platform) -> None:
    done = builder.bets(BETS + "b1,m1,ann,Yes,100,2026-11-20T09:00:00Z,\n")
    assert (done.new, done.known, done.stake_cents) == (3, 1, 14851)


@pytest.mark.exhaustive
def test_lines_far_apart_in_a_file_know_each_other(builder: Platform) -> None:
    """Further apart than the rows that are looked up at a time."""
    lines = [f"c{n},m1,ann,Yes,1,2026-11-20T09:00:00Z,\n" for n in range(10_001)]
    done = builder.bets(BETS_HEADER + "".join(lines) + lines[0])
    assert (done.new, done.known) == (10_001, 1)
    [problem] = builder.bet_refusals(
        *(line.strip().replace("c", "d") for line in lines), "d0,m1,ann,No,1,2026-11-20T09:00:00Z,"
    )
    assert problem.startswith("line 10003, outcome: The bet 'd0' is known with 'Yes', and here with 'No'.")


def test_the_act_is_written_down_once_for_a_file(builder: Platform) -> None:
    builder.bets(BETS)
    builder.bets(BETS)
    with builder.db.reading() as session:
        [event] = session.exec(select(Event).where(col(Event.action) == "import.bets")).all()
    assert (event.actor, event.reason, event.subject) == ("tester", "a test", "bets.csv")
    digest = hashlib.sha256(BETS.encode()).hexdigest()
    assert json.loads(event.detail) == {"new": 3, "known": 0, "sha256": digest}


def test_an_outcome_that_was_composed_when_its_market_came_is_found(builder: Platform) -> None:
    header, _, _ = MARKETS.splitlines()
    builder.markets(f"{header}\nm3,cafe,Where?,Cafe\u0301|Bar,2026-12-01T15:00:00Z,0\n")
    assert builder.bets(BETS_HEADER + "b9,m3,ann,Cafe\u0301,1,2026-11-20T09:00:00Z,\n").new == 1


def test_every_rule_of_a_market_can_be_said(platform: Platform) -> None:
    header = "market_id,slug,question,outcomes,closes_at,fee_bps,rounding,break_unit_cents,dead_heat,min_dividend"
    platform.markets(
        f"{header},min_dividend_bps\nm1,rain,Rain?,Yes|No,2026-12-01T15:00:00Z,500,largest,100,profit,cap_fee,10500\n"
        "m2,sun,Sun?,Yes|No,2026-12-01T15:00:00Z,0,,,,,\n"
    )
    rules = [markets.show_market(platform.db, slug).rules for slug in ("rain", "sun")]
    assert rules == [
        {
            "fee_bps": 500,
            "rounding": "largest",
            "break_unit_cents": 100,
            "dead_heat": "profit",
            "min_dividend": "cap_fee",
            "min_dividend_bps": 10500,
        },
        {
            "fee_bps": 0,
            "rounding": "house",
            "break_unit_cents": 1,
            "dead_heat": "stake",
            "min_dividend": "none",
            "min_dividend_bps": 10000,
        },
    ]


# --- Refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stake", ["0", "-5", "1e9999", "NaN", "10.001", "", "1,00", "Infinity", "0x10", "٥"])
@pytest.mark.parametrize("form", [Format.CSV, Format.JSONL])
def test_a_stake_that_is_no_amount_is_refused(builder: Platform, stake: str, form: Format) -> None:
    row = dict(
        zip(BETS_HEADER.strip().split(","), ["b9", "m1", "ann", "Yes", stake, "2026-11-20T09:00:00Z", ""], strict=True)
    )
    before = everything(builder.db)
    out = io.StringIO()
    writer = csv.DictWriter(out, row)
    writer.writeheader()
    writer.writerow(row)
    with pytest.raises(FileRefused) as refused:
        builder.bets(out.getvalue() if form is Format.CSV else json.dumps(row), form)
    [problem] = refused.value.problems
    assert (problem.line, problem.column) == (2 if form is Format.CSV else 1, "stake_kes")
    assert problem.what.startswith("The stake ")
    assert everything(builder.db) == before


@pytest.mark.parametrize("number", ["0", "-5", "1e9999", "10.001", "1E2"])
def test_a_stake_that_is_a_bad_number_in_json_is_refused(builder: Platform, number: str) -> None:
    line = (
        '{"bet_id":"b9","market_id":"m1","user_id":"ann","outcome":"Yes","stake_kes":%s,'
        '"placed_at":"2026-11-20T09:00:00Z","cancelled_at":null}'
    )
    with pytest.raises(FileRefused, match=f"line 1, stake_kes: The stake '{number}' is"):
        builder.bets(line % number, Format.JSONL)
    assert builder.bets(line % "10.10", Format.JSONL).stake_cents == 1010


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        pytest.param(
            "b9,m1,ann,Yess,1,2026-11-20T09:00:00Z,",
            "line 2, outcome: 'Yess' is not an outcome of rain. Did you mean 'Yes'? Its outcomes are: Yes, No",
            id="outcome",
        ),
        pytest.param(
            "b9,rian,ann,Yes,1,2026-11-20T09:00:00Z,",
            "line 2, market_id: There is no market 'rian'. Did you mean 'rain'? Import the markets first.",
            id="market",
        ),
        pytest.param(
            "b9,m1,cyn,Yes,1,2026-11-20T09:00:00Z,",
            "line 2, user_id: There is no user 'cyn'. Import the users first.",
            id="user",
        ),
        pytest.param(
            "b 9,m1,ann,Yes,1,2026-11-20T09:00:00Z,",
            "line 2, bet_id: 'b 9' cannot be the bet id. Use 1 to 64 letters A-Z a-z, digits and _ : - . and begin"
            " with none of : - .",
            id="id",
        ),
        pytest.param(
            "b9,m1,ann,Yes,1,2026-11-20T09:00:00Z,yes",
            "line 2, cancelled_at: 'yes' is not a time. Write it like 2026-11-20T15:00:00Z or"
            " 2026-11-20T18:00:00+03:00.",
            id="cancelled at no time",
        ),
        pytest.param(
            "b9,m1,ann,Yes,1,2026-11-20T09:00:00Z,2026-11-20T08:00:00Z",
            "line 2, cancelled_at: It was cancelled before it was placed, at 2026-11-20T09:00:00Z. Check both times.",
            id="cancelled before it was placed",
        ),
        pytest.param(
            "b9,m2,ann,Oui,1,2026-11-20T09:00:00Z,2026-11-20T15:00:00Z",
            "line 2, cancelled_at: Its market closed at 2026-11-20T15:00:00Z, and from then on no bet can be taken"
            " back. Leave the cell empty, or check the time.",
            id="cancelled after the close",
        ),
    ],
)
def test_each_wrong_cell_of_a_bet_is_named(builder: Platform, row: str, problem: str) -> None:
    assert builder.bet_refusals(row) == [problem]


def test_one_bad_line_refuses_the_whole_file_and_every_bad_line_is_named(builder: Platform) -> None:
    problems = builder.bet_refusals(
        "c1,m1,ann,Yes,1,2026-11-20T09:00:00Z,",
        "c2,m1,ann,Yes,0,2026-11-20T09:00:00Z,",
        "c3,m1,ann",
        "c4,m9,zoe,Yes,-1,never,",
        "c5,m1,ann,Yes,1,2026-11-20T09:00:00Z,",
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "line 3, stake_kes",
        "line 4",
        "line 5, market_id",
        "line 5, user_id",
        "line 5, stake_kes",
        "line 5, placed_at",
    ]


def test_an_id_with_other_content_is_refused_by_line(builder: Platform) -> None:
    builder.bets(BETS)
    assert builder.bet_refusals(
        "b1,m1,ann,Yes,101,2026-11-20T09:00:00Z,",
        "b2,m1,ben,No,48.50,2026-11-20T12:00:00+03:00,2026-11-21T09:00:00Z",
        "b3,m2,ben,Oui,0.01,2026-11-20T15:00:00Z,2026-11-20T16:00:00Z",
    ) == [
        (
            "line 2, stake_kes: The bet 'b1' is known with '100.00', and here with '101.00'. A bet is not changed;"
            " another one needs another id."
        ),
        (
            "line 4, cancelled_at: The bet 'b3' is known with '', and here with '2026-11-20T16:00:00Z'. Take it"
            " back here: kasoko bet cancel b3"
        ),
    ]


def test_two_contents_of_one_id_in_a_file_are_refused(builder: Platform) -> None:
    [problem] = builder.bet_refusals("c1,m1,ann,Yes,1,2026-11-20T09:00:00Z,", "c1,m1,ben,Yes,1,2026-11-20T09:00:00Z,")
    assert problem.startswith("line 3, user_id: The bet 'c1' is known with 'ann', and here with 'ben'.")


def test_a_market_that_is_not_open_takes_only_bets_that_it_has(builder: Platform) -> None:
    builder.bets(BETS)
    markets.close_market(builder.context, market="sun")
    assert (builder.bets(BETS).new, builder.bets(BETS).known) == (0, 3)
    assert builder.bet_refusals(
        "b3,m2,ben,Oui,0.01,2026-11-20T15:00:00Z,", "b4,m2,ben,Oui,1,2026-11-20T09:00:00Z,"
    ) == [
        "line 3, market_id: sun takes no more bets: it is CLOSED, and the bet 'b4' is not one of its own. Leave it out."
    ]


def test_each_wrong_cell_of_a_user_is_named_and_no_phone_is_shown_whole(platform: Platform) -> None:
    platform.users(USERS)
    before = everything(platform.db)
    with pytest.raises(FileRefused) as refused:
        platform.users(
            "user_id,name,phone\nann,Ann Auma,0712345679\nben,Bob,0722000111\n-x,\u202eevil,12\n"
            "cyn,Cyn,2547****5678\nd,,0712345678901\nann,Ann Auma,0712345678\n"
        )
    assert [str(problem) for problem in refused.value.problems] == [
        (
            "line 2, phone: The user 'ann' is known with 2547****5678, and here with 2547****5679. For a new number:"
            " kasoko user set-phone ann PHONE"
        ),
        "line 3, name: The user 'ben' is known as 'Ben Müller', and here as 'Bob'. Another person needs another id.",
        (
            "line 4, user_id: '-x' cannot be the user id. Use 1 to 64 letters A-Z a-z, digits and _ : - . and"
            " begin with none of : - ."
        ),
        (
            "line 4, phone: The phone '12' (2 digits) is not a Kenyan mobile number. Write it as 0712 345 678 or"
            " +254 712 345 678."
        ),
        "line 5, phone: The phone is masked, and a masked phone cannot be paid. Export the users with --show-phone.",
        "line 6, name: The name '' is empty. Write 1 to 200 characters.",
        (
            "line 6, phone: The phone '0712****01' (13 digits) is not a Kenyan mobile number. Write it as 0712 345"
            " 678 or +254 712 345 678."
        ),
    ]
    assert everything(platform.db) == before


def test_each_wrong_cell_of_a_market_is_named(platform: Platform) -> None:
    platform.markets(MARKETS)
    before = everything(platform.db)
    header = MARKETS.splitlines()[0]
    with pytest.raises(FileRefused) as refused:
        platform.markets(
            f"{header},rounding,dead_heat\n"
            "m1,rain,Will it rain?,Yes|No,2026-12-01T15:00:00Z,501,,\n"
            "m3,sun,Sun?,Yes|No,2026-12-01T15:00:00Z,0,,\n"
            "m3,m2,Sun?,Yes|No,2026-12-01T15:00:00Z,0,,\n"
            "sun,m3,Sun?,Yes|No,2026-12-01T15:00:00Z,0,,\n"
            "m4,retry,Q?,Yes|No,2026-12-01T15:00:00Z,5.00,,\n"
            "m5,one,Q?,Yes,2026-12-01T15:00:00Z,10001,,\n"
            "m6,two,Q?,Yes|yes,2026-12-01T15:00:00Z,0,house,\n"
            "m7,three,,Yes|No,soon,0,hous,stakes\n"
        )
    assert [
        (problem.line, problem.column, problem.what.split(". ")[0].rstrip(".")) for problem in refused.value.problems
    ] == [
        (2, "fee_bps", "The market 'm1' is known with '500', and here with '501'"),
        (3, "slug", "The slug 'sun' is taken by the market 'm2'"),
        (4, "slug", "The slug 'm2' is the id of another market"),
        (5, "market_id", "The id is the slug of the market 'm2'"),
        (6, "slug", "A market cannot have the slug 'retry': `kasoko payout retry` means something else"),
        (6, "fee_bps", "'5.00' is not a whole number"),
        (7, "fee_bps", "The fee of a market cannot be '10001' basis points"),
        (8, "outcomes", "The market 'two' names an outcome twice"),
        (9, "question", "The question '' is empty"),
        (9, "closes_at", "'soon' is not a time"),
        (9, "rounding", "A market has no rounding 'hous'"),
        (9, "dead_heat", "A market has no dead heat rule 'stakes'"),
    ]
    assert everything(platform.db) == before


# --- From the wallet -----------------------------------------------------------------------------


def deposit(builder: Platform, user_id: str, kes: int) -> None:
    wallets.deposit(builder.context, user_id=user_id, cents=kes * 100, reference=f"R{user_id}{kes}")


def test_a_wallet_pays_until_it_is_empty(builder: Platform) -> None:
    deposit(builder, "ann", 150)
    assert builder.bet_refusals(
        "w1,m1,ann,Yes,100,2026-11-20T09:00:00Z,",
        "w2,m1,ann,No,50.01,2026-11-20T09:00:00Z,",
        "w3,m1,ben,No,1,2026-11-20T09:00:00Z,",
        funding=Funding.WALLET,
    ) == [
        (
            "line 3, stake_kes: The wallet of ann has KES 50.00 left, and the stake is KES 50.01. Take in a"
            " deposit first: kasoko wallet deposit"
        ),
        (
            "line 4, stake_kes: The wallet of ben has KES 0.00 left, and the stake is KES 1.00. Take in a deposit"
            " first: kasoko wallet deposit"
        ),
    ]


def test_a_stake_from_the_wallet_leaves_it_and_a_cancelled_one_comes_back(builder: Platform) -> None:
    deposit(builder, "ann", 150)
    done = builder.bets(
        BETS_HEADER + "w1,m1,ann,Yes,150,2026-11-20T09:00:00Z,2026-11-20T10:00:00Z\n"
        "w2,m1,ann,No,100,2026-11-20T11:00:00Z,\n",
        funding=Funding.WALLET,
    )
    assert (done.new, done.cancelled) == (2, 1)
    with builder.db.reading() as session:
        assert book.available(session, "ann") == 5000
        assert book.balance(session, Account.UTILITY) == 15000
    assert audit(builder.db, deep=True).ok


def test_what_was_staked_further_up_in_the_file_is_gone(builder: Platform) -> None:
    """Further up than the rows that are looked up at a time."""
    deposit(builder, "ann", 10_001)
    rows = [f"w{n},m1,ann,Yes,1,2026-11-20T09:00:00Z," for n in range(10_002)]
    [problem] = builder.bet_refusals(*rows, funding=Funding.WALLET)
    assert problem.startswith("line 10003, stake_kes: The wallet of ann has KES 0.00 left")
    assert builder.bets(BETS_HEADER + "\n".join(rows[:-1]), funding=Funding.WALLET).new == 10_001
    assert audit(builder.db, deep=True).ok


def test_a_bet_may_say_itself_where_its_stake_comes_from(builder: Platform) -> None:
    header = BETS_HEADER.strip() + ",funding\n"
    done = builder.bets(
        header + "w1,m1,ben,No,70,2026-11-20T09:00:00Z,2026-11-20T10:00:00Z,collected\n"
        "w2,m1,ben,No,70,2026-11-20T11:00:00Z,,wallet\nw3,m1,ben,No,1,2026-11-20T11:00:00Z,,\n"
    )
    assert done.new == 3
    with builder.db.reading() as session:
        assert book.available(session, "ben") == 0
    with pytest.raises(FileRefused, match="line 2, funding: The funding 'walet' is neither collected nor wallet"):
        builder.bets(header + "w4,m1,ben,No,70,2026-11-20T09:00:00Z,,walet\n")


def test_the_same_bet_with_another_funding_is_other_content(builder: Platform) -> None:
    builder.bets(BETS)
    deposit(builder, "ann", 500)
    [problem] = builder.bet_refusals("b1,m1,ann,Yes,100,2026-11-20T09:00:00Z,", funding=Funding.WALLET)
    assert problem.startswith("line 2, funding: The bet 'b1' is known with 'collected', and here with 'wallet'.")


# --- At once -------------------------------------------------------------------------------------


def test_two_imports_of_one_file_at_once_take_it_in_once(builder: Platform) -> None:
    lines = "".join(f"p{n},m1,{'ann' if n % 2 else 'ben'},Yes,1,2026-11-20T09:00:00Z,\n" for n in range(3_000))
    done: list[Imported] = []

    def take_in() -> None:
        done.append(builder.bets(BETS_HEADER + lines))

    threads = [threading.Thread(target=take_in) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one.new for one in done) == [0, 0, 3_000]
    assert audit(builder.db).ok


def test_bets_that_are_placed_during_an_import_wait_or_go_before_it(builder: Platform) -> None:
    """On PostgreSQL they lock the same users and books in turn; none of them is told of a deadlock."""
    deposit(builder, "ann", 1_000)
    deposit(builder, "ben", 1_000)
    rows = [f"p{n},m1,{'ann' if n % 2 else 'ben'},Yes,0.01,2026-11-20T09:00:00Z,\n" for n in range(12_000)]
    failures: list[BaseException] = []

    def place(user_id: str) -> None:
        try:
            for n in range(15):
                bets.place_bet(
                    builder.context,
                    NewBet(bet_id=f"q-{user_id}-{n}", market="m1", user_id=user_id, outcome="No", cents=100),
                )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=place, args=(user_id,)) for user_id in ("ann", "ben")]
    for thread in threads:
        thread.start()
    assert builder.bets(BETS_HEADER + "".join(rows), funding=Funding.WALLET).new == 12_000
    for thread in threads:
        thread.join(60)
    assert failures == []
    with builder.db.reading() as session:
        assert book.available(session, "ann") == book.available(session, "ben") == 100_000 - 6_000 - 1_500
    assert audit(builder.db).ok


# --- Out, and in again ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Format.CSV, Format.JSONL])
def test_an_export_imports_into_the_other_database_and_is_exported_the_same(
    builder: Platform, other_db: Database, clock: FixedClock, actor: Actor, form: Format
) -> None:
    header = MARKETS.splitlines()[0] + ",dead_heat\n"
    builder.markets(header + "M1,heat,=Who?,+1|-1|'=x,2026-12-01T15:00:00.250Z,0,pool\n")
    builder.users('user_id,name,phone\nZoe,"=HYPERLINK(""http://x""), \'q\'",0733000111\n_,@home,0733000112\n')
    builder.bets(BETS)
    builder.bets(BETS_HEADER + "b-1,M1,Zoe,+1,1,2026-11-20T09:00:00.000001Z,\nB1,M1,_,''=x,2,2026-11-20T09:00:00Z,\n")
    elsewhere = Platform(other_db, clock, actor)

    first = {
        kind: exported(builder.db, kind, form, show_phone=True)
        for kind in (RecordKind.USERS, RecordKind.MARKETS, RecordKind.BETS)
    }
    assert elsewhere.users(first[RecordKind.USERS], form).new == 4
    assert elsewhere.markets(first[RecordKind.MARKETS], form).new == 3
    assert elsewhere.bets(first[RecordKind.BETS], form).new == 5

    for kind, written in first.items():
        assert exported(other_db, kind, form, show_phone=True) == written
    assert builder.users(first[RecordKind.USERS], form).new == builder.markets(first[RecordKind.MARKETS], form).new == 0
    assert builder.bets(first[RecordKind.BETS], form).known == 5
    names = {user.id: user.name for user in users.list_users(other_db)}
    assert names["Zoe"] == "=HYPERLINK(\"http://x\"), 'q'"
    assert [line.name for line in markets.show_market(other_db, "heat").outcomes] == ["+1", "-1", "'=x"]


def test_no_cell_of_words_in_a_csv_begins_like_a_formula(builder: Platform) -> None:
    builder.users("user_id,name,phone\nx1,=1+1,0733000111\nx2,@x,0733000112\nx3,-x,0733000113\nx4,+x,0733000114\n")
    names = [row["name"] for row in csv.DictReader(io.StringIO(exported(builder.db, RecordKind.USERS)))]
    assert names == ["Ann Auma", "Ben Müller", "'=1+1", "'@x", "'-x", "'+x"]


def test_phones_are_masked_unless_they_are_asked_for(builder: Platform) -> None:
    masked = exported(builder.db, RecordKind.USERS)
    assert masked == "user_id,name,phone\nann,Ann Auma,2547****5678\nben,Ben Müller,2547****0111\n"
    assert "254712345678" in exported(builder.db, RecordKind.USERS, show_phone=True)


def test_where_a_stake_came_from_has_a_column_only_if_it_was_a_wallet(builder: Platform) -> None:
    builder.bets(BETS)
    assert exported(builder.db, RecordKind.BETS).startswith(BETS_HEADER)
    deposit(builder, "ann", 1)
    builder.bets(BETS_HEADER + "w1,m1,ann,Yes,1,2026-11-20T09:00:00Z,\n", funding=Funding.WALLET)
    written = exported(builder.db, RecordKind.BETS)
    assert written.splitlines()[0] == BETS_HEADER.strip() + ",funding"
    assert "w1,m1,ann,Yes,1.00,2026-11-20T09:00:00Z,,wallet\n" in written
    assert builder.bets(written).known == 4
    assert exported(builder.db, RecordKind.BETS, market="sun").splitlines() == [
        BETS_HEADER.strip(),
        "b3,m2,ben,Oui,0.01,2026-11-20T15:00:00Z,",
    ]


def test_the_entries_of_a_market_are_those_of_its_bets(builder: Platform) -> None:
    builder.bets(BETS)
    of_m2 = list(csv.DictReader(io.StringIO(exported(builder.db, RecordKind.ENTRIES, market="sun"))))
    assert [(row["key"], row["account"], row["owner"], row["amount_cents"]) for row in of_m2] == [
        ("bet:b3", "utility", "", "1"),
        ("bet:b3", "pool", "m2/0", "-1"),
    ]
    every = [json.loads(line) for line in exported(builder.db, RecordKind.ENTRIES, Format.JSONL).splitlines()]
    assert len(every) == 8
    assert sum(line["amount_cents"] for line in every) == 0


def test_an_export_of_nothing_is_an_import_of_nothing(platform: Platform) -> None:
    for kind, imported in (
        (RecordKind.USERS, platform.users),
        (RecordKind.MARKETS, platform.markets),
        (RecordKind.BETS, platform.bets),
    ):
        done = imported(exported(platform.db, kind))
        assert (done.new, done.known) == (0, 0)


def test_an_export_of_no_such_market_is_refused(builder: Platform) -> None:
    with pytest.raises(NotFound, match="There is no market 'rian'"):
        exported(builder.db, RecordKind.BETS, market="rian")
    with pytest.raises(Refused, match="Users belong to no market"):
        exported(builder.db, RecordKind.USERS, market="rain")


# --- Files ---------------------------------------------------------------------------------------


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "users.csv"
    target.write_text("before")

    def interrupted() -> None:
        with written_whole(target, private=True) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["users.csv"]


@pytest.mark.parametrize(("private", "mode"), [(True, 0o600), (False, 0o644)])
def test_a_file_with_phones_is_its_owners_alone(tmp_path: Path, private: bool, mode: int) -> None:
    target = tmp_path / "users.csv"
    target.touch(0o666)
    with written_whole(target, private=private) as file:
        file.write("x")
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.read_text() == "x"


def test_a_file_cannot_be_written_where_there_is_no_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(NotFound, match=r"There is no folder .*nothing was written"),
        written_whole(tmp_path / "none" / "users.csv", private=False),
    ):
        pytest.fail("there is nothing to write to")
    with pytest.raises(Refused, match="is a folder; nothing was written"), written_whole(tmp_path, private=False):
        pytest.fail("there is nothing to write to")


# --- The operator's own files --------------------------------------------------------------------


def test_the_operators_files_import_cleanly_and_the_books_hold_their_stakes(platform: Platform) -> None:
    assert platform.users((DATA / "users.csv").read_bytes()).new == 1_200
    assert platform.markets((DATA / "markets.csv").read_bytes()).new == 7
    assert platform.bets((DATA / "bets.csv").read_bytes()).new == 4_030
    assert platform.bets((DATA / "bets.csv").read_bytes()).known == 4_030

    rows = list(csv.DictReader(io.StringIO((DATA / "bets.csv").read_text(encoding="utf-8"))))
    cents = {row["bet_id"]: int(Decimal(row["stake_kes"]) * 100) for row in rows}
    standing = sum(cents[row["bet_id"]] for row in rows if not row["cancelled_at"])
    cancelled = sum(cents[row["bet_id"]] for row in rows if row["cancelled_at"])
    with platform.db.reading() as session:
        assert -book.balance(session, Account.POOL, None) == standing
        assert -book.balance(session, Account.WALLET, None) == cancelled
        assert book.balance(session, Account.UTILITY) == standing + cancelled
    assert audit(platform.db, deep=True).ok
    assert exported(platform.db, RecordKind.MARKETS) == (DATA / "markets.csv").read_text(encoding="utf-8")
