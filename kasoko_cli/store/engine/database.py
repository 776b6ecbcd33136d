"""The engine, its pragmas, and the ways in: `transaction()` to write, `reading()` to read.

`direct()` writes too, in the driver's own words: it is for what comes thousands of times a second. Nothing
else commits. On SQLite a writer begins with BEGIN IMMEDIATE, so that what it reads first cannot have changed
by the time it writes, and every commit is on the disk when it returns (`synchronous=FULL`): a commit that a
power cut can undo would forget an instruction that has left.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, make_url, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError, OperationalError
from sqlmodel import Session

from kasoko_cli.clock import eat
from kasoko_cli.domain.addresses import shown_address, without_passwords
from kasoko_cli.errors import Busy, ConfigurationError, DatabaseClosed, DatabaseUnavailable, SchemaOutOfDate
from kasoko_cli.kill_points import COMMIT_AFTER, COMMIT_BEFORE, point
from kasoko_cli.store.engine import closing, hash_chain, server
from kasoko_cli.store.engine.driver import Direct, as_sqlalchemy_says
from kasoko_cli.store.engine.file_trouble import trouble_with_file
from kasoko_cli.store.migrations.version import head_version as head_version

#: What PostgreSQL says when two transactions stand in each other's way: a deadlock, a serialization failure.
_COLLISIONS = frozenset({"40P01", "40001"})
#: What it says where it takes no writes: a replica, or a standby that is not yet the primary.
_READ_ONLY, _NOT_SUPPORTED = "25006", "0A000"
#: What it says where it has waited or let wait for too long: a lock, a statement, a transaction that does nothing.
_LOCK_TIMEOUT, _STATEMENT_TIMEOUT, _IDLE_TIMEOUT = "55P03", "57014", "25P03"
#: How long a writer waits for another one before it gives up.
BUSY_SECONDS = 30
#: How a transaction of SQLite begins, by whether it writes.
_BEGIN = {True: ("PRAGMA query_only=OFF", "BEGIN IMMEDIATE"), False: ("PRAGMA query_only=ON", "BEGIN DEFERRED")}


class Database:
    """One database of records, books and work to do.

    Its methods may be called from several threads; each call has its own connection.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self.engine = _engine(self.url)
        #: Who writes. SQLite has one writer, and lets others look again after some time; here they are told at once.
        self._turn = threading.Lock() if self.is_sqlite else None

    def __repr__(self) -> str:
        return f"Database({self.shown_url!r})"

    @property
    def shown_url(self) -> str:
        """The address as an operator writes it, without its password."""
        return _shown(self.url)

    @property
    def place(self) -> str:
        """Where it is, so that nobody takes it for another: a file by its whole path, or the address."""
        return str(Path(str(self.url.database)).resolve()) if self.is_sqlite else self.shown_url

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded database."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits if the body ends well and leaves nothing behind if it does not.

        Raises:
            Busy: another process kept the database locked for too long.
            DatabaseUnavailable: the database went away.
        """
        with self._its_turn() as take_turn, self._session(writes=True, take_turn=take_turn) as session:
            with session.begin():
                yield session
                hash_chain.seal(session)
                point(COMMIT_BEFORE)
            point(COMMIT_AFTER)

    @contextmanager
    def direct(self) -> Iterator[Direct]:
        """A transaction as `transaction()` has, without SQLAlchemy, whose own work takes longer than a short commit.

        What is chained has to be chained by whoever writes it here.

        Raises:
            Busy: another process kept the database locked for too long.
            DatabaseUnavailable: the database went away.
        """
        dialect = self.engine.dialect
        with self._its_turn() as take_turn, self._in_our_words(writes=True), as_sqlalchemy_says(dialect) as gone:
            connection = self.engine.raw_connection()
            try:
                take_turn()
                cursor = connection.cursor()
                for statement in _BEGIN[True] if self.is_sqlite else (server.beginning("write"),):
                    cursor.execute(statement)
                yield Direct(cursor, dialect)
                point(COMMIT_BEFORE)
                connection.commit()
            except dialect.loaded_dbapi.Error as error:
                if dialect.is_disconnect(error, connection, None):
                    gone.add(error)
                    connection.invalidate(error)
                raise
            finally:
                connection.close()  # gives it back, and takes back what was not committed
            point(COMMIT_AFTER)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session on one unchanging picture of the database; it cannot write."""
        with self._session(writes=False) as session:
            yield session

    @contextmanager
    def _session(self, *, writes: bool, take_turn: Callable[[], None] | None = None) -> Iterator[Session]:
        options: dict[str, Any] = {"kasoko_writes": writes, "kasoko_take_turn": take_turn}
        with (
            self._in_our_words(writes=writes),
            self.engine.connect().execution_options(**options) as connection,
            _session(connection) as session,
        ):
            yield session

    @contextmanager
    def _its_turn(self) -> Iterator[Callable[[], None]]:
        """What to call before a transaction writes to a file: it waits for the other threads of this process."""
        is_ours = False

        def take_turn() -> None:
            nonlocal is_ours
            if self._turn is not None and not is_ours:
                is_ours = self._turn.acquire(timeout=BUSY_SECONDS)
                if not is_ours:
                    raise _locked(self)

        try:
            yield take_turn
        finally:
            if is_ours and self._turn is not None:
                self._turn.release()

    @contextmanager
    def _in_our_words(self, *, writes: bool) -> Iterator[None]:
        """Raise what the driver reports about the database as our own errors."""
        try:
            yield
        except OperationalError as error:
            raise _unavailable(self, error) from error
        except DBAPIError as error:
            if writes and closing.is_refusal(error) and (closed := find_closed(self)):
                raise closed from error
            if error.connection_invalidated or (writes and _takes_no_writes(error)):
                raise _unavailable(self, error) from error
            raise

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()


class WithinTransaction(Database):
    """A database whose transactions are parts of one that is open already: all of them stand, or none.

    A part that fails leaves nothing behind; what was done before it is not lost.
    """

    def __init__(self, db: Database, session: Session) -> None:
        self.url, self.engine = db.url, db.engine
        self._outer = session

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A part of the transaction that is open."""
        with self._outer.begin_nested():
            yield self._outer

    @contextmanager
    def direct(self) -> Iterator[Direct]:
        """The same in the driver's words."""
        connection = self._outer.connection()
        with self._outer.begin_nested(), as_sqlalchemy_says(connection.dialect):
            yield Direct(connection.connection.cursor(), connection.dialect)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """What the open transaction sees."""
        yield self._outer

    def close(self) -> None:
        """Whoever opened the transaction has the connections."""


def _shown(url: URL) -> str:
    return shown_address(_whole(url))


def _whole(url: URL) -> str:
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False)


def _session(connection: Connection) -> Session:
    """Rows keep their values after the commit: an operation may answer with what it has written."""
    return Session(connection, expire_on_commit=False)


def parse_url(url: str) -> URL:
    """A database address as SQLAlchemy reads it; `postgresql://` means psycopg 3.

    Raises:
        ConfigurationError: it is not an address of SQLite or PostgreSQL.
    """
    hint = (
        "Write sqlite:///kasoko.db (three slashes: a file here; four: an absolute path) or postgresql://user@host/name"
    )
    if url.partition("?")[0].count("@") > 1:
        raise ConfigurationError(
            "The database address cannot be read: it has more than one @ before its parameters.",
            hint="In a user and a password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25.",
        )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # whose words may have a part of a password
        raise ConfigurationError("The database address cannot be read.", hint=hint) from None
    backend = parsed.get_backend_name()
    if backend == "postgres":
        backend = "postgresql"
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigurationError(
            f"The database address begins with {backend!r}; SQLite or PostgreSQL is needed.", hint=hint
        )
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigurationError("A database in memory would forget every payout when the command ends.", hint=hint)
    return parsed.set(drivername="sqlite+pysqlite")


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # the driver must not begin transactions of its own
            cursor = connection.cursor()
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                f"busy_timeout={BUSY_SECONDS}000",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            options = connection.get_execution_options()
            if take_turn := options.get("kasoko_take_turn"):
                take_turn()
            for statement in _BEGIN[options.get("kasoko_writes", True)]:
                connection.exec_driver_sql(statement)

        return engine
    try:
        # Without hstore, which is looked for in a transaction that would begin without a word of ours.
        engine = create_engine(
            url, pool_pre_ping=True, connect_args=server.connect_args(), use_native_hstore=False, hide_parameters=True
        )
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigurationError(
            "This is a PostgreSQL address, and its driver is not installed.",
            hint="Install it where kasoko is installed: pip install 'psycopg[binary]'",
        ) from error

    @event.listens_for(engine, "connect")
    def _look(connection: Any, _record: object) -> None:
        if why := server.cannot_be_used(connection):
            raise ConfigurationError(
                f"The database {_shown(url)} cannot be used: {why}. Nothing was changed.",
                hint="Make another for it: CREATE DATABASE kasoko TEMPLATE template0 ENCODING 'UTF8'",
            )
        connection.execute(server.NOTICES_THE_DEAD)

    @event.listens_for(engine, "begin")
    def _begin_on_a_server(connection: Connection) -> None:
        options = connection.get_execution_options()
        purpose: server.Purpose = "write" if options.get("kasoko_writes", True) else "read"
        connection.exec_driver_sql(server.beginning("upgrade" if options.get("kasoko_upgrade") else purpose))

    return engine


def _locked(db: Database) -> Busy:
    return Busy(
        f"Another process has kept the database {db.shown_url} locked for {BUSY_SECONDS} seconds. Nothing was changed.",
        hint="Wait for the other run and try again. If none runs, look for a program that keeps the file open.",
    )


def _kept(db: Database) -> Busy:
    """The error when another session has kept locked for too long what this one needs; it names that session."""
    who = server.keeper(_whole(db.url))
    return Busy(
        f"Another session has kept locked what this needs of {db.shown_url}, for {server.LOCK_SECONDS} seconds:"
        f" {who or 'which one is not to be seen any more'}. Nothing was changed.",
        hint=f"Run it again: the server ends a transaction of kasoko that does nothing for {server.IDLE_SECONDS} s."
        " If it is another program's, end that.",
    )


def _takes_no_writes(error: DBAPIError) -> bool:
    """Whether the server is a replica, or a standby that is not the primary yet."""
    state = getattr(error.orig, "sqlstate", None)
    return state == _READ_ONLY or (state == _NOT_SUPPORTED and "recovery" in str(error.orig))


def _unavailable(db: Database, error: DBAPIError) -> ConfigurationError | Busy:
    reason = (
        str(error.orig).strip().splitlines()[0] if error.orig is not None and str(error.orig).strip() else "no answer"
    )
    reason = without_passwords(reason, _whole(db.url))
    state = getattr(error.orig, "sqlstate", None)
    if state in _COLLISIONS:
        return Busy(
            f"Another process changed the same rows of {db.shown_url} at the same moment. Nothing was changed.",
            hint="Run it again.",
        )
    if state == _LOCK_TIMEOUT:
        return _kept(db)
    if state == _STATEMENT_TIMEOUT:
        return Busy(
            f"A statement took longer than the {server.STATEMENT_SECONDS} seconds that one may have on"
            f" {db.shown_url}, and the server ended it. Nothing was changed.",
            hint="Run it again when the server has less to do: kasoko status",
        )
    if state == _IDLE_TIMEOUT:
        reason = (
            "this process was stopped or asleep in a transaction for too long, and the server ended it"
            f" ({server.IDLE_SECONDS} s)"
        )
    if "statement pooling" in reason:
        return ConfigurationError(
            f"The pooler before {db.shown_url} is in its statement mode, which knows no transactions. Nothing was"
            " changed.",
            hint="Set pool_mode = transaction or session in PgBouncer, or point database.url at the server itself.",
        )
    if db.is_sqlite and ("locked" in reason or "busy" in reason):
        return _locked(db)
    if db.is_sqlite and (trouble := trouble_with_file(Path(str(db.url.database)), reason)) is not None:
        what, hint = trouble
        return DatabaseUnavailable(
            f"The database {db.place} {what}. What was committed before stands, and nothing else was changed.",
            hint=hint,
        )
    gone = DatabaseUnavailable(
        f"The database {db.shown_url} cannot be used: {reason}. What was committed before stands, and nothing"
        " else was changed.",
        hint="Check the address (kasoko config show --origin) and that the server runs or the file may be written.",
    )
    if _takes_no_writes(error):
        gone = DatabaseUnavailable(
            f"The database {db.shown_url} is a replica, or one that takes no writes now: {reason}. What was committed"
            " before stands, and nothing else was changed.",
            hint="Point database.url (--database) at the primary; only what reads may have a replica's address.",
        )
        gone.is_replica = True
    if "the database system is" in reason or "not yet accepting connections" in reason:
        gone.wait_seconds = server.STARTING_SECONDS
    elif any(away in reason for away in _AWAY) or ("No such file" in reason and "on socket" in reason):
        gone.wait_seconds = server.REFUSED_SECONDS
    return gone


#: What is heard of a server that is restarting, while nobody is connected yet.
_AWAY = ("Connection refused", "failed: server closed the connection unexpectedly")

#: The hint where a database is missing: whoever makes a new one would pay everybody again.
_WHERE_IS_IT = (
    "Is it in another folder, or on another name (--database URL)? Is there a backup (kasoko db restore FILE)? A new"
    " database does not know who was paid, and would pay them again. Only for a first one: kasoko init"
)


def open_database(url: str, *, check_schema: bool = True, with_tables: bool = False) -> Database:
    """Open a database that exists and has the tables of this program; `with_tables` wants some of any version.

    Raises:
        DatabaseUnavailable: there is none, it cannot be opened, or it is something else.
        SchemaOutOfDate: its tables are of another version.
    """
    db = Database(url)
    if db.is_sqlite and not Path(str(db.url.database)).exists():
        raise DatabaseUnavailable(f"There is no database at {db.place}.", hint=_WHERE_IS_IT)
    if check_schema or with_tables:
        try:
            _check_schema(db, any_version=not check_schema)
        except BaseException:
            db.close()  # the caller gets no database to close
            raise
    return db


def _check_schema(db: Database, *, any_version: bool) -> None:
    found, wanted = schema_version(db), head_version()
    if found is None:
        raise SchemaOutOfDate(f"The database {db.shown_url} has no kasoko tables.", hint=_WHERE_IS_IT)
    if found != wanted and not any_version:
        newer = found > wanted
        raise SchemaOutOfDate(
            f"The database {db.shown_url} has tables of version {found}; this program needs {wanted}."
            " Nothing was changed.",
            hint="This kasoko is older than the database: install the newer one."
            if newer
            else "Take a backup (kasoko db backup FILE), then: kasoko db upgrade",
        )


def schema_version(db: Database) -> str | None:
    """The version of the tables, or None where there are none. One line of SQL, since Alembic is slow to import."""
    try:
        with db.engine.connect().execution_options(kasoko_writes=False) as connection:
            if not db.engine.dialect.has_table(connection, "alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DatabaseError as error:
        raise _unavailable(db, error) from error


def find_mark(db: Database) -> closing.Mark | None:
    """What a database that has tables, of any version, knows of the last copy that it was part of."""
    if (schema_version(db) or "") < closing.SINCE:
        return None
    try:
        with db.engine.connect().execution_options(kasoko_writes=False) as connection:
            return closing.find_mark(connection)
    except DatabaseError as error:
        raise _unavailable(db, error) from error


def find_closed(db: Database) -> DatabaseClosed | None:
    """Why a database that has tables takes no writes, and what to do; None where it takes them."""
    mark = find_mark(db)
    if mark is None or mark.why is None or mark.at is None:
        return None
    if mark.why is closing.Why.MOVED:
        return DatabaseClosed(
            f"The database {db.shown_url} was moved to {mark.elsewhere} at {eat(mark.at)}, and takes no writes since."
            " Nothing was changed.",
            hint="Point database.url (KASOKO_DATABASE_URL, --database) there. This one can still be read. Was the move"
            " not finished? kasoko db copy with that address, where the settings still name this one, finishes it.",
        )
    return DatabaseClosed(
        f"The database {db.shown_url} is a copy of {mark.elsewhere} that was begun at {eat(mark.at)} and is not"
        " finished: nothing is sent from it. Nothing was changed.",
        hint="Finish it: kasoko db copy with the address of this one, where the settings name the other. If you gave"
        " the move up, point database.url at the other.",
    )


def hold_open(db: Database) -> None:
    """Hold that a database with tables takes writes.

    Raises:
        DatabaseClosed: it has moved elsewhere, or is a copy that is not finished.
    """
    if closed := find_closed(db):
        raise closed


def _create_private(file: Path) -> None:
    """A new database file is readable by its owner only, since it holds names and phones."""
    with suppress(OSError):  # it is there already, or SQLite will say why it cannot be written
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def deployment_of(db: Database) -> str:
    """Whose database it is: the id that goes into the id of every attempt. It has tables, of any version."""
    try:
        with db.engine.connect().execution_options(kasoko_writes=False) as connection:
            return str(connection.execute(text("SELECT deployment_id FROM deployment")).scalar_one())
    except DatabaseError as error:
        raise _unavailable(db, error) from error


def find_deployment(url: str) -> str | None:
    """Whose database there is at this address; None where there is none, or one without tables.

    Raises:
        DatabaseUnavailable: it cannot be opened.
    """
    db = Database(url)
    try:
        if db.is_sqlite and not Path(str(db.url.database)).exists():
            return None
        return None if schema_version(db) is None else deployment_of(db)
    finally:
        db.close()


def hold_to_deployment(place: str, found: str, wanted: str | None) -> None:
    """Hold that a database is of the deployment that the settings name, where they name one.

    Raises:
        ConfigurationError: it is of another one.
    """
    if wanted is not None and found != wanted:
        raise ConfigurationError(
            f"The database {place} is of the deployment {found}, and the settings are of {wanted}."
            " Nothing was changed.",
            hint="Name the database of this deployment (--database URL, database.url), or run where the kasoko.toml of"
            f" that database is: database.deployment = {found}",
        )


def upgrade(
    url: str, *, deployment: str | None = None, then: Callable[[Connection], None] | None = None
) -> tuple[str | None, str]:
    """Create the tables or bring them to this program's version; returns from which version to which.

    A new database is of `deployment`, or else of one of its own. What is to be done with it `then` is part of it.

    All of it is one transaction: an upgrade that fails or is killed changes nothing. Two processes may call it at
    once: one works, the other waits and finds nothing to do.

    Raises:
        DatabaseUnavailable: the database cannot be opened or written.
        SchemaOutOfDate: the database is newer than this program.
        DatabaseClosed: it has moved elsewhere, or is a copy that is not finished.
    """
    from alembic import command
    from alembic.config import Config

    db = Database(url)
    if db.is_sqlite:
        parent = Path(str(db.url.database)).parent
        if not parent.is_dir():
            raise DatabaseUnavailable(
                f"The database {db.url.database} cannot be created: there is no folder {parent}.",
                hint=f"Make the folder first: mkdir -p {parent}",
            )
        _create_private(Path(str(db.url.database)))
    try:
        found, head = schema_version(db), head_version()
        if found is not None and found > head:
            raise SchemaOutOfDate(
                f"The database {db.shown_url} has tables of version {found}; this program knows only {head}.",
                hint="Install the newer kasoko; tables are never taken back by themselves.",
            )
        if found == head and then is None:
            return found, head
        if found is not None:
            hold_open(db)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        config = Config()
        config.set_main_option("script_location", "kasoko_cli:store/migrations")
        with db.engine.execution_options(
            kasoko_upgrade=True
        ).begin() as connection:  # all migrations in one transaction: the next process waits for all
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if found is None and deployment is not None:
                connection.execute(text("UPDATE deployment SET deployment_id = :name"), {"name": deployment})
            if then is not None:
                then(connection)
    except DatabaseError as error:
        raise _unavailable(db, error) from error
    else:
        return found, head
    finally:
        db.close()
