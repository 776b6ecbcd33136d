"""The two ways in, what a commit is worth, and every way in which a database cannot be opened."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlmodel import Session, select

import kasoko_cli
from kasoko_cli.errors import Busy, ConfigurationError, DatabaseUnavailable, KasokoError, SchemaOutOfDate
from kasoko_cli.store.engine import database
from kasoko_cli.store.engine.bulk_rows import insert_directly
from kasoko_cli.store.engine.database import (
    Database,
    WithinTransaction,
    head_version,
    open_database,
    parse_url,
    upgrade,
)
from kasoko_cli.store.schema.tables import User

NOON = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def _user(user_id: str) -> User:
    return User(id=user_id, name=user_id, phone="254712345678", created_at=NOON, phone_set_at=NOON)


def _ids(db: Database) -> list[str]:
    with db.reading() as session:
        return [user.id for user in session.exec(select(User).order_by("id"))]


# --- The two ways in ------------------------------------------------------------------------------------------


def test_a_transaction_commits_what_ends_well(db: Database) -> None:
    with db.transaction() as session:
        session.add(_user("ann"))
    assert _ids(db) == ["ann"]


def test_a_transaction_leaves_nothing_behind_if_its_body_does_not_end_well(db: Database) -> None:
    def stumble() -> None:
        with db.transaction() as session:
            session.add(_user("ann"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stumble()
    assert _ids(db) == []


def test_rows_of_a_transaction_keep_their_values_after_the_commit(db: Database) -> None:
    with db.transaction() as session:
        session.add(ann := _user("ann"))
    assert ann.name == "ann"


def test_what_is_read_cannot_be_written_and_leaves_nothing_behind(db: Database) -> None:
    insert = text("INSERT INTO switches (name, is_on, reason, actor, at) VALUES ('pause', true, '', '', :at)")
    at = "2026-11-23 09:00:00"
    error, says = (DatabaseUnavailable, "readonly database") if db.is_sqlite else (DBAPIError, "read-only transaction")
    with pytest.raises(error, match=says), db.reading() as session:
        session.execute(insert, {"at": at})
    with db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM switches")).scalar_one() == 0


def test_reading_sees_one_picture_while_others_write(db: Database) -> None:
    with db.reading() as session:
        before = session.execute(text("SELECT count(*) FROM users")).scalar_one()
        with db.transaction() as other:
            other.add(_user("ann"))
        assert session.execute(text("SELECT count(*) FROM users")).scalar_one() == before == 0
    assert _ids(db) == ["ann"]


def test_reading_does_not_make_the_next_transaction_of_that_connection_read_only(db: Database) -> None:
    for name in ("ann", "ben"):
        assert name not in _ids(db)
        with db.transaction() as session:
            session.add(_user(name))
    assert _ids(db) == ["ann", "ben"]


# --- What a commit is worth -----------------------------------------------------------------------------------


def test_every_sqlite_connection_syncs_each_commit_and_holds_foreign_keys(sqlite_template: Path) -> None:
    db = open_database(f"sqlite:///{sqlite_template}")
    with db.engine.connect() as one, db.engine.connect().execution_options(kasoko_writes=False) as two:
        for connection in (two, one):
            settings = {
                name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
            assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    db.close()


def test_one_place_makes_the_engines_that_write() -> None:
    """Whoever opened the file otherwise would write without the settings above."""
    package = Path(kasoko_cli.__file__).parent
    makers = {str(file.relative_to(package)) for file in package.rglob("*.py") if "create_engine(" in file.read_text()}
    assert makers == {"store/engine/database.py", "operations/admin/backups.py"}, (
        "a restore makes databases on a server, not rows"
    )


def test_no_update_that_read_before_it_wrote_is_lost(db: Database) -> None:
    """Eight threads add one to the same number fifty times each: a deferred BEGIN would lose most of them."""
    with db.transaction() as session:
        session.execute(text("CREATE TABLE counter (n INTEGER)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))
    lock = "" if db.is_sqlite else " FOR UPDATE"

    def count() -> None:
        for _ in range(50):
            with db.transaction() as session:
                n = session.execute(text(f"SELECT n FROM counter{lock}")).scalar_one()
                session.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(count) for _ in range(8)]:
            done.result()
    with db.reading() as session:
        assert session.execute(text("SELECT n FROM counter")).scalar_one() == 400


#: Both ways to write, each as something that it does.
WAYS: dict[str, Callable[[Database], AbstractContextManager[Any]]] = {
    "a transaction": Database.transaction,
    "a direct one": Database.direct,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", ["another thread", "another process"])
def test_a_database_that_another_run_keeps_locked_is_busy(
    sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str, way: str
) -> None:
    path = tmp_path / "kasoko.db"
    path.write_bytes(sqlite_template.read_bytes())
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    db = open_database(f"sqlite:///{path}")
    holder = db if who == "another thread" else open_database(f"sqlite:///{path}")
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with holder.transaction() as session:
            session.add(_user("ann"))
            session.flush()
            held.set()
            over.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(10)
    try:
        with pytest.raises(Busy) as busy, WAYS[way](db) as opened:
            opened.connection() if isinstance(opened, Session) else opened.first("SELECT 1")
    finally:
        over.set()
        other.join()
        holder.close()
        db.close()
    assert busy.value.message == (
        f"Another process has kept the database sqlite:///{path} locked for 0 seconds. Nothing was changed."
    )
    assert busy.value.exit_code == 9


# --- A transaction in the driver's words ----------------------------------------------------------------------

PERSON = ("ann", "ann", "254712345678", NOON, NOON)
COLUMNS = ("id", "name", "phone", "created_at", "phone_set_at")


def test_a_direct_transaction_commits_what_ends_well(db: Database) -> None:
    with db.direct() as direct:
        insert_directly(direct, User, COLUMNS, [PERSON])
        assert direct.first("SELECT count(*) FROM users") == (1,)
    with db.reading() as session:
        [ann] = session.exec(select(User)).all()
        assert (ann.name, ann.phone, ann.created_at) == ("ann", "254712345678", NOON)


def test_a_direct_transaction_leaves_nothing_behind_if_its_body_does_not_end_well(db: Database) -> None:
    def stumble() -> None:
        with db.direct() as direct:
            insert_directly(direct, User, COLUMNS, [PERSON])
            raise ZeroDivisionError

    for _ in range(2):  # nor does it keep anybody from the next one
        with pytest.raises(ZeroDivisionError):
            stumble()
    assert _ids(db) == []


def test_a_direct_transaction_refuses_what_breaks_a_constraint(db: Database) -> None:
    def twice() -> None:
        with db.direct() as direct:
            insert_directly(direct, User, COLUMNS, [PERSON, PERSON])

    with pytest.raises(IntegrityError):
        twice()
    assert _ids(db) == []


def test_a_direct_transaction_within_one_that_is_open_is_a_part_of_it(db: Database) -> None:
    def stumble() -> None:
        with db.transaction() as session:
            session.add(_user("bob"))
            with WithinTransaction(db, session).direct() as direct:
                insert_directly(direct, User, COLUMNS, [PERSON])
                assert direct.first("SELECT count(*) FROM users") == (2,)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stumble()
    assert _ids(db) == []


def test_reading_and_writing_directly_take_turns_on_one_connection(db: Database) -> None:
    for number in range(3):
        assert len(_ids(db)) == number
        with db.direct() as direct:
            insert_directly(direct, User, COLUMNS, [(f"u{number}", *PERSON[1:])])


def test_any_number_of_rows_goes_in_directly(db: Database) -> None:
    for start, count in ((0, 1), (1, 64), (65, 65), (130, 200)):
        with db.direct() as direct:
            insert_directly(direct, User, COLUMNS, ((f"u{n:03}", *PERSON[1:]) for n in range(start, start + count)))
    assert _ids(db) == [f"u{n:03}" for n in range(330)]


def test_a_writer_of_this_process_goes_on_as_soon_as_another_has_ended(sqlite_template: Path, tmp_path: Path) -> None:
    """SQLite by itself looks again after up to 100 ms: here hundreds of turns would take minutes."""
    path = tmp_path / "kasoko.db"
    path.write_bytes(sqlite_template.read_bytes())
    db = open_database(f"sqlite:///{path}")
    turns = []

    def write(name: str) -> None:
        for number in range(40):
            with db.direct() as direct:
                insert_directly(direct, User, COLUMNS, [(f"{name}{number:02}", *PERSON[1:])])
                turns.append(name)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, name) for name in "abcd"]:
            done.result()
    assert len(_ids(db)) == len(turns) == 160
    db.close()


# --- What cannot be opened ------------------------------------------------------------------------------------


def _refusal(call: Callable[[], object], kind: type[KasokoError]) -> tuple[str, str, int]:
    with pytest.raises(kind) as refused:
        call()
    assert type(refused.value) is kind
    return refused.value.message, refused.value.hint, refused.value.exit_code


WHERE_IS_IT = (
    "Is it in another folder, or on another name (--database URL)? Is there a backup (kasoko db restore FILE)? A new"
    " database does not know who was paid, and would pay them again. Only for a first one: kasoko init"
)


def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    assert _refusal(lambda: open_database(f"sqlite:///{path}"), DatabaseUnavailable) == (
        f"There is no database at {path}.",
        WHERE_IS_IT,
        3,
    )
    assert not path.exists()


@pytest.mark.parametrize("use", [open_database, upgrade])
def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path, use: Callable[[str], object]) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear Ann, this is not a database.\n" * 40)
    assert _refusal(lambda: use(f"sqlite:///{path}"), DatabaseUnavailable) == (
        (
            f"The database sqlite:///{path} cannot be used: file is not a database. What was committed before"
            " stands, and nothing else was changed."
        ),
        "Check the address (kasoko config show --origin) and that the server runs or the file may be written.",
        3,
    )
    assert path.read_text().startswith("Dear Ann")


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    message, _, exit_code = _refusal(lambda: open_database(f"sqlite:///{tmp_path}"), DatabaseUnavailable)
    assert message == (
        f"The database sqlite:///{tmp_path} cannot be used: unable to open database file. What was committed"
        " before stands, and nothing else was changed."
    )
    assert exit_code == 3


def test_a_database_without_tables_asks_whether_it_is_the_right_one(empty_url: str) -> None:
    db = Database(empty_url)
    db.engine.connect().close()  # makes the file
    assert _refusal(lambda: open_database(empty_url), SchemaOutOfDate) == (
        f"The database {db.shown_url} has no kasoko tables.",
        WHERE_IS_IT,
        3,
    )
    db.close()


@pytest.mark.parametrize(
    ("version", "hint"),
    [
        ("0000", "Take a backup (kasoko db backup FILE), then: kasoko db upgrade"),
        ("9999", "This kasoko is older than the database: install the newer one."),
    ],
)
def test_tables_of_another_version_are_not_touched(db: Database, version: str, hint: str) -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})
    url = db.url.render_as_string(hide_password=False)
    assert _refusal(lambda: open_database(url), SchemaOutOfDate) == (
        (
            f"The database {db.shown_url} has tables of version {version}; this program needs {head_version()}."
            " Nothing was changed."
        ),
        hint,
        3,
    )
    open_database(url, check_schema=False).close()


def test_a_newer_database_is_not_upgraded(db: Database) -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert _refusal(lambda: upgrade(db.url.render_as_string(hide_password=False)), SchemaOutOfDate) == (
        f"The database {db.shown_url} has tables of version 9999; this program knows only {head_version()}.",
        "Install the newer kasoko; tables are never taken back by themselves.",
        3,
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_database_that_cannot_be_reached_is_said_to_be_unavailable(tmp_path: Path, way: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for url in (f"sqlite:///{tmp_path}", f"postgresql://kasoko@127.0.0.1:{closed.getsockname()[1]}/kasoko"):
            db = Database(url)
            with pytest.raises(DatabaseUnavailable), WAYS[way](db) as opened:
                opened.connection() if isinstance(opened, Session) else opened.first("SELECT 1")
            db.close()


def test_a_server_that_is_down_is_named_without_its_password() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"postgresql://ann:open-sesame@127.0.0.1:{port}/kasoko"
    for use in (open_database, upgrade):
        message, hint, exit_code = _refusal(lambda use=use: use(url), DatabaseUnavailable)  # type: ignore[misc]
        assert message.startswith(
            f"The database postgresql://ann:***@127.0.0.1:{port}/kasoko cannot be used: connection failed:"
        )
        assert message.endswith("What was committed before stands, and nothing else was changed.")
        assert hint.startswith("Check the address (kasoko config show --origin)")
        assert exit_code == 3
    assert "open-sesame" not in repr(Database(url))


def test_a_folder_that_is_missing_is_named_before_anything_is_created(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    assert _refusal(lambda: upgrade(f"sqlite:///{folder / 'kasoko.db'}"), DatabaseUnavailable) == (
        f"The database {folder / 'kasoko.db'} cannot be created: there is no folder {folder}.",
        f"Make the folder first: mkdir -p {folder}",
        3,
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("kasoko.db", "The database address cannot be read."),
        ("mysql://host/kasoko", "The database address begins with 'mysql'; SQLite or PostgreSQL is needed."),
        ("sqlite://", "A database in memory would forget every payout when the command ends."),
        ("sqlite:///:memory:", "A database in memory would forget every payout when the command ends."),
    ],
)
def test_an_address_that_cannot_hold_payouts_is_refused(url: str, message: str) -> None:
    assert _refusal(lambda: open_database(url), ConfigurationError) == (
        message,
        "Write sqlite:///kasoko.db (three slashes: a file here; four: an absolute path) or postgresql://user@host/name",
        3,
    )


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_spelling_of_postgresql_means_the_same_driver(scheme: str) -> None:
    assert parse_url(f"{scheme}://ann@host/kasoko").drivername == "postgresql+psycopg"


def test_a_server_that_goes_away_in_a_transaction_is_said_to_be_gone(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgres_server")
    db = Database(server)
    with pytest.raises(DatabaseUnavailable) as gone, db.transaction() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert gone.value.message.endswith("What was committed before stands, and nothing else was changed.")
    with pytest.raises(DatabaseUnavailable) as gone_too, db.direct() as direct:
        direct.first("SELECT pg_terminate_backend(pg_backend_pid())")
    assert gone_too.value.message == gone.value.message
    with db.direct() as direct:  # by a new connection
        assert direct.first("SELECT 1") == (1,)
    db.close()


def test_a_server_that_takes_no_writes_is_said_to_be_unavailable(db: Database) -> None:
    """A replica, or a standby that is not the primary yet."""
    if db.is_sqlite:
        return

    def write() -> None:
        with db.transaction() as session:
            session.execute(text("SET TRANSACTION READ ONLY"))
            session.add(_user("ann"))
            session.flush()

    def write_directly() -> None:
        with db.direct() as direct:
            direct.cursor.execute("SET TRANSACTION READ ONLY")
            insert_directly(direct, User, COLUMNS, [PERSON])

    for way in (write, write_directly):
        with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
            way()
