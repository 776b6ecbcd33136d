"""What Sentry is told of a bug: where it was, and nothing private."""

from __future__ import annotations

import gzip
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from kasoko_cli.cli.bug_report import tell_sentry
from kasoko_cli.cli.command import CommandContext, _redacted
from kasoko_cli.config import Config, load_config
from kasoko_cli.store.engine.database import open_database

SECRET = "consumer-secret-5926"
KEY = "ab" * 32
PHONE = "254712345678"
DSN = "https://public5926@sentry.invalid/1"


class Kept(Transport):
    """A transport that keeps every event and sends none."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            self.events.append(json.loads(item.get_bytes()))


def config(folder: Path, **environ: str) -> Config:
    return load_config(
        environ={
            "MPESA_CONSUMER_SECRET": SECRET,
            "KASOKO_CALLBACK_KEY": KEY,
            "KASOKO_DATABASE_URL": "postgresql://kasoko:pw5926@db/kasoko",
            "KASOKO_ALERT_URLS": "slack://tokenA5926/tokenB tgram://bot5926/1",
            **environ,
        },
        folder=folder,
    )


def bug() -> BaseException:
    """An error that has everything private in its words, its variables and its cause."""
    try:
        look_up(PHONE)
    except RuntimeError as error:
        return error
    raise AssertionError


def look_up(phone: str) -> None:
    token = f"Bearer-{SECRET}"
    try:
        int(f"no row for {phone} with {token}")
    except ValueError as error:
        raise RuntimeError(f"{token} {KEY} slack://tokenA5926/tokenB") from error


def sent(folder: Path) -> dict[str, Any]:
    kept = Kept()
    assert tell_sentry(config(folder, KASOKO_SENTRY_DSN=DSN), bug(), transport=kept)
    [event] = kept.events
    return event


def test_sentry_learns_what_and_where(tmp_path: Path) -> None:
    event = sent(tmp_path)
    kinds = [one["type"] for one in event["exception"]["values"]]
    assert kinds == ["ValueError", "RuntimeError"]
    frame = event["exception"]["values"][-1]["stacktrace"]["frames"][-1]
    assert (frame["function"], frame["filename"]) == ("look_up", "tests/cli/test_bug_report.py")
    assert event["release"].startswith("kasoko@")


def test_no_phone_no_secret_no_variable_and_no_host_leaves(tmp_path: Path) -> None:
    event = sent(tmp_path)
    text = json.dumps(event)
    for private in (PHONE, SECRET, KEY, "pw5926", "tokenA5926", "bot5926", "public5926"):
        assert private not in text, private
    assert '"vars"' not in text
    assert "abs_path" not in text
    assert set(event) <= {"event_id", "timestamp", "platform", "level", "release", "exception"}


def test_no_row_and_no_value_of_the_database_leaves(database_url: str, tmp_path: Path) -> None:
    """A server quotes the row that it refuses, and SQLAlchemy what it was given."""
    db = open_database(database_url)
    row = text("INSERT INTO users (id, name, phone, created_at) VALUES (:id, :name, :phone, :at)")
    values = {"id": "wanjiku-4711", "name": "Wanjiku K", "phone": PHONE, "at": "2026-11-20 12:00:00"}
    date = text("INSERT INTO users (id, name, phone, created_at) VALUES (:id, :name, :phone, CAST(:name AS TIMESTAMP))")
    for statement in (row, date):
        with pytest.raises(DBAPIError) as refused, db.transaction() as session:
            session.execute(statement, [values, values])
        kept = Kept()
        assert tell_sentry(config(tmp_path, KASOKO_SENTRY_DSN=DSN), refused.value, transport=kept)
        said = json.dumps(kept.events) + _redacted(CommandContext(), refused.value)
        assert [one for one in ("wanjiku-4711", "Wanjiku K", PHONE) if one in said] == []
    db.close()


def test_without_an_address_nothing_is_sent(tmp_path: Path) -> None:
    kept = Kept()
    assert not tell_sentry(config(tmp_path), bug(), transport=kept)
    assert kept.events == []


def test_sentry_that_breaks_does_not_hide_the_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sentry_sdk

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("its own bug")

    monkeypatch.setattr(sentry_sdk, "Client", broken)
    assert not tell_sentry(config(tmp_path, KASOKO_SENTRY_DSN=DSN), bug())


def test_a_task_of_celery_tells_sentry_and_answers_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real post to a Sentry of this test's own; the answer is what a result backend would keep."""
    tasks = pytest.importorskip("kasoko_cli.cli.tasks")
    posted = list[bytes]()

    class Sentry(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    def no_container() -> Any:
        raise bug()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sentry)
    monkeypatch.setattr(tasks, "_Worker", type("_Worker", (tasks._Worker,), {}))
    tasks._container_of.cache_clear()
    with server:
        Thread(target=server.serve_forever, daemon=True).start()
        dsn = f"http://public5926@127.0.0.1:{server.server_port}/1"
        tasks.configure(no_container, config(tmp_path, KASOKO_SENTRY_DSN=dsn), "fleet")
        answer = tasks.send_b2c_payout("rain.1.1")
        server.shutdown()
    assert answer["error"]["kind"] == "bug"
    assert re.fullmatch(
        r"Something happened that was not foreseen: RuntimeError at test_bug_report\.py:\d+\.",
        answer["error"]["message"],
    )
    text = b"".join(gzip.decompress(one) if one.startswith(b"\x1f\x8b") else one for one in posted).decode()
    assert '"RuntimeError"' in text
    assert not [one for one in ("5926", PHONE, KEY) if one in text.replace("public5926", "")]
