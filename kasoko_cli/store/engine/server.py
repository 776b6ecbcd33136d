"""What a PostgreSQL server is told: who we are, and at each transaction what it has to be.

A role, a database or a pooler may have set anything for a session: read-only, another encoding, a timeout. So
nothing here rests on the session. Each transaction begins with all that it needs, in one message (`SET LOCAL`, which
ends with it), no statement is prepared on the server, and no option is given at the start that a pooler might not
know. That is what PgBouncer needs in its transaction mode, too.

It imports neither SQLAlchemy nor the driver: `store.engine.driver_reads` uses it where an answer must come at once.
"""

from __future__ import annotations

import os
import socket
from typing import Any, ClassVar, Literal

#: How long one waits for what another has locked. Whoever waits in vain is told on whom.
LOCK_SECONDS = 30
#: How long a transaction that writes may do nothing: a process that was stopped in it blocks the others no longer.
IDLE_SECONDS = 120
#: How long one statement of such a transaction may take: a process that is stopped while it loads rows is not idle.
STATEMENT_SECONDS = 600
#: How long one that reads may do nothing; it blocks nobody who writes. Its reader may be a person with a pager.
READ_IDLE_SECONDS = 3_600
#: How long a connection may be dead before it is noticed.
DEAD_SECONDS = 60
#: How long a server is waited for that is starting, and one that lets nobody connect: it may be about to start.
STARTING_SECONDS, REFUSED_SECONDS = 600, 10
#: What a name of an application may have at most. Source: PostgreSQL, NAMEDATALEN - 1.
_LONGEST_NAME = 63

#: What a transaction is for; an upgrade of the tables may compute for long between two statements.
Purpose = Literal["write", "read", "upgrade"]

#: How a transaction behaves, in seconds: idle in it, and one statement of it; 0 is no limit.
_LIMITS: dict[Purpose, tuple[int, int]] = {
    "write": (IDLE_SECONDS, STATEMENT_SECONDS),
    "read": (READ_IDLE_SECONDS, 0),
    "upgrade": (STATEMENT_SECONDS, 0),
}
_MODES: dict[Purpose, str] = {
    "write": "READ COMMITTED READ WRITE",
    "read": "REPEATABLE READ READ ONLY",
    "upgrade": "READ COMMITTED READ WRITE",
}

#: Who has had a transaction open for longest that holds locks others wait for, and does not wait for one itself.
_KEEPER = """
SELECT a.application_name, host(a.client_addr), a.pid, extract(epoch FROM now() - a.xact_start)::int, a.state
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
  AND a.wait_event_type IS DISTINCT FROM 'Lock'
  AND EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.granted
              AND l.locktype <> 'virtualxid' AND l.mode NOT IN ('AccessShareLock', 'SIReadLock'))
ORDER BY a.xact_start LIMIT 1
"""


class _Process:
    """Which command this process is, for the server's list of sessions."""

    command: ClassVar[str] = "kasoko"


def called(command: str) -> None:
    """Say which command this process is: `kasoko payout send`."""
    _Process.command = command


def host_name() -> str:
    """What this machine calls itself; KASOKO_HOST names it otherwise."""
    return os.environ.get("KASOKO_HOST") or socket.gethostname()


def application_name() -> str:
    """`kasoko payout send on alpha 4711`: the command, the host and the process, as the server lists them."""
    end = f" {os.getpid()}"
    return f"{_Process.command} on {host_name()}"[: _LONGEST_NAME - len(end)] + end


def connect_args() -> dict[str, Any]:
    """What the driver is given beside the address. Our own BEGIN begins transactions, so that it says everything."""
    return {
        "autocommit": True,
        "prepare_threshold": None,
        "connect_timeout": 10,
        "application_name": application_name(),
        "client_encoding": "utf8",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": DEAD_SECONDS * 1_000,
    }


#: The server's own end of a connection that has died: once for each, since a pooler has one of its own to look after.
NOTICES_THE_DEAD = (
    "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;"
    f" SET tcp_user_timeout = {DEAD_SECONDS * 1_000}"
)


def beginning(purpose: Purpose) -> str:
    """What begins a transaction: what it may do, how long it waits, and how text and times are written."""
    idle, statement = _LIMITS[purpose]
    settings = {
        "lock_timeout": f"{LOCK_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{idle}s",
        "statement_timeout": f"{statement}s",
        "client_encoding": "UTF8",
        "DateStyle": "ISO, YMD",
        "TimeZone": "UTC",
        "standard_conforming_strings": "on",
    }
    said = [f"BEGIN ISOLATION LEVEL {_MODES[purpose]}", *(f"SET LOCAL {k} = '{v}'" for k, v in settings.items())]
    if purpose != "read":
        # A commit that a power cut takes back forgets what has left. A stronger setting than `on` is let be.
        said.append(
            "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
        )
    return "; ".join(said)


def cannot_be_used(connection: Any) -> str:
    """Why a server that was connected to cannot hold our records, in words; empty where it can."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding in (None, "UTF8"):
        return ""
    return f"its encoding is {encoding}, and names and notes need UTF8"


def keeper(address: str) -> str:
    """Who has kept others waiting longest, in words; empty if no such session is visible."""
    import psycopg

    try:
        with psycopg.connect(address, **connect_args()) as connection:
            found = connection.execute(_KEEPER).fetchone()
    except psycopg.Error:
        return ""
    if found is None:
        return ""
    name, host, pid, seconds, state = found
    where = f"server process {pid}" + (f", from {host}" if host else "")
    idle = ", and does nothing in it" if str(state).startswith("idle") else ""
    return f"{name or 'a program without a name'} ({where}) has had a transaction open for {seconds} s{idle}"
