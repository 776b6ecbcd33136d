"""People are told once of what is not well, and once when it is over."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.errors import ConfigurationError, NotSent
from kasoko_cli.operations.monitoring.alerts import Notified, courier_for, notify, send_test
from kasoko_cli.operations.monitoring.health import HealthLimits
from kasoko_cli.operations.payouts import switches
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.monitoring import alerts
from tests.operations.payout_harness import ANN, BEN, PayoutHarness


class Pigeon:
    """Keeps what it was given; `reaches` says how many addresses it can reach."""

    def __init__(self, reaches: int = 1, misses: tuple[str, ...] = ()) -> None:
        self.reaches, self.misses = reaches, list(misses)
        self.brought: list[tuple[str, str]] = []

    def bring(self, title: str, body: str) -> tuple[int, list[str]]:
        self.brought.append((title, body))
        return self.reaches, self.misses


def tell(harness: PayoutHarness, pigeon: Pigeon) -> Notified:
    return notify(harness.db, harness.clock, HealthLimits(), pigeon)


def fail(harness: PayoutHarness, user: str, phone: str, market: str) -> None:
    """One more payout fails."""
    harness.owe({user: phone}, cents=14_250, market=market)
    harness.send(market=market)
    harness.posts.clear()
    attempt = harness.attempt(user, market)
    harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=2040, receiver=attempt.phone, desc="no"))


def test_nothing_is_told_where_all_is_well(harness: PayoutHarness) -> None:
    pigeon = Pigeon()
    assert tell(harness, pigeon) == Notified([], [])
    assert pigeon.brought == []


def test_a_failure_is_told_once_with_what_to_type(harness: PayoutHarness) -> None:
    fail(harness, "ann", ANN, "rain")
    pigeon = Pigeon()
    assert "failed" in tell(harness, pigeon).told
    assert tell(harness, pigeon) == Notified([], [])
    [(title, body)] = pigeon.brought
    assert title == "kasoko CRITICAL: 2 things to look at"
    assert "CRITICAL: 1 payout failed in the last 60 min.\nSee why: kasoko payout list --status FAILED" in body


def test_a_second_failure_is_told_again(harness: PayoutHarness) -> None:
    pigeon = Pigeon()
    fail(harness, "ann", ANN, "rain")
    tell(harness, pigeon)
    harness.clock.forward(60)
    fail(harness, "ben", BEN, "cup")
    assert tell(harness, pigeon).told == ["failed"]
    assert "2 payouts failed" in pigeon.brought[-1][0]


def test_when_it_is_over_that_is_told_once_too(harness: PayoutHarness, actor: Actor) -> None:
    pigeon = Pigeon()
    switches.pause(OperationContext(harness.db, harness.clock, actor))
    assert tell(harness, pigeon).told == ["paused"]
    harness.clock.forward(7_200)
    switches.resume(OperationContext(harness.db, harness.clock, actor))
    assert tell(harness, pigeon) == Notified([], ["paused"])
    assert tell(harness, pigeon) == Notified([], [])
    assert pigeon.brought[-1][0].startswith("kasoko OK: over: Sending is paused")
    assert pigeon.brought[-1][1].startswith("Over after 2 h:")


def test_what_reached_nobody_is_told_by_the_next_run(harness: PayoutHarness, actor: Actor) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, actor))
    with pytest.raises(NotSent, match=r"did not arrive at address 1"):
        tell(harness, Pigeon(reaches=0, misses=("address 1 (json)",)))
    pigeon = Pigeon()
    assert tell(harness, pigeon).told == ["paused"]


def test_one_address_that_is_down_does_not_have_the_others_told_again(harness: PayoutHarness, actor: Actor) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, actor))
    with pytest.raises(NotSent, match=r"address 2 \(slack\)"):
        tell(harness, Pigeon(reaches=1, misses=("address 2 (slack)",)))
    assert tell(harness, Pigeon()) == Notified([], [])


def test_what_was_told_to_nobody_and_is_over_is_forgotten(harness: PayoutHarness, actor: Actor) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, actor))
    with pytest.raises(NotSent):
        tell(harness, Pigeon(reaches=0, misses=("address 1",)))
    switches.resume(OperationContext(harness.db, harness.clock, actor))
    pigeon = Pigeon()
    assert tell(harness, pigeon) == Notified([], [])
    assert pigeon.brought == []


def test_of_two_that_look_at_the_same_time_one_tells(harness: PayoutHarness, actor: Actor) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, actor))

    class Slow(Pigeon):
        def bring(self, title: str, body: str) -> tuple[int, list[str]]:
            assert tell(harness, second) == Notified([], []), "the other one is telling it"
            return super().bring(title, body)

    first, second = Slow(), Pigeon()
    tell(harness, first)
    assert (len(first.brought), second.brought) == (1, [])


def test_who_dies_while_telling_is_taken_over(harness: PayoutHarness, actor: Actor) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, actor))

    class Dies(Pigeon):
        def bring(self, title: str, body: str) -> tuple[int, list[str]]:
            raise SystemError("the power went")

    with pytest.raises(SystemError):
        tell(harness, Dies())
    assert tell(harness, Pigeon()) == Notified([], [])
    harness.clock.forward(alerts.LONGEST_CLAIM.total_seconds() + 1)
    assert tell(harness, Pigeon()).told == ["paused"]


def test_a_phone_that_somebody_typed_leaves_masked(harness: PayoutHarness) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, Actor("ann", "254712345678 complains")))
    pigeon = Pigeon()
    tell(harness, pigeon)
    assert "254712345678" not in str(pigeon.brought)
    assert "2547****5678" in str(pigeon.brought)


def test_the_rows_say_what_people_know(harness: PayoutHarness, actor: Actor) -> None:
    switches.pause(OperationContext(harness.db, harness.clock, actor))
    tell(harness, Pigeon())
    with harness.db.reading() as session:
        [one] = alerts.list_alerts(session)
    assert (one.key, one.told_at, one.claimed_until) == ("paused", harness.clock(), None)


# --- The real thing ------------------------------------------------------------------------------


def test_without_an_address_it_says_where_to_write_one() -> None:
    with pytest.raises(ConfigurationError, match="no address is set"):
        courier_for([])


def test_an_address_that_apprise_does_not_know_is_named_without_its_secrets() -> None:
    with pytest.raises(ConfigurationError) as refused:
        courier_for(["json://127.0.0.1", "nonsense-scheme://token-5926"])
    assert "address 2 (nonsense-scheme)" in refused.value.message
    assert "5926" not in refused.value.message


def test_apprise_brings_a_message_over_a_real_socket() -> None:
    arrived: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        send_test(courier_for([f"json://127.0.0.1:{server.server_port}/hook"]), "ann")
        server.shutdown()
        thread.join()
    [message] = arrived
    assert (message["title"], message["message"]) == (
        "kasoko: a test",
        "This is a test by ann. Alerts of kasoko arrive here.",
    )


def test_an_address_where_nobody_is_home_is_named() -> None:
    with pytest.raises(NotSent, match=r"did not arrive at address 1 \(json\)"):
        send_test(courier_for(["json://127.0.0.1:1/"]), "ann")
