"""The doctor: each check finds what it is there to find, names it, and says what to type."""

from __future__ import annotations

import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from kasoko_cli.daraja import probe
from kasoko_cli.daraja.callback_urls import Links
from kasoko_cli.daraja.credentials import bundled_certificate, encrypt_security_credential
from kasoko_cli.daraja.listener import Delivery, listener_app
from kasoko_cli.daraja.probe import Seen, Unseen
from kasoko_cli.daraja.serve import Receive, Scope, Send, Server
from kasoko_cli.domain.float_cover import FloatCheck
from kasoko_cli.errors import Refused
from kasoko_cli.operations.account.tariff_file import load_tariff
from kasoko_cli.operations.admin import preflight
from kasoko_cli.operations.admin.preflight import CheckResult
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.payouts.float_check import GatePolicy
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import RunRow
from tests.conftest import FixedClock
from tests.operations.account.test_balances import lock_in
from tests.operations.payout_harness import ANN, KEY, PayoutHarness
from tests.operations.settlement.test_approval import owe

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def states(findings: Iterable[CheckResult]) -> list[tuple[str, str]]:
    return [(one.check, str(one.state)) for one in findings]


# --- Whatever goes wrong -------------------------------------------------------------------------


def test_what_goes_wrong_in_a_check_is_a_finding_and_hides_no_other() -> None:
    def refused() -> Iterable[CheckResult]:
        raise Refused("The wire is cut.", hint="Mend it.")

    def broken() -> Iterable[CheckResult]:
        raise ZeroDivisionError

    assert preflight.examine("wire", refused) == [preflight.fail("wire", "The wire is cut.", "Mend it.")]
    [found] = preflight.examine("wire", broken)
    assert (found.state, found.says) == ("FAIL", "It could not be looked at: ZeroDivisionError.")


# --- Files ---------------------------------------------------------------------------------------


def test_a_file_that_others_can_read_is_named_with_its_remedy(tmp_path: Path) -> None:
    mine, open_one = tmp_path / ".env", tmp_path / "kasoko.db"
    mine.touch(0o600)
    assert states(preflight.private_files([mine, tmp_path / "none"])) == [("private files", "ok")]
    open_one.touch()
    open_one.chmod(0o640)
    assert list(preflight.private_files([mine, open_one])) == [
        preflight.warn("private files", f"Others on this machine can read {open_one}.", f"chmod 600 {open_one}")
    ]


@pytest.mark.parametrize(
    ("free", "state"), [(2**31, "ok"), (2**30 - 1, "warn"), (100 * 2**20, "warn"), (100 * 2**20 - 1, "FAIL")]
)
def test_a_disk_that_fills_up_is_told_before_it_is_full(
    free: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert states(preflight.room(tmp_path)) == [("disk", state)]


# --- The database --------------------------------------------------------------------------------


def test_a_healthy_database_is_found_durable_and_of_the_right_version(db: Database) -> None:
    assert states(preflight.tables(db)) == [("tables", "ok")]
    found = list(preflight.durability(db, (3, 51, 3)))
    if db.is_sqlite:
        assert states(found) == [("durability", "ok"), ("sqlite version", "ok")]
        return
    # The server of the tests may be one that hurries: what it says of itself is what the doctor says of it.
    with db.reading() as session:
        said = [str(session.execute(text(f"SHOW {name}")).scalar()) for name in PROMISES]
    assert [one.state for one in found] == ["FAIL" if value == "off" else "ok" for value in said]
    for one, name, value in zip(found, PROMISES, said, strict=True):
        assert f"{name} = {value}" in one.says


#: The settings on which PostgreSQL's word rests that a commit is on the disk.
PROMISES = ("fsync", "synchronous_commit", "full_page_writes")


@pytest.mark.parametrize(
    ("wanted", "state", "remedy"),
    [
        ("9999", "FAIL", "kasoko db backup FILE, then: kasoko db upgrade"),
        ("0000", "FAIL", "Install the newer kasoko."),
    ],
)
def test_tables_of_another_version_fail(
    db: Database, wanted: str, state: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "head_version", lambda: wanted)
    [found] = preflight.tables(db)
    assert (found.state, found.remedy) == (state, remedy)


@pytest.mark.parametrize(
    ("version", "state"), [((3, 6, 23), "ok"), ((3, 7, 0), "warn"), ((3, 51, 2), "warn"), ((3, 51, 3), "ok")]
)
def test_the_versions_of_sqlite_with_the_race_are_warned_of(
    sqlite_template: Path, version: tuple[int, ...], state: str
) -> None:
    with closing(Database(f"sqlite:///{sqlite_template}")) as db:
        assert states(preflight.durability(db, version))[-1] == ("sqlite version", state)


def test_nairobi_is_where_it_is() -> None:
    assert states(preflight.time_zone()) == [("time zone", "ok")]


# --- The credential and the key ------------------------------------------------------------------


def test_an_encrypted_password_looks_like_one() -> None:
    sealed = encrypt_security_credential("hunter2", bundled_certificate("sandbox"))
    assert states(preflight.credential(sealed, environment="sandbox", is_safaricoms=True)) == [("credential", "ok")]


@pytest.mark.parametrize(
    ("sealed", "wrong"),
    [
        ("Safaricom999!*!", "is not base64: is it the password itself, not encrypted?"),
        ("abcd", "has 4 characters, and an encrypted password has 344"),
        ("A" * 344, "has 344 characters, and an encrypted password has 344"),
        ("/" * 341 + "w==", "was not encrypted with Safaricom's key for sandbox"),
    ],
)
def test_what_is_no_encrypted_password_is_told_without_showing_it(sealed: str, wrong: str) -> None:
    [found] = preflight.credential(sealed, environment="sandbox", is_safaricoms=True)
    assert found == preflight.fail(
        "credential",
        f"MPESA_SECURITY_CREDENTIAL_ENCRYPTED {wrong}.",
        "kasoko credential encrypt --environment sandbox",
    )


@pytest.mark.parametrize(("days", "state"), [(0, "ok"), (75, "ok"), (76, "warn"), (89, "warn"), (90, "FAIL")])
def test_a_password_grows_ninety_days_old(harness: PayoutHarness, days: int, state: str) -> None:
    preflight.note_encrypted(harness.db, harness.clock, actor="ann", reason="", sealed="sealed", environment="sandbox")
    now = harness.clock() + timedelta(days=days)
    with harness.db.reading() as session:
        [found] = preflight.credential_age(session, now, "sealed", None)
        assert (found.state, found.says) == (
            state,
            f"The initiator's password was encrypted {days} days ago; M-Pesa ends it after 90.",
        )
        [by_setting] = preflight.credential_age(session, now, "sealed", date(2026, 11, 23))
        assert (by_setting.state, by_setting.says.split(" ")[4]) == (state, "set")


def test_the_age_of_another_password_says_nothing_of_this_one(harness: PayoutHarness) -> None:
    preflight.note_encrypted(harness.db, harness.clock, actor="ann", reason="", sealed="other", environment="sandbox")
    with harness.db.reading() as session:
        [found] = preflight.credential_age(session, harness.clock(), "sealed", None)
    assert found == preflight.warn(
        "password age",
        "Nobody wrote down when the password was set; M-Pesa ends it after 90 days.",
        "Set daraja.security_credential_set_on in kasoko.toml, or make it anew: kasoko credential encrypt",
    )
    [without] = preflight.credential_age(None, harness.clock(), "sealed", None)
    assert without.state == "warn"


@pytest.mark.parametrize(
    ("key", "state"),
    [
        (secrets.token_bytes(32), "ok"),
        (bytes(32), "FAIL"),
        (b"0123456789abcdef" * 2, "FAIL"),
        (b"ab" * 16, "FAIL"),
        (secrets.token_bytes(64), "ok"),
    ],
    ids=["random", "zeros", "twice the same", "two letters", "long"],
)
def test_a_key_that_could_be_guessed_fails(key: bytes, state: str) -> None:
    assert states(preflight.callback_key(key)) == [("callback key", state)]


# --- The network ---------------------------------------------------------------------------------


@contextmanager
def answering(status: int = 200, date_header: datetime | None = None) -> Iterator[str]:
    """A server that gives everybody the same answer."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [] if date_header is None else [(b"date", format_datetime(date_header, usegmt=True).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    with Server(app) as server:
        yield server.url


@contextmanager
def listening(key: bytes = KEY) -> Iterator[tuple[str, list[Delivery]]]:
    """A listener of ours."""
    taken: list[Delivery] = []
    behind: list[Links] = []

    async def take(delivery: Delivery) -> None:
        taken.append(delivery)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await listener_app(take, behind[0])(scope, receive, send)

    with Server(app) as server:
        behind.append(Links(server.url, key))
        yield server.url, taken


def look_back(url: str, clock: FixedClock, *, production: bool = False) -> list[CheckResult]:
    return list(preflight.callback(Links(url, KEY), clock, production=production))


def test_a_listener_that_knows_our_key_is_recognised_and_nothing_is_posted(clock: FixedClock) -> None:
    with listening() as (url, taken):
        assert look_back(url, clock) == [preflight.ok("callback", f"{url} leads to a listener that knows our key.")]
        assert taken == []


def test_a_listener_with_another_key_fails(clock: FixedClock) -> None:
    with listening(b"another key of thirty-two bytes!") as (url, _):
        [found] = look_back(url, clock)
    with listening(b"another key of thirty-two bytes!") as (other, _):
        [behind] = preflight.callback(Links(other, KEY), clock, production=True, has_allow_list=True)
    assert behind.state == "warn"
    assert found == preflight.fail(
        "callback",
        f"A listener answers at {url} and does not know our key, or its proxy keeps /api/payments/ back.",
        "Give both the same KASOKO_CALLBACK_KEY, start kasoko listen again, and look at the proxy.",
    )


@pytest.mark.parametrize("status", [404, 502, 301])
def test_an_address_that_leads_elsewhere_fails(clock: FixedClock, status: int) -> None:
    with answering(status) as url:
        [found] = look_back(url, clock)
    assert (found.state, found.says) == (
        "FAIL",
        f"{url}/healthz answers HTTP {status}, and not as kasoko listen does.",
    )


@pytest.mark.parametrize(("production", "state"), [(False, "warn"), (True, "FAIL")])
def test_an_address_where_nobody_listens_fails_where_it_is_real_money(
    clock: FixedClock, production: bool, state: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        [found] = look_back(url, clock, production=production)
    assert found.state == state
    assert found.says.startswith(f"{url}/healthz: it cannot be connected to")


@pytest.mark.parametrize(
    ("off", "state"),
    [(0, "ok"), (25, "ok"), (60, "warn"), (-60, "warn"), (400, "FAIL"), (-400, "FAIL")],
)
def test_a_clock_that_is_off_is_told(clock: FixedClock, off: int, state: str) -> None:
    with answering(date_header=clock() - timedelta(seconds=off)) as url:
        found = list(preflight.daraja(url, clock))
    assert states(found) == [("daraja", "ok"), ("clock", state)]
    if state != "ok":
        assert ("ahead of" if off > 0 else "behind") in found[-1].says


def test_an_mpesa_that_is_not_there_fails_and_its_clock_is_not_read(clock: FixedClock) -> None:
    found = list(preflight.daraja("http://127.0.0.1:1", clock))
    assert states(found) == [("daraja", "FAIL"), ("clock", "skip")]
    with answering() as url:
        assert states(preflight.daraja(url, clock)) == [("daraja", "ok"), ("clock", "skip")]


@pytest.mark.parametrize(("days", "state"), [(-1, "FAIL"), (0, "warn"), (20, "warn"), (21, "ok"), (400, "ok")])
def test_a_certificate_is_warned_of_before_it_ends(days: int, state: str) -> None:
    assert states(preflight.certificate("c", NOW + timedelta(days=days, seconds=1), NOW)) == [("c", state)]
    assert list(preflight.certificate("c", None, NOW)) == []


def self_signed(folder: Path, ends: datetime) -> Path:
    """A certificate for localhost and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    made = made.not_valid_before(ends - timedelta(days=90)).not_valid_after(ends)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    file = folder / "certificate.pem"
    file.write_bytes(
        made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@contextmanager
def over_tls(file: Path) -> Iterator[str]:
    """A server over TLS that answers 200 to everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        listening_socket.settimeout(30)

        def serve() -> None:
            try:
                raw, _ = listening_socket.accept()
                with context.wrap_socket(raw, server_side=True) as secure:
                    secure.recv(4_096)
                    secure.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://localhost:{listening_socket.getsockname()[1]}"
        thread.join(timeout=30)


def test_the_end_of_a_certificate_is_read_from_the_wire(tmp_path: Path) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    file = self_signed(tmp_path, ends)
    with over_tls(file) as url:
        seen = probe.look(url, context=ssl.create_default_context(cafile=str(file)))
    assert isinstance(seen, Seen)
    assert (seen.http_status, seen.certificate_ends) == (200, ends)


def test_a_certificate_that_is_refused_is_told_apart_from_silence(tmp_path: Path) -> None:
    with over_tls(self_signed(tmp_path, datetime.now(UTC) + timedelta(days=30))) as url:
        seen = probe.look(url)
    assert isinstance(seen, Unseen)
    assert seen.certificate
    assert seen.why.startswith("its certificate is refused: ")


def test_a_certificate_file_is_read(tmp_path: Path) -> None:
    file = self_signed(tmp_path, NOW + timedelta(days=10))
    assert states(preflight.tls_file(file, NOW)) == [("listener certificate", "warn")]
    assert states(preflight.tls_file(tmp_path / "none.pem", NOW)) == [("listener certificate", "FAIL")]


# --- How things stand ----------------------------------------------------------------------------


def inside(harness: PayoutHarness, look: Callable[..., Iterable[CheckResult]], *more: object) -> list[CheckResult]:
    with harness.db.reading() as session:
        return list(look(session, harness.clock(), *more))


@pytest.mark.parametrize(
    ("check", "never", "fresh", "old"),
    [
        (FloatCheck.OFF, "skip", "skip", "skip"),
        (FloatCheck.REFUSE, "warn", "ok", "warn"),
        (FloatCheck.REQUIRE, "FAIL", "ok", "FAIL"),
    ],
)
def test_a_float_that_is_not_known_is_as_grave_as_the_setting_makes_it(
    harness: PayoutHarness, check: FloatCheck, never: str, fresh: str, old: str
) -> None:
    policy = GatePolicy(check, load_tariff(), 3_600)
    found = [inside(harness, preflight.float_known, policy)[0].state]
    lock_in(harness, "12.00")
    found.append(inside(harness, preflight.float_known, policy)[0].state)
    harness.clock.forward(3_601)
    found.append(inside(harness, preflight.float_known, policy)[0].state)
    assert found == [never, fresh, old]


def test_silence_after_payments_speaks_against_the_listener(harness: PayoutHarness) -> None:
    assert states(inside(harness, preflight.heard)) == [("listener", "skip")]
    harness.owe({"ann": ANN})
    harness.send()
    harness.clock.forward(preflight.SILENCE_SECONDS)
    assert states(inside(harness, preflight.heard)) == [("listener", "skip")]
    harness.clock.forward(1)
    [found] = inside(harness, preflight.heard)
    assert (found.state, found.says) == (
        "FAIL",
        "M-Pesa took 1 payment, the first at 2026-11-23 12:00 EAT, and was last heard from never.",
    )
    harness.deliver()
    assert states(inside(harness, preflight.heard)) == [("listener", "ok")]


def test_what_stands_open_is_named_with_what_to_type(harness: PayoutHarness) -> None:
    assert states(inside(harness, preflight.in_the_open)) == [("open matters", "ok")]
    owe(harness)
    switches.pause(OperationContext(harness.db, harness.clock, Actor("boss", "the float is being moved")))
    assert [(one.check, one.remedy) for one in inside(harness, preflight.in_the_open)] == [
        ("switches", "kasoko resume"),
        ("approval", "kasoko approve MARKET"),
    ]


def test_a_run_that_was_not_heard_of_is_named(harness: PayoutHarness) -> None:
    with harness.db.transaction() as session:
        session.add(
            RunRow(
                id="r1",
                command="payout",
                is_alone=True,
                host="box",
                pid=1,
                actor="ann",
                started_at=harness.clock(),
                heartbeat_at=harness.clock(),
                doing="sending",
            )
        )
    harness.clock.forward(60)
    assert states(inside(harness, preflight.in_the_open)) == [("open matters", "ok")]
    harness.clock.forward(1)
    [found] = inside(harness, preflight.in_the_open)
    assert found.check == "dead runs"
    assert found.says.startswith("1 were not heard of for 60 seconds, the first: kasoko payout of ann on box")


def test_unknown_payouts_and_lost_senders_are_counted(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN})
    harness.interpose = lambda request: _lost() if "paymentrequest" in request.url.path else None
    harness.send()
    assert harness.statuses()["ann"] == "UNKNOWN"
    assert ("unknown payouts", "warn") in states(inside(harness, preflight.in_the_open))


def _lost() -> None:
    import httpx

    raise httpx.ReadTimeout("no answer")
