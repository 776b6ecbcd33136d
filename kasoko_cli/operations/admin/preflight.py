"""What a real run needs, looked at one by one: each as it should be, to be watched, or to be mended, and how.

Settings are handed in as plain values. A check that cannot be made says so; none hides another.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from shutil import disk_usage
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from sqlalchemy import func, text
from sqlmodel import Session, col, select

from kasoko_cli.clock import NAIROBI, Clock, eat
from kasoko_cli.daraja import credentials, probe
from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.daraja.probe import Seen, Unseen
from kasoko_cli.daraja.wire import DIRECT, Route
from kasoko_cli.domain.counts import count_of
from kasoko_cli.domain.float_cover import FloatCheck
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.payer import Payer
from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.errors import KasokoError
from kasoko_cli.operations.account import balances
from kasoko_cli.operations.account.payer import check_account
from kasoko_cli.operations.monitoring.health import HealthLimits, late_markets
from kasoko_cli.operations.payouts.float_check import GatePolicy
from kasoko_cli.operations.shared import run_registry
from kasoko_cli.operations.shared.overview import DEAD_SECONDS, is_dead
from kasoko_cli.store import attempts, balance_readings, callbacks, payouts
from kasoko_cli.store.engine.database import Database, find_closed, head_version, schema_version
from kasoko_cli.store.log import note_event, open_incidents, switches_on, words_about
from kasoko_cli.store.monitoring import metrics
from kasoko_cli.store.monitoring.future_dates import dated_ahead
from kasoko_cli.store.schema.tables import Attempt

#: M-Pesa lets an initiator's password grow so old. Source: Daraja portal, transaction status page, questions.
PASSWORD_DAYS = 90
#: From then on its age is a warning.
PASSWORD_WARN_DAYS = 76
#: A certificate that ends sooner is a warning.
CERTIFICATE_WARN_DAYS = 21
#: SQLite's versions in which a checkpoint can lose what another process wrote to the WAL at that moment.
#: Source: sqlite.org, "Write-Ahead Logging", the WAL-reset bug.
WAL_RACE = ((3, 7, 0), (3, 51, 2))
#: Free room on the disk of the database, in bytes: below it is a failure, or a warning.
LEAST_FREE, LITTLE_FREE = 100 * 2**20, 2**30
#: How far the clock may be off M-Pesa's, in seconds: a warning, a failure.
SKEW_WARN, SKEW_FAIL = 30, 300
#: A payment that M-Pesa took so long ago, without anything heard since, speaks against the listener.
SILENCE_SECONDS = 900
#: How the making of a credential is written down.
ENCRYPTED = "credential.encrypt"


class CheckState(StrEnum):
    """How one thing was found."""

    #: As it should be.
    OK = "ok"
    #: A run is possible; somebody should look.
    WARN = "warn"
    #: A run would fail, or would not be safe.
    FAIL = "FAIL"
    #: It could not be looked at, or does not apply.
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: what it found, and what to type where something is to be done."""

    check: str
    state: CheckState
    says: str
    remedy: str = ""


Check = Callable[[], Iterable[CheckResult]]


def ok(check: str, says: str) -> CheckResult:
    """It is as it should be."""
    return CheckResult(check, CheckState.OK, says)


def warn(check: str, says: str, remedy: str) -> CheckResult:
    """Somebody should look."""
    return CheckResult(check, CheckState.WARN, says, remedy)


def fail(check: str, says: str, remedy: str) -> CheckResult:
    """A run would fail, or would not be safe."""
    return CheckResult(check, CheckState.FAIL, says, remedy)


def skip(check: str, why: str) -> CheckResult:
    """It was not looked at."""
    return CheckResult(check, CheckState.SKIP, why)


def examine(check: str, look: Check) -> list[CheckResult]:
    """What a check finds; whatever goes wrong in it is a finding too, and keeps no other from being made."""
    try:
        return list(look())
    except KasokoError as error:
        return [fail(check, error.message, f"{error.hint}: kasoko doctor" if error.again else error.hint)]
    except Exception as error:
        return [fail(check, f"It could not be looked at: {type(error).__name__}.", "kasoko doctor --verbose")]


# --- Files ---------------------------------------------------------------------------------------


def private_files(files: Sequence[Path]) -> Iterable[CheckResult]:
    """Files that hold secrets or people's numbers are for their owner alone."""
    there = [file for file in files if file.exists()]
    open_ones = [file for file in there if stat.S_IMODE(file.stat().st_mode) & 0o077]
    for file in open_ones:
        yield warn("private files", f"Others on this machine can read {file}.", f"chmod 600 {file}")
    if not open_ones:
        yield ok("private files", f"Only their owner can read them: {', '.join(map(str, there)) or 'none is there'}.")


def room(folder: Path) -> Iterable[CheckResult]:
    """Free room where the database lies."""
    free = disk_usage(folder).free
    says = f"{free / 2**30:,.1f} GiB are free at {folder}."
    if free < LEAST_FREE:
        yield fail("disk", says, "Make room: a full disk stops a run in the middle, and nothing is written any more.")
    else:
        yield warn("disk", says, "Make room before it is full.") if free < LITTLE_FREE else ok("disk", says)


# --- The database --------------------------------------------------------------------------------


def tables(db: Database) -> Iterable[CheckResult]:
    """The tables are of this program's version, and take writes."""
    found, head = schema_version(db), head_version()
    if closed := find_closed(db):
        yield fail("tables", closed.message, closed.hint)
    elif found == head:
        yield ok("tables", f"They are of version {head}, as this program needs.")
    elif found is None:
        yield fail("tables", "The database has no kasoko tables.", "Is it the right one? A first one: kasoko init")
    elif found > head:
        yield fail("tables", f"They are of version {found}; this program knows {head}.", "Install the newer kasoko.")
    else:
        says = f"They are of version {found}; this program needs {head}."
        yield fail("tables", says, "kasoko db backup FILE, then: kasoko db upgrade")


def _asked(session: Session, words: str) -> Any:
    return session.connection().execute(text(words)).scalar()


def server(db: Database) -> Iterable[CheckResult]:
    """The server takes writes, and what stands before it is known."""
    if db.is_sqlite:
        yield skip("server", "SQLite has none.")
        return
    with db.reading() as session:
        version, is_replica = _asked(session, "SHOW server_version"), _asked(session, "SELECT pg_is_in_recovery()")
        is_read_only = _asked(session, "SHOW default_transaction_read_only") == "on"
        ours, theirs = session.connection().connection.driver_connection, _asked(session, "SELECT pg_backend_pid()")
        is_pooled = ours is not None and ours.info.backend_pid != theirs
    if is_replica:
        yield fail("server", "It is a replica, and takes no writes.", "Point database.url at the primary.")
        return
    if is_read_only:
        says = (
            "The role or the database is set to read-only; kasoko writes all the same, since each transaction says so."
        )
        yield warn("server", says, "ALTER ROLE ... RESET default_transaction_read_only, or use another role.")
    behind = ", behind a pooler: each transaction brings all its settings, so its transaction mode will do"
    yield ok("server", f"PostgreSQL {version}{behind if is_pooled else ''}.")


def durability(db: Database, sqlite_version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Iterable[CheckResult]:
    """What a commit is worth: an instruction that has left must be on the disk."""
    with db.reading() if db.is_sqlite else db.transaction() as session:
        if not db.is_sqlite:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                value = str(_asked(session, f"SHOW {name}"))
                if value == "off":
                    says = f"PostgreSQL has {name} = off: a power cut forgets what left."
                    yield fail("durability", says, f"ALTER SYSTEM SET {name} = on, then reload it.")
                else:
                    yield ok("durability", f"PostgreSQL has {name} = {value}.")
            return
        journal = str(_asked(session, "PRAGMA journal_mode"))
        synchronous = int(_asked(session, "PRAGMA synchronous") or 0)
    if journal != "wal" or synchronous < 2:
        says = f"SQLite has journal_mode={journal} and synchronous={synchronous}, and not WAL and FULL."
        yield fail("durability", says, "Keep the file on a local disk: WAL does not work over NFS.")
    else:
        yield ok("durability", "SQLite writes ahead (WAL) and syncs each commit (FULL).")
    version = ".".join(map(str, sqlite_version))
    if WAL_RACE[0] <= sqlite_version <= WAL_RACE[1]:
        yield warn(
            "sqlite version",
            f"SQLite {version} has a rare race between processes that write at the same moment (the WAL-reset bug).",
            "Use a Python with SQLite 3.51.3 or newer, or PostgreSQL; take backups until then: kasoko db backup FILE",
        )
    else:
        yield ok("sqlite version", f"SQLite {version}.")


# --- Time ----------------------------------------------------------------------------------------


def time_zone() -> Iterable[CheckResult]:
    """kasoko counts Nairobi's days as UTC+3; where the machine knows the zone, it must say the same."""
    import zoneinfo

    try:
        zone = zoneinfo.ZoneInfo("Africa/Nairobi")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        yield ok("time zone", "This machine has no time zone data, and kasoko needs none: Nairobi is UTC+3.")
        return
    moment = datetime.now(UTC)
    if moment.astimezone(zone).utcoffset() == NAIROBI.utcoffset(None):
        yield ok("time zone", "Nairobi is UTC+3, as this machine's time zone data say too.")
    else:
        says = (
            f"This machine says that Nairobi is UTC{moment.astimezone(zone):%z}, and kasoko counts its days as UTC+3."
        )
        yield fail("time zone", says, "Report it: the limit of a day would be counted wrongly.")


# --- The credential and the key ------------------------------------------------------------------


def credential(sealed: str, *, environment: str, is_safaricoms: bool) -> Iterable[CheckResult]:
    """The encrypted password looks as one does: 344 characters of base64, and a number below the key's modulus."""
    remedy = f"kasoko credential encrypt --environment {environment}"
    wrong = ""
    try:
        raw = base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        raw, wrong = b"", "is not base64: is it the password itself, not encrypted?"
    if not wrong and (len(sealed) != 344 or len(raw) != 256):
        wrong = f"has {count_of(len(sealed), 'character')}, and an encrypted password has 344"
    if not wrong and is_safaricoms:
        key = x509.load_pem_x509_certificate(credentials.bundled_certificate(environment)).public_key()
        if int.from_bytes(raw) >= key.public_numbers().n:  # type: ignore[union-attr]
            wrong = f"was not encrypted with Safaricom's key for {environment}"
    if wrong:
        yield fail("credential", f"MPESA_SECURITY_CREDENTIAL_ENCRYPTED {wrong}.", remedy)
    else:
        yield ok("credential", "It looks like an encrypted password: 344 characters of base64.")


def credential_subject(sealed: str) -> str:
    """The name under which the making of a credential is written down; it does not reveal the credential."""
    import hashlib

    return f"credential:{hashlib.sha256(sealed.encode()).hexdigest()[:16]}"


def note_encrypted(db: Database, clock: Clock, *, actor: str, reason: str, sealed: str, environment: str) -> None:
    """Write down when a credential was made, so that its age is known."""
    with db.transaction() as session:
        note_event(
            session,
            at=clock(),
            actor=actor,
            action=ENCRYPTED,
            subject=credential_subject(sealed),
            reason=reason,
            detail={"environment": environment},
        )


def credential_age(session: Session | None, now: datetime, sealed: str, set_on: date | None) -> Iterable[CheckResult]:
    """How old the password is, by the setting or by the record of its encryption; M-Pesa ends it after 90 days."""
    made, source = set_on, "was set"
    if made is None and session is not None:
        acts = words_about(session, credential_subject(sealed), ENCRYPTED)
        noted = min((act.at for act in acts), default=None)
        made, source = (None if noted is None else noted.astimezone(NAIROBI).date()), "was encrypted"
    if made is None:
        yield warn(
            "password age",
            f"Nobody wrote down when the password was set; M-Pesa ends it after {PASSWORD_DAYS} days.",
            "Set daraja.security_credential_set_on in kasoko.toml, or make it anew: kasoko credential encrypt",
        )
        return
    days = (now.astimezone(NAIROBI).date() - made).days
    says = f"The initiator's password {source} {count_of(days, 'day')} ago; M-Pesa ends it after {PASSWORD_DAYS}."
    remedy = "Have a new one set on the M-Pesa portal, then: kasoko credential encrypt"
    if days >= PASSWORD_WARN_DAYS:
        make = fail if days >= PASSWORD_DAYS else warn
        yield make("password age", says, remedy)
    else:
        yield ok("password age", says)


def callback_key(key: bytes) -> Iterable[CheckResult]:
    """A key that somebody could guess lets them post results."""
    if len(set(key)) < len(key) // 3 or key in key[1:] + key[:-1]:
        says = "KASOKO_CALLBACK_KEY repeats itself, so that it could be guessed."
        yield fail("callback key", says, "When no payout is under way: openssl rand -hex 32, and set it in .env")
    else:
        yield ok("callback key", f"It has {len(key)} bytes and does not repeat itself.")


# --- The network ---------------------------------------------------------------------------------


def daraja(base_url: str, clock: Clock, route: Route = DIRECT) -> Iterable[CheckResult]:
    """M-Pesa answers, its certificate holds, and our clock agrees with its own."""
    before = clock()
    proxy = route.proxy_to(urlsplit(base_url).hostname or "")
    seen = probe.look(base_url + "/", context=route.tls_context(), proxy=proxy)
    middle = before + (clock() - before) / 2
    if isinstance(seen, Unseen):
        remedy = "Check the network, daraja.proxy, daraja.ca_file, MPESA_BASE_URL: kasoko config show --origin"
        yield fail("daraja", f"{base_url}: {seen.why}.", remedy)
        yield skip("clock", "M-Pesa's clock could not be read.")
        return
    yield ok("daraja", f"{base_url} answers (HTTP {seen.http_status}).")
    yield from certificate("daraja certificate", seen.certificate_ends, middle, theirs=True)
    if seen.date is None:
        yield skip("clock", f"{base_url} does not say what time it is.")
        return
    # The header has whole seconds.
    off = int((middle - seen.date - timedelta(milliseconds=500)).total_seconds())
    says = f"This machine's clock is {count_of(abs(off), 'second')} {'ahead of' if off > 0 else 'behind'} M-Pesa's."
    if abs(off) > SKEW_WARN:
        make = fail if abs(off) > SKEW_FAIL else warn
        yield make("clock", says, "Set it: timedatectl set-ntp true")
    else:
        yield ok("clock", "This machine's clock agrees with M-Pesa's.")


def certificate(check: str, ends: datetime | None, now: datetime, *, theirs: bool = False) -> Iterable[CheckResult]:
    """How long a certificate still holds."""
    if ends is None:
        return
    days = (ends - now).days
    says = f"It ends {eat(ends)}, in {count_of(days, 'day')}."
    if ends <= now:
        yield fail(check, f"It ended {eat(ends)}.", "Renew it.")
    elif days < CERTIFICATE_WARN_DAYS and not theirs:
        yield warn(check, says, "Renew it, and see that its renewal runs by itself.")
    else:
        yield ok(check, says)


def callback(links: Links, clock: Clock, *, production: bool, has_allow_list: bool = False) -> Iterable[CheckResult]:
    """Our public address leads to a listener of ours that reads our marks. Nothing is posted.

    A GET to a signed address is answered 405 by a listener with our key, and 404 by everybody else, and by a
    listener that takes nothing from where we are.
    """
    seen = probe.look(links.base + "/healthz")
    if isinstance(seen, Unseen):
        says = f"{links.base}/healthz: {seen.why}."
        if seen.certificate:
            yield fail("callback certificate", says, "Renew it, with the whole chain; M-Pesa refuses what we refuse.")
        elif production:
            yield fail("callback", says, f"kasoko listen; and look from outside: curl {links.base}/healthz")
        else:
            yield warn("callback", says, "If none runs as a service: kasoko payout --listen, or kasoko doctor --listen")
        return
    yield from certificate("callback certificate", seen.certificate_ends, clock())
    if seen.http_status != 200:
        says = f"{links.base}/healthz answers HTTP {seen.http_status}, and not as kasoko listen does."
        yield fail("callback", says, "Have the proxy pass /healthz and /api/payments/ on to kasoko listen.")
        return
    signed = probe.look(links.of_status("kq-doctor").result)
    status = signed.http_status if isinstance(signed, Seen) else None
    if status == 405:
        yield ok("callback", f"{links.base} leads to a listener that knows our key.")
    elif status == 404 and has_allow_list:
        says = f"A listener answers at {links.base}; its list of addresses keeps this machine from seeing whose it is."
        yield warn("callback", says, "Put this machine on listener.allow_from for the look.")
    elif status == 404:
        says = f"A listener answers at {links.base} and does not know our key, or its proxy keeps /api/payments/ back."
        remedy = "Give both the same KASOKO_CALLBACK_KEY, start kasoko listen again, and look at the proxy."
        yield fail("callback", says, remedy)
    else:
        how = signed.why if isinstance(signed, Unseen) else f"HTTP {status}"
        yield fail("callback", f"{links.base}/api/payments/ answers strangely: {how}.", "Look at the proxy.")


def tls_file(file: Path, now: datetime) -> Iterable[CheckResult]:
    """A certificate that the listener itself serves with."""
    check = "listener certificate"
    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        yield fail(check, f"{file} cannot be read: {type(error).__name__}.", "Mend the path or the file.")
        return
    yield from certificate(check, min(one.not_valid_after_utc for one in found), now)


# --- How things stand ----------------------------------------------------------------------------


def float_known(session: Session, now: datetime, policy: GatePolicy) -> Iterable[CheckResult]:
    """What is in the utility account is known, and fresh."""
    if policy.check is FloatCheck.OFF:
        yield skip("float", "payout.float_check is off.")
        return
    found = balances.last_known(session, now, policy.payer)
    make = fail if policy.check is FloatCheck.REQUIRE else warn
    if found is None:
        yield make("float", "It is not known: no balance of M-Pesa was ever read.", "kasoko float --listen")
    elif found.age_seconds > policy.max_age_seconds:
        says = f"M-Pesa last said KES {format_kes(found.utility_cents)} at {eat(found.as_of)}, which is too long ago."
        yield make("float", says, "kasoko float --listen")
    elif (short := _short_of_owed(session, now, policy)) > 0:
        says = f"It is short by KES {format_kes(short)} of what is owed to phones, with M-Pesa's charges."
        yield warn("float", says, "Move money into the utility account, then: kasoko float --listen")
    else:
        yield ok("float", f"M-Pesa said KES {format_kes(found.utility_cents)} at {eat(found.as_of)}.")


def _short_of_owed(session: Session, now: datetime, policy: GatePolicy) -> int:
    """How much of what has not left yet the float does not cover, in cents; 0 or less where it covers all."""
    owed = balance_readings.sum_owed(session, policy.tariff)
    available = balances.available_by(session, now, policy.tariff, policy.payer) or 0
    return owed.wire_cents + owed.charges_cents - available


def deployment(found: str, wanted: str | None) -> Iterable[CheckResult]:
    """The settings say whose database this is, so that no other can be used by mistake."""
    if wanted is None:
        says = f"The settings do not say whose database this is, so another one could be taken for it: it is {found}."
        yield warn("deployment", says, f'Write into kasoko.toml, under [database]: deployment = "{found}"')
    elif wanted != found:
        says = f"The database is of the deployment {found}, and the settings are of {wanted}."
        yield fail("deployment", says, "Name the database of this deployment: database.url")
    else:
        yield ok("deployment", f"The database is of {found}, as the settings are.")


def account(session: Session, payer: Payer | None) -> Iterable[CheckResult]:
    """The settings are of the account that this database pays as.

    Raises:
        Refused: they are of another one, which may not pay now.
    """
    if payer is None:
        yield skip("account", "daraja.shortcode is not set.")
        return
    current = check_account(session, payer)
    if current is not None and current.payer != payer:
        says = f"The next run would pay as {payer.name}; until now it was {current.payer.name}."
        yield warn("account", says, "If that is not meant: kasoko config show --origin")
    else:
        yield ok("account", f"{payer.name} pays." if current else f"{payer.name} is to pay; nothing was paid yet.")


def heard(session: Session, now: datetime) -> Iterable[CheckResult]:
    """The listener hears from M-Pesa, and what it heard is applied."""
    last = callbacks.last_heard(session, now)
    silent = select(func.min(col(Attempt.status_at)), func.count()).where(
        col(Attempt.status) == AttemptStatus.ACCEPTED, col(Attempt.status_at) < now - timedelta(seconds=SILENCE_SECONDS)
    )
    since, count = session.exec(silent).one()
    when = "never" if last is None else f"at {eat(last)}"
    if count and (last is None or last < since):
        says = f"M-Pesa took {count_of(count, 'payment')}, the first at {eat(since)}, and was last heard from {when}."
        yield fail("listener", says, "kasoko listen, and see that it is reached: kasoko doctor. Then: kasoko reconcile")
    elif last is None:
        yield skip("listener", "Nothing was heard yet, and nothing is waited for.")
    else:
        yield ok("listener", f"It last heard from M-Pesa {when}.")
    if waiting := callbacks.count_waiting(session):
        yield warn("stored results", f"{waiting} are stored and not applied yet.", "kasoko reconcile")


def waiting_markets(session: Session, now: datetime, limits: HealthLimits) -> Iterable[CheckResult]:
    """No market waits too long for its outcome, or for its settlement."""
    late = list(late_markets(metrics.waiting_markets(session, now), now, limits))
    for one in late:
        yield warn("markets", f"{one.what}.", one.do.removeprefix("Type: "))
    if not late:
        yield ok("markets", "None waits for its outcome or for its settlement.")


def stored_times(session: Session, now: datetime) -> Iterable[CheckResult]:
    """Nothing that is stored is dated later than now."""
    found = dated_ahead(session, now)
    if not found:
        yield ok("stored times", "Nothing is dated later than now.")
        return
    kinds = ", ".join(f"{one.rows} {one.of}" for one in found)
    yield warn(
        "stored times",
        f"A clock ran ahead, or this one is behind: {kinds} are dated up to {eat(max(one.latest for one in found))}."
        " Nobody waits for them, and they confirm nothing.",
        "See that the clock is right (timedatectl), then ask about what is open: kasoko reconcile --now",
    )


def in_the_open(session: Session, now: datetime) -> Iterable[CheckResult]:
    """What waits for somebody: lost senders, unknown ends, incidents, switches, a second person."""
    lost = len(attempts.list_stale(session, now=now))
    totals = payouts.totals_by_status(session)
    unknown, _ = totals.get(PayoutStatus.UNKNOWN, (0, 0))
    waits, cents = totals.get(PayoutStatus.AWAITING_APPROVAL, (0, 0))
    incidents, switches = open_incidents(session), switches_on(session)
    dead = [run for run in run_registry.list_runs(session) if is_dead(run, now)]
    if dead:
        first = f"kasoko {dead[0].command} of {dead[0].actor} on {dead[0].host}, since {eat(dead[0].started_at)}"
        says = f"{len(dead)} were not heard of for {DEAD_SECONDS} seconds, the first: {first}."
        yield warn("dead runs", says, "The next run takes their place. What they began: kasoko reconcile --now")
    if lost:
        yield warn(
            "lost senders",
            f"Begun, and how it went was never said: {count_of(lost, 'send')}.",
            "kasoko reconcile --now",
        )
    if unknown:
        said = "Of one payout nobody knows how it" if unknown == 1 else f"Of {unknown} payouts nobody knows how they"
        yield warn("unknown payouts", f"{said} ended.", "kasoko reconcile --now")
    if incidents:
        yield warn("incidents", f"{len(incidents)} stand open, the first: {incidents[0].what}", "kasoko incident list")
    for switch in switches:
        yield warn("switches", f"Nothing is sent: {switch.name} by {switch.actor}, {switch.reason}", "kasoko resume")
    if waits:
        says = f"Waiting for a second person: {count_of(waits, 'payout')}, KES {format_kes(cents)}."
        yield warn("approval", says, "kasoko approve MARKET")
    if not (dead or lost or unknown or incidents or switches):
        yield ok("open matters", "No dead runs, no unknown payouts, no incidents; nothing is paused.")


def is_safaricoms(base_url: str) -> bool:
    """Whether an address is Safaricom's own, and no simulator's."""
    return base_url.endswith(".safaricom.co.ke")
